"""The inner loops of the mesh: cutting turned squares out of an image, as networks take them.

It imports numba, so it is imported where a face is sought.
"""

import numpy as np
from numba import njit


@njit(cache=True)
def shrink(image, left, top, columns, rows, factor):
    """Average blocks of ``factor`` x ``factor`` pixels: (rows, columns, 3) uint8.

    The first block begins at ``left`` and ``top``; all of them lie in the (H, W, 3) uint8 image.
    """
    out = np.empty((rows, columns, 3), np.uint8)
    count = factor * factor
    for row in range(rows):
        for column in range(columns):
            x, y = left + column * factor, top + row * factor
            red = green = blue = count // 2
            for i in range(y, y + factor):
                for j in range(x, x + factor):
                    red += image[i, j, 0]
                    green += image[i, j, 1]
                    blue += image[i, j, 2]
            out[row, column, 0] = red // count
            out[row, column, 1] = green // count
            out[row, column, 2] = blue // count
    return out


@njit(cache=True)
def cut(image, into, side, black):
    """Cut a turned square out of an image: (side, side, 3) float32, 0 to 1.

    Parameters
    ----------
    image : (H, W, 3) uint8
    into : (2, 3) float64
        Maps the square's x, y, measured at its pixels' edges, to the image's.
    side : int
        Of the square, in its pixels.
    black : bool
        Whether all is black outside the image; else its border goes on there.
    """
    height, width = image.shape[0], image.shape[1]
    out = np.empty((side, side, 3), np.float32)
    # Single precision all along: it takes two thirds of the time.
    one, half, unit = np.float32(1), np.float32(0.5), np.float32(1 / 255)
    last_x, last_y = np.float32(width - 1), np.float32(height - 1)
    xx, xy, x0 = np.float32(into[0, 0]), np.float32(into[0, 1]), np.float32(into[0, 2] - 0.5)
    yx, yy, y0 = np.float32(into[1, 0]), np.float32(into[1, 1]), np.float32(into[1, 2] - 0.5)
    for row in range(side):
        v = np.float32(row) + half
        for column in range(side):
            u = np.float32(column) + half
            x, y = xx * u + xy * v + x0, yx * u + yy * v + y0
            if black and (x < -half or y < -half or x > last_x + half or y > last_y + half):
                out[row, column, 0] = out[row, column, 1] = out[row, column, 2] = 0
                continue
            x, y = min(max(x, np.float32(0)), last_x), min(max(y, np.float32(0)), last_y)
            c, r = int(x), int(y)
            right, below = min(c + 1, width - 1), min(r + 1, height - 1)
            fx, fy = x - np.float32(c), y - np.float32(r)
            a, b = (one - fx) * (one - fy) * unit, fx * (one - fy) * unit
            d, e = (one - fx) * fy * unit, fx * fy * unit
            for k in range(3):
                above = a * np.float32(image[r, c, k]) + b * np.float32(image[r, right, k])
                under = d * np.float32(image[below, c, k]) + e * np.float32(image[below, right, k])
                out[row, column, k] = above + under
    return out
