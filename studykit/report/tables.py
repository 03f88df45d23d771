"""The report's tables of scores, statistics, metrics and raters: numbers, and how they are read."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from studykit import metrics, stats
from studykit.report.blocks import ENDS_SIMULATED, Table
from studykit.report.results import Results

# Of a longer table the page shows the beginning, and the CSV holds it all.
MOST_ROWS = 60

MADE_BY = ("method", "settings", "device", "weights")

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
_CONDITION = ["method", "source_type", "driving_type"]


def number(value: Any, digits: int = 2) -> str:
    """Return a number as it is read, a dash where there is none.

    >>> number(float("nan")), number(-0.001), number(1234.5, 0)
    ('–', '0.00', '1234')
    """
    if pd.isna(value):
        return _NONE
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def with_interval(line: Any, value: str = "mean", low: str = "low", high: str = "high") -> str:
    """Return a row's value and its interval, as ``3.42 [3.10, 3.71]``."""
    text = number(line[value])
    if pd.isna([line[value], line[low], line[high]]).any():
        return text
    return f"{text} [{number(line[low])}, {number(line[high])}]"


def p_value(p: Any) -> str:
    """Return a p value as papers print it.

    >>> p_value(0.0004), p_value(0.0312), p_value(0.5)
    ('< 0.001', '0.031', '0.50')
    """
    if pd.isna(p):
        return _NONE
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def p_words(p: Any) -> str:
    """Return a p value inside a sentence, as ``p = 0.031``."""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def verdicts(results: Results) -> Table:
    """The verdict of each condition and what decided it: a row a method and source type."""
    data = results.analysis.verdicts.table
    sources, drivings = results.types
    wide = _wide(
        data, ["method", "source_type"], "driving_type",
        lambda line: f"{line['verdict']}: {line['criterion']} {with_interval(line)}",
        rows=pd.MultiIndex.from_product([results.methods, sources]),
        columns=drivings, missing="not rated",
    )  # fmt: skip
    shown = wide.reset_index()
    shown.columns = ["method", "source", *(f"driving {kind}" for kind in drivings)]
    classes = {
        (row, column): "verdict-" + text.split()[0].rstrip(":")
        for row, line in enumerate(wide.itertuples(index=False))
        for column, text in enumerate(line, start=2)
        if text != "not rated"
    }
    caption = said(
        results,
        "Verdict of each condition on these clips, with the criterion that decided, its mean over "
        "raters and the 95 % interval.",
    )
    return Table("verdicts", caption, data, shown, classes)


def scores(results: Results, by: Literal["method", "condition"]) -> Table:
    """Mean scores of each method or of each condition, a column a criterion."""
    data = getattr(results.analysis, f"{by}_scores").table
    keys = ["method"] if by == "method" else _CONDITION
    wide = _wide(data, keys, "criterion", with_interval)
    groups = data.groupby(keys, sort=False)
    wide["raters"], wide["ratings"] = groups["n_raters"].max(), groups["n_ratings"].max()
    shown = _in_study_order(results, _noted(wide, groups).reset_index())
    shown = shown.rename(columns=lambda name: name.removesuffix("_type")).astype(str)
    caption = f"Mean scores by {by}, with 95 % intervals over raters."
    return _cut(Table(f"scores-by-{by}", said(results, caption), data, shown))


def statistic(results: Results, part: str) -> Table:
    """One part of the analysis, such as "friedman", in the form that papers print.

    Where a number can't be had, a last column says why.
    """
    name, caption, columns = _STATISTICS[part]
    data = getattr(results.analysis, part).table
    lines = [line for _, line in data.iterrows()]
    shown = pd.DataFrame(
        {
            _TITLES.get(column, column.removeprefix("n_")): [_text(line, column) for line in lines]
            for column in columns
        }
    )
    words = [line.get("words", "") for line in lines]
    if any(words):
        shown["note"] = words
    return _cut(Table(name, said(results, caption.format(rows=len(data))), data, shown))


