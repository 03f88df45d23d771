"""Sentences say what the numbers support; numbers that are not there give words too."""

import dataclasses
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from rating_tables import make_pairs, make_ratings

from studykit import report, stats
from studykit.report import tables, words
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
    source_file = make_driving(tmp_path / "source.mp4")

    def results(ratings: pd.DataFrame, metrics: pd.DataFrame | None = None) -> Results:
        def inputs(kind: str) -> tuple[Input, ...]:
            known = ratings[[kind, f"{kind}_type"]].drop_duplicates()
            file = driving_file if kind == "driving" else source_file
            return tuple(Input(*names, file) for names in known.itertuples(index=False))

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


def _said(results: Results) -> str:
    return " ".join(point for points in words.summary(results).values() for point in points)


def test_a_difference_is_named_only_where_the_corrected_test_shows_it(results_of) -> None:
    ratings = make_ratings(raters=12, methods=("copy", "warp"), effects={"warp": 0.9}, per_type=2)
    ratings = ratings[ratings["criterion"].isin(["naturalness", "structure"])]
    # On structure every answer is the same, so that nothing can differ there.
    ratings.loc[ratings["criterion"] == "structure", "value"] = 3
    (like, points), (these, _) = words.summary(results_of(ratings)).items()
    assert like == "About raters, sources and drivings like these" and "these clips" in these
    sentence = points[0]
    assert re.match(
        r"\*\*copy\*\* was rated lower than warp on naturalness \(by [01]\.\d+ \[0", sentence
    )
    assert sentence.endswith(
        "; nothing can be said on structure (nothing varies: there is no error to test by)."
    )


@pytest.mark.parametrize("seed", range(3))
def test_no_method_is_said_to_be_better_where_there_is_no_effect(results_of, seed: int) -> None:
    ratings = make_ratings(raters=10, methods=("copy", "warp"), types=("frontal",), seed=seed,
                           per_type=4, criteria=("jitter", "structure"))  # fmt: skip
    said = _said(results_of(ratings))
    assert "rated higher" not in said and "rated lower" not in said
    assert (
        "no difference was shown on structure and jitter, which is not to say that there is none"
        in said
    )
    assert "equal" not in said and "as good as" not in said


def test_many_pairs_of_which_nothing_is_known_share_a_sentence() -> None:
    few, four = itertools.combinations("abc", 2), list(itertools.combinations("abcd", 2))
    assert words._between(list(few))[0] == "Between **a** and **b**"
    assert words._between(four) == ["Between any two of **a**, **b**, **c** and **d**"]
    (some,) = words._between(four[:4])
    assert some.startswith("Between **a** and **b**, **a** and **c**, ")


def test_words_are_made_from_the_findings_alone(results_of, monkeypatch) -> None:
    """Whatever the other tests say, a sentence needs its row."""
    results = results_of(make_ratings(raters=8, per_type=2, effects={"warp": 1.5}))
    assert "**copy** was rated lower than warp" in _said(results)
    found = results.analysis.findings
    quiet = found.table.assign(p_adjusted=1.0)
    replaced = dataclasses.replace(found, table=quiet)
    analysis = dataclasses.replace(results.analysis, findings=replaced)
    monkeypatch.setitem(results.__dict__, "analysis", analysis)
    assert "was rated" not in _said(results)


def test_one_input_a_type_supports_no_word_about_the_type(results_of) -> None:
    def value(rater: int, source: str, driving: str, method: str, criterion: str) -> int:
        return {"frontal": 4, "side": 2, "stylised": 4}[source] + (rater + len(driving)) % 2

    few = {"raters": 6, "methods": ("warp",), "types": ("frontal", "side")}
    one = _said(results_of(make_ratings(value, **few)))
    many = _said(results_of(make_ratings(value, per_type=4, **few)))
    assert "ide sources scored lower" not in one
    assert "a claim about source types needs two sources in each, and frontal and side have" in one
    assert "Side sources scored lower than frontal ones on naturalness (by 2.00 [" in many


