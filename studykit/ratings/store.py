"""Where ratings are kept: a file of the study, or a PostgreSQL database for many raters.

Rows are only ever added, and each call has committed before it returns, so that what a rater was
shown as stored is stored. Of an answer that was taken back both are kept. A rater who withdraws
takes everything along.
"""

import contextlib
import functools
import hashlib
import json
import re
import secrets
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from studykit.errors import StudyError, did_you_mean, first_line
from studykit.ratings import RATING_COLUMNS, RATING_TYPES
from studykit.ratings.database import (
    READ_ONLY,
    answers,
    events,
    leave_no_trace,
    links,
    make_engine,
    migrate,
    numbers,
    place_of,
    raters,
    rows_may_go,
    sessions,
    undone,
    withdrawn,
)
from studykit.ratings.design import Trial, study_hash
from studykit.study.file import Study

if TYPE_CHECKING:
    import pandas as pd

HISTORY_COLUMNS = ("attempt", "undone", "shown_at", "played_at", "software")

_RATINGS, _REHEARSAL = "ratings.sqlite", "rehearsal.sqlite"
_ELSEWHERE = "this session went on in another window or on another machine: open it again"
_WITHDRAWN = "this rater has withdrawn: choose another id"

# A rater, and the cells (two of a pair, else one and "") of a session's rated trials, in order.
ShownTo = tuple[str, list[tuple[str, str]]]


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
    steps : int
        How often a trial was answered or an answer taken back.
    part : int
        Which of the rater's sessions it is, from 1.
    last_answer : datetime or None
    questions : dict of str or None
        What the rater said of itself, in whichever session; None if that was not asked yet.
    checks : dict of float or None
        The share that was read of the plates of each check, in whichever session; None if that
        was not done yet.
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
    steps: int = 0
    part: int = 1
    last_answer: datetime | None = None
    questions: dict[str, str] | None = None
    checks: dict[str, float] | None = None
    paused: bool = False


@dataclass(frozen=True)
class Rated:
    """What a study's ratings mean for a run of it.

    Attributes
    ----------
    clips : frozenset of str
        SHA-256 of every clip that people's scores are about.
    state : str
        What changes with every rating that is given or taken back, "" without a store.
    """

    clips: frozenset[str] = frozenset()
    state: str = ""


def new_rater_id() -> str:
    """Make up an id that says nothing of the rater, such as ``r-47f3a2c``."""
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


def place_to_write(study: Study, out: Path, *, simulated: bool = False) -> str | Path:
    """Return where a study's new ratings go; simulated ones stay apart from people's.

    A rehearsal of an earlier version of the study file is removed: it makes room for a new one.

    Parameters
    ----------
    study : Study
    out : Path
        The folder of its results.
    simulated : bool
        Whether simulated raters give them, or people.

    Raises
    ------
    StudyError
        As :func:`open_store`.
    """
    if not simulated:
        return study.ratings.store or out / _RATINGS
    path = out / _REHEARSAL
    if is_there(path):
        with open_store(path) as store:
            known = store.study_hashes(study.name)
        if known - {study_hash(study)}:
            for file in (path, *out.glob(f"{_REHEARSAL}-*")):
                file.unlink()
    return path


def place_to_read(study: str, out: Path, store: str = "") -> str | Path:
    """Return which ratings to report on: people's, or the rehearsal's as long as nobody has rated.

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
    people, rehearsal = store or out / _RATINGS, out / _REHEARSAL
    if not is_there(rehearsal):
        return people
    if not is_there(people):
        return rehearsal
    with open_store(people) as opened:
        return people if opened.study_hashes(study) else rehearsal


def is_there(place: str | Path) -> bool:
    """Return whether a store can be opened without being made; of a database that is assumed."""
    return "://" in str(place) or Path(place).is_file()


def what_is_rated(study: Study, out: Path) -> Rated:
    """Return what the ratings that a study's report would show mean for a run of it."""
    place = place_to_read(study.name, out, study.ratings.store)
    if not is_there(place):
        return Rated()
    with open_store(place) as store:
        return Rated(store.rated_clips(study.name), f"{place} {store.state(study.name)}")


