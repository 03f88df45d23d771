"""Steadiness of landmarks and pictures: what is smooth gets little, each fault its own."""

import numpy as np
import pytest
from skimage.registration import optical_flow_tvl1

from studykit.media.faces import find_face
from studykit.media.pose import face_model
from studykit.metrics import temporal


@pytest.fixture
def face() -> np.ndarray:
    return face_model()[:, :2] + 128


def _eyes_apart(face: np.ndarray) -> float:
    return float(np.linalg.norm(face[36] - face[45]))


def test_sms_is_equation_9_of_zhao_wu_and_guo_written_out(face):
    """1/T times the sum over t of |(D(t-1) + D(t+1)) / 2 - D(t)|, 136 coordinates in pixels."""
    points = face + np.random.default_rng(1).normal(0, 1, (6, 68, 2))
    total = 0.0
    for t in range(1, 5):
        for i in range(68):
            for axis in range(2):
                between = (points[t - 1, i, axis] + points[t + 1, i, axis]) / 2
                total += abs(between - points[t, i, axis])
    found = temporal.landmark_smoothness(points)
    assert np.nanmean(found) == pytest.approx(total / 4)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(found)), [0, 5])
    # One landmark that leaps by 3 and 4 pixels and back: half its second differences in the frames
    # before and after it, and the whole leap in its own.
    leap = np.repeat(face[None], 5, axis=0)
    leap[2, 30] += [3, -4]
    np.testing.assert_allclose(temporal.landmark_smoothness(leap)[1:-1], [3.5, 7, 3.5])


def test_second_and_third_differences_are_what_loops_give(face):
    points = face + np.random.default_rng(1).normal(0, 1, (6, 68, 2))
    apart = np.median([_eyes_apart(frame) for frame in points])
    changes, jerk = np.full(6, np.nan), np.full(6, np.nan)
    for t in range(1, 5):
        lengths = []
        for i in range(68):
            x, y = points[t + 1, i] - 2 * points[t, i] + points[t - 1, i]
            lengths.append((x * x + y * y) ** 0.5)
        changes[t] = 100 * sum(lengths) / 68 / apart
    for t in range(2, 5):
        lengths = []
        for i in range(68):
            p = points[:, i]
            x, y = p[t + 1] - 3 * p[t] + 3 * p[t - 1] - p[t - 2]
            lengths.append((x * x + y * y) ** 0.5)
        jerk[t] = 100 * sum(lengths) / 68 / apart
    np.testing.assert_allclose(temporal.acceleration(points), changes)
    np.testing.assert_allclose(temporal.jerk(points), jerk)


def test_steady_motion_is_smooth_and_steady_acceleration_has_no_jerk(face):
    t = np.arange(8)[:, None, None]
    steady, speeding = face + 3.0 * t, face + 0.5 * t**2
    for measure in (temporal.landmark_smoothness, temporal.acceleration):
        assert np.nanmax(measure(steady)) == pytest.approx(0, abs=1e-9)
    assert np.nanmax(temporal.jerk(speeding)) == pytest.approx(0, abs=1e-9)
    expected = 100 * np.hypot(1, 1) / _eyes_apart(face)
    np.testing.assert_allclose(temporal.acceleration(speeding)[1:-1], expected)


def test_steadiness_does_not_depend_on_the_size_of_the_face(face):
    points = face + np.random.default_rng(1).normal(0, 1, (6, 68, 2))
    for measure in (temporal.acceleration, temporal.jerk):
        np.testing.assert_allclose(measure(2 * points), measure(points))


def test_trembling_shows_more_in_jerk_than_swaying_does(face):
    t = np.arange(40)[:, None, None]
    swaying = face + 4 * np.sin(2 * np.pi * t / 40)
    trembling = face + 0.5 * (-1.0) ** t
    assert np.nanmean(temporal.jerk(trembling)) > 50 * np.nanmean(temporal.jerk(swaying))