def test_an_interaction_says_where_a_difference_is_larger(results_of) -> None:
    def value(rater: int, source: str, driving: str, method: str, criterion: str) -> int:
        return 2 + (method == "warp") * (1 + (source == "side")) + (rater + len(driving)) % 2

    few = {"raters": 6, "methods": ("copy", "warp"), "types": ("frontal", "side"), "per_type": 3}
    noise = np.random.default_rng(0)
    ratings = make_ratings(value, criteria=("jitter",), **few)
    ratings["value"] = np.clip(ratings["value"] + noise.integers(-1, 2, len(ratings)), 1, 5)
    said = _said(results_of(ratings))
    assert "The difference copy − warp is larger with frontal than with side sources on jitter" \
        in said  # fmt: skip
    assert (
        "No interaction was shown (method × driving type and source type × driving type), which is "
        "not to say that there is none." in said
    )


@pytest.mark.usefixtures("pictures_unpainted")
def test_without_a_plan_what_was_found_is_exploratory(results_of) -> None:
    results = results_of(make_ratings(raters=6))
    (said,) = words.plan(results)
    assert said.startswith("**Exploratory.** No plan was frozen before the first answer")
    assert said in report.summary(results).markdown
    assert words.plan(dataclasses.replace(results, ratings=results.ratings.iloc[:0])) == []
    ratings = make_ratings(raters=4, **SMALL).assign(simulated=True)
    (rehearsed,) = words.plan(results_of(ratings))
    assert rehearsed.startswith("None was frozen") and "found" not in rehearsed


def test_a_clip_that_was_rated_too_rarely_is_a_caution(results_of) -> None:
    results = results_of(make_ratings(raters=6))
    done = {row.cell: SimpleNamespace(status="done") for row in results.ratings.itertuples()}
    for asked, behind in ((6, 0), (8, len(done))):
        rules = dataclasses.replace(results.study.ratings, ratings_per_clip_min=asked)
        sources = tuple(dataclasses.replace(source, path=Path(f"{source.name}.png"))
                        for source in results.study.sources)  # fmt: skip
        study = dataclasses.replace(results.study, ratings=rules, sources=sources)
        found = dataclasses.replace(results, study=study, rows=done)
        assert found.coverage == (6, asked, behind, len(done), 2 * behind)
        cautions = [text for text in words.cautions(found) if "rated least" in text]
        assert len(cautions) == bool(behind)


def test_primary_metrics_were_named_beforehand_only_if_a_plan_shows_it(
    results_of, monkeypatch
) -> None:
    ratings = make_ratings(raters=3, **SMALL)
    cells = ratings["cell"].unique()
    metrics = pd.DataFrame(dict.fromkeys(METRIC_COLUMNS, ""), index=range(len(cells)))
    metrics = metrics.assign(cell=cells, metric="csim", value=1.0, better="higher")
    results = results_of(ratings, metrics)
    assert "Primary metrics, named beforehand," in tables.metric_correlation(results).caption
    plan = dataclasses.replace(results.study.plan, metrics=("csim",))
    named = dataclasses.replace(results, study=dataclasses.replace(results.study, plan=plan))
    for late, said in ((None, "by the study file"), (0, "beforehand"), (7, "by the study file")):
        contents = {"answers_before": late, "primary_metrics": ["csim"]}
        frozen = None if late is None else stats.FrozenPlan("", True, contents)
        monkeypatch.setitem(named.__dict__, "plan", frozen)
        assert f"Primary metrics, named {said}," in tables.metric_correlation(named).caption


def test_those_are_said_to_be_excluded_who_gave_scores(results_of, monkeypatch) -> None:
    ratings = make_ratings(raters=3, **SMALL)
    training = ratings["rater"] == "r000"
    results = results_of(ratings.assign(role=np.where(training, "training", "rating")))
    excluded = SimpleNamespace(excluded={"r000": "too fast", "r001": "too fast"})
    monkeypatch.setitem(results.__dict__, "screening", excluded)
    assert "2 raters gave" in words.studied(results)
    assert "; 1 of them was excluded." in words.studied(results)
    none = results_of(ratings.assign(role="training"))
    monkeypatch.setitem(none.__dict__, "screening", excluded)
    assert words.studied(none).endswith(" No rating was given that counts.")


