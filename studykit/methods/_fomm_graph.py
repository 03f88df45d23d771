"""The First Order Motion Model as four graphs that oneDNN runs fast, from ppgan's own weights.

Each rewrite is exact in algebra; its docstring holds the proof. Importing this module imports
Paddle: it is for where graphs are made, not for where they are run.
"""

from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from studykit.methods._fomm_dygraph import Networks, covariances
from studykit.methods._resnet_layers import Unet


def fold_batch_norm(weight: np.ndarray, bias: np.ndarray, norm: Any) -> tuple:
    """Return a convolution that does its own batch normalisation.

    ``g (w * x + b - m) / sqrt(v + e) + h`` is a convolution with ``w s`` and the bias
    ``(b - m) s + h``, where ``s = g / sqrt(v + e)`` belongs to the output channel.

    Parameters
    ----------
    weight : (out, in, k, k) float array
    bias : (out,) float array
    norm : paddle.nn.BatchNorm
        What follows the convolution.
    """
    scale, shift = _affine_of(norm)
    return weight * scale[:, None, None, None], bias * scale + shift


def upsampled_kernel(weight: np.ndarray) -> np.ndarray:
    """Return the transposed convolution that is nearest x2, then a padded 3x3 convolution.

    Along one axis, with ``u[2i] = u[2i + 1] = x[i]``, the convolution by ``w`` gives

        y[2i]     = w0 x[i - 1] + (w1 + w2) x[i]
        y[2i + 1] = (w0 + w1) x[i] + w2 x[i + 1]

    and a transposed convolution of stride 2 and padding 1 by ``k`` gives

        y[2i]     = k3 x[i - 1] + k1 x[i]
        y[2i + 1] = k2 x[i] + k0 x[i + 1]

    so that ``k = [w2, w1 + w2, w0 + w1, w0]``: 4/9 of the products, none of the copies.

    Parameters
    ----------
    weight : (out, in, 3, 3) float array
        Of the convolution; a depthwise one has ``in`` = 1.

    Returns
    -------
    (in, out, 4, 4) float array
        As Paddle's transposed convolution takes it; a depthwise one is (out, 1, 4, 4).
    """
    spread = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], weight.dtype)
    kernel = np.einsum("yi,xj,ocij->ocyx", spread, spread, weight)
    return kernel if weight.shape[1] == 1 < weight.shape[0] else kernel.transpose(1, 0, 2, 3)


def interleaved_kernel(weight: np.ndarray) -> np.ndarray:
    """Return a stride-2 convolution whose output, pixel-shuffled, is that of a given one.

    Along one axis ``y[2i + a] = sum_t w[t] x[2i + a + t - p] = sum_s w[s - a] x[2i + s - p]``:
    for either phase ``a`` a kernel one tap longer, at stride 2. Few output channels leave most of
    a processor's vector unused, so four times the channels at a quarter of the places are faster.

    Parameters
    ----------
    weight : (out, in, k, k) float array

    Returns
    -------
    (4 out, in, k + 1, k + 1) float array
        Channel ``4 o + 2 a + b`` is the phase (a, b) of output ``o``.
    """
    outputs, inputs, size, _ = weight.shape
    kernel = np.zeros((outputs, 2, 2, inputs, size + 1, size + 1), weight.dtype)
    for a in (0, 1):
        for b in (0, 1):
            kernel[:, a, b, :, a : a + size, b : b + size] = weight
    return kernel.reshape(4 * outputs, inputs, size + 1, size + 1)


def make_graphs(networks: Networks, height: int, width: int) -> dict[str, tuple[Any, list]]:
    """Return the graphs of two networks for one size of image, by name, with their inputs."""
    generator = networks.generator
    encoder, motion = EncoderGraph(generator), MotionGraph(generator, height, width)
    *_, last = (layer for layer in encoder.blocks.sublayers() if isinstance(layer, nn.Conv2D))
    count, channels = motion.num_kp, last.weight.shape[0]
    image = graph_input("image", 1, 3, height, width)
    source = graph_input("source", 1, 3, *motion.small)
    points, moved = (graph_input(name, count, 2) for name in ("points", "moved"))
    motions = graph_input("motions", count + 1, 2, 3)
    features = graph_input("features", 1, *motion.inner, channels)
    graphs = {
        "keypoints": (
            KeypointGraph(networks.kp_detector, height, width, networks.regional),
            [image],
        ),
        "encoder": (encoder, [image]),
        "motion": (motion, [source, points, moved, motions]),
        "paint": (PaintGraph(generator), [features]),
    }
    for graph, _ in graphs.values():
        graph.eval()
    return graphs


