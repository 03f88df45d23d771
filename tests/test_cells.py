"""cells.csv survives what a killed run leaves, and the last row of a cell counts."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from studykit.clips.animate import animate_cells
from studykit.clips.cells import CellRow, CellTable, append, read_cells, rewrite
from studykit.clips.folder import study_folder
from studykit.clips.provenance import cache_keys, equip_all
from studykit.study.file import Input, load_study

ROW = CellRow(
    cell="a__b__copy",
    source="a",
    source_type="frontal",
    driving="b",
    driving_type="side",
    method="copy",
    status="done",
    seconds=1.25,
    frames=48,
    cache_key="k",
)


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    table = tmp_path / "cells.csv"
    odd = replace(ROW, cell="x", status="failed", error='a "quoted", odd,\nerror')
    append(table, ROW)
    append(table, odd)
    rows = read_cells(table)
    assert rows["a__b__copy"] == ROW
    assert rows["x"].error == 'a "quoted", odd, error'


def test_the_last_row_of_a_cell_counts(tmp_path: Path) -> None:
    append(tmp_path / "cells.csv", ROW)
    append(tmp_path / "cells.csv", replace(ROW, frames=7))
    assert read_cells(tmp_path / "cells.csv")["a__b__copy"].frames == 7


def test_a_file_cut_at_any_byte_keeps_every_whole_row(tmp_path: Path) -> None:
    table = tmp_path / "cells.csv"
    append(table, ROW)
    whole = table.stat().st_size
    append(table, replace(ROW, cell="second", error='say "no"'))
    data = table.read_bytes()
    for cut in range(whole, len(data)):
        table.write_bytes(data[:cut])
        assert list(read_cells(table)) == ["a__b__copy"]
        append(table, replace(ROW, cell="third"))
        assert list(read_cells(table)) == ["a__b__copy", "third"]


def test_a_file_of_another_version_is_read_as_far_as_its_columns_go(tmp_path: Path) -> None:
    table = tmp_path / "cells.csv"
    columns = "cell,source,source_type,driving,driving_type,method,status,seconds,frames,colour"
    table.write_text(f"{columns}\na__b__copy,a,frontal,b,side,copy,done,1.25,48,red\n")
    assert read_cells(table) == {"a__b__copy": replace(ROW, cache_key="")}
    table.write_text("cell,status\na,done\n")
    assert read_cells(table) == {}


def test_rewriting_keeps_just_the_rows_given(tmp_path: Path) -> None:
    table = tmp_path / "cells.csv"
    append(table, ROW)
    append(table, replace(ROW, frames=9))
    rewrite(table, [replace(ROW, frames=9)])
    assert len(table.read_text().splitlines()) == 2
    assert list(tmp_path.iterdir()) == [table]


def test_the_clip_is_named_after_the_cell() -> None:
    assert ROW.clip == "clips/a__b__copy.mp4"


def test_a_half_row_longer_than_any_block_is_dropped(tmp_path: Path) -> None:
    table = tmp_path / "cells.csv"
    append(table, ROW)
    with table.open("ab") as file:
        file.write(b"x" * 200_000)
    append(table, replace(ROW, cell="next"))
    assert list(read_cells(table)) == ["a__b__copy", "next"]


@pytest.fixture
def table(small_study: Path) -> Callable[[], CellTable]:
    """Read the table of the small study, whose folder is beside it."""
    out = small_study.parent / "out"
    (out / "clips").mkdir(parents=True)

    def read() -> CellTable:
        study = load_study(small_study)
        return CellTable(study, out, cache_keys(study, equip_all(study)))

    return read


def row(name: str, key: str, **values: object) -> CellRow:
    source, driving, method = name.split("__")
    return CellRow(
        name, source, "", driving, "", method, **{"status": "done", "cache_key": key, **values}
    )


def made(table: CellTable, out: Path, *, reverse: bool = False) -> list[str]:
    """Pretend to make every cell that has no clip, and return which these were."""
    todo = [(cell.name, key) for cell, key, holds in table.cells() if not holds]
    for name, key in reversed(todo) if reverse else todo:
        (out / f"clips/{name}.mp4").touch()
        table.add(row(name, key))
    return [name for name, _ in todo]


NAMES = ["anna__talk__copy", "anna__turn__copy", "berta__talk__copy", "berta__turn__copy"]


def test_rows_end_in_the_studys_order_whatever_order_they_came_in(table, tmp_path: Path) -> None:
    first = table()
    assert made(first, tmp_path / "out", reverse=True) == NAMES
    table = tmp_path / "out/cells.csv"
    assert list(read_cells(table)) == NAMES[::-1]
    assert [row.cell for row in first.tidy()] == NAMES
    assert list(read_cells(table)) == NAMES
    assert len(table.read_text().splitlines()) == 5


def test_a_tidy_file_is_left_alone(table, tmp_path: Path) -> None:
    first = table()
    made(first, tmp_path / "out")
    first.tidy()
    before = (tmp_path / "out/cells.csv").stat().st_mtime_ns
    table().tidy()
    assert (tmp_path / "out/cells.csv").stat().st_mtime_ns == before


def test_the_last_row_of_a_cell_tells_whether_it_holds(table, tmp_path: Path) -> None:
    made(table(), tmp_path / "out")
    first = table()
    keys = {cell.name: key for cell, key, _ in first.cells()}
    first.add(row(NAMES[0], keys[NAMES[0]], status="failed"))
    first.add(row(NAMES[1], "another key"))
    first.add(row(NAMES[2], ""))
    holding = [cell.name for cell, _, holds in table().cells() if holds]
    assert holding == [cell.name for cell, _, holds in first.cells() if holds] == NAMES[3:]
    assert [row.status for row in first.tidy()] == ["failed", "done", "done", "done"]


def test_rows_of_cells_that_are_no_longer_in_the_study_go(table, tmp_path: Path) -> None:
    made(table(), tmp_path / "out")
    append(tmp_path / "out/cells.csv", row("clara__talk__copy", "key"))
    assert [row.cell for row in table().tidy()] == NAMES


def test_rows_of_another_version_get_todays_columns_with_the_next_one(
    table, tmp_path: Path
) -> None:
    path = tmp_path / "out/cells.csv"
    columns = "cell,source,source_type,driving,driving_type,method,status,seconds,frames"
    path.write_text(f"{columns}\n{NAMES[0]},anna,,talk,,copy,done,1.000,6\n")
    first = table()
    assert made(first, tmp_path / "out") == NAMES
    assert [row.cell for row in first.tidy()] == NAMES
    assert "cache_key" in path.read_text()


def test_only_keeps_a_methods_or_one_cells_place(table, small_study: Path) -> None:
    study = load_study(small_study)
    assert [cell.name for cell, _, _ in table().cells(study.cells(NAMES[2]))] == NAMES[2:3]
    assert len(list(table().cells(study.cells("copy")))) == 4


def test_ten_thousand_cells_are_no_burden(table, small_study: Path) -> None:
    """Less than a kilobyte of memory a cell, rows included."""
    study, out = load_study(small_study), small_study.parent / "out"

    def copies(item: Input) -> tuple[Input, ...]:
        return tuple(replace(item, name=f"{item.name}{number}") for number in range(100))

    study = replace(study, sources=copies(study.sources[0]), drivings=copies(study.drivings[0]))
    rewrite(out / "cells.csv", (row(cell.name, "key") for cell in study.cells()))
    tracemalloc.start()
    whole = CellTable(study, out, cache_keys(study, equip_all(study)))
    assert sum(not holds for _, _, holds in whole.cells()) == 10_000
    assert tracemalloc.get_traced_memory()[1] < 10_000 * 1024
    tracemalloc.stop()


def test_a_table_holds_first_frames_too(small_study: Path, tmp_path: Path) -> None:
    """Cells of the same-identity protocol have places of their own, beside the crossed ones."""
    text = small_study.read_text()
    for protocols in ("[same-identity]", "[cross-identity, same-identity]"):
        small_study.write_text(f"{text}protocols: {protocols}\n")
        study = load_study(small_study)
        out = study_folder(study, tmp_path / protocols.strip("[]"))
        rows = animate_cells(study, out)
        assert [row.cell for row in rows] == [cell.name for cell in study.cells()]
        assert {row.status for row in rows} == {"done"}
        table = CellTable(study, out, cache_keys(study, equip_all(study)))
        assert all(holds for _, _, holds in table.cells())
