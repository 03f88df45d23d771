"""A study with a few tiny clips to rate, and a rating page's way of talking, over any carrier."""

import shutil
from pathlib import Path
from typing import Any

from studykit.clips.animate import animate_cells
from studykit.clips.folder import study_folder
from studykit.study.file import load_study

ASKED = ("naturalness", "structure", "jitter", "consistency")


def made_study(inputs: Path, folder: Path) -> Path:
    """Write a study whose methods' names occur nowhere else, and make its clips."""
    file = shutil.copytree(inputs, folder, dirs_exist_ok=True) / "study.yaml"
    methods = "[{name: kiwimethod, method: copy}, {name: mangomethod, method: copy}]"
    file.write_text(file.read_text().replace("[copy]", methods))
    study = load_study(file)
    animate_cells(study, study_folder(study, folder / "out"))
    return file


class Page:
    """What a page does in a browser, message by message; ``send`` is the carrier's."""

    count = 0

    def send(self, message: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def hello(self) -> None:
        hello = self.ask("hello")
        self.setup, self.state = hello["setup"], hello["state"]

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

    def ask_for(self, slot: str) -> dict[str, Any]:
        """Ask for what stands in a slot of the trial at hand."""
        (name,) = (item["id"] for item in self.state["media"] if item["slot"] == slot)
        return self.ask("media", id=name)
