"""The network of ``enhance``, written once for the library that trains it and the one that runs it.

A U-Net of 3 x 3 convolutions, five levels down and five up, whose skips are concatenated. It sees
a frame and the source, and says where the frame shows just what the source does, which is then
taken from there, and what is to be added to it.
"""

import itertools
from typing import Any

WIDTHS = (16, 24, 40, 64, 96, 128)
"""Channels at the frame's own size, and at a half, a quarter, ... of it."""

SCALES = (1, 2)
"""How many times as large as its input the output is; each has a last layer of its own."""

NEAR = 9
"""Pixels a side of what decides, by how far frame and source differ there, what is taken."""

_CONTRAST = 10.0

MULTIPLE = 2 ** (len(WIDTHS) - 1)
"""What the sides of its input are multiples of."""


def maps(ops: Any, image: Any, source: Any, scales: tuple[int, ...]) -> list[Any]:
    """Return how images, or their enlargements, are to be changed, at each scale.

    Parameters
    ----------
    ops
        A library's share, arrays being (B, channels, H, W): ``F``, its functions, which both name
        alike; ``conv`` and ``doubled_conv(x, name)``, the latter of twice the size, nearest; and
        ``concat(parts)``.
    image, source : (B, 3, H, W)
        In [0, 1]; sides are multiples of :data:`MULTIPLE`.
    scales : tuple of {1, 2}

    Returns
    -------
    list of (B, 4, scale * H, scale * W)
        What :func:`blended` takes.
    """
    apart = _CONTRAST * (source - image)
    alike = ops.conv(apart.abs(), "near")
    levels, x = [], ops.F.relu(ops.conv(ops.concat([2 * image - 1, apart]), "first"))
    count = len(WIDTHS) - 1
    for level in range(count):
        levels.append(x)
        x = ops.F.relu(ops.conv(ops.F.avg_pool2d(x, 2), f"down{level}"))
    for level in reversed(range(count)):
        x = ops.concat([ops.F.relu(ops.doubled_conv(x, f"up{level}")), levels[level]])
    found = []
    for scale in scales:
        # Sub-pixels as channels: a quarter of the places for the same picture.
        out, added = ops.conv(x, f"times{scale}"), 3 * scale**2
        out = ops.concat([out[:, :added], out[:, added:] + alike])
        out = ops.F.pixel_shuffle(out, scale)
        found.append(ops.concat([out[:, :3], ops.F.sigmoid(out[:, 3:])]))
    return found


def blended(enlarged: Any, source: Any, change: Any) -> Any:
    """Return the outcome: E (1 - M) + S M + R, with S of the same size as the enlarged frame E.

    Parameters
    ----------
    enlarged, source : (B, 3, H, W)
    change : (B, 4, H, W)
        R and M.
    """
    return enlarged + (source - enlarged) * change[:, 3:] + change[:, :3]


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of the network by its name."""
    layers: dict[str, tuple[int, ...]] = {"near": (3, 1, NEAR), "first": (6, WIDTHS[0], 3)}
    for level, (own, deeper) in enumerate(itertools.pairwise(WIDTHS)):
        last = level == len(WIDTHS) - 2
        layers[f"down{level}"] = (own, deeper, 3)
        layers[f"up{level}"] = (deeper if last else 2 * deeper, own, 3)
    layers |= {f"times{scale}": (2 * WIDTHS[0], 4 * scale**2, 3) for scale in SCALES}
    found: dict[str, tuple[int, ...]] = {}
    for name, (inputs, outputs, side) in layers.items():
        found[f"{name}.weight"], found[f"{name}.bias"] = (outputs, inputs, side, side), (outputs,)
    return found
