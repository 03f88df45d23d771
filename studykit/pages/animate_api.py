"""The API behind the page that animates: uploads, looks at them, animations, what is taken along.

A visitor is known by a cookie that nobody can guess, and sees their own files alone. They are gone
25 seconds after the visitor has left: keep ``/api/events`` open, or ask for something now and then.
"""

import asyncio
import functools
import json
import mimetypes
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field

from studykit import __version__
from studykit.errors import StudyError
from studykit.media.views import CropRule
from studykit.pages import front_end, looks, making, marks
from studykit.pages.jobs import Job, Lane
from studykit.pages.making import Order, Shows
from studykit.pages.offer import check_settings, examples, offered
from studykit.pages.uploads import Refused, Role, Upload, UploadLimits, Visitor, Visitors
from studykit.study.inputs import as_input

COOKIE = "studykit_visitor"
_EVERY, _PING = 0.2, 10.0  # seconds between two looks at what has changed, and two signs of life
_PATIENCE = 300.0  # seconds that a page waits for an answer
_SHOWN = {"picture.jpg", "strip.jpg", "proxy.mp4"}
_MADE = {"clip.mp4", "driving.mp4", "source.png"}
Form = Literal["clip.mp4", "side-by-side.mp4", "clip.gif", "still.png", "study.zip"]
_VIEW = "What of it takes part, in the words of a study file, such as "


class Asked(BaseModel):
    """An animation that is asked for."""

    model_config = ConfigDict(extra="forbid")
    source: str = Field(description="The id of an upload.")
    driving: str = Field(description="The id of another.")
    source_view: dict[str, Any] = Field({}, description=_VIEW + '{"face": 2, "margin": 0.4}.')
    driving_view: dict[str, Any] = Field({}, description=_VIEW + '{"start": 1.5, "end": 6}.')
    method: str = "auto"
    settings: dict[str, bool | float | str] = {}
    size: int = Field(256, ge=64, le=512, description="Side of the clip, in pixels.")
    shows: Shows = Field(
        "square",
        description="The square alone, the whole picture with that face, or with all its faces.",
    )
    may: bool = Field(
        False, description="Whether you may use the likeness of whoever is shown: it must be true."
    )


@dataclass(eq=False)
class Animation:
    """An animation of a visitor's, and how far it is."""

    job: Job
    asked: Asked
    order: Order
    folder: Path
    name: str
    names: dict[str, str]
    count: int = 0
    total: int = 0
    first_at: float = 0.0
    previews: list[bytes] = field(default_factory=list)

    def told(self, value: tuple[int, int, bytes]) -> None:
        self.count, self.total, preview = value
        self.first_at = self.first_at or time.monotonic()
        if preview:
            self.previews.append(preview)

    def shown(self, place: int | None, named: Callable[[Any], Any]) -> dict[str, Any]:
        """Return it as the page gets it, in which ``named`` calls files as their owner does."""
        left = None
        if self.job.state == "running" and self.count > 1:
            done = (time.monotonic() - self.first_at) / (self.count - 1)
            left = done * (self.total - self.count)
        return {
            "id": self.job.id,
            "name": self.name,
            "asked": self.asked.model_dump(exclude_none=True),
            "state": self.job.state,
            "place": place,
            "frame": self.count,
            "frames": self.total,
            "seconds_left": left,
            "previews": len(self.previews),
            "result": named(self.job.result),
            "problem": named(self.job.problem),
        }


