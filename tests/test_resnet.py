"""The method resnet: the face's square, ten keypoints in it, and what it refuses."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from skimage.data import astronaut

from studykit.errors import GraphError, NoFaceError, StudyError
from studykit.media.views import Driving, Source
from studykit.methods import (
    _fomm_layout,
    _resnet_network as network,
    checkpoint_files,
    create_method,
    fomm,
    resnet,
)
from studykit.methods._fomm_landmarks import KEYPOINTS
from studykit.methods._fomm_layout import strangeness
from studykit.methods._fomm_motion import Keypoints
from studykit.methods._resnet_crop import (
    EVERY,
    WHOLE,
    box_map,
    boxes,
    cropped,
    face_box,
    steady,
    within,
)
from studykit.methods.random_weights import astronaut_frames, random_checkpoint
from tests.resnet_faces import RESNET, STORED, detector_tensors, images

pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence")  # in ppgan's docstrings

FRAMES = astronaut_frames(5)
SOURCE = Source("astronaut", FRAMES[3])
LOST = np.full(3, np.nan)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    checkpoint_files.save(random_checkpoint(RESNET), path)
    return str(path)


@pytest.fixture(autouse=True)
def no_engines() -> None:
    fomm._engine.cache_clear()


@pytest.fixture
def always_a_face(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random networks find keypoints anywhere."""
    for name in ("_MOST_STRANGE", "_MOST_STRANGE_START", "_MOST_BENT"):
        monkeypatch.setattr(_fomm_layout, name, 1.1)
    monkeypatch.setattr(resnet, "_MOST_SPREAD", 9.0)


def see(monkeypatch: pytest.MonkeyPatch, box: np.ndarray) -> None:
    """Have the cascade find this in every frame of a driving."""
    monkeypatch.setattr("studykit.methods._resnet_crop.face_box", lambda frame: box)


def animate(frames: list[np.ndarray], **settings: object) -> tuple[np.ndarray, str]:
    method = create_method("resnet", device="cpu", **settings)
    state = method.prepare(SOURCE)
    driving = Driving("moving", lambda: iter(frames), Fraction(25), len(frames))
    return np.stack(list(method.animate(state, driving))), method.notes(state)


def test_ten_keypoints_are_the_renderers() -> None:
    assert len(set(network.KEYPOINTS)) == 10 and set(network.KEYPOINTS) <= set(KEYPOINTS)


def test_the_full_encoder_is_a_resnet_18() -> None:
    """Its parameters are as many as torchvision's without the classifier."""
    layers = network.encoder_layers(64, 512)
    count = sum(
        2 * layer[0] if len(layer) == 1 else layer[0] * layer[1] * layer[2] ** 2
        for layer in layers.values()
    )
    assert count == 11_689_512 - 513_000
    assert layers["conv1"] == (3, 64, 7, 2) and layers["layer1.0.conv1"] == (64, 64, 3, 1)
    assert layers["layer2.0.downsample.0"] == (64, 128, 1, 2)
    assert "layer1.0.downsample.0" not in layers and layers["layer4.1.bn2"] == (512,)


def test_the_square_around_a_face_holds_it_and_little_else() -> None:
    picture = astronaut()[:400, 40:440]
    left, top, side = face_box(picture) * 400
    assert left < 145 and left + side > 225 and top < 60 and top + side > 175  # her face
    assert 150 < side < 250


@pytest.mark.parametrize("picture", ["black", "noise"])
def test_no_square_is_found_where_there_is_no_face(picture: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256 if picture == "noise" else 1, (256, 256, 3), np.uint8)
    assert np.isnan(face_box(image)).all()


def test_a_square_lies_within_the_image() -> None:
    found = within(np.array([[0.1, 0.9, 0.5], [0.5, 0.5, 1.4], [0.5, 0.4, 0.5]]))
    assert np.allclose(found, [[0, 0.5, 0.5], WHOLE, [0.25, 0.15, 0.5]])


