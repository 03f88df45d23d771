"""The network of ``enhance`` as a graph that oneDNN runs.

Importing this module imports Paddle: it is for where graphs are made, not for where they are run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from studykit.methods import _enhance_network as network
from studykit.methods._fomm_graph import upsampled_kernel


class EnhanceGraph(nn.Layer):
    """:func:`studykit.methods._enhance_network.maps` at one scale, with tensors that stay."""

    F = F

    def __init__(self, tensors: Mapping[str, np.ndarray], scale: int) -> None:
        super().__init__()
        self.scale = scale
        for name, tensor in tensors.items():
            if name.startswith("up") and name.endswith(".weight"):
                tensor = upsampled_kernel(tensor)
            value = paddle.to_tensor(np.ascontiguousarray(tensor, np.float32))
            self.register_buffer(name.replace(".", "/"), value)
        self.eval()

    def forward(self, image, source):
        (change,) = network.maps(self, image, source, (self.scale,))
        return change

    def own(self, name: str, part: str) -> Any:
        return getattr(self, f"{name}/{part}")

    def conv(self, x: Any, name: str) -> Any:
        weight = self.own(name, "weight")
        return F.conv2d(x, weight, self.own(name, "bias"), padding=weight.shape[-1] // 2)

    def doubled_conv(self, x: Any, name: str) -> Any:
        weight, bias = self.own(name, "weight"), self.own(name, "bias")
        return F.conv2d_transpose(x, weight, bias, stride=2, padding=1)

    def concat(self, parts: Sequence[Any]) -> Any:
        return paddle.concat(list(parts), axis=1)
