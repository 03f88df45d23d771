"""The report shows every cell, failures included, as one page that needs nothing else."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studykit import media, report
from studykit.clips import animate_cells
from studykit.report import sections
from studykit.report.figures import MOMENTS, moment_indices
from studykit.report.page import page_key, write_page
from studykit.run import execute_notebook, study_folder
from studykit.study import load_study


@pytest.fixture
def results(small_study: Path) -> report.Results:
    """The small study with its clips made, one of its drivings unreadable."""
    (small_study.parent / "turn.mp4").write_text("not a video")
    study = load_study(small_study)
    out = study_folder(study, small_study.parent / "out")
    animate_cells(study, out)
    return report.load_results(small_study, out)


def test_the_page_is_one_file_with_every_clip_and_failure(results: report.Results) -> None:
    executed = execute_notebook(
        "4_report", results.out / "notebooks", study=str(results.study.path), out=str(results.out)
    )
    page = results.out / "report.html"
    write_page(executed, page, title="small <study>", key="abc123")
    text = page.read_text()
    assert page_key(page) == "abc123"
    assert "<title>small &lt;study&gt;" in text
    assert text.count("<video") == 3  # two clips and the driving that can be read
    assert text.count("no clip") == 2
    assert "turn.mp4" in text
    assert "<b>2</b> have a clip, <b>2</b> failed" in text
    assert not re.findall(r'(?:src|href)="https?://', text)
    assert "import report" not in text  # no code cells


def test_film_strips_show_the_clips_own_frames(results: report.Results) -> None:
    report.film_strips(results)
    strip = np.asarray(Image.open(results.out / "figures/strip__copy__talk.png"))
    clip = list(media.read_frames(results.out / "clips/anna__talk__copy.mp4"))
    tile = np.asarray(Image.fromarray(clip[-1]).resize((160, 160), Image.Resampling.LANCZOS))
    assert np.array_equal(strip[26 + 164 : 26 + 164 + 160, -164:-4], tile)


def test_moments_include_the_first_and_the_last_frame() -> None:
    assert moment_indices(48) == [0, 12, 24, 35, 47]
    assert moment_indices(1) == [0] * MOMENTS
    assert moment_indices(2) == [0, 0, 0, 1, 1]


def test_a_study_that_was_not_run_gives_words(small_study: Path) -> None:
    results = report.load_results(small_study, small_study.parent / "nothing")
    assert "<b>4</b> were not run" in report.summary(results).data
    assert "No clip was made yet" in report.timing(results).data
    assert "No cell failed" in report.failures(results).data
    assert "not run yet" in report.manifest(results).data
    assert "not run yet" in report.clips(results).data


def test_a_large_study_is_shown_by_sums_a_sample_and_links(
    results: report.Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, (anna, berta) = results.study, results.study.sources
    more = tuple(replace(berta, name=f"berta-{number}") for number in range(3))
    talk = results.rows["anna__talk__copy"]
    turn = results.rows["anna__turn__copy"]
    rows = dict(results.rows)
    for source in more:
        for row, driving in ((talk, "talk"), (turn, "turn")):
            name = f"{source.name}__{driving}__copy"
            rows[name] = replace(row, cell=name, source=source.name, source_type=source.type)
            if row is talk:
                shutil.copy(results.out / talk.clip, results.out / rows[name].clip)
    large = replace(results, study=replace(study, sources=(anna, berta, *more)), rows=rows)
    assert report.clips(large).data.count("<td><video") == 5
    monkeypatch.setattr(sections, "MOST_SHOWN", 4)
    clips = report.clips(large).data
    assert clips.count("<td><video") == 2  # of anna and berta, by the driving that can be read
    assert "<td>copy</td><td>side</td><td>frontal</td><td>4</td><td>4</td><td>0</td>" in clips
    assert "<td>copy</td><td>side</td><td>stylised</td><td>4</td><td>0</td><td>4</td>" in clips
    assert "href='clips/berta-1__talk__copy.mp4'" in clips
    assert "A sample" in report.film_strips(large).data
    strips = list((results.out / "figures").glob("strip__*"))
    assert len(strips) == 2
    failed = report.failures(large).data
    assert failed.count("<tr>") == 2  # the head, and one kind for five cells
    assert "<td>5</td>" in failed
    assert "anna__turn__copy" in failed
