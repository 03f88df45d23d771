"""Small real inputs that many tests share: a portrait, a driving made of it, a study file."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read as NumPy is loaded; see studykit.cli

# isort: split
import ctypes
import gc
import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import skimage.data
from PIL import Image

from studykit.media import video

if TYPE_CHECKING:
    from studykit import stimuli

# By their time, longest first: with several workers none is left alone with one of these.
LONG_FILES = ("docs", "fomm", "run", "training", "measure", "widget", "video", "stimuli", "bench")


def pytest_configure(config: pytest.Config) -> None:
    gc.set_threshold(50_000)  # as the command line, which says why
    config.option.loadscopereorder = False  # pytest-xdist's own order: by the number of tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    long = {f"test_{name}.py": place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: long.get(item.path.name, len(long)))
    for item in items:
        if not isinstance(item, pytest.Function):  # a notebook's cell needs those before it
            item.add_marker(pytest.mark.flaky(reruns=0))


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep weights, graphs and landmarks of tests apart from those of the user.

    Graphs are shared by all workers, and none is forgotten: those of a shipped checkpoint take
    five seconds, and many tests want them.
    """
    with pytest.MonkeyPatch.context() as patch:
        # Each process that a test starts would compile again what it imports, which takes half of
        # its time.
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setattr("studykit.methods._fomm_runtime._KEPT", 100)
        shared = tmp_path_factory.getbasetemp()
        shared = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "graphs"
        shared.mkdir(exist_ok=True)
        folder = tmp_path_factory.mktemp("cache")
        (folder / "graphs").symlink_to(shared)
        patch.setenv("STUDYKIT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return skimage.data.astronaut()


@pytest.fixture(scope="module")
def rendered() -> "stimuli.Frame":
    from studykit import stimuli

    return stimuli.render(stimuli.Identity.random(3))


class _Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


@pytest.fixture
def held_bytes() -> Callable[[], int]:
    """Count the bytes that C code, and Python for large objects, has taken and not given back.

    Unlike the memory that the process has of the system, it is the same from run to run.
    """
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (AttributeError, TypeError):
        pytest.skip("only glibc tells, from 2.33 on")
    mallinfo2.restype = _Mallinfo2

    def count() -> int:
        gc.collect()
        info = mallinfo2()
        return info.uordblks + info.hblkhd

    return count


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """A photograph with one frontal face, (512, 512, 3) uint8."""
    return skimage.data.astronaut()


@pytest.fixture(scope="session")
def make_driving(portrait: np.ndarray) -> Callable[..., Path]:
    """Write a short driving in which the portrait slides to the right, two pixels a frame."""

    def make(path: Path, frames: int = 6, size: int = 128) -> Path:
        picture = np.asarray(
            Image.fromarray(portrait[:400, :400]).resize((size + 2 * frames, size))
        )
        slid = (picture[:, 2 * (frames - i) :][:, :size] for i in range(frames))
        video.write_video(path, slid, frame_rate=Fraction(25))
        return path

    return make


@pytest.fixture(scope="session")
def small_inputs(
    tmp_path_factory: pytest.TempPathFactory,
    portrait: np.ndarray,
    make_driving: Callable[..., Path],
) -> Path:
    """The folder of a study of two sources, two drivings and the method copy, quick to run."""
    folder = tmp_path_factory.mktemp("small")
    video.write_image(folder / "anna.png", portrait[:400, :400])
    video.write_image(folder / "berta.png", portrait[:380, 20:400])
    make_driving(folder / "talk.mp4")
    make_driving(folder / "turn.mp4", frames=5)
    (folder / "study.yaml").write_text(
        "name: small\n"
        "seed: 3\n"
        "size: 64\n"
        "crop: centre\n"
        "sources: {frontal: [anna.png], side: [berta.png]}\n"
        "drivings: {frontal: [talk.mp4], stylised: [turn.mp4]}\n"
        "methods: [copy]\n"
    )
    return folder


@pytest.fixture
def small_study(small_inputs: Path, tmp_path: Path) -> Path:
    """The file of such a study, in a folder of the test's own."""
    return shutil.copytree(small_inputs, tmp_path, dirs_exist_ok=True) / "study.yaml"
