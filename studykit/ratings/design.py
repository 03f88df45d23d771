"""The design of a session: which clips a rater sees, in which order, and why.

Pure functions of the study, the clips, the rater's number and what was shown so far, so that a plan
can be made again, and so that whoever comes next gets what is missing.
"""

import bisect
import functools
import hashlib
import itertools
import json
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
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
# An order of clips is looked for by so many swaps; clips of one source beside each other weigh as
# much as conditions that were neighbours so often before.
_SWAPS, _SAME_SOURCE = 2000, 10
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

    @functools.cached_property
    def condition(self) -> tuple[str, ...]:
        """That of its clip; of a pair, both types and both methods."""
        if self.other is None:
            return self.clip.condition
        return (*self.clip.condition[:2], *sorted((self.clip.method, self.other.method)))

    @functools.cached_property
    def item(self) -> "Item":
        """What is rated: its clip, or the two of a pair, whichever comes first."""
        return item_of(self.clip.cell, self.other.cell if self.other else "")

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Trial":
        """Make a trial from what :func:`dataclasses.asdict` gave, through JSON or not."""
        parts = {
            "clip": Clip(**values["clip"]),
            "other": values["other"] and Clip(**values["other"]),
            "expected": {name: tuple(answers) for name, answers in values["expected"].items()},
        }
        return cls(**values | parts)


Item = tuple[str, ...]  # the cells that are rated together, in the order of the alphabet


def item_of(cell: str, other: str = "") -> Item:
    """Return what is rated where a clip, or a pair of clips, is shown."""
    return tuple(sorted(filter(None, (cell, other))))


@dataclass(frozen=True)
class Exposure:
    """What was rated so far, and where in a session: what a design balances.

    Attributes
    ----------
    items : Counter
        How often each clip, or pair, was rated.
    places : Counter
        How often each condition stood in each place among a session's rated clips.
    neighbours : Counter
        How often one condition came right before another.
    first : Counter
        How often, of a condition of pairs, a method came first.
    """

    items: Counter[Item] = field(default_factory=Counter)
    places: Counter[tuple] = field(default_factory=Counter)
    neighbours: Counter[tuple] = field(default_factory=Counter)
    first: Counter[tuple] = field(default_factory=Counter)

    @classmethod
    def of(
        cls, study: Study, clips: Sequence[Clip], sessions: Iterable[Sequence[tuple[str, str]]]
    ) -> "Exposure":
        """Count what sessions have shown, each as the cells and the others of its rated trials."""
        known = {trial.item: trial for trial in _rateable(study, clips)}
        found = cls()
        for session in sessions:
            trials = [(known.get(item_of(*cells)), cells[0]) for cells in session]
            found.add([_beginning_with(cell, trial) for trial, cell in trials if trial])
        return found

    def add(self, rated: Sequence[Trial]) -> None:
        """Count a session's rated trials, in their order."""
        self.items.update(trial.item for trial in rated)
        self.places.update((trial.condition, place) for place, trial in enumerate(rated))
        self.neighbours.update((a.condition, b.condition) for a, b in itertools.pairwise(rated))
        self.first.update((trial.condition, trial.clip.method) for trial in rated)


def _beginning_with(cell: str, trial: Trial) -> Trial:
    """Return a pair with the clip of this cell first; a single clip as it is."""
    return trial if trial.other is None or trial.clip.cell == cell else _turned(trial)


def _turned(trial: Trial) -> Trial:
    return replace(trial, clip=trial.other, other=trial.clip)


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


def plan_session(
    study: Study,
    clips: Sequence[Clip],
    number: int,
    *,
    session: int = 1,
    shown: Exposure | None = None,
    seen: Collection[Item] = (),
) -> tuple[Trial, ...]:
    """Plan a session of one rater.

    Without ``trials`` in the study, or with a multiple of the conditions, conditions come in a row
    of the balanced order, the rows dealt to sessions in a seeded order. All methods of a source
    type x driving type come with the same source and driving: those that raters have seen least, or
    others if that sets clips of one source apart and keeps the counts within 2 of each other.

    With other ``trials``, or where conditions with different numbers of clips are promised as many
    ratings of each (``ratings_per_clip_min``), sources and drivings are dealt with all their
    methods, those first whose clips have the fewest ratings, of as many types as there are; where a
    session has room for some of the methods only, the rater's next session or other raters get the
    rest. Their order is the one, among many, whose conditions stood least often in these places and
    beside each other.

    Training comes first, in later sessions half of it. Gold clips, references and repeats stand
    between rated clips: after the first two, apart from each other, and a repeat well after what it
    repeats.

    Parameters
    ----------
    study : Study
    clips : sequence of Clip
        What can be shown: :func:`study_clips`, or those that were made.
    number : int
        Of the rater, from 0.
    session : int
        Of this rater, from 1.
    shown : Exposure, optional
        What was rated so far. Without it, as if all raters before this one had finished.
    seen : collection of Item
        What this rater has rated in earlier sessions.

    Raises
    ------
    StudyError
        There is nothing to rate, or nothing more for this rater.
    """
    deck, place = _Deck(study, clips), number * study.ratings.sessions + session - 1
    if shown is None:
        rated = next(itertools.islice(deck.deal_all(), place, None))
    else:
        rated = deck.deal(place, shown, seen)
    if not rated:
        raise StudyError(f"{study.path}: this rater has seen all that can be rated")
    return _with_controls(study, clips, deck.known, rated, place)


