"""The trainer of ``resnet``: crops as the product's, weights to begin with, runs again."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from studykit.errors import StudyError
from studykit.methods import checkpoint_files, weights
from studykit.training import data
from studykit.training.recipe import Phase, read_recipe
from tests.resnet_faces import SIZE
from tests.test_training import SETTINGS, SMALL, filled, tiny_recipe  # noqa: F401

torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")

from studykit.methods import _resnet_network as network  # noqa: E402
from studykit.methods._resnet_crop import WHOLE, cropped  # noqa: E402
from studykit.training import networks, resnet  # noqa: E402
from studykit.training.batches import Shelf  # noqa: E402
from studykit.training.train import Training, run  # noqa: E402

COMMON = {"num_kp": 10, "num_channels": 3, "estimate_jacobian": False}
DETECTOR = {"temperature": 0.1, "num_blocks": 5, "scale_factor": 0.5, "pad": 3, **SIZE}
BOTH = ("kp_detector", "generator")


def resnet_recipe(**changes):
    phases = (
        Phase("keypoints", 2, 2, (1e-3, 1e-3), ("kp_detector",)),
        Phase("motion", 3, 2, (1e-3, 1e-3), BOTH, paints=False, losses={"masks": 0.1}),
        Phase("joint", 1, 2, (1e-3, 1e-4), BOTH, fixed_statistics=True),
    )
    changes = {"common_params": COMMON, "kp_detector_cfg": DETECTOR, "phases": phases, **changes}
    return tiny_recipe(network="resnet", **{"swats": {"epsilon": 1e-9}, **changes})


@pytest.fixture
def batch(filled):  # noqa: F811
    shelf = Shelf(data.Cache(filled, SMALL, 2), torch.device("cpu"))
    return shelf.draw(0, 4, np.random.default_rng(3))


@pytest.fixture
def training(filled):  # noqa: F811
    return Training(resnet_recipe(), data.Cache(filled, SMALL, 2), "cpu")


def test_squares_hold_the_face_or_are_the_whole_image(batch, monkeypatch):
    monkeypatch.setattr(resnet, "_SEEN_WHOLE", 1.0)
    whole = torch.tensor(WHOLE).float().expand(8, -1)
    assert torch.equal(resnet.draw_boxes(batch, np.random.default_rng(0)), whole)
    monkeypatch.setattr(resnet, "_SEEN_WHOLE", 0.0)
    drawn = resnet.draw_boxes(batch, np.random.default_rng(0))
    assert (drawn[:, 2] < 1).sum() >= 4 and (drawn[:, :2] + drawn[:, 2:] <= 1 + 1e-6).all()
    marks = torch.cat([batch.source_landmarks, batch.landmarks]) / SMALL.size
    inside = (marks > drawn[:, None, :2]) & (marks < drawn[:, None, :2] + drawn[:, None, 2:])
    assert inside.all(2).float().mean() > 0.95


def test_crops_are_those_of_the_product(batch):
    box = np.array([0.125, 0.25, 0.5])
    images = (batch.source * 255).round()
    made = resnet.crops(images, torch.tensor(box).float().expand(4, -1))
    for image, mine in zip(images, made, strict=True):
        theirs = cropped(image.permute(1, 2, 0).byte().numpy(), box)
        inside = np.s_[4:-4, 4:-4]  # what lies beyond the crop is seen by the trainer's alone
        apart = np.abs(mine.permute(1, 2, 0).numpy()[inside] - theirs[inside])
        assert apart.max() < 1.01


def test_keypoints_are_learned_in_any_square(training):
    phases = (Phase("keypoints", 60, 4, (5e-3, 2e-3), ("kp_detector",)),)
    training.recipe = resnet_recipe(phases=phases)
    found = [float(training.advance()["keypoints"]) for _ in range(60)]
    assert np.mean(found[-10:]) < 0.7 * np.mean(found[:10])


def test_a_resumed_run_logs_what_an_uninterrupted_one_does(filled, tmp_path):  # noqa: F811
    from studykit.training.log import compare_logs

    def go(name, **options):
        cache = data.Cache(filled, SMALL, held_out=2)
        return run(resnet_recipe(), tmp_path / name, cache, echo=lambda line: None, **options)

    path = go("whole")
    for _ in range(6):
        go("parts", resume=True, minutes=0)
    assert compare_logs(tmp_path / "whole", tmp_path / "parts").startswith("8 records agree")
    records = [json.loads(x) for x in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert all(record["swats"]["rate"] > 0 for record in records if "loss" in record)
    held_out = [record["held out"] for record in records if "held out" in record]
    assert held_out and all(np.isfinite(v) for v in held_out[-1].values())
    checkpoint = weights.load(path)
    assert checkpoint_files.family_of(checkpoint.config) == "resnet"
    encoder = {k.removeprefix("predictor.encoder."): v for k, v in checkpoint.kp_detector.items()}
    for name, layer in network.encoder_layers(*SIZE.values()).items():
        wanted = layer if len(layer) == 1 else (layer[1], layer[0], layer[2], layer[2])
        assert encoder[f"{name}.weight"].shape == tuple(wanted)


def test_a_generator_of_all_keypoints_becomes_one_of_ten():
    """Where the others have no share and are not looked at, both find the same motion."""
    from studykit.training.resnet import _WHICH

    torch.manual_seed(0)
    everything = networks.build(SETTINGS)["generator"].eval()
    motion, others = everything.dense_motion_network, np.setdiff1d(np.arange(23), _WHICH) + 1
    channels = [4 * one + k for one in others for k in range(4)]
    with torch.no_grad():
        motion.mask.bias[others] = -1e4
        motion.hourglass.encoder["down_blocks"][0].conv.weight[:, channels] = 0
        decoded = motion.hourglass.out_filters - 96
        for head in (motion.mask, motion.occlusion):
            head.weight[:, [decoded + channel for channel in channels]] = 0
    theirs = checkpoint_files.from_pytorch(
        {name: value.numpy() for name, value in everything.state_dict().items()}
    )
    ten = resnet.build({**SETTINGS, "common_params": COMMON, "kp_detector_cfg": DETECTOR})
    networks.fill(ten["generator"].eval(), resnet.begun({"generator": theirs})["generator"])
    image = torch.rand(2, 3, 64, 64)
    source, driving = ({"value": torch.rand(2, 23, 2) - 0.5} for _ in range(2))
    few = [{"value": kp["value"][:, _WHICH]} for kp in (driving, source)]
    with torch.no_grad():
        wanted = motion(image, driving, source)
        found = ten["generator"].dense_motion_network(image, *few)
    for name in ("deformation", "occlusion_map"):
        assert torch.allclose(found[name], wanted[name], atol=1e-5)


def test_the_shipped_recipe_is_slim_and_starts_from_synth_256(tmp_path):
    recipe = read_recipe("resnet-256")
    training = Training(recipe, data.Cache(tmp_path, recipe.data, 0), "cpu")
    size = sum(p.numel() for p in training.networks["kp_detector"].parameters())
    assert 1.5e6 < size < 2.5e6
    theirs = weights.load(recipe.start).generator
    mine = training.networks["generator"].state_dict()
    assert np.array_equal(mine["final.weight"].numpy(), theirs["final.weight"])
    masks = mine["dense_motion_network.mask.bias"].numpy()
    assert np.array_equal(masks[0], theirs["dense_motion_network.mask.bias"][0])
    assert len(masks) == 11 and recipe.swats == {"epsilon": 1e-9}


def an_encoder(size=(4, 16)):
    """A state dict like torchvision's."""
    made = resnet.Unet(*size).encoder.state_dict()
    rng = torch.Generator().manual_seed(0)
    made = {k: torch.rand(v.shape, generator=rng) if v.dim() else v for k, v in made.items()}
    return {**made, "fc.weight": torch.zeros(10, size[1]), "fc.bias": torch.zeros(10)}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_an_encoder_that_is_given_is_begun_with(suffix, training, tmp_path):
    from safetensors.torch import save_file

    given, path = an_encoder(), tmp_path / f"encoder{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(given, path)
    training.begin_with(path)
    prefix = "predictor.encoder."
    for own in (training.networks["kp_detector"].state_dict(), training.average["kp_detector"]):
        names = {k for k in own if k.startswith(prefix)}
        assert {k.removeprefix(prefix) for k in names} == {k for k in given if k[:2] != "fc"}
        assert all(torch.equal(own[k], given[k.removeprefix(prefix)]) for k in names)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("layer3.1.conv2.weight"), "it has no layer3.1.conv2.weight"),
        (lambda d: d.update({"bn1.bias": torch.zeros(7)}), r"bn1.bias is \(7,\), expected \(4,\)"),
        (lambda d: d.update({"layer3.2.bn1.bias": torch.zeros(4)}), "it has a layer3.2.bn1.bias"),
        (lambda d: d.update({"bn1.bias": 3}), r"bn1.bias is \(\), expected \(4,\)"),
    ],
)
def test_an_encoder_that_is_no_resnet_18_of_this_size_is_refused(change, said, training, tmp_path):
    given = an_encoder()
    change(given)
    torch.save(given, tmp_path / "other.pth")
    with pytest.raises(StudyError, match=f"other.pth is no ResNet-18 of the recipe's size: {said}"):
        training.begin_with(tmp_path / "other.pth")


