"""The trainer of ``sparse``: landmarks as they are found, rigid motion for nothing, runs again."""

import dataclasses
import json

import numpy as np
import pytest

from studykit.methods import checkpoint_files, weights
from studykit.training import data
from studykit.training.recipe import Phase, read_recipe
from tests.sparse_faces import SPARSE, face_pairs
from tests.test_training import SMALL, filled, tiny_recipe  # noqa: F401

torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")

from studykit.training import sparse  # noqa: E402
from studykit.training.batches import Shelf, _mirror_points  # noqa: E402
from studykit.training.networks import coordinate_grid  # noqa: E402
from studykit.training.train import Training, run  # noqa: E402

LANDMARKS = {"num_kp": 70, "num_channels": 3, "estimate_jacobian": False}
MOTION = {"side": 64, "whole": [8, 12], "local": [8, 8], "code": 16}


def sparse_recipe(**changes):
    phases = (
        Phase("motion", 3, 2, (1e-3, 1e-3), ("motion",), paints=False),
        Phase("painted", 2, 2, (1e-3, 1e-3), ("motion",)),
        Phase("joint", 1, 2, (1e-3, 1e-3), ("motion", "generator"), true_motion=(0.5, 0.5)),
        Phase("landmarks", 2, 2, (1e-3, 1e-3), ("kp_detector",)),
    )
    made = {"phases": phases, "common_params": LANDMARKS, **changes}
    return tiny_recipe(network="sparse", motion_cfg=MOTION, **made)


@pytest.fixture
def batch(filled):  # noqa: F811
    shelf = Shelf(data.Cache(filled, SMALL, 2), torch.device("cpu"))
    return shelf.draw(0, 4, np.random.default_rng(3))


def moved_grid(marked):
    """Where the similarity alone takes the places of the flow's grid, (B, 32, 32, 2)."""
    grid = coordinate_grid(SPARSE.grid, SPARSE.grid, marked.maps)
    linear, shift = marked.maps[:, 0, :, :2], marked.maps[:, 0, :, 2]
    return grid @ linear[:, None].transpose(2, 3) + shift[:, None, None]


def test_an_untrained_network_moves_the_head_by_the_similarity():
    motion = sparse.SparseMotion(SPARSE)
    with torch.no_grad():
        motion.whole.head.bias[0] = 30.0  # all is head
        for part in ("left", "right", "mouth"):
            motion.own(f"{part}.head.bias")[2] = -30.0
        marked = sparse.Marked.of(SPARSE, *face_pairs(2), torch.device("cpu"))
        flow, _, _ = motion(torch.rand(2, 3, 64, 64), marked)
    assert torch.allclose(flow.permute(0, 2, 3, 1), moved_grid(marked), atol=1e-5)


def test_the_similarity_explains_most_of_a_heads_true_motion(batch):
    marked = sparse.marked(SPARSE, batch, np.random.default_rng(0))
    where = torch.nn.functional.avg_pool2d(batch.face, 2)[:, 0] * batch.seen[:, 0]

    def error(field):
        distance = (field - batch.deformation).norm(dim=-1)
        return (distance * where).sum((1, 2)) / where.sum((1, 2))

    still = error(coordinate_grid(32, 32, batch.seen).expand_as(batch.deformation))
    assert (error(moved_grid(marked)).mean() < 0.6 * still.mean()).item()


def test_found_landmarks_are_taken_where_a_face_was_found(batch, monkeypatch):
    monkeypatch.setattr(sparse, "_MOST_ERROR", 0.0)
    monkeypatch.setattr(sparse, "_WITHOUT_IRISES", 0.0)
    monkeypatch.setattr(sparse, "_FOUND", 1.0)
    seen = []
    monkeypatch.setattr(sparse.Marked, "of", lambda shape, *pair: seen.append(pair))
    found = torch.rand(4, 70, 2) - 0.5
    lost = found.clone()
    lost[1] = torch.nan
    batch = batch._replace(source_found=lost, found=found)
    sparse.marked(SPARSE, batch, np.random.default_rng(0))
    source, driving, _ = seen[0]
    taken = [np.allclose(driving[k], found[k].numpy()) for k in range(4)]
    assert taken == [True, False, True, True]
    true = SPARSE.coordinates(batch.source_landmarks[1].numpy(), 64)
    assert np.allclose(source[1, :68], true, atol=1e-6)


