"""Landmarks as the driving (Zhao, Wu and Guo 2021): a sparse motion that a network makes dense.

The network is written once (:mod:`._sparse_network`); here graphs of it run, without PyTorch. What
is moved is painted by ``fomm``'s networks, whose decoder the weights hold.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from studykit import machine
from studykit.cache import code_hash, kept
from studykit.errors import GraphError, NoFaceError, StudyError, WeightsError
from studykit.media.faces import extractor, find_face
from studykit.media.following import points_of
from studykit.media.pose import Pose
from studykit.media.views import Driving, Source
from studykit.methods import _sparse_network as network, register, weights as checkpoints
from studykit.methods._face_motion import counted_from, follow, is_lost, motions
from studykit.methods._fomm_dygraph import build_networks, running_on
from studykit.methods._fomm_runtime import (
    Predictor,
    batched,
    graph_folder,
    keep_freed_memory,
    kept_when_good,
    opened,
    save_graphs,
    warp,
)
from studykit.methods._warp_geometry import (
    Head,
    Motion,
    fit_head,
    in_eyes,
    irises_at,
    limited,
    moved_landmarks,
)
from studykit.methods.checkpoint_files import Checkpoint, require_tensors

# Landmarks of a face that is turned further than this, in degrees, are guesses; so are those that
# go further than this in the face's plane, in millimetres of the head, or grow it more, in log
# size. Such a frame repeats the one before.
_MOST_TURN, _MOST_WAY, _MOST_GROWTH = 65.0, 45.0, 0.7
_TOLERANCE = 1e-3  # of the graphs, in coordinates and shares
_CORNERS = [[36, 37, 38, 39, 40, 41], [42, 43, 44, 45, 46, 47]]


@register("sparse")
@dataclass(frozen=True)
class Sparse:
    """Animate a source by the landmarks of a driving's face.

    A frame without a face, or with landmarks that can't be a face's, repeats the one before; the
    clip's note says how many do.

    Attributes
    ----------
    weights : str
        A named checkpoint or a file. ``sparse-256`` comes with the package and knows rendered faces
        alone.
    relative : bool
        Move the source as the driving moves from its reference frame on; otherwise put its
        landmarks where the driving's are.
    adapt_scale : bool
        Take a relative motion by the size of the source's face over that of the driving's.
    landmarks : {"auto", "network", "faces"}
        Whether landmarks are found by the weights' own network, which knows rendered faces alone,
        or by what finds faces in the study. Auto takes the network for what the renderer made.
    device : {"auto", "cpu", "gpu"}
        Its graphs run on a CPU, which is what auto takes; a GPU is refused.
    """

    weights: str = "sparse-256"
    relative: bool = True
    adapt_scale: bool = True
    landmarks: Literal["auto", "network", "faces"] = "auto"
    device: Literal["auto", "cpu", "gpu"] = "auto"

    def check(self) -> None:
        """Refuse weights that can't be read, or are another method's."""
        load(self.weights)

    def weights_hash(self) -> str:
        """Return the SHA-256 of the checkpoint."""
        return checkpoints.sha256(checkpoints.locate(self.weights))

    def device_used(self) -> str:
        """Return where it computes, as Paddle names it."""
        return "cpu"

    def notes(self, state: "_Prepared") -> str:
        """Return what a reader of the clips should know about how they were made."""
        return "; ".join(filter(None, [checkpoints.knowledge(self.weights), *state.notes]))

    def prepare(self, source: Source) -> "_Prepared":
        """Find the source's face, make the networks ready and encode the source.

        Raises
        ------
        NoFaceError
            The source shows no face to what finds faces.
        StudyError
            Its face is turned too far aside; no weights, or no Paddle; or a size that the networks
            can't take: a kind of it, in one line.
        """
        if self.device == "gpu":
            raise StudyError("sparse runs on the CPU alone: set its device to cpu")
        size, digest = len(source.image), self.weights_hash()
        engine = _engine(self.weights, digest, size, machine.threads())
        if self._by_network(source):
            points = engine.landmarks(source.image)
        else:
            named = {"name": source.name, "finder": source.finder, "at": source.face}
            points = points_of(find_face(source.image, **named))
        head = fit_head(points[:68])
        if abs(turn := _yaw(head)) > _MOST_TURN:
            raise StudyError(
                f"{source.name}: the face is turned {abs(turn):.0f} degrees aside, where half of "
                f"its landmarks are guesses: choose a picture turned by less than {_MOST_TURN:.0f}"
            )
        found_by = f"sparse {digest}"
        return _Prepared(engine, found_by, points, head, size, *engine.encode(source.image))

    def _by_network(self, seen: Source | Driving) -> bool:
        return self.landmarks == "network" or (self.landmarks == "auto" and seen.rendered)

    def _points(self, state: "_Prepared", driving: Driving) -> Iterator[np.ndarray]:
        """Yield a driving's points, NaN where its face is lost."""
        if self._by_network(driving):
            engine = state.engine
            return kept(driving, state.found_by, lambda: map(engine.landmarks, driving))
        found_by = f"sparse {extractor(driving.finder)} {code_hash(follow.__module__)}"
        return kept(driving, found_by, lambda: follow(driving, registered=False))

    def animate(self, state: "_Prepared", driving: Driving) -> Iterator[np.ndarray]:
        """Yield one (S, S, 3) uint8 frame a driving frame, in order.

        Raises
        ------
        NoFaceError
            The driving shows no face at all.
        """
        rows = map(_turned_to_us, self._points(state, driving))
        start, rows = counted_from(driving, rows)
        state.notes.clear()
        first, last, held, count = start, state.painted(state.points), 0, 0
        for found, motion in motions(state.head, start, rows, self.relative, self.adapt_scale):
            count += 1
            if motion is None or not _plausible(motion):
                held += 1
            else:
                first = found if first is None else first
                places = state.points, state.head, first, found, motion
                last = state.painted(moved_points(*places, relative=self.relative))
            yield last
        if held == count:
            raise NoFaceError(
                f"{driving.name}: no face to move by in any frame: choose a driving that shows one"
            )
        if held:
            state.notes.append(
                f"{held} of {count} frames repeat the one before: no face was seen in them, or "
                "none that the landmarks fit"
            )


