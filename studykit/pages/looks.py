"""What a visitor's files show, found in a lane's process: faces, squares, cuts, how long it takes.

Every function gets ``tell`` first and returns what JSON holds; see :mod:`studykit.pages.jobs`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from studykit.clips.animate import pair_task
from studykit.clips.estimate import try_cell
from studykit.errors import StudyError
from studykit.media import video
from studykit.media.faces import find_faces
from studykit.media.following import is_seen
from studykit.media.geometry import Crop, Face, left_to_right
from studykit.media.reference import with_reference
from studykit.media.squares import find_square, open_driving, probed, squares_of
from studykit.media.views import CropRule
from studykit.pages.jobs import Tell
from studykit.pages.uploads import UploadLimits
from studykit.study.check import SMALLEST_SIDE, check_image, find_cuts, stepped
from studykit.study.inputs import as_input

ANY: CropRule = "face-or-centre"  # a file without a face is shown as well, with what that means
_PICTURE, _PROXY, _STRIP = 1600, 480, 72  # pixels
_STRIP_SHAPE = 6.6  # how many times as wide as high
_SIZE_HERE = "size of the clip"
_TRIED = 4  # frames that tell how long one takes


def look_at_source(_tell: Tell, path: Path, folder: Path, limits: UploadLimits) -> dict[str, Any]:
    """Read a picture, find its faces and its square, and write ``picture.jpg`` to be shown.

    Raises
    ------
    StudyError
        It can't be read, or is beyond the limits.
    """
    image = video.read_image(path)
    _check_size(image.shape, limits)
    faces = left_to_right(find_faces(image))
    if len(faces) > limits.faces:
        text = f"{len(faces)} faces: at most {limits.faces} can be told apart"
        raise StudyError(f"the picture shows {text}: cut out those that are meant")
    write_jpeg(folder / "picture.jpg", image, _PICTURE)
    height, width = image.shape[:2]
    problems = check_image(path, crop=ANY)
    return {
        "width": width,
        "height": height,
        "faces": _numbered(faces),
        "square": _square(find_square(path, ANY)[0]),
        "notes": [
            # There is a setting on the page, and no study yet.
            {"level": each.level, "text": each.text.replace('"size" in the study', _SIZE_HERE)}
            for each in problems
        ],
    }


def glance_at_driving(
    _tell: Tell, path: Path, folder: Path, limits: UploadLimits
) -> dict[str, Any]:
    """Look at a driving's first frame and its length, which says whether it is taken.

    Raises
    ------
    StudyError
        It can't be read, or is beyond the limits.
    """
    info = probed(path)
    _check_size((info.height, info.width), limits)
    if info.frame_count < 2:
        raise StudyError("the video has one frame: a driving needs at least 2, use a longer one")
    if info.duration > limits.seconds or info.frame_count > limits.frames:
        most = f"at most {limits.seconds} s and {limits.frames} frames are taken"
        length = f"{info.duration / 60:.1f} min long ({info.frame_count} frames)"
        raise StudyError(f"the video is {length}: {most}, cut it first")
    image = next(video.read_frames(path, 0, 1))
    write_jpeg(folder / "picture.jpg", image, _PICTURE)
    faces = left_to_right(find_faces(image))
    notes = list(info.notes)
    if info.variable:
        notes.append("its frame rate varies: the clip keeps each frame's time")
    return {
        "width": info.width,
        "height": info.height,
        "faces": _numbered(faces[: limits.faces]),
        "frame_rate": float(info.frame_rate),
        "frames": info.frame_count,
        "duration": info.duration,
        "sound": info.has_audio,
        "notes": [{"level": "note", "text": text} for text in notes],
    }


def scan_driving(tell: Tell, path: Path, folder: Path, view: Mapping[str, Any]) -> dict[str, Any]:
    """Look at every frame of a driving: its cuts; write ``strip.jpg``, and ``proxy.mp4`` to play.

    Then look at its range as :func:`look_at_range` does.
    """
    info = probed(path)
    count = max(1, round(_STRIP_SHAPE * info.height / info.width))
    shots = ((np.arange(count) + 0.5) / count * info.frame_count).astype(int)
    scale = min(1.0, _PROXY / max(info.width, info.height))
    size = tuple(max(2, round(side * scale / 2) * 2) for side in (info.width, info.height))
    steps: list[float] = []
    strip: list[np.ndarray] = []

    def small() -> Iterator[np.ndarray]:
        for index, frame in enumerate(stepped(video.read_frames(path), steps)):
            image = Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)
            for _ in range(int((shots == index).sum())):
                wide = max(1, round(_STRIP * size[0] / size[1]))
                strip.append(np.asarray(image.resize((wide, _STRIP))))
            yield np.asarray(image)
            if index % 10 == 0:
                tell(index / info.frame_count)

    video.write_video(folder / "proxy.mp4", small(), frame_rate=info.frame_rate, like=path, crf=26)
    write_jpeg(folder / "strip.jpg", np.concatenate(strip, axis=1), 1 << 14)
    times = [float(time - info.times[0]) for time in info.times]
    cuts = [{"frame": cut, "seconds": times[cut]} for cut in find_cuts(steps)]
    return {"cuts": cuts, **look_at_range(tell, path, view)}


def look_at_range(_tell: Tell, path: Path, view: Mapping[str, Any]) -> dict[str, Any]:
    """Look at what of a driving takes part: its square, frames without a face, its reference.

    Parameters
    ----------
    view : mapping
        What is said of it, as in a study file: ``start``, ``end``, ``face``, ``margin``, ``crop``,
        ``reference``, ``faceless``.
    """
    seen = as_input({**view, "path": str(path)}, still=False).view
    driving, note = open_driving(path, name=path.name, size=256, crop=ANY, view=seen)
    found, why = with_reference(driving, seen.reference)
    info, squares = probed(path), squares_of(path, ANY, seen)
    times = [float(time - info.times[0]) for time in info.times]
    faceless = []
    if driving.points is not None:
        lost = np.flatnonzero(~is_seen(driving.points))
        for run in np.split(lost, np.flatnonzero(np.diff(lost) > 1) + 1) if len(lost) else []:
            first, last = (driving.number(int(run[end])) for end in (0, -1))
            faceless.append({"start": times[first], "end": times[last], "frames": len(run)})
    number = found.number(found.reference)
    return {
        "frames_taken": found.frame_count,
        "square": _square(squares[0]),
        "squares": [_square(square) for square in squares] if len(squares) > 1 else [],
        "faceless": faceless,
        "seen": driving.points is not None,
        "reference": {"frame": number, "seconds": times[number]},
        "range_notes": list(filter(None, "; ".join([note, why]).split("; "))),
    }


def look_at_square(_tell: Tell, path: Path, view: Mapping[str, Any]) -> dict[str, Any]:
    """Find the square that a picture's face, margin or rule means."""
    square, note = find_square(path, ANY, as_input({**view, "path": str(path)}, still=True).view)
    return {"square": _square(square), "note": note}


