"""Each language is one file, whole: the same keys and places as English, and all that pages use."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from studykit import pages
from studykit.study import wording
from studykit.study.wording import LANGUAGES, words_in

FOLDER = Path(wording.__file__).parent
OTHERS = sorted(set(LANGUAGES) - {"en"})


def texts_of(part: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of a language's file with the keys that lead there."""
    if isinstance(part, str):
        yield where, part
    else:
        inner = part.items() if isinstance(part, dict) else enumerate(part)
        for key, value in inner:
            yield from texts_of(value, f"{where}.{key}")


def file_of(language: str) -> dict[str, str]:
    return dict(texts_of(yaml.safe_load((FOLDER / LANGUAGES[language]).read_text("utf-8"))))


@pytest.mark.parametrize("language", OTHERS)
def test_a_language_has_the_keys_and_the_places_of_english(language: str) -> None:
    english, other = file_of("en"), file_of(language)
    assert sorted(other) == sorted(english)
    for key, text in english.items():
        assert sorted(re.findall(r"{\w*}", other[key])) == sorted(re.findall(r"{\w*}", text)), key
        assert other[key].strip() == other[key] != ""
        assert (":" in other[key]) == (":" in text) or ".steps." not in key, key


@pytest.mark.parametrize("language", OTHERS)
def test_no_text_of_a_language_was_left_in_english(language: str) -> None:
    english, other = file_of("en"), file_of(language)
    assert [key for key in english if other[key] == english[key]] == []


def test_every_language_file_is_listed() -> None:
    assert sorted(path.name for path in FOLDER.glob("words_*.yaml")) == sorted(LANGUAGES.values())


def test_pages_use_texts_that_there_are() -> None:
    scripts = "".join(path.read_text("utf-8") for path in Path(pages.__file__).parent.rglob("*.js"))
    used = set(re.findall(r"""\.text\(\s*"(\w+)\"""", scripts)) | set(
        re.findall(r"\btexts\.(\w+)", scripts)
    )
    assert len(used) > 20
    assert used <= set(words_in("en").texts)


def test_a_region_has_its_language_and_an_unknown_language_has_english_words() -> None:
    assert words_in("es-MX") == words_in("es") != words_in("en")
    assert words_in("tlh") == words_in("en")


def test_what_is_agreed_to_says_who_is_responsible_how_long_and_how_to_withdraw() -> None:
    for language in LANGUAGES:
        words = words_in(language)
        given = {"responsible": "Dr. A. Rivera", "contact": "study@example.org", "kept": "2031"}
        text = words.consent(given)
        assert all(value in text for value in given.values())
        assert words.texts["withdraw"] in text
        assert not re.search("[{}]", text + words.consent({}))


def test_a_text_of_the_study_is_taken_as_it_stands_but_for_its_places() -> None:
    words = words_in("en")
    text = "Ask {contact}, {who} {} {."
    assert words.consent({"contact": "x@y.org"}, text) == "Ask x@y.org, {who} {} {."
    assert words.consent({"contact": "x@y.org"}, "") == ""
