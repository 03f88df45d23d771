"""Simulated raters: their truth is exact, and what they answer has that truth."""

import dataclasses
import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats

from studykit.errors import StudyError
from studykit.ratings.design import Clip, Condition, plan_sessions, study_clips
from studykit.ratings.exchange import export_ratings, import_ratings
from studykit.ratings.screening import driving_seconds
from studykit.ratings.simulate import (
    Effect,
    Layout,
    ProbitModel,
    SimulationModel,
    clip_effects,
    simulate_clips,
    simulate_into,
    simulate_ratings,
    simulate_values,
    typical_model,
)
from studykit.ratings.store import open_store
from studykit.study.file import TYPES, Study, load_study
from studykit.study.wording import CRITERIA

CONDITIONS = [Condition(*types, "copy") for types in itertools.product(TYPES, TYPES)]
ATTENTIVE = SimulationModel(inattentive=0)
ALIKE = {name: 0.0 for name in vars(ATTENTIVE) if name.endswith("_sd")}


@pytest.fixture
def study(small_study: Path) -> Study:
    """Two sources x two drivings x two methods: eight conditions of one clip each."""
    small_study.write_text(small_study.read_text().replace("[copy]", "[copy, warp]"))
    return load_study(small_study)


def layout(conditions: list[Condition], n_raters: int = 1, items: int = 1) -> Layout:
    """Every rater sees all clips: so many sources and as many drivings a condition."""
    clips = [
        Clip(f"{of}{s}{d}", f"{of[0]}-{s}", of[0], f"{of[1]}-{d}", of[1], of[2])
        for of in conditions
        for s, d in itertools.product(range(items), range(items))
    ]
    shown = len(clips)
    return Layout(
        tuple(clips),
        np.repeat(np.arange(n_raters), shown),
        np.tile(np.arange(shown), n_raters),
        np.tile(np.linspace(-0.5, 0.5, shown), n_raters),
    )


def test_true_mean_is_the_integral_of_the_stated_model() -> None:
    model, condition = SimulationModel(spread_sd=0.4), Condition("side", "side", "warp")
    latent = 3.6 - 0.3 - 0.5 - 0.3 - 0.3  # by hand, from the default effects

    def density(score: float, log_spread: float) -> float:
        spread = np.exp(log_spread)
        stimuli = 2 * 0.2**2 + 2 * 0.1**2 + 0.2**2  # sources, drivings; by method; clips
        within = spread**2 * (stimuli + 0.15**2 + model.taste_sd**2 + model.noise_sd**2)
        raters = 0.4**2 + 0.2**2 + 0.15**2 + 0.2**2 / 12
        deviation = np.sqrt(raters + within)
        centre = 3 + spread * (latent - 3)
        step = min(max(np.floor(score + 0.5), 1), 5)
        weight = stats.norm.pdf(log_spread, scale=model.spread_sd)
        return step * stats.norm.pdf(score, centre, deviation) * weight

    edges = [-20, 1.5, 2.5, 3.5, 4.5, 25]
    expected = sum(
        integrate.dblquad(density, -3, 3, low, high, epsabs=1e-9)[0]
        for low, high in itertools.pairwise(edges)
    )
    assert model.true_mean(condition, "naturalness") == pytest.approx(expected, abs=1e-6)


def test_a_model_without_noise_rounds_its_latent_opinion() -> None:
    for mean, score in ((0.2, 1), (2.4, 2), (2.6, 3), (7.0, 5)):
        model = SimulationModel(mean=mean, effects=(), **ALIKE)
        assert model.true_mean(CONDITIONS[0], "jitter") == pytest.approx(score)
        values = simulate_values(model, layout(CONDITIONS), 3, np.random.default_rng(0))
        assert (values == score).all()


