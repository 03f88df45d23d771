"""The kernel side of pages in a notebook: what they tell a browser, and what they do when told."""

import json
import os
import queue
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from studykit.errors import StudyError
from studykit.media import video
from studykit.pages.widget import AnimatePage, RatingPage, animate_page, rating_page
from studykit.ratings.store import open_store
from tests.rated_study import ASKED, Page, made_study


class Browser(Page):
    """A page in a notebook, whose messages its widget gets."""

    def __init__(self, page: RatingPage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.page = page
        self.sent: list[tuple[dict, list[bytes] | None]] = []
        monkeypatch.setattr(page, "send", lambda *message: self.sent.append(message))
        self.hello()

    def send(self, message: dict) -> dict:
        self.page._handle_custom_msg(message, [])
        json.dumps(self.sent[-1][0])  # as it goes over the wire
        return self.sent[-1][0]

    def medium(self, slot: str) -> bytes:
        self.ask_for(slot)
        (data,) = self.sent[-1][1]
        return data


@pytest.fixture
def study(small_inputs: Path, tmp_path: Path) -> Path:
    return made_study(small_inputs, tmp_path)


@pytest.fixture
def open_page(study: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Browser]]:
    """Open the page of the study, as notebook 3 does."""
    pages = []

    def open_page(**settings: str) -> Browser:
        pages.append(rating_page(study, study.parent / "out", **settings))
        return Browser(pages[-1], monkeypatch)

    yield open_page
    for page in pages:
        page.close()


def stored(study: Path) -> list[int]:
    with open_store(study.parent / "out" / "ratings.sqlite") as store:
        return list(store.ratings()["value"])


def test_a_whole_session_is_stored(open_page: Callable[..., Browser], study: Path) -> None:
    browser = open_page()
    assert browser.state["page"] == "consent"
    browser.begin()
    pages = []
    while browser.state["page"] != "finished":
        pages.append(browser.state["page"])
        assert "problem" not in browser.answer()
    assert pages == ["training"] * 2 + ["rating"] * (len(pages) - 2)
    assert len(stored(study)) == len(ASKED) * len(pages)


def test_nothing_that_is_sent_names_what_is_hidden(
    open_page: Callable[..., Browser], study: Path
) -> None:
    browser = open_page()
    browser.begin()
    kinds = set()
    while browser.state["page"] != "finished":
        browser.medium("clip")
        browser.answer()
        kinds.add(frozenset(browser.state) - {"number"})
    everything = json.dumps([message for message, _ in browser.sent])
    everything += json.dumps(browser.page.get_state(), default=str)
    clips = b"".join(data for _, buffers in browser.sent for data in buffers or [])
    for word in ("kiwimethod", "mangomethod", "anna", "berta", "talk", "stylised", "frontal"):
        assert word not in everything
        assert word.encode() not in clips
    for role in ("gold", '"reference', '"repeat'):
        assert role not in everything
    # Trials of all roles are described by the same keys; only the last page has fewer.
    assert len(kinds) == 2


def test_clips_are_all_of_one_length_and_play(
    open_page: Callable[..., Browser], tmp_path: Path
) -> None:
    browser = open_page()
    browser.begin()
    clips = []
    while browser.state["page"] != "finished":
        clips.append(browser.medium("clip"))
        browser.answer()
    assert len({len(clip) for clip in clips}) == 1
    assert len(set(clips)) == len(clips)  # a clip that comes again is not the same bytes
    for clip in clips:
        (tmp_path / "sent.mp4").write_bytes(clip)
        assert len(list(video.read_frames(tmp_path / "sent.mp4"))) in (5, 6)
    assert boxes(clips[0])[-1] == b"free"


def boxes(mp4: bytes) -> list[bytes]:
    """Return the names of an mp4's boxes, which must fill it to the last byte."""
    names, at = [], 0
    while at < len(mp4):
        size, name = struct.unpack_from(">I4s", mp4, at)
        names.append(name)
        at += size
    assert at == len(mp4)
    return names


