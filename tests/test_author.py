"""The author's view: behind a key of its own, and with what an author needs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studykit.pages.guard import Limits
from studykit.ratings.store import RaterRecord
from tests.rated_study import made_study
from tests.served_study import Server, served


@pytest.fixture(scope="module")
def study(small_inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_study(small_inputs, tmp_path_factory.mktemp("authored"))


@pytest.fixture
def server(study: Path, tmp_path: Path) -> Iterator[Server]:
    with served(study, tmp_path / "ratings.sqlite", Limits(wrong_keys=20)) as server:
        yield server


def ask(server: Server, path: str, content: Any = None, key: str | None = None) -> Any:
    headers = {"authorization": f"Bearer {key or server.desk.author}"}
    if content is None:
        return server.client.get(f"/author/{path}", headers=headers)
    return server.client.post(f"/author/{path}", headers=headers, json=content)


@pytest.mark.parametrize("path", ["overview", "links", "revoke", "report"])
def test_nothing_is_shown_without_the_authors_key(server: Server, path: str) -> None:
    rater, _ = server.desk.links.make("rater")
    content = None if path == "overview" else {"kind": "rater"}
    for key in ("x", "A" * 24, rater, server.desk.panel):
        answer = ask(server, path, content, key)
        assert answer.status_code == 401
        assert "zebra" not in answer.text and "rater" not in answer.text
    assert server.client.get("/author/overview").status_code == 401


def test_guessing_the_key_is_answered_so_often(server: Server) -> None:
    for _ in range(20):
        ask(server, "overview", key="A" * 24)
    assert ask(server, "overview", key="B" * 24).status_code == 429
    assert ask(server, "overview").status_code == 200


def test_a_stored_link_of_the_authors_is_a_key_too(server: Server) -> None:
    key, _ = server.desk.links.make("author")
    assert ask(server, "overview", key=key).status_code == 200


def test_the_page_itself_says_nothing_of_raters(server: Server) -> None:
    with server.visit(panel=server.desk.panel) as visitor:
        visitor.begin()
    page = server.client.get("/author")
    assert visitor.state["rater"] not in page.text
    assert server.desk.author not in page.text


def test_who_rated_how_much_and_what_did_not_play_is_seen(server: Server) -> None:
    with server.visit(panel=server.desk.panel) as visitor:
        visitor.begin()
        visitor.answer()
        visitor.ask("device", detail={"screen_width": 1280, "refresh_rate": 60})
        visitor.ask("failed", detail={"clip": "1", "reason": "4 no decoder"})
    seen = ask(server, "overview").json()
    (rater,) = seen["raters"]
    total = visitor.state["progress"]["total"]
    assert (rater["rater"], rater["done"], rater["total"]) == (visitor.state["rater"], 1, total)
    assert rater["device"]["screen_width"] == 1280
    (failed,) = seen["failed"]
    assert failed["clip"] == server.desk.store.sessions()[0].trials[1].clip.cell
    assert seen["sessions"] == {"under way": 1}
    assert [link["kind"] for link in seen["links"]] == ["rater"]


def test_what_did_not_play_is_named_by_the_session_in_which_it_did_not(server: Server) -> None:
    store = server.desk.store
    with server.visit(panel=server.desk.panel) as visitor:
        visitor.begin()
    (first,) = store.sessions()
    others = [trial for trial in first.trials if trial.clip.cell != first.trials[1].clip.cell]
    rater = RaterRecord(first.rater, first.number, first.simulated)
    second = store.begin(first.study, "hash", rater, others, part=2)
    for session in (first.session, second.session):
        store.note(session, "failed", clip="1", reason="4 no decoder")
    failed = ask(server, "overview").json()["failed"]
    assert [item["clip"] for item in failed] == [first.trials[1].clip.cell, others[1].clip.cell]


def test_links_are_made_and_closed(server: Server) -> None:
    made = ask(server, "links", {"kind": "rater", "count": 3, "days": 7}).json()
    assert len({link["rater"] for link in made}) == 3
    key = made[0]["path"].removeprefix("/rate#")
    with server.visit(key=key) as visitor:
        assert visitor.state["rater"] == made[0]["rater"]
    assert ask(server, "revoke", {"kind": "rater", "rater": made[0]["rater"]}).json() == 1
    with server.visit(key=key) as visitor:
        assert visitor.entered["refused"] == "link_wrong"
    (panel,) = ask(server, "links", {"kind": "panel"}).json()
    with server.visit(panel=panel["path"].removeprefix("/join/")) as visitor:
        assert visitor.state["page"] == "consent"


@pytest.mark.parametrize(
    "content",
    [
        {"kind": "rater", "count": 10**9},
        {"kind": "rater", "days": -1},
        {"kind": "king"},
        {"kind": "rater", "rater": "anna@mail.org"},
        {"kind": "rater", "rater": "x" * 10**5},
        [],
    ],
)
def test_what_makes_no_link_is_refused(server: Server, content: Any) -> None:
    assert ask(server, "links", content).status_code == 422
    assert server.desk.links.all() == []


def test_the_report_opens_apart_from_the_pages(server: Server) -> None:
    assert ask(server, "report", {}).status_code == 404
    (server.desk.out / "report.html").write_text("<p>the report</p>")
    address = ask(server, "report", {}).json()
    answer = server.client.get(address)
    assert answer.text == "<p>the report</p>"
    assert answer.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    (server.desk.out / "report.html").unlink()
