"""Decoding in a child process, so that a codec's fault or a bomb ends a cell and not a machine.

A child serves one reading at a time and then waits for the next; it gets paths and gives pixels
and texts, never objects. What it may use is limited: memory and processor time where the system
can, and wall time everywhere.
"""

import atexit
import contextlib
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from studykit.errors import MediaError

MEMORY = 4 << 30  # bytes that a child may use in all
PROCESSOR = 60  # seconds of processor time from one sign of life to the next
WALL = 120.0  # seconds in which one must come
_STOPPING = 2.0  # seconds to end a reading that is not wanted any more
_AHEAD = 2  # how many answers are made before they are asked for

_HEADER = struct.Struct(">cIII")  # kind, bytes of the payload, and height and width of a frame
_FRAME, _DATA, _END, _ERROR, _BEAT = b"F", b"D", b"E", b"X", b"B"
_NEXT, _STOP = b"n", b"s"
_BEATS = 5.0  # seconds


# ------------------------------------------------------------------ the parent's side


def read(path: str | Path, task: str, *arguments: Any) -> Iterator[Any]:
    """Let a child read a file, and yield what it answers.

    Parameters
    ----------
    path : str or Path
    task : str
        A function of :mod:`studykit.media.decode`.
    arguments
        What else it takes: numbers and texts.

    Yields
    ------
    (H, W, 3) uint8, bytes or what JSON holds

    Raises
    ------
    MediaError
        The file can't be read, or its decoder has crashed, hung or used too much.
    """
    check_file(Path(path))
    child = _taken()
    ended = False
    try:
        with child.watched():
            child.ask({"path": str(path), "cwd": os.getcwd(), "do": task, "with": arguments})
            while True:
                kind, payload = child.answer()
                if kind == _ERROR:
                    ended = True
                    raise MediaError(json.loads(bytes(payload)))
                if kind == _END:
                    ended = True
                    return
                if kind != _BEAT:
                    child.allow()
                    yield payload if kind in (_FRAME, _DATA) else json.loads(bytes(payload))
    except _Gone as gone:
        ended = True
        raise MediaError(
            f"{path} can't be decoded: {gone}: leave it out, or re-encode it with another program"
        ) from None
    finally:
        if ended or child.stop():
            child.rest()


def check_file(path: Path) -> None:
    """Refuse what is no file, or an empty one, without waiting for anybody to write into it."""
    try:
        found = path.stat()
        if stat.S_ISREG(found.st_mode):
            path.open("rb").close()
    except FileNotFoundError:
        raise MediaError(f"no file {path}: check its path") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero in it
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, PermissionError):
            reason += ": check its rights"
        raise MediaError(f"{path} can't be read: {reason}") from None
    if stat.S_ISDIR(found.st_mode):
        raise MediaError(f"{path} is a folder: name a file in it")
    if not stat.S_ISREG(found.st_mode):
        kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
        what = kinds.get(stat.S_IFMT(found.st_mode), "a device")
        raise MediaError(f"{path} is {what}: name a file")
    if not found.st_size:
        raise MediaError(f"{path} is empty (0 bytes): copy or export it again")


def limits() -> list[str]:
    """Return which limits a child has on this system, of "memory", "processor time", "wall time".

    Raises
    ------
    MediaError
        No child can be started.
    """
    child = _taken()
    try:
        return [*child.limits, "wall time"]
    finally:
        child.rest()


class _Gone(Exception):
    """A child has ended before it was done; the text says how."""


