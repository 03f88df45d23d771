"""A mixed model of the ratings: types, methods and their interactions, raters and clips at random.

It uses every rating, whether or not a rater saw everything, and says how far a claim reaches:
to other raters always, to other sources and drivings only where a type has several of them.
"""

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy

from studykit.stats.comparison import holm
from studykit.stats.reml import Fit, contrast, f_test, fit_reml
from studykit.stats.result import NO_RATINGS, Result, in_words
from studykit.stats.table import CONDITION_COLUMNS, criteria_of, levels_of, rated, refuse_unrated
from studykit.study.wording import OVERALL

# Whose levels are a sample: raters, how each of them takes to types and methods, and the stimuli.
_RANDOM = (
    ("rater",),
    ("rater", "source_type"),
    ("rater", "driving_type"),
    ("rater", "method"),
    ("source",),
    ("driving",),
    ("source", "driving"),
    ("source", "method"),
    ("driving", "method"),
    ("source", "driving", "method"),
)
_TERMS = ("term", "f", "df", "df_error", "p", "words")
_MEANS = ("factor", "level", "mean", "low", "high", "words")
_DIFFERENCES = ("factor", "first", "second", "difference", "low", "high", "p", "p_holm", "words")
_VARIANCES = ("group", "variance", "share", "words")


@dataclass(frozen=True, kw_only=True)
class MixedModel(Result):
    """A fitted model: ``table`` holds the tests of its terms.

    Attributes
    ----------
    table : pandas.DataFrame
        Columns term, f, df, df_error, p, words.
    means : pandas.DataFrame
        Estimated marginal means, all conditions weighed alike: factor, level, mean, low, high,
        words.
    differences : pandas.DataFrame
        Between them: factor, first, second, difference, low, high, p, p_holm (within the factor),
        words.
    variances : pandas.DataFrame
        group, variance, share (of the sum), words.
    formula : str
        What was fitted, as lme4 writes it.
    fallback : str
        What was fitted instead of the full model and why; empty where it is the full one.
    """

    means: pd.DataFrame = field(default_factory=lambda: _table(_MEANS))
    differences: pd.DataFrame = field(default_factory=lambda: _table(_DIFFERENCES))
    variances: pd.DataFrame = field(default_factory=lambda: _table(_VARIANCES))
    formula: str = ""
    fallback: str = ""


def mixed_model(
    ratings: pd.DataFrame, criterion: str = OVERALL, *, level: float = 0.95
) -> MixedModel:
    """Fit value ~ source type * driving type * method with crossed random effects.

    At random are raters, their own liking of each type and method, and the stimuli: sources,
    drivings, their pairs, and clips. A random effect that can't be told from a fixed one, such as
    the source where each type has one, is left out, and a note says what that does to the claim.
    Scores are taken as numbers.

    Raises
    ------
    StudyError
        No ratings of this criterion, while there are others; or the table can't be used.
    """
    rows = rated(ratings)
    asked = criteria_of(rows)
    if criterion == OVERALL and asked and OVERALL not in asked:
        criterion = asked[0]
    refuse_unrated([criterion], asked or [criterion])
    rows = rows[rows["criterion"] == criterion].reset_index(drop=True)
    n_raters = rows["rater"].nunique()
    factors = [name for name in CONDITION_COLUMNS if rows[name].nunique() > 1]

    def nothing(note: str) -> MixedModel:
        how = _how(criterion, (), level)
        return MixedModel.of(ratings, (), _TERMS, how=how, n_raters=n_raters, notes=(note,))

    problem = _problem(rows, factors)
    if problem:
        return nothing(problem)
    levels = {name: levels_of(rows[name]) for name in factors}
    places, x, note = _design(rows, levels)
    if len(rows) <= x.shape[1] + 1:
        return nothing("There are too few ratings for a mixed model.")
    y = rows["value"].to_numpy()
    if _explains_all(np.column_stack([x, _indicator(rows["rater"].factorize()[0])]), y):
        return nothing(
            "Conditions and raters explain all scores: a mixed model has no error to test by."
        )
    random = _random_effects(rows, x)
    fit = fit_reml(y, x, list(random.values()))
    fallback = ""
    if not fit.converged:
        # The finest of the stimuli's comes last: clips, or the pairs that clips are of one method.
        stimuli = [name for name in random if "rater" not in name]
        kept = {name: random[name] for name in (("rater",), *stimuli[-1:]) if name in random}
        fit, random = fit_reml(y, x, list(kept.values())), kept
        fallback = (
            "The full model did not converge; a model with "
            f"{' and '.join(map(_name, kept)) or 'no random effect'} alone at random was fitted, "
            "whose tests are too optimistic where raters differ in what they like."
        )
        if not fit.converged:
            return nothing("The mixed model did not converge.")
    fixed = " + ".join(map(":".join, places)) or "1"
    tests = [
        (in_words(term), *f_test(fit, np.eye(x.shape[1])[at]), "") for term, at in places.items()
    ]
    weights = _marginal_weights(places, levels, x.shape[1])
    return MixedModel.of(
        ratings,
        tests,
        _TERMS,
        how=_how(criterion, random, level),
        notes=tuple(filter(None, [note, *_reach(rows, factors, random), fallback])),
        means=_means(fit, weights, level),
        differences=_differences(fit, weights, level),
        variances=_variances(fit, random),
        formula=" + ".join([f"value ~ {fixed}", *(f"(1 | {':'.join(name)})" for name in random)]),
        fallback=fallback,
        n_raters=n_raters,
    )


