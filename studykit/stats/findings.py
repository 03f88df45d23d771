"""Every claim that a study makes, a row each: what the report's words are made from."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from studykit.stats.agreement import agreement
from studykit.stats.comparison import holm
from studykit.stats.correlation import correlate_metrics, predict_scores
from studykit.stats.crossed import answers_of, contrasts
from studykit.stats.paired import bradley_terry
from studykit.stats.result import Result, in_words
from studykit.stats.table import asked_of, rated
from studykit.stats.verdicts import VerdictRule, verdicts
from studykit.study.wording import MEAN

THESE, LIKE = "these clips", "like these"
COLUMNS = ("claim", "scope", "subject", "versus", "criterion", "estimate", "low", "high", "p",
           "p_adjusted", "test", "reason")  # fmt: skip
CLAIMS = ("method", "source type", "driving type", "method x source type",
          "method x driving type", "source type x driving type", "preference", "verdict", "metric",
          "prediction", "metric against metric", "agreement")  # fmt: skip
NO_METRICS = pd.DataFrame(columns=["cell", "metric", "value", "better", "extractor"])
_CROSSED = "t, raters and stimuli crossed"


def findings(
    ratings: pd.DataFrame,
    metrics: pd.DataFrame | None = None,
    *,
    scale: int = 5,
    rule: VerdictRule | None = None,
    level: float = 0.95,
) -> Result:
    """Return every claim of a study as a row.

    Parameters
    ----------
    ratings : pandas.DataFrame
        The ratings table; everybody in it counts.
    metrics : pandas.DataFrame, optional
        The table of metrics.csv.
    scale : int
        Steps of the scale.
    rule : VerdictRule, optional
        Default: the rule's own thresholds on this scale.

    Returns
    -------
    Result
        Columns claim (one of ``CLAIMS``), scope ("these clips", or "like these": raters, sources
        and drivings like these), subject, versus, criterion, estimate, low, high, p, p_adjusted
        (Holm, over all rows of a claim), test, reason (why nothing can be said; of a verdict, why
        it is that one).

        An interaction has differences as subject and versus, such as "fomm − warp" and "side −
        frontal", and estimates how far the first differs between the two sides of the second. A
        verdict has itself as versus, and the criterion that decided.

    Raises
    ------
    StudyError
        The table mixes simulated and human ratings or two tasks, lacks columns, or has values
        outside the scale.
    """
    metrics = NO_METRICS if metrics is None else metrics
    return gather(
        ratings,
        scale=scale,
        level=level,
        bradley_terry=bradley_terry(ratings, level=level),
        verdicts=verdicts(ratings, rule or VerdictRule(scale=scale)),
        metric_correlation=correlate_metrics(ratings, metrics, level=level),
        prediction=predict_scores(ratings, metrics, level=level),
        agreement=agreement(ratings, scale=scale, level=level),
    )


def gather(
    ratings: pd.DataFrame, *, scale: int = 5, level: float = 0.95, **parts: Result
) -> Result:
    """Compare methods and types, and put what was found elsewhere beside it: see ``findings``."""
    rows = rated(ratings, scale=scale)
    found = [
        *_comparisons(rows, scale, level),
        *_preferences(parts["bradley_terry"]),
        *_verdicts(parts["verdicts"]),
        *_predictions(parts["metric_correlation"], parts["prediction"]),
        *_agreement(parts["agreement"]),
    ]
    table = pd.DataFrame(found, columns=COLUMNS)
    numbers = ["estimate", "low", "high", "p", "p_adjusted"]
    table[numbers] = table[numbers].astype(float)
    table["p_adjusted"] = table.groupby("claim", sort=False)["p"].transform(holm)
    table[["versus", "criterion", "reason"]] = table[["versus", "criterion", "reason"]].fillna("")
    return Result.of(
        ratings,
        table,
        COLUMNS,
        how=(
            "Contrasts over matched clips, raters, sources, drivings and their pairs being samples "
            "(Judd, Westfall and Kenny 2012): mean squares of each contrast between sources, "
            "between drivings and of the rest, raters' own likings from the products of what they "
            "say in different pairs; t tests with Satterthwaite's degrees of freedom, within "
            "bounds that simulated studies have set; Holm's correction over all contrasts "
            f"of a factor on all criteria; {100 * level:g}% intervals, each on its own."
        ),
        n_raters=rows["rater"].nunique(),
    )


def _comparisons(rows: pd.DataFrame, scale: int, level: float) -> Iterator[dict]:
    """Yield the contrasts of methods and types and their interactions."""
    asked = asked_of(rows)
    for criteria, answers in answers_of(rows, asked):
        for contrast in contrasts(answers):
            first, *other = (f"{a} − {b}" for a, b in contrast.levels)
            subject, versus = (first, other[0]) if other else contrast.levels[0]
            half, p = contrast.half(level), contrast.p
            for at, criterion in enumerate(criteria):
                value, reason = contrast.estimate[at], contrast.reason
                if not reason and np.isnan(p[at]):
                    reason = "nothing varies: there is no error to test by"
                if not reason and 2 * half[at] > scale - 1:
                    reason = "too few to tell: the interval is wider than the scale"
                numbers = value - half[at], value + half[at], p[at]
                yield _row(in_words(contrast.factors), LIKE, subject, versus, criterion, value,
                           *(numbers if not reason else [np.nan] * 3), _CROSSED,
                           reason)  # fmt: skip


def _preferences(strengths: Result) -> Iterator[dict]:
    for row in strengths.table[strengths.table["versus"] != ""].itertuples():
        yield _row("preference", LIKE, row.item, row.versus, row.criterion, row.strength, row.low,
                   row.high, row.p, "Bradley-Terry, jackknife", row.words)  # fmt: skip


def _verdicts(judged: Result) -> Iterator[dict]:
    for row in judged.table.itertuples():
        condition = " × ".join((row.source_type, row.driving_type, row.method))
        yield _row("verdict", THESE, condition, row.verdict, row.criterion, row.mean, row.low,
                   row.high, np.nan, "interval over raters", row.reason)  # fmt: skip


def _predictions(correlated: Result, predicted: Result) -> Iterator[dict]:
    table = correlated.table
    for row in table[table["primary"] & (table["criterion"] != MEAN)].itertuples():
        yield _row("metric", LIKE, row.metric, "", row.criterion, row.r, row.low, row.high, row.p,
                   "correlation within stimuli and methods", row.words)  # fmt: skip
    for row in predicted.table.itertuples():
        claim = "metric against metric" if row.second else "prediction"
        p = row.p if row.second else np.nan
        yield _row(claim, LIKE, row.first, row.second, row.criterion, row.plcc, row.low, row.high,
                   p, "P.1401, jackknife", row.words)  # fmt: skip


def _agreement(agreed: Result) -> Iterator[dict]:
    for row in agreed.table.itertuples():
        yield _row("agreement", THESE, f"mean of {row.n_raters} raters", "", row.criterion,
                   row.mean, row.mean_low, row.mean_high, np.nan, "variance components",
                   row.words)  # fmt: skip


def _row(*values: Any) -> dict:
    names = [name for name in COLUMNS if name != "p_adjusted"]
    return dict(zip(names, values, strict=True))
