"""Pages in a notebook, carried by anywidget, in JupyterLab and Colab."""

import contextlib
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget

from studykit.clips.folder import study_folder
from studykit.pages import front_end
from studykit.pages.conversation import Conversation
from studykit.ratings import controls
from studykit.ratings.session import Session
from studykit.ratings.store import open_store, place_to_write
from studykit.study.file import load_study

if TYPE_CHECKING:
    from studykit.pages.animate_api import Workshop


def rating_page(
    study: str | Path, out: str | Path, *, rater: str = "", store: str = ""
) -> "RatingPage | Any":
    """Open the rating page of a study; notebook 3 shows it.

    Parameters
    ----------
    study : path
        The study file.
    out : path
        The folder of its results, where the clips are.
    rater : str
        The id of a rater who goes on; "" for a new one.
    store : str
        The address of the store; "" for the study's own.

    Returns
    -------
    RatingPage, or a line that says how to make clips where there are none yet

    Raises
    ------
    StudyError
        The study file is wrong, the store can't be opened, or the id may be a name.
    """
    loaded = load_study(study)
    folder = study_folder(loaded, out)
    if not controls.available_clips(loaded, folder):
        from IPython.display import Markdown

        return Markdown(
            f"There are no clips in `{folder}` yet: run the notebook `2_animate` with these "
            f"parameters, or `studykit run {study} --out {folder}`, and then this cell again."
        )
    opened = open_store(store or place_to_write(loaded, folder))
    return RatingPage(Session(opened, loaded, folder, rater or None))


class RatingPage(anywidget.AnyWidget):
    """A session as a page.

    No trait says anything: the page asks by messages and is answered by messages, clips as
    buffers, so that nothing of a session is saved with a notebook.

    Parameters
    ----------
    session : Session
    """

    _esm = front_end.bundled("notebook.js")
    _css = front_end.text("page.css")

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._conversation = Conversation(session)
        self.on_msg(self._receive)

    def _receive(self, _widget: Any, message: dict, _buffers: list) -> None:
        reply, buffers = self._conversation.reply(message)
        self.send(reply, buffers or None)


def animate_page() -> "AnimatePage | Any":
    """Open the page that animates what you bring; the notebook ``animate_one`` shows it.

    One page is open in a kernel at a time: the next takes its place. Its files go with it, at the
    latest with the kernel.

    Returns
    -------
    AnimatePage, or a line that says what to install first
    """
    try:
        from studykit.pages.animate_api import Workshop
    except ModuleNotFoundError as error:
        from IPython.display import Markdown

        return Markdown(
            f'The page that animates needs {error.name}: `pip install "fastapi>=0.115"`, '
            "and then this cell again."
        )
    return AnimatePage(Workshop())


class AnimatePage(anywidget.AnyWidget):
    """A workshop as a page, which asks its API by messages; nobody else can reach it.

    Parameters
    ----------
    workshop : Workshop
        Ends with the page.
    """

    _esm = front_end.bundled("animate_notebook.js")
    _css = front_end.style("animate.css")
    _shown: "AnimatePage | None" = None
    _end = staticmethod(lambda: None)

    def __init__(self, workshop: "Workshop") -> None:
        from fastapi import FastAPI

        from studykit.pages.animate_api import COOKIE, animate_router
        from studykit.pages.messages import Messages

        super().__init__()
        if AnimatePage._shown is not None:
            AnimatePage._shown.close()
        AnimatePage._shown = self
        app = FastAPI(openapi_url=None)
        app.include_router(animate_router(workshop))
        with contextlib.ExitStack() as stack:
            stack.enter_context(workshop)
            visitor = workshop.visitors.new()
            stack.enter_context(visitor.listens())  # here for as long as the page is
            messages = Messages(app, self.send, {"cookie": f"{COOKIE}={visitor.key}"})
            stack.callback(messages.close)
            # A kernel that ends closes nothing, and leaves this to the interpreter's exit.
            self._end = weakref.finalize(self, stack.pop_all().close)
        self.on_msg(lambda _page, message, buffers: messages.hear(message, buffers))

    def close(self) -> None:
        """End all that is made, and remove all files."""
        super().close()
        self._end()
