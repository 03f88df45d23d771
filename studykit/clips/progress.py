"""Progress of a run: a bar over frames, written to the standard error of whoever does the work."""

import threading

from tqdm import tqdm


class Meter:
    """Counts cells and frames in a bar with the remaining time, which names the cell at hand.

    Several cells may be at hand, and reported of by several threads.
    """

    def __init__(self, cells: int, frames: int) -> None:
        self._cells, self._frames_ended = cells, 0
        self._at_hand: dict[str, int] = {}
        self._ended: set[str] = set()
        self._lock = threading.Lock()
        self._bar = tqdm(total=frames, unit="frame", dynamic_ncols=True)

    def __enter__(self) -> "Meter":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def frame(self, cell: str, count: int) -> None:
        """Say how many frames of a cell are done."""
        with self._lock:
            if cell not in self._ended:  # a worker's report may come after its cell
                self._at_hand[cell] = count
                self._show(cell)

    def end(self, cell: str, frames: int) -> None:
        """End a cell, which counts as ``frames`` frames even if it failed."""
        with self._lock:
            self._at_hand.pop(cell, None)
            self._frames_ended += frames
            self._ended.add(cell)
            self._show(next(iter(self._at_hand), cell))

    def _show(self, cell: str) -> None:
        number = min(len(self._ended) + 1, self._cells)
        self._bar.set_description_str(f"cell {number}/{self._cells} {cell}", refresh=False)
        self._bar.update(self._frames_ended + sum(self._at_hand.values()) - self._bar.n)
