"""A study's page: its matrix fills while cells are made, and a cell is shown in full."""

import concurrent.futures
import re
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studykit.clips.animate import animate_cells
from studykit.clips.folder import study_folder
from studykit.files import sha256
from studykit.media.video import probe
from studykit.media.views import View
from studykit.ratings.exchange import import_ratings
from studykit.ratings.store import open_store
from studykit.study.file import Cell, load_study

pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")

from fastapi import HTTPException  # noqa: E402

from studykit.pages import study_page  # noqa: E402
from studykit.pages.server import create_app  # noqa: E402
from studykit.pages.study_page import StudyDesk  # noqa: E402
from tests.real_server import running  # noqa: E402

# The clips alone, one after the other as somebody lets them: a run's other steps have tests of
# their own.
RUN = """
import os, sys, time
from pathlib import Path
from studykit.clips import animate, cells
from studykit.files import sha256
from studykit.media.video import probe
from studykit.media.views import View
from studykit.ratings.exchange import import_ratings
from studykit.ratings.store import open_store
from studykit.study.file import Cell, load_study

out, gate = Path(sys.argv[4 if len(sys.argv) < 6 else 6]), Path(sys.argv[2]).with_name("gate")
only = sys.argv[4] if len(sys.argv) > 5 else None
add = cells.CellTable.add

def slowly(table, row):
    add(table, row)
    print(f"cell 2/4 anna__turn__copy:  40%|## | [00:01<00:07]", end="\\r", flush=True)
    while not gate.exists():
        time.sleep(0.05)

cells.CellTable.add = slowly
sys.stderr = open(os.devnull, "w")
animate.animate_cells(load_study(sys.argv[2]), out, only=only)
"""


@pytest.fixture
def desk(small_study: Path) -> StudyDesk:
    study = load_study(small_study)
    desk = StudyDesk(study, study_folder(study, small_study.parent / "out"))
    script = small_study.with_name("run.py")
    script.write_text(RUN)
    desk.command = (sys.executable, str(script))
    return desk


@pytest.fixture
def address(desk: StudyDesk) -> Iterator[str]:
    with running(create_app(study=desk)) as (address, _):
        yield address


@pytest.fixture
def author(address: str, desk: StudyDesk) -> Iterator[Any]:
    headers = {"authorization": f"Bearer {desk.key}"}
    with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
        yield client


def states(author: Any) -> list[str]:
    return [cell["state"] for cell in author.get("/study/state").json()["cells"]]


def until(true: Any) -> None:
    late = time.monotonic() + 90
    while not true():
        assert time.monotonic() < late
        time.sleep(0.1)


def test_nobody_without_the_key_sees_or_starts_anything(address: str, desk: StudyDesk) -> None:
    for key in ("", "Bearer x", f"Bearer {desk.key[:-1]}", "Bearer clé"):
        headers = {"authorization": key.encode()}
        with httpx.Client(base_url=address, headers=headers) as client:
            for path in ("state", "cell/anna__talk__copy"):
                assert client.get(f"/study/{path}").status_code == 401
            for path in ("start", "stop"):
                assert client.post(f"/study/{path}").status_code == 401
            assert client.get("/study/file/clips").status_code == 404
    assert not desk.running


def test_the_matrix_fills_stops_and_goes_on(author: Any, desk: StudyDesk) -> None:
    assert states(author) == ["missing"] * 4
    assert author.post("/study/start").status_code == 200
    until(lambda: states(author) == ["done", "running", "missing", "missing"])
    refused = author.post("/study/start")
    assert (refused.status_code, "stop it first" in refused.json()["detail"]) == (409, True)
    author.post("/study/stop")
    assert states(author) == ["done", "missing", "missing", "missing"]
    desk.study.path.with_name("gate").touch()
    author.post("/study/start")
    until(lambda: states(author) == ["done"] * 4)


def test_a_cell_is_shown_in_step_and_made_again(author: Any, desk: StudyDesk) -> None:
    desk.study.path.with_name("gate").touch()
    author.post("/study/start")
    until(lambda: states(author) == ["done"] * 4 and not desk.running)
    (desk.out / "metrics.csv").write_text(
        "cell,metric,value,unit,better\nanna__talk__copy,jitter,1.5,px,lower\nother,jitter,2,px,\n"
    )
    cell = author.get("/study/cell/anna__talk__copy").json()
    assert (cell["row"]["frames"], cell["frame_rate"]) == (6, 25)
    assert [row["value"] for row in cell["metrics"]] == ["1.5"]
    for kind, start in (("clip", "video/mp4"), ("driving", "video/mp4"), ("source", "image/png")):
        answer = author.get(f"/{cell['files'][kind]}", headers={"authorization": ""})
        assert answer.headers["content-type"] == start
    clip = desk.out / "clips" / "anna__talk__copy.mp4"
    before = clip.stat().st_mtime_ns
    author.post("/study/start", params={"only": "anna__talk__copy"})
    until(lambda: not desk.running)
    assert clip.stat().st_mtime_ns > before
    assert author.get("/study/cell/nobody").status_code == 409