def open_store(place: str | Path) -> "Store":
    """Open a store, made if it is not there and brought to today's schema if it is older.

    Parameters
    ----------
    place : path or str
        An SQLite file, or the address of a PostgreSQL database such as
        ``postgresql+psycopg://user@host/name``.

    Raises
    ------
    MissingPackageError
        The driver for PostgreSQL is not installed.
    StudyError
        It can't be reached, is no store, or was written by a newer version.
    """
    engine = make_engine(place)
    try:
        migrate(engine)
    except BaseException as error:
        engine.dispose()
        if isinstance(error, sa.exc.DBAPIError):
            raise StudyError(
                f"{place_of(engine)} can't be opened as a store of ratings: "
                f"{first_line(error.orig)}: check the address, and that it can be written"
            ) from None
        raise
    return Store(engine)


class Store:
    """Ratings, sessions and raters of one or more studies; :func:`open_store` makes it.

    Any number of processes may have it open at once. Every method that writes has committed when
    it returns.

    Attributes
    ----------
    place : str
        Its file or address, without a password.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine, self._line = engine, threading.Lock()
        self.place = place_of(engine)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

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
            The id may be a name, belongs to a rater of the other kind, to one whose ratings were
            collected elsewhere, or to one who has withdrawn.
        """
        if rater is not None:
            check_rater_id(rater)
            with self.reading() as connection:
                if known := _rater(connection, study, rater):
                    return _numbered(known, study, simulated)
                if _has_withdrawn(connection, study, rater):
                    raise StudyError(_WITHDRAWN)
        with self.writing() as connection:
            kind = {"study": study, "simulated": simulated}
            # This row is locked until the end, so that nobody else gets the same number.
            connection.execute(
                sa.text(
                    "INSERT INTO numbers (study, simulated, used) VALUES (:study, :simulated, 1) "
                    "ON CONFLICT (study, simulated) DO UPDATE SET used = numbers.used + 1"
                ),
                kind,
            )
            number = connection.scalar(sa.select(numbers.c.used - 1).filter_by(**kind))
            if rater is None:
                rater = unused_rater_id(connection, study)
            elif known := _rater(connection, study, rater):  # another process was first
                return _numbered(known, study, simulated)
            _add(connection, raters, **kind, rater=rater, number=number)
        return RaterRecord(rater, number, simulated)

    def begin(
        self,
        study: str,
        study_hash: str,
        rater: RaterRecord,
        trials: Sequence[Trial] | Callable[[list[ShownTo]], Sequence[Trial]],
        *,
        part: int = 1,
        since: datetime | None = None,
        consent: str = "",
    ) -> SessionRecord:
        """Store a rater's session with its plan, and the words that the rater agreed to.

        Parameters
        ----------
        trials : sequence of Trial, or callable
            The plan; or what makes it of what all raters were shown so far, as :meth:`shown` gives
            it. Nobody else in the study begins meanwhile, so that no two get the same gap to fill.
        part : int
            Which of the rater's sessions it is, from 1.
        since : datetime, optional
            Of a session that is not finished, what is left counts as shown if there was an answer
            since then; always without it.

        Raises
        ------
        StudyError
            The rater has begun already, such as in another window.
        """
        who = {"study": study, "rater": rater.rater}
        session = f"{study}/{rater.rater}/{part}"
        with self.writing() as connection:
            _lock(connection, numbers, study=study, simulated=rater.simulated)
            _lock(connection, raters, **who)
            begun = sa.select(sa.func.count()).select_from(sessions).filter_by(**who)
            if connection.scalar(begun) != part - 1:
                raise StudyError(_ELSEWHERE)
            if callable(trials):
                trials = trials(_shown(connection, study, since))
            plan = json.dumps(list(map(asdict, trials)), ensure_ascii=False)
            _add(connection, sessions, **who, session=session, plan=plan, study_hash=study_hash)
            if consent:
                _note(connection, session, "consent", {"text": consent})
        return self.session(study, rater.rater)

    def shown(self, study: str, since: datetime | None = None) -> list[ShownTo]:
        """Return what each session has shown, and what those under way are about to show.

        Parameters are those of :meth:`begin`. What was shown and is still to be shown stands in
        the order of the session; of ratings collected elsewhere, in that of their trials.
        """
        with self.reading() as connection:
            return _shown(connection, study, since)

    def record(self, session: str, trial: int, rows: Sequence[dict[str, Any]]) -> None:
        """Store the answers of the next trial of a session.

        Parameters
        ----------
        session : str
        trial : int
            Its number; those before it have answers and it has none.
        rows : sequence of dict
            One a criterion, with the columns of the ratings table, and shown_at and played_at:
            when the clip appeared, and when it had been played to its end.

        Raises
        ------
        StudyError
            The session went on elsewhere, or nothing could be stored.
        """
        with self.writing() as connection:
            _lock(connection, sessions, session=session)
            answered, *_ = _progress(connection, session)
            if answered != trial:
                raise StudyError(_ELSEWHERE)
            earlier = connection.scalar(
                sa.select(sa.func.max(answers.c.attempt)).filter_by(session=session, trial=trial)
            )
            attempt = 0 if earlier is None else earlier + 1
            connection.execute(sa.insert(answers), [row | {"attempt": attempt} for row in rows])

    def undo(self, session: str, trial: int) -> None:
        """Take the last answer of a session back; it stays in the history.

        Raises
        ------
        StudyError
            The session went on elsewhere, or this answer was taken back already.
        """
        with self.writing() as connection:
            _lock(connection, sessions, session=session)
            answered, attempt, _ = _progress(connection, session)
            if attempt is None or answered != trial + 1:
                raise StudyError(_ELSEWHERE)
            _add(connection, undone, session=session, trial=trial, attempt=attempt)

    def note(self, session: str, kind: str, **detail: Any) -> None:
        """Store something else that happened in a session: consent, questions, paused, resumed."""
        with self.writing() as connection:
            _lock(connection, sessions, session=session)
            _note(connection, session, kind, detail)

    def notes(
        self, study: str, *kinds: str
    ) -> list[tuple[str, str, dict[str, Any], datetime, str]]:
        """Return what was noted in a study's sessions: rater, kind, details, time and session."""
        noted = (events.c.kind, events.c.detail, events.c.noted_at, events.c.session)
        wanted = sa.select(sessions.c.rater, *noted)
        with self.reading() as connection:
            rows = connection.execute(
                wanted.join_from(events, sessions)
                .where(sessions.c.study == study, events.c.kind.in_(kinds))
                .order_by(events.c.id)
            ).all()
        return [(rater, kind, json.loads(detail), *rest) for rater, kind, detail, *rest in rows]

    def withdraw(self, study: str, rater: str) -> int:
        """Remove a rater with all answers, for good, and return how many answers those were.

        What stays is that somebody has withdrawn, under a hash of the id, so that the same id can't
        take part again. An SQLite file holds nothing of what was removed afterwards, nor does its
        log. Called again it removes what an interrupted call has left.

        Raises
        ------
        StudyError
            There is no such rater, or the file could not be rewritten because it is being read.
        """
        removed = 0
        with self.writing() as connection:
            if _rater(connection, study, rater) is not None:
                removed = _remove(connection, study, rater)
                _add(connection, withdrawn, study=study, rater_hash=_rater_hash(study, rater))
            elif not _has_withdrawn(connection, study, rater):
                known = connection.scalars(sa.select(raters.c.rater).filter_by(study=study))
                hint = did_you_mean(rater, known)
                raise StudyError(f'no rater "{rater}" of {study} in {self.place}: {hint}')
        if not leave_no_trace(self._engine):
            raise StudyError(
                f"the answers of {rater} are removed, but {self.place} is being read, so that its "
                "file may still hold traces: give the same command again"
            )
        return removed

    def has_withdrawn(self, study: str, rater: str) -> bool:
        """Say whether the rater with this id has withdrawn."""
        with self.reading() as connection:
            return _has_withdrawn(connection, study, rater)

    def withdrawals(self, study: str) -> int:
        """Return how many raters have withdrawn."""
        with self.reading() as connection:
            return connection.scalar(_of_withdrawn(study))

    def session(self, study: str, rater: str) -> SessionRecord | None:
        """Return a rater's newest session of a study, None if there is none."""
        return (self.sessions(study, rater) or [None])[-1]

    def sessions(self, study: str | None = None, rater: str | None = None) -> list[SessionRecord]:
        """Return all sessions, or those of a study or rater, in the order in which they began."""
        wanted = {sessions.c.study: study, sessions.c.rater: rater}
        conditions = [column == value for column, value in wanted.items() if value is not None]
        with self.reading() as connection:
            found = connection.execute(
                sa.select(sessions, raters.c.number, raters.c.simulated)
                .join_from(sessions, raters)
                .where(*conditions)
                .order_by(sessions.c.created_at, sessions.c.session)
            ).all()
            noted = connection.execute(
                sa.select(events.c.session, events.c.kind, events.c.detail)
                .join_from(events, sessions)
                .where(*conditions)
                .order_by(events.c.id)
            ).all()
            progress = {row.session: _progress(connection, row.session) for row in found}
            taken_back = Counter(
                connection.scalars(
                    sa.select(undone.c.session).join_from(undone, sessions).where(*conditions)
                )
            )
        known, said = defaultdict(dict), defaultdict(dict)
        for session, kind, detail in noted:
            if kind in ("questions", "checks"):
                said[session.rpartition("/")[0]][kind] = json.loads(detail)
            elif kind in ("paused", "resumed"):
                known[session]["paused"] = kind == "paused"
        parts: Counter[tuple[str, str]] = Counter()
        records = []
        for row in found:
            parts[row.study, row.rater] += 1
            answered, attempt, last_answer = progress[row.session]
            record = SessionRecord(
                *(row.session, row.study, row.rater, row.number, row.simulated, row.created_at),
                trials=tuple(map(Trial.from_json, json.loads(row.plan))),
                answered=answered,
                undoable=attempt is not None,
                # Each answer that was taken back is two steps, and no longer among the answered.
                steps=answered + 2 * taken_back[row.session],
                part=parts[row.study, row.rater],
                last_answer=last_answer,
                **said[f"{row.study}/{row.rater}"],
                **known[row.session],
            )
            records.append(record)
        return records

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
        missing = [name for name in RATING_COLUMNS if name not in ratings.columns]
        if missing:
            raise StudyError(f"a ratings table needs the columns {', '.join(missing)} too")
        if ratings.empty:
            return 0
        for rater in ratings["rater"].unique():
            check_rater_id(rater)
        rows = _plain_rows(ratings)
        people = {(row["study"], row["rater"], row.pop("simulated")) for row in rows}
        by_session = {row["session"]: row for row in rows}
        try:
            with self.writing() as connection:
                for study, rater, simulated in sorted(people):
                    known = _rater(connection, study, rater)
                    if known is None:
                        if _has_withdrawn(connection, study, rater):
                            raise StudyError(f"rater {rater} of {study} has withdrawn: remove "
                                             "these rows from the table")  # fmt: skip
                        _add(connection, raters, study=study, rater=rater, simulated=simulated)
                        continue
                    _same_kind(known, study, simulated)
                    if known.number is not None:  # rows would stand in for the session's own
                        raise StudyError(
                            f"rater {rater} of {study} rates in {self.place} itself: add these "
                            "ratings under another id"
                        )
                begun = set(connection.scalars(sa.select(sessions.c.session)))
                for session in sorted(set(by_session) - begun):
                    row = by_session[session]
                    its = {name: row[name] for name in ("study", "rater", "study_hash")}
                    _add(connection, sessions, session=session, **its, plan="[]")
                connection.execute(sa.insert(answers), rows)
        except sa.exc.IntegrityError as error:
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
        with self.reading() as connection:
            others = sa.select(raters).filter_by(study=study, simulated=not simulated)
            if not connection.execute(others).first():
                return
        held, new = ("human", "simulated") if simulated else ("simulated", "human")
        raise StudyError(
            f"{self.place} holds {held} ratings of {study}, which {new} ones must not join: "
            "choose another folder with --out, or another store with --store"
        )

    def study_hashes(self, study: str) -> set[str]:
        """Return which versions of a study's file answers were given under, by their hashes."""
        with self.reading() as connection:
            found = sa.select(answers.c.study_hash).filter_by(study=study).distinct()
            return set(connection.scalars(found))

    def rated_clips(self, study: str) -> frozenset[str]:
        """Return the SHA-256 of every clip of a study that people's scores are about."""
        scored = answers.c.role.in_(("rating", "repeat")) & ~raters.c.simulated & ~_IS_UNDONE
        found = sa.select(answers.c.clip_hash).distinct().select_from(_ANSWERS_BY_RATERS)
        with self.reading() as connection:
            texts = connection.scalars(found.where(answers.c.study == study, scored)).all()
        return frozenset(" ".join(texts).split())  # a pair's text has two

    def state(self, study: str) -> str:
        """Return what changes with every answer that is given or taken back, and who withdraws."""
        newest = sa.func.coalesce(sa.func.max(answers.c.id), 0)
        given = sa.select(sa.func.count(), newest).where(answers.c.study == study)
        taken_back = sa.select(sa.func.count()).select_from(undone.join(sessions))
        with self.reading() as connection:
            figures = [
                *connection.execute(given).one(),
                connection.scalar(taken_back.where(sessions.c.study == study)),
                connection.scalar(_of_withdrawn(study)),
            ]
        return " ".join(map(str, figures))

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
        import pandas as pd

        names = (*RATING_COLUMNS, *HISTORY_COLUMNS) if history else RATING_COLUMNS
        elsewhere = {"simulated": raters.c.simulated, "undone": _IS_UNDONE}
        found = (
            sa.select(*(elsewhere.get(name, answers.c.get(name)) for name in names))
            .select_from(_ANSWERS_BY_RATERS)
            .order_by(answers.c.id)
        )
        if study is not None:
            found = found.where(answers.c.study == study)
        if not history:
            found = found.where(~_IS_UNDONE)
        with self.reading() as connection:
            rows = connection.execute(found).all()
        table = pd.DataFrame.from_records(rows, columns=list(names))
        return table.astype({name: _TYPES.get(name, object) for name in names})

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give a connection in one transaction that nobody else can cross."""
        try:
            # Threads of this process wait in line; a file that is locked would be asked for again
            # and again, and whoever asks at the right moment comes first.
            with self._line, self._engine.begin() as connection:
                yield connection
        except sa.exc.IntegrityError:
            raise
        except sa.exc.DBAPIError as error:
            raise StudyError(
                f"nothing was stored in {self.place}: {first_line(error.orig)}: fix that and "
                "do the last step again"
            ) from None

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection that only reads."""
        try:
            with self._engine.connect() as connection:
                yield connection.execution_options(**{READ_ONLY: True})
        except sa.exc.DBAPIError as error:
            raise StudyError(f"{self.place} can't be read: {first_line(error.orig)}") from None


