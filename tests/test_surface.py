"""``import studykit`` offers what a notebook needs, at once and documented; examples are true."""

import doctest
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import studykit

PACKAGE = Path(studykit.__file__).parent
SURFACE = ["StudyError", "analyse", "animate", "animate_page", "archive_study", "check_study",
           "compare_studies", "create_method",
           "load_results", "load_study", "mean_scores", "new_study", "rating_page", "register",
           "run_study", "write_stimuli"]  # fmt: skip
WITH_EXAMPLES = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text()]


@pytest.mark.parametrize("name", studykit.__all__)
def test_each_name_exists_and_is_documented(name: str) -> None:
    value = getattr(studykit, name)
    assert value.__name__ == name
    assert inspect.getdoc(value)
    assert name in dir(studykit)


def test_the_surface_is_a_dozen_names() -> None:
    assert sorted(studykit.__all__) == SURFACE


def test_a_name_that_is_not_there_is_refused_as_usual() -> None:
    with pytest.raises(AttributeError, match="run_studdy"):
        studykit.run_studdy  # noqa: B018


def test_importing_studykit_costs_next_to_nothing() -> None:
    code = (
        "import sys, time; start = time.process_time(); import studykit\n"
        "print(time.process_time() - start, *{name.split('.')[0] for name in sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *modules = run.stdout.split()
    assert float(seconds) < 0.05
    assert not {"numpy", "paddle", "pandas", "click", "yaml"} & set(modules)


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_examples_in_docstrings_hold(path: Path) -> None:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    name = ".".join(parts).removesuffix(".__init__")
    if name.startswith("studykit.training"):
        pytest.importorskip("torch")
    done = doctest.testmod(importlib.import_module(name))
    assert done.attempted
    assert not done.failed


def test_threads_that_have_nothing_to_compute_soon_sleep() -> None:
    """By itself NumPy's wait at full speed until the next product comes, or a good while."""
    code = (
        "import time, studykit, numpy as np; a = np.ones((300, 300)); a @ a\n"
        "start = time.time(), time.process_time() - time.thread_time()\n"
        "for _ in range(20): a @ a; time.sleep(0.03)\n"
        "waited = time.process_time() - time.thread_time() - start[1]\n"
        "print(waited / (time.time() - start[0]))"
    )
    environment = {k: v for k, v in os.environ.items() if "THREAD" not in k}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True
    )
    assert float(done.stdout) < 0.3