def moved_points(
    own: np.ndarray,
    head: Head,
    first: np.ndarray,
    found: np.ndarray,
    motion: Motion,
    relative: bool,
) -> np.ndarray:
    """Return where a source's points go: (70, 2), in pixels.

    Parameters
    ----------
    own, head
        The source's points, and the head that is fitted to them.
    first, found : (70, 2)
        The driving's points in its reference frame and in this one.
    motion : Motion
        What :func:`studykit.methods._face_motion.motions` makes of these.
    relative : bool
        Otherwise the points go onto the driving's.
    """
    landmarks = moved_landmarks(head, limited(motion) if relative else motion)
    places = in_eyes(own)
    if not relative:
        places = in_eyes(found)
    elif not np.isnan([first[68:], found[68:]]).any():
        places = places + (in_eyes(found) - in_eyes(first)).mean(axis=0)
    return np.concatenate([landmarks, irises_at(landmarks, places)])


def _yaw(head: Head) -> float:
    return Pose.from_rotation(head.rotation).yaw


def _turned_to_us(found: np.ndarray) -> np.ndarray:
    """Take the points of a face that is turned too far for none, so that none count from it."""
    if is_lost(found) or abs(_yaw(fit_head(found[:68]))) <= _MOST_TURN:
        return found
    return np.full_like(found, np.nan)


def _plausible(motion: Motion) -> bool:
    """Say whether landmarks that moved so can be a face's."""
    way = np.linalg.norm(motion.expression, axis=1).max()
    return bool(way <= _MOST_WAY and abs(motion.growth) <= _MOST_GROWTH)


@dataclass(frozen=True)
class _Prepared:
    engine: "_Engine"
    found_by: str  # all that the network's landmarks depend on
    points: np.ndarray
    head: Head
    size: int
    image: np.ndarray  # as large as in training
    features: np.ndarray
    notes: list[str] = field(default_factory=list)

    def painted(self, moved: np.ndarray) -> np.ndarray:
        """Show the source with its points at others, (S, S, 3) uint8."""
        pair = []
        unknown = np.isnan(self.points[68:]).any() or np.isnan(moved[68:]).any()
        for points in (self.points, moved):
            if unknown:  # dlib's eyes have no irises
                middles = [points[corners].mean(axis=0) for corners in _CORNERS]
                points = np.concatenate([points[:68], middles])
            pair.append(self.engine.shape.coordinates(points, self.size)[None])
        faces = network.faces(self.engine.shape, *pair)
        return self.engine.paint(self.image, self.features, faces)


