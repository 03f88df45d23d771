"""Hair as ribbons: grown strand by strand over the scalp, and as brows, lashes and beards."""

from dataclasses import dataclass

import numpy as np

from studykit.stimuli.geometry import bump, linear, points, smoothstep, strip, unit
from studykit.stimuli.head import CENTRE, Head, Measures, Part, brow_curve, mouth_line
from studykit.stimuli.identity import Identity
from studykit.stimuli.parts import BROW_GROUP, HAIR_GROUP, LOCK_GROUP


@dataclass(frozen=True)
class Style:
    """How one kind of hair grows.

    Lengths in mm on top, at the sides and at the back; ``lift`` is how far strands leave the
    scalp at the root, ``fall`` how soon they hang, ``body`` the thickness of the whole.
    """

    count: int
    top: float
    sides: float
    back: float
    points: int = 8
    width: float = 1.9
    lift: float = 0.35
    fall: float = 0.10
    body: float = 7.0
    wave: float = 0.0
    turns: float = 2.0
    clump: float = 0.35
    cut: float = 400.0
    comb: str = "crown"


_STYLES = {
    "buzz": Style(2600, 5, 4, 4, points=3, width=1.2, lift=0.7, body=1.0, clump=0.0),
    "short": Style(2600, 30, 14, 16, points=6, lift=0.45, body=6, fall=0.06),
    "side-part": Style(2400, 68, 20, 22, points=8, lift=0.5, body=9, fall=0.05, comb="side"),
    "quiff": Style(2500, 46, 9, 10, points=7, lift=0.8, body=10, fall=0.0, comb="back"),
    "receding": Style(1900, 22, 13, 15, points=6, lift=0.4, body=4, fall=0.06),
    "bob": Style(2000, 190, 150, 150, points=11, width=2.5, body=11, cut=48, comb="part"),
    "long": Style(1900, 330, 290, 290, points=13, width=2.9, body=11, cut=142, comb="part"),
    "wavy": Style(1700, 300, 270, 260, points=17, width=2.9, body=14, cut=118, wave=5.5, turns=4.5,
                  comb="part", clump=0.75),
    "curly": Style(1800, 130, 120, 110, points=17, width=2.4, lift=0.6, body=22, cut=62, wave=6.5,
                   turns=5.0, comb="part", clump=0.8, fall=0.08),
    "afro": Style(3600, 46, 40, 40, points=6, width=2.2, lift=3.0, body=2, fall=0.0, wave=4.5,
                  turns=2.2, clump=0.15),
    "bun": Style(2200, 210, 170, 150, points=10, width=2.2, body=8, fall=0.0, comb="tie"),
}  # fmt: skip
_STYLES["ponytail"] = _STYLES["bun"]

# The hairline: degrees from the front, and the height below which no hair grows.
_LINE = np.array([[0, -101], [12, -100], [24, -97], [34, -91], [42, -83], [50, -71], [57, -56],
                  [61, -40], [65, -24], [70, -18], [75, -30], [80, -44], [96, -46], [106, -24],
                  [118, 8], [140, 30], [180, 36]], float)  # fmt: skip
_KEPT = 0.62  # of a strand's direction, from one step of its growth to the next
# How far to the side the face reaches, in degrees, at these heights: no strand is combed over it.
_FACE = [-106, -92, -70, -40, 0, 45, 80, 120], [0, 34, 50, 60, 64, 60, 50, 42]


