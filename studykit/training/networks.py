"""FOMM's two networks in PyTorch, which trains eight times faster than Paddle on CPUs.

Written from Siarohin et al., "First Order Motion Model for Image Animation" (NeurIPS 2019).
Names and layouts of the tensors are those of PaddleGAN's classes, so that a checkpoint converts
by renaming; what is computed is what those compute at inference, their border rule included,
so that nothing changes between training and use.
"""

import itertools
from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studykit.errors import StudyError
from studykit.methods.checkpoint_files import from_pytorch

Keypoints = dict[str, Tensor]
Settings = dict[str, Any]

# PaddleGAN fades the warp out at the borders: a frame of this many feature pixels, blurred by
# OpenCV 5's kernel of 9 taps (OpenCV 4's is up to 3e-3 away from it).
_BORDER = 5
_BORDER_KERNEL = (4, 13, 30, 51, 60, 51, 30, 13, 4)


def build(settings: Settings) -> dict[str, nn.Module]:
    """Build both networks from settings named as in PaddleGAN's configuration files."""
    common = settings["common_params"]
    return {
        "kp_detector": KPDetector(**settings["kp_detector_cfg"], **common),
        "generator": OcclusionAwareGenerator(**settings["generator_cfg"], **common),
    }


def fill(network: nn.Module, tensors: dict[str, Any]) -> None:
    """Give a network the tensors of a checkpoint, arrays by PaddleGAN's names.

    Raises
    ------
    StudyError
        They are of a network with other settings.
    """
    wanted = network.state_dict()
    theirs = from_pytorch({name: name for name in wanted})
    try:
        state = {name: torch.tensor(tensors[key]).float() for key, name in theirs.items()}
        network.load_state_dict({**wanted, **state})
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise StudyError(f"the weights are of networks with other settings ({reason})") from None


def coordinate_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Return the (H, W, 2) grid of x, y from -1 to 1 at the outer pixels' centres."""
    x = torch.linspace(-1, 1, width, device=like.device, dtype=torch.float32)
    y = torch.linspace(-1, 1, height, device=like.device, dtype=torch.float32)
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1)


def gaussians(
    points: Tensor, size: tuple[int, int] | torch.Size, variance: float | Tensor
) -> Tensor:
    """Return a Gaussian of height 1 about each of (B, K, 2) points, (B, K, H, W).

    Its variance is one number or, for each point, a covariance, (B, K, 2, 2).
    """
    if isinstance(variance, Tensor):
        inverse = inverse_2x2(variance)[..., None, None, :, :]
        x, y = (coordinate_grid(*size, points) - points[:, :, None, None]).unbind(-1)
        square = inverse[..., 0, 0] * x**2 + 2 * inverse[..., 0, 1] * x * y
        return torch.exp(-0.5 * (square + inverse[..., 1, 1] * y**2))
    y, x = (torch.linspace(-1, 1, side, device=points.device) for side in size)
    x, y = x - points[..., 0, None], y - points[..., 1, None]
    x, y = (torch.exp(-0.5 * offset**2 / variance) for offset in (x, y))
    return y[..., :, None] * x[..., None, :]


def inverse_2x2(matrix: Tensor) -> Tensor:
    """Invert (..., 2, 2) matrices; the closed form is faster than a solver."""
    a, b, c, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1]
    adjugate = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2)
    return adjugate / (a * d - b * c)[..., None, None]


class _Convolution(nn.Module):
    """Convolution, batch normalisation, ReLU: what every block outside the bottleneck is."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class _Down(_Convolution):
    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(super().forward(x), 2)


class Up(_Convolution):
    """Twice the size, nearest, then a convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_Doubled.apply(x))


