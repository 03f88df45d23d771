"""Held-out rendered faces with exact targets, moved as they and as others move.

Recorded faces have no truth for "this person, moved as that one"; rendered ones do. Every identity
has a rest of its own (where its head stands, how it smiles) and a motion, which is what changes
since the rest; the target of a pair is the source's rest changed by the driving's motion.
"""

import dataclasses
import functools
import hashlib
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from studykit import files
from studykit.cache import cache_folder, code_hash
from studykit.errors import StudyError
from studykit.metrics.rendered import find_landmarks
from studykit.stimuli.identity import Identity
from studykit.stimuli.render import render
from studykit.stimuli.state import Expression, Pose, State, transferred

HELD_OUT = 1_000_000
"""No model of this package is trained on identities with this seed or above.

The trainer watches its progress on the first 2,000 of them; the benchmark begins far above.
"""

IDENTITIES = 32
MOTIONS = (
    "mouth", "blink", "smile", "gaze", "turn left", "turn right", "nod up", "nod down", "tilt",
    "talk",
)  # fmt: skip
"""What every driving shows, one frame each, after a first frame at rest."""

PAIRINGS = ("same", "cross")

_FIRST_SEED, _SEEDS_A_RUN = 2 * HELD_OUT, 10_000
_ORDER = ("frontal", "frontal", "side", "stylised")  # of the types
_SIDE = 40.0  # degrees of yaw


@dataclass(frozen=True)
class Case:
    """A held-out identity: moved by itself, and as its partner moves.

    The first axis of the arrays is the pairing, "same" and "cross"; the first of the T frames is
    the source, at rest.

    Attributes
    ----------
    index : int
    frames : (2, T, S, S, 3) uint8
    landmarks : (2, T, 68, 2) float32
        True landmarks, in pixels.
    face : (2, T, S, S) bool
        Face masks.
    found : (2, T, 68, 2) float32
        What dlib finds on the true frames; NaN where it sees no face.
    """

    index: int
    frames: np.ndarray
    landmarks: np.ndarray
    face: np.ndarray
    found: np.ndarray

    @property
    def name(self) -> str:
        """Such as ``frontal-01``: of its source and of its driving."""
        return name_of(self.index)

    @property
    def type(self) -> str:
        """Frontal, side or stylised."""
        return kind_of(self.index)

    @property
    def partner(self) -> int:
        """The index of the identity whose motion it takes in the cross pair."""
        return partner_of(self.index)

    @property
    def own(self) -> np.ndarray:
        """Moved by itself, (T, S, S, 3) uint8: its driving, and the target of "same"."""
        return self.frames[0]

    @property
    def moved(self) -> np.ndarray:
        """Moved as the partner moves, (T, S, S, 3) uint8: the target of "cross"."""
        return self.frames[1]


def kind_of(index: int) -> str:
    """Return the type of the benchmark's identity of an index."""
    return _ORDER[index % len(_ORDER)]


def name_of(index: int) -> str:
    """Return the name of an identity: its type, and its number among those of the type."""
    number = sum(kind_of(k) == kind_of(index) for k in range(index + 1))
    return f"{kind_of(index)}-{number:02d}"


def partner_of(index: int) -> int:
    """Return whose motion an identity takes: neighbours of one type swap theirs."""
    same = [k for k in range(index + 2 * len(_ORDER)) if kind_of(k) == kind_of(index)]
    return same[same.index(index) ^ 1]


def identity_of(index: int, seed: int = 0) -> Identity:
    """Return the identity of an index."""
    look = "drawn" if kind_of(index) == "stylised" else "photo"
    return Identity.random(_FIRST_SEED + seed * _SEEDS_A_RUN + index, look)


