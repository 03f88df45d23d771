"""What raters' means are worth: against published values, R and sureal, and at the ends."""

import numpy as np
import pandas as pd
import pytest
from rating_tables import DATA, known, make_ratings, read_ratings

from studykit import stats
from studykit.stats.agreement import remove_bias


def _ratings(values: np.ndarray) -> pd.DataFrame:
    """Ratings of one criterion from a matrix, raters x clips."""
    base = make_ratings(raters=1, methods=("warp",), types=("side",), criteria=("jitter",))
    return pd.concat(
        base.assign(rater=f"r{rater}", cell=f"s__d{clip}__warp", value=values[rater, clip])
        for rater, clip in zip(*np.nonzero(np.isfinite(values)), strict=True)
    )


def _without_bias(values: np.ndarray) -> tuple[np.ndarray, ...]:
    rater, clip = np.nonzero(np.isfinite(values))
    return remove_bias(values[rater, clip], rater, clip)


def test_the_shares_are_the_published_intraclass_correlations():
    expected = known("shrout_fleiss_1979")
    row = stats.agreement(_ratings(np.array(expected["values"], float)), scale=10).table.iloc[0]
    assert round(row["one_rater"], 2) == expected["single"][0]
    assert round(row["mean"], 2) == expected["average"][0]
    assert row["one_rater_low"] < row["one_rater"] < row["one_rater_high"] < row["mean_high"]


def test_the_variances_are_those_of_lme4():
    table, variances = pd.read_csv(DATA / "crossed.csv"), known("crossed")["variances"]
    base = make_ratings(raters=1, methods=("p",), types=("side",), criteria=("jitter",)).iloc[0]
    table["cell"] = table["source"] + "__" + table["driving"] + "__" + table["method"]
    rest = base.drop(table.columns).to_dict()
    row = stats.agreement(table.assign(**rest)).table.iloc[0]
    assert row["one_rater"] == pytest.approx(variances["clip"] / sum(variances.values()), rel=1e-5)


SHARES = ["one_rater", "one_rater_low", "one_rater_high", "mean", "mean_low", "mean_high"]


@pytest.mark.parametrize("criterion", ["naturalness", "jitter"])
def test_where_all_saw_all_the_shares_are_those_of_psych(criterion):
    """The intervals take raters' levels as found: they are ICC(3,1)'s beside these levels."""
    expected = known("agreement")["whole"][criterion]
    row = stats.agreement(read_ratings()).table.set_index("criterion").loc[criterion]
    single, average, fixed = (np.array(expected["icc"][name]) for name in ("ICC2", "ICC2k", "ICC3"))
    assert row["one_rater"] == pytest.approx(single[0], rel=1e-9)
    assert row["mean"] == pytest.approx(average[0], rel=1e-9)
    odds = fixed / (1 - fixed)
    odds *= single[0] / (1 - single[0]) / odds[0]
    shares = [*odds / (1 + odds), *9 * odds / (1 + 9 * odds)]
    assert row[SHARES].tolist() == pytest.approx(shares, rel=1e-7)
    # psych's own interval (Shrout and Fleiss) lets the levels vary.
    assert row[SHARES[1:3]].tolist() == pytest.approx(single[1:], abs=0.02)
    variances = expected["variances"]
    assert row["one_rater"] == pytest.approx(variances["clip"] / sum(variances.values()), rel=1e-4)
    assert row["sos"] == pytest.approx(expected["sos"], rel=1e-9)


@pytest.mark.parametrize("criterion", ["naturalness", "jitter"])
def test_where_raters_saw_different_clips_the_shares_are_those_of_rs_mean_squares(criterion):
    ratings, expected = read_ratings(), known("agreement")["some"][criterion]
    table = stats.agreement(ratings[ratings["some"] == 1]).table.set_index("criterion")
    row = table.loc[criterion]
    assert row[SHARES].tolist() == pytest.approx(expected["one_rater"] + expected["mean"], rel=1e-6)
    assert row["sos"] == pytest.approx(expected["sos"], rel=1e-9)


def test_raters_who_saw_different_clips_agree_all_the_same():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 40) + rng.normal(0, 0.5, (30, 1)) + rng.normal(0, 1, (30, 40))
    values[rng.random(values.shape) < 0.7] = np.nan
    row = stats.agreement(_ratings(values)).table.iloc[0]
    assert row["one_rater_low"] < 1 / 2.25 < row["one_rater_high"]


def test_the_spread_of_opinions_is_hossfelds():
    """Where all answers are an end of the scale, a is 1; where all agree, 0."""
    ends = np.tile([[1.0], [5.0]], (10, 6))
    assert stats.agreement(_ratings(ends)).table["sos"].iloc[0] == pytest.approx(20 / 19)
    alike = np.tile(np.arange(1.0, 6), (8, 1))
    assert stats.agreement(_ratings(alike)).table["sos"].iloc[0] == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.ones((1, 4)), "one rater"),
        (np.arange(4.0)[:, None], "one clip"),
        (np.ones((3, 4)), "all ratings are equal"),
        (np.tile(np.arange(1.0, 5)[:, None], (1, 5)), "raters differ in their levels alone"),
        (np.array([[1.0, 2], [2, 1], [1, 2], [2, 1]]), "clips were not shown to differ"),
    ],
)
def test_where_there_is_no_agreement_to_measure_words_say_why(values, words):
    row = stats.agreement(_ratings(values)).table.iloc[0]
    assert row["words"].startswith(words) and np.isnan(row["mean"])


def test_scores_bias_and_inconsistency_are_those_of_sureal():
    expected = known("rater_bias")
    found = _without_bias(np.array(expected["values"], dtype=float))
    for mine, name in zip(found, ("scores", "bias", "inconsistency"), strict=True):
        np.testing.assert_allclose(mine, expected[name], atol=1e-6)


def test_each_rater_has_a_bias_beside_the_others_and_clips_lose_it():
    ratings = make_ratings(lambda r, s, d, m, c: 2 + (m == "warp") + (r == 0), raters=6)
    found = stats.rater_levels(ratings)
    bias = found.table.set_index(["rater", "criterion"])["bias"]
    assert bias["r000", "jitter"] - bias["r001", "jitter"] == pytest.approx(1)
    assert set(found.table["criterion"]) == set(ratings["criterion"])
    gap = found.clips["mean"] - found.clips["bias_removed"]
    assert gap.to_numpy() == pytest.approx(0, abs=1e-9)  # all saw all clips


def test_a_rater_who_saw_few_clips_does_not_move_them():
    values = np.tile(np.arange(1.0, 6), (6, 1))
    values[5] = [5, 5, np.nan, np.nan, np.nan]
    scores, bias, _ = _without_bias(values)
    assert scores - scores[0] == pytest.approx(np.arange(5), abs=0.1)
    assert bias[5] > 2.5