def hairline(identity: Identity, m: Measures, p: np.ndarray) -> np.ndarray:
    """How surely hair grows at points of the head: 0 (bare) to 1."""
    if identity.hair_style == "bald":
        return np.zeros(len(p))
    azimuth = np.degrees(np.arctan2(np.abs(p[:, 0]), p[:, 2] - CENTRE[2]))
    line = np.interp(azimuth, _LINE[:, 0], _LINE[:, 1]) * np.where(azimuth < 60, m.height, 1)
    male = 0.5 + 0.5 * identity.masculinity
    line -= 8 * male * bump(azimuth, 36, 10)
    line -= 22 * (1 - male) * bump(azimuth, 67, 6)
    if identity.hair_style == "receding":
        line -= 34 * np.exp(-((azimuth / 46) ** 4)) + 14 * bump(azimuth, 34, 14)
    rng = np.random.default_rng([identity.seed, 3])
    phase = rng.uniform(0, 6.28, 3)
    wobble = sum(np.sin(azimuth * f + q) for f, q in zip((0.35, 0.8, 1.7), phase, strict=True))
    cover = np.clip((line + 1.2 * wobble - p[:, 1]) / 9.0 + 0.5, 0, 1)
    if identity.hair_style == "receding":
        top = bump(p[:, 2], -60, 62) * np.clip((-95 - p[:, 1]) / 20, 0, 1)
        cover *= 1 - 0.93 * top * (np.abs(p[:, 0]) < 62)
    return cover


