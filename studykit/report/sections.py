"""The report's sections, each a piece of HTML that notebook 4 displays."""

import base64
import csv
import dataclasses
import html
import io
import itertools
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from studykit import files, media
from studykit.cells import CellRow
from studykit.errors import StudyError
from studykit.inputs import open_driving
from studykit.report.figures import film_strip, source_picture
from studykit.report.results import Results
from studykit.study import Cell, Input, Study

if TYPE_CHECKING:
    from IPython.display import HTML

# Of a study with more cells the report shows sums, a sample, and links to the rest.
MOST_SHOWN = 200

_PREVIEW = 144
_LINKS, _GROUPS = 5, 50


def summary(results: Results) -> "HTML":
    """Say in words what was crossed, what came out and on which weights."""
    study, rows = results.study, list(results.rows.values())
    done = [row for row in rows if row.status == "done"]
    cells = sum(1 for _ in study.cells())
    words = [
        f"{_count(len(study.sources), 'source')}, {_count(len(study.drivings), 'driving')} and "
        f"{_count(len(study.methods), 'method')} make {_count(cells, 'cell')}; "
        f"<b>{len(done)}</b> have a clip, <b>{len(rows) - len(done)}</b> failed"
        + (f", <b>{cells - len(rows)}</b> were not run." if cells > len(rows) else ".")
    ]
    weights = {(row.method, row.weights, row.weights_hash) for row in done if row.weights_hash}
    for method, name, digest in sorted(weights):
        words.append(f"{_text(method)} ran on the weights {_text(name)} (SHA-256 {digest[:12]}…).")
    if not weights:
        words.append("No method in this study uses learned weights.")
    notes = sorted({row.note for row in rows if row.note})
    if notes:
        more = f"; and {len(notes) - _GROUPS} more" if len(notes) > _GROUPS else ""
        words.append("Notes: " + "; ".join(map(_text, notes[:_GROUPS])) + f"{more}.")
    return _html("".join(f"<p>{sentence}</p>" for sentence in words))


def film_strips(results: Results) -> "HTML":
    """Show, method by method, each driving and the clips it drives at five moments.

    Of a large study it shows the first source and driving of each type.
    """
    results, parts = _shown(results)
    for method in results.study.methods:
        parts.append(f"<h3>{_text(method.name)}</h3>")
        for driving in results.study.drivings:
            path = film_strip(results, method, driving)
            with Image.open(path) as picture:
                image = _jpeg(np.asarray(picture))
            caption = (
                f"{_text(method.name)}, driving {_text(driving.name)} ({driving.type}): "
                "top row the driving, below it each source and its clip at the same moments."
            )
            parts.append(
                f'<figure class="wide"><img src="{image}" alt="{caption}" loading="lazy">'
                f"<figcaption>{caption}</figcaption></figure>"
            )
    return _html("".join(parts))


def clips(results: Results) -> "HTML":
    """Show small moving previews, sources down and drivings across, linked to the full clips.

    Of a large study it shows the first source and driving of each type, after the number of clips
    of every condition.
    """
    conditions = [_conditions(results)] if _is_large(results) else []
    results, parts = _shown(results)
    parts, study = [*conditions, *parts], results.study
    for method in study.methods:
        head = "".join(
            f"<th scope='col'>{_text(driving.name)}<small>{driving.type}</small>"
            f"{_driving_preview(results, driving)}</th>"
            for driving in study.drivings
        )
        body = []
        for source in study.sources:
            tile = _jpeg(_shrunk(source_picture(source, study.size, study.crop)))
            line = [
                f"<th scope='row'><img src='{tile}' alt='source {_text(source.name)}'>"
                f"{_text(source.name)}<small>{source.type}</small></th>"
            ]
            for driving in study.drivings:
                cell = Cell(source, driving, method)
                line.append(f"<td>{_clip_preview(results, cell)}</td>")
            body.append(f"<tr>{''.join(line)}</tr>")
        parts.append(
            f"<section><h3>{_text(method.name)}</h3><div class='scroll'><table class='clips'>"
            f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
            "</section>"
        )
    paper = "The clips move on a screen only; the film strips below show moments of them."
    return _html(
        f"<div class='methods'>{''.join(parts)}</div><p class='paper-only'><i>{paper}</i></p>"
    )


