"""The trainer: its networks are PaddleGAN's, its data are true, and its runs can be repeated."""

import dataclasses
import itertools
import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.ndimage import map_coordinates

from studykit.errors import StudyError
from studykit.media.views import Driving, Source
from studykit.methods import checkpoint_files, weights
from studykit.training import data
from studykit.training.recipe import RECIPES, LossWeights, Phase, Recipe, read_recipe

STORED = Path(__file__).parent / "data" / "torch_fomm.safetensors"
SETTINGS = {
    "common_params": {"num_kp": 23, "num_channels": 3, "estimate_jacobian": True},
    "kp_detector_cfg": {
        "temperature": 0.1,
        "block_expansion": 4,
        "max_features": 8,
        "num_blocks": 2,
        "scale_factor": 0.5,
        "pad": 3,
        "single_jacobian_map": True,
    },
    "generator_cfg": {
        "block_expansion": 4,
        "max_features": 8,
        "num_down_blocks": 1,
        "num_bottleneck_blocks": 1,
        "estimate_occlusion_map": True,
        "dense_motion_params": {
            "block_expansion": 4,
            "max_features": 8,
            "num_blocks": 2,
            "scale_factor": 0.5,
            "kp_variance": 0.004,
        },
    },
}
SMALL = data.DataSettings(size=64, identities=3, at_start=2, per_step=0.25, frames=4)


@pytest.fixture(scope="session")
def rendered() -> dict[str, np.ndarray]:
    """A drawn identity: flat colours stay the same when the head turns."""
    seed = next(seed for seed in range(99) if data.kind_of(seed) == "drawn")
    return data.render_identity(seed, data.DataSettings(size=128, frames=6))


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with everything that a tiny run needs."""
    folder = tmp_path_factory.mktemp("cache")
    cache = data.Cache(folder, SMALL, held_out=2)
    data._render_share(folder, SMALL, cache.held_out_count, 0, 1)
    return folder


def tiny_recipe(**changes) -> Recipe:
    phases = (
        Phase("keypoints", 2, 2, (1e-3, 1e-3), ("kp_detector",)),
        Phase("joint", 4, 2, (1e-3, 1e-4), true_motion=(1.0, 0.0)),
    )
    settings = {"phases": phases, "data": SMALL, "held_out": 2, "log_steps": 1, "sheet_steps": 3}
    return Recipe("tiny", 5, **{**settings, **SETTINGS, **changes})


def moving_pattern(frame: int, size: int = 64) -> np.ndarray:
    """A smooth picture that drifts and turns with the frame, (S, S, 3) uint8."""
    y, x = np.mgrid[0:size, 0:size] / size
    turn = 0.02 * frame
    u, v = x * np.cos(turn) - y * np.sin(turn) + 0.01 * frame, x * np.sin(turn) + y * np.cos(turn)
    waves = [np.sin(9 * u + k) * np.cos(7 * v - 2 * k) for k in range(3)]
    return np.rint(127.5 + 127 * np.stack(waves, -1)).astype(np.uint8)


def shift(flow: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Sample an image where a flow of half its side points, in full pixels."""
    y, x = np.mgrid[0 : flow.shape[0], 0 : flow.shape[1]] * 2 + 0.5
    at = [y + flow[..., 1], x + flow[..., 0]]
    return np.stack([map_coordinates(image[..., c], at, order=1) for c in range(3)], -1)


def test_the_stored_flow_brings_the_source_to_the_driving(rendered):
    gains = []
    for (driving, source), flow, seen in zip(
        rendered["pairs"], rendered["flow"], rendered["seen"], strict=True
    ):
        seen = np.unpackbits(seen).reshape(64, 64).astype(bool)
        face = np.unpackbits(rendered["face"][driving]).reshape(128, 128)[::2, ::2].astype(bool)
        images = rendered["images"].astype(float)
        still = np.zeros_like(flow, float)
        truth = shift(still, images[driving])
        moved = abs(shift(flow / data.FLOW_SCALE, images[source]) - truth)[seen & face].mean()
        unmoved = abs(shift(still, images[source]) - truth)[seen & face].mean()
        gains.append(moved / unmoved)
    assert np.mean(gains) < 0.5


