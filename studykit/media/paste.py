"""Animated squares pasted back into the whole picture that they were cut from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from studykit.media import geometry, video
from studykit.media.faces import find_faces
from studykit.media.geometry import Crop, Face, chosen_face, face_crop, left_to_right
from studykit.media.squares import find_square
from studykit.media.views import BY_FACE, CropRule, Square, View

# Level 5.2 of H.264 is what players decode.
_MOST_PIXELS = 4096 * 2304
# Where the weight of a square begins to fall, of the way from its middle to its border.
_FADES_FROM = 0.85
# How wide the change from one face's surroundings to another's is, in face sizes.
_BETWEEN = 0.4
# What a square shows around a face whose surroundings move with it, so that all is at rest at its
# border; and its side in pixels: less shows no eyelids, more costs time alone.
_ROOMY, _LEAST_SIDE, _LARGEST_SIDE = 1.0, 128, 1024
_GAINS = (0.8, 1.25)


@dataclass(frozen=True)
class Spot:
    """A face in a picture, or a square of it.

    Attributes
    ----------
    place : str
        Where it is, in pixels of the file, to be read.
    view : View
        Its square, and a point in its face, in the same.
    crop : Crop
        The square in whole pixels of the picture that is shown.
    centre, extent : (float, float), float
        The middle and the size of the face, or of the square, in its pixels.
    size : int
        Side of the square that the method works on.
    """

    place: str
    view: View
    crop: Crop
    centre: tuple[float, float]
    extent: float
    size: int


@dataclass(frozen=True)
class Whole:
    """A picture whose faces are animated.

    Attributes
    ----------
    picture : (H, W, 3) uint8
        RGB, made smaller where players would not decode its pixels.
    spots : list of Spot
        All its faces, from left to right, or the one square that is not around a face.
    asked : list of Spot
        Those that are to move; the others are kept from moving along.
    notes : list of str
        What a reader of the clip should know.
    """

    picture: np.ndarray
    spots: list[Spot]
    asked: list[Spot]
    notes: list[str]


def look_at_whole(
    path: Path, crop: CropRule, view: View, *, every: bool, size: int | None, roomy: bool
) -> Whole:
    """Find what of a picture is to be animated.

    Parameters
    ----------
    crop : {"face", "face-or-centre", "centre"}
        How a square is found, where ``view`` does not say it.
    every : bool
        Whether each face is animated, or the one that ``view`` means.
    size : int, optional
        Side of the squares that the method works on; None is what they have in the picture.
    roomy : bool
        Whether squares reach further around a face than a margin of its own says, so that all is at
        rest at their border.

    Raises
    ------
    MediaError
        The picture can't be read, or its square lies outside.
    NoFaceError
        There is no such face.
    """
    image = video.read_image(path)
    faces = find_faces(image, finder=view.finder) if view.rule(crop) in BY_FACE else []
    meant = chosen_face(faces, view.face)
    square, note = (None, "") if every and faces else find_square(path, crop, view)
    margin = _ROOMY if roomy and view.margin == View.margin else view.margin
    height, width = image.shape[:2]
    scale = min(1.0, math.sqrt(_MOST_PIXELS / (height * width)))
    picture, notes = image, [note]
    if scale < 1:
        small = int(width * scale), int(height * scale)
        picture = np.asarray(Image.fromarray(image).resize(small, Image.Resampling.LANCZOS))
        notes.append(f"the picture of {width} x {height} pixels is shown at {scale:.0%}")

    def spot(face: Face | None) -> Spot:
        around = square if face is None else face_crop(face, image.shape, scale=1 + 2 * margin)
        side = min(round(scale * around.side), *picture.shape[:2])
        left = min(round(scale * around.left), picture.shape[1] - side)
        top = min(round(scale * around.top), picture.shape[0] - side)
        half = around.side / 2
        x, y = face.centre if face else (around.left + half, around.top + half)
        inside = side / scale * (1 - 1e-9 * (scale < 1))  # whatever the quotients are rounded to
        across, down = width / picture.shape[1], height / picture.shape[0]
        there = Square((across * (left + side / 2), down * (top + side / 2)), inside)
        return Spot(
            f"({x:.0f}, {y:.0f})",
            View(face=face and (x, y), crop=there, finder=view.finder),
            Crop(left, top, side),
            (x * scale, y * scale),
            scale * (face or around).side,
            size or min(max(side, _LEAST_SIDE), _LARGEST_SIDE),
        )

    spots = {id(face): spot(face) for face in left_to_right(faces)}
    asked = list(spots.values()) if every and faces else [spots.get(id(meant)) or spot(None)]
    return Whole(picture, list(spots.values()) or asked, asked, notes)


class Pasting:
    """Pastes the frames of some of a picture's spots into it, feathered and colour-matched.

    Parameters
    ----------
    whole : Whole
    moving : sequence of Spot
        Of which there are frames.
    """

    def __init__(self, whole: Whole, moving: Sequence[Spot]) -> None:
        self._picture, self._moving = whole.picture, moving
        self._weights = [_weight(spot, whole) for spot in moving]
        self._colours: list[Sequence[np.ndarray]] = []

    def __call__(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Return the picture, (H, W, 3) uint8, with one (S, S, 3) uint8 frame a moving spot."""
        shown = self._picture.copy()
        for index, frame in enumerate(frames):
            part, weight = _part(self._moving[index].crop), self._weights[index]
            image = Image.fromarray(frame).resize(weight.shape[:2], Image.Resampling.LANCZOS)
            patch, still = np.asarray(image, np.float32), self._picture[part].astype(np.float32)
            if index == len(self._colours):  # of the first frame: later ones shall not flicker
                self._colours.append(_matched(patch, still, weight))
            gain, shift = self._colours[index]
            change = weight * (np.clip(patch * gain + shift, 0, 255) - still)
            shown[part] = np.rint(shown[part] + change).clip(0, 255).astype(np.uint8)
        return shown


