"""The frames that a clip should have shown, where they are known.

- Same identity: the source is the reference frame of its driving, so the driving's own frames.
- Rendered source and rendered driving: the source's person is rendered as the motion asks.
  Relative motion asks for the source's own state, changed as the driving's changed since its
  reference frame: the head turned about the image's axes by the same rotation, grown by the same
  factor and shifted by as many of its own sizes (without scale adaptation: by as many pixels of
  the square), the expression changed by the same amounts, within what a face can do. It is shown
  in the source's square. Absolute motion asks for the driving's state, in the driving's square.
- Else there is none.

A method without a setting ``relative`` is taken to move relatively.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from studykit.cache import code_hash, file_hash, kept
from studykit.media import video
from studykit.media.squares import find_square, is_video, moves, probed, truth_file
from studykit.media.views import Driving
from studykit.methods import method_class
from studykit.study.file import Cell, Input, MethodSpec, Study

if TYPE_CHECKING:
    from studykit.media.geometry import Crop
    from studykit.stimuli import Identity, State

# Mean difference, of 255, up to which an image counts as what its truth file renders: a video's
# compression makes 1 to 2, another person 20 and more.
_LIKENESS = 6.0


@dataclass(frozen=True)
class Transfer:
    """How a method moves a source: relatively or absolutely, and with scale adaptation or not."""

    relative: bool = True
    adapt_scale: bool = True

    @classmethod
    def of(cls, spec: MethodSpec) -> "Transfer":
        """Read it from a method's settings, or else from the method's defaults."""
        method = method_class(spec.method)
        return cls(
            *(spec.settings.get(n, getattr(method, n, True)) for n in ("relative", "adapt_scale"))
        )


TrueFrames = Iterator[tuple[np.ndarray, np.ndarray | None]]
"""Images, (S, S, 3) uint8, each with its face mask: (S, S) bool, or None where the face's place is
not known exactly."""


def find_truth(study: Study, cell: Cell, opened: Driving) -> TrueFrames | None:
    """Return the frames that a cell's clip should have shown, None where nobody knows.

    Parameters
    ----------
    study, cell
    opened : Driving
        The cell's, with its reference frame.

    Raises
    ------
    StudyError
        Source or driving can't be opened; the frames may raise it too.
    """
    driving = _script(cell.driving)
    if driving and moves(cell.driving.path, study.crop, cell.driving.view):
        driving = None  # its frames are not those of the script
    if cell.protocol == "same-identity":
        return _own_frames(study, cell.driving, opened, driving)
    source = _script(cell.source)
    if source is None or driving is None:
        return None
    return _rendered(study, cell, opened, source, driving)


def is_rendered(item: Input) -> bool:
    """Say whether an input is what its truth file renders, so that its face can be moved."""
    return _script(item) is not None


def truth_files(cell: Cell) -> list[Path]:
    """Return the truth files that lie beside a cell's source and driving."""
    return list(filter(None, map(truth_file, (cell.source.path, cell.driving.path))))


@dataclass(frozen=True)
class _Script:
    """What a truth file says of a rendered source or driving."""

    path: Path
    identity: "Identity"
    size: int
    states: tuple["State", ...]


def _script(item: Input) -> _Script | None:
    truth = truth_file(item.path)
    if truth is None:
        return None
    return _checked_script(item.path, item.path.stat().st_mtime_ns, truth, truth.stat().st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _checked_script(path: Path, changed: int, truth: Path, truth_changed: int) -> _Script | None:
    """Read a truth file; None where the input is not, or no longer, the picture it describes."""
    from studykit.stimuli import Expression, Pose, read_identity

    with np.load(truth) as data:
        if not {"identity", "size", "pose", "expression"} <= set(data.files):
            return None  # a file of another program
        size, poses, expressions = int(data["size"]), data["pose"], data["expression"]
        written = str(data["sha256"]) if "sha256" in data.files else ""
    states = tuple(
        (Pose(*pose.tolist()), Expression(*expression.tolist()))
        for pose, expression in zip(poses, expressions, strict=True)
    )
    if is_video(path) and probed(path).frame_count != len(states):
        return None
    script = _Script(truth, read_identity(truth), size, states)
    # Of a driving the states matter alone: to render its person, whose model takes longest to
    # build, tells no more than that it is the file that was written.
    if is_video(path) and file_hash(path) == written:
        return script
    look = f"{code_hash('studykit.stimuli.render')} {file_hash(truth)}"
    (difference,) = kept(_FirstFrame(file_hash(path)), look, lambda: [_difference(path, script)])
    return script if difference < _LIKENESS else None


class _FirstFrame(NamedTuple):
    """What is kept of a video's first frame, or of a still image."""

    key: str
    frame_count: int = 1


def _difference(path: Path, script: _Script) -> np.ndarray:
    """Return how much an input differs from what its script renders, of 255, in the mean."""
    from studykit.stimuli import render

    image = next(iter(video.read_frames(path))) if is_video(path) else video.read_image(path)
    rendered = render(script.identity, *script.states[0], size=script.size).image
    if image.shape != rendered.shape:
        return np.array(np.inf)
    return np.abs(image.astype(float) - rendered).mean()


def _own_frames(study: Study, item: Input, driving: Driving, script: _Script | None) -> TrueFrames:
    if script is None:
        yield from ((frame, None) for frame in driving)
        return
    square, _ = find_square(item.path, study.crop, item.view)
    with np.load(script.path) as data:
        masks = np.unpackbits(data["face_mask"], axis=-1, count=script.size).astype(bool)
    for index, frame in enumerate(driving):
        yield frame, _cut(square, masks[driving.number(index)], study.size)


def _rendered(
    study: Study, cell: Cell, opened: Driving, source: _Script, driving: _Script
) -> TrueFrames:
    from studykit.stimuli import render, transferred

    transfer = Transfer.of(cell.method)
    squares = [
        find_square(item.path, study.crop, item.view)[0] for item in (cell.source, cell.driving)
    ]
    sides = [s.side / script.size for s, script in zip(squares, (source, driving), strict=True)]
    square = squares[0 if transfer.relative else 1]
    rest, first = source.states[0], driving.states[opened.number(opened.reference)]
    factor = None if transfer.adapt_scale else sides[0] / sides[1]
    for index in range(opened.frame_count):
        state, size = driving.states[opened.number(index)], driving.size
        if transfer.relative:
            state, size = transferred(rest, first, state, shift_factor=factor), source.size
        frame = render(source.identity, *state, size=size)
        yield square.apply(frame.image, study.size), _cut(square, frame.face_mask, study.size)


def _cut(square: "Crop", mask: np.ndarray, size: int) -> np.ndarray:
    return square.apply(mask.astype(np.uint8) * 255, size) >= 128
