"""LPIPS and FID, where their networks' weights are on disk: nothing is fetched here."""

import importlib.util
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from studykit.metrics import quality

# The packages that each imports, and the weights that it reads, "" where they come with a package.
_NEEDS = {
    "lpips": (("torch", "torchvision", "lpips"), "alexnet-owt-7be5be79.pth"),
    "fid": (("torch", "torchvision", "pytorch_fid"), "pt_inception-2015-12-05-6726825d.pth"),
    "cvvdp": (("torch", "torchvision", "pycvvdp"), ""),
    "niqe": (("skvideo",), ""),
}
_PACKAGES = {"pycvvdp": "cvvdp", "pytorch_fid": "pytorch-fid", "skvideo": "scikit-video"}


def unavailable() -> dict[str, str]:
    """Return which of these and "vmaf" can't be measured here, each with why."""
    reasons = {}
    for metric, (modules, weights) in _NEEDS.items():
        path = _hub() / "checkpoints" / weights
        absent = [_PACKAGES.get(name, name) for name in modules
                  if importlib.util.find_spec(name) is None]  # fmt: skip
        if weights and not path.is_file():
            reasons[metric] = f"weights not present: {weights} is not in {_shown(path.parent)}"
        elif absent:
            reasons[metric] = f"package not present: pip install {' '.join(absent)}"
    if not quality.vmaf_program():
        reasons["vmaf"] = "program not present: no ffmpeg with libvmaf is on the PATH"
    return reasons


def learned_similarity(image: np.ndarray, truth: np.ndarray) -> float:
    """Return LPIPS between two images, 0 (alike) to about 1; lower is better.

    Zhang et al. 2018, "The unreasonable effectiveness of deep features as a perceptual metric",
    version 0.1 with AlexNet, by its authors' package lpips.

    Parameters
    ----------
    image, truth : (H, W, 3) uint8
    """
    import torch

    with torch.no_grad():
        return float(_lpips()(*(_tensor(each) * 2 - 1 for each in (image, truth))))


def inception_features(image: np.ndarray) -> np.ndarray:
    """Return what FID is made of: the pool features of Inception, (2048,) float32.

    By the package pytorch-fid, which holds the weights of the original.

    Parameters
    ----------
    image : (H, W, 3) uint8
    """
    import torch

    with torch.no_grad():
        return _inception()(_tensor(image))[0].reshape(-1).numpy()


def frechet_distance(features: np.ndarray, truth: np.ndarray) -> float:
    """Return the Frechet distance of two sets of features as if normal: FID; lower is better.

    Heusel et al. 2017, "GANs trained by a two time-scale update rule", equation 6:
    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). With fewer frames than features it is biased
    upwards: compare only figures of as many frames.

    Parameters
    ----------
    features, truth : (N, D) and (M, D) float
        At least two of each.
    """
    means = [each.mean(axis=0, dtype=np.float64) for each in (features, truth)]
    one, two = (np.cov(each, rowvar=False, dtype=np.float64) for each in (features, truth))
    # The root of C1 C2 has the eigenvalues' roots, which are those of a symmetric product.
    values, vectors = np.linalg.eigh(np.atleast_2d(one))
    half = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    shared = np.linalg.eigvalsh(half @ np.atleast_2d(two) @ half)
    trace = np.trace(np.atleast_2d(one)) + np.trace(np.atleast_2d(two))
    apart = ((means[0] - means[1]) ** 2).sum()
    return float(max(0.0, apart + trace - 2 * np.sqrt(np.clip(shared, 0, None)).sum()))


def _hub() -> Path:
    """Return where PyTorch keeps fetched weights, without importing it."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("TORCH_HOME", cache_home / "torch")) / "hub"


def _shown(folder: Path) -> str:
    """Name a folder as a report may: the home folder, which names a person, as ~."""
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)


def _tensor(image: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255


@cache
def _lpips() -> Any:
    import lpips

    return lpips.LPIPS(net="alex", verbose=False).eval()


@cache
def _inception() -> Any:
    from pytorch_fid.inception import InceptionV3

    return InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
