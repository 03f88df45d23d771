"""Rendered training pairs with their truth: sampled, rendered by worker processes, kept on disk.

Everything follows from seeds. An identity is one file, so that a cache can be made beforehand on
any machine, grows while training, and goes on growing where it stopped.
"""

import dataclasses
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from studykit import files
from studykit.errors import StudyError
from studykit.methods._fomm_landmarks import KEYPOINTS
from studykit.metrics.cases import HELD_OUT
from studykit.stimuli import Expression, Identity, Pose, flow, motion, render

MIRRORED = (0, 1, 2, 4, 3, 6, 5, 7, 8, 12, 11, 10, 9, 14, 13, 16, 15, 18, 17, 20, 19, 21, 22)
"""For every keypoint, the one that takes its place in a mirrored image."""

FLOW_SCALE = 64.0  # stored steps a pixel
PAIRS_A_FRAME = 2  # at most: as many sources for every driving frame
_LARGE_HAIR = ("long", "wavy", "curly", "afro", "bob")
_KINDS, _SHARES = ("frontal", "side", "drawn"), (0.5, 0.2, 0.3)
_WIDEST_TURN = 45.0  # degrees of yaw between the frames of a pair
_FAIR_TURN = 40.0  # and from the source to what methods are to make of it


@dataclass(frozen=True)
class DataSettings:
    """What is rendered.

    Attributes
    ----------
    size : int
        Side of the images in pixels.
    identities : int
        How many there are in the end, with the seeds 0, 1, 2, ...
    at_start : int
        How many must be there before the first step.
    per_step : float
        How many more take part every step: a number and not a clock, so that a run can be
        repeated exactly.
    frames : int
        Frames an identity.
    found : bool
        Faces are looked for in the frames as the product does, by MediaPipe, and what is found is
        kept beside them: its landmarks' errors are those that a network must bear.
    made_by : tuple of str
        Methods whose frames of an identity are kept, with their truth at twice the size, in place
        of pairs: what :func:`made_identity` makes.
    wild : bool
        Heads stand anywhere, lean and come near; teeth show in low wide smiles, hair is large and
        dark, glasses are frequent and backdrops have edges: what people bring.
    """

    size: int = 128
    identities: int = 1000
    at_start: int = 200
    per_step: float = 0.2
    frames: int = 16
    wild: bool = False
    found: bool = False
    made_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.identities > HELD_OUT:
            raise StudyError(f"identities must be at most {HELD_OUT}: the rest is held out")

    def available(self, step: int) -> int:
        """Return how many identities take part in a step."""
        return min(self.identities, self.at_start + int(self.per_step * step))


@dataclass(frozen=True)
class HeldOut:
    """One held-out identity, doing a motion, and another one doing the same.

    Attributes
    ----------
    kind : str
        ``frontal``, ``side`` or ``drawn``.
    labels : list of str
        What each frame shows; the first is the source, near neutral.
    own, other : (T, S, S, 3) uint8
        The identity and the other one with the same pose and expression.
    landmarks : (T, 68, 2) float32
        Of ``own``, in pixels.
    face : (T, S, S) bool
        Face masks of ``own``.
    """

    kind: str
    labels: list[str]
    own: np.ndarray
    other: np.ndarray
    landmarks: np.ndarray
    face: np.ndarray


def keypoint_indices(*names: str) -> list[int]:
    """Return the places of keypoints among :data:`KEYPOINTS`."""
    return [list(KEYPOINTS).index(name) for name in names]


def kind_of(seed: int) -> str:
    """Return the type of a training identity: ``frontal``, ``side`` or ``drawn``."""
    return str(np.random.default_rng([seed, 11]).choice(_KINDS, p=_SHARES))


