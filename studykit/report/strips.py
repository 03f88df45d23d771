"""Film strips: what a driving does and what the clips make of it, at a few moments."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from studykit.errors import StudyError
from studykit.media import video
from studykit.media.squares import CropRule, open_driving, open_source
from studykit.report.results import Results
from studykit.study import Cell, Input, MethodSpec, Study

MOMENTS = 5
_TILE, _GAP, _LABEL, _TOP = 160, 4, 150, 26
_INPUTS_SHOWN = 25
_INK, _PALE, _PAPER, _EMPTY, _MARK = "#1b1f24", "#5b6570", "#ffffff", "#e9ecef", "#d55e00"

# By which curve a clip's worst moment is found: the first that every clip of a strip has. The true
# frame knows best; without one, a face that does not follow its driving is the fault to be seen.
_WORST_CURVES = {
    "psnr_face": "PSNR of the face",
    "landmark_motion_error": "landmark motion",
    "flow_warping_error": "flow-warping error",
}


@dataclass(frozen=True)
class Strip:
    """One row of a sheet.

    Attributes
    ----------
    label : tuple of str
        What the row shows, its name and its type, drawn at its left.
    pictures : sequence of (H, W, 3) uint8 or None
        The row's squares; None leaves a place blank.
    text : str
        Stands in place of the pictures that are not there, such as an error.
    mark : str
        Where it is not "", the last picture is framed and bears this text.
    """

    label: tuple[str, str, str]
    pictures: Sequence[np.ndarray | None] = field(default_factory=list)
    text: str = ""
    mark: str = ""


def draw_strips(strips: Sequence[Strip], header: Sequence[str]) -> Image.Image:
    """Draw rows of pictures under a line of column titles."""
    width = _LABEL + len(header) * (_TILE + _GAP)
    sheet = Image.new("RGB", (width, _TOP + len(strips) * (_TILE + _GAP)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(header):
        draw.text((_left(column) + _TILE / 2, 6), title, _PALE, _font(13), anchor="ma")
    for index, strip in enumerate(strips):
        top = _TOP + index * (_TILE + _GAP)
        what, name, kind = strip.label
        draw.text((4, top + 52), what, _PALE, _font(13), anchor="lm")
        draw.text((4, top + 72), _shortened(name, _LABEL - 12, 15), _INK, _font(15), anchor="lm")
        draw.text((4, top + 92), kind, _PALE, _font(13), anchor="lm")
        for column, picture in enumerate(strip.pictures):
            if picture is not None:
                sheet.paste(_tile(picture), (_left(column), top))
        if strip.mark:
            _draw_mark(draw, _left(len(strip.pictures) - 1), top, strip.mark)
        if strip.text:
            left, right = _left(len(strip.pictures)), width - _GAP - 1
            draw.rectangle((left, top, right, top + _TILE - 1), fill=_EMPTY)
            text = _shortened(strip.text, right - left - 24, 14)
            draw.text(((left + right) / 2, top + _TILE / 2), text, _INK, _font(14), anchor="mm")
    return sheet


def film_strip(results: Results, method: MethodSpec, driving: Input) -> tuple[Path, str]:
    """Draw one driving and every source's clip under it, at five moments, as a PNG file.

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
    cells = [Cell(source, driving, method) for source in results.sources_of(driving)]
    made = [cell for cell in cells if results.clip_of(cell)[0] is not None]
    worst_by, worst = worst_moments({cell.name: results.curves(cell.name) for cell in made})
    strips = [top]
    for cell in cells:
        label = ("source", cell.source.name, cell.source.type)
        pictures, mark = [source_picture(cell.source, study.size, study.crop)], ""
        clip, error = results.clip_of(cell)
        if clip is not None:
            pictures += moments(clip)
            if cell.name in worst:
                frame = worst[cell.name]
                pictures += _frames_at(video.read_frames(clip), [frame])
                mark = f"{float(frame / video.probe(clip).frame_rate):.2f} s"
        strips.append(Strip(label, pictures, error, mark))
    path = results.out / "figures" / f"strip__{method.name}__{driving.name}.png"
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
    source: str | Path,
    driving: str | Path,
    clip: str | Path,
    *,
    size: int = 256,
    crop: CropRule = "face",
) -> Image.Image:
    """Draw one driving, and the clip that it made of one source, at five moments."""
    still, moving = (Input(Path(path).stem, "", Path(path)) for path in (source, driving))
    top, header = _driving_strip(moving, size, crop)
    picture = source_picture(still, size, crop)
    row = Strip(("source", still.name, ""), [picture, *moments(Path(clip))])
    return draw_strips([top, row], header)


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


def moments(clip: Path, count: int = MOMENTS) -> list[np.ndarray]:
    """Return ``count`` frames spread evenly over a clip, as (H, W, 3) uint8."""
    return _spread(video.read_frames(clip), video.probe(clip).frame_count, count)


def moment_indices(frame_count: int, count: int = MOMENTS) -> list[int]:
    """Return which frames are shown: evenly spread, first and last included.

    >>> moment_indices(48)
    [0, 12, 24, 35, 47]
    """
    return [round(i * (frame_count - 1) / (count - 1)) for i in range(count)]


def _driving_strip(driving: Input, size: int, crop: CropRule) -> tuple[Strip, list[str]]:
    """Return a driving's row, a blank place for the source first, and its column titles."""
    label = ("driving", driving.name, driving.type)
    try:
        opened, _ = open_driving(driving.path, name=driving.name, size=size, crop=crop)
        frames = _spread(opened, opened.frame_count, MOMENTS)
    except StudyError as error:
        return Strip(label, [None], str(error)), ["source", *[""] * MOMENTS]
    times = [float(i / opened.frame_rate) for i in moment_indices(opened.frame_count)]
    return Strip(label, [None, *frames]), ["source", *(f"{time:.2f} s" for time in times)]


def source_picture(source: Input, size: int, crop: CropRule) -> np.ndarray:
    """Return a source as the methods saw it, or a grey square when they could not."""
    try:
        opened, _ = open_source(source.path, name=source.name, size=size, crop=crop)
    except StudyError:
        return np.full((size, size, 3), 233, np.uint8)
    return opened.image


def _spread(frames: Iterable[np.ndarray], frame_count: int, count: int) -> list[np.ndarray]:
    return _frames_at(frames, moment_indices(frame_count, count))


def _frames_at(frames: Iterable[np.ndarray], wanted: list[int]) -> list[np.ndarray]:
    return [frame for i, frame in enumerate(frames) for _ in range(wanted.count(i))]


def _draw_mark(draw: ImageDraw.ImageDraw, left: int, top: int, text: str) -> None:
    draw.rectangle((left, top, left + _TILE - 1, top + _TILE - 1), outline=_MARK, width=3)
    room = _font(13).getlength(text) + 12
    draw.rectangle((left, top, left + room, top + 22), fill=_MARK)
    draw.text((left + 7, top + 11), text, _PAPER, _font(13), anchor="lm")


def _tile(frame: np.ndarray) -> Image.Image:
    return Image.fromarray(frame).resize((_TILE, _TILE), Image.Resampling.LANCZOS)


def _left(column: int) -> int:
    return _LABEL + column * (_TILE + _GAP)


def _shortened(text: str, room: float, size: int) -> str:
    if _font(size).getlength(text) <= room:
        return text
    while text and _font(size).getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
