"""Sources and drivings as methods see them: squares around a face, of one size, streamed."""

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from studykit import files
from studykit.errors import MediaError, NoFaceError
from studykit.media import video
from studykit.media.faces import Crop, Face, centre_crop, face_crop, find_faces
from studykit.media.reference import with_reference

CropRule = Literal["face", "face-or-centre", "centre"]
Reference = Literal["first", "best"]


@dataclass(frozen=True)
class Square:
    """A square that is named by hand: its centre's x and y, and its side, in pixels."""

    centre: tuple[float, float]
    side: float


@dataclass(frozen=True)
class View:
    """What of an input's file takes part in a study, and how it is seen.

    Attributes
    ----------
    face : int or (float, float), optional
        Which face the square is around: its number from left to right, from 1 on, or a point in
        it, in pixels of the upright picture; None is the one that is most likely meant.
    crop : {"face", "face-or-centre", "centre"} or Square, optional
        The rule of this input, or the square itself; None is the study's rule.
    margin : float
        What the square shows on each side of the face, in face sizes.
    start, end : float
        Of a driving: its frames from ``start`` on and before ``end``, in seconds of the file.
    max_frames : int, optional
        Of a driving: no more frames than these, from ``start`` on.
    reference : {"first", "best"} or float
        Of a driving: the frame from which its motion counts, as
        :func:`studykit.media.reference.with_reference` finds it, or its second in the file.
    """

    face: int | tuple[float, float] | None = None
    crop: CropRule | Square | None = None
    margin: float = 0.5
    start: float = 0.0
    end: float | None = None
    max_frames: int | None = None
    reference: Reference | float = "first"

    def given(self) -> dict[str, Any]:
        """Return what is not the default, by the key of a study file."""
        return {
            key.name: asdict(value) if isinstance(value, Square) else value
            for key in fields(self)
            if (value := getattr(self, key.name)) != key.default
        }

    def rule(self, study_rule: CropRule) -> CropRule | Square:
        """Return how the square is found where the study's rule is this."""
        if self.crop is not None:
            return self.crop
        named = self.face is not None or self.margin != View.margin
        return "face" if named and study_rule == "centre" else study_rule


