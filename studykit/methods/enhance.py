"""Frames cleaned or enlarged by a network, whatever method made them: the setting ``enhance``.

A U-Net trained by the mean absolute error sees a frame at a time, and the source: it takes from
there what the frame shows unmoved, and says what is to be added to the rest. It is written once
(:mod:`._enhance_network`); here graphs of it run.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from studykit import machine
from studykit.errors import GraphError, StudyError
from studykit.media.views import Driving, Source
from studykit.methods import _enhance_network as network, weights as checkpoints
from studykit.methods._fomm_dygraph import running_on
from studykit.methods._fomm_runtime import (
    Predictor,
    batched,
    graph_folder,
    keep_freed_memory,
    kept_when_good,
    opened,
    save_graphs,
)
from studykit.methods.checkpoint_files import Checkpoint, require_tensors

WEIGHTS = "enhance-256"
"""The weights of the network, which come with the package and know rendered faces."""

_TOLERANCE = 1e-3  # of the graph, beside the layers
_GRID = 8  # what the side of a frame is a multiple of, so that half of it has the same view


@dataclass(frozen=True)
class Enhanced:
    """A method whose frames are enhanced; all else of it is as it is.

    Attributes
    ----------
    method : Method
    enhance : {1, 2}
        1 cleans its frames; with 2 it works at half the size, and its frames are enlarged.
    network : str
        The weights that do so: a named checkpoint, or a file.
    """

    method: Any
    enhance: int
    network: str = WEIGHTS

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # pickle asks before there is a method
            raise AttributeError(name)
        return getattr(self.method, name)

    @property
    def any_square(self) -> bool:
        """Whether it serves squares of any size."""
        return self.enhance == 1 and getattr(self.method, "any_square", False)

    def inputs(self, source: str, driving: str) -> list[Path]:
        """Return the files that a clip depends on beside source, driving and the method's weights.

        The network's weights are one of them.
        """
        own = self.method.inputs(source, driving) if hasattr(self.method, "inputs") else []
        return [*own, checkpoints.locate(self.network)]

    def notes(self, state: Any) -> str:
        """Return what a reader of the clips should know of how they were made."""
        inner, own = getattr(self.method, "notes", None), f"enhanced by {Path(self.network).name}"
        if self.enhance == 2:
            own += " from half the size"
        return "; ".join(filter(None, [inner(state[0]) if inner else "", own]))

    def prepare(self, source: Source) -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
        """Prepare the method for the source, and the network for its frames.

        Raises
        ------
        StudyError
            As the method raises it; or there is no Paddle; or a size that can't be halved.
        """
        side = len(source.image)
        if self.enhance == 2 and side % _GRID:
            raise StudyError(
                f"enhance 2 takes sizes that are multiples of {_GRID}, not {side}: set the "
                "study's size accordingly"
            )
        engine = enhancer(self.network, side // self.enhance, self.enhance)
        seen = _halved_source(source) if self.enhance == 2 else source
        return self.method.prepare(seen), engine.beside(source.image)

    def animate(self, state: tuple[Any, "Engine"], driving: Driving) -> Iterator[np.ndarray]:
        """Yield one (S, S, 3) uint8 frame a driving frame, in order."""
        prepared, better = state
        seen = _halved_driving(driving) if self.enhance == 2 else driving
        frames = self.method.animate(prepared, seen)
        last: tuple[np.ndarray, np.ndarray] | None = None
        with contextlib.closing(frames) if hasattr(frames, "close") else contextlib.nullcontext():
            for frame in frames:
                if last is None or not np.array_equal(frame, last[0]):
                    last = frame.copy(), better(frame)
                yield last[1]


def enhancer(weights: str, side: int, scale: int) -> "Engine":
    """Return the network for frames of a side and a scale; its graph is made at its first use.

    Raises
    ------
    StudyError
        No weights, others, or no Paddle: a kind of it, in one line.
    """
    digest = checkpoints.sha256(checkpoints.locate(weights))
    return _engine(weights, digest, side, scale, machine.threads())


def _half(image: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def _halved_source(source: Source) -> Source:
    return replace(
        source,
        image=_half(source.image),
        around=None if source.around is None else _half(source.around),
        face=None if source.face is None else (source.face[0] / 2, source.face[1] / 2),
    )


def _halved_driving(driving: Driving) -> Driving:
    """Show a driving at half the size; its notes are still its own."""

    def frames() -> Iterator[np.ndarray]:
        return map(_half, driving)

    return replace(
        driving,
        open_frames=frames,
        points=None if driving.points is None else (driving.points + 0.5) / 2 - 0.5,
        key=driving.key and f"{driving.key} halved",
    )


class Engine:
    """The network for frames of one size, at one scale.

    Parameters
    ----------
    folder : Path
        Of its graph.
    scale : {1, 2}
    threads : int
    """

    def __init__(self, folder: Path, scale: int, threads: int) -> None:
        keep_freed_memory()
        self._run, self._scale = Predictor(folder / "paint", threads), scale

    def beside(self, source: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """Return what enhances (S, S, 3) uint8 frames, given their source.

        The source is (scale * S, scale * S, 3) uint8, as the outcome is.
        """
        whole, given = batched(source), batched(_half(source) if self._scale == 2 else source)

        def better(frame: np.ndarray) -> np.ndarray:
            image = batched(frame)
            made = network.blended(self._enlarged(image), whole, self.maps(image, given))
            made = np.rint(255 * made[0].transpose(1, 2, 0)).clip(0, 255)
            return np.ascontiguousarray(made.astype(np.uint8))

        return better

    def maps(self, image: np.ndarray, source: np.ndarray) -> np.ndarray:
        """Return what the network says of an image, (1, 3, S, S) in [0, 1], and its source."""
        height, width = image.shape[2:]
        more = [(0, 0), (0, 0), (0, -height % network.MULTIPLE), (0, -width % network.MULTIPLE)]
        (change,) = self._run(*(np.pad(each, more, mode="edge") for each in (image, source)))
        return change[:, :, : self._scale * height, : self._scale * width]

    def _enlarged(self, image: np.ndarray) -> np.ndarray:
        import cv2

        if self._scale == 1:
            return image
        size = (image.shape[3] * self._scale, image.shape[2] * self._scale)
        large = cv2.resize(image[0].transpose(1, 2, 0), size, interpolation=cv2.INTER_CUBIC)
        return large.transpose(2, 0, 1)[np.newaxis]


@functools.lru_cache(maxsize=4)  # pasted faces have sizes of their own
def _engine(weights: str, digest: str, side: int, scale: int, threads: int) -> Engine:
    side += -side % network.MULTIPLE
    folder = graph_folder(digest, str(scale), height=side, width=side, maker="_enhance_graph")
    return opened(
        folder,
        lambda: Engine(folder, scale, threads),
        lambda: _build(load(weights), folder, side, scale),
    )


def load(weights: str) -> Checkpoint:
    """Read a checkpoint of the network.

    Raises
    ------
    WeightsError
        It can't be read, or is of other networks.
    """
    checkpoints.require_family(weights, "enhance")
    checkpoint = checkpoints.load(weights)
    require_tensors(checkpoint, "enhance", network.tensor_shapes())
    return checkpoint


def _build(checkpoint: Checkpoint, folder: Path, side: int, scale: int) -> None:
    """Make the graph, see that it gives what the layers give, and keep it."""
    import paddle

    from studykit.methods._enhance_graph import EnhanceGraph
    from studykit.methods._fomm_graph import graph_input

    layers = EnhanceGraph(checkpoint.networks["enhance"], scale)
    image, source = np.random.default_rng(0).random((2, 1, 3, side, side)).astype(np.float32)
    with kept_when_good(folder) as partial:
        inputs = [graph_input(name, 1, 3, side, side) for name in ("image", "source")]
        save_graphs({"paint": (layers, inputs)}, partial)
        with running_on("cpu"):
            wanted = layers(*map(paddle.to_tensor, (image, source))).numpy()
        found = Engine(partial, scale, threads=1).maps(image, source)
        if not np.abs(found - wanted).max() <= _TOLERANCE:
            raise GraphError("enhance: its graph differs from the layers that it was made from")
