"""The trainer of ``regions``: moments give the motion, the camera moves, runs can be repeated."""

import json

import numpy as np
import pytest

from studykit.errors import StudyError
from studykit.methods import _region_motion
from studykit.methods._fomm_landmarks import KEYPOINTS
from studykit.methods._fomm_motion import Keypoints
from studykit.training import data
from studykit.training.recipe import Phase, read_recipe
from tests.test_training import SETTINGS, SMALL, filled, tiny_recipe  # noqa: F401

torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")

from studykit.training import networks, regions  # noqa: E402
from studykit.training.batches import Shelf, _mirror_points, seen_from  # noqa: E402

WITHOUT_JACOBIAN = {**SETTINGS["common_params"], "estimate_jacobian": False}
REGION_SETTINGS = {**SETTINGS, "common_params": WITHOUT_JACOBIAN}
PARTS = ("kp_detector", "generator", "background")


def region_recipe(**changes):
    phases = (
        Phase("regions", 1, 2, (1e-3, 1e-3), ("kp_detector", "background"), camera=0.5),
        Phase("motion", 2, 2, (1e-3, 1e-3), PARTS, paints=False, camera=0.5),
        Phase("joint", 2, 2, (1e-3, 1e-4), PARTS),
        Phase("apart", 2, 8, (1e-3, 1e-4), ("disentangled",)),
    )
    changes = {"phases": phases, "common_params": WITHOUT_JACOBIAN, **changes}
    return tiny_recipe(network="regions", **changes)


def tilted(turn: float, long: float, short: float):
    """An ellipse's covariance, (1, 1, 2, 2)."""
    axes = torch.tensor([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]).float()
    return (axes @ torch.diag(torch.tensor([long, short]) ** 2) @ axes.T)[None, None]


def random_regions(count: int, seed: int) -> dict:
    """Elongated regions anywhere."""
    rng = np.random.default_rng(seed)
    spread = [tilted(rng.uniform(0, np.pi), 0.2, 0.05) for _ in range(count)]
    covariance = torch.cat(spread, 1)
    value = torch.tensor(rng.uniform(-0.5, 0.5, (1, count, 2))).float()
    frames = regions.principal_axes(covariance)
    return {"value": value, "covariance": covariance, "jacobian": frames}


def test_moments_of_a_map_are_its_gaussians(monkeypatch):
    mean, covariance = torch.tensor([[[0.2, -0.3]]]), tilted(0.5, 0.15, 0.06)
    heatmap = networks.gaussians(mean, (64, 64), covariance)
    found = {"value": mean, "heatmap": heatmap / heatmap.sum()}
    monkeypatch.setattr(networks.KPDetector, "forward", lambda self, image: found)
    detector = regions.build(REGION_SETTINGS)["kp_detector"]
    assert torch.allclose(detector(torch.zeros(1))["covariance"], covariance, atol=1e-5)


def test_principal_axes_are_those_of_numpy_and_reproduce_the_covariance():
    covariance = torch.cat([tilted(turn, 0.3, 0.1) for turn in np.linspace(0, 3, 7)])
    axes = regions.principal_axes(covariance)
    assert torch.allclose(axes @ axes.transpose(-2, -1), covariance, atol=1e-6)
    lengths = axes.norm(dim=-2).numpy()
    expected = np.sqrt(np.linalg.eigvalsh(covariance.numpy()))[..., ::-1]
    assert np.allclose(lengths, expected, atol=1e-5)


def test_no_gradient_passes_through_the_angle_and_the_lengths_is_exact():
    covariance = torch.tensor(
        [[0.02, 0.0], [0.0, 0.02 + 1e-9]], requires_grad=True
    )  # all but round
    slope = torch.autograd.grad(regions.principal_axes(covariance).sum(), covariance)[0]
    assert slope.isfinite().all() and slope.abs().max() < 10
    tall = tilted(0.4, 0.3, 0.1)[0, 0].double().requires_grad_(True)
    lengths = regions.principal_axes(tall).norm(dim=0).square().sort()[0]
    wanted = torch.linalg.eigvalsh(tall)
    for mine, other in zip(lengths, wanted, strict=True):
        found, exact = (torch.autograd.grad(x, tall, retain_graph=True)[0] for x in (mine, other))
        assert torch.allclose(found + found.T, exact + exact.T, atol=1e-6)


@pytest.mark.parametrize("turn", [-80, -50, -10, 0, 30, 44])
def test_axes_are_chosen_so_that_the_motion_is_nearest_to_the_identity(turn):
    """Turns up to 44 degrees are found, wherever the axes' own angle jumps."""
    step = np.radians(turn % 45 if turn > 0 else turn % 44)
    before, after = (
        {"jacobian": regions.principal_axes(tilted(np.radians(turn) + by, 0.3, 0.1))}
        for by in (0, step)
    )
    there = regions.aligned(after, before)
    motion = before["jacobian"] @ networks.inverse_2x2(there["jacobian"])
    expected = torch.tensor([[np.cos(step), np.sin(step)], [-np.sin(step), np.cos(step)]]).float()
    assert torch.allclose(motion[0, 0], expected, atol=1e-4)


