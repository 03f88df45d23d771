"""Where ratings are kept: a file of the study, or a PostgreSQL database for many raters.

Rows are only ever added, and each call has committed before it returns, so that what a rater was
shown as stored is stored. Of an answer that was taken back both are kept.
"""

import contextlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import studykit
from studykit.errors import MissingPackageError, StudyError, first_line
from studykit.ratings import RATING_COLUMNS
from studykit.ratings.design import Trial, study_hash

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import Connection, CursorResult, Engine

    from studykit.study.file import Study

HISTORY_COLUMNS = ("attempt", "undone", "shown_at", "played_at", "software")

_RATINGS, _REHEARSAL = "ratings.sqlite", "rehearsal.sqlite"
_BUSY_SECONDS = 60.0
_LOCK = 0x73747564  # names studykit among the advisory locks of a PostgreSQL database


@dataclass(frozen=True)
class RaterRecord:
    """A rater of a study.

    Attributes
    ----------
    rater : str
        A pseudonymous id.
    number : int or None
        From 0, in the order in which raters came, simulated ones counted apart; None for those
        whose ratings were collected elsewhere.
    simulated : bool
    """

    rater: str
    number: int | None
    simulated: bool


@dataclass(frozen=True)
class SessionRecord:
    """A session as the store knows it.

    Attributes
    ----------
    trials : tuple of Trial
        As they were planned when it began; empty if it was collected elsewhere.
    answered : int
        How many trials, from the first, have an answer that holds.
    undoable : bool
        Whether the newest answer holds, so that it can be taken back.
    questions : dict of str or None
        What the rater told of itself; None if that was not asked yet.
    paused : bool
    """

    session: str
    study: str
    rater: str
    number: int | None
    simulated: bool
    created_at: datetime
    trials: tuple[Trial, ...]
    answered: int = 0
    undoable: bool = False
    questions: dict[str, str] | None = None
    paused: bool = False


@dataclass(frozen=True)
class Times:
    """When an answer came about, in UTC, and how much of the clip had been played."""

    shown_at: datetime
    played_at: datetime | None
    answered_at: datetime
    watched: float

    @property
    def seconds(self) -> float:
        """From the clip's appearance to the answer."""
        return (self.answered_at - self.shown_at).total_seconds()


def new_rater_id() -> str:
    """Make up an id that tells nothing of the rater, such as ``r-47f3a2c``."""
    # Six hexadecimal digits may all be letters: the decimal one before them lets any id pass.
    return f"r-{secrets.randbelow(10)}{secrets.token_hex(3)}"


def check_rater_id(text: str) -> str:
    """Return a rater's id as it is, if it can be a code and not a name or an address.

    Raises
    ------
    StudyError
        It has spaces, an @ or the like, or no digit.
    """
    if re.fullmatch(r"(?=.*\d)[A-Za-z0-9][A-Za-z0-9_-]{2,63}", text, re.ASCII):
        return text
    raise StudyError(
        f'"{text}" is no rater id: names and addresses are not stored, give a code of 3 to 64 '
        'letters, digits, "-" and "_" with a digit in it, such as r-7f3a2c'
    )


def place_of(study: "Study", out: Path) -> str | Path:
    """Return where people's ratings are kept: the study's database, or the file in its folder."""
    return study.ratings.store or out / _RATINGS


def is_there(where: str | Path) -> bool:
    """Return whether a store can be opened without being made; of a database that is assumed."""
    return "://" in str(where) or Path(where).is_file()


def store_of(study: "Study", out: Path) -> "Store":
    """Open the store of people's ratings, as :func:`place_of` says where.

    Raises
    ------
    StudyError
        As :func:`open_store`.
    """
    return open_store(place_of(study, out))


def rehearsal_of(out: Path) -> Path:
    """Return the file of a study's simulated ratings, which stay apart from people's."""
    return out / _REHEARSAL


