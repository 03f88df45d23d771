"""A session's design: the order is balanced, clips are shared fairly, controls stand apart."""

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, replace
from itertools import islice, pairwise
from pathlib import Path

import pytest

from studykit.errors import StudyError
from studykit.ratings.design import (
    Clip,
    Exposure,
    Trial,
    balanced_rows,
    plan_session,
    plan_sessions,
    raters_for_every_clip,
    rating_rows,
    ratings_per_condition,
    session_minutes,
    study_clips,
    study_hash,
    williams_order,
)
from studykit.study.file import TYPES, Input, MethodSpec, Study
from studykit.study.ratings import Ratings
from studykit.study.wording import CRITERIA


def make_study(
    sources: int = 3, drivings: int = 1, methods: tuple[str, ...] = ("copy", "warp"), **rules
) -> Study:
    """A study with so many sources and drivings a type, whose files need not be there."""
    return Study(
        name="plan",
        seed=7,
        path=Path("study.yaml"),
        sources=tuple(
            Input(f"{kind}-{i}", kind, Path(f"{kind}-{i}.png"))
            for kind in TYPES
            for i in range(sources)
        ),
        drivings=tuple(
            Input(f"{kind}-d{i}", kind, Path(f"{kind}-d{i}.mp4"))
            for kind in TYPES
            for i in range(drivings)
        ),
        methods=tuple(MethodSpec(name, name) for name in methods),
        ratings=Ratings(**rules),
    )


def rated(trials: tuple[Trial, ...]) -> list[Trial]:
    return [trial for trial in trials if trial.role == "rating"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 12, 18, 27])
def test_williams_orders_balance_positions_and_neighbours(count: int) -> None:
    rows = williams_order(count)
    assert all(sorted(row) == list(range(count)) for row in rows)
    times = 2 if count % 2 and count > 1 else 1
    assert len(rows) == times * count
    positions = Counter((place, item) for row in rows for place, item in enumerate(row))
    assert set(positions.values()) == {times}
    neighbours = Counter(pair for row in rows for pair in pairwise(row))
    assert len(neighbours) == count * (count - 1)
    assert set(neighbours.values()) <= {times}


def test_over_18_raters_18_conditions_stand_once_in_every_place_and_neighbour_equally() -> None:
    study = make_study()
    sessions = islice(plan_sessions(study, study_clips(study)), 18)
    orders = [[trial.clip.condition for trial in rated(trials)] for trials in sessions]
    positions = Counter((place, item) for order in orders for place, item in enumerate(order))
    assert len(positions) == 18 * 18
    assert set(positions.values()) == {1}
    neighbours = Counter(pair for order in orders for pair in pairwise(order))
    assert len(neighbours) == 18 * 17
    assert set(neighbours.values()) == {1}


def test_only_whole_sessions_follow_the_rows_of_a_balanced_order() -> None:
    clips = study_clips(make_study())
    assert balanced_rows(make_study(), clips) == 18
    assert balanced_rows(make_study(trials=36), clips) == 18
    assert balanced_rows(make_study(trials=20), clips) == 0
    nine = make_study(methods=("warp",))
    assert balanced_rows(nine, study_clips(nine)) == 18
    assert balanced_rows(nine, ()) == 0


def test_over_18_raters_9_conditions_stand_twice_in_every_place_and_neighbour_equally() -> None:
    study = make_study(methods=("warp",))
    sessions = list(islice(plan_sessions(study, study_clips(study)), 36))
    for block in (sessions[:18], sessions[18:]):
        orders = [[trial.clip.condition for trial in rated(trials)] for trials in block]
        positions = Counter((place, item) for order in orders for place, item in enumerate(order))
        assert len(positions) == 9 * 9
        assert set(positions.values()) == {2}
        neighbours = Counter(pair for order in orders for pair in pairwise(order))
        assert len(neighbours) == 9 * 8
        assert set(neighbours.values()) == {2}


def test_a_plan_depends_on_study_seed_and_number_alone() -> None:
    study = make_study()
    clips = study_clips(study)
    fourth = next(islice(plan_sessions(study, clips), 4, None))
    assert plan_session(study, clips, 4) == fourth
    assert plan_session(study, clips, 5) != fourth
    assert plan_session(replace(study, seed=8), clips, 4) != fourth
    assert [trial.number for trial in fourth] == list(range(len(fourth)))


