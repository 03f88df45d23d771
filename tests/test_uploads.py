"""Each visitor's files lie apart, under names that nobody can guess, and go with the visitor."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from studykit.errors import StudyError
from studykit.pages.uploads import Refused, UploadLimits, Visitors, shown_name


@pytest.fixture
def visitors() -> Iterator[Visitors]:
    visitors = Visitors(UploadLimits(files=2, visitors=2, away=0.3))
    yield visitors
    visitors.close()


def gone(path: Path) -> bool:
    until = time.monotonic() + 5
    while path.exists() and time.monotonic() < until:
        time.sleep(0.05)
    return not path.exists()


def test_a_visitor_is_found_by_their_key_alone(visitors: Visitors) -> None:
    one, other = visitors.new(), visitors.new()
    assert visitors.get(one.key) is one
    assert visitors.get(other.key) is other
    assert visitors.get("") is visitors.get(one.key[:-1]) is None
    assert len(one.key) >= 32
    assert one.key not in str(one.folder)


def test_files_lie_under_no_name_that_the_visitor_gave(visitors: Visitors) -> None:
    visitor = visitors.new()
    upload = visitor.add("source", "../../etc/passwd")
    assert visitor.folder in upload.path.parents
    assert "passwd" not in str(upload.path)
    assert upload.name == "passwd"


def test_nobody_sees_what_another_has_brought(visitors: Visitors) -> None:
    upload = visitors.new().add("source", "a.png")
    with pytest.raises(Refused, match="not here any more"):
        visitors.new().upload(upload.id)


def test_who_asks_for_nothing_has_left_and_their_files_are_gone(visitors: Visitors) -> None:
    visitor = visitors.new()
    visitor.add("source", "a.png").path.write_bytes(b"x")
    assert gone(visitor.folder)
    assert visitors.get(visitor.key) is None


def test_who_listens_is_here(visitors: Visitors) -> None:
    visitor = visitors.new()
    visitor.add("source", "a.png").path.write_bytes(b"x")
    with visitor.listens():
        time.sleep(0.8)
        assert visitor.folder.exists()
    assert gone(visitor.folder)


def test_no_more_visitors_and_files_than_fit(visitors: Visitors) -> None:
    visitor, other = visitors.new(), visitors.new()
    visitor.add("source", "a.png")
    with other.listens(), pytest.raises(Refused, match="too many people"):
        visitors.new()
    visitor.remove(next(iter(visitor.uploads)))
    uploads = [visitor.add("source", "a.png") for _ in range(2)]
    with pytest.raises(Refused, match="at most 2 files"):
        visitor.add("source", "b.png")
    visitor.remove(uploads[0].id)
    assert not uploads[0].folder.exists()
    visitor.add("source", "b.png")


def test_who_only_looks_in_keeps_nobody_out(visitors: Visitors) -> None:
    one, other = visitors.new(), visitors.new()
    other.kept.mkdir(parents=True)  # what was found in a file that is removed by now
    visitors.get(one.key)
    third = visitors.new()  # in place of the one who was seen longest ago
    assert [visitors.get(each.key) for each in (one, other, third)] == [one, None, third]
    assert not other.folder.exists()
    one.add("source", "a.png")
    visitors.get(third.key)
    visitors.new()
    assert visitors.get(one.key) is one
    assert visitors.get(third.key) is None


def test_at_the_end_nothing_is_left(visitors: Visitors) -> None:
    visitors.new().add("source", "a.png").path.write_bytes(b"x")
    visitors.close()
    assert not visitors.folder.exists()


def test_what_a_killed_server_has_left_goes_when_the_next_one_starts(
    visitors: Visitors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "studykit-visitors-x1"
    (left / "somebody").mkdir(parents=True)
    (left / ".here").touch()
    one = Visitors(UploadLimits())
    one.new().add("source", "a.png").path.write_bytes(b"x")
    other = Visitors(UploadLimits())  # of a server that is there nothing goes
    try:
        assert not left.exists()
        assert list(one.folder.glob("*/*"))
    finally:
        one.close()
        other.close()
    assert list(tmp_path.iterdir()) == []


def test_limits_are_named_one_by_one() -> None:
    assert UploadLimits.named(["seconds=90", "files=3"]) == UploadLimits(seconds=90, files=3)
    for given, says in (("secnds=9", 'did you mean "seconds"'), ("files=0", "number above 0")):
        with pytest.raises(StudyError, match=says):
            UploadLimits.named([given])


def test_a_name_is_shown_without_its_folders_and_without_what_can_not_be_shown() -> None:
    assert shown_name("C:\\me\\a b.png", "source") == "a b.png"
    assert shown_name("../..", "driving") == "driving"
    assert shown_name("a\x1b[31m\n.png", "source") == "a[31m.png"
    assert len(shown_name("x" * 500, "source")) == 80
