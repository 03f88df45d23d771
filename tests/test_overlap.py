"""Frames pass between threads in order; errors and ends pass through, and no thread stays."""

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from studykit.clips.cell import ahead, behind


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Counted:
    """An iterator that knows how many were taken, in which thread, and whether it was closed."""

    def __init__(self, error_at: int | None = None) -> None:
        self.taken, self.closed, self.error_at = 0, False, error_at
        self.threads: set[int] = set()

    def __iter__(self) -> "Counted":
        return self

    def __next__(self) -> int:
        self.threads.add(threading.get_ident())
        if self.taken == self.error_at:
            raise ZeroDivisionError("a fault")
        self.taken += 1
        return self.taken

    def close(self) -> None:
        self.closed = True


class TestAhead:
    def test_items_come_in_order_from_another_thread(self) -> None:
        source = Counted()
        assert list(itertools.islice(ahead(source), 100)) == list(range(1, 101))
        assert threading.get_ident() not in source.threads
        assert source.closed

    def test_it_is_at_most_so_many_ahead(self) -> None:
        source = Counted()
        items = ahead(source, depth=3)
        for _ in range(10):
            next(items)
        time.sleep(0.05)
        assert 10 <= source.taken <= 13
        items.close()
        assert source.closed

    def test_an_error_comes_where_the_item_would_have(self) -> None:
        source, seen = Counted(error_at=5), []
        with pytest.raises(ZeroDivisionError):
            seen.extend(seen.append(item) for item in ahead(source))
        assert [item for item in seen if item] == [1, 2, 3, 4, 5]
        assert source.closed

    def test_nothing_is_taken_before_it_is_asked_for(self) -> None:
        source = Counted()
        ahead(source).close()
        assert source.taken == 0

    def test_an_empty_source_gives_nothing(self) -> None:
        assert list(ahead([])) == []


class TestBehind:
    def test_items_come_in_order_in_another_thread(self) -> None:
        def consume(items: Iterator[int]) -> tuple[int, list[int]]:
            return threading.get_ident(), list(items)

        source = itertools.islice(Counted(), 100)
        thread, items = behind(consume, source)
        assert thread != threading.get_ident()
        assert items == list(range(1, 101))

    def test_the_method_computes_in_the_callers_thread(self) -> None:
        source = Counted(error_at=3)
        with pytest.raises(ZeroDivisionError):
            behind(list, source)
        assert source.threads == {threading.get_ident()}

    def test_it_is_at_most_so_many_behind(self) -> None:
        source, most = Counted(), []

        def consume(items: Iterator[int]) -> None:
            for item in itertools.islice(items, 20):
                time.sleep(0.005)
                most.append(source.taken - item)

        behind(consume, source, depth=3)
        assert max(most) <= 4

    def test_an_error_of_the_items_reaches_the_consumer_and_the_caller(self) -> None:
        seen = []

        def consume(items: Iterator[int]) -> None:
            try:
                list(items)
            except ZeroDivisionError:
                seen.append("cleaned up")
                raise

        with pytest.raises(ZeroDivisionError, match="a fault"):
            behind(consume, Counted(error_at=7))
        assert seen == ["cleaned up"]

    def test_an_interrupt_reaches_the_consumer_too(self) -> None:
        def items() -> Iterator[int]:
            yield 1
            raise KeyboardInterrupt

        seen = []

        def consume(items: Iterator[int]) -> None:
            try:
                list(items)
            except KeyboardInterrupt:
                seen.append("cleaned up")
                raise

        with pytest.raises(KeyboardInterrupt):
            behind(consume, items())
        assert seen == ["cleaned up"]

    @pytest.mark.parametrize("after", [0, 9])
    def test_an_error_of_the_consumer_ends_the_items(self, after: int) -> None:
        source = Counted()

        def consume(items: Iterator[int]) -> None:
            list(itertools.islice(items, after))
            raise OSError("no room")

        with pytest.raises(OSError, match="no room"):
            behind(consume, source)
        assert source.closed
        assert source.taken < after + 10