@pytest.mark.parametrize(("sources", "drivings"), [(1, 1), (2, 1), (3, 2), (4, 3)])
def test_clips_of_a_condition_are_seen_equally_often(sources: int, drivings: int) -> None:
    study = make_study(sources, drivings)
    clips = study_clips(study)
    counts: dict[tuple, Counter] = defaultdict(Counter)
    for trials in islice(plan_sessions(study, clips), 50):
        for trial in rated(trials):
            counts[trial.clip.condition][trial.clip.cell] += 1
    assert len(counts) == 18
    for seen in counts.values():
        assert sum(seen.values()) == 50
        shown = [seen[cell] for cell in seen] + [0] * (sources * drivings - len(seen))
        assert max(shown) - min(shown) <= 2


def test_a_rater_sees_all_methods_on_the_same_source_and_driving() -> None:
    study = make_study(4, 2, ("copy", "warp", "fomm"))
    for trials in islice(plan_sessions(study, study_clips(study)), 20):
        contents = defaultdict(set)
        for trial in rated(trials):
            contents[trial.clip.condition[:2]].add((trial.clip.source, trial.clip.driving))
        assert len(contents) == 9
        assert all(len(found) == 1 for found in contents.values())


def test_clips_of_one_source_follow_each_other_only_where_it_cannot_be_helped() -> None:
    study = make_study(3)
    avoidable = total = 0
    for trials in islice(plan_sessions(study, study_clips(study)), 180):
        for before, after in pairwise(rated(trials)):
            total += 1
            same_types = before.clip.condition[:2] == after.clip.condition[:2]
            avoidable += before.clip.source == after.clip.source and not same_types
    # By chance it would be (5 - 1) / 17 of the neighbours, times one in three sources: 8 %.
    assert avoidable / total < 0.01


def test_nothing_is_rated_twice_by_one_rater_and_sessions_end_with_the_clips() -> None:
    study = make_study(2, trials=100)
    for trials in islice(plan_sessions(study, study_clips(study)), 5):
        cells = [trial.clip.cell for trial in rated(trials)]
        assert len(cells) == len(set(cells)) == 36


def test_a_short_session_still_shows_each_condition_equally_often() -> None:
    study = make_study(methods=("warp",), trials=5)
    counts = ratings_per_condition(study, study_clips(study), 18)
    assert set(counts.values()) == {10}


def partial(**rules: int) -> tuple[Study, tuple[Clip, ...]]:
    """A study of 216 clips in 27 conditions of which a session shows 20."""
    study = make_study(2, 4, ("copy", "warp", "fomm"), trials=20, **rules)
    return study, study_clips(study)


def spread(counts: Counter, keys: Iterable) -> set[int]:
    return {counts[key] for key in keys}


def test_20_of_216_clips_by_36_raters_twice_give_each_clip_its_ratings_in_balance() -> None:
    study, clips = partial(sessions=2, ratings_per_clip_min=6)
    assert len(clips) == 216
    assert raters_for_every_clip(study, clips) <= 36
    orders = [rated(trials) for trials in islice(plan_sessions(study, clips), 72)]
    assert {len(order) for order in orders} == {20}
    for both in zip(orders[::2], orders[1::2], strict=True):  # of one rater
        assert len({trial.clip for order in both for trial in order}) == 40
    cells = Counter(trial.clip.cell for order in orders for trial in order)
    assert spread(cells, (clip.cell for clip in clips)) <= {6, 7, 8}  # 6.7 on average
    conditions = {clip.condition for clip in clips}
    shown = Counter(trial.condition for order in orders for trial in order)
    assert max(shown.values()) - min(shown.values()) <= 4  # 53 on average
    places = Counter((t.condition, place) for order in orders for place, t in enumerate(order))
    assert spread(places, itertools.product(conditions, range(20))) <= {2, 3, 4}  # 2.7
    pairs = list(itertools.permutations(conditions, 2))
    neighbours = Counter((a.condition, b.condition) for o in orders for a, b in pairwise(o))
    assert spread(neighbours, pairs) <= {1, 2, 3}  # 1.9
    assert sum(neighbours[c, c] for c in conditions) <= 2


def test_a_rater_of_a_part_sees_sources_and_drivings_with_all_methods() -> None:
    study, clips = partial(sessions=2)
    for both in itertools.islice(zip(*[plan_sessions(study, clips)] * 2, strict=False), 12):
        contents = Counter((t.clip.source, t.clip.driving) for s in both for t in rated(s))
        assert sorted(contents.values())[1:] == [3] * 13  # of 40 one has no room for the others


