"""The First Order Motion Model (Siarohin et al., NeurIPS 2019), on PaddleGAN's networks.

PaddleGAN's own predictor holds the whole driving in memory; here frames pass one by one, and
what depends on the source alone is computed once.
"""

import contextlib
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from studykit import weights as checkpoints
from studykit.errors import StudyError, WeightsError
from studykit.methods import Driving, Source, register
from studykit.methods._ppgan import import_paddle, import_ppgan, repair_downsampling


@dataclass(frozen=True)
class _Networks:
    kp_detector: Any
    generator: Any
    normalize_kp: Any
    device: str
    multiple: int  # sides of images must be multiples of it


@dataclass(frozen=True)
class _Prepared:
    networks: _Networks
    source: Any  # (1, 3, S, S) float32 tensor in [0, 1]
    features: Any  # the generator's encoding of it
    keypoints: dict[str, Any]  # value (1, K, 2) in [-1, 1], jacobian (1, K, 2, 2)


@register("fomm")
@dataclass(frozen=True)
class FOMM:
    """Animate a source by the keypoints and local affine motions of a driving.

    Attributes
    ----------
    weights : str
        A named checkpoint (``vox-256``, ``vox-512``, ``vox-mobile``) or a file.
    relative : bool
        Move the source's keypoints as the driving's move from its first frame on (section 3.4
        of the paper); otherwise put them where the driving's are.
    adapt_scale : bool
        Scale relative motion by the size of the source's face over that of the driving's first
        frame: the square root of the areas of the keypoints' convex hulls.
    device : {"auto", "cpu", "gpu"}
        Where it runs; auto takes a GPU if Paddle can use one.
    config : str, optional
        A YAML file with the networks' settings, for weights that don't tell them.
    """

    weights: str = "vox-256"
    relative: bool = True
    adapt_scale: bool = True
    device: Literal["auto", "cpu", "gpu"] = "auto"
    config: str | None = None

    def weights_hash(self) -> str:
        """Return the SHA-256 of the checkpoint, fetching it if need be."""
        return checkpoints.sha256(checkpoints.locate(self.weights))

    def inputs(self, source: str, driving: str) -> list[Path]:
        """Return the files that a clip depends on beside source, driving and weights."""
        return [Path(self.config)] if self.config else []

    def prepare(self, source: Source) -> _Prepared:
        """Load the networks, once for all sources, and encode the source.

        Raises
        ------
        StudyError
            No weights, no Paddle, no such device, or a source of a size that the networks can't
            take: a kind of it, in one line.
        """
        networks = load_networks(self.weights, self.config, self.device)
        height, width = source.image.shape[:2]
        if height % networks.multiple or width % networks.multiple:
            raise StudyError(
                f"fomm with {self.weights} takes images whose sides are multiples of "
                f"{networks.multiple}, not {width} x {height}: set the study's size accordingly"
            )
        with _running_on(networks.device):
            image = _tensor(source.image)
            features = networks.generator.first(image)
            for block in networks.generator.down_blocks:
                features = block(features)
            return _Prepared(networks, image, features, networks.kp_detector(image))

    def animate(self, state: _Prepared, driving: Driving) -> Iterator[np.ndarray]:
        """Yield one (S, S, 3) uint8 frame a driving frame, in order.

        Raises
        ------
        StudyError
            The keypoints of the source or of the first driving frame span no area, so that
            there is no scale to adapt.
        """
        initial = None
        for frame in driving:
            with _running_on(state.networks.device):
                keypoints = state.networks.kp_detector(_tensor(frame))
                initial = initial or keypoints
                moved = self._transfer(state, keypoints, initial)
                image = _generate(state, moved)
            yield image

    def _transfer(self, state: _Prepared, keypoints: dict, initial: dict) -> dict:
        from scipy.spatial import QhullError

        try:
            return state.networks.normalize_kp(
                kp_source=state.keypoints,
                kp_driving=keypoints,
                kp_driving_initial=initial,
                adapt_movement_scale=self.relative and self.adapt_scale,
                use_relative_movement=self.relative,
                use_relative_jacobian=self.relative and "jacobian" in keypoints,
            )
        except QhullError:
            raise StudyError(
                "fomm: the keypoints of the source or of the first driving frame span no area, so "
                "there is no scale to adapt: set adapt_scale to false, or use trained weights"
            ) from None


