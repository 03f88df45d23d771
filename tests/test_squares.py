"""Sources that are taken from videos, and files that are neither image nor video."""

import numpy as np
import pytest
from PIL import Image

from studykit.errors import MediaError, NoFaceError
from studykit.media import video
from studykit.media.faces import find_faces
from studykit.media.geometry import Crop, chosen_face
from studykit.media.squares import find_square, is_video, open_driving, open_source
from studykit.media.views import Square, View


def test_a_video_as_source_gives_the_first_square_of_that_driving(tmp_path, make_driving):
    path = make_driving(tmp_path / "talk.mp4", size=256)
    for crop in ("face", "centre"):
        source, note = open_source(path, name="first-of-talk", size=64, crop=crop)
        driving, _ = open_driving(path, name="talk", size=64, crop=crop)
        np.testing.assert_array_equal(source.image, next(iter(driving)))
        assert source.name == "first-of-talk"
        assert note == ""


def test_the_square_is_sought_where_the_driving_seeks_it(tmp_path, portrait):
    """The first frame shows no face, so that square and reference are found on the second."""
    face = portrait[:256, 96:352]
    path = tmp_path / "late.mp4"
    video.write_video(path, [np.full_like(face, 128), face, face], frame_rate=25)
    source, note = open_source(path, name="late", size=64, crop="face")
    driving, _ = open_driving(path, name="late", size=64, crop="face")
    np.testing.assert_array_equal(source.image, list(driving)[1])
    assert note.startswith(
        "no face in 1 of 3 frames, first at 0.00 s: interpolated; motion counts from frame 1"
    )
    assert find_square(path, "face")[0].side < 256


def test_an_image_is_no_video_and_an_animated_gif_is_one(tmp_path, portrait):
    still, moving, picture = (tmp_path / name for name in ("still.gif", "moving.gif", "a.png"))
    frames = [Image.fromarray(portrait[:64, :64]), Image.fromarray(portrait[8:72, :64])]
    frames[0].save(still)
    frames[0].save(moving, save_all=True, append_images=frames[1:])
    video.write_image(picture, portrait[:64, :64])
    assert [is_video(path) for path in (still, moving, picture)] == [False, True, False]


@pytest.mark.parametrize("name", ["notes.txt", "picture.png"])
def test_what_is_neither_is_refused_as_no_image(tmp_path, name):
    path = tmp_path / name
    path.write_text("not a picture")
    with pytest.raises(MediaError, match="not an image"):
        open_source(path, name="x", size=64, crop="centre")


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(MediaError, match=r"gone\.png"):
        open_source(tmp_path / "gone.png", name="x", size=64, crop="centre")


def test_the_frames_of_a_range_are_those_frames_of_the_file(tmp_path, make_driving):
    path = make_driving(tmp_path / "talk.mp4", frames=12)
    opened = {
        view: open_driving(path, name="talk", size=64, crop="centre", view=view)[0]
        for view in (View(), View(start=0.08, end=0.32), View(start=0.1, max_frames=3))
    }
    frames, *ranges = (list(driving) for driving in opened.values())
    assert [(d.first, d.frame_count) for d in opened.values()] == [(0, 12), (2, 6), (3, 3)]
    np.testing.assert_array_equal(ranges[0], frames[2:8])
    np.testing.assert_array_equal(ranges[1], frames[3:6])
    assert len({driving.key for driving in opened.values()}) == 3


def test_a_range_without_motion_is_refused(tmp_path, make_driving):
    path = make_driving(tmp_path / "talk.mp4", frames=12)
    with pytest.raises(MediaError, match=r"shows 0 frames from 3 s and ends at 0\.48 s"):
        open_driving(path, name="talk", size=64, crop="centre", view=View(start=3))
    with pytest.raises(MediaError, match=r"shows 1 frames from 0\.1 to 0\.14 s"):
        open_driving(path, name="talk", size=64, crop="centre", view=View(start=0.1, end=0.14))


