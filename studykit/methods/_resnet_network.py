"""The keypoint network of ``resnet``: a U-Net whose encoder is a ResNet-18, written once.

It stands where the First Order Motion Model has its hourglass. The method's layers are Paddle's
(:mod:`._resnet_layers`), the trainer's PyTorch's (:mod:`studykit.training.resnet`); both have
torchvision's names in the encoder, and the hourglass's in the decoder.
"""

from collections.abc import Callable, Sequence
from typing import Any

KEYPOINTS = (
    "nose tip",
    "chin",
    "jaw left",
    "jaw right",
    "mouth left",
    "mouth right",
    "lower lip",
    "left upper lid",
    "right upper lid",
    "crown",
)
"""The ten keypoints, of those that the renderer knows. The lids stand for the eyes: they show where
an eye is, and whether it is closed."""

LAST = 16
"""Channels of the decoder's last level."""

_BLOCKS = ("0", "1")  # of every stage
# Mean and deviation of ImageNet's pixels, in [0, 1], by channel.
_CHANNELS = ((0, 0.485, 0.229), (1, 0.456, 0.224), (2, 0.406, 0.225))


def widths(width: int, most: int) -> list[int]:
    """Return the channels of the four stages: 64 to 512 in the ResNet-18 of He et al. (2016)."""
    return [min(most, width * 2**stage) for stage in range(4)]


def encoder_layers(width: int, most: int) -> dict[str, tuple[int, ...]]:
    """Return the encoder's layers by torchvision's names, but for its classifier.

    A convolution is (inputs, outputs, kernel size, stride), without bias and padded by half of its
    kernel; a batch norm is (channels,).
    """
    stages = widths(width, most)
    layers: dict[str, tuple[int, ...]] = {"conv1": (3, stages[0], 7, 2), "bn1": (stages[0],)}
    inputs = stages[0]
    for stage, outputs in enumerate(stages, 1):
        for block in _BLOCKS:
            stride, name = 2 if stage > 1 and block == "0" else 1, f"layer{stage}.{block}"
            layers[f"{name}.conv1"] = (inputs, outputs, 3, stride)
            layers[f"{name}.conv2"] = (outputs, outputs, 3, 1)
            layers |= {f"{name}.bn{k}": (outputs,) for k in (1, 2)}
            if stride > 1:
                layers[f"{name}.downsample.0"] = (inputs, outputs, 1, stride)
                layers[f"{name}.downsample.1"] = (outputs,)
            inputs = outputs
    return layers


def decoder_widths(width: int, most: int) -> list[tuple[int, int]]:
    """Return the input and output channels of the decoder's five levels, the smallest first."""
    one, two, three, four = widths(width, most)
    return [(four, three), (2 * three, two), (2 * two, one), (2 * one, one), (2 * one, LAST)]


def grow(encoder: Any, empty: Callable[[], Any], made: Callable[..., Any], *size: int) -> None:
    """Give a module the encoder's layers.

    Parameters
    ----------
    encoder : module
        Of any library.
    empty : callable
        Returns a module of its kind without layers.
    made : callable
        Returns a layer, given what :func:`encoder_layers` says of it.
    *size : int
        The latter's arguments.
    """
    for name, layer in encoder_layers(*size).items():
        *path, last = name.split(".")
        holder = encoder
        for step in path:
            if not hasattr(holder, step):
                setattr(holder, step, empty())
            holder = getattr(holder, step)
        setattr(holder, last, made(*layer))


def features(
    functions: Any, concat: Callable[..., Any], encoder: Any, levels: Sequence[Any], image: Any
) -> Any:
    """Return what keypoints are read from, (B, LAST + 3, S, S).

    Parameters
    ----------
    functions
        A library's, which all name alike: ``torch.nn.functional`` or Paddle's.
    concat : callable
        Takes arrays and an axis.
    encoder : module
        As :func:`grow` makes it.
    levels : sequence of modules
        The decoder's, each of which doubles a side.
    image : (B, 3, S, S)
        In [0, 1]; S is a multiple of 32.
    """
    # Plain enough for Paddle, which translates these lines to make a graph of them.
    x = concat([(image[:, c : c + 1] - mean) / spread for c, mean, spread in _CHANNELS], 1)
    x = functions.relu(encoder.bn1(encoder.conv1(x)))
    seen = [image, x]
    x = functions.max_pool2d(x, 3, 2, 1)
    for stage in range(1, 5):
        blocks = getattr(encoder, f"layer{stage}")
        for block in (getattr(blocks, name) for name in _BLOCKS):
            out = functions.relu(block.bn1(block.conv1(x)))
            out = block.bn2(block.conv2(out))
            if hasattr(block, "downsample"):
                x = getattr(block.downsample, "1")(getattr(block.downsample, "0")(x))
            x = functions.relu(out + x)
        seen.append(x)
    x = seen.pop()
    for level in levels:
        x = concat([level(x), seen.pop()], 1)
    return x
