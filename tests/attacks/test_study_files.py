# ruff: noqa: E501 (an attack a line)
"""Hostile study files: each is one line that names the place, in seconds, and nothing else happens."""

import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from studykit.errors import StudyError
from studykit.methods import create_methods
from studykit.study.file import load_study

GOOD = """\
name: small
size: 64
crop: centre
sources: {frontal: [anna.png], side: [berta.png]}
drivings: {frontal: [talk.mp4], stylised: [turn.mp4]}
methods: [copy, warp]
"""


def bomb(inner: str, wide: int = 9, deep: int = 9) -> str:
    """Return anchors, each of which stands for several of the one before."""
    lines = [f"a0: &a0 {inner}"]
    for level in range(1, deep + 1):
        aliases = ", ".join([f"*a{level - 1}"] * wide)
        lines.append(f"a{level}: &a{level} [{aliases}]")
    return "\n".join(lines) + "\n"


def merged(wide: int = 9, deep: int = 9) -> str:
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, deep + 1):
        aliases = ", ".join([f"*a{level - 1}"] * wide)
        lines.append(f"a{level}: &a{level} {{<<: [{aliases}], y{level}: 1}}")
    return "\n".join(lines) + "\n"


def ratings(text: str) -> str:
    return f"{GOOD}ratings: {{{text}}}\n"


def method(text: str) -> str:
    return GOOD.replace("[copy, warp]", f"[{{{text}}}]")


def driving(text: str) -> str:
    return GOOD.replace("[talk.mp4]", f"[{{path: talk.mp4, {text}}}]")


