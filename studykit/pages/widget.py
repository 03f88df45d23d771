"""The rating page in a notebook: a conversation carried by anywidget, in JupyterLab and Colab."""

from pathlib import Path
from typing import Any

import anywidget

from studykit.clips.folder import study_folder
from studykit.pages import front_end
from studykit.pages.conversation import Conversation
from studykit.ratings import controls
from studykit.ratings.session import Session
from studykit.ratings.store import open_store, place_to_write
from studykit.study.file import load_study


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
