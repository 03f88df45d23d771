"""How a face is held and what it does: the two things that change from frame to frame."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pose:
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

    def matrix(self) -> np.ndarray:
        """Return the (3, 3) rotation from the head's axes (x right, y down, z to the viewer)."""
        yaw, pitch, roll = np.radians([self.yaw, self.pitch, self.roll])
        cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
        cr, sr = np.cos(roll), np.sin(roll)
        turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        return tilt @ turn @ nod


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
