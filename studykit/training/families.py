"""The families of networks that are trained, by the name that recipes and weights give them."""

from typing import Any

from torch import nn

from studykit.methods.checkpoint_files import Settings, family_of
from studykit.training import networks, regions

_BUILT_BY: dict[str, Any] = {"fomm": networks.build, "regions": regions.build}


def build(settings: Settings) -> dict[str, nn.Module]:
    """Build all networks of a checkpoint's settings, by their names.

    Those that animate are in :data:`studykit.methods.checkpoint_files.FAMILIES`; others serve
    training alone.
    """
    return _BUILT_BY[family_of(settings)](settings)