def test_keypoints_lie_on_the_face_where_their_names_say(rendered):
    points = dict(zip(data.KEYPOINTS, rendered["keypoints"][0], strict=True))
    assert points["crown"][1] < points["left brow"][1] < points["left iris"][1]
    assert points["left iris"][1] < points["nose tip"][1] < points["upper lip"][1]
    assert points["upper lip"][1] < points["chin"][1] < points["neck"][1]
    for side in ("left", "right"):
        lids = points[f"{side} upper lid"], points[f"{side} lower lid"]
        assert lids[0][1] < points[f"{side} iris"][1] < lids[1][1]
    assert points["left iris"][0] < points["nose bridge"][0] < points["right iris"][0]


def test_mirrored_keypoints_are_named_after_the_other_side():
    names = list(data.KEYPOINTS)
    swapped = {"left": "right", "right": "left"}
    for name, partner in zip(names, data.MIRRORED, strict=True):
        expected = " ".join(swapped.get(word, word) for word in name.split())
        assert names[partner] == expected


def test_an_identity_is_the_same_whenever_it_is_rendered():
    settings = dataclasses.replace(SMALL, frames=3)
    first, again = (data.render_identity(7, settings) for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_sources_are_near_neutral_and_the_rest_is_lively():
    states = [data.sample_states(seed, "frontal", 16) for seed in range(40)]
    expressions = [[expression for _, expression in one] for one in states]
    assert max(e.blink_left for one in expressions for e in one[:2]) == 0
    assert np.mean([e.blink_left > 0.3 for one in expressions for e in one[2:]]) > 0.2
    assert np.mean([e.mouth_open > 0.15 for one in expressions for e in one[2:]]) > 0.3


def test_training_never_reaches_the_held_out_seeds():
    assert data.DataSettings(identities=data.HELD_OUT).available(10**9) == data.HELD_OUT
    with pytest.raises(StudyError, match="held out"):
        data.DataSettings(identities=data.HELD_OUT + 1)


def test_the_pool_of_identities_depends_on_the_step_alone():
    settings = data.DataSettings(identities=100, at_start=10, per_step=0.5)
    assert [settings.available(step) for step in (0, 1, 2, 1000)] == [10, 10, 11, 100]


def test_a_cache_of_another_size_is_refused(filled):
    with pytest.raises(StudyError, match="name another"):
        data.Cache(filled, dataclasses.replace(SMALL, size=128), held_out=2)


def test_a_missing_identity_is_an_error_when_nothing_renders(tmp_path):
    with pytest.raises(StudyError, match="nothing renders it"):
        data.Cache(tmp_path, SMALL, held_out=0).identity(0)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_can_be_read_for_both_devices(path):
    on_cpu, on_cuda = (read_recipe(path.stem, device) for device in ("cpu", "cuda"))
    assert on_cpu.name == on_cuda.name == path.stem
    assert on_cpu.settings == on_cuda.settings
    assert on_cuda.workers > on_cpu.workers
    assert on_cuda.phases == on_cpu.phases and on_cuda.data == on_cpu.data  # a run may move
    known = {"resnet": 10, "enhance": 0}.get(on_cpu.network, len(data.KEYPOINTS))
    assert on_cpu.common_params.get("num_kp", 0) >= known


def test_a_misspelt_key_in_a_recipe_is_named(tmp_path):
    text = (RECIPES / "synth-256.yaml").read_text().replace("held_out:", "held_ot:")
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(StudyError, match=r'"held_ot".*did you mean "held_out"'):
        read_recipe(tmp_path / "r.yaml")


def test_a_misspelt_loss_of_a_phase_is_named(tmp_path):
    text = (RECIPES / "synth-256.yaml").read_text().replace("losses: {flow:", "losses: {flw:")
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(StudyError, match=r'"flw" in LossWeights.*did you mean "flow"'):
        read_recipe(tmp_path / "r.yaml")


def test_fitting_needs_minutes_to_fit_into(tmp_path):
    from studykit.training.__main__ import main

    arguments = ["--config", "synth-256", "--out", str(tmp_path / "run"), "--fit"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and "--minutes" in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("start", ["synth-255", "damaged.safetensors"])
def test_weights_to_start_with_that_are_no_weights_leave_nothing_behind(
    start, tmp_path, monkeypatch
):
    pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training.__main__ import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.safetensors").write_bytes(b"junk")
    text = (RECIPES / "synth-256.yaml").read_text()
    (tmp_path / "r.yaml").write_text(f"{text}start: {start}\n")
    out = tmp_path / "out"
    result = CliRunner().invoke(main, ["--config", str(tmp_path / "r.yaml"), "--out", str(out)])
    assert result.exit_code == 2 and start in result.output
    assert result.output.count("\n") == 1 and not out.exists()


def test_without_torch_the_command_names_the_extra(monkeypatch):
    from studykit.training.__main__ import main

    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    result = CliRunner().invoke(main, ["--config", "synth-256", "--out", "x"])
    assert result.exit_code == 2
    assert 'pip install "torch>=2.2"' in result.output


def test_paddle_computes_what_torch_computed_when_the_activations_were_stored():
    """16 frames of a random network, through the method ``fomm``."""
    pytest.importorskip("paddle", reason="fomm needs Paddle")
    from safetensors.numpy import load_file

    from studykit.methods.fomm import FOMM

    stored = load_file(STORED.with_name("torch_fomm_outputs.safetensors"))["prediction"]
    method = FOMM(weights=str(STORED), relative=False, device="cpu")
    state = method.prepare(Source("pattern", moving_pattern(0)))
    frames = [moving_pattern(t) for t in range(1, 17)]
    made = np.stack(list(method.animate(state, a_driving(frames))))
    assert len(made) == len(stored) == 16
    # The method rounds to 1/255, the stored values to half precision.
    assert np.abs(made[:, ::4, ::4] / 255 - stored).max() < 0.5 / 255 + 1e-3


def a_driving(frames):
    return Driving("frames", lambda: frames, Fraction(25), len(frames), rendered=True)


def random_networks(settings: dict):
    """Both networks with everything that training would move moved at random."""
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training import networks

    torch.manual_seed(0)
    pair = networks.build(settings)
    for network in pair.values():
        for name, value in network.state_dict().items():
            if name.endswith("running_mean"):
                value.normal_(0, 0.2)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif "conv2" in name or name.startswith(
                ("jacobian", "kp.", "final", "dense_motion_network.mask")
            ):
                value.add_(torch.randn_like(value) * 0.05)
        network.eval()
    return tuple(pair.values())


@pytest.mark.parametrize(
    ("down_blocks", "dense_scale", "keypoint_scale", "single"),
    [(1, 0.5, 0.5, True), (2, 0.25, 1, False), (0, 0.5, 0.25, True)],
)
def test_torch_and_paddle_agree(down_blocks, dense_scale, keypoint_scale, single):
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    paddle = pytest.importorskip("paddle", reason="the comparison needs Paddle")
    from studykit.methods._ppgan import import_ppgan, repair_downsampling

    settings = json.loads(json.dumps(SETTINGS))
    settings["generator_cfg"]["num_down_blocks"] = down_blocks
    settings["generator_cfg"]["dense_motion_params"]["scale_factor"] = dense_scale
    settings["kp_detector_cfg"] |= {"scale_factor": keypoint_scale, "single_jacobian_map": single}
    pair = random_networks(settings)
    (detector, generator), common = import_ppgan(), settings["common_params"]
    theirs = (
        detector(**settings["kp_detector_cfg"], **common),
        generator(**settings["generator_cfg"], **common, inference=True),
    )
    for ours, other in zip(pair, theirs, strict=True):
        tensors = checkpoint_files.from_pytorch(
            {k: v.numpy() for k, v in ours.state_dict().items()}
        )
        assert {k: tuple(v.shape) for k, v in other.state_dict().items()} == {
            k: v.shape for k, v in tensors.items()
        }
        other.set_state_dict(tensors)
        other.eval()
        repair_downsampling(other)
    images = [moving_pattern(t).transpose(2, 0, 1)[None].astype(np.float32) / 255 for t in (0, 9)]
    with torch.no_grad():
        found = [pair[0](torch.tensor(image)) for image in images]
        ours = pair[1](torch.tensor(images[0]), found[1], found[0])
    with paddle.no_grad():
        other = [theirs[0](paddle.to_tensor(image)) for image in images]
        made = theirs[1](paddle.to_tensor(images[0]), other[1], other[0])
    assert np.abs(found[0]["jacobian"].numpy() - other[0]["jacobian"].numpy()).max() < 1e-4
    for name in ("mask", "prediction"):
        assert np.abs(ours[name].numpy() - made[name].numpy()).max() < 5e-4, name


def test_motion_is_transferred_as_ppgan_does():
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    paddle = pytest.importorskip("paddle", reason="the comparison needs Paddle")
    from ppgan.utils.animate import normalize_kp

    from studykit.training.evaluate import transfer

    rng = np.random.default_rng(3)
    three = [
        {
            "value": rng.uniform(-1, 1, (1, 9, 2)).astype(np.float32),
            "jacobian": (np.eye(2) + rng.normal(0, 0.2, (1, 9, 2, 2))).astype(np.float32),
        }
        for _ in range(3)
    ]
    ours = transfer(*({k: torch.tensor(v) for k, v in kp.items()} for kp in three))
    source, driving, first = ({k: paddle.to_tensor(v) for k, v in kp.items()} for kp in three)
    theirs = normalize_kp(source, driving, first, True, True, True)
    for name in ("value", "jacobian"):
        assert np.allclose(ours[name].numpy(), theirs[name].numpy(), atol=1e-5)


def test_a_batch_is_true_to_itself_mirrored_or_not(filled):
    """The true motion brings its source to its driving, and keypoints move with the flow."""
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from torch.nn import functional

    from studykit.training.batches import Shelf

    shelf = Shelf(data.Cache(filled, SMALL, held_out=2), torch.device("cpu"))
    batch = shelf.draw(0, 16, np.random.default_rng(1))
    half = functional.avg_pool2d(batch.source, 2)
    truth = functional.avg_pool2d(batch.driving, 2)
    moved = functional.grid_sample(half, batch.deformation, align_corners=True)
    known = batch.seen * functional.avg_pool2d(batch.face, 2)
    errors = [((image - truth).abs() * known).sum((1, 2, 3)) for image in (moved, half)]
    assert errors[0].sum() < 0.7 * errors[1].sum()
    (nose,) = data.keypoint_indices("nose tip")
    where = batch.driving_kp[:, None, nose : nose + 1]
    field = batch.deformation.permute(0, 3, 1, 2)
    at_nose = functional.grid_sample(field, where, align_corners=True)[:, :, 0, 0]
    assert (at_nose - batch.source_kp[:, nose]).abs().median() < 0.02


def test_a_batch_shows_what_the_cache_holds(filled, monkeypatch):
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training import batches

    monkeypatch.setattr(batches, "_augmented", lambda images, rng: images)
    cache = data.Cache(filled, SMALL, held_out=2)
    batch = batches.Shelf(cache, torch.device("cpu")).draw(0, 6, np.random.default_rng(3))
    held = [cache.identity(seed) for seed in range(SMALL.available(0))]
    images = [frame for identity in held for frame in identity["images"]]
    faces = [np.unpackbits(bits).reshape(64, 64) for identity in held for bits in identity["face"]]
    for shown, face in zip(batch.driving, batch.face, strict=True):
        image = np.rint(shown.numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
        index = [
            (k, flipped)
            for k, kept in enumerate(images)
            for flipped in (False, True)
            if (image == (kept[:, ::-1] if flipped else kept)).all()
        ]
        assert index, "no frame of the cache"
        kept = faces[index[0][0]]
        assert (face[0].numpy() == (kept[:, ::-1] if index[0][1] else kept)).all()


def test_calm_pairs_move_less(filled):
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training.batches import Shelf

    shelf = Shelf(data.Cache(filled, SMALL, held_out=2), torch.device("cpu"))
    moves = []
    for calm in (0.0, 1.0):
        batch = shelf.draw(0, 64, np.random.default_rng(1), calm)
        moves.append(float((batch.source_kp - batch.driving_kp).norm(dim=-1).mean()))
    assert moves[1] < 0.6 * moves[0]


def test_blinks_are_drawn_more_often_where_asked_for(filled):
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training.batches import Shelf

    shelf = Shelf(data.Cache(filled, SMALL, held_out=2), torch.device("cpu"))
    upper, lower = data.keypoint_indices("left upper lid", "left lower lid")
    closing = []
    for blinks in (0.0, 1.0):
        batch = shelf.draw(0, 64, np.random.default_rng(1), blinks=blinks)
        gaps = [(kp[:, lower] - kp[:, upper]).norm(dim=-1)
                for kp in (batch.source_kp, batch.driving_kp)]  # fmt: skip
        closing.append(float((gaps[0] - gaps[1]).mean()))
    assert closing[1] > closing[0] + 0.01


def test_what_a_gpu_adds_up_in_whole_numbers_is_the_gradient_of_the_warp():
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training.networks import _Warp

    random = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 9, 11, generator=random, requires_grad=True)
    field = torch.rand(2, 13, 7, 2, generator=random) * 2.4 - 1.2  # beyond the borders too
    field.requires_grad_(True)
    plain = torch.nn.functional.grid_sample(image, field, align_corners=True)
    ours = _Warp.apply(image, field)
    towards = torch.randn(plain.shape, generator=random)
    wanted = torch.autograd.grad(plain, (image, field), towards)
    found = torch.autograd.grad(ours, (image, field), towards)
    assert torch.equal(plain, ours)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(wanted, found, strict=True))


def test_the_gradient_of_doubled_maps_is_pytorchs_own():
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training.networks import _Doubled

    random = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 5, 7, generator=random, requires_grad=True)
    towards = torch.randn(2, 3, 10, 14, generator=random)
    plain, ours = torch.nn.functional.interpolate(maps, scale_factor=2), _Doubled.apply(maps)
    wanted, found = (torch.autograd.grad(out, maps, towards)[0] for out in (plain, ours))
    assert torch.equal(plain, ours) and torch.equal(wanted, found)  # a run's log stays what it was


