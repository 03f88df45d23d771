"""What is kept between runs, and one rule for when it is stale.

A key covers the code that makes a thing (:func:`code_hash`), what it is made of
(:func:`file_hash`), settings and weights. All of it lies in one folder (:func:`cache_folder`).
"""

import ast
import contextlib
import functools
import hashlib
import io
import os
import re
import shutil
import tokenize
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from studykit import files
from studykit.errors import StudyError, did_you_mean

LIMIT = 1 << 30  # bytes of rows on disk, of all drivings and methods together
_PACKAGE = Path(__file__).parent
# Code that decides what is made, where, and how a failure reads, but never what is in it. What a
# study file says is in a key as values.
NEVER_IN_A_KEY = (
    "studykit.cache",
    "studykit.cli",
    "studykit.clips.executors",
    "studykit.clips.progress",
    "studykit.errors",
    "studykit.files",
    "studykit.machine",
    "studykit.study.file",
)


# What may name a file beside a module.
_FILE = re.compile(r"\w+\.\w+")


def cache_folder() -> Path:
    """Return the folder of what is kept between runs: ``STUDYKIT_CACHE``, or the user's own."""
    if folder := os.environ.get("STUDYKIT_CACHE"):
        return Path(folder).expanduser()
    import pooch

    return Path(pooch.os_cache("studykit"))


_inputs_folder: Path | None = None


@contextlib.contextmanager
def apart(folder: Path) -> Iterator[None]:
    """Keep what is found in inputs in this folder and not in the cache, for as long as this lasts.

    So nothing of a visitor's files stays where it outlives them.
    """
    global _inputs_folder
    _inputs_folder = folder
    try:
        yield
    finally:
        _inputs_folder = None


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file, also over runs hashed again only when its size or time changes.

    Raises
    ------
    OSError
        It can't be read.
    """
    return _remembered("sha256", Path(path), files.sha256, _inputs_folder)


KINDS = {
    "drivings": "what methods and metrics have found in drivings",
    "graphs": "graphs of networks for this processor",
    "benchmark": "faces that the benchmark has rendered",
    "imported": "checkpoints read from other formats",
    "hashes": "hashes of files that have not changed",
    "weights": "published checkpoints that were fetched",
}


def contents() -> dict[str, int]:
    """Return how many bytes of each of :data:`KINDS` are kept."""
    return {kind: sum(map(_bytes, _entries(kind))) for kind in KINDS}


def clear(*kinds: str) -> int:
    """Remove what is kept of these kinds and return how many bytes that were.

    Raises
    ------
    StudyError
        There is no such kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise StudyError(f'nothing of kind "{kind}" is kept: {did_you_mean(kind, KINDS)}')
    return _remove(entry for kind in kinds for entry in _entries(kind))


def limit(size: int) -> int:
    """Remove what was not used for longest until the rest is within ``size`` bytes.

    Fetched checkpoints stay, since another machine may have to be asked for them. Returns how many
    bytes were removed.
    """
    kept = [entry for kind in KINDS if kind != "weights" for entry in _entries(kind)]
    return _remove(_beyond(kept, size))


def _entries(kind: str) -> list[Path]:
    folder = cache_folder() if kind == "weights" else cache_folder() / kind
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return [path for path in found if path.is_file()] if kind == "weights" else found


def _bytes(entry: Path) -> int:
    files_in = entry.rglob("*") if entry.is_dir() else [entry]
    return sum(path.stat().st_size for path in files_in if path.is_file())


def _beyond(entries: Iterable[Path], size: int) -> Iterator[Path]:
    """Yield the entries that were not used for longest, without which the rest is within a size."""
    for entry in sorted(entries, key=lambda entry: -entry.stat().st_mtime):
        size -= _bytes(entry)
        if size < 0:
            yield entry


def _remove(entries: Iterable[Path]) -> int:
    freed = 0
    for entry in list(entries):
        with contextlib.suppress(OSError):  # another process may be removing the same
            freed += _bytes(entry)
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return freed


def code_hash(*modules: str) -> str:
    """Hash the code that makes something, as far as it can change what is made.

    It covers the modules named, all modules of studykit that these import, inside functions too,
    and the files beside a module that it names. Comments, docstrings, blank lines, imports for
    type checkers and :data:`NEVER_IN_A_KEY` do not count.

    Parameters
    ----------
    modules : str
        Full names of modules of studykit, such as ``"studykit.methods.warp"``, or paths of others.
    """
    return _code_hash(modules)


def covered(*modules: str) -> dict[str, str]:
    """Return each module that :func:`code_hash` covers, with the hash of its code."""
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if name in found or name in NEVER_IN_A_KEY or path is None:
            continue
        found[name], *imported = _remembered("code", path, _read_code).split("\n")
        waiting += imported
    return dict(sorted(found.items()))


