"""The benchmark: its targets are exact, its pairs fair, its scores what they say."""

import dataclasses
import json
from collections.abc import Iterator

import numpy as np
import pytest

from studykit.cli import main
from studykit.errors import NoFaceError, StudyError, StudyFileError
from studykit.media import video
from studykit.media.squares import Driving, Source
from studykit.methods import create_method
from studykit.metrics import benchmark, pixels
from studykit.stimuli.render import render
from studykit.stimuli.state import transferred
from studykit.training import data

SMALL = {"size": 96, "identities": 8}


@pytest.fixture(scope="module")
def everyone() -> list[benchmark.Case]:
    return list(benchmark.cases(**SMALL))


class Knowing:
    """Knows the target of every pair, and gives it, but refuses drawn sources."""

    def __init__(self, everyone: list[benchmark.Case]) -> None:
        self.cases = {case.name: case for case in everyone}

    def prepare(self, source: Source) -> benchmark.Case:
        case = self.cases[source.name]
        assert np.array_equal(source.image, case.own[0])
        if case.type == "stylised":
            raise NoFaceError(f"{source.name}: no face")
        return case

    def animate(self, state: benchmark.Case, driving: Driving) -> Iterator[np.ndarray]:
        assert len(list(driving)) == driving.frame_count == 1 + len(benchmark.MOTIONS)
        yield from state.truth("same" if driving.name == state.name else "cross")


def row(summary, method: str, pairing: str, kind: str):
    found = summary[(summary["method"] == method) & (summary["pairing"] == pairing)]
    return found[found["type"] == kind].iloc[0]


def test_no_model_was_trained_on_the_benchmarks_identities_or_tuned_by_them():
    seeds = {benchmark.identity_of(k, seed).seed for k in range(32) for seed in range(3)}
    assert len(seeds) == 96 and min(seeds) >= data.HELD_OUT
    tuned_by = range(data.HELD_OUT, data.HELD_OUT + 2_000)  # render_held_out's, two an index
    assert not seeds & set(tuned_by)


def test_half_the_identities_are_frontal_and_partners_swap_motions_of_one_type():
    kinds = [benchmark.kind_of(k) for k in range(32)]
    assert {kind: kinds.count(kind) for kind in kinds} == {"frontal": 16, "side": 8, "stylised": 8}
    for k in range(32):
        partner = benchmark.partner_of(k)
        assert partner != k and benchmark.partner_of(partner) == k
        assert kinds[partner] == kinds[k]
    names = {benchmark.name_of(k) for k in range(32)}
    assert len(names) == 32 and {"frontal-16", "side-08", "stylised-01"} <= names


def test_side_sources_are_turned_by_forty_degrees_to_the_side_of_their_partner():
    yaws = []
    for k in range(32):
        yaw = benchmark.states_of(k)[0][0].yaw
        if benchmark.kind_of(k) == "side":
            assert abs(yaw) == 40 and yaw == benchmark.states_of(benchmark.partner_of(k))[0][0].yaw
            yaws.append(yaw)
        else:
            assert abs(yaw) <= 6
    assert sum(yaws) == 0


def test_every_motion_shows_what_its_name_says():
    for k in range(32):
        (pose, face), *states = benchmark.states_of(k)
        shown = dict(zip(benchmark.MOTIONS, states, strict=True))
        assert shown["mouth"][1].mouth_open >= 0.6 and shown["mouth"][0] == pose
        assert shown["blink"][1].blink_left == shown["blink"][1].blink_right == 1
        assert shown["smile"][1].smile - face.smile > 0.5
        assert abs(shown["gaze"][1].gaze_x) >= 0.5 and shown["gaze"][0] == pose
        assert (
            shown["turn left"][0].yaw < pose.yaw - 7 and shown["turn right"][0].yaw > pose.yaw + 7
        )
        assert (
            shown["nod down"][0].pitch < pose.pitch - 7 < pose.pitch + 7 < shown["nod up"][0].pitch
        )
        assert abs(shown["tilt"][0].roll - pose.roll) >= 9 and shown["tilt"][1] == face


