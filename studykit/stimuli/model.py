"""One identity's whole model: every part in one mesh, with the light that reaches it baked in."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from studykit.stimuli.geometry import linear, unit
from studykit.stimuli.head import (
    JAW_AXIS,
    LID_KEYS,
    NECK,
    PIVOT,
    Head,
    Measures,
    Part,
    body_weight,
    build_head,
    measures,
)
from studykit.stimuli.identity import Identity
from studykit.stimuli.state import Expression, Pose


@dataclass(frozen=True)
class Model:
    """All parts joined; arrays over vertices unless said otherwise. ``render`` reads it.

    ``material``, ``group``, ``culled``, ``casts`` and ``face`` are over triangles. ``solid`` counts
    the vertices and triangles before the first ribbon; ``outward`` is the direction away from the
    middle of the head, which stands in for a normal on hair.
    """

    identity: Identity
    measures: Measures
    head: Head
    vertices: np.ndarray
    triangles: np.ndarray
    material: np.ndarray
    group: np.ndarray
    culled: np.ndarray
    casts: np.ndarray
    casters: np.ndarray
    colour: np.ndarray
    uv: np.ndarray
    local: np.ndarray
    tangent: np.ndarray
    outward: np.ndarray
    side: np.ndarray
    bind: np.ndarray
    jaw: np.ndarray
    body: np.ndarray
    ao: np.ndarray
    solid: tuple
    eyes: tuple
    texture: np.ndarray
    background: np.ndarray
    face: np.ndarray


@lru_cache(maxsize=8)
def build_model(identity: Identity) -> Model:
    """Build (or recall) the model of an identity; takes under a second."""
    from studykit.stimuli import hair, parts
    from studykit.stimuli.skin import DETAIL, skin_texture

    m = measures(identity)
    head = build_head(identity, m)
    pieces: list[Part] = [head.part, *parts.eyeballs(m), *parts.mouth(head, m)]
    pieces += parts.ears(head, m, identity) + parts.shoulders(identity)
    pieces += parts.glasses(head, m, identity)
    solid = len(pieces)
    pieces += hair.brows(head, m, identity) + hair.lashes(head, m, identity)
    pieces += hair.beard(head, m, identity) + hair.scalp_hair(head, m, identity)

    offsets = np.cumsum([0] + [len(p.vertices) for p in pieces])

    def joined(name, default, dtype=np.float32):
        values, shape = [], np.shape(default)
        for p in pieces:
            given = getattr(p, name)
            each = np.reshape(default if given is None else given, (-1, *shape))
            values.append(np.broadcast_to(each, (len(p.vertices), *shape)))
        return np.concatenate(values).astype(dtype)

    def per_triangle(name, dtype):
        values = [np.broadcast_to(getattr(p, name), len(p.triangles)) for p in pieces]
        return np.concatenate(values).astype(dtype)

    vertices = np.concatenate([p.vertices for p in pieces])
    uv = joined("uv", (-1.0, -1.0))
    uv[uv[:, 0] >= 0] *= DETAIL
    body = joined("body", np.nan)
    missing = np.isnan(body)
    body[missing] = body_weight(vertices[missing])
    group = per_triangle("group", np.int16)
    triangles = np.concatenate([p.triangles + o for p, o in zip(pieces, offsets, strict=False)])
    triangles = triangles.astype(np.int32)
    middle = vertices[head.part.triangles].mean(1)
    _, y, z = middle.T
    low = (y > 66) & (z < -30 + 0.4 * (80 - y)) | (y > 92)
    cover = hair.hairline(identity, m, middle)
    of_head = group[: len(middle)]
    of_head[low] = parts.NECK_GROUP
    of_head[cover > 0.5] = parts.SCALP_GROUP
    face = np.isin(group, (parts.EYE_GROUP, parts.MOUTH_GROUP, parts.TEETH_GROUP, parts.BROW_GROUP))
    face[: len(middle)] = ~low & (z > -62) & (cover < 0.5) & (y > -112)
    casts, material = per_triangle("casts", bool), per_triangle("material", np.int8)
    usual = {"colour": (0.0, 0.0, 0.0), "local": (0.0, 0.0, 0.0, 1.0), "tangent": (0.0, 0.0, 0.0)}
    usual |= {"side": 0.0, "jaw": 0.0, "ao": np.nan}
    model = Model(
        identity=identity,
        measures=m,
        head=head,
        vertices=vertices,
        triangles=triangles,
        material=material,
        group=group,
        culled=per_triangle("culled", bool),
        casts=casts,
        casters=_thinned(triangles, casts, material),
        **{name: joined(name, value) for name, value in usual.items()},
        uv=uv,
        outward=unit(vertices - np.array([0.0, -25.0, -80.0])).astype(np.float32),
        bind=joined("bind", -1, np.int64),
        body=body,
        solid=(int(offsets[solid]), sum(len(p.triangles) for p in pieces[:solid])),
        eyes=tuple(slice(offsets[1 + k], offsets[2 + k]) for k in range(2)),
        texture=skin_texture(head, m, identity),
        background=_background(identity, 256),
        face=face,
    )
    return replace(model, ao=_bake(model))


def _thinned(triangles, casts, material) -> np.ndarray:
    """The triangles that cast a shadow, with half of the hair's left out."""
    from studykit.stimuli._kernels import HAIR

    pair = triangles[:, 0] // 16 % 2 == 0
    return triangles[casts & (pair | (material != HAIR))]


