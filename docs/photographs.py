"""How well do methods animate what people photograph and film? Measured, and drawn to be looked at.

``python docs/photographs.py SOURCES DRIVINGS --out FOLDER`` animates every picture of one folder by
every video of the other, and every video's first square by the video itself. It leaves
``clips.csv``, ``summary.md`` and a sheet of eight moments a driving and method. What it measures is
found by the detector that did not drive; the pictures stay where they are.
"""

import dataclasses
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from scipy.spatial import ConvexHull
from skimage.draw import polygon2mask

from studykit.errors import StudyError
from studykit.media.dlib_faces import identity_embedding
from studykit.media.faces import finder_used
from studykit.media.pose import eye_opening, head_pose, mouth_opening
from studykit.media.sheets import Strip, draw_strips
from studykit.media.squares import is_video, open_driving, open_source
from studykit.media.views import Driving, Source
from studykit.metrics.benchmark import contestants
from studykit.metrics.identity import embedding_distance
from studykit.metrics.motion import eye_distance, faces_seen, head_pose_error, keypoint_distance
from studykit.metrics.pixels import Comparison, peak_signal_noise_ratio
from studykit.metrics.rendered import find_landmarks

SIZE, MOMENTS = 256, 8
_FACE, _HEAD = 1.15, 2.2  # how much wider than the landmarks' hull
_EXPLAINED = """
mouth, eyes: correlation of their opening in the clip with that in the driving; turn: error of the
head's turn since the first frame, degrees; identity: distance of dlib's embedding from that of the
source, under 0.6 for one person; lost: frames without a face, %; spill: change outside the head
since the source, of 255, which tears and ghosts of hair raise. Self-driven: PSNR in the face, dB,
and distance of the landmarks from the true ones, % of the eyes' distance. The driving's own row is
what may be asked for: how far its person is from the first frame, and how far the two detectors
disagree about where its landmarks have gone since then.
"""


@dataclasses.dataclass(frozen=True)
class Shown:
    """Frames with what the measuring detector finds in them.

    Attributes
    ----------
    frames : (T, S, S, 3) uint8
    landmarks : (T, 68, 2) float64
        NaN where it finds no face.
    """

    frames: np.ndarray
    landmarks: np.ndarray

    @classmethod
    def of(cls, frames: Sequence[np.ndarray], finder: Any) -> "Shown":
        """Look for the likeliest face in each frame by itself."""
        return cls(np.stack(frames), find_landmarks(frames, finder))

    def poses(self) -> np.ndarray:
        """Return yaw, pitch and roll of each frame's head: (T, 3)."""
        return np.array(
            [
                dataclasses.astuple(head_pose(marks, self.frames.shape[1:]))
                if np.isfinite(marks).all()
                else [np.nan] * 3
                for marks in self.landmarks
            ]
        )


def sampled(path: Path, count: int, seconds: float) -> Driving:
    """Return some frames of a driving's first seconds, evenly spaced, as a video of their own."""
    opened, _ = open_driving(path, name=path.stem, size=SIZE, crop="face")
    total = min(opened.frame_count, round(seconds * opened.frame_rate))
    wanted = set(np.linspace(0, total - 1, min(count, total)).astype(int).tolist())
    frames = [frame for index, frame in zip(range(total), opened, strict=False) if index in wanted]
    rate = Fraction(opened.frame_rate) * len(frames) / total
    points = None if opened.points is None else opened.points[sorted(wanted)]
    return Driving(path.stem, lambda: frames, rate, len(frames), points=points)


def crossed(clip: Shown, driving: Shown, source: Shown) -> dict[str, float]:
    """Measure a clip of another person's picture."""
    everyone = np.array(list(map(_embedding, clip.frames, clip.landmarks)))
    known = _embedding(source.frames[0], source.landmarks[0])
    beside = [
        np.abs(frame.astype(float) - source.frames[0])[outside].mean()
        for frame, marks in zip(clip.frames, clip.landmarks, strict=True)
        if (outside := ~(_hull(marks, _HEAD) | _hull(source.landmarks[0], _HEAD))).any()
    ]
    turns = head_pose_error(clip.poses(), driving.poses(), since=0)
    return {
        "mouth": _correlation(*(mouth_opening(s.landmarks) for s in (clip, driving))),
        "eyes": _correlation(*(eye_opening(s.landmarks) for s in (clip, driving))),
        "turn": float(np.nanmean(turns)),
        "identity": float(np.nanmedian(embedding_distance(everyone, known))),
        "lost": 100 * float((~faces_seen(clip.landmarks)).mean()),
        "spill": float(np.mean(beside)) if beside else np.nan,
    }


def self_driven(clip: Shown, driving: Shown) -> dict[str, float]:
    """Measure a driving that moves its own first frame: every other one is the truth."""
    seen = faces_seen(driving.landmarks)
    pairs = list(zip(clip.frames, driving.frames, driving.landmarks, strict=True))
    levels = [
        peak_signal_noise_ratio(Comparison(frame, truth), [_hull(marks, _FACE)])[0]
        for (frame, truth, marks), there in zip(pairs[1:], seen[1:], strict=True)
        if there
    ]
    distance = keypoint_distance(clip.landmarks, driving.landmarks)[1:]
    eyes = np.nanmedian(eye_distance(driving.landmarks))
    return {
        "PSNR": float(np.mean(levels)),
        "landmarks": 100 * float(np.nanmean(distance) / eyes),
    }


