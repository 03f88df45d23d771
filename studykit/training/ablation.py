"""What the parts of a network are worth: variants of a recipe, trained alike and measured alike."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from studykit.errors import StudyError, did_you_mean
from studykit.metrics.cases import PAIRINGS, Case, cases, identity_of, states_of, targets_of
from studykit.metrics.rendered import clip_scores
from studykit.stimuli import flow, render
from studykit.training import evaluate, families, sparse
from studykit.training.card import write_text
from studykit.training.data import Cache, frame_keypoints, halved_flow, keypoint_indices
from studykit.training.recipe import RECIPES, Recipe, read_recipe
from studykit.training.train import read_checkpoint, run

_FILE = Path(__file__).with_name("ablations.yaml")
_MEASURED_ON = 8  # of the benchmark's identities


def ablate(
    name: str,
    out: Path,
    cache: Path,
    *,
    workers: int = 1,
    device: str = "cpu",
    echo: Callable[[str], None] = print,
) -> Path:
    """Train the variants of a recipe that ``ablations.yaml`` names, and measure each.

    Every variant has a folder in ``out``, so that a run that was stopped goes on where it was.

    Parameters
    ----------
    name : str
        The recipe's.
    out : Path
    cache : Path
        Of rendered frames.
    workers : int
        Processes that render; 0: the cache is complete.
    device : {"cpu", "cuda"}
    echo : callable
        Takes a line of progress.

    Returns
    -------
    Path
        ``ablations.json``, which belongs beside the checkpoint's other figures.

    Raises
    ------
    StudyError
        No variants are known of that recipe, or one can't be trained.
    """
    known = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    if name not in known:
        raise StudyError(f"no ablations of {name} are known: {did_you_mean(name, known)}")
    about, rows = known[name], []
    for seed in about["seeds"]:
        for variant, changes in about["variants"].items():
            folder = out / f"{variant.replace(' ', '-')}-{seed}"
            recipe = _recipe(name, [about["training"], changes, {"seed": seed}], folder, device)
            frames = Cache(cache, recipe.data, recipe.held_out)
            frames.start(workers)
            try:
                run(recipe, folder, frames, device=device, resume=True, echo=echo)
            finally:
                frames.stop()
            rows.append({"variant": variant, "seed": seed, **_figures(folder, echo)})
            echo(f"{variant}, seed {seed}: {rows[-1]}")
    made = {"recipe": name, "steps": recipe.steps, "batch": recipe.phases[0].batch}
    made |= {"size": recipe.data.size, "identities": _MEASURED_ON, "rows": rows}
    write_text(out / "ablations.json", json.dumps(made, indent=1) + "\n")
    return out / "ablations.json"


def _recipe(name: str, changes: list[Any], folder: Path, device: str) -> Recipe:
    content = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    for change in changes:
        content = changed(content, change)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "recipe.yaml", yaml.safe_dump(content, sort_keys=False))
    return read_recipe(folder / "recipe.yaml", device)


def changed(base: Any, change: Any) -> Any:
    """Return a recipe's content with another's in its place, mapping by mapping.

    A mapping in the place of a list changes each of its items.
    """
    if not isinstance(change, dict) or not isinstance(base, dict | list):
        return change
    if isinstance(base, list):
        return [changed(item, change) for item in base]
    return base | {key: changed(base.get(key), value) for key, value in change.items()}


def _figures(folder: Path, echo: Callable[[str], None]) -> dict[str, float]:
    """Measure a run's averaged networks by true landmarks, in every pairing.

    ``same`` and ``cross`` are PSNR in the face above ``copy``, in dB; ``same flow`` and ``cross
    flow`` how far the motion of what the source shows of the face is off, in pixels.
    """
    state = read_checkpoint(folder / "checkpoint.pt")
    networks = families.build(state["settings"])
    for name, network in networks.items():
        network.load_state_dict(state["average"][name])
    everyone = list(cases(size=state["size"], identities=_MEASURED_ON, say=echo))
    found: dict[str, list[float]] = {}
    for case in everyone:
        for which, pairing in enumerate(PAIRINGS):
            driver = case if pairing == "same" else everyone[case.partner]
            own, theirs = _points(case), _points(driver)
            fields: list[np.ndarray] = []
            if "motion" in networks:
                clip = sparse.animate(networks, case.own[0], own[0], theirs, fields)
            else:
                clip = evaluate.animate(networks, case.own[0], driver.own, fields)
            gain = _psnr(clip, case, which) - _psnr(case.own[[0] * len(clip)], case, which)
            found.setdefault(pairing, []).append(gain)
            errors = _flow_errors(np.stack(fields), case, which)
            found.setdefault(f"{pairing} flow", []).extend(errors)
    return {name: round(float(np.mean(values)), 3) for name, values in found.items()}


def _psnr(clip: np.ndarray, case: Case, which: int) -> float:
    truth = {"face": case.face[which], "landmarks": case.landmarks[which]}
    unseen = np.full_like(case.landmarks[which], np.nan)
    motions = [""] * (len(clip) - 1)
    rows = clip_scores(clip, case.frames[which], **truth, found=unseen, motions=motions)
    return float(np.mean([row["psnr"] for row in rows]))


def _points(case: Case) -> np.ndarray:
    """Return the true points of an identity's own frames, (T, 70, 2), in pixels."""
    irises, size = keypoint_indices("left iris", "right iris"), case.own.shape[1]
    frames = (render(identity_of(case.index), *state, size) for state in states_of(case.index))
    return np.stack([np.vstack([f.landmarks, frame_keypoints(f)[irises]]) for f in frames])


def _flow_errors(fields: np.ndarray, case: Case, which: int) -> Iterator[float]:
    """Yield how far the motion of each frame but the first is off in the face, in pixels."""
    identity, size = identity_of(case.index), case.own.shape[1]
    states = (states_of if PAIRINGS[which] == "same" else targets_of)(case.index)
    source, *frames = (render(identity, *state, size) for state in states)
    places = np.stack(np.meshgrid(*[np.linspace(-1, 1, size // 2)] * 2), -1)
    for field, frame in zip(fields[1:], frames, strict=True):
        there, seen = halved_flow(*flow(frame, source))
        off = (field - places) * (size // 2 - 1) - there
        yield float(np.linalg.norm(off, axis=-1)[seen & frame.face_mask[::2, ::2]].mean())
