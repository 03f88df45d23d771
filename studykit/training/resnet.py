"""Training of ``resnet``: its keypoint network in PyTorch, and the crops that it learns from."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studykit.errors import StudyError
from studykit.methods import _resnet_network as network
from studykit.methods._resnet_crop import WHOLE, box_map, boxes, cropped, steady, within
from studykit.training import losses, objective
from studykit.training.batches import Batch
from studykit.training.data import keypoint_indices
from studykit.training.networks import (
    Keypoints,
    KPDetector,
    OcclusionAwareGenerator,
    Settings,
    Up,
    coordinate_grid,
)
from studykit.training.recipe import LossWeights
from studykit.training.regions import as_convolved

_WHICH = keypoint_indices(*network.KEYPOINTS)
# Of the samples, how many are seen whole, as where the cascade finds no face. The others' squares
# lie about the landmarks as the cascade's do, in sides of their box: 390 rendered faces.
_SEEN_WHOLE = 0.4
_MIDDLE, _MIDDLE_SPREAD = (0.02, -0.19), (0.11, 0.06)
_SIDE, _SIDE_SPREAD = 2.03, 0.12  # the latter of its logarithm


def build(settings: Settings) -> dict[str, nn.Module]:
    """Build both networks from settings named as in PaddleGAN's configuration files.

    Of the detector, ``block_expansion`` and ``max_features`` are the channels of the encoder's
    first and last stage.
    """
    common = settings["common_params"]
    generator = OcclusionAwareGenerator(**settings["generator_cfg"], **common)
    generator.dense_motion_network.hourglass.register_forward_pre_hook(as_convolved)
    detector = ResnetDetector(**settings["kp_detector_cfg"], **common)
    return {"kp_detector": detector, "generator": generator}


class Unet(nn.Module):
    """:func:`studykit.methods._resnet_network.features` with layers that are trained."""

    def __init__(self, width: int, most: int) -> None:
        super().__init__()
        self.encoder = nn.Module()
        network.grow(self.encoder, nn.Module, _layer, width, most)
        ups = nn.ModuleList(Up(a, b) for a, b in network.decoder_widths(width, most))
        self.decoder = nn.ModuleDict({"up_blocks": ups})
        self.out_filters = network.LAST + 3

    def forward(self, image: Tensor) -> Tensor:
        image = image.contiguous(memory_format=torch.channels_last)
        return network.features(F, _concat, self.encoder, self.decoder["up_blocks"], image)


def _layer(*layer: int) -> nn.Module:
    if len(layer) == 1:
        return nn.BatchNorm2d(*layer)
    inputs, outputs, size, stride = layer
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    return conv


def _concat(parts: list[Tensor], axis: int) -> Tensor:
    return torch.cat([part.to(parts[0].dtype) for part in parts], axis)


class ResnetDetector(KPDetector):
    """Finds keypoints, without jacobians, by a U-Net in place of the hourglass."""

    def __init__(
        self, block_expansion: int, max_features: int, num_kp: int, pad: int, **settings: Any
    ) -> None:
        # The hourglass that it makes first is the smallest: it goes.
        super().__init__(4, num_kp, max_features=4, pad=pad, **settings)
        self.predictor = Unet(block_expansion, max_features)
        self.kp = nn.Conv2d(self.predictor.out_filters, num_kp, 7, padding=pad)

    def in_crop(self, images: Tensor) -> Keypoints:
        """Find the keypoints of a clip, (T, 3, S, S), in the face's square, as the product does."""
        frames = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        box = steady(boxes(frames))
        shown = torch.tensor(np.stack([cropped(frame, box) for frame in frames]))
        found = self(shown.to(images.device).permute(0, 3, 1, 2).float() / 255)
        where = torch.tensor(box, dtype=torch.float32, device=images.device)
        share, shift = box_map(where, found["heatmap"].shape[-1])
        return {"value": share * found["value"] + shift}


