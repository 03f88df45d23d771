"""The report: what a study's folder holds, shown by notebook 4, kept as one page and as files.

results.py reads the folder; tables.py, figures.py, strips.py and previews.py make the parts;
words.py says in sentences what the numbers support; sections.py puts them in order; page.py turns
the executed notebook into report.html and report.md; compare.py sets two studies side by side.
"""

from studykit.report.compare import compare_studies
from studykit.report.page import page_key, write_page
from studykit.report.results import Results, load_results
from studykit.report.sections import (
    clips,
    failures,
    film_strips,
    heading,
    manifest,
    methods,
    metrics,
    problems,
    raters,
    scores,
    statistics,
    studied,
    summary,
    timing,
    verdicts,
)
from studykit.report.strips import input_sheet, pair_strip

__all__ = [
    "Results",
    "clips",
    "compare_studies",
    "failures",
    "film_strips",
    "heading",
    "input_sheet",
    "load_results",
    "manifest",
    "methods",
    "metrics",
    "page_key",
    "pair_strip",
    "problems",
    "raters",
    "scores",
    "statistics",
    "studied",
    "summary",
    "timing",
    "verdicts",
    "write_page",
]
