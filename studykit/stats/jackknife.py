"""How sure a statistic is whose data share raters, sources and drivings: the grouped jackknife."""

from collections.abc import Callable, Sequence

import numpy as np
import scipy

_ROWS_MOST = 200  # beyond, each deletion costs time and changes nothing


def jackknife(
    statistic: Callable[[np.ndarray], np.ndarray],
    groups: Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of a statistic and its degrees of freedom.

    Each level of each grouping is left out in turn, and each row, or where there are many each of
    200 random parts of the rows. What rows share within a grouping shows as variance beyond that
    of rows on their own; these parts add up, and none is negative.

    Parameters
    ----------
    statistic : callable
        Of the rows that are kept, (n,) bool: a (k,) float array.
    groups : sequence of (n,) int arrays
        From 0 without gaps, such as the source of each row, with two levels or more.

    Returns
    -------
    variance, df : (k,) float arrays

    References
    ----------
    Cameron, A. C., Gelbach, J. B., Miller, D. L. (2011). Robust inference with multiway clustering.
    Journal of Business & Economic Statistics 29, 238-249; by the jackknife, as MacKinnon, J. G.,
    Nielsen, M. O., Webb, M. D. (2023). Journal of Applied Econometrics 38, 671-694, since the
    plain sums of squares are too small where there are few groups.
    """
    rows = np.random.default_rng(0).permutation(len(groups[0])) % _ROWS_MOST
    return combined([spread(statistic, group) for group in (rows, *groups)])


def spread(statistic: Callable[[np.ndarray], np.ndarray], group: np.ndarray) -> tuple:
    """Return the jackknife variance over the levels of a grouping, (k,) float, and its df."""
    size = int(group.max()) + 1
    return spread_of(np.array([statistic(group != level) for level in range(size)]))


def spread_of(left: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the jackknife variance of what is found without each of n levels, and its df.

    Parameters
    ----------
    left : (n, k) float array
    """
    df = len(left) - 1
    return df / len(left) * ((left - left.mean(axis=0)) ** 2).sum(axis=0), df


def combined(parts: Sequence[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Add to the first variance what the others have beyond it; the df by Satterthwaite."""
    (alone, df), *others = parts
    total, squares = alone.copy(), alone**2 / df
    for variance, freedom in others:
        beyond = np.maximum(variance - alone, 0)
        total += beyond
        squares += np.where(beyond > 0, variance**2 / freedom, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return total, total**2 / squares


def t_test(estimate: np.ndarray, variance: np.ndarray, df: np.ndarray, level: float) -> tuple:
    """Return half the width of the interval, and the two-sided p of Student's t."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * scipy.special.stdtr(df, -np.abs(estimate) / np.sqrt(variance))
    return scipy.special.stdtrit(df, (1 + level) / 2) * np.sqrt(variance), p
