"""The report's tables of scores, statistics, metrics and raters: numbers, and how they are read."""

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from studykit.report.blocks import Table
from studykit.report.results import Results

if TYPE_CHECKING:
    import pandas

    from studykit.stats import Result

# Of a longer table the page shows the beginning, and the CSV holds it all.
MOST_ROWS = 60

# One metric of each kind that nearly every study has, for the table by condition.
_TELLING = (
    "psnr_face",
    "akd",
    "landmark_motion_error",
    "head_motion_error",
    "csim",
    "sms",
    "flow_warping_error",
)
_NONE = "–"
_CONDITION = ("method", "source_type", "driving_type")


def number(value: Any, digits: int = 2) -> str:
    """Return a number as it is read, a dash where there is none.

    >>> number(float("nan")), number(-0.001), number(1234.5, 0)
    ('–', '0.00', '1234')
    """
    import pandas as pd

    if pd.isna(value):
        return _NONE
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def with_interval(
    line: Any, value: str = "mean", low: str = "low", high: str = "high", digits: int = 2
) -> str:
    """Return a row's value and its interval, as ``3.42 [3.10, 3.71]``."""
    import pandas as pd

    text = number(line[value], digits)
    if pd.isna(line[value]) or pd.isna(line[low]) or pd.isna(line[high]):
        return text
    return f"{text} [{number(line[low], digits)}, {number(line[high], digits)}]"


def p_value(p: Any) -> str:
    """Return a p value as papers print it.

    >>> p_value(0.0004), p_value(0.0312), p_value(0.5)
    ('< 0.001', '0.031', '0.50')
    """
    import pandas as pd

    if pd.isna(p):
        return _NONE
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def verdicts(results: Results) -> Table:
    """The verdict of each condition with its mean and interval: a row a method and source type."""
    import pandas as pd

    data = results.analysis.verdicts.table
    sources, drivings = results.types
    found = {tuple(line[name] for name in _CONDITION): line for _, line in data.iterrows()}
    rows, classes = [], {}
    for method in results.methods:
        for source in sources:
            row = [method, source]
            for driving in drivings:
                line = found.get((method, source, driving))
                if line is None:
                    row.append("not rated")
                    continue
                classes[len(rows), len(row)] = "verdict-" + line["verdict"].split()[0]
                row.append(f"{line['verdict']}: {with_interval(line)}")
            rows.append(row)
    shown = pd.DataFrame(rows, columns=["method", "source", *(f"driving {t}" for t in drivings)])
    caption = _said(
        results,
        "Verdict of each condition, with the mean over raters of all criteria and its 95 % "
        "interval.",
    )
    return Table("verdicts", caption, data, shown, classes)


def scores_by_method(results: Results) -> Table:
    """Mean scores of each method over all conditions, a column a criterion."""
    return _scores(
        results,
        "scores-by-method",
        results.analysis.method_scores,
        ("method",),
        "Mean scores by method, with 95 % intervals over raters.",
    )


def scores_by_condition(results: Results) -> Table:
    """Mean scores of each condition, a column a criterion."""
    return _scores(
        results,
        "scores-by-condition",
        results.analysis.condition_scores,
        _CONDITION,
        "Mean scores by condition, with 95 % intervals over raters.",
    )


def friedman(results: Results) -> Table:
    """Whether the conditions differ at all, by criterion."""
    return _shown(
        results,
        "friedman",
        results.analysis.friedman,
        "Friedman's test over all conditions.",
        {
            "criterion": _as("criterion"),
            "chi-squared": _digits("chi2", 1),
            "df": _digits("df", 0),
            "p": _p("p"),
            "Kendall's W": _digits("kendall_w"),
            "conditions": _digits("n_conditions", 0),
            "raters": _digits("n_raters", 0),
            "left out": _digits("n_dropped", 0),
        },
    )


