"""Studies of one-shot face animation: inputs, clips, ratings, metrics, report.

Everything that a study needs is a name of this module; ``help(studykit.NAME)`` says the rest. A
first study, as the command line makes it with ``studykit new mine`` and ``studykit run``::

    study = studykit.new_study("mine")
    report = studykit.run_study(study, out="reports/mine")
    results = studykit.load_results(study, report.parent)

The rooms of the package, from the top floor down; each imports from lower floors alone::

    cli               the command line, thin over everything below
    run               from a study file to its report
    report            tables, pictures, words and page
    stats, training   numbers and how sure they are; how the shipped weights are trained
    metrics, ratings  one function a metric; who sees what, what they said, who counts
    bench, new        speed beside PaddleGAN's predictor; a first study in a new folder
    clips, doctor     cells become clips, here or on a cluster; what a machine lacks
    methods, stimuli  ways to animate, and their weights; rendered faces with their truth
    study, cache      what a study file says, checked with its line; what is kept between runs
    media             pixels in and out: video, faces, squares, contact sheets
    files, machine    files that are whole or not there; cores and threads
    errors            what a user can cause, each in one line
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from studykit.clips.animate import animate as animate
    from studykit.errors import StudyError as StudyError
    from studykit.methods import create_method as create_method, register as register
    from studykit.new import new_study as new_study
    from studykit.ratings.widget import rating_page as rating_page
    from studykit.report import compare_studies as compare_studies, load_results as load_results
    from studykit.run import run_study as run_study
    from studykit.stats import analyse as analyse, mean_scores as mean_scores
    from studykit.stimuli import write_stimuli as write_stimuli
    from studykit.study.check import check_study as check_study
    from studykit.study.file import load_study as load_study

__version__ = "0.2.0"
DISTRIBUTION = "face-studykit"  # the name on the package index; "studykit" there is somebody else's

_HOMES = {
    "StudyError": "studykit.errors",
    "analyse": "studykit.stats",
    "animate": "studykit.clips.animate",
    "check_study": "studykit.study.check",
    "compare_studies": "studykit.report",
    "create_method": "studykit.methods",
    "load_results": "studykit.report",
    "load_study": "studykit.study.file",
    "mean_scores": "studykit.stats",
    "new_study": "studykit.new",
    "rating_page": "studykit.ratings.widget",
    "register": "studykit.methods",
    "run_study": "studykit.run",
    "write_stimuli": "studykit.stimuli",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a name where it is first used, so that importing studykit costs next to nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
