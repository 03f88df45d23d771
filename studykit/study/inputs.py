"""What is said of one source or driving: its file, its name, and what of the file takes part.

A study file, a notebook and the command line say it in the same words, checked here.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from studykit import files
from studykit.errors import StudyError, StudyFileError, did_you_mean
from studykit.media.views import AS_IT_IS, CropRule, Faceless, Reference, Square, View

LARGEST_MARGIN = 4.0
_OF_DRIVINGS = ("start", "end", "max_frames", "reference", "faceless")
KEYS = ("path", "name", "face", "crop", "margin", *_OF_DRIVINGS)

Refuse = Callable[[str, str], StudyError]
"""Makes the error for a key and what is wrong with its value."""


@dataclass(frozen=True)
class Input:
    """A source image or a driving video of a study, and what of its file takes part.

    Under the protocol "same-identity" a source may be a video: its reference frame is meant.
    """

    name: str
    type: str
    path: Path
    view: View = AS_IT_IS


def slug(text: str) -> str:
    """Turn a text into a name that is safe in file names and has no double underscore.

    Letters, digits and marks of any script stay, and so do pictures such as emoji; what looks
    the same is the same (Unicode's NFC).

    >>> slug("my photo__(2)")
    'my-photo_2'
    >>> slug("Zoë & 日本 👩")
    'Zoë-日本-👩'
    """
    text = "".join(c if _stays(c) else "\0" for c in unicodedata.normalize("NFC", text))
    text = re.sub("\0+", "-", text.strip("\0"))
    return re.sub(r"_{2,}-?", "_", text).strip("-._")


def _stays(character: str) -> bool:
    kind = unicodedata.category(character)
    joins = character == "\N{ZERO WIDTH JOINER}"  # within one emoji, and one Indic letter
    picture = kind in ("So", "Sk") and not character.isascii()
    return kind[0] in "LMN" or character in "_.-" or joins or picture


def as_input(given: str | Path | Mapping[str, Any], *, still: bool) -> Input:
    """Make an input from a path, or from a mapping as it stands in a study file.

    Parameters
    ----------
    given : path or mapping
        Such as ``{"path": "talk.mp4", "start": 1.5, "end": 6}``.
    still : bool
        Whether it is a source.

    Raises
    ------
    StudyError
        An unknown key or a wrong value.
    """
    given = given if isinstance(given, Mapping) else {"path": str(given)}

    def refuse(key: str, text: str) -> StudyError:
        return StudyFileError(f"{given.get('path') or ('source' if still else 'driving')}: {text}")

    view = read_view(given, still=still, refuse=refuse)
    path = files.as_it_lies(Path(given["path"]))
    name = given.get("name") or slug(path.stem) or ("source" if still else "driving")
    return Input(name, "", path, view)


def read_view(given: Mapping[str, Any], *, still: bool, refuse: Refuse) -> View:
    """Read what of an input's file takes part, and check all keys of its mapping.

    Parameters
    ----------
    given : mapping
        Of :data:`KEYS`; "path" is needed.
    still : bool
        Whether it is a source, which has no length.
    refuse : callable
        Makes the error that is raised.
    """
    for key in given:
        if key not in KEYS:
            raise refuse(str(key), f'unknown key "{key}": {did_you_mean(str(key), KEYS)}')
        if still and key in _OF_DRIVINGS:
            raise refuse(key, f'"{key}" is for drivings: a source is one picture, leave it out')
    for key in ("path", "name"):
        value = given.get(key)
        if not isinstance(value, str) or not value:
            if key == "path" and key not in given:
                raise refuse("", 'the key "path" is missing')
            if key in given:
                raise refuse(key, f"{key} must be a text, not {value!r}")
    if (name := given.get("name")) and slug(name) != name:
        raise refuse("name", f'name "{name}" is no file name: try "{slug(name)}"')
    view = View(**{key: _READERS[key](given[key], key, refuse) for key in given if key in _READERS})
    _check_together(view, given, refuse)
    return view


def _check_together(view: View, given: Mapping[str, Any], refuse: Refuse) -> None:
    if isinstance(view.crop, Square) or view.crop == "centre":
        for key in ("face", "margin"):
            if key in given:
                raise refuse(key, f"{key} says nothing where crop names the square: leave one out")
    if view.end is not None and view.end <= view.start:
        raise refuse("end", f"end ({view.end:g} s) must be after start ({view.start:g} s)")
    if isinstance(view.reference, float):
        last = math.inf if view.end is None else view.end
        if not view.start <= view.reference < last:
            between = f"start ({view.start:g} s) and end ({last:g} s)"
            text = f"reference ({view.reference:g} s of the file) must lie between {between}"
            raise refuse("reference", text)


def _number(value: Any, key: str, refuse: Refuse, *, high: float = math.inf) -> float:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or value < 0:
        raise refuse(key, f"{key} must be a number of at least 0, not {value!r}")
    if value > high:
        raise refuse(key, f"{key} must be at most {high:g}, not {value!r}")
    return float(value)


def _count(value: Any, key: str, refuse: Refuse, *, low: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise refuse(key, f"{key} must be a whole number of at least {low}, not {value!r}")
    return value


def _point(value: Any, key: str, refuse: Refuse) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise refuse(key, f"{key} must be [x, y] in pixels, not {value!r}")
    x, y = (_number(part, key, refuse) for part in value)
    return x, y


def _face(value: Any, key: str, refuse: Refuse) -> int | tuple[float, float]:
    if isinstance(value, list | tuple):
        return _point(value, key, refuse)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        text = "face must be a number from 1 on, counted from left to right, or [x, y] in pixels"
        raise refuse(key, f"{text}, not {value!r}")
    return value


def _crop(value: Any, key: str, refuse: Refuse) -> CropRule | Square:
    rules = get_args(CropRule)
    if isinstance(value, Mapping):
        for inner in value:
            if inner not in ("centre", "side"):
                hint = did_you_mean(str(inner), ("centre", "side"))
                raise refuse(key, f'unknown key "{inner}" of crop: {hint}')
        if len(value) == 2:
            side = _number(value["side"], "side", refuse)
            if side < 1:
                raise refuse(key, f"side must be at least 1 pixel, not {side:g}")
            return Square(_point(value["centre"], "centre", refuse), side)
    if value not in rules:
        hint = did_you_mean(str(value), rules) if isinstance(value, str) else ", ".join(rules)
        raise refuse(key, f'no crop "{value}": {hint}, or {{centre: [x, y], side: pixels}}')
    return value


def _reference(value: Any, key: str, refuse: Refuse) -> Reference | float:
    if isinstance(value, str):
        if value not in get_args(Reference):
            hint = did_you_mean(value, get_args(Reference))
            raise refuse(key, f'no reference "{value}": {hint}, or seconds of the file')
        return value  # type: ignore[return-value]
    return _number(value, key, refuse)


def _faceless(value: Any, key: str, refuse: Refuse) -> Faceless:
    known = get_args(Faceless)
    if value not in known:
        raise refuse(key, f'no faceless "{value}": {did_you_mean(str(value), known)}')
    return value


_READERS: dict[str, Callable[[Any, str, Refuse], Any]] = {
    "face": _face,
    "crop": _crop,
    "margin": lambda value, key, refuse: _number(value, key, refuse, high=LARGEST_MARGIN),
    "start": _number,
    "end": _number,
    "max_frames": lambda value, key, refuse: _count(value, key, refuse, low=2),
    "reference": _reference,
    "faceless": _faceless,
}
