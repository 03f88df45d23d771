"""Any program is a method: what behaves well is a clip, what does not is one line, and nothing of
it is left."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from click.testing import CliRunner
from voices import spoken, write_with_sound

from studykit import cli
from studykit.clips.animate import animate, animate_cells, say_time_needed
from studykit.clips.cell import Task, _reading_from, make_cell
from studykit.clips.check import check_study
from studykit.clips.folder import study_folder
from studykit.clips.provenance import Equipped, equip_all
from studykit.errors import MediaError, StudyError, StudyFileError
from studykit.media import video
from studykit.media.squares import open_driving, open_source
from studykit.media.views import Driving, Source, View
from studykit.methods import command, create_method
from studykit.methods.command import Command, ProgramError
from studykit.report.tables import made_by
from studykit.study.file import load_study

PROGRAM = Path(__file__).with_name("program.py")
SIZE, COUNT = 64, 8


def frames(count: int = COUNT, size: int = SIZE) -> np.ndarray:
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp, ramp[:, None], np.uint8(128)), axis=2)
    return np.array([np.roll(picture, 4 * number, axis=1) for number in range(count)])


def write(path: Path, count: int = COUNT, rate: int = 25, size: int = SIZE) -> Path:
    video.write_video(path, frames(count, size), frame_rate=Fraction(rate))
    return path


@pytest.fixture
def source() -> Source:
    return Source("anna", frames()[3])


@pytest.fixture
def driving() -> Driving:
    return Driving("turn", lambda: iter(frames()), Fraction(25), COUNT)


def program(how: object, **settings: object) -> Command:
    run = f"{sys.executable} {PROGRAM} '{how}' {{source}} {{driving}} {{folder}}"
    return create_method("command", run=run, **settings)


def made(method: Command, source: Source, driving: Driving) -> np.ndarray:
    return np.array(list(method.animate(method.prepare(source), driving)))


def programs(parent: psutil.Process) -> list[psutil.Process]:
    """Return the programs of these tests that a process and what it started have running."""
    found = []
    for process in parent.children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if str(PROGRAM) in process.cmdline():
                found.append(process)
    return found


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of each program that ran, no process and no file."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield
    assert not list(folder.iterdir())
    assert not programs(psutil.Process())


def test_its_clip_has_a_frame_for_each_of_the_drivings(source, driving):
    found = made(program("good"), source, driving)
    assert found.shape == (COUNT, SIZE, SIZE, 3)
    # It was given what the study sees, all but exactly.
    assert np.abs(found.astype(int) - frames()).mean() < 2
    assert not driving.notes


@pytest.mark.parametrize(
    ("how", "settings", "said"),
    [
        ("silent", {}, r"left no clip under \{folder\}/\*\.mp4 but nothing"),
        ("crash", {}, r"ended with code 1 \(ValueError: no such model\)"),
        ("slow", {"timeout": 1}, "took more than 1 s, and printed nothing: raise the setting"),
        ("elsewhere", {}, "left no clip"),
        ("link", {}, "clip.mp4 leads out of"),
        ("two", {}, "left 2 clips .* but a.mp4, b.mp4: name the one"),
        ("pipe", {}, "left no clip"),
        ("list", {}, "the program's clip clip.mp4"),
        ("noisy", {}, r"ended with code 1 \(the end\)"),
        ("still", {}, "the program's clip clip.mp4 is a still image"),
    ],
)  # fmt: skip
def test_what_it_does_wrong_is_one_line(source, driving, how, settings, said):
    with pytest.raises(MediaError, match=said) as error:
        made(program(how, **settings), source, driving)
    assert "\n" not in str(error.value)
    assert len(getattr(error.value, "log", "")) <= 1 << 16


@pytest.mark.parametrize(("how", "most"), [("huge", "DISK"), ("many", "FILES")])
def test_what_it_may_write_is_bounded(source, driving, monkeypatch, how, most):
    monkeypatch.setattr(command, "DISK", 1 << 50)
    monkeypatch.setattr(command, most, {"DISK": 1 << 30, "FILES": 1000}[most])
    with pytest.raises(ProgramError, match=r"wrote more than 10|ended with code"):
        made(program(how), source, driving)


def test_what_it_prints_is_kept_without_secrets(source, driving, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "swordfish")
    with pytest.raises(ProgramError) as error:
        made(program("crash"), source, driving)
    assert "loading ... ***" in error.value.log
    assert "swordfish" not in error.value.log + str(error.value)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere what leaves its group is not found")
@pytest.mark.parametrize("how", ["leaves", "daemon"])
def test_what_it_starts_ends_with_it(source, driving, tmp_path, how):
    pids = tmp_path / "pid"
    made(program(how, env={"PIDS": str(pids)}), source, driving)
    assert not psutil.pid_exists(int(pids.read_text()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_ends_with_whoever_asked_for_it(tmp_path, number):
    """However that ends, and long before its minute is over; its folder goes, too."""
    inputs = {"source": frames()[0], "folder": str(tmp_path / "temporary")}
    code = (
        "import signal, sys, tempfile\n"
        "sys.path.insert(0, sys.argv[1]); tempfile.tempdir = sys.argv[2]\n"
        # A shell has what it starts in the background ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import test_command as t\n"
        "t.made(t.program('slow'), t.Source('a', t.frames()[0]),"
        " t.Driving('b', lambda: iter(t.frames()), t.Fraction(25), t.COUNT))"
    )
    words = [sys.executable, "-c", code, str(PROGRAM.parent), inputs["folder"]]
    asker = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    folder = Path(inputs["folder"])
    until = time.monotonic() + 180
    while not list(folder.glob("*/out/began")) and time.monotonic() < until:
        time.sleep(0.05)
    (running,) = programs(psutil.Process(asker.pid))
    asker.send_signal(number)
    until = time.monotonic() + 45
    asker.wait(45)
    while time.monotonic() < until and (running.is_running() or list(folder.iterdir())):
        time.sleep(0.05)
    assert not running.is_running() and not list(folder.iterdir())


@pytest.mark.parametrize(
    ("count", "rate", "resample", "said"),
    [
        (COUNT, 30, False, "30 frames/s: it was taken frame for frame"),
        (COUNT + 1, 25, True, "9 frames at 25 frames/s, the driving 8 at 25: each shows"),
        (2 * COUNT, 50, True, "16 frames at 50 frames/s"),
    ],
)  # fmt: skip
def test_a_clip_of_another_rate_is_taken_and_noted(
    source, driving, tmp_path, count, rate, resample, said
):
    clip = write(tmp_path / "made.mp4", count, rate)
    found = made(program(clip, resample=resample), source, driving)
    assert len(found) == COUNT and any(said in note for note in driving.notes)
    places = [min(int((i + 0.5) / 25 * rate), count - 1) for i in range(COUNT)]
    wanted = list(range(COUNT)) if count == COUNT else places
    assert np.abs(found.astype(int) - frames(count)[wanted]).mean() < 3


@pytest.mark.parametrize(
    ("count", "rate", "resample", "said"),
    [
        (2 * COUNT, 50, False, "or set resample: true"),
        (COUNT + 1, 25, False, "9 frames at 25 frames/s, the driving 8 at 25: let it write one"),
        (3 * COUNT, 25, True, "let it write one frame a driving frame$"),
    ],
)
def test_a_clip_out_of_step_is_refused(source, driving, tmp_path, count, rate, resample, said):
    clip = write(tmp_path / "made.mp4", count, rate)
    with pytest.raises(ProgramError, match=said):
        made(program(clip, resample=resample), source, driving)


def test_a_damaged_clip_is_refused(source, driving, tmp_path):
    clip = write(tmp_path / "made.mp4", size=128)
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) - 40])
    with pytest.raises(MediaError):
        made(program(clip), source, driving)


def test_a_clip_that_is_no_square_shows_its_centre_and_says_so(source, driving, tmp_path):
    clip = tmp_path / "wide.mp4"
    wide = np.pad(frames(), ((0, 0), (0, 0), (32, 32), (0, 0)))
    video.write_video(clip, wide, frame_rate=Fraction(25))
    found = made(program(clip), source, driving)
    assert np.abs(found.astype(int) - frames()).mean() < 3
    assert any("128 x 64" in note for note in driving.notes)


def test_files_are_given_as_they_are_and_what_takes_part_is_picked(tmp_path, astronaut):
    """The whole clip comes back; of it, frames 2 to 5."""
    face, talk = tmp_path / "it's a face.png", write(tmp_path / "[talk] me.mp4", 10)
    video.write_image(face, astronaut)
    still, _ = open_source(face, name="a", size=SIZE, crop="centre")
    view = View(start=0.08, end=0.24)
    moving, _ = open_driving(talk, name="b", size=SIZE, crop="centre", view=view)
    found = made(program("good", give="files"), still, moving)
    assert np.abs(found.astype(int) - frames(10)[2:6]).mean() < 3
    run = f"{sys.executable} {PROGRAM} good {{source}} {{driving}} {{folder}}"
    stems = Command(run, result="{folder}/clip.*", give="files")
    assert len(made(stems, still, moving)) == 4


def test_the_sound_of_what_takes_part_is_given_where_it_is_asked_for(source, driving, tmp_path):
    heard = tmp_path / "heard.wav"
    copies = f"cp {{sound}} {heard} && cp {{driving}} {{folder}}/clip.mp4"
    method = Command(f"sh -c '{copies}'")
    with pytest.raises(ProgramError, match="turn has no sound"):
        made(method, source, driving)
    talk = write_with_sound(tmp_path / "t.mp4", [*frames(20)], Fraction(25), spoken(1.0))
    view = View(start=0.2, end=0.6)
    moving, _ = open_driving(talk, name="t", size=SIZE, crop="centre", view=view)
    assert len(made(method, source, moving)) == 10
    with wave.open(str(heard)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16_000, 1, 6400)
        sound = np.frombuffer(file.readframes(6400), "<i2") / 32767
    assert np.corrcoef(sound, spoken(1.0)[3200:9600])[0, 1] > 0.8


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"run": ""}, "run is empty"),
        ({"run": "x 'y"}, "run can't be split"),
        ({"run": "x {sorce}"}, 'no {sorce} in the setting run: did you mean "source"'),
        ({"run": "x", "result": "/etc/*.mp4"}, "must begin with {folder}/"),
        ({"run": "x", "result": "{folder}/"}, "must begin with {folder}/"),
        ({"run": "x", "result": "{folder}//*.mp4"}, "must begin with {folder}/"),
        ({"run": "x", "result": "{folder}/../*.mp4"}, "must begin with {folder}/"),
        ({"run": "x", "result": "{folder}/{name}.mp4"}, "no {name} in the setting result"),
        (
            {"run": "x", "version": "x {folder}"},
            "no {folder} in the setting version: it takes none",
        ),
        ({"run": "x", "timeout": 0}, "timeout can't be 0 s"),
        ({"run": "x", "env": {"A": [1]}}, "env takes names and texts"),
        ({"run": "x", "env": "A=1"}, "must be a mapping"),
        ({}, 'needs the setting "run"'),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(StudyFileError) as error:
        create_method("command", **settings)
    assert said in str(error.value)


def test_recipes_have_settings_that_the_method_takes():
    text = (PROGRAM.parent.parent / "docs" / "methods.md").read_text()
    found = [
        {**recipe, "cwd": "."}
        for block in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
        for recipe in yaml.safe_load(block)["methods"]
        if "run" in recipe
    ]
    names = [recipe.pop("name") for recipe in found]
    assert names == ["theirs", "liveportrait", "tpsmm", "fomm-original", "sadtalker"]
    for recipe in found:
        assert create_method(recipe.pop("method"), **recipe).run.startswith("python ")


def test_the_version_is_what_it_says_or_its_commit_or_its_files(tmp_path):
    said = program("good", version=f"{sys.executable} {PROGRAM} version").version_used()
    assert said == "program 1.2"
    script = tmp_path / "animate.py"
    script.write_text("pass")
    method = Command(f"{sys.executable} animate.py", cwd=str(tmp_path))
    first = method.version_used()
    script.write_text("pass  # changed")
    assert first.startswith("files ") and first != method.version_used()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "animate.py"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    commit = method.version_used()
    assert commit.startswith("commit ") and len(commit) == 47
    script.write_text("changed again")
    assert method.version_used().startswith(f"{commit} with changes ")


STUDY = """
name: small
size: 64
crop: centre
sources: {frontal: [face.png]}
drivings: {side: [talk.mp4]}
methods:
  - copy
  - {name: theirs, method: command, run: "PYTHON program.py good {source} {driving} {folder}"}
