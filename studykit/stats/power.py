"""How many raters, sources and drivings a claim needs: its own test on simulated studies.

A formula for a t test would know neither the scale's ends nor the correction for many tests, nor
that the clips at hand are a sample too: however many raters, two sources say little of a type.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy

from studykit.errors import StudyError
from studykit.ratings.design import (
    Condition,
    plan_session,
    raters_for_every_clip,
    ratings_per_condition,
    session_minutes,
    study_clips,
)
from studykit.ratings.screening import driving_seconds
from studykit.ratings.simulate import (
    Effect,
    Layout,
    SimulationModel,
    simulate_values,
    typical_model,
)
from studykit.stats.comparison import holm
from studykit.stats.crossed import Answers, contrasts
from studykit.stats.result import in_words
from studykit.study.file import Input, Study

RATERS = (8, 12, 15, 18, 24, 30, 40, 60, 100)
STIMULI = (2, 3, 4, 6, 8)  # sources and drivings a type that a study could have
FACTORS = ("method", "source_type", "driving_type")
_SIGNIFICANCE = 0.05
_ANY = Condition("frontal", "frontal", "")
_TOO_MANY = f"> {RATERS[-1]}"


@dataclass(frozen=True, eq=False)
class RaterPlan:
    """How many raters, sources and drivings a study needs, and what its raters will have to do.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a comparison: comparison, tests (the family), raters (the fewest of ``RATERS``;
        missing where all are too few), power, power_error (its simulation error, one standard
        error), invite (raters and those to replace: the model's inattentive ones), minutes (a
        rater), ratings (a condition, the fewest), reason (why it can't be tested, else "").
    grid : pandas.DataFrame
        comparison, stimuli (sources a type, and drivings a type; 0 is the study as it is), raters,
        power.
    power : float
        What was asked for.
    how : str
        The method, in words that can be quoted.
    work : str
        What a rater has to do, and how many it takes to rate every clip often enough.
    """

    table: pd.DataFrame
    grid: pd.DataFrame
    power: float
    how: str
    work: str = ""

    @property
    def fewest(self) -> pd.DataFrame:
        """The fewest of ``RATERS`` by comparison and stimuli, missing where all are too few."""
        reached = self.grid[self.grid["power"] >= self.power]
        return (
            reached.groupby(["comparison", "stimuli"], sort=False)["raters"]
            .min()
            .unstack()
            .reindex(index=self.table["comparison"], columns=[0, *STIMULI])
            .astype("Int64")
        )

    def __str__(self) -> str:
        """Set the tables as text, with the method below them."""
        lines = [_line("a difference between", "tests", "raters", "invite", "power", "ratings")]
        for row in self.table.itertuples():
            few = pd.isna(row.raters)
            numbers = (
                row.tests,
                _TOO_MANY if few else row.raters,
                "" if few else row.invite,
                f"{row.power:.2f} ± {row.power_error:.2f}",
                row.ratings,
            )
            untested = f"{row.comparison:26}   can't be tested: {row.reason}"
            lines.append(untested if row.reason else _line(row.comparison, *numbers))
        fewest = self.fewest.drop(columns=0).astype("string").fillna(_TOO_MANY)
        return "\n".join(
            [
                *lines,
                "",
                "Raters with so many sources a type, and as many drivings, all of which meet:",
                _line("", *fewest.columns),
                *itertools.starmap(_line, fewest.itertuples()),
                "",
                "tests: family that Holm's method corrects for; invite: so many, as some will be "
                "excluded; ratings: the fewest that a condition gets.",
                self.work,
                self.how,
            ]
        )


def plan_raters(
    study: Study,
    *,
    difference: float = 0.5,
    power: float = 0.8,
    model: SimulationModel | None = None,
    n_studies: int = 200,
    seed: int = 0,
) -> RaterPlan:
    """Find how many raters see a difference of mean scores with a given power.

    Studies are simulated whose raters, sources and drivings are drawn, in which two levels differ
    by just that on one criterion, all other things being equal, and tested as the report tests:
    :func:`studykit.stats.contrasts`, corrected by Holm's method over the family. So is the study as
    it is, and with other numbers of sources and drivings a type; a rater sees as many clips in all
    of them. More raters are always the same and some more.

    Parameters
    ----------
    study : Study
        Its clips need not be made.
    difference : float
        Of mean scores, in steps of the scale.
    power : float
        The share of studies that must find it, between 0 and 1.
    model : SimulationModel, optional
        How raters, sources and drivings differ; its effects are replaced by the difference.
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
    levels = {factor: {getattr(clip, factor) for clip in clips} for factor in FACTORS}
    names = {
        factor: f"two of {len(found)} {in_words([factor])}s"
        for factor, found in levels.items()
        if len(found) > 1
    }
    if not names:
        raise StudyError(f"{study.path} has one condition only: there is nothing to compare")
    trials = plan_session(study, clips, 0)
    criteria = len(study.ratings.asked)
    lengths = driving_seconds(study)
    minutes = session_minutes(
        trials,
        clip_seconds=float(np.mean([lengths[trial.clip.driving] for trial in trials])),
        criteria=criteria,
    )
    found, reasons = [], {}
    for stimuli in (0, *STIMULI):
        asked = with_stimuli(study, stimuli, stimuli) if stimuli else study
        studies = SimulatedStudies(model, shift, asked, criteria, n_studies, seed)
        for raters in RATERS:
            powers = studies.power(raters)
            found += [(name, stimuli, raters, powers[f][0]) for f, name in names.items()]
        if not stimuli:
            reasons = {factor: reason for factor, (_, reason) in powers.items()}
    grid = pd.DataFrame(found, columns=["comparison", "stimuli", "raters", "power"])
    rows = []
    for factor, name in names.items():
        here = grid[(grid["comparison"] == name) & (grid["stimuli"] == 0)]
        enough = here[here["power"] >= power]
        at = (enough if len(enough) else here.tail(1)).iloc[0]
        fewest = int(at["raters"]) if len(enough) else None
        rows.append(
            {
                "comparison": name,
                "tests": math.comb(len(levels[factor]), 2) * criteria,
                "raters": fewest,
                "power": at["power"],
                "power_error": math.sqrt(at["power"] * (1 - at["power"]) / n_studies),
                "invite": fewest and math.ceil(fewest / (1 - model.inattentive)),
                "minutes": minutes,
                "ratings": min(ratings_per_condition(study, clips, int(at["raters"])).values()),
                "reason": reasons[factor],
            }
        )
    table = pd.DataFrame(rows).astype({"raters": "Int64", "invite": "Int64"})
    how = (
        f"{n_studies} simulated studies a number, each with its own raters, sources and drivings, "
        f"in which two levels differ by {difference:g} of a step on one of {criteria} criteria; t "
        "tests that speak for raters, sources and drivings like these, two-sided, "
        f"{100 * _SIGNIFICANCE:g} % over the family of tests (Holm). Standard deviations, in "
        f"steps: sources {model.source_sd:g}, drivings {model.driving_sd:g}, how methods take to "
        f"them {model.source_method_sd:g} and {model.driving_method_sd:g}, clips "
        f"{model.clip_sd:g} more; raters' levels {model.bias_sd:g}, their liking of a method "
        f"{model.liking_sd:g}."
    )
    return RaterPlan(table, grid, power, how, _work(study, minutes))


def _work(study: Study, minutes: float) -> str:
    rules, clips = study.ratings, study_clips(study)
    session = f", in each of {rules.sessions} sessions" if rules.sessions > 1 else ""
    text = f"A rater needs about {math.ceil(minutes)} minutes{session}."
    goal = max(rules.ratings_per_clip_min, 1)
    often = f"the {goal} ratings that the study asks for" if goal > 1 else "a rating"
    raters = raters_for_every_clip(study, clips)
    return f"{text} It takes at least {raters} to give each of {len(clips)} clips {often}."


def with_stimuli(study: Study, sources: int, drivings: int) -> Study:
    """Return a study with so many sources and drivings of each of its types, all of which meet.

    None of them exists: it is for planning.
    """

    def invented(items: Sequence[Input], kind: str, count: int) -> tuple[Input, ...]:
        types = dict.fromkeys(item.type for item in items)
        names = [(of_type, f"{of_type}-{kind}-{n}") for of_type in types for n in range(count)]
        return tuple(Input(name, of_type, study.path.with_name(name)) for of_type, name in names)

    return dataclasses.replace(
        study,
        sources=invented(study.sources, "source", sources),
        drivings=invented(study.drivings, "driving", drivings),
        protocols=("cross-identity",),
        listed=(),
    )


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


def simulated_answers(layout: Layout, values: np.ndarray) -> Answers:
    """Return the answers of many studies of one layout as those of one, whose criteria they are.

    Parameters
    ----------
    values : (studies, trials, criteria) array
        As :func:`studykit.ratings.simulate.simulate_values` draws them.
    """
    seen, clip = np.unique(layout.clip, return_inverse=True)
    clips = [layout.clips[number] for number in seen]
    levels = {factor: sorted({getattr(clip, factor) for clip in clips}) for factor in FACTORS}
    columns = {
        name: np.unique([getattr(clip, name) for clip in clips], return_inverse=True)[1]
        for name in (*FACTORS, "source", "driving")
    }
    columns_of_all = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1).astype(float)
    return Answers(columns_of_all, layout.rater, clip, **columns, names=levels)