@pytest.mark.parametrize("size", [(24, 30), (12, 15), (5, 7)])
def test_resizing_by_matrices_is_bilinear(size):
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training.networks import resized

    maps = torch.rand(1, 2, 12, 15, generator=torch.Generator().manual_seed(0))
    wanted = torch.nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)
    assert torch.allclose(resized(maps, size), wanted, atol=1e-6)


def first_terms(filled: Path, **losses: float):
    """The terms of a first step, with some weights changed."""
    from studykit.training.train import Training

    phases = (Phase("joint", 1, 2, (1e-3, 1e-3), losses=losses),)
    return Training(tiny_recipe(phases=phases), data.Cache(filled, SMALL, 2), "cpu").advance()


def test_samples_moved_by_landmarks_have_the_renderers_keypoints_and_a_detectors_errors(filled):
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training.batches import Shelf, marked

    shelf = Shelf(data.Cache(filled, SMALL, held_out=2), torch.device("cpu"))
    batch = shelf.draw(0, 16, np.random.default_rng(1))
    found = marked(batch, 0.5, np.random.default_rng(2))
    assert 3 < found.which.sum() < 13
    for own, truth in ((found.source, batch.source_kp), (found.driving, batch.driving_kp)):
        error = (own["value"] - truth).norm(dim=-1)[:, : len(data.KEYPOINTS) - 4]
        assert 0.002 < error.median() < 0.03, "a pixel of 64 is 0.03"
        assert error.max() < 0.2, "mirrored faces have their left and right where they belong"
    plain = {"value": batch.driving_kp, "jacobian": torch.zeros_like(found.driving["jacobian"])}
    put = found.put(plain, found.driving)
    same = (put["value"] == batch.driving_kp).flatten(1).all(1)
    assert torch.equal(same, ~found.which)


