"""How a face is held and what it does: what changes from frame to frame, and from face to face."""

from dataclasses import astuple, dataclass

import numpy as np

from studykit.media import pose as heads


@dataclass(frozen=True)
class Pose(heads.Pose):
    """Where the head points and where it stands in the image.

    Attributes
    ----------
    yaw, pitch, roll : float
        Degrees: the nose to the image's right, the nose up, the head tilted clockwise as seen.
        The head is pitched first, then turned, then rolled. Meant for +-80, +-40 and +-45.
    x, y : float
        Shift to the right and down, as a fraction of the image's side.
    scale : float
        Size; 1 gives the usual framing.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Expression:
    """What the face does; all zero is a neutral face with its mouth closed.

    Attributes
    ----------
    mouth_open : float
        0 (closed) to 1 (jaw dropped wide).
    smile : float
        -1 (corners down) to 1 (broad smile).
    pucker : float
        0 to 1: lips drawn together and forward, as in "oo".
    blink_left, blink_right : float
        0 (open) to 1 (closed), of the eye on the image's left and right; down to -0.3, widened.
    gaze_x, gaze_y : float
        -1 to 1: the eyes turn to the image's right and down (at 1 by 28 and 20 degrees).
    brows : float
        -1 (frown) to 1 (raised).
    """

    mouth_open: float = 0.0
    smile: float = 0.0
    pucker: float = 0.0
    blink_left: float = 0.0
    blink_right: float = 0.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0
    brows: float = 0.0


State = tuple[Pose, Expression]

# What an expression's fields can be at least, in their order; at most they are 1.
_LEAST = (0, -1, 0, -0.3, -0.3, -1, -1, -1)


def transferred(
    rest: State, first: State, now: State, *, shift_factor: float | None = None
) -> State:
    """Return a rest changed as another face's state changed from ``first`` to ``now``.

    The head turns about the image's axes by the same rotation, grows by the same factor and is
    shifted as far; the expression changes by the same amounts, within what a face can do. Where
    nothing changed, that is the rest itself.

    Parameters
    ----------
    rest, first, now : (Pose, Expression)
    shift_factor : float, optional
        How many image sides the head is shifted for one of the other's; without it, as many of
        its own sizes.
    """
    (own, face), (begin, begin_face), (end, end_face) = rest, first, now
    turned = own
    # Angles that are found again in a rotation differ in their last digits: a head that did not
    # turn keeps its own.
    if (begin.yaw, begin.pitch, begin.roll) != (end.yaw, end.pitch, end.roll):
        turned = heads.Pose.from_rotation(end.rotation() @ begin.rotation().T @ own.rotation())
    factor = own.scale / begin.scale if shift_factor is None else shift_factor
    pose = Pose(
        yaw=turned.yaw,
        pitch=turned.pitch,
        roll=turned.roll,
        x=own.x + factor * (end.x - begin.x),
        y=own.y + factor * (end.y - begin.y),
        scale=own.scale * (end.scale / begin.scale),
    )
    before, after = np.array(astuple(begin_face)), np.array(astuple(end_face))
    values = np.clip(np.array(astuple(face)) + (after - before), _LEAST, 1)
    return pose, Expression(*values.tolist())
