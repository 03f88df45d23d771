"""A study that studykit 0.1.0 ran and that people rated opens, reports and goes on in this version.

tests/data/study-0.1.0 is what that version left of a study of four cells; the raters are made up.
"""

import shutil
from pathlib import Path

import pytest

from studykit import __version__, files
from studykit.clips.cells import read_cells
from studykit.ratings.store import open_store, place_to_write, what_is_rated
from studykit.report import load_results
from studykit.run import run_study
from studykit.study.file import load_study


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The study's folder, free to be changed."""
    return shutil.copytree(Path(__file__).parent / "data" / "study-0.1.0", tmp_path / "old")


def test_results_and_ratings_are_read(old: Path) -> None:
    results = load_results(old / "study.yaml", old / "results")
    assert [row.status for row in results.rows.values()] == ["done"] * 4
    assert {row.frames for row in results.rows.values()} == {5, 6}
    assert set(results.metrics["cell"]) == set(results.rows)
    assert (results.ratings["rater"].nunique(), results.simulated) == (3, False)
    assert not results.screening.kept.empty


def test_a_run_keeps_the_rated_clips_and_says_which_version_made_them(old: Path) -> None:
    study, out = load_study(old / "study.yaml"), old / "results"
    rated = what_is_rated(study, out).clips
    before = {path.name: path.stat().st_mtime_ns for path in (out / "clips").iterdir()}
    kept = [name for name in before if files.sha256(out / "clips" / name) in rated]
    assert 0 < len(kept) < 4
    report = run_study(old / "study.yaml", out=out).read_text()
    after = {path.name: path.stat().st_mtime_ns for path in (out / "clips").iterdir()}
    assert {name for name in before if after[name] == before[name]} == set(kept)
    versions = {name: row.version for name, row in read_cells(out / "cells.csv").items()}
    assert [versions[Path(name).stem] for name in sorted(kept)] == [""] * len(kept)
    assert {version for version in versions.values() if version} == {__version__}
    assert "clips, which people had rated, were kept from studykit 0.1." in report


def test_its_store_takes_further_ratings(old: Path) -> None:
    study = load_study(old / "study.yaml")
    with open_store(place_to_write(study, old / "results")) as store:
        before = len(store.ratings(study.name))
        people = store.ratings(study.name)
        first = people["rater"].iloc[0]
        more = people[people["rater"] == first].assign(rater="r-new1", session="old/r-new1/1")
        store.append(more)
        assert len(store.ratings(study.name)) == before + len(more)
