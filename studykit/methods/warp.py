"""A baseline without learning: the source's own pixels, moved as the driving face moves.

It needs no weights and no GPU, and shows how far geometry alone gets.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from studykit.cache import code_hash, kept
from studykit.errors import NoFaceError
from studykit.media.faces import extractor, find_face
from studykit.media.following import points_of
from studykit.media.geometry import continued, smoothstep
from studykit.media.views import Driving, Source
from studykit.methods import register
from studykit.methods._face_detail import SHAPE as DETAIL, DetailedField, DetailReader
from studykit.methods._face_motion import (
    MIN_CUTOFF,
    SPEED_COEFFICIENT,
    Followed,
    OneEuroFilter,
    counted_from,
    followed,
    is_lost,
)
from studykit.methods._warp_geometry import (
    CANVAS,
    Field,
    Motion,
    bent_onto,
    fit_head,
    gaze_since,
    head_part,
    limited,
    motion_since,
)

_NEWTON_STEPS = 8
# Details tremble more than landmarks: by how much less their filter lets through, and how large a
# face is in the millimetres in which they are given.
_CALMER, _FACE_SIZE = 3.0, 150.0
# How far eyes are open, in widths, that are drawn up and that are at rest.
_SQUINT, _OPEN = 0.15, 0.27


@register("warp")
@dataclass(frozen=True)
class Warp:
    """Warp the source by the landmarks of the driving.

    The driving's head pose and expression since its reference frame are carried over to the
    source's head (see ``_warp_geometry``): rotation, shift in head sizes, growth, each landmark's
    way in the plane of the face, how far the eyes are open, and what landmarks leave out, which is
    read off the pixels (see ``_face_detail``). The background is held at the border and follows the
    head less and less with distance. Turns, shifts and growth saturate where a flat picture would
    tear.

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

    any_square = True

    strength: float = 1.0
    min_cutoff: float = MIN_CUTOFF
    speed_coefficient: float = SPEED_COEFFICIENT

    def prepare(self, source: Source) -> "WarpedFace":
        """Find the source's face and work out what does not depend on the driving.

        Raises
        ------
        NoFaceError
            The source shows no face.
        """
        face = find_face(source.image, name=source.name, finder=source.finder, at=source.face)
        return WarpedFace(source.image, points_of(face), source.around)

    def animate(self, state: "WarpedFace", driving: Driving) -> Iterator[np.ndarray]:
        """Give one frame a driving frame; frames are not held.

        Raises
        ------
        NoFaceError
            The driving shows no face in its first second.
        """
        motion = None
        rows = kept(driving, self._found_by(driving), lambda: self._seen(driving))
        start, rows = counted_from(driving, rows)
        reference = None
        for row in rows:
            if not is_lost(row):
                start = row if start is None else start
                reference = reference or fit_head(start[:68])
                gaze = gaze_since(start[:70], row[:70])
                motion = replace(motion_since(reference, row[:68]), gaze=gaze)
                motion = scaled(motion, self.strength)
                detail = self.strength * (row[70:] - start[70:]).reshape(DETAIL)
            yield state.image if motion is None else state.at(motion, detail)

    def _seen(self, driving: Driving) -> Iterator[np.ndarray]:
        """Yield each frame's landmarks and irises, and what they leave out: (70 + N, 2) float32.

        Where no face is seen, the landmarks are NaN.
        """
        reader, found = None, self._landmarks(driving)
        if driving.reference:  # what all frames are compared with comes after some of them
            rows = [(points, there) for points, _, there in found]
            seen = [index for index, (_, there) in enumerate(rows) if there]
            index = next((i for i in seen if i >= driving.reference), seen[0])
            reader = DetailReader(next(islice(driving, index, None)), rows[index][0])
            shown = zip(rows, driving, strict=False)
            found = ((points, frame, there) for (points, there), frame in shown)
        rate, detail = float(driving.frame_rate), np.zeros(DETAIL)
        beta = self.speed_coefficient / _FACE_SIZE
        smooth = OneEuroFilter(rate, self.min_cutoff / _CALMER, beta / _CALMER)
        for points, frame, there in found:
            if there:
                reader = reader or DetailReader(frame, points)
                detail = smooth(reader.read(frame, points))
            yield np.vstack([points, detail.reshape(-1, 2)]).astype(np.float32)

    def _landmarks(self, driving: Driving) -> Iterator[Followed]:
        """Yield what :func:`followed` does; a driving must begin with a face."""
        patience, seen = max(1, round(driving.frame_rate)), False
        found = followed(driving, self.min_cutoff, self.speed_coefficient)
        for index, row in enumerate(found, start=1):
            seen = seen or not is_lost(row[0])
            if not seen and index >= patience:
                break
            yield row
        if not seen:
            raise NoFaceError(
                f"{driving.name}: no human face found in the driving's first second; use a video "
                "that begins with a face turned towards the camera"
            )

    def _found_by(self, driving: Driving) -> str:
        """Name what the landmarks depend on beside the frames."""
        settings = f"{self.min_cutoff} {self.speed_coefficient} {driving.reference}"
        return f"warp {settings} {extractor(driving.finder)} {code_hash(__name__)}"


