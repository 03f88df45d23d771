"""Objective metrics of clips: each says what it is, in which unit, and which way is better."""

from studykit.metrics.catalogue import METRICS as METRICS, WORST_BY as WORST_BY, Metric as Metric
from studykit.metrics.measure import (
    curves as curves,
    load as load,
    measure_cell as measure_cell,
    measure_study as measure_study,
    notes as notes,
    worst_frame as worst_frame,
)
from studykit.metrics.pair import Measurement as Measurement
from studykit.metrics.perceptual import unavailable as unavailable
from studykit.metrics.tables import paper_table as paper_table
