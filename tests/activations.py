"""What the shipped checkpoints compute in PyTorch, stored so that Paddle can be held to it.

    python -m tests.activations

writes ``tests/data/<checkpoint>_activations.npz`` (run it with PyTorch after a new
checkpoint was shipped): keypoints and parts of the pictures of 16 frames.
"""

from pathlib import Path

import numpy as np
import skimage.data

from studykit.methods import weights

FRAMES = 16
EVERY = 8  # of the pixels along each axis


def stored(name: str) -> Path:
    """Return where the activations of a shipped checkpoint are."""
    return Path(__file__).parent / "data" / f"{name}_activations.npz"


def frames(side: int = 256) -> np.ndarray:
    """A photograph that moves under the frame: exact pixels, whatever resamples elsewhere."""
    image, stride = skimage.data.astronaut(), max(256 // side, 1)
    corners = ((2 * t, 80 + 3 * t) for t in range(FRAMES))
    return np.stack([image[y::stride, x::stride][:side, :side] for y, x in corners])


def main() -> None:
    for name in ("synth-256", "regions-256", "resnet-256"):
        store(name)


def store(name: str) -> None:
    import torch

    from studykit.training import families, networks

    checkpoint = weights.load(name)
    made = families.build(checkpoint.config)
    for part, tensors in checkpoint.networks.items():
        networks.fill(made[part], tensors)
        made[part].eval()
    images = torch.tensor(frames()).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        found = made["kp_detector"](images)
        rest = {name: value[:1].expand_as(value) for name, value in found.items()}
        out = made["generator"](images[:1].expand_as(images), found, rest)["prediction"]
    linear = found.get("covariance", found.get("jacobian"))
    np.savez_compressed(
        stored(name),
        sha256=checkpoint.sha256,
        points=found["value"].numpy(),
        **({} if linear is None else {"jacobians": linear.numpy()}),
        prediction=out.permute(0, 2, 3, 1).numpy()[:, ::EVERY, ::EVERY].astype(np.float16),
    )
    print(stored(name))


if __name__ == "__main__":
    main()
