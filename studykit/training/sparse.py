"""Training of ``sparse``: its motion network in PyTorch, and the landmarks that it learns from."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studykit.media.pose import face_model
from studykit.methods import _sparse_network as network
from studykit.methods._face_motion import motions
from studykit.methods._fomm_landmarks import KEYPOINTS
from studykit.methods._warp_geometry import fit_head
from studykit.methods.sparse import moved_points, shape_of
from studykit.training import losses
from studykit.training.batches import Batch
from studykit.training.data import keypoint_indices
from studykit.training.networks import (
    BlurredDownsampling,
    KPDetector,
    Painter,
    Settings,
    coordinate_grid,
    fill,
)
from studykit.training.recipe import LossWeights

_IRISES = keypoint_indices("left iris", "right iris")
# Of the samples: how many have the landmarks that the product finds, where it sees a face in both
# frames, and how many have eyes without irises, as dlib finds them. Every landmark errs further by
# itself, by up to so much of the eyes' distance.
_FOUND, _WITHOUT_IRISES, _MOST_ERROR = 0.75, 0.15, 0.012
_WHOLE = 0.3  # how much the global branch's own flow counts beside the whole one's
_EYES = (slice(36, 42), slice(42, 48))


def build(settings: Settings) -> dict[str, nn.Module]:
    """Build the motion network, the painting one and that of landmarks from a recipe's settings."""
    common, generator = settings["common_params"], settings["generator_cfg"]
    sizes = ("block_expansion", "max_features", "num_down_blocks", "num_bottleneck_blocks")
    painter = Painter(common["num_channels"], *(generator[name] for name in sizes))
    detector = Landmarks(**settings["kp_detector_cfg"], **common)
    return {
        "motion": SparseMotion(shape_of(settings)),
        "generator": painter,
        "kp_detector": detector,
    }


class Landmarks(KPDetector):
    """Finds the 68 landmarks and the irises of a rendered face."""

    def warm_start(self, detector: Mapping[str, np.ndarray]) -> None:
        """Begin as ``fomm``'s detector, each landmark as the keypoint that is nearest on a face."""
        marks, named = face_model(), [list(own) for own in KEYPOINTS.values() if own]
        places = np.stack([marks[own].mean(0) for own in named])  # irises, crown and neck are last
        apart = np.linalg.norm(marks[:, None] - places, axis=-1)
        nearest = [*apart.argmin(1), *_IRISES]
        heads = {f"kp.{part}": detector[f"kp.{part}"][nearest] for part in ("weight", "bias")}
        fill(self, {**detector, **heads})


def true_points(shape: network.Shape, batch: Batch) -> list[Tensor]:
    """Return the renderer's points of source and driving, (B, 70, 2) each, in coordinates."""
    size = batch.source.shape[-1]
    return [
        torch.cat([shape.coordinates(landmarks, size), points[:, _IRISES]], 1)
        for landmarks, points in (
            (batch.source_landmarks, batch.source_kp),
            (batch.landmarks, batch.driving_kp),
        )
    ]


class Marked(NamedTuple):
    """Pairs of faces by their landmarks: what :class:`network.Faces` holds, on the device."""

    maps: Tensor
    vectors: dict[str, Tensor]

    @classmethod
    def of(
        cls, shape: network.Shape, source: np.ndarray, driving: np.ndarray, device: torch.device
    ) -> "Marked":
        """Describe (B, 70, 2) points, in coordinates."""
        faces = network.faces(shape, source, driving)
        vectors = {k: torch.from_numpy(v).to(device) for k, v in faces.vectors.items()}
        return cls(torch.from_numpy(faces.maps).to(device), vectors)


def marked(shape: network.Shape, batch: Batch, rng: np.random.Generator) -> Marked:
    """Take the landmarks of a batch, as wrong as those that will drive.

    The product's own finder says where it sees them in the rendered frames, so that what it gets
    wrong in every frame of a face, and from frame to frame, is as it is in use.
    """
    count = len(batch.source)
    true = true_points(shape, batch)
    pair = torch.stack(true, 1).cpu().double().numpy()
    found = rng.random(count) < _FOUND
    if batch.found is not None:
        theirs = torch.stack([batch.source_found, batch.found], 1).cpu().double().numpy()
        found &= ~np.isnan(theirs).any((1, 2, 3))
        pair[found] = theirs[found]
    eyes = np.linalg.norm(pair[:, :1, 36] - pair[:, :1, 45], axis=-1)[..., None, None]
    error = rng.uniform(0, _MOST_ERROR, (count, 1, 1, 1)) * eyes
    pair += error * rng.standard_normal(pair.shape)
    blind = rng.random(count) < _WITHOUT_IRISES
    for iris, eye in zip((68, 69), _EYES, strict=True):
        pair[blind, :, iris] = pair[blind][:, :, eye].mean(2)
    return Marked.of(shape, pair[:, 0], pair[:, 1], batch.source.device)


