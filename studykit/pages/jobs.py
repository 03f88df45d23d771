"""Work that visitors wait for: in a process that can be ended at once, one after the other, fairly.

A lane has one process, which is started when there is something to do and ends when there is not,
so that all the memory that pictures, networks and libraries took comes back.
"""

import contextlib
import multiprocessing
import os
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from studykit import cache
from studykit.errors import StudyError

State = Literal["waiting", "running", "done", "failed", "stopped"]
Tell = Callable[[Any], None]
Task = Callable[..., Any]  # gets ``tell`` first; a function of a module, as it travels by name

_IDLE = 60.0  # seconds that a process waits for more to do
_LOOK = 0.05  # seconds between two looks at whether a job was stopped
_GONE = 5.0  # seconds in which a process that is killed is gone


@dataclass(eq=False)
class Job:
    """Something that is to be done for a visitor, and how far it is.

    Attributes
    ----------
    visitor : hashable
        For whom; a lane is fair among them.
    task, arguments
        What is called in the lane's process.
    kept : Path
        Where what is found in the visitor's files is kept.
    seconds : float
        That it may take.
    told, ended : callable
        Get what the task tells while it is at work, and the job when it has ended.
    result
        What it returned.
    problem : str
        Why it failed.
    """

    visitor: Any
    task: Task
    arguments: tuple
    kept: Path
    seconds: float = float("inf")
    told: Tell = lambda _: None
    ended: Callable[["Job"], None] = lambda _: None
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: State = "waiting"
    result: Any = None
    problem: str = ""
    started: float = 0.0
    over: threading.Event = field(default_factory=threading.Event)

    def end(self, state: State, result: Any = None, problem: str = "") -> None:
        """Say how it ended, once: what was stopped stays so."""
        if not self.over.is_set():
            self.state, self.result, self.problem = state, result, problem
            self.over.set()
            self.ended(self)


class Lane:
    """A queue with one process behind it: visitors take turns, each one's jobs keep their order."""

    def __init__(self, name: str) -> None:
        self._waiting: dict[Any, deque[Job]] = {}
        self._served: dict[Any, int] = {}  # the turn at which a visitor was served last
        self._turn = 0
        self._running: Job | None = None
        self._worker: _Worker | None = None
        self._changed, self._closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._serve, name=f"studykit-{name}", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Job:
        with self._changed:
            self._waiting.setdefault(job.visitor, deque()).append(job)
            self._changed.notify()
        return job

    def stop(self, job: Job) -> None:
        """End a job at once, at whatever it is; what was half made is the caller's to remove."""
        with self._changed:
            queue = self._waiting.get(job.visitor, deque())
            if job in queue:
                queue.remove(job)
            job.end("stopped")
            if job is self._running and self._worker is not None:
                self._worker.kill()

    def drop(self, visitor: Any) -> None:
        """End all that is done or waits for a visitor, who has left."""
        with self._changed:
            jobs = [*self._waiting.get(visitor, ()), *filter(None, [self._running])]
        for job in jobs:
            if job.visitor == visitor:
                self.stop(job)
        self._served.pop(visitor, None)

    def places(self) -> dict[str, int]:
        """Return how many jobs come before each one that waits, by its id."""
        with self._changed:
            queues = [list(self._waiting[visitor]) for visitor in self._next_first()]
            ahead = int(self._running is not None)
        longest = max(map(len, queues), default=0)
        order = [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
        return {job.id: ahead + place for place, job in enumerate(order)}

    def close(self) -> None:
        with self._changed:
            self._closed = True
            waiting = [job for queue in self._waiting.values() for job in queue]
            for job in [*waiting, *filter(None, [self._running])]:
                job.end("stopped")
            self._waiting.clear()
            if self._worker is not None:
                self._worker.kill()
            self._changed.notify()
        self._thread.join()

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._do(job)
            except Exception as error:  # such as a process that can't be started
                job.end("failed", problem=f"it could not be started ({error}): try again")
            with self._changed:
                self._running = None

    def _next(self) -> Job | None:
        with self._changed:
            while not self._closed:
                for visitor in self._next_first():
                    self._running = self._waiting[visitor].popleft()
                    self._turn += 1
                    self._served[visitor] = self._turn
                    return self._running
                if not self._changed.wait(_IDLE) and self._worker is not None:
                    self._worker.kill()
                    self._worker = None
            return None

    def _next_first(self) -> list[Any]:
        """Return the visitors who wait, whoever was served longest ago first."""
        self._waiting = {visitor: queue for visitor, queue in self._waiting.items() if queue}
        return sorted(self._waiting, key=lambda visitor: self._served.get(visitor, 0))

    def _do(self, job: Job) -> None:
        with self._changed:
            if self._worker is None or not self._worker.lives():
                self._worker = _Worker()
            worker = self._worker
            if job.over.is_set():
                return
            job.state, job.started = "running", time.monotonic()  # what is stopped now stays so
        worker.ask(job)
        while not job.over.is_set():
            kind, value = worker.answer()
            if kind == "told":
                job.told(value)
            elif kind == "done":
                job.end("done", value)
            elif kind == "failed":
                job.end("failed", problem=value)
            if time.monotonic() - job.started > job.seconds:
                most = f"it took more than {job.seconds:.0f} s and was ended"
                job.end("failed", problem=f"{most}: use a shorter part of the driving")
        if kind not in ("done", "failed"):
            worker.kill()


class _Worker:
    """A process of a lane, as the lane sees it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_work, args=(there,), daemon=True)
        self._process.start()
        self._killed = False
        there.close()

    def lives(self) -> bool:
        return not self._killed and self._process.is_alive()

    def kill(self) -> None:
        """End it, and wait until it is gone, of the list of processes too; from any thread."""
        self._killed = True
        self._process.kill()
        self._process.join(_GONE)

    def ask(self, job: Job) -> None:
        self._here.send((job.task, job.arguments, job.kept))

    def answer(self) -> tuple[str, Any]:
        """Wait a moment for what it says: ("", None) where that is nothing."""
        try:
            return self._here.recv() if self._here.poll(_LOOK) else ("", None)
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode or 0
            how = signal.Signals(-code).name if code < 0 else f"code {code}"
            return "failed", f"the process that made it has ended ({how}): try smaller files"


def _work(lane: Any) -> None:
    """Do in a process of its own what a lane asks for, until the lane is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the server's matter
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            task, arguments, kept = lane.recv()
            try:
                with cache.apart(kept):
                    answer = "done", task(lambda value: lane.send(("told", value)), *arguments)
            except StudyError as error:
                answer = "failed", str(error)
            except Exception as error:
                answer = "failed", f"{type(error).__name__}: {error}".splitlines()[0]
            lane.send(answer)
