"""Faces in images and videos: found by MediaPipe where it is installed, else by dlib.

Both give the same :class:`~studykit.media.geometry.Face`. MediaPipe (``mesh.py``) is the better eye
by far on turned and drawn faces, and free to use; dlib (``dlib_faces.py``) runs everywhere.
"""

from typing import Any, Literal

import numpy as np

from studykit.errors import NoFaceError
from studykit.media import dlib_faces, mesh
from studykit.media.geometry import Face, Point, best_first, chosen_face

Finder = Literal["auto", "mediapipe", "dlib"]


def finder_used(finder: Finder = "auto") -> Literal["mediapipe", "dlib"]:
    """Return what finds faces here: "auto" is MediaPipe where its models can be run, else dlib."""
    if finder != "auto":
        return finder
    return "dlib" if mesh.missing() else "mediapipe"


def extractor(finder: Finder = "auto") -> str:
    """Return the name of what finds landmarks here, as metrics give it."""
    return _engine(finder).EXTRACTOR


def find_faces(image: np.ndarray, *, finder: Finder = "auto") -> list[Face]:
    """Find every face with its landmarks, the one that is most likely meant first.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB.
    finder : {"auto", "mediapipe", "dlib"}

    Raises
    ------
    MissingPackageError
        The finder, or its model files, are not installed.
    """
    image = np.ascontiguousarray(image)
    return best_first(_engine(finder).find(image), image.shape)


def find_face(
    image: np.ndarray, *, name: str = "image", finder: Finder = "auto", at: Point | None = None
) -> Face:
    """Find the face that is most likely meant, or the one whose box a point lies in.

    Raises
    ------
    NoFaceError
        There is none; the text begins with ``name``.
    """
    face = chosen_face(find_faces(image, finder=finder), at)
    if face is None:
        raise NoFaceError(
            f"{name}: no human face found; use a picture in which a face of at least 40 pixels "
            "looks towards the camera"
        )
    return face


class FaceTracker:
    """Follow one face through a video, frame by frame, without holding frames.

    Each frame is searched around the last face, and in whole where it is not there: after a cut,
    say.

    Parameters
    ----------
    finder : {"auto", "mediapipe", "dlib"}
    patience : int
        For how many frames a lost face is looked for near its last place first; then any face
        counts again.
    """

    def __init__(self, *, finder: Finder = "auto", patience: int = 25) -> None:
        self._tracker = _engine(finder).Tracker(patience)

    def update(self, frame: np.ndarray, first: Face | None = None) -> Face | None:
        """Return the face in the next frame, or None where it is lost.

        Parameters
        ----------
        frame : (H, W, 3) uint8
            RGB, of the same size as the frames before.
        first : Face, optional
            The face in it that is to be followed from here on.
        """
        return self._tracker.update(np.ascontiguousarray(frame), first)


def _engine(finder: Finder) -> Any:
    return {"mediapipe": mesh, "dlib": dlib_faces}[finder_used(finder)]
