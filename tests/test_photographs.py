"""What docs/photographs.py measures, on frames whose landmarks are known."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from studykit import stimuli

PATH = Path(__file__).parent.parent / "docs" / "photographs.py"
_SPEC = importlib.util.spec_from_file_location("photographs_of_docs", PATH)
photographs = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = photographs  # dataclasses look their module up
_SPEC.loader.exec_module(photographs)


@pytest.fixture(scope="module")
def shown():
    """A rendered head that turns, nods and opens its mouth, with its true landmarks."""
    identity = stimuli.Identity.random(5)
    frames = [
        stimuli.render(
            identity,
            stimuli.Pose(yaw=8 * k),
            stimuli.Expression(mouth_open=0.2 * k, blink_left=0.2 * k, blink_right=0.2 * k),
        )
        for k in range(4)
    ]
    images = np.stack([frame.image for frame in frames])
    return photographs.Shown(images, np.array([frame.landmarks for frame in frames]))


def test_the_truth_itself_scores_perfectly_and_a_still_clip_does_not(shown):
    assert photographs.self_driven(shown, shown) == {"PSNR": 100, "landmarks": 0}
    still = photographs.Shown(shown.frames[[0] * 4], shown.landmarks[[0] * 4])
    found = photographs.self_driven(still, shown)
    assert found["PSNR"] < 30 and found["landmarks"] > 2


def test_a_clip_is_compared_with_what_the_driving_does_and_whom_the_source_shows(
    shown, monkeypatch
):
    monkeypatch.setattr(photographs, "_embedding", lambda frame, marks: marks[30].repeat(64))
    source = photographs.Shown(shown.frames[:1], shown.landmarks[:1])
    found = photographs.crossed(shown, shown, source)
    assert found["mouth"] == pytest.approx(1) and found["eyes"] == pytest.approx(1)
    assert found["turn"] < 0.1 and found["lost"] == 0
    away = np.linalg.norm(shown.landmarks[:, 30] - shown.landmarks[0, 30], axis=1) * 8
    assert found["identity"] == pytest.approx(np.median(away))
    lost = photographs.Shown(shown.frames, shown.landmarks.copy())
    lost.landmarks[2] = np.nan
    assert photographs.crossed(lost, shown, source)["lost"] == 25


def test_a_driving_is_its_own_yardstick(shown, monkeypatch):
    monkeypatch.setattr(photographs, "_embedding", lambda frame, marks: marks[30].repeat(64))
    found = photographs.yardstick(shown, shown.landmarks + 5.0)
    away = np.linalg.norm(shown.landmarks[1:, 30] - shown.landmarks[0, 30], axis=1) * 8
    assert found["identity"] == pytest.approx(np.median(away))
    assert found["landmarks"] == pytest.approx(0), "detectors may differ in where a face begins"
    moved = shown.landmarks.copy()
    moved[1:, :, 0] += 6.0
    eyes = np.median(
        np.linalg.norm(
            shown.landmarks[:, 36:42].mean(axis=1) - shown.landmarks[:, 42:48].mean(axis=1), axis=1
        )
    )
    found = photographs.yardstick(shown, moved)["landmarks"]
    assert found == pytest.approx(100 * 6 / eyes, rel=0.35)


def test_the_summary_takes_medians_of_crossed_clips_and_means_of_the_self_driven():
    crossed = {"mouth": 0.5, "eyes": 0.5, "turn": 2, "identity": 0.1, "lost": 0, "spill": 1}
    rows = [{"method": "m", **crossed}, {"method": "m", **crossed, "mouth": 0.7}]
    rows += [{"method": "m", **crossed, "mouth": 0.9}, {"method": "m", "PSNR": 20, "landmarks": 3}]
    rows += [{"method": "m", "PSNR": 30, "landmarks": 5}]
    line = photographs.summary(pd.DataFrame(rows)).splitlines()[2]
    assert line == "| m | 0.7 | 0.5 | 2 | 0.1 | 0 | 1 | 25 | 4 |"
    own = pd.DataFrame([*rows, {"method": "the driving", "identity": 0.3, "landmarks": 2}])
    assert "| the driving | – | – | – | 0.3 | – | – | – | 2 |" in photographs.summary(own)