@pytest.mark.parametrize(
    "model", [*map(typical_model, (2, 5, 9)), ProbitModel()], ids=["2", "5", "9", "probit"]
)
def test_scores_have_the_true_mean_and_the_true_shares(model: SimulationModel) -> None:
    n_studies = 40_000
    scores = simulate_values(model, layout(CONDITIONS), n_studies, np.random.default_rng(1))
    assert scores.shape == (n_studies, 9, 4)
    assert scores.min() >= 1
    assert scores.max() <= model.scale
    for i, condition in enumerate(CONDITIONS):
        for k, criterion in enumerate(CRITERIA):
            drawn = scores[:, i, k]
            error = drawn.std() / np.sqrt(n_studies)
            assert abs(drawn.mean() - model.true_mean(condition, criterion)) < 5 * error
            shares = np.bincount(drawn, minlength=model.scale + 1)[1:] / n_studies
            probabilities = model.step_probabilities(condition, criterion)
            assert probabilities.sum() == pytest.approx(1)
            assert np.abs(shares - probabilities).max() < 5 * 0.5 / np.sqrt(n_studies)


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("source_sd", "source"),
        ("driving_sd", "driving"),
        ("source_method_sd", "source method"),
        ("driving_method_sd", "driving method"),
        ("clip_sd", "source driving method"),
    ],
)
def test_clips_differ_by_what_they_share_for_all_raters(name: str, shared: str) -> None:
    conditions = [c for m in "ab" for c in (Condition("side", "side", m),)]
    of = layout(conditions, items=2)
    model = SimulationModel(mean=3, effects=(), **ALIKE | {name: 0.3}, stimulus_halo=0.7)
    drawn = simulate_clips(model, of, 4000, np.random.default_rng(3)) - 3
    assert drawn.std() == pytest.approx(0.3, rel=0.05)
    for one, other in itertools.combinations(range(len(of.clips)), 2):
        pair = of.clips[one], of.clips[other]
        same = all(len({getattr(clip, part) for clip in pair}) == 1 for part in shared.split())
        assert np.allclose(drawn[:, one], drawn[:, other]) == same
    assert np.corrcoef(drawn[:, 0, 0], drawn[:, 0, 1])[0, 1] == pytest.approx(0.7, abs=0.05)
    # Answers without any noise of raters show just these clips.
    values = simulate_values(model, layout(conditions, 2, 2), 50, np.random.default_rng(3))
    assert (values[:, :8] == values[:, 8:]).all()


def test_raters_have_their_own_liking_thresholds_and_drift() -> None:
    two = [Condition("side", "side", method) for method in "ab"]
    wide = {
        "scale": 11,
        "mean": 6.0,
        "effects": (),
        **ALIKE,
    }  # so many steps that rounding is slight
    for name, expected in (("liking_sd", 0), ("bias_sd", 1), ("drift_sd", -1)):
        model = SimulationModel(**wide | {name: 1.0})
        drawn = simulate_values(model, layout(two), 4000, np.random.default_rng(4)).astype(float)
        # Of a liking each method has its own; of a drift the first trial gets the opposite.
        between = np.corrcoef(drawn[:, 0, 0], drawn[:, 1, 0])[0, 1]
        assert between == pytest.approx(expected, abs=0.12), name
    unlike = SimulationModel(**wide | {"mean": 6.4, "threshold_sd": 0.3})
    drawn = simulate_values(unlike, layout(two), 4000, np.random.default_rng(5))
    # One rater's threshold holds for all clips and criteria; 6.5 lies below 6.4 for some raters.
    assert (drawn == drawn[:, :1, :1]).all()
    assert (drawn > 6).mean() == pytest.approx(stats.norm.cdf(-0.1 / 0.3), abs=0.03)


def test_probit_raters_differ_in_thresholds_that_keep_their_order() -> None:
    model = ProbitModel()
    raters = model.draw_raters(4000, 1, 2, np.random.default_rng(6))
    gaps = np.diff(raters.thresholds, axis=-1)
    assert (gaps > 0).all()
    assert np.log(gaps).std(axis=0) == pytest.approx(model.gap_sd, rel=0.1)
    assert (np.diff(np.median(gaps, axis=(0, 1))) < 0).all()  # upper steps are narrower
    assert raters.thresholds[..., 0].std() == pytest.approx(np.hypot(0.4, 0.2), rel=0.1)


def test_effects_add_where_all_that_they_name_holds() -> None:
    effects = (
        Effect(0.1),
        Effect(0.2, source_type="side"),
        Effect(0.4, source_type="side", driving_type="frontal", method="a"),
        Effect(0.8, criterion="jitter"),
    )
    model = SimulationModel(mean=3, effects=effects)
    assert model.latent_mean(("side", "frontal", "a"), "jitter") == pytest.approx(4.5)
    assert model.latent_mean(("side", "side", "a"), "jitter") == pytest.approx(4.1)
    assert model.latent_mean(("frontal", "frontal", "a"), "structure") == pytest.approx(3.1)
    assert model.latent_mean(("frontal", "frontal", "a"), "overall") == pytest.approx(3.3)


