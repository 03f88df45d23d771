"""A benchmark with exact targets: held-out rendered faces, moved as they and as others move.

Recorded faces have no truth for "this person, moved as that one"; rendered ones do. Every identity
has a rest of its own (where its head stands, how it smiles) and a motion, which is what changes
since the rest; the target of a pair is the source's rest changed by the driving's motion.
"""

import dataclasses
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from studykit import files
from studykit.errors import StudyError
from studykit.metrics import pixels
from studykit.stimuli.identity import Identity
from studykit.stimuli.render import render
from studykit.stimuli.state import Expression, Pose, State, transferred
from studykit.study.file import TYPES

HELD_OUT = 1_000_000
"""No model of this package is trained on identities with this seed or above.

The trainer watches its progress on the first 2,000 of them; the benchmark begins far above.
"""

IDENTITIES = 32
MOTIONS = (
    "mouth", "blink", "smile", "gaze", "turn left", "turn right", "nod up", "nod down", "tilt",
    "talk",
)  # fmt: skip
"""What every driving shows, one frame each, after a first frame at rest."""

FRAME_RATE = Fraction(1)
"""One frame a second: no method that smooths over time has a reason to lag behind."""

PAIRINGS = ("same", "cross")

_FIRST_SEED, _SEEDS_A_RUN = 2 * HELD_OUT, 10_000
_ORDER = ("frontal", "frontal", "side", "stylised")  # of the types
_SIDE = 40.0  # degrees of yaw


@dataclass(frozen=True)
class Case:
    """A held-out identity: its source, its own motion and its partner's.

    Attributes
    ----------
    index : int
    name : str
        Such as ``frontal-01``: of its source and of its driving.
    type : {"frontal", "side", "stylised"}
    partner : int
        The index of the identity of the same type whose motion it takes in the cross pair.
    own : (T, S, S, 3) uint8
        Moved by itself; the first is the source, at rest. Also the driving.
    moved : (T, S, S, 3) uint8
        Moved as the partner moves; the first is the source again.
    landmarks : (2, T, 68, 2) float32
        True landmarks of ``own`` and of ``moved``, in pixels.
    face : (2, T, S, S) bool
        Face masks.
    found : (2, T, 68, 2) float32
        What dlib finds on the true frames; NaN where it sees no face.
    """

    index: int
    name: str
    type: str
    partner: int
    own: np.ndarray
    moved: np.ndarray
    landmarks: np.ndarray
    face: np.ndarray
    found: np.ndarray

    def truth(self, pairing: str) -> np.ndarray:
        """Return the target of a pairing, ``same`` or ``cross``."""
        return self.own if pairing == "same" else self.moved


@dataclass(frozen=True)
class Scores:
    """What :func:`run_benchmark` measured.

    Attributes
    ----------
    frames : pandas.DataFrame
        One row a method, pair and frame: ``method, type, source, driving, pairing, motion, psnr,
        l1, landmarks, region, failed``; ``region`` is the mean absolute error around the mouth or
        the eyes, 0 to 255, where the motion is theirs.
    summary : pandas.DataFrame
        One row a method, pairing and type; see :func:`summarise`.
    about : dict
        Seed, size and number of identities; what each method was.
    """

    frames: Any
    summary: Any
    about: dict[str, Any]


def kind_of(index: int) -> str:
    """Return the type of the benchmark's identity of an index."""
    return _ORDER[index % len(_ORDER)]


def name_of(index: int) -> str:
    """Return the name of an identity: its type, and its number among those of the type."""
    number = sum(kind_of(k) == kind_of(index) for k in range(index + 1))
    return f"{kind_of(index)}-{number:02d}"


def partner_of(index: int) -> int:
    """Return whose motion an identity takes: neighbours of one type swap theirs."""
    same = [k for k in range(index + 2 * len(_ORDER)) if kind_of(k) == kind_of(index)]
    return same[same.index(index) ^ 1]


def identity_of(index: int, seed: int = 0) -> Identity:
    """Return the identity of an index."""
    look = "drawn" if kind_of(index) == "stylised" else "photo"
    return Identity.random(_FIRST_SEED + seed * _SEEDS_A_RUN + index, look)