def test_a_phase_that_does_not_paint_learns_motion_alone(filled):
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training.train import Training

    phase = Phase("motion", 2, 2, (1e-3, 1e-3), ("generator",), by_landmarks=1.0, paints=False)
    training = Training(tiny_recipe(phases=(phase,)), data.Cache(filled, SMALL, 2), "cpu")
    before = {k: v.clone() for k, v in training.networks["generator"].state_dict().items()}
    terms = training.advance()
    assert "flow" in terms and not {"l1", "structure", "gradient"} & set(terms)
    changed = {k for k, v in training.networks["generator"].state_dict().items()
               if "num_batches" not in k and not torch.equal(v, before[k])}  # fmt: skip
    assert changed and all(name.startswith("dense_motion_network") for name in changed)


def test_wild_heads_go_further_and_have_a_cache_of_their_own(filled):
    tame, wild = (
        np.array([[p.x, p.y, p.roll, np.log(p.scale)] for seed in range(12)
                  for p, _ in data.sample_states(seed, "frontal", 16, wild)])
        for wild in (False, True)
    )  # fmt: skip
    assert (wild.std(axis=0) > 1.4 * tame.std(axis=0)).all()
    with pytest.raises(StudyError, match="holds frames of"):
        data.Cache(filled, dataclasses.replace(SMALL, wild=True), held_out=2)


