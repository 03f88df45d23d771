"""README is true to the letter: its commands are run, its files and links exist."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Return every command of the shell blocks, without comments and continued lines joined."""
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    lines = (re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


RUN = [line for line in commands() if line.startswith(("studykit ", "papermill "))]
CLUSTER = [line.removesuffix("&").strip() for line in commands() if line.startswith("dask ")]
NEEDS_NETWORK = ("weights fetch", "--weights vox")
NEEDS_CLUSTER = "--scheduler"
SLOW = ("studykit bench", "studykit stimuli benchmark")
FOREVER = "studykit serve"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what README's reader has after the clone, so that nothing here is changed."""
    folder = tmp_path_factory.mktemp("readme")
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


def test_every_command_runs(workplace: Path) -> None:
    here = [
        line
        for line in RUN
        if not any(word in line for word in (*NEEDS_NETWORK, *SLOW, NEEDS_CLUSTER, FOREVER))
    ]
    assert len(here) > 5
    for line in here:
        if "--compare" in line:
            shutil.copytree(workplace / "reports/quick", workplace / "reports/again")
        run(line, workplace)


def test_the_local_cluster_runs_a_study(workplace: Path) -> None:
    pytest.importorskip("distributed")
    assert len(CLUSTER) == 2
    started = [
        subprocess.Popen(program(line), cwd=workplace, stderr=subprocess.DEVNULL)
        for line in CLUSTER
    ]
    try:
        lines = [line for line in RUN if NEEDS_CLUSTER in line]
        assert lines
        shutil.rmtree(workplace / "reports", ignore_errors=True)
        for line in lines:
            run(line, workplace)
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def test_commands_that_need_a_network_have_options_that_exist() -> None:
    for line in RUN:
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
    for line in commands():
        if line.startswith("make "):
            assert f"\n{line.split()[1]}:" in makefile


def test_every_verb_is_listed() -> None:
    from studykit.cli import studykit_command

    for verb in studykit_command.commands:
        assert f"studykit {verb}" in README


def test_linked_files_exist() -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)\s]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link.split("#")[0]).exists(), link


def test_the_table_of_the_benchmark_is_that_of_the_shipped_weights() -> None:
    from studykit.methods import weights

    scores = json.loads((weights.SHIPPED / weights.DEFAULT / "benchmark-256.json").read_text())
    rows = [row for row in scores["summary"] if row["method"] != "truth"]
    assert len(rows) == 24
    for row in rows:
        names = " | ".join(row[name] for name in ("pairing", "type", "method"))
        errors = f"{row['l1']:.2f} | {row['mouth']:.2f} | {row['eyes']:.2f}"
        line = f"| {names} | {row['psnr']:.2f} | {row['gain']:+.2f} | {errors}"
        assert f"{line} | {row['landmarks']:.1f} |\n" in README, line
