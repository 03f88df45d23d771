"""What `studykit serve` shows, and what it refuses before a rater could stumble over it."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from studykit.clips.animate import animate_cells
from studykit.clips.folder import study_folder
from studykit.errors import MissingPackageError, StudyError
from studykit.pages import serve as serving
from studykit.pages.serve import serve
from studykit.study.file import load_study

pytest.importorskip("voila", reason="Voila is not installed")


@pytest.fixture
def study(small_study: Path) -> Path:
    text = small_study.read_text().replace("[copy]", "[{name: kiwimethod, method: copy}]")
    small_study.write_text(text)
    loaded = load_study(small_study)
    animate_cells(loaded, study_folder(loaded, small_study.parent / "out"))
    return small_study


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Start to serve, and return what Voila would be given."""
    from voila.app import Voila

    seen: dict = {}

    def start(app: Voila) -> None:
        seen["app"] = app
        seen["notebook"] = nbformat.read(app.notebook_path, as_version=4)
        seen["template"] = next(
            Path(folder, "index.html.j2") for folder in app.template_paths
        ).read_text()

    def run(*arguments: object, **settings: object) -> dict:
        serve(*arguments, **settings)
        return seen

    monkeypatch.setattr(Voila, "start", start)
    return run


def test_the_notebook_has_the_study_and_no_explanations(
    served: Callable[..., dict], study: Path
) -> None:
    out, store = study.parent / "out", study.parent / "of raters.sqlite"
    cells = served(study, out=out, store=str(store), port=0)["notebook"].cells
    assert {cell.cell_type for cell in cells} == {"code"}
    (parameters,) = (cell for cell in cells if "parameters" in cell.metadata.get("tags", []))
    given: dict = {}
    exec(parameters.source, given)
    assert given["study"] == str(study.resolve())
    assert (given["out"], given["rater"], given["store"]) == (str(out), "", str(store))


def test_voila_shows_our_page_and_no_other_file(served: Callable[..., dict], study: Path) -> None:
    seen = served(study, out=study.parent / "out", host="0.0.0.0", port=0)
    app = seen["app"]
    assert app.ip == "0.0.0.0"
    assert app.port > 0
    assert Path(app.root_dir) == Path(app.notebook_path).parent
    assert not Path(app.root_dir).exists()  # it is gone when serving ends
    assert "cdn" not in seen["template"]
    settings = app.voila_configuration
    assert settings.strip_sources
    assert not settings.show_tracebacks
    assert (settings.allow_template_override, settings.allow_theme_override) == ("NO", "NO")


def test_nothing_to_rate_is_said_at_once(served: Callable[..., dict], small_study: Path) -> None:
    with pytest.raises(StudyError, match=r"there are no clips in .*: studykit run "):
        served(small_study, out=small_study.parent / "out", port=0)


def test_a_taken_port_is_said_at_once(served: Callable[..., dict], study: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StudyError, match=f"port {port} .*choose another with --port"):
            served(study, out=study.parent / "out", port=port)


def test_without_voila_the_extra_is_named(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "voila.app", None)
    with pytest.raises(MissingPackageError, match=r'pip install "voila>='):
        serve(study, out=study.parent / "out")


def test_what_jupyter_is_told_of_templates_is_taken_back(
    served: Callable[..., dict], study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_PATH", "/somewhere")
    served(study, out=study.parent / "out", port=0)
    assert serving.os.environ["JUPYTER_PATH"] == "/somewhere"
