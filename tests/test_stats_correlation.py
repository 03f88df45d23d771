"""Rank correlations: against scipy, with exact permutations, and with the metric's direction."""

import numpy as np
import pandas as pd
import pytest
from rating_tables import make_ratings
from scipy.stats import permutation_test, spearmanr

from studykit import stats
from studykit.stats.correlation import spearman
from studykit.study.wording import CRITERIA


def _metric(ratings: pd.DataFrame, values, better: str = "higher", **columns) -> pd.DataFrame:
    cells = ratings["cell"].unique()
    base = {"cell": cells, "metric": "sharpness", "value": values, "better": better,
            "extractor": ""}  # fmt: skip
    return pd.DataFrame(base | columns)


@pytest.mark.parametrize("seed", range(3))
def test_spearman_is_scipys_with_the_exact_permutation_p(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=6), rng.integers(1, 5, 6).astype(float)
    found = spearman(first, second)
    expected = permutation_test(
        (first,), lambda x: spearmanr(x, second).statistic, permutation_type="pairings",
        n_resamples=np.inf,
    )  # fmt: skip
    assert found.rho == pytest.approx(spearmanr(first, second).statistic)
    share = np.mean(np.abs(expected.null_distribution) >= abs(found.rho) - 1e-9)
    assert found.p == pytest.approx(share)
    assert found.exact and found.low <= found.rho <= found.high


def test_beyond_nine_pairs_random_orders_agree_with_the_asymptotic_p():
    rng = np.random.default_rng(0)
    first = rng.normal(size=60)
    second = first + rng.normal(0, 4, 60)
    found = spearman(first, second)
    assert not found.exact
    assert found.p == pytest.approx(spearmanr(first, second).pvalue, abs=0.02)


def test_the_interval_covers_a_known_correlation():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        x, y = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], size=27).T
        found = spearman(x, y)
        hits += found.low <= 6 / np.pi * np.arcsin(0.25) <= found.high  # Pearson 0.5
    assert hits >= 89


def test_lower_is_better_turns_the_sign():
    ratings = make_ratings(methods=("warp",), clip_sd=1)
    mean = ratings.groupby("cell", sort=False)["value"].mean().to_numpy()
    good = stats.correlate_metrics(ratings, _metric(ratings, mean)).table
    bad = stats.correlate_metrics(ratings, _metric(ratings, -mean, better="lower")).table
    assert good["rho"].min() > 0.5
    np.testing.assert_allclose(good["rho"], bad["rho"])
    assert list(good["criterion"]) == [*CRITERIA, stats.OVERALL]


def test_two_extractors_of_a_metric_are_two_rows():
    ratings = make_ratings(methods=("warp",), criteria=("jitter",))
    values = np.arange(9.0)
    metrics = pd.concat(
        [_metric(ratings, values, extractor=name) for name in ("dlib", "reference")]
    )
    table = stats.correlate_metrics(ratings, metrics).table
    assert list(table["metric"]) == ["sharpness (dlib)", "sharpness (reference)"]


def test_a_metric_on_few_clips_or_without_variation_has_words():
    ratings = make_ratings(methods=("warp",), criteria=("jitter",))
    few = stats.correlate_metrics(ratings, _metric(ratings, np.arange(9.0)).head(3)).table
    assert few["words"].tolist() == ["3 clips: no correlation under 4"]
    flat = stats.correlate_metrics(ratings, _metric(ratings, np.ones(9))).table
    assert flat["words"].tolist() == ["metric is the same for all clips: no correlation"]


def test_criteria_correlate_over_clips_without_the_derived_overall():
    result = stats.correlate_criteria(make_ratings(methods=("warp",), clip_sd=0.8))
    assert len(result.table) == 6 and (result.table["n_clips"] == 9).all()
    assert result.table["exact"].all() and (result.table["rho"] > 0).all()
