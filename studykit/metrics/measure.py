"""From clips to metrics.csv: what is seen in a frame is found once and serves all metrics.

The clips of one source and driving are measured side by side, since they share the true frames,
which may have to be rendered. Each finished cell lies in ``metrics/<cell>.npz``, figures and
curves together with the key of all they depend on: a killed run goes on, a changed clip or a
changed metric measures again.
"""

import hashlib
import json
import traceback
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from studykit import files
from studykit.cache import code_hash, kept
from studykit.clips.cells import CellRow, read_cells
from studykit.clips.executors import WorkerDied, open_executor
from studykit.errors import StudyError, first_line
from studykit.media import video
from studykit.media.squares import open_driving, open_source
from studykit.metrics import identity, motion, perceptual, temporal
from studykit.metrics.catalogue import METRICS, WORST_BY
from studykit.metrics.observe import Observation, Observer
from studykit.metrics.reconstruction import (
    MS_SSIM_LEAST_SIDE,
    l1,
    multi_scale_structural_similarities,
    peak_signal_noise_ratio,
    structural_similarities,
)
from studykit.metrics.truth import Transfer, Truth, find_truth, truth_files
from studykit.study.file import Cell, Input, Study

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("cell", "metric", "value", "unit", "better", "extractor", "driving")
_TABLE, _NOTES, _FOLDER = "metrics.csv", "metrics/notes.csv", "metrics"
# Entries of a cell's file that are no curves.
_RECORD = "measurement"
_FEATURES = ("inception", "truth_inception")
# Fewer frames with a face than this share are worth a note.
_FACES_EXPECTED = 95.0


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
        Per frame; see :func:`curves`.
    notes : tuple of str
        What is missing, and why.
    """

    cell: str
    values: dict[str, float] = field(default_factory=dict)
    driving: dict[str, float] = field(default_factory=dict)
    curves: dict[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return its rows of metrics.csv, in the order of the catalogue."""
        return [
            {
                "cell": self.cell,
                "metric": name,
                "value": self.values[name],
                "unit": metric.unit,
                "better": metric.better,
                "extractor": metric.extractor,
                "driving": self.driving.get(name, np.nan),
            }
            for name, metric in METRICS.items()
            if name in self.values
        ]


def measure_study(
    study: Study,
    out: str | Path,
    *,
    jobs: int = 1,
    only: str | None = None,
    report: Callable[[str], None] | None = None,
) -> "pd.DataFrame":
    """Measure every clip that has no measurement yet, and write metrics.csv.

    A clip that can't be measured is a line of ``metrics/notes.csv``, never a stopped study; an
    error that is not the user's leaves its traceback in ``logs/metrics-<cell>.txt``.

    Parameters
    ----------
    study : Study
    out : path
        The folder of its results, with cells.csv and clips.
    jobs : int
        How many processes of this machine measure.
    only : str, optional
        A method's or a cell's name: nothing else is measured.
    report : callable, optional
        Gets the name of each cell as it is finished.

    Returns
    -------
    DataFrame
        As :func:`load`.
    """
    out = Path(out)
    chosen = {cell.name for cell in study.cells(only)}
    rows = read_cells(out / "cells.csv")
    held, failures, pairs = [], {}, {}
    for cell in study.cells():
        row = rows.get(cell.name)
        if row is None or row.status != "done" or not (out / row.clip).is_file():
            _file_of(out, cell.name).unlink(missing_ok=True)
            continue
        key = _key(cell, row, out / row.clip)
        if cell.name in chosen and _key_held(out, cell.name) != key:
            pair = (cell.source.name, cell.driving.name)
            pairs.setdefault(pair, []).append(_Job(cell, out / row.clip, key))
        held.append((cell.name, key))
    with open_executor(jobs, None, lambda *_: None) as executor:
        for names, failure in _finished(executor, study, out, pairs.values()):
            failures.update(dict.fromkeys(names, failure) if failure else {})
            for name in names if report is not None else ():
                report(name)
    return _gather(out, held, failures)


def measure_cell(study: Study, cell: Cell, clip: str | Path) -> Measurement:
    """Measure one clip.

    Raises
    ------
    StudyError
        The clip, its source or its driving can't be read.
    """
    measured, failure = _measure_side_by_side(study, [(cell, Path(clip))])[0]
    if failure is not None:
        raise failure
    return measured


