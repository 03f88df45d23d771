"""Jobs of a lane: fair among visitors, ended at once, in a process whose memory comes back."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from studykit import cache
from studykit.errors import StudyError
from studykit.pages import jobs
from studykit.pages.jobs import Job, Lane, Tell


def add(tell: Tell, one: int, other: int) -> int:
    tell(one)
    return one + other


def refuse(_tell: Tell) -> None:
    raise StudyError("this picture shows no face: use another")


def fail(_tell: Tell) -> None:
    raise ValueError("two\nlines")


def sleep(tell: Tell, seconds: float) -> None:
    tell(os.getpid())
    time.sleep(seconds)


def die(_tell: Tell) -> None:
    os.kill(os.getpid(), 9)


def keep(_tell: Tell, path: str) -> str:
    frames = type("Frames", (), {"key": path, "frame_count": 1})
    list(cache.kept(frames, "a test", lambda: [np.zeros(1)]))
    return cache.file_hash(path)


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    lane = Lane("test")
    yield lane
    lane.close()


@pytest.fixture
def do(lane: Lane, tmp_path: Path) -> Callable[..., Job]:
    """Have something done, for visitor "a" unless another is named."""

    def do(task: Any, *arguments: Any, visitor: str = "a", **options: Any) -> Job:
        return lane.submit(Job(visitor, task, arguments, tmp_path / "kept", **options))

    return do


def ended(job: Job, seconds: float = 30) -> Job:
    assert job.over.wait(seconds)
    return job


def until(true: Callable[[], bool]) -> None:
    late = time.monotonic() + 30
    while not true():
        assert time.monotonic() < late
        time.sleep(0.01)


def test_a_job_tells_and_returns(do: Callable[..., Job]) -> None:
    heard: list[Any] = []
    job = ended(do(add, 2, 3, told=heard.append, ended=heard.append))
    assert (job.state, job.result, heard) == ("done", 5, [2, job])


def test_what_goes_wrong_is_one_line(do: Callable[..., Job]) -> None:
    assert ended(do(refuse)).problem == "this picture shows no face: use another"
    assert ended(do(fail)).problem == "ValueError: two"


def test_a_process_that_dies_fails_its_job_alone(do: Callable[..., Job]) -> None:
    job = ended(do(die))
    assert (job.state, "SIGKILL" in job.problem) == ("failed", True)
    assert ended(do(add, 1, 1)).result == 2


def test_a_job_that_is_stopped_ends_at_once_with_its_process(
    lane: Lane, do: Callable[..., Job]
) -> None:
    heard: list[int] = []
    job = do(sleep, 60, told=heard.append)
    until(lambda: bool(heard))
    lane.stop(job)
    assert job.state == "stopped"
    assert not psutil.pid_exists(heard[0])  # nor is it left for somebody to wait for
    assert ended(do(add, 1, 1)).result == 2


def test_a_job_that_is_stopped_as_it_begins_stays_stopped(lane: Lane, tmp_path: Path) -> None:
    looked, stopping = threading.Event(), threading.Event()

    class Slow(threading.Event):
        def is_set(self) -> bool:  # somebody stops it right after the lane has looked
            over = super().is_set()
            if threading.current_thread().name == "studykit-test" and not looked.is_set():
                looked.set()
                stopping.wait(0.5)
            return over

    job = lane.submit(Job("a", add, (1, 1), tmp_path / "kept", over=Slow()))
    assert looked.wait(30)
    lane.stop(job)
    stopping.set()
    until(lambda: not lane.places() and lane._running is None)
    assert job.state == "stopped"


def test_a_job_that_takes_too_long_is_ended(do: Callable[..., Job]) -> None:
    assert "took more than" in ended(do(sleep, 60, seconds=0.2)).problem


def test_visitors_take_turns_and_see_their_place(lane: Lane, do: Callable[..., Job]) -> None:
    order: list[str] = []
    first = do(sleep, 60)
    until(lambda: first.state == "running")
    names = ("a1", "a2", "a3", "b1", "c1", "b2")
    waiting = {
        name: do(add, 1, 1, visitor=name[0], ended=lambda _, name=name: order.append(name))
        for name in names
    }
    places = lane.places()
    wanted = ["b1", "c1", "a1", "b2", "a2", "a3"]  # the one who is being served comes last
    assert [places[waiting[name].id] for name in wanted] == [1, 2, 3, 4, 5, 6]
    lane.stop(first)
    for job in waiting.values():
        ended(job)
    assert order == wanted
    assert not lane.places()


def test_who_leaves_frees_their_place(lane: Lane, do: Callable[..., Job]) -> None:
    first = do(sleep, 60)
    until(lambda: first.state == "running")
    mine, other = do(sleep, 60), do(add, 1, 1, visitor="b")
    lane.drop("a")
    assert (first.state, mine.state) == ("stopped", "stopped")
    assert ended(other).result == 2


def test_what_is_found_in_a_visitors_files_is_not_kept_in_the_cache(
    do: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    before = set(cache.cache_folder().rglob("*"))
    assert ended(do(keep, str(tmp_path / "file"))).state == "done"
    assert set(cache.cache_folder().rglob("*")) == before
    assert len([path for path in (tmp_path / "kept").rglob("*") if path.is_file()]) == 2


def test_an_idle_process_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jobs, "_IDLE", 0.1)
    lane, heard = Lane("idle"), []
    try:
        ended(lane.submit(Job("a", sleep, (0,), tmp_path, told=heard.append)))
        until(lambda: not psutil.pid_exists(heard[0]))
    finally:
        lane.close()
