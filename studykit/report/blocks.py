"""What a section is made of: words, tables and pictures, for the page and for report.md alike.

A section shown in a notebook leaves both forms in it, so that the page and the Markdown come
from one execution and can't disagree.
"""

import base64
import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from PIL import Image

from studykit import files

# What ends the caption of a table or picture of them.
ENDS_SIMULATED = "Simulated ratings."

# What Markdown would take for markup: not every such sign, so that tables stay legible as text.
_MARKUP = re.compile(r"[\\`*|$]|<(?=[A-Za-z/!?])|\](?=[(\[:])|~(?=~)|(?<![A-Za-z0-9])_")
# Cells with fewer signs than the first stay on one line on a screen; with more than the second
# they are prose, which needs room for its lines.
_SHORT, _LONG = 24, 36
# An interval, and a test with its figures, are never broken; the text is HTML by then.
_TOGETHER = re.compile(r"\[[^\]]*\]\*?|F\([^)]*\) = [\d.]+|p (?:&lt;|=) [\d.]+")


class Block(Protocol):
    """A piece of a section that can be shown in both forms."""

    def to_html(self) -> str: ...

    def to_markdown(self) -> str: ...


@dataclass(frozen=True)
class Words:
    """Paragraphs or a list, in Markdown; names of the user's pass through :func:`plain`."""

    text: str

    def to_html(self) -> str:
        import mistune

        markdown = mistune.create_markdown(escape=True, plugins=["strikethrough", "table", "url"])
        return markdown(self.text)

    def to_markdown(self) -> str:
        return self.text


@dataclass(frozen=True)
class Note(Words):
    """Words for the reader who asks how: set small, below what they explain."""

    def to_html(self) -> str:
        return f"<div class='note'>{super().to_html()}</div>"


@dataclass(frozen=True)
class Absent(Words):
    """Why a section has nothing to show; the page leaves out a heading with nothing else."""

    def to_html(self) -> str:
        return f"<div class='absent'>{super().to_html()}</div>"


@dataclass(frozen=True)
class Table:
    """Numbers as they were calculated, and as a reader sees them.

    Attributes
    ----------
    name : str
        The stem of its files under ``tables/``, "" where it has none.
    caption : str
    data : DataFrame
        As calculated, at full precision: the CSV.
    shown : DataFrame of str
        As read: the page, the Markdown and the LaTeX. It may leave out columns and rows of
        ``data``, and then the caption says so.
    classes : mapping of (row, column) to str
        Style classes of single cells of ``shown`` on the page, both counted from 0.
    """

    name: str
    caption: str
    data: pd.DataFrame
    shown: pd.DataFrame
    classes: Mapping[tuple[int, int], str] = field(default_factory=dict)

    def to_html(self) -> str:
        rows = [
            [
                f"<td{self._class(row, column)}>{_unbroken(escaped(value))}</td>"
                for column, value in enumerate(values)
            ]
            for row, values in enumerate(self.shown.itertuples(index=False))
        ]
        file = f" <a href='tables/{self.name}.csv'>CSV</a>" if self.name else ""
        caption = f"<figcaption>{escaped(self.caption)}{file}</figcaption>"
        return f"<figure class='table'>{caption}{grid(titles(self.shown.columns), rows)}</figure>"

    def to_markdown(self) -> str:
        return f"{_pipes(self.shown)}\n\n*{plain(self.caption)}*"

    def write(self, folder: Path) -> None:
        """Write the table as CSV, Markdown and LaTeX, each whole or not at all.

        A CSV has no caption: where that says that ratings are simulated, a column says so.
        """
        from pandas.io.formats.style_render import _escape_latex

        latex = self.shown.to_latex(
            index=False,
            escape=True,
            caption=_escape_latex(self.caption),  # which to_latex leaves as it is
            label=f"tab:{self.name}",
            position="htbp",
        )
        data = self.data
        if ENDS_SIMULATED in self.caption:
            data = data.assign(simulated=True)
        texts = {
            "csv": files.cells_for_spreadsheets(data).to_csv(index=False, lineterminator="\n"),
            "md": f"{self.to_markdown()}\n",
            "tex": latex,
        }
        for suffix, text in texts.items():
            with files.whole(folder / f"{self.name}.{suffix}") as part:
                part.write_text(text, encoding="utf-8")

    def _class(self, row: int, column: int) -> str:
        signs = len(str(self.shown.iat[row, column]))
        kind = "short" if signs <= _SHORT else "long" if signs > _LONG else ""
        name = self.classes.get((row, column), kind)
        return f" class='{name}'" if name else ""


