"""Every problem of a study's inputs in one go, before hours are spent on them.

Nothing is raised for what is wrong with a file: it becomes a line in the list.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from studykit.errors import MediaError, StudyError
from studykit.media.faces import find_faces
from studykit.media.geometry import Crop, centre_crop
from studykit.media.reference import with_reference
from studykit.media.squares import find_square, frames_taken, open_driving, probed, squares_of
from studykit.media.video import read_frames, read_image
from studykit.media.views import AS_IT_IS, CropRule, Square, View
from studykit.study.file import Study

Level = Literal["error", "warning", "note"]

SMALLEST_SIDE = 64
SAMPLED_FRAMES = 12
# A face's square that is enlarged by less looks as sharp as the clip made from it.
_ENLARGED = 1.5

# A cut is a jump among small steps. On real talking heads without cuts no step was at once 4
# times the median of its half second before and after and 2.4 times its neighbours; jumps within
# a shot began at 5 and 4 times, and 1.5 grey levels keep the pulse of keyframes out.
_CUT_LEVELS = 1.5
_CUT_OVER_MEDIAN = 4.0
_CUT_OVER_NEIGHBOUR = 2.5
_CUT_WINDOW = 12
_STILL = 0.1
_THUMBNAIL_SIDE = 48


@dataclass(frozen=True)
class Problem:
    """Something about an input that spoils a study, or that its author should know.

    Attributes
    ----------
    path : Path
    level : {"error", "warning", "note"}
        An error makes cells fail; a warning makes clips worse; a note says what will be done.
    text : str
        What is wrong and what to do, in one line, without the path.
    """

    path: Path
    level: Level
    text: str


def check_inputs(study: Study) -> list[Problem]:
    """Look at every source and driving of a study, in the order of its file; what is missing, too.

    Parameters
    ----------
    study : Study

    Returns
    -------
    list of Problem
        Errors of one file first.
    """
    problems = []
    for source in study.sources:
        problems += check_image(source.path, size=study.size, crop=study.crop, view=source.view)
    for driving in study.drivings:
        problems += check_video(driving.path, size=study.size, crop=study.crop, view=driving.view)
    return problems


def check_image(
    path: str | Path, *, size: int = 256, crop: CropRule = "face", view: View = AS_IT_IS
) -> list[Problem]:
    """Look at a source image: unreadable, too small, no face, several faces.

    What a run would refuse, or note of its clips, is said as it says it.

    Parameters
    ----------
    size : int
        Side of the square that the methods work on, in pixels.
    crop : {"face", "face-or-centre", "centre"}
        The study's crop rule, which decides how bad a missing face is.
    view : View
        What is said of this input.
    """
    path = Path(path)
    try:
        image = read_image(path)
    except MediaError as error:
        return [Problem(path, "error", _without_path(error, path))]
    problems = _check_size(path, image.shape, size)
    square, refusal = _square(path, crop, view, lambda: bool(find_faces(image, finder=view.finder)))
    problems += refusal
    if square is not None and _only_notes(problems):
        problems += _check_square(path, square.side, size)
    return _worst_first(problems)


def check_video(
    path: str | Path, *, size: int = 256, crop: CropRule = "face", view: View = AS_IT_IS
) -> list[Problem]:
    """Look at a driving video, frame by frame.

    Unreadable or cut short, too small, fewer than 2 frames, cuts (:func:`find_cuts`), a variable
    frame rate, and no face or several, as the run will see it, in its squares alone; and where its
    reference frame is. Only its range is looked at.

    Parameters are those of :func:`check_image`.
    """
    path = Path(path)
    try:
        info, taken = probed(path), frames_taken(path, view)
        squares = _squares(path, crop, view)
        sampled = set(np.linspace(taken[0], taken[-1], SAMPLED_FRAMES).round().astype(int))
        looks: list[_Look] = []
        steps: list[float] = []
        stop = taken.stop if taken.stop < info.frame_count else None
        notes: list[str] = []
        frames = stepped(read_frames(path, taken.start, stop, notes), steps)
        for index, frame in zip(taken, frames, strict=False):
            if index in sampled:
                shown = squares[(index - taken.start) % len(squares)].apply(frame, size)
                looks.append(_Look.at(index / float(info.frame_rate), index, shown, view))
    except MediaError as error:
        return [Problem(path, "error", _without_path(error, path))]
    problems = _check_size(path, (info.height, info.width), size)
    square, refusal = _square(path, crop, view, lambda: any(look.faces for look in looks))
    problems += refusal
    if square is not None and _only_notes(problems):
        problems += _check_square(path, square.side, size)
    if info.frame_count < 2:
        problems.append(
            Problem(path, "error", "1 frame: a driving needs at least 2, use a longer video")
        )
    if cuts := find_cuts(steps):
        number = "a cut" if len(cuts) == 1 else f"{len(cuts)} cuts, the first"
        cut = taken[cuts[0]]
        where = f"{cut / float(info.frame_rate):.2f} s (frame {cut})"
        text = f"{number} at {where}: motion is taken from one shot, trim it to that"
        problems.append(Problem(path, "warning", f"{text} with start and end"))
    if info.variable:
        rate = f"variable frame rate (mean {float(info.frame_rate):.4g} frames/s)"
        problems.append(Problem(path, "note", f"{rate}: clips keep each frame's time"))
    for text in dict.fromkeys((*info.notes, *notes)):
        problems.append(Problem(path, "note", text))
    problems += _check_faces(path, looks, view.rule(crop))
    if square is not None and view.reference != "best":
        problems += _check_reference(path, size, crop, view)
    return _worst_first(problems)


def stepped(frames: Iterable[np.ndarray], steps: list[float]) -> Iterator[np.ndarray]:
    """Give frames on, and add to ``steps`` how much each differs from the one before.

    These are the steps that :func:`find_cuts` takes.
    """
    previous = None
    for frame in frames:
        small = _thumbnail(frame)
        if previous is not None:
            steps.append(float(np.abs(small - previous).mean()))
        previous = small
        yield frame


def find_cuts(steps: Sequence[float]) -> list[int]:
    """Find the cuts of a video from how much each frame differs from the one before.

    A step is a cut if it is at least 1.5 grey levels, 4 times the median of the 12 steps before
    and after it, and 2.5 times both its neighbours. Steps below 0.1, as between the repeated
    frames of a video whose rate was doubled, count in neither. A flash is two large steps, so it
    is none; a dissolve has no large step and is not found.

    Parameters
    ----------
    steps : sequence of float
        ``steps[i]`` is the mean absolute difference, in grey levels, of frames i and i + 1.

    Returns
    -------
    list of int
        The first frame after each cut.

    Examples
    --------
    >>> find_cuts([1.0, 1.2, 0.9, 14.0, 1.1, 1.0])
    [4]
    """
    moving = [(index, step) for index, step in enumerate(steps) if step >= _STILL]
    cuts = []
    for at, (index, step) in enumerate(moving):
        near = moving[max(at - _CUT_WINDOW, 0) : at] + moving[at + 1 : at + 1 + _CUT_WINDOW]
        around = [s for i, s in near if abs(i - index) <= _CUT_WINDOW]
        neighbours = [s for _, s in moving[max(at - 1, 0) : at] + moving[at + 1 : at + 2]]
        if (
            step >= _CUT_LEVELS
            and step >= _CUT_OVER_MEDIAN * (float(np.median(around)) if around else _STILL)
            and step >= _CUT_OVER_NEIGHBOUR * max(neighbours, default=_STILL)
        ):
            cuts.append(index + 1)
    return cuts


def _check_size(path: Path, shape: tuple[int, ...], size: int) -> list[Problem]:
    height, width = shape[:2]
    side = min(height, width)
    if side < SMALLEST_SIDE:
        text = f"{width} x {height} pixels: at least {SMALLEST_SIDE} a side are needed"
        return [Problem(path, "error", f"{text}, use a larger one")]
    if side < size:
        text = f"{width} x {height} pixels are enlarged to {size}: use a larger one, or a smaller"
        return [Problem(path, "warning", f'{text} "size" in the study')]
    return []


def _check_square(path: Path, side: float, size: int) -> list[Problem]:
    if side * _ENLARGED >= size:
        return []
    text = f"the square around the face is {side:.0f} pixels and is enlarged to {size}"
    return [Problem(path, "warning", f"{text}: use one in which the face is larger")]


@dataclass(frozen=True)
class _Look:
    """What one frame of a video shows."""

    moment: str
    faces: int

    @classmethod
    def at(cls, seconds: float, index: int, frame: np.ndarray, view: View) -> "_Look":
        faces = find_faces(frame, finder=view.finder)
        return cls(f"{seconds:.2f} s (frame {index})", len(faces))


def _square(
    path: Path, crop: CropRule, view: View, shows_a_face: Callable[[], bool]
) -> tuple[Crop | None, list[Problem]]:
    """Return the square that a run will use, None where it refuses; and what it says of that."""
    try:
        square, note = find_square(path, crop, view)
    except StudyError as error:
        return None, [Problem(path, "error", _without_path(error, path))]
    if note:
        serious = "centred square" in note or "no face in" in note
        level: Level = "warning" if serious else "note"
        return square, [Problem(path, level, note)]
    if view.rule(crop) == "centre" and not shows_a_face():
        text = "no face found: methods that need one fail, others take the centred square"
        return square, [Problem(path, "note", text)]
    return square, []


def _squares(path: Path, crop: CropRule, view: View) -> tuple[Crop, ...]:
    try:
        return squares_of(path, crop, view)
    except StudyError:  # which _square says
        info = probed(path)
        return (centre_crop((info.height, info.width)),)


def _only_notes(problems: Iterable[Problem]) -> bool:
    return all(problem.level == "note" for problem in problems)


def _check_faces(path: Path, looks: Sequence[_Look], rule: CropRule | Square) -> list[Problem]:
    """Say what 12 looks into the squares show that the run will not say by itself."""
    problems = []
    without = [look for look in looks if not look.faces]
    if without and (isinstance(rule, Square) or (rule == "centre" and len(without) < len(looks))):
        text = f"no face in {len(without)} of {len(looks)} frames looked at, first at"
        text = f"{text} {without[0].moment}: use a part in which the face is seen"
        problems.append(Problem(path, "warning", text))
    if crowded := [look for look in looks if look.faces > 1]:
        text = f"{crowded[0].faces} faces in its square at {crowded[0].moment}: one is followed"
        problems.append(Problem(path, "note", text))
    return problems


def _check_reference(path: Path, size: int, crop: CropRule, view: View) -> list[Problem]:
    try:
        opened, _ = open_driving(path, name=path.stem, size=size, crop=crop, view=view)
        _, note = with_reference(opened, view.reference)
    except StudyError as error:
        return [Problem(path, "error", _without_path(error, path))]
    return [Problem(path, "note", note)] if note else []


def _without_path(error: StudyError, path: Path) -> str:
    text = str(error)
    for place in (f" in {path}", f" of {path}", f" {path}", f"{path} ", f"{path}: "):
        text = text.replace(place, "", 1)
    return text


def _worst_first(problems: Iterable[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: ("error", "warning", "note").index(problem.level))


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    """Average a frame's luminance over cells, so that noise and sharp edges count little."""
    cell = max(min(frame.shape[:2]) // _THUMBNAIL_SIDE, 1)
    # As floating point, for rounded cells would hide small steps.
    return np.asarray(Image.fromarray(frame).convert("L").convert("F").reduce(cell))
