"""A first study in a folder of its own, that runs as it is and is there to be changed."""

import contextlib
import importlib.util
import shutil
from fractions import Fraction
from pathlib import Path
from string import Template

from studykit import files
from studykit.errors import StudyError
from studykit.study.file import slug

NOTEBOOKS = ("1_inputs", "2_animate", "3_rate", "4_report", "animate_one")

_FRAMES, _RATE = 16, Fraction(25, 2)  # few, so that inputs are there soon and a run takes minutes
_FOMM_PACKAGES = ("paddle", "ppgan")


def new_study(folder: str | Path, *, seed: int = 8) -> Path:
    """Write a study into a new folder: a commented study file, inputs by type, the notebooks.

    The inputs are a rendered source and driving of each type, with their truth, and one
    photograph. The method fomm takes part where its packages are installed.

    Parameters
    ----------
    folder : path
        Made if it does not exist; it must be empty.
    seed : int
        Of the rendered faces and of the study; with 8 a face is found in every frame looked at.

    Returns
    -------
    Path
        The study file.

    Raises
    ------
    StudyError
        The folder is not empty or can't be written; nothing is left in it.
    """
    folder = Path(folder)
    part = folder / ".part"  # what a killed run may have left
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(item != part for item in folder.iterdir()):
            raise StudyError(f"{folder} is not empty: name a new folder")
        shutil.rmtree(part, ignore_errors=True)
        try:
            _write(part, slug(folder.resolve().name) or "study", seed)
            for item in part.iterdir():
                item.rename(folder / item.name)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            if made:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise
        part.rmdir()
    except OSError as error:
        raise StudyError(f"{folder} can't be written ({error.strerror}): name another") from None
    return folder / "study.yaml"


def _write(folder: Path, name: str, seed: int) -> None:
    from skimage.data import astronaut

    from studykit.media.video import write_image
    from studykit.stimuli import write_stimuli

    write_stimuli(folder, seed=seed, identities_per_type=1, frames=_FRAMES, frame_rate=_RATE)
    write_image(folder / "sources/frontal/astronaut.png", astronaut())
    installed = all(map(importlib.util.find_spec, _FOMM_PACKAGES))
    fomm = "- fomm                       # a learned model, on the weights that come along"
    text = Path(__file__).with_name("study.yaml").read_text(encoding="utf-8")
    text = Template(text).substitute(name=name, seed=seed, fomm=fomm if installed else f"# {fomm}")
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    for notebook in NOTEBOOKS:
        text = files.notebook_path(notebook).read_text(encoding="utf-8")
        # The notebooks' defaults are the inputs of the repository, one folder up.
        for old, new in (
            ("../inputs/quick.yaml", "study.yaml"),
            ("../reports/quick", f"reports/{name}"),
            ("../inputs/", ""),
            ("../reports/", "reports/"),
        ):
            text = text.replace(old, new)
        (folder / f"{notebook}.ipynb").write_text(text, encoding="utf-8")
