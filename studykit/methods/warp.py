"""A baseline without learning: the source's own pixels, moved as the driving face moves.

It needs no weights and no GPU, and shows how far geometry alone gets.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from studykit.cache import code_hash, kept
from studykit.errors import NoFaceError
from studykit.media.faces import extractor, find_face
from studykit.media.following import interpolated
from studykit.media.squares import Driving, Source
from studykit.methods import register
from studykit.methods._warp_geometry import (
    Field,
    Motion,
    bent_onto,
    fit_head,
    head_part,
    motion_since,
)

# What a flat picture bears before the far side of the head that it can't show is missed, per
# axis (pitch, yaw, roll, in degrees), per direction (in millimetres of the head), in log size.
_MAX_TURN = np.deg2rad([24.0, 34.0, 30.0])
_MAX_SHIFT = 45.0
_MAX_GROWTH = 0.2
# The head may squeeze what lies beside it to this part of its area, not further.
_LEAST_AREA = 0.12
_NEWTON_STEPS = 8


@register("warp")
@dataclass(frozen=True)
class Warp:
    """Warp the source by the landmarks of the driving.

    The driving's head pose and expression since its reference frame are carried over to the
    source's head (see ``_warp_geometry``): rotation, shift in head sizes, growth, each landmark's
    way in the plane of the face, and how far the eyes are open. The background is held at the
    border and follows the head less and less with distance. Turns, shifts and growth saturate where
    a flat picture would tear.

    Where the driving's face is not seen, motion goes on from the last face to the next, if that is
    known; else the last face that was seen is repeated. Frames before the first face show the
    source as it is.

    Attributes
    ----------
    strength : float
        Scales all motion: 0 holds the source still, 1 moves as driven.
    min_cutoff : float
        Cutoff frequency of the landmarks' One-Euro filter at rest, in hertz: lower is calmer.
    speed_coefficient : float
        Its beta: how fast the cutoff rises with speed, in hertz a face size a second: higher lags
        less.
    """

    strength: float = 1.0
    min_cutoff: float = 2.0
    speed_coefficient: float = 8.0

    def prepare(self, source: Source) -> "WarpedFace":
        """Find the source's face and work out what does not depend on the driving.

        Raises
        ------
        NoFaceError
            The source shows no face.
        """
        face = find_face(source.image, name=source.name, finder=source.finder)
        return WarpedFace(source.image, face.landmarks)

    def animate(self, state: "WarpedFace", driving: Driving) -> Iterator[np.ndarray]:
        """Give one frame a driving frame; frames are not held.

        Raises
        ------
        NoFaceError
            The driving shows no face in its first second.
        """
        reference = motion = None
        rows = kept(driving, self._found_by(driving), lambda: self._landmarks(driving))
        if driving.reference:  # as smoothed as the others, so that no motion is left in it
            rows = list(rows)
            seen = (row for row in rows[driving.reference :] if not np.isnan(row).any())
            reference = next(map(fit_head, seen), None)
        for landmarks in rows:
            if not np.isnan(landmarks).any():
                if reference is None:
                    reference = fit_head(landmarks)
                motion = motion_since(reference, landmarks)
            yield state.image if motion is None else state.at(scaled(motion, self.strength))

    def _landmarks(self, driving: Driving) -> Iterator[np.ndarray]:
        """Yield each frame's smoothed landmarks, (68, 2) float64, NaN where the face is lost."""
        smooth, patience = None, max(1, round(driving.frame_rate))
        known = driving.points is not None
        for index, points in enumerate(
            interpolated(driving.points) if known else driving.points_seen()
        ):
            landmarks = points[:68]
            lost = np.isnan(landmarks).any()
            if lost and smooth is None and index + 1 >= patience:
                raise _no_driving_face(driving.name)
            if not lost and smooth is None:
                size = float(np.ptp(landmarks, axis=0).max())
                smooth = OneEuroFilter(
                    float(driving.frame_rate), self.min_cutoff, self.speed_coefficient / size
                )
            yield landmarks if lost else smooth(landmarks)
        if smooth is None:
            raise _no_driving_face(driving.name)

    def _found_by(self, driving: Driving) -> str:
        """Name what the landmarks depend on beside the frames."""
        settings = f"{self.min_cutoff} {self.speed_coefficient}"
        return f"warp {settings} {extractor(driving.finder)} {code_hash(__name__)}"


