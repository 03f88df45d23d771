"""The networks of ``regions`` in PyTorch: soft regions whose first two moments give the motion.

Written from Siarohin et al., "Motion Representations for Articulated Animation" (CVPR 2021).
Layers, names and most weights are those of the First Order Motion Model: its keypoints' heat maps
become regions, and its dense motion and painting stay.
"""

import itertools
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studykit.methods._fomm_landmarks import KEYPOINTS
from studykit.methods._region_motion import CODE, LEAST_VARIANCE, OWN_SHARE, WIDTHS
from studykit.training.networks import (
    DenseMotion,
    Keypoints,
    KPDetector,
    OcclusionAwareGenerator,
    Settings,
    inverse_2x2,
)

REGIONS: dict[str, tuple[int, ...]] = {
    "nose tip": tuple(range(27, 36)),
    "nose bridge": tuple(range(27, 31)),
    "chin": tuple(range(5, 12)),
    "jaw left": tuple(range(6)),
    "jaw right": tuple(range(11, 17)),
    **dict.fromkeys(("mouth left", "mouth right", "upper lip"), (*range(48, 55), *range(60, 65))),
    "lower lip": (*range(55, 60), *range(65, 68)),
    **dict.fromkeys(("left eye outer", "left eye inner", "left iris"), tuple(range(36, 42))),
    **dict.fromkeys(("right eye outer", "right eye inner", "right iris"), tuple(range(42, 48))),
    "left upper lid": tuple(range(36, 40)),
    "right upper lid": tuple(range(42, 46)),
    "left lower lid": (36, 39, 40, 41),
    "right lower lid": (42, 45, 46, 47),
    "left brow": tuple(range(17, 22)),
    "right brow": tuple(range(22, 27)),
    "crown": tuple(range(17, 27)),
    "neck": tuple(range(4, 13)),
}
"""For every keypoint, the landmarks whose spread its region has. They lie along lines, as far as
there are any: of a round region no axis can be told."""

_SPREAD, _LEAST_SPREAD = 0.5, 1 / 64  # share of the landmarks' variance; half sides


def build(settings: Settings) -> dict[str, nn.Module]:
    """Build all networks from settings named as in PaddleGAN's configuration files."""
    common = settings["common_params"]
    return {
        "kp_detector": RegionDetector(**settings["kp_detector_cfg"], **common),
        "generator": RegionGenerator(**settings["generator_cfg"], **common),
        "background": Background(),
        "disentangled": Disentangled(common["num_kp"]),
    }


class RegionDetector(KPDetector):
    """Finds regions: soft maps, their means, and their principal axes as affine frames."""

    def forward(self, image: Tensor) -> Keypoints:
        """Find regions in (B, 3, S, S) images in [0, 1].

        Returns
        -------
        dict
            ``value`` (B, K, 2), the means; ``covariance`` and ``jacobian``, its principal axes as
            :func:`principal_axes` gives them, (B, K, 2, 2); and ``heatmap`` (B, K, H, W).
        """
        out = super().forward(image)
        if "jacobian" in out:  # FOMM's in place of principal axes: an ablation, for training alone
            return out
        heatmap, mean = out["heatmap"], out["value"]
        with torch.autocast(heatmap.device.type, enabled=False):
            # About the mean: the difference of raw moments would lose half of their digits.
            y, x = (torch.linspace(-1, 1, s, device=heatmap.device) for s in heatmap.shape[2:])
            u, v = x - mean[..., :1], y - mean[..., 1:]
            across, down = (torch.stack([torch.ones_like(w), w, w * w], -1) for w in (u, v))
            moments = (down.transpose(-2, -1) @ heatmap @ across).flatten(2)
            covariance = moments[..., [2, 4, 4, 6]].view(*mean.shape, 2)
        return {**out, "covariance": covariance, "jacobian": principal_axes(covariance)}


