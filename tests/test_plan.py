"""What is still to be made is told from cells.csv, which ends with one row a cell in order."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from studykit.clips.animate import animate_cells
from studykit.clips.cells import CellRow, append, read_cells
from studykit.clips.plan import Plan
from studykit.clips.provenance import equip_all
from studykit.run import study_folder
from studykit.study.file import Input, Study, load_study


@pytest.fixture
def plan(small_study: Path) -> Callable[[], Plan]:
    """Read the plan of the small study, whose folder is beside it."""
    out = small_study.parent / "out"
    (out / "clips").mkdir(parents=True)

    def read() -> Plan:
        study = load_study(small_study)
        return Plan(study, equip_all(study), out)

    return read


def row(name: str, key: str, **values: object) -> CellRow:
    source, driving, method = name.split("__")
    return CellRow(
        name, source, "", driving, "", method, **{"status": "done", "cache_key": key, **values}
    )


def made(plan: Plan, out: Path, *, reverse: bool = False) -> list[str]:
    """Pretend to make every cell that has no clip, and return which these were."""
    todo = [(cell.name, key) for cell, key, holds in plan.cells() if not holds]
    for name, key in reversed(todo) if reverse else todo:
        (out / f"clips/{name}.mp4").touch()
        plan.add(row(name, key))
    return [name for name, _ in todo]


NAMES = ["anna__talk__copy", "anna__turn__copy", "berta__talk__copy", "berta__turn__copy"]


def test_rows_end_in_the_studys_order_whatever_order_they_came_in(plan, tmp_path: Path) -> None:
    first = plan()
    assert made(first, tmp_path / "out", reverse=True) == NAMES
    table = tmp_path / "out/cells.csv"
    assert list(read_cells(table)) == NAMES[::-1]
    assert [row.cell for row in first.tidy()] == NAMES
    assert list(read_cells(table)) == NAMES
    assert len(table.read_text().splitlines()) == 5


def test_a_tidy_file_is_left_alone(plan, tmp_path: Path) -> None:
    first = plan()
    made(first, tmp_path / "out")
    first.tidy()
    before = (tmp_path / "out/cells.csv").stat().st_mtime_ns
    plan().tidy()
    assert (tmp_path / "out/cells.csv").stat().st_mtime_ns == before


def test_the_last_row_of_a_cell_tells_whether_it_holds(plan, tmp_path: Path) -> None:
    made(plan(), tmp_path / "out")
    first = plan()
    keys = {cell.name: key for cell, key, _ in first.cells()}
    first.add(row(NAMES[0], keys[NAMES[0]], status="failed"))
    first.add(row(NAMES[1], "another key"))
    first.add(row(NAMES[2], ""))
    holding = [cell.name for cell, _, holds in plan().cells() if holds]
    assert holding == [cell.name for cell, _, holds in first.cells() if holds] == NAMES[3:]
    assert [row.status for row in first.tidy()] == ["failed", "done", "done", "done"]


def test_rows_of_cells_that_are_no_longer_in_the_study_go(plan, tmp_path: Path) -> None:
    made(plan(), tmp_path / "out")
    append(tmp_path / "out/cells.csv", row("clara__talk__copy", "key"))
    assert [row.cell for row in plan().tidy()] == NAMES


def test_a_table_of_another_version_is_begun_anew(plan, tmp_path: Path) -> None:
    (tmp_path / "out/cells.csv").write_text("cell,status\nanna__talk__copy,done\n")
    first = plan()
    assert made(first, tmp_path / "out") == NAMES
    assert [row.cell for row in first.tidy()] == NAMES


def test_only_keeps_a_methods_or_one_cells_place(plan, tmp_path: Path) -> None:
    assert [cell.name for cell, _, _ in plan().cells(NAMES[2])] == NAMES[2:3]
    assert len(list(plan().cells("copy"))) == 4


def test_memory_hardly_grows_with_the_cells(plan, small_study: Path) -> None:
    """A hundred times the cells, and less than 40 bytes of memory for each."""
    study = load_study(small_study)
    peaks = [_peak(_enlarged(study, side), small_study.parent / "out") for side in (10, 100)]
    assert peaks[1] - peaks[0] < 40 * (100**2 - 10**2)


def _enlarged(study: Study, side: int) -> Study:
    def copies(item: Input) -> tuple[Input, ...]:
        return tuple(replace(item, name=f"{item.name}{number}") for number in range(side))

    return replace(study, sources=copies(study.sources[0]), drivings=copies(study.drivings[0]))


def _peak(study: Study, out: Path) -> int:
    methods = equip_all(study)
    list(Plan(study, methods, out).cells(study.sources[0].name))  # hashes are kept by file
    tracemalloc.start()
    todo = sum(not holds for _, _, holds in Plan(study, methods, out).cells())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert todo == len(study.sources) * len(study.drivings)
    return peak


def test_a_plan_holds_first_frames_too(small_study: Path, tmp_path: Path) -> None:
    """Cells of the same-identity protocol have places of their own, beside the crossed ones."""
    text = small_study.read_text()
    for protocols in ("[same-identity]", "[cross-identity, same-identity]"):
        small_study.write_text(f"{text}protocols: {protocols}\n")
        study = load_study(small_study)
        out = study_folder(study, tmp_path / protocols.strip("[]"))
        rows = animate_cells(study, out)
        assert [row.cell for row in rows] == [cell.name for cell in study.cells()]
        assert {row.status for row in rows} == {"done"}
        plan = Plan(study, equip_all(study), out)
        assert all(holds for _, _, holds in plan.cells())
