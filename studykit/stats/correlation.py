"""Rank correlations over clips: among the criteria, and of metrics with the raters' scores.

Clips are few, so that p comes from permutations, all of them where they can be counted.
"""

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import scipy

from studykit.stats.comparison import holm
from studykit.stats.result import NO_RATINGS, Result, counted
from studykit.stats.table import criteria_of, rated
from studykit.study.wording import OVERALL

_CLIPS_LEAST = 4  # with three clips not even a perfect order has p < 0.3
_CLIPS_EXACT = 9  # 9! = 362,880 orders
_PERMUTATIONS = 9999
_RESAMPLES = 2000


def correlate_criteria(ratings: pd.DataFrame, *, level: float = 0.95, seed: int = 0) -> Result:
    """Spearman's correlation among the criteria, over clips, of the clips' mean scores.

    Returns
    -------
    Result
        Columns first, second, rho, low, high, p, p_holm, n_clips, exact, words.
    """
    scores = _score_table(ratings)
    asked = [name for name in scores.columns if name != OVERALL or len(scores.columns) == 1]
    pairs = [
        ({"first": first, "second": second}, scores[[first, second]])
        for first, second in itertools.combinations(asked, 2)
    ]
    notes = () if pairs else ("Fewer than two criteria were rated: nothing to correlate.",)
    return _result(ratings, ["first", "second"], pairs, "among the criteria", notes, level, seed)


def correlate_metrics(
    ratings: pd.DataFrame, metrics: pd.DataFrame, *, level: float = 0.95, seed: int = 0
) -> Result:
    """Spearman's correlation of each metric with each criterion over clips.

    Parameters
    ----------
    metrics : pandas.DataFrame
        As in metrics.csv: cell, metric, value, better, extractor. A metric that two extractors
        measured counts as two, named with them.

    Returns
    -------
    Result
        Columns metric, better, criterion, rho, low, high, p, p_holm, n_clips, exact, words. Where
        lower values are better the sign is turned, so that rho > 0 means agreement with raters.
    """
    scores = _score_table(ratings)
    pairs = []
    for (name, better), values in _metric_columns(metrics):
        turned = (-values if better == "lower" else values).rename("metric")
        for criterion in scores.columns:
            key = {"metric": name, "better": better, "criterion": criterion}
            pairs.append((key, pd.concat([turned, scores[criterion]], axis=1, join="inner")))
    notes = () if pairs else ("There are no metrics yet.",)
    if scores.empty:
        notes = (NO_RATINGS,)
    columns = ["metric", "better", "criterion"]
    return _result(ratings, columns, pairs, "of metrics with criteria", notes, level, seed)


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rho, its interval, and the two-sided p of a permutation test."""

    rho: float
    low: float
    high: float
    p: float
    exact: bool


def spearman(
    first: np.ndarray, second: np.ndarray, *, level: float = 0.95, seed: int = 0
) -> RankCorrelation:
    """Spearman's rank correlation with a permutation test and a bootstrap interval.

    All n! orders are counted for up to 9 pairs; beyond, 9,999 random ones, and p is
    (b + 1) / (m + 1) (Phipson and Smyth 2010). The interval is the percentile bootstrap's over
    pairs; it is missing where the order is perfect, which leaves resamples nothing to vary.

    Parameters
    ----------
    first, second : (n,) float arrays
        n >= 4, neither constant.

    References
    ----------
    Phipson, B., Smyth, G. K. (2010). Permutation p-values should never be zero. Statistical
    Applications in Genetics and Molecular Biology 9, 39.
    """
    n = len(first)
    x, y = _standard_ranks(first), _standard_ranks(second)
    rho = float(x @ y)
    exact = n <= _CLIPS_EXACT
    orders = _all_orders(n) if exact else _random_orders(n, seed)
    as_far = int((np.abs(x[orders] @ y) >= abs(rho) - 1e-9).sum())
    p = as_far / len(orders) if exact else (as_far + 1) / (len(orders) + 1)
    if abs(rho) > 1 - 1e-9:
        return RankCorrelation(rho, np.nan, np.nan, p, exact)
    draws = np.random.default_rng(seed).integers(n, size=(_RESAMPLES, n))
    with np.errstate(invalid="ignore"):  # where a resample does not vary
        products = _standard_ranks(first[draws]) * _standard_ranks(second[draws])
    resampled = products.sum(axis=1)
    resampled = resampled[~np.isnan(resampled)]
    tail = (1 - level) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return RankCorrelation(rho, min(float(low), rho), max(float(high), rho), p, exact)


def _standard_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks with the mean 0 and the length 1, so that a product of two is rho."""
    ranks = scipy.stats.rankdata(values, axis=-1) - (values.shape[-1] + 1) / 2
    return ranks / np.linalg.norm(ranks, axis=-1, keepdims=True)


