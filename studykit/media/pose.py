"""What landmarks say of a face: how its head is turned, how far its eyes and mouth are open.

The head is a generic one in 3-D that is fitted to the landmarks.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np


@dataclass(frozen=True)
class Pose:
    """How a head is turned, in degrees.

    Attributes
    ----------
    yaw : float
        Positive when the nose points to the image's right side.
    pitch : float
        Positive when the nose points up.
    roll : float
        Positive when the head tilts clockwise as the viewer sees it.
    """

    yaw: float
    pitch: float
    roll: float

    def rotation(self) -> np.ndarray:
        """Return the (3, 3) rotation, in image axes: pitched first, then turned, then rolled.

        x runs to the right, y down and z towards the viewer; a head at rest looks along +z.
        """
        yaw, pitch, roll = np.deg2rad([self.yaw, self.pitch, self.roll])
        cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
        cr, sr = np.cos(roll), np.sin(roll)
        about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        return about_z @ about_y @ about_x

    @staticmethod
    def from_rotation(rotation: np.ndarray) -> "Pose":
        """Return the pose of a (3, 3) rotation: the inverse of :meth:`rotation`."""
        yaw = np.arcsin(np.clip(-rotation[2, 0], -1, 1))
        pitch = np.arctan2(rotation[2, 1], rotation[2, 2])
        roll = np.arctan2(rotation[1, 0], rotation[0, 0])
        return Pose(*np.rad2deg([yaw, pitch, roll]).tolist())


# A generic adult head's landmarks, in millimetres: x to the image's right, y down, z towards the
# viewer, from a point between the eyes. Laid out by hand to round adult proportions (eyes 90 wide
# and 33 apart, nose 50, mouth 52, bridge to chin 120): an approximation, no measured mean. The
# left half of the image and the midline; the other half is its mirror image.
_LEFT_HALF = {
    0: (-70, 1, -62), 1: (-70, 20, -58), 2: (-67, 41, -51), 3: (-63, 61, -41), 4: (-55, 80, -28),
    5: (-44, 95, -12), 6: (-31, 106, 2), 7: (-16, 113, 12), 8: (0, 116, 16),
    17: (-56, -12, -2), 18: (-48, -19, 10), 19: (-38, -22, 18), 20: (-25, -21, 22),
    21: (-13, -17, 25),
    27: (0, -3, 20), 28: (0, 10, 27), 29: (0, 23, 36), 30: (0, 36, 46),
    31: (-15, 45, 25), 32: (-8, 48, 31), 33: (0, 50, 34),
    36: (-45, 0, 0), 37: (-36, -6, 7), 38: (-25, -6, 9), 39: (-16.5, 2, 7), 40: (-25, 5, 8),
    41: (-36, 5, 6),
    48: (-26, 75, 15), 49: (-15, 68, 25), 50: (-6, 65, 31), 51: (0, 66.5, 32),
    57: (0, 84, 29), 58: (-7, 83.5, 28), 59: (-16, 80, 23),
    60: (-22, 73.5, 17), 61: (-8, 71.5, 27), 62: (0, 72, 29), 66: (0, 74, 28), 67: (-8, 74, 27),
}  # fmt: skip
_MIRRORED = {
    **{index: 16 - index for index in range(8)},
    **{17: 26, 18: 25, 19: 24, 20: 23, 21: 22, 31: 35, 32: 34},
    **{36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46},
    **{48: 54, 49: 53, 50: 52, 58: 56, 59: 55, 60: 64, 61: 63, 67: 65},
}  # fmt: skip
# Points that keep their place on the skull, and how much each weighs.
RIGID_POINTS = [27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 39, 42, 45, 48, 54]
_RIGID_WEIGHTS = np.array([1.0] * 13 + [0.5] * 2)
_FOCAL_SIDES = 4.0
_EYE = np.eye(3)
_GAUSS_NEWTON_STEPS = 4
# The pose's own: 15 do as a rule, 40 of a face seen from nearby and badly. They end where one turns
# the head by less than a thousandth of a degree. Beyond an error of a twentieth of the points'
# spread, a point counts less.
_POSE_STEPS, _POSE_STEP, _SOFT_ERROR = 50, 1e-5, 0.05


@cache
def face_model() -> np.ndarray:
    """Return the generic 3-D face: (68, 3) float64 landmarks in millimetres, read-only."""
    model = np.zeros((68, 3))
    for index, (x, y, z) in _LEFT_HALF.items():
        model[index] = x, y, z
        model[_MIRRORED.get(index, index)] = -x, y, z
    model.flags.writeable = False
    return model


def head_pose(landmarks: np.ndarray, image_shape: tuple[int, ...]) -> Pose:
    """Estimate how the head is turned, from the generic 3-D face model.

    A perspective-n-point problem, solved by Gauss and Newton's method, reweighted for a soft-L1
    loss of the reprojection error, from the scaled-orthographic solution of DeMenthon and Davis
    (1995, "Model-based object pose in 25 lines of code"). The points are those that keep their
    place on the skull: the nose, the eyes' corners and, with less weight, the mouth's corners. The
    camera is taken to look through the image's centre with a focal length of four image sides, as
    for a portrait; twice or half of it changes the pose by about a degree.

    Parameters
    ----------
    landmarks : (68, 2) float
        In pixels.
    image_shape : tuple of int
        Height and width of the image first.
    """
    model = face_model()[RIGID_POINTS]
    height, width = image_shape[:2]
    focal = _FOCAL_SIDES * max(height, width)
    points = np.asarray(landmarks, dtype=np.float64)[RIGID_POINTS]
    points = points - np.array([(width - 1) / 2, (height - 1) / 2])

    rotation, scale, offset = fit_scaled_orthographic(model, points)
    distance, shift = focal / scale, offset / scale  # in millimetres
    weights = _RIGID_WEIGHTS / np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean())
    slopes = np.zeros((6, 2, len(points)))
    slopes[4, 0] = slopes[5, 1] = focal
    for _ in range(_POSE_STEPS):
        x, y, z = turned = rotation @ model.T
        depth = distance - z
        u, v = seen = (turned[:2] + shift[:, None]) * (focal / depth)
        error = (seen - points.T) * weights
        trust = (1 + (error / _SOFT_ERROR) ** 2) ** -0.25
        slopes[0] = u * y, v * y - focal * z
        slopes[1] = focal * z - u * x, -v * x
        slopes[2] = -focal * y, focal * x
        slopes[3] = -distance * seen
        jacobian = (slopes * (trust * weights / depth)).reshape(6, -1)
        normal, pull = jacobian @ jacobian.T, jacobian @ (error * trust).ravel()
        step = np.linalg.lstsq(normal, -pull, rcond=None)[0]
        rotation = _rotation_of(step[:3]) @ rotation
        distance *= np.exp(step[3])
        shift = shift + step[4:]
        if np.abs(step[:4]).max() < _POSE_STEP:
            break
    return Pose.from_rotation(rotation)


def fit_scaled_orthographic(
    model: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray]:
    """Fit ``points = scale * (model @ rotation.T)[:, :2] + offset`` by least squares.

    Parameters
    ----------
    model : (N, 3) float
        Points of a rigid body, z towards the viewer.
    points : (N, 2) float
        Where they are seen.

    Returns
    -------
    rotation : (3, 3) float64
    scale : float
    offset : (2,) float64
    """
    middle, centre = model.mean(axis=0), points.mean(axis=0)
    affine = np.linalg.lstsq(model - middle, points - centre, rcond=None)[0].T
    # The nearest pair of orthogonal rows of one length, completed by their cross product.
    left, values, right = np.linalg.svd(affine, full_matrices=False)
    rows = left @ right
    rotation, scale = np.vstack([rows, np.cross(rows[0], rows[1])]), float(values.mean())
    # That start fits the affine map and not the points: Gauss-Newton steps finish it. The best
    # offset always lays centre on centre, so rotation and scale are what is left to find.
    for _ in range(_GAUSS_NEWTON_STEPS):
        turned = (model - middle) @ rotation.T
        x, y, z = turned.T
        error = (points - centre - scale * turned[:, :2]).ravel()
        zero = np.zeros_like(x)
        slopes = [(zero, -scale * z), (scale * z, zero), (-scale * y, scale * x), (x, y)]
        jacobian = np.stack([np.stack(slope, axis=1).ravel() for slope in slopes], axis=1)
        step = np.linalg.lstsq(jacobian, error, rcond=None)[0]
        rotation = _rotation_of(step[:3]) @ rotation
        scale += float(step[3])
    return rotation, scale, centre - scale * rotation[:2] @ middle


def _rotation_of(vector: np.ndarray) -> np.ndarray:
    """Rodrigues' formula: the (3, 3) rotation about a vector by its length in radians."""
    x, y, z = vector
    angle = math.sqrt(x * x + y * y + z * z)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    part = math.sin(angle) / angle if angle else 1.0
    half = math.sin(angle / 2) / (angle / 2) if angle else 1.0
    return _EYE + part * cross + 0.5 * half * half * cross @ cross


