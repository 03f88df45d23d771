"""``sparse``: what PyTorch trained, graphs compute; bad landmarks never shatter a face."""

import dataclasses
import functools
import itertools
from fractions import Fraction

import numpy as np
import pytest

from studykit.errors import NoFaceError, StudyError, WeightsError
from studykit.media.faces import find_face
from studykit.media.following import points_of
from studykit.media.views import Driving, Source
from studykit.methods import _sparse_network as network, checkpoint_files, create_method, sparse
from studykit.methods._face_motion import motions
from studykit.methods._warp_geometry import fit_head, in_eyes
from studykit.methods.random_weights import astronaut_frames, random_checkpoint
from studykit.methods.sparse import moved_points
from tests import sparse_faces
from tests.checkpoints import small_config, sparse_checkpoint
from tests.sparse_faces import SPARSE as SMALL, face_pairs, head_points

SIZE = 128


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("sparse") / "random.safetensors"
    checkpoint_files.save(sparse_checkpoint(), path)
    return create_method("sparse", weights=str(path))


@pytest.fixture(scope="module")
def frames():
    return astronaut_frames(6, SIZE)


@pytest.fixture(scope="module")
def state(made, frames):
    return made.prepare(Source("her", frames[0]))


def driving_of(frames, points=None):
    return Driving("moving", lambda: frames, Fraction(25), len(frames), points=points)


def unsmoothed(frames, points):
    """A driving so slow that no landmark is smoothed."""
    return dataclasses.replace(driving_of(frames, points), frame_rate=Fraction(1, 100))


@functools.cache
def layers_of(**changes):
    """A small network's own definition in Paddle's layers."""
    return sparse_faces.layers(sparse_checkpoint(**changes))


def dense(source, driving, **changes):
    """Run it: flow, logit and global flow."""
    layers = layers_of(**changes)
    faces = network.faces(layers.shape, source[None], driving[None])
    return sparse_faces.motion(layers, sparse_faces.noise(), faces)


def test_graphs_give_what_pytorch_gives_on_16_frames():
    stored = np.load(sparse_faces.STORED)
    source, driving = face_pairs(sparse_faces.FRAMES)
    for index in range(sparse_faces.FRAMES):
        flow, logit, _ = dense(source[index], driving[index])
        assert np.abs(flow[:, ::4, ::4] - stored["flow"][index]).max() < 1e-3
        assert np.abs(logit[:, ::4, ::4] - stored["logit"][index]).max() < 1e-3


def test_what_is_rigid_is_moved_by_the_similarity_exactly():
    own = SMALL.coordinates(head_points(10, 64), 64)[None]
    turn = np.deg2rad(20)
    linear = 1.2 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    moved = own @ linear.T + [0.2, -0.1]
    faces = network.faces(SMALL, own, moved)
    back = moved @ faces.maps[0, 0, :, :2].T + faces.maps[0, 0, :, 2]
    assert np.abs(back - own).max() < 1e-6
    # A patch, cut where it is pasted, then shows the same as the flow around it.
    for index, name in enumerate(network.PARTS):
        out_of, into = faces.maps[0, 2 * index + 1], faces.maps[0, 2 * index + 2]
        marks = list(network.PARTS[name])
        within = moved[0, marks] @ into[:, :2].T + into[:, 2]
        assert np.abs(within @ out_of[:, :2].T + out_of[:, 2] - own[0, marks]).max() < 1e-6
        rest = faces.vectors[name].reshape(4, -1)[2]
        assert np.abs(rest).max() < 1e-5


def test_a_patch_changes_nothing_at_its_rim_and_beyond():
    source, driving = (points[0] for points in face_pairs(1))
    flow, _, whole = dense(source, driving)
    changed = np.abs(flow - whole).max(axis=0) > 1e-6
    faces = network.faces(SMALL, source[None], driving[None])
    line = np.linspace(-1, 1, SMALL.grid)
    places = np.stack(np.meshgrid(line, line), axis=-1)
    inside = np.zeros_like(changed)
    for index in range(len(network.PARTS)):
        into = faces.maps[0, 2 * index + 2]
        inside |= np.abs(places @ into[:, :2].T + into[:, 2]).max(axis=-1) < 1
    assert changed.any() and not (changed & ~inside).any()


@pytest.mark.parametrize("part", ["adain", "add_motion", "patches"])
def test_each_of_the_papers_parts_can_be_left_out(part):
    source, driving = (points[0] for points in face_pairs(1))
    without = dense(source, driving, **{part: False})
    assert np.isfinite(without[0]).all()
    assert len(network.tensor_shapes(SMALL)) > len(
        network.tensor_shapes(dataclasses.replace(SMALL, **{part: False}))
    )


def test_a_still_driving_gives_a_still_clip(made, state, frames):
    clip = list(made.animate(state, driving_of([frames[2]] * 3)))
    assert len(clip) == 3 and np.array_equal(clip[0], clip[2])
    assert clip[0].shape == frames[0].shape and clip[0].dtype == np.uint8
    assert "repeat" not in made.notes(state)


def test_the_source_moves_with_the_driving(made, state, frames):
    clip = list(made.animate(state, driving_of(frames)))
    assert len(clip) == len(frames)
    assert np.abs(clip[0].astype(int) - clip[3]).mean() > 1


def test_frames_without_a_face_repeat_the_one_before_and_are_counted(made, state, frames):
    black = np.zeros_like(frames[0])
    shown = [black, frames[0], frames[2], black, frames[4]]
    clip = list(made.animate(state, driving_of(shown)))
    assert np.array_equal(clip[3], clip[2]) and not np.array_equal(clip[4], clip[2])
    # Before the first face it rests.
    assert np.abs(clip[0].astype(int) - clip[1]).max() <= 1
    assert "2 of 5 frames repeat the one before" in made.notes(state)


