"""The head's surface: sculpted from smoothly joined ellipsoids, meshed with lips and lids cut open.

Lengths are millimetres in the head's axes (x to the image's right, y down, z to the viewer; the
origin lies between the eyes and the nose's base, near the face's front). The mesh is a grid of
rays from a centre inside the head; two of its rows follow the mouth line and the line between the
eyelids, where it is slit open, so lips and lids are real edges that move.
"""

import itertools
from dataclasses import dataclass, replace

import numpy as np

from studykit.stimuli.geometry import bump, linear, points, smoothstep, strip, unit
from studykit.stimuli.identity import Identity
from studykit.stimuli.state import Pose

CENTRE = np.array([0.0, 10.0, -80.0])
PIVOT = np.array([0.0, 14.0, -58.0])
NECK = np.array([0.0, 48.0, -86.0])
JAW_AXIS = np.array([0.0, 8.0, -76.0])
LID_KEYS = np.array([-0.3, 0.0, 0.35, 0.7, 1.0])
_BASE_LEVEL = 185.0


@dataclass(frozen=True)
class Measures:
    """The sizes and places, in mm, that the parts of one face have to agree on."""

    width: float
    height: float
    eye: np.ndarray
    eye_radius: float
    eye_half: float
    lid_up: float
    lid_down: float
    tilt: float
    mouth_y: float
    mouth_half: float
    upper_lip: float
    lower_lip: float
    nose_y: float
    brow_y: float


