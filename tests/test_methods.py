"""Every way to animate, at what those who built such systems tried: one table, the same demands."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studykit import stimuli
from studykit.clips.animate import animate
from studykit.errors import StudyError
from studykit.media import video
from studykit.media.dlib_faces import identity_embedding
from studykit.media.faces import find_face
from studykit.media.views import Driving, Source
from studykit.methods import create_method, method_names
from studykit.metrics.cases import identity_of, states_of

# Clips and programs of others have tests of their own.
WAYS = sorted(set(method_names()) - {"folder", "command"})
MOVING = sorted(set(WAYS) - {"copy"})
HOLDING = ("regions", "sparse")  # what is no face, or a face turned away
ONE_PERSON = 0.5  # dlib's embeddings: 0.6 parts two people
SIDE = 128
MOTIONS = (0, 1, 5, 7)  # at rest, mouth, turn, nod


@pytest.fixture(scope="module")
def shown() -> list[np.ndarray]:
    identity, states = identity_of(0), list(states_of(0))
    return [stimuli.render(identity, *states[k], size=256).image for k in MOTIONS]


@pytest.fixture(scope="module")
def inputs(shown: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    face = Image.fromarray(shown[0])
    face.save(folder / "face.png")
    face.save(folder / "face.jpg", quality=95)
    face.resize((90, 90)).save(folder / "tiny.png")
    face.resize((2400, 2400)).save(folder / "vast.png")
    another, states = identity_of(2), list(states_of(0))
    other = [stimuli.render(another, *states[k], size=256).image for k in MOTIONS]
    for name, frames in (("moves", shown), ("rests", shown[:1] * 4), ("other", other)):
        video.write_video(folder / f"{name}.mp4", iter(frames), frame_rate=Fraction(25))
    whole = (folder / "moves.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "words.mp4").write_text("no video")
    (folder / "words.png").write_text("no picture")
    return folder


def animated(inputs: Path, out: Path, way: str, source: str, driving: str) -> tuple:
    clip = out / "clip.mp4"
    row = animate(
        inputs / source,
        inputs / driving,
        clip,
        method=way,
        size=SIDE,
        watch=lambda *_: None,
    )
    return np.stack(list(video.read_frames(clip))), row


def small(frame: np.ndarray) -> np.ndarray:
    return frame.reshape(SIDE, 2, SIDE, 2, 3).mean((1, 3)).astype(np.uint8)


def moved(clip: np.ndarray) -> float:
    return float(np.abs(clip[1:].astype(float) - clip[0]).mean((1, 2, 3)).max())


@pytest.mark.parametrize("way", WAYS)
def test_valid_inputs_become_a_clip_that_moves_as_driven_and_shows_the_source(
    way: str, inputs: Path, shown: list[np.ndarray], tmp_path: Path
) -> None:
    clip, row = animated(inputs, tmp_path, way, "face.png", "moves.mp4")
    assert len(clip) == len(shown) == row.frames
    assert moved(clip) < 1 if way == "copy" else moved(clip) > 1.5
    assert ("nothing moves" in row.note) is False
    alike = np.corrcoef(clip[0].ravel(), clip[-1].ravel())[0, 1]
    assert alike > 0.8


@pytest.mark.parametrize("way", WAYS)
def test_a_clip_shows_the_sources_person_whoever_drives(
    way: str, inputs: Path, tmp_path: Path
) -> None:
    clip, _ = animated(inputs, tmp_path, way, "face.png", "other.mp4")

    def person(image: np.ndarray) -> np.ndarray:
        face = find_face(image, name="frame", finder="dlib")
        return identity_embedding(image, face.landmarks)

    kept, other = (
        np.linalg.norm(person(clip[-1]) - person(image))
        for image in (clip[0], next(video.read_frames(inputs / "other.mp4")))
    )
    assert kept < ONE_PERSON and kept < other


@pytest.mark.parametrize("what", ["no face", "a face turned away"])
@pytest.mark.parametrize("way", HOLDING)
def test_what_cannot_be_followed_holds_the_frame_and_is_noted(
    way: str, what: str, inputs: Path, shown: list[np.ndarray]
) -> None:
    pose, look = states_of(0)[0]
    turned = [dataclasses.replace(pose, yaw=yaw) for yaw in (70.0, 85.0)]
    bad = [stimuli.render(identity_of(0), state, look, size=256).image for state in turned]
    bad = [np.full_like(shown[0], 128)] * 2 if what == "no face" else bad
    frames = list(map(small, [shown[0], shown[2], *bad, shown[3]]))
    method = create_method(way)
    state = method.prepare(Source("face", frames[0]))
    driving = Driving("away", lambda: frames, Fraction(25), len(frames), rendered=True)
    clip = list(method.animate(state, driving))
    assert not np.array_equal(clip[1], clip[0]) and not np.array_equal(clip[4], clip[3])
    assert np.array_equal(clip[2], clip[1]) and np.array_equal(clip[3], clip[1])
    assert "repeat the one before" in method.notes(state)


@pytest.mark.parametrize("way", MOVING)
def test_a_driving_that_rests_gives_a_clip_that_rests_and_a_note(
    way: str, inputs: Path, tmp_path: Path
) -> None:
    clip, row = animated(inputs, tmp_path, way, "face.png", "rests.mp4")
    assert moved(clip) < 1
    assert "nothing moves: the driving hardly does" in row.note


@pytest.mark.parametrize("source", ["face.jpg", "tiny.png", "vast.png"])
@pytest.mark.parametrize("way", MOVING)
def test_pictures_of_any_kind_and_size_are_taken(
    way: str, source: str, inputs: Path, tmp_path: Path
) -> None:
    clip, _ = animated(inputs, tmp_path, way, source, "moves.mp4")
    assert clip.shape[1:] == (SIDE, SIDE, 3) and moved(clip) > 1.5


@pytest.mark.parametrize(
    ("source", "driving", "named"),
    [
        ("words.png", "moves.mp4", "words.png"),
        ("face.png", "words.mp4", "words.mp4"),
        ("face.png", "cut.mp4", "cut.mp4"),
        ("none.png", "moves.mp4", "none.png"),
        ("face.png", "none.mp4", "none.mp4"),
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_what_is_missing_or_no_picture_or_video_is_refused_in_a_line_that_names_it(
    way: str, source: str, driving: str, named: str, inputs: Path, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=named) as error:
        animated(inputs, tmp_path, way, source, driving)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())
