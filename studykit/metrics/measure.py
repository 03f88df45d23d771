"""From clips to metrics.csv: what a study's folder holds of each cell, and what is missing there.

Each finished cell lies in ``metrics/<cell>.npz``, figures and curves together with the key of all
they depend on: a killed run goes on, a changed clip or a changed metric measures again.
"""

import hashlib
import itertools
import json
import traceback
import zipfile
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from studykit import files
from studykit.cache import code_hash, file_hash
from studykit.clips.cells import CellRow, read_cells
from studykit.clips.executors import WorkerDied, open_executor, outcomes
from studykit.errors import StudyError, first_line
from studykit.media.faces import extractor
from studykit.metrics.catalogue import METRICS, WORST_BY
from studykit.metrics.pair import FEATURES, Measurement, lacking, measure_pair
from studykit.metrics.truth import Transfer, truth_files
from studykit.study.file import Cell, Study

COLUMNS = ("cell", "metric", "value", "unit", "better", "extractor", "driving")
_TABLE, _NOTES, _FOLDER = "metrics.csv", "metrics/notes.csv", "metrics"
# The entry of a cell's file that says what was measured; the others are curves and features.
_RECORD = "measurement"

_Job = tuple[Cell, Path, str]
"""A cell, its clip, and the key of its measurement."""


