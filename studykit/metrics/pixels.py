"""How near a frame is to the true one, pixel by pixel: over the image, or within a mask.

Of images that are (H, W, 3) uint8; luma is that of ITU-R BT.601. A mask that no pixel is in gives
NaN.
"""

import functools
from collections.abc import Sequence

import numpy as np

# What identical images get, whose ratio is infinite, so that means stay finite; of images above
# 222 pixels a side, also those that differ by one step in one number.
BEST_PSNR = 100.0
# Wang, Simoncelli and Bovik 2003, table of section 3: the exponents from fine to coarse.
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# The window of 11 pixels must fit into the coarsest scale.
MS_SSIM_LEAST_SIDE = 11 * 2 ** (len(MS_SSIM_WEIGHTS) - 1)

_RADIUS = 5
_WINDOW = np.exp(-(np.arange(-_RADIUS, _RADIUS + 1) ** 2) / (2 * 1.5**2))  # Gaussian, of 11 pixels
_WINDOW /= _WINDOW.sum()
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

Mask = np.ndarray | None
"""(H, W) bool: where to look; everywhere without one."""
Masks = Sequence[Mask]


class Comparison:
    """An image beside the true one, and what metrics share of the two, found when it is needed.

    Parameters
    ----------
    image, truth : (H, W, 3) uint8

    Raises
    ------
    ValueError
        They are of other kinds, or of two sizes.
    """

    def __init__(self, image: np.ndarray, truth: np.ndarray) -> None:
        self.image, self.truth = _checked(image), _checked(truth)
        if self.image.shape != self.truth.shape:
            shapes = f"{self.truth.shape} and {self.image.shape}"
            raise ValueError(f"images of one size are compared, not {shapes}")

    @functools.cached_property
    def difference(self) -> np.ndarray:
        """The image less the true one: (H, W, 3) float32."""
        return np.subtract(self.image, self.truth, dtype=np.float32)

    @functools.cached_property
    def scales(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Luminance, and contrast times structure, of the luma: maps from fine to coarse.

        Each scale is half of the one before, as long as the window fits into it.
        """
        one, two = luma(self.image), luma(self.truth)
        found: list[tuple[np.ndarray, np.ndarray]] = []
        while len(found) < len(MS_SSIM_WEIGHTS) and min(one.shape) >= len(_WINDOW):
            found.append(_likeness(one, two))
            one, two = _halved(one), _halved(two)
        return found


def mean_absolute_error(pair: Comparison, masks: Masks = (None,)) -> list[float]:
    """Return the mean absolute difference of all three channels, 0 to 255; lower is better.

    Over 255, it is the L1 of the tables of Siarohin et al. 2019 ("First Order Motion Model for
    Image Animation").

    Parameters
    ----------
    pair : Comparison
    masks : sequence of (H, W) bool or None
        Where to look, for a figure each.
    """
    errors = np.abs(pair.difference) @ np.ones(3, np.float32)
    return [_mean(errors, mask) / 3 for mask in masks]


def peak_signal_noise_ratio(pair: Comparison, masks: Masks = (None,)) -> list[float]:
    """Return the peak signal-to-noise ratio in dB, of all three channels; higher is better.

    10 log10(255^2 / mean squared difference), at most 100, which identical images get.

    Parameters
    ----------
    pair, masks
        As for :func:`mean_absolute_error`.
    """
    squares = np.einsum("ijk,ijk->ij", pair.difference, pair.difference)
    errors = np.array([_mean(squares, mask) / 3 for mask in masks])
    # np.minimum and np.maximum, unlike Python's, hand NaN on.
    ratios = 10 * np.log10(255**2 / np.maximum(errors, 1e-6))
    return np.minimum(BEST_PSNR, ratios).tolist()


def structural_similarity(pair: Comparison, masks: Masks = (None,)) -> list[float]:
    """Return the structural similarity of the luma within each mask, -1 to 1; higher is better.

    Wang, Bovik, Sheikh and Simoncelli 2004, "Image quality assessment: from error visibility to
    structural similarity", with their Gaussian window of 11 pixels. The border of 5 pixels, where
    the window does not fit, is left out. Others take the mean over R, G and B and mirror the border
    (torchmetrics): on clips of faces that differs by 0.01 to 0.02, under coloured noise by 0.1.

    Parameters
    ----------
    pair : Comparison
    masks : sequence of (H, W) bool or None
        Over which pixels the map of similarities is averaged; their windows reach beyond it.
    """
    luminance, contrast = pair.scales[0]
    similar = luminance * contrast
    return [_mean(similar, None if mask is None else _inner(mask)) for mask in masks]


def multi_scale_structural_similarity(pair: Comparison, masks: Masks = (None,)) -> list[float]:
    """Return the multi-scale structural similarity of the luma within each mask, 0 to 1.

    Higher is better. Wang, Simoncelli and Bovik 2003, "Multi-scale structural similarity for image
    quality assessment", equation 7: contrast and structure at five scales, each half of the one
    before (means of 2 x 2 pixels), luminance at the coarsest, with the published exponents. Where
    contrast and structure are opposed at a scale their mean counts as 0, since a negative number
    has no such power. As in SSIM, a border of 5 pixels of each scale is left out: at the coarsest,
    80 of the image.

    Parameters
    ----------
    pair : Comparison
    masks : sequence of (H, W) bool or None
        Over which pixels the maps are averaged: at a coarser scale, those of which it covers half.

    Raises
    ------
    ValueError
        A side has less than 176 pixels, so that the window does not fit into the coarsest scale:
        the measure is not defined there.
    """
    if min(pair.image.shape[:2]) < MS_SSIM_LEAST_SIDE:
        raise ValueError(
            f"MS-SSIM needs sides of at least {MS_SSIM_LEAST_SIDE} pixels, "
            f"not {pair.image.shape[:2]}"
        )
    shares = [None if mask is None else mask.astype(np.float64) for mask in masks]
    products = [1.0] * len(masks)
    last = len(MS_SSIM_WEIGHTS) - 1
    for scale, (luminance, contrast) in enumerate(pair.scales):
        similar = luminance * contrast if scale == last else contrast
        for index, share in enumerate(shares):
            mean = _mean(similar, None if share is None else _inner(share) >= 0.5)
            products[index] *= float(np.maximum(mean, 0.0)) ** MS_SSIM_WEIGHTS[scale]
            shares[index] = None if share is None else _halved(share)
    return products


def luma(image: np.ndarray) -> np.ndarray:
    """Return the luma of an RGB image, or of a difference of two: (...) float64."""
    return image @ np.array([0.299, 0.587, 0.114])


def _likeness(one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the maps of luminance, and of contrast times structure: Wang et al. 2004, equation 13.

    (H, W) float64 each, less a border of 5 pixels.
    """
    from studykit.metrics._pixel_kernels import windowed

    # Compiled as well, these sums would take seconds to compile and no less time than so.
    mean_1, mean_2 = windowed(one, _WINDOW), windowed(two, _WINDOW)
    product, squares = mean_1 * mean_2, mean_1 * mean_1 + mean_2 * mean_2
    covariance = windowed(one * two, _WINDOW) - product
    variances = windowed(one * one + two * two, _WINDOW) - squares
    luminance = (2 * product + _C1) / (squares + _C1)
    return luminance, (2 * covariance + _C2) / (variances + _C2)


def _checked(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"an image is (H, W, 3) uint8, not {image.shape} {image.dtype}")
    return image


def _inner(values: np.ndarray) -> np.ndarray:
    return values[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


def _halved(values: np.ndarray) -> np.ndarray:
    height, width = (side // 2 * 2 for side in values.shape)
    rows = values[:height:2, :width] + values[1:height:2, :width]
    return (rows[:, ::2] + rows[:, 1::2]) / 4


def _mean(values: np.ndarray, mask: Mask) -> float:
    if mask is not None:
        values = values[mask]
    return float(values.mean(dtype=np.float64)) if values.size else float("nan")
