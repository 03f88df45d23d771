"""Clips on the page: small moving previews with their bytes inside, so that it is one file."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from studykit.errors import StudyError
from studykit.media import video
from studykit.media.squares import open_driving, probed
from studykit.report.blocks import data_url, escaped, jpeg_url
from studykit.report.results import Results
from studykit.report.strips import source_picture
from studykit.study.file import Cell, Input, Study

SIDE = 144
_PLAYED = 192  # pixels: the buttons of a smaller video would hide the face
# All previews of a page together, in bytes of video: base64 adds a third.
_ROOM = 3_000_000
_SECONDS = 5
# From what is good to see to what still shows the motion: side in pixels, x264's rate factor.
_SIZES = ((SIDE, 28), (128, 32), (112, 35), (96, 38))


def room_for_each(study: Study) -> int:
    """Return how many bytes a preview may take, where a page shows all of a study's."""
    shown = sum(1 for _ in study.pairs()) + len(study.drivings)
    return _ROOM // max(len(study.methods) * shown, 1)


def clip(results: Results, cell: Cell, room: int) -> str:
    """Return a cell's moving preview and the link to its clip, or that there is none."""
    path, error = results.clip_of(cell)
    if path is None:
        return _missing(error)
    preview = _preview(video.read_frames(path), probed(path).frame_rate, room)
    return f"{preview}<a href='clips/{escaped(path.name)}'>full clip</a>"


def linked(results: Results, cell: Cell) -> str:
    """Return a cell's clip to play where it lies, seen from the notebook that shows it.

    A run executes a copy of the notebook beside the clips, and names the folder in full; whoever
    runs it by hand names the folder as seen from the notebook.
    """
    path, error = results.clip_of(cell)
    if path is None:
        return _missing(error)
    beside = results.out / "notebooks" if results.out.is_absolute() else Path()
    place = quote(Path(os.path.relpath(path, beside)).as_posix())
    # JupyterLab strips the address of anything but the video itself.
    return (
        f"<video src='{place}' width='{_PLAYED}' height='{_PLAYED}' controls loop muted "
        f"preload='metadata' title='{escaped(cell.name)}'></video>"
    )


def driving(study: Study, item: Input, room: int) -> str:
    """Return a driving's moving preview as methods see it, "" where it can't be read."""
    try:
        opened, _ = open_driving(
            item.path, name=item.name, size=study.size, crop=study.crop, view=item.view
        )
        return _preview(iter(opened), opened.frame_rate, room)
    except StudyError:
        return ""


def source(study: Study, item: Input) -> str:
    """Return a source as methods see it, as an image."""
    picture = _shrunk(source_picture(item, study.size, study.crop), SIDE)
    return f"<img src='{jpeg_url(picture)}' alt='source {escaped(item.name)}'>"


def _missing(error: str) -> str:
    return f"<span class='failed' title='{escaped(error)}'>no clip</span>"


def _preview(frames: Iterator[np.ndarray], frame_rate: Fraction, room: int) -> str:
    """Return a small looping video as HTML: the first seconds, as large as it may be."""
    first = itertools.islice(frames, max(1, int(_SECONDS * frame_rate)))
    shown = [_shrunk(frame, SIDE) for frame in first]
    for side, quality in _SIZES:
        data = _encoded([_shrunk(frame, side) for frame in shown], frame_rate, quality)
        if len(data) <= room:
            break
    return (
        f"<video src='{data_url('video/mp4', data)}' width='{SIDE}' height='{SIDE}' "
        "muted loop playsinline tabindex='0'></video>"
    )


def _encoded(frames: list[np.ndarray], frame_rate: Fraction, quality: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "preview.mp4"
        video.write_video(path, iter(frames), frame_rate=frame_rate, crf=quality)
        return path.read_bytes()


def _shrunk(frame: np.ndarray, side: int) -> np.ndarray:
    if frame.shape[:2] == (side, side):
        return frame
    picture = Image.fromarray(frame).resize((side, side), Image.Resampling.LANCZOS)
    return np.asarray(picture)
