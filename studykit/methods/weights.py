"""Checkpoints of the First Order Motion Model: found or fetched, verified, and read safely.

Published checkpoints are pickles, which can run anything; they are read once by a reader that
can't (:mod:`studykit.methods.safe_pickle`) and kept as safetensors, which hold nothing but arrays.
The project's own one lies in the package, so that a machine without a network has it too.
"""

import dataclasses
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from studykit import files
from studykit.cache import cache_folder
from studykit.errors import MissingPackageError, WeightsError, did_you_mean
from studykit.methods import safe_pickle

Settings = dict[str, Any]
Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """The two networks of the First Order Motion Model (Siarohin et al., NeurIPS 2019).

    Attributes
    ----------
    name : str
        The name or path that it was asked for by.
    sha256 : str
        Of the file as published, before any conversion.
    config : dict
        The networks' settings, named as in PaddleGAN's configuration files: ``common_params``,
        ``kp_detector_cfg`` and ``generator_cfg``. Checkpoints of this project tell as well the
        ``size`` of the images that they were trained on, in pixels, and what these show,
        ``trained_on``.
    kp_detector, generator : dict of str to float32 array
        The tensors, named as in PaddleGAN.
    """

    name: str
    sha256: str
    config: Settings
    kp_detector: Tensors
    generator: Tensors


@dataclass(frozen=True)
class WeightsStatus:
    """What is there of a named checkpoint.

    Attributes
    ----------
    name, address : str
        The name, and where the file is published; no address for one that comes with the package.
    path : Path
        Where the package or the cache keeps the file.
    cached : bool
        Whether it is there.
    size : int
        Its bytes, 0 if it is not there.
    sha256 : str
        The hash that it must have: as shipped, or as recorded at first use and empty before.
    """

    name: str
    address: str
    path: Path
    cached: bool
    size: int
    sha256: str


@dataclass(frozen=True)
class _Published:
    address: str
    config: Settings
    sha256: str = ""  # "" is what was found at first use

    @property
    def file(self) -> str:
        return self.address.rsplit("/", 1)[1]


def _vox_settings(mobile: bool) -> Settings:
    hourglass = {"num_blocks": 5, "scale_factor": 0.25}
    kind = {"mobile_net": True} if mobile else {}
    width, most = (32, 256) if mobile else (64, 1024)
    return {
        "common_params": {"num_kp": 10, "num_channels": 3, "estimate_jacobian": True},
        "kp_detector_cfg": {
            "temperature": 0.1,
            "block_expansion": 32,
            "max_features": most,
            **hourglass,
            **kind,
        },
        "generator_cfg": {
            "block_expansion": width,
            "max_features": 256 if mobile else 512,
            "num_down_blocks": 2,
            "num_bottleneck_blocks": 6,
            "estimate_occlusion_map": True,
            "dense_motion_params": {"block_expansion": width, "max_features": most, **hourglass},
            **kind,
        },
    }


# Addresses from ppgan.apps.first_order_predictor; settings from there (the 512-pixel checkpoint
# has those of the 256-pixel one) and from PaddleGAN's configs/firstorder_vox_mobile_256.yaml.
_FOLDER = "https://paddlegan.bj.bcebos.com/applications/first_order_model"
_PUBLISHED = {
    "vox-256": _Published(f"{_FOLDER}/vox-cpk.pdparams", _vox_settings(mobile=False)),
    "vox-512": _Published(f"{_FOLDER}/vox-cpk-512.pdparams", _vox_settings(mobile=False)),
    "vox-mobile": _Published(f"{_FOLDER}/vox-mobile.pdparams", _vox_settings(mobile=True)),
}
_RETRIES = 2


SHIPPED = Path(__file__).parents[1] / "checkpoints"
"""The folder of what comes with the package: a folder a checkpoint, which also holds its model
card, training log and recipe."""

DEFAULT = "synth-256"
"""The checkpoint that is used where none is named."""


def names() -> list[str]:
    """Return the names of all checkpoints that have one: those shipped, then those published."""
    return [*_shipped(), *_PUBLISHED]


