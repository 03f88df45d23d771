"""A benchmark with exact targets: methods move held-out rendered faces, beside ``copy``.

What a study does with files is done here in memory: pairs of :mod:`studykit.metrics.cases` are
animated, and the frames are scored as the methods return them, so that no encoding counts.
"""

import dataclasses
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from studykit import files
from studykit.errors import NoFaceError, StudyError, StudyFileError
from studykit.media import video
from studykit.media.dlib_faces import identity_embedding
from studykit.media.faces import Finder
from studykit.media.squares import open_driving
from studykit.media.views import Driving, Source
from studykit.methods import (
    checkpoint_files,
    create_method,
    method_class,
    weights as checkpoints,
)
from studykit.methods.copy import Copy
from studykit.metrics.cases import IDENTITIES, MOTIONS, PAIRINGS, Case, cases, frames_key
from studykit.metrics.catalogue import METRICS
from studykit.metrics.identity import cosine_similarity, embedding_distance
from studykit.metrics.motion import eye_distance, faces_seen
from studykit.metrics.perceptual import frechet_distance, inception_features, unavailable
from studykit.metrics.pixels import MS_SSIM_LEAST_SIDE, Comparison
from studykit.metrics.rendered import clip_scores, find_landmarks, landmark_distance
from studykit.metrics.temporal import landmark_smoothness
from studykit.study.file import TYPES

FINDER: Finder = "dlib"
"""What finds faces, for methods and for scores: always the same, so that figures stay comparable
between machines and with those that were published with weights."""

FRAME_RATE = Fraction(1)
"""One frame a second: no method that smooths over time has a reason to lag behind."""

PAPERS = ("l1", "psnr", "ssim", "ms_ssim", "lpips", "fid", "akd", "aed_truth", "sms", "csim")
"""The metrics of papers' tables, by their names in the catalogue, over the whole image."""

FILMED = "filmed"
"""The pairing of films, each of which moves its own first frame."""

_FILMED_FRAMES = 48  # of each film, from its beginning
_EMBEDDED = 5  # every so many frames an embedding is computed, which takes long
_OF_PIXELS = ("l1", "psnr", "ssim", "ms_ssim", "lpips")
_SHOWN = (0, 1, 4, 2, 3, 7)  # of the film strips: three frontal, one side, two drawn

Clips = Mapping[tuple[str, int, str], np.ndarray]
"""Clips, (T, S, S, 3) uint8, by the method's name, the identity's index and the pairing."""


@dataclass(frozen=True)
class Scores:
    """What :func:`run_benchmark` measured.

    Attributes
    ----------
    frames : pandas.DataFrame
        One row a method, pair and frame: ``method, type, source, driving, pairing, motion, psnr,
        l1, landmarks, region, failed``; the scores are those of
        :func:`studykit.metrics.rendered.clip_scores`.
    summary : pandas.DataFrame
        One row a method, pairing and type; see :func:`summarise`.
    papers : pandas.DataFrame
        One row a method and pairing, films among them: the metrics of :data:`PAPERS` as far as
        they can be had, means over all frames but each clip's first.
    about : dict
        Seed, size and number of identities; what each method was, how many parameters it has, and
        how many seconds of a processor a frame takes.
    """

    frames: pd.DataFrame
    summary: pd.DataFrame
    papers: pd.DataFrame
    about: dict[str, Any]


def contestants(
    methods: Sequence[str], folders: Sequence[Path] = (), device: str = "auto"
) -> dict[str, Any]:
    """Make methods as the command line names them.

    Parameters
    ----------
    methods : sequence of str
        Each as in a study file: a name, or a YAML mapping such as
        ``{name: mine, method: fomm, weights: vox-256}``.
    folders : sequence of path
        Of clips made elsewhere; the folder's name is the contestant's.
    device : {"auto", "cpu", "gpu"}
        Where methods compute that can choose.

    Raises
    ------
    StudyFileError
        No such method or setting, or two of one name.
    """
    asked: list[Any] = []
    for text in methods:
        try:
            given = yaml.safe_load(text)
        except yaml.YAMLError:
            given = None
        asked.append({"method": given} if isinstance(given, str) else given)
        if not isinstance(asked[-1], dict) or "method" not in asked[-1]:
            raise StudyFileError(f'"{text}" is no method: a name, or {{method: NAME, ...}}')
    asked += [{"name": Path(f).name, "method": "folder", "path": str(f)} for f in folders]
    made: dict[str, Any] = {}
    for settings in asked:
        method = str(settings.pop("method"))
        name = str(settings.pop("name", method))
        if name in made or name in ("copy", "truth"):
            raise StudyFileError(f'two methods are called "{name}": give one a name of its own')
        if any(field.name == "device" for field in dataclasses.fields(method_class(method))):
            settings.setdefault("device", device)
        made[name] = create_method(method, **settings)
    return made


