"""The rating page: one widget over a session, for JupyterLab, Colab and Voila.

What the browser gets is on the page anyway: words, pictures and clips under numbers. Names of
methods, conditions, cells, files and of the study itself stay in the kernel.
"""

import hashlib
import os
import struct
import traceback
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anywidget

from studykit.clips.folder import study_folder
from studykit.errors import StudyError
from studykit.media import video
from studykit.ratings import controls
from studykit.ratings.design import Trial
from studykit.ratings.session import Session
from studykit.ratings.store import check_rater_id, open_store, place_to_write
from studykit.study.file import load_study

_PAGE = Path(__file__).with_name("static")
_SCRIPTS = ("elements.js", "browser.js", "link.js", "player.js", "trial.js", "page.js")
_REPLIES_KEPT = 32

# Clips are sent as long as the longest of a study's, twice over: room for the spoilt ones, which
# are not made yet.
_PADDED_TO = 2


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
        The id of a rater who goes on; "" for a new one. Under Voila it stands in the page's
        address, as ``?rater=ID``.
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
    alone = os.environ.get("SERVER_SOFTWARE", "").startswith("voila")
    if alone:
        rater = parse_qs(os.environ.get("QUERY_STRING", "")).get("rater", [""])[0]
        try:
            check_rater_id(rater)
        except StudyError:
            rater = ""  # whoever mistyped a code starts over, or goes on by what the browser knows
    opened = open_store(store or place_to_write(loaded, folder))
    return RatingPage(Session(opened, loaded, folder, rater or None), alone)