class KeypointGraph(nn.Layer):
    """The keypoint detector: a frame (1, 3, H, W) to points (K, 2) and jacobians (K, 2, 2).

    Of a ``regional`` one, these are the maps' means and covariances.
    """

    def __init__(self, detector: Any, height: int, width: int, regional: bool) -> None:
        super().__init__()
        self.down = downsampling(detector)
        predictor = detector.predictor
        if isinstance(predictor, Unet):
            ups = list(map(_up_block, predictor.decoder.up_blocks))
            self.hourglass = Unet(predictor.encoder, ups)
        else:
            self.hourglass = _Hourglass(predictor)
        self.temperature = detector.temperature
        self.num_maps = detector.num_jacobian_maps if detector.jacobian is not None else 0
        heads = [head for head in (detector.kp, detector.jacobian) if head is not None]
        self.heads = _heads(heads)
        scale = detector.scale_factor
        border = _border(detector.kp)
        self.height, self.width = (int(side * scale) - border for side in (height, width))
        self.register_buffer("grid", paddle.to_tensor(places(self.height, self.width)[:, :2]))
        self.regional = regional

    def forward(self, image):
        features = self.hourglass(self.down(image))
        maps = [head(features) for head in self.heads]
        if self.num_maps and len(maps) == 1:
            count = maps[0].shape[1] - 4 * self.num_maps
            maps = paddle.split(maps[0], [count, 4 * self.num_maps], axis=1)
        count, places = maps[0].shape[1], self.height * self.width
        heat = F.softmax(maps[0].reshape([count, places]) / self.temperature, axis=1)
        points = paddle.matmul(heat, self.grid)
        if self.regional:
            return points, covariances(heat.reshape([count, self.height, self.width]), points)
        if not self.num_maps:
            return points
        # Equation 5: a jacobian is the mean of its map m_k (4, places), weighted by the heat h_k of
        # its keypoint: J_k = sum_z h_k(z) m_k(z), which is the product m_k h_k of a matrix and a
        # column. Where all keypoints share one map, all columns together are h m^T. Written as a
        # broadcast multiply and a sum, oneDNN runs it by its slow reference code.
        if self.num_maps == 1:
            jacobians = paddle.matmul(heat, maps[1].reshape([4, places]), transpose_y=True)
        else:
            jacobians = maps[1].reshape([self.num_maps, 4, places])
            jacobians = paddle.matmul(jacobians, heat.unsqueeze(2))
        return points, jacobians.reshape([count, 2, 2])


class EncoderGraph(nn.Layer):
    """The source's part of the generator.

    It takes a source (1, 3, H, W) and gives its features (1, H', W', C), channels last because
    the warp gathers all channels of a place, and the source as small as the motion network's.
    """

    def __init__(self, generator: Any) -> None:
        super().__init__()
        first = generator.first if generator.mobile_net else [generator.first]
        self.blocks = nn.Sequential(
            *(_folded(block.conv, block.norm) for block in first),
            *(_down_block(block) for block in generator.down_blocks),
        )
        self.down = downsampling(generator.dense_motion_network)

    def forward(self, image):
        return self.blocks(image).transpose([0, 2, 3, 1]), paddle.assign(self.down(image))


