"""The First Order Motion Model (Siarohin et al., NeurIPS 2019), on PaddleGAN's networks.

PaddleGAN's own predictor holds the whole driving in memory; here frames pass one by one, and
what depends on the source alone is computed once. An engine does the computing: graphs that
oneDNN runs on a CPU (:mod:`._fomm_runtime`), the networks as they are elsewhere
(:mod:`._fomm_dygraph`).
"""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from studykit import machine
from studykit.cache import code_hash, kept
from studykit.errors import GraphError, NoFaceError, StudyError, StudyFileError
from studykit.media.faces import extractor, find_face
from studykit.media.views import Driving, Source
from studykit.methods import register, weights as checkpoints
from studykit.methods._face_motion import counted_from, follow, is_lost, motions
from studykit.methods._fomm_dygraph import DygraphEngine, Networks, find_device, load_networks
from studykit.methods._fomm_landmarks import MarkedSource, have_meaning
from studykit.methods._fomm_motion import Encoded, Keypoints, movement_scale, transfer
from studykit.methods._fomm_runtime import GraphEngine, build_graphs, graph_folder, opened
from studykit.methods._warp_geometry import limited

Precision = Literal["float32", "float16", "bfloat16"]
Engine = GraphEngine | DygraphEngine

# What is looked at of a driving before landmarks are chosen, and the share that must show a face.
_SECONDS_AHEAD, _LEAST_FACES = 10, 0.9
_GROWTH = 0.1 / 15  # in log size, a millimetre of reach


