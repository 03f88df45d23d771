"""What the shipped checkpoints compute in PyTorch, stored so that Paddle can be held to it.

    python -m tests.activations

writes ``tests/data/<checkpoint>_activations.npz`` (run it with PyTorch after a new
checkpoint was shipped): keypoints, or the motion of ``sparse``, and parts of the pictures of 16
frames.
"""

from pathlib import Path
from typing import Any

import numpy as np
import skimage.data

from studykit.methods import weights
from tests.sparse_faces import face_pairs

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
    for name in weights.names():
        if (weights.SHIPPED / name).is_dir():
            (store_enhance if weights.family(name) == "enhance" else store)(name)


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
        values = _sparse(made, images) if "motion" in made else _by_keypoints(made, images)
    picture = values.pop("prediction").permute(0, 2, 3, 1).numpy()[:, ::EVERY, ::EVERY]
    np.savez_compressed(
        stored(name),
        sha256=checkpoint.sha256,
        prediction=picture.astype(np.float16),
        **{key: value.numpy() for key, value in values.items()},
    )
    print(stored(name))


def _by_keypoints(made: dict[str, Any], images: Any) -> dict[str, Any]:
    found = made["kp_detector"](images)
    rest = {name: value[:1].expand_as(value) for name, value in found.items()}
    out = made["generator"](images[:1].expand_as(images), found, rest)["prediction"]
    linear = found.get("covariance", found.get("jacobian"))
    jacobians = {} if linear is None else {"jacobians": linear}
    return {"points": found["value"], **jacobians, "prediction": out}


def _sparse(made: dict[str, Any], images: Any) -> dict[str, Any]:
    """The first frame moved between 16 pairs of faces: motion at its grid, and the pictures."""
    from studykit.training.sparse import Marked

    pairs = face_pairs(FRAMES, made["motion"].shape)
    source = images[:1].expand_as(images)
    flow, logit, _ = made["motion"](source, Marked.of(made["motion"].shape, *pairs, images.device))
    out = made["generator"].paint(source, flow.permute(0, 2, 3, 1), logit.sigmoid())
    points = made["kp_detector"](images)["value"]
    flow, logit = (field[:, :, ::EVERY, ::EVERY] for field in (flow, logit))
    return {"points": points, "flow": flow, "logit": logit, "prediction": out}


def store_enhance(name: str) -> None:
    import torch

    from studykit.methods import _enhance_network
    from studykit.training import families, networks

    checkpoint = weights.load(name)
    network = families.build(checkpoint.config)["enhance"]
    networks.fill(network, checkpoint.networks["enhance"])
    images = torch.tensor(frames()).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        source = images[:1].expand_as(images)
        found = _enhance_network.maps(network, images, source, _enhance_network.SCALES)
    maps = {}
    for scale, own in zip(_enhance_network.SCALES, found, strict=True):
        every = 2 * EVERY * scale
        maps[f"times{scale}"] = own.numpy()[:, :, ::every, ::every]
    np.savez_compressed(stored(name), sha256=checkpoint.sha256, **maps)
    print(stored(name))


if __name__ == "__main__":
    main()
