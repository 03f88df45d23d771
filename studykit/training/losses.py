"""What training asks for: likeness where it matters, and agreement with the renderer's truth."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studykit.errors import StudyError
from studykit.training.data import keypoint_indices
from studykit.training.networks import Keypoints, coordinate_grid, gaussians, inverse_2x2
from studykit.training.recipe import LossWeights
from studykit.training.regions import principal_axes

_HEATMAP_VARIANCE = 0.03**2
_IRISES = keypoint_indices("left iris", "right iris")
_MOST_SPREAD = 3.0  # times the true variance
_EXPLAINED, _LEAST_MASK = 0.4, -4.0  # in the dense motion's pixels; logarithm of a mask


def attention(face: Tensor, landmarks: Tensor, weights: LossWeights) -> Tensor:
    """Return how much each pixel counts, (B, 1, S, S), with a mean of 1 in every image.

    Parameters
    ----------
    face : (B, 1, S, S)
        Face masks.
    landmarks : (B, 68, 2)
        In pixels.
    weights : LossWeights
    """
    size = face.shape[-1]
    where = torch.arange(size, device=face.device, dtype=torch.float32)

    def around(first: int, last: int) -> Tensor:
        marks = landmarks[:, first:last]
        middle = (marks.amax(1) + marks.amin(1)) / 2
        reach = (marks.amax(1) - marks.amin(1)) / 2 * 1.25 + size / 40
        x, y = (((where - middle[:, axis, None]) / reach[:, axis, None]) ** 2 for axis in (0, 1))
        return torch.exp(-0.5 * (x[:, None] + y[:, :, None]) ** 2)[:, None]

    eyes = around(36, 42) + around(42, 48)
    counts = 1 + weights.face * face + weights.mouth * around(48, 68) + weights.eyes * eyes
    return counts / counts.mean((1, 2, 3), keepdim=True)


def reconstruction(
    image: Tensor, truth: Tensor, counts: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """Compare (B, 3, S, S) images in [0, 1] with the truth, weighted by :func:`attention`."""
    l1 = gradient = structure = torch.zeros((), device=image.device)
    for level in range(3):
        if level:
            image, truth, counts = (F.avg_pool2d(x, 2) for x in (image, truth, counts))
        l1 = l1 + ((image - truth).abs() * counts).mean() / 3
        difference = image - truth
        across = (difference[..., 1:] - difference[..., :-1]).abs() * counts[..., 1:]
        down = (difference[..., 1:, :] - difference[..., :-1, :]).abs() * counts[..., 1:, :]
        gradient = gradient + (across.mean() + down.mean()) / 6
        if level < 2 and weights.structure:
            structure = structure + ((1 - ssim(image, truth)) * counts).mean() / 2
    return {
        "l1": weights.l1 * l1,
        "gradient": weights.gradient * gradient,
        "structure": weights.structure * structure,
    }


def fidelity(image: Tensor, truth: Tensor, face: Tensor, weights: LossWeights) -> Tensor:
    """Return log10 of the mean squared error in each (B, 1, S, S) face mask, plus 6."""
    square = ((image - truth) ** 2).mean(1, keepdim=True) * face
    error = square.sum((1, 2, 3)) / face.sum((1, 2, 3)).clamp_min(1)
    return weights.fidelity * (torch.log10(error + 1e-6) + 6).mean()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) in 7 x 7 windows, (B, C, S, S) as the images."""

    def mean(x: Tensor) -> Tensor:
        rows = F.avg_pool2d(x, (1, 7), 1, (0, 3), count_include_pad=False)
        return F.avg_pool2d(rows, (7, 1), 1, (3, 0), count_include_pad=False)

    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    return ((2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)) / (
        (mean_a**2 + mean_b**2 + 1e-4) * (variance_a + variance_b + 9e-4)
    )


def keypoint_supervision(
    found: Keypoints, truth: Tensor, spread: Tensor | None, weights: LossWeights
) -> dict[str, Tensor]:
    """Compare the first keypoints with the renderer's, and regions with their spread as well.

    Parameters
    ----------
    found : dict
        As :class:`~studykit.training.networks.KPDetector` gives it, or
        :class:`~studykit.training.regions.RegionDetector`.
    truth : (B, K, 2)
        In [-1, 1].
    spread : (B, K, 2, 2) or None
        The regions' true covariances, where regions are found.
    weights : LossWeights
    """
    count = truth.shape[1]
    out = {"keypoints": weights.keypoints * (found["value"][:, :count] - truth).abs().mean()}
    if weights.heatmap:
        heatmap = found["heatmap"][:, :count]
        width = _HEATMAP_VARIANCE if spread is None else spread
        target = gaussians(truth, heatmap.shape[2:], width).flatten(2)
        target = target / target.sum(2, keepdim=True).clamp_min(1e-8)
        entropy = -(target * heatmap.flatten(2).clamp_min(1e-8).log()).sum(2)
        out["heatmap"] = weights.heatmap * entropy.mean()
    if weights.moments and spread is not None:
        error = _spread_error(found["covariance"][:, :count], principal_axes(spread))
        out["moments"] = weights.moments * error.mean()
    if weights.irises:
        missed = (found["value"][:, _IRISES] - truth[:, _IRISES]).abs().mean()
        out["irises"] = weights.irises * missed
    return out


