"""The store loses nothing: not by many writers, not by a killed one, not by an older schema."""

import contextlib
import os
import pwd
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from studykit.errors import MissingPackageError, StudyError
from studykit.ratings import RATING_COLUMNS, database, store
from studykit.ratings.design import Clip, Trial
from studykit.ratings.store import (
    HISTORY_COLUMNS,
    RaterRecord,
    Store,
    check_rater_id,
    new_rater_id,
    open_store,
)

CRITERIA = ("naturalness", "structure", "jitter", "consistency")
CLIP = Clip("anna__talk__warp", "anna", "frontal", "talk", "side", "warp")
TRIALS = tuple(Trial(number, "rating", CLIP) for number in range(6))
START = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)


def _postgres_folder() -> Path | None:
    """Return where PostgreSQL's server programs are."""
    beside = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = shutil.which("initdb") or (str(beside[-1]) if beside else None)
    return Path(found).parent if found else None


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """The address of a PostgreSQL server that listens on a socket in a temporary folder only."""
    programs = _postgres_folder()
    folder = Path(tempfile.mkdtemp(prefix="studykit-pg-"))
    user = {}
    if os.getuid() == 0:  # it refuses to run as root
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, **user)

    try:
        run("initdb", "-U", "raters", "-A", "trust", "-E", "UTF8", "--no-sync")
        settings = f"-k {folder} -c listen_addresses='' -c fsync=off"
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", settings, "start")
        try:
            yield f"postgresql+psycopg://raters@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a server of the tests' own."""
    pytest.importorskip("psycopg")
    if _postgres_folder() is None:
        pytest.skip("PostgreSQL's initdb is not installed (Debian: apt-get install postgresql)")
    with postgres_server() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where an empty store can be: a file, or a database."""
    if request.param == "sqlite":
        yield str(tmp_path / "ratings.sqlite")
        return
    import psycopg

    server = request.getfixturevalue("postgres")
    reached = server.replace("+psycopg", "")
    with psycopg.connect(reached, autocommit=True, connect_timeout=60) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    yield server


@pytest.fixture
def opened(address: str) -> Iterator[Store]:
    with open_store(address) as store_:
        yield store_


def answer(
    to: Store, session: str, rater: str, trial: int, value: int = 3, study: str = "small"
) -> None:
    shown = START + timedelta(minutes=trial)
    rows = [
        {
            "study": study,
            "session": session,
            "rater": rater,
            "trial": trial,
            "role": "rating",
            "task": "acr",
            "cell": CLIP.cell,
            "source": CLIP.source,
            "source_type": CLIP.source_type,
            "driving": CLIP.driving,
            "driving_type": CLIP.driving_type,
            "method": CLIP.method,
            "other": "",
            "criterion": criterion,
            "value": value,
            "expected_low": None,
            "expected_high": None,
            "seconds": 9.5,
            "watched": 1.0,
            "shown_at": shown,
            "played_at": shown + timedelta(seconds=4),
            "answered_at": shown + timedelta(seconds=9.5),
            "clip_hash": "c",
            "study_hash": "h",
        }
        for criterion in CRITERIA
    ]
    to.record(session, trial, rows)


def begin(to: Store, study: str = "small", rater: str | None = None) -> tuple[str, str]:
    """Begin a session of a new rater and return both ids."""
    known = to.register(study, rater=rater)
    return to.begin(study, "h", known, TRIALS, consent="Yes?").session, known.rater


def simulated_table(raters: int = 2, trials: int = 3) -> pd.DataFrame:
    rows = [
        {
            "study": "small",
            "rater": f"s-{rater:04}",
            "session": f"small/s-{rater:04}/1",
            "simulated": True,
            "trial": trial,
            "role": "gold" if trial == 1 else "rating",
            "task": "acr",
            "cell": CLIP.cell,
            "source": CLIP.source,
            "source_type": CLIP.source_type,
            "driving": CLIP.driving,
            "driving_type": CLIP.driving_type,
            "method": CLIP.method,
            "other": "",
            "criterion": criterion,
            "value": 1 + (rater + trial) % 5,
            "expected_low": 1 if trial == 1 else None,
            "expected_high": 2 if trial == 1 else None,
            "seconds": 7.25,
            "watched": 1.0,
            "answered_at": START + timedelta(seconds=trial),
            "clip_hash": "c",
            "study_hash": "h",
        }
        for rater in range(raters)
        for trial in range(trials)
        for criterion in CRITERIA
    ]
    table = pd.DataFrame(rows)
    return table.astype({"expected_low": "Int64", "expected_high": "Int64"})


def test_answers_come_back_as_they_were_given(opened: Store) -> None:
    session, rater = begin(opened)
    answer(opened, session, rater, 0, value=4)
    table = opened.ratings("small")
    assert tuple(table.columns) == RATING_COLUMNS
    assert list(table["criterion"]) == list(CRITERIA)
    row = table.iloc[0]
    assert (row["rater"], row["session"], row["value"]) == (rater, session, 4)
    assert (row["simulated"], row["trial"], row["cell"]) == (False, 0, CLIP.cell)
    assert (row["seconds"], row["watched"]) == (9.5, 1.0)
    assert row["answered_at"] == pd.Timestamp(START + timedelta(seconds=9.5))
    assert pd.isna(row["expected_low"])
    assert opened.ratings("other").empty


def test_an_empty_table_has_the_same_kinds_of_columns(opened: Store) -> None:
    empty = opened.ratings()
    opened.append(simulated_table())
    pd.testing.assert_series_equal(empty.dtypes, opened.ratings().dtypes)


def test_an_undone_answer_stays_in_the_history(opened: Store) -> None:
    session, rater = begin(opened)
    answer(opened, session, rater, 0, value=2)
    assert opened.session("small", rater).undoable
    opened.undo(session, 0)
    known = opened.session("small", rater)
    assert (known.answered, known.undoable) == (0, False)
    answer(opened, session, rater, 0, value=5)
    assert set(opened.ratings()["value"]) == {5}
    history = opened.ratings(history=True)
    assert tuple(history.columns) == (*RATING_COLUMNS, *HISTORY_COLUMNS)
    kept = history[["attempt", "undone", "value"]].drop_duplicates().to_numpy().tolist()
    assert kept == [[0, True, 2], [1, False, 5]]
    assert opened.session("small", rater).answered == 1


def test_the_state_changes_with_each_answer_and_each_undo_of_the_study(opened: Store) -> None:
    session, rater = begin(opened)
    states = [opened.state("small")]
    answer(opened, session, rater, 0)
    states.append(opened.state("small"))
    opened.undo(session, 0)
    states.append(opened.state("small"))
    opened.append(simulated_table(1))
    states.append(opened.state("small"))
    assert len(set(states)) == 4
    other, rater = begin(opened, "other")
    answer(opened, other, rater, 0, study="other")
    opened.note(session, "paused")
    assert opened.state("small") == states[-1]


def test_a_session_comes_back_with_its_plan_and_what_the_rater_told(opened: Store) -> None:
    session, rater = begin(opened)
    opened.note(session, "questions", display="A phone")
    opened.note(session, "paused")
    for trial in range(3):
        answer(opened, session, rater, trial)
    known = opened.session("small", rater)
    assert (known.session, known.trials, known.answered) == (session, TRIALS, 3)
    assert (known.questions, known.paused) == ({"display": "A phone"}, True)
    opened.note(session, "resumed")
    assert not opened.session("small", rater).paused
    with pytest.raises(StudyError, match="another window"):
        opened.begin("small", "h", RaterRecord(rater, 0, False), TRIALS)
    assert [s.session for s in opened.sessions("small")] == [session]
    assert opened.session("small", "r-000000") is None


def test_who_rates_here_gets_no_rows_from_elsewhere(opened: Store) -> None:
    session, rater = begin(opened)
    answer(opened, session, rater, 0)
    rows = opened.ratings().assign(session="small/elsewhere")
    with pytest.raises(StudyError, match="under another id"):
        opened.append(rows)
    assert opened.session("small", rater).answered == 1


def test_a_window_left_behind_cannot_answer_or_undo(opened: Store) -> None:
    session, rater = begin(opened)
    answer(opened, session, rater, 0)
    for step in (
        lambda: answer(opened, session, rater, 0),
        lambda: answer(opened, session, rater, 2),
        lambda: opened.undo(session, 1),
    ):
        with pytest.raises(StudyError, match="went on in another window"):
            step()
    opened.undo(session, 0)
    with pytest.raises(StudyError, match="went on in another window"):
        opened.undo(session, 0)
    assert len(opened.ratings(history=True)) == len(CRITERIA)


def test_raters_are_numbered_by_study_and_kind(opened: Store) -> None:
    numbers = [opened.register("small").number for _ in range(3)]
    numbers += [opened.register("small", simulated=True).number, opened.register("other").number]
    assert numbers == [0, 1, 2, 0, 0]
    known = opened.register("small", rater="P-17")
    assert (known.rater, known.number) == ("P-17", 3)
    assert opened.register("small", rater="P-17") == known
    with pytest.raises(StudyError, match="P-17 of small is human: choose another id"):
        opened.register("small", rater="P-17", simulated=True)


def test_an_id_that_was_made_up_before_is_not_given_again(
    opened: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter(["r-000001", "r-000001", "r-000002"])
    monkeypatch.setattr(store, "new_rater_id", lambda: next(ids))
    assert [opened.register("small").rater for _ in range(2)] == ["r-000001", "r-000002"]


@pytest.mark.parametrize(
    "text", ["anna@example.org", "Anna Schmidt", "anna schmidt 2", "anna", "", "r1", "r-1\n", "ä1b"]
)
def test_names_and_addresses_are_no_rater_ids(text: str, opened: Store) -> None:
    with pytest.raises(StudyError, match="is no rater id: names and addresses are not stored"):
        opened.register("small", rater=text)
    table = simulated_table(1).assign(rater=text)
    with pytest.raises(StudyError, match="is no rater id"):
        opened.append(table)
    assert opened.ratings().empty


def test_ids_that_are_made_up_pass_however_many_there_are() -> None:
    """One in 354 of six hexadecimal digits has no decimal one among them."""
    made = {new_rater_id() for _ in range(10_000)}
    assert len(made) > 9_990
    for text in made:
        assert check_rater_id(text) == text


@pytest.mark.parametrize("text", ["r-7f3a2c", "5f3b2c1a9d8e7f6a5b4c3d2e", "P-17", "0815"])
def test_codes_are_rater_ids(text: str) -> None:
    assert check_rater_id(text) == text


def test_a_table_is_appended_whole_and_keeps_its_flag(opened: Store) -> None:
    table = simulated_table()
    assert opened.append(table) == len(table) == 24
    pd.testing.assert_frame_equal(opened.ratings(), table[list(RATING_COLUMNS)], check_dtype=False)
    session, rater = begin(opened)
    answer(opened, session, rater, 0)
    assert dict(opened.ratings()["simulated"].value_counts()) == {True: 24, False: 4}


def test_a_table_with_a_known_row_is_refused_whole(opened: Store) -> None:
    opened.append(simulated_table(1))
    with pytest.raises(StudyError, match="a rating of the same session, trial and criterion"):
        opened.append(simulated_table(2))
    twice = pd.concat([simulated_table(3).iloc[-1:]] * 2)
    with pytest.raises(StudyError, match="or stands twice"):
        opened.append(twice)
    assert len(opened.ratings()) == 12
    assert len(opened.sessions()) == 1


def test_simulated_ratings_never_become_human_ones(opened: Store) -> None:
    opened.append(simulated_table(1))
    later = simulated_table(1).assign(session="small/s-0000/2", simulated=False)
    with pytest.raises(StudyError, match="s-0000 of small is simulated"):
        opened.append(later)
    with pytest.raises(StudyError, match="s-0000 of small is simulated"):
        opened.register("small", rater="s-0000")
    assert opened.ratings()["simulated"].all()


def test_a_table_that_lacks_a_column_is_refused(opened: Store) -> None:
    with pytest.raises(StudyError, match="needs the columns watched, clip_hash too"):
        opened.append(simulated_table().drop(columns=["watched", "clip_hash"]))
    assert opened.append(simulated_table().iloc[:0]) == 0


def test_who_rated_elsewhere_cannot_begin_a_session_here(opened: Store) -> None:
    opened.append(simulated_table(1).assign(simulated=False))
    with pytest.raises(StudyError, match="rater s-0000 of small were collected elsewhere"):
        opened.register("small", rater="s-0000")


@pytest.mark.parametrize("change", ["UPDATE answers SET value = 5", "DELETE FROM answers"])
def test_rows_can_be_added_only(opened: Store, change: str) -> None:
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    session, rater = begin(opened)
    answer(opened, session, rater, 0, value=1)
    with (
        pytest.raises(DBAPIError, match="ratings are only ever added"),
        opened._engine.begin() as connection,
    ):
        connection.execute(text(change))
    assert set(opened.ratings()["value"]) == {1}


def test_an_older_store_is_brought_up_to_date_with_its_ratings(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", database.MIGRATIONS[:1])
        with open_store(address) as old:
            session, rater = begin(old)
            answer(old, session, rater, 0, value=2)
    with open_store(address) as new:
        assert set(new.ratings()["value"]) == {2}
        answer(new, session, rater, 1)
        assert len(new.ratings()) == 8
        with new._engine.connect() as connection:
            query = "SELECT name FROM migrations ORDER BY applied_at, name"
            names = list(connection.exec_driver_sql(query).scalars())
    assert names == [migration.__name__ for migration in database.MIGRATIONS]


def test_a_migration_that_fails_leaves_the_store_as_it_was(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(connection) -> None:
        connection.exec_driver_sql("CREATE TABLE half (a INTEGER)")
        raise RuntimeError("the power went")

    with open_store(address) as first:
        session, rater = begin(first)
        answer(first, session, rater, 0)
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, half))
        with pytest.raises(RuntimeError):
            open_store(address)
    with open_store(address) as again:
        assert len(again.ratings()) == 4
        with again._engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE half (a INTEGER)")


def test_a_store_of_a_newer_version_is_refused(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(address).close()
    *known, newest = database.MIGRATIONS
    monkeypatch.setattr(database, "MIGRATIONS", known)
    with pytest.raises(StudyError, match=rf"newer studykit \({newest.__name__}\): update"):
        open_store(address)


def test_a_file_is_durable_and_lets_readers_in_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ratings.sqlite"
    with open_store(path) as opened:
        with opened._engine.connect() as connection:
            settings = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            ]
            assert settings == ["wal", 2, 1]
        writer = sqlite3.connect(path, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        assert opened.ratings().empty
        writer.close()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("mysql://raters@host/name", 'no "mysql"'),
        ("postgresql+psycopg://raters:secret@127.0.0.1:1/name", "can't be opened as a store"),
        ("postgresql://raters@host:port/name", "address can't be read"),
    ],
)
def test_an_address_that_leads_nowhere_is_one_line_without_the_password(
    where: str, message: str
) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StudyError, match=message) as refusal:
        open_store(where)
    assert "\n" not in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no database " * 100)
    with pytest.raises(StudyError, match=r"notes.txt can't be opened as a store of ratings: file"):
        open_store(path)
    assert path.read_text().startswith("no database")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StudyError, match="folder can't be opened as a store"):
        open_store(tmp_path / "folder")


def test_without_its_driver_postgresql_is_a_command_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingPackageError, match=r'pip install "psycopg\[binary\]>='):
        open_store("postgresql://raters@host/name")


def test_who_withdraws_leaves_no_answer_and_can_not_come_back(opened: Store) -> None:
    (session, rater), (other, another) = begin(opened), begin(opened)
    opened.note(session, "questions", display="A phone")
    for trial in range(3):
        answer(opened, session, rater, trial)
        answer(opened, other, another, trial)
    opened.undo(session, 2)
    assert opened.withdraw("small", rater) == 3 * len(CRITERIA)
    assert set(opened.ratings(history=True)["rater"]) == {another}
    assert [known.rater for known in opened.sessions()] == [another]
    assert (opened.withdrawals("small"), opened.withdrawals("other")) == (1, 0)
    assert opened.has_withdrawn("small", rater)
    assert not opened.has_withdrawn("small", another)
    with pytest.raises(StudyError, match="has withdrawn"):
        opened.register("small", rater=rater)
    table = simulated_table(1).assign(rater=rater, simulated=False)
    with pytest.raises(StudyError, match=f"rater {rater} of small has withdrawn: remove"):
        opened.append(table)
    assert opened.register("small").number == 2  # numbers are not given again
    assert opened.register("other", rater=rater).number == 0


def test_a_page_that_is_open_when_its_rater_withdraws_stores_nothing_more(opened: Store) -> None:
    session, rater = begin(opened)
    answer(opened, session, rater, 0)
    opened.withdraw("small", rater)
    for step in (
        lambda: answer(opened, session, rater, 1),
        lambda: opened.undo(session, 0),
        lambda: opened.note(session, "paused"),
    ):
        with pytest.raises(StudyError, match="has withdrawn"):
            step()
    assert opened.ratings(history=True).empty


def test_rows_can_only_be_added_again_after_somebody_withdrew(opened: Store) -> None:
    session, rater = begin(opened)
    answer(opened, session, rater, 0)
    opened.withdraw("small", rater)
    test_rows_can_be_added_only(opened, "DELETE FROM answers")


def test_nobody_can_withdraw_who_is_not_there(opened: Store) -> None:
    _, rater = begin(opened, rater="P-17")
    with pytest.raises(StudyError, match=r'no rater "P-71" of small .*did you mean "P-17"'):
        opened.withdraw("small", "P-71")
    assert opened.withdrawals("small") == 0
    opened.withdraw("small", rater)
    assert opened.withdraw("small", rater) == 0  # what an interrupted call has left is removed
    assert opened.withdrawals("small") == 1


def test_of_who_has_withdrawn_nothing_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ratings.sqlite"
    with open_store(path) as opened, open_store(path) as reader:
        session, rater = begin(opened, rater="P-withdrawn-17")
        opened.note(session, "questions", display="A cathode ray tube")
        for trial in range(6):
            answer(opened, session, rater, trial)
            other, another = begin(opened)
            answer(opened, other, another, 0)
        assert reader.session("small", rater).answered == 6
        held = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert held.count(rater.encode()) > 6 * len(CRITERIA)
        opened.withdraw("small", rater)
        files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        for name, content in files.items():
            for trace in (rater, session, "cathode"):
                assert trace.encode() not in content, name
        assert len(reader.ratings()) == 6 * len(CRITERIA)
    assert (tmp_path / "ratings.sqlite").read_bytes().count(rater.encode()) == 0


def test_traces_that_a_reader_keeps_in_the_file_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.1)
    path = tmp_path / "ratings.sqlite"
    with open_store(path) as opened:
        session, rater = begin(opened)
        answer(opened, session, rater, 0)
        reading = sqlite3.connect(path, isolation_level=None)
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM answers").fetchone()
        with pytest.raises(StudyError, match="may still hold traces: give the same command again"):
            opened.withdraw("small", rater)
        reading.close()
        opened.withdraw("small", rater)
    assert rater.encode() not in path.read_bytes()


def test_what_was_shown_counts_answers_and_what_is_still_to_come(opened: Store) -> None:
    session, rater = begin(opened)
    answer(opened, session, rater, 0)
    answer(opened, session, rater, 1)
    opened.undo(session, 1)
    every = [(CLIP.cell, "")] * len(TRIALS)
    assert opened.shown("small") == [(rater, every)]
    assert opened.shown("small", START) == [(rater, every)]
    assert opened.shown("small", START + timedelta(seconds=10)) == [(rater, every[:1])]
    opened.append(simulated_table(1))
    assert opened.shown("small")[1] == ("s-0000", every[:2])  # of three trials one is gold
    assert opened.shown("other") == []


def test_nobody_else_begins_while_a_plan_is_made(address: str) -> None:
    """Each of many raters at once plans by what all others were given."""
    known: list[int] = []

    def plan(shown: list) -> tuple[Trial, ...]:
        known.append(len(shown))
        time.sleep(0.01)
        return TRIALS

    def enter(_: int) -> None:
        with open_store(address) as opened:
            opened.begin("small", "h", opened.register("small"), plan)

    open_store(address).close()
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(enter, range(12)))
    assert known == list(range(12))


_READER = """
import os, sys
sys.path.insert(0, sys.argv[1])
import pandas, sqlalchemy.dialects.sqlite
from test_store import answer
from studykit.ratings.store import StudyError, open_store

