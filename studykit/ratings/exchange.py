"""Ratings out of studykit and into it: CSV and Parquet files that other tools read and write.

A file is imported whole or, unless that is asked for, not at all; every bad row is listed at once.
"""

import codecs
import csv
import math
import random
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from studykit import files
from studykit.errors import MissingPackageError, StudyError, did_you_mean, first_line
from studykit.ratings import RATING_COLUMNS, RATING_TYPES
from studykit.ratings.design import FLAWS, Clip, Role, reference, study_clips
from studykit.ratings.store import Store, check_rater_id
from studykit.study.file import Study

NEEDED_COLUMNS = ("rater", "cell", "criterion", "value")
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"
_FORMATS = (".csv", ".parquet")
_MOST_HINTS, _MOST_TRIALS = 20, 10**6


@dataclass(frozen=True)
class BadRow:
    """A row that can't be imported: its line in the file, the header's being 1, and why not."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class BadRowsError(StudyError):
    """Rows of a file can't be imported; ``rows`` are all of them."""

    def __init__(self, text: str, rows: tuple[BadRow, ...]) -> None:
        super().__init__(text)
        self.rows = rows


@dataclass(frozen=True, eq=False)
class Imported:
    """What an import adds to a store, as a ratings table, and the rows that it leaves out."""

    ratings: pd.DataFrame
    bad: tuple[BadRow, ...] = ()


def export_ratings(ratings: pd.DataFrame, path: str | Path) -> Path:
    """Write a ratings table, as the file's suffix says: ``.csv`` or ``.parquet``.

    Raises
    ------
    StudyError
        The suffix is another, there are no ratings, or the file can't be written.
    MissingPackageError
        Parquet needs pyarrow.
    """
    path = Path(path)
    suffix = _suffix(path)
    if ratings.empty:
        raise StudyError("there are no ratings to export: collect, import or simulate some first")
    ratings = ratings[list(RATING_COLUMNS)]
    try:
        with files.whole(path) as part:
            if suffix == ".csv":
                guarded = files.cells_for_spreadsheets(ratings)
                guarded.to_csv(part, index=False, date_format=_TIME_FORMAT)
            else:
                _pyarrow()
                ratings.to_parquet(part, engine="pyarrow", index=False)
    except OSError as error:
        raise StudyError(f"{path} can't be written: {error.strerror or error}") from None
    return path


def other_ids(raters: Iterable[str], chance: random.Random | None = None) -> dict[str, str]:
    """Return other ids, drawn at random by rater; without ``chance`` nobody can draw them again."""
    drawn = sorted(set(raters))
    (chance or secrets.SystemRandom()).shuffle(drawn)
    return {rater: f"p{number:04}" for number, rater in enumerate(drawn, start=1)}


