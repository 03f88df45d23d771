"""Soft regions that move as wholes (Siarohin et al., CVPR 2021), on the First Order Motion Model.

Layers, names and the engines that run them are those of :mod:`studykit.methods.fomm`: its
keypoints' heat maps are regions here, whose first two moments give the affine motions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from studykit.media.views import Driving, Source
from studykit.methods import register, weights as checkpoints
from studykit.methods._fomm_layout import believed
from studykit.methods._fomm_motion import Keypoints, movement_scale, transfer
from studykit.methods._region_motion import (
    aligned,
    disentangled,
    disentangled_shapes,
    framed,
    steadied,
)
from studykit.methods.checkpoint_files import Tensors, require_tensors
from studykit.methods.fomm import OnFomm, Precision, Prepared, painted


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
        yield from painted(state, self._moved(state, driving))

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
