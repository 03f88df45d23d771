"""Ratings tables with known effects, small enough to count by hand."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from studykit.ratings import RATING_COLUMNS
from studykit.study.file import TYPES
from studykit.study.wording import CRITERIA

DATA = Path(__file__).parent / "data"


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


def known(name: str) -> Any:
    """Values that other programs computed: data/NAME.json."""
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def read_ratings() -> pd.DataFrame:
    """Read the answers that data/R computes with; ``some`` marks those of a thinner study."""
    wide = pd.read_csv(DATA / "ratings.csv").assign(simulated=False, role="rating", task="acr",
                                                     other="")  # fmt: skip
    return _named(wide).melt(
        [name for name in _named(wide) if name not in CRITERIA], var_name="criterion"
    )


def read_metrics() -> pd.DataFrame:
    """Read their clips' metrics: "motion", which foretells the answers, and "identity"."""
    wide = _named(pd.read_csv(DATA / "ratings_metrics.csv"))[["cell", "motion", "identity"]]
    return wide.melt("cell", var_name="metric").assign(better="higher", extractor="")


def read_pairs() -> pd.DataFrame:
    """Read the forced choices that data/R/paired.R computes with."""
    table = pd.read_csv(DATA / "ratings_pairs.csv").assign(
        simulated=False, role="rating", task="pair", criterion="naturalness"
    )
    table = table.rename(columns={"first": "method"}).assign(value=2 - table["won"])
    other = table["source"] + "__" + table["driving"] + "__" + table["second"]
    return _named(table).assign(other=other)


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """Add the names of cells, and the types that inputs are named after."""
    kinds = {f"{name}_type": table[name].str.extract(r"_(\w+)\d")[0].replace("front", "frontal")
             for name in ("source", "driving")}  # fmt: skip
    cell = table["source"] + "__" + table["driving"] + "__" + table["method"]
    return table.assign(cell=cell, **kinds)
