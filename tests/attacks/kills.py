"""Kill -9 at random moments: of runs, and of those who write ratings. Nothing may be lost or left.

    python -m tests.attacks.kills [--runs 50] [--clips 0] [--writers 50] [--seed 0]

Runs are killed with 1 job, with 2 jobs and on a Dask cluster: the command alone, so that its kernel
and workers must end by themselves, or all of its processes. The same command then goes on.
``--clips`` kills what makes the clips of a run, without notebooks and report: more a minute.
Writers are killed on SQLite and, where it is installed, on PostgreSQL. What was counted is printed.
"""

import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import skimage.data
from PIL import Image

from studykit import files
from studykit.clips.cells import read_cells
from studykit.clips.folder import study_folder
from studykit.media import video
from studykit.run import make_clips
from studykit.study.file import load_study
from tests import test_store

_ENDS_SECONDS = 20  # in which what a killed command has started ends by itself
_STUDY = """\
name: killed
seed: 3
size: 64
crop: centre
sources: {frontal: [anna.png], side: [berta.png]}
drivings: {frontal: [talk.mp4], stylised: [turn.mp4]}
methods: [copy, {name: again, method: copy}]
"""


def write_study(folder: Path, frames: int = 60, size: int = 128) -> Path:
    """Write a study of eight cells that runs in seconds, and return its file."""
    portrait = skimage.data.astronaut()
    video.write_image(folder / "anna.png", portrait[:400, :400])
    video.write_image(folder / "berta.png", portrait[:380, 20:400])
    for name, count in (("talk", frames), ("turn", frames - 20)):
        wide = Image.fromarray(portrait[:400, :400]).resize((size + 2 * count, size))
        slid = (np.asarray(wide)[:, 2 * (count - i) :][:, :size] for i in range(count))
        video.write_video(folder / f"{name}.mp4", slid, frame_rate=Fraction(25))
    (folder / "study.yaml").write_text(_STUDY)
    return folder / "study.yaml"