def test_a_phase_weighs_its_losses_by_itself(filled):
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    plain, changed = (first_terms(filled, **w) for w in ({}, {"flow": 1.0, "fidelity": 0.5}))
    assert torch.isclose(changed["flow"], 2 * plain["flow"]) and plain["l1"] == changed["l1"]
    assert "fidelity" in changed and "fidelity" not in plain


def test_a_phase_can_begin_with_the_averaged_weights(filled):
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training.train import Training

    phases = (
        Phase("joint", 3, 2, (1e-2, 1e-2)),
        Phase("again", 2, 2, (1e-12, 1e-12), fixed_statistics=True, from_average=True),
    )
    training = Training(tiny_recipe(phases=phases), data.Cache(filled, SMALL, 2), "cpu")
    for _ in range(4):
        training.advance()
    assert {int(state["step"]) for state in training.optimiser.state.values()} == {1}
    for name, network in training.networks.items():
        for key, value in network.state_dict().items():
            if value.is_floating_point():
                assert torch.allclose(value, training.average[name][key], atol=1e-6)


def test_a_recipe_can_begin_with_the_weights_of_a_checkpoint(filled, tmp_path):
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training.train import Training, run

    run(tiny_recipe(), tmp_path, data.Cache(filled, SMALL, 2), echo=lambda line: None)
    start = str(tmp_path / "weights.safetensors")
    first, again = (
        Training(tiny_recipe(**changes), data.Cache(filled, SMALL, 2), "cpu")
        for changes in ({}, {"start": start})
    )
    first.resume(tmp_path / "checkpoint.pt")
    for name, network in again.networks.items():
        for key, value in network.state_dict().items():
            if value.is_floating_point():
                assert torch.equal(value, first.average[name][key])
    other = {**SETTINGS["generator_cfg"], "max_features": 6}
    with pytest.raises(StudyError, match="other settings"):
        recipe = tiny_recipe(start=start, generator_cfg=other)
        Training(recipe, data.Cache(filled, SMALL, 2), "cpu")


