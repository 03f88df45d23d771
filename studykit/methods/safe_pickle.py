"""Reads the arrays out of a pickled checkpoint without running anything that the file asks for.

A pickle is a program: whoever wrote it can call any function of the machine that loads it. This
reader knows only the names below, and gives each a stand-in that can build arrays and nothing
else; numpy's own constructors are never called with what the file says. What a file can cost is
bounded by its size. PyTorch's files are pickles too, with the numbers beside them; they are read
here, since PyTorch's own reader hashes whatever is a key, and before 2.6 ran what it should not.
"""

import contextlib
import functools
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from studykit.errors import WeightsError

LARGEST_FILE = 4 << 30
"""Bytes of the largest checkpoint that is read; those of this model have less than one in four."""

_MOST_STEPS = 500_000  # a step makes one object at most; published checkpoints have under 50,000
_LARGEST_GROWTH = 4  # what a file's bytes may become in memory: text, bytes and an array of them


def load_arrays(path: str | Path, content: bytes | None = None) -> dict[str, dict[str, np.ndarray]]:
    """Read a pickled dictionary of dictionaries of arrays, by ``paddle.save`` or ``torch.save``.

    Parameters
    ----------
    path : str or Path
        The file: a pickle of protocol 0 to 5, from Python 2 or 3 and any numpy, or what PyTorch
        writes, a zip archive or, before 1.6, a row of pickles and numbers.
    content : bytes, optional
        What is in it, where that was read already.

    Returns
    -------
    dict
        For every dictionary in the file its arrays by name, read-only and in native byte order.
        Whatever else the file holds (counters, schedules) is left out.

    Raises
    ------
    WeightsError
        The file asks for a global that builds no array (the text names it; nothing was run), is
        damaged, costs more than its size allows, or is no such pickle.
    """
    try:
        data = Path(path).read_bytes() if content is None else content
        loaded, storage = _unpickled(data)
        if not isinstance(loaded, dict):
            raise TypeError(f"a {type(loaded).__name__}, not a dictionary")
        return {
            str(key): _arrays(entries, storage)
            for key, entries in loaded.items()
            if isinstance(entries, dict)
        }
    except _ForbiddenGlobal as error:
        raise WeightsError(
            f"{path} is refused: loading it would call {error}, which no array needs; nothing was "
            "run, get the checkpoint from its authors' address"
        ) from None
    except FileNotFoundError:
        raise WeightsError(f"no file {path}: check its path") from None
    except _NoCheckpoint:
        raise WeightsError(f"{path} is a zip archive and no checkpoint: unpack it first") from None
    except zipfile.BadZipFile as error:
        raise WeightsError(
            f"{path} is a damaged zip archive ({error}): get the checkpoint again"
        ) from None
    except Exception as error:  # a damaged pickle may raise anything
        reason = _REASONS.get(type(error)) or ascii(" ".join(str(error).split())[:200])[1:-1]
        raise WeightsError(
            f"{path} is damaged or no checkpoint ({reason}): get it again"
        ) from error


_REASONS = {EOFError: "it ends too early", KeyError: "it is no pickle"}


class _ForbiddenGlobal(Exception):
    """The dotted name of a global that is not in the list."""


class _NoCheckpoint(Exception):
    """An archive of something else."""


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
        self.dtype = np.dtype(code) if type(code) is str and len(code) < 9 else np.dtype("O")
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