@functools.cache
def _code_hash(modules: tuple[str, ...]) -> str:
    # Files by their names alone: a key is the same wherever the package lies.
    parts = [f"{Path(name).name} {digest}" for name, digest in covered(*modules).items()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _file_of(module: str) -> Path | None:
    """Return where a module of studykit lies, or a file that is named itself; else None."""
    if module.startswith("studykit."):
        base = _PACKAGE.joinpath(*module.split(".")[1:])
        found = (base.with_suffix(".py"), base / "__init__.py")
        return next((path for path in found if path.is_file()), None)
    return Path(module) if os.sep in module else None


def _read_code(path: Path) -> str:
    """Return a hash of a module's code, and the names of all of studykit that it uses.

    They stand on a line each. The hash is of its lines as they would be without comments,
    docstrings and blank lines. A file beside it that it names, such as a page's frame, counts as
    used.
    """
    if path.suffix != ".py":
        return files.sha256(path)
    text = path.read_text(encoding="utf-8")
    tree, lines, rows = ast.parse(text), ["", *text.split("\n")], set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        (row, column), (last, _) = token.start, token.end
        if token.type == tokenize.COMMENT:
            lines[row] = lines[row][:column].rstrip()
        elif token.type not in (tokenize.NL, tokenize.DEDENT, tokenize.ENDMARKER):
            rows.update(range(row, last + 1))
    nodes = list(_nodes(tree))
    for node in nodes:
        # A text that is a statement does nothing: it documents what is around it or before.
        if isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str):
            rows.difference_update(range(node.lineno, node.end_lineno + 1))
    code = "\n".join(lines[row] for row in sorted(rows))
    return "\n".join([hashlib.sha256(code.encode()).hexdigest(), *sorted(set(_used(nodes, path)))])


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield what a module is made of, but not what only type checkers read."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        for value in vars(node).values():
            parts = value if isinstance(value, list) else [value]
            waiting += [part for part in parts if isinstance(part, ast.AST) and part._fields]


def _used(nodes: Iterable[ast.AST], path: Path) -> Iterator[str]:
    """Yield what a module uses of studykit: modules, and files beside it that it names."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{name.name}" for name in node.names]
            yield from (name if _file_of(name) else node.module for name in inner)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            beside = path.with_name(node.value) if _FILE.fullmatch(node.value) else None
            yield from [str(beside)] if beside and beside.is_file() else []


def _remembered(
    kind: str, path: Path, find: Callable[[Path], str], folder: Path | None = None
) -> str:
    """Return what ``find`` finds in a file, from the cache where size and time are the same."""
    stat, reader = path.stat(), Path(__file__).stat()
    state = f"{stat.st_size} {stat.st_mtime_ns} {reader.st_mtime_ns}"
    name = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:40]
    note = (folder or cache_folder()) / "hashes" / f"{name}.{kind}"
    with contextlib.suppress(OSError, ValueError):
        seen, _, value = note.read_text(encoding="utf-8").partition("\n")
        if seen == state:
            return value
    value = find(path)
    with contextlib.suppress(OSError), files.whole(note) as part:
        part.write_text(f"{state}\n{value}", encoding="utf-8")
    return value


class Frames(Protocol):
    """What rows are kept of, such as a driving."""

    @property
    def key(self) -> str:
        """What names the frames; "" where nothing is to be kept."""

    @property
    def frame_count(self) -> int:
        """How many they are."""


def kept(
    frames: Frames, found_by: str, find: Callable[[], Iterable[np.ndarray]]
) -> Iterator[np.ndarray]:
    """Yield what ``find()`` yields for each frame; the next time, from the disk.

    They are kept once all of them were taken, in the cache folder, from which those that were not
    used for longest go when they take more than ``LIMIT`` together.

    Parameters
    ----------
    frames : Frames
        Without a ``key`` nothing is kept.
    found_by : str
        All else that the rows depend on: the method, a version of how it finds them, the settings
        and the hash of the weights that matter.
    find : callable
        Gives one array a frame, all of one shape and type.

    Yields
    ------
    np.ndarray
    """
    if not frames.key:
        yield from find()
        return
    name = hashlib.sha256(f"{frames.key} {found_by}".encode()).hexdigest()[:40]
    path = (_inputs_folder or cache_folder()) / "drivings" / f"{name}.npy"
    try:
        rows = np.load(path)
    except (OSError, ValueError, EOFError):  # not there, or damaged
        rows = []
        for row in find():
            rows.append(row)
            yield row
        if rows and len(rows) == frames.frame_count:
            # A folder that can't be written, or that others clear, costs time only.
            with contextlib.suppress(OSError):
                with files.whole(path) as part, part.open("wb") as file:
                    np.save(file, rows)
                _remove(_beyond(_entries("drivings"), LIMIT))
        return
    yield from rows
    with contextlib.suppress(OSError):  # it may be another user's
        os.utime(path)  # the newest stay