class Workshop:
    """All that stands behind the API: who is here, and the lanes in which work is done.

    What reads pictures and first frames has a lane of its own, so that nobody who brings something
    waits for what reads another visitor's whole video.

    Attributes
    ----------
    ends : callable
        Says whether the server ends, and with it all streams of events.
    """

    ends: Callable[[], bool] = staticmethod(lambda: False)

    def __init__(self, limits: UploadLimits | None = None) -> None:
        self.limits = limits or UploadLimits()
        self.looks, self.scans, self.makes = Lane("looks"), Lane("scans"), Lane("makes")
        self.visitors = Visitors(self.limits, self._left)
        self.paces: dict[str, float] = {}

    def __enter__(self) -> "Workshop":
        return self

    def __exit__(self, *_: object) -> None:
        for lane in (self.looks, self.scans, self.makes):
            lane.close()
        self.visitors.close()

    def _left(self, visitor: Visitor) -> None:
        for lane in (self.looks, self.scans, self.makes):
            lane.drop(visitor.key)

    async def look(
        self, request: Request, visitor: Visitor, lane: Lane, task: Any, *arguments: Any
    ) -> Any:
        """Have something done in a lane, for as long as the visitor waits for it."""
        seconds = min(self.limits.job_seconds, _PATIENCE)
        job = lane.submit(Job(visitor.key, task, arguments, visitor.kept, seconds))
        try:
            while not job.over.is_set():
                visitor.seen = time.monotonic()
                if await request.is_disconnected():
                    break
                await asyncio.sleep(0.03)
        finally:
            if not job.over.is_set():
                # It waits until a process is gone, which nobody else should wait for.
                await asyncio.shield(asyncio.to_thread(lane.stop, job))
        if job.state != "done":
            raise Refused(self.named(visitor, job.problem or "it was stopped"))
        return self.named(visitor, job.result)

    def named(self, visitor: Visitor, said: Any) -> Any:
        """Return what is said, in whose texts files are called as the visitor calls them."""
        if isinstance(said, dict):
            return {key: self.named(visitor, value) for key, value in said.items()}
        if isinstance(said, list):
            return [self.named(visitor, each) for each in said]
        return self._named(visitor, said) if isinstance(said, str) else said

    def _named(self, visitor: Visitor, text: str) -> str:
        for upload in list(visitor.uploads.values()):
            for place in (str(upload.path), upload.path.name):
                text = text.replace(place, upload.name)
        return text.replace(str(visitor.folder), "")

    def scan(self, visitor: Visitor, upload: Upload) -> None:
        """Look at every frame of a driving while the visitor goes on."""

        def told(share: float) -> None:
            upload.looks["scanned"] = share

        def ended(job: Job) -> None:
            found = job.result if job.state == "done" else {"cuts": []}
            upload.looks.update(self.named(visitor, found))
            upload.looks["scanned"] = 1.0
            if job.problem:
                note = {"level": "warning", "text": self.named(visitor, job.problem)}
                upload.looks["notes"] = [*upload.looks["notes"], note]

        upload.looks["scanned"] = 0.0
        task, arguments = looks.scan_driving, (upload.path, upload.folder, {})
        job = Job(visitor.key, task, arguments, visitor.kept, self.limits.job_seconds, told, ended)
        upload.scan = self.scans.submit(job)

    def remove(self, visitor: Visitor, upload: Upload) -> None:
        """Remove an upload of which nothing is being made."""
        for made in visitor.jobs.values():
            if upload.id in (made.asked.source, made.asked.driving) and not made.job.over.is_set():
                raise Refused("an animation is being made of this file: stop that first", 409)
        if upload.scan is not None:
            self.scans.stop(upload.scan)
        visitor.remove(upload.id)

    def order(self, visitor: Visitor, asked: Asked) -> Order:
        """Turn what was asked for into what is done, and refuse what is not offered."""
        uploads = [visitor.upload(asked.source), visitor.upload(asked.driving)]
        if [upload.role for upload in uploads] != ["source", "driving"]:
            raise Refused("a picture is animated by a video: name one of each")
        check_settings(asked.method, asked.settings)
        said = []
        for view, upload in zip((asked.source_view, asked.driving_view), uploads, strict=True):
            said.append({**view, "path": str(upload.path), "name": upload.slug})
            try:
                as_input(said[-1], still=upload.role == "source")
            except StudyError as error:
                raise Refused(self.named(visitor, str(error))) from None
        # A driving's face may come after its first frame: its scan says, once it is over.
        seen = uploads[0].looks.get("faces") and uploads[1].looks.get("seen", True)
        crop: CropRule = "face" if seen else looks.ANY
        return Order(*said, asked.method, asked.settings, asked.size, crop, asked.shows)

    def state(self, visitor: Visitor) -> dict[str, Any]:
        """Return all that is a visitor's, as the page shows it."""
        uploads, animations = list(visitor.uploads.items()), list(visitor.jobs.values())
        return {
            "uploads": {id: shown(each) for id, each in uploads},
            "animations": [self.made(visitor, each) for each in animations],
        }

    def made(self, visitor: Visitor, animation: Animation) -> dict[str, Any]:
        """Return an animation as its page shows it."""
        place = self.makes.places().get(animation.job.id)
        return animation.shown(place, functools.partial(self.named, visitor))


