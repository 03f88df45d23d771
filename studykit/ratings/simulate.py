"""Simulated raters with a known truth: for rehearsals, for tests of statistics, for planning.

A score is a latent opinion on the scale's own unit, cut into whole steps (the graded-response
view of a rating); rater bias and inconsistency follow Li and Bampis, "Recover subjective quality
scores from noisy measurements" (DCC 2017). Sources, drivings and clips are samples as raters are,
and all raters of a study share them: a statistic that forgets it must fail here.
"""

import dataclasses
import datetime
import itertools
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy

from studykit.errors import StudyError, did_you_mean
from studykit.ratings import RATING_COLUMNS
from studykit.ratings.design import (
    FLAWS,
    Clip,
    Condition,
    Trial,
    plan_sessions,
    rating_rows,
    study_clips,
    study_hash,
)
from studykit.ratings.screening import driving_seconds
from studykit.study.file import TYPES, Study
from studykit.study.wording import CRITERIA, OVERALL

if TYPE_CHECKING:
    from studykit.ratings.store import Store

_QUADRATURE_NODES = 48
_MANY = 200_000  # answers that are counted where no formula gives their mean
# What differs from clip to clip for all raters, and by what of a clip.
_STIMULI = {
    "source_sd": ("source",),
    "driving_sd": ("driving",),
    "source_method_sd": ("source", "method"),
    "driving_method_sd": ("driving", "method"),
    "clip_sd": ("source", "driving", "method"),
}
_INATTENTIVE = ("random", "always the same", "too fast")
Rng = np.random.Generator
_FIRST_ANSWER = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Effect:
    """A shift of the latent opinion, in steps of the scale, wherever all that it names holds.

    One name makes a main effect, two an interaction; without any it moves every score.

    >>> Effect(-0.4, source_type="side", driving_type="side").applies(
    ...     Condition("side", "side", "warp"), "jitter"
    ... )
    True
    """

    shift: float
    source_type: str | None = None
    driving_type: str | None = None
    method: str | None = None
    criterion: str | None = None

    def applies(self, condition: Condition, criterion: str) -> bool:
        """Say whether the shift holds for a condition and a criterion."""
        named = (self.source_type, self.driving_type, self.method, self.criterion)
        return all(
            name in (None, level)
            for name, level in zip(named, (*condition, criterion), strict=True)
        )


_TYPICAL_EFFECTS = (
    Effect(-0.3, source_type="side"),
    Effect(-0.2, source_type="stylised"),
    Effect(-0.4, source_type="stylised", criterion="structure"),
    Effect(-0.5, driving_type="side"),
    Effect(-0.3, driving_type="stylised"),
    Effect(-0.3, source_type="side", driving_type="side"),
    Effect(-2.0, method="copy", criterion="naturalness"),
    Effect(1.4, method="copy", criterion="structure"),
    Effect(1.4, method="copy", criterion="jitter"),
    Effect(1.4, method="copy", criterion="consistency"),
    Effect(-0.3, method="warp", criterion="naturalness"),
    Effect(0.3, method="fomm", criterion="naturalness"),
)


