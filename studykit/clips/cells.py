"""cells.csv: one row a cell, appended as soon as the cell is finished, so a killed run goes on.

Rows are read and written as a stream, since a study may have more cells than memory should hold.
"""

import csv
import dataclasses
import io
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from studykit import files


@dataclass(frozen=True, slots=True)
class CellRow:
    """What became of one cell.

    Attributes
    ----------
    status : {"done", "failed"}
    error, note : str
        Why it failed; what a reader should know of a clip that was made (a centre crop, say).
    seconds : float
        Wall time of the cell: reading, inference and writing.
    frames : int
        Frames written.
    weights, weights_hash : str
        Name and SHA-256 of the weights, empty for methods without any.
    cache_key : str
        SHA-256 over everything that the clip depends on; a cell is made again when it changes.
    """

    cell: str
    source: str
    source_type: str
    driving: str
    driving_type: str
    method: str
    status: str
    error: str = ""
    note: str = ""
    seconds: float = 0.0
    frames: int = 0
    device: str = ""
    weights: str = ""
    weights_hash: str = ""
    cache_key: str = ""

    @property
    def clip(self) -> str:
        """The clip's path inside the study's folder."""
        return f"clips/{self.cell}.mp4"


_FIELDS = [field.name for field in dataclasses.fields(CellRow)]
_HEADER = (",".join(_FIELDS) + "\n").encode()
# What stands in row after row, and so is kept in memory once.
_REPEATED = ("source", "source_type", "driving", "driving_type", "method", "status", "device",
             "weights", "weights_hash")  # fmt: skip
_BLOCK = 1 << 16


class CellTable(Sequence[CellRow]):
    """The rows of a cells.csv, read from the file each time that they are asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[CellRow]:
        return (row for _, row in scan(self._path))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, index: int | slice) -> CellRow | list[CellRow]:
        if isinstance(index, slice):
            return list(self)[index]
        if index < 0:
            index += len(self)
        for row in itertools.islice(self, max(index, 0), None) if index >= 0 else ():
            return row
        raise IndexError(f"no row {index} in {self._path}")


def append(path: Path, row: CellRow) -> int:
    """Append a row in one write, on the disk before this returns; return where it begins."""
    with path.open("ab") as file:
        start = _whole_length(path)
        file.truncate(start)  # a killed run may have left half a row
        if not start:
            start = file.write(_HEADER)
        file.write(_line(row))
        file.flush()
        os.fsync(file.fileno())
    return start


def scan(path: Path) -> Iterator[tuple[int, CellRow]]:
    """Yield each whole row as it stands in the file, with where it begins, in bytes.

    A file with other columns, written by another version, has no rows: every cell is made again.
    """
    if not has_columns(path):
        return
    with path.open("rb") as file:
        start = len(file.readline())
        for line in file:
            try:
                row = _row(line) if line.endswith(b"\n") else None
            except (ValueError, StopIteration):
                row = None  # edited by hand: it counts as not there
            if row is not None:
                yield start, row
            start += len(line)


def rows_at(path: Path, starts: Iterable[int]) -> Iterator[CellRow]:
    """Yield the rows that begin at these bytes, as :func:`append` and :func:`scan` tell them."""
    with path.open("rb") as file:
        for start in starts:
            file.seek(start)
            yield _row(file.readline())


def has_columns(path: Path) -> bool:
    """Say whether a file is there with just the columns of today's rows."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.readline() == _HEADER


def read_cells(path: Path) -> dict[str, CellRow]:
    """Return the last row of each cell by its name; a half-written row counts as not there."""
    return {row.cell: row for _, row in scan(path)}


def rewrite(path: Path, rows: Iterable[CellRow]) -> None:
    """Put just these rows into the file, whole or not at all."""
    with files.whole(path) as part, part.open("wb") as file:
        file.write(_HEADER)
        file.writelines(map(_line, rows))


def _line(row: CellRow) -> bytes:
    text = io.StringIO()
    values = dataclasses.asdict(row) | {"seconds": f"{row.seconds:.3f}"}
    # A row is one line, whatever stands in its error.
    csv.writer(text, lineterminator="\n").writerow(
        " ".join(str(value).split()) for value in values.values()
    )
    return text.getvalue().encode()


def _row(line: bytes) -> CellRow:
    values = dict(zip(_FIELDS, next(csv.reader([line.decode()])), strict=True))
    for name in _REPEATED:
        values[name] = sys.intern(values[name])
    return CellRow(
        **values | {"seconds": float(values["seconds"]), "frames": int(values["frames"])}
    )


def _whole_length(path: Path) -> int:
    """Return the length of the file up to its last line break, in bytes."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _BLOCK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0