class _Child:
    """A process that decodes, as its parent sees it."""

    def __init__(self) -> None:
        # As this process imports; -S leaves out what the site would add again.
        paths = [path or os.getcwd() for path in sys.path]
        most = f"{MEMORY}, {PROCESSOR}"
        code = f"import sys; sys.path[:] = {paths!r}; from {__name__} import serve; serve({most})"
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            # Each thread would reserve memory, of which a child has no more than the limit.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        )
        self._due = float("inf")
        self._late = threading.Event()
        try:
            with self.watched():
                self.limits = json.loads(bytes(self.answer()[1]))
        except (_Gone, ValueError) as error:
            raise MediaError(f"no process to decode media can be started: {error}") from None

    def ask(self, request: dict[str, Any]) -> None:
        self._say(json.dumps(request).encode() + b"\n" + _NEXT * _AHEAD)

    def allow(self) -> None:
        """Let it make one answer more."""
        self._say(_NEXT)

    def answer(self) -> tuple[bytes, np.ndarray]:
        """Wait for the next answer: its kind and its payload."""
        self._due = time.monotonic() + WALL
        kind, length, height, width = _HEADER.unpack(bytes(self._received(_HEADER.size)))
        payload = self._received(length)
        self._due = float("inf")
        return kind, payload.reshape(height, width, 3) if kind == _FRAME else payload

    def stop(self) -> bool:
        """End a reading that is not wanted any more; False if the child had to be killed."""
        if self._due != float("inf"):  # an answer was left half-read
            self.end()
            return False
        try:
            with self.watched(_STOPPING):
                self._say(_STOP)
                while self.answer()[0] not in (_END, _ERROR):
                    self._due = time.monotonic() + _STOPPING
        except _Gone:
            return False
        return True

    def rest(self) -> None:
        """Wait for the next reading."""
        if self._process.poll() is None:
            with _lock:
                _idle.append(self)

    def lives(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    @contextlib.contextmanager
    def watched(self, step: float = 1.0) -> Iterator[None]:
        """Kill the child from a thread when an answer is overdue."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(step):
                if time.monotonic() > self._due:
                    self._late.set()
                    self._process.kill()
                    return

        thread = threading.Thread(target=watch, name="studykit-decoding", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()

    def _say(self, data: bytes) -> None:
        try:
            self._process.stdin.write(data)
        except OSError:
            raise self._gone() from None

    def _received(self, length: int) -> np.ndarray:
        buffer = np.empty(length, np.uint8)
        view, done = memoryview(buffer), 0
        while done < length:
            count = self._process.stdout.readinto(view[done:])
            if not count:
                raise self._gone()
            done += count
        return buffer

    def _gone(self) -> _Gone:
        code = self._process.wait()
        self.end()
        if self._late.is_set():
            return _Gone(f"its decoder gave no answer within {WALL:g} s")
        if code == -getattr(signal, "SIGXCPU", 0):
            return _Gone(f"its decoder took more than {PROCESSOR} s of processor time for a frame")
        if code < 0:
            return _Gone(f"its decoder crashed ({signal.Signals(-code).name})")
        return _Gone(f"its decoder ended with code {code}")


_lock = threading.Lock()
_idle: list[_Child] = []


def _taken() -> _Child:
    with _lock:
        while _idle:
            child = _idle.pop()
            if child.lives():
                return child
    return _Child()


@atexit.register
def _end_all() -> None:
    while _idle:
        _idle.pop().end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # they are the parent's


# ------------------------------------------------------------------ the child's side


def serve(memory: int, processor: int) -> None:
    """Read requests from the standard input, and answer on the standard output, until it ends.

    Parameters
    ----------
    memory : int
        How many bytes this process may use.
    processor : int
        How many seconds of processor time it may use between two answers.
    """
    requests, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(2, 1)  # what libraries print is no answer
    for name in ("SIGINT", "SIGXFSZ"):  # a ctrl-C is the parent's matter
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    outlet = _Outlet(requests, answers, memory, processor)
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        outlet.say(outlet.limited)
        for line in requests:
            # What the parent has allowed beyond the last reading's end still stands before it.
            _serve(json.loads(line.lstrip(_NEXT + _STOP)), outlet)


def _serve(request: dict[str, Any], outlet: "_Outlet") -> None:
    import gc
    import tempfile

    import av

    from studykit.media import decode

    if decode.messages is None:
        # FFmpeg's own messages go into a file: through Python, its threads would wait for each
        # other.
        decode.messages = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        os.dup2(decode.messages.fileno(), 2)
        av.logging.restore_default_callback()
        av.logging.set_libav_level(av.logging.ERROR)
        gc.freeze()  # what is imported is no garbage, and would take longest to look through
    decode.beat = outlet.beat
    outlet.begin()
    path, task, given = request["path"], request["do"], request["with"]
    try:
        with contextlib.suppress(OSError):
            os.chdir(request["cwd"])
        if task == "sound":
            decode.sound(path, Fraction(given[0]), outlet)
        elif task in ("frames", "samples"):
            with contextlib.closing(getattr(decode, task)(path, *given)) as items:
                for item in items:
                    outlet.put(item)
        else:
            outlet.put(getattr(decode, task)(path, *given))
        outlet.finish(_END)
    except _Stopped:
        outlet.finish(_END)
    except MediaError as error:
        outlet.finish(_ERROR, str(error))
    except MemoryError:
        most = f"{outlet.memory >> 20} MiB"
        outlet.finish(_ERROR, f"{path} takes more than {most} to decode: scale it down")
    except BrokenPipeError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        outlet.finish(_ERROR, f"{path} can't be decoded ({text}): re-encode it")
    finally:
        gc.collect()  # PyAV's decoders hang in reference cycles


class _Stopped(Exception):
    """The parent wants no more of this reading."""


class _Outlet:
    """Where a child's answers go, when its parent is ready for them."""

    def __init__(self, requests: Any, answers: int, memory: int, processor: int) -> None:
        self._requests, self._answers = requests, answers
        self.memory, self._processor = memory, processor
        self.limited = _limit(memory, processor)
        self._last = 0.0

    def begin(self) -> None:
        self._stopped = False
        self._allow_processor()

    def put(self, item: Any) -> None:
        """Hand over a frame, bytes or what JSON holds."""
        self._wait()
        if isinstance(item, np.ndarray):
            height, width, _ = item.shape
            self._send(_FRAME, item.data.cast("B"), height, width)
        elif isinstance(item, bytes):
            self._send(_DATA, item)
        else:
            self.say(item)
        self._allow_processor()

    def write(self, data: bytes) -> int:
        """Hand over a part of a file, as FFmpeg writes it."""
        self.put(bytes(data))
        return len(data)

    def say(self, item: Any) -> None:
        self._send(b"J", json.dumps(item).encode())

    def beat(self) -> None:
        """Tell that there is progress, now and then."""
        if time.monotonic() > self._last + _BEATS:
            self._send(_BEAT, b"")
            self._allow_processor()

    def finish(self, kind: bytes, text: str = "") -> None:
        self._send(kind, json.dumps(text).encode() if text else b"")

    def _wait(self) -> None:
        if self._requests.read(1) != _NEXT:
            raise _Stopped

    def _send(self, kind: bytes, payload: Any, height: int = 0, width: int = 0) -> None:
        view = memoryview(_HEADER.pack(kind, len(payload), height, width))
        for part in (view, memoryview(payload)):
            while part:
                part = part[os.write(self._answers, part) :]
        self._last = time.monotonic()

    def _allow_processor(self) -> None:
        if "processor time" in self.limited:
            import resource

            _lower(resource.RLIMIT_CPU, int(time.process_time()) + self._processor)


def _limit(memory: int, processor: int) -> list[str]:
    """Limit what this process may use, and return what could be limited."""
    try:
        import resource
    except ImportError:
        return []
    limited = []
    for name, most, what in (
        ("RLIMIT_AS", memory, "memory"),
        ("RLIMIT_CPU", processor, "processor time"),
        ("RLIMIT_CORE", 0, ""),
    ):
        # macOS knows no limit on memory.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            _lower(getattr(resource, name), most)
            limited += [what] if what else []
    return limited


def _lower(kind: int, most: int) -> None:
    """Set the soft limit of a resource, which can rise again; the hard one stays."""
    import resource

    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
