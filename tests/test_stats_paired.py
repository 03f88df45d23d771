"""Bradley-Terry against R, choix and statsmodels, and where it has no maximum."""

import choix
import numpy as np
import pandas as pd
import pytest
from rating_tables import known, make_pairs, read_pairs
from scipy.special import stdtrit

from studykit import stats
from studykit.stats.jackknife import spread
from studykit.stats.paired import deletion_variance, fit_strengths

WINS = {("a", "b"): 12, ("b", "a"): 5, ("b", "c"): 9, ("c", "b"): 7, ("a", "c"): 14, ("c", "a"): 3}


def _alone(ratings: pd.DataFrame) -> pd.DataFrame:
    """The rows of single items, in their order."""
    table = stats.bradley_terry(ratings).table
    return table[table["versus"] == ""].set_index("item")


def test_strengths_are_those_of_choix():
    table = _alone(make_pairs(WINS))
    number = {"a": 0, "b": 1, "c": 2}
    data = [(number[i], number[j]) for (i, j), count in WINS.items() for _ in range(count)]
    expected = choix.ilsr_pairwise(3, data)
    np.testing.assert_allclose(table["strength"], expected - expected.mean(), atol=1e-5)
    assert table["strength"].sum() == pytest.approx(0)
    assert table.loc["a", "wins"] == 26 and table.loc["a", "n_comparisons"] == 34


@pytest.mark.parametrize("case", ["all win and lose", "one never loses"])
def test_strengths_are_those_of_a_binomial_glm(case):
    expected = known("bradley_terry")["cases"][case]
    pairs = {tuple(names.split()): count for names, count in expected["wins"].items()}
    table = _alone(make_pairs(pairs))
    assert list(table.index) == expected["item"]
    np.testing.assert_allclose(table["strength"], expected["strength"], atol=1e-8)


def test_strengths_and_their_errors_are_those_of_bradleyterry2():
    """The model's own errors, and those of leaving out raters, sources and drivings in turn."""
    expected, pairs = known("paired"), read_pairs()
    table = stats.bradley_terry(pairs).table
    k = len(expected["items"])
    assert table["item"].head(k).tolist() == expected["items"]
    half = stdtrit(expected["df"], 0.975) * expected["error"]
    middle = np.array(expected["strength"])
    of_r = {"strength": middle, "low": middle - half, "high": middle + half,
            "p": expected["p"], "share": expected["share"]}  # fmt: skip
    for name, values in of_r.items():
        np.testing.assert_allclose(table[name], values, rtol=1e-6, atol=1e-8, err_msg=name)
    wins = np.zeros((k, k))
    sides = [pairs[name].str.rsplit("__", n=1).str[-1] for name in ("cell", "other")]
    for first, second, value in zip(*sides, pairs["value"], strict=True):
        won = (first, second) if value == 1 else (second, first)
        wins[tuple(map(expected["items"].index, won))] += 1
    error = np.sqrt(np.diag(fit_strengths(wins)[1]))
    np.testing.assert_allclose(error, expected["model_error"][:k], rtol=1e-6)


def test_half_a_win_is_added_as_bradleyterry2_would_be_asked_to():
    table = _alone(make_pairs({("a", "b"): 8, ("b", "c"): 5, ("c", "b"): 5}))
    np.testing.assert_allclose(table["strength"], known("paired")["half_wins"], atol=1e-6)


