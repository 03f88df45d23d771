"""A study as it should be conducted: frozen, run, rated, left by one who withdraws, reported."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from studykit.cli import main
from studykit.media import video
from studykit.ratings.store import open_store
from tests.test_browser import Rater, browser, playwright, pytestmark, running, shots

__all__ = ["browser", "playwright", "pytestmark", "shots"]  # used by their names

STUDY = """\
name: whole
size: 96
crop: centre
sources: {frontal: [anna.png]}
drivings: {frontal: [talk.mp4], side: [turn.mp4]}
methods: [copy, {name: again, method: copy}]
ratings:
  trials: 2
  sessions: 2
  break_minutes: 0
  ratings_per_clip_min: 2
  training: 1
  repeats: 0
  references: 0
  gold: 0
  questions: [display]
  responsible: Dr. A. Rivera
  contact: study@example.org
  completion_code: C1X2
  return_address: "https://example.org/done?cc={code}"
plan:
  raters: 2
  hypotheses: [{higher: again, lower: copy, criterion: jitter}]
"""


@pytest.fixture
def study(tmp_path: Path, portrait: np.ndarray) -> Path:
    video.write_image(tmp_path / "anna.png", portrait[:400, :400])
    for name, step in (("talk", 2), ("turn", 3)):
        wide = np.asarray(Image.fromarray(portrait[:400, :400]).resize((96 + 12 * step, 96)))
        slid = (wide[:, step * (12 - i) :][:, :96] for i in range(12))
        video.write_video(tmp_path / f"{name}.mp4", slid, frame_rate=25)
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path


def studykit(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 0


def holding(out: Path, text: str) -> list[str]:
    """Return which of the store's files hold a text."""
    stored = list(out.glob("ratings.sqlite*"))
    assert stored
    return [file.name for file in stored if text.encode() in file.read_bytes()]


def rate_a_part(rater: Rater, keys: str) -> None:
    """Practise where there is practice, and rate both clips of a session."""
    for done in range(3):
        if done < 2:
            rater.press("Begin")
        rater.wait_for_trial(done)
        rater.answer_by_keys(keys)


def enter(browser: Any, address: str, shots: Path, name: str) -> Rater:
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    rater = Rater(page, shots, name)
    page.goto(address)
    page.get_by_role("heading", name="How do these clips look?").wait_for()
    rater.look("consent")
    assert "Responsible for this study: Dr. A. Rivera. Contact: study@example.org." in (
        page.locator("main").inner_text()
    )
    rater.press("I agree, and take part")
    page.get_by_role("radio", name="A phone").check()
    rater.press("Next")
    return rater


def test_a_study_is_frozen_run_rated_and_reported_and_who_withdraws_is_gone(
    study: Path, tmp_path: Path, browser: Any, shots: Path
) -> None:
    out = tmp_path / "out"
    studykit("rate", "freeze", study, "--out", out)
    studykit("run", study, "--out", out)
    with running("studykit", "serve", str(study), "--out", str(out), "--port", "0",
                 cwd=tmp_path) as server:  # fmt: skip
        said = iter(server.stdout.readline, "")
        address = next(found[0] for found in map(re.compile(r"http://\S+/join/\S+").search, said)
                       if found)  # fmt: skip
        for name, keys in (("first", "1234"), ("second", "5432"), ("third", "2222")):
            rater = enter(browser, address, shots, name)
            rate_a_part(rater, keys)
            rater.page.get_by_role("heading", name="Time for a break").wait_for()
            rater.look("break")
            assert "Part 1 of 2 is done" in rater.page.locator("main").inner_text()
            rater.press("Go on")
            if name == "second":
                rater.press("Begin")
                rater.wait_for_trial(0)
                rater.press("Pause")
                rater.press("Withdraw")
                rater.look("withdraw")
                with open_store(out / "ratings.sqlite") as store:
                    (gone,) = {known.rater for known in store.sessions() if known.paused}
                    assert len(store.ratings(history=True).query("rater == @gone")) == 12
                assert holding(out, gone)
                rater.press("Delete my answers")
                rater.page.get_by_role("heading", name="Your answers are deleted").wait_for()
                assert holding(out, gone) == []
                rater.look("withdrawn")
                rater.page.reload()  # whoever comes back by accident gets no further
                rater.page.get_by_text(re.compile("leads nowhere|are deleted")).first.wait_for()
            else:
                rate_a_part(rater, keys)
                rater.page.get_by_role("heading", name="Thank you!").wait_for()
                rater.look("finished")
                assert "Your completion code: C1X2" in rater.page.locator("main").inner_text()
                back = rater.page.get_by_role("link", name="Go back and finish")
                assert back.get_attribute("href") == "https://example.org/done?cc=C1X2"
            rater.page.context.close()
    studykit("rate", "withdraw", study, gone, "--out", out)  # nothing is left to be removed
    assert holding(out, gone) == []
    with open_store(out / "ratings.sqlite") as store:
        ratings = store.ratings("whole")
        assert (ratings["rater"].nunique(), store.withdrawals("whole")) == (2, 1)
    rated = ratings[ratings["role"] == "rating"].drop_duplicates(["session", "trial"])
    assert set(rated["cell"].value_counts()) == {2}

    studykit("report", study, "--out", out)
    report = (out / "report.md").read_text()
    assert "**Preregistered.** The plan of " in report and "was followed." in report
    assert "Hypothesis: again above copy on jitter" in report
    assert "One rater has withdrawn, whose answers were deleted." in report
    assert "The clip rated least has 2 ratings by raters who count" in report
    for file in out.rglob("*"):
        if file.is_file() and file.suffix in (".md", ".html", ".csv", ".json", ".ipynb"):
            assert gone not in file.read_text(errors="replace"), file
    primary = pd.read_csv(out / "tables/findings.csv").query("primary")
    assert list(zip(primary["subject"], primary["criterion"], strict=True)) in (
        [("again", "jitter")], [("copy", "jitter")],
    )  # fmt: skip
