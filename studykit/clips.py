"""From cells to clips: one pair, or a whole matrix where a failure is a row and never a stop."""

import dataclasses
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from studykit import media
from studykit.cells import CellRow, append, read_cells, rewrite
from studykit.errors import MediaError, StudyError
from studykit.inputs import open_driving, open_source
from studykit.methods import Method, create_method
from studykit.progress import Meter
from studykit.provenance import Equipped, cache_key, clip_holds, equip, equip_all
from studykit.study import Cell, CropRule, Input, Study, slug


def animate_cells(
    study: Study, out: Path, *, device: str = "auto", only: str | None = None
) -> list[CellRow]:
    """Make the clip of every cell that has none yet, and return all rows in the study's order.

    A cell that fails becomes a row with its error; an error that is not the user's leaves its
    traceback in ``logs/<cell>.txt``.
    """
    methods = equip_all(study, device)
    table = out / "cells.csv"
    known = read_cells(table)
    todo = []
    for cell in study.cells(only):
        key = cache_key(cell, study, methods[cell.method.name])
        if not clip_holds(known.get(cell.name), key, out):
            todo.append((cell, key, _frame_count(cell.driving)))
    prepared = _Prepared()
    with Meter(len(todo), sum(frames for _, _, frames in todo)) as meter:
        for cell, key, frames in todo:
            meter.start(cell.name)
            equipped = methods[cell.method.name]
            row = _animate_cell(cell, study, equipped, key, out, prepared, meter)
            append(table, row)
            known[cell.name] = row
            meter.end(frames)
    rows = [known[cell.name] for cell in study.cells() if cell.name in known]
    rewrite(table, rows)
    return rows


def animate(
    source: str | Path,
    driving: str | Path,
    clip: str | Path,
    *,
    method: str = "fomm",
    size: int = 256,
    crop: CropRule = "face",
    **settings: Any,
) -> CellRow:
    """Animate one source with one driving and write the clip.

    Parameters
    ----------
    source, driving, clip : path
        An image, a video, and the mp4 to write.
    method : str
        A method's name; ``settings`` are its settings.
    size : int
        Side of the clip in pixels.
    crop : {"face", "face-or-centre", "centre"}
        How source and driving become squares.

    Raises
    ------
    StudyError
        An input can't be read or shows no face, or the clip can't be written. No partial clip
        is left.
    """
    still, moving = (Input(slug(Path(path).stem), "", Path(path)) for path in (source, driving))
    equipped, start = equip(create_method(method, **settings)), time.monotonic()
    if equipped.error is not None:
        raise equipped.error
    with Meter(1, media.probe(driving).frame_count) as meter:
        frames, note = _animate(
            equipped.method, still, moving, Path(clip), size, crop, _Prepared(), meter
        )
    return CellRow(
        cell=Path(clip).stem,
        source=still.name,
        source_type=still.type,
        driving=moving.name,
        driving_type=moving.type,
        method=method,
        status="done",
        note=note,
        seconds=time.monotonic() - start,
        frames=frames,
        device=equipped.device,
        weights=equipped.weights,
        weights_hash=equipped.weights_hash,
    )


class _Prepared:
    """The newest source's state, since all drivings of a source come one after the other."""

    def __init__(self) -> None:
        self._key: tuple | None = None
        self._state: Any = None

    def get(self, method: Method, source: Input, size: int, crop: CropRule) -> tuple[Any, str]:
        key = (id(method), source.path, size, crop)
        if key != self._key:
            opened, note = open_source(source.path, name=source.name, size=size, crop=crop)
            self._state, self._key = (method.prepare(opened), note), key
        return self._state


def _animate_cell(
    cell: Cell,
    study: Study,
    equipped: Equipped,
    key: str,
    out: Path,
    prepared: _Prepared,
    meter: Meter,
) -> CellRow:
    start = time.monotonic()
    row = CellRow(
        cell=cell.name,
        source=cell.source.name,
        source_type=cell.source.type,
        driving=cell.driving.name,
        driving_type=cell.driving.type,
        method=cell.method.name,
        status="failed",
        device=equipped.device,
        weights=equipped.weights,
        weights_hash=equipped.weights_hash,
        cache_key=key,
    )
    clip, log = out / row.clip, out / "logs" / f"{cell.name}.txt"
    try:
        if equipped.error is not None:
            raise equipped.error
        frames, note = _animate(
            equipped.method,
            cell.source,
            cell.driving,
            clip,
            study.size,
            study.crop,
            prepared,
            meter,
        )
        row = dataclasses.replace(row, status="done", frames=frames, note=note)
        log.unlink(missing_ok=True)
    except StudyError as error:
        row = dataclasses.replace(row, error=str(error))
    except Exception as error:
        log.parent.mkdir(exist_ok=True)
        log.write_text(traceback.format_exc(), encoding="utf-8")
        text = f"{type(error).__name__}: {error}; the traceback is in logs/{log.name}"
        row = dataclasses.replace(row, error=text)
    if row.status == "failed":
        clip.unlink(missing_ok=True)  # an older clip would be of other inputs or settings
    return dataclasses.replace(row, seconds=time.monotonic() - start)


def _animate(
    method: Method,
    source: Input,
    driving: Input,
    clip: Path,
    size: int,
    crop: CropRule,
    prepared: _Prepared,
    meter: Meter,
) -> tuple[int, str]:
    opened, driving_note = open_driving(driving.path, name=driving.name, size=size, crop=crop)
    state, source_note = prepared.get(method, source, size, crop)

    def counted() -> Iterator[np.ndarray]:
        count = 0
        for count, frame in enumerate(method.animate(state, opened), start=1):
            yield frame
            meter.frame(count)
        if count != opened.frame_count:
            raise MediaError(
                f"{count} frames came out of {driving.path}, which has {opened.frame_count}: "
                "the clip would not be in step, so it is not kept"
            )

    frames = media.write_video(clip, counted(), frame_rate=opened.frame_rate, like=driving.path)
    return frames, "; ".join(filter(None, (source_note, driving_note)))


def _frame_count(driving: Input) -> int:
    """Return a driving's number of frames, 0 where it can't be read (its cells then say why)."""
    try:
        return media.probe(driving.path).frame_count
    except StudyError:
        return 0
