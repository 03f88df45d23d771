"""Makes rater_bias.json: pip install sureal==0.9.0, then python rater_bias.py."""

import json
from pathlib import Path

import numpy as np
from sureal.dataset_reader import RawDatasetReader
from sureal.subjective_model import SubjectMLEModelProjectionSolver

PLACE = Path(__file__).with_name("rater_bias.json")


class _Reader(RawDatasetReader):
    """A matrix of scores, (clips, raters)."""

    def __init__(self, scores: np.ndarray) -> None:
        self._scores = scores

    @property
    def opinion_score_3darray(self) -> np.ndarray:
        return self._scores[:, :, None]


if __name__ == "__main__":
    rng = np.random.default_rng(5)
    quality, bias, spread = rng.normal(3, 0.8, 12), rng.normal(0, 0.4, 7), rng.uniform(0.3, 0.9, 7)
    values = quality + bias[:, None] + spread[:, None] * rng.normal(size=(7, 12))
    values = np.clip(np.rint(values), 1, 5)
    values[rng.random(values.shape) < 0.15] = np.nan
    found = SubjectMLEModelProjectionSolver(_Reader(values.T)).run_modeling()
    known = {
        "values": [[None if np.isnan(v) else int(v) for v in row] for row in values],
        "scores": found["quality_scores"],
        "bias": found["observer_bias"],
        "inconsistency": found["observer_inconsistency"],
    }
    PLACE.write_text(json.dumps(known, default=float, indent=1) + "\n", encoding="utf-8")
