"""Comparisons within raters: Friedman's test over conditions, signed-rank tests of pairs.

All raters are their own control: who rated only one side of a comparison takes no part in it.
"""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import scipy

from studykit.stats.intervals import t_interval
from studykit.stats.result import NO_RATINGS, Result, counted, in_words
from studykit.stats.table import (
    CONDITION_COLUMNS,
    asked_of,
    criteria_of,
    in_order,
    rated,
    refuse_unrated,
)

# Beyond this many raters the exact distribution's table grows large and changes nothing.
_EXACT_RATERS = 100
# A type is compared over different sources, so that only what is crossed with it matches.
_OWNERS = {"source": "source_type", "driving": "driving_type", "method": "method"}


def friedman(ratings: pd.DataFrame, over: Sequence[str] = CONDITION_COLUMNS) -> Result:
    """Friedman's test: do raters rank the conditions alike? One row a criterion.

    All of ``over`` make one factor, whose levels are ranked within raters; a rater who lacks a
    level is left out, and counted. Kendall's W is the effect size, from 0 to 1.

    Returns
    -------
    Result
        Columns criterion, chi2, df, p, kendall_w, n_conditions, n_raters, n_dropped, words.
    """
    rows = rated(ratings)
    rows = rows.assign(level=_labels(rows, over))
    found = [
        {"criterion": name} | _friedman(rows[rows["criterion"] == name])
        for name in criteria_of(rows)
    ]
    columns = ["criterion", "chi2", "df", "p", "kendall_w", "n_conditions", "n_raters",
               "n_dropped", "words"]  # fmt: skip
    n_raters, n_dropped = _most(found, "n_raters"), _most(found, "n_dropped")
    notes = () if found else (NO_RATINGS,)
    if n_raters < 2 and n_dropped > 1:
        notes = ("No two raters saw every condition.",)
    return Result.of(
        ratings,
        found,
        columns,
        how=(
            f"Friedman's rank test over the levels of {in_words(over)}, taken as one factor, "
            "within raters who rated all of them, with the chi-square approximation corrected for "
            "ties; effect size: Kendall's W."
        ),
        n_raters=n_raters,
        n_dropped=n_dropped,
        why="had not rated every condition" if n_dropped else "",
        notes=notes,
    )


def pairwise(
    ratings: pd.DataFrame,
    over: Sequence[str] = ("method",),
    *,
    criteria: Sequence[str] | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    level: float = 0.95,
) -> Result:
    """Wilcoxon signed-rank tests of pairs within raters, corrected by Holm over the whole call.

    The declared family is what is asked for in one call: all pairs on all criteria. A rater's
    difference is the mean over what was rated on both sides: methods are compared on the same
    source and driving, source types on the same driving and method, driving types on the same
    source and method.

    Parameters
    ----------
    over : sequence of str
        What the two sides are levels of.
    criteria : sequence of str, optional
        Default: all that were asked.
    pairs : sequence of (str, str), optional
        Levels as ``first`` and ``second`` name them, such as ``("warp", "copy")`` or
        ``("side x frontal x warp", ...)``. Default: all.

    Returns
    -------
    Result
        Columns criterion, first, second, difference (first - second), low, high, w (sum of the
        positive ranks), p, p_holm, effect (matched-pairs rank-biserial correlation, -1..1),
        n_raters, n_dropped, n_zero (raters without a difference), exact, words.

    Raises
    ------
    StudyError
        A pair or a criterion is not in the table, or the table can't be used.
    """
    rows = rated(ratings)
    asked = criteria_of(rows)
    if criteria is None:
        criteria = asked_of(rows)
    refuse_unrated(criteria, asked)
    rows = rows.assign(level=_labels(rows, over))
    levels = in_order(rows[[*over, "level"]].drop_duplicates(), over)["level"].tolist()
    pairs = list(itertools.combinations(levels, 2)) if pairs is None else pairs
    refuse_unrated(itertools.chain.from_iterable(pairs), levels)
    found = []
    for name in criteria:
        scores = rows[rows["criterion"] == name].pivot_table(
            index=["rater", *matched_on(over)], columns="level", values="value"
        )
        for first, second in pairs:
            sides = scores.reindex(columns=[first, second])
            pair = {"criterion": name, "first": first, "second": second}
            found.append(pair | _compare(sides, level))
    columns = ["criterion", "first", "second", "difference", "low", "high", "w", "p", "p_holm",
               "effect", "n_raters", "n_dropped", "n_zero", "exact", "words"]  # fmt: skip
    table = pd.DataFrame(found, columns=columns)
    table["p_holm"] = holm(table["p"])
    n_criteria = table["criterion"].nunique()
    n_raters, n_dropped = _most(found, "n_raters"), _most(found, "n_dropped")
    return Result.of(
        ratings,
        table,
        columns,
        how=(
            f"Two-sided Wilcoxon signed-rank tests between levels of {in_words(over)} on each "
            "rater's mean difference over matched clips; zero differences ranked and left out "
            "(Pratt 1959), mean ranks for ties, exact permutation distribution given the ties "
            f"(normal approximation beyond {_EXACT_RATERS} raters); Holm's correction over the "
            f"family of {counted(len(table), 'comparison')} (all pairs asked for, on {n_criteria} "
            f"criteri{'on' if n_criteria == 1 else 'a'}); effect size: matched-pairs "
            f"rank-biserial correlation; {100 * level:g}% t intervals of the mean difference, each "
            "on its own."
        ),
        n_raters=n_raters,
        n_dropped=n_dropped,
        why="had rated only one side of a pair" if n_dropped else "",
        notes=_pairwise_notes(over, levels, table, n_raters),
    )