def _same(one: sa.Table, other: sa.Table, *columns: str) -> Any:
    return sa.and_(*(one.c[name] == other.c[name] for name in columns))


_ANSWERS = answers.outerjoin(undone, _same(answers, undone, "session", "trial", "attempt"))
_ANSWERS_BY_RATERS = _ANSWERS.join(raters, _same(answers, raters, "study", "rater"))
_IS_UNDONE = undone.c.session.is_not(None)
_MOMENT = RATING_TYPES["answered_at"]
_TYPES = RATING_TYPES | {
    "attempt": "int64", "undone": "bool", "shown_at": _MOMENT, "played_at": _MOMENT,
}  # fmt: skip


def _lock(connection: sa.Connection, table: sa.Table, **key: Any) -> None:
    """Let no other process write about the same thing; a file has one writer anyway.

    Raises
    ------
    StudyError
        It is not there any more: its rater has withdrawn.
    """
    if not connection.execute(sa.select(table).filter_by(**key).with_for_update()).first():
        raise StudyError(_WITHDRAWN)


def _rater_hash(study: str, rater: str) -> str:
    """Hash an id slowly: there are not so many ids that a quick hash could not be searched."""
    return hashlib.scrypt(rater.encode(), salt=study.encode(), n=2**12, r=8, p=1).hex()


