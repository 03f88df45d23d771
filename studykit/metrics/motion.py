"""Whether a face moves as it should: landmarks, head pose, eyes and mouth.

Of landmarks in the iBUG order, (T, 68, 2) in pixels, NaN in frames without a face. Figures of each
frame come as (T,) arrays, NaN where one of the two faces is missing; a clip's figure is their mean.
"""

from dataclasses import astuple

import numpy as np

from studykit.media.pose import Pose

_OUTER_EYE_CORNERS = (36, 45)


def faces_seen(landmarks: np.ndarray) -> np.ndarray:
    """Say in which frames there is a face: (T,) bool, of (T, 68, 2)."""
    return ~np.isnan(landmarks).any(axis=(1, 2))


def keypoint_distance(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return each frame's mean distance of landmarks from the true ones, in pixels: (T,).

    Its mean over frames is the average keypoint distance, AKD, of Siarohin et al. 2019 ("Animating
    Arbitrary Objects via Deep Motion Transfer"); 0 is best. Distances are Euclidean, as the paper
    says; its authors' published evaluation code averages the absolute differences of x and of y
    instead, which gives between a half and 0.71 of that.

    Parameters
    ----------
    points, truth : (T, K, 2) float
        K of the landmarks.
    """
    return np.linalg.norm(_same(points, truth), axis=2).mean(axis=1)


def eye_distance(landmarks: np.ndarray) -> np.ndarray:
    """Return how far the eyes' outer corners are apart, in pixels.

    Parameters
    ----------
    landmarks : (..., 68, 2) float

    Returns
    -------
    (...) float
    """
    outer, other = _OUTER_EYE_CORNERS
    return np.linalg.norm(landmarks[..., outer, :] - landmarks[..., other, :], axis=-1)


def missing_keypoint_rate(points: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of true keypoints that are missing, 0 to 100 %; lower is better.

    MKR of Siarohin et al. 2019: of the keypoints found in the true frames, how many are not found
    in the clip's. An extractor finds 68 landmarks or none, so this counts faces. NaN where no true
    frame shows a face.

    Parameters
    ----------
    points, truth : (T, 68, 2) float
    """
    _same(points, truth)
    expected, seen = (faces_seen(each) for each in (truth, points))
    return float(100 * (expected & ~seen).sum() / expected.sum()) if expected.any() else np.nan


def landmark_motion_error(points: np.ndarray, driving: np.ndarray, since: int = 0) -> np.ndarray:
    """Return how far landmarks moved unlike the driving's, in % of the face size: (T,).

    For clips without a true frame. A landmark's way since the reference frame, in face sizes, is
    compared with the driving's; the face size is the longer side of the landmarks' bounding box in
    that frame. 0 is best. Heads of another shape or another turn
    move a little differently in the image even when all is right.

    Parameters
    ----------
    points, driving : (T, 68, 2) float
    since : int
        The reference frame. Where it does not show both faces, the nearest that does counts.
    """
    return keypoint_distance(*landmark_ways(points, driving, since))


def landmark_ways(
    points: np.ndarray, driving: np.ndarray, since: int | None = None
) -> tuple[np.ndarray, ...]:
    """Return what :func:`landmark_motion_error` compares: both ways, in % of the face sizes."""
    _same(points, driving)
    start = _common(points, driving, since or 0)
    if start is None:
        return np.full_like(points, np.nan), driving
    return tuple(100 * (p - p[start]) / np.ptp(p[start], axis=0).max() for p in (points, driving))


def head_pose_error(
    poses: np.ndarray, truth: np.ndarray, *, since: int | None = None
) -> np.ndarray:
    """Return the angle between two heads' orientations, in degrees, 0 to 180: (T,).

    The geodesic distance of rotations: the angle of the one rotation that leads from one head to
    the other (Huynh 2009, "Metrics for 3D rotations", equation 23). 0 is best.

    Parameters
    ----------
    poses, truth : (T, 3) float
        Yaw, pitch and roll in degrees, NaN where they are unknown.
    since : int, optional
        Compare the rotations, about the axes of the image, since this frame, or the nearest that
        has both: what relative motion transfers.
    """
    return rotation_angle(*head_rotations(poses, truth, since))


def head_rotations(
    poses: np.ndarray, truth: np.ndarray, since: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return what :func:`head_pose_error` compares: both heads' rotations, (T, 3, 3)."""
    _same(poses, truth)
    start = _common(poses, truth, since)
    return _rotations(poses, start), _rotations(truth, start)


def rotation_angle(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return the angle between rotations, in degrees, 0 to 180: (T,) of twice (T, 3, 3)."""
    # Of small angles the sine shows more than the cosine.
    sine = np.linalg.norm(one - two, axis=(1, 2)) / (2 * np.sqrt(2))
    return np.rad2deg(2 * np.arcsin(np.minimum(1.0, sine)))


def change_error(values: np.ndarray, truth: np.ndarray, *, since: int | None = None) -> np.ndarray:
    """Return the absolute difference of two signals, or of their changes since a frame.

    Such as the opening of the eyes or that of the mouth, in their own unit. 0 is best.

    Parameters
    ----------
    values, truth : (T,) float
        NaN where they are unknown.
    since : int, optional
        Compare the changes since this frame, or the nearest that has both: what relative motion
        transfers.

    Returns
    -------
    (T,) float64
    """
    return np.abs(_same(*changes(values, truth, since)))


def changes(
    values: np.ndarray, truth: np.ndarray, since: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return what :func:`change_error` compares: both signals, or their changes."""
    start = _common(values, truth, since)
    return (values, truth) if start is None else (values - values[start], truth - truth[start])


def angle_errors(poses: np.ndarray, truth: np.ndarray, *, since: int | None = None) -> np.ndarray:
    """Return how far yaw, pitch and roll lie from the true ones, in degrees, 0 to 180: (T, 3).

    0 is best.

    Parameters
    ----------
    poses, truth : (T, 3) float
        Yaw, pitch and roll in degrees, NaN where they are unknown.
    since : int, optional
        Compare the angles of the rotations, about the axes of the image, since this frame, or the
        nearest that has both: what relative motion transfers. Changes of the angles themselves
        would not do: in them, a head that looks aside and nods has rolled.
    """
    difference = _same(poses, truth)
    if (start := _common(poses, truth, since)) is not None:
        difference = _turned(poses, start) - _turned(truth, start)
    return np.abs((difference + 180) % 360 - 180)


def _rotations(poses: np.ndarray, start: int | None) -> np.ndarray:
    """Return a head's rotations, since the frame ``start`` where one is given: (T, 3, 3)."""
    base = np.eye(3) if start is None else Pose(*poses[start].tolist()).rotation().T
    found = np.full((len(poses), 3, 3), np.nan)
    for frame in np.flatnonzero(~np.isnan(poses).any(axis=1)):
        found[frame] = Pose(*poses[frame].tolist()).rotation() @ base
    return found


def _turned(poses: np.ndarray, start: int) -> np.ndarray:
    """Return the angles of the rotations since a frame: (T, 3) degrees."""
    found = np.full(poses.shape, np.nan)
    rotations = _rotations(poses, start)
    for frame in np.flatnonzero(~np.isnan(poses).any(axis=1)):
        found[frame] = astuple(Pose.from_rotation(rotations[frame]))
    return found


def _same(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return the difference of two arrays of one shape."""
    if one.shape != two.shape:
        raise ValueError(f"frame is compared with frame, not {one.shape} with {two.shape}")
    return one - two


def _both(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return which frames are known in both: (T,) bool."""
    return ~np.isnan(one - two).reshape(len(one), -1).any(axis=1)


def _common(one: np.ndarray, two: np.ndarray, since: int | None) -> int | None:
    """Return the frame that is known in both and nearest to one; None where none is, or None is."""
    both = np.flatnonzero(_both(one, two))
    return int(both[np.abs(both - since).argmin()]) if len(both) and since is not None else None