def published_config(name: str) -> Settings:
    """Return a copy of the network settings of a named checkpoint."""
    if name in _shipped():
        return stored_settings(name)
    if name not in _PUBLISHED:
        raise WeightsError(f'no named checkpoint "{name}": {did_you_mean(name, names())}')
    return json.loads(json.dumps(_PUBLISHED[name].config))


def stored_settings(name_or_path: str | Path) -> Settings:
    """Return the settings that a checkpoint written by studykit holds, without its tensors.

    Other files give none: {}.

    Raises
    ------
    WeightsError
        As :func:`locate`; or the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = locate(name_or_path)
    if not _is_safetensors(path):
        return {}
    try:
        with safe_open(path, framework="numpy") as file:
            return json.loads((file.metadata() or {}).get("config", "{}"))
    except (SafetensorError, ValueError) as error:
        raise WeightsError(f"{path} is damaged ({error}): get or convert it anew") from None


def _shipped() -> dict[str, Path]:
    return {path.parent.name: path for path in sorted(SHIPPED.glob("*/weights.safetensors"))}


def status() -> list[WeightsStatus]:
    """Return what is there of every named checkpoint; nothing is fetched or verified."""
    found = [
        WeightsStatus(name, "", path, True, path.stat().st_size, _shipped_hash(path))
        for name, path in _shipped().items()
    ]
    for name, published in _PUBLISHED.items():
        path = cache_folder() / published.file
        size = path.stat().st_size if path.is_file() else 0
        recorded = _recorded(path) if size else ""
        found.append(WeightsStatus(name, published.address, path, size > 0, size, recorded))
    return found


def locate(name_or_path: str | Path) -> Path:
    """Return the file of a checkpoint; a named one is fetched where it is not cached.

    The SHA-256 of a published checkpoint is checked against the one known here, if any; it is
    recorded beside the file at first use, and checked ever after. That of a shipped one was
    recorded when it was made.

    Raises
    ------
    WeightsError
        No such name or file; the file can't be fetched; or it is not the one that was first used
        or shipped.
    """
    if path := _shipped().get(str(name_or_path)):
        if sha256(path) != _shipped_hash(path):
            raise WeightsError(
                f"{path} is not the file that was shipped as {name_or_path}: reinstall studykit"
            )
        return path
    if str(name_or_path) not in _PUBLISHED:
        path = Path(name_or_path).expanduser()
        if path.is_file():
            return path
        raise WeightsError(
            f'no weights "{name_or_path}": no such file, and no named checkpoint: '
            f"{did_you_mean(str(name_or_path), names())}"
        )
    published = _PUBLISHED[str(name_or_path)]
    path = cache_folder() / published.file
    if not path.is_file():
        _fetch(str(name_or_path), published.address, path)
    now, first = sha256(path), _recorded(path)
    if published.sha256 and now != published.sha256:
        raise WeightsError(
            f"{path} is not the published {name_or_path} (SHA-256 {now[:12]}..., not "
            f"{published.sha256[:12]}...): delete it to have it fetched again"
        )
    if not first:
        _record(path, now)
    elif now != first:
        raise WeightsError(
            f"{path} is not the file that was first used as {name_or_path} (SHA-256 {now[:12]}..., "
            f"then {first[:12]}...): delete it to have it fetched again, or delete "
            f"{_record_path(path).name} beside it to accept it"
        )
    return path


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, hashing it again only when its size or time changed."""
    try:
        return files.sha256(path)
    except OSError as error:
        raise WeightsError(f"{path} can't be read: {error.strerror}") from None


def load(name_or_path: str | Path, config: str | Path | None = None) -> Checkpoint:
    """Read a checkpoint: safetensors, PaddleGAN's ``.pdparams`` or the original ``.pth.tar``.

    The networks' settings come from ``config`` if given, from the published ones for a named
    checkpoint, from the file itself if studykit wrote it, else from the shapes of its tensors;
    what shapes don't tell (temperature, Gaussian variance) is then as in every published one.

    Parameters
    ----------
    name_or_path : str or Path
        One of :func:`names`, or a file.
    config : str or Path, optional
        A YAML file like those of PaddleGAN or of the original repository.

    Raises
    ------
    WeightsError
        As :func:`locate`; or the file is unsafe, damaged or no checkpoint of this model.
    MissingPackageError
        A PyTorch file, and PyTorch is not installed.
    """
    path = locate(name_or_path)
    digest = sha256(path)
    kp_detector, generator, stored = _read(path, digest)
    if config is not None:
        settings = read_config(config)
    elif str(name_or_path) in _PUBLISHED:
        settings = published_config(str(name_or_path))
    else:
        settings = stored or _settings_from_shapes(path, kp_detector, generator)
    return Checkpoint(str(name_or_path), digest, settings, kp_detector, generator)


