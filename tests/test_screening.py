"""Screening: each rule finds just its own raters, says why, and removes nothing silently."""

import dataclasses
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from studykit.errors import StudyError
from studykit.ratings import RATING_COLUMNS
from studykit.ratings.screening import (
    Screening,
    ScreeningRules,
    bt500_counts,
    driving_seconds,
    leave_one_out_correlation,
    rating_status,
    screen,
    screen_study,
)
from studykit.ratings.simulate import SimulationModel, simulate_into, simulate_ratings
from studykit.ratings.store import open_store
from studykit.study.file import Study, load_study

RULES = ("gold", "repeat", "variance", "run", "speed", "watched", "agreement", "bt500")
SLOPPY = "sim-0003"
ALIKE = {name: 0.0 for name in vars(SimulationModel()) if name.endswith("_sd")}
OF_RATERS = {"bias_sd", "criterion_bias_sd", "liking_sd", "spread_sd", "threshold_sd", "drift_sd",
             "taste_sd", "noise_sd"}  # fmt: skip


@pytest.fixture
def study(small_study: Path) -> Study:
    """Two sources x two drivings x two methods: eight conditions of one clip each."""
    text = small_study.read_text().replace("[copy]", "[copy, warp]")
    small_study.write_text(text + "ratings: {gold: 4, repeats: 3}\n")
    return load_study(small_study)


@pytest.fixture
def ratings(study: Study) -> pd.DataFrame:
    """Twelve raters who all take care."""
    model = SimulationModel(inattentive=0, bias_sd=0.2, noise_sd=0.3, taste_sd=0.3)
    return simulate_ratings(study, 12, model=model, seed=1)


def of(screening: Screening, rater: str, rule: str) -> pd.Series:
    table = screening.table
    return table[(table["rater"] == rater) & (table["rule"] == rule)].squeeze()


def spoil(ratings: pd.DataFrame, rule: str, study: Study) -> pd.DataFrame:
    """Let one rater break one rule, and as few others as can be."""
    spoilt, mine = ratings.copy(), ratings["rater"] == SLOPPY
    if rule == "gold":
        rows = mine & (ratings["role"] == "gold")
        spoilt.loc[rows, "value"] = 5
    elif rule == "repeat":
        rows = mine & (ratings["role"] == "repeat")
        spoilt.loc[rows, "value"] = np.where(spoilt.loc[rows, "value"] > 3, 1, 5)
    elif rule in ("variance", "run"):
        rows = mine & ratings["role"].isin(["rating", "repeat"])
        criteria = dict(zip(sorted(ratings["criterion"].unique()), (1, 2, 4, 5), strict=True))
        alike = ratings["criterion"].map(criteria)
        spoilt.loc[rows, "value"] = 3 if rule == "variance" else alike[rows]
    elif rule == "speed":
        lengths = ratings["driving"].map(driving_seconds(study))
        spoilt.loc[mine, "seconds"] = lengths[mine] + 0.3
    elif rule == "watched":
        spoilt.loc[mine, "watched"] = 0.4
    elif rule == "agreement":
        rows = mine & ratings["role"].isin(["rating", "repeat"])
        spoilt.loc[rows, "value"] = 6 - spoilt.loc[rows, "value"]
    return spoilt


def test_careful_raters_are_all_kept_and_every_rule_has_a_figure(
    study: Study, ratings: pd.DataFrame
) -> None:
    found = screen(ratings, clip_seconds=driving_seconds(study))
    assert list(found.table.columns) == [
        "rater", "rule", "figure", "threshold", "excluded", "reason",
    ]  # fmt: skip
    assert len(found.table) == 12 * len(RULES)
    assert set(found.table["rule"]) == set(RULES)
    assert found.table["figure"].notna().all()
    assert found.excluded == {}
    assert found.words == "None of 12 raters was excluded."
    assert found.kept.equals(ratings)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "bt500"])
