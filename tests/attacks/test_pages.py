# ruff: noqa: E501 (an attack a line)
"""Hostile visitors of the real server: each is refused, learns nothing, and holds nobody up.

One server is attacked by all of them. After each attack an honest visitor is answered, what the store
holds is what it held, and no byte that the attacker got says a path, a method or a name of the study.
"""

import base64
import contextlib
import json
import os
import re
import secrets
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from studykit.clips.animate import animate_cells
from studykit.clips.folder import study_folder
from studykit.ratings.links import Links
from studykit.ratings.material import Material
from studykit.ratings.store import open_store
from studykit.study.file import load_study

# Patience is short, so that what is too slow is found out in a test's time.
LIMITS = (
    "seconds_to_ask=1.0, seconds_to_enter=1.5, seconds_to_take=1.5, slowest=2_000_000, "
    "messages_at_once=2_000, messages_per_second=500, joins=6_000, visitors=60, connections=200"
)
SECRETS = (
    "kiwimethod",
    "mangosource",
    "papayadriving",
    "plumstudy",
    "Traceback",
    "sqlite",
    "uvicorn",
)
SCRIPT = "<script>alert(1)</script>"
AT_ONCE = 0.1  # seconds in which a static file comes, on a machine that does nothing else
GUESS = "guessed-guessed-guessed-"[:24]


@dataclass
class Target:
    """The server, how it is reached, and what it has said to attackers."""

    port: int
    panel: str
    author: str
    place: Path
    process: psutil.Process
    said: list[bytes] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def store(self) -> Path:
        return self.place / "results" / "ratings.sqlite"

    def raw(self, request: bytes, *, seconds: float = 5) -> bytes:
        """Send bytes as they are, and return what comes until the server closes."""
        got = b""
        with socket.create_connection(("127.0.0.1", self.port), 10) as wire:
            wire.settimeout(seconds)
            with contextlib.suppress(OSError):
                wire.sendall(request)
            with contextlib.suppress(OSError):
                while part := wire.recv(65536):
                    got += part
        self.said.append(got)
        return got

    def get(self, path: str, *headers: str, method: str = "GET", host: str | None = None) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host or self.host}", *headers]
        last = [] if "Connection: Upgrade" in headers else ["Connection: close"]
        return self.raw("\r\n".join([*lines, *last, "", ""]).encode())

    @contextlib.contextmanager
    def talk(self, origin: str | None = "ours", path: str = "/rate/socket") -> Iterator[Any]:
        """Open a websocket that notes all that is heard."""
        origin = f"http://{self.host}" if origin == "ours" else origin
        address = f"ws://{self.host}{path}"
        with connect(address, origin=origin, max_size=None, ping_interval=None) as ours:
            heard = ours.recv

            def recv(timeout: float = 20) -> str:
                message = heard(timeout)
                self.said.append(message if isinstance(message, bytes) else message.encode())
                return message

            ours.recv = recv
            yield ours

    def wire(self, *headers: str, path: str = "/rate/socket") -> socket.socket:
        """Shake hands for a websocket, and return the connection for frames made by hand."""
        wire = socket.create_connection(("127.0.0.1", self.port), 10)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: {self.host}", "Upgrade: websocket",
                 "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13",
                 f"Origin: http://{self.host}", *headers, "", ""]  # fmt: skip
        wire.sendall("\r\n".join(lines).encode())
        wire.settimeout(30)  # an end that is not answered is waited for 10 s
        head = b""
        while b"\r\n\r\n" not in head:
            head += wire.recv(4096)
        assert b" 101 " in head
        assert b"deflate" not in head
        return wire

    def ends(self, wire: socket.socket, frames: bytes, times: int = 1) -> bytes:
        """Send frames and return what comes until the server ends the connection."""
        got = b""
        with wire, contextlib.suppress(ConnectionError):
            for _ in range(times):
                wire.sendall(frames)
            while part := wire.recv(65536):
                got += part
        self.said.append(got)
        return got


def frame(data: bytes, opcode: int = 1, *, bits: int = 0x80, mask: bool = True) -> bytes:
    """Make a frame of a websocket: RFC 6455, 5.2."""
    size, masked = len(data), 0x80 if mask else 0
    if size < 126:
        head = struct.pack("!BB", bits | opcode, masked | size)
    elif size < 65536:
        head = struct.pack("!BBH", bits | opcode, masked | 126, size)
    else:
        head = struct.pack("!BBQ", bits | opcode, masked | 127, size)
    return head + (bytes(4) if mask else b"") + data  # a mask of zeros


class Session:
    """An honest rater's way through the pages, up to where an attack begins."""

    def __init__(self, target: Target, socket_: ClientConnection, key: str | None = None) -> None:
        self.target, self.socket, self.count = target, socket_, 0
        greeting = {"key": key} if key else {"panel": target.panel}
        self.entered = self.say(verb="enter", **greeting)
        self.key = self.entered.get("key", key)
        if key is None:
            self.state = self.ask("hello")["state"]
            self.state = self.ask("agree", turn=self.state["turn"])["state"]
            self.state = self.ask("questions", turn=self.state["turn"], answers={})["state"]
        else:
            self.state = self.ask("hello")["state"]

    def say(self, **message: object) -> dict[str, Any]:
        self.socket.send(json.dumps(message))
        return json.loads(self.socket.recv())

    def ask(self, verb: str, **content: object) -> dict[str, Any]:
        self.count += 1
        name = f"{id(self)}.{self.count}"
        reply = self.say(re=name, verb=verb, **content)
        assert reply["re"] == name
        return reply

    def watch(self) -> None:
        self.ask("show", turn=self.state["turn"])
        self.ask("play", turn=self.state["turn"], share=1)

    def answer(self, value: int = 3, **others: object) -> dict[str, Any]:
        values = dict.fromkeys(("naturalness", "structure", "jitter", "consistency"), value)
        return self.ask("answer", **{"turn": self.state["turn"], "values": values} | others)