def true_covariances(landmarks: Tensor, size: int) -> Tensor:
    """Return the covariances of the regions of :data:`REGIONS`, (B, K, 2, 2), never flat.

    Parameters
    ----------
    landmarks : (B, 68, 2)
        In pixels.
    size : int
        The image's side; the covariances are in units of half of it.
    """
    found = []
    for name in KEYPOINTS:
        marks = landmarks[:, REGIONS[name]] / (size // 2 - 1)
        marks = marks - marks.mean(1, keepdim=True)
        found.append(_SPREAD * marks.transpose(1, 2) @ marks / marks.shape[1])
    return torch.stack(found, 1) + _LEAST_SPREAD**2 * torch.eye(2, device=landmarks.device)


def principal_axes(covariance: Tensor) -> Tensor:
    """Return A = U sqrt(D) of (..., 2, 2) covariances U D U^T: the longer axis, then the other.

    No gradient passes through the angle: where a region is all but round it has no bounds, and
    clipping it would take the step from everything else. That of D is exact nevertheless.
    """
    a, b, c = (covariance.detach()[..., i, j] for i, j in ((0, 0), (0, 1), (1, 1)))
    angle = torch.atan2(2 * b, a - c) / 2
    cosine, sine = angle.cos(), angle.sin()
    axes = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)
    variance = (axes * (covariance @ axes)).sum(-2)
    return axes * variance.clamp_min(LEAST_VARIANCE).sqrt()[..., None, :]


def aligned(driving: Keypoints, source: Keypoints) -> Keypoints:
    """Turn the driving's axes by quarters so that A_S A_D^-1 comes nearest to the identity.

    Which way an axis points, and which comes first where both are all but equal, is chance.

    Parameters
    ----------
    driving, source : dict
        ``jacobian`` (B, K, 2, 2) of both; either may hold one sample for all of the other's.
    """
    frames = driving["jacobian"]
    swapped = torch.stack([frames[..., 1], -frames[..., 0]], -1)
    choices = torch.stack([frames, swapped, -frames, -swapped])
    turns = source["jacobian"] @ inverse_2x2(choices)
    distance = ((turns - torch.eye(2, device=turns.device)) ** 2).sum((-2, -1))
    best = distance.argmin(0)[None, ..., None, None]
    chosen = choices.expand(*distance.shape, 2, 2).gather(0, best.expand(1, *turns.shape[1:]))
    return {**driving, "jacobian": chosen[0]}


def steadied(driving: Keypoints, source: Keypoints) -> Keypoints:
    """Change the driving's axes so that each region's motion is nearer to that of all together.

    A covariance is the least certain of what is found, and its error turns and stretches a region.
    So its motion A_S A_D^-1 is averaged with the affine map that fits all means (least squares).
    """
    to, at = (kp["value"] - kp["value"].mean(1, keepdim=True) for kp in (source, driving))
    common = (to.transpose(1, 2) @ at) @ inverse_2x2(at.transpose(1, 2) @ at)
    own = source["jacobian"] @ inverse_2x2(driving["jacobian"])
    motion = OWN_SHARE * own + (1 - OWN_SHARE) * common[:, None]
    return {**driving, "jacobian": inverse_2x2(motion) @ source["jacobian"]}


class RegionMotion(DenseMotion):
    """Combines the regions' affine motions, and the background's where one is known."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.hourglass.register_forward_pre_hook(as_convolved)

    def _sparse_motions(
        self, source: Tensor, driving_kp: Keypoints, source_kp: Keypoints
    ) -> Tensor:
        steady = steadied(aligned(driving_kp, source_kp), source_kp)
        motions = super()._sparse_motions(source, steady, source_kp)
        if "background" not in driving_kp:
            return motions
        resting = transformed(motions[:, 0].flatten(1, 2), driving_kp["background"])
        return torch.cat([resting.view_as(motions[:, :1]), motions[:, 1:]], 1)


def as_convolved(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Lay the inputs out as convolutions take them, once: a fifth of a step's time otherwise."""
    (maps,) = inputs
    half = torch.is_autocast_enabled(maps.device.type)
    kind = torch.get_autocast_dtype(maps.device.type) if half else maps.dtype
    return (maps.to(kind, memory_format=torch.channels_last),)


