"""Keypoints with a meaning, computed from a face's landmarks in place of being found by a network.

Networks that saw rendered faces alone misread filmed ones; detectors of landmarks saw people. The
weights' keypoints are means of landmarks, or places on the head, so that nothing is trained for it.
The driving's motion is taken apart into the head's and the face's, and the source's own head, as
it is turned, does the same.
"""

import numpy as np

from studykit.methods._fomm_motion import Keypoints
from studykit.methods._warp_geometry import (
    Head,
    Motion,
    fit_head,
    moved_head,
    moved_landmarks,
)

KEYPOINTS: dict[str, tuple[int, ...]] = {
    "nose tip": (30,),
    "nose bridge": (27,),
    "chin": (8,),
    "jaw left": (2,),
    "jaw right": (14,),
    "mouth left": (48,),
    "mouth right": (54,),
    "upper lip": (62,),
    "lower lip": (66,),
    "left eye outer": (36,),
    "left eye inner": (39,),
    "right eye inner": (42,),
    "right eye outer": (45,),
    "left upper lid": (37, 38),
    "right upper lid": (43, 44),
    "left lower lid": (40, 41),
    "right lower lid": (46, 47),
    "left brow": (19,),
    "right brow": (24,),
    "left iris": (),
    "right iris": (),
    "crown": (),
    "neck": (),
}
"""The keypoints of weights that are trained on rendered faces: the mean of these landmarks, or a
place on the head where none are."""

# Irises lie between the eyes' corners. The others' places are in millimetres of the generic head
# from its pivot, x to the right, y down, z towards the viewer: least squares over 600 rendered
# frames of 120 identities, within 7 mm.
_CORNERS = {"left iris": [36, 39], "right iris": [42, 45]}
_ON_HEAD = {
    "crown": (0.0, -132.0, -25.5),
    "neck": (0.0, 104.0, 25.0),
}
# What neither lips nor lids move: the jaw's ends, the nose, the eyes' corners. One affine motion is
# fitted to it, drawn to no change by this part of its variance.
_RIGID, _RIDGE = [0, 1, 2, 14, 15, 16, *range(27, 36), 36, 39, 42, 45], 0.05


def have_meaning(settings: dict) -> bool:
    """Say whether weights with these settings move by :data:`KEYPOINTS`."""
    count = settings.get("common_params", {}).get("num_kp")
    return settings.get("trained_on") == "rendered faces" and count == len(KEYPOINTS)


class MarkedSource:
    """A source whose keypoints follow from its landmarks.

    Parameters
    ----------
    landmarks : (68, 2) float64
        In pixels.
    size : int
        Side of the image.

    Attributes
    ----------
    head : Head
    rest : Keypoints
        Their jacobians are the identity: only the change from them to moved ones counts.
    """

    def __init__(self, landmarks: np.ndarray, size: int) -> None:
        self.head, self._size = fit_head(landmarks), size
        self.rest = self._keypoints(self.head, landmarks)

    def moved(self, motion: Motion) -> Keypoints:
        """Return the keypoints after a motion. The neck rests."""
        return self._keypoints(moved_head(self.head, motion), moved_landmarks(self.head, motion))

    def _keypoints(self, head: Head, landmarks: np.ndarray) -> Keypoints:
        linear, still = _affine(self.head.landmarks, landmarks), np.eye(2)
        points, jacobians = [], []
        for name, marks in KEYPOINTS.items():
            own = self.head if name == "neck" else head
            if name in _ON_HEAD:
                points.append(own.scale * own.rotation[:2] @ _ON_HEAD[name] + own.offset)
            else:
                points.append(landmarks[_CORNERS.get(name) or list(marks)].mean(axis=0))
            jacobians.append(still if name == "neck" else linear)
        places = scaled(np.array(points), self._size)
        return Keypoints(places.astype(np.float32), np.array(jacobians, np.float32))


def _affine(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Fit one (2, 2) map to what is rigid among (68, 2) landmarks."""
    here, there = (p[_RIGID] - p[_RIGID].mean(axis=0) for p in (before, after))
    ridge = _RIDGE * np.trace(here.T @ here) / 2 * np.eye(2)
    return np.linalg.solve(here.T @ here + ridge, here.T @ there + ridge).T


def scaled(pixels: np.ndarray, size: int) -> np.ndarray:
    """Give pixels as coordinates from -1 to 1 of the grid of half the image's side.

    There, where these weights move things, sample i lies at pixel 2 i + 1/2.
    """
    return (pixels - 0.5) / (size // 2 - 1) - 1