def states_of(index: int, seed: int = 0) -> list[State]:
    """Return an identity's rest, and the states in which it shows every one of :data:`MOTIONS`."""
    rng = np.random.default_rng([_FIRST_SEED, seed, index])
    turned = kind_of(index) == "side"
    # Partners look to one side.
    side = (-1) ** (min(index, partner_of(index)) // (2 * len(_ORDER))) if turned else 0
    pose = Pose(
        float(side * _SIDE + (0 if turned else rng.uniform(-6, 6))),
        float(rng.uniform(-4, 4)),
        float(rng.uniform(-3, 3)),
        float(rng.normal(0, 0.01)),
        float(rng.normal(0, 0.01)),
        float(rng.uniform(0.94, 1.08)),
    )
    face = Expression(smile=float(rng.uniform(0, 0.3)))
    turn = (8, 13) if turned else (13, 21)

    def sign() -> float:
        return float(rng.choice([-1, 1]))

    def moved(look: dict[str, float] | None = None, **held: float) -> State:
        return (
            dataclasses.replace(pose, **{k: getattr(pose, k) + v for k, v in held.items()}),
            dataclasses.replace(face, **{k: getattr(face, k) + v for k, v in (look or {}).items()}),
        )

    return [
        (pose, face),
        moved({"mouth_open": rng.uniform(0.6, 0.9)}),
        moved({"blink_left": 1.0, "blink_right": 1.0}),
        moved({"smile": rng.uniform(0.55, 0.7)}),
        moved({"gaze_x": sign() * rng.uniform(0.5, 0.9), "gaze_y": rng.uniform(-0.5, 0.5)}),
        moved(yaw=-rng.uniform(*turn), x=-0.01),
        moved(yaw=rng.uniform(*turn), x=0.01),
        moved(pitch=rng.uniform(8, 13)),
        moved(pitch=-rng.uniform(8, 13)),
        moved(roll=sign() * rng.uniform(9, 14)),
        moved(
            {"mouth_open": rng.uniform(0.3, 0.5), "brows": sign() * 0.5,
             "pucker": float(rng.choice([0, 0.7]))},
            yaw=sign() * rng.uniform(5, 10), pitch=rng.uniform(-6, 6), roll=rng.uniform(-6, 6),
            x=rng.uniform(-0.02, 0.02), y=rng.uniform(-0.02, 0.02),
            scale=pose.scale * rng.uniform(-0.04, 0.04),
        ),
    ]  # fmt: skip


def targets_of(index: int, seed: int = 0) -> list[State]:
    """Return an identity's rest, and its states when it moves as its partner does."""
    rest, theirs = states_of(index, seed)[0], states_of(partner_of(index), seed)
    return [transferred(rest, theirs[0], state) for state in theirs]


def render_case(index: int, *, seed: int = 0, size: int = 128) -> Case:
    """Render an identity's frames and targets, and find its landmarks on them."""
    identity = identity_of(index, seed)
    own = [render(identity, *state, size=size) for state in states_of(index, seed)]
    targets = targets_of(index, seed)[1:]
    both = own, [own[0], *(render(identity, *state, size=size) for state in targets)]
    frames, landmarks, face = (
        np.array([[getattr(frame, name) for frame in row] for row in both])
        for name in ("image", "landmarks", "face_mask")
    )
    found = find_landmarks([*frames[0], *frames[1, 1:]])
    found = np.stack([found[: len(own)], [found[0], *found[len(own) :]]])
    return Case(index, frames, landmarks.astype(np.float32), face, found.astype(np.float32))


def cases(
    *,
    seed: int = 0,
    size: int = 128,
    identities: int = IDENTITIES,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Case]:
    """Yield the benchmark's identities; each is rendered once and kept in the cache folder.

    Parameters
    ----------
    seed : int
        0 is the benchmark; others give other faces and motions, to see how much it matters.
    size : int
        Side of the images in pixels.
    identities : int
        A multiple of 8: half frontal, a quarter each side and stylised, in pairs.
    say : callable
        Takes a line of progress.

    Raises
    ------
    StudyError
        Another number of identities, or the cache folder can't be written.
    """
    if identities % (2 * len(_ORDER)) or not 0 < identities <= _SEEDS_A_RUN:
        raise StudyError(f"identities must be a multiple of {2 * len(_ORDER)}, not {identities}")
    folder = cache_folder() / "benchmark" / code_hash(__name__)[:16]
    if folder.parent.is_dir():
        for old in folder.parent.iterdir():  # of a renderer that is no more
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)
    for index in range(identities):
        path = folder / f"{name_of(index)}-{size}-{_shown(index, seed)}.npz"
        try:
            with np.load(path) as content:
                case = Case(index, **content)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):  # not there, or damaged
            say(f"rendering {name_of(index)}, {index + 1} of {identities}")
            case = render_case(index, seed=seed, size=size)
            _keep(path, case)
        yield case


def frames_key(index: int, *, seed: int, size: int) -> str:
    """Return what names the frames of an identity's driving: all that they depend on."""
    return f"benchmark {code_hash(__name__)} {size} {_shown(index, seed)}"


@functools.cache
def _shown(index: int, seed: int) -> str:
    """Hash who is shown in a case, and in which states."""
    shown = identity_of(index, seed), states_of(index, seed), targets_of(index, seed)
    return hashlib.sha256(repr(shown).encode()).hexdigest()[:16]


def _keep(path: Path, case: Case) -> None:
    arrays = {name: value for name, value in vars(case).items() if name != "index"}
    with files.written(path, "set STUDYKIT_CACHE to a folder with room") as part:
        np.savez_compressed(part, **arrays)