class RatingPage(anywidget.AnyWidget):
    """A session as a page: consent, questions, practice, trials, pause, end.

    No trait says anything: the page asks by messages and is answered by messages, clips as
    buffers, so that nothing of a session is saved with a notebook either. A change is answered
    after it was stored. Every change names the turn it was made in; one that is sent again
    because its answer was lost on the way is made once.

    Parameters
    ----------
    session : Session
    alone : bool
        Whether the page stands alone in its window, with no notebook around it.
    """

    _esm = "\n".join((_PAGE / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    _css = (_PAGE / "page.css").read_text(encoding="utf-8")

    def __init__(self, session: Session, alone: bool = False) -> None:
        super().__init__()
        self._session, self._alone = session, alone
        self._turn, self._known = 0, ""
        self._replies: dict[str, dict] = {}
        self._unit = _PADDED_TO * max(
            controls.clip_path(session.study, session.out, clip).stat().st_size
            for clip in controls.available_clips(session.study, session.out)
        )
        self.on_msg(self._receive)

    def _receive(self, _widget: Any, message: dict, _buffers: list) -> None:
        buffers: list[bytes] = []
        reply = self._replies.get(message["re"])  # it was sent again because the reply was late
        if reply is None:
            reply = self._tried(message, buffers)
            if message["verb"] != "media" and not reply.get("problem"):
                self._replies[message["re"]] = reply
                self._replies = dict(list(self._replies.items())[-_REPLIES_KEPT:])
        self.send(reply | {"re": message["re"]}, buffers or None)

    def _tried(self, message: dict, buffers: list[bytes]) -> dict:
        """Act on a message. What goes wrong is noted here: its text may name what is hidden."""
        try:
            return self._reply(message, buffers)
        except Exception as error:
            self._note(error)
            return {"state": self._state()} if self._went_on_elsewhere() else {"problem": True}

    def _reply(self, message: dict, buffers: list[bytes]) -> dict:
        verb = message["verb"]
        if verb == "media":
            buffers.append(self._medium(message))
            return {}
        if verb == "hello":
            return {"setup": self._setup(), "state": self._state()}
        if verb == "recall":
            self._recall(message["rater"])
        elif message["turn"] == self._turn:
            self._change(verb, message)
            if verb in ("show", "play"):
                return {}
            self._turn += 1
        return {"state": self._state()}

    def _change(self, verb: str, message: dict) -> None:
        session = self._session
        if verb == "return":
            self._session = self._reopened(self._known)
        elif verb == "questions":
            session.answer_questions(message["answers"])
        elif verb == "answer":
            session.answer(message["values"])
        elif verb == "play":
            session.play(float(message["share"]))
        elif verb in (*("agree", "decline", "show", "undo", "pause", "resume"),
                      *("next_part", "withdraw")):  # fmt: skip
            getattr(session, verb)()
        else:
            raise ValueError(f"no verb {verb}")

    def _reopened(self, rater: str) -> Session:
        return Session(self._session.store, self._session.study, self._session.out, rater)

    def _recall(self, rater: str) -> None:
        """Offer a rater who began in this browser to go on, such as after a kernel's restart."""
        record = self._session.store.session(self._session.study.name, rater)
        unfinished = record is not None and record.answered < len(record.trials)
        self._known = rater if unfinished and not self._session.rater else ""

    def _went_on_elsewhere(self) -> bool:
        """Follow the session where another page or machine has led it."""
        rater, done = self._session.rater, self._session.progress.done
        if not rater:
            return False
        try:
            fresh = self._reopened(rater)
        except Exception as error:  # such as of a store that is down
            self._note(error)
            return False
        if fresh.progress.done == done and fresh.state == self._session.state:
            return False
        self._session = fresh
        self._turn += 1
        return True

    def _setup(self) -> dict[str, Any]:
        """Return what stays the same for the whole session."""
        ratings, study = self._session.ratings, self._session.study
        pair = ratings.task == "pair"
        choices = (ratings.texts["first_better"], ratings.texts["second_better"])
        return {
            "alone": self._alone,
            "study": hashlib.sha256(f"{study.name} {study.seed}".encode()).hexdigest()[:12],
            "language": ratings.language,
            "texts": ratings.texts,
            "consent": ratings.consent,
            "task": ratings.task,
            "watch": ratings.watch,
            "highest": ratings.highest,
            "sound": any(video.probe(driving.path).has_audio for driving in study.drivings),
            "labels": {
                "source": "source",
                "driving": "driving",
                "clip": "first_clip" if pair else "clip",
                "other": "second_clip",
            },
            "questions": [asdict(question) for question in ratings.questions],
            "asked": [
                {
                    "name": criterion.name,
                    "label": criterion.label,
                    "question": criterion.comparison if pair else criterion.question,
                    "steps": [_step(text) for text in (choices if pair else criterion.steps)],
                }
                for criterion in self._session.asked
            ],
        }

    def _state(self) -> dict[str, Any]:
        """Return the page to show; of a trial no more than that it is one, and for practice."""
        session = self._session
        trial, upcoming = session.trial, session.upcoming
        state: dict[str, Any] = {
            "turn": self._turn,
            "page": session.state,
            "paused": session.paused,
            "rater": session.rater,
            "known": "" if session.rater else self._known,
            "undo": session.can_undo,
            "progress": {"done": session.progress.done, "total": session.progress.total},
            "practised": session.ratings.training > 0,
            "part": {"done": session.part.done, "total": session.part.total},
            "rest": session.rest,
            "withdraw": session.can_withdraw,
            "completion": session.completion and asdict(session.completion),
        }
        if trial is not None and session.state in ("training", "rating"):
            state |= {
                "number": trial.number,
                "practice": trial.role == "training",
                "media": self._media(trial),
                "next": self._media(upcoming) if upcoming else [],
                "rate": self._frame_rate(trial),
            }
        return state

    def _media(self, trial: Trial) -> list[dict[str, str]]:
        ratings = self._session.ratings
        slots = {
            "source": ratings.show_source and "image/png",
            "driving": ratings.task == "dcr" and "video/mp4",
            "clip": "video/mp4",
            "other": trial.other and "video/mp4",
        }
        return [
            {"slot": slot, "id": f"{trial.number}.{slot}", "type": kind}
            for slot, kind in slots.items()
            if kind
        ]

    def _frame_rate(self, trial: Trial) -> float:
        path = controls.clip_path(self._session.study, self._session.out, trial.clip)
        return float(video.probe(path).frame_rate)

    def _medium(self, message: dict) -> bytes:
        """Return what stands in a slot of the trial at hand or of the next."""
        session = self._session
        number, slot = message["id"].split(".")
        near = [trial for trial in (session.trial, session.upcoming) if trial]
        (trial,) = (trial for trial in near if trial.number == int(number))
        path = getattr(controls.shown(session.study, session.out, trial), slot)
        data = path.read_bytes()
        return _padded(data, self._unit) if path.suffix == ".mp4" else data

    def _note(self, error: Exception) -> None:
        """Keep an error for whoever runs the study, out of the rater's sight."""
        log = self._session.out / "logs" / "ratings.txt"
        log.parent.mkdir(exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {self._session.rater}\n")
            file.write("".join(traceback.format_exception(error)) + "\n")


def _step(text: str) -> dict[str, str]:
    word, _, detail = text.partition(":")
    return {"word": word.strip(), "detail": detail.strip()}


def _padded(clip: bytes, unit: int) -> bytes:
    """Fill an mp4 up to a multiple of ``unit`` bytes, with a box that players skip.

    A clip that hardly moves has few bytes, and one that comes again has the same: neither the
    length nor the content of what is sent gives anything away. The filling is random because a
    connection may compress.
    """
    size = 8 + -(len(clip) + 8) % unit
    return clip + struct.pack(">I4s", size, b"free") + os.urandom(size - 8)
