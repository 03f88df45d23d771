"""Where a head looks: the fit of the generic face, and the signs of its angles."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import studykit.stimuli as stimuli
from studykit.media.faces import find_face
from studykit.media.pose import Pose, face_model, fit_scaled_orthographic, head_pose

FINDERS = ("mediapipe", "dlib")
ANGLES = [(0, 0, 0), (25, 0, 0), (-40, 10, 5), (0, -20, 0), (10, 15, -30), (60, -5, 10)]


@pytest.mark.parametrize(("yaw", "pitch", "roll"), ANGLES)
def test_pose_of_the_model_seen_by_a_pinhole_camera(yaw, pitch, roll):
    rotation = Rotation.from_euler("ZYX", [roll, yaw, pitch], degrees=True).as_matrix()
    x, y, z = rotation @ face_model().T
    depth = 1000 - z
    points = np.column_stack([1024 * x / depth + 127.5, 1024 * y / depth + 127.5])
    pose = head_pose(points, (256, 256))
    np.testing.assert_allclose([pose.yaw, pose.pitch, pose.roll], [yaw, pitch, roll], atol=0.1)


@pytest.mark.parametrize(("yaw", "pitch", "roll"), ANGLES)
def test_scaled_orthographic_fit_recovers_rotation_scale_and_offset(yaw, pitch, roll):
    truth = Rotation.from_euler("ZYX", [roll, yaw, pitch], degrees=True).as_matrix()
    points = 1.7 * (face_model() @ truth.T)[:, :2] + [50, 80]
    rotation, scale, offset = fit_scaled_orthographic(face_model(), points)
    np.testing.assert_allclose(rotation, truth, atol=1e-6)
    np.testing.assert_allclose([scale, *offset], [1.7, 50, 80], atol=1e-5)


@pytest.mark.parametrize(("yaw", "pitch", "roll"), ANGLES)
def test_a_pose_and_its_rotation_are_one_and_the_same(yaw, pitch, roll):
    pose = Pose(yaw, pitch, roll)
    expected = Rotation.from_euler("ZYX", [roll, yaw, pitch], degrees=True).as_matrix()
    np.testing.assert_allclose(pose.rotation(), expected, atol=1e-12)
    back = Pose.from_rotation(expected)
    np.testing.assert_allclose([back.yaw, back.pitch, back.roll], [yaw, pitch, roll], atol=1e-9)


@pytest.mark.parametrize("finder", FINDERS)
def test_pose_of_rendered_heads_follows_the_convention(finder):
    """Yaw to the image's right, pitch up, roll clockwise, all positive; against the renderer."""

    def pose(**angles: float) -> Pose:
        image = stimuli.render(stimuli.Identity.random(5), stimuli.Pose(**angles)).image
        return head_pose(find_face(image, finder=finder).landmarks, image.shape)

    rest = pose()
    assert abs(rest.yaw) < 4 and abs(rest.roll) < 3
    for yaw in (-30, 30):
        assert pose(yaw=yaw).yaw == pytest.approx(yaw, abs=7)
    assert pose(pitch=15).pitch - rest.pitch == pytest.approx(15, abs=7)
    assert pose(pitch=-15).pitch - rest.pitch == pytest.approx(-15, abs=7)
    assert pose(roll=15).roll == pytest.approx(15, abs=4)
