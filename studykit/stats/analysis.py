"""All statistics of a study in one call, as the report and the notebooks show them."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd

from studykit.stats.agreement import Raters, agreement, rater_levels
from studykit.stats.comparison import friedman, pairwise
from studykit.stats.correlation import correlate_criteria, correlate_metrics, predict_scores
from studykit.stats.findings import NO_METRICS, gather
from studykit.stats.paired import bradley_terry
from studykit.stats.result import Result, is_simulated
from studykit.stats.scores import mean_scores
from studykit.stats.table import CONDITION_COLUMNS
from studykit.stats.verdicts import VerdictRule, verdicts, warnings_of


@dataclass(frozen=True)
class Analysis:
    """What :func:`analyse` found; each part is documented with the function that made it.

    Attributes
    ----------
    condition_scores, method_scores, clip_scores : Result
        Mean scores by condition, by method, and by cell.
    pairwise, source_pairwise, driving_pairwise : Result
        Comparisons of methods, of source types and of driving types; a family each.
    findings : Result
        Every claim, a row each.
    rule : VerdictRule
        That of ``verdicts``.
    warnings : tuple of str
        Sentences.
    """

    condition_scores: Result
    method_scores: Result
    clip_scores: Result
    agreement: Result
    friedman: Result
    pairwise: Result
    source_pairwise: Result
    driving_pairwise: Result
    findings: Result
    raters: Raters
    criteria_correlation: Result
    metric_correlation: Result
    prediction: Result
    bradley_terry: Result
    verdicts: Result
    rule: VerdictRule
    warnings: tuple[str, ...]
    simulated: bool


def analyse(
    ratings: pd.DataFrame,
    metrics: pd.DataFrame | None = None,
    *,
    scale: int = 5,
    raters_min: int = 15,
    rule: VerdictRule | None = None,
    excluded: Mapping[str, str] | None = None,
    primary: Sequence[str] = (),
) -> Analysis:
    """Compute every statistic of a study.

    Parameters
    ----------
    ratings : pandas.DataFrame
        The ratings table, as the store exports it.
    metrics : pandas.DataFrame, optional
        The table of metrics.csv.
    scale, raters_min : int
        Those of the study.
    rule : VerdictRule, optional
        Default: the rule's own thresholds on this scale.
    excluded : mapping of str to str, optional
        Raters whom screening takes out, and why; every result counts them as dropped.
    primary : sequence of str
        The metrics that claims are about, where a study has named its own; () is one a group.

    Raises
    ------
    StudyError
        The table mixes simulated and human ratings or two tasks, lacks columns, or has values
        outside the scale.
    """
    there = set(ratings["rater"])
    excluded = {rater: why for rater, why in (excluded or {}).items() if rater in there}
    kept = ratings[~ratings["rater"].isin(list(excluded))]
    if metrics is None:
        metrics = NO_METRICS
    rule = rule or VerdictRule(scale=scale)
    results: dict[str, Any] = {
        "condition_scores": mean_scores(kept, scale=scale),
        "method_scores": mean_scores(kept, ("method",), scale=scale),
        "clip_scores": mean_scores(kept, ("cell", *CONDITION_COLUMNS), scale=scale),
        "agreement": agreement(kept, scale=scale),
        "raters": rater_levels(kept),
        "friedman": friedman(kept),
        "pairwise": pairwise(kept, ("method",)),
        "source_pairwise": pairwise(kept, ("source_type",)),
        "driving_pairwise": pairwise(kept, ("driving_type",)),
        "criteria_correlation": correlate_criteria(kept),
        "metric_correlation": correlate_metrics(kept, metrics, primary=primary),
        "prediction": predict_scores(kept, metrics, primary=primary),
        "bradley_terry": bradley_terry(kept),
        "verdicts": verdicts(kept, rule),
    }
    parts = ("bradley_terry", "verdicts", "metric_correlation", "prediction", "agreement")
    results["findings"] = gather(kept, scale=scale, **{name: results[name] for name in parts})
    return Analysis(
        **{name: _count_excluded(result, excluded) for name, result in results.items()},
        rule=rule,
        warnings=tuple(
            warnings_of(kept, scale=scale, raters_min=raters_min, n_excluded=len(excluded))
        ),
        simulated=is_simulated(ratings),
    )


_SomeResult = TypeVar("_SomeResult", bound=Result)


def _count_excluded(result: _SomeResult, excluded: Mapping[str, str]) -> _SomeResult:
    if not excluded:
        return result
    reasons = sorted(set(excluded.values()))
    screened = f"{len(excluded)} excluded by screening ({'; '.join(reasons)})"
    others = f"{result.n_dropped} {result.why}" if result.n_dropped else ""
    return dataclasses.replace(
        result,
        n_dropped=result.n_dropped + len(excluded),
        why=", ".join(filter(None, [screened, others])),
    )
