"""The report's sections in their order, each of which notebook 4 displays.

A section reads results, keeps its tables and pictures as files, and returns what is shown of them.
"""

import dataclasses
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studykit import metrics as measured, stats
from studykit.clips.cells import CellRow
from studykit.ratings.screening import withdrawn_words
from studykit.report import figures, previews, tables, words
from studykit.report.blocks import (
    Absent,
    Block,
    Note,
    Picture,
    Screen,
    Section,
    Table,
    Words,
    escaped,
    grid,
    plain,
    titles,
)
from studykit.report.results import Results
from studykit.report.strips import film_strip, worst_moments
from studykit.study.file import Cell, Input, Study

# Of a study with more cells the report shows sums, a sample, and links to the rest.
MOST_SHOWN = 200

_LINKS, _GROUPS = 5, 50
_PAIR = "source × driving"
_ABOUT = {stats.OVERALL: "overall score", stats.MEAN: "mean over the criteria"}
# All film strips of a page together, in bytes of JPEG.
_STRIPS_ROOM = 1_900_000
_METHODS_APART = 3  # that have matrices and strips of their own; more are shown side by side


def heading(results: Results) -> Section:
    """Name the study and, where the ratings are simulated, say so on every page."""
    blocks: list[Block] = [Words(f"# Study: {plain(results.study.name)}")]
    if results.simulated:
        blocks += simulated_banner()
    return Section(blocks)


def simulated_banner() -> list[Block]:
    """Say that ratings are simulated: once in full, and on every screen and printed page."""
    short = words.SIMULATED.split(":")[0]
    return [
        Screen(f"<div class='simulated-running'>{short}</div>"),
        Screen(f"<p class='simulated'>{words.SIMULATED}</p>", f"> **{words.SIMULATED}**"),
    ]


def studied(results: Results) -> Section:
    """Say in one paragraph what was studied, and on which weights."""
    return Section([Words(words.studied(results)), Words(" ".join(words.weights(results)))])


def summary(results: Results) -> Section:
    """Say which types work, which fail and how sure that is; then what the data don't support."""
    blocks: list[Block] = []
    if not words.no_scores(results):
        how = "Sentences are made from the numbers below: a difference is named where a corrected "
        blocks.append(Words(f"{how}test supports it. {words.better(results)}".rstrip()))
    for heading, points in words.summary(results).items():
        blocks += [Words(f"### {heading}")] if heading else []
        blocks.append(Words(_bullets(points)))
    if planned := words.plan(results):
        blocks += [Words("### The plan"), Words(_bullets(planned))]
    cautions = words.cautions(results)
    if cautions:
        text = f"**Read with care.**\n\n{_bullets(map(plain, cautions))}"
        blocks.append(Screen(f"<div class='care'>{Words(text).to_html()}</div>", text))
    return Section(blocks)


def verdicts(results: Results) -> Section:
    """Show the verdict of each condition and the rule behind it."""
    if why := words.no_scores(results):
        return _absent(f"No verdicts: {why}.")
    if words.only_compared(results):
        return _absent("No verdicts: clips were compared in pairs, none was rated on a scale.")
    table = tables.verdicts(results)
    rule = plain(results.analysis.rule.words)
    return kept(results.out, [table, Words(f"The rule: {rule}")])


