"""From an identity, a pose and an expression to a picture and everything true about it."""

from dataclasses import dataclass, field

import numpy as np

from studykit.stimuli.geometry import linear
from studykit.stimuli.head import NECK
from studykit.stimuli.identity import Identity
from studykit.stimuli.model import Model, build_model, camera_shift, deform, place_point
from studykit.stimuli.parts import BROW_GROUP, LOCK_GROUP, NECK_GROUP
from studykit.stimuli.state import Expression, Pose

_EYE_Z = 1100.0  # the camera's distance, mm
_SCALE = 0.795 / 256  # image sides per mm at the head's centre
_CENTRE = (0.5, 0.548)  # where the pivot appears, image sides
_DEPTH_TOLERANCE = 3.0  # mm: a point is visible when nothing lies this much nearer


@dataclass(frozen=True)
class Frame:
    """A rendered face and its truth.

    Attributes
    ----------
    image : (S, S, 3) uint8
    landmarks : (68, 2) float
        Points of the surface in the 68-point order, in pixels. The jaw's points are fixed places
        on the skin (the outline seen from the front), not the outline of a turned head.
    visible : (68,) bool
        False where the head itself, its hair or glasses hide a landmark, or it is out of the image.
    pose : Pose
    expression : Expression
    mask : (S, S) bool
        Foreground: head, hair and shoulders.
    face_mask : (S, S) bool
        Skin of the face with brows, eyes and mouth.
    identity : Identity
    """

    image: np.ndarray
    landmarks: np.ndarray
    visible: np.ndarray
    pose: Pose
    expression: Expression
    mask: np.ndarray
    face_mask: np.ndarray
    identity: Identity
    _points: np.ndarray | None = field(repr=False)
    _depth: np.ndarray | None = field(repr=False)
    _index: np.ndarray | None = field(repr=False)


def render(
    identity: Identity,
    pose: Pose | None = None,
    expression: Expression | None = None,
    size: int = 256,
) -> Frame:
    """Render a face.

    Parameters
    ----------
    identity : Identity
    pose : Pose, optional
        Frontal by default.
    expression : Expression, optional
        Neutral by default.
    size : int
        Side of the square image in pixels.

    Returns
    -------
    Frame
        The first frame of an identity takes up to a second longer, to build its model.
    """
    from studykit.stimuli import _kernels

    pose = pose or Pose()
    expression = expression or Expression()
    model = build_model(identity)
    points = deform(model, expression)
    lid = _under_lid(model, points)
    count, faces = model.solid
    turn = pose.rotation()
    view, normal = np.empty((2, len(points), 3), np.float32)
    tangent = np.zeros_like(view)
    fine = np.empty_like(view)
    zoom, centre = _framing(pose, 2 * size)
    _kernels.transform(
        points, model.tangent, model.outward, model.side, model.body,
        np.radians([pose.yaw, pose.pitch, pose.roll]), turn,
        Pose(0.35 * pose.yaw, 0.0, 0.12 * pose.roll).rotation(), NECK, camera_shift(turn), _EYE_Z,
        zoom, centre, view, tangent, normal, fine,
    )  # fmt: skip
    _kernels.normals(view[:count], model.triangles[:faces], normal[:count])
    for where, sign in zip(model.eyes, (-1, 1), strict=True):
        middle = place_point(model.measures.eye * (sign, 1, 1), pose)
        normal[where] = (view[where] - middle) / model.measures.eye_radius
    depth, index = _kernels.rasterise(fine, model.triangles, model.culled, 2 * size, 2 * size)
    for where, cover in zip(model.eyes, lid, strict=True):
        model.local[where, 3] = cover
    drawn = identity.look == "drawn"
    light = _lights(identity)
    if drawn:
        shadow = np.zeros((2, 2), np.float32)
    else:
        shadow, _ = _kernels.rasterise(
            _shadow_points(view, light[0]), model.casters,
            np.zeros(len(model.casters), bool), 240, 240,
        )  # fmt: skip
    wrinkles = np.array([max(expression.brows, 0), max(expression.smile, 0)], np.float32)
    iris = np.asarray(identity.eye_colour, np.float32) ** np.float32(2.2)
    linear = _kernels.shade(
        index, fine, view, normal, tangent, model.triangles, model.material, model.colour,
        model.uv, model.local, model.ao, model.texture, wrinkles, shadow, light, iris,
        0.155 if not drawn else 0.30, drawn,
    )  # fmt: skip
    if drawn:
        near = np.where(depth > 0, _EYE_Z - 1 / np.maximum(depth, 1e-6), -400).astype(np.float32)
        lines = _kernels.ink(
            index, near, model.group, 1.9 * size / 256, 7.0 * 128 / size,
            NECK_GROUP, BROW_GROUP, LOCK_GROUP,
        )  # fmt: skip
    else:
        lines = np.zeros((1, 1), np.float32)
    image, cover = _kernels.resolve(
        linear, index, lines, np.array([0.016, 0.012, 0.02], np.float32),
        _fit(model.background, size), _curve(drawn), size, drawn,
    )  # fmt: skip
    face = (index >= 0) & model.face[np.maximum(index, 0)]
    face = sum(face[i::2, j::2].astype(np.uint8) for i in (0, 1) for j in (0, 1)) >= 2
    corners, weights = model.head.landmarks
    marks = (fine[corners].astype(float) * weights[..., None]).sum(1)
    visible = _visible(depth, marks)
    return Frame(
        image, (marks[:, :2] - 0.5) / 2, visible, pose, expression, cover >= 0.5, face, identity,
        fine, depth, index,
    )  # fmt: skip