class _Doubled(torch.autograd.Function):
    """Twice the size, nearest. Compiled for a GPU, PyTorch's own gradient differs between runs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return sum(gradient[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1))


class _Residual(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(features)
        self.norm2 = nn.BatchNorm2d(features)
        # Passing features on unchanged is where painting starts from.
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(out)))


class _Hourglass(nn.Module):
    def __init__(
        self, block_expansion: int, in_features: int, num_blocks: int, max_features: int
    ) -> None:
        super().__init__()
        width = [min(max_features, block_expansion * 2**i) for i in range(num_blocks + 1)]
        down = [_Down(a, b) for a, b in itertools.pairwise([in_features, *width[1:]])]
        # All but the first to come up take what the encoder found at their size as well.
        up = [
            Up(width[i + 1] * (1 if i == num_blocks - 1 else 2), width[i])
            for i in reversed(range(num_blocks))
        ]
        self.encoder = nn.ModuleDict({"down_blocks": nn.ModuleList(down)})
        self.decoder = nn.ModuleDict({"up_blocks": nn.ModuleList(up)})
        self.out_filters = block_expansion + in_features

    def forward(self, x: Tensor) -> Tensor:
        outs = [x]
        for block in self.encoder["down_blocks"]:
            outs.append(block(outs[-1]))
        out = outs.pop()
        for block in self.decoder["up_blocks"]:
            out = torch.cat([block(out), outs.pop()], 1)
        return out


class BlurredDownsampling(nn.Module):
    """Band-limited downsampling by an integer factor."""

    weight: Tensor

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        sigma = (1 / scale - 1) / 2
        size = 2 * round(sigma * 4) + 1
        offset = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        line = torch.exp(-(offset**2) / (2 * sigma**2 + 1e-9))
        kernel = line[:, None] * line
        self.register_buffer("weight", (kernel / kernel.sum()).repeat(channels, 1, 1, 1))
        self.stride = int(1 / scale)

    def forward(self, x: Tensor) -> Tensor:
        channels, _, size, _ = self.weight.shape
        return F.conv2d(x, self.weight, padding=size // 2, groups=channels, stride=self.stride)


def _blurred_downsampling(channels: int, scale: float) -> nn.Module:
    return nn.Identity() if scale == 1 else BlurredDownsampling(channels, scale)


class KPDetector(nn.Module):
    """Finds keypoints and the local affine frame at each (section 3.1).

    Parameters are those of PaddleGAN's class of this name.
    """

    def __init__(
        self,
        block_expansion: int,
        num_kp: int,
        num_channels: int,
        max_features: int,
        num_blocks: int,
        temperature: float,
        estimate_jacobian: bool = False,
        scale_factor: float = 1,
        single_jacobian_map: bool = False,
        pad: int = 0,
    ) -> None:
        super().__init__()
        self.predictor = _Hourglass(block_expansion, num_channels, num_blocks, max_features)
        self.kp = nn.Conv2d(self.predictor.out_filters, num_kp, 7, padding=pad)
        self.num_jacobian_maps = 1 if single_jacobian_map else num_kp
        self.jacobian = None
        if estimate_jacobian:
            self.jacobian = nn.Conv2d(
                self.predictor.out_filters, 4 * self.num_jacobian_maps, 7, padding=pad
            )
            nn.init.zeros_(self.jacobian.weight)
            with torch.no_grad():
                identity = torch.tensor([1.0, 0.0, 0.0, 1.0])
                self.jacobian.bias.copy_(identity.repeat(self.num_jacobian_maps))
        self.temperature = temperature
        self.down = _blurred_downsampling(num_channels, scale_factor)

    def forward(self, image: Tensor) -> Keypoints:
        """Find keypoints in (B, 3, S, S) images in [0, 1].

        Returns
        -------
        dict
            ``value`` (B, K, 2), x and y in [-1, 1]; ``jacobian`` (B, K, 2, 2); and ``heatmap``
            (B, K, H, W), which sums to 1, for the losses.
        """
        features = self.predictor(self.down(image))
        logits = self.kp(features).float()
        batch, count, height, width = logits.shape
        heatmap = F.softmax(logits.flatten(2) / self.temperature, 2)
        grid = coordinate_grid(height, width, logits).flatten(0, 1)
        with torch.autocast(logits.device.type, enabled=False):
            out = {"value": heatmap @ grid, "heatmap": heatmap.view(logits.shape)}
            if self.jacobian is not None:
                maps = self.jacobian(features.float())
                maps = maps.view(batch, self.num_jacobian_maps, 4, height * width)
                if self.num_jacobian_maps == 1:
                    jacobian = heatmap @ maps[:, 0].transpose(1, 2)
                else:
                    jacobian = (heatmap[:, :, None] * maps).sum(-1)
                out["jacobian"] = jacobian.view(batch, count, 2, 2)
        return out


class DenseMotion(nn.Module):
    """Combines the keypoints' affine motions into one flow field (section 3.2, eq. 4 to 8)."""

    def __init__(
        self,
        block_expansion: int,
        num_blocks: int,
        max_features: int,
        num_kp: int,
        num_channels: int,
        estimate_occlusion_map: bool = False,
        scale_factor: float = 1,
        kp_variance: float = 0.01,
    ) -> None:
        super().__init__()
        inputs = (num_kp + 1) * (num_channels + 1)
        self.hourglass = _Hourglass(block_expansion, inputs, num_blocks, max_features)
        self.mask = nn.Conv2d(self.hourglass.out_filters, num_kp + 1, 7, padding=3)
        self.occlusion = None
        if estimate_occlusion_map:
            self.occlusion = nn.Conv2d(self.hourglass.out_filters, 1, 7, padding=3)
        self.kp_variance = kp_variance
        self.down = _blurred_downsampling(num_channels, scale_factor)

    def forward(self, source: Tensor, driving_kp: Keypoints, source_kp: Keypoints) -> Keypoints:
        """Return ``deformation`` (B, h, w, 2), ``mask`` (B, K + 1, h, w) and ``occlusion_map``.

        The deformation says where in the source, in [-1, 1], each pixel comes from; the map is
        (B, 1, h, w). For the losses, what both are made of is given as well: ``motions`` of the
        background and the keypoints, (B, K + 1, h, w, 2), ``mask_logit`` and ``occlusion_logit``.
        """
        source = self.down(source)
        with torch.autocast(source.device.type, enabled=False):
            source = source.float()
            motions = self._sparse_motions(source, driving_kp, source_kp)
            inputs = self._inputs(source, motions, driving_kp, source_kp)
        maps = self._maps(self.hourglass(inputs)).float()
        mask = F.softmax(maps[:, : motions.shape[1]], 1)
        out = {"mask": mask, "deformation": (motions * mask[..., None]).sum(1)}
        out |= {"motions": motions, "mask_logit": maps[:, : motions.shape[1]]}
        if self.occlusion is not None:
            out["occlusion_logit"] = maps[:, motions.shape[1] :]
            out["occlusion_map"] = torch.sigmoid(out["occlusion_logit"])
        return out

    def _maps(self, features: Tensor) -> Tensor:
        """Return the logits of the masks and, last, of the occlusion map, by one convolution."""
        heads = [head for head in (self.mask, self.occlusion) if head is not None]
        weight, bias = (torch.cat([getattr(h, k) for h in heads]) for k in ("weight", "bias"))
        return F.conv2d(features, weight, bias, padding=3)

    def _sparse_motions(
        self, source: Tensor, driving_kp: Keypoints, source_kp: Keypoints
    ) -> Tensor:
        """Return eq. 4 for every keypoint, the resting background first: (B, K + 1, h, w, 2)."""
        batch, _, height, width = source.shape
        grid = coordinate_grid(height, width, source)
        offsets = grid.flatten(0, 1) - driving_kp["value"][:, :, None]
        if "jacobian" in driving_kp:
            turn = source_kp["jacobian"] @ inverse_2x2(driving_kp["jacobian"])
            offsets = offsets @ turn.transpose(2, 3)
        motions = (offsets + source_kp["value"][:, :, None]).view(batch, -1, height, width, 2)
        return torch.cat([grid.expand(batch, 1, -1, -1, -1), motions], 1)

    def _inputs(
        self, source: Tensor, motions: Tensor, driving_kp: Keypoints, source_kp: Keypoints
    ) -> Tensor:
        """Return heat maps (eq. 6) and the source moved by every motion: (B, 4 (K + 1), h, w)."""
        batch, count, height, width, _ = motions.shape
        there, here = (
            gaussians(keypoints["value"], (height, width), self.kp_variance)
            for keypoints in (driving_kp, source_kp)
        )
        heat = F.pad(there - here, (0, 0, 0, 0, 1, 0))
        # The K + 1 copies stand below each other: one call a source, without copying it.
        moved = F.grid_sample(
            source, motions.reshape(batch, count * height, width, 2), align_corners=True
        )
        moved = moved.view(batch, -1, count, height, width).transpose(1, 2)
        return torch.cat([heat[:, :, None], moved], 2).flatten(1, 2)