def _table(columns: Sequence[str], rows: Sequence[tuple] = ()) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=columns)


def _problem(rows: pd.DataFrame, factors: list[str]) -> str:
    if rows.empty:
        return NO_RATINGS
    if rows["rater"].nunique() < 2:
        return "One rater: a mixed model needs at least two."
    if not factors:
        return "There is one condition only: a mixed model has nothing to compare."
    if np.ptp(rows["value"]) < 1e-9:
        return "All ratings are equal: a mixed model has nothing to explain."
    return ""


def _sum_coding(size: int) -> np.ndarray:
    """Codes of the levels of a factor whose effects add up to zero, (size, size - 1)."""
    return np.vstack([np.eye(size - 1), -np.ones(size - 1)])


def _columns(
    term: tuple[str, ...], levels: dict[str, list[str]], conditions: np.ndarray
) -> np.ndarray:
    """Design columns of a term, one row a condition, which is a row of the levels' numbers."""
    block = np.ones((len(conditions), 1))
    for (name, found), numbers in zip(levels.items(), conditions.T, strict=True):
        if name in term:
            codes = _sum_coding(len(found))[numbers]
            block = np.einsum("ni,nj->nij", block, codes).reshape(len(conditions), -1)
    return block


def _design(
    rows: pd.DataFrame, levels: dict[str, list[str]]
) -> tuple[dict[tuple[str, ...], slice], np.ndarray, str]:
    """Return the columns of the terms that the study's conditions can tell apart, the design, and
    a note on the others.
    """
    numbers = np.column_stack([rows[name].map(found.index) for name, found in levels.items()])
    conditions, condition = np.unique(numbers, axis=0, return_inverse=True)
    places: dict[tuple[str, ...], slice] = {}
    missing: list[tuple[str, ...]] = []
    grid = np.ones((len(conditions), 1))
    for size in range(1, len(levels) + 1):
        for term in itertools.combinations(levels, size):
            margins = itertools.combinations(term, size - 1) if size > 1 else ()
            wider = np.column_stack([grid, _columns(term, levels, conditions)])
            if set(margins) <= set(places) and np.linalg.matrix_rank(wider) == wider.shape[1]:
                places[term] = slice(grid.shape[1], wider.shape[1])
                grid = wider
            else:
                missing.append(term)
    note = ""
    if missing:
        note = (
            "Some conditions have no ratings, so that the model has to leave out "
            f"{', '.join(map(in_words, missing))}."
        )
    return places, grid[condition.ravel()], note


def _random_effects(rows: pd.DataFrame, x: np.ndarray) -> dict[tuple[str, ...], np.ndarray]:
    """Return the level numbers of each random effect that the data can tell from all others."""
    conditions, first, condition = np.unique(x, axis=0, return_index=True, return_inverse=True)
    kept: dict[tuple[str, ...], np.ndarray] = {}
    for names in _RANDOM:
        group = rows.groupby(list(names), observed=True, sort=False).ngroup().to_numpy()
        size = group.max() + 1
        same = any(size == other.max() + 1 == _n_pairs(group, other) for other in kept.values())
        fixed = _n_pairs(group, condition) == len(conditions) and _explains_all(
            conditions, _indicator(group[first])
        )
        if size < len(rows) and not same and not fixed:
            kept[names] = group
    return kept


def _n_pairs(first: np.ndarray, second: np.ndarray) -> int:
    """Count how many levels of two groupings go together."""
    return len(np.unique(first * (second.max() + 1) + second))


