"""Random weights whose networks answer to what they see, and a face that moves.

To measure and to rehearse with, where the published weights can't be had.
"""

from typing import Any

import numpy as np

from studykit.methods._fomm_dygraph import build_networks
from studykit.methods._ppgan import import_paddle
from studykit.methods.checkpoint_files import NETWORKS, Checkpoint, Settings

_HOURGLASS = {"block_expansion": 8, "max_features": 32, "num_blocks": 3, "scale_factor": 0.5}
SMALL: Settings = {
    "common_params": {"num_kp": 6, "num_channels": 3, "estimate_jacobian": True},
    "kp_detector_cfg": {"temperature": 0.1, **_HOURGLASS},
    "generator_cfg": {
        "block_expansion": 8,
        "max_features": 24,
        "num_down_blocks": 2,
        "num_bottleneck_blocks": 2,
        "estimate_occlusion_map": True,
        "dense_motion_params": {**_HOURGLASS},
    },
}
"""Settings of networks that run in milliseconds."""


def astronaut_frames(count: int, size: int = 64) -> list[np.ndarray]:
    """Return a face that moves: (size, size, 3) uint8 crops, shifted, turned and zoomed."""
    from skimage import data, transform

    picture = data.astronaut()
    centre = np.array([226.0, 110.0])  # of her face
    frames = []
    for phase in np.linspace(0, 1.3 * np.pi, count):
        zoom = (200 + 30 * np.sin(phase)) / size
        place = (
            transform.AffineTransform(translation=(-(size - 1) / 2, -(size - 1) / 2))
            + transform.AffineTransform(scale=(zoom, zoom), rotation=0.25 * np.sin(2 * phase))
            + transform.AffineTransform(translation=centre + 20 * np.array([np.sin(phase), 0]))
        )
        warped = transform.warp(picture, place, output_shape=(size, size), mode="edge")
        frames.append(np.rint(warped * 255).astype(np.uint8))
    return frames


def random_checkpoint(config: Settings, seed: int = 0, size: int = 64) -> Checkpoint:
    """Make a checkpoint of random tensors whose networks answer to what they see.

    Its batch-norm statistics are those of real faces of a size: with the untrained ones (0 and
    1), signals die out and every output is grey. Jacobians are near the identity, and the
    picture's contrast is that of a photograph.
    """
    paddle = import_paddle()
    paddle.seed(seed)
    networks = kp_detector, generator = build_networks(config)
    for network in networks:
        for layer in network.sublayers():
            if isinstance(layer, paddle.nn.BatchNorm):
                layer._momentum = 0.0  # the statistics of the next batch, not a mean over many
    frames = np.stack(astronaut_frames(4, size)).astype(np.float32) / 255
    with paddle.no_grad():
        images = paddle.to_tensor(frames.transpose(0, 3, 1, 2))
        keypoints = _calibrate_keypoints(kp_detector, images)
        _calibrate_contrast(generator, images, keypoints)

    tensors = {
        part: {name: value.numpy() for name, value in network.state_dict().items()}
        for part, network in zip(NETWORKS, networks, strict=True)
    }
    return Checkpoint(f"random-{seed}", "", config, tensors)


def _calibrate_keypoints(kp_detector: Any, images: Any) -> dict[str, Any]:
    """Return the keypoints of images, after the jacobians were made to vary around the identity."""
    import paddle

    heads = [
        parameter
        for name, parameter in kp_detector.named_parameters()
        if name.startswith("jacobian") and name.endswith("weight")
    ]
    for weight in heads:
        weight.set_value(paddle.randn(weight.shape) / np.sqrt(np.prod(weight.shape[1:])))
    keypoints = kp_detector(images)
    if heads:
        deviation = keypoints["jacobian"] - paddle.eye(2)
        scale = 0.1 / float(deviation.std())
        heads[-1].set_value(heads[-1] * scale)
        keypoints["jacobian"] = paddle.eye(2) + deviation * scale
    return keypoints


def _calibrate_contrast(generator: Any, images: Any, keypoints: dict[str, Any]) -> None:
    """Scale the last layer so that the first image, moved by every image, is like a photograph."""
    import paddle

    def first(tensor: Any) -> Any:
        return tensor[:1].tile([len(images)] + [1] * (tensor.ndim - 1))

    still = {name: first(value) for name, value in keypoints.items()}
    moved = generator(first(images), kp_driving=keypoints, kp_source=still)["prediction"]
    logit = paddle.log(moved / (1 - moved))
    final = generator.final[4] if generator.mobile_net else generator.final
    final.weight.set_value(final.weight * (1.5 / float(logit.std())))
    final.bias.set_value(paddle.zeros_like(final.bias))
