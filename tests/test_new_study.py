"""A new study runs as it is, by the command line and by its notebooks, or is not there at all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import studykit
from studykit import files
from studykit.cli import main
from studykit.errors import StudyError
from studykit.stimuli import new_study as new


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new study, of short drivings."""
    folder = tmp_path_factory.mktemp("new") / "my first"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(new, "_FRAMES", 8)
        main(["new", str(folder)])
    assert not stop.value.code
    return folder


def program(*arguments: str, folder: Path) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_holds_inputs_by_type_their_truth_and_the_notebooks(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "1_inputs.ipynb",
        "2_animate.ipynb",
        "3_rate.ipynb",
        "4_report.ipynb",
        "animate_one.ipynb",
        "drivings",
        "sources",
        "study.yaml",
        "truth",
    ]
    study = studykit.load_study(folder / "study.yaml")
    assert (study.name, study.seed) == ("my-first", 8)
    inputs = {path for path in folder.rglob("*") if path.suffix in (".png", ".mp4")}
    assert {item.path for item in (*study.sources, *study.drivings)} == inputs
    assert [item.type for item in study.drivings] == ["frontal", "side", "stylised"]
    assert studykit.check_study(study) == []


def test_fomm_takes_part_where_its_packages_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new, "_FRAMES", 2)
    for packages, methods in (("json",), ["copy", "warp", "fomm"]), (("no",), ["copy", "warp"]):
        monkeypatch.setattr(new, "_FOMM_PACKAGES", packages)
        study = studykit.load_study(studykit.new_study(tmp_path / packages[0]))
        assert [spec.name for spec in study.methods] == methods


def test_it_runs_and_so_does_each_notebook(folder: Path) -> None:
    given = yaml.safe_load((folder / "study.yaml").read_text())
    given |= {"methods": ["copy"], "drivings": {"frontal": given["drivings"]["frontal"]}}  # quicker
    (folder / "study.yaml").write_text(yaml.safe_dump(given))
    report = program("-m", "studykit", "run", "study.yaml", folder=folder).strip()
    assert report == "reports/my-first/report.html"
    assert (folder / report).is_file()
    execute = (
        "import sys\n"
        "from pathlib import Path\n"
        "from studykit import files, run\n"
        "files.notebook_path = lambda name: Path(f'{name}.ipynb')\n"
        "with run._Kernel() as kernel:\n"  # one for all: most of their time goes into its imports
        "    for name in sys.argv[1:]:\n"
        "        kernel.execute(name, Path('reports'))"
    )
    program("-c", execute, *new.NOTEBOOKS, folder=folder)
    page = json.loads((folder / "reports/3_rate.ipynb").read_text())
    assert "anywidget" in json.dumps(page)
    assert not list(folder.parent.glob("reports"))


@pytest.mark.parametrize("name", ["2026", "über.uns"])
def test_any_folder_gives_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(new, "_FRAMES", 2)
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    studykit.new_study(".")
    assert studykit.load_study("study.yaml").name == name


def test_a_folder_that_is_not_empty_is_left_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(SystemExit) as stop:
        main(["new", str(tmp_path)])
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"studykit: {tmp_path} is not empty: name a new folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(StudyError, match="can't be written"):
        studykit.new_study(tmp_path / "mine.txt")


def test_nothing_is_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(name: str) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(new, "_FRAMES", 2)
    with monkeypatch.context() as patch:
        patch.setattr(files, "notebook_path", stop)
        (tmp_path / "there").mkdir()
        for name in ("there", "new"):
            with pytest.raises(KeyboardInterrupt):
                studykit.new_study(tmp_path / name)
        assert [*tmp_path.rglob("*")] == [tmp_path / "there"]
    (tmp_path / "there/.part/sources").mkdir(parents=True)  # as a killed run leaves it
    studykit.new_study(tmp_path / "there")
    assert not (tmp_path / "there/.part").exists()
