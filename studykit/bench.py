"""``fomm`` beside PaddleGAN's own predictor: time, memory and output, in one run on one machine.

Every subject runs in a process of its own (:mod:`studykit.bench_subjects`), and those that are
compared take turns, so that what else the machine does falls on all of them.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from studykit import files, machine
from studykit.errors import StudyError
from studykit.media import video
from studykit.methods import weights
from studykit.methods.random_weights import SMALL

_SETTLE = 0.3  # seconds: threads spin that long after their work


@dataclass(frozen=True)
class _Plan:
    config: dict
    size: int
    frames: int  # a turn of either contestant
    turns: int
    long_seconds: float  # of the video whose memory is measured, and of its start
    short_seconds: float
    sources: int  # of the study of tiny cells
    drivings: int


def _full() -> _Plan:
    return _Plan(weights.published_config("vox-256"), 256, 4, 3, 58, 5, 10, 20)


_QUICK = _Plan(SMALL, 64, 4, 2, 8, 1, 3, 4)


def run_bench(
    out: str | Path = "reports/bench",
    *,
    threads: tuple[int, ...] = (),
    study: str | Path = "inputs",
    video: str | Path | None = None,
    quick: bool = False,
) -> Path:
    """Measure, print a table, and write ``bench.json`` and ``bench.png`` into a folder.

    Parameters
    ----------
    out : path
        The folder.
    threads : tuple of int
        Numbers of threads to measure a frame with; one and two, as far as there are cores, unless
        given. The largest is used for all else.
    study : path
        The folder of inputs for the 3x3 study: ``sources/<type>/*`` and ``drivings/<type>/*``.
    video : path, optional
        The long driving whose memory is measured, made from the study's inputs unless given.
    quick : bool
        Tiny networks and few frames, to try the bench itself; its figures mean nothing.

    Returns
    -------
    Path
        The JSON file.

    Raises
    ------
    StudyError
        A subject failed, such as for want of Paddle. Where only PaddleGAN's own predictor is
        missing, its columns are empty and a line says why.
    """
    plan = _QUICK if quick else _full()
    cores = max(1, int(machine.usable_cores()))
    threads = threads or tuple(sorted({1, min(2, cores)}))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": _machine(cores), "quick": quick, "size": plan.size}
    with tempfile.TemporaryDirectory(prefix="studykit-bench-") as name:
        bench = _Bench(Path(name), plan)
        _say("making weights and graphs")
        results["weights"] = bench.once("make_weights", max(threads), config=plan.config)
        results["frame"] = {str(count): bench.frame(count) for count in threads}
        single = results["frame"][str(max(threads))]["fomm"]["seconds"]
        results["study"] = bench.matrix(Path(study), max(threads), single)
        results["memory"] = bench.memory(video, Path(study), max(threads))
        results["tiny_cells"] = bench.tiny_cells()
    target = out / "bench.json"
    with files.whole(target) as part:
        part.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(format_table(results))
    with files.whole(out / "bench.png") as part:
        draw(results, part)
    return target


class _Bench:
    """The subjects of one run, which share a folder with weights, graphs and clips."""

    def __init__(self, folder: Path, plan: _Plan) -> None:
        self.folder, self.plan = folder, plan

    def once(self, name: str, threads: int, **parameters: Any) -> dict[str, Any]:
        """Let a subject have one turn and return its answer."""
        if name == "make_weights":
            parameters |= {"size": self.plan.size, "folder": str(self.folder)}
        with _Subject(name, threads, self.folder, parameters) as subject:
            return subject.turn()

    @property
    def safetensors(self) -> str:
        return str(self.folder / "random.safetensors")

    @property
    def pdparams(self) -> str:
        return str(self.folder / "random.pdparams")

    def clip(self, name: str) -> str:
        return str(self.folder / f"{name}.npy")

    def frame(self, threads: int) -> dict[str, Any]:
        """Measure a frame: the contestants and the machine's limit, turn by turn."""
        _say(f"a frame with {threads} thread{'s' * (threads > 1)}")
        plan, shared = self.plan, {"size": self.plan.size, "count": self.plan.frames}
        ours = {**shared, "weights": self.safetensors}
        theirs = {**shared, "weights": self.pdparams, "config": plan.config}
        subjects = {
            "limit": ("compute_convolutions", {"size": plan.size}),
            "fomm": ("animate_by_fomm", {**ours, "precision": "float32"}),
            "bfloat16": ("animate_by_fomm", {**ours, "precision": "bfloat16"}),
            "ppgan": ("animate_by_ppgan", theirs),
        }
        found: dict[str, Any] = {}
        answers: dict[str, list] = {}
        with ExitStack() as stack:
            running = {}
            for name, (kind, parameters) in subjects.items():
                if name != "limit":
                    parameters = {**parameters, "clip": self.clip(name)}
                subject = _Subject(kind, threads, self.folder, parameters)
                stack.enter_context(subject)
                if subject.missing and name in ("bfloat16", "ppgan"):
                    found[name] = {"missing": subject.missing}
                    continue
                subject.require()
                running[name] = subject
            for _ in range(plan.turns):
                for name, subject in running.items():
                    time.sleep(_SETTLE)
                    answers.setdefault(name, []).append(subject.turn())
        for name, turns in answers.items():
            keys = [key for key in turns[0] if key != "peak_bytes"]
            found[name] = {key: float(np.median([turn[key] for turn in turns])) for key in keys}
            found[name]["turns"] = [turn.get("seconds") for turn in turns]
            found[name]["peak_bytes"] = turns[-1]["peak_bytes"]
        if "ppgan" in answers:
            pairs = zip(answers["ppgan"], answers["fomm"], strict=True)
            ratios = [theirs["seconds"] / ours["seconds"] for theirs, ours in pairs]
            found["ratio"], found["ratios"] = float(np.median(ratios)), ratios
            found["difference"] = _difference(self.clip("fomm"), self.clip("ppgan"))
        if "bfloat16" in answers:
            found["bfloat16"]["loss"] = _difference(self.clip("bfloat16"), self.clip("fomm"))
        return found

    def matrix(self, inputs: Path, threads: int, single: float) -> dict[str, Any]:
        """Measure a 3x3 study of the given inputs against the time of its frames alone."""
        _say("a 3x3 study")
        chosen = {}
        for kind in ("sources", "drivings"):
            groups = sorted(path for path in inputs.glob(f"{kind}/*") if path.is_dir())
            chosen[kind] = {
                group.name: [str(min(group.iterdir()).resolve())] for group in groups[:3]
            }
            if len(groups) < 3:
                return {"missing": f"{inputs / kind} has no three folders, one a type"}
        path = self._study("matrix", "face-or-centre", self.plan.size, chosen, self._fomm())
        answer = self.once(
            "animate_study", threads, study=str(path), out=str(self.folder / "matrix")
        )
        alone = answer["frames"] * single
        return {**answer, "frames_alone_seconds": alone, "ratio": answer["seconds"] / alone}

    def memory(self, video: str | Path | None, inputs: Path, threads: int) -> dict[str, Any]:
        """Measure the peak memory of a long driving and of its start, by either."""
        _say("a long driving")
        plan = self.plan
        if video is None:
            video = self._long_video(inputs)
        config = SMALL  # what a network holds does not depend on the frames; it is quicker
        folder = self.folder / "small"
        folder.mkdir()
        shared = {"config": config, "size": plan.size, "folder": str(folder)}
        with _Subject("make_weights", threads, self.folder, shared) as subject:
            subject.turn()
        found: dict[str, Any] = {
            "long_seconds": plan.long_seconds,
            "short_seconds": plan.short_seconds,
        }
        for name, suffix, own in (("fomm", "safetensors", None), ("ppgan", "pdparams", config)):
            peaks = []
            for seconds in (plan.short_seconds, plan.long_seconds):
                parameters = {
                    "weights": str(folder / f"random.{suffix}"),
                    "config": own,
                    "size": plan.size,
                    "video": str(video),
                    "seconds": seconds,
                }
                with _Subject("hold_video", threads, self.folder, parameters) as subject:
                    answer = subject.turn(required=name == "fomm")
                peaks.append(answer.get("peak_bytes"))
            if None in peaks:
                found[name] = {"missing": answer["missing"]}
            else:
                found[name] = {"short_bytes": peaks[0], "long_bytes": peaks[1]}
        return found

    def tiny_cells(self) -> dict[str, Any]:
        """Measure what a cell costs beyond its method: many of them, with copy."""
        _say("many tiny cells")
        from studykit.methods.random_weights import astronaut_frames

        folder = self.folder / "inputs"
        folder.mkdir()
        frames = astronaut_frames(2, 64)
        chosen: dict[str, Any] = {"sources": {"frontal": []}, "drivings": {"frontal": []}}
        for index in range(self.plan.sources):
            path = folder / f"source-{index}.png"
            video.write_image(path, frames[0])
            chosen["sources"]["frontal"].append(str(path))
        for index in range(self.plan.drivings):
            path = folder / f"driving-{index}.mp4"
            video.write_video(path, frames, frame_rate=Fraction(25))
            chosen["drivings"]["frontal"].append(str(path))
        path = self._study("tiny", "centre", 64, chosen, "copy")
        answer = self.once("animate_study", 1, study=str(path), out=str(self.folder / "tiny"))
        return {**answer, "seconds_a_cell": answer["seconds"] / answer["cells"]}

    def _fomm(self) -> dict[str, str]:
        return {"name": "fomm", "method": "fomm", "weights": self.safetensors, "device": "cpu"}

    def _study(self, name: str, crop: str, size: int, inputs: dict, method: Any) -> Path:
        import yaml

        path = self.folder / f"{name}.yaml"
        document = {"name": name, "size": size, "crop": crop, **inputs, "methods": [method]}
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    def _long_video(self, inputs: Path) -> Path:
        """Make one by playing a driving of the inputs, or a still, forth and back."""
        drivings = sorted(inputs.glob("drivings/*/*"))
        if drivings:
            frames = list(video.read_frames(drivings[0]))
        else:
            from studykit.methods.random_weights import astronaut_frames

            frames = astronaut_frames(24, self.plan.size)
        around = frames + frames[-2:0:-1]
        count = int(self.plan.long_seconds * 25)
        path = self.folder / "long.mp4"
        looped = (around[index % len(around)] for index in range(count))
        video.write_video(path, looped, frame_rate=Fraction(25))
        return path


