"""A driving's face over time: its landmarks, followed and smoothed."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from studykit.media.following import interpolated, is_seen, tracked
from studykit.media.views import Driving
from studykit.methods._face_registration import RegisteredHead
from studykit.methods._warp_geometry import Head, Motion, fit_head, motion_since

MIN_CUTOFF, SPEED_COEFFICIENT = 4.0, 16.0
"""Of the landmarks' One-Euro filter, in hertz, and in hertz a face size a second."""

Followed = tuple[np.ndarray, np.ndarray | None, bool]

_CALMER = 0.5  # what of both is left where heads are not registered, which shake more


def follow(
    driving: Driving,
    min_cutoff: float = MIN_CUTOFF,
    speed_coefficient: float = SPEED_COEFFICIENT,
    *,
    registered: bool = True,
) -> Iterator[np.ndarray]:
    """Yield where each frame's face is, (70, 2) float64, NaN where it is lost.

    As :meth:`Driving.points_seen` gives it, smoothed; the head is registered to the first frame
    with a face. That suits what moves the head as a whole: the points that move by themselves, of
    which ``fomm`` knows no others, are better off where they were found.
    """
    found = followed(driving, min_cutoff, speed_coefficient, registered=registered)
    return (points for points, _, _ in found)


def followed(
    driving: Driving, min_cutoff: float, speed_coefficient: float, *, registered: bool = True
) -> Iterator[Followed]:
    """Yield what :func:`follow` does, the frame, and whether that shows the face.

    Frames are None where neither registration nor a finder needs them.
    """
    smooth: OneEuroFilter | None = None
    frames: Iterator[Any] = iter(driving)
    if driving.points is None:
        frames, shown = itertools.tee(frames)
        found, seen = tracked(shown, finder=driving.finder), itertools.repeat(True)
    else:
        frames = frames if registered else itertools.repeat(None)  # decoded only where they help
        found, seen = interpolated(driving.points), is_seen(driving.points)
    for points, frame, there in zip(found, frames, seen, strict=False):
        if is_lost(points):
            yield points, frame, False
            continue
        if smooth is None:
            beta = speed_coefficient / float(np.ptp(points[:68], axis=0).max())
            calm = 1.0 if registered else _CALMER
            smooth = OneEuroFilter(float(driving.frame_rate), calm * min_cutoff, calm * beta)
            head = RegisteredHead(frame, points[:68]) if registered else None
        yield smooth(head.refined(frame, points) if head and there else points), frame, there


def is_lost(points: np.ndarray) -> bool:
    """Say whether a frame's points show no face: irises alone may be unknown."""
    return bool(np.isnan(points[0, 0]))


def counted_from(
    driving: Driving, rows: Iterable[np.ndarray]
) -> tuple[np.ndarray | None, Iterator[np.ndarray]]:
    """Return the landmarks that a driving's motion counts from, and all of them again.

    They are those of its reference frame, or of the first one after it that shows a face; None
    where that is the first face of all, which comes with the rows anyway.
    """
    if not driving.reference:
        return None, iter(rows)
    rows = list(rows)  # as smoothed as the others, so that no motion is left in it
    seen = (row for row in rows[driving.reference :] if not is_lost(row))
    return next(seen, None), iter(rows)


def motions(
    head: Head,
    start: np.ndarray | None,
    rows: Iterable[np.ndarray],
    relative: bool,
    adapt_scale: bool,
) -> Iterator[tuple[np.ndarray, Motion | None]]:
    """Yield each frame's landmarks with how they move a source, which is None where none are seen.

    Parameters
    ----------
    head : Head
        The source's.
    start, rows
        As :func:`counted_from` gives them.
    relative : bool
        Move as the driving moves since its reference; otherwise onto its face.
    adapt_scale : bool
        Take a relative motion by the size of the source's face over that of the driving's.
    """
    reference = head if not relative else None if start is None else fit_head(start[:68])
    for found in rows:
        motion = None
        if not is_lost(found):
            reference = reference or fit_head(found[:68])
            motion = motion_since(reference, found[:68], np.ones(68))
            if relative and not adapt_scale:
                factor = reference.scale / head.scale
                shift, expression = factor * motion.shift, factor * motion.expression
                motion = replace(motion, shift=shift, expression=expression)
        yield found, motion


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
