"""cells.csv: one row a cell, appended as soon as the cell is finished, so a killed run goes on."""

import csv
import dataclasses
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from studykit import files


@dataclass(frozen=True)
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


def append(path: Path, row: CellRow) -> None:
    """Append a row in one write, on the disk before this returns."""
    whole = _whole_length(path)
    if path.is_file() and path.stat().st_size > whole:
        os.truncate(path, whole)  # a killed run left half a row
    with path.open("ab") as file:
        file.write(_lines([row], header=whole == 0))
        file.flush()
        os.fsync(file.fileno())


def read_cells(path: Path) -> dict[str, CellRow]:
    """Return the last row of each cell by its name; a half-written row counts as not there."""
    rows: dict[str, CellRow] = {}
    text = path.read_bytes()[: _whole_length(path)].decode() if path.is_file() else ""
    reader = csv.DictReader(text.splitlines())
    if set(reader.fieldnames or ()) != set(_FIELDS):
        return rows  # written by a version with other columns: every cell is made again
    for values in reader:
        row = CellRow(**values)
        rows[row.cell] = dataclasses.replace(
            row, seconds=float(row.seconds), frames=int(row.frames)
        )
    return rows


def rewrite(path: Path, rows: Iterable[CellRow]) -> None:
    """Put just these rows into the file, whole or not at all."""
    with files.whole(path) as part:
        part.write_bytes(_lines(rows, header=True))


def _lines(rows: Iterable[CellRow], *, header: bool = False) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, _FIELDS, lineterminator="\n")
    if header:
        writer.writeheader()
    for row in rows:
        values = dataclasses.asdict(row) | {"seconds": f"{row.seconds:.3f}"}
        writer.writerow({key: " ".join(str(value).split()) for key, value in values.items()})
    return text.getvalue().encode()


def _whole_length(path: Path) -> int:
    """Return the length of the file up to its last line break, in bytes."""
    return path.read_bytes().rfind(b"\n") + 1 if path.is_file() else 0