def test_a_rule_finds_who_breaks_it_says_why_and_can_be_turned_off(
    study: Study, ratings: pd.DataFrame, rule: str
) -> None:
    spoilt, lengths = spoil(ratings, rule, study), driving_seconds(study)
    alone = ScreeningRules(**dict.fromkeys(set(RULES) - {rule}, None))
    found = screen(spoilt, alone, clip_seconds=lengths)
    assert list(found.excluded) == [SLOPPY]
    row = of(found, SLOPPY, rule)
    assert row["excluded"]
    assert row["threshold"] == getattr(alone, rule)
    assert "; at " in row["reason"]
    assert found.all.equals(spoilt)
    assert set(found.kept["rater"]) == set(spoilt["rater"]) - {SLOPPY}
    assert len(found.kept) == (spoilt["rater"] != SLOPPY).sum()

    off = screen(spoilt, dataclasses.replace(alone, **{rule: None}), clip_seconds=lengths)
    assert off.excluded == {}
    assert of(off, SLOPPY, rule)["figure"] == row["figure"]
    assert "the rule is off" in of(off, SLOPPY, rule)["reason"]

    kept = screen(spoilt, dataclasses.replace(alone, keep=(SLOPPY,)), clip_seconds=lengths)
    assert kept.excluded == {}
    assert "kept by hand" in of(kept, SLOPPY, rule)["reason"]


def test_figures_are_what_their_reasons_say(study: Study, ratings: pd.DataFrame) -> None:
    gold = of(screen(spoil(ratings, "gold", study)), SLOPPY, "gold")
    of_gold = (ratings["role"] == "gold") & ratings["expected_low"].notna()  # practice has some too
    asked = ratings[(ratings["rater"] == SLOPPY) & of_gold]
    assert gold["figure"] == 0
    assert gold["reason"].startswith(f"0 of {len(asked)} gold answers as expected")

    repeat = of(screen(ratings), SLOPPY, "repeat")
    mine = ratings[ratings["rater"] == SLOPPY]
    steps = []
    for _, again in mine[mine["role"] == "repeat"].iterrows():
        same = (mine["cell"] == again["cell"]) & (mine["criterion"] == again["criterion"])
        first = mine[same & (mine["role"] == "rating")]["value"].item()
        steps.append(abs(first - again["value"]))
    assert repeat["figure"] == pytest.approx(np.mean(steps))

    run = of(screen(spoil(ratings, "run", study)), SLOPPY, "run")
    assert run["figure"] == 1
    assert run["reason"].startswith("11 of 11 trials in a row")


def test_a_run_that_is_broken_counts_up_to_the_break(study: Study, ratings: pd.DataFrame) -> None:
    spoilt = spoil(ratings, "run", study)
    mine = spoilt[(spoilt["rater"] == SLOPPY) & spoilt["role"].isin(["rating", "repeat"])]
    broken = sorted(mine["trial"].unique())[4]
    spoilt.loc[mine.index[mine["trial"] == broken][0], "value"] = 3
    assert of(screen(spoilt), SLOPPY, "run")["figure"] == pytest.approx(6 / 11)


def test_without_clip_lengths_only_times_far_below_the_others_are_too_fast(
    study: Study, ratings: pd.DataFrame
) -> None:
    spoilt = ratings.copy()
    mine = spoilt["rater"] == SLOPPY
    median = ratings.groupby("cell")["seconds"].transform("median")
    spoilt.loc[mine, "seconds"] = 0.35 * median[mine]
    assert list(screen(spoilt).excluded) == [SLOPPY]
    spoilt.loc[mine, "seconds"] = 0.5 * median[mine]
    assert screen(spoilt).excluded == {}


def test_one_repeat_excludes_nobody(study: Study, ratings: pd.DataFrame) -> None:
    spoilt = spoil(ratings, "repeat", study)
    mine = (spoilt["rater"] == SLOPPY) & (spoilt["role"] == "repeat")
    one = spoilt[~mine | (spoilt["trial"] == spoilt[mine]["trial"].iloc[0])]
    assert list(screen(spoilt).excluded) == [SLOPPY]
    assert screen(one).excluded == {}
    assert of(screen(one), SLOPPY, "repeat")["reason"] == "not judged: too few repeats"


