"""What a head wears and holds: eyeballs, teeth and tongue, ears, shoulders, glasses."""

import numpy as np

from studykit.stimuli.geometry import around, bump, linear, points, sheet, strip, unit
from studykit.stimuli.head import Head, Measures, Part, mouth_line
from studykit.stimuli.identity import Identity

SKIN_GROUP, EAR_GROUP, EYE_GROUP, MOUTH_GROUP, CLOTH_GROUP, HAIR_GROUP, GLASSES_GROUP = range(7)
BROW_GROUP, NECK_GROUP, TEETH_GROUP, SCALP_GROUP, LOCK_GROUP = 7, 8, 9, 10, 11


def eyeballs(m: Measures) -> list[Part]:
    """Two spheres that turn with the gaze; ``local`` holds the direction in the eye's own frame."""
    from studykit.stimuli._kernels import EYE

    polar = np.radians(np.concatenate([np.linspace(0, 40, 13), np.linspace(46, 105, 9)]))
    p, a = np.meshgrid(polar, around(28), indexing="ij")
    ball = points(np.sin(p) * np.cos(a), np.sin(p) * np.sin(a), np.cos(p))
    local = np.concatenate([ball, np.ones((*p.shape, 1))], -1)
    return [
        Part(m.eye * (sign, 1, 1) + ball * m.eye_radius, sheet(len(polar), 28, wrap=True), EYE,
             EYE_GROUP, np.ones(3), local=local, ao=1.0, casts=False)
        for sign in (-1, 1)
    ]  # fmt: skip


def mouth(head: Head, m: Measures) -> list[Part]:
    """The dark inside of the mouth, both rows of teeth with their gums, and the tongue."""
    from studykit.stimuli._kernels import MOUTH, TEETH

    lip = head.part.vertices[head.mouth_rows[0]]
    z0 = float(lip[np.argmin(np.abs(lip[:, 0])), 2])
    y0 = float(mouth_line(m, np.array([0.0]))[0])
    half = m.mouth_half
    # cavity
    d, a = np.meshgrid(np.linspace(0, 1, 7), around(32), indexing="ij")
    shrink = np.sqrt(np.clip(1 - d**2.4, 0, 1))
    x = 1.2 * half * np.cos(a) * shrink
    y = y0 + (10.5 * np.sin(a)) * shrink
    z = z0 - 9.5 - 0.024 * x**2 - 42 * d
    shade = 0.9 - 0.8 * d
    cavity = Part(points(x, y, z), sheet(7, 32, wrap=True), MOUTH, MOUTH_GROUP,
                  np.array([0.36, 0.062, 0.056]) * shade[..., None],
                  jaw=np.clip(0.5 + 0.75 * np.sin(a), 0, 1), ao=shade * 0.6,
                  casts=False)  # fmt: skip
    parts = [cavity]
    # teeth, each a little rounded, along a parabola
    widths = np.array([0, 8.3, 14.9, 22.3, 29.2, 36.0, 45.0]) * half / 25.5
    for upper in (True, False):
        arc = np.linspace(-1, 1, 97) * widths[-1] * (1 if upper else 0.9)
        bounds = widths if upper else widths * 0.78
        k = np.clip(np.searchsorted(bounds, np.abs(arc), side="right") - 1, 0, 5)
        within = np.clip((np.abs(arc) - bounds[k]) / (bounds[k + 1] - bounds[k]), 0, 1)
        gap = 1 - np.abs(2 * within - 1) ** 6
        ang = arc / 30.0
        ax = 25.0 * np.sin(ang * 0.92) * half / 25.5
        az = z0 - 6.5 - 20.0 * (1 - np.cos(ang * 0.95)) - (0 if upper else 6.0)
        levels = np.array([0.0, 0.32, 0.45, 0.6, 0.8, 0.93, 1.0])
        top, edge = (y0 - 16.0, y0 + 2.6) if upper else (y0 + 10.0, y0 + 2.8)
        length = np.array([0.0, -0.9, -0.3, -1.2, -1.2, -1.2])[k]
        length = length * (1 if upper else -0.3) - (1 - gap) * (1.2 if upper else -0.8)
        v = levels[:, None]
        yy = top + (edge - top) * v + length * v**4
        bulge = np.where(v > 0.4, np.sin(np.clip((v - 0.4) / 0.6, 0, 1) * np.pi * 0.62), -0.2)
        out = gap * 1.2 * bulge + np.where(v >= 0.999, -0.9, 0) - 0.3
        zz = az + out
        xx = ax + np.sign(ax) * 0.2 * out
        gum = (v < 0.42 + 0.05 * (1 - gap)).astype(float)
        tint = np.array([0.72, 0.68, 0.58])
        white = tint * (0.45 + 0.55 * gap[None, :, None]) * (1 - 0.13 * k / 2)[None, :, None]
        colour = white * (1 - gum[..., None]) + np.array([0.42, 0.12, 0.11]) * gum[..., None]
        fade = np.clip(1.25 - np.abs(arc) / widths[-1] * 1.15, 0.12, 1)
        light = np.tile(fade * (0.92 if upper else 0.6), (len(levels), 1))
        parts.append(
            Part(points(xx, yy, zz), sheet(len(levels), 97), TEETH, TEETH_GROUP, colour,
                 jaw=0.0 if upper else 0.98, ao=light, casts=False)
        )  # fmt: skip
    # tongue
    u, v = np.meshgrid(np.linspace(-1, 1, 15), np.linspace(0, 1, 12))
    tx = 17 * u * np.sqrt(np.clip(1 - (1 - v) ** 4 * 0.9, 0, 1)) * half / 25.5
    tz = z0 - 49 + 36 * np.sin(v * np.pi / 2) - 5 * u**2 * v
    ty = y0 + 6 + 3 * v**2 + 2.0 * u**2 + 1.3 * np.exp(-((u / 0.12) ** 2))
    ty = ty + 2 * np.clip(v - 0.85, 0, 1) / 0.15
    parts.append(
        Part(points(tx, ty, tz), sheet(12, 15), MOUTH, MOUTH_GROUP, np.array([0.80, 0.27, 0.26]),
             jaw=0.95, ao=0.3 + 0.6 * v, casts=False)
    )  # fmt: skip
    return parts


