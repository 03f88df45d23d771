"""What statistics read: the ratings table, checked, and the order in which things are shown."""

from collections.abc import Iterable, Sequence

import pandas as pd

from studykit.errors import StudyError, did_you_mean
from studykit.study.file import TYPES
from studykit.study.wording import CRITERIA, MEAN, OVERALL

CONDITION_COLUMNS = ("source_type", "driving_type", "method")

_NEEDED = ("rater", "simulated", "role", "task", "cell", "source", "source_type", "driving",
           "driving_type", "method", "other", "criterion", "value")  # fmt: skip


def rated(ratings: pd.DataFrame, *, scale: int | None = None) -> pd.DataFrame:
    """Return the rows that scores are made of: role "rating", single clips, one value each.

    A clip that one rater rated twice in that role counts with the mean.

    Parameters
    ----------
    ratings : pandas.DataFrame
        The ratings table.
    scale : int, optional
        Steps of the scale; with it, values outside 1..scale are refused.

    Returns
    -------
    pandas.DataFrame
        Columns rater, cell, source, source_type, driving, driving_type, method, criterion and
        value (float). The criterion "mean" is a rater's mean over the criteria of a clip, where
        there are several and raters were not asked for an overall score.

    Raises
    ------
    StudyError
        Columns are missing, simulated and human ratings or two tasks are mixed, or a value is
        outside the scale.
    """
    rows = only_rating(ratings)
    rows = rows[rows["task"] != "pair"]
    tasks = sorted(rows["task"].unique())
    if len(tasks) > 1:
        raise StudyError(
            f"the ratings mix the tasks {' and '.join(tasks)}, whose scores can't be averaged: "
            "keep the rows of one"
        )
    if scale is not None:
        outside = rows[~rows["value"].between(1, scale)]
        if len(outside):
            worst = outside.iloc[0]
            raise StudyError(
                f"{len(outside)} ratings lie outside 1..{scale}, such as {worst['value']} by "
                f"rater {worst['rater']} for {worst['cell']}: correct them, or the study's scale"
            )
    identity = ["rater", "cell", "source", "source_type", "driving", "driving_type", "method"]
    # As numbers with a list of names, since a foreign study may have millions of rows.
    texts = {name: rows[name].astype("category") for name in (*identity, "criterion")}
    names = dict.fromkeys([*texts["criterion"].cat.categories, MEAN])
    texts["criterion"] = texts["criterion"].cat.set_categories(list(names))
    single = pd.DataFrame({**texts, "value": rows["value"].astype(float)})
    if single.duplicated(["rater", "cell", "criterion"]).any():
        single = single.groupby([*identity, "criterion"], as_index=False, observed=True).mean()
    asked = criteria_of(single)
    if len(asked) < 2 or OVERALL in asked:
        return single.reset_index(drop=True)
    clips = single.groupby(identity, as_index=False, observed=True, dropna=False)["value"]
    mean = clips.agg(value="mean", answers="size")
    mean["criterion"] = pd.Categorical([MEAN], dtype=single["criterion"].dtype).repeat(len(mean))
    mean = mean.loc[mean["answers"] == len(asked), single.columns]
    return pd.concat([single, mean], ignore_index=True)


def only_rating(ratings: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the role "rating" that hold a value, after the checks of a table.

    They have the columns that statistics read, and no others.

    Raises
    ------
    StudyError
        Columns are missing, or simulated and human ratings are mixed.
    """
    missing = [name for name in _NEEDED if name not in ratings.columns]
    if missing:
        raise StudyError(
            f"the ratings table lacks the column(s) {', '.join(missing)}: export it again"
        )
    if ratings["simulated"].nunique() > 1:
        raise StudyError(
            "the ratings mix simulated and human ones, which no statistic may: "
            "keep the rows of one kind"
        )
    kept = (ratings["role"] == "rating") & ratings["value"].notna()
    rows = ratings[list(_NEEDED)]
    return rows if kept.all() else rows[kept]  # pandas copies neither before it is changed


def criteria_of(table: pd.DataFrame) -> list[str]:
    """Return the criteria of a table: the usual four first, then others, what sums up last.

    >>> import pandas as pd
    >>> criteria_of(pd.DataFrame({"criterion": ["overall", "jitter", "naturalness", "sync"]}))
    ['naturalness', 'jitter', 'sync', 'overall']
    """
    found = set(table["criterion"].unique())
    others = sorted(found - {*CRITERIA, OVERALL, MEAN})
    return [name for name in (*CRITERIA, *others, OVERALL, MEAN) if name in found]


def asked_of(table: pd.DataFrame) -> list[str]:
    """Return the criteria that raters were asked about: all but the mean over them."""
    return [name for name in criteria_of(table) if name != MEAN]


def refuse_unrated(asked: Iterable[str], rated: Sequence[str]) -> None:
    """Refuse criteria, or levels to compare, that nobody rated.

    Raises
    ------
    StudyError
        The first of them.
    """
    for name in asked:
        if name not in rated:
            raise StudyError(f'no ratings of "{name}": {did_you_mean(name, rated)}')


def levels_of(values: Iterable[str]) -> list[str]:
    """Return the distinct values, types in the study's order, others by name.

    >>> levels_of(["stylised", "frontal", "side"]), levels_of(["warp", "copy"])
    (['frontal', 'side', 'stylised'], ['copy', 'warp'])
    """
    found = set(values)
    return [*(name for name in TYPES if name in found), *sorted(found - set(TYPES))]


def in_order(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Sort rows by these columns, criteria and types in their usual order."""

    def rank(column: pd.Series) -> pd.Series:
        order = criteria_of(table) if column.name == "criterion" else levels_of(column)
        return column.map({value: place for place, value in enumerate(order)})

    return table.sort_values(list(columns), key=rank, ignore_index=True)
