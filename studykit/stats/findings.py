"""Every claim that a study makes, a row each: what the report's words are made from."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pandas as pd

from studykit.stats.comparison import holm
from studykit.stats.crossed import Answers, contrasts
from studykit.stats.result import Result, in_words
from studykit.stats.table import criteria_of, levels_of, rated
from studykit.study.wording import OVERALL

THESE, LIKE = "these clips", "like these"
COLUMNS = ("claim", "scope", "subject", "versus", "criterion", "estimate", "low", "high", "p",
           "p_adjusted", "test", "reason")  # fmt: skip
_CROSSED = "t, raters and stimuli crossed"


def findings(
    ratings: pd.DataFrame,
    metrics: pd.DataFrame | None = None,
    *,
    scale: int = 5,
    level: float = 0.95,
) -> Result:
    """Return every claim of a study as a row.

    Returns
    -------
    Result
        Columns claim, scope ("these clips" or "like these"), subject, versus, criterion,
        estimate, low, high, p, p_adjusted (Holm, over all rows of a claim), test, reason (why
        nothing can be said; else empty).
    """
    rows = rated(ratings, scale=scale)
    found = [*_comparisons(rows, scale, level)]
    table = pd.DataFrame(found, columns=COLUMNS)
    table["p_adjusted"] = table.groupby("claim", sort=False)["p"].transform(holm)
    return Result.of(ratings, table, COLUMNS, how="", n_raters=rows["rater"].nunique())


def _comparisons(rows: pd.DataFrame, scale: int, level: float) -> Iterator[dict]:
    """Yield the contrasts of methods and types and their interactions."""
    asked = [name for name in criteria_of(rows) if name != OVERALL] or criteria_of(rows)
    for criteria, answers in answers_of(rows, asked):
        for contrast in contrasts(answers):
            first, *other = (f"{a} − {b}" for a, b in contrast.levels)
            subject, versus = (first, other[0]) if other else contrast.levels[0]
            half, p = contrast.half(level), contrast.p
            for at, criterion in enumerate(criteria):
                row = {"claim": in_words(contrast.factors), "scope": LIKE, "subject": subject,
                       "versus": versus, "criterion": criterion, "reason": contrast.reason,
                       "test": _CROSSED}  # fmt: skip
                estimate = contrast.estimate[at]
                row["estimate"] = estimate
                if contrast.reason:
                    yield row
                elif np.isnan(p[at]):
                    yield row | {"reason": "nothing varies: no error to test by"}
                elif 2 * half[at] > scale - 1:
                    yield row | {"reason": "too few to tell: the interval is wider than the scale"}
                else:
                    yield row | {
                        "low": estimate - half[at],
                        "high": estimate + half[at],
                        "p": p[at],
                    }


def answers_of(rows: pd.DataFrame, criteria: list[str]) -> Iterator[tuple[list[str], Answers]]:
    """Yield criteria that the same raters answered of the same clips, and their answers."""
    scores = rows[rows["criterion"].isin(criteria)].pivot_table(
        index=["rater", "cell"], columns="criterion", values="value", observed=True
    )
    clips = rows.drop_duplicates("cell").set_index("cell")
    names = {name: levels_of(clips[name]) for name in ("method", "source_type", "driving_type")}
    together = defaultdict(list)
    for name in criteria:
        together[scores[name].notna().to_numpy().tobytes()].append(name)
    for alike in together.values():
        values = scores[alike].dropna()
        rater, _ = values.index.get_level_values("rater").factorize()
        clip, cells = values.index.get_level_values("cell").factorize()
        of_clip = clips.loc[cells]
        columns = {name: of_clip[name].map(levels.index) for name, levels in names.items()}
        columns |= {name: pd.Series(of_clip[name].factorize()[0]) for name in ("source", "driving")}
        numbers = {name: column.to_numpy() for name, column in columns.items()}
        yield alike, Answers(values.to_numpy(), rater, clip, **numbers, names=names)
