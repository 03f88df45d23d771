"""The families of networks that are trained, by the name that recipes and weights give them."""

from typing import Any

from torch import nn

from studykit.methods.checkpoint_files import Settings, family_of
from studykit.training import networks, regions, resnet, sparse
from studykit.training.objective import Objective

_BUILT_BY: dict[str, Any] = {
    "fomm": networks.build,
    "regions": regions.build,
    "resnet": resnet.build,
    "sparse": sparse.build,
}


def objective(built: dict[str, nn.Module], bf16: bool, vgg: Any = None) -> nn.Module:
    """Return what makes the terms of the loss, for networks that :func:`build` gave."""
    kind: Any = sparse.Objective if "motion" in built else Objective
    if isinstance(built.get("kp_detector"), resnet.ResnetDetector):
        kind = resnet.Objective
    return kind(built, bf16, vgg)


def build(settings: Settings) -> dict[str, nn.Module]:
    """Build all networks of a checkpoint's settings, by their names.

    Those that animate are in :data:`studykit.methods.checkpoint_files.FAMILIES`; others serve
    training alone.
    """
    return _BUILT_BY[family_of(settings)](settings)