def test_clips_shorter_than_their_drivings_make_nobody_too_fast(ratings: pd.DataFrame) -> None:
    longer = dict.fromkeys(ratings["driving"], ratings["seconds"].max() + 1)
    assert screen(ratings, clip_seconds=longer).excluded == {}


def test_no_more_need_be_watched_than_the_study_asks(study: Study, ratings: pd.DataFrame) -> None:
    half = ratings.assign(watched=0.5)
    asked = dataclasses.replace(study, ratings=dataclasses.replace(study.ratings, watch=0.5))
    assert len(screen_study(study, half).excluded) == 12
    assert screen_study(asked, half).excluded == {}


def bt500_by_the_book(scores: dict[str, dict[str, float]]) -> dict[str, tuple[int, int, int]]:
    """P, Q and the number of scores of each observer, step by step as in BT.500."""
    counts = {observer: [0, 0, 0] for observer in scores}
    for presentation in {name for own in scores.values() for name in own}:
        column = {who: own[presentation] for who, own in scores.items() if presentation in own}
        n = len(column)
        mean = math.fsum(column.values()) / n
        moment = {x: math.fsum((u - mean) ** x for u in column.values()) / n for x in (2, 4)}
        for who in column:
            counts[who][2] += 1
        if moment[2] == 0:
            continue
        standard_deviation = math.sqrt(moment[2] * n / (n - 1))
        kurtosis = moment[4] / moment[2] ** 2
        distance = (2 if 2 <= kurtosis <= 4 else math.sqrt(20)) * standard_deviation
        for who, score in column.items():
            counts[who][0] += score >= mean + distance
            counts[who][1] += score <= mean - distance
    return {who: tuple(count) for who, count in counts.items()}


def test_bt500_counts_are_those_of_the_recommendation() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(5, 1, (24, 60)).round()
    values[0] = np.where(np.arange(60) % 2, 2, 8)  # outliers on both sides
    values[:, 7] = 4  # nobody differs
    values[rng.random(values.shape) < 0.15] = np.nan
    values[:, 8] = [5.0] * 23 + [1.0]  # far from normal, and beyond sqrt(20) deviations
    scores = {
        str(i): {str(j): v for j, v in enumerate(row) if not math.isnan(v)}
        for i, row in enumerate(values)
    }
    expected = bt500_by_the_book(scores)
    above, below, scored = bt500_counts(values)
    assert [tuple(map(int, row)) for row in zip(above, below, scored, strict=True)] == [
        expected[str(i)] for i in range(24)
    ]
    assert above[0] > 2
    assert below[0] > 2
    assert below[23] >= 1


def test_bt500_tells_both_kurtosis_ranges_apart() -> None:
    """Ten observers; by hand: the mean is 3 and the sum of squares 10 in both presentations."""
    # m4 = 3.4, m2 = 1: kurtosis 3.4 is normal, 2 s = 2.108 and nobody is that far.
    inside = [3.0, 3, 3, 3, 2, 4, 5, 1, 3, 3]
    # One at 5.846 among nine: kurtosis 8.1, so that 2 s do not count and sqrt(20) s = 4.47.
    outside = [2.0] * 9 + [5.0]
    above, below, _ = bt500_counts(np.array([inside, outside]).T)
    assert above.sum() == below.sum() == 0
    # Kurtosis 3.07, s = 1.135, mean 2.7: 5 is 2.03 s above.
    normal = np.array([[1.0, 2, 2, 2, 3, 3, 3, 3, 3, 5]]).T
    above, below, _ = bt500_counts(normal)
    assert above.tolist() == [0] * 9 + [1]
    assert below.sum() == 0


