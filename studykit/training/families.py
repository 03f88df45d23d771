"""The families of networks that are trained, by the name that recipes and weights give them."""

from typing import Any

import torch
from torch import nn

from studykit.methods.checkpoint_files import Settings, family_of
from studykit.training import batches, enhance, networks, regions, resnet, sparse
from studykit.training.data import Cache
from studykit.training.objective import Objective

_BUILT_BY: dict[str, Any] = {
    "enhance": enhance.build,
    "fomm": networks.build,
    "regions": regions.build,
    "resnet": resnet.build,
    "sparse": sparse.build,
}


def objective(built: dict[str, nn.Module], bf16: bool, vgg: Any = None) -> nn.Module:
    """Return what makes the terms of the loss, for networks that :func:`build` gave."""
    if "enhance" in built:
        return enhance.Objective(built, bf16)
    kind: Any = sparse.Objective if "motion" in built else Objective
    if isinstance(built.get("kp_detector"), resnet.ResnetDetector):
        kind = resnet.Objective
    return kind(built, bf16, vgg)


def shelf(built: dict[str, nn.Module], cache: Cache, device: torch.device) -> Any:
    """Return what batches for these networks are drawn from."""
    return (enhance if "enhance" in built else batches).Shelf(cache, device)


def build(settings: Settings) -> dict[str, nn.Module]:
    """Build all networks of a checkpoint's settings, by their names.

    Those that animate are in :data:`studykit.methods.checkpoint_files.FAMILIES`; others serve
    training alone.
    """
    return _BUILT_BY[family_of(settings)](settings)