def test_phases_are_scaled_to_the_steps_that_are_left():
    phases = tuple(Phase(name, 100, 2, (1e-3, 1e-3)) for name in "abc")
    fitted = tiny_recipe(phases=phases, log_steps=10).fitted(150, 300)
    assert [phase.steps for phase in fitted.phases] == [100, 150, 200]
    assert [phase.name for phase in fitted.phases] == ["a", "b", "c"]


def test_a_recipe_is_fitted_to_rented_minutes(filled, tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training import train

    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: next(ticks))  # a step takes a second
    monkeypatch.setattr(train, "time", clock)
    monkeypatch.setattr(train, "_MEASURED", (1, 3))
    phases = (Phase("keypoints", 10**6, 2, (1e-3, 1e-4), ("kp_detector",)),)
    lines: list[str] = []
    train.run(
        tiny_recipe(phases=phases),
        tmp_path,
        data.Cache(filled, SMALL, 2),
        minutes=1,
        fit=True,
        echo=lines.append,
    )
    steps = 3 + int(0.95 * (60 - 3))
    assert json.loads((tmp_path / "recipe.json").read_text())["phases"][0]["steps"] == steps
    assert f"1.0 steps a second: {steps} in all" in lines
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["step"] == steps


def test_a_keypoint_whose_mask_has_died_is_found_again():
    """The flow's gradient does not reach a mask of e^-30; that of the masks' own term does."""
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training import losses

    side, weights = 9, LossWeights(flow=1.0, masks=1.0)
    motions = torch.zeros(1, 3, side, side, 2)
    motions[:, 1] = 0.5  # by two pixels, as the truth is; the others stay or go elsewhere
    motions[:, 2] = -0.5
    truth, ones = motions[:, 1], torch.ones(1, 1, side, side)
    logit = torch.tensor([0.0, -30.0, 0.0])[None, :, None, None].repeat(1, 1, side, side)
    logit.requires_grad_(True)

    def slopes(loss) -> list[float]:
        return torch.autograd.grad(loss, logit)[0].sum((0, 2, 3)).tolist()

    moved = (motions * logit.softmax(1)[..., None]).sum(1)
    flow = losses.motion_supervision(moved, None, truth, ones, ones, weights)
    assert abs(slopes(flow["flow"])[1]) < 1e-9
    masks = losses.mask_supervision(motions, logit, truth, ones, ones, weights)
    assert slopes(masks) == pytest.approx([0.5, -1.0, 0.5], abs=1e-3)
    good = torch.tensor([-30.0, 0.0, -30.0])[None, :, None, None].repeat(1, 1, side, side)
    none = losses.mask_supervision(motions, good, truth, ones, ones, weights)
    assert float(none) == pytest.approx(0, abs=1e-3)