def save(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a checkpoint as safetensors, with its settings in the file's metadata.

    Raises
    ------
    WeightsError
        The file can't be written.
    """
    metadata = {"config": json.dumps(checkpoint.config)}
    _write_safetensors(Path(path), checkpoint.kp_detector, checkpoint.generator, metadata)


def save_for_ppgan(checkpoint: Checkpoint, path: str | Path, side: int | None = None) -> Path:
    """Write a checkpoint as PaddleGAN reads it: a ``.pdparams`` file, and its YAML file beside.

    ``FirstOrderPredictor(weight_path="a.pdparams", config="a.yaml")`` takes the two.

    Parameters
    ----------
    checkpoint : Checkpoint
    path : path
        Of the ``.pdparams`` file.
    side : int, optional
        For images of another size than it was trained on: see :func:`at_size`.

    Returns
    -------
    Path
        The YAML file.

    Raises
    ------
    WeightsError
        A file can't be written.
    """
    import pickle

    import yaml

    if side is not None:
        checkpoint = at_size(checkpoint, side)
    path = Path(path)
    content = pickle.dumps({part: getattr(checkpoint, part) for part in _NETWORKS}, protocol=2)
    _write(path, lambda file: Path(file).write_bytes(content))
    parts = {key: checkpoint.config[key] for key in ("kp_detector_cfg", "generator_cfg")}
    model = {"common_params": checkpoint.config["common_params"], "generator": parts}
    text = yaml.safe_dump({"model": model}, sort_keys=False)
    settings = path.with_suffix(".yaml")
    _write(settings, lambda file: Path(file).write_text(text, encoding="utf-8"))
    return settings


def at_size(checkpoint: Checkpoint, side: int) -> Checkpoint:
    """Return a checkpoint as it animates images of another size than it was trained on.

    Keypoints and motion are found on grids of as many places as in training, whatever the size;
    features are moved and painted at the image's own resolution, which keeps it sharp. One that
    tells no size is returned as it is.

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
    config = json.loads(json.dumps(checkpoint.config))
    size = config.get("size", side)
    if size == side:
        return checkpoint
    networks = {part: dict(getattr(checkpoint, part)) for part in _NETWORKS}
    for part, settings, name in (
        ("kp_detector", config["kp_detector_cfg"], "down.weight"),
        (
            "generator",
            config["generator_cfg"]["dense_motion_params"],
            "dense_motion_network.down.weight",
        ),
    ):
        grid = round(size * settings.get("scale_factor", 1))
        if side % grid:
            raise WeightsError(
                f"{checkpoint.name} takes images whose sides are multiples of {grid}, not {side}: "
                "set the study's size accordingly"
            )
        settings["scale_factor"] = grid / side
        networks[part].pop(name, None)
        if grid < side:
            networks[part][name] = _blur(config["common_params"]["num_channels"], grid / side)
    return dataclasses.replace(checkpoint, config=config, **networks)


def _blur(channels: int, scale: float) -> np.ndarray:
    """Return the kernels, all alike, by which these networks blur an image before scaling it."""
    sigma = (1 / scale - 1) / 2
    reach = round(4 * sigma)
    line = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2 + 1e-9))
    kernel = line[:, None] * line
    return np.tile(kernel / kernel.sum(), (channels, 1, 1, 1)).astype(np.float32)


