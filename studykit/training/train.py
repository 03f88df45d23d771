"""The training loop: every step follows from the recipe's seed and its number alone.

No random state is kept: batches, augmentation and deformations are drawn from a generator seeded
by (seed, step). A run that is resumed, or run again on the same machine, gives the same log.
"""

import contextlib
import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from studykit import files
from studykit.errors import StudyError
from studykit.methods import checkpoint_files, weights as checkpoints
from studykit.training import (
    batches,
    enhance,
    evaluate,
    families,
    losses,
    networks,
    regions,
    resnet,
    sparse,
)
from studykit.training.batches import Batch
from studykit.training.data import Cache
from studykit.training.recipe import Phase, Recipe
from studykit.training.swats import Swats

_GRADIENT_NORM = 5.0
_STRETCH = (0.75, 1.25)  # of the faces whose poses are separated from their shapes
_APART = 240  # faces on which they are, found once
_MEASURED = (100, 500)  # steps of a run, between which its pace is measured
_OTHERWISE = "make room there"  # where a file of the run can't be written
_USED = 0.95  # of the minutes; the rest is for held-out figures and for what slows a run


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
    vgg : losses.VGG19 or None
        For the perceptual term, where there is one.
    """

    def __init__(self, recipe: Recipe, cache: Cache, device: str) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.cache, self.device, self.step = recipe, cache, torch.device(device), 0
        self.networks = families.build(recipe.settings)
        for network in self.networks.values():
            network.to(self.device, memory_format=torch.channels_last)
        self.average = {name: _copied(network) for name, network in self.networks.items()}
        self._averaging = {
            name: _paired(self.average[name], n) for name, n in self.networks.items()
        }
        self._begin(tuple(self.networks) if recipe.start else ())
        self._parameters = [p for network in self.networks.values() for p in network.parameters()]
        on_gpu = self.device.type == "cuda"
        if recipe.swats is None:
            self.optimiser = torch.optim.Adam(self._parameters, betas=(0.5, 0.999), fused=on_gpu)
        else:
            self.optimiser = Swats(self._parameters, **recipe.swats)
        self.discriminator = self.discriminator_optimiser = self.vgg = None
        if recipe.losses.adversarial:
            self.discriminator = losses.PatchDiscriminator().to(self.device)
            self.discriminator_optimiser = torch.optim.Adam(
                self.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999)
            )
        if recipe.losses.perceptual and recipe.vgg:
            self.vgg = losses.VGG19(Path(recipe.vgg)).to(self.device)
        self._shelf = families.shelf(self.networks, cache, self.device)
        # Processors without bfloat16 would only imitate it, slowly.
        able = on_gpu or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        bf16 = recipe.precision == "bf16" and able
        self._objective = families.objective(self.networks, bf16, self.vgg)
        self._regions: networks.Keypoints | None = None
        self._compiled = self._objective
        if on_gpu:
            _compute_alike_in_every_run()
            self._compiled = torch.compile(self._objective)

    def advance(self) -> dict[str, Tensor]:
        """Train one step; return every term of the loss, still on the device."""
        phase, progress = self.recipe.phase_at(self.step)
        start, end = phase.learning_rate
        for group in self.optimiser.param_groups:
            group["lr"] = start * (end / start) ** progress
        for name, network in self.networks.items():
            network.train(name in phase.networks and not phase.fixed_statistics)
            network.requires_grad_(name in phase.networks)
        if phase.from_average and progress == 0:
            self._load(self.average)
            self.optimiser.state.clear()
        if progress == 0:
            self._begin(phase.afresh)
        terms = self._terms(phase, progress)
        total = sum(terms.values())
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, _GRADIENT_NORM)
        self.optimiser.step()
        self.step += 1
        for name in phase.networks:
            # A network's first weights are worth forgetting faster.
            trained = self.recipe.steps_of(name, self.step)
            decay = min(self.recipe.average, trained / (10 + trained))
            torch._foreach_lerp_(*self._averaging[name], 1 - decay)
        return {name: value.detach() for name, value in {"loss": total, **terms}.items()}

    def _begin(self, names: tuple[str, ...]) -> None:
        """Give networks, and their averages, the weights that the recipe starts with."""
        begun = checkpoints.load(checkpoints.locate(self.recipe.start)).networks if names else {}
        if begun and self.recipe.network == "resnet":
            begun = resnet.begun(begun)
        untrained = tuple(self.recipe.untrained)
        for name in names:
            if hasattr(self.networks[name], "warm_start"):
                self.networks[name].warm_start(begun["kp_detector"])
            elif name in begun:
                first = _copied(self.networks[name])
                networks.fill(self.networks[name], begun[name])
                kept = {k: v for k, v in first.items() if f"{name}.{k}".startswith(untrained)}
                self.networks[name].load_state_dict(kept, strict=False)
            else:
                continue
            self.average[name].update(_copied(self.networks[name]))
            self._averaging[name] = _paired(self.average[name], self.networks[name])

    def begin_with(self, encoder: Path) -> None:
        """Give the keypoint network of ``resnet``, and its average, the weights of a ResNet-18.

        Raises
        ------
        StudyError
            Another network is trained, or as :func:`resnet.load_encoder`.
        """
        if self.recipe.network != "resnet":
            raise StudyError(f"{self.recipe.network} has no encoder: leave --encoder out")
        resnet.load_encoder(self.networks["kp_detector"], encoder)
        for key, value in _copied(self.networks["kp_detector"]).items():
            self.average["kp_detector"][key].copy_(value)

    def _terms(self, phase: Phase, progress: float) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.recipe.seed, self.step])
        if "disentangled" in phase.networks:
            return self._disentangled(phase, rng)
        weights = dataclasses.replace(self.recipe.losses, **phase.losses)
        if "enhance" in phase.networks:
            return self._compiled(self._shelf.draw(self.step, phase.batch, rng), weights)
        batch = self._shelf.draw(
            self.step, phase.batch, rng, phase.calm, phase.blinks, phase.camera
        )
        # Half a batch is enough for what the renderer's keypoints pin down already.
        spline = losses.ThinPlateSpline.draw(rng, -(-phase.batch // 2), self.device)
        share = phase.true_motion[0] + progress * (phase.true_motion[1] - phase.true_motion[0])
        taught = torch.from_numpy(rng.random(phase.batch) < share).to(self.device)
        # Compiling takes a minute or two, which a short phase does not win back.
        objective = self._compiled if phase.compiled else self._objective
        if self.recipe.network == "sparse":
            marked: Any = sparse.marked(self.networks["motion"].shape, batch, rng)
        elif self.recipe.network == "resnet":
            marked = resnet.draw_boxes(batch, rng)
        else:
            marked = batches.marked(batch, phase.by_landmarks, rng) if phase.by_landmarks else None
        generates = "generator" in phase.networks
        terms, image = objective(batch, spline, taught, weights, generates, marked, phase.paints)
        if self.discriminator is not None and image is not None:
            terms["adversarial"] = weights.adversarial * self._adversarial(batch, image)
        return terms

    def _disentangled(self, phase: Phase, rng: np.random.Generator) -> dict[str, Tensor]:
        if self._regions is None:
            with self.averaged() as nets:
                some = itertools.islice(self._shelf.identities(), _APART)
                found = regions.upright_regions(nets["kp_detector"], some)
            self._regions = found
        identities, frames = self._regions["value"].shape[:2]
        who = torch.from_numpy(rng.integers(0, identities, phase.batch))
        pair = torch.from_numpy(rng.integers(0, frames, (2, phase.batch)))
        stretch = torch.from_numpy(rng.uniform(*_STRETCH, (phase.batch, 2)).astype(np.float32))
        source, driving = ({k: v[who, f] for k, v in self._regions.items()} for f in pair)
        network = self.networks["disentangled"]
        return network.objective(source, driving, stretch.to(self.device))

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
            self._load(self.average)
            yield self.networks
        finally:
            self._load(now)

    def _load(self, tensors: dict[str, dict[str, Tensor]]) -> None:
        for name, network in self.networks.items():
            network.load_state_dict(tensors[name])

    def evaluate(self, sheet: Path | None = None) -> dict[str, float]:
        """Measure the averaged networks on the held-out identities; draw a sheet of some."""
        if "enhance" in self.networks:
            with self.averaged() as nets:
                return enhance.evaluate(nets["enhance"], self.cache, sheet)
        held_out = self.cache.held_out()
        with self.averaged() as nets:
            own, cross = evaluate.clips(nets, held_out, self.recipe.data)
        if sheet is not None:
            shown = slice(min(1, len(held_out) - 1), 5)  # one of each kind
            image = evaluate.draw_sheet(held_out[shown], own[shown], cross[shown])
            with files.written(sheet, _OTHERWISE) as part:
                image.save(part)
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
        with files.written(folder / "checkpoint.pt", _OTHERWISE) as part:
            torch.save(state, part)
        checkpoint_files.save(as_checkpoint(state), folder / "weights.safetensors")

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
        self.step = state["step"]
        self._load(state["networks"])
        for name, average in self.average.items():
            for key, value in average.items():
                value.copy_(state["average"][name][key])
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
    fit: bool = False,
    encoder: Path | None = None,
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
    fit : bool
        Measure the first steps, and scale the phases that are left so that the recipe ends with
        these minutes; ``recipe.json`` says how long they are then.
    encoder : Path, optional
        Weights of a ResNet-18 that the keypoint network of ``resnet`` begins with.
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
        if encoder is not None:
            training.begin_with(encoder)
        log.unlink(missing_ok=True)
    _write_recipe(recipe, out)
    if training.vgg is None:
        echo("no perceptual term: " + ("vgg is not named" if not recipe.vgg else "its weight is 0"))
    began = saved = time.monotonic()
    measured = [training.step + steps for steps in _MEASURED]
    sums: dict[str, Tensor] = {}
    while training.step < recipe.steps:
        for name, value in training.advance().items():
            sums[name] = sums.get(name, 0.0) + value
        now, step = time.monotonic(), training.step
        phase, _ = recipe.phase_at(step - 1)
        if fit and minutes is not None and step in measured:
            if step == measured[0]:
                first = now
            else:
                pace = (step - measured[0]) / (now - first)
                left = max(0, int(_USED * pace * (60 * minutes - (now - began))))
                recipe = training.recipe = recipe.fitted(step, left)
                _write_recipe(recipe, out)
                echo(f"{pace:.1f} steps a second: {recipe.steps} in all")
        if step % recipe.log_steps == 0:
            means = {name: round(float(v) / recipe.log_steps, 5) for name, v in sums.items()}
            if not np.isfinite(means["loss"]):
                raise StudyError(f"the loss is no number by step {step}: lower learning_rate")
            record = {"step": step, "phase": phase.name, **means}
            if isinstance(training.optimiser, Swats):
                record["swats"] = training.optimiser.told
            _append(log, {**record, "seconds": round(now - began, 1)})
            echo(" ".join(f"{name} {value}" for name, value in record.items()))
            sums = {}
        shown = {"generator", "motion", "enhance"} & set(phase.networks)
        if shown and step % recipe.sheet_steps == 0:
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


def as_checkpoint(state: dict[str, Any]) -> checkpoint_files.Checkpoint:
    """Name the averaged tensors of what :meth:`Training.save` kept as PaddleGAN does."""
    tensors = {
        part: checkpoint_files.from_pytorch(
            {name: value.cpu().float().numpy() for name, value in state["average"][part].items()}
        )
        for part in checkpoint_files.FAMILIES[checkpoint_files.family_of(state["settings"])]
    }
    config = {**state["settings"], "size": state["size"], "trained_on": "rendered faces"}
    return checkpoint_files.Checkpoint(state["recipe"], "", config, tensors)


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


def _copied(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _paired(average: dict[str, Tensor], network: torch.nn.Module) -> tuple[list, list]:
    now = network.state_dict()
    names = [name for name, value in now.items() if value.is_floating_point()]
    return [average[name] for name in names], [now[name] for name in names]


def _compute_alike_in_every_run() -> None:
    """Have a GPU add up in one order, and choose kernels without timing them."""
    import torch._inductor.config as inductor

    torch.backends.cudnn.deterministic = True
    if hasattr(inductor, "deterministic"):  # PyTorch 2.10 and newer
        inductor.deterministic = True


def _write_recipe(recipe: Recipe, out: Path) -> None:
    with files.written(out / "recipe.json", _OTHERWISE) as part:
        part.write_text(json.dumps(dataclasses.asdict(recipe), indent=1), encoding="utf-8")


def _append(log: Path, record: dict[str, Any]) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def _cut_log(log: Path, step: int) -> None:
    """Drop what was logged after a step, as it will be logged again."""
    if log.is_file():
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        with files.written(log, _OTHERWISE) as part:
            kept = "".join(line for line in lines if json.loads(line)["step"] <= step)
            part.write_text(kept, encoding="utf-8")