if os.getuid() == 0:  # whom no permission keeps from writing
    os.setuid(65534)
with open_store(sys.argv[2]) as store:
    (session,) = store.sessions()
    print(session.answered, len(store.ratings()), flush=True)
    try:
        answer(store, session.session, session.rater, session.answered)
    except StudyError as error:
        print(error)
"""


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "with a killed writer's log"])
def test_a_store_that_cannot_be_written_can_be_read(tmp_path: Path, killed: bool) -> None:
    folder = Path(tempfile.mkdtemp(prefix="studykit-ro-"))  # which others may enter, too
    path = folder / "ratings.sqlite"
    with open_store(path) as opened:
        session, rater = begin(opened)
        answer(opened, session, rater, 0)
        if killed:
            shutil.copytree(folder, folder / "killed")
    if killed:
        path = folder / "killed" / "ratings.sqlite"
        assert path.with_name("ratings.sqlite-wal").stat().st_size
        path.with_name("ratings.sqlite-shm").unlink()
    before = {file: file.read_bytes() for file in path.parent.iterdir() if file.is_file()}
    for file in before:
        file.chmod(0o444)
    path.parent.chmod(0o555)
    folder.chmod(0o555)
    try:
        command = [sys.executable, "-c", _READER, str(Path(__file__).parent), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    finally:
        folder.chmod(0o755)
        path.parent.chmod(0o755)
        after = {file: file.read_bytes() for file in path.parent.iterdir() if file.is_file()}
        shutil.rmtree(folder)
    counts, refusal = done.stdout.splitlines()
    assert counts == f"1 {len(CRITERIA)}"
    assert "nothing was stored" in refusal and "readonly database" in refusal
    assert after == before


# Forks writers, which takes a hundredth of what starting them would.
_WRITERS = """
import os, sys
sys.path.insert(0, sys.argv[1])
import pandas, sqlalchemy.dialects.postgresql, sqlalchemy.dialects.sqlite
try:
    import psycopg
