"""How near a clip of a rendered face comes to the frames that the renderer made of it.

The benchmark and the trainer both score with :func:`clip_scores`: the frames as a method returns
them, before any encoding. Each frame is searched for its face by itself, so that what is found owes
nothing to the truth or to the frames before.
"""

from collections.abc import Sequence

import numpy as np

from studykit.media.faces import Finder
from studykit.metrics.motion import eye_distance, keypoint_distance
from studykit.metrics.pixels import Comparison, mean_absolute_error, peak_signal_noise_ratio

MOUTH: tuple[slice, ...] = (slice(48, 68),)
EYES: tuple[slice, ...] = (slice(36, 42), slice(42, 48))
INNER = slice(17, 68)
"""Brows, nose, eyes and mouth: a detector's jaw follows the outline, the renderer's the skin."""

_REGIONS = {"mouth": MOUTH, "blink": EYES}  # of the motions that are theirs


def clip_scores(
    clip: np.ndarray,
    truth: np.ndarray,
    *,
    face: np.ndarray,
    landmarks: np.ndarray,
    found: np.ndarray,
    motions: Sequence[str],
) -> list[dict[str, float]]:
    """Score every frame of a clip but the first, which is the source at rest.

    Parameters
    ----------
    clip, truth : (T, S, S, 3) uint8
    face : (T, S, S) bool
        The face in the true frames.
    landmarks, found : (T, 68, 2) float
        Those of the true frames, and those that are found in the clip's (:func:`find_landmarks`).
    motions : sequence of T - 1 str
        What each frame shows.

    Returns
    -------
    list of dict
        A frame each: ``psnr``, in the face; ``l1``, the mean absolute error of the image, 0 to
        255; ``landmarks``, as :func:`landmark_distance`; and ``region``, the error around the
        mouth or the eyes where the motion is "mouth" or "blink".
    """
    eyes = float(eye_distance(landmarks[0]))
    rows = []
    for frame, motion in enumerate(motions, start=1):
        pair = Comparison(clip[frame], truth[frame])
        row = {
            "psnr": peak_signal_noise_ratio(pair, [face[frame]])[0],
            "l1": mean_absolute_error(pair)[0],
            "landmarks": landmark_distance(found[frame], landmarks[frame], eyes),
        }
        if motion in _REGIONS:
            where = around(landmarks[[0, frame]], _REGIONS[motion], len(clip[frame]))
            row["region"] = mean_absolute_error(pair, [where])[0]
        rows.append(row)
    return rows


def find_landmarks(images: Sequence[np.ndarray], finder: Finder = "dlib") -> np.ndarray:
    """Find the landmarks of the likeliest face in each image: (T, 68, 2), NaN where none is seen.

    Parameters
    ----------
    images : sequence of (H, W, 3) uint8
    finder : {"auto", "mediapipe", "dlib"}
    """
    from studykit.media.faces import find_faces

    seen = [find_faces(image, finder=finder) for image in images]
    return np.array([f[0].landmarks if f else np.full((68, 2), np.nan) for f in seen])


def landmark_distance(found: np.ndarray, truth: np.ndarray, eyes: float) -> float:
    """Return how far the :data:`INNER` landmarks lie from the truth on average, in % of ``eyes``.

    Parameters
    ----------
    found, truth : (68, 2) float
        NaN in ``found`` gives NaN.
    eyes : float
        The source's :func:`studykit.metrics.motion.eye_distance`: that of a turned frame would
        shrink as it turns.
    """
    return float(keypoint_distance(found[None, INNER], truth[None, INNER])[0] / eyes * 100)


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
