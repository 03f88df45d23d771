"""The rating page for raters who have a browser and nothing else: notebook 3, shown by Voila."""

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from studykit import files
from studykit.clips.folder import study_folder
from studykit.errors import MissingPackageError, StudyError
from studykit.ratings.controls import available_clips
from studykit.ratings.design import plan_session
from studykit.ratings.store import open_store, place_to_write
from studykit.study.file import Study, load_study

_HERE = ("127.0.0.1", "0.0.0.0", "::1", "localhost")
_PAGE = Path(__file__).with_name("static")

# A page that was left open keeps its kernel; one that was closed gives it back.
_IDLE_SECONDS = 3600
_LARGEST_MESSAGE = 512 * 2**20  # bytes; tornado itself allows 10 MB, and drops what is longer


def serve(
    study: str | Path,
    *,
    out: str | Path | None = None,
    store: str = "",
    host: str = "127.0.0.1",
    port: int = 8866,
) -> None:
    """Show the rating page of a study to everybody who opens its address, until Ctrl-C.

    Each rater has a kernel, and gets a new id or goes on with ``?rater=ID``.

    Parameters
    ----------
    study : path
        The study file.
    out : path, optional
        The folder of its results; ``reports/<name>`` in the current folder by default.
    store : str
        The address of the store; "" for the study's own.
    host : str
        The address to listen at; "0.0.0.0" for raters on other machines.
    port : int
        0 for a free one.

    Raises
    ------
    MissingPackageError
        Voila is not installed.
    StudyError
        There is nothing to rate, the store can't be opened, or the port is taken.
    """
    try:
        from tornado.ioloop import IOLoop
        from voila.app import Voila
    except ModuleNotFoundError:
        raise MissingPackageError(
            'Voila, which shows pages, is not installed: pip install "voila>=0.5.6"'
        ) from None
    loaded = load_study(study)
    folder = study_folder(loaded, out)
    _check(loaded, folder, store)
    port = _free_port(host, port)
    address = f"http://{'localhost' if host in _HERE else host}:{port}/"
    with tempfile.TemporaryDirectory() as place, _templates():
        notebook = Path(place) / "rating.ipynb"
        _write_notebook(
            notebook,
            study=str(loaded.path.resolve()),
            out=str(folder.resolve()),
            store=store if "://" in store or not store else str(Path(store).resolve()),
        )
        settings = {
            "Voila.ip": host,
            "Voila.port": port,
            "Voila.port_retries": 0,
            "Voila.root_dir": place,  # from which it would serve pictures
            "Voila.log_level": "WARN",
            "VoilaConfiguration.template": "studykit",
            "VoilaConfiguration.strip_sources": True,
            "VoilaConfiguration.allow_template_override": "NO",
            "VoilaConfiguration.allow_theme_override": "NO",
            "MappingKernelManager.cull_idle_timeout": _IDLE_SECONDS,
            "MappingKernelManager.cull_interval": _IDLE_SECONDS // 10,
        }
        app = Voila()
        arguments = [f"--{key}={value}" for key, value in settings.items()]
        app.initialize([str(notebook), "--no-browser", *arguments])
        app.tornado_settings = {"websocket_max_message_size": _LARGEST_MESSAGE}
        said = f"rating page: {address}\na rater goes on with {address}?rater=ID; Ctrl-C ends it"
        IOLoop.current().add_callback(print, said, flush=True)
        app.start()


def _check(study: Study, folder: Path, store: str) -> None:
    """Raise now what each rater's page would stumble over."""
    with open_store(store or place_to_write(study, folder)) as opened:
        clips = available_clips(study, folder)
        if not clips:
            raise StudyError(
                f"there are no clips in {folder}: studykit run {study.path} --out {folder}"
            )
        plan_session(study, clips, 0)
        opened.refuse_other_kind(study.name, simulated=False)


def _free_port(host: str, port: int) -> int:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return probe.getsockname()[1]
    except OSError as error:
        raise StudyError(
            f"port {port} of {host} can't be had ({error.strerror}): choose another with --port, "
            "or another --host"
        ) from None


def _write_notebook(path: Path, **parameters: str) -> None:
    """Write notebook 3 with a study's parameters, and without what explains it to researchers."""
    import nbformat

    notebook = nbformat.read(files.notebook_path("3_rate"), as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
            cell.source += "\nrater = ''"
    nbformat.write(notebook, path)


@contextlib.contextmanager
def _templates() -> Iterator[None]:
    """Let Jupyter find the page's template, which lies in the package."""
    before = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, (str(_PAGE), before)))
    try:
        yield
    finally:
        if before is None:
            del os.environ["JUPYTER_PATH"]
        else:
            os.environ["JUPYTER_PATH"] = before
