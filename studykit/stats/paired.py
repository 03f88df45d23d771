"""Paired comparisons: the Bradley-Terry model by maximum likelihood, with intervals over raters.

Raters had to choose, so there are no ties to model.
"""

from typing import TYPE_CHECKING, Literal

import numpy as np

from studykit.stats.table import Result, criteria_of, is_simulated, only_rating

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("criterion", "item", "strength", "low", "high", "share", "wins", "n_comparisons",
            "n_raters", "words")  # fmt: skip


def bradley_terry(
    ratings: "pd.DataFrame", items: Literal["method", "cell"] = "method", *, level: float = 0.95
) -> Result:
    """Strengths of methods, or of cells, from the rows with the task "pair".

    The log odds that i is preferred to j are strength_i - strength_j; strengths add up to zero.
    Where an item wins or loses everything, which sends the maximum likelihood to infinity, half
    a win is added to both sides of each compared pair, and the words say so. Where the
    comparisons fall into groups without a link, no common scale exists, and the words name them.

    Returns
    -------
    Result
        Columns criterion, item, strength, low, high, share (chance to beat an item of strength
        0), wins, n_comparisons, n_raters, words.

    References
    ----------
    Bradley, R. A., Terry, M. E. (1952). Rank analysis of incomplete block designs. Biometrika 39,
    324-345. Ford, L. R. (1957). Solution of a ranking problem from binary comparisons. American
    Mathematical Monthly 64, 28-33 (when the maximum exists).
    """
    import pandas as pd

    rows = only_rating(ratings)
    rows = rows[rows["task"] == "pair"]
    if items == "method":
        # A cell's name ends with its method, which has no double underscore.
        first = rows["cell"].str.rsplit("__", n=1).str[-1]
        second = rows["other"].str.rsplit("__", n=1).str[-1]
    else:
        first, second = rows["cell"], rows["other"]
    rows = rows.assign(first=first, second=second)
    across = rows["first"] != rows["second"]
    n_same = int((~across).sum())
    rows = rows[across]
    found, notes = [], []
    for name in criteria_of(rows):
        of_criterion, note = _strengths(rows[rows["criterion"] == name], level)
        found += [{"criterion": name} | row for row in of_criterion]
        if note:
            notes.append(f"On {name}, {note}")
    if n_same:
        notes.append(f"{n_same} comparisons within one {items} were left out.")
    if not found:
        notes.append("There are no paired comparisons.")
    return Result(
        table=pd.DataFrame(found, columns=_COLUMNS),
        how=(
            f"Bradley-Terry model of {items} preferences (forced choice, no ties) by maximum "
            f"likelihood; {100 * level:g}% intervals of the log strengths, which add up to zero, "
            "with standard errors clustered by rater and Student's t with raters - 1 degrees of "
            "freedom where there are more raters than items and every item both won and lost, "
            "else with the model's own."
        ),
        n_raters=rows["rater"].nunique(),
        notes=tuple(notes),
        simulated=is_simulated(ratings),
    )


def _strengths(rows: "pd.DataFrame", level: float) -> tuple[list[dict], str]:
    """Return a row an item, and what a reader should know."""
    import statsmodels.api as sm
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.stats import norm, t

    items = sorted({*rows["first"], *rows["second"]})
    number = {name: i for i, name in enumerate(items)}
    first = rows["first"].map(number).to_numpy()
    second = rows["second"].map(number).to_numpy()
    won = (rows["value"] == 1).to_numpy(dtype=float)
    winner, loser = np.where(won, first, second), np.where(won, second, first)
    k, n_raters = len(items), rows["rater"].nunique()
    beaten = coo_array((np.ones(len(rows)), (winner, loser)), shape=(k, k)).tocsr()
    found = [
        {
            "item": name,
            "strength": np.nan,
            "low": np.nan,
            "high": np.nan,
            "share": np.nan,
            "wins": int((winner == i).sum()),
            "n_comparisons": int(((winner == i) | (loser == i)).sum()),
            "n_raters": n_raters,
            "words": "",
        }
        for i, name in enumerate(items)
    ]
    islands, island = connected_components(beaten, directed=False)
    if islands > 1:
        groups = [[name for name, j in zip(items, island, strict=True) if j == i]
                  for i in range(islands)]  # fmt: skip
        for row in found:
            row["words"] = "not linked to all others: no common scale"
        named = "; ".join(", ".join(group) for group in groups)
        return found, f"the comparisons fall into groups without a link ({named}): no common scale."
    design = np.zeros((len(rows), k))
    design[np.arange(len(rows)), first] = 1
    design[np.arange(len(rows)), second] = -1
    # Effects that add up to zero: the last item is minus the sum of the others.
    coding = np.vstack([np.eye(k - 1), -np.ones(k - 1)])
    note, weights = "", None
    bounded = connected_components(beaten, directed=True, connection="strong")[0] == 1
    if not bounded:
        pairs = np.unique(np.sort(np.column_stack([first, second]), axis=1), axis=0)
        halves = np.zeros((2 * len(pairs), k))
        rank = np.arange(len(halves))
        halves[rank, np.tile(pairs[:, 0], 2)], halves[rank, np.tile(pairs[:, 1], 2)] = 1, -1
        design = np.vstack([design, halves])
        won = np.concatenate([won, np.repeat([1.0, 0.0], len(pairs))])
        weights = np.concatenate([np.ones(len(rows)), np.full(len(halves), 0.5)])
        note = (
            "some items won or lost every comparison with the others: half a win was added to "
            "both sides of each compared pair, so that their strengths are finite; the intervals "
            "are the model's own, which are too narrow where raters differ."
        )
    clustered = bounded and n_raters > k
    model = sm.GLM(won, design @ coding, family=sm.families.Binomial(), freq_weights=weights)
    if clustered:
        codes = rows["rater"].astype("category").cat.codes.to_numpy()
        fit = model.fit(cov_type="cluster", cov_kwds={"groups": codes})
        quantile = t.ppf((1 + level) / 2, n_raters - 1)
    else:
        fit = model.fit()
        quantile = norm.ppf((1 + level) / 2)
    strength = coding @ fit.params
    error = np.sqrt(np.diag(coding @ fit.cov_params() @ coding.T))
    for row, value, half in zip(found, strength, quantile * error, strict=True):
        row |= {
            "strength": float(value),
            "low": float(value - half),
            "high": float(value + half),
            "share": float(1 / (1 + np.exp(-value))),
        }
    return found, note
