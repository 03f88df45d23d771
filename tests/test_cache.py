"""A key covers what can change what is made, and nothing else; what is kept stays bounded."""

import os
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import studykit
from studykit import files
from studykit.cache import (
    NEVER_IN_A_KEY,
    _code_hash,
    _file_of,
    clear,
    code_hash,
    contents,
    file_hash,
    kept as rows_of,
    limit,
)
from studykit.clips.provenance import clip_code
from studykit.errors import StudyError
from studykit.media.views import Driving
from studykit.methods import method_class


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STUDYKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "drivings"


class Finder:
    """Finds three numbers in each of a driving's frames, and counts how often it was asked."""

    def __init__(self, count: int = 4) -> None:
        self.asked, self.rows = 0, np.random.default_rng(0).normal(size=(count, 3, 2))
        self.rows[1] = np.nan

    def __call__(self) -> Iterator[np.ndarray]:
        self.asked += 1
        yield from self.rows


def driving(key: str = "d", frames: int = 4) -> Driving:
    return Driving("talk", lambda: iter(()), Fraction(25), frames, key)


def test_rows_are_found_once_and_come_back_bit_for_bit(cache: Path) -> None:
    find = Finder()
    for _ in range(3):
        rows = np.stack(list(rows_of(driving(), "mine", find)))
        assert rows.tobytes() == find.rows.tobytes()
    assert find.asked == 1
    (path,) = cache.iterdir()
    np.testing.assert_array_equal(np.load(path), find.rows)


def test_another_driving_or_another_finder_is_found_anew() -> None:
    find = Finder()
    for key, found_by in (("d", "mine"), ("e", "mine"), ("d", "theirs")):
        list(rows_of(driving(key), found_by, find))
    assert find.asked == 3


@pytest.mark.parametrize("damage", [b"", b"no array", None])
def test_a_damaged_file_is_found_anew_and_mended(cache: Path, damage: bytes | None) -> None:
    find = Finder()
    list(rows_of(driving(), "mine", find))
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] if damage is None else damage)
    rows = np.stack(list(rows_of(driving(), "mine", find)))
    assert rows.tobytes() == find.rows.tobytes()
    assert find.asked == 2
    assert path.read_bytes() == whole


def test_nothing_is_kept_without_a_key(cache: Path) -> None:
    find = Finder()
    for _ in range(2):
        assert len(list(rows_of(driving(key=""), "mine", find))) == 4
    assert find.asked == 2
    assert not cache.exists()


def test_what_was_left_in_the_middle_or_lost_a_frame_is_not_kept(cache: Path) -> None:
    rows = rows_of(driving(), "mine", Finder())
    next(rows)
    rows.close()
    list(rows_of(driving(frames=5), "mine", Finder(4)))
    assert not cache.exists() or list(cache.iterdir()) == []


