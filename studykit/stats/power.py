"""How many raters a study needs: its own test on simulated studies, before anybody is asked.

A formula for a t test would not know the scale's ends, ties, or the correction for many tests.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

import numpy as np
import pandas as pd
import scipy

from studykit.errors import StudyError
from studykit.ratings.design import (
    Condition,
    plan_session,
    plan_sessions,
    ratings_per_condition,
    session_minutes,
    study_clips,
)
from studykit.ratings.screening import driving_seconds
from studykit.ratings.simulate import (
    Effect,
    SimulationModel,
    simulate_scores,
    typical_model,
)
from studykit.stats.comparison import approximate_p, holm, matched_on, signed_rank
from studykit.stats.result import in_words
from studykit.study.file import Study

MOST_RATERS = 512
_SIGNIFICANCE = 0.05
_ANY = Condition("frontal", "frontal", "")
_NEAR = 4  # the normal approximation of a p that matters is off by less than this factor
_SESSIONS = 36  # the balanced order of 18 conditions, twice
_LINE = "{:34}{:>7}{:>7}{:>8}{:>8}{:>14}{:>9}"
_BLOCK = 32  # raters are drawn in blocks, each with a seed of its own


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how the report tests it.

    Attributes
    ----------
    name : str
        In words.
    n_levels : int
        How many methods, types or conditions; all pairs of them are tested.
    n_clips : int
        How many clips of each a rater sees that have their match in the others.
    usable : float
        The share of raters who see any such match; the others take no part in the test.
    """

    name: str
    n_levels: int
    n_clips: int
    usable: float = 1.0


@dataclass(frozen=True, eq=False)
class RaterPlan:
    """How many raters a study needs, and what they will have to do.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a comparison: comparison, tests (the family), clips (a rater and level), raters
        (missing where even ``MOST_RATERS`` are too few), power, power_error (its simulation
        error, one standard error), invite (raters and those to replace: the model's inattentive
        ones and those whose clips have no match), minutes (a rater), ratings (a condition, the
        fewest).
    how : str
        The method, in words that can be quoted.
    """

    table: pd.DataFrame
    how: str

    def __str__(self) -> str:
        """Set the table as text, with the method below it."""
        shown = self.table.astype({"raters": "string", "invite": "string"})
        shown = shown.fillna({"raters": f"> {MOST_RATERS}", "invite": ""})
        shown["power"] = [f"{row.power:.2f} ± {row.power_error:.2f}" for row in shown.itertuples()]
        shown = shown[["comparison", "tests", "clips", "raters", "invite", "power", "ratings"]]
        lines = [_LINE.format(*row) for row in shown.itertuples(index=False)]
        return "\n".join(
            [
                _LINE.format("a difference between", *shown.columns[1:]),
                *lines,
                "",
                "tests: family that Holm's method corrects for; clips: of each side that a rater "
                "sees and a test matches;",
                "invite: so many, as some will be excluded or see no match; ratings: the fewest "
                "that a condition gets.",
                f"A rater needs about {math.ceil(self.table['minutes'].iloc[0])} minutes.",
                self.how,
            ]
        )