def plan_sessions(study: Study, clips: Sequence[Clip]) -> Iterator[tuple[Trial, ...]]:
    """Yield the sessions of rater 0, all of them, those of rater 1 and so on without end.

    Each is planned as :func:`plan_session` does where all before it were finished; it is empty
    where the rater has seen everything.
    """
    deck = _Deck(study, clips)
    for place, rated in enumerate(deck.deal_all()):
        yield _with_controls(study, clips, deck.known, rated, place) if rated else ()


def balanced_rows(study: Study, clips: Sequence[Clip]) -> int:
    """Return how many rows the Williams design of a study's conditions has.

    It is 0 where sessions show a part of the conditions, or clips in other numbers, so that no row
    is followed, and where nothing can be rated.
    """
    if not rateable_items(study, clips):
        return 0
    deck = _Deck(study, clips)
    return 0 if deck.in_turns is None else len(deck.rows)


def rateable_items(study: Study, clips: Sequence[Clip]) -> dict[Item, tuple[str, ...]]:
    """Return all that can be rated, clips or pairs, with the condition of each."""
    return {trial.item: trial.condition for trial in _rateable(study, clips)}


def raters_for_every_clip(study: Study, clips: Sequence[Clip]) -> int:
    """Return how many raters it takes at least to give each clip the ratings that it needs.

    That is the study's ``ratings_per_clip_min``; with 0, each clip is to be rated once.
    """
    deck, goal = _Deck(study, clips), max(study.ratings.ratings_per_clip_min, 1)
    items = rateable_items(study, clips)
    if deck.in_turns is None:
        most = min(len(items), deck.length * study.ratings.sessions)
        return -(-goal * len(items) // most)
    turns = deck.in_turns * study.ratings.sessions
    return max(-(-goal * size // min(turns, size)) for size in Counter(items.values()).values())


def ratings_per_condition(
    study: Study, clips: Sequence[Clip], raters: int
) -> dict[tuple[str, ...], int]:
    """Count how many ratings each condition gets from so many raters who finish.

    A condition of pairs names both methods.
    """
    sessions = itertools.islice(plan_sessions(study, clips), raters * study.ratings.sessions)
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
    """Deals rated clips to raters so that each is seen equally often.

    What it deals depends on the study, the rater's number and the counts that it is given alone. A
    rater gets a source and driving with all its methods, as far as there is room, so that what a
    rater thinks of a face does not count as a difference between methods.
    """

    def __init__(self, study: Study, clips: Sequence[Clip]) -> None:
        self._seed, self._sessions = f"{study.name} {study.seed}", study.ratings.sessions
        self._contents: dict[_Types, dict[_Content, dict[tuple[str, ...], Trial]]] = {}
        self.known = list(_rateable(study, clips))
        for trial in self.known:
            contents = self._contents.setdefault(trial.condition[:2], {})
            contents.setdefault(_content(trial), {})[trial.condition] = trial
        if not self._contents:
            raise StudyError(
                f"{study.path}: no clip to rate: run the study first"
                + (", with two methods or more for pairs" * (study.ratings.task == "pair"))
            )
        by_content = [methods for found in self._contents.values() for methods in found.values()]
        self._conditions = sorted(set().union(*by_content))
        random.Random(f"{self._seed} conditions").shuffle(self._conditions)
        self.rows = williams_order(len(self._conditions))
        self.length = study.ratings.trials or len(self._conditions)
        # Where each clip is promised a number, none gets ahead of others.
        promised = study.ratings.ratings_per_clip_min > 0
        self._uneven = 1 if promised else _UNEVEN
        sizes = Counter(itertools.chain.from_iterable(by_content))
        self._by_clip = promised and len(set(sizes.values())) > 1

    @property
    def in_turns(self) -> int | None:
        """How often a session shows every condition; None where it shows a part of them.

        So it does too where conditions have different numbers of clips, each of which is to get as
        many ratings.
        """
        turns, rest = divmod(self.length, len(self._conditions))
        if rest or self._by_clip:
            return None
        return min(turns, max(map(len, self._contents.values())))

    def deal(self, place: int, shown: Exposure, seen: Collection[Item]) -> list[Trial]:
        """Deal the rated trials of a session, in their order.

        ``place`` counts the sessions from 0: all of rater 0, all of rater 1, ...
        """
        chance = random.Random(f"{self._seed} deal {place}")
        if self.in_turns is None:
            dealt = _ordered(self._part(shown, seen, chance), shown, chance)
        else:
            dealt = self._whole(place, shown, seen, chance)
        return _sided(dealt, shown, chance)

    def deal_all(self) -> Iterator[list[Trial]]:
        """Deal all sessions, one after the other, as if each was finished before the next."""
        shown, seen = Exposure(), set[Item]()
        for place in itertools.count():
            if place % self._sessions == 0:
                seen = set()
            rated = self.deal(place, shown, seen)
            shown.add(rated)
            seen.update(trial.item for trial in rated)
            yield rated

    def _whole(
        self, place: int, shown: Exposure, seen: Collection[Item], chance: random.Random
    ) -> list[Trial]:
        """Deal every condition equally often, in rows of the balanced order."""
        block, row = divmod(place, len(self.rows))
        decks = {
            types: sorted(
                (_mean(shown.items[trial.item] for trial in methods.values()),
                 chance.random(), content)
                for content, methods in contents.items()
            )
            for types, contents in self._contents.items()
        }  # fmt: skip
        dealt: list[Trial] = []
        for turn in range(self.in_turns or 0):
            rows = random.Random(f"{self._seed} rows {block} {turn}")
            order = rows.sample(self.rows, len(self.rows))[row]
            known = {*seen, *(trial.item for trial in dealt)}
            last = dealt[-1].clip.source if dealt else ""
            dealt += self._turn([self._conditions[index] for index in order], last, known, decks)
        return dealt

    def _turn(
        self, order: list[tuple[str, ...]], last: str, seen: set[Item], decks: "_Decks"
    ) -> list[Trial]:
        """Choose a trial for each condition, which this rater has not seen."""
        sources = [last, *[""] * (len(order) + 1)]
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
            content = self._take(condition, neighbours, seen, decks[types])
            methods = self._contents[types].get(content, {})
            for place in places:
                if order[place] in methods and methods[order[place]].item not in seen:
                    chosen[place] = methods[order[place]]
                    sources[place + 1] = content[0]
        return [chosen[place] for place in sorted(chosen)]

    def _take(
        self, condition: tuple[str, ...], neighbours: list[str], seen: set[Item], deck: list
    ) -> _Content | None:
        """Take the source and driving rated least, if another does not stand apart better."""
        contents = self._contents[condition[:2]]
        fresh = (
            entry
            for entry in deck
            if condition in (methods := contents[entry[2]]) and methods[condition].item not in seen
        )
        considered = list(itertools.islice(fresh, _CONSIDERED))
        if not considered:
            return None
        enough = considered[0][0] + self._uneven
        best = min(
            (entry for entry in considered if entry[0] < enough),
            key=lambda entry: neighbours.count(entry[2][0]),
        )
        deck.remove(best)
        count, chance, content = best
        bisect.insort(deck, (count + 1, chance, content))
        return content

    def _part(self, shown: Exposure, seen: Collection[Item], chance: random.Random) -> list[Trial]:
        """Choose what has the fewest ratings, sources and drivings with all methods where they fit.

        What this rater has seen in part comes first; then what is even, so that a source and
        driving whose methods were shared among raters is completed in the room that others leave.
        """
        left: dict[_Content, tuple[list[Trial], int, int]] = {}
        begun, lot = set(), {}
        for content, methods in itertools.chain(*(its.items() for its in self._contents.values())):
            fresh = [trial for trial in methods.values() if trial.item not in seen]
            if fresh:
                counts = [shown.items[trial.item] for trial in fresh]
                fewest = min(counts)
                behind = [t for t, count in zip(fresh, counts, strict=True)
                          if count < fewest + _UNEVEN]  # fmt: skip
                left[content] = behind, fewest, counts.count(fewest)
                lot[content] = chance.random()
                begun |= {content} if len(fresh) < len(methods) else set()
        # Types with more left at the lowest count first, so that none is left alone at the end.
        lowest = min((fewest for _, fewest, _ in left.values()), default=0)
        plenty = Counter(
            fresh[0].condition[:2] for fresh, fewest, _ in left.values() if fewest == lowest
        )
        here: Counter[Any] = Counter()

        def rank(content: _Content) -> tuple:
            fresh, fewest, due = left[content]
            room, (source, driving) = self.length - len(chosen), content
            whole, types = due == len(fresh) <= room, fresh[0].condition[:2]
            shared = here["source", source] + here["driving", driving]
            return (content not in begun, fewest, not whole, due > room, -due,
                    here[types], here[types] - plenty[types], shared, lot[content])  # fmt: skip

        chosen: list[Trial] = []
        while left and (room := self.length - len(chosen)):
            content = min(left, key=rank)
            fresh, fewest, _ = left.pop(content)
            if len(fresh) > room:
                fresh = [trial for trial in fresh if shown.items[trial.item] == fewest][:room]
            chosen += fresh
            here.update([fresh[0].condition[:2], *zip(("source", "driving"), content, strict=True)])
        return chosen


_Decks = dict[_Types, list[tuple[float, float, _Content]]]


def _mean(counts: Iterable[int]) -> float:
    found = list(counts)
    return sum(found) / len(found)


def _ordered(chosen: list[Trial], shown: Exposure, chance: random.Random) -> list[Trial]:
    """Order trials so that places and neighbours come equally often, sources apart.

    From a random order on, two trials change places wherever that makes the sum of squares of all
    counts no larger.
    """
    size = len(chosen)
    places = [[shown.places[trial.condition, at] for at in range(size)] for trial in chosen]
    beside = [
        [
            shown.neighbours[one.condition, other.condition] + _SAME_SOURCE * _too_alike(one, other)
            for other in chosen
        ]
        for one in chosen
    ]
    order = chance.sample(range(size), size)

    def cost(first: int, second: int) -> int:
        links = {first - 1, first, second - 1, second} - {-1, size - 1}
        standing = places[order[first]][first] + places[order[second]][second]
        return standing + sum(beside[order[at]][order[at + 1]] for at in links)

    for _ in range(_SWAPS if size > 1 else 0):
        first, second = chance.randrange(size), chance.randrange(size)
        before = cost(first, second)
        order[first], order[second] = order[second], order[first]
        if cost(first, second) > before:
            order[first], order[second] = order[second], order[first]
    return [chosen[index] for index in order]


def _too_alike(one: Trial, other: Trial) -> bool:
    """Say whether two should not follow each other: of one source, or of one condition.

    Methods on one source and driving may: all conditions are to be neighbours equally often.
    """
    alike = one.clip.source == other.clip.source or one.condition == other.condition
    return alike and _content(one) != _content(other)


def _sided(trials: list[Trial], shown: Exposure, chance: random.Random) -> list[Trial]:
    """Turn pairs so that each method comes first equally often, of a session's others half."""
    undecided = itertools.cycle(chance.sample((False, True), 2))
    turns = {}
    for place in chance.sample(range(len(trials)), len(trials)):
        trial = trials[place]
        if trial.other is not None:
            ahead, behind = (shown.first[trial.condition, clip.method]
                             for clip in (trial.clip, trial.other))  # fmt: skip
            turns[place] = next(undecided) if ahead == behind else ahead > behind
    return [_turned(trial) if turns.get(at) else trial for at, trial in enumerate(trials)]


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
    study: Study, clips: Sequence[Clip], known: list[Trial], rated: list[Trial], place: int
) -> tuple[Trial, ...]:
    """Put training before the rated trials, and gold, references and repeats between them."""
    chance = random.Random(f"{study.name} {study.seed} {place}")
    practice = _training(study, known, rated, chance)
    if place % study.ratings.sessions:  # BT.500 asks for less of it in sessions after the first
        practice = practice[: -(-len(practice) // 2)]
    between = [
        *_repeats(study.ratings, rated, chance),
        *_gold(study, clips, rated, place, chance),
        *_references(study, clips, place),
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
    study: Study, known: list[Trial], rated: list[Trial], chance: random.Random
) -> list[Trial]:
    """Choose practice that spans the scale: clips that are not rated, every second one spoilt."""
    seen = {trial.item for trial in rated}
    unseen = [trial for trial in known if trial.item not in seen]
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
            expected = {name: (right, right) for name in flaws[kind] if name in asked}
        else:
            shown = (chance.choice(held) if kind == "frozen" and held else spoilt,)
            expected = _expected(ratings, kind)
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
