"""Claims err and intervals cover as they say where raters share clips; what cheats is found out."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from studykit.errors import StudyError
from studykit.ratings.simulate import Effect, SimulationModel, simulate_ratings
from studykit.stats import findings
from studykit.stats.comparison import signed_rank

# Not of the package: it writes a page of docs/.
PATH = Path(__file__).parent.parent / "docs" / "simulated_studies.py"
_SPEC = importlib.util.spec_from_file_location("coverage_of_docs", PATH)
coverage = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = coverage  # dataclasses look their module up
_SPEC.loader.exec_module(coverage)


def test_the_rows_are_those_of_the_page():
    rows = coverage.rows()
    assert len(set(rows)) == len(rows) == 24
    for design, count in (("demo", 8), ("4 × 4", 8)):
        corners = {tuple(vars(row).values())[3:] for row in rows if row.design == design}
        assert corners.issuperset(coverage.CORNERS)
        assert len(corners) - count <= 1  # and the middle
    for design in ("demo", "2 × 2", "4 × 4"):
        assert {row.generator for row in rows if row.design == design} == {"steps", "probit"}
        assert {row.raters for row in rows if row.design == design} == {15, 24, 40}


@pytest.mark.parametrize("generator", coverage.GENERATORS)
def test_claims_err_in_five_percent_at_most_and_tests_that_forget_the_clips_do_not(generator):
    row = coverage.Row("demo", generator, 24, 0.2, 0.35, 0.2)
    found = coverage.error_rates(row, studies=200, seed=4)
    mine = {name: share for name, share in found.items() if not name.startswith("old")}
    assert len(mine) == 6
    assert max(mine.values()) <= 0.05 + 2 * 0.0154
    assert found["old method"] > 0.3
    assert found["old source_type"] > 0.8


def test_findings_of_studies_without_effects_are_no_claims():
    """The same from whole ratings tables: seven claims in ten studies are one in a hundred."""
    study = coverage.design("demo")
    model = SimulationModel(effects=(), inattentive=0, source_sd=0.35, source_method_sd=0.2)
    claims, cheats = 0, 0
    for seed in range(10):
        ratings = simulate_ratings(study, 15, model=model, seed=seed)
        table = findings(ratings).table
        like = table[table["scope"] == "like these"]
        wrong = like[like["p_adjusted"] <= 0.05]
        claims += wrong["claim"].nunique()
        rated = ratings[ratings["role"] == "rating"]
        means = rated.pivot_table(index="rater", columns="source_type", values="value")
        pairs = (("frontal", "side"), ("frontal", "stylised"), ("side", "stylised"))
        p = [signed_rank((means[a] - means[b]).to_numpy()).p for a, b in pairs]
        cheats += min(p) * 3 <= 0.05
    assert claims <= 6
    assert cheats > 5


def test_intervals_cover_what_is_true_of_all_stimuli():
    row = coverage.Row("2 × 2", "probit", 24, *coverage.MIDDLE)
    found = coverage.coverage(row, studies=60)
    assert len(found) == 7
    for name, share in found.items():
        assert share > 0.92, name
    # Were the truth another, they would not: so narrow are they.
    model = row.model((Effect(1.0, method="fomm"), Effect(0.5, source_type="side")))
    layout = coverage.Layout.of(row.study, 24)
    levels = [sorted({getattr(clip, name) for clip in layout.clips}) for name in coverage.FACTORS]
    values = coverage.simulate_values(model, layout, 20, np.random.default_rng(0))
    nothing = np.zeros([*map(len, levels), 4])
    for contrast in coverage.contrasts(coverage.simulated_answers(layout, values)):
        if contrast.levels == (("copy", "fomm"),):
            assert (contrast.estimate + contrast.half(0.95) < 0).mean() > 0.8
            assert (coverage._true(contrast, nothing, levels) == 0).all()


def test_a_contrast_of_true_means_is_that_of_its_levels():
    levels = [["a", "b"], ["x", "y"], ["u", "v"]]
    truth = np.arange(8.0).reshape(2, 2, 2, 1)  # method 4, source type 2, driving type 1

    def contrast(factors, pairs):
        nothing = np.zeros(1)
        return coverage.Contrast(factors, pairs, nothing, nothing, nothing)

    for factor, pair, expected in (
        ("method", ("b", "a"), 4),
        ("source_type", ("x", "y"), -2),
        ("driving_type", ("v", "u"), 1),
    ):
        assert coverage._true(contrast((factor,), (pair,)), truth, levels) == [expected]
    both = contrast(("method", "driving_type"), (("a", "b"), ("v", "u")))
    assert coverage._true(both, truth**2, levels) == [-8.0]


def test_the_power_table_counts_the_sets_that_lme4_has_seen(tmp_path):
    coverage.write_power_sets(tmp_path, sets=200)
    assert (tmp_path / "power-values.csv").read_text().count("\n") == 200
    design = pd.read_csv(tmp_path / "power-design.csv")
    assert design.groupby("rater").size().tolist() == [48] * 24
    lme4 = {"set": [3, 1, 2], "satterthwaite": [0.01, 0.2, 0.03], "kenward_roger": [0.2] * 3}
    pd.DataFrame(lme4).to_csv(tmp_path / "power-lme4.csv", index=False)
    lines = coverage.power_table(tmp_path).splitlines()
    assert "3 data sets" in lines[0]
    assert "| 66.7% |" in next(line for line in lines if "Satterthwaite" in line)
    assert "| 0.0% |" in next(line for line in lines if "Kenward" in line)


def test_power_is_within_four_points_of_lme4s(tmp_path):
    """Of the same 200 sets lmerTest found the difference in 135, and pbkrtest in 133 (power.R)."""
    coverage.write_power_sets(tmp_path, sets=200)
    never = {"set": range(1, 201), "satterthwaite": 1.0, "kenward_roger": 1.0}
    pd.DataFrame(never).to_csv(tmp_path / "power-lme4.csv", index=False)
    _, _, ours, *_ = coverage.power_table(tmp_path).splitlines()
    assert float(ours.split("|")[2].rstrip(" %")) >= 67.5 - 4


def test_the_command_rewrites_the_page_between_its_markers(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    begin, end = (mark.format("error rates") for mark in (coverage.BEGIN, coverage.END))
    page.write_text(f"before\n{begin}\nformer\n{end}\nafter\n")
    rows = [dataclasses.replace(coverage.rows()[0], raters=5)]
    monkeypatch.setattr(coverage, "rows", lambda: rows)
    command = ["--studies", "20", "--page", str(page), "--folder", str(tmp_path / "rows")]
    result = CliRunner().invoke(coverage.main, command)
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "former" not in text
    assert text.count("| demo | steps | 5 |") == 1
    # What was simulated is kept.
    monkeypatch.setattr(coverage, "error_rates", None)
    assert CliRunner().invoke(coverage.main, command).exit_code == 0
    assert page.read_text() == text


def test_a_page_without_markers_is_left_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("mine")
    with pytest.raises(StudyError, match="lacks the lines"):
        coverage.write_into(page, "power", "table")
    assert page.read_text() == "mine"
    with pytest.raises(StudyError, match="name it by --page"):
        coverage.write_into(tmp_path / "absent.md", "power", "table")
