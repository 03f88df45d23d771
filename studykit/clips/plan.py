"""Which cells of a study are still to be made, found without holding them.

Of a cell only sixteen bytes are kept: where its row begins in cells.csv, and a hash
of the key of the clip that is there.
"""

import hashlib
from array import array
from collections.abc import Iterator
from pathlib import Path

from studykit.clips.cells import CellRow, CellTable, append, has_columns, rewrite, rows_at, scan
from studykit.clips.provenance import Equipped, cache_keys
from studykit.study.file import Cell, Study

_NO_ROW, _NO_CLIP = -1, 0


class Plan:
    """A study's cells, in order, beside what its folder holds of them.

    Parameters
    ----------
    study : Study
    methods : dict of Equipped
        By their names in the study.
    out : Path
        The folder of its results.
    """

    def __init__(self, study: Study, methods: dict[str, Equipped], out: Path) -> None:
        self._study, self._out = study, out
        self._table = out / "cells.csv"
        self._key = cache_keys(study, methods)
        self._methods, self._sources, self._drivings, self._firsts = (
            {item.name: number for number, item in enumerate(items)}
            for items in (study.methods, study.sources, study.drivings, study.first_frames)
        )
        if "cross-identity" not in study.protocols:
            self._sources = {}
        self._crossed = len(self._sources) * len(study.drivings)
        count = len(study.methods) * (self._crossed + len(self._firsts))
        self._rows = array("q", [_NO_ROW]) * count
        self._clips = array("Q", [_NO_CLIP]) * count
        self._tidy = True
        latest = -1
        for start, row in scan(self._table):
            place = self._place(row)
            self._tidy = self._tidy and place is not None and place > latest
            if place is not None:
                self._remember(latest := place, start, row)

    def cells(self, only: str | None = None) -> Iterator[tuple[Cell, str, bool]]:
        """Yield each cell, the key of what its clip depends on, and whether its clip holds.

        ``only`` keeps those of one method, or one cell, by name.
        """
        for place, cell in enumerate(self._study.cells()):
            if only in (None, cell.method.name, cell.name):
                key = self._key(cell)
                made = self._clips[place] == _shortened(key) != _NO_CLIP
                yield cell, key, made and (self._out / f"clips/{cell.name}.mp4").is_file()

    def add(self, row: CellRow) -> None:
        """Append a row to cells.csv, where it stands for its cell from now on."""
        if not has_columns(self._table):
            rewrite(self._table, [])
        self._remember(self._place(row), append(self._table, row), row)
        self._tidy = False

    def tidy(self) -> CellTable:
        """Leave one row a cell in cells.csv, in the study's order, and return them."""
        if not self._tidy:
            starts = (start for start in self._rows if start != _NO_ROW)
            rewrite(self._table, rows_at(self._table, starts))
        return CellTable(self._table)

    def _place(self, row: CellRow) -> int | None:
        """Return which cell of the study a row is of, by its number, None if of no one."""
        method, driving = self._methods.get(row.method), self._drivings.get(row.driving)
        if method is None or driving is None:
            return None
        before = method * (self._crossed + len(self._firsts))
        if row.source in self._sources:
            return before + self._sources[row.source] * len(self._drivings) + driving
        if self._firsts.get(row.source) == driving:
            return before + self._crossed + driving
        return None

    def _remember(self, place: int, start: int, row: CellRow) -> None:
        self._rows[place] = start
        self._clips[place] = _shortened(row.cache_key) if row.status == "done" else _NO_CLIP


def _shortened(key: str) -> int:
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest) if key else _NO_CLIP
