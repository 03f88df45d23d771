"""From the executed notebook to one HTML file that opens offline, on a phone and on paper."""

import html
import re
from pathlib import Path

from studykit import files

_SHELL = Path(__file__).with_name("page.html")
_KEY = re.compile(r'<meta name="studykit-key" content="([0-9a-f]*)">')


def write_page(notebook: Path, page: Path, *, title: str, key: str = "") -> None:
    """Turn an executed notebook into a page without code cells.

    Parameters
    ----------
    notebook, page : Path
        The executed notebook, and the HTML file to write (whole or not at all).
    title : str
        The page's title.
    key : str
        Names the run that the page shows; :func:`page_key` reads it back.
    """
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    body, _ = exporter.from_filename(str(notebook))
    shell = _SHELL.read_text(encoding="utf-8")
    for word, text in (("{{title}}", html.escape(title)), ("{{key}}", key), ("{{body}}", body)):
        shell = shell.replace(word, text, 1)
    with files.whole(page) as part:
        part.write_text(shell, encoding="utf-8")


def page_key(page: Path) -> str:
    """Return the key of the run that a page shows, "" when there is none."""
    if not page.is_file():
        return ""
    with page.open(encoding="utf-8") as file:
        match = _KEY.search(file.read(2000))
    return match[1] if match else ""