def scores(results: Results) -> Section:
    """Show mean scores with their intervals: maps, dots, and the tables behind them."""
    if why := words.no_scores(results):
        return _absent(f"No scores: {why}.")
    by_condition = results.analysis.condition_scores.table
    by_method = results.analysis.method_scores.table
    if words.only_compared(results):
        return kept(results.out, _compared(results))
    names = list(dict.fromkeys(by_condition["criterion"]))
    criteria = [name for name in names if name not in _ABOUT] or names
    # The mean over criteria that go against each other speaks of no clip: it leads nothing.
    lead = stats.OVERALL if stats.OVERALL in names else names[0]
    about = _ABOUT.get(lead, f"mean score of {lead}")
    leading = by_condition[by_condition["criterion"] == lead]
    pairs = [" × ".join(pair) for pair in itertools.product(*results.types)]
    paired = by_condition.assign(
        **{_PAIR: by_condition["source_type"] + " × " + by_condition["driving_type"]}
    )
    maps = {
        name: _drawn(
            results,
            f"mos-{name}",
            f"{_ABOUT.get(name, f'mean score of {name}').capitalize()} by source and driving type: "
            "mean over raters, 95 % interval, and n raters.",
            figures.heat_maps,
            by_condition[by_condition["criterion"] == name],
        )
        for name in names
    }
    files = ", ".join(f"[{_ABOUT.get(name, name)}](figures/{its.path.name})"
                      for name, its in maps.items() if name != lead)  # fmt: skip
    others = [Words(f"The same maps of what else was rated: {files}.")] if files else []
    how = Words("Means over raters, each rater's own clips averaged first; intervals are 95 %. "
                f"{words.better(results)}")  # fmt: skip
    return kept(
        results.out,
        [
            how,
            maps[lead],
            *others,
            _drawn(results, "scores-by-method", "Mean score by method and criterion.",
                   figures.score_rows, by_method, ("criterion", criteria), wide=False,
                   width=figures.COLUMN),
            tables.scores(results, "method"),
            _drawn(results, "methods-by-condition",
                   f"{about.capitalize()} by driving type.",
                   figures.methods_by_condition, leading),
            _drawn(results, "criteria-by-condition",
                   "Mean scores of all conditions, criterion by criterion.",
                   figures.score_rows, paired, (_PAIR, pairs), panels=("criterion", criteria)),
            tables.scores(results, "condition"),
            *_said_by(results.analysis.condition_scores),
            *_compared(results),
        ],
    )  # fmt: skip


def statistics(results: Results) -> Section:
    """Show agreement, tests, models and correlations, each with how it was found."""
    if why := words.no_scores(results):
        return _absent(f"No statistics: {why}.")
    blocks: list[Block] = [
        Words("### About raters, sources and drivings like these"),
        *_claims(results),
    ]
    if words.only_compared(results):
        return kept(results.out, blocks)
    blocks += [
        *(Words("### Agreement"), *_statistic(results, "agreement")),
        *(Words("### Criteria beside each other"), *_statistic(results, "criteria_correlation")),
        Words("### On these clips"),
        Words("These tests ask whether other raters would find the same on just these clips. They "
              "say nothing about other sources and drivings."),
        *_statistic(results, "friedman"),
    ]  # fmt: skip
    explained = False
    for part in ("pairwise", "source_pairwise", "driving_pairwise"):
        result = getattr(results.analysis, part)
        if len(result.table):
            blocks.append(tables.statistic(results, part))
        # The tests are the same in all families, and their captions say how many rows each has.
        text = " ".join(result.notes) if explained else words.of_result(result)
        explained = explained or len(result.table) > 0
        blocks += [Note(plain(text))] if text else []
    return kept(results.out, blocks)


def metrics(results: Results) -> Section:
    """Show the metrics by method and condition, beside the driving's, and beside the ratings."""
    if results.metrics.empty:
        return _absent(f"No metrics: {words.no_clips(results) or 'no clip was measured'}.")
    blocks: list[Block] = [
        Words("What can be measured without raters. A metric that does not apply to a clip is "
              "absent, never zero. A clip that holds its source still, as `copy` does, is best by "
              "CSIM, AED (source) and all that speaks of steadiness, whatever else it lacks."),
        tables.metrics_by_method(results),
    ]  # fmt: skip
    absent = measured.unavailable()
    if absent:
        lines = (f"{tables.metric_label(name)}: {plain(why)}." for name, why in absent.items())
        blocks.append(Words(f"Not measured here:\n\n{_bullets(lines)}"))
    blocks += [
        Words("### In the papers' form"),
        tables.paper_table(results),
        Words("### By condition"),
        tables.metrics_by_condition(results),
    ]
    if len(results.metric_notes):
        blocks += [Words("### What could not be measured"), _metric_notes(results)]
    blocks += [*_metrics_and_ratings(results), *_motion(results)]
    return kept(results.out, blocks)