def test_a_clip_has_one_square_that_strays_do_not_move(monkeypatch: pytest.MonkeyPatch) -> None:
    face, stray = np.array([0.2, 0.1, 0.6]), np.array([0.0, 0.7, 0.3])
    assert np.array_equal(steady([face, LOST, stray, face, face]), face)
    assert steady([LOST, LOST]) is WHOLE
    see(monkeypatch, face)
    seen = np.isfinite(list(boxes([FRAMES[0]] * (2 * EVERY)))).all(1)
    assert seen.tolist() == 2 * [True, *[False] * (EVERY - 1)]


def test_places_in_a_square_are_places_in_the_image() -> None:
    """A spot's own place, and that of the same spot seen in the crop."""
    grid, box = 32, np.array([0.25, 0.125, 0.5])

    def middle(image: np.ndarray) -> np.ndarray:
        heat = image[..., 0].reshape(grid, 2, grid, 2).mean((1, 3))
        line = np.linspace(-1, 1, grid)
        return np.array([heat.sum(0) @ line, heat.sum(1) @ line]) / heat.sum()

    y, x = np.mgrid[0:64, 0:64]
    spot = np.exp(-((x - 36.5) ** 2 + (y - 20) ** 2) / 18)[..., None].repeat(3, 2)
    image = np.rint(255 * spot).astype(np.uint8)
    share, shift = box_map(box, grid)
    assert np.allclose(share * middle(cropped(image, box)) + shift, middle(image), atol=5e-3)
    assert np.array_equal(cropped(image, WHOLE), image)
    share, shift = box_map(WHOLE, grid)
    assert share == 1 and not shift.any()


@pytest.mark.usefixtures("always_a_face")
def test_weights_that_do_not_say_their_size_take_images_as_they_are(
    small: str, tmp_path: Path
) -> None:
    unsized = {key: value for key, value in RESNET.items() if key != "size"}
    checkpoint_files.save(random_checkpoint(unsized), tmp_path / "unsized.safetensors")
    frames, _ = animate(FRAMES[:2], weights=str(tmp_path / "unsized.safetensors"))
    assert np.array_equal(frames, animate(FRAMES[:2], weights=small)[0])


