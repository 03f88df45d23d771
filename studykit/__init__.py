"""Studies of one-shot face animation: inputs, clips, ratings, metrics, report.

Everything that a study needs is a name of this module, listed in ``__init__.pyi`` and imported
where it is first used; ``help(studykit.NAME)`` says the rest. A first study, as the command line
makes it with ``studykit new mine`` and ``studykit run``::

    study = studykit.new_study("mine")
    report = studykit.run_study(study, out="reports/mine")
    results = studykit.load_results(study, report.parent)

The rooms of the package, from the top floor down; each imports from lower floors alone::

    cli               the command line, thin over everything below
    pages             what people see in a browser or a notebook, and what serves it
    run               from a study file to its report
    report            tables, pictures, words and page
    stats, training   numbers and how sure they are; how the shipped weights are trained
    metrics, ratings  one function a metric; who sees what, what they said, who counts
    bench             speed beside PaddleGAN's predictor
    clips, doctor     cells become clips, here or on a cluster; what a machine lacks
    methods, stimuli  ways to animate, and their weights; rendered faces, a first study
    study             what a study file says, checked with its line
    media             pixels in and out: video, faces, squares, contact sheets
    cache             what is kept between runs, and when it is stale
    files, machine    files that are whole or not there; cores and threads
    errors            what a user can cause, each in one line
"""

import os

import lazy_loader

# Threads that have nothing to compute wait for more at full speed: OpenMP's for 200 milliseconds,
# OpenBLAS's for 2 ** 26 cycles. Both read how long when they are loaded.
os.environ.setdefault("KMP_BLOCKTIME", "5")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "16")
# While it computes, OpenBLAS's threads wait for each other at full speed too: beside anything else
# that runs, two of them take ten times as long as one. The matrices here are small.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.2.0"
DISTRIBUTION = "face-studykit"  # the name on the package index; "studykit" there is somebody else's

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
