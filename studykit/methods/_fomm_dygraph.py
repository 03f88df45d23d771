"""PaddleGAN's networks as they are, layer by layer: the path on a GPU, and the one to fall back on.

The same steps as ``OcclusionAwareGenerator.forward``, but the source is encoded once.
"""

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from studykit.errors import StudyError, WeightsError
from studykit.methods import weights as checkpoints
from studykit.methods._fomm_motion import Encoded, Keypoints
from studykit.methods._ppgan import import_paddle, import_ppgan, repair_downsampling
from studykit.methods.checkpoint_files import (
    NETWORKS,
    Settings,
    at_size,
    family_of,
    require_tensors,
)

_LARGEST_BATCH = 16
_REGIONAL = ("regions", "resnet")


@dataclass(frozen=True)
class Networks:
    """Both networks of a checkpoint.

    Attributes
    ----------
    kp_detector, generator : paddle.nn.Layer
    device : str
        Where their tensors are, as Paddle names it.
    multiple : int
        What the sides of images must be multiples of.
    regional : bool
        The detector finds how its maps are spread, too: covariances take the place of jacobians.
    """

    kp_detector: Any
    generator: Any
    device: str
    multiple: int
    regional: bool = False


class DygraphEngine:
    """Runs ppgan's layers one by one, several frames at a time on a GPU.

    Parameters
    ----------
    networks : Networks
    precision : {"float32", "float16", "bfloat16"}
        What the decoder computes in, nine tenths of the work. Keypoints and motion are always
        float32: their coordinates have to distinguish pixels.
    note : str
        What a reader of the clips should know.
    """

    def __init__(self, networks: Networks, precision: str = "float32", note: str = "") -> None:
        self.networks, self.precision, self.note = networks, precision, note

    def batch(self, height: int, width: int) -> int:
        """Return how many frames of a size to animate at a time.

        As many as fit into the GPU's free memory; one on a CPU, where more are not faster.
        """
        if self.networks.device == "cpu":
            return 1
        import paddle

        free, _ = paddle.device.cuda.mem_get_info()
        # The layers at full resolution weigh most; a few of them are held at once.
        channels = self.networks.generator.up_blocks[-1].norm.weight.shape[0]
        frame = 8 * 4 * channels * height * width
        return int(min(max(free // 2 // frame, 1), _LARGEST_BATCH))

    def encode(self, image: np.ndarray) -> Encoded:
        """Compute what depends on the source (S, S, 3) alone; its image is (1, 3, S, S)."""
        with running_on(self.networks.device):
            tensor = _tensor([image])
            features = self.networks.generator.first(tensor)
            for block in self.networks.generator.down_blocks:
                features = block(features)
            return Encoded(features, tensor, self.keypoints([image])[0])

    def keypoints(self, frames: Sequence[np.ndarray]) -> list[Keypoints]:
        """Detect the keypoints of frames (S, S, 3)."""
        with running_on(self.networks.device):
            found = self.networks.kp_detector(_tensor(frames))
        arrays = [found[name].numpy() for name in ("value", "jacobian") if name in found]
        return list(map(Keypoints, *arrays))

    def paint(self, source: Encoded, moved: Sequence[Keypoints]) -> list[np.ndarray]:
        """Warp the source's features by each motion and decode them (sections 3.1 and 3.2)."""
        return self.decoded(self.warped(source, moved))

    def warped(self, source: Encoded, moved: Sequence[Keypoints]) -> Any:
        """Return the source's features moved by each motion, a tensor (N, C, H', W')."""
        generator, count = self.networks.generator, len(moved)
        with running_on(self.networks.device):
            motion = generator.dense_motion_network(
                source_image=source.image.expand([count, -1, -1, -1]),
                kp_driving=_stacked(moved),
                kp_source=_stacked([source.keypoints] * count),
            )
            features = source.features.expand([count, -1, -1, -1])
            out = generator.deform_input(features, motion["deformation"])
            if "occlusion_map" in motion:
                out = out * _visible(generator, motion["occlusion_map"], out.shape[2:])
            return out

    def decoded(self, out: Any) -> list[np.ndarray]:
        """Return what warped features show, (H, W, 3) uint8 each."""
        import paddle

        generator, half = self.networks.generator, self.precision != "float32"
        dtype = self.precision if half else "float16"
        with running_on(self.networks.device):
            with paddle.amp.auto_cast(enable=half, dtype=dtype, level="O1"):
                out = generator.bottleneck(out)
                for block in generator.up_blocks:
                    out = block(out)
                out = generator.final(out)
            images = paddle.nn.functional.sigmoid(out.astype("float32")).numpy()
        return list(np.rint(images.transpose(0, 2, 3, 1) * 255.0).astype(np.uint8))


def load_networks(
    weights: str, config: str | None, device: str, side: int | None = None
) -> Networks:
    """Return both networks of a checkpoint, ready to run on a device as Paddle names it.

    ``side`` is that of the images, for a checkpoint that knows on which it was trained.

    Raises
    ------
    WeightsError
        The checkpoint can't be found, fetched or read, or is one for another network.
    MissingPackageError
        Paddle or ppgan is not installed.
    """
    checkpoint = checkpoints.load(weights, config)
    with running_on(device):
        try:
            if side is not None:
                checkpoint = at_size(checkpoint, side)
            networks = build_networks(checkpoint.config)
            multiple = _multiple(checkpoint.config)
            if networks[1].num_channels != 3:
                raise ValueError(f"num_channels is {networks[1].num_channels}, not 3")
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise WeightsError(
                f"the settings for {weights} make no network ({' '.join(str(error).split())}): "
                "correct them in the file given as config"
            ) from error
        for name, network in zip(NETWORKS, networks, strict=True):
            own = network.state_dict()
            expected = {key: tuple(value.shape) for key, value in own.items()}
            network.set_state_dict(own | require_tensors(checkpoint, name, expected))
            network.eval()
    return Networks(*networks, device, multiple, family_of(checkpoint.config) in _REGIONAL)


def build_networks(settings: Settings) -> tuple[Any, Any]:
    """Return ppgan's keypoint detector and generator for a checkpoint's settings, untrained.

    Raises
    ------
    MissingPackageError
        Paddle or ppgan is not installed.
    KeyError, TypeError, ValueError
        The settings make no network.
    """
    detector, generator = import_ppgan()
    common = settings["common_params"]
    if family_of(settings) == "resnet":
        from studykit.methods import _resnet_layers

        detector = functools.partial(_resnet_layers.detector, detector)
    networks = (
        detector(**settings["kp_detector_cfg"], **common),
        generator(**settings["generator_cfg"], **common, inference=True),
    )
    for network in networks:
        repair_downsampling(network)
    if family_of(settings) in _REGIONAL:
        networks[0].gaussian2kp = _moments
    return networks


def _moments(heatmap: Any) -> dict[str, Any]:
    """Return the means of (B, K, H, W) maps, and their covariances where jacobians would stand."""
    import paddle

    y, x = (paddle.linspace(-1, 1, side) for side in heatmap.shape[2:])
    mean = paddle.stack([heatmap.sum(2) @ x, heatmap.sum(3) @ y], -1)
    flat = covariances(heatmap.flatten(0, 1), mean.flatten(0, 1))
    return {"value": mean, "jacobian": flat.reshape([*mean.shape, 2])}


def covariances(heat: Any, points: Any) -> Any:
    """Return the covariances of (K, H, W) maps about their (K, 2) means, (K, 2, 2).

    ``m_ij = sum (y - p_y)^i (x - p_x)^j M(x, y)`` is a row of powers times the map times a column
    of powers. The difference of raw moments would lose half of their digits.
    """
    import paddle

    powers = []
    for axis, side in ((1, heat.shape[1]), (0, heat.shape[2])):
        offset = paddle.linspace(-1, 1, side).unsqueeze(0) - points[:, axis : axis + 1]
        powers.append(paddle.stack([paddle.ones_like(offset), offset, offset * offset], 1))
    down, across = powers
    moments = paddle.matmul(paddle.matmul(down, heat), across, transpose_y=True)
    flat = moments.reshape([-1, 9])
    columns = [flat[:, k : k + 1] for k in (2, 4, 4, 6)]
    return paddle.concat(columns, 1).reshape([-1, 2, 2])


def _multiple(settings: Settings) -> int:
    """Return what image sides must be multiples of, for every halving to come out even."""
    generator = settings["generator_cfg"]
    hourglasses = (settings["kp_detector_cfg"], generator["dense_motion_params"])
    return math.lcm(
        2 ** generator["num_down_blocks"],
        *(2 ** part["num_blocks"] * round(1 / part.get("scale_factor", 1)) for part in hourglasses),
    )


def find_device(device: str) -> str:
    """Return where Paddle runs what is asked to run on ``auto``, ``cpu`` or ``gpu``.

    Raises
    ------
    StudyError
        The device is not there.
    """
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
def running_on(device: str) -> Iterator[None]:
    """Run what is inside on a device and without gradients; Paddle's choice is a global one."""
    paddle = import_paddle()
    before = paddle.device.get_device()
    paddle.device.set_device(device)
    try:
        with paddle.no_grad():
            yield
    finally:
        paddle.device.set_device(before)


def _tensor(images: Sequence[np.ndarray]) -> Any:
    import paddle

    scaled = (np.stack(images) / 255.0).astype(np.float32)
    return paddle.to_tensor(scaled).transpose([0, 3, 1, 2])


def _stacked(keypoints: Sequence[Keypoints]) -> dict[str, Any]:
    import paddle

    found = {"value": paddle.to_tensor(np.stack([own.points for own in keypoints]))}
    if keypoints[0].jacobians is not None:
        found["jacobian"] = paddle.to_tensor(np.stack([own.jacobians for own in keypoints]))
    return found


def _visible(generator: Any, occlusion: Any, size: Sequence[int]) -> Any:
    import paddle.nn.functional as F

    if occlusion.shape[2:] != list(size):
        occlusion = F.interpolate(occlusion, size=size, mode="bilinear", align_corners=False)
    if not generator.mobile_net:
        # Nothing is painted at the borders, where the warp is faded out as well.
        pad = generator.pad
        occlusion[:, :, :pad, :] = occlusion[:, :, -pad:, :] = 1.0
        occlusion[:, :, :, :pad] = occlusion[:, :, :, -pad:] = 1.0
    return occlusion
