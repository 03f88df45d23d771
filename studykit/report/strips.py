"""Film strips: what a driving does and what the clips make of it, at a few moments."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from studykit.errors import StudyError
from studykit.media import video
from studykit.media.faces import find_faces
from studykit.media.geometry import left_to_right
from studykit.media.sheets import Strip, draw_strips, numbered, stacked
from studykit.media.squares import frames_taken, is_video, open_driving, open_source, probed
from studykit.media.views import CropRule
from studykit.report.results import Results
from studykit.study.file import Cell, Input, MethodSpec, Study
from studykit.study.inputs import as_input

MOMENTS = 5
_INPUTS_SHOWN = 25

# By which curve a clip's worst moment is found: the first that every clip of a strip has. The true
# frame knows best; without one, a face that does not follow its driving is the fault to be seen.
_WORST_CURVES = {
    "psnr_face": "PSNR of the face",
    "landmark_motion_error": "landmark motion",
    "flow_warping_error": "flow-warping error",
}


def film_strip(results: Results, methods: Sequence[MethodSpec], driving: Input) -> tuple[Path, str]:
    """Draw one driving and every source's clips under it, at five moments, as a PNG file.

    The moments are evenly spread over the driving, its first and last frame included. Where the
    clips were measured, a last column shows each clip's own worst moment. A cell without a clip
    is a grey band with its error.

    Returns
    -------
    path : Path
    worst_by : str
        By which metric the worst moments were found, in words; "" where none are shown.
    """
    study = results.study
    top, header = _driving_strip(driving, study.size, study.crop)
    sources = results.sources_of(driving)
    cells = [Cell(source, driving, method) for source in sources for method in methods]
    made = [cell for cell in cells if results.clip_of(cell)[0] is not None]
    worst_by, worst = worst_moments({cell.name: results.curves(cell.name) for cell in made})
    strips = [top]
    shown = {source: source_picture(source, study.size, study.crop) for source in sources}
    for cell in cells:
        label = ("source", cell.source.name, cell.source.type)
        if len(methods) > 1:
            label = (cell.source.name, cell.method.name, cell.source.type)
        pictures, mark = [shown[cell.source]], ""
        clip, error = results.clip_of(cell)
        if clip is not None:
            its_worst = [worst[cell.name]] if worst else []
            pictures += moments(clip, its_worst)
            mark = "".join(f"{float(i / probed(clip).frame_rate):.2f} s" for i in its_worst)
        strips.append(Strip(label, pictures, error, mark))
    whose = f"{methods[0].name}__" if len(methods) == 1 else ""
    path = results.out / "figures" / f"strip__{whose}{driving.name}.png"
    header = [*header, "worst moment"] if worst else header
    video.write_image(path, np.asarray(draw_strips(strips, header)))
    return path, worst_by


def worst_moments(
    curves: Mapping[str, Mapping[str, np.ndarray]],
) -> tuple[str, dict[str, int]]:
    """Find each clip's worst frame by the first metric that all of them have frame by frame.

    Parameters
    ----------
    curves : mapping by cell
        As ``metrics.curves`` returns them.

    Returns
    -------
    name : str
        The metric in words, "" where there is none.
    frames : dict of int
        By cell.
    """
    from studykit import metrics

    for name, words in _WORST_CURVES.items():
        frames = {cell: metrics.worst_frame(its, name) for cell, its in curves.items()}
        if frames and None not in frames.values():
            return words, frames
    return "", {}


def pair_strip(
    source: str | Path | Mapping[str, Any],
    driving: str | Path | Mapping[str, Any],
    clip: str | Path,
    *,
    size: int = 256,
    crop: CropRule = "face",
) -> Image.Image:
    """Draw one driving, and the clip that it made of one source, at five moments.

    Source and driving are those of :func:`studykit.animate`.
    """
    still, moving = as_input(source, still=True), as_input(driving, still=False)
    top, header = _driving_strip(moving, size, crop)
    picture = source_picture(still, size, crop)
    row = Strip(("source", still.name, ""), [picture, *moments(Path(clip))])
    return draw_strips([top, row], header)


def face_sheet(study: Study) -> Image.Image | None:
    """Draw every input in which there are several faces, each with its number from the left.

    That of a study file's ``face``. Of a driving, its first frame that takes part is shown; None
    where no input shows more than one face.
    """
    pictures = []
    for item in (*study.sources, *study.drivings):
        with contextlib.suppress(StudyError):
            if is_video(item.path):
                image = next(video.read_frames(item.path, frames_taken(item.path, item.view).start))
            else:
                image = video.read_image(item.path)
            faces = find_faces(image, finder=study.faces)
            if len(faces) > 1:
                boxes = [face.box for face in left_to_right(faces)]
                pictures.append(numbered(image, boxes, item.name))
    return stacked(pictures) if pictures else None


def input_sheet(study: Study) -> Image.Image:
    """Draw drivings at five moments, and sources, as the methods see them: the first 25 of each."""
    strips = []
    for driving in study.drivings[:_INPUTS_SHOWN]:
        strip, _ = _driving_strip(driving, study.size, study.crop)
        strips.append(Strip(strip.label, strip.pictures[1:], strip.text))
    shown = study.sources[:_INPUTS_SHOWN]
    for first in range(0, len(shown), MOMENTS):
        group = shown[first : first + MOMENTS]
        names = ", ".join(source.name for source in group)
        pictures = [source_picture(source, study.size, study.crop) for source in group]
        strips.append(Strip(("sources", names, ""), pictures))
    return draw_strips(strips, [""] * MOMENTS)


def moments(clip: Path, further: Sequence[int] = ()) -> list[np.ndarray]:
    """Return frames spread evenly over a clip, and further ones, as (H, W, 3) uint8."""
    wanted = [*moment_indices(probed(clip).frame_count), *further]
    return _frames_at(video.read_frames(clip), wanted)


def moment_indices(frame_count: int) -> list[int]:
    """Return which frames are shown: evenly spread, first and last included.

    >>> moment_indices(48)
    [0, 12, 24, 35, 47]
    """
    return [round(i * (frame_count - 1) / (MOMENTS - 1)) for i in range(MOMENTS)]


def _driving_strip(driving: Input, size: int, crop: CropRule) -> tuple[Strip, list[str]]:
    """Return a driving's row, a blank place for the source first, and its column titles."""
    label = ("driving", driving.name, driving.type)
    try:
        opened, _ = open_driving(
            driving.path, name=driving.name, size=size, crop=crop, view=driving.view
        )
        wanted = moment_indices(opened.frame_count)
        frames = _frames_at(opened, wanted)
    except StudyError as error:
        return Strip(label, [None], str(error)), ["source", *[""] * MOMENTS]
    times = [f"{float(i / opened.frame_rate):.2f} s" for i in wanted]
    return Strip(label, [None, *frames]), ["source", *times]


def source_picture(source: Input, size: int, crop: CropRule) -> np.ndarray:
    """Return a source as the methods saw it, or a grey square when they could not."""
    try:
        opened, _ = open_source(
            source.path, name=source.name, size=size, crop=crop, view=source.view
        )
    except StudyError:
        return np.full((size, size, 3), 233, np.uint8)
    return opened.image


def _frames_at(frames: Iterable[np.ndarray], wanted: list[int]) -> list[np.ndarray]:
    found = {i: frame for i, frame in enumerate(frames) if i in wanted}
    return [found[i] for i in wanted]
