"""Adam that goes over to stochastic gradient descent (Keskar and Socher 2017, algorithm 1)."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Swats(torch.optim.Optimizer):
    """Takes Adam's steps, and for good those of SGD once the rate is known that they amount to.

    A step p of Adam, projected onto the gradient g, is one of SGD with the rate
    gamma = p.p / -(p.g). Once gamma is within ``epsilon`` of its own average, with bias corrected,
    lambda / (1 - beta2^k), SGD goes on at that average, with Adam's first beta as its momentum.
    Both are of all parameters together. Where the learning rate falls afterwards, SGD's falls with
    it.

    Parameters
    ----------
    parameters : iterable of Tensor
    lr : float
        Adam's.
    betas : (float, float)
    epsilon : float
        Of the rule; 0 is Adam alone. Of Adam's division, it is 1e-8 throughout.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-9,
    ) -> None:
        rule = {"epsilon": epsilon, "count": 0, "average": 0.0, "gamma": 0.0, "switch": None}
        super().__init__(parameters, {"lr": lr, "betas": betas, **rule})
        if len(self.param_groups) > 1:
            raise ValueError("the rule is one of all parameters: give one group")

    @property
    def told(self) -> dict[str, float]:
        """The rate of SGD that Adam's last step amounted to, and its average; then, the switch."""
        group = self.param_groups[0]
        if group["switch"] is not None:
            at, rate, _ = group["switch"]
            return {"switched at": at, "rate": rate}
        corrected = 1 - group["betas"][1] ** max(group["count"], 1)
        return {"rate": group["gamma"], "average rate": group["average"] / corrected}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Take one step."""
        (group,) = self.param_groups
        own = [p for p in group["params"] if p.grad is not None]
        group["count"] += 1
        if group["switch"] is not None:
            self._descend(group, own)
        else:
            self._adam(group, own)

    def _descend(self, group: dict[str, Any], own: list[Tensor]) -> None:
        _, rate, then = group["switch"]
        beta = group["betas"][0]
        rate *= group["lr"] / then
        for parameter in own:
            state = self.state[parameter]
            if not state:
                state["velocity"] = torch.zeros_like(parameter)
            velocity = state["velocity"].mul_(beta).add_(parameter.grad)
            parameter.add_(velocity, alpha=-(1 - beta) * rate)

    def _adam(self, group: dict[str, Any], own: list[Tensor]) -> None:
        first, second = group["betas"]
        square, along = 0.0, 0.0
        for parameter in own:
            state, gradient = self.state[parameter], parameter.grad
            if not state:
                # A network may begin to be trained later than others.
                state["steps"] = 0
                state["mean"] = torch.zeros_like(parameter)
                state["square"] = torch.zeros_like(parameter)
            state["steps"] += 1
            state["mean"].lerp_(gradient, 1 - first)
            state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
            correction = (1 - second ** state["steps"]) ** 0.5
            size = -group["lr"] * correction / (1 - first ** state["steps"])
            step = size * state["mean"] / (state["square"].sqrt() + 1e-8 * correction)
            parameter.add_(step)
            square += (step * step).sum().double()
            along += (step * gradient).sum().double()
        if not float(along):
            return
        group["gamma"] = float(-square / along)
        group["average"] = second * group["average"] + (1 - second) * group["gamma"]
        rate = group["average"] / (1 - second ** group["count"])
        # A descent uphill is none.
        if group["count"] > 1 and rate > 0 and abs(rate - group["gamma"]) < group["epsilon"]:
            group["switch"] = (group["count"], rate, group["lr"])
            for parameter in own:
                self.state[parameter].clear()
