"""What of an input is seen: a view as people name it, source and driving as methods get them."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from studykit.media.faces import Finder
from studykit.media.following import tracked

CropRule = Literal["face", "face-or-centre", "centre"]
BY_FACE = ("face", "face-or-centre")  # the rules that look for one
Reference = Literal["first", "best"]
Faceless = Literal["interpolate", "hold", "cut"]


@dataclass(frozen=True)
class Square:
    """A square that is named by hand: its centre's x and y, and its side, in pixels."""

    centre: tuple[float, float]
    side: float


@dataclass(frozen=True)
class View:
    """What of an input's file takes part in a study, and how it is seen.

    Attributes
    ----------
    face : int or (float, float), optional
        Which face the square is around: its number from left to right, from 1 on, or a point in
        it, in pixels of the upright picture; None is the one that is most likely meant.
    crop : {"face", "face-or-centre", "centre"} or Square, optional
        The rule of this input, or the square itself; None is the study's rule.
    margin : float
        What the square shows on each side of the face, in face sizes.
    start, end : float
        Of a driving: its frames from ``start`` on and before ``end``, in seconds of the file.
    max_frames : int, optional
        Of a driving: no more frames than these, from ``start`` on.
    reference : {"first", "best"} or float
        Of a driving: the frame from which its motion counts, as
        :func:`studykit.media.reference.with_reference` finds it, or its second in the file.
    faceless : {"interpolate", "hold", "cut"}
        What becomes of a driving's frames in which its face is not seen: they stay, and square and
        landmarks go on from those before to those after; the last frame with a face is shown in
        their place; or they are left out, and with them the sound.
    finder : {"auto", "mediapipe", "dlib"}
        What finds faces in it: the study's ``faces``.
    """

    face: int | tuple[float, float] | None = None
    crop: CropRule | Square | None = None
    margin: float = 0.5
    start: float = 0.0
    end: float | None = None
    max_frames: int | None = None
    reference: Reference | float = "first"
    faceless: Faceless = "interpolate"
    finder: Finder = "auto"

    def given(self) -> dict[str, Any]:
        """Return what is said of this input alone, by the key of a study file."""
        return {
            key.name: asdict(value) if isinstance(value, Square) else value
            for key in fields(self)
            if (value := getattr(self, key.name)) != key.default and key.name != "finder"
        }

    def rule(self, study_rule: CropRule) -> CropRule | Square:
        """Return how the square is found where the study's rule is this."""
        if self.crop is not None:
            return self.crop
        named = self.face is not None or self.margin != View.margin
        return "face" if named and study_rule == "centre" else study_rule


AS_IT_IS = View()


@dataclass(frozen=True)
class Source:
    """The still image that is animated.

    Attributes
    ----------
    name : str
        Its name in the study, such as ``frontal-anna``.
    image : (S, S, 3) uint8
        The RGB image, cropped and scaled to the study's size S.
    finder : {"auto", "mediapipe", "dlib"}
        What finds faces in it.
    around : (S + 2 E, S + 2 E, 3) uint8, optional
        The same with a quarter of its side around it, E = S // 4: the picture's own pixels, and
        its outermost ones, blurred, beyond it.
    face : (float, float), optional
        A point in the face that is meant, where one is named, in pixels of the image.
    path : Path, optional
        The image's file; None where it is a frame of a video.
    rendered : bool
        Whether the renderer made it: a truth file lies beside it.
    """

    name: str
    image: np.ndarray
    finder: Finder = "auto"
    around: np.ndarray | None = None
    face: tuple[float, float] | None = None
    path: Path | None = None
    rendered: bool = False


@dataclass(frozen=True)
class Driving:
    """The video whose motion is taken; iterating over it decodes it again, frame by frame.

    Attributes
    ----------
    name : str
        Its name in the study, such as ``side-turning``.
    open_frames : callable
        Gives a fresh iterator over (S, S, 3) uint8 RGB frames, cropped and scaled like the source.
    frame_rate : Fraction
        Frames a second.
    frame_count : int
        How many frames there are.
    key : str
        A hash of what the frames are made of, under which a method may keep what it finds in them
        (:func:`studykit.cache.kept`); "" where nothing is to be kept.
    first : int
        Which frame of the file the first one is.
    reference : int
        Which of the frames motion counts from.
    finder : {"auto", "mediapipe", "dlib"}
        What finds faces in its frames.
    points : (T, 70, 2) float64, optional
        Where the face is in each frame, in its pixels, as :func:`studykit.media.following.tracked`
        gives it, where that is known already; see :meth:`points_seen`.
    order : (T,) int, optional
        Which frame of the file, counted from ``first``, each one shows; None where they follow each
        other.
    whole : bool
        Whether no frame was left out between the first and the last.
    notes : list of str
        Gets, when frames have been read to the end, what was done to them, such as deinterlacing.
    rendered : bool
        Whether the renderer made it: a truth file lies beside it.
    path : Path, optional
        The video's file.
    """

    name: str
    open_frames: Callable[[], Iterable[np.ndarray]] = field(compare=False)
    frame_rate: Fraction
    frame_count: int
    key: str = ""
    first: int = 0
    reference: int = 0
    finder: Finder = "auto"
    points: np.ndarray | None = field(default=None, compare=False)
    order: np.ndarray | None = field(default=None, compare=False)
    whole: bool = True
    notes: list[str] = field(default_factory=list, compare=False)
    rendered: bool = False
    path: Path | None = None

    def number(self, index: int) -> int:
        """Return which frame of the file one of the frames shows."""
        return self.first + (index if self.order is None else int(self.order[index]))

    def has_rate(self, frame_rate: Fraction) -> bool:
        """Say whether a clip of this frame rate keeps its time, to a thousandth."""
        return abs(frame_rate - self.frame_rate) <= self.frame_rate / 1000

    def points_seen(self) -> Iterator[np.ndarray]:
        """Yield where the face is in each frame, (70, 2) float64; it is sought where need be."""
        return tracked(self, finder=self.finder) if self.points is None else iter(self.points)

    def reference_frame(self) -> np.ndarray:
        """Return the frame that motion counts from: (S, S, 3) uint8."""
        return next(itertools.islice(self, self.reference, None))

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.open_frames())
