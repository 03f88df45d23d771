"""A study in its author's browser: its matrix, which fills while cells are made, and each cell."""

import asyncio
import contextlib
import csv
import hashlib
import hmac
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, HTMLResponse, Response

from studykit.cache import file_hash
from studykit.clips.cells import read_cells
from studykit.clips.folder import clip_file
from studykit.errors import StudyError
from studykit.media.squares import probed
from studykit.pages import front_end, making
from studykit.pages.author import Check, needs_key
from studykit.pages.guard import REPORT_POLICY
from studykit.pages.jobs import Job, Lane
from studykit.ratings.links import new_secret
from studykit.ratings.store import what_is_rated
from studykit.study.file import Cell, Study

_ASIDE = ".older"  # how the name of a clip ends while another is made in its place
_SAID = 4000  # bytes of what a run has said last
_AT_HAND = re.compile(r"cell \d+/\d+ (\S+?):? +(\d+)%")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class StudyDesk:
    """Shows a study to its author, and runs it.

    Parameters
    ----------
    study : Study
    out : Path
        The folder of its results.
    key : str
        Lets in whoever has it, besides those whom ``check`` does.
    check : callable, optional
        Raises unless a key, from a network address, is the author's.
    store : str
        The address of the store of ratings; "" for the study's own.
    """

    command = (sys.executable, "-m", "studykit")

    def __init__(
        self,
        study: Study,
        out: Path,
        key: str = "",
        check: Check | None = None,
        store: str = "",
    ) -> None:
        self.study, self.out, self.store = study, out, store
        self.key, self.check = key or new_secret(), check
        self.cells = {cell.name: cell for cell in study.cells()}
        self._lent: dict[str, Path] = {}
        self._names: dict[str, str] = {}
        self._run: subprocess.Popen | None = None
        self._stopped = False
        self._changing = threading.RLock()

    def __enter__(self) -> "StudyDesk":
        self._folder = Path(tempfile.mkdtemp(prefix="studykit-study-"))
        self._lane = Lane("study")
        self._put_back()  # what a server that was killed has left
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._lane.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def allow(self, key: str, who: str) -> None:
        """Refuse whoever has no key of the author's."""
        if self.check is not None:
            await self.check(key, who)
        elif not hmac.compare_digest(key.encode(), self.key.encode()):
            raise HTTPException(401)

    def lend(self, path: Path, changed: float | None = None) -> str:
        """Return an address of a file that nobody can guess; ``changed`` is when it was written."""
        name = self._names.get(str(path))
        if name is None:
            name = self._names[str(path)] = new_secret()
            self._lent[name] = path
        return f"study/file/{name}?{int(path.stat().st_mtime if changed is None else changed)}"

    def file(self, name: str) -> Path:
        path = self._lent.get(name)
        if path is None or not path.is_file():
            raise HTTPException(404)
        return path

    def state(self) -> dict[str, Any]:
        """Return the study as the page shows it: its types, methods and cells, and its run."""
        self._put_back()
        rows, said = read_cells(self.out / "cells.csv"), self._said()
        at_hand, running = (_AT_HAND.findall(said) or [("", 0)])[-1], self.running
        clips, cells = self.out / "clips", []
        changed = _changed(clips)  # asked once: a study may have thousands
        for cell in self.cells.values():
            row, clip = rows.get(cell.name), f"{cell.name}.mp4"
            made = row is not None and row.status == "done" and clip in changed
            state = "done" if made else "failed" if row and row.status == "failed" else "missing"
            now = running and cell.name == at_hand[0]
            cells.append(
                {
                    "name": cell.name,
                    "source": cell.source.name,
                    "driving": cell.driving.name,
                    "method": cell.method.name,
                    "state": "running" if now and not made else state,
                    "share": int(at_hand[1]) / 100 if now else 0,
                    "clip": self.lend(clips / clip, changed[clip]) if made else "",
                }
            )
        report = self.out / "report.html"
        return {
            "name": self.study.name,
            "sources": [{"name": each.name, "type": each.type} for each in self.study.sources],
            "drivings": [{"name": each.name, "type": each.type} for each in self.study.drivings],
            "methods": [method.name for method in self.study.methods],
            "cells": cells,
            "running": running,
            "says": "" if self._stopped else (said.splitlines() or [""])[-1].strip(),
            "failed": bool(self._run and self._run.poll() and not self._stopped),
            "report": self.lend(report) if report.is_file() else "",
            "raters": self.check is not None,
        }

    @property
    def running(self) -> bool:
        return self._run is not None and self._run.poll() is None

    def start(self, only: str = "") -> None:
        """Run the study, or make one of its cells again.

        Raises
        ------
        StudyError
            It runs already, has no such cell, or people have rated the cell's clip.
        """
        with self._changing:  # of two clicks at once, the second finds it running
            if self.running:
                raise StudyError("the study is running: stop it first")
            self._put_back()
            command = [*self.command, "run", str(self.study.path)]
            if only:
                self._set_aside(self._cell(only).name)
                command += ["--only", only]
            self._stopped = False
            with (self._folder / "said").open("wb") as said:
                self._run = subprocess.Popen(
                    [*command, "--out", str(self.out)], stdin=subprocess.DEVNULL, stdout=said,
                    stderr=said, env={**os.environ, "COLUMNS": "200"},
                )  # fmt: skip

    def stop(self) -> None:
        """Stop the run; what is made stays, and it goes on where it stopped."""
        if self._run is not None and self.running:
            self._stopped = True
            self._run.send_signal(signal.SIGTERM)
            try:
                self._run.wait(20)
            except subprocess.TimeoutExpired:
                self._run.kill()
                self._run.wait()
        self._put_back()

    def _set_aside(self, name: str) -> None:
        """Take a cell's clip out of a run's way, so that the run makes another."""
        clip, ratings = clip_file(self.out, name), self.study.ratings
        study = replace(self.study, ratings=replace(ratings, store=self.store or ratings.store))
        if clip.is_file():
            if file_hash(clip) in what_is_rated(study, self.out).clips:
                raise StudyError(
                    f"people have rated the clip of {name}, so it stays: studykit run "
                    f"{self.study.path} --remake makes rated clips again"
                )
            clip.replace(clip.with_name(f".{name}{_ASIDE}"))

    def _put_back(self) -> None:
        """Bring a clip back where the run that was to replace it has made none."""
        with self._changing:
            for aside in [] if self.running else self.out.glob(f"clips/.*{_ASIDE}"):
                name = aside.name[1 : -len(_ASIDE)]
                row = read_cells(self.out / "cells.csv").get(name)
                clip = aside.with_name(f"{name}.mp4")
                # A cell that has failed has no clip: the older one is of other inputs or settings.
                if clip.is_file() or row is None or row.status == "failed":
                    aside.unlink(missing_ok=True)
                else:
                    aside.replace(clip)

    async def cell(self, name: str) -> dict[str, Any]:
        """Return all that there is about a cell, with its inputs as its method has seen them."""
        cell = self._cell(name)
        row = read_cells(self.out / "cells.csv").get(name)
        clip, folder, problem = clip_file(self.out, name), self._folder / name, ""
        if not (folder / "driving.mp4").is_file():
            # The study's own inputs: said again in a mapping, some would mean something else.
            given = (cell.source, cell.driving, self.study.size, self.study.crop, folder)
            job = self._lane.submit(Job("author", making.write_inputs, given, folder))
            while not job.over.is_set():
                await asyncio.sleep(0.05)
            problem = job.problem
        shown = {"clip": clip, "driving": folder / "driving.mp4", "source": folder / "source.png"}
        rate = 25.0
        if shown["driving"].is_file():
            rate = float((await asyncio.to_thread(probed, shown["driving"])).frame_rate)
        return {
            "frame_rate": rate,
            "problem": problem,
            "row": asdict(row) if row else None,
            "settings": cell.method.settings,
            "metrics": _metrics(self.out / "metrics.csv", name),
            "files": {key: self.lend(path) for key, path in shown.items() if path.is_file()},
        }

    def _cell(self, name: str) -> Cell:
        if name not in self.cells:
            raise StudyError(f"the study has no cell {name}")
        return self.cells[name]

    def _said(self) -> str:
        try:
            with (self._folder / "said").open("rb") as said:
                said.seek(max(0, said.seek(0, os.SEEK_END) - _SAID))
                data = said.read(_SAID)
        except OSError:
            return ""
        return _ESCAPES.sub("", data.decode(errors="replace").replace("\r", "\n")).strip()