def timing(results: Results) -> "HTML":
    """Tabulate seconds a frame by method, and keep the table as tables/timing.csv."""
    header = ("method", "device", "clips", "frames", "seconds", "seconds a frame (median)")
    lines = []
    for method in results.study.methods:
        rows = [r for r in results.rows.values() if r.method == method.name and r.status == "done"]
        for device in sorted({row.device for row in rows}):
            here = [row for row in rows if row.device == device]
            lines.append(
                (
                    method.name,
                    device,
                    len(here),
                    sum(row.frames for row in here),
                    f"{sum(row.seconds for row in here):.1f}",
                    f"{median(row.seconds / row.frames for row in here):.4f}",
                )
            )
    path = results.out / "tables" / "timing.csv"
    with files.whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *lines])
    if not lines:
        return _html("<p>No clip was made yet.</p>")
    return _table(header, lines)


def failures(results: Results) -> "HTML":
    """List every cell that failed, with its error; of a large study, every kind of failure."""
    rows = [row for row in results.rows.values() if row.status == "failed"]
    if not rows:
        return _html("<p>No cell failed.</p>")
    if _is_large(results):
        return _failure_kinds(rows)
    return _table(("cell", "error"), [(row.cell, row.error) for row in rows])


def problems(study: Study) -> "HTML":
    """List every problem of a study's inputs, as ``studykit check`` does."""
    from studykit.check import check_study

    found = check_study(study)
    if not found:
        return _html("<p>No problem found in the inputs.</p>")
    return _table(("level", "file", "problem"), [(p.level, p.path, p.text) for p in found])


def manifest(results: Results) -> "HTML":
    """Show what is needed to repeat the study: versions, machine, inputs with their hashes."""
    data = results.manifest
    if not data:
        return _html("<p>The study was not run yet.</p>")
    facts = [
        ("finished", data["finished"]),
        ("seed, size, crop", f"{data['seed']}, {data['size']} px, {data['crop']}"),
        ("machine", f"{data['machine']['processor']}, {data['machine']['cores']:g} cores usable"),
        ("system", data["machine"]["system"]),
        ("versions", ", ".join(f"{name} {v}" for name, v in data["versions"].items())),
    ]
    inputs = [
        (item["name"], item["type"], item["sha256"][:16] + "…") for item in data["inputs"].values()
    ]
    methods = [
        (
            name,
            values["method"],
            ", ".join(f"{key}={value}" for key, value in values["settings"].items()),
            values["device"],
            f"{values['weights']} {values['weights_hash'][:16]}".strip(),
        )
        for name, values in data["methods"].items()
    ]
    parts = [
        _table(("", ""), facts),
        _table(("method's name", "method", "settings", "device", "weights"), methods),
        _table(("input", "type", "SHA-256"), inputs),
    ]
    return _html("".join(part.data for part in parts))


def _is_large(results: Results) -> bool:
    study = results.study
    return len(study.methods) * len(study.sources) * len(study.drivings) > MOST_SHOWN


