"""Animated faces come back into their picture: seamless, steady, and nothing else of it changes."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from studykit.clips.animate import animate
from studykit.errors import NoFaceError, StudyError
from studykit.media import paste, video
from studykit.media.geometry import Crop
from studykit.media.paste import Pasting, Spot, Whole, look_at_whole
from studykit.media.squares import open_source
from studykit.media.views import View
from studykit.methods import register


@pytest.fixture(scope="module")
def pair(tmp_path_factory, portrait) -> tuple[Path, np.ndarray]:
    """A picture of two faces, side by side, of an odd size."""
    one = portrait[:241, 90:350]
    picture = np.hstack([one, one[:, ::-1]])[:, :519]
    path = tmp_path_factory.mktemp("pair") / "pair.png"
    video.write_image(path, picture)
    return path, picture


@pytest.fixture(scope="module")
def whole(pair) -> Whole:
    return look_at_whole(pair[0], "face", View(), every=True, size=None, roomy=True)


def squares_of(path: Path, spots: list[Spot]) -> list[np.ndarray]:
    return [
        open_source(path, name="pair", size=spot.size, crop="face", view=spot.view)[0].image
        for spot in spots
    ]


def face_part(spot: Spot) -> tuple[slice, slice]:
    """Rows and columns of the middle of a face."""
    (x, y), half = spot.centre, spot.extent / 4
    return slice(int(y - half), int(y + half)), slice(int(x - half), int(x + half))


def spot_at(x: int, y: int, side: int, extent: float) -> Spot:
    crop = Crop(x - side // 2, y - side // 2, side)
    return Spot("", View(), crop, (x, y), extent, side)


def test_every_face_is_found_with_its_own_square_from_left_to_right(pair, whole) -> None:
    assert [spot.place for spot in whole.asked] == [spot.place for spot in whole.spots]
    (left, y), (right, _) = (spot.centre for spot in whole.asked)
    assert abs(left - 134) < 6 and abs(right - 386) < 6 and abs(y - 120) < 6
    for spot in whole.asked:
        assert spot.size == spot.crop.side and spot.crop.left + spot.crop.side <= 519
        source, _ = open_source(pair[0], name="a", size=64, crop="face", view=spot.view)
        scale = 64 / spot.crop.side
        assert source.face == pytest.approx(
            [
                (c - o) * scale
                for c, o in zip(spot.centre, (spot.crop.left, spot.crop.top), strict=True)
            ]
        )


def test_faces_that_stay_still_give_the_picture_back(pair, whole) -> None:
    path, picture = pair
    pasted = Pasting(whole, whole.asked)(squares_of(path, whole.asked))
    assert np.abs(pasted.astype(int) - picture).max() <= 2


def test_colours_are_matched_so_that_no_seam_shows_and_stay_as_first_found(pair, whole) -> None:
    path, picture = pair
    squares = squares_of(path, whole.asked)
    tinted = [
        np.rint(square * (0.9, 0.95, 0.85) + (20, 5, 8)).astype(np.uint8) for square in squares
    ]
    assert np.abs(tinted[0].astype(int) - squares[0]).max() > 12
    pasting = Pasting(whole, whole.asked)
    assert np.abs(pasting(tinted).astype(int) - picture).max() <= 2
    # What gets darker afterwards is darker in the clip, too.
    darker = pasting([np.maximum(square, 30) - 30 for square in tinted])
    part = face_part(whole.asked[0])
    assert 25 < (picture[part].mean() - darker[part].mean()) < 40


def test_a_square_fades_before_its_border_and_leaves_the_rest_of_the_picture_alone() -> None:
    grey = np.full((200, 300, 3), 100, np.uint8)
    spot = spot_at(150, 100, 120, 50)
    pasting = Pasting(Whole(grey, [spot], [spot], []), [spot])
    pasting([grey[:120, :120]])  # so that later frames keep their colours
    pasted = pasting([np.full((120, 120, 3), 200, np.uint8)])[..., 0].astype(int)
    inside = np.zeros_like(pasted, bool)
    inside[40:160, 90:210] = True
    assert (pasted[~inside] == 100).all() and (pasted[60:140, 110:190] >= 197).all()
    rim = np.concatenate([pasted[40, 90:210], pasted[159, 90:210], pasted[40:160, 90]])
    assert rim.max() <= 101
    # Over a fade of 9 pixels, a smooth step rises by at most a sixth at once.
    steps = max(np.abs(np.diff(pasted, axis=axis)).max() for axis in (0, 1))
    assert steps <= 18


def test_a_square_at_the_pictures_border_does_not_fade_towards_it() -> None:
    grey = np.full((100, 160, 3), 100, np.uint8)
    spot = Spot("", View(), Crop(0, 0, 100), (50, 50), 50, 100)
    pasting = Pasting(Whole(grey, [spot], [spot], []), [spot])
    pasting([grey[:, :100]])
    pasted = pasting([np.full((100, 100, 3), 200, np.uint8)])
    assert (pasted[:, :80] >= 197).all() and (pasted[:, 99:] <= 101).all()


def test_of_squares_that_overlap_each_face_shows_its_own_and_none_is_seen_double() -> None:
    picture = np.full((160, 240, 3), 100, np.uint8)
    near, far = spot_at(90, 80, 120, 44), spot_at(140, 80, 120, 44)
    whole = Whole(picture, [near, far], [near, far], [])
    pasting, still = Pasting(whole, whole.asked), picture[:120, :120]
    pasting([still, still])
    bright, dark = np.full_like(still, 200), np.full_like(still, 20)
    both = pasting([bright, dark])
    assert (both[face_part(near)] >= 199).all() and (both[face_part(far)] <= 21).all()
    assert (pasting([bright, bright]) <= 200).all()  # the weights never add up to more than 1
    # A face that is not asked to move is kept from its neighbour's square.
    alone = Pasting(replace(whole, asked=[near]), [near])
    alone([still])
    assert (alone([bright])[face_part(far)] == 100).all()


def test_a_picture_larger_than_players_show_is_made_smaller(pair, monkeypatch) -> None:
    monkeypatch.setattr(paste, "_MOST_PIXELS", 519 * 241 / 4)
    small = look_at_whole(pair[0], "face", View(), every=True, size=None, roomy=True)
    assert small.picture.shape == (120, 259, 3)
    assert "519 x 241 pixels is shown at 50%" in small.notes[-1]
    assert small.asked[0].centre[0] == pytest.approx(67, abs=3)
    assert small.asked[0].place.startswith("(13")  # in pixels of the file
    squares = squares_of(pair[0], small.asked)
    assert {square.shape for square in squares} == {(128, 128, 3)}  # enlarged to the least side
    pasted = Pasting(small, small.asked)(squares)
    assert np.abs(pasted.astype(int) - small.picture).mean() < 2


@pytest.mark.parametrize("view", [View(face=2), View(face=(386, 120)), View()])
def test_one_face_is_the_one_that_is_meant(pair, view) -> None:
    one = look_at_whole(pair[0], "face", view, every=False, size=None, roomy=True)
    assert len(one.asked) == 1 and len(one.spots) == 2
    assert one.asked[0] is one.spots[1] or view.face is None


def test_a_square_that_is_named_or_centred_is_pasted_as_well(pair) -> None:
    view = View(crop=paste.Square((120.2, 110.4), 90.6))
    named = look_at_whole(pair[0], "face", view, every=False, size=None, roomy=True)
    assert named.asked[0].crop == Crop(75, 65, 91) and named.asked[0].size == 128
    centred = look_at_whole(pair[0], "centre", View(), every=False, size=64, roomy=False)
    assert centred.asked[0].crop == Crop(139, 0, 241) and centred.asked[0].size == 64


def test_both_faces_of_a_picture_move_in_step_with_the_driving(
    pair, whole, tmp_path, make_driving
) -> None:
    path, picture = pair
    driving = make_driving(tmp_path / "slide.mp4", frames=8, size=160)
    row = animate(path, driving, tmp_path / "clip.mp4", faces="all")
    assert row.frames == 8
    assert "2 faces pasted into the picture, at (134, 1" in row.note
    info = video.probe(tmp_path / "clip.mp4")
    assert (info.width, info.height, info.frame_rate) == (520, 242, 25)
    *_, last = video.read_frames(tmp_path / "clip.mp4")
    change = np.abs(last[:241, :519].astype(int) - picture).mean(axis=2)
    for spot in whole.spots:
        assert change[face_part(spot)].mean() > 8
    # Half-way between the faces, and beside them, is only what coding changes.
    assert all(change[:, part].mean() < 3 for part in (slice(8), slice(255, 264), slice(-8, None)))


def test_with_one_face_asked_for_the_other_stays(pair, whole, tmp_path, make_driving) -> None:
    path, picture = pair
    driving = make_driving(tmp_path / "slide.mp4", frames=8, size=160)
    source = {"path": str(path), "face": 2}
    row = animate(source, driving, tmp_path / "clip.mp4", method="warp", paste=True)
    assert "1 face pasted into the picture, at (38" in row.note
    *_, last = video.read_frames(tmp_path / "clip.mp4")
    change = np.abs(last[:241, :519].astype(int) - picture).mean(axis=2)
    stays, moves = (change[face_part(spot)].mean() for spot in whole.spots)
    assert stays < 3 and moves > 8


@register("shy")
@dataclass(frozen=True)
class Shy:
    """Finds no face in any picture."""

    def prepare(self, source):
        raise NoFaceError("too shy")

    def animate(self, state, driving):
        return (255 - state for _ in driving)


def test_a_face_that_can_not_be_moved_stays_and_is_noted(
    pair, whole, tmp_path, make_driving, monkeypatch
) -> None:
    path, picture = pair
    answers = iter((NoFaceError("too shy"), None))

    def prepare(self, source):
        if error := next(answers):
            raise error
        return source.image

    monkeypatch.setattr(Shy, "prepare", prepare)
    driving, clip = make_driving(tmp_path / "d.mp4", frames=2), tmp_path / "clip.mp4"
    row = animate(path, driving, clip, method="shy", crop="face-or-centre", faces="all")
    assert "1 face pasted into the picture, at (38" in row.note
    assert "left as they are, too small or turned too far: (134, 1" in row.note
    shown = next(iter(video.read_frames(clip)))[:241, :519].astype(int)
    stays, moves = (np.abs(shown - picture)[face_part(spot)].mean() for spot in whole.spots)
    assert stays < 3 and moves > 20


@pytest.mark.parametrize(
    ("source", "settings", "says"),
    [
        ({}, {"faces": "both"}, 'faces must be "one" or "all", not \'both\''),
        ({"face": 1}, {"faces": "all"}, "leave out which face or square is meant"),
        ({"crop": "centre"}, {"faces": "all"}, "leave out which face or square is meant"),
        ({"face": 3}, {"paste": True}, "shows no face 3: 2 found"),
        ({"crop": {"centre": [9, 9], "side": 90}}, {"paste": True}, "leaves the 519 x 241"),
        (
            {},
            {"faces": "all", "method": "shy"},
            r"too far to be moved: the face at \(134, 1\d\d\) \(38",
        ),
        ({"path": "plain.png"}, {"faces": "all"}, "no face found in .*plain.png"),
        ({"path": "d.mp4"}, {"paste": True}, "is a video: a source is a still image"),
    ],
)
def test_what_can_not_be_pasted_is_refused_and_leaves_no_clip(
    pair, tmp_path, make_driving, source, settings, says
) -> None:
    driving, clip = make_driving(tmp_path / "d.mp4", frames=2), tmp_path / "clip.mp4"
    video.write_image(tmp_path / "plain.png", np.full((90, 90, 3), 120, np.uint8))
    path = tmp_path / source["path"] if "path" in source else pair[0]
    given = source | {"path": str(path)}
    # The driving is tiny, and not the matter here.
    moving = {"path": str(driving), "crop": "centre"}
    with pytest.raises(StudyError, match=says):
        animate(given, moving, clip, **{"method": "copy"} | settings)
    assert not clip.exists()