def _spread_error(covariance: Tensor, axes: Tensor) -> Tensor:
    """Return how far (..., 2, 2) covariances are from A A^T, along its axes and in their units.

    It is bounded, as one stray region would take the whole step otherwise.
    """
    inward = inverse_2x2(axes)
    product = inward @ covariance @ inward.transpose(-2, -1)
    return (product - torch.eye(2, device=product.device)).abs().clamp(max=_MOST_SPREAD)


def motion_supervision(
    deformation: Tensor,
    occlusion_logit: Tensor | None,
    truth: Tensor,
    seen: Tensor,
    counts: Tensor,
    weights: LossWeights,
) -> dict[str, Tensor]:
    """Compare the dense motion with the true one.

    Parameters
    ----------
    deformation, truth : (B, h, w, 2)
        Where in the source each pixel comes from, in [-1, 1].
    occlusion_logit : (B, 1, h, w) or None
    seen : (B, 1, h, w)
        1 where the source shows the surface.
    counts : (B, 1, h, w)
        As :func:`attention` gives them, at this size.
    weights : LossWeights
    """
    pixels = (deformation - truth) * (deformation.shape[1] - 1) / 2
    distance = torch.sqrt((pixels**2).sum(-1) + 1e-4)
    valid = (seen * counts)[:, 0]
    out = {"flow": weights.flow * (distance * valid).sum() / valid.sum()}
    if weights.occlusion and occlusion_logit is not None:
        entropy = F.binary_cross_entropy_with_logits(occlusion_logit, seen, weight=counts)
        out["occlusion"] = weights.occlusion * entropy
    return out


def mask_supervision(
    motions: Tensor,
    mask_logit: Tensor,
    truth: Tensor,
    seen: Tensor,
    counts: Tensor,
    weights: LossWeights,
) -> Tensor:
    """Compare the masks with what each keypoint's motion explains, as a divergence.

    A mask near 0 gets next to no gradient from the flow and may stay there for good, though its
    keypoint moves as the pixel does. So every keypoint is taken to have some share of each pixel,
    and gets more of it the nearer its motion comes to the true one: the responsibilities of a
    mixture of Gaussians (Bishop 2006, eq. 9.23) whose weights the masks are.

    Parameters
    ----------
    motions : (B, K, h, w, 2)
        Where in the source each keypoint would take a pixel from, in [-1, 1].
    mask_logit : (B, K, h, w)
    truth, seen, counts, weights
        As for :func:`motion_supervision`.
    """
    square = (((motions - truth[:, None]) * (truth.shape[1] - 1) / 2) ** 2).sum(-1)
    mask = F.log_softmax(mask_logit, 1)
    nearness = -square / (2 * _EXPLAINED**2)
    theirs = F.log_softmax(mask.detach().clamp_min(_LEAST_MASK) + nearness, 1)
    divergence = (theirs.exp() * (theirs - mask)).sum(1)
    valid = (seen * counts)[:, 0]
    return weights.masks * (divergence * valid).sum() / valid.sum()


@dataclass(frozen=True)
class ThinPlateSpline:
    """A random smooth deformation of the plane and its derivative (Siarohin et al., sec. 3.1).

    Attributes
    ----------
    affine : (B, 2, 3)
    controls : (25, 2)
        In [-1, 1].
    bends : (B, 25, 2)
    """

    affine: Tensor
    controls: Tensor
    bends: Tensor

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int, device: torch.device) -> "ThinPlateSpline":
        """Draw one deformation a sample: about 3 degrees, 5 % and a bend of a few pixels."""
        affine = np.eye(2, 3) + rng.normal(0, 0.05, (count, 2, 3))
        line = np.linspace(-1, 1, 5)
        controls = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
        bends = rng.normal(0, 0.005, (count, len(controls), 2))
        drawn = affine, controls, bends
        return cls(*(torch.tensor(x, dtype=torch.float32, device=device) for x in drawn))

    def points(self, points: Tensor) -> Tensor:
        """Move (B, N, 2) points."""
        _, square = self._offsets(points)
        kernel = square * torch.log(square + 1e-6) / 2
        straight = points @ self.affine[:, :, :2].transpose(1, 2) + self.affine[:, None, :, 2]
        return straight + kernel @ self.bends

    def jacobian(self, points: Tensor) -> Tensor:
        """Return the derivative at (B, N, 2) points, (B, N, 2, 2)."""
        offset, square = self._offsets(points)
        # d/dp of r^2 log(r^2) / 2 = (log(r^2) + 1) (p - c)
        slope = (torch.log(square + 1e-6) + 1)[..., None] * offset
        bent = torch.einsum("bnck,bcd->bndk", slope, self.bends)
        return self.affine[:, None, :, :2] + bent

    def image(self, image: Tensor) -> Tensor:
        """Deform (B, C, S, S) images: the result shows at p what the image has at T(p)."""
        size = image.shape[-1]
        grid = coordinate_grid(size, size, image).reshape(1, -1, 2)
        field = self.points(grid.expand(len(image), -1, -1)).view(-1, size, size, 2)
        return F.grid_sample(image, field, padding_mode="reflection", align_corners=True)

    def _offsets(self, points: Tensor) -> tuple[Tensor, Tensor]:
        offset = points[:, :, None] - self.controls
        return offset, (offset**2).sum(-1)


