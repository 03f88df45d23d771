"""Contrasts that speak for raters, sources and drivings like those of a study, on arrays.

Methods and types are compared; raters, sources, drivings and their pairs are samples, each with
its own liking of methods and types (Judd, Westfall and Kenny 2012). A contrast is first a number a
pair of a source and a driving; how these numbers differ from source to source, from driving to
driving and from pair to pair is its error, and what a rater's own liking adds to that. No criterion
or contrast borrows another's variance, and luck with small ones lends no degrees of freedom.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import scipy

from studykit.stats.table import levels_of

# A rater's variance over an answer's: it only weighs answers where raters saw different clips.
_RATER_RATIO = 1.0
# Answers a clip that leave enough beyond the clip's own mean.
_ANSWERS = 4
# How far the least degrees of freedom lie from the fewest towards those of parts that differ alike.
_TOWARDS = 0.25
_TINY = 1e-9
_ITEMS = {"source_type": "source", "driving_type": "driving"}


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers of raters to clips, one row an answer and one column a criterion.

    Attributes
    ----------
    values : (n, k) float array
        Without gaps.
    rater, clip : (n,) int arrays
        From 0 without gaps; a rater answers a clip once.
    source, driving, method, source_type, driving_type : (clips,) int arrays
        Of each clip, from 0. A source has one type, and so has a driving.
    names : dict of str to sequence of str
        What the numbers of "method", "source_type", "driving_type", "cell" and "rater" stand for;
        the last two may be missing.
    """

    values: np.ndarray
    rater: np.ndarray
    clip: np.ndarray
    source: np.ndarray
    driving: np.ndarray
    method: np.ndarray
    source_type: np.ndarray
    driving_type: np.ndarray
    names: Mapping[str, Sequence[str]]

    @cached_property
    def pair(self) -> np.ndarray:
        """The number of each clip's source and driving, (clips,) int."""
        return _crossed(self.source, self.driving)

    @cached_property
    def shown(self) -> np.ndarray:
        """Who answered what, (raters, clips) of 0 and 1."""
        shown = np.zeros((self.rater.max() + 1, len(self.method)))
        shown[self.rater, self.clip] = 1
        return shown

    @cached_property
    def _share(self) -> np.ndarray:
        """Each answer's share of its clip's mean, (raters, clips)."""
        return self.shown / self.shown.sum(axis=0)

    @cached_property
    def _raters(self) -> tuple[np.ndarray, np.ndarray]:
        """The diagonal of the raters' normal equations, and the inverse without the clips."""
        diagonal = self.shown.sum(axis=1) + 1 / _RATER_RATIO
        return diagonal, np.linalg.inv(np.diag(diagonal) - self._share @ self.shown.T)

    @cached_property
    def scores(self) -> np.ndarray:
        """Scores of the clips without the raters' levels, (clips, k) float."""
        count = self.shown.sum(axis=0)[:, None]
        means = _sums(self.clip, self.values, len(count)) / count
        above = _sums(self.rater, self.values - means[self.clip], len(self.shown))
        raters = self._raters[1] @ above
        return means - self._share.T @ raters

    def weights(self, clips: np.ndarray) -> np.ndarray:
        """Return what each answer weighs in a weighted sum of the clips' scores, (n,) float."""
        diagonal, inverse = self._raters
        weight = (clips + self.shown.T @ (inverse @ (self._share @ clips))) / self.shown.sum(axis=0)
        return weight[self.clip] - (self.shown @ weight / diagonal)[self.rater]


