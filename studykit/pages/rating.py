"""The rating page over HTTP and a websocket: who is let in, and which session is theirs."""

import asyncio
import hmac
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, TypeGuard

from fastapi import APIRouter, HTTPException, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.websockets import WebSocketState

from studykit.errors import StudyError
from studykit.pages import front_end
from studykit.pages.conversation import Conversation, filling, note_problem
from studykit.pages.guard import REPORT_POLICY, Limits, Rate
from studykit.ratings.links import Links, is_secret, link_path, new_secret
from studykit.ratings.material import Material
from studykit.ratings.session import Session
from studykit.ratings.store import open_store, place_to_write
from studykit.study.file import Study

_THREADS = 4  # of this process that read and write the store; one of them writes at a time
_CHUNK = 128 * 1024
_LENT = 20_000  # addresses of files that are known at once
_CHECKED_EVERY = 30  # seconds after which a link is looked at again: it may have been revoked
_TYPES = {".mp4": "video/mp4", ".png": "image/png", ".html": "text/html"}
_OUTSIDE = ("PROLIFIC_PID", "workerId", "participant")  # how panels name a rater in an address
_LONGEST_OUTSIDE = 200


class _RefusedError(Exception):
    """A visitor is not let in; the text is a key of the study's texts."""


@dataclass(eq=False)
class _Visit:
    """A rater, or somebody who may become one, with the websockets that belong to them.

    Attributes
    ----------
    conversation : Conversation
    joins : tuple or None
        The own secret, the panel link's and the outside id of who has not agreed yet.
    """

    conversation: Conversation
    joins: tuple[str, str, str] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    sockets: list[WebSocket] = field(default_factory=list)


