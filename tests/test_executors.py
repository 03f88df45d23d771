"""Processes and clusters make the clips of a serial run, and a worker that dies loses nothing."""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from studykit import methods
from studykit.clips import animate, executors
from studykit.clips.animate import animate_cells
from studykit.clips.cell import Made
from studykit.clips.cells import CellRow, read_cells
from studykit.clips.executors import SerialExecutor, WorkerDied, open_executor
from studykit.clips.folder import study_folder
from studykit.errors import StudyError
from studykit.media.views import Driving, Source
from studykit.methods import register
from studykit.study.file import Study, load_study


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal threads everywhere, and workers that find this file's methods."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))


@pytest.fixture
def study(small_study: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Study]:
    """The small study on other methods, of this file too."""
    for name in ("copy", "folder", "warp"):
        methods.method_class(name)  # registered for good, not for this test
    monkeypatch.setattr(methods, "_REGISTRY", dict(methods._REGISTRY))
    register("deadly")(Deadly)
    register("slow")(Slow)
    register("placed")(Placed)

    def load(names: str = "[copy]") -> Study:
        small_study.write_text(small_study.read_text().replace("[copy]", names))
        return load_study(small_study)

    return load


@dataclass(frozen=True)
class Deadly:
    """Kills the process that it is in: each time, or where a file is, which it then removes."""

    once: str = ""

    def prepare(self, source: Source) -> Source:
        return source

    def animate(self, state: Source, driving: Driving) -> Iterator[np.ndarray]:
        if self.once:
            if Path(self.once).exists():
                Path(self.once).unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        elif (state.name, driving.name) == ("anna", "turn"):
            os.kill(os.getpid(), signal.SIGKILL)
        for _ in driving:
            yield state.image


@dataclass(frozen=True)
class Slow:
    """Waits before each frame, and leaves a file that tells which process it is in."""

    folder: str

    def prepare(self, source: Source) -> Source:
        return source

    def animate(self, state: Source, driving: Driving) -> Iterator[np.ndarray]:
        (Path(self.folder) / str(os.getpid())).touch()
        for _ in driving:
            time.sleep(0.1)
            yield state.image


@dataclass(frozen=True)
class Placed:
    """Says that it computes where it is told to."""

    device: str = "auto"

    def device_used(self) -> str:
        return f"{self.device}:0"

    def prepare(self, source: Source) -> np.ndarray:
        return source.image

    def animate(self, state: np.ndarray, driving: Driving) -> Iterator[np.ndarray]:
        return (state for _ in driving)


def clips_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "clips").iterdir()}


def make(study: Study, name: str, **places: object) -> tuple[list[CellRow], Path]:
    out = study_folder(study, study.path.parent / name)
    return animate_cells(study, out, **places), out