def measure_study(
    study: Study,
    out: str | Path,
    *,
    jobs: int = 1,
    only: str | None = None,
    report: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Measure every clip that has no measurement yet, and write metrics.csv.

    A clip that can't be measured is a line of ``metrics/notes.csv``, never a stopped study; an
    error that is not the user's leaves its traceback in ``logs/metrics-<cell>.txt``.

    Parameters
    ----------
    study : Study
    out : path
        The folder of its results, with cells.csv and clips.
    jobs : int
        How many processes of this machine measure.
    only : str, optional
        A method's or a cell's name: nothing else is measured.
    report : callable, optional
        Gets the name of each cell as it is finished.

    Returns
    -------
    DataFrame
        As :func:`load`.
    """
    out = Path(out)
    chosen = {cell.name for cell in study.cells(only)}
    rows = read_cells(out / "cells.csv")
    held, failures = [], {}
    pairs: dict[tuple[str, str], list[_Job]] = {}
    for cell in study.cells():
        row = rows.get(cell.name)
        if row is None or row.status != "done" or not (out / row.clip).is_file():
            _file_of(out, cell.name).unlink(missing_ok=True)
            continue
        key = _key(cell, row, out / row.clip)
        if cell.name in chosen and _key_held(out, cell.name) != key:
            pair = (cell.source.name, cell.driving.name)
            pairs.setdefault(pair, []).append((cell, out / row.clip, key))
        held.append((cell.name, key))
    with open_executor(jobs, None, lambda *_: None) as executor:

        def submit(group: list[_Job], _last: BaseException | None) -> Future:
            return executor.submit(_measure_and_keep, study, out, group)

        parts = (outcomes(executor, submit, part) for part in _in_turn(_apart(pairs, jobs)))
        for group, future in itertools.chain.from_iterable(parts):
            names = [cell.name for cell, _, _ in group]
            if failure := _failure(names, future, out):
                failures.update(dict.fromkeys(names, failure))
            for name in names if report is not None else ():
                report(name)
    return _gather(out, held, failures)


def measure_cell(study: Study, cell: Cell, clip: str | Path) -> Measurement:
    """Measure one clip.

    Raises
    ------
    StudyError
        The clip, its source or its driving can't be read.
    """
    (measured,) = measure_pair(study, [(cell, Path(clip))])
    if isinstance(measured, StudyError):
        raise measured
    return measured


def load(out: str | Path) -> pd.DataFrame:
    """Read metrics.csv: one row a cell and metric; without that file, a table without rows.

    Columns: cell, metric, value, unit, better ("higher" or "lower"), extractor ("" where none
    is), driving (the same figure of the driving itself, NaN where that makes no sense).
    """
    return _read_table(Path(out) / _TABLE, COLUMNS, texts=COLUMNS[:2] + COLUMNS[3:6])


def notes(out: str | Path) -> pd.DataFrame:
    """Read what could not be measured, and why: a table of cell and note."""
    return _read_table(Path(out) / _NOTES, ("cell", "note"), texts=("cell", "note"))


def curves(out: str | Path, cell: str) -> dict[str, np.ndarray]:
    """Return what was measured in each frame of a cell's clip; empty where nothing was.

    Arrays of T float32, NaN where a frame has no figure: that of each metric which has one a
    frame, by its name, but AKD's as ``landmark_distance`` and AED's as ``identity_distance``; and
    ``yaw``, ``pitch``, ``roll``, ``eye_opening``, ``mouth_opening``. Those of the driving and of
    the true frames begin with ``driving_`` and ``truth_``. ``landmarks`` and its likes are
    (T, 68, 2); ``frame_rate`` is one number.
    """
    return _entries(Path(out), cell, lambda name: name not in (_RECORD, *FEATURES))


def features(out: str | Path, cell: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the Inception features of a cell's frames and true frames, None without them."""
    found = _entries(Path(out), cell, FEATURES.__contains__)
    return tuple(found[name] for name in FEATURES) if found else None


def worst_frame(found: dict[str, np.ndarray], name: str) -> int | None:
    """Return the frame of a clip's worst moment by one of its curves; None where it has none.

    Which end is worst stands in :data:`studykit.metrics.WORST_BY`.
    """
    curve = found.get(name)
    if curve is None or np.isnan(curve).all():
        return None
    return int(np.nanargmax(curve) if WORST_BY[name] == "higher" else np.nanargmin(curve))


def _apart(pairs: dict[tuple[str, str], list[_Job]], jobs: int) -> list[list[_Job]]:
    """Order pairs so that processes work beside each other at different sources.

    Each then builds the models of few rendered persons.
    """
    sources, drivings = (list(dict.fromkeys(pair[part] for pair in pairs)) for part in (0, 1))
    places = {pair: (sources.index(pair[0]) // jobs, drivings.index(pair[1])) for pair in pairs}
    return [pairs[pair] for pair in sorted(pairs, key=places.__getitem__)]


def _in_turn(groups: list[list[_Job]]) -> tuple[list[list[_Job]], list[list[_Job]]]:
    """Return one group, of frames that are rendered where any are, and the others.

    What it compiles alone, all processes then find on the disk.
    """
    first = max(groups, key=lambda group: len(truth_files(group[0][0])), default=None)
    others = [group for group in groups if group is not first]
    return [first] if first else [], others


def _failure(names: list[str], future: Future, out: Path) -> str:
    """Return why cells were not measured, "" if they were; a fault leaves its traceback."""
    try:
        future.result()
    except WorkerDied as error:
        return f"not measured: {error}"
    except Exception as error:
        log = out / "logs" / f"metrics-{names[0]}.txt"
        log.parent.mkdir(exist_ok=True)
        log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        text = f"{type(error).__name__}: {first_line(error)}"
        return f"not measured, by a fault in studykit: {text}; see {log}"
    return ""


def _measure_and_keep(study: Study, out: Path, jobs: list[_Job], _report: Any) -> None:
    found = measure_pair(study, [(cell, clip) for cell, clip, _ in jobs])
    for (cell, _, key), measured in zip(jobs, found, strict=True):
        if isinstance(measured, StudyError):
            measured = Measurement(cell.name, notes=(f"not measured: {measured}",))
        parts = ("landmarks", "values", "driving", "notes")
        record = {name: getattr(measured, name) for name in parts}
        record["key"] = key
        with files.whole(_file_of(out, cell.name)) as part:
            np.savez_compressed(part, **{_RECORD: json.dumps(record)}, **measured.curves)


def _gather(out: Path, held: list[tuple[str, str]], failures: dict[str, str]) -> pd.DataFrame:
    """Put the measurements that hold together into the two tables."""
    rows, remarks = [], []
    for name, key in held:
        record = _record(out, name)
        if name in failures:
            remarks.append((name, failures[name]))
        elif record.get("key") == key:
            values, own, by = (record[part] for part in ("values", "driving", "landmarks"))
            rows += [
                (name, m.name, values[m.name], m.unit, m.better, m.found_by(by), own.get(m.name))
                for m in METRICS.values()
                if m.name in values
            ]
            remarks += [(name, note) for note in record["notes"]]
    for name, table in (
        (_TABLE, pd.DataFrame(rows, columns=COLUMNS)),
        (_NOTES, pd.DataFrame(remarks, columns=("cell", "note"))),
    ):
        with files.whole(out / name) as part:
            files.cells_for_spreadsheets(table).to_csv(part, index=False)
    return load(out)


def _read_table(path: Path, columns: tuple[str, ...], texts: tuple[str, ...]) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame({name: pd.Series(dtype=object) for name in columns})
    numbers = {name: [""] for name in columns if name not in texts}
    table = pd.read_csv(
        path, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=numbers
    )
    return table[list(columns)]


def _file_of(out: Path, cell: str) -> Path:
    return out / _FOLDER / f"{cell}.npz"


def _entries(out: Path, cell: str, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """Return the arrays of a cell's file that are wanted by name; without that file, none."""
    path = _file_of(out, cell)
    if not path.is_file():
        return {}
    with np.load(path) as data:
        return {name: data[name] for name in filter(wanted, data.files)}


def _record(out: Path, cell: str) -> dict[str, Any]:
    """Return what a cell's file says beside the curves; nothing where it is not whole."""
    try:
        return json.loads(str(_entries(out, cell, _RECORD.__eq__)[_RECORD]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}


def _key_held(out: Path, cell: str) -> str:
    """Return the key of a measurement; what failed is tried again, since its cause may be gone."""
    record = _record(out, cell)
    return record.get("key", "") if record.get("values") else ""


def _key(cell: Cell, row: CellRow, clip: Path) -> str:
    """Return a hash of all that a cell's measurement depends on."""
    parts = {
        "cell": row.cache_key,
        "clip": file_hash(clip),
        "transfer": asdict(Transfer.of(cell.method)),
        "truth": [file_hash(path) for path in truth_files(cell)],
        "lacking": sorted(lacking()),
        "faces": extractor(cell.driving.view.finder),
        "code": code_hash("studykit.metrics.pair"),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
