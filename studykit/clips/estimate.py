"""How long the clips of a run will take, from a few frames a method, and what would shorten it."""

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

from studykit.clips.cell import Task, opened_pair
from studykit.clips.executors import Report
from studykit.machine import usable_cores
from studykit.study.file import Input

# A trial makes no more frames than this share of those that a method has to make, and no more than
# a few; the first one, which may compile or load, is not timed.
_SHARE, _MOST, _LEAST = 0.02, 6, 2
# From how many seconds on it is said what would shorten a run, and to how many frames a driving.
_LONG, _SHORT_DRIVING = 600.0, 250


def time_needed(
    tasks: Sequence[Task],
    counts: Mapping[Input, int],
    submit: Callable[..., Future],
    *,
    jobs: int = 1,
) -> str:
    """Say how long cells will take, from a trial of about a fiftieth of their frames.

    Parameters
    ----------
    tasks : sequence of Task
        The cells that are to be made.
    counts : mapping of Input to int
        How many frames each driving has.
    submit : callable
        Runs the trials: an executor's ``submit``.
    jobs : int
        How many processes will make cells.

    Returns
    -------
    str
        One line; "" where so little is to be done that a trial would cost more than it tells.
    """
    of_method = defaultdict(list)
    for task in tasks:
        of_method[task.cell.method.name].append(task)
    paces: dict[str, float] = {}  # seconds a frame
    # The first method is tried last: what it has prepared then serves its first cell.
    for name, its in reversed(of_method.items()):
        if getattr(its[0].equipped.method, "at_once", False):
            continue
        frames = min(_MOST, int(_SHARE * sum(counts[task.cell.driving] for task in its)))
        if frames >= _LEAST and (pace := submit(try_cell, (its[0], frames)).result()):
            paces[name] = pace

    def seconds(longest: float = float("inf")) -> float:
        return sum(
            pace * min(counts[task.cell.driving], longest) / jobs
            for name, pace in paces.items()
            for task in of_method[name]
        )

    if not paces:
        return ""
    each = ", ".join(f"{name} {paces[name]:.2g} s" for name in of_method if name in paces)
    frames = sum(counts[task.cell.driving] for task in tasks)
    text = f"{len(tasks)} clips of {frames} frames: about {_duration(seconds())} (a frame: {each})"
    return "; ".join([text, *_shorter(seconds, of_method, paces, jobs)])


def try_cell(trial: tuple[Task, int], _report: Report) -> float | None:
    """Make the first frames of a cell and no clip, and return the seconds that one takes.

    None where that fails, which its cell will say.

    Parameters
    ----------
    trial : (Task, int)
        A cell, and how many of its frames.
    """
    task, count = trial
    try:
        state, opened, _ = opened_pair(task)
        frames = iter(task.equipped.method.animate(state, opened))
        next(frames)
        start = time.monotonic()
        made = sum(1 for _ in itertools.islice(frames, count - 1))
        return (time.monotonic() - start) / made
    except Exception:
        return None


def _shorter(
    seconds: Callable[[float], float],
    of_method: Mapping[str, list[Task]],
    paces: Mapping[str, float],
    jobs: int,
) -> list[str]:
    """Say what would make a long run shorter, most effective first."""
    now, found = seconds(float("inf")), []
    if now < _LONG:
        return []
    if (cut := seconds(_SHORT_DRIVING)) < 0.7 * now:
        found.append(f"with max_frames: {_SHORT_DRIVING} for drivings about {_duration(cut)}")
    slow = max(paces, key=lambda name: paces[name] * len(of_method[name]))
    equipped = of_method[slow][0].equipped
    if hasattr(equipped.method, "device") and equipped.device == "cpu":
        found.append(f"{slow} is faster on a GPU")
    elif jobs == 1 and usable_cores() >= 2 and equipped.device == "cpu":
        found.append(f"--jobs {int(usable_cores())} makes several cells at once")
    return found


def _duration(seconds: float) -> str:
    """Say a time as people do: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
