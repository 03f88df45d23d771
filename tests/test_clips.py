"""Cells become clips or rows with errors, and only what has changed is made again."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from studykit import methods
from studykit.clips.animate import animate, animate_cells, usual_method
from studykit.clips.cells import CellRow, read_cells
from studykit.clips.folder import study_folder
from studykit.errors import MediaError, NoFaceError, StudyError
from studykit.media import video
from studykit.media.views import Driving, Source
from studykit.methods import register
from studykit.study.file import load_study


@pytest.fixture
def run_cells(small_study: Path) -> Callable[..., list[CellRow]]:
    """Make the small study's clips in a folder beside it, after text changes to its file."""

    def run(*, only: str | None = None, **changes: str) -> list[CellRow]:
        text = small_study.read_text()
        for old, new in changes.items():
            text = text.replace(old, new)
        small_study.write_text(text)
        study = load_study(small_study)
        return animate_cells(study, study_folder(study, small_study.parent / "out"), only=only)

    return run


def clips_of(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "out/clips").iterdir()}


def test_every_cell_gives_a_clip_with_the_drivings_frames(run_cells, tmp_path: Path) -> None:
    rows = run_cells()
    assert [row.status for row in rows] == ["done"] * 4
    assert {row.driving: row.frames for row in rows} == {"talk": 6, "turn": 5}
    for row in rows:
        info = video.probe(tmp_path / "out" / row.clip)
        assert (info.frame_count, info.frame_rate, info.width) == (row.frames, 25, 64)


def test_a_range_of_a_driving_gives_a_clip_of_just_that(run_cells, tmp_path: Path) -> None:
    two = "[{path: talk.mp4, start: 0.04, end: 0.16}, {path: talk.mp4, name: later, start: 0.16}]"
    rows = {row.cell: row for row in run_cells(**{"[talk.mp4]": two})}
    assert [rows[f"anna__{name}__copy"].frames for name in ("talk", "later", "turn")] == [3, 2, 5]
    before = clips_of(tmp_path)
    run_cells(**{"end: 0.16": "end: 0.2"})
    after = clips_of(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {
        "anna__talk__copy.mp4",
        "berta__talk__copy.mp4",
    }
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    views = {item["name"]: item["view"] for item in manifest["inputs"].values()}
    assert views["talk"] == {"start": 0.04, "end": 0.2}
    assert (views["later"], views["turn"], views["anna"]) == ({"start": 0.16}, {}, {})


def test_a_second_run_makes_nothing_again(run_cells, tmp_path: Path) -> None:
    run_cells()
    before = clips_of(tmp_path)
    run_cells()
    assert clips_of(tmp_path) == before


def test_a_changed_input_makes_just_its_own_cells_again(
    run_cells, tmp_path: Path, portrait: np.ndarray
) -> None:
    run_cells()
    before = clips_of(tmp_path)
    video.write_image(tmp_path / "anna.png", portrait[:390, :390])
    run_cells()
    after = clips_of(tmp_path)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"anna__talk__copy.mp4", "anna__turn__copy.mp4"}


def test_a_changed_setting_makes_just_its_methods_cells_again(run_cells, tmp_path: Path) -> None:
    faces = {"centre": "face-or-centre", "64": "128"}
    run_cells(**faces, **{"[copy]": "[copy, {name: soft, method: warp, strength: 0.5}]"})
    before = clips_of(tmp_path)
    run_cells(**{"0.5": "0.6"})
    after = clips_of(tmp_path)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {name for name in after if name.endswith("__soft.mp4")}
    assert len(changed) == 4


def test_a_deleted_clip_is_made_again(run_cells, tmp_path: Path) -> None:
    run_cells()
    clip = tmp_path / "out/clips/anna__talk__copy.mp4"
    data = clip.read_bytes()
    clip.unlink()
    run_cells()
    assert clip.read_bytes() == data


def test_only_makes_one_cell(run_cells, tmp_path: Path) -> None:
    run_cells(only="berta__turn__copy")
    assert list(clips_of(tmp_path)) == ["berta__turn__copy.mp4"]


def test_a_cell_that_fails_is_a_row_with_its_error_and_the_rest_goes_on(
    run_cells, tmp_path: Path
) -> None:
    (tmp_path / "talk.mp4").write_text("not a video")
    rows = {row.cell: row for row in run_cells()}
    assert rows["anna__turn__copy"].status == "done"
    failed = rows["anna__talk__copy"]
    assert failed.status == "failed"
    assert "talk.mp4" in failed.error
    assert not (tmp_path / "out" / failed.clip).exists()


def test_a_failed_cell_is_tried_again(run_cells, tmp_path: Path, make_driving) -> None:
    good = (tmp_path / "talk.mp4").read_bytes()
    (tmp_path / "talk.mp4").write_text("not a video")
    run_cells()
    (tmp_path / "talk.mp4").write_bytes(good)
    assert {row.status for row in run_cells()} == {"done"}


