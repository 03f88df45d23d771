"""From the executed notebook to one HTML file that opens offline, and to report.md beside it."""

import html
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from studykit import files

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
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    body, _ = exporter.from_filename(str(notebook))
    write_markdown(page.with_suffix(".md"), _markdown(notebook))
    fill_page(page, title=title, body=body, key=key)


def fill_page(page: Path, *, title: str, body: str, key: str = "") -> None:
    """Write a body into the report's page, with its style and its script."""
    shell = _SHELL.read_text(encoding="utf-8")
    for word, text in (("{{title}}", html.escape(title)), ("{{key}}", key), ("{{body}}", body)):
        shell = shell.replace(word, text, 1)
    with files.whole(page) as part:
        part.write_text(shell, encoding="utf-8")


def write_markdown(path: Path, texts: Iterable[str]) -> None:
    """Write pieces of Markdown as one file, whole or not at all."""
    with files.whole(path) as part:
        part.write_text("\n\n".join(texts) + "\n", encoding="utf-8")


def page_key(page: Path) -> str:
    """Return the key of the run that a page shows, "" when there is none."""
    if not page.is_file():
        return ""
    with page.open(encoding="utf-8") as file:
        match = _KEY.search(file.read(2000))
    return match[1] if match else ""


def _markdown(notebook: Path) -> Iterator[str]:
    """Yield the notebook's text and what its cells have shown, as Markdown."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            yield "".join(cell["source"])
        for output in cell.get("outputs", ()):
            shown = "".join(output.get("data", {}).get("text/markdown", ()))
            if shown:
                yield shown
