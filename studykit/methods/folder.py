"""Clips made elsewhere, so that any program's results can stand in the same study."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from studykit import files
from studykit.errors import MediaError, StudyFileError
from studykit.media import video
from studykit.media.geometry import centre_crop
from studykit.media.views import Driving, Source
from studykit.methods import register


@register("folder")
@dataclass(frozen=True)
class Folder:
    """Take the clip ``<source>__<driving>.mp4`` (or .mov, .webm, .gif) from a folder.

    Attributes
    ----------
    path : str
        The folder. Relative paths in a study file are relative to that file.
    relative : bool
        Whether its clips move as the driving moves from its reference frame on, or stand where
        the driving stands: what metrics take for the truth.

    Raises
    ------
    StudyFileError
        No such folder.
    MediaError
        The clip is missing, or its frame count or frame rate is not the driving's.
    """

    path: str
    relative: bool = True

    def prepare(self, source: Source) -> tuple[str, int]:
        if not Path(self.path).is_dir():
            raise StudyFileError(f"no folder {self.path}: check the setting path")
        return source.name, source.image.shape[0]

    def clip(self, source: str, driving: str) -> Path:
        """Return the path of the clip for a source and a driving, by their names."""
        stem = f"{source}__{driving}"
        for suffix in (".mp4", ".mov", ".webm", ".gif"):
            path = files.as_it_lies(Path(self.path) / f"{stem}{suffix}")
            if files.is_there(path):
                return path
        raise MediaError(f"no clip {stem}.mp4 in {self.path}: put it there under this name")

    def inputs(self, source: str, driving: str) -> list[Path]:
        return [self.clip(source, driving)]

    def animate(self, state: tuple[str, int], driving: Driving) -> Iterator[np.ndarray]:
        source, size = state
        path = self.clip(source, driving.name)
        info = video.probe(path)
        if not driving.has_rate(info.frame_rate):
            raise MediaError(
                f"{path} has {float(info.frame_rate):g} frames/s, the driving "
                f"{float(driving.frame_rate):g}: write the clip at the driving's frame rate"
            )
        if info.frame_count != driving.frame_count:
            raise MediaError(
                f"{path} has {info.frame_count} frames, the driving {driving.frame_count}: "
                "write one frame a driving frame"
            )
        crop = centre_crop((info.height, info.width))
        for frame in video.read_frames(path):
            yield crop.apply(frame, size)
