"""Criteria beside each other within raters, and metrics beside ratings over clips.

Clips that share a source or a driving are no independent cases: what is said of metrics is tested
within sources, drivings and methods, and by leaving out whole sources and drivings.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import scipy

from studykit.metrics.catalogue import PRIMARY
from studykit.stats.comparison import holm
from studykit.stats.crossed import Answers, answers_of, indicator
from studykit.stats.intervals import t_interval
from studykit.stats.jackknife import jackknife, t_test
from studykit.stats.result import NO_RATINGS, Result, counted
from studykit.stats.table import criteria_of, rated
from studykit.study.wording import MEAN, OVERALL

_CLIPS_LEAST = 4
_CUBIC_LEAST = 10  # clips for a mapping of the third order
_TINY = 1e-9
_PRIMARY = tuple(PRIMARY.values())
_R_MOST = 0.999  # what Fisher's transform still takes
_SCORES = {MEAN: "the mean over all criteria and raters", OVERALL: "those of the overall question"}
_WITHIN = ("source", "driving", "method")


def correlate_criteria(ratings: pd.DataFrame, *, level: float = 0.95) -> Result:
    """Correlation of two criteria within raters: do a rater's answers rise and fall together?

    Each rater's levels are out of it, so that raters who are mild on everything make no two
    criteria alike. It is a description of these clips, and not tested.

    Returns
    -------
    Result
        Columns first, second, r (mean over raters, by Fisher's transform), low, high, n_raters,
        n_clips, words.
    """
    rows = rated(ratings)
    rows = rows[rows["criterion"] != MEAN]
    wide = rows.pivot_table(index=["rater", "cell"], columns="criterion", values="value")
    found = []
    for first, second in itertools.combinations(criteria_of(rows), 2):
        both = wide[[first, second]].dropna()
        n_clips = both.index.get_level_values("cell").nunique()
        r = np.array([_pearson(*its.to_numpy().T) for _, its in both.groupby(level="rater")])
        z = _fisher(r[np.isfinite(r)])
        row = {"first": first, "second": second, "n_raters": len(z), "n_clips": n_clips}
        row["words"] = "" if len(z) > 1 else "fewer than two raters whose answers vary"
        if len(z) > 1:
            ends = np.tanh([z.mean(), *t_interval(z, level=level)])
            row |= dict(zip(("r", "low", "high"), ends, strict=True))
        found.append(row)
    return Result.of(
        ratings,
        found,
        ["first", "second", "r", "low", "high", "n_raters", "n_clips", "words"],
        how=(
            "Pearson correlations of criteria over each rater's own clips, averaged over raters by "
            f"Fisher's transform, with {100 * level:g}% t intervals over raters."
        ),
        n_raters=rows["rater"].nunique(),
        notes=() if found else ("Fewer than two criteria were rated: nothing to correlate.",),
    )


def correlate_metrics(
    ratings: pd.DataFrame,
    metrics: pd.DataFrame,
    *,
    level: float = 0.95,
    primary: Sequence[str] = (),
) -> Result:
    """Correlation of each metric with each criterion within sources, drivings and methods.

    Both are freed of what sources, drivings and methods add. The interval speaks for sources and
    drivings like these; only of the metrics that are primary is p corrected and claimed.

    Parameters
    ----------
    metrics : pandas.DataFrame
        As in metrics.csv: cell, metric, value, better, extractor. A metric that two extractors
        measured counts as two, named with them.
    primary : sequence of str
        Those that a study has named beforehand; () is one a group.

    Returns
    -------
    Result
        Columns metric, better, primary, criterion, r, low, high, p, p_holm (over the primary
        ones), n_clips, words. Where lower values are better the sign is turned, so that r > 0
        means agreement with raters.
    """
    rows, primary = rated(ratings), primary or _PRIMARY
    measured = _metric_columns(metrics)
    found = []
    for criteria, answers in answers_of(rows, criteria_of(rows)):
        values = measured.reindex(answers.names["cell"])
        for names in _alike(values):
            found += _within(answers, criteria, values[names], level)
    columns = ["metric", "better", "primary", "criterion", "r", "low", "high", "p", "p_holm",
               "n_clips", "words"]  # fmt: skip
    table = pd.DataFrame(found, columns=columns)
    better = metrics.drop_duplicates("metric").set_index("metric")["better"]
    table["better"] = table["metric"].map(lambda name: better[_metric_of(name)])
    table["primary"] = table["metric"].map(lambda name: _metric_of(name) in primary)
    claimed = table["primary"] & (table["criterion"] != MEAN)
    table["p_holm"] = holm(table["p"].where(claimed).astype(float))
    order = {name: place for place, name in enumerate(measured)}
    table = table.sort_values("metric", key=lambda c: c.map(order), kind="stable")
    notes = () if len(measured.columns) else ("There are no metrics yet.",)
    return Result.of(
        ratings,
        table.reset_index(drop=True),
        columns,
        how=(
            "Pearson correlations of metrics with clips' mean scores (raters' levels taken out), "
            "after the means of sources, drivings and methods were taken from both; "
            f"{100 * level:g}% intervals and t tests by Fisher's transform and the jackknife over "
            "sources and drivings, which are left out one at a time; Holm's correction over the "
            f"primary metrics ({', '.join(primary)}) and all criteria."
        ),
        n_raters=rows["rater"].nunique(),
        notes=notes if len(rows) else (NO_RATINGS,),
    )


def predict_scores(
    ratings: pd.DataFrame,
    metrics: pd.DataFrame,
    *,
    level: float = 0.95,
    primary: Sequence[str] = (),
) -> Result:
    """How well the primary metrics predict the clips' scores, by ITU-T P.1401, and which better.

    Scores are the overall ones if raters were asked for them, else the mean over criteria.

    Returns
    -------
    Result
        Columns first, second, criterion (which scores), plcc, low, high, rmse, outlier_ratio, p,
        p_holm, n_clips, words. A row with ``second`` compares two metrics: its plcc is the
        difference of the two (of their Fisher transforms), first less second.

    References
    ----------
    ITU-T P.1401 (2020). Methods, metrics and procedures for statistical evaluation, qualification
    and comparison of objective quality prediction models.
    """
    rows, primary = rated(ratings), primary or _PRIMARY
    predicted = (criteria_of(rows) or [MEAN])[-1]
    rows = rows[rows["criterion"] == predicted]
    by_clip = rows.groupby("cell", observed=True)["value"].agg(["mean", "std", "size"])
    clips = rows.drop_duplicates("cell").set_index("cell").reindex(by_clip.index)
    half = scipy.stats.t.ppf((1 + level) / 2, (by_clip["size"] - 1).clip(lower=1))
    half = (half * by_clip["std"] / np.sqrt(by_clip["size"])).to_numpy()
    measured = _metric_columns(metrics).reindex(by_clip.index)
    asked = [name for name in measured if _metric_of(name) in primary]
    score, groups = by_clip["mean"].to_numpy(), [clips[name] for name in ("source", "driving")]
    found = []
    for names in [*((name,) for name in asked), *itertools.combinations(asked, 2)]:
        x = measured[[*names]].to_numpy(dtype=float)
        known = np.isfinite(x).all(axis=1)
        row = {"first": names[0], "second": (*names, "")[1], "n_clips": int(known.sum())}
        row["criterion"] = predicted
        row["words"] = _unfit(x[known], score[known], [g[known] for g in groups])
        if not row["words"]:
            row |= _predicted(x[known], score[known], half[known], [g[known] for g in groups],
                              level)  # fmt: skip
        found.append(row)
    columns = ["first", "second", "criterion", "plcc", "low", "high", "rmse", "outlier_ratio", "p",
               "p_holm", "n_clips", "words"]  # fmt: skip
    table = pd.DataFrame(found, columns=columns)
    table["p_holm"] = holm(table["p"].where(table["second"] != "").astype(float))
    return Result.of(
        ratings,
        table,
        columns,
        how=(
            "ITU-T P.1401: a monotonic polynomial of the third order (of the first where that is "
            f"not monotonic, or of fewer than {_CUBIC_LEAST} clips) maps a metric to the clips' "
            f"scores, {_SCORES.get(predicted, f'the mean over raters of {predicted}')}; "
            "Pearson correlation, root mean square error and share of clips whose error exceeds "
            "the 95% interval of their mean score. Intervals, and the test between two metrics, "
            "by Fisher's transform and the jackknife over sources and drivings; the order is "
            "chosen again each time, so that an interval is wide where it changes."
        ),
        n_raters=rows["rater"].nunique(),
        notes=() if found else ("There are no primary metrics.",),
    )


def monotonic_fit(x: np.ndarray, y: np.ndarray) -> np.polynomial.Polynomial:
    """Map x to y by a cubic polynomial if that is monotonic over x, else by a line."""
    if len(x) >= _CUBIC_LEAST:
        cubic = np.polynomial.Polynomial.fit(x, y, 3)
        slopes = cubic.deriv()(np.linspace(x.min(), x.max(), 200))
        if (slopes >= 0).all() or (slopes <= 0).all():
            return cubic
    return np.polynomial.Polynomial.fit(x, y, 1)


def _predicted(
    x: np.ndarray, score: np.ndarray, half: np.ndarray, groups: Sequence, level: float
) -> dict[str, float]:
    def agreement(keep: np.ndarray) -> np.ndarray:
        z = [_fisher(_pearson(monotonic_fit(column, score[keep])(column), score[keep]))
             for column in x[keep].T]  # fmt: skip
        return np.array([z[0] - sum(z[1:])])

    whole = agreement(np.ones(len(x), dtype=bool))
    found = _transformed(whole, agreement, groups, level, back=x.shape[1] == 1)
    row = dict(zip(("plcc", "low", "high", "p"), (value[0] for value in found), strict=True))
    if x.shape[1] == 1:
        mapping = monotonic_fit(x[:, 0], score)
        error = mapping(x[:, 0]) - score
        beyond = np.abs(error) > half + 1e-9
        # The mapping was fitted to the same clips: each of its coefficients costs one of them.
        rmse = np.sqrt((error**2).sum() / (len(score) - len(mapping.coef)))
        row |= {"rmse": rmse, "outlier_ratio": beyond.mean()}
    return row


def _within(
    answers: Answers, criteria: list[str], values: pd.DataFrame, level: float
) -> list[dict]:
    """Correlate metrics that were measured of the same clips with criteria, a row each."""
    known = values.notna().all(axis=1).to_numpy()
    columns = [getattr(answers, name)[known] for name in _WITHIN]
    keys = [{"metric": name, "criterion": criterion, "n_clips": int(known.sum())}
            for name in values for criterion in criteria]  # fmt: skip
    both = np.hstack([values[known].to_numpy(dtype=float), answers.scores[known]])
    if words := _unfit(both[:, :0], both[:, :0], columns[:2]):
        return [key | {"words": words} for key in keys]
    units = np.hstack([indicator(column) for column in columns])
    size = values.shape[1]

    def correlations(keep: np.ndarray) -> np.ndarray:
        x, y = units[keep], both[keep]
        rest = y - x @ (np.linalg.pinv(x.T @ x, rcond=_TINY, hermitian=True) @ (x.T @ y))
        length = np.linalg.norm(rest, axis=0)
        flat = length < 1e-6 * (np.linalg.norm(both[keep], axis=0) + 1)
        rest = np.where(flat, np.nan, rest / np.where(flat, 1, length))
        return _fisher(rest[:, :size].T @ rest[:, size:]).ravel()

    whole = correlations(np.ones(len(both), dtype=bool))
    found = _transformed(whole, correlations, columns[:2], level)
    missing = "does not vary within sources, drivings and methods"
    return [
        key
        | dict(zip(("r", "low", "high", "p"), row, strict=True))
        | {"words": "" if np.isfinite(row).all() else missing}
        for key, row in zip(keys, np.transpose(found), strict=True)
    ]


def _transformed(
    whole: np.ndarray, statistic: Callable, groups: Sequence, level: float, *, back: bool = True
) -> tuple[np.ndarray, ...]:
    """Return values on the scale of correlations with their intervals, and p."""
    numbers = [np.unique(group, return_inverse=True)[1] for group in groups]
    half, p = t_test(whole, *jackknife(statistic, numbers), level)
    ends = whole, whole - half, whole + half
    return (*(np.tanh(ends) if back else ends), p)


def _unfit(x: np.ndarray, score: np.ndarray, groups: Sequence) -> str:
    """Say why clips are too few or too alike to correlate anything."""
    if len(score) < _CLIPS_LEAST:
        return f"{counted(len(score), 'clip')}: no correlation under {_CLIPS_LEAST}"
    for noun, group in zip(("source", "driving"), groups, strict=True):
        if (count := len(np.unique(group))) < 3:
            return f"{counted(count, noun)}: nothing shows how others would do"
    if any(np.ptp(column) < 1e-9 for column in (*x.T, *np.atleast_2d(score.T))):
        return "the same for all clips: no correlation"
    return ""


def _pearson(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's r; NaN where fewer than four cases, or nothing varies."""
    if len(first) < _CLIPS_LEAST or min(np.ptp(first), np.ptp(second)) < 1e-9:
        return np.nan
    return float(np.corrcoef(first, second)[0, 1])


def _fisher(r: np.ndarray | float) -> np.ndarray:
    return np.arctanh(np.clip(r, -_R_MOST, _R_MOST))


def _metric_of(column: str) -> str:
    """Return the metric of a column of :func:`_metric_columns`, without its extractor."""
    return column.split(" (")[0]


def _alike(values: pd.DataFrame) -> list[list[str]]:
    """Group metrics that were measured of the same clips."""
    return [
        [*names]
        for _, names in values.T.groupby(values.notna().T.agg(tuple, axis=1)).groups.items()
    ]


def _metric_columns(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return metrics by cell, a column each, the higher the better."""
    found = {}
    for metric, rows in metrics.groupby("metric", sort=False, observed=True):
        extractors = list(rows.groupby(rows["extractor"].fillna(""), sort=False, observed=True))
        for extractor, of_one in extractors:
            name = f"{metric} ({extractor})" if len(extractors) > 1 and extractor else metric
            sign = -1 if of_one["better"].iloc[0] == "lower" else 1
            found[name] = sign * of_one.groupby("cell", observed=True)["value"].mean()
    return pd.DataFrame(found, dtype=float)
