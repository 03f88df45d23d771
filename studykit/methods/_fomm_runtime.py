"""The CPU path: the graphs of a checkpoint, made once, kept on disk and run by oneDNN.

Four graphs and one product of matrices make a frame: keypoints of the driving frame, the motion,
the warp of the source's features (sparse, in SciPy), the painting; the encoder runs once a source.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from studykit.cache import cache_folder, code_hash
from studykit.errors import GraphError, StudyError
from studykit.methods._fomm_dygraph import DygraphEngine, Networks, running_on
from studykit.methods._fomm_motion import Encoded, Keypoints, local_motions
from studykit.methods._ppgan import import_paddle
from studykit.methods._region_motion import framed

_KEPT = 6  # of vox-256, each takes 320 MB
_TOLERANCE = 4.5e-3  # one step of 8 bits, for frames are rounded


class GraphEngine:
    """Runs the graphs in a folder.

    Parameters
    ----------
    folder : Path
        What :func:`build_graphs` wrote.
    threads : int
        How many threads oneDNN may use.
    precision : {"float32", "bfloat16"}
        What the painting is computed in.
    """

    note = ""

    def __init__(self, folder: Path, threads: int, precision: str = "float32") -> None:
        keep_freed_memory()
        self._keypoints = Predictor(folder / "keypoints", threads)
        self._encoder = Predictor(folder / "encoder", threads)
        self._motion = Predictor(folder / "motion", threads)
        self._paint = Predictor(folder / "paint", threads, bfloat16=precision == "bfloat16")

    def batch(self, height: int, width: int) -> int:
        """Return how many frames to animate at a time: more are not faster on a CPU."""
        return 1

    def encode(self, image: np.ndarray) -> Encoded:
        """Compute what depends on the source (S, S, 3) alone.

        Its features are (H', W', C), and its image is as small as the motion network's.
        """
        features, small = self._encoder(batched(image))
        return Encoded(features[0], small, self.keypoints([image])[0])

    def keypoints(self, frames: Sequence[np.ndarray]) -> list[Keypoints]:
        """Detect the keypoints of frames (S, S, 3)."""
        return [Keypoints(*self._keypoints(batched(frame))) for frame in frames]

    def paint(self, source: Encoded, moved: Sequence[Keypoints]) -> list[np.ndarray]:
        """Warp the source's features by each motion and decode them (sections 3.1 and 3.2)."""
        return [self.decoded(self.warped(source, keypoints)) for keypoints in moved]

    def warped(self, source: Encoded, moved: Keypoints) -> np.ndarray:
        """Return the source's features as a motion moves them, (H', W', C)."""
        places, visible = self._motion(
            source.image,
            source.keypoints.points,
            moved.points,
            local_motions(source.keypoints, moved),
        )
        return warp(source.features, places, visible)

    def decoded(self, features: np.ndarray) -> np.ndarray:
        """Return what warped features show, (H, W, 3) uint8."""
        (image,) = self._paint(features[np.newaxis])
        return np.rint(image[0]).astype(np.uint8).transpose(1, 2, 0).copy()