def _indicator(group: np.ndarray) -> np.ndarray:
    """Columns that are 1 in the rows of a level, (n, levels)."""
    return np.eye(group.max() + 1)[group]


def _explains_all(x: np.ndarray, columns: np.ndarray) -> bool:
    """Say whether columns are linear combinations of those of x."""
    fitted = x @ np.linalg.lstsq(x, columns, rcond=None)[0]
    return bool(np.abs(columns - fitted).max() < 1e-8)


def _marginal_weights(
    places: dict[tuple[str, ...], slice], levels: dict[str, list[str]], size: int
) -> dict[str, dict[str, np.ndarray]]:
    """Weights of the fixed effects in the mean of each level over all conditions, by factor."""
    effects = np.eye(size)
    # The codes of all other terms add up to zero over all conditions.
    return {
        name: dict(
            zip(found, effects[0] + _sum_coding(len(found)) @ effects[places[name,]], strict=True)
        )
        for name, found in levels.items()
        if (name,) in places
    }


def _estimate(fit: Fit, weights: np.ndarray, level: float) -> tuple[float, float, float, float]:
    """Return a contrast's estimate, the ends of its interval, and the p of its t test."""
    estimate, error, df = contrast(fit, weights)
    half = scipy.stats.t.ppf((1 + level) / 2, df) * error
    p = 2 * scipy.stats.t.sf(abs(estimate / error), df)
    return estimate, estimate - half, estimate + half, p


def _means(fit: Fit, weights: dict[str, dict[str, np.ndarray]], level: float) -> pd.DataFrame:
    found = [
        (factor, name, *_estimate(fit, row, level)[:3], "")
        for factor, of_level in weights.items()
        for name, row in of_level.items()
    ]
    return _table(_MEANS, found)


def _differences(fit: Fit, weights: dict[str, dict[str, np.ndarray]], level: float) -> pd.DataFrame:
    found = []
    for factor, of_level in weights.items():
        pairs = list(itertools.combinations(of_level, 2))
        tests = [_estimate(fit, of_level[a] - of_level[b], level) for a, b in pairs]
        corrected = holm([p for *_, p in tests])
        found += [
            (factor, *pair, *test, p_holm, "")
            for pair, test, p_holm in zip(pairs, tests, corrected, strict=True)
        ]
    return _table(_DIFFERENCES, found)


def _variances(fit: Fit, random: Collection[tuple[str, ...]]) -> pd.DataFrame:
    values = np.append(fit.variances, fit.residual)
    shares = values / values.sum()
    groups = [*map(_name, random), "residual"]
    return _table(_VARIANCES, [(*row, "") for row in zip(groups, values, shares, strict=True)])


def _name(names: tuple[str, ...]) -> str:
    return "clip" if names == _RANDOM[-1] else in_words(names)


def _reach(
    rows: pd.DataFrame, factors: list[str], random: Collection[tuple[str, ...]]
) -> list[str]:
    """Say for which stimuli the model can't speak."""
    notes = []
    for item in ("source", "driving"):
        of_type = f"{item}_type"
        if of_type not in factors or (item,) in random:
            continue
        why = f"The {item}s of a type are not at random in this model"
        if rows.groupby(of_type, observed=True)[item].nunique().max() == 1:
            why = (
                f"Each {item} type has one {item}, so that an effect of the type can't be told "
                f"from that of the {item}"
            )
        notes.append(f"{why}: the tests speak about these {item}s.")
    stimuli = any(set(names) <= {"source", "driving", "method"} for names in random)
    clips = rows.groupby(list(CONDITION_COLUMNS), observed=True)["cell"].nunique()
    if not stimuli and clips.max() == 1:
        notes.append(
            "Each condition has one clip, so that clips can't be random: the tests generalise to "
            "other raters, not to other clips."
        )
    return notes


def _how(criterion: str, random: Collection[tuple[str, ...]], level: float) -> str:
    effects = ", ".join(map(_name, random)) or "raters and clips"
    return (
        f"Linear mixed model of {criterion}, scores taken as numbers, with source type, driving "
        f"type, method and their interactions as fixed effects (sum-to-zero coding) and crossed "
        f"random intercepts for {effects}; restricted maximum likelihood; Wald F tests with "
        f"Satterthwaite's degrees of freedom (Kuznetsova et al. 2017); estimated marginal means "
        f"with {100 * level:g}% intervals, differences corrected by Holm within a factor."
    )
