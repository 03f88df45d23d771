"""Whether a face is as lively as the driving's, and speaks and rests with the sound.

The five metrics of THEval that need landmarks and sound alone (Quignon et al., CVPR 2026, arXiv
2511.04520), as its public code defines them, of 68 landmarks where that has MediaPipe's 468. None
compares frame with frame: each sums up a video, and a clip's figure is how near its sum is to the
driving's (:func:`closeness`).

Landmarks are in the iBUG order, (T, 68, 2) in pixels of frames scaled to 256 x 256, NaN in frames
without a face, which are left out.
"""

from itertools import combinations

import numpy as np

from studykit.metrics.motion import eye_distance, faces_seen

_BROWS_AND_EYES = ((slice(17, 22), slice(36, 42)), (slice(22, 27), slice(42, 48)))
_LIPS = np.array([*combinations(range(48, 68), 2)]).T
_UPPER_LIP, _LOWER_LIP = (61, 62, 63), (67, 66, 65)
LEAST_SPEECH = 0.1
"""Of the frames: with less there is no figure of lip sync."""


def closeness(value: float, driving: float) -> float:
    """Return how near a figure is to the driving's: 1 - |value - driving| / |driving|.

    1 is best; 0 is as far as nothing or twice as much, and there is less below. NaN where the
    driving's is 0 or one of them is unknown.
    """
    return 1 - abs(value - driving) / abs(driving) if driving else np.nan


def lip_dynamics(landmarks: np.ndarray) -> float:
    """Return how much the lips change their shape, in pixels.

    The standard deviation over time of the distance of two lip points, mean over all 190 pairs.
    """
    one, two = (landmarks[faces_seen(landmarks)][:, each] for each in _LIPS)
    return float(np.linalg.norm(one - two, axis=2).std(axis=0).mean()) if len(one) > 1 else np.nan


def eyebrow_dynamics(landmarks: np.ndarray) -> float:
    """Return how much the brows move, in distances of the eyes a frame.

    The distance of a brow's mean point from its eye's, over that of the eyes' mean points: the
    mean absolute change from frame to frame, of both sides.
    """
    middles = [[landmarks[:, each].mean(axis=1) for each in side] for side in _BROWS_AND_EYES]
    (brow, eye), (other_brow, other_eye) = middles
    heights = np.stack([brow - eye, other_brow - other_eye])
    ratios = np.linalg.norm(heights, axis=2) / np.linalg.norm(eye - other_eye, axis=1)
    return _mean(np.abs(np.diff(ratios)))


def head_motion_dynamics(landmarks: np.ndarray, pose: np.ndarray) -> float:
    """Return how much the head moves: degrees and pixels in one figure, as THEval has it.

    The root of the mean standard deviation of pitch, yaw and roll times the mean variance of their
    changes from frame to frame, plus the mean variance of the landmarks' mean point's x and y.

    Parameters
    ----------
    landmarks : (T, 68, 2) float
    pose : (T, 3) float
        In degrees.
    """
    seen = faces_seen(landmarks)
    changes = np.diff(pose, axis=0)
    changes = changes[~np.isnan(changes).any(axis=1)]
    if not len(changes):
        return np.nan
    turning = pose[seen].std(axis=0).mean() * changes.var(axis=0).mean()
    return float(np.sqrt(turning + landmarks[seen].mean(axis=1).var(axis=0).mean()))


def silent_lip_stability(landmarks: np.ndarray, voice: np.ndarray) -> float:
    """Return how much the lips move where nobody speaks, in distances of the eyes.

    The median, over these frames, of how far the lips' mean vertical distance is from its mean.

    Parameters
    ----------
    landmarks : (T, 68, 2) float
    voice : (T,) float
        0 in frames without speech.
    """
    gaps = _lip_gap(landmarks[faces_seen(landmarks) & (voice == 0)])
    return float(np.median(np.abs(gaps - gaps.mean()))) if len(gaps) > 1 else np.nan


def lip_sync(landmarks: np.ndarray, voice: np.ndarray, loudness: np.ndarray) -> float:
    """Return how far the mouth's opening is from the sound's loudness, 0 to 1, where one speaks.

    The mean absolute difference of the two, both scaled to 0 to 1 over the frames with speech. NaN
    where fewer than a tenth of the frames have any. A mouth that never moves is at 0.

    Parameters
    ----------
    landmarks : (T, 68, 2) float
    voice : (T,) float
        1 in frames with speech.
    loudness : (T,) float
    """
    speaks = voice == 1
    taken = faces_seen(landmarks) & speaks
    if taken.sum() < 2 or speaks.mean() < LEAST_SPEECH:
        return np.nan
    return _mean(np.abs(_scaled(_lip_gap(landmarks[taken])) - _scaled(loudness[taken])))


def _lip_gap(landmarks: np.ndarray) -> np.ndarray:
    """Return the inner lips' mean vertical distance, in distances of the eyes' corners: (T,)."""
    gaps = landmarks[:, _LOWER_LIP, 1] - landmarks[:, _UPPER_LIP, 1]
    return np.abs(gaps).mean(axis=1) / eye_distance(landmarks)


def _scaled(signal: np.ndarray) -> np.ndarray:
    return (signal - signal.min()) / (np.ptp(signal) or 1.0)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan
