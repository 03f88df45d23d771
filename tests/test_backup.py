"""A backup is whole whatever goes on meanwhile, and no restore loses an answer unasked."""

import contextlib
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from studykit.cli import main
from studykit.errors import StudyError
from studykit.ratings import backup, database
from studykit.ratings.backup import back_up, restore
from studykit.ratings.links import Links
from studykit.ratings.store import Store, open_store
from tests.test_store import CRITERIA, TRIALS, address, answer, begin, opened, postgres

__all__ = ["address", "opened", "postgres"]


def everything(store: Store) -> dict[str, list[tuple]]:
    """All rows of all tables, without the numbers that databases give by themselves."""
    with store.reading() as connection:
        return {
            name: [
                tuple(row)
                for row in connection.execute(
                    sa.select(*(c for c in table.c if c.identity is None)).order_by(
                        *table.primary_key
                    )
                )
            ]
            for name, table in database.TABLES.tables.items()
            if name != "migrations"
        }


def rated(store: Store, trials: int = 3, rater: str | None = None) -> tuple[str, str]:
    session, rater = begin(store, rater=rater)
    for trial in range(trials):
        answer(store, session, rater, trial, value=1 + trial % 5)
    return session, rater


def test_a_backup_holds_all_that_the_store_holds_and_is_a_store(
    opened: Store, tmp_path: Path
) -> None:
    session, rater = rated(opened)
    opened.undo(session, 2)
    answer(opened, session, rater, 2, value=5)
    opened.note(session, "paused")
    rated(opened, rater="r-2b")
    path = back_up(opened, tmp_path / "backups" / "monday.sqlite")
    assert sorted(path.parent.iterdir()) == [path]  # one file, no log beside it
    held = everything(opened)
    with open_store(path) as copy:
        assert everything(copy) == held
        pd.testing.assert_frame_equal(
            copy.ratings("small", history=True), opened.ratings("small", history=True)
        )
        assert copy.sessions() == opened.sessions()
        answer(copy, session, rater, 3)  # and it takes answers
    assert everything(opened) == held


def test_a_backup_while_raters_rate_is_whole_and_holds_nobody_up(
    address: str, tmp_path: Path
) -> None:
    stop, failed, stored = threading.Event(), [], [0]

    def rate() -> None:
        try:
            with open_store(address) as store:
                while not stop.is_set():
                    session, rater = begin(store)
                    for trial in range(len(TRIALS)):
                        answer(store, session, rater, trial)
                        stored[0] += 1
        except Exception as error:
            failed.append(error)

    with open_store(address) as store:
        writers = [threading.Thread(target=rate) for _ in range(2)]
        for writer in writers:
            writer.start()
        try:
            counts = []
            for number in range(5):
                before = stored[0]
                while stored[0] < before + 3 and not failed:  # nobody waits for a backup
                    stop.wait(0.01)
                path = back_up(store, tmp_path / f"{number}.sqlite")
                with open_store(path) as copy:
                    ratings = copy.ratings("small")
                answers = ratings.groupby(["session", "trial"])["criterion"].agg(set)
                assert (answers.map(len) == len(CRITERIA)).all()  # no answer is there by half
                trials = ratings.groupby("session")["trial"]
                assert (trials.max() + 1 == trials.nunique()).all()  # none before an earlier one
                assert len(answers) >= before  # all that was acknowledged before
                counts.append(len(answers))
        finally:
            stop.set()
            for writer in writers:
                writer.join()
    assert not failed
    assert counts == sorted(set(counts))


