"""Links that let raters in: only who has the secret, only as long as it holds."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from studykit.errors import StudyError
from studykit.ratings.links import Links, is_secret, new_secret
from studykit.ratings.store import Store, open_store

STUDY = "zebra"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "ratings.sqlite") as store:
        yield store


@pytest.fixture
def links(store: Store) -> Links:
    return Links(store, STUDY)


def test_a_link_leads_to_its_rater(links: Links) -> None:
    secret, rater = links.make("rater")
    other, other_rater = links.make("rater")
    assert links.find(secret).rater == rater != other_rater == links.find(other).rater
    assert is_secret(secret) and is_secret(other)


def test_no_secret_is_in_the_file(links: Links, store: Store, tmp_path: Path) -> None:
    secrets = [links.make(kind)[0] for kind in ("rater", "panel", "author")]
    secrets.append(new_secret())
    links.join(secrets[-1], secrets[1], "5f0000prolific")
    store.close()
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for text in (*secrets, "5f0000prolific"):
        assert text.encode() not in everything
    with sqlite3.connect(tmp_path / "ratings.sqlite") as opened:
        assert opened.execute("SELECT count(*) FROM links").fetchone() == (4,)


@pytest.mark.parametrize("guess", ["", "x", None, 7, "A" * 24, "é" * 24, "r-1234567", ["x"]])
def test_a_guess_leads_nowhere(links: Links, guess: object) -> None:
    links.make("rater")
    assert links.find(guess) is None


def test_a_link_of_another_study_leads_nowhere(links: Links, store: Store) -> None:
    secret, _ = links.make("rater")
    assert Links(store, "other").find(secret) is None


def test_a_link_expires(links: Links) -> None:
    secret, _ = links.make("rater", days=-0.001)
    assert links.find(secret) is None
    assert [link.state for link in links.all()] == ["expired"]


def test_a_link_that_is_revoked_is_replaced_by_another_to_the_same_rater(links: Links) -> None:
    lost, rater = links.make("rater")
    kept, _ = links.make("rater")
    assert links.revoke(rater) == 1
    found, same = links.make("rater", rater=rater)
    assert links.find(lost) is None
    assert links.find(found).rater == rater == same
    assert links.find(kept) is not None
    assert links.revoke("r-0unknown") == 0


def test_links_of_a_kind_are_revoked_together(links: Links) -> None:
    panel, author = links.make("panel")[0], links.make("author")[0]
    assert links.revoke(kind="panel") == 1
    assert links.find(panel) is None
    assert links.find(author).kind == "author"


def test_who_joins_by_a_panel_joins_once(links: Links) -> None:
    panel, _ = links.make("panel")
    rater = links.join(new_secret(), panel, "worker-1")
    assert links.with_outside(panel, "worker-1").rater == rater
    with pytest.raises(StudyError, match="joined already"):
        links.join(new_secret(), panel, "worker-1")
    assert links.join(new_secret(), panel, "worker-2") != rater
    assert links.join(new_secret(), panel) != links.join(new_secret(), panel)


def test_a_name_is_no_rater(links: Links) -> None:
    with pytest.raises(StudyError, match="no rater id"):
        links.make("rater", rater="anna@mail.org")


def test_the_id_of_an_invited_rater_is_given_to_nobody_else(
    links: Links, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter(["r-1aaaaaa", "r-1aaaaaa", "r-2bbbbbb", "r-2bbbbbb", "r-1aaaaaa", "r-3cccccc"])
    monkeypatch.setattr("studykit.ratings.store.new_rater_id", lambda: next(ids))
    assert links.make("rater")[1] == "r-1aaaaaa"
    assert links.make("rater")[1] == "r-2bbbbbb"
    assert store.register(STUDY).rater == "r-3cccccc"
