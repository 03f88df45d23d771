"""One face through a video: where it is in every frame, and the square that it is seen in."""

from collections.abc import Iterable, Iterator

import numpy as np

from studykit.media.faces import FaceTracker, Finder, find_faces
from studykit.media.geometry import Crop, Face, chosen_face, face_crop

POINTS = 70
"""The 68 landmarks, then the middles of the irises, that at the image's left first."""

_IRISES = [468, 473]
# The face walks where it leaves the square of its first frame in more than this part of the frames.
_STRAYS = 0.02
# How smoothly a square may follow, as the standard deviation of its mean over time in seconds: the
# first that keeps the face inside, so that as little of the head's own motion as possible is lost.
_SMOOTH = (2.0, 1.0, 0.5, 0.25, 0.12, 0.06)
# A face whose size changes by less keeps a square of one size; one that moves by more than its own
# size from frame to frame is behind a cut, where the square jumps too.
_SAME_SIZE, _JUMP = 1.3, 1.0


def tracked(
    frames: Iterable[np.ndarray],
    *,
    finder: Finder = "auto",
    which: int | tuple[float, float] | None = None,
) -> Iterator[np.ndarray]:
    """Yield where one face is in each frame: (70, 2) float64, NaN where it is not seen.

    Parameters
    ----------
    frames : iterable of (H, W, 3) uint8
    finder : {"auto", "mediapipe", "dlib"}
    which : int or (float, float), optional
        Which face, as for :func:`studykit.media.geometry.chosen_face`, in the first frame that
        shows it.
    """
    tracker, begun = FaceTracker(finder=finder), which is None
    for frame in frames:
        face = first = None
        if not begun:
            first = chosen_face(find_faces(frame, finder=finder), which)
            begun = first is not None
        if begun:
            face = tracker.update(frame, first)
        yield points_of(face)


def points_of(face: Face | None) -> np.ndarray:
    """Return a face's points, (70, 2) float64: NaN without a face, the irises' with dlib's."""
    points = np.full((POINTS, 2), np.nan)
    if face is not None:
        points[:68] = face.landmarks
        if face.mesh is not None:
            points[68:] = face.mesh[_IRISES, :2]
    return points


def is_seen(points: np.ndarray) -> np.ndarray:
    """Say in which frames there is a face: (T,) bool."""
    return ~np.isnan(points[:, 0, 0])


def interpolated(points: np.ndarray) -> np.ndarray:
    """Fill the frames without a face from those before and after, linearly: (T, N, 2)."""
    seen = np.flatnonzero(is_seen(points))
    if not len(seen):
        return points
    times = np.arange(len(points))
    columns = points.reshape(len(points), -1).T
    filled = [np.interp(times, seen, column[seen]) for column in columns]
    return np.stack(filled, axis=1).reshape(points.shape)


def squares_around(
    points: np.ndarray, image_shape: tuple[int, ...], frame_rate: float, *, scale: float
) -> list[Crop]:
    """Return the square of each frame; of one alone, where the face stays within that.

    A square stands still wherever it can, since methods shall see how the head moves. Where the
    face walks out of it, it follows, as smoothly as keeps the face inside.

    Parameters
    ----------
    points : (T, 70, 2) float
        As :func:`tracked` gives them, at least one with a face.
    image_shape : tuple of int
        Height and width of the frames first.
    frame_rate : float
    scale : float
        As for :func:`studykit.media.geometry.face_crop`.
    """
    seen = is_seen(points)
    low, high = (bound(points[:, :68], axis=1) for bound in (np.min, np.max))
    still = face_crop(face_of(points[seen][0]), image_shape, scale=scale)
    if _strays([still] * len(points), low, high)[seen].mean() <= _STRAYS:
        return [still]
    whole = interpolated(points)[:, :68]
    low_all, high_all = whole.min(axis=1), whole.max(axis=1)
    extents = (high_all - low_all).max(axis=1)
    jumps = np.linalg.norm(np.diff((low_all + high_all) / 2, axis=0), axis=1) > _JUMP * extents[1:]
    shots = np.split(np.arange(len(points)), np.flatnonzero(jumps) + 1)
    middles = np.column_stack([low_all + high_all, np.log(extents)])
    for seconds in _SMOOTH:
        squares = []
        for shot in shots:
            smooth = _smoothed(middles[shot], seconds * frame_rate)
            sizes = np.exp(smooth[:, 2])
            if np.ptp(smooth[:, 2]) < np.log(_SAME_SIZE):
                sizes[:] = np.exp(np.median(smooth[:, 2]))
            for (x, y), size in zip(smooth[:, :2] / 2, sizes, strict=True):
                box = (x - size / 2, y - size / 2, x + size / 2, y + size / 2)
                squares.append(face_crop(Face(box, 1.0), image_shape, scale=scale, whole=False))
        if _strays(squares, low, high)[seen].mean() <= _STRAYS:
            break
    return squares


def face_of(points: np.ndarray) -> Face:
    """Return the face, as if sure, whose landmarks are the first of these points: (N, 2)."""
    low, high = points[:68].min(axis=0), points[:68].max(axis=0)
    return Face((*low.tolist(), *high.tolist()), 1.0, points[:68])


def _strays(squares: list[Crop], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Say in which frames a part of the face lies outside its square: (T,) bool."""
    corners = np.array([(square.left, square.top) for square in squares])
    sides = np.array([square.side for square in squares])[:, None]
    return ((low + 0.5 < corners) | (high + 0.5 > corners + sides)).any(axis=1)


def _smoothed(values: np.ndarray, deviation: float) -> np.ndarray:
    """Average (T, N) values over time, by a Gaussian; what moves evenly goes on at both ends."""
    from scipy.ndimage import gaussian_filter1d

    reach = min(len(values) - 1, int(4 * deviation) + 1)
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="reflect", reflect_type="odd")
    return gaussian_filter1d(padded, deviation, axis=0)[reach : len(padded) - reach]