def held(target: Target) -> int:
    with open_store(target.store) as store:
        return len(store.ratings(history=True))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, small_inputs: Path) -> Iterator[Target]:
    place = tmp_path_factory.mktemp("hidden-place")
    for name, new in (("anna.png", "mangosource.png"), ("talk.mp4", "papayadriving.mp4")):
        (place / new).write_bytes((small_inputs / name).read_bytes())
    (place / "study.yaml").write_text(
        "name: plumstudy\nsize: 64\ncrop: centre\n"
        "sources: {frontal: [mangosource.png]}\ndrivings: {frontal: [papayadriving.mp4]}\n"
        "methods: [{name: kiwimethod, method: copy}, {name: kiwimethod2, method: copy}]\n"
        f"ratings: {{trials: 2, language: 'en\" onload=\"alert(1)', "
        f"consent: '{SCRIPT}', texts: {{title: '{SCRIPT}'}}}}\n"
    )
    study = load_study(place / "study.yaml")
    animate_cells(study, study_folder(study, place / "results"))
    # The server makes it while the first attacks are at work, whose memory is held against them.
    Material(study, place / "results").make_ready()
    program = (
        "from studykit.pages.guard import Limits\nfrom studykit.pages.server import serve\n"
        f"serve('study.yaml', out='results', port=0, limits=Limits({LIMITS}))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=place, stdout=subprocess.PIPE, text=True,
        stderr=(place / "stderr").open("w"), env=os.environ | {"PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    try:
        found, text = None, ""
        while found is None:
            text += (line := process.stdout.readline())
            assert line, (place / "stderr").read_text()
            found = re.search(r":(\d+)/join/([\w-]+).*/author#([\w-]+)", text, re.DOTALL)
        it = Target(int(found[1]), found[2], found[3], place, psutil.Process(process.pid))
        with watched(it):
            yield it
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


@contextlib.contextmanager
def watched(target: Target) -> Iterator[None]:
    """Fetch a static file again and again, and note how long it takes, all the while."""
    done = threading.Event()
    request = f"GET /static/x/link.js HTTP/1.1\r\nHost: {target.host}\r\nConnection: close\r\n\r\n"

    def fetch() -> None:
        while not done.wait(0.05):
            begun = time.perf_counter()
            got = b""
            try:
                with socket.create_connection(("127.0.0.1", target.port), 20) as wire:
                    wire.settimeout(20)
                    wire.sendall(request.encode())
                    while part := wire.recv(65536):
                        got += part
            except OSError:
                got = b""
            took = time.perf_counter() - begun
            # A connection too many is refused while an attack holds all of them.
            target.waited.append(took if got.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503")) else 99)

    thread = threading.Thread(target=fetch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.fixture(autouse=True)
def nothing_leaks_and_nobody_waits(target: Target) -> Iterator[None]:
    target.said.clear()
    answers, memory = held(target), target.process.memory_info().rss
    yield
    end = time.monotonic() + 60
    while len(target.process.net_connections("tcp")) > 3 and time.monotonic() < end:
        time.sleep(0.05)  # the listening one, and the watcher's
    assert len(target.process.net_connections("tcp")) <= 3, "connections stay"
    assert held(target) == answers, "the store has changed"
    assert target.process.memory_info().rss < memory + 60e6, "memory stays taken"
    with target.talk() as ours:  # an honest visitor is let in and answered
        ours.send(json.dumps({"verb": "enter", "panel": target.panel}))
        assert json.loads(ours.recv())["entered"]
        ours.send(json.dumps({"verb": "hello", "re": "1"}))
        assert json.loads(ours.recv())["state"]["page"] == "consent"
    for got in target.said:
        for secret in (*SECRETS, str(target.place), "hidden-place"):
            assert secret.encode() not in got, f"{secret} in {got[:300]!r}"


# The place of {host} is taken by the server's.
REQUESTS: dict[str, tuple[bytes, str]] = {
    **{
        f"traversal: {path}": (f"GET {path} HTTP/1.1\r\nHost: {{host}}\r\n".encode(), "404|400")
        for path in (
            "/static/../../../study.yaml",
            "/static/x/../../../../study.yaml",
            "/static/x/..%2f..%2f..%2fstudy.yaml",
            "/static/x/%2e%2e%2f%2e%2e%2fstudy.yaml",
            "/static/x/%252e%252e%252fstudy.yaml",
            "/static/x/..%5c..%5cstudy.yaml",
            "/static/x/..\\..\\study.yaml",
            "/static/x/%c0%ae%c0%ae%c0%afstudy.yaml",
            "/static/x/link.js%00.html",
            "/static/x/link.js/",
            "/static//etc/passwd",
            "//etc/passwd",
            "/rate/file/..%2f..%2fresults%2fratings.sqlite",
            "/rate/file/%2fetc%2fpasswd",
            "/rate/file/__class__",
            "/join/../study.yaml",
            "/proc/self/environ",
            "/study.yaml",
            "/results/ratings.sqlite",
            "/docs",
            "/openapi.json",
            "/.git/config",
        )
    },
    **{
        f"method: {method}": (
            f"{method} /rate HTTP/1.1\r\nHost: {{host}}\r\n".encode("latin-1"),
            "405|400|404|501",
        )
        for method in (
            "PUT",
            "DELETE",
            "TRACE",
            "CONNECT",
            "PROPFIND",
            "G\xc4T",
            "POST\t",
            "",
            "get",
        )
    },
    "method: POST with another said to be meant": (
        b"POST /rate HTTP/1.1\r\nHost: {host}\r\nX-HTTP-Method-Override: GET\r\nContent-Length: 0\r\n",
        "405",
    ),
    **{
        f"rebinding: {host}": (f"GET /rate HTTP/1.1\r\nHost: {host}\r\n".encode(), "421|400")
        for host in (
            "evil.example",
            "evil.example:{port}",
            "127.0.0.1.evil.example:{port}",
            "localhost.evil.example",
            "evil.example@127.0.0.1",
            "127.0.0.1:{port}@evil.example",
            "localhost:{port}/",
            "localhost:99999999",
            "127.0.0.1, evil.example",
            "[::1",
            "",
        )
    },
    "rebinding: no host": (b"GET /rate HTTP/1.1\r\n", "421|400"),
    "rebinding: no host in HTTP/1.0": (b"GET /rate HTTP/1.0\r\n", "421|400"),
    "rebinding: two hosts": (
        b"GET /rate HTTP/1.1\r\nHost: {host}\r\nHost: evil.example\r\n",
        "421|400",
    ),
    "rebinding: the host in the target": (
        b"GET http://evil.example/rate HTTP/1.1\r\nHost: evil.example\r\n",
        "421|400|404",
    ),
    "rebinding: another host forwarded": (
        b"GET /rate HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: {host}\r\n",
        "421",
    ),
    "foreign origin posts": (
        b"POST /rate HTTP/1.1\r\nHost: {host}\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\n",
        "403",
    ),
    "headers: 5,000, and another 5,000": (
        b"GET /rate HTTP/1.1\r\nHost: {host}\r\n"
        + b"".join(b"X-%d: y\r\n" % n for n in range(10_000)),
        "200|400|431",
    ),
    "headers: one of a megabyte": (
        b"GET /rate HTTP/1.1\r\nHost: {host}\r\nX: " + b"y" * 1_000_000 + b"\r\n",
        "400|431",
    ),
    "headers: a name with a line break": (
        b"GET /rate HTTP/1.1\r\nHost: {host}\r\nX\n: y\r\n",
        "400",
    ),
    "headers: NUL": (b"GET /rate HTTP/1.1\r\nHost: {host}\r\nX: a\0b\r\n", "400"),
    "headers: folded": (b"GET /rate HTTP/1.1\r\nHost: {host}\r\nX: a\r\n b\r\n", "200|400"),
    "path of a megabyte": (
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: {host}\r\n",
        "400|414",
    ),
    "path with a line break": (
        b"GET /rate%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\nHost: {host}\r\n",
        "404",
    ),
    "path with bytes that are no UTF-8": (
        b"GET /join/\xff\xfe HTTP/1.1\r\nHost: {host}\r\n",
        "400|404",
    ),
    "path with a script": (b"GET /" + SCRIPT.encode() + b" HTTP/1.1\r\nHost: {host}\r\n", "404"),
    "query of 60 kB": (
        b"GET /rate?" + b"a=b&" * 15_000 + b" HTTP/1.1\r\nHost: {host}\r\n",
        "200|400",
    ),
    "another protocol": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), "400|^$"),
    "HTTP/0.9": (b"GET /rate\r\n", "400"),
    "HTTP/2 begun at once": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400|421|505"),
    "HTTP/9.9": (b"GET /rate HTTP/9.9\r\nHost: {host}\r\n", "400|505|200"),
    **{
        f"length: {length}": (
            f"POST /rate HTTP/1.1\r\nHost: {{host}}\r\nContent-Length: {length}\r\n".encode(),
            "400|405|413",
        )
        for length in ("-1", "1e3", "9" * 30, "0x10", "1000001", "+5", "5, 6")
    },
    "length and chunks at once": (
        b"POST /rate HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"
        b"\r\n0\r\n\r\nGET /static/x/link.js HTTP/1.1\r\nHost: {host}\r\n",
        "400|405",
    ),
    "a chunk larger than any": (
        b"POST /rate HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n",
        "400|405",
    ),
    "a chunk without a size": (
        b"POST /rate HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "400|405",
    ),
    "another coding": (
        b"POST /rate HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: gzip\r\n",
        "400|405|501",
    ),
    "2,000 requests in one go": (
        b"GET /static/x/link.js HTTP/1.1\r\nHost: {host}\r\n\r\n" * 2000,
        "200",
    ),
    "ranges: 5,000 of one file": (
        b"GET /static/x/link.js HTTP/1.1\r\nHost: {host}\r\nRange: bytes="
        + b",".join(b"%d-%d" % (n, n + 1) for n in range(5000))
        + b"\r\n",
        "200|206|400|416",
    ),
    **{
        f"range: {text}": (
            f"GET /static/x/link.js HTTP/1.1\r\nHost: {{host}}\r\nRange: {text}\r\n".encode(),
            "200|206|416",
        )
        for text in (
            "bytes=-99999999",
            "bytes=9-1",
            "bytes=" + "9" * 100 + "-",
            "apples=1-2",
            "bytes=--1",
        )
    },
    "a websocket of another version": (
        b"GET /rate/socket HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 99\r\n",
        "400|426",
    ),
    "a websocket without a key": (
        b"GET /rate/socket HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\n",
        "400|426",
    ),
    "a websocket where none is": (
        b"GET /rate HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
        "403|404|400",
    ),
    "a websocket by POST": (
        b"POST /rate/socket HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
        "400|403|404|405",
    ),
    "the socket's address without a websocket": (
        b"GET /rate/socket HTTP/1.1\r\nHost: {host}\r\n",
        "404",
    ),
    "a guessed file": (f"GET /rate/file/{GUESS} HTTP/1.1\r\nHost: {{host}}\r\n".encode(), "404"),
}


@pytest.mark.parametrize("attack", REQUESTS)
def test_a_request_is_answered_and_says_nothing(target: Target, attack: str) -> None:
    request, status = REQUESTS[attack]
    for name, value in (("host", target.host), ("port", str(target.port))):
        request = request.replace(f"{{{name}}}".encode(), value.encode())
    if not request.endswith(b"\r\n\r\n") and b"\r\n\r\n" not in request:
        request += b"\r\n" if b"Upgrade:" in request else b"Connection: close\r\n\r\n"
    got = target.raw(request)
    line = got.split(b"\r\n")[0].decode("latin-1")
    found = re.match(r"HTTP/1\.[01] (\d+)", line)
    assert re.fullmatch(status, found[1] if found else ""), line
    assert not re.search(rb"(?im)^(server|x-powered-by|set-cookie):", got)
    assert SCRIPT.encode() not in got


BEFORE_ENTERING: dict[str, str | bytes] = {
    "no JSON": "hello",
    "nothing": "",
    "half a message": '{"verb": "enter", "panel"',
    "bytes": b'{"verb": "enter"}',
    "eight bytes, as offsets once were": b"\xff" * 8,
    "a list": "[]",
    "a number": "5",
    "a text": '"enter"',
    "null": "null",
    "lists 100,000 deep": "[" * 100_000,
    "lists 100,000 deep, closed": "[" * 100_000 + "]" * 100_000,
    "mappings 100,000 deep": '{"a":' * 100_000,
    "deep inside of a message": '{"verb": "enter", "panel": ' + "[" * 5000 + "]" * 5000 + "}",
    "a number of a million digits": '{"verb": "enter", "re": ' + "9" * 900_000 + "}",
    "a float without end": '{"verb": "enter", "re": 1e999999999}',
    "not a number": '{"verb": "enter", "key": NaN, "panel": Infinity}',
    "a key of 900,000 letters": '{"verb": "enter", "' + "k" * 900_000 + '": 1}',
    "200,000 keys": "{" + ",".join(f'"{n}":1' for n in range(60_000)) + "}",
    "half a character": '{"verb": "enter", "key": "\\ud800", "panel": "\\udfff"}',
    "NUL": '{"verb": "enter", "key": "\\u0000", "panel": "\\u0000"}',
    "a guessed key": f'{{"verb": "enter", "key": "{GUESS}"}}',
    "a guessed panel": f'{{"verb": "enter", "panel": "{GUESS}"}}',
    "a list as a key": '{"verb": "enter", "key": ["a"], "panel": ["b"]}',
    "a mapping as a key": '{"verb": "enter", "key": {"a": 1}, "panel": {"$ne": ""}}',
    "true as a key": '{"verb": "enter", "key": true, "panel": true}',
    "SQL as a key": '{"verb": "enter", "key": "\' OR 1=1 -- aaaaaaaaaaaa", "panel": "\' OR 1=1"}',
    "an empty key": '{"verb": "enter", "key": "", "panel": ""}',
    "no key": '{"verb": "enter"}',
    "a name that is deep": '{"verb": "enter", "re": ' + "[" * 900 + "]" * 900 + "}",
    "a name that is long": '{"verb": "enter", "re": "' + "r" * 10_000 + '"}',
    "another verb first": '{"verb": "hello", "re": "1"}',
    "an answer first": '{"verb": "answer", "turn": "rating.0", "values": {"jitter": 5}}',
}


@pytest.mark.parametrize("attack", BEFORE_ENTERING)
def test_who_has_no_link_is_not_let_in(target: Target, attack: str) -> None:
    with target.talk() as ours:
        ours.send(BEFORE_ENTERING[attack])
        with contextlib.suppress(ConnectionClosed):
            assert "refused" in json.loads(ours.recv())
        with pytest.raises(ConnectionClosed):
            ours.recv()


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "https://evil.example", "null", "file://", "http://localhost:1",
     "http://127.0.0.1:{port}.evil.example", "http://127.0.0.1:{port}@evil.example",
     "http://evil.example/127.0.0.1:{port}", "//", ""],
)  # fmt: skip
def test_a_page_of_another_server_opens_no_websocket(target: Target, origin: str) -> None:
    origin = origin.replace("{port}", str(target.port))
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    got = target.get("/rate/socket", "Upgrade: websocket", "Connection: Upgrade", key,
                     "Sec-WebSocket-Version: 13", f"Origin: {origin}")  # fmt: skip
    assert re.match(rb"HTTP/1\.1 (403|400)", got)


