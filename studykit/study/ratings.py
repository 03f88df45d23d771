"""How a study's clips are rated: the section ``ratings`` of the study file.

Everything in it may be left out. What raters read is here too, so that a study in another
language is another study file.
"""

import dataclasses
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from studykit.errors import did_you_mean
from studykit.study.document import MOST, Document
from studykit.study.wording import (
    CONSENT,
    CRITERIA,
    OVERALL,
    OVERALL_CRITERION,
    QUESTIONS,
    TEXTS,
    Criterion,
    Question,
)

Task = Literal["acr", "dcr", "pair"]

LARGEST_SCALE = 11


@dataclass(frozen=True)
class Ratings:
    """How clips are rated.

    Attributes
    ----------
    scale : int
        Steps of the scale, 1 the worst.
    raters_min : int
        How many raters a condition needs; ITU-R BT.500 wants at least 15.
    task : {"acr", "dcr", "pair"}
        One clip at a time (absolute category rating, ITU-T P.910); beside its driving
        (degradation category rating); or which of two clips is better.
    criteria : tuple of Criterion
        What is rated.
    overall : bool
        One question for the clip as a whole after those of the criteria; for pairs in their place.
    training, repeats, references, gold : int
        How many clips a session has for practice, shown again, of the driving itself, and with
        known answers. References make no sense for pairs, which have none.
    trials : int or None
        How many rated clips a session has; None is one a condition.
    watch : float
        The share of a clip that must have been played before an answer counts, 0 to 1.
    show_source : bool
        Whether the picture that the clip was made from stands beside it.
    consent : str
        What a rater agrees to before anything is stored; "" asks for nothing.
    questions : tuple of Question
        What is asked about the rater, each of which may be left open.
    texts : dict of str
        The page's words, by the keys of :data:`studykit.study.wording.TEXTS`.
    language : str
        Of all these words, as an HTML page names it.
    store : str
        The address of a PostgreSQL database; "" is a file in the study's folder.
    simulated_raters : int
        How many raters a run simulates, as a rehearsal, where no human has rated.
    """

    scale: int = 5
    raters_min: int = 15
    task: Task = "acr"
    criteria: tuple[Criterion, ...] = tuple(CRITERIA.values())
    overall: bool = False
    training: int = 2
    repeats: int = 2
    references: int = 1
    gold: int = 2
    trials: int | None = None
    watch: float = 1.0
    show_source: bool = True
    consent: str = CONSENT
    questions: tuple[Question, ...] = tuple(QUESTIONS.values())
    texts: dict[str, str] = field(default_factory=TEXTS.copy)
    language: str = "en"
    store: str = ""
    simulated_raters: int = 0

    @property
    def asked(self) -> tuple[Criterion, ...]:
        """What is asked in one trial."""
        if not self.overall:
            return self.criteria
        words = OVERALL_CRITERION.steps
        ends = (words[0], *[""] * (self.scale - 2), words[-1])
        asked = dataclasses.replace(OVERALL_CRITERION, steps=_laid(words, self.scale) or ends)
        return (asked,) if self.task == "pair" else (*self.criteria, asked)

    @property
    def highest(self) -> int:
        """The highest answer: the best step, or 2 for the second of a pair."""
        return 2 if self.task == "pair" else self.scale


def read_ratings_section(document: Document, where: tuple) -> Ratings:
    """Read the section; what is not there is the default.

    Raises
    ------
    StudyFileError
        An unknown key or a wrong value, with its line.
    """
    given = document.mapping(where, known=tuple(_READERS), optional=True)
    values: dict[str, Any] = {key: _READERS[key](document, (*where, key)) for key in given}
    ratings = Ratings(**values)
    if ratings.task == "pair":
        if values.get("references"):
            raise document.error(
                (*where, "references"), "pairs have no hidden references: leave it out, or set 0"
            )
        return dataclasses.replace(ratings, references=0)
    criteria = tuple(
        dataclasses.replace(item, steps=_steps(document, where, item, ratings.scale))
        for item in ratings.criteria
    )
    return dataclasses.replace(ratings, criteria=criteria)


def _count(low: int, high: int = MOST) -> Callable[[Document, tuple], int]:
    return lambda document, where: document.number(where, low=low, high=high)


