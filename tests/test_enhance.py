"""``enhance``: any method's frames, cleaned or enlarged, as a condition of a study."""

import dataclasses
import itertools
import json
import pickle
from fractions import Fraction

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from studykit import cli
from studykit.clips.animate import animate_cells
from studykit.clips.check import check_study
from studykit.clips.folder import study_folder
from studykit.clips.provenance import cache_keys, equip_all, method_settings, with_settings
from studykit.errors import StudyError, StudyFileError, WeightsError
from studykit.media import video
from studykit.media.views import Driving, Source
from studykit.methods import checkpoint_files, create_method, enhance, weights
from studykit.methods._fomm_runtime import batched
from studykit.methods.random_weights import SMALL, astronaut_frames, random_checkpoint
from studykit.metrics.temporal import flow_warping_error
from studykit.study.file import load_study
from tests import activations
from tests.checkpoints import enhance_checkpoint

SIZE = 64


def ship(folder, checkpoint):
    """Have the package ship these weights as enhance-256, and no others."""
    path = folder / enhance.WEIGHTS / "weights.safetensors"
    checkpoint_files.save(checkpoint, path)
    path.with_name("checkpoint.json").write_text(json.dumps({"sha256": weights.sha256(path)}))
    return path


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "SHIPPED", tmp_path / "shipped")
    return ship(weights.SHIPPED, enhance_checkpoint())


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("enhance") / "random.safetensors"
    checkpoint_files.save(enhance_checkpoint(), path)
    return str(path)


@pytest.fixture(scope="module")
def idle(tmp_path_factory):
    """A network that changes nothing, as training begins."""
    path = tmp_path_factory.mktemp("enhance") / "idle.safetensors"
    checkpoint_files.save(enhance_checkpoint(strength=0), path)
    return str(path)


def enhanced(frames, scale, network, method="copy", **settings):
    made = enhance.Enhanced(create_method(method, **settings), scale, network)
    state = made.prepare(Source("her", frames[0]))
    driving = Driving("moving", lambda: frames, Fraction(25), len(frames))
    return np.stack(list(made.animate(state, driving)))


@pytest.mark.parametrize("side", [64, 72])
def test_a_network_that_adds_nothing_leaves_frames_as_they_are(idle, side):
    frames = astronaut_frames(2, side)
    assert np.array_equal(enhanced(frames, 1, idle), np.repeat(frames[:1], 2, axis=0))


