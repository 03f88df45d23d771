"""Paired comparisons: the Bradley-Terry model by maximum likelihood, with intervals over raters.

Raters had to choose, so there are no ties to model.
"""

import numpy as np
import pandas as pd
import scipy

from studykit.stats.result import Result
from studykit.stats.table import criteria_of, only_rating


def bradley_terry(ratings: pd.DataFrame, *, level: float = 0.95) -> Result:
    """Strengths of methods, from the rows with the task "pair".

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
    rows = only_rating(ratings)
    rows = rows[rows["task"] == "pair"]
    # A cell's name ends with its method, which has no double underscore.
    sides = (rows[name].str.rsplit("__", n=1).str[-1] for name in ("cell", "other"))
    rows = rows.assign(**dict(zip(("first", "second"), sides, strict=True)))
    across = rows["first"] != rows["second"]
    n_same = int((~across).sum())
    rows = rows[across]
    found, notes = [], []
    for name in criteria_of(rows):
        of_criterion, note = _strengths(rows[rows["criterion"] == name], level)
        found.append(of_criterion.assign(criterion=name))
        if note:
            notes.append(f"On {name}, {note}")
    if n_same:
        notes.append(f"{n_same} comparisons within one method were left out.")
    if not found:
        notes.append("There are no paired comparisons.")
    columns = ["criterion", "item", "strength", "low", "high", "share", "wins", "n_comparisons",
               "n_raters", "words"]  # fmt: skip
    return Result.of(
        ratings,
        pd.concat(found, ignore_index=True) if found else (),
        columns,
        how=(
            "Bradley-Terry model of method preferences (forced choice, no ties) by maximum "
            f"likelihood; {100 * level:g}% intervals of the log strengths, which add up to zero, "
            "with standard errors clustered by rater and Student's t with raters - 1 degrees of "
            "freedom where there are more raters than items and every item both won and lost, "
            "else with the model's own."
        ),
        n_raters=rows["rater"].nunique(),
        notes=tuple(notes),
    )


def _strengths(rows: pd.DataFrame, level: float) -> tuple[pd.DataFrame, str]:
    """Return a row an item, and what a reader should know."""
    items = sorted({*rows["first"], *rows["second"]})
    first, second = (rows[name].map(items.index).to_numpy() for name in ("first", "second"))
    won = (rows["value"] == 1).to_numpy()
    k, n_raters = len(items), rows["rater"].nunique()
    wins = np.zeros((k, k))
    np.add.at(wins, (np.where(won, first, second), np.where(won, second, first)), 1)
    n_wins = wins.sum(axis=1).astype(int)
    n_comparisons = n_wins + wins.sum(axis=0).astype(int)
    strength = half = np.full(k, np.nan)
    words = note = ""
    components = scipy.sparse.csgraph.connected_components
    n_groups, group = components(wins, directed=False)
    bounded = components(wins, connection="strong")[0] == 1
    if n_groups > 1:
        words = "not linked to all others: no common scale"
        named = (", ".join(np.array(items)[group == i]) for i in range(n_groups))
        note = (
            f"the comparisons fall into groups without a link ({'; '.join(named)}): no common "
            "scale."
        )
    elif not bounded:
        wins += 0.5 * (wins + wins.T > 0)
        note = (
            "some items won or lost every comparison with the others: half a win was added to "
            "both sides of each compared pair, so that their strengths are finite; the intervals "
            "are the model's own, which are too narrow where raters differ."
        )
    if n_groups == 1:
        strength, covariance = fit_strengths(wins)
        quantile = scipy.stats.norm.ppf((1 + level) / 2)
        if bounded and n_raters > k:
            surprise = won - scipy.special.expit(strength[first] - strength[second])
            slopes = np.zeros((len(rows), k))  # of each answer's log likelihood
            slopes[np.arange(len(rows)), first] = surprise
            slopes[np.arange(len(rows)), second] = -surprise
            covariance = cluster_covariance(covariance, slopes, rows["rater"].factorize()[0])
            quantile = scipy.stats.t.ppf((1 + level) / 2, n_raters - 1)
        half = quantile * np.sqrt(np.diag(covariance))
    found = {
        "item": items,
        "strength": strength,
        "low": strength - half,
        "high": strength + half,
        "share": scipy.special.expit(strength),
        "wins": n_wins,
        "n_comparisons": n_comparisons,
        "n_raters": n_raters,
        "words": words,
    }
    return pd.DataFrame(found), note


def fit_strengths(wins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit the Bradley-Terry model by Newton's method.

    Parameters
    ----------
    wins : (k, k) float array
        How often each row's item was preferred to each column's. From every item a chain of wins
        must lead to every other, or the likelihood has no maximum.

    Returns
    -------
    strength, covariance : (k,) and (k, k) float arrays
        Strengths that add up to zero; the inverse of their information.
    """
    games, k = wins + wins.T, len(wins)
    strength, step = np.zeros(k), np.inf
    while np.max(np.abs(step)) > 1e-9:
        share = scipy.special.expit(strength[:, None] - strength)
        information = games * share * share.T
        # Only differences count: along the sum there is no information, and no variance.
        laplacian = np.diag(information.sum(axis=1)) - information
        covariance = np.linalg.inv(laplacian + 1 / k) - 1 / k
        step = covariance @ (wins - games * share).sum(axis=1)
        # Far from the maximum a whole step may overshoot.
        strength = strength + step / max(np.max(np.abs(step)), 1)
    return strength, covariance


def cluster_covariance(
    covariance: np.ndarray, slopes: np.ndarray, cluster: np.ndarray
) -> np.ndarray:
    """Let the answers of a cluster, such as a rater, depend on each other in any way.

    Parameters
    ----------
    covariance : (k, k) float array
        The model's own: of k strengths that add up to zero, k - 1 are free.
    slopes : (n, k) float array
        Of each answer's log likelihood.
    cluster : (n,) int array
        From 0 without gaps.

    References
    ----------
    Liang, K.-Y., Zeger, S. L. (1986). Longitudinal data analysis using generalized linear models.
    Biometrika 73, 13-22; with the correction G / (G - 1) (n - 1) / (n - p) for G clusters.
    """
    (n, k), n_clusters = slopes.shape, cluster.max() + 1
    sums = np.zeros((n_clusters, k))
    np.add.at(sums, cluster, slopes)
    correction = n_clusters / (n_clusters - 1) * (n - 1) / (n - k + 1)
    return correction * covariance @ sums.T @ sums @ covariance
