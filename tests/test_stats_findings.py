"""Every claim is a row: which kinds there are, what is corrected together, and what is refused."""

import time

import numpy as np
import pandas as pd
import pytest
from rating_tables import make_pairs, make_ratings

from studykit import stats
from studykit.stats.comparison import holm

FACTORS = stats.CLAIMS[:6]


def test_a_family_is_one_factor_over_all_criteria():
    found = stats.findings(make_ratings(raters=6, per_type=2)).table
    for claim, pairs in zip(FACTORS, (3, 3, 3, 9, 9, 9), strict=True):
        rows = found[found["claim"] == claim]
        assert len(rows) == 4 * pairs and set(rows["scope"]) == {stats.LIKE}
        assert not (set(rows["criterion"]) & {stats.MEAN, stats.OVERALL})
        np.testing.assert_allclose(rows["p_adjusted"], holm(rows["p"]))
    assert set(found["claim"]) <= set(stats.CLAIMS)


def test_an_overall_score_that_was_asked_is_a_criterion_like_others():
    asked = make_ratings(raters=3, criteria=("jitter", stats.OVERALL))
    found = stats.findings(asked).table
    rows = found[found["claim"] == "method"]
    assert set(rows["criterion"]) == {"jitter", "overall"}


def test_an_interval_belongs_to_its_estimate_and_is_never_wider_than_the_scale():
    # Ten ratings of what differs wildly: two sources a type, and hardly anything of each.
    rng = np.random.default_rng(0)
    ratings = make_ratings(lambda *_: rng.choice([1, 5]), raters=2, per_type=2,
                           types=("frontal", "side"), methods=("copy", "warp"))  # fmt: skip
    found = stats.findings(ratings).table
    like = found[found["scope"] == stats.LIKE]
    wide = like["reason"].str.contains("wider than the scale")
    assert wide.any() and like.loc[wide, ["low", "high", "p"]].isna().all(axis=None)
    told = like[like["reason"] == ""]
    assert (told["high"] - told["low"] <= 4).all()
    assert ((told["low"] <= told["estimate"]) & (told["estimate"] <= told["high"])).all()


def test_a_type_with_one_input_is_refused_in_words_and_methods_are_not():
    found = stats.findings(make_ratings(raters=6)).table.set_index("claim")
    for noun in ("source", "driving"):
        refused = found.loc[f"{noun} type"]
        assert (refused["reason"] == f"a claim about {noun} types needs two {noun}s in each, and "
                "frontal, side and stylised have fewer").all()  # fmt: skip
        assert refused[["estimate", "low", "high", "p"]].isna().all(axis=None)
    assert (found.loc["method", "reason"] == "").all()


def test_what_metrics_predict_is_named():
    ratings = make_ratings(raters=4, per_type=2, types=("frontal",), methods=("copy", "warp"))
    cells = ratings["cell"].unique()
    metrics = pd.DataFrame({"cell": cells, "metric": "csim", "value": range(len(cells)),
                            "better": "higher", "extractor": ""})  # fmt: skip
    one = ratings[ratings["criterion"] == "jitter"]
    for rated, name, said in (
        (ratings, stats.MEAN, "scores, the mean over all criteria and raters;"),
        (one, "jitter", "scores, the mean over raters of jitter;"),
        (one.assign(criterion=stats.OVERALL), stats.OVERALL, "scores, those of the overall"),
    ):
        found = stats.findings(rated, metrics).table
        assert found.loc[found["claim"] == "prediction", "criterion"].tolist() == [name]
        assert said in stats.predict_scores(rated, metrics).how


def test_verdicts_speak_of_these_clips_and_name_what_decided():
    found = stats.findings(make_ratings(lambda *_: 1, raters=6, methods=("warp",))).table
    rows = found[found["claim"] == "verdict"]
    assert len(rows) == 9 and set(rows["scope"]) == {stats.THESE}
    first = rows.iloc[0]
    assert first["subject"] == "frontal × frontal × warp" and first["versus"] == "poor"
    assert first["criterion"] == "naturalness" and first["reason"] == "lies below 2.5"


def test_preferences_are_differences_of_two_methods():
    pairs = make_pairs({("a", "b"): 60, ("b", "a"): 20, ("b", "c"): 30, ("c", "b"): 30})
    rows = stats.findings(pairs).table
    assert list(zip(rows["subject"], rows["versus"], strict=True)) == [
        ("a", "b"), ("a", "c"), ("b", "c")]  # fmt: skip
    assert set(rows["claim"]) == {"preference"} and rows["p_adjusted"].iloc[0] < 0.05


def test_criteria_that_others_answered_are_compared_on_their_own_clips():
    ratings = make_ratings(raters=6, per_type=2, criteria=("jitter", "structure"))
    some = ratings[(ratings["criterion"] == "jitter") | (ratings["rater"] > "r001")]
    found = stats.findings(some).table.set_index(["claim", "criterion"])["estimate"]
    whole = stats.findings(ratings).table.set_index(["claim", "criterion"])["estimate"]
    np.testing.assert_allclose(found["method", "jitter"], whole["method", "jitter"])
    assert not np.allclose(found["method", "structure"], whole["method", "structure"])


@pytest.mark.parametrize("raters", [200])
def test_many_raters_are_no_burden(raters):
    """As ratings come from elsewhere: 200 people, 60 clips each of 108, four criteria."""
    ratings = make_ratings(raters=raters, per_type=2)
    shown = np.random.default_rng(0).random((raters, 108)) < 60 / 108
    kept = shown[ratings["rater"].factorize()[0], ratings["cell"].factorize()[0]]
    start = time.process_time()
    found = stats.findings(ratings[kept]).table
    assert time.process_time() - start < 15
    assert (found.loc[found["claim"].isin(FACTORS), "reason"] == "").all()


def test_a_study_without_ratings_claims_nothing():
    result = stats.findings(make_ratings().iloc[:0])
    assert result.table.empty and isinstance(result.table, pd.DataFrame) and result.notes


def test_a_table_of_categories_has_the_findings_of_one_of_texts():
    """As people read millions of foreign ratings, so that they fit into memory."""
    ratings = make_ratings(raters=4, per_type=2)
    texts = ["rater", "cell", "source", "source_type", "driving", "driving_type", "method",
             "criterion", "role", "task", "other", "study"]  # fmt: skip
    found = stats.findings(ratings.astype(dict.fromkeys(texts, "category"))).table
    pd.testing.assert_frame_equal(found, stats.findings(ratings).table)