def load(out: str | Path) -> "pd.DataFrame":
    """Read metrics.csv: one row a cell and metric; without that file, a table without rows.

    Columns: cell, metric, value, unit, better ("higher" or "lower"), extractor ("" where none
    is), driving (the same figure of the driving itself, NaN where that makes no sense).
    """
    return _read_table(Path(out) / _TABLE, COLUMNS, texts=COLUMNS[:2] + COLUMNS[3:6])


def notes(out: str | Path) -> "pd.DataFrame":
    """Read what could not be measured, and why: a table of cell and note."""
    return _read_table(Path(out) / _NOTES, ("cell", "note"), texts=("cell", "note"))


def curves(out: str | Path, cell: str) -> dict[str, np.ndarray]:
    """Return what was measured in each frame of a cell's clip; empty where nothing was.

    Arrays of T float32, NaN where a frame has no figure: each pixel metric by its name and
    ``landmark_distance``, ``head_pose_error`` (only where there are true frames);
    ``landmark_motion_error``, ``head_motion_error``; ``sms``, ``jerk``, ``flow_warping_error``,
    ``flicker``; ``identity_distance`` (every sixth frame); ``yaw``, ``pitch``, ``roll``,
    ``eye_opening``, ``mouth_opening``. Those of the driving and of the true frames begin with
    ``driving_`` and ``truth_``. ``landmarks`` and its likes are (T, 68, 2); ``frame_rate`` is one
    number.
    """
    path = _file_of(Path(out), cell)
    if not path.is_file():
        return {}
    with np.load(path) as data:
        return {name: data[name] for name in data.files if name not in (_RECORD, *_FEATURES)}