class Painter(nn.Module):
    """Moves a source's features by a dense motion and paints what was hidden (section 3.2)."""

    def __init__(
        self,
        num_channels: int,
        block_expansion: int,
        max_features: int,
        num_down_blocks: int,
        num_bottleneck_blocks: int,
        motion: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if motion is not None:
            self.dense_motion_network = motion
        width = [min(max_features, block_expansion * 2**i) for i in range(num_down_blocks + 1)]
        self.first = _Convolution(num_channels, width[0], kernel_size=7)
        self.down_blocks = nn.ModuleList(_Down(a, b) for a, b in itertools.pairwise(width))
        residual = {f"r{index}": _Residual(width[-1]) for index in range(num_bottleneck_blocks)}
        self.bottleneck = nn.Sequential(OrderedDict(residual))
        self.up_blocks = nn.ModuleList(
            Up(a, b) for a, b in zip(width[:0:-1], width[-2::-1], strict=True)
        )
        self.final = nn.Conv2d(width[0], num_channels, 7, padding=3)

    def paint(self, source: Tensor, deformation: Tensor, visible: Tensor | None) -> Tensor:
        """Paint (B, 3, S, S) sources moved by (B, h, w, 2), of which (B, 1, h, w) is seen."""
        features = self.first(source)
        for block in self.down_blocks:
            features = block(features)
        features = _deform(features, deformation)
        if visible is not None:
            features = features * _open_borders(resized(visible, features.shape[2:]))
        features = self.bottleneck(features)
        for block in self.up_blocks:
            features = block(features)
        return torch.sigmoid(self.final(features).float())


class OcclusionAwareGenerator(Painter):
    """Finds the dense motion between keypoints, and paints (section 3.2).

    Parameters are those of PaddleGAN's class of this name. Its border rule of inference always
    holds here: near the borders nothing moves and nothing counts as hidden.
    """

    dense_motion = DenseMotion

    def __init__(
        self,
        num_channels: int,
        num_kp: int,
        block_expansion: int,
        max_features: int,
        num_down_blocks: int,
        num_bottleneck_blocks: int,
        dense_motion_params: Settings,
        estimate_occlusion_map: bool = False,
        estimate_jacobian: bool = False,
    ) -> None:
        del estimate_jacobian  # the keypoints show it
        motion = self.dense_motion(
            num_kp=num_kp,
            num_channels=num_channels,
            estimate_occlusion_map=estimate_occlusion_map,
            **dense_motion_params,
        )
        widths = (block_expansion, max_features)
        super().__init__(num_channels, *widths, num_down_blocks, num_bottleneck_blocks, motion)

    def forward(
        self,
        source: Tensor,
        driving_kp: Keypoints,
        source_kp: Keypoints,
        given: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Animate (B, 3, S, S) sources in [0, 1].

        Parameters
        ----------
        source, driving_kp, source_kp
            The images, and keypoints as :class:`KPDetector` gives them.
        given : tuple, optional
            ``(which, deformation, occlusion_map)``: samples of the batch, (B,) bool, that are
            generated from a known motion, (B, h, w, 2) and (B, 1, h, w), in place of the
            estimated one.

        Returns
        -------
        dict
            ``prediction`` (B, 3, S, S) and all that :class:`DenseMotion` returns.
        """
        out = self.dense_motion_network(source, driving_kp, source_kp)
        deformation, visible = out["deformation"], out.get("occlusion_map")
        if given is not None:
            which, known, seen = given
            which, grid = which[:, None, None, None], seen.shape[2:]
            deformation = torch.where(which, known, resized_field(deformation, grid))
            if visible is not None:
                visible = torch.where(which, seen, resized(visible, grid))
        out["prediction"] = self.paint(source, deformation, visible)
        return out


def _deform(image: Tensor, deformation: Tensor) -> Tensor:
    """Move the (B, C, H, W) features; they keep their precision and layout."""
    height, width = image.shape[2:]
    with torch.autocast(image.device.type, enabled=False):
        field = resized_field(deformation, (height, width))
        inside = (_fade(height, image)[:, None] * _fade(width, image))[..., None]
        field = inside * field + (1 - inside) * coordinate_grid(height, width, image)
        if image.is_cuda and torch.is_grad_enabled():
            moved = _Warp.apply(image.float(), field)
        else:
            moved = F.grid_sample(image.float(), field, align_corners=True)
    return moved.to(image.dtype, memory_format=torch.channels_last)


class _Warp(torch.autograd.Function):
    """``grid_sample`` whose gradient is the same in every run on a GPU, where PyTorch's is not."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, field: Tensor) -> Tensor:
        ctx.save_for_backward(image, field)
        return F.grid_sample(image, field, align_corners=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        image, field = ctx.saved_tensors
        _, to_field = torch.ops.aten.grid_sampler_2d_backward(
            gradient, image, field, 0, 0, True, [False, True]
        )
        return _spread(gradient, field, image.shape[2], image.shape[3]), to_field


@torch.library.custom_op("studykit::spread", mutates_args=())
def _spread(gradient: Tensor, field: Tensor, height: int, width: int) -> Tensor:
    """Return the gradient of the image that ``grid_sample`` took, (B, C, height, width).

    Threads add in any order, and sums of floats depend on it; so whole numbers are added.
    """
    batch, channels = gradient.shape[:2]
    rows = gradient.permute(0, 2, 3, 1).reshape(-1, channels)
    one = 2.0**40 / rows.abs().amax().clamp_min(1e-30)
    x, y = (
        (field[..., axis].reshape(-1) + 1) * ((side - 1) / 2)
        for axis, side in ((0, width), (1, height))
    )
    first = torch.arange(batch, device=field.device) * (height * width)
    first = first.repeat_interleave(len(rows) // batch)
    total = torch.zeros((batch * height * width, channels), dtype=torch.int64, device=field.device)
    for right in (0, 1):
        for down in (0, 1):
            column, row = x.floor() + right, y.floor() + down
            share = (1 - (x - column).abs()) * (1 - (y - row).abs())
            within = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            place = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            added = rows * (share * within * one)[:, None]
            total.index_add_(0, first + place, added.round().long())
    image = (total.float() / one).view(batch, height, width, channels)
    return image.permute(0, 3, 1, 2)


@_spread.register_fake
def _(gradient: Tensor, field: Tensor, height: int, width: int) -> Tensor:
    batch, channels = gradient.shape[:2]
    return gradient.new_empty((batch, height, width, channels)).permute(0, 3, 1, 2)


def _fade(size: int, like: Tensor) -> Tensor:
    """Return how far the warp counts along an axis: 0 at the borders, 1 inside, (size,)."""
    kernel = torch.tensor(_BORDER_KERNEL, dtype=torch.float32, device=like.device) / 256
    inside = torch.zeros(size, device=like.device)
    inside[_BORDER:-_BORDER] = 1
    return F.conv1d(inside[None, None], kernel[None, None], padding="same")[0, 0]


def _open_borders(visible: Tensor) -> Tensor:
    inside = visible[:, :, _BORDER:-_BORDER, _BORDER:-_BORDER]
    return F.pad(inside, (_BORDER,) * 4, value=1.0)


def resized(maps: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Resize bilinearly by two matrices: PyTorch's own gradient differs from run to run on GPUs."""
    if maps.shape[2:] == torch.Size(size):
        return maps
    with torch.autocast(maps.device.type, enabled=False):
        down, across = (
            _stretch(before, after, maps.device)
            for before, after in zip(maps.shape[2:], size, strict=True)
        )
        return down @ maps.float() @ across.T


def resized_field(field: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Resize (B, h, w, 2) coordinates as :func:`resized` does maps."""
    return resized(field.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)


def _stretch(before: int, after: int, device: torch.device) -> Tensor:
    """Return bilinear interpolation along an axis as a matrix, (after, before)."""
    place = (torch.arange(after, device=device) + 0.5) * (before / after) - 0.5
    place = place.clamp(0, before - 1)[:, None]
    return (1 - (place - torch.arange(before, device=device)).abs()).clamp_min(0)