class _Skull:
    """How far the head reaches in every direction from its centre."""

    def __init__(self, head: Head, m: Measures, ears: bool) -> None:
        grid = head.flat[: head.rows * head.columns].reshape(head.rows, head.columns, 3) - CENTRE
        self.radius = np.linalg.norm(grid, axis=2)
        ways = grid / self.radius[..., None]
        middle = ways[head.rows // 2]
        self.azimuth = np.degrees(np.arctan2(middle[:, 0], middle[:, 2]))
        self.elevation = np.degrees(np.arcsin(ways[:, 4, 1]))
        if ears:
            y, z = -10.0 * m.height - CENTRE[1], -82.0 - CENTRE[2]
            near = np.exp(-(((grid[..., 1] - y) / 30) ** 2) - ((grid[..., 2] - z) / 26) ** 2)
            self.radius = self.radius + 15 * near

    def __call__(self, q: np.ndarray) -> np.ndarray:
        from scipy.ndimage import map_coordinates

        r = np.linalg.norm(q, axis=1) + 1e-9
        a = np.degrees(np.arctan2(q[:, 0], q[:, 2]))
        e = np.degrees(np.arcsin(np.clip(q[:, 1] / r, -1, 1)))
        column = np.interp(a, self.azimuth, np.arange(len(self.azimuth)))
        row = np.interp(e, self.elevation, np.arange(len(self.elevation)))
        return map_coordinates(self.radius, [row, column], order=1, mode="nearest")


def scalp_hair(head: Head, m: Measures, identity: Identity) -> list[Part]:
    """Grow the hair of the head."""
    if identity.hair_style == "bald":
        return []
    style = _STYLES[identity.hair_style]
    drawn = identity.look == "drawn"
    rng = np.random.default_rng([identity.seed, 11])
    width = style.width * (1.7 if drawn else 1)
    roots, up, _vertex = _sample(head, lambda p: hairline(identity, m, p), style.count, rng)
    paths, lock = _grow(roots, up, head, m, identity, style, rng, drawn)
    jitter = rng.random(len(paths)) if not drawn else rng.random(lock.max() + 1)[lock]
    parts = [_ribbons(paths, width * (0.75 + 0.5 * rng.random(len(paths))), identity, jitter,
                      taper=0.35 if style.cut > 300 else 0.6, group=LOCK_GROUP + lock)]  # fmt: skip
    if identity.hair_style in ("bun", "ponytail"):
        extra = _tail(identity, rng, drawn)
        parts.append(_ribbons(extra, np.full(len(extra), width * 1.15), identity,
                              rng.random(len(extra)), taper=0.6,
                              group=LOCK_GROUP + 500 + np.arange(len(extra)) // 24))  # fmt: skip
    return parts


def _sample(head, cover, count, rng):
    """Draw root points on the head where ``cover`` is high; with normals and nearest vertices."""
    from studykit.stimuli import _kernels

    grid_size = head.rows * head.columns
    p = head.part.vertices
    t = head.part.triangles
    t = t[(t < grid_size).all(1)]
    n = np.empty_like(p)
    _kernels.normals(p, t, n)
    a, b, c = np.moveaxis(p[t], 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    weight = area * cover((a + b + c) / 3)
    pick = rng.choice(len(t), count, p=weight / weight.sum())
    u, v = rng.random((2, count))
    flip = u + v > 1
    u[flip], v[flip] = 1 - u[flip], 1 - v[flip]
    w = np.stack([1 - u - v, u, v], 1)[..., None]
    roots, up = (p[t[pick]] * w).sum(1), unit((n[t[pick]] * w).sum(1))
    return roots, up, t[pick, 0]


def _grow(roots, up, head, m, identity, style, rng, drawn):
    skull = _Skull(head, m, ears=style.cut < 300)
    n = len(roots)
    x, y, z = roots.T
    part_x = 24.0 if style.comb == "side" else 0.0
    if abs(identity.parting) > 0.25:
        part_x = 26 * identity.parting
    top = np.clip((-92 - y) / 26, 0, 1)
    behind = np.clip((-105 - z) / 30, 0, 1)
    length = style.top * top + (1 - top) * (style.sides * (1 - behind) + style.back * behind)
    length = length * rng.uniform(0.8, 1.12, n)
    tie = _tie_point(identity)
    if style.comb == "crown":
        crown = np.array([8.0 * np.sign(identity.parting), -132.0, -125.0])
        comb = roots - crown + np.array([12.0 * np.sign(identity.parting), 12, 6])
    elif style.comb == "side":
        swing = np.where((x - part_x) * -np.sign(part_x) > 0, -np.sign(part_x), np.sign(part_x))
        comb = points(swing * (40 + 25 * top), 16, 6 - 25 * (1 - top)) * top[:, None]
        comb += (1 - top[:, None]) * np.array([0, 30.0, -22.0])
    elif style.comb == "back":
        comb = points(0.25 * x + 12 * identity.parting, -8, -40) * top[:, None]
        comb += (1 - top[:, None]) * np.array([0, 30.0, -20.0])
    elif style.comb == "part":
        comb = points(np.tanh((x - part_x * (z > -120)) / 4.0) * 34, 20, -16)
    fringe = np.zeros(n, bool)
    if style.comb == "part" and identity.seed % 3 == 0:
        fringe = (z > -52) & (y < -88) & (np.abs(x) < 52)
        comb[fringe] = points(0.35 * x[fringe] + 6 * identity.parting, 30, 30)
        length[fringe] = (m.brow_y - 3 - y[fringe] + rng.uniform(-3, 4, fringe.sum())).clip(20) + 16
    steps = style.points - 1
    clear = style.body * (0.12 + 0.88 * rng.random(n)) * (0.35 + 0.65 * np.clip(length / 30, 0, 1))
    if style.comb == "tie":
        clear = style.body * rng.random(n)
    lock = _locks(roots, (45 if style.lift < 2 else 90) if drawn else 260, rng)
    first = np.unique(lock, return_index=True)[1]
    if drawn:
        clear, length = clear[first][lock] + rng.uniform(0, 0.6, n), length[first][lock]
        length = length * rng.uniform(0.9, 1.0, n)
    position = roots
    path = [position]
    phase = rng.uniform(0, 2 * np.pi, n)
    for k in range(steps):
        step = length / steps
        out = unit(position - CENTRE)
        if style.comb == "tie":
            comb = tie - position
            step = np.minimum(step, np.linalg.norm(comb, axis=1) * 0.6)
        flow = unit(comb - (comb * out).sum(1, keepdims=True) * out, 1e-6)
        if k == 0:
            direction = flow + style.lift * up
        else:
            direction = _KEPT * direction + (1 - _KEPT) * flow
            direction = direction + style.fall * (k + 1) * np.array([0.0, 1.0, 0.0])
            if style.lift > 2:
                direction = direction + 0.8 * out
        direction = unit(direction, 1e-9)
        position = position + direction * step[:, None]
        # keep outside the head, at this strand's own height above it, and out of the face
        q = position - CENTRE
        r = np.linalg.norm(q, axis=1)
        height = skull(q) + clear * min((k + 1) / 3, 1.0)
        if style.lift <= 2:
            # strands that have come off the head above the ears are drawn back half way
            loose = 0.5 * np.maximum(r - height, 0) * (q[:, 1] < 20)
            q = q * (np.maximum(height, r - loose) / r)[:, None]
        q = np.where(fringe[:, None], q, _off_face(q + CENTRE) - CENTRE)
        position = q + CENTRE
        if style.cut < 300:
            over = position[:, 1] > style.cut
            last = path[-1][over]
            room = np.maximum(style.cut - last[:, 1], 0.05)
            run = np.maximum(position[over, 1] - last[:, 1], 1e-6)
            part = np.clip(room / run, 0.01, 1)[:, None]
            position[over] = last + (position[over] - last) * part
        path.append(position)
    paths = np.stack(path, 1)
    strength = style.clump if not drawn else max(style.clump, 0.75) if style.top > 8 else 0.0
    t = np.linspace(0, 1, paths.shape[1])[None, :, None] ** 1.3
    paths = paths + (paths[first][lock] - paths) * t * strength
    if style.wave:
        s = np.linspace(0, 1, style.points)[None]
        if style.clump > 0.5:
            phase = np.round(phase * 1.2) + 0.35 * phase
        turn = 2 * np.pi * style.turns * s + phase[:, None]
        size = style.wave * np.minimum(s * 3, 1) * (0.7 + 0.6 * rng.random((n, 1)))
        size = size * np.where(fringe, 0.2, 1.0)[:, None]
        ahead, out = unit(np.gradient(paths, axis=1), 1e-9), unit(paths - CENTRE)
        side = np.cross(ahead, out)
        across, away = np.sin(turn)[..., None], (0.6 + 0.6 * np.cos(turn))[..., None]
        paths = paths + size[..., None] * (across * side + away * out)
    return paths, lock


def _off_face(p: np.ndarray) -> np.ndarray:
    q = p - CENTRE
    azimuth = np.degrees(np.arctan2(np.abs(q[:, 0]), q[:, 2]))
    least = np.interp(p[:, 1], *_FACE)
    turn = np.radians(np.maximum(azimuth, least))
    across = np.hypot(q[:, 0], q[:, 2])
    sign = np.where(q[:, 0] >= 0, 1.0, -1.0)
    moved = CENTRE + points(sign * across * np.sin(turn), 0, across * np.cos(turn))
    moved[:, 1] = p[:, 1]
    return np.where((azimuth < least)[:, None], moved, p)


def _locks(roots, count, rng):
    """Number the lock that every strand belongs to: that of the nearest of ``count`` roots."""
    from scipy.spatial import cKDTree

    guides = rng.choice(len(roots), min(count, len(roots)), replace=False)
    nearest = cKDTree(roots[guides]).query(roots)[1]
    return np.unique(nearest, return_inverse=True)[1]


def _tie_point(identity: Identity) -> np.ndarray:
    high = identity.parting > -0.2
    if identity.hair_style == "bun" and high:
        return np.array([0.0, -112.0, -170.0])
    return np.array([0.0, -78.0 if high else -40.0, -186.0])


def _tail(identity, rng, drawn):
    tie = _tie_point(identity)
    count, steps = (140, 12) if drawn else (420, 14)
    t = np.linspace(0, 1, steps)[None]
    if identity.hair_style == "bun":
        a = rng.uniform(0, 2 * np.pi, (count, 1)) + t * rng.uniform(1.2, 3.0, (count, 1))
        b = rng.normal(0, 0.55, (count, 1)) + 0.25 * np.sin(a * 2)
        r = 24.0 * rng.uniform(0.86, 1.0, (count, 1))
        centre = tie + np.array([0, -14.0, -10.0]) * 0.4 + [0, -1, -5]
        x, z = r * np.cos(a) * np.cos(b), r * np.sin(a) * np.cos(b)
        return centre + points(x, 0.8 * r * np.sin(b), z)
    spread = rng.normal(0, 1, (count, 2))
    spread /= np.maximum(np.linalg.norm(spread, axis=1, keepdims=True), 1.0)
    wide = 15 * np.sin(np.pi * np.minimum(t * 0.85 + 0.12, 1)) ** 0.7
    x = tie[0] + spread[:, :1] * wide + 10 * identity.parting * t**2
    z = tie[2] - 22 * np.sin(np.pi * np.minimum(t * 1.2, 1)) - 6 + spread[:, 1:] * wide
    y = tie[1] - 10 * np.sin(np.pi * np.minimum(t * 2.2, 1))
    return points(x, y + 190 * t**1.3 * rng.uniform(0.85, 1.0, (count, 1)), z)


def _ribbons(paths, width, identity, jitter, taper=0.35, colour=None, group=HAIR_GROUP,
             material=None, bind=None, ao=None, root_shade=0.62) -> Part:  # fmt: skip
    """Turn paths (n, k, 3) into camera-facing ribbons."""
    from studykit.stimuli._kernels import HAIR

    n, k, _ = paths.shape
    s = np.linspace(0, 1, k)
    shape = np.where(s < 0.6, 1.0, 1.0 - (1 - taper) * (s - 0.6) / 0.4)
    shape = shape * np.minimum(0.3 + 4 * s, 1.0)
    half = 0.5 * width[:, None] * shape[None]
    base = linear(identity.hair_colour if colour is None else colour)
    tone = (root_shade + (1.12 - root_shade) * s**0.6) * (0.72 + 0.56 * jitter[:, None])
    if identity.look == "drawn":
        tone = np.tile(0.92 + 0.16 * jitter[:, None], k)
    local = np.zeros((n, k * 2, 4))
    local[..., 0] = jitter[:, None]
    index = np.arange(n * k * 2).reshape(n, k, 2)
    if np.ndim(group):
        group = np.tile(np.repeat(group, k - 1), 2)
    return Part(
        vertices=paths.repeat(2, 1),
        triangles=strip(index[:, :-1], index[:, 1:]),
        material=HAIR if material is None else material,
        group=group,
        colour=np.clip(base * tone[..., None], 0, 1).repeat(2, 1),
        local=local,
        tangent=unit(np.gradient(paths, axis=1), 1e-9).repeat(2, 1),
        side=np.stack([-half, half], -1),
        bind=None if bind is None else np.repeat(bind, k * 2),
        ao=ao,
        casts=bool(np.max(group) != BROW_GROUP),
    )


def brows(head: Head, m: Measures, identity: Identity) -> list[Part]:
    """Eyebrows, hair by hair along the brow."""
    from scipy.spatial import cKDTree

    from studykit.stimuli._kernels import LASH

    rng = np.random.default_rng([identity.seed, 21])
    drawn = identity.look == "drawn"
    thick = 2.5 * (1 + 0.4 * identity.brow_thickness + 0.15 * identity.masculinity)
    count = 70 if drawn else 230
    p = head.part.vertices[: head.rows * head.columns]
    front = np.flatnonzero((p[:, 2] > -60) & (p[:, 1] < m.brow_y + 20) & (p[:, 1] > m.brow_y - 25))
    tree = cKDTree(p[front, :2])
    base = np.asarray(identity.hair_colour, float)
    dark = base * 0.66 + 0.03
    if identity.hair_style == "bald" or base.mean() > 0.6:
        dark = np.minimum(dark * 0.9, [0.42, 0.34, 0.27])
    out = []
    for sign in (-1, 1):
        u = rng.random(count) ** 0.85
        spread = np.clip(1.25 - 0.85 * u, 0.25, 1) * np.clip(u * 8 + 0.45, 0, 1)
        v = rng.uniform(-1, 1, count) * spread
        x = 12.0 + 46.0 * u
        y = brow_curve(m, x) + v * thick
        ahead = brow_curve(m, x + 1) - brow_curve(m, x)
        rise = np.interp(u, [0, 0.2, 0.5, 1], [0.95, 0.6, 0.25, 0.05]) - 0.30 * v
        dx, dy = np.ones(count), ahead - rise
        size = (6.0 if not drawn else 12.0) * rng.uniform(0.7, 1.1, count) / np.hypot(dx, dy)
        s = np.linspace(0, 1, 4)[None]
        px = sign * (x[:, None] + dx[:, None] * s * size[:, None])
        py = y[:, None] + (dy[:, None] * s + 0.12 * s**2) * size[:, None]
        dist, near = tree.query(np.stack([px, py], -1).reshape(-1, 2), k=3)
        w = 1 / (dist + 0.3)
        w /= w.sum(1, keepdims=True)
        pz = (p[front[near], 2] * w).sum(1).reshape(px.shape) + 0.5 + 1.0 * np.sin(np.pi * s * 0.8)
        bind = front[near[:, 0]].reshape(px.shape)[:, 0]
        width = np.full(count, 0.75 if not drawn else 2.6)
        out.append(_ribbons(points(px, py, pz), width, identity, rng.random(count), colour=dark,
                            group=BROW_GROUP, material=LASH, bind=bind, ao=0.85,
                            root_shade=0.9))  # fmt: skip
    return out


def lashes(head: Head, m: Measures, identity: Identity) -> list[Part]:
    """Upper and lower lashes, bound to the lids' edges."""
    from studykit.stimuli._kernels import LASH

    rng = np.random.default_rng([identity.seed, 22])
    drawn = identity.look == "drawn"
    male = 0.5 + 0.5 * identity.masculinity
    out = []
    for sign, edges in zip((-1, 1), head.edges, strict=True):
        order = np.argsort(head.part.vertices[edges[0], 0])
        for up, edge in zip((True, False), edges, strict=True):
            if not up and drawn:
                continue
            edge = edge[order]
            count = 34 if up else 13
            at = rng.uniform(0.06, 0.97, count) * (len(edge) - 1)
            i = at.astype(int)
            f = (at - i)[:, None]
            e = head.part.vertices[edge]
            root = e[i] * (1 - f) + e[np.minimum(i + 1, len(e) - 1)] * f
            fan = (root[:, 0] - sign * m.eye[0]) / m.eye_half
            size = ((7.2 - 2.2 * male) if up else 3.4) * rng.uniform(0.8, 1.1, count)
            if drawn:
                size = size * 1.5 * (0.35 + 0.8 * np.clip(sign * fan, 0, 1))
            s = np.linspace(0, 1, 4)[None]
            rise = 0.22 * s - 0.62 * s**2 if up else 0.45 * s
            bent = points((fan * 0.55 * size)[:, None] * s, size[:, None] * rise,
                          size[:, None] * (0.85 * s - 0.12 * s**2))  # fmt: skip
            width = np.full(count, (0.55 if up else 0.25) if not drawn else 1.3)
            out.append(_ribbons(root[:, None] + bent, width, identity, rng.random(count),
                                colour=(0.10, 0.075, 0.065), group=BROW_GROUP, material=LASH,
                                bind=edge[i], taper=0.2, ao=0.7, root_shade=1.0))  # fmt: skip
    return out


def beard_cover(identity: Identity, m: Measures, p: np.ndarray) -> np.ndarray:
    """How surely a beard grows at points of the face: 0 to 1."""
    if identity.beard == "none":
        return np.zeros(len(p))
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    s, soft = y - mouth_line(m, x), smoothstep
    lips = soft(1.12, 0.98, x / m.mouth_half) * soft(-m.upper_lip - 1.5, -m.upper_lip + 0.5, s)
    lips *= soft(m.lower_lip + 3.5, m.lower_lip + 1.0, s)
    # moustache: from under the nose to beyond the corners, thinning and dropping at its ends
    out = np.clip(x / (m.mouth_half + 6), 0, 1)
    top = m.nose_y + 4.0 + 5.0 * out**2
    bottom = mouth_line(m, x) - 0.55 * m.upper_lip * (1 - out**2)
    bottom = bottom + (top + 4.0 - bottom) * out**4 + 4.0 * out**3
    tache = soft(-1.0, 1.0, y - top) * soft(1.0, -1.0, y - bottom) * soft(1.0, 0.93, out)
    # goatee: a rounded patch on the chin that reaches up beside the mouth
    round_ = np.hypot(x / (m.mouth_half * 0.92), (y - m.mouth_y - 34) / 32)
    goatee = soft(1.06, 0.92, round_) * soft(-1, 4, s)
    beside = soft(m.mouth_half - 3, m.mouth_half + 1, x) * soft(
        m.mouth_half + 7, m.mouth_half + 3, x
    )
    goatee = np.maximum(goatee, beside * soft(-7, -3, s) * soft(30, 20, s))
    goatee = goatee * soft(104, 94, y)
    # a line from the corner of the mouth up to the sideburn
    azimuth = np.degrees(np.arctan2(x, z - CENTRE[2]))
    upper = np.interp(azimuth, [0, 16, 24, 40, 52, 60, 66, 72], [44, 34, 22, 18, 8, -10, -34, -44])
    full = soft(upper - 3, upper + 4, y) * soft(96, 84, y) * soft(80, 73, azimuth)
    full *= np.maximum(soft(-1, 4, s), soft(m.mouth_half + 1, m.mouth_half + 7, x))
    full *= 1 - soft(-52, -66, z) * soft(40, 60, y)
    by_kind = {
        "moustache": tache,
        "goatee": np.maximum(tache, goatee),
        "stubble": np.maximum(np.maximum(full, tache), goatee),
    }
    cover = by_kind.get(identity.beard, by_kind["stubble"])
    return cover * (1 - lips) * (z > -85)


def beard(head: Head, m: Measures, identity: Identity) -> list[Part]:
    """Beard and moustache, hair by hair, bound to the skin."""
    if identity.beard in ("none", "stubble") or identity.look == "drawn":
        return []
    rng = np.random.default_rng([identity.seed, 23])
    length, count = {"moustache": (11, 420), "goatee": (11, 800), "short": (6.5, 1900),
                     "full": (19, 2000)}[identity.beard]  # fmt: skip
    roots, up, vertex = _sample(head, lambda p: beard_cover(identity, m, p), count, rng)
    tache = roots[:, 1] < m.mouth_y - 2
    down = points(0.010 * roots[:, 0], 1, 0.15)
    aside = points(np.sign(roots[:, 0]) * (0.35 + 0.02 * np.abs(roots[:, 0])), 0.75, 0.2)
    down = np.where(tache[:, None], aside, down) + rng.normal(0, 0.16, down.shape)
    size = length * rng.uniform(0.7, 1.15, count)
    size[tache] = np.minimum(size[tache], np.maximum(m.mouth_y - 1.5 - roots[tache, 1], 3.0))
    far = np.clip((np.abs(roots[:, 0]) - 30) / 40, 0, 1)
    size *= 1 - 0.55 * far
    s = np.linspace(0, 1, 5)[None, :, None]
    lift = 0.55 if identity.beard != "short" else 0.5
    d = unit(down)
    d -= (d * up).sum(1, keepdims=True) * up * 0.9
    paths = roots[:, None] + size[:, None, None] * (
        s * d[:, None] + lift * up[:, None] * (s - 0.55 * s**2) + np.array([0, 0.25, 0]) * s**2
    )
    base = np.asarray(identity.hair_colour) * np.array([0.88, 0.82, 0.80])
    return [_ribbons(paths, np.full(count, 1.3), identity, rng.random(count), colour=base,
                     bind=vertex, taper=0.25, root_shade=0.7)]  # fmt: skip