def pairwise(results: Results, result: "Result", name: str, what: str) -> Table:
    """Which of two differ, by criterion, corrected for the whole family of comparisons."""
    return _shown(
        results,
        name,
        result,
        f"Pairwise comparisons of {what}: Wilcoxon signed-rank tests, Holm-corrected over all "
        f"{len(result.table)} rows; the effect is the matched-pairs rank-biserial correlation.",
        {
            "criterion": _as("criterion"),
            "first": _as("first"),
            "second": _as("second"),
            "difference": lambda line: with_interval(line, "difference"),
            "p (Holm)": _p("p_holm"),
            "effect": _digits("effect"),
            "raters": _digits("n_raters", 0),
        },
    )


def model_terms(results: Results) -> Table | None:
    """The tests of the mixed models' terms, a row a term, a column a criterion."""
    models = {name: model for name, model in results.analysis.models.items() if len(model.table)}
    if not models:
        return None
    import pandas as pd

    data = _stacked(
        {name: model.table.assign(formula=model.formula) for name, model in models.items()}
    )
    terms = list(dict.fromkeys(data["term"]))
    rows = []
    for term in terms:
        row = {"term": term}
        for name in models:
            line = data[(data["term"] == term) & (data["criterion"] == name)]
            row[name] = _f_test(line.iloc[0]) if len(line) else _NONE
        rows.append(row)
    caption = _said(results, "Tests of the mixed model's terms, one model a criterion.")
    return Table("mixed-model-terms", caption, data, pd.DataFrame(rows))


def model_means(results: Results) -> Table | None:
    """The mixed models' estimated means of each type and method."""
    return _model_part(
        results,
        "means",
        "mixed-model-means",
        "Estimated marginal means of the mixed models, with 95 % intervals.",
        ["factor", "level"],
        with_interval,
    )


def model_differences(results: Results) -> Table | None:
    """The mixed models' differences between types and between methods."""
    return _model_part(
        results,
        "differences",
        "mixed-model-differences",
        "Differences of the mixed models' means (first minus second) with 95 % intervals; "
        "* is p < 0.05 after Holm's correction within the factor.",
        ["factor", "first", "second"],
        lambda line: with_interval(line, "difference") + ("*" if line["p_holm"] < 0.05 else ""),
    )


def model_variances(results: Results) -> Table | None:
    """How the scores' variance is shared among raters, inputs, clips and the rest."""
    return _model_part(
        results,
        "variances",
        "mixed-model-variances",
        "Share of the variance that the mixed models leave to each random effect.",
        ["group"],
        lambda line: f"{100 * line['share']:.0f} %" if line["share"] == line["share"] else _NONE,
    )


def agreement(results: Results) -> Table:
    """How far raters agree, by criterion."""
    return _shown(
        results,
        "agreement",
        results.analysis.agreement,
        "Agreement among raters, with 95 % intervals: Krippendorff's alpha (ordinal) and "
        "intraclass correlation of one rater and of the mean of all.",
        {
            "criterion": _as("criterion"),
            "alpha": lambda line: with_interval(line, "alpha", "alpha_low", "alpha_high"),
            "ICC, one rater": lambda line: with_interval(
                line, "icc_single", "icc_single_low", "icc_single_high"
            ),
            "ICC, mean": lambda line: with_interval(
                line, "icc_mean", "icc_mean_low", "icc_mean_high"
            ),
            "raters": _digits("n_raters", 0),
            "clips": _digits("n_clips", 0),
            "reading": _as("reading"),
        },
    )


def criteria_correlation(results: Results) -> Table:
    """How the four criteria go together over clips."""
    return _shown(
        results,
        "criteria-correlation",
        results.analysis.criteria_correlation,
        "Spearman's rank correlation among the criteria, over clips, with 95 % intervals.",
        {
            "first": _as("first"),
            "second": _as("second"),
            "rho": lambda line: with_interval(line, "rho"),
            "p (Holm)": _p("p_holm"),
            "clips": _digits("n_clips", 0),
        },
    )