def test_frames_without_a_face_have_no_figure_and_spoil_only_their_neighbours(face):
    points = np.repeat(face[None], 9, axis=0)
    points[4] = np.nan
    for measure in (temporal.landmark_smoothness, temporal.acceleration):
        lost = np.isnan(measure(points))
        np.testing.assert_array_equal(np.flatnonzero(lost), [0, 3, 4, 5, 8])
    for measure in (temporal.landmark_smoothness, temporal.acceleration, temporal.jerk):
        assert np.isnan(measure(points[:2])).all()
        assert np.isnan(measure(np.full_like(points, np.nan))).all()


@pytest.mark.parametrize("shape", [(128, 128), (101, 67), (40, 34)])
def test_the_flow_is_that_of_scikit_image(portrait, shape):
    grey = portrait.mean(axis=2, dtype=np.float32) / 255
    image, moved = (grey[y : y + shape[0], x : x + shape[1]] for y, x in ((90, 180), (91, 178)))
    expected = optical_flow_tvl1(image, moved, attachment=5, num_iter=10, num_warp=1)
    assert np.abs(expected).max() > 1
    found = temporal.optical_flow(*map(temporal.pyramid, (image, moved)))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_warping_undoes_what_moved(portrait):
    """A shift of 3 pixels is motion; the figure of unmoved frames is the noise between them."""
    before, after = portrait[100:356, 100:356], portrait[100:356, 97:353]
    still = temporal.flow_warping_error(before, before)
    moved = temporal.flow_warping_error(before, after)
    small = [temporal.reduced(image) for image in (before, after)]
    unwarped = 1000 * ((small[0] - small[1]) ** 2).sum(axis=2).mean()
    assert still == pytest.approx(0, abs=1e-6)
    assert moved < 0.25 * unwarped


def test_warping_error_of_a_flash_is_its_square():
    """Grey that brightens by 0.1 leaves nothing to move: 1000 x 3 channels x 0.1^2."""
    before, after = (np.full((64, 64, 3), value, np.uint8) for value in (102, 127.5 + 0.5))
    expected = 1000 * 3 * (26 / 255) ** 2
    assert temporal.flow_warping_error(before, after) == pytest.approx(expected, rel=1e-4)


def test_a_torn_frame_is_no_motion(portrait):
    before = portrait[:256, 96:352]
    moved = portrait[:256, 94:350]
    torn = moved.copy()
    torn[110:160] = np.roll(torn[110:160], 14, axis=1)
    smooth = temporal.flow_warping_error(before, moved)
    assert temporal.flow_warping_error(before, torn) > 3 * smooth


def test_flicker_is_the_change_of_the_background_and_not_of_the_face(portrait):
    landmarks = find_face(portrait).landmarks
    brighter, talking = portrait.copy(), portrait.copy()
    brighter[:60, :60] //= 2
    brighter[:60, :60] += 8
    left, top = landmarks.min(axis=0).astype(int)
    right, bottom = landmarks.max(axis=0).astype(int)
    talking[top:bottom, left:right] = 0
    assert temporal.flicker(portrait, talking, landmarks, landmarks) == 0
    assert temporal.flicker(portrait, brighter, landmarks, landmarks) > 1
    lost = np.full((68, 2), np.nan)
    assert np.isnan(temporal.flicker(portrait, brighter, landmarks, lost))


def test_flicker_of_a_face_that_fills_the_image_has_no_figure(portrait):
    landmarks = find_face(portrait).landmarks
    left, top = (landmarks.min(axis=0) - 4).astype(int)
    close = portrait[top : top + 120, left : left + 110]
    points = landmarks - [left, top]
    assert np.isnan(temporal.flicker(close, close, points, points))


def test_flicker_of_a_known_step(portrait):
    """Every channel 5 brighter is luma 5 brighter."""
    landmarks = find_face(portrait).landmarks
    dark = np.minimum(portrait, 200)
    found = temporal.flicker(dark, dark + np.uint8(5), landmarks, landmarks)
    assert found == pytest.approx(5)
