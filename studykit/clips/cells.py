"""cells.csv: one row a cell, appended as soon as the cell is finished, so a killed run goes on."""

import csv
import dataclasses
import io
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from studykit import files
from studykit.cache import file_hash

if TYPE_CHECKING:
    from studykit.study.file import Cell, Study


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
    version : str
        Of studykit, which made the clip.
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
    version: str = ""

    @property
    def clip(self) -> str:
        """The clip's path inside the study's folder."""
        return f"clips/{self.cell}.mp4"


_FIELDS = [field.name for field in dataclasses.fields(CellRow)]
_HEADER = (",".join(_FIELDS) + "\n").encode()


def append(path: Path, row: CellRow) -> None:
    """Append a row in one write, on the disk before this returns."""
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read() != b"\n":  # a killed run has left half a row
                file.seek(0)
                end = file.truncate(file.read().rfind(b"\n") + 1)
        file.write(_line(row) if end else _HEADER + _line(row))
        file.flush()
        os.fsync(file.fileno())


def read_cells(path: Path) -> dict[str, CellRow]:
    """Return the last row of each cell by its name; a half-written row counts as not there.

    Columns that another version has not written are empty; its own further ones are left out.
    """
    if not path.is_file():
        return {}
    header, *lines = path.read_bytes().split(b"\n")[:-1] or [b""]
    names, rows = header.decode().split(","), {}
    for line in lines:
        try:
            texts = map(files.from_spreadsheet, next(csv.reader([line.decode()])))
            values = dict(zip(names, texts, strict=True))
            values |= {"seconds": float(values["seconds"]), "frames": int(values["frames"])}
            row = CellRow(**{name: values[name] for name in _FIELDS if name in values})
        except (ValueError, StopIteration, KeyError, TypeError):
            continue  # edited by hand: it counts as not there
        rows[row.cell] = row
    return rows


def rewrite(path: Path, rows: Iterable[CellRow]) -> None:
    """Put just these rows into the file, whole or not at all."""
    with files.whole(path) as part:
        part.write_bytes(_text(rows))


class CellTable:
    """A study's cells, in order, beside what its folder holds of them.

    Parameters
    ----------
    study : Study
    out : Path
        The folder of its results.
    key : callable
        Gives the key of all that a cell's clip depends on, "" where that can't be had.
    keep : collection of str
        SHA-256 of clips that hold whatever their keys are, since people have rated them.
    """

    def __init__(
        self,
        study: "Study",
        out: Path,
        key: Callable[["Cell"], str],
        keep: Collection[str] = (),
    ) -> None:
        self._study, self._out, self._path = study, out, out / "cells.csv"
        self._key, self._keep = key, keep
        self._rows = read_cells(self._path)

    def cells(self, cells: Iterable["Cell"] | None = None) -> Iterator[tuple["Cell", str, bool]]:
        """Yield each cell, the key of what its clip depends on, and whether its clip holds.

        Without ``cells`` they are all of the study's.
        """
        for cell in self._study.cells() if cells is None else cells:
            yield cell, (key := self._key(cell)), self._holds(cell, key)

    def _holds(self, cell: "Cell", key: str) -> bool:
        row = self._rows.get(cell.name)
        if row is None or row.status != "done" or not (clip := self._out / row.clip).is_file():
            return False
        return row.cache_key == key != "" or (bool(self._keep) and file_hash(clip) in self._keep)

    def add(self, row: CellRow) -> None:
        """Append a row to cells.csv, where it stands for its cell from now on."""
        if not _has_columns(self._path):
            rewrite(self._path, self._rows.values())
        append(self._path, row)
        self._rows[row.cell] = row

    def tidy(self) -> list[CellRow]:
        """Leave one row a cell in cells.csv, in the study's order, and return them."""
        names = [cell.name for cell in self._study.cells()]
        rows = [self._rows[name] for name in names if name in self._rows]
        if not self._path.is_file() or self._path.read_bytes() != _text(rows):
            rewrite(self._path, rows)
        return rows


def _has_columns(path: Path) -> bool:
    """Say whether a file is there with just the columns of today's rows."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.readline() == _HEADER


def _text(rows: Iterable[CellRow]) -> bytes:
    return _HEADER + b"".join(map(_line, rows))


def _line(row: CellRow) -> bytes:
    text = io.StringIO()
    values = dataclasses.asdict(row) | {"seconds": f"{row.seconds:.3f}"}
    # A row is one line, whatever stands in its error.
    csv.writer(text, lineterminator="\n").writerow(
        files.for_spreadsheets(" ".join(str(value).split())) for value in values.values()
    )
    return text.getvalue().encode()