_EAR = np.array(
    # back, down: the outline, from the lobe's front round the back to the root of the helix
    [[-2, 21], [3, 29], [10, 28], [14, 20], [18, 7], [22, -8], [21, -22], [13, -31], [3, -31],
     [-4, -23], [-5, -10], [-6, 2], [-5, 12]]
)  # fmt: skip


def ears(head: Head, m: Measures, identity: Identity) -> list[Part]:
    """Two ears: a rolled rim, the inner ridge, the hollow before the canal, and a lobe."""
    from scipy.interpolate import CubicSpline

    from studykit.stimuli._kernels import SKIN

    size = 0.92 + 0.09 * identity.ear_size
    closed = np.concatenate([_EAR, _EAR[:1]]) * size
    curve = CubicSpline(np.arange(len(closed)), closed, bc_type="periodic")
    phi = np.linspace(0, len(_EAR), 48, endpoint=False)
    outline = curve(phi)
    middle = np.array([5.0, -2.0]) * size
    rho = np.array([0, 0.16, 0.3, 0.42, 0.52, 0.6, 0.68, 0.76, 0.84, 0.9, 0.96, 1.0, 1.0, 0.9, 0.7])
    flat = middle + (outline - middle)[None] * rho[:, None, None]
    back, down = flat[..., 0], flat[..., 1]
    lobe = np.clip((down - 12) / 12, 0, 1)
    front = np.clip((2 - back) / 8, 0, 1)
    top = np.clip((-8 - down) / 14, 0, 1)
    bowl = -5.5 * bump(rho, 0, 0.34)[:, None]
    ridge = 3.6 * bump(rho, 0.60, 0.11)[:, None] * (0.6 + 0.6 * top)
    rim = 4.6 * bump(rho, 0.96, 0.085)[:, None]
    high = bowl + (ridge + rim) * (1 - lobe) * (1 - 0.75 * front) + 2.6 * lobe
    high[12:] -= [[3.0], [7.0], [13.0]]
    tragus = 4.0 * np.exp(-(((back + 3.5) / 3.2) ** 2) - ((down - 3) / 5.0) ** 2)
    high[:12] += tragus[:12]
    flare = 0.46 * np.clip(back + 4, 0, None)
    base = head.part.vertices[: head.rows * head.columns]
    place = np.array([-11.0 * m.height, -76.0])
    near = (np.abs(base[:, 1] - place[0]) < 9) & (np.abs(base[:, 2] - place[1]) < 9)
    side = float(np.abs(base[near, 0]).max())
    tint = linear(identity.skin_colour) * np.array([1.03, 0.90, 0.87])
    x, y = side - 0.5 + high + flare, place[0] + down + 0.16 * back
    z, faces = place[1] - back * 0.96 + 0.10 * down, sheet(len(rho), 48, wrap=True)
    return [
        Part(points(sign * x, y, z), faces[:, ::sign], SKIN, EAR_GROUP, tint) for sign in (-1, 1)
    ]