def test_bt500_excludes_only_outliers_on_both_sides(study: Study) -> None:
    sizes = {"criterion_bias_sd": 0.2, "spread_sd": 0.15, "noise_sd": 0.5, "taste_sd": 0.5}
    model = SimulationModel(inattentive=0, mean=3, effects=(), **ALIKE | sizes)
    ratings = simulate_ratings(study, 20, model=model, seed=2)
    rated = ratings["role"] == "rating"
    alone = ScreeningRules(**dict.fromkeys(set(RULES) - {"bt500"}, None))
    mine = rated & (ratings["rater"] == SLOPPY)
    low, both = ratings.copy(), ratings.copy()
    low.loc[mine, "value"] = 1
    both.loc[mine, "value"] = np.where(np.arange(mine.sum()) % 2, 1, 5)
    assert list(screen(both, alone).excluded) == [SLOPPY]
    few = of(screen(both[both["criterion"] == "jitter"], alone), SLOPPY, "bt500")
    assert few["figure"] > 0.05
    assert not few["excluded"]  # of eight answers, one is more than 5 %
    one_sided = of(screen(low, alone), SLOPPY, "bt500")
    assert one_sided["figure"] > 0.05
    assert not one_sided["excluded"]


def test_leave_one_out_correlation_is_pearsons_with_the_mean_of_the_others() -> None:
    rng = np.random.default_rng(4)
    values = rng.integers(1, 6, (7, 30)).astype(float)
    values[2, :10] = np.nan
    correlation, count = leave_one_out_correlation(values, np.zeros(30))
    for i in range(7):
        others = np.nanmean(np.delete(values, i, axis=0), axis=0)
        own = ~np.isnan(values[i])
        assert correlation[i] == pytest.approx(np.corrcoef(values[i, own], others[own])[0, 1])
        assert count[i] == own.sum()


def test_levels_that_differ_between_criteria_are_no_agreement() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(size=(6, 400))
    groups = np.arange(400) % 2
    correlation, _ = leave_one_out_correlation(values + 10 * groups, groups)
    alone, _ = leave_one_out_correlation(values, groups)
    assert correlation == pytest.approx(alone)
    assert np.abs(correlation).max() < 0.2


def test_where_clips_are_alike_nobody_is_excluded_for_disagreeing(study: Study) -> None:
    model = SimulationModel(
        inattentive=0, effects=(), **{name: 0.0 for name in ALIKE if name not in OF_RATERS}
    )
    ratings = simulate_ratings(study, 30, model=model, seed=8)
    found = screen(ratings)
    rows = found.table[found.table["rule"] == "agreement"]
    assert (rows["figure"] < 0.2).sum() > 15
    assert not rows["excluded"].any()
    assert rows["reason"].str.contains("nobody is judged by it").all()
    strict = screen(ratings, ScreeningRules(agreement_median=-1))
    assert strict.table[strict.table["rule"] == "agreement"]["excluded"].sum() > 15