class WarpedFace:
    """A source face that can be shown under any motion.

    Parameters
    ----------
    image : (S, S, 3) uint8
    points : (70, 2) float64
        Landmarks and irises, as :func:`studykit.media.following.points_of` gives them.
    around : (S + 2 E, S + 2 E, 3) uint8, optional
        The image and what lies around it, E = S // 4; without, its border goes on. What moves
        is held at the outer border of this: at the image's own, hair would be sheared.
    """

    def __init__(
        self, image: np.ndarray, points: np.ndarray, around: np.ndarray | None = None
    ) -> None:
        from studykit.methods._warp_paint import Painter, with_shut_lips, with_whole_eyes

        self.image = image
        self.edge = edge = image.shape[0] // CANVAS
        end = edge + image.shape[0]
        canvas = np.pad(image, ((edge, edge), (edge, edge), (0, 0)), mode="edge")
        canvas = continued(canvas, (edge, edge, end, end)) if around is None else around.copy()
        canvas[edge:end, edge:end] = image
        landmarks, irises = points[:68] + edge, points[68:] + edge
        whole = with_shut_lips(canvas, with_whole_eyes(canvas, landmarks))
        self.field = Field(bent_onto(whole, fit_head(landmarks)), canvas.shape[0])
        self.painter = Painter(canvas, whole, irises, edge)
        self.detailed = DetailedField(self.field)
        gap = np.mean([eye.gap for eye in self.painter.eyes])
        self._squint = 1 - smoothstep((gap - _SQUINT) / (_OPEN - _SQUINT))

    def at(self, motion: Motion, detail: np.ndarray | None = None) -> np.ndarray:
        """Show it after a motion, with what landmarks leave out of that: (S, S, 3) uint8."""
        from studykit.methods._warp_kernels import invert

        # Lids that are drawn up have no eye to show when they open wider, and would swell.
        wider = max(motion.eye_opening - 1, 0.0)
        motion = replace(motion, eye_opening=motion.eye_opening - wider * self._squint)
        motion = self.field.bearable(limited(motion))
        if detail is None:
            landmarks, shifts = self.field.move(motion)
        else:
            landmarks, shifts = self.detailed.move(motion, detail)
        sources = np.stack([invert(s, self.field.spacing, _NEWTON_STEPS) for s in shifts])
        return self.painter.paint(
            landmarks, sources, self.field.spacing, motion.eye_opening, motion.gaze
        )


def scaled(motion: Motion, strength: float) -> Motion:
    """Multiply a motion."""
    return replace(
        head_part(motion, strength),
        expression=motion.expression * strength,
        eye_opening=max(0.0, 1 + (motion.eye_opening - 1) * strength),
        gaze=motion.gaze * strength,
    )
