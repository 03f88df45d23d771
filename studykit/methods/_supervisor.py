"""Runs one program apart, within bounds, and leaves nothing of it: started by its path alone.

It reads a line of JSON from its standard input, which its parent then keeps open: when that ends,
however the parent came to its end, the program ends too, with all that it has started. How it went
is a line of JSON on the standard output. It imports nothing but the standard library.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

_TAIL = 1 << 16  # bytes that are kept of what a program prints: its last
_STEP = 0.05  # seconds between two looks at a program
_LOOK = 0.5  # seconds between two looks at its folder
_SUBREAPER, _DEATH_SIGNAL = 36, 1  # of Linux's prctl


def main() -> None:
    """Run what the standard input asks for: run, cwd, env, folder, seconds, bytes, files."""
    asked = json.loads(sys.stdin.buffer.readline())
    gone, printed = threading.Event(), bytearray()

    def watch_parent() -> None:
        while os.read(0, 1024):  # a buffered one would hold a lock at this process's end
            pass
        gone.set()

    threading.Thread(target=watch_parent, daemon=True).start()
    _limit(asked["bytes"])
    try:
        program = subprocess.Popen(
            asked["run"], cwd=asked["cwd"], env=asked["env"], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=_end_with_this if sys.platform == "linux" else None,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        print(json.dumps({"why": f"can't be started: {getattr(error, 'strerror', error)}"}))
        return

    def read() -> None:
        while part := os.read(program.stdout.fileno(), _TAIL):
            printed.extend(part)
            del printed[:-_TAIL]

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    why = _watched(program, asked, gone)
    _end(program)
    reader.join(5)
    if gone.is_set():
        shutil.rmtree(asked["folder"], ignore_errors=True)
    text = bytes(printed).decode(errors="replace")
    print(json.dumps({"why": why, "code": program.returncode, "printed": text}), flush=True)


def _watched(program: subprocess.Popen, asked: dict, gone: threading.Event) -> str:
    """Wait for a program, and return why it must end before it does; "" if it need not."""
    start = looked = time.monotonic()
    while not gone.is_set():
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(_STEP)
        now, ended = time.monotonic(), program.returncode is not None
        if ended or now > looked + _LOOK:
            looked, size = now, 0
            for count, one in enumerate(_sizes(asked["folder"]), start=1):
                size += one
                if size > asked["bytes"]:
                    return f"wrote more than {asked['bytes'] >> 20} MiB"
                if count > asked["files"]:
                    return f"wrote more than {asked['files']} files"
        if ended:
            return ""
        if now > start + asked["seconds"]:
            return f"took more than {asked['seconds']:g} s"
    return "was stopped"


def _sizes(folder: str) -> Iterator[int]:
    """Yield the size of each thing in a folder, without following links."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                yield entry.stat(follow_symlinks=False).st_size
                if entry.is_dir(follow_symlinks=False):
                    yield from _sizes(entry.path)


def _limit(size: int) -> None:
    """Limit each file that is written, and have what loses its parent become a child of this."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def _end_with_this() -> None:
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def _end(program: subprocess.Popen) -> None:
    """End a program, its process group, and what has left that but is a child of this by now."""
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(program.pid)], capture_output=True)
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(program.pid, signal.SIGKILL)
    program.wait()
    until = time.monotonic() + 5
    while (left := _children()) and time.monotonic() < until:
        for number in left:
            with contextlib.suppress(OSError):
                os.kill(number, signal.SIGKILL)
                os.waitpid(number, 0)


def _children() -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    return found


if __name__ == "__main__":
    main()
