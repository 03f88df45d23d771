"""``fomm`` beside PaddleGAN's own predictor: time, memory and output, in one run on one machine.

Every subject runs in a process of its own, ``python -m studykit.bench SUBJECT PARAMETERS``, whose
threads and peak memory are its own. A subject is made once and then measures whenever a line comes
in, answering each with a line of JSON. Those that are compared take turns, so that whatever else
the machine does slows all of them.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np

from studykit import files, machine
from studykit.errors import StudyError
from studykit.media.video import probe, read_frames, write_video
from studykit.media.views import Driving, Source
from studykit.methods import checkpoint_files, create_method, weights
from studykit.methods._ppgan import import_paddle, missing_package
from studykit.methods.random_weights import SMALL, astronaut_frames, random_checkpoint

_SETTLE = 0.3  # seconds: threads spin that long after their work
_FRAMES = 4  # a turn of either contestant
_RATE = Fraction(25)  # frames a second of the videos made here


@dataclass(frozen=True)
class _Workload:
    """How much is measured."""

    config: checkpoint_files.Settings
    size: int
    turns: int
    long_seconds: float  # of the video whose memory is measured, and of its start
    short_seconds: float


_QUICK = _Workload(SMALL, 64, 2, 8, 1)


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
        The folder of inputs whose first driving, ``drivings/<type>/*``, is played again and again
        as the long one.
    video : path, optional
        The long driving whose memory is measured, in place of that.
    quick : bool
        Tiny networks and few frames, to try the bench itself; its figures mean nothing.

    Returns
    -------
    Path
        The JSON file.

    Raises
    ------
    StudyError
        A subject failed, for example because Paddle is missing. Where only PaddleGAN's own
        predictor is missing, its columns are empty and a line says why.
    """
    full = _Workload(weights.published_config("vox-256"), 256, 3, 58, 5)
    cores = max(1, int(machine.usable_cores()))
    threads = threads or tuple(sorted({1, min(2, cores)}))
    out, inputs = Path(out), Path(study)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="studykit-bench-") as name:
        bench = _Bench(Path(name), _QUICK if quick else full, max(threads))
        results: dict[str, Any] = {
            "machine": _machine(cores),
            "quick": quick,
            "size": bench.workload.size,
            "weights": bench.weights(bench.workload.config, bench.folder),
        }
        results["frame"] = {str(count): bench.frame(count) for count in threads}
        parts = results["weights"]["gflop"]
        results["gflop"] = sum(parts.values()) - parts["encoder"]  # which runs once a source
        for frame in results["frame"].values():
            limit = frame["limit"]
            limit["seconds_a_frame"] = results["gflop"] / limit["gflops"]
            limit["ratio"] = frame["fomm"]["seconds"] / limit["seconds_a_frame"]
        results["memory"] = bench.memory(Path(video) if video else bench.long_video(inputs))
    with files.whole(out / "bench.json") as part:
        part.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(format_table(results))
    with files.whole(out / "bench.png") as part:
        draw(results, part)
    return out / "bench.json"


