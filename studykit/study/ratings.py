"""How a study's clips are rated: the section ``ratings`` of the study file.

Everything in it may be left out. What raters read is here too, so that a study in another
language is another study file.
"""

import dataclasses
import string
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from studykit.errors import did_you_mean
from studykit.study.document import MOST, Document, brief
from studykit.study.wording import (
    CONSENT,
    CRITERIA,
    OVERALL,
    OVERALL_CRITERION,
    QUESTIONS,
    TEXTS,
    Criterion,
    Question,
    Words,
    has_words,
    presets,
    words_in,
)

Task = Literal["acr", "dcr", "pair"]
Check = Literal["colour", "reading"]

LARGEST_SCALE, MOST_SESSIONS = 11, 20
_SHORT = 20  # characters that may be the same in two languages


@dataclass(frozen=True)
class ScreeningRules:
    """The threshold of each rule; None turns a rule off.

    Attributes
    ----------
    gold : float or None
        Least share of gold answers inside their expected range.
    repeat : float or None
        Most steps, on average, between the first and the repeated answer.
    variance : float or None
        Least standard deviation of a rater's answers, in steps.
    run : float or None
        Largest share of a rater's trials that may be answered alike in one run.
    speed : float or None
        Largest share of trials answered too fast: less than ``seconds`` after the clip's end, or
        in less than ``share_of_median`` of the median time that the raters took for that clip.
    watched : float or None
        Largest share of trials answered before ``played`` of the clip was played.
    agreement : float or None
        Least correlation with the mean of the other raters. The customary limit, 0.75 (VQEG's
        HDTV test plan; ITU-T P.913 by public scripts of it), is for clips from bad to excellent
        and, in VQEG's script, for the mean of all raters, which is nearer to each. Where
        conditions lie closer, good raters correlate less: 0.2 is a choice of our own. The rule
        judges nobody where the median rater has less than ``agreement_median``: such clips are
        too alike to tell who is careless.
    bt500 : float or None
        Largest share of outliers among the presentations that the rater scored, by ITU-R BT.500,
        which excludes only if they also lie on both sides. 0.05 is the recommendation's.
    seconds, share_of_median, played, agreement_median : float
        See ``speed``, ``watched`` and ``agreement``.
    keep : tuple of str
        Raters who are kept whatever the rules say.
    """

    gold: float | None = 0.5
    repeat: float | None = 1.25
    variance: float | None = 0.25
    run: float | None = 0.5
    speed: float | None = 0.2
    watched: float | None = 0.1
    agreement: float | None = 0.2
    bt500: float | None = 0.05
    seconds: float = 1.0
    share_of_median: float = 0.4
    played: float = 0.99
    agreement_median: float = 0.5
    keep: tuple[str, ...] = ()


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
    sessions : int
        How many a rater has, each with clips that this rater has not seen.
    break_minutes : int
        How long a rater rests between two of them, at least.
    ratings_per_clip_min : int
        How many ratings each clip needs; of pairs, each pair. 0 states none.
    preset : str
        The protocol whose criteria these are; "" where they are the study's own.
    feedback : bool
        Whether a rater learns after a practice clip that was spoilt what it should get.
    checks : tuple of {"colour", "reading"}
        What is checked of a rater's eyes and screen before the practice (ITU-T P.913).
    watch : float
        The share of a clip that must have been played before an answer counts, 0 to 1.
    show_source : bool
        Whether the picture that the clip was made from stands beside it.
    consent : str
        What a rater agrees to before anything is stored; "" asks for nothing.
    completion_code, return_address : str
        What a rater gets at the end, to show that the study was finished, and where to go with it:
        the address of a page, in which ``{code}`` stands for the code. "" is none.
    questions : tuple of Question
        What is asked about the rater, each of which may be left open.
    overall_criterion : Criterion
        What ``overall`` asks.
    texts : dict of str
        The page's words, by the keys of :data:`studykit.study.wording.TEXTS`.
    language : str
        Of all these words, as an HTML page names it.
    store : str
        The address of a PostgreSQL database; "" is a file in the study's folder.
    screening : ScreeningRules
        Who does not count.
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
    sessions: int = 1
    break_minutes: int = 5
    ratings_per_clip_min: int = 0
    preset: str = ""
    feedback: bool = False
    checks: tuple[Check, ...] = ()
    watch: float = 1.0
    show_source: bool = True
    consent: str = CONSENT
    completion_code: str = ""
    return_address: str = ""
    questions: tuple[Question, ...] = tuple(QUESTIONS.values())
    overall_criterion: Criterion = OVERALL_CRITERION
    texts: dict[str, str] = field(default_factory=TEXTS.copy)
    language: str = "en"
    store: str = ""
    screening: ScreeningRules = ScreeningRules()
    simulated_raters: int = 0

    @property
    def asked(self) -> tuple[Criterion, ...]:
        """What is asked in one trial."""
        if not self.overall:
            return self.criteria
        words = self.overall_criterion.steps
        ends = (words[0], *[""] * (self.scale - 2), words[-1])
        asked = dataclasses.replace(self.overall_criterion, steps=_laid(words, self.scale) or ends)
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
    language = document.text((*where, "language")) if "language" in given else "en"
    words = words_in(language)
    values: dict[str, Any] = {
        "criteria": tuple(words.criteria.values()),
        "questions": tuple(words.questions.values()),
        "texts": words.texts.copy(),
        "overall_criterion": words.overall,
    }
    if "preset" in given:
        name = document.choice((*where, "preset"), tuple(presets()), what="preset")
        tasks = presets()[name]
        task = document.choice((*where, "task"), tuple(tasks)) if "task" in given else "acr"
        words = dataclasses.replace(words, criteria=tasks[task])
        values |= {"criteria": tuple(words.criteria.values()), "feedback": True}
    values |= {key: _READERS[key](document, (*where, key), words) for key in given}
    rights = {key: values.pop(key) for key in words.rights if key in values}
    values["consent"] = words.consent(rights, values.get("consent"))
    ratings = Ratings(**values)
    if ratings.task == "pair":
        if values.get("references"):
            raise document.error(
                (*where, "references"), "pairs have no hidden references: leave it out, or set 0"
            )
        return dataclasses.replace(ratings, references=0)
    criteria = tuple(
        dataclasses.replace(item, steps=_steps(document, where, item, ratings.scale, words))
        for item in ratings.criteria
    )
    return dataclasses.replace(ratings, criteria=criteria)