def run_benchmark(
    methods: Mapping[str, Any],
    out: str | Path,
    *,
    seed: int = 0,
    size: int = 128,
    identities: int = IDENTITIES,
    films: Sequence[Path] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Scores:
    """Score methods by their clips of the held-out identities, beside ``copy`` and the truth.

    Leaves in ``out``: ``summary.{csv,md}``, ``frames.csv``, ``benchmark.json`` and the film strips
    ``same.png`` and ``cross.png`` of six identities.

    Parameters
    ----------
    methods : mapping of str to Method
        By the name that the tables give them. A pair in which a method finds no face counts as
        if the source were held still; ``failed`` says how often.
    out : path
    seed, size, identities
        As for :func:`studykit.metrics.cases.cases`.
    films : sequence of path
        Videos of a face each, whose first frames are moved by themselves.
    say : callable
        Takes a line of progress.

    Raises
    ------
    StudyError
        A method can't run, or nothing can be written.
    """
    entered = {"copy": Copy(), **methods}
    filmed = [_film(path, size) for path in films]  # one that can't be read is said at once
    everyone = list(cases(seed=seed, size=size, identities=identities, say=say))
    pairs = list(_pairs(everyone))
    rows = [row for pair in pairs for row in _truth_rows(*pair)]
    shown: dict[tuple[str, int, str], np.ndarray] = {}
    about: dict[str, Any] = {"seed": seed, "size": size, "identities": identities}
    about["methods"], papers = {}, []
    for name, method in entered.items():
        say(f"animating and measuring {name}")
        tallies = {pairing: _Tally() for pairing in (*PAIRINGS, *([FILMED] if films else ()))}
        for case, driver, which in pairs:
            driving = _driving(driver, frames_key(driver.index, seed=seed, size=size))
            clip, failed = _animated(
                method, Source(case.name, case.own[0], FINDER, rendered=True), driving
            )
            still = failed or name == "copy"
            found = case.found[0, [0] * len(clip)] if still else find_landmarks(clip)
            tallies[PAIRINGS[which]].add(clip, found, case.frames[which], case.found[which])
            scores = clip_scores(
                clip,
                case.frames[which],
                face=case.face[which],
                landmarks=case.landmarks[which],
                found=found,
                motions=MOTIONS,
            )
            named = _named(name, case, driver, which)
            for row, values in zip(named, scores, strict=True):
                rows.append({**row, **values, "failed": failed})
            if case.index in _SHOWN and name != "copy":
                shown[name, case.index, PAIRINGS[which]] = clip
        for film, truth, known in filmed:
            clip, _ = _animated(method, Source(film.name, truth[0]), film)
            found = find_landmarks(clip)
            tallies[FILMED].add(clip, found, truth, known, steady=True)
        for pairing, tally in tallies.items():
            papers.append({"pairing": pairing, "method": name, **tally.means()})
        about["methods"][name] = _described(method) | {"seconds": _seconds(method, everyone[0])}
    frames = pd.DataFrame(rows)
    about["films"] = len(filmed)
    result = Scores(frames, summarise(frames), pd.DataFrame(papers), about)
    _write(Path(out), result, everyone, shown)
    return result


def _driving(driver: Case, key: str = "") -> Driving:
    frames = list(driver.own)
    about: dict[str, Any] = {"key": key, "finder": FINDER, "rendered": True}
    return Driving(driver.name, lambda: frames, FRAME_RATE, len(frames), **about)


def _animated(method: Any, source: Source, driving: Driving) -> tuple[np.ndarray, bool]:
    """Return a pair's clip, and whether the method refused to make it."""
    try:
        return np.stack(list(method.animate(method.prepare(source), driving))), False
    except NoFaceError:
        return np.repeat(source.image[None], driving.frame_count, axis=0), True


def _film(path: Path, size: int) -> tuple[Driving, np.ndarray, np.ndarray]:
    """Return the beginning of a film, its frames and where dlib sees the face in them."""
    opened, _ = open_driving(path, name=path.stem, size=size, crop="face")
    frames = list(itertools.islice(opened, _FILMED_FRAMES))
    points = None if opened.points is None else opened.points[: len(frames)]
    cut = Driving(path.stem, lambda: frames, opened.frame_rate, len(frames), points=points)
    return cut, np.stack(frames), find_landmarks(frames)


def _seconds(method: Any, case: Case) -> float:
    """Return how long a processor takes for a frame of a driving that was never seen before."""
    state, taken = method.prepare(Source(case.name, case.own[0], FINDER, rendered=True)), []
    for _ in range(2):  # what is made for the first frames is no part of it
        began = time.process_time()
        count = sum(1 for _ in method.animate(state, _driving(case)))
        taken.append((time.process_time() - began) / count)
    return round(min(taken), 4)


class _Tally:
    """The papers' metrics of a method's clips, frame by frame."""

    def __init__(self) -> None:
        self._found: dict[str, list[float]] = {}
        self._features: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])

    def add(
        self,
        clip: np.ndarray,
        found: np.ndarray,
        truth: np.ndarray,
        known: np.ndarray,
        steady: bool = False,
    ) -> None:
        """Compare a clip and its landmarks with the truth; ``steady`` frames follow each other."""
        lacking, size = set(unavailable()), clip.shape[1]
        lacking |= {"ms_ssim"} if size < MS_SSIM_LEAST_SIDE else set()
        for made, true in zip(clip[1:], truth[1:], strict=True):
            pair = Comparison(made, true)
            for name in _OF_PIXELS:
                if name not in lacking:
                    self._add(name, _measured(name, pair, [None])[:1])
            if "fid" not in lacking:
                for features, image in zip(self._features, (made, true), strict=True):
                    features.append(inception_features(image))
        marks = {"landmarks": found}, {"landmarks": known}
        self._add("akd", _measured("akd", *marks)[1:])
        if steady:
            self._add("sms", landmark_smoothness(found * (256 / size)))
        shown = (truth[:1], known[:1]), (clip[1:], found[1:]), (truth[1:], known[1:])
        person, ours, theirs = (_embeddings(*each) for each in shown)
        self._add("aed_truth", embedding_distance(ours, theirs))
        self._add("csim", cosine_similarity(ours, person[0]))

    def _add(self, name: str, values: Any) -> None:
        self._found.setdefault(name, []).extend(np.asarray(values)[~np.isnan(values)].tolist())

    def means(self) -> dict[str, float]:
        """Return the mean of each metric over all frames in which it has a figure."""
        means = {name: float(np.mean(values)) for name, values in self._found.items() if values}
        if self._features[0]:
            means["fid"] = frechet_distance(*map(np.stack, self._features))
        return {name: means[name] for name in PAPERS if name in means}