def _part(crop: Crop) -> tuple[slice, slice]:
    return slice(crop.top, crop.top + crop.side), slice(crop.left, crop.left + crop.side)


def _weight(spot: Spot, whole: Whole) -> np.ndarray:
    """Return how much of a spot's frame is seen at each pixel of its square: (S, S, 1) float32.

    It falls to nothing towards the square's border, but not towards the picture's own, and goes
    over to other faces half-way to them, so that none is seen double. All weights of a pixel sum to
    at most 1.
    """
    crop, (height, width) = spot.crop, whole.picture.shape[:2]
    rows, columns = (np.arange(each.start, each.stop) for each in _part(crop))
    y = _away(rows + 0.5, crop.top, crop.side, height)
    x = _away(columns + 0.5, crop.left, crop.side, width)
    away = (x**4 + y[:, None] ** 4) ** 0.25  # a square with round corners
    weight = geometry.smoothstep((1 - away) / (1 - _FADES_FROM))

    def radius(of: Spot) -> np.ndarray:
        (x, y) = of.centre
        return np.hypot(columns - x, (rows - y)[:, None]) / of.extent

    for other in whole.spots:
        if other is not spot:
            weight *= geometry.smoothstep((radius(other) - radius(spot)) / _BETWEEN + 0.5)
    return weight[..., None].astype(np.float32)


def _away(places: np.ndarray, start: float, side: float, end: int) -> np.ndarray:
    """Return how far from a square's middle pixels are, 1 at its border; 0 before the picture's."""
    away = (places - start) / side * 2 - 1
    low, high = -1.0 if start > 0 else 0.0, 1.0 if start + side < end else 0.0
    return np.abs(away.clip(low, high))


def _matched(patch: np.ndarray, still: np.ndarray, weight: np.ndarray) -> Sequence[np.ndarray]:
    """Return the gain and shift of each channel that give a patch the picture's colours.

    Mean and spread are made equal (Reinhard et al. 2001, "Color transfer between images", in RGB).
    """
    both, part = np.stack([patch, still]), weight / weight.sum()
    own, wanted = (both * part).sum(axis=(1, 2))
    away = both - np.stack([own, wanted])[:, None, None]
    spread = np.sqrt((away**2 * part).sum(axis=(1, 2))) + 1
    gain = np.clip(spread[1] / spread[0], *_GAINS)
    return gain, wanted - gain * own
