"""Sources that are taken from videos, and files that are neither image nor video."""

import numpy as np
import pytest
from PIL import Image

from studykit.errors import MediaError
from studykit.media import video
from studykit.media.squares import find_square, is_video, open_driving, open_source


def test_a_video_as_source_gives_the_first_square_of_that_driving(tmp_path, make_driving):
    path = make_driving(tmp_path / "talk.mp4", size=256)
    for crop in ("face", "centre"):
        source, note = open_source(path, name="first-of-talk", size=64, crop=crop)
        driving, _ = open_driving(path, name="talk", size=64, crop=crop)
        np.testing.assert_array_equal(source.image, next(iter(driving)))
        assert source.name == "first-of-talk"
        assert note == ""


def test_the_square_is_sought_where_the_driving_seeks_it(tmp_path, portrait):
    """The first frame shows no face, so that the square is found on the second."""
    face = portrait[:256, 96:352]
    path = tmp_path / "late.mp4"
    video.write_video(path, [np.full_like(face, 128), face, face], frame_rate=25)
    source, _ = open_source(path, name="late", size=64, crop="face")
    assert np.ptp(source.image.astype(int)) < 8
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
