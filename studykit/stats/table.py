"""What statistics read and hand back: the checked ratings table, and results that say how.

A result carries its numbers, its method in words and whom it left out, so that nothing that is
quoted from it has to be looked up elsewhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from studykit.errors import StudyError, did_you_mean
from studykit.study.file import TYPES
from studykit.study.wording import CRITERIA, OVERALL

if TYPE_CHECKING:
    import pandas as pd

CONDITION_COLUMNS = ("source_type", "driving_type", "method")
NO_RATINGS = "There are no ratings yet."

_NEEDED = ("rater", "simulated", "role", "task", "cell", "source", "source_type", "driving",
           "driving_type", "method", "other", "criterion", "value")  # fmt: skip


@dataclass(frozen=True)
class Result:
    """One statistic over a ratings table.

    Attributes
    ----------
    table : pandas.DataFrame
        Tidy; empty where there is nothing to say. A number that can't be had is missing, and the
        row's ``words`` then say why; they are empty where every number is there.
    how : str
        The method in a sentence or two, ready to be quoted.
    n_raters, n_dropped : int
        Raters behind the numbers; raters who were left out of some of them.
    why : str
        Why they were left out, empty where nobody was.
    notes : tuple of str
        Sentences: what could not be computed, and what weakens the rest.
    simulated : bool
        The ratings come from a simulation.
    """

    table: "pd.DataFrame"
    how: str
    n_raters: int = 0
    n_dropped: int = 0
    why: str = ""
    notes: tuple[str, ...] = ()
    simulated: bool = False

    @classmethod
    def of(
        cls,
        ratings: "pd.DataFrame",
        found: "Sequence | pd.DataFrame",
        columns: Sequence[str],
        **known: Any,
    ) -> Self:
        """Make a result of the rows that were found in a ratings table.

        Parameters
        ----------
        found : sequence of tuple or dict, or pandas.DataFrame
            A row each; what a dict lacks is missing.
        columns : sequence of str
            Of the table, which has them without any row, too.
        known
            The other attributes; without ``notes``, a table without rows has no ratings.
        """
        import pandas as pd

        notes = () if len(found) else (NO_RATINGS,)
        table = pd.DataFrame(found, columns=list(columns))
        return cls(table=table, simulated=is_simulated(ratings), **{"notes": notes} | known)


def rated(ratings: "pd.DataFrame", *, scale: int | None = None) -> "pd.DataFrame":
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
        value (float); the criterion "overall" is what raters were asked for, or else their mean
        over the criteria of a clip, where there are several.

    Raises
    ------
    StudyError
        Columns are missing, simulated and human ratings or two tasks are mixed, or a value is
        outside the scale.
    """
    import pandas as pd

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
    single = rows[[*identity, "criterion"]].assign(value=rows["value"].astype(float))
    if single.duplicated(["rater", "cell", "criterion"]).any():
        single = single.groupby([*identity, "criterion"], as_index=False, observed=True).mean()
    asked = criteria_of(single)
    if len(asked) < 2 or OVERALL in asked:
        return single.reset_index(drop=True)
    answers = single.pivot(index=["rater", "cell"], columns="criterion", values="value").dropna()
    overall = answers.mean(axis=1).rename("value").reset_index()
    cells = single[identity[1:]].drop_duplicates("cell")
    overall = overall.merge(cells, on="cell").assign(criterion=OVERALL)
    return pd.concat([single, overall[single.columns]], ignore_index=True)


def only_rating(ratings: "pd.DataFrame") -> "pd.DataFrame":
    """Return the rows with the role "rating" that hold a value, after the checks of a table.

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
    return ratings[(ratings["role"] == "rating") & ratings["value"].notna()]


def is_simulated(ratings: "pd.DataFrame") -> bool:
    """Say whether a table holds simulated ratings."""
    return bool(len(ratings)) and bool(ratings["simulated"].iloc[0])


def criteria_of(table: "pd.DataFrame") -> list[str]:
    """Return the criteria of a table: the usual four first, then others, "overall" last.

    >>> import pandas as pd
    >>> criteria_of(pd.DataFrame({"criterion": ["overall", "jitter", "naturalness", "sync"]}))
    ['naturalness', 'jitter', 'sync', 'overall']
    """
    found = set(table["criterion"].unique())
    others = sorted(found - {*CRITERIA, OVERALL})
    return [name for name in (*CRITERIA, *others, OVERALL) if name in found]


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


def in_order(table: "pd.DataFrame", columns: Sequence[str]) -> "pd.DataFrame":
    """Sort rows by these columns, criteria and types in their usual order."""

    def rank(column: "pd.Series") -> "pd.Series":
        order = criteria_of(table) if column.name == "criterion" else levels_of(column)
        return column.map({value: place for place, value in enumerate(order)})

    return table.sort_values(list(columns), key=rank, ignore_index=True)


def label(table: "pd.DataFrame", over: Sequence[str]) -> "pd.Series":
    """Name the level of each row over some columns, such as "side x frontal x warp"."""
    first, *others = (table[name].astype(str) for name in over)
    return first.str.cat(others, sep=" x ")


def in_words(names: Sequence[str]) -> str:
    """Name columns as a text does: ("source_type", "method") is "source type x method"."""
    return " x ".join(name.replace("_", " ") for name in names)


def counted(number: int, noun: str) -> str:
    """Name a number of things.

    >>> counted(1, "rater"), counted(0, "clip")
    ('1 rater', '0 clips')
    """
    return f"{number} {noun}{'s' * (number != 1)}"
