"""The files that a trial shows, and the clips that no method made: references and spoilt ones.

What is made here is named by a hash of what it is made of, so that no file name gives anything
away to a rater, and a changed clip gets new spoilt versions.
"""

import hashlib
import itertools
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from studykit import files
from studykit.clips.cells import read_cells
from studykit.clips.folder import clip_file
from studykit.errors import StudyError
from studykit.media import video
from studykit.media.squares import open_driving, open_source
from studykit.ratings.design import Clip, Trial, study_clips
from studykit.study.file import Input, Study

_TORN_BANDS, _TORN_SHIFTS, _TORN_SECONDS = 7, (0.05, 0.16), 0.16
_SHAKEN_SHIFT = 0.035
_MADE_BY = 1  # to be raised when spoilt clips come out differently


@dataclass(frozen=True)
class Shown:
    """The files of a trial.

    Attributes
    ----------
    clip : Path
        An mp4 of the study's size.
    source : Path or None
        A PNG of the picture that the clip was made from, if it is shown.
    driving : Path or None
        The driving as an mp4 in step with the clip, if the clip is rated beside it.
    other : Path or None
        The second clip of a pair.
    """

    clip: Path
    source: Path | None = None
    driving: Path | None = None
    other: Path | None = None


def available_clips(study: Study, out: Path) -> tuple[Clip, ...]:
    """Return the clips of a study that can be rated, because they were made and are there."""
    rows = read_cells(out / "cells.csv")
    made = {name for name, row in rows.items() if row.status == "done"}
    return tuple(
        clip
        for clip in study_clips(study)
        if clip.cell in made and clip_file(out, clip.cell).is_file()
    )


def shown(study: Study, out: Path, trial: Trial) -> Shown:
    """Return the files of a trial, making those that are not there yet.

    Raises
    ------
    StudyError
        A clip, a source or a driving is gone or can't be read.
    """
    rules, clip = study.ratings, trial.clip
    return Shown(
        clip=clip_path(study, out, clip),
        source=_source(study, out, clip) if rules.show_source else None,
        driving=_reference(study, out, clip.driving) if rules.task == "dcr" else None,
        other=clip_path(study, out, trial.other) if trial.other else None,
    )


def clip_path(study: Study, out: Path, clip: Clip) -> Path:
    """Return where a clip is, making a reference or a spoilt clip that is not there yet.

    Raises
    ------
    StudyError
        It is gone, or what it is made of.
    """
    if clip.kind == "reference":
        return _reference(study, out, clip.driving)
    base = clip_file(out, clip.base)
    if not base.is_file():
        raise StudyError(f"the clip {base} is gone: run the study again, then go on")
    if clip.kind == "clip":
        return base
    spoil = _SPOILT[clip.kind]
    path = _control_path(out, clip.kind, files.sha256(base), ".mp4")
    if not path.is_file():
        rate = video.probe(base).frame_rate
        seed = zlib.crc32(clip.cell.encode())
        frames = spoil(video.read_frames(base), float(rate), seed)
        video.write_video(path, frames, frame_rate=rate, like=base)
    return path


def bare(out: Path, path: Path) -> Path:
    """Return a copy of an mp4 without what it says of itself, made if it is not there yet.

    A comment or the name of a muxer would tell a rater which clips are a method's and which are
    controls, or which are older. Frames, sound and times are those of the file, bit by bit.

    Raises
    ------
    StudyError
        It is gone or damaged.
    """
    copy = _control_path(out, "bare", _sha256(path), ".mp4")
    if not copy.is_file():
        try:
            content = _without_words(path.read_bytes())
        except (KeyError, ValueError, struct.error):
            raise StudyError(f"the clip {path} is damaged: make it again, then go on") from None
        with files.written(copy, "make room for what raters are shown") as part:
            part.write_bytes(content)
    return copy


def frozen(frames: Iterable[np.ndarray], frame_rate: float, seed: int) -> Iterator[np.ndarray]:
    """Hold the first frame for as long as the frames last: nothing moves.

    Parameters
    ----------
    frames : iterable of (H, W, 3) uint8
    frame_rate : float
        Frames a second.
    seed : int
        Of all that is random; here nothing is.
    """
    first = None
    for frame in frames:
        first = frame if first is None else first
        yield first