def open_rehearsal(study: "Study", out: Path) -> "Store":
    """Open the store of a study's simulated ratings, a new one where the study file has changed.

    Raises
    ------
    StudyError
        As :func:`open_store`.
    """
    path = rehearsal_of(out)
    if path.is_file():
        with open_store(path) as store:
            known = store.study_hashes(study.name)
        if known - {study_hash(study)}:
            for file in (path, *path.parent.glob(f"{path.name}-*")):
                file.unlink()
    return open_store(path)


def place_to_report(study: str, out: Path, store: str = "") -> str | Path:
    """Return which store to report on: people's, or the rehearsal's as long as nobody has rated.

    Parameters
    ----------
    study : str
        The study's name.
    out : Path
        Its folder.
    store : str
        The address of people's ratings; "" is the file in the folder, which need not be there.

    Raises
    ------
    StudyError
        As :func:`open_store`.
    """
    people, rehearsal = store or out / _RATINGS, rehearsal_of(out)
    if not rehearsal.is_file():
        return people
    if not store and not (out / _RATINGS).is_file():
        return rehearsal
    with open_store(people) as opened:
        return people if opened.study_hashes(study) else rehearsal


def open_store(where: str | Path) -> "Store":
    """Open a store, made if it is not there and brought to today's schema if it is older.

    Parameters
    ----------
    where : path or str
        An SQLite file, or the address of a PostgreSQL database such as
        ``postgresql+psycopg://user@host/name``.

    Raises
    ------
    MissingPackageError
        The driver for PostgreSQL is not installed.
    StudyError
        It can't be reached, is no store, or was written by a newer version.
    """
    from sqlalchemy import event
    from sqlalchemy.exc import DBAPIError

    engine = _engine(where)
    place = _place(engine)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_file)
        event.listen(engine, "begin", _begin_in_file)
    store = Store(engine, place)
    try:
        store.migrate()
    except DBAPIError as error:
        store.close()
        raise StudyError(
            f"{place} can't be opened as a store of ratings: {first_line(error.orig)}: "
            "check the address, and that it can be written"
        ) from None
    except BaseException:
        store.close()
        raise
    return store


