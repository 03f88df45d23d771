"""THEval's metrics, held to slow code written from its definitions and to faces made by hand."""

import statistics

import numpy as np
import pytest

from studykit.media.pose import face_model
from studykit.metrics import dynamics

FRAMES = 30


@pytest.fixture
def face() -> np.ndarray:
    """Sixty-eight landmarks of a frontal face, whose eyes' outer corners are 90 apart."""
    return face_model()[:, :2] + 128


@pytest.fixture
def moving(face: np.ndarray) -> np.ndarray:
    """A face whose every point wanders, with two frames in which it is not found."""
    steps = np.random.default_rng(1).normal(0, 2, (FRAMES, 68, 2))
    walk = face + steps.cumsum(axis=0) / 3
    walk[[4, 17]] = np.nan
    return walk


@pytest.fixture
def voice() -> np.ndarray:
    return np.array([0.0] * 10 + [1.0] * 12 + [np.nan] * 3 + [0.0] * 5)


def distance(one, two) -> float:
    return float(((one[0] - two[0]) ** 2 + (one[1] - two[1]) ** 2) ** 0.5)


def middle(points) -> tuple[float, float]:
    return statistics.fmean(x for x, _ in points), statistics.fmean(y for _, y in points)


def found(landmarks) -> list[int]:
    return [t for t, points in enumerate(landmarks) if not np.isnan(points).any()]


def gap(points) -> float:
    """The mean vertical distance of the inner lips over that of the eyes' outer corners."""
    lips = [abs(points[low][1] - points[up][1]) for up, low in ((61, 67), (62, 66), (63, 65))]
    return statistics.fmean(lips) / distance(points[36], points[45])


def scaled(values) -> list[float]:
    return [(value - min(values)) / (max(values) - min(values)) for value in values]


def test_closeness_is_that_of_theval():
    assert dynamics.closeness(2.0, 2.0) == 1
    assert dynamics.closeness(1.5, 2.0) == dynamics.closeness(2.5, 2.0) == 0.75
    assert dynamics.closeness(0.0, 2.0) == dynamics.closeness(4.0, 2.0) == 0
    assert dynamics.closeness(6.0, 2.0) == -1
    assert np.isnan([dynamics.closeness(1.0, 0.0), dynamics.closeness(np.nan, 1.0)]).all()


def test_lip_dynamics_is_the_mean_deviation_of_all_pairs_distances(moving):
    spreads = []
    for one in range(48, 68):
        for two in range(one + 1, 68):
            apart = [distance(moving[t][one], moving[t][two]) for t in found(moving)]
            spreads.append(statistics.pstdev(apart))
    assert len(spreads) == 190
    assert dynamics.lip_dynamics(moving) == pytest.approx(statistics.fmean(spreads))


def test_one_lip_point_that_swings_moves_nineteen_pairs(face):
    """Far to the side, so that its distance from all others swings by 3 to each side."""
    walk = np.repeat(face[None], 4, axis=0)
    walk[:, 48:68] = walk[0, 48]
    walk[:, 60, 0] += [1000, 1006, 1000, 1006]
    assert dynamics.lip_dynamics(walk) == pytest.approx(3 * 19 / 190)
    assert dynamics.lip_dynamics(walk + np.array([5.0, -3.0])) == pytest.approx(3 * 19 / 190)


def test_eyebrow_dynamics_is_the_mean_change_of_the_brows_height(moving):
    changes, last = [], None
    for t, points in enumerate(moving):
        if t not in found(moving):
            last = None
            continue
        eyes = middle(points[36:42]), middle(points[42:48])
        brows = middle(points[17:22]), middle(points[22:27])
        heights = [distance(b, e) / distance(*eyes) for b, e in zip(brows, eyes, strict=True)]
        if last is not None:
            changes += [abs(now - before) for now, before in zip(heights, last, strict=True)]
        last = heights
    assert dynamics.eyebrow_dynamics(moving) == pytest.approx(statistics.fmean(changes))


def test_a_brow_that_is_raised_once_counts_once(face):
    """Eyes' middles 60 apart; one brow goes up by 6 in one of four changes, and stays there."""
    face[36:42], face[42:48], face[17:22], face[22:27] = (0, 0), (60, 0), (0, -20), (60, -20)
    walk = np.repeat(face[None], 5, axis=0)
    walk[2:, 17:22, 1] -= 6
    assert dynamics.eyebrow_dynamics(walk) == pytest.approx(0.1 / 8)
    assert dynamics.eyebrow_dynamics(walk * 3) == pytest.approx(0.1 / 8)


