"""The keypoint network of ``resnet`` in Paddle.

Importing this module imports Paddle.
"""

from collections.abc import Sequence
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import nn

from studykit.methods import _resnet_network as network


class Unet(nn.Layer):
    """:func:`studykit.methods._resnet_network.features`, in place of ppgan's hourglass.

    Parameters
    ----------
    encoder : paddle.nn.Layer
    levels : sequence of paddle.nn.Layer
        The decoder's.
    """

    def __init__(self, encoder: Any, levels: Sequence[Any]) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = nn.Layer()
        self.decoder.up_blocks = nn.LayerList(levels)

    @classmethod
    def of_size(cls, width: int, most: int) -> "Unet":
        """Return an untrained one."""
        from ppgan.modules.first_order import UpBlock2d

        encoder = nn.Layer()
        network.grow(encoder, nn.Layer, _layer, width, most)
        return cls(encoder, [UpBlock2d(*size) for size in network.decoder_widths(width, most)])

    def forward(self, image):
        return network.features(F, paddle.concat, self.encoder, self.decoder.up_blocks, image)


def detector(made: type, num_kp: int, pad: int = 0, **settings: Any) -> Any:
    """Return ppgan's keypoint detector, whose class is given, with a U-Net as its predictor."""
    sizes = {name: settings.pop(name) for name in ("block_expansion", "max_features")}
    # The hourglass that it makes first is as small as can be: it goes.
    found = made(4, num_kp, max_features=4, pad=pad, **settings)
    found.predictor = Unet.of_size(*sizes.values())
    found.kp = nn.Conv2D(network.LAST + 3, num_kp, 7, padding=pad)
    return found


def _layer(*layer: int) -> Any:
    if len(layer) == 1:
        return nn.BatchNorm(*layer)
    inputs, outputs, size, stride = layer
    return nn.Conv2D(inputs, outputs, size, stride, size // 2, bias_attr=False)
