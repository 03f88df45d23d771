"""What may be said: a verdict for each condition by a stated rule, and warnings against claims."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from studykit.stats.result import Result, counted, is_simulated
from studykit.stats.scores import mean_scores
from studykit.stats.table import (
    CONDITION_COLUMNS,
    asked_of,
    criteria_of,
    in_order,
    only_rating,
    rated,
)
from studykit.study.wording import MEAN

GOOD, FLAWED, POOR, UNDECIDED, OPEN = VERDICTS = (
    "good", "flawed", "poor", "undecided", "not enough data"
)  # fmt: skip
# ITU-R BT.500-15 asks for at least 15 observers.
_RATERS_LEAST = 15
_END_SHARE = 0.6
_EXCLUDED_SHARE = 0.2


@dataclass(frozen=True)
class VerdictRule:
    """The rule of the verdict matrix; it owns the thresholds.

    The worst of the criteria decides, the overall score among them if raters were asked for it:
    what holds still has no jitter, but does not move well.

    Attributes
    ----------
    good_from : float
        A condition is good where the intervals of all criteria lie at or above this score.
    poor_below : float
        It is poor where the interval of any criterion lies below this one; flawed where it is
        neither, and no interval that matters crosses either score; else undecided.
    raters_least : int
        Below this many raters there is no verdict.
    scale : int
        Steps of the study's scale; the thresholds are stated on 5 steps and stretched to it.
    level : float
        Of the intervals.
    """

    good_from: float = 3.5
    poor_below: float = 2.5
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
        good, poor = self.on_scale(self.good_from), self.on_scale(self.poor_below)
        return (
            f'The worst criterion decides. A condition is "{GOOD}" where the lower bound of every '
            f"criterion's {100 * self.level:g}% interval (scale of 1 to {self.scale}) is at least "
            f'{good:g}; "{POOR}" where the upper bound of any criterion is below {poor:g}; '
            f'"{FLAWED}" where every lower bound is at least {poor:g} and the upper bound of any '
            f'criterion is below {good:g}; else "{UNDECIDED}": an interval crosses a threshold. '
            f'With fewer than {self.raters_least} raters the verdict is "{OPEN}".'
        )


def verdicts(ratings: pd.DataFrame, rule: VerdictRule | None = None) -> Result:
    """Judge each condition by a rule on the intervals of its scores.

    Returns
    -------
    Result
        Columns source_type, driving_type, method, verdict (one of ``VERDICTS``), criterion (that
        decided), mean, low, high (of it), n_raters, reason, words.
    """
    rule = rule or VerdictRule()
    scores = mean_scores(ratings, scale=rule.scale, level=rule.level)
    asked = asked_of(scores.table)
    found = []
    for key, rows in scores.table.groupby(list(CONDITION_COLUMNS), observed=True):
        # A criterion that nobody answered here is as open as one that too few did.
        rows = rows.set_index("criterion").reindex(asked)
        rows = rows.fillna({"n_raters": 0, "words": "not rated"})
        verdict, criterion, reason = _verdict(rule, rows)
        score = rows.loc[criterion]
        found.append((*key, verdict, criterion, *score[["mean", "low", "high", "n_raters"]],
                      reason, score["words"]))  # fmt: skip
    columns = [*CONDITION_COLUMNS, "verdict", "criterion", "mean", "low", "high", "n_raters",
               "reason", "words"]  # fmt: skip
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
        found += _ends_of_scale(rows, scale)
    return found


def _verdict(rule: VerdictRule, scores: pd.DataFrame) -> tuple[str, str, str]:
    """Return the verdict, the criterion that decided, and why."""
    needed = max(rule.raters_least, 2)
    scarcest = scores["n_raters"].idxmin()
    if (count := int(scores.loc[scarcest, "n_raters"])) < needed:
        return OPEN, scarcest, f"{counted(count, 'rater')}, {needed} are needed"
    poor, good = rule.on_scale(rule.poor_below), rule.on_scale(rule.good_from)
    lowest, worst = scores["low"].idxmin(), scores["high"].idxmin()
    low, high = scores.loc[lowest, "low"], scores.loc[worst, "high"]
    if high < poor:
        return POOR, worst, f"lies below {poor:g}"
    if low >= good:
        return GOOD, lowest, f"lies at or above {good:g}, as all criteria do"
    if low >= poor and high < good:
        return FLAWED, worst, f"lies below {good:g}, and all criteria above {poor:g}"
    return UNDECIDED, lowest, f"crosses {poor if low < poor else good:g}"


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


def _ends_of_scale(rows: pd.DataFrame, scale: int) -> Iterator[str]:
    asked = rows[rows["criterion"] != MEAN]
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
