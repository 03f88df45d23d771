"""Checkpoints of the First Order Motion Model, and the files in which they come and are written.

Published ones are pickles, which can run anything; they are read by readers that can't. What is
written here is safetensors, which hold nothing but arrays, or what PaddleGAN's predictor reads.
"""

import copy
import io
import json
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from studykit import files
from studykit.cache import cache_folder
from studykit.errors import StudyFileError, WeightsError
from studykit.methods import safe_pickle

Settings = dict[str, Any]
Tensors = dict[str, np.ndarray]

NETWORKS = ("kp_detector", "generator")
"""The networks of the First Order Motion Model, as its files name them."""

FAMILIES: dict[str, tuple[str, ...]] = {
    "enhance": ("enhance",),
    "fomm": NETWORKS,
    "regions": (*NETWORKS, "disentangled"),
    "resnet": NETWORKS,
    "sparse": ("motion", "generator", "kp_detector"),
}
"""The networks of every family that a method animates with, by the family's name."""

BLUR = "down.weight"
"""How the names of fixed kernels end, which networks compute where a checkpoint lacks them."""


@dataclass(frozen=True)
class Checkpoint:
    """The networks of a method: those of the First Order Motion Model, or of another family.

    Attributes
    ----------
    name : str
        The name or path that it was asked for by.
    sha256 : str
        Of the file as published, before any conversion.
    config : dict
        The networks' settings, named as in PaddleGAN's configuration files: ``common_params``,
        ``kp_detector_cfg`` and ``generator_cfg``. Checkpoints of this project name
        also the ``size`` of the images that they were trained on, in pixels, what these show,
        ``trained_on``, and the ``network``'s family, where it is not fomm.
    networks : dict of str to dict of str to float32 array
        The tensors, named as in PaddleGAN, of every network of its family.
    """

    name: str
    sha256: str
    config: Settings
    networks: dict[str, Tensors]

    @property
    def kp_detector(self) -> Tensors:
        """The tensors that find keypoints."""
        return self.networks["kp_detector"]

    @property
    def generator(self) -> Tensors:
        """The tensors that move and paint."""
        return self.networks["generator"]


def family_of(settings: Settings) -> str:
    """Return the family of a checkpoint's networks, given its settings."""
    return settings.get("network", "fomm")


def read_file(path: Path) -> bytes:
    """Return what is in a checkpoint, to be hashed and read from the same bytes.

    Raises
    ------
    WeightsError
        It can't be read, or is larger than any checkpoint of this model.
    """
    try:
        if path.stat().st_size > safe_pickle.LARGEST_FILE:
            raise WeightsError(f"{path} is too large for a checkpoint of this model: give another")
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} can't be read: {error.strerror}") from None


def read_networks(path: Path, content: bytes) -> dict[str, Tensors]:
    """Read all networks, by name, of what is in a file.

    That is safetensors, PaddleGAN's ``.pdparams`` or an original ``.pth.tar``, by how it starts.

    Raises
    ------
    WeightsError
        The file is unsafe (nothing of it was run), damaged, or no checkpoint of this model.
    """
    if not is_safetensors(content):
        return _networks(path, safe_pickle.load_arrays(path, content), len(content), NETWORKS)
    parts = FAMILIES[family_of(settings_in(path, io.BytesIO(content)))]
    return _networks(path, _read_safetensors(path, content), len(content), parts)


def parameters(checkpoint: Checkpoint) -> int:
    """Return how many values were trained: no statistics, no fixed kernels."""
    fixed = ("._mean", "._variance", BLUR)
    tensors = [item for own in checkpoint.networks.values() for item in own.items()]
    return sum(tensor.size for name, tensor in tensors if not name.endswith(fixed))


def is_safetensors(start: bytes) -> bool:
    """Say whether a file is in the format of safetensors, by how it starts."""
    # 8 bytes of header length, then the header, which is JSON; nothing else starts so.
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _LARGEST_HEADER


def stored_settings(path: Path) -> Settings:
    """Return the settings that a file written by :func:`save` holds, without reading its tensors.

    Other files give none: {}.

    Raises
    ------
    WeightsError
        The file is damaged.
    """
    with path.open("rb") as file:
        if not is_safetensors(file.read(9)):
            return {}
        return settings_in(path, file)


def settings_in(path: Path, file: BinaryIO) -> Settings:
    """Return the settings in an open file of safetensors, as :func:`stored_settings` does."""
    try:
        config = json.loads(_header(file).get("__metadata__", {}).get("config", "{}"))
        sections = [config, *(config[name] for name in _SECTIONS if name in config)]
        if any(type(section) is not dict for section in sections):
            raise TypeError("its config is no mapping")
        if family_of(config) not in FAMILIES:
            raise ValueError(f"no method knows its network {family_of(config)}")
        return config
    except _DAMAGED as error:
        raise _damaged(path, error) from None


