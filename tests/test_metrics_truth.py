"""True frames against what the renderer itself says, and where there are none."""

import dataclasses
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from studykit.media import video
from studykit.media.squares import find_square, open_driving, open_source
from studykit.media.views import View
from studykit.metrics import truth
from studykit.metrics.pair import open_pair
from studykit.metrics.truth import Transfer, TrueFrames, find_truth, is_rendered
from studykit.stimuli import Expression, Pose, read_identity, render, transferred
from studykit.study.file import Cell, Input, MethodSpec, Study

INPUTS = Path(__file__).parents[1] / "inputs"
DRIVING = Input("frontal-driving-1", "frontal", INPUTS / "drivings/frontal/frontal-driving-1.mp4")
FIRST = Input("first-of-frontal-driving-1", "frontal", DRIVING.path)
SIDE = Input("side-1", "side", INPUTS / "sources/side/side-1.png")
PHOTO = Input("astronaut", "frontal", INPUTS / "sources/frontal/astronaut.png")
RELATIVE, ABSOLUTE = (
    MethodSpec(name, "fomm", {"relative": name == "relative"}) for name in ("relative", "absolute")
)


@pytest.fixture
def study() -> Study:
    sources = (SIDE, PHOTO)
    return Study("s", sources, (DRIVING,), (RELATIVE, ABSOLUTE), INPUTS / "s.yaml", size=128)


def truth_of(study: Study, cell: Cell) -> TrueFrames | None:
    return find_truth(study, cell, open_pair(study, cell)[1])


def _some(study: Study, cell: Cell, count: int) -> list[tuple[np.ndarray, np.ndarray | None]]:
    frames = truth_of(study, cell)
    return [next(frames) for _ in range(count)]


def _difference(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - two).mean())


def test_the_drivings_own_person_moved_relatively_is_the_driving_itself(study, tmp_path):
    """An independent way to the same pictures: a source that is the driving's first frame, as a
    rendered image with a truth file of its own."""
    truth = INPUTS / "truth/frontal-driving-1.npz"
    (tmp_path / "truth").mkdir()
    with np.load(truth) as data:
        pose, expression = data["pose"], data["expression"]
        first = {name: data[name] for name in data.files}
    first |= {"pose": pose[:1], "expression": expression[:1]}
    np.savez(tmp_path / "truth/her.npz", **first)
    state = Pose(*pose[0].tolist()), Expression(*expression[0].tolist())
    image = render(read_identity(truth), *state).image
    video.write_image(tmp_path / "sources/frontal/her.png", image)
    study = dataclasses.replace(study, crop="centre")
    source = Input("her", "frontal", tmp_path / "sources/frontal/her.png")
    driving, _ = open_driving(DRIVING.path, name="d", size=128, crop="centre")
    for method in (RELATIVE, ABSOLUTE):
        found = truth_of(study, Cell(source, DRIVING, method))
        for _, (true, _), frame in zip(range(8), found, driving, strict=False):
            assert _difference(true, frame) < 2.5  # what the video's compression changes


def test_relative_truth_begins_as_the_source_and_absolute_truth_does_not(study):
    source, _ = open_source(SIDE.path, name="side", size=128, crop=study.crop)
    relative = _some(study, Cell(SIDE, DRIVING, RELATIVE), 1)[0][0]
    absolute = _some(study, Cell(SIDE, DRIVING, ABSOLUTE), 1)[0][0]
    assert _difference(relative, source.image) < 0.5
    assert _difference(absolute, source.image) > 10


def test_a_face_mask_comes_with_every_true_frame(study):
    for cell in (Cell(SIDE, DRIVING, RELATIVE), Cell(FIRST, DRIVING, RELATIVE)):
        (_, mask), (_, later) = _some(study, cell, 2)
        assert mask.shape == (128, 128)
        assert mask.dtype == bool
        assert 0.1 < mask.mean() < 0.6
        assert (mask & later).sum() > 0.8 * mask.sum()


def test_same_identity_has_the_drivings_own_frames(study):
    found = truth_of(study, Cell(FIRST, DRIVING, RELATIVE))
    driving, _ = open_driving(DRIVING.path, name="d", size=128, crop=study.crop)
    for _, (true, _), frame in zip(range(3), found, driving, strict=False):
        np.testing.assert_array_equal(true, frame)
    source, _ = open_source(FIRST.path, name=FIRST.name, size=128, crop=study.crop)
    np.testing.assert_array_equal(source.image, next(iter(driving)))


def test_same_identity_needs_no_truth_file(study, tmp_path):
    video = tmp_path / "her.mp4"
    shutil.copy(DRIVING.path, video)
    driving = Input("her", "frontal", video)
    cell = Cell(Input("first-of-her", "frontal", video), driving, RELATIVE)
    (image, mask), *_ = _some(study, cell, 1)
    assert image.shape == (128, 128, 3)
    assert mask is None


