"""Two logs of one recipe: whether a run, done again, does the same."""

import json
from pathlib import Path
from typing import Any

from studykit.errors import StudyError


def compare_logs(first: str | Path, second: str | Path) -> str:
    """Check that two runs logged the same figures as far as both got.

    Every record that both hold must agree to the last digit, but for the clock; held-out figures
    count where both measured them. That holds on one machine with one number of threads, from one
    recipe and version of PyTorch; elsewhere sums are rounded in another order.

    Parameters
    ----------
    first, second : path
        A ``log.jsonl``, or the folder of a run.

    Returns
    -------
    str
        How many records agree, and up to which step, in a line.

    Raises
    ------
    StudyError
        A log can't be read, the two have no step in common, or they differ: the first difference
        is named.
    """
    one, other = (_records(Path(path)) for path in (first, second))
    shared = [step for step in one if step in other]
    if not shared:
        raise StudyError(f"{first} and {second} have no step in common: they can't be compared")
    for step in shared:
        for name in one[step].keys() & other[step].keys():
            if one[step][name] != other[step][name]:
                raise StudyError(
                    f"the logs differ from {step[0]} of step {step[1]} on: {name} is "
                    f"{one[step][name]} in {first}, {other[step][name]} in {second}"
                )
    last = max(step for _, step in shared)
    return f"{len(shared)} records agree, up to step {last}"


def _records(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    path = path / "log.jsonl" if path.is_dir() else path
    out = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            held_out = record.get("held out")
            kind = "the losses" if held_out is None else "the held-out figures"
            values = record if held_out is None else held_out
            out[kind, record["step"]] = {k: v for k, v in values.items() if k != "seconds"}
    except (OSError, ValueError, KeyError) as error:
        raise StudyError(f"{path} is no log of a training run: {error}") from None
    return out