@dataclass(frozen=True)
class Prepared:
    """A source that an engine has encoded; see :func:`prepared`."""

    engine: Engine
    image: Source
    source: Encoded
    batch: int
    found_by: str  # all that the keypoints of a driving depend on
    moved_by: list[str] = field(default_factory=list)  # the last clip's keypoints, for its note

    @functools.cached_property
    def marked(self) -> MarkedSource:
        """The source with the keypoints that its landmarks give."""
        image = self.image
        face = find_face(image.image, name=image.name, finder=image.finder, at=image.face)
        return MarkedSource(face.landmarks, len(image.image))

    def shows_a_face(self) -> bool:
        """Say whether the source has landmarks."""
        try:
            return self.marked is not None
        except NoFaceError:
            return False

    def rows(self, driving: Driving) -> Iterator[np.ndarray]:
        """Find the keypoints of a driving, a row of numbers for each frame."""
        frames = iter(driving)
        while batch := list(itertools.islice(frames, self.batch)):
            found = self.engine.keypoints(batch)
            del batch  # while the next frames are waited for, none is held
            yield from map(Keypoints.as_row, found)

    def at_reference(self, driving: Driving, first: Keypoints) -> Keypoints:
        """Return the keypoints of a driving's reference frame, given those of its first frame."""
        if not driving.reference:
            return first
        (found,) = self.engine.keypoints([driving.reference_frame()])
        return found


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
    keypoints : {"auto", "network", "landmarks"}
        Whether keypoints are found by the network, or follow from the face's landmarks, for weights
        trained on rendered faces. Auto takes landmarks where those move a filmed driving: one that
        the renderer did not make, with a face in 90 % of its first ten seconds.
    reach : float
        How far landmarks may shift the head relatively, in millimetres of it: the way saturates
        there, as growth does, since heads that go further than in training leave ears and hair.
    precision : {"float32", "float16", "bfloat16"}
        What the decoder computes in; ``studykit bench`` measures what less than float32 costs.
    """

    weights: str = checkpoints.DEFAULT
    relative: bool = True
    adapt_scale: bool = True
    device: Literal["auto", "cpu", "gpu"] = "auto"
    config: str | None = None
    keypoints: Literal["auto", "network", "landmarks"] = "auto"
    reach: float = 15.0
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if not self.reach > 0:
            raise StudyFileError(f"fomm: reach must be more than 0, not {self.reach:g}")

    def check(self) -> None:
        """Refuse weights or settings that can't be read, or are another method's; fetch none."""
        checkpoints.check(self.weights, "fomm", self.config)

    def weights_hash(self) -> str:
        """Return the SHA-256 of the checkpoint, fetching it if need be."""
        return checkpoints.sha256(checkpoints.locate(self.weights))

    def inputs(self, source: str, driving: str) -> list[Path]:
        """Return the files that a clip depends on beside source, driving and weights."""
        return [Path(self.config)] if self.config else []

    def device_used(self) -> str:
        """Return where it computes, as Paddle names it."""
        return find_device(self.device)

    def notes(self, state: Prepared) -> str:
        """Return what a reader of the clips should know about how they were computed."""
        knows = checkpoints.knowledge(self.weights)
        more = ": studykit weights fetch vox-256 gets weights that know photographs"
        return _notes(knows and knows + more, state)

    def prepare(self, source: Source) -> Prepared:
        """Make the networks ready, once for all sources, and encode the source.

        Raises
        ------
        StudyError
            No weights, no Paddle, no such device or precision, or a source of a size that the
            networks can't take: a kind of it, in one line.
        """
        return prepared(self, source, "fomm")

    def animate(self, state: Prepared, driving: Driving) -> Iterator[np.ndarray]:
        """Yield one (S, S, 3) uint8 frame a driving frame, in order.

        Raises
        ------
        NoFaceError
            Landmarks are asked for, and the source or the driving shows no face.
        StudyError
            The keypoints of the source or of the reference frame span no area, so that
            there is no scale to adapt; or landmarks are asked for, and the weights' keypoints have
            no meaning.
        """
        marks = self._landmarks(state, driving)
        if marks is None:
            yield from painted(state, self._by_network(state, driving))
        else:
            rest = replace(state.source, keypoints=state.marked.rest)
            moved = self._by_landmarks(state, *counted_from(driving, marks))
            yield from painted(replace(state, source=rest), moved)

    def _by_network(self, state: Prepared, driving: Driving) -> Iterator[Keypoints]:
        source, initial, scale = state.source.keypoints, None, 1.0
        for row in kept(driving, state.found_by, lambda: state.rows(driving)):
            own = Keypoints.from_row(row)
            if self.relative:
                if initial is None:
                    initial = state.at_reference(driving, own)
                    scale = movement_scale(source, initial) if self.adapt_scale else 1.0
                own = transfer(source, own, initial, scale)
            yield own

    def _by_landmarks(
        self, state: Prepared, start: np.ndarray | None, marks: Iterator[np.ndarray]
    ) -> Iterator[Keypoints]:
        """Move the source as the driving moves from its reference on, or onto its face.

        A frame without a face repeats the one before; before the first, the source rests.
        """
        source, last = state.marked, state.marked.rest
        for _, motion in motions(source.head, start, marks, self.relative, self.adapt_scale):
            if motion is not None:
                if self.relative:
                    motion = limited(motion, self.reach, _GROWTH * self.reach)
                last = source.moved(motion)
            yield last

    def _landmarks(self, state: Prepared, driving: Driving) -> Iterator[np.ndarray] | None:
        """Return a driving's landmarks, NaN where the face is lost; None where they don't serve."""
        state.moved_by.clear()
        asked = self.keypoints == "landmarks"
        able = have_meaning(checkpoints.stored_settings(self.weights))
        if asked and not able:
            raise StudyError(
                f"fomm: the keypoints of {self.weights} are not known to follow landmarks: set "
                "keypoints to network, or use weights trained on rendered faces"
            )
        if not asked and (self.keypoints == "network" or driving.rendered or not able):
            return None
        found_by = f"fomm {extractor(driving.finder)} {code_hash(follow.__module__)}"
        rows = kept(driving, found_by, lambda: follow(driving, registered=False))
        # Frames before the reference, such as black ones, say nothing of the face.
        first = driving.reference
        ahead = list(itertools.islice(rows, first + round(_SECONDS_AHEAD * driving.frame_rate)))
        seen = np.mean([not is_lost(row) for row in ahead[first:]])
        if asked and not seen:
            raise NoFaceError(
                f"{driving.name}: no human face found in the driving's first {_SECONDS_AHEAD} "
                "seconds: choose another one, or set keypoints to network"
            )
        if not asked and (seen < _LEAST_FACES or not state.shows_a_face()):
            state.moved_by.append(
                "moved by the network's own keypoints: landmarks need a face in the source and in "
                f"{_LEAST_FACES:.0%} of the driving"
            )
            return None
        state.moved_by.append("moved by the face's landmarks")
        return itertools.chain(ahead, rows)


class OnFomm:
    """What methods share whose networks are of other weights, and run as ``fomm``'s do."""

    family: str  # of :data:`studykit.methods.checkpoint_files.FAMILIES`
    if TYPE_CHECKING:  # settings of the methods
        weights: str
        device: Literal["auto", "cpu", "gpu"]
        precision: Precision

    @property
    def _fomm(self) -> FOMM:
        """What runs the networks."""
        return FOMM(weights=self.weights, device=self.device, precision=self.precision)

    def check(self) -> None:
        """Refuse weights that can't be read, or are another method's."""
        checkpoints.check(self.weights, self.family)

    def weights_hash(self) -> str:
        """Return the SHA-256 of the checkpoint."""
        return self._fomm.weights_hash()

    def device_used(self) -> str:
        """Return where it computes, as Paddle names it."""
        return self._fomm.device_used()

    def notes(self, state: Prepared) -> str:
        """Return what a reader of the clips should know about how they were computed."""
        return _notes(checkpoints.knowledge(self.weights), state)

    def encoded(self, source: Source) -> Prepared:
        """Make the networks ready, and encode the source, as :meth:`FOMM.prepare`."""
        return prepared(self._fomm, source, self.family)


