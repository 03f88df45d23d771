"""An archive says all that was found, and nothing of who rated, when, or on which machine."""

import csv
import hashlib
import io
import json
import re
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from studykit import report
from studykit.cli import main
from studykit.clips.animate import animate_cells
from studykit.clips.folder import study_folder
from studykit.clips.provenance import equip_all, write_manifest
from studykit.errors import StudyError
from studykit.ratings import RATING_COLUMNS
from studykit.ratings.exchange import import_ratings
from studykit.ratings.simulate import simulate_ratings
from studykit.ratings.store import check_rater_id, open_store
from studykit.report.archive import KEPT_COLUMNS, anonymous, write_archive
from studykit.report.blocks import Section
from studykit.report.page import fill_page
from studykit.study.file import load_study
from studykit.study.hypotheses import FROZEN

# As panels give them, and as we make them up.
PEOPLE = ("5f3c9e1b2a7d4c0012ab34cd", "r-47f3a2c", "zoe_1987", "r-0ffffff", "r-8d0e1f2", "A1B2C3D4")
PARTS = ("heading", "summary", "verdicts", "scores", "statistics", "metrics", "failures", "timing",
         "raters", "manifest")  # fmt: skip


def collected(folder: Path, small_inputs: Path, task: str, simulated: bool = False) -> Path:
    """Run and rate a small study, write its report's parts, and return the study file."""
    private = folder / "anna private"
    private.mkdir()
    for name in ("anna.png", "berta.png", "talk.mp4", "turn.mp4"):
        (private / name).write_bytes((small_inputs / name).read_bytes())
    path = folder / "study.yaml"
    path.write_text(
        (small_inputs / "study.yaml")
        .read_text()
        .replace("anna.png", f'"{private}/anna.png"')
        .replace("berta.png", "anna private/berta.png")
        .replace("talk.mp4", "anna private/talk.mp4")
        .replace("turn.mp4", "anna private/turn.mp4")
        .replace("[copy]", "[copy, {name: copy2, method: copy}]")
        + f"ratings: {{task: {task}}}\n"
        "# postgresql+psycopg://anna:secret@db.example.org/ratings, /srv/lab/anna/results\n"
    )
    study = load_study(path)
    out = study_folder(study, folder / "out")
    animate_cells(study, out)
    write_manifest(study, equip_all(study), out)
    ratings = simulate_ratings(study, len(PEOPLE), seed=4)
    digest = hashlib.sha256(b"a clip").hexdigest()
    ratings["clip_hash"] = digest if task == "acr" else f"{digest} {digest}"
    if not simulated:
        names = dict(zip(sorted(ratings["rater"].unique()), PEOPLE, strict=True))
        rater = ratings["rater"].map(names)
        session = [f"small/{name}/{name}-monday" for name in rater]
        ratings = ratings.assign(rater=rater, session=session, simulated=False)
    with open_store(out / ("rehearsal.sqlite" if simulated else "ratings.sqlite")) as store:
        store.append(ratings)
    results = report.load_results(path, out)
    blocks = [block for part in PARTS for block in getattr(report, part)(results).blocks]
    fill_page(out / "report.html", Section(blocks), title="small")
    return path


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory, small_inputs: Path) -> Path:
    return collected(tmp_path_factory.mktemp("rated"), small_inputs, "acr")


@pytest.fixture(scope="module")
def results(rated: Path) -> report.Results:
    return report.load_results(rated, rated.parent / "out")


@pytest.fixture(scope="module")
def members(results: report.Results) -> dict[str, bytes]:
    return content(write_archive(results))


