"""A face is followed through a video: by a square that stands still, or smoothly where it walks."""

from pathlib import Path

import numpy as np
import pytest

import studykit.stimuli as stimuli
from studykit.media import video
from studykit.media.following import POINTS, interpolated, is_seen, squares_around, tracked
from studykit.media.squares import open_driving, squares_of
from studykit.media.views import View

RATE, SIDE, STEP = 12.5, 128, 20


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return stimuli.render(stimuli.Identity.random(3), size=SIDE).image


def walking(face: np.ndarray, count: int = 14) -> list[np.ndarray]:
    """The face at 20 pixels more to the right in each frame of a wide picture."""
    frames = []
    for index in range(count):
        canvas = np.full((SIDE + 16, SIDE + STEP * count, 3), 128, np.uint8)
        canvas[8 : 8 + SIDE, STEP * index : STEP * index + SIDE] = face
        frames.append(canvas)
    return frames


@pytest.fixture(scope="module")
def walk(face, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("walk") / "walk.mp4"
    video.write_video(path, walking(face), frame_rate=RATE, crf=5)
    return path


def at(x: float, y: float, size: float = 60) -> np.ndarray:
    """The points of a face in the middle of (x, y)."""
    points = np.random.default_rng(0).uniform(-size / 2, size / 2, (POINTS, 2))
    points[:2] = [[-size / 2, -size / 2], [size / 2, size / 2]]
    return points + np.array([x, y])


def test_a_face_that_walks_is_followed_so_evenly_that_it_rests_in_its_square(walk):
    driving, note = open_driving(walk, name="walk", size=SIDE, crop="face")
    assert "the square follows the face" in note
    lefts = np.array([square.left for square in squares_of(walk, "face")])
    assert np.abs(np.diff(lefts, 2)).max() < 2  # no jerk that methods would take for motion
    noses = driving.points[:, 30]
    assert np.ptp(noses[2:-4], axis=0).max() < 0.12 * SIDE
    frames = np.stack(list(driving)).astype(float)
    assert np.abs(frames[4] - frames[8])[20:-20, 20:-20].mean() < 12


def test_a_face_that_stays_keeps_one_square():
    points = np.stack([at(150 + 10 * np.sin(t), 120) for t in range(30)])
    assert len(squares_around(points, (240, 320), 25, scale=2)) == 1


def test_a_glitch_in_one_frame_of_many_moves_no_square():
    points = np.stack([at(100, 100)] * 100)
    points[40] += 200
    assert len(squares_around(points, (400, 400), 25, scale=2)) == 1


def test_the_square_follows_the_face_but_not_its_trembling():
    rng = np.random.default_rng(0)
    true = 60 + 5.0 * np.arange(100)
    points = np.stack([at(x + rng.normal(0, 3), 100) for x in true])
    squares = squares_around(points, (200, 700), 25, scale=2)
    middles = np.array([square.left + square.side / 2 for square in squares])
    free = slice(10, -20)  # at the ends of the picture the square can't go on
    assert np.abs(middles - true)[free].max() < 4
    assert np.abs(np.diff(middles, 2))[free].max() < 0.3
    assert np.ptp([square.side for square in squares]) < 1e-6


def test_a_cut_moves_the_square_at_once():
    points = np.stack([at(100, 100)] * 30 + [at(500, 100)] * 30)
    squares = squares_around(points, (200, 640), 25, scale=2)
    middles = np.array([square.left + square.side / 2 for square in squares])
    np.testing.assert_allclose(middles, [100.5] * 30 + [500.5] * 30, atol=1)


def test_gaps_are_filled_evenly():
    points = np.stack([at(100, 100), at(100, 100) * np.nan, at(120, 140)])
    assert is_seen(points).tolist() == [True, False, True]
    np.testing.assert_allclose(interpolated(points)[1], at(110, 120))


def test_the_face_that_is_named_is_followed_and_not_the_larger_one(face):
    small = np.asarray(face[::2, ::2])
    frames = []
    for index in range(6):
        canvas = np.full((160, 420, 3), 128, np.uint8)
        canvas[:SIDE, :SIDE] = face
        canvas[40 : 40 + 64, 300 + 4 * index : 364 + 4 * index] = small
        frames.append(canvas)
    for which, about in ((1, 64), (2, 340), ((330.0, 75.0), 340)):
        rows = np.array(list(tracked(frames, which=which)))
        assert np.abs(rows[:, 30, 0] - about).max() < 20


@pytest.fixture(scope="module")
def blinking(face, tmp_path_factory) -> Path:
    """No face in the third and the fourth of eight frames."""
    path = tmp_path_factory.mktemp("lost") / "lost.mp4"
    frames = [np.roll(face, index, axis=1) for index in range(8)]
    frames[2] = frames[3] = np.full_like(face, 128)
    video.write_video(path, frames, frame_rate=25, crf=5)
    return path


@pytest.mark.parametrize(
    ("faceless", "order", "said"),
    [
        ("interpolate", [0, 1, 2, 3, 4, 5, 6, 7], "interpolated"),
        ("hold", [0, 1, 1, 1, 4, 5, 6, 7], "held"),
        ("cut", [0, 1, 4, 5, 6, 7], "left out"),
    ],
)
def test_frames_without_a_face_are_what_is_asked_for_and_counted(blinking, faceless, order, said):
    whole, _ = open_driving(blinking, name="lost", size=SIDE, crop="face")
    frames = list(whole)
    view = View(faceless=faceless)
    driving, note = open_driving(blinking, name="lost", size=SIDE, crop="face", view=view)
    assert note == f"no face in 2 of 8 frames, first at 0.08 s: {said}"
    assert driving.frame_count == len(order) == len(driving.points)
    for shown, index in zip(driving, order, strict=True):
        np.testing.assert_array_equal(shown, frames[index])
    assert driving.whole == (faceless != "cut")
