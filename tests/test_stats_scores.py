"""Mean opinion scores: the rater is the unit, and intervals agree with independent ones."""

import numpy as np
import pytest
from rating_tables import known, make_ratings, read_ratings
from scipy import stats as scipy_stats
from statsmodels.stats.proportion import proportion_confint

from studykit import stats
from studykit.stats.intervals import score_interval, t_interval
from studykit.study.wording import CRITERIA


def test_the_t_interval_is_scipys():
    values = np.random.default_rng(0).normal(3, 1, 12)
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.9)
    np.testing.assert_allclose(t_interval(values, level=0.9), expected)


@pytest.mark.parametrize("ones", [1, 7, 14])
def test_the_score_interval_of_two_steps_is_wilsons_with_students_quantile(ones):
    n = 15
    values = np.repeat([1.0, 2.0], [n - ones, ones])
    # Wilson's z^2 / n is here t^2 / n times the variance's n / (n - 1).
    z = scipy_stats.t.ppf(0.975, n - 1) * np.sqrt(n / (n - 1))
    expected = proportion_confint(ones, n, alpha=2 * scipy_stats.norm.sf(z), method="wilson")
    np.testing.assert_allclose(score_interval(values, scale=2), np.add(expected, 1))


def test_scores_and_their_intervals_are_those_of_r():
    """Its t test, Wilson's interval by prop.test, and the score interval by finding its ends."""
    expected = known("comparisons")["scores"]
    ratings = read_ratings()
    table = stats.mean_scores(ratings, by=("method",)).table.set_index(["method", "criterion"])
    raters = ratings.groupby(["method", "criterion", "rater"])["value"].mean()
    for method in ("fomm", "warp"):
        of_r, row = expected[method], table.loc[method, "naturalness"]
        assert (row["mean"], row["sd"]) == pytest.approx((of_r["mean"], of_r["sd"]), rel=1e-12)
        assert (row["low"], row["high"]) == pytest.approx(of_r["score"], rel=1e-9)
        means = raters[method, "naturalness"].to_numpy()
        assert t_interval(means) == pytest.approx(of_r["t"], rel=1e-9)
    share = expected["proportion"]
    steps = np.repeat([2.0, 1.0], [share["ones"], share["n"] - share["ones"]])
    assert score_interval(steps, scale=2) == pytest.approx(share["score"], rel=1e-9)
    assert score_interval(np.full(9, 5.0)) == pytest.approx(expected["alike"]["score"], rel=1e-9)


def test_the_score_interval_stays_on_the_scale_and_is_never_without_width():
    for value in (1.0, 3.0, 5.0):
        low, high = score_interval(np.full(15, value))
        assert 1 <= low <= value <= high <= 5 and high - low > 0.2
    low, high = score_interval(np.array([4.0, 5.0]))
    assert 1 <= low < high <= 5


def test_the_score_interval_is_the_t_interval_far_from_the_ends():
    values = np.random.default_rng(0).normal(50, 1, 30)
    np.testing.assert_allclose(score_interval(values, scale=99), t_interval(values), rtol=1e-3)


def test_raters_and_not_ratings_are_the_unit():
    # Two raters who each say the same all the time: many ratings, but only two opinions.
    ratings = make_ratings(lambda rater, *_: 2 + 2 * rater, raters=2)
    row = stats.mean_scores(ratings, by=("method",)).table.iloc[0]
    assert (row["n_raters"], row["n_ratings"], row["n_clips"]) == (2, 18, 9)
    assert (row["mean"], row["sd"]) == (3, pytest.approx(np.sqrt(2)))
    assert (row["low"], row["high"]) == score_interval(np.array([2.0, 4.0]))


def test_a_condition_has_the_mean_of_its_ratings_in_the_usual_order():
    ratings = make_ratings()
    table = stats.mean_scores(ratings).table
    assert len(table) == 27 * 5
    assert list(table["criterion"][:5]) == [*CRITERIA, stats.MEAN]
    assert list(table["source_type"].unique()) == ["frontal", "side", "stylised"]
    expected = ratings[ratings["cell"] == "side0__stylised0__warp"].groupby("criterion")["value"]
    found = table[
        (table["source_type"] == "side")
        & (table["driving_type"] == "stylised")
        & (table["method"] == "warp")
    ].set_index("criterion")["mean"]
    for name, mean in expected.mean().items():
        assert found[name] == pytest.approx(mean)


def test_one_rater_has_a_mean_and_words_instead_of_an_interval():
    table = stats.mean_scores(make_ratings(raters=1)).table
    assert table["mean"].notna().all() and table["low"].isna().all()
    assert set(table["words"]) == {"one rater: no interval"}


def test_raters_who_agree_have_an_interval_too():
    score = stats.mean_scores(make_ratings(lambda *_: 5)).table
    assert set(score["words"]) == {""} and (score["low"] < 5).all() and (score["high"] == 5).all()


def test_scores_of_clips_have_a_row_a_clip_and_criterion():
    table = stats.mean_scores(make_ratings(raters=3), by=("cell",)).table
    assert len(table) == 27 * 5 and (table["n_raters"] == 3).all()
    assert not table.duplicated(["cell", "criterion"]).any()
