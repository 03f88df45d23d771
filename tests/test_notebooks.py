"""Notebooks hold explanation, calls and pictures: no logic, no outputs, literal parameters."""

import ast
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_has_one_parameters_cell_of_literals_with_a_comment_a_line(self, path: Path) -> None:
        tagged = [c for c in code_cells(path) if "parameters" in c["metadata"].get("tags", [])]
        assert len(tagged) == 1
        source = "".join(tagged[0]["source"])
        assert all("  # " in line for line in source.splitlines())
        for node in ast.parse(source).body:
            assert isinstance(node, ast.Assign)
            ast.literal_eval(node.value)

    def test_holds_no_logic_and_no_output(self, path: Path) -> None:
        for cell in code_cells(path):
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            for node in ast.walk(ast.parse("".join(cell["source"]))):
                assert not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.For | ast.While)


def test_the_notebooks_are_those_of_the_design() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "1_inputs",
        "2_animate",
        "3_rate",
        "4_report",
        "animate_one",
    ]
