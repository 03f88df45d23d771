"""How well held-out faces are animated, against the frames that the renderer made for them."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from studykit.metrics.pixels import (
    EYES,
    MOUTH,
    around,
    eye_distance,
    find_landmarks,
    landmark_distance,
    mean_absolute_error,
    peak_signal_noise_ratio,
)
from studykit.training.data import HeldOut
from studykit.training.networks import Keypoints, inverse_2x2

_AT_ONCE = 8


def transfer(source: Keypoints, driving: Keypoints, first: Keypoints) -> Keypoints:
    """Move a source's keypoints as the driving's move from its first frame on (section 3.4).

    With scale adaptation: by the square root of the ratio of the areas of the convex hulls.
    """
    from scipy.spatial import ConvexHull

    areas = [ConvexHull(kp["value"][0].cpu().numpy()).volume for kp in (source, first)]
    scale = float(np.sqrt(areas[0] / areas[1]))
    moved = {"value": (driving["value"] - first["value"]) * scale + source["value"]}
    if "jacobian" in driving:
        turn = driving["jacobian"] @ inverse_2x2(first["jacobian"])
        moved["jacobian"] = turn @ source["jacobian"]
    return moved


@torch.no_grad()
def animate(
    kp_detector: Any, generator: Any, source: np.ndarray, driving: np.ndarray
) -> np.ndarray:
    """Animate a source by relative motion, the driving's first frame being its start.

    The networks are in evaluation mode afterwards.

    Parameters
    ----------
    kp_detector, generator
        As :func:`studykit.training.networks.build` gives them.
    source : (S, S, 3) uint8
    driving : (T, S, S, 3) uint8

    Returns
    -------
    (T, S, S, 3) uint8
    """
    device = next(generator.parameters()).device
    for network in (kp_detector, generator):
        network.eval()
    image = _tensor(source[None], device)
    rest, frames = kp_detector(image), _tensor(driving, device)
    found = kp_detector(frames)
    moved = transfer(rest, found, {name: value[:1] for name, value in found.items()})
    out = []
    for start in range(0, len(frames), _AT_ONCE):
        here = slice(start, start + _AT_ONCE)
        keypoints = {name: value[here] for name, value in moved.items()}
        count = len(keypoints["value"])
        sources = {name: value.expand(count, *value.shape[1:]) for name, value in rest.items()}
        result = generator(image.expand(count, -1, -1, -1), keypoints, sources)["prediction"]
        out.append((result * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(out)


def scores(
    held_out: Sequence[HeldOut], own: Sequence[np.ndarray], cross: Sequence[np.ndarray]
) -> dict[str, float]:
    """Measure clips of held-out identities.

    Parameters
    ----------
    held_out : sequence of HeldOut
    own, cross : sequences of (T, S, S, 3) uint8
        Each identity's source animated by its own frames, and by those of the other identity.

    Returns
    -------
    dict
        ``psnr KIND`` and ``copy psnr KIND``, dB inside the face mask, mean over frames, for each
        kind of identity; ``mouth``, ``eyes``: mean absolute error around them when the mouth
        opens and when both eyes blink, as a share of the still source's; ``cross l1``: that of
        the cross-identity clips against the rendered target, as a share of the still source's;
        ``landmarks``, ``cross landmarks``: how far dlib's lie from the true ones, in % of the
        source's eye distance, where it sees a face and is installed.
    """
    values: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        values.setdefault(name, []).append(value)

    for item, clip, crossed in zip(held_out, own, cross, strict=True):
        still = item.own[0].astype(float)
        for frame in range(1, len(item.own)):
            truth, face = item.own[frame].astype(float), item.face[frame]
            add(f"psnr {item.kind}", peak_signal_noise_ratio(clip[frame], truth, face))
            add(f"copy psnr {item.kind}", peak_signal_noise_ratio(still, truth, face))
            add("cross error", mean_absolute_error(crossed[frame], truth))
            add("cross error of copy", mean_absolute_error(still, truth))
        for name, label, parts in (("mouth", "mouth", MOUTH), ("eyes", "blink", EYES)):
            frame = item.labels.index(label)
            truth = item.own[frame].astype(float)
            where = around(item.landmarks[[0, frame]], parts, truth.shape[0])
            add(f"{name} error", mean_absolute_error(clip[frame], truth, where))
            add(f"{name} error of copy", mean_absolute_error(still, truth, where))
        for name, images in (("landmarks", clip), ("cross landmarks", crossed)):
            for distance in _landmark_distances(item, images):
                add(name, distance)
    mean = {name: float(np.mean(found)) for name, found in values.items()}
    out = {name: value for name, value in mean.items() if "psnr" in name or "landmarks" in name}
    out["mouth"] = mean["mouth error"] / mean["mouth error of copy"]
    out["eyes"] = mean["eyes error"] / mean["eyes error of copy"]
    out["cross l1"] = mean["cross error"] / mean["cross error of copy"]
    return {name: round(value, 4) for name, value in out.items()}


def _landmark_distances(item: HeldOut, clip: np.ndarray) -> list[float]:
    if importlib.util.find_spec("dlib") is None:  # a rented GPU may lack it
        return []
    eyes = eye_distance(item.landmarks[0])
    pairs = zip(clip[1:], item.landmarks[1:], strict=True)
    distances = [landmark_distance(find_landmarks(image), truth, eyes) for image, truth in pairs]
    return [distance for distance in distances if np.isfinite(distance)]


def face_psnr(held_out: Sequence[HeldOut], clips: Sequence[np.ndarray]) -> float:
    """Return the PSNR inside the face mask, dB, mean over all frames but each clip's first."""
    return float(
        np.mean(
            [
                peak_signal_noise_ratio(clip[frame], item.own[frame], item.face[frame])
                for item, clip in zip(held_out, clips, strict=True)
                for frame in range(1, len(clip))
            ]
        )
    )


def draw_sheet(
    held_out: Sequence[HeldOut], own: Sequence[np.ndarray], cross: Sequence[np.ndarray]
) -> Any:
    """Draw rows of driving, own and crossed clips of held-out identities; a PIL image."""
    from studykit.media.sheets import Strip, draw_strips

    strips = []
    for item, clip, crossed in zip(held_out, own, cross, strict=True):
        source = item.own[0]
        strips += [
            Strip(("truth", item.kind, ""), [source, *item.own[1:]]),
            Strip(("same identity", item.kind, ""), [source, *clip[1:]]),
            Strip(("driving", "another", ""), [None, *item.other[1:]]),
            Strip(("cross-identity", item.kind, ""), [source, *crossed[1:]]),
        ]
    return draw_strips(strips, held_out[0].labels)


def _tensor(images: np.ndarray, device: torch.device) -> Tensor:
    return torch.tensor(images, device=device).permute(0, 3, 1, 2).float() / 255
