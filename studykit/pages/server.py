"""The server of the pages: one application, and the loop that runs it on this machine."""

import contextlib
import logging
import os
import socket
import sys
import webbrowser
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from studykit.clips.folder import study_folder
from studykit.errors import MissingPackageError, StudyError
from studykit.pages import front_end
from studykit.ratings.controls import available_clips
from studykit.study.file import load_study

if TYPE_CHECKING:
    from fastapi import FastAPI

    from studykit.pages.animate_api import Workshop
    from studykit.pages.guard import Limits
    from studykit.pages.rating import RatingDesk
    from studykit.pages.study_page import StudyDesk
    from studykit.pages.uploads import UploadLimits

_INSTALL = 'pip install "fastapi>=0.115" "uvicorn>=0.30" "websockets>=13"'
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")  # where one of these is set, a window can be opened
_FOR_A_YEAR = "public, max-age=31536000, immutable"


def create_app(
    desk: "RatingDesk | None" = None,
    workshop: "Workshop | None" = None,
    study: "StudyDesk | None" = None,
    *,
    names: Iterable[str] = (),
    limits: "Limits | None" = None,
) -> "FastAPI":
    """Make the application that shows the pages.

    Each page is a module with a router; state lives in what the router is given, and in the store.

    Parameters
    ----------
    desk : RatingDesk, optional
        Where raters of a study are received.
    workshop : Workshop, optional
        Where visitors animate what they bring.
    study : StudyDesk, optional
        Where a study's author follows and runs it.
    names : iterable of str
        By which the server is reached, besides ``localhost`` and numeric addresses.
    limits : Limits, optional
        Others than the defaults.
    """
    from fastapi import FastAPI, HTTPException, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse

    from studykit.pages import author, rating
    from studykit.pages.guard import Guard, Limits

    limits = limits or Limits()

    @contextlib.asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        with contextlib.ExitStack() as stack:
            for each in (desk, workshop, study):
                stack.enter_context(each or contextlib.nullcontext())
            yield

    app = FastAPI(
        title="studykit", docs_url=None, redoc_url=None, openapi_url=None, lifespan=life,
        redirect_slashes=False,
    )  # fmt: skip
    # A little more, so that what is too large is said by whoever takes uploads.
    bodies = {"/api/uploads": workshop.limits.bytes + limits.body_bytes} if workshop else {}
    app.add_middleware(Guard, names=tuple(names), limits=limits, bodies=bodies)

    @app.get("/static/{version}/{name}")
    async def static(version: str, name: str) -> Response:
        if name not in front_end.served():
            raise HTTPException(404)
        data, kind = front_end.served()[name]
        kept = _FOR_A_YEAR if version == front_end.version() else "no-cache"
        return Response(data, media_type=kind, headers={"cache-control": kept})

    if desk is not None:
        app.include_router(rating.router(desk))
        app.include_router(author.router(desk))
    if study is not None:
        from studykit.pages import study_page

        app.include_router(study_page.router(study))
    if workshop is not None:
        from studykit.pages.animate_api import animate_router

        app.include_router(animate_router(workshop))

    @app.exception_handler(RequestValidationError)
    async def wrong(_request: object, _error: Exception) -> Response:
        # FastAPI's own answer repeats what was sent, which may be no JSON, such as NaN.
        return HTMLResponse("This is not what is asked for here.", 422)

    @app.exception_handler(Exception)
    async def failed(_request: object, _error: Exception) -> Response:
        return HTMLResponse("This did not work. Please try again later.", 500)

    return app


def serve(
    study: str | Path | None = None,
    *,
    out: str | Path | None = None,
    store: str = "",
    host: str = "127.0.0.1",
    port: int = 8866,
    address: str = "",
    limits: "Limits | None" = None,
    uploads: "UploadLimits | None" = None,
) -> None:
    """Show the pages of a study to everybody who has a link to them, until Ctrl-C.

    Without a study, the page that animates what visitors bring, to everybody; a browser is opened
    at it where a person has started this in a terminal on a screen.

    Parameters
    ----------
    study : path, optional
        The study file.
    out : path, optional
        The folder of its results; ``reports/<name>`` in the current folder by default.
    store : str
        The address of the store of ratings; "" for the study's own.
    host : str
        The address to listen at; "0.0.0.0" for visitors on other machines.
    port : int
        0 for a free one.
    address : str
        By which visitors reach the server, such as ``https://rate.example.org`` where a reverse
        proxy stands before it; "" where they reach it as it listens.
    limits : Limits, optional
        Others than the defaults.
    uploads : UploadLimits, optional
        Of what visitors bring to animate.

    Raises
    ------
    MissingPackageError
        The extra "serve" is not installed.
    StudyError
        The store can't be opened, or the port is taken.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn
        import websockets  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{error.name}, with which pages are served, is not installed: {_INSTALL}"
        ) from None
    from studykit.pages.guard import Limits, check_name, protocols

    limits = limits or Limits()
    names = [check_name(address)] if address else [socket.gethostname()]
    desk = workshop = pages = None
    if study is None:
        from studykit.pages.animate_api import Workshop

        workshop = Workshop(uploads)
    else:
        from studykit.pages.rating import RatingDesk
        from studykit.pages.study_page import StudyDesk

        loaded = load_study(study)
        folder = study_folder(loaded, out)
        if available_clips(loaded, folder):
            desk = RatingDesk(loaded, folder, store, limits)
            pages = StudyDesk(loaded, folder, desk.author, desk.check_author, store)
        else:
            pages = StudyDesk(loaded, folder)
    listening = _listen(host, port)
    shown = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::1", "::") else host
    address = address.rstrip("/") or f"http://{shown}:{listening.getsockname()[1]}"
    http, websocket = protocols(limits)
    settings = uvicorn.Config(
        create_app(desk, workshop, pages, names=names, limits=limits),
        http=http,
        ws=websocket,
        ws_max_size=limits.message_bytes,
        ws_per_message_deflate=False,  # costs memory per visitor, and clips are compressed
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=5,
        access_log=False,  # addresses hold keys
        log_level="warning",
        server_header=False,
        h11_max_incomplete_event_size=32 * 1024,
    )
    logging.getLogger("uvicorn.error").addFilter(_without_what_strangers_cause)
    with listening:
        said = [f"animate: {address}/", "Ctrl-C ends it"]
        if pages is not None:
            said = [f"study: {address}/study#{pages.key}"]
            said += desk.words(address) if desk else ["no clips yet: raters come after a new start"]
        print("\n".join(said), flush=True)
        server = uvicorn.Server(settings)
        if workshop is not None:
            workshop.ends = lambda: server.should_exit
            _show(address)
        server.run(sockets=[listening])


def _show(address: str) -> None:
    """Open a page where somebody sits before a screen: not in a script, nor on a server."""
    screen = sys.platform in ("darwin", "win32") or any(map(os.getenv, _SCREENS))
    if screen and sys.stdout.isatty():
        webbrowser.open(address)


def _without_what_strangers_cause(record: logging.LogRecord) -> bool:
    """Leave a line where uvicorn writes a traceback for every visitor who sends no UTF-8."""
    if "Invalid UTF-8" in str(record.msg):
        record.exc_info = record.exc_text = None
    return True


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before anything is said of it."""
    _allow_many_files()
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(1024)
        return listening
    except OSError as error:
        raise StudyError(
            f"port {port} of {host} can't be had ({error.strerror}): choose another with --port, "
            "or another --host"
        ) from None


def _allow_many_files() -> None:
    """Ask for as many open connections as this user may have: 1,024 are few for 500 raters."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
