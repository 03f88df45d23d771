"""The package keeps its plan: few rooms, imports that point down, and no more code than needed."""

import ast
import graphlib
import io
import re
import tokenize
from pathlib import Path

import pytest

import studykit

PACKAGE = Path(studykit.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
# 18,500 in 0.2.0. Since then: media 1,700 (decoding in a process of its own, MediaPipe, which face,
# pasting), pages 2,800 (the server, links, the author's view, animating in a browser), ratings 900
# (partial designs, plans, withdrawal, backup), methods 750 (landmarks, any program, bounds on
# checkpoints), metrics 500 (liveliness, alignment, quality), report 500 (archive, contents), study
# 500 and clips 260 (what an input may say), regions 560, sparse 800, resnet 530 and enhance 600
# (methods and trainers), papers' metrics and ablations 350, the animate page in a notebook 200,
# what landmarks leave out 170, turns and shut lips 30, the rest 600.
# A new capability may raise it, and says so here; nothing else may.
CODE_LINES = 30_830
ROOMS = 20

_LAYOUT = (
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
)


def code_lines(source: str) -> int:
    """Count the lines that hold code: no docstrings, no comments, no blank lines."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            lines.difference_update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def floors() -> list[tuple[str, ...]]:
    """Return the rooms of each floor, from the top down, as the package's docstring lists them."""
    listed = re.findall(r"^    (\w+(?:, \w+)*)  +\S", studykit.__doc__, flags=re.MULTILINE)
    return [tuple(line.split(", ")) for line in listed]


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(module: str) -> set[str]:
    """Return what a module imports of studykit, in functions too, but not for types alone."""
    tree = ast.parse(MODULES[module].read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and id(node) not in for_types:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and id(node) not in for_types:
            assert node.level == 0, f"{module} has a relative import"
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {part if part in MODULES else node.module for part in parts}
    return {name for name in found if name in MODULES} - {"studykit"}


def test_the_package_is_no_larger_than_it_needs_to_be() -> None:
    assert sum(code_lines(path.read_text()) for path in MODULES.values()) <= CODE_LINES


def test_lines_of_code_are_counted_without_docstrings_comments_and_blanks() -> None:
    source = (
        '"""Doc\n\nstring."""\n\n# why\nx = """a\nb"""\n\n\ndef f():\n    """Doc."""\n    return x'
    )
    assert code_lines(source) == 4


def test_every_room_is_on_one_floor_and_they_are_few() -> None:
    listed = [room for floor in floors() for room in floor]
    here = {room_of(module) for module in MODULES} - {"", "__main__"}
    assert sorted(listed) == sorted(here)
    assert len(here) <= ROOMS


@pytest.mark.parametrize("module", MODULES)
def test_no_import_climbs(module: str) -> None:
    level = {room: -number for number, floor in enumerate(floors()) for room in floor}
    own = room_of(module)
    if own in level:  # studykit itself and its __main__ are above all floors
        for other in sorted(imported(module)):
            room = room_of(other)
            assert room == own or level[room] < level[own], f"{module} imports {other}"


def test_no_imports_go_round_in_a_circle() -> None:
    graphlib.TopologicalSorter({module: imported(module) for module in MODULES}).prepare()