def findings(results: Results) -> Table:
    """What may be claimed of raters, sources and drivings like these; every claim is in the CSV."""
    data = results.analysis.findings.table
    data = data.assign(primary=stats.is_primary(results.plan, data))
    like = data[(data["scope"] == stats.LIKE) & ~data["claim"].str.contains("predict|against")]
    shown_too = ~like["claim"].str.contains(" x ") | (like["p_adjusted"] < 0.05)
    told = like[(like["reason"] == "") & shown_too]
    shown = pd.DataFrame(
        {
            "claim": told["claim"].str.replace(" x ", " × "),
            "first": told["subject"].map(_labelled),
            "second": told["versus"],
            "criterion": told["criterion"],
            "estimate": [with_interval(line, "estimate") for _, line in told.iterrows()],
            "p": told["p"].map(p_value),
            "p (Holm)": told["p_adjusted"].map(p_value),
        }
    )  # fmt: skip
    left = (like["reason"] != "").sum()
    caption = (
        "Differences, first less second, with 95 % intervals; of metrics, correlations. Holm's "
        "correction over all rows of a claim. Interactions that were not shown are in the CSV "
        "file. " + (f"{left} claims could not be tested: the file says why." if left else "")
    )
    return _cut(Table("findings", said(results, caption.strip()), data, shown))


def rater_levels(results: Results) -> Table:
    """Each rater's bias and inconsistency, a column a criterion."""
    data = results.analysis.raters.table
    wide = _wide(data, ["rater"], "criterion",
                 lambda line: f"{line['bias']:+.2f} (± {line['inconsistency']:.2f})",
                 missing=_NONE)  # fmt: skip
    caption = "How far each rater lies above the others on the same clips (± inconsistency), steps."
    return _cut(Table("rater-levels", said(results, caption), data, wide.reset_index()))


def metric_correlation(results: Results) -> Table:
    """How far each metric goes with what raters say, a row a metric, a column a criterion."""
    data = results.analysis.metric_correlation.table
    wide = _wide(data, ["metric"], "criterion", _starred, missing=_NONE)
    groups = data.groupby("metric")
    wide.insert(0, "better", groups["better"].first())
    wide.insert(1, "primary", groups["primary"].first().map({True: "yes", False: ""}))
    wide["clips"] = groups["n_clips"].max().map(lambda count: number(count, 0))
    shown = wide.reset_index()
    shown["metric"] = shown["metric"].map(metric_label)
    caption = said(
        results,
        "Correlation of each metric with the clips' mean scores within sources, drivings and "
        f"methods; above 0 the metric agrees with the raters. Primary metrics, {_by(results)}, "
        "are tested: * is p < 0.05 after Holm's correction over them.",
    )
    return Table("metric-correlation", caption, data, shown)


def _by(results: Results) -> str:
    """Say who named the primary metrics: beforehand only where that can be shown."""
    named, plan = results.study.plan.metrics, results.plan
    if named:
        early = plan and plan.intact and not (plan.late or plan.withdrawn)
        if plan is None or not early or plan.contents.get("primary_metrics") != list(named):
            return "named by the study file"
    return "named beforehand"


def metrics_by_method(results: Results) -> Table:
    """Each metric's mean over a method's clips, the driving's own figure beside it."""
    data = _metric_means(results, ["method"])
    names, groups = _in_order(data["metric"]), data.groupby("metric")
    wide = _wide(
        data, ["metric"], "method", lambda line: significant(line["value"]),
        rows=pd.Index(names), columns=results.methods, missing=_NONE,
    )  # fmt: skip
    counts = data.pivot(index="metric", columns="method", values="n_clips")
    counts = counts.reindex(columns=results.methods).fillna(0).astype(int).astype(str)
    wide.insert(0, "metric", [metric_label(name) for name in names])
    wide.insert(1, "unit", groups["unit"].first())
    wide.insert(2, "better", groups["better"].first())
    wide["driving itself"] = groups["driving"].mean().map(significant)
    wide["clips"] = counts.agg("/".join, axis=1)
    caption = (
        "Metrics by method, mean over clips. The driving's own figure stands beside those that "
        "speak of time: a shaky driving is no fault of the method. Clips are counted in the order "
        "of the methods."
    )
    return Table("metrics-by-method", caption, data, wide)