def read_config(path: str | Path) -> Settings:
    """Read network settings from a YAML file of PaddleGAN or of the original repository.

    Raises
    ------
    WeightsError
        The file can't be read, or a section is missing.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"config {path} can't be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"config {path} is no YAML file ({reason}): mend it") from None

    def section(*keys: str) -> Any:
        found = content
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    settings = {
        "common_params": section("model", "common_params")
        or section("model_params", "common_params"),
        "kp_detector_cfg": section("model", "generator", "kp_detector_cfg")
        or section("model_params", "kp_detector_params"),
        "generator_cfg": section("model", "generator", "generator_cfg")
        or section("model_params", "generator_params"),
    }
    for name, value in settings.items():
        if not isinstance(value, dict):
            raise WeightsError(
                f"config {path} has no section {name}: write it like PaddleGAN's "
                "configs/firstorder_vox_256.yaml"
            )
    return settings


def require_tensors(
    checkpoint: Checkpoint, network: str, expected: Mapping[str, tuple[int, ...]]
) -> Tensors:
    """Return a network's tensors if they are those that it expects, by name and shape.

    Parameters
    ----------
    checkpoint : Checkpoint
        Where to look.
    network : {"kp_detector", "generator"}
        Which of its networks.
    expected : mapping of str to tuple of int
        The shape of every tensor of the network. The fixed blur kernels ``down.weight`` may be
        absent from the checkpoint.

    Raises
    ------
    WeightsError
        A tensor is missing, superfluous or of another shape; the first one is named.
    """
    found: Tensors = getattr(checkpoint, network)
    problem = None
    for name, shape in expected.items():
        if name not in found:
            if not name.endswith("down.weight"):
                problem = f"{network} has no tensor {name} {tuple(shape)}"
                break
        elif found[name].shape != tuple(shape):
            problem = f"{network} {name} is {found[name].shape}, expected {tuple(shape)}"
            break
    else:
        if unknown := [name for name in found if name not in expected]:
            problem = f"{network} has a tensor {unknown[0]} that none of its settings explains"
    if problem:
        raise WeightsError(
            f"{checkpoint.name} is a checkpoint for another network: {problem}; give the setting "
            "config that belongs to it, or other weights"
        )
    return found


def from_pytorch(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """Rename the tensors of an original PyTorch checkpoint as PaddleGAN names them.

    The layers have the same names and layouts; only batch normalisation calls its statistics
    differently, and PyTorch's counter of batches has no counterpart.
    """
    renamed = {}
    for name, tensor in tensors.items():
        if name.endswith(".num_batches_tracked"):
            continue
        name = re.sub(r"\.running_mean$", "._mean", name)
        renamed[re.sub(r"\.running_var$", "._variance", name)] = tensor
    return renamed


def _fetch(name: str, address: str, path: Path) -> None:
    import pooch

    def download(url: str, output_file: str, pooch_: Any) -> None:
        pooch.HTTPDownloader(progressbar=True)(url, output_file, pooch_)
        # A captive portal answers anything with a page; it must not become a cached checkpoint.
        with open(output_file, "rb") as file:
            if file.read(1) != b"\x80":
                raise ValueError("what the address gave is no checkpoint")

    pooch.get_logger().setLevel("WARNING")
    fetcher = pooch.create(
        path=path.parent,
        base_url="",
        registry={path.name: None},
        urls={path.name: address},
        retry_if_failed=_RETRIES,
    )
    try:
        fetcher.fetch(path.name, downloader=download)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or (
            str(error) if type(error) is ValueError else type(error).__name__
        )
        raise WeightsError(
            f"{name} is not cached and can't be fetched ({reason}): download {address} and put it "
            f"into the folder {path.parent} as {path.name}"
        ) from error


def _shipped_hash(path: Path) -> str:
    record = path.with_name("checkpoint.json")
    try:
        return str(json.loads(record.read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        raise WeightsError(f"{record} is missing or damaged: reinstall studykit") from None


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _recorded(path: Path) -> str:
    record = _record_path(path)
    if not record.is_file():
        return ""
    try:
        return str(json.loads(record.read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        raise WeightsError(
            f"{record} is damaged: delete it, and {path.name} counts as new"
        ) from None


def _record(path: Path, digest: str) -> None:
    record = json.dumps({"sha256": digest, "bytes": path.stat().st_size}, indent=2) + "\n"
    _write(_record_path(path), lambda file: Path(file).write_text(record, encoding="utf-8"))


def _write(path: Path, write: Callable[[str], Any]) -> None:
    """Write under another name in the same folder, and rename when it is whole."""
    try:
        with files.whole(path) as part:
            write(str(part))
    except OSError as error:
        raise WeightsError(
            f"can't write {path} ({error.strerror}): choose a folder that can be written"
            + (", or set STUDYKIT_CACHE to one" if cache_folder() in path.parents else "")
        ) from None


def _read(path: Path, digest: str) -> tuple[Tensors, Tensors, Settings | None]:
    if _is_safetensors(path):
        return _read_safetensors(path)
    kept = cache_folder() / "imported" / f"{digest}.safetensors"
    if not kept.is_file() or _recorded(kept) != sha256(kept):
        content = _read_pytorch(path) if _is_pytorch(path) else safe_pickle.load_arrays(path)
        _write_safetensors(kept, *(_network(path, content, part) for part in _NETWORKS), {})
        _record(kept, sha256(kept))
    return _read_safetensors(kept)


_NETWORKS = ("kp_detector", "generator")


def _network(path: Path, content: Mapping[str, Tensors], part: str) -> Tensors:
    if not content.get(part):
        held = ", ".join(sorted(content)) or "nothing"
        raise WeightsError(
            f'{path} is no checkpoint of the First Order Motion Model: it has no "{part}" '
            f"(it holds {held[:100]})"
        )
    tensors = {}
    for name, array in content[part].items():
        if not np.isfinite(array).all():
            raise WeightsError(f"{path} is damaged: {part} {name} has values that are no numbers")
        tensors[name] = np.ascontiguousarray(array, dtype=np.float32)
    return tensors


def _is_safetensors(path: Path) -> bool:
    # 8 bytes of header length, then the header, which is JSON; nothing else starts so.
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _read_safetensors(path: Path) -> tuple[Tensors, Tensors, Settings | None]:
    from safetensors import SafetensorError, safe_open

    content: dict[str, Tensors] = {part: {} for part in _NETWORKS}
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            for key in file.keys():  # noqa: SIM118 (it is no dictionary)
                part, _, name = key.partition(".")
                content.setdefault(part, {})[name] = file.get_tensor(key)
        settings = json.loads(metadata["config"]) if "config" in metadata else None
    except (SafetensorError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} is damaged ({error}): get or convert it anew") from None
    kp_detector, generator = (_network(path, content, part) for part in _NETWORKS)
    return kp_detector, generator, settings


def _write_safetensors(
    path: Path, kp_detector: Tensors, generator: Tensors, metadata: dict[str, str]
) -> None:
    from safetensors.numpy import save

    networks = {"kp_detector": kp_detector, "generator": generator}
    tensors = {
        f"{part}.{name}": np.ascontiguousarray(tensor)
        for part, network in networks.items()
        for name, tensor in network.items()
    }
    content = save(tensors, metadata)  # its save_file lets nobody else read the file
    _write(path, lambda file: Path(file).write_bytes(content))


# A file of torch.save before 1.6 is a row of pickles, of which the first is this number.
_TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def _is_pytorch(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(len(_TORCH_LEGACY))
    if not start.startswith(b"PK\x03\x04"):
        return start == _TORCH_LEGACY
    try:
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("data.pkl") for name in archive.namelist()):
                return True
    except zipfile.BadZipFile:
        raise WeightsError(f"{path} is a damaged zip archive: get the checkpoint anew") from None
    raise WeightsError(f"{path} is a zip archive and no checkpoint: unpack it first")


def _read_pytorch(path: Path) -> dict[str, Tensors]:
    try:
        import torch
    except ImportError:
        raise MissingPackageError(
            f'{path} is a PyTorch checkpoint: pip install "studykit[torch]" reads it (once; '
            "studykit keeps it as safetensors)"
        ) from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            content = {}
        return {
            part: from_pytorch({name: tensor.numpy() for name, tensor in content[part].items()})
            for part in _NETWORKS
            if isinstance(content.get(part), dict)
        }
    except Exception as error:  # a damaged pickle may raise anything
        if asked := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise WeightsError(
                f"{path} is refused: loading it would call {asked[1]}, which no tensor needs; "
                "nothing was run, get the checkpoint from its authors' address"
            ) from None
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise WeightsError(f"{path} is damaged or no checkpoint ({reason}): get it anew") from error


def _settings_from_shapes(path: Path, kp_detector: Tensors, generator: Tensors) -> Settings:
    """Work out the settings of ppgan's networks from their tensors (names as ppgan gives them)."""
    mobile = "kp.0.weight" in kp_detector
    last = "kp.2.weight" if mobile else "kp.weight"
    first = "first.2.conv.weight" if mobile else "first.conv.weight"
    final = "final.4.weight" if mobile else "final.weight"
    mask = "dense_motion_network.mask.0.weight" if mobile else "dense_motion_network.mask.weight"
    try:
        num_kp = kp_detector[last].shape[0]
        jacobians = _first_dimension(kp_detector, "jacobian.2.bias" if mobile else "jacobian.bias")
        down_blocks = _count(generator, r"down_blocks\.(\d+)\.")
        widths = [
            generator[f"down_blocks.{i}.{'conv1' if mobile else 'conv'}.weight"].shape[0]
            for i in range(down_blocks)
        ]
        width = generator[first].shape[0]
        mobile_net = {"mobile_net": True} if mobile else {}
        return {
            "common_params": {
                "num_kp": num_kp,
                "num_channels": generator[final].shape[0],
                "estimate_jacobian": jacobians > 0,
            },
            "kp_detector_cfg": {
                "temperature": 0.1,
                **_hourglass_settings(kp_detector, "predictor.", kp_detector[last].shape[1]),
                "scale_factor": _scale(kp_detector, "down.weight", mobile),
                "single_jacobian_map": jacobians == 4 and num_kp > 1,
                **mobile_net,
            },
            "generator_cfg": {
                "block_expansion": width,
                "max_features": max([width, *widths]),
                "num_down_blocks": down_blocks,
                "num_bottleneck_blocks": _count(generator, r"bottleneck\.r(\d+)\."),
                "estimate_occlusion_map": any(
                    name.startswith("dense_motion_network.occlusion.") for name in generator
                ),
                "dense_motion_params": {
                    **_hourglass_settings(
                        generator, "dense_motion_network.hourglass.", generator[mask].shape[1]
                    ),
                    "scale_factor": _scale(generator, "dense_motion_network.down.weight", mobile),
                },
                **mobile_net,
            },
        }
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(
            f"{path} is a checkpoint for another network: nothing in it tells {error}; if it "
            "is a First Order Motion Model, give its YAML file as the setting config"
        ) from None