def test_partners_turn_nod_and_tilt_by_the_same_rotations_within_what_the_renderer_draws():
    for k in range(32):
        own, theirs = benchmark.states_of(k)[0], benchmark.states_of(benchmark.partner_of(k))
        for state in theirs:
            pose, _ = transferred(own, theirs[0], state)
            since_rest = pose.rotation() @ own[0].rotation().T
            assert np.allclose(since_rest, state[0].rotation() @ theirs[0][0].rotation().T)
            assert abs(pose.yaw) < 55 and abs(pose.pitch) < 20 and abs(pose.roll) < 20
        assert transferred(own, theirs[0], theirs[0]) == own


def test_a_case_is_what_the_renderer_makes_of_its_states(everyone):
    case, states = everyone[1], benchmark.states_of(1)
    theirs = benchmark.states_of(case.partner)
    target = transferred(states[0], theirs[0], theirs[5])
    identity = benchmark.identity_of(1)
    for found, state in ((case.own[5], states[5]), (case.moved[5], target)):
        assert np.array_equal(found, render(identity, *state, size=96).image)
    assert np.array_equal(case.moved[0], case.own[0])
    truth = render(identity, *target, size=96)
    assert np.allclose(case.landmarks[1, 5], truth.landmarks, atol=1e-4)
    assert np.array_equal(case.face[1, 5], truth.face_mask)


def test_cases_are_rendered_once(everyone):
    said = []
    again = list(benchmark.cases(**SMALL, say=said.append))
    assert said == []
    for one, other in zip(everyone, again, strict=True):
        for field in dataclasses.fields(one):
            assert np.array_equal(getattr(one, field.name), getattr(other, field.name)) or (
                field.name == "found" and np.allclose(one.found, other.found, equal_nan=True)
            )


def test_another_number_of_identities_is_refused():
    with pytest.raises(StudyError, match="multiple of 8, not 12"):
        list(benchmark.cases(identities=12))


def test_a_method_that_knows_the_targets_is_perfect_but_where_it_refuses(everyone, tmp_path):
    found = benchmark.run_benchmark({"knowing": Knowing(everyone)}, tmp_path, **SMALL).summary
    for pairing in benchmark.PAIRINGS:
        best, copied = (row(found, name, pairing, "frontal") for name in ("knowing", "copy"))
        assert best["psnr"] > 100 and best["l1"] == best["mouth"] == best["eyes"] == 0
        floor = row(found, "truth", pairing, "frontal")["landmarks"]
        assert np.isclose(best["landmarks"], floor, rtol=1e-5)
        assert best["landmarks"] < 0.6 * copied["landmarks"]
        assert (copied["gain"], copied["l1 share"], copied["mouth"]) == (0, 1, 1)
        refused, still = (row(found, name, pairing, "stylised") for name in ("knowing", "copy"))
        assert refused["failed"] == 100 and refused["psnr"] == still["psnr"]
        assert row(found, "knowing", pairing, "all")["failed"] == 25
    written = json.loads((tmp_path / "benchmark.json").read_text())
    assert (written["size"], written["seed"], len(written["summary"])) == (96, 0, 24)
    assert "| frontal  | knowing |" in (tmp_path / "summary.md").read_text()
    assert len((tmp_path / "frames.csv").read_text().splitlines()) == 1 + 3 * 8 * 2 * 10
    for pairing, rows in (("same", 2), ("cross", 3)):
        sheet = video.read_image(tmp_path / f"{pairing}.png")
        assert sheet.shape[0] > 6 * rows * 160 and sheet.shape[1] > 11 * 160


def test_scores_agree_with_scikit_image(everyone):
    from skimage.metrics import peak_signal_noise_ratio

    image, truth = everyone[0].own[0], everyone[0].own[5]
    where = np.ones(truth.shape[:2], bool)
    found = pixels.peak_signal_noise_ratio(image, truth, where)
    assert np.isclose(found, peak_signal_noise_ratio(truth, image, data_range=255))
    assert found == pixels.peak_signal_noise_ratio(image, truth)