def shoulders(identity: Identity) -> list[Part]:
    """Neck opening, trapezius, shoulders and chest in clothes, with a collar."""
    from studykit.stimuli._kernels import CLOTH

    male = identity.masculinity
    wide = 186 + 16 * male
    turn = np.linspace(-np.pi, np.pi, 144, endpoint=False)
    turn = turn - 0.7 * np.sin(turn)  # fine in front, where collars open
    rho = np.concatenate([np.linspace(0, 1, 44) ** 1.1, 1 + np.linspace(0.05, 1, 8)])
    r, a = np.meshgrid(rho, turn, indexing="ij")
    s, c = np.sin(a), np.cos(a)  # c > 0 is the front
    t = np.minimum(r, 1)
    neck_x, neck_z = 52 + 5 * male, 50 + 4 * male
    x = s * (neck_x + (wide - neck_x) * t**0.9)
    front, back = np.clip(c, 0, 1), np.clip(-c, 0, 1)
    z = -92 + c * (neck_z + (100 - neck_z) * t**0.75 + 14 * front * t * (1 - t))
    dip = 20 * front**2 - 16 * back
    slope = np.abs(s) * 46 * t**1.25 + front * 74 * t**1.5 + back * 60 * t
    y = 118 + dip * (1 - t) + slope + 100 * np.clip(r - 1, 0, 1)
    y = y + 9 * t * np.abs(s) ** 3 * (t > 0.9)
    base = linear(identity.clothes_colour)
    colour = np.tile(base, (*x.shape, 1))
    tone = linear(identity.skin_colour)
    style = identity.clothes
    white = np.array([0.72, 0.72, 0.70])
    if style == "v-neck":
        opening = front * np.clip(1.15 - np.abs(x) / (4 + 44 * (1 - (y - 128) / 62)), 0, 9) > 0.15
        opening &= (y < 192) & (c > 0.3)
        colour[opening] = tone * np.array([1.0, 0.93, 0.9])
    elif style == "jacket":
        shirt = (c > 0.25) & (np.abs(x) < 44 - 0.42 * (y - 132)) & (y < 236)
        colour[shirt] = white
        tie = shirt & (np.abs(x) < 7 + 0.05 * (y - 130)) & (c > 0)
        colour[tie] = base[::-1] * 0.5 + np.array([0.10, 0.02, 0.04])
    elif style == "shirt":
        placket = (np.abs(x) < 5) & (c > 0)
        colour[placket] = base * 1.12
    parts = [
        Part(points(x, y, z), sheet(len(rho), 144, wrap=True), CLOTH, CLOTH_GROUP,
             np.clip(colour, 0, 1), body=1.0, casts=False)
    ]  # fmt: skip
    collars = {"crew": (3.2, 3.0), "turtleneck": (26.0, 4.0), "shirt": (15.0, 4.5)}
    collars["jacket"] = collars["shirt"]
    if style in collars:
        rise, thick = collars[style]
        # a band that leans on the neck; on shirts it opens at the front and folds over
        open_front = 0.16 if style in ("shirt", "jacket") else 0.0
        a = np.linspace(open_front, 2 * np.pi - open_front, 72)
        foot = [[2.5, 2.5], [3.0, 7.0]] if not open_front else [[4.5, 1.5], [8.0, 9.0]]
        band = [[0.5, 3.0], [-1.5, -rise * 0.6], [0.0, -rise], [2.2, -rise - 1.0]]
        profile = np.array([*band, [thick, -rise * 0.6], *(foot + np.array([thick, 0]))])
        s, c = np.sin(a), np.cos(a)
        front, back = np.clip(c, 0, 1), np.clip(-c, 0, 1)
        level = 120 + 20 * front**2 - 14 * back
        if style == "turtleneck":
            level = 124 + 8 * front**2 - 12 * back
        grow = profile[:, :1] + (4.5 if style == "turtleneck" else 0.0)
        corner = 0.9 * bump(np.minimum(a, 2 * np.pi - a), 0.3, 0.25) * (open_front > 0)
        y = level + profile[:, 1:] * (1 + corner * (profile[:, 1:] > 5))
        x, z = s * (neck_x - 1 + grow), -92 + c * (neck_z - 1 + grow) - 2
        tint = white if style == "jacket" else base * (0.92 if style != "crew" else 0.8)
        parts.append(
            Part(points(x, y, z), sheet(len(profile), 72), CLOTH, CLOTH_GROUP, tint, body=0.92,
                 casts=False)
        )  # fmt: skip
    return parts


