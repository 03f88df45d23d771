"""A training checkpoint becomes a file that the method ``fomm`` animates with."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from studykit import weights as checkpoints
from studykit.errors import StudyError
from studykit.training import evaluate, networks
from studykit.training.data import DataSettings, held_out_from, render_held_out
from studykit.training.train import as_checkpoint, read_checkpoint

MOST_LOSS = 0.1
"""How many decibels half precision may cost."""


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes
    ----------
    path : Path
    precision : {"float16", "float32"}
    full, half : float
        PSNR in the face mask, dB, of held-out clips with the tensors in either precision.
    """

    path: Path
    precision: str
    full: float
    half: float

    def summary(self) -> str:
        """Return one line."""
        megabytes = self.path.stat().st_size / 1e6
        return (
            f"{self.path}: {megabytes:.1f} MB, {self.precision}; held-out PSNR "
            f"{self.full:.3f} dB in float32, {self.half:.3f} dB in float16"
        )


def export_checkpoint(path: Path, out: Path, measured_on: int = 4) -> Export:
    """Write the averaged networks of a ``checkpoint.pt`` as safetensors in PaddleGAN's names.

    They are kept as float16 where that costs less than :data:`MOST_LOSS`, measured on held-out
    identities.

    Parameters
    ----------
    path : Path
        A checkpoint, or the folder of a run.
    out : Path
        A folder, or the name of the file ending in ``.safetensors``.
    measured_on : int
        How many held-out identities are animated for it.

    Raises
    ------
    StudyError
        The checkpoint can't be read, or nothing can be written.
    """
    if path.is_dir():
        path = path / "checkpoint.pt"
    state = read_checkpoint(path)
    kept = as_checkpoint(state)
    target = out if out.suffix == ".safetensors" else out / f"{kept.name}.safetensors"
    halved = checkpoints.Checkpoint(
        kept.name,
        kept.sha256,
        kept.config,
        *(
            {name: tensor.astype(np.float16) for name, tensor in part.items()}
            for part in (kept.kp_detector, kept.generator)
        ),
    )
    items = [
        held_out_from(render_held_out(index, DataSettings(size=state["size"])))
        for index in range(measured_on)
    ]
    figures = []
    for rounded in (torch.float32, torch.float16):
        pair = networks.build(state["settings"])
        for network, name in zip(pair, ("kp_detector", "generator"), strict=True):
            tensors = state["average"][name]
            network.load_state_dict({key: value.to(rounded) for key, value in tensors.items()})
        clips = [evaluate.animate(*pair, item.own[0], item.own) for item in items]
        figures.append(evaluate.face_psnr(items, clips))
    full, half = figures
    if not np.isfinite(figures).all():
        raise StudyError(f"{path} animates nothing: train it longer")
    precise = full - half >= MOST_LOSS
    checkpoints.save(kept if precise else halved, target)
    return Export(target, "float32" if precise else "float16", full, half)