class MotionGraph(nn.Layer):
    """The dense motion network, for one frame.

    It takes the small source of :class:`EncoderGraph`, the source's keypoints (K, 2), the moved
    ones, and the motion near each keypoint as an affine map (K + 1, 2, 3) from the frame to the
    source, the first one the identity, for the background. It gives, for every place of the
    features, where in the source it comes from, (places, 2) in [-1, 1], and how much of it is
    seen, (places, 1) in [0, 1].
    """

    def __init__(self, generator: Any, height: int, width: int) -> None:
        super().__init__()
        motion = generator.dense_motion_network
        self.small = tuple(int(side * motion.scale_factor) for side in (height, width))
        self.num_kp, self.variance = motion.num_kp, motion.kp_variance
        self.occluding = motion.occlusion is not None
        self.hourglass = _Hourglass(motion.hourglass)
        self.relative = isinstance(motion.mask, nn.Conv2D)
        mask = _relative(motion.mask) if self.relative else motion.mask
        self.heads = _heads([head for head in (mask, motion.occlusion) if head is not None])
        self.at_features = AtFeatures(generator, self.small, height, width)
        self.inner = self.at_features.inner
        constants = {
            "places": places(*self.small).T,  # (3, places)
            "columns": _axis(self.small[1])[None, None, None],
            "rows": _axis(self.small[0])[None, None, :, None],
        }
        for name, value in constants.items():
            self.register_buffer(name, paddle.to_tensor(np.ascontiguousarray(value)))

    def forward(self, source, points, moved, motions):
        count = self.num_kp + 1
        heat = self._heat(moved) - self._heat(points)
        heat = paddle.concat([paddle.zeros_like(heat[:, :1]), heat], axis=1)
        sparse = paddle.matmul(motions, self.places)  # (K + 1, 2, places), equation 4
        grid = sparse.transpose([0, 2, 1]).reshape([count, *self.small, 2])
        images = F.grid_sample(source.expand([count, -1, -1, -1]), grid, align_corners=True)
        seen = paddle.concat([heat.unsqueeze(2), images.unsqueeze(0)], axis=2)
        seen = self.hourglass(seen.reshape([1, -1, *self.small]))
        maps = [head(seen) for head in self.heads]
        if self.occluding and len(maps) == 1:
            maps = paddle.split(maps[0], [maps[0].shape[1] - 1, 1], axis=1)
        if self.relative:
            maps[0] = paddle.concat([maps[0], paddle.zeros_like(maps[0][:, :1])], axis=1)
        mask = F.softmax(maps[0], axis=1).reshape([count, 1, -1])
        dense = (mask * sparse).sum(axis=0).reshape([1, 2, *self.small])  # equation 8
        return self.at_features(dense, F.sigmoid(maps[1]) if self.occluding else None)

    def _heat(self, points):
        """Equation 6; a Gaussian of two dimensions is the product of one along each.

        ``exp(-|z - p|^2 / 2v) = exp(-(z_y - p_y)^2 / 2v) exp(-(z_x - p_x)^2 / 2v)`` over all rows
        and columns is a column times a row: a product of matrices with one term a place, so exact.
        As a broadcast multiply, oneDNN runs it by its slow reference code.
        """
        points = points.reshape([1, self.num_kp, 2, 1])
        x, y = points[:, :, :1], points[:, :, 1:]
        along_row = paddle.exp((self.columns - x) ** 2 * (-0.5 / self.variance))
        down_column = paddle.exp((self.rows - y) ** 2 * (-0.5 / self.variance))
        return paddle.matmul(down_column, along_row)


class AtFeatures(nn.Layer):
    """A dense motion of a small grid at every place of the features, as the painting takes it.

    At the borders nothing moves and, but for the mobile network, nothing is painted in.

    It takes where in the source each place comes from, (1, 2, h, w), and how much of it is seen,
    (1, 1, h, w) or nothing; it gives both for the features, (places, 2) and (places, 1).
    """

    def __init__(self, generator: Any, small: tuple[int, ...], height: int, width: int) -> None:
        super().__init__()
        self.inner = tuple(side >> len(generator.down_blocks) for side in (height, width))
        self.resizing = self.inner != small
        inside = np.zeros(self.inner, np.float32)
        within = slice(generator.pad, -generator.pad)
        inside[within, within] = 1.0
        fade = _fade(inside)
        inside[:] = np.maximum(inside, generator.mobile_net)
        still = places(*self.inner)[:, :2].T.reshape(2, *self.inner)
        constants = {
            "fade": fade[None, None],
            "still": ((1 - fade) * still)[None],
            "inside": inside[None, None],
            "border": 1 - inside[None, None],
        }
        if self.resizing:
            constants["taller"] = _stretch(small[0], self.inner[0])
            constants["wider"] = _stretch(small[1], self.inner[1]).T
        for name, value in constants.items():
            self.register_buffer(name, paddle.to_tensor(np.ascontiguousarray(value)))

    def forward(self, dense, visible=None):
        dense = self.fade * self._resized(dense) + self.still
        if visible is None:
            visible = paddle.ones_like(self.inside)
        else:
            visible = self._resized(visible) * self.inside + self.border
        return dense.reshape([2, -1]).transpose([1, 0]), visible.reshape([-1, 1])

    def _resized(self, maps):
        if not self.resizing:
            return maps
        return paddle.matmul(paddle.matmul(self.taller, maps), self.wider)