# From within a session: the state is as before, and nothing is stored.
IN_A_SESSION: dict[str, dict[str, Any]] = {
    "early": {"verb": "answer", "values": {}},
    "an answer that is early": {"verb": "answer", "answer": 3},
    "a foreign turn": {"verb": "answer", "turn": "rating.99", "answer": 3},
    "a turn that is a list": {"verb": "answer", "turn": [], "answer": 3},
    "no turn": {"verb": "answer", "turn": None, "answer": 3},
    "no verb": {},
    "a name that is a mapping": {"re": {"a": [1]}, "verb": "answer", "answer": 3, "turn": "x"},
    "an unknown verb": {"verb": "finish"},
    "a method of Python as a verb": {"verb": "__init__"},
    "an attribute as a verb": {"verb": "trials"},
    "a list as a verb": {"verb": ["answer"]},
    "consent again": {"verb": "agree"},
    "refusal after consent": {"verb": "decline"},
    "questions again": {"verb": "questions", "answers": {}},
    "another rater by id": {"verb": "recall", "rater": "r-0000000"},
    "going on as another": {"verb": "return"},
    "undo of nothing": {"verb": "undo"},
    "a negative trial": {"verb": "media", "id": "-1.clip"},
    "a later trial": {"verb": "media", "id": "3.clip"},
    "a trial that is none": {"verb": "media", "id": "1e9.clip"},
    "a trial without end": {"verb": "media", "id": "inf.clip"},
    "a number in other digits": {"verb": "media", "id": "٣.clip"},
    "a slot of Python": {"verb": "media", "id": "0.__class__"},
    "a slot that is a path": {"verb": "media", "id": "0./etc/passwd"},
    "three parts": {"verb": "media", "id": "0.clip.clip"},
    "a slot that is not shown": {"verb": "media", "id": "0.driving"},
    "a number as a medium": {"verb": "media", "id": 5},
    "a list as a medium": {"verb": "media", "id": ["0.clip"]},
    "a key of 900,000 letters": {"verb": "questions", "answers": {"k" * 900_000: "x"}},
    "a share that is none": {"verb": "play", "share": "x"},
    "a share without end": {"verb": "play", "share": float("inf")},
    "a share that is no number": {"verb": "play", "share": float("nan")},
    "a share of 10^400": {"verb": "play", "share": 10**400},
}
# Such an answer to one criterion, after the clip was seen.
ANSWERS: dict[str, Any] = {
    "0": 0, "-1": -1, "6": 6, "a million": 10**6, "10^4000": 10**4000, "a half": 2.5, "three": 3.0,
    "true": True, "a text": "3", "null": None, "a list": [3], "not a number": float("nan"),
    "without end": float("inf"), "a mapping": {"value": 3}, "half a character": "\ud800",
}  # fmt: skip


