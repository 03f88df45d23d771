"""Paired comparisons: Bradley-Terry against choix and statsmodels, and where it has no maximum."""

import json
from pathlib import Path

import choix
import numpy as np
import pandas as pd
import pytest
from rating_tables import make_pairs

from studykit import stats
from studykit.stats.paired import fit_strengths

WINS = {("a", "b"): 12, ("b", "a"): 5, ("b", "c"): 9, ("c", "b"): 7, ("a", "c"): 14, ("c", "a"): 3}


def test_strengths_are_those_of_choix():
    table = stats.bradley_terry(make_pairs(WINS)).table.set_index("item")
    number = {"a": 0, "b": 1, "c": 2}
    data = [(number[i], number[j]) for (i, j), count in WINS.items() for _ in range(count)]
    expected = choix.ilsr_pairwise(3, data)
    np.testing.assert_allclose(
        table.loc[["a", "b", "c"], "strength"], expected - expected.mean(), atol=1e-5
    )
    assert table["strength"].sum() == pytest.approx(0)
    assert table.loc["a", "wins"] == 26 and table.loc["a", "n_comparisons"] == 34


@pytest.mark.parametrize("case", ["by rater", "few raters", "one never loses"])
def test_strengths_and_intervals_are_those_of_a_binomial_glm(case):
    known = json.loads((Path(__file__).parent / "data/bradley_terry.json").read_text())
    known = known["cases"][case]
    pairs = {tuple(names.split()): count for names, count in known["wins"].items()}
    ratings = make_pairs(pairs, raters=known["raters"])
    table = stats.bradley_terry(ratings, level=known["level"]).table
    assert list(table["item"]) == known["item"]
    for name in ("strength", "low", "high"):
        np.testing.assert_allclose(table[name], known[name], atol=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_the_likelihood_is_flat_at_the_strengths_however_unequal_the_wins(seed):
    rng = np.random.default_rng(seed)
    wins = np.floor(np.exp(rng.uniform(0, 9, (7, 7))))
    strength, _ = fit_strengths(wins)
    expected = (wins + wins.T) / (1 + np.exp(strength - strength[:, None]))
    np.testing.assert_allclose(expected.sum(axis=1), wins.sum(axis=1), rtol=1e-12)


def test_two_items_have_the_log_odds_of_their_wins():
    table = stats.bradley_terry(make_pairs({("a", "b"): 30, ("b", "a"): 10})).table
    assert np.diff(table["strength"])[0] == pytest.approx(-np.log(3))
    low, high = table.loc[0, ["low", "high"]]
    assert 0 < low < np.log(3) / 2 < high


def test_it_does_not_matter_who_was_shown_first():
    ratings = make_pairs(WINS)
    turned = ratings.assign(
        cell=ratings["other"], other=ratings["cell"], value=3 - ratings["value"]
    )
    pd.testing.assert_frame_equal(
        stats.bradley_terry(turned).table, stats.bradley_terry(ratings).table
    )


def test_an_item_that_never_loses_stays_finite_and_is_named():
    result = stats.bradley_terry(make_pairs({("a", "b"): 8, ("b", "c"): 5, ("c", "b"): 5}))
    assert np.isfinite(result.table[["strength", "low", "high"]]).all(axis=None)
    assert result.table.loc[0, "strength"] == result.table["strength"].max()
    assert "the model's own" in result.notes[0]
    assert "half a win" in result.notes[0] and result.notes[0].startswith("On naturalness")


def test_groups_without_a_link_have_words():
    pairs = {("a", "b"): 3, ("b", "a"): 3, ("c", "d"): 3, ("d", "c"): 3}
    result = stats.bradley_terry(make_pairs(pairs))
    assert "(a, b; c, d)" in result.notes[0]
    assert result.table["strength"].isna().all() and result.table["words"].all()


def test_intervals_are_wider_where_each_rater_says_one_thing():
    pairs = {("a", "b"): 60, ("b", "a"): 60}
    mixed = make_pairs(pairs, raters=12)
    stubborn = mixed.assign(rater=[f"r{i // 10}" for i in range(len(mixed))])
    widths = [
        np.ptp(stats.bradley_terry(x).table.loc[0, ["low", "high"]]) for x in (mixed, stubborn)
    ]
    assert widths[1] > 2 * widths[0]


def test_comparisons_within_a_method_are_left_out_and_counted():
    ratings = make_pairs(WINS)
    same = ratings.head(2).assign(other="berta__talk__a", cell="anna__talk__a")
    result = stats.bradley_terry(pd.concat([ratings, same]))
    assert "2 comparisons within one method were left out." in result.notes