class SimulatedStudies:
    """Studies in which two methods, two source types and two driving types differ.

    Each difference is on a criterion of its own and between the first two levels, so that one
    simulation serves all.

    Parameters
    ----------
    model : SimulationModel
        Its effects are replaced.
    shift : float
        Between the latent opinions of the two levels.
    study : Study
    criteria : int
        How many a family covers.
    n_studies, seed : int
    """

    def __init__(
        self,
        model: SimulationModel,
        shift: float,
        study: Study,
        criteria: int,
        n_studies: int,
        seed: int,
    ) -> None:
        self.layout = Layout.of(study, RATERS[-1])
        # Other levels lie in the middle between the two, so that they help Holm's method little.
        effects = tuple(
            Effect(sign * shift / 2, criterion=factor, **{factor: level})
            for factor in FACTORS
            for sign, level in zip((1, -1), self._levels(factor), strict=False)
        )
        names = [*FACTORS, *map(str, range(len(FACTORS), criteria))]
        self.values = simulate_values(
            dataclasses.replace(model, effects=effects),
            self.layout,
            n_studies,
            np.random.default_rng(seed),
            criteria=names,
        )
        # The family of a factor: the criterion on which it differs, and so many others.
        self._family = {
            factor: [(at + other) % len(names) for other in range(criteria)]
            for at, factor in enumerate(FACTORS)
        }

    def _levels(self, factor: str) -> list[str]:
        return sorted({getattr(clip, factor) for clip in self.layout.clips})

    def power(self, n_raters: int) -> dict[str, tuple[float, str]]:
        """Return, by factor, the share of studies whose first raters show the difference.

        Beside it stands why it can't be tested, or "".
        """
        shown = self.layout.rater < n_raters
        layout = dataclasses.replace(
            self.layout,
            rater=self.layout.rater[shown],
            clip=self.layout.clip[shown],
            place=self.layout.place[shown],
        )
        answers = simulated_answers(layout, self.values[:, shown])
        mains = itertools.takewhile(lambda c: len(c.factors) == 1, contrasts(answers))
        found = {}
        for factor, tested in itertools.groupby(mains, lambda c: c.factors[0]):
            pairs = list(tested)
            p = np.array([c.p.reshape(len(self.values), -1) for c in pairs])
            p = p[:, :, self._family[factor]].swapaxes(0, 1).reshape(len(self.values), -1)
            rejected = holm(np.where(np.isnan(p), 1.0, p))[:, 0] <= _SIGNIFICANCE
            found[factor] = float(rejected.mean()), pairs[0].reason
        return found


def _line(first: str, *others: object) -> str:
    return f"{first:26}" + "".join(f"{other!s:>13}" for other in others)
