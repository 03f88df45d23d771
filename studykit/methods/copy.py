"""The source held still: the baseline that every method must beat."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from studykit.media.views import Driving, Source
from studykit.methods import register


@register("copy")
@dataclass(frozen=True)
class Copy:
    """Show the source image once a driving frame."""

    any_square = True

    def prepare(self, source: Source) -> np.ndarray:
        return source.image

    def animate(self, state: np.ndarray, driving: Driving) -> Iterator[np.ndarray]:
        for _ in driving:
            yield state
