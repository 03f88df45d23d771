"""Where a study's results lie."""

import os
from pathlib import Path

from studykit.errors import StudyError
from studykit.study.file import Study


def clip_file(out: Path, cell: str) -> Path:
    """Return where a cell's clip lies in a folder of results, made already or not."""
    return out / "clips" / f"{cell}.mp4"


def study_folder(study: Study, out: str | Path | None = None) -> Path:
    """Return the folder of a study's results, made and found writable.

    Raises
    ------
    StudyError
        It can't be made or written.
    """
    out = study.results_folder(out)
    probe = out / f".writable.{os.getpid()}.part"
    try:
        for folder in ("clips", "notebooks", "figures", "tables"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StudyError(
            f"the folder {out} can't be written ({error.strerror}): choose another with --out"
        ) from None
    return out