def states_of(index: int, seed: int = 0) -> list[State]:
    """Return an identity's rest, and the states in which it shows every one of :data:`MOTIONS`."""
    rng = np.random.default_rng([_FIRST_SEED, seed, index])
    turned = kind_of(index) == "side"
    # Partners look to one side.
    side = (-1) ** (min(index, partner_of(index)) // (2 * len(_ORDER))) if turned else 0
    pose = Pose(
        float(side * _SIDE + (0 if turned else rng.uniform(-6, 6))),
        float(rng.uniform(-4, 4)),
        float(rng.uniform(-3, 3)),
        float(rng.normal(0, 0.01)),
        float(rng.normal(0, 0.01)),
        float(rng.uniform(0.94, 1.08)),
    )
    face = Expression(smile=float(rng.uniform(0, 0.3)))
    turn = (8, 13) if turned else (13, 21)

    def sign() -> float:
        return float(rng.choice([-1, 1]))

    def moved(look: dict[str, float] | None = None, **held: float) -> State:
        return (
            dataclasses.replace(pose, **{k: getattr(pose, k) + v for k, v in held.items()}),
            dataclasses.replace(face, **{k: getattr(face, k) + v for k, v in (look or {}).items()}),
        )

    return [
        (pose, face),
        moved({"mouth_open": rng.uniform(0.6, 0.9)}),
        moved({"blink_left": 1.0, "blink_right": 1.0}),
        moved({"smile": rng.uniform(0.55, 0.7)}),
        moved({"gaze_x": sign() * rng.uniform(0.5, 0.9), "gaze_y": rng.uniform(-0.5, 0.5)}),
        moved(yaw=-rng.uniform(*turn), x=-0.01),
        moved(yaw=rng.uniform(*turn), x=0.01),
        moved(pitch=rng.uniform(8, 13)),
        moved(pitch=-rng.uniform(8, 13)),
        moved(roll=sign() * rng.uniform(9, 14)),
        moved(
            {"mouth_open": rng.uniform(0.3, 0.5), "brows": sign() * 0.5,
             "pucker": float(rng.choice([0, 0.7]))},
            yaw=sign() * rng.uniform(5, 10), pitch=rng.uniform(-6, 6), roll=rng.uniform(-6, 6),
            x=rng.uniform(-0.02, 0.02), y=rng.uniform(-0.02, 0.02),
            scale=pose.scale * rng.uniform(-0.04, 0.04),
        ),
    ]  # fmt: skip


def render_case(index: int, *, seed: int = 0, size: int = 128) -> Case:
    """Render an identity's frames and targets, and find its landmarks on them."""
    identity, states = identity_of(index, seed), states_of(index, seed)
    partner = partner_of(index)
    theirs = states_of(partner, seed)
    moved = [transferred(states[0], theirs[0], state) for state in theirs]
    own = [render(identity, *state, size=size) for state in states]
    # The first frame of both is the source.
    other = [own[0], *(render(identity, *state, size=size) for state in moved[1:])]
    found = [[pixels.find_landmarks(frame.image) for frame in row] for row in (own, other[1:])]
    return Case(
        index,
        name_of(index),
        kind_of(index),
        partner,
        np.stack([frame.image for frame in own]),
        np.stack([frame.image for frame in other]),
        np.array([[frame.landmarks for frame in row] for row in (own, other)], np.float32),
        np.array([[frame.face_mask for frame in row] for row in (own, other)]),
        np.array([found[0], [found[0][0], *found[1]]], np.float32),
    )


def cases(
    *,
    seed: int = 0,
    size: int = 128,
    identities: int = IDENTITIES,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Case]:
    """Yield the benchmark's identities; each is rendered once and kept in the cache folder.

    Parameters
    ----------
    seed : int
        0 is the benchmark; others give other faces and motions, to see how much it matters.
    size : int
        Side of the images in pixels.
    identities : int
        A multiple of 8: half frontal, a quarter each side and stylised, in pairs.
    say : callable
        Takes a line of progress.

    Raises
    ------
    StudyError
        Another number of identities, or the cache folder can't be written.
    """
    if identities % (2 * len(_ORDER)) or not 0 < identities <= _SEEDS_A_RUN:
        raise StudyError(f"identities must be a multiple of {2 * len(_ORDER)}, not {identities}")
    from studykit.cache import cache_folder

    folder = cache_folder() / "benchmark" / _renderer()
    if folder.parent.is_dir():
        for old in folder.parent.iterdir():  # of a renderer that is no more
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)
    for index in range(identities):
        path = folder / f"{_key(index, seed, size)}.npz"
        case = _kept(path, index)
        if case is None:
            say(f"rendering {name_of(index)}, {index + 1} of {identities}")
            case = render_case(index, seed=seed, size=size)
            _keep(path, case)
        yield case


