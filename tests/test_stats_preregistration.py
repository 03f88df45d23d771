"""A plan is frozen once, before the first answer; what was done otherwise is listed, all of it."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from studykit import stats
from studykit.errors import StudyError
from studykit.ratings.screening import coverage
from studykit.ratings.simulate import Effect, SimulationModel, simulate_ratings
from studykit.ratings.store import open_store
from studykit.report import load_results
from studykit.run import run_study
from studykit.stats.preregistration import (
    departures,
    freeze_plan,
    is_primary,
    outcomes,
    planned,
    read_plan,
)
from studykit.study.file import Study, load_study
from studykit.study.hypotheses import FROZEN

PLAN = """plan:
  criterion: jitter
  metrics: [csim]
  raters: 12
  hypotheses:
    - {higher: warp, lower: copy}
    - {higher: copy, lower: warp, criterion: structure}
    - {higher: warp, lower: copy, criterion: naturalness, scope: these clips}
    - {claim: source type, higher: frontal, lower: side}
"""


@pytest.fixture
def study(small_study: Path) -> Study:
    small_study.write_text(small_study.read_text().replace("[copy]", "[copy, warp]") + PLAN)
    return load_study(small_study)


@pytest.fixture
def ratings(study: Study) -> pd.DataFrame:
    """What 12 people said, all of whom saw that warp has less jitter and is more natural."""
    effects = (Effect(2.0, method="warp", criterion="jitter"),
               Effect(2.0, method="warp", criterion="naturalness"),
               Effect(1.0, method="warp", criterion="structure"))  # fmt: skip
    model = SimulationModel(effects=effects, mean=2.0, inattentive=0, source_method_sd=0,
                            driving_method_sd=0, clip_sd=0)  # fmt: skip
    table = simulate_ratings(study, 12, model=model, seed=2).assign(simulated=False)
    days = pd.Timestamp.now(tz="UTC") - table["answered_at"].min() + pd.Timedelta("1D")
    return table.assign(answered_at=table["answered_at"] + days, clip_hash="c")


@pytest.fixture
def found(study: Study, ratings: pd.DataFrame, tmp_path: Path) -> Callable[..., list[str]]:
    """Freeze the plan of the study as it was, and list what ratings and study departed in."""
    freeze_plan(study, tmp_path / "out")

    def list_departures(
        table: pd.DataFrame = ratings, now: Study = study, kept: pd.DataFrame | None = None
    ) -> list[str]:
        kept = table if kept is None else kept
        plan = read_plan(tmp_path / "out")
        covered = coverage(now, kept)
        return departures(plan, now, tmp_path / "out", table, kept, covered)

    return list_departures


def changed(study: Study, old: str, new: str) -> Study:
    text = study.path.read_text()
    assert old in text
    study.path.write_text(text.replace(old, new))
    return load_study(study.path)


def test_the_plan_is_read_by_people_and_hashed_by_anybody(study: Study, tmp_path: Path) -> None:
    path, digest = freeze_plan(study, tmp_path / "out")
    plan = read_plan(tmp_path / "out")
    assert plan.sha256 == digest
    text = path.read_text()
    body = text.split(f"sha256: {plan.sha256}\n")[1]
    assert hashlib.sha256(body.encode()).hexdigest() == plan.sha256
    assert (plan.intact, plan.late) == (True, 0)
    contents = yaml.safe_load(text)
    assert contents["hypotheses"][0] == {
        "claim": "method", "higher": "warp", "lower": "copy", "criterion": "jitter",
        "scope": "like these",
    }  # fmt: skip
    assert contents["primary_criterion"] == "jitter"
    assert contents["primary_metrics"] == ["csim"]
    assert contents["exclusions"]["gold"] == 0.5
    assert "The worst criterion decides" in contents["verdict_rule"]
    assert contents["sample"] == {
        "raters": 12, "sessions": 1, "rated_clips_a_session": "one a condition",
        "ratings_per_clip_min": "none stated", "sources": 2, "drivings": 2,
        "methods": ["copy", "warp"], "clips": 8,
    }  # fmt: skip
    assert len(contents["inputs"]) == 4 and len(contents["clips"]) == 8
    assert max(map(len, text.splitlines())) <= 110


def test_a_plan_stands_and_comes_before_the_first_answer(
    study: Study, ratings: pd.DataFrame, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    freeze_plan(study, out)
    with pytest.raises(StudyError, match=r"plan.yaml was frozen on .* and stands"):
        freeze_plan(study, out)
    (out / FROZEN).unlink()
    with open_store(out / "ratings.sqlite") as store:
        store.append(ratings)
    with pytest.raises(StudyError, match=f"{len(ratings)} answers were given already.*--late"):
        freeze_plan(study, out)
    assert not (out / FROZEN).exists()
    freeze_plan(study, out, late=True)
    assert read_plan(out).late == len(ratings)


def test_a_plan_says_that_people_have_withdrawn_whose_answers_are_gone(
    study: Study, ratings: pd.DataFrame, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with open_store(out / "ratings.sqlite") as store:
        store.append(ratings[ratings["rater"] == ratings["rater"].iloc[0]])
        store.withdraw(study.name, ratings["rater"].iloc[0])
    with pytest.raises(StudyError, match=r"0 answers .*\(One rater has withdrawn.*--late"):
        freeze_plan(study, out)
    freeze_plan(study, out, late=True)
    plan = read_plan(out)
    assert (plan.intact, plan.late, plan.withdrawn) == (True, 0, 1)


def test_a_metric_that_is_none_is_refused(study: Study, tmp_path: Path) -> None:
    misspelt, out = changed(study, "[csim]", "[cism]"), tmp_path / "out"
    for refused in (
        lambda: freeze_plan(misspelt, out),
        lambda: run_study(misspelt.path, out=out),
        lambda: load_results(misspelt.path, out),
    ):
        with pytest.raises(StudyError, match='no metric "cism": did you mean "csim"'):
            refused()
    assert not out.exists()


def test_a_plan_that_was_followed_has_no_departures(found: Callable[..., list[str]]) -> None:
    assert found() == []


def test_a_plan_that_was_edited_is_known(found: Callable[..., list[str]], tmp_path: Path) -> None:
    path = tmp_path / "out" / FROZEN
    path.write_text(path.read_text().replace("raters: 12", "raters: 11"))
    assert found()[0] == "plan.yaml was changed after it was frozen: its SHA-256 is another."
    whole = path.read_text()
    for spoilt in (
        "sha256: 1\n",
        "[1, 2]\n",
        whole.replace("raters: 11", "raters: many"),
        whole.replace("frozen: '", "frozen: 'yesterday "),
        whole.replace("higher: warp", "taller: warp"),
        whole.replace("answers_before: 0\n", ""),
    ):
        assert spoilt != whole
        path.write_text(spoilt)
        with pytest.raises(StudyError, match="is no plan any more: put back what was frozen"):
            found()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("criterion: jitter", "criterion: structure",
         "primary criterion: structure instead of jitter"),
        ("[csim]", "[csim, aed]", r"primary metrics: \[csim, aed\] instead of \[csim\]"),
        ("raters: 12", "raters: 8", "sample, raters: 8 instead of 12"),
        ("    - {claim: source type, higher: frontal, lower: side}\n", "",
         r"hypotheses: \[.*\] instead of \[.*frontal sources above side sources on jitter"),
        ("plan:", "ratings: {screening: {agreement: null}}\nplan:",
         "exclusions, agreement: off instead of 0.2"),
        ("plan:", "ratings: {screening: {keep: [r-1a]}}\nplan:",
         r"exclusions, keep: \[r-1a\] instead of \[\]"),
        ("plan:", "ratings: {scale: 3}\nplan:", "verdict rule: "),
    ],
)  # fmt: skip
def test_what_the_study_file_says_otherwise_is_named(
    found: Callable[..., list[str]], study: Study, old: str, new: str, said: str
) -> None:
    (sentence, *others) = found(now=changed(study, old, new))
    assert others == []
    assert sentence.startswith("The study file says something else now: ")
    assert pd.Series([sentence]).str.contains(said).all()


def test_a_study_file_that_changed_in_other_ways_is_named(
    found: Callable[..., list[str]], study: Study
) -> None:
    now = changed(study, "seed: 3", "seed: 4")
    assert found(now=now) == [
        "The study file, or what raters read, was changed in what the plan does not name."
    ]


def test_raters_under_another_version_clips_and_inputs_that_changed_are_named(
    found: Callable[..., list[str]], ratings: pd.DataFrame, study: Study, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    one = ratings["rater"] == "sim-0003"
    other = ratings.assign(study_hash=ratings["study_hash"].mask(one, "x"))
    assert found(other) == ["One rater answered under another version of the study file."]
    cell = "anna__talk__copy"
    other = ratings.assign(
        clip_hash=ratings["clip_hash"].mask(one & (ratings["cell"] == cell), "d")
    )
    assert found(other) == [f"Clips were changed: {cell}."]
    clip = out / "clips" / f"{cell}.mp4"
    clip.parent.mkdir()
    clip.write_bytes(b"made again")
    assert found() == [f"Clips were changed: {cell}."]
    clip.unlink()
    few = ratings[ratings["cell"] != cell]
    assert found(few) == [f"1 of 8 planned clips were rated by nobody: {cell}."]
    study.sources[0].path.write_bytes(study.sources[1].path.read_bytes())
    assert found() == ["Inputs were changed: source anna."]


def test_fewer_raters_and_fewer_ratings_of_a_clip_are_named(
    found: Callable[..., list[str]], ratings: pd.DataFrame, study: Study
) -> None:
    kept = ratings[ratings["rater"] != "sim-0003"]
    assert found(kept=kept) == ["Fewer raters: 11 count, 12 were planned."]


def test_an_answer_older_than_the_plan_is_named(
    found: Callable[..., list[str]], ratings: pd.DataFrame
) -> None:
    older = ratings.assign(answered_at=ratings["answered_at"] - pd.Timedelta("3D"))
    (sentence,) = found(older)
    assert sentence.startswith("The first answer, of ") and "is older than the plan" in sentence


def test_each_hypothesis_has_its_outcome(
    found: Callable[..., list[str]], ratings: pd.DataFrame, tmp_path: Path
) -> None:
    plan = read_plan(tmp_path / "out")
    table = stats.findings(ratings).table
    these = {"method": stats.pairwise(ratings).table}
    became = [(outcome, why) for _, outcome, why in outcomes(plan, table, these)]
    assert became[2] == ("supported", "")
    assert became[3][0] == "can't be tested" and "needs two sources" in became[3][1]
    rows = table["claim"] == "method"
    sure = table.assign(p_adjusted=table["p_adjusted"].mask(rows, 0.01))
    assert [o for _, o, _ in outcomes(plan, sure, these)][:2] == ["supported", "contradicted"]
    unsure = table.assign(p_adjusted=table["p_adjusted"].mask(rows, 0.2))
    assert [o for _, o, _ in outcomes(plan, unsure, these)][:2] == ["not shown", "not shown"]


def test_findings_know_whether_a_hypothesis_was_about_them(
    found: Callable[..., list[str]], ratings: pd.DataFrame, tmp_path: Path
) -> None:
    table = stats.findings(ratings).table
    primary = table[is_primary(read_plan(tmp_path / "out"), table)]
    assert sorted(zip(primary["claim"], primary["criterion"], strict=True)) == [
        ("method", "jitter"), ("method", "structure"), ("source type", "jitter"),
    ]  # fmt: skip
    assert not is_primary(None, table).any()


def test_what_is_planned_does_not_depend_on_when_or_where(study: Study) -> None:
    assert planned(study) == planned(load_study(study.path))
