"""The author's view of a study that is being rated: who did how much, links, what went wrong."""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Header, HTTPException, Request
from fastapi.responses import HTMLResponse

from studykit.errors import StudyError
from studykit.pages import front_end
from studykit.pages.rating import RatingDesk
from studykit.ratings.links import DAYS, Kind, link_path

Check = Callable[[str, str], Awaitable[None]]
"""Raises unless a key, from a network address, is the author's."""

_MOST_LINKS = 1000  # that are made at once
_ID = r"^[A-Za-z0-9_-]{0,64}$"
_LATEST = 50  # of what went wrong


def overview(desk: RatingDesk) -> dict[str, Any]:
    """Return what the author sees: names, figures and reasons, of raters under their ids."""
    # pandas takes half of a server's memory, and raters need none.
    from studykit.ratings.screening import rating_status

    study, store = desk.study, desk.store
    status = rating_status(study, store)
    excluded = status.screening.excluded
    devices: dict[str, dict[str, Any]] = defaultdict(dict)
    failed = []
    sessions = store.sessions(study.name)
    plans = {record.session: record.trials for record in sessions}
    for rater, kind, detail, at, session in store.notes(study.name, "device", "failed"):
        if kind == "device":
            devices[rater] |= detail
            continue
        item = {"rater": rater, "at": at.isoformat(), **detail}
        number, trials = str(item.get("clip", "")), plans.get(session, ())
        if number.isdecimal() and int(number) < len(trials):
            item["clip"] = trials[int(number)].clip.cell
        failed.append(item)
    return {
        "study": study.name,
        "sessions": status.sessions,
        "conditions": [
            {"condition": " × ".join(condition), "ratings": count}
            for condition, count in status.conditions.items()
        ],
        "ratings_wanted": study.ratings.raters_min,
        "words": status.screening.words,
        "raters": [
            {
                "rater": record.rater,
                "began": record.created_at.isoformat(),
                "done": record.answered,
                "total": len(record.trials),
                "paused": record.paused,
                "excluded": excluded.get(record.rater, ""),
                "checks": record.checks or {},
                "device": devices.get(record.rater, {}),
            }
            for record in sessions
            if record.trials
        ],
        "links": [
            {
                "kind": link.kind,
                "rater": link.rater,
                "state": link.state,
                "created": link.created_at.isoformat(),
                "expires": link.expires_at.isoformat(),
            }
            for link in desk.links.all()
        ],
        "failed": failed[-_LATEST:],
        "report": (desk.out / "report.html").is_file(),
    }


def needs_key(check: Check) -> Any:
    """Return what routes depend on that are for whoever has a key of the author's."""

    async def allowed(request: Request, authorization: Annotated[str, Header()] = "") -> None:
        who = request.client.host if request.client else ""
        await check(authorization.removeprefix("Bearer "), who)

    return Depends(allowed)


def router(desk: RatingDesk) -> APIRouter:
    """Return the routes of the author's view; all but the page itself ask for the author's key."""
    open_routes = APIRouter()
    page = front_end.page("author.js", style="author.css", title="Raters")  # strangers see it

    @open_routes.get("/author")
    async def author() -> HTMLResponse:
        return HTMLResponse(page, headers={"cache-control": "no-cache"})

    routes = APIRouter(prefix="/author", dependencies=[needs_key(desk.check_author)])

    @routes.get("/overview")
    async def get_overview() -> dict[str, Any]:
        try:
            return await desk.aside(overview, desk)
        except StudyError as error:
            raise HTTPException(409, str(error).replace(str(desk.out), "")) from None

    @routes.post("/links")
    async def make_links(
        kind: Annotated[Kind, Body()],
        count: Annotated[int, Body(ge=1, le=_MOST_LINKS)] = 1,
        days: Annotated[float, Body(gt=0, le=3650, allow_inf_nan=False)] = DAYS,
        rater: Annotated[str, Body(pattern=_ID)] = "",
    ) -> list[dict[str, str]]:
        def make() -> list[dict[str, str]]:
            if rater:
                desk.links.revoke(rater)
            made = [desk.links.make(kind, rater=rater, days=days) for _ in range(count)]
            return [{"rater": whose, "path": link_path(kind, secret)} for secret, whose in made]

        try:
            return await desk.aside(make)
        except StudyError as error:
            raise HTTPException(422, str(error)) from None

    @routes.post("/revoke")
    async def revoke(
        kind: Annotated[Literal["rater", "panel"], Body()],
        rater: Annotated[str, Body(pattern=_ID)] = "",
    ) -> int:
        return await desk.aside(desk.links.revoke, rater, kind)

    @routes.post("/report")
    async def report() -> str:
        path = desk.out / "report.html"
        if not path.is_file():
            raise HTTPException(404)
        return desk.lend(path, 0)

    open_routes.include_router(routes)
    return open_routes