def test_withdrawals_are_counted_in_the_words_on_raters(results_of) -> None:
    results = dataclasses.replace(results_of(make_ratings(raters=6)), withdrawn=2)
    said = "2 raters have withdrawn, whose answers were deleted."
    assert said in " ".join(words.methods_section(results))
    assert said in report.raters(results).markdown


def test_each_condition_stands_under_its_verdict(results_of) -> None:
    def value(rater: int, source: str, driving: str, method: str, criterion: str) -> int:
        best = (source, driving) == ("frontal", "frontal")
        return (4 if best else 1) + (rater + len(source + driving + criterion)) % 2

    results = results_of(make_ratings(value, raters=8, methods=("warp",)))
    verdict = words.summary(results)["About these clips, as raters like these see them"][0]
    assert verdict == (
        "**warp**: of 9 conditions (source × driving), good in 1 (frontal × frontal) and poor in "
        "the other 8."
    )

    def turned(rater: int, source: str, driving: str, method: str, criterion: str) -> int:
        worst = (source, driving) == ("frontal", "frontal")
        return (1 if worst else 4) + (rater + len(source + driving + criterion)) % 2

    worst = make_ratings(turned, raters=8, methods=("warp",))
    (verdict, *_) = words.summary(results_of(worst))["About these clips, as raters like these "
                                                    "see them"]  # fmt: skip
    assert verdict.endswith("poor in 1 (frontal × frontal) and good in the other 8.")
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
        assert pd.read_csv(path.with_suffix(".csv"))["simulated"].all()
    drawn = list((results.out / "figures").glob("*.svg"))
    assert len(drawn) >= 8
    for path in drawn:
        assert "<!-- SIMULATED -->" in path.read_text()
    paragraph = next(p for p in words.methods_section(results) if p.startswith("**Ratings.**"))
    assert "blind" not in paragraph and "watched" not in paragraph
    people = results_of(ratings.assign(simulated=False))
    human = report.heading(people)
    assert "imulated" not in human.html + human.markdown
    paragraph = next(p for p in words.methods_section(people) if p.startswith("**Ratings.**"))
    assert "blind to method" in paragraph and "had to be watched" in paragraph


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
    "one driving type": make_ratings(raters=4, per_type=2, **SMALL)[
        lambda table: table["driving_type"] == "side"
    ],
    "one method": make_ratings(raters=5, methods=("warp",), types=("frontal", "side")),
    "one condition": make_ratings(raters=5, methods=("warp",), types=("side",)),
    "one rating": make_ratings(raters=1, methods=("warp",), types=("side",)).head(1),
    "one criterion": make_ratings(raters=5, criteria=("jitter",), **SMALL),
    "pairs only": make_pairs({("copy", "warp"): 9, ("warp", "copy"): 3}),
    "nobody's rating counts": make_ratings(raters=3, types=("side",)).assign(role="training"),
    "no ratings": make_ratings(raters=1).head(0),
    "every rater alike": alike(make_ratings(raters=4, **SMALL)),
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
def test_where_every_rater_was_excluded_that_is_said_and_nothing_else(results_of) -> None:
    results = results_of(alike(make_ratings(raters=4, **SMALL)))
    assert len(results.screening.excluded) == 4
    said = words.studied(results)
    assert "4 raters gave 128 scores, on 8 clips each; every one of them was excluded." in said
    assert "every rater was excluded" in report.summary(results).markdown.lower()
    assert "warp" in report.raters(results).markdown  # the scores with the excluded raters
    for section in (report.verdicts, report.scores, report.statistics):
        assert section(results).html.startswith("<div class='absent'>")
        assert section(results).markdown.endswith(": every rater was excluded.")
    said = " ".join(section(results).markdown for section in RATED_SECTIONS)
    for wrong in ("no ratings yet", "Nobody has rated", "**Statistics.**", "Read with care",
                  "Had nobody been excluded"):  # fmt: skip
        assert wrong not in said


