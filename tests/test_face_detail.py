"""What landmarks leave out of a face's motion is read off the pixels, and moves another face."""

import uuid
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import skimage
from scipy.ndimage import map_coordinates

from studykit.media.faces import find_face
from studykit.media.following import points_of
from studykit.media.geometry import face_crop
from studykit.media.views import Driving, Source
from studykit.methods import create_method
from studykit.methods._face_detail import SHAPE, DetailedField, DetailReader
from studykit.methods._warp_geometry import Motion, area_changes
from studykit.methods.warp import Warp, WarpedFace

STILL = Motion(np.zeros(3), 0.0, np.zeros(2), np.zeros((68, 2)), 1.0)


def portrait(size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """A photograph of a face, and its landmarks and irises."""
    photo = skimage.data.astronaut()
    image = face_crop(find_face(photo), photo.shape).apply(photo, size)
    return image, points_of(find_face(image))


@pytest.fixture(scope="module")
def face() -> tuple[np.ndarray, np.ndarray]:
    return portrait()


@pytest.fixture(scope="module")
def reader(face) -> DetailReader:
    return DetailReader(*face)


def cheek(points: np.ndarray) -> np.ndarray:
    """The middle of the cheek at the image's left."""
    return (points[31] + points[3]) / 2


def bulged(image: np.ndarray, middle: np.ndarray, way: np.ndarray, spread: float) -> np.ndarray:
    """An image in which what lies about a place has gone some way, in pixels."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]].astype(float)
    share = np.exp(-((columns - middle[0]) ** 2 + (rows - middle[1]) ** 2) / (2 * spread**2))
    places = [rows - share * way[1], columns - share * way[0]]
    channels = (map_coordinates(image[..., c], places, order=1, mode="nearest") for c in range(3))
    return np.stack(list(channels), axis=-1)


def way_at(detail: np.ndarray, reader: DetailReader, place: np.ndarray) -> np.ndarray:
    """A detail's way at a place of the reader's own face, in pixels."""
    field = DetailedField(reader.field)
    _, shifts = field.move(STILL, detail)
    return field.field.at(shifts[0], (place + reader.field.size / 6)[None])[0]


def test_a_cheek_that_fills_moves_though_no_landmark_has(face, reader):
    image, points = face
    way, middle = np.array([3.0, -4.0]), cheek(points)
    frame = bulged(image, middle, way, 12.0)
    found = way_at(reader.read(frame, points), reader, middle)
    assert np.abs(found - way).max() < 1.0


def test_landmarks_that_are_a_little_off_are_put_right(face, reader):
    """All of a face's landmarks lie two pixels to the right of it: the pixels say so."""
    image, points = face
    off = np.array([2.0, 1.0])
    before, after = [], []
    own = WarpedFace(image, points)
    for row in (points, points + off):
        shift = (row - points)[0] / reader.field.head.scale
        motion = replace(STILL, shift=shift)
        inside = np.s_[100:200, 90:170]
        frame = own.at(motion, reader.read(image, row))
        before.append(np.abs(own.at(motion)[inside].astype(int) - image[inside]).mean())
        after.append(np.abs(frame[inside].astype(int) - image[inside]).mean())
    assert after[0] < 1.0
    assert after[1] < 0.4 * before[1]


def test_a_face_that_has_not_moved_has_no_detail_and_light_alone_makes_none(face, reader):
    image, points = face
    assert np.abs(reader.read(image, points)).max() < 0.2
    for gain, offset in ((0.85, 6), (0.6, 30), (1.2, -10)):
        lit = np.rint(np.clip(gain * image + offset, 0, 255)).astype(np.uint8)
        assert np.abs(reader.read(lit, points)).max() < 1.5


def test_a_hand_before_one_cheek_bends_the_face_little_and_the_other_cheek_not(face, reader):
    image, points = face
    covered = image.copy()
    x, y = np.rint(cheek(points)).astype(int)
    covered[y - 24 : y + 24, x - 24 : x + 24] = np.random.default_rng(1).integers(
        60, 200, (48, 48, 3), np.uint8
    )
    lengths = np.linalg.norm(reader.read(covered, points), axis=-1)
    assert lengths.max() < 7
    assert lengths[:, SHAPE[1] // 2 + 4 :].max() < 0.3


def test_frames_that_show_something_else_have_no_detail(face, reader):
    image, points = face
    noise = np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)
    for frame in (noise, np.roll(image, 60, axis=1)):
        assert np.abs(reader.read(frame, points)).max() < 1.5


def test_a_detail_is_the_same_in_millimetres_whatever_the_pixels(face):
    small, large = DetailReader(*face), DetailReader(*portrait(512))
    details = []
    for reader, (image, points), times in ((small, face, 1), (large, portrait(512), 2)):
        frame = bulged(image, cheek(points), times * np.array([3.0, -4.0]), times * 12.0)
        details.append(reader.read(frame, points))
    strongest = np.abs(details[0]).max()
    assert strongest > 2
    assert np.abs(details[0] - details[1]).max() < 0.35 * strongest


@pytest.mark.parametrize("seed", range(4))
def test_no_detail_however_wild_folds_the_picture(face, seed):
    from scipy.ndimage import gaussian_filter

    image, points = face
    warped = WarpedFace(image, points)
    noise = np.random.default_rng(seed).normal(0, 60, SHAPE)
    wild = gaussian_filter(noise, (1.5, 1.5, 0)).astype(np.float32)
    assert np.abs(wild).max() > 15
    spacing = warped.field.spacing
    _, shifts = warped.detailed.move(STILL, wild)
    assert min(area_changes(one, spacing).min() for one in shifts[:2]) > 0


def test_beside_the_head_nothing_follows_a_detail(face):
    image, points = face
    warped = WarpedFace(image, points)
    _, shifts = warped.detailed.move(STILL, np.full(SHAPE, 6.0, np.float32))
    size = warped.field.size
    corners = np.array([[4.0, 4.0], [size - 5.0, 4.0], [4.0, size - 5.0], [size - 5.0, size - 5.0]])
    assert np.abs(warped.field.at(shifts[0], corners)).max() == 0
    nose = points[30] + warped.edge
    assert np.linalg.norm(warped.field.at(shifts[0], nose[None])) > 3


def filmed(frames: list[np.ndarray], points: np.ndarray, **about: object) -> Driving:
    return Driving("film", lambda: frames, Fraction(25), len(frames), points=points, **about)


def test_motion_counts_from_the_reference_in_details_too(face):
    """The frame that a driving counts from shows the source as it is, whichever that is."""
    image, points = face
    filled = bulged(image, cheek(points), np.array([3.0, -4.0]), 12.0)
    frames, key = [image] * 20 + [filled] * 20, uuid.uuid4().hex  # what is found is kept
    for reference, other in ((0, 39), (39, 0)):
        driving = filmed(frames, np.stack([points] * 40), reference=reference, key=key)
        method = create_method("warp")
        clip = list(method.animate(method.prepare(Source("astronaut", image)), driving))
        moved = [np.abs(frame.astype(int) - image).max() for frame in clip]
        assert moved[reference] < 8
        assert moved[other] > 40


def test_frames_in_which_the_face_is_hidden_keep_the_last_detail(face):
    image, points = face
    frame = bulged(image, cheek(points), np.array([3.0, -4.0]), 12.0)
    seen = np.stack([points] * 4)
    seen[2] = np.nan
    hidden = np.zeros_like(image)
    rows = list(Warp()._seen(filmed([image, frame, hidden, frame], seen)))
    assert np.array_equal(rows[2][70:], rows[1][70:])
    assert np.abs(rows[1][70:]).max() > 2
