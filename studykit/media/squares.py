"""Sources and drivings as methods see them: squares around a face, of one size, streamed."""

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from studykit import files
from studykit.errors import MediaError, NoFaceError
from studykit.media import video
from studykit.media.faces import Finder, find_faces
from studykit.media.geometry import Crop, centre_crop, face_crop

CropRule = Literal["face", "face-or-centre", "centre"]


@dataclass(frozen=True)
class Source:
    """The still image that is animated.

    Attributes
    ----------
    name : str
        Its name in the study, such as ``frontal-anna``.
    image : (S, S, 3) uint8
        The RGB image, cropped and scaled to the study's size S.
    finder : {"auto", "mediapipe", "dlib"}
        What finds faces in it.
    """

    name: str
    image: np.ndarray
    finder: Finder = "auto"


@dataclass(frozen=True)
class Driving:
    """The video whose motion is taken; iterating over it decodes it again, frame by frame.

    Attributes
    ----------
    name : str
        Its name in the study, such as ``side-turning``.
    open_frames : callable
        Gives a fresh iterator over (S, S, 3) uint8 RGB frames, cropped and scaled like the source.
    frame_rate : Fraction
        Frames a second.
    frame_count : int
        How many frames there are.
    key : str
        A hash of what the frames are made of, under which a method may keep what it finds in them
        (:func:`studykit.cache.kept`); "" where nothing is to be kept.
    finder : {"auto", "mediapipe", "dlib"}
        What finds faces in its frames.
    """

    name: str
    open_frames: Callable[[], Iterable[np.ndarray]]
    frame_rate: Fraction
    frame_count: int
    key: str = ""
    finder: Finder = "auto"

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.open_frames())


def _remembered(find: Callable[..., Any]) -> Callable[..., Any]:
    """Keep what is found in a file, by its path, for as long as its time of change stays."""

    @functools.lru_cache(maxsize=256)
    def found(path: Path, changed: int, *rest: Any) -> Any:
        return find(path, *rest)

    @functools.wraps(find)
    def current(path: Path, *rest: Any) -> Any:
        return found(path, path.stat().st_mtime_ns if path.is_file() else 0, *rest)

    return current


def open_source(path: Path, *, name: str, size: int, crop: CropRule) -> tuple[Source, str]:
    """Read, crop and scale a source image, whose square is found once.

    Of a video, the source is the first square that :func:`open_driving` gives: for animating it
    with that very video, the same-identity protocol.

    Returns
    -------
    source : Source
    note : str
        "" or what a reader of the results should know: that the centred square was taken.

    Raises
    ------
    MediaError
        The image can't be read.
    NoFaceError
        There is no face, and ``crop`` is "face".
    """
    square, note = find_square(path, crop)
    image = next(video.read_frames(path)) if is_video(path) else video.read_image(path)
    return Source(name, square.apply(image, size)), note


def open_driving(path: Path, *, name: str, size: int, crop: CropRule) -> tuple[Driving, str]:
    """Open a driving video, whose square is found once, on the first frames that show a face.

    Returns and raises as :func:`open_source`.
    """
    info = probed(path)
    square, note = _driving_square(path, crop)

    def frames() -> Iterator[np.ndarray]:
        for frame in video.read_frames(path):
            yield square.apply(frame, size)

    shown = f"{files.sha256(path)} {square} {size}"
    key = hashlib.sha256(shown.encode()).hexdigest()
    return Driving(name, frames, info.frame_rate, info.frame_count, key), note


@_remembered
def find_square(path: Path, crop: CropRule) -> tuple[Crop, str]:
    """Return the square that an input is seen in, and a note; raises as :func:`open_source`."""
    if is_video(path):
        return _driving_square(path, crop)
    return _square([video.read_image(path)], path, crop)


@_remembered
def _driving_square(path: Path, crop: CropRule) -> tuple[Crop, str]:
    first_second = int(probed(path).frame_rate) + 1
    return _square(itertools.islice(video.read_frames(path), first_second), path, crop)


@_remembered
def is_video(path: Path) -> bool:
    """Say whether a file is a video, an animated GIF among them, and not an image."""
    try:
        with Image.open(path) as image:
            return image.format == "GIF" and image.is_animated
    except UnidentifiedImageError:
        pass  # no image: a video, or neither
    except Exception:
        return False  # a damaged image: reading it will say so
    try:
        probed(path)
    except MediaError:
        return False
    return True


@_remembered
def probed(path: Path) -> video.VideoInfo:
    """Return :func:`studykit.media.video.probe` of a file."""
    return video.probe(path)


def _square(images: Iterable[np.ndarray], path: Path, crop: CropRule) -> tuple[Crop, str]:
    for image in images:
        if crop == "centre":
            return centre_crop(image.shape), ""
        if faces := find_faces(image):
            return face_crop(faces[0], image.shape), ""
    if crop == "face":
        raise NoFaceError(
            f"no face found in {path}: choose another file, "
            'or allow the centred square with crop "face-or-centre"'
        )
    return centre_crop(image.shape), f"no face in {path.name}: centred square taken"