@pytest.mark.usefixtures("pictures_unpainted")
def test_clips_that_were_compared_in_pairs_are_not_said_to_be_unrated(results_of) -> None:
    results = results_of(DEGENERATE["pairs only"].assign(study="small"))
    assert "Paired comparisons" in report.scores(results).markdown
    assert "compared in pairs" in report.verdicts(results).markdown
    assert words.studied(results).endswith("6 raters made 12 comparisons of two clips.")
    assert "preference" in report.statistics(results).markdown
    said = " ".join(section(results).markdown for section in RATED_SECTIONS)
    for wrong in ("no ratings", "not rated", "Higher is better on", "Agreement\n"):
        assert wrong not in said


def test_a_study_of_which_every_rater_withdrew_was_rated_all_the_same(results_of) -> None:
    unrated = results_of(DEGENERATE["no ratings"].assign(study="small"))
    results = dataclasses.replace(unrated, withdrawn=2)
    assert "2 raters have withdrawn, whose answers were deleted." in words.studied(results)
    assert report.summary(results).markdown.startswith("- Every rater has withdrawn, so that")
    said = " ".join(section(results).markdown for section in RATED_SECTIONS)
    assert "No scores: every rater has withdrawn." in said
    for wrong in ("not run", "obody has rated", "No ratings"):
        assert wrong not in said


@pytest.mark.usefixtures("pictures_unpainted")
def test_where_no_claim_can_be_tested_there_is_no_empty_table(results_of) -> None:
    results = results_of(DEGENERATE["one rater"].assign(study="small"))
    shown = report.statistics(results).markdown
    assert "No claim could be tested" in shown and "| claim |" not in shown
    assert (results.out / "tables/findings.csv").is_file()


@pytest.mark.parametrize(
    ("ratings", "why"),
    [
        ("nobody's rating counts", "No rating was given that counts"),
        ("no ratings", "The study was not run yet"),
        ("every rater alike", "Every rater was excluded"),
    ],
)
def test_why_there_are_no_scores_is_one_reason_in_every_section(
    results_of, ratings: str, why: str
) -> None:
    results = results_of(DEGENERATE[ratings].assign(study="small"))
    assert report.summary(results).markdown.startswith(f"- {why}, so that nothing can be said")
    for section in (report.verdicts, report.scores, report.statistics):
        assert section(results).markdown.endswith(f": {why[0].lower()}{why[1:]}.")


def test_a_primary_metric_that_goes_with_the_ratings_is_named(results_of) -> None:
    ratings = make_ratings(raters=8, clip_sd=0.8, per_type=2, criteria=("jitter",), **SMALL)
    means = ratings.groupby("cell")["value"].mean()
    noise = pd.Series(range(len(means)), index=means.index) % 5
    names = {"landmark_motion_error": -means, "csim": noise, "flicker": -means}
    shared = {"unit": "of 1", "better": "lower", "extractor": "", "driving": float("nan")}
    metrics = pd.concat(
        pd.DataFrame({"cell": means.index, "metric": name, "value": values.to_numpy()})
        for name, values in names.items()
    ).assign(**shared)
    said = _said(results_of(ratings, metrics))
    assert "The landmark motion error goes with jitter within sources, drivings and methods" in said
    assert "flicker" not in said and "CSIM goes" not in said


@pytest.mark.usefixtures("pictures_unpainted")
def test_the_methods_section_names_what_was_done(results_of) -> None:
    text = report.methods(results_of(make_ratings(raters=6, **SMALL))).markdown
    for part in ("**Stimuli.**", "**Ratings.**", "**Statistics.**", "Judd", "Williams"):
        assert part in text
    assert "animated by copy and warp" in text
    assert " A rater rated 8 clips. The clip rated least has " in text
    cited = text.partition("**References.** ")[2]
    for work in ("Williams, E. J. (1949)", "Judd, C. M., Westfall, J.", "Hossfeld, T."):
        assert work in cited
    assert "Bradley" not in cited