def test_whoever_comes_next_gets_what_others_left_out() -> None:
    """A third of the raters stop after 5 clips, some are excluded: no clip stays behind."""
    study, clips = partial()
    chance, kept, sessions = random.Random(3), Exposure(), 0
    while min(kept.items[clip.cell,] for clip in clips) < 4:
        trials = rated(plan_session(study, clips, sessions, shown=kept))
        sessions += 1
        fate = chance.random()
        kept.add([] if fate < 0.1 else trials[:5] if fate < 0.4 else trials)
    given = sum(kept.items.values())
    assert given <= 1.15 * 4 * len(clips)  # little more than there must be
    assert max(kept.items.values()) <= 6


def test_a_plan_is_a_function_of_the_study_the_number_and_what_was_shown() -> None:
    study, clips = partial()
    shown = Exposure()
    for trials in islice(plan_sessions(study, clips), 9):
        shown.add(rated(trials))
    planned = [plan_session(study, clips, 9, shown=shown) for _ in range(2)]
    assert planned[0] == planned[1] == plan_session(study, clips, 9)
    assert planned[0] != plan_session(study, clips, 10, shown=shown)
    assert planned[0] != plan_session(study, clips, 9, shown=Exposure())


def test_what_was_shown_is_counted_from_the_cells_alone() -> None:
    study = make_study(task="pair", references=0, trials=4)
    clips = study_clips(study)
    by_trials, cells = Exposure(), []
    for trials in islice(plan_sessions(study, clips), 5):
        by_trials.add(rated(trials))
        cells.append([(trial.clip.cell, trial.other.cell) for trial in rated(trials)])
    assert Exposure.of(study, clips, [*cells, [("gone", "")]]) == by_trials


def test_unequal_conditions_still_give_each_clip_its_ratings() -> None:
    pairs = [(f"{kind}-{n}", f"{kind}-d{m}") for kind, size in zip(TYPES, (4, 2, 1), strict=True)
             for n in range(size) for m in range(size)]  # fmt: skip
    study = replace(make_study(4, 4, trials=12, ratings_per_clip_min=3), listed=tuple(pairs))
    clips = study_clips(study)
    raters = raters_for_every_clip(study, clips)
    counts = Counter(t.clip for s in islice(plan_sessions(study, clips), raters) for t in rated(s))
    assert len(clips) == 42 and raters == 11
    assert {counts[clip] for clip in clips} <= {3, 4}


def test_every_condition_once_takes_as_many_raters_as_the_largest_condition_has_clips() -> None:
    study = make_study(3, 2, ratings_per_clip_min=5)
    clips = study_clips(study)
    assert raters_for_every_clip(study, clips) == 5 * 6
    counts = Counter(t.clip for s in islice(plan_sessions(study, clips), 30) for t in rated(s))
    assert {counts[clip] for clip in clips} == {5}
    assert raters_for_every_clip(replace(study, ratings=Ratings(sessions=3)), clips) == 2


def test_later_sessions_have_less_practice_and_end_when_all_was_seen() -> None:
    study = make_study(2, training=5, sessions=3)
    first, second, third = islice(plan_sessions(study, study_clips(study)), 3)
    assert [sum(t.role == "training" for t in trials) for trials in (first, second)] == [5, 3]
    assert len({trial.clip for trial in (*rated(first), *rated(second))}) == 36
    assert third == ()
    seen = {trial.item for trial in (*rated(first), *rated(second))}
    with pytest.raises(StudyError, match="has seen all that can be rated"):
        plan_session(study, study_clips(study), 0, session=3, shown=Exposure(), seen=seen)


def test_sides_of_pairs_are_balanced_in_a_part_too() -> None:
    study = make_study(methods=("copy", "warp", "fomm"), task="pair", references=0, trials=10)
    sides: dict[tuple, Counter] = defaultdict(Counter)
    for trials in islice(plan_sessions(study, study_clips(study)), 40):
        for trial in rated(trials):
            sides[trial.condition][trial.clip.method] += 1
    assert len(sides) == 27
    for counts in sides.values():
        assert max(counts.values()) - min(counts.values()) <= 1


def test_a_condition_without_clips_for_some_inputs_is_still_shown_to_all() -> None:
    study = make_study(3)
    clips = [
        clip
        for clip in study_clips(study)
        if clip.method == "copy" or not clip.source.endswith(("-0", "-1"))
    ]
    for trials in islice(plan_sessions(study, clips), 30):
        assert len({trial.clip.condition for trial in rated(trials)}) == len(rated(trials)) == 18