@dataclass
class Part:
    """A piece of mesh and what it needs to move and to be shaded; see ``model.Model``.

    ``vertices`` may be laid out as any array of places. What is a vertex's own may be one value
    for them all; where it is not given, ``model.build_model`` knows what is usual.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    material: int
    group: int | np.ndarray
    colour: np.ndarray
    uv: np.ndarray | None = None
    local: np.ndarray | None = None
    tangent: np.ndarray | None = None
    side: np.ndarray | None = None
    bind: np.ndarray | None = None
    jaw: np.ndarray | float | None = None
    body: np.ndarray | float | None = None
    ao: np.ndarray | float | None = None
    culled: bool = False
    casts: bool = True

    def __post_init__(self) -> None:
        self.vertices = self.vertices.reshape(-1, 3)


@dataclass(frozen=True)
class Head:
    """The meshed head and how it deforms.

    Attributes
    ----------
    part : Part
        The mesh; its first ``rows * columns`` vertices are the grid, row by row.
    rows, columns : int
        Size of the grid.
    flat : (N, 3) float
        Where every vertex lies before lids open and lips swell: the frame textures are laid in.
    shapes : dict of (N, 3) float
        Displacement at full strength, by name: smile, frown (of the mouth), pucker, raise, knit.
    lids : tuple of (index (K,), keys (5, K, 3))
        For the image's left and right eye: where the vertices around it stand at LID_KEYS.
    edges : tuple of (upper (n,), lower (n,))
        The vertices of the lids' edges of each eye.
    landmarks : (68, 3) int and (68, 3) float
        The triangle corner vertices and weights that carry each landmark.
    """

    part: Part
    rows: int
    columns: int
    flat: np.ndarray
    shapes: dict
    lids: tuple
    edges: tuple
    mouth_rows: tuple
    landmarks: tuple = ()


def measures(identity: Identity) -> Measures:
    """Derive the sizes that the parts share."""
    i = identity
    width = 1 + 0.045 * i.head_width
    height = 1 + 0.035 * i.head_height
    size = 1 + 0.10 * i.eye_size
    spacing = (32.0 + 1.8 * i.eye_spacing) * (0.4 + 0.6 * width)
    full = 1 + 0.28 * i.lip_fullness
    measures = Measures(
        width=width,
        height=height,
        eye=np.array([spacing, -38.0 * height, -14.2 - 1.4 * i.eye_depth]),
        eye_radius=12.4,
        eye_half=14.6 * (0.6 + 0.4 * size),
        lid_up=6.6 * size,
        lid_down=2.9 * size,
        tilt=0.05 + 0.07 * i.eye_tilt,
        mouth_y=29.8 * height + 1.2 * i.nose_length,
        mouth_half=25.6 * (1 + 0.11 * i.mouth_width),
        upper_lip=7.2 * full,
        lower_lip=9.2 * full,
        nose_y=4.5 * height + 2.4 * i.nose_length,
        brow_y=-56.0 * height - 2.6 * i.brow_height,
    )
    if identity.look != "drawn":
        return measures
    return replace(
        measures,
        eye=np.array([spacing * 1.09, -33.0 * height, -27.0]),
        eye_radius=23.0,
        eye_half=19.5 * (0.7 + 0.3 * size),
        lid_up=13.5 * (0.5 + 0.5 * size),
        lid_down=9.5 * (0.5 + 0.5 * size),
        mouth_y=32.0 * height,
        mouth_half=measures.mouth_half * 0.86,
        upper_lip=measures.upper_lip * 0.72,
        lower_lip=measures.lower_lip * 0.8,
        nose_y=measures.nose_y + 1.0,
        brow_y=measures.brow_y - 8.5,
    )


def _ellipsoid(centre, radii, blend, turn=(0.0, 0.0, 0.0), carve=False):
    """One row of the sculpture: an ellipsoid turned by degrees about x, y, z."""
    pitch, yaw, roll = turn
    axes = Pose(yaw, pitch, roll).rotation().T
    row = [-1.0 if carve else 1.0, *centre, *radii, *axes.ravel(), blend, max(radii)]
    return np.array(row, float)


def _bar(a, b, radii, blend):
    """One row of the sculpture: an ellipsoid stretched from a to b."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    along = (b - a) / np.linalg.norm(b - a)
    side = np.cross(along, [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side)
    frame = np.stack([along, side, np.cross(along, side)])
    long = np.linalg.norm(b - a) / 2 + max(radii) * 0.6
    row = [1.0, *((a + b) / 2), long, *radii, *frame.ravel(), blend, long]
    return np.array(row, float)


def sculpture(identity: Identity, m: Measures) -> np.ndarray:
    """Return the ellipsoids that make the head, in the order in which they are joined or carved."""
    i = identity
    drawn = i.look == "drawn"
    w, h = m.width, m.height
    male = i.masculinity
    jaw = 1 + 0.07 * i.jaw_width + 0.055 * male - (0.10 if drawn else 0)
    chin_y = 63 * h + 3.5 * i.chin_length + 2.0 * male
    nose = 0.72 if drawn else 1.0
    tip_y = m.nose_y - 11.5 - 1.8 * i.nose_tip
    tip_z = 24.5 * (0.78 if drawn else 1.0) + 1.8 * i.nose_bridge
    wide = 1 + 0.18 * i.nose_width + 0.05 * male
    root_z = 3.2 + 1.8 * i.nose_bridge + 0.8 * male
    ex, ey, _ez = m.eye
    nose_top = np.array([0, -46 * h, root_z])
    nose_tip = np.array([0, tip_y, tip_z])
    bridge = (nose_top + nose_tip) / 2
    slope = np.degrees(np.arctan2(nose_tip[2] - nose_top[2], nose_tip[1] - nose_top[1]))
    full = i.cheek_fullness
    rows = [
        _ellipsoid((0, -58 * h, -84), (75 * w, 83 * h, 96), 10),
        _ellipsoid((0, -72 * h, -48), (62 * w, 54 * h, 58 + 1.5 * male), 20),
        _ellipsoid((0, -8 * h, -52), (66 * w * (0.3 + 0.7 * jaw), 80 * h, 50), 18, (10, 0, 0)),
        # neck, with the muscle that runs from behind the ear to the collar bone
        _ellipsoid((0, 110, -94), (47 + 5 * male, 190, 47 + 4 * male), 12, (-4, 0, 0)),
        _ellipsoid((29, 110, -74), (13, 84, 11), 14, (-14, 0, 16)),
        # jaw: body, corner and chin
        _bar((11, chin_y + 3, -17), (50 * w * jaw, 36 * h, -60), (10, 10), 18),
        _bar((51 * w * jaw, 32 * h, -62), (62 * w, -12 * h, -66), (9, 8), 18),
        _ellipsoid((0, chin_y, -18), (18 * (1 + 0.12 * i.chin_width), 13, 17.5), 16),
        _ellipsoid((8 * (1 + 0.2 * i.chin_width), chin_y + 2.5, -12), (8, 7, 10), 12),
        # cheekbone, cheek, and the dental arch under the lips
        _ellipsoid((45 * w, -16 * h, -24), (19, 8 + i.cheekbones, 18.5 + 1.6 * i.cheekbones), 18,
                   (0, 30, -16)),
        _ellipsoid((33 * w, 4 * h, -17), (19, 20, 16.5 + 2.0 * full), 20),
        _ellipsoid((42 * w, 22 * h, -32), (13, 20, 15 + 3.0 * full), 20, (0, 30, 14)),
        _ellipsoid((0, 27 * h, -22), (32, 29, 36.5), 18),
        # brow ridge and the bone over the eye
        _ellipsoid((25 * w, -57.5 * h, -4.0 + 0.6 * male), (27, 5.5 + 0.8 * male, 10 + 0.8 * male),
                   16, (0, 18, -5)),
        _ellipsoid((51 * w, -52 * h, -20), (8, 8, 11), 16, (0, 30, 18)),
        # socket
        _ellipsoid((ex - 1, ey + 0.5, 13 - 0.8 * i.eye_depth), (19.5, 10.5, 20), 11, carve=True),
        _ellipsoid((ex - 10, ey + 9, 12), (8, 5, 14), 9, (0, 0, 30), carve=True),
        # nose: bridge, side walls, tip, wings, column, nostrils
        _ellipsoid(bridge, (6.2 + 0.7 * wide, 25 * h, 8.5), 12, (slope, 0, 0)),
        _ellipsoid((0, m.nose_y - 14, 6 * nose), (10.5 * wide, 15, 13 * nose), 12, (26, 0, 0)),
        _ellipsoid(nose_tip, (8.4 * nose * (0.4 + 0.6 * wide), 7.6 * nose, 9.0 * nose), 7),
        _ellipsoid((12.2 * wide * nose, m.nose_y - 5.0, 12.6 * nose),
                   (5.6 * nose, 5.8 * nose, 8.6 * nose), 4.0, (12, -24, 0)),
        _ellipsoid((0, m.nose_y - 2.2, 19.5 * nose), (2.6, 3.2, 9.5 * nose), 5, (24, 0, 0)),
        _ellipsoid((6.3 * wide * nose, m.nose_y - 0.2, 18.5 * nose), (2.7 * wide, 3.0, 5.0), 2.5,
                   (24, -24, 0), carve=True),
    ]  # fmt: skip
    if drawn:
        del rows[-1], rows[4]
    return np.array(rows)


def _spread(breaks, steps) -> np.ndarray:
    """Grid angles in degrees whose spacing runs piecewise linearly through (breaks, steps)."""
    fine = np.linspace(breaks[0], breaks[-1], 20000)
    density = 1.0 / np.interp(fine, breaks, steps)
    total = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(fine))])
    return np.interp(np.linspace(0, total[-1], round(total[-1]) + 1), total, fine)


