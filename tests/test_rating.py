"""The rating page over a websocket: who is let in, and what strangers can't do."""

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from studykit.media import video
from studykit.pages import conversation
from studykit.pages.guard import Limits
from studykit.ratings.links import new_secret
from tests.rated_study import ASKED, made_study
from tests.served_study import Server, Visitor, served

LIMITS = Limits(wrong_keys=5, sockets=2, messages_at_once=1000, seconds_to_enter=0.5)


@pytest.fixture(scope="module")
def study(small_inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_study(small_inputs, tmp_path_factory.mktemp("rated"))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "ratings.sqlite"


@pytest.fixture
def server(study: Path, store: Path) -> Iterator[Server]:
    with served(study, store, LIMITS) as server:
        yield server


def values(store: Path) -> list[int]:
    with sqlite3.connect(store) as opened:
        return [value for (value,) in opened.execute("SELECT value FROM answers ORDER BY id")]


def test_a_rater_with_a_link_rates_to_the_end(server: Server, store: Path) -> None:
    key, rater = server.desk.links.make("rater")
    with server.visit(key=key) as visitor:
        assert visitor.entered == {"entered": True}
        visitor.begin()
        total = visitor.state["progress"]["total"]
        for _ in range(total):
            assert "problem" not in visitor.answer()
        assert visitor.state["page"] == "finished"
        assert visitor.state["rater"] == rater
    assert values(store) == [3] * total * len(ASKED)


@pytest.mark.parametrize(
    "entering",
    [
        {},
        {"key": "A" * 24},
        {"key": "r-1234567"},
        {"key": None, "panel": None},
        {"key": ["x"], "panel": {"x": 1}},
        {"panel": "B" * 24, "key": "A" * 24},
        {"panel": "\ud800" * 24},
        {"rater": "r-1234567"},
    ],
)
def test_nobody_is_let_in_without_a_link(server: Server, entering: dict[str, Any]) -> None:
    with server.visit(**entering) as visitor:
        assert visitor.entered["refused"] == "link_wrong"
        assert "lead" in visitor.entered["texts"]["link_wrong"]
        with pytest.raises(WebSocketDisconnect):
            visitor.ask("hello")


def test_an_id_lets_nobody_in_and_recalls_nobody(server: Server, store: Path) -> None:
    key, _ = server.desk.links.make("rater")
    with server.visit(key=key) as visitor:
        visitor.begin()
        visitor.answer()
        victim = visitor.state["rater"]
    with server.visit(key=victim) as thief:
        assert thief.entered["refused"] == "link_wrong"
    with server.visit(panel=server.desk.panel) as thief:
        assert thief.ask("recall", rater=victim)["problem"]
        thief.turn("return")
        assert thief.state["rater"] == ""
        thief.begin()
        assert thief.state["rater"] != victim
        thief.answer(1)
    assert values(store) == [3] * 4 + [1] * 4


def test_an_authors_link_is_no_raters(server: Server) -> None:
    key, _ = server.desk.links.make("author")
    with server.visit(key=key) as visitor:
        assert "refused" in visitor.entered


def test_a_link_that_is_closed_ends_the_visit(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studykit.pages.rating._CHECKED_EVERY", 0)
    key, rater = server.desk.links.make("rater")
    with server.visit(key=key) as visitor:
        visitor.begin()
        server.desk.links.revoke(rater)
        with pytest.raises(WebSocketDisconnect):
            visitor.answer()


def test_who_has_withdrawn_is_told_so_by_the_link_and_not_that_it_is_wrong(server: Server) -> None:
    key, _ = server.desk.links.make("rater")
    with server.visit(key=key) as visitor:
        visitor.begin()
        visitor.answer()
        visitor.turn("pause")
        visitor.turn("withdraw")
        assert visitor.state["page"] == "withdrawn"
        with server.visit(key=key) as again:  # as if that answer had been lost
            assert again.entered["refused"] == "withdrawn"
            texts = visitor.setup["texts"]
            said = {"title": texts["withdrawn_title"], "withdrawn": texts["withdrawn"]}
            assert again.entered["texts"] == said
    closed, rater = server.desk.links.make("rater")
    server.desk.links.revoke(rater)
    with server.visit(key=closed) as other:
        assert other.entered["refused"] == "link_wrong"


def test_guessing_is_answered_so_often_and_keeps_nobody_out(server: Server) -> None:
    for _ in range(LIMITS.wrong_keys):
        with server.visit(key=new_secret()) as visitor:
            assert visitor.entered["refused"] == "link_wrong"
    with server.visit(key=new_secret()) as visitor:
        assert visitor.entered["refused"] == "too_many"
    right, _ = server.desk.links.make("rater")
    with server.visit(key=right) as visitor:
        assert visitor.entered["entered"]


def test_each_visitor_of_a_panels_link_becomes_a_rater(server: Server) -> None:
    raters = set()
    for _ in range(3):
        with server.visit(panel=server.desk.panel) as visitor:
            visitor.begin()
            raters.add(visitor.state["rater"])
            key = visitor.entered["key"]
        with server.visit(key=key) as again:
            assert again.state["rater"] in raters
    assert len(raters) == 3


def test_nothing_is_stored_of_a_panels_visitor_before_consent(server: Server) -> None:
    with server.visit(panel=server.desk.panel) as visitor:
        visitor.turn("decline")
        assert visitor.state["page"] == "declined"
    assert server.desk.links.all() == []
    assert server.desk.store.sessions() == []


def test_consent_that_is_sent_again_over_another_connection_makes_one_rater(
    server: Server,
) -> None:
    panel = server.desk.panel
    with server.visit(panel=panel) as visitor:
        agree = {"re": "a.1", "verb": "agree", "turn": visitor.state["turn"]}
        first = visitor.send(agree)["state"]["rater"]
    with server.visit(panel=panel, key=visitor.entered["key"]) as again:
        assert again.send(agree)["state"]["rater"] == first
    assert len(server.desk.store.sessions()) == 1


def test_who_comes_from_a_panel_takes_part_once(server: Server, store: Path) -> None:
    entering = {"panel": server.desk.panel, "outside": {"PROLIFIC_PID": "5f00c0ffee"}}
    with server.visit(**entering) as visitor:
        visitor.begin()
        visitor.answer()
        rater, key = visitor.state["rater"], visitor.entered["key"]
    with server.visit(**entering) as other_browser:
        assert other_browser.entered["refused"] == "begun_elsewhere"
    with server.visit(**entering, known=key) as same_browser:
        assert same_browser.state["rater"] == rater
    server.desk.store.close()
    assert b"5f00c0ffee" not in store.read_bytes()


def test_a_browser_that_began_is_offered_to_go_on(server: Server) -> None:
    panel = server.desk.panel
    with server.visit(panel=panel) as visitor:
        visitor.begin()
        visitor.answer()
        rater = visitor.state["rater"]
    with server.visit(panel=panel, known=visitor.entered["key"]) as again:
        assert (again.state["page"], again.state["known"]) == ("consent", rater)
        again.turn("return")
        assert again.state["progress"]["done"] == 1
        again.answer(5)
        assert again.state["progress"]["done"] == 2
    assert len(server.desk.store.sessions()) == 1


def test_two_windows_that_go_on_at_once_share_one_visit(server: Server) -> None:
    desk = server.desk
    with server.visit(panel=desk.panel) as visitor:
        visitor.begin()
        rater, known = visitor.state["rater"], visitor.entered["key"]
    desk._visits.clear()  # as after a restart

    async def both() -> list[Any]:
        entering = {"panel": desk.panel, "known": known}
        windows = [(await desk.enter(entering, ""))[0] for _ in range(2)]
        return await asyncio.gather(*map(desk.go_on, windows))

    one, other = asyncio.run(both())
    assert one is other is desk._visits[rater]


def test_a_restart_loses_no_answer(study: Path, store: Path) -> None:
    with served(study, store) as server:
        key, _ = server.desk.links.make("rater")
        with server.visit(key=key) as visitor:
            visitor.begin()
            visitor.answer(2)
            visitor.watch()
            turn, number = visitor.state["turn"], visitor.state["number"]
    answer = {
        "re": "view.99",
        "verb": "answer",
        "turn": turn,
        "number": number,
        "values": dict.fromkeys(ASKED, 5),
        "seen": {"shown": 20, "played": 3, "share": 1},
    }
    with served(study, store) as server, server.visit(key=key) as visitor:
        # Nothing was asked for but what was on its way, as the page does.
        assert visitor.send(answer)["state"]["progress"]["done"] == 2
        # And once more, by a server that knows nothing of the first time.
        server.desk._visits.clear()
        with server.visit(key=key) as again:
            assert again.send(answer)["state"]["progress"]["done"] == 2
    assert values(store) == [2] * 4 + [5] * 4
    with sqlite3.connect(store) as opened:
        (seconds,) = opened.execute("SELECT seconds FROM answers ORDER BY id DESC").fetchone()
    assert 17 < seconds < 25


def test_a_restart_while_a_clip_plays_leaves_it_to_be_answered(study: Path, store: Path) -> None:
    with served(study, store) as server:
        key, _ = server.desk.links.make("rater")
        with server.visit(key=key) as visitor:
            visitor.begin()
            visitor.turn("show")
    with served(study, store) as server, server.visit(key=key) as visitor:
        visitor.turn("play", share=1)
        seen = {"shown": 20, "played": 3, "share": 1}
        answered = visitor.turn("answer", values=dict.fromkeys(ASKED, 4), seen=seen)
        assert answered["state"]["progress"]["done"] == 1


def test_what_a_page_claims_to_have_shown_counts_only_after_a_restart(server: Server) -> None:
    key, _ = server.desk.links.make("rater")
    with server.visit(key=key) as visitor:
        visitor.begin()
        visitor.turn("show")
        seen = {"shown": 20, "played": 3, "share": 1}
        assert visitor.turn("answer", values=dict.fromkeys(ASKED, 1), seen=seen)["problem"]


@pytest.mark.parametrize(
    "seen",
    [{"shown": -5, "played": 0}, {"shown": 1e9, "played": 1}, {"shown": 1, "played": 2}, {}, 7],
)
def test_what_cannot_be_is_not_believed(server: Server, seen: Any) -> None:
    key, _ = server.desk.links.make("rater")
    with server.visit(key=key) as visitor:
        visitor.begin()
        given = seen | {"share": 1} if isinstance(seen, dict) else seen
        assert visitor.turn("answer", values=dict.fromkeys(ASKED, 1), seen=given)["problem"]


def test_clips_are_fetched_from_addresses_that_say_nothing(server: Server, tmp_path: Path) -> None:
    key, _ = server.desk.links.make("rater")
    with server.visit(key=key) as visitor:
        visitor.begin()
        lengths, addresses = set(), set()
        for _ in range(4):
            answer = visitor.medium()
            assert answer.headers["cache-control"] == "private, no-store"
            assert answer.headers["content-type"] == "video/mp4"
            lengths.add(len(answer.content))
            addresses.add(answer.request.url.path)
            assert not any(word in answer.content for word in (b"Synthetic", b"Lavf", b"udta"))
            (tmp_path / "clip.mp4").write_bytes(answer.content)
            assert len(list(video.read_frames(tmp_path / "clip.mp4"))) in (5, 6)
            visitor.answer()
        assert visitor.medium("source").headers["content-type"] == "image/png"
    assert len(lengths) == 1
    assert len(addresses) == 4
    said = json.dumps(visitor.sent) + "".join(addresses)
    for word in ("kiwimethod", "mangomethod", "anna", "talk", "frontal", "gold", str(tmp_path)):
        assert word not in said


def test_the_filling_of_a_clip_is_made_in_parts_and_holds_nobody_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def urandom(size: int) -> bytes:
        made.append((size, threading.current_thread().name))
        return bytes(size)

    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"x" * 1000)
    address = server.desk.lend(clip, 1_000_000)
    monkeypatch.setattr(conversation.os, "urandom", urandom)
    content = server.client.get(address).content
    monkeypatch.undo()
    assert (len(content), content[:1000]) == (1_000_000, b"x" * 1000)
    assert content[1000:1008] == (999_000).to_bytes(4) + b"free"
    parts = [size for size, thread in made if thread.startswith("ratings")]
    assert sum(parts) == 999_000 - 8 and max(size for size, _ in made) <= 128 * 1024


@pytest.mark.parametrize("medium", ["5.clip", "-1.clip", "0.__class__", "x", "0.other", None, {}])
def test_only_what_is_shown_now_or_next_can_be_had(server: Server, medium: Any) -> None:
    key, _ = server.desk.links.make("rater")
    with server.visit(key=key) as visitor:
        visitor.begin()
        assert visitor.ask("media", id=medium)["problem"]


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "7", "null", "[" * 100_000, '{"re": "' + "x" * 200 + '"}', "{"]
)
def test_what_is_no_message_ends_the_connection_alone(server: Server, text: str) -> None:
    key, _ = server.desk.links.make("rater")
    with server.visit(key=key) as other, server.visit(key=key) as visitor:
        visitor.socket.send_text(text)
        with pytest.raises(WebSocketDisconnect):
            visitor.socket.receive_text()
        assert "state" in other.ask("hello")


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"verb": None},
        {"verb": "answer"},
        {"verb": "__init__", "turn": "consent.0"},
        {"verb": "answer", "turn": "consent.0", "values": []},
        {"verb": "questions", "turn": "consent.0", "answers": {"x" * 10**5: "y"}},
        {"verb": "play", "turn": "consent.0", "share": "nan"},
        {"verb": "device", "detail": 7},
        {"verb": "device", "detail": {"zoom": [1]}},
        {"verb": "checks", "turn": "consent.0", "answers": 5},
        {"verb": "\ud800"},
    ],
)
def test_a_message_out_of_turn_is_a_problem_and_changes_nothing(
    server: Server, message: dict[str, Any]
) -> None:
    key, _ = server.desk.links.make("rater")
    with server.visit(key=key) as visitor:
        reply = visitor.send({"re": "x.1"} | message)
        assert reply.pop("re") == "x.1"
        assert reply in ({"problem": True}, {"state": visitor.state}, {})
        assert visitor.ask("hello")["state"] == visitor.state
    log = server.desk.out / "logs" / "ratings.txt"
    assert not log.exists() or log.stat().st_size < 2_000_000