def test_what_is_found_is_kept_beside_the_frames(filled, tmp_path, monkeypatch):  # noqa: F811
    from studykit.media import faces

    monkeypatch.setattr(faces, "find_faces", lambda frame, finder: [])
    monkeypatch.setattr(data.os, "nice", lambda by: None)
    (tmp_path / "000000.npz").write_bytes((filled / "000000.npz").read_bytes())
    settings = dataclasses.replace(SMALL, identities=1, at_start=1, found=True)
    data._render_share(tmp_path, settings, 0, 0, 1)
    content = data.Cache(tmp_path, settings, 0).identity(0)
    assert content["found"].shape == (SMALL.frames, 70, 2) and np.isnan(content["found"]).all()


def test_mirrored_irises_change_sides():
    points = torch.zeros(1, 70, 2)
    points[0, 68], points[0, 69] = torch.tensor([20.0, 30]), torch.tensor([40.0, 31])
    mirrored = _mirror_points(points, 64)[0]
    assert mirrored[68].tolist() == [23.0, 31.0] and mirrored[69].tolist() == [43.0, 30.0]


def test_a_run_learns_and_leaves_what_the_method_animates_with(filled, tmp_path):  # noqa: F811
    recipe = sparse_recipe()
    cache = data.Cache(filled, SMALL, 2)
    path = run(recipe, tmp_path / "a", cache, echo=lambda line: None)
    again = run(recipe, tmp_path / "b", cache, echo=lambda line: None)
    logs = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in log.open()]
        for log in (path.with_name("log.jsonl"), again.with_name("log.jsonl"))
    ]
    assert logs[0] == logs[1]
    held_out = [record["held out"] for record in logs[0] if "held out" in record]
    assert held_out and all(np.isfinite(v) for v in held_out[-1].values())
    checkpoint = weights.load(path)
    assert checkpoint_files.family_of(checkpoint.config) == "sparse"
    expected = sparse.network.tensor_shapes(SPARSE)
    assert {k: v.shape for k, v in checkpoint.networks["motion"].items()} == expected
    assert not any(name.startswith("dense_motion") for name in checkpoint.networks["generator"])


def test_painting_stays_frozen_until_it_is_named(filled):  # noqa: F811
    training = Training(sparse_recipe(), data.Cache(filled, SMALL, 2), "cpu")
    frozen = training.networks["generator"].final.weight.detach().clone()
    for step in range(6):
        before = training.networks["motion"].whole.head.weight.detach().clone()
        training.advance()
        assert not torch.equal(before, training.networks["motion"].whole.head.weight)
        same = torch.equal(frozen, training.networks["generator"].final.weight)
        assert same == (step < 5)


def test_landmarks_are_learned_by_themselves(filled):  # noqa: F811
    phases = (Phase("landmarks", 30, 4, (3e-3, 3e-3), ("kp_detector",)),)
    training = Training(sparse_recipe(phases=phases), data.Cache(filled, SMALL, 2), "cpu")
    before = {k: v.clone() for k, v in training.networks["motion"].state_dict().items()}
    terms = [training.advance() for _ in range(30)]
    assert set(terms[0]) == {"loss", "keypoints", "heatmap"}
    first, last = (sum(float(t["keypoints"]) for t in part) for part in (terms[:5], terms[-5:]))
    assert last < 0.7 * first
    assert all(
        torch.equal(v, before[k]) for k, v in training.networks["motion"].state_dict().items()
    )


def test_each_landmark_begins_as_the_keypoint_that_is_nearest():
    recipe = read_recipe("sparse-256")
    network, began = sparse.build(recipe.settings)["kp_detector"], weights.load(recipe.start)
    network.warm_start(began.kp_detector)
    own, theirs = network.kp.bias.detach().numpy(), began.kp_detector["kp.bias"]
    named = list(sparse.KEYPOINTS)
    nearest = {30: "nose tip", 8: "chin", 36: "left eye outer", 68: "left iris", 66: "lower lip"}
    for landmark, keypoint in nearest.items():
        assert own[landmark] == theirs[named.index(keypoint)]


def test_the_shipped_recipe_is_read_and_starts_from_synth_256():
    recipe = read_recipe("sparse-256")
    built = sparse.build(recipe.settings)
    assert recipe.data.found and recipe.start == "synth-256" and recipe.phases[0].paints is False
    began = weights.load(recipe.start).kp_detector
    built["motion"].warm_start(began)
    theirs = began["predictor.encoder.down_blocks.1.conv.weight"]
    assert np.array_equal(built["motion"].own("whole.down.1.conv.weight").detach().numpy(), theirs)
