"""A session's design: the order is balanced, clips are shared fairly, controls stand apart."""

import itertools
from collections import Counter, defaultdict
from dataclasses import asdict, replace
from itertools import islice, pairwise
from pathlib import Path

import pytest

from studykit.errors import StudyError
from studykit.ratings.design import (
    Clip,
    Trial,
    plan_session,
    plan_sessions,
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
