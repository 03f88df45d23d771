"""Progress of a run, shown where the user looks.

Inside Papermill a notebook's kernel does the work while the user looks at the terminal: the
kernel then reports through a small file, which the terminal's process follows.
"""

import contextlib
import dataclasses
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from studykit import files

_FILE_VARIABLE = "STUDYKIT_PROGRESS"


@dataclass(frozen=True)
class Progress:
    """How far a run is: cells and frames done, of how many, and the cell at hand."""

    cells: int
    cells_total: int
    frames: int
    frames_total: int
    cell: str = ""


class _Bar:
    """A progress bar over frames, with the remaining time, that names the cell at hand."""

    def __init__(self) -> None:
        self._bar = None

    def show(self, progress: Progress) -> None:
        from tqdm.auto import tqdm

        if self._bar is None:
            self._bar = tqdm(total=progress.frames_total, unit="frame", dynamic_ncols=True)
        bar = self._bar
        bar.total = progress.frames_total
        text = f"cell {min(progress.cells + 1, progress.cells_total)}/{progress.cells_total}"
        bar.set_description_str(f"{text} {progress.cell}".strip(), refresh=False)
        bar.update(progress.frames - bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _FileWriter:
    """Writes the newest progress into a file, at most ten times a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = 0.0

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last > 0.1 or progress.cells == progress.cells_total:
            self._last = now
            # What can't be told now is told by the next one: no cell fails for want of a bar.
            with contextlib.suppress(OSError), files.whole(self._path) as part:
                part.write_text(json.dumps(dataclasses.asdict(progress)))

    def close(self) -> None:
        pass


class Meter:
    """Counts cells and frames, and shows them here or in the process that follows this one.

    Several cells may be at hand, and reported of by several threads.
    """

    def __init__(self, cells_total: int, frames_total: int) -> None:
        path = os.environ.get(_FILE_VARIABLE)
        self._display = _FileWriter(Path(path)) if path else _Bar()
        self._now = Progress(0, cells_total, 0, frames_total)
        self._ended = 0  # frames of the cells that have ended
        self._at_hand: dict[str, int] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> "Meter":
        return self

    def __exit__(self, *_: object) -> None:
        self._display.close()

    def frame(self, cell: str, count: int) -> None:
        """Say how many frames of a cell are done."""
        with self._lock:
            self._at_hand[cell] = count
            self._show(cell)

    def end(self, cell: str, frames: int) -> None:
        """End a cell, which counts as ``frames`` frames even if it failed."""
        with self._lock:
            self._at_hand.pop(cell, None)
            self._ended += frames
            self._now = dataclasses.replace(self._now, cells=self._now.cells + 1)
            self._show(next(iter(self._at_hand), cell))

    def _show(self, cell: str) -> None:
        frames = self._ended + sum(self._at_hand.values())
        self._now = dataclasses.replace(self._now, frames=frames, cell=cell)
        self._display.show(self._now)


def read(path: Path) -> Progress | None:
    """Return what was last written to a progress file, None before anything was."""
    try:
        return Progress(**json.loads(path.read_text()))
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def followed(path: Path) -> Iterator[None]:
    """Show, in this process, the progress that processes started inside report through a file."""
    path.unlink(missing_ok=True)
    bar, done = _Bar(), threading.Event()

    def follow() -> None:
        seen = None
        while not done.wait(0.2):
            progress = read(path)
            if progress is not None and progress != seen:
                bar.show(progress)
                seen = progress
        progress = read(path)
        if progress is not None:
            bar.show(progress)

    thread = threading.Thread(target=follow, daemon=True)
    before = os.environ.get(_FILE_VARIABLE)
    os.environ[_FILE_VARIABLE] = str(path)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        bar.close()
        path.unlink(missing_ok=True)
        if before is None:
            del os.environ[_FILE_VARIABLE]
        else:
            os.environ[_FILE_VARIABLE] = before
