"""A face that was found in an image, and the square around it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]  # x and y in pixels
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels


@dataclass(frozen=True)
class Face:
    """A face found in an image.

    Attributes
    ----------
    box : tuple of float
        Left, top, right, bottom, in pixels; parts of it may lie outside the image.
    score : float
        How sure it is that this is a face, 0 to 1.
    landmarks : (68, 2) float64 or None
        Points in the iBUG order, in pixels; None where they were not asked for.
    mesh : (478, 3) float64 or None
        MediaPipe's points: 468 of the skin, then 5 of each iris, that at the image's left first,
        its centre before its rim. x and y in pixels, z towards the back of the head in the same
        unit; the irises have the z of their eye's corners. None where dlib has found the face.
    """

    box: Box
    score: float
    landmarks: np.ndarray | None = None
    mesh: np.ndarray | None = None

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the box, in pixels."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2

    @property
    def side(self) -> float:
        """The side of the square that is as large as the box, in pixels."""
        left, top, right, bottom = self.box
        return float(np.sqrt((right - left) * (bottom - top)))


def best_first(faces: Iterable[Face], image_shape: tuple[int, ...]) -> list[Face]:
    """Order the faces of an image by how likely each is meant: sure, large and central ones first.

    The score times the side, less a third at the image's corners. Neither alone does: detectors of
    fixed sizes give ties, and a passer-by may be as sure as the one who is filmed.
    """
    height, width = image_shape[:2]

    def weight(face: Face) -> float:
        x, y = face.centre
        away = np.hypot(2 * x / width - 1, 2 * y / height - 1) / np.sqrt(2)
        return face.score * face.side * (1 - away / 3)

    return sorted(faces, key=weight, reverse=True)


def left_to_right(faces: Iterable[Face]) -> list[Face]:
    """Return faces in the order of their numbers, which people are shown and name."""
    return sorted(faces, key=lambda face: face.centre)


def chosen_face(faces: list[Face], which: int | tuple[float, float] | None) -> Face | None:
    """Return one of the faces found in an image, None where there is no such one.

    Parameters
    ----------
    faces : list of Face
        As :func:`studykit.media.faces.find_faces` returns them.
    which : int or (float, float), optional
        Its number from left to right, from 1 on; a point in its box, in pixels; or None for the
        first.
    """
    if which is None:
        return next(iter(faces), None)
    if isinstance(which, int):
        ordered = left_to_right(faces)
        return ordered[which - 1] if which <= len(ordered) else None
    x, y = which
    hit = (f for f in faces if f.box[0] <= x <= f.box[2] and f.box[1] <= y <= f.box[3])
    return next(hit, None)


def smoothstep(t: np.ndarray | float) -> np.ndarray | float:
    """0 up to 0, 1 from 1 on, and smooth between."""
    t = np.clip(t, 0.0, 1.0)
    return t * t * (3 - 2 * t)


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared)


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


def face_crop(
    face: Face, image_shape: tuple[int, ...], *, scale: float = 2.0, whole: bool = True
) -> Crop:
    """Return the square around a face that an animation works on.

    Its side is ``scale`` times the larger side of the landmarks' bounding box (of the box, where
    there are no landmarks), at most the image's shorter side; it is centred a little above the
    face, so that forehead and hair are in, and shifted to stay inside the image: nothing is
    squashed or padded. In whole pixels, so that a crop at its own size is exact, or, for one that
    moves, not.
    """
    height, width = image_shape[:2]
    if face.landmarks is None:
        low, high = np.array(face.box[:2]), np.array(face.box[2:])
    else:
        low, high = face.landmarks.min(axis=0), face.landmarks.max(axis=0)
    extent = float((high - low).max())
    side = max(1, min(scale * extent, height, width))
    side = round(side) if whole else side
    # The landmarks begin at the brows: hair reaches two fifths of their height above them.
    centre = (low + high) / 2 + 0.5 - np.array([0.0, 0.18 * extent])
    corner = np.rint(centre - side / 2) if whole else centre - side / 2
    left, top = np.clip(corner, 0, [width - side, height - side]).tolist()
    return Crop(int(left), int(top), side) if whole else Crop(left, top, side)


def continued(image: np.ndarray, box: Box) -> np.ndarray:
    """Return an image in which what lies beyond a picture goes on from it, blurrier with distance.

    Pixels repeated as they are would draw hair that a picture cuts off out into streaks.

    Parameters
    ----------
    image : (H, W, 3) uint8
    box : (float, float, float, float)
        Left, top, right, bottom of the picture in it.
    """
    from scipy.ndimage import gaussian_filter1d

    image = image.copy()
    left, top, right, bottom = np.rint(box).astype(int).tolist()
    for lines, first, last in ((image.transpose(1, 0, 2), left, right), (image, top, bottom)):
        for index in (*range(first), *range(last, len(lines))):
            edge = first if index < first else last - 1
            spread = _SPREAD * abs(index - edge)
            blurred = gaussian_filter1d(lines[edge].astype(np.float32), spread, 0, mode="nearest")
            lines[index] = np.rint(blurred)
    return image


# The blur's standard deviation, as a part of the distance from the picture.
_SPREAD = 0.5


def centre_crop(image_shape: tuple[int, ...]) -> Crop:
    """Return the largest square in the middle of an image."""
    height, width = image_shape[:2]
    side = min(height, width)
    return Crop((width - side) // 2, (height - side) // 2, side)
