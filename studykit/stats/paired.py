"""Paired comparisons: the Bradley-Terry model by maximum likelihood, for raters, sources and
drivings like these.

Raters had to choose, so there are no ties to model.
"""

import itertools

import numpy as np
import pandas as pd
import scipy

from studykit.stats.comparison import holm
from studykit.stats.jackknife import combined, spread_of, t_test
from studykit.stats.result import Result
from studykit.stats.table import criteria_of, only_rating


def bradley_terry(ratings: pd.DataFrame, *, level: float = 0.95) -> Result:
    """Strengths of methods and their differences, from the rows with the task "pair".

    The log odds that i is preferred to j are strength_i - strength_j; strengths add up to zero.
    Raters, sources and drivings are samples, of each of which the answers depend on each other:
    how the differences change when one is left out is their error. Where an item wins or loses
    everything, which sends the maximum likelihood to infinity, half a win is added to both sides
    of each compared pair, and the words say so. Where the comparisons fall into groups without a
    link, no common scale exists, and the words name them.

    Returns
    -------
    Result
        Columns criterion, item, versus, strength, low, high, p, p_holm (over the differences),
        share (chance to be preferred), wins, n_comparisons, n_raters, words. A row with ``versus``
        is a difference of two strengths, without it the strength of one beside the average.

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
    columns = ["criterion", "item", "versus", "strength", "low", "high", "p", "p_holm", "share",
               "wins", "n_comparisons", "n_raters", "words"]  # fmt: skip
    table = pd.DataFrame(pd.concat(found, ignore_index=True) if found else (), columns=columns)
    table["p_holm"] = holm(table["p"].where(table["versus"] != "").astype(float))
    return Result.of(
        ratings,
        table,
        columns,
        how=(
            "Bradley-Terry model of method preferences (forced choice, no ties) by maximum "
            f"likelihood; log odds with {100 * level:g}% intervals and t tests by the jackknife "
            "over raters, sources and drivings (in one step of Newton's method), with "
            "Satterthwaite's degrees of freedom; Holm's correction over all differences."
        ),
        n_raters=rows["rater"].nunique(),
        notes=tuple(notes),
    )


def _strengths(rows: pd.DataFrame, level: float) -> tuple[pd.DataFrame, str]:
    """Return a row an item and a row a difference, and what a reader should know."""
    items = sorted({*rows["first"], *rows["second"]})
    first, second = (rows[name].map(items.index).to_numpy() for name in ("first", "second"))
    won = (rows["value"] == 1).to_numpy()
    k = len(items)
    wins = np.zeros((k, k))
    np.add.at(wins, (np.where(won, first, second), np.where(won, second, first)), 1)
    n_wins = wins.astype(int)
    played = n_wins + n_wins.T
    pairs = [*itertools.combinations(range(k), 2)]
    contrasts = np.vstack([np.eye(k) - 1 / k, *(np.eye(k)[i] - np.eye(k)[j] for i, j in pairs)])
    strength = half = p = np.full(len(contrasts), np.nan)
    words = note = ""
    components = scipy.sparse.csgraph.connected_components
    n_groups, group = components(wins, directed=False)
    if n_groups > 1:
        words = "not linked to all others: no common scale"
        named = (", ".join(np.array(items)[group == i]) for i in range(n_groups))
        note = (
            f"the comparisons fall into groups without a link ({'; '.join(named)}): no common "
            "scale."
        )
    else:
        if components(wins, connection="strong")[0] > 1:
            wins += 0.5 * (wins + wins.T > 0)
            note = (
                "some items won or lost every comparison with the others: half a win was added to "
                "both sides of each compared pair, so that their strengths are finite."
            )
        fitted, covariance = fit_strengths(wins)
        strength = contrasts @ fitted
        groups = [rows[name].factorize()[0] for name in ("rater", "source", "driving")]
        few = [noun for noun, group in zip(("rater", "source", "driving"), groups, strict=True)
               if group.max() < 1]  # fmt: skip
        words = f"one {few[0]}: nothing shows how others would do" if few else ""
        if not few:
            surprise = won - scipy.special.expit(fitted[first] - fitted[second])
            sides = np.eye(k)[first] - np.eye(k)[second]
            parts = [
                deletion_variance(covariance, sides, surprise, group, contrasts)
                for group in (np.arange(len(rows)), *groups)
            ]
            half, p = t_test(strength, *combined(parts), level)
    alone = np.arange(len(contrasts)) < k
    at = np.array([(i, i) for i in range(k)] + pairs)
    found = {
        "item": [items[i] for i, _ in at],
        "versus": ["" if one else items[j] for one, (_, j) in zip(alone, at, strict=True)],
        "strength": strength,
        "low": strength - half,
        "high": strength + half,
        "p": p,
        "share": scipy.special.expit(strength),
        "wins": [n_wins[i].sum() if i == j else n_wins[i, j] for i, j in at],
        "n_comparisons": [played[i].sum() if i == j else played[i, j] for i, j in at],
        "n_raters": rows["rater"].nunique(),
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


def deletion_variance(
    covariance: np.ndarray,
    sides: np.ndarray,
    surprise: np.ndarray,
    group: np.ndarray,
    contrasts: np.ndarray,
) -> tuple[np.ndarray, int]:
    """Jackknife variance of contrasts of strengths over the levels of a grouping, and its df.

    Parameters
    ----------
    covariance : (k, k) float array
        The model's own.
    sides : (n, k) float array
        1 for the first item of an answer, -1 for the second.
    surprise : (n,) float array
        The answer, 1 where the first was preferred, less its probability.
    group : (n,) int array
        From 0 without gaps: two levels at least.
    contrasts : (m, k) float array
    """
    size, k = int(group.max()) + 1, len(covariance)
    # What a deletion leaves undecided gets a vast variance, and no error of the algebra.
    known = np.linalg.inv(covariance + 1 / k) + 1e-9 * np.eye(k)
    share = np.abs(surprise) * (1 - np.abs(surprise))  # p (1 - p), whichever was preferred
    slopes, information = np.zeros((size, k)), np.zeros((size, k, k))
    np.add.at(slopes, group, sides * surprise[:, None])
    np.add.at(information, group, share[:, None, None] * sides[:, :, None] * sides[:, None])
    moved = np.linalg.solve(known - information, slopes[..., None])[..., 0] @ contrasts.T
    return spread_of(moved)
