"""An application asked by messages: what is large comes and goes in pieces, what is left ends."""

import asyncio
import queue
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from studykit.pages.messages import PIECE, Messages

SOON = 30  # seconds, far more than any of this takes


class Page:
    """The other end: what a page in a notebook sends, and what it is sent."""

    def __init__(self, app: Callable) -> None:
        self.heard: queue.Queue[tuple[dict, list[bytes] | None]] = queue.Queue()
        self.messages = Messages(app, lambda *said: self.heard.put(said), {"cookie": "who=me"})

    def ask(self, path: str, body: bytes = b"", *, more: bool = False, method: str = "GET") -> None:
        message = {"re": path, "method": method, "path": path, "headers": {}, "more": more}
        self.messages.hear(message, [memoryview(body)])

    def hears(self) -> tuple[dict, bytes]:
        said, buffers = self.heard.get(timeout=SOON)
        return said, b"".join(buffers or [])


@pytest.fixture
def page() -> Iterator[Callable[[Callable], Page]]:
    pages = []

    def opened(app: Callable) -> Page:
        pages.append(Page(app))
        return pages[-1]

    yield opened
    for each in pages:
        each.messages.close()


async def answer(send: Callable, body: bytes, kind: str = "application/octet-stream") -> None:
    head = {"type": "http.response.start", "status": 200}
    await send({**head, "headers": [(b"content-type", kind.encode())]})
    await send({"type": "http.response.body", "body": body})


def test_a_request_is_what_it_would_be_over_http(page: Callable[[Callable], Page]) -> None:
    async def app(scope: dict, receive: Callable, send: Callable) -> None:
        said = [scope["method"], scope["path"], scope["query_string"].decode()]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body = (await receive())["body"]
        await answer(send, " ".join([*said, headers["cookie"], body.decode()]).encode())

    here = page(app)
    here.ask("a%20b/c?d=1%202", b"body", method="POST")
    said, body = here.hears()
    assert said == {
        "re": "a%20b/c?d=1%202",
        "status": 200,
        "headers": {"content-type": "application/octet-stream"},
    }
    assert body == b"POST /api/a b/c d=1%202 who=me body"


def test_each_piece_of_a_body_is_asked_for_when_the_last_was_taken(
    page: Callable[[Callable], Page],
) -> None:
    async def app(_scope: dict, receive: Callable, send: Callable) -> None:
        body, more = b"", True
        while more:
            piece = await receive()
            body, more = body + piece["body"], piece["more_body"]
        await answer(send, body)

    here = page(app)
    here.ask("up", b"one ", more=True)
    for piece, more in ((b"two ", True), (b"three", False)):
        assert here.hears() == ({"re": "up", "taken": True}, b"")
        here.messages.hear({"re": "up", "more": more}, [piece])
    assert here.hears()[1] == b"one two three"


def test_a_large_answer_comes_in_pieces_each_when_it_is_wanted(
    page: Callable[[Callable], Page],
) -> None:
    whole = bytes(range(251)) * (2 * PIECE // 251 + 99)

    async def app(_scope: dict, _receive: Callable, send: Callable) -> None:
        await answer(send, whole)

    here = page(app)
    here.ask("down")
    found = b""
    for _ in range(2):
        said, piece = here.hears()
        assert (said, len(piece)) == ({"re": "down", "part": True}, PIECE)
        assert here.heard.empty()
        found += piece
        here.messages.hear({"re": "down", "next": True}, [])
    said, rest = here.hears()
    assert said["status"] == 200
    assert found + rest == whole


def test_events_come_as_they_happen_until_the_page_is_gone(
    page: Callable[[Callable], Page],
) -> None:
    ended: queue.Queue[str] = queue.Queue()

    async def app(_scope: dict, _receive: Callable, send: Callable) -> None:
        kind = (b"content-type", b"text/event-stream; charset=utf-8")
        await send({"type": "http.response.start", "status": 200, "headers": [kind]})
        try:
            for number in range(10**9):
                said = f"data: {number}\n\n".encode()
                await send({"type": "http.response.body", "body": said, "more_body": True})
                await asyncio.sleep(0.001)
        finally:
            ended.put("ended")

    here = page(app)
    here.ask("events")
    assert [here.hears()[1] for _ in range(3)] == [b"data: %d\n\n" % n for n in range(3)]
    here.messages.hear({"re": "events", "gone": True}, [])
    assert ended.get(timeout=SOON) == "ended"


def test_what_is_still_asked_ends_with_the_page(page: Callable[[Callable], Page]) -> None:
    ended: queue.Queue[Any] = queue.Queue()

    async def app(_scope: dict, receive: Callable, _send: Callable) -> None:
        try:
            await receive()
            ended.put("began")
            await receive()
        finally:
            ended.put("ended")

    here = page(app)
    here.ask("waits")
    assert ended.get(timeout=SOON) == "began"
    here.messages.close()
    assert ended.get(timeout=SOON) == "ended"


def test_a_piece_that_comes_after_the_answer_asks_for_nothing(
    page: Callable[[Callable], Page],
) -> None:
    async def app(_scope: dict, _receive: Callable, send: Callable) -> None:
        await answer(send, b"too large")

    here = page(app)
    here.ask("up", b"first", more=True)
    assert here.hears()[1] == b"too large"
    here.messages.hear({"re": "up", "more": False}, [b"last"])
    here.ask("another")
    assert here.hears()[0]["re"] == "another"


def test_what_breaks_is_written_down_and_the_next_request_is_answered(
    page: Callable[[Callable], Page], caplog: pytest.LogCaptureFixture
) -> None:
    fastapi = pytest.importorskip("fastapi")
    app = fastapi.FastAPI()

    @app.get("/api/broken")
    async def broken() -> None:
        raise ZeroDivisionError("by nothing")

    here = page(app)
    here.ask("broken")
    assert here.hears()[0]["status"] == 500
    here.ask("nowhere")
    assert here.hears()[0]["status"] == 404
    assert "by nothing" in caplog.text