def film_strips(results: Results) -> Section:
    """Show each driving and the clips it drives at five moments, method by method.

    Many methods stand below each other, driving by driving. Of a large study it shows the first
    source and driving of each type.
    """
    if why := words.no_clips(results):
        return _absent(f"No film strips: {why}.")
    shown, blocks = _shown(results)
    study = shown.study
    which = "these" if blocks else "the"
    blocks.append(Words(f"{which.capitalize()} drivings at five moments, and what each method "
                        f"makes of {which} sources at the same moments."))  # fmt: skip
    beside = len(study.methods) > _METHODS_APART
    groups = [study.methods] if beside else [(method,) for method in study.methods]
    room = _STRIPS_ROOM // max(1, len(groups) * len(study.drivings))
    for group in groups:
        name = "" if beside else group[0].name
        blocks += [] if beside else [Words(f"### {plain(name)}")]
        for driving in study.drivings:
            path, worst_by = film_strip(shown, group, driving)
            what = "what each method makes of it" if beside else "its clip"
            caption = (
                f"{f'{name}, driving' if name else 'Driving'} {driving.name} ({driving.type}): top "
                f"row the driving, below it each source and {what} at the same moments."
            )
            if worst_by:
                caption += f" Framed: each clip's own worst moment by {worst_by}."
            blocks.append(Picture(path, results.out, caption, room=room))
    return Section(blocks)


def clips(results: Results) -> Section:
    """Show small moving previews, sources down and drivings across, linked to the full clips.

    Before them it says what is noted about how they were made. Of a large study it shows the first
    source and driving of each type, after the number of clips of every condition.
    """
    if why := words.no_clips(results):
        return _absent(f"No clips: {why}.")
    notes = words.notes(results)
    blocks: list[Block] = [Words(notes)] if notes else []
    blocks += [_conditions(results)] if _is_large(results) else []
    shown, said = _shown(results)
    said.append(Screen(f"<p>Small previews, {_arranged(shown.study)}; they play while they are on "
                       "the screen, and a click stops one. The full clips lie beside this "
                       "page.</p>"))  # fmt: skip
    study, room = shown.study, previews.room_for_each(shown.study)
    matrices = _matrices(
        shown,
        lambda cell: previews.clip(shown, cell, room),
        driving=lambda item: previews.driving(study, item, room),
        source=lambda item: previews.source(study, item),
    )
    paper = "The clips move on a screen only; the film strips show moments of them."
    screen = f"<div class='methods'>{matrices}</div><p class='paper-only'><i>{paper}</i></p>"
    return Section([*blocks, *said, Screen(screen, "All clips are under [clips](clips/).")])


def play(results: Results) -> Section:
    """Show the clips themselves, to play where they lie: nothing of them is in the notebook."""
    if why := words.no_clips(results):
        return _absent(f"No clips: {why}.")
    shown, said = _shown(results)
    where = f"The clips are in `{results.out / 'clips'}`; {_arranged(results.study)}."
    said.append(Words(where))
    return Section([*said, Screen(_matrices(shown, lambda cell: previews.linked(shown, cell)))])


def timing(results: Results) -> Section:
    """Tabulate seconds a frame by method."""
    table = tables.timing(results)
    if table.data.empty:
        table.write(results.out / "tables")
        return _absent(f"No times: {words.no_clips(results)}.")
    return kept(results.out, [table])


def failures(results: Results) -> Section:
    """List every cell that failed, with its error; of a large study, every kind of failure."""
    rows = [row for row in results.rows.values() if row.status == "failed"]
    if not results.rows:
        return _absent(f"No failures: {words.no_clips(results)}.")
    if not rows:
        return _nothing("No cell failed.")
    if _is_large(results):
        return _failure_kinds(results, rows)
    lines = [(row.cell, row.error) for row in rows]
    table = tables.plain_table("failures", "Cells without a clip.", ("cell", "error"), lines)
    return kept(results.out, [table])


