"""README and docs/ are true to the letter: their commands are run, their files and links exist."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))
}
NEEDS_NETWORK = ("weights fetch", "--weights vox")
NEEDS_CLUSTER = "--scheduler"
SLOW = ("studykit bench", "studykit stimuli benchmark")
FOREVER = "studykit serve"


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


def workplace_in(folder: Path) -> Path:
    """Copy what a reader has after the clone, so that nothing here is changed."""
    for name in ("inputs", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".*"))
    cell = "astronaut__frontal-driving-1__warp"
    collected = f"rater,cell,criterion,value\nr-1a2b,{cell},naturalness,4\n"
    (folder / "collected.csv").write_text(collected)
    return folder


def program(line: str) -> list[str]:
    """Return a command's words, the program that of the environment the tests run in."""
    name, *arguments = shlex.split(line)
    return [str(Path(sys.executable).with_name(name)), *arguments]


def run(line: str, workplace: Path) -> None:
    result = subprocess.run(program(line), cwd=workplace, capture_output=True, text=True)
    assert result.returncode == 0, f"{line}\n{result.stderr}"


@pytest.mark.parametrize("page", [page for page in PAGES if any(map(runs_here, commands(page)))])
def test_every_command_of_a_page_runs(page: str, tmp_path: Path) -> None:
    workplace = workplace_in(tmp_path)
    reports = workplace / "reports"
    for line in filter(runs_here, commands(page)):
        needs_a_run = line.startswith(("studykit rate", "studykit report"))
        if needs_a_run and "inputs/quick" in line and not (reports / "quick").is_dir():
            run("studykit run inputs/quick.yaml", workplace)
        if "--compare" in line:
            shutil.copytree(reports / "quick", reports / "again")
        run(line, workplace)
    if page == "README.md":
        for block in blocks(page, "python"):
            subprocess.run([sys.executable, "-c", block], cwd=workplace, check=True)


def test_the_local_cluster_runs_a_study(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    assert len(CLUSTER) == 2
    workplace = workplace_in(tmp_path)
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


def test_the_table_of_the_benchmark_is_that_of_the_shipped_weights() -> None:
    from studykit.methods import weights

    scores = json.loads((weights.SHIPPED / weights.DEFAULT / "benchmark-256.json").read_text())
    rows = [row for row in scores["summary"] if row["method"] != "truth"]
    assert len(rows) == 24
    for row in rows:
        names = " | ".join(row[name] for name in ("pairing", "type", "method"))
        errors = f"{row['l1']:.2f} | {row['mouth']:.2f} | {row['eyes']:.2f}"
        line = f"| {names} | {row['psnr']:.2f} | {row['gain']:+.2f} | {errors}"
        assert f"{line} | {row['landmarks']:.1f} |\n" in PAGES["benchmark.md"], line
