"""The study file: which sources, drivings and methods are crossed, and by which rules.

One YAML file names everything, so that a study can be repeated from that file and its inputs.
"""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from studykit.errors import StudyFileError, did_you_mean

CropRule = Literal["face", "face-or-centre", "centre"]
TYPES = ("frontal", "side", "stylised")


@dataclass(frozen=True)
class Input:
    """A source image or a driving video of a study."""

    name: str
    type: str
    path: Path


@dataclass(frozen=True)
class MethodSpec:
    """A method as a study uses it: its name there, the method, its settings, its line in the file.

    The settings are checked where methods are made: ``studykit.methods.create_methods``.
    """

    name: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    line: int = 0


@dataclass(frozen=True)
class Cell:
    """One source x one driving x one method."""

    source: Input
    driving: Input
    method: MethodSpec

    @property
    def name(self) -> str:
        return f"{self.source.name}__{self.driving.name}__{self.method.name}"


@dataclass(frozen=True)
class Ratings:
    """How clips are rated: steps of the scale, and how many raters a condition needs."""

    scale: int = 5
    raters_min: int = 15


@dataclass(frozen=True)
class Study:
    """A study as its file describes it; every path in it exists.

    Attributes
    ----------
    size : int
        Side of the square that the methods work on, in pixels.
    crop : {"face", "face-or-centre", "centre"}
        How inputs become squares: around the largest face, where "face" makes a missing face an
        error and "face-or-centre" falls back to the centred square and says so; or always centred.
    """

    name: str
    sources: tuple[Input, ...]
    drivings: tuple[Input, ...]
    methods: tuple[MethodSpec, ...]
    path: Path
    seed: int = 0
    size: int = 256
    crop: CropRule = "face"
    ratings: Ratings = Ratings()

    def cells(self, only: str | None = None) -> Iterator[Cell]:
        """Yield the cells, all drivings of a source together, so that it is prepared once.

        ``only`` keeps those of one method, or one cell, by name.
        """
        for method in self.methods:
            for source in self.sources:
                for driving in self.drivings:
                    cell = Cell(source, driving, method)
                    if only in (None, method.name, cell.name):
                        yield cell

    def check_only(self, only: str | None) -> None:
        """Refuse an ``only`` that names no method and no cell."""
        if next(self.cells(only), None) is None:
            names = [method.name for method in self.methods]
            raise StudyFileError(f'no method or cell "{only}": {did_you_mean(only, names)}')


def load_study(path: str | Path) -> Study:
    """Read and check a study file.

    Raises
    ------
    StudyFileError
        The file is missing or not YAML; an unknown key, a value of the wrong kind, a missing
        input or a duplicate name, with its line.
    """
    path = Path(path)
    document = _Document(path)
    keys = document.mapping((), known=_KEYS, needed=("name", "sources", "drivings", "methods"))
    name = document.text(("name",))
    if slug(name) != name:
        raise document.error(
            ("name",), f'name "{name}" becomes a folder: letters, digits, ".", "-", "_" only'
        )
    size = document.number(("size",), low=64, high=2048) if "size" in keys else Study.size
    if size % 32:
        raise document.error(("size",), f"size must be a multiple of 32, not {size}")
    rating_keys = document.mapping(("ratings",), known=("scale", "raters_min"), optional=True)
    return Study(
        name=name,
        path=path,
        seed=document.number(("seed",), low=0) if "seed" in keys else Study.seed,
        size=size,
        crop=document.choice(("crop",), get_args(CropRule)) if "crop" in keys else Study.crop,
        sources=_inputs(document, "sources"),
        drivings=_inputs(document, "drivings"),
        methods=_methods(document),
        ratings=Ratings(**{key: document.number(("ratings", key), low=1) for key in rating_keys}),
    )


def slug(text: str) -> str:
    """Turn a text into a name that is safe in file names and has no double underscore.

    >>> slug("my photo__(2)")
    'my-photo_2'
    """
    text = re.sub(r"[^\w.-]+", "-", text.strip())
    return re.sub(r"_{2,}-?", "_", text).strip("-._")


_KEYS = ("name", "seed", "size", "crop", "sources", "drivings", "methods", "ratings")


def _inputs(document: "_Document", section: str) -> tuple[Input, ...]:
    found: list[Input] = []
    lines: dict[str, int] = {}
    for kind in document.mapping((section,), known=TYPES):
        for index, entry in enumerate(document.sequence((section, kind))):
            where = (section, kind, index)
            if not isinstance(entry, str):
                raise document.error(where, f"a path is expected, not {entry!r}")
            path = document.folder / entry
            if not path.is_file():
                near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
                near = difflib.get_close_matches(path.name, near, n=5, cutoff=0) or near
                hint = did_you_mean(path.name, near) if near else "the folder is missing too"
                raise document.error(where, f"no file {path}: {hint}")
            name = slug(path.stem)
            alike = name.casefold()  # some file systems hold Anna and anna for one
            if alike in lines:
                raise document.error(
                    where,
                    f'duplicate name "{name}" in {section} (line {lines[alike]}): rename one file',
                )
            lines[alike] = document.line(where)
            found.append(Input(name, kind, path))
    if not found:
        raise document.error((section,), f"{section} is empty: name at least one file")
    return tuple(found)