@pytest.fixture(scope="module")
def session(target: Target) -> Iterator[Session]:
    """A rater who stands before the first trial all the while, a new connection each time."""
    with target.talk() as ours:
        yield Session(target, ours).key


@pytest.mark.parametrize("attack", IN_A_SESSION)
def test_a_message_out_of_place_changes_nothing(target: Target, session: str, attack: str) -> None:
    with target.talk() as ours:
        rater = Session(target, ours, session)
        before = rater.state
        message = {"turn": before["turn"]} | IN_A_SESSION[attack]
        if message.pop("answer", None):
            message["values"] = dict.fromkeys(
                ("naturalness", "structure", "jitter", "consistency"), 3
            )
        reply = rater.say(**{"re": "attack"} | message)
        assert "address" not in reply
        now = rater.ask("hello")["state"]
        assert now == before


@pytest.mark.parametrize("attack", ANSWERS)
def test_an_answer_that_is_none_is_not_stored(target: Target, session: str, attack: str) -> None:
    with target.talk() as ours:
        rater = Session(target, ours, session)
        rater.watch()
        before = rater.state["turn"]
        values = dict.fromkeys(("naturalness", "structure", "jitter"), 3)
        for odd in (values | {"consistency": ANSWERS[attack]}, values | {"other": ANSWERS[attack]}):
            reply = rater.ask("answer", turn=before, values=odd)
            assert reply.get("problem") or reply["state"]["turn"] == before
        assert rater.ask("hello")["state"]["turn"] == before


