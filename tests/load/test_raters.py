"""A few raters at once, a quick likeness of `make load`: nothing is lost, nothing is twice."""

import asyncio
from pathlib import Path

import pytest

from tests.load.raters import Found, all_rate, lost_and_double, make_study, served

RATERS = 12


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, Path, int]:
    study = make_study(tmp_path_factory.mktemp("load"), frames=4, side=64)
    with served(study) as (server, page):
        found = asyncio.run(all_rate(page, RATERS, pause=(0, 0.05), clip=0.01, arriving=0.5))
        memory = server.memory_info().rss
    return found, study.parent / "out" / "ratings.sqlite", memory


def test_raters_at_once_lose_no_answer_and_none_is_stored_twice(
    found: tuple[Found, Path, int],
) -> None:
    seen, store, _ = found
    assert len(seen.stored) == RATERS * 18
    assert lost_and_double(seen, store) == (0, 0)
    assert not seen.problems


def test_a_rater_takes_little_memory(found: tuple[Found, Path, int]) -> None:
    assert found[2] < 170e6  # where a kernel per rater took 117 MB each


def test_an_answer_that_is_not_there_or_is_another_counts(found: tuple[Found, Path, int]) -> None:
    seen, store, _ = found
    place, values = next(iter(seen.given.items()))
    more = Found(given=seen.given | {place: dict.fromkeys(values, 9)}, stored=seen.stored)
    assert lost_and_double(more, store) == (0, 1)
    more = Found(given=seen.given, stored=seen.stored | {("r-0000000", 0)})
    assert lost_and_double(more, store) == (1, 0)
