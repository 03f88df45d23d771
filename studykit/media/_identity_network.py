"""dlib's face recognition network as matrix products: the same numbers in a sixth of dlib's time.

A residual network of 29 convolutions (D. E. King, "High quality face recognition with deep metric
learning", 2017), read from dlib's own file; dlib multiplies without a BLAS.
"""

import re
from itertools import chain, repeat
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

SIDE, PADDING = 150, 0.25
"""Of the chip that is cut out around a face: pixels, and what is around it in parts of the face."""

# In dlib's file: a kind of layer, the length of its numbers, then these, of four bytes each. Whole
# numbers are led by their count of bytes.
_LAYER = re.compile(rb"(?:con_4|affine_)\x01\x02(\x01.|\x02..|\x03...)(?:\x01\x01){3}", re.DOTALL)
_LAST = b"fc_2\x01\x80\x02\x00\x01\x01\x02\x02\x00\x01\x01\x80\x01\x01\x01\x01"
_MEAN = np.array([122.782, 117.001, 104.298], np.float32)  # of the colours it was trained on
_FEATURES, _NUMBERS = 256, 128

_Layer = tuple[np.ndarray, np.ndarray]
"""A convolution with the scaling after it: (height, width, channels, filters), and the offsets."""


class IdentityNetwork:
    """Describes who the face in a chip is.

    Parameters
    ----------
    path : Path
        ``dlib_face_recognition_resnet_model_v1.dat``.
    """

    def __init__(self, path: Path) -> None:
        data, at = path.read_bytes(), 0
        blocks: list[np.ndarray] = []
        while layer := _LAYER.search(data, at):
            count = int.from_bytes(layer[1][1:], "little")
            blocks.append(np.frombuffer(data, "<f4", count, layer.end()))
            at = layer.end() + 4 * count
        self._layers = [*map(_joined, blocks[::2], blocks[1::2], chain([7], repeat(3)))]
        start = data.index(_LAST, at) + len(_LAST)
        last = np.frombuffer(data, "<f4", _FEATURES * _NUMBERS, start)
        self._last = last.reshape(_FEATURES, _NUMBERS)

    def __call__(self, chip: np.ndarray) -> np.ndarray:
        """Return the embedding of a chip of 150 x 150 x 3 uint8: (128,) float64."""
        first, *others = self._layers
        found = _positive(_convolved((chip - _MEAN) / np.float32(256), first, 2))
        found = sliding_window_view(found, (3, 3), axis=(0, 1))[::2, ::2].max(axis=(3, 4))
        channels = found.shape[2]
        for index, (one, two) in enumerate(zip(others[::2], others[1::2], strict=True)):
            # The picture is halved where channels are added, and once more at the end.
            halved = one[1].size > channels or 2 * index + 2 == len(others)
            channels = one[1].size
            change = _positive(_convolved(found, one, 2 if halved else 1))
            change = _convolved(change, two, 1)
            found = _positive(_sum(_halved(found) if halved else found, change))
        return (found.mean(axis=(0, 1)) @ self._last).astype(np.float64)


def _joined(filters: np.ndarray, scaling: np.ndarray, side: int) -> _Layer:
    """Join a convolution, whose offsets come last, with the factors and offsets after it."""
    factors, offsets = scaling.reshape(2, -1)
    count = len(factors)
    weights = filters[:-count].reshape(count, -1, side, side).transpose(2, 3, 1, 0) * factors
    return np.ascontiguousarray(weights), filters[-count:] * factors + offsets


def _convolved(image: np.ndarray, layer: _Layer, step: int) -> np.ndarray:
    """Convolve (H, W, C) float32; by steps of one pixel, zeros around it keep its size."""
    weights, offsets = layer
    side = weights.shape[0]
    if step == 1:
        edge = side // 2
        image = np.pad(image, ((edge, edge), (edge, edge), (0, 0)))
    windows = sliding_window_view(image, (side, side), axis=(0, 1))[::step, ::step]
    rows = windows.transpose(0, 1, 3, 4, 2).reshape(-1, weights[..., 0].size)
    found = rows @ weights.reshape(rows.shape[1], -1) + offsets
    return found.reshape(*windows.shape[:2], -1)


def _halved(image: np.ndarray) -> np.ndarray:
    height, width = (side // 2 for side in image.shape[:2])
    return image[: 2 * height, : 2 * width].reshape(height, 2, width, 2, -1).mean(axis=(1, 3))


def _sum(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Add two images; where one of them ends, the other goes on alone."""
    total = np.zeros(np.maximum(one.shape, two.shape), np.float32)
    for image in (one, two):
        total[tuple(map(slice, image.shape))] += image
    return total


def _positive(image: np.ndarray) -> np.ndarray:
    return np.maximum(image, 0)
