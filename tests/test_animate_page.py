"""The page that animates, in a real browser, as somebody uses it who has never seen it."""

import io
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studykit.media import video
from studykit.pages.uploads import UploadLimits
from studykit.study.file import load_study
from tests.test_animate_api import served

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium: apt install chromium")

FRAMES = 12
ARGUMENTS = (
    "--no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --use-fake-ui-for-media-stream "
    "--use-fake-device-for-media-stream"
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(UploadLimits(away=5.0, seconds=10)) as (address, _):
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, empty; at the end nothing may have gone wrong in it, nor been asked elsewhere."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, permissions=["camera", "microphone"]
    )
    page = context.new_page()
    page.set_default_timeout(90_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: "Content Security" in said.text and wrong.append(said.text))
    page.on("request", lambda asked: None if _here(asked.url, address) else wrong.append(asked.url))
    page.goto(address)
    page.get_by_role("button", name="Animate", exact=True).wait_for()
    yield page
    context.close()
    assert wrong == []


def _here(url: str, address: str) -> bool:
    return url.startswith((address, "blob:", "data:"))


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory,
    portrait: np.ndarray,
    make_driving: Callable[..., Path],
) -> dict[str, Path]:
    """Two faces in one picture of 256 x 128 pixels, and drivings."""
    folder = tmp_path_factory.mktemp("brought")
    face = Image.fromarray(portrait[:400, :400]).resize((128, 128))
    pair = Image.new("RGB", (256, 128))
    pair.paste(face, (0, 0))
    pair.paste(face, (128, 0))
    pair.save(folder / "pair.png")
    still = np.asarray(face)
    video.write_video(folder / "long.mp4", [still] * 200, frame_rate=Fraction(25))
    (folder / "bad.png").write_bytes(b"<svg onload='alert(1)'></svg>")
    return {
        "source": folder / "pair.png",
        "driving": make_driving(folder / "talk.mp4", FRAMES),
        "long": folder / "long.mp4",
        "bad": folder / "bad.png",
    }


def card(page: Any, name: str) -> Any:
    return page.get_by_role("region", name=name)


def bring(page: Any, files: dict[str, Path], driving: str = "driving") -> None:
    card(page, "Picture").locator("input[type=file]").set_input_files(files["source"])
    card(page, "Driving video").locator("input[type=file]").set_input_files(files[driving])
    page.locator(".an-strip[src]").wait_for()


def animate(page: Any) -> None:
    page.get_by_role("button", name="Animate", exact=True).click()
    may = page.get_by_role("button", name="Yes, I may")
    if page.evaluate("localStorage.getItem('may animate')") is None:
        may.click()


def until_done(page: Any, count: int = 1) -> None:
    page.get_by_role("group", name="Animations").get_by_role("button").nth(count - 1).wait_for()
    page.get_by_role("heading", name="Download").wait_for(timeout=240_000)


def taken(page: Any, name: str, into: Path) -> Path:
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile(f"^{name}")).click()
    path = into / download.value.suggested_filename
    download.value.save_as(path)
    return path


def square(page: Any, name: str) -> dict[str, float]:
    return card(page, name).locator(".an-square").bounding_box()