def raters(results: Results) -> Section:
    """Say who rated, who was excluded and why, and what that changes."""
    if not results.rated:
        return _absent(f"No raters: {words.no_scores(results)}.")
    screening = results.screening
    said = plain(screening.words)
    held = results.raters["complete"].dropna()
    if len(held):
        said += f" {int(held.sum())} of {len(held)} sessions were finished."
    if results.withdrawn:
        said += f" {withdrawn_words(results.withdrawn)}."
    blocks: list[Block] = [Words(said)]
    answers = tables.rater_answers(results)
    if answers is not None:
        blocks.append(answers)
    if screening.excluded:
        blocks += [tables.exclusions(results), tables.kept_beside_all(results)]
        if not words.no_scores(results):
            blocks.append(Words(_changed_verdicts(results)))
    else:
        tables.exclusions(results).write(results.out / "tables")
    blocks += _levels(results)
    agreements = results.analysis.agreement.table
    by_rater = screening.table[screening.table["rule"] == "agreement"]
    if len(agreements.dropna(subset=["mean"])) and by_rater["figure"].notna().any():
        shown = by_rater.assign(
            excluded=by_rater["rater"].isin(screening.excluded),
            figure=by_rater["figure"].astype(float),
        )
        caption = (
            "How much of the differences between clips' mean scores is the clips' own, by "
            "criterion; and each rater's correlation with the mean of all others, the dashed line "
            "being the least that is asked."
        )
        least = screening.rules.agreement
        blocks.append(
            _drawn(results, "agreement", caption, figures.agreement, agreements, shown, least)
        )
    return kept(results.out, blocks)


def methods(results: Results) -> Section:
    """Write the methods section of a paper, from what was done."""
    if not (text := words.methods_section(results)):
        return _absent(f"No methods section: {words.no_clips(results)}.")
    intro = Words("What was done, in words to be pasted into a paper.")
    return Section([intro, Words("\n\n".join(text))])


def manifest(results: Results) -> Section:
    """Show what is needed to repeat the study: versions, machine, inputs with their hashes."""
    data = results.manifest
    if not data:
        return _absent(f"No manifest: {words.no_clips(results) or 'the run is not finished'}.")
    facts = [
        ("finished", data["finished"]),
        ("seed, size, crop", f"{data['seed']}, {data['size']} px, {data['crop']}"),
        ("machine", f"{data['machine']['processor']}, {data['machine']['cores']:g} cores usable"),
        ("system", data["machine"]["system"]),
        ("versions", ", ".join(f"{name} {v}" for name, v in data["versions"].items())),
    ]
    made_by = [(name, *tables.made_by(values).values()) for name, values in data["methods"].items()]
    inputs = [
        (item["name"], item["type"], item["sha256"], _words(item.get("view", {})))
        for item in data["inputs"].values()
    ]
    columns = ("input", "type", "SHA-256", "of the file")
    table = tables.plain_table("inputs", "Inputs.", columns, inputs)
    short = table.shown.assign(**{"SHA-256": table.shown["SHA-256"].str[:16] + "…"})
    named = ("name", *tables.MADE_BY)
    return kept(
        results.out,
        [
            Words("What is needed to repeat this study; `manifest.json` beside this page holds it "
                  "in full. All tables are under `tables/` as CSV, Markdown and LaTeX, all "
                  "pictures under `figures/` as PNG, those of numbers as SVG too."),
            tables.plain_table("run", "The run.", ("what", "which"), facts),
            tables.plain_table("methods", "Methods and their settings.", named, made_by),
            _beginning(dataclasses.replace(table, shown=short)),
        ],
    )  # fmt: skip


def _words(view: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in view.items()) or "all"


def problems(study: Study) -> Section:
    """List every problem of a study's inputs, as ``studykit check`` does."""
    from studykit.clips.check import check_study

    found = check_study(study)
    if not found:
        return _nothing("No problem found in the inputs.")
    lines = [(p.level, str(p.path), p.text) for p in found]
    return Section(
        [tables.plain_table("", "Problems of the inputs.", ("level", "file", "problem"), lines)]
    )


def kept(out: Path, blocks: Sequence[Block]) -> Section:
    """Return a section whose tables are kept as files."""
    for block in blocks:
        if isinstance(block, Table):
            block.write(out / "tables")
    return Section(blocks)


def _absent(text: str) -> Section:
    return Section([Absent(text)])


def _nothing(text: str) -> Section:
    return Section([Words(text)])


def _look(results: Results) -> figures.Look:
    scale = results.study.ratings.scale
    return figures.Look(results.methods, scale, results.simulated, results.types)