SHAPES: dict[str, tuple[str | bytes, str]] = {
    "nine anchors of nine": (bomb("x") + GOOD, "more than 60000 parts"),
    "two anchors of 99999": (bomb("x", 999, 2) + GOOD, "more than 60000 parts"),
    "nine anchors of nine in a section": (
        GOOD.replace("copy", "*a9") + bomb("x"),
        "undefined alias",
    ),
    "merge keys of merge keys": (merged() + GOOD, "more than 60000 parts"),
    "an anchor in itself": (f"a: &a [*a]\n{GOOD}", "an alias to what it stands in"),
    "an anchor in itself, as a mapping": (
        f"a: &a {{b: *a}}\n{GOOD}",
        "an alias to what it stands in",
    ),
    "an anchor in itself, deep": (f"a: &a [[[[*a]]]]\n{GOOD}", "an alias to what it stands in"),
    "an anchor merged into itself": (f"a: &a {{<<: *a}}\n{GOOD}", "an alias to what it stands in"),
    "3,000 brackets": ("[" * 3000, "too deep"),
    "3,000 closed brackets": ("name: " + "[" * 3000 + "]" * 3000, "too deep"),
    "3,000 braces": ("{a: " * 3000, "too deep"),
    "3,000 dashes": ("- " * 3000, "too deep"),
    "3,000 questions": ("? " * 3000, "too deep"),
    "300 indents": ("".join(f"{' ' * n}a:\n" for n in range(300)), "too deep"),
    "a mapping as a key": (f"? {{a: b}}\n: c\n{GOOD}", "a key is a list or a mapping"),
    "a list as a key": (f"[a, b]: c\n{GOOD}", "a key is a list or a mapping"),
    "an alias as a key": (f"a: &a [b]\n*a : c\n{GOOD}", "a key is a list or a mapping"),
    "a key twice": (f"{GOOD}name: other\n", 'key "name" stands twice'),
    "a key twice, deep": (
        GOOD.replace("{frontal: [anna.png]", "{frontal: [], frontal: [anna.png]"),
        "stands twice",
    ),
    "a key of a million letters": (
        f"{'k' * 1_000_000}: 1\n{GOOD}",
        "not allowed here",
    ),
    "a million lists": ("name: [" + "[]," * 500_000 + "]", "more than 60000 parts"),
    "a file of 3 MB": ("#" * 3_000_000, "larger than"),
    "two documents": (f"{GOOD}---\n{GOOD}", "single document|another"),
    "no document": ("", "a mapping with the keys"),
    "a comment alone": ("# nothing\n", "a mapping with the keys"),
    "a text": ("just words", "a mapping with the keys"),
    "a list": ("- name\n", "a mapping with the keys"),
    "NUL": (b"name: a\0b\n", "not YAML"),
    "an escape of the terminal": (b"name: \x1b[2J\n", "not YAML"),
    "UTF-16": (GOOD.encode("utf-16"), "not a text file in UTF-8"),
    "UTF-32": (GOOD.encode("utf-32"), "not a text file in UTF-8"),
    "Latin-1": ("name: ä\n".encode("latin-1"), "not a text file in UTF-8"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not a text file in UTF-8"),
    "surrogates": (b"name: \xed\xa0\x80\n", "not a text file in UTF-8"),
    "tabs": ("name:\n\t- a\n", "tab|cannot start any token"),
    "an unclosed quote": (f'{GOOD}seed: "', "unexpected end"),
    "a directive of another YAML": (f"%YAML 9.9\n---\n{GOOD}", "version"),
    "a tag of Python": (
        GOOD.replace("small", "!!python/object/apply:os.system [touch executed]"),
        "could not determine a constructor",
    ),
    "a name of Python": (
        GOOD.replace("small", "!!python/name:os.system ''"),
        "could not determine a constructor",
    ),
    "a tag of its own": (GOOD.replace("small", "!own 5"), "could not determine a constructor"),
    "a merge of a number": (f"<<: 5\n{GOOD}", "expected a mapping"),
    "a set": (GOOD.replace("small", "!!set {a, b}"), "name must be a text"),
    "an ordered map": (GOOD.replace("small", "!!omap [a: b]"), "name must be a text"),
    "bytes": (GOOD.replace("small", "!!binary aGVsbG8="), "name must be a text"),
    "bytes that are none": (GOOD.replace("small", "!!binary $$$"), "failed to decode|name must"),
    "a date": (GOOD.replace("small", "2026-01-31"), "name must be a text"),
    "a date that no calendar has": (GOOD.replace("small", "2026-13-45"), "month must be"),
    "a time of a million digits": (
        GOOD.replace("small", "!!timestamp 2026-01-31T00:00:00." + "1" * 1_000_000),
        "too long",
    ),
    "a number of 5,000 digits": (GOOD.replace("64", "9" * 5000), "too long"),
    "a hexadecimal of 5,000 digits": (GOOD.replace("64", "0x" + "f" * 5000), "too long"),
    "a number in sixties of a million places": (
        GOOD.replace("64", "1" + ":59" * 300_000),
        "too long",
    ),
    "a binary number": (GOOD.replace("64", "0b" + "1" * 5000), "too long"),
    "a float of 5,000 digits": (GOOD.replace("64", "1." + "1" * 5000), "too long"),
}

VALUES: dict[str, tuple[str | bytes, str]] = {
    **{
        f"size: {value}": (GOOD.replace("64", value), "size must be")
        for value in (
            "0",
            "-64",
            "1e9",
            "1000000000",
            ".inf",
            "-.inf",
            ".nan",
            "63",
            "33",
            "true",
            "'64'",
            "[64]",
            "2049",
            "~",
            "0x7fffffff",
            "190:20:30",
        )
    },
    **{
        f"seed: {value}": (f"{GOOD}seed: {value}\n", "seed must be")
        for value in ("-1", ".nan", ".inf", "1.5", "9" * 90, "true", "{a: b}")
    },
    **{
        f"{key}: {value}": (ratings(f"{key}: {value}"), f"{key} must be")
        for key in (
            "raters_min",
            "training",
            "repeats",
            "references",
            "gold",
            "trials",
            "simulated_raters",
            "scale",
        )
        for value in ("-1", ".inf", "1000000000", "'3'")
    },
    **{
        f"watch: {value}": (ratings(f"watch: {value}"), "watch must be")
        for value in ("-0.1", "1.1", ".nan", ".inf", "true")
    },
    **{
        f"start: {value}": (driving(f"start: {value}"), "start must be")
        for value in ("-1", ".inf", ".nan", "true", "'1'", "[1]")
    },
    **{
        f"end: {value}": (driving(f"end: {value}"), "end ") for value in ("-1", "0", ".nan", "true")
    },
    **{
        f"max_frames: {value}": (driving(f"max_frames: {value}"), "max_frames must be")
        for value in ("-1", "0", "1.5", ".inf")
    },
    **{
        f"face: {value}": (driving(f"face: {value}"), "face must be|must be a number")
        for value in ("0", "-1", ".nan", "[1]", "[.nan, 1]", "[-1, 2]")
    },
    **{
        f"margin: {value}": (driving(f"margin: {value}"), "margin must be")
        for value in ("-1", ".inf", ".nan", "1e9")
    },
    **{
        f"strength: {value}": (method(f"name: warp, strength: {value}"), "strength")
        for value in (".inf", "-.inf", ".nan", "1e99", "'1'", "[1]")
    },
    "a text with a width": (
        ratings('texts: {progress: "{done:>1000000000}"}'),
        "braces in progress|unknown key",
    ),
    "a text with an attribute": (
        ratings('texts: {progress: "{done.__class__}"}'),
        "braces in progress|unknown key",
    ),
    "a text with a place in a place": (
        ratings('texts: {progress: "{done:{total}}"}'),
        "braces in progress|unknown key",
    ),
    "a text with a brace": (ratings('texts: {progress: "{"}'), "braces in progress|unknown key"),
    "a name that climbs": (GOOD.replace("small", "../../evil"), "becomes a folder"),
    "a name that is absolute": (GOOD.replace("small", "/etc"), "becomes a folder"),
    "a name with a NUL": (GOOD.replace("small", '"a\\0b"'), "becomes a folder"),
    "a name of dots": (GOOD.replace("small", ".."), "becomes a folder"),
    "a name that commands the terminal": (GOOD.replace("small", '"\\e[2Jx"'), "becomes a folder"),
    "no name": (GOOD.replace("name: small\n", ""), 'the key "name" is missing'),
    "an unknown key": (f"{GOOD}sede: 3\n", 'unknown key "sede"'),
    "a number as a key": (f"{GOOD}5: 3\n", 'unknown key "5"'),
    "nothing as a key": (f"{GOOD}~: 3\n", 'unknown key "None"'),
    "not a number as a key": (f"{GOOD}.nan: 3\n", 'unknown key "nan"'),
    "a path of 5,000 letters": (GOOD.replace("anna.png", "a" * 5000), "no file"),
    "a path of 5,000 folders": (GOOD.replace("anna.png", "a/" * 5000), "no file"),
    "a path with a NUL": (GOOD.replace("anna.png", '"a\\0.png"'), "no file"),
    "a path with half a letter": (GOOD.replace("anna.png", '"\\ud800.png"'), "no file|no name"),
    "a path to a folder": (GOOD.replace("anna.png", "/tmp"), "no file"),
    "a path to what never ends": (GOOD.replace("anna.png", "/dev/zero"), "no file"),
    "a path to a pipe": (GOOD.replace("anna.png", "pipe.png"), "no file"),
    "an address as a path": (GOOD.replace("anna.png", "http://example.org/a.png"), "no file"),
    "a number as a path": (GOOD.replace("anna.png", "5"), "a path"),
    "nothing as a path": (GOOD.replace("anna.png", "~"), "a path"),
    "a list as a path": (GOOD.replace("anna.png", "[" * 20 + "]" * 20), "a path"),
    "an empty path": (GOOD.replace("anna.png", "''"), "path must be|no file|a path"),
    "the same file twice": (GOOD.replace("[anna.png]", "[anna.png, ./anna.png]"), "duplicate name"),
    "no sources": (
        GOOD.replace("{frontal: [anna.png], side: [berta.png]}", "{}"),
        "sources is empty",
    ),
    "sources that are a list": (
        GOOD.replace("{frontal: [anna.png], side: [berta.png]}", "[anna.png]"),
        "must be a mapping",
    ),
    "another type": (GOOD.replace("side", "sideways"), 'unknown key "sideways"'),
    "no methods": (GOOD.replace("[copy, warp]", "[]"), "methods is empty"),
    "an unknown method": (GOOD.replace("warp]", "wrap]"), 'did you mean "warp"'),
    "a method by its module": (GOOD.replace("warp]", "os.system]"), 'no method "os.system"'),
    "a method that is a number": (GOOD.replace("warp]", "5]"), "a method"),
    "a method's name that climbs": (method("name: ../evil, method: copy"), "is no file name"),
    "a method's setting": (method("name: copy, __class__: 5"), 'no setting "__class__"'),
    "two names that differ in case": (
        method("name: A, method: copy}, {name: a, method: copy"),
        "duplicate method name",
    ),
    "two names that differ in accents": (
        method(
            f"name: {unicodedata.normalize('NFC', 'é')}1, method: copy}}, {{name: É1, method: copy"
        ),
        "duplicate method name",
    ),
    "weights of 5,000 letters": (method(f"name: fomm, weights: {'w' * 5000}"), "no weights"),
    "a store that is a file": (ratings("store: /etc/passwd"), "store must be an address"),
    "a store that is another database": (ratings("store: 'mysql://a'"), "store must be an address"),
    "a pair of three": (f"{GOOD}pairs: [[anna, talk, x]]\n", "a pair is"),
    "a pair twice": (f"{GOOD}pairs: [[anna, talk], [anna, talk]]\n", "stands in line"),
    "pairs that are a number": (f"{GOOD}pairs: 5\n", "pairs must be"),
    "a criterion's name": (
        ratings("criteria: {__class__.x: {label: a, question: b, steps: [a, b, c, d, e]}}"),
        "no criterion's name",
    ),
    "an unknown crop": (GOOD.replace("centre", "center"), 'did you mean "centre"'),
    "a crop that is a list": (GOOD.replace("centre", "[" * 25 + "]" * 25), "no crop"),
}

ATTACKS = SHAPES | VALUES


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name in ("anna.png", "berta.png", "talk.mp4", "turn.mp4"):
        (tmp_path / name).touch()
    yield


def load(path: Path) -> None:
    study = load_study(path)
    for made in create_methods(study).values():
        if hasattr(made, "weights_hash"):
            made.weights_hash()


@pytest.mark.parametrize(("content", "says"), ATTACKS.values(), ids=ATTACKS)
def test_a_hostile_study_file_is_one_line(tmp_path: Path, content: str | bytes, says: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before, start = set(tmp_path.iterdir()), time.process_time()
    with pytest.raises(StudyError, match=says) as error:
        load(path)
    assert time.process_time() - start < 10  # of a slow machine; a hostile file takes hours
    line = str(error.value)
    assert ("\n" not in line and len(line) < 6000 and str(path) in line) or "no weights" in line
    assert set(tmp_path.iterdir()) == before


GOOD_ONES = {
    "as it is": GOOD,
    "a mark of order": "\ufeff" + GOOD,
    "Windows lines": GOOD.replace("\n", "\r\n"),
    "JSON": '{"name": "small", "size": 64, "sources": {"frontal": ["anna.png"]}, "drivings": {"side": ["talk.mp4"]}, "methods": ["copy"]}',
    "anchors and merge keys": GOOD.replace(
        "[copy, warp]", "[&w {name: a, method: warp, strength: 0.5}, {<<: *w, name: b}]"
    ),
    "a path through folders": GOOD.replace("anna.png", "../{folder}/anna.png"),
    "a large seed": f"{GOOD}seed: {2**63 - 1}\n",
}


@pytest.mark.parametrize("text", GOOD_ONES.values(), ids=GOOD_ONES)
def test_a_study_file_that_only_looks_odd_is_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(text.replace("{folder}", tmp_path.name).encode())
    load(path)


def test_there_are_enough_of_them() -> None:
    assert len(ATTACKS) >= 150


def test_a_study_of_ten_thousand_inputs_is_read(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    names = [f"many/{number}.png" for number in range(2000)]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "study.yaml").write_text(GOOD.replace("anna.png", ", ".join(names)))
    assert len(load_study(tmp_path / "study.yaml").sources) == 2001


@pytest.mark.parametrize("name", ["pipe", "folder", "x" * 5000, "a\0b", "none.yaml"])
def test_what_is_no_file_is_no_study(tmp_path: Path, name: str) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StudyError, match=r"can't be read|no study file|null"):
        load_study(tmp_path / name)


@pytest.mark.parametrize(
    "names", [("Anna", "anna"), ("é", "e\u0301"), ("É", "e\u0301"), ("STRASSE", "straße")]
)
def test_names_that_some_file_system_holds_for_one_are_refused(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    """On Windows and macOS the second clip would be written over the first."""
    for number, name in enumerate(names):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / f"{name}.png").touch()
    paths = ", ".join(f'"{number}/{name}.png"' for number, name in enumerate(names))
    (tmp_path / "study.yaml").write_text(GOOD.replace("anna.png", paths), encoding="utf-8")
    with pytest.raises(StudyError, match="duplicate name"):
        load_study(tmp_path / "study.yaml")
