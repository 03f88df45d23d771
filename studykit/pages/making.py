"""Clips for visitors, and the forms in which they take them along; done in a lane's process."""

import io
import itertools
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from studykit import files
from studykit.clips.animate import animate
from studykit.clips.cell import SYNTHETIC
from studykit.errors import StudyError, did_you_mean
from studykit.media import video
from studykit.media.squares import open_driving, open_source, probed
from studykit.media.views import CropRule
from studykit.pages import marks
from studykit.pages.jobs import Tell
from studykit.pages.looks import write_jpeg
from studykit.study.inputs import Input, as_input

Shows = Literal["square", "picture", "faces"]

_OFTEN = 0.2  # seconds between two words on progress
_PREVIEWS, _PREVIEW_SIDE = 8, 160
_GIF_SIDE, _GIF_RATE = 320, 25


@dataclass(frozen=True)
class Order:
    """An animation as it was asked for.

    Attributes
    ----------
    source, driving : dict
        What is said of each, as in a study file.
    method : str
    settings : dict
        Of the method.
    size : int
    crop : str
    shows : {"square", "picture", "faces"}
        What the clip shows: the square, or the whole picture with one of its faces moved, or all.
    """

    source: dict[str, Any]
    driving: dict[str, Any]
    method: str
    settings: dict[str, Any]
    size: int = 256
    crop: CropRule = "face"
    shows: Shows = "square"

    def given(self) -> dict[str, Any]:
        """Return all but the inputs, as :func:`studykit.clips.animate.pair_task` takes it."""
        size = self.size if self.shows == "square" else None
        return {"method": self.method, "size": size, "crop": self.crop, **self.settings}