def frames_of(kind: str) -> tuple[bytes, int]:
    squeezed = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = squeezed.compress(b"[" * 50_000_000) + squeezed.flush(zlib.Z_SYNC_FLUSH)
    return {
        "a bomb that was not agreed on": (frame(bomb[:-4], bits=0xC0), 1),
        "unmasked": (frame(b"{}", mask=False), 1),
        "an opcode that is none": (frame(b"{}", 3), 1),
        "reserved bits": (frame(b"{}", bits=0xB0), 1),
        "a ping that is too long": (frame(b"x" * 200, 9), 1),
        "a ping in two parts": (frame(b"x", 9, bits=0), 1),
        "a part without a beginning": (frame(b"x", 0), 1),
        "a text that is no UTF-8": (frame(b"\xff\xfe\xfd"), 1),
        "an end with a reason that is none": (frame(b"\x00\x01", 8), 1),
        "more than a megabyte": (frame(b"x" * 1_100_000), 1),
        "a length of 2^62": (struct.pack("!BBQ", 0x81, 0xFF, 2**62) + bytes(4), 1),
        "parts without end": (
            frame(b"x" * 60_000, bits=0) + frame(b"x" * 60_000, 0, bits=0) * 30,
            1,
        ),
        "nothing but pings": (frame(b"", 9), 20_000),
        "nothing at all": (b"", 1),
        "a byte of a frame": (b"\x81", 1),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["a bomb that was not agreed on", "unmasked", "an opcode that is none", "reserved bits",
     "a ping that is too long", "a ping in two parts", "a part without a beginning",
     "a text that is no UTF-8", "an end with a reason that is none", "more than a megabyte",
     "a length of 2^62", "parts without end", "nothing but pings", "nothing at all",
     "a byte of a frame"],
)  # fmt: skip
def test_what_is_no_websocket_message_ends_the_connection(target: Target, kind: str) -> None:
    wire = target.wire("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
    target.ends(wire, *frames_of(kind))


def test_an_answer_that_is_played_back_is_stored_once(target: Target) -> None:
    with target.talk() as ours:
        rater = Session(target, ours)
        rater.watch()
        first = rater.answer(4)
        assert first["state"]["turn"] != rater.state["turn"]
        try:
            assert held(target) == 4
            for _ in range(3):  # under the same name, and under another
                assert rater.say(re=first["re"], verb="answer", turn=rater.state["turn"],
                                 values={"jitter": 1})["state"] == first["state"]  # fmt: skip
                assert rater.answer(1)["state"]["turn"] == first["state"]["turn"]
            with target.talk() as second:  # and in a second window
                other = Session(target, second, rater.key)
                other.state = rater.state
                assert other.answer(1)["state"]["turn"] == first["state"]["turn"]
            assert held(target) == 4
        finally:
            forget(target)


def test_two_windows_that_answer_at_once_store_one_answer(target: Target) -> None:
    with target.talk() as one, target.talk() as two:
        first = Session(target, one)
        second = Session(target, two, first.key)
        first.watch()
        try:
            turn = first.state["turn"]
            values = dict.fromkeys(("naturalness", "structure", "jitter", "consistency"), 2)
            for name, window in (("1", first), ("2", second)):
                message = {"re": name, "verb": "answer", "turn": turn, "values": values}
                window.socket.send(json.dumps(message))
            states = [json.loads(window.socket.recv())["state"] for window in (first, second)]
            assert states[0]["turn"] == states[1]["turn"] != turn
            assert held(target) == 4
        finally:
            forget(target)


def forget(target: Target) -> None:
    """Take answers that an honest step has stored out, so that what an attack stores is seen."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(target.store)) as store:
        store.execute("DROP TRIGGER answers_no_delete")
        store.execute("DELETE FROM answers")
        store.execute(
            "CREATE TRIGGER answers_no_delete BEFORE DELETE ON answers "
            "BEGIN SELECT RAISE(ABORT, 'ratings are only ever added'); END"
        )
        store.commit()


def test_who_knows_an_id_is_not_let_in_as_that_rater(target: Target) -> None:
    with target.talk() as ours:
        rater = Session(target, ours).state["rater"]
    for message in (
        {"key": rater},
        {"panel": rater},
        {"panel": target.panel, "known": rater},
        {"panel": target.panel, "key": rater},
        {"panel": target.panel, "outside": {"participant": rater}},
        {"panel": target.panel, "rater": rater},
    ):
        with target.talk() as ours:
            ours.send(json.dumps({"verb": "enter"} | message))
            entered = json.loads(ours.recv())
            if "refused" in entered:
                continue
            ours.send(json.dumps({"verb": "hello", "re": "1"}))
            state = json.loads(ours.recv())["state"]
            assert (state["rater"], state["known"], state["page"]) == ("", "", "consent")


def test_links_that_expired_or_were_revoked_or_are_of_another_study_let_nobody_in(
    target: Target,
) -> None:
    with open_store(target.store) as store:
        links = Links(store, "plumstudy")
        expired, _ = links.make("rater", days=-1)
        revoked, rater = links.make("rater")
        links.revoke(rater)
        foreign, _ = Links(store, "other").make("rater")
        panel, _ = links.make("panel", days=-1)
        author, _ = links.make("author")
    for message in (
        *({"key": key} for key in (expired, revoked, foreign, author)),
        *({"panel": key} for key in (panel, author, foreign)),
    ):
        with target.talk() as ours:
            ours.send(json.dumps({"verb": "enter"} | message))
            assert json.loads(ours.recv())["refused"] in ("link_wrong", "too_many")


def test_guessing_is_slowed_down_and_keeps_out_nobody_who_has_a_link(target: Target) -> None:
    with target.talk() as ours:
        key = Session(target, ours).key
    said = set()
    for _ in range(60):
        with target.talk() as ours:
            ours.send(json.dumps({"verb": "enter", "key": secrets.token_urlsafe(18)}))
            said.add(json.loads(ours.recv())["refused"])
    assert said <= {"link_wrong", "too_many"} and "too_many" in said
    with target.talk() as ours:  # from the same address, such as that of a school
        assert Session(target, ours, key).entered["entered"]


@pytest.mark.parametrize(
    "begun",
    [b"GET /rate HT", b"GET /rate HTTP/1.1\r\nHost: {host}\r\nX: ",
     b"POST /rate HTTP/1.1\r\nHost: {host}\r\nContent-Length: 900000\r\n\r\n", b""],
)  # fmt: skip
def test_who_sends_a_byte_now_and_then_is_not_waited_for(target: Target, begun: bytes) -> None:
    wires = []
    try:
        for _ in range(40):
            wire = socket.create_connection(("127.0.0.1", target.port), 10)
            wire.sendall(begun.replace(b"{host}", target.host.encode()))
            wires.append(wire)
        end = time.monotonic() + 60
        open_ = list(wires)
        while open_ and time.monotonic() < end:
            for wire in list(open_):
                try:
                    wire.sendall(b"x")
                    wire.settimeout(0.001)
                    if not wire.recv(1000):
                        open_.remove(wire)
                except TimeoutError:
                    continue
                except OSError:
                    open_.remove(wire)
            time.sleep(0.2)
        assert not open_, f"{len(open_)} of {len(wires)} connections are still open"
    finally:
        for wire in wires:
            wire.close()


def test_who_takes_nothing_is_not_waited_for(target: Target) -> None:
    wires = []
    request = f"GET /static/x/page.js HTTP/1.1\r\nHost: {target.host}\r\n\r\n".encode() * 3000
    try:
        for _ in range(5):
            wire = socket.socket()
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.connect(("127.0.0.1", target.port))
            wire.settimeout(2)
            with contextlib.suppress(OSError):
                wire.sendall(request)
            wires.append(wire)
        end = time.monotonic() + 240
        ports = {wire.getsockname()[1] for wire in wires}

        def served() -> set[int]:
            return {its.raddr.port for its in target.process.net_connections("tcp") if its.raddr}

        while not ports <= served() and time.monotonic() < end:
            time.sleep(0.01)  # until all of them are taken in
        while (left := ports & served()) and time.monotonic() < end:
            time.sleep(0.1)
        assert not left
    finally:
        for wire in wires:
            wire.close()


def test_who_asks_and_never_hears_is_not_waited_for(target: Target) -> None:
    with target.talk() as ours:
        key = Session(target, ours).key
    wire = target.wire()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.sendall(frame(json.dumps({"verb": "enter", "key": key}).encode()))
    ask = frame(json.dumps({"verb": "hello", "re": "x"}).encode())
    wire.settimeout(2)
    with wire, contextlib.suppress(OSError):
        for _ in range(1500):
            wire.sendall(ask)
        time.sleep(4)
        for _ in range(100):
            wire.sendall(ask)
            time.sleep(0.05)
        pytest.fail("the connection is still open")


def test_connections_have_a_limit_and_come_back(target: Target) -> None:
    wires = [socket.create_connection(("127.0.0.1", target.port), 10) for _ in range(400)]
    try:
        for wire in wires:
            with contextlib.suppress(OSError):
                wire.sendall(b"GET /ra")
    finally:
        for wire in wires:
            wire.close()


def test_one_rater_has_few_websockets_and_all_visitors_a_limit(target: Target) -> None:
    with target.talk() as ours, contextlib.ExitStack() as opened:
        key = Session(target, ours).key
        windows = [opened.enter_context(target.talk()) for _ in range(20)]
        for window in windows:
            Session(target, window, key)
        for window in windows[:-4]:
            with pytest.raises(ConnectionClosed):
                window.recv()
        assert json.loads(_hello(windows[-1]))["state"]
    refused = 0
    with contextlib.ExitStack() as opened:
        for _ in range(100):
            try:
                window = opened.enter_context(target.talk())
                window.send(json.dumps({"verb": "enter", "panel": target.panel}))
                json.loads(window.recv())
            except (WebSocketException, OSError, EOFError):
                refused += 1
    assert refused >= 30


def _hello(window: Any) -> str:
    window.send(json.dumps({"verb": "hello", "re": "h"}))
    return window.recv()


def test_a_flood_of_messages_waits_and_fills_no_disk(target: Target, session: str) -> None:
    logs = target.place / "results" / "logs"
    with target.talk() as ours:
        rater = Session(target, ours, session)
        for number in range(60):
            rater.say(re=f"f{number}", verb="questions", turn=rater.state["turn"],
                      answers={"k" * 500_000: "x"})  # fmt: skip
    assert sum(path.stat().st_size for path in logs.iterdir()) < 5e6


def test_words_of_a_study_are_no_markup_of_the_page(target: Target) -> None:
    got = target.get("/rate")
    assert got.startswith(b"HTTP/1.1 200")
    assert SCRIPT.encode() not in got and b'onload="' not in got
    policy = re.search(rb"(?im)^content-security-policy: (.*)\r$", got)[1]
    assert (
        b"unsafe" not in policy
        and b"default-src 'none'" in policy
        and b"script-src 'self'" in policy
    )


CALLS: dict[str, Callable[[Target], bytes]] = {
    "the panel's id is 900 kB": lambda target: entering(target, {"participant": "x" * 900_000}),
    "the panel's id is SQL": lambda target: entering(
        target, {"participant": "'; DROP TABLE raters; --"}
    ),
    "the panel's id is a prototype": lambda target: entering(
        target, {"__proto__": {"participant": 1}}
    ),
    "the panel's id is half a character": lambda target: entering(
        target, {"participant": "\ud800"}
    ),
    "the panel's id is a list": lambda target: entering(target, {"participant": ["a"]}),
    "the panel says a list": lambda target: entering(target, ["a"]),
}


def entering(target: Target, outside: object) -> bytes:
    with target.talk() as ours:
        ours.send(json.dumps({"verb": "enter", "panel": target.panel, "outside": outside}))
        entered = json.loads(ours.recv())
        if not entered.get("entered"):
            return b"refused"
        ours.send(json.dumps({"verb": "hello", "re": "1"}))
        state = json.loads(ours.recv())["state"]
        ours.send(json.dumps({"verb": "agree", "re": "2", "turn": state["turn"]}))
        return ours.recv().encode()


AUTHOR: dict[str, tuple[str, str, str]] = {
    "no key": ("GET /author/overview", "", "401|429"),
    "an empty key": ("GET /author/overview", "Authorization: Bearer ", "401|429"),
    "a guessed key": ("GET /author/overview", f"Authorization: Bearer {GUESS}", "401|429"),
    "a key that is long": ("GET /author/overview", f"Authorization: {'k' * 50_000}", "401|429"),
    "a key that is SQL": ("GET /author/overview", "Authorization: ' OR 1=1 --", "401|429"),
    "a key that is no text": ("GET /author/overview", "Authorization: \xff\xfe", "401|429"),
    "a panel's key": ("GET /author/overview", "Authorization: Bearer {panel}", "401|429"),
    "a rater's key": ("GET /author/overview", "Authorization: Bearer {rater}", "401|429"),
    "a key in the address": ("GET /author/overview?key={panel}", "", "401|429"),
    "links without a key": ("POST /author/links", "Content-Length: 0", "401|422|429"),
    "revoking without a key": ("POST /author/revoke", "Content-Length: 0", "401|422|429"),
    "a report without a key": ("POST /author/report", "Content-Length: 0", "401|422|429"),
    "a report by its name": ("GET /report.html", "", "404"),
}


@pytest.mark.parametrize("attack", AUTHOR)
def test_only_an_author_s_key_shows_the_author_s_view(
    target: Target, session: str, attack: str
) -> None:
    request, header, status = AUTHOR[attack]
    method, path = (text.replace("{panel}", target.panel) for text in request.split())
    header = header.replace("{panel}", target.panel).replace("{rater}", session)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {target.host}", "Connection: close"]
    lines += [header] if header else []
    got = target.raw("\r\n".join([*lines, "", ""]).encode("latin-1"))
    assert re.fullmatch(status, got[9:12].decode()), got[:100]
    assert b'rater"' not in got


@pytest.mark.parametrize(
    "body",
    ["", "[", "[" * 100_000, '{"kind": "king"}', '{"kind": "panel", "count": 1e9}',
     '{"kind": "panel", "days": NaN}', '{"kind": "panel", "days": 1e400}',
     '{"kind": "rater", "rater": "' + "r" * 100_000 + '"}', '{"kind": "rater", "rater": "Anna B."}',
     '{"kind": "rater", "rater": "\\ud800"}', '{"kind": {"$ne": 1}}', '{"kind": "panel", "count": -1}'],
)  # fmt: skip
def test_what_an_author_sends_is_checked_too(target: Target, body: str) -> None:
    head = (f"POST /author/links HTTP/1.1\r\nHost: {target.host}\r\nConnection: close\r\n"
            f"Authorization: Bearer {target.author}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}")  # fmt: skip
    assert target.raw(head.encode())[9:12] in (b"422", b"400")


@pytest.mark.parametrize("attack", CALLS)
def test_what_a_panel_says_is_a_text_at_most(target: Target, attack: str) -> None:
    got = CALLS[attack](target)
    assert got == b"refused" or b'"state"' in got or b"problem" in got


def test_all_the_while_a_static_file_came_at_once(target: Target) -> None:
    """The last test: what the watcher has seen during all of the others."""
    waited = np.array(target.waited)
    assert len(waited) > 50
    assert (waited < 99).all(), "a static file was not answered"
    quiet = len(waited)
    time.sleep(3)  # nobody attacks: what this machine takes by itself, beside whatever else it does
    alone = np.quantile(target.waited[quiet:], 0.95)
    assert np.quantile(waited, 0.95) < AT_ONCE + 2 * alone
    # uvicorn notes what it answered itself, in the middle of a request that turned out to be none.
    noted = (target.place / "stderr").read_text()
    assert noted.count("Exception in ASGI") == noted.count("LocalProtocolError: can't handle")
