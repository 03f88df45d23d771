"""Agreement among raters: Krippendorff's alpha for ordinal scores, intraclass correlation.

Alpha takes any pattern of missing ratings; the intraclass correlation needs raters who rated all.
"""

from typing import Literal

import numpy as np
import pandas as pd
import scipy

from studykit.errors import StudyError, did_you_mean
from studykit.stats.result import Result
from studykit.stats.table import criteria_of, rated
from studykit.study.wording import OVERALL

Level = Literal["nominal", "ordinal", "interval"]
_RESAMPLES = 2000
# Krippendorff (2004), Reliability in content analysis, 2nd ed., p. 241.
ALPHA_GOOD, ALPHA_TENTATIVE = 0.8, 0.667


def agreement(ratings: pd.DataFrame, *, level: float = 0.95, seed: int = 0) -> Result:
    """Agreement of raters on each criterion.

    Returns
    -------
    Result
        Columns criterion, alpha, alpha_low, alpha_high, icc_single, icc_single_low,
        icc_single_high, icc_mean, icc_mean_low, icc_mean_high, n_raters, n_clips, n_ratings,
        n_complete (raters who rated every clip, whom the intraclass correlations are of),
        reading ("good" from an alpha of 0.8, "tentative" from 0.667, else "low"), words.
    """
    rows = rated(ratings)
    rng = np.random.default_rng(seed)
    asked = criteria_of(rows)
    if len(asked) > 1 and OVERALL not in set(ratings["criterion"]):
        # A mean of criteria is no ordinal score.
        asked = [name for name in asked if name != OVERALL]
    found = []
    for name in asked:
        of_one = rows[rows["criterion"] == name]
        values = of_one.pivot_table(index="rater", columns="cell", values="value").to_numpy()
        found.append({"criterion": name} | _agreement(values, level, rng))
    columns = ["criterion", "alpha", "alpha_low", "alpha_high", "icc_single", "icc_single_low",
               "icc_single_high", "icc_mean", "icc_mean_low", "icc_mean_high", "n_raters",
               "n_clips", "n_ratings", "n_complete", "reading", "words"]  # fmt: skip
    n_dropped = max((row["n_raters"] - row["n_complete"] for row in found), default=0)
    return Result.of(
        ratings,
        found,
        columns,
        how=(
            "Agreement: Krippendorff's alpha for ordinal data (Krippendorff 2011), with a "
            f"{100 * level:g}% percentile bootstrap interval over clips ({_RESAMPLES:,} "
            "resamples); intraclass correlations ICC(2,1) of one rater and ICC(2,k) of the mean of "
            "k raters (Shrout and Fleiss 1979), over raters who rated every clip."
        ),
        n_raters=rows["rater"].nunique(),
        n_dropped=n_dropped,
        why="had not rated every clip (intraclass correlation only)" if n_dropped else "",
    )


def krippendorff_alpha(values: np.ndarray, level: Level = "ordinal") -> float:
    """Krippendorff's alpha: 1 - observed / expected disagreement.

    Parameters
    ----------
    values : (raters, units) float array
        NaN where a rater did not rate a unit; units with one value take no part.
    level : {"nominal", "ordinal", "interval"}
        The metric of the values' differences. Between the ordinal values c and k, of which
        there are n_c and n_k, it is (sum of n_g for g from c to k - (n_c + n_k) / 2)^2.

    Returns
    -------
    float
        At most 1; NaN where no unit has two values, or all paired values are equal.

    References
    ----------
    Krippendorff, K. (2011). Computing Krippendorff's alpha-reliability. University of
    Pennsylvania, Annenberg School for Communication.
    """
    categories, coincidences = _coincidences(values)
    return float(_alpha(categories, coincidences.sum(axis=0), level))


def intraclass_correlation(
    values: np.ndarray, *, average: bool = False, level: float = 0.95
) -> tuple[float, float, float]:
    """Intraclass correlation ICC(2,1), or ICC(2,k) of the mean of all raters, and its interval.

    Two-way random effects, absolute agreement: both raters and clips are samples.

    Parameters
    ----------
    values : (raters, clips) float array
        Without gaps, at least 2 x 2.

    Returns
    -------
    value, low, high : float
        NaN where clips and raters do not vary at all, and where clips differ so little that a
        value has no finite estimate or limit.

    References
    ----------
    Shrout, P. E., Fleiss, J. L. (1979). Intraclass correlations: uses in assessing rater
    reliability. Psychological Bulletin 86, 420-428; the interval is that of p. 424.
    """
    k, n = values.shape
    total = values.mean()
    clips = k * ((values.mean(axis=0) - total) ** 2).sum() / (n - 1)
    raters = n * ((values.mean(axis=1) - total) ** 2).sum() / (k - 1)
    everything = ((values - total) ** 2).sum()
    error = (everything - clips * (n - 1) - raters * (k - 1)) / ((n - 1) * (k - 1))
    error = max(error, 0.0)
    if everything < 1e-12:
        return np.nan, np.nan, np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        single = (clips - error) / (clips + (k - 1) * error + k * (raters - error) / n)
        if error < 1e-12:
            df = k - 1.0  # where the expression below tends to: raters differ in level alone
        else:
            ratio = raters / error
            spread = n * (1 + (k - 1) * single) - k * single
            df = ((k - 1) * (n - 1) * (k * single * ratio + spread) ** 2) / (
                (n - 1) * k**2 * single**2 * ratio**2 + spread**2
            )
        up, down = scipy.stats.f.ppf((1 + level) / 2, [n - 1, df], [df, n - 1])
        rest = k * raters + (k * n - k - n) * error
        low = n * (clips - up * error) / (up * rest + n * clips)
        high = n * (down * clips - error) / (rest + n * down * clips)
        found = np.array([single, low, high])
        if average:
            # Spearman and Brown: what k raters together are worth; without limit towards the
            # least that one can be worth, -1 / (k - 1).
            shared = 1 + (k - 1) * found
            found = np.where(shared > 1e-9, k * found / shared, np.nan)
    return tuple(np.where(np.isfinite(found), found, np.nan).tolist())