def test_the_face_that_is_named_is_in_the_square(tmp_path, portrait):
    pair = np.hstack([portrait[:300, 60:360], portrait[:300, 60:360][:, ::-1]])
    path = tmp_path / "pair.png"
    video.write_image(path, pair)
    centres = [s.left + s.side / 2 for s in (square_of(path, face=1), square_of(path, face=2))]
    assert 100 < centres[0] < 220 < 380 < centres[1] < 500
    assert square_of(path, face=(centres[1], 130)) == square_of(path, face=2)
    with pytest.raises(NoFaceError, match="shows no face 3: 2 found, numbered from left to right"):
        square_of(path, face=3)
    with pytest.raises(NoFaceError, match=r"shows no face \[5, 5\]"):
        square_of(path, face=(5, 5))


@pytest.mark.parametrize("crop", ["face", Square((300, 150), 300)])
@pytest.mark.parametrize("number", [1, 2])
def test_a_method_gets_a_point_in_the_face_whose_number_is_named(tmp_path, portrait, number, crop):
    """Also where both faces are in the square."""
    pair = np.hstack([portrait[:300, 60:360], portrait[:300, 60:360][:, ::-1]])
    path = tmp_path / "pair.png"
    video.write_image(path, pair)
    view = View(face=number, crop=crop, margin=1.5)
    source, _ = open_source(path, name="a", size=256, crop="face", view=view)
    (face,) = (f for f in find_faces(source.image) if chosen_face([f], source.face))
    square = square_of(path, face=number, crop=crop, margin=1.5)
    middle = square.left + face.centre[0] * square.side / 256
    assert (middle > 300) == (number == 2)


def test_a_video_as_source_has_a_point_in_its_named_face(tmp_path, make_driving):
    path = make_driving(tmp_path / "talk.mp4", size=256)
    source, _ = open_source(path, name="a", size=128, crop="face", view=View(face=1))
    assert chosen_face(find_faces(source.image), source.face)


def test_a_square_is_named_by_hand_or_has_another_margin(tmp_path, portrait):
    path = tmp_path / "a.png"
    video.write_image(path, portrait)
    assert square_of(path, crop=Square((200, 150), 100)) == Crop(150, 100, 100)
    with pytest.raises(MediaError, match=r"leaves the 512 x 512 pixels of .*make it smaller"):
        square_of(path, crop=Square((30, 150), 100))
    assert square_of(path, crop="centre") == Crop(0, 0, 512)
    assert square_of(path, margin=0.25).side == pytest.approx(0.75 * square_of(path).side, abs=1)
    source, _ = open_source(path, name="a", size=64, crop="centre", view=View(face=1))
    assert np.array_equal(source.image, open_source(path, name="a", size=64, crop="face")[0].image)


def square_of(path, **view):
    return find_square(path, "face", View(**view))[0]


def test_what_lies_around_a_source_is_the_picture_and_beyond_it_its_border_blurred(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (90, 160, 3), np.uint8)
    video.write_image(tmp_path / "wide.png", image)
    source, _ = open_source(tmp_path / "wide.png", name="wide", size=90, crop="centre")
    edge = 90 // 4
    assert source.around.shape == (90 + 2 * edge, 90 + 2 * edge, 3)
    inner = source.around[edge:-edge, edge:-edge].astype(int)
    assert np.array_equal(inner, source.image)
    # Left and right the picture goes on; above and below its border does, blurrier with distance.
    assert np.array_equal(source.around[edge:-edge, :edge], image[:, 35 - edge : 35])
    above = source.around[:edge, edge:-edge].astype(float)
    assert np.abs(above[-1] - image[0, 35:-35]).mean() < 30
    assert np.all(np.diff(above.std(axis=1).mean(axis=1)) > 0)
    assert above[0].std(axis=0).max() < 0.3 * image.std()
