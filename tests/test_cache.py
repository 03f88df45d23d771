"""What a method finds in a driving is found once, and what is kept stays bounded."""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from studykit.cache import kept as rows_of
from studykit.media.squares import Driving


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STUDYKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "drivings"


class Finder:
    """Finds three numbers in each of a driving's frames, and counts how often it was asked."""

    def __init__(self, count: int = 4) -> None:
        self.asked, self.rows = 0, np.random.default_rng(0).normal(size=(count, 3, 2))
        self.rows[1] = np.nan

    def __call__(self) -> Iterator[np.ndarray]:
        self.asked += 1
        yield from self.rows


def driving(key: str = "d", frames: int = 4) -> Driving:
    return Driving("talk", lambda: iter(()), Fraction(25), frames, key)


def test_rows_are_found_once_and_come_back_bit_for_bit(cache: Path) -> None:
    find = Finder()
    for _ in range(3):
        rows = np.stack(list(rows_of(driving(), "mine", find)))
        assert rows.tobytes() == find.rows.tobytes()
    assert find.asked == 1
    (path,) = cache.iterdir()
    np.testing.assert_array_equal(np.load(path), find.rows)


def test_another_driving_or_another_finder_is_found_anew() -> None:
    find = Finder()
    for key, found_by in (("d", "mine"), ("e", "mine"), ("d", "theirs")):
        list(rows_of(driving(key), found_by, find))
    assert find.asked == 3


@pytest.mark.parametrize("damage", [b"", b"no array", None])
def test_a_damaged_file_is_found_anew_and_mended(cache: Path, damage: bytes | None) -> None:
    find = Finder()
    list(rows_of(driving(), "mine", find))
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] if damage is None else damage)
    rows = np.stack(list(rows_of(driving(), "mine", find)))
    assert rows.tobytes() == find.rows.tobytes()
    assert find.asked == 2
    assert path.read_bytes() == whole


def test_nothing_is_kept_without_a_key(cache: Path) -> None:
    find = Finder()
    for _ in range(2):
        assert len(list(rows_of(driving(key=""), "mine", find))) == 4
    assert find.asked == 2
    assert not cache.exists()


def test_what_was_left_in_the_middle_or_lost_a_frame_is_not_kept(cache: Path) -> None:
    rows = rows_of(driving(), "mine", Finder())
    next(rows)
    rows.close()
    list(rows_of(driving(frames=5), "mine", Finder(4)))
    assert not cache.exists() or list(cache.iterdir()) == []


def test_an_error_passes_and_nothing_is_kept(cache: Path) -> None:
    def find() -> Iterator[np.ndarray]:
        yield np.zeros(2)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(rows_of(driving(), "mine", find))
    assert not cache.exists() or list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_costs_time_only(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    find = Finder()
    for _ in range(2):
        assert len(list(rows_of(driving(), "mine", find))) == 4
    assert find.asked == 2


def test_the_rows_that_were_not_used_for_longest_go(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 4 * 3 * 2 * 8 + 128
    monkeypatch.setattr("studykit.cache.LIMIT", 2 * size)
    find = Finder()
    for age, key in enumerate(("old", "older")):
        list(rows_of(driving(key), "mine", find))
        (new,) = (path for path in cache.iterdir() if path.stat().st_mtime > 2_000_000)
        os.utime(new, (1_000_000 - age, 1_000_000 - age))
    list(rows_of(driving("older"), "mine", find))  # used again: now the newest
    list(rows_of(driving("new"), "mine", find))
    assert len(list(cache.iterdir())) == 2
    assert find.asked == 3
    list(rows_of(driving("older"), "mine", find))
    assert find.asked == 3
    list(rows_of(driving("old"), "mine", find))
    assert find.asked == 4
