"""Which frames of a driving are believed: those whose keypoints lie as the source's can."""

from collections.abc import Callable, Iterator

import numpy as np

from studykit.cache import kept
from studykit.errors import NoFaceError
from studykit.media.views import Driving
from studykit.methods._fomm_motion import Keypoints
from studykit.methods.fomm import Prepared

# Of faces 45 degrees of yaw apart it is 0.38, 50 degrees 0.42, 60 degrees 0.5, 80 degrees 0.6; of a
# face and its own mouth, nods and turns of 20 degrees at most 0.2; of black, white or noise 0.9, of
# other pictures 0.5 and more. Pairs further apart than 45 degrees were never trained: from 55 on,
# heads have holes. Source and reference may have turned to different sides, and the driving
# from one side to the other; but the source can't be bent further than in training.
_MOST_STRANGE, _MOST_STRANGE_START, _MOST_BENT = 0.6, 0.75, 0.42


def believed(
    state: Prepared,
    driving: Driving,
    framed: Callable[[Keypoints], Keypoints],
    moved: Callable[[Keypoints, Keypoints], Keypoints],
) -> Iterator[Keypoints | None]:
    """Yield for each frame the keypoints that the source gets.

    None stands for those of a frame that lie as no turned face has them, and for those that the
    source can't be bent to; the clip's note counts such frames.

    Parameters
    ----------
    state : Prepared
    driving : Driving
    framed : callable
        Is applied to all that is found.
    moved : callable
        Returns the source's, given a frame's own and those of the reference frame.

    Raises
    ------
    NoFaceError
        The reference frame is such a frame.
    """
    source, initial, held = state.source.keypoints, None, 0
    for row in kept(driving, state.found_by, lambda: state.rows(driving)):
        found = Keypoints.from_row(row)
        own = framed(found)
        if initial is None:
            initial = framed(state.at_reference(driving, found))
            if strangeness(initial, source) > _MOST_STRANGE_START:
                raise NoFaceError(
                    f"{driving.name}: no face like those it was trained on in the reference "
                    "frame: name another one, or another method"
                )
        shown = moved(own, initial)
        seen = strangeness(own, initial) <= _MOST_STRANGE
        seen = seen and strangeness(shown, source) <= _MOST_BENT
        held += not seen
        yield shown if seen else None
    if held:
        state.moved_by.append(
            "frames that show no face, or one turned further than the source can be, and repeat "
            f"the one before: {held}"
        )


def strangeness(own: Keypoints, others: Keypoints) -> float:
    """Return which share of keypoints' layout no similarity of the others' explains, 0 to 1."""
    a, b = (
        (found.points - found.points.mean(0)).astype(float).view(complex)[:, 0]
        for found in (others, own)
    )
    alike = abs(np.vdot(a, b)) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12)
    return float(np.sqrt(max(0.0, 1 - alike**2)))
