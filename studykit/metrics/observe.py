"""What is seen in a video, frame by frame, once for all metrics: a face, its pose, who it is."""

from dataclasses import dataclass

import numpy as np

from studykit.media.faces import FaceTracker, head_pose, identity_embedding
from studykit.metrics import temporal

# An embedding takes longer than all else that is done for a frame; identity changes slowly.
EMBED_EVERY = 6
# How a frame's row is laid out.
_LANDMARKS, _POSE, _EMBEDDING = slice(0, 136), slice(136, 139), slice(139, 267)
_FLOW, _FLICKER, ROW = 267, 268, 269


@dataclass(frozen=True)
class Observation:
    """What was seen in the T frames of a video; NaN where nothing was.

    Attributes
    ----------
    rows : (T, 269) float64
        A frame each, as an :class:`Observer` gives them; the properties name their parts.
    """

    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def fitted(self, frames: int) -> "Observation":
        """Return it cut to so many frames, or filled up with frames in which nothing is seen."""
        lacking = np.full((max(0, frames - len(self)), ROW), np.nan)
        return Observation(np.concatenate([self.rows[:frames], lacking]))

    @property
    def landmarks(self) -> np.ndarray:
        """dlib's 68 landmarks of the face that is followed, in pixels: (T, 68, 2)."""
        return self.rows[:, _LANDMARKS].reshape(-1, 68, 2)

    @property
    def poses(self) -> np.ndarray:
        """Yaw, pitch and roll in degrees: (T, 3)."""
        return self.rows[:, _POSE]

    @property
    def embeddings(self) -> np.ndarray:
        """dlib's identity embedding, of every sixth frame: (T, 128)."""
        return self.rows[:, _EMBEDDING]

    @property
    def flow_warping_error(self) -> np.ndarray:
        """Between the frame before and this one (:mod:`studykit.metrics.temporal`): (T,)."""
        return self.rows[:, _FLOW]

    @property
    def flicker(self) -> np.ndarray:
        """Between the frame before and this one: (T,)."""
        return self.rows[:, _FLICKER]

    @property
    def found(self) -> np.ndarray:
        """In which frames there is a face: (T,) bool."""
        return ~np.isnan(self.landmarks).any(axis=(1, 2))


class Observer:
    """Watches a video as its frames pass; none but the last is held.

    Parameters
    ----------
    steadiness : bool
        Whether the flow-warping error and the flicker are wanted, the dearest of all.
    """

    def __init__(self, *, steadiness: bool = True) -> None:
        self._tracker = FaceTracker()
        self._steadiness = steadiness
        self._last: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._rows: list[np.ndarray] = []

    def update(self, frame: np.ndarray) -> np.ndarray:
        """Take the next frame, (H, W, 3) uint8, and return what is seen in it: (269,) float64."""
        row = np.full(ROW, np.nan)
        face = self._tracker.update(frame)
        if face is not None:
            pose = head_pose(face.landmarks, frame.shape)
            row[_LANDMARKS] = face.landmarks.ravel()
            row[_POSE] = pose.yaw, pose.pitch, pose.roll
            if len(self._rows) % EMBED_EVERY == 0:
                row[_EMBEDDING] = identity_embedding(frame, face.landmarks)
        if self._steadiness:
            landmarks = row[_LANDMARKS].reshape(68, 2)
            now = (frame, temporal.reduced(frame), landmarks)
            if self._last is not None:
                before, small, points = self._last
                row[_FLOW] = temporal.warping_error(small, now[1])
                row[_FLICKER] = temporal.flicker(before, frame, points, landmarks)
            self._last = now
        self._rows.append(row)
        return row

    def seen(self) -> Observation:
        """Return all that was seen so far."""
        return Observation(np.array(self._rows).reshape(-1, ROW))