def test_of_two_clicks_one_begins_a_run(desk: StudyDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, begin = [], subprocess.Popen

    def slowly(*arguments: Any, **options: Any) -> subprocess.Popen:
        begun.append(arguments)
        time.sleep(0.2)
        return begin(*arguments, **options)

    monkeypatch.setattr(study_page.subprocess, "Popen", slowly)
    desk.command = (sys.executable, "-c", "import time; time.sleep(60)")
    with desk, concurrent.futures.ThreadPoolExecutor(2) as clicks:
        refused = [each.exception() for each in [clicks.submit(desk.start) for _ in range(2)]]
        assert sum("stop it first" in str(error) for error in refused) == 1
    assert len(begun) == 1


def test_a_clip_that_is_not_made_again_comes_back(author: Any, desk: StudyDesk) -> None:
    animate_cells(desk.study, desk.out, only="anna__talk__copy")
    clip = desk.out / "clips" / "anna__talk__copy.mp4"
    before = clip.read_bytes()
    again = {"only": "anna__talk__copy"}
    for does in ("raise SystemExit('another run is at work')", "import time; time.sleep(60)"):
        desk.command = (sys.executable, "-c", does)
        assert author.post("/study/start", params=again).status_code == 200
        if "sleep" in does:
            assert not clip.is_file()
            author.post("/study/stop")
        until(lambda: not desk.running)
        assert states(author)[0] == "done"
        assert clip.read_bytes() == before
    assert [path.name for path in clip.parent.iterdir()] == [clip.name]


def test_a_clip_that_people_have_rated_stays(author: Any, desk: StudyDesk, tmp_path: Path) -> None:
    animate_cells(desk.study, desk.out, only="anna__talk__copy")
    clip = desk.out / "clips" / "anna__talk__copy.mp4"
    desk.store = str(tmp_path / "elsewhere.sqlite")
    (tmp_path / "rated.csv").write_text(
        f"rater,cell,criterion,value,clip_hash\nr-1,anna__talk__copy,naturalness,4,{sha256(clip)}\n"
    )
    with open_store(desk.store) as store:
        import_ratings(store, desk.study, tmp_path / "rated.csv")
    answer = author.post("/study/start", params={"only": "anna__talk__copy"})
    assert (answer.status_code, "--remake" in answer.json()["detail"]) == (409, True)
    assert clip.is_file() and not desk.running


def test_a_cells_inputs_are_those_of_the_study(author: Any, desk: StudyDesk) -> None:
    moved = replace(desk.study.drivings[0], view=View(start=0.04, end=0.16))
    frame = replace(moved, name="first-of-talk")  # as "same-identity" has it: a source in a video
    lost = replace(moved, path=desk.out / "gone.mp4")
    method = desk.study.methods[0]
    for name, cell in (("a", Cell(frame, moved, method)), ("b", Cell(frame, lost, method))):
        desk.cells[name] = cell
    shown = author.get("/study/cell/a").json()
    assert (shown["problem"], set(shown["files"])) == ("", {"driving", "source"})
    assert probe(desk.file(shown["files"]["driving"].split("/")[-1].split("?")[0])).frame_count == 3
    assert "gone.mp4" in author.get("/study/cell/b").json()["problem"]


def test_what_went_wrong_is_said(author: Any, desk: StudyDesk) -> None:
    desk.command = (sys.executable, "-c", "import sys; sys.exit('no space left: make room')")
    author.post("/study/start")
    until(lambda: author.get("/study/state").json()["failed"])
    assert author.get("/study/state").json()["says"] == "no space left: make room"


def test_nothing_is_said_twice_where_nothing_is_new(author: Any, desk: StudyDesk) -> None:
    answer = author.get("/study/state")
    tag = answer.headers["etag"].strip('"')
    again = author.get("/study/state", params={"seen": tag})
    assert (again.status_code, again.content) == (204, b"")
    animate_cells(desk.study, desk.out, only="anna__talk__copy")
    other = author.get("/study/state", params={"seen": tag})
    assert other.status_code == 200 and other.headers["etag"].strip('"') != tag


def test_of_what_a_long_run_says_the_end_alone_is_read(desk: StudyDesk) -> None:
    desk.command = (sys.executable, "-c", "print('x' * 20_000_000); print('the end')")
    with desk:
        desk.start()
        until(lambda: not desk.running)
        tracemalloc.start()
        assert desk.state()["says"] == "the end"
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < 10_000_000


def test_the_page_shows_it_to_eyes_and_keys(address: str, desk: StudyDesk, author: Any) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("there is no chromium: apt install chromium")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    async def check(key: str, _who: str) -> None:  # as where raters are received, too
        if key != desk.key:
            raise HTTPException(401)

    desk.check = check
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = driver.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(90_000)
        page.goto(f"{address}/study#{desk.key}")
        posted: list[str] = []
        page.on("request", lambda each: posted.extend([each.url] * (each.method == "POST")))
        page.get_by_role("button", name="Start").dblclick()
        page.locator("[data-state=done] video").first.wait_for()
        page.get_by_text(re.compile("Making anna__turn__copy, 00:07 left")).wait_for()
        assert len(posted) == 1
        desk.study.path.with_name("gate").touch()
        page.get_by_text("4 of 4 cells made").wait_for()
        for shown in ("none", ""):  # what is out of sight holds no video
            page.evaluate(f"document.querySelector('.an-grid').style.display = '{shown}'")
            page.locator(".an-place video").first.wait_for(
                state="attached" if shown == "" else "detached"
            )
        assert page.get_by_role("link", name="Raters").get_attribute("href").startswith("author#")
        page.get_by_role("button", name="berta__turn__copy: done").focus()
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowLeft")
        focused = "document.activeElement.getAttribute('aria-label')"
        assert page.evaluate(focused) == "anna__talk__copy: done"
        page.keyboard.press("Enter")
        page.get_by_role("region", name="Cell").get_by_text("Driving").wait_for()
        assert page.get_by_role("region", name="Cell").locator("video").count() == 2
        options = {"runOnly": ["wcag2a", "wcag2aa", "best-practice"]}
        found = axe.run(page, options=options).response["violations"]
        assert [f"{each['id']}: {each['nodes'][0]['html']}" for each in found] == []
        page.goto(f"{address}/study#wrong")
        page.reload()
        page.get_by_text("needs the link that studykit serve prints").wait_for()
        browser.close()
