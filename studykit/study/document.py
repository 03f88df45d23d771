"""A YAML file whose values are looked up by key path, so that each error can name its line."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from studykit.errors import StudyFileError, did_you_mean

Choice = TypeVar("Choice")


class Document:
    """A study file as it was written.

    A place in it is a tuple of keys and indices, such as ``("sources", "frontal", 0)``. Each
    reader returns what stands at a place, or raises a StudyFileError that names its line.

    Parameters
    ----------
    path : Path
    known : iterable of str
        The top level's keys, named where a file is something else.

    Raises
    ------
    StudyFileError
        The file is missing, is not YAML, has a key twice or is no mapping.
    """

    def __init__(self, path: Path, known: Iterable[str]) -> None:
        self.path = path
        self.folder = path.parent
        self._lines: dict[tuple, int] = {(): 1}
        try:
            text = path.read_text(encoding="utf-8")
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            if root is not None:
                self._mark((), root)
            self._data = yaml.safe_load(text)
        except FileNotFoundError:
            raise StudyFileError(f"no study file {path}: check its path") from None
        except OSError as error:
            raise StudyFileError(f"{path} can't be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise StudyFileError(f"{path} is not a text file: a study file is YAML") from None
        except ValueError as error:  # such as a date that no calendar has
            raise StudyFileError(f"{path}: {error}: fix the YAML") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or "not YAML"
            raise StudyFileError(f"{path}{line}: {problem}: fix the YAML") from None
        if not isinstance(self._data, dict):
            raise self.error((), f"a study file is a mapping with the keys {', '.join(known)}")

    def _mark(self, where: tuple, node: yaml.Node) -> None:
        self._lines.setdefault(where, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                if key.value in seen:
                    raise StudyFileError(
                        f'{self.path}, line {key.start_mark.line + 1}: key "{key.value}" '
                        "stands twice: remove one"
                    )
                seen.add(key.value)
                self._lines[(*where, key.value)] = key.start_mark.line + 1
                self._mark((*where, key.value), value)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._mark((*where, index), value)

    def line(self, where: tuple) -> int:
        """Return the line of a place, or of the nearest around it that is in the file."""
        return self._lines.get(where) or self.line(where[:-1])

    def error(self, where: tuple, text: str) -> StudyFileError:
        """Return, to be raised, what is wrong at a place and what to do."""
        return StudyFileError(f"{self.path}, line {self.line(where)}: {text}")

    def value(self, where: tuple) -> Any:
        """Return what stands at a place, None where there is nothing."""
        data = self._data
        for key in where:
            data = data[key] if isinstance(key, int) else data.get(key)
        return data

    def mapping(
        self, where: tuple, *, known: tuple, needed: tuple = (), optional: bool = False
    ) -> dict:
        """Return a mapping that has no key but the known ones, and all that are needed."""
        data = self.value(where)
        if data is None and optional:
            return {}
        if not isinstance(data, dict):
            raise self.error(where, f"{where[-1]} must be a mapping with {', '.join(known)}")
        for key in data:
            if key not in known:
                raise self.error(
                    (*where, key), f'unknown key "{key}": {did_you_mean(str(key), known)}'
                )
        for key in needed:
            if key not in data:
                raise self.error(where, f'the key "{key}" is missing')
        return data

    def names(self, where: tuple) -> tuple[str, ...]:
        """Return the keys of a mapping whose keys are the user's to choose."""
        data = self.value(where)
        if not isinstance(data, dict):
            raise self.error(where, f"{where[-1]} must be a mapping, name: value")
        for key in data:
            if not isinstance(key, str):
                raise self.error(where, f"a name is expected, not {key!r}: quote it")
        return tuple(data)

    def sequence(self, where: tuple) -> list:
        """Return a list of anything."""
        data = self.value(where)
        if not isinstance(data, list):
            raise self.error(where, f"{where[-1]} must be a list, [..] or lines that begin with -")
        return data

    def text(self, where: tuple, *, empty: bool = False) -> str:
        """Return a text, which may be "" only if ``empty``."""
        data = self.value(where)
        if not isinstance(data, str) or not (data or empty):
            raise self.error(where, f"{where[-1]} must be a text, not {data!r}")
        return data

    def texts(self, where: tuple, *, empty: bool = False) -> tuple[str, ...]:
        """Return a list of texts."""
        items = self.sequence(where)
        for index, item in enumerate(items):
            if not isinstance(item, str):
                raise self.error((*where, index), f"a text is expected, not {item!r}: quote it")
        return tuple(self.text((*where, index), empty=empty) for index in range(len(items)))

    def switch(self, where: tuple) -> bool:
        """Return true or false."""
        data = self.value(where)
        if not isinstance(data, bool):
            raise self.error(where, f"{where[-1]} must be true or false, not {data!r}")
        return data

    def share(self, where: tuple) -> float:
        """Return a number from 0 to 1."""
        data = self.value(where)
        if not isinstance(data, int | float) or isinstance(data, bool) or not 0 <= data <= 1:
            raise self.error(where, f"{where[-1]} must be between 0 and 1, not {data!r}")
        return float(data)

    def number(self, where: tuple, *, low: int, high: int | None = None) -> int:
        """Return a whole number between two, both included."""
        data = self.value(where)
        if not isinstance(data, int) or isinstance(data, bool) or data < low:
            raise self.error(where, f"{where[-1]} must be a whole number >= {low}, not {data!r}")
        if high is not None and data > high:
            raise self.error(where, f"{where[-1]} must be at most {high}, not {data!r}")
        return data

    def choice(self, where: tuple, known: tuple[Choice, ...], *, what: str = "") -> Choice:
        """Return one of the known values; ``what`` they are, where the key does not say it."""
        data = self.value(where)
        if data not in known:
            hint = did_you_mean(str(data), map(str, known))
            raise self.error(where, f'no {what or where[-1]} "{data}": {hint}')
        return data