def _renderer() -> str:
    """Name the code that the pictures and what is found in them depend on."""
    from studykit import stimuli
    from studykit.media import faces

    room = Path(stimuli.__file__).parent
    code = [path for path in sorted(room.glob("*.py")) if path.name != "write.py"]
    digests = [files.sha256(path) for path in (*code, faces.__file__)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def _key(index: int, seed: int, size: int) -> str:
    """Name one case by all that it shows."""
    states, theirs = states_of(index, seed), states_of(partner_of(index), seed)
    targets = [transferred(states[0], theirs[0], state) for state in theirs]
    shown = identity_of(index, seed), states, targets
    return f"{name_of(index)}-{size}-{hashlib.sha256(repr(shown).encode()).hexdigest()[:16]}"


def _keep(path: Path, case: Case) -> None:
    try:
        with files.whole(path) as part:
            np.savez_compressed(
                part,
                own=case.own,
                moved=case.moved[1:],
                landmarks=case.landmarks,
                face=np.packbits(case.face, axis=-1),
                found=case.found,
            )
    except OSError as error:
        raise StudyError(
            f"can't write {path} ({error.strerror}): set STUDYKIT_CACHE to a folder with room"
        ) from None


def _kept(path: Path, index: int) -> Case | None:
    try:
        with np.load(path) as content:
            data = {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError):  # not there, or damaged
        return None
    own = data["own"]
    return Case(
        index,
        name_of(index),
        kind_of(index),
        partner_of(index),
        own,
        np.concatenate([own[:1], data["moved"]]),
        data["landmarks"],
        np.unpackbits(data["face"], axis=-1, count=own.shape[2]).astype(bool),
        data["found"],
    )


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
    import yaml

    from studykit.errors import StudyFileError
    from studykit.methods import create_method, method_class

    asked = []
    for text in methods:
        try:
            given = yaml.safe_load(text)
        except yaml.YAMLError:
            given = None
        if isinstance(given, str):
            given = {"method": given}
        if not isinstance(given, dict) or "method" not in given:
            raise StudyFileError(f'"{text}" is no method: a name, or {{method: NAME, ...}}')
        asked.append(given)
    asked += [{"name": Path(f).name, "method": "folder", "path": str(f)} for f in folders]
    made: dict[str, Any] = {}
    for given in asked:
        settings = {key: value for key, value in given.items() if key not in ("name", "method")}
        name, method = str(given.get("name", given["method"])), str(given["method"])
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
        As for :func:`cases`.
    say : callable
        Takes a line of progress.

    Raises
    ------
    StudyError
        A method can't run, or nothing can be written.
    """
    import pandas as pd

    from studykit.methods.copy import Copy

    entered = {"copy": Copy(), **methods}
    everyone = list(cases(seed=seed, size=size, identities=identities, say=say))
    rows = [row for case in everyone for row in _truth_rows(case)]
    strips: dict[str, dict[tuple[int, str], np.ndarray]] = {}
    for name, method in entered.items():
        say(f"animating and measuring {name}")
        for case in everyone:
            clips = _clips(method, case, everyone, (seed, size))
            for pairing, (clip, failed) in clips.items():
                still = failed or name == "copy"
                measured = _measured(case, pairing, clip, still)
                rows += [
                    {**_named(name, case, pairing, motion), **values, "failed": failed}
                    for motion, values in zip(MOTIONS, measured, strict=True)
                ]
                if case.index in _SHOWN and name != "copy":
                    strips.setdefault(name, {})[case.index, pairing] = clip
    frames = pd.DataFrame(rows)
    about = {"seed": seed, "size": size, "identities": identities}
    about["methods"] = {name: _described(method) for name, method in entered.items()}
    result = Scores(frames, summarise(frames), about)
    _write(Path(out), result, everyone, strips)
    return result


_SHOWN = (0, 1, 4, 2, 3, 7)  # three frontal, one side, two drawn


def _clips(
    method: Any, case: Case, everyone: Sequence[Case], where: tuple[int, int]
) -> dict[str, tuple[np.ndarray, bool]]:
    """Return a source's clips by pairing, and whether the method refused to make it."""
    from studykit.errors import NoFaceError
    from studykit.media.squares import Driving, Source

    out = {}
    for pairing, driver in zip(PAIRINGS, (case, everyone[case.partner]), strict=True):
        driving = Driving(
            driver.name,
            functools.partial(list, driver.own),
            FRAME_RATE,
            len(driver.own),
            key=f"benchmark {_renderer()} {_key(driver.index, *where)}",
        )
        try:
            state = method.prepare(Source(case.name, case.own[0]))
            out[pairing] = np.stack(list(method.animate(state, driving))), False
        except NoFaceError:
            out[pairing] = np.repeat(case.own[:1], len(driver.own), axis=0), True
    return out


def _truth_rows(case: Case) -> Iterator[dict[str, Any]]:
    eyes = pixels.eye_distance(case.landmarks[0, 0])
    for which, pairing in enumerate(PAIRINGS):
        for frame, motion in enumerate(MOTIONS, start=1):
            yield {
                **_named("truth", case, pairing, motion),
                "landmarks": pixels.landmark_distance(
                    case.found[which, frame], case.landmarks[which, frame], eyes
                ),
            }


def _named(method: str, case: Case, pairing: str, motion: str) -> dict[str, Any]:
    driving = case.name if pairing == "same" else name_of(case.partner)
    pair = {"type": case.type, "source": case.name, "driving": driving}
    return {"method": method, **pair, "pairing": pairing, "motion": motion}


def _measured(
    case: Case, pairing: str, clip: np.ndarray, still: bool
) -> Iterator[dict[str, float]]:
    which, truth = PAIRINGS.index(pairing), case.truth(pairing)
    landmarks = case.landmarks[which]
    eyes = pixels.eye_distance(landmarks[0])
    parts = {"mouth": pixels.MOUTH, "blink": pixels.EYES}
    for frame, motion in enumerate(MOTIONS, start=1):
        image, target = clip[frame], truth[frame]
        found = case.found[0, 0] if still else pixels.find_landmarks(image)
        values = {
            "psnr": pixels.peak_signal_noise_ratio(image, target, case.face[which, frame]),
            "l1": pixels.mean_absolute_error(image, target),
            "landmarks": pixels.landmark_distance(found, landmarks[frame], eyes),
        }
        if motion in parts:
            where = pixels.around(landmarks[[0, frame]], parts[motion], len(image))
            values["region"] = pixels.mean_absolute_error(image, target, where)
        yield values


def summarise(frames: Any) -> Any:
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
    import pandas as pd

    out = []
    methods = list(dict.fromkeys(frames["method"]))
    for pairing in PAIRINGS:
        for kind in (*TYPES, "all"):
            here = frames[frames["pairing"] == pairing]
            if kind != "all":
                here = here[here["type"] == kind]
            copied = here[here["method"] == "copy"]
            for method in methods:
                rows = here[here["method"] == method]
                out.append({"pairing": pairing, "type": kind, "method": method,
                            **_averages(rows, copied)})  # fmt: skip
    return pd.DataFrame(out)


def _averages(rows: Any, copied: Any) -> dict[str, float]:
    def share(column: str, motion: str | None = None) -> float:
        pair = [table if motion is None else table[table["motion"] == motion]
                for table in (rows, copied)]  # fmt: skip
        return pair[0][column].mean() / pair[1][column].mean()

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


def table(result: Scores) -> str:
    """Return all scores as Markdown."""
    parts = [
        _heading(result.about),
        summary_tables(result.summary),
        "### Motions: PSNR in the face, dB, same identity, all types",
        _motion_table(result.frames),
    ]
    return "\n\n".join(parts) + "\n"


def summary_tables(summary: Any) -> str:
    """Return what :func:`summarise` gives as Markdown, a table a pairing."""
    titles = {
        "same": "### Same identity: each source moved by its own driving",
        "cross": "### Cross-identity: each source moved by another one's driving",
    }
    parts = []
    for pairing, title in titles.items():
        rows = summary[summary["pairing"] == pairing]
        body = []
        for _, row in rows.iterrows():
            numbers = [_number(form, row.get(name)) for name, _, form in _COLUMNS]
            body.append([row["type"], row["method"], *numbers])
        parts += [title, _markdown(["type", "method", *_TITLES], body)]
    return "\n\n".join(parts)


def _number(form: str, value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else form.format(value)


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
_TITLES = [title for _, title, _ in _COLUMNS]


def _heading(about: dict[str, Any]) -> str:
    return (
        f"{about['identities']} held-out rendered identities at {about['size']} pixels, seed "
        f"{about['seed']}: {len(MOTIONS)} motions each. PSNR in the face mask, mean over frames; "
        "L1 of the whole image; mouth when it opens and eyes when they close, error as a share of "
        "copy's; landmarks: dlib's on the clip against the true ones, brows to mouth, in % of the "
        "eyes' distance, where dlib finds a face (truth: on the target itself). A pair that a "
        "method refuses counts as the source held still."
    )


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    columns = [*zip(header, *rows, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    words = [k < len(header) and not _is_number(columns[k][-1]) for k in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if word else cell.rjust(width)
            for cell, width, word in zip(cells, widths, words, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if word else "-" * (width - 1) + ":"
            for width, word in zip(widths, words, strict=True)]  # fmt: skip
    return "\n".join([line(header), line(rule), *map(line, rows)])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _motion_table(frames: Any) -> str:
    rows = frames[(frames["pairing"] == "same") & frames["psnr"].notna()]
    means = rows.pivot_table(index="motion", columns="method", values="psnr", sort=False)
    methods = list(dict.fromkeys(rows["method"]))
    body = [[motion, *(f"{means.loc[motion, name]:.2f}" for name in methods)] for motion in MOTIONS]
    return _markdown(["motion", *methods], body)


def _described(method: Any) -> dict[str, Any]:
    """Return what a method was: its settings, and the hash of its weights."""
    about: dict[str, Any] = dataclasses.asdict(method) if dataclasses.is_dataclass(method) else {}
    if hasattr(method, "weights_hash"):
        about["weights SHA-256"] = method.weights_hash()
    return about


def _write(
    out: Path,
    result: Scores,
    everyone: Sequence[Case],
    clips: Mapping[str, Mapping[tuple[int, str], np.ndarray]],
) -> None:
    rows = result.summary.astype(object).where(result.summary.notna(), None)
    content = {**result.about, "summary": rows.to_dict("records")}
    texts = {
        "summary.csv": result.summary.round(4).to_csv(index=False),
        "frames.csv": result.frames.round(4).to_csv(index=False),
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


def draw_sheet(
    everyone: Sequence[Case],
    clips: Mapping[str, Mapping[tuple[int, str], np.ndarray]],
    pairing: str,
) -> Any:
    """Draw six identities under all motions: the target, and what the methods made.

    Parameters
    ----------
    everyone : sequence of Case
    clips : mapping of str to mapping
        For each method its clips, (T, S, S, 3) uint8, by the identity's index and pairing.
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
        strips.append(Strip(("truth", case.name, ""), list(case.truth(pairing))))
        for name, made in clips.items():
            strips.append(Strip((name, case.name, ""), [None, *made[index, pairing][1:]]))
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
    from studykit.media import video

    folder = Path(folder)
    lines = ["source,driving,clip"]
    for case in cases(seed=seed, size=size, identities=identities, say=say):
        video.write_image(folder / "sources" / f"{case.name}.png", case.own[0])
        video.write_video(
            folder / "drivings" / f"{case.name}.mp4", case.own, frame_rate=FRAME_RATE, crf=6
        )
        for driving in (case.name, name_of(case.partner)):
            source, driven = f"sources/{case.name}.png", f"drivings/{driving}.mp4"
            lines.append(f"{source},{driven},{case.name}__{driving}.mp4")
    path = folder / "pairs.csv"
    try:
        with files.whole(path) as part:
            part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise StudyError(f"can't write {path} ({error.strerror}): name another folder") from None
    return path
