"""Motion that looks alive: swaying heads, talking mouths, blinks."""

import numpy as np

from studykit.stimuli.geometry import smoothstep
from studykit.stimuli.state import Expression, Pose
from studykit.study.file import TYPES


def motion(
    kind: str, seed: int, frames: int = 48, frame_rate: float = 25
) -> list[tuple[Pose, Expression]]:
    """Make up a smooth motion.

    Parameters
    ----------
    kind : {"frontal", "side", "stylised"}
        A talking head that sways within about 20 degrees; one turned between 40 and 70 degrees to
        one side; a livelier one within about 30 degrees. "drawn" is another name of "stylised".
    seed : int
    frames : int
    frame_rate : float or Fraction
        Frames a second: the motion's speed in seconds does not depend on it.

    Returns
    -------
    list of (Pose, Expression)
        The first is near neutral with its mouth closed, where relative motion starts.

    Raises
    ------
    ValueError
        An unknown kind.
    """
    kind = "stylised" if kind == "drawn" else kind
    if kind not in TYPES:
        raise ValueError(f"no motion {kind!r}: one of {', '.join(TYPES)}")
    rng = np.random.default_rng([seed, TYPES.index(kind)])
    t = np.arange(frames) / float(frame_rate)
    lively = 1.5 if kind == "stylised" else 1.0
    # everything starts at rest; the face gets going sooner than the head
    start, turn = _ease(t / 0.35), _ease(t / 0.8)
    if kind == "side":
        side = rng.choice([-1, 1])
        middle, reach = rng.uniform(53, 57), rng.uniform(9, 12)
        wave = _sway(rng, t, (0.28, 0.45), 1.0)
        yaw = side * np.clip(middle + reach * 1.25 * wave, 41, 69)
        pitch = turn * _sway(rng, t, (0.4, 0.8), 5.0)
        roll = turn * _sway(rng, t, (0.3, 0.5), 3.5)
    else:
        yaw = turn * _sway(rng, t, (0.25, 0.5), 17.0 if kind == "frontal" else 23.0)
        pitch = turn * (_sway(rng, t, (0.3, 0.6), 6.0) + _sway(rng, t, (0.9, 1.5), 2.2 * lively))
        roll = turn * _sway(rng, t, (0.25, 0.55), 6.0 * lively)
    shift = 0.012 * lively
    x = turn * (_sway(rng, t, (0.2, 0.4), shift) + 0.0006 * (yaw - yaw[0]))
    y = turn * (_sway(rng, t, (0.2, 0.5), 0.7 * shift) - 0.0008 * pitch)
    scale = 1 + turn * _sway(rng, t, (0.15, 0.3), 0.02 * lively)

    opening, round_, wide = _speech(rng, t, lively)
    smile = start * np.clip(0.18 + _sway(rng, t, (0.2, 0.4), 0.45 * lively), -0.2, 0.9)
    smile = np.clip(smile + 0.25 * wide, -1, 1)
    blink = _blinks(rng, t)
    glance = start * _steps(rng, t, 0.45 * lively)
    brows = start * np.clip(_sway(rng, t, (0.3, 0.7), 0.55 * lively) + 0.15 * opening, -0.6, 1)
    gaze_y = np.clip(start * _steps(rng, t, 0.22) - 0.008 * pitch, -1, 1)
    counter = -0.012 * (yaw - yaw[0]) if kind != "side" else 0 * yaw
    gaze_x = np.clip(glance + counter, -1, 1)
    poses = np.stack([yaw, pitch, roll, x, y, scale], 1).tolist()
    faces = np.stack([opening, smile, round_, blink, blink, gaze_x, gaze_y, brows], 1).tolist()
    return [(Pose(*p), Expression(*face)) for p, face in zip(poses, faces, strict=True)]


def _ease(v):
    return smoothstep(0, 1, v)


def _sway(rng, t, band, size):
    """A slow wander made of three sines whose frequencies lie in ``band`` (Hz); zero at t = 0."""
    out = np.zeros_like(t)
    for weight in (0.6, 0.35, 0.25):
        f = rng.uniform(*band) * (1 + 0.5 * rng.random())
        phase = rng.uniform(-0.6, 0.6) + np.pi * rng.integers(2)
        out += weight * (np.sin(2 * np.pi * f * t + phase) - np.sin(phase))
    return size * out / 1.1


def _speech(rng, t, lively):
    """Syllables at 3 to 5 a second with pauses: opening, rounding and spreading of the lips."""
    opening, round_, wide = (np.zeros_like(t) for _ in range(3))
    at = rng.uniform(0.22, 0.32)
    end = t[-1] + 1 if len(t) else 0
    while at < end:
        for _ in range(int(rng.integers(4, 8))):
            length = 1 / rng.uniform(3.0, 5.0)
            u = (t - at) / length
            arch = np.sin(np.pi * np.clip(u / 1.15, 0, 1)) ** 1.5
            pulse = np.where((u > 0) & (u < 1.15), arch, 0)
            opening = np.maximum(opening, pulse * rng.uniform(0.22, 0.75) * min(lively, 1.25))
            kind = rng.random()
            if kind < 0.28:
                round_ = np.maximum(round_, pulse * rng.uniform(0.4, 0.9))
            elif kind < 0.6:
                wide = np.maximum(wide, pulse * rng.uniform(0.4, 1.0))
            at += length
        at += rng.uniform(0.15, 0.4)
    return np.clip(opening, 0, 1), np.clip(round_, 0, 1), np.clip(wide, 0, 1)


def _blinks(rng, t):
    """Blinks of 150 to 250 ms, every one to three seconds; the lid falls faster than it rises."""
    out = np.zeros_like(t)
    at = rng.uniform(0.45, 1.1)
    while len(t) and at < t[-1]:
        length = rng.uniform(0.15, 0.25)
        u = (t - at) / length
        fall, rise = _ease(u / 0.35), 1 - _ease((u - 0.5) / 0.5)
        out = np.maximum(out, np.where((u > 0) & (u < 1), np.minimum(fall, rise), 0))
        at += rng.uniform(1.0, 3.0)
    return out


def _steps(rng, t, size):
    """Glances: the eyes rest, then jump within 60 ms."""
    out = np.zeros_like(t)
    at, level = rng.uniform(0.3, 0.7), 0.0
    while len(t) and at < t[-1]:
        new = float(np.clip(rng.normal(0, size), -0.9, 0.9)) * (rng.random() < 0.7)
        out += (new - level) * _ease((t - at) / 0.06)
        level = new
        at += rng.uniform(0.3, 0.9)
    return out