def _methods(document: "_Document") -> tuple[MethodSpec, ...]:
    found: dict[str, MethodSpec] = {}
    for index, entry in enumerate(document.sequence(("methods",))):
        where = ("methods", index)
        if isinstance(entry, str):
            entry = {"name": entry}
        if not isinstance(entry, dict):
            raise document.error(where, f"a method's name or a mapping is expected, not {entry!r}")
        settings = dict(entry)
        method = settings.pop("method", None) or settings.get("name")
        name = settings.pop("name", method)
        if not isinstance(name, str) or not isinstance(method, str):
            raise document.error(where, 'a method needs a "name"')
        if slug(name) != name:
            raise document.error(where, f'method name "{name}" is no file name: try "{slug(name)}"')
        if name in found:
            raise document.error(where, f'duplicate method name "{name}": give each its own "name"')
        for key in ("path", "config", "weights"):
            value = settings.get(key)
            is_name = key == "weights" and not (document.folder / str(value)).is_file()
            if isinstance(value, str) and not is_name:
                settings[key] = str(document.folder / value)
        found[name] = MethodSpec(name, method, settings, document.line(where))
    if not found:
        raise document.error(("methods",), "methods is empty: name at least one")
    return tuple(found.values())


class _Document:
    """A YAML file whose values are looked up by key path, with the line for each error."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path.parent
        self._lines: dict[tuple, int] = {(): 1}
        try:
            text = path.read_text(encoding="utf-8")
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            if root is not None:
                self._mark((), root)
            self._data = yaml.safe_load(text)
        except FileNotFoundError:
            raise StudyFileError(f"no study file {path}: check its path") from None
        except OSError as error:
            raise StudyFileError(f"{path} can't be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise StudyFileError(f"{path} is not a text file: a study file is YAML") from None
        except ValueError as error:  # such as a date that no calendar has
            raise StudyFileError(f"{path}: {error}: mend the YAML") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or "not YAML"
            raise StudyFileError(f"{path}{line}: {problem}: mend the YAML") from None
        if not isinstance(self._data, dict):
            raise self.error((), f"a study file is a mapping with the keys {', '.join(_KEYS)}")

    def _mark(self, where: tuple, node: yaml.Node) -> None:
        self._lines.setdefault(where, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                if key.value in seen:
                    raise StudyFileError(
                        f'{self.path}, line {key.start_mark.line + 1}: key "{key.value}" '
                        "stands twice: remove one"
                    )
                seen.add(key.value)
                self._lines[(*where, key.value)] = key.start_mark.line + 1
                self._mark((*where, key.value), value)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._mark((*where, index), value)

    def line(self, where: tuple) -> int:
        return self._lines.get(where) or self.line(where[:-1])

    def error(self, where: tuple, text: str) -> StudyFileError:
        return StudyFileError(f"{self.path}, line {self.line(where)}: {text}")

    def value(self, where: tuple) -> Any:
        data = self._data
        for key in where:
            data = data[key] if isinstance(key, int) else data.get(key)
        return data

    def mapping(
        self, where: tuple, *, known: tuple, needed: tuple = (), optional: bool = False
    ) -> dict:
        data = self.value(where)
        if data is None and optional:
            return {}
        if not isinstance(data, dict):
            raise self.error(where, f"{where[-1]} must be a mapping with {', '.join(known)}")
        for key in data:
            if key not in known:
                raise self.error(
                    (*where, key), f'unknown key "{key}": {did_you_mean(str(key), known)}'
                )
        for key in needed:
            if key not in data:
                raise self.error(where, f'the key "{key}" is missing')
        return data

    def sequence(self, where: tuple) -> list:
        data = self.value(where)
        if not isinstance(data, list):
            raise self.error(where, f"{where[-1]} must be a list, [..] or lines that begin with -")
        return data

    def text(self, where: tuple) -> str:
        data = self.value(where)
        if not isinstance(data, str) or not data:
            raise self.error(where, f"{where[-1]} must be a text, not {data!r}")
        return data

    def number(self, where: tuple, *, low: int, high: int | None = None) -> int:
        data = self.value(where)
        if not isinstance(data, int) or isinstance(data, bool) or data < low:
            raise self.error(where, f"{where[-1]} must be a whole number >= {low}, not {data!r}")
        if high is not None and data > high:
            raise self.error(where, f"{where[-1]} must be at most {high}, not {data!r}")
        return data

    def choice(self, where: tuple, known: tuple) -> str:
        data = self.value(where)
        if data not in known:
            raise self.error(where, f'no {where[-1]} "{data}": {did_you_mean(str(data), known)}')
        return data