@pytest.mark.usefixtures("pictures_unpainted")
def test_every_work_that_the_methods_section_cites_is_listed(results_of) -> None:
    ratings = make_ratings(raters=6, per_type=2, **SMALL)
    cells = ratings["cell"].unique()
    columns = dict.fromkeys(METRIC_COLUMNS, "")
    metrics = pd.concat(
        pd.DataFrame(columns, index=range(len(cells))).assign(
            cell=cells, metric=name, value=np.arange(len(cells)) * 1.0, better="lower",
            extractor=extractor,
        )
        for name, extractor in (("sms", "mediapipe-68"), ("flow_warping_error", "TV-L1"),
                                ("lip_dynamics", "mediapipe-68"))
    )  # fmt: skip
    *said, cited = words.methods_section(results_of(ratings, metrics))
    text = " ".join(said)
    assert "TV-L1 is optical flow" in text and "mediapipe-68 is those 68 points" in text
    for name, year in re.findall(r"(\w+)(?: et al\.)? ((?:19|20)\d\d)\b", text):
        assert re.search(rf"{name}[^.]*?.*?\({year}\)", cited), (name, year)
    assert "arXiv 2511.04520" in cited


@pytest.mark.parametrize("protocol", ["same-identity", "cross-identity"])
def test_the_methods_section_says_where_true_frames_and_faces_come_from(
    results_of, monkeypatch, protocol: str
) -> None:
    ratings = make_ratings(raters=3, **SMALL)
    cells = ratings["cell"].unique()
    frame = pd.DataFrame(dict.fromkeys(METRIC_COLUMNS, ""), index=range(len(cells)))
    frame = frame.assign(cell=cells, metric="l1", value=1.0, better="lower")
    frame.loc[0, "value"] = np.nan
    results = results_of(ratings, frame)
    done = SimpleNamespace(status="done", weights="synth-256", frames=4, version="", note="")
    results = dataclasses.replace(results, rows={cells[0]: done})
    if protocol == "same-identity":
        file = results.study.drivings[0].path
        sources = tuple(dataclasses.replace(s, path=file) for s in results.study.sources)
        study = dataclasses.replace(results.study, sources=sources)
        results = dataclasses.replace(results, study=study)
    monkeypatch.setattr(words, "is_rendered", lambda item: item.name.startswith("side"))
    said = " ".join(words.methods_section(results))
    assert f"True frames are known of {len(cells) - 1} of {len(cells)} clips: " in said
    again = "the source's face was rendered again"
    assert ("they are the driving's own." in said) == (protocol == "same-identity")
    assert (again in said) == (protocol == "cross-identity")
    assert "Of the sources 1 of 2 and of the drivings 1 of 2 show rendered faces." in said
    assert "were trained on rendered faces and know no others. " in said
    assert re.search(r"Drivings have \d+ frames a second\.", said)


def test_an_order_is_not_called_balanced_before_all_its_rows_were_used(results_of) -> None:
    results = results_of(make_ratings(raters=6, **SMALL))
    said = " ".join(words.methods_section(results))
    conditions = results.ratings.drop_duplicates(["source_type", "driving_type", "method"])
    rows = len(conditions) * (1 + len(conditions) % 2)
    assert f"from the {rows} rows of a Williams design for 6 sessions (seed " in said
    assert "balanced once all rows are used equally often" in said
    rules = dataclasses.replace(results.study.ratings, trials=len(conditions) - 1)
    partial = dataclasses.replace(results.study, ratings=rules)
    said = " ".join(words.methods_section(dataclasses.replace(results, study=partial)))
    assert "Williams" not in said and "The clips with the fewest ratings came first" in said


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
    assert stats.VERDICTS[:4] == ("good", "flawed", "poor", "undecided")