def metrics_by_condition(results: Results) -> Table:
    """One metric of each kind by condition; all of them are in the CSV."""
    data = _metric_means(results, _CONDITION)

    def text(line: Any) -> str:
        beside = "" if pd.isna(line["driving"]) else f" ({significant(line['driving'])})"
        return significant(line["value"]) + beside

    telling = [name for name in _in_order(data["metric"]) if name in _TELLING]
    wide = _wide(data, _CONDITION, "metric", text, columns=telling, missing=_NONE)
    shown = wide.rename(columns=metric_label).reset_index()
    shown = shown.rename(columns=lambda name: name.removesuffix("_type"))
    caption = (
        "Some metrics by condition, mean over clips; in brackets the same figure of the driving. "
        "All metrics are in the CSV file."
    )
    return _cut(Table("metrics-by-condition", caption, data, shown))


def paper_table(results: Results) -> Table:
    """The table that papers on face animation print."""
    data = metrics.paper_table(results.study, results.out)
    shown = data.map(lambda value: significant(value) if isinstance(value, float) else str(value))
    caption = (
        "Reconstruction, motion and identity as papers on face animation print them, all against "
        "the true frames. L1, LPIPS, FID, AKD and AED are better when lower; PSNR, SSIM and "
        "MS-SSIM when higher. Conventions: L1 of RGB from 0 to 1; SSIM and MS-SSIM of luma "
        "(BT.601) with a Gaussian window of 11 pixels, without the border; torchmetrics' mean over "
        "R, G and B differs by 0.01 to 0.02. AKD and AED are mean Euclidean distances, of "
        "68 landmarks in pixels and of dlib's embeddings."
    )
    return Table("papers", caption, data, shown)


def timing(results: Results) -> Table:
    """Seconds a frame by method and device."""
    rows = pd.DataFrame(results.made, columns=["method", "device", "frames", "seconds"])
    rows = rows[rows["method"].isin(results.methods)]
    a_frame = "seconds a frame (median)"
    groups = rows.assign(pace=rows["seconds"] / rows["frames"]).groupby(["method", "device"])
    data = groups.agg(
        clips=("frames", "size"),
        frames=("frames", "sum"),
        seconds=("seconds", "sum"),
        **{a_frame: ("pace", "median")},
    )
    data = _in_study_order(results, data.round({"seconds": 3, a_frame: 6}).reset_index())
    shown = data.astype(str)
    for column, digits in (("seconds", 1), (a_frame, 4)):
        shown[column] = [f"{value:.{digits}f}" for value in data[column]]
    caption = "Time to make the clips, by method, as a clock shows it: other work makes it longer."
    return Table("timing", caption, data, shown)


def exclusions(results: Results) -> Table:
    """Who was excluded, by which rule and why."""
    data = results.screening.table
    shown = data.loc[data["excluded"], ["rater", "rule", "reason"]].astype({"rater": str})
    caption = said(results, "Excluded raters and why. All raters by all rules are in the CSV.")
    return _cut(Table("screening", caption, data, shown))


def kept_beside_all(results: Results) -> Table:
    """Each method's scores with and without the excluded raters."""
    scale = results.study.ratings.scale
    of_all = stats.mean_scores(results.ratings, ("method",), scale=scale)
    parts = {"kept": results.analysis.method_scores.table, "all": of_all.table}
    data = stacked(parts, "raters")
    wide = _wide(data, ["method", "criterion"], "raters", with_interval, columns=list(parts),
                 missing=_NONE)  # fmt: skip
    shown = wide.rename(columns="{} raters".format).reset_index()
    caption = said(results, "Scores by method without and with the excluded raters.")
    return _cut(Table("scores-kept-and-all", caption, data, shown))


def rater_answers(results: Results) -> Table | None:
    """What raters said of themselves, counted; None where nothing was asked."""
    people = results.raters.drop_duplicates("rater").drop(columns=["rater", "complete"])
    if people.empty:
        return None
    counts = {question: people[question].fillna("").value_counts() for question in people}
    data = pd.concat(counts, names=["question", "answer"]).rename("raters").reset_index()
    shown = data.astype(str).replace({"answer": {"": "not answered"}})
    shown["question"] = shown["question"].str.replace("_", " ")
    return Table("raters", said(results, "What raters said of themselves."), data, shown)


