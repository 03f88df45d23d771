"""Objective metrics of clips: each says what it is, in which unit, and which way is better."""

from studykit.metrics.catalogue import METRICS, WORST_BY, Metric
from studykit.metrics.measure import curves, load, measure_cell, measure_study, notes, worst_frame
from studykit.metrics.pair import Measurement
from studykit.metrics.perceptual import unavailable
from studykit.metrics.tables import paper_table

__all__ = [
    "METRICS",
    "WORST_BY",
    "Measurement",
    "Metric",
    "curves",
    "load",
    "measure_cell",
    "measure_study",
    "notes",
    "paper_table",
    "unavailable",
    "worst_frame",
]