def pace(_tell: Tell, source: dict, driving: dict, clip: Path, given: dict) -> float | None:
    """Return how many seconds a frame takes, from a few; None where these can't be made.

    Parameters are those of :func:`studykit.clips.animate.pair_task`.
    """
    task, _ = pair_task(source, driving, clip, **given)
    return try_cell((task, _TRIED), lambda *_: None)


def _numbered(faces: list[Face]) -> list[dict[str, Any]]:
    return [
        {"number": number, **dict(zip(("left", "top", "right", "bottom"), face.box, strict=True))}
        for number, face in enumerate(faces, start=1)
    ]


def _square(square: Crop) -> dict[str, float]:
    return {"left": float(square.left), "top": float(square.top), "side": float(square.side)}


def _check_size(shape: tuple[int, ...], limits: UploadLimits) -> None:
    height, width = shape[:2]
    if height * width > limits.pixels:
        most = f"at most {limits.pixels / 1e6:g} million are taken"
        raise StudyError(f"{width} x {height} pixels: {most}, scale it down")
    if min(height, width) < SMALLEST_SIDE:
        text = f"at least {SMALLEST_SIDE} a side are needed"
        raise StudyError(f"{width} x {height} pixels: {text}, use a larger one")


def write_jpeg(file: Path | IO[bytes], image: np.ndarray, most: int) -> None:
    """Write a picture that is shown, with at most so many pixels a side."""
    picture = Image.fromarray(image)
    picture.thumbnail((most, most), Image.Resampling.LANCZOS)
    picture.save(file, "JPEG", quality=88)