def test_an_answer_that_is_sent_twice_is_stored_once(
    open_page: Callable[..., Browser], study: Path
) -> None:
    browser = open_page()
    browser.begin()
    browser.watch()
    message = {"re": "view.again", "verb": "answer", "turn": browser.state["turn"]}
    message["values"] = dict.fromkeys(ASKED, 4)
    first = browser.send(message)
    assert browser.send(message) == first
    # Another view of the same page is a turn behind: it is told where the session is.
    behind = browser.send(message | {"re": "other.1"})
    assert behind["state"] == first["state"]
    assert stored(study) == [4] * len(ASKED)


def test_a_clip_that_was_not_watched_gets_no_answer(
    open_page: Callable[..., Browser], study: Path
) -> None:
    browser = open_page()
    browser.begin()
    browser.turn("show")
    browser.turn("play", share=0.6)
    reply = browser.turn("answer", values=dict.fromkeys(ASKED, 3))
    assert reply == {"re": reply["re"], "problem": True}
    assert stored(study) == []
    log = (study.parent / "out" / "logs" / "ratings.txt").read_text()
    assert "StudyError: Watch the clip to its end" in log


def test_what_went_wrong_is_told_to_who_runs_the_study_and_not_to_the_rater(
    open_page: Callable[..., Browser], study: Path
) -> None:
    browser = open_page()
    browser.begin()
    for clip in (study.parent / "out" / "clips").glob("*.mp4"):
        clip.unlink()
    reply = browser.ask("media", id=browser.state["media"][-1]["id"])
    assert reply == {"re": reply["re"], "problem": True}
    assert "run the study again" in (study.parent / "out" / "logs" / "ratings.txt").read_text()


def test_only_the_clip_at_hand_and_the_next_can_be_had(open_page: Callable[..., Browser]) -> None:
    browser = open_page()
    browser.begin()
    assert "problem" not in browser.ask("media", id="1.clip")
    for medium in ("2.clip", "0.driving", "0.__class__", "nonsense"):
        assert browser.ask("media", id=medium)["problem"]


def test_a_rater_goes_on_by_the_id(open_page: Callable[..., Browser]) -> None:
    browser = open_page()
    browser.begin()
    browser.answer()
    again = open_page(rater=browser.state["rater"])
    assert again.state["page"] == "training"
    assert again.state["progress"]["done"] == 1


def test_a_browser_that_began_is_offered_to_go_on(open_page: Callable[..., Browser]) -> None:
    browser = open_page()
    browser.begin()
    browser.answer()
    browser.turn("pause")
    again = open_page()
    again.state = again.ask("recall", rater=browser.state["rater"])["state"]
    assert (again.state["page"], again.state["known"]) == ("consent", browser.state["rater"])
    again.turn("return")
    assert again.state["paused"]
    again.turn("resume")
    assert again.state["progress"]["done"] == 1
    assert open_page().ask("recall", rater="r-00000000")["state"]["known"] == ""


def test_two_machines_with_one_rater_store_each_answer_once(
    open_page: Callable[..., Browser], study: Path
) -> None:
    first = open_page()
    first.begin()
    second = open_page(rater=first.state["rater"])
    first.answer(1)
    second.answer(5)  # of the same clip: refused, and shown where the session is
    assert second.state["progress"]["done"] == 1
    second.answer(2)
    assert stored(study) == [1] * len(ASKED) + [2] * len(ASKED)


def test_undo_shows_the_clip_again(open_page: Callable[..., Browser], study: Path) -> None:
    browser = open_page()
    browser.begin()
    assert not browser.state["undo"]
    browser.answer(2)
    assert browser.state["undo"]
    browser.turn("undo")
    assert browser.state["number"] == 0
    browser.answer(5)
    assert stored(study) == [5] * len(ASKED)


def test_pairs_have_two_choices_and_two_clips(
    open_page: Callable[..., Browser], study: Path
) -> None:
    study.write_text(study.read_text() + "ratings: {task: pair, overall: true, consent: ''}\n")
    browser = open_page()
    browser.turn("agree")
    assert browser.state["page"] == "questions"
    browser.turn("questions", answers={"vision": "Not so well"})
    assert [item["slot"] for item in browser.state["media"]] == ["source", "clip", "other"]
    (asked,) = browser.setup["asked"]
    assert [step["word"] for step in asked["steps"]] == ["The first clip", "The second clip"]
    assert browser.medium("other")
    browser.watch()
    assert "problem" not in browser.turn("answer", values={"overall": 2})


