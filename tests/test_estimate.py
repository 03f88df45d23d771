"""How long a run will take is known from a few frames, and from none where little is to be done."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from studykit import methods
from studykit.cli import main
from studykit.clips.animate import animate_cells, say_time_needed
from studykit.clips.folder import study_folder
from studykit.media.views import Driving, Source
from studykit.methods import register
from studykit.study.file import Study, load_study

MADE: list[int] = []


@pytest.fixture
def study(small_study: Path, make_driving) -> Iterator[Study]:
    """Of 200 frames, whose method takes 20 ms a frame and 0.3 s before the first."""
    MADE.clear()

    @register("slow")
    @dataclass(frozen=True)
    class Slow:
        device: str = "auto"

        def prepare(self, source: Source) -> np.ndarray:
            return source.image

        def animate(self, state: np.ndarray, driving: Driving) -> Iterator[np.ndarray]:
            for index, _ in enumerate(driving):
                time.sleep(0.02 if index else 0.3)
                MADE.append(index)
                yield state

    make_driving(small_study.parent / "talk.mp4", frames=60)
    make_driving(small_study.parent / "turn.mp4", frames=40)
    text = small_study.read_text().replace("[copy]", "[{name: slow, method: slow, device: cpu}]")
    small_study.write_text(text)
    yield load_study(small_study)
    del methods._REGISTRY["slow"]


def test_the_time_is_known_from_a_fiftieth_of_the_frames(study: Study, tmp_path: Path) -> None:
    text = say_time_needed(study, tmp_path / "none")
    assert MADE == [0, 1, 2, 3]
    found = re.fullmatch(r"4 clips of 200 frames: about (\d+) s \(a frame: slow (0\.\d+) s\)", text)
    assert 0.02 <= float(found[2]) < 0.2  # what comes once is not in it
    assert float(found[1]) == pytest.approx(200 * float(found[2]), abs=2)


def test_a_short_run_is_not_tried(study: Study, tmp_path: Path) -> None:
    part = study.path.read_text().replace("[talk.mp4]", "[{path: talk.mp4, max_frames: 10}]")
    study.path.write_text(part.replace("[turn.mp4]", "[{path: turn.mp4, end: 0.4}]"))
    assert say_time_needed(load_study(study.path), tmp_path / "none") == ""
    assert MADE == []


def test_a_run_says_it_before_its_bar_and_nothing_once_all_is_made(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = study_folder(study, tmp_path / "out")
    quick = study.path.read_text().replace("slow, method: slow, device: cpu", "copy")
    study.path.write_text(quick)
    study = load_study(study.path)
    animate_cells(study, out)
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("4 clips of 200 frames: about ") and "a frame: copy" in first
    animate_cells(study, out)
    assert capsys.readouterr().err == ""
    assert say_time_needed(study, out) == ""


def test_a_long_run_says_what_would_shorten_it(study: Study, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("studykit.clips.estimate._LONG", 1.0)
    monkeypatch.setattr("studykit.clips.estimate._SHORT_DRIVING", 20)
    whole, cut, gpu = say_time_needed(study, tmp_path / "none").split("; ")
    assert cut.startswith("with max_frames: 20 for drivings about ")
    now, then = (float(re.search(r"about (\d+) s", text)[1]) for text in (whole, cut))
    assert then == pytest.approx(now * 0.4, abs=1)
    assert gpu == "slow is faster on a GPU"


def test_a_method_that_fails_leaves_its_cell_to_say_so(study: Study, tmp_path: Path) -> None:
    (study.path.parent / "anna.png").write_text("no picture")
    assert say_time_needed(study, tmp_path / "none") == ""


def test_check_says_it_too(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", str(study.path)])
    assert "4 clips of 200 frames: about " in capsys.readouterr().out
