"""Ways to animate a source, one file each, behind one small protocol.

A method is a frozen dataclass whose fields are its settings, registered by name:

    @register("mine")
    @dataclass(frozen=True)
    class Mine:
        strength: float = 1.0

        def prepare(self, source: Source) -> object: ...
        def animate(self, state: object, driving: Driving) -> Iterator[np.ndarray]: ...
"""

import dataclasses
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import numpy as np

from studykit.errors import StudyFileError, did_you_mean
from studykit.media.views import Driving, Source
from studykit.study.document import brief
from studykit.study.file import Study


class Method(Protocol):
    """What the run asks of a method.

    ``prepare`` sees the source once, ``animate`` then gives one (S, S, 3) uint8 RGB frame a
    driving frame, in order, without holding the video. Relative motion counts from the frame
    ``driving.reference``, which ``driving.reference_frame()`` shows. A class may add functions that
    the run asks for the provenance of its clips: ``weights_hash() -> str``, the SHA-256 of the
    weights that its setting ``weights`` names; ``device_used() -> str``, where it computes;
    ``inputs(source_name, driving_name) -> list[Path]``, the files that a clip depends on beside
    source and driving; ``notes(state) -> str``, what a reader of the clip should know of how it
    was made, "" if nothing; ``check()``, which raises what the machine lacks; and
    ``version_used() -> str``, what names the version of a program that is not studykit's.
    ``any_square = True`` says that it serves squares of any size, with more around the face than a
    study shows: pasting uses larger ones. ``at_once = True`` says that all frames come together.

    A method travels to other processes by pickle, so its settings must; a state does not. What a
    process holds is used by one call at a time, and always by the same thread.
    """

    def prepare(self, source: Source) -> Any: ...

    def animate(self, state: Any, driving: Driving) -> Iterator[np.ndarray]: ...


_MODULES = (  # each registers the method of its name
    "command",
    "copy",
    "folder",
    "fomm",
    "regions",
    "resnet",
    "sparse",
    "warp",
)
_REGISTRY: dict[str, type] = {}

ENHANCE = (0, 1, 2)
"""What every method's setting ``enhance`` may be: not at all, at equal size, from half the size."""

MethodClass = TypeVar("MethodClass", bound=type)


def register(name: str) -> Callable[[MethodClass], MethodClass]:
    """Make a method known by its name."""

    def add(method: MethodClass) -> MethodClass:
        _REGISTRY[name] = method
        return method

    return add


def method_names() -> list[str]:
    """Return every registered method's name, sorted."""
    return sorted({*_MODULES, *_REGISTRY})


def method_class(name: str) -> type:
    """Return the class of a method, importing its file at first use."""
    if name not in _REGISTRY and name in _MODULES:
        importlib.import_module(f"studykit.methods.{name}")
    if name not in _REGISTRY:
        raise StudyFileError(f'no method "{name}": {did_you_mean(name, method_names())}')
    return _REGISTRY[name]


def create_method(name: str, **settings: Any) -> Method:
    """Make a method from its name and settings.

    Every method has the setting ``enhance`` of :class:`studykit.methods.enhance.Enhanced`.

    Raises
    ------
    StudyFileError
        No such method, no such setting, or a setting of the wrong type.
    """
    cls = method_class(name)
    enhance = settings.pop("enhance", 0)
    if enhance not in ENHANCE or isinstance(enhance, float):
        raise StudyFileError(
            f'method "{name}": setting "enhance" must be 1 (clean) or 2 (enlarge), not '
            f"{brief(enhance)}"
        )
    hints = typing.get_type_hints(cls)
    fields = inspect.signature(cls).parameters
    for key, value in settings.items():
        if key not in fields:
            known = did_you_mean(key, (*fields, "enhance"))
            raise StudyFileError(f'method "{name}" has no setting "{key}": {known}')
        if not _fits(value, hints[key]):
            kind = _type_name(hints[key])
            raise StudyFileError(
                f'method "{name}": setting "{key}" must be {kind}, not {brief(value)}'
            )
    for key, field in fields.items():
        if field.default is inspect.Parameter.empty and key not in settings:
            raise StudyFileError(f'method "{name}" needs the setting "{key}"')
    made = cls(**settings)
    if not enhance:
        return made
    # By its name, so that the code of other methods' clips does not depend on it.
    return importlib.import_module("studykit.methods.enhance").Enhanced(made, int(enhance))


def create_methods(study: Study, device: str = "auto") -> dict[str, Method]:
    """Make every method of a study, by its name there; ``device`` holds where none is set.

    Raises
    ------
    StudyFileError
        As :func:`create_method`, with the line of the study file.
    """
    methods = {}
    for spec in study.methods:
        try:
            settings = dict(spec.settings)
            if any(f.name == "device" for f in dataclasses.fields(method_class(spec.method))):
                settings.setdefault("device", device)
            methods[spec.name] = create_method(spec.method, **settings)
        except StudyFileError as error:
            raise StudyFileError(f"{study.path}, line {spec.line}: {error}") from None
    return methods


def _fits(value: Any, hint: Any) -> bool:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return any(_fits(value, part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return not inspect.isclass(hint) or isinstance(value, hint)


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    return {bool: "true or false", str: "a text", float: "a number", int: "a whole number",
            dict: "a mapping"}.get(hint, str(hint).replace("None", "nothing"))  # fmt: skip
