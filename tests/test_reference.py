"""Motion counts from a frame that shows the face, lit and sharp, whatever the video begins with."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from studykit.errors import MediaError
from studykit.media import video
from studykit.media.reference import with_reference
from studykit.media.squares import open_driving
from studykit.media.views import Driving, Source, View
from studykit.methods import create_method
from studykit.stimuli import Expression, Identity, Pose, render

RATE = Fraction(25, 2)
DRIVING = Path(__file__).parents[1] / "inputs/drivings/frontal/frontal-driving-1.mp4"


@pytest.fixture(scope="module")
def talk() -> list[np.ndarray]:
    return list(video.read_frames(DRIVING))


def shown(frames: list[np.ndarray], *, key: str = "", reference: int = 0) -> Driving:
    return Driving("talk", lambda: iter(frames), RATE, len(frames), key, reference=reference)


def faded(frame: np.ndarray, share: float) -> np.ndarray:
    return (frame * share).astype(np.uint8)


def blurred(frame: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(2)))


def noise(frame: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, frame.shape, np.uint8)


@pytest.mark.parametrize(
    ("spoilt", "found"),
    [
        (lambda frames: frames, 0),
        (lambda frames: [frames[0] * 0] * 3 + frames, 3),
        (lambda frames: [255 - frames[0] * 0] * 2 + frames, 2),
        (lambda frames: [faded(f, i / 6) for i, f in enumerate(frames[:6])] + frames[6:], 5),
        (lambda frames: [blurred(f) for f in frames[:4]] + frames[4:], 4),
        (lambda frames: [noise(frames[0])] * 2 + frames, 2),
    ],
    ids=["as it is", "black", "white", "faded in", "blurred", "no face"],
)
def test_a_spoilt_frame_never_becomes_the_reference(
    talk: list[np.ndarray], spoilt: Callable, found: int
) -> None:
    driving, note = with_reference(shown(spoilt(talk), key=str(spoilt)), "first")
    assert driving.reference == found
    assert note == (
        f"motion counts from frame {found} ({found * 0.08:.2f} s), the first that is lit, sharp "
        "and shows a face"
        if found
        else ""
    )


def test_a_long_bright_title_before_the_face_is_passed_over(talk: list[np.ndarray]) -> None:
    """It is sharper and richer in contrast than anything that follows."""
    title = np.kron(np.indices((32, 32)).sum(axis=0) % 2, np.ones((8, 8)))[..., None] * 255
    frames = [np.repeat(title, 3, axis=2).astype(np.uint8)] * 40 + talk
    assert with_reference(shown(frames), "first")[0].reference == 40


def test_without_any_face_it_is_the_first_frame_that_is_lit(talk: list[np.ndarray]) -> None:
    empty = [np.roll(noise(talk[0]), i, axis=0) for i in range(6)]
    driving, note = with_reference(shown([empty[0] * 0, *empty], key="empty"), "first")
    assert driving.reference == 1
    assert note.endswith("the first that is lit and sharp, as none shows a face")
    dark, note = with_reference(shown([empty[0] * 0] * 3, key="dark"), "first")
    assert (dark.reference, note) == (0, "no frame is lit: motion counts from the first")


def test_a_second_names_a_frame_of_the_file_or_the_next_that_is_fit(
    talk: list[np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "talk.mp4"
    video.write_video(path, [*talk[:8], talk[8] * 0, *talk[9:]], frame_rate=RATE)

    def found(**view: float) -> tuple[int, str]:
        settings = View(**view)
        opened, _ = open_driving(path, name="talk", size=128, crop="face", view=settings)
        driving, note = with_reference(opened, settings.reference)
        return driving.reference, note

    assert found(reference=0.4) == (5, "")
    assert found(reference=0.4, start=0.16) == (3, "")
    reference, note = found(reference=0.64, start=0.16)
    assert (reference, note[:43]) == (7, "motion counts from frame 9 (0.72 s), the fi")
    with pytest.raises(MediaError, match="lies behind the last frame that takes part"):
        found(reference=0.8, max_frames=4)


@pytest.fixture(scope="module")
def states() -> list[tuple[Pose, Expression]]:
    moves = [
        (0, 0.9, 0),
        (-25, 0, 0),
        (24, 0, 0),
        (24, 0.7, 0),
        (0, 0, 0),
        (0, 0, 0.5),
        (12, 0, 0),
    ]
    return [
        (Pose(yaw=yaw), Expression(mouth_open=mouth, blink_left=eyes, blink_right=eyes))
        for yaw, mouth, eyes in moves
    ]


@pytest.mark.parametrize("like", [1, 2, 3, 4, 5])
def test_the_best_frame_moves_least_from_the_source(
    states: list[tuple[Pose, Expression]], like: int
) -> None:
    """The driving's person and the source's are not the same."""
    frames = [render(Identity.random(7), *state).image for state in states]
    source = Source("anna", render(Identity.random(3), *states[like]).image)
    driving, note = with_reference(shown([frames[0] * 0, *frames], key="moves"), "best", source)
    assert driving.reference == like + 1
    assert note.endswith("the nearest to the source")


def test_the_best_frame_is_like_the_face_that_is_meant(
    states: list[tuple[Pose, Expression]],
) -> None:
    frames = [render(Identity.random(7), *states[like]).image for like in (1, 2)]
    two = np.hstack([render(Identity.random(3), *states[like]).image for like in (1, 2)])
    group = np.vstack([two, np.zeros_like(two)])[:512]
    for index, middle in enumerate(((128.0, 140.0), (384.0, 140.0))):
        source = Source("anna", group, face=middle)
        assert with_reference(shown(frames, key="two"), "best", source)[0].reference == index


def test_without_a_source_the_best_frame_is_the_most_typical(
    states: list[tuple[Pose, Expression]],
) -> None:
    frames = [render(Identity.random(7), *states[i]).image for i in (2, 0, 4, 5, 4, 1, 4)]
    driving, note = with_reference(shown(frames), "best")
    assert driving.reference in (2, 4, 6)
    assert note.endswith("the most typical")


@pytest.mark.parametrize("name", ["warp", "fomm"])
def test_a_clip_is_the_same_with_and_without_black_frames_before_it(
    talk: list[np.ndarray], name: str
) -> None:
    frames = talk[:6]
    method = create_method(name)
    state = method.prepare(Source("her", frames[5]))
    expected = list(method.animate(state, shown(frames)))
    late, _ = with_reference(shown([frames[0] * 0] * 3 + frames), "first")
    assert late.reference == 3
    np.testing.assert_array_equal(list(method.animate(state, late))[3:], expected)


def test_relative_motion_is_none_at_the_reference(talk: list[np.ndarray]) -> None:
    method = create_method("warp")
    state = method.prepare(Source("her", talk[0]))
    still = method.animate(state, shown([talk[0]]))
    moved = list(method.animate(state, shown(talk[:10], reference=9)))
    # Two heads that are the same to the last digits: a pixel may be rounded otherwise.
    np.testing.assert_allclose(moved[9].astype(int), next(iter(still)), atol=1)
    assert np.abs(moved[9].astype(int) - moved[0]).mean() > 1
