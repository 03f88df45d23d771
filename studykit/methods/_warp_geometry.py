"""Where a warp moves things: heads, their motion, and the displacement fields that follow from it.

A head is the generic 3-D face fitted to landmarks, so that a turn shifts the nose more than the
cheeks and leaves the head's outline where it is, as a real turn does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from studykit.media.geometry import smoothstep
from studykit.media.pose import RIGID_POINTS, face_model, fit_scaled_orthographic

CANVAS = 4
"""What a picture's side is divided by to give how far the canvas goes beyond it."""

# Nodes a side of the grid on which displacements are computed: two pixels apart at 256.
GRID = 129

# The model's point, in millimetres, about which limited turns leave the head in place: between
# the ears.
_PIVOT = np.array([0.0, 30.0, -60.0])
# The skull with hair as an ellipsoid, in millimetres.
_SKULL_CENTRE = np.array([0.0, -8.0, -70.0]) - _PIVOT
_SKULL_AXES = np.array([84.0, 124.0, 100.0])

# What a flat picture bears before the far side of the head that it can't show is missed, per
# axis (pitch, yaw, roll, in degrees), per direction (in millimetres of the head), in log size.
_MAX_TURN = np.deg2rad([24.0, 34.0, 30.0])
_MAX_SHIFT = 45.0
# The head may squeeze what lies beside it to this part of its area, not further.
_LEAST_AREA = 0.125
# A turn may squeeze what it hides to this part of its area, and stretch eyes and mouth to that.
_LEAST_TURNED, _MOST_AREA = 0.3, 1.6
# How far an iris can go in its eye, in widths of that, to a side and up or down; and how much
# further irises go than MediaPipe sees them: 1.7 times on rendered faces, but what is stretched so
# far looks odd in drawn eyes.
_MAX_GAZE, _GAZE_GAIN = np.array([0.22, 0.1]), 1.3
_MAX_GROWTH = 0.2

EYES = (slice(36, 42), slice(42, 48))
UPPER_LIDS, LOWER_LIDS = [37, 38, 43, 44], [41, 40, 47, 46]
UPPER_LIP, LOWER_LIP = [49, 50, 51, 52, 53, 61, 62, 63], [55, 56, 57, 58, 59, 65, 66, 67]
# Inner lip points that meet when the mouth closes, with the outer ones that go with them.
_LIP_PAIRS = [(61, (49, 50), 67, (58, 59)), (62, (51,), 66, (57,)), (63, (52, 53), 65, (55, 56))]

# How much of the driving's expression each landmark takes over. The jaw line's ends slide along
# the cheeks from frame to frame, the bridge of the nose and the eyes' corners belong to the
# skull, and the lids follow the eyes' opening instead.
_EXPRESSIVE = np.ones(68)
_EXPRESSIVE[0:17] = [0, 0, 0, 0.15, 0.4, 0.7, 0.9, 1, 1, 1, 0.9, 0.7, 0.4, 0.15, 0, 0, 0]
_EXPRESSIVE[27:31] = 0
_EXPRESSIVE[31:36] = 0.5
_EXPRESSIVE[36:48] = 0

# How far faces can move each landmark sideways, in millimetres: what goes further is the pose's
# error, for brows and jaws of turned heads are seen elsewhere than the generic face has them.
_MOST_SIDEWAYS = np.repeat([4.0, 20.0, 10.0], [27, 21, 20])

