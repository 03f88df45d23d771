"""Hundreds of raters at once on the real server, and what became of their answers.

    python -m tests.load.raters --raters 500        # or: make load

A study of 18 clips is made and served by `studykit serve` in a process of its own. Each rater opens
the page with its modules, consents, answers the questions, and then fetches, watches and rates one
clip after the other over the websocket, as the page does; an answer comes 5 to 15 s after the clip
has ended. What was acknowledged is compared with what the store holds in the end.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import resource
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
import skimage.data
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from studykit.clips.animate import animate_cells
from studykit.clips.folder import study_folder
from studykit.media import video
from studykit.ratings.store import open_store
from studykit.study.file import load_study

CONNECTING = 64  # requests that are begun at once; the others wait a moment, as people do
SEEN = {"shown": 3.0, "played": 1.0, "share": 1}  # what a page says where a restart has lost it


@dataclass
class Found:
    """What the raters saw, in seconds; what they gave, and what was acknowledged as stored."""

    opened: list[float] = field(default_factory=list)
    acknowledged: list[float] = field(default_factory=list)
    fetched: list[float] = field(default_factory=list)
    fetched_bytes: int = 0
    again: int = 0
    given: dict[tuple[str, int], dict[str, int]] = field(default_factory=dict)
    stored: set[tuple[str, int]] = field(default_factory=set)
    problems: Counter[str] = field(default_factory=Counter)


def make_study(folder: Path, *, frames: int = 50, side: int = 256) -> Path:
    """Write a study of 3 sources, 3 drivings and 2 methods: 18 clips of real size, no practice."""
    picture = skimage.data.astronaut()
    lines = []
    for kind in ("frontal", "side", "stylised"):
        video.write_image(folder / f"{kind}.png", picture[:400, :400])
        start = random.Random(kind).randrange(60)
        shown = (picture[start + i % 40 :, start + i % 50 :][:side, :side] for i in range(frames))
        video.write_video(folder / f"{kind}.mp4", map(np.ascontiguousarray, shown), frame_rate=25)
    for name in ("sources", "drivings"):
        ends = {"sources": "png", "drivings": "mp4"}[name]
        kinds = ", ".join(f"{kind}: [{kind}.{ends}]" for kind in ("frontal", "side", "stylised"))
        lines.append(f"{name}: {{{kinds}}}")
    for source in ("frontal", "side", "stylised"):
        for driving in ("frontal", "side", "stylised"):
            for method in ("one", "two"):
                place = folder / method / f"{source}__{driving}.mp4"
                place.parent.mkdir(exist_ok=True)
                shutil.copy(folder / f"{driving}.mp4", place)
    made = (f"{{name: {name}, method: folder, path: {name}}}" for name in ("one", "two"))
    (folder / "study.yaml").write_text(
        f"name: load\nsize: {side}\ncrop: centre\n"
        + "\n".join(lines)
        + f"\nmethods: [{', '.join(made)}]\n"
        + "ratings: {training: 0, repeats: 0, references: 0, gold: 0, trials: 18}\n"
    )
    study = load_study(folder / "study.yaml")
    animate_cells(study, study_folder(study, folder / "out"))
    return study.path


@contextlib.contextmanager
def served(study: Path, *options: str) -> Iterator[tuple[psutil.Process, str]]:
    """Start `studykit serve` for a study, and give its process and the address for a panel."""
    command = [sys.executable, "-m", "studykit", "serve", str(study), "--port", "0"]
    command += ["--out", str(study.parent / "out"), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = ""
        while "/join/" not in address:
            if not (address := process.stdout.readline()):
                raise RuntimeError("the server did not start")
        yield psutil.Process(process.pid), re.search(r"http\S+/join/\S+", address)[0]
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


class Rater:
    """One person's browser.

    Parameters
    ----------
    page : str
        The address of the rating page for a panel.
    found : Found
    pause : (float, float)
        From the end of a clip to the answer, in seconds: the least and the most.
    clip : float
        The length of a clip in seconds.
    seed : int
    trusted : ssl.SSLContext, optional
        For an address that begins with https, whatever its name: the server is at 127.0.0.1.
    """

    def __init__(
        self,
        page: str,
        found: Found,
        pause: tuple[float, float] = (0, 0),
        clip: float = 0,
        seed: int = 0,
        trusted: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(page)
        self.name, self.port, self.page = parts.hostname, parts.port, parts.path
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self.found, self.pause, self.clip, self.trusted = found, pause, clip, trusted
        self.random = random.Random(seed)
        self.count, self.key, self.joined, self.kept = 0, None, False, set()
        self.socket: ClientConnection | None = None

    async def rate(self, gate: asyncio.Semaphore | None = None) -> None:
        """Open the page, and rate all clips."""
        begun = time.monotonic()
        async with gate or contextlib.nullcontext():
            page = await self.get(self.page)
            for name in dict.fromkeys(re.findall(rb"/static/[\w./-]+", page)):
                await self.get(name.decode())
        answer = await self.ask("hello")
        self.found.opened.append(time.monotonic() - begun)
        setup, state = answer["setup"], answer["state"]
        self.asked = [criterion["name"] for criterion in setup["asked"]]
        self.highest = setup["highest"]
        choices = {question["name"]: question["choices"][0] for question in setup["questions"]}
        while state["page"] != "finished":
            turn, page = state["turn"], state["page"]
            self.joined = page != "consent"
            if page == "consent":
                state = (await self.ask("agree", turn=turn))["state"]
                await asyncio.sleep(self.random.uniform(0, self.pause[1]))
            elif page == "questions":
                state = (await self.ask("questions", turn=turn, answers=choices))["state"]
            else:
                state = await self.trial(state)
        await self.socket.close()

    async def trial(self, state: dict) -> dict:
        """Fetch what is shown and, as the page does, what comes next; watch it, and answer."""
        turn = state["turn"]
        media = (*state["media"], *state["next"])
        for medium in media:
            if medium["id"] not in self.kept:
                begun = time.monotonic()
                await self.fetch(medium["id"])
                self.found.fetched.append(time.monotonic() - begun)
        self.kept = {medium["id"] for medium in media}
        await self.ask("show", turn=turn)
        await asyncio.sleep(self.clip)
        await self.ask("play", turn=turn, share=1)
        await asyncio.sleep(self.random.uniform(*self.pause))
        values = {name: self.random.randint(1, self.highest) for name in self.asked}
        place = state["rater"], state["number"]
        self.found.given[place] = values
        begun = time.monotonic()
        answered = await self.ask("answer", turn=turn, values=values, seen=SEEN)
        if answered["state"]["turn"] != turn:
            self.found.acknowledged.append(time.monotonic() - begun)
            self.found.stored.add(place)
        return answered["state"]

    async def fetch(self, name: str) -> None:
        """Fetch a clip, under a new address where the one before has failed."""
        while True:
            try:
                address = (await self.ask("media", id=name))["address"]
                self.found.fetched_bytes += len(await self.get(address))
                return
            except OSError as error:
                self.found.problems[f"clip: {type(error).__name__}"] += 1
                await asyncio.sleep(0.2)

    async def ask(self, verb: str, **content: object) -> dict:
        """Send a request until it is answered, over a new connection where one is lost."""
        self.count += 1
        message = {"re": f"{id(self)}.{self.count}", "verb": verb, **content}
        while True:
            try:
                if self.socket is None:
                    await self.connect()
                await self.socket.send(json.dumps(message))
                while True:
                    reply = json.loads(await asyncio.wait_for(self.socket.recv(), 30))
                    if reply.get("re") == message["re"]:
                        break
            except TimeoutError:
                self.found.again += 1
                continue
            except (ConnectionClosed, InvalidHandshake, OSError) as error:
                self.found.problems[f"socket: {type(error).__name__}"] += 1
                self.socket = None
                await asyncio.sleep(0.2 + 0.3 * self.random.random())
                continue
            if not reply.get("problem"):
                return reply
            self.found.problems[f"{verb}: problem"] += 1
            await asyncio.sleep(1)
            self.count += 1
            message["re"] = f"{id(self)}.{self.count}"

    async def connect(self) -> None:
        socket = await connect(
            f"{self.origin.replace('http', 'ws', 1)}/rate/socket",
            host="127.0.0.1",
            port=self.port,
            origin=self.origin,
            ssl=self.trusted,
            open_timeout=60,
            compression=None,
        )
        panel = self.page.rpartition("/")[2]
        who = {"key": self.key} if self.joined else {"panel": panel, "key": self.key}
        await socket.send(json.dumps({"verb": "enter", **who}))
        entered = json.loads(await asyncio.wait_for(socket.recv(), 30))
        assert entered.get("entered"), entered
        self.key = entered.get("key", self.key)
        self.socket = socket

    async def get(self, path: str) -> bytes:
        """Fetch a file over a connection of its own."""
        named = {"server_hostname": self.name} if self.trusted else {}
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.trusted, **named
        )
        try:
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: {self.name}:{self.port}\r\n"
                "Connection: close\r\n\r\n".encode()
            )
            async with asyncio.timeout(60):
                head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        finally:
            writer.close()
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if b" 200" not in head.split(b"\r\n")[0] or int(length[1]) != len(body):
            raise OSError(f"{path}: {head[:40]!r}")
        return body


async def all_rate(
    page: str,
    raters: int,
    pause: tuple[float, float] = (5, 15),
    clip: float = 2,
    arriving: float = 60,
    trusted: ssl.SSLContext | None = None,
    found: Found | None = None,
) -> Found:
    """Let so many raters come within some seconds and rate until all have finished."""
    found, gate = found or Found(), asyncio.Semaphore(CONNECTING)

    async def comes(number: int) -> None:
        await asyncio.sleep(arriving * number / raters)
        await Rater(page, found, pause, clip, number, trusted).rate(gate)

    async with asyncio.TaskGroup() as group:
        for number in range(raters):
            group.create_task(comes(number))
    return found


def lost_and_double(found: Found, store: Path) -> tuple[int, int]:
    """Count acknowledged answers that the store lacks, and those it has twice or otherwise."""
    with open_store(store) as opened:
        ratings = opened.ratings(history=True)
    held = {
        place: dict(zip(rows["criterion"], rows["value"], strict=True))
        for place, rows in ratings.groupby(["rater", "trial"])
    }
    lost = len(found.stored - set(held))
    other = sum(values != found.given.get(place) for place, values in held.items())
    double = int(ratings.duplicated(["rater", "trial", "criterion"]).sum())
    return lost, double + other


def main() -> None:
    """Print the figures as JSON; exit 1 where an answer is lost or double."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raters", type=int, default=500)
    parser.add_argument("--least", type=float, default=5, help="seconds from clip to answer")
    parser.add_argument("--most", type=float, default=15)
    parser.add_argument("--arriving", type=float, default=60, help="seconds in which they come")
    chosen = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as place:
        study = make_study(Path(place))
        with served(study) as (server, page):
            before = server.memory_info().rss
            begun, load = time.monotonic(), os.getloadavg()
            pause = (chosen.least, chosen.most)
            found = asyncio.run(all_rate(page, chosen.raters, pause, arriving=chosen.arriving))
            seconds = time.monotonic() - begun
            status = Path(f"/proc/{server.pid}/status")
            peak = int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) * 1024
            times = server.cpu_times()
        lost, double = lost_and_double(found, study.parent / "out" / "ratings.sqlite")

    def quantiles(times_: list[float]) -> dict[str, float]:
        p50, p95, largest = np.quantile(times_, [0.5, 0.95, 1])
        return {"p50": round(1e3 * p50, 1), "p95": round(1e3 * p95, 1), "max": round(1e3 * largest)}

    own = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "raters": chosen.raters,
        "answers": len(found.stored),
        "lost": lost,
        "double": double,
        "acknowledged, ms": quantiles(found.acknowledged),
        "page opened, ms": quantiles(found.opened),
        "clip fetched, ms": quantiles(found.fetched),
        "fetched, MB": round(found.fetched_bytes / 1e6),
        "sent again": found.again,
        "problems": dict(found.problems),
        "seconds": round(seconds),
        "server, MB at the start and at most": [round(n / 1e6) for n in (before, peak)],
        "server, s of processor": round(times.user + times.system, 1),
        "this script, s of processor": round(own.ru_utime + own.ru_stime, 1),
        "load average at the start and at the end": [
            round(n[0], 1) for n in (load, os.getloadavg())
        ],
    }
    print(json.dumps(figures, indent=2))
    sys.exit(bool(lost or double))


if __name__ == "__main__":
    main()
