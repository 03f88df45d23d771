"""The warp's picture: the source seen through its displacement fields, with eyes and mouth.

What opens has to show something: eyeballs lie still behind their lids, and a mouth that the
source keeps shut gets an inside in the colours of the source's own lips.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from studykit.media.geometry import smoothstep
from studykit.media.pose import INNER_LIPS
from studykit.methods._warp_geometry import LOWER_LIDS, UPPER_LIDS
from studykit.methods._warp_kernels import look_up, sample

# Half the width of a soft edge, in pixels of a face 128 pixels wide.
_EDGE = 0.8
# Gaps, in fractions of the mouth's width, at which the mouth's inside begins to show, shows
# fully, and is deep enough for the tongue; and how far the upper teeth hang down: a low smile shows
# nothing else.
_AJAR, _OPEN, _TONGUE_FROM = 0.02, 0.08, 0.3
_TEETH = 0.13
# An iris' radius in widths of its eye; in heights of it, how far beside the lids' landmarks white
# may be seen, and how far inside there is nothing else.
_IRIS, _RIM, _WATERLINE = 0.2, 0.2, 0.1
# Lips are in the shade that are darker than so much of the skin, as below a beard or a hat.
_SHADED = 0.85
# What lies between lips that are apart is lighter or darker than they, by these factors.
_LIGHT, _DARK = 1.12, 0.45
_UPPER_INNER, _LOWER_INNER = np.transpose(INNER_LIPS)

# From this saturation of the skin on a picture is in colour; in a grey one, the mouth is grey too.
_COLOURED = 0.1


@dataclass(frozen=True)
class Slit:
    """An opening between two edges that meet in its corners: an eye, or the mouth's inner lips.

    In its own frame u runs from one corner (0) to the other (1), v down from the line between
    them, in the same unit.

    Attributes
    ----------
    corner : (2,) float64
    along, down : (2,) float64
        One unit of u and v, in pixels.
    upper, lower : (2, N) float64
        u and v of the edges' points, from corner to corner.
    """

    corner: np.ndarray
    along: np.ndarray
    down: np.ndarray
    upper: np.ndarray
    lower: np.ndarray

    @staticmethod
    def between(upper: np.ndarray, lower: np.ndarray) -> "Slit":
        """Build it from the (N, 2) points of both edges, left to right, corners included."""
        corner, along = upper[0], upper[-1] - upper[0]
        down = np.array([-along[1], along[0]])
        frame = np.column_stack([along, down])
        edges = [np.linalg.solve(frame, (edge - corner).T) for edge in (upper, lower)]
        return Slit(corner, along, down, *edges)

    @property
    def width(self) -> float:
        return float(np.linalg.norm(self.along))

    @property
    def gap(self) -> float:
        """The widest opening, as a fraction of the width; negative where the edges cross."""
        u = self.upper[0, 1:-1]
        return float((np.interp(u, *self.lower) - self.upper[1, 1:-1]).max())

    def frame(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return u and v of (..., 2) points."""
        away = points - self.corner
        squared = self.width**2
        return away @ self.along / squared, away @ self.down / squared

    def edges(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return v of the upper and the lower edge at each u, on smooth curves."""
        upper, lower = self._curves
        inside = np.clip(u, 0, 1)
        return upper(inside), lower(inside)

    @functools.cached_property
    def _curves(self) -> list[Any]:
        curves = []
        for edge in (self.upper, self.lower):
            # An interpolation needs u to rise from corner to corner, also where points crowd.
            u = np.maximum.accumulate(np.clip(edge[0], 0, 1)) + np.linspace(0, 1e-3, edge.shape[1])
            curves.append(PchipInterpolator(u / u[-1], edge[1]))
        return curves

    def opening(self, points: np.ndarray, softness: float, grown: float = 0.0) -> np.ndarray:
        """How much of each of (..., 2) points' surroundings is in the opening: 0 to 1.

        Its surroundings are ``softness`` pixels to either side; the opening may be ``grown`` by
        pixels. Both are measured across the edges, which may be steep.
        """
        u, v = self.frame(points)
        inside = np.clip(u, 0, 1)
        covered = 0.0
        for curve, sign in zip(self._curves, (1, -1), strict=True):
            steepness = np.sqrt(1 + curve.derivative()(inside) ** 2)
            depth = sign * (v - curve(inside)) / steepness * self.width + grown
            covered = covered + np.minimum(depth, softness)
        return np.clip(covered / (2 * softness), 0, 1) * ((u > 0) & (u < 1))

    def below(self, points: np.ndarray, softness: float) -> np.ndarray:
        """How far each of (..., 2) points is below the opening's middle line: 0 to 1.

        The change is sharp between the corners and widens beyond them.
        """
        u, v = self.frame(points)
        outside = np.maximum(np.maximum(-u, u - 1), 0)
        width = 2 * softness / self.width + 0.8 * outside
        # The curves stay between their points, so that beyond these nothing is left to find.
        heights = np.concatenate([self.upper[1], self.lower[1]])
        share = (v > heights.max() + width / 2).astype(np.float64)
        near = (v > heights.min() - width / 2) & (share == 0)
        top, bottom = self.edges(u[near])
        share[near] = smoothstep((v[near] - (top + bottom) / 2) / width[near] + 0.5)
        return share

    def bounds(self, margin: float, size: int, edge: int) -> tuple[slice, slice]:
        """Rows and columns, ``edge`` less than their places, of the pixels around the opening."""
        frame = np.column_stack([self.along, self.down])
        points = self.corner + np.hstack([self.upper, self.lower]).T @ frame.T
        low = np.clip(np.floor(points.min(axis=0) - margin) - edge, 0, size - 1).astype(int)
        high = np.clip(np.ceil(points.max(axis=0) + margin) + 1 - edge, 1, size).astype(int)
        return slice(low[1], high[1]), slice(low[0], high[0])


def eye_slits(landmarks: np.ndarray) -> tuple[Slit, Slit]:
    """The eyes on the image's left and right."""
    left = Slit.between(landmarks[[36, 37, 38, 39]], landmarks[[36, 41, 40, 39]])
    right = Slit.between(landmarks[[42, 43, 44, 45]], landmarks[[42, 47, 46, 45]])
    return left, right


def mouth_slit(landmarks: np.ndarray) -> Slit:
    """The mouth between its inner lips."""
    return Slit.between(landmarks[60:65], landmarks[[60, 67, 66, 65, 64]])


def edge_softness(landmarks: np.ndarray) -> float:
    """Half the width of a soft edge in a face, in pixels."""
    return _EDGE * max(1.0, float(np.ptp(landmarks[:17, 0])) / 128)


def lower_share(points: np.ndarray, landmarks: np.ndarray, softness: float) -> np.ndarray:
    """Where the field of the lower lids and lip holds, and not that of the upper: 0 to 1.

    Parameters
    ----------
    points : (..., 2) float64
        Places in the picture.
    landmarks : (68, 2) float64
        The face's in it.
    softness : float
        Half the width of the edges between them, in pixels.
    """
    left, right = eye_slits(landmarks)
    mouth = mouth_slit(landmarks)
    middle = (left.corner + left.along + right.corner) / 2
    across = right.corner - left.corner - left.along
    side = (points - middle) @ across / (across @ across)
    which = smoothstep(side + 0.5)
    # From the eyes' field to the mouth's on the way down the nose.
    down = mouth.corner + mouth.along / 2 - middle
    way = (points - middle) @ down / (down @ down)
    to_mouth = smoothstep((way - 0.3) / 0.35)

    def below(slit: Slit, share: np.ndarray, where: np.ndarray) -> np.ndarray:
        found = np.zeros_like(share)
        found[where] = slit.below(points[where], softness) * share[where]
        return found

    at_eyes = below(left, 1 - which, (which < 1) & (to_mouth < 1))
    at_eyes += below(right, which, (which > 0) & (to_mouth < 1))
    return at_eyes * (1 - to_mouth) + below(mouth, to_mouth, to_mouth > 0)


def with_whole_eyes(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Move the eyes' landmarks outwards over the white of the eye that they left outside.

    dlib's points keep to human proportions: of the large eyes of drawn faces they leave out parts,
    which would stay open in a blink. Where nothing outside is as bright as the cheek and much less
    coloured, they stay.
    """
    pixels = image.astype(np.float32)
    cheeks = sample(pixels, _cheeks(landmarks)).reshape(2, 2, 3).mean(axis=1)
    ways = np.linspace(0, 0.8, 17)
    moved = landmarks.copy()
    for cheek, eye in zip(cheeks, (range(36, 42), range(42, 48)), strict=True):
        middle = landmarks[eye].mean(axis=0)
        # Above the upper lids a highlight below the brow would pass for an eye.
        for index in sorted(set(eye) - set(UPPER_LIDS)):
            places = landmarks[index] + ways[:, None] * (landmarks[index] - middle)
            seen = sample(pixels, places)
            white = _saturation(seen) < 0.6 * _saturation(cheek)
            white &= seen.max(axis=1) > 0.6 * cheek.max()
            if white[1:].any():
                last = np.flatnonzero(white)[-1]
                moved[index] = places[min(last + 2, len(ways) - 1)]
    return moved


def with_shut_lips(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Move the inner lips' landmarks onto the line between lips that are shut.

    Detectors see lips apart that are not, by up to a seventh of the mouth's width. Where nothing
    between them is lighter than lips, as teeth are, and most of it not much darker, as an open
    mouth is, they are shut, and the darkest line parts them.
    """
    pixels = image.astype(np.float32)
    upper, lower = landmarks[_UPPER_INNER], landmarks[_LOWER_INNER]
    ways = np.linspace(-0.3, 1.3, 17)[:, None, None]
    light = sample(pixels, (upper + ways * (lower - upper)).reshape(-1, 2)).mean(axis=1)
    light = light.reshape(len(ways), -1) / max(_lip_colour(pixels, landmarks).mean(), 1.0)
    between = light[3:-3]
    if np.percentile(between, 90) > _LIGHT or np.median(between) < _DARK:
        return landmarks
    line = ways[int(light.mean(axis=1).argmin())]
    shut = landmarks.copy()
    shut[_UPPER_INNER] = shut[_LOWER_INNER] = upper + line * (lower - upper)
    return shut


class Painter:
    """Draws one source under given fields.

    Parameters
    ----------
    image : (S + 2 E, S + 2 E, 3) uint8
    landmarks : (68, 2) float64
        The source's.
    irises : (2, 2) float64
        Their middles; NaN where they are not known, and then they rest.
    edge : int
        E: what lies around the picture that is drawn.
    """

    def __init__(
        self, image: np.ndarray, landmarks: np.ndarray, irises: np.ndarray, edge: int = 0
    ) -> None:
        self.image, self.edge = image.astype(np.float32), edge
        self.size = image.shape[0] - 2 * edge
        steps = np.arange(edge, edge + self.size, dtype=np.float64)
        self.pixels = np.stack(np.meshgrid(steps, steps), axis=-1)
        self.softness = edge_softness(landmarks)
        self.mouth, self.eyes, self.irises = mouth_slit(landmarks), eye_slits(landmarks), irises
        self.lashes = self._lash_colour(landmarks)
        self.lips, self.skin = _lip_colour(self.image, landmarks), self._skin_colour(landmarks)
        self.tint = min(float(_saturation(self.skin)) / _COLOURED, 1.0)

    def paint(
        self,
        landmarks: np.ndarray,
        sources: np.ndarray,
        spacing: float,
        eye_opening: float,
        gaze: np.ndarray,
    ) -> np.ndarray:
        """Draw a frame: (S, S, 3) uint8.

        Parameters
        ----------
        landmarks : (68, 2) float64
            Where the source's landmarks went.
        sources : (3, G, G, 2) float32
            For each node of the grid the place in the source that is seen there, under the
            fields ``upper``, ``lower`` and ``rigid``.
        spacing : float
            Pixels between nodes.
        eye_opening : float
            1 as in the source.
        gaze : (2,) float64
            The irises' way, in widths of an eye.
        """
        eyes, mouth = eye_slits(landmarks), mouth_slit(landmarks)
        flat = self.pixels.reshape(-1, 2)
        lower = lower_share(self.pixels, landmarks, self.softness).reshape(-1, 1)
        upper_places, lower_places = (look_up(grid, spacing, flat) for grid in sources[:2])
        places = upper_places + lower * (lower_places - upper_places)
        if eye_opening < 1:
            for eye, own in zip(eyes, self.eyes, strict=True):
                self._draw_lids(places, lower, eye, own, 1 - eye_opening)
        frame = sample(self.image, places).reshape(self.size, self.size, 3)
        for which, eye in enumerate(eyes):
            self._paint_eye(frame, eye, which, sources[2], spacing, eye_opening, gaze)
        self._paint_mouth(frame, mouth, sources[0], spacing)
        return np.rint(frame).astype(np.uint8)

    def _draw_lids(
        self, places: np.ndarray, lower: np.ndarray, eye: Slit, own: Slit, closed: float
    ) -> None:
        """Have skin and lashes alone go with the lids, and no white of the eye beside them.

        Places in the source's own opening, or nearer to it than landmarks are sure, go to its rim.
        """
        rows, columns = eye.bounds(3 * self.softness, self.size, self.edge)
        grid = places.reshape(self.size, self.size, 2)[rows, columns]
        side = lower.reshape(self.size, self.size)[rows, columns]
        u, v = own.frame(grid)
        top, bottom = own.edges(u)
        rim = _RIM * max(own.gap, 0.0) * np.sqrt(np.clip(4 * u * (1 - u), 0, 1))
        over, under = top - rim, bottom + rim
        back = np.where(side < 0.5, np.minimum(over - v, 0), np.maximum(under - v, 0))
        inside = (v > over) & (v < under) & (u > 0) & (u < 1)
        grid += (back * inside * smoothstep(closed / 0.5))[..., None] * own.down

    def _looking(self, places: np.ndarray, which: int, gaze: np.ndarray) -> np.ndarray:
        """Return which places of a source's eyeball are seen at (N, 2) others after its turn."""
        eye, iris = self.eyes[which], self.irises[which]
        if np.isnan(iris).any() or not gaze.any():
            return places
        way = gaze[0] * eye.along + gaze[1] * eye.down
        away = np.linalg.norm(places - iris - way, axis=1) / eye.width
        share = 1 - smoothstep((away - _IRIS) / (1.6 * np.linalg.norm(gaze) + 0.1))
        moved = places - share[:, None] * way
        # What comes from under a lid looks like what was seen at its rim.
        u, v = eye.frame(moved)
        top, bottom = eye.edges(u)
        rim = np.minimum(_WATERLINE * eye.gap, (bottom - top) / 2)
        kept = np.maximum(np.minimum(v, bottom - rim), top + rim)
        return moved + (kept - v)[:, None] * eye.down

    def _paint_eye(
        self,
        frame: np.ndarray,
        eye: Slit,
        which: int,
        rigid: np.ndarray,
        spacing: float,
        opening: float,
        gaze: np.ndarray,
    ) -> None:
        rows, columns = eye.bounds(3 * self.softness, self.size, self.edge)
        pixels = self.pixels[rows, columns]
        shown = eye.opening(pixels, self.softness)
        if opening > 1:
            # Eyes wider than the source's would show its lids: the eyeball is stretched a little.
            v = eye.frame(pixels)[1]
            pixels = pixels + ((1 / opening - 1) * v)[..., None] * eye.down
        places = look_up(rigid, spacing, pixels.reshape(-1, 2))
        places = self._looking(places, which, gaze)
        eyeball = sample(self.image, places).reshape(*shown.shape, 3)
        patch = frame[rows, columns]
        patch += shown[..., None] * (eyeball - patch)
        closed = smoothstep((0.4 - opening) / 0.4)
        if closed > 0:
            # Where lids meet, their lashes make a dark line.
            u, v = eye.frame(self.pixels[rows, columns])
            top, bottom = eye.edges(u)
            away = (v - (top + bottom) / 2) * eye.width / (1.4 * self.softness)
            taper = np.sqrt(np.clip(4 * u * (1 - u), 0, 1))
            line = 0.7 * closed * taper * np.exp(-(away**2))
            patch += line[..., None] * (np.minimum(self.lashes, patch) - patch)

    def _paint_mouth(
        self, frame: np.ndarray, mouth: Slit, upper: np.ndarray, spacing: float
    ) -> None:
        had_open = smoothstep((self.mouth.gap - _AJAR) / (_OPEN - _AJAR))
        strength = smoothstep((mouth.gap - _AJAR) / (_OPEN - _AJAR))
        if strength == 0:
            return
        rows, columns = mouth.bounds(3 * self.softness, self.size, self.edge)
        pixels = self.pixels[rows, columns]
        # A source that shows its teeth has them up to the lips' very edge, and beyond it.
        fringe = self.softness * had_open
        shown = strength * mouth.opening(pixels, self.softness, fringe)
        # Teeth that the source shows go with its upper lip.
        places = look_up(upper, spacing, pixels.reshape(-1, 2))
        own = sample(self.image, places).reshape(*shown.shape, 3)
        places = places.reshape(*shown.shape, 2)
        had = self.mouth.opening(places, 2 * self.softness)
        # Above the middle of its opening, nothing parts its teeth from its lip.
        had = 1 - self.mouth.below(places, self.softness) * (1 - had)
        # What opens beyond the source is made up, and nothing else.
        beyond = smoothstep((mouth.gap - self.mouth.gap) / (_OPEN - _AJAR))
        made_up = beyond * (1 - had_open * had)[..., None]
        inside = own + made_up * (self._inside(mouth, pixels, teeth=self.mouth.gap < _OPEN) - own)
        patch = frame[rows, columns]
        patch += shown[..., None] * (inside - patch)

    def _inside(self, mouth: Slit, pixels: np.ndarray, *, teeth: bool) -> np.ndarray:
        """A mouth's inside at the pixels around it: dark, with a hint of teeth and tongue."""
        u, v = mouth.frame(pixels)
        top, bottom = mouth.edges(u)
        depth = np.clip((v - top) / np.maximum(bottom - top, 1e-6), 0, 1)[..., None]
        dark = self.lips * np.array([0.22, 0.14, 0.14])
        # Darkest behind the teeth, a little lighter towards the lower lip.
        colour = dark * (0.75 + 0.9 * depth**2)
        tongue = smoothstep((mouth.gap - _TONGUE_FROM) / 0.2)
        heap = (u[..., None] - 0.5) / 0.36
        rise = smoothstep((depth - 0.62 - 0.3 * heap**2) / 0.22) * (np.abs(heap) < 1)
        colour = colour + 0.6 * tongue * rise * (self.lips * np.array([0.62, 0.45, 0.45]) - colour)
        if teeth:
            # A row of upper teeth hangs from under the lip and ends in a flat arc.
            arc = mouth.upper[1, 1:-1].mean() + _TEETH - 0.14 * (2 * u - 1) ** 2
            row = smoothstep((arc - v)[..., None] * mouth.width / (3 * self.softness) + 0.5)
            across = np.clip(1 - np.abs(2 * u - 1) / 0.85, 0, 1)[..., None]
            light = np.clip(self.skin.max() / 215, 0.2, 1.0)
            # Lips so dark lie in the shade, and so do the teeth behind them.
            light *= np.clip(self.lips.max() / max(_SHADED * self.skin.max(), 1.0), 0.6, 1.0)
            # Beside red skin, teeth of no colour would look blue.
            light = light * (self.skin / max(self.skin.mean(), 1.0)) ** 0.35
            enamel = light * np.array([212.0, 200.0, 182.0]) * (0.6 + 0.4 * np.sqrt(across))
            shaded = np.clip((v - top) * mouth.width / (4 * self.softness), 0.7, 1)[..., None]
            visible = 0.92 * row * smoothstep(across * 2.5)
            colour = colour + visible * (enamel * shaded - colour)
        grey = colour.mean(axis=-1, keepdims=True)
        return (grey + self.tint * (colour - grey)).astype(np.float32)

    def _lash_colour(self, landmarks: np.ndarray) -> np.ndarray:
        """The darkest colour around the upper lids."""
        heights = landmarks[UPPER_LIDS] - landmarks[LOWER_LIDS]
        around = np.vstack([landmarks[UPPER_LIDS] + part * heights for part in (-0.1, 0, 0.1, 0.2)])
        colours = sample(self.image, around)
        return colours[colours.sum(axis=1).argmin()].astype(np.float64)

    def _skin_colour(self, landmarks: np.ndarray) -> np.ndarray:
        """Median colour of the cheeks."""
        return _median(self.image, _cheeks(landmarks))


# Outer (from 48) and inner (from 60) lip points with lip between them.
_LIP_MIDDLES = [(1, 1), (2, 1), (3, 2), (4, 3), (5, 3), (7, 5), (8, 5), (9, 6), (10, 7), (11, 7)]


def _lip_colour(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Median colour between the outer and the inner lips."""
    ring = [(landmarks[48 + k] + landmarks[60 + j]) / 2 for k, j in _LIP_MIDDLES]
    return _median(image, np.array(ring))


def _median(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.median(sample(image, points), axis=0).astype(np.float64)


def _cheeks(landmarks: np.ndarray) -> np.ndarray:
    """Points between nose and jaw: (4, 2)."""
    return (landmarks[[31, 31, 35, 35]] + landmarks[[2, 3, 13, 14]]) / 2


def _saturation(colours: np.ndarray) -> np.ndarray:
    most = np.maximum(colours.max(axis=-1), 1.0)
    return 1 - colours.min(axis=-1) / most