def draw_boxes(batch: Batch, rng: np.random.Generator) -> Tensor:
    """Draw the squares of a batch's sources, then of its drivings, (2 B, 3), as boxes."""
    size = batch.source.shape[-1]
    marks = torch.cat([batch.source_landmarks, batch.landmarks]).cpu().double().numpy() / size
    low, high = marks.min(1), marks.max(1)
    side, count = (high - low).max(1, keepdims=True), len(marks)
    middle = (low + high) / 2 + side * rng.normal(_MIDDLE, _MIDDLE_SPREAD, (count, 2))
    side = side * _SIDE * np.exp(rng.normal(0, _SIDE_SPREAD, (count, 1)))
    whole = np.tile(rng.random(count // 2) < _SEEN_WHOLE, 2)
    drawn = np.where(whole[:, None], WHOLE, within(np.concatenate([middle, side], 1)))
    return torch.tensor(drawn, dtype=torch.float32, device=batch.source.device)


def crops(images: Tensor, where: Tensor) -> Tensor:
    """Return what is in (B, 3) boxes of (B, 3, S, S) images, as large as they are."""
    size = images.shape[-1]
    # Between the outer pixels' middles, of the box as of the image.
    grid = coordinate_grid(size, size, images)
    share, shift = box_map(where, size)
    field = share[:, None, None] * grid + shift[:, None, None]
    return F.grid_sample(images, field, padding_mode="border", align_corners=True)


class Objective(objective.Objective):
    """All terms but the discriminator's; keypoints are found, and compared, in crops.

    The renderer knows where each lies, so that none of them has to bear a spline.
    """

    def _found(
        self,
        batch: Batch,
        spline: losses.ThinPlateSpline,
        weights: LossWeights,
        marked: Any,
    ) -> tuple[Keypoints, Keypoints, dict[str, Tensor]]:
        where, learns = marked, next(self.kp_detector.parameters()).requires_grad
        with self._half(batch):
            found = self.kp_detector(crops(torch.cat([batch.source, batch.driving]), where))
        share, shift = (x[:, None] for x in box_map(where, found["heatmap"].shape[-1]))
        terms = {}
        if learns:
            truth = torch.cat([batch.source_kp, batch.driving_kp])[:, _WHICH]
            terms = losses.keypoint_supervision(found, (truth - shift) / share, None, weights)
        source, driving = (share * found["value"] + shift).chunk(2)
        return {"value": source}, {"value": driving}, terms


def begun(start: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """Return the generator of weights with all of the renderer's keypoints, for the ten.

    Its dense motion sees of each keypoint where it lies and what its motion makes of the source,
    and gives a mask for each: those of the ten, and of the background, are kept.
    """
    tensors = dict(start["generator"])
    ones = [0, *(1 + index for index in _WHICH)]
    inputs = np.array([4 * one + channel for one in ones for channel in range(4)])
    first = "dense_motion_network.hourglass.encoder.down_blocks.0.conv.weight"
    decoded = tensors["dense_motion_network.mask.weight"].shape[1] - tensors[first].shape[1]
    for name in ("mask", "occlusion"):
        head = f"dense_motion_network.{name}.weight"
        tensors[head] = tensors[head][:, np.append(np.arange(decoded), decoded + inputs)]
    for part in ("weight", "bias"):
        head = f"dense_motion_network.mask.{part}"
        tensors[head] = tensors[head][ones]
    tensors[first] = tensors[first][:, inputs]
    return {"generator": tensors}


def load_encoder(detector: nn.Module, path: Path) -> None:
    """Give the encoder the tensors of a ResNet-18, such as torchvision's of ImageNet.

    Parameters
    ----------
    detector : ResnetDetector
    path : Path
        A state dict with torchvision's names, ``.safetensors`` or ``.pth``; its classifier
        ``fc`` is left out.

    Raises
    ------
    StudyError
        It can't be read, or its names or shapes are not the encoder's; the first is named.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            given = load_file(path)
        else:
            given = torch.load(path, map_location="cpu", weights_only=True)
        given = {k: v for k, v in given.items() if k.partition(".")[0] != "fc"}
    except OSError as error:
        raise StudyError(f"encoder {path} can't be read: {error.strerror or error}") from None
    except Exception as error:  # a damaged file may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise StudyError(f"encoder {path} is no state dict of PyTorch ({reason})") from error
    encoder = detector.predictor.encoder
    if problem := next(_differences(encoder.state_dict(), given), None):
        raise StudyError(
            f"encoder {path} is no ResNet-18 of the recipe's size: {problem}; torchvision's needs "
            "block_expansion 64 and max_features 512 in the recipe's kp_detector_cfg"
        )
    encoder.load_state_dict(given)


def _differences(wanted: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    for name, tensor in wanted.items():
        if name not in given:
            yield f"it has no {name}"
        elif tuple(getattr(given[name], "shape", ())) != tuple(tensor.shape):
            shape = tuple(getattr(given[name], "shape", ()))
            yield f"{name} is {shape}, expected {tuple(tensor.shape)}"
    for name in given:
        if name not in wanted:
            yield f"it has a {name} that no ResNet-18 has"
