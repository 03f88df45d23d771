"""Comparisons within raters: Friedman's test over conditions, signed-rank tests of pairs.

Every rater is his own control: who rated only one side of a comparison takes no part in it.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from studykit.errors import StudyError, did_you_mean
from studykit.stats.intervals import t_interval
from studykit.stats.table import (
    CONDITION,
    OVERALL,
    Result,
    criteria_of,
    in_words,
    is_simulated,
    label,
    levels_of,
    rated,
)

if TYPE_CHECKING:
    import pandas as pd

# Beyond this many raters the exact distribution's table grows large and changes nothing.
_EXACT_RATERS = 100


def friedman(ratings: "pd.DataFrame", over: Sequence[str] = CONDITION) -> Result:
    """Friedman's test: do raters rank the conditions alike? One row a criterion.

    All of ``over`` make one factor, whose levels are ranked within raters; a rater who lacks a
    level is left out, and counted. Kendall's W is the effect size, from 0 to 1.

    Returns
    -------
    Result
        Columns criterion, chi2, df, p, kendall_w, n_conditions, n_raters, n_dropped, words.
    """
    import pandas as pd

    rows = rated(ratings)
    found = [
        {"criterion": name} | _friedman(rows[rows["criterion"] == name], over)
        for name in criteria_of(rows)
    ]
    columns = ["criterion", "chi2", "df", "p", "kendall_w", "n_conditions", "n_raters",
               "n_dropped", "words"]  # fmt: skip
    table = pd.DataFrame(found, columns=columns)
    n_dropped = int(table["n_dropped"].max()) if found else 0
    notes = () if found else ("There are no ratings yet.",)
    if found and (table["n_raters"] < 2).all() and n_dropped > 1:
        notes = ("No two raters saw every condition: the mixed model uses what they did see.",)
    return Result(
        table=table,
        how=(
            f"Friedman's rank test over the levels of {in_words(over)}, taken as one factor, "
            "within raters who rated all of them, with the chi-square approximation corrected for "
            "ties; effect size: Kendall's W."
        ),
        n_raters=int(table["n_raters"].max()) if found else 0,
        n_dropped=n_dropped,
        why="had not rated every condition" if n_dropped else "",
        notes=notes,
        simulated=is_simulated(ratings),
    )


def pairwise(
    ratings: "pd.DataFrame",
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
        Default: all that were asked, without the derived "overall".
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
    import pandas as pd

    rows = rated(ratings)
    asked = criteria_of(rows)
    if criteria is None:
        criteria = [name for name in asked if name != OVERALL] or asked
    for name in criteria:
        if name not in asked:
            raise StudyError(f'no ratings of "{name}": {did_you_mean(name, asked)}')
    rows = rows.assign(level=label(rows, over))
    levels = _levels_in_order(rows, over)
    if pairs is None:
        pairs = list(itertools.combinations(levels, 2))
    for name in {name for pair in pairs for name in pair}:
        if name not in levels:
            raise StudyError(f'no ratings of "{name}": {did_you_mean(name, levels)}')
    found = [
        {"criterion": name, "first": first, "second": second}
        | _compare(of_criterion, first, second, level)
        for name in criteria
        for of_criterion in [_Matched.of(rows[rows["criterion"] == name], over)]
        for first, second in pairs
    ]
    columns = ["criterion", "first", "second", "difference", "low", "high", "w", "p", "p_holm",
               "effect", "n_raters", "n_dropped", "n_zero", "exact", "words"]  # fmt: skip
    table = pd.DataFrame(found, columns=columns)
    table["p_holm"] = holm(table["p"].to_numpy(dtype=float))
    n_dropped = int(table["n_dropped"].max()) if found else 0
    return Result(
        table=table,
        how=_pairwise_words(over, table, level),
        n_raters=int(table["n_raters"].max()) if found else 0,
        n_dropped=n_dropped,
        why="had rated only one side of a pair" if n_dropped else "",
        notes=_pairwise_notes(over, levels, table),
        simulated=is_simulated(ratings),
    )


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's corrected p of a family; missing ones take no part and stay missing.

    The i-th smallest of m is multiplied by m - i + 1, and never below the one before.

    Parameters
    ----------
    p_values : (n,) float array

    References
    ----------
    Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal
    of Statistics 6, 65-70.
    """
    order = np.argsort(p_values)  # missing ones last
    factors = np.maximum(np.isfinite(p_values).sum() - np.arange(len(p_values)), 1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1)
    return corrected


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
    from scipy.stats import rankdata, wilcoxon

    # Means of ratings that are equal on paper may differ in the last bit.
    differences = np.round(differences, 9)
    moved = differences != 0
    ranks = rankdata(np.abs(differences))[moved]
    w, total = float(ranks[differences[moved] > 0].sum()), float(ranks.sum())
    n_zero = int((~moved).sum())
    if not total:
        return SignedRank(w=0.0, p=1.0, effect=0.0, n_zero=n_zero, exact=True)
    exact = len(differences) <= _EXACT_RATERS
    if exact:
        p = _sign_flip_p(ranks, w)
    else:
        p = float(wilcoxon(differences, zero_method="pratt", method="asymptotic").pvalue)
    return SignedRank(w=w, p=p, effect=(2 * w - total) / total, n_zero=n_zero, exact=exact)


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


