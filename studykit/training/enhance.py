"""Training of ``enhance``: crops of what methods made, spoiled further, and the truth beside."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studykit import files
from studykit.methods import _enhance_network as network
from studykit.training.data import HELD_OUT, Cache, halved
from studykit.training.recipe import LossWeights

_CROP = 128  # pixels of the input
# Of the samples: how many are the render itself, which is spoiled more often, and how often each
# kind of spoiling strikes a render and what a method made. What is good is to be left as it is.
_RENDERED = 0.35
_BLUR, _NOISE, _JPEG = (0.6, 0.15), (0.4, 0.2), (0.5, 0.3)
_MOST_BLUR, _MOST_NOISE, _LEAST_QUALITY = 1.4, 6.0, 40  # pixels, of 255, JPEG's
_SURE = 0.004  # how near to 0 and 1 a mask is asked to come
_REACH, _STRICT, _WILLING = 2.0, 12.0, 2.0  # pixels; of a logit
_SHOWN = 2  # frames an identity on a sheet


def build(settings: dict[str, Any]) -> dict[str, nn.Module]:
    """Build the network."""
    return {"enhance": Enhancer()}


class Enhancer(nn.Module):
    """:func:`studykit.methods._enhance_network.maps` with tensors that are trained."""

    F = F

    def __init__(self) -> None:
        super().__init__()
        for name, shape in network.tensor_shapes().items():
            layer, part = name.split(".")
            if part == "weight":
                own = nn.Conv2d(*shape[1::-1], shape[2], padding=shape[2] // 2)
                self.add_module(layer, own)
                nn.init.kaiming_normal_(own.weight)
                nn.init.zeros_(own.bias)
                if layer.startswith("times"):
                    nn.init.zeros_(own.weight)
        # It begins with taking from the source what differs by less than a few steps of 255.
        place = torch.arange(network.NEAR) - network.NEAR // 2
        bump = torch.exp(-((place / _REACH) ** 2) / 2)
        with torch.no_grad():
            self.near.weight.copy_(-_STRICT * (bump[:, None] * bump / bump.sum() ** 2 / 3))
            self.near.bias.fill_(_WILLING)

    def forward(self, image: Tensor, sources: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Enhance (B, 3, H, W) images in [0, 1], given their sources at each scale.

        Returns
        -------
        made : list of (B, 3, s H, s W)
        masks : list of (B, 1, s H, s W)
            How much is taken from the source.
        """
        changes = network.maps(self, image, sources[0], network.SCALES)
        changes = [change.float() for change in changes]
        made = [
            network.blended(enlarged(image, scale), source, change)
            for scale, source, change in zip(network.SCALES, sources, changes, strict=True)
        ]
        return made, [change[:, 3:] for change in changes]

    def conv(self, x: Tensor, name: str) -> Tensor:
        return getattr(self, name)(x)

    def doubled_conv(self, x: Tensor, name: str) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2), name)

    def concat(self, parts: list[Tensor]) -> Tensor:
        return torch.cat(parts, 1)


def enlarged(image: Tensor, scale: int) -> Tensor:
    """Enlarge images bicubically, as OpenCV does."""
    if scale == 1:
        return image
    return F.interpolate(image, scale_factor=scale, mode="bicubic", align_corners=False)


class Crops(NamedTuple):
    """What a step is trained on: (B, 3, H, W) float32 in [0, 1].

    Attributes
    ----------
    given : (B, 3, C, C)
    source, truth : list of (B, 3, s C, s C)
        Of each scale.
    """

    given: Tensor
    source: list[Tensor]
    truth: list[Tensor]


