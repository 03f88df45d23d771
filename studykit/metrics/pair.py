"""What is measured of a clip: frame by frame beside the others of its source and driving.

They are measured side by side, since they share the true frames, which may have to be rendered.
What is seen in a frame is found once and serves all metrics.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from studykit.cache import code_hash, kept
from studykit.errors import StudyError
from studykit.media import video
from studykit.media.squares import open_driving, open_source
from studykit.metrics import identity, motion, perceptual, pixels, temporal
from studykit.metrics.catalogue import METRICS
from studykit.metrics.observe import SEEN, Observer, faces_found, fitted
from studykit.metrics.truth import Transfer, TrueFrames, find_truth
from studykit.study.file import Cell, Input, Study

FEATURES = ("inception", "truth_inception")
"""Curves that FID is made of."""

# Fewer frames with a face than this share, in %, are worth a note.
_FACES_EXPECTED = 95


@dataclass(frozen=True)
class Measurement:
    """What was measured of one cell.

    Attributes
    ----------
    cell : str
        Its name.
    values, driving : dict of float
        Figures by the metric's name: the clip's, and those of the driving itself.
    curves : dict of ndarray
        Per frame; see :func:`studykit.metrics.curves`.
    notes : tuple of str
        What is missing, and why.
    """

    cell: str
    values: dict[str, float] = field(default_factory=dict)
    driving: dict[str, float] = field(default_factory=dict)
    curves: dict[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def measure_pair(study: Study, clips: list[tuple[Cell, Path]]) -> list[Measurement | StudyError]:
    """Measure clips of one source and one driving, frame by frame beside each other.

    Returns
    -------
    list of Measurement or StudyError
        In the order of the clips: what was measured, or why nothing was.
    """
    try:
        scene = _scene(study, clips[0][0].source, clips[0][0].driving)
        truths: dict[Transfer, _Truth | None] = {}
        takes = []
        for cell, path in clips:
            transfer = Transfer.of(cell.method)
            if transfer not in truths:
                frames = find_truth(study, cell)
                truths[transfer] = None if frames is None else _Truth(frames)
            takes.append(_Take(cell, path, truths[transfer]))
        under_way = True
        while under_way:
            for truth in filter(None, truths.values()):
                truth.advance()
            # Every clip goes on by a frame, before it is asked whether any did.
            under_way = any([take.advance() for take in takes])  # noqa: C419
    except StudyError as error:
        return [error] * len(clips)
    return [take.failure or take.measurement(scene) for take in takes]


@cache
def lacking() -> frozenset[str]:
    """Return which of "lpips" and "fid" can't be measured here."""
    return frozenset(perceptual.unavailable())


@dataclass(frozen=True)
class _Scene:
    """What the clips of one source and driving share.

    Attributes
    ----------
    driving : (T,) of SEEN
    figures : dict of float
        The driving's own, to stand beside those of its clips.
    person : (128,) float64 or None
        The embedding of the source's face.
    frame_rate : float
    notes : tuple of str
    """

    driving: np.ndarray
    figures: dict[str, float]
    person: np.ndarray | None
    frame_rate: float
    notes: tuple[str, ...]


def _scene(study: Study, source: Input, driving: Input) -> _Scene:
    from studykit.media.faces import find_faces, identity_embedding

    still, _ = open_source(source.path, name=source.name, size=study.size, crop=study.crop)
    opened, _ = open_driving(driving.path, name=driving.name, size=study.size, crop=study.crop)

    def watch() -> Iterator[np.ndarray]:
        observer = Observer()
        return (observer.update(frame) for frame in opened)

    observing = "studykit.metrics.observe"
    seen = np.array(list(kept(opened, f"metrics {code_hash(observing)}", watch)), SEEN)
    found = find_faces(still.image)
    missing = [] if found else ["no face found in the source: AED and CSIM have no figure"]
    if not faces_found(seen).any():
        missing.append("no face found in the driving: motion can't be compared with it")
    return _Scene(
        seen,
        _known(_figures(seen)),
        identity_embedding(still.image, found[0].landmarks) if found else None,
        float(opened.frame_rate),
        tuple(missing),
    )