class RegionGenerator(OcclusionAwareGenerator):
    """Animates by regions; ``driving_kp`` may hold the ``background``'s motion, (B, 2, 3)."""

    dense_motion = RegionMotion


def transformed(points: Tensor, affine: Tensor) -> Tensor:
    """Move (B, N, 2) points by (B, 2, 3) affine maps."""
    return points @ affine[:, :, :2].transpose(1, 2) + affine[:, None, :, 2]


class Background(nn.Module):
    """Finds the affine motion of the background between two images: that of the camera."""

    def __init__(self) -> None:
        super().__init__()
        widths = (6, 16, 32, 64, 64, 64)
        self.layers = nn.Sequential()
        for a, b in itertools.pairwise(widths):
            self.layers.extend([nn.Conv2d(a, b, 3, 2, 1), nn.ReLU()])
        self.affine = nn.Linear(widths[-1], 6)
        nn.init.zeros_(self.affine.weight)
        with torch.no_grad():
            self.affine.bias.copy_(torch.eye(2, 3).flatten())

    def forward(self, source: Tensor, driving: Tensor) -> Tensor:
        """Return where in (B, 3, S, S) sources what rests in the drivings lies, (B, 2, 3)."""
        features = self.layers(F.avg_pool2d(torch.cat([source, driving], 1), 2))
        with torch.autocast(features.device.type, enabled=False):
            return self.affine(features.mean((2, 3)).float()).view(-1, 2, 3)


class Disentangled(nn.Module):
    """Makes the regions of one face in the pose of another: two encoders and a decoder."""

    def __init__(self, num_kp: int) -> None:
        super().__init__()
        numbers = 6 * num_kp
        self.shape = _perceptron([numbers, *WIDTHS, CODE])
        self.pose = _perceptron([numbers, *WIDTHS, CODE])
        self.decoder = _perceptron([2 * CODE, *reversed(WIDTHS), numbers])

    def forward(self, source: Keypoints, driving: Keypoints) -> Keypoints:
        """Return the source's regions in the driving's pose: ``value`` and ``jacobian``."""
        of_source, of_driving = (_numbers(regions) for regions in (source, driving))
        codes = torch.cat([self.shape(of_source), self.pose(of_driving)], -1)
        moved = (of_source + self.decoder(codes)).view(len(codes), -1, 3, 2)
        return {"value": moved[:, :, 0], "jacobian": moved[:, :, 1:]}

    def objective(
        self, source: Keypoints, driving: Keypoints, stretch: Tensor
    ) -> dict[str, Tensor]:
        """Return the terms that ask for a driving's regions, given its own stretched.

        A stretched face is another one in the same pose, whose shape must come from the source.

        Parameters
        ----------
        source, driving : dict
            Regions of two frames of one identity.
        stretch : (B, 2)
            Factors of x and y.
        """
        wide = {
            "value": driving["value"] * stretch[:, None],
            "jacobian": driving["jacobian"] * stretch[:, None, :, None],
        }
        made = self(source, wide)
        return {f"pose {name}": (made[name] - driving[name]).abs().mean() for name in wide}


def _perceptron(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _numbers(regions: Keypoints) -> Tensor:
    """Return six numbers a region, (B, 6 K); of its axes' choices, those nearest to upright."""
    upright = aligned(regions, {"jacobian": torch.eye(2, device=regions["value"].device)})
    return torch.cat([regions["value"][:, :, None], upright["jacobian"]], 2).flatten(1)


@torch.no_grad()
def upright_regions(kp_detector: RegionDetector, identities: Iterable[Tensor]) -> Keypoints:
    """Find the regions of all frames, ``value`` (I, N, K, 2) and ``jacobian`` (I, N, K, 2, 2).

    Parameters
    ----------
    kp_detector : RegionDetector
    identities : iterable of (N, 3, S, S) tensors
    """
    kp_detector.eval()
    found = [kp_detector(frames) for frames in identities]
    out = {name: torch.stack([one[name] for one in found]) for name in ("value", "jacobian")}
    return aligned(out, {"jacobian": torch.eye(2, device=out["value"].device)})
