"""The database under the store of ratings: its tables, their migrations, and how it is opened."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import studykit
from studykit.errors import MissingPackageError, StudyError

# An execution option: whoever only reads an SQLite file waits for no writer.
READ_ONLY = "studykit_reading"

_BUSY_SECONDS = 60.0
_LOCK = 0x73747564  # names studykit among the advisory locks of a PostgreSQL database
TABLES = sa.MetaData()


class _Moment(sa.TypeDecorator):
    """A time, kept as text in UTC: 2026-01-31T15:04:05.000000+00:00."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Any) -> str | None:
        return value and value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: str | None, _dialect: Any) -> datetime | None:
        return value and datetime.fromisoformat(value)


def _table(name: str, *parts: Any, **options: Any) -> sa.Table:
    """Make a table, each of whose rows names the software that wrote it; a name alone is a text."""
    columns = [
        sa.Column(part, sa.Text, nullable=False) if isinstance(part, str) else part
        for part in parts
    ]
    software = sa.Column("software", sa.Text, nullable=False, default=studykit.__version__)
    return sa.Table(name, TABLES, *columns, software, **options)


def _key(name: str, kind: Any = sa.Text) -> sa.Column:
    return sa.Column(name, kind, primary_key=True, autoincrement=False)


def _serial() -> sa.Column:
    kind = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    return sa.Column("id", kind, sa.Identity(always=True), primary_key=True)


def _whole(name: str, **options: Any) -> sa.Column:
    return sa.Column(name, sa.Integer, nullable=False, **options)


def _now(name: str) -> sa.Column:
    return sa.Column(name, _Moment, nullable=False, default=lambda: datetime.now(UTC))


def _session(**options: Any) -> sa.Column:
    return sa.Column("session", sa.ForeignKey("sessions.session"), nullable=False, **options)


migrations = _table("migrations", _key("name"), _now("applied_at"))
# How many numbers were given to a study's raters.
numbers = sa.Table("numbers", TABLES, _key("study"), _key("simulated", sa.Boolean), _whole("used"))
raters = _table(
    "raters",
    _key("study"),
    _key("rater"),
    sa.Column("simulated", sa.Boolean, nullable=False),
    sa.Column("number", sa.Integer),
    _now("created_at"),
    sa.UniqueConstraint("study", "simulated", "number"),
)
sessions = _table(
    "sessions",
    *(_key("session"), "study", "rater", _now("created_at"), "plan", "study_hash"),
    sa.ForeignKeyConstraint(["study", "rater"], ["raters.study", "raters.rater"]),
)
# The ratings table; whether a rater is simulated stands once, with the rater.
answers = _table(
    "answers",
    *(_serial(), _session(), "study", "rater", _whole("trial"), _whole("attempt", default=0)),
    *("role", "task", "cell", "source", "source_type", "driving", "driving_type", "method"),
    *("other", "criterion", _whole("value")),
    *(sa.Column(name, sa.Integer) for name in ("expected_low", "expected_high")),
    *(sa.Column(name, sa.Double) for name in ("seconds", "watched")),
    *(sa.Column(name, _Moment) for name in ("shown_at", "played_at")),
    *(sa.Column("answered_at", _Moment, nullable=False), "clip_hash", "study_hash"),
    sa.UniqueConstraint("session", "trial", "attempt", "criterion"),
    sqlite_autoincrement=True,
)
undone = _table(
    "undone",
    *(_session(primary_key=True), _key("trial", sa.Integer), _key("attempt", sa.Integer)),
    _now("undone_at"),
)
events = _table(
    "events",
    *(_serial(), _session(), "kind", "detail", _now("noted_at")),
    sa.Index("events_of_session", "session"),
    sqlite_autoincrement=True,
)
# Who has withdrawn, so that nobody comes back by accident: no id, no answer.
withdrawn = _table("withdrawn", _key("study"), _key("rater_hash"), _now("withdrawn_at"))
# What lets somebody in without saying who it is: only the hash of each secret is kept.
links = _table(
    "links",
    _key("hash"),
    *("study", "kind"),
    *(sa.Column(name, sa.Text) for name in ("rater", "outside")),
    _now("created_at"),
    *(sa.Column(name, _Moment) for name in ("expires_at", "revoked_at")),
    sa.UniqueConstraint("study", "outside"),
)


def _first_tables(connection: sa.Connection) -> None:
    TABLES.create_all(connection)


_ONLY_ADDED, _REFUSAL = (answers, undone, events), "ratings are only ever added"
_NO_CHANGE = (
    "CREATE TRIGGER {table}_no_{name} BEFORE {change} ON {table} "
    f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
)


def _rows_are_only_added(connection: sa.Connection) -> None:
    """Refuse to change or remove what was answered, whoever asks."""
    if connection.dialect.name == "postgresql":
        statements = [
            "CREATE OR REPLACE FUNCTION studykit_only_add() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$",
            *(
                f"CREATE TRIGGER only_add BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION studykit_only_add()"
                for table in _ONLY_ADDED
            ),
        ]
    else:
        statements = [
            _NO_CHANGE.format(table=table, name=change.lower(), change=change)
            for table in _ONLY_ADDED
            for change in ("UPDATE", "DELETE")
        ]
    for statement in statements:
        connection.exec_driver_sql(statement)


def _raters_may_withdraw(connection: sa.Connection) -> None:
    withdrawn.create(connection, checkfirst=True)