def load_networks(weights: str, config: str | None, device: str) -> _Networks:
    """Return both networks of a checkpoint, ready to run; asked again, the same ones.

    Raises
    ------
    WeightsError
        The checkpoint can't be found, fetched or read, or is one for another network.
    StudyError
        The device is not there.
    MissingPackageError
        Paddle or ppgan is not installed.
    """
    digest = checkpoints.sha256(checkpoints.locate(weights))
    config_digest = checkpoints.sha256(config) if config else ""
    return _networks(weights, digest, config, config_digest, _device(device))


@functools.lru_cache(maxsize=2)  # a full checkpoint takes 240 MB
def _networks(
    weights: str, _digest: str, config: str | None, _config_digest: str, device: str
) -> _Networks:
    ppgan = import_ppgan()
    checkpoint = checkpoints.load(weights, config)
    settings = checkpoint.config
    with _running_on(device):
        try:
            kp_detector = ppgan.KPDetector(
                **settings["kp_detector_cfg"], **settings["common_params"]
            )
            generator = ppgan.OcclusionAwareGenerator(
                **settings["generator_cfg"], **settings["common_params"], inference=True
            )
            multiple = _multiple(settings)
            if generator.num_channels != 3:
                raise ValueError(f"num_channels is {generator.num_channels}, not 3")
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(
                f"the settings for {weights} make no network ({' '.join(str(error).split())}): "
                "mend them in the file given as config"
            ) from error
        for name, network in (("kp_detector", kp_detector), ("generator", generator)):
            expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
            tensors = checkpoints.require_tensors(checkpoint, name, expected)
            network.set_state_dict(tensors)
            network.eval()
            repair_downsampling(network)
    return _Networks(kp_detector, generator, ppgan.normalize_kp, device, multiple)


def _multiple(settings: dict[str, Any]) -> int:
    """Return what image sides must be multiples of, for every halving to come out even."""
    generator = settings["generator_cfg"]
    hourglasses = (settings["kp_detector_cfg"], generator["dense_motion_params"])
    return math.lcm(
        2 ** generator["num_down_blocks"],
        *(2 ** part["num_blocks"] * round(1 / part.get("scale_factor", 1)) for part in hourglasses),
    )


def _device(device: str) -> str:
    paddle = import_paddle()
    built = paddle.device.is_compiled_with_cuda()
    usable = built and paddle.device.cuda.device_count() > 0
    if device == "gpu" and not usable:
        reason = "no GPU is visible to Paddle" if built else "this Paddle is built for CPU only"
        raise StudyError(
            f"fomm can't run on gpu: {reason}; install paddlepaddle-gpu and its driver, or set "
            "device to cpu"
        )
    return "gpu:0" if usable and device != "cpu" else "cpu"


@contextlib.contextmanager
def _running_on(device: str) -> Iterator[None]:
    """Run what is inside on a device and without gradients; Paddle's choice is a global one."""
    import paddle

    before = paddle.device.get_device()
    paddle.device.set_device(device)
    try:
        with paddle.no_grad():
            yield
    finally:
        paddle.device.set_device(before)


def _tensor(image: np.ndarray) -> Any:
    import paddle

    scaled = (image[np.newaxis] / 255.0).astype(np.float32)
    return paddle.to_tensor(scaled).transpose([0, 3, 1, 2])


def _generate(state: _Prepared, keypoints: dict[str, Any]) -> np.ndarray:
    """Warp the source's features by the motion and decode them (sections 3.1 and 3.2).

    The same steps as ``OcclusionAwareGenerator.forward``, without encoding the source again.
    """
    import paddle.nn.functional as F

    generator = state.networks.generator
    motion = generator.dense_motion_network(
        source_image=state.source, kp_driving=keypoints, kp_source=state.keypoints
    )
    out = generator.deform_input(state.features, motion["deformation"])
    if "occlusion_map" in motion:
        visible = motion["occlusion_map"]
        if visible.shape[2:] != out.shape[2:]:
            visible = F.interpolate(
                visible, size=out.shape[2:], mode="bilinear", align_corners=False
            )
        if not generator.mobile_net:
            # Nothing is painted at the borders, where the warp is faded out as well.
            pad = generator.pad
            visible[:, :, :pad, :] = visible[:, :, -pad:, :] = 1.0
            visible[:, :, :, :pad] = visible[:, :, :, -pad:] = 1.0
        out = out * visible
    out = generator.bottleneck(out)
    for block in generator.up_blocks:
        out = block(out)
    image = F.sigmoid(generator.final(out)).numpy()[0].transpose(1, 2, 0)
    return np.rint(image * 255.0).astype(np.uint8)