@dataclass(frozen=True)
class SimulationModel:
    """How simulated raters come to their answers; all sizes are in steps of the scale.

    A rater's latent opinion of a clip is::

        middle + bias + drift * place
               + spread * (mean + effects + stimulus + liking + taste + noise - middle)

    where ``middle`` is the scale's middle and ``place`` runs from -1/2 to 1/2 over a session. The
    score is 1 plus the number of thresholds below it, which lie around 1.5, 2.5, ...

    Attributes
    ----------
    mean : float
        Latent opinion before any effect.
    effects : tuple of Effect
        What source types, driving types, methods, criteria and their interactions add.
    source_sd, driving_sd : float
        How much sources of a type differ, and drivings, for all raters and methods alike.
    source_method_sd, driving_method_sd : float
        How much a method suits one source or driving more than another.
    clip_sd : float
        How much clips differ beyond that.
    stimulus_halo : float
        Share of these differences that is common to all criteria, 0 to 1.
    bias_sd, criterion_bias_sd : float
        How much raters differ in level: on all criteria alike, and on each of its own.
    liking_sd : float
        How much a rater likes one method more than other raters do.
    spread_sd : float
        How much raters differ in the part of the scale that they use: the standard deviation of
        the logarithm of ``spread``, whose median is 1.
    threshold_sd : float
        How far a rater's thresholds lie off the middle between two steps, each for itself.
    drift_sd : float
        How much raters become milder or stricter from a session's first trial to its last.
    taste_sd, noise_sd : float
        A rater's own opinion of a clip, which comes again when the clip does; and what differs
        each time.
    halo : float
        Share of liking, taste and noise that is common to the criteria of one trial, 0 to 1.
    reference, spoilt : float
        Latent opinion of a hidden reference, and of a gold clip in what it was spoilt in.
    inattentive : float
        Share of raters who do not look: in equal parts they answer at random, always the same,
        or too fast and without an opinion.
    seconds, seconds_spread : float
        Median time that an answer takes, a criterion, once the clip has ended; and the standard
        deviation of its logarithm.

    Raises
    ------
    StudyError
        A value is out of its range, or an effect names no type.
    """

    scale: int = 5
    mean: float = 3.6
    effects: tuple[Effect, ...] = _TYPICAL_EFFECTS
    source_sd: float = 0.2
    driving_sd: float = 0.2
    source_method_sd: float = 0.1
    driving_method_sd: float = 0.1
    clip_sd: float = 0.2
    stimulus_halo: float = 0.5
    bias_sd: float = 0.4
    criterion_bias_sd: float = 0.2
    liking_sd: float = 0.15
    spread_sd: float = 0.15
    threshold_sd: float = 0.15
    drift_sd: float = 0.2
    taste_sd: float = 0.45
    noise_sd: float = 0.55
    halo: float = 0.4
    reference: float = 5.0
    spoilt: float = 0.8
    inattentive: float = 0.1
    seconds: float = 3.0
    seconds_spread: float = 0.45

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name.endswith(("_sd", "_spread")) and value < 0:
                raise StudyError(f"{name} of a simulation can't be negative: choose 0 or more")
            if name in ("halo", "stimulus_halo", "inattentive") and not 0 <= value <= 1:
                raise StudyError(f"{name} of a simulation is a share: choose 0 to 1")
        if self.scale < 2:
            raise StudyError(f"a scale has at least 2 steps, not {self.scale}")
        for effect in self.effects:
            for level in (effect.source_type, effect.driving_type):
                if level is not None and level not in TYPES:
                    raise StudyError(f'no type "{level}": {did_you_mean(level, TYPES)}')

    @property
    def stimulus_sd(self) -> float:
        """How much clips of a condition differ in all, for all raters alike."""
        return math.hypot(*(getattr(self, name) for name in _STIMULI))

    @property
    def middle(self) -> float:
        """Middle of the scale, around which raters spread."""
        return (1 + self.scale) / 2

    def latent_mean(self, condition: Condition, criterion: str) -> float:
        """Latent opinion of a condition, over raters and clips, before it is cut.

        That of "overall" is the mean of the four criteria's.
        """
        if criterion == OVERALL:
            return float(np.mean([self.latent_mean(condition, name) for name in CRITERIA]))
        return self.mean + sum(
            effect.shift for effect in self.effects if effect.applies(condition, criterion)
        )

    def true_mean(
        self, condition: Condition, criterion: str, *, clip_effect: float | None = None
    ) -> float:
        """Return the mean score that attentive raters give to a condition, 1 to ``scale``.

        Given a rater's spread s, the latent opinion is normal with the mean
        m = middle + s (mean + effects - middle) and the variance
        v = bias_sd^2 + criterion_bias_sd^2 + threshold_sd^2 + drift_sd^2 / 12
        + s^2 (stimulus_sd^2 + liking_sd^2 + taste_sd^2 + noise_sd^2), so that

            E[score | s] = 1 + sum over thresholds t of Phi((m - t) / sqrt(v))

        which is averaged over s by Gauss-Hermite quadrature: no simulation is involved.

        Parameters
        ----------
        condition : Condition
            Source type, driving type, method.
        criterion : str
            One of the four.
        clip_effect : float, optional
            That of one clip, as :func:`clip_effects` gives it, whose mean is then returned; else
            the mean over sources, drivings and clips is.
        """
        probabilities = self.step_probabilities(condition, criterion, clip_effect=clip_effect)
        return float(probabilities @ np.arange(1, self.scale + 1))

    def step_probabilities(
        self, condition: Condition, criterion: str, *, clip_effect: float | None = None
    ) -> np.ndarray:
        """Return how often attentive raters give each step, (scale,) float that sums to 1."""
        nodes, weights = _normal_quadrature()
        spread = np.exp(self.spread_sd * nodes)[:, None]
        stimulus_sd, shift = (self.stimulus_sd, 0) if clip_effect is None else (0, clip_effect)
        latent = self.latent_mean(condition, criterion) + shift
        mean = self.middle + spread * (latent - self.middle)
        variance = (
            self.bias_sd**2
            + self.criterion_bias_sd**2
            + self.threshold_sd**2
            + self.drift_sd**2 / 12
            + spread**2 * (stimulus_sd**2 + self.liking_sd**2 + self.taste_sd**2 + self.noise_sd**2)
        )
        # A model without any noise has steps for distribution functions.
        deviation = np.sqrt(np.maximum(variance, 1e-18))
        above = weights @ scipy.stats.norm.cdf((mean - self.thresholds) / deviation)
        return -np.diff(np.concatenate([[1.0], above, [0.0]]))

    @property
    def thresholds(self) -> np.ndarray:
        """Where the score of the median rater steps up: 1.5, 2.5, ..., (scale - 1,) float."""
        return np.arange(1, self.scale) + 0.5

    def draw_raters(self, count: int, methods: int, criteria: int, rng: Rng) -> "Raters":
        """Draw attentive raters."""
        bias = self.bias_sd * rng.standard_normal((count, 1))
        moved = self.threshold_sd * rng.standard_normal((count, 1, self.scale - 1))
        return Raters(
            bias=bias + self.criterion_bias_sd * rng.standard_normal((count, criteria)),
            spread=np.exp(self.spread_sd * rng.standard_normal(count)),
            liking=self.liking_sd * _with_halo(self.halo, (count, methods, criteria), rng),
            drift=self.drift_sd * rng.standard_normal(count),
            thresholds=self.thresholds + moved,
        )

    def opinions(
        self,
        raters: "Raters",
        rater: np.ndarray,
        method: np.ndarray,
        place: np.ndarray,
        seen: np.ndarray,
    ) -> np.ndarray:
        """Return raters' latent opinions of what they see, (..., criteria) float.

        Parameters
        ----------
        raters : Raters
        rater, method, place : (...) arrays
            Who sees a clip of which method (-1: of none) and when, from -1/2 to 1/2.
        seen : (..., criteria) float array
            What there is to see: the effects, the clip's own, taste and noise.
        """
        # In place: of many studies, each of these arrays is large.
        found = np.where(method[..., None] < 0, 0.0, raters.liking[rater, method])
        found += seen
        found -= self.middle
        found *= raters.spread[rater][..., None]
        found += self.middle + raters.bias[rater] + (raters.drift[rater] * place)[..., None]
        return found

    def cut(self, opinions: np.ndarray, raters: "Raters", rater: np.ndarray) -> np.ndarray:
        """Cut latent opinions (..., criteria) into whole steps, int8 from 1 to ``scale``."""
        scores = np.ones(opinions.shape, np.int8)
        for threshold in np.moveaxis(raters.thresholds, -1, 0):
            scores += opinions > threshold[rater]
        return scores