def content(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert {name.split("/")[0] for name in names} == {path.stem}
        return {name.split("/", 1)[1]: archive.read(name) for name in names}


def test_all_that_was_found_is_there(results: report.Results, members: dict[str, bytes]) -> None:
    assert {
        *("README.md", "codebook.csv", "SHA256SUMS", "ratings.csv", "cells.csv"),
        *("manifest.json", "study.yaml", "report.html", "report.md"),
        *(f"clips/{cell.name}.mp4" for cell in results.study.cells()),
        *(f"tables/{path.name}" for path in results.out.glob("tables/*.csv")),
        *(f"figures/{path.name}" for path in results.out.glob("figures/*.png")),
    } <= set(members)
    for cell in results.study.cells():
        name = f"clips/{cell.name}.mp4"
        assert members[name] == (results.out / name).read_bytes()
    rows = list(csv.DictReader(io.StringIO(members["ratings.csv"].decode())))
    assert len(rows) == len(results.ratings)
    assert tuple(rows[0]) == KEPT_COLUMNS
    assert set(RATING_COLUMNS) - set(KEPT_COLUMNS) == {"answered_at"}


def test_nothing_names_a_rater_a_moment_or_this_machine(
    rated: Path, results: report.Results, members: dict[str, bytes]
) -> None:
    assert "r-47f3a2c" in (results.out / "report.html").read_text()  # or there is nothing to hide
    assert str(rated.parent) in (results.out / "manifest.json").read_text()
    moments = results.ratings["answered_at"].dt.strftime("%Y-%m-%dT").unique()
    for name, data in members.items():
        if name.startswith(("clips/", "figures/")):
            continue
        text = data.decode()
        for person in PEOPLE:
            assert person not in text, (name, person)
        for place in (str(rated.parent), "anna private/anna", str(Path.home()), "/srv", "secret"):
            assert place not in text, (name, place)
        if name != "manifest.json":  # which says when the study was run
            assert not [moment for moment in moments if moment in text], name


def test_the_new_ids_stand_for_the_same_raters_everywhere(
    results: report.Results, members: dict[str, bytes]
) -> None:
    table, replaced = anonymous(results)
    columns = ["cell", "criterion", "role", "trial", "value"]
    new = {rater: rows[columns].to_csv(index=False) for rater, rows in table.groupby("rater")}
    for person, rows in results.ratings.groupby("rater"):
        rows = rows.sort_values("trial", kind="stable")[columns].to_csv(index=False)
        assert new[replaced(person)] == rows
    assert len(set(new)) == len(PEOPLE)
    assert all(check_rater_id(rater) == rater for rater in new)
    screening = pd.read_csv(io.BytesIO(members["tables/screening.csv"]))
    assert screening["rater"].is_monotonic_increasing
    before = results.screening.table
    for person in PEOPLE:
        kept = screening[screening["rater"] == replaced(person)]["figure"]
        its = before[before["rater"] == person]["figure"].astype(float)
        assert kept.tolist() == pytest.approx(its.tolist(), nan_ok=True)


def test_an_id_that_is_a_name_in_the_study_stays_that_name(results: report.Results) -> None:
    ratings = results.ratings.assign(
        rater=results.ratings["rater"].replace("zoe_1987", "copy2"),
    )
    table, replaced = anonymous(replace(results, ratings=ratings))
    text = "by copy2, r-47f3a2c, 'data:x,r-47f3a2c'"  # the last is a picture's own bytes
    assert re.fullmatch(r"by copy2, p000\d, 'data:x,r-47f3a2c'", replaced(text))
    assert "copy2" not in set(table["rater"])


def test_the_order_of_ids_and_rows_does_not_betray_the_ids_before(
    results: report.Results, members: dict[str, bytes]
) -> None:
    orders = set()
    for shift in range(5):  # other answers draw another order
        ratings = results.ratings.copy()
        ratings["answered_at"] += pd.Timedelta(shift, "s")
        _, replaced = anonymous(replace(results, ratings=ratings))
        orders.add(tuple(map(replaced, PEOPLE)))
    assert len(orders) > 2
    for page, row in (
        ("report.html", r"<tr><td[^>]*>(p\d{4})</td>"),
        ("report.md", r"\n\| (p\d+) "),
    ):
        text = members[page].decode()
        tables = re.split(r"</table>|\n\n", text)
        listed = [re.findall(row, table) for table in tables]
        assert any(len(set(rows)) > 2 for rows in listed), page
        assert all(rows == sorted(rows) for rows in listed), page


def test_the_same_results_give_the_same_bytes(results: report.Results, tmp_path: Path) -> None:
    one, two = (write_archive(results, tmp_path / name / "a.zip") for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_checksums_are_those_of_the_files(members: dict[str, bytes], tmp_path: Path) -> None:
    lines = members["SHA256SUMS"].decode().splitlines()
    assert {line.split("  ")[1] for line in lines} == set(members) - {"SHA256SUMS"}
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256(members[name]).hexdigest() == digest
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(members[name])
    (tmp_path / "SHA256SUMS").write_bytes(members["SHA256SUMS"])
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)


@pytest.mark.parametrize("task", ["acr", "pair"])
def test_every_column_is_in_the_codebook(
    task: str, tmp_path: Path, small_inputs: Path, request: pytest.FixtureRequest
) -> None:
    if task == "acr":
        members = request.getfixturevalue("members")
    else:
        path = collected(tmp_path, small_inputs, task)
        members = content(write_archive(report.load_results(path, tmp_path / "out")))
    known = {
        (row["file"], row["column"]): row["meaning"]
        for row in csv.DictReader(io.StringIO(members["codebook.csv"].decode()))
    }
    columns = {
        (name, column)
        for name, data in members.items()
        if name.endswith(".csv") and name != "codebook.csv"
        for column in next(csv.reader(io.StringIO(data.decode())))
    }
    assert set(known) == columns
    assert [place for place, meaning in known.items() if meaning == "?"] == []


@pytest.mark.parametrize("task", ["acr", "pair"])
def test_its_ratings_can_be_imported_again(
    task: str, tmp_path: Path, small_inputs: Path, rated: Path, results: report.Results
) -> None:
    if task == "pair":
        rated = collected(tmp_path, small_inputs, task)
        results = report.load_results(rated, tmp_path / "out")
    (tmp_path / "ratings.csv").write_bytes(content(write_archive(results))["ratings.csv"])
    with open_store(tmp_path / "again.sqlite") as store:
        import_ratings(store, results.study, tmp_path / "ratings.csv")
        again = replace(results, ratings=store.ratings("small"))
    pd.testing.assert_frame_equal(
        again.ratings.drop(columns="answered_at"),
        anonymous(results)[0].reset_index(drop=True),
        check_dtype=False,
    )
    if task == "acr":  # who is excluded and what is found are the same
        assert sorted(again.screening.excluded.values()) == sorted(
            results.screening.excluded.values()
        )
        pd.testing.assert_frame_equal(
            again.analysis.method_scores.table, results.analysis.method_scores.table
        )


def test_simulated_ratings_are_refused_unless_the_name_says_so(
    tmp_path: Path, small_inputs: Path
) -> None:
    path = collected(tmp_path, small_inputs, "acr", simulated=True)
    results = report.load_results(path, tmp_path / "out")
    with pytest.raises(StudyError, match=r"say so in its name, such as study-simulated\.zip"):
        write_archive(results, tmp_path / "study.zip")
    archive = write_archive(results)
    assert archive == tmp_path / "out/small-simulated.zip"
    members = content(archive)
    readme = members["README.md"].decode()
    assert "**No person rated: every rating" in readme and "people judge" not in readme
    assert " simulated raters gave " in readme
    for table in ("ratings.csv", "tables/verdicts.csv"):
        rows = csv.DictReader(io.StringIO(members[table].decode()))
        assert {row["simulated"] for row in rows} == {"True"}
    codebook = csv.DictReader(io.StringIO(members["codebook.csv"].decode()))
    assert [row["column"] for row in codebook if row["meaning"] == "?"] == []


def test_what_is_missing_is_said_and_nothing_is_written(
    results: report.Results, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=r"an archive is a \.zip file"):
        write_archive(results, tmp_path / "archive.tar")
    (tmp_path / "empty").mkdir()
    for missing, message in (("clips", "was removed: studykit run"), ("report", "no report in")):
        rows = results.rows if missing == "clips" else {}
        with pytest.raises(StudyError, match=message):
            page = tmp_path / "empty" / "report.html"
            page.write_text("") if missing == "clips" else page.unlink()
            write_archive(
                replace(results, out=tmp_path / "empty", rows=rows), tmp_path / "archive.zip"
            )
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="choose another file"):
        write_archive(results, tmp_path / "file" / "archive.zip")
    assert not list(tmp_path.rglob("*.zip")) and not list(tmp_path.rglob("*.part*"))


