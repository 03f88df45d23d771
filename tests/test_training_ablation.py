"""Variants of a recipe: they differ in what they are named after, and in nothing else."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from studykit.errors import StudyError
from studykit.metrics.cases import Case, identity_of, states_of
from studykit.stimuli import flow, render
from studykit.training import data
from studykit.training.card import _ablations

pytest.importorskip("torch", reason="the trainer needs PyTorch")
from studykit.training import ablation
from studykit.training.train import Training
from tests.test_training import SMALL, filled, tiny_recipe

__all__ = ["filled"]  # a fixture
KNOWN = yaml.safe_load(ablation._FILE.read_text(encoding="utf-8"))


def test_a_change_reaches_into_mappings_and_into_every_item_of_a_list() -> None:
    base = {"a": {"b": 1, "c": 2}, "phases": [{"steps": 5, "rate": 1}, {"steps": 6}], "d": [1]}
    found = ablation.changed(base, {"a": {"b": 3}, "phases": {"steps": 7}, "d": [2, 3], "e": 4})
    assert found == {
        "a": {"b": 3, "c": 2}, "phases": [{"steps": 7, "rate": 1}, {"steps": 7}], "d": [2, 3],
        "e": 4,
    }  # fmt: skip
    assert base["phases"][0]["steps"] == 5


@pytest.mark.parametrize("name", KNOWN)
def test_variants_are_trained_alike_but_for_what_their_names_say(name: str, tmp_path: Path) -> None:
    recipes = {
        variant: ablation._recipe(name, [KNOWN[name]["training"], changes], tmp_path, "cpu")
        for variant, changes in KNOWN[name]["variants"].items()
    }
    whole = recipes.pop("as it is")
    differing = {
        "without Add_Motion": {"motion_cfg"},
        "without AdaIN": {"motion_cfg"},
        "without local branches": {"motion_cfg"},
        "without background motion": {"phases"},
        "with FOMM's jacobians": {"common_params", "kp_detector_cfg", "untrained"},
    }
    for variant, recipe in recipes.items():
        fields = (field.name for field in dataclasses.fields(recipe))
        differ = {f for f in fields if getattr(recipe, f) != getattr(whole, f)}
        assert differ == differing[variant], variant
    if name == "regions-256":
        (phase,), (other,) = whole.phases, recipes["without background motion"].phases
        assert dataclasses.replace(phase, networks=other.networks) == other
        assert set(phase.networks) - set(other.networks) == {"background"}


def test_what_is_untrained_does_not_begin_with_the_weights_of_the_start(
    filled: Path, tmp_path: Path
) -> None:
    cache = data.Cache(filled, SMALL, 2)
    trained = Training(tiny_recipe(), cache, "cpu")
    trained.average["kp_detector"]["jacobian.weight"].fill_(0.5)
    trained.save(tmp_path)
    given = {"start": str(tmp_path / "weights.safetensors"), "network": "regions"}
    recipe = tiny_recipe(**given, untrained=("kp_detector.jacobian",))
    training = Training(recipe, cache, "cpu")
    detector = training.networks["kp_detector"]
    assert detector.jacobian.weight.abs().max() == 0  # as before training
    theirs = Training(tiny_recipe(**given), cache, "cpu").networks["kp_detector"]
    assert theirs.jacobian.weight.min() == 0.5
    assert (theirs.kp.weight == detector.kp.weight).all()
    image = next(iter(training._shelf.identities()))[:1]
    found = detector(image)
    assert "covariance" not in found and np.allclose(found["jacobian"].detach(), np.eye(2))
    assert "equivariance jacobian" in training.advance()


def test_the_true_motion_has_no_error_and_rest_errs_by_how_far_the_face_goes() -> None:
    size = 64
    frames = [render(identity_of(0), *state, size) for state in states_of(0)]
    shown = np.stack([frame.image for frame in frames])
    case = Case(0, np.stack([shown, shown]), *[np.zeros(0)] * 3)
    still = np.stack(np.meshgrid(*[np.linspace(-1, 1, size // 2)] * 2), -1)
    there = [data.halved_flow(*flow(frame, frames[0]))[0] for frame in frames]
    true = np.stack([still + field / (size // 2 - 1) for field in there])
    assert max(ablation._flow_errors(true, case, 0)) < 1e-5
    errors = list(ablation._flow_errors(np.stack([still] * len(frames)), case, 0))
    assert len(errors) == 10 and errors[4] > 2 > errors[1]  # a turn, a blink


def test_variants_are_trained_measured_and_listed_in_the_card(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.asdict(tiny_recipe())
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(recipe))))
    variants = {"as it is": {}, "at a higher rate": {"phases": {"learning_rate": [2e-3, 2e-3]}}}
    about = {"tiny": {"seeds": [1, 2], "training": {"held_out": 1}, "variants": variants}}
    (tmp_path / "ablations.yaml").write_text(yaml.safe_dump(about))
    monkeypatch.setattr(ablation, "RECIPES", tmp_path)
    monkeypatch.setattr(ablation, "_FILE", tmp_path / "ablations.yaml")
    figures = {"same": 1.234, "cross": -0.5, "same flow": 2.0, "cross flow": 3.0}
    monkeypatch.setattr(ablation, "_figures", lambda folder, echo: figures)
    quiet = {"workers": 0, "echo": lambda line: None}
    path = ablation.ablate("tiny", tmp_path / "out", filled, **quiet)
    assert [row["variant"] for row in json.loads(path.read_text())["rows"]] == [*variants] * 2
    assert "| at a higher rate | 2 | +1.23 | -0.50 | 2.00 | 3.00 |" in _ablations(path.parent)
    assert "for 6 steps of 2 pairs" in _ablations(path.parent)
    with pytest.raises(StudyError, match="no ablations of tinny are known"):
        ablation.ablate("tinny", tmp_path / "out", filled, **quiet)
