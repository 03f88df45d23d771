"""From cells to clips: one pair, or a whole matrix where a failure is a row and never a stop."""

import contextlib
import dataclasses
import os
import time
import uuid
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from pathlib import Path
from typing import Any

from studykit import files
from studykit.clips.cell import (
    FilesUnseen,
    Made,
    Sent,
    Task,
    failed,
    make_cell,
    resources_of,
    write_clip,
)
from studykit.clips.cells import CellRow, CellTable
from studykit.clips.executors import WorkerDied, open_executor
from studykit.clips.progress import Meter
from studykit.clips.provenance import Equipped, equip, equip_all
from studykit.errors import StudyError
from studykit.media import video
from studykit.media.squares import CropRule
from studykit.methods import create_method
from studykit.study.file import Cell, Input, MethodSpec, Study, load_study, slug

_PATIENCE = 20.0  # seconds


def animate_cells(
    study: Study,
    out: Path,
    *,
    device: str = "auto",
    only: str | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
) -> list[CellRow]:
    """Make the clip of every cell that has none yet, and return all rows in the study's order.

    A cell that fails becomes a row with its error; an error that is not the user's leaves its
    traceback in ``logs/<cell>.txt``. So does a cell whose worker died twice.

    Parameters
    ----------
    study : Study
    out : Path
        The folder of its results, as :func:`studykit.clips.folder.study_folder` makes it.
    device : {"auto", "cpu", "gpu"}
        Where methods compute that can choose.
    only : str, optional
        A method's or a cell's name: nothing else is made.
    jobs : int
        How many processes of this machine make cells; its threads are divided among them.
    scheduler : str, optional
        The address of a Dask scheduler whose workers make them instead.

    Raises
    ------
    StudyError
        The processes or the cluster can't be had.
    """
    if scheduler:
        # Workers have other current folders.
        study, out = load_study(study.path.resolve()), out.resolve()
    methods = equip_all(study, device, only=only, placed=not scheduler)
    check_jobs(methods, jobs, scheduler)
    with _alone(out):
        return _animate_planned(study, methods, out, only, jobs, scheduler)


def _animate_planned(
    study: Study,
    methods: dict[str, Equipped],
    out: Path,
    only: str | None,
    jobs: int,
    scheduler: str | None,
) -> list[CellRow]:
    table = CellTable(study, methods, out)
    counts: dict[Path, int] = {}
    cells = frames = 0
    for cell, _, holds in table.cells(only):
        if not holds:
            cells += 1
            frames += _frame_count(cell.driving, counts)
    if not cells:
        return table.tidy()
    run = uuid.uuid4().hex
    with contextlib.ExitStack() as stack:
        meter = stack.enter_context(Meter(cells, frames))
        running = {cell.method.name for cell in study.cells(only)}
        needed = {kind for name in running for kind in resources_of(methods[name].method)}
        executor = stack.enter_context(open_executor(jobs, scheduler, meter.frame, needed))
        mark = stack.enter_context(_mark(out)) if scheduler else None
        tasks = (
            Task(cell, study.size, study.crop, methods[cell.method.name], key, out, run, mark)
            for cell, key, holds in table.cells(only)
            if not holds
        )
        for task, made in _made(executor, tasks):
            _keep(made, out)
            table.add(made.row)
            meter.end(task.cell.name, _frame_count(task.cell.driving, counts))
    files.remove_partial(out / "clips")  # of workers that died
    return table.tidy()


def check_jobs(methods: dict[str, Equipped], jobs: int, scheduler: str | None) -> None:
    """Refuse a number of processes that makes no sense, such as several on one GPU."""
    if jobs < 1:
        raise StudyError(f"jobs must be at least 1, not {jobs}")
    if scheduler and jobs > 1:
        raise StudyError("a cluster's workers set the number of jobs: leave --jobs out")
    for name, equipped in methods.items():
        if jobs > 1 and equipped.device.startswith("gpu"):
            raise StudyError(
                f"method {name} computes on {equipped.device}, which makes one cell at a time: "
                "leave --jobs out, or run the other methods first with --only METHOD --jobs N"
            )


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
    clip, start = Path(clip), time.monotonic()
    if clip.resolve() in (Path(source).resolve(), Path(driving).resolve()):
        raise StudyError(f"{clip} is an input: give the clip another name")
    still, moving = (Input(slug(Path(path).stem), "", Path(path)) for path in (source, driving))
    equipped = equip(create_method(method, **settings))
    if equipped.error is not None:
        raise equipped.error
    cell = Cell(still, moving, MethodSpec(method, method, settings))
    task = Task(cell, size, crop, equipped, key="", out=clip.parent, run=uuid.uuid4().hex)
    with Meter(1, video.probe(driving).frame_count) as meter:
        frames, note = write_clip(task, clip, meter.frame)
    return dataclasses.replace(
        task.row(),
        cell=clip.stem,
        status="done",
        note=note,
        seconds=time.monotonic() - start,
        frames=frames,
    )