def test_from_a_photograph_to_a_clip_and_all_that_is_taken_along(
    page: Any, files: dict[str, Path], tmp_path: Path
) -> None:
    bring(page, files)
    faces = card(page, "Picture").get_by_role("button", name=re.compile("^Face"))
    assert faces.count() == 2
    for number, half in ((0, "left"), (1, "right")):
        faces.nth(number).click()
        page.wait_for_function(
            "half => (parseFloat(document.querySelector('.an-square').style.left) < 45) ==="
            " (half === 'left')",
            arg=half,
        )
    chosen = square(page, "Picture")

    box = card(page, "Picture").locator(".an-square")  # dragged with a mouse ...
    middle = chosen["x"] + chosen["width"] / 2, chosen["y"] + chosen["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 15, middle[1] + 4, steps=3)
    page.mouse.up()
    dragged = square(page, "Picture")
    assert dragged["x"] == pytest.approx(chosen["x"] - 15, abs=4)
    box.focus()
    page.keyboard.press("-")  # ... and made smaller by keys
    assert square(page, "Picture")["width"] < dragged["width"]

    start = page.get_by_role("slider", name="Start of the part")
    start.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.get_by_text(f"{FRAMES - 2} frames at 25 a second").wait_for()
    page.get_by_role("radio", name="Warp").check()
    page.get_by_text(f"{FRAMES - 2} frames: about").wait_for()
    animate(page)
    until_done(page)

    for name, wide in (("MP4 the clip", 256), ("MP4, side", 3 * 256)):
        info = video.probe(taken(page, name, tmp_path))
        assert (info.frame_count, info.frame_rate, info.width) == (FRAMES - 2, 25, wide)
    with Image.open(taken(page, "GIF", tmp_path)) as gif:
        assert gif.n_frames > 1
    with Image.open(taken(page, "PNG", tmp_path)) as still:
        assert still.text["Comment"].startswith("Synthetic")
    with zipfile.ZipFile(io.BytesIO(taken(page, "Make a study", tmp_path).read_bytes())) as found:
        found.extractall(tmp_path / "study")
    study = load_study(tmp_path / "study" / "study.yaml")
    assert study.drivings[0].view.start == pytest.approx(0.08)

    page.get_by_role("button", name="Whole picture").click()
    until_done(page, 2)
    page.get_by_text("Clip: warp, whole picture").wait_for()
    assert video.probe(taken(page, "MP4 the clip", tmp_path)).width == 256


def test_two_methods_are_compared_in_step_and_by_a_wipe(page: Any, files: dict[str, Path]) -> None:
    bring(page, files)
    for count, method in enumerate(("Still", "First Order Motion Model"), start=1):
        page.get_by_role("radio", name=method).check()
        animate(page)
        until_done(page, count)
        page.get_by_role("group", name="Animations").locator("[aria-pressed=true]").wait_for()
    page.get_by_role("combobox", name="Compare with").select_option(index=1)
    page.get_by_role("button", name="Wipe").click()
    wipe = page.get_by_role("slider", name=re.compile("^Where 2 fomm ends"))
    wipe.fill("20")
    assert (
        page.evaluate(
            "getComputedStyle(document.querySelector('.an-wipe')).getPropertyValue('--at')"
        )
        == "20%"
    )
    page.get_by_role("button", name="Pause").or_(
        page.get_by_role("button", name="Play")
    ).first.wait_for()
    page.get_by_role("button", name="Frame on").click()
    times = page.evaluate(
        "[...document.querySelectorAll('.an-stage video')].map(v => v.currentTime)"
    )
    assert len(times) == 3
    assert max(times) - min(times) < 0.02


def test_an_animation_is_stopped_half_way_and_the_files_stay(
    page: Any, files: dict[str, Path]
) -> None:
    bring(page, files, "long")
    page.get_by_role("radio", name="Warp").check()
    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("Size of the clip").select_option("512")
    animate(page)
    page.get_by_text(re.compile(r"Frame \d+ of 200")).wait_for()
    page.locator(".an-frames img").first.wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped. Nothing of it was kept.").wait_for(timeout=3000)
    page.get_by_text("Your files are still here").wait_for()
    page.get_by_role("button", name="Remove").click()
    page.locator(".an-results").wait_for(state="hidden")


def test_what_can_not_be_used_is_said_and_the_other_file_stays(
    page: Any, files: dict[str, Path]
) -> None:
    bring(page, files)
    picture = card(page, "Picture")
    picture.get_by_role("button", name="Replace").click()
    picture.locator("input[type=file]").set_input_files(files["bad"])
    alert = picture.get_by_role("alert")
    alert.wait_for()
    assert alert.inner_text() == (
        "bad.png is not an image that can be read: save it as PNG, JPEG or WebP"
    )
    assert card(page, "Driving video").get_by_text("talk.mp4").is_visible()
    page.get_by_text("Bring a picture first.").wait_for()


def test_a_page_that_is_loaded_again_shows_what_was_brought(
    page: Any, files: dict[str, Path]
) -> None:
    bring(page, files)
    page.reload()
    card(page, "Picture").get_by_text("pair.png").wait_for()
    card(page, "Driving video").get_by_text("talk.mp4").wait_for()
    card(page, "Picture").get_by_role("button", name="Replace").click()
    page.get_by_text("Bring a picture first.").wait_for()


def test_a_picture_comes_from_the_clipboard_or_the_camera(
    page: Any, files: dict[str, Path]
) -> None:
    page.evaluate(
        """async (bytes) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "pasted.png", { type: "image/png" }));
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
        }""",
        list(files["source"].read_bytes()),
    )
    card(page, "Picture").get_by_text("pasted.png").wait_for()
    card(page, "Picture").get_by_role("button", name="Replace").click()
    page.get_by_role("button", name="Take a photograph").click()
    page.get_by_role("button", name="Take the photograph").click()
    card(page, "Picture").get_by_text("photograph.png").wait_for()
    page.get_by_role("button", name="Record with the camera").click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.get_by_role("button", name="Stop (1 s)").click()
    card(page, "Driving video").get_by_text(re.compile("recording")).wait_for()


def test_what_is_dropped_anywhere_goes_where_it_belongs(page: Any, files: dict[str, Path]) -> None:
    page.evaluate(
        """(all) => {
          const data = new DataTransfer();
          for (const [name, type, bytes] of all)
            data.items.add(new File([new Uint8Array(bytes)], name, { type }));
          const drop = new DragEvent("drop", { dataTransfer: data, bubbles: true });
          document.querySelector(".an-card").dispatchEvent(drop);
        }""",
        [
            ("talk.mp4", "video/mp4", list(files["driving"].read_bytes())),
            ("pair.png", "image/png", list(files["source"].read_bytes())),
        ],
    )
    card(page, "Driving video").get_by_text("talk.mp4", exact=True).wait_for()
    card(page, "Picture").get_by_text("pair.png", exact=True).wait_for()


def test_all_of_it_is_done_by_keys(page: Any) -> None:
    def reach(name: str, role: str = "button") -> None:
        wanted = page.get_by_role(role, name=name, exact=role == "button").first
        wanted.wait_for()
        for _ in range(80):
            if wanted.evaluate("node => node === document.activeElement"):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not lead to {name}")

    reach("Example astronaut")
    page.keyboard.press("Enter")
    card(page, "Picture").locator(".an-square").wait_for()
    reach("Example frontal-driving-1")
    page.keyboard.press("Enter")
    page.locator(".an-strip[src]").wait_for()
    reach("Automatic", "radio")
    page.keyboard.press("ArrowUp")  # to the last one
    assert page.get_by_role("radio", name="Still").is_checked()
    reach("Animate")
    page.keyboard.press("Enter")
    reach("Yes, I may")
    page.keyboard.press("Enter")
    until_done(page)
    reach("Play" if page.get_by_role("button", name="Play", exact=True).count() > 1 else "Pause")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_kept_from_anybody(browser: Any, address: str, theme: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})  # axe itself adds styles
    page.set_default_timeout(90_000)
    page.goto(address)
    page.get_by_role("button", name="Animate", exact=True).wait_for()
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def clean(step: str) -> None:
        found = axe.run(page, options={"runOnly": ["wcag2a", "wcag2aa", "best-practice"]})
        said = [
            f"{each['id']}: {each['nodes'][0]['html']}" for each in found.response["violations"]
        ]
        assert said == [], step

    page.emulate_media(color_scheme=theme)
    page.wait_for_timeout(500)  # colours change slowly
    clean("empty")
    page.get_by_role("button", name="Example astronaut").click()
    page.get_by_role("button", name="Example frontal-driving-1").click()
    page.locator(".an-strip[src]").wait_for()
    page.get_by_role("radio", name="Warp").check()
    for words in ("Settings", "Fine tuning"):
        page.get_by_text(words, exact=True).click()
    clean("files")
    page.get_by_role("button", name="Animate", exact=True).click()
    page.get_by_role("button", name="Yes, I may").wait_for()
    clean("question")
    page.get_by_role("button", name="Yes, I may").click()
    until_done(page)
    clean("result")
    page.goto(f"{address}/docs")
    page.get_by_role("heading", name="What can be asked for").wait_for()
    clean("the API")
    page.close()


@pytest.mark.parametrize("size", [(768, 1024), (390, 844)])
def test_nothing_is_wider_than_a_small_screen(page: Any, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.get_by_role("button", name="Example astronaut").click()
    page.locator(".an-square").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_a_visitor_who_was_away_too_long_finds_their_files_again(
    page: Any, files: dict[str, Path]
) -> None:
    bring(page, files)
    before = page.evaluate("fetch('api/state').then(r => r.json())")["uploads"]
    page.context.set_offline(True)
    page.wait_for_timeout(9000)
    page.context.set_offline(False)
    page.wait_for_function(
        "async (old) => { const {uploads} = await fetch('api/state').then(r => r.json());"
        " const ids = Object.keys(uploads); return ids.length === 2 && !ids.includes(old); }",
        arg=next(iter(before)),
        polling=1000,
    )
