"""From the executed notebook to one HTML file that opens offline, and to report.md beside it."""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

from studykit import files
from studykit.report.blocks import Block, Screen, Section, Words

_SHELL = Path(__file__).with_name("page.html")
_KEY = re.compile(r'<meta name="studykit-key" content="([0-9a-f]*)">')


def write_page(notebook: Path, page: Path, *, title: str, key: str = "") -> None:
    """Turn an executed notebook into a page without code cells, and the same in Markdown.

    Parameters
    ----------
    notebook, page : Path
        The executed notebook, and the HTML file to write (whole or not at all); the Markdown file
        of the same name stands beside it.
    title : str
        The page's title.
    key : str
        Names the run that the page shows; :func:`page_key` reads it back.
    """
    fill_page(page, Section(list(_blocks(notebook))), title=title, key=key)


def fill_page(page: Path, section: Section, *, title: str, key: str = "") -> None:
    """Write a section into the report's page, with its style and its script, and as Markdown."""
    shell = _SHELL.read_text(encoding="utf-8")
    for word, text in (("title", html.escape(title)), ("key", key), ("body", section.html)):
        shell = shell.replace(f"{{{{{word}}}}}", text, 1)
    for path, text in ((page.with_suffix(".md"), f"{section.markdown}\n"), (page, shell)):
        with files.whole(path) as part:
            part.write_text(text, encoding="utf-8")


def page_key(page: Path) -> str:
    """Return the key of the run that a page shows, "" when there is none."""
    if not page.is_file():
        return ""
    with page.open(encoding="utf-8") as file:
        match = _KEY.search(file.read(2000))
    return match[1] if match else ""


def _blocks(notebook: Path) -> Iterator[Block]:
    """Yield the notebook's text, and the sections that its cells have shown."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            yield Words("".join(cell["source"]))
        for output in cell.get("outputs", ()):
            shown = output.get("data", {})
            forms = ("".join(shown.get(f"text/{form}", ())) for form in ("html", "markdown"))
            yield Screen(*forms)
