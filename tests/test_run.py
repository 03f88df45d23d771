"""One command from study file to report; killed it goes on, finished it is left alone."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from studykit import files
from studykit.clips.animate import animate_cells
from studykit.clips.cells import read_cells
from studykit.clips.folder import study_folder
from studykit.errors import StudyError, StudyFileError
from studykit.files import notebook_path
from studykit.run import _Terminal, execute_notebook, run_study
from studykit.study.file import load_study


def modified(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def ran(
    small_inputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess]:
    """The folder of a small study after its run, and what the command said."""
    folder = tmp_path_factory.mktemp("ran") / "study"
    shutil.copytree(small_inputs, folder)
    run = ["run", "study.yaml", "--out", "out", "--jobs", "2"]
    command = [sys.executable, "-m", "studykit", *run]
    return folder, subprocess.run(command, capture_output=True, text=True, cwd=folder)


def test_a_run_is_never_silent_and_names_its_steps(ran) -> None:
    _, said = ran
    for step in ("1 · Inputs", "2 · Animate", "cell 4/4", "Measure", "Statistics", "report.html"):
        assert step in said.stderr
    assert said.stdout == "out/report.html\n"


def test_a_study_leaves_every_file_of_the_design_and_a_second_run_does_nothing(
    ran, tmp_path: Path
) -> None:
    folder = shutil.copytree(ran[0], tmp_path / "study")
    small_study, out = folder / "study.yaml", folder / "out"
    report = out / "report.html"
    for name in ("cells.csv", "manifest.json", "tables/timing.csv"):
        assert (out / name).is_file()
    for name in ("1_inputs", "2_animate", "4_report"):
        executed = json.loads((out / "notebooks" / f"{name}.ipynb").read_text())
        counts = [cell.get("execution_count") for cell in executed["cells"]]
        assert min(filter(None, counts)) == 1  # none sees what another has left in the kernel
    assert len(list((out / "clips").glob("*.mp4"))) == 4
    assert len(list((out / "figures").glob("*.png"))) == 2
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["seed"] == 3
    anna = manifest["inputs"][str(ran[0] / "anna.png")]
    assert anna["sha256"] == files.sha256(folder / "anna.png")
    assert not [p for p in out.rglob("*") if ".part" in p.name or p.name.startswith(".")]

    before = modified(out)
    assert run_study(small_study, out=out) == report
    assert modified(out) == before

    small_study.write_text(small_study.read_text().replace("seed: 3", "seed: 4"))
    run_study(small_study, out=out)
    assert json.loads((out / "manifest.json").read_text())["seed"] == 4
    after = modified(out)
    clips = [name for name in before if "/clips/" in name]
    assert [after[name] for name in clips] == [before[name] for name in clips]


def test_the_executed_notebook_plays_the_clips_beside_it_and_holds_none(ran) -> None:
    executed = ran[0] / "out" / "notebooks" / "2_animate.ipynb"
    cells = json.loads(executed.read_text())["cells"]
    outputs = [
        output["data"] for cell in cells for output in cell.get("outputs", ()) if "data" in output
    ]
    (shown,) = ["".join(data["text/html"]) for data in outputs if "<video" in str(data)]
    clips = re.findall(r"<video src='([^']+)'", shown)
    assert len(clips) == 4
    assert all((executed.parent / clip).is_file() for clip in clips)
    assert len(shown) < 3000


def test_a_run_killed_in_the_middle_goes_on_and_gives_the_same_clips(
    small_study: Path, make_driving: Callable[..., Path]
) -> None:
    folder = small_study.parent
    for name in ("talk", "turn"):
        make_driving(folder / f"{name}.mp4", frames=24)
    text = small_study.read_text().replace("size: 64", "size: 256")  # not made at once
    small_study.write_text(text)
    study = load_study(small_study)
    animate_cells(study, study_folder(study, folder / "whole"))

    out = folder / "out"
    command = [sys.executable, "-m", "studykit", "run", str(small_study), "--out", str(out)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while not read_cells(out / "cells.csv"):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = set(read_cells(out / "cells.csv"))
    assert 0 < len(done) < 4
    assert not (out / "report.html").exists()
    kept = {name: (out / f"clips/{name}.mp4").stat().st_mtime_ns for name in done}

    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == str(out / "report.html")
    whole = {path.name: path.read_bytes() for path in (folder / "whole/clips").iterdir()}
    assert {path.name: path.read_bytes() for path in (out / "clips").iterdir()} == whole
    assert {name: (out / f"clips/{name}.mp4").stat().st_mtime_ns for name in done} == kept


def test_a_finished_study_is_recognised_without_what_computes(ran) -> None:
    """Neither Paddle nor dlib is loaded, nor is any input read that has not changed."""
    small_study, out = ran[0] / "study.yaml", ran[0] / "out"
    code = (
        "import sys, time; from studykit import files; from studykit.run import run_study\n"
        "read = []; whole = files.sha256\n"
        "files.sha256 = lambda path: read.append(str(path)) or whole(path)\n"
        f"run_study({str(small_study)!r}, out={str(out)!r})\n"
        "print([name for name in ('paddle', 'dlib', 'sklearn', 'torch') if name in sys.modules])\n"
        "print([path for path in read if path.endswith(('.png', '.mp4'))])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.split("\n")[:2] == ["[]", "[]"], answer.stderr


def test_a_line_that_comes_in_two_parts_stays_whole(capsys: pytest.CaptureFixture) -> None:
    with _Terminal("step") as terminal:
        for part in ("\rbar 50%", "half of ", "a line\nand another", "\n", "\rbar 60%"):
            terminal.write(part)
    shown = capsys.readouterr().err
    assert "\rhalf of a line\n" in shown
    assert "\rand another\n" in shown
    assert "\rbar 60%" in shown


def test_a_misspelt_parameter_is_refused_before_the_notebook_runs(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError, match='no parameter "studdy": did you mean "study"'):
        execute_notebook("1_inputs", tmp_path, studdy="x.yaml")
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_that_fails_says_which_and_keeps_its_copy(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="notebook 1_inputs failed: StudyFileError: no study file"):
        execute_notebook("1_inputs", tmp_path, study=str(tmp_path / "none.yaml"))
    assert [path.name for path in tmp_path.iterdir()] == ["1_inputs.ipynb"]


def test_an_unknown_notebook_is_answered_with_the_nearest() -> None:
    with pytest.raises(StudyFileError, match='did you mean "2_animate"'):
        notebook_path("2_animat")