def test_who_says_nothing_is_let_go(server: Server) -> None:
    with server.socket() as socket:
        started = time.monotonic()
        with pytest.raises(WebSocketDisconnect):
            socket.receive_text()
        assert time.monotonic() - started < 10
    assert server.desk.visitors == 0


def test_the_oldest_of_too_many_windows_is_closed(server: Server) -> None:
    key, _ = server.desk.links.make("rater")
    with server.visit(key=key) as first, server.visit(key=key), server.visit(key=key) as third:
        with pytest.raises(WebSocketDisconnect):
            first.ask("hello")
        assert "state" in third.ask("hello")


def test_a_full_server_says_so(study: Path, store: Path) -> None:
    with served(study, store, Limits(visitors=1)) as server:
        key, _ = server.desk.links.make("rater")
        with (
            server.visit(key=key),
            pytest.raises(WebSocketDisconnect),
            server.socket() as socket,
        ):
            socket.receive_text()


def test_faster_messages_wait(study: Path, store: Path) -> None:
    limits = Limits(messages_at_once=3, messages_per_second=20)
    with served(study, store, limits) as server:
        key, _ = server.desk.links.make("rater")
        with server.visit(key=key) as visitor:
            started = time.monotonic()
            for _ in range(8):
                visitor.ask("hello")
            assert time.monotonic() - started > 0.2