def _made(executor: Executor, tasks: Iterator[Task]) -> Iterator[tuple[Task, Made]]:
    """Yield what becomes of each task, as it is finished, with few of them under way.

    A cell whose worker died is tried again with no other beside it: so it is known whether it was
    that cell's doing, and one that has filled the memory gets all of it.
    """
    running: dict[Future, Task] = {}
    suspects: deque[Task] = deque()
    alone: Task | None = None
    send = False
    while True:
        while not suspects and alone is None and len(running) < executor.room:
            task = next(tasks, None)
            if task is None:
                break
            running[_submit(executor, task, send)] = task
        if suspects and not running:
            alone = suspects.popleft()
            running[_submit(executor, alone, send)] = alone
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            task = running.pop(future)
            try:
                made = future.result()
            except FilesUnseen:
                send = True
                running[_submit(executor, task, send)] = task
                continue
            except WorkerDied as error:
                if task is not alone:
                    suspects.append(task)
                    continue
                text = f"its worker died, and again with no other cell beside it: {error}"
                made = failed(task.row(), StudyError(text))
            except Exception as error:
                made = failed(task.row(), error)
            if task is alone:
                alone = None
            yield task, made


def _submit(executor: Executor, task: Task, send: bool) -> Future:
    try:
        return executor.submit(make_cell, _with_files(task) if send else task)
    except StudyError as error:
        future: Future = Future()
        future.set_exception(error)
        return future


def _with_files(task: Task) -> Task:
    """Put the files that a cell's inputs are made of into its task; weights are not sent."""
    cell, method = task.cell, task.equipped.method
    paths = [cell.source.path, cell.driving.path]
    if hasattr(method, "inputs"):
        paths += method.inputs(cell.source.name, cell.driving.name)
    try:
        sent = tuple(Sent(path, path.read_bytes()) for path in paths)
    except OSError as error:
        raise StudyError(f"{error.filename} can't be read: {error.strerror}") from None
    return dataclasses.replace(task, sent=sent)


def _keep(made: Made, out: Path) -> None:
    """Put beside a row what belongs to it, and remove what belonged to its last."""
    clip, log = out / made.row.clip, out / "logs" / f"{made.row.cell}.txt"
    if made.clip is not None:
        with files.whole(clip) as part:
            part.write_bytes(made.clip)
    if made.row.status == "failed":
        clip.unlink(missing_ok=True)  # an older clip would be of other inputs or settings
    if made.traceback:
        log.parent.mkdir(exist_ok=True)
        log.write_text(made.traceback, encoding="utf-8")
    else:
        log.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Refuse to work beside another run of this machine in the same folder.

    The run that a killed command has left behind ends by itself, so it is waited for a while.
    """
    import psutil

    lock, mine = out / ".running", out / f".running.{os.getpid()}.part"
    deadline = time.monotonic() + _PATIENCE
    out.mkdir(parents=True, exist_ok=True)
    mine.write_text(str(os.getpid()))
    try:
        while True:
            try:
                os.link(mine, lock)  # there at once with what is in it, or not at all
                break
            except FileExistsError:
                with contextlib.suppress(FileNotFoundError):
                    holder = int(lock.read_text())
                    if not psutil.pid_exists(holder):
                        lock.unlink()
                    elif time.monotonic() > deadline:
                        raise StudyError(
                            f"another run (process {holder}) is at work in {out}: "
                            "wait for it, stop it, or name another folder with --out"
                        ) from None
                time.sleep(0.1)
    finally:
        mine.unlink(missing_ok=True)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


@contextlib.contextmanager
def _mark(out: Path) -> Iterator[Path]:
    """Put a file into the folder of results for as long as the run takes."""
    mark = out / f".{uuid.uuid4().hex}.{os.getpid()}.part"
    mark.touch()
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


def _frame_count(driving: Input, known: dict[Path, int]) -> int:
    """Return a driving's number of frames, 0 where it can't be read (its cells then say why)."""
    if driving.path not in known:
        try:
            known[driving.path] = video.probe(driving.path).frame_count
        except StudyError:
            known[driving.path] = 0
    return known[driving.path]