def test_what_is_no_state_dict_is_refused_in_a_line(training, tmp_path):
    (tmp_path / "words.pth").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("words", "list"):
        with pytest.raises(StudyError, match=rf"{name}.pth is no state dict of PyTorch") as error:
            training.begin_with(tmp_path / f"{name}.pth")
        assert "\n" not in str(error.value)
    with pytest.raises(StudyError, match=r"none.pth can't be read: No such file"):
        training.begin_with(tmp_path / "none.pth")


def test_the_command_takes_an_encoder_for_resnet_alone(filled, tmp_path):  # noqa: F811
    from studykit.training.__main__ import main

    torch.save(an_encoder(), tmp_path / "encoder.pth")
    recipe = Path(tmp_path / "regions.yaml")
    text = read_text_of_recipe("regions-256", size=64, frames=4)
    recipe.write_text(text)
    given = ["--config", recipe, "--out", tmp_path / "out", "--cache", filled, "--workers", "0"]
    said = CliRunner().invoke(main, [*map(str, given), "--encoder", str(tmp_path / "encoder.pth")])
    assert said.exit_code == 2 and "error: regions has no encoder" in said.output


def read_text_of_recipe(name, **changed):
    """A shipped recipe with other data."""
    import yaml

    from studykit.training.recipe import RECIPES

    content = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    content["data"].update(changed)
    return yaml.safe_dump(content)
