"""The planner: its power is that of the report's test, and its number that of theory."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from studykit.errors import StudyError
from studykit.ratings.simulate import Effect, SimulationModel, simulate_scores
from studykit.stats.comparison import holm, signed_rank
from studykit.stats.power import (
    MOST_RATERS,
    Comparison,
    SimulatedStudies,
    comparisons,
    latent_difference,
    plan_raters,
)
from studykit.study.file import Study, load_study
from studykit.study.wording import CRITERIA

NAMED = Comparison("two conditions", n_levels=2, n_clips=1)


@pytest.fixture
def make_study(small_study: Path) -> Callable[..., Study]:
    """Two sources x two drivings x some methods, with a section of ratings."""
    text = small_study.read_text()

    def make(methods: str = "copy, warp", ratings: str = "{}") -> Study:
        small_study.write_text(text.replace("[copy]", f"[{methods}]") + f"ratings: {ratings}\n")
        return load_study(small_study)

    return make


def first_is_rejected(p: list[float]) -> bool:
    """Holm's method step by step: from the smallest p on, until one is too large."""
    for step, value in enumerate(sorted(p)):
        if value > 0.05 / (len(p) - step):
            return False
        if value == p[0]:
            return True
    raise AssertionError("the first p is among them")


def test_holm_is_that_of_the_paper_and_of_statsmodels() -> None:
    rng = np.random.default_rng(0)
    p = rng.beta(0.3, 3, (400, 6)).round(3)  # rounded, so that some are tied
    expected = [first_is_rejected(row) for row in p.tolist()]
    assert 50 < np.sum(expected) < 350
    assert (holm(p)[:, 0] <= 0.05).tolist() == expected
    assert expected[:8] == [multipletests(row, method="holm")[0][0] for row in p[:8]]


def test_the_latent_difference_gives_the_difference_of_true_means() -> None:
    model = SimulationModel(mean=4.4, spread_sd=0.3)  # near the end of the scale
    shift = latent_difference(model, 0.5)
    high, low = (
        dataclasses.replace(model, effects=(Effect(part),)).true_mean(("side",) * 3, "jitter")
        for part in (shift / 2, -shift / 2)
    )
    assert high - low == pytest.approx(0.5, abs=1e-9)
    assert shift > 0.6


def test_power_is_the_share_of_studies_in_which_the_reports_test_finds_it() -> None:
    model, shift, n_raters = SimulationModel(), 0.6, 14
    three = Comparison("two of 3", n_levels=3, n_clips=2)
    studies = SimulatedStudies(model, shift, three, list(CRITERIA), n_studies=60, seed=3)
    rng = np.random.default_rng([3, 0])
    effects = tuple(
        Effect(part, method=method, criterion="naturalness")
        for part, method in ((shift / 2, "high"), (-shift / 2, "low"))
    )
    conditions = [("frontal", "frontal", m) for m in ("high", "low", "2") for _ in range(2)]
    scores = simulate_scores(dataclasses.replace(model, effects=effects), 60 * 32, conditions, rng)
    means = scores.reshape(60, 32, 3, 2, 4).mean(axis=3)[:, :n_raters]
    found = []
    for study in means:
        p = [
            signed_rank(study[:, a, criterion] - study[:, b, criterion]).p
            for a, b in ((0, 1), (0, 2), (1, 2))
            for criterion in range(4)
        ]
        found.append(first_is_rejected(p))
    assert 0.1 < np.mean(found) < 0.95
    assert studies.power(n_raters) == pytest.approx(np.mean(found))


