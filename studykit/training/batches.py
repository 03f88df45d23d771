"""Batches of training pairs, gathered and changed on the device that trains on them.

A batch follows from the recipe's seed and the step alone: whatever is random is drawn from a
generator seeded by the two.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from studykit.media.pose import face_model
from studykit.methods._fomm_landmarks import MarkedSource
from studykit.methods._fomm_motion import Keypoints
from studykit.methods._warp_geometry import motion_since
from studykit.training.data import FLOW_SCALE, MIRRORED, PAIRS_A_FRAME, Cache, keypoint_indices
from studykit.training.networks import coordinate_grid, inverse_2x2

_CANDIDATES = 4
_CAMERA_TURN, _CAMERA_ZOOM, _CAMERA_SHIFT = 0.035, 0.03, 0.03  # radians, share, half sides


class Batch(NamedTuple):
    """Pairs of one identity each, on the device.

    Attributes
    ----------
    source, driving : (B, 3, S, S) float32 in [0, 1]
    source_kp, driving_kp : (B, K, 2) float32 in [-1, 1]
        The renderer's.
    face : (B, 1, S, S) float32
        The driving's face mask.
    source_landmarks, landmarks : (B, 68, 2) float32
        The source's and the driving's, in pixels.
    deformation : (B, S/2, S/2, 2) float32 in [-1, 1]
        Where in the source each pixel of the driving comes from.
    seen : (B, 1, S/2, S/2) float32
        1 where the source shows it.
    background : (B, 2, 3) float32
        Where in the source what rests in the driving's background comes from.
    source_found, found : (B, 70, 2) float32, optional
        Where the product finds the source's and the driving's points, in [-1, 1], NaN where it
        sees no face.
    """

    source: Tensor
    driving: Tensor
    source_kp: Tensor
    driving_kp: Tensor
    face: Tensor
    source_landmarks: Tensor
    landmarks: Tensor
    deformation: Tensor
    seen: Tensor
    background: Tensor
    source_found: Tensor | None = None
    found: Tensor | None = None


class Marked(NamedTuple):
    """Keypoints that follow from landmarks, for some samples of a batch.

    Attributes
    ----------
    which : (B,) bool
        The samples.
    source, driving : dict
        ``value`` (B, K, 2) and ``jacobian`` (B, K, 2, 2), as the detector gives them.
    """

    which: Tensor
    source: dict[str, Tensor]
    driving: dict[str, Tensor]

    def put(self, found: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what the detector found, with ``own`` in place of it for these samples."""
        put = {}
        for name, value in own.items():
            which = self.which.view(-1, *[1] * (value.dim() - 1))
            put[name] = torch.where(which, value, found[name])
        return put


def marked(batch: Batch, share: float, rng: np.random.Generator) -> Marked:
    """Move a share of the samples by their landmarks, wrong as a detector's are.

    Every landmark of either image errs by itself, and the jaw's slide along it; a detector's errors
    are 1 to 2 % of the eyes' distance in what changes from frame to frame.
    """
    count, size = len(batch.source), batch.source.shape[-1]
    which = rng.random(count) < share
    both = torch.stack([batch.source_landmarks, batch.landmarks], 1).cpu().double().numpy()
    error = rng.uniform(0, 0.025, (count, 1, 1, 1)) * rng.standard_normal(both.shape)
    error[:, :, :17] *= 2
    both += error * np.linalg.norm(both[:, :1, 36] - both[:, :1, 45], axis=-1)[..., None, None]
    rests, moved = [], []
    for source, driving in both:
        own = MarkedSource(source, size)
        rests.append(own.rest)
        moved.append(own.moved(motion_since(own.head, driving, np.ones(len(driving)))))
    device = batch.source.device

    def stacked(found: list[Keypoints]) -> dict[str, Tensor]:
        named = {"value": [k.points for k in found], "jacobian": [k.jacobians for k in found]}
        return {k: torch.from_numpy(np.stack(v)).to(device) for k, v in named.items()}

    return Marked(torch.from_numpy(which).to(device), stacked(rests), stacked(moved))


