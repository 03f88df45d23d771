"""Sources and drivings as methods see them: squares around a face, of one size, streamed."""

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from studykit import files
from studykit.errors import NoFaceError
from studykit.media import video
from studykit.media.faces import Crop, centre_crop, face_crop, find_faces

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
    """

    name: str
    image: np.ndarray


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
    notes : list of str
        Gets, when frames have been read to the end, what was done to them, such as deinterlacing.
    """

    name: str
    open_frames: Callable[[], Iterable[np.ndarray]]
    frame_rate: Fraction
    frame_count: int
    key: str = ""
    notes: list[str] = field(default_factory=list, compare=False)

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

    notes: list[str] = []

    def frames() -> Iterator[np.ndarray]:
        for frame in video.read_frames(path, notes=notes):
            yield square.apply(frame, size)

    shown = f"{files.sha256(path)} {square} {size}"
    key = hashlib.sha256(shown.encode()).hexdigest()
    opened = Driving(name, frames, info.frame_rate, info.frame_count, key, notes)
    return opened, "; ".join(filter(None, (note, info.note)))


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
    """Say whether a file is a video, an animated GIF among them, and not a still image."""
    return video.file_kind(path) == "video"


def check_still(path: Path) -> None:
    """Refuse a video where a still image is meant; of an animation the first frame is one.

    Raises
    ------
    MediaError
        It is a video.
    """
    if is_video(path):
        video.read_image(path)


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