class WarpedFace:
    """A source face that can be shown under any motion.

    Parameters
    ----------
    image : (S, S, 3) uint8
    landmarks : (68, 2) float64
    """

    def __init__(self, image: np.ndarray, landmarks: np.ndarray) -> None:
        from studykit.methods._warp_paint import Painter, with_whole_eyes

        self.image = image
        whole = with_whole_eyes(image, landmarks)
        self.field = Field(bent_onto(whole, fit_head(landmarks)), image.shape[0])
        self.painter = Painter(image, whole)

    def at(self, motion: Motion) -> np.ndarray:
        """Show it after a motion: (S, S, 3) uint8."""
        from studykit.methods._warp_kernels import invert

        motion = self.field.bearable(limited(motion), _LEAST_AREA)
        landmarks, shifts = self.field.move(motion)
        sources = np.stack([invert(s, self.field.spacing, _NEWTON_STEPS) for s in shifts])
        return self.painter.paint(landmarks, sources, self.field.spacing, motion.eye_opening)


class OneEuroFilter:
    """Smooth a signal sample by sample: calm at rest, quick in motion.

    G. Casiez, N. Roussel and D. Vogel 2012, "1 euro filter: a simple speed-based low-pass filter
    for noisy input in interactive systems", equations 1 to 5. Causal; each coordinate has a cutoff
    of its own.

    Parameters
    ----------
    rate : float
        Samples a second.
    min_cutoff : float
        Cutoff frequency at rest, in hertz.
    beta : float
        How much the cutoff rises, in hertz, with the signal's speed in units a second.
    speed_cutoff : float
        Cutoff frequency of the speed's own filter, in hertz.
    """

    def __init__(
        self, rate: float, min_cutoff: float, beta: float, speed_cutoff: float = 4.0
    ) -> None:
        self.rate, self.min_cutoff, self.beta = rate, min_cutoff, beta
        self.speed_cutoff = speed_cutoff
        self._raw: np.ndarray | None = None

    def __call__(self, value: np.ndarray) -> np.ndarray:
        """Take the next sample, return it smoothed."""
        if self._raw is None:
            self._value, self._speed = value, np.zeros_like(value)
        else:
            speed = (value - self._raw) * self.rate
            self._speed = self._speed + self._gain(self.speed_cutoff) * (speed - self._speed)
            cutoff = self.min_cutoff + self.beta * np.abs(self._speed)
            self._value = self._value + self._gain(cutoff) * (value - self._value)
        self._raw = value
        return self._value

    def _gain(self, cutoff: Any) -> Any:
        return 1 / (1 + self.rate / (2 * np.pi * cutoff))


def scaled(motion: Motion, strength: float) -> Motion:
    """Multiply a motion."""
    return replace(
        head_part(motion, strength),
        expression=motion.expression * strength,
        eye_opening=max(0.0, 1 + (motion.eye_opening - 1) * strength),
    )


def limited(motion: Motion) -> Motion:
    """Let the head's motion saturate smoothly at what a flat picture bears."""
    length = np.linalg.norm(motion.shift)
    return replace(
        motion,
        turn=_MAX_TURN * np.tanh(motion.turn / _MAX_TURN),
        growth=float(_MAX_GROWTH * np.tanh(motion.growth / _MAX_GROWTH)),
        shift=motion.shift * (_MAX_SHIFT * np.tanh(length / _MAX_SHIFT) / max(length, 1e-9)),
    )


def _no_driving_face(name: str) -> NoFaceError:
    return NoFaceError(
        f"{name}: no human face found in the driving's first second; use a video that begins with "
        "a face turned towards the camera"
    )
