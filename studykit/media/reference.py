"""The reference frame of a driving: the one that shows its face at rest, from which motion counts.

A black, faded, blurred or faceless frame would spoil the whole clip, so none becomes it.
"""

import functools
import itertools
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image

from studykit.media.faces import find_faces
from studykit.media.following import face_of
from studykit.media.geometry import Face, chosen_face
from studykit.media.pose import eye_opening, head_pose, mouth_opening
from studykit.media.views import Driving, Reference, Source

# How far a frame is compared with what follows, in seconds: a fade or a camera that finds its
# focus takes less.
_AHEAD = 3.0
# The least contrast and sharpness, as parts of what most of these frames have at most, and the
# least contrast in grey levels. On filmed talking heads no frame was below 0.88 and 0.78 of these.
_FIT = np.array([0.8, 0.55])
_DARK = 4.0
# The side, in pixels, up to which frames are enlarged before a face is sought.
_SEEN_SIDE = 256
# How many frames "best" looks at, evenly spread.
_BEST_OF = 120
# What counts as equally far from the source: degrees of the head, and the opening of the mouth and
# of the eyes, in their units.
_FAR = np.array([10.0, 10.0, 10.0, 0.2, 0.1])


def with_reference(
    driving: Driving, rule: Reference | float, source: Source | None = None
) -> tuple[Driving, str]:
    """Find a driving's reference frame, in a stream of its frames.

    "first", or a second, is the first frame that is fit, from the start or from that second on: lit
    and sharp beside those that follow, with a face. "best" is, of 120 frames that are fit and whose
    face is sure, the one whose head pose, mouth and eyes are nearest to the source's; where no
    source with a face is given, to the median of these frames.

    Parameters
    ----------
    driving : Driving
        Its ``reference`` is the frame that is asked for.
    rule : {"first", "best"} or float
    source : Source, optional
        What the driving will animate.

    Returns
    -------
    driving : Driving
    note : str
        "" or what a reader of the results should know: where that frame is.
    """
    chosen = (rule == "best" and _nearest(driving, source)) or _first_fit(driving)
    if chosen is None:
        return driving, "no frame is lit: motion counts from the first"
    found, why = chosen
    if found == driving.reference and rule != "best":
        return driving, ""
    number = driving.number(found)
    place = f"frame {number} ({float(number / driving.frame_rate):.2f} s)"
    return replace(driving, reference=found), f"motion counts from {place}, {why}"


@functools.lru_cache(maxsize=256)
def _first_fit(driving: Driving) -> tuple[int, str] | None:
    lit = None
    for start in dict.fromkeys((driving.reference, 0)):
        for index, face, _ in _fit_frames(driving, start):
            if face is not None:
                return index, "the first that is lit, sharp and shows a face"
            lit = index if lit is None else lit
    return None if lit is None else (lit, "the first that is lit and sharp, as none shows a face")


def _nearest(driving: Driving, source: Source | None) -> tuple[int, str] | None:
    looks = _best_looks(driving)
    if not looks:
        return None
    indices, features = zip(*looks, strict=True)
    goal, why = np.median(features, axis=0), "the most typical"
    if source is not None:
        image = _enlarged(source.image)
        at = source.face and tuple(c * len(image) / len(source.image) for c in source.face)
        if face := chosen_face(find_faces(image, finder=source.finder), at):
            goal, why = _feature(face, image.shape), "the nearest to the source"
    return indices[np.linalg.norm(np.array(features) - goal, axis=1).argmin()], why


@functools.lru_cache(maxsize=64)
def _best_looks(driving: Driving) -> list[tuple[int, np.ndarray]]:
    """Return the frames that may be the best, each with what its face does."""
    step = math.ceil(driving.frame_count / _BEST_OF)
    seen = [
        (face.score, index, _feature(face, shape))
        for index, face, shape in _fit_frames(driving, 0, step, whole=True)
        if face is not None
    ]
    least = max((score for score, _, _ in seen), default=0.0) / 2
    return [(index, feature) for score, index, feature in seen if score >= least] or [
        (index, feature) for _, index, feature in seen
    ]


def _feature(face: Face, shape: tuple[int, ...]) -> np.ndarray:
    pose = head_pose(face.landmarks, shape)
    mouth, eyes = mouth_opening(face.landmarks), eye_opening(face.landmarks)
    return np.array([pose.yaw, pose.pitch, pose.roll, mouth, eyes]) / _FAR


def _fit_frames(
    driving: Driving, start: int, step: int = 1, *, whole: bool = False
) -> Iterator[tuple[int, Face | None, tuple[int, ...]]]:
    """Yield the frames that are lit and sharp: index, face and shape.

    A second stream runs ahead, so that each frame is compared with those that follow, or with all
    where these are few; none is held.
    """
    ahead = _BEST_OF if whole else math.ceil(_AHEAD * driving.frame_rate)
    looks: deque[np.ndarray] = deque()
    further = map(_look, itertools.islice(driving, start, None, step))
    for index, frame in enumerate(itertools.islice(driving, start, None, step)):
        looks.extend(itertools.islice(further, ahead - len(looks)))
        if not index or not whole:
            typical = np.quantile(looks, 0.8, axis=0)
        look = looks.popleft()
        if look[0] < _DARK or (look < _FIT * typical).any():
            continue
        number = start + index * step
        if driving.points is None:
            frame = _enlarged(frame)
            face = next(iter(find_faces(frame, finder=driving.finder)), None)
        else:
            marks = driving.points[number, :68]
            face = None if np.isnan(marks).any() else face_of(marks)
        yield number, face, frame.shape


def _enlarged(frame: np.ndarray) -> np.ndarray:
    """Return a square as large as a detector needs it."""
    if len(frame) >= _SEEN_SIDE:
        return frame
    return np.asarray(Image.fromarray(frame).resize((_SEEN_SIDE, _SEEN_SIDE)))


def _look(frame: np.ndarray) -> np.ndarray:
    """Return a frame's contrast, in grey levels, and its sharpness, whatever the contrast is."""
    grey = np.asarray(Image.fromarray(frame).convert("L"), np.float32)
    edges = sum(np.abs(np.diff(grey, 2, axis=axis)).mean() for axis in (0, 1))
    contrast = grey.std()
    return np.array([contrast, edges / max(contrast, 1.0)])