_LARGEST_HEADER = 1 << 24  # bytes
_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "i1", "U8": "u1", "BOOL": "b1",
}  # fmt: skip
_DAMAGED = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


def _header(file: BinaryIO) -> dict[str, Any]:
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    header = file.read(length)
    if len(header) < length:
        raise ValueError("it ends in its header")
    return json.loads(header)


def _read_safetensors(path: Path, content: bytes) -> dict[str, Tensors]:
    found: dict[str, Tensors] = {}
    try:
        file = io.BytesIO(content)
        header = _header(file)
        numbers = memoryview(content)[file.tell() :]
        header.pop("__metadata__", None)
        for key, entry in header.items():
            part, _, name = key.partition(".")
            kind, (start, end) = np.dtype(_TYPES[entry["dtype"]]), entry["data_offsets"]
            if not 0 <= start <= end <= len(numbers) or min(entry["shape"], default=0) < 0:
                raise ValueError(f"{key} lies outside of it")
            array = np.frombuffer(numbers[start:end], kind).reshape(entry["shape"])
            found.setdefault(part, {})[name] = array.astype(kind.newbyteorder("="), copy=False)
    except _DAMAGED as error:
        raise _damaged(path, error) from None
    return found


def _damaged(path: Path, error: Exception) -> WeightsError:
    reason = ascii(f"{type(error).__name__}: {error}"[:200])[1:-1]
    return WeightsError(f"{path} is damaged ({reason}): get or convert it again")


