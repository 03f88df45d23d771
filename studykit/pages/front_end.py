"""The front end: plain ES modules, style sheets and pages, for a browser and for a notebook.

There is no build step. A browser loads the modules as they are; a notebook's widget takes one
module only, for which they are joined here.
"""

import functools
import hashlib
import html
import re
from pathlib import Path

_STATIC = Path(__file__).with_name("static")
_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript"}
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)
_STYLE = re.compile(r'^@import "([\w.]+)";\n', re.MULTILINE)


def text(name: str) -> str:
    """Return a file of the front end."""
    return (_STATIC / name).read_text(encoding="utf-8")


def modules(entry: str) -> list[str]:
    """Return the names of a module and of all that it imports, each after what it needs."""
    found: list[str] = []

    def visit(name: str) -> None:
        for needed in _IMPORT.findall(text(name)):
            visit(needed)
        if name not in found:
            found.append(name)

    visit(entry)
    return found


def bundled(entry: str) -> str:
    """Join a module and all that it imports into one.

    They share one scope then: no two of them have a name of their own in common.
    """
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", text(name))) for name in modules(entry))


def style(name: str) -> str:
    """Join a style sheet and those that it imports into one."""
    return _STYLE.sub(lambda found: style(found[1]), text(name))


@functools.cache
def served() -> dict[str, tuple[bytes, str]]:
    """Return every file that a browser may load, and its type, by its name."""
    return {
        path.name: (path.read_bytes(), _TYPES[path.suffix])
        for path in sorted(_STATIC.iterdir())
        if path.suffix in (".css", ".js")
    }


@functools.cache
def version() -> str:
    """Return what names the state of all files: it changes when one of them does."""
    everything = b"\0".join(name.encode() + data for name, (data, _) in served().items())
    return hashlib.sha256(everything).hexdigest()[:16]


def page(
    entry: str,
    *,
    style: str = "page.css",
    language: str = "en",
    title: str = "",
    loading: str = "Loading",
) -> str:
    """Return the HTML of a page that a module fills.

    Its modules are named beforehand, so that they are loaded at once and not one after the other.

    Parameters
    ----------
    entry : str
        The module.
    style : str
        The style sheet.
    language, title, loading : str
        Of the page, and what it says, until its module knows better.
    """
    place = f"/static/{version()}"
    loaded = "".join(
        f'  <link rel="modulepreload" href="{place}/{name}">\n' for name in modules(entry)
    )
    words = {"language": language, "title": title, "loading": loading}
    words = {name: html.escape(word) for name, word in words.items()}
    return text("page.html").format(place=place, entry=entry, style=style, loaded=loaded, **words)