def plan_raters(
    study: Study,
    *,
    difference: float = 0.5,
    power: float = 0.8,
    model: SimulationModel | None = None,
    n_studies: int = 1000,
    seed: int = 0,
) -> RaterPlan:
    """Find how many raters see a difference of mean scores with a given power.

    Studies are simulated in which two levels differ by just that on one criterion, all other
    things being equal, and tested as the report tests: paired Wilcoxon signed-rank tests over
    raters' means, corrected by Holm's method over the family. The number is found by bisection on
    the same simulated raters throughout, so that more raters are always the same and some more.

    Parameters
    ----------
    study : Study
        Its clips need not be made.
    difference : float
        Of mean scores, in steps of the scale.
    power : float
        The share of studies that must find it, between 0 and 1.
    model : SimulationModel, optional
        How raters differ; its effects are replaced by the difference.
    n_studies : int
        How many studies are simulated.
    seed : int

    Raises
    ------
    StudyError
        The study compares pairs or has nothing to compare, or the difference does not fit its
        scale.
    """
    if study.ratings.task == "pair":
        raise StudyError(
            f"{study.path} rates pairs: raters are planned for ratings on a scale, task acr or dcr"
        )
    if model is not None and model.inattentive == 1:
        raise StudyError("in this simulation nobody is attentive: there is no power to plan for")
    if not 0 < power < 1:
        raise StudyError(f"a power lies between 0 and 1, such as 0.8, not {power:g}")
    model = model or typical_model(study.ratings.scale)
    shift = latent_difference(model, difference)
    clips = study_clips(study)
    trials = plan_session(study, clips, 0)
    criteria = [criterion.name for criterion in study.ratings.asked]
    lengths = driving_seconds(study)
    minutes = session_minutes(
        trials,
        clip_seconds=float(np.mean([lengths[trial.clip.driving] for trial in trials])),
        criteria=len(criteria),
    )
    rows = []
    for comparison in comparisons(study):
        usable = (1 - model.inattentive) * comparison.usable
        studies = SimulatedStudies(model, shift, comparison, criteria, n_studies, seed)
        raters, reached = studies.fewest(power)
        counts = ratings_per_condition(study, clips, raters or MOST_RATERS)
        rows.append(
            {
                "comparison": comparison.name,
                "tests": math.comb(comparison.n_levels, 2) * len(criteria),
                "clips": comparison.n_clips,
                "raters": raters,
                "power": reached,
                "power_error": math.sqrt(reached * (1 - reached) / n_studies),
                "invite": raters and math.ceil(raters / usable),
                "minutes": minutes,
                "ratings": min(counts.values()),
            }
        )
    table = pd.DataFrame(rows).astype({"raters": "Int64", "invite": "Int64"})
    how = (
        f"{n_studies} simulated studies a row, in which two levels differ by {difference:g} of a "
        f"step on one of {len(criteria)} criteria; paired Wilcoxon signed-rank tests over raters' "
        f"means, two-sided, {100 * _SIGNIFICANCE:g} % over the family of tests (Holm). Clips of "
        f"a level are taken to differ by {model.clip_sd:g} of a step (SD), raters by "
        f"{model.bias_sd:g} in level."
    )
    return RaterPlan(table, how)


def comparisons(study: Study) -> list[Comparison]:
    """Return what the report compares in a study, with as many clips as its design matches.

    Methods are compared on the same source and driving, source types on the same driving and
    method, driving types on the same source and method, as in ``studykit.stats.pairwise``.

    Raises
    ------
    StudyError
        There is one condition only.
    """
    sessions = [
        [trial.clip for trial in trials if trial.role == "rating"]
        for trials in itertools.islice(plan_sessions(study, study_clips(study)), _SESSIONS)
    ]
    found = []
    for column in ("method", "source_type", "driving_type"):
        level, match = attrgetter(column), attrgetter(*matched_on([column]))
        levels = sorted({level(clip) for clips in sessions for clip in clips})
        shared = np.array(
            [
                len(set.intersection(*({match(c) for c in clips if level(c) == a} for a in pair)))
                for clips in sessions
                for pair in itertools.combinations(levels, 2)
            ]
        )
        if shared.any():
            name = f"two of {len(levels)} {in_words([column])}s"
            n_clips, usable = round(shared[shared > 0].mean()), float((shared > 0).mean())
            found.append(Comparison(name, len(levels), n_clips, usable))
    if len({clip.condition for clips in sessions for clip in clips}) < 2:
        raise StudyError(f"{study.path} has one condition only: there is nothing to compare")
    return [*found, Comparison("two conditions, named beforehand", 2, 1)]


def latent_difference(model: SimulationModel, difference: float) -> float:
    """Return how far apart two latent opinions around the model's mean lie, for a given
    difference of true mean scores, both in steps of the scale.

    Raises
    ------
    StudyError
        No two means on this scale differ by so much.
    """

    def excess(shift: float) -> float:
        high, low = (
            dataclasses.replace(model, effects=(Effect(part),)).true_mean(_ANY, "naturalness")
            for part in (shift / 2, -shift / 2)
        )
        return high - low - difference

    widest = 4.0 * model.scale
    if difference <= 0 or excess(widest) <= 0:
        raise StudyError(
            f"a difference of {difference:g} can't be seen on a scale of 1 to {model.scale}: "
            f"choose one between 0 and {model.scale - 1}"
        )
    return scipy.optimize.brentq(excess, 0.0, widest)


