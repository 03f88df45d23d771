"""Soft regions that move as wholes (Siarohin et al., CVPR 2021), on the First Order Motion Model.

Layers, names and the engines that run them are those of :mod:`studykit.methods.fomm`: its
keypoints' heat maps are regions here, whose first two moments give the affine motions.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from studykit.cache import kept
from studykit.errors import NoFaceError
from studykit.media.views import Driving, Source
from studykit.methods import register, weights as checkpoints
from studykit.methods._fomm_motion import Keypoints, movement_scale, transfer
from studykit.methods._region_motion import (
    aligned,
    disentangled,
    disentangled_shapes,
    framed,
    steadied,
    strangeness,
)
from studykit.methods.checkpoint_files import Tensors, require_tensors
from studykit.methods.fomm import OnFomm, Precision, Prepared

# Of faces 45 degrees of yaw apart it is 0.38, 50 degrees 0.42, 60 degrees 0.5, 80 degrees 0.6; of a
# face and its own mouth, nods and turns of 20 degrees at most 0.2; of black, white or noise 0.9, of
# other pictures 0.5 and more. Pairs further apart than 45 degrees were never trained: from 55 on,
# heads have holes. Source and reference may have turned to different sides, and the driving
# from one side to the other; but the source can't be bent further than in training.
_MOST_STRANGE, _MOST_STRANGE_START, _MOST_BENT = 0.6, 0.75, 0.42


@register("regions")
@dataclass(frozen=True)
class Regions(OnFomm):
    """Animate a source by the regions of a driving: where each lies, and how it is spread.

    The background is taken to rest; in training its motion was that of the camera.

    Attributes
    ----------
    weights : str
        A named checkpoint or a file. ``regions-256`` comes with the package and knows rendered
        faces alone.
    mode : {"relative", "standard", "disentangled"}
        Move the source's regions as the driving's move from its reference frame on; put them where
        the driving's are, with their shapes; or have two encoders take the shape from the source
        and the pose from the driving.
    adapt_scale : bool
        As of :class:`~studykit.methods.fomm.FOMM`: of relative motion.
    device : {"auto", "cpu", "gpu"}
    precision : {"float32", "float16", "bfloat16"}
        As there.
    """

    family = "regions"
    weights: str = "regions-256"
    mode: Literal["relative", "standard", "disentangled"] = "relative"
    adapt_scale: bool = True
    device: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Precision = "float32"

    def notes(self, state: Prepared) -> str:
        """Return what a reader of the clips should know about how they were computed."""
        about = checkpoints.stored_settings(self.weights)
        knows = f"{self.weights} was trained on {about.get('trained_on')} alone"
        limits = f"{knows}, at {about.get('size')} pixels" if "trained_on" in about else ""
        return "; ".join(filter(None, [limits, *state.moved_by, state.engine.note]))

    def prepare(self, source: Source) -> Prepared:
        """Make the networks ready, once for all sources, and encode the source.

        Raises
        ------
        StudyError
            As :meth:`studykit.methods.fomm.FOMM.prepare`.
        """
        state = self.encoded(source)
        encoded = replace(state.source, keypoints=framed(state.source.keypoints))
        return replace(state, source=encoded)

    def animate(self, state: Prepared, driving: Driving) -> Iterator[np.ndarray]:
        """Yield one (S, S, 3) uint8 frame a driving frame, in order.

        A frame whose regions lie as no face has them, or further off the source's than those of a
        head turned by some 50 degrees, repeats the one before.

        Raises
        ------
        NoFaceError
            The reference frame is such a frame.
        """
        state.moved_by.clear()
        moved = self._moved(state, driving)
        while regions := list(itertools.islice(moved, state.batch)):
            yield from state.engine.paint(state.source, regions)

    def _moved(self, state: Prepared, driving: Driving) -> Iterator[Keypoints]:
        last = source = state.source.keypoints
        tensors = self._tensors(len(source.points))

        def moved(own: Keypoints, initial: Keypoints) -> Keypoints:
            if self.mode == "disentangled":
                return disentangled(tensors, source, own)
            if self.mode == "standard":
                return own
            scale = movement_scale(source, initial) if self.adapt_scale else 1.0
            return transfer(source, aligned(own, initial.jacobians), initial, scale)

        for shown in believed(state, driving, framed, moved):
            if shown is not None:
                last = steadied(aligned(shown, source.jacobians), source)
            yield last

    def _tensors(self, regions: int) -> Tensors:
        """Return what separates shape from pose, where that is asked for."""
        if self.mode != "disentangled":
            return {}
        loaded = checkpoints.load(self.weights)
        return require_tensors(loaded, "disentangled", disentangled_shapes(regions))


def believed(
    state: Prepared,
    driving: Driving,
    framed: Callable[[Keypoints], Keypoints],
    moved: Callable[[Keypoints, Keypoints], Keypoints],
) -> Iterator[Keypoints | None]:
    """Yield for each frame the keypoints that the source gets.

    None stands for those of a frame that lie as no turned face has them, and for those that the
    source can't be bent to; the clip's note counts such frames.

    Parameters
    ----------
    state : Prepared
    driving : Driving
    framed : callable
        Is applied to all that is found.
    moved : callable
        Returns the source's, given a frame's own and those of the reference frame.

    Raises
    ------
    NoFaceError
        The reference frame is such a frame.
    """
    source, initial, held = state.source.keypoints, None, 0
    for row in kept(driving, state.found_by, lambda: state.rows(driving)):
        found = Keypoints.from_row(row)
        own = framed(found)
        if initial is None:
            initial = framed(state.at_reference(driving, found))
            if strangeness(initial, source) > _MOST_STRANGE_START:
                raise NoFaceError(
                    f"{driving.name}: no face like those it was trained on in the reference "
                    "frame: name another one, or another method"
                )
        shown = moved(own, initial)
        seen = strangeness(own, initial) <= _MOST_STRANGE
        seen = seen and strangeness(shown, source) <= _MOST_BENT
        held += not seen
        yield shown if seen else None
    if held:
        state.moved_by.append(
            "frames that show no face, or one turned further than the source can be, and repeat "
            f"the one before: {held}"
        )