def test_bias_is_shared_by_a_raters_scores_and_halo_by_a_trials() -> None:
    sizes = ALIKE | {"bias_sd": 0.8, "taste_sd": 0.45, "noise_sd": 0.55}
    model = SimulationModel(effects=(), mean=3, halo=0.9, **sizes)
    two = layout(CONDITIONS[:2])
    scores = simulate_values(model, two, 4000, np.random.default_rng(2)).astype(float)
    of_rater = np.corrcoef(scores[:, 0, 0], scores[:, 1, 1])[0, 1]
    of_trial = np.corrcoef(scores[:, 0, 0], scores[:, 0, 1])[0, 1]
    total = 0.8**2 + 0.45**2 + 0.55**2
    # Rounding to steps takes a little of each correlation.
    assert of_rater == pytest.approx(0.8**2 / total, abs=0.08)
    assert of_trial == pytest.approx(1 - 0.1 * (0.45**2 + 0.55**2) / total, abs=0.08)


def test_sessions_follow_the_design_and_say_that_they_are_simulated(study: Study) -> None:
    table = simulate_ratings(study, 5, first=2)
    assert table["simulated"].all()
    assert sorted(table["rater"].unique()) == [f"sim-000{n}" for n in range(3, 8)]
    planned = itertools.islice(plan_sessions(study, study_clips(study)), 2, 7)
    for rater, trials in zip(sorted(table["rater"].unique()), planned, strict=True):
        rows = table[table["rater"] == rater].drop_duplicates("trial")
        assert list(rows["cell"]) == [trial.clip.cell for trial in trials]
        assert list(rows["role"]) == [trial.role for trial in trials]
    assert (table.groupby(["rater", "trial"])["criterion"].nunique() == 4).all()
    lengths = table["driving"].map(driving_seconds(study))
    assert (table["seconds"] > lengths).all()
    assert table.groupby("rater")["answered_at"].apply(lambda t: t.is_monotonic_increasing).all()


def test_more_raters_change_none_of_the_first(study: Study) -> None:
    few, many = simulate_ratings(study, 3, seed=4), simulate_ratings(study, 6, seed=4)
    assert few.equals(many[: len(few)])
    assert not few["value"].equals(simulate_ratings(study, 3, seed=5)["value"])


def test_each_clip_has_its_own_truth(study: Study) -> None:
    table = simulate_ratings(study, 500, model=ATTENTIVE, seed=6)
    rated = table[table["role"] == "rating"]
    clips = {clip.cell: clip for clip in study_clips(study)}
    for (cell, criterion), rows in rated.groupby(["cell", "criterion"]):
        condition = Condition(*rows[["source_type", "driving_type", "method"]].iloc[0])
        effect = clip_effects(ATTENTIVE, 6, clips[cell])[list(CRITERIA).index(criterion)]
        truth = ATTENTIVE.true_mean(condition, criterion, clip_effect=effect)
        error = rows["value"].std() / np.sqrt(len(rows))
        assert abs(rows["value"].mean() - truth) < 4.5 * error, (cell, criterion)


def test_a_raters_taste_comes_again_when_the_clip_does(study: Study) -> None:
    table = simulate_ratings(study, 150, model=ATTENTIVE, seed=7)
    table = table.assign(
        centred=table["value"] - table.groupby(["cell", "criterion"])["value"].transform("mean")
    )
    key = ["rater", "cell", "criterion"]
    first = table[table["role"] == "rating"].set_index(key)["centred"]
    again = table[table["role"] == "repeat"].set_index(key)["centred"]
    model = ATTENTIVE
    lasting = model.bias_sd**2 + model.criterion_bias_sd**2 + model.taste_sd**2
    expected = lasting / (lasting + model.noise_sd**2)
    measured = np.corrcoef(first.loc[again.index], again)[0, 1]
    assert measured == pytest.approx(expected, abs=0.1)


