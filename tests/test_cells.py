"""cells.csv survives what a killed run leaves, and the last row of a cell counts."""

from dataclasses import replace
from pathlib import Path

from studykit.cells import CellRow, append, read_cells, rewrite

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


def test_a_file_with_other_columns_counts_as_empty(tmp_path: Path) -> None:
    table = tmp_path / "cells.csv"
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
