"""Mean opinion scores with intervals over raters, whatever the conditions are grouped by."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from studykit.errors import StudyError, did_you_mean
from studykit.stats.intervals import bootstrap_interval, score_interval, t_interval
from studykit.stats.table import CONDITION, Result, in_order, in_words, is_simulated, rated

if TYPE_CHECKING:
    import pandas as pd

Interval = Literal["score", "t", "bootstrap"]

_INTERVALS = {
    "score": "a score interval for a mean on a bounded scale (Wilson 1927, with the quasi-binomial "
    "variance of Wedderburn 1974 and Student's t quantile)",
    "t": "Student's t interval",
    "bootstrap": "an expanded percentile bootstrap interval (Hesterberg 2015; 4,999 resamples of "
    "raters)",
}


def mean_scores(
    ratings: "pd.DataFrame",
    by: Sequence[str] = CONDITION,
    *,
    interval: Interval = "score",
    scale: int = 5,
    level: float = 0.95,
    seed: int = 0,
) -> Result:
    """Mean opinion scores of each group of clips, with intervals over raters.

    Each rater's ratings of a group are averaged first, so that the rater is the unit; the clips
    are those of the study, and the interval speaks about other raters, not about other clips.

    Parameters
    ----------
    by : sequence of str
        What a group is: any of source_type, driving_type, method, source, driving, cell.
    interval : {"score", "t", "bootstrap"}
        See :mod:`studykit.stats.intervals`; docs/statistics.md has what each of them covers.
    scale : int
        Steps of the scale.

    Returns
    -------
    Result
        Columns: those of ``by``, criterion, mean, low, high, sd (of rater means), n_raters,
        n_ratings, n_clips, words.

    Raises
    ------
    StudyError
        The table mixes simulated and human ratings or two tasks, or has values outside the scale.
    """
    import pandas as pd

    if interval not in _INTERVALS:
        raise StudyError(f'no interval "{interval}": {did_you_mean(interval, _INTERVALS)}')
    by = list(by)
    rows = rated(ratings, scale=scale)
    rng = np.random.default_rng(seed)
    groups = rows.groupby([*by, "criterion"], observed=True)
    counts = groups["cell"].agg(["size", "nunique"])
    by_rater = rows.groupby([*by, "criterion", "rater"], observed=True)["value"].mean()
    found = []
    for key, places in by_rater.groupby(level=[*by, "criterion"], observed=True).indices.items():
        values = by_rater.to_numpy()[places]
        row = dict(zip([*by, "criterion"], key, strict=True))
        row["mean"] = values.mean()
        row |= _interval(values, interval, scale, level, rng)
        row["n_raters"] = len(values)
        row["n_ratings"], row["n_clips"] = counts.loc[key]
        found.append(row)
    columns = [*by, "criterion", "mean", "low", "high", "sd", "n_raters", "n_ratings", "n_clips",
               "words"]  # fmt: skip
    table = pd.DataFrame(found, columns=columns)
    return Result(
        table=in_order(table, [*by, "criterion"]) if found else table,
        how=(
            f"Mean opinion scores by {in_words(by)}: each rater's ratings were averaged first, so "
            f"that the rater is the unit; {100 * level:g}% confidence intervals over raters by "
            f"{_INTERVALS[interval]}."
        ),
        n_raters=rows["rater"].nunique(),
        notes=() if found else ("There are no ratings yet.",),
        simulated=is_simulated(ratings),
    )


def clip_scores(ratings: "pd.DataFrame") -> "pd.DataFrame":
    """Return the mean score of each clip on each criterion.

    Returns
    -------
    pandas.DataFrame
        Columns cell, source, source_type, driving, driving_type, method, criterion, mean,
        n_raters.
    """
    columns = ["cell", "source", "source_type", "driving", "driving_type", "method", "criterion"]
    groups = rated(ratings).groupby(columns, observed=True, as_index=False)["value"]
    return groups.agg(["mean", "size"]).rename(columns={"size": "n_raters"})


def _interval(
    values: np.ndarray, interval: str, scale: int, level: float, rng: np.random.Generator
) -> dict[str, float | str]:
    nothing = {"low": np.nan, "high": np.nan, "sd": np.nan}
    if len(values) < 2:
        return nothing | {"words": "one rater: no interval"}
    spread = values.std(ddof=1)
    if interval == "score":
        low, high = score_interval(values, scale=scale, level=level)
    elif np.ptp(values) < 1e-12:
        return nothing | {"sd": 0.0, "words": f"all raters agree: no {interval} interval"}
    elif interval == "t":
        low, high = t_interval(values, level=level)
    else:
        low, high = bootstrap_interval(values, level=level, rng=rng)
    return {"low": float(low), "high": float(high), "sd": spread, "words": ""}
