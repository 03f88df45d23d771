"""A YAML file whose values are looked up by key path, so that each error can name its line."""

import os
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from studykit.errors import StudyFileError, did_you_mean

Choice = TypeVar("Choice")


# A study of ten thousand inputs that say what of them takes part fits.
MOST = 10_000  # of anything that a study counts, such as raters
LARGEST_FILE = 2 << 20  # bytes
MOST_PARTS = 60_000
_DEEPEST = 30  # of lists and mappings in one another
_LONGEST_NUMBER = 100  # characters


class _Loader(yaml.SafeLoader):
    """Reads YAML whose size is bounded by what it means, with all that aliases stand for."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth, self._count = 0, 0
        self._parts: dict[yaml.Node, int] = {}  # of finished nodes, with all in them

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        self._depth += 1
        self._count += 1
        if self._count > MOST_PARTS:
            raise self._error(event, f"more than {MOST_PARTS} parts")
        node: Any = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent) and node not in self._parts:
            raise self._error(event, "an alias to what it stands in")
        if node not in self._parts:
            self._parts[node] = self._checked(node)
        return node

    def _checked(self, node: yaml.Node) -> int:
        """Return how many parts a node has, aliases included, unless it may not be there."""
        if isinstance(node, yaml.ScalarNode):
            if not node.tag.endswith(":str") and len(node.value) > _LONGEST_NUMBER:
                raise self._error(node, "a number or date is too long")
            return 1
        inner = node.value
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise self._error(key, "a key is a list or a mapping, not a text")
                if key.value in seen:
                    raise self._error(key, f'key "{key.value:.80}" stands twice', "remove one")
                seen.add(key.value)
            inner = [part for pair in node.value for part in pair]
        parts = 1 + sum(self._parts[part] for part in inner)
        if parts > MOST_PARTS:
            raise self._error(node, f"more than {MOST_PARTS} parts, aliases included")
        return parts

    def compose_sequence_node(self, anchor: Any) -> Any:
        self._check_depth()
        return super().compose_sequence_node(anchor)

    def compose_mapping_node(self, anchor: Any) -> Any:
        self._check_depth()
        return super().compose_mapping_node(anchor)

    def _check_depth(self) -> None:
        if self._depth > _DEEPEST:
            raise self._error(self.peek_event(), "lists or mappings too deep in one another")

    @staticmethod
    def _error(where: Any, problem: str, otherwise: str = "fix the YAML") -> "_YAMLProblem":
        return _YAMLProblem(f", line {where.start_mark.line + 1}: {problem}: {otherwise}")


class _YAMLProblem(Exception):
    """What is wrong with a YAML file, from its line on."""


def read_yaml(path: Path) -> Any:
    """Return what is in a YAML file, whoever wrote it.

    Raises
    ------
    StudyFileError
        It can't be read, is no YAML, has a key twice, or is too large or too deep.
    """
    return _composed(path)[1]


def _composed(path: Path) -> tuple[yaml.Node | None, Any]:
    try:
        if os.path.exists(path) and not path.is_file():  # a pipe would wait for its writer
            raise StudyFileError(f"{path} can't be read: it is no file")
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise StudyFileError(f"{path} is larger than {LARGEST_FILE} bytes: check its path")
        loader = _Loader(data.decode("utf-8-sig"))
        root = loader.get_single_node()
        return root, None if root is None else loader.construct_document(root)
    except OSError as error:
        raise StudyFileError(f"{path} can't be read: {error.strerror}: check its path") from None
    except UnicodeDecodeError:
        raise StudyFileError(f"{path} is not a text file in UTF-8: save it as such") from None
    except _YAMLProblem as problem:
        raise StudyFileError(f"{path}{problem}") from None
    except ValueError as error:  # such as a date that no calendar has
        raise StudyFileError(f"{path}: {brief(str(error))}: fix the YAML") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        text = getattr(error, "problem", None) or "not YAML"
        raise StudyFileError(f"{path}{line}: {text:.200}: fix the YAML") from None


def brief(value: Any) -> str:
    """Return how a value reads in an error's line, cut where it is long."""
    return _SHOWN.repr(value)


_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 80


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
        if not os.path.exists(path):  # unlike Path.exists, for names of any length
            raise StudyFileError(f"no study file {path}: check its path")
        root, self._data = _composed(path)
        if root is not None:
            self._mark((), root)
        if not isinstance(self._data, dict):
            raise self.error((), f"a study file is a mapping with the keys {', '.join(known)}")

    def _mark(self, where: tuple, node: yaml.Node) -> None:
        self._lines.setdefault(where, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
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
        return StudyFileError(f"{self.path}, line {self.line(where)}: {text:.1000}")

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
                name = str(key)[:80]
                raise self.error(
                    (*where, key), f'unknown key "{name}": {did_you_mean(name, known)}'
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
                raise self.error(where, f"a name is expected, not {brief(key)}: quote it")
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
            raise self.error(where, f"{where[-1]} must be a text, not {brief(data)}")
        return data

    def texts(self, where: tuple, *, empty: bool = False) -> tuple[str, ...]:
        """Return a list of texts."""
        items = self.sequence(where)
        for index, item in enumerate(items):
            if not isinstance(item, str):
                raise self.error(
                    (*where, index), f"a text is expected, not {brief(item)}: quote it"
                )
        return tuple(self.text((*where, index), empty=empty) for index in range(len(items)))

    def switch(self, where: tuple) -> bool:
        """Return true or false."""
        data = self.value(where)
        if not isinstance(data, bool):
            raise self.error(where, f"{where[-1]} must be true or false, not {brief(data)}")
        return data

    def share(self, where: tuple) -> float:
        """Return a number from 0 to 1."""
        data = self.value(where)
        if not isinstance(data, int | float) or isinstance(data, bool) or not 0 <= data <= 1:
            raise self.error(where, f"{where[-1]} must be between 0 and 1, not {brief(data)}")
        return float(data)

    def number(self, where: tuple, *, low: int, high: int = MOST) -> int:
        """Return a whole number between two, both included."""
        data = self.value(where)
        if not isinstance(data, int) or isinstance(data, bool) or data < low:
            raise self.error(
                where, f"{where[-1]} must be a whole number >= {low}, not {brief(data)}"
            )
        if data > high:
            raise self.error(where, f"{where[-1]} must be at most {high}, not {brief(data)}")
        return data

    def choice(self, where: tuple, known: tuple[Choice, ...], *, what: str = "") -> Choice:
        """Return one of the known values; ``what`` they are, where the key does not say it."""
        data = self.value(where)
        if data not in known:
            shown = data if isinstance(data, str) and len(data) < 80 else brief(data)
            hint = did_you_mean(shown, map(str, known))
            raise self.error(where, f'no {what or where[-1]} "{shown}": {hint}')
        return data
