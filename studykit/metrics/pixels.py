"""How near a frame is to the true one, pixel by pixel: over the image, or within a mask.

Of images that are (H, W, 3) uint8; luma is that of ITU-R BT.601. A mask that no pixel is in gives
NaN.
"""

from collections.abc import Iterator, Sequence

import numpy as np

# What identical images get, whose ratio is infinite, so that means stay finite; of images above
# 222 pixels a side, also those that differ by one step in one number.
BEST_PSNR = 100.0
# Wang, Simoncelli and Bovik 2003, table of section 3: the exponents from fine to coarse.
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# The window of 11 pixels must fit into the coarsest scale.
MS_SSIM_LEAST_SIDE = 11 * 2 ** (len(MS_SSIM_WEIGHTS) - 1)

_SIGMA, _TRUNCATE, _RADIUS = 1.5, 3.5, 5  # the Gaussian window of 11 pixels
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

Mask = np.ndarray | None
"""(H, W) bool: where to look; everywhere without one."""


def mean_absolute_error(image: np.ndarray, truth: np.ndarray, *, mask: Mask = None) -> float:
    """Return the mean absolute difference of all three channels, 0 to 255; lower is better.

    Over 255, it is the L1 of the tables of Siarohin et al. 2019 ("First Order Motion Model for
    Image Animation").

    Parameters
    ----------
    image, truth : (H, W, 3) uint8
    mask : (H, W) bool, optional
        Where to look.
    """
    return _mean(np.abs(_checked(image) - _checked(truth, image)).mean(axis=2), mask)


def peak_signal_noise_ratio(image: np.ndarray, truth: np.ndarray, *, mask: Mask = None) -> float:
    """Return the peak signal-to-noise ratio in dB, of all three channels; higher is better.

    10 log10(255^2 / mean squared difference), at most 100, which identical images get.

    Parameters
    ----------
    image, truth : (H, W, 3) uint8
    mask : (H, W) bool, optional
        Where to look.
    """
    error = _mean(((_checked(image) - _checked(truth, image)) ** 2).mean(axis=2), mask)
    # np.minimum and np.maximum, unlike Python's, hand NaN on.
    ratio = 10 * np.log10(255**2 / np.maximum(error, 1e-6))
    return float(np.minimum(BEST_PSNR, ratio))


def structural_similarity(
    image: np.ndarray, truth: np.ndarray, masks: Sequence[Mask] = (None,)
) -> list[float]:
    """Return the structural similarity of the luma within each mask, -1 to 1; higher is better.

    Wang, Bovik, Sheikh and Simoncelli 2004, "Image quality assessment: from error visibility to
    structural similarity", with their Gaussian window of 11 pixels, by scikit-image. The border
    of 5 pixels, where the window does not fit, is left out.

    Parameters
    ----------
    image, truth : (H, W, 3) uint8
    masks : sequence of (H, W) bool or None
        Over which pixels the map of similarities is averaged; their windows reach beyond it.
    """
    from skimage.metrics import structural_similarity as similarity

    options = {"gaussian_weights": True, "sigma": _SIGMA, "use_sample_covariance": False}
    _, similar = similarity(luma(image), luma(truth, image), data_range=255, full=True, **options)
    return [_mean(_inner(similar), None if mask is None else _inner(mask)) for mask in masks]


def multi_scale_structural_similarity(
    image: np.ndarray, truth: np.ndarray, masks: Sequence[Mask] = (None,)
) -> list[float]:
    """Return the multi-scale structural similarity of the luma within each mask, 0 to 1.

    Higher is better. Wang, Simoncelli and Bovik 2003, "Multi-scale structural similarity for image
    quality assessment", equation 7: contrast and structure at five scales, each half of the one
    before (means of 2 x 2 pixels), luminance at the coarsest, with the published exponents. Where
    contrast and structure are opposed at a scale their mean counts as 0, since a negative number
    has no such power. As in SSIM, a border of 5 pixels of each scale is left out: at the coarsest,
    80 of the image. scikit-image has no such function, and gives luminance and contrast as one.

    Parameters
    ----------
    image, truth : (H, W, 3) uint8
    masks : sequence of (H, W) bool or None
        Over which pixels the maps are averaged: at a coarser scale, those of which it covers half.

    Raises
    ------
    ValueError
        A side has less than 176 pixels, so that the window does not fit into the coarsest scale:
        the measure is not defined there.
    """
    if min(np.shape(image)[:2]) < MS_SSIM_LEAST_SIDE:
        raise ValueError(
            f"MS-SSIM needs sides of at least {MS_SSIM_LEAST_SIDE} pixels, not {image.shape[:2]}"
        )
    shares = [None if mask is None else mask.astype(np.float64) for mask in masks]
    products = [1.0] * len(masks)
    last = len(MS_SSIM_WEIGHTS) - 1
    for scale, (luminance, contrast) in enumerate(_scales(luma(image), luma(truth, image))):
        similar = luminance * contrast if scale == last else contrast
        for index, share in enumerate(shares):
            mean = _mean(similar, None if share is None else _inner(share) >= 0.5)
            products[index] *= float(np.maximum(mean, 0.0)) ** MS_SSIM_WEIGHTS[scale]
            shares[index] = None if share is None else _halved(share)
    return products


def luma(image: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
    """Return the luma of an RGB image: (H, W) float64, 0 to 255."""
    return _checked(image, like) @ np.array([0.299, 0.587, 0.114])


def _scales(one: np.ndarray, two: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the maps of luminance, and of contrast times structure, from fine to coarse."""
    from scipy.ndimage import gaussian_filter

    def blurred(values: np.ndarray) -> np.ndarray:
        return _inner(gaussian_filter(values, _SIGMA, truncate=_TRUNCATE))

    for scale in range(len(MS_SSIM_WEIGHTS)):
        if scale:
            one, two = _halved(one), _halved(two)
        mean_1, mean_2 = blurred(one), blurred(two)
        variances = blurred(one * one + two * two) - mean_1**2 - mean_2**2
        covariance = blurred(one * two) - mean_1 * mean_2
        luminance = (2 * mean_1 * mean_2 + _C1) / (mean_1**2 + mean_2**2 + _C1)
        yield luminance, (2 * covariance + _C2) / (variances + _C2)


def _checked(image: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"an image is (H, W, 3) uint8, not {image.shape} {image.dtype}")
    if like is not None and image.shape != np.shape(like):
        raise ValueError(f"images of one size are compared, not {np.shape(like)} and {image.shape}")
    return image.astype(np.float64)


def _inner(values: np.ndarray) -> np.ndarray:
    return values[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


def _halved(values: np.ndarray) -> np.ndarray:
    height, width = (side // 2 for side in values.shape)
    return values[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3))


def _mean(values: np.ndarray, mask: Mask) -> float:
    if mask is not None:
        values = values[mask]
    return float(values.mean()) if values.size else float("nan")