def answers_of(rows: pd.DataFrame, criteria: list[str]) -> Iterator[tuple[list[str], Answers]]:
    """Yield criteria that the same raters answered of the same clips, and their answers."""
    scores = rows[rows["criterion"].isin(criteria)].pivot_table(
        index=["rater", "cell"], columns="criterion", values="value", observed=True
    )
    clips = rows.drop_duplicates("cell").set_index("cell")
    names = {name: levels_of(clips[name]) for name in ("method", "source_type", "driving_type")}
    together = defaultdict(list)
    for name in criteria:
        together[scores[name].notna().to_numpy().tobytes()].append(name)
    for alike in together.values():
        values = scores[alike].dropna()
        rater, raters = values.index.get_level_values("rater").factorize()
        clip, cells = values.index.get_level_values("cell").factorize()
        of_clip = clips.loc[cells]
        columns = {name: of_clip[name].map(levels.index) for name, levels in names.items()}
        columns |= {name: pd.Series(of_clip[name].factorize()[0]) for name in ("source", "driving")}
        numbers = {name: column.to_numpy() for name, column in columns.items()}
        known = names | {"cell": list(cells), "rater": list(raters)}
        yield alike, Answers(values.to_numpy(), rater, clip, **numbers, names=known)


@dataclass(frozen=True, eq=False)
class Contrast:
    """What is compared with what, and what was found on each criterion.

    Attributes
    ----------
    factors : tuple of str
        "method", "source_type", "driving_type", or two of them: an interaction.
    levels : tuple of (str, str)
        Of each of these; what is estimated is the first less the second, and of an interaction how
        far that of the first factor differs between the levels of the other.
    estimate, variance, df : (k,) float arrays
        Over all conditions that have every side, each weighing alike; its variance; the degrees of
        freedom of Student's t.
    reason : str
        Why nothing can be said; the numbers are then missing.
    """

    factors: tuple[str, ...]
    levels: tuple[tuple[str, str], ...]
    estimate: np.ndarray
    variance: np.ndarray
    df: np.ndarray
    reason: str = ""

    @property
    def p(self) -> np.ndarray:
        """Two-sided p of Student's t, (k,) float; missing where nothing varies."""
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(self.variance > _TINY**2, self.estimate / np.sqrt(self.variance), np.nan)
        return 2 * scipy.special.stdtr(self.df, -np.abs(t))

    def half(self, level: float = 0.95) -> np.ndarray:
        """Half the width of the interval, (k,) float."""
        return scipy.special.stdtrit(self.df, (1 + level) / 2) * np.sqrt(self.variance)


def contrasts(answers: Answers) -> Iterator[Contrast]:
    """Yield every contrast of two methods, of two types, and their interactions two by two."""
    levels = {
        factor: [*itertools.combinations(np.unique(getattr(answers, factor)), 2)]
        for factor in ("method", *_ITEMS)
    }
    methods = {pair: _Table(answers, dict(zip(pair, (1.0, -1.0), strict=True)))
               for pair in levels["method"]}  # fmt: skip
    for pair, table in methods.items():
        yield table.contrast({"method": pair})
    every = _Table(answers, _everywhere(answers))
    for factor in _ITEMS:
        for pair in levels[factor]:
            yield every.contrast({factor: pair})
    for factor in _ITEMS:
        for (pair, table), other in itertools.product(methods.items(), levels[factor]):
            yield table.contrast({"method": pair, factor: other})
    for pairs in itertools.product(*(levels[factor] for factor in _ITEMS)):
        yield every.contrast(dict(zip(_ITEMS, pairs, strict=True)))


def _everywhere(answers: Answers) -> dict[int, float]:
    """Weigh alike the methods that were rated in every source type x driving type."""
    condition = _crossed(answers.source_type, answers.driving_type)
    kept = [
        method
        for method in np.unique(answers.method)
        if len(np.unique(condition[answers.method == method])) == condition.max() + 1
    ]
    return dict.fromkeys(kept, 1 / max(len(kept), 1))