def _cast(azimuth: np.ndarray, elevation: np.ndarray, prims: np.ndarray) -> np.ndarray:
    from studykit.stimuli import _kernels

    a, e = np.radians(azimuth.ravel()), np.radians(elevation.ravel())
    d = np.stack([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)], 1)
    down = np.maximum(d[:, 1], 1e-3)
    limit = (_BASE_LEVEL - CENTRE[1]) / down
    far = np.where(d[:, 1] > 0.9, 600.0, 190.0)
    start = np.where(d[:, 1] > 0.3, np.minimum(far, limit), 190.0)
    r = _kernels.trace(np.broadcast_to(CENTRE, d.shape).copy(), d, start, prims)
    return CENTRE + d * r[:, None]


def mouth_line(m: Measures, x: np.ndarray) -> np.ndarray:
    """Height at which the closed lips meet."""
    t = np.abs(x) / m.mouth_half
    return m.mouth_y + 1.7 * np.minimum(t, 1.3) ** 2 + 0.9 * np.exp(-((x / 6.0) ** 2)) - 0.6


def lid_line(m: Measures, x: np.ndarray) -> np.ndarray:
    """Height of the straight line through the corners of each eye."""
    return m.eye[1] + 1.8 - m.tilt * (np.abs(x) - m.eye[0])