def test_the_weights_own_network_finds_landmarks_in_what_is_rendered(made, frames, monkeypatch):
    """The frames show no face, so nothing else could."""
    blank = np.full_like(frames[0], 128)
    found = itertools.cycle(head_points(yaw, SIZE, 10) for yaw in (0, 0, 8, 16))
    monkeypatch.setattr(sparse._Engine, "landmarks", lambda *_: next(found))
    source = Source("her", blank, rendered=True)
    driving = dataclasses.replace(driving_of([blank] * 3), rendered=True)
    state = made.prepare(source)
    moved = list(made.animate(state, driving))
    assert [len(moved), made.notes(state).count("repeat")] == [3, 0]
    assert not np.array_equal(moved[0], moved[2])
    with pytest.raises(NoFaceError, match="moving: no face to move by"):
        list(made.animate(state, driving_of([blank] * 3)))
    for asked, seen in (("faces", source), ("auto", Source("her", blank))):
        with pytest.raises(NoFaceError, match="her"):
            dataclasses.replace(made, landmarks=asked).prepare(seen)
    dataclasses.replace(made, landmarks="network").prepare(Source("her", blank))


def test_coordinates_and_pixels_are_each_others_inverse():
    pixels = head_points(10, 200)
    assert np.allclose(SMALL.pixels(SMALL.coordinates(pixels, 200), 200), pixels)


def test_a_driving_without_any_face_is_refused_in_a_line(made, state, frames):
    with pytest.raises(NoFaceError, match="moving: no face to move by"):
        list(made.animate(state, driving_of([np.zeros_like(frames[0])] * 3)))


@pytest.mark.parametrize("bad", ["profile", "scattered", "huge"])
def test_landmarks_that_are_no_face_hold_the_frame(made, state, frames, bad):
    rows = np.array([head_points(yaw, SIZE) for yaw in (0, 5, 10, 15)])
    noise = np.random.default_rng(0).normal(0, SIZE / 4, (70, 2))
    rows[2] = {
        "profile": head_points(80, SIZE),
        "scattered": rows[2] + noise,
        "huge": (rows[2] - 64) * 4 + 64,
    }[bad]
    state.notes.clear()
    clip = list(made.animate(state, unsmoothed(frames[:4], rows)))
    assert np.array_equal(clip[2], clip[1])
    assert "1 of 4 frames repeat" in made.notes(state)


def test_motion_never_counts_from_a_profile(made, state, frames):
    rows = np.array([head_points(yaw, SIZE) for yaw in (80, 0, 0, 20)])
    clip = list(made.animate(state, unsmoothed(frames[:4], rows)))
    rest, *faced, turned = np.array(clip).astype(int)
    assert all(np.abs(frame - rest).mean() < 0.1 for frame in faced)
    assert np.abs(turned - rest).mean() > 1
    assert "1 of 4 frames repeat" in made.notes(state)


def test_a_source_in_profile_is_refused_in_a_line(made, frames, monkeypatch):
    face = dataclasses.replace(find_face(frames[0]), landmarks=head_points(80, SIZE)[:68])
    monkeypatch.setattr("studykit.methods.sparse.find_face", lambda *_, **__: face)
    with pytest.raises(StudyError, match=r"her: the face is turned [78]\d degrees aside"):
        made.prepare(Source("her", frames[0]))


def test_points_move_relatively_as_the_driving_and_absolutely_onto_it(frames):
    own, first = head_points(0, SIZE), head_points(3, SIZE) * 1.3
    found = head_points(3, SIZE, mouth=12) * 1.3
    found[68:] += [2, 0]
    head = fit_head(own[:68])
    for relative in (True, False):
        rows = [first, found]
        (_, rest), (_, motion) = motions(head, first, rows, relative, adapt_scale=True)
        at = moved_points(own, head, first, found, motion, relative)
        if relative:
            assert np.abs(moved_points(own, head, first, first, rest, True) - own).max() < 1e-6
            opened = at[66, 1] - own[66, 1]
            assert 0.7 < opened / (12 * SIZE / 320) < 1.3
            way = (in_eyes(found) - in_eyes(first)).mean(axis=0)
            assert np.allclose(in_eyes(at) - in_eyes(own), way, atol=1e-6)
        else:
            assert np.abs(at - found).max() < 0.5


def test_a_gpu_is_refused_in_a_line(made, frames):
    on_gpu = dataclasses.replace(made, device="gpu")
    with pytest.raises(StudyError, match="sparse runs on the CPU alone"):
        on_gpu.prepare(Source("her", frames[0]))


def test_weights_must_be_of_this_family(made, tmp_path):
    other = tmp_path / "fomm.safetensors"
    checkpoint_files.save(random_checkpoint(small_config()), other)
    source = Source("her", astronaut_frames(1, SIZE)[0])
    with pytest.raises(WeightsError, match="is a checkpoint for the method fomm: name it there"):
        create_method("sparse", weights=str(other)).prepare(source)
    with pytest.raises(WeightsError, match="is a checkpoint for the method sparse: name it"):
        create_method("fomm", weights=made.weights).prepare(source)


def test_dlibs_eyes_without_irises_are_looked_at_by_their_middles(made, state):
    blind = dataclasses.replace(state, points=points_of(None))
    blind.points[:68] = state.points[:68]
    assert np.isfinite(blind.painted(state.points)).all()
