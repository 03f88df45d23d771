"""Short checks of a rater's eyes and screen: digits in coloured dots, and small letters.

ITU-T P.913 wants raters screened for colour vision and acuity. These are no medical tests: screens
are not calibrated, and a distance can't be known. They find who can't see what a study shows.
"""

import functools
import hashlib
import io
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from studykit.study.ratings import Check

_DIGITS, _PLATES = "2345678", 3
_SIDE, _DOTS, _TRIES = 240, (2.2, 5.6), 9000
# Hues that people without red or without green cones confuse, each in several lightnesses, so that
# lightness gives nothing away.
_FIGURE = ((206, 122, 62), (222, 148, 88), (188, 98, 50), (214, 134, 100))
_GROUND = ((132, 152, 78), (160, 176, 104), (112, 132, 62), (146, 160, 92))
_LETTERS, _LETTER_COUNT = "CDHKNORSVZ", 5  # Sloan's, which are equally hard
_LETTER_SIZE = 22  # of a picture that is shown at half its size: 11 pixels, the page's smallest


@dataclass(frozen=True)
class Plate:
    """One picture to read.

    Attributes
    ----------
    check : {"colour", "reading"}
    image : bytes
        A PNG.
    answer : str
        What stands in it.
    """

    check: Check
    image: bytes
    answer: str

    def is_right(self, given: object) -> bool:
        """Return whether a rater has read it, in capitals or not."""
        return isinstance(given, str) and "".join(given.split()).upper() == self.answer


@functools.lru_cache(maxsize=64)
def plates(checks: tuple[Check, ...], session: str) -> tuple[Plate, ...]:
    """Return the plates of a session, the same each time.

    Parameters
    ----------
    checks : tuple of {"colour", "reading"}
    session : str
        Its id.
    """
    seed = hashlib.sha256(f"checks {session}".encode()).hexdigest()
    chance = random.Random(seed)
    made = []
    for check in checks:
        if check == "colour":
            for answer in chance.sample(_DIGITS, _PLATES):
                made.append(Plate(check, _png(_dots(answer, chance)), answer))
        else:
            answer = "".join(chance.sample(_LETTERS, _LETTER_COUNT))
            made.append(Plate(check, _png(_letters(answer)), answer))
    return tuple(made)


def _dots(figure: str, chance: random.Random) -> Image.Image:
    mask = Image.new("L", (_SIDE, _SIDE))
    middle = (_SIDE / 2, _SIDE / 2)
    font = ImageFont.load_default(round(0.8 * _SIDE))
    ImageDraw.Draw(mask).text(middle, figure, 255, font, anchor="mm", stroke_width=6)
    plate = Image.new("RGB", (2 * _SIDE, 2 * _SIDE), (250, 250, 248))
    draw = ImageDraw.Draw(plate)
    placed = np.empty((0, 3))
    for _ in range(_TRIES):
        x, y = (chance.uniform(0, _SIDE) for _ in range(2))
        radius = chance.uniform(*_DOTS)
        if (x - middle[0]) ** 2 + (y - middle[1]) ** 2 > (_SIDE / 2 - radius) ** 2:
            continue
        apart = np.hypot(placed[:, 0] - x, placed[:, 1] - y)
        if (apart < placed[:, 2] + radius + 0.4).any():
            continue
        placed = np.vstack([placed, (x, y, radius)])
        colour = chance.choice(_FIGURE if mask.getpixel((int(x), int(y))) else _GROUND)
        draw.ellipse(
            [2 * (x - radius), 2 * (y - radius), 2 * (x + radius), 2 * (y + radius)], colour
        )
    return plate.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)


def _letters(text: str) -> Image.Image:
    line = Image.new("L", (14 * _LETTER_SIZE, 3 * _LETTER_SIZE), 250)
    middle = (line.width / 2, line.height / 2)
    font = ImageFont.load_default(_LETTER_SIZE)
    ImageDraw.Draw(line).text(middle, "  ".join(text), 30, font, anchor="mm")
    return line


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