def _hourglass_settings(tensors: Tensors, prefix: str, out_features: int) -> Settings:
    mobile = f"{prefix}encoder.down_blocks.0.conv1.weight" in tensors
    blocks = _count(tensors, re.escape(prefix) + r"encoder\.down_blocks\.(\d+)\.")
    entry = tensors[f"{prefix}encoder.down_blocks.0.conv.weight"].shape
    in_features = (
        entry[0] if mobile else entry[1]
    )  # a mobile block starts with one kernel a channel
    conv = "conv1" if mobile else "conv"
    widths = [
        tensors[f"{prefix}encoder.down_blocks.{i}.{conv}.weight"].shape[0] for i in range(blocks)
    ]
    return {
        "block_expansion": out_features - in_features,
        "max_features": max(widths),
        "num_blocks": blocks,
    }


def _count(tensors: Tensors, pattern: str) -> int:
    return len({match[1] for name in tensors if (match := re.match(pattern, name))})


def _first_dimension(tensors: Tensors, name: str) -> int:
    return tensors[name].shape[0] if name in tensors else 0


def _scale(tensors: Tensors, name: str, mobile: bool) -> float:
    if name not in tensors:
        return 1
    if mobile:  # its kernel is 3x3 at any scale
        return 0.25
    # The kernel's side is 2 round(4 sigma) + 1 with sigma = (1 / scale - 1) / 2.
    side = tensors[name].shape[-1]
    for factor in (2, 4, 8, 16):
        if 2 * round(2 * (factor - 1)) + 1 == side:
            return 1 / factor
    raise ValueError(f"the scale of its {side}x{side} blur {name}")