def _figures(driving: np.ndarray) -> dict[str, float]:
    """Return a driving's own figures.

    Its likeness to its own first frame is about what a clip's to its source can be.
    """
    figures = {name: _mean(curve) for name, curve in _steadiness(driving).items()}
    figures["face_found"] = 100 * float(faces_found(driving).mean())
    embeddings = driving["embedding"]
    known = embeddings[~np.isnan(embeddings).any(axis=1)]
    if len(known) > 1:
        figures["aed"] = _mean(identity.embedding_distance(known[1:], known[0]))
        figures["csim"] = _mean(identity.cosine_similarity(known[1:], known[0]))
    return figures


class _Truth:
    """True frames as they come, and what is seen in them, once for all clips that share them."""

    def __init__(self, frames: TrueFrames) -> None:
        self._frames = frames
        self.observer = Observer(steadiness=False)
        self.features: list[np.ndarray] = []
        self.image: np.ndarray | None = None
        self.face: np.ndarray | None = None

    def advance(self) -> None:
        self.image, self.face = next(self._frames, (None, None))
        if self.image is None:
            return
        seen = self.observer.update(self.image)
        if self.face is None:
            self.face = _hull(seen["landmarks"], self.image.shape)
        if "fid" not in lacking():
            self.features.append(perceptual.inception_features(self.image))


class _Take:
    """A clip while it is measured."""

    def __init__(self, cell: Cell, path: Path, truth: _Truth | None) -> None:
        self.cell, self.truth = cell, truth
        self.failure: StudyError | None = None
        self._frames = video.read_frames(path)
        self._observer = Observer()
        self._scores: list[dict[str, float]] = []
        self._features: list[np.ndarray] = []

    def advance(self) -> bool:
        """Take the next frame; False once there is none."""
        try:
            frame = next(self._frames, None)
        except StudyError as error:
            self.failure, frame = error, None
        if frame is None:
            return False
        self._observer.update(frame)
        if self.truth is not None and self.truth.image is not None:
            self._scores.append(_pixel_scores(frame, self.truth.image, self.truth.face))
            if "fid" not in lacking():
                self._features.append(perceptual.inception_features(frame))
        return True

    def measurement(self, scene: _Scene) -> Measurement:
        """Sum up, against the driving, the source and, where there are any, the true frames."""
        seen = self._observer.seen()
        count = len(seen)
        driving = fitted(scene.driving, count)
        relative = Transfer.of(self.cell.method).relative
        values = {"face_found": 100 * float(faces_found(seen).mean())}
        found = _signals(seen) | _against_driving(seen, driving, relative)
        found |= {f"driving_{name}": curve for name, curve in _signals(driving).items()}
        points = {"landmarks": seen["landmarks"], "driving_landmarks": driving["landmarks"]}
        embeddings = seen["embedding"]
        if scene.person is not None:
            found["identity_distance"] = identity.embedding_distance(embeddings, scene.person)
            values["aed"] = _mean(found["identity_distance"])
            values["csim"] = _mean(identity.cosine_similarity(embeddings, scene.person))
        if self.truth is not None:
            true = fitted(self.truth.observer.seen(), count)
            scores = pd.DataFrame(self._scores).reindex(range(count))
            found |= dict(zip(scores, scores.to_numpy().T, strict=True)) | _against_truth(
                seen, true
            )
            found |= {f"truth_{name}": curve for name, curve in _expressions(true).items()}
            points["truth_landmarks"] = true["landmarks"]
            apart = identity.embedding_distance(embeddings, true["embedding"])
            values["akd"] = _mean(found["landmark_distance"])
            values["mkr"] = motion.missing_keypoint_rate(seen["landmarks"], true["landmarks"])
            values["aed_truth"] = _mean(apart)
        values |= {name: _mean(found[name]) for name in METRICS if name in found}
        curves = {name: curve.astype(np.float32) for name, curve in (found | points).items()}
        curves["frame_rate"] = np.float32(scene.frame_rate)
        if self._features:
            both = self._features, self.truth.features
            curves |= {name: np.array(each) for name, each in zip(FEATURES, both, strict=True)}
        return Measurement(
            self.cell.name,
            _known(values),
            scene.figures,
            curves,
            scene.notes + tuple(self._remarks(seen, scene)),
        )

    def _remarks(self, seen: np.ndarray, scene: _Scene) -> Iterator[str]:
        count, faces = len(seen), int(faces_found(seen).sum())
        if not faces:
            yield (
                f"no face found in any of the clip's {count} frames: "
                "motion, identity and landmarks' steadiness have no figure"
            )
        elif 100 * faces < _FACES_EXPECTED * count:
            yield f"a face found in {faces} of the clip's {count} frames"
        if count != len(scene.driving):
            yield f"the clip has {count} frames, the driving {len(scene.driving)}"
        if self._scores and "ms_ssim" not in self._scores[0]:
            side = pixels.MS_SSIM_LEAST_SIDE
            yield f"MS-SSIM has no figure: it needs images of {side} pixels a side"


