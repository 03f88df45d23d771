"""A session goes its way step by step, refuses what makes no sense, and goes on after anything."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from studykit import files
from studykit.clips.animate import animate_cells
from studykit.clips.folder import study_folder
from studykit.errors import StudyError
from studykit.ratings.session import Session
from studykit.ratings.store import Store, open_store
from studykit.study.file import load_study

Open = Callable[..., Session]


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def out(small_study: Path, tmp_path: Path) -> Path:
    """The folder of the small study with its clips."""
    study = load_study(small_study)
    folder = study_folder(study, tmp_path / "out")
    animate_cells(study, folder)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "ratings.sqlite") as opened:
        yield opened


@pytest.fixture
def enter(small_study: Path, out: Path, store: Store, clock: Clock) -> Open:
    """Open a session of the small study, with the section ``ratings`` that is given."""

    def open_(rater: str | None = None, rules: str = "") -> Session:
        if rules:
            small_study.write_text(f"{small_study.read_text()}ratings: {rules}\n")
        return Session(store, load_study(small_study), out, rater, clock)

    return open_


SHORT = "{training: 1, repeats: 0, references: 0, gold: 0, questions: []}"


def rate(session: Session, value: int = 3) -> None:
    session.show()
    session.play(1.0)
    session.answer({criterion.name: value for criterion in session.asked})


def test_a_whole_session(enter: Open, store: Store) -> None:
    session = enter(rules="{training: 1, repeats: 1, gold: 1}")
    assert (session.state, session.rater, session.trials) == ("consent", "", ())
    assert not store.sessions()
    session.agree()
    assert session.state == "questions"
    session.answer_questions({"display": "A phone", "vision": ""})
    states, roles = [], []
    while session.trial:
        states.append(session.state)
        roles.append(session.trial.role)
        assert session.shown.clip.is_file()
        assert session.shown.source.suffix == ".png"
        rate(session)
    assert states == ["training"] + ["rating"] * (len(roles) - 1)
    assert sorted(roles) == ["gold", *["rating"] * 4, "reference", "repeat", "training"]
    assert (session.state, session.progress.done) == ("finished", session.progress.total)
    table = store.ratings("small")
    assert len(table) == len(roles) * 4
    assert list(table["role"][::4]) == roles
    assert store.session("small", session.rater).questions == {"display": "A phone"}


def test_declining_stores_nothing(enter: Open, store: Store) -> None:
    session = enter()
    session.decline()
    assert session.state == "declined"
    with pytest.raises(StudyError, match="the state is declined"):
        session.agree()
    assert not store.sessions()
    assert store.register("small").number == 0


def test_without_consent_nothing_is_stored_before_the_rater_begins(
    enter: Open, store: Store
) -> None:
    session = enter(rules="{consent: '', questions: [], training: 0}")
    assert (session.state, store.sessions()) == ("consent", [])
    session.agree()
    assert session.state == "rating"
    assert session.rater.startswith("r-")


def test_an_answer_needs_the_clip_watched_to_its_end(enter: Open, store: Store) -> None:
    session = enter(rules=SHORT)
    session.agree()
    values = {criterion.name: 3 for criterion in session.asked}
    for step in (lambda: None, session.show, lambda: session.play(0.99)):
        step()
        assert not session.can_answer
        with pytest.raises(StudyError, match="Watch the clip to its end"):
            session.answer(values)
    session.play(1.0)
    session.play(0.2)
    assert session.can_answer
    assert session.watched == 1.0
    session.show()
    assert not session.can_answer
    assert store.ratings().empty


def test_the_share_that_must_be_watched_is_the_studys(enter: Open) -> None:
    session = enter(rules="{watch: 0.5, training: 1}")
    session.agree()
    session.answer_questions({})
    session.show()
    session.play(0.49)
    assert not session.can_answer
    session.play(float("nan"))
    session.play(0.5)
    assert session.can_answer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jitter": None}, r'Answer every question to go on. \("jitter" is open\)'),
        ({"jitter": 0}, '"jitter" is 1 to 5, not 0'),
        ({"jitter": 6}, '"jitter" is 1 to 5, not 6'),
        ({"jitter": "3"}, "\"jitter\" is a whole number, not '3'"),
        ({"jitter": True}, '"jitter" is a whole number, not True'),
        ({"jiter": 3}, 'no criterion "jiter": did you mean "jitter"'),
    ],
)
def test_answers_are_whole_and_in_range(
    enter: Open, store: Store, change: dict, message: str
) -> None:
    session = enter(rules=SHORT)
    session.agree()
    session.show()
    session.play(1.0)
    values = {criterion.name: 3 for criterion in session.asked} | change
    values = {name: value for name, value in values.items() if value is not None}
    with pytest.raises(StudyError, match=message):
        session.answer(values)
    assert store.ratings().empty
    assert session.progress.done == 0


def test_times_and_hashes_are_those_of_what_happened(
    enter: Open, store: Store, clock: Clock
) -> None:
    session = enter(rules=SHORT)
    session.agree()
    session.show()
    clock.wait(2)
    session.play(1.0)
    clock.wait(1)
    session.play(1.0)
    clock.wait(4)
    hashed = files.sha256(session.shown.clip)
    session.answer({criterion.name: 3 for criterion in session.asked})
    row = store.ratings(history=True).iloc[0]
    assert row["seconds"] == 7
    assert row["played_at"] - row["shown_at"] == timedelta(seconds=2)
    assert row["answered_at"] == clock.now
    assert (row["watched"], row["clip_hash"]) == (1.0, hashed)


def test_the_last_answer_can_be_taken_back_once(enter: Open, store: Store) -> None:
    session = enter(rules=SHORT)
    session.agree()
    assert not session.can_undo
    rate(session, 1)
    rate(session, 2)
    session.undo()
    assert (session.progress.done, session.can_undo, session.can_answer) == (1, False, False)
    with pytest.raises(StudyError, match="only the last one can be"):
        session.undo()
    rate(session, 5)
    assert list(store.ratings()["value"]) == [1] * 4 + [5] * 4
    assert list(store.ratings(history=True)["value"]) == [1] * 4 + [2] * 4 + [5] * 4
    while session.trial:
        rate(session)
    session.undo()
    assert session.state == "rating"


def test_a_session_goes_on_from_the_store_alone(enter: Open, store: Store) -> None:
    first = enter(rules=SHORT)
    first.agree()
    rate(first)
    first.show()
    first.play(1.0)
    again = enter(first.rater)
    assert (again.state, again.trials, again.trial) == (first.state, first.trials, first.trial)
    assert (again.progress, again.can_undo) == (first.progress, True)
    assert not again.can_answer
    rate(again)
    with pytest.raises(StudyError, match="went on in another window"):
        first.answer({criterion.name: 3 for criterion in first.asked})
    assert len(store.ratings()) == 8


def test_the_plan_stays_when_clips_are_lost_or_added(enter: Open, out: Path) -> None:
    first = enter(rules=SHORT)
    first.agree()
    for clip in (out / "clips").iterdir():
        clip.unlink()
    again = enter(first.rater)
    assert again.trials == first.trials
    again.show()
    again.play(1.0)
    with pytest.raises(StudyError, match=r"mp4 is gone: run the study again"):
        again.answer({criterion.name: 3 for criterion in again.asked})
    with pytest.raises(StudyError, match="no clip to rate"):
        enter()


def test_a_pause_holds_until_the_rater_goes_on_even_elsewhere(enter: Open) -> None:
    session = enter()
    session.pause()
    with pytest.raises(StudyError, match="paused: go on first"):
        session.agree()
    session.resume()
    session.agree()
    session.pause()
    elsewhere = enter(session.rater)
    assert (elsewhere.paused, elsewhere.state) == (True, "questions")
    with pytest.raises(StudyError, match="paused: go on first"):
        elsewhere.answer_questions({})
    elsewhere.resume()
    elsewhere.answer_questions({})
    elsewhere.show()
    elsewhere.play(1.0)
    elsewhere.pause()
    assert not elsewhere.can_answer
    elsewhere.resume()
    assert not elsewhere.can_answer
    rate(elsewhere)
    assert not enter(session.rater).paused


def test_steps_out_of_turn_are_refused(enter: Open) -> None:
    session = enter()
    for step in (session.show, session.undo, lambda: session.shown):
        with pytest.raises(StudyError):
            step()
    session.agree()
    with pytest.raises(StudyError, match="the state is questions"):
        session.show()
    with pytest.raises(StudyError, match='no question "dispaly": did you mean "display"'):
        session.answer_questions({"dispaly": "A phone"})
    with pytest.raises(StudyError, match='"A fridge" is no answer to display'):
        session.answer_questions({"display": "A fridge"})
    session.answer_questions({})
    with pytest.raises(StudyError, match="the state is training"):
        session.agree()


def test_an_id_from_elsewhere_is_kept_and_a_name_refused(enter: Open) -> None:
    session = enter("P-17", SHORT)
    assert session.state == "consent"
    session.agree()
    assert session.rater == "P-17"
    with pytest.raises(StudyError, match="is no rater id"):
        enter("Anna Schmidt")


def test_degradation_rating_shows_the_driving_and_pairs_a_second_clip(
    small_study: Path, enter: Open, out: Path
) -> None:
    text = small_study.read_text()
    session = enter(rules="{task: dcr, questions: [], show_source: false}")
    session.agree()
    shown = session.shown
    assert shown.driving.is_file()
    assert (shown.source, shown.other) == (None, None)
    small_study.write_text(text.replace("[copy]", "[copy, {name: still, method: copy}]"))
    animate_cells(load_study(small_study), out)
    session = enter(rules="{task: pair, overall: true, questions: [], training: 0}")
    session.agree()
    shown = session.shown
    assert shown.other.is_file()
    session.show()
    session.play(1.0)
    with pytest.raises(StudyError, match="is 1 to 2, not 3"):
        session.answer({"overall": 3})
    session.answer({"overall": 2})
    row = session.store.ratings().iloc[0]
    assert row["clip_hash"].split() == [files.sha256(shown.clip), files.sha256(shown.other)]
    assert row["other"]


def test_a_person_can_not_join_simulated_raters(small_study: Path, store: Store, out: Path) -> None:
    study = load_study(small_study)
    store.register(study.name, simulated=True)
    with pytest.raises(StudyError, match="holds simulated ratings"):
        Session(store, study, out)


def test_checks_come_between_questions_and_practice_and_are_kept(enter: Open, store: Store) -> None:
    session = enter(rules="{checks: [reading, colour], training: 1}")
    session.agree()
    session.answer_questions({})
    assert session.state == "checks"
    right = [plate.answer.lower() for plate in session.plates]
    with pytest.raises(ValueError):
        session.answer_checks(right[:-1])
    session.answer_checks(["?", *right[1:]])
    assert session.state == "training"
    again = enter(session.rater)
    assert again.state == "training"
    (record,) = store.sessions()
    assert record.checks == {"colour": pytest.approx(2 / 3), "reading": 1}


def test_a_spoilt_practice_clip_gives_feedback_where_the_study_wants_it(enter: Open) -> None:
    session = enter(rules="{training: 2, feedback: true, questions: []}")
    session.agree()
    values = dict.fromkeys(("naturalness", "structure", "jitter", "consistency"), 4)
    assert session.feedback(values) == []  # the first is as it was made
    session.show()
    session.play(1)
    session.answer(values)
    assert session.trial.clip.kind == "torn"
    found = session.feedback(values | {"structure": 2})
    assert [(criterion.name, expected, given) for criterion, expected, given in found] == [
        ("structure", (1, 2), 2),
        ("consistency", (1, 2), 4),
    ]


def test_without_feedback_in_the_study_there_is_none(enter: Open) -> None:
    session = enter(rules="{training: 2, questions: []}")
    session.agree()
    values = dict.fromkeys(("naturalness", "structure", "jitter", "consistency"), 4)
    session.show()
    session.play(1)
    session.answer(values)
    assert session.trial.expected
    assert session.feedback(values) == []


def test_a_turn_is_the_same_after_a_restart_and_never_comes_again(enter: Open) -> None:
    session = enter(rules="{training: 1, questions: []}")
    turns = [session.turn]
    session.agree()
    values = dict.fromkeys(("naturalness", "structure", "jitter", "consistency"), 4)
    for _ in range(2):
        turns.append(session.turn)
        assert enter(session.rater).turn == session.turn
        session.show()
        session.play(1)
        session.answer(values)
        turns.append(session.turn)
        session.undo()
    turns.append(session.turn)
    assert len(set(turns)) == len(turns)


PARTS = (
    "{training: 2, repeats: 0, references: 0, gold: 0, questions: [display], trials: 2, "
    "sessions: 3, break_minutes: 10, completion_code: C1, return_address: 'https://x.org/?c={code}'}"
)


def finish_part(session: Session) -> list[str]:
    cells = []
    while session.trial:
        if session.trial.role == "rating":
            cells.append(session.trial.clip.cell)
        rate(session)
    return cells


def test_a_second_session_comes_after_a_break_with_other_clips(enter: Open, clock: Clock) -> None:
    session = enter(rules=PARTS)
    session.agree()
    session.answer_questions({"display": "A phone"})
    first = finish_part(session)
    assert (session.state, session.part.done, session.part.total) == ("break", 1, 3)
    assert session.rest == 600
    assert session.can_undo
    assert session.completion is None
    with pytest.raises(StudyError, match="the break goes on for 600 seconds"):
        session.next_part()
    clock.wait(599)
    again = enter(session.rater)  # on another machine
    assert (again.state, again.rest) == ("break", 1)
    clock.wait(1)
    again.next_part()
    assert (again.state, again.part.done, again.progress.done) == ("training", 2, 0)
    assert [trial.role for trial in again.trials].count("training") == 1
    second = finish_part(again)
    assert len({*first, *second}) == 4
    assert again.state == "finished"  # of three sessions: there are no clips for another
    assert (again.completion.code, again.completion.address) == ("C1", "https://x.org/?c=C1")
    table = again.store.ratings("small")
    assert set(table["session"]) == {f"small/{again.rater}/{part}" for part in (1, 2)}


def test_who_comes_next_fills_what_another_left_after_a_day(
    enter: Open, store: Store, clock: Clock
) -> None:
    rules = SHORT.replace("{", "{trials: 2, ratings_per_clip_min: 1, ")
    first, second = enter(rules=rules), enter()
    first.agree()
    second.agree()
    cells = [{t.clip.cell for t in s.trials if t.role == "rating"} for s in (first, second)]
    assert not cells[0] & cells[1]
    rate(first)  # the practice
    rate(first)
    left = first.trial.clip.cell
    finish_part(second)
    clock.wait(24 * 3600 + 1)
    third = enter()
    third.agree()
    assert left in {trial.clip.cell for trial in third.trials if trial.role == "rating"}


def test_who_is_excluded_leaves_a_gap_that_others_fill(enter: Open) -> None:
    rules = SHORT.replace("gold: 0", "gold: 1, trials: 2, ratings_per_clip_min: 1")
    careless, second, third = enter(rules=rules), enter(), enter()
    for session, of_gold in ((careless, 5), (second, 1), (third, 1)):
        session.agree()
        while trial := session.trial:
            rate(session, value=of_gold if trial.role == "gold" else 3)
    assert third._excluded() == {careless.rater}
    shown = [{cell for cell, _ in cells} for _, cells in third.store.shown("small")]
    assert len(shown[1] | shown[2]) == 4  # as if the first had not been there


def test_who_withdraws_is_gone_and_sees_that_when_coming_back(enter: Open, store: Store) -> None:
    session = enter(rules=SHORT)
    with pytest.raises(StudyError, match="nothing is stored that could be withdrawn"):
        session.withdraw()
    assert not session.can_withdraw
    session.agree()
    rate(session)
    rate(session)
    session.pause()
    elsewhere = enter(session.rater)
    session.withdraw()
    assert (session.state, session.can_withdraw, session.trial) == ("withdrawn", False, None)
    assert store.ratings(history=True).empty
    with pytest.raises(StudyError, match="has withdrawn"):
        elsewhere.resume()
    again = enter(session.rater)
    assert again.state == "withdrawn"
    with pytest.raises(StudyError, match="the state is withdrawn"):
        again.agree()
