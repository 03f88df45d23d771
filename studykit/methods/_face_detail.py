"""What landmarks leave out of a face's motion, read off the pixels and carried to another face.

Cheeks that fill, brows that draw together, lips that press and skin between all landmarks: a warp
by landmarks alone leaves these as they were, and is itself as far off as its landmarks are. What is
missing is small, so an optical flow finds it: between the driving's first face, and each other one
turned back to it by the landmarks' warp.
"""

import numpy as np

from studykit.media.geometry import smoothstep
from studykit.media.pose import face_model
from studykit.methods._warp_geometry import (
    CANVAS,
    GRID,
    Field,
    Motion,
    beside_eyes,
    fit_head,
    in_plane,
    limited,
    motion_since,
    moved_head,
    thin_plate,
    unfolded,
)

# The grid on the generic face, seen from the front, in millimetres: its step, how far it goes
# beyond the landmarks to the sides and below, and above, where forehead and hair are; and how much
# finer the flow is computed.
_STEP, _BESIDE, _ABOVE, _FINER = 5.0, 20.0, 35.0, 2
_LAYOUT = face_model()[:, :2]
_FIRST = _LAYOUT.min(axis=0) - [_BESIDE, _ABOVE]
_COLUMNS, _ROWS = np.ceil((_LAYOUT.max(axis=0) + _BESIDE - _FIRST) / _STEP).astype(int) + 1
SHAPE = (int(_ROWS), int(_COLUMNS), 2)
"""Of a detail: rows, columns, and the ways to the right and down, in millimetres."""

# Bending of the plate that takes the generic face to another one: landmarks are a little off.
_STIFFNESS = 1e-3
# Radius of the flow's Gaussian window in its own pixels, of which smaller ones take light for
# motion, and larger ones smooth it away; and how often an image is warped.
_RADIUS, _WARPS = 2.6, 3
# About how long a way is, in millimetres, before it is not believed.
_LONG = 8.0
# Believed only in the landmarks' hull, so much widened, and the forehead so far above the brows;
# not in the eyes' ellipses so grown: lids and irises have ways of their own.
_HULL, _FOREHEAD, _EYES_TO = 1.15, 35.0, (2.0, 6.0)
# Light is compared with what lies within so many of the flow's pixels, in deviations there, of at
# least so much of 1; and how many deviations apart is what belongs to something else.
_SHADE, _FLAT, _UNLIKE = 4.0, 0.03, 0.5
# How widely ways are averaged, in steps, and where few are believed; and what no way counts.
_NEAR, _WIDE, _NONE, _FEW = 0.6, 2.0, 0.02, 0.3
# Where no more than the first part of the face is believed, nothing is; from the second on, all is.
_LOST, _FOUND = 0.05, 0.35
# From so many steps within its border on a detail holds in full.
_FADE = 4.0
# Which part of its area a detail may squeeze what it moves to.
_LEAST = 0.1