def _agreement(values: np.ndarray, level: float, rng: np.random.Generator) -> dict:
    rated = ~np.isnan(values)
    complete = values[rated.all(axis=1)]
    result = {
        "n_raters": values.shape[0],
        "n_clips": values.shape[1],
        "n_ratings": int(rated.sum()),
        "n_complete": len(complete),
        "reading": "",
    }
    if len(values) < 2:
        return result | {"words": "one rater: no agreement to measure"}
    if np.ptp(values[rated]) < 1e-9:
        return result | {"words": "all ratings are equal: agreement is not defined"}
    categories, coincidences = _coincidences(values)
    alpha = float(_alpha(categories, coincidences.sum(axis=0), "ordinal"))
    if np.isnan(alpha):
        return result | {"words": "no clip has two ratings that could differ"}
    words = []
    result["alpha"] = alpha
    result["reading"] = (
        "good" if alpha >= ALPHA_GOOD else "tentative" if alpha >= ALPHA_TENTATIVE else "low"
    )
    units = len(coincidences)
    draws = rng.multinomial(units, np.full(units, 1 / units), size=_RESAMPLES)
    resampled = _alpha(categories, np.tensordot(draws, coincidences, axes=1), "ordinal")
    resampled = resampled[~np.isnan(resampled)]
    if units < 2 or len(resampled) < _RESAMPLES / 2:
        words.append("too few clips with several ratings: no interval for alpha")
    else:
        tail = (1 - level) / 2
        result["alpha_low"], result["alpha_high"] = np.quantile(resampled, [tail, 1 - tail])
    if values.shape[1] < 2:
        words.append("one clip: no intraclass correlation")
    elif len(complete) < 2:
        words.append("fewer than two raters rated every clip: no intraclass correlation")
    elif np.ptp(complete) < 1e-9:
        words.append("the complete raters' ratings are all equal: no intraclass correlation")
    else:
        found = {}
        for name, average in (("icc_single", False), ("icc_mean", True)):
            icc = intraclass_correlation(complete, average=average, level=level)
            found |= zip((name, f"{name}_low", f"{name}_high"), icc, strict=True)
        if np.isnan(list(found.values())).any():
            words.append("clips hardly differ: not every intraclass correlation is defined")
        result |= found
    return result | {"words": "; ".join(words)}


def _coincidences(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the categories and each unit's coincidence matrix, (units, v, v)."""
    values = np.asarray(values, dtype=float)
    categories = np.unique(values[~np.isnan(values)])
    counts = np.array([(values == category).sum(axis=0) for category in categories]).T
    counts = counts.reshape(values.shape[1], len(categories))
    counts = counts[counts.sum(axis=1) > 1].astype(float)
    pairs = counts[:, :, None] * counts[:, None, :]
    pairs[:, np.arange(len(categories)), np.arange(len(categories))] -= counts
    return categories, pairs / (counts.sum(axis=1) - 1)[:, None, None]


def _alpha(categories: np.ndarray, coincidences: np.ndarray, level: str) -> np.ndarray:
    """Alpha of one (v, v) or many (..., v, v) coincidence matrices; NaN where it is not defined."""
    counts = coincidences.sum(axis=-1)
    if level == "nominal":
        gap = 1 - np.eye(len(categories))
    elif level == "interval":
        gap = (categories[:, None] - categories) ** 2
    elif level == "ordinal":
        middle = np.cumsum(counts, axis=-1) - counts / 2
        gap = (middle[..., :, None] - middle[..., None, :]) ** 2
    else:
        raise StudyError(
            f'no level "{level}": {did_you_mean(level, ["nominal", "ordinal", "interval"])}'
        )
    observed = (coincidences * gap).sum(axis=(-2, -1))
    expected = (counts[..., :, None] * counts[..., None, :] * gap).sum(axis=(-2, -1))
    pairs = counts.sum(axis=-1) - 1
    defined = expected > 1e-12
    return np.where(defined, 1 - pairs * observed / np.where(defined, expected, 1), np.nan)