class _Subject:
    """A process that measures one thing, whenever it is given its turn."""

    def __init__(self, name: str, threads: int, folder: Path, parameters: dict) -> None:
        count = str(threads)
        environment = {
            **os.environ,
            "STUDYKIT_CACHE": str(folder / "cache"),
            "STUDYKIT_THREADS": count,
            "OMP_NUM_THREADS": count,
            "MKL_NUM_THREADS": count,
            "OPENBLAS_NUM_THREADS": count,
            "PYTHONWARNINGS": "ignore",
        }
        self.name = name
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".log", delete=False) as log:
            self.log = Path(log.name)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "studykit.bench_subjects", name, json.dumps(parameters)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        self.ready = self._answer()
        self.missing = self.ready.get("missing") or self.ready.get("error")

    def __enter__(self) -> "_Subject":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def require(self) -> None:
        """Refuse to go on without it."""
        if self.missing:
            raise StudyError(f"the bench can't go on: {self.missing}")

    def turn(self, required: bool = True) -> dict[str, Any]:
        """Let it measure once; if it may be missing, its answer then says why."""
        if not self.missing:
            self.process.stdin.write("turn\n")
            self.process.stdin.flush()
            answer = self._answer()
            self.missing = answer.get("missing") or answer.get("error")
            if not self.missing:
                return answer
        if required:
            self.require()
        return {"missing": self.missing}

    def _answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            last = self.log.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing"]
            raise StudyError(
                f"the bench's {self.name} ended with code {code}; the last it said: {last[0]}"
            )
        return json.loads(line)


