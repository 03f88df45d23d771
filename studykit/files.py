"""Files that are whole or not there, locks that end with their process, and what is in a file."""

import contextlib
import errno
import functools
import hashlib
import os
import re
import sys
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from studykit.errors import StudyError, StudyFileError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

LONGEST_NAME = 200  # bytes of a clip's name, so that file systems take what is put beside it too


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary name in the same folder; it becomes ``path`` at the end, if all went well.

    The temporary name keeps the suffix, by which libraries choose a format, and names the
    process, so that :func:`remove_partial` knows what a killed one has left.

    Raises
    ------
    OSError
        The folder can't be made or written.
    """
    path = Path(path)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


@contextlib.contextmanager
def written(
    path: str | Path, otherwise: str, kind: type[StudyError] = StudyError
) -> Iterator[Path]:
    """Give a temporary name as :func:`whole` does; a file that fails is one line for the user.

    Parameters
    ----------
    path : str or Path
    otherwise : str
        What to do where it can't be written: how that line ends.
    kind : type
        Of the error.

    Raises
    ------
    StudyError
        The file can't be written.
    """
    try:
        with whole(path) as part:
            yield part
    except OSError as error:
        raise kind(f"can't write {path} ({error.strerror}): {otherwise}") from None


def remove_partial(folder: Path, *, of_all: bool = False) -> None:
    """Remove what killed processes of this machine have left half-written in a folder.

    ``of_all`` removes what living ones write too, where a lock says that none does: a process of
    another machine, or of a container's last start, may have the number of one that lives here.
    """
    for part in folder.rglob(".*.part*"):
        match = re.search(r"\.(\d+)\.part", part.name)
        if match and (of_all or not _is_alive(int(match[1]))):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, patience: float, occupied: str) -> Iterator[None]:
    """Hold a lock that the system drops when this process ends, however it ends.

    Parameters
    ----------
    path : Path
        The lock's file, which is there while the lock is held and names the process.
    patience : float
        How long to wait for another process to let go, in seconds.
    occupied : str
        The error's text when it does not; ``{holder}`` stands for the other process.

    Raises
    ------
    StudyError
        Another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    while True:
        try:
            file = path.open("a+")
        except OSError as error:
            raise StudyError(f"{path} can't be a lock ({error.strerror}): remove it") from None
        if _lock(file):
            # Whoever held it may have removed the file meanwhile: then the lock is of no file.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break
        elif time.monotonic() > deadline:
            with file:
                file.seek(0)
                raise StudyError(occupied.replace("{holder}", file.read() or "unknown"))
        file.close()
        time.sleep(0.1)
    with file:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(PermissionError):  # Windows removes no file that is open
                path.unlink(missing_ok=True)


def as_it_lies(path: Path) -> Path:
    """Return where a file lies whose name may be written in another form of Unicode there.

    macOS and archives that were packed there write "é" as two characters (NFD), others as one.
    """
    if is_there(path):
        return path
    try:
        beside = [other for other in path.parent.iterdir() if not other.name.isascii()]
    except (OSError, ValueError):
        return path
    wanted = unicodedata.normalize("NFC", path.name)
    return next((p for p in beside if unicodedata.normalize("NFC", p.name) == wanted), path)


def for_spreadsheets(text: str) -> str:
    """Return a text as no spreadsheet takes for a formula: after ' where it begins like one.

    What is a number as a whole stays as it is; :func:`from_spreadsheet` takes the sign off again.
    """
    if not _FORMULA.match(text) or _NUMBER.fullmatch(text):
        return text
    return f"'{text}"


def from_spreadsheet(text: str) -> str:
    """Return a text as it was before :func:`for_spreadsheets`."""
    return text[1:] if text[:1] == "'" and _FORMULA.match(text[1:]) else text


def cells_for_spreadsheets(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table whose texts are all as :func:`for_spreadsheets` gives them."""
    texts = [name for name in table.columns if table[name].dtype.kind == "O"]
    guarded = {
        name: table[name]
        .astype(object)
        .map(lambda value: for_spreadsheets(value) if isinstance(value, str) else value)
        for name in texts
    }
    return table.assign(**guarded)


_FORMULA = re.compile(r"'*[\s\x00-\x1f]*[=+\-@\uff1d\uff0b\uff0d\uff20]|'*[\t\r\n]")
_NUMBER = re.compile(r"[+-]?[\d.]+(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def is_there(path: str | Path) -> bool:
    """Say whether a path leads to a file; one that is too long for any file leads to none."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, hashing it again only when its size or time has changed.

    Raises
    ------
    OSError
        It can't be read.
    """
    stat = os.stat(path)
    return _sha256(str(path), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4096)  # clips made elsewhere are as many as a study's cells
def _sha256(path: str, _size: int, _modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lock(file: IO[str]) -> bool:
    """Lock a file for this process if no other has locked it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1 << 20)  # beyond the text, which others may read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)  # or it can't lock
    return True


def _is_alive(process: int) -> bool:
    """Say whether a process of this machine is running."""
    if sys.platform == "win32":  # where a signal 0 would end it
        import ctypes

        found = ctypes.windll.kernel32.OpenProcess(0x1000, False, process)
        return bool(found and ctypes.windll.kernel32.CloseHandle(found))
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def notebook_path(name: str) -> Path:
    """Return where one of studykit's notebooks is: in the repository, or in the package.

    Raises
    ------
    StudyFileError
        There is no such notebook.
    """
    package = Path(__file__).parent
    folders = (package.parent / "notebooks", package / "notebooks")
    for folder in folders:
        if (folder / f"{name}.ipynb").is_file():
            return folder / f"{name}.ipynb"
    known = {path.stem for folder in folders for path in folder.glob("*.ipynb")}
    raise StudyFileError(f'no notebook "{name}": {did_you_mean(name, known)}')