@dataclass(frozen=True)
class Picture:
    """A picture of the study's folder, put into the page and linked from the Markdown.

    Attributes
    ----------
    path : Path
        A PNG file; an SVG file of the same name beside it is what the page shows.
    folder : Path
        The study's folder, from which report.md links.
    wide : bool
        Whether it may take the page's whole width.
    room : int
        How many bytes it may take on the page, where it is a photograph.
    """

    path: Path
    folder: Path
    caption: str
    wide: bool = True
    room: int = 400_000

    def to_html(self) -> str:
        kind, caption = "wide" if self.wide else "narrow", escaped(self.caption)
        file = escaped(self.path.relative_to(self.folder).as_posix())
        return (
            f"<figure class='{kind}'><a href='{file}'>"
            f"<img src='{self._source()}' alt='{caption}' loading='lazy'></a>"
            f"<figcaption>{caption}</figcaption></figure>"
        )

    def to_markdown(self) -> str:
        return f"![{plain(self.caption)}]({self.path.relative_to(self.folder).as_posix()})"

    def _source(self) -> str:
        drawn = self.path.with_suffix(".svg")
        if drawn.is_file():
            return data_url("image/svg+xml", drawn.read_bytes())
        with Image.open(self.path, formats=("PNG", "JPEG")) as picture:
            return jpeg_url(np.asarray(picture.convert("RGB")), room=self.room)


@dataclass(frozen=True)
class Screen:
    """What only a screen can show, such as clips that play, and what Markdown says instead."""

    html: str
    markdown: str = ""

    def to_html(self) -> str:
        return self.html

    def to_markdown(self) -> str:
        return self.markdown


@dataclass(frozen=True)
class Section:
    """Blocks one below the other, as notebook 4 displays them."""

    blocks: Sequence[Block]

    @property
    def html(self) -> str:
        return "\n".join(block.to_html() for block in self.blocks)

    @property
    def markdown(self) -> str:
        texts = (block.to_markdown() for block in self.blocks)
        return "\n\n".join(text for text in texts if text)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/html": self.html, "text/markdown": self.markdown}


def plain(text: object) -> str:
    """Escape what Markdown would take for markup.

    >>> print(plain("my_*study*: 2 < 3 <b>"))
    my_\\*study\\*: 2 < 3 \\<b>
    """
    return _MARKUP.sub(lambda sign: f"\\{sign[0]}", str(text))


def jpeg_url(image: np.ndarray, *, room: int | None = None) -> str:
    """Return an image, (H, W, 3) uint8, as a JPEG inside an address.

    With ``room``, in bytes, it is made coarser, and at last smaller, until it fits.
    """
    picture = Image.fromarray(image)
    for scale, quality in ((1, 84), (1, 72), (1, 60), (0.75, 60), (0.5, 60), (0.5, 40)):
        size = [max(1, round(side * scale)) for side in picture.size]
        buffer = io.BytesIO()
        resized = picture if scale == 1 else picture.resize(size, Image.Resampling.LANCZOS)
        resized.save(buffer, "JPEG", quality=quality, optimize=True)
        if room is None or buffer.tell() <= room:
            break
    return data_url("image/jpeg", buffer.getvalue())


def data_url(kind: str, data: bytes) -> str:
    """Return bytes of a media type as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def escaped(value: object) -> str:
    """Escape what HTML would take for markup."""
    return html.escape(str(value), quote=True)


def titles(names: Iterable[object]) -> list[str]:
    """Return the cells of a table's head."""
    return [f"<th scope='col'>{escaped(name)}</th>" for name in names]


def grid(head: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "") -> str:
    """Return a table of a style class, which scrolls where it is too wide, of cells in HTML."""
    first, *others = (f"<tr>{''.join(cells)}</tr>" for cells in (head, *rows))
    opened = f"<table class='{kind}'>" if kind else "<table>"
    table = f"{opened}<thead>{first}</thead><tbody>{''.join(others)}</tbody></table>"
    return f"<div class='scroll'>{table}</div>"


def _unbroken(text: str) -> str:
    return _TOGETHER.sub(lambda found: found[0].replace(" ", "\u00a0"), text)


def _pipes(shown: pd.DataFrame) -> str:
    lines = [list(shown.columns), ["---"] * len(shown.columns), *shown.itertuples(index=False)]
    return "\n".join("| " + " | ".join(plain(value) for value in line) + " |" for line in lines)
