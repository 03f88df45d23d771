"""A training recipe: one YAML file that says everything a run depends on but the machine."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studykit.errors import StudyError, did_you_mean
from studykit.methods.checkpoint_files import FAMILIES
from studykit.training.data import DataSettings

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class LossWeights:
    """How much each term counts; 0 leaves a term out and saves its time.

    Attributes
    ----------
    l1, gradient, structure
        Reconstruction: absolute difference at three scales, of the images and of their
        gradients, and 1 - SSIM at two scales.
    face, mouth, eyes
        How much more a pixel of these counts than one of the background, in all of the above.
    fidelity
        Mean over the images of log10 of the squared error in the face: what PSNR measures, so
        that a frame in which little moves has to be nearer to the truth than one that turns.
    keypoints, heatmap
        Distance of the keypoints from the renderer's, in image sides / 2; cross-entropy of
        their heat maps with a Gaussian there.
    moments
        Distance of the regions' covariances from those of the renderer's landmarks there, in units
        of the latter.
    background
        Distance of the background's affine map from the camera's motion.
    flow, occlusion
        Distance of the dense motion from the true one, in its pixels, where the source shows
        the surface; cross-entropy of the occlusion map with where it does.
    irises
        Distance of the irises' two keypoints beyond that of them all: they are small, and glances
        move them by a pixel or two.
    masks
        Divergence of the dense motion's masks from what each keypoint's motion explains, so that
        a mask that has died is found again; of ``enhance``, cross-entropy of its mask with where
        the source is nearer to the truth than the frame.
    equivariance_value, equivariance_jacobian
        Eq. 9 to 12 of the paper, under a random thin-plate spline; of regions, the covariance
        takes the jacobian's place, as its axes have no signs.
    perceptual, adversarial
        VGG-19 features (eq. 8; needs ``vgg`` in the recipe); a patch discriminator.
    """

    l1: float = 10.0
    gradient: float = 10.0
    structure: float = 1.0
    fidelity: float = 0.0
    face: float = 2.0
    mouth: float = 6.0
    eyes: float = 8.0
    keypoints: float = 20.0
    heatmap: float = 0.05
    moments: float = 0.3
    background: float = 5.0
    flow: float = 0.5
    occlusion: float = 0.1
    irises: float = 0.0
    masks: float = 0.0
    equivariance_value: float = 1.0
    equivariance_jacobian: float = 1.0
    perceptual: float = 0.0
    adversarial: float = 0.0


@dataclass(frozen=True)
class Phase:
    """A stretch of training.

    Attributes
    ----------
    name : str
    steps, batch : int
    learning_rate : (float, float)
        At its start and at its end; it falls geometrically.
    networks : tuple of {"kp_detector", "generator", "background", "disentangled", "motion", ...}
        Which are trained; the third and the fourth are parts of ``regions``, the fifth one of
        ``sparse``; ``enhance`` has one of its name. Without the generator nothing is generated,
        but for ``sparse``. The fourth is trained by itself, on what the averaged detector finds,
        and so is the detector of ``sparse``, on true landmarks.
    true_motion : (float, float)
        Share of the samples, at the start and at the end, that are generated from the true
        motion in place of the estimated one, so that painting is learned before moving is.
    calm : float
        Share of the samples for which the pair that moves least is taken out of four: in most of
        a video little moves.
    blinks : float
        Share of the samples for which the pair in which eyes close most is taken out of four.
    by_landmarks : float
        Share of the samples that are moved by landmarks as a detector finds them, in place of the
        network's own keypoints (:mod:`studykit.methods._fomm_landmarks`).
    paints : bool
        Without painting, motion alone is learned from its truth, three times as fast.
    camera : float
        Share of the samples in which the camera moves.
    fixed_statistics : bool
        Batch norms normalise by what they have averaged so far.
    losses : dict
        What of :class:`LossWeights` is another one in this phase.
    compiled : bool
        On a GPU, by PyTorch's compiler.
    from_average : bool
        Begin with the averaged weights and an optimiser that remembers nothing.
    afresh : tuple of str
        Networks that begin again with the weights of ``start``.
    """

    name: str
    steps: int
    batch: int
    learning_rate: tuple[float, float]
    networks: tuple[str, ...] = ("kp_detector", "generator")
    true_motion: tuple[float, float] = (0.0, 0.0)
    calm: float = 0.0
    blinks: float = 0.0
    by_landmarks: float = 0.0
    paints: bool = True
    camera: float = 0.0
    fixed_statistics: bool = False
    losses: dict[str, float] = field(default_factory=dict)
    compiled: bool = False
    from_average: bool = False
    afresh: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """All of a run's settings.

    Attributes
    ----------
    name : str
    seed : int
        What initial weights, the order of samples and augmentation follow from.
    phases : tuple of Phase
        In order. A step counts from the first one's start.
    common_params, kp_detector_cfg, generator_cfg : dict
        The networks, as in PaddleGAN's configuration files; ``enhance`` has none.
    motion_cfg : dict
        The motion network of ``sparse``: what :class:`studykit.methods._sparse_network.Shape` has.
    network : str
        What is trained: one of :data:`studykit.methods.checkpoint_files.FAMILIES`.
    data : DataSettings
    losses : LossWeights
    precision : {"float32", "bf16"}
        Of convolutions, where the processor has it.
    average : float
        Decay of the running average of the weights, a step; the average is what is exported.
    held_out : int
        How many identities are held out for the log.
    log_steps : int
        How often the loss is logged.
    save_minutes : float
        How often a checkpoint is written.
    sheet_steps : int
        How often held-out identities are animated: measured for the log, and drawn.
    workers : int
        Processes that render beside the training.
    vgg : str, optional
        File of VGG-19 weights for the perceptual term.
    start : str, optional
        Weights to begin with: the name or the file of a First Order Motion Model of the same
        settings, whose detector and generator ``regions`` begins with, too; ``resnet`` takes of
        the generator what concerns its ten keypoints.
    swats : dict, optional
        Settings of :class:`studykit.training.swats.Swats`, which takes Adam's place.
    untrained : tuple of str
        Tensors that do not begin with those of ``start``, by how ``network.tensor`` begins.
    """

    name: str
    seed: int
    phases: tuple[Phase, ...]
    common_params: dict[str, Any] = field(default_factory=dict)
    kp_detector_cfg: dict[str, Any] = field(default_factory=dict)
    generator_cfg: dict[str, Any] = field(default_factory=dict)
    network: str = "fomm"
    motion_cfg: dict[str, Any] = field(default_factory=dict)
    data: DataSettings = field(default_factory=DataSettings)
    losses: LossWeights = field(default_factory=LossWeights)
    precision: str = "bf16"
    average: float = 0.998
    held_out: int = 8
    log_steps: int = 20
    save_minutes: float = 4
    sheet_steps: int = 300
    workers: int = 1
    vgg: str | None = None
    start: str | None = None
    swats: dict[str, Any] | None = None
    untrained: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.network not in FAMILIES:
            hint = did_you_mean(str(self.network), FAMILIES)
            raise StudyError(f'recipe {self.name}: no network "{self.network}": {hint}')

    @property
    def settings(self) -> dict[str, Any]:
        """The networks' settings in one dictionary, as checkpoints hold them."""
        parts = ("common_params", "kp_detector_cfg", "generator_cfg")
        settings = {part: given for part in parts if (given := getattr(self, part))}
        settings |= {"motion_cfg": self.motion_cfg} if self.network == "sparse" else {}
        return settings if self.network == "fomm" else {**settings, "network": self.network}

    @property
    def steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def phase_at(self, step: int) -> tuple[Phase, float]:
        """Return the phase of a step, and how far it is through: 0 to 1."""
        for phase, done in self._done(step):
            if done < phase.steps:
                return phase, done / phase.steps
        raise IndexError("the recipe has no such step")

    def fitted(self, step: int, left: int) -> "Recipe":
        """Return the recipe with its phases from a step on scaled to a number of steps in all."""
        phases = []
        for phase, done in self._done(step):
            share = (phase.steps - done) / max(self.steps - step, 1)
            wanted = done + round(share * left / self.log_steps) * self.log_steps
            phases.append(dataclasses.replace(phase, steps=wanted))
        return dataclasses.replace(self, phases=tuple(phases))

    def steps_of(self, network: str, step: int) -> int:
        """Return for how many of the first steps a network was trained."""
        return sum(done for phase, done in self._done(step) if network in phase.networks)

    def _done(self, step: int) -> Iterator[tuple[Phase, int]]:
        """Yield every phase with how many of its steps come before a step."""
        for phase in self.phases:
            done = min(step, phase.steps)
            yield phase, done
            step -= done