class Shelf:
    """Rendered identities as tensors on the device, taken from the cache when a step needs them.

    Parameters
    ----------
    cache : Cache
    device : torch.device
    """

    def __init__(self, cache: Cache, device: torch.device) -> None:
        self._cache, self._device, self._filled = cache, device, 0
        self._tensors: dict[str, Tensor] = {}
        count, frames = cache.settings.identities, cache.settings.frames
        self._pairs = np.zeros((count, PAIRS_A_FRAME * frames, 2), np.int64)
        self._pair_counts = np.zeros(count, np.int64)
        self._unrest = np.zeros(self._pairs.shape[:2])  # mean length of a pair's flow
        self._opening = np.zeros(self._pairs.shape[:2])  # of the eyes from source to driving

    def draw(
        self,
        step: int,
        count: int,
        rng: np.random.Generator,
        calm: float = 0.0,
        blinks: float = 0.0,
        camera: float = 0.0,
    ) -> Batch:
        """Draw pairs, mirror half of them, change colours and sharpness alike in both images.

        Parameters
        ----------
        step, count : int
        rng : numpy.random.Generator
        calm : float
            Share of the pairs that are the calmest of a few.
        blinks : float
            Share of the pairs that are, of a few, the one in which eyes close most.
        camera : float
            Share of the pairs between which the camera moves.
        """
        size = self._cache.settings.size
        pool = self._cache.settings.available(step)
        self._fill(pool)
        identity = rng.integers(0, pool, count)
        pair = rng.integers(0, self._pair_counts[identity])
        for share, least in ((calm, self._unrest), (blinks, self._opening)):
            if share:
                others = rng.integers(0, self._pair_counts[identity], (_CANDIDATES - 1, count))
                among = np.vstack([pair, others])
                best = least[identity, among].argmin(0)
                pair = np.where(rng.random(count) < share, among[best, np.arange(count)], pair)
        driving, source = self._pairs[identity, pair].T
        where = torch.from_numpy(np.stack([identity, pair, driving, source])).to(self._device)
        identity, pair, driving, source = where
        mirrored = torch.from_numpy(rng.random(count) < 0.5).to(self._device)

        def images(frame: Tensor) -> Tensor:
            taken = self._tensors["images"][identity, frame].permute(0, 3, 1, 2)
            return _mirror(taken.float() / 255, mirrored)

        def points(name: str, frame: Tensor) -> Tensor:
            taken = self._tensors[name][identity, frame]
            return torch.where(mirrored[:, None, None], _mirror_points(taken, size), taken)

        def mask(name: str, frame: Tensor) -> Tensor:
            return _mirror(_unpacked(self._tensors[name][identity, frame])[:, None], mirrored)

        flow = self._tensors["flow"][identity, pair].permute(0, 3, 1, 2).float() / FLOW_SCALE
        flow = _mirror(flow, mirrored)
        sign = torch.where(mirrored, -1.0, 1.0)[:, None, None]
        flow = torch.stack([flow[:, 0] * sign, flow[:, 1]], -1)
        half = size // 2
        both = _augmented(torch.cat([images(source), images(driving)]), rng)
        both = both.contiguous(memory_format=torch.channels_last)
        batch = Batch(
            *both.chunk(2),
            normalised(points("keypoints", source), size),
            normalised(points("keypoints", driving), size),
            mask("face", driving),
            points("landmarks", source),
            points("landmarks", driving),
            coordinate_grid(half, half, flow) + flow / (half - 1),
            mask("seen", pair),
            torch.eye(2, 3, device=self._device).expand(count, -1, -1),
            *(
                normalised(points("found", frame), size)
                for frame in ((source, driving) if "found" in self._tensors else ())
            ),
        )
        return seen_from(batch, _draw_camera(rng, count, camera, self._device)) if camera else batch

    def identities(self) -> Iterator[Tensor]:
        """Give the frames of one identity after the other, (N, 3, S, S) float32 in [0, 1]."""
        self._fill(self._cache.settings.identities)
        for frames in self._tensors["images"]:
            yield frames.permute(0, 3, 1, 2).float() / 255

    def _fill(self, pool: int) -> None:
        """Take the identities up to a number, waiting for those that are not rendered yet."""
        for seed in range(self._filled, pool):
            content = self._cache.identity(seed)
            pairs = content.pop("pairs")
            self._pairs[seed, : len(pairs)], self._pair_counts[seed] = pairs, len(pairs)
            unrest = np.hypot(*np.moveaxis(content["flow"].astype(np.float32), -1, 0)).mean((1, 2))
            self._unrest[seed, : len(pairs)] = unrest
            gap = _lid_gap(content["keypoints"])
            self._opening[seed, : len(pairs)] = gap[pairs[:, 0]] - gap[pairs[:, 1]]
            found = ("found",) if "found" in content else ()
            for name in ("images", "keypoints", "landmarks", "face", "flow", "seen", *found):
                values = torch.from_numpy(content[name])
                if name not in self._tensors:
                    # As long as may be needed: what is not written to takes no memory on a CPU.
                    most = self._pairs.shape[1] if name in ("flow", "seen") else values.shape[0]
                    shape = (len(self._pairs), most, *values.shape[1:])
                    self._tensors[name] = torch.empty(
                        shape, dtype=values.dtype, device=self._device
                    )
                self._tensors[name][seed, : len(values)] = values.to(self._device)
        self._filled = max(self._filled, pool)


