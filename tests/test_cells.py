"""cells.csv survives what a killed run leaves, and the last row of a cell counts."""

from dataclasses import replace
from pathlib import Path

import pytest

from studykit.clips.cells import CellRow, CellTable, append, read_cells, rewrite, rows_at, scan

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


def test_a_rows_place_in_the_file_gives_it_back(tmp_path: Path) -> None:
    table = tmp_path / "cells.csv"
    rows = [replace(ROW, cell=f"cell {number}", error="é" * number) for number in range(5)]
    starts = [append(table, row) for row in rows]
    assert [start for start, _ in scan(table)] == starts
    assert list(rows_at(table, reversed(starts))) == rows[::-1]


def test_a_half_row_longer_than_any_block_is_dropped(tmp_path: Path) -> None:
    table = tmp_path / "cells.csv"
    append(table, ROW)
    with table.open("ab") as file:
        file.write(b"x" * 200_000)
    append(table, replace(ROW, cell="next"))
    assert list(read_cells(table)) == ["a__b__copy", "next"]


def test_a_table_is_a_sequence_of_what_the_file_holds_now(tmp_path: Path) -> None:
    table = CellTable(tmp_path / "cells.csv")
    assert list(table) == []
    for number in range(3):
        append(tmp_path / "cells.csv", replace(ROW, cell=str(number)))
    assert len(table) == 3
    assert (table[0].cell, table[-1].cell) == ("0", "2")
    assert [row.cell for row in table[1:]] == ["1", "2"]
    for wrong in (3, -4):
        with pytest.raises(IndexError):
            table[wrong]
