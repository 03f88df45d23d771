"""What statistics hand back: results that say how they were made.

A result carries its numbers, its method in words and whom it left out, so that nothing that is
quoted from it has to be looked up elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import pandas as pd

NO_RATINGS = "There are no ratings yet."


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

    table: pd.DataFrame
    how: str
    n_raters: int = 0
    n_dropped: int = 0
    why: str = ""
    notes: tuple[str, ...] = ()
    simulated: bool = False

    @classmethod
    def of(
        cls,
        ratings: pd.DataFrame,
        found: Sequence | pd.DataFrame,
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
        notes = () if len(found) else (NO_RATINGS,)
        table = pd.DataFrame(found, columns=list(columns))
        return cls(table=table, simulated=is_simulated(ratings), **{"notes": notes} | known)


def is_simulated(ratings: pd.DataFrame) -> bool:
    """Say whether a table holds simulated ratings."""
    return bool(len(ratings)) and bool(ratings["simulated"].iloc[0])


def in_words(names: Sequence[str]) -> str:
    """Name columns as a text does: ("source_type", "method") is "source type x method"."""
    return " x ".join(name.replace("_", " ") for name in names)


def counted(number: int, noun: str) -> str:
    """Name a number of things.

    >>> counted(1, "rater"), counted(0, "clip")
    ('1 rater', '0 clips')
    """
    return f"{number} {noun}{'s' * (number != 1)}"
