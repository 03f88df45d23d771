"""From cells to clips: one pair, or a whole matrix where a failure is a row and never a stop."""

import contextlib
import dataclasses
import os
import sys
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any, Literal

import numpy as np

import studykit
from studykit import files
from studykit.clips.cell import (
    FilesUnseen,
    Made,
    Task,
    failed,
    make_cell,
    resources_of,
    write_clip,
)
from studykit.clips.cells import CellRow, CellTable
from studykit.clips.estimate import time_needed
from studykit.clips.executors import WorkerDied, open_executor, outcomes
from studykit.clips.progress import Meter
from studykit.clips.provenance import (
    Equipped,
    cache_keys,
    equip,
    equip_all,
    write_manifest,
)
from studykit.errors import StudyError
from studykit.media.faces import Finder
from studykit.media.paste import Whole, look_at_whole
from studykit.media.squares import check_still, frames_taken, truth_file
from studykit.media.views import BY_FACE, CropRule
from studykit.methods import create_method, weights
from studykit.methods.command import allowed, programs_of
from studykit.study.file import Cell, Input, MethodSpec, Study, load_study
from studykit.study.inputs import as_input

_PATIENCE = 20.0  # seconds
_SIZE = 256


def animate_cells(
    study: Study,
    out: Path,
    *,
    device: str = "auto",
    only: str | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    keep: Collection[str] = (),
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
    keep : collection of str
        SHA-256 of clips that are not made again, since people have rated them.

    Raises
    ------
    StudyError
        The processes or the cluster can't be had.
    """
    if scheduler:
        # Workers have other current folders.
        study, out = load_study(study.path.resolve()), out.resolve()
    cells = list(study.cells(only))
    methods = equip_all(study, device, cells, placed=not scheduler)
    _check_jobs(methods, jobs, scheduler)
    occupied = (
        f"another run (process {{holder}}) is at work in {out}: "
        "wait for it, stop it, or name another folder with --out"
    )
    # What a killed command has left running ends by itself, so it is waited for a while.
    with files.locked(out / ".running", _PATIENCE, occupied):
        table = CellTable(study, out, cache_keys(study, methods), keep)
        _animate_missing(study, methods, table, cells, out, jobs, scheduler)
        write_manifest(study, methods, out)
        return table.tidy()


def cells_held(
    study: Study,
    out: Path,
    cells: Sequence[Cell],
    *,
    device: str = "auto",
    keep: Collection[str] = (),
) -> list[tuple[Cell, str, bool]]:
    """Return each of some cells, the key of what its clip depends on, and whether its clip holds.

    Other parameters are those of :func:`animate_cells`, whose work this foretells from files and
    their hashes, without loading what computes.
    """
    methods = equip_all(study, device, cells, placed=False)
    return list(CellTable(study, out, cache_keys(study, methods), keep).cells(cells))


def say_time_needed(study: Study, out: Path) -> str:
    """Say how long the clips that are missing will take, as a run says it; "" where it is soon.

    Nothing is fetched, and no program runs that nobody has allowed: such studies have no answer.
    """
    if programs_of(study) and not allowed():
        return ""
    named = {spec.settings.get("weights") for spec in study.methods}
    if any(known.name in named and not known.cached for known in weights.status()):
        return ""
    methods = equip_all(study)
    tasks = [
        Task(cell, study.size, study.crop, methods[cell.method.name], key, out)
        for cell, key, holds in CellTable(study, out, cache_keys(study, methods)).cells()
        if not holds
    ]
    with open_executor(1, None, lambda *_: None) as executor:
        return time_needed(tasks, _frame_counts(tasks), executor.submit)


def _animate_missing(
    study: Study,
    methods: dict[str, Equipped],
    table: CellTable,
    cells: Sequence[Cell],
    out: Path,
    jobs: int,
    scheduler: str | None,
) -> None:
    missing = [(cell, key) for cell, key, holds in table.cells(cells) if not holds]
    if not missing:
        return
    run, send = uuid.uuid4().hex, False
    with contextlib.ExitStack() as stack:
        # Of workers that died, or were ended by an interrupt; nobody else makes clips here now.
        stack.callback(files.remove_partial, out / "clips", of_all=True)
        running = {cell.method.name for cell, _ in missing}
        needed = {kind for name in running for kind in resources_of(methods[name].method)}
        executor = stack.enter_context(
            open_executor(jobs, scheduler, lambda *done: meter.frame(*done), needed)
        )
        mark = Path(stack.enter_context(_marked(out)).name) if scheduler else None
        tasks = [
            Task(cell, study.size, study.crop, methods[cell.method.name], key, out, run, mark)
            for cell, key in missing
        ]
        counts = _frame_counts(tasks)
        if not scheduler and (text := time_needed(tasks, counts, executor.submit, jobs=jobs)):
            print(text, file=sys.stderr, flush=True)
        frames = sum(counts[task.cell.driving] for task in tasks)
        meter = stack.enter_context(Meter(len(tasks), frames))

        def submit(task: Task, last: BaseException | None) -> Future:
            nonlocal send
            send = send or isinstance(last, FilesUnseen)
            try:
                return executor.submit(make_cell, _with_files(task) if send else task)
            except StudyError as error:
                future: Future = Future()
                future.set_exception(error)
                return future

        for task, future in outcomes(executor, submit, tasks, again=(FilesUnseen,)):
            made = _made(task, future)
            _put_in_place(made, out)
            table.add(made.row)
            meter.end(task.cell.name, counts[task.cell.driving])


def _check_jobs(methods: dict[str, Equipped], jobs: int, scheduler: str | None) -> None:
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
    source: str | Path | Mapping[str, Any],
    driving: str | Path | Mapping[str, Any],
    clip: str | Path,
    *,
    method: str = "auto",
    size: int | None = None,
    crop: CropRule = "face",
    finder: Finder = "auto",
    faces: Literal["one", "all"] = "one",
    paste: bool = False,
    watch: Callable[[int, int, np.ndarray], None] | None = None,
    **settings: Any,
) -> CellRow:
    """Animate one source with one driving and write the clip.

    Parameters
    ----------
    source, driving : path or mapping
        An image and a video; or what a study file may say of them, such as
        ``{"path": "talk.mp4", "start": 1.5, "end": 6}``.
    clip : path
        The mp4 to write.
    method : str
        A method's name; ``settings`` are its settings. "auto", which takes none but ``enhance``, is
        :func:`usual_method`.
    size : int, optional
        Side of the clip in pixels, 256. Of a clip that is pasted: of the squares that the method
        works on, by default as large as they are in the picture where it takes any.
    crop : {"face", "face-or-centre", "centre"}
        How source and driving become squares.
    finder : {"auto", "mediapipe", "dlib"}
        What finds faces: a study's ``faces``.
    faces : {"one", "all"}
        Which faces of the source are animated: "all" are pasted into the whole picture.
    paste : bool
        Whether the clip shows the whole picture with the animated face in it
        (:mod:`studykit.media.paste`), not the square around the face.
    watch : callable, optional
        Gets, in place of a bar on the standard error, how many frames are made, how many there will
        be, and the newest of them: (H, W, 3) uint8.

    Raises
    ------
    StudyError
        An input can't be read or shows no face, or the clip can't be written. No partial clip
        is left.
    """
    clip, start = Path(clip), time.monotonic()
    task, chosen = pair_task(
        source, driving, clip, method=method, size=size, crop=crop, finder=finder, **settings
    )
    moving = task.cell.driving
    whole = _whole(task, faces, size) if paste or faces != "one" else None
    total = len(frames_taken(moving.path, moving.view))
    with contextlib.ExitStack() as stack:
        meter = None if watch else stack.enter_context(Meter(1, total))

        def seen(name: str, count: int, frame: np.ndarray) -> None:
            if watch is not None:
                watch(count, total, frame)
            elif meter is not None:
                meter.frame(name, count)

        frames, note = write_clip(task, clip, seen, whole)
    return dataclasses.replace(
        task.row(),
        cell=clip.stem,
        status="done",
        note="; ".join(filter(None, (chosen, note))),
        seconds=time.monotonic() - start,
        frames=frames,
    )


def pair_task(
    source: str | Path | Mapping[str, Any],
    driving: str | Path | Mapping[str, Any],
    clip: Path,
    *,
    method: str = "auto",
    size: int | None = None,
    crop: CropRule = "face",
    finder: Finder = "auto",
    **settings: Any,
) -> tuple[Task, str]:
    """Make the task of one pair, and say which method it is where none was named.

    Parameters are those of :func:`animate`.

    Raises
    ------
    StudyError
        What is said of an input or of the method is wrong, or the clip would replace an input.
    """
    still, moving = (
        dataclasses.replace(item, view=dataclasses.replace(item.view, finder=finder))
        for item in (as_input(source, still=True), as_input(driving, still=False))
    )
    if clip.resolve() in (still.path.resolve(), moving.path.resolve()):
        raise StudyError(f"{clip} is an input: give the clip another name")
    if len(os.fsencode(clip.name)) > files.LONGEST_NAME:
        most = f"at most {files.LONGEST_NAME} bytes fit"
        raise StudyError(f"the clip's name {clip.name[:30]}... is too long, {most}: shorten it")
    chosen = ""
    if method == "auto":
        settled = settings.keys() - {"enhance"}
        method = "fomm" if settled else usual_method(still.path, moving.path, crop)
        chosen = f"animated by {method}"
    equipped = equip(create_method(method, **settings))
    if equipped.error is not None:
        raise equipped.error
    cell = Cell(still, moving, MethodSpec(method, method, settings))
    return Task(cell, size or _SIZE, crop, equipped, "", clip.parent, uuid.uuid4().hex), chosen


def _whole(task: Task, faces: str, size: int | None) -> Whole:
    """Find what of the source's picture is animated, refusing what can't be meant."""
    still, any_square = task.cell.source, getattr(task.equipped.method, "any_square", False)
    if faces not in ("one", "all"):
        raise StudyError(f'faces must be "one" or "all", not {faces!r}')
    if getattr(task.equipped.method, "give", "") == "files":
        raise StudyError("what a program makes of whole files can't be pasted: let it give squares")
    view, every = still.view, faces == "all"
    if every and (view.face is not None or view.rule(task.crop) not in BY_FACE):
        raise StudyError(
            f"{still.path}: faces all means each one: leave out which face or square is meant"
        )
    check_still(still.path)
    side = size or (None if any_square else _SIZE)
    return look_at_whole(still.path, task.crop, view, every=every, size=side, roomy=any_square)


def usual_method(source: Path, driving: Path, crop: CropRule) -> str:
    """Return the method that animates best without weights from elsewhere.

    "fomm", on the weights that come along, knows rendered faces; what people photograph and film is
    better moved by "warp", where source and driving must show a face (docs/methods.md).
    """
    rendered = truth_file(source) is not None and truth_file(driving) is not None
    return "warp" if crop == "face" and not rendered else "fomm"


def _made(task: Task, future: Future) -> Made:
    try:
        made = future.result()
        _check_made(task, made)
        return made
    except WorkerDied as error:
        text = f"its worker died, and again with no other cell beside it: {error}"
        return failed(task.row(), StudyError(text))
    except Exception as error:
        return failed(task.row(), error)


def _check_made(task: Task, made: Made) -> None:
    """Refuse what a worker gives back for another cell, or by another version; it may name any."""
    row = made.row if isinstance(made, Made) else None
    if row is None or (row.cell, row.cache_key) != (task.cell.name, task.key):
        raise StudyError("its worker gave back something else: look at what runs there")
    if row.version != studykit.__version__:
        raise StudyError(
            f"its worker has studykit {row.version}, here it is {studykit.__version__}: install "
            "the same version there"
        )
    if row.status == "done" and made.clip is None and not (task.out / row.clip).is_file():
        raise StudyError("its worker says that it is made, but there is no clip: look at its disk")


def _with_files(task: Task) -> Task:
    """Put the files that a cell's inputs are made of into its task; weights are not sent."""
    cell, method = task.cell, task.equipped.method
    paths = [cell.source.path, cell.driving.path]
    if hasattr(method, "inputs"):
        paths += method.inputs(cell.source.name, cell.driving.name)
    try:
        sent = {path: path.read_bytes() for path in paths}
    except OSError as error:
        raise StudyError(f"{error.filename} can't be read: {error.strerror}") from None
    return dataclasses.replace(task, sent=sent)


def _put_in_place(made: Made, out: Path) -> None:
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


def _marked(out: Path) -> IO[bytes]:
    """Put a file into the folder of results, which goes when it is closed."""
    return NamedTemporaryFile(dir=out, prefix=".", suffix=f".{os.getpid()}.part")


def _frame_counts(tasks: list[Task]) -> dict[Input, int]:
    return {driving: _frame_count(driving) for driving in {task.cell.driving for task in tasks}}


def _frame_count(driving: Input) -> int:
    """Return a driving's number of frames, 0 where it can't be read (its cells then say why)."""
    try:
        return len(frames_taken(driving.path, driving.view))
    except StudyError:
        return 0