def test_what_leaving_out_a_source_does_is_found_without_fitting_again():
    """One step of Newton's method comes close to the strengths of the answers that are left."""
    rng = np.random.default_rng(0)
    sides = np.eye(3)[rng.integers(3, size=400)] - np.eye(3)[rng.integers(3, size=400)]
    sides = sides[np.abs(sides).any(axis=1)]
    won = rng.random(len(sides)) < 1 / (1 + np.exp(-sides @ [0.6, 0.0, -0.6]))
    group = np.arange(len(sides)) % 8

    def fitted(keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        winner = np.where(won[:, None], sides, -sides)[keep]
        wins = np.zeros((3, 3))
        np.add.at(wins, (winner.argmax(axis=1), winner.argmin(axis=1)), 1)
        return fit_strengths(wins)

    strength, covariance = fitted(np.ones(len(sides), dtype=bool))
    surprise = won - 1 / (1 + np.exp(-sides @ strength))
    found, df = deletion_variance(covariance, sides, surprise, group, np.eye(3))
    again, _ = spread(lambda keep: fitted(keep)[0], group)
    assert df == 7
    np.testing.assert_allclose(found, again, rtol=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_the_likelihood_is_flat_at_the_strengths_however_unequal_the_wins(seed):
    rng = np.random.default_rng(seed)
    wins = np.floor(np.exp(rng.uniform(0, 9, (7, 7))))
    strength, _ = fit_strengths(wins)
    expected = (wins + wins.T) / (1 + np.exp(strength - strength[:, None]))
    np.testing.assert_allclose(expected.sum(axis=1), wins.sum(axis=1), rtol=1e-12)


def test_two_items_have_the_log_odds_of_their_wins():
    table = stats.bradley_terry(make_pairs({("a", "b"): 30, ("b", "a"): 10})).table
    row = table[table["versus"] == "b"].iloc[0]
    assert row["strength"] == pytest.approx(np.log(3)) and row["wins"] == 30
    assert 0 < row["low"] < np.log(3) < row["high"] and row["p"] < 0.05
    assert table["p_holm"].notna().sum() == 1


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
    alone = result.table[result.table["versus"] == ""]
    assert alone.loc[0, "strength"] == alone["strength"].max()
    assert "half a win" in result.notes[0] and result.notes[0].startswith("On naturalness")


def test_groups_without_a_link_have_words():
    pairs = {("a", "b"): 3, ("b", "a"): 3, ("c", "d"): 3, ("d", "c"): 3}
    result = stats.bradley_terry(make_pairs(pairs))
    assert "(a, b; c, d)" in result.notes[0]
    assert result.table["strength"].isna().all() and result.table["words"].all()


@pytest.mark.parametrize("who", ["rater", "source", "driving"])
def test_intervals_are_wider_where_answers_go_together(who):
    mixed = make_pairs({("a", "b"): 72, ("b", "a"): 72}, raters=12)
    mixed["rater"] = [f"r{i // 3 % 12}" for i in range(len(mixed))]
    # One side wins with the first levels, the other with the rest.
    together = mixed.assign(**{who: [f"{who}{i // 24}" for i in range(len(mixed))]})
    widths = [
        np.ptp(stats.bradley_terry(x).table.loc[0, ["low", "high"]]) for x in (mixed, together)
    ]
    assert widths[1] > 2 * widths[0]


@pytest.mark.parametrize("who", ["rater", "source", "driving"])
def test_one_alone_speaks_for_no_other(who):
    result = stats.bradley_terry(make_pairs(WINS).assign(**{who: "alone"}))
    assert (result.table["words"] == f"one {who}: nothing shows how others would do").all()
    assert result.table[["low", "high", "p"]].isna().all(axis=None)
    assert result.table["strength"].notna().all()


def test_sources_that_differ_make_no_preference():
    """Without any preferred method, the answers of each source go one way by chance."""
    alarms = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        rows = make_pairs({("a", "b"): 240}, raters=20)
        rows["source"] = [f"s{i % 6}" for i in range(240)]
        tilt = rng.normal(0, 1, 6)[np.arange(240) % 6]
        rows["cell"], rows["other"] = "s__d__a", "s__d__b"
        rows["value"] = np.where(rng.random(240) < 1 / (1 + np.exp(-tilt)), 1, 2)
        alarms += (stats.bradley_terry(rows).table["p_holm"] < 0.05).any()
    assert alarms <= 7


def test_comparisons_within_a_method_are_left_out_and_counted():
    ratings = make_pairs(WINS)
    same = ratings.head(2).assign(other="berta__talk__a", cell="anna__talk__a")
    result = stats.bradley_terry(pd.concat([ratings, same]))
    assert "2 comparisons within one method were left out." in result.notes