def made_by(method: Mapping[str, Any]) -> dict[str, str]:
    """Return what a manifest says of a method, in words by ``MADE_BY``."""
    settings = ", ".join(f"{name}={value}" for name, value in method["settings"].items())
    weights = f"{method['weights']} {method['weights_hash'][:16]}".strip()
    weights = weights or method.get("version", "")  # of a program, which has its own
    return dict(zip(MADE_BY, (method["method"], settings, method["device"], weights), strict=True))


def plain_table(name: str, caption: str, columns: Sequence[str], lines: Sequence[tuple]) -> Table:
    """A table of words, shown as it is."""
    data = pd.DataFrame(lines, columns=list(columns))
    return Table(name, caption, data, data.astype(str))


def metric_label(name: str) -> str:
    """Return how a metric is written in tables."""
    return metrics.METRICS[name].label if name in metrics.METRICS else name.upper()


def _labelled(name: str) -> str:
    """Return a metric's label, or what else a row is about as it is."""
    return metrics.METRICS[name].label if name in metrics.METRICS else name


def said(results: Results, caption: str) -> str:
    """Return a caption that says so where the ratings are simulated."""
    return f"{caption} {ENDS_SIMULATED}" if results.simulated else caption


def stacked(tables: Mapping[str, pd.DataFrame], column: str = "criterion") -> pd.DataFrame:
    """Return tables one below the other, with a last column of their names."""
    named = (table.drop(columns=column, errors="ignore").assign(**{column: name})
             for name, table in tables.items())  # fmt: skip
    return pd.concat(named, ignore_index=True)


def _wide(
    data: pd.DataFrame,
    keys: list[str],
    across: str,
    text: Callable[[Any], str],
    *,
    rows: pd.Index | None = None,
    columns: Sequence[str] | None = None,
    missing: str = "",
) -> pd.DataFrame:
    """Return a table of texts: a row for the keys, a column for each value of ``across``.

    Parameters
    ----------
    data : DataFrame
        One row a text.
    text : callable
        From a row of ``data``.
    rows, columns
        What is shown, in order; by default what there is, in the order of ``data``.
    missing : str
        Stands where there is no row.
    """
    texts = data.assign(text=[text(line) for _, line in data.iterrows()])
    wide = texts.pivot(index=keys, columns=across, values="text")
    rows = data.drop_duplicates(keys).set_index(keys).index if rows is None else rows
    columns = data[across].unique() if columns is None else columns
    wide = wide.reindex(index=rows.rename(keys if len(keys) > 1 else keys[0]), columns=columns)
    return wide.astype(object).fillna(missing).rename_axis(columns=None)


def _noted(wide: pd.DataFrame, groups: Any) -> pd.DataFrame:
    """Add what the rows' words say, if they say anything."""
    notes = groups["words"].agg(lambda words: "; ".join(dict.fromkeys(filter(None, words))))
    return wide.assign(note=notes) if notes.any() else wide


def _in_study_order(results: Results, table: pd.DataFrame) -> pd.DataFrame:
    order = {method: place for place, method in enumerate(results.methods)}
    return table.sort_values("method", key=lambda names: names.map(order), kind="stable")


def _metric_means(results: Results, by: list[str]) -> pd.DataFrame:
    """Return the mean of each metric over the cells of a group, in the study's order."""
    cells = pd.DataFrame([*results.rows.values()], columns=["cell", *_CONDITION])
    joined = _in_study_order(results, results.metrics.merge(cells, on="cell"))
    grouped = joined.groupby([*by, "metric", "unit", "better"], sort=False, dropna=False)
    means = grouped.agg(
        value=("value", "mean"), driving=("driving", "mean"), n_clips=("cell", "nunique")
    )
    return means.reset_index()


def _in_order(names: Sequence[str]) -> list[str]:
    there = list(dict.fromkeys(names))
    known = [name for name in metrics.METRICS if name in there]
    return known + [name for name in there if name not in metrics.METRICS]


