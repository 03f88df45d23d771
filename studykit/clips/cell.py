"""One cell made into a clip, in whatever process or on whatever machine.

What stays from cell to cell in a process, the newest source's state first of all, stays here.
"""

import contextlib
import dataclasses
import gc
import hashlib
import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import studykit
from studykit import files
from studykit.clips.cells import CellRow
from studykit.clips.executors import Report
from studykit.clips.provenance import Equipped, device_of, method_settings, with_settings
from studykit.errors import MediaError, NoFaceError, StudyError, WeightsError
from studykit.media import video
from studykit.media.paste import Pasting, Whole
from studykit.media.reference import with_reference
from studykit.media.squares import check_still, open_driving, open_source
from studykit.media.views import CropRule, Driving, Source
from studykit.methods import Method
from studykit.study.file import Cell

Item = TypeVar("Item")
Result = TypeVar("Result")

_BLOCK, _CODING = 8, 3.0  # pixels a side; mean difference there, of 255

SYNTHETIC = "Synthetic: a face animation, made by studykit"
"""What each clip says of itself, in words that never differ, so that its bytes stay the same."""

_END = object()


@dataclass(frozen=True)
class Task:
    """All that is needed to make one cell.

    Attributes
    ----------
    key : str
        The cell's cache key.
    out : Path
        The folder of the study's results.
    run : str
        Names the run: within one, files and weights stay what they are.
    mark : Path, optional
        A file that the run has put beside its results: who sees it shares its folders.
    sent : dict of bytes
        For a worker that does not, what is in the inputs' files, by where they lie at the sender's;
        its clip then travels back.
    """

    cell: Cell
    size: int
    crop: CropRule
    equipped: Equipped
    key: str
    out: Path
    run: str = ""
    mark: Path | None = None
    sent: dict[Path, bytes] = field(default_factory=dict)

    @property
    def resources(self) -> dict[str, float]:
        """What a worker must have free, as :func:`resources_of` its method."""
        return resources_of(self.equipped.method)

    def row(self) -> CellRow:
        """Return the cell's row as it is before anything is done: failed, without a reason."""
        cell, equipped = self.cell, self.equipped
        return CellRow(
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
            cache_key=self.key,
            version=studykit.__version__,
        )


@dataclass(frozen=True)
class Made:
    """What became of a task.

    Attributes
    ----------
    traceback : str
        Of an error that is not the user's.
    clip : bytes or None
        The clip, where its inputs were sent.
    """

    row: CellRow
    traceback: str = ""
    clip: bytes | None = None


class FilesUnseen(Exception):
    """This process does not see the files of whoever gave the task: they must be sent."""


_one_at_a_time = threading.Lock()


def resources_of(method: Method) -> dict[str, float]:
    """Return what a cluster's worker must have free for a cell: a GPU makes one at a time."""
    return {"GPU": 1} if getattr(method, "device", "") == "gpu" else {}


def make_cell(task: Task, report: Report = lambda *_: None) -> Made:
    """Make the clip of a cell; an error becomes part of its row.

    Parameters
    ----------
    task : Task
    report : callable
        Gets the cell's name and how many of its frames are done, as often as that changes.

    Raises
    ------
    FilesUnseen
        The run's folder is not shared with this process, and nothing was sent.
    """
    if task.mark is not None and not task.sent and not _seen(task):
        raise FilesUnseen
    # A Dask worker may have several threads, but methods are not made for them.
    with _one_at_a_time:
        return _make_from_sent(task, report) if task.sent else _make(task, report)