def outcome(rows: list[CellRow]) -> list[tuple]:
    return [(row.cell, row.status, row.frames, row.cache_key) for row in rows]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two worker processes, which gives up at the first death."""
    dask = pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    with (
        pytest.MonkeyPatch.context() as patch,
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
    ):
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        with distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            resources={"GPU": 1},
            dashboard_address=":0",
            silence_logs=50,
        ) as local:
            yield local.scheduler_address


class TestSameAsSerial:
    @pytest.fixture
    def serial(self, study: Callable[..., Study]) -> tuple[list[CellRow], Path]:
        return make(self.both(study), "serial")

    @staticmethod
    def both(study: Callable[..., Study]) -> Study:
        return study("[copy, {name: soft, method: warp, strength: 0.5}]")

    def test_two_processes(self, study, serial) -> None:
        rows, out = make(study(), "jobs", jobs=2)
        assert outcome(rows) == outcome(serial[0])
        assert clips_of(out) == clips_of(serial[1])

    def test_a_cluster(self, study, serial, cluster: str) -> None:
        rows, out = make(study(), "cluster", scheduler=cluster)
        assert outcome(rows) == outcome(serial[0])
        assert clips_of(out) == clips_of(serial[1])
        assert sorted(path.name for path in out.iterdir()) == sorted(
            path.name for path in serial[1].iterdir()
        )


class TestProcesses:
    def test_a_worker_killed_in_the_middle_loses_nothing(self, study, tmp_path: Path) -> None:
        loaded = study(f"[{{name: slow, method: slow, folder: {tmp_path}/pids}}]")
        (tmp_path / "pids").mkdir()
        _, whole = make(loaded, "whole")
        for path in (tmp_path / "pids").iterdir():
            path.unlink()

        def kill_first() -> None:
            while not (found := list((tmp_path / "pids").iterdir())):
                time.sleep(0.01)
            os.kill(int(found[0].name), signal.SIGKILL)

        killer = threading.Thread(target=kill_first)
        killer.start()
        rows, out = make(loaded, "out", jobs=2)
        killer.join()
        assert [row.status for row in rows] == ["done"] * 4
        assert clips_of(out) == clips_of(whole)

    def test_a_cell_that_kills_its_worker_each_time_fails_and_the_others_are_made(
        self, study
    ) -> None:
        rows, out = make(study("[copy, deadly]"), "out", jobs=2)
        bad = {row.cell: row.error for row in rows if row.status == "failed"}
        assert list(bad) == ["anna__turn__deadly"]
        assert "worker died, and again with no other cell beside it" in bad["anna__turn__deadly"]
        assert "SIGKILL" in bad["anna__turn__deadly"]
        assert len(clips_of(out)) == 7

    def test_the_threads_are_divided_and_what_was_set_is_left(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STUDYKIT_THREADS", "4")
        before = dict(os.environ)
        with open_executor(2, None, print) as executor:
            assert executor.submit(_variable, "OMP_NUM_THREADS").result() == "2"
        assert dict(os.environ) == before

    def test_workers_report_while_they_run(self) -> None:
        seen = []
        with open_executor(2, None, lambda *values: seen.append(values)) as executor:
            executor.submit(_reporting, "a").result()
        assert seen == [("a", 1)]

    def test_an_error_of_the_function_comes_back_and_the_worker_lives(self) -> None:
        with open_executor(2, None, print) as executor:
            with pytest.raises(ZeroDivisionError):
                executor.submit(_fault).result()
            with pytest.raises(WorkerDied, match="exit code 3"):
                executor.submit(_leave, 3).result()
            with pytest.raises(WorkerDied, match=r"exit code -\d+"):
                executor.submit(_killed_by, signal.SIGRTMIN + 1).result(timeout=60)
            assert executor.submit(_variable, "PYTHONPATH").result()

    def test_calls_made_while_a_worker_dies_all_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A pool that breaks is asked how its workers ended while the next one begins."""
        join, reopened = multiprocessing.process.BaseProcess.join, threading.Event()

        def late(self: multiprocessing.process.BaseProcess, timeout: float | None = None) -> None:
            reopened.wait(10)
            join(self, timeout)

        with open_executor(2, None, print) as executor:
            futures = [executor.submit(_pid) for _ in range(2)]
            wait(futures)
            monkeypatch.setattr(multiprocessing.process.BaseProcess, "join", late)
            broken = executor._pool
            futures.append(executor.submit(_leave, 3))
            while executor._pool is broken:
                futures.append(executor.submit(_pid))
                time.sleep(0.01)
            reopened.set()
            assert not wait(futures, timeout=20).not_done
        assert "exit code 3" in str(futures[2].exception())

    def test_no_worker_outlives_an_interrupt(self) -> None:
        before, start = _children(), time.monotonic()
        with pytest.raises(KeyboardInterrupt), open_executor(2, None, print) as executor:
            executor.submit(_sleep, 60)
            while _children() == before:
                time.sleep(0.01)
            raise KeyboardInterrupt
        assert time.monotonic() - start < 20
        assert _children() == before

    def test_no_worker_outlives_a_parent_that_was_killed(self, tmp_path: Path) -> None:
        program = tmp_path / "program.py"
        program.write_text(
            "import time\n"
            "from studykit.clips.executors import ProcessExecutor\n"
            "import test_executors\n"
            "if __name__ == '__main__':\n"
            "    executor = ProcessExecutor(2, print)\n"
            "    executor.submit(test_executors._sleep, 60)\n"
            "    time.sleep(60)\n"
        )
        parent = subprocess.Popen([sys.executable, program])
        workers: list[psutil.Process] = []
        while not any("spawn_main" in " ".join(worker.cmdline()) for worker in workers):
            workers = psutil.Process(parent.pid).children()
            time.sleep(0.05)
        time.sleep(1)  # until the worker watches its parent
        parent.kill()
        parent.wait()
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert not alive


