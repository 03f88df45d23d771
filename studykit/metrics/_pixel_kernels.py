"""The inner loops of SSIM: means under its window.

It imports numba, so it is imported where images are compared. Not fast mathematics: each number is
rounded as NumPy rounds it.
"""

import numpy as np
from numba import njit


@njit(cache=True, error_model="numpy")
def windowed(values, window):
    """Return the means under a symmetric window wherever it fits, down the columns and along rows.

    Parameters
    ----------
    values : (H, W) float64
    window : (2 R + 1,) float64

    Returns
    -------
    (H - 2 R, W - 2 R) float64
    """
    radius = len(window) // 2
    height, width = values.shape[0] - 2 * radius, values.shape[1] - 2 * radius
    row, out = np.empty(values.shape[1]), np.empty((height, width))
    for i in range(height):
        for j in range(len(row)):
            row[j] = window[radius] * values[i + radius, j]
        for k in range(radius):
            for j in range(len(row)):
                row[j] += (values[i + k, j] + values[i + 2 * radius - k, j]) * window[k]
        for j in range(width):
            out[i, j] = window[radius] * row[j + radius]
        for k in range(radius):
            for j in range(width):
                out[i, j] += (row[j + k] + row[j + 2 * radius - k]) * window[k]
    return out
