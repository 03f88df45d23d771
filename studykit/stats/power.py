"""How many raters a study needs: its own test on simulated studies, before anybody is asked.

A formula for a t test would not know the scale's ends, ties, or the correction for many tests.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from studykit.errors import StudyError
from studykit.ratings.design import (
    Clip,
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
from studykit.stats.comparison import signed_rank
from studykit.study.file import Study

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.05
MOST_RATERS = 512
_ANY = Condition("frontal", "frontal", "")
_HIGH, _LOW = "high", "low"
_NEAR = 4  # the normal approximation of a p that matters is off by less than this factor
_SESSIONS = 36  # the balanced order of 18 conditions, twice
_LINE = "{:34}{:>7}{:>7}{:>8}{:>8}{:>14}{:>9}"
_HEADINGS = ("a difference between", "tests", "clips", "raters", "invite", "power", "ratings")
_BLOCK = 32  # raters are drawn in blocks, each with a seed of its own


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how the report tests it.

    Attributes
    ----------
    name : str
        In words.
    n_levels : int
        How many methods, types or conditions.
    n_clips : int
        How many clips of each a rater sees that have their match in the others.
    n_pairs : int
        How many pairs of levels are tested: with the criteria, the family that Holm's method
        corrects for.
    usable : float
        The share of raters who see any such match; the others take no part in the test.
    """

    name: str
    n_levels: int
    n_clips: int
    n_pairs: int
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

    table: "pd.DataFrame"
    how: str

    def __str__(self) -> str:
        """Set the table as text, with the method below it."""
        lines = [_LINE.format(*_HEADINGS)]
        for row in self.table.astype(object).where(self.table.notna(), None).itertuples():
            few = row.raters is None
            cells = (
                row.comparison,
                row.tests,
                row.clips,
                f"> {MOST_RATERS}" if few else row.raters,
                "" if few else row.invite,
                f"{row.power:.2f} ± {row.power_error:.2f}",
                row.ratings,
            )
            lines.append(_LINE.format(*map(str, cells)))
        minutes = math.ceil(self.table["minutes"].iloc[0])
        return "\n".join(
            [
                *lines,
                "",
                "tests: family that Holm's method corrects for; clips: of each side that a rater "
                "sees and a test matches;",
                "invite: so many, as some will be excluded or see no match; ratings: the fewest "
                "that a condition gets.",
                f"A rater needs about {minutes} minutes.",
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
    import pandas as pd

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
    attentive = 1 - model.inattentive
    rows = []
    for comparison in comparisons(study):
        studies = SimulatedStudies(model, shift, comparison, criteria, n_studies, seed)
        raters, reached = studies.fewest(power)
        asked = raters or MOST_RATERS
        rows.append(
            {
                "comparison": comparison.name,
                "tests": comparison.n_pairs * len(criteria),
                "clips": comparison.n_clips,
                "raters": raters,
                "power": reached,
                "power_error": math.sqrt(reached * (1 - reached) / n_studies),
                "invite": raters and math.ceil(raters / (attentive * comparison.usable)),
                "minutes": minutes,
                "ratings": min(ratings_per_condition(study, clips, asked).values()),
            }
        )
    table = pd.DataFrame(rows).astype({"raters": "Int64", "invite": "Int64"})
    how = (
        f"{n_studies} simulated studies a row, in which two levels differ by {difference:g} of a "
        f"step on one of {len(criteria)} criteria; paired Wilcoxon signed-rank tests over raters' "
        f"means, two-sided, {100 * LEVEL:g} % over the family of tests (Holm). Clips of a level "
        f"are taken to differ by {model.clip_sd:g} of a step (SD), raters by {model.bias_sd:g} in "
        "level."
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
    for name, level, match in (
        ("methods", "method", ("source", "driving")),
        ("source types", "source_type", ("driving", "method")),
        ("driving types", "driving_type", ("source", "method")),
    ):
        levels = sorted({getattr(clip, level) for clips in sessions for clip in clips})
        pairs = list(itertools.combinations(levels, 2))
        if pairs:
            shared = np.array(
                [
                    len(set.intersection(*(_seen(clips, level, side, match) for side in pair)))
                    for clips in sessions
                    for pair in pairs
                ]
            )
            if shared.any():
                found.append(
                    Comparison(
                        f"two of {len(levels)} {name}",
                        len(levels),
                        round(float(shared[shared > 0].mean())),
                        len(pairs),
                        float((shared > 0).mean()),
                    )
                )
    if len({clip.condition for clips in sessions for clip in clips}) < 2:
        raise StudyError(f"{study.path} has one condition only: there is nothing to compare")
    return [*found, Comparison("two conditions, named beforehand", 2, 1, 1)]


def _seen(clips: Sequence[Clip], level: str, side: str, match: tuple[str, ...]) -> set[tuple]:
    return {
        tuple(getattr(clip, name) for name in match)
        for clip in clips
        if getattr(clip, level) == side
    }


def latent_difference(model: SimulationModel, difference: float) -> float:
    """Return how far apart two latent opinions around the model's mean lie, for a given
    difference of true mean scores, both in steps of the scale.

    Raises
    ------
    StudyError
        No two means on this scale differ by so much.
    """
    from scipy.optimize import brentq

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
    return brentq(excess, 0.0, widest)


def holm_rejects_first(p: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Say whether Holm's method rejects the first of each family's hypotheses.

    Parameters
    ----------
    p : (..., tests) float array
    level : float
        Family-wise.

    References
    ----------
    Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal
    of Statistics 6, 65-70.
    """
    ordered = np.sort(p, axis=-1)
    passes = ordered <= level / np.arange(p.shape[-1], 0, -1)
    stopped = np.logical_and.accumulate(passes, axis=-1)
    place = (ordered < p[..., :1]).sum(axis=-1, keepdims=True)
    return np.take_along_axis(stopped, place, axis=-1)[..., 0]


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
        effects = (
            Effect(shift / 2, method=_HIGH, criterion=criteria[0]),
            Effect(-shift / 2, method=_LOW, criterion=criteria[0]),
        )
        self._model = dataclasses.replace(model, effects=effects)
        self._criteria, self._n_studies, self._seed = criteria, n_studies, seed
        self._n_clips = comparison.n_clips
        levels = [_HIGH, _LOW, *map(str, range(2, comparison.n_levels))]
        self._conditions = [
            Condition("frontal", "frontal", level)
            for level in levels
            for _ in range(comparison.n_clips)
        ]
        self._pairs = list(itertools.combinations(range(comparison.n_levels), 2))
        self._blocks: list[np.ndarray] = []

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
        from scipy.stats import wilcoxon

        means = np.concatenate(
            [self._block(index) for index in range(-(-n_raters // _BLOCK))], axis=1
        )[:, :n_raters]
        gaps = np.stack([means[:, :, a] - means[:, :, b] for a, b in self._pairs], axis=2)
        gaps = np.round(gaps.reshape(self._n_studies, n_raters, -1), 9)
        with np.errstate(invalid="ignore", divide="ignore"):
            p = wilcoxon(gaps, axis=1, zero_method="pratt", method="asymptotic").pvalue
        p = np.where(np.isnan(p), 1.0, p)
        if exact:
            # Holm's method rejects no less where p values fall, so that most studies are settled.
            open_ = holm_rejects_first(p * _NEAR) != holm_rejects_first(p / _NEAR)
            for study, test in zip(*np.nonzero(open_[:, None] & (p < _NEAR * LEVEL)), strict=True):
                p[study, test] = signed_rank(gaps[study, :, test]).p
        return float(holm_rejects_first(p).mean())

    def _block(self, index: int) -> np.ndarray:
        """Return means of ``_BLOCK`` more raters: (studies, raters, levels, criteria) float."""
        if index == len(self._blocks):
            scores = simulate_scores(
                self._model,
                self._n_studies * _BLOCK,
                self._conditions,
                np.random.default_rng([self._seed, index]),
                criteria=self._criteria,
            )
            shape = (self._n_studies, _BLOCK, -1, self._n_clips, len(self._criteria))
            self._blocks.append(scores.reshape(shape).mean(axis=3))
        return self._blocks[index]
