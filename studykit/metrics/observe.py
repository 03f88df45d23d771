"""What is seen in a video, frame by frame, once for all metrics: a face, its pose, who it is."""

import numpy as np

from studykit.media.dlib_faces import identity_embedding
from studykit.media.faces import FaceTracker, Finder
from studykit.media.following import points_of
from studykit.media.pose import head_pose
from studykit.metrics import perceptual, quality, temporal
from studykit.metrics.motion import faces_seen

# An embedding takes longer than all else that is done for a frame; identity changes slowly.
EMBED_EVERY = 6

SEEN = np.dtype(
    [
        ("landmarks", float, (68, 2)),
        ("pose", float, 3),
        ("embedding", float, 128),
        ("flow_warping_error", float),
        ("flicker", float),
        ("niqe", float),
        ("size", float, 2),
        ("voice", float),
        ("loudness", float),
    ]
)
"""What is seen in a frame, NaN where nothing is: an array of T of them is what a video shows.

The landmarks of the face that is followed, in pixels; yaw, pitch and roll in degrees; dlib's
identity embedding, of every sixth frame; the figures of :mod:`studykit.metrics.temporal` between
the frame before and this one; NIQE of every sixth frame, where its parameters are installed; the
frame's width and height; and of a driving, what is heard (:func:`studykit.metrics.speech.heard`).
"""


class Observer:
    """Watches a video as its frames pass; none but the last is held.

    Parameters
    ----------
    steadiness : bool
        Whether the flow-warping error, the flicker and NIQE are wanted, which take the longest.
    finder : {"auto", "mediapipe", "dlib"}
        What finds faces.
    """

    def __init__(self, *, steadiness: bool = True, finder: Finder = "auto") -> None:
        self._tracker = FaceTracker(finder=finder)
        self._steadiness = steadiness
        self._natural = steadiness and "niqe" not in perceptual.unavailable()
        self._last: np.ndarray | None = None
        self._scaled: temporal.Scaled | None = None
        self._marks = np.full((68, 2), np.nan)
        self._person: np.ndarray | None = None
        self._seen: list[np.ndarray] = []

    def update(self, frame: np.ndarray, points: np.ndarray | None = None) -> np.ndarray:
        """Take the next frame, (H, W, 3) uint8, and return what is seen in it: () of ``SEEN``.

        Where its face is known, ``points`` are those of :func:`studykit.media.following.tracked`.
        """
        seen, last = np.full((), np.nan, SEEN), self._last
        seen["size"] = frame.shape[1::-1]
        held = last is not None and np.array_equal(frame, last)  # it then shows the same
        if not held:
            found = points_of(self._tracker.update(frame)) if points is None else points
            self._marks, self._person = found[:68], None
        if not np.isnan(self._marks).any():
            marks = seen["landmarks"] = self._marks
            pose = head_pose(marks, frame.shape)
            seen["pose"] = pose.yaw, pose.pitch, pose.roll
            if len(self._seen) % EMBED_EVERY == 0:
                if self._person is None:
                    self._person = identity_embedding(frame, marks)
                seen["embedding"] = self._person
        if self._natural and len(self._seen) % EMBED_EVERY == 0:
            seen["niqe"] = quality.natural_image_quality(frame)
        scaled = temporal.scaled(frame) if self._steadiness and not held else self._scaled
        if self._steadiness and last is not None:
            before = self._seen[-1]["landmarks"]
            error = 0.0 if held else temporal.warping_error(self._scaled, scaled)
            seen["flow_warping_error"] = error
            seen["flicker"] = temporal.flicker(last, frame, before, seen["landmarks"])
        self._last, self._scaled = frame, scaled
        self._seen.append(seen)
        return seen

    def seen(self) -> np.ndarray:
        """Return all that was seen so far: (T,) of ``SEEN``."""
        return np.array(self._seen, SEEN)


def faces_found(seen: np.ndarray) -> np.ndarray:
    """Say in which frames there is a face: (T,) bool."""
    return faces_seen(seen["landmarks"])


def at_256(seen: np.ndarray) -> np.ndarray:
    """Return the landmarks as of frames scaled to 256 x 256: (T, 68, 2)."""
    return seen["landmarks"] * (256 / seen["size"])[:, None]


def fitted(seen: np.ndarray, frames: int) -> np.ndarray:
    """Return what was seen cut to so many frames, or filled up with frames that show nothing."""
    lacking = np.full(max(0, frames - len(seen)), np.nan, SEEN)
    return np.concatenate([seen[:frames], lacking])
