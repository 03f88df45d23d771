"""From a study file to a report: Papermill executes the notebooks, which do all of the work.

What a notebook calls stands here too: make the clips, measure them, rehearse their rating. The
process that executes notebooks only decides, from files and their hashes, whether there is
anything to be done; it never loads what computes.
"""

import asyncio
import hashlib
import logging
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from studykit import files, machine, stats
from studykit.cache import code_hash
from studykit.clips.animate import animate_cells, cells_held
from studykit.clips.cells import CellRow, read_cells
from studykit.clips.folder import study_folder
from studykit.errors import StudyError, StudyFileError, did_you_mean
from studykit.ratings.store import Rated, open_store, place_to_write, what_is_rated
from studykit.report import load_results, page_key, write_page
from studykit.study.file import Cell, Study, load_study
from studykit.study.hypotheses import FROZEN

_GRACE_SECONDS = 20  # for a kernel to remove what is half-made
NOTEBOOKS = ("1_inputs", "2_animate", "4_report")
# Fewer are measured sooner than one more process has loaded what measures.
_FRAMES_A_PROCESS = 200


def run_study(
    path: str | Path,
    *,
    out: str | Path | None = None,
    device: str = "auto",
    only: str | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    remake: bool = False,
) -> Path:
    """Run a study end to end and return the path of its report.

    What an earlier run has made and still holds is kept: a killed run goes on, a finished one is
    left alone, and a changed input, setting, weight or method makes just its own cells again.

    Parameters
    ----------
    path : path
        The study file.
    out : path, optional
        Where the results go; ``reports/<name>`` in the current folder by default.
    device : {"auto", "cpu", "gpu"}
        Where methods compute that can choose.
    only : str, optional
        A method's or a cell's name: nothing else is run.
    jobs : int
        How many processes of this machine make cells; its threads are divided among them.
    scheduler : str, optional
        The address of a Dask scheduler whose workers make them instead.
    remake : bool
        Whether clips that people have rated are made again too, where what they depend on has
        changed; their ratings then stand for clips that are gone.

    Raises
    ------
    StudyError
        The study file is wrong, its folder can't be written, or a notebook failed.
    """
    study = load_study(path)
    cells, out = list(study.cells(only)), study.results_folder(out)
    stats.check_plan(study)
    rated = what_is_rated(study, out)
    held = cells_held(study, out, cells, device=device, keep=() if remake else rated.clips)
    report = out / "report.html"
    if all(holds for *_, holds in held) and page_key(report) == _key(study, out, held, rated):
        return report
    files.remove_partial(study_folder(study, out))
    parameters = {"study": str(study.path.resolve()), "out": str(out.resolve())}
    places = {"device": device, "jobs": jobs, "scheduler": scheduler or ""}
    with _Kernel() as kernel:
        kernel.execute("1_inputs", out / "notebooks", **parameters)
        kernel.execute(
            "2_animate", out / "notebooks", **parameters, **places, only=only or "", remake=remake
        )
        return _report_by(kernel, study, out, _key(study, out, held, what_is_rated(study, out)))


def make_clips(
    study: Study, out: Path, *, only: str | None = None, remake: bool = False, **places: Any
) -> list[CellRow]:
    """Make the clips that are missing or no longer hold, but none that people have rated.

    Parameters
    ----------
    study, out, only, places
        As :func:`studykit.clips.animate.animate_cells` takes them.
    remake : bool
        Whether rated clips are made again too.
    """
    keep = () if remake else what_is_rated(study, out).clips
    return animate_cells(study, out, only=only, keep=keep, **places)