def deform(model: Model, expression: Expression) -> np.ndarray:
    """Move the vertices of a model to an expression, in the head's axes."""
    e = expression
    head = model.head
    n = len(head.part.vertices)
    rest = model.vertices
    p = rest.copy()
    h = p[:n]
    for (index, keys), blink in zip(head.lids, (e.blink_left, e.blink_right), strict=True):
        # the lid follows the gaze down, and up
        value = float(np.clip(blink + (1 - max(blink, 0)) * 0.30 * e.gaze_y, -0.3, 1.0))
        k = min(int(np.searchsorted(LID_KEYS, value, side="right")) - 1, len(LID_KEYS) - 2)
        f = (value - LID_KEYS[k]) / (LID_KEYS[k + 1] - LID_KEYS[k])
        h[index] = keys[k] * (1 - f) + keys[k + 1] * f
    amounts = {"smile": max(e.smile, 0), "frown": max(-e.smile, 0), "pucker": e.pucker}
    amounts |= {"raise": max(e.brows, 0), "knit": max(-e.brows, 0)}
    for name, amount in amounts.items():
        if amount:
            h += amount * head.shapes[name]
    bound = model.bind >= 0
    moved = h - rest[:n]
    p[bound] += moved[model.bind[bound]]
    jaw = np.where(bound, model.jaw[np.maximum(model.bind, 0)], model.jaw)
    if e.mouth_open:
        angle = np.radians(13.0 * e.mouth_open) * jaw
        on = angle != 0
        q = p[on] - JAW_AXIS
        c, s = np.cos(angle[on]), np.sin(angle[on])
        y, z = q[:, 1] * c + q[:, 2] * s, -q[:, 1] * s + q[:, 2] * c
        # the joint slides forward and down as the jaw swings
        slide = e.mouth_open * jaw[on]
        p[on, 1], p[on, 2] = y + JAW_AXIS[1] + 4 * slide, z + JAW_AXIS[2] + 8 * slide
        # an open mouth draws its corners in
        p[:n, 0] *= 1 - 0.10 * e.mouth_open * np.exp(
            -(((np.abs(rest[:n, 0]) - model.measures.mouth_half) / 16) ** 2)
            - ((rest[:n, 1] - model.measures.mouth_y) / 16) ** 2
        ) * (rest[:n, 2] > -45)
    turn = Pose(28 * e.gaze_x, -20 * e.gaze_y).rotation()
    for sign, where in zip((-1, 1), model.eyes, strict=True):
        centre = model.measures.eye * (sign, 1, 1)
        p[where] = (p[where] - centre) @ turn.T + centre
    return p


def place_point(point: np.ndarray, pose: Pose) -> np.ndarray:
    """Where a point fixed to the head lies before projection."""
    turn = pose.rotation()
    return (point - NECK) @ turn.T + camera_shift(turn)


def camera_shift(turn: np.ndarray) -> np.ndarray:
    """Where the head's turning point lies: the camera follows the head two thirds of the way."""
    arm = PIVOT - NECK
    return -arm - 0.66 * (turn @ arm - arm)


