"""The inner loops of optical flow: one that fits two images and is smooth, and what it leads to.

It imports numba, so it is imported where a flow is sought.
"""

import numba
import numpy as np

fast = numba.njit(cache=True, error_model="numpy", fastmath=True)


@fast
def relax(flow, slope, rest, attachment, tightness, steps):
    """Bring a flow nearer to the least of TV-L1, in place: Zach et al. 2007, equations 10 to 16.

    Parameters
    ----------
    flow : (2, H, W) float32
    slope : (2, H, W) float32
        How the moved image changes by rows and columns.
    rest : (H, W) float32
        By how much the moved image is brighter, less what the flow explains so far.
    attachment, tightness : float32
    steps : int
    """
    height, width = rest.shape
    fitted, dual = np.empty_like(flow), np.zeros((2, 2, height, width), np.float32)
    one, zero, pace = np.float32(1), np.float32(0), np.float32(0.25)
    for _ in range(steps):
        for i in range(height):
            for j in range(width):
                down, right = slope[0, i, j], slope[1, i, j]
                steep = down * down + right * right
                error = rest[i, j] + down * flow[0, i, j] + right * flow[1, i, j]
                most = attachment * tightness
                part = min(max(error / steep, -most), most) if steep > zero else zero
                fitted[0, i, j] = flow[0, i, j] - down * part
                fitted[1, i, j] = flow[1, i, j] - right * part
        for k in range(2):
            for i in range(height):
                for j in range(width):
                    flow[k, i, j] = fitted[k, i, j]
        for _ in range(2):
            for k in range(2):
                for i in range(height):
                    for j in range(width):
                        here = flow[k, i, j]
                        down = flow[k, i + 1, j] - here if i < height - 1 else zero
                        right = flow[k, i, j + 1] - here if j < width - 1 else zero
                        length = np.sqrt(down * down + right * right)
                        shrink = one / (one + length * pace / tightness)
                        dual[0, k, i, j] = (dual[0, k, i, j] - pace * down) * shrink
                        dual[1, k, i, j] = (dual[1, k, i, j] - pace * right) * shrink
            for k in range(2):
                for i in range(height):
                    for j in range(width):
                        above = dual[0, k, i - 1, j] if i else zero
                        left = dual[1, k, i, j - 1] if j else zero
                        here = dual[0, k, i, j] + dual[1, k, i, j]
                        flow[k, i, j] = fitted[k, i, j] - here + above + left


@fast
def follow(image, flow):
    """Read an image where a flow leads, between pixels linearly, with its border going on.

    Parameters
    ----------
    image : (H, W) float32
    flow : (2, H, W) float32

    Returns
    -------
    (H, W) float32
    """
    height, width = image.shape
    out, zero = np.empty_like(image), np.float32(0)
    for i in range(height):
        for j in range(width):
            y = min(max(np.float32(i) + flow[0, i, j], zero), np.float32(height - 1))
            x = min(max(np.float32(j) + flow[1, i, j], zero), np.float32(width - 1))
            top, left = int(y), int(x)
            low, right = min(top + 1, height - 1), min(left + 1, width - 1)
            fx = x - np.float32(left)
            above = image[top, left] + fx * (image[top, right] - image[top, left])
            below = image[low, left] + fx * (image[low, right] - image[low, left])
            out[i, j] = above + (y - np.float32(top)) * (below - above)
    return out