def _pixel_scores(image: np.ndarray, truth: np.ndarray, face: np.ndarray) -> dict[str, float]:
    masks = {"": None, "_face": face}
    scores = {}
    for suffix, mask in masks.items():
        scores[f"l1{suffix}"] = pixels.mean_absolute_error(image, truth, mask=mask) / 255
        scores[f"psnr{suffix}"] = pixels.peak_signal_noise_ratio(image, truth, mask=mask)
    names = {"ssim": pixels.structural_similarity}
    if min(image.shape[:2]) >= pixels.MS_SSIM_LEAST_SIDE:
        names["ms_ssim"] = pixels.multi_scale_structural_similarity
    for name, measure in names.items():
        found = measure(image, truth, list(masks.values()))
        scores |= {f"{name}{suffix}": value for suffix, value in zip(masks, found, strict=True)}
    if "lpips" not in lacking():
        scores["lpips"] = perceptual.learned_similarity(image, truth)
    return scores


def _steadiness(seen: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "sms": temporal.landmark_smoothness(seen["landmarks"]),
        "jerk": temporal.jerk(seen["landmarks"]),
        "flow_warping_error": seen["flow_warping_error"],
        "flicker": seen["flicker"],
    }


def _expressions(seen: np.ndarray) -> dict[str, np.ndarray]:
    return {
        **dict(zip(("yaw", "pitch", "roll"), seen["pose"].T, strict=True)),
        "eye_opening": motion.eye_opening(seen["landmarks"]),
        "mouth_opening": motion.mouth_opening(seen["landmarks"]),
    }


def _signals(seen: np.ndarray) -> dict[str, np.ndarray]:
    return _steadiness(seen) | _expressions(seen)


def _against_driving(
    seen: np.ndarray, driving: np.ndarray, relative: bool
) -> dict[str, np.ndarray]:
    points, poses = ((seen[name], driving[name]) for name in ("landmarks", "pose"))
    found = {
        "landmark_motion_error": motion.landmark_motion_error(*points),
        "head_motion_error": motion.head_pose_error(*poses, since_first=relative),
    }
    angles = motion.angle_errors(*poses, since_first=relative)
    names = ("yaw_motion_error", "pitch_motion_error", "roll_motion_error")
    found |= dict(zip(names, angles.T, strict=True))
    for name, opening in (("eye", motion.eye_opening), ("mouth", motion.mouth_opening)):
        openings = map(opening, points)
        found[f"{name}_motion_error"] = motion.change_error(*openings, since_first=relative)
    return found


def _against_truth(seen: np.ndarray, true: np.ndarray) -> dict[str, np.ndarray]:
    found = {
        "landmark_distance": motion.keypoint_distance(seen["landmarks"], true["landmarks"]),
        "head_pose_error": motion.head_pose_error(seen["pose"], true["pose"], since_first=False),
    }
    theirs = _expressions(true)
    for name, values in _expressions(seen).items():
        found[f"{name}_error"] = motion.change_error(values, theirs[name], since_first=False)
    return found


def _hull(landmarks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the landmarks' convex hull, from chin to brows, as a mask; nothing without a face."""
    from scipy.spatial import ConvexHull
    from skimage.draw import polygon2mask

    if np.isnan(landmarks).any():
        return np.zeros(shape[:2], bool)
    outline = landmarks[ConvexHull(landmarks).vertices]
    return polygon2mask(shape[:2], outline[:, ::-1])


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _known(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if not np.isnan(value)}