def test_an_error_passes_and_nothing_is_kept(cache: Path) -> None:
    def find() -> Iterator[np.ndarray]:
        yield np.zeros(2)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(rows_of(driving(), "mine", find))
    assert not cache.exists() or list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_costs_time_only(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    find = Finder()
    for _ in range(2):
        assert len(list(rows_of(driving(), "mine", find))) == 4
    assert find.asked == 2


def test_the_rows_that_were_not_used_for_longest_go(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 4 * 3 * 2 * 8 + 128
    monkeypatch.setattr("studykit.cache.LIMIT", 2 * size)
    find = Finder()
    for age, key in enumerate(("old", "older")):
        list(rows_of(driving(key), "mine", find))
        (new,) = (path for path in cache.iterdir() if path.stat().st_mtime > 2_000_000)
        os.utime(new, (1_000_000 - age, 1_000_000 - age))
    list(rows_of(driving("older"), "mine", find))  # used again: now the newest
    list(rows_of(driving("new"), "mine", find))
    assert len(list(cache.iterdir())) == 2
    assert find.asked == 3
    list(rows_of(driving("older"), "mine", find))
    assert find.asked == 3
    list(rows_of(driving("old"), "mine", find))
    assert find.asked == 4


def test_rows_that_another_process_has_just_removed_are_no_error(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studykit.cache._entries", lambda kind: [cache / "gone.npy"])
    assert len(list(rows_of(driving(), "mine", Finder()))) == 4


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of(Path(studykit.__file__).parent, tmp_path_factory.mktemp("a copy"))


def copy_of(package: Path, folder: Path) -> Path:
    left_out = shutil.ignore_patterns("checkpoints", "*pyc")
    return shutil.copytree(package, folder / "studykit", ignore=left_out)


@pytest.fixture
def package(copied: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, whose code can be changed, and the hashes of what was not changed.

    Who changes it changes it back: it serves all tests.
    """
    monkeypatch.setattr("studykit.cache._PACKAGE", copied)
    monkeypatch.setenv("STUDYKIT_CACHE", str(copied.parent / "cache"))
    return copied


def keys() -> dict[str, str]:
    """The hashes of the code behind each kind of thing that is kept."""
    _code_hash.cache_clear()
    made = {name: clip_code(method_class(name)) for name in ("copy", "folder", "fomm", "warp")}
    return made | {
        "measurement": code_hash("studykit.metrics.pair"),
        "report": code_hash("studykit.report"),
    }


CLIPS = {"copy", "folder", "fomm", "warp"}
ALL = {*CLIPS, "measurement", "report"}
CHANGES = {
    "media/video.py": ALL,
    "media/squares.py": ALL,
    "media/views.py": ALL,
    "media/faces.py": ALL,
    "media/mesh.py": ALL,
    "media/dlib_faces.py": ALL,
    "media/geometry.py": ALL,
    "media/pose.py": ALL,
    "media/reference.py": ALL,
    "media/sheets.py": {"report"},
    "methods/__init__.py": ALL,
    "methods/copy.py": {"copy"},
    "methods/folder.py": {"folder"},
    "methods/warp.py": {"warp"},
    "methods/_warp_paint.py": {"warp"},
    "methods/fomm.py": {"fomm"},
    "methods/_ppgan.py": {"fomm"},
    "methods/_fomm_graph.py": {"fomm"},
    "methods/weights.py": {"fomm"},
    "metrics/pair.py": {"measurement", "report"},
    "metrics/temporal.py": {"measurement", "report"},
    "metrics/tables.py": {"report"},
    "stimuli/render.py": {"measurement", "report"},
    "stats/crossed.py": {"report"},
    "ratings/screening.py": {"report"},
    "report/words.py": {"report"},
    "report/page.html": {"report"},
    "study/wording.py": {"report"},
}


@pytest.mark.parametrize(
    "changed", [*CHANGES, "errors.py", "files.py", "cli.py", "run.py", "study/file.py"]
)
def test_a_changed_line_of_code_changes_just_the_keys_of_what_depends_on_it(
    package: Path, changed: str
) -> None:
    before = keys()
    path = package / changed
    code = path.read_text()
    path.write_text(f"{code}\nCHANGED = True\n")
    after = keys()
    path.write_text(code)
    assert {name for name in ALL if before[name] != after[name]} == CHANGES.get(changed, set())


def test_words_about_code_change_no_key(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys()
    other = copy_of(package, tmp_path)  # where it lies does not matter either
    monkeypatch.setattr("studykit.cache._PACKAGE", other)
    for path in other.rglob("*.py"):
        text = path.read_text()
        if text.startswith('"""'):
            text = '"""Another word, ' + text[3:]
        path.write_text(f"# A comment.\n\n{text}\n\n# Another.\n")
    assert keys() == before


@pytest.mark.parametrize(
    ("after", "counts"),
    [
        ('TEXT = """a\n\nb"""  # other words\n\nN = 1\n"""Words."""\n', False),
        ('TEXT = """a\n\nb"""\nN = 1\n"""Other words."""\n', False),
        ('TEXT = """a\n\n\nb"""\nN = 1\n"""Words."""\n', True),
        ('TEXT = """a \n\nb"""\nN = 1\n"""Words."""\n', True),
        ('TEXT = """a\n\nb"""\nN = 1  # \x0c\n"""Words."""\n', False),
    ],
)
def test_blank_lines_count_within_a_text_only(tmp_path: Path, after: str, counts: bool) -> None:
    hashes = []
    for name, code in (("one", 'TEXT = """a\n\nb"""\nN = 1\n"""Words."""\n'), ("two", after)):
        path = tmp_path / name / "mine.py"
        path.parent.mkdir()
        path.write_text(code)
        hashes.append(code_hash(str(path)))
    assert (hashes[0] != hashes[1]) == counts


def test_what_is_left_out_of_keys_is_there_and_makes_nothing() -> None:
    """Errors, files, progress, the command line: they decide whether, not what."""
    assert NEVER_IN_A_KEY == (
        "studykit.cache",
        "studykit.cli",
        "studykit.clips.executors",
        "studykit.clips.progress",
        "studykit.errors",
        "studykit.files",
        "studykit.machine",
        "studykit.study.file",
    )
    assert all(_file_of(name) for name in NEVER_IN_A_KEY)


def test_a_file_is_hashed_again_when_its_size_or_time_changes_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = tmp_path / "a.mp4", []
    whole = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: read.append(path) or whole(path))
    path.write_text("one")
    first = file_hash(path)
    assert (file_hash(path), len(read)) == (first, 1)
    path.write_text("three")
    assert file_hash(path) != first
    assert len(read) == 2


def test_what_is_kept_is_shown_limited_and_cleared(cache: Path) -> None:
    for number in range(3):
        list(rows_of(driving(str(number)), "mine", Finder()))
    (cache.parent / "vox.pdparams").write_bytes(bytes(1000))
    size = contents()["drivings"] // 3
    assert contents()["weights"] == 1000
    assert limit(2 * size) == size
    assert (contents()["drivings"], contents()["weights"]) == (2 * size, 1000)
    assert clear("drivings") == 2 * size
    assert (contents()["drivings"], contents()["weights"]) == (0, 1000)
    with pytest.raises(StudyError, match='did you mean "graphs"'):
        clear("graph")