def save(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a checkpoint as safetensors, with its settings in the file's metadata.

    Raises
    ------
    WeightsError
        The file can't be written.
    """
    from safetensors.numpy import save

    tensors = {
        f"{part}.{name}": np.ascontiguousarray(tensor)
        for part, network in checkpoint.networks.items()
        for name, tensor in network.items()
    }
    metadata = {"config": json.dumps(checkpoint.config)}
    content = save(tensors, metadata)  # its save_file lets nobody else read the file
    write_whole(Path(path), lambda part: part.write_bytes(content))


def save_for_ppgan(checkpoint: Checkpoint, path: str | Path) -> Path:
    """Write a checkpoint as PaddleGAN reads it: a ``.pdparams`` file, and its YAML file beside.

    ``FirstOrderPredictor(weight_path="a.pdparams", config="a.yaml")`` takes the two; for images of
    another size than it was trained on, give it :func:`at_size` first.

    Returns
    -------
    Path
        The YAML file.

    Raises
    ------
    WeightsError
        A file can't be written.
    """
    import yaml

    settings, path = checkpoint.config, Path(path)
    parts = {key: settings[key] for key in ("kp_detector_cfg", "generator_cfg")}
    model = {"common_params": settings["common_params"], "generator": parts}
    text = yaml.safe_dump({"model": model}, sort_keys=False)
    content = pickle.dumps(checkpoint.networks, protocol=2)
    write_whole(path, lambda part: part.write_bytes(content))
    beside = path.with_suffix(".yaml")
    write_whole(beside, lambda part: part.write_text(text, encoding="utf-8"))
    return beside


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write under another name in the same folder, and rename when it is whole.

    Raises
    ------
    WeightsError
        The folder can't be made or written.
    """
    otherwise = "choose a folder that can be written"
    if cache_folder() in path.parents:
        otherwise += ", or set STUDYKIT_CACHE to one"
    with files.written(path, otherwise, WeightsError) as part:
        write(part)


def from_pytorch(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the tensors of an original PyTorch checkpoint as PaddleGAN names them.

    The layers have the same names and layouts; only batch normalisation calls its statistics
    differently, and PyTorch's counter of batches has no counterpart.
    """

    def renamed(name: str) -> str:
        return re.sub(r"\.running_var$", "._variance", re.sub(r"\.running_mean$", "._mean", name))

    counter = ".num_batches_tracked"
    return {renamed(name): own for name, own in tensors.items() if not name.endswith(counter)}


def _networks(
    path: Path, content: Mapping[str, Tensors], size: int, parts: Sequence[str]
) -> dict[str, Tensors]:
    """Return the networks of what a file of so many bytes holds, as finite float32 arrays."""
    networks: dict[str, Tensors] = {part: {} for part in parts}
    for part, tensors in networks.items():
        if not content.get(part):
            held = ", ".join(sorted(content)) or "nothing"
            raise WeightsError(
                f'{path} is no checkpoint of the First Order Motion Model: it has no "{part}" '
                f"(it holds {held[:100]})"
            )
        for name, array in from_pytorch(content[part]).items():
            size -= array.size  # an array may show the same number a million times
            if size < 0:
                raise WeightsError(f"{path} is damaged: it shows more numbers than it has bytes")
            if not np.isfinite(array).all():
                reason = f"{part} {name} has values that are no numbers"
                raise WeightsError(f"{path} is damaged: {reason}")
            tensors[name] = np.ascontiguousarray(array, dtype=np.float32)
    return networks


def at_size(checkpoint: Checkpoint, side: int) -> Checkpoint:
    """Return a checkpoint as it animates images of another size than it was trained on.

    Keypoints and motion are found on grids of as many places as in training, whatever the size;
    features are moved and painted at the image's own resolution, which keeps it sharp. One that
    names no size is returned as it is.

    Parameters
    ----------
    checkpoint : Checkpoint
    side : int
        Of the images, in pixels.

    Raises
    ------
    WeightsError
        The grids don't fit into images of this side.
    """
    config = copy.deepcopy(checkpoint.config)
    size = config.get("size", side)
    if size == side:
        return checkpoint
    motion = config["generator_cfg"]["dense_motion_params"]
    for settings in (config["kp_detector_cfg"], motion):
        grid = round(size * settings.get("scale_factor", 1))
        if side % grid:
            raise WeightsError(
                f"{checkpoint.name} takes images whose sides are multiples of {grid}, not {side}: "
                "set the study's size accordingly"
            )
        settings["scale_factor"] = grid / side
    # The kernels that blur an image before it is scaled down belong to the old scale; networks
    # make their own.
    networks = {
        part: {name: own for name, own in tensors.items() if not name.endswith(BLUR)}
        for part, tensors in checkpoint.networks.items()
    }
    return replace(checkpoint, config=config, networks=networks)


def require_tensors(
    checkpoint: Checkpoint, network: str, expected: Mapping[str, tuple[int, ...]]
) -> Tensors:
    """Return a network's tensors if they are those that it expects, by name and shape.

    Parameters
    ----------
    checkpoint : Checkpoint
        Where to look.
    network : str
        Which of its networks.
    expected : mapping of str to tuple of int
        The shape of every tensor of the network. The fixed blur kernels ``down.weight`` may be
        absent from the checkpoint.

    Raises
    ------
    WeightsError
        A tensor is missing, superfluous or of another shape; the first one is named.
    """
    found: Tensors = checkpoint.networks[network]
    if problem := next(_differences(network, found, expected), None):
        raise WeightsError(
            f"{checkpoint.name} is a checkpoint for another network: {problem}; give the setting "
            "config that belongs to it, or other weights"
        )
    return found


def _differences(
    network: str, found: Tensors, expected: Mapping[str, tuple[int, ...]]
) -> Iterator[str]:
    for name, shape in expected.items():
        if name not in found and not name.endswith(BLUR):
            yield f"{network} has no tensor {name} {tuple(shape)}"
        elif name in found and found[name].shape != tuple(shape):
            yield f"{network} {name} is {found[name].shape}, expected {tuple(shape)}"
    for name in found:
        if name not in expected:
            yield f"{network} has a tensor {name} that none of its settings explains"


# Where PaddleGAN's files and those of the original repository have the sections of the settings.
_SECTIONS = {
    "common_params": ("model common_params", "model_params common_params"),
    "kp_detector_cfg": ("model generator kp_detector_cfg", "model_params kp_detector_params"),
    "generator_cfg": ("model generator generator_cfg", "model_params generator_params"),
}


def read_config(path: str | Path) -> Settings:
    """Read network settings from a YAML file of PaddleGAN or of the original repository.

    Raises
    ------
    WeightsError
        The file can't be read, or a section is missing.
    """
    from studykit.study.document import read_yaml

    try:
        content = read_yaml(Path(path))
    except StudyFileError as error:
        raise WeightsError(f"config {error}") from None
    settings = {}
    for name, places in _SECTIONS.items():
        found = [_section(content, place.split()) for place in places]
        settings[name] = next(filter(None, found), None)
        if not isinstance(settings[name], dict):
            raise WeightsError(
                f"config {path} has no section {name}: write it like PaddleGAN's "
                "configs/firstorder_vox_256.yaml"
            )
    return settings


def _section(content: Any, keys: list[str]) -> Any:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def require_sizes(path: str | Path, settings: Settings, networks: Mapping[str, Tensors]) -> None:
    """Refuse settings that ask for far larger networks than the tensors are of.

    Raises
    ------
    WeightsError
        A setting is out of its range; it is named.
    """
    largest = max(size for own in networks.values() for one in own.values() for size in one.shape)
    ranges = {"max_features": (1, max(largest, 1024)), "scale_factor": (1 / 64, 1)}
    waiting: list[Any] = [{"size": settings.get("size", 256)}, *map(settings.get, _SECTIONS)]
    for section in filter(lambda given: isinstance(given, dict), waiting):
        waiting += section.values()
        for name, value in section.items():
            low, high = ranges.get(name, (0, 10 if name.endswith("blocks") else largest))
            if name == "size":
                low, high = 16, 4096
            if isinstance(value, int | float) and not low <= value <= high:
                raise WeightsError(
                    f"{path} is damaged: its setting {name!a} must be from {low} to {high}, "
                    f"not {value}: get it again, or give the setting config that belongs to it"
                )


def settings_from_shapes(path: Path, kp_detector: Tensors, generator: Tensors) -> Settings:
    """Work out the settings of ppgan's networks from their tensors (names as ppgan gives them).

    What shapes don't show (temperature, Gaussian variance) is as in every published checkpoint.

    Raises
    ------
    WeightsError
        They are tensors of another network.
    """
    mobile = "kp.0.weight" in kp_detector
    kp, jacobian, first, final, mask, block = (
        ("kp.2", "jacobian.2", "first.2.conv", "final.4", "mask.0", "conv1")
        if mobile
        else ("kp", "jacobian", "first.conv", "final", "mask", "conv")
    )
    motion = "dense_motion_network."
    kind = {"mobile_net": True} if mobile else {}
    try:
        num_kp, kp_features = kp_detector[f"{kp}.weight"].shape[:2]
        jacobians = len(kp_detector.get(f"{jacobian}.bias", ()))
        width = len(generator[f"{first}.weight"])
        widths = _widths(generator, rf"down_blocks\.\d+\.{block}")
        mask_features = generator[f"{motion}{mask}.weight"].shape[1]
        bottleneck = _widths(generator, r"bottleneck\.r\d+\.(conv1|conv_pw)")
        occluding = any(name.startswith(f"{motion}occlusion.") for name in generator)
        return {
            "common_params": {
                "num_kp": num_kp,
                "num_channels": len(generator[f"{final}.weight"]),
                "estimate_jacobian": jacobians > 0,
            },
            "kp_detector_cfg": {
                "temperature": 0.1,
                **_hourglass_settings(kp_detector, "predictor.", kp_features, mobile),
                "scale_factor": _scale(kp_detector, "down.weight", mobile),
                "single_jacobian_map": jacobians == 4 and num_kp > 1,
                **kind,
            },
            "generator_cfg": {
                "block_expansion": width,
                "max_features": max([width, *widths]),
                "num_down_blocks": len(widths),
                "num_bottleneck_blocks": len(bottleneck),
                "estimate_occlusion_map": occluding,
                "dense_motion_params": {
                    **_hourglass_settings(generator, f"{motion}hourglass.", mask_features, mobile),
                    "scale_factor": _scale(generator, f"{motion}down.weight", mobile),
                },
                **kind,
            },
        }
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(
            f"{path} is a checkpoint for another network: nothing in it shows {error}; if it "
            "is a First Order Motion Model, give its YAML file as the setting config"
        ) from None


def _hourglass_settings(tensors: Tensors, prefix: str, out_features: int, mobile: bool) -> Settings:
    encoder = f"{prefix}encoder.down_blocks"
    entry = tensors[f"{encoder}.0.conv.weight"].shape
    in_features = entry[0 if mobile else 1]  # a mobile block starts with one kernel a channel
    block = "conv1" if mobile else "conv"
    widths = _widths(tensors, rf"{re.escape(encoder)}\.\d+\.{block}")
    return {
        "block_expansion": out_features - in_features,
        "max_features": max(widths),
        "num_blocks": len(widths),
    }


def _widths(tensors: Tensors, layer: str) -> list[int]:
    """Return the output channels of every layer whose name matches."""
    weight = re.compile(rf"{layer}\.weight")
    return [len(tensor) for name, tensor in tensors.items() if weight.fullmatch(name)]


def _scale(tensors: Tensors, name: str, mobile: bool) -> float:
    if name not in tensors:
        return 1
    if mobile:  # its kernel is 3x3 at any scale
        return 0.25
    # The kernel's side is 2 round(4 sigma) + 1 with sigma = (1 / scale - 1) / 2, that is
    # 4 / scale - 3.
    side = tensors[name].shape[-1]
    if side not in (5, 13, 29, 61):
        raise ValueError(f"the scale of its {side}x{side} blur {name}")
    return 4 / (side + 3)