class TestCluster:
    def test_a_worker_that_dies_loses_nothing(self, study, tmp_path: Path, cluster: str) -> None:
        (tmp_path / "once").touch()
        loaded = study(f"[{{name: deadly, method: deadly, once: {tmp_path}/once}}]")
        rows, out = make(loaded, "out", scheduler=cluster)
        assert not (tmp_path / "once").exists()
        assert [row.status for row in rows] == ["done"] * 4
        assert len(clips_of(out)) == 4

    def test_a_cell_that_kills_its_worker_each_time_fails_and_the_others_are_made(
        self, study, cluster: str
    ) -> None:
        rows, out = make(study("[copy, deadly]"), "out", scheduler=cluster)
        bad = {row.cell: row.error for row in rows if row.status == "failed"}
        assert list(bad) == ["anna__turn__deadly"]
        assert "worker died, and again" in bad["anna__turn__deadly"]
        assert len(clips_of(out)) == 7

    def test_files_are_sent_to_workers_that_do_not_see_them(
        self, study, small_study: Path, cluster: str
    ) -> None:
        _, first = make(study(), "serial")
        made = small_study.parent / "made"
        made.mkdir()
        for path in (first / "clips").iterdir():
            (made / path.name.replace("__copy", "")).write_bytes(path.read_bytes())
        (made / "anna__talk.mp4").write_text("not a video")
        small_study.write_text(
            small_study.read_text().replace(
                "[copy]", "[copy, {name: mine, method: folder, path: made}]"
            )
        )
        loaded = load_study(small_study)
        serial, out = make(loaded, "serial")
        from distributed import Client

        with Client(cluster, set_as_default=False) as client:
            client.run(_hide, str(small_study.parent))
            try:
                rows, sent = make(loaded, "sent", scheduler=cluster)
            finally:
                client.run(_show)
        assert outcome(rows) == outcome(serial)
        assert [row.error for row in rows] == [row.error for row in serial]
        assert str(made / "anna__talk.mp4") in rows[4].error
        assert clips_of(sent) == clips_of(out)

    def test_a_gpu_is_asked_for_where_a_method_needs_one(
        self, study, cluster: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []
        submit = executors.ClusterExecutor.submit
        monkeypatch.setattr(
            executors.ClusterExecutor,
            "submit",
            lambda self, function, task: (
                asked.append((task.cell.method.name, task.resources)),
                submit(self, function, task),
            )[1],
        )
        rows, _ = make(study("[copy, placed]"), "out", device="gpu", scheduler=cluster)
        assert {row.status for row in rows} == {"done"}
        assert {row.device for row in rows if row.method == "placed"} == {"gpu:0"}
        assert all(needed == ({"GPU": 1} if name == "placed" else {}) for name, needed in asked)

    def test_a_resource_that_no_worker_has_is_refused(self, cluster: str) -> None:
        with (
            pytest.raises(StudyError, match=r"no worker of tcp://.* offers a TPU: start one with"),
            open_executor(1, cluster, print, ["TPU"]),
        ):
            pass

    @pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
    def test_a_scheduler_that_dies_or_hangs_ends_the_run_in_one_line(
        self, study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        pytest.importorskip("distributed")
        monkeypatch.setattr(executors, "_WATCH_SECONDS", 0.5)
        monkeypatch.setattr(executors, "_ANSWER_SECONDS", 2)
        (tmp_path / "pids").mkdir()
        loaded = study(f"[copy, {{name: slow, method: slow, folder: {tmp_path}/pids}}]")
        with apart(tmp_path) as (scheduler, address):

            def stop() -> None:
                while not list((tmp_path / "pids").iterdir()):
                    time.sleep(0.01)
                scheduler.send_signal(getattr(signal, how))

            stopping = threading.Thread(target=stop)
            stopping.start()
            with pytest.raises(
                StudyError, match=r"scheduler at .* is gone .*: what is made is kept"
            ):
                make(loaded, "out", scheduler=address)
            stopping.join()
        rows = read_cells(tmp_path / "out" / "cells.csv")
        assert {row.status for row in rows.values()} == {"done"} and len(rows) >= 4
        assert {f"{name}.mp4" for name in rows} <= set(clips_of(tmp_path / "out"))
        assert not list((tmp_path / "out").glob(".*"))

    def test_a_worker_whose_disk_is_full_makes_failed_cells(
        self, study, cluster: str, tmp_path: Path
    ) -> None:
        from distributed import Client

        loaded = study("[copy]")
        with Client(cluster, set_as_default=False) as client:
            before = client.run(_limit_files, 500)
            try:
                rows, out = make(loaded, "full", scheduler=cluster)
            finally:
                client.run(_limit_files, max(before.values()))
        assert {row.status for row in rows} == {"failed"}
        assert all("large" in row.error and "\n" not in row.error for row in rows)
        assert clips_of(out) == {}
        rows, _ = make(loaded, "full", scheduler=cluster)
        assert {row.status for row in rows} == {"done"}

    def test_a_scheduler_that_does_not_answer_is_one_line(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("distributed")
        monkeypatch.setattr(executors, "_SCHEDULER_SECONDS", 0.3)
        with (
            pytest.raises(StudyError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"),
            open_executor(1, "tcp://127.0.0.1:9", print),
        ):
            pass


@contextlib.contextmanager
def apart(folder: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """A scheduler in a process of its own, and the address that its one worker has joined."""
    address = folder / "scheduler.json"
    start = [sys.executable, "-m"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    place = ["--scheduler-file", str(address), "--no-dashboard"]
    scheduler = subprocess.Popen(
        [*start, "distributed.cli.dask_scheduler", "--port", "0", *place], **quiet
    )
    worker = subprocess.Popen(
        [*start, "distributed.cli.dask_worker", *place, "--nthreads", "1", "--no-nanny"],
        **quiet,
    )
    try:
        while not address.exists() or not address.read_text().endswith("}"):
            assert scheduler.poll() is None
            time.sleep(0.05)
        yield scheduler, json.loads(address.read_text())["address"]
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()


def _limit_files(size: int) -> int:
    """Let this process write no larger files, as on a full disk; return what held before."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    return before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda made: "forged", "gave back something else"),
        (lambda made: change_row(made, cell="../../evil"), "gave back something else"),
        (lambda made: change_row(made, cache_key="0"), "gave back something else"),
        (lambda made: change_row(made, version="0.0.1"), r"has studykit 0\.0\.1, here it is"),
        (lambda made: change_row(made, status="done", frames=9), "there is no clip"),
    ],
)
def test_what_a_worker_gives_back_is_checked(
    study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable, says: str
) -> None:
    """One that is hostile, of another version or without a disk makes failed cells, no more."""
    monkeypatch.setattr(animate, "make_cell", lambda task, report: change(Made(task.row())))
    rows, out = make(study(), "out")
    assert {row.status for row in rows} == {"failed"}
    assert all(re.search(says, row.error) for row in rows)
    assert clips_of(out) == {} and not (tmp_path / "evil.mp4").exists()


def change_row(made: Made, **values: object) -> Made:
    return dataclasses.replace(made, row=dataclasses.replace(made.row, **values))


def test_a_serial_executor_calls_at_once_in_this_process() -> None:
    assert SerialExecutor(print).submit(_pid).result() == os.getpid()
    assert isinstance(SerialExecutor(print).submit(_fault).exception(), ZeroDivisionError)


@pytest.mark.parametrize(
    ("places", "says"),
    [
        ({"jobs": 0}, "jobs must be at least 1"),
        ({"jobs": 2, "scheduler": "tcp://127.0.0.1:9"}, "leave --jobs out"),
    ],
)
def test_places_that_make_no_sense_are_refused(study, places: dict, says: str) -> None:
    with pytest.raises(StudyError, match=says):
        make(study(), "out", **places)


def test_several_processes_on_one_gpu_are_refused(study) -> None:
    with pytest.raises(StudyError, match="method placed computes on gpu:0"):
        make(study("[placed]"), "out", device="gpu", jobs=2)


def test_rows_are_there_as_soon_as_their_cells_are_made(study, tmp_path: Path) -> None:
    """What a killed coordinator leaves is told by the rows, which another goes on from."""
    (tmp_path / "pids").mkdir()
    loaded = study(f"[{{name: slow, method: slow, folder: {tmp_path}/pids}}]")
    seen = []

    def watch() -> None:
        while len(rows := read_cells(tmp_path / "out" / "cells.csv")) < 4:
            seen.append(len(rows))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    make(loaded, "out", jobs=2)
    watcher.join()
    assert {0, 2} <= set(seen)


def _children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def _pid(report: Callable) -> int:
    return os.getpid()


def _variable(name: str, report: Callable) -> str:
    return os.environ[name]


def _reporting(name: str, report: Callable) -> None:
    report(name, 1)


def _fault(report: Callable) -> None:
    raise ZeroDivisionError


def _leave(code: int, report: Callable) -> None:
    os._exit(code)


def _killed_by(number: int, report: Callable) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def _sleep(seconds: float, report: Callable) -> None:
    time.sleep(seconds)


_shown_is_file = Path.is_file
_shown_open = Path.open


def _hide(folder: str) -> None:
    """Make a folder look empty in this process, but for what the worker itself has put there."""

    def is_file(self: Path) -> bool:
        return not str(self).startswith(folder) and _shown_is_file(self)

    def opened(self: Path, *args: object, **options: object) -> object:
        if str(self).startswith(folder):
            raise FileNotFoundError(2, "hidden", str(self))
        return _shown_open(self, *args, **options)

    Path.is_file, Path.open = is_file, opened


def _show() -> None:
    Path.is_file, Path.open = _shown_is_file, _shown_open
