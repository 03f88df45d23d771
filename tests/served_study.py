"""A study with a few tiny clips, served without a network, for the tests of pages."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from studykit.clips.animate import animate_cells
from studykit.clips.folder import study_folder
from studykit.pages.guard import Limits
from studykit.pages.rating import RatingDesk
from studykit.pages.server import create_app
from studykit.study.file import load_study

HERE = "http://localhost"
HEADERS = {"host": "localhost", "origin": HERE}
ASKED = ("naturalness", "structure", "jitter", "consistency")


def made_study(inputs: Path, folder: Path) -> Path:
    """Write a study whose methods' names occur nowhere else, and make its clips."""
    file = shutil.copytree(inputs, folder, dirs_exist_ok=True) / "study.yaml"
    methods = "[{name: kiwimethod, method: copy}, {name: mangomethod, method: copy}]"
    file.write_text(file.read_text().replace("[copy]", methods))
    study = load_study(file)
    animate_cells(study, study_folder(study, folder / "out"))
    return file


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


class Visitor:
    """A page in a browser, message by message."""

    def __init__(self, client: TestClient, socket: Any, entering: dict[str, Any]) -> None:
        self.client, self.socket, self.count, self.sent = client, socket, 0, []
        socket.send_json({"verb": "enter", **entering})
        self.entered = socket.receive_json()
        if "refused" not in self.entered:
            hello = self.ask("hello")
            self.setup, self.state = hello["setup"], hello["state"]

    def send(self, message: dict[str, Any]) -> dict[str, Any]:
        self.socket.send_json(message)
        reply = self.socket.receive_json()
        self.sent.append(reply)
        return reply

    def ask(self, verb: str, **content: Any) -> dict[str, Any]:
        self.count += 1
        return self.send({"re": f"{id(self)}.{self.count}", "verb": verb, **content})

    def turn(self, verb: str, **content: Any) -> dict[str, Any]:
        reply = self.ask(verb, turn=self.state["turn"], **content)
        self.state = reply.get("state", self.state)
        return reply

    def begin(self) -> None:
        self.turn("agree")
        self.turn("questions", answers={})

    def watch(self) -> None:
        self.turn("show")
        self.turn("play", share=1)

    def answer(self, value: int = 3) -> dict[str, Any]:
        self.watch()
        return self.turn("answer", values=dict.fromkeys(ASKED, value))

    def medium(self, slot: str = "clip") -> Any:
        (name,) = (item["id"] for item in self.state["media"] if item["slot"] == slot)
        return self.client.get(self.ask("media", id=name)["address"])