class Store:
    """Ratings, sessions and raters of one or more studies; :func:`open_store` makes it.

    Any number of processes may have it open at once. Every method that writes has committed when
    it returns.
    """

    def __init__(self, engine: "Engine", place: str) -> None:
        self._engine = engine
        self.place = place

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def migrate(self) -> None:
        """Apply the migrations that this database has not seen, in order, all or none."""
        from sqlalchemy import inspect

        with self._engine.connect() as connection:
            run = _runner(connection.execution_options(**{_READ_ONLY: True}))
            if inspect(connection).has_table("migrations"):
                applied = run("SELECT name FROM migrations").scalars()
                if set(applied) == {migration.__name__ for migration in MIGRATIONS}:
                    return
        with self._engine.begin() as connection:
            run = _runner(connection)
            if self._engine.dialect.name == "postgresql":
                run(f"SELECT pg_advisory_xact_lock({_LOCK})")
            run(
                "CREATE TABLE IF NOT EXISTS migrations "
                "(name TEXT PRIMARY KEY, software TEXT NOT NULL, applied_at TEXT NOT NULL)"
            )
            applied = set(run("SELECT name FROM migrations").scalars())
            known = {migration.__name__ for migration in MIGRATIONS}
            if newer := sorted(applied - known):
                raise StudyError(
                    f"{self.place} was written by a newer studykit ({newer[0]}): update studykit"
                )
            for migration in MIGRATIONS:
                if migration.__name__ not in applied:
                    migration(run, self._engine.dialect.name)
                    run(
                        _insert("migrations", ("name", "software", "applied_at")),
                        name=migration.__name__,
                        software=studykit.__version__,
                        applied_at=_text(_now()),
                    )

    def register(
        self, study: str, *, rater: str | None = None, simulated: bool = False
    ) -> RaterRecord:
        """Return a rater of a study, who gets the next number if new there.

        Parameters
        ----------
        study : str
            The study's name.
        rater : str, optional
            An id; without one it is made up.
        simulated : bool
            Whether it stands for a simulated rater.

        Raises
        ------
        StudyError
            The id may be a name, belongs to a rater of the other kind, or to one whose ratings
            were collected elsewhere.
        """
        if rater is not None:
            check_rater_id(rater)
            with self._reading() as run:
                if known := _rater(run, study, rater):
                    return _numbered(known, study, simulated)
        with self._writing() as run:
            # This row is locked until the end, so that nobody else gets the same number.
            count = {"study": study, "simulated": simulated}
            run(
                "INSERT INTO numbers (study, simulated, used) VALUES (:study, :simulated, 1) "
                "ON CONFLICT (study, simulated) DO UPDATE SET used = numbers.used + 1",
                **count,
            )
            number = run(
                "SELECT used - 1 FROM numbers WHERE study = :study AND simulated = :simulated",
                **count,
            ).scalar_one()
            made_up = rater is None
            rater = rater or new_rater_id()
            while known := _rater(run, study, rater):
                if not made_up:  # another process was first, a moment ago
                    return _numbered(known, study, simulated)
                rater = new_rater_id()
            run(
                _insert("raters", _RATER_COLUMNS),
                study=study,
                rater=rater,
                simulated=simulated,
                number=number,
                created_at=_text(_now()),
                software=studykit.__version__,
            )
        return RaterRecord(rater, number, simulated)

    def begin(
        self,
        study: str,
        study_hash: str,
        rater: RaterRecord,
        trials: Sequence[Trial],
        *,
        consent: str = "",
    ) -> SessionRecord:
        """Store a rater's session with its plan, and the words that the rater agreed to.

        Raises
        ------
        StudyError
            The rater has begun already, such as in another window.
        """
        session = f"{study}/{rater.rater}/1"
        with self._writing() as run:
            self._lock(run, "raters", study=study, rater=rater.rater)
            if run("SELECT 1 FROM sessions WHERE session = :session", session=session).first():
                raise StudyError(_ELSEWHERE)
            created_at = _now()
            run(
                _insert("sessions", _SESSION_COLUMNS),
                session=session,
                study=study,
                rater=rater.rater,
                created_at=_text(created_at),
                plan=json.dumps([trial.to_json() for trial in trials], ensure_ascii=False),
                study_hash=study_hash,
                software=studykit.__version__,
            )
            if consent:
                _note(run, session, "consent", {"text": consent})
        return SessionRecord(
            session, study, rater.rater, rater.number, rater.simulated, created_at, tuple(trials)
        )

    def record(
        self, session: str, trial: int, rows: Sequence[dict[str, Any]], times: Times
    ) -> None:
        """Store the answers of the next trial of a session.

        Parameters
        ----------
        session : str
        trial : int
            Its number; those before it have answers and it has none.
        rows : sequence of dict
            One a criterion, with the columns of the ratings table but for the times.
        times : Times

        Raises
        ------
        StudyError
            The session went on elsewhere, or nothing could be stored.
        """
        with self._writing() as run:
            self._lock(run, "sessions", session=session)
            answered, _ = _progress(run, session)
            if answered != trial:
                raise StudyError(_ELSEWHERE)
            attempt = run(
                "SELECT coalesce(max(attempt) + 1, 0) FROM answers "
                "WHERE session = :session AND trial = :trial",
                session=session,
                trial=trial,
            ).scalar_one()
            shared = {
                "seconds": times.seconds,
                "watched": times.watched,
                "shown_at": _text(times.shown_at),
                "played_at": _text(times.played_at) if times.played_at else None,
                "answered_at": _text(times.answered_at),
                "attempt": attempt,
                "software": studykit.__version__,
            }
            run(_insert("answers", _ANSWER_COLUMNS), [row | shared for row in rows])

    def undo(self, session: str, trial: int) -> None:
        """Take the last answer of a session back; it stays in the history.

        Raises
        ------
        StudyError
            The session went on elsewhere, or this answer was taken back already.
        """
        with self._writing() as run:
            self._lock(run, "sessions", session=session)
            answered, latest = _progress(run, session)
            if latest is None or answered != trial + 1 or latest[0] != trial:
                raise StudyError(_ELSEWHERE)
            run(
                _insert("undone", ("session", "trial", "attempt", "undone_at", "software")),
                session=session,
                trial=trial,
                attempt=latest[1],
                undone_at=_text(_now()),
                software=studykit.__version__,
            )

    def note(self, session: str, kind: str, **detail: Any) -> None:
        """Store something else that happened in a session: consent, questions, paused, resumed."""
        with self._writing() as run:
            _note(run, session, kind, detail)

    def session(self, study: str, rater: str) -> SessionRecord | None:
        """Return a rater's newest session of a study, None if there is none."""
        found = self._sessions("s.study = :study AND s.rater = :rater", study=study, rater=rater)
        return found[-1] if found else None

    def sessions(self, study: str | None = None) -> list[SessionRecord]:
        """Return all sessions, of one study if it is named, in the order in which they began."""
        if study is None:
            return self._sessions("1 = 1")
        return self._sessions("s.study = :study", study=study)

    def append(self, ratings: "pd.DataFrame") -> int:
        """Add rows of a ratings table that was not collected by sessions here.

        Parameters
        ----------
        ratings : DataFrame
            With the columns :data:`studykit.ratings.RATING_COLUMNS`.

        Returns
        -------
        int
            How many rows were added: all of them.

        Raises
        ------
        StudyError
            A column is missing, an id may be a name, a rater is simulated in one place and human
            in another, or a row is there already; nothing is added then.
        """
        from sqlalchemy.exc import IntegrityError

        missing = [name for name in RATING_COLUMNS if name not in ratings.columns]
        if missing:
            raise StudyError(f"a ratings table needs the columns {', '.join(missing)} too")
        if ratings.empty:
            return 0
        for rater in ratings["rater"].unique():
            check_rater_id(rater)
        rows = _plain_rows(ratings)
        people = {(row["study"], row["rater"], row["simulated"]) for row in rows}
        sessions = {row["session"]: row for row in rows}
        now = _text(_now())
        stamp = {"created_at": now, "software": studykit.__version__}
        try:
            with self._writing() as run:
                new = []
                for study, rater, simulated in sorted(people):
                    if known := _rater(run, study, rater):
                        _same_kind(known, study, simulated)
                        if known.number is not None:  # rows would stand in for the session's own
                            raise StudyError(
                                f"rater {rater} of {study} rates in {self.place} itself: add these "
                                "ratings under another id"
                            )
                    else:
                        values = {"study": study, "rater": rater, "simulated": simulated}
                        new.append(values | stamp | {"number": None})
                if new:
                    run(_insert("raters", _RATER_COLUMNS), new)
                begun = set(run("SELECT session FROM sessions").scalars())
                new = [
                    {key: row[key] for key in ("session", "study", "rater", "study_hash")}
                    | stamp
                    | {"plan": "[]"}
                    for session, row in sessions.items()
                    if session not in begun
                ]
                if new:
                    run(_insert("sessions", _SESSION_COLUMNS), new)
                run(_insert("answers", _ANSWER_COLUMNS), rows)
        except IntegrityError as error:
            raise StudyError(
                f"nothing was added to {self.place}: a rating of the same session, trial and "
                f"criterion is there already, or stands twice ({first_line(error.orig)})"
            ) from None
        return len(rows)

    def refuse_other_kind(self, study: str, *, simulated: bool) -> None:
        """Refuse simulated raters where people take part, and the other way round.

        Raises
        ------
        StudyError
            The store knows raters of the other kind in this study.
        """
        with self._reading() as run:
            others = run(
                "SELECT count(*) FROM raters WHERE study = :study AND simulated = :other",
                study=study,
                other=not simulated,
            ).scalar_one()
        if others:
            held, new = ("human", "simulated") if simulated else ("simulated", "human")
            raise StudyError(
                f"{self.place} holds {held} ratings of {study}, which {new} ones must not join: "
                "choose another folder with --out, or another store with --store"
            )

    def study_hashes(self, study: str) -> set[str]:
        """Return which versions of a study's file answers were given under, by their hashes."""
        with self._reading() as run:
            found = run("SELECT DISTINCT study_hash FROM answers WHERE study = :study", study=study)
            return set(found.scalars())

    def state(self, study: str) -> str:
        """Return what stays the same for as long as no answer is added or taken back."""
        with self._reading() as run:
            answers = run(
                "SELECT count(*), coalesce(max(id), 0) FROM answers WHERE study = :study",
                study=study,
            ).one()
            undone = run(
                "SELECT count(*) FROM undone u JOIN sessions s ON s.session = u.session "
                "WHERE s.study = :study",
                study=study,
            ).scalar_one()
        return f"{answers[0]} {answers[1]} {undone}"

    def ratings(self, study: str | None = None, *, history: bool = False) -> "pd.DataFrame":
        """Return the ratings table, human and simulated rows alike.

        Parameters
        ----------
        study : str, optional
            The name of the one study that is wanted.
        history : bool
            Whether to return answers that were taken back too, with the columns
            :data:`HISTORY_COLUMNS` beside the others.

        Returns
        -------
        DataFrame
            With :data:`studykit.ratings.RATING_COLUMNS`, in the order of the answers.
        """
        columns = (*RATING_COLUMNS, *HISTORY_COLUMNS)
        wanted = ", ".join(
            {"simulated": "r.simulated", "undone": "u.session IS NOT NULL"}.get(name, f"a.{name}")
            for name in columns
        )
        query = (
            f"SELECT {wanted} FROM answers a "
            "JOIN raters r ON r.study = a.study AND r.rater = a.rater "
            "LEFT JOIN undone u ON u.session = a.session AND u.trial = a.trial "
            "AND u.attempt = a.attempt"
        )
        conditions = []
        if study is not None:
            conditions.append("a.study = :study")
        if not history:
            conditions.append("u.session IS NULL")
        if conditions:
            query += " WHERE " + " AND ".join(conditions)
        with self._reading() as run:
            rows = run(f"{query} ORDER BY a.id", **({"study": study} if study else {})).all()
        table = _typed(rows, columns)
        return table if history else table[list(RATING_COLUMNS)]

    def _sessions(self, condition: str, **values: str) -> list[SessionRecord]:
        with self._reading() as run:
            found = run(
                "SELECT s.session, s.study, s.rater, r.number, r.simulated, s.created_at, s.plan "
                "FROM sessions s JOIN raters r ON r.study = s.study AND r.rater = s.rater "
                f"WHERE {condition} ORDER BY s.created_at, s.session",
                **values,
            ).all()
            events: dict[str, dict[str, Any]] = {}
            for session, kind, detail in run(
                "SELECT e.session, e.kind, e.detail FROM events e "
                f"JOIN sessions s ON s.session = e.session WHERE {condition} ORDER BY e.id",
                **values,
            ):
                known = events.setdefault(session, {})
                if kind == "questions":
                    known["questions"] = json.loads(detail)
                elif kind in ("paused", "resumed"):
                    known["paused"] = kind == "paused"
            records = []
            for session, name, rater, number, simulated, created_at, plan in found:
                answered, latest = _progress(run, session)
                records.append(
                    SessionRecord(
                        session,
                        name,
                        rater,
                        number,
                        bool(simulated),
                        datetime.fromisoformat(created_at),
                        tuple(map(Trial.from_json, json.loads(plan))),
                        answered,
                        latest is not None,
                        **events.get(session, {}),
                    )
                )
        return records

    def _lock(self, run: "Run", table: str, **key: str) -> None:
        """Let no other process write about the same thing; a file has one writer anyway."""
        if self._engine.dialect.name == "postgresql":
            condition = " AND ".join(f"{name} = :{name}" for name in key)
            run(f"SELECT 1 FROM {table} WHERE {condition} FOR UPDATE", **key)

    @contextlib.contextmanager
    def _writing(self) -> Iterator["Run"]:
        """Give what runs statements in one transaction that nobody else can cross."""
        from sqlalchemy.exc import DBAPIError, IntegrityError

        try:
            with self._engine.begin() as connection:
                yield _runner(connection)
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise StudyError(
                f"nothing was stored in {self.place}: {first_line(error.orig)}: mend that and "
                "do the last step again"
            ) from None

    @contextlib.contextmanager
    def _reading(self) -> Iterator["Run"]:
        from sqlalchemy.exc import DBAPIError

        try:
            with self._engine.connect() as connection:
                yield _runner(connection.execution_options(**{_READ_ONLY: True}))
        except DBAPIError as error:
            raise StudyError(f"{self.place} can't be read: {first_line(error.orig)}") from None