def test_the_number_of_raters_is_that_of_theory(make_study: Callable[..., Study]) -> None:
    """With one criterion there is one test; a signed-rank test needs 1 / 0.955 of a t test's."""
    study = make_study(ratings="{criteria: {jitter: }}")
    model = SimulationModel(inattentive=0.2, clip_sd=0.3)
    plan = plan_raters(study, model=model, difference=0.6, n_studies=2000)
    row = plan.table.set_index("comparison").loc["two conditions, named beforehand"]
    shift = latent_difference(model, 0.6)
    effects = (Effect(shift / 2, method="a"), Effect(-shift / 2, method="b"))
    pair = [("frontal", "frontal", "a"), ("frontal", "frontal", "b")]
    scores = simulate_scores(
        dataclasses.replace(model, effects=effects), 50_000, pair, np.random.default_rng(9)
    )
    deviation = np.diff(scores[:, :, 2].astype(float), axis=1).std()
    of_t_test = TTestPower().solve_power(effect_size=0.6 / deviation, alpha=0.05, power=0.8)
    assert row["tests"] == 1
    assert row["raters"] == pytest.approx(of_t_test / 0.955, rel=0.12)
    assert 0.8 <= row["power"] < 0.86
    assert row["power_error"] == pytest.approx(math.sqrt(row["power"] * (1 - row["power"]) / 2000))
    assert row["invite"] == math.ceil(row["raters"] / 0.8)
    assert row["ratings"] == row["raters"]


def test_one_rater_fewer_has_too_little_power() -> None:
    studies = SimulatedStudies(SimulationModel(), 0.8, NAMED, ["jitter"], n_studies=400, seed=4)
    fewest, reached = studies.fewest(0.7)
    assert reached == studies.power(fewest) >= 0.7
    assert studies.power(fewest - 1) < 0.7


def test_smaller_differences_and_more_power_need_more_raters(
    make_study: Callable[..., Study],
) -> None:
    study = make_study()
    raters = [
        plan_raters(study, n_studies=150, **asked).table["raters"]
        for asked in ({"difference": 1.0}, {}, {"power": 0.9}, {"difference": 0.4, "power": 0.9})
    ]
    for fewer, more in itertools.pairwise(raters):
        assert (fewer < more).all()


def test_the_same_seed_gives_the_same_plan(make_study: Callable[..., Study]) -> None:
    study = make_study()
    one, again, other = (plan_raters(study, n_studies=100, seed=seed) for seed in (1, 1, 2))
    assert one.table.equals(again.table)
    assert not one.table.equals(other.table)


def test_comparisons_are_those_of_the_study(make_study: Callable[..., Study]) -> None:
    study = make_study("copy, warp, {name: w, method: warp}")
    found = {c.name: (c.n_levels, c.n_clips) for c in comparisons(study)}
    assert found == {
        "two of 3 methods": (3, 4),  # on the same source and driving, of which there are four
        "two of 2 source types": (2, 6),
        "two of 2 driving types": (2, 6),
        "two conditions, named beforehand": (2, 1),
    }


def test_a_difference_that_hundreds_do_not_see_is_named(make_study: Callable[..., Study]) -> None:
    plan = plan_raters(make_study(), difference=0.02, n_studies=50)
    assert plan.table["raters"].isna().all()
    assert plan.table["invite"].isna().all()
    assert f"> {MOST_RATERS}" in str(plan)


def test_the_plan_says_what_a_rater_does(make_study: Callable[..., Study]) -> None:
    text = str(plan_raters(make_study(), n_studies=50))
    assert "two of 2 methods" in text
    assert "A rater needs about" in text
    assert "Wilcoxon" in text
    assert "Holm" in text
    assert "nan" not in text.lower()


def test_what_cannot_be_planned_is_refused(make_study: Callable[..., Study]) -> None:
    with pytest.raises(StudyError, match="pairs"):
        plan_raters(make_study(ratings="{task: pair}"))
    study = make_study()
    for difference in (0, -1, 4, 9):
        with pytest.raises(StudyError, match="can't be seen"):
            plan_raters(study, difference=difference)
    for power in (0, 1, 80):
        with pytest.raises(StudyError, match="power"):
            plan_raters(study, power=power)


def test_one_condition_has_nothing_to_compare(small_study: Path) -> None:
    text = small_study.read_text().replace(", side: [berta.png]", "")
    small_study.write_text(text.replace(", stylised: [turn.mp4]", ""))
    with pytest.raises(StudyError, match="one condition"):
        plan_raters(load_study(small_study))