@contextlib.contextmanager
def cluster() -> Iterator[str]:
    """Give the address of a Dask cluster of two workers, in processes of its own."""
    code = (
        "import distributed, sys\n"
        "if __name__ == '__main__':\n"
        "    here = distributed.LocalCluster(n_workers=2, threads_per_worker=1,\n"
        "        dashboard_address=None, silence_logs=50)\n"
        "    print(here.scheduler_address, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".py") as program:
        program.write(code)
        program.flush()
        command = [sys.executable, program.name]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as started:
            yield started.stdout.readline().strip()
            started.stdin.close()


class Runs:
    """Kills the runs of one study, and holds what they leave to what an undisturbed one left."""

    def __init__(self, folder: Path, chance: random.Random, *, whole: bool = True) -> None:
        self.command = ("studykit", "run") if whole else ("tests.attacks.kills", "--make")
        self.study, self.chance = write_study(folder), chance
        self.kills = self.resumed = self.finished = 0
        self.moments = {"before the first cell": 0, "among cells": 0, "after the last": 0}
        start = time.monotonic()
        self._complete(folder / "whole")
        self.seconds = time.monotonic() - start
        self.whole = self._clips(folder / "whole")
        assert len(self.whole) == 8

    def kill(self, count: int, *places: str) -> None:
        """Kill so many runs in these places, and let each series of them come to its end."""
        out = self.study.parent / "out"
        for _ in range(count):
            self._kill_one(out, *places)
        self._complete(out, *places)
        assert self._clips(out) == self.whole, "clips differ"
        left = [path for path in out.rglob(".*") if path.is_file()]
        assert not left, left
        shutil.rmtree(out)

    def _kill_one(self, out: Path, *places: str) -> None:
        run = subprocess.Popen(self._command(out, *places), stderr=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL)  # fmt: skip
        deadline = time.monotonic() + self.chance.uniform(0.1, 1.1) * self.seconds
        while time.monotonic() < deadline and run.poll() is None:
            time.sleep(0.02)
        if run.poll() is not None:  # it was faster: the next begins anew
            assert run.returncode == 0
            self.finished += 1
            assert self._clips(out) == self.whole
            shutil.rmtree(out)
            return self._kill_one(out, *places)
        family = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
        shared = {name for process in family for name in _shared(process)}
        # Python's own tracker of semaphores goes last, or they would stay until the next start.
        tracked = [one for one in family if "resource_tracker" not in " ".join(_command(one))]
        victims = family[:1] if self.chance.random() < 0.6 else tracked
        for process in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        run.wait()
        self.kills += 1
        print(f"{self.kills} killed", end="\r", flush=True)
        rows, clips = read_cells(out / "cells.csv"), len(list((out / "clips").glob("*.mp4")))
        moment = "before the first cell" if not rows else "among cells"
        self.moments[moment if len(rows) < 8 else "after the last"] += 1
        assert all(row.status == "done" for row in rows.values()), rows
        made = {f"{name}.mp4" for name in rows}
        assert made <= set(self._clips(out)), "a row without its clip"
        assert all(self._clips(out)[name] == self.whole[name] for name in made)
        assert clips <= len(made) + 2
        _, alive = psutil.wait_procs(family[1:], timeout=_ENDS_SECONDS)
        assert not alive, f"left running: {alive}"
        assert not [name for name in shared if os.path.exists(name)], "shared memory is left"
        self.resumed += bool(rows)

    def _complete(self, out: Path, *places: str) -> None:
        kept = read_cells(out / "cells.csv")
        done = subprocess.run(self._command(out, *places), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        rows = read_cells(out / "cells.csv")
        assert all(rows[name] == row for name, row in kept.items()), "a row was lost"

    def _command(self, out: Path, *places: str) -> list[str]:
        return [sys.executable, "-m", *self.command, str(self.study), "--out", str(out), *places]

    @staticmethod
    def _clips(out: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (out / "clips").glob("*.mp4")}


def _shared(process: psutil.Process) -> set[str]:
    with contextlib.suppress(psutil.Error):
        return {found.path for found in process.memory_maps() if found.path.startswith("/dev/shm/")}
    return set()


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--clips", type=int, default=0)
    parser.add_argument("--writers", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    if sys.argv[1:2] == ["--make"]:
        make(*sys.argv[2:])
        return
    given = parser.parse_args()
    chance = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        if given.writers:
            places = [("SQLite", contextlib.nullcontext(f"{folder}/ratings.sqlite"))]
            if test_store._postgres_folder():
                places.append(("PostgreSQL", test_store.postgres_server()))
            for name, opening in places:
                with opening as place:
                    kept = test_store.kill_writers(place, given.writers, chance)
                text = (
                    f"{name}: {given.writers} writers killed, all {kept} acknowledged answers kept"
                )
                print(text, flush=True)
        for count, whole in ((given.clips, False), (given.runs, True)):
            if count:
                print(kill_runs(Path(folder), count, chance, whole=whole), flush=True)


def kill_runs(folder: Path, count: int, chance: random.Random, *, whole: bool) -> str:
    """Kill so many runs, a third of them in each place, and say what was counted."""
    (folder / str(whole)).mkdir()
    runs, share = Runs(folder / str(whole), chance, whole=whole), -(-count // 3)
    runs.kill(share, "--jobs", "1")
    runs.kill(share, "--jobs", "2")
    with cluster() as address:
        runs.kill(count - 2 * share, "--scheduler", address)
    what = "runs" if whole else "makers of clips"
    when = ", ".join(f"{number} {moment}" for moment, number in runs.moments.items())
    return (
        f"{runs.kills} {what} killed with 1 job, with 2 and on a cluster ({when}): "
        "clips identical, no row lost, nothing left over"
    )


def make(study: str, *places: str) -> None:
    """Make the clips of a run as its notebook does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--scheduler")
    given = parser.parse_args(places)
    loaded = load_study(study)
    out = study_folder(loaded, given.out)
    files.remove_partial(out)
    make_clips(loaded, out, jobs=given.jobs, scheduler=given.scheduler)


if __name__ == "__main__":
    main()
