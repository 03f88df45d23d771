"""What a study has left in its folder, read once for the whole report."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studykit.cells import CellRow, read_cells
from studykit.study import Cell, Study, load_study


@dataclass(frozen=True)
class Results:
    """A study, the folder of its results, its cells' rows by name, and its manifest."""

    study: Study
    out: Path
    rows: dict[str, CellRow]
    manifest: dict[str, Any]

    def clip_of(self, cell: Cell) -> tuple[Path | None, str]:
        """Return where a cell's clip is, or None and why there is none."""
        row = self.rows.get(cell.name)
        if row is None or row.status != "done":
            return None, row.error if row is not None else "not run yet"
        clip = self.out / row.clip
        return (clip, "") if clip.is_file() else (None, f"{row.clip} was removed: run the study")


def load_results(study: str | Path, out: str | Path) -> Results:
    """Read a study's folder; what is not there yet is empty.

    Raises
    ------
    StudyFileError
        The study file is wrong.
    """
    out, loaded = Path(out), load_study(study)
    manifest = out / "manifest.json"
    return Results(
        study=loaded,
        out=out,
        rows=read_cells(out / "cells.csv"),
        manifest=json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {},
    )
