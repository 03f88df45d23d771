"""A registered head is nearer to the truth than the landmarks that it began with."""

import numpy as np
import pytest

from studykit import stimuli
from studykit.methods._face_registration import RegisteredHead

POSES = [stimuli.Pose(yaw=yaw, roll=yaw / 3, pitch=-yaw / 2) for yaw in (0, 4, 9, -8)]


def with_irises(landmarks: np.ndarray) -> np.ndarray:
    return np.vstack([landmarks, landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)])


@pytest.fixture(scope="module")
def turning() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A rendered head that turns, and where its landmarks truly are."""
    identity = stimuli.Identity.random(5)
    shown = [stimuli.render(identity, pose, stimuli.Expression()) for pose in POSES]
    return [f.image for f in shown], [with_irises(np.float64(f.landmarks)) for f in shown]


@pytest.fixture(scope="module")
def head(turning) -> RegisteredHead:
    frames, points = turning
    return RegisteredHead(frames[0], points[0][:68])


def shaken(points: np.ndarray, seed: int) -> np.ndarray:
    """Points as a detector that shakes would give them: shifted, grown and turned a little."""
    random = np.random.default_rng(seed)
    middle = points.mean(axis=0)
    turn = random.normal(0, 0.02)
    linear = (1 + random.normal(0, 0.01)) * np.array([[1, -turn], [turn, 1]])
    return (points - middle) @ linear.T + middle + random.normal(0, 1.5, 2)


def error(points: np.ndarray, truth: np.ndarray) -> float:
    rigid = [*range(27, 36), 36, 39, 42, 45, 68, 69]
    return float(np.linalg.norm((points - truth)[rigid], axis=1).mean())


@pytest.mark.parametrize("light", [1.0, 0.7])
def test_the_shaking_of_landmarks_goes_also_where_the_light_changes(turning, head, light):
    before, after = [], []
    for seed, (frame, truth) in enumerate(zip(*turning, strict=True)):
        points = shaken(truth, seed)
        dimmed = (light * frame + 10 * (light < 1)).astype(np.uint8)
        before.append(error(points, truth))
        after.append(error(head.refined(dimmed, points), truth))
    assert np.mean(after) < 0.5 * np.mean(before)


def test_true_landmarks_stay_where_they_are(turning, head):
    frames, points = turning
    assert np.abs(head.refined(frames[0], points[0]) - points[0]).max() < 0.05


def test_frames_that_show_something_else_leave_the_landmarks_nearly_alone(turning, head):
    _, points = turning
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    for frame in (noise, np.full((256, 256, 3), 90, np.uint8)):
        assert np.abs(head.refined(frame, points[0]) - points[0]).max() < 4


def test_what_the_face_does_is_kept(turning, head):
    """Registration moves the head as a whole: a mouth that opens stays as open."""
    frames, points = turning
    opened = points[1].copy()
    opened[[57, 66]] += [0, 12]
    found = head.refined(frames[1], opened)
    assert np.allclose(found[66] - found[62], opened[66] - opened[62], atol=1)


def test_a_head_at_the_border_of_the_frame_is_registered_too(turning):
    frames, points = turning
    cut, moved = frames[0][60:, 90:], points[0] - [90, 60]
    beside = RegisteredHead(cut, moved[:68])
    found = beside.refined(cut, moved + 1.0)
    assert np.abs(found - moved).mean() < 0.5


@pytest.mark.parametrize("way", [(900, 0), (0, -900)])
def test_a_face_that_has_left_the_picture_is_where_its_landmarks_are(turning, head, way):
    frames, points = turning
    assert np.abs(head.refined(frames[0], points[0] + way) - points[0] - way).max() < 10
