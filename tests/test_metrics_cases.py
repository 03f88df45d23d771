"""The benchmark's held-out faces: their targets are exact, their pairs fair."""

import dataclasses

import numpy as np
import pytest

from studykit.errors import StudyError
from studykit.metrics import cases
from studykit.stimuli.render import render
from studykit.stimuli.state import transferred
from studykit.training import data

SMALL = {"size": 96, "identities": 8}


@pytest.fixture(scope="module")
def everyone() -> list[cases.Case]:
    return list(cases.cases(**SMALL))


def test_no_model_was_trained_on_the_benchmarks_identities_or_tuned_by_them():
    seeds = {cases.identity_of(k, seed).seed for k in range(32) for seed in range(3)}
    assert len(seeds) == 96 and min(seeds) >= data.HELD_OUT
    tuned_by = range(data.HELD_OUT, data.HELD_OUT + 2_000)  # render_held_out's, two an index
    assert not seeds & set(tuned_by)


def test_half_the_identities_are_frontal_and_partners_swap_motions_of_one_type():
    kinds = [cases.kind_of(k) for k in range(32)]
    assert {kind: kinds.count(kind) for kind in kinds} == {"frontal": 16, "side": 8, "stylised": 8}
    for k in range(32):
        partner = cases.partner_of(k)
        assert partner != k and cases.partner_of(partner) == k
        assert kinds[partner] == kinds[k]
    names = {cases.name_of(k) for k in range(32)}
    assert len(names) == 32 and {"frontal-16", "side-08", "stylised-01"} <= names


def test_side_sources_are_turned_by_forty_degrees_to_the_side_of_their_partner():
    yaws = []
    for k in range(32):
        yaw = cases.states_of(k)[0][0].yaw
        if cases.kind_of(k) == "side":
            assert abs(yaw) == 40 and yaw == cases.states_of(cases.partner_of(k))[0][0].yaw
            yaws.append(yaw)
        else:
            assert abs(yaw) <= 6
    assert sum(yaws) == 0


def test_every_motion_shows_what_its_name_says():
    for k in range(32):
        (pose, face), *states = cases.states_of(k)
        shown = dict(zip(cases.MOTIONS, states, strict=True))
        assert shown["mouth"][1].mouth_open >= 0.6 and shown["mouth"][0] == pose
        assert shown["blink"][1].blink_left == shown["blink"][1].blink_right == 1
        assert shown["smile"][1].smile - face.smile > 0.5
        assert abs(shown["gaze"][1].gaze_x) >= 0.5 and shown["gaze"][0] == pose
        assert (
            shown["turn left"][0].yaw < pose.yaw - 7 and shown["turn right"][0].yaw > pose.yaw + 7
        )
        assert (
            shown["nod down"][0].pitch < pose.pitch - 7 < pose.pitch + 7 < shown["nod up"][0].pitch
        )
        assert abs(shown["tilt"][0].roll - pose.roll) >= 9 and shown["tilt"][1] == face


def test_partners_turn_nod_and_tilt_by_the_same_rotations_within_what_the_renderer_draws():
    for k in range(32):
        own, theirs = cases.states_of(k)[0], cases.states_of(cases.partner_of(k))
        for state in theirs:
            pose, _ = transferred(own, theirs[0], state)
            since_rest = pose.matrix() @ own[0].matrix().T
            assert np.allclose(since_rest, state[0].matrix() @ theirs[0][0].matrix().T)
            assert abs(pose.yaw) < 55 and abs(pose.pitch) < 20 and abs(pose.roll) < 20
        assert transferred(own, theirs[0], theirs[0]) == own


def test_a_case_is_what_the_renderer_makes_of_its_states(everyone):
    case, states = everyone[1], cases.states_of(1)
    theirs = cases.states_of(case.partner)
    target = transferred(states[0], theirs[0], theirs[5])
    identity = cases.identity_of(1)
    for found, state in ((case.own[5], states[5]), (case.moved[5], target)):
        assert np.array_equal(found, render(identity, *state, size=96).image)
    assert np.array_equal(case.moved[0], case.own[0])
    truth = render(identity, *target, size=96)
    assert np.allclose(case.landmarks[1, 5], truth.landmarks, atol=1e-4)
    assert np.array_equal(case.face[1, 5], truth.face_mask)


def test_cases_are_rendered_once(everyone):
    said = []
    again = list(cases.cases(**SMALL, say=said.append))
    assert said == []
    for one, other in zip(everyone, again, strict=True):
        for field in dataclasses.fields(one):
            assert np.array_equal(getattr(one, field.name), getattr(other, field.name)) or (
                field.name == "found" and np.allclose(one.found, other.found, equal_nan=True)
            )


def test_another_number_of_identities_is_refused():
    with pytest.raises(StudyError, match="multiple of 8, not 12"):
        list(cases.cases(identities=12))