def test_irises_and_masks_are_terms_only_where_asked_for(filled):
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    plain, more = (first_terms(filled, **w) for w in ({}, {"irises": 10.0, "masks": 0.1}))
    assert set(more) - set(plain) == {"irises", "masks"}
    assert min(more["irises"], more["masks"]) > 0
    assert all(torch.isclose(more[name], plain[name]) for name in set(plain) - {"loss"})


def test_the_term_of_fidelity_is_what_psnr_measures():
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.metrics.pixels import Comparison, peak_signal_noise_ratio
    from studykit.training.losses import fidelity

    truth, image = moving_pattern(0), moving_pattern(2)
    face = np.zeros((64, 64), bool)
    face[10:50, 20:40] = True
    a, b = (torch.tensor(x.transpose(2, 0, 1)[None] / 255).float() for x in (image, truth))
    mask = torch.tensor(face[None, None]).float()
    term = fidelity(a, b, mask, LossWeights(fidelity=1.0))
    (psnr,) = peak_signal_noise_ratio(Comparison(image, truth), [face])
    assert float(term) == pytest.approx(6 - psnr / 10, abs=1e-3)


def test_the_splines_derivative_is_that_of_its_points():
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training.losses import ThinPlateSpline

    spline = ThinPlateSpline.draw(np.random.default_rng(0), 2, torch.device("cpu"))
    points = torch.rand(2, 5, 2, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
    points.requires_grad_(True)
    moved = spline.points(points)
    rows = [torch.autograd.grad(moved[..., k].sum(), points, retain_graph=True)[0] for k in (0, 1)]
    assert torch.allclose(torch.stack(rows, -2), spline.jacobian(points), atol=1e-4)
    assert (moved - points).abs().max() > 0.01


def test_similarity_is_that_of_scikit_image():
    torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from skimage.metrics import structural_similarity

    from studykit.training.losses import ssim

    a, b = (moving_pattern(t) / 255 for t in (0, 3))
    _, expected = structural_similarity(
        a, b, data_range=1, channel_axis=2, full=True, use_sample_covariance=False
    )
    tensors = (torch.tensor(x.transpose(2, 0, 1)[None]) for x in (a, b))
    found = ssim(*tensors)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected)[4:-4, 4:-4].max() < 1e-6


def test_a_resumed_run_logs_what_an_uninterrupted_one_does(filled, tmp_path):
    pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training.log import compare_logs
    from studykit.training.train import run

    def losses_of(folder):
        records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return [{k: v for k, v in record.items() if k != "seconds"} for record in records]

    def cache():
        return data.Cache(filled, SMALL, held_out=2)

    run(tiny_recipe(), tmp_path / "whole", cache(), echo=lambda line: None)
    for _ in range(6):
        run(tiny_recipe(), tmp_path / "parts", cache(), resume=True, minutes=0, echo=lambda _: None)
    whole = losses_of(tmp_path / "whole")
    assert len(whole) == 8 and any("held out" in record for record in whole)
    assert losses_of(tmp_path / "parts") == whole
    agreed = compare_logs(tmp_path / "whole", tmp_path / "parts" / "log.jsonl")
    assert agreed == "8 records agree, up to step 6"
    with pytest.raises(StudyError, match="--resume"):
        run(tiny_recipe(), tmp_path / "whole", cache())


def test_held_out_figures_of_the_truth_are_perfect_and_those_of_the_source_are_copys():
    pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training import evaluate

    item = data.held_out_from(data.render_held_out(0, data.DataSettings(size=96)))
    still = np.repeat(item.own[:1], len(item.own), axis=0)
    best, copied = (evaluate.scores([item], [clip], [clip]) for clip in (item.own, still))
    assert best["psnr frontal"] == 100 and best["mouth"] == best["eyes"] == best["cross l1"] == 0
    assert copied["psnr frontal"] == copied["copy psnr frontal"] == best["copy psnr frontal"]
    assert copied["mouth"] == copied["eyes"] == copied["cross l1"] == 1
    assert best["landmarks"] == best["cross landmarks"] < 0.6 * copied["landmarks"]