def shown(upload: Upload) -> dict[str, Any]:
    return {"id": upload.id, "role": upload.role, "name": upload.name, **upload.looks}


class _Route(APIRoute):
    """Answers with one line what is refused, and gives a new visitor their cookie."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                response = await handle(request)
            except StudyError as error:
                status = error.status if isinstance(error, Refused) else 422
                response = JSONResponse({"problem": str(error)}, status)
            except RequestValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"][1:])
                response = JSONResponse({"problem": f"{where}: {first['msg']}"}, 422)
            if key := getattr(request.state, "new_visitor", None):
                response.set_cookie(
                    COOKIE, key, httponly=True, samesite="strict",
                    secure=request.url.scheme == "https",
                )  # fmt: skip
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return handled


def animate_router(workshop: Workshop) -> APIRouter:
    """Return the page that animates, and the API of the workshop behind it."""
    api = APIRouter(prefix="/api", route_class=_Route, tags=["animate"])

    def visitor_of(request: Request) -> Visitor:
        visitor = workshop.visitors.get(request.cookies.get(COOKIE, ""))
        if visitor is None:
            visitor = workshop.visitors.new()
            request.state.new_visitor = visitor.key
        return visitor

    Here = Annotated[Visitor, Depends(visitor_of)]

    def animation_of(visitor: Visitor, id: str) -> Animation:
        if id not in visitor.jobs:
            raise Refused("this animation is not here any more: make it again", 404)
        return visitor.jobs[id]

    @api.get("/openapi.json", include_in_schema=False)
    async def described() -> dict[str, Any]:
        return get_openapi(title="studykit", version=__version__, routes=api.routes)

    @api.get("/options", summary="Limits, methods with their settings, and examples")
    async def options(visitor: Here) -> dict[str, Any]:
        return {
            "limits": asdict(workshop.limits),
            "methods": offered(),
            "examples": {role: list(found) for role, found in examples().items()},
            "signed": marks.can_sign(),
        }

    @api.get("/examples/{role}/{name}", summary="An example's file")
    async def example(role: Role, name: str, visitor: Here) -> FileResponse:
        return FileResponse(_example(role, name), headers={"Cache-Control": "max-age=3600"})

    @api.get("/events", summary="All that is yours, again whenever it changes (event stream)")
    async def events(visitor: Here) -> StreamingResponse:
        async def stream() -> AsyncIterator[str]:
            with visitor.listens():
                last, said = "", 0.0
                while not workshop.ends():
                    now = json.dumps(workshop.state(visitor))
                    if now != last:
                        yield f"data: {now}\n\n"
                    elif time.monotonic() - said > _PING:
                        yield ": here\n\n"
                    if now != last or time.monotonic() - said > _PING:
                        last, said = now, time.monotonic()
                    await asyncio.sleep(_EVERY)

        return StreamingResponse(stream(), media_type="text/event-stream")

    @api.get("/state", summary="All that is yours, once")
    async def state(visitor: Here) -> dict[str, Any]:
        return workshop.state(visitor)

    async def judged(request: Request, visitor: Visitor, upload: Upload) -> dict[str, Any]:
        task = looks.look_at_source if upload.role == "source" else looks.glance_at_driving
        arguments = (upload.path, upload.folder, workshop.limits)
        try:
            upload.looks = await workshop.look(request, visitor, workshop.looks, task, *arguments)
        except BaseException:
            visitor.remove(upload.id)
            raise
        if upload.role == "driving":
            workshop.scan(visitor, upload)
        return shown(upload)

    @api.post(
        "/uploads",
        status_code=201,
        summary="Bring a file, as the body; or an example by its name",
    )
    async def bring(
        request: Request,
        visitor: Here,
        role: Role,
        name: str = "",
        example: bool = False,
    ) -> dict[str, Any]:
        if example:
            return await judged(request, visitor, visitor.add(role, name, _example(role, name)))
        upload, most, count = visitor.add(role, name), workshop.limits.bytes, 0
        try:
            with upload.path.open("wb") as file:
                async for chunk in request.stream():
                    count += len(chunk)
                    visitor.seen = time.monotonic()
                    if count > most:
                        text = f"{upload.name} is larger than {most / (1 << 20):.0f} MB"
                        raise Refused(f"{text}, which is the most: make it smaller", 413)
                    visitor.check_disk()
                    await asyncio.to_thread(file.write, chunk)
        except BaseException:
            visitor.remove(upload.id)
            raise
        return await judged(request, visitor, upload)

    @api.get("/uploads/{id}", summary="What a file shows: faces, square, cuts, sound")
    async def upload(id: str, visitor: Here) -> dict[str, Any]:
        return shown(visitor.upload(id))

    @api.delete("/uploads/{id}", status_code=204, summary="Remove a file")
    async def remove(id: str, visitor: Here) -> None:
        await asyncio.to_thread(workshop.remove, visitor, visitor.upload(id))

    @api.get("/uploads/{id}/{file}", summary="picture.jpg; of a video also strip.jpg and proxy.mp4")
    async def shown_file(id: str, file: str, visitor: Here) -> FileResponse:
        return _file(visitor.upload(id).folder, file, _SHOWN)

    @api.post("/uploads/{id}/look", summary="The square that a view means; of a driving, its range")
    async def look(
        request: Request, id: str, view: dict[str, Any], visitor: Here
    ) -> dict[str, Any]:
        upload = visitor.upload(id)
        task, lane = looks.look_at_range, workshop.scans
        if upload.role == "source":
            task, lane = looks.look_at_square, workshop.looks
        return await workshop.look(request, visitor, lane, task, upload.path, view)

    @api.post("/estimate", summary="How long an animation will take")
    async def estimate(request: Request, asked: Asked, visitor: Here) -> dict[str, Any]:
        order = workshop.order(visitor, asked)
        known = json.dumps([order.given(), order.shows], sort_keys=True)
        if known not in workshop.paces:
            clip = visitor.folder / "trial.mp4"
            given = (order.source, order.driving, clip, order.given())
            found = await workshop.look(request, visitor, workshop.scans, looks.pace, *given)
            if found is None:
                return {"seconds": None}
            workshop.paces[known] = found
        driving, view = visitor.upload(asked.driving).looks, asked.driving_view
        part = min(view.get("end") or 1e9, driving["duration"]) - (view.get("start") or 0)
        frames = max(2, round(driving["frames"] * part / driving["duration"]))
        return {"seconds": workshop.paces[known] * frames, "frames": frames}

    @api.post("/animate", status_code=202, summary="Ask for an animation")
    async def ask(asked: Asked, visitor: Here) -> dict[str, Any]:
        if not asked.may:
            text = "say that you may use the likeness of whoever is shown (may: true)"
            raise Refused(f"animating a face needs a right to it: {text}")
        if len(visitor.jobs) >= workshop.limits.files:
            most = f"at most {workshop.limits.files} animations are kept for each visitor"
            raise Refused(f"{most}: remove one first", 409)
        visitor.check_disk()
        order = workshop.order(visitor, asked)
        made_id = secrets.token_urlsafe(16)
        folder = visitor.folder / made_id
        folder.mkdir(parents=True)
        uploads = [visitor.upload(id) for id in (asked.source, asked.driving)]
        names = {each.role: each.slug + each.suffix for each in uploads}
        label = "-".join(each.slug for each in uploads)
        job = Job(
            visitor.key, making.make, (order, folder), visitor.kept, workshop.limits.job_seconds,
            told=lambda value: made.told(value), id=made_id,
        )  # fmt: skip
        made = Animation(job, asked, order, folder, f"{label[:60]}-{asked.method}", names)
        visitor.jobs[made_id] = made
        workshop.makes.submit(job)
        return workshop.made(visitor, made)

    @api.get("/animations/{id}", summary="How far an animation is, and what came out")
    async def animation(id: str, visitor: Here) -> dict[str, Any]:
        return workshop.made(visitor, animation_of(visitor, id))

    @api.post("/animations/{id}/stop", summary="Stop an animation at once")
    async def stop(id: str, visitor: Here) -> dict[str, Any]:
        made = animation_of(visitor, id)
        await asyncio.to_thread(workshop.makes.stop, made.job)
        return workshop.made(visitor, made)

    @api.delete("/animations/{id}", status_code=204, summary="Stop and remove an animation")
    async def forget(id: str, visitor: Here) -> None:
        made = animation_of(visitor, id)
        await asyncio.to_thread(workshop.makes.stop, made.job)
        visitor.forget(id)

    @api.get("/animations/{id}/previews/{number}", summary="One of the frames that are there")
    async def preview(id: str, number: int, visitor: Here) -> Response:
        previews = animation_of(visitor, id).previews
        if not 0 <= number < len(previews):
            raise Refused("this frame is not there yet", 404)
        return Response(previews[number], media_type="image/jpeg")

    @api.get("/animations/{id}/{file}", summary="clip.mp4, driving.mp4 and source.png, to be shown")
    async def made_file(id: str, file: str, visitor: Here) -> FileResponse:
        return _file(animation_of(visitor, id).folder, file, _MADE)

    @api.get("/animations/{id}/download/{form}", summary="An animation to take along")
    async def download(
        request: Request,
        id: str,
        form: Form,
        visitor: Here,
        mark: bool = False,
        at: Annotated[float, Query(ge=0, allow_inf_nan=False)] = 0.0,
    ) -> FileResponse:
        made = animation_of(visitor, id)
        if made.job.state != "done":
            raise Refused("the animation is not there yet: wait until it is done", 409)
        visitor.check_disk()
        name, method = made.name, made.job.result["method"]
        if form == "study.zip":
            task, given = making.pack_study, (made.order, made.folder, made.names, method)
        else:
            task, given = making.deliver, (made.folder, form, name, method, mark, at)
        file = await workshop.look(request, visitor, workshop.scans, task, *given)
        called = {"clip.mp4": ".mp4", "side-by-side.mp4": "-side-by-side.mp4", "clip.gif": ".gif"}
        called |= {"still.png": ".png", "study.zip": "-study.zip"}
        kind = mimetypes.guess_type(form)[0]
        return FileResponse(made.folder / file, media_type=kind, filename=f"{name}{called[form]}")

    pages = APIRouter()
    animates = front_end.page(
        "animate_browser.js", style="animate.css", title="studykit: animate a face"
    )
    describes = front_end.page("docs.js", style="animate.css", title="studykit: API")

    @pages.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        return animates

    @pages.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> str:
        return describes

    pages.include_router(api)
    return pages


def _example(role: Role, name: str) -> Path:
    found = examples()[role]
    if name not in found:
        raise Refused(f'no example "{name}": {", ".join(found)}', 404)
    return found[name]


def _file(folder: Path, name: str, known: set[str]) -> FileResponse:
    path = folder / name
    if name not in known or not path.is_file():
        raise Refused("this file is not there yet", 404)
    return FileResponse(path, headers={"Cache-Control": "private, max-age=3600"})