def test_where_the_longer_axis_changes_nothing_jumps():
    wide, tall = (
        {"jacobian": regions.principal_axes(tilted(0, *lengths))}
        for lengths in ((0.11, 0.1), (0.1, 0.11))
    )
    there = regions.aligned(tall, wide)["jacobian"]
    motion = wide["jacobian"] @ networks.inverse_2x2(there)
    assert torch.allclose(motion[0, 0], torch.diag(torch.tensor([1.1, 1 / 1.1])), atol=1e-4)


def test_what_is_trained_is_what_animates():
    """Frames, their choice and what draws them together, beside the method's own NumPy."""
    source, driving = random_regions(9, 0), random_regions(9, 1)
    steady = regions.steadied(regions.aligned(driving, source), source)
    names = ("value", "covariance")
    ours, theirs = (
        _region_motion.framed(Keypoints(*(own[name][0].numpy() for name in names)))
        for own in (source, driving)
    )
    assert np.allclose(ours.jacobians, source["jacobian"][0], atol=1e-6)
    made = _region_motion.steadied(_region_motion.aligned(theirs, ours.jacobians), ours)
    assert np.allclose(made.jacobians, steady["jacobian"][0], atol=1e-5)
    network = regions.Disentangled(9)
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    shapes = {name: value.shape for name, value in tensors.items()}
    assert shapes == _region_motion.disentangled_shapes(9)
    with torch.no_grad():
        apart = network(source, driving)
    made = _region_motion.disentangled(tensors, ours, theirs)
    assert np.allclose(made.points, apart["value"][0], atol=1e-5)
    assert np.allclose(made.jacobians, apart["jacobian"][0], atol=1e-5)


def test_relative_motion_of_a_driving_that_rests_leaves_the_source():
    from studykit.training.evaluate import transfer

    source, first = random_regions(9, 0), random_regions(9, 1)
    moved = transfer(source, {**first, "jacobian": -first["jacobian"]}, first)
    assert torch.allclose(moved["value"], source["value"], atol=1e-6)
    assert torch.allclose(moved["jacobian"], source["jacobian"], atol=1e-5)


def test_the_background_rests_at_first():
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    affine = regions.Background()(images, images.flip(0))
    assert torch.equal(affine, torch.eye(2, 3).expand(2, -1, -1))


def test_a_known_background_is_the_dense_motions_first():
    parts = regions.build(REGION_SETTINGS)
    motion = parts["generator"].dense_motion_network.eval()
    source, driving = random_regions(23, 0), random_regions(23, 1)
    affine = torch.tensor([[[1.1, 0.1, 0.2], [-0.1, 0.9, -0.3]]])
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        known = motion(image, {**driving, "background": affine}, source)["motions"]
        still = motion(image, driving, source)["motions"]
    grid = networks.coordinate_grid(16, 16, image)
    assert torch.allclose(still[0, 0], grid)
    assert torch.allclose(known[0, 0, 3, 5], affine[0, :, :2] @ grid[3, 5] + affine[0, :, 2])
    assert torch.equal(known[:, 1:], still[:, 1:])


def test_true_regions_are_mirrored_with_their_images():
    assert set(regions.REGIONS) == set(KEYPOINTS)
    marks = 20 + 60 * torch.rand(3, 68, 2, generator=torch.Generator().manual_seed(0))
    found = regions.true_covariances(marks, 128)
    assert (torch.linalg.eigvalsh(found) > 0).all()
    mirrored = regions.true_covariances(_mirror_points(marks, 128), 128)
    expected = found[:, list(data.MIRRORED)] * torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    assert torch.allclose(mirrored, expected, atol=1e-6)


def test_a_moved_camera_takes_all_that_is_true_along(filled):  # noqa: F811
    """The composed flow brings the source to the moved driving; points and images stay together."""
    from torch.nn import functional

    shelf = Shelf(data.Cache(filled, SMALL, held_out=2), torch.device("cpu"))
    batch = shelf.draw(0, 16, np.random.default_rng(1))
    camera = torch.tensor([[[1.05, -0.15, 0.08], [0.15, 1.05, -0.05]]]).expand(16, -1, -1)
    moved = seen_from(batch, camera)

    def error(one, deformation):
        half, truth = (functional.avg_pool2d(x, 2) for x in (one.source, one.driving))
        shown = functional.grid_sample(half, deformation, align_corners=True)
        known = one.seen * functional.avg_pool2d(one.face, 2)
        return float(((shown - truth).abs() * known).sum() / known.sum())

    assert error(moved, moved.deformation) < 1.2 * error(batch, batch.deformation)
    assert error(moved, batch.deformation) > 1.5 * error(moved, moved.deformation)
    back = regions.transformed(moved.driving_kp, camera)
    assert torch.allclose(back, batch.driving_kp, atol=1e-5)
    resting = seen_from(batch._replace(deformation=still_grid(batch)), camera)
    inside = (resting.deformation.abs() < 1).all(-1)
    expected = regions.transformed(still_grid(batch).flatten(1, 2), camera)
    assert torch.allclose(
        resting.deformation[inside], expected.view_as(resting.deformation)[inside], atol=1e-5
    )
    same = seen_from(batch, torch.eye(2, 3).expand(16, -1, -1))
    for name in ("driving", "landmarks", "deformation", "seen", "face"):
        assert torch.allclose(getattr(same, name), getattr(batch, name), atol=1e-3), name