def _criteria(document: Document, where: tuple) -> tuple[Criterion, ...]:
    known = tuple(item.name for item in dataclasses.fields(Criterion) if item.name != "name")
    names = document.names(where)
    if not names:
        raise document.error(where, "criteria is empty: name at least one, or leave it out")
    found = []
    for name in names:
        place = (*where, name)
        if not name.isidentifier() or name == OVERALL:
            raise document.error(place, f'"{name}" is no criterion\'s name: use letters and "_"')
        given = document.mapping(place, known=known, optional=True)
        missing = [key for key in ("label", "question", "steps") if key not in given]
        if name not in CRITERIA and missing:
            hint = did_you_mean(name, CRITERIA)
            text = f'the new criterion "{name}" needs "{missing[0]}"; or {hint}'
            raise document.error(place, text)
        values: dict[str, Any] = {
            key: document.texts((*place, key), empty=True)
            if key == "steps"
            else document.text((*place, key))
            for key in given
        }
        if name in CRITERIA:
            found.append(dataclasses.replace(CRITERIA[name], **values))
        else:
            values.setdefault("comparison", values["question"])
            found.append(Criterion(name, **values))
    return tuple(found)


def _steps(document: Document, where: tuple, criterion: Criterion, scale: int) -> tuple[str, ...]:
    """Return a wording a step; the default five are laid evenly over a scale that they fit."""
    steps = criterion.steps
    if len(steps) == scale:
        return steps
    own = criterion.name not in CRITERIA or steps != CRITERIA[criterion.name].steps
    place = (*where, "criteria", criterion.name, "steps")
    if own:
        raise document.error(place, f"{len(steps)} steps for a scale of {scale}: name {scale}")
    if laid := _laid(steps, scale):
        return laid
    raise document.error(
        (*where, "scale"),
        f'the default wordings fit 2, 3, 5 and 9 steps, not {scale}: give "{criterion.name}" '
        f"under criteria {scale} steps of its own",
    )


def _laid(steps: tuple[str, ...], scale: int) -> tuple[str, ...]:
    """Lay five wordings evenly over a scale; none where they do not fit."""
    intervals = scale - 1
    if intervals % 4 == 0:
        apart = intervals // 4
        return tuple("" if i % apart else steps[i // apart] for i in range(scale))
    return steps[:: 4 // intervals] if 4 % intervals == 0 else ()


def _questions(document: Document, where: tuple) -> tuple[Question, ...]:
    if isinstance(document.value(where), list):
        names = document.texts(where)
        for index in range(len(names)):
            document.choice((*where, index), tuple(QUESTIONS), what="question")
        return tuple(QUESTIONS[name] for name in names)
    found = []
    for name in document.names(where):
        place = (*where, name)
        given = document.mapping(place, known=("label", "choices"), optional=True)
        for key in ("label", "choices"):
            if name not in QUESTIONS and key not in given:
                hint = did_you_mean(name, QUESTIONS)
                raise document.error(place, f'the new question "{name}" needs "{key}"; or {hint}')
        label = document.text((*place, "label")) if "label" in given else QUESTIONS[name].label
        if "choices" in given:
            choices = document.texts((*place, "choices"))
        else:
            choices = QUESTIONS[name].choices
        if len(choices) < 2:
            raise document.error((*place, "choices"), "choices must be two or more")
        found.append(Question(name, label, choices))
    return tuple(found)


def _texts(document: Document, where: tuple) -> dict[str, str]:
    given = document.mapping(where, known=tuple(TEXTS))
    texts = TEXTS | {key: document.text((*where, key), empty=True) for key in given}
    for key, text in texts.items():
        try:
            fields = {field[1:] for field in string.Formatter().parse(text)}
        except ValueError:  # a brace alone
            fields = {()}
        if not fields <= {(None, None, None), *((name, "", None) for name in _PLACES)}:
            places = ", ".join(f"{{{name}}}" for name in _PLACES)
            raise document.error((*where, key), f"braces in {key} may hold {places} only")
    return texts


def _store(document: Document, where: tuple) -> str:
    address = document.text(where)
    if not address.startswith(("postgresql://", "postgresql+psycopg://")):
        raise document.error(where, "store must be an address, postgresql+psycopg://USER@HOST/NAME")
    return address


_PLACES = ("done", "total", "rater", "highest")
_READERS: dict[str, Callable[[Document, tuple], Any]] = {
    "scale": _count(2, LARGEST_SCALE),
    "raters_min": _count(1),
    "task": lambda document, where: document.choice(where, get_args(Task)),
    "criteria": _criteria,
    "overall": Document.switch,
    "training": _count(0),
    "repeats": _count(0),
    "references": _count(0),
    "gold": _count(0),
    "trials": _count(1),
    "watch": Document.share,
    "show_source": Document.switch,
    "consent": lambda document, where: document.text(where, empty=True),
    "questions": _questions,
    "texts": _texts,
    "language": Document.text,
    "store": _store,
    "simulated_raters": _count(0),
}
