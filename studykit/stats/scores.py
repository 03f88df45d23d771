"""Mean opinion scores with intervals over raters, whatever the clips are grouped by."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from studykit.stats.intervals import score_interval
from studykit.stats.result import Result, in_words
from studykit.stats.table import CONDITION_COLUMNS, in_order, rated

if TYPE_CHECKING:
    import pandas as pd


def mean_scores(
    ratings: "pd.DataFrame",
    by: Sequence[str] = CONDITION_COLUMNS,
    *,
    scale: int = 5,
    level: float = 0.95,
) -> Result:
    """Mean opinion scores of each group of clips, with intervals over raters.

    Each rater's ratings of a group are averaged first, so that the rater is the unit; the clips
    are those of the study, and the interval speaks about other raters, not about other clips.

    Parameters
    ----------
    by : sequence of str
        What a group is: any of source_type, driving_type, method, source, driving, cell.
    scale : int
        Steps of the scale.
    level : float
        Of the score interval: see :mod:`studykit.stats.intervals`.

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

    keys = [*by, "criterion"]
    rows = rated(ratings, scale=scale)
    counts = rows.groupby(keys, observed=True)["cell"].agg(["size", "nunique"])
    by_rater = rows.groupby([*keys, "rater"], observed=True)["value"].mean()
    found = []
    for key, places in by_rater.groupby(level=keys, observed=True).indices.items():
        values = by_rater.to_numpy()[places]
        low, high, deviation, words = np.nan, np.nan, np.nan, "one rater: no interval"
        if len(values) > 1:
            low, high = map(float, score_interval(values, scale=scale, level=level))
            deviation, words = values.std(ddof=1), ""
        row = (values.mean(), low, high, deviation, len(values), *counts.loc[key], words)
        found.append((*key, *row))
    columns = [*keys, "mean", "low", "high", "sd", "n_raters", "n_ratings", "n_clips", "words"]
    return Result.of(
        ratings,
        in_order(pd.DataFrame(found, columns=columns), keys),
        columns,
        how=(
            f"Mean opinion scores by {in_words(by)}: each rater's ratings were averaged first, so "
            f"that the rater is the unit; {100 * level:g}% confidence intervals over raters by a "
            "score interval for a mean on a bounded scale (Wilson 1927, with the quasi-binomial "
            "variance of Wedderburn 1974 and Student's t quantile)."
        ),
        n_raters=rows["rater"].nunique(),
    )
