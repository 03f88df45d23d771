"""Comparisons within raters: against R, scipy and statsmodels, and against counting by hand."""

import numpy as np
import pandas as pd
import pytest
from rating_tables import DATA, known, make_ratings, read_ratings
from scipy.stats import PermutationMethod, friedmanchisquare, wilcoxon
from statsmodels.stats.multitest import multipletests

from studykit import stats
from studykit.errors import StudyError
from studykit.stats.comparison import holm, signed_rank


@pytest.mark.parametrize("n", [5, 15, 40])
def test_the_signed_rank_test_is_scipys_where_nothing_is_tied(n):
    differences = np.random.default_rng(n).normal(0.3, 1, n)
    expected = wilcoxon(differences, method="exact", alternative="two-sided")
    found = signed_rank(differences)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert min(found.w, n * (n + 1) / 2 - found.w) == expected.statistic
    assert found.exact


@pytest.mark.parametrize("seed", range(6))
def test_the_signed_rank_test_counts_ties_and_zeros_exactly(seed):
    differences = np.random.default_rng(seed).integers(-2, 4, 11).astype(float)
    expected = wilcoxon(
        differences, zero_method="pratt", method=PermutationMethod(n_resamples=2**12)
    )
    assert signed_rank(differences).p == pytest.approx(expected.pvalue, rel=1e-9)


def test_the_signed_rank_test_of_many_raters_is_the_normal_approximation():
    differences = np.random.default_rng(0).integers(-2, 3, 150).astype(float)
    found = signed_rank(differences)
    expected = wilcoxon(differences, zero_method="pratt", method="asymptotic")
    assert not found.exact and found.p == pytest.approx(expected.pvalue)


R = known("comparisons")  # by data/R/comparisons.R


@pytest.mark.parametrize("case", R["signed_ranks"])
def test_the_signed_rank_test_is_coins_with_ties_and_zeros(case):
    """Beyond 100 differences coin was asked for its normal approximation."""
    expected = R["signed_ranks"][case]
    found = signed_rank(np.array(expected["values"]))
    assert found.exact == (case != "many")
    for name in ("w", "p", "effect"):
        assert getattr(found, name) == pytest.approx(expected[name], rel=1e-9), name


@pytest.mark.parametrize("expected", R["pairs"], ids=lambda x: f"{x['over']}-{x['criterion']}")
def test_pairs_are_compared_as_r_does(expected):
    levels = [
        {"front": "frontal"}.get(expected[name], expected[name]) for name in ("first", "second")
    ]
    over, criteria = [expected["over"]], [expected["criterion"]]
    table = stats.pairwise(read_ratings(), over, criteria=criteria, pairs=[levels]).table
    found = table.loc[0, ["difference", "low", "high", "w", "p", "effect"]]
    numbers = (
        expected["difference"],
        *expected["interval"],
        *map(expected.get, ("w", "p", "effect")),
    )
    assert tuple(found) == pytest.approx(numbers, rel=1e-9)


def test_friedmans_test_is_that_of_r():
    """Conditions without ties (data/R/crossed.R), and means of steps, which have them."""
    expected = known("crossed")["friedman"]
    table = pd.read_csv(DATA / "crossed.csv")
    table["cell"] = table["source"] + "__" + table["driving"] + "__" + table["method"]
    fixed = {"criterion": "jitter", "simulated": False, "role": "rating", "task": "acr",
             "other": ""}  # fmt: skip
    row = stats.friedman(table.assign(**fixed)).table.iloc[0]
    assert (row["chi2"], row["p"]) == pytest.approx((expected["chi2"], expected["p"]), rel=1e-9)
    table = stats.friedman(read_ratings()).table.set_index("criterion")
    for criterion, expected in R["friedman"].items():
        for name, value in expected.items():
            assert table.loc[criterion, name] == pytest.approx(value, rel=1e-9)


def test_holm_is_that_of_r():
    np.testing.assert_allclose(holm(R["holm"]["p"]), R["holm"]["corrected"], rtol=1e-12)


def test_the_effect_is_the_difference_of_the_rank_sums_over_their_total():
    # Ranks 1, 2, 3, 4 of which 3 alone is negative: (7 - 3) / 10.
    assert signed_rank(np.array([1.0, 2.0, -3.0, 4.0])).effect == pytest.approx(0.4)
    assert signed_rank(np.array([0.0, 0.0])).p == 1