Run = Callable[..., "CursorResult"]

_READ_ONLY = "studykit_reading"
_ELSEWHERE = "this session went on in another window or on another machine: open it again"
_RATER_COLUMNS = ("study", "rater", "simulated", "number", "created_at", "software")
_SESSION_COLUMNS = (
    "session", "study", "rater", "created_at", "plan", "study_hash", "software",
)  # fmt: skip
# Whether a rater is simulated stands once, with the rater.
_ANSWER_COLUMNS = (
    *(name for name in RATING_COLUMNS if name != "simulated"),
    "attempt", "shown_at", "played_at", "software",
)  # fmt: skip
_WHOLE, _OPTIONAL_WHOLE = ("trial", "value"), ("expected_low", "expected_high")
_REAL = ("seconds", "watched")
_MOMENTS = ("answered_at", "shown_at", "played_at")


def _first_tables(run: Run, dialect: str) -> None:
    serial = {
        "sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "postgresql": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    }[dialect]
    real = {"sqlite": "REAL", "postgresql": "DOUBLE PRECISION"}[dialect]
    run(
        """CREATE TABLE numbers (
        study TEXT NOT NULL, simulated BOOLEAN NOT NULL, used INTEGER NOT NULL,
        PRIMARY KEY (study, simulated))"""
    )
    run(
        """CREATE TABLE raters (
        study TEXT NOT NULL, rater TEXT NOT NULL, simulated BOOLEAN NOT NULL, number INTEGER,
        created_at TEXT NOT NULL, software TEXT NOT NULL,
        PRIMARY KEY (study, rater), UNIQUE (study, simulated, number))"""
    )
    run(
        """CREATE TABLE sessions (
        session TEXT PRIMARY KEY, study TEXT NOT NULL, rater TEXT NOT NULL,
        created_at TEXT NOT NULL, plan TEXT NOT NULL, study_hash TEXT NOT NULL,
        software TEXT NOT NULL,
        FOREIGN KEY (study, rater) REFERENCES raters (study, rater))"""
    )
    run(
        f"""CREATE TABLE answers (
        id {serial},
        session TEXT NOT NULL REFERENCES sessions, study TEXT NOT NULL, rater TEXT NOT NULL,
        trial INTEGER NOT NULL, attempt INTEGER NOT NULL, role TEXT NOT NULL, task TEXT NOT NULL,
        cell TEXT NOT NULL, source TEXT NOT NULL, source_type TEXT NOT NULL,
        driving TEXT NOT NULL, driving_type TEXT NOT NULL, method TEXT NOT NULL,
        other TEXT NOT NULL, criterion TEXT NOT NULL, value INTEGER NOT NULL,
        expected_low INTEGER, expected_high INTEGER, seconds {real}, watched {real},
        shown_at TEXT, played_at TEXT, answered_at TEXT NOT NULL,
        clip_hash TEXT NOT NULL, study_hash TEXT NOT NULL, software TEXT NOT NULL,
        UNIQUE (session, trial, attempt, criterion))"""
    )
    run(
        """CREATE TABLE undone (
        session TEXT NOT NULL REFERENCES sessions, trial INTEGER NOT NULL,
        attempt INTEGER NOT NULL, undone_at TEXT NOT NULL, software TEXT NOT NULL,
        PRIMARY KEY (session, trial, attempt))"""
    )
    run(
        f"""CREATE TABLE events (
        id {serial},
        session TEXT NOT NULL REFERENCES sessions, kind TEXT NOT NULL, detail TEXT NOT NULL,
        noted_at TEXT NOT NULL, software TEXT NOT NULL)"""
    )
    run("CREATE INDEX events_of_session ON events (session)")


def _rows_are_only_added(run: Run, dialect: str) -> None:
    """Refuse to change or remove what was answered, whoever asks."""
    if dialect == "postgresql":
        run(
            """CREATE FUNCTION studykit_only_add() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'ratings are only ever added'; END $$"""
        )
    for table in ("answers", "undone", "events"):
        if dialect == "postgresql":
            run(
                f"CREATE TRIGGER only_add BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION studykit_only_add()"
            )
            continue
        for change in ("UPDATE", "DELETE"):
            run(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                "BEGIN SELECT RAISE(ABORT, 'ratings are only ever added'); END"
            )


# Applied in this order, each once, and never changed after a release: add another instead.
MIGRATIONS: tuple[Callable[[Run, str], None], ...] = (_first_tables, _rows_are_only_added)


def _engine(where: str | Path) -> "Engine":
    from sqlalchemy import URL, create_engine, make_url
    from sqlalchemy.exc import ArgumentError

    if "://" not in str(where):
        path = Path(where)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(f"no folder {path.parent}: {error.strerror}") from None
        url = URL.create("sqlite", database=str(path))
        return create_engine(url, connect_args={"timeout": _BUSY_SECONDS})
    try:
        url = make_url(str(where))
    except (ArgumentError, ValueError):
        raise StudyError(
            "the store's address can't be read: write postgresql+psycopg://USER@HOST/NAME"
        ) from None
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername != "postgresql+psycopg":
        raise StudyError(
            f'a store of ratings is no "{url.drivername}": give a file, '
            "or postgresql+psycopg://USER@HOST/NAME"
        )
    try:
        return create_engine(url, pool_pre_ping=True)
    except ModuleNotFoundError:
        raise MissingPackageError(
            'PostgreSQL\'s driver psycopg is not installed: pip install "psycopg[binary]>=3.1"'
        ) from None


def _place(engine: "Engine") -> str:
    """Return where a store is, without a password."""
    if engine.dialect.name == "sqlite":
        return engine.url.database
    return engine.url.render_as_string(hide_password=True)


def _prepare_file(connection: Any, _record: Any) -> None:
    """Set up a new connection to an SQLite file: durable, and patient with other writers."""
    connection.isolation_level = None  # transactions are begun by _begin_in_file
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    _use_write_ahead_log(cursor)
    cursor.close()


def _use_write_ahead_log(cursor: Any) -> None:
    import sqlite3

    # The change of mode needs the file alone and does not wait for it; once made it stays. A file
    # system that has no shared memory keeps its old journal, which is slower and as safe.
    end = time.monotonic() + _BUSY_SECONDS
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def _begin_in_file(connection: "Connection") -> None:
    """Begin so that a writer waits at its start and not, in vain, in its middle."""
    reading = connection.get_execution_options().get(_READ_ONLY)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _runner(connection: "Connection") -> Run:
    """Return what runs a statement with values by name, or once for each of a list of rows."""
    from sqlalchemy import text

    def run(statement: str, rows: list[dict[str, Any]] | None = None, **values: Any) -> Any:
        return connection.execute(text(statement), values if rows is None else rows)

    return run


def _insert(table: str, columns: Sequence[str]) -> str:
    places = ", ".join(f":{name}" for name in columns)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"


def _note(run: Run, session: str, kind: str, detail: dict[str, Any]) -> None:
    run(
        _insert("events", ("session", "kind", "detail", "noted_at", "software")),
        session=session,
        kind=kind,
        detail=json.dumps(detail, ensure_ascii=False),
        noted_at=_text(_now()),
        software=studykit.__version__,
    )


def _rater(run: Run, study: str, rater: str) -> RaterRecord | None:
    row = run(
        "SELECT rater, number, simulated FROM raters WHERE study = :study AND rater = :rater",
        study=study,
        rater=rater,
    ).one_or_none()
    return RaterRecord(row.rater, row.number, bool(row.simulated)) if row else None


def _same_kind(known: RaterRecord, study: str, simulated: bool) -> RaterRecord:
    if known.simulated != simulated:
        kind = "simulated" if known.simulated else "human"
        raise StudyError(f"rater {known.rater} of {study} is {kind}: choose another id")
    return known


def _numbered(known: RaterRecord, study: str, simulated: bool) -> RaterRecord:
    _same_kind(known, study, simulated)
    if known.number is None:
        raise StudyError(
            f"the ratings of rater {known.rater} of {study} were collected elsewhere: "
            "choose another id to rate here"
        )
    return known


def _progress(run: Run, session: str) -> tuple[int, tuple[int, int] | None]:
    """Return how many trials are answered, and the newest answer's trial and attempt if it holds.

    Trials are answered in order, and only the newest answer can be taken back.
    """
    newest = run(
        "SELECT a.trial, a.attempt, u.session AS undone FROM answers a "
        "LEFT JOIN undone u ON u.session = a.session AND u.trial = a.trial "
        "AND u.attempt = a.attempt WHERE a.session = :session ORDER BY a.id DESC LIMIT 1",
        session=session,
    ).one_or_none()
    if newest is None:
        return 0, None
    if newest.undone:
        return newest.trial, None
    return newest.trial + 1, (newest.trial, newest.attempt)


def _plain_rows(ratings: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return a ratings table's rows as the database takes them."""
    import pandas as pd

    columns: dict[str, list] = {}
    for name in RATING_COLUMNS:
        values = ratings[name]
        if name == "answered_at":
            values = pd.to_datetime(values, utc=True).dt.strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")
        elif name in _WHOLE or name in _OPTIONAL_WHOLE:
            values = values.astype("Int64")
        elif name in _REAL:
            values = values.astype("Float64")
        elif name == "simulated":
            values = values.astype(bool)
        else:
            values = values.fillna("").astype(str)
        columns[name] = [None if value is pd.NA else value for value in values.tolist()]
    shared = {"attempt": 0, "shown_at": None, "played_at": None, "software": studykit.__version__}
    return [
        dict(zip(columns, values, strict=True)) | shared
        for values in zip(*columns.values(), strict=True)
    ]


def _typed(rows: Sequence[Any], columns: Sequence[str]) -> "pd.DataFrame":
    import pandas as pd

    table = pd.DataFrame.from_records([tuple(row) for row in rows], columns=list(columns))
    for name in columns:
        if name in _MOMENTS:
            moments = pd.to_datetime(table[name], utc=True, format="ISO8601")
            table[name] = moments.astype("datetime64[us, UTC]")
        elif name in _OPTIONAL_WHOLE:
            table[name] = table[name].astype("Int64")
        elif name in (*_WHOLE, "attempt"):
            table[name] = table[name].astype("int64")
        elif name in _REAL:
            table[name] = table[name].astype("float64")
        elif name in ("simulated", "undone"):
            table[name] = table[name].astype(bool)
        else:
            table[name] = table[name].astype(object)
    return table


def _now() -> datetime:
    return datetime.now(UTC)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
