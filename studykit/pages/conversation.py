"""What a rating page says to a rater's session, and what it is answered: over any carrier.

The browser gets what is on the page anyway: words, pictures and clips under numbers. Names of
methods, conditions, cells, files and of the study itself stay here.
"""

import base64
import hashlib
import itertools
import logging
import logging.handlers
import math
import os
import struct
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from studykit.ratings.design import Trial
from studykit.ratings.session import Session
from studykit.study.wording import Criterion

_REPLIES_KEPT = 32
# What is kept of a rater's device, in CSS pixels; and of a clip that did not play.
_DEVICE = (
    *("screen_width", "screen_height", "window_width", "window_height", "pixel_ratio", "zoom"),
    *("refresh_rate", "shown_width", "touch", "browser", "clip", "reason"),
)
_NOTES, _LONGEST_DETAIL = 200, 300
# Of a session, without anything to say beside.
_STEPS = ("agree", "decline", "show", "undo", "pause", "resume", "next_part", "withdraw")
_LOG_BYTES, _LOGS_KEPT, _LONGEST_NOTE = 1_000_000, 3, 4_000

# Clips are sent as long as the longest of a study's, twice over: room for the spoilt ones, which
# are not made yet.
_PADDED_TO = 2
_PART = 128 * 1024  # bytes of what fills them that are made at once

# Gives a file to the page under an address of its own, in place of its bytes.
Lend = Callable[[Path, int], str]


class Conversation:
    """A session as a page asks for it: consent, questions, practice, trials, pause, end.

    A change is answered after it was stored. Every change names the turn it was made in; one that
    is sent again because its answer was lost on the way is made once, also after a restart.

    Parameters
    ----------
    session : Session
    alone : bool
        Whether the page stands alone in its window, with no notebook around it.
    lend : callable, optional
        Where files are fetched over HTTP: gives the address of one, to be filled up to a multiple
        of so many bytes. Without it their bytes are part of the answer.
    """

    def __init__(self, session: Session, *, alone: bool = False, lend: Lend | None = None) -> None:
        self.session = session
        self._alone, self._lend = alone, lend
        self.known = ""  # a rater who began in this browser, and may go on
        self._replies: dict[str, dict] = {}
        self._noted = 0
        self._seen_here = False  # whether the trial at hand was shown since this was opened
        self._unit = _PADDED_TO * session.material.longest

    def reply(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """Act on a message; return what to answer, and the bytes that go with it.

        Parameters
        ----------
        message : dict
            ``re``, a name of its own; ``verb``; what belongs to that; the ``turn``.

        Returns
        -------
        dict
            ``re`` again, and the new ``state``, the ``setup`` or an ``address``; or that there was
            a ``problem``, of which the log knows more: its text may name what is hidden.
        list of bytes
        """
        buffers: list[bytes] = []
        name = str(message.get("re"))
        reply = self._replies.get(name)  # it was sent again because the reply was late
        if reply is None:
            reply = self._tried(message, buffers)
            if message.get("verb") != "media" and not reply.get("problem"):
                self._replies[name] = reply
                self._replies = dict(list(self._replies.items())[-_REPLIES_KEPT:])
        return reply | {"re": name}, buffers

    def _tried(self, message: dict, buffers: list[bytes]) -> dict:
        try:
            return self._replied(message, buffers)
        except Exception as error:
            note_problem(self.session.out, error, self.session.rater)
            return {"state": self._state()} if self._went_on_elsewhere() else {"problem": True}

    def _replied(self, message: dict, buffers: list[bytes]) -> dict:
        verb = message["verb"]
        if verb == "media":
            return self._medium(message["id"], buffers)
        if verb == "hello":
            return {"setup": self._setup(), "state": self._state()}
        if verb in ("device", "failed"):
            self._note(verb, message["detail"])
            return {}
        if verb == "recall" and self._lend is None:
            self._recall(message["rater"])
        elif message["turn"] == self.session.turn:
            self._learnt: list[dict] = []
            self._change(verb, message)
            if verb in ("show", "play"):
                return {}
            if self._learnt:
                return {"state": self._state(), "feedback": self._learnt}
        return {"state": self._state()}

    def _change(self, verb: str, message: dict) -> None:
        session = self.session
        if verb == "return" and self.known:
            self.session = self._reopened(self.known)
        elif verb == "questions":
            session.answer_questions(message["answers"])
        elif verb == "checks":
            session.answer_checks(message["answers"])
        elif verb == "answer":
            self._remember(message)
            self._learnt = _feedback(session.feedback(message["values"]))
            session.answer(message["values"])
        elif verb == "play":
            session.play(float(message["share"]))
        elif verb in _STEPS:
            getattr(session, verb)()
        else:
            raise ValueError(f"no verb {verb}")
        # Of a clip that another server has shown, what was played is not known here.
        self._seen_here = verb == "show" or (verb == "play" and self._seen_here)

    def _remember(self, message: dict) -> None:
        """Take from the page when its clip was shown, where a restart has lost that."""
        seen = message.get("seen")
        if self._seen_here or not isinstance(seen, dict):
            return
        now = datetime.now(UTC)
        shown, played = (float(seen[key]) for key in ("shown", "played"))
        if math.isfinite(shown) and math.isfinite(played) and 0 <= played <= shown < 86_400:
            self.session.show(now - timedelta(seconds=shown))
            self.session.play(float(seen["share"]), now - timedelta(seconds=played))

    def _note(self, kind: str, detail: dict) -> None:
        """Keep what a page says of its device: short, and not without end."""
        self._noted += 1
        if self._noted <= _NOTES:
            given = {name: detail[name] for name in _DEVICE if name in detail}
            if not all(isinstance(value, int | float | str) for value in given.values()):
                raise ValueError("a device is described by numbers and texts")
            if not all(isinstance(value, str) or math.isfinite(value) for value in given.values()):
                raise ValueError("a number that is none is no JSON, which its readers expect")
            short = {k: v[:_LONGEST_DETAIL] if isinstance(v, str) else v for k, v in given.items()}
            self.session.note(kind, **short)

    def _reopened(self, rater: str) -> Session:
        known = self.session
        return Session(known.store, known.study, known.out, rater, material=known.material)

    def _recall(self, rater: str) -> None:
        """Offer a rater who began in this browser to go on, such as after a kernel's restart."""
        record = self.session.store.session(self.session.study.name, rater)
        unfinished = record is not None and self._reopened(rater).state != "finished"
        self.known = rater if unfinished and not self.session.rater else ""

    def _went_on_elsewhere(self) -> bool:
        """Follow the session where another page or machine has led it."""
        if not self.session.rater:
            return False
        try:
            fresh = self._reopened(self.session.rater)
        except Exception as error:  # such as of a store that is down
            note_problem(self.session.out, error, self.session.rater)
            return False
        if fresh.turn == self.session.turn:
            return False
        self.session, self._seen_here = fresh, False
        return True

    def _setup(self) -> dict[str, Any]:
        """Return what stays the same for the whole session."""
        ratings, study = self.session.ratings, self.session.study
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
            "sound": self.session.material.has_sound,
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
                for criterion in self.session.asked
            ],
        }

    def _state(self) -> dict[str, Any]:
        """Return the page to show; of a trial no more than that it is one, and for practice."""
        session = self.session
        trial, upcoming = session.trial, session.upcoming
        state: dict[str, Any] = {
            "turn": session.turn,
            "page": session.state,
            "paused": session.paused,
            "rater": session.rater,
            "known": "" if session.rater else self.known,
            "undo": session.can_undo,
            "progress": {"done": session.progress.done, "total": session.progress.total},
            "practised": session.ratings.training > 0,
            "part": {"done": session.part.done, "total": session.part.total},
            "rest": session.rest,
            "withdraw": session.can_withdraw,
            "completion": session.completion and asdict(session.completion),
        }
        if session.state == "checks":
            state["plates"] = [
                {"check": plate.check, "image": base64.b64encode(plate.image).decode()}
                for plate in session.plates
            ]
        if trial is not None and session.state in ("training", "rating"):
            state |= {
                "number": trial.number,
                "practice": trial.role == "training",
                "media": self._media(trial),
                "next": self._media(upcoming) if upcoming else [],
                "rate": session.material.frame_rate(trial),
            }
        return state

    def _media(self, trial: Trial) -> list[dict[str, str]]:
        ratings = self.session.ratings
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

    def _medium(self, name: str, buffers: list[bytes]) -> dict[str, str]:
        """Give what stands in a slot of the trial at hand or of the next."""
        session = self.session
        number, slot = name.split(".")
        near = [trial for trial in (session.trial, session.upcoming) if trial]
        (trial,) = (trial for trial in near if trial.number == int(number))
        path = session.material.lent(getattr(session.material.shown(trial), slot))
        unit = self._unit if path.suffix == ".mp4" else 0
        if self._lend is not None:
            return {"address": self._lend(path, unit)}
        data = path.read_bytes()
        buffers.append(b"".join([data, *filling(len(data), unit)[1]]))
        return {}


