"""The report: pictures and tables of a study's folder, shown by notebook 4, kept as one page."""

from studykit.report.figures import input_sheet, pair_strip
from studykit.report.page import page_key, write_page
from studykit.report.results import Results, load_results
from studykit.report.sections import (
    clips,
    failures,
    film_strips,
    manifest,
    problems,
    summary,
    timing,
)

__all__ = [
    "Results",
    "clips",
    "failures",
    "film_strips",
    "input_sheet",
    "load_results",
    "manifest",
    "page_key",
    "pair_strip",
    "problems",
    "summary",
    "timing",
    "write_page",
]
