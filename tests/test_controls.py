"""Spoilt clips fail what they were spoilt for, references are the driving, names tell nothing."""

import dataclasses
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from studykit.clips.animate import animate_cells
from studykit.clips.folder import study_folder
from studykit.errors import StudyError
from studykit.media import video
from studykit.media.squares import open_driving, open_source
from studykit.ratings import controls
from studykit.ratings.controls import available_clips, clip_path, shown
from studykit.ratings.design import Trial, reference
from studykit.ratings.material import Material
from studykit.study.file import Study, load_study


@pytest.fixture
def study(small_study: Path) -> Study:
    return load_study(small_study)


@pytest.fixture
def out(study: Study, tmp_path: Path) -> Path:
    """The folder of the small study with its clips."""
    folder = study_folder(study, tmp_path / "out")
    animate_cells(study, folder)
    return folder


@pytest.fixture
def talking(portrait: np.ndarray) -> list[np.ndarray]:
    """Twenty-five frames, (128, 128, 3), in which the portrait slides by half a pixel a frame."""
    return [portrait[100 : 100 + 256 : 2, i : i + 256 : 2] for i in range(100, 125)]


def steps(frames: list[np.ndarray]) -> np.ndarray:
    """Mean absolute difference of each frame to the next, in grey levels."""
    return np.abs(np.diff(np.stack(frames).astype(float), axis=0)).mean((1, 2, 3))


@pytest.mark.parametrize("spoil", [controls.frozen, controls.torn, controls.shaken])
def test_spoilt_frames_keep_number_size_and_kind_and_come_out_the_same_again(
    spoil: Callable, talking: list[np.ndarray]
) -> None:
    made = list(spoil(talking, 25.0, 7))
    assert len(made) == len(talking)
    assert {(frame.shape, frame.dtype) for frame in made} == {((128, 128, 3), np.dtype("uint8"))}
    np.testing.assert_array_equal(made, list(spoil(talking, 25.0, 7)))


def test_a_frozen_clip_does_not_move(talking: list[np.ndarray]) -> None:
    made = list(controls.frozen(talking, 25.0, 7))
    assert not steps(made).any()
    np.testing.assert_array_equal(made[0], talking[0])


def test_a_torn_clip_breaks_every_frame_into_bands_that_jump(talking: list[np.ndarray]) -> None:
    made = list(controls.torn(talking, 25.0, 7))
    for frame, whole in zip(made, talking, strict=True):
        # Rows are displaced whole, so each keeps its pixels.
        np.testing.assert_array_equal(np.sort(frame, axis=1), np.sort(whole, axis=1))
        assert np.abs(frame.astype(float) - whole).mean() > 10
    jumps = steps(made) > 3 * steps(talking).max()
    assert list(np.flatnonzero(jumps) + 1) == [4, 8, 12, 16, 20, 24]


def test_a_shaken_clip_jumps_at_every_frame_and_shows_the_same(talking: list[np.ndarray]) -> None:
    made = list(controls.shaken(talking, 25.0, 7))
    assert np.median(steps(made)) > 3 * steps(talking).max()
    reach = round(0.035 * 128)
    inner = slice(2 * reach, -2 * reach)
    for frame, whole in zip(made, talking, strict=True):
        shifts = [
            np.abs(np.roll(whole, (y, x), (0, 1))[inner, inner] - frame[inner, inner].astype(int))
            for y in range(-reach, reach + 1)
            for x in range(-reach, reach + 1)
        ]
        assert min(difference.max() for difference in shifts) == 0


def test_available_clips_are_those_that_are_there(study: Study, out: Path) -> None:
    assert len(available_clips(study, out)) == 4
    (out / "clips/anna__talk__copy.mp4").unlink()
    assert [clip.cell for clip in available_clips(study, out)] == [
        "anna__turn__copy",
        "berta__talk__copy",
        "berta__turn__copy",
    ]
    assert available_clips(study, out / "nowhere") == ()


def test_a_reference_is_the_driving_as_methods_see_it(study: Study, out: Path) -> None:
    driving = study.drivings[0]
    trial = Trial(0, "reference", reference(driving))
    files = shown(study, out, trial)
    opened, _ = open_driving(driving.path, name="talk", size=64, crop="centre")
    frames = list(video.read_frames(files.clip))
    assert len(frames) == opened.frame_count
    assert video.probe(files.clip).frame_rate == opened.frame_rate
    apart = [[np.abs(made.astype(float) - frame).mean() for frame in opened] for made in frames]
    assert list(np.argmin(apart, axis=1)) == list(range(len(frames)))
    assert np.diag(apart).max() < 6  # what the colour resolution of video leaves at 64 pixels
    first = video.read_image(files.source)
    np.testing.assert_array_equal(first, next(iter(opened)))


def test_the_source_is_shown_as_methods_see_it(study: Study, out: Path) -> None:
    clip = available_clips(study, out)[0]
    files = shown(study, out, Trial(0, "rating", clip))
    opened, _ = open_source(study.sources[0].path, name="anna", size=64, crop="centre")
    np.testing.assert_array_equal(video.read_image(files.source), opened.image)
    assert (files.driving, files.other) == (None, None)