def training_identity(seed: int, wild: bool = False) -> Identity:
    """Draw the identity of a seed; glasses and beards are more frequent than among people."""
    from studykit.stimuli.identity import BEARDS, GLASSES

    rng = np.random.default_rng([seed, 12])
    identity = Identity.random(seed, "drawn" if kind_of(seed) == "drawn" else "photo")
    if wild and rng.random() < 0.5:
        style, dark = str(rng.choice(_LARGE_HAIR)), rng.uniform(0.03, 0.25)
        colour = tuple(dark * rng.uniform(0.8, 1.2, 3))
        identity = dataclasses.replace(identity, hair_style=style, hair_colour=colour)
    if rng.random() < (0.3 if wild else 0.15):
        identity = dataclasses.replace(identity, glasses=str(rng.choice(GLASSES[1:])))
    if identity.masculinity > 0 and rng.random() < 0.25:
        identity = dataclasses.replace(identity, beard=str(rng.choice(BEARDS[1:])))
    return identity


def sample_states(
    seed: int, kind: str, count: int, wild: bool = False
) -> list[tuple[Pose, Expression]]:
    """Draw poses and expressions of one identity; the first two are near neutral, as sources are.

    Blinks, smiles, open mouths and glances are far more frequent than in speech, and a third of
    the frames hold the head as one of the first two does: there what must not change is learned.
    """
    rng = np.random.default_rng([seed, 13])
    side = rng.choice([-1, 1])
    centre = side * rng.uniform(41, 66) if kind == "side" else rng.normal(0, 6)
    place, growth, lean = (0.055, 0.1, 13) if wild else (0.012, 0.03, 8)
    place_x, place_y, scale = rng.normal(0, 0.012), rng.normal(0, 0.012), rng.uniform(0.9, 1.12)
    states = []
    for index in range(count):
        neutral = index < 2
        spread = 0.3 if neutral else 1.0
        reach = (14 if kind == "side" else 20) * spread
        yaw = float(np.clip(centre + rng.normal(0, reach), -75, 75))
        pitch = float(np.clip(rng.normal(0, 9 * spread), -28, 28))
        roll = float(np.clip(rng.normal(0, lean * spread), -3.25 * lean, 3.25 * lean))
        x, y = place_x + rng.normal(0, place * spread), place_y + rng.normal(0, place * spread)
        pose = Pose(yaw, pitch, roll, x, y, float(scale * np.exp(rng.normal(0, growth * spread))))
        if not neutral and rng.random() < 0.35:
            pose = states[int(rng.integers(2))][0]
        expression = _sample_expression(rng, neutral)
        if wild and rng.random() < 0.3:
            low, wide = rng.uniform([0.05, 0.4], [0.35, 1]).tolist()
            expression = dataclasses.replace(expression, mouth_open=low, smile=wide, pucker=0.0)
        states.append((pose, expression))
    return states


def _sample_expression(rng: np.random.Generator, neutral: bool) -> Expression:
    if neutral:
        smile, mouth = rng.uniform(-0.1, 0.4), max(0.0, rng.normal(0, 0.04))
        gaze_x, brows = rng.normal(0, 0.1, 2).tolist()
        return Expression(mouth_open=mouth, smile=smile, gaze_x=gaze_x, brows=brows)
    chance = rng.random(7)
    mouth = rng.uniform(0.15, 1) if chance[0] < 0.45 else max(0, rng.normal(0, 0.05))
    smile = rng.uniform(-0.4, 1) if chance[1] < 0.5 else rng.normal(0, 0.1)
    pucker = rng.uniform(0.3, 1) if chance[2] < 0.18 else 0.0
    both = rng.uniform(0.3, 1.15) if chance[3] < 0.4 else rng.normal(0, 0.08)
    other = rng.uniform(0, 1) if chance[4] < 0.06 else both
    gaze = rng.uniform(-1, 1, 2) if chance[5] < 0.5 else rng.normal(0, 0.1, 2)
    brows = rng.uniform(-1, 1) if chance[6] < 0.4 else rng.normal(0, 0.1)
    blinks = np.clip([both, other], -0.3, 1)
    smile, brows = np.clip([smile, brows], -1, 1)
    return Expression(*map(float, (mouth, smile, pucker, *blinks, *gaze, brows)))


