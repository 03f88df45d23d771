"""How many threads to start, on machines that are shared in every way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from studykit import machine
from studykit.errors import StudyError


@pytest.fixture(autouse=True)
def unlimited(monkeypatch, tmp_path):
    """A process on four cores, in no control group, with nothing set."""
    for name in ("STUDYKIT_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(machine, "_CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "own")


def limit(folder, own, groups):
    (folder / "own").write_text(own)
    for name, content in groups.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def test_cores_are_those_of_the_affinity_not_the_hosts():
    assert machine.usable_cores() == machine.threads() == 4


@pytest.mark.parametrize(
    ("own", "groups", "cores", "threads"),
    [
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2.5, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 4, 4),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3, 3),
        (
            "4:memory:/a\n3:cpu,cpuacct:/a\n",
            {
                "cpu,cpuacct/a/cpu.cfs_quota_us": "200000\n",
                "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            },
            2,
            2,
        ),
        (
            "3:cpu:/elsewhere\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            4,
            4,
        ),
    ],
    ids=["two and a half", "half", "none", "a parent's", "version 1", "version 1, none"],
)
def test_a_containers_quota_limits_them(tmp_path, own, groups, cores, threads):
    limit(tmp_path, own, groups)
    assert machine.usable_cores() == cores
    assert machine.threads() == threads


def test_what_the_environment_asks_for_comes_first(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3,1")
    assert machine.threads() == 3
    monkeypatch.setenv("STUDYKIT_THREADS", "2")
    assert machine.threads() == 2


@pytest.mark.parametrize("asked", ["0", "many", "-1", "1.5"])
def test_a_number_of_threads_that_is_none_is_refused_in_one_line(monkeypatch, asked):
    monkeypatch.setenv("STUDYKIT_THREADS", asked)
    with pytest.raises(StudyError, match=r"^STUDYKIT_THREADS is .*number above 0$"):
        machine.threads()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="only Linux lists its threads")
def test_a_command_multiplies_matrices_by_one_thread():
    """Threads of OpenBLAS that wait for each other take the time of all that runs beside them."""
    script = """
import os, studykit.cli
try:
    studykit.cli.main(["--version"])
finally:
    import numpy
    print(len(os.listdir("/proc/self/task")))
"""
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "1"
