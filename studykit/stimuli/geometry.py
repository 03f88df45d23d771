"""Curves, directions and meshes that the parts of a face are made of."""

import numpy as np


def linear(colour) -> np.ndarray:
    """Linear light of sRGB colours, nearly: a power of 2.2."""
    return np.asarray(colour, float) ** 2.2


def smoothstep(start, end, v):
    """0 up to ``start``, 1 from ``end`` on (which may be the lower one), and smooth between."""
    t = np.clip((v - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def bump(v, centre, width):
    """A Gaussian of height 1: it falls to 1 / e at ``width`` from its centre."""
    return np.exp(-(((v - centre) / width) ** 2))


def unit(vectors: np.ndarray, least: float = 0.0) -> np.ndarray:
    """Vectors of length 1 along the last axis; ``least`` is added to lengths that may be 0."""
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + least)


def points(x, y, z) -> np.ndarray:
    """Places (..., 3) from coordinates that may have different, broadcastable shapes."""
    return np.stack(np.broadcast_arrays(x, y, z), -1)


def around(count: int) -> np.ndarray:
    """Angles of a full turn, in radians, the last one before the first comes again."""
    return np.linspace(0, 2 * np.pi, count, endpoint=False)


def strip(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Triangles between rows of vertices, (..., n) indices each, and those of the next row."""
    a, b, c, d = first[..., :-1], first[..., 1:], second[..., :-1], second[..., 1:]
    both = np.stack([a, b, d], -1), np.stack([a, d, c], -1)
    return np.concatenate([half.reshape(-1, 3) for half in both]).astype(np.int32)


def sheet(rows: int, columns: int, wrap: bool = False) -> np.ndarray:
    """Triangles of a grid of vertices, row by row; ``wrap`` joins the last column to the first."""
    index = np.arange(rows * columns).reshape(rows, columns)
    if wrap:
        index = np.concatenate([index, index[:, :1]], 1)
    return strip(index[:-1], index[1:])