def _changed(folder: Path) -> dict[str, float]:
    """Return when each file of a folder was written, by its name."""
    times = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as found:
        for each in found:
            with contextlib.suppress(FileNotFoundError):  # renamed at this moment
                times[each.name] = each.stat().st_mtime
    return times


def _metrics(path: Path, cell: str) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["cell"] == cell]


def router(desk: StudyDesk) -> APIRouter:
    """Return the routes of a study's page; all but the page itself ask for the author's key."""
    pages = APIRouter()
    routes = APIRouter(prefix="/study", dependencies=[needs_key(desk.allow)])
    page = front_end.page("study.js", style="animate.css", title=f"{desk.study.name}: study")

    @pages.get("/study")
    async def study() -> HTMLResponse:
        return HTMLResponse(page)

    @pages.get("/study/file/{name}")
    async def file(name: str) -> FileResponse:
        path, headers = desk.file(name), {"cache-control": "private, max-age=600"}
        if path.suffix == ".html":
            headers["content-security-policy"] = REPORT_POLICY
        return FileResponse(path, headers=headers)

    @routes.get("/state")
    async def state(seen: str = "") -> Response:
        data = (await asyncio.to_thread(lambda: json.dumps(desk.state()))).encode()
        tag = hashlib.sha256(data).hexdigest()[:16]
        if tag == seen:
            return Response(status_code=204)
        return Response(data, media_type="application/json", headers={"etag": f'"{tag}"'})

    @routes.get("/cell/{name}")
    async def cell(name: str) -> dict[str, Any]:
        return await _answered(desk.cell(name))

    @routes.post("/start")
    async def start(only: str = "") -> None:
        await _answered(asyncio.to_thread(desk.start, only))

    @routes.post("/stop")
    async def stop() -> None:
        await asyncio.to_thread(desk.stop)

    pages.include_router(routes)
    return pages


async def _answered(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except StudyError as error:
        raise HTTPException(409, str(error)) from None