"""


@pytest.fixture
def study(tmp_path: Path, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(command.PERMISSION, raising=False)
    video.write_image(tmp_path / "face.png", astronaut)
    write(tmp_path / "talk.mp4")
    (tmp_path / "program.py").write_bytes(PROGRAM.read_bytes())
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.replace("PYTHON", sys.executable))
    return path


def test_a_study_file_has_no_program_run_that_nobody_has_allowed(study, monkeypatch):
    loaded = load_study(study)
    with pytest.raises(StudyError, match=r"line 9: theirs runs .*good.*--allow-commands"):
        animate_cells(loaded, study_folder(loaded, study.parent / "out"))
    assert set(equip_all(loaded, cells=loaded.cells("copy"))) == {"copy", "theirs"}
    assert say_time_needed(loaded, study.parent / "out") == ""
    result = CliRunner().invoke(cli.studykit_command, ["run", str(study)])
    assert isinstance(result.exception, StudyError)


def test_check_says_what_will_run_and_what_is_not_there(study):
    notes = [p.text for p in check_study(study) if p.level == "note" and p.path == study]
    assert len(notes) == 1 and "theirs runs" in notes[0] and "program.py good" in notes[0]
    (study.parent / "program.py").unlink()
    errors = [p.text for p in check_study(study) if p.level == "error"]
    assert errors == [f"line 9: no file {study.parent / 'program.py'}: check the setting run"]
    study.write_text(STUDY.replace("PYTHON", "pyhton4"))
    errors = [p.text for p in check_study(study) if p.level == "error"]
    assert len(errors) == 1 and 'no program "pyhton4"' in errors[0]


def test_a_study_runs_programs_and_makes_clips_again_when_these_change(study, monkeypatch):
    monkeypatch.setenv(command.PERMISSION, "1")
    loaded = load_study(study)
    out = study_folder(loaded, study.parent / "out")

    def rows() -> dict:
        return {row.method: row for row in animate_cells(loaded, out)}

    first = rows()
    assert {row.status for row in first.values()} == {"done"}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["methods"]["theirs"]["version"].startswith("files ")
    assert manifest["methods"]["copy"]["version"] == ""
    shown = made_by(manifest["methods"]["theirs"])
    assert shown["weights"] == manifest["methods"]["theirs"]["version"]
    script = study.parent / "program.py"
    script.write_text(script.read_text().replace('if how == "version"', 'if how == "v"'))
    second = rows()
    assert dataclasses.replace(second["copy"], seconds=0) == dataclasses.replace(
        first["copy"], seconds=0
    )
    assert second["theirs"].cache_key != first["theirs"].cache_key
    script.write_text("import sys; print('why'); sys.exit(3)")
    failed = rows()["theirs"]
    kept = f"logs/{failed.cell}.txt"
    assert failed.error.endswith(f"ended with code 3 (why); what it printed is in {kept}")
    assert (out / kept).read_text() == "why\n"


def test_processes_run_programs_side_by_side(study, monkeypatch):
    monkeypatch.setenv(command.PERMISSION, "1")
    loaded = load_study(study)
    out = study_folder(loaded, study.parent / "out")
    rows = animate_cells(loaded, out, only="theirs", jobs=2)
    assert [(row.status, row.frames) for row in rows] == [("done", COUNT)]


def test_where_a_program_runs_stays_where_inputs_are_sent(tmp_path):
    equipped = Equipped(Command("x", cwd=str(tmp_path)))
    here = {tmp_path / "face.png": tmp_path / "sent" / "face.png"}
    assert _reading_from(equipped, here) == equipped


def test_a_worker_with_another_version_is_refused(study, monkeypatch):
    monkeypatch.setenv(command.PERMISSION, "1")
    loaded = load_study(study)
    theirs = equip_all(loaded)["theirs"]
    (cell,) = loaded.cells("theirs")
    task = Task(cell, SIZE, "centre", theirs, "key", study.parent / "out", mark=study)
    assert make_cell(task).row.status == "done"
    program = study.parent / "program.py"
    program.write_text(program.read_text() + "\n")
    error = make_cell(task).row.error
    assert f"and {theirs.version} where the run was started" in error


def test_what_is_made_of_whole_files_is_pasted_nowhere(study, monkeypatch):
    monkeypatch.chdir(study.parent)
    with pytest.raises(StudyError, match="can't be pasted"):
        animate("face.png", "talk.mp4", "x.mp4", method="command", run="true", give="files",
                paste=True)  # fmt: skip


def test_one_pair_is_animated_by_a_program_that_is_named(study, monkeypatch):
    monkeypatch.chdir(study.parent)
    run = f"{sys.executable} program.py good {{source}} {{driving}} {{folder}}"
    words = ["animate", "face.png", "talk.mp4", "-o", "out.mp4", "--crop", "centre", "--size", "64"]
    result = CliRunner().invoke(cli.studykit_command, [*words, "--run", run])
    assert result.exit_code == 0, result.output
    assert video.probe("out.mp4").frame_count == COUNT
    with pytest.raises(StudyError, match="no program"):
        animate(
            "face.png", "talk.mp4", "no.mp4", method="command", crop="centre", run="absent {source}"
        )
    assert not os.path.exists("no.mp4")
