"""The report: what a study's folder holds, shown by notebook 4, kept as one page and as files.

results.py reads the folder; tables.py, figures.py, strips.py and previews.py make the parts;
words.py says in sentences what the numbers support; sections.py puts them in order; page.py turns
the executed notebook into report.html and report.md; compare.py sets two studies side by side.
"""

from studykit.report.compare import compare_studies as compare_studies
from studykit.report.page import page_key as page_key, write_page as write_page
from studykit.report.results import Results as Results, load_results as load_results
from studykit.report.sections import (
    clips as clips,
    failures as failures,
    film_strips as film_strips,
    heading as heading,
    manifest as manifest,
    methods as methods,
    metrics as metrics,
    play as play,
    problems as problems,
    raters as raters,
    scores as scores,
    statistics as statistics,
    studied as studied,
    summary as summary,
    timing as timing,
    verdicts as verdicts,
)
from studykit.report.strips import (
    face_sheet as face_sheet,
    input_sheet as input_sheet,
    pair_strip as pair_strip,
)