def test_sessions_that_nobody_uses_are_let_go_and_found_again(study: Path, store: Path) -> None:
    with served(study, store, Limits(sessions=2)) as server:
        keys = [server.desk.links.make("rater")[0] for _ in range(4)]
        for key in keys:
            with server.visit(key=key) as visitor:
                visitor.begin()
                visitor.answer()
        assert len(server.desk._visits) <= 3
        with server.visit(key=keys[0]) as visitor:
            assert visitor.state["progress"]["done"] == 1


def test_many_raters_at_once_store_each_answer_once(server: Server, store: Path) -> None:
    keys = [server.desk.links.make("rater")[0] for _ in range(6)]
    ready = threading.Barrier(len(keys))
    failed = []

    def rate(key: str) -> None:
        try:
            with server.visit(key=key) as visitor:
                ready.wait(20)
                visitor.begin()
                for value in (1, 2, 3):
                    visitor.answer(value)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=rate, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert sorted(values(store)) == [1] * 24 + [2] * 24 + [3] * 24
    numbers = {record.number for record in server.desk.store.sessions()}
    assert numbers == set(range(6))


def test_a_full_disk_is_said_and_loses_nothing(
    server: Server, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _ = server.desk.links.make("rater")
    with server.visit(key=key) as visitor:
        visitor.begin()
        visitor.watch()
        pages = sqlite3.connect(store).execute("PRAGMA page_count").fetchone()[0]

        def full(visitor: Visitor) -> dict[str, Any]:
            return visitor.turn("answer", values=dict.fromkeys(ASKED, 4))

        for connection in list(server.desk.store._engine.pool._pool.queue):
            connection.dbapi_connection.execute(f"PRAGMA max_page_count = {pages}")
        replies = [full(visitor) for _ in range(1)]
        if "problem" in replies[0]:
            log = (server.desk.out / "logs" / "ratings.txt").read_text()
            assert "nothing was stored" in log
            for connection in list(server.desk.store._engine.pool._pool.queue):
                connection.dbapi_connection.execute("PRAGMA max_page_count = 1000000")
            assert "problem" not in full(visitor)
    assert values(store) == [4] * 4


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1" + 400 * "0"])
def test_a_number_that_is_none_is_not_kept_of_a_device(server: Server, number: str) -> None:
    key, _ = server.desk.links.make("rater")
    with server.visit(key=key) as visitor:
        visitor.begin()
        detail = f'{{"re": "d", "verb": "device", "detail": {{"pixel_ratio": {number}}}}}'
        visitor.socket.send_text(detail)
        assert visitor.socket.receive_json()["problem"]
    assert server.desk.store.notes(server.desk.study.name, "device") == []


def test_what_a_page_says_of_its_device_is_kept_short(server: Server) -> None:
    key, rater = server.desk.links.make("rater")
    detail = {"screen_width": 1280, "pixel_ratio": 2, "browser": "x" * 10**5, "serial": "secret"}
    with server.visit(key=key) as visitor:
        visitor.begin()
        assert visitor.ask("device", detail=detail) == {"re": visitor.sent[-1]["re"]}
        for _ in range(250):
            visitor.ask("failed", detail={"clip": "0", "reason": "4 decoding"})
    notes = server.desk.store.notes(server.desk.study.name, "device", "failed")
    assert notes[0][:3] == (
        rater,
        "device",
        {"screen_width": 1280, "pixel_ratio": 2, "browser": "x" * 300},
    )
    assert len(notes) == 200
