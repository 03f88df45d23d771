"""The reader of pickled checkpoints: it gives arrays, and runs nothing."""

import builtins
import collections
import io
import os
import pickle
import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from studykit.errors import WeightsError
from studykit.methods.safe_pickle import load_arrays

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "weight": RANDOM.normal(size=(3, 2, 5)).astype(np.float32),
    "fortran": np.asfortranarray(RANDOM.normal(size=(4, 3))),
    "big-endian": np.arange(6, dtype=">f4").reshape(2, 3),
    "half": np.arange(4, dtype=np.float16),
    "count": np.array(7, dtype=np.int64),
    "mask": np.array([True, False]),
}


STORAGES = ("Float", "Double", "Half", "Long", "Int", "Short", "Char", "Byte", "Bool")


class PaddleTensor:
    """Pickles as paddle.save writes a tensor: a call of tuple on its name and its array."""

    def __init__(self, array):
        self.array = array

    def __reduce__(self):
        return tuple, (("linear_0.w_0", self.array),)


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class HasState:
    """Pickles as an object made by a call, whose state is then set."""

    def __init__(self, state, function, *arguments):
        self.call = function, arguments, state

    def __reduce__(self):
        return self.call


def write(path, content, protocol=4):
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("wrap", [lambda array: array, PaddleTensor], ids=["numpy", "paddle"])
def test_arrays_come_back_as_they_were(tmp_path, protocol, wrap):
    networks = {
        "generator": collections.OrderedDict((name, wrap(a)) for name, a in ARRAYS.items()),
        "kp_detector": {"bias": wrap(ARRAYS["weight"]), "StructuredToParameterName@@": {"a": "b"}},
        "epoch": np.float64(3.5),
        "history": [1, None, (2.5, "text")],
    }
    read = load_arrays(write(tmp_path / "a.pdparams", networks, protocol))
    assert list(read) == ["generator", "kp_detector"]
    assert list(read["generator"]) == list(ARRAYS) and list(read["kp_detector"]) == ["bias"]
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read["generator"][name], array)
        assert read["generator"][name].dtype == array.dtype.newbyteorder("=")


def test_files_of_old_numpy_and_of_python_2_are_read(tmp_path):
    array = ARRAYS["weight"]
    written = pickle.dumps({"generator": {"weight": array}}, 2)
    old = written.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    old = old.replace(b"cbuiltins\n", b"c__builtin__\n")
    np.testing.assert_array_equal(
        load_arrays(write(tmp_path / "old.pdparams", old))["generator"]["weight"], array
    )
    data = array.tobytes()  # Python 2 wrote bytes as a short or long text string
    python2 = (
        b"\x80\x02}U\tgenerator}U\x06weightcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85U\x01b\x87R(K\x01K\x03K\x02K\x05\x87cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", len(data))
        + data
        + b"tbss."
    )
    np.testing.assert_array_equal(
        load_arrays(write(tmp_path / "python2.pdparams", python2))["generator"]["weight"], array
    )


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_what_pytorch_writes_is_read_without_pytorch(kind):
    """Tensors whole, transposed, cut out, of other kinds, beside an optimiser's state."""
    folder = Path(__file__).parent / "data"
    read = load_arrays(folder / f"torch-2.13-{kind}.pth.tar")
    with np.load(folder / "torch-2.13.npz") as truth:
        assert {f"{p}/{n}" for p in ("generator", "kp_detector") for n in read[p]} == set(truth)
        for key, array in truth.items():
            part, name = key.split("/")
            np.testing.assert_array_equal(read[part][name], array, strict=True)


def malicious():
    """Pickles that would leave a file behind, each with the name that must be refused."""
    touch = "touch executed"
    array = ARRAYS["weight"]
    yield "posix.system", Calls(os.system, touch)
    yield "posix.system", {"generator": {"weight": Calls(os.system, touch)}}
    yield "builtins.eval", {"generator": {"weight": Calls(eval, "open('executed', 'w')")}}
    yield "builtins.exec", [({"a": Calls(exec, "open('executed', 'w')")},)]
    yield "builtins.getattr", Calls(getattr, array, "tofile")
    yield "functools.partial", HasState({}, partial, print)
    yield "posix.system", HasState({"a": Calls(os.system, touch)}, collections.OrderedDict)
    yield "posix.system", {Calls(os.system, touch): 1}
    yield "os.system", b"cos\nsystem\n(S'touch executed'\ntR."
    yield "os.system", b"(S'touch executed'\nios\nsystem\n."
    yield "os.system", b"(cos\nsystem\nS'touch executed'\no."
    yield "numpy.core.multiarray.fromfile", b"cnumpy.core.multiarray\nfromfile\n(S'a'\ntR."
    yield "numpy.ndarray.tofile", b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."
    yield "copyreg extension 1", b"\x80\x02\x82\x01."
    yield "numpy.load", Calls(np.load, "executed")