def left_in_english(ratings: Ratings) -> list[str]:
    """Name the keys of the section that raters read in English, though another language is named.

    It is empty for a language that comes along, and where the study gives all words itself.
    """
    if has_words(ratings.language):
        return []
    english = words_in("en")
    asked = [english.criteria, *(tasks["acr"] for tasks in presets().values())]
    labels = {item.label for items in asked for item in items.values()}
    agreed = {text.split("{")[0] for text in english.paragraphs}
    left = {
        "criteria": any(item.label in labels for item in ratings.criteria),
        "questions": any(item == english.questions.get(item.name) for item in ratings.questions),
        "texts": any(
            english.texts[key] == text and len(text) > _SHORT for key, text in ratings.texts.items()
        ),
        "consent": any(text in ratings.consent for text in agreed if text),
    }
    return [key for key, is_left in left.items() if is_left]


_Reader = Callable[[Document, tuple, Words], Any]


def _count(low: int, high: int = MOST) -> _Reader:
    return lambda document, where, _: document.number(where, low=low, high=high)


def _text(document: Document, where: tuple, _: Words) -> str:
    return document.text(where)


def _criteria(document: Document, where: tuple, words: Words) -> tuple[Criterion, ...]:
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
        if name not in words.criteria and missing:
            hint = did_you_mean(name, words.criteria)
            text = f'the new criterion "{name}" needs "{missing[0]}"; or {hint}'
            raise document.error(place, text)
        values: dict[str, Any] = {
            key: document.texts((*place, key), empty=True)
            if key == "steps"
            else document.text((*place, key))
            for key in given
        }
        if name in words.criteria:
            found.append(dataclasses.replace(words.criteria[name], **values))
        else:
            values.setdefault("comparison", values["question"])
            found.append(Criterion(name, **values))
    return tuple(found)


def _steps(
    document: Document, where: tuple, criterion: Criterion, scale: int, words: Words
) -> tuple[str, ...]:
    """Return a wording a step; the default five are laid evenly over a scale that they fit."""
    steps = criterion.steps
    if len(steps) == scale:
        return steps
    own = criterion.name not in words.criteria or steps != words.criteria[criterion.name].steps
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


