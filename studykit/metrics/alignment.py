"""Motion compared after it was aligned in time: a clip that lags by a frame is not all wrong."""

import math
from collections.abc import Callable

import numpy as np

BAND = 5
"""By how many frames motion may come sooner or later: a fifth of a second at 25 frames a second,
about what viewers notice of sound and lips (ITU-R BT.1359)."""

# How soft the minimum is, of the mean error within the band.
_SOFTNESS = 0.01


def aligned_error(
    clip: np.ndarray,
    driving: np.ndarray,
    error: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return each clip frame's error against the driving's frames that it is aligned with: (T,).

    Soft dynamic time warping (Cuturi and Blondel 2017, "Soft-DTW: a differentiable loss function
    for time-series"), which arXiv 2606.01031 proposes for talking heads. A path leads from the
    first frames to the last, goes on by a frame in the clip, in the driving or in both at each
    step, and stays within :data:`BAND`. Paths weigh exp(-c / g), with the sum c of their errors and
    g a hundredth of the mean error within the band; so a pair of frames is on a path with a
    probability, the gradient of soft-DTW. A frame's figure is the mean of its errors by these
    probabilities. That is 0 or more and in the error's own unit, which soft-DTW's sum is not; with
    a band of 0 it would be the error frame by frame. 0 is best.

    Parameters
    ----------
    clip, driving : (T, ...) float
        What is compared. Frames that one of them does not show, NaN, are left out of both.
    error : callable
        Of two such arrays, the error frame by frame: (T,) float.
    """
    found = np.full(len(clip), np.nan)
    known = np.flatnonzero(~np.isnan(error(clip, driving)))
    one, two, count = clip[known], driving[known], len(known)
    if not count:
        return found
    costs = np.full((count, 2 * BAND + 1), np.inf)
    for shift in range(-min(BAND, count - 1), min(BAND, count - 1) + 1):
        here = slice(max(0, -shift), count - max(0, shift))
        there = slice(max(0, shift), count - max(0, -shift))
        costs[here, shift + BAND] = error(one[here], two[there])
    inside = np.isfinite(costs)
    scaled = costs / (_SOFTNESS * costs[inside].mean() or 1.0)
    # Turned about, the same costs lead from a pair of frames to the end.
    to, onward = _soft_sums(scaled), _soft_sums(scaled[::-1, ::-1])[::-1, ::-1]
    through = to + onward - np.where(inside, scaled, 0)
    shares = np.exp(to[-1, BAND] - through)
    found[known] = (shares * np.where(inside, costs, 0)).sum(axis=1) / shares.sum(axis=1)
    return found


def _soft_sums(costs: np.ndarray) -> np.ndarray:
    """Return the soft minimum, over all paths from the first frames to a pair, of their costs.

    Parameters
    ----------
    costs : (T, 2 BAND + 1) float
        Of frame t and the other's frame t + column - BAND; infinite where there is none.
    """
    width = costs.shape[1]
    above = [math.inf] * (width + 2)
    above[BAND + 1] = 0.0
    sums = np.empty_like(costs)
    for frame, row in enumerate(costs.tolist()):
        here = [math.inf] * (width + 2)
        for place, cost in enumerate(row, start=1):
            ways = above[place], above[place + 1], here[place - 1]
            if (least := min(ways)) < math.inf:
                here[place] = cost + least - math.log(sum(math.exp(least - way) for way in ways))
        sums[frame], above = here[1:-1], here
    return sums
