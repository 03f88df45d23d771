"""Sentences say what the numbers support; numbers that are not there give words too."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from rating_tables import make_pairs, make_ratings

from studykit import report, stats
from studykit.report import words
from studykit.report.results import Results
from studykit.study.file import Input, MethodSpec, Study

TYPES = ("frontal", "side", "stylised")
RATED_SECTIONS = (
    report.heading,
    report.studied,
    report.summary,
    report.verdicts,
    report.scores,
    report.statistics,
    report.metrics,
    report.raters,
    report.methods,
)


@pytest.fixture
def results_of(
    tmp_path: Path, make_driving: Callable[..., Path]
) -> Callable[[pd.DataFrame], Results]:
    """Results whose ratings are a table, of a study with just the inputs that it names."""
    driving_file = make_driving(tmp_path / "driving.mp4")

    def results(ratings: pd.DataFrame, metrics: pd.DataFrame | None = None) -> Results:
        def inputs(kind: str) -> tuple[Input, ...]:
            known = ratings[[kind, f"{kind}_type"]].drop_duplicates()
            return tuple(Input(*names, driving_file) for names in known.itertuples(index=False))

        trials = ratings.groupby(["rater", "criterion"]).cumcount()
        methods = tuple(MethodSpec(name, name) for name in ratings["method"].unique())
        (tmp_path / "tables").mkdir(exist_ok=True)
        return Results(
            study=Study("small", inputs("source"), inputs("driving"), methods, tmp_path / "s.yaml"),
            out=tmp_path,
            rows={},
            manifest={},
            ratings=ratings.assign(trial=trials),
            raters=pd.DataFrame(columns=["rater", "complete"]),
            metrics=pd.DataFrame(columns=list(METRIC_COLUMNS)) if metrics is None else metrics,
            metric_notes=pd.DataFrame(columns=["cell", "note"]),
        )

    return results


@pytest.fixture
def pictures_unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay out every picture, which finds what can't be drawn, but paint none: that takes long."""

    def lay_out(figure: Figure, path: Path, **options: object) -> None:
        if path.suffix == ".svg":
            figure.draw_without_rendering()
        path.write_bytes(b"")

    monkeypatch.setattr(Figure, "savefig", lay_out)


METRIC_COLUMNS = ("cell", "metric", "value", "unit", "better", "extractor", "driving")


def test_a_difference_is_named_only_where_the_corrected_test_shows_it(results_of) -> None:
    ratings = make_ratings(raters=12, methods=("copy", "warp"), effects={"warp": 0.9})
    ratings = ratings[ratings["criterion"].isin(["naturalness", "structure"])]
    # On structure every answer is the same, so that nothing can differ there.
    ratings.loc[ratings["criterion"] == "structure", "value"] = 3
    (sentence,) = (s for s in words.summary(results_of(ratings)) if s.startswith("**copy** was"))
    assert re.match(
        r"\*\*copy\*\* was rated lower than warp on naturalness \(by [01]\.\d+ \[0", sentence
    )
    assert sentence.endswith("; on structure no difference was shown.")


@pytest.mark.parametrize("seed", range(3))
def test_no_method_is_said_to_be_better_where_there_is_no_effect(results_of, seed: int) -> None:
    ratings = make_ratings(raters=10, methods=("copy", "warp"), types=("frontal",), seed=seed)
    results = results_of(ratings)
    assert (results.analysis.pairwise.table["p_holm"] >= 0.05).all()
    said = " ".join(words.summary(results))
    assert "rated higher" not in said and "rated lower" not in said
    assert (
        "no difference was shown on any criterion, which is not to say that there is none" in said
    )
    assert "equal" not in said and "as good as" not in said


def test_one_input_a_type_is_spoken_of_as_that_input(results_of) -> None:
    def value(rater: int, source: str, driving: str, method: str, criterion: str) -> int:
        return {"frontal": 4, "side": 2, "stylised": 4}[source] + (rater + len(driving)) % 2

    few = {"raters": 6, "methods": ("warp",), "types": ("frontal", "side")}
    one = " ".join(words.summary(results_of(make_ratings(value, **few))))
    many = " ".join(words.summary(results_of(make_ratings(value, per_type=2, **few))))
    assert "he one side source scored lower than the one frontal source" in one
    assert "ide sources scored lower than frontal ones" in many


@pytest.mark.usefixtures("pictures_unpainted")
def test_each_condition_stands_under_its_verdict(results_of) -> None:
    def value(rater: int, source: str, driving: str, method: str, criterion: str) -> int:
        best = (source, driving) == ("frontal", "frontal")
        return (4 if best else 1) + (rater + len(source + driving + criterion)) % 2

    results = results_of(make_ratings(value, raters=8, methods=("warp",)))
    verdict = words.summary(results)[0]
    assert verdict == (
        "**warp**: of 9 conditions (source × driving), good in 1 (frontal × frontal) and poor in "
        "the other 8."
    )
    shown = report.verdicts(results).html
    assert shown.count("class='verdict-poor'") == 8
    assert shown.count("class='verdict-good'") == 1
    assert results.analysis.rule.words.split(";")[0] in report.verdicts(results).markdown


