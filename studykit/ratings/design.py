"""The design of a session: which clips a rater sees, in which order, and why.

Pure functions of the study, the clips and the rater's number, so that a plan can be made again.
"""

import bisect
import hashlib
import itertools
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

from studykit import files
from studykit.errors import StudyError
from studykit.study.file import Input, Study
from studykit.study.ratings import Ratings

Role = Literal["training", "rating", "repeat", "reference", "gold"]
Kind = Literal["clip", "reference", "frozen", "torn", "shaken"]

# What a made clip gets wrong, so that whoever rates it well was not looking: of our own criteria,
# and of those of presets.
FLAWS: dict[Kind, tuple[str, ...]] = {
    "frozen": ("naturalness", "facialexpressions"),
    "torn": ("structure", "consistency", "realistic"),
    "shaken": ("jitter",),
}
# Of a scale of 5, a gold clip's flaw must get 1 or 2.
_FAILING = 0.4
# Gold clips of each kind are made from so many of a study's clips, and not from each of them.
_GOLD_BASES = 8
# A gold clip, a reference or a repeat comes after so many rated clips at the earliest.
_UNDISTURBED = 2
# To set sources apart, a clip may get ahead of others by so many showings; so many are looked at.
_UNEVEN = 2
_CONSIDERED = 50
_READING_SECONDS, _CRITERION_SECONDS, _REPLAYS = 2.0, 4.0, 0.5
_UNPLACED = -1  # the number of a trial that has no place yet


class Condition(NamedTuple):
    """What statistics speak about: a source type x driving type x method."""

    source_type: str
    driving_type: str
    method: str


@dataclass(frozen=True)
class Clip:
    """Something that can be shown and rated.

    Attributes
    ----------
    cell : str
        Its name in data: the cell's; of a reference the driving's; ``<kind>__<cell>`` of a clip
        that was spoilt on purpose.
    source, source_type, driving, driving_type, method : str
        As in the study. A reference has no source, and the kind stands for the method of what is
        not a study's clip.
    kind : {"clip", "reference", "frozen", "torn", "shaken"}
        A study's clip, a driving as it is, or a clip that was spoilt.
    """

    cell: str
    source: str
    source_type: str
    driving: str
    driving_type: str
    method: str
    kind: Kind = "clip"

    @property
    def condition(self) -> Condition:
        """What statistics speak about."""
        return Condition(self.source_type, self.driving_type, self.method)

    @property
    def base(self) -> str:
        """The cell whose clip this is, or was made from; "" of a reference."""
        if self.kind == "reference":
            return ""
        return self.cell if self.kind == "clip" else self.cell.removeprefix(f"{self.kind}__")

    @property
    def columns(self) -> dict[str, str]:
        """What the ratings table says of it."""
        return {name: value for name, value in asdict(self).items() if name != "kind"}

    def spoilt(self, kind: Kind) -> "Clip":
        """Return the clip that is made from this one by spoiling it."""
        return replace(self, cell=f"{kind}__{self.cell}", method=kind, kind=kind)


@dataclass(frozen=True)
class Trial:
    """One clip, or one pair of clips, that a rater judges.

    Attributes
    ----------
    number : int
        Its place in the session, from 0.
    role : {"training", "rating", "repeat", "reference", "gold"}
    clip : Clip
    other : Clip or None
        The second clip of a pair.
    expected : dict
        By criterion, the lowest and the highest answer that a careful rater gives to a gold clip.
    repeats : int or None
        The number of the trial that is shown again.
    """

    number: int
    role: Role
    clip: Clip
    other: Clip | None = None
    expected: dict[str, tuple[int, int]] = field(default_factory=dict)
    repeats: int | None = None

    @property
    def condition(self) -> tuple[str, ...]:
        """That of its clip; of a pair, both types and both methods."""
        if self.other is None:
            return self.clip.condition
        return (*self.clip.condition[:2], *sorted((self.clip.method, self.other.method)))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Trial":
        """Make a trial from what :func:`dataclasses.asdict` gave, through JSON or not."""
        parts = {
            "clip": Clip(**values["clip"]),
            "other": values["other"] and Clip(**values["other"]),
            "expected": {name: tuple(answers) for name, answers in values["expected"].items()},
        }
        return cls(**values | parts)