# How much larger than an eye's landmarks reach the ellipse around it is.
_AROUND_EYE = 1.2
# dlib sees a shut eye as one 0.6 times as open, and an open one as 0.8 to 1.2 from frame to frame.
_EYE_SHUT, _EYE_NARROW, _EYE_WIDE = 0.6, 0.85, 1.25
# The upper lid makes most of a blink's way.
_UPPER_LID_SHARE = 0.85
# dlib sets the lids' points a little inside the eye: shut lids overlap by this part of its height,
# so that no white stays between them.
_LID_OVERLAP = 0.22
# Changes of the gap between lips below this, in millimetres, are noise; what is left of larger ones
# falls short by this factor, on rendered faces, whether dlib or MediaPipe sees them.
_LIP_NOISE, _LIP_GAIN = 1.5, 1.3
# Nearer to the face's outline than this, in millimetres, no lip goes that was not so near before.
_LIP_ROOM = 10.0
# How much of the widest gap that opens between lips the jaw drops by.
_JAW_SHARE = 0.5
# Nearer to the lips than this part of the chin's distance, a point of the jaw is behind them.
_HIDDEN_JAW = 0.75
# What a mouth leaves alone that opens; to which part of its area it may squeeze the skin around the
# lips, and how many nodes of that are looked at.
_STILL_IN_SPEECH = [*range(3), *range(14, 48)]
_LEAST_LIPS, _AROUND_LIPS = 0.06, 4
# How often what folds is smoothed, and how much more widely each time, in nodes.
_ROUNDS, _SMOOTHER = 7, 1.5


@dataclass(frozen=True)
class Head:
    """A face's own 3-D landmarks and how they are seen: scale * (shape @ rotation.T) + offset.

    Attributes
    ----------
    landmarks : (68, 2) float64
        As found in the image, in pixels.
    shape : (68, 3) float64
        In millimetres of a generic head, from the pivot between the ears.
    rotation : (3, 3) float64
    scale : float
        Pixels a millimetre.
    offset : (2,) float64
        Where the pivot is seen.
    """

    landmarks: np.ndarray
    shape: np.ndarray
    rotation: np.ndarray
    scale: float
    offset: np.ndarray

    def seen(self, shape: np.ndarray | None = None) -> np.ndarray:
        """Return where its shape, or another, is seen: (68, 2), in pixels."""
        shape = self.shape if shape is None else shape
        return self.scale * shape @ self.rotation[:2].T + self.offset


@dataclass(frozen=True)
class Motion:
    """What a head did since its reference frame, free of its size and place.

    Attributes
    ----------
    turn : (3,) float64
        The rotation in the camera's frame, as a vector along its axis, in radians.
    growth : float
        The logarithm of its size relative to the reference.
    shift : (2,) float64
        The pivot's way, in millimetres of the head.
    expression : (68, 2) float64
        Each landmark's way in the plane of the face, in millimetres.
    eye_opening : float
        1 as in the reference, 0 shut.
    gaze : (2,) float64
        The irises' way between the eyes' corners, to the right and down, in widths of an eye; 0
        where no irises are known.
    """

    turn: np.ndarray
    growth: float
    shift: np.ndarray
    expression: np.ndarray
    eye_opening: float
    gaze: np.ndarray = field(default_factory=lambda: np.zeros(2))


def fit_head(landmarks: np.ndarray) -> Head:
    """Fit the generic head and bend it, in its own plane, onto these (68, 2) landmarks."""
    return bent_onto(landmarks, posed(face_model() - _PIVOT, landmarks))


def bent_onto(landmarks: np.ndarray, head: Head) -> Head:
    """Keep a head's pose and move its shape, in the plane of the face, onto other landmarks."""
    shape = head.shape.copy()
    shape[:, :2] += _ways_to(landmarks, head)
    return replace(head, landmarks=landmarks, shape=shape)


