"""Kill -9 at random moments: of runs, and of those who write ratings. Nothing may be lost or left.

    python -m tests.attacks.kills [--runs 50] [--writers 50] [--seed 0]

Runs are killed with 1 job, with 2 jobs and on a Dask cluster: the command alone, so that its kernel
and workers must end by themselves, or all of its processes. The same command then goes on. Writers
are killed on SQLite and, where it is installed, on PostgreSQL. What was counted is printed.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
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

from studykit.clips.cells import read_cells
from studykit.media import video
from studykit.ratings.store import open_store
from tests import test_store

_ENDS_SECONDS = 20  # in which what a killed command has started ends by itself
_STUDY = """\
name: killed
seed: 3
size: 128
crop: face-or-centre
sources: {frontal: [anna.png], side: [berta.png]}
drivings: {frontal: [talk.mp4], stylised: [turn.mp4]}
methods: [copy, warp]
ratings: {simulated_raters: 2}
"""


def write_study(folder: Path, frames: int = 8, size: int = 256) -> Path:
    """Write a study of eight cells that runs in seconds, and return its file."""
    portrait = skimage.data.astronaut()
    video.write_image(folder / "anna.png", portrait[:400, :400])
    video.write_image(folder / "berta.png", portrait[:380, 20:400])
    for name, count in (("talk", frames), ("turn", frames - 2)):
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

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.study, self.chance = write_study(folder), chance
        self.kills = self.resumed = self.finished = 0
        self.moments = {"clips": 0, "before": 0, "after": 0}
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
        shared = set(os.listdir("/dev/shm"))
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
        victims = family[:1] if self.chance.random() < 0.6 else family
        for process in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        run.wait()
        self.kills += 1
        rows, clips = read_cells(out / "cells.csv"), len(list((out / "clips").glob("*.mp4")))
        self.moments["before" if not rows else "clips" if len(rows) < 8 else "after"] += 1
        assert all(row.status == "done" for row in rows.values()), rows
        made = {f"{name}.mp4" for name in rows}
        assert made <= set(self._clips(out)), "a row without its clip"
        assert all(self._clips(out)[name] == self.whole[name] for name in made)
        assert clips <= len(made) + 2
        _, alive = psutil.wait_procs(family[1:], timeout=_ENDS_SECONDS)
        assert not alive, f"left running: {alive}"
        assert set(os.listdir("/dev/shm")) <= shared, "shared memory is left"
        self.resumed += bool(rows)

    def _complete(self, out: Path, *places: str) -> None:
        kept = read_cells(out / "cells.csv")
        done = subprocess.run(self._command(out, *places), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        rows = read_cells(out / "cells.csv")
        assert all(rows[name] == row for name, row in kept.items()), "a row was lost"

    def _command(self, out: Path, *places: str) -> list[str]:
        return [
            sys.executable,
            "-m",
            "studykit",
            "run",
            str(self.study),
            "--out",
            str(out),
            *places,
        ]

    @staticmethod
    def _clips(out: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (out / "clips").glob("*.mp4")}


def kill_writers(place: str, count: int, chance: random.Random) -> int:
    """Kill so many writers of ratings and return how many answers were acknowledged."""
    with open_store(place) as opened:
        session, rater = test_store.begin(opened)
    acknowledged, answered = -1, 0
    command = test_store.writers("until_killed", place, session, rater)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as forking:
        for _ in range(count):
            forking.stdin.write("\n")
            pid = int(forking.stdout.readline())
            for _ in range(chance.randrange(4)):
                acknowledged = int(forking.stdout.readline())
            time.sleep(chance.uniform(0, 0.01))
            os.kill(pid, signal.SIGKILL)
            for line in iter(forking.stdout.readline, "end\n"):
                acknowledged = int(line)
            with open_store(place) as opened:
                answered = opened.session("small", rater).answered
            assert acknowledged < answered <= acknowledged + 2
        forking.stdin.close()
    with open_store(place) as opened:
        trials = list(opened.ratings()["trial"])
    assert trials == [trial for trial in range(answered) for _ in test_store.CRITERIA]
    return acknowledged + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--writers", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        if given.writers:
            places = [("SQLite", contextlib.nullcontext(f"{folder}/ratings.sqlite"))]
            if test_store._postgres_folder():
                places.append(("PostgreSQL", test_store.postgres_server()))
            for name, opening in places:
                with opening as place:
                    kept = kill_writers(place, given.writers, chance)
                text = (
                    f"{name}: {given.writers} writers killed, all {kept} acknowledged answers kept"
                )
                print(text, flush=True)
        if given.runs:
            runs = Runs(Path(folder), chance)
            share = -(-given.runs // 3)
            runs.kill(share, "--jobs", "1")
            print(f"1 job: {runs.kills} runs killed", flush=True)
            runs.kill(share, "--jobs", "2")
            print(f"1 and 2 jobs: {runs.kills} runs killed", flush=True)
            with cluster() as address:
                runs.kill(given.runs - 2 * share, "--scheduler", address)
            print(
                f"{runs.kills} runs killed ({runs.moments['before']} before a cell was made, "
                f"{runs.moments['clips']} among cells, {runs.moments['after']} after them): "
                "clips identical, no row lost, nothing left over"
            )


if __name__ == "__main__":
    main()