def test_head_motion_dynamics_is_its_formula(moving):
    pose = np.random.default_rng(2).normal(0, 5, (FRAMES, 3)).cumsum(axis=0)
    seen = found(moving)
    pose[[t for t in range(FRAMES) if t not in seen]] = np.nan
    spread = statistics.fmean(statistics.pstdev(pose[seen, axis]) for axis in range(3))
    pairs = [(t - 1, t) for t in seen if t - 1 in seen]
    speed = statistics.fmean(
        statistics.pvariance([pose[b, axis] - pose[a, axis] for a, b in pairs]) for axis in range(3)
    )
    centres = [middle(moving[t]) for t in seen]
    place = statistics.fmean(statistics.pvariance(each) for each in zip(*centres, strict=True))
    expected = (spread * speed + place) ** 0.5
    assert dynamics.head_motion_dynamics(moving, pose) == pytest.approx(expected)


def test_a_face_that_steps_aside_and_back_has_its_known_head_motion(face):
    """6 pixels to and fro: a variance of 9 in x, of 0 in y, and no turning at all."""
    walk = np.repeat(face[None], 4, axis=0)
    walk[1::2, :, 0] += 6
    assert dynamics.head_motion_dynamics(walk, np.zeros((4, 3))) == pytest.approx(4.5**0.5)
    # Yaw 0, 3, 0, 3: a deviation of 1.5 and changes 3, -3, 3 of variance 8; a third of both.
    pose = np.array([[0.0, 0, 0], [3, 0, 0], [0, 0, 0], [3, 0, 0]])
    assert dynamics.head_motion_dynamics(walk, pose) == pytest.approx((0.5 * 8 / 3 + 4.5) ** 0.5)


def test_silent_lip_stability_is_the_median_deviation_without_speech(moving, voice):
    gaps = [gap(moving[t]) for t in found(moving) if voice[t] == 0]
    mean = statistics.fmean(gaps)
    expected = statistics.median(abs(value - mean) for value in gaps)
    assert dynamics.silent_lip_stability(moving, voice) == pytest.approx(expected)
    assert np.isnan(dynamics.silent_lip_stability(moving, np.ones(FRAMES)))


def test_lips_that_part_in_silence_have_their_known_stability(face):
    """Gaps of 0, 9, 0 and 9 pixels at a distance of 90: 0.05 from the mean; speech is no matter."""
    walk = np.repeat(face[None], 6, axis=0)
    walk[:, 60:68, 1] = 0
    walk[[1, 3], 65:68, 1] = 9
    walk[4:, 65:68, 1] = 80
    silent = np.array([0, 0, 0, 0, 1, np.nan])
    assert dynamics.silent_lip_stability(walk, silent) == pytest.approx(0.05)


def test_lip_sync_is_the_distance_of_opening_and_loudness_in_speech(moving, voice):
    loudness = np.random.default_rng(5).uniform(0, 0.3, FRAMES)
    taken = [t for t in found(moving) if voice[t] == 1]
    opening, sound = scaled([gap(moving[t]) for t in taken]), scaled([loudness[t] for t in taken])
    expected = statistics.fmean(abs(o - s) for o, s in zip(opening, sound, strict=True))
    assert dynamics.lip_sync(moving, voice, loudness) == pytest.approx(expected)


def test_lips_in_step_with_the_sound_are_at_0_and_against_it_at_1(face):
    walk = np.repeat(face[None], 4, axis=0)
    walk[:, 60:68, 1] = 0
    walk[[1, 3], 65:68, 1] = 9
    speaks, loud = np.ones(4), np.array([0.1, 0.5, 0.1, 0.5])
    assert dynamics.lip_sync(walk, speaks, loud) == 0
    assert dynamics.lip_sync(walk, speaks, loud[::-1]) == 1
    still = np.repeat(walk[:1], 4, axis=0)
    assert dynamics.lip_sync(still, speaks, loud) == 0.5


def test_lip_sync_takes_a_tenth_of_the_frames_to_speak(moving):
    loudness = np.arange(FRAMES) / FRAMES
    for frames, defined in ((2, False), (3, True)):
        voice = np.zeros(FRAMES)
        voice[:frames] = 1
        assert np.isnan(dynamics.lip_sync(moving, voice, loudness)) != defined


def test_without_a_face_there_is_no_figure(moving, voice):
    nobody = np.full_like(moving, np.nan)
    pose = np.full((FRAMES, 3), np.nan)
    figures = [
        dynamics.lip_dynamics(nobody),
        dynamics.eyebrow_dynamics(nobody),
        dynamics.head_motion_dynamics(nobody, pose),
        dynamics.silent_lip_stability(nobody, voice),
        dynamics.lip_sync(nobody, voice, voice),
    ]
    assert np.isnan(figures).all()
