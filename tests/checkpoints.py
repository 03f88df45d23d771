"""Generated checkpoints, for tests and for rehearsals without the published weights.

    python -m tests.checkpoints OUT.safetensors [--network vox-256] [--seed 0]

writes one with the layout of a published checkpoint, which ``--weights OUT.safetensors`` takes.
"""

import argparse
import copy

import numpy as np

from studykit import weights
from studykit.methods._ppgan import import_paddle, import_ppgan, repair_downsampling

SMALL = {
    "common_params": {"num_kp": 6, "num_channels": 3, "estimate_jacobian": True},
    "kp_detector_cfg": {
        "temperature": 0.1,
        "block_expansion": 8,
        "max_features": 32,
        "scale_factor": 0.5,
        "num_blocks": 3,
    },
    "generator_cfg": {
        "block_expansion": 8,
        "max_features": 24,
        "num_down_blocks": 2,
        "num_bottleneck_blocks": 2,
        "estimate_occlusion_map": True,
        "dense_motion_params": {
            "block_expansion": 8,
            "max_features": 32,
            "num_blocks": 3,
            "scale_factor": 0.5,
        },
    },
}


def small_config(**common):
    """Return settings of a network that runs in milliseconds, with some of them changed."""
    config = copy.deepcopy(SMALL)
    config["common_params"].update(common)
    return config


def mobile_config():
    """Return settings of a small network of the mobile kind."""
    config = small_config()
    config["kp_detector_cfg"].update(mobile_net=True, scale_factor=0.25)
    config["generator_cfg"].update(mobile_net=True)
    config["generator_cfg"]["dense_motion_params"].update(scale_factor=0.25)
    return config


def astronaut_frames(count, size=64):
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


def build(config):
    """Return ppgan's two networks with random tensors, ready to run."""
    ppgan = import_ppgan()
    common = config["common_params"]
    networks = (
        ppgan.KPDetector(**config["kp_detector_cfg"], **common),
        ppgan.OcclusionAwareGenerator(**config["generator_cfg"], **common, inference=True),
    )
    for network in networks:
        repair_downsampling(network)
    return networks


def layout(config):
    """Return the shapes of the tensors of both networks, by name."""
    return [
        {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        for network in build(config)
    ]


def random_checkpoint(config, seed=0, size=64):
    """Make a checkpoint of random tensors whose networks answer to what they see.

    Its batch-norm statistics are those of real faces: with the untrained ones (0 and 1), signals
    die out and every output is grey. Motions are near the identity, and the picture's contrast
    is scaled to that of a photograph.
    """
    paddle = import_paddle()
    paddle.seed(seed)
    kp_detector, generator = build(config)
    for network in (kp_detector, generator):
        for layer in network.sublayers():
            if isinstance(layer, paddle.nn.BatchNorm):
                layer._momentum = 0.0  # the statistics of the next batch, not a mean over many

    with paddle.no_grad():
        for name, parameter in kp_detector.named_parameters():
            if name.startswith("jacobian") and name.endswith("weight"):
                noise = paddle.randn(parameter.shape)
                parameter.set_value(noise * (0.3 / np.sqrt(np.prod(parameter.shape[1:]))))
        frames = np.stack(astronaut_frames(4, size)).astype(np.float32) / 255
        images = paddle.to_tensor(frames.transpose(0, 3, 1, 2))
        sources = images[:1].tile([len(images), 1, 1, 1])
        keypoints = kp_detector(images)
        still = {
            name: value[:1].tile([len(images)] + [1] * (value.ndim - 1))
            for name, value in keypoints.items()
        }
        final = generator.final[4] if config["generator_cfg"].get("mobile_net") else generator.final
        prediction = generator(sources, kp_driving=keypoints, kp_source=still)["prediction"]
        logit = paddle.log(prediction / (1 - prediction))
        final.weight.set_value(final.weight * (1.5 / float(logit.std())))
        final.bias.set_value(paddle.zeros_like(final.bias))

    def tensors(network):
        return {name: value.numpy() for name, value in network.state_dict().items()}

    return weights.Checkpoint(
        f"random-{seed}", "", config, tensors(kp_detector), tensors(generator)
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", help="the .safetensors file to write")
    parser.add_argument("--network", choices=weights.names(), default="vox-256")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    config = weights.published_config(arguments.network)
    weights.save(random_checkpoint(config, arguments.seed, size=128), arguments.out)


if __name__ == "__main__":
    main()
