"""What other systems do otherwise, as far as it can be tried on this one."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import studykit

ROOT = Path(studykit.__file__).parents[1]
MODULES = sorted((ROOT / "studykit").rglob("*.py"))


def test_the_core_runs_where_processes_are_spawned(tmp_path: Path) -> None:
    """As on Windows and macOS, where a child imports what it needs and inherits nothing."""
    core = [
        "tests/test_clips.py::test_every_cell_gives_a_clip_with_the_drivings_frames",
        "tests/test_clips.py::test_a_second_run_makes_nothing_again",
        "tests/test_executors.py::TestSameAsSerial::test_two_processes",
        "tests/test_executors.py::TestProcesses::test_workers_report_while_they_run",
        "tests/test_store.py::test_answers_come_back_as_they_were_given[sqlite]",
    ]
    code = (
        "import multiprocessing, pytest, sys\n"
        "multiprocessing.set_start_method('spawn')\n"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '-p', 'no:xdist', *sys.argv[1:]]))\n"
    )
    command = [sys.executable, "-c", code, f"--basetemp={tmp_path / 'spawned'}", *core]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def test_every_module_is_imported_without_what_windows_lacks() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if "training" not in path.parts and path.stem not in ("__main__", "data")
    ]
    lacks = ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "posix")
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        f"left = {lacks!r}\n"
        "ours = [name for name in sys.modules if name.startswith('studykit')]\n"
        "for name in ours:\n"
        "    held = set(vars(sys.modules[name])) & set(left)\n"
        "    assert not held, (name, held)\n"
    )
    subprocess.run([sys.executable, "-c", code, *names], check=True, cwd=ROOT)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_text_is_read_and_written_in_a_named_encoding(path: Path) -> None:
    """Windows would take its own code page."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = {keyword.arg for keyword in node.keywords}
            if node.func.attr in ("read_text", "write_text") and len(node.args) < 2:
                assert "encoding" in given, f"{path}, line {node.lineno}"