def test_training_comes_first_with_a_spoilt_clip_and_is_not_rated_later() -> None:
    study = make_study(training=4)
    for trials in islice(plan_sessions(study, study_clips(study)), 20):
        roles = [trial.role for trial in trials]
        assert roles[:4] == ["training"] * 4
        assert "training" not in roles[4:]
        assert [trial.clip.kind for trial in trials[:4]] == ["clip", "torn", "clip", "shaken"]
        later = {trial.clip.cell for trial in rated(trials)}
        assert not later & {trial.clip.base for trial in trials[:4]}


def test_repeats_come_long_after_what_they_repeat() -> None:
    study = make_study(repeats=3)
    for trials in islice(plan_sessions(study, study_clips(study)), 40):
        repeats = [trial for trial in trials if trial.role == "repeat"]
        assert len({trial.repeats for trial in repeats}) == 3
        for trial in repeats:
            original = trials[trial.repeats]
            assert (original.role, original.clip) == ("rating", trial.clip)
            assert trial.number - original.number > 6


def test_controls_stand_apart_from_the_start_and_from_each_other() -> None:
    study = make_study()
    for trials in islice(plan_sessions(study, study_clips(study)), 40):
        roles = [trial.role for trial in trials if trial.role != "training"]
        assert Counter(roles) == {"rating": 18, "repeat": 2, "reference": 1, "gold": 2}
        assert roles[:2] == ["rating", "rating"]
        assert all("rating" in pair for pair in pairwise(roles))


def test_gold_clips_fail_what_they_were_spoilt_for() -> None:
    study = make_study(gold=3)
    found = defaultdict(set)
    for trials in islice(plan_sessions(study, study_clips(study)), 20):
        gold = [trial for trial in trials if trial.role == "gold"]
        assert len(gold) == 3
        for trial in gold:
            found[trial.clip.method].update(trial.expected.items())
            assert trial.clip.cell not in {other.clip.cell for other in rated(trials)}
    assert found == {
        "copy": {("naturalness", (1, 2))},
        "torn": {("structure", (1, 2)), ("consistency", (1, 2))},
        "shaken": {("jitter", (1, 2))},
    }


def test_without_copy_a_frozen_clip_is_made() -> None:
    study = make_study(methods=("warp",), gold=3)
    trials = plan_session(study, study_clips(study), 0)
    frozen = [trial.clip for trial in trials if trial.clip.method == "frozen"]
    assert frozen
    assert frozen[0].cell == f"frozen__{frozen[0].base}"


def test_gold_follows_the_criteria_and_the_scale() -> None:
    study = make_study(scale=9, gold=2, criteria=(CRITERIA["jitter"],))
    for trials in islice(plan_sessions(study, study_clips(study)), 5):
        gold = [trial for trial in trials if trial.role == "gold"]
        assert [(trial.clip.kind, trial.expected) for trial in gold] == [
            ("shaken", {"jitter": (1, 3)})
        ] * 2
    own = replace(CRITERIA["jitter"], name="charm")
    study = make_study(criteria=(own,))
    assert "gold" not in {trial.role for trial in plan_session(study, study_clips(study), 0)}


def test_references_are_drivings_in_turn() -> None:
    study = make_study()
    seen = Counter()
    for trials in islice(plan_sessions(study, study_clips(study)), 9):
        for trial in trials:
            if trial.role == "reference":
                clip = trial.clip
                assert (clip.cell, clip.source, clip.method) == (clip.driving, "", "reference")
                seen[clip.driving] += 1
    assert set(seen.values()) == {3}
    assert len(seen) == 3


@pytest.mark.parametrize("methods", [("copy", "warp"), ("copy", "warp", "fomm")])
def test_pairs_share_their_inputs_and_change_sides(methods: tuple[str, ...]) -> None:
    study = make_study(methods=methods, task="pair", references=0)
    clips = study_clips(study)
    pairs = list(itertools.combinations(methods, 2))
    sides: dict[tuple, Counter] = defaultdict(Counter)
    for trials in islice(plan_sessions(study, clips), 36):
        shown = rated(trials)
        assert len(shown) == 9 * len(pairs)
        swapped = 0
        for trial in shown:
            clip, other = trial.clip, trial.other
            assert (clip.source, clip.driving) == (other.source, other.driving)
            methods_shown = (clip.method, other.method)
            swapped += methods_shown not in pairs
            sides[*clip.condition[:2], frozenset(methods_shown)][methods_shown] += 1
        assert abs(swapped - len(shown) / 2) <= 1
    assert len(sides) == 9 * len(pairs)
    for counts in sides.values():
        assert sorted(counts.values()) == [18, 18]


