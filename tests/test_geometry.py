"""Squares around faces, and which face is meant."""

import numpy as np
import pytest

from studykit.media.faces import find_face
from studykit.media.geometry import Crop, Face, best_first, centre_crop, face_crop, overlap


def a_face(x: float, y: float, side: float, score: float = 0.9) -> Face:
    return Face((x - side / 2, y - side / 2, x + side / 2, y + side / 2), score)


def test_boxes_overlap_by_their_intersection_over_their_union() -> None:
    assert overlap((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 2, 2), (2, 2, 3, 3)) == 0


@pytest.mark.parametrize(
    ("meant", "other"),
    [
        (a_face(50, 50, 20), a_face(50, 50, 15)),  # larger
        (a_face(50, 50, 20), a_face(90, 90, 20)),  # more central
        (a_face(50, 50, 20), a_face(50, 50, 20, 0.6)),  # surer
        (a_face(50, 50, 20, 0.95), a_face(50, 50, 80, 0.1)),  # no large jacket
        (a_face(20, 50, 40), a_face(50, 50, 20)),  # who is filmed stands aside of a passer-by
        (a_face(50, 50, 30, 0.7), a_face(10, 10, 25, 0.95)),
    ],
)
def test_the_face_that_is_meant_is_sure_large_and_central(meant: Face, other: Face) -> None:
    for faces in ([meant, other], [other, meant]):
        assert best_first(faces, (100, 100))[0] is meant


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
    face = find_face(astronaut, finder="dlib")
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
