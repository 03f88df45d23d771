"""What the bench measures, each in a process of its own: ``python -m studykit.bench_subjects``.

A subject is made once and then takes its turn whenever a line comes in; it answers each with a
line of JSON. Its threads and its peak memory are its own.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from studykit.errors import MissingPackageError, StudyError
from studykit.media.squares import Driving, Source
from studykit.media.video import probe, read_frames
from studykit.methods import create_method, weights
from studykit.methods._ppgan import import_paddle, missing_package

Turn = Callable[[], dict[str, Any]]


def make_weights(config: dict, size: int, folder: str) -> Turn:
    """Make random weights for both contestants, the graphs, and count the arithmetic of a frame."""
    import_paddle()
    import paddle

    from studykit.methods._fomm_dygraph import load_networks
    from studykit.methods._fomm_graph import make_graphs
    from studykit.methods.random_weights import astronaut_frames, random_checkpoint

    checkpoint = random_checkpoint(config, size=size)
    path = Path(folder) / "random.safetensors"
    weights.save(checkpoint, path)
    networks = {"kp_detector": checkpoint.kp_detector, "generator": checkpoint.generator}
    for name, tensors in networks.items():
        networks[name] = {key: paddle.to_tensor(value) for key, value in tensors.items()}
    paddle.save(networks, str(path.with_suffix(".pdparams")))

    def turn() -> dict[str, Any]:
        loaded = load_networks(str(path), None, "cpu")
        graphs = make_graphs(loaded, size, size)
        start = time.monotonic()
        method = create_method("fomm", weights=str(path), device="cpu")
        state = method.prepare(Source("any", astronaut_frames(1, size)[0]))
        return {
            "gflop": {name: _gflop(*graph) for name, graph in graphs.items()},
            "first_start_seconds": time.monotonic() - start,
            "note": method.notes(state),
        }

    return turn


def animate_by_fomm(weights: str, size: int, count: int, clip: str, precision: str) -> Turn:
    """Animate a few frames by the method; the first start is behind it."""
    from studykit.methods.random_weights import astronaut_frames

    frames = astronaut_frames(count, size)
    import_paddle()
    start = time.monotonic()
    method = create_method("fomm", weights=weights, device="cpu", precision=precision)
    state = method.prepare(Source("astronaut", frames[-1]))
    next(method.animate(state, Driving("one", lambda: frames[:1], Fraction(25), 1)))
    started = time.monotonic() - start

    def turn() -> dict[str, Any]:
        made, times = [], [time.perf_counter()]
        for frame in method.animate(state, Driving("few", lambda: frames, Fraction(25), count)):
            made.append(frame)
            times.append(time.perf_counter())
        np.save(clip, np.stack(made).astype(np.float32))
        return {"seconds": float(np.mean(np.diff(times))), "second_start_seconds": started}

    return turn


def animate_by_ppgan(weights: str, config: dict, size: int, count: int, clip: str) -> Turn:
    """Animate the same frames by ``FirstOrderPredictor.make_animation``, as its users do."""
    from studykit.methods.random_weights import astronaut_frames

    frames = [frame / 255.0 for frame in astronaut_frames(count, size)]
    predictor = _ppgan_predictor(weights, config)

    def animate(driving: list) -> np.ndarray:
        networks = predictor.generator, predictor.kp_detector
        return predictor.make_animation(
            frames[-1], driving, *networks, relative=True, adapt_movement_scale=True
        )

    animate(frames[:1])

    def turn() -> dict[str, Any]:
        start = time.perf_counter()
        animate(frames[:1])  # with the keypoints of the source and of the first frame
        between = time.perf_counter()
        made = animate(frames)
        both = 2 * between - start
        np.save(clip, np.asarray(made, np.float32))
        return {"seconds": (time.perf_counter() - both) / (count - 1)}

    return turn


def compute_convolutions(size: int) -> Turn:
    """Run the arithmetic that a processor is best at: dense 3x3 convolutions, and a product."""
    import_paddle()
    import paddle

    from studykit import machine
    from studykit.methods._fomm_runtime import _Predictor

    class Product(paddle.nn.Layer):
        def forward(self, left, right):
            return paddle.matmul(left, right)

    side, channels = max(size // 4, 16), 256
    convolutions = paddle.nn.Sequential(
        *(paddle.nn.Conv2D(channels, channels, 3, padding=1) for _ in range(4))
    )
    with tempfile.TemporaryDirectory() as folder:
        image = paddle.static.InputSpec((1, channels, side, side), "float32", "image")
        paddle.jit.save(convolutions, f"{folder}/convolutions", input_spec=[image])
        pair = [paddle.static.InputSpec((1536, 1536), "float32", name) for name in ("a", "b")]
        paddle.jit.save(Product(), f"{folder}/product", input_spec=pair)
        subjects = [
            (
                _Predictor(Path(folder) / "convolutions", machine.threads()),
                [np.ones((1, channels, side, side), np.float32)],
                4 * 2 * 9 * channels**2 * side**2 / 1e9,
            ),
            (
                _Predictor(Path(folder) / "product", machine.threads()),
                [np.ones((1536, 1536), np.float32)] * 2,
                2 * 1536**3 / 1e9,
            ),
        ]

    def turn() -> dict[str, Any]:
        rates = []
        for predictor, inputs, gflop in subjects:
            for _ in range(4):
                start = time.perf_counter()
                predictor(*inputs)
                rates.append(gflop / (time.perf_counter() - start))
        return {"convolution_gflops": max(rates[:4]), "product_gflops": max(rates[4:])}

    return turn


def hold_video(weights: str, config: dict | None, size: int, video: str, seconds: float) -> Turn:
    """Animate the start of a video, by the method or, with a config, as ppgan's predictor does."""
    count = int(seconds * probe(video).frame_rate)

    def by_method() -> dict[str, Any]:
        method = create_method("fomm", weights=weights, device="cpu")
        first = next(iter(_squares(video, size, 1)))
        state = method.prepare(Source("first", first))
        driving = Driving("video", lambda: _squares(video, size, count), Fraction(25), count)
        return {"frames": sum(1 for _ in method.animate(state, driving))}

    def by_ppgan() -> dict[str, Any]:
        predictor = _ppgan_predictor(weights, config)
        # As its run() does: all frames as they are, then all of them scaled, as float64.
        frames = list(_squares(video, size, count))
        scaled = [frame / 255.0 for frame in frames]
        # Its generator would take hours and keeps nothing: the source stands in for its frames.
        made = predictor.make_animation(
            scaled[0], scaled, lambda source, **_: {"prediction": source}, predictor.kp_detector
        )
        return {"frames": len(made)}

    return by_ppgan if config else by_method