def metric_correlation(results: Results) -> Table:
    """How far each metric goes with what raters say, a row a metric, a column a criterion."""
    import pandas as pd

    data = results.analysis.metric_correlation.table
    rows = []
    for metric in dict.fromkeys(data["metric"]):
        here = data[data["metric"] == metric].set_index("criterion")
        row = {"metric": metric_label(metric), "better": here["better"].iloc[0]}
        for criterion, line in here.iterrows():
            row[criterion] = _NONE if pd.isna(line["rho"]) else _starred(line)
        row["clips"] = number(here["n_clips"].max(), 0)
        rows.append(row)
    caption = _said(
        results,
        "Spearman's rank correlation of each metric with the clips' mean scores; above 0 the "
        "metric agrees with the raters, * is p < 0.05 after Holm's correction.",
    )
    return Table("metric-correlation", caption, data, pd.DataFrame(rows).fillna(_NONE))


def bradley_terry(results: Results) -> Table:
    """The strength of each method in paired comparisons."""
    return _shown(
        results,
        "paired-comparisons",
        results.analysis.bradley_terry,
        "Paired comparisons: strength in the Bradley-Terry model (log odds), with 95 % intervals.",
        {
            "criterion": _as("criterion"),
            "method": _as("item"),
            "strength": lambda line: with_interval(line, "strength"),
            "beats an average method": lambda line: f"{100 * line['share']:.0f} %",
            "comparisons": _digits("n_comparisons", 0),
            "raters": _digits("n_raters", 0),
        },
    )


def metrics_by_method(results: Results) -> Table:
    """Each metric's mean over a method's clips, the driving's own figure beside it."""
    import pandas as pd

    data = _metric_means(results, ["method"])
    rows = []
    for metric in _in_order(data["metric"]):
        here = data[data["metric"] == metric].set_index("method")
        first = here.iloc[0]
        row = {"metric": metric_label(metric), "unit": first["unit"], "better": first["better"]}
        for method in results.methods:
            known = method in here.index
            row[method] = significant(here.loc[method, "value"]) if known else _NONE
        row["driving itself"] = significant(here["driving"].mean())
        row["clips"] = "/".join(str(here["n_clips"].get(method, 0)) for method in results.methods)
        rows.append(row)
    caption = (
        "Metrics by method, mean over clips. The driving's own figure stands beside those that "
        "speak of time: a shaky driving is no fault of the method. Clips are counted in the order "
        "of the methods."
    )
    return Table("metrics-by-method", caption, data, pd.DataFrame(rows))


def metrics_by_condition(results: Results) -> Table:
    """One metric of each kind by condition; all of them are in the CSV."""
    import pandas as pd

    data = _metric_means(results, list(_CONDITION))
    telling = [name for name in _in_order(data["metric"]) if name in _TELLING]
    rows = []
    for condition, here in data.groupby(list(_CONDITION), sort=False):
        values = here.set_index("metric")
        row = dict(zip(("method", "source", "driving"), condition, strict=True))
        for name in telling:
            if name not in values.index:
                row[metric_label(name)] = _NONE
                continue
            line = values.loc[name]
            beside = "" if pd.isna(line["driving"]) else f" ({significant(line['driving'])})"
            row[metric_label(name)] = significant(line["value"]) + beside
        rows.append(row)
    caption = (
        "Some metrics by condition, mean over clips; in brackets the same figure of the driving. "
        "All metrics are in the CSV file."
    )
    return _cut(Table("metrics-by-condition", caption, data, pd.DataFrame(rows)))


def paper_table(results: Results) -> Table:
    """The table that papers on face animation print."""
    from studykit import metrics

    data = metrics.paper_table(results.study, results.out)
    shown = data.map(lambda value: significant(value) if isinstance(value, float) else str(value))
    caption = (
        "Reconstruction, motion and identity as papers on face animation print them. L1, LPIPS, "
        "FID, AKD and AED are better when lower; PSNR, SSIM and MS-SSIM when higher."
    )
    return Table("papers", caption, data, shown)


def timing(results: Results) -> Table:
    """Seconds a frame by method and device."""
    import pandas as pd

    columns = ("method", "device", "clips", "frames", "seconds", "seconds a frame (median)")
    lines = []
    for method in results.methods:
        rows = [r for r in results.rows.values() if r.method == method and r.status == "done"]
        for device in sorted({row.device for row in rows}):
            here = [row for row in rows if row.device == device]
            a_frame = median(row.seconds / row.frames for row in here)
            frames, seconds = sum(r.frames for r in here), sum(r.seconds for r in here)
            lines.append((method, device, len(here), frames, round(seconds, 3), round(a_frame, 6)))
    data = pd.DataFrame(lines, columns=list(columns))
    shown = data.astype(str)
    shown["seconds"] = [f"{value:.1f}" for value in data["seconds"]]
    shown[columns[-1]] = [f"{value:.4f}" for value in data[columns[-1]]]
    return Table("timing", "Time to make the clips, by method.", data, shown)


