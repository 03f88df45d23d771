"""What the shipped checkpoint computes in PyTorch, stored so that Paddle can be held to it.

    python -m tests.activations

writes ``tests/data/shipped_activations.npz`` (run it with PyTorch after a new
checkpoint was shipped): keypoints and parts of the pictures of 16 frames.
"""

from pathlib import Path

import numpy as np
import skimage.data

from studykit.media.pose import Pose, face_model
from studykit.methods import weights
from studykit.methods._sparse_network import Shape

STORED = Path(__file__).parent / "data" / "shipped_activations.npz"
STORED_SPARSE = STORED.with_name("torch_sparse.npz")
SPARSE = Shape(side=64, whole=(8, 12), local=(8, 8), code=16)
FRAMES = 16
EVERY = 8  # of the pixels along each axis


def frames(side: int = 256) -> np.ndarray:
    """A photograph that moves under the frame: exact pixels, whatever resamples elsewhere."""
    image, stride = skimage.data.astronaut(), max(256 // side, 1)
    corners = ((2 * t, 80 + 3 * t) for t in range(FRAMES))
    return np.stack([image[y::stride, x::stride][:side, :side] for y, x in corners])


def head_points(yaw: float, size: int, mouth: float = 0.0) -> np.ndarray:
    """The generic head, turned, in an image: (70, 2) points, its mouth open by millimetres."""
    shape = face_model().astype(float)
    shape[[56, 57, 58, 65, 66, 67], 1] += mouth
    irises = np.array([shape[[36, 39]].mean(0), shape[[42, 45]].mean(0)])
    turned = np.concatenate([shape, irises]) @ Pose(yaw, 0, 0).rotation().T
    return turned[:, :2] * (size / 320) + [size / 2, size * 0.4]


def face_pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Faces in the coordinates of a small network of ``sparse``, as detectors see two turns."""
    rng, side = np.random.default_rng(0), SPARSE.side
    turns, mouths = rng.uniform(-25, 25, (count, 2)), rng.uniform(0, 15, (count, 2))
    found = [
        [head_points(*of, side, mouth) for of, mouth in zip(pair[:, None], open_, strict=True)]
        for pair, open_ in zip(turns, mouths, strict=True)
    ]
    both = SPARSE.coordinates(found + rng.normal(0, 0.5, (count, 2, 70, 2)), side)
    return both[:, 0], both[:, 1]


def noise() -> np.ndarray:
    """An image of noise for it."""
    return np.random.default_rng(1).random((1, 3, SPARSE.side, SPARSE.side)).astype(np.float32)


def store_sparse() -> None:
    """Store what ``sparse`` makes of 16 pairs, with random tensors."""
    import torch

    from studykit.training.sparse import Marked, SparseMotion
    from tests.checkpoints import motion_tensors

    motion = SparseMotion(SPARSE)
    motion.load_state_dict({k: torch.tensor(v) for k, v in motion_tensors(SPARSE).items()})
    image = torch.tensor(noise()).expand(FRAMES, -1, -1, -1)
    with torch.no_grad():
        pairs = Marked.of(SPARSE, *face_pairs(FRAMES), image.device)
        flow, logit, _ = motion(image, pairs)
    few = {"flow": flow[:, :, ::4, ::4].numpy(), "logit": logit[:, :, ::4, ::4].numpy()}
    np.savez_compressed(STORED_SPARSE, **few)
    print(STORED_SPARSE)


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
    store_sparse()


if __name__ == "__main__":
    main()
