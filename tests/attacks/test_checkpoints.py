# ruff: noqa: E501 (an attack a line)
"""Hostile checkpoints: each is one line; nothing runs, nothing hangs, nothing is left beside."""

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from studykit.errors import WeightsError
from studykit.methods import weights

TOUCH = b"touch executed"
DATA = Path(__file__).parents[1] / "data"
ZIP = (DATA / "torch-2.13-zip.pth.tar").read_bytes()
LEGACY = (DATA / "torch-2.13-legacy.pth.tar").read_bytes()
DEEP = b"\x80\x04}N" + b"\x85" * 300_000
DOUBLED = b"\x80\x04}N" + b"2\x86" * 60


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def of_both(value: bytes) -> bytes:
    """Return a pickle of a checkpoint whose one tensor is made by these steps."""
    networks = b"".join(text(part) + b"}" + text("a") + value + b"s" + b"s" for part in PARTS)
    return b"\x80\x02}" + networks + b"."


PARTS = ("generator", "kp_detector")
TYPE = named("numpy", "dtype") + text("f4") + b"\x85R"


def array(shape: bytes, data: bytes = b"C\x04\0\0\0\0", dtype: bytes = TYPE) -> bytes:
    """Return the steps that make an array as numpy's own pickles do."""
    empty = named("numpy.core.multiarray", "_reconstruct") + named("numpy", "ndarray") + b"\x85R"
    return empty + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"


def tensor(offset: bytes, shape: bytes, strides: bytes, kind: str = "FloatStorage") -> bytes:
    storage = b"(" + text("storage") + named("torch", kind) + text("0") + text("cpu") + b"K\x04tQ"
    rest = b"\x89" + named("collections", "OrderedDict") + b")R"
    made = named("torch._utils", "_rebuild_tensor_v2")
    return made + b"(" + storage + offset + shape + strides + rest + b"tR"


