"""Faces for a small network of ``sparse``, and what PyTorch makes of them, which Paddle is held to.

    python -m tests.sparse_faces

writes ``tests/data/torch_sparse.npz`` (run it with PyTorch when the network's definition changes).
"""

from pathlib import Path
from typing import Any

import numpy as np

from studykit.media.pose import Pose, face_model
from studykit.methods._sparse_network import Faces, Shape, dense_motion
from studykit.methods.checkpoint_files import Checkpoint
from studykit.methods.sparse import shape_of

STORED = Path(__file__).parent / "data" / "torch_sparse.npz"
SPARSE = Shape(side=64, whole=(8, 12), local=(8, 8), code=16)
FRAMES = 16


def head_points(yaw: float, size: int, mouth: float = 0.0) -> np.ndarray:
    """The generic head, turned, in an image: (70, 2) points, its mouth open by millimetres."""
    shape = face_model().astype(float)
    shape[[56, 57, 58, 65, 66, 67], 1] += mouth
    irises = np.array([shape[[36, 39]].mean(0), shape[[42, 45]].mean(0)])
    turned = np.concatenate([shape, irises]) @ Pose(yaw, 0, 0).rotation().T
    return turned[:, :2] * (size / 320) + [size / 2, size * 0.4]


def face_pairs(count: int, shape: Shape = SPARSE) -> tuple[np.ndarray, np.ndarray]:
    """Faces in the coordinates of a network of ``sparse``, as detectors see two turns."""
    rng, side = np.random.default_rng(0), shape.side
    turns, mouths = rng.uniform(-25, 25, (count, 2)), rng.uniform(0, 15, (count, 2))
    found = [
        [head_points(*of, side, mouth) for of, mouth in zip(pair[:, None], open_, strict=True)]
        for pair, open_ in zip(turns, mouths, strict=True)
    ]
    both = shape.coordinates(found + rng.normal(0, 0.5, (count, 2, 70, 2)), side)
    return both[:, 0], both[:, 1]


def noise() -> np.ndarray:
    """An image of noise for it."""
    return np.random.default_rng(1).random((1, 3, SPARSE.side, SPARSE.side)).astype(np.float32)


def layers(checkpoint: Checkpoint) -> Any:
    """The motion network's definition in Paddle's layers."""
    from studykit.methods import _sparse_graph
    from studykit.methods._fomm_dygraph import build_networks

    _, generator = build_networks(checkpoint.config)
    shape = shape_of(checkpoint.config)
    return _sparse_graph.MotionGraph(checkpoint.networks["motion"], shape, generator, shape.side)


def motion(layers: Any, image: np.ndarray, faces: Faces) -> list[np.ndarray]:
    """What the layers make of a source: flow, logit and global flow."""
    import paddle

    given = map(paddle.to_tensor, (image, faces.maps))
    vectors = {name: paddle.to_tensor(vector) for name, vector in faces.vectors.items()}
    return [out.numpy()[0] for out in dense_motion(layers, layers.shape, *given, vectors)]


def main() -> None:
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
    np.savez_compressed(STORED, **few)
    print(STORED)


if __name__ == "__main__":
    main()
