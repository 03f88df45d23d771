"""What a method finds in a driving's frames, kept on disk: one driving moves many sources."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from studykit import files
from studykit.media.squares import Driving

LIMIT = 1 << 30  # bytes on disk, of all drivings and methods together
_IN_MEMORY = 1 << 22


def cache_folder() -> Path:
    """Return the folder of what is kept between runs: ``STUDYKIT_CACHE``, or the user's own."""
    if folder := os.environ.get("STUDYKIT_CACHE"):
        return Path(folder).expanduser()
    import pooch

    return Path(pooch.os_cache("studykit"))


def kept(
    driving: Driving, found_by: str, find: Callable[[], Iterable[np.ndarray]]
) -> Iterator[np.ndarray]:
    """Yield what ``find()`` yields for each frame of a driving; the next time, from the disk.

    Rows pass one by one. They are kept once all of them were taken, in the cache folder, from
    which those that were not used for longest go when they take more than ``LIMIT`` together.

    Parameters
    ----------
    driving : Driving
        Its ``key`` names its frames; without one nothing is kept.
    found_by : str
        All else that the rows depend on: the method, a version of how it finds them, the settings
        and the hash of the weights that matter.
    find : callable
        Gives one array a frame, all of one shape and type.

    Yields
    ------
    np.ndarray
    """
    if not driving.key:
        yield from find()
        return
    name = hashlib.sha256(f"{driving.key} {found_by}".encode()).hexdigest()[:40]
    path = cache_folder() / "drivings" / f"{name}.npy"
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            count, row = _layout(file)
        except (OSError, ValueError):  # not there, or damaged
            yield from _keeping(find(), driving.frame_count, path)
            return
        for _ in range(count):
            file.readinto(row.data)
            yield row.copy()
        with contextlib.suppress(OSError):  # it may be another user's
            os.utime(path)  # the newest stay


def _layout(file: BinaryIO) -> tuple[int, np.ndarray]:
    """Return how many rows a file has, and an empty one; the file is then at the first.

    Raises
    ------
    ValueError
        It is no such file, or not as long as it should be.
    """
    np.lib.format.read_magic(file)
    (count, *shape), _, dtype = np.lib.format.read_array_header_1_0(file)
    row = np.empty(shape, dtype)
    if os.fstat(file.fileno()).st_size != file.tell() + count * row.nbytes:
        raise ValueError("it is not whole")
    return count, row


def _keeping(rows: Iterable[np.ndarray], frame_count: int, path: Path) -> Iterator[np.ndarray]:
    row, count = None, 0
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spool:
        for row in rows:
            spool.write(np.ascontiguousarray(row).data)
            count += 1
            yield row
        if count != frame_count or not count:
            return
        header = {
            "descr": np.lib.format.dtype_to_descr(row.dtype),
            "fortran_order": False,
            "shape": (count, *row.shape),
        }
        spool.seek(0)
        # A folder that can't be written costs time only: the rows are found again.
        with contextlib.suppress(OSError), files.whole(path) as part, part.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            shutil.copyfileobj(spool, file)
    _remove_oldest(path.parent)


def _remove_oldest(folder: Path) -> None:
    """Remove what was used longest ago until the rest is within the limit."""
    room = LIMIT
    with contextlib.suppress(OSError):  # another process may be removing the same
        found = [(path.stat(), path) for path in folder.glob("[!.]*.npy")]
        for stat, path in sorted(found, key=lambda entry: -entry[0].st_mtime):
            room -= stat.st_size
            if room < 0:
                path.unlink()
