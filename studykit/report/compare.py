"""Two studies side by side: the same conditions' scores and metrics, and what differs in how.

Everything is read from the two folders, so that a study may be compared whose inputs are not on
this machine.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from studykit import metrics, stats
from studykit.clips.cells import read_cells
from studykit.errors import StudyError
from studykit.ratings.screening import screen
from studykit.report import figures, tables
from studykit.report.blocks import ENDS_SIMULATED, Block, Note, Picture, Table, Words, plain
from studykit.report.page import fill_page
from studykit.report.results import stored_ratings
from studykit.report.sections import kept, simulated_banner
from studykit.study.file import Ratings, load_study

_BY = list(stats.CONDITION_COLUMNS)
_SIMULATED = "simulated raters"
_METHOD_FACTS = ("method", "settings", "weights", "device")


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two studies.

    Attributes
    ----------
    label : str
        What it is called on the page: its name, and its folder's where both have one name.
    scale : int
        Steps of its rating scale.
    rated_by : str
        Whose ratings there are, also where no rater was kept: "people", "simulated raters" or "".
    withdrawn : int
        How many raters have withdrawn.
    ratings, metrics : DataFrame
        Those of the kept raters, and metrics with the condition of each cell; empty where there
        are none.
    """

    label: str
    manifest: Mapping[str, Any]
    conditions: frozenset[tuple[str, str, str]]
    scale: int
    rated_by: str
    withdrawn: int
    ratings: pd.DataFrame
    metrics: pd.DataFrame


def compare_studies(first: str | Path, second: str | Path, out: str | Path | None = None) -> Path:
    """Set two studies side by side, and return the page's path.

    Parameters
    ----------
    first, second : path
        Each a study's folder or its study file, whose folder is then ``reports/<name>``.
    out : path, optional
        The folder of the page, its tables and its pictures;
        ``reports/<first>-and-<second>`` by default.

    Raises
    ------
    StudyError
        A folder holds no study that was run, or both are one.
    """
    folders = [_folder_of(Path(path)) for path in (first, second)]
    names = [_manifest(folder)["study"] for folder in folders]
    labels = names if names[0] != names[1] else [str(folder) for folder in folders]
    if labels[0] == labels[1]:
        raise StudyError(f"{folders[0]} can't be compared with itself: name two studies")
    sides = [_side(folder, label) for folder, label in zip(folders, labels, strict=True)]
    out = Path(out) if out is not None else Path("reports") / f"{names[0]}-and-{names[1]}"
    page = out / "compare.html"
    blocks = _blocks(sides, out)
    fill_page(page, kept(out, blocks), title=" and ".join(labels))
    return page


def _blocks(sides: list[Side], out: Path) -> list[Block]:
    first, second = sides
    both = first.conditions & second.conditions
    simulated = {side.rated_by for side in sides} == {_SIMULATED}
    blocks: list[Block] = [Words(f"# {plain(first.label)} and {plain(second.label)}")]
    if simulated:
        blocks += simulated_banner()
    blocks.append(Words(_overlap(first, second, both)))
    blocks += [Words("## Scores"), *_scores(sides, both, out, simulated=simulated)]
    blocks += [Words("## Metrics"), *_metrics(sides)]
    return [*blocks, Words("## What differs in how they were made"), *_differences(sides)]


def _overlap(first: Side, second: Side, both: frozenset) -> str:
    def only(side: Side) -> str:
        rest = sorted(side.conditions - both)
        named = ", ".join(plain(" × ".join(condition)) for condition in rest[:9])
        return f"{len(rest)} only in {plain(side.label)}" + (f" ({named})" if 0 < len(rest) <= 9
                                                            else "")  # fmt: skip

    return (
        f"{len(both)} conditions (source × driving × method) are in both studies; {only(first)}; "
        f"{only(second)}. Only what is in both is compared. A difference between the two is no "
        "test: it may be the raters', the inputs' or the methods'."
    )


def _scores(sides: list[Side], both: frozenset, out: Path, *, simulated: bool) -> list[Block]:
    if why := "; ".join(filter(None, map(_no_scores, sides))):
        return [Words(f"No scores to compare: {why}.")]
    if len({side.rated_by for side in sides}) > 1:
        who = " and ".join(f"{plain(side.label)} was rated by {side.rated_by}" for side in sides)
        return [Words(f"No scores to compare: {who}.")]
    scale = sides[0].scale
    if scale != sides[1].scale:
        return [Words("No scores to compare: the rating scales have different steps.")]
    found = [stats.mean_scores(side.ratings, scale=scale) for side in sides]
    parts = {side.label: result.table for side, result in zip(sides, found, strict=True)}
    data = tables.stacked(parts, "study")
    data = data[[line in both for line in data[_BY].itertuples(index=False, name=None)]]
    if data.empty:
        return [Words("No condition was rated in both studies.")]
    data = data.assign(condition=data[_BY].agg(" × ".join, axis=1))
    groups = data.groupby(["condition", "criterion"], sort=False)
    rows = [here.to_dict("records") for _, here in groups if len(here) == 2]
    if not rows:
        return [Words("No criterion was rated in both studies.")]
    # Where not all criteria were rated there is no mean over them, and each is shown.
    sums = {a["criterion"] for a, _ in rows} & {stats.OVERALL, stats.MEAN}
    whole = min(sums, default="")
    shown = pd.DataFrame(
        [
            {
                "condition": a["condition"],
                "criterion": a["criterion"],
                sides[0].label: tables.with_interval(a),
                sides[1].label: tables.with_interval(b),
                "second minus first": tables.with_interval(_difference(a, b)),
                "raters": f"{a['n_raters']}, {b['n_raters']}",
            }
            for a, b in rows
            if whole in ("", a["criterion"])
        ]
    )
    said = f" {ENDS_SIMULATED}" if simulated else ""
    caption = f"Mean score of each criterion with its 95 % interval in both studies.{said}"
    pictures = []
    if whole:
        about = "Overall score" if whole == stats.OVERALL else "Mean over the criteria"
        caption = (
            f"{about} with its 95 % interval in both studies; single criteria are in the CSV file."
            f"{said}"
        )
        overall = data[data["criterion"] == whole]
        path = figures.score_rows(
            out / "figures" / "compared-scores.png",
            overall.assign(method=overall["study"]),
            ("condition", list(dict.fromkeys(shown["condition"]))),
            figures.Look([side.label for side in sides], scale, simulated),
            width=figures.TEXT * 0.75,
        )
        pictures.append(Picture(path, out, f"{about} by condition.{said}"))
    return [
        *pictures,
        Table("compared-scores", caption, data, shown),
        Note(
            f"{plain(found[0].how)} Intervals of differences from those of the two means, for "
            "independent raters (Zou and Donner 2008)."
        ),
    ]


