"""What the page offers to animate with: methods and their settings, each in a line of plain words.

Nothing that names a file, or a program to run, can be asked for from outside.
"""

import functools
import importlib.util
import typing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from studykit.errors import StudyFileError, did_you_mean
from studykit.methods import method_class, weights
from studykit.methods.checkpoint_files import FAMILIES


@dataclass(frozen=True)
class Setting:
    """A setting of a method, as it is shown.

    Attributes
    ----------
    low, high, step : float
        Of a number.
    """

    name: str
    label: str
    text: str
    low: float = 0.0
    high: float = 0.0
    step: float = 0.0


_WEIGHTS = Setting("weights", "Weights", "What the model has learned from.")
_RELATIVE = Setting(
    "relative",
    "Relative motion",
    "Count motion from the reference frame, so that the face keeps its own place and shape.",
)
_ENHANCE = Setting(
    "enhance",
    "Enhance",
    "1 has a network clean the frames; 2 has it double their "
    "size, the method working at half; 0 leaves them as they are.",
    0,
    2,
    1,
)
_ADAPT_SCALE = Setting("adapt_scale", "Adapt the scale", "Scale motion by the size of both faces.")

METHODS = {
    "auto": ("Automatic", "The method that suits these two files.", ()),
    "warp": (
        "Warp",
        "Moves the picture's own pixels as the driving's face moves. Fast, sharp, made for "
        "photographs; small motions look best.",
        (
            Setting("strength", "Strength", "1 moves as driven, 0 holds still.", 0, 2, 0.05),
            Setting("min_cutoff", "Smoothing", "Hertz: lower is calmer.", 0.1, 10, 0.1),
            Setting("speed_coefficient", "Quickness", "Higher lags less behind fast motion.",
                    0, 20, 0.5),
        ),
    ),
    "fomm": (
        "First Order Motion Model",
        "A learned model paints what motion uncovers. Its weights here know rendered faces.",
        (
            _WEIGHTS,
            _RELATIVE,
            _ADAPT_SCALE,
            Setting("keypoints", "Keypoints", "Found by the network, or taken from landmarks."),
            Setting("reach", "Reach", "How far landmarks may shift the head, in millimetres.",
                    1, 60, 1),
        ),
    ),
    "regions": (
        "Regions",
        "A learned model moves parts of the face as wholes. It knows rendered faces.",
        (
            _WEIGHTS,
            Setting("mode", "Motion", "Relative counts from the reference frame; standard copies "
                    "place and shape; disentangled takes the pose alone."),
            _ADAPT_SCALE,
        ),
    ),
    "resnet": (
        "ResNet keypoints",
        "A learned model shifts the face by ten points. It knows rendered faces.",
        (_WEIGHTS, _RELATIVE, _ADAPT_SCALE),
    ),
    "sparse": (
        "Sparse to dense",
        "A learned model follows the face's landmarks. It knows rendered faces.",
        (
            _WEIGHTS,
            _RELATIVE,
            _ADAPT_SCALE,
        ),
    ),
    "copy": ("Still", "The picture, held still, to compare with.", ()),
}  # fmt: skip


def offered() -> list[dict[str, Any]]:
    """Return the methods that can be had here, with their settings, as the page gets them."""
    return [
        {
            "name": name,
            "label": label,
            "text": text,
            # Its graphs are fomm's.
            "settings": [_shown(name, s) for s in (*shown, *([_ENHANCE] if _has_fomm() else []))],
        }
        for name, (label, text, shown) in METHODS.items()
        if name not in FAMILIES or _has_fomm()
    ]


def check_settings(method: str, settings: dict[str, Any]) -> None:
    """Refuse what is not offered: other methods, and settings that name files.

    Raises
    ------
    StudyFileError
        It is not offered; the text says what is.
    """
    known = {each["name"]: each for each in offered()}
    if method not in known:
        raise StudyFileError(f'no method "{method}": {did_you_mean(method, known)}')
    shown = {setting["name"]: setting for setting in known[method]["settings"]}
    for name, value in settings.items():
        if name not in shown:
            hint = did_you_mean(name, shown) if shown else "it has none"
            raise StudyFileError(f'method "{method}" has no setting "{name}": {hint}')
        choices = shown[name].get("choices")
        if (choices or name == "weights") and value not in choices:  # never the path of a file
            few = f"one of {', '.join(choices)}" if choices else "left out: none are here"
            raise StudyFileError(f"{name} must be {few}, not {value!r}")
        low, high = shown[name]["low"], shown[name]["high"]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if high and not (number and low <= value <= high):
            raise StudyFileError(f"{name} must be from {low:g} to {high:g}, not {value!r}")


def _shown(method: str, setting: Setting) -> dict[str, Any]:
    if setting is _ENHANCE:
        return asdict(setting) | {"default": 0, "choices": []}
    cls = method_class(method)
    default = next(field.default for field in fields(cls) if field.name == setting.name)
    hint = typing.get_type_hints(cls)[setting.name]
    choices = list(typing.get_args(hint)) if typing.get_origin(hint) is typing.Literal else []
    if setting.name == "weights":
        cached = [known.name for known in weights.status() if known.cached]
        choices = [known for known in cached if weights.family(known) == method]
    return asdict(setting) | {"default": default, "choices": choices}


@functools.cache
def _has_fomm() -> bool:
    return all(map(importlib.util.find_spec, ("paddle", "ppgan")))


@functools.cache
def examples() -> dict[str, dict[str, Path]]:
    """Return what can be tried without bringing anything: paths by name, of each role.

    Those of the package; in a repository, its inputs. The photograph is that of scikit-image, so
    that the package needs no second one.
    """
    import skimage

    package = Path(__file__).parents[1]
    inputs = next(filter(Path.is_dir, (package / "inputs", package.parent / "inputs")), package)
    photograph = Path(skimage.__file__).parent / "data" / "astronaut.png"
    sources = [photograph, *sorted(inputs.glob("sources/*/*-?.png"))]
    return {
        "source": {path.stem: path for path in sources if path.is_file()},
        "driving": {path.stem: path for path in sorted(inputs.glob("drivings/*/*.mp4"))},
    }