class _Table:
    """Pairs of a source and a driving, each with a number a criterion: a sum over its clips.

    Pairs that lack one of the methods in the sum take no part.
    """

    def __init__(self, answers: Answers, of_method: dict[int, float]) -> None:
        self.answers = answers
        counted = np.isin(answers.method, list(of_method))
        whole = np.bincount(answers.pair[counted], minlength=answers.pair.max() + 1)
        self.clips = np.flatnonzero(counted & (whole == len(of_method))[answers.pair])
        _, first, self.row = np.unique(
            answers.pair[self.clips], return_index=True, return_inverse=True
        )
        self.size = len(first)
        self.method = answers.method[self.clips]
        self.weight = np.array([of_method[method] for method in self.method])
        self.scores = answers.scores[self.clips]
        self.values = _sums(self.row, self.weight[:, None] * self.scores, self.size)
        at = self.clips[first]
        self.columns = {name: getattr(answers, name)[at] for name in (*_ITEMS, *_ITEMS.values())}
        self._models: dict[tuple[str, ...], _Model] = {}

    def contrast(self, sides: dict[str, tuple[int, int]]) -> Contrast:
        """Test one contrast; that of the methods, if there is one, is in the table already."""
        names = self.answers.names
        levels = tuple((names[f][a], names[f][b]) for f, (a, b) in sides.items())
        types = {factor: pair for factor, pair in sides.items() if factor in _ITEMS}
        reason = self._reason(types)
        weights = self._weights(types) if not reason else np.zeros(0)
        if not reason and not weights.any():
            reason = "no condition was rated with all that is compared"
        model = None if reason else self._model(types)
        if model is None or not model.enough:
            nothing = np.full(self.answers.values.shape[1], np.nan)
            reason = reason or "too few pairs to tell sources and drivings apart"
            return Contrast(tuple(sides), levels, nothing, nothing, nothing, reason)
        (stimuli, df), (raters, of_raters) = model.variance(weights), self._raters(model, weights)
        variance = stimuli + raters
        with np.errstate(divide="ignore", invalid="ignore"):
            df = variance**2 / (stimuli**2 / df + raters**2 / of_raters)
        if "method" not in sides:
            df = np.minimum(df, model.most(weights))
        return Contrast(tuple(sides), levels, weights @ self.values, variance, df)

    def _reason(self, types: dict[str, tuple[int, int]]) -> str:
        if len(self.answers.shown) < 2:
            return "one rater: nothing shows how others would rate"
        if not self.size:
            return "no source and driving was rated with all that is compared"
        for factor, pair in types.items():
            if min(self._count(factor, level) for level in pair) < 2:
                names = self.answers.names[factor]
                few = [name for i, name in enumerate(names) if self._count(factor, i) < 2]
                return (
                    f"a claim about {_ITEMS[factor]} types needs two {_ITEMS[factor]}s in each, "
                    f"and {' and '.join(filter(None, [', '.join(few[:-1]), few[-1]]))} "
                    f"{'have' if len(few) > 1 else 'has'} fewer"
                )
        for noun in _ITEMS.values():
            if len(np.unique(self.columns[noun])) < 2:
                return f"one {noun}: nothing shows how others would do"
        return ""

    def _count(self, factor: str, level: int) -> int:
        return len(np.unique(self.columns[_ITEMS[factor]][self.columns[factor] == level]))

    def _weights(self, types: dict[str, tuple[int, int]]) -> np.ndarray:
        """Weigh pairs so that all conditions with every side weigh alike, (size,) float."""
        sign = np.ones(self.size)
        for factor, (first, second) in types.items():
            sign *= (self.columns[factor] == first) * 1.0 - (self.columns[factor] == second)
        condition = _crossed(*(self.columns[factor] for factor in _ITEMS))
        stratum = _crossed(
            np.zeros(self.size, int), *(self.columns[f] for f in _ITEMS if f not in types)
        )
        weights = np.zeros(self.size)
        for number in np.unique(stratum):
            used = (stratum == number) & (sign != 0)
            sides, side = np.unique(condition[used], return_inverse=True)
            if len(sides) == 2 ** len(types):
                weights[used] = sign[used] / np.bincount(side)[side]
        return weights / max(np.abs(weights).sum() / 2 ** len(types), _TINY)

    def _model(self, types: dict[str, tuple[int, int]]) -> "_Model":
        # Where a type has one source, how sources differ is seen over the types or not at all.
        fixed = tuple(
            factor
            for factor in _ITEMS
            if factor in types
            or min(self._count(factor, level) for level in np.unique(self.columns[factor])) > 1
        )
        if fixed not in self._models:
            self._models[fixed] = _Model(self, fixed)
        return self._models[fixed]

    def _raters(self, model: "_Model", weights: np.ndarray) -> tuple[np.ndarray, int]:
        """Return the variance that raters' own likings add, (k,), and its degrees of freedom.

        Only by such likings does what a rater says in several pairs go together, beyond the
        rater's level: their products estimate it, whatever the pairs' own variance is.
        """
        answers = self.answers
        n_raters = len(answers.shown)
        fitted, clips = answers.scores.copy(), np.zeros(len(answers.method))
        clips[self.clips] = weights[self.row] * self.weight
        used = clips[answers.clip] != 0
        # Where a clip has few answers, its own mean would leave nothing of them.
        sparse = used.sum() < _ANSWERS * len(self.clips)
        methods = np.unique(self.method)
        for method in methods if sparse else ():
            at = self.method == method
            scores = np.empty_like(self.values)
            scores[self.row[at]] = self.scores[at]
            fitted[self.clips[at]] = model.fitted(scores)[self.row[at]]
        rater, clip = answers.rater[used], answers.clip[used]
        weight = answers.weights(clips)[used, None]
        rest = answers.values[used] - fitted[clip]
        count = np.bincount(rater, minlength=n_raters).clip(1)[:, None]
        rest -= (_sums(rater, rest, n_raters) / count)[rater]
        pair, side = _crossed(rater, answers.pair[clip]), _crossed(rater, clips[clip] > 0)

        def squares(values: np.ndarray, group: np.ndarray) -> np.ndarray:
            return (_sums(group, values, group.max() + 1) ** 2).sum(axis=0)

        rest *= weight
        together = squares(rest, rater) - squares(rest, pair)
        signed = np.abs(weight)
        whole = squares(signed, side)
        share = 1 - squares(signed, _crossed(pair, side)) / whole
        if share <= _TINY:
            return np.zeros(len(together)), n_raters - 1
        fixed = (len(methods) * model.rank if sparse else len(self.clips)) / used.sum()
        left = max(1 - fixed, 0.25) ** (1 if answers.shown.all() else 2)
        return np.maximum(together, 0) / (share * left), n_raters - 1


