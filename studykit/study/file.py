"""The study file: which sources, drivings and methods are crossed, and by which rules.

One YAML file names everything, so that a study can be repeated from that file and its inputs.
"""

import contextlib
import dataclasses
import difflib
import itertools
import os
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from studykit import files
from studykit.errors import StudyFileError, did_you_mean
from studykit.media.faces import Finder
from studykit.media.views import CropRule
from studykit.study.document import Document, brief
from studykit.study.hypotheses import Plan, read_plan_section
from studykit.study.inputs import Input, read_view, slug
from studykit.study.ratings import Ratings, read_ratings_section

Protocol = Literal["cross-identity", "same-identity"]
TYPES = ("frontal", "side", "stylised")


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

    @property
    def protocol(self) -> Protocol:
        """Whether the driving shows the source's own face, whose frames are then the truth."""
        same = self.source.path == self.driving.path
        return "same-identity" if same else "cross-identity"


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
    faces : {"auto", "mediapipe", "dlib"}
        What finds faces, in inputs, for methods and for metrics: the inputs' ``view.finder``.
    protocols : tuple of {"cross-identity", "same-identity"}
        Whether every source meets every driving, each driving meets its own reference frame, or
        both.
    plan : Plan
        What is expected and judged by, for ``studykit rate freeze``.
    listed : tuple of (str, str)
        The sources and drivings that meet, by name, where ``pairs`` lists them; () where all do.
    """

    name: str
    sources: tuple[Input, ...]
    drivings: tuple[Input, ...]
    methods: tuple[MethodSpec, ...]
    path: Path
    seed: int = 0
    size: int = 256
    crop: CropRule = "face"
    faces: Finder = "auto"
    ratings: Ratings = field(default_factory=Ratings)
    plan: Plan = field(default_factory=Plan)
    protocols: tuple[Protocol, ...] = ("cross-identity",)
    listed: tuple[tuple[str, str], ...] = ()

    @property
    def first_frames(self) -> tuple[Input, ...]:
        """The drivings' reference frames as sources, where "same-identity" is among the protocols.

        Each is named ``first-of-<driving>``, of the driving's type, and lies in the driving's file.
        """
        if "same-identity" not in self.protocols:
            return ()
        return tuple(
            dataclasses.replace(item, name=_FIRST_OF + item.name) for item in self.drivings
        )

    def pairs(self) -> Iterator[tuple[Input, Input]]:
        """Yield each source with each driving that it meets, all drivings of a source together."""
        if "cross-identity" in self.protocols:
            listed = frozenset(self.listed)
            for source, driving in itertools.product(self.sources, self.drivings):
                if not listed or (source.name, driving.name) in listed:
                    yield source, driving
        yield from zip(self.first_frames, self.drivings, strict=False)

    def cells(self, only: str | None = None) -> Iterator[Cell]:
        """Yield the cells, all drivings of a source together, so that it is prepared once.

        ``only`` keeps those of one method, or one cell, by name.

        Raises
        ------
        StudyFileError
            ``only`` names no method and no cell.
        """
        names = [method.name for method in self.methods]
        found = only in names
        for method in self.methods:
            for source, driving in self.pairs():
                cell = Cell(source, driving, method)
                if only in (None, method.name, cell.name):
                    found = True
                    yield cell
        if only is not None and not found:
            raise StudyFileError(f'no method or cell "{only}": {did_you_mean(only, names)}')

    def results_folder(self, out: str | Path | None = None) -> Path:
        """Return where the results lie, which need not be there: ``reports/<name>`` at first."""
        return Path(out) if out is not None else Path("reports") / self.name


def load_study(path: str | Path) -> Study:
    """Read and check a study file.

    Raises
    ------
    StudyFileError
        The file is missing or not YAML; an unknown key, a value of the wrong kind, a missing
        input or a duplicate name, with its line.
    """
    study, errors = read_study(path)
    if len(errors) > 1:
        more = f"and {len(errors) - 1} more: studykit check {path} lists all"
        raise type(errors[0])(f"{errors[0]} ({more})")
    for error in errors:
        raise error
    return study


def read_study(path: str | Path) -> tuple[Study, list[StudyFileError]]:
    """Read a study file as far as it can be read.

    Returns
    -------
    study : Study
        Without what is wrong; inputs that are missing are among its inputs.
    errors : list of StudyFileError
        All that is wrong, in the order of the file.

    Raises
    ------
    StudyFileError
        The file is missing or not YAML.
    """
    path = Path(path)
    document, errors = Document(path, _KEYS), list[StudyFileError]()
    with _gathered(errors):
        document.mapping((), known=_KEYS, needed=("name", "drivings", "methods"))
    given = document.value(())
    values: dict[str, Any] = {"name": path.stem, "sources": (), "drivings": (), "methods": ()}
    for key in given:
        if key in _READERS:
            with _gathered(errors):
                values[key] = _READERS[key](document, errors)
    for kind in ("sources", "drivings"):
        values[kind] = tuple(_seen_by(values.get("faces", "auto"), item) for item in values[kind])
    study = Study(path=path, **values)
    if "sources" not in given and "cross-identity" in study.protocols:
        errors.append(document.error((), 'the key "sources" is missing'))
    # A pair of what could not be read would be one error more.
    if given.get("pairs", "all") != "all" and all(isinstance(e, _MissingFile) for e in errors):
        with _gathered(errors):
            listed = _pairs(document, study.sources, study.drivings)
            met = [set(names) for names in zip(*listed, strict=True)]
            study = dataclasses.replace(
                study,
                listed=listed,  # what stands in no pair takes no part in the study
                sources=tuple(source for source in study.sources if source.name in met[0]),
                drivings=tuple(driving for driving in study.drivings if driving.name in met[1]),
            )
    if given.get("plan") is not None and not errors:
        with _gathered(errors):
            methods, inputs = [spec.name for spec in study.methods], study.sources + study.drivings
            plan = read_plan_section(document, study.ratings, methods, inputs)
            study = dataclasses.replace(study, plan=plan)
    with _gathered(errors):
        _check_lengths(document, study)
    return study, errors


def _check_lengths(document: Document, study: Study) -> None:
    """Refuse a clip's name that leaves no room in a file's name for what is put beside it."""
    longest = max(study.cells(), key=lambda cell: len(os.fsencode(cell.name)), default=None)
    if longest and (length := len(os.fsencode(longest.name))) > files.LONGEST_NAME:
        item = max(longest.source, longest.driving, key=lambda item: len(os.fsencode(item.name)))
        raise document.error(
            (),
            f"a clip's name would be {length} bytes long, at most {files.LONGEST_NAME} fit: rename "
            f"{item.path.name}, or give it a shorter name, {{path: .., name: ..}}",
        )


def _seen_by(finder: Finder, item: Input) -> Input:
    return dataclasses.replace(item, view=dataclasses.replace(item.view, finder=finder))


class _MissingFile(StudyFileError):
    """An input is not there; all else that is said of it stands."""


@contextlib.contextmanager
def _gathered(errors: list[StudyFileError]) -> Iterator[None]:
    """Put an error into a list and go on behind what raised it."""
    try:
        yield
    except StudyFileError as error:
        errors.append(error)


def _name(document: Document) -> str:
    name = document.text(("name",))
    if slug(name) != name:
        raise document.error(
            ("name",), f'name "{name}" becomes a folder: letters, digits, ".", "-", "_" only'
        )
    return name


def _size(document: Document) -> int:
    size = document.number(("size",), low=64, high=2048)
    if size % 32:
        raise document.error(("size",), f"size must be a multiple of 32, not {size}")
    return size


_KEYS = (
    "name", "seed", "size", "crop", "faces", "protocols", "sources", "drivings", "pairs",
    "methods", "ratings", "plan",
)  # fmt: skip
_FIRST_OF = "first-of-"


def _protocols(document: Document) -> tuple[Protocol, ...]:
    found: list[Protocol] = []
    for index in range(len(document.texts(("protocols",)))):
        name = document.choice(("protocols", index), get_args(Protocol), what="protocol")
        if name in found:
            raise document.error(("protocols", index), f'"{name}" stands twice: remove one')
        found.append(name)
    if not found:
        raise document.error(("protocols",), "protocols is empty: name at least one")
    return tuple(found)


def _inputs(document: Document, section: str, errors: list[StudyFileError]) -> tuple[Input, ...]:
    found: list[Input] = []
    lines: dict[str, int] = {}
    before = len(errors)
    for kind in document.mapping((section,), known=TYPES):
        with _gathered(errors):
            for index in range(len(document.sequence((section, kind)))):
                with _gathered(errors):
                    item = _input(document, (section, kind, index), lines)
                    found.append(item)
                    _require_file(document, (section, kind, index), item.path)
    if not found and len(errors) == before:
        raise document.error((section,), f"{section} is empty: name at least one file")
    return tuple(found)


def _require_file(document: Document, where: tuple, path: Path) -> None:
    if not files.is_there(path):
        near = _beside(path)
        near = difflib.get_close_matches(path.name, near, n=5, cutoff=0) or near
        hint = did_you_mean(path.name, near) if near else "the folder is missing too"
        raise _MissingFile(str(document.error(where, f"no file {path}: {hint}")))


def _beside(path: Path) -> list[str]:
    try:
        return [other.name for other in path.parent.iterdir()]
    except (OSError, ValueError):
        return []


def _alike(name: str) -> str:
    """Return what is the same for names that some file system holds for one, by case or accents."""
    return unicodedata.normalize("NFC", name.casefold())


def _input(document: Document, where: tuple, lines: dict[str, int]) -> Input:
    """Read a path, or a mapping that says more; ``lines`` are those of the names before it."""
    section, kind, _ = where
    given = document.value(where)
    if isinstance(given, str):
        given = {"path": given}
    if not isinstance(given, dict):
        raise document.error(
            where, f"a path or a mapping with a path is expected, not {brief(given)}"
        )
    view = read_view(
        given,
        still=section == "sources",
        refuse=lambda key, text: document.error((*where, key), text),
    )
    path = files.as_it_lies(document.folder / given["path"])
    name = given.get("name") or slug(path.stem)
    if not name:
        text = f"no name can be made of {path.name}: give it one, {{path: .., name: ..}}"
        raise document.error(where, text)
    if section == "sources" and name.startswith(_FIRST_OF):
        text = f'"{_FIRST_OF}" begins the names of drivings\' first frames: rename the file'
        raise document.error(where, text)
    if (same := _alike(name)) in lines:
        raise document.error(
            where,
            f'duplicate name "{name}" in {section} (line {lines[same]}): rename one file, or give '
            "one a name of its own, {path: .., name: ..}",
        )
    lines[same] = document.line(where)
    return Input(name, kind, path, view)


def _pairs(
    document: Document, sources: tuple[Input, ...], drivings: tuple[Input, ...]
) -> tuple[tuple[str, str], ...]:
    """Read which sources and drivings meet: pairs of names, or of paths as they stand above."""
    if not isinstance(given := document.value(("pairs",)), list):
        text = f"pairs must be all or a list of [source, driving], not {brief(given)}"
        raise document.error(("pairs",), text)
    found: dict[tuple[str, str], int] = {}
    for index, entry in enumerate(given):
        where, pair = ("pairs", index), []
        if not isinstance(entry, list) or len(entry) != 2:
            raise document.error(where, f"a pair is [source, driving], not {brief(entry)}")
        entry = document.texts(where)
        for place, (what, items) in enumerate((("source", sources), ("driving", drivings))):
            called = {item.name: item for item in items}
            name = unicodedata.normalize("NFC", entry[place])
            path = files.as_it_lies(document.folder / entry[place])
            alike = [item.name for item in items if item.path == path]
            if len(alike) > 1:
                text = f'"{name}" is the file of several {what}s: name {" or ".join(alike)}'
                raise document.error((*where, place), text)
            name = alike[0] if alike else name
            if name not in called:
                hint = did_you_mean(name, called)
                raise document.error((*where, place), f'no {what} "{name}": {hint}')
            pair.append(name)
        line = found.setdefault((pair[0], pair[1]), document.line(where))
        if len(found) == index:
            raise document.error(where, f"[{', '.join(pair)}] stands in line {line}: remove one")
    if not found:
        raise document.error(("pairs",), "pairs is empty: list some, or leave it out for all")
    return tuple(found)


def _methods(document: Document, errors: list[StudyFileError]) -> tuple[MethodSpec, ...]:
    found: dict[str, MethodSpec] = {}
    before = len(errors)
    for index in range(len(document.sequence(("methods",)))):
        with _gathered(errors):
            spec = _method(document, ("methods", index))
            if _alike(spec.name) in found:
                text = f'duplicate method name "{spec.name}": give each its own "name"'
                raise document.error(("methods", index), text)
            found[_alike(spec.name)] = spec
    if not found and len(errors) == before:
        raise document.error(("methods",), "methods is empty: name at least one")
    return tuple(found.values())


def _method(document: Document, where: tuple) -> MethodSpec:
    entry = document.value(where)
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, dict):
        raise document.error(where, f"a method's name or a mapping is expected, not {brief(entry)}")
    settings = dict(entry)
    method = settings.pop("method", None) or settings.get("name")
    name = settings.pop("name", method)
    if not isinstance(name, str) or not isinstance(method, str):
        raise document.error(where, 'a method needs a "name"')
    if slug(name) != name:
        raise document.error(where, f'method name "{name}" is no file name: try "{slug(name)}"')
    if method == "command":
        settings.setdefault("cwd", ".")
    for key in ("path", "config", "weights", "cwd"):
        value = settings.get(key)
        is_name = key == "weights" and not files.is_there(document.folder / str(value))
        if isinstance(value, str) and not is_name:
            settings[key] = str(document.folder / value)
    return MethodSpec(name, method, settings, document.line(where))


_READERS: dict[str, Callable[[Document, list[StudyFileError]], Any]] = {
    "name": lambda document, _: _name(document),
    "seed": lambda document, _: document.number(("seed",), low=0, high=2**63 - 1),
    "size": lambda document, _: _size(document),
    "crop": lambda document, _: document.choice(("crop",), get_args(CropRule)),
    "faces": lambda document, _: document.choice(("faces",), get_args(Finder)),
    "protocols": lambda document, _: _protocols(document),
    "sources": lambda document, errors: _inputs(document, "sources", errors),
    "drivings": lambda document, errors: _inputs(document, "drivings", errors),
    "methods": _methods,
    "ratings": lambda document, _: read_ratings_section(document, ("ratings",)),
}
