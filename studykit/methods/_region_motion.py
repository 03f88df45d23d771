"""How regions move: their principal axes as affine frames, and shape apart from pose, in NumPy.

Siarohin et al., "Motion Representations for Articulated Animation" (CVPR 2021). The trainer's
:mod:`studykit.training.regions` computes the same in PyTorch, and tests hold both together.
"""

import itertools
from dataclasses import replace

import numpy as np

from studykit.methods._fomm_motion import Keypoints
from studykit.methods.checkpoint_files import Tensors

OWN_SHARE = 0.5
"""How much of a region's motion is its own, and not that of all regions together."""

LEAST_VARIANCE = 1e-5
"""Of a region, in squared half sides: a fifth of a pixel of 128. One pixel has no spread at all."""

WIDTHS, CODE = (64, 128), 32
"""Of the two encoders that take shape and pose apart, and of what each says."""


def framed(found: Keypoints) -> Keypoints:
    """Return regions whose covariances U D U^T, (..., 2, 2), are replaced by frames A = U sqrt(D).

    The longer axis comes first, and points to where x grows.
    """
    (a, b), (_, c) = np.moveaxis(found.jacobians.astype(np.float64), (-2, -1), (0, 1))
    angle = np.arctan2(2 * b, a - c) / 2
    cosine, sine = np.cos(angle), np.sin(angle)
    axes = np.moveaxis(np.array([[cosine, -sine], [sine, cosine]]), (0, 1), (-2, -1))
    variance = (axes * (found.jacobians @ axes)).sum(-2, keepdims=True)
    frames = axes * np.sqrt(np.maximum(variance, LEAST_VARIANCE))
    return replace(found, jacobians=frames.astype(np.float32))


def aligned(driving: Keypoints, source: np.ndarray) -> Keypoints:
    """Turn the driving's frames by quarters so that A_S A_D^-1 comes nearest to the identity.

    Which way an axis points, and which comes first where both are all but equal, is chance.

    Parameters
    ----------
    driving : Keypoints
        Of any number of frames.
    source : (..., 2, 2) array
        The frames A_S.
    """
    frames = driving.jacobians
    swapped = np.stack([frames[..., 1], -frames[..., 0]], -1)
    choices = np.stack([frames, swapped, -frames, -swapped])
    distance = ((source @ np.linalg.inv(choices) - np.eye(2)) ** 2).sum((-2, -1))
    best = distance.argmin(0)[None, ..., None, None]
    return replace(driving, jacobians=np.take_along_axis(choices, best, 0)[0])


def steadied(driving: Keypoints, source: Keypoints) -> Keypoints:
    """Change the driving's frames so that each region's motion is nearer to that of all together.

    A covariance is the least certain of what is found, and its error turns and stretches a region.
    So its motion A_S A_D^-1 is averaged with the affine map that fits all means (least squares).
    """
    to, at = (own.points - own.points.mean(0) for own in (source, driving))
    common = np.linalg.lstsq(at, to, rcond=None)[0].T
    own = source.jacobians @ np.linalg.inv(driving.jacobians)
    motion = OWN_SHARE * own + (1 - OWN_SHARE) * common
    return replace(driving, jacobians=np.linalg.inv(motion) @ source.jacobians)


def disentangled(tensors: Tensors, source: Keypoints, driving: Keypoints) -> Keypoints:
    """Return the source's regions in the driving's pose, by two encoders and a decoder.

    Parameters
    ----------
    tensors : dict
        Of the checkpoint's network ``disentangled``.
    source, driving : Keypoints
        With frames.
    """
    of_source, of_driving = map(_numbers, (source, driving))
    codes = _perceptron(tensors, "shape", of_source), _perceptron(tensors, "pose", of_driving)
    moved = of_source + _perceptron(tensors, "decoder", np.concatenate(codes))
    moved = moved.reshape(-1, 3, 2).astype(np.float32)
    return Keypoints(moved[:, 0], moved[:, 1:])


def disentangled_shapes(regions: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors of ``disentangled`` for a number of regions."""
    numbers, back = 6 * regions, WIDTHS[::-1]
    chains = {
        "shape": (numbers, *WIDTHS, CODE),
        "pose": (numbers, *WIDTHS, CODE),
        "decoder": (2 * CODE, *back, numbers),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for name, widths in chains.items():
        for index, (a, b) in enumerate(itertools.pairwise(widths)):
            shapes |= {f"{name}.{2 * index}.weight": (b, a), f"{name}.{2 * index}.bias": (b,)}
    return shapes


def _perceptron(tensors: Tensors, name: str, values: np.ndarray) -> np.ndarray:
    for index in range(3):
        values = values if index == 0 else np.maximum(values, 0)
        weight, bias = (tensors[f"{name}.{2 * index}.{part}"] for part in ("weight", "bias"))
        values = weight @ values + bias
    return values


def _numbers(regions: Keypoints) -> np.ndarray:
    """Return six numbers a region, (6 K,); of its axes' choices, those nearest to upright."""
    upright = aligned(regions, np.eye(2))
    return np.concatenate([regions.points[:, None], upright.jacobians], 1).ravel()