def _questions(document: Document, where: tuple, words: Words) -> tuple[Question, ...]:
    if isinstance(document.value(where), list):
        names = document.texts(where)
        for index in range(len(names)):
            document.choice((*where, index), tuple(words.questions), what="question")
        return tuple(words.questions[name] for name in names)
    found = []
    for name in document.names(where):
        place = (*where, name)
        given = document.mapping(place, known=("label", "choices"), optional=True)
        for key in ("label", "choices"):
            if name not in words.questions and key not in given:
                hint = did_you_mean(name, words.questions)
                raise document.error(place, f'the new question "{name}" needs "{key}"; or {hint}')
        label = (
            document.text((*place, "label")) if "label" in given else words.questions[name].label
        )
        if "choices" in given:
            choices = document.texts((*place, "choices"))
        else:
            choices = words.questions[name].choices
        if len(choices) < 2:
            raise document.error((*place, "choices"), "choices must be two or more")
        found.append(Question(name, label, choices))
    return tuple(found)


def _checks(document: Document, where: tuple, _: Words) -> tuple[Check, ...]:
    names = document.texts(where)
    for index in range(len(names)):
        document.choice((*where, index), get_args(Check), what="check")
    return tuple(check for check in get_args(Check) if check in names)


def _texts(document: Document, where: tuple, words: Words) -> dict[str, str]:
    given = document.mapping(where, known=tuple(TEXTS))
    texts = words.texts | {key: document.text((*where, key), empty=True) for key in given}
    for key, text in texts.items():
        try:
            fields = {field[1:] for field in string.Formatter().parse(text)}
        except ValueError:  # a brace alone
            fields = {()}
        if not fields <= {(None, None, None), *((name, "", None) for name in _PLACES)}:
            places = ", ".join(f"{{{name}}}" for name in _PLACES)
            raise document.error((*where, key), f"braces in {key} may hold {places} only")
    return texts


def _screening(document: Document, where: tuple, _: Words) -> ScreeningRules:
    """Read the thresholds that differ from the defaults; null turns a rule off."""
    fields = {item.name: item for item in dataclasses.fields(ScreeningRules)}
    given = document.mapping(where, known=tuple(fields))
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key == "keep":
            values[key] = document.texts((*where, key))
        elif value is None and "None" in str(fields[key].type):
            values[key] = None
        elif isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6:
            values[key] = float(value)
        else:
            off = ", or null: the rule is off" if "None" in str(fields[key].type) else ""
            text = f"{key} must be a number of at least 0{off}, not {brief(value)}"
            raise document.error((*where, key), text)
    return ScreeningRules(**values)


def _return_address(document: Document, where: tuple, _: Words) -> str:
    address = document.text(where)
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("https", "http") or not parts.netloc:
        raise document.error(where, "return_address must be that of a page, https://..")
    return address


def _store(document: Document, where: tuple, _: Words) -> str:
    address = document.text(where)
    if not address.startswith(("postgresql://", "postgresql+psycopg://")):
        raise document.error(where, "store must be an address, postgresql+psycopg://USER@HOST/NAME")
    return address


_PLACES = ("done", "total", "rater", "highest", "minutes", "code", "label", "low", "high", "given")
_READERS: dict[str, _Reader] = {
    "scale": _count(2, LARGEST_SCALE),
    "raters_min": _count(1),
    "task": lambda document, where, _: document.choice(where, get_args(Task)),
    "criteria": _criteria,
    "overall": lambda document, where, _: document.switch(where),
    "training": _count(0),
    "repeats": _count(0),
    "references": _count(0),
    "gold": _count(0),
    "trials": _count(1),
    "sessions": _count(1, MOST_SESSIONS),
    "break_minutes": _count(0),
    "ratings_per_clip_min": _count(0),
    "preset": _text,
    "feedback": lambda document, where, _: document.switch(where),
    "checks": _checks,
    "watch": lambda document, where, _: document.share(where),
    "show_source": lambda document, where, _: document.switch(where),
    "consent": lambda document, where, _: document.text(where, empty=True),
    "responsible": _text,
    "contact": _text,
    "kept": _text,
    "completion_code": _text,
    "return_address": _return_address,
    "questions": _questions,
    "texts": _texts,
    "language": _text,
    "store": _store,
    "screening": _screening,
    "simulated_raters": _count(0),
}
