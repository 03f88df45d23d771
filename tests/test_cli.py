"""An error a user can cause ends with exit code 2, one line and no partial file."""

import functools
import inspect
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
import pytest

import studykit
from studykit.cli import main, studykit_command
from studykit.media import video
from studykit.metrics.benchmark import run_benchmark
from studykit.pages.server import serve
from studykit.ratings.simulate import simulate_into
from studykit.stats.power import plan_raters


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command line that must fail as the user's mistake, and return its one line."""

    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        assert stop.value.code == 2
        # A slow machine draws a progress bar.
        shown = [
            line
            for line in capsys.readouterr().err.splitlines()
            if "/frame" not in line and "frame/s" not in line
        ]
        lines = [line for line in shown if line.strip()]
        assert len(lines) == 1
        assert lines[0].startswith("studykit: ")
        return lines[0]

    return run


@pytest.fixture
def inputs(tmp_path: Path, portrait: np.ndarray, make_driving: Callable[..., Path]) -> Path:
    """A folder with a good source and driving, and one file of each broken kind."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    video.write_image(folder / "anna.png", portrait)
    make_driving(folder / "talk.mp4", frames=12)
    (folder / "text.mp4").write_text("this is a text\n" * 50)
    data = (folder / "talk.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    (folder / "zero.png").write_bytes(b"")
    video.write_image(folder / "plain.png", np.full((200, 200, 3), 128, np.uint8))
    write_sound_only(folder / "sound.mp4")
    return folder


def write_sound_only(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4410), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("source", "driving", "method", "says"),
    [
        ("none.png", "talk.mp4", "warp", "none.png"),
        ("anna.png", "none.mp4", "warp", "none.mp4"),
        ("anna.png", "text.mp4", "warp", "text.mp4"),
        ("anna.png", "cut.mp4", "warp", "cut.mp4"),
        ("anna.png", "sound.mp4", "warp", "sound.mp4"),
        ("zero.png", "talk.mp4", "warp", "zero.png"),
        ("plain.png", "talk.mp4", "warp", "no face"),
        ("anna.png", "talk.mp4", "wrap", 'did you mean "warp"'),
    ],
)
def test_animate_refuses_a_broken_input(
    inputs: Path, refused: Callable[..., str], source: str, driving: str, method: str, says: str
) -> None:
    before = set(inputs.iterdir())
    line = refused(
        "animate", inputs / source, inputs / driving, "-o", inputs / "clip.mp4", "--method", method
    )
    assert says in line
    assert set(inputs.iterdir()) == before


def test_animate_refuses_a_setting_that_the_method_has_not(
    inputs: Path, refused: Callable[..., str]
) -> None:
    pair = (inputs / "anna.png", inputs / "talk.mp4", "-o", inputs / "c.mp4")
    line = refused("animate", *pair, "--method", "copy", "--weights", "vox-256")
    assert 'method "copy" has no setting "weights"' in line


def test_an_output_that_cannot_be_written_is_refused(
    inputs: Path, refused: Callable[..., str]
) -> None:
    clip = inputs / "anna.png" / "clip.mp4"
    line = refused(
        "animate", inputs / "anna.png", inputs / "talk.mp4", "-o", clip, "--method", "copy"
    )
    assert str(inputs / "anna.png") in line


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seed", "sede", 'did you mean "seed"'),
        ("anna.png", "ann.png", "no file"),
        ("copy", "cpoy", 'did you mean "copy"'),
    ],
)
def test_run_refuses_a_wrong_study_file(
    small_study: Path, refused: Callable[..., str], old: str, new: str, says: str
) -> None:
    small_study.write_text(small_study.read_text().replace(old, new))
    before = set(small_study.parent.iterdir())
    assert says in refused("run", small_study, "--out", small_study.parent / "out")
    assert set(small_study.parent.iterdir()) == before


def test_run_refuses_a_folder_that_cannot_be_written(
    small_study: Path, refused: Callable[..., str]
) -> None:
    line = refused("run", small_study, "--out", small_study / "out")
    assert "can't be written" in line


def test_a_misspelt_verb_or_option_is_answered(refused: Callable[..., str]) -> None:
    assert 'did you mean "animate"' in refused("animat")
    assert "--relatif" in refused("animate", "a", "b", "-o", "c", "--relatif")


def test_check_lists_every_problem_and_ends_with_2(
    inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = inputs / "study.yaml"
    study.write_text(
        "name: broken\n"
        "sources: {frontal: [anna.png, zero.png, plain.png]}\n"
        "drivings: {frontal: [talk.mp4, text.mp4, cut.mp4, sound.mp4]}\n"
        "methods: [copy]\n"
    )
    with pytest.raises(SystemExit) as stop:
        main(["check", str(study)])
    assert stop.value.code == 2
    listed = capsys.readouterr().out
    for name in ("zero.png", "plain.png", "text.mp4", "cut.mp4", "sound.mp4"):
        assert name in listed


def test_check_names_a_primary_metric_that_is_none(
    small_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_study.write_text(small_study.read_text() + "plan: {metrics: [landmark_moton_error]}\n")
    with pytest.raises(SystemExit) as stop:
        main(["check", str(small_study)])
    assert stop.value.code == 2
    listed = capsys.readouterr().out
    assert 'no metric "landmark_moton_error"' in listed
    assert "1 error," in listed


def test_check_of_good_inputs_ends_with_0(small_study: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", str(small_study)])
    assert stop.value.code == 0


def test_a_run_with_a_failed_cell_ends_with_1_and_says_so(
    small_study: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (small_study.parent / "talk.mp4").write_text("no video")
    with pytest.raises(SystemExit) as stop:
        main(["run", str(small_study), "--out", str(small_study.parent / "out")])
    assert stop.value.code == 1
    output = capfd.readouterr()
    assert "2 of 4 cells failed" in output.err
    assert output.out.strip().endswith("report.html")
    assert "no clip" in (small_study.parent / "out/report.html").read_text()


def test_importing_studykit_loads_nothing_heavy() -> None:
    code = (
        "import sys, studykit.cli, studykit.study.file, studykit.methods, studykit.media.faces\n"
        "import studykit.media.video, studykit.methods.weights, studykit.stimuli\n"
        "import studykit.clips.check, studykit.doctor\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"av", "cv2", "dlib", "matplotlib", "numba", "paddle", "papermill", "ppgan", "scipy"}
    assert heavy & set(run.stdout.split()) == set()


def test_doctor_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["doctor"])
    assert stop.value.code == 0
    assert "Python" in capsys.readouterr().out


def test_what_is_kept_is_shown_limited_and_cleared(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refused: Callable[..., str],
) -> None:
    monkeypatch.setenv("STUDYKIT_CACHE", str(tmp_path))

    def said(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main(["cache", *arguments])
        assert not stop.value.code
        return capsys.readouterr().out

    (tmp_path / "graphs").mkdir()
    for name in ("a", "b"):
        (tmp_path / "graphs" / name).write_bytes(bytes(1_500_000))
    assert said().startswith(f"cache: {tmp_path}\n")
    assert "graphs           3.0 MB" in said()
    assert said("limit", "2") == "1.5 MB were removed\n"
    assert said("clear", "graphs", "drivings") == "1.5 MB were removed\n"
    assert 'did you mean "graphs"' in refused("cache", "clear", "graph")


@pytest.mark.parametrize(
    ("verb", "function"),
    [
        ("new", studykit.new_study),
        ("run", studykit.run_study),
        ("animate", studykit.animate),
        ("rate plan", plan_raters),
        ("rate simulate", simulate_into),
        ("serve", serve),
        ("stimuli write", studykit.write_stimuli),
        ("stimuli benchmark", run_benchmark),
    ],
)
def test_an_option_left_out_is_the_default_of_the_function(
    verb: str, function: Callable[..., Any]
) -> None:
    command: Any = studykit_command
    for word in verb.split():
        command = command.commands[word]
    parameters = inspect.signature(function).parameters.values()
    own = {p.name: p.default for p in parameters if p.default not in (p.empty, None)}
    defaults = {o.name: o.get_default(click.Context(command)) for o in command.params}
    # An option without a default is not passed on.
    options = {
        name: value for name, value in defaults.items() if isinstance(value, str | int | float)
    }
    both = own.keys() & options.keys()
    assert both
    assert {name: options[name] for name in both} == {name: own[name] for name in both}


@pytest.mark.parametrize(
    ("verb", "option", "says"),
    [
        ("rate links", "days", "Days until the links expire"),
        ("serve", "limit", "limit for uploads"),
    ],
)
def test_an_options_help_says_what_it_sets(verb: str, option: str, says: str) -> None:
    command: Any = studykit_command
    for word in verb.split():
        command = command.commands[word]
    (text,) = [each.help for each in command.params if each.name == option]
    assert says in text


def test_a_line_does_not_command_the_terminal(refused: Callable[..., str]) -> None:
    line = refused("run", "\x1b[2Jevil\x07\u202e.yaml")
    assert line.isprintable() and "evil" in line


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has other signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_what_ends_a_command_is_one_line_and_leaves_nothing(
    small_study: Path, tmp_path: Path, name: str
) -> None:
    """Also not what its workers were at: they sleep in a method of the study's own."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, time\n"
        "from dataclasses import dataclass\n"
        "import studykit\n"
        "from studykit.clips.animate import animate_cells\n"
        "from studykit.clips.folder import study_folder\n"
        "@studykit.register('slow')\n"
        "@dataclass(frozen=True)\n"
        "class Slow:\n"
        "    def prepare(self, source): return source.image\n"
        "    def animate(self, state, driving):\n"
        "        for _ in driving:\n"
        "            yield state\n"
        "            time.sleep(0.5)\n"
        "def run(path, only, **places):\n"
        "    study = studykit.load_study(path)\n"
        "    animate_cells(study, study_folder(study, path.parent / 'out'), jobs=places['jobs'])\n"
        "if __name__ == '__main__':\n"
        "    from studykit import cli\n"
        "    studykit.run_study = run\n"
        "    cli.main(sys.argv[1:])\n"
    )
    small_study.write_text(small_study.read_text().replace("[copy]", "[slow]"))
    out = small_study.parent / "out"
    command = [sys.executable, str(program), "run", str(small_study), "--jobs", "2"]
    heard = functools.partial(signal.signal, getattr(signal, name), signal.SIG_DFL)
    with subprocess.Popen(  # one that a shell starts in the background, or nohup, hears no signal
        command, stderr=subprocess.PIPE, text=True, preexec_fn=heard
    ) as run:
        while not list(out.glob("clips/.*.part*")):
            assert run.poll() is None
            time.sleep(0.02)
        workers = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(getattr(signal, name))
        said = run.communicate(timeout=60)[1]
    assert run.returncode == 130, said
    last = said.replace("\r", "\n").splitlines()[-1]
    assert last == "studykit: interrupted: the same command goes on where it stopped"
    assert not psutil.wait_procs(workers, timeout=20)[1]
    assert not [path for path in out.rglob(".*") if path.is_file()]
