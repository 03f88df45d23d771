"""A study as it can be published: one file with clips, anonymous ratings, tables and report.

Whoever opens it needs no studykit: a README and a codebook say what every column is. Nothing in
it names a rater, a moment or this machine.
"""

import hashlib
import io
import json
import random
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import jinja2
import pandas as pd

from studykit import files
from studykit.errors import StudyError
from studykit.ratings import RATING_COLUMNS, exchange
from studykit.report.results import Results
from studykit.study.hypotheses import FROZEN

# Of the ratings table. A time of day could be matched with other records of a person; the order
# of a rater's trials stays.
KEPT_COLUMNS = tuple(name for name in RATING_COLUMNS if name != "answered_at")

_TEXTS = Path(__file__).parent
_MOMENT = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold, the same in every archive
_TOKEN = re.compile(r"""data:[^"')]*|(?<![\w-])[A-Za-z0-9][A-Za-z0-9_-]{2,63}(?![\w-])""")
_ADDRESS = re.compile(r"postgresql(\+\w+)?://[^\s\"']+")
_PLACE = re.compile(
    r"(?<![\w.:/\\<~-])(?:~|[A-Za-z]:)?(?:[\\/][^\\/\s\"',:;(){}\[\]<>|]+)+[\\/](?=[^\\/\s])"
)
_ID = re.compile(r"\bp\d{4}\b")
_ROWS = (r"<tr><td[^>]*>p\d{4}</td>(?:(?!</tr>).)*</tr>", r"^\| p\d{4} \|.*\n")


def write_archive(results: Results, path: str | Path | None = None) -> Path:
    """Write what a study has left, its report included, into one zip to publish.

    Raters get other ids, in random order, in the ratings, tables and report alike. The same
    results give the same bytes.

    Parameters
    ----------
    results : Results
    path : str or Path, optional
        The zip; ``<name>.zip`` in the folder of the results, ``<name>-simulated.zip`` if no person
        rated.

    Raises
    ------
    StudyError
        There is no report or a clip is missing, the name hides that ratings are simulated, or the
        zip can't be written.
    """
    path = archive_path(results, path)
    members = _members(results)
    # Stored as they are: clips and pictures are compressed.
    with files.written(path, "choose another file") as part, zipfile.ZipFile(part, "w") as archive:
        for name, content in sorted(members.items()):
            entry = zipfile.ZipInfo(f"{path.stem}/{name}", _MOMENT)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            with (
                archive.open(entry, "w") as to,
                content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as file,
            ):
                shutil.copyfileobj(file, to)
    return path


def archive_path(results: Results, path: str | Path | None) -> Path:
    """Return where an archive goes; its name says if no person rated.

    Raises
    ------
    StudyError
        It is no .zip, or does not say so.
    """
    kind = "-simulated" if results.simulated else ""
    path = Path(path or results.out / f"{results.study.name}{kind}.zip")
    if path.suffix != ".zip":
        raise StudyError(f"{path}: an archive is a .zip file: name it so")
    if results.simulated and "simulated" not in path.stem:
        raise StudyError(
            f"{path} would hold ratings of simulated raters: say so in its name, such as "
            f"{path.with_stem(f'{path.stem}-simulated').name}"
        )
    return path


def anonymous(results: Results) -> tuple[pd.DataFrame, Callable[[str], str]]:
    """Return the ratings with other ids of raters, and what puts these into a text.

    As :func:`studykit.ratings.exchange.anonymous` does it, in an order that is drawn from what is
    not published: the ids and the moments of answers. Columns other than :data:`KEPT_COLUMNS` are
    left out, times rounded to 0.01 s.
    """
    ratings = results.ratings
    secret = random.Random(hashlib.sha256(ratings.to_csv().encode()).hexdigest())
    ids = exchange.other_ids([*ratings["rater"], *results.raters["rater"]], secret)
    study = results.study
    named = {item.name for item in (*study.sources, *study.drivings, *study.methods)}
    known = {rater: new for rater, new in ids.items() if rater not in named}

    def replaced(text: str) -> str:
        return _TOKEN.sub(lambda found: known.get(found[0], found[0]), text)

    table = exchange.anonymous(ratings, ids)
    rounded = {name: table[name].astype(float).round(2) for name in ("seconds", "watched")}
    return table.assign(**rounded)[list(KEPT_COLUMNS)], replaced


