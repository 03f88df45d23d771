"""Ten keypoints by a ResNet, and motion of order zero, on the First Order Motion Model's networks.

The face's square is found as Viola and Jones do (:mod:`._resnet_crop`); in it, a U-Net whose
encoder is a ResNet-18 (:mod:`._resnet_network`) gives a map for each keypoint, whose mean it is. A
keypoint only shifts what is near it; dense motion, painting and engines are ``fomm``'s.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from studykit.cache import code_hash, kept
from studykit.errors import NoFaceError
from studykit.media.views import Driving, Source
from studykit.methods import register, weights as checkpoints
from studykit.methods._fomm_layout import believed
from studykit.methods._fomm_motion import Keypoints, movement_scale, transfer
from studykit.methods._resnet_crop import WHOLE, box_map, boxes, cropped, face_box, steady
from studykit.methods.fomm import Engine, OnFomm, Precision, Prepared, painted

# Mean deviation of a map from its mean, in half sides of the square: 0.03 to 0.08 of faces, turned
# by up to 80 degrees or photographed; 0.2 and more of black, noise, objects and faces upside down.
_MOST_SPREAD = 0.14


@register("resnet")
@dataclass(frozen=True)
class Resnet(OnFomm):
    """Animate a source by ten keypoints of a driving.

    Attributes
    ----------
    weights : str
        A named checkpoint or a file. ``resnet-256`` comes with the package and knows rendered faces
        alone.
    relative : bool
        Move the source's keypoints as the driving's move from its reference frame on; otherwise
        put them where the driving's are.
    adapt_scale : bool
        As of :class:`~studykit.methods.fomm.FOMM`.
    device : {"auto", "cpu", "gpu"}
    precision : {"float32", "float16", "bfloat16"}
        As there.
    """

    family = "resnet"
    weights: str = "resnet-256"
    relative: bool = True
    adapt_scale: bool = True
    device: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Precision = "float32"

    def prepare(self, source: Source) -> Prepared:
        """Make the networks ready, once for all sources, and encode the source.

        Raises
        ------
        NoFaceError
            The source's keypoints are as of no face.
        StudyError
            As :meth:`studykit.methods.fomm.FOMM.prepare`.
        """
        state = self.encoded(source)
        crop = _Crop(state.engine, steady([face_box(source.image)]), self._grid(source))
        (found,) = crop.keypoints([source.image])
        found = _certain(found)
        if not found.points.any():
            raise NoFaceError(
                f"{source.name}: no face like those it was trained on: choose another picture, or "
                "another method"
            )
        return replace(state, source=replace(state.source, keypoints=found))

    def animate(self, state: Prepared, driving: Driving) -> Iterator[np.ndarray]:
        """Yield one (S, S, 3) uint8 frame a driving frame, in order.

        A frame whose keypoints are uncertain, or lie as no turned face has them, repeats the one
        before.

        Raises
        ------
        NoFaceError
            The reference frame is such a frame.
        """
        state.moved_by.clear()
        box = steady(kept(driving, code_hash(boxes.__module__), lambda: boxes(driving)))
        if box is WHOLE:
            state.moved_by.append("keypoints sought in the whole square: no face found from afar")
        crop = _Crop(state.engine, box, self._grid(state.image))
        seen = replace(state, engine=crop, found_by=f"resnet {state.found_by} {box}")
        yield from painted(state, self._moved(seen, driving))

    def _moved(self, state: Prepared, driving: Driving) -> Iterator[Keypoints]:
        last = source = state.source.keypoints

        def moved(own: Keypoints, initial: Keypoints) -> Keypoints:
            if not self.relative:
                return own
            scale = movement_scale(source, initial) if self.adapt_scale else 1.0
            return transfer(source, own, initial, scale)

        for shown in believed(state, driving, _certain, moved):
            last = last if shown is None else shown
            yield last

    def _grid(self, source: Source) -> int:
        """Return how many places a side keypoints are found on.

        Weights that don't say their size take images as they are.
        """
        about = checkpoints.stored_settings(self.weights)
        size = about.get("size", len(source.image))
        return round(size * about["kp_detector_cfg"].get("scale_factor", 1))


def _certain(found: Keypoints) -> Keypoints:
    """Return keypoints alone, without their covariances; where these are large, all in one place.

    There no face has them.
    """
    variance = np.trace(found.jacobians, axis1=-2, axis2=-1)
    return Keypoints(found.points * (np.sqrt(variance).mean() <= _MOST_SPREAD))


@dataclass(frozen=True)
class _Crop:
    """Looks for keypoints in a box of the frames, whose covariances are in its own units."""

    engine: Engine
    box: np.ndarray
    grid: int

    def keypoints(self, frames: Sequence[np.ndarray]) -> list[Keypoints]:
        """Detect the keypoints of frames (S, S, 3)."""
        share, shift = box_map(self.box, self.grid)
        found = self.engine.keypoints([cropped(frame, self.box) for frame in frames])
        places = [(share * own.points + shift).astype(np.float32) for own in found]
        return [replace(own, points=points) for own, points in zip(found, places, strict=True)]