def test_simulated_ratings_are_said_to_be_so_in_every_table_picture_and_heading(
    results_of,
) -> None:
    ratings = make_ratings(raters=4, **SMALL).assign(simulated=True)
    results = results_of(ratings)
    heading = report.heading(results)
    assert words.SIMULATED in heading.markdown
    assert "class='simulated-running'" in heading.html
    for section in (report.verdicts, report.scores, report.statistics, report.raters):
        page = section(results).html
        captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
        assert captions
        assert all("Simulated ratings." in caption for caption in captions)
    for path in (results.out / "tables").glob("*.tex"):
        assert "Simulated ratings." in path.read_text()
    drawn = list((results.out / "figures").glob("*.svg"))
    assert len(drawn) >= 8
    for path in drawn:
        assert "<!-- SIMULATED -->" in path.read_text()
    human = report.heading(results_of(ratings.assign(simulated=False)))
    assert "imulated" not in human.html + human.markdown


def alike(ratings: pd.DataFrame) -> pd.DataFrame:
    return ratings.assign(value=3)


def with_holes(ratings: pd.DataFrame) -> pd.DataFrame:
    return ratings.iloc[::7]


SMALL = {"types": ("frontal", "side"), "methods": ("copy", "warp")}
DEGENERATE = {
    "one rater": make_ratings(raters=1, **SMALL),
    "two raters": make_ratings(raters=2, **SMALL),
    "all ratings alike": alike(make_ratings(raters=5, **SMALL)),
    "missing cells": with_holes(make_ratings(raters=6, **SMALL)),
    "one method": make_ratings(raters=5, methods=("warp",), types=("frontal", "side")),
    "one condition": make_ratings(raters=5, methods=("warp",), types=("side",)),
    "one rating": make_ratings(raters=1, methods=("warp",), types=("side",)).head(1),
    "one criterion": make_ratings(raters=5, criteria=("jitter",), **SMALL),
    "pairs only": make_pairs({("copy", "warp"): 9, ("warp", "copy"): 3}),
    "nobody's rating counts": make_ratings(raters=3, types=("side",)).assign(role="training"),
    "no ratings": make_ratings(raters=1).head(0),
}


@pytest.mark.usefixtures("pictures_unpainted")
@pytest.mark.parametrize("name", DEGENERATE)
def test_numbers_that_can_not_be_had_give_words(results_of, name: str) -> None:
    results = results_of(DEGENERATE[name].assign(study="small"))
    for section in RATED_SECTIONS:
        shown = section(results)
        # Pictures inside the page are not text.
        page = re.sub(r"src='data:[^']*'", "", shown.html)
        for text in (page, shown.markdown):
            assert not re.search(r"\b(nan|NaN|None(?! of)|inf|NaT|<NA>)\b", text), section.__name__
        assert shown.markdown.strip()


@pytest.mark.usefixtures("pictures_unpainted")
def test_a_study_whose_raters_were_all_excluded_still_has_a_report(results_of) -> None:
    results = results_of(alike(make_ratings(raters=4, **SMALL)))
    assert len(results.screening.excluded) == 4
    assert "4 of them were excluded" in words.studied(results)
    assert "warp" in report.raters(results).markdown  # the scores with the excluded raters


def test_ratings_that_speak_of_metrics_name_the_strongest(results_of) -> None:
    ratings = make_ratings(raters=8, effects={"warp": 1.0}, clip_sd=0.8, **SMALL)
    means = ratings.groupby("cell")["value"].mean()
    noise = pd.Series(range(len(means)), index=means.index) % 5
    metrics = pd.concat(
        pd.DataFrame(
            {
                "cell": means.index,
                "metric": name,
                "value": values.to_numpy(),
                "unit": "of 1",
                "better": "lower",
                "extractor": "",
                "driving": float("nan"),
            }
        )
        for name, values in (("l1", -means), ("flicker", noise))
    )
    said = words.summary(results_of(ratings, metrics))[-1]
    assert "most of all L1, which goes with the raters (rho = 1.00" in said or re.search(
        r"L1, which goes with the raters \(rho = 0\.9\d", said
    )


@pytest.mark.usefixtures("pictures_unpainted")
def test_the_methods_section_names_what_was_done(results_of) -> None:
    text = report.methods(results_of(make_ratings(raters=6, **SMALL))).markdown
    for part in ("**Stimuli.**", "**Ratings.**", "**Statistics.**", "Krippendorff", "Williams"):
        assert part in text
    assert "animated by copy and warp" in text


def test_what_shipped_weights_know_is_said_once_with_the_weights_and_once_with_the_clips(
    results_of,
) -> None:
    from studykit.clips.cells import CellRow

    known = "synth-128 was trained on rendered faces alone, at 128 pixels"
    row = CellRow("a__b__fomm", "a", "side", "b", "side", "fomm", "done", weights="synth-128",
                  weights_hash="ab" * 32, note=known)  # fmt: skip
    other = dataclasses.replace(row, cell="c__b__fomm", note=f"{known}; computed without oneDNN")
    results = results_of(make_ratings(raters=1))
    results = dataclasses.replace(results, rows={one.cell: one for one in (row, other)})
    text = report.studied(results).markdown
    assert text.count("rendered faces") == 1 and "`studykit weights fetch vox-256`" in text
    assert words.notes(results) == f"Notes: computed without oneDNN; {known}."
    assert report.clips(results).markdown.startswith(words.notes(results))
    assert "rendered faces" not in report.summary(results).markdown
    trained = dataclasses.replace(row, weights="vox-256", note="")
    results = dataclasses.replace(results, rows={row.cell: trained})
    assert "rendered faces" not in report.studied(results).markdown
    assert words.notes(results) == "" and "Notes" not in report.clips(results).markdown


def test_the_verdicts_of_the_study_are_those_of_the_statistics() -> None:
    assert set(stats.VERDICTS) == {"good", "acceptable but flawed", "poor", "not enough data"}