def format_table(results: dict[str, Any]) -> str:
    """Return the results as lines for a terminal."""
    lines = [f"{results['machine']['processor']}, {results['machine']['cores']} cores usable"]
    if results["quick"]:
        lines.append("quick: tiny networks, so these figures say nothing about fomm")
    gflop = _graph_gflop(results)
    header = f"{'':32}" + "".join(
        f"{count + (' threads' if int(count) > 1 else ' thread'):>14}" for count in results["frame"]
    )
    lines += ["", header]
    for label, value in _FRAME_ROWS:
        cells = [_cell(value, frame, gflop) for frame in results["frame"].values()]
        lines.append(f"{label:32}" + "".join(f"{cell:>14}" for cell in cells))
    lines += ["", *_sentences(results)]
    return "\n".join(lines)


_FRAME_ROWS = [
    ("PaddleGAN, seconds a frame", lambda frame, _: f"{frame['ppgan']['seconds']:.3f}"),
    ("fomm, seconds a frame", lambda frame, _: f"{frame['fomm']['seconds']:.3f}"),
    ("  times faster", lambda frame, _: f"{frame['ratio']:.1f}"),
    ("  limit of the arithmetic, s", lambda frame, gflop: f"{gflop / _limit(frame):.3f}"),
    (
        "  times that limit",
        lambda frame, gflop: f"{frame['fomm']['seconds'] * _limit(frame) / gflop:.2f}",
    ),
    ("  largest difference, of 255", lambda frame, _: f"{frame['difference']['largest']:.2f}"),
    ("  mean difference, of 255", lambda frame, _: f"{frame['difference']['mean']:.3f}"),
    ("fomm in bfloat16, seconds a frame", lambda frame, _: f"{frame['bfloat16']['seconds']:.3f}"),
    (
        "  largest loss, of 255",
        lambda frame, _: f"{frame['bfloat16']['loss']['largest']:.1f}",
    ),
    ("  SSIM to float32", lambda frame, _: f"{frame['bfloat16']['loss']['ssim']:.4f}"),
    ("PaddleGAN, peak memory, MB", lambda frame, _: f"{frame['ppgan']['peak_bytes'] / 1e6:.0f}"),
    ("fomm, peak memory, MB", lambda frame, _: f"{frame['fomm']['peak_bytes'] / 1e6:.0f}"),
]


