"""Verdicts follow their stated rule on intervals; warnings name what can't be claimed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rating_tables import make_pairs, make_ratings

from studykit import stats
from studykit.stats import VerdictRule


def _verdict(ratings: pd.DataFrame, rule: VerdictRule | None = None) -> pd.Series:
    (row,) = stats.verdicts(ratings, rule).table.itertuples(index=False)
    return row


def _one_condition(value, raters: int = 20) -> pd.DataFrame:
    return make_ratings(value, raters=raters, methods=("warp",), types=("side",))


@pytest.mark.parametrize(
    ("answer", "verdict", "criterion"),
    [
        (lambda r, *_: 4 + r % 2, "good", "naturalness"),
        (lambda r, *_: 3, "flawed", "naturalness"),
        (lambda r, *_: 3 + r % 2, "undecided", "naturalness"),  # the mean is 3.5, not the bound
        (lambda r, *_: 2 + r % 2, "undecided", "naturalness"),
        (lambda r, *_: 1 + r % 2, "poor", "naturalness"),
        (lambda r, s, d, m, c: 5 if c != "jitter" else 1 + (r % 5 == 0), "poor", "jitter"),
        (lambda r, s, d, m, c: 5 if c != "jitter" else 3, "flawed", "jitter"),
    ],
)
def test_the_worst_criterion_decides_by_its_interval(answer, verdict, criterion):
    row = _verdict(_one_condition(answer))
    assert (row.verdict, row.criterion) == (verdict, criterion)


@pytest.mark.parametrize("answers", [(1, 5, 1, 5, 3), (5, 5, 5, 1, 1, 5, 5, 1, 5)])
def test_raters_who_contradict_each_other_leave_it_undecided(answers):
    split = _one_condition(lambda r, *_: answers[r], raters=len(answers))
    row = _verdict(split)
    assert row.verdict == "undecided" and row.low < 2.5 < 3.5 < row.high
    assert row.reason == "crosses 2.5"


def test_the_mean_over_criteria_decides_nothing():
    """A still picture: nothing jitters, nothing moves, and the mean is 4."""
    still = _one_condition(lambda r, s, d, m, c: 5 if c != "naturalness" else 1 + r % 2)
    row = _verdict(still)
    assert (row.verdict, row.criterion) == ("poor", "naturalness") and row.mean < 2


def test_an_overall_score_that_was_asked_decides_with_the_criteria():
    rated = _one_condition(lambda r, *_: 5)
    asked = rated[rated["criterion"] == "jitter"].assign(criterion="overall", value=2)
    row = _verdict(pd.concat([rated, asked]))
    assert (row.verdict, row.criterion) == ("poor", "overall")


def test_the_page_quotes_the_rule():
    page = Path(__file__).parents[1] / "docs" / "statistics.md"
    assert f"> {VerdictRule().words}\n" in page.read_text(encoding="utf-8")


def test_too_few_raters_have_no_verdict():
    row = _verdict(_one_condition(lambda *_: 5, raters=4))
    assert (row.verdict, row.reason) == ("not enough data", "4 raters, 5 are needed")


def test_a_criterion_that_too_few_rated_leaves_the_verdict_open():
    rated = _one_condition(lambda r, s, d, m, c: 5 if c != "jitter" else 1)
    asked = rated[rated["criterion"] == "naturalness"].assign(criterion="overall")
    rated = pd.concat([rated, asked])
    jitter, first = rated["criterion"] == "jitter", rated["rater"] == "r000"
    row = _verdict(rated[~jitter | first])
    assert (row.verdict, row.criterion) == ("not enough data", "jitter")
    assert row.reason == "1 rater, 5 are needed"


def test_thresholds_are_stretched_to_the_scale():
    nine = _one_condition(lambda r, *_: 6 + r % 2)
    assert _verdict(nine, VerdictRule(scale=9)).verdict == "good"
    assert "is at least 6;" in VerdictRule(scale=9).words


def test_the_rule_in_words_names_its_thresholds():
    words = VerdictRule(good_from=3.8, raters_least=7).words
    assert "at least 3.8" in words and "fewer than 7 raters" in words
    assert words in stats.verdicts(make_ratings(), VerdictRule(good_from=3.8, raters_least=7)).how


def test_every_condition_has_one_verdict():
    table = stats.verdicts(make_ratings(raters=15)).table
    assert len(table) == 27 and set(table["verdict"]) <= set(stats.VERDICTS)


def _warned(ratings: pd.DataFrame, **settings) -> str:
    return " ".join(stats.warnings_of(ratings, **settings))


def test_a_sound_study_has_no_warnings():
    steps = {"copy": 2, "fomm": 3, "warp": 4}
    sound = make_ratings(lambda r, s, d, m, c: steps[m], raters=16, per_type=2)
    assert stats.warnings_of(sound) == []


@pytest.mark.parametrize(
    ("ratings", "settings", "words"),
    [
        (make_ratings().assign(simulated=True), {}, "All ratings are simulated"),
        (make_ratings(raters=14), {}, "14 raters took part, the study asks for 15"),
        (make_ratings(raters=1), {"raters_min": 3}, "1 rater took part, ITU-R BT.500 asks for 15"),
        (make_ratings(raters=20), {"raters_min": 24}, "20 raters took part, the study asks for 24"),
        (make_ratings(lambda *_: 5), {}, "On jitter, 27 of 27 conditions lie at the ceiling"),
        (make_ratings(lambda *_: 1), {}, "On jitter, 27 of 27 conditions lie at the floor"),
        (make_ratings(), {"n_excluded": 3}, "3 of 11 raters (27%) were excluded"),
        (make_ratings().iloc[:0], {}, "There are no ratings yet"),
        (make_pairs({("a", "b"): 5}), {}, "5 raters took part"),
    ],
)  # fmt: skip
def test_what_weakens_a_claim_is_said(ratings, settings, words):
    assert words in _warned(ratings, **settings)


def test_conditions_that_too_few_raters_saw_are_counted():
    ratings = make_ratings(raters=16)
    gone = (ratings["method"] == "warp") & (ratings["rater"] < "r004")
    assert "9 of 27 conditions were rated by fewer than 15 raters (the fewest: 12)" in _warned(
        ratings[~gone]
    )


def test_few_exclusions_are_no_warning():
    assert "excluded" not in _warned(make_ratings(raters=16), n_excluded=2)


def test_verdicts_are_checked_on_numbers_and_not_on_words():
    effects = {"warp": 1.2, "copy": -1.2}
    table = stats.verdicts(make_ratings(raters=30, effects=effects, seed=1)).table
    by = table.groupby("verdict")
    assert {"good", "poor", "undecided"} <= set(table["verdict"])
    assert by["low"].min()["good"] >= 3.5 and by["high"].max()["poor"] < 2.5
    assert np.isfinite(table[["mean", "low", "high"]]).all(axis=None)
