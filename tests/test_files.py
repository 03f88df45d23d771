"""A file is whole or not there, whatever happens while it is written."""

import os
import subprocess
import sys
import tracemalloc
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
        for time in times:
            os.utime(path, ns=(time, time))
            files.sha256(path)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = hash_as_new(range(4_200))
        # A hash and what it is of are 240 bytes or more.
        assert hash_as_new(range(4_200, 8_400)) - before < 4_200 * 120
    finally:
        tracemalloc.stop()
