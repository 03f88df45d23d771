"""Sources and drivings as methods see them: squares around a face, of one size, streamed."""

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from studykit.cache import code_hash, file_hash, kept
from studykit.errors import MediaError, NoFaceError
from studykit.media import video
from studykit.media.faces import extractor, find_faces
from studykit.media.following import face_of, is_seen, squares_around, tracked
from studykit.media.geometry import (
    Crop,
    Face,
    Point,
    centre_crop,
    chosen_face,
    continued,
    face_crop,
)
from studykit.media.reference import with_reference
from studykit.media.views import AS_IT_IS, BY_FACE, CropRule, Driving, Source, Square, View


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
        notes, point = "; ".join(filter(None, (note, where))), None
        if view.face is not None and driving.points is not None:
            marks = driving.points[driving.reference, :68]
            point = None if np.isnan(marks).any() else face_of(marks).centre
        frame, rendered = driving.reference_frame(), driving.rendered
        return Source(name, frame, view.finder, face=point, rendered=rendered), notes
    square, note, point = _found_square(path, crop, view)
    image = video.read_image(path)
    around = _around(image, square, size)
    if point is not None:
        (x, y), scale = point, size / square.side
        point = (x - square.left) * scale, (y - square.top) * scale
    rendered = truth_file(path) is not None
    return Source(name, square.apply(image, size), view.finder, around, point, path, rendered), note


def open_driving(
    path: Path, *, name: str, size: int, crop: CropRule, view: View = AS_IT_IS
) -> tuple[Driving, str]:
    """Open a driving video, seen in the square of its first face, or in one that follows it.

    Its reference is the frame that is asked for, which :func:`with_reference` looks at. Returns and
    raises as :func:`open_source`; MediaError, too, where its range holds no motion.
    """
    info, taken, seen = probed(path), frames_taken(path, view), _seen(path, crop, view)

    notes: list[str] = []

    def squares() -> Iterator[np.ndarray]:
        # To the end of the file, what lies behind the last frame is looked at too.
        stop = taken.stop if taken.stop < info.frame_count else None
        frames = video.read_frames(path, taken.start, stop, notes)
        around = itertools.cycle(seen.squares)
        return (square.apply(frame, size) for square, frame in zip(around, frames, strict=False))

    def frames() -> Iterator[np.ndarray]:
        if seen.shown is None:
            return squares()
        return video.picked(squares(), seen.shown)

    shown = f"{file_hash(path)} {seen.squares} {size} {seen.points is None}"
    if len(taken) < info.frame_count:
        shown = f"{shown} {taken}"
    if seen.shown is not None:
        shown = f"{shown} {seen.shown.tolist()}"
    asked, count = 0, len(taken)
    if not isinstance(view.reference, str):
        asked = video.frames_between(info.times, view.reference, None).start - taken.start
        if asked >= count:
            raise MediaError(
                f"{path}: the reference ({view.reference:g} s of the file) lies behind the last "
                "frame that takes part: choose an earlier one"
            )
    order = np.arange(len(taken)) if seen.shown is None else seen.shown
    driving = Driving(
        name,
        frames,
        info.frame_rate,
        len(order),
        key=hashlib.sha256(shown.encode()).hexdigest(),
        first=taken.start,
        reference=int(min(np.searchsorted(order, asked), len(order) - 1)),
        finder=view.finder,
        points=None if seen.points is None else _in_squares(seen, size)[order],
        order=seen.shown,
        whole=len(order) == len(taken),
        notes=notes,
        rendered=truth_file(path) is not None,
        path=path,
    )
    return driving, "; ".join(filter(None, (seen.note, *info.notes)))


def _in_squares(seen: "_Seen", size: int) -> np.ndarray:
    """Return where the points are in the pixels of the squares: (T, 70, 2)."""
    places = np.array([(square.left, square.top, square.side) for square in seen.squares])
    corners, sides = places[:, None, :2], places[:, None, 2:]
    return (seen.points + 0.5 - corners) * (size / sides) - 0.5


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
        taken = video.frames_between(info.times, view.start, view.end)
        if len(taken) < 2:
            last = f" to {view.end:g}" if view.end is not None else ""
            raise MediaError(
                f"{path} shows {len(taken)} frames from {view.start:g}{last} s and ends at "
                f"{info.duration:.2f} s: choose another start or end"
            )
    return taken[: view.max_frames]


def find_square(path: Path, crop: CropRule, view: View = AS_IT_IS) -> tuple[Crop, str]:
    """Return the square that an input is first seen in; raises as :func:`open_source`."""
    if is_video(path):
        seen = _seen(path, crop, view)
        return seen.squares[0], seen.note
    return _found_square(path, crop, view)[:2]


@_remembered
def _found_square(path: Path, crop: CropRule, view: View) -> tuple[Crop, str, Point | None]:
    """Return an image's square, a note, and where one is named, a point in the face."""
    image, rule = video.read_image(path), view.rule(crop)
    square = _named_square(rule, image.shape, path) if isinstance(rule, Square) else None
    if rule not in BY_FACE and not isinstance(view.face, int):
        return square or centre_crop(image.shape), "", view.face
    faces = find_faces(image, finder=view.finder)
    face = chosen_face(faces, view.face)
    if face is None:
        centred, note = _without_face(path, rule, view, len(faces), image.shape)
        return square or centred, "" if square else note, None
    if rule in BY_FACE:
        square = face_crop(face, image.shape, scale=1 + 2 * view.margin)
    point = face.centre if isinstance(view.face, int) else view.face
    return square or centre_crop(image.shape), _which(face, faces, view), point