def warp(features: np.ndarray, places: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Sample features bilinearly at places, each sample scaled by how much of it is seen.

    Bilinear sampling is linear in the features: each place is a sum over its four neighbours,
    that is a row of a sparse matrix. Rows of channels are contiguous here, which makes it some
    forty times faster than Paddle's grid_sample, where planes are.

    Parameters
    ----------
    features : (H, W, C) float32 array
    places : (H * W, 2) float32 array
        x and y from -1 to 1, from the centre of the first column or row to that of the last;
        what lies outside counts as 0.
    visible : (H * W, 1) float32 array
        The factor.

    Returns
    -------
    (H, W, C) float32 array
    """
    from scipy.sparse import csr_array

    height, width, channels = features.shape
    x, y = ((places + 1) * (np.array([width - 1, height - 1], np.float32) / 2)).T
    left, top = np.floor(x), np.floor(y)
    right_share, lower_share = x - left, y - top
    neighbours, shares = [], []
    for row, row_share in ((top, 1 - lower_share), (top + 1, lower_share)):
        for column, share in ((left, 1 - right_share), (left + 1, right_share)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            neighbours.append(np.where(inside, row * width + column, 0))
            shares.append(np.where(inside, row_share * share * visible[:, 0], 0))
    count = height * width
    matrix = csr_array(
        (
            np.stack(shares, axis=1).ravel(),
            np.stack(neighbours, axis=1).ravel().astype(np.int32),
            np.arange(0, 4 * count + 1, 4, dtype=np.int32),
        ),
        shape=(count, count),
    )
    return (matrix @ features.reshape(count, channels)).reshape(features.shape)


def opened(folder: Path, engine: Callable[[], Any], build: Callable[[], None]) -> Any:
    """Return an engine of the graphs in a folder, which are made where they are not, or damaged.

    Raises
    ------
    GraphError
        They can't be made, kept or run on this machine, or are wrong.
    StudyError
        As ``build`` raises it: of a size, or of weights.
    """
    if folder.is_dir():
        with contextlib.suppress(OSError):  # it may be another user's
            os.utime(folder)  # the newest are kept
        with contextlib.suppress(Exception):  # Paddle raises almost anything
            return engine()
        shutil.rmtree(folder, ignore_errors=True)
    try:
        build()
        return engine()
    except StudyError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise GraphError(f"the graphs can't be used on this machine: {reason}") from error


def graph_folder(*identity: str, height: int, width: int, maker: str = "_fomm_graph") -> Path:
    """Return where the graphs are kept for weights and settings with these hashes, and a size."""
    paddle = import_paddle()
    maker = code_hash(f"studykit.methods.{maker}")
    parts = [*identity, height, width, paddle.__version__, maker]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
    return cache_folder() / "graphs" / key


def build_graphs(networks: Networks, folder: Path, height: int, width: int) -> None:
    """Make the graphs of two networks, try them against the networks, and keep them in a folder.

    Raises
    ------
    GraphError
        They differ from the networks.
    OSError
        The folder can't be written.
    RuntimeError, ValueError, TypeError, NotImplementedError
        Paddle can't trace, save or load them.
    """
    import_paddle()
    from studykit.methods._fomm_graph import make_graphs

    with kept_when_good(folder) as partial:
        save_graphs(make_graphs(networks, height, width), partial)
        _require_agreement(networks, partial, height, width)


@contextlib.contextmanager
def kept_when_good(folder: Path) -> Iterator[Path]:
    """Lend a folder for new graphs, which takes its name unless what is inside raises."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as parent:
        partial = Path(parent) / "graphs"
        yield partial
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # or another was faster
                raise
    _forget_oldest(folder.parent)


def save_graphs(graphs: dict[str, tuple[Any, list]], folder: Path) -> None:
    """Trace graphs, by name and with their inputs, and write them."""
    import paddle

    with running_on("cpu"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what tracing does not support and nothing uses
        for name, (graph, inputs) in graphs.items():
            paddle.jit.save(graph, str(folder / name), input_spec=inputs)


def _forget_oldest(parent: Path) -> None:
    """Delete all graphs in a folder but those that were used last; nothing else in there."""
    graphs = [paint.parent for paint in parent.glob("*/paint.json")]
    graphs.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in graphs[_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


def _require_agreement(networks: Networks, folder: Path, height: int, width: int) -> None:
    """Compare keypoints, and what moves and paints noise by other noise, with the networks'.

    Both move it by the same keypoints: untrained networks may turn a rounding error in them into
    any difference. They paint every fourth place of the same features, since a convolution is the
    same everywhere and the networks take seconds for a frame.
    """
    noise = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    coarse = noise.repeat(-(-height // 8), axis=1).repeat(-(-width // 8), axis=2)
    source, driving = coarse[:, :height, :width]
    graphs, layers = GraphEngine(folder, threads=1), DygraphEngine(networks)
    encoded, moved = layers.encode(source), layers.keypoints([driving])[0]
    again = graphs.keypoints([driving])[0]
    pairs = [(again.points, moved.points)]
    if moved.jacobians is not None:
        pairs.append((again.jacobians, moved.jacobians))
    if networks.regional:
        encoded, moved = replace(encoded, keypoints=framed(encoded.keypoints)), framed(moved)
    traced = replace(graphs.encode(source), keypoints=encoded.keypoints)
    theirs = layers.warped(encoded, [moved])
    features = theirs.numpy()[0].transpose(1, 2, 0)
    painted = graphs.decoded(features[::4, ::4]), layers.decoded(theirs[:, :, ::4, ::4])[0]
    pairs += [(graphs.warped(traced, moved), features), [frame / 255.0 for frame in painted]]
    for ours, theirs in pairs:
        difference = np.abs(ours - theirs).max() / max(1.0, np.abs(theirs).max())
        if not difference <= _TOLERANCE:
            raise GraphError(f"the graphs differ from ppgan's networks by {difference:.3g}")


class Predictor:
    """A graph on disk as a function of arrays."""

    def __init__(self, path: Path, threads: int, bfloat16: bool = False) -> None:
        import_paddle()
        from paddle import inference

        config = inference.Config(f"{path}.json", f"{path}.pdiparams")
        config.disable_gpu()
        config.disable_glog_info()
        config.enable_onednn()
        if bfloat16:
            config.enable_onednn_bfloat16()
        config.set_cpu_math_library_num_threads(threads)
        self._predictor = made = inference.create_predictor(config)
        self._inputs = list(map(made.get_input_handle, made.get_input_names()))
        self._outputs = list(map(made.get_output_handle, made.get_output_names()))

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        for handle, array in zip(self._inputs, arrays, strict=True):
            handle.reshape(array.shape)
            handle.copy_from_cpu(np.ascontiguousarray(array))
        self._predictor.run()
        return [handle.copy_to_cpu() for handle in self._outputs]


def batched(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray((image / np.float32(255.0)).transpose(2, 0, 1)[np.newaxis])


def keep_freed_memory() -> None:
    """Have glibc keep what is freed, up to 1 GB, rather than hand it back and ask for it again.

    A frame takes and frees some 200 MB in large pieces; fetching them from the system each time
    costs a tenth of the frame.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, 1 << 30)
        mallopt(mmap_threshold, 32 << 20)