def write_clip(
    task: Task, clip: Path, seen: Callable[[str, int, np.ndarray], None], into: Whole | None = None
) -> tuple[int, str]:
    """Animate one pair into a clip: decoding, the method and encoding at the same time.

    Parameters
    ----------
    task : Task
        Its files are read where they are named.
    clip : Path
        The mp4 to write.
    seen : callable
        Gets the cell's name, how many of its frames are done, and the newest of these.
    into : Whole, optional
        The source's whole picture: its squares are animated side by side, and pasted into it.

    Returns
    -------
    frames : int
        How many were written.
    note : str
        What a reader of the results should know, "" if nothing.

    Raises
    ------
    StudyError
        An input can't be read or shows no face, or the clip can't be written; none is left.
    """
    method, driving = task.equipped.method, task.cell.driving
    pairs, join = _opened_spots(task, into) if into else ([opened_pair(task)], itemgetter(0))
    opened = pairs[0][1]
    first: list[np.ndarray] = []  # while every frame so far is as it
    with contextlib.ExitStack() as stack:

        def animated(state: Any, opened: Driving) -> Iterator[np.ndarray]:
            def open_ahead() -> Iterator[np.ndarray]:
                return stack.enter_context(contextlib.closing(ahead(opened)))

            return method.animate(state, dataclasses.replace(opened, open_frames=open_ahead))

        def counted() -> Iterator[np.ndarray]:
            count, streams = 0, [animated(state, driving) for state, driving, _ in pairs]
            for count, frames in enumerate(zip(*streams, strict=False), start=1):
                frame = join(frames)
                if count == 1:
                    first.append(frame.copy())
                elif first and _moves(first[0], frame):
                    first.clear()
                yield frame
                seen(task.cell.name, count, frame)
            if count != opened.frame_count:
                raise MediaError(
                    f"{count} frames came out of {driving.path}, which has {opened.frame_count}: "
                    "the clip would not be in step, so it is not kept"
                )

        def write(frames: Iterator[np.ndarray]) -> int:
            return video.write_video(
                clip,
                frames,
                frame_rate=opened.frame_rate,
                like=driving.path if opened.whole else None,
                like_from=opened.first,
                notes=opened.notes,
                comment=SYNTHETIC,
            )

        frames = behind(write, counted())
        notes = [method.notes(state) for state, *_ in pairs] if hasattr(method, "notes") else []
    # What is said of a driving and of the source that is a frame of it is said once.
    said = [note for *_, each in pairs for note in (*each, *opened.notes)]
    texts = [text for note in said for text in note.split("; ")]
    if first and frames > 1 and task.cell.method.method != "copy":
        notes.append("nothing moves: the driving hardly does, or the method does not follow it")
    return frames, "; ".join(filter(None, dict.fromkeys([*texts, *notes])))