class PaintGraph(nn.Layer):
    """The generator's decoder: warped features (1, H', W', C) to a frame (1, 3, H, W), 0 to 255."""

    def __init__(self, generator: Any) -> None:
        super().__init__()
        self.bottleneck = nn.Sequential(*map(_residual, generator.bottleneck.children()))
        self.up_blocks = nn.Sequential(*map(_up_block, generator.up_blocks))
        self.final = _final(generator)

    def forward(self, features):
        out = self.bottleneck(features.transpose([0, 3, 1, 2]))
        return 255.0 * F.sigmoid(self.final(self.up_blocks(out)))


class _Hourglass(nn.Layer):
    def __init__(self, hourglass: Any) -> None:
        super().__init__()
        self.down_blocks = nn.LayerList(map(_down_block, hourglass.encoder.down_blocks))
        self.up_blocks = nn.LayerList(map(_up_block, hourglass.decoder.up_blocks))

    def forward(self, image):
        seen = [image]
        for block in self.down_blocks:
            seen.append(block(seen[-1]))
        out = seen.pop()
        for block in self.up_blocks:
            out = paddle.concat([block(out), seen.pop()], axis=1)
        return out


class _Residual(nn.Layer):
    """Adds to its input what two convolutions make of it.

    Its first batch norm stands before a ReLU and has nothing to be folded into.
    """

    def __init__(self, norm: Any, *layers: Any) -> None:
        super().__init__()
        self.norm = norm
        self.layers = nn.Sequential(*layers)

    def forward(self, image):
        return image + self.layers(F.relu(self.norm(image)))


def _residual(block: Any) -> Any:
    if hasattr(block, "conv1"):
        last = _folded(block.conv2, None, relu=False)
        return _Residual(block.norm1, _folded(block.conv1, block.norm2), last)
    return _Residual(
        block.norm1,
        _folded(block.conv_pw, block.norm_pw, relu=False),
        _folded(block.conv_dw, block.norm_dw),
        _folded(block.conv_pw_linear, block.norm_pw_linear, relu=False),
    )


def _down_block(block: Any) -> Any:
    layers = [_folded(block.conv, block.norm)]
    if hasattr(block, "conv1"):
        layers.append(_folded(block.conv1, block.norm1))
    return nn.Sequential(*layers, nn.AvgPool2D(2))


def _up_block(block: Any) -> Any:
    weight, bias = fold_batch_norm(*_tensors(block.conv), block.norm)
    groups = block.conv._groups
    kernel = upsampled_kernel(weight)
    channels = (kernel.shape[0], len(bias))
    up = nn.Conv2DTranspose(*channels, 4, stride=2, padding=1, groups=groups)
    up.weight.set_value(kernel)
    up.bias.set_value(bias)
    layers = [up, nn.ReLU()]
    if hasattr(block, "conv1"):
        layers.append(_folded(block.conv1, block.norm1))
    return nn.Sequential(*layers)


def _final(generator: Any) -> Any:
    if generator.mobile_net:
        return generator.final
    weight, bias = _tensors(generator.final)
    padding = weight.shape[2] // 2
    conv = _convolution(interleaved_kernel(weight), np.repeat(bias, 4), stride=2, padding=padding)
    return nn.Sequential(conv, nn.PixelShuffle(2))