def test_of_logs_that_differ_the_first_difference_is_named(tmp_path):
    from studykit.training.log import compare_logs

    records = [{"step": step, "phase": "joint", "l1": 0.5, "seconds": step} for step in (20, 40)]
    held_out = {"step": 40, "held out": {"mouth": 0.5}}
    for name, changes in {
        "one": {},
        "longer": {"seconds": 99, "step": 60},
        "other": {"l1": 0.6},
    }.items():
        lines = [*records, {**records[1], **changes}, held_out]
        (tmp_path / name).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert compare_logs(tmp_path / "one", tmp_path / "longer").startswith("3 records agree")
    with pytest.raises(StudyError, match=r"differ from the losses of step 40 on: l1 is 0.5 in"):
        compare_logs(tmp_path / "one", tmp_path / "other")
    (tmp_path / "none").write_text("no JSON")
    with pytest.raises(StudyError, match="none is no log of a training run"):
        compare_logs(tmp_path / "none", tmp_path / "one")
    (tmp_path / "none").write_text("")
    with pytest.raises(StudyError, match="no step in common"):
        compare_logs(tmp_path / "none", tmp_path / "one")


def test_keypoints_are_learned(filled, tmp_path):
    pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training.train import Training

    phases = (Phase("keypoints", 80, 6, (3e-3, 1e-3), ("kp_detector",)),)
    recipe = tiny_recipe(phases=phases)
    training = Training(recipe, data.Cache(filled, SMALL, held_out=2), "cpu")
    found = [training.advance()["keypoints"] for _ in range(80)]
    assert np.mean(found[-10:]) < 0.6 * np.mean(found[:10])


def test_an_export_is_what_fomm_animates_with(filled, tmp_path):
    """The averaged networks in Torch, and the exported file in Paddle, give the same clip."""
    pytest.importorskip("torch", reason="the trainer needs PyTorch")
    pytest.importorskip("paddle", reason="fomm needs Paddle")
    from studykit.methods.fomm import FOMM
    from studykit.training import evaluate
    from studykit.training.export import export_checkpoint
    from studykit.training.train import Training, run

    cache = data.Cache(filled, SMALL, held_out=2)
    run(tiny_recipe(), tmp_path, cache, echo=lambda line: None)
    made = export_checkpoint(tmp_path, tmp_path / "tiny.safetensors", measured_on=1)
    assert made.full - made.half < 0.1 and made.precision == "float16"
    assert made.path.stat().st_size < 0.6 * (tmp_path / "weights.safetensors").stat().st_size
    settings = weights.stored_settings(made.path)
    assert (settings["size"], settings["trained_on"]) == (64, "rendered faces")
    training = Training(tiny_recipe(), cache, "cpu")
    training.resume(tmp_path / "checkpoint.pt")
    item = cache.held_out()[0]
    with training.averaged() as pair:
        ours = evaluate.animate(pair, item.own[0], item.own)
    method = FOMM(weights=str(tmp_path / "weights.safetensors"), device="cpu")
    state = method.prepare(Source("own", item.own[0]))
    theirs = np.stack(list(method.animate(state, a_driving(item.own))))
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_a_run_becomes_a_folder_that_can_be_shipped(filled, tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="the trainer needs PyTorch")
    from studykit.training import export
    from studykit.training.train import run

    def measured(folder, **_):
        scores = {"pairing": "same", "type": "all", "method": "fomm", "psnr": 31.4159}
        (folder / "benchmark-64.json").write_text(json.dumps({"size": 64, "summary": [scores]}))

    monkeypatch.setattr(export, "measure", measured)  # it takes minutes: see test_benchmark.py
    run(tiny_recipe(), tmp_path / "run", data.Cache(filled, SMALL, 2), echo=lambda line: None)
    out = tmp_path / "shipped" / "tiny"
    export.ship(tmp_path / "run", out, say=lambda line: None)
    monkeypatch.setattr(weights, "SHIPPED", out.parent)
    assert weights.locate("tiny") == out / "weights.safetensors"
    assert read_recipe(out / "recipe.yaml") == tiny_recipe()
    assert (out / "log.jsonl").read_text() == (tmp_path / "run" / "log.jsonl").read_text()
    card = (out / "MODEL_CARD.md").read_text()
    assert "# tiny:" in card and "31.42" in card and weights.sha256(weights.locate("tiny")) in card
    assert "6 steps in 0.0 hours" in card and "$" not in card
    (tmp_path / "run" / "recipe.json").unlink()
    with pytest.raises(StudyError, match=r"no recipe\.json: name the folder"):
        export.ship(tmp_path / "run", out)