def _cell(value: Any, frame: dict, gflop: float) -> str:
    try:
        return value(frame, gflop)
    except KeyError:  # a contestant that is missing
        return "-"


def _sentences(results: dict[str, Any]) -> Iterator[str]:
    frames, made = list(results["frame"].values()), results["weights"]
    for name in ("ppgan", "bfloat16"):
        if reason := frames[0][name].get("missing"):
            yield f"{name} was not measured: {reason}"
    if made["note"]:
        yield f"fomm was {made['note']}"
    yield (
        f"Arithmetic: {_graph_gflop(results):.1f} GFLOP a frame in the graphs that were run, "
        + ", ".join(
            f"{_limit(frame):.0f} GFLOP/s with {count} thread{'s' * (count != '1')}"
            for count, frame in results["frame"].items()
        )
        + "."
    )
    yield (
        f"Start to first frame, beside importing Paddle's own: {made['first_start_seconds']:.1f} s "
        f"the first time, {frames[0]['fomm']['second_start_seconds']:.1f} s ever after."
    )
    study = results["study"]
    if "missing" in study:
        yield f"The 3x3 study was not measured: {study['missing']}."
    else:
        yield (
            f"A study of {study['cells']} cells, {study['frames']} frames: {study['seconds']:.1f} "
            f"s, {study['ratio']:.2f} times its frames alone."
        )
    memory = results["memory"]
    for name in ("fomm", "ppgan"):
        if reason := memory[name].get("missing"):
            yield f"Memory of {name} was not measured: {reason}"
        else:
            short, long = (memory[name][f"{key}_bytes"] / 1e6 for key in ("short", "long"))
            yield (
                f"Peak memory of {name}, {memory['short_seconds']} s of video and "
                f"{memory['long_seconds']} s, small networks: {short:.0f} and {long:.0f} MB."
            )
    tiny = results["tiny_cells"]
    yield (
        f"A cell beyond its method: {1000 * tiny['seconds_a_cell']:.0f} ms ({tiny['cells']} cells "
        f"of two frames, copy)."
    )


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw time and memory, side by side, into a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Okabe and Ito's colours, which colour-blind people tell apart.
    colours = {"PaddleGAN": "#999999", "fomm": "#0072B2", "fomm, bfloat16": "#56B4E9"}
    limit_colour, gflop = "#D55E00", _graph_gflop(results)
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    times, memory = figure.subplots(1, 2, width_ratios=[3, 2])
    rows: list[tuple[str, str, float]] = []
    for count, frame in results["frame"].items():
        label = f"{count} thread{'s' * (count != '1')}"
        for name, key in zip(colours, ("ppgan", "fomm", "bfloat16"), strict=True):
            if key == "fomm":
                limit = [gflop / _limit(frame)] * 2
                times.plot(limit, [len(rows) - 0.4, len(rows) + 0.4], color=limit_colour)
            if "seconds" in frame[key]:
                rows.append((f"{name}, {label}", name, frame[key]["seconds"]))
    _bars(times, rows, colours)
    times.plot([], [], color=limit_colour, label="what its arithmetic takes at least")
    times.legend(frameon=False, loc="lower right")
    times.set_xlabel("seconds a frame")
    rows = []
    for name, key in (("PaddleGAN", "ppgan"), ("fomm", "fomm")):
        held = results["memory"][key]
        for part in ("short", "long"):
            if f"{part}_bytes" in held:
                seconds = results["memory"][f"{part}_seconds"]
                rows.append((f"{name}, {seconds} s of video", name, held[f"{part}_bytes"] / 1e9))
    _bars(memory, rows, colours)
    memory.set_xlabel("peak memory, GB (small networks)")
    figure.savefig(path, dpi=150, format="png")