@dataclass(frozen=True)
class Faulty:
    """A method with a fault of its own, after two frames."""

    def prepare(self, source: Source) -> np.ndarray:
        return source.image

    def animate(self, state: np.ndarray, driving: Driving) -> Iterator[np.ndarray]:
        yield state
        yield state
        raise ZeroDivisionError("a fault")


@dataclass(frozen=True)
class Short:
    """A method that loses a frame."""

    def prepare(self, source: Source) -> np.ndarray:
        return source.image

    def animate(self, state: np.ndarray, driving: Driving) -> Iterator[np.ndarray]:
        for _ in list(driving)[1:]:
            yield state


@pytest.fixture
def broken_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "_REGISTRY", dict(methods._REGISTRY))
    register("faulty")(Faulty)
    register("short")(Short)


def test_a_methods_own_fault_leaves_its_traceback_and_no_clip(
    run_cells, tmp_path: Path, broken_methods: None
) -> None:
    rows = run_cells(**{"[copy]": "[faulty]"})
    assert {row.status for row in rows} == {"failed"}
    assert rows[0].error.startswith("ZeroDivisionError: a fault")
    assert "ZeroDivisionError" in (tmp_path / "out/logs/anna__talk__faulty.txt").read_text()
    assert clips_of(tmp_path) == {}


def test_a_clip_that_lost_a_frame_is_not_kept(
    run_cells, tmp_path: Path, broken_methods: None
) -> None:
    rows = run_cells(**{"[copy]": "[short]"})
    assert "5 frames came out" in rows[0].error
    assert clips_of(tmp_path) == {}


def test_clips_made_elsewhere_are_taken_by_name_and_checked(run_cells, tmp_path: Path) -> None:
    run_cells()
    made = tmp_path / "made"
    made.mkdir()
    for path in (tmp_path / "out/clips").iterdir():
        os.link(path, made / path.name.replace("__copy", ""))
    (made / "berta__turn.mp4").unlink()
    os.link(tmp_path / "out/clips/berta__talk__copy.mp4", made / "berta__turn.mp4")
    (made / "berta__talk.mp4").unlink()
    rows = run_cells(**{"[copy]": "[{name: mine, method: folder, path: made}]"})
    assert [row.status for row in rows] == ["done", "done", "failed", "failed"]
    assert "no clip berta__talk.mp4" in rows[2].error
    assert "has 6 frames, the driving 5" in rows[3].error


def test_memory_does_not_grow_with_the_cells(
    tmp_path: Path, portrait: np.ndarray, make_driving, held_bytes
) -> None:
    sources, drivings = [f"s{i}" for i in range(5)], [f"d{i}" for i in range(6)]
    for name in sources:
        video.write_image(tmp_path / f"{name}.png", portrait[:64, :64])
    for name in drivings:
        driving = make_driving(tmp_path / f"{name}.mp4", frames=2, size=64)
        for source in sources:
            os.link(driving, tmp_path / f"{source}__{name}.mp4")
    (tmp_path / "study.yaml").write_text(
        "name: many\nseed: 1\nsize: 64\ncrop: centre\n"
        f"sources: {{frontal: [{', '.join(f'{name}.png' for name in sources)}]}}\n"
        f"drivings: {{frontal: [{', '.join(f'{name}.mp4' for name in drivings)}]}}\n"
        "methods: [copy, {name: elsewhere, method: folder, path: .}]\n"
    )
    study = load_study(tmp_path / "study.yaml")

    def held(out: str) -> int:
        rows = animate_cells(study, study_folder(study, tmp_path / out))
        assert [row.status for row in rows] == ["done"] * 60
        return held_bytes()

    held("warm")
    before = held("first")
    held("second")
    # A packet that is not freed is 150 bytes.
    assert (held("third") - before) / 120 < 75


def test_a_pair_that_is_swapped_is_refused_by_what_its_files_are(
    tmp_path: Path, portrait: np.ndarray, make_driving
) -> None:
    image, clip = tmp_path / "face.png", tmp_path / "clip.mp4"
    video.write_image(image, portrait)
    driving, other = (make_driving(tmp_path / name, frames=2) for name in ("a.mp4", "b.mp4"))
    for source, moving, says in (
        (driving, image, r"face\.png is a still image \(PNG\): a driving is a video"),
        (image, image, "a driving is a video"),
        (other, driving, r"b\.mp4 is a video: a source is a still image"),
    ):
        with pytest.raises(MediaError, match=says):
            animate(source, moving, clip, method="copy", crop="centre", size=64)
        assert not clip.exists()
    with pytest.raises(StudyError, match="is too long"):
        animate(image, driving, tmp_path / f"{'x' * 240}.mp4", method="copy")


