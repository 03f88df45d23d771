"""Every problem of a study in one go, before hours are spent on it, said as a run says it."""

import dataclasses
from pathlib import Path

from studykit.errors import StudyError
from studykit.methods import create_methods
from studykit.methods.command import programs_of
from studykit.study.check import Problem, check_inputs
from studykit.study.file import Study, read_study
from studykit.study.ratings import left_in_english
from studykit.study.wording import LANGUAGES


def check_study(study: Study | str | Path) -> list[Problem]:
    """Look at a study's file, at every source and driving, and at what its methods need.

    Parameters
    ----------
    study : Study or path
        A study, or its file.

    Returns
    -------
    list of Problem
        The study file's own first, then in its order, errors of one file first. None is raised for
        what is wrong with a file: it is in the list.

    Raises
    ------
    StudyFileError
        The study file is missing or is no YAML.
    """
    study, errors = (study, []) if isinstance(study, Study) else read_study(study)
    texts = [str(error).replace(f"{study.path}, ", "", 1) for error in errors]
    missing = [item for item in (*study.sources, *study.drivings) if not item.path.is_file()]
    there = dataclasses.replace(
        study,
        sources=tuple(item for item in study.sources if item not in missing),
        drivings=tuple(item for item in study.drivings if item not in missing),
    )
    texts += _method_texts(study)
    own = [Problem(study.path, "error", text) for text in texts]
    own += [Problem(study.path, "note", text) for text in programs_of(study).values()]
    if left := left_in_english(study.ratings):
        text = f'no words in "{study.ratings.language}" come along ({", ".join(LANGUAGES)} do), so'
        text += f" raters read English: give {', '.join(left)} of the ratings in that language"
        own.append(Problem(study.path, "warning", text))
    return own + check_inputs(there if errors else study)


def _method_texts(study: Study) -> list[str]:
    """Return why methods can't be made, and which clips made elsewhere are not there."""
    texts = []
    for spec in study.methods:
        one = dataclasses.replace(study, methods=(spec,))
        try:
            (method,) = create_methods(one).values()
            if hasattr(method, "check"):
                method.check()
        except StudyError as error:
            text = str(error).replace(f"{study.path}, ", "", 1)
            texts.append(text if text.startswith("line ") else f"line {spec.line}: {text}")
            continue
        for cell in one.cells() if hasattr(method, "inputs") else ():
            try:
                method.inputs(cell.source.name, cell.driving.name)
            except StudyError as error:
                texts.append(f"cell {cell.name}: {error}")
    return texts