def test_a_backup_that_cannot_be_written_leaves_nothing(
    opened: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rated(opened)
    taken = tmp_path / "taken.sqlite"
    taken.write_text("mine")
    with pytest.raises(StudyError, match="there already: give the backup a name of its own"):
        back_up(opened, taken)
    assert taken.read_text() == "mine"
    with pytest.raises(StudyError, match="choose another place for the backup"):
        back_up(opened, taken / "in a file.sqlite")

    folder = tmp_path / "full"
    folder.mkdir()
    real = sqlite3.connect

    def full(place: object, *arguments: object, **options: object) -> sqlite3.Connection:
        connection = real(place, *arguments, **options)
        if str(place).startswith(str(folder)):
            connection.execute("PRAGMA max_page_count = 4")
        return connection

    monkeypatch.setattr(sqlite3, "connect", full)
    monkeypatch.setattr(sqlite3.dbapi2, "connect", full)
    with pytest.raises(StudyError, match="full"):
        back_up(opened, folder / "backup.sqlite")
    assert list(folder.iterdir()) == []


def test_a_lost_store_comes_back_from_its_backup(
    opened: Store, address: str, tmp_path: Path
) -> None:
    session, rater = rated(opened)
    opened.undo(session, 2)
    held = everything(opened)
    path = back_up(opened, tmp_path / "backup.sqlite")
    with open_store(tmp_path / "new" / "ratings.sqlite") as new:  # of the one kind from the other
        assert restore(new, "small", path, tmp_path) is None
        assert everything(new) == held
        answer(new, session, rater, 2)
    with opened.writing() as connection:
        database.create_again(connection)
    assert opened.ratings().empty
    assert restore(opened, "small", path, tmp_path) is None
    assert everything(opened) == held
    answer(opened, session, rater, 2)
    assert opened.register("small").number == 1
    with pytest.raises(sa.exc.DBAPIError, match="only ever added"), opened._engine.begin() as to:
        to.exec_driver_sql("DELETE FROM answers")


def test_answers_that_the_backup_lacks_are_replaced_by_force_alone_and_kept(
    opened: Store, tmp_path: Path
) -> None:
    session, rater = rated(opened)
    path = back_up(opened, tmp_path / "backup.sqlite")
    restore(opened, "small", path, tmp_path)  # the same again: nothing is newer
    saved = everything(opened)

    changes: dict[str, Callable[[], object]] = {
        "4 answers": lambda: answer(opened, session, rater, 3),
        "1 undone": lambda: opened.undo(session, 2),
        "1 events": lambda: opened.note(session, "paused"),
        "1 raters": lambda: opened.register("other"),
        "1 links": lambda: Links(opened, "small").make("panel"),
    }
    for said, change in changes.items():
        change()
        held = everything(opened)
        with pytest.raises(StudyError, match=rf"lacks \(.*{said}.*\): nothing was restored"):
            restore(opened, "small", path, tmp_path / "kept")
        assert everything(opened) == held
        kept = restore(opened, "small", path, tmp_path / "kept", force=True)
        assert everything(opened) == saved
        with open_store(kept) as replaced:
            assert everything(replaced) == held
    assert len(list((tmp_path / "kept").glob("*.sqlite"))) == len(changes)


def test_who_withdrew_after_the_backup_stays_withdrawn(opened: Store, tmp_path: Path) -> None:
    _session, rater = rated(opened)
    other, another = begin(opened)
    answer(opened, other, another, 0)
    path = back_up(opened, tmp_path / "backup.sqlite")
    opened.withdraw("small", rater)
    restore(opened, "small", path, tmp_path, force=True)
    assert set(opened.ratings(history=True)["rater"]) == {another}
    assert [known.rater for known in opened.sessions()] == [another]
    assert opened.has_withdrawn("small", rater) and opened.withdrawals("small") == 1
    if opened.place.endswith(".sqlite"):
        assert rater.encode() not in Path(opened.place).read_bytes()


@pytest.mark.parametrize("force", [False, True])
def test_a_link_that_was_closed_after_the_backup_stays_closed(
    opened: Store, tmp_path: Path, force: bool
) -> None:
    known = Links(opened, "small")
    session, rater = rated(opened)
    closed, gone, still = (known.make("rater", rater=who)[0] for who in (rater, "r-9c", "r-9d"))
    panel, _ = known.make("panel")
    path = back_up(opened, tmp_path / "backup.sqlite")
    known.revoke(rater)
    known.revoke(kind="panel")
    begin(opened, rater="r-9c")
    opened.withdraw("small", "r-9c")
    before = {link for link in known.all() if link.state == "revoked"}
    if force:
        answer(opened, session, rater, 3)
    kept = restore(opened, "small", path, tmp_path / "kept", force=force)
    assert (kept is None) != force
    assert [known.find(secret) for secret in (closed, gone, panel)] == [None] * 3
    assert known.find(still)
    assert {link for link in known.all() if link.state == "revoked"} == before


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def damaged(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def other_text(path: Path) -> None:
    path.write_text("rater,cell,criterion,value\n" * 300)


def other_database(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (a)")


@pytest.mark.parametrize("spoil", [cut_short, damaged, emptied, other_text, other_database])
def test_what_is_no_whole_backup_is_refused_and_nothing_changes(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    with open_store(tmp_path / "ratings.sqlite") as store:
        rated(store)
        path = back_up(store, tmp_path / "backup.sqlite")
        spoil(path)
        before, held = path.read_bytes(), everything(store)
        with pytest.raises(StudyError, match=f"{path} is no whole backup of ratings"):
            restore(store, "small", path, tmp_path, force=True)
        assert everything(store) == held
        assert path.read_bytes() == before


def test_a_backup_of_another_study_is_refused(tmp_path: Path) -> None:
    with open_store(tmp_path / "ratings.sqlite") as store:
        with pytest.raises(StudyError, match=r"there is no backup .*nowhere.sqlite: name the file"):
            restore(store, "small", tmp_path / "nowhere.sqlite", tmp_path)
        begin(store, study="other")
        path = back_up(store, tmp_path / "backup.sqlite")
        with pytest.raises(StudyError, match="no rater of small, but of other: is it the backup"):
            restore(store, "small", path, tmp_path)


def test_a_restore_that_fails_in_its_middle_leaves_the_store_as_it_was(
    opened: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, rater = rated(opened)
    path = back_up(opened, tmp_path / "backup.sqlite")
    answer(opened, session, rater, 3)
    held = everything(opened)

    real = backup._copy_rows

    def half(source: sa.Connection, target: sa.Connection) -> None:
        real(source, target)
        if target.engine is opened._engine:  # and not the copy of what is replaced
            raise RuntimeError("the power went")

    monkeypatch.setattr(backup, "_copy_rows", half)
    with pytest.raises(RuntimeError):
        restore(opened, "small", path, tmp_path, force=True)
    assert everything(opened) == held


def test_the_commands_back_up_and_restore(
    small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def rate(verb: str, *arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["rate", verb, *map(str, (small_study, *arguments, "--out", tmp_path / "out"))])
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    path, place = tmp_path / "backup.sqlite", tmp_path / "out" / "ratings.sqlite"
    assert rate("simulate", 2)[0] == 0  # a rehearsal is no answer of people
    code, _, err = rate("backup", path)
    assert code == 2
    assert "no ratings yet" in err
    with open_store(place) as store:
        session, rater = rated(store)
        assert rate("backup", path) == (0, f"{path}\n", "")
        answer(store, session, rater, 3)
    code, _, err = rate("restore", path)
    assert code == 2
    assert "lacks (4 answers): nothing was restored; --force" in err
    assert err.count("\n") == 1
    code, out, err = rate("restore", path, "--force")
    assert (code, out) == (0, f"{place}: 12 ratings\n")
    assert "what was replaced is in" in err
    shutil.rmtree(tmp_path / "out")
    assert rate("restore", path) == (0, f"{place}: 12 ratings\n", "")
