"""What the shipped checkpoint computes in PyTorch, stored so that Paddle can be held to it.

    python -m tests.activations

writes ``tests/data/shipped_activations.npz`` (run it with PyTorch after a new
checkpoint was shipped): keypoints and parts of the pictures of 16 frames.
"""

from pathlib import Path

import numpy as np
import skimage.data

from studykit.methods import weights

STORED = Path(__file__).parent / "data" / "shipped_activations.npz"
FRAMES = 16
EVERY = 8  # of the pixels along each axis


def frames(side: int = 256) -> np.ndarray:
    """A photograph that moves under the frame: exact pixels, whatever resamples elsewhere."""
    image, stride = skimage.data.astronaut(), max(256 // side, 1)
    corners = ((2 * t, 80 + 3 * t) for t in range(FRAMES))
    return np.stack([image[y::stride, x::stride][:side, :side] for y, x in corners])


def main() -> None:
    import torch

    from studykit.training import networks

    checkpoint = weights.load(weights.DEFAULT)
    made = networks.build(checkpoint.config)
    for part, network in made.items():
        networks.fill(network, checkpoint.networks[part])
        network.eval()
    images = torch.tensor(frames()).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        found = made["kp_detector"](images)
        rest = {name: value[:1].expand_as(value) for name, value in found.items()}
        out = made["generator"](images[:1].expand_as(images), found, rest)["prediction"]
    np.savez_compressed(
        STORED,
        sha256=checkpoint.sha256,
        points=found["value"].numpy(),
        jacobians=found["jacobian"].numpy(),
        prediction=out.permute(0, 2, 3, 1).numpy()[:, ::EVERY, ::EVERY].astype(np.float16),
    )
    print(STORED)


if __name__ == "__main__":
    main()