def _measured(metric: str, *given: Any) -> Any:
    measure = METRICS[metric].measure
    assert measure is not None
    return measure(*given)


def _embeddings(images: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Describe who is seen in every fifth image, NaN where no face is."""
    some = slice(None, None, _EMBEDDED)
    marked = zip(images[some], landmarks[some], faces_seen(landmarks)[some], strict=True)
    unknown = np.full(128, np.nan)
    return np.array([identity_embedding(i, m) if seen else unknown for i, m, seen in marked])


def _pairs(everyone: Sequence[Case]) -> Iterator[tuple[Case, Case, int]]:
    """Yield each source, the one whose motion it takes, and the index of their pairing."""
    for case in everyone:
        yield case, case, PAIRINGS.index("same")
        yield case, everyone[case.partner], PAIRINGS.index("cross")


def _truth_rows(case: Case, driver: Case, which: int) -> Iterator[dict[str, Any]]:
    """Yield how far dlib's landmarks lie from the true ones on the targets themselves."""
    eyes = float(eye_distance(case.landmarks[0, 0]))
    frames = zip(case.found[which, 1:], case.landmarks[which, 1:], strict=True)
    for row, (found, true) in zip(_named("truth", case, driver, which), frames, strict=True):
        yield {**row, "landmarks": landmark_distance(found, true, eyes)}


def _named(method: str, case: Case, driver: Case, which: int) -> list[dict[str, str]]:
    """Return what names each frame of a pair's clip but the first."""
    pair = {"type": case.type, "source": case.name, "driving": driver.name}
    pair["pairing"] = PAIRINGS[which]
    return [{"method": method, **pair, "motion": motion} for motion in MOTIONS]


def summarise(frames: pd.DataFrame) -> pd.DataFrame:
    """Average the scores of frames.

    Parameters
    ----------
    frames : pandas.DataFrame
        As :class:`Scores` holds them, with the method ``copy`` among them.

    Returns
    -------
    pandas.DataFrame
        One row a method, pairing and type (and ``all``): ``psnr``, dB in the face mask, mean over
        frames, and ``gain``, that above ``copy``; ``l1``, the mean absolute error of the image in
        % of its range, and ``l1 share`` of ``copy``'s; ``mouth`` and ``eyes``, the error around
        them when the mouth opens and when the eyes close, as a share of ``copy``'s;
        ``landmarks``, the distance of dlib's inner landmarks on the clip from the true ones in %
        of the source's eye distance, where dlib finds a face; ``missing``, % of the frames in
        which it finds none; ``failed``, % of the pairs that the method refused.
    """
    out = []
    for pairing in PAIRINGS:
        for kind in (*TYPES, "all"):
            here = frames[frames["pairing"] == pairing]
            if kind != "all":
                here = here[here["type"] == kind]
            of_method = dict(iter(here.groupby("method", sort=False)))
            for method in frames["method"].unique():
                averages = _averages(of_method[method], of_method["copy"])
                out.append({"pairing": pairing, "type": kind, "method": method, **averages})
    return pd.DataFrame(out)


def _averages(rows: pd.DataFrame, copied: pd.DataFrame) -> dict[str, float]:
    def share(column: str, motion: str = "") -> float:
        own, copys = (
            (t[t["motion"] == motion] if motion else t)[column].mean() for t in (rows, copied)
        )
        return own / copys

    return {
        "psnr": rows["psnr"].mean(),
        "gain": rows["psnr"].mean() - copied["psnr"].mean(),
        "l1": rows["l1"].mean() / 2.55,
        "l1 share": share("l1"),
        "mouth": share("region", "mouth"),
        "eyes": share("region", "blink"),
        "landmarks": rows["landmarks"].mean(),
        "missing": 100 * rows["landmarks"].isna().mean(),
        "failed": 100 * rows["failed"].mean(),
    }


_COLUMNS = (
    ("psnr", "PSNR (dB)", "{:.2f}"),
    ("gain", "above copy (dB)", "{:+.2f}"),
    ("l1", "L1 (%)", "{:.2f}"),
    ("l1 share", "of copy's", "{:.2f}"),
    ("mouth", "mouth, of copy's", "{:.2f}"),
    ("eyes", "eyes, of copy's", "{:.2f}"),
    ("landmarks", "landmarks (%)", "{:.1f}"),
    ("missing", "no face (%)", "{:.0f}"),
    ("failed", "refused (%)", "{:.0f}"),
)


def table(result: Scores) -> str:
    """Return all scores as Markdown."""
    about = result.about
    heading = (
        f"{about['identities']} held-out rendered identities at {about['size']} pixels, seed "
        f"{about['seed']}: {len(MOTIONS)} motions each. PSNR in the face mask, mean over frames; "
        "L1 of the whole image; mouth when it opens and eyes when they close, error as a share of "
        "copy's; landmarks: dlib's on the clip against the true ones, brows to mouth, in % of the "
        "eyes' distance, where dlib finds a face (truth: on the target itself); warp goes by "
        "dlib's landmarks as well. A pair that a method refuses counts as the source held still."
    )
    rows = result.frames[(result.frames["pairing"] == "same") & result.frames["psnr"].notna()]
    means = rows.pivot_table(index="motion", columns="method", values="psnr", sort=False)
    methods = list(rows["method"].unique())
    body = [[motion, *(f"{means.loc[motion, name]:.2f}" for name in methods)] for motion in MOTIONS]
    parts = [
        heading,
        summary_tables(result.summary),
        "### Motions: PSNR in the face, dB, same identity, all types",
        _markdown(["motion", *methods], body),
    ]
    return "\n\n".join(parts) + "\n"


def summary_tables(summary: pd.DataFrame) -> str:
    """Return what :func:`summarise` gives as Markdown, a table a pairing."""
    titles = {
        "same": "### Same identity: each source moved by its own driving",
        "cross": "### Cross-identity: each source moved by another one's driving",
    }
    header = ["type", "method", *(title for _, title, _ in _COLUMNS)]
    parts = []
    for pairing, title in titles.items():
        body = []
        for _, row in summary[summary["pairing"] == pairing].iterrows():
            numbers = ((form, row.get(name)) for name, _, form in _COLUMNS)
            cells = (_cell(value, form) for form, value in numbers)
            body.append([row["type"], row["method"], *cells])
        parts += [title, _markdown(header, body)]
    return "\n\n".join(parts)


def shipped(folder: Path, size: int = 256) -> list[dict[str, Any]]:
    """Read what was measured of all checkpoints in a folder, those of ``fomm`` first."""
    found = sorted(folder.glob(f"*/benchmark-{size}.json"))
    read = [json.loads(path.read_text(encoding="utf-8")) for path in found]
    return sorted(read, key=lambda content: "fomm" not in content.get("methods", {}))


def gains_table(measured: Sequence[Mapping[str, Any]]) -> str:
    """Return what methods gain above ``copy`` as Markdown, by the type of the source.

    Parameters
    ----------
    measured : sequence of dict
        Contents of ``benchmark.json``. Of a method that is in several, the first's figures count.
    """
    kinds = (*TYPES, "all")
    header = ["method", *(f"{pairing}, {kind}" for pairing in PAIRINGS for kind in kinds)]
    rows = []
    for method, content in _of_methods(measured).items():
        found = {(r["pairing"], r["type"]): r for r in _rows(content, "summary", method)}
        gains = [found[pairing, kind]["gain"] for pairing in PAIRINGS for kind in kinds]
        rest = found["same", "all"]
        numbers = [rest["mouth"], rest["eyes"], rest["landmarks"]]
        forms = ["{:+.2f}"] * len(gains) + ["{:.2f}", "{:.2f}", "{:.1f}"]
        cells = map(str.format, forms, [*gains, *numbers])
        rows.append([method, *cells])
    return _markdown([*header, "mouth", "eyes", "landmarks, %"], rows)


def papers_table(measured: Sequence[Mapping[str, Any]]) -> str:
    """Return the papers' metrics of all methods as Markdown; arguments as :func:`gains_table`."""
    header = ["pairing", "method", *(METRICS[n].label if n in METRICS else "FID" for n in PAPERS)]
    rows = []
    for pairing in (*PAIRINGS, FILMED):
        for method, content in _of_methods(measured).items():
            about = content["methods"][method]
            for found in _rows(content, "papers", method):
                if found["pairing"] == pairing:
                    cells = [_cell(found.get(name), form) for name, form in _PAPER_FORMS.items()]
                    speed = _cell(about.get("seconds"), "{:.3f}")
                    size = _cell(about.get("parameters", 0) / 1e6 or None, "{:.2f}")
                    rows.append([pairing, method, *cells, speed, size])
    return _markdown([*header, "s a frame", "parameters, millions"], rows)


_PAPER_FORMS = dict(
    zip(PAPERS, ("{:.4f}", "{:.2f}", *["{:.3f}"] * 3, "{:.1f}", "{:.2f}", "{:.3f}", "{:.1f}",
                 "{:.3f}"), strict=True)
)  # fmt: skip


def _of_methods(measured: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return which content holds the figures of each method, the baselines first."""
    holders: dict[str, Mapping[str, Any]] = {}
    for content in measured:
        for method in content.get("methods", {}):
            holders.setdefault(method, content)
    return {name: holders[name] for name in sorted(holders, key=lambda n: n not in _BASELINES)}


_BASELINES = ("copy", "warp")


def _rows(content: Mapping[str, Any], table: str, method: str) -> list[dict[str, Any]]:
    return [row for row in content.get(table, ()) if row["method"] == method]


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None or np.isnan(value) else form.format(value)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose columns are aligned: numbers, by their last row, to the right."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    sides = [">" if re.fullmatch(r"[+-]?[\d.]+|nan|–", column[-1]) else "<" for column in columns]

    def line(cells: Sequence[str]) -> str:
        padded = (f"{c:{side}{w}}" for c, side, w in zip(cells, sides, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = ["-" * (w - 1) + ("-" if s == "<" else ":") for s, w in zip(sides, widths, strict=True)]
    return "\n".join(map(line, (header, rule, *rows)))


def _described(method: Any) -> dict[str, Any]:
    """Return what a method was: its settings, the hash of its weights and their number."""
    about: dict[str, Any] = dataclasses.asdict(method) if dataclasses.is_dataclass(method) else {}
    if hasattr(method, "weights_hash"):
        about["weights SHA-256"] = method.weights_hash()
        about["parameters"] = checkpoint_files.parameters(checkpoints.load(method.weights))
    return about


def _write(out: Path, result: Scores, everyone: Sequence[Case], clips: Clips) -> None:
    tables = {"summary": result.summary, "papers": result.papers}
    rows = {k: t.astype(object).where(t.notna(), None) for k, t in tables.items()}
    content = {**result.about, **{k: t.to_dict("records") for k, t in rows.items()}}
    texts = {
        "summary.csv": files.cells_for_spreadsheets(result.summary.round(4)).to_csv(index=False),
        "frames.csv": files.cells_for_spreadsheets(result.frames.round(4)).to_csv(index=False),
        "summary.md": table(result),
        "benchmark.json": json.dumps(content, indent=1) + "\n",
    }
    try:
        for name, text in texts.items():
            with files.whole(out / name) as part:
                part.write_text(text, encoding="utf-8")
        for pairing in PAIRINGS if clips else ():
            with files.whole(out / f"{pairing}.png") as part:
                draw_sheet(everyone, clips, pairing).save(part)
    except OSError as error:
        raise StudyError(f"can't write {out} ({error.strerror}): name another folder") from None


def draw_sheet(everyone: Sequence[Case], clips: Clips, pairing: str) -> Any:
    """Draw six identities under all motions: the target, and what the methods made.

    Parameters
    ----------
    everyone : sequence of Case
    clips : mapping
        See :data:`Clips`.
    pairing : {"same", "cross"}
        Above a cross-identity target stands its driving.

    Returns
    -------
    PIL.Image.Image
    """
    from studykit.media.sheets import Strip, draw_strips

    strips = []
    for index in _SHOWN:
        case = everyone[index]
        if pairing == "cross":
            driver = everyone[case.partner]
            strips.append(Strip(("driving", driver.name, ""), [None, *driver.own[1:]]))
        truth = case.frames[PAIRINGS.index(pairing)]
        strips.append(Strip(("truth", case.name, ""), list(truth)))
        for name in dict.fromkeys(name for name, _, _ in clips):
            made = clips[name, index, pairing]
            strips.append(Strip((name, case.name, ""), [None, *made[1:]]))
    return draw_strips(strips, ["source", *MOTIONS])


def write_pairs(
    folder: str | Path,
    *,
    seed: int = 0,
    size: int = 128,
    identities: int = IDENTITIES,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write sources and drivings for methods that run elsewhere, and which clips to make of them.

    ``sources/<name>.png``, ``drivings/<name>.mp4`` and ``pairs.csv``, whose column ``clip`` names
    the file that :func:`run_benchmark` reads with the method ``folder``: the clip has one frame a
    driving frame, and the motion counts from the driving's first frame on.

    Returns
    -------
    Path
        ``pairs.csv``.

    Raises
    ------
    StudyError
        The folder can't be written.
    """
    folder = Path(folder)
    everyone = list(cases(seed=seed, size=size, identities=identities, say=say))
    lines = ["source,driving,clip"]
    for case in everyone:
        source, driving = f"sources/{case.name}.png", f"drivings/{case.name}.mp4"
        video.write_image(folder / source, case.own[0])
        video.write_video(folder / driving, case.own, frame_rate=FRAME_RATE, crf=6)
        for driver in (case.name, everyone[case.partner].name):
            lines.append(f"{source},drivings/{driver}.mp4,{case.name}__{driver}.mp4")
    path = folder / "pairs.csv"
    with files.written(path, "name another folder") as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