def read_recipe(path: str | Path, device: str = "cpu") -> Recipe:
    """Read a recipe; on ``cuda``, what stands under that name in it replaces the rest.

    Parameters
    ----------
    path : str or Path
        A file, or the name of a recipe of this package.
    device : {"cpu", "cuda"}

    Raises
    ------
    StudyError
        The file can't be read, or has an unknown or a missing key.
    """
    import yaml

    file = Path(path)
    if not file.is_file() and (RECIPES / f"{path}.yaml").is_file():
        file = RECIPES / f"{path}.yaml"
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        shipped = did_you_mean(str(path), (p.stem for p in RECIPES.glob("*.yaml")))
        raise StudyError(f"recipe {path} can't be read ({error.strerror}): {shipped}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"recipe {path} is no YAML file ({reason}): fix it") from None
    if not isinstance(content, dict):
        raise StudyError(f"recipe {path} is no mapping: see {RECIPES / 'synth-256.yaml'}")
    on_cuda = content.pop("cuda", None) or {}
    if device == "cuda":
        content.update(on_cuda)
    content["phases"] = tuple(_filled(Phase, own, path) for own in content.get("phases", ()))
    for phase in content["phases"]:
        _filled(LossWeights, phase.losses, path)
    for name, kind in (("data", DataSettings), ("losses", LossWeights)):
        content[name] = _filled(kind, content.get(name) or {}, path)
    return _filled(Recipe, content, path)


def _filled(kind: type, values: dict[str, Any], path: str | Path) -> Any:
    known = {f.name: f for f in dataclasses.fields(kind)}
    for name in values:
        if name not in known:
            hint = did_you_mean(str(name), known)
            raise StudyError(f'recipe {path}: no "{name}" in {kind.__name__}: {hint}')
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except TypeError as error:
        raise StudyError(f"recipe {path}: {error}") from None
