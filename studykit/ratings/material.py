"""What a study shows to its raters, looked up once for all of them."""

import functools
import itertools
import threading
from pathlib import Path

from studykit.errors import StudyError
from studykit.media import video
from studykit.ratings import controls
from studykit.ratings.controls import Shown
from studykit.ratings.design import Clip, Exposure, Trial, plan_session, plan_sessions
from studykit.study.file import Study

_READY_FOR = 24  # raters: their sessions hold nearly all spoilt clips and references


class Material:
    """The clips and files of a study; any number of threads may ask at once.

    Parameters
    ----------
    study : Study
    out : Path
        The folder of the study's results.
    """

    def __init__(self, study: Study, out: Path) -> None:
        self.study, self.out = study, out
        self._making = threading.Lock()
        self._clips: tuple[object, tuple[Clip, ...]] = (None, ())
        self._checked: tuple[Clip, ...] | None = None
        self._shown: dict[tuple[Clip, Clip | None], Shown] = {}
        self._rates: dict[Path, float] = {}
        self._bare: dict[tuple[Path, int], Path] = {}

    @property
    def clips(self) -> tuple[Clip, ...]:
        """The clips that were made and are there; looked for again when one was added."""
        seen = tuple(
            path.stat().st_mtime_ns if path.exists() else 0
            for path in (self.out / "cells.csv", self.out / "clips")
        )
        if seen != self._clips[0]:
            self._clips = seen, controls.available_clips(self.study, self.out)
        return self._clips[1]

    @property
    def longest(self) -> int:
        """The size of the largest clip, in bytes."""
        paths = [controls.clip_path(self.study, self.out, clip) for clip in self.clips]
        return max(path.stat().st_size for path in paths)

    @functools.cached_property
    def has_sound(self) -> bool:
        """Whether any of the study's drivings has sound."""
        return any(video.probe(driving.path).has_audio for driving in self.study.drivings)

    def require_clips(self) -> None:
        """Refuse a study of which nothing can be rated.

        Raises
        ------
        StudyError
            There is nothing to rate.
        """
        clips = self.clips
        if clips is not self._checked:
            plan_session(self.study, clips, 0, shown=Exposure())
            self._checked = clips

    def shown(self, trial: Trial) -> Shown:
        """Return the files of a trial, making those that are not there yet.

        Raises
        ------
        StudyError
            A clip, a source or a driving is gone or can't be read.
        """
        key = (trial.clip, trial.other)
        if key not in self._shown or not _are_there(self._shown[key]):
            with self._making:  # two that make the same file would disturb each other
                self._shown[key] = controls.shown(self.study, self.out, trial)
        return self._shown[key]

    def lent(self, path: Path) -> Path:
        """Return what a rater gets of a file of a trial: a clip says nothing of itself.

        Raises
        ------
        StudyError
            It is gone or damaged.
        """
        if path.suffix != ".mp4":
            return path
        key = (path, path.stat().st_mtime_ns)
        if key not in self._bare or not self._bare[key].is_file():
            with self._making:
                self._bare[key] = controls.bare(self.out, path)
        return self._bare[key]

    def make_ready(self) -> None:
        """Make what sessions will show besides the study's clips, so that no rater waits for it."""
        try:
            for trials in itertools.islice(plan_sessions(self.study, self.clips), _READY_FOR):
                for trial in trials:
                    self.frame_rate(trial)
        except StudyError:  # it comes again, where it can be said, when a rater needs the clip
            pass

    def frame_rate(self, trial: Trial) -> float:
        """Return the frame rate of a trial's clip.

        Raises
        ------
        StudyError
            As :meth:`shown`.
        """
        clip = self.shown(trial).clip
        if clip not in self._rates:
            self._rates[clip] = float(video.probe(clip).frame_rate)
        return self._rates[clip]


def _are_there(files: Shown) -> bool:
    paths = (files.clip, files.source, files.driving, files.other)
    return all(path.is_file() for path in paths if path)