@pytest.mark.usefixtures("always_a_face")
def test_graphs_and_layers_make_the_same_clip(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by_graphs, note = animate(FRAMES, weights=small)
    assert note.startswith("small.safetensors was trained on rendered faces alone")
    assert "layer by layer" not in note
    fomm._engine.cache_clear()

    def refuse(*_: object) -> None:
        raise GraphError("no graphs today")

    monkeypatch.setattr(fomm, "build_graphs", refuse)
    monkeypatch.setattr(fomm, "graph_folder", lambda *_, **__: Path("none"))
    by_layers, note = animate(FRAMES, weights=small)
    assert "layer by layer" in note
    apart = np.abs(by_graphs.astype(int) - by_layers)
    assert np.quantile(apart, 0.999) <= 2 and apart.max() < 16
    assert np.abs(by_graphs[1:].astype(int) - by_graphs[0]).max() > 20


@pytest.mark.usefixtures("always_a_face")
def test_paddle_finds_what_pytorch_found_when_it_was_stored(tmp_path: Path) -> None:
    made = random_checkpoint(RESNET)
    made = replace(made, networks={**made.networks, "kp_detector": detector_tensors()})
    checkpoint_files.save(made, tmp_path / "stored.safetensors")
    method = create_method("resnet", device="cpu", weights=str(tmp_path / "stored.safetensors"))
    frames = images()
    engine = method.prepare(Source("first", frames[0])).engine
    found = np.stack([engine.keypoints([frame])[0].points for frame in frames])
    with np.load(STORED) as content:
        stored = content["points"]
    assert len(stored) == 16 and stored.std(0).max() > 0.02
    assert np.abs(found - stored).max() < 1e-3


@pytest.mark.usefixtures("always_a_face")
def test_relative_motion_counts_from_the_reference_and_other_motion_does_not(
    small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    see(monkeypatch, LOST)
    monkeypatch.setattr(resnet, "face_box", lambda frame: LOST)
    clips = {
        relative: animate([SOURCE.image, *FRAMES], weights=small, relative=relative)[0].astype(int)
        for relative in (True, False)
    }
    # The source is the reference: relative motion puts it where other motion does.
    assert np.abs(clips[True][0] - clips[False][0]).max() <= 1
    later = animate(FRAMES, weights=small)[0].astype(int)
    assert np.abs(later[0] - clips[True][0]).max() <= 1
    assert np.abs(later[1:] - clips[False][2:]).max() > 20


@pytest.mark.usefixtures("always_a_face")
def test_keypoints_are_sought_in_the_faces_square_and_a_note_says_where_none_is(
    small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    find = resnet._Crop.keypoints

    def keypoints(self: resnet._Crop, frames: list[np.ndarray]) -> list[Keypoints]:
        seen.append(self.box)
        return find(self, frames)

    monkeypatch.setattr(resnet._Crop, "keypoints", keypoints)
    closer = np.array([0.1, 0.2, 0.7])
    see(monkeypatch, closer)
    monkeypatch.setattr(resnet, "face_box", lambda frame: LOST)
    _, note = animate(FRAMES, weights=small)
    assert seen[0] is WHOLE and all(np.array_equal(box, closer) for box in seen[1:])
    assert "whole square" not in note
    see(monkeypatch, LOST)
    _, note = animate(FRAMES, weights=small)
    assert "keypoints sought in the whole square: no face found" in note


@pytest.mark.usefixtures("always_a_face")
def test_frames_without_a_face_repeat_the_one_before_and_are_counted(
    small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(
        [0.0, *[0.0] * 4, 2.0, 2.0, 0.0, 0.0]
    )  # the reference, five frames, their motion
    monkeypatch.setattr(_fomm_layout, "strangeness", lambda *_: next(answers))
    clip, note = animate(FRAMES, weights=small)
    assert np.array_equal(clip[2], clip[1]) and np.array_equal(clip[3], clip[1])
    assert not np.array_equal(clip[4], clip[1])
    assert note.endswith("repeat the one before: 2")


def test_keypoints_whose_maps_are_spread_are_no_faces() -> None:
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (10, 2)).astype(np.float32)
    sharp = Keypoints(points, np.tile(np.eye(2) * 0.05**2, (10, 1, 1)))
    assert np.array_equal(resnet._certain(sharp).points, points)
    blurred = replace(sharp, jacobians=sharp.jacobians * 16)
    assert not resnet._certain(blurred).points.any()
    assert strangeness(resnet._certain(blurred), sharp) == 1
    one = sharp.jacobians.copy()
    one[3] *= 16
    assert resnet._certain(replace(sharp, jacobians=one)).points.any()


def test_a_source_without_a_face_is_refused(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resnet, "_MOST_SPREAD", 0.0)
    with pytest.raises(NoFaceError, match="astronaut: no face like those it was trained on: choo"):
        animate(FRAMES, weights=small)


@pytest.mark.usefixtures("always_a_face")
def test_a_driving_that_begins_without_a_face_is_refused(
    small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_fomm_layout, "strangeness", lambda *_: 2.0)
    with pytest.raises(NoFaceError, match="moving: no face like those it was trained on"):
        animate(FRAMES, weights=small)


def test_weights_of_another_method_are_refused_in_a_line(small: str) -> None:
    with pytest.raises(StudyError, match=r"synth-256 is a checkpoint for the method fomm: name"):
        animate(FRAMES, weights="synth-256")
    method = create_method("fomm", device="cpu", weights=small)
    with pytest.raises(StudyError, match=r"a checkpoint for the method resnet: name it there"):
        method.prepare(SOURCE)


def test_an_encoder_of_another_size_is_refused_in_a_line(tmp_path: Path) -> None:
    made = random_checkpoint(RESNET)
    wider = {**RESNET, "kp_detector_cfg": {**RESNET["kp_detector_cfg"], "block_expansion": 6}}
    checkpoint_files.save(replace(made, config=wider), tmp_path / "wider.safetensors")
    with pytest.raises(StudyError, match=r"is a checkpoint for another network: .*encoder.conv1"):
        animate(FRAMES, weights=str(tmp_path / "wider.safetensors"))
