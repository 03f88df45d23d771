"""Simulated raters: their truth is exact, and what they answer has that truth."""

import dataclasses
import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats

from studykit.errors import StudyError
from studykit.ratings.design import Condition, plan_sessions, study_clips
from studykit.ratings.exchange import export_ratings, import_ratings
from studykit.ratings.screening import driving_seconds
from studykit.ratings.simulate import (
    Effect,
    SimulationModel,
    clip_effects,
    simulate_into,
    simulate_ratings,
    simulate_scores,
    typical_model,
)
from studykit.ratings.store import open_store
from studykit.study.file import TYPES, Study, load_study
from studykit.study.wording import CRITERIA

CONDITIONS = [Condition(*types, "copy") for types in itertools.product(TYPES, TYPES)]
ATTENTIVE = SimulationModel(inattentive=0)


@pytest.fixture
def study(small_study: Path) -> Study:
    """Two sources x two drivings x two methods: eight conditions of one clip each."""
    small_study.write_text(small_study.read_text().replace("[copy]", "[copy, warp]"))
    return load_study(small_study)


def test_true_mean_is_the_integral_of_the_stated_model() -> None:
    model, condition = SimulationModel(spread_sd=0.4), Condition("side", "side", "warp")
    latent = 3.6 - 0.3 - 0.5 - 0.3 - 0.3  # by hand, from the default effects

    def density(score: float, log_spread: float) -> float:
        spread = np.exp(log_spread)
        within = spread**2 * (model.clip_sd**2 + model.taste_sd**2 + model.noise_sd**2)
        deviation = np.sqrt(model.bias_sd**2 + model.criterion_bias_sd**2 + within)
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
    silent = dict.fromkeys(("clip_sd", "bias_sd", "criterion_bias_sd", "spread_sd", "taste_sd",
                            "noise_sd"), 0.0)  # fmt: skip
    for mean, score in ((0.2, 1), (2.4, 2), (2.6, 3), (7.0, 5)):
        model = SimulationModel(mean=mean, effects=(), **silent)
        assert model.true_mean(CONDITIONS[0], "jitter") == pytest.approx(score)
        assert (simulate_scores(model, 3, CONDITIONS, np.random.default_rng(0)) == score).all()


@pytest.mark.parametrize("scale", [2, 5, 9])
def test_scores_have_the_true_mean_and_the_true_shares(scale: int) -> None:
    model, n_raters = typical_model(scale), 40_000
    scores = simulate_scores(model, n_raters, CONDITIONS, np.random.default_rng(1))
    assert scores.shape == (n_raters, 9, 4)
    assert scores.min() >= 1
    assert scores.max() <= scale
    for i, condition in enumerate(CONDITIONS):
        for k, criterion in enumerate(CRITERIA):
            drawn = scores[:, i, k]
            error = drawn.std() / np.sqrt(n_raters)
            assert abs(drawn.mean() - model.true_mean(condition, criterion)) < 4.5 * error
            shares = np.bincount(drawn, minlength=scale + 1)[1:] / n_raters
            probabilities = model.step_probabilities(condition, criterion)
            assert probabilities.sum() == pytest.approx(1)
            assert np.abs(shares - probabilities).max() < 4.5 * 0.5 / np.sqrt(n_raters)


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
    model = SimulationModel(effects=(), mean=3, bias_sd=0.8, criterion_bias_sd=0, halo=0.9)
    scores = simulate_scores(model, 4000, CONDITIONS[:2], np.random.default_rng(2)).astype(float)
    of_rater = np.corrcoef(scores[:, 0, 0], scores[:, 1, 1])[0, 1]
    of_trial = np.corrcoef(scores[:, 0, 0], scores[:, 0, 1])[0, 1]
    total = 0.8**2 + 0.25**2 + 0.45**2 + 0.55**2
    # Rounding to steps takes a little of each correlation.
    assert of_rater == pytest.approx(0.8**2 / total, abs=0.08)
    assert of_trial == pytest.approx(1 - (0.1 * (0.45**2 + 0.55**2) + 0.25**2) / total, abs=0.08)


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
    for (cell, criterion), rows in rated.groupby(["cell", "criterion"]):
        condition = Condition(*rows[["source_type", "driving_type", "method"]].iloc[0])
        effect = clip_effects(ATTENTIVE, 6, cell)[list(CRITERIA).index(criterion)]
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
    model = SimulationModel(inattentive=0, clip_sd=0, effects=(Effect(0.5, method="warp"),))
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
