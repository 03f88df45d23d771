"""What a study has left in its folder, read once for the whole report."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from studykit import metrics as measured, stats
from studykit.clips.cells import CellRow, read_cells
from studykit.errors import StudyError
from studykit.ratings import RATING_COLUMNS
from studykit.ratings.design import Clip, study_clips
from studykit.ratings.screening import Coverage, Screening, coverage, screen_study
from studykit.study.file import TYPES, Cell, Input, Study, load_study


@dataclass(frozen=True, eq=False)
class Results:
    """A study, the folder of its results, and what stands in it.

    Attributes
    ----------
    study : Study
    out : Path
        The study's folder.
    rows : dict of CellRow
        By the cells' names.
    manifest : dict
        Empty before the study was run.
    ratings : DataFrame
        The ratings table with everybody's ratings; empty where nobody has rated.
    raters : DataFrame
        One row a session: rater, complete (whether it was finished; missing where it was not held
        here) and one column a question.
    metrics, metric_notes : DataFrame
        metrics.csv, and what could not be measured; empty where nothing was measured.
    withdrawn : int
        How many raters have withdrawn.
    """

    study: Study
    out: Path
    rows: dict[str, CellRow]
    manifest: dict[str, Any]
    ratings: pd.DataFrame
    raters: pd.DataFrame
    metrics: pd.DataFrame
    metric_notes: pd.DataFrame
    withdrawn: int = 0

    def clip_of(self, cell: Cell) -> tuple[Path | None, str]:
        """Return where a cell's clip is, or None and why there is none."""
        row = self.rows.get(cell.name)
        if row is None or row.status != "done":
            return None, row.error if row is not None else "not run yet"
        clip = self.out / row.clip
        return (clip, "") if clip.is_file() else (None, f"{row.clip} was removed: run the study")

    @property
    def made(self) -> list[CellRow]:
        """What is known of the cells that have a clip."""
        return [row for row in self.rows.values() if row.status == "done"]

    def curves(self, cell: str) -> Mapping[str, np.ndarray]:
        """Return a cell's figures frame by frame, empty where it was not measured."""
        return measured.curves(self.out, cell)

    @property
    def methods(self) -> list[str]:
        return [method.name for method in self.study.methods]

    @property
    def types(self) -> tuple[list[str], list[str]]:
        """The source types and the driving types that the study has, in their usual order."""
        sources = {source.type for source, _ in self.study.pairs()}
        drivings = {item.type for item in self.study.drivings}
        return [t for t in TYPES if t in sources], [t for t in TYPES if t in drivings]

    def sources_of(self, driving: Input) -> list[Input]:
        """Return the sources that a driving animates, its own reference frame among them."""
        return [source for source, its in self.study.pairs() if its == driving]

    @property
    def rated(self) -> bool:
        return not self.ratings.empty

    @property
    def simulated(self) -> bool:
        return self.rated and bool(self.ratings["simulated"].iloc[0])

    @cached_property
    def screening(self) -> Screening:
        """Who rated well: the ratings of all, and of those who are kept."""
        return screen_study(self.study, self.ratings)

    @cached_property
    def rateable(self) -> list[Clip]:
        """The clips for raters that were made."""
        return [clip for clip in study_clips(self.study) if clip.cell in self.rows
                and self.rows[clip.cell].status == "done"]  # fmt: skip

    @cached_property
    def coverage(self) -> Coverage:
        """How many ratings the clips that were made have, by raters who count."""
        return coverage(self.study, self.screening.kept, self.rateable)

    @cached_property
    def plan(self) -> stats.FrozenPlan | None:
        """The plan that was frozen; None where there is none."""
        return stats.read_plan(self.out)

    @cached_property
    def analysis(self) -> stats.Analysis:
        """The statistics of the kept raters: what the report speaks of."""
        rules = self.study.ratings
        return stats.analyse(
            self.ratings,
            self.metrics,
            scale=rules.scale,
            raters_min=rules.raters_min,
            excluded=self.screening.excluded,
            primary=self.study.plan.metrics,
        )


def load_results(study: str | Path, out: str | Path) -> Results:
    """Read a study's folder; what is not there yet is empty.

    Raises
    ------
    StudyFileError
        The study file is wrong.
    StudyError
        A primary metric of the plan is none; the ratings can't be read, or mix simulated raters
        with people.
    """
    out, loaded = Path(out), load_study(study)
    stats.check_plan(loaded)
    manifest = out / "manifest.json"
    ratings, raters, withdrawn = stored_ratings(loaded.name, out, loaded.ratings.store)
    return Results(
        study=loaded,
        out=out,
        rows=read_cells(out / "cells.csv"),
        manifest=json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {},
        ratings=ratings,
        raters=raters,
        metrics=measured.load(out),
        metric_notes=measured.notes(out),
        withdrawn=withdrawn,
    )


def stored_ratings(study: str, out: Path, store: str) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Read the ratings to report on, what those raters said of themselves, and how many withdrew.

    Parameters are those of :func:`studykit.ratings.store.place_to_read`.

    Raises
    ------
    StudyError
        They can't be read, or mix simulated raters with people.
    """
    from studykit.ratings.store import is_there, open_store, place_to_read

    columns, where = ["rater", "complete"], place_to_read(study, out, store)
    if not is_there(where):
        return pd.DataFrame(columns=list(RATING_COLUMNS)), pd.DataFrame(columns=columns), 0
    with open_store(where) as opened:
        ratings, sessions = opened.ratings(study), opened.sessions(study)
        withdrawn = opened.withdrawals(study)
    if ratings["simulated"].nunique() > 1:
        raise StudyError(
            f"the ratings of {study} in {where} mix simulated raters with people: keep the "
            "simulated ones in a store of their own"
        )
    known = set(ratings["rater"])
    raters = [
        {
            "rater": session.rater,
            "complete": len(session.trials) == session.answered if session.trials else None,
            **(session.questions or {}),
        }
        for session in sessions
        if session.rater in known
    ]
    return ratings, pd.DataFrame(raters, columns=None if raters else columns), withdrawn