class _Engine:
    """Runs the graphs in a folder."""

    def __init__(self, folder: Path, shape: network.Shape, threads: int) -> None:
        keep_freed_memory()
        self.shape = shape
        names = ("encoder", "landmarks", "motion", "paint")
        self._encoder, self._landmarks, self._motion, self._paint = (
            Predictor(folder / name, threads) for name in names
        )

    def encode(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return an (S, S, 3) source as the motion network sees it, and its features."""
        features, _ = self._encoder(batched(image))
        return self._at_side(image), features[0]

    def landmarks(self, image: np.ndarray) -> np.ndarray:
        """Return where an (S, S, 3) image's landmarks and irises are, (70, 2), in its pixels."""
        (found,) = self._landmarks(self._at_side(image))
        return self.shape.pixels(found.astype(float), len(image))

    def _at_side(self, image: np.ndarray) -> np.ndarray:
        import cv2

        side = (self.shape.side, self.shape.side)
        return batched(cv2.resize(image, side, interpolation=cv2.INTER_AREA))

    def motion(self, image: np.ndarray, faces: network.Faces) -> list[np.ndarray]:
        """Return where each place comes from, (places, 2), and how much is seen, (places, 1)."""
        return self._motion(image, faces.maps, *faces.vectors.values())

    def paint(self, image: np.ndarray, features: np.ndarray, faces: network.Faces) -> np.ndarray:
        """Return the source after a motion, (S, S, 3) uint8."""
        (painted,) = self._paint(warp(features, *self.motion(image, faces))[np.newaxis])
        return np.rint(painted[0]).astype(np.uint8).transpose(1, 2, 0).copy()


@functools.lru_cache(maxsize=2)
def _engine(weights: str, digest: str, size: int, threads: int) -> _Engine:
    folder = graph_folder(digest, height=size, width=size, maker="_sparse_graph")
    shape = shape_of(checkpoints.stored_settings(weights))
    return opened(
        folder,
        lambda: _Engine(folder, shape, threads),
        lambda: _build(load(weights), folder, size),
    )


def load(weights: str) -> Checkpoint:
    """Read a checkpoint of these networks.

    Raises
    ------
    WeightsError
        It can't be read, or is of other networks.
    """
    checkpoints.require_family(weights, "sparse")
    checkpoint = checkpoints.load(weights)
    try:
        expected = network.tensor_shapes(shape_of(checkpoint.config))
    except (TypeError, ValueError, KeyError) as error:
        raise WeightsError(f"{weights} is damaged ({error}): get it again") from None
    require_tensors(checkpoint, "motion", expected)
    return checkpoint


def shape_of(config: dict[str, Any]) -> network.Shape:
    """Return what the settings of a checkpoint or a recipe say of the motion network."""
    given = config.get("motion_cfg", {}).items()
    shape: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given}
    return network.Shape(**shape)


def _build(checkpoint: Checkpoint, folder: Path, size: int) -> None:
    """Make the graphs, see that they give what the layers give, and keep them."""
    detector, generator = build_networks(checkpoint.config)
    for name, part in (("kp_detector", detector), ("generator", generator)):
        own = {k: v for k, v in part.state_dict().items() if not k.startswith("dense_motion")}
        shapes = {key: tuple(value.shape) for key, value in own.items()}
        part.set_state_dict(part.state_dict() | require_tensors(checkpoint, name, shapes))
        part.eval()
    multiple = max(2, 2 ** len(generator.down_blocks))
    if size % multiple:
        raise StudyError(
            f"sparse takes images whose sides are multiples of {multiple}, not {size}: set the "
            "study's size accordingly"
        )
    from studykit.methods import _sparse_graph

    shape, tensors = shape_of(checkpoint.config), checkpoint.networks["motion"]
    graphs = _sparse_graph.make_graphs(tensors, shape, generator, detector, size)
    with kept_when_good(folder) as partial:
        save_graphs(graphs, partial)
        _require_agreement(graphs["motion"][0], shape, partial)


def _require_agreement(layers: Any, shape: network.Shape, folder: Path) -> None:
    """Compare the motion of noise between two faces, as oneDNN and as the layers compute it."""
    import paddle

    rng = np.random.default_rng(0)
    image = rng.random((1, 3, shape.side, shape.side)).astype(np.float32)
    source = rng.uniform(-0.5, 0.5, (1, network.POINTS, 2))
    faces = network.faces(shape, source, source + rng.normal(0, 0.03, source.shape))
    with running_on("cpu"):
        given = map(paddle.to_tensor, (image, faces.maps, *faces.vectors.values()))
        wanted = [found.numpy() for found in layers(*given)]
    found = _Engine(folder, shape, threads=1).motion(image, faces)
    for ours, theirs in zip(found, wanted, strict=True):
        if not np.abs(ours - theirs).max() <= _TOLERANCE:
            raise GraphError("sparse: the graphs differ from the layers that they are made from")