@dataclass(frozen=True, eq=False)
class Raters:
    """How some attentive raters differ; what it means stands in :class:`SimulationModel`.

    Attributes
    ----------
    bias : (raters, criteria) float array
    spread, drift : (raters,) float arrays
    liking : (raters, methods, criteria) float array
    thresholds : (raters, criteria or 1, scale - 1) float array
    """

    bias: np.ndarray
    spread: np.ndarray
    liking: np.ndarray
    drift: np.ndarray
    thresholds: np.ndarray


@dataclass(frozen=True)
class ProbitModel(SimulationModel):
    """Raters of another kind: an ordinal probit model with thresholds of each rater's own.

    They neither shift nor stretch one common scale. The thresholds of a rater and criterion begin
    somewhere and lie anywhere apart, and the upper steps are narrower than the lower ones. What
    scores mean is found by drawing many (Liddell and Kruschke, "Analyzing ordinal data with metric
    models", Journal of Experimental Social Psychology 79, 2018).

    Attributes
    ----------
    gap_sd : float
        Of the logarithm of the distance between two thresholds.
    """

    gap_sd: float = 0.35

    @property
    def thresholds(self) -> np.ndarray:
        """Those of the median rater: the distances fall evenly to less than half of the first."""
        gaps = np.linspace(1.4, 0.6, self.scale - 2)
        steps = np.cumsum([0.0, *gaps])
        return self.middle + steps - steps.mean()

    def draw_raters(self, count: int, methods: int, criteria: int, rng: Rng) -> Raters:
        """Draw attentive raters."""
        common = super().draw_raters(count, methods, criteria, rng)
        spread = rng.standard_normal((count, criteria, self.scale - 2))
        gaps = np.diff(self.thresholds) * np.exp(self.gap_sd * spread)
        first = self.thresholds[0] + common.bias[..., None]
        return dataclasses.replace(
            common,
            bias=np.zeros_like(common.bias),
            spread=np.ones(count),
            thresholds=np.concatenate([first, first + gaps.cumsum(axis=2)], axis=2),
        )

    def step_probabilities(
        self, condition: Condition, criterion: str, *, clip_effect: float | None = None
    ) -> np.ndarray:
        """Return how often attentive raters give each step, (scale,) float that sums to 1.

        Counted over 200,000 answers of as many raters, always the same.
        """
        raters, within, place = _many_answers(self)
        rng = np.random.default_rng(1)
        clip = self.stimulus_sd * rng.standard_normal(len(within))
        seen = self.latent_mean(condition, criterion) + within
        seen = seen + (clip if clip_effect is None else clip_effect)
        everyone = np.arange(len(within))
        opinions = self.opinions(raters, everyone, 0 * everyone, place, seen[:, None])
        scores = self.cut(opinions, raters, everyone)
        return np.bincount(scores[:, 0], minlength=self.scale + 1)[1:] / len(scores)