def _heads(heads: list[Any]) -> Any:
    """Return layers that stand for several on the same input; single convolutions become one."""
    if len(heads) == 1 or not all(isinstance(head, nn.Conv2D) for head in heads):
        return nn.LayerList(heads)
    weight, bias = map(np.concatenate, zip(*map(_tensors, heads), strict=True))
    return nn.LayerList([_convolution(weight, bias, padding=heads[0]._padding)])


def _relative(mask: Any) -> Any:
    """Return the convolution of all maps but the last, less the last one.

    A softmax over maps is the same where one map is subtracted from all of them, and that one is
    then zero. One channel less can halve the time: on processors without AVX-512, oneDNN computes
    24 at a time, and 25 take as long as 48.
    """
    weight, bias = _tensors(mask)
    return _convolution(weight[:-1] - weight[-1:], bias[:-1] - bias[-1:], padding=mask._padding)


def downsampling(network: Any) -> Any:
    """Return the anti-aliased downsampling as one convolution: what it skips is not computed."""
    if network.scale_factor == 1:
        return nn.Identity()
    down = network.down
    weight, stride = down.weight.numpy(), int(1 / down.scale)
    return _convolution(weight, None, stride=stride, padding=down.ka, groups=down.groups)


def _folded(conv: Any, norm: Any, relu: bool = True) -> Any:
    weight, bias = _tensors(conv)
    if norm is not None:
        weight, bias = fold_batch_norm(weight, bias, norm)
    folded = _convolution(weight, bias, padding=conv._padding, groups=conv._groups)
    return nn.Sequential(folded, nn.ReLU()) if relu else folded


def _convolution(
    weight: np.ndarray, bias: np.ndarray | None, stride: int = 1, padding: Any = 0, groups: int = 1
) -> Any:
    conv = nn.Conv2D(
        weight.shape[1] * groups,
        weight.shape[0],
        weight.shape[2:],
        stride=stride,
        padding=padding,
        groups=groups,
        bias_attr=None if bias is not None else False,
    )
    conv.weight.set_value(weight)
    if bias is not None:
        conv.bias.set_value(bias)
    return conv


def _tensors(conv: Any) -> tuple[np.ndarray, np.ndarray]:
    weight = conv.weight.numpy()
    return weight, np.zeros(len(weight), np.float32) if conv.bias is None else conv.bias.numpy()


def _affine_of(norm: Any) -> tuple[np.ndarray, np.ndarray]:
    scale = norm.weight.numpy() / np.sqrt(norm._variance.numpy() + norm._epsilon)
    return scale, norm.bias.numpy() - norm._mean.numpy() * scale


def _border(head: Any) -> int:
    """Return how many rows a head without padding takes off an image."""
    convs = [head] if isinstance(head, nn.Conv2D) else list(head.children())
    return sum(conv.weight.shape[2] - 1 - 2 * conv._padding for conv in convs)


def graph_input(name: str, *shape: int) -> Any:
    return paddle.static.InputSpec(shape, "float32", name)


def _axis(size: int) -> np.ndarray:
    return (2 * (np.arange(size) / (size - 1)) - 1).astype(np.float32)


def places(height: int, width: int) -> np.ndarray:
    """Return (x, y, 1) of every pixel in row order, x and y from -1 to 1."""
    y, x = np.meshgrid(_axis(height), _axis(width), indexing="ij")
    return np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)


def _fade(inside: np.ndarray) -> np.ndarray:
    """Return how far the motion counts at each place.

    By the OpenCV that ppgan would use, whose 9-tap Gaussian differs between versions 4 and 5.
    """
    import cv2

    return cv2.GaussianBlur(inside, (9, 9), 0.0, borderType=cv2.BORDER_ISOLATED)


def _stretch(before: int, after: int) -> np.ndarray:
    """Return bilinear interpolation along one axis as a matrix: what it makes of the identity.

    Paddle 3.3 can't run an ``interpolate`` of a graph by oneDNN.
    """
    identity = paddle.eye(before).reshape([1, 1, before, before])
    size = (after, before)
    stretched = F.interpolate(identity, size=size, mode="bilinear", align_corners=False)
    return stretched.numpy()[0, 0]