class _Bench:
    """The subjects of one run, which share a folder with weights, graphs and clips."""

    def __init__(self, folder: Path, workload: _Workload, threads: int) -> None:
        self.folder, self.workload, self.threads = folder, workload, threads

    def once(self, name: str, **parameters: Any) -> dict[str, Any]:
        """Give a subject one turn and return its answer."""
        with _Subject(name, self.threads, self.folder, parameters) as subject:
            return subject.turn()

    def weights(self, config: checkpoint_files.Settings, folder: Path) -> dict[str, Any]:
        """Make random weights and their graphs."""
        _say("making weights and graphs")
        return self.once("make_weights", config=config, size=self.workload.size, folder=str(folder))

    def frame(self, threads: int) -> dict[str, Any]:
        """Measure a frame: the contestants and the machine's limit, turn by turn."""
        _say(f"a frame with {_threads(threads)}")
        fomm = {"weights": str(self.folder / "random.safetensors"), "config": None}
        ppgan = {"weights": str(self.folder / "random.pdparams"), "config": self.workload.config}
        asked = {
            "fomm": {**fomm, "precision": "float32"},
            "bfloat16": {**fomm, "precision": "bfloat16"},
            "ppgan": {**ppgan, "precision": "float32"},
        }
        size = max(self.workload.size, _LEAST_SHIPPED)
        for method, name in _SHIPPED.items():
            asked[name] = {"method": method, "weights": name, "size": size, "config": None}
        clips = {name: self.folder / f"{name}.npy" for name in asked}
        found: dict[str, Any] = {}
        with ExitStack() as stack:

            def start(kind: str, **parameters: Any) -> _Subject:
                parameters.setdefault("size", self.workload.size)
                return stack.enter_context(_Subject(kind, threads, self.folder, parameters))

            running = {"limit": start("compute_limit")}
            for name, parameters in asked.items():
                subject = start("animate_frames", clip=str(clips[name]), **parameters)
                if subject.missing and name != "fomm":
                    found[name] = {"missing": subject.missing}
                else:
                    running[name] = subject
            for name, scale in _ENHANCED.items():
                running[name] = start("enhance_frame", size=size, scale=scale)
            answers: dict[str, list[dict[str, Any]]] = {name: [] for name in running}
            for _ in range(self.workload.turns):
                for name, subject in running.items():
                    time.sleep(_SETTLE)
                    answers[name].append(subject.turn())
        for name, turns in answers.items():
            found[name] = {key: float(np.median([turn[key] for turn in turns])) for key in turns[0]}
            found[name]["turns"] = [turn["seconds"] for turn in turns]
            found[name]["peak_bytes"] = turns[-1]["peak_bytes"]
        if "ppgan" in running:
            pairs = zip(found["ppgan"]["turns"], found["fomm"]["turns"], strict=True)
            found["ratios"] = [theirs / ours for theirs, ours in pairs]
            found["ratio"] = float(np.median(found["ratios"]))
            found["difference"] = _difference(clips["fomm"], clips["ppgan"])
        if "bfloat16" in running:
            found["bfloat16"]["loss"] = _difference(clips["bfloat16"], clips["fomm"])
        return found

    def memory(self, video: Path) -> dict[str, Any]:
        """Measure the peak memory of a long driving and of its start, by either."""
        _say("a long driving")
        # What a network holds does not depend on the frames, and a small one is quicker.
        folder = self.folder
        if self.workload.config != SMALL:
            folder = self.folder / "small"
            folder.mkdir()
            self.weights(SMALL, folder)
        lengths = {"short": self.workload.short_seconds, "long": self.workload.long_seconds}
        found: dict[str, Any] = {f"{part}_seconds": value for part, value in lengths.items()}
        shared = {"size": self.workload.size, "video": str(video)}
        for name, file, config in (
            ("fomm", "random.safetensors", None),
            ("ppgan", "random.pdparams", SMALL),
        ):
            found[name] = {}
            for part, seconds in lengths.items():
                own = {"weights": str(folder / file), "config": config, "seconds": seconds}
                with _Subject("hold_video", self.threads, self.folder, shared | own) as subject:
                    if subject.missing and name == "ppgan":
                        found[name] = {"missing": subject.missing}
                        break
                    found[name][f"{part}_bytes"] = subject.turn()["peak_bytes"]
        return found

    def long_video(self, inputs: Path) -> Path:
        """Make one by playing a driving of the inputs, or a still, forth and back."""
        driving = next(iter(sorted(inputs.glob("drivings/*/*"))), None)
        size = self.workload.size
        frames = list(read_frames(driving)) if driving else astronaut_frames(24, size)
        around = frames + frames[-2:0:-1]
        count = int(self.workload.long_seconds * _RATE)
        looped = (around[index % len(around)] for index in range(count))
        write_video(self.folder / "long.mp4", looped, frame_rate=_RATE)
        return self.folder / "long.mp4"