def williams_order(count: int) -> tuple[tuple[int, ...], ...]:
    """Return sequences of ``count`` conditions that balance order and carry-over.

    Each condition stands in every position equally often, and each ordered pair of conditions is
    neighbours equally often: once over ``count`` sequences if that is even, twice over
    ``2 * count`` if it is odd (Williams, "Experimental designs balanced for the estimation of
    residual effects of treatments", Australian Journal of Scientific Research A 2, 1949).

    Parameters
    ----------
    count : int
        How many conditions, at least 1.

    Returns
    -------
    tuple of tuple of int
        The sequences, of the numbers 0 to ``count - 1``.

    Examples
    --------
    >>> williams_order(4)
    ((0, 1, 3, 2), (1, 2, 0, 3), (2, 3, 1, 0), (3, 0, 2, 1))
    """
    # 0, 1, n-1, 2, n-2, ...: the differences of neighbours are all different, modulo n.
    first = [0]
    for step in range(1, count):
        first.append((first[-1] + (step if step % 2 else -step)) % count)
    rows = [tuple((item + shift) % count for item in first) for shift in range(count)]
    if count % 2 and count > 1:
        rows += [row[::-1] for row in rows]
    return tuple(rows)


def study_clips(study: Study) -> tuple[Clip, ...]:
    """Return every clip of a study that is rated, whether it was made already or not.

    Where a study has both protocols, only "cross-identity" is rated: under "same-identity" metrics
    compare with the truth.
    """
    protocol = study.protocols[0] if len(study.protocols) == 1 else "cross-identity"
    return tuple(
        Clip(
            cell.name,
            cell.source.name,
            cell.source.type,
            cell.driving.name,
            cell.driving.type,
            cell.method.name,
        )
        for cell in study.cells()
        if cell.protocol == protocol
    )