def _drawn(
    results: Results,
    name: str,
    caption: str,
    draw: Callable[..., Path],
    *data: Any,
    wide: bool = True,
    **options: Any,
) -> Picture:
    """Draw a picture of ratings, and return it with its caption."""
    path = draw(results.out / "figures" / f"{name}.png", *data, _look(results), **options)
    return Picture(path, results.out, tables.said(results, caption), wide)


def _bullets(points: Iterable[str]) -> str:
    return "\n".join(f"- {point}" for point in points)


def _statistic(results: Results, part: str) -> list[Block]:
    """Return a table of the analysis and how it was found; where it is empty, why."""
    result = getattr(results.analysis, part)
    table = [tables.statistic(results, part)] if len(result.table) else []
    return [*table, *_said_by(result)]


def _claims(results: Results) -> list[Block]:
    """Return the claims that could be tested; where none could, that is said."""
    table = tables.findings(results)
    if len(table.shown):
        return [table, *_said_by(results.analysis.findings)]
    table.write(results.out / "tables")
    where = "[the file of all claims](tables/findings.csv) says of each why."
    return [Words(f"No claim could be tested: {where}")]


def _said_by(result: stats.Result) -> list[Block]:
    text = words.of_result(result)
    return [Note(plain(text))] if text else []


def _levels(results: Results) -> list[Block]:
    """Return raters' bias and inconsistency, and keep the clips' scores without them."""
    levels = results.analysis.raters
    if levels.table.empty:
        return []
    caption = tables.said(results, "Clips' mean scores, raw and without the raters' bias.")
    clips = Table("scores-bias-removed", caption, levels.clips, levels.clips)
    clips.write(results.out / "tables")
    moved = (levels.clips["mean"] - levels.clips["bias_removed"]).abs()
    text = (
        f"{levels.how} It moves a clip's score by {moved.median():.2f} steps (median; at most "
        f"{moved.max():.2f})"
    )
    see = "see [the scores](tables/scores-bias-removed.csv)."
    return [tables.rater_levels(results), Note(f"{plain(text)}: {see}")]


def _compared(results: Results) -> list[Block]:
    """Return the paired comparisons, if there are any."""
    if results.analysis.bradley_terry.table.empty:
        return []
    return [Words("### Paired comparisons"), *_statistic(results, "bradley_terry")]


def _metrics_and_ratings(results: Results) -> list[Block]:
    """Return how metrics go with scores: tables and a picture; nothing where there are none."""
    if words.no_scores(results) or words.only_compared(results):
        return []
    result, predicted = results.analysis.metric_correlation, results.analysis.prediction
    title = Words("### Metrics beside ratings")
    table = result.table
    if table.empty:
        return [title, *_said_by(result)]
    whole = list(dict.fromkeys(table["criterion"]))[-1]
    known = table[(table["criterion"] == whole) & (table["primary"] | table["r"].notna())]
    strongest = known.sort_values(["primary", "r"], ascending=False, key=abs)
    blocks: list[Block] = [title]
    if len(known):
        scored = results.analysis.clip_scores.table
        scored = scored[scored["criterion"] == whole].rename(columns={"mean": "score"})
        points = results.metrics.merge(scored[["cell", "method", "score"]], on="cell")
        caption = (
            f"Clips by metric and {_ABOUT.get(whole, whole)}, with the correlation within sources, "
            "drivings and methods and its 95 % interval; above 0 the metric agrees with the "
            f"raters. The primary metrics first, at most {figures.PANELS}."
        )
        units = results.metrics.drop_duplicates("metric").set_index("metric")
        labels = {
            name: f"{tables.metric_label(name)} ({line['unit']}, {line['better']} is better)"
            for name, line in units.iterrows()
        }
        blocks.append(_drawn(results, "metrics-and-ratings", caption, figures.metrics_and_ratings,
                             points, strongest, labels))  # fmt: skip
    blocks += [tables.metric_correlation(results), *_said_by(result)]
    if len(predicted.table):
        blocks += [tables.statistic(results, "prediction"), *_said_by(predicted)]
    return blocks


