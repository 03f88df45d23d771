"""The networks of ``sparse`` as graphs that oneDNN runs: its motion, and ``fomm``'s painting.

Importing this module imports Paddle: it is for where graphs are made, not for where they are run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from studykit.methods import _sparse_network as network
from studykit.methods._fomm_graph import (
    AtFeatures,
    EncoderGraph,
    KeypointGraph,
    PaintGraph,
    downsampling,
    graph_input,
    places,
    upsampled_kernel,
)


def make_graphs(
    tensors: Mapping[str, np.ndarray],
    shape: network.Shape,
    generator: Any,
    detector: Any,
    size: int,
) -> dict[str, tuple[Any, list]]:
    """Return the graphs for images of a size, by name, with their inputs.

    Parameters
    ----------
    tensors : mapping of str to array
        Of the motion network.
    shape : Shape
    generator : OcclusionAwareGenerator
        ppgan's, whose motion is not used.
    detector : KPDetector
        ppgan's, of landmarks.
    size : int
    """
    encoder = EncoderGraph(generator)
    *_, last = (layer for layer in encoder.blocks.sublayers() if isinstance(layer, nn.Conv2D))
    vectors = [
        graph_input(name, 1, 8 * len(marks))
        for name, marks in {"whole": range(network.POINTS), **network.PARTS}.items()
    ]
    maps = graph_input("maps", 1, 1 + 2 * len(network.PARTS), 2, 3)
    image = graph_input("image", 1, 3, shape.side, shape.side)
    graphs = {
        "encoder": (encoder, [graph_input("image", 1, 3, size, size)]),
        "landmarks": (KeypointGraph(detector, shape.side, shape.side, regional=False), [image]),
        "motion": (MotionGraph(tensors, shape, generator, size), [image, maps, *vectors]),
        "paint": (
            PaintGraph(generator),
            [graph_input("features", 1, size, size, last.weight.shape[0])],
        ),
    }
    for graph, _ in graphs.values():
        graph.eval()
    return graphs


class MotionGraph(nn.Layer):
    """:func:`studykit.methods._sparse_network.dense_motion` for one frame.

    It takes the source as large as in training, and what :class:`Faces` holds; it gives what
    ``fomm``'s motion does: where every place comes from, (places, 2), and how much is seen of it.
    """

    F = F

    def __init__(
        self, tensors: Mapping[str, np.ndarray], shape: network.Shape, generator: Any, size: int
    ) -> None:
        super().__init__()
        self.shape = shape
        for name, tensor in tensors.items():
            if name.endswith(".weight") and ".up." in name and ".conv." in name:
                tensor = upsampled_kernel(tensor)
            elif tensor.ndim == 2:
                tensor = tensor.T
            self._keep(name, tensor)
        for side in (shape.grid, shape.patch):
            self._keep(f"places {side}", places(side, side).T)
        self.down = downsampling(generator.dense_motion_network)
        self.at_features = AtFeatures(generator, (shape.grid, shape.grid), size, size)

    def forward(self, image, maps, whole, left, right, mouth):
        vectors = {"whole": whole, "left": left, "right": right, "mouth": mouth}
        flow, logit, _ = network.dense_motion(self, self.shape, image, maps, vectors)
        return self.at_features(flow, F.sigmoid(logit))

    def _keep(self, name: str, value: np.ndarray) -> None:
        name = name.replace(".", "/")
        self.register_buffer(name, paddle.to_tensor(np.ascontiguousarray(value, np.float32)))

    def own(self, name: str) -> Any:
        return getattr(self, name.replace(".", "/"))

    def conv(self, x: Any, name: str) -> Any:
        weight = self.own(f"{name}.weight")
        return F.conv2d(x, weight, self.own(f"{name}.bias"), padding=weight.shape[-1] // 2)

    def doubled_conv(self, x: Any, name: str) -> Any:
        weight, bias = self.own(f"{name}.weight"), self.own(f"{name}.bias")
        return F.conv2d_transpose(x, weight, bias, stride=2, padding=1)

    def halved(self, image: Any) -> Any:
        return self.down(image)

    def normed(self, x: Any, scale: Any, shift: Any) -> Any:
        return F.instance_norm(x, weight=scale.reshape([-1]), bias=shift.reshape([-1]))

    def like(self, value: Any, x: Any) -> Any:
        return value

    def sampled(self, x: Any, field: Any, border: bool) -> Any:
        mode = "border" if border else "zeros"
        field = field.transpose([0, 2, 3, 1])
        return F.grid_sample(x, field, padding_mode=mode, align_corners=True)

    def places(self, side: int) -> Any:
        return self.own(f"places {side}")

    def concat(self, parts: Sequence[Any], axis: int) -> Any:
        return paddle.concat(list(parts), axis=axis)