def test_what_a_frame_shows_unmoved_is_taken_from_the_source(tmp_path):
    path = tmp_path / "sure.safetensors"
    checkpoint_files.save(enhance_checkpoint(strength=0, taken=40), path)
    source, other = astronaut_frames(2, SIZE)
    for scale in (1, 2):  # at its own resolution, too
        engine = enhance._engine(str(path), weights.sha256(path), SIZE // scale, scale, 1)
        frame = other if scale == 1 else enhance._half(other)
        assert np.array_equal(engine.beside(source)(frame), source)


def test_a_doubled_frame_is_the_half_one_enlarged_where_nothing_is_added(idle):
    (frame,) = astronaut_frames(1, SIZE)
    made = enhanced([frame], 2, idle)[0]
    half = np.asarray(Image.fromarray(frame).reduce(2))
    again = np.asarray(Image.fromarray(half).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    assert made.shape == frame.shape
    assert np.abs(made.astype(float) - again).mean() < 2  # of 255: Pillow's kernel is softer


@pytest.mark.parametrize("scale", [1, 2])
def test_the_graph_adds_what_the_layers_add(network, scale):
    import paddle

    from studykit.methods._enhance_graph import EnhanceGraph

    pair = np.random.default_rng(0).random((2, 1, 3, 64, 64)).astype(np.float32)
    layers = EnhanceGraph(enhance.load(network).networks["enhance"], scale)
    wanted = layers(*map(paddle.to_tensor, pair))
    found = enhance._engine(network, weights.sha256(network), 64, scale, 1).maps(*pair)
    assert found.shape == (1, 4, 64 * scale, 64 * scale)
    assert np.abs(found).max() > 0.01
    assert np.abs(found - wanted.numpy()).max() < 1e-4


def test_frames_differ_by_what_the_network_adds_and_are_the_same_every_time(network):
    frames = astronaut_frames(3, SIZE)
    first = enhanced(frames, 1, network)
    assert np.abs(first.astype(float) - frames[0]).mean() > 1
    assert np.array_equal(first, enhanced(frames, 1, network))


def test_frames_pass_one_by_one(network):
    still = astronaut_frames(1, SIZE)[0]
    made = enhance.Enhanced(create_method("copy"), 1, network)
    endless = Driving("endless", lambda: itertools.repeat(still), Fraction(25), 10**9)
    frames = made.animate(made.prepare(Source("her", still)), endless)
    assert len(list(itertools.islice(frames, 3))) == 3


def test_a_method_keeps_all_that_is_its_own(network):
    for scale, any_square in ((1, True), (2, False)):
        made = pickle.loads(pickle.dumps(enhance.Enhanced(create_method("warp"), scale, network)))
        assert made.strength == 1 and not hasattr(made, "weights_hash")
        assert made.any_square == any_square  # half of it must have the same view
        assert method_settings(made) == {**method_settings(create_method("warp")), "enhance": scale}
        assert with_settings(made, strength=0.5).strength == 0.5


def test_what_a_method_is_given_is_half_as_large_and_shows_the_same(idle):
    seen = {}

    class Looking:
        def prepare(self, source):
            seen["source"] = source
            return source.image

        def animate(self, state, driving):
            seen["driving"] = driving
            seen["reference"] = driving.reference_frame()
            yield from driving

    large = np.asarray(astronaut_frames(1, 2 * SIZE)[0])
    around = np.pad(large, ((SIZE // 2, SIZE // 2), (SIZE // 2, SIZE // 2), (0, 0)))
    made = enhance.Enhanced(Looking(), 2, idle)
    state = made.prepare(Source("her", large, around=around, face=(40.0, 20.0)))
    points = np.full((1, 70, 2), 31.5)
    driving = Driving("it", lambda: [large], Fraction(25), 1, key="k", points=points)
    (frame,) = made.animate(state, driving)
    source, half = seen["source"], seen["reference"]
    assert frame.shape == large.shape and half.shape == source.image.shape == (SIZE, SIZE, 3)
    edge = SIZE // 4
    assert source.around.shape == (SIZE + 2 * edge, SIZE + 2 * edge, 3)
    assert np.array_equal(source.around[edge:-edge, edge:-edge], source.image)
    assert source.face == (20.0, 10.0)
    assert seen["driving"].points[0, 0].tolist() == [15.5, 15.5]  # the same place between pixels
    assert seen["driving"].key not in ("", "k")


@pytest.mark.parametrize("value", [3, -1, 1.0, "1", None, [1]])
def test_another_value_is_refused_in_one_line(value):
    with pytest.raises(StudyFileError, match=r'"enhance" must be 1 \(clean\) or 2') as error:
        create_method("warp", enhance=value)
    assert "\n" not in str(error.value)


def test_it_is_left_out_by_0_and_no_and_cleans_by_yes():
    assert create_method("copy", enhance=0) == create_method("copy", enhance=False)
    assert create_method("copy", enhance=True) == enhance.Enhanced(create_method("copy"), 1)
    assert create_method("copy", enhance=0) == create_method("copy")


def test_a_size_that_can_not_be_halved_is_refused(idle):
    with pytest.raises(StudyError, match="multiples of 8, not 68: set the study's size"):
        enhanced(astronaut_frames(1, 68), 2, idle)


def test_other_weights_are_refused(tmp_path):
    path = tmp_path / "fomm.safetensors"
    checkpoint_files.save(random_checkpoint(SMALL), path)
    with pytest.raises(WeightsError, match="is a checkpoint for the method fomm"):
        enhanced(astronaut_frames(1, SIZE), 1, str(path))


def test_a_graph_that_was_damaged_is_made_again(network, tmp_path, monkeypatch):
    monkeypatch.setenv("STUDYKIT_CACHE", str(tmp_path))
    enhance._engine.cache_clear()
    frames = astronaut_frames(1, SIZE)
    first = enhanced(frames, 1, network)
    for path in tmp_path.rglob("paint.*"):
        path.write_bytes(b"damaged")
    enhance._engine.cache_clear()
    assert np.array_equal(enhanced(frames, 1, network), first)


FOLDER = weights.SHIPPED / enhance.WEIGHTS


@pytest.mark.parametrize("scale", [1, 2])
def test_paddle_computes_what_torch_computed_when_the_activations_were_stored(scale):
    with np.load(activations.stored(enhance.WEIGHTS)) as content:
        stored, digest = content[f"times{scale}"], content["sha256"]
    assert digest == weights.sha256(weights.locate(enhance.WEIGHTS)), (
        "another checkpoint is shipped: python -m tests.activations"
    )
    engine, every = enhance.enhancer(enhance.WEIGHTS, 256, scale), 2 * activations.EVERY * scale
    images = activations.frames()
    assert len(images) == len(stored) == 16
    for image, wanted in zip(images, stored, strict=True):
        found = engine.maps(batched(image), batched(images[0]))[0]
        assert np.abs(found[:, ::every, ::every] - wanted).max() < 1e-3


def test_the_folder_holds_all_that_belongs_to_the_checkpoint():
    held = {path.name for path in FOLDER.iterdir()}
    assert {"weights.safetensors", "checkpoint.json", "recipe.yaml", "log.jsonl"} <= held
    assert {"MODEL_CARD.md", "benchmark-256.json", "same.jpg", "photographs.jpg"} <= held
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 4e6
    card = (FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert weights.sha256(FOLDER / "weights.safetensors") in card and "$" not in card
    for word in ("licence", "Limits", "must not be used"):
        assert word in card


def test_measured_frames_gained_and_flicker_no_more():
    measured = json.loads((FOLDER / "benchmark-256.json").read_text())
    for row in measured["enhanced"]:
        assert row["L1, enhanced"] < row["L1"], row
    for row in measured["temporal"]:
        assert row["flicker, enhanced"] <= row["flicker"], row
        # What is sharper differs more where a background is uncovered: the truth's own is a bound.
        most = max(row["flow-warping error"], row["flow-warping error, truth"])
        assert row["flow-warping error, enhanced"] <= most, row


def unsteadiness(clip):
    return np.mean([flow_warping_error(*pair) for pair in itertools.pairwise(clip)])


def test_a_noisy_film_flickers_less_and_a_bad_network_shows_in_the_figure(network):
    (still,) = astronaut_frames(1, 128)
    rng = np.random.default_rng(0)
    film = [still]
    for _ in range(3):
        film.append((still + rng.normal(0, 6, still.shape)).clip(0, 255).astype(np.uint8))

    def better(weights):
        return [enhance.enhancer(weights, 128, 1).beside(still)(frame) for frame in film]

    assert unsteadiness(better(enhance.WEIGHTS)) < 0.8 * unsteadiness(film)
    assert unsteadiness(better(network)) > unsteadiness(film)


METHODS = """methods:
  - copy
  - {name: clean, method: copy, enhance: 1}
  - {name: large, method: copy, enhance: 2}
  - {name: theirs, method: folder, path: made, enhance: yes}
"""


@pytest.fixture
def study(small_study, shipped):
    small_study.write_text(small_study.read_text().replace("methods: [copy]\n", METHODS))
    for driving, count in (("talk", 6), ("turn", 5)):
        for source in ("anna", "berta"):
            clip = small_study.parent / "made" / f"{source}__{driving}.mp4"
            video.write_video(clip, astronaut_frames(count, SIZE), frame_rate=Fraction(25))
    return load_study(small_study)


def test_it_is_a_condition_of_a_study_with_clips_notes_and_settings_of_its_own(study, tmp_path):
    out = study_folder(study, tmp_path / "out")
    rows = {row.cell: row for row in animate_cells(study, out)}
    assert len(rows) == 16 and {row.status for row in rows.values()} == {"done"}
    clips = {}
    for name in ("copy", "clean", "large", "theirs"):
        row = rows[f"anna__talk__{name}"]
        clips[name] = np.stack(list(video.read_frames(out / row.clip)))
        assert clips[name].shape == (6, SIZE, SIZE, 3)
        assert ("enhanced by enhance-256" in row.note) == (name != "copy")
        assert ("half the size" in row.note) == (name == "large")
    for name in ("clean", "large"):
        assert np.abs(clips[name].astype(float) - clips["copy"]).mean() > 1
    methods = json.loads((out / "manifest.json").read_text())["methods"]
    assert methods["large"]["settings"] == {"enhance": 2}
    assert methods["theirs"]["settings"]["relative"] is True


def test_clips_are_made_again_when_its_weights_change_and_no_others_are(study, shipped):
    def keys():
        key = cache_keys(study, equip_all(study))
        return {cell.name: key(cell) for cell in study.cells()}

    before = keys()
    assert all(before.values()) and len(set(before.values())) == len(before)
    ship(weights.SHIPPED, enhance_checkpoint(seed=1))
    after = keys()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name in before if not name.endswith("__copy")}


def test_check_says_the_line_of_a_wrong_value_and_what_lacks(study):
    study.path.write_text(study.path.read_text().replace("enhance: 2", "enhance: 4"))
    (text,) = [p.text for p in check_study(study.path) if p.level == "error"]
    assert text.startswith("line 10: ") and "must be 1 (clean) or 2 (enlarge), not 4" in text
    (study.path.parent / "made" / "anna__turn.mp4").unlink()
    assert any("no clip anna__turn.mp4" in problem.text for problem in check_study(study.path))


def test_the_command_line_takes_it(study, tmp_path):
    clip, folder = tmp_path / "clip.mp4", study.path.parent
    asked = [str(folder / "anna.png"), str(folder / "talk.mp4"), "-o", str(clip)]
    asked += ["--method", "copy", "--crop", "centre", "--size", "64", "--enhance"]
    result = CliRunner().invoke(cli.studykit_command, ["animate", *asked, "2"])
    assert result.exit_code == 0 and "from half the size" in result.output
    assert video.probe(clip).width == 64
    assert CliRunner().invoke(cli.studykit_command, ["animate", *asked, "3"]).exit_code == 2


def test_the_face_in_a_whole_picture_is_enhanced(study, tmp_path):
    clip, folder = tmp_path / "clip.mp4", study.path.parent
    asked = [str(folder / "anna.png"), str(folder / "talk.mp4"), "-o", str(clip), "--paste"]
    asked += ["--method", "copy", "--max-frames", "2", "--enhance", "1"]
    result = CliRunner().invoke(cli.studykit_command, ["animate", *asked])
    assert result.exit_code == 0 and "enhanced by enhance-256" in result.output
    assert video.probe(clip).width == 400


def test_a_program_that_is_enhanced_keeps_its_version(monkeypatch):
    made = create_method("command", run="python x", version="python --version", enhance=1)
    assert made.at_once and dataclasses.is_dataclass(made)
    assert made.version_used().startswith("Python 3")
