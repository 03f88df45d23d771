"""The inner loops of the warp: turning a displacement field round, and reading it and the image.

It imports numba, so it and ``_warp_paint`` are imported where a source is prepared.
"""

import numpy as np
from numba import njit


@njit(cache=True)
def look_up(grid, spacing, points):
    """Interpolate a (G, G, C) grid, whose nodes are ``spacing`` pixels apart, at (N, 2) points."""
    last = grid.shape[0] - 2
    out = np.empty((points.shape[0], grid.shape[2]), np.float32)
    for i in range(points.shape[0]):
        x, y = points[i, 0] / spacing, points[i, 1] / spacing
        c, r = min(max(int(x), 0), last), min(max(int(y), 0), last)
        fx, fy = min(max(x - c, 0.0), 1.0), min(max(y - r, 0.0), 1.0)
        for k in range(grid.shape[2]):
            above = grid[r, c, k] * (1 - fx) + grid[r, c + 1, k] * fx
            below = grid[r + 1, c, k] * (1 - fx) + grid[r + 1, c + 1, k] * fx
            out[i, k] = above * (1 - fy) + below * fy
    return out


@njit(cache=True)
def invert(shift, spacing, steps):
    """Find, for each node q of a (G, G, 2) grid, the point p with p + shift(p) = q.

    Newton's method on the bilinear interpolation of ``shift``, from q - shift(q). A step is at
    most four cells long, so that a fold, where there is no unique p, can't throw it far.
    """
    size = shift.shape[0]
    end = spacing * (size - 1)
    reach = 4 * spacing
    out = np.empty_like(shift)
    for row in range(size):
        for column in range(size):
            qx, qy = column * spacing, row * spacing
            px = min(max(qx - shift[row, column, 0], 0.0), end)
            py = min(max(qy - shift[row, column, 1], 0.0), end)
            for _ in range(steps):
                x, y = px / spacing, py / spacing
                c, r = min(int(x), size - 2), min(int(y), size - 2)
                fx, fy = x - c, y - r
                ax, bx = shift[r, c, 0], shift[r, c + 1, 0]
                cx, dx = shift[r + 1, c, 0], shift[r + 1, c + 1, 0]
                ay, by = shift[r, c, 1], shift[r, c + 1, 1]
                cy, dy = shift[r + 1, c, 1], shift[r + 1, c + 1, 1]
                ex = px + (ax * (1 - fx) + bx * fx) * (1 - fy) + (cx * (1 - fx) + dx * fx) * fy - qx
                ey = py + (ay * (1 - fx) + by * fx) * (1 - fy) + (cy * (1 - fx) + dy * fx) * fy - qy
                if abs(ex) + abs(ey) < 1e-3:
                    break
                xx = 1 + ((bx - ax) * (1 - fy) + (dx - cx) * fy) / spacing
                xy = ((cx - ax) * (1 - fx) + (dx - bx) * fx) / spacing
                yx = ((by - ay) * (1 - fy) + (dy - cy) * fy) / spacing
                yy = 1 + ((cy - ay) * (1 - fx) + (dy - by) * fx) / spacing
                det = xx * yy - xy * yx
                if det < 0.1:
                    det = 0.1
                stepx = min(max((yy * ex - xy * ey) / det, -reach), reach)
                stepy = min(max((xx * ey - yx * ex) / det, -reach), reach)
                px = min(max(px - stepx, 0.0), end)
                py = min(max(py - stepy, 0.0), end)
            out[row, column, 0] = px
            out[row, column, 1] = py
    return out


@njit(cache=True)
def sample(image, points):
    """Read an (H, W, 3) image at (N, 2) points by Catmull-Rom interpolation, edges repeated.

    At whole pixels it gives the pixels themselves (R. Keys 1981, "Cubic convolution
    interpolation for digital image processing", a = -1/2).
    """
    height, width = image.shape[0], image.shape[1]
    out = np.empty((points.shape[0], 3), np.float32)
    wx, wy = np.empty(4), np.empty(4)
    for i in range(points.shape[0]):
        x, y = points[i, 0], points[i, 1]
        left, top = int(np.floor(x)), int(np.floor(y))
        for weights, t in ((wx, x - left), (wy, y - top)):
            weights[0] = ((-0.5 * t + 1.0) * t - 0.5) * t
            weights[1] = (1.5 * t - 2.5) * t * t + 1.0
            weights[2] = ((-1.5 * t + 2.0) * t + 0.5) * t
            weights[3] = (0.5 * t - 0.5) * t * t
        for k in range(3):
            total = 0.0
            for m in range(4):
                row = min(max(top + m - 1, 0), height - 1)
                line = 0.0
                for n in range(4):
                    line += wx[n] * image[row, min(max(left + n - 1, 0), width - 1), k]
                total += wy[m] * line
            out[i, k] = min(max(total, 0.0), 255.0)
    return out