class _Subject:
    """A process that measures one thing, whenever it is given its turn.

    ``missing`` says why it can't: a package that is not there, or another error of the user's.
    """

    def __init__(self, name: str, threads: int, folder: Path, parameters: dict) -> None:
        limits = ("STUDYKIT_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        own = {"PYTHONWARNINGS": "ignore"}
        shipped = name == "enhance_frame" or parameters.get("weights") in _SHIPPED.values()
        if not shipped:  # random weights leave nothing behind
            own["STUDYKIT_CACHE"] = str(folder / "cache")
        self.name, self.missing = name, ""
        self.log = tempfile.TemporaryFile("w+", dir=folder, errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "studykit.bench", name, json.dumps(parameters)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **own, **dict.fromkeys(limits, str(threads))},
        )
        self._answer()

    def __enter__(self) -> "_Subject":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # it has answered, or never will
        self.process.communicate()
        self.log.close()

    def turn(self) -> dict[str, Any]:
        """Let it measure once."""
        answer: dict[str, Any] = {}
        if not self.missing:
            self.process.stdin.write("turn\n")
            self.process.stdin.flush()
            answer = self._answer()
        if self.missing:
            raise StudyError(f"the bench can't go on: {self.missing}")
        return answer

    def _answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.log.seek(0)
            last = self.log.read().strip().splitlines()[-1:] or ["nothing"]
            raise StudyError(
                f"the bench's {self.name} ended with code {code}; the last it said: {last[0]}"
            )
        answer = json.loads(line)
        self.missing = answer.get("missing", "")
        return answer


_CONTESTANTS = {"PaddleGAN": "ppgan", "fomm": "fomm", "fomm, bfloat16": "bfloat16"}
_SHIPPED = {
    "fomm": "synth-256",
    "regions": "regions-256",
    "resnet": "resnet-256",
    "sparse": "sparse-256",
}
_ENHANCED = {"enhance": 1, "doubled": 2}
_LEAST_SHIPPED = 128  # pixels a side
_FRAME_ROWS = (
    ("PaddleGAN, seconds a frame", "ppgan seconds", ".3f"),
    ("fomm, seconds a frame", "fomm seconds", ".3f"),
    ("  times faster", "ratio", ".1f"),
    ("  limit of the arithmetic, s", "limit seconds_a_frame", ".3f"),
    ("  times that limit", "limit ratio", ".2f"),
    ("  largest difference, of 255", "difference largest", ".2f"),
    ("  mean difference, of 255", "difference mean", ".3f"),
    ("fomm in bfloat16, seconds a frame", "bfloat16 seconds", ".3f"),
    ("  largest loss, of 255", "bfloat16 loss largest", ".1f"),
    ("  SSIM to float32", "bfloat16 loss ssim", ".4f"),
    *(
        (f"{method} on {name}, s a frame", f"{name} seconds", ".3f")
        for method, name in _SHIPPED.items()
    ),
    ("enhance: 1, further seconds a frame", "enhance seconds", ".3f"),
    ("enhance: 2, to twice the size", "doubled seconds", ".3f"),
    ("PaddleGAN, peak memory, MB", "ppgan peak_bytes", ".0f"),
    ("fomm, peak memory, MB", "fomm peak_bytes", ".0f"),
)


def format_table(results: dict[str, Any]) -> str:
    """Return the results as lines for a terminal."""
    lines = [f"{results['machine']['processor']}, {results['machine']['cores']} cores usable"]
    if results["quick"]:
        lines.append("quick: tiny networks, so these figures say nothing about fomm")
    frames = results["frame"]
    lines += ["", " " * 36 + "".join(f"{_threads(count):>14}" for count in frames)]
    for label, keys, form in _FRAME_ROWS:
        cells = "".join(f"{_cell(frame, keys, form):>14}" for frame in frames.values())
        lines.append(f"{label:36}{cells}")
    return "\n".join([*lines, "", *_sentences(results)])


def _cell(frame: dict, keys: str, form: str) -> str:
    try:
        value = reduce(dict.__getitem__, keys.split(), frame)
    except KeyError:  # of a contestant that is missing
        return "-"
    return format(value / 1e6 if "bytes" in keys else value, form)


