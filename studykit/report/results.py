"""What a study has left in its folder, read once for the whole report."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studykit.cells import CellRow, read_cells
from studykit.study import Study, load_study


@dataclass(frozen=True)
class Results:
    """A study, the folder of its results, its cells' rows by name, and its manifest."""

    study: Study
    out: Path
    rows: dict[str, CellRow]
    manifest: dict[str, Any]


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