def build_head(identity: Identity, m: Measures) -> Head:
    """Sculpt and mesh the head of an identity, with everything that moves on it."""
    from studykit.stimuli._kernels import SKIN

    prims = sculpture(identity, m)
    a_half = _spread([0, 20, 30, 50, 65, 180], [0.8, 0.8, 0.95, 1.3, 4.0, 5.5])
    azimuth = np.concatenate([-a_half[:0:-1], a_half])
    e_base = _spread(
        [-90, -60, -40, -34, -22, -10, 3, 17, 40, 62, 80],
        [5.0, 3.0, 1.3, 0.62, 0.62, 1.1, 0.75, 0.7, 1.2, 1.6, 1.4],
    )
    columns, rows = len(azimuth), len(e_base)
    elevation = np.repeat(e_base[:, None], columns, 1)
    slits = []  # the rows that are cut open
    eye, mouth = (lid_line, -29.0, m.eye[0] * 1.6), (mouth_line, 10.0, m.mouth_half * 1.3)
    for line, guess, reach in (eye, mouth):
        e = np.full(columns, guess)
        for _ in range(4):
            p = _cast(azimuth, e, prims)
            r = np.linalg.norm(p - CENTRE, axis=1)
            wanted = line(m, np.minimum(np.abs(p[:, 0]), reach))
            e = e + np.degrees((wanted - p[:, 1]) / r) * 0.9
        front = np.abs(azimuth) < 55
        e[~front] = e[front][0]
        row = int(np.argmin(np.abs(e_base - e[columns // 2])))
        shift = (e - e_base[row]) * np.exp(-((azimuth / 70) ** 6))
        elevation += shift * np.exp(-(((e_base - e_base[row]) / 9.0) ** 2))[:, None]
        slits.append(row)
    elevation[0], elevation[-1] = -90, e_base[-1]
    grid = _cast(np.broadcast_to(azimuth, elevation.shape), elevation, prims)
    flat = grid
    grid = _swell_lips(grid, identity, m)

    index = np.arange(rows * columns).reshape(rows, columns)
    below = index.copy()
    # the grid's vertices, then copies of some of them: which, and where they lie
    origin, vertices = [index.ravel()], [grid]

    def add(copied, places):
        origin.append(copied)
        vertices.append(places)
        count = sum(len(one) for one in origin)
        return np.arange(count - len(copied), count)

    triangles = []
    # the slit of the mouth, and the inside of the lips
    eye_row, r = slits
    on = np.flatnonzero((np.abs(grid[index[r], 0]) < m.mouth_half) & (np.abs(azimuth) < 40))
    upper = index[r, on]
    lower = add(upper, grid[upper])
    below[r, on] = lower
    inner = []
    for edge, up in ((upper, -1), (lower, 1)):
        rings = [edge]
        for depth, rise in ((1.6, 0.35), (4.0, 1.4), (8.0, 3.5), (13.0, 5.0)):
            inward = points(-0.02 * depth * grid[upper, 0], up * rise, -depth)
            rings.append(add(upper, grid[upper] + inward))
        inner.append(rings)
        triangles += [strip(q0, q1)[:, ::-up] for q0, q1 in itertools.pairwise(rings)]
    mouth_rows = (upper, lower)

    # the slits of the eyes
    r, eyes = eye_row, []
    for sign in (-1, 1):
        x = (sign * grid[index[r], 0] - m.eye[0]) / m.eye_half
        on = np.flatnonzero((np.abs(x) < 0.995) & (np.abs(azimuth) < 60))
        upper = index[r, on]
        lower, margin_u, margin_l = (add(upper, grid[upper]) for _ in range(3))
        below[r, on] = lower
        triangles += [strip(upper, margin_u), strip(lower, margin_l)[:, ::-1]]
        eyes.append((sign, upper, lower, margin_u, margin_l))

    triangles = np.concatenate([strip(below[:-1], index[1:]), *triangles])
    vertices, origin = np.concatenate(vertices), np.concatenate(origin)
    lids = []
    for eye in eyes:
        around, keys = _lid_keys(vertices, identity, m, prims, *eye)
        lids.append((around, keys))
        vertices[around] = keys[1]
    jaw = _jaw_weights(vertices, m)
    corner = np.clip(1 - (np.abs(vertices[:, 0]) / m.mouth_half) ** 6, 0, 1)
    ao = np.full(len(vertices), np.nan)
    for rings, swing in zip(inner, (0.02, 0.98), strict=True):
        lip = np.concatenate(rings)
        jaw[lip] = 0.42 * (1 - corner[lip]) + swing * corner[lip]
        for light, ring in zip((0.75, 0.5, 0.25, 0.12), rings[1:], strict=True):
            ao[ring] = light
    part = Part(
        vertices=vertices,
        triangles=triangles,
        material=SKIN,
        group=0,
        colour=linear(identity.skin_colour),
        uv=np.stack([origin % columns, origin // columns], 1),
        jaw=jaw,
        body=body_weight(vertices),
        ao=ao,
        culled=True,
    )
    edges = tuple((upper, lower) for _, upper, lower, *_ in eyes)
    shapes = _shapes(vertices, m)
    head = Head(part, rows, columns, flat[origin], shapes, tuple(lids), edges, mouth_rows)
    return replace(head, landmarks=_landmarks(head, identity, m))


def lip_heights(m: Measures, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height in mm of the red of the upper and the lower lip at x, with the Cupid's bow."""
    t = np.clip(np.abs(x) / (m.mouth_half * 1.04), 0, 1)
    upper = m.upper_lip * (1 - t**2.2) ** 0.75 * (1 - 0.22 * np.exp(-((x / 3.6) ** 2)))
    lower = m.lower_lip * (1 - t**2.4) ** 0.8
    return upper, lower


def _swell_lips(p: np.ndarray, identity: Identity, m: Measures) -> np.ndarray:
    p = p.copy()
    x, y, z = p.T
    front = z > -40
    upper, lower = lip_heights(m, x)
    s = y - mouth_line(m, x)
    t = np.clip(np.abs(x) / (m.mouth_half * 1.08), 0, 1)
    envelope = (1 - t**2.5) ** 0.8 * front
    full = 1 + 0.3 * identity.lip_fullness
    strength = 0.7 if identity.look == "drawn" else 1.0
    q = np.clip(-s / np.maximum(upper, 0.5), 0, 1.35)
    rise = np.where(s <= 0, 2.3 * np.sin(np.pi * np.minimum(q / 1.3, 1) ** 0.62), 0)
    q = np.clip(s / np.maximum(lower, 0.5), 0, 1.35)
    rise = np.where(s > 0, 3.2 * np.sin(np.pi * np.minimum(q / 1.3, 1) ** 0.60), rise)
    dz = envelope * full * strength * rise
    dz -= 1.2 * envelope * np.exp(-((s / 1.3) ** 2))
    dz += front * 1.1 * np.exp(-((x / 11) ** 2)) * bump(s, -0.5, 3)
    # philtrum, the fold under the lower lip, and the dimples at the corners
    mid = (m.nose_y + m.mouth_y - m.upper_lip) / 2
    dz -= front * 0.9 * bump(x, 0, 2.6) * bump(y, mid, 5.5)
    dz += front * 0.6 * (bump(x, 5.2, 2.4) + bump(x, -5.2, 2.4)) * bump(y, mid + 1, 6)
    dz -= front * 2.2 * bump(x, 0, 17) * bump(y, m.mouth_y + 15.5, 4.5)
    dz -= front * 1.3 * bump(np.abs(x), m.mouth_half + 2.5, 4.5) * bump(s, 1.0, 5.5)
    p[:, 2] += dz
    return p


def _lid_keys(vertices, identity, m, prims, sign, upper, lower, margin_u, margin_l):
    """Place the skin around one eye for every key of the blink."""
    from studykit.stimuli import _kernels

    drawn = identity.look == "drawn"
    ex, ey, ez = m.eye * (sign, 1, 1)
    x_in = sign * (vertices[:, 0] - ex) / m.eye_half
    s = vertices[:, 1] - lid_line(m, vertices[:, 0])
    reach_u, reach_l = max(2.35 * m.lid_up - 8 * drawn, 12), 12.0 + m.lid_down
    near = (np.abs(x_in) < 1.6) & (s > -reach_u) & (s < reach_l) & (vertices[:, 2] > -45)
    near[margin_u] = near[margin_l] = False
    near &= vertices[:, 0] * sign > 3
    index = np.flatnonzero(near)
    is_upper = s[index] <= 0
    is_upper[np.isin(index, upper)] = True
    is_upper[np.isin(index, lower)] = False
    x, y, z = vertices[index].T
    t = np.clip(np.abs(x_in[index]), 0, 1)
    # the upper lid peaks towards the nose, the lower towards the temple
    skew = np.clip(x_in[index], -1, 1)
    arch_u = (1 - t**2.1) ** 0.86 * (1 - 0.14 * skew)
    arch_l = (1 - t**2.2) ** 0.95 * (1 + 0.16 * skew)
    sphere = m.eye_radius + (1.25 if not drawn else 0.8)
    keys = []
    fold_u = np.clip(1 + s[index] / reach_u, 0, 1) ** 1.55
    fold_l = np.clip(1 - s[index] / reach_l, 0, 1) ** 1.5
    for blink in LID_KEYS:
        up = -m.lid_up * arch_u * (1 - blink) + 0.72 * m.lid_down * arch_l * max(blink, 0)
        down = m.lid_down * arch_l * (1 - 0.26 * max(blink, 0) - 0.2 * min(blink, 0))
        yy = y + np.where(is_upper, fold_u * up, fold_l * down)
        # the bare sculpture at the new height, then the lid lying on the eyeball
        moved = np.abs(yy - y) > 1e-3
        count = np.count_nonzero(moved)
        # ``trace`` marches against its direction
        origin = points(x[moved], yy[moved], 60.0)
        ray = np.tile([0.0, 0.0, 1.0], (count, 1))
        zz = z.copy()
        zz[moved] = 60.0 + _kernels.trace(origin, ray, np.zeros(count), prims)
        inside = sphere**2 - (x - ex) ** 2 - (yy - ey) ** 2
        ball = ez + np.sqrt(np.maximum(inside, 0.0))
        k = 2.2
        h = np.clip(0.5 + 0.5 * (ball - zz) / k, 0, 1)
        both = zz * (1 - h) + ball * h + k * h * (1 - h)
        zz = np.where(inside > 0, both, zz)
        keys.append(points(x, yy, zz))
    keys = np.array(keys)
    place = {v: k for k, v in enumerate(index)}
    for edge, margin in ((upper, margin_u), (lower, margin_l)):
        at = np.array([place[v] for v in edge])
        inward = unit(np.array([ex, ey, ez]) - keys[:, at])
        index = np.concatenate([index, margin])
        keys = np.concatenate([keys, keys[:, at] + 2.6 * inward], 1)
    return index, keys


def body_weight(p: np.ndarray) -> np.ndarray:
    """How far a point follows the shoulders instead of the head."""
    return smoothstep(62, 150, p[:, 1] + 0.25 * (p[:, 2] + 60))


def _jaw_weights(p: np.ndarray, m: Measures) -> np.ndarray:
    x, y, z = p.T
    s = y - mouth_line(m, x)
    beside = smoothstep(0.80, 1.30, np.abs(x) / m.mouth_half)
    far = smoothstep(-26, 26, s)
    near = np.where(s > 0, 1.0, 0.02)
    w = near * (1 - beside) + far * beside
    # hold the back of the cheek, the ear and everything behind; let go of the neck
    w *= smoothstep(-78, -40, z + 0.15 * np.maximum(y, 0))
    under = smoothstep(-46, -76, z) * smoothstep(48, 78, y)
    w *= 1 - 0.92 * under
    w *= 1 - smoothstep(86, 124, y)
    return np.where(z > -100, w, 0.0)


def _shapes(p: np.ndarray, m: Measures) -> dict:
    x, y, z = p.T
    sign = np.tanh(x / 3.0)
    ax = np.abs(x)
    front = smoothstep(-75, -40, z)
    s = y - mouth_line(m, x)

    def shift(dx, dy, dz):
        return points(sign * dx * front, dy * front, dz * front)

    corner = np.exp(-(((ax - m.mouth_half) / 15) ** 2) - (s / 15) ** 2)
    lips = np.exp(-((ax / (m.mouth_half * 0.9)) ** 4) - (s / 11) ** 2)
    cheek = np.exp(-(((ax - 37) / 15) ** 2) - ((y - 4) / 15) ** 2)
    under = np.exp(-(((ax - m.eye[0]) / 16) ** 2) - ((y - m.eye[1] - 13) / 6.5) ** 2)
    smile = shift(
        7.5 * corner + 1.5 * cheek,
        -6.5 * corner - 4.2 * cheek - 1.8 * under - 1.2 * lips,
        -5.5 * corner + 3.8 * cheek + 1.0 * under - 2.0 * lips,
    )
    frown = shift(-1.5 * corner, 5.0 * corner - 1.0 * lips, 0.8 * lips)
    mouth = np.exp(-((ax / (m.mouth_half * 1.15)) ** 4) - (s / 17) ** 2)
    pucker = shift(-0.40 * ax * mouth, 0.06 * s * mouth, 6.5 * mouth)
    brow = np.exp(-(((y - m.brow_y) / 13) ** 2)) * np.exp(-((ax / 58) ** 6))
    above = smoothstep(m.brow_y + 10, m.brow_y - 6, y) * smoothstep(-125, -85, y)
    lift = shift(0, -6.5 * brow - 2.0 * above * np.exp(-((ax / 60) ** 6)), 0.3 * brow)
    inner = np.exp(-(((ax - 14) / 13) ** 2) - ((y - m.brow_y) / 11) ** 2)
    knit = shift(-3.2 * inner, 4.2 * inner + 1.5 * brow, 1.2 * inner)
    return {"smile": smile, "frown": frown, "pucker": pucker, "raise": lift, "knit": knit}


# Where dlib's 68 points lie on the average face seen from the front, in mm: jaw points by the
# angle at which they leave (0, -25), the others by place.
_JAW = np.array(
    [[-73.4, -35.8], [-72.8, -17.9], [-70.5, 0.4], [-66.8, 16.1], [-59.8, 35.1], [-48.4, 53.5],
     [-37.6, 66.2], [-21.6, 73.1], [0.0, 77.1]]
)  # fmt: skip


def _landmarks(head: Head, identity: Identity, m: Measures) -> tuple[np.ndarray, np.ndarray]:
    p = head.part.vertices
    grid = p[: head.rows * head.columns]
    corners = np.zeros((68, 3), int)
    weights = np.zeros((68, 3))
    front = _Front(grid, head)

    def put(k, x, y):
        corners[k], weights[k] = front.locate(x, y)

    def along(k, vertices, x):
        v = vertices[np.argsort(p[vertices, 0])]
        at = np.clip(np.interp(x, p[v, 0], np.arange(len(v))), 0, len(v) - 1.001)
        i = int(at)
        corners[k] = v[i], v[i + 1], v[i + 1]
        weights[k] = 1 - (at - i), at - i, 0

    # jaw: the outline of the face without ears and neck, seen from the front
    face = np.flatnonzero(
        (grid[:, 2] > -46 - 0.65 * (60 - grid[:, 1]).clip(0, 40))
        & (grid[:, 1] > -45) & ((grid[:, 1] < 60) | (grid[:, 2] > -24 - 0.5 * np.abs(grid[:, 0])))
    )  # fmt: skip
    angle = np.arctan2(grid[face, 1] + 25, np.abs(grid[face, 0]))
    radius = np.hypot(grid[face, 0], grid[face, 1] + 25)
    for k, (jx, jy) in enumerate(_JAW):
        wanted = np.arctan2(jy + 25, -jx)
        for mirror in (-1, 1):
            side = np.sign(grid[face, 0]) == mirror if k < 8 else np.abs(grid[face, 0]) < 3
            score = radius - 400 * (angle - wanted) ** 2 - 1e4 * ~side
            if k == 8:
                score = grid[face, 1] - 2 * np.abs(grid[face, 0]) - 1e4 * ~side
            v = face[np.argmax(score)]
            at = k if mirror < 0 else 16 - k
            corners[at], weights[at] = v, (1, 0, 0)
    # brows
    xs = np.array([59.5, 50.5, 38.0, 25.0, 12.0]) * (0.5 + 0.5 * m.width)
    for k, x in enumerate(xs):
        y = brow_curve(m, x) + (2.2, -3.2, -4.4, -4.0, -1.0)[k]
        put(17 + k, -x, y)
        put(26 - k, x, y)
    # nose
    tip = m.nose_y - 11.5 - 1.8 * identity.nose_tip
    for k, y in enumerate(np.linspace(m.eye[1] - 2.5, tip + 1.0, 4)):
        put(27 + k, 0.0, y)
    wide = 1 + 0.16 * identity.nose_width
    for k, (x, dy) in enumerate([(-12.0, 1.3), (-6.2, 2.8), (0, 4.2), (6.2, 2.8), (12.0, 1.3)]):
        put(31 + k, x * wide * (0.75 if identity.look == "drawn" else 1), m.nose_y + dy)
    # eyes: corners and lids
    inner, a, b, outer = m.eye[0] + m.eye_half * np.array([-0.97, -0.40, 0.27, 0.80])
    left, right = head.edges
    for k, x in enumerate((-outer, -b, -a, -inner, -a, -b)):
        along(36 + k, left[k > 3], x)
    for k, x in enumerate((inner, a, b, outer, b, a)):
        along(42 + k, right[k > 3], x)
    # lips: the outer and the inner border
    at = np.array([-0.98, -0.6, -0.24, 0, 0.24, 0.6, 0.98, 0.66, 0.29, 0, -0.29, -0.66])
    x, below = at * m.mouth_half, np.arange(12) > 6
    up, down = lip_heights(m, x)
    edge = np.where(below, down, np.where(np.abs(at) < 0.9, 1.2 - up, 0))
    y = mouth_line(m, x) + edge + 0.2 * below
    for k in range(12):
        put(48 + k, x[k], y[k])
    for k, f in enumerate((-0.82, -0.28, 0, 0.28, 0.82, 0.28, 0, -0.28)):
        along(60 + k, head.mouth_rows[k > 4], f * m.mouth_half)
    return corners, weights


def brow_curve(m: Measures, x: np.ndarray | float) -> np.ndarray | float:
    """Height of the middle of the brow at a distance x from the midline."""
    t = np.maximum((np.abs(x) - 11.0) / 49.0, 0.0)
    return m.brow_y + 2.6 - 9.0 * t + 13.0 * t**2.6


class _Front:
    """The grid's triangles that face the viewer, to find the one over a place (x, y)."""

    def __init__(self, grid: np.ndarray, head: Head) -> None:
        t = head.part.triangles
        t = t[(t < len(grid)).all(1)]
        t = t[(grid[t, 2] > -75).all(1)]
        a, b, c = np.moveaxis(grid[t], 1, 0)
        edges = np.stack([b - a, c - a], -1)
        solid = np.abs(np.linalg.det(edges[:, :2])) >= 1e-12
        self.grid, self.triangles, self.start, self.edges = grid, t[solid], a[solid], edges[solid]
        corner = grid[self.triangles]
        self.low, self.high = corner.min(1), corner.max(1)

    def locate(self, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the foremost triangle's corners and the weights that give (x, y)."""
        at = np.array([x, y])
        inside = ((self.low[:, :2] <= at) & (self.high[:, :2] >= at)).all(1)
        start, edges = self.start[inside], self.edges[inside]
        u, v = np.linalg.solve(edges[:, :2], (at - start[:, :2])[..., None])[..., 0].T
        over = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9)
        if not over.any():
            k = np.argmin(((self.grid[:, :2] - at) ** 2).sum(1) + 1e6 * (self.grid[:, 2] < -75))
            return np.array([k, k, k]), np.array([1.0, 0.0, 0.0])
        z = start[:, 2] + u * edges[:, 2, 0] + v * edges[:, 2, 1]
        k = np.argmax(np.where(over, z, -np.inf))
        return self.triangles[inside][k], np.array([1 - u[k] - v[k], u[k], v[k]])