def torn(frames: Iterable[np.ndarray], frame_rate: float, seed: int) -> Iterator[np.ndarray]:
    """Displace seven bands to the left and right in turn, others every sixth of a second.

    Parameters are those of :func:`frozen`.
    """
    random = np.random.default_rng(seed)
    hold = max(round(_TORN_SECONDS * frame_rate), 1)
    for index, frame in enumerate(frames):
        height, width = frame.shape[:2]
        if index % hold == 0:
            inner = np.arange(1, _TORN_BANDS) + random.uniform(-0.3, 0.3, _TORN_BANDS - 1)
            edges = [0, *(inner * height / _TORN_BANDS).round().astype(int), height]
            shifts = random.uniform(*_TORN_SHIFTS, _TORN_BANDS) * width
            shifts[index // hold % 2 :: 2] *= -1
        displaced = np.empty_like(frame)
        for (top, bottom), shift in zip(itertools.pairwise(edges), shifts, strict=True):
            displaced[top:bottom] = np.roll(frame[top:bottom], round(shift), axis=1)
        yield displaced


def shaken(frames: Iterable[np.ndarray], frame_rate: float, seed: int) -> Iterator[np.ndarray]:
    """Displace each frame as a whole, by up to 3.5 % of its size, its border drawn out.

    Parameters are those of :func:`frozen`.
    """
    random = np.random.default_rng(seed)
    for frame in frames:
        reach = max(round(_SHAKEN_SHIFT * min(frame.shape[:2])), 1)
        down, right = random.integers(0, 2 * reach, 2, endpoint=True)
        height, width = frame.shape[:2]
        padded = np.pad(frame, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
        yield padded[down : down + height, right : right + width]


_Spoil = Callable[[Iterable[np.ndarray], float, int], Iterator[np.ndarray]]
_SPOILT: dict[str, _Spoil] = {"frozen": frozen, "torn": torn, "shaken": shaken}


# Boxes of an mp4 that hold others, and the tables of where the samples of a track begin.
_NESTED = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
_PLACES = {b"stco": ">u4", b"co64": ">u8"}


def _without_words(data: bytes) -> bytes:
    """Return an mp4 with its index in front, its samples behind, and nothing else."""
    found = {kind: (at, content) for kind, at, content in _boxes(data)}
    (_, brand), (_, index), (begin, samples) = (found[k] for k in (b"ftyp", b"moov", b"mdat"))
    front, behind = _box(b"ftyp", brand), _box(b"mdat", samples)
    before = len(front) + len(_box(b"moov", _without_user_data(index, 0)))
    moved = before + len(behind) - len(samples) - begin
    return front + _box(b"moov", _without_user_data(index, moved)) + behind


def _without_user_data(data: bytes, moved: int) -> bytes:
    """Return the boxes of an index for samples that were moved by so many bytes."""
    kept = []
    for kind, _, content in _boxes(data):
        if kind in _NESTED:
            content = _without_user_data(content, moved)
        elif kind in _PLACES:
            places = np.frombuffer(content, _PLACES[kind], offset=8)
            content = content[:8] + (places.astype("i8") + moved).astype(_PLACES[kind]).tobytes()
        if kind not in (b"udta", b"meta"):
            kept.append(_box(kind, content))
    return b"".join(kept)


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield the kind of each box, where its content begins, and this."""
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 16 if size == 1 else 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
        if not head <= size <= len(data) - at:
            raise ValueError("a box ends outside of what holds it")
        yield kind, at + head, data[at + head : at + size]
        at += size


def _box(kind: bytes, content: bytes) -> bytes:
    size = 8 + len(content)
    if size < 2**32:
        return struct.pack(">I4s", size, kind) + content
    return struct.pack(">I4sQ", 1, kind, size + 8) + content


def _control_path(out: Path, kind: str, made_of: str, suffix: str) -> Path:
    digest = hashlib.sha256(f"{_MADE_BY} {kind} {made_of}".encode()).hexdigest()
    return out / "controls" / f"{digest[:32]}{suffix}"


def _reference(study: Study, out: Path, name: str) -> Path:
    """Return a driving as clips show it: its square, at the study's size, in step with them."""
    driving = _input(study, study.drivings, name)
    opened, _ = open_driving(
        driving.path, name=name, size=study.size, crop=study.crop, view=driving.view
    )
    path = _control_path(out, "reference", opened.key, ".mp4")
    if not path.is_file():
        video.write_video(
            path, opened, frame_rate=opened.frame_rate, like=driving.path, like_from=opened.first
        )
    return path


def _source(study: Study, out: Path, clip: Clip) -> Path:
    """Return the picture that a clip was made from; of a reference, its own reference frame."""
    if clip.source:
        source = _input(study, (*study.sources, *study.first_frames), clip.source)
    else:
        source = _input(study, study.drivings, clip.driving)
    made_of = (
        f"{_sha256(source.path)} {study.size} {study.crop} {source.view.given() or ''}".strip()
    )
    path = _control_path(out, "source", made_of, ".png")
    if not path.is_file():
        opened, _ = open_source(
            source.path, name=source.name, size=study.size, crop=study.crop, view=source.view
        )
        video.write_image(path, opened.image)
    return path


def _input(study: Study, inputs: Iterable[Input], name: str) -> Input:
    found = next((item for item in inputs if item.name == name), None)
    if found is None:
        raise StudyError(f'{study.path} has no "{name}" any more: put it back, and go on')
    return found


def _sha256(path: Path) -> str:
    try:
        return files.sha256(path)
    except OSError as error:
        raise StudyError(f"{path} can't be read: {error.strerror}") from None
