"""What is installed, from where and under which name: project, wheel, conda, citation agree."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import studykit

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
GROUPS = PROJECT["dependency-groups"]
NOTEBOOKS = {path.name for path in (ROOT / "notebooks").glob("[!.]*.ipynb")}


def bounds(lines: list[Any]) -> dict[str, str]:
    """Return the bounds of requirements by the names that pip knows."""
    found = [Requirement(line.partition("#")[0]) for line in lines if isinstance(line, str)]
    return {canonicalize_name(item.name): str(item.specifier) for item in found}


def test_the_conda_environment_is_that_of_the_project() -> None:
    text = (ROOT / "environment.yml").read_text()
    *conda, pip = yaml.safe_load(text)["dependencies"]
    assert pip["pip"][-1] == "-e ."
    there = bounds([*conda, *pip["pip"][:-1]])
    assert there.pop("pip") == ""
    assert there.pop("python") == str(
        Requirement(f"x{PROJECT['project']['requires-python']}").specifier
    )
    nbval = [line for line in GROUPS["dev"] if str(line).startswith("nbval")]
    asked = [*PROJECT["project"]["dependencies"], *EXTRAS["fomm"], *EXTRAS["notebook"], *nbval]
    assert there == bounds(asked)
    assert f"#   pip install --no-deps {GROUPS['ppgan'][0]} {GROUPS['mesh'][0]}\n" in text
    assert "paddlepaddle-gpu==" in text


def test_hints_name_packages_as_the_project_asks_for_them() -> None:
    groups = (PROJECT["project"]["dependencies"], *EXTRAS.values(), *GROUPS.values())
    known = {line for group in groups for line in group if isinstance(line, str)}
    for path in sorted((ROOT / "studykit").rglob("*.py")):
        text = path.read_text()
        assert 'install "studykit' not in text
        for hint in re.findall(r'pip install "([a-z][^"{}]*)"', text):
            assert hint in known, f"{path}: {hint}"


def test_the_citation_is_that_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    needed = {"cff-version", "message", "title", "authors"}
    assert needed <= citation.keys()
    assert citation["version"] == studykit.__version__
    assert citation["license"] == PROJECT["project"]["license"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this tree, built without a network."""
    pytest.importorskip("hatchling", reason="the wheel is built by hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.iterdir()
    name = studykit.DISTRIBUTION.replace("-", "_")
    assert path.name == f"{name}-{studykit.__version__}-py3-none-any.whl"
    assert path.stat().st_size < 35e6
    return zipfile.ZipFile(path)


def test_the_wheel_holds_code_page_notebooks_weights_their_card_and_examples_alone(
    wheel: zipfile.ZipFile,
) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {name for name in names if not name.startswith("studykit/")} == set()
    checkpoints = {name for name in names if "/checkpoints/" in name}
    weights = ("MODEL_CARD.md", "checkpoint.json", "weights.safetensors")
    shipped = ("enhance-256", "regions-256", "resnet-256", "sparse-256", "synth-256")
    assert checkpoints == {f"studykit/checkpoints/{own}/{n}" for own in shipped for n in weights}
    notebooks = {name for name in names if name.startswith("studykit/notebooks/")}
    assert notebooks == {f"studykit/notebooks/{name}" for name in NOTEBOOKS}
    examples = {name for name in names if name.startswith("studykit/inputs/")}
    assert examples == {
        f"studykit/inputs/{role}s/{kind}/{kind}{name}"
        for kind in ("frontal", "side", "stylised")
        for role, name in (("source", "-1.png"), ("driving", "-driving-1.mp4"))
    }
    suffixes = {Path(name).suffix for name in names - checkpoints - notebooks - examples}
    assert suffixes == {
        ".py", ".pyi", ".typed",
        ".css", ".js", ".html",  # of the pages and the report
        ".csv", ".mplstyle",  # what columns mean; how figures look
        ".md", ".yaml",  # what card, recipe, archive and a new study are made from; words
    }  # fmt: skip
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "studykit").rglob("*.py")}
    assert code == {name for name in names if name.endswith(".py")}


def test_the_wheel_asks_for_what_the_project_asks(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = wheel.read(name).decode()
    assert f"Name: {studykit.DISTRIBUTION}\n" in metadata
    lines = re.findall(r"^Requires-Dist: (.*)$", metadata, flags=re.MULTILINE)
    asked = {str(Requirement(line)) for line in lines}
    assert asked >= {str(Requirement(line)) for line in PROJECT["project"]["dependencies"]}