def render_identity(seed: int, settings: DataSettings) -> dict[str, np.ndarray]:
    """Render one identity's frames and the truth of pairs among them.

    Returns
    -------
    dict of arrays
        ``images`` (N, S, S, 3) uint8; ``keypoints`` (N, K, 2) and ``landmarks`` (N, 68, 2)
        float32 in pixels; ``face`` and ``head`` (N, S * S / 8) uint8, packed masks; ``pairs``
        (P, 2) int16, driving and source; ``flow`` (P, S/2, S/2, 2) int16, from the driving's
        pixels to the source's in steps of 1 / FLOW_SCALE pixel; ``seen`` (P, S/2 * S/2 / 8)
        uint8, packed: the source shows it.
    """
    rng = np.random.default_rng([seed, 14])
    frames = rendered_frames(seed, settings, rng)
    pairs, flows, seen = [], [], []
    for driving, frame in enumerate(frames):
        turn = np.abs([other.pose.yaw - frame.pose.yaw for other in frames])
        turn[driving] = np.inf
        near = np.flatnonzero(turn < _WIDEST_TURN)
        if not len(near):
            continue
        likely = np.where(near < 2, 6.0, 1.0)
        count = min(PAIRS_A_FRAME, len(near))
        for source in rng.choice(near, count, replace=False, p=likely / likely.sum()):
            there, valid = halved_flow(*flow(frame, frames[source]))
            pairs.append((driving, source))
            flows.append(np.rint(there * FLOW_SCALE).clip(-32767, 32767).astype(np.int16))
            seen.append(np.packbits(valid))
    return {
        "images": np.stack([frame.image for frame in frames]),
        "keypoints": np.stack([frame_keypoints(frame) for frame in frames]).astype(np.float32),
        "landmarks": np.stack([frame.landmarks for frame in frames]).astype(np.float32),
        "face": np.stack([np.packbits(frame.face_mask) for frame in frames]),
        "head": np.stack([np.packbits(frame.mask) for frame in frames]),
        "pairs": np.array(pairs, np.int16),
        "flow": np.stack(flows),
        "seen": np.stack(seen),
    }


def rendered_frames(seed: int, settings: DataSettings, rng: np.random.Generator) -> list[Any]:
    """Render an identity's frames; the generator decides what is behind it."""
    from studykit.stimuli.model import build_model

    identity, kind = training_identity(seed, settings.wild), kind_of(seed)
    if kind != "drawn" and rng.random() < (0.9 if settings.wild else 0.5):
        # The renderer's own backdrops are out of focus; photographs have edges behind the face.
        build_model(identity).background[...] = _cluttered_backdrop(rng, 256)
    states = sample_states(seed, kind, settings.frames, settings.wild)
    return [render(identity, *state, settings.size) for state in states]


def frame_keypoints(frame: Any) -> np.ndarray:
    """Return where the keypoints of a rendered frame are, hidden ones too: (K, 2), in pixels."""
    # The renderer keeps its vertices at two samples a pixel, where it draws them.
    on_mesh = frame._points[_mesh_vertices(frame.identity), :2].astype(float)
    places = iter((on_mesh - 0.5) / 2)
    marked = KEYPOINTS.values()
    return np.array([frame.landmarks[list(m)].mean(0) if m else next(places) for m in marked])


@lru_cache(maxsize=16)
def _mesh_vertices(identity: Identity) -> list[int]:
    """Return the vertices of the keypoints without landmarks: irises, crown and throat's foot."""
    from studykit.stimuli.model import build_model

    model = build_model(identity)
    irises = [where.start + int(model.vertices[where, 2].argmax()) for where in model.eyes]
    head = model.vertices[: len(model.head.part.vertices)]
    throat = (np.abs(head[:, 1] - 95) > 6) * 1000 - head[:, 2] + np.abs(head[:, 0])
    return [*irises, int(head[:, 1].argmin()), int(throat.argmin())]