def test_sides_do_not_follow_the_place_in_the_session() -> None:
    study = make_study(task="pair", references=0, trials=9)
    first = Counter()
    for trials in islice(plan_sessions(study, study_clips(study)), 180):
        for place, trial in enumerate(rated(trials)):
            first[place] += trial.clip.method == "copy"
    assert all(60 < count < 120 for count in first.values())


def test_a_gold_pair_is_a_clip_beside_its_spoilt_self() -> None:
    study = make_study(task="pair", references=0, overall=True)
    answers = set()
    for trials in islice(plan_sessions(study, study_clips(study)), 20):
        for trial in trials:
            if trial.role == "gold":
                clips = (trial.clip, trial.other)
                right = next(i for i, clip in enumerate(clips, 1) if clip.kind == "clip")
                assert trial.expected == {"overall": (right, right)}
                assert clips[0].base == clips[1].base
                answers.add(right)
    assert answers == {1, 2}


def test_a_study_without_clips_is_refused() -> None:
    with pytest.raises(StudyError, match="no clip to rate: run the study first"):
        plan_session(make_study(), [], 0)
    one = make_study(methods=("warp",), task="pair")
    with pytest.raises(StudyError, match="two methods or more"):
        plan_session(one, study_clips(one), 0)


def test_a_tiny_study_has_a_session_too() -> None:
    study = make_study()
    clip = study_clips(study)[0]
    trials = plan_session(study, [clip], 0)
    assert [trial.role for trial in trials].count("rating") == 1
    assert {trial.clip.base for trial in trials if trial.role != "reference"} == {clip.cell}


def test_a_large_study_can_be_planned() -> None:
    study = make_study(60, 8)
    trials = plan_session(study, study_clips(study), 200)
    assert len(rated(trials)) == 18


def test_same_identity_cells_are_rated_only_where_there_are_no_others() -> None:
    both = replace(make_study(2), protocols=("cross-identity", "same-identity"))
    assert len(study_clips(both)) == 6 * 3 * 2
    alone = replace(both, protocols=("same-identity",), sources=())
    assert [clip.source for clip in study_clips(alone)] == [
        f"first-of-{kind}-d0" for _ in range(2) for kind in TYPES
    ]


def test_trials_survive_the_way_through_json() -> None:
    import json

    study = make_study(task="pair", references=0)
    for trial in plan_session(study, study_clips(study), 0):
        assert Trial.from_json(json.loads(json.dumps(asdict(trial)))) == trial


def test_the_planner_adds_up() -> None:
    study = make_study()
    trials = plan_session(study, study_clips(study), 0)
    minutes = session_minutes(trials, clip_seconds=2, criteria=4)
    assert minutes == pytest.approx(len(trials) * (2 + 3 + 16) / 60)
    assert ratings_per_condition(study, study_clips(study), 7) == {
        clip.condition: 7 for clip in study_clips(study)
    }


def test_rows_tell_what_was_shown_and_what_was_expected() -> None:
    study = make_study()
    clip = Clip("torn__a__b__warp", "a", "side", "b", "frontal", "torn", "torn")
    trial = Trial(3, "gold", clip, expected={"structure": (1, 2)})
    first, second = rating_rows(study, trial, {"jitter": 4, "structure": 1})
    assert (first["criterion"], first["value"], first["expected_low"]) == ("jitter", 4, None)
    assert (second["expected_low"], second["expected_high"]) == (1, 2)
    assert (second["cell"], second["method"], second["other"]) == ("torn__a__b__warp", "torn", "")
    assert clip.base == "a__b__warp"


def test_the_study_hash_follows_the_file_and_the_words(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("name: plan\n")
    study = replace(make_study(), path=path)
    first = study_hash(study)
    assert study_hash(replace(study, ratings=Ratings(consent="Other words"))) != first
    path.write_text("name: plan # changed\n")
    assert study_hash(study) != first


def test_of_a_study_that_lists_its_pairs_those_alone_are_dealt() -> None:
    pairs = (("frontal-0", "frontal-d0"), ("frontal-1", "side-d0"), ("side-2", "side-d0"))
    study = replace(make_study(), listed=pairs)
    clips = study_clips(study)
    assert {(clip.source, clip.driving) for clip in clips} == set(pairs)
    for trials in islice(plan_sessions(study, clips), 6):
        shown = Counter(trial.clip.condition for trial in rated(trials))
        assert len(shown) == 6 and set(shown.values()) == {1}
