"""How well held-out faces are animated, against the frames that the renderer made for them."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from studykit.methods import _fomm_motion
from studykit.metrics.pixels import Comparison, peak_signal_noise_ratio
from studykit.metrics.rendered import clip_scores, find_landmarks
from studykit.training import enhance, sparse
from studykit.training.data import DataSettings, HeldOut, held_out_points
from studykit.training.networks import Keypoints
from studykit.training.regions import aligned

_AT_ONCE = 8


def transfer(source: Keypoints, driving: Keypoints, first: Keypoints) -> Keypoints:
    """Move a source's keypoints as the driving's move from its first frame on, by fomm's own rule.

    With scale adaptation; of one source, (1, K, 2), and any number of driving frames.
    """
    names = [name for name in ("value", "jacobian") if name in source]
    if "covariance" in driving:
        driving = aligned(driving, first)
    rest, moving, start = (
        _fomm_motion.Keypoints(*(kp[name].cpu().numpy() for name in names))
        for kp in (source, driving, first)
    )
    scale = _fomm_motion.movement_scale(rest, start)
    moved = _fomm_motion.transfer(rest, moving, start, scale)
    device = source["value"].device
    found = zip(names, (moved.points, moved.jacobians), strict=False)
    return {name: torch.tensor(own, device=device) for name, own in found}


def clips(
    networks: dict[str, Any], held_out: Sequence[HeldOut], settings: DataSettings
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Animate the source of each held-out identity by its own frames, and by the other one's.

    What moves nothing restores its own frames, which were spoiled.
    """
    if "enhance" in networks:
        return [enhance.restored(networks["enhance"], item.own) for item in held_out], []
    own, cross = [], []
    for index, item in enumerate(held_out):
        source, marks = item.own[0], (None, None)
        if "motion" in networks:
            marks = held_out_points(index, settings)
        for made, driving, points in zip((own, cross), (item.own, item.other), marks, strict=True):
            if points is None:
                made.append(animate(networks, source, driving))
            else:
                made.append(sparse.animate(networks, source, marks[0][0], points))
    return own, cross


@torch.no_grad()
def animate(
    networks: dict[str, Any],
    source: np.ndarray,
    driving: np.ndarray,
    fields: list[np.ndarray] | None = None,
) -> np.ndarray:
    """Animate a source by relative motion, the driving's first frame being its start.

    The networks are in evaluation mode afterwards.

    Parameters
    ----------
    networks : dict
        ``kp_detector`` and ``generator``, as :func:`studykit.training.families.build` gives them.
    source : (S, S, 3) uint8
    driving : (T, S, S, 3) uint8
    fields : list, optional
        Is given the dense motion of every frame, (H, W, 2), where in the source it comes from.

    Returns
    -------
    (T, S, S, 3) uint8
    """
    kp_detector, generator = networks["kp_detector"], networks["generator"]
    device = next(generator.parameters()).device
    for network in (kp_detector, generator):
        network.eval()
    image = _tensor(source[None], device)
    find = getattr(kp_detector, "in_crop", kp_detector)
    rest, frames = find(image), _tensor(driving, device)
    found = find(frames)
    moved = transfer(rest, found, {name: value[:1] for name, value in found.items()})
    out = []
    for start in range(0, len(frames), _AT_ONCE):
        here = slice(start, start + _AT_ONCE)
        keypoints = {name: value[here] for name, value in moved.items()}
        count = len(keypoints["value"])
        sources = {name: value.expand(count, *value.shape[1:]) for name, value in rest.items()}
        result = generator(image.expand(count, -1, -1, -1), keypoints, sources)
        if fields is not None:
            fields.extend(result["deformation"].cpu().numpy())
        out.append((result["prediction"] * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy())
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
        ``psnr KIND``, ``cross psnr KIND`` and ``copy psnr KIND``, dB inside the face mask, mean
        over frames, for each kind of identity; ``mouth``, ``eyes``: mean absolute error around
        them when the mouth opens and when both eyes blink, as a share of the still source's;
        ``cross l1``: that of the cross-identity clips against the rendered target, as a share of
        the still source's;
        ``landmarks``, ``cross landmarks``: how far dlib's lie from the true ones, in % of the
        source's eye distance, where it sees a face and is installed.
    """
    values: dict[str, list[float]] = {}
    # A rented GPU may lack dlib.
    find = find_landmarks if importlib.util.find_spec("dlib") else _no_landmarks
    for item, clip, crossed in zip(held_out, own, cross, strict=True):
        still = np.repeat(item.own[:1], len(item.own), axis=0)
        clips = (("", clip, find), ("copy ", still, _no_landmarks), ("cross ", crossed, find))
        for who, images, look in clips:
            motions = item.labels[1:]
            truth = {"face": item.face, "landmarks": item.landmarks}
            rows = clip_scores(images, item.own, **truth, found=look(images), motions=motions)
            for motion, row in zip(motions, rows, strict=True):
                row[f"psnr {item.kind}"] = row.pop("psnr")
                if "region" in row:
                    row[motion] = row.pop("region")
                for name, value in row.items():
                    if name != "landmarks" or np.isfinite(value):  # not where dlib sees no face
                        values.setdefault(f"{who}{name}", []).append(value)
    mean = {name: float(np.mean(found)) for name, found in values.items()}
    out = {name: value for name, value in mean.items() if "psnr" in name or "landmarks" in name}
    out["mouth"] = mean["mouth"] / mean["copy mouth"]
    out["eyes"] = mean["blink"] / mean["copy blink"]
    out["cross l1"] = mean["cross l1"] / mean["copy l1"]
    return {name: round(value, 4) for name, value in out.items()}


def _no_landmarks(images: np.ndarray) -> np.ndarray:
    return np.full((len(images), 68, 2), np.nan)


def face_psnr(held_out: Sequence[HeldOut], clips: Sequence[np.ndarray]) -> float:
    """Return the PSNR inside the face mask, dB, mean over all frames but each clip's first."""
    values = [
        peak_signal_noise_ratio(Comparison(clip[frame], item.own[frame]), [item.face[frame]])[0]
        for item, clip in zip(held_out, clips, strict=True)
        for frame in range(1, len(clip))
    ]
    return float(np.mean(values))


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
