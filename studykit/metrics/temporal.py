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
# An attachment lower than scikit-image's 15 asks for smoother flow, so that a tear is no motion;
# one warp of ten steps a scale finds as much as five of ten, in a fifth of the time.
_ATTACHMENT, _TIGHTNESS, _STEPS = 5.0, 0.3, 10
# The head with its hair as an ellipse over the landmarks: semi-axes in widths and heights of their
# bounding box, and how far its centre lies above the box's.
_HEAD_AXES, _HEAD_LIFT = (0.85, 1.15), 0.25
_LEAST_BACKGROUND = 0.02


def landmark_smoothness(landmarks: np.ndarray) -> np.ndarray:
    """Return how far landmarks lie from half way between the frames beside them, in pixels: (T,).

    SMS of Zhao, Wu and Guo 2021 ("Sparse to dense motion transfer for face image animation", arXiv
    2109.00471), equation 9: |(D(t-1) + D(t+1)) / 2 - D(t)|, the L1 norm over the coordinates, so
    the sum of 2 x 68 absolute values; 0 is still or steady motion, and best. Their landmarks come
    from a detector of their own: figures that other landmarks give can't stand beside theirs.

    Parameters
    ----------
    landmarks : (T, 68, 2) float
        In pixels of frames of 256 x 256, NaN in frames without a face.

    Returns
    -------
    (T,) float64
        At frame t, of the frames t-1 to t+1; NaN at both ends and beside frames without a face, so
        that their mean is over T - 2 frames where all show a face.
    """
    found = np.full(len(landmarks), np.nan)
    if len(landmarks) > 2:
        bends = np.diff(landmarks, n=2, axis=0) / 2
        found[1:-1] = np.abs(bends).sum(axis=(1, 2))
    return found


def acceleration(landmarks: np.ndarray) -> np.ndarray:
    """Return how abruptly landmarks change their motion, in % of the eyes' distance: (T,).

    The mean length of the landmarks' second difference, |p(t+1) - 2 p(t) + p(t-1)|; 0 is still or
    steady motion, and best. The vector is twice that of :func:`landmark_smoothness`; unlike pixels,
    eye distances allow comparing faces of different size.

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
    summed over channels) are averaged. Here the flow is TV-L1 (Zach, Pock and Bischof 2007), held
    smooth, in images scaled to 128 pixels; and no pixels are left out as hidden, since a tear
    would hide itself. Uncovered background therefore counts a little.

    Parameters
    ----------
    before, after : (H, W, 3) uint8
    """
    if np.array_equal(before, after):  # a frozen clip's frames, at no cost
        return 0.0
    return warping_error(scaled(before), scaled(after))


Scaled = tuple[np.ndarray, list[np.ndarray]]
"""An image as flow is sought in it: :func:`reduced`, and its grey at every scale."""


def scaled(image: np.ndarray) -> Scaled:
    """Return what :func:`warping_error` takes: once a frame, which has two neighbours."""
    small = reduced(image)
    return small, pyramid(small @ np.array([0.299, 0.587, 0.114], np.float32))


def warping_error(before: Scaled, after: Scaled) -> float:
    """Return :func:`flow_warping_error` of frames that differ."""
    from studykit.metrics._flow_kernels import follow

    (image, greys), (moved, moved_greys) = before, after
    flow = optical_flow(greys, moved_greys)
    # A copy lies in memory as greys do: for other layouts, loops would be compiled once more.
    warped = np.stack([follow(part.copy(), flow) for part in np.moveaxis(moved, -1, 0)], axis=-1)
    return float(1000 * 3 * ((image - warped) ** 2).mean(dtype=np.float64))


def pyramid(image: np.ndarray) -> list[np.ndarray]:
    """Return a grey image, (H, W) float32 from 0 to 1, at every scale, the finest first."""
    from skimage.transform import pyramid_reduce

    scales = [image]
    while min(scales[-1].shape) > 32:
        scales.append(pyramid_reduce(scales[-1], 2))
    return scales


def optical_flow(images: list[np.ndarray], moved_images: list[np.ndarray]) -> np.ndarray:
    """Return where what an image shows lies in another, by rows and columns: (2, H, W) float32.

    That of scikit-image's ``optical_flow_tvl1`` with the settings above and one warp a scale, in a
    twentieth of its time: the same steps, compiled, on scikit-image's own pyramid.

    Parameters
    ----------
    images, moved_images : list of array
        As :func:`pyramid` gives them.
    """
    from scipy.ndimage import zoom

    from studykit.metrics._flow_kernels import follow, relax

    flow = np.zeros((2, *images[-1].shape), np.float32)
    for image, moved in zip(reversed(images), reversed(moved_images), strict=True):
        factors = np.divide(image.shape, flow.shape[1:])
        flow = zoom(flow, (1, *factors), order=0, mode="nearest")
        flow *= factors.astype(np.float32)[:, None, None]
        warped = follow(moved, flow)
        slope = np.array(np.gradient(warped))
        rest = warped - image - (slope * flow).sum(axis=0)
        relax(flow, slope, rest, np.float32(_ATTACHMENT), np.float32(_TIGHTNESS), _STEPS)
    return flow


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
    return float(np.abs(luma(np.subtract(after, before, dtype=np.float64)[still])).mean())


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