_EYES = ((36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47))
INNER_LIPS = ((61, 67), (62, 66), (63, 65))
_INNER_CORNERS = (60, 64)


def eye_opening(landmarks: np.ndarray) -> np.ndarray:
    """Return how far the eyes are open: the eye aspect ratio, mean of both eyes.

    Soukupova and Cech 2016, "Real-time eye blink detection using facial landmarks", equation 1:
    the lids' two distances over twice the distance of the eye's corners. Some 0.3 is open; dlib
    sees a shut eye at 0.1 to 0.2.

    Parameters
    ----------
    landmarks : (..., 68, 2) float

    Returns
    -------
    (...) float64
    """
    ratios = []
    for outer, top_1, top_2, inner, low_2, low_1 in _EYES:
        lids = _distance(landmarks, top_1, low_1) + _distance(landmarks, top_2, low_2)
        ratios.append(lids / (2 * _distance(landmarks, outer, inner)))
    return (ratios[0] + ratios[1]) / 2


def mouth_opening(landmarks: np.ndarray) -> np.ndarray:
    """Return how far the mouth is open: the inner lips' mean distance over the mouth's width.

    0 is shut, 1 as high as wide; the width is that between the inner corners.

    Parameters
    ----------
    landmarks : (..., 68, 2) float

    Returns
    -------
    (...) float64
    """
    gaps = [_distance(landmarks, upper, lower) for upper, lower in INNER_LIPS]
    return sum(gaps) / len(gaps) / _distance(landmarks, *_INNER_CORNERS)


def _distance(landmarks: np.ndarray, one: int, two: int) -> np.ndarray:
    return np.linalg.norm(landmarks[..., one, :] - landmarks[..., two, :], axis=-1)
