"""The square around the face that keypoints are looked for in, found as Viola and Jones do.

A cascade of local binary patterns that comes with scikit-image; it knows faces from the front.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

WHOLE = np.array([0.0, 0.0, 1.0])
"""The box that is the whole image. A box is the left and upper border of a square and its side, as
shares of the image's side."""

MARGIN = 1.75
"""The square's side, in sides of what the cascade finds: from the crown to below the chin."""

EVERY = 5
"""The cascade looks at one of so many frames of a driving."""

_LARGEST = 256  # pixels of a side that the cascade looks at
_LEAST = 0.25  # of the side: smaller faces are its mistakes


@functools.cache
def _cascade() -> Any:
    import skimage.data
    from skimage.feature import Cascade

    return Cascade(skimage.data.lbp_frontal_face_cascade_filename())


def face_box(image: np.ndarray) -> np.ndarray:
    """Return the box about the largest face of an (S, S, 3) image; NaN where none is found."""
    from PIL import Image

    side = min(len(image), _LARGEST)
    small = Image.fromarray(image).resize((side, side), Image.Resampling.BOX)
    found = _cascade().detect_multi_scale(
        np.asarray(small),
        scale_factor=1.1,
        step_ratio=1,
        min_size=(int(_LEAST * side),) * 2,
        max_size=(side, side),
    )
    if not found:
        return np.full(3, np.nan)
    face = max(found, key=lambda one: one["width"])
    width, height = face["width"], face["height"]
    middle = np.array([face["c"] + width / 2, face["r"] + height / 2])
    return within(np.append(middle, MARGIN * width) / side)


def within(square: np.ndarray) -> np.ndarray:
    """Return (..., 3) squares, given by their middles and sides, as boxes inside of the image."""
    side = np.minimum(square[..., 2:], 1)
    return np.concatenate([np.clip(square[..., :2] - side / 2, 0, 1 - side), side], -1)


def boxes(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the box of every frame, NaN where none is looked for or found."""
    for index, frame in enumerate(frames):
        yield np.full(3, np.nan) if index % EVERY else face_box(frame)


def steady(found: Iterable[np.ndarray]) -> np.ndarray:
    """Return one box for a clip, the median, so that nothing trembles; without any, the whole."""
    rows = np.array([box for box in found if np.isfinite(box).all()])
    return np.median(rows, axis=0) if len(rows) else WHOLE


def cropped(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return what is in a box of an (S, S, 3) image, as large as the image."""
    from PIL import Image

    left, top, share = box * len(image)
    corners = (left, top, min(left + share, len(image)), min(top + share, len(image)))
    made = Image.fromarray(image).resize(image.shape[:2], Image.Resampling.BILINEAR, corners)
    return np.asarray(made)


def box_map(box: Any, grid: int) -> tuple[Any, Any]:
    """Return factor and shift, (..., 1) and (..., 2), from coordinates in a box to the image's.

    Sample i of a grid of n lies at (i + 1/2) / n of the side, and coordinates from -1 to 1 at the
    outer samples.
    """
    share = box[..., 2:]
    return share, share - 1 + (share - 1 + 2 * grid * box[..., :2]) / (grid - 1)