def _metrics(sides: list[Side]) -> list[Block]:
    if lacking := [plain(side.label) for side in sides if side.metrics.empty]:
        have = "have" if len(lacking) > 1 else "has"
        return [Words(f"No metrics to compare: {' and '.join(lacking)} {have} none.")]
    keys = [*_BY, "metric", "better"]
    means = [side.metrics.groupby(keys, sort=False)["value"].mean() for side in sides]
    labels = [side.label for side in sides]
    data = pd.concat(means, axis=1, keys=labels, join="inner").reset_index()
    if data.empty:
        return [Words("No metric was measured in both studies.")]
    data["difference"] = data[labels[1]] - data[labels[0]]
    values = [*labels, "difference"]
    means = data.groupby(["method", "metric", "better"], sort=False)[values].mean()
    shown = means.map(tables.significant).reset_index()
    shown["metric"] = shown["metric"].map(tables.metric_label)
    shown = shown.rename(columns={"difference": "second minus first"})
    caption = (
        "Metrics by method, mean over the conditions that are in both studies; single conditions "
        "are in the CSV file."
    )
    return [Table("compared-metrics", caption, data, shown)]


def _no_scores(side: Side) -> str:
    if not side.rated_by and side.withdrawn:
        return f"every rater of {plain(side.label)} has withdrawn"
    if not side.rated_by:
        return f"nobody has rated {plain(side.label)}"
    if side.ratings.empty:
        return f"every rater of {plain(side.label)} was excluded"
    scored = (side.ratings["role"] == "rating") & side.ratings["value"].notna()
    return "" if scored.any() else f"no rating of {plain(side.label)} counts"


def _differences(sides: list[Side]) -> list[Block]:
    """Tabulate every fact of the manifests that is not the same in both."""
    facts = [_facts(side.manifest) for side in sides]
    lines = [
        (what, *(its.get(what, "not there") for its in facts))
        for what in facts[0] | facts[1]
        if facts[0].get(what) != facts[1].get(what)
    ]
    if not lines:
        return [Words("Nothing: methods, weights, versions, inputs and settings are the same.")]
    caption = "What differs: settings, inputs (SHA-256), methods, weights and versions."
    columns = ("what", *(side.label for side in sides))
    return [tables.plain_table("compared-manifests", caption, columns, lines)]


def _facts(manifest: Mapping[str, Any]) -> dict[str, str]:
    facts = {name: str(manifest[name]) for name in ("seed", "size", "crop")}
    for name, values in manifest["methods"].items():
        known = tables.made_by(values)
        facts |= {f"{name}: {what}": known[what] for what in _METHOD_FACTS}
    for item in manifest["inputs"].values():
        parts = item["sha256"][:16], item.get("view")
        facts[f"{item['type']} input {item['name']}"] = " ".join(map(str, filter(None, parts)))
    facts |= {f"{name} (version)": version for name, version in manifest["versions"].items()}
    facts |= {name: str(manifest["machine"][name]) for name in ("processor", "system")}
    return {what: text for what, text in facts.items() if text}


def _difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, float]:
    """Return b minus a with an interval (Zou and Donner 2008, eq. 2): raters are independent."""
    difference = b["mean"] - a["mean"]
    below = math.hypot(b["mean"] - b["low"], a["high"] - a["mean"])
    above = math.hypot(b["high"] - b["mean"], a["mean"] - a["low"])
    return {"mean": difference, "low": difference - below, "high": difference + above}


def _folder_of(path: Path) -> Path:
    if path.is_dir():
        return path
    return Path("reports") / load_study(path).name


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        raise StudyError(
            f"{folder} holds no study that was run (no manifest.json): run it, or name its folder"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _side(folder: Path, label: str) -> Side:
    manifest, rows = _manifest(folder), read_cells(folder / "cells.csv")
    cells = pd.DataFrame([*rows.values()], columns=["cell", *_BY])
    settings = yaml.safe_load(manifest["study_file"]).get("ratings") or {}
    ratings, _, withdrawn = stored_ratings(manifest["study"], folder, settings.get("store", ""))
    return Side(
        label,
        manifest,
        frozenset(cells[_BY].itertuples(index=False, name=None)),
        settings.get("scale", Ratings.scale),
        "" if ratings.empty else _SIMULATED if ratings["simulated"].iloc[0] else "people",
        withdrawn,
        screen(ratings).kept,
        metrics.load(folder).merge(cells, on="cell"),
    )