def _motion(results: Results) -> list[Block]:
    """Return the motion over time of the clip that follows its driving worst."""
    found = results.metrics[results.metrics["metric"] == "landmark_motion_error"]
    moving = [spec.name for spec in results.study.methods if spec.method != "copy"]
    names = {name for name, row in results.rows.items() if row.method in moving}
    found = found[found["cell"].isin(names)].dropna(subset=["value"])
    if found.empty:
        return []
    cell = found.loc[found["value"].idxmax(), "cell"]
    curves = results.curves(cell)
    if not curves:
        return []
    row = results.rows[cell]
    worst_by, frames = worst_moments({cell: curves})
    colour = _look(results).colours[row.method]
    path = figures.motion_over_time(
        results.out / "figures/motion-over-time.png", curves, worst=frames.get(cell), colour=colour
    )
    marked = f" The dotted line marks its worst moment by {worst_by}." if worst_by else ""
    caption = (
        f"Landmarks and motion of {row.source} animated by {row.driving} with {row.method} "
        "(coloured) beside its driving (grey): the clip whose landmarks follow their driving "
        f"worst.{marked}"
    )
    return [Words("### Motion over time"), Picture(path, results.out, caption)]


def _metric_notes(results: Results) -> Table:
    """Tabulate what could not be measured, alike notes together."""
    grouped = results.metric_notes.groupby("note", sort=False)["cell"].agg(list)
    lines = [(note, len(cells), words.named(cells, _LINKS)) for note, cells in grouped.items()]
    columns = ("note", "cells", "which")
    caption = "What could not be measured, and in how many cells."
    return _beginning(tables.plain_table("metric-notes", caption, columns, lines))


def _beginning(table: Table) -> Table:
    return dataclasses.replace(table, shown=table.shown.head(_GROUPS))


def _changed_verdicts(results: Results) -> str:
    """Say which verdicts would be others if nobody had been excluded."""
    by = list(stats.CONDITION_COLUMNS)
    of_all = stats.verdicts(results.ratings, results.analysis.rule)
    kept, everybody = (
        result.table.set_index(by)["verdict"] for result in (results.analysis.verdicts, of_all)
    )
    changed = [
        f"{plain(' × '.join(condition))} ({everybody[condition]}, not {verdict})"
        for condition, verdict in kept.items()
        if condition in everybody.index and everybody[condition] != verdict
    ]
    if not changed:
        return "Had nobody been excluded, every verdict would be the same."
    return f"Had nobody been excluded, these would differ: {'; '.join(changed)}."


def _matrices(
    results: Results,
    clip: Callable[[Cell], str],
    *,
    driving: Callable[[Input], str] = lambda _: "",
    source: Callable[[Input], str] = lambda _: "",
) -> str:
    """Return the clips of each method, sources down and drivings across.

    Many methods stand side by side where pairs are listed: of a matrix each, most would be empty.
    """
    study = results.study
    if _side_by_side(study):
        head = ["<th></th>", "<th scope='col'>driving</th>"]
        head += [f"<th scope='col'>{escaped(method.name)}</th>" for method in study.methods]
        rows = [
            [
                f"<th scope='row'>{source(its)}{escaped(its.name)}<small> {its.type}</small></th>",
                f"<td>{driving(item)}{escaped(item.name)}<small> {item.type}</small></td>",
                *(f"<td>{clip(Cell(its, item, method))}</td>" for method in study.methods),
            ]
            for its, item in study.pairs()
        ]
        return f"<section>{grid(head, rows, 'clips')}</section>"
    head = [
        f"<th scope='col'>{escaped(item.name)}<small> {item.type}</small>{driving(item)}</th>"
        for item in study.drivings
    ]
    sources: list[tuple[str, Sequence[Input]]] = []
    if "cross-identity" in study.protocols:
        for item in study.sources:
            title = f"{source(item)}{escaped(item.name)}<small> {item.type}</small>"
            sources.append((title, [item] * len(study.drivings)))
    if study.first_frames:
        sources.append(("its own reference frame", study.first_frames))
    met = set(study.pairs())
    shown = ""
    for method in study.methods:
        rows = [[f"<th scope='row'>{title}</th>"] for title, _ in sources]
        for row, (_, its) in zip(rows, sources, strict=True):
            for pair in zip(its, study.drivings, strict=True):
                row.append(f"<td>{clip(Cell(*pair, method)) if pair in met else ''}</td>")
        table = grid(["<th></th>", *head], rows, "clips")
        shown += f"<section><h3>{escaped(method.name)}</h3>{table}</section>"
    return shown


