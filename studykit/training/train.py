"""The training loop: every step follows from the recipe's seed and its number alone.

No random state is kept: batches, augmentation and deformations are drawn from a generator seeded
by (seed, step). A run that is resumed, or run again on the same machine, gives the same log.
"""

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from studykit import weights as checkpoints
from studykit.errors import StudyError
from studykit.training import evaluate, losses, networks
from studykit.training.data import FLOW_SCALE, MIRRORED, Cache
from studykit.training.recipe import Phase, Recipe

_GRADIENT_NORM = 5.0
_PARTS = ("kp_detector", "generator")


@dataclass(frozen=True)
class Batch:
    """Pairs of one identity each, on the device.

    Attributes
    ----------
    source, driving : (B, 3, S, S) float32 in [0, 1]
    source_kp, driving_kp : (B, K, 2) float32 in [-1, 1]
        The renderer's.
    face : (B, 1, S, S) float32
        The driving's face mask.
    landmarks : (B, 68, 2) float32
        The driving's, in pixels.
    deformation : (B, S/2, S/2, 2) float32 in [-1, 1]
        Where in the source each pixel of the driving comes from.
    seen : (B, 1, S/2, S/2) float32
        1 where the source shows it.
    """

    source: Tensor
    driving: Tensor
    source_kp: Tensor
    driving_kp: Tensor
    face: Tensor
    landmarks: Tensor
    deformation: Tensor
    seen: Tensor


