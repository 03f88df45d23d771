"""The whole analysis: whatever the table holds, it gives numbers or words, never a bare NaN."""

import time

import numpy as np
import pandas as pd
import pytest
from rating_tables import make_pairs, make_ratings

from studykit import stats
from studykit.errors import StudyError
from studykit.stats import Analysis, Result


def _results(analysis: Analysis) -> dict[str, Result]:
    return {name: value for name, value in vars(analysis).items() if isinstance(value, Result)}


# What a row's words explain, where other numbers are missing by design.
KEYS = {"metric_correlation": ["r", "low"], "prediction": ["plcc", "low"], "bradley_terry": ["low"],
        "agreement": ["mean"], "verdicts": ["mean", "low"]}  # fmt: skip


def _metrics(ratings: pd.DataFrame) -> pd.DataFrame:
    cells = pd.Series(ratings["cell"].unique(), dtype=object)
    moving = pd.DataFrame({"cell": cells, "metric": "sms", "value": range(len(cells))})
    flat = pd.DataFrame({"cell": cells, "metric": "csim", "value": 1.0})
    return pd.concat([moving, flat]).assign(better="lower", extractor="dlib")


def _without_some(ratings: pd.DataFrame, share: float) -> pd.DataFrame:
    answers = ratings["rater"] + ratings["cell"]
    kept = np.random.default_rng(0).uniform(size=answers.nunique()) > share
    return ratings[answers.map(dict(zip(answers.unique(), kept, strict=True)))]


DEGENERATE = {
    "no ratings": make_ratings().iloc[:0],
    "one rating": make_ratings().iloc[:1],
    "training only": make_ratings().assign(role="training"),
    "one rater": make_ratings(raters=1),
    "two raters": make_ratings(raters=2),
    "all equal": make_ratings(lambda *_: 3),
    "all at the ceiling": make_ratings(lambda *_: 5),
    "raters without opinion": make_ratings(lambda r, *_: 1 + r % 5),
    "raters in full agreement": make_ratings(lambda r, s, d, m, c: 1 + len(m + s) % 4),
    "raters in full agreement on clips that differ": make_ratings(
        lambda r, s, d, m, c: 3, raters=4, per_type=2, methods=("copy", "warp")
    ).assign(value=lambda table: 1 + table["cell"].factorize()[0] ** 2 % 5),
    "clips that no rater rated on all criteria": make_ratings()[
        lambda table: table["cell"].factorize()[0] % 4 == table["criterion"].factorize()[0]
    ],
    "clips alike": make_ratings(lambda r, s, d, m, c: 1 + (r + len(s + d + m)) % 2, raters=6),
    "missing cells": _without_some(make_ratings(), 0.3),
    "hardly any cells": _without_some(make_ratings(), 0.93),
    "one method": make_ratings(methods=("warp",)),
    "one condition": make_ratings(methods=("warp",), types=("side",)),
    "one criterion": make_ratings(criteria=("jitter",)),
    "one driving type": make_ratings(per_type=2)[lambda table: table["driving_type"] == "frontal"],
    "a method that failed on some pairs": make_ratings(per_type=2)[
        lambda table: (table["method"] != "fomm") | (table["cell"].factorize()[0] % 5 > 0)
    ],
    "a method for one type": make_ratings()[
        lambda table: (table["method"] != "copy") | (table["source_type"] == "side")
    ],
    "pairs": make_pairs({("copy", "warp"): 5, ("warp", "copy"): 3}),
    "pairs that all go one way": make_pairs({("copy", "warp"): 5}),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_data_gives_words(case):
    ratings = DEGENERATE[case]
    analysis = stats.analyse(ratings, _metrics(ratings))
    for name, result in _results(analysis).items():
        assert result.how.endswith(".")
        assert not result.table.empty or result.notes, name
        table = result.table
        if name == "findings":
            assert (table["estimate"].notna() | (table["reason"] != "")).all()
            assert (table["low"].isna() == table["high"].isna()).all()
            continue
        numbers = table[KEYS[name]] if name in KEYS else table.select_dtypes("number")
        missing = numbers.isna().any(axis=1)
        assert (missing == (table["words"] != "")).all(), (name, table[missing].head())
    assert all(text.endswith(".") and "nan" not in text for text in analysis.warnings)


def test_a_study_of_two_hundred_cells_is_fast():
    ratings = make_ratings(raters=24, types=("frontal", "side"), per_type=5, methods=("a", "b"))
    start = time.process_time()
    analysis = stats.analyse(ratings, _metrics(ratings))
    assert ratings["cell"].nunique() == 200
    assert time.process_time() - start < 60
    assert not analysis.findings.table["reason"].str.contains("too few").any()


def test_ratings_of_thousands_of_foreign_clips_are_fast():
    """3,600 clips that few saw each, and metrics of all: no deletion of each clip in turn."""
    ratings = make_ratings(raters=1, per_type=20, types=("frontal", "side", "stylised"),
                           methods=("theirs",), criteria=("jitter",))  # fmt: skip
    clips = np.random.default_rng(0).permutation(np.repeat(np.arange(3600), 3))
    rater = [f"r{i % 60}" for i in range(len(clips))]
    ratings = ratings.iloc[clips].assign(rater=rater).drop_duplicates(["rater", "cell"])
    metrics = _metrics(ratings).replace("sms", "landmark_motion_error")
    start = time.process_time()
    found = stats.findings(ratings, metrics).table
    assert time.process_time() - start < 30
    assert (found.loc[found["claim"] == "prediction", "low"].notna()).any()


def test_excluded_raters_are_gone_and_counted_with_the_reason():
    ratings = make_ratings(raters=9)
    analysis = stats.analyse(ratings, excluded={"r003": "missed gold clips", "r999": "unknown"})
    for result in _results(analysis).values():
        assert result.n_dropped == 1
        assert result.why.startswith("1 excluded by screening (missed gold clips)")
    assert analysis.condition_scores.n_raters == 8


def test_simulated_ratings_are_marked_on_every_result():
    analysis = stats.analyse(make_ratings(raters=3).assign(simulated=True))
    assert analysis.simulated and all(result.simulated for result in _results(analysis).values())
    assert "simulated" in analysis.warnings[0]


def test_values_outside_the_studys_scale_are_refused():
    with pytest.raises(StudyError, match=r"outside 1\.\.4"):
        stats.analyse(make_ratings(lambda *_: 5, raters=2), scale=4)