class _Ordered(dict):
    """An ordered dictionary, whose attributes (PyTorch keeps versions there) are left out."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _Storage(NamedTuple):
    """Numbers that lie outside the pickle, by their key."""

    stored: _StoredType
    key: str


class _StoredTensor(NamedTuple):
    """A tensor of PyTorch: how it lies in its storage, counted in numbers."""

    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple

    def array(self, data: bytes | memoryview) -> np.ndarray:
        dtype = self.storage.stored.dtype
        numbers = np.frombuffer(data, dtype)
        steps = [(size - 1) * step for size, step in zip(self.shape, self.strides, strict=True)]
        last = self.offset + sum(steps) if all(self.shape) else self.offset - 1
        if min(self.offset, 0, *self.shape, *self.strides) < 0 or last >= len(numbers):
            raise ValueError("a tensor lies outside its numbers")
        strides = [step * dtype.itemsize for step in self.strides]
        shown = np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides)
        return shown.view(dtype.newbyteorder("="))


def _bytes(data: Any) -> bytes:
    # Python 2 wrote text strings for bytes, which the unpickler gives back through Latin-1.
    return data.encode("latin1") if isinstance(data, str) else data


def _array(data: Any, stored: _StoredType, shape: tuple, order: str = "C") -> np.ndarray:
    if min(shape, default=0) < 0:  # which numpy would work out
        raise ValueError("a shape below zero")
    values = np.frombuffer(_bytes(data), stored.dtype).reshape(shape, order=order)
    return values.astype(stored.dtype.newbyteorder("="), copy=False)


def _stored(array: np.ndarray) -> _StoredArray:
    stored = _StoredArray()
    stored.array = array
    return stored


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError("bytes in another code than latin1")
    return text.encode("latin1")


def _tuple(items: tuple) -> tuple:
    if type(items) is not tuple:
        raise TypeError("a tuple of something else")
    return items


def _ordered(items: list = ()) -> _Ordered:
    return _Ordered((_key(name), value) for name, value in items)  # Python 2 wrote pairs


def _key(key: Any) -> str | int:
    """Return a key that can be hashed at no cost: names, or the numbers of an optimiser's state."""
    if type(key) not in (str, int):
        raise TypeError(f"a key is a {type(key).__name__} and no text")
    return key


_ARRAY_CLASS = object()  # an argument of numpy's constructor, which the stand-in doesn't look at
_EMPTY_ARRAY = _StandIn(lambda *_: _StoredArray())
_ARRAY_FROM_BUFFER = _StandIn(lambda data, *rest: _stored(_array(data, *rest)))
_SCALAR = _StandIn(lambda stored, data: _array(data, stored, ()).item())
_TUPLE = _StandIn(_tuple)
# A text is the type of a kind of storage.
_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ARRAY_CLASS,
    ("numpy", "dtype"): _StandIn(_StoredType),
    ("_codecs", "encode"): _StandIn(_encode),
    ("collections", "OrderedDict"): _StandIn(_ordered),
    # paddle.save writes a tensor as tuple((name, array)); Python 2 calls the module __builtin__.
    ("builtins", "tuple"): _TUPLE,
    ("__builtin__", "tuple"): _TUPLE,
    ("torch._utils", "_rebuild_tensor_v2"): _StandIn(lambda *own: _StoredTensor(*own[:4])),
    ("torch._utils", "_rebuild_parameter"): _StandIn(lambda tensor, *_: tensor),
    ("torch", "FloatStorage"): "<f4",
    ("torch", "DoubleStorage"): "<f8",
    ("torch", "HalfStorage"): "<f2",
    ("torch", "LongStorage"): "<i8",
    ("torch", "IntStorage"): "<i4",
    ("torch", "ShortStorage"): "<i2",
    ("torch", "CharStorage"): "i1",
    ("torch", "ByteStorage"): "u1",
    ("torch", "BoolStorage"): "b1",
}
for _core in ("numpy.core", "numpy._core"):  # numpy 2 renamed it
    _KNOWN[f"{_core}.multiarray", "_reconstruct"] = _EMPTY_ARRAY
    _KNOWN[f"{_core}.multiarray", "scalar"] = _SCALAR
    _KNOWN[f"{_core}.numeric", "_frombuffer"] = _ARRAY_FROM_BUFFER

_Load = Callable[["_ArrayUnpickler"], None]
_Read = Callable[[str], bytes | memoryview]


def _with_keys_of(keys: Callable[[list], list], load: _Load) -> _Load:
    def checked(unpickler: "_ArrayUnpickler") -> None:
        for key in keys(unpickler.stack):
            _key(key)
        load(unpickler)

    return checked


def _counted(load: _Load) -> _Load:
    def counted(unpickler: "_ArrayUnpickler") -> None:
        load(unpickler)
        unpickler.count(unpickler.stack[-1])

    return counted


def _load_bytes(unpickler: "_ArrayUnpickler") -> None:
    # Python's own takes memory for as many bytes as the file says.
    unpickler.append(unpickler.read(int.from_bytes(unpickler.read(8), "little")))


