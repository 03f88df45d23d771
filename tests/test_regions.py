"""The method regions: frames of covariances, motion between them, and what it refuses."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from studykit.errors import GraphError, NoFaceError, StudyError
from studykit.media.views import Driving, Source
from studykit.methods import _fomm_layout, checkpoint_files, create_method, fomm
from studykit.methods._fomm_layout import strangeness
from studykit.methods._fomm_motion import Keypoints, local_motions
from studykit.methods._region_motion import (
    aligned,
    disentangled,
    disentangled_shapes,
    framed,
    steadied,
)
from studykit.methods.checkpoint_files import Checkpoint, Settings
from studykit.methods.random_weights import SMALL, astronaut_frames, random_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence")  # in ppgan's docstrings

FRAMES = astronaut_frames(5)
SOURCE = Source("astronaut", FRAMES[3])
COUNT = SMALL["common_params"]["num_kp"]
REGIONAL: Settings = {
    **SMALL,
    "common_params": {**SMALL["common_params"], "estimate_jacobian": False},
    "network": "regions",
    "size": 64,
    "trained_on": "rendered faces",
}


def tilted(turn: float, long: float = 0.2, short: float = 0.05) -> np.ndarray:
    """An ellipse's covariance."""
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return axes @ np.diag([long**2, short**2]) @ axes.T


def found(*turns: float, seed: int = 0) -> Keypoints:
    points = np.random.default_rng(seed).uniform(-0.5, 0.5, (len(turns), 2))
    return Keypoints(points, np.stack([tilted(turn) for turn in turns]))


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    made, rng = random_checkpoint(REGIONAL), np.random.default_rng(0)
    shapes = disentangled_shapes(COUNT)
    apart = {name: rng.normal(0, 0.15, shape).astype("f4") for name, shape in shapes.items()}
    return replace(made, networks={**made.networks, "disentangled": apart})