def motion_since(
    reference: Head, landmarks: np.ndarray, expressive: np.ndarray = _EXPRESSIVE
) -> Motion:
    """Describe how a head moved from its reference frame to these (68, 2) landmarks.

    ``expressive`` says how much of each landmark's way in the plane of the face counts: (68,).
    """
    from scipy.spatial.transform import Rotation

    now = posed(reference.shape, landmarks)
    ways = _ways_to(landmarks, now) - _ways_to(reference.landmarks, reference)
    ratio = _eye_aspect(landmarks) / max(_eye_aspect(reference.landmarks), 1e-6)
    shut = smoothstep((_EYE_NARROW - ratio) / (_EYE_NARROW - _EYE_SHUT))
    return Motion(
        turn=Rotation.from_matrix(now.rotation @ reference.rotation.T).as_rotvec(),
        growth=float(np.log(now.scale / reference.scale)),
        shift=(now.offset - reference.offset) / reference.scale,
        expression=ways * expressive[:, None],
        eye_opening=float(min(ratio, _EYE_WIDE) * (1 - shut)),
    )


def gaze_since(reference: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the (2,) gaze of a :class:`Motion` between two (70, 2) faces with irises."""
    way = _irises(points) - _irises(reference)
    return np.zeros(2) if np.isnan(way).any() else _saturated(_GAZE_GAIN * way, _MAX_GAZE)


def _irises(points: np.ndarray) -> np.ndarray:
    """Mean place of the irises between the eyes' corners: along the line and below it."""
    return in_eyes(points).mean(axis=0)


def in_eyes(points: np.ndarray) -> np.ndarray:
    """Return where the irises of a (70, 2) face are between the eyes' corners.

    Along the line and below it, in widths of the eye: (2 eyes, 2).
    """
    across, below = _eye_axes(points)
    away = points[68:] - points[[36, 42]]
    parts = [(away * axis).sum(axis=1) / (across**2).sum(axis=1) for axis in (across, below)]
    return np.stack(parts, axis=1)


def beside_eyes(points: np.ndarray, shape: np.ndarray, margin: tuple[float, float]) -> np.ndarray:
    """Say which points of a face lie in none of the ellipses around its eyes: (...) bool.

    Parameters
    ----------
    points : (..., 2) float64
        In the plane of the face, in millimetres.
    shape : (68, 2) float64
        Its landmarks there.
    margin : (float, float)
        By how much the ellipses are larger to the sides, and up and down.
    """
    beside = np.ones(points.shape[:-1], bool)
    for eye in EYES:
        middle = shape[eye].mean(axis=0)
        axes = _AROUND_EYE * np.abs(shape[eye] - middle).max(axis=0) + margin
        beside &= (((points - middle) / axes) ** 2).sum(axis=-1) > 1
    return beside


def irises_at(landmarks: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the irises that are at (2 eyes, 2) places between a face's corners: (2, 2)."""
    across, below = _eye_axes(landmarks)
    return landmarks[[36, 42]] + places[:, :1] * across + places[:, 1:] * below


def _eye_axes(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    across = points[[39, 45]] - points[[36, 42]]
    return across, np.stack([-across[:, 1], across[:, 0]], axis=1)


def moved_head(head: Head, motion: Motion) -> Head:
    """Return a head after a motion, its landmarks where they were."""
    return replace(
        head,
        rotation=_turn(motion) @ head.rotation,
        scale=head.scale * np.exp(motion.growth),
        offset=head.offset + motion.shift * head.scale,
    )


def moved_landmarks(head: Head, motion: Motion) -> np.ndarray:
    """Return where a motion takes a head's landmarks, (68, 2), each as far as it says."""
    now, shape = moved_head(head, motion), head.shape.copy()
    shape[:, :2] += motion.expression
    return head.landmarks + now.seen(shape) - head.seen()


def posed(shape: np.ndarray, landmarks: np.ndarray) -> Head:
    """Find the pose in which a (68, 3) shape is seen at (68, 2) landmarks."""
    pose = fit_scaled_orthographic(shape[RIGID_POINTS], landmarks[RIGID_POINTS])
    return Head(landmarks, shape, *pose)


def _ways_to(landmarks: np.ndarray, head: Head) -> np.ndarray:
    """Return how far a head's shape is from landmarks, (68, 2), in the plane of the face.

    The plane is seen foreshortened; undoing that is damped, else a side view would blow up noise.
    """
    misfit = (landmarks - head.offset) / head.scale - head.shape @ head.rotation[:2].T
    return in_plane(misfit, head.rotation)


def in_plane(ways: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Return the ways in the plane of a turned face, (N, 2), that are seen as these."""
    seen = rotation[:2, :2]
    return ways @ np.linalg.solve(seen.T @ seen + 0.1 * np.eye(2), seen.T * 1.1).T


class Field:
    """The displacement fields of one source: what a motion does to each node of the grid.

    Three fields share the head's rigid motion, which falls off to nothing towards the image's
    border. ``upper`` follows the upper lids and lip beside the rest of the face, ``lower`` the
    lower ones; neither knows of the other's lids and lip, so that neither is torn where these
    part. ``rigid`` has no expression: eyeballs lie there.

    Parameters
    ----------
    head : Head
        The source's.
    size : int
        Side of the source image in pixels.
    """

    def __init__(self, head: Head, size: int) -> None:
        self.head = head
        self.size = size
        self.spacing = (size - 1) / (GRID - 1)
        steps = np.arange(GRID) * self.spacing
        self.nodes = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
        self._outline_axes, self._outline_centre = _skull_outline(head)
        self.weight = self._head_weight()
        nearest = np.clip(np.rint(head.landmarks[36:] / self.spacing).astype(int), 0, GRID - 2)
        self._eyes_and_mouth = nearest[:, 1], nearest[:, 0]
        self._seen = np.column_stack([(self.nodes - head.offset) / head.scale, self._depth()])
        unseen = (LOWER_LIDS + LOWER_LIP, UPPER_LIDS + UPPER_LIP)
        self._operators = np.stack([self._expression_operator(without=one) for one in unseen])
        lips = np.clip(head.landmarks[48:] / self.spacing, 0, GRID - 2).astype(int)
        left, top = np.maximum(lips.min(axis=0) - _AROUND_LIPS, 0)
        right, bottom = lips.max(axis=0) + _AROUND_LIPS + 2
        self._lips = np.s_[:, top:bottom, left:right]
        self._near_lips = self._operators.reshape(2, GRID, GRID, 68)[self._lips].copy()

    def move(self, motion: Motion) -> tuple[np.ndarray, np.ndarray]:
        """Return what a motion does to the source.

        Returns
        -------
        landmarks : (68, 2) float64
            Where the source's landmarks go.
        shifts : (3, GRID, GRID, 2) float32
            Displacement of each node under ``upper``, ``lower`` and ``rigid``, in pixels.
        """
        turn, scale = _turn(motion), self.head.scale * np.exp(motion.growth)
        shift = self._rigid(replace(motion, turn=np.zeros(3)))
        # What a turn hides grows narrow, and what lies beside that makes room.
        turned = unfolded(shift[None], self._rigid(motion) - shift, self.spacing, _LEAST_TURNED)
        rigid = (shift + turned).reshape(-1, 2)
        in_plane = self._fitting_expression(motion)
        expressed = scale * in_plane @ (turn @ self.head.rotation)[:2, :2].T
        expressed[48:] += self._inside_outline(rigid, expressed)
        shifts = np.empty((3, GRID * GRID, 2), dtype=np.float32)
        shifts[:] = rigid
        shifts[:2] += self._as_lips_bear(rigid, expressed)
        shifts = shifts.reshape(3, GRID, GRID, 2)

        return self.landmarks_after(shifts), shifts

    def landmarks_after(self, shifts: np.ndarray) -> np.ndarray:
        """Return where shifts, as :meth:`move` gives them, take the landmarks: (68, 2)."""
        points, low = self.head.landmarks, LOWER_LIDS + LOWER_LIP
        landmarks = points + self.at(shifts[0], points)
        landmarks[low] = points[low] + self.at(shifts[1], points[low])
        return landmarks

    def bearable(self, motion: Motion) -> Motion:
        """Reduce the head's motion until no part of the picture shrinks or stretches too far.

        The turn is reduced until it stretches neither eyes nor mouth, as one back to the camera
        does: what turns into view is not in the picture. Shift and growth are reduced alike until
        nothing is squeezed. Each by as little as it takes.
        """

        def unstretched(part: float) -> float:
            turned = replace(motion, turn=part * motion.turn, growth=0.0, shift=np.zeros(2))
            seen = area_changes(self._rigid(turned), self.spacing)[self._eyes_and_mouth]
            return min(_MOST_AREA - float(seen.max()), float(seen.min()))

        def unsqueezed(part: float) -> float:
            # At every node: where the head's weight bends, every other misses half of the squeeze.
            shift = self._rigid(replace(head_part(motion, part), turn=np.zeros(3)))
            return float(area_changes(shift, self.spacing).min()) - _LEAST_AREA

        turned, moved = most(unstretched, 2e-3), most(unsqueezed, 2e-3)
        if turned == moved == 1:
            return motion
        return replace(head_part(motion, moved), turn=turned * motion.turn)

    def _as_lips_bear(self, rigid: np.ndarray, expressed: np.ndarray) -> np.ndarray:
        """How far the landmarks' ways take each node of ``upper`` and ``lower``: (2, N, 2).

        Mouth and jaw make as much of theirs as the skin around the lips bears: those of a face seen
        from the side lie so near to each other that wide mouths would fold it.
        """
        ways = expressed.astype(np.float32)
        moves = self._operators @ ways
        ways[_STILL_IN_SPEECH] = 0
        opened = self._near_lips @ ways
        still = (rigid + moves).reshape(2, GRID, GRID, 2)[self._lips] - opened

        def room(part: float) -> float:
            fields = still + part * opened
            return min(area_changes(one, self.spacing).min() for one in fields) - _LEAST_LIPS

        if room(1.0) < 0 < room(0.0):
            moves -= np.float32(1 - most(room, 5e-3)) * (self._operators @ ways)
        return moves

    def _rigid(self, motion: Motion) -> np.ndarray:
        """How far the head's motion alone moves each node: (GRID, GRID, 2)."""
        head = self.head
        scale = head.scale * np.exp(motion.growth)
        offset = head.offset + motion.shift * head.scale
        moved = scale * self._seen @ _turn(motion)[:2].T + offset
        return ((moved - self.nodes) * self.weight[:, None]).reshape(GRID, GRID, 2)

    def _inside_outline(self, rigid: np.ndarray, expressed: np.ndarray) -> np.ndarray:
        """How far the lips are to go back where they would pass the jaw's outline: (20, 2).

        On the far side of a turned face they lie near it; a lip that is drawn wide goes round the
        teeth, and not beyond the cheek.
        """
        points, up = self.head.landmarks, head_up(self.head)
        right = np.array([-up[1], up[0]])
        moved = points + self.at(rigid.reshape(GRID, GRID, 2), points) + expressed

        def clearance(face: np.ndarray, jaw: slice, side: float) -> np.ndarray:
            heights = np.maximum.accumulate(face[jaw] @ -up)
            return side * (
                np.interp(face[48:] @ -up, heights, face[jaw] @ right) - face[48:] @ right
            )

        back = np.zeros(20)
        for jaw, side in ((slice(0, 9), -1.0), (slice(16, 7, -1), 1.0)):
            wanted = np.minimum(clearance(points, jaw, side), _LIP_ROOM * self.head.scale)
            back -= side * np.maximum(wanted - clearance(moved, jaw, side), 0)
        return back[:, None] * right

    def _fitting_expression(self, motion: Motion) -> np.ndarray:
        """The driving's expression as this face can make it: lids by their opening, lips closed."""
        shape = self.head.shape[:, :2]
        moves = motion.expression.copy()
        moves[:, 0] = _saturated(moves[:, 0], _MOST_SIDEWAYS)
        closing = 1 - motion.eye_opening
        aperture = shape[LOWER_LIDS] - shape[UPPER_LIDS]
        overlap = _LID_OVERLAP * max(closing, 0.0) ** 2
        moves[UPPER_LIDS] = (closing * _UPPER_LID_SHARE + overlap) * aperture
        moves[LOWER_LIDS] = -(closing * (1 - _UPPER_LID_SHARE) + overlap) * aperture
        most = 0.0
        for upper, with_upper, lower, with_lower in _LIP_PAIRS:
            gap = shape[lower, 1] - shape[upper, 1]
            opening = moves[lower, 1] - moves[upper, 1]
            opened = _beyond(opening, _LIP_NOISE) * (_LIP_GAIN if opening > 0 else 1)
            wanted = max(gap + opened, min(gap, 0.0))
            correction = wanted - gap - opening
            rise = min(correction, 0.0) / 2  # what is added to an opening is the jaw's
            moves[[upper, *with_upper], 1] -= rise
            moves[[lower, *with_lower], 1] += correction - rise
            most = max(most, wanted - gap)
        # A jaw is one bone: it drops with the lip, where detectors hold the chin up.
        jaw = slice(3, 14)
        moves[jaw, 1] = np.maximum(moves[jaw, 1], _JAW_SHARE * most * _EXPRESSIVE[jaw])
        return moves

    def at(self, grid: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Read one of the shifts at (N, 2) points."""
        from studykit.methods._warp_kernels import look_up

        return look_up(grid, self.spacing, points).astype(np.float64)

    def _radius(self, points: np.ndarray) -> np.ndarray:
        """Distance from the skull's centre, 1 at its outline."""
        away = np.linalg.solve(self._outline_axes, (points - self._outline_centre).T)
        return np.sqrt((away**2).sum(axis=0))

    def _outline(self, radius: float, count: int = 32) -> np.ndarray:
        angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
        ring = np.stack([np.cos(angles), np.sin(angles)])
        return self._outline_centre + radius * (self._outline_axes @ ring).T

    def _border(self) -> np.ndarray:
        """Distance of each node to the image's border, as a fraction of the side."""
        inside = np.minimum(self.nodes, self.size - 1 - self.nodes).min(axis=1)
        return inside / (self.size - 1)

    def _head_weight(self) -> np.ndarray:
        """How much each node goes with the head: 1 in it, smoothly 0 at the border and far off.

        The smoothest way between the two is a harmonic function, eased at both ends.
        """
        from scipy.sparse.linalg import LaplacianNd, spsolve

        radius, border = self._radius(self.nodes), self._border()
        fixed_one = (radius <= _HELD_RADIUS) & (border >= _HEAD_MARGIN)
        fixed_zero = (border <= 0) | (radius >= _FREE_RADIUS)
        free = ~(fixed_one | fixed_zero)
        weight = fixed_one.astype(np.float64)
        operator = LaplacianNd((GRID, GRID), boundary_conditions="dirichlet", dtype=np.float64)
        laplacian = operator.tosparse().tocsr()
        weight[free] = spsolve(laplacian[free][:, free].tocsc(), -laplacian[free] @ weight)
        return smoothstep(weight)

    def _depth(self) -> np.ndarray:
        """Millimetres towards the viewer at each node: the face's, and the skull's outline's."""
        head = self.head
        depth = (head.shape @ head.rotation.T)[:, 2]
        middle = (head.rotation @ _SKULL_CENTRE)[2]
        rings = np.vstack([self._outline(1.15), self._outline(1.5)])
        points = np.vstack([head.landmarks, rings])
        values = np.concatenate([depth, np.full(len(rings), middle)])
        operator = thin_plate(points, self.nodes, self.head.scale, stiffness=3e-2)
        surface = operator @ values
        outside = smoothstep((self._radius(self.nodes) - 1.0) / 0.5)
        return surface * (1 - outside) + middle * outside

    def expressive(self) -> np.ndarray:
        """How much of the face's expressions each node takes part in: 0 beside the head."""
        edge = smoothstep(self._border() / _BORDER_BAND)
        return edge * (1 - smoothstep((self._radius(self.nodes) - 1.1) / 0.4))

    def _expression_operator(self, *, without: list[int]) -> np.ndarray:
        """Matrix (nodes, 68) from the landmarks' moves to the nodes'."""
        points = self.head.landmarks
        # The far jaw of a turned face lies behind its lips, and would hold them where they are.
        away = np.linalg.norm(points[:17, None] - points[48:], axis=2).min(axis=1)
        hidden = np.flatnonzero(away < _HIDDEN_JAW * np.linalg.norm(points[57] - points[8]))
        used = [index for index in range(68) if index not in {*without, *hidden}]
        ring = self._outline(1.0, 48)
        # Hair, forehead and ears stay on the skull; the neck may follow the jaw.
        upward = head_up(self.head)
        held = ring[(ring - points[30]) @ upward > 0]
        loose = self._outline(1.5, 48)
        # A thin plate pressed down at the lids would rise at the forehead.
        brows = points[17:27]
        forehead = [brows + way * self.head.scale * upward for way in _FOREHEAD]
        anchors = np.vstack([held, loose, *forehead])
        # Brows are hair above bone: a lid that closes draws skin from below them.
        gap = (brows.mean(axis=0) - points[UPPER_LIDS].mean(axis=0)) @ upward
        below = brows - _BROW_SHARE * gap * upward
        operator = thin_plate(
            np.vstack([points[used], below, anchors]), self.nodes, self.head.scale, stiffness=1e-4
        )
        full = np.zeros((len(self.nodes), 68), dtype=np.float32)
        reach = self.expressive()[:, None]
        full[:, used] = operator[:, : len(used)] * reach
        full[:, 17:27] += operator[:, len(used) : len(used) + len(below)] * reach
        return full


# Parts of the outline's radius: within the first the head is rigid, beyond the second all is still.
_HELD_RADIUS, _FREE_RADIUS = 0.9, 2.2
# Where the forehead keeps still, in millimetres above the brows.
_FOREHEAD = (22.0, 42.0)
# How much of the way from the brows' points to the lids is brow, and moves as they do.
_BROW_SHARE = 0.5
# Nearer to the border than the first fraction of the side, the head begins to stay behind; nearer
# than the second, expressions do.
_HEAD_MARGIN, _BORDER_BAND = 0.16, 0.08


def head_up(head: Head) -> np.ndarray:
    """Return the (2,) unit vector in the image that points to the top of the head."""
    up = -head.rotation[:2, 1]
    return up / np.linalg.norm(up)


def area_changes(shift: np.ndarray, spacing: float) -> np.ndarray:
    """Return the Jacobian determinants of p + shift(p) over a (G, G, 2) grid; <= 0 folds."""
    along_x = np.diff(shift, axis=1)[:-1] / spacing
    along_y = np.diff(shift, axis=0)[:, :-1] / spacing
    return (1 + along_x[..., 0]) * (1 + along_y[..., 1]) - along_x[..., 1] * along_y[..., 0]


def unfolded(shifts: np.ndarray, extra: np.ndarray, spacing: float, least: float) -> np.ndarray:
    """Smooth what comes on top of shifts where both would fold the picture.

    Parameters
    ----------
    shifts : (N, G, G, 2) float
    extra : (G, G, 2) float
        What is added to each.
    spacing : float
        Pixels between nodes.
    least : float
        Which part of its area anything may be squeezed to, unless shifts alone squeeze it further.

    Returns
    -------
    (G, G, 2) float32
    """
    from scipy.ndimage import gaussian_filter, maximum_filter

    before = (area_changes(s, spacing) for s in shifts)
    bounds = [np.minimum(least, areas - 0.1 * np.abs(areas)) for areas in before]

    def lacking(part: float) -> np.ndarray:
        areas = [area_changes(s + part * extra, spacing) for s in shifts]
        return np.max(np.subtract(bounds, areas), axis=0)

    for turn in range(_ROUNDS):
        folds = np.clip(lacking(1.0) / (least / 2), 0, 1)
        if not folds.any():
            return extra.astype(np.float32)
        folds = np.pad(maximum_filter(folds, 3 + 2 * turn), (0, 1))
        share = np.clip(1.2 * gaussian_filter(folds, 1.0 + turn), 0, 1)[..., None]
        spread = _SMOOTHER * (1 + turn)
        extra = extra + share * (gaussian_filter(extra, (spread, spread, 0)) - extra)
    part = most(lambda part: -float(lacking(part).max()), 5e-3)
    return (part * extra).astype(np.float32)


def most(room: Callable[[float], float], within: float) -> float:
    """Return the part of a motion, 0 to 1, at which no room is left."""
    from scipy.optimize import brentq

    if room(1.0) >= 0:
        return 1.0
    return brentq(room, 0.0, 1.0, xtol=within)


def head_part(motion: Motion, part: float) -> Motion:
    """Return a motion with a part of its turn, growth and shift; its expression stays."""
    return replace(
        motion, turn=motion.turn * part, growth=motion.growth * part, shift=motion.shift * part
    )


def limited(motion: Motion, shift: float = _MAX_SHIFT, growth: float = _MAX_GROWTH) -> Motion:
    """Let the head's motion saturate smoothly at what a flat picture bears."""
    length = np.linalg.norm(motion.shift)
    return replace(
        motion,
        turn=_saturated(motion.turn, _MAX_TURN),
        growth=float(_saturated(motion.growth, growth)),
        shift=motion.shift * (_saturated(length, shift) / max(length, 1e-9)),
    )


def _saturated(value: np.ndarray | float, most: np.ndarray | float) -> np.ndarray | float:
    """Keep what is well below a bound as it is, within 2 % up to half of it, and never pass it."""
    return value / (1 + (np.abs(value) / most) ** 4) ** 0.25


def _turn(motion: Motion) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(motion.turn).as_matrix()


def _eye_aspect(landmarks: np.ndarray) -> float:
    """Mean height of the eyes over their width (Soukupova and Cech 2016)."""
    heights = np.linalg.norm(landmarks[LOWER_LIDS] - landmarks[UPPER_LIDS], axis=1).sum() / 2
    widths = np.linalg.norm(landmarks[[39, 45]] - landmarks[[36, 42]], axis=1).sum()
    return float(heights / max(widths, 1e-6))


def _beyond(value: float, noise: float) -> float:
    """Shrink a value smoothly by ``noise``, which leaves less of small values."""
    return value * abs(value) / (abs(value) + noise)


def _skull_outline(head: Head) -> tuple[np.ndarray, np.ndarray]:
    """The skull's ellipse in the image: (2, 2) map from the unit circle, and (2,) centre."""
    axes = head.rotation[:2] * _SKULL_AXES * head.scale
    values, vectors = np.linalg.eigh(axes @ axes.T)
    centre = head.scale * head.rotation[:2] @ _SKULL_CENTRE + head.offset
    return vectors * np.sqrt(values), centre


def thin_plate(
    points: np.ndarray, nodes: np.ndarray, scale: float, *, stiffness: float
) -> np.ndarray:
    """Matrix (M, N) from values at N points to a smoothing thin-plate spline at M nodes.

    Bookstein 1989, "Principal warps"; ``stiffness`` is the weight of bending against misfit, at
    distances measured in decimetres of the head.
    """
    from scipy.interpolate import RBFInterpolator

    unit = 100 * scale
    spline = RBFInterpolator(points / unit, np.eye(len(points)), smoothing=stiffness)
    return spline(nodes / unit)