def _sentences(results: dict[str, Any]) -> Iterator[str]:
    first = next(iter(results["frame"].values()))
    made, memory = results["weights"], results["memory"]
    for name in ("ppgan", "bfloat16"):
        if reason := first[name].get("missing"):
            yield f"{name} was not measured: {reason}"
    if made["note"]:
        yield f"fomm was {made['note']}"
    yield f"Arithmetic: {results['gflop']:.1f} GFLOP a frame in the graphs that were run."
    yield (
        f"Start to first frame, beside importing Paddle's own: {made['first_start_seconds']:.1f} s "
        f"the first time, {first['fomm']['second_start_seconds']:.1f} s from then on."
    )
    for name in ("fomm", "ppgan"):
        if reason := memory[name].get("missing"):
            yield f"Memory of {name} was not measured: {reason}"
            continue
        short, long = (
            f"{memory[name][f'{part}_bytes'] / 1e6:.0f} MB for {memory[f'{part}_seconds']} s"
            for part in ("short", "long")
        )
        yield f"Peak memory of {name}, small networks: {short} of video, {long}."


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw time and memory, side by side, into a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    times, memory = figure.subplots(1, 2, width_ratios=[3, 2])
    rows: list[tuple[str, str, float]] = []
    for count, frame in results["frame"].items():
        for name, key in _CONTESTANTS.items():
            if key == "fomm":
                limit, place = frame["limit"]["seconds_a_frame"], len(rows)
                times.vlines(limit, place - 0.4, place + 0.4, color=_LIMIT_COLOUR)
            if "seconds" in frame[key]:
                rows.append((f"{name}, {_threads(count)}", name, frame[key]["seconds"]))
    _draw_bars(times, rows, "seconds a frame")
    times.plot([], [], color=_LIMIT_COLOUR, label="what its arithmetic takes at least")
    times.legend(frameon=False, loc="lower right")
    held = results["memory"]
    rows = [
        (f"{name}, {held[f'{part}_seconds']} s of video", name, held[key][f"{part}_bytes"] / 1e9)
        for name, key in _CONTESTANTS.items()
        for part in ("short", "long")
        if f"{part}_bytes" in held.get(key, {})
    ]
    _draw_bars(memory, rows, "peak memory, GB (small networks)")
    figure.savefig(path, dpi=150, format="png")


# Okabe and Ito's colours, which colour-blind people can tell apart.
_COLOURS = {"PaddleGAN": "#999999", "fomm": "#0072B2", "fomm, bfloat16": "#56B4E9"}
_LIMIT_COLOUR = "#D55E00"


def _draw_bars(axes: Any, rows: list[tuple[str, str, float]], title: str) -> None:
    """Draw horizontal bars, in order from the top, with their labels and values."""
    labels, names, values = zip(*rows, strict=True)
    bars = axes.barh(range(len(rows)), values, color=[_COLOURS[name] for name in names])
    axes.bar_label(bars, [f"{value:.3g}" for value in values], padding=4)
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(values))
    axes.set_xlabel(title)
    axes.spines[["top", "right"]].set_visible(False)


def _difference(ours: Path, theirs: Path) -> dict[str, float]:
    """Compare two clips of values from 0 to 255, both rounded as a video's are."""
    from skimage.metrics import structural_similarity

    first, second = (np.rint(np.load(path)) for path in (ours, theirs))
    gaps = np.abs(first - second)
    compare = partial(structural_similarity, data_range=255, channel_axis=-1)
    ssim = np.mean(list(map(compare, first, second)))
    return {"largest": float(gaps.max()), "mean": float(gaps.mean()), "ssim": float(ssim)}


def _machine(cores: int) -> dict[str, Any]:
    versions = machine.installed_versions("paddlepaddle", "paddlepaddle-gpu", "ppgan", "numpy")
    about = {"system": platform.platform(), "processor": machine.processor_name()}
    return {**about, "cores": cores, "versions": versions}


def _threads(count: int | str) -> str:
    return f"{count} thread{'s' * (int(count) > 1)}"


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


# ------------------------------------------------------------------ subjects, each in its process

Turn = Callable[[], dict[str, Any]]