def animate_study(study: str, out: str) -> Turn:
    """Make the clips of a study."""
    from studykit.clips.animate import animate_cells
    from studykit.study.file import load_study

    loaded = load_study(study)

    def turn() -> dict[str, Any]:
        start = time.monotonic()
        rows = animate_cells(loaded, Path(out))
        seconds = time.monotonic() - start
        if failed := [row.error for row in rows if row.status == "failed"]:
            raise StudyError(f"{len(failed)} of {len(rows)} cells failed: {failed[0]}")
        return {"seconds": seconds, "cells": len(rows), "frames": sum(row.frames for row in rows)}

    return turn


def _squares(video: str, size: int, count: int) -> Iterator[np.ndarray]:
    from PIL import Image

    for index, frame in enumerate(read_frames(video)):
        if index == count:
            return
        yield np.asarray(Image.fromarray(frame).resize((size, size)))


def _ppgan_predictor(path: str, config: dict) -> Any:
    """Return ppgan's predictor, with what it imports of ``paddle.fluid`` there, as it once was."""
    import types

    paddle = import_paddle()
    functional = paddle.nn.functional
    fluid, layers, nn = (
        types.ModuleType(f"paddle.fluid{rest}") for rest in ("", ".layers", ".layers.nn")
    )
    paddle.fluid, fluid.layers, layers.nn, nn.soft_relu = fluid, layers, nn, None
    layers.resize_nearest = lambda image, scale: functional.interpolate(
        image, scale_factor=scale, mode="nearest"
    )
    sys.modules.update({module.__name__: module for module in (fluid, layers, nn)})
    try:
        from ppgan.apps.first_order_predictor import FirstOrderPredictor
    except ImportError as error:
        raise missing_package(error) from error
    networks = {key: value for key, value in config.items() if key != "common_params"}
    model = {"common_params": config["common_params"], "generator": networks}
    return FirstOrderPredictor(
        output=str(Path(path).parent), weight_path=path, config={"model": model}
    )


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


_SUBJECTS = {
    subject.__name__: subject
    for subject in (
        make_weights,
        animate_by_fomm,
        animate_by_ppgan,
        compute_convolutions,
        hold_video,
        animate_study,
    )
}


def main() -> None:
    name, parameters = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # ppgan and Paddle print what they like
    try:
        turn = _SUBJECTS[name](**json.loads(parameters))
        print("{}", file=answers)
        for _ in sys.stdin:
            print(json.dumps({**turn(), "peak_bytes": _peak_memory()}), file=answers)
    except MissingPackageError as error:
        print(json.dumps({"missing": str(error)}), file=answers)
    except StudyError as error:
        print(json.dumps({"error": str(error)}), file=answers)


if __name__ == "__main__":
    main()
