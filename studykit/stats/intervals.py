"""Confidence intervals for a mean over raters, on arrays, so that simulations can check them.

The rater is the unit: one number a rater goes in, the mean of what that rater said.
"""

import numpy as np
import scipy


def t_interval(values: np.ndarray, *, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Student's t interval for the mean over the last axis.

    It has no width where all values are equal, and falls short at the end of a scale.

    Parameters
    ----------
    values : (..., n) float array
        n >= 2 raters.

    Returns
    -------
    low, high : (...) float arrays
    """
    n = values.shape[-1]
    mean = values.mean(axis=-1)
    half = scipy.stats.t.ppf((1 + level) / 2, n - 1) * values.std(axis=-1, ddof=1) / np.sqrt(n)
    return mean - half, mean + half


def score_interval(
    values: np.ndarray, *, scale: int = 5, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Score interval for the mean of values on a bounded scale; it stays inside 1..scale.

    Wilson's interval (1927) for a proportion, carried over to a mean between two ends by the
    variance function of quasi-likelihood (Wedderburn 1974), Var = d (mu - 1)(scale - mu): the
    interval holds every mu with::

        (m - mu)^2 <= t^2 / n * d * (mu - 1)(scale - mu),   d = s^2 / ((m - 1)(scale - m))

    where m and s are the mean and standard deviation of the n values and t is Student's quantile
    with n - 1 degrees of freedom. Where all values are equal, which leaves d open, it is that of
    raters who hesitate between two neighbouring steps at the scale's end, 1 / (scale - 1).

    Parameters
    ----------
    values : (..., n) float array
        n >= 2 raters, 1..scale.

    Returns
    -------
    low, high : (...) float arrays

    References
    ----------
    Wilson, E. B. (1927). Probable inference, the law of succession, and statistical inference.
    JASA 22, 209-212. Wedderburn, R. W. M. (1974). Quasi-likelihood functions, generalized linear
    models, and the Gauss-Newton method. Biometrika 61, 439-447.
    """
    n = values.shape[-1]
    mean, variance = values.mean(axis=-1), values.var(axis=-1, ddof=1)
    room = (mean - 1) * (scale - mean)
    varied = (variance > 1e-12) & (room > 1e-12)
    dispersion = np.where(varied, variance / np.where(varied, room, 1), 1 / (scale - 1))
    c = dispersion * scipy.stats.t.ppf((1 + level) / 2, n - 1) ** 2 / n
    # (1 + c) mu^2 - (2 m + (scale + 1) c) mu + m^2 + scale c = 0
    centre = (2 * mean + (scale + 1) * c) / (2 * (1 + c))
    half = np.sqrt(np.maximum(centre**2 - (mean**2 + scale * c) / (1 + c), 0))
    return np.clip(centre - half, 1, mean), np.clip(centre + half, mean, scale)