def make_weights(config: dict, size: int, folder: str) -> Turn:
    """Make random weights for both contestants, the graphs, and count the arithmetic of a frame."""
    import_paddle()
    from studykit.methods._fomm_dygraph import load_networks
    from studykit.methods._fomm_graph import make_graphs

    checkpoint, path = random_checkpoint(config, size=size), Path(folder) / "random.safetensors"
    checkpoint_files.save(checkpoint, path)
    checkpoint_files.save_for_ppgan(checkpoint, path.with_suffix(".pdparams"))

    def turn() -> dict[str, Any]:
        graphs = make_graphs(load_networks(str(path), None, "cpu"), size, size)
        start = time.monotonic()
        method = create_method("fomm", weights=str(path), device="cpu")
        state = method.prepare(Source("any", astronaut_frames(1, size)[0]))
        return {
            "gflop": {name: _gflop(*graph) for name, graph in graphs.items()},
            "first_start_seconds": time.monotonic() - start,
            "note": method.notes(state),
        }

    return turn


def animate_frames(
    weights: str, config: dict | None, size: int, clip: str, method: str = "fomm", **settings: Any
) -> Turn:
    """Animate a few frames by a method or, with a config, as users of ppgan's predictor do."""
    frames = astronaut_frames(_FRAMES, size)
    import_paddle()
    start = time.monotonic()
    if config is None:
        made_by = create_method(method, weights=weights, device="cpu", **settings)
        state = made_by.prepare(Source("astronaut", frames[-1]))

        def animate(count: int) -> list[np.ndarray]:
            driving = Driving("few", lambda: frames[:count], _RATE, count)
            return list(made_by.animate(state, driving))

    else:
        predictor = _ppgan_predictor(weights, config)
        scaled = [frame / 255.0 for frame in frames]

        def animate(count: int) -> list[np.ndarray]:
            networks = predictor.generator, predictor.kp_detector
            modes = {"relative": True, "adapt_movement_scale": True}
            return predictor.make_animation(scaled[-1], scaled[:count], *networks, **modes)

    animate(1)
    started = time.monotonic() - start

    def turn() -> dict[str, Any]:
        start = time.perf_counter()
        animate(1)  # with what is done once a clip
        between = time.perf_counter()
        made = animate(_FRAMES)
        seconds = (time.perf_counter() - between) - (between - start)
        np.save(clip, np.asarray(made, np.float32))
        return {"seconds": seconds / (_FRAMES - 1), "second_start_seconds": started}

    return turn


def enhance_frame(size: int, scale: int) -> Turn:
    """Clean a frame of a size by the shipped network, or double it."""
    from studykit.methods.enhance import Enhanced

    frames = astronaut_frames(_FRAMES, size * scale)
    made_by = Enhanced(create_method("copy"), scale)
    _, better = made_by.prepare(Source("astronaut", frames[-1]))
    given = [frame[::scale, ::scale] for frame in frames]
    better(given[0])

    def turn() -> dict[str, Any]:
        start = time.perf_counter()
        for frame in given:
            better(frame)
        return {"seconds": (time.perf_counter() - start) / len(given)}

    return turn