def matched_on(over: Sequence[str]) -> list[str]:
    """Return what the two clips of a comparison share.

    >>> matched_on(["method"]), matched_on(["source_type"])
    (['source', 'driving'], ['driving', 'method'])
    """
    return [name for name, owner in _OWNERS.items() if not {name, owner} & set(over)]


def holm(p_values: "np.typing.ArrayLike") -> np.ndarray:
    """Holm's corrected p of each family; missing ones take no part and stay missing.

    The i-th smallest of m is multiplied by m - i + 1, and never below the one before.

    Parameters
    ----------
    p_values : (..., n) float array
        A family along the last axis.

    References
    ----------
    Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal
    of Statistics 6, 65-70.
    """
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values, axis=-1)  # missing ones last
    n_known = np.isfinite(p_values).sum(axis=-1, keepdims=True)
    factors = np.maximum(n_known - np.arange(p_values.shape[-1]), 1)
    raised = factors * np.take_along_axis(p_values, order, axis=-1)
    corrected = np.minimum(np.maximum.accumulate(raised, axis=-1), 1)
    return np.take_along_axis(corrected, np.argsort(order, axis=-1), axis=-1)


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test: positive rank sum, two-sided p, rank-biserial effect."""

    w: float
    p: float
    effect: float
    n_zero: int
    exact: bool


def signed_rank(differences: np.ndarray) -> SignedRank:
    """Wilcoxon's signed-rank test of paired differences, exact with ties and zeros.

    Zeros are ranked and then left out (Pratt 1959), ties get their mean rank. Given the absolute
    differences, every combination of signs is equally likely under the null; the distribution of
    the rank sum over all of them is counted, up to 100 differences, and approximated by the
    normal beyond. scipy's exact distribution knows neither ties nor zeros, of which ratings are
    full.

    Parameters
    ----------
    differences : (n,) float array
        n >= 1.

    References
    ----------
    Pratt, J. W. (1959). Remarks on zeros and ties in the Wilcoxon signed rank procedures. JASA
    54, 655-667. Kerby, D. S. (2014). The simple difference formula. Comprehensive Psychology 3
    (the effect: the difference of the rank sums over their total).
    """
    # Means of ratings that are equal on paper may differ in the last bit.
    differences = np.round(differences, 9)
    moved = differences != 0
    ranks = scipy.stats.rankdata(np.abs(differences))[moved]
    w, total = float(ranks[differences[moved] > 0].sum()), float(ranks.sum())
    n_zero = int((~moved).sum())
    if not total:
        return SignedRank(w=0.0, p=1.0, effect=0.0, n_zero=n_zero, exact=True)
    exact = len(differences) <= _EXACT_RATERS
    p = _sign_flip_p(ranks, w) if exact else float(approximate_p(differences))
    return SignedRank(w=w, p=p, effect=(2 * w - total) / total, n_zero=n_zero, exact=exact)


def approximate_p(differences: np.ndarray) -> np.ndarray:
    """Two-sided p of many signed-rank tests by the normal approximation, which is quick.

    Parameters
    ----------
    differences : (..., n) float array
        A test along the last axis, whose p is 1 where nothing differs.
    """
    differences = np.round(differences, 9)
    with np.errstate(invalid="ignore", divide="ignore"):
        test = scipy.stats.wilcoxon(differences, axis=-1, zero_method="pratt", method="asymptotic")
    return np.where(np.isnan(test.pvalue), 1.0, test.pvalue)


def _sign_flip_p(ranks: np.ndarray, w: float) -> float:
    """Two-sided p of a positive rank sum over all signs; mean ranks are multiples of 1/2."""
    doubled = np.rint(2 * ranks).astype(int)
    unit = np.gcd.reduce(doubled)
    doubled, total = doubled // unit, int(doubled.sum() // unit)
    ways = np.zeros(total + 1)
    ways[0] = 1
    reach = 0
    for rank in doubled:
        ways[rank : rank + reach + 1] += ways[: reach + 1].copy()
        reach += rank
    as_far = np.abs(2 * np.arange(total + 1) - total) >= abs(round(4 * w / unit) - total)
    return float(min(np.ldexp(ways[as_far].sum(), -len(doubled)), 1))


def _labels(table: pd.DataFrame, over: Sequence[str]) -> pd.Series:
    """Name the level of each row over some columns, such as "side x frontal x warp"."""
    first, *others = (table[name].astype(str) for name in over)
    return first.str.cat(others, sep=" x ")


def _most(rows: list[dict], name: str) -> int:
    return max((row[name] for row in rows), default=0)


def _friedman(rows: pd.DataFrame) -> dict[str, float | str]:
    table = rows.pivot_table(index="rater", columns="level", values="value")
    whole = table.dropna().round(9)
    n_raters, n_conditions = whole.shape
    result = {
        "n_conditions": n_conditions,
        "n_raters": n_raters,
        "n_dropped": len(table) - n_raters,
    }
    if n_conditions < 3:
        count = "one condition" if n_conditions == 1 else "two conditions: see the pair"
        return result | {"words": f"{count}: no test"}
    if n_raters < 2:
        return result | {"words": f"{n_raters or 'no'} complete rater: no test"}
    if (whole.max(axis=1) == whole.min(axis=1)).all():
        return result | {"words": "every rater rated all conditions alike: no test"}
    chi2, p = scipy.stats.friedmanchisquare(*whole.to_numpy().T)
    df = n_conditions - 1
    kendall_w = chi2 / (n_raters * df)
    return result | {"chi2": chi2, "df": df, "p": p, "kendall_w": kendall_w, "words": ""}


def _compare(sides: pd.DataFrame, level: float) -> dict[str, float | str | bool]:
    """Test the scores of two levels, two columns with a row a rater and what is matched on."""
    gaps = (sides.iloc[:, 0] - sides.iloc[:, 1]).groupby(level="rater").mean().dropna().to_numpy()
    n_either = sides.dropna(how="all").index.get_level_values("rater").nunique()
    n_raters = len(gaps)
    result = {"n_raters": n_raters, "n_dropped": n_either - n_raters, "n_zero": 0, "exact": True}
    if not n_raters:
        return result | {"words": "no rater rated both"}
    result["difference"] = gaps.mean()
    if n_raters < 2:
        return result | {"words": "one rater: no test"}
    result |= asdict(signed_rank(gaps))
    if np.ptp(gaps) < 1e-9:
        return result | {"words": "the same difference for every rater: no interval"}
    low, high = t_interval(gaps, level=level)
    return result | {"low": low, "high": high, "words": ""}


def _pairwise_notes(
    over: Sequence[str], levels: list[str], table: pd.DataFrame, n_raters: int
) -> tuple[str, ...]:
    if not levels:
        return (NO_RATINGS,)
    if table.empty:
        return (f"There is one level of {in_words(over)} only: nothing to compare.",)
    n_tests = int(table["p"].notna().sum())
    smallest = 2.0 ** (1 - n_raters) * n_tests
    if smallest > 0.05:
        return (
            f"With {n_raters} raters and {n_tests} comparisons no difference can reach "
            f"significance: the smallest corrected p is {min(smallest, 1):.2g}.",
        )
    return ()
