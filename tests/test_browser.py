"""Whole sessions in a real browser, by keys and by clicks: in JupyterLab and on the server."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studykit.clips.animate import animate_cells
from studykit.clips.folder import study_folder
from studykit.media import video
from studykit.ratings.store import open_store
from studykit.study.file import load_study

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium: apt install chromium")

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "3_rate.ipynb"
METHODS = ("kiwimethod", "mangomethod", "papayamethod")
HIDDEN = (*METHODS, "quillsource", "plumsource", "wavedriving", "noddriving", "zebrastudy")
HIDDEN += ("frontal", "stylised")
SENT = ("naturalness", "ftypisom")  # words and clips: all was overheard
TRIALS = 18  # 12 conditions, 2 repeats, 1 reference, 2 gold clips and 1 for practice
SIZES = {"wide": (1280, 800), "phone": (390, 844)}
FRAME = 1000 / 25  # milliseconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, portrait: np.ndarray) -> Path:
    """A study of 12 tiny clips whose names occur nowhere else, as acr.yaml and as dcr.yaml."""
    folder = tmp_path_factory.mktemp("rated")
    video.write_image(folder / "quillsource.png", portrait[:400, :400])
    video.write_image(folder / "plumsource.png", portrait[:380, 20:400])
    for name, step in (("wavedriving", 2), ("noddriving", 3)):
        wide = np.asarray(Image.fromarray(portrait[:400, :400]).resize((96 + 12 * step, 96)))
        slid = (wide[:, step * (12 - i) :][:, :96] for i in range(12))
        video.write_video(folder / f"{name}.mp4", slid, frame_rate=Fraction(25))
    for task in ("acr", "dcr"):
        (folder / f"{task}.yaml").write_text(
            "name: zebrastudy\n"
            "size: 96\n"
            "crop: centre\n"
            "sources: {frontal: [quillsource.png], stylised: [plumsource.png]}\n"
            "drivings: {frontal: [wavedriving.mp4], stylised: [noddriving.mp4]}\n"
            f"methods: [{', '.join(f'{{name: {name}, method: copy}}' for name in METHODS)}]\n"
            f"ratings: {{task: {task}, training: 1}}\n"
        )
    study = load_study(folder / "acr.yaml")
    animate_cells(study, study_folder(study, folder / "out"))
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Where pictures of each step go; STUDYKIT_SHOTS names a folder to look at them."""
    folder = Path(os.environ.get("STUDYKIT_SHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def running(*command: str, cwd: Path) -> Iterator[subprocess.Popen]:
    """Run a server of Jupyter's with settings and data of its own, and stop all of it."""
    own = {name: str(cwd / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "HOME")}
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env=os.environ | own | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=(cwd / "server.log").open("w"),
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Traffic:
    """All that a page received and sent, but for Jupyter's own scripts and style sheets."""

    def __init__(self, page: Any) -> None:
        self.bodies: list[bytes] = []
        self.requests: list[Any] = []
        self.origins: set[str] = set()
        page.on("websocket", self._websocket)
        page.on("request", self._request)
        page.route("**/rate/file/*", self._file)

    def _websocket(self, socket: Any) -> None:
        for event in ("framereceived", "framesent"):
            socket.on(event, lambda frame: self.bodies.append(_bytes(frame)))

    def _request(self, request: Any) -> None:
        self.bodies.append(f"{request.url} {request.post_data or ''}".encode())
        if request.url.startswith("http"):
            self.origins.add(request.url.split("/")[2])
            if not re.search(r"/static/|/extensions/|/themes/", request.url):
                self.requests.append(request)

    def _file(self, route: Any) -> None:
        with contextlib.suppress(playwright.Error):  # the page was closed meanwhile
            answer = route.fetch()
            self.bodies.append(answer.body())
            route.fulfill(response=answer)

    def names(self, *words: str) -> set[str]:
        """Return those of the words that went over the network, in a body or a frame."""
        for request in self.requests:
            with contextlib.suppress(playwright.Error):  # such as of a redirect
                self.bodies.append(request.response().body())
        everything = b"\n".join(self.bodies).lower()
        return {word for word in words if word.encode() in everything}


def _bytes(frame: str | bytes) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame


class Rater:
    """What a rater does on the page, found by role and name as a screen reader finds it."""

    def __init__(self, page: Any, shots: Path, where: str) -> None:
        self.page, self.shots, self.where, self.count = page, shots, where, 0
        self.sources, self.problems = "", []

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def look(self, step: str) -> None:
        """Keep the page's source, and a picture of it in both sizes."""
        self.sources += self.page.content()
        self.count += 1
        for name, (width, height) in reversed(SIZES.items()):
            self.page.set_viewport_size({"width": width, "height": height})
            self.page.wait_for_timeout(150)
            path = self.shots / f"{self.where}-{self.count:02}-{step}-{name}.png"
            self.page.screenshot(path=path)
            for theme in ("light", "dark"):
                self.page.emulate_media(color_scheme=theme)
                self.problems += [f"{step}, {name}, {theme}: {it}" for it in kept_from(self.page)]

    def agree(self) -> None:
        self.page.get_by_role("heading", name="How do these clips look?").wait_for()
        self.look("consent")
        self.press("I agree, and take part")
        self.page.get_by_role("group", name="How old are you?").wait_for()
        self.page.get_by_role("radio", name="25 to 34").check()
        self.look("questions")
        self.press("Next")

    def begin(self) -> None:
        self.page.get_by_role("button", name="Begin", exact=True).wait_for()
        self.look("begin")
        self.press("Begin")

    def wait_for_trial(self, done: int) -> None:
        bar = f'.rp-loaded [role="progressbar"][aria-valuenow="{done}"]'
        self.page.locator(bar).wait_for(state="attached")

    def watch(self) -> None:
        self.page.locator(".rp-watched").wait_for()

    def answer_by_keys(self, keys: str) -> None:
        self.watch()
        for key in keys:
            self.page.keyboard.press(key)
        self.page.keyboard.press("Enter")

    def answer_by_clicks(self, words: str) -> None:
        self.watch()
        for group, word in zip(CRITERIA, words.split(), strict=True):
            choice = self.page.get_by_role("radiogroup", name=re.compile(group))
            if not choice.is_visible():
                self.page.get_by_role("button", name=re.compile(group)).click()
            choice.get_by_role("radio", name=re.compile(word)).check()
        self.press("Next")


def kept_from(page: Any) -> list[str]:
    """Return what axe finds that would keep somebody from using the page."""
    Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe
    page.wait_for_timeout(250)  # until colours have changed
    found = Axe().run(page, context=".rp").response["violations"]
    return [
        f"{rule['id']}: {rule['nodes'][0]['html'][:200]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


CRITERIA = ("Naturalness", "Facial structure", "Freedom from jitter", "Consistency")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_up(address: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"no answer from {address}"
            time.sleep(0.2)


def values_by_trial(store: Path) -> dict[int, list[int]]:
    with open_store(store) as opened:
        table = opened.ratings("zebrastudy")
    assert table["rater"].nunique() == 1
    return {trial: list(rows["value"]) for trial, rows in table.groupby("trial")}


KERNEL = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
RUN_ALL = "void jupyterapp.commands.execute('notebook:run-all-cells')"


@contextlib.contextmanager
def jupyterlab(notebook: str, root: Path, cwd: Path) -> Iterator[str]:
    """Serve a folder by JupyterLab; give the address of one of its notebooks."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    options = [
        f"--port={port}",
        "--no-browser",
        "--allow-root",
        f"--ServerApp.root_dir={root}",
        "--IdentityProvider.token=",
        "--ServerApp.disable_check_xsrf=True",
        "--LabApp.expose_app_in_browser=True",
    ]
    with running("jupyterlab", *options, cwd=cwd):
        wait_until_up(f"{address}/api")
        yield f"{address}/lab/tree/{notebook}"


def run_all(page: Any) -> None:
    """Run an open notebook's cells, as soon as its kernel is there."""
    page.wait_for_function(f"{KERNEL}?.connectionStatus === 'connected'")
    page.evaluate("void jupyterapp.commands.execute('application:toggle-left-area')")
    page.evaluate(RUN_ALL)


def test_a_session_in_jupyterlab_outlives_a_kernel_restart(
    folder: Path, tmp_path: Path, browser: Any, shots: Path
) -> None:
    store = tmp_path / "ratings.sqlite"
    parameters = {"study": folder / "acr.yaml", "out": folder / "out", "rater": "", "store": store}
    notebook = json.loads(NOTEBOOK.read_text())
    for cell in notebook["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            cell["source"] = "\n".join(f"{k} = {str(v)!r}" for k, v in parameters.items())
    root = tmp_path / "root"
    root.mkdir()
    (root / "3_rate.ipynb").write_text(json.dumps(notebook))
    with jupyterlab("3_rate.ipynb", root, tmp_path) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        traffic = Traffic(page)
        rater = Rater(page, shots, "lab")
        page.goto(address)
        run_all(page)
        rater.agree()
        rater.begin()
        rater.wait_for_trial(0)
        rater.look("practice")
        page.get_by_role("button", name="Half speed").click()
        page.get_by_role("button", name="One frame on").click()
        rater.press("Play again")
        rater.answer_by_clicks("Good Fair Poor Bad")
        rater.begin()
        for done in range(1, 8):
            rater.wait_for_trial(done)
            rater.answer_by_keys("2345")
        rater.wait_for_trial(8)
        rater.look("trial")
        rater.press("Pause")
        page.get_by_role("heading", name="Paused").wait_for()
        rater.look("paused")

        page.evaluate(f"{KERNEL}.restart()")
        page.evaluate(RUN_ALL)
        rater.page.get_by_role("button", name="Go on", exact=True).wait_for()
        rater.look("known")
        rater.press("Go on")
        page.get_by_role("heading", name="Paused").wait_for()
        rater.press("Go on")
        rater.wait_for_trial(8)
        rater.watch()
        rater.look("watched")
        page.evaluate(f"{KERNEL}.restart()")
        rater.answer_by_keys("5432")
        page.get_by_role("alert").filter(has_text="Not stored yet").wait_for(timeout=10_000)
        rater.look("not-stored")
        page.evaluate(RUN_ALL)
        rater.press("Go on")
        rater.wait_for_trial(8)
        rater.watch()
        page.keyboard.press("Enter")  # the answers are still there

        for done in range(9, TRIALS):
            rater.wait_for_trial(done)
            rater.answer_by_keys("1234")
        page.get_by_role("heading", name="Thank you!").wait_for()
        rater.look("finished")
        assert traffic.names(*SENT) == set(SENT)
        assert traffic.names(*HIDDEN) == set()
        assert [word for word in HIDDEN if word in rater.sources.lower()] == []
        assert "\n".join(rater.problems) == ""
        page.close()
    values = values_by_trial(store)
    expected = [[4, 3, 2, 1], *[[2, 3, 4, 5]] * 7, [5, 4, 3, 2], *[[1, 2, 3, 4]] * 9]
    assert [sorted(values), *values.values()] == [list(range(TRIALS)), *expected]


@pytest.fixture(scope="module")
def notebook(folder: Path, tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[Any]:
    """A notebook of two cells, the page that animates and the clips of a study, run and open."""
    import nbformat.v4 as v4

    cells = (
        "from studykit import animate_page, load_results\nanimate_page()",
        "from studykit.report import play\nplay(load_results('../acr.yaml', '../out'))",
    )
    (folder / "notebooks").mkdir()
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    written = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells], metadata=kernel)
    (folder / "notebooks" / "both.ipynb").write_text(json.dumps(written))
    cwd = tmp_path_factory.mktemp("jupyter")
    with jupyterlab("notebooks/both.ipynb", folder, cwd) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(120_000)
        page.goto(address)
        run_all(page)
        yield page
        page.close()


def test_a_notebook_plays_the_clips_of_a_study_and_holds_none_of_them(
    notebook: Any, folder: Path
) -> None:
    notebook.wait_for_function(
        """() => {
            const clips = [...document.querySelectorAll("td video")];
            return clips.length === 12 && clips.every((clip) => clip.videoWidth === 96);
        }"""
    )
    assert "data:" not in notebook.locator("td video").first.get_attribute("src")


def test_in_a_notebook_a_photograph_becomes_a_clip_by_messages_alone(
    notebook: Any, folder: Path, tmp_path: Path, shots: Path
) -> None:
    page = notebook
    elsewhere: list[str] = []
    page.on("request", lambda asked: "/api/uploads" in asked.url and elsewhere.append(asked.url))

    def bring(card: str, path: Path) -> Any:
        region = page.get_by_role("region", name=card)
        region.locator("input[type=file]").set_input_files(path)
        return region

    noise = np.random.default_rng(1).integers(0, 255, (1200, 1200, 3), np.uint8)
    video.write_image(tmp_path / "large.png", noise)
    assert (tmp_path / "large.png").stat().st_size > 4_000_000  # more than three pieces
    picture = bring("Picture", tmp_path / "large.png")
    picture.locator(".an-square").wait_for()
    page.wait_for_function("document.querySelector('.an-picture img')?.naturalWidth === 1200")
    picture.get_by_role("button", name="Replace").click()
    (tmp_path / "bad.png").write_bytes(b"<svg onload='alert(1)'></svg>")
    bring("Picture", tmp_path / "bad.png")
    said = "bad.png is not an image that can be read: save it as PNG, JPEG or WebP"
    picture.get_by_role("alert").filter(has_text=said).wait_for()

    bring("Picture", folder / "quillsource.png")
    bring("Driving video", folder / "wavedriving.mp4")
    page.locator(".an-strip[src]").wait_for()
    page.get_by_role("radio", name="Warp").check()
    page.get_by_role("button", name="Animate", exact=True).click()
    page.get_by_role("button", name="Yes, I may").click()
    page.get_by_role("link", name=re.compile("^MP4 the clip")).wait_for()
    page.wait_for_function(
        """() => {
            const clips = [...document.querySelectorAll(".an-stages video")];
            return clips.length === 2 && clips.every((clip) => clip.readyState === 4);
        }"""
    )
    page.screenshot(path=shots / "notebook-result.png")
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("^MP4 the clip")).click()
    download.value.save_as(tmp_path / "taken.mp4")
    info = video.probe(tmp_path / "taken.mp4")
    assert (info.frame_count, info.frame_rate, info.width) == (12, 25, 256)
    assert kept_from(page) == []
    assert elsewhere == []


def test_a_session_on_the_server_goes_on_from_a_computer_to_a_phone(
    folder: Path, tmp_path: Path, browser: Any, shots: Path
) -> None:
    store = tmp_path / "ratings.sqlite"
    with serving(folder / "dcr.yaml", store, tmp_path, 0) as (address, _):
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        traffic = Traffic(page)
        rater = Rater(page, shots, "served")
        page.goto(address)
        rater.agree()
        rater.begin()
        rater.wait_for_trial(0)
        rater.watch()
        rater.look("practice")
        assert abs(distance_after_a_push(page)) < FRAME / 2
        rater.answer_by_keys("1111")
        rater.begin()
        drifts = []
        for done in range(1, 9):
            rater.wait_for_trial(done)
            drifts += drifts_of_one_play(page)
            if done == 4:
                rater.look("trial")
            rater.answer_by_clicks("Excellent Good Fair Poor")
        rater.wait_for_trial(9)
        rater.press("Back to the last clip")
        rater.wait_for_trial(8)
        rater.watch()
        for key in ("1", "2", "Backspace", "3", "4", "5", "Enter"):
            page.keyboard.press(key)
        rater.wait_for_trial(9)
        own_address = page.url
        origin = address.split("/join/")[0]
        assert re.fullmatch(rf"{re.escape(origin)}/rate#[\w-]{{24}}", own_address)
        page.close()

        phone = browser.new_context(
            viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True
        )
        rater.page = page = phone.new_page()
        of_phone = Traffic(page)
        page.goto(own_address)
        rater.press("Go on")
        for done in range(9, TRIALS):
            rater.wait_for_trial(done)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            rater.answer_by_clicks("Bad Poor Fair Good")
        page.get_by_role("heading", name="Thank you!").wait_for()
        rater.look("finished")
        for seen in (traffic, of_phone):
            assert seen.names(*SENT) == set(SENT)
            assert seen.names(*HIDDEN) == set()
            assert seen.origins == {address.split("/")[2]}  # nobody else learns who rates
        assert [word for word in HIDDEN if word in rater.sources.lower()] == []
        assert "\n".join(rater.problems) == ""
        phone.close()
    values = values_by_trial(store)
    expected = [[1] * 4, *[[5, 4, 3, 2]] * 7, [1, 3, 4, 5], *[[1, 2, 3, 4]] * 9]
    assert [sorted(values), *values.values()] == [list(range(TRIALS)), *expected]
    assert len(drifts) > 40
    print(f"drift of two videos: {np.percentile(drifts, [50, 95, 100]).round(1)} ms")
    assert np.percentile(drifts, 95) < FRAME


@contextlib.contextmanager
def serving(study: Path, store: Path, cwd: Path, port: int) -> Iterator[tuple[str, str]]:
    """Serve a study's pages; give the addresses for a panel and for the author."""
    command = ["studykit", "serve", str(study), "--out", str(study.parent / "out")]
    with running(*command, "--store", str(store), "--port", str(port), cwd=cwd) as server:
        said = "".join(server.stdout.readline() for _ in range(4))
        places = ("/join/", "/author#")
        yield tuple(re.search(rf"http://\S+{place}\S+", said)[0] for place in places)


def test_a_session_by_keyboard_alone_outlives_the_server(
    folder: Path, tmp_path: Path, browser: Any, shots: Path
) -> None:
    study = folder / "short.yaml"
    rules = "training: 2, trials: 3, repeats: 0, references: 0, gold: 0, feedback: true"
    text = (folder / "acr.yaml").read_text().replace("training: 1", f"{rules}, checks: [reading]")
    study.write_text(text)
    store, port = tmp_path / "ratings.sqlite", free_port()
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    rater = Rater(page, shots, "keys")
    keys = page.keyboard

    def reach(name: str, role: str = "button") -> None:
        """Go to something by Tab, as somebody without a mouse does."""
        wanted = page.get_by_role(role, name=re.compile(name)).first
        wanted.wait_for()
        for _ in range(40):
            if wanted.evaluate("node => node === document.activeElement"):
                return
            keys.press("Tab")
        raise AssertionError(f"{name} is not reached by Tab")

    with serving(study, store, tmp_path, port) as (panel, _):
        page.goto(panel)
        reach("I agree")
        keys.press("Enter")
        reach("No answer", "radio")
        keys.press("ArrowRight")
        reach("Next")
        keys.press("Enter")
        page.get_by_role("heading", name="Can you see everything?").wait_for()
        rater.look("checks")
        keys.type("abcde")
        keys.press("Enter")
        page.get_by_role("button", name="Begin").wait_for()
        keys.press("Enter")
        rater.wait_for_trial(0)
        rater.answer_by_keys("2345")
        rater.wait_for_trial(1)
        rater.answer_by_keys("5555")
        page.get_by_role("heading", name="About this clip").wait_for()
        rater.look("feedback")
        keys.press("Enter")
        page.get_by_role("button", name="Begin").wait_for()
        keys.press("Enter")
        rater.wait_for_trial(2)
        rater.watch()
        own_address = page.url
    # The server is gone: what is answered now waits for it.
    for key in ("1", "2", "3", "4", "Enter"):
        keys.press(key)
    page.get_by_role("alert").filter(has_text="Not stored yet").wait_for(timeout=10_000)
    rater.look("waiting")
    with serving(study, store, tmp_path, port) as (_, author):
        rater.wait_for_trial(3)
        page.get_by_role("alert").wait_for(state="hidden")
        assert page.url == own_address
        for done in (3, 4):
            rater.wait_for_trial(done)
            rater.answer_by_keys("4321")
        page.get_by_role("heading", name="Thank you!").wait_for()
        rater.look("thanks")
        page.close()

        page = browser.new_page(viewport={"width": 1280, "height": 800})
        seen = Rater(page, shots, "author")
        page.goto(author)
        page.get_by_role("heading", name="zebrastudy").wait_for()
        row = page.get_by_role("row").filter(has_text="5 of 5")
        assert "finished" in row.inner_text() and "reading 0 %" in row.inner_text()
        page.get_by_role("spinbutton", name="Raters").fill("2")
        page.get_by_role("button", name="Make a link for each").click()
        page.get_by_role("textbox", name="New links").wait_for()
        seen.look("links")
        assert page.get_by_role("textbox", name="New links").input_value().count("/rate#") == 2
        page.close()
    assert rater.problems == seen.problems == []
    values = values_by_trial(store)
    assert list(values.values()) == [
        [2, 3, 4, 5],
        [5] * 4,
        [1, 2, 3, 4],
        [4, 3, 2, 1],
        [4, 3, 2, 1],
    ]


def distance_after_a_push(page: Any) -> float:
    """Push one of two videos on by 100 ms; return how far it is ahead, in ms, at the end."""
    page.get_by_role("button", name="Half speed").click()
    return page.evaluate(
        """async () => {
            const [pushed, other] = document.querySelectorAll(".rp video");
            document.querySelector(".rp-play").click();
            await new Promise((resolve) => setTimeout(resolve, 150));
            pushed.currentTime += 0.1;
            let apart = 0;
            while (!other.ended) {
                if (!pushed.ended) apart = 1000 * (pushed.currentTime - other.currentTime);
                await new Promise((resolve) => setTimeout(resolve, 10));
            }
            return apart;
        }"""
    )


def drifts_of_one_play(page: Any) -> list[float]:
    """Return by how many milliseconds the two videos showed each frame at different moments."""
    shown = page.evaluate(
        """async () => {
            const videos = [...document.querySelectorAll(".rp video")];
            document.querySelector(".rp-play").click();
            await new Promise((resolve) => setTimeout(resolve, 50));
            const frames = videos.map((video) => new Promise((resolve) => {
                const seen = {};
                const next = (now, { mediaTime, expectedDisplayTime }) => {
                    seen[mediaTime.toFixed(3)] = expectedDisplayTime;
                    video.requestVideoFrameCallback(next);
                };
                video.requestVideoFrameCallback(next);
                video.addEventListener("ended", () => resolve(seen), { once: true });
            }));
            return Promise.all(frames);
        }"""
    )
    both = shown[0].keys() & shown[1].keys()
    return [abs(shown[0][time] - shown[1][time]) for time in both]
