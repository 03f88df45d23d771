"""Alignment in time, held to a sum over every path there is and to motion whose lag is known."""

import itertools

import numpy as np
import pytest

from studykit.metrics.alignment import BAND, aligned_error


def apart(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return np.abs(one - two)


def paths(count: int, place: tuple[int, int] = (0, 0)) -> list[list[tuple[int, int]]]:
    """Every way from a pair of frames to the last one."""
    if place == (count - 1, count - 1):
        return [[place]]
    found = []
    for step in ((1, 0), (0, 1), (1, 1)):
        after = place[0] + step[0], place[1] + step[1]
        if max(after) < count and abs(after[0] - after[1]) <= BAND:
            found += [[place, *rest] for rest in paths(count, after)]
    return found


def by_every_path(clip: np.ndarray, driving: np.ndarray) -> np.ndarray:
    count = len(clip)
    inside = [(i, j) for i, j in itertools.product(range(count), repeat=2) if abs(i - j) <= BAND]
    softness = np.mean([abs(clip[i] - driving[j]) for i, j in inside]) / 100
    chances = np.zeros((count, count))
    ways = paths(count)
    sums = np.array([sum(abs(clip[i] - driving[j]) for i, j in way) for way in ways])
    weights = np.exp(-(sums - sums.min()) / softness)
    for way, weight in zip(ways, weights / weights.sum(), strict=True):
        for pair in way:
            chances[pair] += weight
    errors = np.abs(clip[:, None] - driving[None])
    return (chances * errors).sum(axis=1) / chances.sum(axis=1)


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_it_is_the_mean_over_every_path_by_its_weight(count):
    rng = np.random.default_rng(count)
    clip, driving = rng.normal(size=(2, count))
    driving = clip + 0.02 * driving  # so that more than one path counts
    np.testing.assert_allclose(aligned_error(clip, driving, apart), by_every_path(clip, driving))


def test_a_lag_within_the_band_is_forgiven_and_a_longer_one_is_not():
    driving = np.sin(np.arange(80) / 4)
    errors = {}
    for lag in (0, 2, BAND, 3 * BAND):
        clip = np.concatenate([np.repeat(driving[0], lag), driving[: 80 - lag]])
        errors[lag] = apart(clip, driving)[BAND:-BAND], aligned_error(clip, driving, apart)
        errors[lag] = [float(each.mean()) for each in errors[lag]]
    assert errors[0][0] == 0 and errors[0][1] < 0.01
    for lag in (2, BAND):
        assert errors[lag][1] < errors[lag][0] / 5
    assert errors[3 * BAND][1] > errors[3 * BAND][0] / 2


def test_motion_that_is_not_there_stays_wrong():
    driving = np.sin(np.arange(60) / 5)
    still = np.zeros(60)
    assert aligned_error(still, driving, apart).mean() > 0.8 * apart(still, driving).mean()
    np.testing.assert_array_equal(aligned_error(still, still, apart), still)


def test_an_offset_has_its_own_size():
    driving = np.sin(np.arange(30) / 5)
    np.testing.assert_allclose(aligned_error(driving + 50, driving, apart), 50, atol=1)


def test_frames_that_one_of_them_lacks_are_left_out_of_both():
    rng = np.random.default_rng(3)
    clip, driving = rng.normal(size=(2, 12))
    gaps = clip.copy(), driving.copy()
    gaps[0][[0, 7]], gaps[1][4] = np.nan, np.nan
    kept = np.delete(np.arange(12), [0, 4, 7])
    found = aligned_error(*gaps, apart)
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(found)), kept)
    np.testing.assert_array_equal(found[kept], aligned_error(clip[kept], driving[kept], apart))
    assert np.isnan(aligned_error(clip * np.nan, driving, apart)).all()