AS_IT_IS = View()


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
    first : int
        Which frame of the file the first one is.
    reference : int
        Which of the frames motion counts from.
    notes : list of str
        Gets, when frames have been read to the end, what was done to them, such as deinterlacing.
    """

    name: str
    open_frames: Callable[[], Iterable[np.ndarray]] = field(compare=False)
    frame_rate: Fraction
    frame_count: int
    key: str = ""
    first: int = 0
    reference: int = 0
    notes: list[str] = field(default_factory=list, compare=False)

    def reference_frame(self) -> np.ndarray:
        """Return the frame that motion counts from: (S, S, 3) uint8."""
        return next(itertools.islice(self, self.reference, None))

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


def open_source(
    path: Path, *, name: str, size: int, crop: CropRule, view: View = AS_IT_IS
) -> tuple[Source, str]:
    """Read, crop and scale a source image, whose square is found once.

    Of a video, the source is the reference frame that :func:`open_driving` gives: for animating it
    with that very video, the same-identity protocol.

    Returns
    -------
    source : Source
    note : str
        "" or what a reader of the results should know: that the centred square was taken.

    Raises
    ------
    MediaError
        The image can't be read, or its square lies outside.
    NoFaceError
        There is no such face, and the square is to be around one.
    """
    if is_video(path):
        driving, note = open_driving(path, name=name, size=size, crop=crop, view=view)
        driving, where = with_reference(driving, view.reference)
        return Source(name, driving.reference_frame()), "; ".join(filter(None, (note, where)))
    square, note = find_square(path, crop, view)
    return Source(name, square.apply(video.read_image(path), size)), note


def open_driving(
    path: Path, *, name: str, size: int, crop: CropRule, view: View = AS_IT_IS
) -> tuple[Driving, str]:
    """Open a driving video, whose square is found once, on the first frames that show a face.

    Its reference is the frame that is asked for, which :func:`with_reference` looks at. Returns and
    raises as :func:`open_source`; MediaError, too, where its range holds no motion.
    """
    info = probed(path)
    square, note = _driving_square(path, crop, view)
    taken = frames_taken(path, view)

    notes: list[str] = []

    def frames() -> Iterator[np.ndarray]:
        # To the end of the file, what lies behind the last frame is looked at too.
        stop = taken.stop if taken.stop < info.frame_count else None
        for frame in video.read_frames(path, taken.start, stop, notes):
            yield square.apply(frame, size)

    shown = f"{files.sha256(path)} {square} {size}"
    if len(taken) < info.frame_count:
        shown = f"{shown} {taken}"
    key = hashlib.sha256(shown.encode()).hexdigest()
    asked, rate, count = 0, info.frame_rate, len(taken)
    if not isinstance(view.reference, str):
        asked = video.frames_between(path, view.reference, None).start - taken.start
        if asked >= count:
            raise MediaError(
                f"{path}: the reference ({view.reference:g} s of the file) lies behind the last "
                "frame that takes part: choose an earlier one"
            )
    opened = Driving(name, frames, rate, count, key, taken.start, asked, notes)
    return opened, "; ".join(filter(None, (note, *info.notes)))


@_remembered
def frames_taken(path: Path, view: View = AS_IT_IS) -> range:
    """Return which frames of a driving's file take part.

    Raises
    ------
    MediaError
        The file can't be read, or fewer than two frames lie in the range.
    """
    info = probed(path)
    if not view.start and view.end is None:
        taken = range(info.frame_count)
    else:
        taken = video.frames_between(path, view.start, view.end)
        if len(taken) < 2:
            last = f" to {view.end:g}" if view.end is not None else ""
            raise MediaError(
                f"{path} shows {len(taken)} frames from {view.start:g}{last} s and ends at "
                f"{info.duration:.2f} s: choose another start or end"
            )
    return taken[: view.max_frames]


@_remembered
def find_square(path: Path, crop: CropRule, view: View = AS_IT_IS) -> tuple[Crop, str]:
    """Return the square that an input is seen in, and a note; raises as :func:`open_source`."""
    if is_video(path):
        return _driving_square(path, crop, view)
    return _square([video.read_image(path)], path, crop, view)


@_remembered
def _driving_square(path: Path, crop: CropRule, view: View) -> tuple[Crop, str]:
    first_second = frames_taken(path, view)[: int(probed(path).frame_rate) + 1]
    images = video.read_frames(path, first_second.start, first_second.stop)
    return _square(images, path, crop, view, "in the first second of")


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


def _square(
    images: Iterable[np.ndarray], path: Path, crop: CropRule, view: View, where: str = "in"
) -> tuple[Crop, str]:
    rule, seen = view.rule(crop), 0
    for image in images:
        if isinstance(rule, Square):
            return _named_square(rule, image.shape, path), ""
        if rule == "centre":
            return centre_crop(image.shape), ""
        faces = find_faces(image)
        seen = max(seen, len(faces))
        if (face := chosen_face(faces, view.face)) is not None:
            return face_crop(face, image.shape, scale=1 + 2 * view.margin), ""
    if seen:
        which = view.face if isinstance(view.face, int) else list(view.face)
        raise NoFaceError(
            f"{path} shows no face {which}: {seen} found, numbered from left to right from 1 on"
        )
    if rule == "face":
        raise NoFaceError(
            f"no face found {where} {path}: choose another file, "
            'or allow the centred square with crop "face-or-centre"'
        )
    return centre_crop(image.shape), f"no face in {path.name}: centred square taken"


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
        ordered = sorted(faces, key=lambda face: face.box[0] + face.box[2])
        return ordered[which - 1] if which <= len(ordered) else None
    x, y = which
    hit = (f for f in faces if f.box[0] <= x <= f.box[2] and f.box[1] <= y <= f.box[3])
    return next(hit, None)


def _named_square(square: Square, shape: tuple[int, ...], path: Path) -> Crop:
    height, width = shape[:2]
    (x, y), side = square.centre, square.side
    crop = Crop(x - side / 2, y - side / 2, side)
    if min(crop.left, crop.top) < 0 or crop.left + side > width or crop.top + side > height:
        raise MediaError(
            f"the crop of {side:g} pixels around {x:g}, {y:g} leaves the {width} x {height} "
            f"pixels of {path}: move it, or make it smaller"
        )
    return crop
