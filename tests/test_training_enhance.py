"""The trainer of ``enhance``: crops beside their truth, and a network that the product computes."""

import json

import numpy as np
import pytest

from studykit.methods import checkpoint_files, enhance as product
from studykit.training.data import HELD_OUT, Cache, DataSettings, made_identity
from studykit.training.recipe import LossWeights, Phase, Recipe, read_recipe

torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")

from studykit.training import enhance, export, families, train  # noqa: E402

SIDE = 160  # of what methods made: larger than a crop


def settings(**changes):
    values = {"size": SIDE, "identities": 2, "at_start": 2, "frames": 2, "made_by": ("copy",)}
    return DataSettings(**{**values, **changes})


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache of soft noise, whose made frames are the truth with a shade."""
    folder = tmp_path_factory.mktemp("enhance")
    rng = np.random.default_rng(0)
    for seed in (0, 1, HELD_OUT):
        coarse = rng.integers(40, 200, (2, SIDE // 8, SIDE // 8, 3)).astype(np.uint8)
        truth = coarse.repeat(16, 1).repeat(16, 2)
        content = {"source": truth[0], "truth": truth[1:], "made": truth[None, 1:, ::2, ::2] + 20}
        np.savez(folder / f"{seed:06d}.npz", **content)
    return folder


def recipe(**changes):
    phases = (Phase("enhance", 4, 2, (1e-3, 1e-3), ("enhance",)),)
    values = {"name": "tiny", "seed": 1, "phases": phases, "network": "enhance"}
    values |= {"data": settings(), "losses": LossWeights(l1=10, gradient=5), "held_out": 1}
    values |= {"precision": "float32", "log_steps": 2, "sheet_steps": 4, "workers": 0}
    return Recipe(**{**values, **changes})


def test_a_crop_lies_where_its_truth_and_its_source_do(filled):
    shelf = enhance.Shelf(Cache(filled, settings(), 1), torch.device("cpu"))
    rng = np.random.default_rng(3)
    for step in range(20):
        crops = shelf.draw(step, 1, rng)
        assert crops.given.shape == (1, 3, 128, 128) and crops.truth[1].shape[-1] == 256
        apart = crops.given - crops.truth[0]  # a render's is 0, a method's 20, wherever it is
        middle = float(apart.median()) * 255
        assert min(abs(middle), abs(middle - 20)) < 4
        assert (crops.source[0] - crops.truth[0]).abs().mean() > 0.05


def test_a_network_begins_with_next_to_no_change_and_learns(filled, tmp_path):
    cache = Cache(filled, settings(), 1)
    untrained = enhance.evaluate(enhance.Enhancer(), cache)
    assert abs(untrained["copy x1"]) < 1.5
    phases = (Phase("enhance", 60, 2, (3e-3, 1e-3), ("enhance",)),)
    run = train.Training(recipe(phases=phases), cache, "cpu")
    for _ in range(60):
        run.advance()
    after = run.evaluate(tmp_path / "sheet.png")
    assert after["copy x1"] > untrained["copy x1"] + 1 and after["l1 copy x1"] < 0.9
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_a_run_can_be_repeated_resumed_and_exported(filled, tmp_path):
    cache, quiet = Cache(filled, settings(), 1), lambda line: None
    first = train.run(recipe(), tmp_path / "a", cache, echo=quiet)
    half = recipe(phases=(Phase("enhance", 2, 2, (1e-3, 1e-3), ("enhance",)),))
    train.run(half, tmp_path / "b", cache, echo=quiet)
    again = train.run(recipe(), tmp_path / "b", cache, resume=True, echo=quiet)
    assert first.read_bytes() == again.read_bytes()
    log = [json.loads(line) for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in log] == [2, 4, 4] and "copy x2" in log[-1]["held out"]
    made = export.export_checkpoint(tmp_path / "a", tmp_path / "x.safetensors", measured_on=1)
    assert made.precision == "float16"
    assert checkpoint_files.stored_settings(made.path)["network"] == "enhance"
    product.load(str(made.path))


def test_the_product_computes_what_was_trained(filled, tmp_path):
    torch.manual_seed(0)
    network = enhance.Enhancer().eval()
    with torch.no_grad():
        for value in network.parameters():
            value.normal_(0, 0.05)
    state = {"average": {"enhance": network.state_dict()}, "recipe": "x", "size": SIDE}
    state["settings"] = recipe().settings
    path = tmp_path / "x.safetensors"
    checkpoint_files.save(train.as_checkpoint(state), path)
    large = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    source, frame = enhance.as_tensor(large[None]), large[16:48, 16:48]
    pytest.importorskip("paddle", reason="the product needs Paddle")
    with torch.no_grad():
        wanted = network(enhance.as_tensor(frame[None]), enhance.at_scales(source))[0][1]
    engine = product._engine(str(path), "x", 32, 2, 1)
    found = engine.beside(large)(frame) / 255
    wanted = wanted[0].clamp(0, 1).permute(1, 2, 0).numpy()
    assert np.abs(found - wanted).max() < 0.5 / 255 + 1e-3


def test_a_mask_is_asked_to_take_from_the_source_what_that_shows_better():
    truth, far = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)
    yes, no = torch.full((1, 1, 4, 4), 0.9), torch.full((1, 1, 4, 4), 0.1)
    assert enhance.choice(far, truth, truth, yes) < enhance.choice(far, truth, truth, no)
    assert enhance.choice(truth, far, truth, no) < enhance.choice(truth, far, truth, yes)
    alike = enhance.choice(far, far, truth, no)
    assert alike == 0 and torch.isfinite(alike)


def test_the_recipe_is_one_of_this_network():
    shipped = read_recipe("enhance-256")
    assert shipped.settings == {"network": "enhance"}
    assert set(families.build(shipped.settings)) == {"enhance"}
    assert shipped.data.made_by and shipped.losses.l1 > 0
    count = sum(p.numel() for p in families.build(shipped.settings)["enhance"].parameters())
    assert 0.4e6 < count < 0.6e6


def test_what_methods_made_is_kept_beside_the_truth(tmp_path):
    found = made_identity(1, settings(size=64, frames=3, made_by=["copy"]))
    assert found["source"].shape == (128, 128, 3) and found["truth"].dtype == np.uint8
    count = len(found["truth"])
    assert 0 < count <= 2 and found["made"].shape == (1, count, 64, 64, 3)
    held = found["made"][0].repeat(2, 1).repeat(2, 2).astype(float)
    assert np.abs(held - found["source"]).mean() < 6  # copy holds the source still