def _cut(table: Table) -> Table:
    """Leave the beginning of a long table, and say that the rest is in the CSV."""
    rows = len(table.shown)
    if rows <= MOST_ROWS:
        return table
    caption = f"{table.caption} The first {MOST_ROWS} of {rows} rows; the CSV file has them all."
    return Table(table.name, caption, table.data, table.shown.head(MOST_ROWS), table.classes)


def significant(value: Any) -> str:
    """Return three significant digits, which is what a metric's mean is worth.

    >>> significant(0.01234), significant(12.345), significant(1234.5)
    ('0.0123', '12.3', '1234')
    """
    if pd.isna(value):
        return _NONE
    if value == 0 or not 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _starred(line: Any) -> str:
    return number(line["r"]) + ("*" if line["p_holm"] < 0.05 else "")


def _text(line: Any, name: str) -> str:
    """Return a column as papers print its kind: an estimate, a count, a p value or a word."""
    value = line[name]
    if name in _ESTIMATES:
        own = f"{name}_" if f"{name}_low" in line else ""
        return with_interval(line, name, f"{own}low", f"{own}high")
    if isinstance(value, str):
        return _labelled(value)
    if name in ("p", "p_holm"):
        return p_value(value)
    if name == "share":
        return _percent(value)
    return number(value, 0 if name == "df" or name.startswith("n_") else 1 if name == "chi2" else 2)


def _percent(share: Any) -> str:
    return _NONE if pd.isna(share) else f"{100 * share:.0f} %"


# Columns that have an interval.
_ESTIMATES = ("difference", "mean", "one_rater", "plcc", "r", "strength")
_TITLES = {
    "chi2": "chi-squared",
    "item": "method",
    "kendall_w": "Kendall's W",
    "mean": "mean of the raters",
    "n_dropped": "left out",
    "one_rater": "one rater, ICC(2,1)",
    "outlier_ratio": "outliers",
    "p_holm": "p (Holm)",
    "plcc": "PLCC",
    "rmse": "RMSE",
    "share": "is preferred",
    "sos": "SOS",
}
_PAIRWISE = ("criterion", "first", "second", "difference", "p_holm", "effect", "n_raters")
_PAIRWISE_CAPTION = (
    "Pairwise comparisons of {}: Wilcoxon signed-rank tests, Holm-corrected over all {{rows}} "
    "rows; the effect is the matched-pairs rank-biserial correlation."
)

# By the analysis's part: its table's name, caption and columns.
_STATISTICS: dict[str, tuple[str, str, Sequence[str]]] = {
    "friedman": (
        "friedman",
        "Friedman's test over all conditions.",
        ("criterion", "chi2", "df", "p", "kendall_w", "n_conditions", "n_raters", "n_dropped"),
    ),
    "pairwise": ("pairwise-methods", _PAIRWISE_CAPTION.format("methods"), _PAIRWISE),
    "source_pairwise": ("pairwise-sources", _PAIRWISE_CAPTION.format("source types"), _PAIRWISE),
    "driving_pairwise": ("pairwise-drivings", _PAIRWISE_CAPTION.format("driving types"), _PAIRWISE),
    "agreement": (
        "agreement",
        "How much of the variance is the clips' own, with 95 % intervals: of one rater's answer, "
        "and of a clip's mean over its raters; and the SOS parameter, which is 0 where all agree.",
        ("criterion", "one_rater", "mean", "sos", "n_raters", "n_clips"),
    ),
    "criteria_correlation": (
        "criteria-correlation",
        "Correlation of criteria over a rater's clips, mean over raters, with 95 % intervals.",
        ("first", "second", "r", "n_raters", "n_clips"),
    ),
    "prediction": (
        "prediction",
        "How well primary metrics predict the clips' scores (overall where that was asked, "
        "else the mean over the criteria; ITU-T P.1401), with 95 % intervals; "
        "where two are named, the difference of their Fisher-transformed correlations.",
        ("first", "second", "plcc", "rmse", "outlier_ratio", "p_holm", "n_clips"),
    ),
    "bradley_terry": (
        "paired-comparisons",
        "Paired comparisons in the Bradley-Terry model: log odds of a method beside an average "
        "one, or beside another, with 95 % intervals.",
        ("criterion", "item", "versus", "strength", "p_holm", "share", "n_comparisons", "n_raters"),
    ),
}