@dataclass(frozen=True)
class _Seen:
    """How a driving is seen.

    Attributes
    ----------
    squares : tuple of Crop
        One for all frames, or one a frame.
    points : (T, 70, 2) float64 or None
        Where its face is in the file's frames that take part, where a face was sought.
    shown : (N,) int or None
        Which of these frames are shown, in which order; None is all, as they come.
    """

    squares: tuple[Crop, ...]
    note: str = ""
    points: np.ndarray | None = None
    shown: np.ndarray | None = None


def moves(path: Path, crop: CropRule, view: View) -> bool:
    """Say whether a driving is not seen as its file shows it, in one square and every frame."""
    seen = _seen(path, crop, view)
    return len(seen.squares) > 1 or seen.shown is not None


def squares_of(path: Path, crop: CropRule, view: View = AS_IT_IS) -> tuple[Crop, ...]:
    """Return the squares of a driving's frames that take part: one for all, or one a frame."""
    return _seen(path, crop, view).squares


@_remembered
def _seen(path: Path, crop: CropRule, view: View) -> _Seen:
    info, rule = probed(path), view.rule(crop)
    shape = (info.height, info.width)
    if isinstance(rule, Square):
        return _Seen((_named_square(rule, shape, path),))
    if rule == "centre":
        return _Seen((centre_crop(shape),))
    points, note = _tracked(path, rule, view)
    if points is None:
        return _Seen((centre_crop(shape),), note)
    rate = float(info.frame_rate)
    squares = squares_around(points, shape, rate, scale=1 + 2 * view.margin)
    notes = [note, "the square follows the face through the picture" * (len(squares) > 1)]
    lost, shown = ~is_seen(points), None
    if lost.any():
        done = {"interpolate": "interpolated", "hold": "held", "cut": "left out"}[view.faceless]
        first = f"first at {(frames_taken(path, view).start + lost.argmax()) / rate:.2f} s"
        notes.append(f"no face in {lost.sum()} of {len(points)} frames, {first}: {done}")
        if view.faceless == "hold":
            shown = np.maximum.accumulate(np.where(lost, lost.argmin(), np.arange(len(points))))
        elif view.faceless == "cut":
            shown = np.flatnonzero(~lost)
    return _Seen(tuple(squares), "; ".join(filter(None, notes)), points, shown)


def _tracked(path: Path, rule: CropRule, view: View) -> tuple[np.ndarray | None, str]:
    """Find the face of a driving in every frame, from its first second on; and a note."""
    info, taken = probed(path), frames_taken(path, view)
    first_second = int(info.frame_rate) + 1

    def frames() -> Iterator[np.ndarray]:
        return video.read_frames(path, taken.start, taken.stop)

    most = 0
    for image in itertools.islice(frames(), first_second):
        faces = find_faces(image, finder=view.finder)
        most = max(most, len(faces))
        if (face := chosen_face(faces, view.face)) is not None:
            break
    else:
        where = "in the first second of"
        return None, _without_face(path, rule, view, most, image.shape, where)[1]
    sought = f"{extractor(view.finder)} {view.face} {code_hash('studykit.media.following')}"
    key = hashlib.sha256(f"{file_hash(path)} {taken}".encode()).hexdigest()
    raw = Driving(path.name, frames, info.frame_rate, len(taken), key)
    rows = kept(raw, sought, lambda: tracked(frames(), finder=view.finder, which=view.face))
    return np.array(list(rows)), _which(face, faces, view)


def _which(face: Face, faces: list[Face], view: View) -> str:
    """Say which of several faces was taken, where nobody has said it."""
    if len(faces) < 2 or view.face is not None:
        return ""
    x, y = face.centre
    number = 1 + sum(each.centre < (x, y) for each in faces)
    return f"{len(faces)} faces: number {number} from the left taken, at {x:.0f}, {y:.0f}"


def _without_face(
    path: Path, rule: CropRule, view: View, count: int, shape: tuple[int, ...], where: str = "in"
) -> tuple[Crop, str]:
    """Return the centred square and a note, or raise what is wrong."""
    if count:
        which = view.face if isinstance(view.face, int) else list(view.face)
        raise NoFaceError(
            f"{path} shows no face {which}: {count} found, numbered from left to right from 1 on"
        )
    if rule == "face":
        raise NoFaceError(
            f"no face found {where} {path}: choose another file, "
            'or allow the centred square with crop "face-or-centre"'
        )
    return centre_crop(shape), f"no face in {path.name}: centred square taken"


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


probed = _remembered(video.probe)
"""As :func:`studykit.media.video.probe`."""


def _around(image: np.ndarray, square: Crop, size: int) -> np.ndarray:
    """Return a square with a quarter of its side around it: see :class:`Source`."""
    edge = size // 4
    reach = square.side * edge / size
    left, top, side = square.left - reach, square.top - reach, square.side + 2 * reach
    rows, columns = (
        np.arange(np.floor(start), np.ceil(start + side)).astype(int).clip(0, end - 1)
        for start, end in zip((top, left), image.shape, strict=False)
    )
    part = image[rows[:, None], columns]
    seen = Crop(left - np.floor(left), top - np.floor(top), side).apply(part, size + 2 * edge)
    low, high = np.array([-left, -top]), np.array(image.shape[1::-1]) - [left, top]
    box = np.clip(np.concatenate([low, high]) * (size / square.side), 0, size + 2 * edge)
    return continued(seen, (*box.tolist(),))


def truth_file(path: Path) -> Path | None:
    """Return the file that ``write_stimuli`` put beside a rendered input, where there is one."""
    for folder in path.absolute().parents[:3]:
        truth = folder / "truth" / f"{path.stem}.npz"
        if truth.is_file():
            return truth
    return None


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