def test_holm_is_statsmodels_and_leaves_missing_ones_out():
    p_values = np.random.default_rng(0).uniform(0, 0.2, 12)
    expected = multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(holm(p_values), expected)
    with_gap = np.insert(p_values, 3, np.nan)
    found = holm(with_gap)
    assert np.isnan(found[3])
    np.testing.assert_allclose(np.delete(found, 3), expected)


def test_friedman_is_scipys_over_complete_raters_who_alone_count():
    ratings = make_ratings(raters=9, criteria=("jitter",), effects={"warp": 0.8})
    lacking = (ratings["rater"] == "r004") & (ratings["cell"] == ratings["cell"].iloc[0])
    result = stats.friedman(ratings[~lacking], over=("method",))
    assert result.n_dropped == 0  # other clips of the method remain
    result = stats.friedman(ratings[~lacking])
    row = result.table.iloc[0]
    assert (row["n_raters"], row["n_dropped"], row["n_conditions"]) == (8, 1, 27)
    assert result.n_dropped == 1 and "every condition" in result.why
    whole = ratings[ratings["rater"] != "r004"]
    table = whole.pivot(index="rater", columns="cell", values="value").to_numpy()
    expected = friedmanchisquare(*table.T)
    assert row["chi2"] == pytest.approx(expected.statistic)
    assert row["p"] == pytest.approx(expected.pvalue)


def test_kendalls_w_is_one_where_raters_rank_alike():
    ranked = make_ratings(lambda r, s, d, m, c: {"copy": 1, "fomm": 3, "warp": 4}[m] + r % 2)
    table = stats.friedman(ranked, over=("method",)).table
    np.testing.assert_allclose(table["kendall_w"], 1)


def test_pairs_are_corrected_over_the_whole_family_that_was_asked_for():
    ratings = make_ratings(raters=12, effects={"warp": 0.7})
    result = stats.pairwise(ratings)
    assert len(result.table) == 3 * 4
    np.testing.assert_allclose(
        result.table["p_holm"], multipletests(result.table["p"], method="holm")[1]
    )
    assert "family of 12 comparisons" in result.how
    declared = stats.pairwise(ratings, criteria=["jitter"], pairs=[("warp", "copy")])
    assert declared.table["p_holm"].tolist() == declared.table["p"].tolist()
    assert declared.table["difference"].iloc[0] > 0.4


def test_a_difference_compares_only_what_was_rated_on_both_sides():
    # Side sources are worse by 2; a rater who rated warp there alone must not make warp look bad.
    ratings = make_ratings(
        lambda r, s, d, m, c: (2 if s == "side" else 4) + (m == "warp"), methods=("copy", "warp")
    )
    gone = (ratings["method"] == "copy") & (ratings["source_type"] == "side")
    table = stats.pairwise(ratings[~gone]).table
    np.testing.assert_allclose(table["difference"], -1)


def test_a_rater_of_one_side_is_dropped_and_counted():
    ratings = make_ratings(raters=7, methods=("copy", "warp"))
    gone = (ratings["rater"] == "r002") & (ratings["method"] == "warp")
    result = stats.pairwise(ratings[~gone])
    assert (result.table["n_raters"] == 6).all() and (result.table["n_dropped"] == 1).all()
    assert result.n_dropped == 1 and "one side" in result.why


def test_conditions_are_compared_by_their_labels():
    ratings = make_ratings(methods=("warp",))
    table = stats.pairwise(ratings, stats.CONDITION_COLUMNS, criteria=["jitter"]).table
    assert len(table) == 36
    assert table.loc[0, ["first", "second"]].tolist() == [
        "frontal x frontal x warp",
        "frontal x side x warp",
    ]


def test_too_few_raters_for_any_significance_are_named():
    (note,) = stats.pairwise(make_ratings(raters=4)).notes
    assert "no difference can reach significance" in note
    assert stats.pairwise(make_ratings(raters=15)).notes == ()


@pytest.mark.parametrize("wrong", [{"criteria": ["jiter"]}, {"pairs": [("warp", "cpoy")]}])
def test_what_was_not_rated_can_not_be_compared(wrong):
    with pytest.raises(StudyError, match="did you mean"):
        stats.pairwise(make_ratings(raters=2), **wrong)
