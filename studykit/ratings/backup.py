"""A copy of a store of ratings, taken while raters rate, and the way back.

A backup is one SQLite file, of a PostgreSQL database too: a store like any other, which --store
opens, and which a store of either kind can be restored from.
"""

import contextlib
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from studykit import files
from studykit.errors import StudyError
from studykit.ratings.database import (
    TABLES,
    create_again,
    leave_no_trace,
    links,
    numbers,
    withdrawn,
)
from studykit.ratings.store import Store, open_store, withdraw_again

# Both sides have had the same migrations before anything is copied.
_CONTENT = [table for table in TABLES.sorted_tables if table.name != "migrations"]


def back_up(store: Store, path: str | Path) -> Path:
    """Copy a store as it is at one moment into a new file; nobody who rates has to wait.

    Raises
    ------
    StudyError
        The file is there already or can't be written, or the store can't be read.
    """
    path = Path(path)
    if path.exists():
        raise StudyError(f"{path} is there already: give the backup a name of its own")
    with (
        files.written(path, "choose another place for the backup") as part,
        store.reading() as connection,
    ):
        if connection.dialect.name == "sqlite":
            _copy_file(connection, part, store.place)
        else:
            # Every table as it is at the first one's moment.
            connection.execution_options(isolation_level="REPEATABLE READ")
            _copy_tables(connection, part)
    return path


def restore(
    store: Store, study: str, path: str | Path, kept: Path, *, force: bool = False
) -> Path | None:
    """Put what a backup holds in place of what a store holds, all at once or not at all.

    Raters who have withdrawn since stay withdrawn, and links that were closed since stay closed;
    the backup itself still holds those raters' answers.

    Parameters
    ----------
    store : Store
    study : str
        The name of a study that the backup must know.
    path : str or Path
        The backup.
    kept : Path
        The folder for a copy of what is replaced though the backup lacks it.
    force : bool
        Replace a store that holds what the backup lacks.

    Returns
    -------
    Path or None
        That copy; None where nothing is lost.

    Raises
    ------
    StudyError
        The file is no backup or knows no rater of the study, the store holds what it lacks, or
        can't be written. The store is as it was then.
    """
    with _opened(Path(path)) as backup, backup.reading() as source:
        held = source.scalars(sa.select(TABLES.tables["raters"].c.study).distinct()).all()
        if study not in held:
            raise StudyError(
                f"{path} holds no rater of {study}"
                + (f", but of {', '.join(sorted(held))}" * bool(held))
                + ": is it the backup of another study?"
            )
        with store.writing() as target:
            if target.dialect.name == "postgresql":  # from here on nobody else reads or writes
                names = ", ".join(TABLES.tables)
                target.exec_driver_sql(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")
            newer = _lacking(source, target)
            replaced = None
            if newer:
                what = ", ".join(f"{count} {name}" for name, count in newer.items())
                if not force:
                    raise StudyError(
                        f"{store.place} holds what {path} lacks ({what}): nothing was restored; "
                        "--force replaces it all the same, and keeps a copy"
                    )
                moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
                replaced = kept / f"replaced-{moment}.sqlite"
                with files.written(replaced, "make room for a copy of what is replaced") as part:
                    _copy_tables(target, part)
            gone = target.execute(sa.select(withdrawn)).mappings().all()
            shut = target.execute(sa.select(links).where(links.c.revoked_at.is_not(None))).all()
            create_again(target)
            _copy_rows(source, target)
            for link in shut:  # of somebody who has withdrawn it names no rater
                closed = {"rater": link.rater, "revoked_at": link.revoked_at}
                target.execute(sa.update(links).filter_by(hash=link.hash).values(closed))
            withdraw_again(target, [dict(row) for row in gone])
    leave_no_trace(target.engine)
    return replaced


def _copy_file(source: sa.Connection, part: Path, place: str) -> None:
    """Copy an SQLite file page by page in one step, which sees one moment and stops no writer."""
    with contextlib.closing(sqlite3.connect(part)) as copy:
        try:
            source.connection.driver_connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        except sqlite3.Error as error:
            raise StudyError(f"{place} can't be copied to {part.parent}: {error}") from None


def _copy_tables(source: sa.Connection, part: Path) -> None:
    with open_store(part) as copy, copy.writing() as target:
        _copy_rows(source, target)
    with contextlib.closing(sqlite3.connect(part)) as copied:
        copied.execute("PRAGMA journal_mode = DELETE")


def _copy_rows(source: sa.Connection, target: sa.Connection) -> None:
    """Copy all rows, in their order; those that count themselves get new numbers in that order."""
    for table in _CONTENT:
        rows = source.execute(sa.select(*_columns(table)).order_by(*table.primary_key))
        if found := [dict(row) for row in rows.mappings()]:
            target.execute(sa.insert(table), found)


def _lacking(backup: sa.Connection, store: sa.Connection) -> dict[str, int]:
    """Count, by table, the rows of a store that its backup does not have."""
    newer = {}
    for table in _CONTENT:
        if table is withdrawn:  # they stay withdrawn
            continue
        # Of a count that only grows there is one row a study, here as there; links stay closed.
        by_key = table in (numbers, links)
        columns = list(table.primary_key) if by_key else _columns(table)
        held, known = (
            Counter(map(tuple, connection.execute(sa.select(*columns))))
            for connection in (store, backup)
        )
        if count := (held - known).total():
            newer[table.name] = count
    return newer


def _columns(table: sa.Table) -> list[sa.Column[Any]]:
    return [column for column in table.columns if column.identity is None]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Store]:
    """Open a copy of a backup, brought to today's schema: the backup itself stays as it is."""
    if not path.is_file():
        raise StudyError(f"there is no backup {path}: name the file that a backup was written to")
    with tempfile.TemporaryDirectory(prefix="studykit-") as folder:
        copy = Path(folder) / path.name
        try:
            with (
                contextlib.closing(
                    sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
                ) as given,
                contextlib.closing(sqlite3.connect(copy)) as copied,
            ):
                given.backup(copied)
                (found,) = copied.execute("PRAGMA integrity_check").fetchone()
                copied.execute("SELECT name FROM migrations")
        except sqlite3.Error as error:
            found = str(error)
        if found != "ok":
            raise StudyError(f"{path} is no whole backup of ratings: {found}")
        with open_store(copy) as store:
            yield store