def exclusions(results: Results) -> Table:
    """Who was excluded, by which rule and why."""
    import pandas as pd

    data = results.screening.table
    out = data[data["excluded"]]
    shown = pd.DataFrame(
        {
            "rater": out["rater"].astype(str),
            "rule": out["rule"],
            "reason": out["reason"],
        }
    )
    caption = _said(results, "Excluded raters and why. All raters by all rules are in the CSV.")
    return _cut(Table("screening", caption, data, shown))


def kept_beside_all(results: Results) -> Table:
    """Each method's overall score with and without the excluded raters."""
    import pandas as pd

    parts = {"kept": results.analysis.method_scores.table, "all": results.scores_of_all.table}
    data = _stacked(parts, "raters")
    rows = []
    for (method, criterion), here in data.groupby(["method", "criterion"], sort=False):
        lines = here.set_index("raters")
        rows.append(
            {"method": method, "criterion": criterion}
            | {
                f"{name} raters": with_interval(lines.loc[name]) if name in lines.index else _NONE
                for name in parts
            }
        )
    caption = _said(results, "Scores by method without and with the excluded raters.")
    return _cut(Table("scores-kept-and-all", caption, data, pd.DataFrame(rows)))


def rater_answers(results: Results) -> Table | None:
    """What raters said of themselves, counted; None where nothing was asked."""
    import pandas as pd

    asked = [name for name in results.raters.columns if name not in ("rater", "complete")]
    people = results.raters.drop_duplicates("rater")
    rows = [
        (question, answer, count)
        for question in asked
        for answer, count in people[question].fillna("").value_counts().items()
    ]
    if not rows:
        return None
    data = pd.DataFrame(rows, columns=["question", "answer", "raters"])
    shown = data.astype(str).replace({"answer": {"": "not answered"}})
    shown["question"] = shown["question"].str.replace("_", " ")
    return Table("raters", _said(results, "What raters said of themselves."), data, shown)


def plain_table(name: str, caption: str, columns: Sequence[str], lines: Sequence[tuple]) -> Table:
    """A table of words, shown as it is."""
    import pandas as pd

    data = pd.DataFrame(lines, columns=list(columns))
    return Table(name, caption, data, data.astype(str))


def metric_label(name: str) -> str:
    """Return how a metric is written in tables."""
    from studykit import metrics

    return metrics.METRICS[name].label if name in metrics.METRICS else name.upper()


def _scores(
    results: Results, name: str, result: "Result", by: Sequence[str], caption: str
) -> Table:
    import pandas as pd

    data = result.table
    order = {method: place for place, method in enumerate(results.methods)}
    rows = []
    for keys, here in data.groupby(list(by), sort=False):
        lines = here.set_index("criterion")
        row = dict(zip((word.removesuffix("_type") for word in by), keys, strict=True))
        row |= {criterion: with_interval(line) for criterion, line in lines.iterrows()}
        row |= {"raters": lines["n_raters"].max(), "ratings": lines["n_ratings"].max()}
        row |= _note(lines["words"])
        rows.append(row)
    rows.sort(key=lambda row: order.get(row["method"], len(order)))
    shown = pd.DataFrame(rows).fillna("").astype(str)
    return _cut(Table(name, _said(results, caption), data, shown))


def _shown(
    results: Results,
    name: str,
    result: "Result",
    caption: str,
    columns: dict[str, Callable[[Any], str]],
) -> Table:
    """Return a table of statistics; where a number can't be had, a last column says why."""
    import pandas as pd

    lines = [line for _, line in result.table.iterrows()]
    shown = pd.DataFrame(
        {title: [column(line) for line in lines] for title, column in columns.items()}
    )
    words = [line.get("words", "") for line in lines]
    if any(words):
        shown["note"] = words
    return _cut(Table(name, _said(results, caption), result.table, shown))