def _moves(first: np.ndarray, frame: np.ndarray) -> bool:
    """Say whether any block of a frame, (H, W, 3) uint8, differs by more than coding does."""
    height, width = (_BLOCK * (side // _BLOCK) for side in frame.shape[:2])
    apart = np.abs(frame[:height, :width].astype(np.int16) - first[:height, :width])
    blocks = apart.reshape(height // _BLOCK, _BLOCK, width // _BLOCK, -1)
    return bool((blocks.mean((1, 3)) > _CODING).any())


def _opened_spots(task: Task, whole: Whole) -> tuple[list[tuple[Any, Driving, list[str]]], Pasting]:
    """Open a picture's spots as pairs, and what pastes them; a face that can't be moved rests."""
    pairs, moving, resting, driving = [], [], [], task.cell.driving
    # What is wrong with the driving is not said of a face.
    open_driving(driving.path, name=driving.name, size=task.size, crop=task.crop, view=driving.view)
    for spot in whole.asked:
        source = dataclasses.replace(task.cell.source, view=spot.view)
        cell = dataclasses.replace(task.cell, source=source)
        try:
            pairs.append(opened_pair(dataclasses.replace(task, cell=cell, size=spot.size)))
            moving.append(spot)
        except NoFaceError:
            resting.append(spot)
    moved, left = (" ".join(spot.place for spot in spots) for spots in (moving, resting))
    if not moving:
        path = task.cell.source.path
        raise NoFaceError(f"{path}: too small or turned too far to be moved: the face at {left}")
    count = f"{len(moving)} {'face' if len(moving) == 1 else 'faces'}"
    pairs[0][2].extend([*whole.notes, f"{count} pasted into the picture, at {moved}"])
    if resting:
        pairs[0][2].append(f"left as they are, too small or turned too far: {left}")
    return pairs, Pasting(whole, moving)


def opened_pair(task: Task) -> tuple[Any, Driving, list[str]]:
    """Open a cell's driving with its reference frame, and prepare its source.

    Returns
    -------
    state : object
        Of the method, prepared for the source.
    driving : Driving
    notes : list of str
    """
    driving = task.cell.driving
    opened, driving_note = open_driving(
        driving.path, name=driving.name, size=task.size, crop=task.crop, view=driving.view
    )
    state, source, source_note = _prepared(task)
    opened, reference_note = with_reference(opened, driving.view.reference, source)
    if task.cell.protocol == "same-identity":  # the source's note says it
        reference_note = ""
    return state, opened, [source_note, driving_note, reference_note]


def failed(row: CellRow, error: Exception) -> Made:
    """Return what became of a cell that failed; an error that is not the user's has a traceback.

    What a program has printed stands in its place.
    """
    if isinstance(error, StudyError):
        log = getattr(error, "log", "")
        text = f"{error}; what it printed is in logs/{row.cell}.txt" if log else str(error)
        return Made(dataclasses.replace(row, status="failed", error=text), log)
    text = f"{type(error).__name__}: {error}; the traceback is in logs/{row.cell}.txt"
    trace = "".join(traceback.format_exception(error))
    return Made(dataclasses.replace(row, status="failed", error=text), trace)


def _make(task: Task, report: Report) -> Made:
    start, row = time.monotonic(), task.row()
    try:
        if task.equipped.error is not None:
            raise task.equipped.error
        _check_same(task)
        device = task.equipped.device or device_of(task.equipped.method)
        row = dataclasses.replace(row, device=device)
        report(row.cell, 0)
        seen = lambda name, count, _: report(name, count)  # noqa: E731
        frames, note = write_clip(task, task.out / row.clip, seen)
        made = Made(dataclasses.replace(row, status="done", frames=frames, note=note))
    except Exception as error:
        made = failed(row, error)
    # PyAV's decoders, each with a thread for every core of the host, hang in reference cycles.
    gc.collect(1)
    seconds = time.monotonic() - start
    return dataclasses.replace(made, row=dataclasses.replace(made.row, seconds=seconds))


def _check_same(task: Task) -> None:
    """Refuse other weights or programs than those of the plan; a cluster's may differ."""
    equipped, method = task.equipped, task.equipped.method
    if equipped.weights_hash and method.weights_hash() != equipped.weights_hash:
        raise WeightsError(
            f"the weights {equipped.weights} are not the same file here and where the run was "
            "started: put the same file in both places"
        )
    if task.mark and equipped.version and (here := method.version_used()) != equipped.version:
        raise StudyError(
            f"the program's version is {here} here and {equipped.version} where the run was "
            "started: install the same in both places"
        )


# The newest source's state, since all drivings of a source come one after the other; by thread,
# because what a method prepares in one may not serve it in another.
_newest = threading.local()


def _prepared(task: Task) -> tuple[Any, Source, str]:
    source, method = task.cell.source, task.equipped.method
    key = (task.run, task.equipped, source, task.size, task.crop)
    if key != getattr(_newest, "key", None):
        _newest.key = _newest.prepared = None  # so that two states are never held
        if task.cell.protocol != "same-identity":
            check_still(source.path)
        opened, note = open_source(
            source.path, name=source.name, size=task.size, crop=task.crop, view=source.view
        )
        _newest.prepared, _newest.key = (method.prepare(opened), opened, note), key
    return _newest.prepared


def _seen(task: Task) -> bool:
    paths = (task.mark, task.cell.source.path, task.cell.driving.path)
    return all(path.is_file() for path in paths)


def _make_from_sent(task: Task, report: Report) -> Made:
    """Make a cell of files that came with the task, and return the clip itself."""
    here = {there: _unpacked(there.name, data) for there, data in task.sent.items()}
    source, driving = (
        dataclasses.replace(item, path=here.get(item.path, item.path))
        for item in (task.cell.source, task.cell.driving)
    )
    local = dataclasses.replace(
        task,
        cell=dataclasses.replace(task.cell, source=source, driving=driving),
        equipped=_reading_from(task.equipped, here),
        out=_folder(),
    )
    made = _make(local, report)
    error = made.row.error
    for there, path in here.items():
        error = error.replace(str(path), str(there))
    row = dataclasses.replace(made.row, error=error)
    if row.status == "failed":
        return dataclasses.replace(made, row=row)
    clip = local.out / row.clip
    data = clip.read_bytes()
    clip.unlink()
    return dataclasses.replace(made, row=row, clip=data)


_KEPT_FILES = 32
_received: dict[Path, None] = {}  # the newest last


def _unpacked(name: str, data: bytes) -> Path:
    """Return where a file that was sent lies, always the same place for the same content."""
    path = _folder() / "inputs" / hashlib.sha256(data).hexdigest()[:32] / name
    if not path.is_file():
        with files.whole(path) as part:
            part.write_bytes(data)
    _received.pop(path, None)
    _received[path] = None
    while len(_received) > _KEPT_FILES:
        oldest = next(iter(_received))
        del _received[oldest]
        oldest.unlink(missing_ok=True)
    return path


def _folder() -> Path:
    """Return this worker's own folder, which Dask removes with it."""
    from distributed import get_worker

    return Path(get_worker().local_directory) / "studykit"


def _reading_from(equipped: Equipped, here: dict[Path, Path]) -> Equipped:
    """Point a method's settings to where its files, or the folder that holds one, lie here."""
    moved = {str(there): str(path) for there, path in here.items()}
    moved |= {str(there.parent): str(path.parent) for there, path in here.items()}
    changes = {
        name: moved[value]
        for name, value in method_settings(equipped.method).items()
        if isinstance(value, str) and value in moved and name != "cwd"  # no file of ours
    }
    return dataclasses.replace(equipped, method=with_settings(equipped.method, **changes))


def ahead(items: Iterable[Item], depth: int = 4) -> Iterator[Item]:
    """Yield the items, which a thread of their own takes from ``items`` up to ``depth`` ahead.

    An error of ``items`` is raised where the item would have been. When this generator ends or is
    closed, ``items`` is closed too and the thread is gone.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="studykit-ahead") as thread:
        waiting = deque(thread.submit(next, source, _END) for _ in range(depth))
        try:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(thread.submit(next, source, _END))
                yield item
        finally:
            for future in waiting:
                future.cancel()
            if hasattr(source, "close"):
                thread.submit(source.close).result()


def behind(
    consume: Callable[[Iterator[Item]], Result], items: Iterable[Item], depth: int = 4
) -> Result:
    """Return ``consume(items)``, where a thread consumes what is computed here, ``depth`` behind.

    An error of ``items`` is raised inside ``consume`` as well, so that it can clean up; one of
    ``consume`` stops ``items``, which are closed. Either is raised here, with the thread gone.
    """
    handed: queue.SimpleQueue = queue.SimpleQueue()
    failure: BaseException | None = None
    free, ended = threading.Semaphore(depth), threading.Event()

    def received() -> Iterator[Item]:
        while (item := handed.get()) is not _END:
            yield item
            free.release()
        if failure is not None:
            raise failure

    def consumed() -> Result:
        try:
            return consume(received())
        finally:
            ended.set()
            free.release()

    source = iter(items)
    closing = contextlib.closing(source) if hasattr(source, "close") else contextlib.nullcontext()
    with ThreadPoolExecutor(1, thread_name_prefix="studykit-behind") as thread, closing:
        result = thread.submit(consumed)
        try:
            for item in source:
                free.acquire()
                if ended.is_set():
                    break
                handed.put(item)
            handed.put(_END)
        except BaseException as error:
            failure = error
            handed.put(_END)
            result.exception()  # wait until it has cleaned up
            raise
        return result.result()