def make(tell: Tell, order: Order, folder: Path) -> dict[str, Any]:
    """Write ``clip.mp4``, and ``driving.mp4`` and ``source.png`` as the method has seen them.

    Tells how many frames there are, of how many, and a few of them as JPEG.
    """
    clip, last = folder / "clip.mp4", 0.0

    def watch(count: int, total: int, frame: np.ndarray) -> None:
        nonlocal last
        every, now = max(1, total // _PREVIEWS), time.monotonic()
        preview = count == 1 or count % every == 0
        if preview or now - last > _OFTEN or count == total:
            small = io.BytesIO()
            if preview:
                write_jpeg(small, frame, _PREVIEW_SIDE)
            tell((count, total, small.getvalue()))
            last = now

    shown = {"paste": order.shows != "square", "faces": "all" if order.shows == "faces" else "one"}
    row = animate(order.source, order.driving, clip, watch=watch, **shown, **order.given())
    still, moving = as_input(order.source, still=True), as_input(order.driving, still=False)
    write_inputs(tell, still, moving, order.size, order.crop, folder)
    info = probed(clip)
    return {
        "frames": row.frames,
        "seconds": row.seconds,
        "note": row.note,
        "method": row.method,
        "frame_rate": float(info.frame_rate),
        "width": info.width,
        "height": info.height,
        "sound": info.has_audio,
    }


def deliver(
    _tell: Tell, folder: Path, form: str, name: str, method: str, mark: bool, at: float
) -> str:
    """Write a clip in the form in which it is taken along, and return that file's name.

    Parameters
    ----------
    form : {"clip.mp4", "side-by-side.mp4", "clip.gif", "still.png"}
    name : str
        Of the clip, as its signature names it.
    mark : bool
        Whether the word "synthetic" is seen in it.
    at : float
        The second that a still shows: of stills the last one alone is kept.
    """
    if form not in _FORMS:
        raise StudyError(f'no form "{form}": {did_you_mean(form, _FORMS)}')
    clip = folder / "clip.mp4"
    rate = probed(clip).frame_rate
    found = folder / f"{'marked-' * mark}{form}"
    old = form == "still.png"  # of another frame
    if old or not found.is_file():
        _FORMS[form](folder, found, rate, mark, at)
    if not marks.can_sign():
        return found.name
    signed = folder / f"signed-{found.name}"
    if old or not signed.is_file():
        marks.sign(found, signed, f"{name}{found.suffix}", method)
    return signed.name


def pack_study(_tell: Tell, order: Order, folder: Path, names: dict[str, str], method: str) -> str:
    """Pack a study file with what a clip was made of, and return the archive's name.

    Parameters
    ----------
    names : dict
        What source and driving are called in it.
    method : str
        The method that made the clip, which the order may have left open.
    """
    study: dict[str, Any] = {"name": "animated", "seed": 1, "size": order.size, "crop": order.crop}
    packed = {}
    for role in ("source", "driving"):
        said: Mapping[str, Any] = getattr(order, role)
        path = Path(said["path"])
        packed[f"{role}s/{names[role]}"] = path
        rest = {key: value for key, value in said.items() if key != "path"}
        study[f"{role}s"] = {"frontal": [{"path": f"{role}s/{names[role]}", **rest}]}
    study["methods"] = [{"name": method, "method": method, **order.settings}]
    study["methods"] += ["copy"] * (method != "copy")
    text = yaml.safe_dump(study, sort_keys=False, allow_unicode=True)
    lead = "# What an animation was made of. More sources, drivings and methods make it a study:\n"
    with files.whole(folder / "study.zip") as part, zipfile.ZipFile(part, "w") as archive:
        archive.writestr("study.yaml", f"{lead}# studykit check study.yaml\n{text}")
        for name, path in packed.items():
            archive.write(path, name)
    return "study.zip"


def write_inputs(
    _tell: Tell, still: Input, moving: Input, size: int, crop: CropRule, folder: Path
) -> None:
    """Write ``source.png`` and ``driving.mp4`` as a method sees them, in step with its clip."""
    folder.mkdir(parents=True, exist_ok=True)
    source, _ = open_source(still.path, name=still.name, size=size, crop=crop, view=still.view)
    video.write_image(folder / "source.png", source.image)
    driving, _ = open_driving(moving.path, name=moving.name, size=size, crop=crop, view=moving.view)
    video.write_video(
        folder / "driving.mp4",
        driving,
        frame_rate=driving.frame_rate,
        like=moving.path if driving.whole else None,
        like_from=driving.first,
    )


def _clip(folder: Path, found: Path, rate: Fraction, _mark: bool, _at: float) -> None:
    _write(found, map(marks.marked, video.read_frames(folder / "clip.mp4")), rate, folder)


def _side_by_side(folder: Path, found: Path, rate: Fraction, mark: bool, _at: float) -> None:
    height = probed(folder / "clip.mp4").height
    source = _as_high(video.read_image(folder / "source.png"), height)
    both = zip(
        video.read_frames(folder / "driving.mp4"),
        video.read_frames(folder / "clip.mp4"),
        strict=True,
    )
    joined = (
        np.concatenate(
            [source, _as_high(driven, height), marks.marked(made) if mark else made], axis=1
        )
        for driven, made in both
    )
    _write(found, joined, rate, folder)


def _gif(folder: Path, found: Path, rate: Fraction, mark: bool, _at: float) -> None:
    """Write a GIF: its times are whole hundredths of a second, rounded as they add up."""
    step = max(1, round(rate / _GIF_RATE))
    frames = itertools.islice(video.read_frames(folder / "clip.mp4"), 0, None, step)

    def pictures() -> Iterator[Image.Image]:
        for frame in frames:
            picture = Image.fromarray(marks.marked(frame) if mark else frame)
            picture.thumbnail((_GIF_SIDE, _GIF_SIDE), Image.Resampling.LANCZOS)
            yield picture.quantize(dither=Image.Dither.FLOYDSTEINBERG)

    count = -(-probed(folder / "clip.mp4").frame_count // step)
    ends = [round(100 * number * step / rate) for number in range(count + 1)]
    durations = [10 * (end - start) for start, end in itertools.pairwise(ends)]
    images = pictures()
    with files.whole(found) as part:
        next(images).save(
            part,
            "GIF",
            save_all=True,
            append_images=images,
            duration=durations,
            loop=0,
            comment=SYNTHETIC.encode(),
        )


def _still(folder: Path, found: Path, rate: Fraction, mark: bool, at: float) -> None:
    info = probed(folder / "clip.mp4")
    number = min(max(int(at * rate), 0), info.frame_count - 1)
    frame = next(video.read_frames(folder / "clip.mp4", number, number + 1))
    said = PngInfo()
    said.add_text("Comment", SYNTHETIC)
    with files.whole(found) as part:
        Image.fromarray(marks.marked(frame) if mark else frame).save(part, "PNG", pnginfo=said)


_FORMS = {
    "clip.mp4": _clip,
    "side-by-side.mp4": _side_by_side,
    "clip.gif": _gif,
    "still.png": _still,
}


def _write(found: Path, frames: Iterator[np.ndarray], rate: Fraction, folder: Path) -> None:
    clip = folder / "clip.mp4"
    video.write_video(found, frames, frame_rate=rate, like=clip, comment=SYNTHETIC)


def _as_high(image: np.ndarray, height: int) -> np.ndarray:
    if len(image) == height:
        return image
    width = max(1, round(image.shape[1] * height / len(image)))
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
