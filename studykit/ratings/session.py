"""A rater's session as a state machine, without any widget.

consent -> questions -> training -> rating -> finished, and a pause anywhere. Where a rater has
several sessions, a break comes between them. Whoever has begun may withdraw. All of it but what is
on the screen right now is in the store, so that a session goes on after a crash, on another day or
on another machine.
"""

import math
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal

from studykit import files
from studykit.errors import StudyError, did_you_mean
from studykit.ratings.checks import Plate, plates
from studykit.ratings.controls import Shown
from studykit.ratings.design import (
    Exposure,
    Item,
    Trial,
    item_of,
    plan_session,
    rateable_items,
    rating_rows,
    study_hash,
)
from studykit.ratings.material import Material
from studykit.ratings.store import RaterRecord, SessionRecord, ShownTo, Store, check_rater_id
from studykit.study.file import Study
from studykit.study.ratings import Ratings
from studykit.study.wording import Criterion

State = Literal[
    "consent", "declined", "questions", "checks", "training", "rating", "break", "finished",
    "withdrawn",
]  # fmt: skip
Clock = Callable[[], datetime]
# A session without an answer for so long is given up: others get what it has left.
_GIVEN_UP = timedelta(hours=24)


@dataclass(frozen=True)
class Progress:
    """How many trials are done, of how many; training included."""

    done: int
    total: int


@dataclass(frozen=True)
class Completion:
    """What a rater gets at the end: a code, and an address to return to; "" where there is none."""

    code: str
    address: str


_now = partial(datetime.now, UTC)