def halved_flow(there: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average the valid flow of 2 x 2 pixels; where none is, of all; valid where most are."""
    size = there.shape[0] // 2
    # A triangle seen edge-on has no area to interpolate over.
    valid = valid & np.isfinite(there).all(-1)
    there = np.nan_to_num(there, nan=0.0, posinf=0.0, neginf=0.0)
    blocks = there.reshape(size, 2, size, 2, 2)
    weight = valid.reshape(size, 2, size, 2, 1).astype(np.float32)
    count = weight.sum((1, 3))
    known = (blocks * weight).sum((1, 3)) / np.maximum(count, 1)
    return np.where(count > 0, known, blocks.mean((1, 3))), count[..., 0] >= 2


def _cluttered_backdrop(rng: np.random.Generator, size: int) -> np.ndarray:
    """A backdrop with edges and texture, linear light, (S, S, 3) float32 in [0, 1]."""
    spectrum = np.fft.rfft2(rng.standard_normal((3, size, size)))
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)
    spectrum *= 1 / np.maximum(np.hypot(fx, fy), 2 / size) ** rng.uniform(1.0, 1.8)
    noise = np.fft.irfft2(spectrum, (size, size)).transpose(1, 2, 0)
    noise = noise / noise.std() * rng.uniform(0.02, 0.14)
    grey = rng.random() * 0.6
    noise = noise * (1 - grey) + noise.mean(-1, keepdims=True) * grey
    image = rng.uniform(0.1, 0.75) * rng.uniform(0.75, 1.25, 3) + noise
    y, x = np.mgrid[0:size, 0:size] / size
    for _ in range(int(rng.integers(0, 14))):
        cx, cy, turn = *rng.random(2), rng.uniform(0, np.pi)
        across = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        along = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        across, along = across / rng.uniform(0.01, 0.2), along / rng.uniform(0.1, 0.9)
        inside = np.maximum(abs(across), abs(along))
        cover = np.clip((1 - inside) * rng.uniform(4, 60), 0, 1)[..., None] * rng.uniform(0.4, 1)
        image = image * (1 - cover) + cover * rng.uniform(0.02, 0.95, 3)
    return np.clip(image, 0.002, 1).astype(np.float32) ** 1.6


def render_held_out(index: int, settings: DataSettings) -> dict[str, np.ndarray]:
    """Render the held-out identity of an index, and the next one, doing the same: see HeldOut.

    They are what recipes are tuned by, and none of the benchmark's.
    """
    kind, labels, own, other = _held_out_frames(index, settings.size)
    return {
        "kind": np.array(kind),
        "labels": np.array(labels),
        "own": np.stack([frame.image for frame in own]),
        "other": np.stack([frame.image for frame in other]),
        "landmarks": np.stack([frame.landmarks for frame in own]).astype(np.float32),
        "face": np.stack([frame.face_mask for frame in own]),
    }


@lru_cache(maxsize=64)
def held_out_points(index: int, settings: DataSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return the true points of a held-out identity and of the other one, (T, 70, 2), in pixels."""
    _, _, own, other = _held_out_frames(index, settings.size)
    irises = keypoint_indices("left iris", "right iris")
    own_points, other_points = (
        np.stack([np.vstack([f.landmarks, frame_keypoints(f)[irises]]) for f in frames])
        for frames in (own, other)
    )
    return own_points, other_points


def _held_out_frames(index: int, size: int) -> tuple[str, list[str], list[Any], list[Any]]:
    kind = ("frontal", "frontal", "side", "drawn")[index % 4]
    seed = HELD_OUT + index
    look = "drawn" if kind == "drawn" else "photo"
    states = motion(kind, seed, 60)
    still = states[0][0]
    shown = [
        ("source", states[0]),
        ("mouth", (still, Expression(mouth_open=0.8))),
        ("blink", (still, Expression(blink_left=1, blink_right=1))),
        ("smile", (still, Expression(smile=0.9))),
        *((f"{k / 25:.2f} s", states[k]) for k in (12, 19, 26, 33, 40, 47, 54)),
    ]
    identities = Identity.random(seed, look), Identity.random(seed + 1000, look)
    own, other = ([render(identity, *state, size) for _, state in shown] for identity in identities)
    return kind, [label for label, _ in shown], own, other


def held_out_from(content: dict[str, np.ndarray]) -> HeldOut:
    """Take what :func:`render_held_out` made."""
    words = {"kind": str(content["kind"]), "labels": content["labels"].tolist()}
    return HeldOut(**{**content, **words})


class Cache:
    """A folder of rendered identities, one file each, that worker processes fill.

    Parameters
    ----------
    folder : Path
        Made where it is not there.
    settings : DataSettings
        What is rendered. A folder made with another size or number of frames is refused.
    held_out : int
        How many identities are held out for evaluation.
    """

    def __init__(self, folder: Path, settings: DataSettings, held_out: int) -> None:
        self.folder, self.settings, self.held_out_count = Path(folder), settings, held_out
        self._workers: list[Any] = []
        made = {"size": settings.size, "frames": settings.frames}
        made |= {"wild": True} if settings.wild else {}
        made |= {"made_by": list(settings.made_by)} if settings.made_by else {}
        about = self.folder / "cache.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if about.is_file() and (found := json.loads(about.read_text(encoding="utf-8"))) != made:
                raise StudyError(f"{self.folder} holds frames of {found}, not {made}: name another")
            about.write_text(json.dumps(made), encoding="utf-8")
        except OSError as error:
            raise StudyError(f"can't write {self.folder} ({error.strerror})") from None

    def start(self, workers: int) -> None:
        """Start rendering what is not there yet, in processes of low priority."""
        spawn = multiprocessing.get_context("spawn")
        for share in range(workers):
            work = (self.folder, self.settings, self.held_out_count, share, workers)
            self._workers.append(spawn.Process(target=_render_share, args=work, daemon=True))
            self._workers[-1].start()

    def stop(self) -> None:
        """End the workers; a half-rendered identity is left to the next run."""
        for worker in self._workers:
            worker.terminate()
            worker.join()
        self._workers.clear()

    def wait(self, report: Callable[[int], None], every: float = 10) -> None:
        """Wait until the workers are through, reporting how many identities are there.

        Raises
        ------
        StudyError
            A worker failed.
        """
        while any(worker.is_alive() for worker in self._workers):
            self._workers[0].join(every)
            report(sum(1 for _ in self.folder.glob("[0-9]*.npz")))
            time.sleep(0.1)
        if any(worker.exitcode for worker in self._workers):
            raise StudyError(f"rendering into {self.folder} failed: its error stands above")

    def identity(self, seed: int) -> dict[str, np.ndarray]:
        """Return what :func:`render_identity` made, waiting for it where it is not there yet.

        With ``found``, (N, 70, 2) float32 in pixels, where the settings ask for it.
        """
        content = self._load(_training_file(self.folder, seed))
        if self.settings.found:
            content |= self._load(_found_file(self.folder, seed))
        return content

    def held_out(self) -> list[HeldOut]:
        """Return the held-out identities, waiting for those that are not there yet."""
        paths = [_held_out_file(self.folder, index) for index in range(self.held_out_count)]
        return [held_out_from(self._load(path)) for path in paths]

    def _load(self, path: Path) -> dict[str, np.ndarray]:
        while not path.is_file():
            if not any(worker.is_alive() for worker in self._workers) and not path.is_file():
                raise StudyError(f"{path} is not rendered, and nothing renders it: see the log")
            time.sleep(0.2)
        with np.load(path) as content:
            return {name: content[name] for name in content.files}


def _training_file(folder: Path, seed: int) -> Path:
    return folder / f"{seed:06d}.npz"


def _found_file(folder: Path, seed: int) -> Path:
    return folder / f"found-{seed:06d}.npz"


def find_points(folder: Path, seed: int) -> dict[str, np.ndarray]:
    """Find the face in every frame of an identity: ``found`` (N, 70, 2), NaN where there is none.

    Raises
    ------
    MissingPackageError
        MediaPipe's models are not installed.
    """
    from studykit.media.faces import find_faces
    from studykit.media.following import points_of

    with np.load(_training_file(folder, seed)) as content:
        frames = content["images"]
    faces = (next(iter(find_faces(frame, finder="mediapipe")), None) for frame in frames)
    return {"found": np.stack(list(map(points_of, faces))).astype(np.float32)}


def halved(image: np.ndarray) -> np.ndarray:
    """Average 2 x 2 pixels of an (H, W, 3) uint8 image."""
    height, width = (side // 2 for side in image.shape[:2])
    means = image.reshape(height, 2, width, 2, 3).mean((1, 3), dtype=np.float32)
    return np.rint(means).astype(np.uint8)


def made_identity(seed: int, settings: DataSettings) -> dict[str, np.ndarray]:
    """Animate an identity's first frame by the others, with every method of ``made_by``.

    Every other identity is a wild one. Frames whose head is turned too far from the first one's to
    be a fair task are left out.

    Returns
    -------
    dict of arrays
        ``source`` (2 S, 2 S, 3), the first frame; ``truth`` (N, 2 S, 2 S, 3); and ``made``
        (M, N, S, S, 3), by ``made_by``'s methods: all uint8.
    """
    from studykit.media.views import Driving, Source
    from studykit.methods import create_method

    large = dataclasses.replace(settings, size=2 * settings.size, wild=seed % 2 == 1)
    frames = rendered_frames(seed, large, np.random.default_rng([seed, 14]))
    small = [halved(frame.image) for frame in frames]
    fair = [abs(frame.pose.yaw - frames[0].pose.yaw) < _FAIR_TURN for frame in frames]
    driving = Driving("driving", lambda: list(small), Fraction(1), len(small), rendered=True)
    source, made = Source("source", small[0]), []
    for name in settings.made_by:
        method = create_method(name)
        made.append(list(method.animate(method.prepare(source), driving)))
    kept = np.flatnonzero(fair)[1:]
    return {
        "source": frames[0].image,
        "truth": np.stack([frames[i].image for i in kept]),
        "made": np.array([[clip[i] for i in kept] for clip in made], np.uint8),
    }


def _held_out_file(folder: Path, index: int) -> Path:
    return folder / f"held-out-{index:03d}.npz"


def _render_share(
    folder: Path, settings: DataSettings, held_out: int, share: int, shares: int
) -> None:
    os.nice(10)
    parent = os.getppid()
    jobs = [(_held_out_file(folder, i), render_held_out, i) for i in range(held_out)]
    jobs += [(_training_file(folder, i), render_identity, i) for i in range(settings.identities)]
    if settings.made_by:
        seeds = (*range(HELD_OUT, HELD_OUT + held_out), *range(settings.identities))
        jobs = [(_training_file(folder, seed), made_identity, seed) for seed in seeds]
    for index, (path, render_one, seed) in enumerate(jobs):
        # A training that was killed could not end its workers.
        if os.getppid() != parent:
            return
        if index % shares == share:
            _keep(path, partial(render_one, seed, settings))
            if settings.found and render_one is render_identity:
                _keep(_found_file(folder, seed), partial(find_points, folder, seed))


def _keep(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> None:
    if not path.is_file():
        with files.whole(path) as part:
            np.savez(part, **make())
