"""The words that raters read, a file a language; a study file may replace each of them.

The wording of a criterion's steps is part of the measurement: it is hashed with the study.
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

# The files beside this one, by the language's tag; whoever adds one adds a line here.
LANGUAGES = {"en": "words_en.yaml", "es": "words_es.yaml"}
# What raters are asked of a clip as a whole; and what is only computed: the mean over criteria.
OVERALL, MEAN = "overall", "mean"


@dataclass(frozen=True)
class Criterion:
    """One rated quality of a clip.

    Attributes
    ----------
    name : str
        Its name in data.
    label, question : str
        Its name on the page, and what is asked of a clip.
    comparison : str
        What is asked of two clips.
    steps : tuple of str
        What each step of the scale means, worst to best; the part before the first colon stands
        large, and "" is a step between two that have words.
    """

    name: str
    label: str
    question: str
    comparison: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """A question about the rater, asked once, that may be left open.

    Attributes
    ----------
    name : str
        Its name in data.
    label : str
        The question.
    choices : tuple of str
        What can be answered.
    """

    name: str
    label: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """All that a rater reads, in one language.

    Attributes
    ----------
    criteria, questions : dict
        By name.
    overall : Criterion
        Of the clip as a whole.
    texts : dict of str
        The page's other words, by their keys.
    paragraphs : tuple of str
        What a rater agrees to, with places for ``rights``.
    rights : dict of str
        What stands in these places unless the study says it: responsible, contact, kept.
    """

    criteria: dict[str, Criterion]
    overall: Criterion
    questions: dict[str, Question]
    texts: dict[str, str]
    paragraphs: tuple[str, ...]
    rights: dict[str, str]

    def consent(self, given: dict[str, str], text: str | None = None) -> str:
        """Return what a rater agrees to: a study's own text, or these paragraphs.

        Parameters
        ----------
        given : dict of str
            What the study says of ``rights``.
        text : str, optional
            The study's own, in which the same {places} are filled.
        """
        rights = self.rights | given
        text = "\n\n".join(self.paragraphs) if text is None else text
        return re.sub(rf"{{({'|'.join(rights)})}}", lambda place: rights[place[1]], text)


def _read(file: str) -> Any:
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with Path(__file__).with_name(file).open(encoding="utf-8") as stream:
        return yaml.load(stream, loader)


@functools.cache
def presets() -> dict[str, dict[str, dict[str, Criterion]]]:
    """Return the criteria of published protocols: by protocol, task and name."""
    found = _read("presets.yaml")
    return {
        protocol: {
            task: {
                name: Criterion(
                    name,
                    words["labels"][name],
                    text,
                    text,
                    tuple(words["agreement"][:: -1 if name in words["reversed"] else 1]),
                )
                for name, text in words[task].items()
            }
            for task in ("acr", "dcr")
        }
        for protocol, words in found.items()
    }


def has_words(language: str) -> bool:
    """Say whether words of a language such as "es" or "es-MX" come along."""
    return language.split("-")[0].lower() in LANGUAGES


@functools.cache
def words_in(language: str) -> Words:
    """Return the words of a language such as "es" or "es-MX"; English where there are no others."""
    found = _read(LANGUAGES[language.split("-")[0].lower() if has_words(language) else "en"])
    return Words(
        {name: _criterion(name, words) for name, words in found["criteria"].items()},
        _criterion(OVERALL, found["overall"]),
        {
            name: Question(name, words["label"], tuple(words["choices"]))
            for name, words in found["questions"].items()
        },
        found["texts"],
        tuple(found["consent"]),
        {name: found[name] for name in ("responsible", "contact", "kept")},
    )


def _criterion(name: str, words: dict[str, Any]) -> Criterion:
    return Criterion(name, **words | {"steps": tuple(words["steps"])})


CRITERIA, QUESTIONS = words_in("en").criteria, words_in("en").questions
TEXTS, OVERALL_CRITERION = words_in("en").texts, words_in("en").overall
CONSENT = words_in("en").consent({})