def _remove(connection: sa.Connection, study: str, rater: str) -> int:
    """Remove a rater and all that was stored of it; return how many answers that were."""
    who, removed = {"study": study, "rater": rater}, 0
    _lock(connection, raters, **who)
    theirs = list(connection.scalars(sa.select(sessions.c.session).filter_by(**who)))
    with rows_may_go(connection):
        for table in (answers, undone, events, sessions):
            gone = connection.execute(sa.delete(table).where(table.c.session.in_(theirs)))
            removed += gone.rowcount if table is answers else 0
    connection.execute(sa.delete(raters).filter_by(**who))
    # A panel's rater is still known to have been here, by a hash, and not as whom.
    closed = {"rater": None, "revoked_at": datetime.now(UTC)}
    connection.execute(sa.update(links).filter_by(**who).values(closed))
    return removed


def withdraw_again(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Remove whom a backup has brought back, by the rows of ``withdrawn`` from before."""
    known = set(connection.execute(sa.select(withdrawn.c.study, withdrawn.c.rater_hash)).all())
    for row in rows:
        if (row["study"], row["rater_hash"]) not in known:
            connection.execute(sa.insert(withdrawn).values(row))
    gone = {(row["study"], row["rater_hash"]) for row in rows}
    for study in {study for study, _ in gone}:
        for rater in list(connection.scalars(sa.select(raters.c.rater).filter_by(study=study))):
            if (study, _rater_hash(study, rater)) in gone:
                _remove(connection, study, rater)


def _of_withdrawn(study: str) -> sa.Select:
    return sa.select(sa.func.count()).select_from(withdrawn).filter_by(study=study)


def _has_withdrawn(connection: sa.Connection, study: str, rater: str) -> bool:
    of_study = sa.select(withdrawn.c.rater_hash).filter_by(study=study)
    hashes = set(connection.scalars(of_study))
    return bool(hashes) and _rater_hash(study, rater) in hashes


def _shown(connection: sa.Connection, study: str, since: datetime | None) -> list[ShownTo]:
    held = (answers.c.study == study) & ~_IS_UNDONE
    newest = {
        session: (trial, at)
        for session, trial, at in connection.execute(
            sa.select(
                answers.c.session, sa.func.max(answers.c.trial), sa.func.max(answers.c.answered_at)
            )
            .select_from(_ANSWERS)
            .where(held)
            .group_by(answers.c.session)
        )
    }
    elsewhere: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    columns = [answers.c[name] for name in ("session", "trial", "cell", "other")]
    for session, _, cell, other in connection.execute(
        sa.select(*columns)
        .select_from(_ANSWERS.join(sessions, _same(answers, sessions, "session")))
        .where(held, answers.c.role == "rating", sessions.c.plan == "[]")
        .distinct()
        .order_by(*columns[:2])
    ):
        elsewhere[session].append((cell, other))
    found: list[ShownTo] = []
    begun = sa.select(sessions).filter_by(study=study).order_by(sessions.c.created_at)
    for row in connection.execute(begun):
        last, at = newest.get(row.session, (-1, row.created_at))
        to_come = since is None or at >= since
        planned = [cells for trial, cells in _rated_of(row.plan) if to_come or trial <= last]
        found.append((row.rater, elsewhere[row.session] + planned))
    return found


@functools.lru_cache(maxsize=4096)  # plans stay, and each is read whenever somebody begins
def _rated_of(plan: str) -> tuple[tuple[int, tuple[str, str]], ...]:
    """Return the number of each rated trial of a plan, and what it shows."""
    return tuple(
        (number, (trial["clip"]["cell"], trial["other"]["cell"] if trial["other"] else ""))
        for number, trial in enumerate(json.loads(plan))
        if trial["role"] == "rating"
    )


def _add(connection: sa.Connection, table: sa.Table, **row: Any) -> None:
    connection.execute(sa.insert(table).values(row))


def _note(connection: sa.Connection, session: str, kind: str, detail: dict[str, Any]) -> None:
    text = json.dumps(detail, ensure_ascii=False)
    _add(connection, events, session=session, kind=kind, detail=text)


def _rater(connection: sa.Connection, study: str, rater: str) -> RaterRecord | None:
    known = sa.select(raters.c.rater, raters.c.number, raters.c.simulated)
    row = connection.execute(known.filter_by(study=study, rater=rater)).one_or_none()
    return row and RaterRecord(*row)


def unused_rater_id(connection: sa.Connection, study: str) -> str:
    """Make up an id of no rater of a study, nor of anybody who was invited."""
    while True:
        who = {"study": study, "rater": new_rater_id()}
        known = (sa.select(table).filter_by(**who) for table in (raters, links))
        if not any(connection.execute(query).first() for query in known):
            return who["rater"]


def _same_kind(known: RaterRecord, study: str, simulated: bool) -> RaterRecord:
    if known.simulated != simulated:
        kind = "simulated" if known.simulated else "human"
        raise StudyError(f"rater {known.rater} of {study} is {kind}: choose another id")
    return known


def _numbered(known: RaterRecord, study: str, simulated: bool) -> RaterRecord:
    if _same_kind(known, study, simulated).number is None:
        raise StudyError(
            f"the ratings of rater {known.rater} of {study} were collected elsewhere: "
            "choose another id to rate here"
        )
    return known


def _progress(connection: sa.Connection, session: str) -> tuple[int, int | None, datetime | None]:
    """Return how many trials are answered, the newest answer's attempt if it holds, and its time.

    Trials are answered in order, and only the newest answer can be taken back.
    """
    newest = connection.execute(
        sa.select(
            answers.c.trial,
            answers.c.attempt,
            answers.c.answered_at,
            _IS_UNDONE.label("undone"),
        )
        .select_from(_ANSWERS)
        .where(answers.c.session == session)
        .order_by(answers.c.id.desc())
        .limit(1)
    ).one_or_none()
    if newest is None:
        return 0, None, None
    held = (newest.trial, None) if newest.undone else (newest.trial + 1, newest.attempt)
    return *held, newest.answered_at


def _plain_rows(ratings: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return a ratings table's rows as the database takes them."""
    table = ratings[list(RATING_COLUMNS)]
    texts = [name for name in RATING_COLUMNS if name not in RATING_TYPES]
    table = table.fillna(dict.fromkeys(texts, "")).astype(dict.fromkeys(texts, str) | RATING_TYPES)
    return table.astype(object).where(table.notna(), None).to_dict("records")