def _bake(model: Model) -> np.ndarray:
    """How much of the sky every vertex sees, from depth maps along many directions."""
    from studykit.stimuli import _kernels

    k = np.arange(32) + 0.5
    height = 1 - 2 * k / 32
    angle = np.pi * (1 + 5**0.5) * k
    across = np.sqrt(1 - height**2)
    directions = np.stack([np.cos(angle) * across, -height, np.sin(angle) * across], 1)
    directions = directions[(directions[:, 1] < 0.75)]
    p = model.vertices.astype(np.float32)
    ribbon = model.side != 0
    side = unit(np.cross(model.tangent[ribbon], p[ribbon] - np.array([0, -20, -80])), 1e-9)
    p[ribbon] += (model.side[ribbon, None] * side).astype(np.float32)
    faces = model.triangles[model.casts | (model.material == _kernels.CLOTH)]
    every = np.zeros(len(faces), bool)
    n = np.empty_like(p)
    _kernels.normals(p, model.triangles, n)
    n[ribbon] = model.outward[ribbon]
    total, weight = np.zeros((2, len(p)))
    for d in directions:
        a = np.cross(d, [0.13, 0.97, 0.21])
        a /= np.linalg.norm(a)
        b = np.cross(d, a)
        places = np.stack([p @ a * 0.42 + 110, p @ b * 0.42 + 110, p @ d + 1000], 1)
        places = places.astype(np.float32)
        depth, _ = _kernels.rasterise(places, faces, every, 220, 220)
        seen = np.zeros(len(p))
        _kernels.occlusion(places, depth, 5.0, seen)
        w = np.clip(n @ d, 0, None)
        w = np.where(ribbon, 0.25 + 0.75 * w, w)
        total += seen * w
        weight += w
    ao = np.where(np.isnan(model.ao), total / np.maximum(weight, 1e-6), model.ao)
    return np.clip(ao, 0.03, 1).astype(np.float32)


def _background(identity: Identity, size: int) -> np.ndarray:
    """A graded wall with shapes far out of focus, or flat shapes in the drawn look."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng([identity.seed, 41])
    base = linear(identity.background_colour)
    y, x = np.mgrid[0:size, 0:size] / (size - 1)
    if identity.look == "drawn":
        image = np.tile(base, (size, size, 1))
        image *= 0.92 + 0.16 * (1 - y[..., None])
        for _ in range(int(rng.integers(2, 6))):
            cx, cy, r = rng.random(), rng.random(), rng.uniform(0.08, 0.35)
            edge = np.clip((r - np.hypot(x - cx, y - cy)) * size + 0.5, 0, 1)[..., None]
            tint = base * rng.uniform(0.86, 1.12)
            image = image * (1 - 0.7 * edge) + tint * 0.7 * edge
        return np.clip(image, 0, 1).astype(np.float32)
    glow = np.exp(-(((x - rng.uniform(0.2, 0.8)) / 0.7) ** 2) - ((y - 0.3) / 0.8) ** 2)
    image = base * (0.55 + 0.6 * glow[..., None])
    if rng.random() < 0.65:
        layer = np.zeros((size, size, 3))
        for _ in range(int(rng.integers(5, 12))):
            cx, cy = rng.random(2)
            tint = np.clip(base * rng.uniform(0.35, 1.9) * rng.uniform(0.8, 1.2, 3), 0, 1)
            if rng.random() < 0.5:
                w, h = rng.uniform(0.04, 0.22), rng.uniform(0.15, 0.7)
                shape = (np.abs(x - cx) < w) & (np.abs(y - cy) < h)
            else:
                shape = np.hypot(x - cx, y - cy) < rng.uniform(0.04, 0.14)
            layer += shape[..., None] * (tint - base) * rng.uniform(0.3, 0.8)
        image = image + gaussian_filter(layer, (size * 0.028, size * 0.028, 0))
    image *= 1 - 0.22 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)[..., None] * 2
    grain = gaussian_filter(rng.standard_normal((size, size, 1)), (0.7, 0.7, 0)) * 0.012
    return np.clip(image * (1 + grain), 0.002, 1).astype(np.float32)