def compute_limit(size: int) -> Turn:
    """Run dense 3x3 convolutions, the arithmetic that a processor is best at."""
    paddle = import_paddle()
    from studykit.methods._fomm_runtime import Predictor

    side, channels = max(size // 4, 16), 256
    layers = [paddle.nn.Conv2D(channels, channels, 3, padding=1) for _ in range(4)]
    image = np.ones((1, channels, side, side), np.float32)
    gflop = len(layers) * 2 * 9 * (channels * side) ** 2 / 1e9
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "convolutions"
        given = [paddle.static.InputSpec(image.shape, "float32", "image")]
        paddle.jit.save(paddle.nn.Sequential(*layers), str(path), input_spec=given)
        predictor = Predictor(path, machine.threads())

    def turn() -> dict[str, Any]:
        times = [time.perf_counter()]
        for _ in range(4):
            predictor(image)
            times.append(time.perf_counter())
        seconds = float(np.diff(times).min())
        return {"seconds": seconds, "gflops": gflop / seconds}

    return turn


def hold_video(weights: str, config: dict | None, size: int, video: str, seconds: float) -> Turn:
    """Animate the start of a video, by the method or, with a config, as ppgan's predictor does."""
    count = int(seconds * probe(video).frame_rate)
    predictor = _ppgan_predictor(weights, config) if config else None

    def by_method() -> dict[str, Any]:
        method = create_method("fomm", weights=weights, device="cpu")
        state = method.prepare(Source("first", next(_squares(video, size, 1))))
        driving = Driving("video", lambda: _squares(video, size, count), _RATE, count)
        return {"frames": sum(1 for _ in method.animate(state, driving))}

    def by_ppgan() -> dict[str, Any]:
        # As its run() does: all frames as they are, then all of them scaled, as float64.
        frames = list(_squares(video, size, count))
        scaled = [frame / 255.0 for frame in frames]
        # Its generator would take hours and keeps nothing: the source stands in for its frames.
        made = predictor.make_animation(
            scaled[0], scaled, lambda source, **_: {"prediction": source}, predictor.kp_detector
        )
        return {"frames": len(made)}

    return by_ppgan if config else by_method


def _squares(video: str, size: int, count: int) -> Iterator[np.ndarray]:
    from PIL import Image

    for _, frame in zip(range(count), read_frames(video), strict=False):
        yield np.asarray(Image.fromarray(frame).resize((size, size)))


def _ppgan_predictor(path: str, config: dict) -> Any:
    """Return ppgan's predictor, with what it imports of ``paddle.fluid`` there, as it once was."""
    import types

    paddle = import_paddle()
    names = ("paddle.fluid", "paddle.fluid.layers", "paddle.fluid.layers.nn")
    fluid, layers, nn = modules = [types.ModuleType(name) for name in names]
    paddle.fluid, fluid.layers, layers.nn, nn.soft_relu = fluid, layers, nn, None
    layers.resize_nearest = lambda image, scale: paddle.nn.functional.interpolate(
        image, scale_factor=scale, mode="nearest"
    )
    sys.modules.update(zip(names, modules, strict=True))
    try:
        from ppgan.apps.first_order_predictor import FirstOrderPredictor
    except ImportError as error:
        raise missing_package(error) from error
    networks = {key: value for key, value in config.items() if key != "common_params"}
    model = {"common_params": config["common_params"], "generator": networks}
    folder = str(Path(path).parent)
    return FirstOrderPredictor(output=folder, weight_path=path, config={"model": model})


def _gflop(graph: Any, inputs: list) -> float:
    """Count a graph's multiplications and additions in convolutions, which are nearly all."""
    import paddle

    counts = []

    def count(layer: Any, given: tuple, output: Any) -> None:
        # Each weight meets every place of a convolution's output, or of a transposed one's input.
        transposed = isinstance(layer, paddle.nn.Conv2DTranspose)
        height, width = (given[0] if transposed else output).shape[2:]
        counts.append(2 * int(np.prod(layer.weight.shape)) * height * width)

    for layer in graph.sublayers():
        if isinstance(layer, paddle.nn.Conv2D | paddle.nn.Conv2DTranspose):
            layer.register_forward_post_hook(count)
    with paddle.no_grad():
        graph(*(paddle.zeros(spec.shape) for spec in inputs))
    return sum(counts) / 1e9


def _peak_memory() -> int:
    """Return the most bytes that this process has held."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


_SUBJECTS = (make_weights, animate_frames, enhance_frame, compute_limit, hold_video)


def main() -> None:
    """Be the subject that the command line names."""
    name, parameters = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # ppgan and Paddle print what they like
    make = {subject.__name__: subject for subject in _SUBJECTS}[name]
    try:
        turn = make(**json.loads(parameters))
        print("{}", file=answers)
        for _ in sys.stdin:
            print(json.dumps({**turn(), "peak_bytes": _peak_memory()}), file=answers)
    except StudyError as error:
        print(json.dumps({"missing": str(error)}), file=answers)


if __name__ == "__main__":
    main()