def anonymous(ratings: pd.DataFrame, ids: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return a ratings table without what could lead to a person: ids, and the time of day.

    Raters have the ``ids`` given, else :func:`other_ids`, and their rows stand in that order;
    sessions are numbered. Trials keep their order and how long they took. All answers get the day
    on which the last one was given.
    """
    ids = other_ids(ratings["rater"]) if ids is None else ids
    day = ratings["answered_at"].max().normalize() if len(ratings) else None
    rater = ratings["rater"].map(ids).astype(object)
    part = ratings.groupby("rater")["session"].rank(method="dense").map("{:.0f}".format)
    session = ratings["study"] + "/" + rater + "/" + part
    table = ratings.assign(rater=rater, session=session, answered_at=day)
    return table.sort_values(["rater", "session", "trial"], kind="stable", ignore_index=True)


def read_ratings_file(
    study: Study,
    path: str | Path,
    known: pd.DataFrame | None = None,
    *,
    skip_bad: bool = False,
) -> Imported:
    """Read the ratings of a file, collected elsewhere or exported before, and store nothing yet.

    The columns rater, cell, criterion and value are needed. Any other of the ratings table may
    be there; where one is missing or empty, it is filled in: what the cell says (its source,
    driving, method and their types), the role "rating", the study's task, one session a rater,
    trials in the order of the rows, and the time of the import. A cell may also be a driving's
    name (a hidden reference) or ``frozen__<cell>``, ``torn__<cell>``, ``shaken__<cell>`` (gold).
    CSV may be divided by commas, semicolons or tabs, with decimal commas, in UTF-8 or UTF-16, and
    named .tsv or .txt too.

    Parameters
    ----------
    study : Study
        Whose cells, criteria and scale the rows must keep to.
    path : path
        A CSV or Parquet file.
    known : DataFrame, optional
        The ratings that the store holds already.
    skip_bad : bool
        Take the good rows even if there are bad ones.

    Raises
    ------
    BadRowsError
        There are bad rows, among them those that stand twice or are known already.
    StudyError
        The file can't be read, lacks a column or has an unknown one, or mixes simulated and human
        ratings.
    """
    path = Path(path)
    reader = _Reader(study, known)
    bad, good = [], []
    for line, row in _rows(path):
        try:
            good.append(reader.read(line, row))
        except (ValueError, StudyError) as error:
            bad.append(BadRow(line, str(error)))
    if bad and not skip_bad:
        count = len(bad) + len(good)
        raise BadRowsError(
            f"{len(bad)} of {count} rows of {path} are bad ({bad[0]}): nothing was imported; "
            "correct them, or leave them out with --skip-bad",
            tuple(bad),
        )
    table = pd.DataFrame(good, columns=list(RATING_COLUMNS)).astype(RATING_TYPES)
    if table.empty:
        raise BadRowsError(f"{path} holds no rating that can be imported", tuple(bad))
    if table["simulated"].nunique() > 1:
        raise StudyError(f"{path} mixes simulated and human ratings: import one kind only")
    return Imported(table, tuple(bad))


def import_ratings(
    store: Store, study: Study, path: str | Path, *, skip_bad: bool = False
) -> Imported:
    """Add the ratings of a file to a study's store, as :func:`read_ratings_file` reads them.

    Raises
    ------
    StudyError
        As :func:`read_ratings_file`, or the store holds the other kind; nothing was imported.
    """
    read = read_ratings_file(study, path, store.ratings(study.name), skip_bad=skip_bad)
    store.refuse_other_kind(study.name, simulated=bool(read.ratings["simulated"].iloc[0]))
    store.append(read.ratings)
    return read


class _Reader:
    """Checks the rows of a file one by one and fills in what they leave out."""

    def __init__(self, study: Study, known: pd.DataFrame | None) -> None:
        self.study = study
        self.cells = _known_cells(study)
        self.criteria = [criterion.name for criterion in study.ratings.asked]
        self.now = datetime.now(UTC)
        self.hints: dict[str, str] = {}
        self.seen: dict[tuple, str] = {}
        self.trials: dict[tuple, int] = {}
        self.next_trial: defaultdict[str, int] = defaultdict(int)
        if known is not None:
            for row in known.to_dict("records"):
                self.seen |= dict.fromkeys(
                    (_place(row), _answer(row)), "the store holds it already"
                )
            self.next_trial |= (known.groupby("session")["trial"].max() + 1).to_dict()

    def read(self, line: int, given: dict[str, Any]) -> dict[str, Any]:
        """Return a row of the ratings table, or raise ValueError or StudyError with the reason."""
        if given.get(None):
            raise ValueError("it has more values than there are columns")
        study, rater = self.study, _text(given, "rater")
        if not rater:
            raise ValueError("no rater")
        check_rater_id(rater)
        if (name := _text(given, "study") or study.name) != study.name:
            raise ValueError(f'study "{name}" is not "{study.name}"')
        clip = self._clip(_text(given, "cell"))
        task, highest = study.ratings.task, study.ratings.highest
        usual_role = _ROLES_OF_KINDS.get(clip.kind, "rating")
        row = {
            "study": study.name,
            "rater": rater,
            "session": _session(given, f"{study.name}/{rater}/"),
            "simulated": _flag(given, "simulated"),
            "role": _choice(given, "role", get_args(Role), usual_role),
            "task": _choice(given, "task", (task,), task),
            **clip.columns,
            "other": "",
            "criterion": _choice(given, "criterion", self.criteria),
            "value": _number(given, "value", 1, highest, needed=True),
            "expected_low": _number(given, "expected_low", 1, highest),
            "expected_high": _number(given, "expected_high", 1, highest),
            "seconds": _number(given, "seconds"),
            "watched": _number(given, "watched"),
            "answered_at": _time(given, "answered_at") or self.now,
            "clip_hash": _hash(given, "clip_hash"),
            "study_hash": _hash(given, "study_hash"),
        }
        for name, value in clip.columns.items():
            if (its := _text(given, name)) and its != value:
                raise ValueError(f'{name} "{its}" is not that of {clip.cell}, "{value}"')
        other = _text(given, "other")
        if (task == "pair") != bool(other):
            raise ValueError("a pair needs the other clip" if not other else "other is for pairs")
        if other:
            second = self._clip(other)
            if second == clip or (second.source, second.driving) != (clip.source, clip.driving):
                raise ValueError("a pair is two clips of the same source and driving")
            row["other"] = second.cell
        trial = _number(given, "trial", 0, _MOST_TRIALS)
        # With a trial's number a clip may come again; without one that is a row given twice. Its
        # trial is then that of its other criteria, or a new one.
        session = row["session"]
        shown = session, row["role"], row["cell"], row["other"]
        row["trial"] = self.trials.get(shown, self.next_trial[session]) if trial is None else trial
        for key in (_place(row), *([_answer(row)] if trial is None else [])):
            if key in self.seen:
                raise ValueError(f"a duplicate: {self.seen[key]}")
        self.trials[shown] = row["trial"]
        self.next_trial[session] = max(self.next_trial[session], row["trial"] + 1)
        self.seen |= dict.fromkeys((_place(row), _answer(row)), f"line {line} is the same")
        return row

    def _clip(self, name: str) -> Clip:
        if not name:
            raise ValueError("no cell")
        if name not in self.cells:
            raise ValueError(f'no cell "{name}"{self._hint(name)}')
        return self.cells[name]

    def _hint(self, name: str) -> str:
        """Suggest the nearest cell, for the first few: there may be thousands of each."""
        if name not in self.hints and len(self.hints) < _MOST_HINTS:
            near, _, _ = did_you_mean(name, self.cells).partition("Known:")
            self.hints[name] = f": {near.strip()}" if near.strip() else ""
        return self.hints.get(name, "")


def _place(row: dict[str, Any]) -> tuple:
    return "place", row["session"], row["trial"], row["criterion"]


def _answer(row: dict[str, Any]) -> tuple:
    return "answer", row["rater"], row["role"], row["cell"], row["other"], row["criterion"]


_ROLES_OF_KINDS = {"reference": "reference"} | dict.fromkeys(FLAWS, "gold")


def _known_cells(study: Study) -> dict[str, Clip]:
    """Return everything that a session of the study can show, by its name in data."""
    clips = study_clips(study)
    spoilt = [clip.spoilt(kind) for clip in clips for kind in FLAWS]
    return {clip.cell: clip for clip in (*clips, *spoilt, *map(reference, study.drivings))}


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each row of a file with its line, the header's being 1."""
    suffix = path.suffix.lower()
    read = _csv_rows if suffix in (".tsv", ".txt") else _READERS[_suffix(path)]
    try:
        yield from read(path)
    except FileNotFoundError:
        raise StudyError(f"no file {path}: check its path") from None
    except OSError as error:
        raise StudyError(f"{path} can't be read: {error.strerror or error}") from None


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a text, as programs and spreadsheets of any country write them."""
    # Not by pandas, which knows no lines and refuses a file for one that is too long.
    with path.open("rb") as file:
        utf16 = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    with path.open(encoding="utf-16" if utf16 else "utf-8-sig", newline="") as file:
        first, line = 1, 0  # the header's line, and how far it was read
        try:
            header = file.readline()
            if named := re.fullmatch(r"sep=(.)\s*", header):  # Excel's own line
                first, header = 2, file.readline()
            divider = named[1] if named else max(",;\t", key=header.count)
            columns = [name.strip() for name in next(csv.reader([header], delimiter=divider), [])]
            while columns and not columns[-1]:
                columns.pop()
            _check_columns(path, columns)
            for row in (reader := csv.reader(file, delimiter=divider)):
                line = first + reader.line_num
                cells = [files.from_spreadsheet(text.strip()) for text in row]
                if any(cells):
                    more = "".join(cells[len(columns) :])
                    found = dict(zip(columns, cells, strict=False)) | ({None: more} if more else {})
                    yield line, found
        except UnicodeError:
            raise StudyError(f"{path} is not a text in UTF-8: save it as such") from None
        except csv.Error as error:
            raise StudyError(f"{path}, line {line + 1}: {error}: correct the CSV") from None


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    pyarrow = _pyarrow()
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names)
            yield from enumerate(file.read().to_pylist(), start=2)
    except pyarrow.ArrowException as error:
        raise StudyError(f"{path} is no Parquet file: {first_line(error)}") from None


_READERS = {".csv": _csv_rows, ".parquet": _parquet_rows}


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    for name in columns:
        if columns.count(name) > 1:
            raise StudyError(f'{path} has two columns "{name}": keep one')
        if name not in RATING_COLUMNS:
            raise StudyError(
                f'{path} has an unknown column "{name}": remove it, or '
                f"{did_you_mean(name, RATING_COLUMNS)}"
            )
    if missing := [name for name in NEEDED_COLUMNS if name not in columns]:
        raise StudyError(
            f"{path} lacks the column {missing[0]}: {', '.join(NEEDED_COLUMNS)} are needed"
        )


def _suffix(path: Path) -> str:
    if path.suffix.lower() not in _FORMATS:
        raise StudyError(f"{path} names no format: let it end in {' or '.join(_FORMATS)}")
    return path.suffix.lower()


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise MissingPackageError(
            'Parquet needs pyarrow, which is not installed: pip install "pyarrow>=15", or use .csv'
        ) from None
    return pyarrow


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    return "" if value is None else str(value).strip()


def _hash(row: dict[str, Any], name: str) -> str:
    text = _text(row, name)
    if not re.fullmatch(r"[0-9A-Za-z]{,128}( [0-9A-Za-z]{,128})?", text, re.ASCII):  # of a pair two
        raise ValueError(f'{name} must be a hash, digits and letters, not "{text:.80}"')
    return text


def _session(row: dict[str, Any], prefix: str) -> str:
    """Return the session, whose name begins with study and rater, so that no two share one."""
    name = _text(row, "session") or "imported"
    if len(name) > 200 or not name.isprintable():
        raise ValueError(f"session must be a short name, not {name[:80]!a}")
    return name if name.startswith(prefix) else prefix + name


def _choice(
    row: dict[str, Any], name: str, known: Iterable[str], default: str | None = None
) -> str:
    value = _text(row, name) or default
    if value is None:
        raise ValueError(f"no {name}")
    if value not in known:
        raise ValueError(f'no {name} "{value}": {did_you_mean(value, known)}')
    return value


def _number(
    row: dict[str, Any], name: str, low: int = 0, high: int | None = None, *, needed: bool = False
) -> float | None:
    """Return a number of at least ``low``; where there is a ``high``, a whole one up to that."""
    text = _text(row, name)
    if not text and not needed:
        return None
    try:
        # A spreadsheet may write 4 as 4.0 or, in half of the world, as 4,0.
        number = float(text.replace(",", ".") if text.count(",") == 1 else text)
    except ValueError:
        number = math.nan
    if high is None and low <= number < math.inf:
        return number
    if high is not None and low <= number <= high and number.is_integer():
        return int(number)
    asked = f"number of at least {low}" if high is None else f"whole number from {low} to {high}"
    raise ValueError(f'{name} must be a {asked}, not "{text}"')


def _flag(row: dict[str, Any], name: str) -> bool:
    text = _text(row, name).lower()
    if text in ("true", "1", "yes"):
        return True
    if text in ("", "false", "0", "no"):
        return False
    raise ValueError(f'{name} must be true or false, not "{text}"')


def _time(row: dict[str, Any], name: str) -> datetime | None:
    text = _text(row, name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        # Without a zone it is taken as UTC, not as whatever this machine's zone is.
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f'{name} must be a time such as 2026-01-31T15:04:05Z, not "{text}"'
        ) from None