def flow(a: Frame, b: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Optical flow between two frames of one identity, exact from the surface.

    Parameters
    ----------
    a, b : Frame
        Of the same identity and size.

    Returns
    -------
    flow : (S, S, 2) float32
        What pixel p of ``a`` shows lies at p + flow[p] in ``b`` (x, y). Zero on the background.
    valid : (S, S) bool
        True where ``b`` shows it too: not hidden, not outside; on the background, where both show
        background.
    """
    if a.identity != b.identity or a.mask.shape != b.mask.shape:
        raise ValueError("flow needs two frames of one identity and size")
    model = build_model(a.identity)
    size = a.mask.shape[0]
    # of the four samples of a pixel, take the one down right of its centre
    index = a._index[1::2, 1::2]
    y, x = np.nonzero(index >= 0)
    t = model.triangles[index[y, x]]
    p = a._points[t].astype(float)
    e1, e2 = p[:, 1, :2] - p[:, 0, :2], p[:, 2, :2] - p[:, 0, :2]
    d = 2 * np.stack([x, y], 1) + 0.5 - p[:, 0, :2]
    area = e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]
    # A triangle seen edge-on has no area, and no place inside it: its middle stands for it.
    edge_on = np.abs(area) < 1e-6
    area[edge_on] = 1.0
    w1 = np.where(edge_on, 1 / 3, (d[:, 0] * e2[:, 1] - d[:, 1] * e2[:, 0]) / area)
    w2 = np.where(edge_on, 1 / 3, (e1[:, 0] * d[:, 1] - e1[:, 1] * d[:, 0]) / area)
    q = b._points[t].astype(float)
    q = q[:, 0] * (1 - w1 - w2)[:, None] + q[:, 1] * w1[:, None] + q[:, 2] * w2[:, None]
    out = np.zeros((size, size, 2), np.float32)
    valid = (index < 0) & (b._index[1::2, 1::2] < 0)
    out[y, x] = (q[:, :2] - 0.5) / 2 - np.stack([x, y], 1)
    valid[y, x] = _visible(b._depth, q, every=True)
    return out, valid


def _framing(pose: Pose, size: int) -> tuple[float, np.ndarray]:
    """Pixels times mm, to be divided by the distance, and where the turning point appears."""
    centre = np.array([_CENTRE[0] + pose.x, _CENTRE[1] + pose.y]) * size - 0.5
    return _SCALE * _EYE_Z * pose.scale * size, centre


def _curve(drawn: bool) -> np.ndarray:
    """sRGB of linear values 0 to 2 in 4096 steps, after a gentle shoulder in the photo look."""
    v = np.linspace(0, 2, 4096)
    if not drawn:
        v = v * (v * 0.20 + 1.0) / (v * 0.68 + 1.0)
    v = np.clip(v, 0, 1)
    return np.where(v > 0.0031308, 1.055 * v ** (1 / 2.4) - 0.055, 12.92 * v)


def _visible(depth: np.ndarray, marks: np.ndarray, every: bool = False) -> np.ndarray:
    """Whether points lie in the image and nothing lies clearly before them.

    ``marks`` are (n, 3): x, y in the samples of ``depth`` and 1 / distance. One free sample of the
    four around a point is enough, or, with ``every``, all four must be free.
    """
    size = depth.shape[0]
    points, near = marks[:, :2], marks[:, 2]
    inside = ((points >= -0.5) & (points <= size - 0.5)).all(1)
    corner = np.floor(np.clip(points, -1e6, 1e6)).astype(int)
    x, y = np.clip(corner[:, None] + [(0, 0), (1, 0), (0, 1), (1, 1)], 0, size - 1).T
    z = depth[y, x].T
    hidden = (z > 0) & (1 / np.maximum(z, 1e-9) < (1 / near)[:, None] - _DEPTH_TOLERANCE)
    return inside & ~(hidden.any(1) if every else hidden.all(1))


def _under_lid(model: Model, points: np.ndarray) -> list[np.ndarray]:
    """How much light the upper lid lets through to every vertex of the eyeballs: 0 to 1."""
    out = []
    for where, (upper, _) in zip(model.eyes, model.head.edges, strict=True):
        line = points[upper]
        line = line[np.argsort(line[:, 0])]
        below = points[where, 1] - np.interp(points[where, 0], line[:, 0], line[:, 1])
        if model.identity.look == "drawn":
            out.append(np.where(below < 2.5, 0.45, 1.0))
            continue
        side = np.minimum(points[where, 0] - line[0, 0], line[-1, 0] - points[where, 0])
        open_ = 0.30 + 0.70 * np.clip(below / 4.2, 0, 1) ** 0.8
        out.append(open_ * (0.55 + 0.45 * np.clip(side / 4.0, 0, 1)))
    return out


def _lights(identity: Identity) -> np.ndarray:
    """Key direction and colour, fill direction and colour, rim, sky and ground (see ``shade``)."""
    a = np.radians(identity.light)
    key = np.array([np.sin(a) * 0.85, -0.52, np.cos(a) * 0.85])
    fill = np.array([-np.sin(a) * 0.9, -0.05, 0.75])
    around = linear(identity.background_colour)
    around = around / (around.mean() + 1e-6)
    tint = 0.75 + 0.25 * around
    out = np.array(
        [key / np.linalg.norm(key), [1.16, 1.06, 0.96], fill / np.linalg.norm(fill),
         0.26 * tint * [0.94, 1.0, 1.08], 0.75 * tint, 0.34 * tint * [0.96, 1.0, 1.06],
         0.17 * tint * [1.08, 1.0, 0.92]]
    )  # fmt: skip
    return out.astype(np.float32)


def _shadow_points(view: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Project along the key light into a 240 x 240 map over 360 mm."""
    s = np.hypot(key[0], key[2])
    right = np.array([key[2] / s, 0, -key[0] / s], np.float32)
    up = np.cross(key, right)
    scale = np.float32(240 / 360)
    return np.stack([view @ right * scale + 120, view @ up * scale + 120, view @ key + 1000], 1)


def _fit(background: np.ndarray, size: int) -> np.ndarray:
    if background.shape[0] == size:
        return background
    from scipy.ndimage import zoom

    return zoom(background, (size / background.shape[0],) * 2 + (1,), order=1)
