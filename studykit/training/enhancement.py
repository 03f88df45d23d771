"""What ``enhance`` gains on what methods make of held-out identities, and how steady it is."""

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from studykit import files
from studykit.media.views import Driving, Source
from studykit.metrics import pixels, temporal
from studykit.training.data import halved

METHODS = ("fomm", "regions", "warp")
_SIDE = 256  # pixels of what methods make; the truth has twice as many
_FILMED = 24  # frames of the motion whose steadiness is measured
_SCORES = ("PSNR in the face", "PSNR", "L1 in the face", "L1")  # dB; % of the range
_SHOWN = (0, 2)  # identities on a picture

Frames = Sequence[np.ndarray]


def measure_enhancement(
    folder: Path, say: Callable[[str], None] = print, identities: int = 8
) -> None:
    """Write ``benchmark-256.json`` and the pictures of a folder of shipped weights.

    What the methods make at 256 pixels is compared with the rendered truth of 256 and of 512 before
    and after: in the second, before is bicubic enlargement.
    """
    from studykit.metrics.cases import identity_of, states_of

    values: dict[tuple[str, int, int], list[list[float]]] = defaultdict(list)
    rows: list[Frames] = []
    for index in range(identities):
        frames = rendered(identity_of(index), states_of(index), 2 * _SIDE)
        for method in METHODS:
            say(f"identity {index + 1} of {identities}: {method}")
            made = enhanced(folder, method, frames)
            for scale, clips in made.items():
                for which, clip in enumerate(clips):
                    for image, frame in list(zip(clip, frames, strict=True))[1:]:
                        small = scale == 1
                        truth = halved(frame.image) if small else frame.image
                        face = frame.face_mask[::2, ::2] if small else frame.face_mask
                        values[method, scale, which].append(_scores(image, truth, face))
            if index in _SHOWN:
                rows += [[*(clip[5] for clip in made[2]), frames[5].image]]
    found = []
    for method, scale in itertools.product(METHODS, (1, 2)):
        row: dict[str, Any] = {"method": method, "pixels": scale * _SIDE}
        means = (np.mean(values[method, scale, which], axis=0) for which in (0, 1))
        for name, before, after in zip(_SCORES, *means, strict=True):
            row |= {name: float(before), f"{name}, enhanced": float(after)}
        found.append(row)
    content = {"size": _SIDE, "identities": identities, "enhanced": found}
    content["temporal"] = list(_steadiness(folder))
    with files.whole(folder / "benchmark-256.json") as part:
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _keep(folder / "same.jpg", rows)
    _photographs(folder)


def rendered(identity: Any, states: Sequence[Any], size: int) -> list[Any]:
    """Render an identity's frames, the first of which is its source."""
    from studykit.stimuli import render

    return [render(identity, *state, size) for state in states]


def animated(method: str, source: np.ndarray, driving: Frames) -> Frames:
    """Animate a source by frames that the renderer made."""
    from studykit.methods import create_method

    moving = Driving("driving", lambda: driving, Fraction(25), len(driving), rendered=True)
    animator = create_method(method)
    return list(animator.animate(animator.prepare(Source("source", source)), moving))


def enhanced(
    folder: Path, method: str, frames: Sequence[Any], still: np.ndarray | None = None
) -> dict[int, tuple[Frames, Frames]]:
    """Animate a source of 512 pixels at 256, the first frame where no other is given.

    Returns the clips before and after, by scale.
    """
    import cv2

    from studykit.methods.enhance import enhancer

    source, weights = frames[0].image if still is None else still, folder / "weights.safetensors"
    small = halved(source)
    made = animated(method, small, [halved(frame.image) for frame in frames])
    side = (2 * _SIDE, 2 * _SIDE)
    large = [cv2.resize(frame, side, interpolation=cv2.INTER_CUBIC) for frame in made]
    better = [enhancer(str(weights), _SIDE, k).beside(own) for k, own in ((1, small), (2, source))]
    cleaned, doubled = ([each(frame) for frame in made] for each in better)
    return {1: (made, cleaned), 2: (large, doubled)}


def _scores(image: np.ndarray, truth: np.ndarray, face: np.ndarray) -> list[float]:
    pair = pixels.Comparison(image, truth)
    errors = pixels.mean_absolute_error(pair, [face, None])
    return [*pixels.peak_signal_noise_ratio(pair, [face, None]), *(e / 2.55 for e in errors)]


def _steadiness(folder: Path) -> Iterator[dict[str, Any]]:
    """Measure a film of a benchmark's identity, and the truth: means over its frames."""
    from studykit.metrics.cases import identity_of
    from studykit.stimuli import motion

    frames = rendered(identity_of(0), motion("frontal", 5, _FILMED), 2 * _SIDE)
    for method in METHODS:
        for scale, clips in enhanced(folder, method, frames).items():
            truth = [halved(f.image) if scale == 1 else f.image for f in frames]
            marks = [frame.landmarks * (scale / 2) for frame in frames]
            row: dict[str, Any] = {"method": method, "pixels": scale * _SIDE}
            for name, clip in zip(("", ", enhanced", ", truth"), (*clips, truth), strict=True):
                pairs = [(*clip[k : k + 2], *marks[k : k + 2]) for k in range(len(clip) - 1)]
                errors = [temporal.flow_warping_error(a, b) for a, b, *_ in pairs]
                row[f"flow-warping error{name}"] = float(np.mean(errors))
                row[f"flicker{name}"] = float(np.mean([temporal.flicker(*pair) for pair in pairs]))
            yield row


def _photographs(folder: Path) -> None:
    """Draw a photograph moved by a rendered driving, enlarged and doubled."""
    from skimage.data import astronaut

    from studykit.media.faces import find_face
    from studykit.media.geometry import face_crop
    from studykit.metrics.cases import identity_of, states_of

    image = astronaut()
    still = face_crop(find_face(image), image.shape).apply(image, 2 * _SIDE)
    frames = rendered(identity_of(0), states_of(0)[:6], 2 * _SIDE)
    rows = []
    for method in METHODS:
        clips = enhanced(folder, method, frames, still)[2]
        rows.append([*(clip[5] for clip in clips), still])
    _keep(folder / "photographs.jpg", rows)


def _keep(path: Path, rows: Sequence[Frames]) -> None:
    from PIL import Image

    with files.whole(path) as part:
        Image.fromarray(np.vstack([np.hstack(row) for row in rows])).save(part, "JPEG", quality=85)
