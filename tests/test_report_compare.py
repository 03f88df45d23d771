"""Two studies stand side by side: what both have is compared, what differs is listed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rating_tables import make_ratings

from studykit.cli import main
from studykit.clips.cells import CellRow, append
from studykit.errors import StudyError
from studykit.ratings.store import open_store
from studykit.report import compare, compare_studies

METRIC_COLUMNS = ("cell", "metric", "value", "unit", "better", "extractor", "driving")


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Make a study's folder as a run leaves it, without its clips."""

    def make(
        name: str,
        methods: tuple[str, ...],
        *,
        rated: bool = True,
        alike: bool = False,
        simulated: bool = False,
        seed: int = 0,
        psnr: float = 20,
        python: str = "3.11",
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        ratings = make_ratings(raters=6, methods=methods, types=("frontal", "side"), seed=seed)
        cells = ratings.drop_duplicates("cell")
        for line in cells.itertuples():
            append(
                folder / "cells.csv",
                CellRow(line.cell, line.source, line.source_type, line.driving,
                        line.driving_type, line.method, "done"),
            )  # fmt: skip
        measured = [(cell, "psnr", psnr, "dB", "higher", "", np.nan) for cell in cells["cell"]]
        pd.DataFrame(measured, columns=list(METRIC_COLUMNS)).to_csv(
            folder / "metrics.csv", index=False
        )
        manifest = {
            "study": name,
            "study_file": f"name: {name}\n",
            "seed": 0,
            "size": 64,
            "crop": "face",
            "machine": {"processor": "one", "system": "two", "cores": 1},
            "versions": {"python": python, "numpy": "2"},
            "inputs": {"a.png": {"name": "a", "type": "side", "sha256": "ab" * 32}},
            "methods": {
                method: {
                    "method": method,
                    "settings": {},
                    "device": "cpu",
                    "weights": "",
                    "weights_hash": "",
                }
                for method in methods
            },
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        if rated:
            if alike:  # which screening excludes
                ratings = ratings.assign(value=3)
            trials = ratings.groupby(["rater", "criterion"]).cumcount()
            full = ratings.assign(
                study=name,
                simulated=simulated,
                trial=trials,
                rater=name + ratings["rater"],
                session=name + ratings["session"],
                answered_at=pd.Timestamp("2024-01-01", tz="UTC"),
                seconds=5.0,
                watched=1.0,
                clip_hash="",
                study_hash="",
            )
            with open_store(folder / "ratings.sqlite") as store:
                store.append(full)
        return folder

    return make


def test_what_both_studies_have_is_compared_and_what_differs_is_listed(
    make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    first = make_folder("one", ("copy", "warp"))
    second = make_folder("two", ("warp", "fomm"), seed=5, psnr=23.5, python="3.12")
    page = compare_studies(first, second, tmp_path / "out")
    text = page.read_text()
    assert "4 conditions (source × driving × method) are in both studies" in text
    assert "4 only in one" in text and "4 only in two" in text
    scores = pd.read_csv(tmp_path / "out/tables/compared-scores.csv")
    assert set(scores["method"]) == {"warp"}
    assert set(scores["study"]) == {"one", "two"}
    metrics = pd.read_csv(tmp_path / "out/tables/compared-metrics.csv")
    assert metrics["difference"].tolist() == [3.5] * 4
    differs = pd.read_csv(tmp_path / "out/tables/compared-manifests.csv").set_index("what")
    assert differs.loc["python (version)"].tolist() == ["3.11", "3.12"]
    assert differs.loc["copy: method"].tolist() == ["copy", "not there"]
    assert "numpy (version)" not in differs.index
    assert "side input a" not in differs.index
    assert (tmp_path / "out/figures/compared-scores.svg").is_file()
    said = " ".join((tmp_path / "out/compare.md").read_text().split())
    assert "A difference between the two is no test" in said
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_a_study_without_ratings_or_alike_in_its_making_gives_words(
    make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    first = make_folder("one", ("copy",))
    second = make_folder("two", ("copy",), rated=False)
    (second / "metrics.csv").unlink()
    text = compare_studies(first, second, tmp_path / "out").read_text()
    assert "No scores to compare: nobody has rated two." in text
    assert "No metrics to compare: two has none." in text
    assert "Nothing: methods, weights, versions, inputs and settings are the same." in text


def test_people_are_not_compared_with_simulated_raters_but_their_clips_are(
    make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    first = make_folder("one", ("copy",))
    second = make_folder("two", ("copy",), simulated=True, psnr=23)
    text = compare_studies(first, second, tmp_path / "out").read_text()
    assert ("No scores to compare: one was rated by people and two was rated by simulated raters."
            in text)  # fmt: skip
    assert "no person rated" not in text and "simulated-running'" not in text
    assert pd.read_csv(tmp_path / "out/tables/compared-metrics.csv")["difference"].eq(3).all()
    both = tmp_path / "copy-of-two"
    shutil.copytree(second, both)
    text = compare_studies(second, both, tmp_path / "out").read_text()
    assert "class='simulated-running'" in text
    assert "copy-of-two" in text  # two studies of one name are known by their folders


@pytest.mark.parametrize("simulated", [False, True])
def test_a_study_whose_raters_were_all_excluded_was_rated_all_the_same(
    make_folder: Callable[..., Path], tmp_path: Path, simulated: bool
) -> None:
    first = make_folder("one", ("copy", "warp"), alike=True)
    second = make_folder("two", ("copy",), simulated=simulated)
    text = compare_studies(first, second, tmp_path / "out").read_text()
    assert "No scores to compare: every rater of one was excluded." in text
    assert "no person rated" not in text and "nobody has rated" not in text


def test_a_folder_without_a_run_and_one_study_twice_are_refused(
    make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    first = make_folder("one", ("copy",))
    with pytest.raises(StudyError, match="holds no study that was run"):
        compare_studies(first, tmp_path)
    with pytest.raises(StudyError, match="can't be compared with itself"):
        compare_studies(first, first)


def test_the_interval_of_a_difference_is_that_of_independent_means() -> None:
    # Intervals of two normal means with standard errors 3 and 4: that of the difference has 5.
    a = {"mean": 10.0, "low": 10 - 1.96 * 3, "high": 10 + 1.96 * 3}
    b = {"mean": 12.0, "low": 12 - 1.96 * 4, "high": 12 + 1.96 * 4}
    found = compare._difference(a, b)
    assert found == pytest.approx({"mean": 2, "low": 2 - 1.96 * 5, "high": 2 + 1.96 * 5})
    # Zou and Donner (2008), where intervals are not symmetric: each side has its own.
    a, b = {"mean": 1.0, "low": 0.0, "high": 4.0}, {"mean": 1.0, "low": -3.0, "high": 2.0}
    assert compare._difference(a, b) == pytest.approx({"mean": 0, "low": -5, "high": 2**0.5})


def test_the_command_compares_two_and_refuses_one(
    make_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    first, second = make_folder("one", ("copy",)), make_folder("two", ("copy",))
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        main(["report", "--compare", str(first), str(second), "--out", str(out)])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == str(out / "compare.html")
    with pytest.raises(SystemExit) as ended:
        main(["report", "--compare", str(first)])
    assert ended.value.code == 2
