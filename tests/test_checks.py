"""Checks of eyes and screens: plates that hold what they say, the same each time."""

import io

import numpy as np
import pytest
from PIL import Image

from studykit.ratings.checks import Plate, plates


def pixels(plate: Plate) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(plate.image)).convert("RGB")).astype(float)


def test_a_session_gets_the_same_plates_each_time_and_others_get_others() -> None:
    first = plates(("colour", "reading"), "study/r-1/1")
    assert plates(("colour", "reading"), "study/r-1/1") == first
    answers = [plate.answer for plate in first]
    assert [plate.answer for plate in plates(("colour", "reading"), "study/r-2/1")] != answers
    assert [plate.check for plate in first] == ["colour"] * 3 + ["reading"]


def test_lightness_alone_gives_no_digit_away() -> None:
    (plate, *_) = plates(("colour",), "study/r-1/1")
    image = pixels(plate)
    red, green = image[..., 0], image[..., 1]
    drawn = image.max(-1) - image.min(-1) > 40
    figure, ground = drawn & (red > green + 20), drawn & (green > red)
    assert figure.sum() > 1500 and ground.sum() > 5000
    lightness = image @ (0.2126, 0.7152, 0.0722)
    apart = abs(lightness[figure].mean() - lightness[ground].mean())
    assert apart < 0.5 * lightness[ground].std()


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("KNOSD", True),
        (" k n o s d ", True),
        ("KNOS", False),
        ("", False),
        (None, False),
        (5, False),
    ],
)
def test_what_was_read_is_compared_without_blanks_and_case(given: object, right: bool) -> None:
    assert Plate("reading", b"", "KNOSD").is_right(given) is right