def _bars(axes: Any, rows: list, colours: dict[str, str]) -> None:
    """Draw horizontal bars, in order from the top, with their labels and values."""
    values = [value for *_, value in rows]
    bars = axes.barh(range(len(rows)), values, color=[colours[name] for _, name, _ in rows])
    axes.bar_label(bars, [f"{value:.3g}" for value in values], padding=4)
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(values))
    axes.spines[["top", "right"]].set_visible(False)


def _graph_gflop(results: dict[str, Any]) -> float:
    """Return what is computed for a frame; the encoder runs once a source."""
    return sum(value for name, value in results["weights"]["gflop"].items() if name != "encoder")


def _limit(frame: dict[str, Any]) -> float:
    """Return the most arithmetic that was seen, in GFLOP a second."""
    return max(frame["limit"]["convolution_gflops"], frame["limit"]["product_gflops"])


def _difference(ours: str, theirs: str) -> dict[str, float]:
    """Compare two clips of values from 0 to 255, both rounded as a video's are."""
    from skimage.metrics import structural_similarity

    first, second = (np.rint(np.load(path)) for path in (ours, theirs))
    gaps = np.abs(first - second)
    similar = [
        structural_similarity(a, b, data_range=255, channel_axis=-1)
        for a, b in zip(first, second, strict=True)
    ]
    return {
        "largest": float(gaps.max()),
        "mean": float(gaps.mean()),
        "ssim": float(np.mean(similar)),
    }


def _machine(cores: int) -> dict[str, Any]:
    versions = {}
    for package in ("paddlepaddle", "paddlepaddle-gpu", "ppgan", "numpy"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "system": platform.platform(),
        "processor": machine.processor_name(),
        "cores": cores,
        "versions": versions,
    }


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)