class Session:
    """One rater's way through a study's clips: a new one, or from where the rater stopped.

    Each step has been stored when its method returns. A step that makes no sense now, such as an
    answer before the clip was watched, raises :class:`StudyError` and changes nothing.

    Parameters
    ----------
    store : Store
    study : Study
    out : Path
        The folder of the study's results, where the clips are.
    rater : str, optional
        The id of a rater who goes on, or under whom a new one is known elsewhere. Without it a new
        rater gets one with consent; nothing is stored before.
    clock : callable
        Gives the time in UTC.
    material : Material, optional
        The files that are shown; many sessions at once share one.

    Attributes
    ----------
    store : Store
    study : Study
    out : Path
    material : Material
    rater : str
        The rater's id; "" before consent where it is not given.
    watched : float
        The largest share of the clip that was played since it was shown.

    Raises
    ------
    StudyError
        The id may be a name, there is no clip to rate, or the store holds simulated ratings.
    """

    def __init__(
        self,
        store: Store,
        study: Study,
        out: Path,
        rater: str | None = None,
        clock: Clock = _now,
        material: Material | None = None,
    ) -> None:
        if rater is not None:
            check_rater_id(rater)
        store.refuse_other_kind(study.name, simulated=False)
        self.store, self.study, self.out, self._clock = store, study, out, clock
        self.material = material or Material(study, out)
        self.rater = rater or ""
        self._study_hash = study_hash(study)
        self._declined = self._waiting = self._withdrawn = False
        self._leave()
        self._record: SessionRecord | None = None
        if rater:
            self._record = store.session(study.name, rater)
            self._withdrawn = self._record is None and store.has_withdrawn(study.name, rater)
            pairs = study.ratings.task == "pair"
            if any(pairs == (trial.other is None) for trial in self.trials):
                raise StudyError(
                    f"the session of {rater} began with another task than {study.path} has now: "
                    "put that back, or give another id"
                )
        if self._record is None and not self._withdrawn:
            self.material.require_clips()  # said before a rater agrees

    @property
    def state(self) -> State:
        """Where the session is."""
        if self._withdrawn:
            return "withdrawn"
        if self._record is None:
            return "declined" if self._declined else "consent"
        if self._record.questions is None and self.ratings.questions:
            return "questions"
        if self._record.checks is None and self.ratings.checks:
            return "checks"
        if self.trial is None:
            return "break" if self._more else "finished"
        return "training" if self.trial.role == "training" else "rating"

    @property
    def ratings(self) -> Ratings:
        """How the study is rated: task, scale, words."""
        return self.study.ratings

    @property
    def asked(self) -> tuple[Criterion, ...]:
        """What each trial asks."""
        return self.ratings.asked

    @property
    def paused(self) -> bool:
        """Whether nothing but :meth:`resume` is possible."""
        return self._record.paused if self._record else self._waiting

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The whole session, training included; empty before consent."""
        return self._record.trials if self._record else ()

    @property
    def trial(self) -> Trial | None:
        """The trial to show; None before the first and after the last."""
        return self._trial_at(0)

    @property
    def upcoming(self) -> Trial | None:
        """The trial after it, whose files may be made ready."""
        return self._trial_at(1)

    @property
    def shown(self) -> Shown:
        """The files of the trial to show, made if they are not there yet."""
        if self.trial is None:
            raise StudyError("no trial is to be shown now")
        return self.material.shown(self.trial)

    @property
    def progress(self) -> Progress:
        """How far the session is."""
        return Progress(self._record.answered if self._record else 0, len(self.trials))

    @property
    def turn(self) -> str:
        """What names this moment: the same after a restart, another after each step."""
        steps = self._record.steps if self._record else 0
        return f"{self.state}.{self.part.done}.{steps}" + (".paused" if self.paused else "")

    @property
    def can_answer(self) -> bool:
        """Whether the trial was shown and enough of its clip was played."""
        seen = self._shown_at is not None and self.watched >= self.ratings.watch
        return seen and not self.paused

    @property
    def can_undo(self) -> bool:
        """Whether the last answer can be taken back: one, until the next is given."""
        reached = self.state in ("training", "rating", "break", "finished")
        return reached and not self.paused and self._record.undoable

    @property
    def part(self) -> Progress:
        """Which of the rater's sessions this is, of how many."""
        return Progress(self._record.part if self._record else 0, self.ratings.sessions)

    @property
    def rest(self) -> float:
        """For how many seconds the break goes on, at least; 0 outside of one."""
        if self.state != "break" or self._record.last_answer is None:
            return 0.0
        end = self._record.last_answer + timedelta(minutes=self.ratings.break_minutes)
        return max(0.0, (end - self._clock()).total_seconds())

    @property
    def completion(self) -> Completion | None:
        """What shows that the rater has finished; None before."""
        if self.state != "finished":
            return None
        code, address = self.ratings.completion_code, self.ratings.return_address
        return Completion(code, address.replace("{code}", urllib.parse.quote(code, safe="")))

    @property
    def can_withdraw(self) -> bool:
        """Whether anything is stored of the rater."""
        return self._record is not None

    def agree(self) -> None:
        """Consent: the rater gets an id, a number and a plan, and is stored."""
        self._expect("consent")
        known = self.store.register(self.study.name, rater=self.rater or None)
        self._begin(known, 1, self.ratings.consent)
        self.rater = known.rater

    def next_part(self) -> None:
        """Go on with the rater's next session after the break."""
        self._expect("break")
        if self.rest:
            raise StudyError(f"the break goes on for {math.ceil(self.rest)} seconds")
        known = RaterRecord(self.rater, self._record.number, self._record.simulated)
        self._begin(known, self._record.part + 1)

    def withdraw(self) -> None:
        """Remove the rater with all answers from the store, for good."""
        if self._record is None:
            raise StudyError("nothing is stored that could be withdrawn")
        self.store.withdraw(self.study.name, self.rater)
        self._record, self._withdrawn = None, True
        self._leave()

    def decline(self) -> None:
        """Refuse consent: the session is over, and nothing was stored."""
        self._expect("consent")
        self._declined = True

    def answer_questions(self, answers: Mapping[str, str]) -> None:
        """Store what the rater says of itself.

        Parameters
        ----------
        answers : mapping of str
            By question, one of its choices; a question that is absent or "" stays open.
        """
        self._expect("questions")
        questions = {question.name: question for question in self.ratings.questions}
        for name, choice in answers.items():
            if name not in questions:
                raise StudyError(f'no question "{name}": {did_you_mean(name, questions)}')
            if choice and choice not in questions[name].choices:
                hint = did_you_mean(choice, questions[name].choices)
                raise StudyError(f'"{choice}" is no answer to {name}: {hint}')
        given = {name: choice for name, choice in answers.items() if choice}
        self.store.note(self._record.session, "questions", **given)
        self._record = replace(self._record, questions=given)

    @property
    def plates(self) -> tuple[Plate, ...]:
        """What is to be read before the practice."""
        return plates(self.ratings.checks, self._record.session)

    def answer_checks(self, answers: Sequence[str]) -> None:
        """Store how much of the plates a rater has read.

        Parameters
        ----------
        answers : sequence of str
            One a plate.
        """
        self._expect("checks")
        read: dict[str, list[bool]] = {check: [] for check in self.ratings.checks}
        for plate, given in zip(self.plates, answers, strict=True):
            read[plate.check].append(plate.is_right(given))
        found = {check: sum(right) / len(right) for check, right in read.items()}
        self.store.note(self._record.session, "checks", **found)
        self._record = replace(self._record, checks=found)

    def note(self, kind: str, **detail: str | float) -> None:
        """Keep what was seen of the rater's device ("device"), or of a clip ("failed")."""
        if self._record is not None:
            self.store.note(self._record.session, kind, **detail)

    def feedback(self, values: Mapping[str, int]) -> list[tuple[Criterion, tuple[int, int], int]]:
        """Return what a rater should learn of answers to a practice clip that was spoilt.

        Returns
        -------
        list of tuple
            Each criterion with a known answer, the lowest and the highest that is right, and the
            one given; empty where there is none, or the study gives no feedback.
        """
        if self.state != "training" or not self.ratings.feedback:
            return []
        expected = self.trial.expected
        return [
            (it, expected[it.name], values[it.name]) for it in self.asked if it.name in expected
        ]

    def show(self, at: datetime | None = None) -> None:
        """Start the clock: the trial's media are on the screen from now on, not yet played.

        Parameters
        ----------
        at : datetime, optional
            When they came there, where that was not now.
        """
        self._expect("training", "rating")
        self._leave()
        self._shown_at = at or self._clock()

    def play(self, share: float, at: datetime | None = None) -> None:
        """Take note of how far the clip was played; it counts only while a trial is shown.

        Parameters
        ----------
        share : float
            From its start, 0 to 1; 1 is to the end.
        at : datetime, optional
            When it was, where that was not now.
        """
        if self._shown_at is None or not math.isfinite(share):
            return
        self.watched = max(self.watched, float(share))
        if self._played_at is None and self.watched >= 1:
            self._played_at = at or self._clock()

    def answer(self, values: Mapping[str, int]) -> None:
        """Answer the trial and go on to the next.

        Parameters
        ----------
        values : mapping of int
            By criterion, 1 to :attr:`Ratings.highest`; all that is asked.

        Raises
        ------
        StudyError
            The clip was not watched, an answer is missing or out of range, or the session went on
            elsewhere. Nothing is stored then.
        """
        self._expect("training", "rating")
        if not self.can_answer:
            raise StudyError(self.ratings.texts["watch_hint"])
        answers = self._checked(values)
        trial, shown, now = self.trial, self.shown, self._clock()
        hashes = [files.sha256(path) for path in (shown.clip, shown.other) if path]
        shared = {
            "session": self._record.session,
            "rater": self.rater,
            "seconds": (now - self._shown_at).total_seconds(),
            "watched": self.watched,
            "shown_at": self._shown_at,
            "played_at": self._played_at,
            "answered_at": now,
            "clip_hash": " ".join(hashes),
            "study_hash": self._study_hash,
        }
        rows = [row | shared for row in rating_rows(self.study, trial, answers)]
        self.store.record(self._record.session, trial.number, rows)
        self._advance(trial.number + 1, undoable=True)

    def undo(self) -> None:
        """Take the last answer back and show its trial again; the store keeps both answers."""
        if not self.can_undo:
            raise StudyError("there is no answer to take back: only the last one can be")
        before = self._record.answered - 1
        self.store.undo(self._record.session, before)
        self._advance(before, undoable=False)

    def pause(self) -> None:
        """Rest: until :meth:`resume`, here or elsewhere, nothing else is possible."""
        self._rest(True)

    def resume(self) -> None:
        """Go on after a pause; the trial is to be shown and watched again."""
        self._rest(False)

    @property
    def _more(self) -> bool:
        """Whether another session follows: there is one, and something in it."""
        if self._record.part >= self.ratings.sessions:
            return False
        every = self.store.sessions(self.study.name, self.rater)
        seen = {trial.item for known in every for trial in known.trials if trial.role == "rating"}
        return not seen.issuperset(rateable_items(self.study, self.material.clips))

    def _begin(self, known: RaterRecord, part: int, consent: str = "") -> None:
        self._record = self.store.begin(
            self.study.name,
            self._study_hash,
            known,
            partial(self._planned, known, part, self._excluded()),
            part=part,
            since=self._clock() - _GIVEN_UP,
            consent=consent,
        )
        self._leave()

    def _planned(
        self, known: RaterRecord, part: int, excluded: set[str], shown: Sequence[ShownTo]
    ) -> tuple[Trial, ...]:
        """Plan a session by what was shown to all raters who count, and to this one."""
        clips = self.material.clips
        counted = [its for rater, its in shown if rater not in excluded]
        seen: set[Item] = {
            item_of(*cells) for rater, its in shown if rater == known.rater for cells in its
        }
        exposure = Exposure.of(self.study, clips, counted)
        return plan_session(
            self.study, clips, known.number, session=part, shown=exposure, seen=seen
        )

    def _excluded(self) -> set[str]:
        """Return the raters whose ratings don't count, where each clip is to have so many."""
        ratings = self.store.ratings(self.study.name) if self.ratings.ratings_per_clip_min else ()
        if not len(ratings):
            return set()
        from studykit.ratings.screening import screen_study

        return set(screen_study(self.study, ratings).excluded)

    def _trial_at(self, ahead: int) -> Trial | None:
        place = self.progress.done + ahead
        return self.trials[place] if place < len(self.trials) else None

    def _expect(self, *states: State) -> None:
        if self.paused:
            raise StudyError("the session is paused: go on first")
        if self.state not in states:
            raise StudyError(f"this is for {' or '.join(states)}, and the state is {self.state}")

    def _checked(self, values: Mapping[str, int]) -> dict[str, int]:
        """Return the answers in the order of the criteria, or refuse them."""
        names = [criterion.name for criterion in self.asked]
        for name in values:
            if name not in names:
                raise StudyError(f'no criterion "{name}": {did_you_mean(name, names)}')
        for name in names:
            if name not in values:
                raise StudyError(f'{self.ratings.texts["answer_all_hint"]} ("{name}" is open)')
            value = values[name]
            if not isinstance(value, int) or isinstance(value, bool):
                raise StudyError(f'the answer to "{name}" is a whole number, not {value!r}')
            if not 1 <= value <= self.ratings.highest:
                raise StudyError(
                    f'the answer to "{name}" is 1 to {self.ratings.highest}, not {value}'
                )
        return {name: values[name] for name in names}

    def _advance(self, answered: int, *, undoable: bool) -> None:
        self._record = replace(
            self._record,
            answered=answered,
            undoable=undoable,
            steps=self._record.steps + 1,
            last_answer=self._clock(),
        )
        self._leave()

    def _rest(self, resting: bool) -> None:
        if resting == self.paused:
            return
        if self._record is None:
            self._waiting = resting
        else:
            self.store.note(self._record.session, "paused" if resting else "resumed")
            self._record = replace(self._record, paused=resting)
        self._leave()

    def _leave(self) -> None:
        """Forget what was on the screen."""
        self._shown_at: datetime | None = None
        self._played_at: datetime | None = None
        self.watched = 0.0
