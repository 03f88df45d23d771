"""The report shows every cell, failures included, as one page that needs nothing else."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studykit import media, report
from studykit.clips import animate_cells
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