def test_a_photograph_has_no_truth(study):
    assert truth_of(study, Cell(PHOTO, DRIVING, RELATIVE)) is None


def test_a_picture_put_in_a_rendered_ones_place_has_no_truth(study, tmp_path):
    (tmp_path / "truth").mkdir()
    shutil.copy(INPUTS / "truth/side-1.npz", tmp_path / "truth")
    (tmp_path / "sources/side").mkdir(parents=True)
    replaced = tmp_path / "sources/side/side-1.png"
    shutil.copy(SIDE.path, replaced)
    cell = Cell(Input("side-1", "side", replaced), DRIVING, RELATIVE)
    assert truth_of(study, cell) is not None
    shutil.copy(INPUTS / "sources/side/side-2.png", replaced)
    assert truth_of(study, cell) is None


def test_a_driving_as_it_was_written_has_truth_without_its_person_being_rendered(
    tmp_path, monkeypatch
):
    for name in ("drivings/side/side-driving-1.mp4", "truth/side-driving-1.npz"):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(INPUTS / name, tmp_path / name)
    driving = Input("side-driving-1", "side", tmp_path / "drivings/side/side-driving-1.mp4")
    rendered = []
    monkeypatch.setattr(truth, "_difference", lambda path, _: rendered.append(path) or np.inf)
    assert is_rendered(driving) and not rendered
    frames = list(video.read_frames(driving.path))
    video.write_video(driving.path, frames, frame_rate=Fraction(25, 2), crf=30)
    assert not is_rendered(driving) and rendered == [driving.path]


def test_transfer_is_read_from_settings_or_the_methods_defaults():
    assert Transfer.of(MethodSpec("a", "fomm", {"relative": False})) == Transfer(False, True)
    assert Transfer.of(MethodSpec("a", "fomm", {"adapt_scale": False})) == Transfer(True, False)
    for method in ("fomm", "warp", "copy", "folder"):
        assert Transfer.of(MethodSpec(method, method)) == Transfer(True, True)


def test_relative_truth_is_the_source_changed_as_the_driving_changed(study):
    """Shifted by as many of its own sizes; without scale adaptation by as many pixels."""
    states = []
    for name in ("side-1", "frontal-driving-1"):
        with np.load(INPUTS / f"truth/{name}.npz") as data:
            pairs = zip(data["pose"], data["expression"], strict=True)
            states.append([(Pose(*p.tolist()), Expression(*e.tolist())) for p, e in pairs])
    (rest,), (first, *_, now) = states[0], states[1][:10]
    squares = [find_square(item.path, study.crop)[0] for item in (SIDE, DRIVING)]
    side, identity = squares[0].side, read_identity(INPUTS / "truth/side-1.npz")
    for adapt_scale in (True, False):
        spec = MethodSpec("m", "fomm", {"adapt_scale": adapt_scale})
        image, _ = _some(study, Cell(SIDE, DRIVING, spec), 10)[-1]
        factor = None if adapt_scale else side / squares[1].side
        state = transferred(rest, first, now, shift_factor=factor)
        expected = squares[0].apply(render(identity, *state, size=256).image, 128)
        np.testing.assert_array_equal(image, expected)


def test_a_file_of_somebody_elses_in_a_folder_named_truth_is_no_truth(study, tmp_path):
    (tmp_path / "truth").mkdir()
    np.savez(tmp_path / "truth/side-1.npz", depth=np.zeros(3))
    source = tmp_path / "side-1.png"
    shutil.copy(SIDE.path, source)
    assert truth_of(study, Cell(Input("side-1", "side", source), DRIVING, RELATIVE)) is None


def test_truth_follows_the_range_of_a_driving_and_counts_from_its_reference(study):
    """Frames 3 to 8 of the file, and motion since frame 6 of it."""
    view = View(start=0.24, end=0.72, reference=0.48)
    driving = dataclasses.replace(DRIVING, view=view)
    frames = list(truth_of(study, Cell(SIDE, driving, RELATIVE)))
    assert len(frames) == 6
    source, _ = open_source(SIDE.path, name="side", size=128, crop=study.crop)
    assert [_difference(image, source.image) < 0.5 for image, _ in frames] == [
        *(False,) * 3, True, *(False,) * 2
    ]  # fmt: skip
    opened, _ = open_driving(DRIVING.path, name="d", size=128, crop=study.crop, view=view)
    first = dataclasses.replace(FIRST, view=view)
    own = list(truth_of(study, Cell(first, driving, RELATIVE)))
    np.testing.assert_array_equal([image for image, _ in own], list(opened))
    source, _ = open_source(FIRST.path, name="first", size=128, crop=study.crop, view=view)
    np.testing.assert_array_equal(source.image, own[3][0])
    study = dataclasses.replace(study, crop="centre")
    part, whole = (
        list(truth_of(study, Cell(dataclasses.replace(FIRST, view=each.view), each, RELATIVE)))
        for each in (driving, DRIVING)
    )
    np.testing.assert_array_equal(part[3][1], whole[6][1])
