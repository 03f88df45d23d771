"""What may be said: a verdict for each condition by a stated rule, and warnings against claims."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from studykit.stats.agreement import ALPHA_TENTATIVE, agreement
from studykit.stats.result import Result, counted, is_simulated
from studykit.stats.scores import mean_scores
from studykit.stats.table import CONDITION_COLUMNS, criteria_of, in_order, only_rating, rated
from studykit.study.wording import OVERALL

GOOD, FLAWED, POOR, OPEN = VERDICTS = ("good", "acceptable but flawed", "poor", "not enough data")
# ITU-R BT.500-15 asks for at least 15 observers.
_RATERS_LEAST = 15
_END_SHARE = 0.6
_EXCLUDED_SHARE = 0.2


@dataclass(frozen=True)
class VerdictRule:
    """The rule of the verdict matrix; it owns the thresholds.

    Attributes
    ----------
    good_from, criterion_good_from : float
        A condition is good where the lower bound of its overall score reaches the one, and that
        of every criterion the other: what holds still has no jitter, but does not move well.
    poor_below, criterion_poor_below : float
        It is poor where the upper bound of its overall score, or of any criterion, lies below.
    raters_least : int
        Below this many raters there is no verdict.
    scale : int
        Steps of the study's scale; the thresholds are stated on 5 steps and stretched to it.
    level : float
        Of the intervals.
    """

    good_from: float = 3.5
    criterion_good_from: float = 2.5
    poor_below: float = 2.5
    criterion_poor_below: float = 2.0
    raters_least: int = 5
    scale: int = 5
    level: float = 0.95

    def on_scale(self, threshold: float) -> float:
        """Stretch a threshold on 5 steps to the study's scale.

        >>> VerdictRule(scale=9).on_scale(3.5)
        6.0
        """
        return 1 + (threshold - 1) * (self.scale - 1) / 4

    @property
    def words(self) -> str:
        """The rule as it is quoted."""
        return (
            f'A condition is "{GOOD}" where the lower bound of the {100 * self.level:g}% interval '
            f"of its overall score (1 to {self.scale}) is at least "
            f"{self.on_scale(self.good_from):g} and that of every criterion at least "
            f'{self.on_scale(self.criterion_good_from):g}; "{POOR}" where the upper bound of its '
            f"overall score is below {self.on_scale(self.poor_below):g}, or that of any criterion "
            f'below {self.on_scale(self.criterion_poor_below):g}; else "{FLAWED}". '
            f'With fewer than {self.raters_least} raters the verdict is "{OPEN}".'
        )


def verdicts(ratings: pd.DataFrame, rule: VerdictRule | None = None) -> Result:
    """Judge each condition by a rule on the intervals of its scores.

    Returns
    -------
    Result
        Columns source_type, driving_type, method, verdict (one of ``VERDICTS``), mean, low, high
        (of the overall score), weakest (criterion), weakest_mean, weakest_low, weakest_high,
        n_raters, reason, words.
    """
    rule = rule or VerdictRule()
    scores = mean_scores(ratings, scale=rule.scale, level=rule.level)
    asked = criteria_of(scores.table)
    span, found = ["mean", "low", "high"], []
    for key, rows in scores.table.groupby(list(CONDITION_COLUMNS), observed=True):
        # A criterion that nobody answered here is as open as one that too few did.
        rows = rows.set_index("criterion").reindex(asked)
        rows = rows.fillna({"n_raters": 0, "words": "not rated"})
        overall = rows.loc[OVERALL] if OVERALL in rows.index else rows.iloc[0]
        single = rows.drop(index=OVERALL) if len(rows) > 1 and OVERALL in rows.index else rows
        weakest = single.loc[single["mean"].fillna(np.inf).idxmin()]
        verdict, reason = _verdict(rule, overall, single)
        scored = (*overall[span], weakest.name, *weakest[span], overall["n_raters"])
        words = overall["words"] or weakest["words"]
        found.append((*key, verdict, *scored, reason, words))
    columns = [*CONDITION_COLUMNS, "verdict", "mean", "low", "high", "weakest", "weakest_mean",
               "weakest_low", "weakest_high", "n_raters", "reason", "words"]  # fmt: skip
    return Result.of(
        ratings,
        in_order(pd.DataFrame(found, columns=columns), CONDITION_COLUMNS),
        columns,
        how=f"{rule.words} {scores.how}",
        n_raters=scores.n_raters,
    )


def warnings_of(
    ratings: pd.DataFrame, *, scale: int = 5, raters_min: int = _RATERS_LEAST, n_excluded: int = 0
) -> list[str]:
    """Return sentences on what the ratings can't support, the gravest first.

    Parameters
    ----------
    scale : int
        Steps of the scale.
    raters_min : int
        Raters that the study asks for.
    n_excluded : int
        Raters whom screening took out of the table.
    """
    rows = rated(ratings, scale=scale)
    pairs = only_rating(ratings)
    pairs = pairs[pairs["task"] == "pair"]
    found = []
    if is_simulated(ratings):
        found.append(
            "All ratings are simulated: they rehearse the study and say nothing about the clips."
        )
    if rows.empty and pairs.empty:
        return [*found, "There are no ratings yet: the study can't say how its clips look."]
    n_raters = len({*rows["rater"], *pairs["rater"]})
    n_all = n_raters + n_excluded
    found += _few_raters(n_raters, rows, raters_min)
    if n_excluded > _EXCLUDED_SHARE * n_all:
        found.append(
            f"{n_excluded} of {n_all} raters ({n_excluded / n_all:.0%}) were excluded: the rest "
            "may not stand for all; compare the scores with and without them."
        )
    if not rows.empty:
        found += [*_one_stimulus(rows), *_ends_of_scale(rows, scale), *_disagreement(ratings)]
    return found


def _verdict(rule: VerdictRule, overall: pd.Series, single: pd.DataFrame) -> tuple[str, str]:
    needed = max(rule.raters_least, 2)
    scarcest = single.loc[single["n_raters"].idxmin()]
    for what, score in (("", overall), (f"{scarcest.name}: ", scarcest)):
        if score["n_raters"] < needed:
            return OPEN, f"{what}{counted(int(score['n_raters']), 'rater')}, {needed} are needed"
    low, high = overall["low"], overall["high"]
    worst_low, worst_high = single["low"].idxmin(), single["high"].idxmin()
    poor, good = rule.on_scale(rule.poor_below), rule.on_scale(rule.good_from)
    limit, each = map(rule.on_scale, (rule.criterion_poor_below, rule.criterion_good_from))
    if high < poor:
        return POOR, f"overall {_interval(overall)} lies below {poor:g}"
    if single.loc[worst_high, "high"] < limit:
        return POOR, f"{worst_high} {_interval(single.loc[worst_high])} lies below {limit:g}"
    if low < good:
        return FLAWED, f"overall {_interval(overall)} does not reach {good:g} with its lower bound"
    if single.loc[worst_low, "low"] < each:
        return FLAWED, f"{worst_low} {_interval(single.loc[worst_low])} does not reach {each:g}"
    return GOOD, (
        f"overall {_interval(overall)} lies at or above {good:g}, every criterion above {each:g}"
    )


def _interval(score: pd.Series) -> str:
    return f"[{score['low']:.2f}, {score['high']:.2f}]"


def _few_raters(n_raters: int, rows: pd.DataFrame, raters_min: int) -> Iterator[str]:
    needed = max(raters_min, _RATERS_LEAST)
    whose = f"the study asks for {raters_min}"
    if raters_min < _RATERS_LEAST:
        whose = f"ITU-R BT.500 asks for {_RATERS_LEAST}"
    by_condition = rows.groupby(list(CONDITION_COLUMNS), observed=True)["rater"].nunique()
    few = int((by_condition < needed).sum())
    if n_raters < needed:
        yield (
            f"{counted(n_raters, 'rater')} took part, {whose}: intervals are wide and tests weak."
        )
    elif few:
        yield (
            f"{few} of {len(by_condition)} conditions were rated by fewer than {needed} raters "
            f"(the fewest: {by_condition.min()}), {whose}."
        )


def _one_stimulus(rows: pd.DataFrame) -> Iterator[str]:
    for item in ("source", "driving"):
        counts = rows.groupby(f"{item}_type", observed=True)[item].nunique()
        alone = [str(name) for name in counts.index[counts == 1]]
        if alone and len(counts) > 1:
            many = len(alone) > 1
            types = " and ".join([", ".join(alone[:-1]), alone[-1]]) if many else alone[0]
            yield (
                f"The {item} type{'s' * many} {types} {'have' if many else 'has'} one {item}"
                f"{' each' * many}: what is found there may be due to that {item} and not to its "
                "type."
            )


def _ends_of_scale(rows: pd.DataFrame, scale: int) -> Iterator[str]:
    asked = rows[rows["criterion"] != OVERALL] if rows["criterion"].nunique() > 1 else rows
    for end, name in ((scale, "ceiling"), (1, "floor")):
        at_end = asked.assign(value=asked["value"] == end)
        shares = at_end.groupby(["criterion", *CONDITION_COLUMNS], observed=True)["value"].mean()
        for criterion in criteria_of(asked):
            of_one = shares[criterion]
            n_there = int((of_one >= _END_SHARE).sum())
            if n_there:
                yield (
                    f"On {criterion}, {n_there} of {len(of_one)} conditions "
                    f"lie{'s' * (n_there == 1)} at the {name} of the scale ({_END_SHARE:.0%} of "
                    f"the ratings or more are {end}): differences there can't be seen."
                )


def _disagreement(ratings: pd.DataFrame) -> Iterator[str]:
    for row in agreement(ratings).table.itertuples():
        if row.alpha < ALPHA_TENTATIVE:
            means = ""
            if row.icc_mean >= ALPHA_TENTATIVE:
                means = f"; means over all raters are steadier (ICC(2,k) = {row.icc_mean:.2f})"
            yield (
                f"Raters agree little on {row.criterion} (Krippendorff's alpha = {row.alpha:.2f}, "
                f"below {ALPHA_TENTATIVE:g}){means}."
            )
