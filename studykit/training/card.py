"""A shipped checkpoint's figures, pictures and model card, from what its folder holds.

The card's words stand in ``model_card.md`` beside this file, those of other families than fomm in
``model_card_<family>.md``; every figure in them is filled in.
"""

import json
import string
import textwrap
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from studykit import files
from studykit.errors import StudyError
from studykit.methods import checkpoint_files, weights as checkpoints
from studykit.training.enhancement import measure_enhancement

SIZES = (128, 256)
"""At which sides a shipped checkpoint is measured: its own, and that of a study by default."""

_SHOWN_WIDTH = 1200


def measure(
    folder: Path,
    say: Callable[[str], None] = print,
    sizes: Sequence[int] = SIZES,
    films: Sequence[Path] = (),
) -> None:
    """Run the benchmark for a checkpoint's folder, and draw what it does with a photograph.

    The largest size is measured on ``films`` as well.
    """
    import tempfile

    from studykit.metrics.benchmark import run_benchmark

    if _family(folder) == "enhance":
        measure_enhancement(folder, say)
        return
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            made = Path(name)
            shown = films if size == sizes[-1] else ()
            run_benchmark(_methods(folder) | _modes(folder), made, size=size, films=shown, say=say)
            about = json.loads((made / "benchmark.json").read_text(encoding="utf-8"))
            for settings in about["methods"].values():
                settings |= {"weights": folder.name} if "weights" in settings else {}
            write_text(folder / f"benchmark-{size}.json", json.dumps(about, indent=1) + "\n")
            if size == sizes[-1]:
                for pairing in ("same", "cross"):
                    _keep_picture(made / f"{pairing}.png", folder / f"{pairing}.jpg")
    picture = photographs(folder)
    with files.whole(folder / "photographs.jpg") as part:
        picture.save(part, quality=88)


def _methods(folder: Path) -> dict[str, Any]:
    from studykit.methods import create_method

    weights, family = str(folder / "weights.safetensors"), _family(folder)
    learned = create_method(family, weights=weights, device="cpu")
    return {family: learned, "warp": create_method("warp")}


def _modes(folder: Path) -> dict[str, Any]:
    """Return the other ways to use a checkpoint that its figures tell of."""
    from studykit.methods import create_method

    weights, family = str(folder / "weights.safetensors"), _family(folder)
    return {
        f"{family}-{mode}": create_method(family, weights=weights, device="cpu", mode=mode)
        for mode in (("standard", "disentangled") if family == "regions" else ())
    }


def _family(folder: Path) -> str:
    return checkpoints.family(folder / "weights.safetensors")


def photographs(folder: Path) -> Any:
    """Draw a photograph moved by a rendered driving, by a checkpoint and by ``warp``.

    The photograph is ``skimage.data.astronaut()``; the checkpoint is that of a folder.

    Returns
    -------
    PIL.Image.Image
    """
    from skimage.data import astronaut

    from studykit.media.faces import find_face
    from studykit.media.geometry import face_crop
    from studykit.media.sheets import Strip, draw_strips
    from studykit.media.views import Driving, Source
    from studykit.metrics.cases import MOTIONS, identity_of, states_of
    from studykit.stimuli.render import render

    image = astronaut()
    still = face_crop(find_face(image), image.shape).apply(image, 256)
    identity = identity_of(0)
    frames = [render(identity, *state, size=256).image for state in states_of(0)]
    driving = Driving("rendered", lambda: frames, Fraction(1), len(frames), rendered=True)
    strips = [Strip(("driving", "rendered", ""), [None, *frames[1:]])]
    for name, method in _methods(folder).items():
        clip = list(method.animate(method.prepare(Source("photograph", still)), driving))
        strips.append(Strip((name, "photograph", ""), [still, *clip[1:]]))
    return draw_strips(strips, ["source", *MOTIONS])


