"""The motion network of ``sparse``, written once: PyTorch trains it, a graph of Paddle runs it.

Zhao, Wu and Guo, "Sparse to Dense Motion Transfer for Face Image Animation" (2021): landmarks, as
vectors of coordinates, set the norms of an encoder and a decoder (AdaIN) and are added to what lies
between (Add_Motion); three local branches refine the flow at the eyes and the mouth (eq. 3).
Different from there, a branch gives what is left of the motion after the similarity between the
two faces' rigid landmarks: patches and the flow around them, which turn and shift by the same map,
then can't come apart, and double what lies in both, where a head goes further than in training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

POINTS = 70
"""The 68 landmarks and the middles of the irises, as
:data:`studykit.media.following.POINTS` has them."""

PARTS: dict[str, tuple[int, ...]] = {
    "left": (*range(17, 22), *range(36, 42), 68),
    "right": (*range(22, 27), *range(42, 48), 69),
    "mouth": tuple(range(48, 68)),
}
"""The landmarks of the local branches: an eye with its brow, the other one, and the mouth."""

_RIGID = [0, 1, 2, 14, 15, 16, *range(27, 36), 36, 39, 42, 45]  # what neither lips nor lids move
_REACH = 0.3  # what an output of 1 is, in coordinates, and in half sides of a patch
_RIM = 0.25  # how much of a patch's half side fades out
_ALL_PLACES = 8  # Add_Motion knows every place up to this side, channels alone above it


@dataclass(frozen=True)
class Shape:
    """How large the network is, and what of the paper it has.

    Attributes
    ----------
    side : int
        Of the image that motion is found in, in pixels. The flow's grid has half as many places a
        side, a local branch's patch a quarter.
    whole, local : tuple of int
        Channels of the global branch's encoder, a number a level, and of a local branch's.
    code : int
        Length of what is made of the landmarks for the norms.
    adain, add_motion, patches : bool
        Whether it has these parts: the paper's ablations.
    """

    side: int = 256
    whole: tuple[int, ...] = (32, 64, 128, 160, 160)
    local: tuple[int, ...] = (16, 32, 64)
    code: int = 128
    adain: bool = True
    add_motion: bool = True
    patches: bool = True

    @property
    def grid(self) -> int:
        """Places of the flow, a side."""
        return self.side // 2

    @property
    def patch(self) -> int:
        """Pixels of a patch, a side."""
        return self.side // 4

    def coordinates(self, pixels: Any, size: int) -> Any:
        """Give pixels of a square image of any size as coordinates of the grid, from -1 to 1."""
        here = (pixels + 0.5) * (self.side / size) - 0.5
        return (here - 0.5) / (self.grid - 1) - 1  # sample i of the flow lies at pixel 2 i + 1/2

    def pixels(self, coordinates: Any, size: int) -> Any:
        """Give coordinates of the grid as pixels of a square image: back from them."""
        here = (coordinates + 1) * (self.grid - 1) + 0.5
        return (here + 0.5) * (size / self.side) - 0.5


@dataclass(frozen=True)
class Faces:
    """What the network is given of two faces' landmarks, of a batch of pairs.

    Attributes
    ----------
    maps : (B, 7, 2, 3) float32
        Affine maps of coordinates: from the driving to the source, by the similarity; and for each
        patch, from its own coordinates to the source's, and from the driving's to its own.
    vectors : dict of str to (B, N) float32
        For each branch the source's coordinates, the driving's, and how they differ.
    """

    maps: np.ndarray
    vectors: dict[str, np.ndarray]


def faces(shape: Shape, source: np.ndarray, driving: np.ndarray) -> Faces:
    """Describe pairs of faces by (B, 70, 2) points, as :meth:`Shape.coordinates` gives them."""
    half = shape.patch / 2 / (shape.grid - 1)  # a patch's, in coordinates
    source, driving = (np.asarray(points, np.float64) for points in (source, driving))
    to_source = _similarity(driving, source)
    linear = to_source[:, :, :2]
    aligned = driving @ linear.transpose(0, 2, 1) + to_source[:, None, :, 2]
    maps, vectors = [to_source], {"whole": _vector(source, driving, aligned - source)}
    for name, marks in PARTS.items():
        theirs, own = source[:, marks], driving[:, marks]
        middle, there = own.mean(1), theirs.mean(1)  # which turn as the faces do
        out = np.concatenate([linear * half, there[:, :, None]], axis=2)
        into = np.broadcast_to(np.eye(2), linear.shape)
        maps += [out, np.concatenate([into, -middle[:, :, None]], axis=2) / half]
        theirs = (theirs - there[:, None]) @ np.linalg.inv(linear).transpose(0, 2, 1)
        own = own - middle[:, None]
        vectors[name] = _vector(theirs * 2, own * 2, own - theirs)
    return Faces(np.stack(maps, 1).astype(np.float32), vectors)


def _vector(source: np.ndarray, driving: np.ndarray, rest: np.ndarray) -> np.ndarray:
    parts = (source * 2, driving * 2, rest * 8, (driving - source) * 4)
    return np.concatenate([p.reshape(len(p), -1) for p in parts], axis=1).astype(np.float32)


def _similarity(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Fit maps that turn, scale and shift to what is rigid of (B, 70, 2) points: (B, 2, 3)."""
    a, b = (points[:, _RIGID] @ [1, 1j] for points in (here, there))
    a_middle, b_middle = a.mean(1, keepdims=True), b.mean(1, keepdims=True)
    a, b = a - a_middle, b - b_middle
    factor = (a.conj() * b).sum(1) / np.maximum((np.abs(a) ** 2).sum(1), 1e-9)
    shift = (b_middle - factor[:, None] * a_middle)[:, 0]
    rows = [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    return np.array(rows).transpose(2, 0, 1)


def dense_motion(
    ops: Any, shape: Shape, image: Any, maps: Any, vectors: Mapping[str, Any]
) -> tuple[Any, Any, Any]:
    """Return where in the source each place of the driving comes from.

    Parameters
    ----------
    ops
        A library's share, arrays being (B, channels, H, W): ``F``, its functions, which both name
        alike; ``own(name)``, a tensor; ``conv`` and ``doubled_conv(x, name)``, the latter of twice
        the size, nearest; ``halved(image)``, blurred first; ``normed(x, scale, shift)``, each
        channel with mean 0 and variance 1 before; ``sampled(x, field, border)`` at (B, 2, H, W);
        ``places(side)``, x, y and 1 of a grid's places, (3, side * side); ``concat(parts, axis)``;
        and ``like(value, x)``, in the precision of x.
    shape : Shape
    image : (B, 3, side, side)
        The source, in [0, 1].
    maps, vectors
        Those of :class:`Faces`.

    Returns
    -------
    flow : (B, 2, grid, grid)
        x and y, in [-1, 1].
    logit : (B, 1, grid, grid)
        Of how much of it the source shows.
    whole : (B, 2, grid, grid)
        The flow of the global branch alone.
    """
    count = len(vectors["whole"])
    square = [count, 2, shape.grid, shape.grid]
    still = ops.places(shape.grid)
    small, to_source = ops.halved(image), maps[:, 0]
    along = to_source @ still
    moved = ops.sampled(small, along.reshape(square), True)
    # The head mask, the rest of the motion, what is seen.
    out = _branch(ops, shape, "whole", ops.concat([moved, small], 1), vectors["whole"])
    rest = (out[:, 1:3] * _REACH).reshape([count, 2, -1])
    head = ops.F.sigmoid(out[:, :1]).reshape([count, 1, -1])
    there = to_source[:, :, :2] @ rest + along
    flow = whole = head * (there - still[:2]) + still[:2]
    for index, part in enumerate(PARTS if shape.patches else ()):
        out_of, into = maps[:, 2 * index + 1], maps[:, 2 * index + 2]
        cut = out_of @ ops.places(shape.patch)
        cut = cut.reshape([count, 2, shape.patch, shape.patch])
        out_there = _branch(ops, shape, part, ops.sampled(image, cut, True), vectors[part])
        local = ops.concat([out_there[:, :2] * _REACH, ops.F.sigmoid(out_there[:, 2:])], 1)
        within = into @ still
        local = ops.sampled(local, within.reshape(square), False).reshape([count, 3, -1])
        rim = (1 - within.abs()).clip(0, _RIM) / _RIM
        mask = local[:, 2:] * rim[:, :1] * rim[:, 1:]
        there = out_of[:, :, :2] @ (within + local[:, :2]) + out_of[:, :, 2:]
        flow = flow + mask * (there - flow)  # equation 3
    return flow.reshape(square), out[:, 3:], whole.reshape(square)


def _branch(ops: Any, shape: Shape, name: str, image: Any, vector: Any) -> Any:
    count = vector.shape[1] // 4
    source, driving, moves = vector[:, :count], vector[:, count : 2 * count], vector[:, 2 * count :]
    levels, x = [image], image

    def dense(x: Any, layer: str) -> Any:
        return ops.F.linear(x, ops.own(f"{layer}.weight"), ops.own(f"{layer}.bias"))

    def code(points: Any, whose: str) -> Any:
        hidden = ops.F.relu(dense(points, f"{name}.{whose}.0"))
        return ops.F.relu(dense(hidden, f"{name}.{whose}.1"))

    def finished(x: Any, block: str, code: Any) -> Any:
        scale, shift = (ops.own(f"{block}.{own}") for own in _AFFINE)
        if shape.adain:
            both = dense(code, f"{block}.adain")
            scale, shift = scale + both[:, : x.shape[1]], shift + both[:, x.shape[1] :]
        return ops.F.relu(ops.normed(x, scale, shift))

    def added(x: Any, layer: str) -> Any:
        if not shape.add_motion:
            return x
        side = x.shape[2] if x.shape[2] <= _ALL_PLACES else 1
        return x + ops.like(dense(moves, layer).reshape([-1, x.shape[1], side, side]), x)

    of_source, of_driving = code(source, "source"), code(driving, "driving")
    widths = _widths(shape, name)
    for level in range(len(widths)):
        block = f"{name}.down.{level}"
        x = ops.F.avg_pool2d(finished(ops.conv(x, f"{block}.conv"), block, of_source), 2)
        levels.append(x)
    x = added(levels.pop(), f"{name}.middle.add")
    for level in reversed(range(len(widths))):
        block = f"{name}.up.{level}"
        x = added(finished(ops.doubled_conv(x, f"{block}.conv"), block, of_driving), f"{block}.add")
        x = ops.concat([x, levels.pop()], 1)
    return ops.conv(x, f"{name}.head")


_AFFINE = ("scale", "shift")
_LAST = 16  # channels of a decoder's last level


def _widths(shape: Shape, name: str) -> tuple[int, ...]:
    return shape.whole if name == "whole" else shape.local


def tensor_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of the network by its name."""
    found: dict[str, tuple[int, ...]] = {}

    def layer(name: str, outputs: int, *inputs: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = (outputs, *inputs), (outputs,)

    for name in ("whole", *(PARTS if shape.patches else ())):
        numbers = 2 * (POINTS if name == "whole" else len(PARTS[name]))
        widths, side = _widths(shape, name), shape.grid if name == "whole" else shape.patch
        inputs, outputs = (6, 4) if name == "whole" else (3, 3)

        def block(
            block: str, channels: int, taken: int, side: int = 0, numbers: int = numbers
        ) -> None:
            layer(f"{block}.conv", channels, taken, 3, 3)
            found.update({f"{block}.{own}": (channels,) for own in _AFFINE})
            if shape.adain:
                layer(f"{block}.adain", 2 * channels, shape.code)
            if side and shape.add_motion:
                places = side**2 if side <= _ALL_PLACES else 1
                layer(f"{block}.add", channels * places, 2 * numbers)

        for whose in ("source", "driving"):
            layer(f"{name}.{whose}.0", shape.code, numbers)
            layer(f"{name}.{whose}.1", shape.code, shape.code)
        taken = (inputs, *widths)
        for level, channels in enumerate(widths):
            block(f"{name}.down.{level}", channels, taken[level])
        if shape.add_motion:
            least = side >> len(widths)
            places = least**2 if least <= _ALL_PLACES else 1
            layer(f"{name}.middle.add", widths[-1] * places, 2 * numbers)
        current = widths[-1]
        for level in reversed(range(len(widths))):
            channels = widths[level - 1] if level else _LAST
            block(f"{name}.up.{level}", channels, current, side >> level)
            current = channels + taken[level]
        layer(f"{name}.head", outputs, current, 7, 7)
    return found
