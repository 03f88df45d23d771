"""How steady a clip is: landmarks that tremble, frames that tear, backgrounds that flicker.

These need no truth. A driving that trembles itself is no fault of the method, so its own figures
stand beside them. All are a frame's, not a second's: compare clips of one frame rate.
"""

import numpy as np
from PIL import Image

from studykit.metrics.motion import eye_distance
from studykit.metrics.pixels import luma

# Optical flow is sought in images whose longer side is at most this: a flow of 256 pixels takes
# four times as long and finds the same.
_FLOW_SIDE = 128
# Attachment lower than scikit-image's 15 asks for smoother flow, so that a tear is no motion; one
# warp of ten steps finds as much as five of ten, in a fifth of the time.
_FLOW_SETTINGS = {"attachment": 5, "num_iter": 10, "num_warp": 1}
# The head with its hair as an ellipse over the landmarks: semi-axes in widths and heights of their
# bounding box, and how far its centre lies above the box's.
_HEAD_AXES, _HEAD_LIFT = (0.85, 1.15), 0.25
_LEAST_BACKGROUND = 0.02


def landmark_smoothness(landmarks: np.ndarray) -> np.ndarray:
    """Return how abruptly landmarks change their motion, in % of the eyes' distance: (T,).

    The mean length of the landmarks' second difference, |p(t+1) - 2 p(t) + p(t-1)|; 0 is still or
    steady motion, and best. Unlike pixels, eye distances allow comparing faces of different size.
    Called SMS for a landmark smoothness that Zhao, Wu and Guo 2021 ("Sparse to dense motion
    transfer for face image animation", arXiv 2109.00471) report. Their definition could not be
    read, so this one is ours: don't set it beside that paper's figures.

    Parameters
    ----------
    landmarks : (T, 68, 2) float
        In pixels, NaN in frames without a face.

    Returns
    -------
    (T,) float64
        At frame t, of the frames t-1 to t+1; NaN at both ends and beside frames without a face.
    """
    return _difference(landmarks, order=2)


def jerk(landmarks: np.ndarray) -> np.ndarray:
    """Return the jerk of landmarks, in % of the eyes' distance a frame cubed: (T,).

    The mean length of the third difference, p(t+1) - 3 p(t) + 3 p(t-1) - p(t-2); 0 is best. Of
    trembling it shows more than the second difference, of real motion less.

    Parameters
    ----------
    landmarks : (T, 68, 2) float
        In pixels, NaN in frames without a face.

    Returns
    -------
    (T,) float64
        At frame t, of the frames t-2 to t+1; NaN where one of them is missing.
    """
    return _difference(landmarks, order=3)


def flow_warping_error(before: np.ndarray, after: np.ndarray) -> float:
    """Return what motion can't explain between successive frames: 1000 x squared error; 0 is best.

    Lai et al. 2018, "Learning blind video temporal consistency", equation 8: the later frame is
    warped onto the earlier by dense optical flow, and the squared differences of RGB (0 to 1,
    summed over channels) are averaged. Here the flow is TV-L1 (Zach, Pock and Bischof 2007, by
    scikit-image), held smooth, in images scaled to 128 pixels; and no pixels are left out as
    hidden, since a tear would hide itself. Uncovered background therefore counts a little.

    Parameters
    ----------
    before, after : (H, W, 3) uint8
    """
    from scipy.ndimage import map_coordinates
    from skimage.registration import optical_flow_tvl1

    before, after = reduced(before), reduced(after)
    if np.array_equal(before, after):  # a frozen clip's frames, at no cost
        return 0.0
    grey = [image @ np.array([0.299, 0.587, 0.114], np.float32) for image in (before, after)]
    flow = optical_flow_tvl1(*grey, dtype=np.float32, **_FLOW_SETTINGS)
    places = np.indices(grey[0].shape, dtype=np.float32) + flow
    warped = [
        map_coordinates(after[..., channel], places, order=1, mode="nearest")
        for channel in range(3)
    ]
    error = (before - np.stack(warped, axis=-1)) ** 2
    return float(1000 * error.sum(axis=2).mean(dtype=np.float64))


def reduced(image: np.ndarray) -> np.ndarray:
    """Return an image as optical flow is sought in it: (h, w, 3) float32, 0 to 1."""
    height, width = image.shape[:2]
    factor = min(1.0, _FLOW_SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255


def flicker(
    before: np.ndarray, after: np.ndarray, landmarks: np.ndarray, landmarks_after: np.ndarray
) -> float:
    """Return how much the background's luma changes from a frame to the next, in steps of 255.

    The mean absolute change outside the head: beside and above an ellipse around the landmarks of
    both frames, and not below its middle, where shoulders are. 0 is best; a driving whose camera
    moves has a figure of its own. NaN where less than a fiftieth of the image is left, or a face
    is missing.

    Parameters
    ----------
    before, after : (H, W, 3) uint8
    landmarks, landmarks_after : (68, 2) float
    """
    if np.isnan(landmarks).any() or np.isnan(landmarks_after).any():
        return float("nan")
    shape = before.shape[:2]
    still = _background(landmarks, shape) & _background(landmarks_after, shape)
    if still.mean() < _LEAST_BACKGROUND:
        return float("nan")
    return float(np.abs(luma(after) - luma(before))[still].mean())


def _difference(landmarks: np.ndarray, order: int) -> np.ndarray:
    found = np.full(len(landmarks), np.nan)
    apart = eye_distance(landmarks)
    if len(landmarks) > order and not np.isnan(apart).all():
        lengths = np.linalg.norm(np.diff(landmarks, n=order, axis=0), axis=2).mean(axis=1)
        found[order - 1 : -1] = 100 * lengths / np.nanmedian(apart)
    return found


def _background(landmarks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    extent = high - low
    middle = (low + high) / 2 - np.array([0.0, _HEAD_LIFT * extent[1]])
    y, x = np.ogrid[: shape[0], : shape[1]]
    outside = ((x - middle[0]) / (_HEAD_AXES[0] * extent[0])) ** 2 + (
        (y - middle[1]) / (_HEAD_AXES[1] * extent[1])
    ) ** 2 > 1
    return outside & (y < middle[1])
