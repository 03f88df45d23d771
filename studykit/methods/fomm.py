"""The First Order Motion Model (Siarohin et al., NeurIPS 2019), on PaddleGAN's networks.

PaddleGAN's own predictor holds the whole driving in memory; here frames pass one by one, and
what depends on the source alone is computed once. An engine does the computing: graphs that
oneDNN runs on a CPU (:mod:`._fomm_runtime`), the networks as they are elsewhere
(:mod:`._fomm_dygraph`).
"""

import contextlib
import functools
import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from studykit import machine
from studykit.cache import kept
from studykit.errors import StudyError
from studykit.media.squares import Driving, Source
from studykit.methods import register, weights as checkpoints
from studykit.methods._fomm_dygraph import DygraphEngine, Networks, find_device, load_networks
from studykit.methods._fomm_motion import Encoded, Keypoints, movement_scale, transfer
from studykit.methods._fomm_runtime import GraphEngine, build_graphs, graph_folder

Precision = Literal["float32", "float16", "bfloat16"]
Engine = GraphEngine | DygraphEngine


@dataclass(frozen=True)
class _Prepared:
    engine: Engine
    source: Encoded
    batch: int
    found_by: str  # all that the keypoints of a driving depend on

    def rows(self, driving: Driving) -> Iterator[np.ndarray]:
        """Find the keypoints of a driving, a row of numbers for each frame."""
        frames = iter(driving)
        while batch := list(itertools.islice(frames, self.batch)):
            found = self.engine.keypoints(batch)
            del batch  # while the next frames are waited for, none is held
            yield from map(Keypoints.as_row, found)


@register("fomm")
@dataclass(frozen=True)
class FOMM:
    """Animate a source by the keypoints and local affine motions of a driving.

    Attributes
    ----------
    weights : str
        A named checkpoint or a file. ``synth-256`` comes with the package and knows rendered faces
        alone; ``vox-256``, ``vox-512`` and ``vox-mobile`` are PaddleGAN's, and fetched.
    relative : bool
        Move the source's keypoints as the driving's move from its reference frame on (section 3.4
        of the paper); otherwise put them where the driving's are.
    adapt_scale : bool
        Scale relative motion by the size of the source's face over that of the driving's reference
        frame: the square root of the areas of the keypoints' convex hulls.
    device : {"auto", "cpu", "gpu"}
        Where it runs; auto takes a GPU if Paddle can use one.
    config : str, optional
        A YAML file with the networks' settings, for weights that don't contain them.
    precision : {"float32", "float16", "bfloat16"}
        What the decoder computes in; ``studykit bench`` measures what less than float32 costs.
    """

    weights: str = checkpoints.DEFAULT
    relative: bool = True
    adapt_scale: bool = True
    device: Literal["auto", "cpu", "gpu"] = "auto"
    config: str | None = None
    precision: Precision = "float32"

    def weights_hash(self) -> str:
        """Return the SHA-256 of the checkpoint, fetching it if need be."""
        return checkpoints.sha256(checkpoints.locate(self.weights))

    def inputs(self, source: str, driving: str) -> list[Path]:
        """Return the files that a clip depends on beside source, driving and weights."""
        return [Path(self.config)] if self.config else []

    def device_used(self) -> str:
        """Return where it computes, as Paddle names it."""
        return find_device(self.device)

    def notes(self, state: _Prepared) -> str:
        """Return what a reader of the clips should know about how they were computed."""
        return "; ".join(filter(None, [self._limits(), state.engine.note]))

    def _limits(self) -> str:
        """Say what the weights know, where their file says so."""
        about = checkpoints.stored_settings(self.weights)
        if "trained_on" not in about:
            return ""
        return (
            f"{self.weights} was trained on {about['trained_on']} alone, at {about['size']} "
            "pixels: studykit weights fetch vox-256 gets weights that know photographs"
        )

    def prepare(self, source: Source) -> _Prepared:
        """Make the networks ready, once for all sources, and encode the source.

        Raises
        ------
        StudyError
            No weights, no Paddle, no such device or precision, or a source of a size that the
            networks can't take: a kind of it, in one line.
        """
        height, width = source.image.shape[:2]
        digests = (self.weights_hash(), checkpoints.sha256(self.config) if self.config else "")
        device = find_device(self.device)
        _require_precision(self.precision, device)
        # How motion is transferred makes no other engine.
        method = replace(self, relative=True, adapt_scale=True)
        engine = _engine(method, digests, device, height, width, machine.threads())
        found_by = f"fomm 1 {type(engine).__name__} {' '.join(digests)}"
        return _Prepared(engine, engine.encode(source.image), engine.batch(height, width), found_by)

    def animate(self, state: _Prepared, driving: Driving) -> Iterator[np.ndarray]:
        """Yield one (S, S, 3) uint8 frame a driving frame, in order.

        Raises
        ------
        StudyError
            The keypoints of the source or of the reference frame span no area, so that there is
            no scale to adapt.
        """
        source, initial, scale = state.source.keypoints, None, 1.0
        rows = kept(driving, state.found_by, lambda: state.rows(driving))
        found = map(Keypoints.from_row, rows)
        while keypoints := list(itertools.islice(found, state.batch)):
            if self.relative:
                if initial is None:
                    initial = keypoints[0]
                    if driving.reference:
                        (initial,) = state.engine.keypoints([driving.reference_frame()])
                    scale = movement_scale(source, initial) if self.adapt_scale else 1.0
                keypoints = [transfer(source, own, initial, scale) for own in keypoints]
            yield from state.engine.paint(state.source, keypoints)


def _require_precision(precision: str, device: str) -> None:
    """Refuse what the device can't compute in, or only slower than in float32."""
    import paddle

    if device == "cpu":
        usable = precision == "float32" or (
            precision == "bfloat16" and paddle.base.core.supports_bfloat16_fast_performance()
        )
    else:
        usable = precision != "bfloat16" or paddle.amp.is_bfloat16_supported(device)
    if not usable:
        raise StudyError(
            f"fomm can't compute in {precision} on this {device.partition(':')[0]}: set precision "
            "to float32"
        )


@functools.lru_cache(maxsize=2)  # a full checkpoint takes 320 MB
def _engine(
    method: FOMM, digests: tuple[str, str], device: str, height: int, width: int, threads: int
) -> Engine:
    if device != "cpu":
        return DygraphEngine(_networks(method, device, height, width), method.precision)
    # Settings come from the file, from one beside it, or by the name of the weights.
    named = method.weights if method.weights in checkpoints.names() else ""
    folder = graph_folder(*digests, named, height=height, width=width)
    if folder.is_dir():
        with contextlib.suppress(Exception):  # Paddle raises almost anything
            return GraphEngine(folder, threads, method.precision)
        shutil.rmtree(folder, ignore_errors=True)  # damaged, so it is made again
    networks = _networks(method, device, height, width)
    try:
        build_graphs(networks, folder, height, width)
        return GraphEngine(folder, threads, method.precision)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        note = f"computed layer by layer, which is slow, as the graphs can't be used: {reason}"
        return DygraphEngine(networks, method.precision, note=note)


def _networks(method: FOMM, device: str, height: int, width: int) -> Networks:
    networks = load_networks(method.weights, method.config, device, height)
    if height % networks.multiple or width % networks.multiple:
        raise StudyError(
            f"fomm with {method.weights} takes images whose sides are multiples of "
            f"{networks.multiple}, not {width} x {height}: set the study's size accordingly"
        )
    return networks
