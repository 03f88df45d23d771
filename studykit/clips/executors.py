"""Where cells are made: in this process, in several, or on a Dask cluster, behind one interface.

Each is a ``concurrent.futures.Executor``. A worker that dies fails only the future of what it was
at, with :class:`WorkerDied`; who submitted it decides whether to try again.
"""

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import studykit
from studykit import machine
from studykit.errors import MissingPackageError, StudyError, first_line

Report = Callable[..., None]

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

    def stop(self) -> None:
        """Nothing runs between two calls."""


class ProcessExecutor(ThreadPoolExecutor):
    """Calls ``function(*arguments, report)`` in worker processes, each of them fed by a thread.

    So it is known which call a worker died of; the next call gets a new one. The threads that this
    process may use are divided among the workers. A worker whose parent is gone ends at once.
    """

    def __init__(self, jobs: int, report: Report) -> None:
        super().__init__(jobs, thread_name_prefix="studykit-worker")
        self.room = jobs + 1
        threads = str(max(1, machine.threads() // jobs))
        self._environment = dict.fromkeys(_THREAD_VARIABLES, threads)
        self._report = report
        self._own = threading.local()
        self._workers: set[_Worker] = set()
        self._starting = threading.Lock()
        self._stopped = False

    def submit(self, function: Callable, /, *arguments: Any) -> Future:
        return super().submit(self._call, function, arguments)

    def stop(self) -> None:
        """Kill the workers and drop what waits."""
        with self._starting:
            self._stopped = True
            for worker in self._workers:
                worker.process.kill()
        super().shutdown(wait=False, cancel_futures=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        while wait and self._workers:
            self._workers.pop().close()

    def _call(self, function: Callable, arguments: tuple) -> Any:
        worker = getattr(self._own, "worker", None) or self._start()
        try:
            return worker.call(function, arguments, self._report)
        except WorkerDied:
            self._own.worker = None
            with self._starting:
                self._workers.discard(worker)
            raise

    def _start(self) -> "_Worker":
        with self._starting, _environment(self._environment):
            if self._stopped:
                raise WorkerDied("the workers were stopped")
            worker = self._own.worker = _Worker()
            self._workers.add(worker)
        return worker


class _Worker:
    """A process that calls functions, one at a time."""

    def __init__(self) -> None:
        # Forking would copy the locks of this process's threads in whatever state they are.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def call(self, function: Callable, arguments: tuple, report: Report) -> Any:
        try:
            self._connection.send((function, arguments))
            while True:
                kind, value = self._connection.recv()
                if kind == "report":
                    report(*value)
                elif kind == "error":
                    raise value
                else:
                    return value
        except (EOFError, ConnectionError):
            self.process.join()
            code = self.process.exitcode
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            self.close()
            raise WorkerDied(f"its process ended with {how}") from None

    def close(self) -> None:
        self._connection.close()  # on which an idle worker ends
        self.process.join()


def _serve(connection: multiprocessing.connection.Connection) -> None:
    """What a worker does until its parent closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    last = 0.0

    def report(*values: Any) -> None:
        nonlocal last
        if time.monotonic() - last > _REPORT_SECONDS:
            last = time.monotonic()
            connection.send(("report", values))

    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        except Exception as error:  # what was sent is of a class that is not to be found here
            connection.send(("error", error))
            continue
        try:
            answer = ("result", function(*arguments, report))
        except Exception as error:
            answer = ("error", error)
        connection.send(answer)


def _end_with_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


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
        self._room, self._counted = 0, -math.inf

    @property
    def room(self) -> int:
        """Twice as many calls as the workers have threads; workers may come and go."""
        if time.monotonic() - self._counted > _COUNT_SECONDS:
            self._room = max(2, 2 * sum(self._client.nthreads().values()))
            self._counted = time.monotonic()
        return self._room

    def submit(self, function: Callable, task: Any, /) -> Future:
        from distributed import KilledWorker

        outcome: Future = Future()

        def hand_over(inner: Future) -> None:
            if inner.cancelled():
                outcome.set_exception(WorkerDied("the cluster dropped it"))
            elif isinstance(inner.exception(), KilledWorker):
                last = inner.exception().last_worker.address
                outcome.set_exception(WorkerDied(f"its workers died, the last at {last}"))
            elif inner.exception() is not None:
                outcome.set_exception(inner.exception())
            else:
                outcome.set_result(inner.result())

        inner = self._executor.submit(function, task, resources=task.resources)
        inner.add_done_callback(hand_over)
        return outcome

    def stop(self) -> None:
        """Have the cluster forget what waits or runs."""
        self._executor.shutdown(wait=False)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
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