def test_attentive_raters_know_gold_clips_and_references(study: Study) -> None:
    table = simulate_ratings(study, 60, model=ATTENTIVE, seed=8)
    gold = table[(table["role"] == "gold") & table["expected_low"].notna()]
    assert gold["value"].between(gold["expected_low"], gold["expected_high"]).mean() > 0.9
    assert table[table["role"] == "reference"]["value"].mean() > 4.4
    blind = dataclasses.replace(ATTENTIVE, inattentive=1)
    table = simulate_ratings(study, 60, model=blind, seed=8)
    gold = table[(table["role"] == "gold") & table["expected_low"].notna()]
    assert gold["value"].between(gold["expected_low"], gold["expected_high"]).mean() < 0.6


def test_inattentive_raters_have_their_share_and_their_habits(study: Study) -> None:
    model = dataclasses.replace(ATTENTIVE, inattentive=0.5)
    table = simulate_ratings(study, 300, model=model, seed=9)
    by_rater = table.groupby("rater")
    same = by_rater["value"].nunique() == 1
    thought = table["seconds"] - table["driving"].map(driving_seconds(study))
    fast = thought.groupby(table["rater"]).max() < 1
    for habit in (same, fast):
        assert habit.mean() == pytest.approx(1 / 6, abs=4 * np.sqrt(1 / 6 * 5 / 6 / 300))
    assert not (same & fast).any()


def test_of_a_pair_the_better_clip_wins_as_often_as_the_model_says(small_study: Path) -> None:
    text = small_study.read_text().replace("[copy]", "[copy, warp]")
    small_study.write_text(text + "ratings: {task: pair, criteria: {jitter: }, repeats: 0}\n")
    study = load_study(small_study)
    model = SimulationModel(
        inattentive=0,
        effects=(Effect(0.5, method="warp"),),
        **ALIKE | {"bias_sd": 0.4, "spread_sd": 0.15, "taste_sd": 0.45, "noise_sd": 0.55},
    )
    table = simulate_ratings(study, 300, model=model, seed=10)
    rated = table[table["role"] == "rating"]
    assert set(rated["value"]) == {1, 2}
    won = np.where(rated["method"] == "warp", rated["value"] == 1, rated["value"] == 2)
    # Bias and spread fall out of a comparison that one rater makes.
    expected = stats.norm.cdf(0.5 / np.sqrt(2 * (model.taste_sd**2 + model.noise_sd**2)))
    assert won.mean() == pytest.approx(expected, abs=4 / np.sqrt(len(rated)))


def test_raters_are_added_to_those_that_a_store_holds(study: Study, tmp_path: Path) -> None:
    with open_store(tmp_path / "once.sqlite") as once, open_store(tmp_path / "twice.sqlite") as two:
        simulate_into(once, study, 5, seed=11)
        simulate_into(two, study, 2, seed=11)
        simulate_into(two, study, 3, seed=11)
        stored = once.ratings(study.name)
        assert stored.equals(two.ratings(study.name))
    assert stored["simulated"].all()
    assert stored["rater"].nunique() == 5


def test_a_store_with_human_ratings_takes_no_simulated_ones(study: Study, tmp_path: Path) -> None:
    human = tmp_path / "human.csv"
    human.write_text("rater,cell,criterion,value\nr-1x1,anna__talk__copy,jitter,4\n")
    with open_store(tmp_path / "ratings.sqlite") as store:
        import_ratings(store, study, human)
        with pytest.raises(StudyError, match="human ratings"):
            simulate_into(store, study, 2)
        assert len(store.ratings(study.name)) == 1


def test_wrong_models_are_refused(study: Study) -> None:
    with pytest.raises(StudyError, match="scale"):
        simulate_ratings(study, 1, model=typical_model(9))
    with pytest.raises(StudyError, match="noise_sd"):
        SimulationModel(noise_sd=-1)
    with pytest.raises(StudyError, match="halo"):
        SimulationModel(halo=1.5)
    with pytest.raises(StudyError, match='did you mean "side"'):
        SimulationModel(effects=(Effect(1, source_type="sied"),))


def test_simulating_storing_and_exporting_is_fast(study: Study, tmp_path: Path) -> None:
    """1,000 raters in under 60 s; here 100, and processor time, since a test machine is shared."""
    start = time.process_time()
    with open_store(tmp_path / "ratings.sqlite") as store:
        simulate_into(store, study, 100)
        export_ratings(store.ratings(study.name), tmp_path / "ratings.csv")
    assert time.process_time() - start < 6
