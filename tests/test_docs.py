"""README and docs/ are true to the letter: their commands are run, their files and links exist."""

import csv
import importlib.util
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from studykit.media import video

ROOT = Path(__file__).parent.parent
PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))
}
NEEDS_NETWORK = ("weights fetch", "--weights vox")
NEEDS_CLUSTER = "--scheduler"
SLOW = ("studykit bench", "studykit stimuli benchmark", "studykit run inputs/methods.yaml")
FOREVER = "studykit serve"
MEASURED = "mouth_correlation"
FRAMES = 10


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], flags=re.DOTALL)


def commands(page: str) -> list[str]:
    """Return every command of a page, without comments and with continued lines joined."""
    joined = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    lines = (re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


ALL = [line for page in PAGES for line in commands(page)]
CLUSTER = [line.removesuffix("&").strip() for line in ALL if line.startswith("dask ")]


def runs_here(line: str) -> bool:
    elsewhere = (*NEEDS_NETWORK, *SLOW, NEEDS_CLUSTER, FOREVER)
    ours = line.startswith(("studykit ", "papermill "))
    return ours and not any(word in line for word in elsewhere)


@pytest.fixture(scope="module")
def cloned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has after the clone, less of it: short videos, and a demo of one type."""
    folder = tmp_path_factory.mktemp("cloned")
    for name in ("inputs", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".*"))
    for path in folder.glob("inputs/drivings/*/*.mp4"):
        frames = list(itertools.islice(video.read_frames(path), FRAMES))
        video.write_video(path, frames, frame_rate=video.probe(path).frame_rate)
    demo = yaml.safe_load((folder / "inputs/demo.yaml").read_text())
    demo |= {name: {"frontal": demo[name]["frontal"]} for name in ("sources", "drivings")}
    demo |= {"methods": demo["methods"][:2], "pairs": "all"}
    (folder / "inputs/demo.yaml").write_text(yaml.safe_dump(demo))
    cell = "astronaut__frontal-driving-1__warp"
    collected = f"rater,cell,criterion,value\nr-1a2b,{cell},naturalness,4\n"
    (folder / "collected.csv").write_text(collected)
    return folder


@pytest.fixture
def workplace(cloned: Path, tmp_path: Path) -> Path:
    """A copy of it, so that nothing is changed."""
    return shutil.copytree(cloned, tmp_path, dirs_exist_ok=True)


def program(line: str) -> list[str]:
    """Return a command's words, the program that of the environment the tests run in."""
    name, *arguments = shlex.split(line)
    return [str(Path(sys.executable).with_name(name)), *arguments]


def run(line: str, workplace: Path, **environment: str) -> None:
    result = subprocess.run(
        program(line),
        cwd=workplace,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, f"{line}\n{result.stderr}"


@pytest.fixture(scope="module")
def finished(cloned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of inputs/quick.yaml, which pages show and go on with."""
    folder = shutil.copytree(cloned, tmp_path_factory.mktemp("finished"), dirs_exist_ok=True)
    run("studykit run inputs/quick.yaml", folder)
    return folder / "reports" / "quick"


def slimmed(study: Path) -> None:
    """Leave of a new study what is quick: its tests run the rest."""
    text = re.sub(r"^(  - (warp|fomm)\b)", r"# \1", study.read_text(), flags=re.MULTILINE)
    study.write_text(f"{text}\npairs: [[astronaut, frontal-driving-1]]\n")


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page != "CONTRIBUTING.md" and any(map(runs_here, commands(page)))],
)
def test_every_command_of_a_page_runs(page: str, workplace: Path, finished: Path) -> None:
    shutil.copytree(finished, workplace / "reports" / "quick")
    for line in filter(runs_here, commands(page)):
        if "--compare" in line:
            shutil.copytree(finished, workplace / "reports" / "again")
        run(line, workplace)
        if line.startswith("studykit new "):
            slimmed(workplace / line.split()[2] / "study.yaml")
    if page == "README.md":
        for block in blocks(page, "python"):
            subprocess.run([sys.executable, "-c", block], cwd=workplace, check=True)


def put_in_place(block: str, root: Path) -> None:
    """Put an example where its first line says: into a file, or right after a line of one."""
    first, _, code = block.partition("\n")
    name, _, place = first.removeprefix("# ").partition(", in ")
    path = root / name
    before = path.read_text() if path.is_file() else ""
    if place:
        text, found = re.subn(
            rf"^{place}\b.*\n", lambda line: line[0] + code, before, flags=re.MULTILINE
        )
        assert found == 1, first
    else:
        text = before + code
    path.write_text(text)


def test_the_examples_of_a_method_a_metric_and_a_criterion_work(workplace: Path) -> None:
    page = "CONTRIBUTING.md"
    shutil.copytree(ROOT / "studykit", workplace / "studykit")  # with what is compiled
    for block in (*blocks(page, "python"), *blocks(page, "yaml")):
        put_in_place(block, workplace)
    ruff = "ruff check studykit/methods/shift.py studykit/metrics/motion.py"
    run(f"{ruff} --config {ROOT / 'pyproject.toml'}", workplace)
    for line in filter(runs_here, commands(page)):
        run(line, workplace, PYTHONPATH=str(workplace))
    reports = workplace / "reports" / "example"

    def rows(name: str) -> list[dict[str, str]]:
        with (reports / name).open(newline="") as file:
            return list(csv.DictReader(file))

    made = {row["method"]: row for row in rows("cells.csv")}
    assert {name: row["status"] for name, row in made.items()} == dict.fromkeys(
        ("shift", "shift-half"), "done"
    )
    measured = {row["cell"]: row for row in rows("metrics.csv") if row["metric"] == MEASURED}
    for name in ("shift", "shift-half"):
        row = measured[made[name]["cell"]]
        assert -1 <= float(row["value"]) <= 1
        assert (row["unit"], row["better"]) == ("of 1", "higher")
    rated = {row["criterion"] for row in rows("tables/scores-by-method.csv")}
    assert {"naturalness", "likeness"} <= rated and "structure" not in rated
    said = (reports / "report.md").read_text()
    assert "correlation of the mouth's opening with that in the driving" in said


def test_the_table_of_rooms_is_that_of_the_code() -> None:
    from tests.test_house import MODULES, floors, imported, room_of

    found = re.findall(r"^\| `(\w+)` \| [^|]+ \|(.*)\|$", PAGES["CONTRIBUTING.md"], re.MULTILINE)
    table = {room: set(re.findall(r"`(\w+)`", names)) for room, names in found}
    listed = [room for floor in floors() for room in floor]
    assert list(table) == listed
    for module in MODULES:
        room = room_of(module)
        if room in table:
            others = {room_of(name) for name in imported(module)} - {room}
            assert others <= table[room], f"{module} imports what the table does not say"


def test_files_and_names_that_the_guide_mentions_exist() -> None:
    """Of the table that says where things go, and of the text around it."""
    first_lines = (block.split("\n")[0] for block in blocks("CONTRIBUTING.md", "python"))
    made_here = {line.removeprefix("# ") for line in first_lines}
    for line in PAGES["CONTRIBUTING.md"].splitlines():
        paths = re.findall(r"`((?:studykit|tests|notebooks)/[\w./-]+)`", line)
        for path in paths:
            assert (ROOT / path).exists() or path in made_here, path
        if line.startswith("|") and len(paths) == 1 and paths[0].endswith(".py"):
            text = (ROOT / paths[0]).read_text()
            for name in re.findall(r"`(\w+)`", line.split("|")[2]):
                assert re.search(rf"\b{name}\b", text), (name, paths[0])


def test_the_keys_of_the_study_file_are_in_their_tables() -> None:
    from studykit.study import file, ratings

    for page, keys in (("studies.md", file._KEYS), ("ratings.md", ratings._READERS)):
        listed = re.findall(r"^\| `(\w+)` \|", PAGES[page], re.MULTILINE)
        assert sorted(set(keys) - set(listed)) == [], page


def test_the_local_cluster_runs_a_study(workplace: Path) -> None:
    pytest.importorskip("distributed")
    assert len(CLUSTER) == 2
    started = [
        subprocess.Popen(program(line), cwd=workplace, stderr=subprocess.DEVNULL)
        for line in CLUSTER
    ]
    try:
        lines = [line for line in ALL if NEEDS_CLUSTER in line]
        assert lines
        for line in lines:
            run(line, workplace)
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def test_commands_that_need_a_network_have_options_that_exist() -> None:
    for line in ALL:
        if any(word in line for word in NEEDS_NETWORK):
            words = shlex.split(line)
            verbs = [word for word in words[1:3] if word in ("weights", "fetch", "animate")]
            usage = subprocess.run(
                [sys.executable, "-m", "studykit", *verbs, "--help"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for option in (word for word in words if word.startswith("--")):
                assert option in usage


def test_what_pages_say_to_install_is_what_the_project_asks_for() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    for name, text in PAGES.items():
        assert 'install "studykit' not in text, name
        for package in re.findall(r'pip install "([a-z][^"]*)"', text):
            assert f'"{package}"' in project, (name, package)


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for line in ALL:
        if line.startswith("make "):
            assert f"\n{line.split()[1]}:" in makefile


def test_every_verb_is_listed() -> None:
    from studykit.cli import studykit_command

    for verb in studykit_command.commands:
        assert any(f"studykit {verb}" in text for text in PAGES.values()), verb


def test_linked_files_exist() -> None:
    for name, text in PAGES.items():
        folder = ROOT / "docs" if (ROOT / "docs" / name).is_file() else ROOT
        for link in re.findall(r"\]\((?!https?://|#)([^)\s]+)\)", text):
            assert (folder / link.split("#")[0]).exists(), (name, link)


def test_every_page_is_linked_from_the_readme() -> None:
    for name in PAGES:
        assert name == "README.md" or f"{name})" in PAGES["README.md"], name


def test_the_study_of_all_methods_has_each_and_one_clip_in_each_condition() -> None:
    from studykit.methods import _MODULES, create_methods  # not what other examples registered
    from studykit.study.file import load_study

    study = load_study(ROOT / "inputs" / "methods.yaml")
    used = {spec.method for spec in study.methods}
    assert used == set(_MODULES) - {"command", "folder"} and len(study.methods) >= 6
    of_fomm = [(cell.source.type, cell.driving.type) for cell in study.cells("fomm")]
    assert len(set(of_fomm)) == len(of_fomm) == 9
    assert study.ratings.simulated_raters == 18 and study.ratings.task == "pair"
    assert set(create_methods(study)) == {spec.name for spec in study.methods}


def test_the_tables_of_the_benchmark_are_those_of_the_shipped_weights() -> None:
    from studykit.methods import weights
    from studykit.metrics.benchmark import papers_table, shipped

    spec = importlib.util.spec_from_file_location("benchmark_of_docs", ROOT / "docs/benchmark.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.page(PAGES["benchmark.md"]) == PAGES["benchmark.md"]
    table = papers_table(shipped(weights.SHIPPED))
    for measured in weights.SHIPPED.glob("*/benchmark-256.json"):
        card = measured.with_name("MODEL_CARD.md")
        if '"papers"' in measured.read_text(encoding="utf-8"):  # not of what changes others' clips
            assert table in card.read_text(encoding="utf-8"), card.parent.name