class DetailReader:
    """Reads what a warp by landmarks misses of each frame of a driving.

    The flow is that of G. Le Besnerais and F. Champagnat 2005, "Dense optical flow by iterative
    local window registration"; where it would take a point further than landmarks can be off, and
    where it finds no likeness, it counts less, and what lies around counts instead.

    Parameters
    ----------
    frame : (S, S, 3) uint8
        The one that motion counts from.
    points : (70, 2) float64
        Landmarks and irises of the face in it, in its pixels.
    """

    def __init__(self, frame: np.ndarray, points: np.ndarray) -> None:
        from studykit.methods._warp_paint import edge_softness, lower_share

        rows, columns = (np.arange(0, n - 1 + 1e-6, 1 / _FINER) for n in SHAPE[:2])
        places = np.stack(np.meshgrid(columns, rows), axis=-1)
        self._fine = places.shape[:2]
        on_face = (_FIRST + _STEP * places).reshape(-1, 2)
        self._reference, self._edge = fit_head(points[:68]), frame.shape[0] // CANVAS
        landmarks = points[:68] + self._edge
        self.field = Field(fit_head(landmarks), frame.shape[0] + 2 * self._edge)
        self._points = thin_plate(_LAYOUT, on_face, 1.0, stiffness=_STIFFNESS) @ landmarks
        self._below = lower_share(self._points, landmarks, edge_softness(landmarks))[:, None]
        self._believed = _believed(on_face.reshape(*self._fine, 2)[::_FINER, ::_FINER])
        self._light = self._unwarped(frame, self._points)

    def read(self, frame: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Return what the landmarks of a frame leave out.

        Parameters
        ----------
        frame : (S, S, 3) uint8
        points : (70, 2) float64

        Returns
        -------
        (rows, columns, 2) float32
            Each point's way in the plane of the face, in millimetres.
        """
        from scipy.ndimage import gaussian_filter
        from skimage.registration import optical_flow_ilk

        motion = self.field.bearable(limited(motion_since(self._reference, points[:68])))
        _, shifts = self.field.move(motion)
        upper, lower = (self.field.at(one, self._points) for one in shifts[:2])
        places = self._points + upper + self._below * (lower - upper)
        seen = self._unwarped(frame, places)
        flow = optical_flow_ilk(self._light, seen, radius=_RADIUS, num_warp=_WARPS, gaussian=True)
        flow += np.mgrid[: self._fine[0], : self._fine[1]]
        grid = np.moveaxis(places.reshape(*self._fine, 2), -1, 0)
        truly = np.stack([_read(part, flow[:, ::_FINER, ::_FINER]) for part in grid])
        head = moved_head(self.field.head, motion)
        missing = (truly - grid[:, ::_FINER, ::_FINER]).reshape(2, -1).T / head.scale
        ways = in_plane(missing, head.rotation).reshape(SHAPE)

        weight = self._believed / (1 + (np.linalg.norm(ways, axis=-1) / _LONG) ** 4)
        unlike = gaussian_filter((_read(seen, flow) - self._light) ** 2, _SHADE / 2)
        weight /= (1 + unlike[::_FINER, ::_FINER] / _UNLIKE**2) ** 2
        away = np.abs(truly - self._edge - (len(frame) - 1) / 2).max(axis=0)
        weight *= away < len(frame) / 2 - 2
        # A frame of which hardly anything is believed has moved further than a flow can find.
        known = smoothstep((weight.sum() / self._believed.sum() - _LOST) / (_FOUND - _LOST))
        return (known * _averaged(ways, weight)).astype(np.float32)

    def _unwarped(self, frame: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Read how much lighter a frame is at places on the canvas than around, in deviations."""
        from scipy.ndimage import gaussian_filter

        step = _STEP / _FINER * self._reference.scale  # in pixels, of which none is to be missed
        grey = gaussian_filter(frame.mean(axis=2, dtype=np.float32) / 255, max(step - 1, 0) / 2)
        light = _read(grey, (places - self._edge).T[::-1]).reshape(self._fine)
        light -= gaussian_filter(light, _SHADE)
        return light / np.sqrt(gaussian_filter(light**2, 2 * _SHADE) + _FLAT**2)


class DetailedField:
    """A source's displacement fields with what its landmarks leave out of a driving's motion.

    Parameters
    ----------
    field : Field
        The source's.
    """

    def __init__(self, field: Field) -> None:
        self.field = field
        landmarks = field.head.landmarks
        plate = thin_plate(landmarks, field.nodes, field.head.scale, stiffness=_STIFFNESS)
        self._places = ((plate @ _LAYOUT - _FIRST) / _STEP).T[::-1]
        last = np.array(SHAPE[:2])[:, None] - 1
        inside = np.minimum(self._places, last - self._places).min(axis=0)
        self._share = (smoothstep(inside / _FADE) * field.expressive())[:, None]

    def move(self, motion: Motion, detail: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what :meth:`Field.move` does, with a detail as :class:`DetailReader` gives it."""
        _, shifts = self.field.move(motion)
        ways = np.stack([_read(part, self._places) for part in np.moveaxis(detail, -1, 0)], axis=-1)
        head = moved_head(self.field.head, motion)
        extra = head.scale * (self._share * ways) @ head.rotation[:2, :2].T
        extra = extra.reshape(GRID, GRID, 2)
        extra = unfolded(shifts[:2], extra, self.field.spacing, _LEAST)
        shifts = shifts + extra
        return self.field.landmarks_after(shifts), shifts


def _read(grid: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Interpolate a grid at rows and columns, (2, ...)."""
    from scipy.ndimage import map_coordinates

    return map_coordinates(grid, places, order=1, mode="nearest")


def _averaged(ways: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Average (rows, columns, 2) ways by how much each counts; more widely where few do."""
    from scipy.ndimage import gaussian_filter

    def around(spread: float) -> tuple[np.ndarray, np.ndarray]:
        counted = gaussian_filter(weight, spread)[..., None]
        total = gaussian_filter(ways * weight[..., None], (spread, spread, 0))
        return total / (counted + _NONE), counted

    near, counted = around(_NEAR)
    wide, _ = around(_WIDE)
    return wide + np.clip(counted / _FEW, 0, 1) * (near - wide)


def _believed(points: np.ndarray) -> np.ndarray:
    """At which (..., 2) points of the generic face a flow tells of the face alone: 0 or 1."""
    from scipy.spatial import Delaunay

    hull = np.vstack([_LAYOUT, _LAYOUT[17:27] - [0, _FOREHEAD]])
    middle = hull.mean(axis=0)
    inside = Delaunay(_HULL * (hull - middle) + middle).find_simplex(points) >= 0
    inside &= beside_eyes(points, _LAYOUT, _EYES_TO)
    return inside.astype(np.float64)