def test_scores_of_equal_images_stay_finite_and_of_no_pixels_are_nan(everyone):
    image = everyone[0].own[0]
    assert 108 < pixels.peak_signal_noise_ratio(image, image) < 108.2
    assert pixels.mean_absolute_error(image, image) == 0
    for score in (pixels.peak_signal_noise_ratio, pixels.mean_absolute_error):
        assert np.isnan(score(image, image, np.zeros(image.shape[:2], bool)))


def test_regions_hold_their_landmarks_in_both_frames_and_little_else(everyone):
    marks = everyone[0].landmarks[0][[0, 1]]
    where = pixels.around(marks, pixels.MOUTH, 96)
    x, y = np.rint(marks[:, 48:68].reshape(-1, 2)).astype(int).T
    assert where[y, x].all() and where.mean() < 0.15
    eyes = pixels.around(marks, pixels.EYES, 96)
    assert not eyes[y, x].any()


def test_landmark_distance_is_in_percent_of_the_eyes_distance():
    marks = np.zeros((68, 2))
    marks[45] = 40, 0
    assert pixels.eye_distance(marks) == 40
    assert np.isclose(pixels.landmark_distance(marks + np.array([3, 4]), marks, 40), 12.5)
    assert np.isnan(pixels.landmark_distance(marks * np.nan, marks, 40))


def test_clips_made_elsewhere_are_scored_from_a_folder(everyone, tmp_path, capsys):
    """The targets themselves, as mp4 files: only the compression is left to be measured."""
    pairs = benchmark.write_pairs(tmp_path / "inputs", **SMALL)
    lines = [line.split(",") for line in pairs.read_text().splitlines()[1:]]
    assert len(lines) == 16
    by_name = {case.name: case for case in everyone}
    for source, driving, clip in lines:
        case = by_name[source.removeprefix("sources/").removesuffix(".png")]
        assert np.array_equal(video.read_image(pairs.parent / source), case.own[0])
        assert video.probe(pairs.parent / driving).frame_count == 11
        frames = case.truth("same" if case.name in driving else "cross")
        video.write_video(tmp_path / "made" / clip, frames, frame_rate=benchmark.FRAME_RATE, crf=6)
    arguments = ["--clips", tmp_path / "made", "--size", 96, "--identities", 8]
    with pytest.raises(SystemExit) as stop:
        main(["stimuli", "benchmark", *map(str, arguments), "--out", str(tmp_path / "out")])
    assert stop.value.code == 0
    assert "| frontal  | made   |" in capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "benchmark.json").read_text())["summary"]
    made = [entry for entry in summary if entry["method"] == "made" and entry["type"] == "all"]
    assert all(entry["psnr"] > 32 and entry["l1"] < 1.5 for entry in made)
    (tmp_path / "made" / lines[0][2]).unlink()
    with pytest.raises(SystemExit) as stop:
        main(["stimuli", "benchmark", *map(str, arguments), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert f"no clip {lines[0][2]}" in capsys.readouterr().err


def test_methods_are_named_as_in_a_study_file():
    made = benchmark.contestants(["warp", "{name: calm, method: warp, strength: 0.5}"])
    assert made == {"warp": create_method("warp"), "calm": create_method("warp", strength=0.5)}
    for wrong, reason in (
        (["{strength: 1}"], "is no method"),
        (["warp", "warp"], 'two methods are called "warp"'),
        (["copy"], 'two methods are called "copy"'),
        (["wrap"], 'did you mean "warp"'),
    ):
        with pytest.raises(StudyFileError, match=reason):
            benchmark.contestants(wrong)


def test_stimuli_are_written_with_and_without_the_verbs_name(tmp_path):
    for words in (["stimuli", "write"], ["stimuli"]):
        folder = tmp_path / str(len(words))
        given = ["--identities", "1", "--frames", "2", "--size", "64"]
        with pytest.raises(SystemExit) as stop:
            main([*words, str(folder), *given])
        assert stop.value.code == 0 and (folder / "study.yaml").is_file()
