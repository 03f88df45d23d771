"""What stands between the pages and strangers: limits, and checks that come before any page."""

import asyncio
import contextlib
import ipaddress
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from studykit.errors import StudyError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_HEADER_LINES = 100
_HERE = ("localhost", "127.0.0.1", "[::1]")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]{1,253})(?::\d{1,5})?", re.ASCII)
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self' ws://{host} wss://{host}; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
# A report brings its own scripts and styles; it runs apart from the pages, and asks nobody.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; media-src data:; font-src data:"
)
_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(self), microphone=(self), geolocation=()",
}


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask of the server, and all of them together.

    Attributes
    ----------
    body_bytes : int
        Of a request, where a page has no limit of its own.
    message_bytes : int
        Of a message over a websocket.
    messages_per_second, messages_at_once : float, int
        Of one websocket: faster ones wait.
    wrong_keys : int
        How many wrong links or keys one address may try a minute.
    joins : int
        How many new raters may join by links for a panel a minute, from all addresses together.
    visitors : int
        How many websockets are open at once.
    sockets : int
        How many of them one rater may have; the oldest is closed.
    connections : int
        How many connections are open at once, of which each may be a websocket.
    sessions : int
        How many sessions are kept in memory; those unused for longest are read again when needed.
    seconds_to_ask, seconds_to_enter, seconds_to_take : float
        How long a visitor may take to send a request, to name its link, and to take an answer or
        a part of one.
    slowest : int
        Bytes a second at which a request's body must come.
    """

    body_bytes: int = 1_000_000
    message_bytes: int = 1_000_000
    messages_per_second: float = 20
    messages_at_once: int = 60
    wrong_keys: int = 30
    joins: int = 600
    visitors: int = 2_000
    sockets: int = 4
    connections: int = 4_000
    sessions: int = 1_500
    seconds_to_ask: float = 20
    seconds_to_enter: float = 20
    seconds_to_take: float = 60
    slowest: int = 20_000


class Rate:
    """How often something happens, by who does it: so much at once, so much a second.

    Parameters
    ----------
    at_once : float
    per_second : float
    known : int
        How many are kept in mind; those who did nothing for longest are forgotten.
    """

    def __init__(self, at_once: float, per_second: float, known: int = 10_000) -> None:
        self._at_once, self._per_second, self._known = at_once, per_second, known
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, who: str = "") -> float:
        """Return how many seconds are missing until it may happen once more."""
        return max(0.0, 1 - self._has(who)) / self._per_second

    def count(self, who: str = "") -> None:
        """It happened."""
        has = self._has(who)
        self._left.pop(who, None)
        self._left[who] = (has - 1, asyncio.get_running_loop().time())
        if len(self._left) > self._known:
            self._left.popitem(last=False)

    def _has(self, who: str) -> float:
        now = asyncio.get_running_loop().time()
        left, at = self._left.get(who, (self._at_once, now))
        return min(self._at_once, left + (now - at) * self._per_second)


class Guard:
    """Checks where a request comes from and how large it is, and says what a page may do.

    A name that leads here by a trick (DNS rebinding) is not ours, and a page of another server
    may open no websocket. Numeric addresses can't be rebound, and are let in.

    Parameters
    ----------
    app : callable
        The ASGI application behind it.
    names : iterable of str
        By which this server is reached, besides ``localhost`` and numeric addresses.
    limits : Limits
    bodies : mapping of int
        Limits of bytes of a request's body by the beginning of its path, where they are others.
    """

    def __init__(
        self,
        app: Application,
        *,
        names: Iterable[str] = (),
        limits: Limits = Limits(),
        bodies: dict[str, int] | None = None,
    ) -> None:
        self._app, self._limits, self._bodies = app, limits, bodies or {}
        self._names = {*_HERE, *(name.lower() for name in names)}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let a request through or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if len(scope["headers"]) > _HEADER_LINES:
            await _refuse(scope, send, 431, f"at most {_HEADER_LINES} lines of header")
        elif not self._is_ours(host):
            await _refuse(scope, send, 421, "this server has another name")
        elif origin is not None and _place(origin) != host.lower() and _changes(scope):
            await _refuse(scope, send, 403, "this page belongs to another server")
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._answer(scope, receive, send, headers, host)

    async def _answer(
        self, scope: Message, receive: Receive, send: Send, headers: dict[bytes, str], host: str
    ) -> None:
        fitting = [
            limit for start, limit in self._bodies.items() if scope["path"].startswith(start)
        ]
        most = max(fitting, default=self._limits.body_bytes)
        announced = headers.get(b"content-length", "0")
        if not announced.isdecimal() or int(announced[:20]) > most:
            await _refuse(scope, send, 413, f"at most {most} bytes")
            return
        taken, begun, whole = 0, False, False
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.seconds_to_take + most / self._limits.slowest

        async def counted() -> Message:
            nonlocal taken, whole
            with _in_time():
                async with asyncio.timeout_at(None if whole else deadline):
                    message = await receive()
            whole = whole or not message.get("more_body", False)
            taken += len(message.get("body", b""))
            if taken > most:
                raise _TooLargeError
            return message

        async def marked(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                own = {name for name, _ in message["headers"]}
                policy = (b"content-security-policy", _POLICY.format(host=host).encode())
                wanted = (policy, *_HEADERS.items())
                message["headers"] = [
                    *message["headers"],
                    *(header for header in wanted if header[0] not in own),
                ]
            with _in_time():
                async with asyncio.timeout(self._limits.seconds_to_take):
                    await send(message)

        try:
            await self._app(scope, counted, marked)
        except _TooLargeError:
            if not begun:
                await _refuse(scope, send, 413, f"at most {most} bytes")
        except _LateError:
            pass  # nobody would take an answer either: the connection is closed

    def _is_ours(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if not match:
            return False
        name = match[1].lower()
        if name in self._names:
            return True
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(name.strip("[]"))
            return True
        return False


class _TooLargeError(Exception):
    """More bytes came than a request may have."""


class _LateError(Exception):
    """The other end neither sends nor takes."""


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise _LateError from None


def _place(origin: str) -> str:
    with contextlib.suppress(ValueError):
        return urlsplit(origin).netloc.lower()
    return ""


def _changes(scope: Message) -> bool:
    return scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD", "OPTIONS")


async def _refuse(scope: Message, send: Send, status: int, why: str) -> None:
    kind = "http" if scope["type"] == "http" else "websocket.http"
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *_HEADERS.items()]
    await send({"type": f"{kind}.response.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": f"{why}\n".encode()})


class _Watched:
    """Ends a connection whose other end neither asks nor takes what it is sent.

    Closing alone waits until the other end has taken what is left for it, which may be never.
    """

    seconds = Limits.seconds_to_ask
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)  # type: ignore[misc]
        self._before: object = None
        self._full, self._times_full = False, 0
        self.loop.call_later(self.seconds, self._look)

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        self._full, self._times_full = True, self._times_full + 1

    def resume_writing(self) -> None:
        super().resume_writing()  # type: ignore[misc]
        self._full = False

    def _look(self) -> None:
        if self.transport.get_protocol() is not self:  # a websocket has taken over
            return
        before, self._before = self._before, self._waits_for()
        if self._before is not None and self._before == before:
            self.transport.abort()
        else:
            self.loop.call_later(self.seconds, self._look)

    def _waits_for(self) -> object:
        """Return what the other end owes, None if nothing: twice the same is too long."""
        if self.transport.is_closing():
            return "end"
        return ("take", self._times_full) if self._full else None


class WatchedHttp(_Watched, H11Protocol):
    """HTTP, where whoever begins a request must end it."""

    def _waits_for(self) -> object:
        if owed := super()._waits_for():
            return owed
        at_work = self.cycle is not None and not self.cycle.response_complete
        return None if at_work else ("request", self.cycle)


class WatchedWebSocket(_Watched, WebSocketsSansIOProtocol):
    """A websocket, whose end is one.

    Who takes nothing is not heard meanwhile: answers to pings would pile up.
    """

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()


def protocols(limits: Limits) -> tuple[type[H11Protocol], type[WebSocketsSansIOProtocol]]:
    """Return what speaks HTTP and what speaks over websockets, with a server's patience."""
    patience = {"seconds": limits.seconds_to_ask}
    http: type[WatchedHttp] = type("Http", (WatchedHttp,), patience)
    return http, type("WebSocket", (WatchedWebSocket,), patience)


def check_name(name: str) -> str:
    """Return the host of a server's public address.

    Raises
    ------
    StudyError
        It is no address.
    """
    parts = urlsplit(name)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise StudyError(f'"{name}" is no address of a server: give one such as https://rate.org')
    return parts.hostname