def painted(state: Prepared, moved: Iterator[Keypoints]) -> Iterator[np.ndarray]:
    """Yield the source as each of these keypoints moves it, some at a time on a GPU."""
    while keypoints := list(itertools.islice(moved, state.batch)):
        yield from state.engine.paint(state.source, keypoints)


def _notes(knows: str, state: Prepared) -> str:
    return "; ".join(filter(None, [knows, *state.moved_by, state.engine.note]))


def prepared(method: FOMM, source: Source, family: str) -> Prepared:
    """Do what :meth:`FOMM.prepare` does, with weights of a family of networks.

    Raises
    ------
    WeightsError
        The weights are of another family.
    StudyError
        As there.
    """
    checkpoints.require_family(method.weights, family)
    height, width = source.image.shape[:2]
    config = checkpoints.sha256(method.config) if method.config else ""
    digests, device = (method.weights_hash(), config), find_device(method.device)
    _require_precision(method.precision, device)
    # How motion is transferred makes no other engine.
    method = replace(method, relative=True, adapt_scale=True, keypoints="auto", reach=1.0)
    engine = _engine(method, digests, device, height, width, machine.threads())
    found_by = f"fomm 1 {type(engine).__name__} {' '.join(digests)}"
    encoded, batch = engine.encode(source.image), engine.batch(height, width)
    return Prepared(engine, source, encoded, batch, found_by)


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
    networks = functools.cache(lambda: _networks(method, device, height, width))
    try:
        return opened(
            folder,
            lambda: GraphEngine(folder, threads, method.precision),
            lambda: build_graphs(networks(), folder, height, width),
        )
    except GraphError as error:
        note = f"computed layer by layer, which is slow: {error}"
        return DygraphEngine(networks(), method.precision, note=note)


def _networks(method: FOMM, device: str, height: int, width: int) -> Networks:
    networks = load_networks(method.weights, method.config, device, height)
    if height % networks.multiple or width % networks.multiple:
        raise StudyError(
            f"fomm with {method.weights} takes images whose sides are multiples of "
            f"{networks.multiple}, not {width} x {height}: set the study's size accordingly"
        )
    return networks