except ImportError:
    pass
from test_store import answer, begin
from studykit.ratings.store import open_store

def at_once(address, trials):
    with open_store(address) as store:
        session, rater = begin(store)
        for trial in range(trials):
            answer(store, session, rater, trial)
            if trial % 3 == 0:
                store.undo(session, trial)
                answer(store, session, rater, trial)

def until_killed(address, session, rater):
    os.write(1, b"%d\\n" % os.getpid())
    with open_store(address) as store:
        trial = store.session("small", rater).answered
        while True:
            answer(store, session, rater, trial)
            os.write(1, b"%d\\n" % trial)
            trial += 1

def forked(call, *arguments):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            call(*arguments)
            status = 0
        finally:
            os._exit(status)
    return pid

if sys.argv[2] == "at_once":
    pids = [forked(at_once, sys.argv[3], int(sys.argv[5])) for _ in range(int(sys.argv[4]))]
    sys.exit(sum(os.waitpid(pid, 0)[1] != 0 for pid in pids))
for _ in sys.stdin:
    pid = forked(until_killed, *sys.argv[3:])
    os.waitpid(pid, 0)
    os.write(1, b"end\\n")
"""


def writers(*arguments: object) -> list[str]:
    return [sys.executable, "-c", _WRITERS, str(Path(__file__).parent), *map(str, arguments)]


def test_20_processes_that_write_at_once_lose_nothing(address: str) -> None:
    processes, trials = 20, 4
    done = subprocess.run(writers("at_once", address, processes, trials), timeout=120)
    assert done.returncode == 0
    with open_store(address) as opened:
        sessions = opened.sessions("small")
        assert sorted(known.number for known in sessions) == list(range(processes))
        assert {known.answered for known in sessions} == {trials}
        assert len(opened.ratings()) == processes * trials * len(CRITERIA)
        history = opened.ratings(history=True)
        assert len(history) == processes * (trials + 2) * len(CRITERIA)
        assert history["undone"].sum() == processes * 2 * len(CRITERIA)


def kill_writers(place: str | Path, count: int, chance: random.Random) -> int:
    """Kill so many writers of ratings and return how many answers were acknowledged."""
    with open_store(place) as opened:
        session, rater = begin(opened)
    acknowledged, answered = -1, 0
    command = writers("until_killed", place, session, rater)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as forking:
        for _ in range(count):
            forking.stdin.write("\n")
            pid = int(forking.stdout.readline())
            for _ in range(chance.randrange(4)):
                acknowledged = int(forking.stdout.readline())
            time.sleep(chance.uniform(0, 0.01))
            os.kill(pid, signal.SIGKILL)
            for line in iter(forking.stdout.readline, "end\n"):
                acknowledged = int(line)
            with open_store(place) as opened:
                answered = opened.session("small", rater).answered
            assert acknowledged < answered <= acknowledged + 2
        forking.stdin.close()
    with open_store(place) as opened:
        trials = list(opened.ratings()["trial"])
    assert trials == [trial for trial in range(answered) for _ in CRITERIA]
    return acknowledged + 1


def test_kill_9_after_any_answer_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    assert kill_writers(tmp_path / "ratings.sqlite", 50, random.Random(5)) > 51


def test_a_thousand_raters_are_stored_and_exported_in_under_a_minute(tmp_path: Path) -> None:
    table = simulated_table(1000, 18)
    start = time.monotonic()
    with open_store(tmp_path / "ratings.sqlite") as opened:
        assert opened.append(table) == 72_000
        opened.ratings().to_csv(tmp_path / "ratings.csv", index=False)
    assert time.monotonic() - start < 60
    with (tmp_path / "ratings.csv").open() as file:
        assert sum(1 for _ in file) == 72_001
