"""Checkpoints in the package: found without a network, whole, and PaddleGAN's to the letter."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from studykit.cli import main
from studykit.errors import StudyError, WeightsError
from studykit.media.views import Driving, Source
from studykit.methods import (
    _sparse_network as network,
    checkpoint_files,
    create_method,
    sparse,
    weights,
)
from studykit.methods._fomm_motion import Keypoints
from studykit.methods._region_motion import aligned, framed, steadied
from studykit.methods.random_weights import SMALL, random_checkpoint
from tests import activations, sparse_faces
from tests.checkpoints import small_config
from tests.sparse_faces import face_pairs

FOLDER = weights.SHIPPED / weights.DEFAULT
NAMES = ("regions-256", "resnet-256", "sparse-256", "synth-256")
LIMIT, LIMIT_OF_ALL = 18e6, 40e6  # bytes


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A package that ships a small checkpoint of 64 pixels, and no other."""
    folder = tmp_path / "checkpoints" / "small-64"
    made = random_checkpoint({**small_config(), "size": 64, "trained_on": "rendered faces"})
    checkpoint_files.save(made, folder / "weights.safetensors")
    record = {"sha256": weights.sha256(folder / "weights.safetensors")}
    (folder / "checkpoint.json").write_text(json.dumps(record))
    monkeypatch.setattr(weights, "SHIPPED", folder.parent)
    return folder


def stored_activations(name):
    with np.load(activations.stored(name)) as content:
        stored = {key: content[key] for key in content.files}
    assert stored["sha256"] == weights.sha256(weights.locate(name)), (
        "another checkpoint is shipped: python -m tests.activations"
    )
    return stored


def clip_of(frames, **settings):
    method = create_method("fomm", device="cpu", keypoints="network", **settings)
    driving = Driving("moving", lambda: frames, Fraction(25), len(frames))
    state = method.prepare(Source("first", frames[0]))
    return np.stack(list(method.animate(state, driving))), method.notes(state)


def test_the_default_needs_no_network_and_no_name(monkeypatch):
    monkeypatch.setattr(weights, "_fetch", None)
    assert create_method("fomm").weights == weights.DEFAULT in weights.names()
    assert weights.locate(weights.DEFAULT) == FOLDER / "weights.safetensors"
    assert create_method("fomm").weights_hash() == weights.sha256(FOLDER / "weights.safetensors")


def test_all_that_is_shipped_is_named_and_small():
    assert tuple(weights._shipped()) == ("enhance-256", *NAMES)  # see test_enhance.py
    sizes = [path.stat().st_size for path in weights.SHIPPED.glob("*/weights.safetensors")]
    assert sum(sizes) < LIMIT_OF_ALL


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_holds_all_that_belongs_to_a_checkpoint(name):
    folder = weights.SHIPPED / name
    held = {path.name for path in folder.iterdir()}
    assert {"weights.safetensors", "checkpoint.json", "recipe.yaml", "log.jsonl"} <= held
    assert {"MODEL_CARD.md", "same.jpg", "cross.jpg", "photographs.jpg"} <= held
    assert sum(path.stat().st_size for path in folder.iterdir()) < LIMIT
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert weights.sha256(folder / "weights.safetensors") in card and "$" not in card
    method = f"| {weights.family(name)}"
    for word in ("licence", "Limits", "must not be used", "Photographs", method, "| warp"):
        assert word in card


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_beside_it_makes_these_networks(name):
    from studykit.training.recipe import read_recipe

    folder = weights.SHIPPED / name
    recipe, settings = read_recipe(folder / "recipe.yaml"), weights.stored_settings(name)
    assert recipe.name == name and recipe.data.size == settings["size"]
    assert recipe.settings == {key: settings[key] for key in recipe.settings}
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] >= json.loads((folder / "checkpoint.json").read_text())["step"]


def test_a_shipped_checkpoint_is_listed_first_and_not_in_the_cache(stand_in, capsys):
    assert weights.names() == ["small-64", "vox-256", "vox-512", "vox-mobile"]
    first = weights.status()[0]
    assert (first.name, first.address, first.cached) == ("small-64", "", True)
    assert (
        first.path == stand_in / "weights.safetensors" and first.size == first.path.stat().st_size
    )
    with pytest.raises(SystemExit):
        main(["weights", "list"])
    assert "small-64    shipped, 1 MB" in capsys.readouterr().out


def test_a_shipped_checkpoint_that_was_changed_is_refused(stand_in):
    checkpoint_files.save(random_checkpoint(SMALL, seed=1), stand_in / "weights.safetensors")
    with pytest.raises(WeightsError, match="not the file that was shipped as small-64: reinstall"):
        weights.locate("small-64")
    (stand_in / "checkpoint.json").unlink()
    with pytest.raises(WeightsError, match=r"checkpoint.json is missing or damaged: reinstall"):
        weights.locate("small-64")


def test_its_settings_are_told_without_its_tensors(stand_in):
    settings = weights.stored_settings("small-64")
    assert settings == weights.load("small-64").config == weights.published_config("small-64")
    assert settings["size"] == 64 and settings["trained_on"] == "rendered faces"


def test_the_clips_note_says_what_the_weights_know_and_how_to_get_others(stand_in):
    _, note = clip_of(activations.frames(64)[:2], weights="small-64")
    assert note.startswith("small-64 was trained on rendered faces alone, at 64 pixels: ")
    assert "studykit weights fetch vox-256" in note and "\n" not in note


