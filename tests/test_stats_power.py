"""The planner: its power is that of the report's tests, over raters, sources and drivings."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from studykit.errors import StudyError
from studykit.ratings.design import study_clips
from studykit.ratings.simulate import Effect, SimulationModel
from studykit.stats import contrasts, power
from studykit.stats.comparison import holm
from studykit.stats.power import (
    FACTORS,
    SimulatedStudies,
    latent_difference,
    plan_raters,
    simulated_answers,
    with_stimuli,
)
from studykit.study.file import Study, load_study


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two numbers of raters and of stimuli are enough to see what a plan does."""
    monkeypatch.setattr(power, "RATERS", (8, 30))
    monkeypatch.setattr(power, "STIMULI", (2, 4))


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


def test_power_is_the_share_of_studies_in_which_the_reports_test_finds_it(
    make_study: Callable[..., Study],
) -> None:
    study = with_stimuli(make_study("copy, warp, {name: w, method: warp}"), 3, 3)
    studies = SimulatedStudies(SimulationModel(), 0.7, study, criteria=2, n_studies=25, seed=3)
    found = {factor: [] for factor in FACTORS}
    for values in studies.values:
        tests = list(contrasts(simulated_answers(studies.layout, values[None])))
        for at, factor in enumerate(FACTORS):
            # The criterion on which this factor differs, and the next: a family of two criteria.
            p = [c.p[[at, (at + 1) % 3]] for c in tests if c.factors == (factor,)]
            found[factor].append(first_is_rejected(np.ravel(p).tolist()))
    powers = studies.power(30)
    for factor, hits in found.items():
        assert 0 < np.mean(hits) < 1
        assert powers[factor] == (pytest.approx(np.mean(hits)), "")


def test_the_difference_is_between_two_levels_of_each_factor_on_a_criterion_of_its_own(
    make_study: Callable[..., Study],
) -> None:
    studies = SimulatedStudies(
        SimulationModel(), 1.0, make_study(), criteria=4, n_studies=150, seed=5
    )
    clips = [studies.layout.clips[at] for at in studies.layout.clip]
    for at, factor in enumerate(FACTORS):
        level = np.array([getattr(clip, factor) for clip in clips])
        first, second = (studies.values[:, level == name] for name in sorted(set(level)))
        gaps = first.mean(axis=(0, 1)) - second.mean(axis=(0, 1))
        expected = np.where(np.arange(4) == at, 0.95, 0.0)
        assert gaps == pytest.approx(expected, abs=0.12)


def test_more_raters_and_stimuli_have_more_power_and_smaller_differences_less(
    make_study: Callable[..., Study],
) -> None:
    study = make_study()
    plan, smaller = (plan_raters(study, difference=d, n_studies=60) for d in (0.6, 0.3))
    table = plan.grid.pivot_table(index=["comparison", "stimuli"], columns="raters", values="power")
    assert (table[30] >= table[8]).all()
    assert (table[30].xs(4, level=1) > table[30].xs(2, level=1)).all()
    assert (smaller.grid["power"] <= plan.grid["power"]).all()
    assert (smaller.grid["power"] < plan.grid["power"]).any()


def test_one_source_a_type_has_no_power_but_a_reason(make_study: Callable[..., Study]) -> None:
    plan = plan_raters(make_study(), n_studies=40)
    rows = plan.table.set_index("comparison")
    assert rows.loc["two of 2 methods", "reason"] == ""
    for kind in ("source", "driving"):
        row = rows.loc[f"two of 2 {kind} types"]
        assert row["power"] == 0
        assert f"two {kind}s in each" in row["reason"]
        line = next(text for text in str(plan).splitlines() if f"two of 2 {kind} types" in text)
        assert "can't be tested" in line
        assert "±" not in line
    # With more of them it can.
    assert plan.grid[plan.grid["stimuli"] == 4].groupby("comparison")["power"].max().min() > 0


def test_raters_who_see_a_part_of_the_clips_are_worth_no_less(
    make_study: Callable[..., Study],
) -> None:
    """What a rater saw of one driving and another of the next tells methods apart as well."""
    study = make_study()
    one, two = (with_stimuli(study, 2, drivings) for drivings in (1, 2))
    model, found = SimulationModel(), []
    for planned in (one, two):
        trials = len({clip.condition for clip in study_clips(planned)})
        planned = dataclasses.replace(
            planned, ratings=dataclasses.replace(planned.ratings, trials=trials)
        )
        studies = SimulatedStudies(model, 0.8, planned, criteria=1, n_studies=200, seed=6)
        found.append(studies.power(30)["method"][0])
    assert found[1] > found[0] - 0.05


def test_the_plan_adds_up(make_study: Callable[..., Study], monkeypatch) -> None:
    study = with_stimuli(make_study(), 3, 3)
    lengths = {item.name: 2.0 for item in study.drivings}
    monkeypatch.setattr(power, "driving_seconds", lambda study: lengths)
    model = SimulationModel(inattentive=0.2)
    plan = plan_raters(study, model=model, difference=1.5, n_studies=60)
    row = plan.table.set_index("comparison").loc["two of 2 methods"]
    assert row["tests"] == 4
    assert row["raters"] in (8, 30)
    assert row["invite"] == math.ceil(row["raters"] / 0.8)
    assert row["ratings"] == row["raters"]
    assert row["power"] >= plan.power
    assert row["power_error"] == pytest.approx(math.sqrt(row["power"] * (1 - row["power"]) / 60))
    assert plan.fewest.loc["two of 2 methods", 0] == row["raters"]


def test_invented_stimuli_keep_the_types_and_all_meet(make_study: Callable[..., Study]) -> None:
    study = with_stimuli(make_study(), 3, 2)
    clips = study_clips(study)
    assert len(clips) == 6 * 4 * 2
    assert len({clip.source for clip in clips}) == 6
    assert len({clip.driving for clip in clips}) == 4
    assert {c.condition for c in clips} == {c.condition for c in study_clips(make_study())}


def test_the_same_seed_gives_the_same_plan(make_study: Callable[..., Study]) -> None:
    study = make_study()
    one, again, other = (plan_raters(study, n_studies=40, seed=seed) for seed in (1, 1, 2))
    assert one.grid.equals(again.grid)
    assert not one.grid.equals(other.grid)


def test_a_difference_that_nobody_sees_is_named(make_study: Callable[..., Study]) -> None:
    plan = plan_raters(make_study(), difference=0.02, n_studies=20)
    assert plan.table["raters"].isna().all()
    assert plan.table["invite"].isna().all()
    assert plan.fewest.isna().all(axis=None)
    assert str(plan).count(power._TOO_MANY) == 1 + 2 * 3
    assert "nan" not in str(plan).lower()


def test_what_cannot_be_planned_is_refused(make_study: Callable[..., Study]) -> None:
    with pytest.raises(StudyError, match="pairs"):
        plan_raters(make_study(ratings="{task: pair}"))
    study = make_study()
    for difference in (0, -1, 4, 9):
        with pytest.raises(StudyError, match="can't be seen"):
            plan_raters(study, difference=difference)
    for asked in (0, 1, 80):
        with pytest.raises(StudyError, match="power"):
            plan_raters(study, power=asked)


def test_one_condition_has_nothing_to_compare(small_study: Path) -> None:
    text = small_study.read_text().replace(", side: [berta.png]", "")
    small_study.write_text(text.replace(", stylised: [turn.mp4]", ""))
    with pytest.raises(StudyError, match="one condition"):
        plan_raters(load_study(small_study))
