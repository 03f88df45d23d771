"""Stimuli as files: sources, drivings and their truth."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from studykit import files
from studykit.stimuli.identity import Identity
from studykit.stimuli.motion import motion
from studykit.stimuli.render import Frame, render
from studykit.stimuli.state import Expression, Pose, State
from studykit.study.file import TYPES, slug


@dataclass(frozen=True)
class Stimulus:
    """One written source or driving.

    Attributes
    ----------
    type : {"frontal", "side", "stylised"}
    path : Path
        The image or video.
    truth : Path
        Its truth file.
    identity : Identity
    """

    type: str
    path: Path
    truth: Path
    identity: Identity


def write_stimuli(
    folder: str | Path,
    *,
    seed: int = 0,
    identities_per_type: int = 2,
    drivings_per_type: int = 1,
    frames: int = 48,
    frame_rate: Fraction | int = 25,
    size: int = 256,
) -> list[Stimulus]:
    """Write rendered sources, drivings and their truth.

    The files are ``sources/<type>/<type>-<n>.png``, ``drivings/<type>/<type>-driving-<n>.mp4``,
    for each of them ``truth/<name>.npz``, and ``study.yaml``, a study that crosses them all. The
    same arguments give the same images and truth. Sources and drivings show different people.

    A truth file holds, over its T frames (1 for a source):

    - ``landmarks`` (T, 68, 2) float32, ``visible`` (T, 68) bool;
    - ``pose`` (T, 6) float32: yaw, pitch, roll in degrees, x, y, scale;
    - ``expression`` (T, 8) float32, in the order of the fields of ``Expression``;
    - ``mask`` and ``face_mask`` (T, S, ceil(S / 8)) uint8, rows of bits (``numpy.unpackbits``);
    - ``identity``, ``size`` and ``frame_rate``: what renders it again (``read_identity``).

    Parameters
    ----------
    folder : path
        Made if it does not exist.
    seed : int
    identities_per_type, drivings_per_type : int
    frames : int
        Frames a driving.
    frame_rate : Fraction or int
    size : int
        Side in pixels.

    Returns
    -------
    list of Stimulus

    Raises
    ------
    MediaError
        The folder can't be written.
    """
    folder, out = Path(folder), []
    for number, kind in enumerate(TYPES):
        first = seed * 10_007 + number * 1_009
        for k in range(identities_per_type):
            state = _still(kind, np.random.default_rng([seed, number, k]))
            out.append(_write(folder, kind, k, first + k, [state], size))
        for k in range(drivings_per_type):
            states = motion(kind, first + k, frames, float(frame_rate))
            out.append(_write(folder, kind, k, first + 500 + k, states, size, Fraction(frame_rate)))
    _write_study(folder, out, seed=seed, size=size)
    return out


def _write_study(folder: Path, stimuli: list[Stimulus], *, seed: int, size: int) -> None:
    import yaml

    study: dict[str, Any] = {"name": slug(folder.resolve().name), "seed": seed, "size": size}
    study["crop"] = "centre"  # the truth holds for the whole image
    for section in ("sources", "drivings"):
        study[section] = {kind: [] for kind in TYPES}
    for item in stimuli:
        path = item.path.relative_to(folder)
        study[path.parts[0]][item.type].append(path.as_posix())
    study["methods"] = ["copy", "warp"]
    with files.whole(folder / "study.yaml") as part:
        part.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")


def _still(kind: str, rng: np.random.Generator) -> tuple[Pose, Expression]:
    yaw = rng.uniform(-6, 6)
    if kind == "side":
        yaw = rng.choice([-1, 1]) * rng.uniform(42, 60)
    pose = Pose(yaw=float(yaw), pitch=float(rng.uniform(-4, 4)), roll=float(rng.uniform(-3, 3)))
    return pose, Expression(smile=float(rng.uniform(0, 0.35)))


def _write(
    folder: Path,
    kind: str,
    number: int,
    seed: int,
    states: list[State],
    size: int,
    frame_rate: Fraction | None = None,
) -> Stimulus:
    """Render an identity's states and write them with their truth: a source has no frame rate."""
    from studykit.media import video

    identity = Identity.random(seed, "drawn" if kind == "stylised" else "photo")
    frames: list[Frame] = []

    def images() -> Iterator[np.ndarray]:
        for state in states:
            frame = render(identity, *state, size=size)
            frames.append(dataclasses.replace(frame, _points=None, _depth=None, _index=None))
            yield frame.image

    if frame_rate is None:
        path = folder / "sources" / kind / f"{kind}-{number + 1}.png"
        video.write_image(path, next(images()))
    else:
        path = folder / "drivings" / kind / f"{kind}-driving-{number + 1}.mp4"
        video.write_video(path, images(), frame_rate=frame_rate)
    truth = folder / "truth" / f"{path.stem}.npz"
    _write_truth(truth, frames, size, frame_rate, files.sha256(path))
    return Stimulus(kind, path, truth, identity)


def _write_truth(
    path: Path, frames: list[Frame], size: int, frame_rate: Fraction | None, sha256: str
) -> None:
    """Write what is true of frames that lie in a file with this hash."""
    with files.whole(path) as part:
        np.savez_compressed(
            part,
            landmarks=np.array([f.landmarks for f in frames], np.float32),
            visible=np.array([f.visible for f in frames]),
            pose=np.array([dataclasses.astuple(f.pose) for f in frames], np.float32),
            expression=np.array([dataclasses.astuple(f.expression) for f in frames], np.float32),
            mask=np.packbits([f.mask for f in frames], axis=-1),
            face_mask=np.packbits([f.face_mask for f in frames], axis=-1),
            identity=json.dumps(dataclasses.asdict(frames[0].identity)),
            size=size,
            frame_rate=str(frame_rate or ""),
            sha256=sha256,
        )


def read_identity(truth: str | Path) -> Identity:
    """Return whom a truth file shows, to be rendered again."""
    with np.load(truth) as data:
        values: dict[str, Any] = json.loads(str(data["identity"]))
    for key, value in values.items():
        values[key] = tuple(value) if isinstance(value, list) else value
    return Identity(**values)


# Who and how the embedded demo inputs show: diverse on purpose, and found by dlib.
_DEMO_SOURCES = {"frontal": (4,), "side": (0, 8), "stylised": (1, 4)}
_DEMO_DRIVINGS = {"frontal": (22, 13), "side": (16, 18), "stylised": (8, 14)}
# Enough for a turn and a few words; every second is kept, so that the demo takes minutes.
_DEMO_FRAMES = 36


def write_demo_inputs(folder: str | Path) -> list[Path]:
    """Write the inputs of the embedded demo study: two sources and two drivings a type.

    All are rendered but one: ``skimage.data.astronaut()`` is a real frontal photograph. The layout
    is that of ``write_stimuli``; writing again gives the same images and truth.

    Returns
    -------
    list of Path
        The images and videos.
    """
    from skimage.data import astronaut

    from studykit.media import video

    folder = Path(folder)
    out = []
    for number, kind in enumerate(TYPES):
        for k, seed in enumerate(_DEMO_SOURCES[kind]):
            state = _still(kind, np.random.default_rng([number, k]))
            out.append(_write(folder, kind, k, seed, [state], 256).path)
        for k, seed in enumerate(_DEMO_DRIVINGS[kind]):
            states = motion(kind, seed, _DEMO_FRAMES)[::2]
            out.append(_write(folder, kind, k, seed, states, 256, Fraction(25, 2)).path)
    path = folder / "sources" / "frontal" / "astronaut.png"
    video.write_image(path, astronaut())
    return [*out, path]