def _model_part(
    results: Results,
    part: str,
    name: str,
    caption: str,
    keys: list[str],
    text: Callable[[Any], str],
) -> Table | None:
    """Return one table of all criteria's models: their keys as rows, the criteria as columns."""
    import pandas as pd

    models = {name: getattr(model, part) for name, model in results.analysis.models.items()}
    models = {name: table for name, table in models.items() if len(table)}
    if not models:
        return None
    data = _stacked(models)
    rows = []
    for key, here in data.groupby(keys, sort=False):
        lines = here.set_index("criterion")
        row = {name: str(part).replace("_", " ") for name, part in zip(keys, key, strict=True)}
        row |= {name: text(lines.loc[name]) for name in models if name in lines.index}
        rows.append(row | _note(lines["words"]))
    shown = pd.DataFrame(rows).fillna("").astype(str)
    return _cut(Table(name, _said(results, caption), data, shown))


def _metric_means(results: Results, by: list[str]) -> "pandas.DataFrame":
    """Return the mean of each metric over the cells of a group, in the study's order."""
    import pandas as pd

    order = {method: place for place, method in enumerate(results.methods)}
    cells = pd.DataFrame(
        [
            (row.cell, row.method, row.source_type, row.driving_type)
            for row in results.rows.values()
        ],
        columns=["cell", *_CONDITION],
    )
    joined = results.metrics.merge(cells, on="cell")
    joined = joined.sort_values("method", key=lambda names: names.map(order), kind="stable")
    grouped = joined.groupby([*by, "metric", "unit", "better"], sort=False, dropna=False)
    means = grouped.agg(
        value=("value", "mean"), driving=("driving", "mean"), n_clips=("cell", "nunique")
    )
    return means.reset_index()


def _in_order(names: Sequence[str]) -> list[str]:
    from studykit import metrics

    there = list(dict.fromkeys(names))
    known = [name for name in metrics.METRICS if name in there]
    return known + [name for name in there if name not in metrics.METRICS]


def _stacked(
    tables: "dict[str, pandas.DataFrame]", column: str = "criterion"
) -> "pandas.DataFrame":
    import pandas as pd

    return pd.concat(
        [table.drop(columns=column, errors="ignore").assign(**{column: name})
         for name, table in tables.items()], ignore_index=True,
    )  # fmt: skip


def _cut(table: Table) -> Table:
    """Leave the beginning of a long table, and say that the rest is in the CSV."""
    rows = len(table.shown)
    if rows <= MOST_ROWS:
        return table
    caption = f"{table.caption} The first {MOST_ROWS} of {rows} rows; the CSV file has them all."
    return Table(table.name, caption, table.data, table.shown.head(MOST_ROWS), table.classes)


def _said(results: Results, caption: str) -> str:
    return f"{caption} Simulated ratings." if results.simulated else caption


def _note(words: "pandas.Series") -> dict[str, str]:
    told = list(dict.fromkeys(word for word in words if word))
    return {"note": "; ".join(told)} if told else {}


def _f_test(line: Any) -> str:
    if line["words"]:
        return line["words"]
    degrees = f"{number(line['df'], 0)}, {number(line['df_error'], 1)}"
    p = p_value(line["p"])
    return f"F({degrees}) = {number(line['f'])}, p {p if p.startswith('<') else f'= {p}'}"


def _starred(line: Any) -> str:
    return number(line["rho"]) + ("*" if line["p_holm"] < 0.05 else "")


def significant(value: Any) -> str:
    """Return three significant digits, which is what a metric's mean is worth.

    >>> significant(0.01234), significant(12.345), significant(1234.5)
    ('0.0123', '12.3', '1234')
    """
    import pandas as pd

    if pd.isna(value):
        return _NONE
    if value == 0 or not 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _as(name: str) -> Callable[[Any], str]:
    return lambda line: str(line[name])


def _digits(name: str, digits: int = 2) -> Callable[[Any], str]:
    return lambda line: number(line[name], digits)


def _p(name: str) -> Callable[[Any], str]:
    return lambda line: p_value(line[name])