def still_grid(batch):
    size = batch.deformation.shape[1:3]
    return networks.coordinate_grid(*size, batch.seen).expand(len(batch.seen), -1, -1, -1)


def test_the_camera_moves_in_as_many_samples_as_asked_for(filled):  # noqa: F811
    shelf = Shelf(data.Cache(filled, SMALL, held_out=2), torch.device("cpu"))
    batch = shelf.draw(0, 64, np.random.default_rng(1), camera=0.3)
    moves = (batch.background != torch.eye(2, 3)).any((1, 2)).float().mean()
    assert 0.15 < moves < 0.45


def test_regions_and_motion_are_learned(filled):  # noqa: F811
    from studykit.training.train import Training

    phases = (Phase("motion", 80, 4, (3e-3, 1e-3), PARTS, paints=False, camera=0.3),)
    training = Training(region_recipe(phases=phases), data.Cache(filled, SMALL, 2), "cpu")
    found = [training.advance() for _ in range(80)]
    assert "l1" not in found[0]
    for name in ("loss", "keypoints", "moments", "flow"):
        first, last = (
            np.mean([float(x[name]) for x in part]) for part in (found[:20], found[-20:])
        )
        assert last < 0.85 * first, name


def test_painting_is_left_alone_while_motion_is_trained(filled):  # noqa: F811
    from studykit.training.train import Training

    phases = (Phase("motion", 1, 2, (1e-2, 1e-2), PARTS, paints=False),)
    training = Training(region_recipe(phases=phases), data.Cache(filled, SMALL, 2), "cpu")
    generator = training.networks["generator"]
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    training.advance()
    changed = {n for n, v in generator.state_dict().items() if not torch.equal(v, before[n])}
    assert changed and all(name.startswith("dense_motion_network.") for name in changed)


def test_shape_and_pose_come_apart():
    """A stretched driving is recognised: what is made is the source's own width."""
    torch.manual_seed(0)
    network = regions.Disentangled(9)
    face = random_regions(9, 0)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(300):
        width = torch.tensor(rng.uniform(0.8, 1.2, (32, 1, 2))).float()
        lift = torch.tensor(rng.uniform(-0.2, 0.2, (32, 1, 2))).float()
        stretch = torch.tensor(rng.uniform(0.75, 1.25, (32, 2))).float()
        frames = face["jacobian"].expand(32, -1, -1, -1)
        source, driving = (
            {"value": face["value"] * width + by, "jacobian": frames} for by in (0 * lift, lift)
        )
        loss = sum(network.objective(source, driving, stretch).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:20])


def test_a_resumed_run_of_regions_logs_what_an_uninterrupted_one_does(filled, tmp_path):  # noqa: F811
    from studykit.training.log import compare_logs
    from studykit.training.train import run

    def cache():
        return data.Cache(filled, SMALL, held_out=2)

    run(region_recipe(), tmp_path / "whole", cache(), echo=lambda line: None)
    for _ in range(7):
        run(
            region_recipe(),
            tmp_path / "parts",
            cache(),
            resume=True,
            minutes=0,
            echo=lambda _: None,
        )
    agreed = compare_logs(tmp_path / "whole", tmp_path / "parts")
    assert agreed == "8 records agree, up to step 7"
    records = [json.loads(x) for x in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert any("cross psnr frontal" in record.get("held out", {}) for record in records)
    assert "pose value" in records[-1]


def test_an_export_holds_all_parts_in_half_precision(filled, tmp_path):  # noqa: F811
    from safetensors.numpy import load_file

    from studykit.methods import checkpoint_files, weights
    from studykit.training.export import export_checkpoint
    from studykit.training.train import run

    run(region_recipe(), tmp_path, data.Cache(filled, SMALL, 2), echo=lambda line: None)
    made = export_checkpoint(tmp_path, tmp_path / "tiny.safetensors", measured_on=1)
    tensors = load_file(made.path)
    parts = {name.partition(".")[0] for name in tensors}
    assert parts == set(checkpoint_files.FAMILIES["regions"])
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float16)}
    assert weights.stored_settings(made.path)["network"] == "regions"


def test_regions_begin_with_the_first_order_models_weights(tmp_path):
    from studykit.methods.weights import load, locate
    from studykit.training.train import Training

    recipe = read_recipe("regions-256")
    training = Training(recipe, data.Cache(tmp_path, recipe.data, 0), "cpu")
    begun = load(locate("synth-256"))
    for name, key in (("kp_detector", "kp.weight"), ("generator", "final.weight")):
        first = training.networks[name].state_dict()[key].numpy()
        assert np.array_equal(first, begun.networks[name][key])


def test_an_unknown_network_is_named():
    with pytest.raises(StudyError, match=r'no network "region".*did you mean "regions"'):
        tiny_recipe(network="region")
