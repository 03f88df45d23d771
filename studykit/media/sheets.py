"""Contact sheets: rows of pictures with a label at their left, under a line of column titles."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from studykit.media.geometry import Box

_TILE, _GAP, _LABEL, _TOP = 160, 4, 150, 26
_INK, _PALE, _PAPER, _EMPTY, _MARK = "#1b1f24", "#5b6570", "#ffffff", "#e9ecef", "#d55e00"


@dataclass(frozen=True)
class Strip:
    """One row of a sheet.

    Attributes
    ----------
    label : tuple of str
        What the row shows, its name and its type, drawn at its left.
    pictures : sequence of (H, W, 3) uint8 or None
        The row's squares; None leaves a place blank.
    text : str
        Stands in place of the pictures that are not there, such as an error.
    mark : str
        Where it is not "", the last picture is framed and shows this text.
    """

    label: tuple[str, str, str]
    pictures: Sequence[np.ndarray | None] = field(default_factory=list)
    text: str = ""
    mark: str = ""


def draw_strips(strips: Sequence[Strip], header: Sequence[str]) -> Image.Image:
    """Draw rows of pictures under a line of column titles."""
    width = _LABEL + len(header) * (_TILE + _GAP)
    sheet = Image.new("RGB", (width, _TOP + len(strips) * (_TILE + _GAP)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(header):
        draw.text((_left(column) + _TILE / 2, 6), title, _PALE, _font(13), anchor="ma")
    for index, strip in enumerate(strips):
        top = _TOP + index * (_TILE + _GAP)
        what, name, kind = strip.label
        draw.text((4, top + 52), what, _PALE, _font(13), anchor="lm")
        draw.text((4, top + 72), _shortened(name, _LABEL - 12, 15), _INK, _font(15), anchor="lm")
        draw.text((4, top + 92), kind, _PALE, _font(13), anchor="lm")
        for column, picture in enumerate(strip.pictures):
            if picture is not None:
                sheet.paste(_tile(picture), (_left(column), top))
        if strip.mark:
            _draw_mark(draw, _left(len(strip.pictures) - 1), top, strip.mark)
        if strip.text:
            left, right = _left(len(strip.pictures)), width - _GAP - 1
            draw.rectangle((left, top, right, top + _TILE - 1), fill=_EMPTY)
            text = _shortened(strip.text, right - left - 24, 14)
            draw.text(((left + right) / 2, top + _TILE / 2), text, _INK, _font(14), anchor="mm")
    return sheet


def numbered(image: np.ndarray, boxes: Sequence[Box], title: str) -> Image.Image:
    """Draw boxes with their numbers, from 1 on, into a picture of at most 800 pixels a side."""
    picture = Image.fromarray(image)
    picture.thumbnail((5 * _TILE, 5 * _TILE))
    scale = picture.width / image.shape[1]
    sheet = Image.new("RGB", (picture.width, picture.height + _TOP), _PAPER)
    sheet.paste(picture, (0, _TOP))
    draw = ImageDraw.Draw(sheet)
    draw.text((4, 5), title, _INK, _font(15))
    for number, box in enumerate(boxes, start=1):
        left, top, right, bottom = (scale * edge for edge in box)
        draw.rectangle((left, top + _TOP, right, bottom + _TOP), outline=_MARK, width=3)
        draw.rectangle((left, top + _TOP, left + 24, top + _TOP + 22), fill=_MARK)
        draw.text((left + 12, top + _TOP + 11), str(number), _PAPER, _font(15), anchor="mm")
    return sheet


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Lay pictures below each other."""
    width = max(picture.width for picture in pictures)
    sheet = Image.new("RGB", (width, sum(picture.height for picture in pictures)), _PAPER)
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet


def _draw_mark(draw: ImageDraw.ImageDraw, left: int, top: int, text: str) -> None:
    draw.rectangle((left, top, left + _TILE - 1, top + _TILE - 1), outline=_MARK, width=3)
    room = _font(13).getlength(text) + 12
    draw.rectangle((left, top, left + room, top + 22), fill=_MARK)
    draw.text((left + 7, top + 11), text, _PAPER, _font(13), anchor="lm")


def _tile(frame: np.ndarray) -> Image.Image:
    return Image.fromarray(frame).resize((_TILE, _TILE), Image.Resampling.LANCZOS)


def _left(column: int) -> int:
    return _LABEL + column * (_TILE + _GAP)


def _shortened(text: str, room: float, size: int) -> str:
    if _font(size).getlength(text) <= room:
        return text
    while text and _font(size).getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
