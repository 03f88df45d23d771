"""A run measures, rehearses where nobody has rated, and reports again when a rating comes."""

from pathlib import Path

import pytest

from studykit import files, run
from studykit.clips.animate import cells_held
from studykit.clips.cells import read_cells
from studykit.clips.folder import study_folder
from studykit.media import video
from studykit.metrics import load
from studykit.ratings.simulate import simulate_ratings
from studykit.ratings.store import open_store, place_to_write, what_is_rated
from studykit.report import load_results, page_key
from studykit.run import make_clips, rehearse, run_study
from studykit.study.file import Study, load_study


@pytest.fixture
def rehearsed(small_study: Path) -> Study:
    """The small study, asking for three simulated raters."""
    small_study.write_text(small_study.read_text() + "ratings: {simulated_raters: 3}\n")
    return load_study(small_study)


def key_of(study: Study, out: Path) -> str:
    """The key of the report that a run would write now."""
    held = cells_held(study, out, list(study.cells("anna__talk__copy")))
    return run._key(study, out, held, what_is_rated(study, out))


def test_a_run_measures_and_rehearses_and_a_new_rating_makes_a_new_report(
    rehearsed: Study, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    report = run_study(rehearsed.path, out=out, only="anna__talk__copy")
    assert set(load(out)["cell"]) == {"anna__talk__copy"}
    assert "Simulated ratings" in report.read_text()
    assert load_results(rehearsed.path, out).ratings["rater"].nunique() == 3
    made = report.stat().st_mtime_ns
    run_study(rehearsed.path, out=out, only="anna__talk__copy")
    assert report.stat().st_mtime_ns == made
    assert page_key(report) == key_of(rehearsed, out)
    with open_store(out / "rehearsal.sqlite") as store:
        store.append(simulate_ratings(rehearsed, 1, seed=3, first=3))
    assert page_key(report) != key_of(rehearsed, out)


def test_an_edited_study_is_rehearsed_again_and_only_that_rehearsal_counts(
    rehearsed: Study, tmp_path: Path
) -> None:
    out = study_folder(rehearsed, tmp_path / "out")
    for _ in range(2):
        rehearse(rehearsed, out)  # what is there already is not made again
        assert load_results(rehearsed.path, out).ratings["rater"].nunique() == 3
    text = rehearsed.path.read_text().replace("simulated_raters: 3", "simulated_raters: 2")
    rehearsed.path.write_text(text)
    edited = load_study(rehearsed.path)
    rehearse(edited, out)
    assert load_results(edited.path, out).ratings["rater"].nunique() == 2


def test_where_people_have_rated_no_rehearsal_is_shown(rehearsed: Study, tmp_path: Path) -> None:
    out = study_folder(rehearsed, tmp_path / "out")
    people = simulate_ratings(rehearsed, 2, seed=1).assign(simulated=False)
    people["rater"] = people["rater"].str.replace("sim-", "r-")
    people["session"] = people["session"].str.replace("sim-", "r-")
    with open_store(place_to_write(rehearsed, out)) as store:
        store.append(people)
    rehearse(rehearsed, out)
    results = load_results(rehearsed.path, out)
    assert results.ratings["rater"].nunique() == 2
    assert not results.simulated


def test_a_clip_that_a_person_has_rated_is_never_made_again_unless_that_is_asked_for(
    small_study: Path, tmp_path: Path
) -> None:
    study = load_study(small_study)
    out = study_folder(study, tmp_path / "out")
    make_clips(study, out)
    first = read_cells(out / "cells.csv")
    rated, other = "anna__talk__copy", "anna__turn__copy"
    people = simulate_ratings(study, 1, seed=1).query("cell == @rated").assign(simulated=False)
    digests = {rated: files.sha256(out / first[rated].clip)}
    people["clip_hash"] = people["cell"].map(digests)
    with open_store(place_to_write(study, out)) as store:
        store.append(people)
    before = {name: (out / first[name].clip).stat().st_mtime_ns for name in (rated, other)}

    picture = video.read_image(tmp_path / "anna.png")
    video.write_image(tmp_path / "anna.png", 255 - picture)
    rows = {row.cell: row for row in make_clips(study, out)}
    after = {name: (out / first[name].clip).stat().st_mtime_ns for name in (rated, other)}
    assert after[rated] == before[rated] and after[other] > before[other]
    assert rows[rated] == first[rated]  # it says what it was made of, and by which version
    assert rows[other].cache_key != first[other].cache_key

    rows = {row.cell: row for row in make_clips(study, out, remake=True)}
    assert rows[rated].cache_key != first[rated].cache_key
    assert (out / first[rated].clip).stat().st_mtime_ns > after[rated]


def test_both_clips_of_a_pair_are_rated_by_people_alone(small_study: Path, tmp_path: Path) -> None:
    text = small_study.read_text().replace("[copy]", "[copy, {name: again, method: copy}]")
    small_study.write_text(text + "ratings: {task: pair, repeats: 1}\n")
    study = load_study(small_study)
    out = study_folder(study, tmp_path / "out")
    rows = simulate_ratings(study, 2, seed=1)
    assert what_is_rated(study, out).clips == set()
    with open_store(place_to_write(study, out, simulated=True)) as store:
        store.append(rows.assign(clip_hash="simulated"))
    assert what_is_rated(study, out).clips == set()
    hashes = {"rating": "one two", "repeat": "two three", "gold": "four"}
    with open_store(place_to_write(study, out)) as store:
        store.append(rows.assign(simulated=False, clip_hash=rows["role"].map(hashes).fillna("")))
    assert set(rows["role"]) >= {"rating", "repeat"}
    assert what_is_rated(study, out).clips == {"one", "two", "three"}


def test_a_study_that_asks_for_no_rehearsal_gets_no_store(small_study: Path) -> None:
    study = load_study(small_study)
    out = study_folder(study, small_study.parent / "out")
    rehearse(study, out)
    assert not load_results(small_study, out).rated
    assert not list(out.glob("*.sqlite"))
