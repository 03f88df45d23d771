"""A study's pages, served without a network, and ways to visit them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from studykit.pages.guard import Limits
from studykit.pages.rating import RatingDesk
from studykit.pages.server import create_app
from studykit.study.file import load_study
from tests.rated_study import Page

HERE = "http://localhost"
HEADERS = {"host": "localhost", "origin": HERE}


@contextlib.contextmanager
def served(file: Path, store: Path, limits: Limits | None = None) -> Iterator["Server"]:
    """Serve a study's pages in this process."""
    desk = RatingDesk(load_study(file), file.parent / "out", str(store), limits)
    desk.material.make_ready = lambda: None
    with TestClient(create_app(desk, limits=limits), base_url=HERE) as client:
        yield Server(client, desk)


class Server:
    """A server, and ways to visit it."""

    def __init__(self, client: TestClient, desk: RatingDesk) -> None:
        self.client, self.desk = client, desk

    @contextlib.contextmanager
    def socket(self) -> Iterator[Any]:
        with self.client.websocket_connect("/rate/socket", headers=HEADERS) as socket:
            yield socket

    @contextlib.contextmanager
    def visit(self, **entering: Any) -> Iterator["Visitor"]:
        with self.socket() as socket:
            yield Visitor(self.client, socket, entering)


class Visitor(Page):
    """A page in a browser, over a websocket."""

    def __init__(self, client: TestClient, socket: Any, entering: dict[str, Any]) -> None:
        self.client, self.socket, self.sent = client, socket, []
        socket.send_json({"verb": "enter", **entering})
        self.entered = socket.receive_json()
        if "refused" not in self.entered:
            self.hello()

    def send(self, message: dict[str, Any]) -> dict[str, Any]:
        self.socket.send_json(message)
        reply = self.socket.receive_json()
        self.sent.append(reply)
        return reply

    def medium(self, slot: str = "clip") -> Any:
        return self.client.get(self.ask_for(slot)["address"])