def _members(results: Results) -> dict[str, bytes | Path]:
    """Return the content of each file of the archive, by its name there."""
    out, study = results.out, results.study
    report = out / "report.html"
    if not report.is_file():
        raise StudyError(f"there is no report in {out}: studykit run {study.path} --out {out}")
    clips = [row.clip for row in results.made]
    if missing := [clip for clip in clips if not (out / clip).is_file()]:
        raise StudyError(f"{out / missing[0]} was removed: studykit run {study.path} --out {out}")
    figures = [f"figures/{file.name}" for file in out.glob("figures/*.*g")]
    ratings, replaced = anonymous(results)
    hidden = _hidden(results)
    # Two inputs may be files of the same name: they are listed by the names of the study.
    inputs = {its["name"]: its for its in results.manifest.get("inputs", {}).values()}
    manifest = json.dumps(results.manifest | {"inputs": inputs}, indent=2, ensure_ascii=False)
    texts = {
        "study.yaml": replaced(hidden(study.path.read_text(encoding="utf-8"))),
        "manifest.json": f"{hidden(manifest)}\n",
    }
    for name in ("cells.csv", "metrics.csv", FROZEN):
        if (out / name).is_file():
            texts[name] = hidden((out / name).read_text(encoding="utf-8"))
    for file in sorted(out.glob("tables/*.csv")):
        name = "raters-said.csv" if file.name == "raters.csv" else file.name
        texts[f"tables/{name}"] = _sorted_csv(replaced(hidden(file.read_text(encoding="utf-8"))))
    for file in (report, report.with_suffix(".md")):
        texts[file.name] = _sorted_rows(replaced(hidden(file.read_text(encoding="utf-8"), False)))
    if results.rated:
        texts["ratings.csv"] = files.cells_for_spreadsheets(ratings).to_csv(index=False)
    texts["codebook.csv"] = _codebook(texts)
    words = jinja2.Template((_TEXTS / "archive.md").read_text(encoding="utf-8"), trim_blocks=True)
    texts["README.md"] = words.render(
        results=results, clips=len(clips), columns=KEPT_COLUMNS, plan=FROZEN in texts and FROZEN
    )
    members = {name: text.encode() for name, text in texts.items()} | {
        name: out / name for name in (*clips, *figures)
    }
    sums = [f"{_digest(content)}  {name}\n" for name, content in sorted(members.items())]
    return members | {"SHA256SUMS": "".join(sums).encode()}


def _digest(content: bytes | Path) -> str:
    if isinstance(content, Path):
        return files.sha256(content)
    return hashlib.sha256(content).hexdigest()


def _codebook(texts: dict[str, str]) -> str:
    """Return what each column of the CSV files means, from the list in ``columns.csv``."""
    listed = pd.read_csv(_TEXTS / "columns.csv")
    known = {
        (name, line.column): line.meaning
        for line in listed.itertuples()
        for name in line.file.split()
    }
    lines = [
        (name, column, known.get((Path(name).name, column)) or known.get(("*", column), "?"))
        for name, text in texts.items()
        if name.endswith(".csv")
        for column in pd.read_csv(io.StringIO(text), nrows=0).columns
    ]
    return pd.DataFrame(lines, columns=["file", "column", "meaning"]).to_csv(index=False)


def _hidden(results: Results) -> Callable[..., str]:
    """Return what takes this machine's folders and the store's address out of a text."""
    study = results.study
    places = {study.path.parent, results.out, Path.cwd(), Path.home(), Path(tempfile.gettempdir())}
    places |= {item.path.parent for item in (*study.sources, *study.drivings)}
    forms = {str(form) for place in places for form in (place.absolute(), place.resolve())}
    known = [re.escape(form) for form in sorted(forms, key=len, reverse=True) if form != "/"]
    own = re.compile(rf"(?:{'|'.join(known)})(?:[\\/]|(?![\w-]))")

    def hidden(text: str, elsewhere: bool = True) -> str:
        text = _ADDRESS.sub("postgresql://", own.sub("", text))
        return _PLACE.sub("", text) if elsewhere else text

    return hidden


def _sorted_csv(text: str) -> str:
    """Sort the rows of a table of raters, whose order would be that of the ids before."""
    table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    if table.columns[0] == "rater":
        table = table.sort_values("rater", kind="stable")
    return table.to_csv(index=False)


def _sorted_rows(text: str) -> str:
    """Sort neighbouring rows of a page's tables that begin with a new id, for the same reason."""
    for row in _ROWS:
        text = re.sub(
            rf"(?:{row}){{2,}}",
            lambda run, row=row: "".join(sorted(re.findall(row, run[0], re.M), key=_id_of)),
            text,
            flags=re.M,
        )
    return text


def _id_of(row: str) -> str:
    return _ID.search(row)[0]