class Training:
    """A run: networks, optimiser and where they stand.

    Parameters
    ----------
    recipe : Recipe
    cache : Cache
    device : {"cpu", "cuda"}

    Attributes
    ----------
    step : int
        Steps done.
    """

    def __init__(self, recipe: Recipe, cache: Cache, device: str) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.cache, self.device, self.step = recipe, cache, torch.device(device), 0
        self.networks = dict(zip(_PARTS, networks.build(recipe.settings), strict=True))
        for name, network in self.networks.items():
            self.networks[name] = network.to(self.device, memory_format=torch.channels_last)
        self.average = {name: _copied(network) for name, network in self.networks.items()}
        parameters = [p for network in self.networks.values() for p in network.parameters()]
        self.optimiser = torch.optim.Adam(parameters, betas=(0.5, 0.999))
        self.discriminator = self.discriminator_optimiser = self.vgg = None
        if recipe.losses.adversarial:
            self.discriminator = losses.PatchDiscriminator().to(self.device)
            self.discriminator_optimiser = torch.optim.Adam(
                self.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999)
            )
        self._ahead: dict[int, Future] = {}
        self._drawer = ThreadPoolExecutor(1)
        if recipe.losses.perceptual and recipe.vgg:
            self.vgg = losses.VGG19(Path(recipe.vgg)).to(self.device)

    def advance(self) -> dict[str, float]:
        """Train one step; return every term of the loss."""
        phase, progress = self.recipe.phase_at(self.step)
        start, end = phase.learning_rate
        for group in self.optimiser.param_groups:
            group["lr"] = start * (end / start) ** progress
        for name, network in self.networks.items():
            network.train(name in phase.networks and not phase.fixed_statistics)
            network.requires_grad_(name in phase.networks)
        batch, rng = self._next_batch()
        terms = self._terms(batch, phase, progress, rng)
        total = sum(terms.values())
        if not torch.isfinite(total):
            raise StudyError(f"the loss is no number at step {self.step}: lower learning_rate")
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, _GRADIENT_NORM)
        self.optimiser.step()
        self.step += 1
        for name in phase.networks:
            # A network's first weights are worth forgetting faster.
            trained = self.recipe.steps_of(name, self.step)
            decay = min(self.recipe.average, trained / (10 + trained))
            for key, value in self.networks[name].state_dict().items():
                if value.is_floating_point():
                    self.average[name][key].lerp_(value, 1 - decay)
        return {name: float(value.detach()) for name, value in {"loss": total, **terms}.items()}

    def _next_batch(self) -> tuple[Batch, np.random.Generator]:
        """Return this step's batch, and have the next one drawn beside the GPU's work."""
        drawn = self._ahead.pop(self.step, None)
        if self.device.type == "cuda" and self.step + 1 < self.recipe.steps:
            self._ahead[self.step + 1] = self._drawer.submit(self._draw, self.step + 1)
        return drawn.result() if drawn else self._draw(self.step)

    def _draw(self, step: int) -> tuple[Batch, np.random.Generator]:
        rng = np.random.default_rng([self.recipe.seed, step])
        count = self.recipe.phase_at(step)[0].batch
        return draw_batch(self.cache, step, count, rng, self.device), rng

    def _terms(
        self, batch: Batch, phase: Phase, progress: float, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        weights, count = self.recipe.losses, len(batch.source)
        bf16 = self.recipe.precision == "bf16"
        # Half a batch is enough for what the renderer's keypoints pin down already.
        few = -(-count // 2)
        spline = losses.ThinPlateSpline.draw(rng, few, self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            with torch.set_grad_enabled("kp_detector" in phase.networks):
                images = [batch.source, batch.driving, spline.image(batch.driving[:few])]
                found = self.networks["kp_detector"](torch.cat(images))
            source_kp, driving_kp, bent_kp = (
                {name: value[k * count : (k + 1) * count] for name, value in found.items()}
                for k in range(3)
            )
            terms = losses.keypoint_supervision(
                {name: value[: 2 * count] for name, value in found.items()},
                torch.cat([batch.source_kp, batch.driving_kp]),
                weights,
            )
            plain_kp = {name: value[:few] for name, value in driving_kp.items()}
            terms |= losses.equivariance(plain_kp, bent_kp, spline, weights)
            if "generator" not in phase.networks:
                return terms
            share = phase.true_motion[0] + progress * (phase.true_motion[1] - phase.true_motion[0])
            taught = torch.tensor(rng.random(count) < share, device=self.device)
            out = self.networks["generator"](
                batch.source, driving_kp, source_kp, (taught, batch.deformation, batch.seen)
            )
        counts = losses.attention(batch.face, batch.landmarks, weights)
        terms |= losses.reconstruction(out["prediction"], batch.driving, counts, weights)
        terms |= losses.motion_supervision(
            _sized(out["deformation"].permute(0, 3, 1, 2), batch.seen).permute(0, 2, 3, 1),
            _sized(out["occlusion_logit"], batch.seen) if "occlusion_logit" in out else None,
            batch.deformation,
            batch.seen,
            F.avg_pool2d(counts, 2),
            weights,
        )
        if self.vgg is not None:
            distance = self.vgg.distance(out["prediction"], batch.driving)
            terms["perceptual"] = weights.perceptual * distance
        if self.discriminator is not None:
            terms["adversarial"] = weights.adversarial * self._adversarial(batch, out["prediction"])
        return terms

    def _adversarial(self, batch: Batch, image: Tensor) -> Tensor:
        self.discriminator.requires_grad_(True)
        self.discriminator_optimiser.zero_grad(set_to_none=True)
        self.discriminator.judge(batch.driving, image).backward()
        self.discriminator_optimiser.step()
        self.discriminator.requires_grad_(False)
        return self.discriminator.fool(image)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[dict[str, torch.nn.Module]]:
        """Lend the networks with the averaged weights."""
        now = {name: _copied(network) for name, network in self.networks.items()}
        try:
            for name, network in self.networks.items():
                network.load_state_dict(self.average[name])
            yield self.networks
        finally:
            for name, network in self.networks.items():
                network.load_state_dict(now[name])

    def evaluate(self, sheet: Path | None = None) -> dict[str, float]:
        """Measure the averaged networks on the held-out identities; draw a sheet of some."""
        held_out = self.cache.held_out()
        with self.averaged() as nets:
            own, cross = (
                [evaluate.animate(*nets.values(), item.own[0], driving) for item, driving in pairs]
                for pairs in (
                    [(item, item.own) for item in held_out],
                    [(item, item.other) for item in held_out],
                )
            )
        if sheet is not None:
            shown = slice(1, 5)  # one of each kind
            image = evaluate.draw_sheet(held_out[shown], own[shown], cross[shown])
            _write(sheet, lambda path: image.save(path, format="PNG"))
        return evaluate.scores(held_out, own, cross)

    def save(self, folder: Path) -> None:
        """Write ``checkpoint.pt``, to resume from, and ``weights.safetensors``, to animate with."""
        state = {
            "step": self.step,
            "recipe": self.recipe.name,
            "size": self.recipe.data.size,
            "settings": self.recipe.settings,
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
        }
        if self.discriminator is not None:
            state["discriminator"] = self.discriminator.state_dict()
            state["discriminator optimiser"] = self.discriminator_optimiser.state_dict()
        _write(folder / "checkpoint.pt", lambda path: torch.save(state, path))
        checkpoints.save(as_checkpoint(state), folder / "weights.safetensors")

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint that :meth:`save` wrote.

        Raises
        ------
        StudyError
            It can't be read, or is of other networks.
        """
        state = read_checkpoint(path, self.device)
        if state["settings"] != self.recipe.settings:
            raise StudyError(f"{path} is of networks with other settings than the recipe's")
        self.step, self.average = state["step"], state["average"]
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.discriminator is not None and "discriminator" in state:
            self.discriminator.load_state_dict(state["discriminator"])
            self.discriminator_optimiser.load_state_dict(state["discriminator optimiser"])


def run(
    recipe: Recipe,
    out: Path,
    cache: Cache,
    *,
    device: str = "cpu",
    resume: bool = False,
    minutes: float | None = None,
    echo: Callable[[str], None] = print,
) -> Path:
    """Train until the recipe's last step, or for some minutes.

    Leaves in ``out``: ``log.jsonl`` (a record every ``log_steps``, and held-out figures),
    ``sheets/*.png``, ``checkpoint.pt``, ``weights.safetensors`` and ``recipe.json``.

    Parameters
    ----------
    recipe : Recipe
    out : Path
    cache : Cache
        Rendering has been started, or everything is there.
    device : {"cpu", "cuda"}
    resume : bool
        Go on from the checkpoint in ``out``, if there is one.
    minutes : float, optional
    echo : callable
        Takes a line of progress.

    Returns
    -------
    Path
        The exported weights.

    Raises
    ------
    StudyError
        ``out`` holds another run and ``resume`` is not asked for.
    """
    out.mkdir(parents=True, exist_ok=True)
    log, checkpoint = out / "log.jsonl", out / "checkpoint.pt"
    training = Training(recipe, cache, device)
    if checkpoint.is_file():
        if not resume:
            raise StudyError(f"{out} holds a run already: add --resume, or name another folder")
        training.resume(checkpoint)
        _cut_log(log, training.step)
    else:
        log.unlink(missing_ok=True)
    about = json.dumps(dataclasses.asdict(recipe), indent=1)
    _write(out / "recipe.json", lambda path: Path(path).write_text(about))
    if training.vgg is None:
        echo("no perceptual term: " + ("vgg is not named" if not recipe.vgg else "its weight is 0"))
    began = saved = time.monotonic()
    sums: dict[str, float] = {}
    while training.step < recipe.steps:
        for name, value in training.advance().items():
            sums[name] = sums.get(name, 0.0) + value
        now, step = time.monotonic(), training.step
        phase, _ = recipe.phase_at(step - 1)
        if step % recipe.log_steps == 0:
            means = {name: round(value / recipe.log_steps, 5) for name, value in sums.items()}
            record = {"step": step, "phase": phase.name, **means}
            _append(log, {**record, "seconds": round(now - began, 1)})
            echo(" ".join(f"{name} {value}" for name, value in record.items()))
            sums = {}
        if "generator" in phase.networks and step % recipe.sheet_steps == 0:
            figures = training.evaluate(out / "sheets" / f"{step:06d}.png")
            _append(log, {"step": step, "held out": figures})
            echo(f"step {step} held out: {figures}")
        # Between two records of the log a resumed run would not give the same next one.
        if step % recipe.log_steps and step < recipe.steps:
            continue
        ends = minutes is not None and now - began > 60 * minutes
        if ends or now - saved > 60 * recipe.save_minutes or step == recipe.steps:
            training.save(out)
            saved = now
        if ends:
            echo(f"stopped after {minutes} minutes at step {step}; --resume goes on")
            break
    return out / "weights.safetensors"


def draw_batch(
    cache: Cache, step: int, count: int, rng: np.random.Generator, device: torch.device
) -> Batch:
    """Draw pairs, mirror half of them, and change colours and sharpness, alike in both images."""
    size, pool = cache.settings.size, cache.settings.available(step)
    half = size // 2
    rows: dict[str, list[np.ndarray]] = {}
    for seed in rng.integers(0, pool, count):
        identity = cache.identity(int(seed))
        pair = int(rng.integers(len(identity["pairs"])))
        driving, source = identity["pairs"][pair]
        for name, value in (
            ("source", identity["images"][source]),
            ("driving", identity["images"][driving]),
            ("source_kp", identity["keypoints"][source]),
            ("driving_kp", identity["keypoints"][driving]),
            ("landmarks", identity["landmarks"][driving]),
            ("face", np.unpackbits(identity["face"][driving]).reshape(1, size, size)),
            ("flow", identity["flow"][pair]),
            ("seen", np.unpackbits(identity["seen"][pair]).reshape(1, half, half)),
        ):
            rows.setdefault(name, []).append(value)
    tensors = {name: torch.from_numpy(np.stack(v)).to(device) for name, v in rows.items()}
    mirrored = torch.tensor(rng.random(count) < 0.5, device=device)
    face, seen = (_mirror(tensors[name].float(), mirrored) for name in ("face", "seen"))
    images = [
        _mirror(tensors[n].permute(0, 3, 1, 2) / 255, mirrored) for n in ("source", "driving")
    ]
    source, driving = _augmented(torch.cat(images), rng).chunk(2)
    source_kp, driving_kp, landmarks = (
        torch.where(mirrored[:, None, None], _mirror_points(tensors[name], size), tensors[name])
        for name in ("source_kp", "driving_kp", "landmarks")
    )
    flow = tensors["flow"].permute(0, 3, 1, 2).float() / FLOW_SCALE
    flow = _mirror(flow, mirrored)
    sign = torch.where(mirrored, -1.0, 1.0)
    flow = torch.stack([flow[:, 0] * sign[:, None, None], flow[:, 1]], -1)
    grid = networks.coordinate_grid(half, half, flow)
    return Batch(
        source.contiguous(memory_format=torch.channels_last),
        driving.contiguous(memory_format=torch.channels_last),
        normalised(source_kp, size),
        normalised(driving_kp, size),
        face,
        landmarks,
        grid + flow / (half - 1),
        seen,
    )


def normalised(points: Tensor, size: int) -> Tensor:
    """Give pixels of an image as coordinates in [-1, 1] of the grid of half its side.

    There, where keypoints are found and features are moved, sample i lies at pixel 2 i + 1/2.
    """
    return (points - 0.5) / (size // 2 - 1) - 1


def as_checkpoint(state: dict[str, Any]) -> checkpoints.Checkpoint:
    """Name the averaged tensors of what :meth:`Training.save` kept as PaddleGAN does."""
    tensors = {
        part: checkpoints.from_pytorch(
            {name: value.cpu().float().numpy() for name, value in state["average"][part].items()}
        )
        for part in _PARTS
    }
    config = {**state["settings"], "size": state["size"], "trained_on": "rendered faces"}
    return checkpoints.Checkpoint(name=state["recipe"], sha256="", config=config, **tensors)


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what :meth:`Training.save` wrote; nothing in the file is run.

    Raises
    ------
    StudyError
        It can't be read.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        raise StudyError(f"{path} can't be read: {error.strerror}") from None
    except Exception as error:  # a damaged file may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise StudyError(f"{path} is no checkpoint of this trainer ({reason})") from error


def _augmented(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Change (2 B, 3, S, S) images, sources above drivings, pair by pair."""
    count, device = len(images) // 2, images.device

    def draw(values: np.ndarray) -> Tensor:
        both = np.concatenate([values, values]).astype(np.float32)
        return torch.tensor(both, device=device).view(2 * count, -1, 1, 1)

    changed = rng.random((count, 1)) < 0.8
    gain = draw(np.where(changed, np.exp(rng.normal(0, 0.12, (count, 3))), 1))
    gamma = draw(np.where(changed, np.exp(rng.normal(0, 0.2, (count, 1))), 1))
    colour = draw(np.where(changed, rng.uniform(0.4, 1.25, (count, 1)), 1))
    lift = draw(np.where(changed, rng.normal(0, 0.04, (count, 1)), 0))
    blurred = draw((rng.random(count) < 0.25) * rng.uniform(0.3, 1, count))
    grey = images.mean(1, keepdim=True)
    images = (grey + (images - grey) * colour).clamp(1e-4, 1) ** gamma * gain + lift
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=device) / 16
    kernel = (kernel[:, None] * kernel).repeat(3, 1, 1, 1)
    soft = F.conv2d(F.pad(images, (2, 2, 2, 2), mode="replicate"), kernel, groups=3)
    return (images + (soft - images) * blurred).clamp(0, 1)


def _mirror(images: Tensor, mirrored: Tensor) -> Tensor:
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def _mirror_points(points: Tensor, size: int) -> Tensor:
    flipped = torch.stack([size - 1 - points[..., 0], points[..., 1]], -1)
    if points.shape[1] == len(MIRRORED):
        return flipped[:, list(MIRRORED)]
    return flipped  # landmarks only say where mouth and eyes are, wherever left and right is


def _sized(image: Tensor, like: Tensor) -> Tensor:
    if image.shape[2:] == like.shape[2:]:
        return image
    return F.interpolate(image, size=like.shape[2:], mode="bilinear", align_corners=False)


def _copied(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _write(path: Path, write: Callable[[Any], Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(partial)
        os.replace(partial, path)
    except OSError as error:
        raise StudyError(f"can't write {path} ({error.strerror}): make room there") from None
    finally:
        partial.unlink(missing_ok=True)


def _append(log: Path, record: dict[str, Any]) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def _cut_log(log: Path, step: int) -> None:
    """Drop what was logged after a step, as it will be logged again."""
    if log.is_file():
        kept = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= step]
        _write(log, lambda path: Path(path).write_text("".join(f"{line}\n" for line in kept)))