class SimulatedStudies:
    """Studies with one true difference, of which any first raters can be tested.

    Parameters
    ----------
    model : SimulationModel
        Its effects are replaced.
    shift : float
        Between the latent opinions of the first two levels, on the first criterion.
    comparison : Comparison
    criteria : sequence of str
    n_studies, seed : int
    """

    def __init__(
        self,
        model: SimulationModel,
        shift: float,
        comparison: Comparison,
        criteria: Sequence[str],
        n_studies: int,
        seed: int,
    ) -> None:
        # Other levels lie in the middle between the two, so that they help Holm's method little.
        levels = ["high", "low", *map(str, range(2, comparison.n_levels))]
        effects = (
            Effect(shift / 2, method="high", criterion=criteria[0]),
            Effect(-shift / 2, method="low", criterion=criteria[0]),
        )
        self._draw = partial(
            simulate_scores,
            dataclasses.replace(model, effects=effects),
            n_studies * _BLOCK,
            [_ANY._replace(method=level) for level in levels for _ in range(comparison.n_clips)],
            criteria=criteria,
        )
        self._seed = seed
        self._pairs = np.transpose(list(itertools.combinations(range(len(levels)), 2)))
        self._shape = (n_studies, _BLOCK, len(levels), comparison.n_clips, len(criteria))
        self._means = np.empty((n_studies, 0, len(levels), len(criteria)))

    def fewest(self, power: float) -> tuple[int | None, float]:
        """Return the smallest number of raters with a power, and the power that they have.

        The number is None if ``MOST_RATERS`` are too few.
        """
        low, high = 1, 8
        while self.power(high, exact=False) < power:
            if high >= MOST_RATERS:
                return None, self.power(high)
            low, high = high, min(2 * high, MOST_RATERS)
        while high - low > 1:
            middle = (low + high) // 2
            if self.power(middle, exact=False) < power:
                low = middle
            else:
                high = middle
        # The report's exact test differs a little from the approximation of the search.
        reached = self.power(high)
        while reached < power and high < MOST_RATERS:
            high += 1
            reached = self.power(high)
        while high > 2 and (fewer := self.power(high - 1)) >= power:
            high, reached = high - 1, fewer
        return (high, reached) if reached >= power else (None, reached)

    def power(self, n_raters: int, *, exact: bool = True) -> float:
        """Return the share of studies in which the first so many raters show the difference.

        Without ``exact`` the test's normal approximation is used, which is quick.
        """
        means = self._of_raters(n_raters)
        first, second = self._pairs
        gaps = (means[:, :, first] - means[:, :, second]).reshape(*means.shape[:2], -1)
        gaps = gaps.swapaxes(1, 2)  # (studies, tests, raters)
        p = approximate_p(gaps)
        if exact:
            # Holm's method rejects no less where p values fall, so that most studies are settled.
            is_open = _finds_first(p * _NEAR) != _finds_first(p / _NEAR)
            near = is_open[:, None] & (p < _NEAR * _SIGNIFICANCE)
            p[near] = [signed_rank(gap).p for gap in gaps[near]]
        return float(_finds_first(p).mean())

    def _of_raters(self, n_raters: int) -> np.ndarray:
        """Return means over clips of the first raters: (studies, raters, levels, criteria)."""
        while (drawn := self._means.shape[1]) < n_raters:
            rng = np.random.default_rng([self._seed, drawn // _BLOCK])
            block = self._draw(rng).reshape(self._shape).mean(axis=3)
            self._means = np.concatenate([self._means, block], axis=1)
        return self._means[:, :n_raters]


def _finds_first(p: np.ndarray) -> np.ndarray:
    """Say which studies find the first of their tests' differences, (studies,) bool."""
    return holm(p)[:, 0] <= _SIGNIFICANCE