def _tube(path: np.ndarray, radius, closed: bool, sides: int = 8) -> tuple[np.ndarray, np.ndarray]:
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0)
    if not closed:
        ahead[0], ahead[-1] = path[1] - path[0], path[-1] - path[-2]
    t = unit(ahead)
    up = np.where(np.abs(t[:, 2:]) > 0.8, [0.0, 1.0, 0.0], [0.0, 0.0, 1.0])
    n = unit(np.cross(t, up))
    b = np.cross(t, n)
    a = around(sides)[:, None]
    radius = np.broadcast_to(np.asarray(radius, float), (len(path), 2))[..., None, None]
    ring = path[:, None] + radius[:, 0] * np.cos(a) * n[:, None]
    ring = ring + radius[:, 1] * np.sin(a) * b[:, None]
    faces = sheet(len(path), sides, wrap=True)
    if closed:
        index = np.append(np.arange(sides), 0)
        faces = np.concatenate([faces, strip((len(path) - 1) * sides + index, index)])
    return ring, faces


def glasses(head: Head, m: Measures, identity: Identity) -> list[Part]:
    """Frames: two rims, a bridge, and temples that run to the ears."""
    from studykit.stimuli._kernels import FRAME

    style = identity.glasses
    if style == "none":
        return []
    every = np.abs(head.part.vertices + np.array([0, 30, 72]))
    ear_x = every[(every[:, 1:] < 8).all(1), 0].max()
    grid = head.part.vertices[: head.rows * head.columns]
    rng = np.random.default_rng([identity.seed, 77])
    palette = [(0.02, 0.02, 0.022), (0.10, 0.045, 0.02), (0.30, 0.30, 0.32), (0.35, 0.22, 0.07),
               (0.12, 0.02, 0.03), (0.02, 0.04, 0.10)]  # fmt: skip
    dark = [0, 1, 4, 5]
    colour = palette[dark[rng.integers(4)]] if style != "thin" else palette[2 + rng.integers(2)]
    wx, wy, power, thick = {
        "round": (22.5, 21.5, 2.0, 1.3),
        "square": (25.5, 18.5, 3.6, 1.9),
        "browline": (25, 18.5, 2.9, 1.2),
        "thin": (24.5, 18.5, 2.6, 0.75),
    }[style]
    if identity.look == "drawn":
        wx, wy, thick = wx * 1.12, wy * 1.25, thick * 1.4
    gap = 8.0
    cx = max(m.eye[0] + 0.5, wx + gap)
    cy = m.eye[1] + 2.0
    nose = grid[(np.abs(grid[:, 0]) < 4) & (np.abs(grid[:, 1] - m.eye[1]) < 4), 2].max()
    brow = grid[(np.abs(grid[:, 0] - cx) < wx) & (np.abs(grid[:, 1] - (cy - wy)) < 5), 2].max()
    level = max(nose - 0.5, brow + 1.5 + 0.0045 * cx**2)

    def place(x, y):
        return points(x, y, level - 0.0045 * x**2 + 0.03 * (cy - y))

    a = around(56)
    ca, sa = np.cos(a), np.sin(a)
    rx = np.sign(ca) * np.abs(ca) ** (2 / power) * wx
    ry = np.sign(sa) * np.abs(sa) ** (2 / power) * wy
    rx = rx - 0.07 * ry
    parts = []
    for sign in (-1, 1):
        rim = place(sign * (cx + rx), cy + ry)
        width = np.full((56, 2), thick)
        if style == "browline":
            width = np.stack([thick + 2.0 * np.clip(-sa * 2, 0, 1)] * 2, 1)
        parts.append(_tube(rim, width * (1, 0.8), True))
        hinge = place(np.array([sign * (cx + wx)]), np.array([cy - wy * 0.45]))[0]
        over = np.array([sign * (ear_x + 2.5), m.eye[1] - 4.0, -64.0])
        tip = np.array([sign * (ear_x + 2.0), m.eye[1] + 18.0, -88.0])
        corner = hinge + np.array([sign * 2.5, 0.0, -3.0])
        path = np.stack([hinge, corner, (corner * 2 + over) / 3, (corner + 2 * over) / 3, over,
                         (over + tip) / 2 + [0, -5, -3], tip])  # fmt: skip
        flat = np.array([1.0, 1.4]) * max(thick, 0.9)
        parts.append(_tube(path, flat, False))
    s = np.linspace(-1, 1, 9)
    half = cx - wx
    arch = 1 - s**2
    bridge = place(s * (half + 0.5), cy - 5 - 3.2 * arch)
    bridge[:, 2] += arch
    parts.append(_tube(bridge, (thick, thick * 0.9), False))
    return [Part(p, f, FRAME, GLASSES_GROUP, np.array(colour), ao=0.95) for p, f in parts]