@pytest.fixture(scope="module")
def small(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    checkpoint_files.save(checkpoint, path)
    return str(path)


@pytest.fixture(autouse=True)
def no_engines() -> None:
    fomm._engine.cache_clear()


@pytest.fixture
def always_a_face(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random networks find regions anywhere."""
    for name in ("_MOST_STRANGE", "_MOST_STRANGE_START", "_MOST_BENT"):
        monkeypatch.setattr(_fomm_layout, name, 1.1)


def animate(frames: list[np.ndarray], **settings: object) -> tuple[np.ndarray, str]:
    method = create_method("regions", device="cpu", **settings)
    state = method.prepare(SOURCE)
    driving = Driving("moving", lambda: iter(frames), Fraction(25), len(frames))
    return np.stack(list(method.animate(state, driving))), method.notes(state)


def test_a_frame_gives_its_covariance_back_the_longer_axis_first() -> None:
    regions_found = found(*np.linspace(-1.5, 1.5, 9))
    frames = framed(regions_found).jacobians
    assert np.allclose(frames @ np.swapaxes(frames, 1, 2), regions_found.jacobians, atol=1e-7)
    lengths = np.linalg.norm(frames, axis=1)
    assert np.allclose(lengths, [0.2, 0.05])


def test_a_region_of_one_point_still_has_a_frame() -> None:
    flat = Keypoints(np.zeros((1, 2)), np.zeros((1, 2, 2)))
    assert np.linalg.matrix_rank(framed(flat).jacobians[0]) == 2


@pytest.mark.parametrize("turn", np.radians([-80, -46, -44, 0, 44, 46, 80]))
@pytest.mark.parametrize("step", np.radians([-40, 10, 40]))
def test_turns_are_found_wherever_the_axes_own_angle_jumps(turn: float, step: float) -> None:
    before, after = framed(found(turn)), framed(found(turn + step))
    motion = local_motions(before, aligned(after, before.jacobians))[1, :, :2]
    expected = [[np.cos(step), np.sin(step)], [-np.sin(step), np.cos(step)]]
    assert np.allclose(motion, expected, atol=1e-6)


def test_no_other_choice_of_axes_is_nearer_to_the_identity() -> None:
    rng = np.random.default_rng(0)
    source, driving = (
        framed(found(*rng.uniform(-2, 2, 20), seed=seed)).jacobians for seed in (1, 2)
    )
    chosen = aligned(Keypoints(np.zeros((20, 2)), driving), source).jacobians
    quarter = np.array([[0, -1], [1, 0]])
    for index in range(20):
        turned = [driving[index] @ np.linalg.matrix_power(quarter, k) for k in range(4)]
        apart = [np.linalg.norm(source[index] @ np.linalg.inv(t) - np.eye(2)) for t in turned]
        assert np.allclose(chosen[index], turned[int(np.argmin(apart))])


def test_a_common_affine_motion_is_kept_and_a_stray_region_is_drawn_to_it() -> None:
    motion = np.array([[1.1, 0.2], [-0.1, 0.9]])
    driving = framed(found(*np.linspace(0, 1, 9)))
    source = Keypoints(driving.points @ motion.T + 0.1, motion @ driving.jacobians)
    turns = local_motions(source, steadied(driving, source))[1:, :, :2]
    assert np.allclose(turns, motion, atol=1e-5)
    stray = driving.jacobians.copy()
    stray[4] *= 2
    turns = local_motions(source, steadied(replace(driving, jacobians=stray), source))[1:, :, :2]
    assert np.allclose(np.delete(turns, 4, 0), motion, atol=1e-5)
    assert np.allclose(turns[4], 0.75 * motion, atol=1e-5)


def test_what_no_similarity_explains_is_strange() -> None:
    one = found(*np.zeros(9))
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    assert strangeness(replace(one, points=2 * one.points @ turn + 0.3), one) < 1e-6
    assert strangeness(found(*np.zeros(9), seed=1), one) > 0.5
    flat = replace(one, points=np.zeros((9, 2)))
    assert strangeness(flat, one) == 1


def test_what_does_nothing_leaves_the_source_its_shape() -> None:
    still = {name: np.zeros(shape) for name, shape in disentangled_shapes(3).items()}
    source, driving = framed(found(0.1, 0.2, 0.3)), framed(found(1, 2, 3, seed=1))
    made = disentangled(still, source, driving)
    assert np.allclose(made.points, source.points)
    assert np.allclose(aligned(made, source.jacobians).jacobians, source.jacobians)


@pytest.mark.usefixtures("always_a_face")
@pytest.mark.parametrize("mode", ["relative", "standard", "disentangled"])
def test_graphs_and_layers_make_the_same_clip(
    mode: str, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_graphs, note = animate(FRAMES, weights=small, mode=mode)
    assert note.endswith("was trained on rendered faces alone, at 64 pixels")
    fomm._engine.cache_clear()

    def refuse(*_: object) -> None:
        raise GraphError("no graphs today")

    monkeypatch.setattr(fomm, "build_graphs", refuse)
    monkeypatch.setattr(fomm, "graph_folder", lambda *_, **__: Path("none"))
    by_layers, note = animate(FRAMES, weights=small, mode=mode)
    assert "layer by layer" in note
    # Random networks turn roundings of the regions into more than a step here and there.
    apart = np.abs(by_graphs.astype(int) - by_layers)
    assert np.quantile(apart, 0.999) <= 2 and apart.max() < 16
    assert np.abs(by_graphs[1:].astype(int) - by_graphs[0]).max() > 20


@pytest.mark.usefixtures("always_a_face")
def test_modes_differ_as_they_say(small: str) -> None:
    clips = {
        mode: animate([SOURCE.image, *FRAMES], weights=small, mode=mode)[0].astype(int)
        for mode in ("relative", "standard", "disentangled")
    }
    # The source is the reference: relative motion puts it where standard motion does.
    assert np.abs(clips["relative"][0] - clips["standard"][0]).max() <= 1
    assert np.abs(clips["disentangled"] - clips["standard"]).max() > 20
    later = animate(FRAMES, weights=small)[0].astype(int)
    assert np.abs(later[0] - clips["relative"][0]).max() <= 1
    assert np.abs(later[1:] - clips["standard"][2:]).max() > 20


def test_frames_without_a_face_repeat_the_one_before_and_are_counted(
    small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of the reference; then whether a frame shows a face, and how far the source's would go.
    answers = iter([0.0, *(0.0, 0.0), *(0.0, 0.4), 1.0, *(0.2, 0.45), *(0.5, 0.0)])
    monkeypatch.setattr(_fomm_layout, "strangeness", lambda *_: next(answers))
    clip, note = animate(FRAMES, weights=small)
    assert np.array_equal(clip[2], clip[1]) and np.array_equal(clip[3], clip[1])
    assert not np.array_equal(clip[4], clip[1])
    assert "repeat the one before: 2" in note


def test_a_driving_that_begins_without_a_face_is_refused(
    small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_fomm_layout, "strangeness", lambda *_: 1.0)
    with pytest.raises(NoFaceError, match="moving: no face like those it was trained on"):
        animate(FRAMES, weights=small)


def test_weights_of_another_method_are_refused_in_a_line(small: str) -> None:
    with pytest.raises(StudyError, match=r"synth-256 is a checkpoint for the method fomm: name"):
        animate(FRAMES, weights="synth-256")
    method = create_method("fomm", device="cpu", weights=small)
    with pytest.raises(StudyError, match=r"a checkpoint for the method regions: name it there"):
        method.prepare(SOURCE)


def test_other_tensors_than_those_that_separate_shape_from_pose_are_refused(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    apart = {k: v for k, v in checkpoint.networks["disentangled"].items() if k != "pose.2.bias"}
    broken = replace(checkpoint, networks={**checkpoint.networks, "disentangled": apart})
    checkpoint_files.save(broken, tmp_path / "broken.safetensors")
    with pytest.raises(StudyError, match=r"disentangled has no tensor pose.2.bias \(128,\)"):
        animate(FRAMES, weights=str(tmp_path / "broken.safetensors"), mode="disentangled")


def test_a_checkpoint_of_a_network_that_no_method_knows_is_refused(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    newer = replace(checkpoint, config={**checkpoint.config, "network": "newer"})
    checkpoint_files.save(newer, tmp_path / "newer.safetensors")
    with pytest.raises(StudyError, match=r"no method knows its network newer"):
        animate(FRAMES, weights=str(tmp_path / "newer.safetensors"))
