"""A small keypoint network of ``resnet``, and what PyTorch finds by it, which Paddle is held to.

    python -m tests.resnet_faces

writes ``tests/data/torch_resnet.npz`` (run it with PyTorch when the network's definition changes).
"""

from pathlib import Path

import numpy as np

from studykit.methods import _resnet_network as network
from studykit.methods.random_weights import SMALL, astronaut_frames

STORED = Path(__file__).parent / "data" / "torch_resnet.npz"
FRAMES, SIDE, COUNT = 16, 64, 10
SIZE = {"block_expansion": 4, "max_features": 16}
DETECTOR = {"temperature": 0.1, "num_blocks": 5, "scale_factor": 0.5, "pad": 3, **SIZE}
RESNET = {
    **SMALL,
    "common_params": {"num_kp": COUNT, "num_channels": 3, "estimate_jacobian": False},
    "kp_detector_cfg": DETECTOR,
    "network": "resnet",
    "size": SIDE,
    "trained_on": "rendered faces",
}


def detector_tensors() -> dict[str, np.ndarray]:
    """Random tensors of the keypoint network, named as checkpoints name them."""
    rng, tensors = np.random.default_rng(0), {}

    def norm(name: str, channels: int) -> None:
        tensors[f"{name}.weight"] = rng.uniform(0.8, 1.2, channels)
        tensors[f"{name}._variance"] = rng.uniform(0.5, 1.5, channels)
        for part in ("bias", "_mean"):
            tensors[f"{name}.{part}"] = rng.normal(0, 0.1, channels)

    def conv(name: str, outputs: int, inputs: int, size: int) -> None:
        spread = (1 / (inputs * size**2)) ** 0.5
        tensors[f"{name}.weight"] = rng.normal(0, spread, (outputs, inputs, size, size))

    for name, layer in network.encoder_layers(*SIZE.values()).items():
        if len(layer) == 1:
            norm(f"predictor.encoder.{name}", *layer)
        else:
            conv(f"predictor.encoder.{name}", layer[1], layer[0], layer[2])
    for level, (inputs, outputs) in enumerate(network.decoder_widths(*SIZE.values())):
        block = f"predictor.decoder.up_blocks.{level}"
        conv(f"{block}.conv", outputs, inputs, 3)
        tensors[f"{block}.conv.bias"] = rng.normal(0, 0.1, outputs)
        norm(f"{block}.norm", outputs)
    conv("kp", COUNT, network.LAST + 3, 7)
    tensors["kp.bias"] = rng.normal(0, 0.1, COUNT)
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def images() -> np.ndarray:
    """16 pictures for it, (16, S, S, 3) uint8."""
    return np.stack(astronaut_frames(FRAMES, SIDE))


def main() -> None:
    """Store the keypoints of 16 pictures."""
    import torch

    from studykit.training import networks, resnet

    made = resnet.build(RESNET)["kp_detector"].eval()
    networks.fill(made, {**detector_tensors(), "down.weight": made.down.weight.numpy()})
    with torch.no_grad():
        found = made(torch.tensor(images()).permute(0, 3, 1, 2).float() / 255)
    np.savez_compressed(STORED, points=found["value"].numpy())
    print(STORED)


if __name__ == "__main__":
    main()