@lru_cache(maxsize=4)
def _all_orders(n: int) -> np.ndarray:
    return np.array(list(itertools.permutations(range(n))), dtype=np.int8)


@lru_cache(maxsize=4)
def _random_orders(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(np.arange(n), (_PERMUTATIONS, 1)), axis=1)


def _score_table(ratings: pd.DataFrame) -> pd.DataFrame:
    """Mean scores, clips by criteria in their usual order."""
    rows = rated(ratings)
    return rows.pivot_table(index="cell", columns="criterion", values="value")[criteria_of(rows)]


def _metric_columns(metrics: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.Series]]:
    """Yield each metric's name and direction, and its values by cell."""
    for metric, rows in metrics.groupby("metric", sort=False, observed=True):
        extractors = list(rows.groupby(rows["extractor"].fillna(""), sort=False, observed=True))
        for extractor, of_one in extractors:
            name = f"{metric} ({extractor})" if len(extractors) > 1 and extractor else metric
            better = of_one["better"].iloc[0]
            yield (name, better), of_one.groupby("cell", observed=True)["value"].mean()


def _result(
    ratings: pd.DataFrame,
    columns: list[str],
    pairs: list[tuple[dict, pd.DataFrame]],
    what: str,
    notes: tuple[str, ...],
    level: float,
    seed: int,
) -> Result:
    found = [key | _correlate(both, level, seed) for key, both in pairs]
    columns = [*columns, "rho", "low", "high", "p", "p_holm", "n_clips", "exact", "words"]
    table = pd.DataFrame(found, columns=columns)
    table["p_holm"] = holm(table["p"])
    return Result.of(
        ratings,
        table,
        columns,
        how=(
            f"Spearman's rank correlations {what} over clips, of mean scores over raters; "
            f"two-sided permutation tests (all orders up to {_CLIPS_EXACT} clips, "
            f"{_PERMUTATIONS:,} random ones beyond), corrected by Holm over the table; "
            f"{100 * level:g}% percentile bootstrap intervals over clips ({_RESAMPLES:,} "
            "resamples). Clips that share a source or a driving count as independent."
        ),
        n_raters=rated(ratings)["rater"].nunique(),
        notes=notes,
    )


def _correlate(both: pd.DataFrame, level: float, seed: int) -> dict:
    values = both.to_numpy(dtype=float).round(9)
    values = values[np.isfinite(values).all(axis=1)]
    result = {"n_clips": len(values), "exact": len(values) <= _CLIPS_EXACT}
    if len(values) < _CLIPS_LEAST:
        words = f"{counted(len(values), 'clip')}: no correlation under {_CLIPS_LEAST}"
        return result | {"words": words}
    for name, column in zip(both.columns, values.T, strict=True):
        if np.ptp(column) == 0:
            return result | {"words": f"{name} is the same for all clips: no correlation"}
    found = spearman(*values.T, level=level, seed=seed)
    words = "perfect order: no interval" if np.isnan(found.low) else ""
    return result | asdict(found) | {"words": words}