def measure_clips(study: Study, out: Path, *, only: str | None = None) -> None:
    """Measure the clips that have no measurement yet, on as many cores as they are worth."""
    from tqdm import tqdm

    from studykit.metrics import measure_study

    clips = sum(1 for _ in study.cells(only))
    frames = sum(row.frames for row in read_cells(out / "cells.csv").values())
    jobs = min(machine.threads(), 1 + frames // _FRAMES_A_PROCESS)
    with tqdm(total=clips, unit="clip", desc="measuring", dynamic_ncols=True) as bar:
        measure_study(study, out, jobs=jobs, only=only, report=lambda _: bar.update())


def rehearse(study: Study, out: Path) -> None:
    """Simulate the raters that a study file asks for, into a store apart from people's."""
    wanted = study.ratings.simulated_raters
    if not wanted:
        return
    from studykit.ratings.simulate import simulate_into

    with open_store(place_to_write(study, out, simulated=True)) as store:
        missing = wanted - store.ratings(study.name)["rater"].nunique()
        if missing > 0:
            simulate_into(store, study, missing, seed=study.seed)


def write_report(study: Study, out: Path) -> Path:
    """Make the report of what is in a study's folder, by hand, and return its path."""
    with _Kernel() as kernel:
        return _report_by(kernel, study, out, key="")


def archive_study(
    path: str | Path, archive: str | Path | None = None, *, out: str | Path | None = None
) -> Path:
    """Make the report again, of all ratings that there are, and one zip of it all to publish.

    Parameters
    ----------
    path : path
        The study file.
    archive : path, optional
        The zip, as :func:`studykit.report.archive.write_archive` names it by default.
    out : path, optional
        The folder of the results; ``reports/<name>`` in the current folder by default.

    Raises
    ------
    StudyError
        Nothing was run yet, or not to the end, or as :func:`studykit.report.archive.write_archive`.
    """
    from studykit.report.archive import archive_path, write_archive

    study = load_study(path)
    out = study.results_folder(out)
    if not read_cells(out / "cells.csv"):
        raise StudyError(f"there are no clips in {out}: studykit run {study.path} --out {out}")
    results = load_results(path, out)
    if not results.manifest:
        raise StudyError(f"the run in {out} is not finished: studykit run {study.path} --out {out}")
    archive_path(results, archive)  # what is wrong with the name is said at once
    write_report(study, out)
    return write_archive(load_results(path, out), archive)


def execute_notebook(name: str, folder: Path, **parameters: Any) -> Path:
    """Execute one of studykit's notebooks with Papermill and return the executed copy.

    Raises
    ------
    StudyFileError
        The notebook has no parameter of such a name (Papermill itself lets it pass).
    StudyError
        It failed; the executed copy shows where.
    """
    with _Kernel() as kernel:
        return kernel.execute(name, folder, **parameters)


def _report_by(kernel: "_Kernel", study: Study, out: Path, key: str) -> Path:
    """Make the report; ``key`` names the run that it shows, "" for one that was made by hand."""
    parameters = {"study": str(study.path.resolve()), "out": str(out.resolve())}
    executed = kernel.execute("4_report", out / "notebooks", **parameters)
    report = out / "report.html"
    with _Terminal("report.html"):
        write_page(executed, report, title=study.name, key=key)
    return report


class _Kernel:
    """One kernel in which notebooks are executed after each other, none seeing another's names.

    To start a kernel, and to import there what all notebooks need, takes longer than a small
    study's work.
    """

    def __init__(self) -> None:
        from jupyter_client.manager import AsyncKernelManager

        # Paddle, once imported, prints whatever is logged anywhere.
        logging.getLogger("papermill").setLevel(logging.WARNING)
        self._manager: Any = AsyncKernelManager(kernel_name="python3")
        # In the main thread Papermill's client would answer signals by itself, and report that its
        # kernel has died.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="studykit-notebook")

    def __enter__(self) -> "_Kernel":
        return self

    def __exit__(self, *_: object) -> None:
        with self._thread as thread:
            thread.submit(asyncio.run, self._ended()).result()

    def execute(self, name: str, folder: Path, **parameters: Any) -> Path:
        """Execute a notebook as :func:`execute_notebook` does."""
        import papermill
        from nbclient.exceptions import DeadKernelError

        path, executed = files.notebook_path(name), folder / f"{name}.ipynb"
        known = papermill.inspect_notebook(str(path))
        for key in parameters:
            if key not in known:
                raise StudyFileError(
                    f'notebook {name} has no parameter "{key}": {did_you_mean(key, known)}'
                )
        failure = None
        with files.whole(executed) as part, _Terminal(f"notebook {name}") as terminal:
            try:
                self._interruptible(
                    papermill.execute_notebook,
                    str(path),
                    str(part),
                    parameters,
                    engine_name=_engine(),
                    request_save_on_cell_execute=False,  # nobody reads it before it is whole
                    kernel_name="python3",
                    progress_bar=False,
                    stderr_file=terminal,
                    manager=self._manager,
                )
            except papermill.PapermillExecutionError as error:
                failure = StudyError(
                    f"notebook {name} failed: {error.ename}: {error.evalue}; see {executed}"
                )
            except DeadKernelError:
                raise StudyError(
                    f"the kernel of notebook {name} died, perhaps because memory ran out: "
                    "free some and run the same command, which goes on where it stopped"
                ) from None
        if failure is not None:
            raise failure
        return executed

    def _interruptible(self, execute: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Execute a notebook so that what stops this process first lets its kernel clean up."""
        executed = self._thread.submit(execute, *arguments, **options)
        try:
            while not wait([executed], 1).done:
                pass
        except BaseException:
            asyncio.run(self._manager.interrupt_kernel())
            if not wait([executed], _GRACE_SECONDS).done:
                kill = getattr(signal, "SIGKILL", signal.SIGTERM)
                asyncio.run(self._manager.signal_kernel(kill))
            raise
        executed.result()

    async def _ended(self) -> None:
        try:
            if await self._manager.is_alive():
                # Nothing is left to do there, and Paddle would print what a polite end looks like.
                await self._manager.shutdown_kernel(now=True)
        finally:
            await self._manager.cleanup_resources()


class _Terminal:
    """The line of the terminal on which a run is seen: its step, and the bar that its kernel draws.

    Papermill writes to it what the kernel writes to its standard error. A second that brings
    nothing shows the step's seconds.
    """

    def __init__(self, step: str) -> None:
        self._step, self._bar, self._since = step, "", time.monotonic()
        self._half, self._shown = "", ""
        self._done, self._lock = threading.Event(), threading.RLock()
        self._clock = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> "_Terminal":
        self._clock.start()
        self._tell()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._clock.join()
        self._show("")
        sys.stderr.write("\r")

    def begin(self, step: str) -> None:
        """Say which step begins."""
        self._step, self._bar, self._since = step, "", time.monotonic()
        self._tell()

    def write(self, text: str) -> None:
        """Take what a kernel has written: lines that stay, or a bar that begins with a return."""
        *whole, last = (self._half + text).split("\n")
        with self._lock:
            for line in whole:
                self._bar = ""
                if "\r" not in line and line.strip():
                    self._show("")
                    sys.stderr.write(f"\r{line}\n")
            self._half = "" if "\r" in last else last
            self._bar = last.rpartition("\r")[2].strip() or self._bar
            self._tell()

    def flush(self) -> None:
        sys.stderr.flush()

    def _tick(self) -> None:
        while not self._done.wait(1):
            self._tell()

    def _tell(self) -> None:
        seconds = time.monotonic() - self._since
        self._show(self._bar or f"{self._step} {seconds:.0f} s")

    def _show(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        with self._lock:
            sys.stderr.write(f"\r{text[:width]:<{len(self._shown)}}")
            sys.stderr.flush()
            self._shown = text[:width]


def _engine() -> str:
    """Make known to Papermill an engine that says which section of a notebook is at hand."""
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import Engine, papermill_engines

    class InTurn(Engine):
        @classmethod
        def execute_managed_notebook(
            cls, nb_man: Any, kernel_name: str, *, manager: Any, stderr_file: _Terminal, **_: Any
        ) -> None:
            start = nb_man.cell_start

            def cell_start(cell: Any, index: int, **others: Any) -> None:
                if cell.cell_type == "markdown" and cell.source.startswith("#"):
                    stderr_file.begin(cell.source.splitlines()[0].strip("# "))
                start(cell, index, **others)

            nb_man.cell_start = cell_start
            client = PapermillNotebookClient(
                nb_man,
                km=manager,
                kernel_name=kernel_name,
                stderr_file=stderr_file,
                coalesce_streams=True,  # of a bar, its last state
                extra_arguments=[
                    "--log-level=CRITICAL",  # ipykernel 7 warns of TCP at each start
                    # Looking for garbage among what is imported takes a sixth of a start.
                    "--IPKernelApp.exec_lines=import gc; gc.set_threshold(50_000)",
                ],
            )
            try:
                client.execute()
                # Without __spec__ no process could be started there.
                forget = "get_ipython().reset(); __spec__ = None"
                client.wait_for_reply(client.kc.execute(forget, silent=True))
            finally:
                if client.kc is not None:
                    client.kc.stop_channels()

    papermill_engines.register("studykit", InTurn)
    return "studykit"


def _key(study: Study, out: Path, cells: list[tuple[Cell, str, bool]], rated: Rated) -> str:
    """Return the key of the report of clips with these keys, and of the ratings that there are."""
    parts = [
        study.path.read_text(encoding="utf-8"),
        *(files.sha256(files.notebook_path(name)) for name in NOTEBOOKS),
        code_hash("studykit.report"),
        *(f"{cell.name} {key}" for cell, key, _ in cells),
        rated.state,
        *(files.sha256(plan) for plan in (out / FROZEN,) if plan.is_file()),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
