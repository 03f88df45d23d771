"""Files that are whole or not there, and what is in them."""

import contextlib
import functools
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary name in the same folder; it becomes ``path`` at the end, if all went well.

    The temporary name keeps the suffix, by which libraries choose a format, and names the
    process, so that :func:`remove_partial` can tell what a killed one has left.

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


def remove_partial(folder: Path) -> None:
    """Remove what killed processes of this machine have left half-written in a folder."""
    import psutil

    for part in folder.rglob(".*.part*"):
        match = re.search(r"\.(\d+)\.part", part.name)
        if match and not psutil.pid_exists(int(match[1])):
            part.unlink(missing_ok=True)


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
