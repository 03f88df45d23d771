"""Where cells are made: in this process, in several, or on a Dask cluster, behind one interface.

Each is a ``concurrent.futures.Executor``. A worker that dies fails only the future of what it was
at, with :class:`WorkerDied`; who submitted it decides whether to try again.
"""

import contextlib
import functools
import logging
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import studykit
from studykit import machine
from studykit.errors import MissingPackageError, StudyError, first_line

Report = Callable[..., None]
Item = TypeVar("Item")
_END = object()
_reports: Any = None  # of a worker: where it writes what it reports

_THREAD_VARIABLES = (
    "STUDYKIT_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
_REPORT_SECONDS = 0.1
_SCHEDULER_SECONDS = 10
_WORKER_SECONDS = 60
_COUNT_SECONDS = 2
_WATCH_SECONDS = 5
_ANSWER_SECONDS = 12


class WorkerDied(Exception):
    """A worker process ended while it was at something; the text says how, where it is known."""


@contextlib.contextmanager
def open_executor(
    jobs: int, scheduler: str | None, report: Report, resources: Iterable[str] = ()
) -> Iterator[Executor]:
    """Give the executor that ``--jobs`` and ``--scheduler`` ask for.

    Its attribute ``room`` is how many calls to hold in it, so that no worker waits and the rest of
    the plan need not be held. On an error what is running is stopped, not waited for.

    Parameters
    ----------
    jobs : int
        How many processes; 1 is this one.
    scheduler : str, optional
        The address of a Dask scheduler, such as ``tcp://127.0.0.1:8786``.
    report : callable
        Gets what submitted functions report from this machine while they run.
    resources : iterable of str
        What tasks will ask of a cluster's workers.

    Raises
    ------
    StudyError
        The cluster can't be used.
    MissingPackageError
        Dask is not installed.
    """
    if scheduler:
        executor = ClusterExecutor(scheduler, resources)
    elif jobs > 1:
        executor = ProcessExecutor(jobs, report)
    else:
        executor = SerialExecutor(report)
    try:
        yield executor
    except BaseException:
        executor.stop()
        raise
    finally:
        executor.shutdown()


def outcomes(
    executor: Executor,
    submit: Callable[[Item, BaseException | None], Future],
    items: Iterable[Item],
    again: tuple[type[BaseException], ...] = (),
) -> Iterator[tuple[Item, Future]]:
    """Yield each item with its finished future, as it comes, with few of them under way.

    What was under way when a worker died is tried again with nothing else beside it: so it is
    known whose doing it was, and one that has filled the memory gets all of it.

    Parameters
    ----------
    executor : Executor
        As :func:`open_executor` gives it; its ``check`` is called when nothing is heard of it.
    submit : callable
        Gets an item, and the error of its last try or None; returns its future.
    items : iterable
        They are taken one by one, as there is room.
    again : tuple of exceptions
        After which an item is submitted again at once.
    """
    waiting, running = iter(items), {}
    suspects: deque[tuple[Item, BaseException]] = deque()
    alone = None
    while True:
        while not suspects and alone is None and len(running) < executor.room:
            item = next(waiting, _END)
            if item is _END:
                break
            running[submit(item, None)] = item
        if suspects and not running:
            alone, error = suspects.popleft()
            running[submit(alone, error)] = alone
        if not running:
            return
        done = wait(running, _WATCH_SECONDS, return_when=FIRST_COMPLETED).done
        if not done or any(isinstance(future.exception(), WorkerDied) for future in done):
            executor.check()
        for future in done:
            item, error = running.pop(future), future.exception()
            if isinstance(error, again):
                running[submit(item, error)] = item
            elif isinstance(error, WorkerDied) and item is not alone:
                suspects.append((item, error))
            else:
                alone = None if item is alone else alone
                yield item, future


class SerialExecutor(Executor):
    """Calls ``function(*arguments, report)`` in this process, as it is submitted."""

    room = 1

    def __init__(self, report: Report) -> None:
        self._report = report

    def submit(self, function: Callable, /, *arguments: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*arguments, self._report))
        except Exception as error:
            future.set_exception(error)
        return future

    def check(self) -> None:
        """This process is there."""

    def stop(self) -> None:
        """Nothing runs between two calls."""