@contextlib.contextmanager
def rows_may_go(connection: sa.Connection) -> Iterator[None]:
    """Let rows be removed, within one transaction that nobody else sees."""
    postgres = connection.dialect.name == "postgresql"
    for table in _ONLY_ADDED:
        connection.exec_driver_sql(
            f"ALTER TABLE {table} DISABLE TRIGGER only_add"
            if postgres
            else f"DROP TRIGGER {table}_no_delete"
        )
    yield
    for table in _ONLY_ADDED:
        connection.exec_driver_sql(
            f"ALTER TABLE {table} ENABLE TRIGGER only_add"
            if postgres
            else _NO_CHANGE.format(table=table, name="delete", change="DELETE")
        )


def leave_no_trace(engine: sa.Engine) -> bool:
    """Rewrite an SQLite file and its log without what was removed from it.

    Returns
    -------
    bool
        Whether that could be done, as nobody was reading all the time.
    """
    if engine.dialect.name != "sqlite":
        return True  # PostgreSQL's own VACUUM clears its files
    raw, end = engine.raw_connection(), time.monotonic() + _BUSY_SECONDS
    try:
        raw.driver_connection.execute("VACUUM")
        while raw.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True
    except sqlite3.OperationalError:
        return False
    finally:
        raw.close()


def _links(connection: sa.Connection) -> None:
    links.create(connection, checkfirst=True)


# Applied in this order, each once, under names that stay. A migration that adds what the tables
# above have by now looks first whether it is there: a new database has it from the start.
MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (
    _first_tables,
    _rows_are_only_added,
    _links,
    _raters_may_withdraw,
)


def migrate(engine: sa.Engine) -> None:
    """Apply the migrations that a database has not seen, in order, all or none.

    Raises
    ------
    StudyError
        It was written by a newer version.
    """
    known = {migration.__name__: migration for migration in MIGRATIONS}
    with engine.connect().execution_options(**{READ_ONLY: True}) as connection:
        if sa.inspect(connection).has_table("migrations") and _applied(connection) == set(known):
            return
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        migrations.create(connection, checkfirst=True)
        applied = _applied(connection)
        if newer := sorted(applied - set(known)):
            raise StudyError(
                f"{place_of(engine)} was written by a newer studykit ({newer[0]}): update studykit"
            )
        _apply(connection, [name for name in known if name not in applied])


def create_again(connection: sa.Connection) -> None:
    """Leave nothing but empty tables of today's schema, within the transaction that is going on."""
    TABLES.drop_all(connection)
    migrations.create(connection)
    _apply(connection, [migration.__name__ for migration in MIGRATIONS])


def _apply(connection: sa.Connection, names: Sequence[str]) -> None:
    for migration in MIGRATIONS:
        if migration.__name__ in names:
            migration(connection)
            connection.execute(sa.insert(migrations).values(name=migration.__name__))


def _applied(connection: sa.Connection) -> set[str]:
    return set(connection.scalars(sa.select(migrations.c.name)))


def make_engine(where: str | Path) -> sa.Engine:
    """Return the engine of an SQLite file or of the address of a PostgreSQL database.

    Raises
    ------
    MissingPackageError
        The driver for PostgreSQL is not installed.
    StudyError
        The address can't be read, or the file's folder can't be made.
    """
    if "://" not in str(where):
        path = Path(where)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(f"no folder {path.parent}: {error.strerror}") from None
        url = sa.URL.create("sqlite", database=str(path))
        if path.is_file() and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
            return sa.create_engine(url, creator=_reader_of(path))
        engine = sa.create_engine(url, connect_args={"timeout": _BUSY_SECONDS})
        sa.event.listen(engine, "connect", _prepare_file)
        sa.event.listen(engine, "begin", _begin_in_file)
        return engine
    try:
        url = sa.make_url(str(where))
    except (sa.exc.ArgumentError, ValueError):
        raise StudyError(
            "the store's address can't be read: write postgresql+psycopg://USER@HOST/NAME"
        ) from None
    if url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise StudyError(
            f'a store of ratings is no "{url.drivername}": give a file, '
            "or postgresql+psycopg://USER@HOST/NAME"
        )
    try:
        return sa.create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    except ModuleNotFoundError:
        raise MissingPackageError(
            'PostgreSQL\'s driver psycopg is not installed: pip install "psycopg[binary]>=3.1"'
        ) from None


def _reader_of(path: Path) -> Callable[[], sqlite3.Connection]:
    """Return what connects to a file that can't be written, nor anything beside it."""
    log, copies = path.with_name(f"{path.name}-wal"), None
    where = f"{path.resolve().as_uri()}?immutable=1"
    if log.is_file() and log.stat().st_size:  # a killed writer's last answers are in there alone
        copies = tempfile.TemporaryDirectory(prefix="studykit-")
        for file in (path, log):
            shutil.copy(file, copies.name)
        where = f"{Path(copies.name, path.name).as_uri()}?mode=ro"

    def connect(_kept: Any = copies) -> sqlite3.Connection:
        return sqlite3.connect(where, uri=True, check_same_thread=False)

    return connect


def place_of(engine: sa.Engine) -> str:
    """Return where a database is, without a password."""
    if engine.dialect.name == "sqlite":
        return engine.url.database
    return engine.url.render_as_string(hide_password=True)


def _prepare_file(connection: Any, _record: Any) -> None:
    """Set up a new connection to an SQLite file: durable, and patient with other writers."""
    connection.isolation_level = None  # transactions are begun by _begin_in_file
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # what is removed is overwritten
    # The change of mode needs the file alone and does not wait for it; once made it stays. A file
    # system that has no shared memory keeps its old journal, which is slower and as safe.
    end = time.monotonic() + _BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except connection.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def _begin_in_file(connection: sa.Connection) -> None:
    """Begin so that a writer waits at its start and not, in vain, in its middle."""
    reading = connection.get_execution_options().get(READ_ONLY)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
