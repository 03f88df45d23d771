"""The server of the pages: what it serves, and what it refuses before a rater could stumble."""

import re
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from studykit.errors import MissingPackageError, StudyError
from studykit.pages import front_end, server
from studykit.pages.rating import RatingDesk
from studykit.pages.server import create_app, serve
from studykit.study.file import load_study
from tests.rated_study import made_study

HERE = "http://localhost"


@pytest.fixture(scope="module")
def study(small_inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_study(small_inputs, tmp_path_factory.mktemp("served"))


@pytest.fixture
def client(study: Path, tmp_path: Path) -> Iterator[TestClient]:
    desk = RatingDesk(load_study(study), study.parent / "out", str(tmp_path / "ratings.sqlite"))
    with TestClient(create_app(desk), base_url=HERE) as client:
        yield client


def test_the_page_is_ours_and_asks_nobody_else(client: TestClient) -> None:
    answer = client.get("/rate")
    assert answer.status_code == 200
    assert "http" not in answer.text
    assert "<script>" not in answer.text and "style=" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy and "unsafe" not in policy


def test_every_module_of_the_page_is_served_for_long(client: TestClient) -> None:
    names = front_end.modules("rate.js")
    assert names[-1] == "rate.js" and len(names) > 5
    page = client.get("/rate").text
    for name in names:
        address = f"/static/{front_end.version()}/{name}"
        assert address in page
        answer = client.get(address)
        assert answer.headers["content-type"].startswith("text/javascript")
        assert "immutable" in answer.headers["cache-control"]


def test_a_module_of_another_version_is_not_kept(client: TestClient) -> None:
    assert client.get("/static/older/rate.js").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    [
        "/static/x/page.html",
        "/static/x/..%2fwidget.py",
        "/static/../server.py",
        "/static/x/%2e%2e/%2e%2e/server.py",
        "/rate/file/x",
        "/rate/file/..%2f..%2fratings.sqlite",
        "/etc/passwd",
        "/docs",
        "/openapi.json",
    ],
)
def test_nothing_but_the_front_end_is_served(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert str(Path.cwd()) not in answer.text


def test_what_fails_inside_says_nothing_of_the_inside(study: Path, tmp_path: Path) -> None:
    desk = RatingDesk(load_study(study), study.parent / "out", str(tmp_path / "ratings.sqlite"))
    app = create_app(desk)

    @app.get("/fails")
    def fails() -> None:
        raise OSError(28, "No space left", "/secret/place")

    with TestClient(app, base_url=HERE, raise_server_exceptions=False) as client:
        answer = client.get("/fails")
    assert answer.status_code == 500
    assert "secret" not in answer.text


def test_nothing_to_rate_is_said_at_once(small_study: Path) -> None:
    with pytest.raises(StudyError, match=r"there are no clips in .*: studykit run "):
        RatingDesk(load_study(small_study), small_study.parent / "out")


def test_a_taken_port_is_said_at_once(study: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StudyError, match=f"port {port} .*choose another with --port"):
            serve(study, out=study.parent / "out", port=port)


def test_an_address_that_is_none_is_refused(study: Path) -> None:
    with pytest.raises(StudyError, match=r'"rate\.org" is no address'):
        serve(study, out=study.parent / "out", port=0, address="rate.org")


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "websockets"])
def test_without_a_package_what_installs_it_is_named(
    study: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"{package}.*pip install "):
        serve(study, out=study.parent / "out")


def test_where_the_pages_are_is_said(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import uvicorn

    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: None)
    serve(study, out=study.parent / "out", store=str(tmp_path / "ratings.sqlite"), port=0)
    assert "rating page: http://localhost:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("screen", "typed", "opened"), [(":0", True, 1), (":0", False, 0), ("", True, 0)]
)
def test_a_browser_is_opened_where_somebody_sits_before_a_screen_alone(
    monkeypatch: pytest.MonkeyPatch, screen: str, typed: bool, opened: int
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(server.webbrowser, "open", seen.append)
    monkeypatch.setattr(server.sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", screen)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with monkeypatch.context() as patched:
        patched.setattr("sys.stdout", SimpleNamespace(isatty=lambda: typed))
        server._show("http://localhost:8866/")
    assert seen == ["http://localhost:8866/"] * opened


@pytest.mark.parametrize("entry", ["notebook.js", "animate_notebook.js"])
def test_modules_that_are_joined_import_and_export_nothing_and_share_no_name(entry: str) -> None:
    joined = front_end.bundled(entry)
    assert "import " not in joined.replace("important", "")
    assert joined.count("export ") == 1 and "export default" in joined
    own = r"^(?:async )?(?:const|let|class|function\*?) (\w+)"
    names = Counter(re.findall(own, joined, re.MULTILINE))
    assert [name for name, count in names.items() if count > 1] == []


def test_style_sheets_that_are_joined_import_nothing() -> None:
    joined = front_end.style("animate.css")
    assert "@import" not in joined
    assert ".rp-button {" in joined and ".an-card {" in joined
