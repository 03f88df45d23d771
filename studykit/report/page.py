"""From the executed notebook to one HTML file that opens offline, and to report.md beside it."""

import html
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from studykit import files
from studykit.report.blocks import Block, Screen, Section, Words

_SHELL = Path(__file__).with_name("page.html")
_KEY = re.compile(r'<meta name="studykit-key" content="([0-9a-f]*)">')
_HEADING = re.compile(r"<h2>(.*?)</h2>")
_FIGURE = re.compile(r"<figure class='(\w+)'>(.*?)<figcaption>(.*?)</figcaption>", re.DOTALL)
_ABSENT = "<div class='absent'>"


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
    body = _with_contents(section.html)
    for word, text in (("title", html.escape(title)), ("key", key), ("body", body)):
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
    """Yield the notebook's text, and the sections that its cells have shown.

    Text is left out where nothing that follows it, up to the next text, has anything to show.
    """
    heading: list[Block] = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            heading = [Words("".join(cell["source"]))]
        for output in cell.get("outputs", ()):
            shown = output.get("data", {})
            page, markdown = (
                "".join(shown.get(f"text/{form}", ())) for form in ("html", "markdown")
            )
            if page and not page.startswith(_ABSENT):
                yield from heading
                heading = []
                yield Screen(page, markdown)


def _with_contents(body: str) -> str:
    """Number figures and tables, and list them and the sections, with links, before the first."""
    sections: list[str] = []
    listed: list[str] = []
    counts: Counter[str] = Counter()

    def headed(found: re.Match[str]) -> str:
        sections.append(found[1])
        return f"<h2 id='section-{len(sections)}'>{found[1]}</h2>"

    def numbered(found: re.Match[str]) -> str:
        kind, inside, caption = found.groups()
        noun = "Table" if kind == "table" else "Figure"
        counts[noun] += 1
        name, place = f"{noun} {counts[noun]}", f"{noun.lower()}-{counts[noun]}"
        first = re.split(r"(?<=[.:]) |<", caption, maxsplit=1)[0].rstrip(":")
        listed.append(f"<li><a href='#{place}'>{name}</a>. {first}</li>")
        caption = f"<figcaption><b>{name}.</b> {caption}</figcaption>"
        return f"<figure class='{kind}' id='{place}'>{inside}{caption}"

    body = _FIGURE.sub(numbered, _HEADING.sub(headed, body))
    links = (f"<li><a href='#section-{i}'>{text}</a></li>" for i, text in enumerate(sections, 1))
    contents = f"<ol>{''.join(links)}</ol>"
    if listed:
        contents += (
            f"<details><summary>{_counted(counts)}</summary><ul>{''.join(listed)}</ul></details>"
        )
    before, first, after = body.partition("<h2")
    return f"{before}<nav aria-label='Contents'>{contents}</nav>{first}{after}" if first else body


def _counted(counts: Counter[str]) -> str:
    return " and ".join(
        f"{count} {noun.lower()}{'s' * (count != 1)}" for noun, count in sorted(counts.items())
    )
