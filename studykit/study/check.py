"""Every problem of a study's inputs in one go, before hours are spent on them.

Nothing is raised for what is wrong with a file: it becomes a line in the list.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from studykit.errors import MediaError, NoFaceError
from studykit.media.faces import find_faces
from studykit.media.geometry import face_crop
from studykit.media.squares import CropRule, open_driving
from studykit.media.video import probe, read_frames, read_image
from studykit.study.file import Study, load_study

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


def check_study(study: Study | str | Path) -> list[Problem]:
    """Look at every source and driving of a study.

    Parameters
    ----------
    study : Study or path
        A study, or its file.

    Returns
    -------
    list of Problem
        In the order of the study file, errors of one file first.

    Raises
    ------
    StudyFileError
        The study file itself is wrong.
    """
    study = study if isinstance(study, Study) else load_study(study)
    problems = []
    for source in study.sources:
        problems += check_image(source.path, size=study.size, crop=study.crop)
    for driving in study.drivings:
        problems += check_video(driving.path, size=study.size, crop=study.crop)
    return problems


def check_image(path: str | Path, *, size: int = 256, crop: CropRule = "face") -> list[Problem]:
    """Look at a source image: unreadable, too small, no face, several faces.

    Parameters
    ----------
    size : int
        Side of the square that the methods work on, in pixels.
    crop : {"face", "face-or-centre", "centre"}
        The study's crop rule, which decides how bad a missing face is.
    """
    path = Path(path)
    try:
        image = read_image(path)
    except MediaError as error:
        return [Problem(path, "error", _without_path(error, path))]
    problems = _check_size(path, image.shape, size)
    faces = find_faces(image)
    if not faces:
        problems.append(_no_face(path, crop))
    elif crop != "centre" and not problems:
        problems += _check_square(path, face_crop(faces[0], image.shape).side, size)
    if len(faces) > 1:
        problems.append(_several_faces(path, f"{len(faces)} faces"))
    return _worst_first(problems)


def check_video(path: str | Path, *, size: int = 256, crop: CropRule = "face") -> list[Problem]:
    """Look at a driving video, frame by frame.

    Unreadable or cut short, too small, fewer than 2 frames, cuts (:func:`find_cuts`), a variable
    frame rate, and no face or several in 12 frames spread over it.

    Parameters are those of :func:`check_image`.
    """
    path = Path(path)
    try:
        info = probe(path)
        sampled = set(np.linspace(0, info.frame_count - 1, SAMPLED_FRAMES).round().astype(int))
        looks: list[_Look] = []
        steps: list[float] = []
        previous = None
        for index, frame in enumerate(read_frames(path)):
            if index in sampled:
                looks.append(_Look.at(index / float(info.frame_rate), index, frame))
            thumbnail = _thumbnail(frame)
            if previous is not None:
                steps.append(float(np.abs(thumbnail - previous).mean()))
            previous = thumbnail
    except MediaError as error:
        return [Problem(path, "error", _without_path(error, path))]
    problems = _check_size(path, (info.height, info.width), size)
    seen = [look for look in looks if look.faces]
    if seen and crop != "centre" and not problems:
        problems += _check_square(path, seen[0].square_side, size)
    if info.frame_count < 2:
        problems.append(
            Problem(path, "error", "1 frame: a driving needs at least 2, use a longer video")
        )
    if cuts := find_cuts(steps):
        number = "a cut" if len(cuts) == 1 else f"{len(cuts)} cuts, the first"
        where = f"{cuts[0] / float(info.frame_rate):.2f} s (frame {cuts[0]})"
        text = f"{number} at {where}: motion is taken from one shot, trim it to that"
        problems.append(Problem(path, "warning", text))
    if info.variable:
        rate = f"variable frame rate (mean {float(info.frame_rate):.4g} frames/s)"
        problems.append(Problem(path, "note", f"{rate}: clips keep each frame's time"))
    problems += _check_faces(path, looks, _misses_square(path, size, crop), crop)
    return _worst_first(problems)


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
    square_side: float

    @classmethod
    def at(cls, seconds: float, index: int, frame: np.ndarray) -> "_Look":
        faces = find_faces(frame)
        side = face_crop(faces[0], frame.shape).side if faces else 0.0
        return cls(f"{seconds:.2f} s (frame {index})", len(faces), side)


def _misses_square(path: Path, size: int, crop: CropRule) -> bool:
    """Return whether a run finds no face for the square: it looks at the first second."""
    try:
        opened, _ = open_driving(path, name=path.stem, size=size, crop=crop)
    except NoFaceError:
        return True
    return crop != "centre" and opened.points is None


def _check_faces(
    path: Path, looks: Sequence[_Look], misses_square: bool, crop: CropRule
) -> list[Problem]:
    problems = []
    without = [look for look in looks if not look.faces]
    seen_nowhere = len(without) == len(looks)
    if misses_square or (crop == "centre" and seen_nowhere):
        problems.append(_no_face(path, crop, "" if seen_nowhere else " in its first second"))
    if without and not (problems and seen_nowhere):
        text = f"no face in {len(without)} of {len(looks)} frames looked at, first at"
        text = f"{text} {without[0].moment}: use a part in which the face is seen"
        problems.append(Problem(path, "warning", text))
    if crowded := [look for look in looks if look.faces > 1]:
        problems.append(_several_faces(path, f"{crowded[0].faces} faces at {crowded[0].moment}"))
    return problems


def _no_face(path: Path, crop: CropRule, where: str = "") -> Problem:
    if crop == "face":
        text = f"no face found{where}: choose another file, or set crop: face-or-centre"
        return Problem(path, "error", f"{text} in the study")
    text = f"no face found{where}: its centred square is taken, and methods that need a face fail"
    return Problem(path, "warning" if crop == "face-or-centre" else "note", text)


def _several_faces(path: Path, count: str) -> Problem:
    return Problem(
        path, "note", f"{count}: the largest is taken, crop the file if another is meant"
    )


def _without_path(error: MediaError, path: Path) -> str:
    return str(error).replace(f" {path}", "", 1).replace(f"{path} ", "", 1)


def _worst_first(problems: Iterable[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: ("error", "warning", "note").index(problem.level))


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    """Average a frame's luminance over cells, so that noise and sharp edges count little."""
    cell = max(min(frame.shape[:2]) // _THUMBNAIL_SIDE, 1)
    # As floating point, for rounded cells would hide small steps.
    return np.asarray(Image.fromarray(frame).convert("L").convert("F").reduce(cell))