@pytest.mark.parametrize(("name", "content"), list(malicious()))
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_any_other_global_is_refused_by_name_and_nothing_runs(
    tmp_path, monkeypatch, name, content, protocol
):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "evil.pdparams", content, protocol)
    with pytest.raises(WeightsError) as error:
        load_arrays(path)
    said = str(error.value).replace("__builtin__", "builtins")
    assert str(path) in said and "\n" not in said
    assert f"would call {name}," in said or f"would call {name.replace('posix', 'os')}," in said
    assert not (tmp_path / "executed").exists()


def test_the_malicious_pickles_would_run_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(b"cos\nsystem\n(S'touch executed'\ntR.")
    assert (tmp_path / "executed").exists()


RECONSTRUCT = ARRAYS["weight"].__reduce__()[0]  # numpy's, whose home moves between its versions
FORGED = {
    "object array": {"a": {"b": np.array([1, "x"], dtype=object)}},
    "text array": {"a": {"b": np.array(["x", "y"])}},
    "structured array": {"a": {"b": np.zeros(2, dtype=[("x", "f4"), ("y", "f4")])}},
    "wrong size": HasState((1, (9, 9), np.dtype("f4"), False, b"1234"), RECONSTRUCT),
    "array without data": b"\x80\x04}\x8c\x01a}\x8c\x01b\x8c\x16numpy._core.multiarray\x8c"
    b"\x0c_reconstruct\x93)Rss.",
    "attribute of a class": b"\x80\x04\x8c\x0bcollections\x8c\x0bOrderedDict\x93N}\x8c\x03pop"
    b"K\x01s\x86b.",
    "attribute of a stand-in": b"\x80\x04\x8c\x05numpy\x8c\x05dtype\x93N}\x8c\x06_buildNs\x86b.",
    "state of a stand-in": b"\x80\x04\x8c\x05numpy\x8c\x05dtype\x93}\x8c\x06_buildNsb.",
    "another codec": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.",
    "a class made anew": b"\x80\x04\x8c\x05numpy\x8c\x07ndarray\x93)\x81.",
    "a persistent id": b"Pname\n.",
    "no dictionary": [ARRAYS["weight"]],
    "a memo of 16 GB": b"\x80\x02Nr\xff\xff\xff\x7f0.",
    "nothing": b"",
    "a page": b"<html>Sign in to the network</html>",
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("content", FORGED.values(), ids=FORGED)
def test_forged_content_is_one_line_and_changes_nothing(tmp_path, content):
    path = write(tmp_path / "forged.pdparams", content)
    with pytest.raises(WeightsError) as error:
        load_arrays(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert collections.OrderedDict().pop is not None and callable(collections.OrderedDict.pop)
    good = write(tmp_path / "good.pdparams", {"generator": {"weight": ARRAYS["weight"]}})
    assert load_arrays(good)["generator"]["weight"].dtype == np.float32


def test_a_forged_byte_order_does_not_reach_numpys_own_types(tmp_path):
    class Swapped:
        def __reduce__(self):  # what numpy would apply to the one float32 of the process
            return np.dtype, ("f4", False, False), (3, ">", None, None, None, -1, -1, 0)

    load_arrays(write(tmp_path / "swapped.pdparams", {"generator": {"type": Swapped()}}))
    assert np.dtype("f4").isnative


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    whole = pickle.dumps({"generator": {n: PaddleTensor(a) for n, a in ARRAYS.items()}}, 4)
    for length in range(0, len(whole), 7):
        with pytest.raises(WeightsError, match="damaged or no checkpoint"):
            load_arrays(write(tmp_path / "cut.pdparams", whole[:length]))


def test_random_bytes_are_refused(tmp_path):
    for _ in range(300):
        content = RANDOM.bytes(200)
        with pytest.raises(WeightsError):
            load_arrays(write(tmp_path / "random.pdparams", content))


def test_the_list_of_globals_is_short():
    """Adding a name to the list must be a decision, so it is written here too."""
    from studykit.methods import safe_pickle

    assert {name.replace("_core", "core") for name in map(".".join, safe_pickle._KNOWN)} == {
        "numpy.ndarray",
        "numpy.dtype",
        "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy.core.numeric._frombuffer",
        "_codecs.encode",
        "collections.OrderedDict",
        "builtins.tuple",
        "__builtin__.tuple",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        *(f"torch.{kind}Storage" for kind in STORAGES),
    }
    dangerous = (builtins.eval, os.system, io.open, getattr)
    assert not any(value in dangerous for value in safe_pickle._KNOWN.values())