class Shelf:
    """What :func:`studykit.training.data.made_identity` made, taken from the cache when needed."""

    def __init__(self, cache: Cache, device: torch.device) -> None:
        self._cache, self._device = cache, device
        self._identities: list[dict[str, np.ndarray]] = []

    def draw(self, step: int, count: int, rng: np.random.Generator) -> Crops:
        """Draw crops, mirror half of them, and spoil those that are given."""
        pool = self._cache.settings.available(step)
        while len(self._identities) < pool:
            self._identities.append(self._cache.identity(len(self._identities)))
        pairs = [self._pair(self._identities[rng.integers(pool)], rng) for _ in range(count)]
        sides = (np.stack(side) for side in zip(*pairs, strict=True))
        given, source, truth = (as_tensor(side, self._device) for side in sides)
        return Crops(given, at_scales(source), at_scales(truth))

    def _pair(
        self, identity: dict[str, np.ndarray], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        truth, made = identity["truth"], identity["made"]
        frame, method = rng.integers(len(truth)), rng.integers(len(made))
        x, y = rng.integers(0, made.shape[2] - _CROP + 1, 2)
        where = (slice(2 * y, 2 * (y + _CROP)), slice(2 * x, 2 * (x + _CROP)))
        source, large = identity["source"][where], truth[frame][where]
        rendered = rng.random() < _RENDERED
        given = halved(large) if rendered else made[method, frame, y : y + _CROP, x : x + _CROP]
        if rng.random() < 0.5:
            given, source, large = (side[:, ::-1] for side in (given, source, large))
        return spoiled(np.ascontiguousarray(given), rng, 0 if rendered else 1), source, large


def spoiled(image: np.ndarray, rng: np.random.Generator, kind: int) -> np.ndarray:
    """Blur an (H, W, 3) uint8 image, add noise, and code it as JPEG: each by chance.

    ``kind`` is 0 for a render and 1 for what a method made.
    """
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    blur, noise, jpeg = rng.random(3) < [each[kind] for each in (_BLUR, _NOISE, _JPEG)]
    if blur:
        width = rng.uniform(0.3, _MOST_BLUR)
        image = gaussian_filter(image, (width, width, 0), truncate=3)
    if noise:
        added = rng.normal(0, rng.uniform(0, _MOST_NOISE), image.shape)
        image = np.clip(image + added, 0, 255).astype(np.uint8)
    if jpeg:
        quality = int(rng.integers(_LEAST_QUALITY, 96))
        with io.BytesIO() as file:
            Image.fromarray(image).save(file, "JPEG", quality=quality)
            image = np.asarray(Image.open(file))
    return image


class Objective(nn.Module):
    """The mean absolute error at both scales, the same of gradients, and what masks should be."""

    def __init__(self, networks: dict[str, Any], bf16: bool) -> None:
        super().__init__()
        self.network, self.bf16 = networks["enhance"], bf16

    def forward(self, crops: Crops, weights: LossWeights) -> dict[str, Tensor]:
        """Return the weighted terms."""
        given = crops.given.contiguous(memory_format=torch.channels_last)
        with torch.autocast(given.device.type, torch.bfloat16, enabled=self.bf16):
            found, masks = self.network(given, crops.source)
        l1 = gradient = chosen = torch.zeros((), device=given.device)
        for scale, made, mask, source, truth in zip(
            network.SCALES, found, masks, crops.source, crops.truth, strict=True
        ):
            chosen = chosen + choice(enlarged(given, scale), source, truth, mask) / len(found)
            apart = made - truth
            across, down = apart[..., 1:] - apart[..., :-1], apart[..., 1:, :] - apart[..., :-1, :]
            l1 = l1 + apart.abs().mean() / len(found)
            gradient = gradient + (across.abs().mean() + down.abs().mean()) / (2 * len(found))
        terms = {"l1": weights.l1 * l1, "gradient": weights.gradient * gradient}
        return {**terms, "masks": weights.masks * chosen}


def choice(frame: Tensor, source: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return the cross-entropy of a mask with whether the source is nearer to the truth.

    By how much decides how much a pixel counts.
    """
    theirs, own = ((image - truth).abs().mean(1, keepdim=True) for image in (frame, source))
    apart = theirs - own
    entropy = F.binary_cross_entropy(mask.clamp(_SURE, 1 - _SURE), (apart > 0).float(), apart.abs())
    return entropy / apart.abs().mean().clamp_min(1e-4)


@torch.no_grad()
def restored(enhancer: nn.Module, frames: np.ndarray) -> np.ndarray:
    """Spoil a clip, (T, S, S, 3) uint8, whose first frame is the source, and restore it."""
    enhancer.eval()
    rng, source = np.random.default_rng(0), as_tensor(frames[:1])
    worse = [as_tensor(spoiled(frame, rng, 0)[None]) for frame in frames]
    made = [enhancer(frame, at_scales(enlarged(source, 2)))[0][0] for frame in worse]
    return (torch.cat(made).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


@torch.no_grad()
def evaluate(enhancer: nn.Module, cache: Cache, sheet: Path | None = None) -> dict[str, float]:
    """Measure the network on what methods made of held-out identities; draw a sheet of some.

    Returns
    -------
    dict
        ``METHOD x1`` and ``METHOD x2``: decibels of PSNR that it gains over the method's frame, or
        over its bicubic enlargement, mean over frames; and ``l1 METHOD x1``, ...: the mean absolute
        error as a share of what it was.
    """
    enhancer.eval()
    values: dict[str, list[float]] = {}
    rows = []
    for index in range(cache.held_out_count):
        identity = cache.identity(HELD_OUT + index)
        truths = as_tensor(identity["truth"])
        source = at_scales(as_tensor(identity["source"][None]))
        for name, clip in zip(cache.settings.made_by, identity["made"], strict=True):
            for frame, image in enumerate(as_tensor(clip)):
                given, large = image[None], truths[frame][None]
                (made, _), truth = enhancer(given, source), at_scales(large)
                for scale, own, right in zip(network.SCALES, made, truth, strict=True):
                    before, after = (enlarged(given, scale) - right, own.clamp(0, 1) - right)
                    gain = 10 * torch.log10((before**2).mean() / (after**2).mean())
                    share = after.abs().mean() / before.abs().mean()
                    values.setdefault(f"{name} x{scale}", []).append(float(gain))
                    values.setdefault(f"l1 {name} x{scale}", []).append(float(share))
                if frame < _SHOWN:
                    rows.append(torch.cat([enlarged(given, 2), made[1], large], 3)[0])
    if sheet is not None:
        with files.written(sheet, "make room there") as part:
            _drawn(rows).save(part)
    return {name: round(float(np.mean(found)), 4) for name, found in values.items()}


def _drawn(rows: list[Tensor]) -> Any:
    from PIL import Image

    whole = torch.cat(rows, 1).clamp(0, 1).permute(1, 2, 0)
    return Image.fromarray((whole * 255).round().byte().numpy())


def at_scales(large: Tensor) -> list[Tensor]:
    """Return images at each scale, given at the largest."""
    return [F.avg_pool2d(large, 2), large]


def as_tensor(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Take (B, H, W, 3) uint8 images as (B, 3, H, W) float32 in [0, 1]."""
    return torch.tensor(images, device=device).permute(0, 3, 1, 2).float() / 255
