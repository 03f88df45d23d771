"""How the motion of a driving becomes motion of a source: the First Order Motion Model's algebra.

A handful of numbers a frame, so it is done in NumPy, whatever the networks run on.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from studykit.errors import StudyError


@dataclass(frozen=True)
class Keypoints:
    """Where the keypoints of an image are, and how the image is deformed near them.

    Attributes
    ----------
    points : (K, 2) float32 array
        x and y from -1 to 1, from the centre of the first pixel to that of the last one.
    jacobians : (K, 2, 2) float32 array, optional
        Those of the map from an abstract reference frame to the image.
    """

    points: np.ndarray
    jacobians: np.ndarray | None = None

    def as_row(self) -> np.ndarray:
        """Return all numbers in one array, (K, 6), or (K, 2) without jacobians."""
        if self.jacobians is None:
            return self.points
        return np.concatenate([self.points, self.jacobians.reshape(-1, 4)], axis=1)

    @classmethod
    def from_row(cls, row: np.ndarray) -> "Keypoints":
        """Return the keypoints that :meth:`as_row` made one array of."""
        jacobians = row[:, 2:].reshape(-1, 2, 2) if row.shape[1] > 2 else None
        return cls(row[:, :2], jacobians)


@dataclass(frozen=True)
class Encoded:
    """What an engine has computed of a source, laid out as that engine likes it.

    Attributes
    ----------
    features : array or tensor
        The generator's encoding.
    image : array or tensor
        In [0, 1], channels first.
    keypoints : Keypoints
    """

    features: Any
    image: Any
    keypoints: Keypoints


def movement_scale(source: Keypoints, initial: Keypoints) -> float:
    """Return how large the source's face is, beside that of the driving's reference frame.

    The square root of the areas of the convex hulls of the keypoints, (K, 2) or (1, K, 2).

    Raises
    ------
    StudyError
        The keypoints of either span no area.
    """
    return float(np.sqrt(_hull_area(source) / _hull_area(initial)))


def transfer(
    source: Keypoints, driving: Keypoints, initial: Keypoints, scale: float = 1.0
) -> Keypoints:
    """Return the keypoints that the source gets from a driving frame by relative motion.

    ``p = p_S + s (p_D - p_1)`` and ``J = J_D J_1^-1 J_S`` (section 3.4 of the paper), where ``1``
    is the driving's reference frame. Arrays may have a frame axis in front, where it is the
    driving's.

    Raises
    ------
    StudyError
        A jacobian of the reference frame has no inverse.
    """
    points = source.points + np.float32(scale) * (driving.points - initial.points)
    if driving.jacobians is None:
        return Keypoints(points)
    jacobians = driving.jacobians @ _inverse(initial.jacobians) @ source.jacobians
    return Keypoints(points, jacobians.astype(np.float32))


def local_motions(source: Keypoints, moved: Keypoints) -> np.ndarray:
    """Return the motion near every keypoint as an affine map from the frame to the source.

    ``T_k(z) = p_S + J_S J^-1 (z - p)`` (equation 4) is ``A z + b`` with ``A = J_S J^-1`` and
    ``b = p_S - A p``.

    Returns
    -------
    (K + 1, 2, 3) float32 array
        ``[A b]`` of the background, which is the identity, and of each keypoint.
    """
    linear = np.broadcast_to(np.eye(2), (len(moved.points), 2, 2))
    if moved.jacobians is not None:
        linear = source.jacobians @ _inverse(moved.jacobians)
    offset = source.points[:, :, None] - linear @ moved.points[:, :, None]
    local = np.concatenate([linear, offset], axis=2)
    return np.concatenate([np.eye(2, 3)[None], local]).astype(np.float32)


def _hull_area(keypoints: Keypoints) -> float:
    from scipy.spatial import ConvexHull, QhullError

    try:
        return ConvexHull(
            keypoints.points.reshape(-1, 2)
        ).volume  # which is the area, in two dimensions
    except QhullError:
        raise StudyError(
            "fomm: the keypoints of the source or of the reference frame span no area, so "
            "there is no scale to adapt: set adapt_scale to false, or use trained weights"
        ) from None


def _inverse(jacobians: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.inv(jacobians.astype(np.float64))
    except np.linalg.LinAlgError:
        raise StudyError(
            "fomm: a keypoint's jacobian has no inverse, so its motion is lost: use trained weights"
        ) from None
