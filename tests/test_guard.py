"""What is checked before any page: where a request comes from, and how large it is."""

import asyncio
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from studykit.pages.guard import Guard, Limits, Rate, WatchedHttp

LIMITS = Limits(body_bytes=1000)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = FastAPI()
    app.add_middleware(Guard, names=["rate.org"], limits=LIMITS, bodies={"/large": 5000})

    @app.api_route("/{path}", methods=["GET", "POST"])
    async def count(request: Request) -> int:
        return len(await request.body())

    @app.websocket("/socket")
    async def socket(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("in")
        await socket.close()

    with TestClient(app, base_url="http://localhost:8866") as client:
        yield client


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *[(host, 200) for host in ("localhost", "127.0.0.1:80", "rate.org", "RATE.org:443")],
        *[(host, 200) for host in ("192.168.1.7:8866", "[::1]:8866", "[fe80::1]")],
        *[(host, 421) for host in ("evil.example", "evil.example:8866", "rate.org.evil.example")],
        *[(host, 421) for host in ("", "localhost/../", "127.0.0.1.evil.example", "a b")],
    ],
)
def test_only_our_names_and_numbers_are_answered(
    client: TestClient, host: str, status: int
) -> None:
    answer = client.get("/page", headers={"host": host})
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "x"])
def test_a_page_of_another_server_opens_no_websocket(client: TestClient, origin: str) -> None:
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/socket", headers={"origin": origin}),
    ):
        pass
    assert client.post("/page", headers={"origin": origin}).status_code == 403


@pytest.mark.parametrize("headers", [{}, {"origin": "http://localhost:8866"}])
def test_our_own_page_opens_one(client: TestClient, headers: dict[str, str]) -> None:
    headers |= {"host": "localhost:8866"}
    with client.websocket_connect("/socket", headers=headers) as socket:
        assert socket.receive_text() == "in"


def test_a_name_that_is_not_ours_opens_no_websocket(client: TestClient) -> None:
    headers = {"host": "evil.example:8866", "origin": "http://evil.example:8866"}
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/socket", headers=headers):
        pass


@pytest.mark.parametrize(("path", "most"), [("/page", 1000), ("/large", 5000)])
def test_a_body_has_a_limit_whether_its_length_is_announced_or_not(
    client: TestClient, path: str, most: int
) -> None:
    assert client.post(path, content=bytes(most)).json() == most
    assert client.post(path, content=bytes(most + 1)).status_code == 413
    parts = (bytes(100) for _ in range(most // 100 + 1))
    assert client.post(path, content=parts).status_code == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 5000])
def test_a_length_that_is_none_is_refused(client: TestClient, length: str) -> None:
    answer = client.post("/page", headers={"content-length": length}, content=b"x")
    assert answer.status_code == 413


def test_a_rate_lets_some_through_at_once_and_then_so_many_a_second() -> None:
    async def tried() -> list[Any]:
        rate = Rate(3, 10)
        for _ in range(3):
            assert rate.wait("one") == 0
            rate.count("one")
        waits = [rate.wait("one"), rate.wait("other")]
        await asyncio.sleep(0.12)
        return [*waits, rate.wait("one")]

    first, other, later = asyncio.run(tried())
    assert 0.05 < first <= 0.1
    assert other == later == 0


def test_who_did_nothing_for_longest_is_forgotten() -> None:
    async def tried() -> list[float]:
        rate = Rate(1, 0.01, known=2)
        for who in "abc":
            rate.count(who)
        return [rate.wait(who) for who in "abc"]

    forgotten, *kept = asyncio.run(tried())
    assert forgotten == 0
    assert all(kept)


class Cycle:
    """A request that was answered."""

    response_complete = True


def test_another_request_is_never_taken_for_the_one_before() -> None:
    http = WatchedHttp.__new__(WatchedHttp)
    http.transport, http._full = mock.Mock(is_closing=lambda: False), False
    http.cycle = Cycle()
    before = http._waits_for()
    assert before == http._waits_for()
    for _ in range(20):
        http.cycle = None  # the next may lie where this one lay
        http.cycle = Cycle()
        assert http._waits_for() != before
        before = http._waits_for()
