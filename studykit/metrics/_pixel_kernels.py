"""The inner loops of SSIM: means under its window, and the maps of two images' likeness.

It imports numba, so it is imported where images are compared. Not fast mathematics: each number is
rounded as NumPy rounds it.
"""

import numba
import numpy as np

exact = numba.njit(cache=True, error_model="numpy")


@exact
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
        row[:] = window[radius] * values[i + radius]
        for k in range(radius):
            near, far = values[i + k], values[i + 2 * radius - k]
            for j in range(len(row)):
                row[j] += (near[j] + far[j]) * window[k]
        for j in range(width):
            out[i, j] = window[radius] * row[j + radius]
        for k in range(radius):
            for j in range(width):
                out[i, j] += (row[j + k] + row[j + 2 * radius - k]) * window[k]
    return out


@exact
def likeness(one, two, window, c1, c2):
    """Return the maps of luminance, and of contrast times structure: Wang et al. 2004, equation 13.

    Parameters
    ----------
    one, two : (H, W) float64
    window : (2 R + 1,) float64
    c1, c2 : float
        What keeps each ratio finite.

    Returns
    -------
    luminance, contrast : (H - 2 R, W - 2 R) float64
    """
    mean_1, mean_2 = windowed(one, window), windowed(two, window)
    product, squares = mean_1 * mean_2, mean_1 * mean_1 + mean_2 * mean_2
    covariance = windowed(one * two, window) - product
    variances = windowed(one * one + two * two, window) - squares
    luminance = (2 * product + c1) / (squares + c1)
    return luminance, (2 * covariance + c2) / (variances + c2)
