"""Ratings tables with known effects, small enough to count by hand."""

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from studykit.ratings import RATING_COLUMNS
from studykit.study.file import TYPES
from studykit.study.wording import CRITERIA


def make_ratings(
    value: Callable[..., float] | None = None,
    *,
    raters: int = 8,
    methods: Sequence[str] = ("copy", "fomm", "warp"),
    types: Sequence[str] = TYPES,
    per_type: int = 1,
    criteria: Sequence[str] = tuple(CRITERIA),
    effects: Mapping[str, float] | None = None,
    clip_sd: float = 0.25,
    scale: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Make a ratings table in which every rater rates every clip.

    ``value(rater, source_type, driving_type, method, criterion)`` gives the answer; without it,
    answers are random around 3 plus the effects of methods.
    """
    rng = np.random.default_rng(seed)
    bias = rng.normal(0, 0.5, raters)
    rows = []
    stimuli = [(kind, f"{kind}{i}") for kind in types for i in range(per_type)]
    for (source_type, source), (driving_type, driving), method in itertools.product(
        stimuli, stimuli, methods
    ):
        clip = rng.normal(0, clip_sd)
        for rater, criterion in itertools.product(range(raters), criteria):
            if value is not None:
                answer = value(rater, source_type, driving_type, method, criterion)
            else:
                middle = 3 + bias[rater] + clip + (effects or {}).get(method, 0)
                answer = int(np.clip(np.rint(rng.normal(middle, 0.7)), 1, scale))
            rows.append(
                {
                    "study": "small",
                    "rater": f"r{rater:03d}",
                    "session": f"s{rater}",
                    "simulated": False,
                    "role": "rating",
                    "task": "acr",
                    "cell": f"{source}__{driving}__{method}",
                    "source": source,
                    "source_type": source_type,
                    "driving": driving,
                    "driving_type": driving_type,
                    "method": method,
                    "other": "",
                    "criterion": criterion,
                    "value": answer,
                }
            )
    return pd.DataFrame(rows, columns=list(RATING_COLUMNS))


def make_pairs(
    wins: Mapping[tuple[str, str], int], *, raters: int = 6, criterion: str = "naturalness"
) -> pd.DataFrame:
    """Make paired comparisons on three sources and three drivings: how often the first method was
    preferred to the second.
    """
    rows = []
    for (winner, loser), count in wins.items():
        for i in range(count):
            swapped = i % 2  # the winner is shown first or second
            shown = (loser, winner) if swapped else (winner, loser)
            source, driving = f"anna{len(rows) % 3}", f"talk{len(rows) // 3 % 3}"
            rows.append(
                {
                    "rater": f"r{len(rows) % raters}",
                    "simulated": False,
                    "role": "rating",
                    "task": "pair",
                    "cell": f"{source}__{driving}__{shown[0]}",
                    "other": f"{source}__{driving}__{shown[1]}",
                    "source": source,
                    "source_type": "frontal",
                    "driving": driving,
                    "driving_type": "frontal",
                    "method": shown[0],
                    "criterion": criterion,
                    "value": 2 if swapped else 1,
                }
            )
    return pd.DataFrame(rows, columns=list(RATING_COLUMNS))