def _lid_gap(keypoints: np.ndarray) -> np.ndarray:
    """Return how far the lids of both eyes are apart, given (N, K, 2) keypoints: (N,), in pixels.

    As a share of the eyes' width it would change with every turn of the head.
    """
    upper, lower = (
        keypoints[:, keypoint_indices(f"left {lid} lid", f"right {lid} lid")]
        for lid in ("upper", "lower")
    )
    return np.linalg.norm(upper - lower, axis=-1).mean(1)


def _draw_camera(
    rng: np.random.Generator, count: int, share: float, device: torch.device
) -> Tensor:
    """Draw similarities, (B, 2, 3), of which a share is not the identity."""
    moved = rng.random(count) < share
    turn = rng.normal(0, _CAMERA_TURN, count) * moved
    zoom = np.exp(rng.normal(0, _CAMERA_ZOOM, count) * moved)
    shift = rng.normal(0, _CAMERA_SHIFT, (count, 2)) * moved[:, None]
    x, y = zoom * np.cos(turn), zoom * np.sin(turn)
    rows = np.stack([x, -y, shift[:, 0], y, x, shift[:, 1]], -1).reshape(count, 2, 3)
    return torch.tensor(rows, dtype=torch.float32, device=device)


def seen_from(batch: Batch, camera: Tensor) -> Batch:
    """Show the drivings as another camera sees them, with all that is true of them.

    The renderer's camera stands still, so that nothing would be learned about one that moves.

    Parameters
    ----------
    batch : Batch
    camera : (B, 2, 3)
        Where the former camera shows, in coordinates of the smaller grid, what this one does.
    """
    size = batch.driving.shape[-1]
    linear, shift = camera[:, None, :, :2], camera[:, None, :, 2]
    # Full pixels lie a little farther out on their own grid than on that of half the side.
    finer = shift * (size - 2) / (size - 1)
    there, finer = (
        coordinate_grid(side, side, camera) @ linear.transpose(2, 3) + by[:, None]
        for side, by in ((size // 2, shift), (size, finer))
    )
    inside = (there.abs() <= 1).all(-1)[:, None]
    resting = coordinate_grid(size // 2, size // 2, camera)
    moved = torch.cat([(batch.deformation - resting).permute(0, 3, 1, 2), batch.seen], 1)
    moved = F.grid_sample(moved, there, padding_mode="border", align_corners=True)
    shown = torch.cat([batch.driving, batch.face], 1)
    shown = F.grid_sample(shown, finer, padding_mode="reflection", align_corners=True)
    back = inverse_2x2(linear)
    marks = normalised(batch.landmarks, size)
    return batch._replace(
        driving=shown[:, :3].contiguous(memory_format=torch.channels_last),
        driving_kp=(batch.driving_kp - shift) @ back[:, 0].transpose(1, 2),
        face=(shown[:, 3:] > 0.5).float(),
        landmarks=_pixels((marks - shift) @ back[:, 0].transpose(1, 2), size),
        deformation=there + moved[:, :2].permute(0, 2, 3, 1),
        seen=(moved[:, 2:] > 0.5).float() * inside,
        background=camera,
    )


def normalised(points: Tensor, size: int) -> Tensor:
    """Give pixels of an image as coordinates in [-1, 1] of the grid of half its side.

    There, where keypoints are found and features are moved, sample i lies at pixel 2 i + 1/2.
    """
    return (points - 0.5) / (size // 2 - 1) - 1


def _pixels(points: Tensor, size: int) -> Tensor:
    """Undo :func:`normalised`."""
    return (points + 1) * (size // 2 - 1) + 0.5


def _augmented(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Change (2 B, 3, S, S) images, sources above drivings, pair by pair."""
    count, device = len(images) // 2, images.device
    changed = rng.random((count, 1)) < 0.8
    drawn = np.concatenate(
        [
            np.where(changed, np.exp(rng.normal(0, 0.12, (count, 3))), 1),  # gain
            np.where(changed, np.exp(rng.normal(0, 0.2, (count, 1))), 1),  # gamma
            np.where(changed, rng.uniform(0.4, 1.25, (count, 1)), 1),  # colour
            np.where(changed, rng.normal(0, 0.04, (count, 1)), 0),  # lift
            (rng.random((count, 1)) < 0.25) * rng.uniform(0.3, 1, (count, 1)),  # blur
        ],
        axis=1,
    )
    drawn = torch.from_numpy(np.concatenate([drawn, drawn]).astype(np.float32)).to(device)
    gain, gamma, colour, lift, blurred = drawn[..., None, None].split([3, 1, 1, 1, 1], 1)
    grey = images.mean(1, keepdim=True)
    images = (grey + (images - grey) * colour).clamp(1e-4, 1) ** gamma * gain + lift
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]).to(device) / 16
    kernel = (kernel[:, None] * kernel).repeat(3, 1, 1, 1)
    soft = F.conv2d(F.pad(images, (2, 2, 2, 2), mode="replicate"), kernel, groups=3)
    return (images + (soft - images) * blurred).clamp(0, 1)


def _unpacked(bits: Tensor) -> Tensor:
    """Undo ``np.packbits`` of square masks: (B, S * S / 8) uint8 to (B, S, S) float32."""
    shifts = torch.arange(7, -1, -1, device=bits.device, dtype=torch.uint8)
    flat = ((bits[..., None] >> shifts) & 1).flatten(1).float()
    side = round(flat.shape[1] ** 0.5)
    return flat.view(-1, side, side)


def _mirror(images: Tensor, mirrored: Tensor) -> Tensor:
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def _mirror_points(points: Tensor, size: int) -> Tensor:
    flipped = torch.stack([size - 1 - points[..., 0], points[..., 1]], -1)
    which = list(MIRRORED) if points.shape[1] == len(MIRRORED) else _mirrored_landmarks()
    return flipped[:, which[: points.shape[1]]]


@functools.cache
def _mirrored_landmarks() -> list[int]:
    """Return for every landmark, and the irises, what takes its place in a mirrored image."""
    there = face_model()[:, None] * [-1, 1, 1]
    return [*np.abs(there - face_model()).sum(2).argmin(1).tolist(), 69, 68]