def study_hash(study: Study) -> str:
    """Return a SHA-256 of the study file and of all words that raters read."""
    words = json.dumps(asdict(study.ratings), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(f"{files.sha256(study.path)}\n{words}".encode()).hexdigest()


def plan_session(study: Study, clips: Sequence[Clip], number: int) -> tuple[Trial, ...]:
    """Plan the session of one rater.

    Conditions come in a row of the balanced order, the rows dealt to raters in a seeded order. All
    methods of a source type x driving type come with the same source and driving: those that raters
    have seen least, or others if that sets clips of one source apart and keeps the counts within 2
    of each other. Training comes first. Gold clips, references and repeats stand between rated
    clips: after the first two, apart from each other, and a repeat well after what it repeats.

    Parameters
    ----------
    study : Study
    clips : sequence of Clip
        What can be shown: :func:`study_clips`, or those that were made.
    number : int
        Of the rater, from 0.

    Raises
    ------
    StudyError
        There is nothing to rate.
    """
    deck = _Deck(study, clips)
    for earlier in range(number):
        deck.deal(earlier)
    return _with_controls(study, clips, deck.deal(number), number)


def plan_sessions(study: Study, clips: Sequence[Clip]) -> Iterator[tuple[Trial, ...]]:
    """Yield the sessions of rater 0, 1, 2, ... without end, as :func:`plan_session` plans them."""
    deck = _Deck(study, clips)
    for number in itertools.count():
        yield _with_controls(study, clips, deck.deal(number), number)


def ratings_per_condition(
    study: Study, clips: Sequence[Clip], raters: int
) -> dict[tuple[str, ...], int]:
    """Count how many ratings each condition gets from so many raters who finish.

    A condition of pairs names both methods.
    """
    sessions = itertools.islice(plan_sessions(study, clips), raters)
    rated = (trial for trials in sessions for trial in trials if trial.role == "rating")
    return dict(Counter(trial.condition for trial in rated))


def session_minutes(trials: Sequence[Trial], *, clip_seconds: float, criteria: int) -> float:
    """Estimate how long a session takes, without consent and questions.

    Each trial is 2 s to settle, the clip once and half of it again, and 4 s a criterion; clips of
    a pair play side by side.

    Parameters
    ----------
    trials : sequence of Trial
    clip_seconds : float
        The mean length of a clip.
    criteria : int
        How many answers a trial asks.
    """
    watching = clip_seconds * (1 + _REPLAYS)
    return len(trials) * (_READING_SECONDS + watching + _CRITERION_SECONDS * criteria) / 60


def rating_rows(study: Study, trial: Trial, values: dict[str, int]) -> list[dict[str, Any]]:
    """Return what a trial's design puts into the ratings table, one row a criterion.

    Parameters
    ----------
    study : Study
    trial : Trial
    values : dict of int
        The answer by criterion.
    """
    rows = []
    for criterion, value in values.items():
        low, high = trial.expected.get(criterion, (None, None))
        rows.append(
            {
                "study": study.name,
                "trial": trial.number,
                "role": trial.role,
                "task": study.ratings.task,
                **trial.clip.columns,
                "other": trial.other.cell if trial.other else "",
                "criterion": criterion,
                "value": value,
                "expected_low": low,
                "expected_high": high,
            }
        )
    return rows


_Types = tuple[str, ...]  # of source and driving
_Content = tuple[str, str]  # a source and a driving


class _Deck:
    """Deals rated clips to raters, one after the other, so that each is seen equally often.

    Of each source type x driving type a rater gets one source and driving with all its methods, so
    that what a rater thinks of a face does not count as a difference between methods.
    """

    def __init__(self, study: Study, clips: Sequence[Clip]) -> None:
        self._random = random.Random(f"{study.name} {study.seed} deck")
        self._contents: dict[_Types, dict[_Content, dict[tuple[str, ...], Trial]]] = {}
        for trial in _rateable(study, clips):
            contents = self._contents.setdefault(trial.condition[:2], {})
            contents.setdefault(_content(trial), {})[trial.condition] = trial
        if not self._contents:
            raise StudyError(
                f"{study.path}: no clip to rate: run the study first"
                + (", with two methods or more for pairs" * (study.ratings.task == "pair"))
            )
        # By how often a content was dealt, and by chance among equals.
        self._decks = {
            types: sorted((0, self._random.random(), content) for content in contents)
            for types, contents in self._contents.items()
        }
        by_content = [methods for found in self._contents.values() for methods in found.values()]
        self._conditions = sorted(set().union(*by_content))
        self._random.shuffle(self._conditions)
        self._rows = williams_order(len(self._conditions))
        self._length = study.ratings.trials or len(self._conditions)
        most = max(map(len, self._contents.values()))
        self._turns = min(-(-self._length // len(self._conditions)), most)
        self._shuffled: list[list[tuple[int, ...]]] = []
        self._flipped: set[tuple[str, ...]] = set()

    def deal(self, number: int) -> list[Trial]:
        """Deal the rated trials of the next rater; call it for 0, 1, 2, ... in turn."""
        place = number % len(self._rows)
        if place == 0:
            count = len(self._rows)
            self._shuffled = [self._random.sample(self._rows, count) for _ in range(self._turns)]
        if number % 2 == 0:
            count = len(self._conditions) // 2
            self._flipped = set(self._random.sample(self._conditions, count))
        dealt: list[Trial] = []
        for turn, rows in enumerate(self._shuffled):
            left = self._length - len(dealt)
            order = [self._conditions[index] for index in rows[place]][:left]
            for trial in self._turn(order, dealt):
                # Who comes second sees each pair the other way round than who came first.
                if trial.other and (number + turn + (trial.condition in self._flipped)) % 2:
                    trial = replace(trial, clip=trial.other, other=trial.clip)
                dealt.append(trial)
        return dealt

    def _turn(self, order: list[tuple[str, ...]], dealt: list[Trial]) -> list[Trial]:
        """Choose a trial for each condition, of a content that this rater has not seen with it."""
        seen = {(trial.condition, _content(trial)) for trial in dealt}
        sources = [dealt[-1].clip.source if dealt else "", *[""] * (len(order) + 1)]
        chosen: dict[int, Trial] = {}
        for first, condition in enumerate(order):
            if first in chosen:
                continue
            types = condition[:2]
            places = [
                place
                for place in range(first, len(order))
                if order[place][:2] == types and place not in chosen
            ]
            neighbours = [sources[place + side] for place in places for side in (0, 2)]
            content = self._take(condition, neighbours, seen)
            methods = self._contents[types].get(content, {})
            for place in places:
                if order[place] in methods and (order[place], content) not in seen:
                    chosen[place] = methods[order[place]]
                    sources[place + 1] = content[0]
        return [chosen[place] for place in sorted(chosen)]

    def _take(
        self,
        condition: tuple[str, ...],
        neighbours: list[str],
        seen: set[tuple[tuple[str, ...], _Content]],
    ) -> _Content | None:
        """Take the source and driving dealt least, if another does not stand apart better."""
        deck, contents = self._decks[condition[:2]], self._contents[condition[:2]]
        fresh = (
            entry
            for entry in deck
            if condition in contents[entry[2]] and (condition, entry[2]) not in seen
        )
        considered = list(itertools.islice(fresh, _CONSIDERED))
        if not considered:
            return None
        enough = considered[0][0] + _UNEVEN
        best = min(
            (entry for entry in considered if entry[0] < enough),
            key=lambda entry: neighbours.count(entry[2][0]),
        )
        deck.remove(best)
        count, _, content = best
        bisect.insort(deck, (count + 1, self._random.random(), content))
        return content


def _rateable(study: Study, clips: Sequence[Clip]) -> Iterator[Trial]:
    """Yield all that may be rated, without a place: clips, or pairs of methods on one content."""
    if study.ratings.task != "pair":
        yield from (Trial(_UNPLACED, "rating", clip) for clip in clips)
        return
    alike: defaultdict[_Content, list[Clip]] = defaultdict(list)
    for clip in clips:
        alike[clip.source, clip.driving].append(clip)
    for group in alike.values():
        for pair in itertools.combinations(group, 2):
            yield Trial(_UNPLACED, "rating", *pair)


def _content(trial: Trial) -> _Content:
    """Return the source and the driving, which methods have in common."""
    return trial.clip.source, trial.clip.driving


def _with_controls(
    study: Study, clips: Sequence[Clip], rated: list[Trial], number: int
) -> tuple[Trial, ...]:
    """Put training before the rated trials, and gold, references and repeats between them."""
    chance = random.Random(f"{study.name} {study.seed} {number}")
    practice = _training(study, clips, rated, chance)
    between = [
        *_repeats(study.ratings, rated, chance),
        *_gold(study, clips, rated, number, chance),
        *_references(study, clips, number),
    ]
    session = [*practice, *_placed(rated, between, chance)]
    numbers = [place for place, trial in enumerate(session) if trial.role == "rating"]
    return tuple(
        replace(
            trial,
            number=place,
            repeats=None if trial.repeats is None else numbers[trial.repeats],
        )
        for place, trial in enumerate(session)
    )


def _training(
    study: Study, clips: Sequence[Clip], rated: list[Trial], chance: random.Random
) -> list[Trial]:
    """Choose practice that spans the scale: clips that are not rated, every second one spoilt."""
    seen = {frozenset((trial.clip, trial.other)) for trial in rated}
    known = list(_rateable(study, clips))
    unseen = [trial for trial in known if frozenset((trial.clip, trial.other)) not in seen]
    count = study.ratings.training
    kinds = itertools.cycle(("torn", "shaken", "frozen"))
    chosen = []
    for trial in _sample(unseen if len(unseen) >= count else known, count, chance):
        clip = trial.clip
        if len(chosen) % 2 and trial.other is None:
            clip = clip.spoilt(next(kinds))
        expected = _expected(study.ratings, clip.kind)
        chosen.append(replace(trial, role="training", clip=clip, expected=expected))
    return chosen


def _expected(ratings: Ratings, kind: Kind) -> dict[str, tuple[int, int]]:
    """Return what a spoilt clip should get, by criterion."""
    asked = [criterion.name for criterion in ratings.asked]
    answers = (1, max(1, int(_FAILING * ratings.scale)))
    return {name: answers for name in FLAWS.get(kind, ()) if name in asked}


def _repeats(ratings: Ratings, rated: list[Trial], chance: random.Random) -> list[Trial]:
    """Choose what is shown again; ``repeats`` is the place among the rated trials."""
    chosen = _sample(range(len(rated) - _apart(rated)), ratings.repeats, chance)
    return [replace(rated[place], role="repeat", repeats=place) for place in chosen]


def _apart(rated: list[Trial]) -> int:
    """Return how many others stand before a repeat: a third of the session, and 3 at least."""
    return min(max(3, len(rated) // 3), len(rated) - 1)


def _gold(
    study: Study, clips: Sequence[Clip], rated: list[Trial], number: int, chance: random.Random
) -> list[Trial]:
    """Choose clips with known answers, their kinds in turn from rater to rater."""
    ratings, asked = study.ratings, {criterion.name for criterion in study.ratings.asked}
    copying = {spec.name for spec in study.methods if spec.method == "copy"}
    moving = [clip for clip in clips if clip.method not in copying] or list(clips)
    # The same few for every rater, since each is a file.
    moving = _sample(moving, _GOLD_BASES, random.Random(f"{study.name} {study.seed} gold"))
    seen = {trial.clip for trial in rated}
    held = [clip for clip in clips if clip.method in copying and clip not in seen]
    flaws = FLAWS
    if ratings.task == "pair":
        flaws = {kind: FLAWS[kind] for kind in ("torn", "shaken")}
        if ratings.overall:
            flaws = dict.fromkeys(flaws, tuple(asked))
    kinds = [kind for kind, wrong in flaws.items() if asked.intersection(wrong)]
    planned = []
    for index in range(ratings.gold if kinds else 0):
        kind = kinds[(number + index) % len(kinds)]
        base = chance.choice(moving)
        spoilt = base.spoilt(kind)
        if ratings.task == "pair":
            shown = chance.choice(((base, spoilt), (spoilt, base)))
            right = 1 + shown.index(base)
            answers = (right, right)
        else:
            shown = (chance.choice(held) if kind == "frozen" and held else spoilt,)
            answers = (1, max(1, int(_FAILING * ratings.scale)))
        expected = {name: answers for name in flaws[kind] if name in asked}
        planned.append(Trial(_UNPLACED, "gold", *shown, expected=expected))
    return planned


def _references(study: Study, clips: Sequence[Clip], number: int) -> list[Trial]:
    """Choose drivings that are shown as they are, in turn from rater to rater."""
    shown = {clip.driving for clip in clips}
    drivings = [item for item in study.drivings if item.name in shown]
    count = min(study.ratings.references, len(drivings))
    chosen = [drivings[(number * count + index) % len(drivings)] for index in range(count)]
    return [Trial(_UNPLACED, "reference", reference(item)) for item in chosen]


def reference(driving: Input) -> Clip:
    """Return a driving as something that can be shown and rated."""
    return Clip(driving.name, "", "", driving.name, driving.type, "reference", "reference")


def _placed(rated: list[Trial], between: list[Trial], chance: random.Random) -> list[Trial]:
    """Put controls between rated trials, each alone and away from clips of its source."""
    by_slot: defaultdict[int, list[Trial]] = defaultdict(list)
    slots = range(len(rated) + 1)
    for control in between:
        first = min(_UNDISTURBED, len(rated))
        if control.repeats is not None:
            first = max(first, control.repeats + 1 + _apart(rated))
        free = [slot for slot in slots[first:] if slot not in by_slot]
        tried = _sample(free or slots[first:], len(slots), chance)
        near = {slot: [trial.clip.source for trial in rated[slot - 1 : slot + 1]] for slot in tried}
        best = min(tried, key=lambda slot: near[slot].count(control.clip.source))
        by_slot[best].append(control)
    return [trial for slot in slots for trial in (*by_slot[slot], *rated[slot : slot + 1])]


def _sample(items: Sequence[Any], count: int, chance: random.Random) -> list[Any]:
    """Draw up to ``count`` different items, in random order."""
    return chance.sample(items, min(count, len(items)))
