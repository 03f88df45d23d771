"""Pictures are drawn of whatever numbers there are, and say when they are simulated."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from studykit.report import figures
from studykit.stats.power import RaterPlan

TYPES = (["frontal", "side"], ["frontal", "stylised"])
CRITERIA = ["naturalness", "structure"]


def scores(methods: list[str]) -> pd.DataFrame:
    """Scores of every condition but the last, one of them without an interval."""
    rows = [
        {
            "source_type": source,
            "driving_type": driving,
            "method": method,
            "criterion": criterion,
            "mean": 1.5 + 0.3 * number,
            "low": np.nan if number == 1 else 1.2 + 0.3 * number,
            "high": np.nan if number == 1 else 1.9 + 0.3 * number,
            "n_raters": 7,
        }
        for method in methods
        for criterion in CRITERIA
        for number, (source, driving) in enumerate(
            [("frontal", "frontal"), ("frontal", "stylised"), ("side", "frontal")]
        )
    ]
    return pd.DataFrame(rows)


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def reds(picture: np.ndarray) -> int:
    """Count the pixels in the colour of the warning, and of no curve."""
    red, green, blue = np.moveaxis(picture, -1, 0)
    return int(((abs(red - 163) < 12) & (abs(green - 38) < 12) & (abs(blue - 28) < 12)).sum())


@pytest.mark.parametrize("methods", [["copy"], ["copy", "warp"], [f"m{i}" for i in range(7)]])
def test_a_heat_map_has_a_panel_a_method_and_says_where_nothing_was_rated(
    tmp_path: Path, methods: list[str]
) -> None:
    here = scores(methods)
    path = figures.heat_maps(
        tmp_path / "mos.png",
        here[here["criterion"] == "structure"],
        figures.Look(methods, 5, False, TYPES),
    )
    width, height = Image.open(path).size
    assert width <= 7.6 * 300
    assert height > 300 * 1.2 * -(-len(methods) // 3)
    drawn = path.with_suffix(".svg").read_text()
    for text in ("no rating", "n = 7", "1.50", "1.2 to 1.9"):
        assert f"<!-- {text} -->" in drawn
    texts = re.sub(r"base64,[^\"]*", "", drawn)  # without the colour bar, which is a picture
    assert "nan" not in texts.lower()


def test_only_a_picture_of_simulated_ratings_is_stamped(tmp_path: Path) -> None:
    here = scores(["copy", "warp"])
    overall = here[here["criterion"] == "structure"]
    by_method = here.drop_duplicates(["method", "criterion"])
    for simulated in (True, False):
        folder = tmp_path / str(simulated)
        look = figures.Look(["copy", "warp"], 5, simulated, TYPES)
        drawn = [
            figures.heat_maps(folder / "a.png", overall, look),
            figures.score_rows(
                folder / "b.png",
                here,
                ("source_type", TYPES[0]),
                look,
                panels=("criterion", CRITERIA),
            ),
            figures.score_rows(
                folder / "c.png",
                by_method,
                ("criterion", CRITERIA),
                look,
                width=figures.COLUMN,
            ),
            figures.methods_by_condition(folder / "d.png", overall, look),
        ]
        for path in drawn:
            text = path.with_suffix(".svg").read_text()
            assert ("<!-- Simulated ratings: no person rated these clips -->" in text) == simulated
            assert ("<!-- SIMULATED -->" in text) == simulated
            assert (reds(read(path)) > 500) == simulated


def test_a_picture_drawn_again_is_the_same_file(tmp_path: Path) -> None:
    here = scores(["copy"]).drop_duplicates(["method", "criterion"])
    look = figures.Look(["copy"], 5, True)
    files = [
        figures.score_rows(tmp_path / name, here, ("criterion", CRITERIA), look)
        for name in ("a.png", "b.png")
    ]
    first, second = (path.with_suffix(".svg").read_bytes() for path in files)
    assert first == second
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_methods_differ_in_colour_and_in_marker() -> None:
    look = figures.Look("abcdefg", 5, False)
    assert len(set(look.colours.values())) == 7
    assert len(set(look.markers.values())) == 7


def test_a_metric_without_a_correlation_shows_why(tmp_path: Path) -> None:
    clips = pd.DataFrame(
        {
            "metric": ["l1"] * 3 + ["mkr"] * 3,
            "value": [0.1, 0.2, 0.3, 0, 0, 0],
            "score": [4, 3, 2, 4, 3, 2],
            "method": "copy",
        }
    )
    correlations = pd.DataFrame(
        [
            {"metric": "l1", "r": 1.0, "low": np.nan, "high": np.nan, "words": ""},
            {"metric": "mkr", "r": np.nan, "low": np.nan, "high": np.nan, "words": "all alike"},
        ]
    )
    path = figures.metrics_and_ratings(
        tmp_path / "m.png",
        clips,
        correlations,
        {"l1": "L1", "mkr": "MKR"},
        figures.Look(["copy"], 5, False),
    )
    text = path.with_suffix(".svg").read_text()
    assert "<!-- r = 1.00 -->" in text
    assert "<!-- all alike -->" in text


def test_raters_are_drawn_with_those_who_were_excluded(tmp_path: Path) -> None:
    agreements = pd.DataFrame(
        {
            "criterion": ["naturalness", "structure"],
            "mean": [0.4, np.nan],
            "mean_low": [-0.2, np.nan],
            "mean_high": [0.6, np.nan],
        }
    )
    raters = pd.DataFrame(
        {"rater": list("abc"), "figure": [0.8, np.nan, -0.3], "excluded": [False, False, True]}
    )
    path = figures.agreement(
        tmp_path / "a.png", agreements, raters, 0.2, figures.Look(["copy"], 5, False)
    )
    text = path.with_suffix(".svg").read_text()
    assert "<!-- excluded -->" in text
    assert "<!-- structure -->" not in text


def test_motion_is_drawn_with_what_curves_there_are(tmp_path: Path) -> None:
    time = np.arange(24)
    curves = {
        "frame_rate": np.float32(25),
        "yaw": np.sin(time / 4),
        "driving_yaw": np.cos(time / 4),
        "mouth_opening": np.full(24, np.nan),  # no face was found in any frame
        "landmarks": np.full((24, 68, 2), np.nan),
    }
    path = figures.motion_over_time(tmp_path / "m.png", curves, worst=3)
    text = path.with_suffix(".svg").read_text()
    assert "<!-- turn of the head (yaw) -->" in text
    assert "<!-- mouth opening -->" not in text
    faces = curves | {"landmarks": np.random.default_rng(0).uniform(0, 64, (24, 68, 2))}
    path = figures.motion_over_time(tmp_path / "f.png", faces, worst=3)
    assert "<!-- 0.12 s, worst -->" in path.with_suffix(".svg").read_text()


def test_a_plans_power_is_drawn_over_raters_and_stimuli(tmp_path: Path) -> None:
    names = ["two of 3 methods", "two of 2 source types"]
    table = pd.DataFrame({"comparison": names, "reason": ["", "one source a type"]})
    rows = [(n, s, r, 0.01 * r * s) for n in names for s in (0, 2, 4) for r in (8, 24)]
    grid = pd.DataFrame(rows, columns=["comparison", "stimuli", "raters", "power"])
    plan = RaterPlan(table, grid, 0.8, "how")
    path = figures.power_map(tmp_path / "plan.png", plan)
    assert path.with_suffix(".svg").read_text().count("can't be tested") == 1
    framed = reds(read(path))
    assert framed > 0
    none = figures.power_map(tmp_path / "none.png", RaterPlan(table, grid, 0.99, "how"))
    assert reds(read(none)) < framed