def test_a_study_without_clips_says_how_to_make_them(small_study: Path) -> None:
    said = rating_page(small_study, small_study.parent / "out")
    assert f"studykit run {small_study}" in said.data


def test_an_id_that_may_be_a_name_is_refused(open_page: Callable[..., Browser]) -> None:
    with pytest.raises(StudyError):
        open_page(rater="me@mail.org")


class Animator:
    """The page that animates, whose widget gets its messages."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("fastapi")
        self.heard: queue.Queue[tuple[dict, list[bytes] | None]] = queue.Queue()
        monkeypatch.setattr(AnimatePage, "send", lambda _, *said: self.heard.put(said))
        self.page, self.count = animate_page(), 0

    def ask(self, path: str, *pieces: bytes, method: str = "GET") -> tuple[int, bytes]:
        """Ask for something as the page does; give the status of the answer, and its bytes."""
        self.count += 1
        left = list(pieces) or [b""]
        message = {"re": self.count, "method": method, "path": path, "headers": {}}
        found = b""
        while True:
            if left:
                piece = left.pop(0)
                self.page._handle_custom_msg({**message, "more": bool(left)}, [memoryview(piece)])
            said, buffers = self.heard.get(timeout=120)
            json.dumps(said)  # as it goes over the wire
            message = {"re": self.count}
            found += b"".join(buffers or [])
            if "status" in said:
                return said["status"], found

    def bring(self, role: str, name: str, *pieces: bytes) -> tuple[int, dict]:
        status, said = self.ask(f"uploads?role={role}&name={name}", *pieces, method="POST")
        return status, json.loads(said)


def visitors(folder: Path) -> list[Path]:
    return list(folder.glob("studykit-visitors-*"))


@pytest.fixture
def animator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Animator]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    animator = Animator(monkeypatch)
    yield animator
    animator.page.close()
    assert visitors(tmp_path) == []


def test_files_come_in_pieces_and_what_is_wrong_with_one_is_one_line(
    animator: Animator, small_inputs: Path
) -> None:
    picture = (small_inputs / "anna.png").read_bytes()
    cut = [picture[at : at + 100_000] for at in range(0, len(picture), 100_000)]
    assert len(cut) > 2
    status, brought = animator.bring("source", "anna.png", *cut)
    assert (status, brought["width"], len(brought["faces"])) == (201, 400, 1)
    status, shown = animator.ask(f"uploads/{brought['id']}/picture.jpg")
    assert (status, shown[:3]) == (200, b"\xff\xd8\xff")
    status, said = animator.bring("source", "bad.png", b"<svg", b"></svg>")
    assert status == 422
    assert said == {
        "problem": "bad.png is not an image that can be read: save it as PNG, JPEG or WebP"
    }
    status, state = animator.ask("state")
    assert list(json.loads(state)["uploads"]) == [brought["id"]]


def test_the_next_page_takes_the_place_of_the_one_before(
    animator: Animator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (folder,) = visitors(tmp_path)
    second = Animator(monkeypatch)
    assert not folder.exists()
    assert second.ask("state") == (200, b'{"uploads":{},"animations":[]}')
    second.page.close()
    assert visitors(tmp_path) == []


def test_without_a_package_the_page_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "studykit.pages.animate_api", raising=False)
    assert 'pip install "fastapi>=' in animate_page().data


def test_the_page_works_on_ipywidgets_7_too(tmp_path: Path) -> None:
    """Colab has 7.7.1: all tests of this file, with that version before the installed one."""
    import ipywidgets

    if ipywidgets.__version__.startswith("7."):
        pytest.skip("this is ipywidgets 7")
    packages = tmp_path / "packages"
    wanted = ["ipywidgets==7.7.1", "ipython-genutils==0.2.0"]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--retries=0"]
    done = subprocess.run(
        [*install, "--target", packages, *wanted], capture_output=True, text=True, timeout=120
    )
    if done.returncode:
        pytest.skip(f"ipywidgets 7.7.1 can't be had: {done.stderr.strip().splitlines()[-1]}")
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", "-q", "-rs", "-p", "no:cacheprovider", __file__],
        env=os.environ | {"PYTHONPATH": str(packages)},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    assert "this is ipywidgets 7" in tests.stdout, tests.stdout
    assert tests.returncode == 0, tests.stdout
