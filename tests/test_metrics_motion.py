"""Motion metrics on landmarks and poses whose errors are known."""

from dataclasses import astuple

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from studykit.media.pose import Pose, face_model
from studykit.media.reference import eye_opening, mouth_opening
from studykit.metrics import motion


@pytest.fixture
def face() -> np.ndarray:
    """Sixty-eight landmarks of a frontal face, about 140 pixels wide."""
    return face_model()[:, :2] + 128


@pytest.fixture
def walk(face: np.ndarray) -> np.ndarray:
    """Five frames in which it slides by 2 pixels to the right and 1 down a frame."""
    return face + np.arange(5)[:, None, None] * np.array([2.0, 1.0])


def test_akd_is_the_mean_euclidean_distance_in_pixels(walk):
    shifted = walk + np.array([3.0, 4.0])
    np.testing.assert_allclose(motion.keypoint_distance(shifted, walk), 5.0)
    one = walk.copy()
    one[2, 30] += [0.0, 6.8]
    np.testing.assert_allclose(motion.keypoint_distance(one, walk), [0, 0, 0.1, 0, 0])


def test_mkr_counts_the_faces_that_only_the_truth_has(walk):
    clip, truth = walk.copy(), walk.copy()
    clip[[1, 2]] = np.nan
    truth[[2, 3]] = np.nan
    assert motion.missing_keypoint_rate(clip, truth) == pytest.approx(100 / 3)
    assert np.isnan(motion.missing_keypoint_rate(clip, np.full_like(truth, np.nan)))
    np.testing.assert_array_equal(
        np.isnan(motion.keypoint_distance(clip, truth)), [False, True, True, True, False]
    )


def test_motion_like_the_drivings_has_no_error_whatever_size_and_place(walk):
    clip = 0.5 * walk + [40, 10]
    np.testing.assert_allclose(motion.landmark_motion_error(clip, walk), 0, atol=1e-12)


def test_a_frozen_face_errs_by_the_drivings_way_in_face_sizes(walk):
    frozen = np.repeat(walk[:1], 5, axis=0)
    size = np.ptp(walk[0], axis=0).max()
    expected = 100 * np.arange(5) * np.hypot(2, 1) / size
    np.testing.assert_allclose(motion.landmark_motion_error(frozen, walk), expected)


def test_motion_starts_at_the_first_frame_that_shows_both(walk):
    clip, driving = walk.copy(), walk.copy()
    clip[0], driving[1] = np.nan, np.nan
    clip[2:] += 7  # a constant offset from the reference frame on is no motion
    error = motion.landmark_motion_error(clip, driving)
    np.testing.assert_array_equal(np.isnan(error), [True, True, False, False, False])
    np.testing.assert_allclose(error[2:], 0, atol=1e-12)
    assert np.isnan(motion.landmark_motion_error(np.full_like(walk, np.nan), walk)).all()


def test_head_pose_error_is_the_angle_that_scipy_finds():
    rng = np.random.default_rng(2)
    poses, truth = rng.uniform(-50, 50, (2, 8, 3))
    expected = []
    for one, two in zip(poses, truth, strict=True):
        # scipy's capital letters turn about the head's own axes: rolled, turned, then pitched.
        a, b = (Rotation.from_euler("ZYX", [r, y, p], degrees=True) for y, p, r in (one, two))
        expected.append(np.rad2deg((a * b.inv()).magnitude()))
        np.testing.assert_allclose(Pose(*one).rotation(), a.as_matrix(), atol=1e-12)
    found = motion.head_pose_error(poses, truth, since=None)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_head_pose_error_resolves_small_angles_and_reaches_half_a_turn():
    still = np.zeros((3, 3))
    turned = np.array([[1e-6, 0, 0], [0, 0, 90.0], [0, 0, 180.0]])
    found = motion.head_pose_error(turned, still, since=None)
    np.testing.assert_allclose(found, [1e-6, 90, 180], rtol=1e-6)


