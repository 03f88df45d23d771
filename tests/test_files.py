"""A file is whole or not there, whatever happens while it is written."""

import errno
import os
import subprocess
import sys
import time
import tracemalloc
import types
from pathlib import Path

import pytest

from studykit import files
from studykit.errors import StudyError


def test_a_file_appears_whole_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with files.whole(path) as part:
        part.write_text("whole")
        assert not path.exists()
        assert part.suffix == ".txt"
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_an_error_leaves_the_old_file_and_no_part(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), files.whole(path) as part:
        part.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_only_what_a_dead_process_has_left_is_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    left = tmp_path / "clips" / f".a.{dead.pid}.part.mp4"
    left.parent.mkdir()
    left.touch()
    alive = tmp_path / "clips" / f".b.{os.getpid()}.part.mp4"
    alive.touch()
    files.remove_partial(tmp_path)
    assert not left.exists()
    assert alive.exists()


def test_a_lock_whose_holder_ends_as_it_is_named_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".running"
    monkeypatch.setattr(files, "_lock", lambda file: path.unlink())
    with (
        pytest.raises(StudyError, match="held by unknown"),
        files.locked(path, -1, "held by {holder}"),
    ):
        pass


def test_a_changed_file_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    first = files.sha256(path)
    assert first == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    path.write_text("three")
    assert files.sha256(path) != first


def test_hashes_of_ever_more_files_are_not_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")

    def hash_as_new(times: range) -> int:
        for moment in times:
            os.utime(path, ns=(moment, moment))
            files.sha256(path)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = hash_as_new(range(4_200))
        # A hash and what it is of are 240 bytes or more.
        assert hash_as_new(range(4_200, 8_400)) - before < 4_200 * 120
    finally:
        tracemalloc.stop()


class Msvcrt(types.ModuleType):
    """Windows' locks, as the C library documents them: of bytes, by one process at a time."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.held: set[int] = set()

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        place = os.lseek(descriptor, 0, os.SEEK_CUR)
        if place in self.held:
            raise OSError(errno.EACCES, "Permission denied")
        self.held.add(place)


def test_a_lock_on_windows_is_of_a_byte_that_no_reader_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = Msvcrt()
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    monkeypatch.setattr(files.sys, "platform", "win32")
    path = tmp_path / ".running"
    with files.locked(path, 0, "held by {holder}"):
        assert path.read_text() == str(os.getpid())
        assert min(windows.held) > path.stat().st_size
        with (
            pytest.raises(StudyError, match=f"held by {os.getpid()}"),
            files.locked(path, 0, "held by {holder}"),
        ):
            pass


@pytest.mark.parametrize("left", ["", "1", "our own", "no number", "9" * 400])
def test_a_lock_that_a_container_left_is_taken_at_once(tmp_path: Path, left: str) -> None:
    """Its process had a number that another has now; what counts is whether it is locked."""
    left = str(os.getpid()) if left == "our own" else left
    path = tmp_path / ".running"
    path.write_text(left)
    start = time.monotonic()
    with files.locked(path, 60, "held"):
        assert path.read_text() == str(os.getpid())
    assert time.monotonic() - start < 30 and not path.exists()


def test_what_can_be_no_lock_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".running").mkdir()
    with (
        pytest.raises(StudyError, match="can't be a lock"),
        files.locked(tmp_path / ".running", 0, "held"),
    ):
        pass


def test_what_a_containers_last_start_left_is_removed_where_nobody_else_writes(
    tmp_path: Path,
) -> None:
    """Its number may be that of a process that lives: of this one, say."""
    left = tmp_path / f".a.{os.getpid()}.part.mp4"
    left.touch()
    files.remove_partial(tmp_path)
    assert left.exists()
    files.remove_partial(tmp_path, of_all=True)
    assert not left.exists()


def test_a_path_that_no_file_can_have_leads_to_none() -> None:
    assert files.is_there(__file__)
    for path in ("x" * 5000, "a\0b", "/", "none"):
        assert not files.is_there(path)