@dataclass(frozen=True, eq=False)
class Layout:
    """Who rates which clips and when: a study's rated trials as arrays.

    Attributes
    ----------
    clips : tuple of Clip
    rater, clip : (n,) int arrays
        Of each trial; a clip's number is its place among ``clips``.
    place : (n,) float array
        When in the session, from -1/2 to 1/2.
    """

    clips: tuple[Clip, ...]
    rater: np.ndarray
    clip: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, study: Study, n_raters: int) -> "Layout":
        """Lay out a study for its first raters, in the order of its design."""
        clips = study_clips(study)
        number = {clip: index for index, clip in enumerate(clips)}
        each = study.ratings.sessions
        planned = itertools.islice(plan_sessions(study, clips), n_raters * each)
        rows = [
            (session // each, number[trial.clip], trial.number / max(len(trials) - 1, 1) - 0.5)
            for session, trials in enumerate(planned)
            for trial in trials
            if trial.role == "rating"
        ]
        rater, clip, place = np.transpose(rows)
        return cls(clips, rater.astype(int), clip.astype(int), place)

    def numbers(self, *columns: str) -> np.ndarray:
        """Number the clips' combinations of columns from 0 without gaps, (clips,) int."""
        return pd.MultiIndex.from_tuples(
            [tuple(getattr(clip, name) for name in columns) for clip in self.clips]
        ).factorize()[0]


def simulate_clips(
    model: SimulationModel,
    layout: Layout,
    n_studies: int,
    rng: Rng,
    *,
    criteria: Sequence[str] = tuple(CRITERIA),
) -> np.ndarray:
    """Draw sources, drivings and clips of many studies: (n_studies, clips, criteria) float.

    These are the latent opinions that all raters of a study share, on the scale's unit.
    """
    means = [[model.latent_mean(c.condition, name) for name in criteria] for c in layout.clips]
    latent = np.array(means, float)
    for name, columns in _STIMULI.items():
        number = layout.numbers(*columns)
        shape = (n_studies, number.max() + 1, len(criteria))
        effects = getattr(model, name) * _with_halo(model.stimulus_halo, shape, rng)
        latent = latent + effects[:, number]
    return latent


def simulate_values(
    model: SimulationModel,
    layout: Layout,
    n_studies: int,
    rng: Rng,
    *,
    criteria: Sequence[str] = tuple(CRITERIA),
) -> np.ndarray:
    """Draw answers of attentive raters in many studies of one layout.

    Each study draws its own sources, drivings and raters, and all its raters share its clips, which
    are those that :func:`simulate_clips` draws by the same generator.

    Returns
    -------
    (n_studies, trials, criteria) int8 array
        From 1 to ``model.scale``.
    """
    seen = simulate_clips(model, layout, n_studies, rng, criteria=criteria)[:, layout.clip]
    seen += math.hypot(model.taste_sd, model.noise_sd) * _with_halo(model.halo, seen.shape, rng)
    method = layout.numbers("method")
    per_study = layout.rater.max() + 1
    raters = model.draw_raters(n_studies * per_study, method.max() + 1, len(criteria), rng)
    rater = per_study * np.arange(n_studies)[:, None] + layout.rater
    of_trial = np.broadcast_to(method[layout.clip], rater.shape)
    place = np.broadcast_to(layout.place, rater.shape)
    return model.cut(model.opinions(raters, rater, of_trial, place, seen), raters, rater)


def typical_model(scale: int = 5) -> SimulationModel:
    """Return the default model, stretched to a scale of another length."""
    default = SimulationModel()
    stretch = (scale - 1) / (default.scale - 1)
    levels = ("mean", "reference", "spoilt")
    sizes = {name for name in vars(default) if name.endswith("_sd")} - {"spread_sd"}
    return dataclasses.replace(
        default,
        scale=scale,
        effects=tuple(dataclasses.replace(e, shift=stretch * e.shift) for e in default.effects),
        **{name: 1 + stretch * (getattr(default, name) - 1) for name in levels},
        **{name: stretch * getattr(default, name) for name in sizes},
    )


def simulate_ratings(
    study: Study,
    n_raters: int,
    *,
    model: SimulationModel | None = None,
    seed: int = 0,
    first: int = 0,
) -> pd.DataFrame:
    """Simulate raters who go through whole sessions of a study, in the order of its design.

    A rater's answers depend on the seed and the rater's number only: asking for more raters
    changes none of those that were there.

    Parameters
    ----------
    study : Study
        Its clips need not be made.
    n_raters : int
    model : SimulationModel, optional
        :func:`typical_model` of the study's scale by default.
    seed : int
    first : int
        The number of the first rater.

    Returns
    -------
    pandas.DataFrame
        The ratings table, with ``simulated`` True throughout.

    Raises
    ------
    StudyError
        The model's scale is not the study's, or there is nothing to rate.
    """
    model = model or typical_model(study.ratings.scale)
    if model.scale != study.ratings.scale:
        raise StudyError(
            f"the simulation has a scale of {model.scale} steps and {study.path} one of "
            f"{study.ratings.scale}: make them the same"
        )
    simulation, each = _Simulation(study, model, seed), study.ratings.sessions
    planned = plan_sessions(study, study_clips(study))
    sessions = list(itertools.islice(planned, first * each, (first + n_raters) * each))
    rows = [
        row
        for rater in range(n_raters)
        for row in simulation.rater(first + rater, sessions[rater * each : (rater + 1) * each])
    ]
    table = pd.DataFrame(rows, columns=list(RATING_COLUMNS))
    return table.astype({"expected_low": "Int64", "expected_high": "Int64"})


def simulate_into(
    store: "Store",
    study: Study,
    n_raters: int,
    *,
    model: SimulationModel | None = None,
    seed: int = 0,
) -> int:
    """Simulate more raters into a study's store, and return how many rows were added.

    They are numbered on from those that the store holds.

    Raises
    ------
    StudyError
        The store holds human ratings of this study; or as :func:`simulate_ratings`.
    """
    store.refuse_other_kind(study.name, simulated=True)
    first = len({session.rater for session in store.sessions(study.name)})
    return store.append(simulate_ratings(study, n_raters, model=model, seed=seed, first=first))


def clip_effects(
    model: SimulationModel, seed: int, clip: Clip, criteria: Sequence[str] = tuple(CRITERIA)
) -> np.ndarray:
    """Return how a simulated study's clip differs from its condition's mean, (criteria,) float.

    That is the sum of what its source, its driving, how its method takes to them and the clip
    itself add. With it, ``model.true_mean(..., clip_effect=...)`` is the truth of that one clip.
    """
    effects = np.zeros(len(criteria))
    for name, columns in _STIMULI.items():
        key = "\n".join([name, *(getattr(clip, column) for column in columns)])
        rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
        effects += getattr(model, name) * _with_halo(model.stimulus_halo, effects.shape, rng)
    return effects


class _Simulation:
    """The raters of one study, one after the other."""

    def __init__(self, study: Study, model: SimulationModel, seed: int) -> None:
        self.study, self.model, self.seed = study, model, seed
        self.criteria = [criterion.name for criterion in study.ratings.asked]
        self.methods = {spec.name: number for number, spec in enumerate(study.methods)}
        self.seconds = driving_seconds(study)
        self.hash = study_hash(study)
        self._latent: dict[str, np.ndarray] = {}

    def rater(self, number: int, sessions: Sequence[Sequence[Trial]]) -> list[dict]:
        """Return the rows of one rater's sessions."""
        rng = np.random.default_rng([self.seed, number])
        attentive = rng.random() >= self.model.inattentive
        habit = "" if attentive else _INATTENTIVE[rng.integers(len(_INATTENTIVE))]
        trials = list(itertools.chain(*sessions))
        in_session = [part for part, its in enumerate(sessions, start=1) for _ in its]
        place = np.concatenate([np.linspace(-0.5, 0.5, len(its)) for its in sessions])
        values = self._answers(trials, place, habit, rng)
        seconds = self._seconds(trials, habit, rng)
        answered = np.cumsum(seconds)
        rater = f"sim-{number + 1:04d}"
        known = {
            "rater": rater,
            "simulated": True,
            "clip_hash": "",
            "study_hash": self.hash,
        }
        start = _FIRST_ANSWER + datetime.timedelta(hours=number)
        rows = []
        for index, trial in enumerate(trials):
            timed = known | {
                "session": f"{self.study.name}/{rater}/{in_session[index]}",
                "seconds": round(float(seconds[index]), 3),
                "watched": self.study.ratings.watch if habit == "too fast" else 1.0,
                "answered_at": start + datetime.timedelta(seconds=float(answered[index])),
            }
            answer = dict(zip(self.criteria, values[index].tolist(), strict=True))
            rows += [row | timed for row in rating_rows(self.study, trial, answer)]
        return rows

    def _answers(
        self, trials: Sequence[Trial], place: np.ndarray, habit: str, rng: np.random.Generator
    ) -> np.ndarray:
        """Return (trials, criteria) int: steps of the scale, or which clip of a pair is better."""
        shape = (len(trials), len(self.criteria))
        highest = self.study.ratings.highest
        if habit == "random":
            return rng.integers(1, highest + 1, shape)
        if habit == "always the same":
            return np.full(shape, rng.integers(1, highest + 1))
        raters = self.model.draw_raters(1, len(self.methods), len(self.criteria), rng)
        opinions = self._opinions(trials, place, raters, rng)
        if habit:  # too fast to have any
            noise = rng.standard_normal(opinions.shape)
            opinions = self.model.middle + 0.25 * self.model.scale * noise
        if self.study.ratings.task == "pair":
            return np.where(opinions[0] >= opinions[1], 1, 2)
        return self.model.cut(opinions[0], raters, np.zeros(len(trials), int))

    def _opinions(
        self, trials: Sequence[Trial], place: np.ndarray, raters: Raters, rng: np.random.Generator
    ) -> np.ndarray:
        """Return a rater's latent opinions, (2, trials, criteria): of the first and other clip."""
        model = self.model
        shown = [[trial.clip, trial.other or trial.clip] for trial in trials]
        tastes: dict[str, np.ndarray] = {}
        for clip in itertools.chain.from_iterable(shown):
            if clip.cell not in tastes:
                draw = _with_halo(model.halo, (len(self.criteria),), rng)
                tastes[clip.cell] = self._clip_latent(clip) + model.taste_sd * draw
        seen = np.array([[tastes[clip.cell] for clip in pair] for pair in shown])
        seen = seen.transpose(1, 0, 2)
        seen = seen + model.noise_sd * _with_halo(model.halo, seen.shape, rng)
        method = [[self.methods.get(clip.method, -1) for clip in pair] for pair in shown]
        place = np.broadcast_to(place, seen.shape[:2])
        nobody_else = np.zeros(seen.shape[:2], int)
        return model.opinions(raters, nobody_else, np.transpose(method), place, seen)

    def _clip_latent(self, clip: Clip) -> np.ndarray:
        """Return the latent opinion of a clip that raters share, (criteria,) float."""
        if clip.cell not in self._latent:
            names, model = self.criteria, self.model
            if clip.kind == "reference":
                latent = np.full(len(names), model.reference)
            else:
                effects = clip_effects(model, self.seed, clip, names)
                latent = effects + [model.latent_mean(clip.condition, name) for name in names]
                if clip.kind in FLAWS:
                    flawed = (*FLAWS[clip.kind], OVERALL)
                    latent[[name in flawed for name in names]] = model.spoilt
            self._latent[clip.cell] = latent
        return self._latent[clip.cell]

    def _seconds(self, trials: Sequence[Trial], habit: str, rng: np.random.Generator) -> np.ndarray:
        """Return the time from a trial's show to its answer, (trials,) float."""
        model = self.model
        thought = np.exp(model.seconds_spread * rng.standard_normal(len(trials)))
        thought *= model.seconds * len(self.criteria)
        if habit == "too fast":
            thought = rng.uniform(0.2, 0.8, len(trials))
        lengths = np.array([self.seconds[trial.clip.driving] for trial in trials])
        return thought + lengths * (self.study.ratings.watch if habit == "too fast" else 1.0)


def _with_halo(halo: float, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw standard normals whose last axis, the criteria, is correlated by ``halo``."""
    common = rng.standard_normal((*shape[:-1], 1))
    own = np.sqrt(1 - halo) * rng.standard_normal(shape)
    own += np.sqrt(halo) * common
    return own


@lru_cache
def _normal_quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights that integrate over a standard normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_QUADRATURE_NODES)
    return nodes, weights / weights.sum()


@lru_cache(maxsize=2)
def _many_answers(model: SimulationModel) -> tuple[Raters, np.ndarray, np.ndarray]:
    """Draw raters, what tastes and noise add to an answer of each, and when it is given."""
    rng = np.random.default_rng(0)
    raters = model.draw_raters(_MANY, 1, 1, rng)
    within = math.hypot(model.taste_sd, model.noise_sd) * rng.standard_normal(_MANY)
    return raters, within, rng.uniform(-0.5, 0.5, _MANY)