class Objective(nn.Module):
    """All terms but the discriminator's: of the motion, and of what is painted by it.

    Parameters
    ----------
    networks : dict
        As :func:`build` gives them.
    bf16 : bool
        Convolve in half precision.
    vgg : losses.VGG19, optional
        For the perceptual term.
    """

    def __init__(self, networks: dict[str, Any], bf16: bool, vgg: Any = None) -> None:
        super().__init__()
        self.motion, self.painter = networks["motion"], networks["generator"]
        self.finder = networks["kp_detector"]
        self.bf16, self.vgg = bf16, vgg

    def forward(
        self,
        batch: Batch,
        spline: losses.ThinPlateSpline,
        taught: Tensor,
        weights: LossWeights,
        generates: bool,
        marked: Marked,
        paints: bool = True,
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the weighted terms, and what was painted, (B, 3, S, S), if ``paints``.

        As :class:`studykit.training.objective.Objective` has them; there is no spline to bear. A
        phase that trains the finder of landmarks trains nothing else.
        """
        if next(self.finder.parameters()).requires_grad:
            return self._finding(batch, weights), None
        flow, logit, whole = self.motion(batch.source, marked, self.bf16)
        deformation, alone = (field.permute(0, 2, 3, 1) for field in (flow, whole))
        counts = losses.attention(batch.face, batch.landmarks, weights)
        truth = batch.deformation, batch.seen, F.avg_pool2d(counts, 2), weights
        terms = losses.motion_supervision(deformation, logit, *truth)
        terms["whole"] = _WHOLE * losses.motion_supervision(alone, None, *truth)["flow"]
        if not paints:
            return terms, None
        which = taught[:, None, None, None]
        deformation = torch.where(which, batch.deformation, deformation)
        visible = torch.where(which, batch.seen, torch.sigmoid(logit))
        with torch.autocast(batch.source.device.type, torch.bfloat16, enabled=self.bf16):
            image = self.painter.paint(batch.source, deformation, visible)
        terms |= losses.reconstruction(image, batch.driving, counts, weights)
        if weights.fidelity:
            terms["fidelity"] = losses.fidelity(image, batch.driving, batch.face, weights)
        if self.vgg is not None:
            terms["perceptual"] = weights.perceptual * self.vgg.distance(image, batch.driving)
        return terms, image

    def _finding(self, batch: Batch, weights: LossWeights) -> dict[str, Tensor]:
        """Return the terms of the landmarks, of which nothing else learns."""
        images = torch.cat([batch.source, batch.driving])
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            found = self.finder(images)
        true = torch.cat(true_points(self.motion.shape, batch))
        return losses.keypoint_supervision(found, true, None, weights)


@torch.no_grad()
def animate(
    networks: dict[str, Any],
    source: np.ndarray,
    own: np.ndarray,
    driving: np.ndarray,
    fields: list[np.ndarray] | None = None,
) -> np.ndarray:
    """Animate a source by relative motion of landmarks, the driving's first being its start.

    Parameters
    ----------
    networks : dict
        As :func:`build` gives them; in evaluation mode afterwards.
    source : (S, S, 3) uint8
    own : (70, 2)
        Its points, in pixels.
    driving : (T, 70, 2)
        The driving's.
    fields : list, optional
        Is given the dense motion of every frame, as :func:`studykit.training.evaluate.animate`.

    Returns
    -------
    (T, S, S, 3) uint8
    """
    for part in networks.values():
        part.eval()
    motion, painter = networks["motion"], networks["generator"]
    size, head = len(source), fit_head(own[:68])
    image = torch.tensor(source, device=motion.blur.device)[None].permute(0, 3, 1, 2) / 255
    out = []
    for found, moved in motions(head, None, driving, relative=True, adapt_scale=True):
        points = moved_points(own, head, driving[0], found, moved, relative=True)
        pair = (motion.shape.coordinates(p, size)[None] for p in (own, points))
        flow, logit, _ = motion(image, Marked.of(motion.shape, *pair, image.device))
        field = flow.permute(0, 2, 3, 1)
        if fields is not None:
            fields.append(field[0].cpu().numpy())
        made = painter.paint(image, field, torch.sigmoid(logit))
        out.append((made * 255).round().byte()[0].permute(1, 2, 0).cpu().numpy())
    return np.stack(out)


class SparseMotion(nn.Module):
    """:func:`studykit.methods._sparse_network.dense_motion` with tensors that are trained."""

    blur: Tensor
    F = F

    def __init__(self, shape: network.Shape) -> None:
        super().__init__()
        self.shape, self.bf16 = shape, False
        for name, size in network.tensor_shapes(shape).items():
            *path, last = name.split(".")
            holder: nn.Module = self
            for step in path:
                if not hasattr(holder, step):
                    holder.add_module(step, nn.Module())
                holder = getattr(holder, step)
            holder.register_parameter(last, nn.Parameter(_first(name, size)))
        down = BlurredDownsampling(3, 0.5)
        self.register_buffer("blur", down.weight, persistent=False)
        self._own = dict(self.named_parameters())

    def forward(
        self, image: Tensor, marked: Marked, bf16: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return flow, logit and global flow of (B, 3, side, side) sources in [0, 1]."""
        self.bf16 = bf16
        return network.dense_motion(self, self.shape, image, marked.maps, marked.vectors)

    def warm_start(self, detector: Mapping[str, np.ndarray]) -> None:
        """Begin with the convolutions of a keypoint detector's hourglass, where they fit."""
        levels = len(self.shape.whole)
        ways = {"down": "encoder.down_blocks", "up": "decoder.up_blocks"}
        with torch.no_grad():
            for name, mine in self._own.items():
                branch, way, *_, part = name.split(".")
                if branch != "whole" or way not in ways or ".conv." not in name:
                    continue
                level = int(name.split(".")[2])
                level = level if way == "down" else levels - 1 - level
                theirs = detector.get(f"predictor.{ways[way]}.{level}.conv.{part}")
                if theirs is None:
                    continue
                given = torch.tensor(theirs).float()
                if name == "whole.down.0.conv.weight":  # it has seen the moved source's place only
                    given = torch.cat([given, torch.zeros_like(given)], 1)
                if given.shape == mine.shape:
                    mine.copy_(given)

    def conv(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.own(f"{name}.weight"), self.own(f"{name}.bias")
        if self.bf16:
            x, weight, bias = x.bfloat16(), weight.bfloat16(), bias.bfloat16()
        x = x.contiguous(memory_format=torch.channels_last)
        out = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        return out.float() if name.endswith("head") else out

    def doubled_conv(self, x: Tensor, name: str) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2), name)

    def own(self, name: str) -> Tensor:
        return self._own[name]

    def halved(self, image: Tensor) -> Tensor:
        return F.conv2d(image, self.blur, padding=self.blur.shape[-1] // 2, stride=2, groups=3)

    def normed(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        # As products with a row of ones: PyTorch's own reductions are slow in this layout.
        rows = x.permute(0, 2, 3, 1).flatten(1, 2)
        share = rows.new_full((1, 1, 1), 1 / rows.shape[1]).expand(len(x), 1, rows.shape[1])
        mean = share @ rows
        deviation = ((share @ (rows - mean) ** 2).float() + _EPSILON).sqrt()
        scale = scale.view(-1, 1, x.shape[1]) / deviation
        shift = shift.view(-1, 1, x.shape[1]) - mean.float() * scale
        scale, shift = (self.like(v, x)[:, 0, :, None, None] for v in (scale, shift))
        return x * scale + shift

    def like(self, value: Tensor, x: Tensor) -> Tensor:
        return value.to(x.dtype)

    def sampled(self, x: Tensor, field: Tensor, border: bool) -> Tensor:
        mode = "border" if border else "zeros"
        return F.grid_sample(x, field.permute(0, 2, 3, 1), padding_mode=mode, align_corners=True)

    def places(self, side: int) -> Tensor:
        grid = coordinate_grid(side, side, self.blur).flatten(0, 1)
        return F.pad(grid, (0, 1), value=1.0).T

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        return torch.cat([part.to(parts[0].dtype) for part in parts], axis)


_EPSILON = 1e-5  # as Paddle's


def _first(name: str, size: tuple[int, ...]) -> Tensor:
    """Return what a tensor is before training."""
    if name.endswith(".scale"):
        return torch.ones(size)
    if name == "whole.head.bias":
        return torch.tensor([1.0, 0.0, 0.0, 2.0])  # most is head, and most is seen
    if name.endswith("head.bias"):
        return torch.tensor([0.0, 0.0, -1.0])
    if len(size) == 1 or ".head." in name:
        return torch.zeros(size)
    if name.endswith((".adain.weight", ".add.weight")):
        return torch.randn(size) * 0.02
    return torch.randn(size) * (2 / np.prod(size[1:])) ** 0.5