class _Model:
    """Mean squares of a table between sources, between drivings, and of the rest."""

    def __init__(self, table: _Table, fixed: Sequence[str]) -> None:
        items = [table.columns[name] for name in _ITEMS.values()]
        # An item that is met in one pair only is that pair.
        self._units = [indicator(g) for g in items if len(np.unique(g)) < table.size]
        strata = [table.columns[name] for name in fixed]
        self._fit(table, indicator(_crossed(np.zeros(table.size, int), *strata)))
        if not self.enough:
            self._fit(table, np.hstack([np.ones((table.size, 1)), *map(indicator, strata)]))

    def _fit(self, table: _Table, fixed: np.ndarray) -> None:
        self._all = column_space(np.hstack([fixed, *self._units]))
        self.rank = self._all.shape[1]
        explained = ((self._all.T @ table.values) ** 2).sum(axis=0)
        squares = [(table.values**2).sum(axis=0) - explained]
        df, self._sizes = [table.size - self.rank], []
        for unit in self._units:
            others = column_space(np.hstack([fixed, *(u for u in self._units if u is not unit)]))
            df.append(self.rank - others.shape[1])
            squares.append(explained - ((others.T @ table.values) ** 2).sum(axis=0))
            left = unit - others @ (others.T @ unit)
            self._sizes.append((left**2).sum() / max(df[-1], 1))
        self.df = np.array(df)
        self._means = np.maximum(squares, 0) / np.maximum(self.df, 1)[:, None]

    @property
    def enough(self) -> bool:
        """Whether every mean square has a degree of freedom."""
        return bool((self.df > 0).all())

    def fitted(self, values: np.ndarray) -> np.ndarray:
        """Values as types, sources and drivings explain them."""
        return self._all @ (self._all.T @ values)

    def variance(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance of a weighted sum and its degrees of freedom, (k,) float each.

        An unbiased estimate is a sum of mean squares, some of them subtracted. It is taken as it
        is, but never below what the pairs alone would give. The degrees of freedom are
        Satterthwaite's, without those of what is subtracted, and no fewer than a quarter of the way
        from the fewest to what they would be if sources and drivings differed alike: the luck of a
        small estimate must not look like many sources, nor that of a large one like few. Simulated
        studies have set that quarter (docs/statistics.md).
        """
        whole = (weights**2).sum()
        shares = [((unit.T @ weights) ** 2).sum() for unit in self._units]
        parts = np.array(
            [
                share / size if share > _TINY * whole else 0.0
                for share, size in zip(shares, self._sizes, strict=True)
            ]
        )
        coefficients = np.array([whole - parts.sum(), *parts])
        variance = np.maximum(coefficients @ self._means, whole * self._means[0])
        added = coefficients > _TINY * whole
        positive = coefficients[added, None] * self._means[added]
        total, own = np.minimum(positive.sum(axis=0), variance), self.df[added]
        with np.errstate(divide="ignore", invalid="ignore"):
            df = 1 / ((positive / total) ** 2 / own[:, None]).sum(axis=0)
        least = own.min() + _TOWARDS * (_alike(coefficients[added], own) - own.min())
        return variance, np.where(df > least, df, least)

    def most(self, weights: np.ndarray) -> float:
        """Return the most degrees of freedom that a contrast of types may have.

        It rests on the mean square of the sources alone, or of the drivings or the pairs. Where
        that is small by luck, raters, of whom there are many, would lend it theirs. So it gets no
        more than halfway from the fewest to what it would have if sources, drivings and pairs
        differed alike; simulated studies then err as rarely as they say (docs/statistics.md).
        """
        sums = [unit.T @ weights for unit in self._units]
        parts = np.array([of @ of for of in (weights, *sums)])
        rests = parts > _TINY * parts[0]
        return float(self.df[rests].min() + _alike(parts[rests], self.df[rests])) / 2


def _alike(shares: np.ndarray, df: np.ndarray) -> float:
    """Return Satterthwaite's degrees of freedom of a sum whose mean squares are all alike."""
    return shares.sum() ** 2 / (shares**2 / df).sum()


def _crossed(*groups: np.ndarray) -> np.ndarray:
    """Number the combinations of groupings that occur, (n,) int from 0 without gaps."""
    code = np.zeros(len(groups[0]), dtype=np.int64)
    for group in groups:
        code = np.unique(code * (int(group.max(initial=0)) + 1) + group, return_inverse=True)[1]
    return code


def indicator(group: np.ndarray) -> np.ndarray:
    """Columns that are 1 in the rows of a level, (n, levels)."""
    found = np.unique(group, return_inverse=True)[1]
    return np.eye(found.max() + 1)[found]


def column_space(x: np.ndarray) -> np.ndarray:
    """Return orthonormal columns that span those of x."""
    u, size, _ = np.linalg.svd(x, full_matrices=False)
    return u[:, size > _TINY * size[0]]


def _sums(group: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """Add up the rows of each group in their order, (size, k)."""
    places = group, np.arange(len(group))
    members = scipy.sparse.csr_array((np.ones(len(group)), places), (size, len(group)))
    return members @ values