def zipped(content: bytes, compression: int = zipfile.ZIP_STORED, **entries: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("a/data.pkl", content)
        for name, data in ({"data/0": bytes(16)} | entries).items():
            archive.writestr(f"a/{name}", data)
    return file.getvalue()


def safetensors(header: object, numbers: bytes = bytes(16)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def entry(dtype: object = "F32", shape: object = (4,), offsets: object = (0, 16)) -> dict:
    about = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    return {f"{part}.a": about for part in PARTS}


FORBIDDEN = {
    f"{how}: {module}.{name}": steps
    for module, name in (
        ("os", "system"), ("posix", "system"), ("nt", "system"), ("subprocess", "Popen"),
        ("builtins", "eval"), ("builtins", "exec"), ("builtins", "getattr"),
        ("builtins", "__import__"), ("__builtin__", "eval"), ("numpy", "load"),
        ("numpy", "fromfile"), ("torch", "load"), ("torch.hub", "load"), ("codecs", "encode"),
        ("functools", "partial"), ("operator", "attrgetter"), ("collections", "deque"),
        ("torch._utils", "_rebuild_device_tensor_from_numpy"), ("builtins", "tuple.__new__"),
        ("numpy", "ndarray.tofile"), ("studykit.methods.safe_pickle", "load_arrays"),
    )
    for how, steps in {
        "REDUCE": named(module, name) + b"(" + text("touch executed") + b"tR",
        "STACK_GLOBAL": text(module) + text(name) + b"\x93(" + text("touch executed") + b"tR",
    }.items()
}  # fmt: skip
FORBIDDEN |= {
    "INST": b"(" + text("touch executed") + b"ios\nsystem\n",
    "OBJ": b"(" + named("os", "system") + text("touch executed") + b"o",
    "NEWOBJ": named("subprocess", "Popen") + text("touch executed") + b"\x85\x81",
    "NEWOBJ_EX": named("subprocess", "Popen") + text("touch executed") + b"\x85}\x92",
    "EXT1": b"\x82\x01", "EXT2": b"\x83\x01\x01", "EXT4": b"\x84\x01\x01\x01\x01",
    "a name with line breaks": text("os\nx\x1b[2J") + text("system") + b"\x93)R",
    "a name of a million letters": text("o" * 1_000_000) + text("system") + b"\x93)R",
}  # fmt: skip

PICKLES: dict[str, tuple[bytes, str]] = {
    "a key nested deep": (DEEP + b"}s.", "a key is a tuple"),
    "a value nested deep": (DEEP + b"0}.", "not a dictionary|no checkpoint|more than"),
    "a key that doubles": (DOUBLED + b"}s.", "a key is a tuple"),
    "keys that double, at once": (DOUBLED + b"(2}u.", "damaged"),
    "a set of what doubles": (b"\x80\x04\x8f(N" + b"2\x86" * 60 + b"\x90.", "no pickle"),
    "a frozen set": (b"\x80\x04(N" + b"2\x86" * 60 + b"\x91.", "no pickle"),
    "an ordered dictionary of what doubles": (
        b"\x80\x04" + named("collections", "OrderedDict") + b"](N" + b"2\x86" * 60 + b"K\x01\x86"
        b"e\x85R.", "a key is a tuple"),
    "a state whose keys double": (
        b"\x80\x04" + named("numpy", "dtype") + b"}(N" + b"2\x86" * 60 + b"K\x01dub.", "damaged"),
    "a dtype that doubles": (of_both(array(b"K\x01\x85", dtype=named("numpy", "dtype") + b"N"
                             + b"2\x86" * 60 + b"\x85R")), "no plain numbers"),
    "a shape that doubles": (of_both(array(b"N" + b"2\x86" * 60)), "damaged"),
    "a shape nested deep": (of_both(array(b"N" + b"\x85" * 100_000)), "damaged"),
    "a million steps": (b"\x80\x04" + b"N0" * 600_000 + b"N.", "more than 500000 steps"),
    "a million lists": (b"\x80\x04" + b"]" * 600_000 + b".", "more than 500000 steps"),
    "marks without end": (b"(" * 600_000 + b".", "more than 500000 steps"),
    "a memo of 16 GB": (b"\x80\x02Nr\xff\xff\xff\x7f0.", "damaged"),
    "memo slots": (b"\x80\x04" + b"Nr\xff\xff\xff\xffh\0.", "damaged"),
    "LONG4 of 2 GB": (b"\x80\x02\x8b\xff\xff\xff\x7f\0.", "damaged"),
    "LONG4 below zero": (b"\x80\x02\x8b\xff\xff\xff\xff\0.", "damaged"),
    "a decimal of a million digits": (b"L" + b"9" * 1_000_000 + b"L\n.", "damaged"),
    "an integer of a million digits": (b"I" + b"9" * 1_000_000 + b"\n.", "damaged"),
    "BINUNICODE8 of 2**63": (b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7fa.", "damaged"),
    "BINUNICODE8 of 2**64": (b"\x80\x04\x8d" + b"\xff" * 8 + b"a.", "damaged"),
    "BINUNICODE of 4 GB": (b"\x80\x02X\xff\xff\xff\xffa.", "damaged"),
    "BINBYTES8 of 2**62": (b"\x80\x04\x8e" + b"\0" * 7 + b"\x40a.", "damaged"),
    "BYTEARRAY8 of 100 GB": (b"\x80\x05\x96" + struct.pack("<Q", 10**11) + b"a.", "damaged"),
    "BYTEARRAY8 of 2**64": (b"\x80\x05\x96" + b"\xff" * 8 + b"a.", "damaged"),
    "a buffer out of band": (b"\x80\x05\x97.", "damaged"),
    "a frame of 2**62": (b"\x80\x04\x95" + b"\0" * 7 + b"\x40N.", "damaged"),
    "a frame that ends early": (b"\x80\x04\x95\x02" + b"\0" * 7 + b"X\xff\0\0\0.", "damaged"),
    "protocol 99": (b"\x80\x63N.", "damaged"),
    "text of a persistent id": (b"Pname\n.", "damaged"),
    "a persistent id": (b"\x80\x02N" + b"2\x86" * 60 + b"Q.", "damaged"),
    "a storage of a file's own": (
        of_both(tensor(b"K\0", b"K\x01\x85", b"K\x01\x85")), "it is no pickle|damaged"),
    "copies of one text": (
        b"\x80\x02" + text("x" * 1_000_000) + b"q\0" + named("_codecs", "encode") + b"q\x01"
        + (b"h\x01h\0" + text("latin1") + b"\x86R0") * 20 + b"}.", "more than its size allows"),
    "copies of one array": (
        b"\x80\x04B" + struct.pack("<I", 1_000_000) + bytes(1_000_000) + b"q\0"
        + named("numpy.core.numeric", "_frombuffer") + b"q\x01"
        + named("numpy", "dtype") + text("f4") + b"\x85R(K\x03" + text(">") + b"NNNK\0K\0K\0tbq\x02"
        + (b"h\x01(h\0h\x02J\x90\xd0\x03\0\x85" + text("C") + b"tR0") * 20 + b"}.",
        "more than its size allows"),
    "another codec": (
        b"\x80\x02" + named("_codecs", "encode") + text("a") + text("zip") + b"\x86R.", "latin1"),
    "a tuple of a text": (
        b"\x80\x02" + named("builtins", "tuple") + text("a" * 9) + b"\x85R.", "something else"),
    "attributes of a text": (b"\x80\x02" + text("a") + b"N}\x8c\x01aNs\x86b.", "damaged"),
    "attributes of a stand-in": (
        b"\x80\x04" + named("numpy", "dtype") + b"N}\x8c\x06_buildNs\x86b.", "damaged"),
    "a shape below zero": (of_both(array(b"J\xff\xff\xff\xffK\x01\x86")), "damaged"),
    "a shape of 2**80": (of_both(array(b"\x8a\x0b" + b"\0" * 10 + b"\x01\x85")), "damaged"),
    "an array of no numbers": (
        of_both(array(b"K\x01\x85", dtype=named("numpy", "dtype") + text("O") + b"\x85R")), "plain"),
    "an array in an array": (
        of_both(array(b"K\x01\x85", dtype=named("numpy", "dtype") + text("(9,9)f4") + b"\x85R")),
        "no plain numbers"),
    "not a number": (of_both(array(b"K\x01\x85", b"C\x04\0\0\xc0\x7f")), "no numbers"),
    "infinite": (of_both(array(b"K\x01\x85", b"C\x04\0\0\x80\x7f")), "no numbers"),
    "of another network": (of_both(array(b"K\x01\x85")), "for another network"),
    "an array shown twice as often as it has bytes": (
        of_both(array(b"K\x01\x85")).replace(b"s.", b"sq\0." ) , "for another network"),
}  # fmt: skip

TORCH: dict[str, tuple[bytes, str]] = {
    "a global": (zipped(of_both(named("os", "system") + b"(X\x01\0\0\0atR")), r"would call os\.system"),
    "a tensor beyond its numbers": (
        zipped(of_both(tensor(b"K\x01", b"K\x04\x85", b"K\x01\x85"))), "outside its numbers"),
    "a tensor before its numbers": (
        zipped(of_both(tensor(b"J\xff\xff\xff\xff", b"K\x04\x85", b"K\x01\x85"))), "outside"),
    "a stride below zero": (
        zipped(of_both(tensor(b"K\x03", b"K\x04\x85", b"J\xff\xff\xff\xff\x85"))), "outside"),
    "a million times the same number": (
        zipped(of_both(tensor(b"K\0", b"J\0\0\x10\0\x85", b"K\0\x85"))), "more numbers than"),
    "2**80 times the same number": (
        zipped(of_both(tensor(b"K\0", b"\x8a\x0b" + b"\0" * 10 + b"\x01\x85", b"K\0\x85"))), "damaged"),
    "another kind of numbers": (
        zipped(of_both(tensor(b"K\0", b"K\x01\x85", b"K\x01\x85", "BFloat16Storage"))), "BFloat16"),
    "numbers that are not there": (
        zipped(of_both(tensor(b"K\0", b"K\x01\x85", b"K\x01\x85")).replace(b"\x01\0\0\x000", b"\x01\0\0\x009")),
        "no pickle"),
    "a key that climbs": (
        zipped(of_both(tensor(b"K\0", b"K\x01\x85", b"K\x01\x85")).replace(
            text("0"), text("../../../etc/passwd"))), "no pickle"),
    "a bomb as its pickle": (zipped(b"N0" * 5_000_000 + b".", zipfile.ZIP_DEFLATED), "compressed"),
    "a bomb as its numbers": (
        zipped(of_both(tensor(b"K\0", b"K\x01\x85", b"K\x01\x85")), zipfile.ZIP_DEFLATED,
               **{"data/0": bytes(50_000_000)}), "compressed"),
    "compressed by lzma": (zipped(b"}.", zipfile.ZIP_LZMA), "compressed"),
    "two pickles": (zipped(b"}.", **{"b/data.pkl": b"}."}), "no checkpoint"),
    "big-endian": (zipped(b"}.", byteorder=b"big"), "little-endian"),
    "its numbers cut": (ZIP[:-2000], "damaged zip"),
    "its numbers damaged": (
        ZIP.replace(b"data/1", b"data/1").replace(ZIP[3000:3008], b"\xff" * 8, 1), "damaged|network|kp"),
    "legacy, cut": (LEGACY[: len(LEGACY) // 2], "damaged"),
    "legacy, more keys than numbers": (LEGACY[:-64], "damaged|network"),
    "legacy, a global": (
        LEGACY[:15] + b"\x80\x02cos\nsystem\n(X\x01\0\0\0atR.", r"would call os\.system"),
    "legacy, nothing else": (LEGACY[:15], "too early"),
    "legacy, a count of 2**63": (LEGACY.replace(struct.pack("<q", 108), b"\xff" * 8), "damaged"),
}  # fmt: skip

SAFETENSORS: dict[str, tuple[bytes, str]] = {
    "an unknown dtype": (safetensors(entry("Q7")), "damaged .*Q7"),
    "a dtype that is a list": (safetensors(entry(["F32"])), "damaged"),
    "BF16": (safetensors(entry("BF16")), "damaged .*BF16"),
    "a shape of texts": (safetensors(entry(shape=["a"])), "damaged"),
    "a shape below zero": (safetensors(entry(shape=[-4])), "damaged|network"),
    "a shape of 2**70": (safetensors(entry(shape=[2**70])), "damaged"),
    "a shape that does not fit": (safetensors(entry(shape=[5])), "damaged"),
    "offsets beyond its end": (safetensors(entry(offsets=[0, 2**40])), "damaged"),
    "offsets below zero": (safetensors(entry(offsets=[-16, 0])), "damaged"),
    "offsets that are swapped": (safetensors(entry(offsets=[16, 0])), "damaged"),
    "offsets that are no numbers": (safetensors(entry(offsets=[None, "a"])), "damaged"),
    "three offsets": (safetensors(entry(offsets=[0, 8, 16])), "damaged"),
    "no offsets": (safetensors({"generator.a": {"dtype": "F32", "shape": [4]}}), "damaged"),
    "an entry that is a list": (safetensors({"generator.a": []}), "damaged"),
    "a header that is a list": (safetensors(b"{]"), "damaged"),
    "metadata that is a list": (safetensors({"__metadata__": [], **entry()}), "damaged|network"),
    "a config that is a number": (
        safetensors({"__metadata__": {"config": 5}, **entry()}), "damaged"),
    "a config that is a list": (
        safetensors({"__metadata__": {"config": "[]"}, **entry()}), "no mapping"),
    "a section of the config that is a list": (
        safetensors({"__metadata__": {"config": '{"generator_cfg": []}'}, **entry()}),
        "no mapping"),
    "a header nested deep": (safetensors(b'{"a":' + b"[" * 100_000), "damaged"),
    "a number of a million digits": (safetensors(b'{"a":' + b"9" * 1_000_000 + b"}"), "damaged"),
    "a header longer than the file": (struct.pack("<Q", 10**6) + b"{}", "damaged"),
    "a header of 2**60": (struct.pack("<Q", 2**60) + b"{}", "damaged"),
    "no UTF-8": (safetensors(b'{"\xff\xfe": 1}'), "damaged"),
    "the same numbers a thousand times": (
        safetensors({f"{part}.{n}": entry()["generator.a"] for part in PARTS for n in range(1000)},
                    bytes(16)), "network|more numbers"),
    "not a number": (safetensors(entry(), b"\xff" * 16), "no numbers"),
    "nothing in it": (safetensors({}), "no checkpoint"),
    "a name of a million letters": (safetensors({"a" * 1_000_000: {}}), "damaged"),
}  # fmt: skip

OTHER: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "damaged"),
    "one byte": (b"\x80", "damaged"),
    "zeros": (bytes(100_000), "damaged"),
    "a page": (b"<html>Sign in</html>", "damaged"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "damaged"),
    "a program": (b"#!/bin/sh\ntouch executed\n", "damaged"),
    "an empty archive": (b"PK\x05\x06" + bytes(18), "damaged|zip"),
    "an archive of something else": (zipped(b"").replace(b"data.pkl", b"data.txt"), "no checkpoint"),
    "an archive whose names are doubled": (zipped(b"}.") + zipped(b"}."), "damaged|no checkpoint"),
    "a tar": (b"a".ljust(257, b"\0") + b"ustar\x0000" + bytes(300), "damaged"),
    "gzip": (b"\x1f\x8b\x08" + bytes(30), "damaged"),
    "ONNX": (b"\x08\x07\x12\x07pytorch" + bytes(30), "damaged"),
}  # fmt: skip

ATTACKS: dict[str, tuple[bytes, str]] = {
    **{f"forbidden, {name}": (of_both(steps), "refused: loading it would call")
       for name, steps in FORBIDDEN.items()},
    **{f"pickle, {name}": attack for name, attack in PICKLES.items()},
    **{f"PyTorch, {name}": attack for name, attack in TORCH.items()},
    **{f"safetensors, {name}": attack for name, attack in SAFETENSORS.items()},
    **{f"other, {name}": attack for name, attack in OTHER.items()},
}  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUDYKIT_CACHE", str(tmp_path / "cache"))
    yield


@pytest.mark.parametrize(("content", "says"), ATTACKS.values(), ids=ATTACKS)
def test_a_hostile_checkpoint_is_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "hostile.pth.tar"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=says) as error:
        weights.load(path)
    line = str(error.value)
    assert line.isprintable() and str(path) in line and len(line) < 1000
    left = [found for found in tmp_path.rglob("*") if found.is_file()]
    assert [found for found in left if "cache/imported" not in str(found)] == [path]


def test_there_are_enough_of_them() -> None:
    assert len(ATTACKS) >= 120


def test_the_forbidden_would_run_elsewhere(tmp_path: Path) -> None:
    pickle.loads(b"\x80\x02" + FORBIDDEN["REDUCE: os.system"] + b".")
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("none", path)])
def test_what_is_no_file_is_no_checkpoint(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "a.safetensors")
    for name in (tmp_path / "a.safetensors", "x" * 5000, "a\0b"):
        with pytest.raises(WeightsError, match="no weights"):
            weights.load(name)


def test_a_file_larger_than_any_checkpoint_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.safetensors").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(WeightsError, match="too large"):
        weights.load(tmp_path / "a.safetensors")


def test_numbers_of_every_byte_order_are_what_they_were(tmp_path: Path) -> None:
    given = {part: {"a": np.arange(6, dtype=">f4").reshape(2, 3)} for part in PARTS}
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps(given))
    with pytest.raises(WeightsError, match="for another network"):  # so it was read
        weights.load(tmp_path / "a.pdparams")
