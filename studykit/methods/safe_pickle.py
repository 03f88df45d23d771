"""Reads the arrays out of a pickled checkpoint without running anything that the file asks for.

A pickle is a program: whoever wrote it can call any function of the machine that loads it. This
reader knows only the names below, and gives each a stand-in that can build arrays and nothing
else; numpy's own constructors are never called with what the file says.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from studykit.errors import WeightsError


def load_arrays(path: str | Path) -> dict[str, dict[str, np.ndarray]]:
    """Read a pickled dictionary of dictionaries of arrays, as ``paddle.save`` writes it.

    Parameters
    ----------
    path : str or Path
        The file: a pickle of protocol 0 to 5, from Python 2 or 3 and any numpy.

    Returns
    -------
    dict
        For every dictionary in the file its arrays by name, read-only and in native byte order.
        Whatever else the file holds (counters, schedules) is left out.

    Raises
    ------
    WeightsError
        The file asks for a global that builds no array (the text names it; nothing was run), is
        damaged, or is no such pickle.
    """
    try:
        with Path(path).open("rb") as file:
            content = _ArrayUnpickler(file).load()
        if not isinstance(content, dict):
            raise TypeError(f"a {type(content).__name__}, not a dictionary")
        return {
            str(key): _arrays(entries)
            for key, entries in content.items()
            if isinstance(entries, dict)
        }
    except _ForbiddenGlobal as error:
        raise WeightsError(
            f"{path} is refused: loading it would call {error}, which no array needs; nothing was "
            "run, get the checkpoint from its authors' address"
        ) from None
    except FileNotFoundError:
        raise WeightsError(f"no file {path}: check its path") from None
    except Exception as error:  # a damaged pickle may raise anything
        reason = _REASONS.get(type(error)) or " ".join(str(error).split())[:200]
        raise WeightsError(
            f"{path} is damaged or no checkpoint ({reason}): get it again"
        ) from error


_REASONS = {EOFError: "it ends too early", KeyError: "it is no pickle"}


class _ForbiddenGlobal(Exception):
    """The dotted name of a global that is not in the list."""


class _StoredArray:
    """Takes the state that ``ndarray.__reduce__`` wrote and makes the array of it itself."""

    __slots__ = ("array",)

    def __setstate__(self, state: tuple) -> None:
        _version, shape, dtype, is_fortran, data = state
        self.array = _array(data, dtype, shape, "F" if is_fortran else "C")


class _StoredType:
    """Takes what ``dtype.__reduce__`` wrote: a kind and a size, then the byte order."""

    __slots__ = ("dtype",)

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        self.dtype = np.dtype(str(code))
        if self.dtype.kind not in "biuf":
            raise ValueError(f"an array of type {self.dtype} holds no plain numbers")

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _StandIn:
    """A callable that the file may call, and that has no attribute that the file could set."""

    __slots__ = ("_build",)

    def __init__(self, build: Callable[..., Any]) -> None:
        object.__setattr__(self, "_build", build)

    def __call__(self, *arguments: Any) -> Any:
        return self._build(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name} can't be set")


def _bytes(data: Any) -> bytes | bytearray:
    # Python 2 wrote text strings for bytes, which the unpickler gives back through Latin-1.
    return data.encode("latin1") if isinstance(data, str) else data


def _array(data: Any, stored: _StoredType, shape: tuple, order: str = "C") -> np.ndarray:
    values = np.frombuffer(_bytes(data), stored.dtype).reshape(shape, order=order)
    return values.astype(stored.dtype.newbyteorder("="), copy=False)


def _stored(array: np.ndarray) -> _StoredArray:
    stored = _StoredArray()
    stored.array = array
    return stored


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes written as {encoding}")
    return text.encode("latin1")


_ARRAY_CLASS = object()  # an argument of numpy's constructor, which the stand-in doesn't look at
_EMPTY_ARRAY = _StandIn(lambda *_: _StoredArray())
_ARRAY_FROM_BUFFER = _StandIn(lambda data, *rest: _stored(_array(data, *rest)))
_SCALAR = _StandIn(lambda stored, data: _array(data, stored, ())[()])
_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ARRAY_CLASS,
    ("numpy", "dtype"): _StandIn(_StoredType),
    ("_codecs", "encode"): _StandIn(_encode),
    ("collections", "OrderedDict"): OrderedDict,
    # paddle.save writes a tensor as tuple((name, array)); Python 2 calls the module __builtin__.
    ("builtins", "tuple"): tuple,
    ("__builtin__", "tuple"): tuple,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 2 renamed it
    _KNOWN[f"{_core}.multiarray", "_reconstruct"] = _EMPTY_ARRAY
    _KNOWN[f"{_core}.multiarray", "scalar"] = _SCALAR
    _KNOWN[f"{_core}.numeric", "_frombuffer"] = _ARRAY_FROM_BUFFER


class _ArrayUnpickler(pickle._Unpickler):
    """The unpickler written in Python: one number in a file makes the C one fill all memory."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise _ForbiddenGlobal(f"{module}.{name}") from None

    def get_extension(self, code: int) -> None:
        raise _ForbiddenGlobal(f"copyreg extension {code}")


def _arrays(entries: dict) -> dict[str, np.ndarray]:
    found = {}
    for name, value in entries.items():
        if isinstance(value, tuple) and len(value) == 2:
            value = value[1]
        if isinstance(value, _StoredArray):
            found[str(name)] = value.array
    return found