def _side_by_side(study: Study) -> bool:
    return bool(study.listed) and len(study.methods) > _METHODS_APART


def _arranged(study: Study) -> str:
    by_pair = "a source and its driving a row, a method a column"
    return by_pair if _side_by_side(study) else "sources down and drivings across"


def _is_large(results: Results) -> bool:
    return sum(1 for _ in results.study.cells()) > MOST_SHOWN


def _shown(results: Results) -> tuple[Results, list[Block]]:
    """Return what is small enough to be shown, and what to say if that is a sample."""
    if not _is_large(results):
        return results, []
    study = results.study
    first: dict[tuple[str, str], tuple[Input, Input]] = {}
    for source, driving in study.pairs():
        if source in study.sources or not study.sources:
            first.setdefault((source.type, driving.type), (source, driving))
    sources, drivings = (set(items) for items in zip(*first.values(), strict=True))
    sample = dataclasses.replace(
        study,
        sources=tuple(item for item in study.sources if item in sources),
        drivings=tuple(item for item in study.drivings if item in drivings),
        listed=tuple((s.name, d.name) for s, d in first.values()) if study.listed else (),
        methods=study.methods[: MOST_SHOWN // len(first)],
    )
    left = len(study.methods) - len(sample.methods)
    more = f" The first {len(sample.methods)} of {len(study.methods)} methods." if left else ""
    said = Words(f"A sample: the first source and the first driving of each type.{more}")
    return dataclasses.replace(results, study=sample), [said]


def _conditions(results: Results) -> Screen:
    """Tabulate how many clips of each condition there are, with links to the first of them."""
    study = results.study
    pairs = Counter((source.type, driving.type) for source, driving in study.pairs())
    found: defaultdict[tuple, list[CellRow]] = defaultdict(list)
    for row in results.rows.values():
        found[row.method, row.source_type, row.driving_type].append(row)
    head = ("method", "source", "driving", "cells", "clips", "failed", "not run")
    lines, shown = [], []
    for method, (pair, cells) in itertools.product(study.methods, pairs.items()):
        here = found[method.name, *pair]
        done = [row for row in here if row.status == "done"]
        counts = (cells, len(done), len(here) - len(done), cells - len(here))
        lines.append((method.name, *pair, *counts))
        links = (f"<a href='{escaped(row.clip)}' title='{escaped(row.cell)}'>{number}</a>"
                 for number, row in enumerate(done[:_LINKS], start=1))  # fmt: skip
        shown.append(f"<td>{text}</td>" for text in (*map(escaped, lines[-1]), " ".join(links)))
    table = tables.plain_table("conditions", "Clips by condition.", head, lines)
    table.write(results.out / "tables")
    rest = "<a href='clips/'>All clips</a>, and <a href='cells.csv'>one line for each cell</a>."
    return Screen(f"{grid(titles((*head, 'to see')), shown)}<p>{rest}</p>", table.to_markdown())


def _failure_kinds(results: Results, rows: list[CellRow]) -> Section:
    """Group failures by method and error, whatever inputs the error names."""
    kinds: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        error = row.error
        names = ((row.cell, "<cell>"), (row.source, "<source>"), (row.driving, "<driving>"))
        for name, stand_in in names:
            error = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", stand_in, error)
        kinds[row.method, error].append(row.cell)
    ranked = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    lines = [(len(cells), method, error, words.named(cells, _LINKS))
             for (method, error), cells in ranked]  # fmt: skip
    table = tables.plain_table(
        "failures", "Kinds of failures.", ("cells", "method", "error", "which"), lines
    )
    blocks: list[Block] = [table]
    if len(ranked) > _GROUPS:
        blocks = [_beginning(table), Words(f"{len(ranked) - _GROUPS} more kinds are in cells.csv.")]
    return kept(results.out, blocks)
