"""The verbs of rate: each a line or a table, mistakes in one line."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from studykit.cli import main
from studykit.ratings.store import open_store


@pytest.fixture
def rate(
    small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a verb on a small study; return the exit code, what it said and what it complained."""

    def run(verb: str, *arguments: object) -> tuple[int, str, str]:
        out = () if verb == "plan" else ("--out", tmp_path / "out")
        with pytest.raises(SystemExit) as stop:
            main(["rate", verb, *map(str, (small_study, *arguments, *out))])
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    return run


def test_without_a_verb_it_says_where_people_rate(
    small_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for study in ((), (str(small_study),)):
        with pytest.raises(SystemExit) as stop:
            main(["rate", *study])
        assert stop.value.code == 0
        out = capsys.readouterr().out
        assert " ".join(("`studykit serve", *(study or ("STUDY",)))) in out
        assert "notebook 3" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("--plan", "--power", "0.7"),
            "--plan is a command of its own now: studykit rate plan STUDY",
        ),
        (("--simulate", "24"), "studykit rate simulate STUDY RATERS"),
        (("--simulate=24",), "studykit rate simulate STUDY RATERS"),
        (("--status",), "studykit rate status STUDY"),
        (("--export", "ratings.csv"), "studykit rate export STUDY FILE"),
        (("--skip-bad", "--import", "ratings.csv"), "studykit rate import STUDY FILE"),
    ],
)
def test_an_option_that_became_a_verb_is_answered_with_it(
    small_study: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    for line in ((small_study, *arguments), (*arguments, small_study)):
        with pytest.raises(SystemExit) as stop:
            main(["rate", *map(str, line)])
        assert stop.value.code == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert err.endswith(f"{says}\n")


def test_a_misspelt_verb_is_answered_with_the_nearest(
    small_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["rate", "simulat", str(small_study), "3"])
    assert stop.value.code == 2
    assert 'no command "simulat": did you mean "simulate"' in capsys.readouterr().err


def test_simulated_ratings_are_stored_counted_and_exported(
    rate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, out, _ = rate("simulate", 5, "--seed", 2)
    assert code == 0
    assert str(tmp_path / "out/rehearsal.sqlite") in out
    with open_store(tmp_path / "out/rehearsal.sqlite") as store:
        ratings = store.ratings("small")
    assert ratings["simulated"].all()
    assert ratings["rater"].nunique() == 5

    code, out, _ = rate("status")
    assert code == 0
    assert "5 simulated raters" in out
    assert "5 ratings  frontal x frontal x copy" in out
    assert "raters w" in out  # were, or was, excluded

    for name in ("all.csv", "all.parquet"):
        code, out, _ = rate("export", tmp_path / name)
        assert code == 0
        assert out.strip() == f"{tmp_path / name}: {len(ratings)} ratings"
        assert (tmp_path / name).stat().st_size > 1000
    code, _, err = rate("export", tmp_path / "all.xlsx")
    assert code == 2
    assert ".csv or .parquet" in err


def test_an_import_lists_every_bad_row_and_then_one_line(
    rate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "collected.csv"
    path.write_text(
        "rater,cell,criterion,value\n"
        "r-1a1,anna__talk__copy,jitter,4\n"
        "r-1a1,anna__talk__copy,jiter,4\n"
        "r-1a1,anna__turn__copy,jitter,9\n"
    )
    code, out, err = rate("import", path)
    assert code == 2
    assert [line.split(":")[0] for line in out.splitlines()] == ["line 3", "line 4"]
    assert err.count("\n") == 1
    assert "2 of 3 rows" in err
    assert "--skip-bad" in err

    code, out, _ = rate("import", path, "--skip-bad")
    assert code == 0
    assert "1 ratings were added, 2 bad rows left out" in out.splitlines()[-1]
    code, _, err = rate("simulate", 3, "--store", tmp_path / "out/ratings.sqlite")
    assert code == 2
    assert "human ratings" in err


def test_a_plan_is_frozen_once_and_not_after_the_first_answer(
    rate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, out, _ = rate("freeze")
    assert code == 0
    path, digest = out.splitlines()
    assert Path(path) == tmp_path / "out/plan.yaml"
    assert f"sha256: {digest.split()[1]}" in Path(path).read_text()
    code, _, err = rate("freeze")
    assert code == 2 and err.count("\n") == 1 and "stands" in err
    Path(path).unlink()
    collected = tmp_path / "collected.csv"
    collected.write_text("rater,cell,criterion,value\nr-1a1,anna__talk__copy,jitter,4\n")
    rate("import", collected)
    code, _, err = rate("freeze")
    assert code == 2 and "1 answers were given already" in err
    code, _, _ = rate("freeze", "--late")
    assert code == 0 and "answers_before: 1" in Path(path).read_text()


def test_a_rehearsal_does_not_keep_a_plan_from_being_frozen(
    rate: Callable[..., tuple[int, str, str]],
) -> None:
    rate("simulate", 2)
    assert rate("freeze")[0] == 0


def test_who_withdraws_is_gone_from_status_export_and_file(
    rate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, _, err = rate("withdraw", "r-1a1")
    assert code == 2 and "there is nothing to delete" in err
    collected = tmp_path / "collected.csv"
    cells = ("anna__talk__copy", "berta__talk__copy")
    lines = [f"r-{who},{cell},jitter,4" for who in ("1a1", "2b2") for cell in cells]
    collected.write_text("\n".join(["rater,cell,criterion,value", *lines, ""]))
    rate("import", collected)
    code, _, err = rate("withdraw", "r-1a2")
    assert code == 2 and 'no rater "r-1a2"' in err
    code, out, _ = rate("withdraw", "r-1a1")
    assert code == 0 and "2 answers of the rater were deleted" in out
    assert b"r-1a1" not in (tmp_path / "out/ratings.sqlite").read_bytes()
    code, out, _ = rate("status")
    assert code == 0
    assert "1 rater;" in out and "One rater has withdrawn, whose answers were deleted." in out
    assert "The clip rated least has 0 ratings by raters who count." in out
    code, _, err = rate("import", collected)
    assert code == 2


def test_an_export_without_ids_has_the_same_ratings(
    rate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    collected = tmp_path / "collected.csv"
    lines = [f"r-{who},anna__talk__copy,jitter,{value},2026-03-0{value}T12:34:56Z"
             for value, who in enumerate(("1a1", "2b2", "3c3"), start=1)]  # fmt: skip
    collected.write_text("\n".join(["rater,cell,criterion,value,answered_at", *lines, ""]))
    rate("import", collected)
    code, _, _ = rate("export", tmp_path / "open.csv", "--anonymous")
    assert code == 0
    text = (tmp_path / "open.csv").read_text()
    assert "r-1a1" not in text and "12:34" not in text
    table = pd.read_csv(tmp_path / "open.csv")
    assert sorted(table["rater"]) == ["p0001", "p0002", "p0003"]
    assert sorted(table["value"]) == [1, 2, 3]
    assert set(table["answered_at"].str[:10]) == {"2026-03-03"}
    code, out, _ = rate("import", tmp_path / "open.csv", "--store", tmp_path / "again.sqlite")
    assert code == 0, out


@pytest.mark.parametrize(
    "lines",
    [
        ["r-1a1,anna__talk__copy,jitter,9,"],
        ["r-1a1,anna__talk__copy,jitter,4,true", "r-2b2,anna__talk__copy,jitter,4,false"],
        [],
    ],
)
@pytest.mark.parametrize("skip", [(), ("--skip-bad",)])
def test_an_import_that_is_refused_leaves_no_store(
    rate: Callable[..., tuple[int, str, str]], tmp_path: Path, lines: list[str], skip: tuple
) -> None:
    path = tmp_path / "collected.csv"
    path.write_text("\n".join(["rater,cell,criterion,value,simulated", *lines, ""]))
    before = sorted(tmp_path.rglob("*"))
    for where in ((), ("--store", tmp_path / "new/elsewhere.sqlite")):
        code, _, err = rate("import", path, *skip, *where)
        assert code == 2
        assert err.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before


def test_an_import_that_is_refused_leaves_a_store_as_it_was(
    rate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "collected.csv"
    rows = ["rater,cell,criterion,value", "r-1a1,anna__talk__copy,jitter,4", ""]
    path.write_text("\n".join(rows))
    code, out, _ = rate("import", path)
    assert code == 0
    assert out == f"{tmp_path / 'out/ratings.sqlite'}: 1 ratings were added\n"
    code, out, _ = rate("import", path)
    assert code == 2
    assert "line 2: a duplicate: the store holds it already" in out
    with open_store(tmp_path / "out/ratings.sqlite") as store:
        assert list(store.ratings("small")["value"]) == [4]


def test_the_plan_is_printed_and_leaves_no_folder(
    rate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, out, _ = rate("plan", "--difference", 1.2, "--power", 0.7)
    assert code == 0
    assert "two of 2 source types" in out
    assert "difference by 1.2" not in out
    assert "differ by 1.2 of a step" in out
    assert not (tmp_path / "out").exists()


def test_another_store_is_used_where_it_is_named(
    rate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    rate("simulate", 2, "--store", tmp_path / "elsewhere.sqlite")
    code, out, _ = rate("status", "--store", tmp_path / "elsewhere.sqlite")
    assert code == 0
    assert "2 simulated raters" in out
    code, _, err = rate("status")
    assert code == 2
    assert f"no ratings yet in {tmp_path / 'out/ratings.sqlite'}" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("status", "--seed", 3), "--seed"),
        (("export", "a.csv", "--skip-bad"), "--skip-bad"),
        (("simulate", 3, "--power", 0.9), "--power"),
        (("simulate", 0), "RATERS"),
        (("plan", "--difference", 7), "can't be seen"),
        (("export", "ratings.csv"), "no ratings yet"),
        (("import", "none.csv"), "no file none.csv"),
    ],
)
def test_mistakes_end_with_2_and_one_line(
    rate: Callable[..., tuple[int, str, str]], arguments: tuple, says: str
) -> None:
    code, _, err = rate(*arguments)
    assert code == 2
    assert err.startswith("studykit: ")
    assert err.count("\n") == 1
    assert says in err


def test_links_are_made_listed_and_closed(rate: Callable[..., tuple[int, str, str]]) -> None:
    code, made, _ = rate(
        "links", "--raters", 2, "--panel", "--author", "--address", "https://r.org/"
    )
    assert code == 0
    kinds = [
        re.search(r" https://r\.org(/rate#|/join/|/author#)[\w-]{24}$", line)[1]
        for line in made.splitlines()
    ]
    assert kinds == ["/rate#", "/rate#", "/join/", "/author#"]
    rater = made.split()[0]
    again = rate("links", "--again", rater)[1]
    assert again.startswith(f"{rater}") and again.count("\n") == 1
    assert rate("links", "--revoke", "panel")[1] == "1 links were closed\n"
    listed = rate("links")[1]
    assert [line.split()[1] for line in listed.splitlines()].count("revoked") == 2
    assert listed.count(rater) == 2