def _shown(results: Results) -> tuple[Results, list[str]]:
    """Return what is small enough to be shown, and what to say if that is a sample."""
    if not _is_large(results):
        return results, []
    study = results.study
    types = len({item.type for item in study.sources}) * len({i.type for i in study.drivings})
    sample = dataclasses.replace(
        study,
        sources=_first_of_each_type(study.sources),
        drivings=_first_of_each_type(study.drivings),
        methods=study.methods[: MOST_SHOWN // types],
    )
    sentence = "<p>A sample: the first source and the first driving of each type.</p>"
    return dataclasses.replace(results, study=sample), [sentence]


def _first_of_each_type(items: tuple[Input, ...]) -> tuple[Input, ...]:
    first: dict[str, Input] = {}
    for item in items:
        first.setdefault(item.type, item)
    return tuple(first.values())


def _conditions(results: Results) -> str:
    """Tabulate how many clips of each condition there are, with links to the first of them."""
    study = results.study
    sources, drivings = (
        Counter(item.type for item in items) for items in (study.sources, study.drivings)
    )
    done, lost = Counter(), Counter()
    links: defaultdict[tuple, list[str]] = defaultdict(list)
    for row in results.rows.values():
        condition = (row.method, row.source_type, row.driving_type)
        if row.status != "done":
            lost[condition] += 1
            continue
        done[condition] += 1
        if len(links[condition]) < _LINKS:
            number = len(links[condition]) + 1
            name = _text(row.cell)
            links[condition].append(f"<a href='{_text(row.clip)}' title='{name}'>{number}</a>")
    head = ("method", "source", "driving", "cells", "clips", "failed", "not run", "to see")
    body = []
    for method, source, driving in itertools.product(study.methods, sources, drivings):
        condition = (method.name, source, driving)
        cells = sources[source] * drivings[driving]
        rest = cells - done[condition] - lost[condition]
        texts = map(_text, (*condition, cells, done[condition], lost[condition], rest))
        body.append([*texts, " ".join(links[condition])])
    table = _table_of(head, body)
    rest = "<a href='clips/'>All clips</a>, and <a href='cells.csv'>one line for each cell</a>."
    return f"{table}<p>{rest}</p>"


def _failure_kinds(rows: list[CellRow]) -> "HTML":
    """Group failures by method and error, whatever inputs the error names."""
    kinds: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        error = row.error
        names = ((row.cell, "<cell>"), (row.source, "<source>"), (row.driving, "<driving>"))
        for name, stand_in in names:
            error = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", stand_in, error)
        kinds[row.method, error].append(row.cell)
    ranked = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    lines = [
        (len(cells), method, error, ", ".join(cells[:_LINKS]) + (", …" * (len(cells) > _LINKS)))
        for (method, error), cells in ranked[:_GROUPS]
    ]
    table = _table(("cells", "method", "error", "which"), lines)
    if len(ranked) <= _GROUPS:
        return table
    return _html(f"{table.data}<p>{len(ranked) - _GROUPS} more kinds are in cells.csv.</p>")


def _count(number: int, word: str) -> str:
    return f"<b>{number}</b> {word}{'' if number == 1 else 's'}"


def _clip_preview(results: Results, cell: Cell) -> str:
    clip, error = results.clip_of(cell)
    if clip is None:
        return f"<span class='failed' title='{_text(error)}'>no clip</span>"
    video = _video(media.read_frames(clip), media.probe(clip).frame_rate)
    return f"{video}<a href='clips/{_text(clip.name)}'>full clip</a>"


def _driving_preview(results: Results, driving: Input) -> str:
    study = results.study
    try:
        opened, _ = open_driving(driving.path, name=driving.name, size=study.size, crop=study.crop)
        return _video(opened, opened.frame_rate)
    except StudyError:
        return ""


def _video(frames: Iterator[np.ndarray], frame_rate: Fraction) -> str:
    """Return a small looping video as HTML, its bytes inside, so that the page is one file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "preview.mp4"
        media.write_video(path, map(_shrunk, frames), frame_rate=frame_rate, crf=28)
        data = base64.b64encode(path.read_bytes()).decode()
    return (
        f"<video src='data:video/mp4;base64,{data}' width='{_PREVIEW}' height='{_PREVIEW}' "
        "muted loop playsinline tabindex='0'></video>"
    )


def _shrunk(frame: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(frame).resize((_PREVIEW, _PREVIEW), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def _jpeg(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _table(header: tuple, lines: list[tuple]) -> "HTML":
    return _html(_table_of(header, [[_text(value) for value in line] for line in lines]))


def _table_of(header: tuple, lines: list[list[str]]) -> str:
    """Return a table whose cells are pieces of HTML."""
    head = "".join(f"<th scope='col'>{_text(name)}</th>" for name in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{value}</td>" for value in line) + "</tr>" for line in lines
    )
    head = f"<thead><tr>{head}</tr></thead>" if any(header) else ""
    return f"<div class='scroll'><table>{head}<tbody>{body}</tbody></table></div>"


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _html(text: str) -> "HTML":
    from IPython.display import HTML

    return HTML(text)