@pytest.mark.parametrize("case", ["nobody", "one rater", "all alike", "one trial", "bare"])
def test_degenerate_ratings_give_words_and_no_missing_ones(
    study: Study, ratings: pd.DataFrame, case: str
) -> None:
    if case == "nobody":
        ratings = ratings[:0]
    elif case == "one rater":
        ratings = ratings[ratings["rater"] == SLOPPY]
    elif case == "all alike":
        ratings = ratings.assign(value=3)
    elif case == "one trial":
        ratings = ratings[ratings["trial"] == ratings["trial"].max()]
    else:  # as collected elsewhere: no control, no time
        ratings = ratings[ratings["role"] == "rating"].assign(seconds=np.nan, watched=np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = screen(ratings, clip_seconds=driving_seconds(study))
    table = found.table
    assert len(table) == ratings["rater"].nunique() * len(RULES)
    assert table["reason"].str.len().gt(0).all()
    assert not table["reason"].str.contains("nan|None|<NA>").any()
    assert table[table["figure"].isna()]["reason"].str.startswith("not judged: ").all()
    assert not table["figure"].dropna().isin([np.inf]).any()
    assert found.words
    if case in ("one rater", "bare", "one trial"):
        assert found.excluded == {}


def test_inattentive_raters_are_found_and_careful_ones_kept(study: Study) -> None:
    lengths = driving_seconds(study)
    careless = simulate_ratings(study, 60, model=SimulationModel(inattentive=0.2), seed=6)
    careful = simulate_ratings(study, 60, model=SimulationModel(inattentive=0), seed=6)
    thought = careless["seconds"] - careless["driving"].map(lengths)
    shown = thought.groupby(careless["rater"]).max() < 1
    same = careless.groupby("rater")["value"].nunique() == 1
    found = set(screen(careless, clip_seconds=lengths).excluded)
    assert set(shown.index[shown | same]) <= found
    assert len(screen(careful, clip_seconds=lengths).excluded) <= 3


def test_pairs_are_judged_by_gold_time_and_habit(small_study: Path) -> None:
    text = small_study.read_text().replace("[copy]", "[copy, warp, {name: w, method: warp}]")
    small_study.write_text(text + "ratings: {task: pair, gold: 3, trials: 8}\n")
    study = load_study(small_study)
    ratings = simulate_ratings(study, 8, model=SimulationModel(inattentive=0), seed=7)
    ratings.loc[ratings["rater"] == SLOPPY, "value"] = 1
    found = screen(ratings, clip_seconds=driving_seconds(study))
    assert of(found, SLOPPY, "run")["excluded"]
    assert of(found, SLOPPY, "bt500")["reason"].startswith("not judged")
    assert of(found, SLOPPY, "gold")["figure"] >= 0


def test_ratings_of_both_kinds_are_not_screened_together(ratings: pd.DataFrame) -> None:
    mixed = ratings.assign(simulated=ratings["rater"] == SLOPPY)
    with pytest.raises(StudyError, match="mix"):
        screen(mixed)


def test_status_counts_raters_sessions_and_conditions(
    study: Study, tmp_path: Path, make_session: Callable[..., None]
) -> None:
    with open_store(tmp_path / "ratings.sqlite") as store:
        assert str(rating_status(study, store)) == "no ratings yet"
        simulate_into(store, study, 4)
        status = rating_status(study, store)
    assert status.n_raters == 4
    assert status.simulated
    assert status.sessions == {"simulated": 4}
    assert set(status.conditions.values()) == {4}
    assert len(status.conditions) == 8
    assert "4 simulated raters" in str(status)

    with open_store(tmp_path / "human.sqlite") as store:
        make_session(store, study, answers=99)
        make_session(store, study, answers=3, pause=True)
        make_session(store, study, answers=4)
        status = rating_status(study, store)
    assert status.sessions == {"finished": 1, "paused": 1, "under way": 1}
    assert status.n_raters == 3
    assert not status.simulated


@pytest.fixture
def make_session() -> Callable[..., None]:
    """Store a rater's session of which so many trials are answered."""
    from datetime import UTC, datetime

    from studykit.ratings.design import plan_session, rating_rows, study_clips, study_hash

    def make(store, study: Study, *, answers: int, pause: bool = False) -> None:
        rater = store.register(study.name)
        trials = plan_session(study, study_clips(study), rater.number)
        session = store.begin(study.name, study_hash(study), rater, trials).session
        now = datetime.now(UTC)
        for trial in trials[:answers]:
            values = {criterion.name: 3 for criterion in study.ratings.asked}
            known = {"rater": rater.rater, "session": session, "clip_hash": "", "study_hash": ""}
            known |= dict.fromkeys(("shown_at", "played_at", "answered_at"), now)
            known |= {"seconds": 0.0, "watched": 1.0}
            rows = [row | known for row in rating_rows(study, trial, values)]
            store.record(session, trial.number, rows)
        if pause:
            store.note(session, "paused")

    return make


def test_an_empty_table_has_the_ratings_columns_screened() -> None:
    found = screen(pd.DataFrame(columns=list(RATING_COLUMNS)))
    assert found.table.empty
    assert found.words == "No ratings, so nobody was screened."