class ProcessExecutor(Executor):
    """Calls ``function(*arguments, report)`` in worker processes of this machine.

    The threads that this process may use are divided among the workers. One that dies takes with
    it all that the others were at; the next call gets new workers. A worker whose parent is gone
    ends at once.
    """

    def __init__(self, jobs: int, report: Report) -> None:
        self._jobs, self.room = jobs, jobs + 1
        share = str(max(1, machine.threads() // jobs))
        self._environment = dict.fromkeys(_THREAD_VARIABLES, share)
        # Forking would copy the locks of this process's threads in whatever state they are.
        self._context = multiprocessing.get_context("spawn")
        self._reports, self._to_reports = self._context.Pipe(duplex=False)
        self._listener = threading.Thread(target=self._listen, args=(report,), daemon=True)
        self._listener.start()
        self._workers: list[multiprocessing.process.BaseProcess] = []  # of the pool
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, function: Callable, /, *arguments: Any) -> Future:
        before = multiprocessing.active_children()
        with _environment(self._environment):  # in which a call may start a worker
            try:
                inner = self._open().submit(_call, function, arguments)
            except BrokenProcessPool:
                self._pool = None
                inner = self._open().submit(_call, function, arguments)
        self._workers += set(multiprocessing.active_children()).difference(before)
        return _translated(inner, functools.partial(_death, self._workers))

    def check(self) -> None:
        """A worker that is gone is told by its futures."""

    def stop(self) -> None:
        """Kill the workers and drop what waits."""
        for worker in self._workers:
            worker.kill()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait, cancel_futures=cancel_futures)
        self._to_reports.send(None)
        self._listener.join()

    def _open(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._workers = []  # the list of a pool that broke is its own: its futures still ask it
            self._pool = ProcessPoolExecutor(
                self._jobs, self._context, initializer=_begin, initargs=(self._to_reports,)
            )
        return self._pool

    def _listen(self, report: Report) -> None:
        while (values := self._reports.recv()) is not None:
            report(*values)


def _death(
    workers: list[multiprocessing.process.BaseProcess], error: BaseException
) -> WorkerDied | None:
    """Return how a worker of a pool ended, where an error says that one did."""
    if not isinstance(error, BrokenProcessPool):
        return None
    started = workers.copy()  # the pool's thread asks, while another may start one more
    ended = multiprocessing.connection.wait([worker.sentinel for worker in started], 1)
    for worker in started:
        worker.join(1 if worker.sentinel in ended else 0)
    # The pool itself ends the workers that were left over by SIGTERM.
    codes = {worker.exitcode for worker in started} - {None, 0, -signal.SIGTERM}
    names = {-each: each.name for each in signal.Signals}  # some signals have none
    ends = [names.get(code, f"exit code {code}") for code in codes]
    return WorkerDied(f"its process ended with {', '.join(ends) or 'no exit code'}")


def _begin(reports: multiprocessing.connection.Connection) -> None:
    """Prepare a worker: it ends with its parent, which alone decides on an interrupt."""
    global _reports
    _reports = reports
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _call(function: Callable, arguments: tuple) -> Any:
    last = 0.0

    def report(*values: Any) -> None:
        nonlocal last
        if time.monotonic() - last > _REPORT_SECONDS:
            last = time.monotonic()
            _reports.send(values)

    return function(*arguments, report)


def _end_with_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _translated(
    inner: Future, death_of: Callable[[BaseException | None], WorkerDied | None]
) -> Future:
    """Return a future with the outcome of another, where a worker's death is WorkerDied."""
    outcome: Future = Future()

    def hand_over(inner: Future) -> None:
        error = CancelledError() if inner.cancelled() else inner.exception()
        if error is None:
            outcome.set_result(inner.result())
        else:
            outcome.set_exception(death_of(error) or error)

    inner.add_done_callback(hand_over)
    return outcome


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started meanwhile: libraries read them on load."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class ClusterExecutor(Executor):
    """Calls ``function(task)`` on the workers of a Dask cluster.

    A task's ``resources``, such as ``{"GPU": 1}``, are what its worker must have free. Dask itself
    tries a task again whose worker died; once it gives up, that is :class:`WorkerDied`.
    """

    def __init__(self, address: str, resources: Iterable[str]) -> None:
        try:
            import dask
            from distributed import Client
        except ImportError:
            raise MissingPackageError(
                'a cluster needs Dask: pip install "distributed>=2024.8" here and on its workers'
            ) from None
        for name in ("distributed", "tornado", "asyncio"):  # errors are one line, ours
            logging.getLogger(name).setLevel(logging.CRITICAL)
        # Inputs that are sent may be large, and Dask would warn of each.
        dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"})
        try:
            self._client = Client(address, timeout=_SCHEDULER_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise StudyError(
                f"no Dask scheduler answers at {address}: start one with "
                f"dask scheduler ({first_line(error)})"
            ) from None
        try:
            self._check_workers(address)
            for resource in resources:
                self._require(resource, address)
        except BaseException:
            self._client.close()
            raise
        self._executor = self._client.get_executor(pure=False)
        self._address, self._gone = address, False
        self._room, self._counted = 0, -math.inf

    @property
    def room(self) -> int:
        """Twice as many calls as the workers have threads; workers may come and go."""
        if time.monotonic() - self._counted > _COUNT_SECONDS:
            self.check()
        return self._room

    def check(self) -> None:
        """Ask the scheduler how many threads there are.

        Raises
        ------
        StudyError
            It does not answer: Dask itself would wait for ever.
        """
        try:
            ask = self._client.scheduler.ncores
            threads = self._client.sync(ask, callback_timeout=_ANSWER_SECONDS)
        except Exception as error:  # whatever a connection that breaks may raise
            self._gone = True
            raise StudyError(
                f"the Dask scheduler at {self._address} is gone ({type(error).__name__}): what is "
                "made is kept; start it again, and the same command goes on where it stopped"
            ) from None
        self._room, self._counted = max(2, 2 * sum(threads.values())), time.monotonic()

    def submit(self, function: Callable, task: Any, /) -> Future:
        inner = self._executor.submit(function, task, resources=task.resources)
        return _translated(inner, _death_on_cluster)

    def stop(self) -> None:
        """Have the cluster forget what waits or runs."""
        if not self._gone:
            self._executor.shutdown(wait=False)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if self._gone:
            self._client.close(timeout=1)
            return
        self._executor.shutdown(wait=wait and not cancel_futures)
        self._client.close()

    def _check_workers(self, address: str) -> None:
        try:
            self._client.wait_for_workers(1, timeout=_WORKER_SECONDS)
        except (OSError, TimeoutError):
            raise StudyError(
                f"no worker has joined the cluster at {address} within {_WORKER_SECONDS} s: "
                f"start one with dask worker {address} --nthreads 1"
            ) from None
        try:
            versions = set(self._client.run(_version).values())
        except Exception as error:
            raise StudyError(
                f"the workers of {address} can't run studykit ({first_line(error)}): "
                "install the same version there"
            ) from None
        if versions != {studykit.__version__}:
            raise StudyError(
                f"the workers of {address} have studykit {', '.join(sorted(versions))}, here it is "
                f"{studykit.__version__}: install the same version there"
            )

    def _require(self, resource: str, address: str) -> None:
        """Refuse a cluster none of whose workers has a resource, rather than wait for ever."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        if not any(resource in worker["resources"] for worker in workers):
            raise StudyError(
                f"no worker of {address} offers a {resource}: start one with dask worker {address} "
                f"--nthreads 1 --resources {resource}=1"
            )


def _version() -> str:
    return studykit.__version__


def _death_on_cluster(error: BaseException) -> WorkerDied | None:
    from distributed import KilledWorker

    if isinstance(error, CancelledError):
        return WorkerDied("the cluster dropped it")
    if isinstance(error, KilledWorker):
        return WorkerDied(f"its workers died, the last at {error.last_worker.address}")
    return None