class _Steps(dict):
    """What an unpickler does at each step, of which there are so many."""

    def __init__(self) -> None:
        super().__init__(pickle._Unpickler.dispatch)
        self._left = _MOST_STEPS
        for code in (pickle.EMPTY_SET, pickle.FROZENSET, pickle.ADDITEMS):
            del self[code[0]]
        for code in (pickle.REDUCE, pickle.OBJ, pickle.INST, pickle.BUILD):
            self[code[0]] = _counted(self[code[0]])
        for code in (pickle.SETITEMS, pickle.DICT):
            self[code[0]] = _with_keys_of(lambda stack: stack[::2], self[code[0]])
        setitem = pickle.SETITEM[0]
        self[setitem] = _with_keys_of(lambda stack: stack[-2:-1], self[setitem])
        self[pickle.BYTEARRAY8[0]] = _load_bytes

    def __getitem__(self, code: int) -> _Load:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"it takes more than {_MOST_STEPS} steps")
        return super().__getitem__(code)


class _ArrayUnpickler(pickle._Unpickler):
    """The unpickler written in Python: one number in a file makes the C one fill all memory."""

    def __init__(self, data: io.BytesIO) -> None:
        super().__init__(data, encoding="latin1")
        self.dispatch = _Steps()
        self.types: dict[str, np.dtype] = {}  # of storages, by their keys
        self._left = _LARGEST_GROWTH * len(data.getbuffer()) + (1 << 16)

    def find_class(self, module: str, name: str) -> Any:
        try:
            known = _KNOWN[module, name]
        except KeyError:
            raise _ForbiddenGlobal(ascii(f"{module}.{name}"[:100])[1:-1]) from None
        return _StoredType(known) if isinstance(known, str) else known

    def get_extension(self, code: int) -> None:
        raise _ForbiddenGlobal(f"copyreg extension {code}")

    def persistent_load(self, given: Any) -> _Storage:
        kind, stored, key, _device, _count, *view = given
        if kind != "storage" or type(stored) is not _StoredType or view not in ([], [None]):
            raise ValueError("a persistent id that names no storage")
        self.types[_key(key)] = stored.dtype
        return _Storage(stored, key)

    def count(self, made: Any) -> None:
        """Refuse a file that makes much of little, such as a thousand copies of one text."""
        array = getattr(made, "array", None) if type(made) is _StoredArray else None
        self._left -= len(made) if isinstance(made, bytes) else getattr(array, "nbytes", 0)
        if self._left < 0:
            raise ValueError("it holds more than its size allows")


# A file of torch.save before 1.6 is a row of pickles, of which the first is this number.
_TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def _unpickled(data: bytes) -> tuple[Any, _Read]:
    """Return what a file's pickle holds, and what gives the numbers of a storage by its key."""
    file = io.BytesIO(data)
    if data.startswith(b"PK\x03\x04"):
        return _from_zip(zipfile.ZipFile(file), len(data))
    if not data.startswith(_TORCH_LEGACY):
        return _ArrayUnpickler(file).load(), {}.__getitem__
    for _ in ("magic number", "protocol", "system"):
        _ArrayUnpickler(file).load()
    reader = _ArrayUnpickler(file)
    content, keys = reader.load(), _ArrayUnpickler(file).load()
    places = {}
    for key in map(_key, keys):
        count = int.from_bytes(file.read(8), "little")
        start = file.tell()
        end = file.seek(start + count * reader.types[key].itemsize)
        places[key] = memoryview(data)[start:end]
    return content, places.__getitem__


def _from_zip(archive: zipfile.ZipFile, size: int) -> tuple[Any, _Read]:
    names = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
    if len(names) != 1:
        raise _NoCheckpoint
    left = size

    @functools.cache
    def read(name: str) -> bytes:
        nonlocal left
        entry = archive.getinfo(names[0].removesuffix("data.pkl") + name)
        left -= entry.file_size
        if left < 0 or entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError("it is compressed, or holds more than its size allows")
        return archive.read(entry)

    with contextlib.suppress(KeyError):
        if read("byteorder") != b"little":
            raise ValueError("its numbers are not little-endian")
    return _ArrayUnpickler(io.BytesIO(read("data.pkl"))).load(), lambda key: read(f"data/{key}")


def _arrays(entries: dict, storage: _Read) -> dict[str, np.ndarray]:
    found = {}
    for name, value in entries.items():
        if type(value) is tuple and len(value) == 2:
            value = value[1]
        if isinstance(value, _StoredArray):
            found[str(name)] = value.array
        elif isinstance(value, _StoredTensor):
            found[str(name)] = value.array(storage(value.storage.key))
    return found
