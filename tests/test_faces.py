"""Faces as the rest of the package sees them, whichever finder is at work."""

import io
import subprocess
import sys
import weakref

import numpy as np
import pytest
import skimage
from PIL import Image

import studykit.stimuli as stimuli
from studykit.errors import NoFaceError
from studykit.media import faces, mesh
from studykit.media.faces import FaceTracker, extractor, find_face, find_faces, finder_used
from studykit.metrics.cases import identity_of, states_of

FINDERS = ("mediapipe", "dlib")


@pytest.fixture(params=FINDERS)
def finder(request) -> str:
    return request.param


def test_mediapipe_serves_where_it_can_and_dlib_where_not(monkeypatch):
    assert (finder_used(), extractor()) == ("mediapipe", "mediapipe-68")
    monkeypatch.setattr(mesh, "missing", lambda: "there is no wheel for this machine")
    assert (finder_used(), extractor()) == ("dlib", "dlib-68")
    assert finder_used("mediapipe") == "mediapipe"


def test_the_astronaut_and_her_features_are_found(astronaut, finder):
    (face,) = find_faces(astronaut, finder=finder)
    eyes, nose, mouth = (
        face.landmarks[part].mean(axis=0) for part in (slice(36, 48), [30], slice(48, 68))
    )
    # Pupils, tip of the nose and middle of the mouth, read off the picture.
    np.testing.assert_allclose(eyes, [224.8, 102.2], atol=3)
    np.testing.assert_allclose(nose, [223, 127], atol=5)
    np.testing.assert_allclose(mouth, [224, 146], atol=4)
    left, top, right, bottom = face.box
    assert left < eyes[0] < right and top < eyes[1] < mouth[1] < bottom
    assert 0.9 < face.score <= 1
    assert (face.mesh is None) == (finder == "dlib")


def test_landmarks_lie_where_the_renderer_put_them(rendered, finder):
    face = find_face(rendered.image, finder=finder)
    inner = slice(17, 68)
    errors = np.linalg.norm(face.landmarks[inner] - rendered.landmarks[inner], axis=1)
    assert errors.mean() < 0.035 * np.ptp(rendered.landmarks[:, 0])


@pytest.mark.parametrize(("x", "y"), [(0, 0), (300, 0), (0, 300), (300, 300), (128, 256)])
def test_no_face_where_the_astronaut_photo_shows_none(astronaut, finder, x, y):
    assert find_faces(astronaut[y : y + 212, x : x + 212], finder=finder) == []


def test_no_face_in_noise_on_a_blank_wall_or_in_a_cat(finder):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    for image in (noise, np.full((200, 300, 3), 180, np.uint8), skimage.data.cat()):
        assert find_faces(image, finder=finder) == []


def test_a_missing_face_is_an_error_that_names_the_image(finder):
    with pytest.raises(NoFaceError) as caught:
        find_face(np.zeros((128, 128, 3), np.uint8), name="inputs/wall.png", finder=finder)
    assert str(caught.value).startswith("inputs/wall.png: no human face found")
    assert "\n" not in str(caught.value)


def test_several_faces_come_with_the_largest_first_and_find_face_takes_that(
    rendered, astronaut, finder
):
    big = np.asarray(Image.fromarray(rendered.image).resize((512, 512)))
    side_by_side = np.hstack([astronaut, big])
    found = find_faces(side_by_side, finder=finder)
    assert len(found) == 2
    assert found[0].box[0] > 512 > found[1].box[2]
    assert find_face(side_by_side, finder=finder).box == found[0].box


@pytest.mark.parametrize("size", [200, 480, 900, 2000])
@pytest.mark.parametrize("quality", [30, 60, 95])
def test_texture_that_looks_like_a_face_is_not_taken_for_one(astronaut, finder, size, quality):
    """Her space suit is such a texture, and the face of a cat is beside her twice."""
    cat = Image.fromarray(skimage.data.cat()[30:170, 90:290]).resize((220, 150))
    made = Image.fromarray(astronaut)
    made.paste(cat, (285, 20))
    made.paste(cat.rotate(8), (292, 350))
    file = io.BytesIO()
    made.resize((size, size), Image.Resampling.BICUBIC).save(file, "jpeg", quality=quality)
    face = find_face(np.asarray(Image.open(file)), finder=finder)
    eyes = face.landmarks[36:48].mean(axis=0) * 512 / size
    np.testing.assert_allclose(eyes, [224.8, 102.2], atol=6)


def test_the_tracker_follows_a_moving_head_to_a_few_pixels(finder):
    tracker, identity = FaceTracker(finder=finder), stimuli.Identity.random(3)
    for step in range(12):
        pose = stimuli.Pose(yaw=20 * np.sin(step / 4), x=0.008 * step, roll=step)
        truth = stimuli.render(identity, pose)
        face = tracker.update(truth.image)
        error = np.linalg.norm(face.landmarks - truth.landmarks, axis=1)[17:].mean()
        assert error < 0.05 * np.ptp(truth.landmarks[:, 0]), step


@pytest.mark.parametrize("index", [1, 4, 17])
def test_the_tracker_finds_a_head_that_jumps_from_one_side_to_the_other(finder, index):
    """As in films of few frames a second: landmarks must not stay with the head as it was."""
    tracker, states = FaceTracker(finder=finder), states_of(index)
    for state in (states[0], *states[5:8]):
        truth = stimuli.render(identity_of(index), *state)
        face = tracker.update(truth.image)
        error = np.linalg.norm(face.landmarks - truth.landmarks, axis=1)[17:].mean()
        assert error < 0.05 * np.ptp(truth.landmarks[:, 0])


def test_the_tracker_loses_a_face_at_once_and_finds_it_elsewhere(rendered, finder):
    blank = np.full_like(rendered.image, 128)
    moved = np.roll(rendered.image, 40, axis=1)
    tracker = FaceTracker(finder=finder, patience=2)
    assert tracker.update(blank) is None
    first = tracker.update(rendered.image)
    assert [tracker.update(blank) for _ in range(4)] == [None] * 4
    again = tracker.update(moved)
    shift = (again.landmarks - first.landmarks).mean(axis=0)
    np.testing.assert_allclose(shift, [40, 0], atol=4)


def test_the_tracker_jumps_with_a_cut(rendered, finder):
    tracker = FaceTracker(finder=finder)
    first = tracker.update(rendered.image)
    small = np.full_like(rendered.image, 128)
    half = np.asarray(Image.fromarray(rendered.image).resize((160, 160)))
    small[96:, 96:] = half
    tracker.update(small)
    second = tracker.update(small)
    expected = first.landmarks * 160 / 256 + 96
    assert np.linalg.norm(second.landmarks - expected, axis=1).mean() < 5


def test_the_tracker_holds_no_frame(rendered, finder):
    tracker = FaceTracker(finder=finder)
    frame = rendered.image.copy()
    assert tracker.update(frame) is not None
    watched = weakref.ref(frame)
    del frame
    assert watched() is None


def test_importing_faces_loads_no_heavy_package():
    heavy = "{'dlib', 'ai_edge_litert', 'numba', 'skimage', 'scipy', 'PIL', 'cv2'}"
    code = f"import {faces.__name__}, sys; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