class RatingDesk:
    """Receives the raters of a study.

    Parameters
    ----------
    study : Study
    out : Path
        The folder of its results, where the clips are.
    store : str
        The address of the store; "" for the study's own.
    limits : Limits, optional

    Raises
    ------
    StudyError
        There is nothing to rate, or the store can't be opened or holds simulated ratings.
    """

    def __init__(
        self, study: Study, out: Path, store: str = "", limits: Limits | None = None
    ) -> None:
        self.study, self.out, self.limits = study, out, limits or Limits()
        self.material = Material(study, out)
        if not self.material.clips:
            raise StudyError(f"there are no clips in {out}: studykit run {study.path} --out {out}")
        self.store = open_store(store or place_to_write(study, out))
        try:
            Session(self.store, study, out, material=self.material)
        except StudyError:
            self.store.close()
            raise
        self.links = Links(self.store, study.name)
        # Let in whoever is given them, as long as this server runs.
        self.panel, self.author = new_secret(), new_secret()
        self.visitors = 0
        self._visits: OrderedDict[str, _Visit] = OrderedDict()
        self._lent: OrderedDict[str, tuple[Path, int]] = OrderedDict()
        self._wrong = Rate(self.limits.wrong_keys, self.limits.wrong_keys / 60)
        self._joining = Rate(self.limits.joins, self.limits.joins / 60)

    def __enter__(self) -> "RatingDesk":
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="ratings")
        Thread(target=self.material.make_ready, name="controls", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        self.store.close()

    def words(self, address: str) -> list[str]:
        """Say where the pages are, on a server with this address."""
        return [
            f"rating page: {address}{link_path('panel', self.panel)}",
            f"author's page: {address}{link_path('author', self.author)}",
            f"These links hold until Ctrl-C; others: studykit rate links {self.study.path}",
        ]

    async def check_author(self, key: str, who: str) -> None:
        """Refuse whoever has no key of the author's."""
        if is_secret(key) and hmac.compare_digest(key, self.author):
            return
        link = await self.aside(self.links.find, key)
        if link is None or link.kind != "author":
            if self._wrong.wait(who):
                raise HTTPException(429)
            self._wrong.count(who)
            raise HTTPException(401)

    async def aside(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do work that waits for the store or a disk while others are served."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, work, *arguments)

    async def enter(self, message: dict[str, Any], who: str) -> tuple[_Visit, dict[str, Any]]:
        """Let somebody in; return the visit, and what the page is answered.

        Parameters
        ----------
        message : dict
            ``key``, the secret of a rater's link; or ``panel``, with a ``key`` that this server
            gave out, one that is ``known`` in that browser, and what the panel says in
            ``outside``.
        who : str
            The network address of who asks, which is used for counting alone.
        """
        try:
            rater, joins, known = await self.aside(self._admitted, message)
        except _RefusedError:
            # Whoever has a link is let in, whatever others behind the same address try.
            if self._wrong.wait(who):
                raise _RefusedError("too_many") from None
            self._wrong.count(who)
            raise
        if rater and rater in self._visits:
            self._visits.move_to_end(rater)
            return self._visits[rater], {"entered": True}
        visit = await self.aside(self._opened, rater, known)
        visit.joins = joins
        if rater:
            visit = self._visits.setdefault(rater, visit)
            self._forget()
        return visit, {"entered": True} | ({"key": joins[0]} if joins else {})

    def _admitted(self, message: dict[str, Any]) -> tuple[str, tuple[str, str, str] | None, str]:
        """Return the rater who is let in, or how a new one joins, and who may go on instead."""
        key, panel, known = (message.get(name) for name in ("key", "panel", "known"))
        if link := self.links.find(key):
            if link.kind == "rater":
                return link.rater, None, ""
            raise _RefusedError("link_wrong")
        if not self._is_panel(panel):
            # The answer to a withdrawal may be lost on its way, and the page asks again.
            gone = self.links.has_withdrawn(key)
            raise _RefusedError("withdrawn" if gone else "link_wrong")
        begun = self.links.find(known)
        outside = _outside(message.get("outside"))
        if outside and (before := self.links.with_outside(panel, outside)):
            if begun is None or begun.rater != before.rater:
                raise _RefusedError("begun_elsewhere")
            return begun.rater, None, ""
        joins = (key if is_secret(key) else new_secret(), panel, outside)
        return "", joins, begun.rater if begun else ""

    def still_lets_in(self, keys: Iterable[object], rater: str) -> bool:
        """Return whether one of these keys is a rater's, and was not revoked meanwhile."""
        return any((link := self.links.find(key)) and link.rater == rater for key in keys)

    def _is_panel(self, secret: object) -> TypeGuard[str]:
        if is_secret(secret) and hmac.compare_digest(secret, self.panel):
            return True
        link = self.links.find(secret)
        return link is not None and link.kind == "panel"

    def _opened(self, rater: str, known: str = "") -> _Visit:
        conversation = Conversation(self._session(rater), alone=True, lend=self.lend)
        if known and self._session(known).state != "finished":
            conversation.known = known
        return _Visit(conversation)

    def _session(self, rater: str) -> Session:
        return Session(self.store, self.study, self.out, rater or None, material=self.material)

    async def go_on(self, visit: _Visit) -> _Visit:
        """Return the visit of the rater who began in this browser before."""
        rater = visit.conversation.known
        if rater in self._visits:
            return self._visits[rater]
        visit = await self.aside(self._opened, rater)
        visit = self._visits.setdefault(rater, visit)  # another window may have been first
        self._forget()
        return visit

    def _forget(self) -> None:
        """Let go of sessions that nobody has used for longest; the store has all of them."""
        for rater in list(self._visits)[: -self.limits.sessions]:
            if not self._visits[rater].sockets:
                del self._visits[rater]

    async def reply(self, visit: _Visit, message: dict[str, Any]) -> dict[str, Any]:
        """Answer a visitor's message, when those before it are answered."""
        async with visit.lock:
            if message.get("verb") == "agree" and visit.joins:
                if self._joining.wait():
                    return {"re": message.get("re"), "problem": True}
                self._joining.count()
                rater = await self.aside(self._joined, visit)
                self._visits[rater] = visit
                self._forget()
            reply, _ = await self.aside(visit.conversation.reply, message)
            return reply

    def _joined(self, visit: _Visit) -> str:
        """Make a rater of somebody who agrees."""
        assert visit.joins is not None
        secret, panel, outside = visit.joins
        rater = self.links.join(secret, panel, outside)
        visit.conversation = self._opened(rater).conversation
        visit.joins = None
        return rater

    def lend(self, path: Path, unit: int) -> str:
        """Return an address that a file has for a while, from which nothing can be read."""
        name = new_secret()
        self._lent[name] = (path, unit)
        while len(self._lent) > _LENT:
            self._lent.popitem(last=False)
        return f"/rate/file/{name}"

    async def file(self, name: str) -> tuple[str, int, AsyncIterator[bytes]]:
        """Return the type, the length and the parts of a file that was lent.

        Raises
        ------
        KeyError
            There is none, or not any more.
        OSError
            It is gone.
        """
        path, unit = self._lent[name]
        size = (await self.aside(path.stat)).st_size
        filled, end = filling(size, unit)

        async def parts() -> AsyncIterator[bytes]:
            for start in range(0, size, _CHUNK):
                yield await self.aside(_part, path, start)
            while part := await self.aside(next, end, b""):
                yield part

        return _TYPES[path.suffix], size + filled, parts()


def router(desk: RatingDesk) -> APIRouter:
    """Return the routes of the rating page."""
    routes = APIRouter()
    page = front_end.page(
        "rate.js",
        language=desk.study.ratings.language,
        title=desk.study.ratings.texts["title"],
        loading=desk.study.ratings.texts["loading"],
    )

    @routes.get("/")
    @routes.get("/rate")
    @routes.get("/join/{secret}")
    async def rate() -> HTMLResponse:
        return HTMLResponse(page, headers={"cache-control": "no-cache"})

    @routes.get("/rate/file/{name}")
    async def file(name: str) -> Response:
        try:
            kind, length, parts = await desk.file(name)
        except (KeyError, OSError):
            raise HTTPException(404) from None
        headers = {"content-length": str(length), "cache-control": "private, no-store"}
        if kind == "text/html":
            headers["content-security-policy"] = REPORT_POLICY
        return StreamingResponse(parts, media_type=kind, headers=headers)

    @routes.websocket("/rate/socket")
    async def talk(socket: WebSocket) -> None:
        if desk.visitors >= desk.limits.visitors:
            await socket.close(1013)
            return
        desk.visitors += 1
        try:
            await socket.accept()
            await _talk(desk, socket)
        except WebSocketDisconnect:
            pass
        except _UnreadableError:
            await _close(socket, 1003)
        except TimeoutError:
            await _close(socket, 1008)
        except Exception as error:
            note_problem(desk.out, error)
            await _close(socket, 1011)
        finally:
            desk.visitors -= 1

    return routes


async def _talk(desk: RatingDesk, socket: WebSocket) -> None:
    limits = desk.limits
    who = socket.client.host if socket.client else ""
    async with asyncio.timeout(limits.seconds_to_enter):
        first = await _received(socket)
    try:
        visit, entered = await desk.enter(first, who)
    except _RefusedError as refusal:
        why, texts = str(refusal), desk.study.ratings.texts
        words = {"title": texts.get(f"{why}_title", texts["title"]), why: texts[why]}
        await _send(socket, {"refused": why, "texts": words}, limits)
        await socket.close(1008)
        return
    visit.sockets.append(socket)
    try:
        for old in visit.sockets[: -limits.sockets]:
            await _close(old, 1008)
        await _send(socket, entered, limits)
        rate = Rate(limits.messages_at_once, limits.messages_per_second)
        keys = (first.get("key"), first.get("known"), entered.get("key"))
        looked = asyncio.get_running_loop().time()
        while True:
            message = await _received(socket)
            await asyncio.sleep(rate.wait())
            rate.count()
            rater, now = visit.conversation.session.rater, asyncio.get_running_loop().time()
            if rater and now - looked > _CHECKED_EVERY:
                looked = now
                if not await desk.aside(desk.still_lets_in, keys, rater):
                    await _close(socket, 1008)
                    return
            if message.get("verb") == "return" and visit.conversation.known:
                visit.sockets.remove(socket)
                visit = await desk.go_on(visit)
                visit.sockets.append(socket)
            await _send(socket, await desk.reply(visit, message), limits)
    finally:
        visit.sockets.remove(socket)


class _UnreadableError(Exception):
    """A message that no page of ours sends."""


async def _received(socket: WebSocket) -> dict[str, Any]:
    event = await socket.receive()
    if event["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(event.get("code") or 1005)
    try:
        message = json.loads(event.get("text") or "")
    except (ValueError, RecursionError):
        raise _UnreadableError from None
    if not isinstance(message, dict) or len(str(message.get("re"))) > 100:
        raise _UnreadableError
    return message


async def _send(socket: WebSocket, message: dict[str, Any], limits: Limits) -> None:
    if socket.application_state != WebSocketState.CONNECTED:  # it was closed from here
        raise WebSocketDisconnect(1000)
    async with asyncio.timeout(limits.seconds_to_take):
        await socket.send_text(json.dumps(message))


async def _close(socket: WebSocket, code: int) -> None:
    with suppress(RuntimeError, WebSocketDisconnect):  # it is closed already
        await socket.close(code)


def _part(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(_CHUNK)


def _outside(given: object) -> str:
    """Return the id that a panel gave a visitor, from what stood in the page's address."""
    if not isinstance(given, dict):
        return ""
    found = (given.get(name) for name in _OUTSIDE)
    text = next((text for text in found if isinstance(text, str) and text), "")
    return text[:_LONGEST_OUTSIDE].encode(errors="replace").decode()  # half a character is none