@pytest.mark.parametrize("side", [64, 128, 192])
def test_motion_is_found_on_the_grid_of_training_at_any_size(stand_in, side):
    from studykit.methods._fomm_dygraph import load_networks

    network = load_networks("small-64", None, "cpu", side).generator.dense_motion_network
    assert (
        int(side * network.scale_factor)
        == 64 * SMALL["generator_cfg"]["dense_motion_params"]["scale_factor"]
    )
    frames = activations.frames(side)[:3]
    clip, _ = clip_of(frames, weights="small-64")
    assert clip.shape == (3, side, side, 3)


def test_a_size_that_the_grid_does_not_divide_is_refused_in_one_line(stand_in):
    with pytest.raises(StudyError, match=r"small-64 takes images whose sides are multiples of \d+"):
        clip_of(activations.frames(90)[:2], weights="small-64")


def test_larger_images_move_alike_and_stay_sharper():
    from PIL import Image

    def scaled(images, side):
        return [np.asarray(Image.fromarray(i).resize((side, side), 1)) for i in images]

    large, method = activations.frames(256)[::5], create_method("fomm", device="cpu")
    found, errors = [], []
    for side in (128, 256):
        frames = scaled(large, side)
        state = method.prepare(Source("first", frames[0]))
        found.append(np.array([state.engine.keypoints([frame])[0].points for frame in frames]))
        still = state.engine.paint(state.source, [state.source.keypoints])
        errors.append(np.abs(scaled(still, 256)[0].astype(float) - large[0]).mean())
    moved = np.abs(found[0] - found[0][0])[1:].mean()
    assert np.abs(found[1] - found[0]).mean() < 0.2 * moved
    assert errors[1] < 0.9 * errors[0]


def test_the_blur_of_another_size_is_left_to_the_networks(stand_in):
    checkpoint = weights.load("small-64")
    assert "down.weight" in checkpoint.kp_detector
    larger = checkpoint_files.at_size(checkpoint, 128)
    for tensors in larger.networks.values():
        assert tensors and not [name for name in tensors if name.endswith("down.weight")]


@pytest.mark.parametrize("name", [name for name in NAMES if weights.family(name) != "sparse"])
def test_paddle_computes_what_torch_computed_when_the_activations_were_stored(name):
    stored = stored_activations(name)
    frames, family = activations.frames(), weights.family(name)
    method = create_method(family, weights=name, device="cpu")
    engine = method.prepare(Source("first", frames[0])).engine
    found = [engine.keypoints([frame])[0] for frame in frames]
    assert len(found) == 16
    assert np.abs([kp.points for kp in found] - stored["points"]).max() < 1e-3
    if family == "resnet":  # its covariances move nothing
        found = [Keypoints(own.points) for own in found]
    else:
        jacobians = np.abs([kp.jacobians for kp in found] - stored["jacobians"])
        assert jacobians.max() < 1e-3 * np.abs(stored["jacobians"]).max()
    if family == "regions":
        found = [framed(own) for own in found]
        found = [steadied(aligned(own, found[0].jacobians), found[0]) for own in found]
    source = replace(engine.encode(frames[0]), keypoints=found[0])
    made = np.stack(engine.paint(source, found)) / 255
    every = activations.EVERY
    # A picture is rounded to 1/255, what is stored to half precision.
    difference = np.abs(made[:, ::every, ::every] - stored["prediction"])
    assert difference.max() < 0.5 / 255 + 1e-3


def test_sparse_computes_what_torch_computed_when_the_activations_were_stored():
    stored, every = stored_activations("sparse-256"), activations.EVERY
    frames, digest = activations.frames(), weights.sha256(weights.locate("sparse-256"))
    engine = sparse._engine("sparse-256", digest, 256, 1)
    encoded, layers = engine.encode(frames[0]), sparse_faces.layers(weights.load("sparse-256"))
    found = np.array([engine.landmarks(frame) for frame in frames])
    assert np.abs(engine.shape.coordinates(found, 256) - stored["points"]).max() < 1e-3
    for index, pair in enumerate(zip(*face_pairs(len(frames), engine.shape), strict=True)):
        faces = network.faces(engine.shape, *(points[None] for points in pair))
        flow, logit, _ = sparse_faces.motion(layers, encoded[0], faces)
        assert np.abs(flow[:, ::every, ::every] - stored["flow"][index]).max() < 1e-3
        assert np.abs(logit[:, ::every, ::every] - stored["logit"][index]).max() < 2e-2
        made = engine.paint(*encoded, faces)[::every, ::every] / 255
        assert np.abs(made - stored["prediction"][index]).max() < 0.5 / 255 + 1e-3


def test_the_command_line_writes_what_paddlegan_reads(stand_in, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["weights", "convert", "small-64", "-o", str(tmp_path / "a.pdparams")])
    assert stop.value.code == 0
    again = weights.load(tmp_path / "a.pdparams", tmp_path / "a.yaml")
    first = weights.load("small-64")
    assert again.config == {
        k: v for k, v in first.config.items() if k not in ("size", "trained_on")
    }
    for name, tensor in first.generator.items():
        assert np.array_equal(again.generator[name], tensor)
