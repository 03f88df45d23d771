"""A training checkpoint becomes a file that ``fomm`` animates with, and what is shipped with it."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studykit import files
from studykit.errors import StudyError
from studykit.methods import checkpoint_files
from studykit.training import evaluate, families
from studykit.training.card import measure, write_card, write_text
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
    step : int
        How long it was trained.
    """

    path: Path
    precision: str
    full: float
    half: float
    step: int

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
    made = as_checkpoint(state)
    target = out if out.suffix == ".safetensors" else out / f"{made.name}.safetensors"
    settings = DataSettings(size=state["size"])
    items = [held_out_from(render_held_out(index, settings)) for index in range(measured_on)]
    figures = []
    for rounded in (torch.float32, torch.float16):
        nets = families.build(state["settings"])
        for name, network in nets.items():
            tensors = state["average"][name]
            network.load_state_dict({key: value.to(rounded) for key, value in tensors.items()})
        clips, _ = evaluate.clips(nets, items, settings)
        figures.append(evaluate.face_psnr(items, clips))
    full, half = figures
    if not np.isfinite(figures).all():
        raise StudyError(f"{path} animates nothing: train it longer")
    precision = "float32" if full - half >= MOST_LOSS else "float16"
    rounded = {
        part: {name: tensor.astype(precision) for name, tensor in tensors.items()}
        for part, tensors in made.networks.items()
    }
    checkpoint_files.save(replace(made, networks=rounded), target)
    return Export(target, precision, full, half, state["step"])


def ship(
    run: Path, out: Path, films: Sequence[Path] = (), say: Callable[[str], None] = print
) -> Export:
    """Turn a run into a folder of :data:`studykit.methods.weights.SHIPPED`.

    Leaves in ``out``: ``weights.safetensors`` and ``checkpoint.json``, its hash; the run's
    ``recipe.yaml`` and ``log.jsonl``; ``benchmark-<size>.json``, its scores beside those of
    ``warp`` and ``copy``; the pictures ``same.jpg``, ``cross.jpg`` and ``photographs.jpg``; and
    ``MODEL_CARD.md``, made from all of these.

    Parameters
    ----------
    run : Path
        The folder of a training run.
    out : Path
        A folder named as the checkpoint.
    films : sequence of path
        Videos of a face each, which it is measured on, too.
    say : callable
        Takes a line of progress.

    Raises
    ------
    StudyError
        Something of the run is missing or can't be read, or nothing can be written.
    """
    recipe, log = _recipe_text(run), run / "log.jsonl"
    if not log.is_file():
        raise StudyError(f"{run} has no log.jsonl: name the folder of a training run")
    weights = out / "weights.safetensors"
    made = export_checkpoint(run, weights)
    say(made.summary())
    record = {
        "sha256": files.sha256(weights),
        "bytes": weights.stat().st_size,
        "step": made.step,
        "precision": made.precision,
        "PSNR in float32": round(made.full, 4),
        "PSNR in float16": round(made.half, 4),
    }
    write_text(out / "checkpoint.json", json.dumps(record, indent=1) + "\n")
    write_text(out / "recipe.yaml", recipe)
    shutil.copyfile(log, out / "log.jsonl")
    measure(out, say=say, films=films)
    write_card(out)
    return made


def _recipe_text(run: Path) -> str:
    """Return the recipe that a run has kept, as a file that trains it again."""
    import yaml

    try:
        recipe: dict[str, Any] = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise StudyError(f"{run} has no recipe.json: name the folder of a training run") from None
    text = yaml.safe_dump(recipe, sort_keys=False, default_flow_style=None, width=100)
    title = "# What this checkpoint was trained by: python -m studykit.training --config FILE"
    return f"{title}\n{text}"
