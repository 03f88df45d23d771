"""Pixel metrics against plain loops and against another library's convolutions."""

import numpy as np
import pytest
import skimage.metrics
from scipy.ndimage import gaussian_filter

from studykit.metrics import pixels
from studykit.metrics.pixels import Comparison


def l1(image, truth, mask=None) -> float:
    """As metrics.csv has it."""
    return pixels.mean_absolute_error(Comparison(image, truth), [mask])[0] / 255


def peak_signal_noise_ratio(image, truth, mask=None) -> float:
    return pixels.peak_signal_noise_ratio(Comparison(image, truth), [mask])[0]


def structural_similarity(image, truth, mask=None) -> float:
    return pixels.structural_similarity(Comparison(image, truth), [mask])[0]


def multi_scale_structural_similarity(image, truth, mask=None) -> float:
    return pixels.multi_scale_structural_similarity(Comparison(image, truth), [mask])[0]


ALL = (l1, peak_signal_noise_ratio, structural_similarity, multi_scale_structural_similarity)


@pytest.fixture(scope="module")
def truth(portrait: np.ndarray) -> np.ndarray:
    return portrait[100:356, 100:356]


@pytest.fixture(scope="module")
def noisy(truth: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 12, truth.shape)
    return np.clip(truth + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def blurred(truth: np.ndarray) -> np.ndarray:
    return gaussian_filter(truth, (1.5, 1.5, 0))


def _grey(value: int, size: int = 256) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def test_l1_and_psnr_are_what_plain_loops_give(truth, noisy):
    image, true = noisy[:20, :20], truth[:20, :20]
    absolute = squared = 0.0
    for y in range(20):
        for x in range(20):
            for c in range(3):
                difference = float(image[y, x, c]) - float(true[y, x, c])
                absolute += abs(difference)
                squared += difference**2
    assert l1(image, true) == pytest.approx(absolute / 1200 / 255)
    assert peak_signal_noise_ratio(image, true) == pytest.approx(
        10 * np.log10(255**2 / (squared / 1200))
    )
    assert peak_signal_noise_ratio(image, true) == pytest.approx(
        skimage.metrics.peak_signal_noise_ratio(true, image)
    )


def test_worked_example_of_a_grey_step():
    """Grey 100 against 110: L1 is 10/255; PSNR 10 log10(255^2/100) = 28.13 dB; SSIM is luminance
    alone, (2*100*110 + 6.5025) / (100^2 + 110^2 + 6.5025) = 0.99548."""
    assert l1(_grey(100), _grey(110)) == pytest.approx(10 / 255)
    assert peak_signal_noise_ratio(_grey(100), _grey(110)) == pytest.approx(28.1308, abs=1e-4)
    luminance = (2 * 100 * 110 + 6.5025) / (100**2 + 110**2 + 6.5025)
    assert structural_similarity(_grey(100), _grey(110)) == pytest.approx(luminance)
    # Contrast and structure of flat images are alike, and luminance counts at the coarsest scale.
    assert multi_scale_structural_similarity(_grey(100), _grey(110)) == pytest.approx(
        luminance**0.1333
    )


def test_ssim_of_one_window_is_the_formula_written_out(truth, noisy):
    """At one pixel, with the Gaussian window of 11 x 11 laid over it by hand."""
    one, two = (image.astype(float) @ [0.299, 0.587, 0.114] for image in (noisy, truth))
    weights = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    weights = np.outer(weights, weights) / weights.sum() ** 2
    a, b = one[60:71, 80:91], two[60:71, 80:91]
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    shared = (weights * (a - mean_a) * (b - mean_b)).sum()
    c1, c2 = 6.5025, 58.5225
    expected = (2 * mean_a * mean_b + c1) * (2 * shared + c2)
    expected /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    pixel = np.zeros(truth.shape[:2], bool)
    pixel[65, 85] = True
    assert structural_similarity(noisy, truth, mask=pixel) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rows", [256, 101, 11])
def test_ssim_is_that_of_scikit_image(truth, noisy, rows):
    image, true = noisy[:rows], truth[:rows]
    _, expected = skimage.metrics.structural_similarity(
        *(each @ np.array([0.299, 0.587, 0.114]) for each in (image, true)),
        data_range=255, full=True, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert structural_similarity(image, true) == pytest.approx(
        expected[5:-5, 5:-5].mean(), abs=1e-12
    )


def test_ms_ssim_is_what_pytorch_convolutions_give(truth, noisy, blurred):
    """Values made once with PyTorch 2.13: conv2d with the 11 x 11 window, avg_pool2d in between."""
    assert multi_scale_structural_similarity(noisy, truth) == pytest.approx(
        0.966636623263498, abs=1e-9
    )
    assert multi_scale_structural_similarity(blurred, truth) == pytest.approx(
        0.9657970622163163, abs=1e-9
    )


@pytest.mark.parametrize(
    ("image", "theirs", "apart"),
    [("noisy", 0.6140114401775261, 0.12773), ("blurred", 0.8278525558805607, 0.01099)],
)
def test_torchmetrics_takes_the_mean_of_three_channels_where_ours_takes_luma(
    truth, image, theirs, apart, request
):
    """Values made once with torchmetrics 1.9.0, data_range=255; it also mirrors the border."""
    image = request.getfixturevalue(image)
    channels = [
        structural_similarity(*(each[..., [channel] * 3] for each in (image, truth)))
        for channel in range(3)
    ]
    assert np.mean(channels) == pytest.approx(theirs, abs=0.004)
    assert structural_similarity(image, truth) - theirs == pytest.approx(apart, abs=1e-5)


def test_ms_ssim_forgives_noise_more_than_ssim_does(truth, noisy):
    assert multi_scale_structural_similarity(noisy, truth) > structural_similarity(noisy, truth)


@pytest.mark.parametrize("metric", ALL)
def test_identical_images_get_the_best_figure(metric, truth):
    best = {l1: 0.0, peak_signal_noise_ratio: 100.0}.get(metric, 1.0)
    assert metric(truth, truth) == pytest.approx(best)


@pytest.mark.parametrize("metric", ALL)
def test_a_mask_sees_only_what_it_covers(metric, truth):
    """Only the left edge differs, out of reach of the mask's windows at every scale."""
    image = truth.copy()
    image[:, :40] = 255 - image[:, :40]
    right = np.zeros(truth.shape[:2], bool)
    right[:, 160:] = True
    whole = np.ones(truth.shape[:2], bool)
    assert metric(image, truth, mask=right) == pytest.approx(metric(truth, truth), abs=1e-6)
    assert metric(image, truth, mask=whole) == pytest.approx(metric(image, truth))
    assert metric(image, truth) != pytest.approx(metric(truth, truth), abs=1e-3)


@pytest.mark.parametrize("metric", ALL)
def test_an_empty_mask_has_no_figure(metric, truth):
    assert np.isnan(metric(truth, truth, mask=np.zeros(truth.shape[:2], bool)))


def test_ms_ssim_below_176_pixels_is_refused_and_at_176_defined():
    with pytest.raises(ValueError, match="at least 176"):
        multi_scale_structural_similarity(_grey(9, 175), _grey(9, 175))
    assert multi_scale_structural_similarity(_grey(9, 176), _grey(9, 176)) == pytest.approx(1)
    assert pixels.MS_SSIM_LEAST_SIDE == 176


@pytest.mark.parametrize("metric", ALL)
def test_images_of_two_sizes_or_of_other_kinds_are_refused(metric, truth):
    with pytest.raises(ValueError, match="one size"):
        metric(truth, truth[:200])
    with pytest.raises(ValueError, match="uint8"):
        metric(truth / 255, truth)


def test_several_masks_give_what_each_gives_alone(truth, noisy):
    left = np.zeros(truth.shape[:2], bool)
    left[:, :128] = True
    pair = Comparison(noisy, truth)
    for metric in (pixels.structural_similarity, pixels.multi_scale_structural_similarity):
        assert metric(pair, [None, left]) == [*metric(pair), *metric(pair, [left])]