def write_card(folder: Path) -> Path:
    """Write a checkpoint's ``MODEL_CARD.md`` from its folder's files.

    Raises
    ------
    StudyError
        A file is missing or damaged, or the card can't be written.
    """
    from studykit.metrics.benchmark import papers_table, shipped
    from studykit.training.recipe import read_recipe

    try:
        record = json.loads((folder / "checkpoint.json").read_text(encoding="utf-8"))
        log = [
            json.loads(line)
            for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        found = sorted(folder.glob("benchmark-*.json"), key=lambda path: len(path.name))
        measured = [json.loads(path.read_text(encoding="utf-8")) for path in found]
        loaded = checkpoints.load(folder / "weights.safetensors")
    except (OSError, ValueError) as error:
        raise StudyError(f"{folder} is no folder of a shipped checkpoint: {error}") from None
    family = _family(folder)
    config, recipe = loaded.config, read_recipe(folder / "recipe.yaml")
    values = {
        "name": folder.name,
        "size": config["size"],
        "keypoints": config.get("common_params", {}).get("num_kp"),
        "parameters": f"{checkpoint_files.parameters(loaded) / 1e6:.2f}",
        "megabytes": f"{record['bytes'] / 1e6:.1f}",
        "precision": record["precision"],
        "rounding": f"{abs(record['PSNR in float32'] - record['PSNR in float16']):.3f}",
        "sha256": record["sha256"],
        "steps": f"{record['step']:,}",
        "hours": f"{_seconds(log) / 3600:.1f}",
        "identities": f"{recipe.data.available(record['step']):,}",
        "tables": "\n\n".join(map(_tables, measured)),
        "curve": _gains(log) if family == "enhance" else _curve(log),
        "papers": papers_table(shipped(checkpoints.SHIPPED)),
        "ablations": _ablations(folder),
    }
    words = Path(__file__).with_name(
        "model_card.md" if family == "fomm" else f"model_card_{family}.md"
    )
    text = string.Template(words.read_text(encoding="utf-8")).substitute(values)
    write_text(folder / "MODEL_CARD.md", text)
    return folder / "MODEL_CARD.md"


def _seconds(log: Sequence[dict[str, Any]]) -> float:
    """Return how long a run took; its clock starts from 0 again wherever it was resumed."""
    clock = np.array([record["seconds"] for record in log if "seconds" in record])
    passed = np.diff(clock, prepend=0.0)
    return float(np.where(passed < 0, clock, passed).sum())


def _curve(log: Sequence[dict[str, Any]]) -> str:
    """Return a table of what held-out faces gained above copy, in dB, as training went on."""
    rows = []
    for record in log:
        held = record.get("held out", {})
        gains = [
            held[f"{whose}psnr {kind}"] - held[f"copy psnr {kind}"]
            for whose in ("", "cross ")
            for kind in ("frontal", "side", "drawn")
            if f"{whose}psnr {kind}" in held
        ]
        if len(gains) == 6:
            same, cross = np.reshape(gains, (2, 3)).tolist()
            rows.append([record["step"], *same, *cross])
    heads = ("frontal", "side", "drawn")
    lines = [["step", *heads, *(f"cross, {head}" for head in heads)], ["---:"] * 7]
    lines += [[f"{row[0]:,}", *(f"{gain:+.2f}" for gain in row[1:])] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ablations(folder: Path) -> str:
    """Return what :func:`studykit.training.ablation.ablate` measured, a row a variant and seed."""
    path = folder / "ablations.json"
    if not path.is_file():
        return "Not run for this checkpoint."
    about = json.loads(path.read_text(encoding="utf-8"))
    figures = ("same", "cross", "same flow", "cross flow")
    lines = [["variant", "seed", *figures], ["---", "---:", *["---:"] * len(figures)]]
    for row in about["rows"]:
        forms = ["{:+.2f}"] * 2 + ["{:.2f}"] * 2
        values = map(str.format, forms, [row[name] for name in figures])
        lines.append([row["variant"], str(row["seed"]), *values])
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    said = (
        f"Each variant was trained for {about['steps']} steps of {about['batch']} pairs from the "
        "same start, motion alone, and paints as the start does: far fewer steps than the "
        f"checkpoint's, and chance has a share. Measured on {about['identities']} of the "
        f"benchmark's identities at {about['size']} pixels: PSNR in the face above copy, "
        "dB, and how far the motion of the face that the source shows is off, in pixels; "
        "landmarks are true."
    )
    return f"{textwrap.fill(said, 100)}\n\n{rows}"


def _gains(log: Sequence[dict[str, Any]]) -> str:
    """Return a table of what ``enhance`` gained on held-out frames, in dB, as training went on."""
    measured = (record for record in log if "held out" in record)
    found = [{"step": record["step"], **record["held out"]} for record in measured]
    names = [name for name in found[-1] if name != "step" and not name.startswith("l1")]
    lines = [["step", *names], ["---:"] * (len(names) + 1)]
    lines += [[f"{row['step']:,}", *(f"{row[name]:+.2f}" for name in names)] for row in found]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _tables(content: dict[str, Any]) -> str:
    if "enhanced" in content:
        return "\n\n".join(map(_plain_table, (content["enhanced"], content["temporal"])))
    import pandas as pd

    from studykit.metrics.benchmark import summary_tables

    return f"## At {content['size']} pixels\n\n" + summary_tables(pd.DataFrame(content["summary"]))


def _plain_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [[*rows[0]], *([f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()]
                           for row in rows)]  # fmt: skip
    lines.insert(1, ["---:" if isinstance(v, float) else "---" for v in rows[0].values()])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _keep_picture(path: Path, target: Path) -> None:
    from PIL import Image

    with Image.open(path, formats=("PNG", "JPEG")) as picture:
        height = round(picture.height * _SHOWN_WIDTH / picture.width)
        small = picture.convert("RGB").resize((_SHOWN_WIDTH, height), Image.Resampling.LANCZOS)
    with files.whole(target) as part:
        small.save(part, quality=85)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises
    ------
    StudyError
        It can't be written.
    """
    with files.written(path, "name another folder") as part:
        part.write_text(text, encoding="utf-8")
