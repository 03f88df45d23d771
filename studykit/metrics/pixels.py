"""How near an animated frame comes to the frame that the renderer made of the same face.

Both the benchmark and the training's log measure with these functions, and the metrics of pixels
are made of the first two. A mask that no pixel is in gives NaN.
"""

from collections.abc import Sequence

import numpy as np

MOUTH: tuple[slice, ...] = (slice(48, 68),)
EYES: tuple[slice, ...] = (slice(36, 42), slice(42, 48))
INNER = slice(17, 68)
"""Brows, nose, eyes and mouth: a detector's jaw follows the outline, the renderer's the skin."""


def peak_signal_noise_ratio(
    image: np.ndarray, truth: np.ndarray, where: np.ndarray | None = None
) -> float:
    """Return the PSNR of all pixels, or of those in a mask, in dB; at most 108.

    Parameters
    ----------
    image, truth : (H, W, 3), 0 to 255
    where : (H, W) bool, optional
        Such as the face mask.
    """
    error = _mean((image.astype(float) - truth) ** 2, where)
    return float(10 * np.log10(255**2 / np.maximum(error, 1e-6)))


def mean_absolute_error(
    image: np.ndarray, truth: np.ndarray, where: np.ndarray | None = None
) -> float:
    """Return the mean absolute difference of all pixels, or of those in a mask: 0 to 255."""
    return _mean(abs(image.astype(float) - truth), where)


def around(landmarks: np.ndarray, parts: Sequence[slice], size: int) -> np.ndarray:
    """Return the boxes around parts of the face in all frames given.

    Parameters
    ----------
    landmarks : (T, 68, 2) float
    parts : sequence of slice
        Such as :data:`MOUTH` or :data:`EYES`.
    size : int
        Side of the image.

    Returns
    -------
    (S, S) bool
    """
    where = np.zeros((size, size), bool)
    for part in parts:
        marks = landmarks[:, part].reshape(-1, 2)
        margin = 0.15 * np.ptp(marks, axis=0).max() + size / 64
        left, top = np.maximum(np.floor(marks.min(0) - margin), 0).astype(int)
        right, bottom = np.ceil(marks.max(0) + margin).astype(int)
        where[top : bottom + 1, left : right + 1] = True
    return where


def find_landmarks(image: np.ndarray) -> np.ndarray:
    """Find the landmarks of the largest face with dlib: (68, 2), NaN where it sees none.

    Each frame is searched by itself, so that what is found owes nothing to the truth or to the
    frames before.
    """
    from studykit.media.faces import find_faces

    found = find_faces(image)
    return found[0].landmarks if found else np.full((68, 2), np.nan)


def eye_distance(landmarks: np.ndarray) -> float:
    """Return how far the eyes' outer corners are apart, in pixels."""
    return float(np.linalg.norm(landmarks[36] - landmarks[45]))


def landmark_distance(found: np.ndarray, truth: np.ndarray, eyes: float) -> float:
    """Return how far the :data:`INNER` landmarks lie from the truth on average, in % of ``eyes``.

    Parameters
    ----------
    found, truth : (68, 2) float
        NaN in ``found`` gives NaN.
    eyes : float
        :func:`eye_distance` of the source: that of a turned frame would shrink as it turns.
    """
    return float(np.linalg.norm(found[INNER] - truth[INNER], axis=-1).mean() / eyes * 100)


def _mean(errors: np.ndarray, where: np.ndarray | None) -> float:
    errors = errors.mean(axis=2)
    if where is not None:
        errors = errors[where]
    return float(errors.mean()) if errors.size else float("nan")