def _friedman(rows: "pd.DataFrame", over: Sequence[str]) -> dict[str, float | str]:
    from scipy.stats import friedmanchisquare

    table = rows.assign(level=label(rows, over)).pivot_table(
        index="rater", columns="level", values="value", aggfunc="mean"
    )
    whole = table.dropna().round(9)
    n_raters, n_conditions = len(whole), table.shape[1]
    result = {
        "chi2": np.nan,
        "df": np.nan,
        "p": np.nan,
        "kendall_w": np.nan,
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
    chi2, p = friedmanchisquare(*whole.to_numpy().T)
    df = n_conditions - 1
    return result | {
        "chi2": float(chi2),
        "df": df,
        "p": float(p),
        "kendall_w": float(chi2 / (n_raters * df)),
        "words": "",
    }


def _levels_in_order(rows: "pd.DataFrame", over: Sequence[str]) -> list[str]:
    present = set(rows["level"])
    grid = itertools.product(*(levels_of(rows[name]) for name in over))
    return [name for name in map(" x ".join, grid) if name in present]


@dataclass(frozen=True)
class _Matched:
    """Scores whose rows can be compared: a rater and what matches by level; and whose row it is."""

    values: dict[str, np.ndarray]
    rater: np.ndarray

    @classmethod
    def of(cls, rows: "pd.DataFrame", over: Sequence[str]) -> "_Matched":
        # A type is compared over different sources, so that only what is crossed with it matches.
        match = [
            match
            for match, owner in (
                ("source", "source_type"),
                ("driving", "driving_type"),
                ("method", "method"),
            )
            if owner not in over and match not in over
        ]
        table = rows.pivot_table(
            index=["rater", *match], columns="level", values="value", aggfunc="mean"
        )
        raters = table.index.get_level_values("rater")
        return cls({name: table[name].to_numpy() for name in table}, raters.factorize()[0])

    def gaps(self, first: str, second: str) -> tuple[np.ndarray, int]:
        """Mean difference of each rater who rated both sides, and how many rated only one."""
        missing = np.full(len(self.rater), np.nan)
        gap = self.values.get(first, missing) - self.values.get(second, missing)
        both = np.isfinite(gap)
        either = np.isfinite(self.values.get(first, missing))
        either |= np.isfinite(self.values.get(second, missing))
        counts = np.bincount(self.rater[both])
        sums = np.bincount(self.rater[both], weights=gap[both])
        gaps = sums[counts > 0] / counts[counts > 0]
        return gaps, len(np.unique(self.rater[either])) - len(gaps)


def _compare(
    scores: _Matched, first: str, second: str, level: float
) -> dict[str, float | str | bool]:
    gaps, n_dropped = scores.gaps(first, second)
    n_raters = len(gaps)
    result = dict.fromkeys(("difference", "low", "high", "w", "p", "p_holm", "effect"), np.nan)
    result |= {"n_raters": n_raters, "n_dropped": n_dropped, "n_zero": 0, "exact": True}
    if not n_raters:
        return result | {"words": "no rater rated both"}
    result["difference"] = float(gaps.mean())
    if n_raters < 2:
        return result | {"words": "one rater: no test"}
    test = signed_rank(gaps)
    result |= {"w": test.w, "p": test.p, "effect": test.effect, "n_zero": test.n_zero}
    result["exact"] = test.exact
    if np.ptp(gaps) < 1e-9:
        return result | {"words": "the same difference for every rater: no interval"}
    low, high = t_interval(gaps, level=level)
    return result | {"low": float(low), "high": float(high), "words": ""}


def _pairwise_words(over: Sequence[str], table: "pd.DataFrame", level: float) -> str:
    criteria = table["criterion"].nunique()
    family = (
        f"{len(table)} comparison{'s' * (len(table) != 1)} (all pairs asked for, on {criteria} "
        f"criteri{'on' if criteria == 1 else 'a'})"
    )
    return (
        f"Two-sided Wilcoxon signed-rank tests between levels of {in_words(over)} on each rater's "
        "mean difference over matched clips; zero differences ranked and left out (Pratt 1959), "
        "mean ranks for ties, exact permutation distribution given the ties (normal approximation "
        f"beyond {_EXACT_RATERS} raters); Holm's correction over the family of {family}; effect "
        f"size: matched-pairs rank-biserial correlation; {100 * level:g}% t intervals of the mean "
        "difference, each on its own."
    )


def _pairwise_notes(over: Sequence[str], levels: list[str], table: "pd.DataFrame") -> tuple:
    if not levels:
        return ("There are no ratings yet.",)
    if table.empty:
        return (f"There is one level of {in_words(over)} only: nothing to compare.",)
    tested = table["p"].notna()
    smallest = 2.0 ** (1 - int(table["n_raters"].max())) * int(tested.sum())
    if tested.any() and smallest > 0.05:
        return (
            f"With {int(table['n_raters'].max())} raters and {int(tested.sum())} comparisons no "
            "difference can reach significance: the smallest corrected p is "
            f"{min(smallest, 1):.2g}.",
        )
    return ()