def test_file_names_of_controls_tell_nothing(study: Study, out: Path) -> None:
    for clip in available_clips(study, out):
        for kind in ("frozen", "torn", "shaken"):
            shown(study, out, Trial(0, "gold", clip.spoilt(kind)))
    for driving in study.drivings:
        clip_path(study, out, reference(driving))
    names = [path.name for path in (out / "controls").iterdir()]
    assert len(names) == 4 * 3 + 2 + 2
    assert all(re.fullmatch(r"[0-9a-f]{32}\.(mp4|png)", name) for name in names)


def test_a_control_is_made_once_and_again_when_its_clip_changes(study: Study, out: Path) -> None:
    torn = available_clips(study, out)[0].spoilt("torn")
    first = clip_path(study, out, torn)
    changed = first.stat().st_mtime_ns
    assert clip_path(study, out, torn) == first
    assert first.stat().st_mtime_ns == changed
    base = out / "clips" / f"{torn.base}.mp4"
    base.write_bytes((out / "clips/berta__talk__copy.mp4").read_bytes())
    assert clip_path(study, out, torn) != first


def boxes(data: bytes, inside: bytes = b"") -> list[bytes]:
    """The kinds of all boxes of an mp4, each behind those that hold it."""
    found, at = [], 0
    while at < len(data):
        size, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        found.append(inside + kind)
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
            found += boxes(data[at + 8 : at + size], inside + kind)
        at += size
    return found


def test_what_raters_get_says_the_same_of_itself_whichever_clip_it_is(
    study: Study, out: Path
) -> None:
    clips = available_clips(study, out)
    older = clip_path(study, out, clips[0])  # of a version that wrote no comment
    frames, rate = list(video.read_frames(older)), video.probe(older).frame_rate
    video.write_video(older, frames, frame_rate=rate)
    of_talk = [clip for clip in clips if clip.driving == "talk"]
    spoilt = [of_talk[1].spoilt(kind) for kind in ("frozen", "torn", "shaken")]
    shown_clips = [*of_talk, *spoilt, reference(study.drivings[0])]
    material = Material(study, out)
    given = [material.lent(clip_path(study, out, clip)) for clip in shown_clips]
    said = set()
    for path in given:
        with av.open(str(path)) as opened:
            streams = tuple(str(stream.metadata) for stream in opened.streams)
            # The tables of samples follow from the pictures, as the samples themselves do.
            kinds = [kind for kind in boxes(path.read_bytes()) if b"stbl" not in kind[:-4]]
            said.add((str(opened.metadata), streams, tuple(kinds)))
    assert len(said) == 1
    for word in (b"Synthetic", b"Lavf", b"udta"):
        assert not any(word in path.read_bytes() for path in given)


@pytest.mark.parametrize("flags", ["+faststart", "-faststart"])
def test_what_raters_get_shows_and_sounds_the_same(
    talking: list[np.ndarray], tmp_path: Path, flags: str
) -> None:
    loud, clip = tmp_path / "loud.mp4", tmp_path / "clip.mp4"
    sound = (0.3 * np.sin(np.arange(48_000) / 20)).astype("f4")
    with av.open(str(loud), "w", options={"movflags": flags}) as output:
        for stream in (
            output.add_stream("libx264", rate=25),
            output.add_stream("aac", rate=48_000),
        ):
            if stream.type == "video":
                stream.width = stream.height = 128
                given = [av.VideoFrame.from_ndarray(frame) for frame in talking]
            else:
                given = [av.AudioFrame.from_ndarray(sound[None], "fltp", "mono")]
                given[0].rate = 48_000
            for frame in (*given, None):
                output.mux(stream.encode(frame))
    video.write_video(clip, talking, frame_rate=Fraction(25), like=loud, comment="a comment")
    for path in (loud, clip):
        copy = controls.bare(tmp_path, path)
        assert copy.stat().st_size < path.stat().st_size
        assert video.probe(copy) == video.probe(path) and video.probe(path).has_audio
        for read in (video.read_frames, video.read_sound):
            there, here = (np.concatenate(list(read(each))) for each in (path, copy))
            np.testing.assert_array_equal(there, here)


def test_a_clip_that_is_damaged_is_not_lent(tmp_path: Path) -> None:
    for content in (b"", b"no mp4 at all", b"\0\0\0\x08mdat"):
        (tmp_path / "clip.mp4").write_bytes(content)
        with pytest.raises(StudyError, match=r"clip.mp4 is damaged"):
            controls.bare(tmp_path, tmp_path / "clip.mp4")


def test_what_is_gone_is_named(study: Study, out: Path) -> None:
    clip = available_clips(study, out)[0]
    (out / "clips" / f"{clip.cell}.mp4").unlink()
    for lost in (clip, clip.spoilt("torn")):
        with pytest.raises(StudyError, match=r"anna__talk__copy.mp4 is gone: run the study"):
            clip_path(study, out, lost)
    smaller = dataclasses.replace(study, drivings=study.drivings[1:])
    with pytest.raises(StudyError, match='has no "talk" any more'):
        clip_path(smaller, out, reference(study.drivings[0]))
    clip = available_clips(study, out)[-1]
    study.sources[1].path.unlink()
    with pytest.raises(StudyError, match=r"berta.png can't be read"):
        shown(study, out, Trial(0, "rating", clip))
