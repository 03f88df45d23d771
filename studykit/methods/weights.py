"""Named checkpoints of the First Order Motion Model: found or fetched, verified, loaded.

The project's own one lies in the package, so that a machine without a network has it too.
Published ones are pickles, which are read once (:mod:`studykit.methods.checkpoint_files`) and kept
as safetensors.
"""

import copy
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studykit import files
from studykit.cache import cache_folder
from studykit.errors import WeightsError, did_you_mean
from studykit.methods import checkpoint_files
from studykit.methods.checkpoint_files import Checkpoint, Settings


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
    return copy.deepcopy(_PUBLISHED[name].config)


def stored_settings(name_or_path: str | Path) -> Settings:
    """Return the settings that a checkpoint written by studykit holds, without its tensors.

    Other files give none: {}.

    Raises
    ------
    WeightsError
        As :func:`locate`; or the file is damaged.
    """
    return checkpoint_files.stored_settings(locate(name_or_path))


def knowledge(name_or_path: str | Path) -> str:
    """Say of what kind of faces a checkpoint's networks know, "" where its file doesn't say so.

    Raises
    ------
    WeightsError
        As :func:`stored_settings`.
    """
    about = stored_settings(name_or_path)
    if "trained_on" not in about:
        return ""
    size = f", at {about['size']} pixels" if "size" in about else ""
    return f"{Path(name_or_path).name} was trained on {about['trained_on']} alone{size}"


def family(name_or_path: str | Path) -> str:
    """Return what a checkpoint's networks are of: one of :data:`checkpoint_files.FAMILIES`.

    A published one is not fetched for it.

    Raises
    ------
    WeightsError
        As :func:`locate`; or the file is damaged.
    """
    if published := _PUBLISHED.get(str(name_or_path)):
        return checkpoint_files.family_of(published.config)
    return checkpoint_files.family_of(stored_settings(name_or_path))


def require_family(name_or_path: str | Path, wanted: str) -> None:
    """Refuse weights whose networks are of another method.

    Raises
    ------
    WeightsError
        They are; or as :func:`locate`; or the file is damaged.
    """
    if (found := family(name_or_path)) != wanted:
        raise WeightsError(
            f"{name_or_path} is a checkpoint for the method {found}: name it there, and other "
            f"weights for {wanted}"
        )


def check(name_or_path: str | Path, wanted: str, config: str | Path | None = None) -> None:
    """Refuse weights that :func:`load` can't read, or of another method; fetch none.

    Raises
    ------
    WeightsError
        As :func:`require_family` and :func:`load`.
    """
    require_family(name_or_path, wanted)
    if all(known.cached for known in status() if known.name == str(name_or_path)):
        load(name_or_path, config)


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
    path = _found(name_or_path)
    if str(name_or_path) in names():
        _verify(name_or_path, path, sha256(path))
    return path


def _found(name_or_path: str | Path) -> Path:
    """Return the file of a checkpoint, fetched if need be and not verified."""
    if path := _shipped().get(str(name_or_path)):
        return path
    if published := _PUBLISHED.get(str(name_or_path)):
        path = cache_folder() / published.file
        if not path.is_file():
            _fetch(str(name_or_path), published.address, path)
        return path
    path = Path(name_or_path).expanduser()
    if files.is_there(path):
        return path
    raise WeightsError(
        f'no weights "{name_or_path}": no such file, and no named checkpoint: '
        f"{did_you_mean(str(name_or_path), names())}"
    )


def _verify(name_or_path: str | Path, path: Path, now: str) -> None:
    """Refuse a file that is not the one that its name stands for; others stand for themselves."""
    if str(name_or_path) in _shipped():
        if now != _shipped_hash(path):
            raise WeightsError(
                f"{path} is not the file that was shipped as {name_or_path}: reinstall studykit"
            )
        return
    published = _PUBLISHED.get(str(name_or_path))
    if published is None:
        return
    first = _recorded(path)
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
    what shapes don't show (temperature, Gaussian variance) is then as in every published one.

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
    """
    path = _found(name_or_path)
    content = checkpoint_files.read_file(path)
    digest = hashlib.sha256(content).hexdigest()
    _verify(name_or_path, path, digest)
    if not checkpoint_files.is_safetensors(content):
        content = _imported(path, content, digest)
    networks = checkpoint_files.read_networks(path, content)
    if config is not None:
        settings = checkpoint_files.read_config(config)
    elif str(name_or_path) in _PUBLISHED:
        settings = published_config(str(name_or_path))
    else:
        stored = checkpoint_files.settings_in(path, io.BytesIO(content))
        settings = stored or checkpoint_files.settings_from_shapes(path, **networks)
    checkpoint_files.require_sizes(config or path, settings, networks)
    return Checkpoint(str(name_or_path), digest, settings, networks)


def _imported(path: Path, content: bytes, digest: str) -> bytes:
    """Return what is in a pickled checkpoint as safetensors, made at its first use and kept."""
    kept = cache_folder() / "imported" / f"{digest}.safetensors"
    if kept.is_file():
        again = checkpoint_files.read_file(kept)
        if _recorded(kept) == hashlib.sha256(again).hexdigest():
            return again
    networks = checkpoint_files.read_networks(path, content)
    checkpoint_files.save(Checkpoint(str(path), digest, {}, networks), kept)
    _record(kept, sha256(kept))
    return checkpoint_files.read_file(kept)


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
        said = str(error) if type(error) is ValueError else getattr(error, "strerror", None)
        reason = said or type(error).__name__
        raise WeightsError(
            f"{name} is not cached and can't be fetched ({reason}): download {address} and put it "
            f"into the folder {path.parent} as {path.name}"
        ) from error


def _shipped_hash(path: Path) -> str:
    return _hash_in(path.with_name("checkpoint.json"), "is missing or damaged: reinstall studykit")


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _recorded(path: Path) -> str:
    record = _record_path(path)
    if not record.is_file():
        return ""
    return _hash_in(record, f"is damaged: delete it, and {path.name} counts as new")


def _hash_in(record: Path, otherwise: str) -> str:
    try:
        return str(json.loads(record.read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        raise WeightsError(f"{record} {otherwise}") from None


def _record(path: Path, digest: str) -> None:
    record = json.dumps({"sha256": digest, "bytes": path.stat().st_size}, indent=2) + "\n"
    checkpoint_files.write_whole(
        _record_path(path), lambda part: part.write_text(record, encoding="utf-8")
    )