def filling(size: int, unit: int) -> tuple[int, Iterator[bytes]]:
    """Return what fills an mp4 of ``size`` bytes up to a multiple of ``unit``: a box to be skipped.

    It comes as its length, and in parts that are made when asked for.

    A clip that hardly moves has few bytes, and one that comes again has the same: neither the
    length nor the content of what is sent gives anything away. The filling is random because a
    connection may compress. With a unit of 0 there is none.
    """
    if not unit:
        return 0, iter(())
    content = -(size + 8) % unit
    head = struct.pack(">I4s", 8 + content, b"free")
    parts = (os.urandom(min(_PART, content - at)) for at in range(0, content, _PART))
    return 8 + content, itertools.chain([head], parts)


def note_problem(out: Path, error: Exception, rater: str = "") -> None:
    """Keep an error for whoever runs the study, out of the raters' sight: ``logs/ratings.txt``.

    The log is as long as it is allowed to be, and no entry is as long as a message may be.
    """
    log = out / "logs" / "ratings.txt"
    when = datetime.now(UTC).isoformat(timespec="seconds")
    trace = "".join(traceback.format_exception(error))
    text = f"{when} {rater}\n{trace[-_LONGEST_NOTE:]}"
    record = logging.LogRecord("studykit", logging.ERROR, "", 0, text, None, None)
    try:
        log.parent.mkdir(exist_ok=True)
        handler = _Log(
            log,
            maxBytes=_LOG_BYTES,
            backupCount=_LOGS_KEPT,
            encoding="utf-8",
            errors="backslashreplace",
        )
        handler.emit(record)
        handler.close()
    except OSError:
        pass


class _Log(logging.handlers.RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Go on where a disk is full: the page says what was not stored."""


def _feedback(known: list[tuple[Criterion, tuple[int, int], int]]) -> list[dict[str, Any]]:
    return [
        {"label": criterion.label, "low": low, "high": high, "given": given}
        for criterion, (low, high), given in known
    ]


def _step(text: str) -> dict[str, str]:
    word, _, detail = text.partition(":")
    return {"word": word.strip(), "detail": detail.strip()}
