"""Intervals cover and tests keep their level, on simulated studies with known truth."""

import importlib.util
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from studykit.errors import StudyError

# Not of the package: it writes a page of docs/.
PATH = Path(__file__).parent.parent / "docs" / "coverage.py"
_SPEC = importlib.util.spec_from_file_location("coverage_of_docs", PATH)
coverage = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = coverage  # dataclasses look their module up
_SPEC.loader.exec_module(coverage)


@pytest.mark.parametrize("shape", coverage.SHAPES)
def test_intervals_cover_the_truth(shape):
    found = coverage.coverage_of(shape, 24, studies=200)
    # What 2,000 studies must show, and one standard error of 200 studies (1.5 %) more.
    for share in (found.score, found.method, found.difference):
        assert 0.93 - 0.015 < share < 0.97 + 0.015
    assert found.score > found.t - 0.01


def test_the_t_interval_fails_at_the_ceiling_and_the_score_interval_does_not():
    found = coverage.coverage_of("at the ceiling", 15, studies=200)
    assert found.t < 0.93 < found.score < 0.98


@pytest.mark.parametrize("shape", ["typical", "at the ceiling"])
def test_without_any_effect_tests_find_one_in_five_percent_at_most(shape):
    found = coverage.false_alarms_of(shape, 15, studies=200)
    for share in (found.methods, found.conditions, found.friedman):
        assert share < 0.05 + 3 * 0.0154


def test_the_command_rewrites_the_page_between_its_markers(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{coverage.BEGIN}\nformer\n{coverage.END}\nafter\n")
    monkeypatch.setattr(coverage, "SHAPES", {"typical": coverage.SHAPES["typical"]})
    monkeypatch.setattr(coverage, "RATERS", (5,))
    result = CliRunner().invoke(coverage.main, ["--studies", "20", "--page", str(page)])
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "former" not in text
    assert text.count("| typical |") == 2 and "over 20 simulated studies" in text


def test_a_page_without_markers_is_left_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("mine")
    with pytest.raises(StudyError, match="lacks the lines"):
        coverage.write_into(page, "tables")
    assert page.read_text() == "mine"
    with pytest.raises(StudyError, match="name it by --page"):
        coverage.write_into(tmp_path / "absent.md", "tables")
