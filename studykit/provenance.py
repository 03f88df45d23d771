"""Where a clip comes from: hashes of what it depends on, and the manifest of a study."""

import dataclasses
import hashlib
import json
import os
import platform
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import studykit
from studykit import files
from studykit.cells import CellRow
from studykit.errors import StudyError
from studykit.methods import Method, create_methods
from studykit.study import Cell, Study

_PACKAGES = (
    "numpy", "scipy", "scikit-image", "av", "pillow", "dlib-bin", "numba", "paddlepaddle",
    "paddlepaddle-gpu", "ppgan", "papermill", "nbconvert", "ipykernel", "matplotlib",
)  # fmt: skip


@dataclass(frozen=True)
class Equipped:
    """A method with what it runs on, found once for all of its cells.

    Attributes
    ----------
    weights, weights_hash : str
        Name and SHA-256 of its weights, empty where it has none.
    error : StudyError or None
        Why it can't run at all, such as weights that can't be fetched.
    """

    method: Method
    device: str = "cpu"
    weights: str = ""
    weights_hash: str = ""
    error: StudyError | None = None


def equip(method: Method) -> Equipped:
    """Find a method's device and weights, fetching what is not there yet."""
    try:
        device = method.device_used() if hasattr(method, "device_used") else "cpu"
        if not hasattr(method, "weights_hash"):
            return Equipped(method, device)
        return Equipped(method, device, str(method.weights), method.weights_hash())
    except StudyError as error:
        return Equipped(method, error=error)


def equip_all(study: Study, device: str = "auto") -> dict[str, Equipped]:
    """Make and equip every method of a study, by its name there.

    Raises
    ------
    StudyFileError
        A method or a setting of it does not exist.
    """
    return {name: equip(method) for name, method in create_methods(study, device).items()}


def cache_key(cell: Cell, study: Study, equipped: Equipped) -> str:
    """Hash everything that a cell's clip depends on; "" when a part of it can't be had."""
    method = equipped.method
    try:
        inputs = [cell.source.path, cell.driving.path]
        if hasattr(method, "inputs"):
            inputs += method.inputs(cell.source.name, cell.driving.name)
        settings = method_settings(method)
        settings.pop("device", None)
        parts = {
            "studykit": studykit.__version__,
            "inputs": [files.sha256(path) for path in inputs],
            "size": study.size,
            "crop": study.crop,
            "method": cell.method.method,
            "settings": settings,
            "weights": equipped.weights_hash,
        }
    except (StudyError, OSError):
        return ""
    if equipped.error is not None:
        return ""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def clip_holds(row: CellRow | None, key: str, out: Path) -> bool:
    """Say whether a cell's clip is there and made from just what the study names now."""
    return (
        row is not None
        and row.status == "done"
        and row.cache_key == key != ""
        and (out / row.clip).is_file()
    )


def method_settings(method: Method) -> dict[str, Any]:
    """Return a method's settings, defaults included."""
    return {field.name: getattr(method, field.name) for field in dataclasses.fields(method)}


def write_manifest(study: Study, methods: dict[str, Equipped], out: Path) -> None:
    """Write manifest.json: everything that is needed to repeat the study.

    Versions, machine and devices, seed, settings, and the SHA-256 of every input and weight.
    """
    versions = {"studykit": studykit.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    manifest = {
        "study": study.name,
        "study_file": study.path.read_text(encoding="utf-8"),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seed": study.seed,
        "size": study.size,
        "crop": study.crop,
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": usable_cores(),
        },
        "versions": versions,
        "inputs": {
            str(item.path): {
                "name": item.name,
                "type": item.type,
                "sha256": files.sha256(item.path),
            }
            for item in (*study.sources, *study.drivings)
        },
        "methods": {
            spec.name: {
                "method": spec.method,
                "settings": method_settings(methods[spec.name].method),
                "device": methods[spec.name].device,
                "weights": methods[spec.name].weights,
                "weights_hash": methods[spec.name].weights_hash,
            }
            for spec in study.methods
        },
    }
    with files.whole(out / "manifest.json") as part:
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        part.write_text(f"{text}\n", encoding="utf-8")


def usable_cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