def equivariance(
    plain: Keypoints, bent: Keypoints, spline: ThinPlateSpline, weights: LossWeights
) -> dict[str, Tensor]:
    """Compare keypoints of images with those of the deformed images (eq. 9 to 12)."""
    value = (plain["value"] - spline.points(bent["value"])).abs().mean()
    out = {"equivariance value": weights.equivariance_value * value}
    if weights.equivariance_jacobian and "covariance" in plain:
        slope = spline.jacobian(bent["value"])
        moved = slope @ bent["covariance"] @ slope.transpose(2, 3)
        error = _spread_error(moved, plain["jacobian"].detach())
        out["equivariance covariance"] = weights.equivariance_jacobian * error.mean()
    elif weights.equivariance_jacobian and "jacobian" in plain:
        moved = spline.jacobian(bent["value"]) @ bent["jacobian"]
        product = inverse_2x2(plain["jacobian"]) @ moved
        identity = torch.eye(2, device=product.device)
        difference = (product - identity).abs().mean()
        out["equivariance jacobian"] = weights.equivariance_jacobian * difference
    return out


class VGG19(nn.Module):
    """Features of VGG-19 at relu1_1 to relu5_1 (Simonyan and Zisserman 2015), never trained.

    Parameters
    ----------
    path : Path
        Weights with torchvision's names, as ``.safetensors`` or ``.pth``.
    """

    _WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512)
    _TAPS = (1, 6, 11, 20, 29)

    def __init__(self, path: Path) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for width in self._WIDTHS:
            if width:
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
                inputs = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        try:
            if path.suffix == ".safetensors":
                from safetensors.torch import load_file

                tensors = load_file(path)
            else:
                tensors = torch.load(path, map_location="cpu", weights_only=True)
            wanted = self.state_dict()
            self.load_state_dict({name: tensors[name] for name in wanted})
        except (OSError, KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise StudyError(
                f"{path} gives no VGG-19 ({reason}): correct vgg in the recipe"
            ) from None
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features of (B, 3, S, S) images in [0, 1] at five depths."""
        mean = torch.tensor([0.485, 0.456, 0.406], device=image.device).view(3, 1, 1)
        deviation = torch.tensor([0.229, 0.224, 0.225], device=image.device).view(3, 1, 1)
        out, found = (image - mean) / deviation, []
        for index, layer in enumerate(self.features):
            out = layer(out)
            if index in self._TAPS:
                found.append(out)
        return found

    def distance(self, image: Tensor, truth: Tensor) -> Tensor:
        """Return the mean difference of features over four scales of the images (eq. 8)."""
        total = torch.zeros((), device=image.device)
        for level in range(4):
            if level:
                image, truth = F.avg_pool2d(image, 2), F.avg_pool2d(truth, 2)
            pairs = zip(self(image), self(truth), strict=True)
            total = total + sum((a.float() - b.float()).abs().mean() for a, b in pairs)
        return total


class PatchDiscriminator(nn.Module):
    """Separates rendered from generated patches at two scales (Wang et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.spectral_norm
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise((3, 32, 64, 128)):
            layers += [norm(nn.Conv2d(a, b, 4, 2, 1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, norm(nn.Conv2d(128, 1, 4, 1, 1)))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return scores of (B, 3, S, S) images' patches, at two scales."""
        return [self.layers(image).float(), self.layers(F.avg_pool2d(image, 2)).float()]

    def judge(self, truth: Tensor, image: Tensor) -> Tensor:
        """Return the hinge loss that trains this network."""
        pairs = zip(self(truth), self(image.detach()), strict=True)
        return sum(F.relu(1 - a).mean() + F.relu(1 + b).mean() for a, b in pairs) / 2

    def fool(self, image: Tensor) -> Tensor:
        """Return the loss that trains the generator."""
        return -sum(score.mean() for score in self(image)) / 2