def test_what_was_done_to_a_driving_is_in_its_cells_note(tmp_path: Path, portrait) -> None:
    import av

    video.write_image(tmp_path / "face.png", portrait)
    path = tmp_path / "old.mp4"
    with av.open(str(path), "w") as output:
        options = {"x264-params": "tff=1:interlaced=1"}
        stream = output.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(portrait[:64, :96].copy(), "rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    settings = {"method": "copy", "crop": "centre", "size": 64}
    row = animate(tmp_path / "face.png", path, tmp_path / "clip.mp4", **settings)
    assert row.note == "interlaced: deinterlaced by FFmpeg's bwdif" and row.frames == 3


def test_one_pair_is_animated(tmp_path: Path, small_study: Path) -> None:
    clip = tmp_path / "made" / "clip.mp4"
    row = animate(
        tmp_path / "anna.png", tmp_path / "talk.mp4", clip, method="copy", size=64, crop="centre"
    )
    assert (row.frames, video.probe(clip).frame_count) == (6, 6)


def test_the_usual_method_is_fomm_for_what_is_rendered_and_warp_for_what_is_filmed(tmp_path):
    for name in ("own.png", "own.mp4", "filmed.mp4", "photo.png"):
        (tmp_path / name).touch()
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "own.npz").touch()
    source, driving = tmp_path / "own.png", tmp_path / "own.mp4"
    assert usual_method(source, driving, "face") == "fomm"
    assert usual_method(source, tmp_path / "filmed.mp4", "face") == "warp"
    assert usual_method(tmp_path / "photo.png", driving, "face") == "warp"
    # A square that may show no face is nothing for warp.
    assert usual_method(tmp_path / "photo.png", driving, "face-or-centre") == "fomm"


def test_a_missing_face_is_an_error_or_a_stated_centre_crop(
    tmp_path: Path, small_study: Path
) -> None:
    rng = np.random.default_rng(0)
    plain = tmp_path / "plain.png"
    video.write_image(plain, rng.integers(100, 130, (128, 160, 3), np.uint8))
    clip = tmp_path / "clip.mp4"
    pair = (plain, tmp_path / "talk.mp4", clip)
    with pytest.raises(NoFaceError, match=r"no face found in .*plain\.png"):
        animate(*pair, method="copy", crop="face")
    assert not clip.exists()
    row = animate(*pair, method="copy", crop="face-or-centre")
    assert "no face in plain.png: centred square taken" in row.note


def test_an_unreadable_driving_leaves_no_clip(tmp_path: Path, small_study: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "talk.mp4").read_bytes()[:900])
    before = set(tmp_path.iterdir())
    with pytest.raises(MediaError):
        animate(tmp_path / "anna.png", tmp_path / "broken.mp4", tmp_path / "c.mp4", method="copy")
    assert set(tmp_path.iterdir()) == before


def test_the_results_folder_must_be_writable(small_study: Path) -> None:
    (small_study.parent / "file").write_text("")
    with pytest.raises(StudyError, match="can't be written"):
        study_folder(load_study(small_study), small_study.parent / "file" / "out")


def test_rows_name_what_they_were_made_of(run_cells, tmp_path: Path) -> None:
    run_cells()
    row = read_cells(tmp_path / "out/cells.csv")["anna__turn__copy"]
    assert (row.source_type, row.driving_type, row.device) == ("frontal", "stylised", "cpu")
    assert row.seconds > 0
    assert len(row.cache_key) == 64


def test_two_runs_do_not_work_in_one_folder(
    run_cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studykit.clips.animate._PATIENCE", 0.0)
    lock = tmp_path / "out" / ".running"
    code = (
        "import sys, time; from pathlib import Path; from studykit import files\n"
        "with files.locked(Path(sys.argv[1]), 0, ''):\n"
        "    print(flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(StudyError, match=rf"another run \(process {other.pid}\)"):
            run_cells()
        other.kill()
    assert lock.exists()  # the process could not remove it, but the system has dropped the lock
    assert [row.status for row in run_cells()] == ["done"] * 4
    assert not lock.exists()


@pytest.mark.parametrize("left", ["", "1", "no number"])
def test_a_lock_that_nobody_holds_is_no_hindrance(run_cells, tmp_path: Path, left: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.running").write_text(left)
    assert [row.status for row in run_cells()] == ["done"] * 4


def test_an_input_is_never_overwritten(tmp_path: Path, small_study: Path) -> None:
    talk = tmp_path / "talk.mp4"
    before = talk.read_bytes()
    with pytest.raises(StudyError, match="is an input"):
        animate(tmp_path / "anna.png", talk, talk, method="copy", crop="centre")
    assert talk.read_bytes() == before


def test_keys_speak_of_contents_and_not_of_places(
    run_cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_cells()
    made = tmp_path / "made"
    made.mkdir()
    for path in (tmp_path / "out/clips").iterdir():
        os.link(path, made / path.name.replace("__copy", ""))
    run_cells(**{"[copy]": "[{name: mine, method: folder, path: made}]"})
    before = clips_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    study = load_study("study.yaml")
    assert [row.status for row in animate_cells(study, Path("out"))] == ["done"] * 4
    assert clips_of(tmp_path) == before


def test_a_driving_that_gets_its_truth_is_animated_again(run_cells, tmp_path: Path) -> None:
    # Methods trust a rendered driving.
    before = {row.cell: row.cache_key for row in run_cells()}
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth/talk.npz").touch()
    after = {row.cell: row.cache_key for row in run_cells()}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name in before if "__talk__" in name} and changed != set(before)
