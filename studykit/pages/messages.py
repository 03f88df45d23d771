"""An application of the pages that is asked by messages: a notebook's page opens no port.

The other end is ``static/messages.js``. What is large goes in pieces, each after the one before it
was taken: Jupyter's server ends a connection over which 10 MB come at once.
"""

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote

Event = MutableMapping[str, Any]
Application = Callable[..., Awaitable[None]]
Say = Callable[[dict[str, Any], list[bytes] | None], None]

PIECE = 1 << 20  # bytes
_GONE = 10.0  # seconds in which what is still asked ends


class Messages:
    """An application, and the thread in which it answers while the kernel does other things.

    Parameters
    ----------
    app : callable
        An ASGI application.
    say : callable
        Sends a message and its buffers to the page; called in that thread.
    headers : mapping of str
        Of every request, besides its own.
    """

    def __init__(self, app: Application, say: Say, headers: Mapping[str, str]) -> None:
        self._app, self._say, self._headers = app, say, headers
        self._asked: dict[str, _Asked] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="studykit-page", daemon=True)
        self._thread.start()

    def hear(self, message: dict[str, Any], buffers: list[Any]) -> None:
        """Take a message of the page's, from any thread."""
        self._loop.call_soon_threadsafe(self._hear, message, [bytes(each) for each in buffers])

    def close(self) -> None:
        """End what is still asked, and the thread."""
        if self._loop.is_closed():
            return
        ended = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        concurrent.futures.wait([ended], _GONE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_GONE)

    def _serve(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    async def _end(self) -> None:
        tasks = [asked.task for asked in self._asked.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _hear(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        key = message["re"]
        if "path" in message:
            asked = _Asked(lambda said, buffers: self._say({"re": key, **said}, buffers))
            self._asked[key] = asked
            asked.task = self._loop.create_task(self._answer(message, asked))
            asked.task.add_done_callback(lambda _: self._asked.pop(key))
        if key in self._asked:  # else it has ended
            self._asked[key].hear(message, buffers)

    async def _answer(self, message: dict[str, Any], asked: "_Asked") -> None:
        path, _, query = f"/api/{message['path']}".partition("?")
        headers = {"host": "notebook", **message["headers"], **self._headers}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": message["method"],
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        try:
            await self._app(scope, asked.receive, asked.send)
        except Exception:  # the page has its answer: that this did not work
            logging.getLogger(__name__).exception("%s %s", message["method"], message["path"])


class _Asked:
    """A request as its pieces come, and its answer as the page takes it."""

    task: asyncio.Task[None]

    def __init__(self, say: Say) -> None:
        self._say = say
        self._pieces: asyncio.Queue[Event] = asyncio.Queue()
        self._wanted = asyncio.Semaphore(0)
        self._begun: Event = {}
        self._body = bytearray()

    def hear(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        if "gone" in message:
            self.task.cancel()
        elif "next" in message:
            self._wanted.release()
        else:
            piece = {"body": b"".join(buffers), "more_body": message["more"]}
            self._pieces.put_nowait({"type": "http.request", **piece})

    async def receive(self) -> Event:
        piece = await self._pieces.get()
        if piece["more_body"]:
            self._say({"taken": True}, None)
        return piece

    async def send(self, event: Event) -> None:
        if event["type"] == "http.response.start":
            headers = {name.decode(): value.decode() for name, value in event["headers"]}
            self._begun = {"status": event["status"], "headers": headers}
            return
        self._body += event.get("body", b"")
        more = event.get("more_body", False)
        if more and self._begun["headers"].get("content-type", "").startswith("text/event-stream"):
            self._part(len(self._body))
        while len(self._body) > PIECE:
            self._part(PIECE)
            await self._wanted.acquire()
        if not more:
            self._say(self._begun, [bytes(self._body)])

    def _part(self, size: int) -> None:
        if size:
            self._say({"part": True}, [bytes(self._body[:size])])
            del self._body[:size]