def features(out: str | Path, cell: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the Inception features of a cell's frames and true frames, None without them."""
    path = _file_of(Path(out), cell)
    if not path.is_file():
        return None
    with np.load(path) as data:
        return tuple(data[name] for name in _FEATURES) if _FEATURES[0] in data.files else None


def worst_frame(found: dict[str, np.ndarray], name: str) -> int | None:
    """Return the frame of a clip's worst moment by one of its curves; None where it has none.

    Which end is worst is told by :data:`studykit.metrics.WORST_BY`.
    """
    curve = found.get(name)
    if curve is None or np.isnan(curve).all():
        return None
    return int(np.nanargmax(curve) if WORST_BY[name] == "higher" else np.nanargmin(curve))


@dataclass(frozen=True)
class _Job:
    cell: Cell
    clip: Path
    key: str


def _finished(
    executor: Executor, study: Study, out: Path, groups: Iterable[list[_Job]]
) -> Iterator[tuple[list[str], str]]:
    """Yield the cells of each group as it is measured, and what became of it if that is nothing."""
    waiting, running = iter(groups), {}
    while True:
        while len(running) < executor.room and (group := next(waiting, None)) is not None:
            future: Future = executor.submit(_measure_and_keep, study, out, group)
            running[future] = group
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            names = [job.cell.name for job in running.pop(future)]
            try:
                future.result()
                yield names, ""
            except WorkerDied as error:
                yield names, f"not measured: {error}"
            except Exception as error:
                log = out / "logs" / f"metrics-{names[0]}.txt"
                log.parent.mkdir(exist_ok=True)
                log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
                text = f"{type(error).__name__}: {first_line(error)}"
                yield names, f"not measured, by a fault in studykit: {text}; see {log}"


def _measure_and_keep(study: Study, out: Path, jobs: list[_Job], _report: Any) -> None:
    pairs = [(job.cell, job.clip) for job in jobs]
    for job, (measured, failure) in zip(jobs, _measure_side_by_side(study, pairs), strict=True):
        if failure is not None:
            measured = Measurement(job.cell.name, notes=(f"not measured: {failure}",))
        record = {
            "key": job.key,
            "values": measured.values,
            "driving": measured.driving,
            "notes": measured.notes,
        }
        with files.whole(_file_of(out, job.cell.name)) as part:
            np.savez_compressed(part, **{_RECORD: json.dumps(record)}, **measured.curves)


def _measure_side_by_side(
    study: Study, pairs: list[tuple[Cell, Path]]
) -> list[tuple[Measurement, StudyError | None]]:
    """Measure clips of one source and one driving, frame by frame beside each other."""
    source, driving = pairs[0][0].source, pairs[0][0].driving
    try:
        scene = _scene(study, source, driving)
        truths: dict[Transfer, _TrueFrames | None] = {}
        for cell, _ in pairs:
            transfer = Transfer.of(cell.method)
            if transfer not in truths:
                truth = find_truth(study, cell)
                truths[transfer] = None if truth is None else _TrueFrames(truth)
        takes = [_Take(cell, path, truths[Transfer.of(cell.method)]) for cell, path in pairs]
        under_way = True
        while under_way:
            for truth in filter(None, truths.values()):
                truth.advance()
            # Every clip goes on by a frame, before it is asked whether any did.
            under_way = any([take.advance() for take in takes])  # noqa: C419
    except StudyError as error:
        return [(Measurement(cell.name), error) for cell, _ in pairs]
    return [take.outcome(scene) for take in takes]


@dataclass(frozen=True)
class _Scene:
    """What the clips of one source and driving share.

    Attributes
    ----------
    driving : Observation
    person : (128,) float64 or None
        The embedding of the source's face.
    frame_rate : float
    notes : tuple of str
    """

    driving: Observation
    person: np.ndarray | None
    frame_rate: float
    notes: tuple[str, ...]

    def figures(self) -> dict[str, float]:
        """Return the driving's own figures, to stand beside those of its clips.

        Its likeness to its own first frame is about what a clip's to its source can be.
        """
        figures = {name: _mean(curve) for name, curve in _steadiness(self.driving).items()}
        figures["face_found"] = 100 * float(self.driving.found.mean())
        embeddings = self.driving.embeddings
        known = embeddings[~np.isnan(embeddings).any(axis=1)]
        if len(known) > 1:
            figures["aed"] = _mean(identity.embedding_distance(known[1:], known[0]))
            figures["csim"] = _mean(identity.cosine_similarity(known[1:], known[0]))
        return figures


def _scene(study: Study, source: Input, driving: Input) -> _Scene:
    from studykit.media.faces import find_faces, identity_embedding

    still, _ = open_source(source.path, name=source.name, size=study.size, crop=study.crop)
    opened, _ = open_driving(driving.path, name=driving.name, size=study.size, crop=study.crop)

    def watch() -> Iterator[np.ndarray]:
        observer = Observer()
        return (observer.update(frame) for frame in opened)

    seen = Observation(np.array(list(kept(opened, f"metrics {_code()}", watch))))
    found = find_faces(still.image)
    missing = [] if found else ["no face found in the source: AED and CSIM have no figure"]
    if not seen.found.any():
        missing.append("no face found in the driving: motion can't be compared with it")
    return _Scene(
        seen,
        identity_embedding(still.image, found[0].landmarks) if found else None,
        float(opened.frame_rate),
        tuple(missing),
    )


class _TrueFrames:
    """True frames as they come, and what is seen in them, once for all clips that share them."""

    def __init__(self, truth: Truth) -> None:
        self._frames = iter(truth.open_frames())
        self.observer = Observer(steadiness=False)
        self.features: list[np.ndarray] = []
        self.image: np.ndarray | None = None
        self.face: np.ndarray | None = None

    def advance(self) -> None:
        self.image, mask = next(self._frames, (None, None))
        if self.image is None:
            return
        seen = Observation(self.observer.update(self.image)[None])
        self.face = _hull(seen.landmarks[0], self.image.shape) if mask is None else mask
        if "fid" not in _lacking():
            self.features.append(perceptual.inception_features(self.image))


class _Take:
    """A clip while it is measured."""

    def __init__(self, cell: Cell, path: Path, truth: _TrueFrames | None) -> None:
        self.cell, self.truth = cell, truth
        self.failure: StudyError | None = None
        self._frames = video.read_frames(path)
        self._observer = Observer()
        self._scores: list[dict[str, float]] = []
        self._features: list[np.ndarray] = []
        self._ended = False

    def advance(self) -> bool:
        """Take the next frame; False once there is none."""
        if self._ended:
            return False
        try:
            frame = next(self._frames, None)
        except StudyError as error:
            self.failure, frame = error, None
        if frame is None:
            self._ended = True
            return False
        self._observer.update(frame)
        if self.truth is not None and self.truth.image is not None:
            self._scores.append(_pixel_scores(frame, self.truth.image, self.truth.face))
            if "fid" not in _lacking():
                self._features.append(perceptual.inception_features(frame))
        return True

    def outcome(self, scene: _Scene) -> tuple[Measurement, StudyError | None]:
        """Return what was measured, or nothing and why."""
        if self.failure is not None:
            return Measurement(self.cell.name), self.failure
        return self._measurement(scene), None

    def _measurement(self, scene: _Scene) -> Measurement:
        """Sum up, against the driving, the source and, where there are any, the true frames."""
        seen = self._observer.seen()
        count = len(seen)
        driving = scene.driving.fitted(count)
        relative = Transfer.of(self.cell.method).relative
        values = {"face_found": 100 * float(seen.found.mean())}
        found = _signals(seen) | _against_driving(seen, driving, relative)
        found |= {f"driving_{name}": curve for name, curve in _signals(driving).items()}
        points = {"landmarks": seen.landmarks, "driving_landmarks": driving.landmarks}
        if scene.person is not None:
            found["identity_distance"] = identity.embedding_distance(seen.embeddings, scene.person)
            values["aed"] = _mean(found["identity_distance"])
            values["csim"] = _mean(identity.cosine_similarity(seen.embeddings, scene.person))
        if self.truth is not None:
            true = self.truth.observer.seen().fitted(count)
            found |= self._pixel_curves(count) | _against_truth(seen, true)
            found |= {f"truth_{name}": curve for name, curve in _expressions(true).items()}
            points["truth_landmarks"] = true.landmarks
            apart = identity.embedding_distance(seen.embeddings, true.embeddings)
            values["akd"] = _mean(found["landmark_distance"])
            values["mkr"] = motion.missing_keypoint_rate(seen.landmarks, true.landmarks)
            values["aed_truth"] = _mean(apart)
        values |= {name: _mean(found[name]) for name in METRICS if name in found}
        return Measurement(
            self.cell.name,
            {name: value for name, value in values.items() if not np.isnan(value)},
            {name: value for name, value in scene.figures().items() if not np.isnan(value)},
            {name: curve.astype(np.float32) for name, curve in (found | points).items()}
            | {"frame_rate": np.float32(scene.frame_rate)}
            | self._kept_features(),
            scene.notes + tuple(self._remarks(seen, scene)),
        )

    def _pixel_curves(self, count: int) -> dict[str, np.ndarray]:
        names = self._scores[0] if self._scores else ()
        lacking = [np.nan] * (count - len(self._scores))
        return {name: np.array([score[name] for score in self._scores] + lacking) for name in names}

    def _kept_features(self) -> dict[str, np.ndarray]:
        if not self._features:
            return {}
        both = (self._features, self.truth.features)
        return {name: np.array(each) for name, each in zip(_FEATURES, both, strict=True)}

    def _remarks(self, seen: Observation, scene: _Scene) -> Iterator[str]:
        count, faces = len(seen), int(seen.found.sum())
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
            yield f"MS-SSIM has no figure: it needs images of {MS_SSIM_LEAST_SIDE} pixels a side"


def _pixel_scores(image: np.ndarray, truth: np.ndarray, face: np.ndarray) -> dict[str, float]:
    masks = {"": None, "_face": face}
    scores = {}
    for suffix, mask in masks.items():
        scores[f"l1{suffix}"] = l1(image, truth, mask=mask)
        scores[f"psnr{suffix}"] = peak_signal_noise_ratio(image, truth, mask=mask)
    names = {"ssim": structural_similarities}
    if min(image.shape[:2]) >= MS_SSIM_LEAST_SIDE:
        names["ms_ssim"] = multi_scale_structural_similarities
    for name, measure in names.items():
        found = measure(image, truth, list(masks.values()))
        scores |= {f"{name}{suffix}": value for suffix, value in zip(masks, found, strict=True)}
    if "lpips" not in _lacking():
        scores["lpips"] = perceptual.learned_similarity(image, truth)
    return scores


def _steadiness(seen: Observation) -> dict[str, np.ndarray]:
    return {
        "sms": temporal.landmark_smoothness(seen.landmarks),
        "jerk": temporal.jerk(seen.landmarks),
        "flow_warping_error": seen.flow_warping_error,
        "flicker": seen.flicker,
    }


def _expressions(seen: Observation) -> dict[str, np.ndarray]:
    yaw, pitch, roll = seen.poses.T
    return {
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
        "eye_opening": motion.eye_opening(seen.landmarks),
        "mouth_opening": motion.mouth_opening(seen.landmarks),
    }


def _signals(seen: Observation) -> dict[str, np.ndarray]:
    return _steadiness(seen) | _expressions(seen)


def _against_driving(
    seen: Observation, driving: Observation, relative: bool
) -> dict[str, np.ndarray]:
    found = {
        "landmark_motion_error": motion.landmark_motion_error(seen.landmarks, driving.landmarks),
        "head_motion_error": motion.head_pose_error(
            seen.poses, driving.poses, since_first=relative
        ),
    }
    angles = motion.angle_errors(seen.poses, driving.poses, since_first=relative)
    names = ("yaw_motion_error", "pitch_motion_error", "roll_motion_error")
    found |= dict(zip(names, angles.T, strict=True))
    for name, opening in (("eye", motion.eye_opening), ("mouth", motion.mouth_opening)):
        found[f"{name}_motion_error"] = motion.change_error(
            opening(seen.landmarks), opening(driving.landmarks), since_first=relative
        )
    return found


def _against_truth(seen: Observation, true: Observation) -> dict[str, np.ndarray]:
    found = {
        "landmark_distance": motion.keypoint_distance(seen.landmarks, true.landmarks),
        "head_pose_error": motion.head_pose_error(seen.poses, true.poses, since_first=False),
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


def _gather(out: Path, held: list[tuple[str, str]], failures: dict[str, str]) -> "pd.DataFrame":
    """Put the measurements that hold together into the two tables."""
    import pandas as pd

    rows, remarks = [], []
    for name, key in held:
        if name in failures:
            remarks.append((name, failures[name]))
            continue
        record = _record(out, name)
        if record.get("key") != key:
            continue
        measured = Measurement(name, record["values"], record["driving"])
        rows += measured.rows
        remarks += [(name, note) for note in record["notes"]]
    for path, table in (
        (out / _TABLE, pd.DataFrame(rows, columns=list(COLUMNS))),
        (out / _NOTES, pd.DataFrame(remarks, columns=["cell", "note"])),
    ):
        with files.whole(path) as part:
            table.to_csv(part, index=False)
    return load(out)


def _read_table(path: Path, columns: tuple[str, ...], texts: tuple[str, ...]) -> "pd.DataFrame":
    import pandas as pd

    if not path.is_file():
        return pd.DataFrame({name: pd.Series(dtype=object) for name in columns})
    numbers = {name: [""] for name in columns if name not in texts}
    table = pd.read_csv(
        path, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=numbers
    )
    return table[list(columns)]


def _file_of(out: Path, cell: str) -> Path:
    return out / _FOLDER / f"{cell}.npz"


def _record(out: Path, cell: str) -> dict[str, Any]:
    """Return what a cell's file says beside the curves; nothing where it is not whole."""
    try:
        with np.load(_file_of(out, cell)) as data:
            return json.loads(str(data[_RECORD]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}


def _key_held(out: Path, cell: str) -> str:
    """Return the key of a measurement; what failed is tried again, since its cause may be gone."""
    record = _record(out, cell)
    return record.get("key", "") if record.get("values") else ""


def _key(cell: Cell, row: CellRow, clip: Path) -> str:
    """Return a hash of all that a cell's measurement depends on."""
    parts = {
        "cell": row.cache_key,
        "clip": files.sha256(clip),
        "transfer": asdict(Transfer.of(cell.method)),
        "truth": [files.sha256(path) for path in truth_files(cell)],
        "lacking": sorted(_lacking()),
        "code": _code(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def _code() -> str:
    """Return a hash of the code that measures, finds faces and renders true frames."""
    return code_hash("studykit.metrics.measure")


@cache
def _lacking() -> frozenset[str]:
    return frozenset(perceptual.unavailable())