def test_a_study_that_nobody_rated_has_an_archive_without_ratings(
    results: report.Results, tmp_path: Path
) -> None:
    none = replace(results, ratings=results.ratings.iloc[:0], raters=results.raters.iloc[:0])
    members = content(write_archive(none, tmp_path / "unrated.zip"))
    assert "ratings.csv" not in members
    assert "Nobody has rated." in members["README.md"].decode()


def test_the_manifest_names_inputs_as_the_study_does(
    results: report.Results, members: dict[str, bytes]
) -> None:
    manifest = json.loads(members["manifest.json"])
    assert set(manifest["inputs"]) == {"anna", "berta", "talk", "turn"}
    whole = json.loads((results.out / "manifest.json").read_text())
    hashes = {its["name"]: its["sha256"] for its in whole["inputs"].values()}
    assert {name: its["sha256"] for name, its in manifest["inputs"].items()} == hashes
    assert load_again(members["study.yaml"].decode()) == ["copy", "copy2"]


def test_a_frozen_plan_is_published_with_what_it_was_for(
    results: report.Results, tmp_path: Path
) -> None:
    (results.out / FROZEN).write_text("hypotheses: []\n")
    try:
        members = content(write_archive(results, tmp_path / "planned.zip"))
    finally:
        (results.out / FROZEN).unlink()
    assert members[FROZEN] == b"hypotheses: []\n"
    assert f"| `{FROZEN}` | the plan as it was frozen" in members["README.md"].decode()


def load_again(text: str) -> list[str]:
    import yaml

    return [m if isinstance(m, str) else m["name"] for m in yaml.safe_load(text)["methods"]]


def test_the_command_makes_the_report_first(
    small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def archive(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["archive", *map(str, (small_study, *arguments, "--out", tmp_path / "out"))])
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    made: list[Callable] = []
    monkeypatch.setattr(
        "studykit.run.write_report",
        lambda study, out: made.append(fill_page(out / "report.html", Section([]), title="small")),
    )
    code, _, err = archive()
    assert code == 2
    assert "there are no clips in" in err
    study = load_study(small_study)
    animate_cells(study, study_folder(study, tmp_path / "out"))
    manifest = tmp_path / "out/manifest.json"
    written = manifest.read_text()
    manifest.unlink()
    assert "out is not finished: studykit run " in archive(tmp_path / "small.zip")[2]
    manifest.write_text(written)
    assert archive(tmp_path / "small.tar")[0] == 2
    assert not made  # what is wrong with the name is said before
    code, out, _ = archive(tmp_path / "small.zip")
    assert (code, out) == (0, f"{tmp_path / 'small.zip'}\n")
    assert len(made) == 1
    assert "report.html" in content(tmp_path / "small.zip")