def yardstick(driving: Shown, driven_by: np.ndarray) -> dict[str, float]:
    """Measure a driving beside its own first frame, as clips are measured: people differ too.

    Parameters
    ----------
    driving : Shown
    driven_by : (T, 68, 2) float64
        What the detector that drives finds in it.
    """
    everyone = np.array(list(map(_embedding, driving.frames, driving.landmarks)))
    one, other = (marks - marks[0] for marks in (driving.landmarks, driven_by))
    eyes = np.nanmedian(eye_distance(driving.landmarks))
    return {
        "identity": float(np.nanmedian(embedding_distance(everyone, everyone[0])[1:])),
        "landmarks": 100 * float(np.nanmean(keypoint_distance(one, other)[1:]) / eyes),
    }


def measure(
    methods: dict[str, Any],
    sources: Sequence[Path],
    drivings: Sequence[Path],
    out: Path,
    *,
    count: int,
    seconds: float,
    say: Callable[[str], None],
) -> pd.DataFrame:
    """Animate, measure and draw; return a row a clip."""
    other = "dlib" if finder_used() == "mediapipe" else "mediapipe"
    say(f"driven by {finder_used()}, measured by {other}")
    rows: list[dict[str, Any]] = []

    def keep(method: str, source: str, driving: str, found: dict[str, float]) -> None:
        rows.append({"method": method, "source": source, "driving": driving, **found})
        say(" ".join(f"{k} {v:.3g}" if k in found else v for k, v in rows[-1].items()))

    stills = [open_source(path, name=path.stem, size=SIZE, crop="face")[0] for path in sources]
    for path in drivings:
        driving = sampled(path, count, seconds)
        truth = Shown.of(list(driving), other)
        moments = np.linspace(0, len(truth.frames) - 1, MOMENTS).astype(int)
        own = Source(path.stem, truth.frames[0])
        seen = yardstick(truth, find_landmarks(truth.frames, finder_used()))
        keep("the driving", path.stem, path.stem, seen)
        for name, method in methods.items():
            strips = [Strip(("driving", path.stem, ""), [None, *truth.frames[moments]])]
            for source in [*stills, own]:
                state = method.prepare(source)
                clip = Shown.of(list(method.animate(state, driving)), other)
                if source is own:
                    found = self_driven(clip, truth)
                else:
                    found = crossed(clip, truth, Shown.of([source.image], other))
                keep(name, source.name, path.stem, found)
                shown = [source.image, *clip.frames[moments]]
                strips.append(Strip((name, source.name, ""), shown))
            titles = ["source", *(f"{moment}" for moment in moments)]
            draw_strips(strips, titles).save(out / f"{path.stem}-{name}.png")
    return pd.DataFrame(rows)


def summary(clips: pd.DataFrame) -> str:
    """Return a table as Markdown: medians over crossed clips, means over the self-driven."""
    parts = {
        "mouth": "median", "eyes": "median", "turn": "median", "identity": "median",
        "lost": "mean", "spill": "median", "PSNR": "mean", "landmarks": "mean",
    }  # fmt: skip
    table = clips.groupby("method", sort=False).agg(parts)
    lines = ["| method | " + " | ".join(parts) + " |", "|---" * (1 + len(parts)) + "|"]
    for name, row in table.iterrows():
        cells = ("–" if np.isnan(value) else f"{value:.3g}" for value in row)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" + _EXPLAINED


def _embedding(frame: np.ndarray, marks: np.ndarray) -> np.ndarray:
    if not np.isfinite(marks).all():
        return np.full(128, np.nan)
    return identity_embedding(frame, marks)


def _hull(marks: np.ndarray, grown: float) -> np.ndarray:
    """The pixels inside landmarks' hull, grown about its middle; none where there is no face."""
    if not np.isfinite(marks).all():
        return np.zeros((SIZE, SIZE), bool)
    hull = marks[ConvexHull(marks).vertices]
    middle = hull.mean(axis=0)
    return polygon2mask((SIZE, SIZE), (middle + grown * (hull - middle))[:, ::-1])


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    known = np.isfinite(one + other)
    if known.sum() < 3 or not one[known].std() or not other[known].std():
        return np.nan
    return float(np.corrcoef(one[known], other[known])[0, 1])


@click.command()
@click.argument("sources", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("drivings", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--method", "methods", multiple=True, help="As in a study file  [fomm and warp].")
@click.option("--frames", default=20, show_default=True, help="Of each driving.")
@click.option("--seconds", default=13.0, show_default=True, help="Of each driving, at most.")
def main(
    sources: Path, drivings: Path, out: Path, methods: tuple[str, ...], frames: int, seconds: float
) -> None:
    """Measure methods on the pictures and the videos in two folders."""
    try:
        pictures, videos = (
            [p for p in sorted(folder.iterdir()) if p.suffix != ".md" and is_video(p) is video]
            for folder, video in ((sources, False), (drivings, True))
        )
        if not pictures or not videos:
            raise StudyError("the first folder must hold pictures, the second one videos")
        out.mkdir(parents=True, exist_ok=True)
        entered = contestants(methods or ("fomm", "warp"))
        clips = measure(
            entered, pictures, videos, out, count=frames, seconds=seconds, say=click.echo
        )
    except StudyError as error:
        raise click.UsageError(str(error)) from None
    clips.to_csv(out / "clips.csv", index=False)
    (out / "summary.md").write_text(summary(clips), encoding="utf-8")
    click.echo(summary(clips))


if __name__ == "__main__":
    main()
