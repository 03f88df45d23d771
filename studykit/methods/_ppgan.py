"""The networks of ppgan 2.1.0, imported on Pythons and Paddles that it was not released for.

Importing ``ppgan.models`` fails since Paddle 2.5: it imports all of ppgan's models, and one needs
``paddle.fluid``. The two networks need none of them, so their files are loaded without the
packages around them; nothing of paddle or ppgan is replaced.
"""

import contextlib
import importlib.util
import os
import types
import warnings
from collections.abc import Iterator
from typing import Any

from studykit.errors import MissingPackageError
from studykit.machine import package_folder

# What fomm runs on, as pip is asked for it. ppgan's release pins versions that no resolver accepts
# on Python >= 3.11, so it is installed without what it depends on.
PADDLE, PPGAN = "paddlepaddle>=3.0", "ppgan==2.1.0"


def import_paddle() -> types.ModuleType:
    """Import Paddle, without what it prints at its start.

    Raises
    ------
    MissingPackageError
        It is not installed, or something that it needs.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")  # it reports its start-up as warnings
    asked = os.environ.get("OMP_NUM_THREADS")
    with _quiet_import():
        import paddle

    # Where nobody asked for a number of threads, Paddle asks for one, which all others would heed.
    if asked is None:
        os.environ.pop("OMP_NUM_THREADS", None)
    return paddle


def import_ppgan() -> tuple[type, type]:
    """Import ``KPDetector`` and ``OcclusionAwareGenerator``, the networks' classes.

    Raises
    ------
    MissingPackageError
        Paddle or ppgan is not installed, or something that they need.
    """
    import_paddle()
    with _quiet_import():
        from ppgan.modules.keypoint_detector import KPDetector

        generators = _load_alone("ppgan.models.generators.occlusion_aware")
    return KPDetector, generators.OcclusionAwareGenerator


@contextlib.contextmanager
def _quiet_import() -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImportError as error:
        raise missing_package(error) from error


def missing_package(error: ImportError) -> MissingPackageError:
    """Return what to raise for an import of Paddle or ppgan that failed."""
    return MissingPackageError(
        f'fomm needs {error.name or error}: pip install "{PADDLE}" "opencv-python-headless>=4.8" '
        f"and then pip install --no-deps {PPGAN}"
    )


def repair_downsampling(network: Any) -> None:
    """Give a network's anti-aliased downsampling back what Paddle 2.5 removed.

    ppgan 2.1.0 picks every n-th pixel by ``paddle.fluid.layers.resize_nearest``. The checkpoints
    were trained with plain striding, as in the original and in ppgan before and after that
    release, so that is what stands here.
    """
    from ppgan.modules.first_order import AntiAliasInterpolation2d

    for layer in network.sublayers():
        if isinstance(layer, AntiAliasInterpolation2d):
            layer.forward = types.MethodType(_blur_and_stride, layer)


def _blur_and_stride(self: Any, image: Any) -> Any:
    import paddle.nn.functional as F

    stride = int(1 / self.scale)
    padded = F.pad(image, [self.ka, self.kb, self.ka, self.kb])
    return F.conv2d(padded, weight=self.weight, groups=self.groups)[:, :, ::stride, ::stride]


def _load_alone(name: str) -> types.ModuleType:
    """Load a module without its parent packages; its relative imports work all the same."""
    package, *inside = name.split(".")
    file = package_folder(package).joinpath(*inside).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