def test_relative_head_pose_forgives_where_the_head_started():
    """A side view and a frontal one that roll alike have turned by the same rotation."""
    roll = np.array([0.0, 5.0, 12.0])
    side = np.stack([np.full(3, 45.0), np.zeros(3), np.zeros(3)], axis=1)
    start = Pose(*side[0]).rotation()
    for frame, angle in enumerate(roll):
        pose = Pose.from_rotation(Pose(0, 0, angle).rotation() @ start)
        side[frame] = pose.yaw, pose.pitch, pose.roll
    driving = np.stack([np.zeros(3), np.zeros(3), roll], axis=1)
    relative = motion.head_pose_error(side, driving, since=0)
    np.testing.assert_allclose(relative, 0, atol=1e-6)
    assert (motion.head_pose_error(side, driving, since=None) > 40).all()


def test_a_nod_carried_over_to_a_side_view_has_no_error_in_any_angle():
    """In its own angles the head that looks aside rolls by 10 degrees when it nods by 10."""
    driving = np.array([[0, 5, 0], [0, np.nan, 0], [0, 15, 0]], float)
    start, nod = Pose(45, 3, 2).rotation(), Pose(0, 10, 0).rotation()
    side = np.array([astuple(Pose.from_rotation(turn @ start)) for turn in (np.eye(3), nod, nod)])
    found = motion.angle_errors(side, driving, since=0)
    np.testing.assert_allclose(found, [[0] * 3, [np.nan] * 3, [0] * 3], atol=1e-9)
    apart = motion.angle_errors(side, driving, since=None)
    np.testing.assert_allclose(apart[2], np.abs(side[2] - driving[2]))
    assert apart[2, 2] > 9
    above, below = np.array([[0, 0, 179.0]]), np.array([[0, 0, -179.0]])
    wrapped = motion.angle_errors(above, below, since=None)
    np.testing.assert_allclose(wrapped, [[0, 0, 2]])


def test_change_error_compares_values_or_their_changes():
    clip, truth = np.array([np.nan, 1.0, 2.0, 5.0]), np.array([9.0, 3.0, 4.0, 6.0])
    absolute = motion.change_error(clip, truth, since=None)
    np.testing.assert_array_equal(absolute, [np.nan, 2, 2, 1])
    changed = motion.change_error(clip, truth, since=0)
    np.testing.assert_array_equal(changed, [np.nan, 0, 0, 1])
    nothing = motion.change_error(clip * np.nan, truth, since=0)
    assert np.isnan(nothing).all()


def test_eye_opening_is_the_eye_aspect_ratio(face):
    """Each eye a hexagon 30 wide whose lids are 9 apart: 9/30; the right one shut: half of it."""
    for first in (36, 42):
        face[first : first + 6] = [(0, 0), (10, -4.5), (20, -4.5), (30, 0), (20, 4.5), (10, 4.5)]
    assert eye_opening(face) == pytest.approx(0.3)
    face[42:48, 1] = 0
    assert eye_opening(face) == pytest.approx(0.15)
    assert eye_opening(np.stack([face, 3 * face])) == pytest.approx([0.15, 0.15])


def test_mouth_opening_is_the_gap_over_the_width(face):
    face[60:68] = [(0, 0), (10, -3), (20, -6), (30, -3), (40, 0), (30, 3), (20, 6), (10, 3)]
    assert mouth_opening(face) == pytest.approx((6 + 12 + 6) / 3 / 40)


def test_frames_are_compared_with_frames(walk):
    with pytest.raises(ValueError, match="frame is compared with frame"):
        motion.keypoint_distance(walk, walk[:1])


def test_motion_counts_from_the_frame_that_is_named_or_the_nearest_with_both_faces(walk):
    """The clip's face leaps by 10 pixels at frame 2, and stays there."""
    clip = walk.copy()
    clip[2:] += [10.0, 0.0]
    size = np.ptp(walk[0], axis=0).max()
    np.testing.assert_allclose(motion.landmark_motion_error(clip, walk)[3:], 1000 / size)
    later = motion.landmark_motion_error(clip, walk, 3)
    np.testing.assert_allclose(later, [1000 / size] * 2 + [0] * 3, atol=1e-9)
    clip[3] = np.nan
    np.testing.assert_allclose(motion.landmark_motion_error(clip, walk, 3)[4], 0, atol=1e-9)
    signal = np.array([0.0, 1.0, 5.0])
    np.testing.assert_allclose(motion.change_error(signal, signal * 0, since=2), [5, 4, 0])
