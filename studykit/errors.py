"""What a user can cause: each error says in one line what is wrong, where, and what to do."""

import difflib
from collections.abc import Iterable


class StudyError(Exception):
    """Something a user can fix. Its text is one line; the command line prints it and exits 2."""


class StudyFileError(StudyError):
    """The study file, or a setting given by hand, is wrong."""


class MediaError(StudyError):
    """An image or a video can't be read or written."""


class NoFaceError(StudyError):
    """No face was found where a method needs one."""


class WeightsError(StudyError):
    """Weights are missing, unsafe, damaged or made for another network."""


class GraphError(StudyError):
    """Graphs of networks can't be used here, or don't give what the networks give."""


class MissingPackageError(StudyError):
    """A package of an extra is not installed; the text names the command that installs it."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest the nearest known word and list them all, as the end of an error's line.

    >>> did_you_mean("wrap", ["copy", "warp"])
    'did you mean "warp"? Known: copy, warp'
    """
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f'did you mean "{near[0]}"? ' if near else ""
    return f"{hint}Known: {', '.join(known)}"


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its kind where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
