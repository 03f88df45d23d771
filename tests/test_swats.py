"""SWATS: Adam's steps, the switch by the paper's rule, and descent afterwards."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs PyTorch")

from studykit.training.swats import Swats  # noqa: E402

CURVES = np.array([1.0, 3.0, 0.5, 8.0, 2.0])  # f(w) = sum c w^2 / 2
START = np.array([2.0, -1.0, 3.0, 0.5, -2.0])
EPSILON = 3e-4


def by_hand(steps, lr, epsilon, betas=(0.9, 0.999)):
    """Algorithm 1 of the paper, line by line; return the places, and the step of the switch."""
    w, m, a, average, v = START.copy(), np.zeros(5), np.zeros(5), 0.0, np.zeros(5)
    phase, rate, switched, places = "adam", 0.0, None, []
    for k in range(1, steps + 1):
        g = CURVES * w
        if phase == "sgd":
            v = betas[0] * v + g
            w = w - (1 - betas[0]) * rate * v
        else:
            m = betas[0] * m + (1 - betas[0]) * g
            a = betas[1] * a + (1 - betas[1]) * g**2
            correction = np.sqrt(1 - betas[1] ** k)
            # The division's constant is 1e-8 after the correction, as PyTorch has it.
            p = -lr * correction / (1 - betas[0] ** k) * m / (np.sqrt(a) + 1e-8 * correction)
            w = w + p
            if p @ g != 0:
                gamma = (p @ p) / -(p @ g)
                average = betas[1] * average + (1 - betas[1]) * gamma
                corrected = average / (1 - betas[1] ** k)
                if k > 1 and abs(corrected - gamma) < epsilon and corrected > 0:
                    phase, rate, switched = "sgd", corrected, k
        places.append(w.copy())
    return np.array(places), switched, rate


def descended(steps, lr, epsilon, optimiser=None):
    """Return the places of an optimiser, two parameters together being the five numbers."""
    parts = [torch.tensor(part, requires_grad=True) for part in (START[:2], START[2:])]
    curves = torch.tensor(CURVES)
    made = (optimiser or Swats)(parts, **({"epsilon": epsilon} if optimiser is None else {}), lr=lr)
    places = []
    for _ in range(steps):
        made.zero_grad()
        (curves * torch.cat(parts) ** 2 / 2).sum().backward()
        made.step()
        places.append(torch.cat(parts).detach().numpy().copy())
    return np.array(places), made


def test_it_takes_the_papers_steps_and_switches_where_the_paper_does():
    wanted, switched, rate = by_hand(300, 0.05, EPSILON)
    found, made = descended(300, 0.05, EPSILON)
    assert 20 < switched < 250
    assert made.told == pytest.approx({"switched at": switched, "rate": rate})
    assert np.allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_without_a_switch_it_is_adam():
    found, made = descended(100, 0.05, 0.0)
    wanted, _ = descended(100, 0.05, None, torch.optim.Adam)
    assert np.allclose(found, wanted, rtol=1e-9, atol=1e-12)
    assert "switched at" not in made.told and made.told["rate"] > 0


def test_by_default_the_rule_is_as_narrow_as_the_papers():
    assert Swats([torch.zeros(1)]).param_groups[0]["epsilon"] == 1e-9


@pytest.mark.parametrize("at", [10, 280])
def test_it_goes_on_from_its_stored_state(at):
    wanted, made = descended(300, 0.05, EPSILON)
    place, half = descended(at, 0.05, EPSILON)
    parameter = torch.tensor(place[-1], requires_grad=True)
    parts = [parameter.detach()[:2].clone(), parameter.detach()[2:].clone()]
    again = Swats([p.requires_grad_(True) for p in parts], lr=1.0)
    again.load_state_dict(half.state_dict())
    for _ in range(300 - at):
        again.zero_grad()
        (torch.tensor(CURVES) * torch.cat(parts) ** 2 / 2).sum().backward()
        again.step()
    assert again.told == made.told
    assert np.array_equal(torch.cat(parts).detach().numpy(), wanted[-1])


def test_after_the_switch_the_rate_falls_with_the_learning_rate():
    _, made = descended(250, 0.05, EPSILON)
    (group,) = made.param_groups
    for parameter in group["params"]:
        made.state[parameter]["velocity"].zero_()
        parameter.grad = torch.ones_like(parameter)
    before = torch.cat([p.detach() for p in group["params"]])
    group["lr"] *= 0.25
    made.step()
    moved = torch.cat([p.detach() for p in group["params"]]) - before
    assert torch.allclose(moved, torch.full_like(moved, -0.1 * 0.25 * made.told["rate"]))


def test_a_network_that_is_not_trained_stays_and_joins_later():
    still, moving = (torch.ones(2, requires_grad=True) for _ in range(2))
    made = Swats([still, moving], lr=0.1, epsilon=0.0)
    for step in range(4):
        moving.grad = torch.ones(2)
        still.grad = torch.ones(2) if step == 3 else None
        made.step()
        assert torch.equal(still, torch.ones(2)) == (step < 3)
    # Adam's first step is as long as the learning rate, whenever it comes.
    assert torch.allclose(still, torch.full((2,), 0.9))
