import math
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import pytest
import skimage
from skimage.draw import polygon2mask

import studykit.stimuli as stimuli
from studykit.errors import NoFaceError
from studykit.media.faces import find_face
from studykit.media.following import points_of
from studykit.media.geometry import face_crop
from studykit.media.pose import head_pose
from studykit.media.views import Driving, Source
from studykit.methods import create_method
from studykit.methods._face_motion import OneEuroFilter
from studykit.methods._warp_geometry import (
    GRID,
    LOWER_LIDS,
    UPPER_LIDS,
    Field,
    Motion,
    area_changes,
    fit_head,
    gaze_since,
    motion_since,
    moved_landmarks,
)
from studykit.methods._warp_kernels import invert, look_up, sample
from studykit.methods._warp_paint import Slit, mouth_slit, with_shut_lips, with_whole_eyes
from studykit.methods.warp import WarpedFace, limited, scaled

STILL = Motion(np.zeros(3), 0.0, np.zeros(2), np.zeros((68, 2)), 1.0)


def motion(**changes: object) -> Motion:
    return Motion(**{**STILL.__dict__, **changes})


def opened_mouth(millimetres: float) -> np.ndarray:
    """The expression of a jaw that drops."""
    expression = np.zeros((68, 2))
    expression[[55, 56, 57, 58, 59, 65, 66, 67], 1] = millimetres
    expression[6:11, 1] = 0.8 * millimetres
    expression[[5, 11, 48, 54, 60, 64], 1] = 0.3 * millimetres
    return expression


def lip_masks(points: np.ndarray) -> list[np.ndarray]:
    """Where the outer and the inner lips' landmarks enclose a (256, 256) picture."""
    return [polygon2mask((256, 256), points[lips, ::-1]) for lips in (slice(48, 60), slice(60, 68))]


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    photo = skimage.data.astronaut()
    return face_crop(find_face(photo), photo.shape).apply(photo, 256)


@pytest.fixture(scope="module")
def warped(astronaut) -> WarpedFace:
    return create_method("warp").prepare(Source("astronaut", astronaut))


@pytest.fixture(scope="module")
def turning() -> list[stimuli.Frame]:
    """A rendered head that turns to the image's right, tilts and opens its mouth."""
    identity = stimuli.Identity.random(5)
    return [
        stimuli.render(
            identity,
            stimuli.Pose(yaw=18 * part, roll=6 * part),
            stimuli.Expression(mouth_open=0.7 * part),
        )
        for part in np.linspace(0, 1, 8)
    ]


def driving(frames: Iterable[np.ndarray], name: str = "drv", rate: int = 25) -> Driving:
    frames = list(frames)
    return Driving(name, lambda: iter(frames), Fraction(rate), len(frames))


def animate(source: np.ndarray, frames: Iterable[np.ndarray], **settings) -> list[np.ndarray]:
    method = create_method("warp", **settings)
    return list(method.animate(method.prepare(Source("src", source)), driving(frames)))


def eye_aspect(image: np.ndarray) -> float:
    points = find_face(image).landmarks
    heights = np.linalg.norm(points[LOWER_LIDS] - points[UPPER_LIDS], axis=1).mean()
    return float(heights / np.linalg.norm(points[[39, 45]] - points[[36, 42]], axis=1).mean())


def inner_lip_distance(image: np.ndarray) -> float:
    points = find_face(image).landmarks
    return float(np.linalg.norm(points[[65, 66, 67]] - points[[63, 62, 61]], axis=1).mean())


def test_a_still_driving_leaves_the_source_as_it_is(astronaut, turning):
    for frame in animate(astronaut, [turning[0].image] * 4):
        assert np.abs(frame.astype(int) - astronaut).max() <= 1


def test_on_a_rendered_pair_the_clip_follows_the_driving_and_a_copy_does_not(turning):
    source = turning[0].image
    last = animate(source, [frame.image for frame in turning])[-1]
    truth = turning[-1].landmarks[17:]
    error = np.linalg.norm(find_face(last).landmarks[17:] - truth, axis=1).mean()
    copied = np.linalg.norm(find_face(source).landmarks[17:] - truth, axis=1).mean()
    assert error < 0.5 * copied


def test_the_head_turns_and_tilts_as_the_driving_does(astronaut, turning):
    last = animate(astronaut, [frame.image for frame in turning])[-1]
    before, after = (head_pose(find_face(i).landmarks, i.shape) for i in (astronaut, last))
    assert 5 < after.yaw - before.yaw < 22
    assert 3 < after.roll - before.roll < 10


def test_turning_shifts_the_nose_more_than_the_cheeks(warped):
    """What sets a turn apart from a slide."""
    turn = np.deg2rad([0.0, 12.0, 0.0])
    moved, _ = warped.field.move(motion(turn=turn))
    shift = (moved - warped.field.head.landmarks)[:, 0]
    assert shift[30] > shift[[36, 45]].mean() + 3
    assert shift[[36, 45]].mean() > shift[[0, 16]].mean() + 3


def test_the_mouth_opens_with_the_driving(astronaut, turning):
    mouths = [frame.image for frame in turning]
    source = stimuli.render(stimuli.Identity.random(7)).image
    clip = animate(source, mouths)
    assert inner_lip_distance(source) < 2
    assert inner_lip_distance(clip[-1]) > 6


def test_an_open_mouth_closes_when_the_driving_closes():
    identity = stimuli.Identity.random(7)
    open_, shut = (
        stimuli.render(identity, expression=stimuli.Expression(mouth_open=part)).image
        for part in (0.5, 0.0)
    )
    clip = animate(open_, [open_] * 2 + [shut] * 10)
    assert inner_lip_distance(clip[0]) > 5
    assert inner_lip_distance(clip[-1]) < 2.5


def test_an_opened_mouth_is_dark_inside_and_not_a_smear_of_lips():
    source = stimuli.render(stimuli.Identity.random(7)).image
    face = create_method("warp").prepare(Source("src", source))
    wide = motion(expression=opened_mouth(22))
    landmarks = face.field.move(limited(wide))[0] - face.edge
    middle = np.rint(0.35 * landmarks[62] + 0.65 * landmarks[66]).astype(int)
    inside = face.at(wide)[middle[1] - 1 : middle[1] + 2, middle[0] - 2 : middle[0] + 3]
    outer = face.field.head.landmarks[[51, 57]] - face.edge
    lips = sample(source.astype(np.float32), outer).mean()
    assert inside.mean() < 0.6 * lips


def test_lips_never_cross(warped):
    pressed = motion(expression=opened_mouth(-20))
    landmarks, _ = warped.field.move(pressed)
    up = np.array([0.0, 1.0])
    assert ((landmarks[[67, 66, 65]] - landmarks[[61, 62, 63]]) @ up).min() > -1.0


def test_blinking_closes_the_eyes(astronaut, warped):
    shut = warped.at(motion(eye_opening=0.0))
    assert eye_aspect(shut) < 0.65 * eye_aspect(astronaut)
    # No eyeball is left: neither the white nor the iris, but skin and one line of lashes.
    eyes = warped.field.head.landmarks[36:42] - warped.edge
    left, top = eyes.min(axis=0).astype(int)
    right, bottom = eyes.max(axis=0).astype(int) + 1
    before = astronaut[top:bottom, left:right].mean(axis=2)
    after = shut[top:bottom, left:right].mean(axis=2)
    assert (after < 90).mean() < 0.5 * (before < 90).mean()


def test_shut_lids_leave_no_white_between_them(astronaut):
    """Landmarks lie inside the eyes: what is white beside them would show where lids meet."""
    points = points_of(find_face(astronaut))
    image = astronaut.copy()
    eyes = [mesh.mean(axis=0) for mesh in (points[36:42], points[42:48])]
    rows, columns = np.mgrid[:256, :256]
    for eye, corners in zip(eyes, (points[[36, 39]], points[[42, 45]]), strict=True):
        half = np.linalg.norm(corners[1] - corners[0]) / 2
        away = np.hypot(columns - eye[0], 2.2 * (rows - eye[1])) / half
        image[away < 1.0] = 250
    shut = WarpedFace(image, points).at(motion(eye_opening=0.0))
    near = [np.hypot(columns - x, 2.2 * (rows - y)) < 12 for x, y in eyes]
    white = [(frame[near[0] | near[1]].min(axis=1) > 225).mean() for frame in (image, shut)]
    assert white[0] > 0.5 and white[1] < 0.02


def test_the_irises_look_where_the_drivings_do():
    identity = stimuli.Identity.random(5)
    frames = [
        stimuli.render(identity, stimuli.Pose(), stimuli.Expression(gaze_x=look)).image
        for look in (0.0, 25.0, -25.0)
    ]
    found = [points_of(find_face(frame, finder="mediapipe")) for frame in frames]
    clip = [frames[0]] + [
        WarpedFace(frames[0], found[0]).at(motion(gaze=gaze_since(found[0], points)))
        for points in found[1:]
    ]
    looks = [
        gaze_since(found[0], points_of(find_face(frame, finder="mediapipe")))[0] for frame in clip
    ]
    truth = [gaze_since(found[0], points)[0] for points in found]
    assert abs(truth[1] - truth[2]) > 0.2
    assert 0.4 < (looks[1] - looks[2]) / (truth[1] - truth[2]) < 1.1


def test_without_irises_there_is_no_gaze(astronaut):
    unknown = points_of(find_face(astronaut, finder="dlib"))
    assert not gaze_since(unknown, unknown).any()
    face = WarpedFace(astronaut, unknown)
    assert np.array_equal(face.at(motion(gaze=np.array([0.2, 0.0]))), face.at(STILL))


def test_lips_stay_inside_the_outline_of_a_face_that_turns(warped):
    wide = np.zeros((68, 2))
    wide[[48, 60]], wide[[54, 64]] = (-14, 0), (14, 0)
    for side in (-1, 1):
        turned = motion(turn=np.array([0, side * 0.5, 0]), expression=wide)
        landmarks, _ = warped.field.move(turned)
        left = np.interp(landmarks[48, 1], landmarks[:9, 1], landmarks[:9, 0])
        right = np.interp(landmarks[54, 1], landmarks[16:7:-1, 1], landmarks[16:7:-1, 0])
        room = 5 * warped.field.head.scale
        assert landmarks[48, 0] - left > room and right - landmarks[54, 0] > room


def test_the_chin_drops_with_a_lip_that_drops_alone(warped):
    """Detectors hold the chin up; a jaw is one bone."""
    lip = np.zeros((68, 2))
    lip[[55, 56, 57, 58, 59, 65, 66, 67], 1] = 15
    landmarks, _ = warped.field.move(motion(expression=lip))
    dropped = (landmarks - warped.field.head.landmarks)[8, 1] / warped.field.head.scale
    assert 4 < dropped < 12


def test_motion_saturates_only_near_its_bounds():
    small = limited(motion(turn=np.array([0.1, 0.2, 0.1]), shift=np.array([15.0, 0.0])))
    assert small.turn == pytest.approx([0.1, 0.2, 0.1], rel=0.02)
    assert small.shift == pytest.approx([15, 0], rel=0.02)
    wild = limited(motion(turn=np.full(3, 5.0), growth=5.0, shift=np.array([0.0, 500.0])))
    assert np.rad2deg(wild.turn) == pytest.approx([24, 34, 30], rel=0.01)
    assert wild.shift[1] == pytest.approx(45, rel=0.01) and wild.growth < 0.201


def test_a_blink_is_told_from_a_squint_and_from_noise(warped):
    """dlib sees a shut eye as one little more than half as open as before."""
    landmarks = warped.field.head.landmarks
    reference = fit_head(landmarks)

    def opening(ratio: float) -> float:
        points = landmarks.copy()
        points[UPPER_LIDS] = ratio * points[UPPER_LIDS] + (1 - ratio) * points[LOWER_LIDS]
        return motion_since(reference, points).eye_opening

    assert opening(1.0) == pytest.approx(1)
    assert opening(0.95) == pytest.approx(0.95, abs=0.01)
    assert 0.2 < opening(0.75) < 0.7
    assert opening(0.55) == 0


def test_eyes_larger_than_their_landmarks_are_closed_whole(astronaut):
    """Paint white around the landmarks of an eye: the points move out over it, no further."""
    landmarks = find_face(astronaut).landmarks
    image = np.full_like(astronaut, (200, 150, 130))
    centre = landmarks[36:42].mean(axis=0)
    rows, columns = np.mgrid[:256, :256]
    half = np.ptp(landmarks[36:40, 0]) / 2
    image[np.hypot((columns - centre[0]) / 1.3, rows - centre[1]) < half] = 250
    moved = with_whole_eyes(image, landmarks)
    assert landmarks[36, 0] - moved[36, 0] == pytest.approx(0.3 * half, abs=2)
    others = np.r_[:36, 42:68]
    assert np.array_equal(moved[others], landmarks[others])
    photo = with_whole_eyes(astronaut, landmarks)
    assert np.linalg.norm(photo - landmarks, axis=1).max() < 2, "good landmarks stay"


def test_hair_at_the_border_goes_with_the_head(astronaut):
    """Held at the picture's border, it would be sheared; what lies beyond comes in."""
    image = np.ascontiguousarray(astronaut[:216, 40:])  # the hair begins at the left border
    face = WarpedFace(image, points_of(find_face(image)))
    nodes = face.field.nodes.reshape(GRID, GRID, 2) - face.edge
    left = (np.abs(nodes[..., 0]) < 2) & (np.abs(nodes[..., 1] - 80) < 20)
    _, shifts = face.field.move(motion(shift=np.array([12.0, 0.0])))
    assert shifts[2][left, 0].min() > 0.5 * 12 * face.field.head.scale


def test_what_lies_around_a_source_comes_in_where_it_moves(astronaut):
    image, face = astronaut, find_face(astronaut)
    around = np.pad(image, ((64, 64), (64, 64), (0, 0)), mode="edge")
    around[:60] = (255, 0, 0)
    down = motion(shift=np.array([0.0, 30.0]))
    red, plain = (
        WarpedFace(image, points_of(face), given).at(down)[:6, 100:156].astype(int)
        for given in (around, None)
    )
    assert (red[..., 0] - red[..., 1]).max() > 150
    assert (plain[..., 0] - plain[..., 1]).max() < 60


def test_a_mouth_that_opens_wide_folds_no_lip_of_a_face_seen_from_the_side():
    side = stimuli.render(stimuli.Identity.random(5), stimuli.Pose(yaw=48))
    field = Field(fit_head(side.landmarks), 256)
    landmarks, shifts = field.move(motion(expression=opened_mouth(45)))
    x, y = side.landmarks[48:].mean(axis=0)
    nodes = field.nodes.reshape(GRID, GRID, 2)
    near = np.hypot(nodes[..., 0] - x, nodes[..., 1] - y) < 12
    rows, columns = (slice(index.min(), index.max() + 1) for index in np.nonzero(near))
    assert min(area_changes(s[rows, columns], field.spacing).min() for s in shifts[:2]) > 0.05
    assert np.linalg.norm(landmarks[66] - landmarks[62]) > 5 * field.head.scale, "it opens"


def test_no_dark_line_parts_a_smiles_teeth_from_the_lip_above(astronaut):
    """Where landmarks lie a little above the teeth, as of laughing mouths, what is there stays."""
    points = points_of(find_face(astronaut))
    points[[61, 62, 63]] -= [0, 3]
    face = WarpedFace(astronaut, points)
    places = points[[61, 62, 63]] + [0, 1]
    before = sample(astronaut.astype(np.float32), places).mean()
    wide = motion(expression=opened_mouth(18))
    moved = face.field.move(limited(wide))[0][[61, 62, 63]] - face.edge + [0, 1]
    after = sample(face.at(wide).astype(np.float32), moved).mean()
    assert after > 0.85 * before


def test_a_mouth_is_grey_in_a_grey_picture_and_coloured_in_others(astronaut, warped):
    wide = motion(expression=opened_mouth(22))
    grey = np.repeat(astronaut.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    made = WarpedFace(grey, points_of(find_face(astronaut))).at(wide).astype(int)
    assert np.ptp(made, axis=2).max() <= 1
    landmarks = warped.field.move(limited(wide))[0] - warped.edge
    x, y = np.rint(0.35 * landmarks[62] + 0.65 * landmarks[66]).astype(int)
    assert np.ptp(warped.at(wide)[y, x].astype(int)) > 10


def test_teeth_behind_lips_in_the_shade_are_in_the_shade(astronaut):
    """As below a moustache or a hat: teeth lit like the cheeks would shine."""
    points, teeth = points_of(find_face(astronaut)), []
    outer, inner = lip_masks(points)
    for lips in ((190, 130, 120), (110, 75, 70)):
        image = astronaut.copy()
        image[outer], image[inner] = lips, lips
        face, wide = WarpedFace(image, points), motion(expression=opened_mouth(14))
        landmarks = face.field.move(limited(wide))[0] - face.edge
        below_lip = 0.8 * landmarks[62] + 0.2 * landmarks[66]
        teeth.append(sample(face.at(wide).astype(np.float32), below_lip[None]).mean())
    assert 0.55 * teeth[0] < teeth[1] < 0.8 * teeth[0]


def test_eyes_that_are_drawn_up_do_not_swell_when_the_drivings_open_wide(astronaut):
    points = points_of(find_face(astronaut))
    wide = motion(eye_opening=1.2)
    narrow = points.copy()
    middle = (points[UPPER_LIDS] + points[LOWER_LIDS]) / 2
    for lids in (UPPER_LIDS, LOWER_LIDS):
        narrow[lids] = middle + 0.35 * (points[lids] - middle)
    faces = WarpedFace(astronaut, points), WarpedFace(astronaut, narrow)
    changed = [np.abs(face.at(wide).astype(int) - face.at(STILL)).max() for face in faces]
    assert changed[0] > 20 and changed[1] <= 1


def test_talking_and_blinking_leave_the_background_still(warped):
    frame = warped.at(motion(expression=opened_mouth(18), eye_opening=0.0))
    points = warped.field.head.landmarks - warped.edge
    rows, columns = np.mgrid[:256, :256]
    away = np.hypot(columns - points[30, 0], rows - points[30, 1]) > 1.1 * np.ptp(points[:17, 0])
    away &= rows < points[8, 1]
    above = rows < points[17:27, 1].min() - 25
    change = np.abs(frame.astype(int) - warped.image).max(axis=2)
    assert away.sum() > 500
    assert change[away].mean() < 0.2 and change[away].max() <= 4, "the background"
    assert change[above].mean() < 1, "the hair"


@pytest.mark.parametrize("seed", [*range(4), 20])
def test_no_motion_however_wild_folds_the_picture(warped, seed):
    rng = np.random.default_rng(seed)
    wild = motion(
        turn=rng.uniform(-1.5, 1.5, 3), growth=rng.uniform(-1, 1), shift=rng.uniform(-90, 90, 2)
    )
    calm = warped.field.bearable(limited(wild))
    _, shifts = warped.field.move(calm)
    assert area_changes(shifts[2], warped.field.spacing).min() > 0.11


def test_a_motion_that_the_picture_bears_is_not_reduced(warped):
    small = motion(turn=np.array([0.02, 0.05, 0.02]), shift=np.array([3.0, 2.0]))
    assert warped.field.bearable(small) is small


def rendered_field(yaw: float) -> Field:
    face = stimuli.render(stimuli.Identity.random(5), stimuli.Pose(yaw=yaw))
    return Field(fit_head(face.landmarks), 256)


def test_a_face_seen_from_the_front_turns_as_far_as_the_drivings():
    turn = np.array([0.0, np.deg2rad(22), 0.0])
    for side in (-1, 1):
        field = rendered_field(0)
        assert field.bearable(motion(turn=side * turn)).turn == pytest.approx(side * turn, rel=0.05)
        landmarks, shifts = field.move(motion(turn=side * turn))
        wanted = moved_landmarks(field.head, motion(turn=side * turn)) - field.head.landmarks
        gone = (landmarks - field.head.landmarks)[[30, 36, 45, 51]]
        assert gone[:, 0] == pytest.approx(wanted[[30, 36, 45, 51], 0], abs=2.5)
        assert min(area_changes(s, field.spacing).min() for s in shifts) > 0.1


def test_no_turn_stretches_what_the_picture_hides_or_takes_an_eye_out_of_sight():
    turn = np.array([0.0, np.deg2rad(25), 0.0])
    for yaw in (-35, 35):
        field = rendered_field(yaw)
        x, y = np.rint(field.head.landmarks[36:] / field.spacing).astype(int).T
        for side in (-1, 1):
            calm = field.bearable(motion(turn=side * turn))
            assert 0.1 < abs(calm.turn[1]) < 0.9 * turn[1]
            changes = area_changes(field.move(calm)[1][2], field.spacing)[y, x]
            assert changes.max() < 1.7 and changes.min() > 0.1


def test_brows_and_jaws_hardly_go_sideways_and_lips_do(warped):
    aside = np.zeros((68, 2))
    aside[:, 0] = -12.0
    scale = warped.field.head.scale
    way = warped.field.move(motion(expression=aside))[0] - warped.field.head.landmarks
    assert np.abs(way[17:27] / scale).max() < 5 and np.abs(way[3:14] / scale).max() < 6
    assert np.linalg.norm(way[[51, 57]] / scale, axis=1).min() > 6


@pytest.mark.parametrize(
    ("between", "shut"), [((170, 90, 90), True), ((235, 230, 220), False), ((30, 15, 15), False)]
)
def test_lips_that_a_detector_sees_apart_are_shut_unless_teeth_or_a_dark_mouth_show(
    astronaut, between, shut
):
    points = points_of(find_face(astronaut))[:68]
    image = astronaut.copy()
    outer, inner = lip_masks(points)
    image[outer], image[inner] = (180, 100, 100), between
    line = points[[61, 62, 63]] * 0.3 + points[[67, 66, 65]] * 0.7
    if shut:
        for x in np.linspace(points[60, 0], points[64, 0], 60):
            height = np.interp(x, *line.T)
            image[round(height), round(x)] = (110, 50, 50)
    found = with_shut_lips(image, points)
    if shut:
        assert mouth_slit(found).gap == pytest.approx(0, abs=1e-9)
        assert found[[61, 62, 63]] == pytest.approx(line, abs=1.5)
    else:
        assert (found == points).all()


def test_motion_reduced_to_the_bearable_grows_without_jumps(warped):
    """A head that moves steadily on must not pop where the limit sets in."""
    ways = [
        warped.field.bearable(limited(motion(shift=np.array([0.0, -way])))).shift[1]
        for way in np.linspace(0, 60, 61)
    ]
    assert np.abs(np.diff(ways)).max() < 1.5


def test_the_inverse_of_a_field_leads_back(warped):
    moving = motion(turn=np.array([0.1, 0.15, 0.1]), shift=np.array([8.0, 5.0]))
    _, shifts = warped.field.move(moving)
    spacing = warped.field.spacing
    sources = invert(shifts[2], spacing, 8)
    there = look_up(shifts[2], spacing, sources.reshape(-1, 2).astype(np.float64))
    arrived = sources.reshape(-1, 2) + there
    assert np.abs(arrived - warped.field.nodes).max() < 0.05


def test_the_motion_between_two_views_of_one_head_is_recovered(warped):
    """Independent of the fields: points of the fitted head, moved and projected anew."""
    head = warped.field.head
    c, s = math.cos(0.2), math.sin(0.2)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    points = 1.1 * head.scale * head.shape @ (turn @ head.rotation)[:2].T + head.offset + [6, -4]
    seen = fit_head(head.scale * head.shape @ head.rotation[:2].T + head.offset)
    found = motion_since(seen, points)
    np.testing.assert_allclose(found.turn, [0, 0.2, 0], atol=0.02)
    assert found.growth == pytest.approx(math.log(1.1), abs=0.01)
    np.testing.assert_allclose(found.shift * seen.scale, [6, -4], atol=1.0)
    assert np.abs(found.expression).max() < 1.0


def test_motion_is_measured_in_head_sizes():
    """The same motion, filmed twice as large, is the same motion."""
    rng = np.random.default_rng(1)
    first = find_face(skimage.data.astronaut()).landmarks
    second = first + np.array([7, 3]) + rng.normal(0, 1.5, first.shape)
    one = motion_since(fit_head(first), second)
    two = motion_since(fit_head(2 * first + 30), 2 * second + 30)
    for name in ("turn", "shift", "expression"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), atol=1e-6)


def test_strength_scales_the_motion_and_zero_holds_the_source(astronaut, turning):
    frames = [frame.image for frame in turning[::3]]
    for frame in animate(astronaut, frames, strength=0.0):
        assert np.array_equal(frame, astronaut)
    full = motion(turn=np.array([0.1, 0.2, 0.3]), growth=0.4, eye_opening=0.5)
    half = scaled(full, 0.5)
    np.testing.assert_allclose(half.turn, [0.05, 0.1, 0.15])
    assert (half.growth, half.eye_opening) == (0.2, 0.75)


def test_the_same_inputs_give_the_same_clip(turning):
    frames = [frame.image for frame in turning[:4]]
    for one, two in zip(animate(frames[0], frames), animate(frames[0], frames), strict=True):
        assert np.array_equal(one, two)


def test_frames_stream_one_for_one(astronaut, turning):
    taken = []

    def frames():
        for frame in turning:
            taken.append(frame)
            yield frame.image

    method = create_method("warp")
    clip = method.animate(
        method.prepare(Source("src", astronaut)), Driving("drv", frames, Fraction(25), 8)
    )
    for count in range(1, 4):
        frame = next(clip)
        assert len(taken) == count
        assert frame.shape == (256, 256, 3) and frame.dtype == np.uint8


def test_a_source_without_a_face_is_named():
    with pytest.raises(NoFaceError, match=r"^wall: "):
        create_method("warp").prepare(Source("wall", np.full((256, 256, 3), 90, np.uint8)))


def test_a_driving_without_a_face_is_named_within_its_first_second(astronaut):
    taken = []

    def blank():
        for index in range(100):
            taken.append(index)
            yield np.full((256, 256, 3), 90, np.uint8)

    method = create_method("warp")
    state = method.prepare(Source("src", astronaut))
    with pytest.raises(NoFaceError, match=r"^empty-room: "):
        list(method.animate(state, Driving("empty-room", blank, Fraction(10), 100)))
    assert len(taken) == 10
    with pytest.raises(NoFaceError, match=r"^short: "):
        list(method.animate(state, driving([np.zeros((256, 256, 3), np.uint8)] * 3, "short")))


def test_frames_before_the_first_face_show_the_source_and_lost_ones_hold(astronaut, turning):
    blank = np.full((256, 256, 3), 128, np.uint8)
    clip = animate(astronaut, [blank, turning[0].image, turning[4].image, blank, blank])
    assert np.array_equal(clip[0], astronaut)
    assert not np.array_equal(clip[2], astronaut)
    assert np.array_equal(clip[3], clip[2]) and np.array_equal(clip[4], clip[2])


def test_the_one_euro_filter_equals_the_papers_algorithm():
    """Casiez et al. 2012, written out for one scalar as in the paper."""
    rng = np.random.default_rng(0)
    signal = np.cumsum(rng.normal(0, 1, 60))
    rate, min_cutoff, beta, speed_cutoff = 30.0, 1.5, 0.3, 4.0

    def alpha(cutoff: float) -> float:
        tau = 1 / (2 * math.pi * cutoff)
        return 1 / (1 + tau / (1 / rate))

    expected, speed, last, raw = [], 0.0, None, None
    for x in signal:
        if last is None:
            last = x
        else:
            a = alpha(speed_cutoff)
            speed = a * (x - raw) * rate + (1 - a) * speed
            a = alpha(min_cutoff + beta * abs(speed))
            last = a * x + (1 - a) * last
        raw = x
        expected.append(last)
    smooth = OneEuroFilter(rate, min_cutoff, beta, speed_cutoff)
    got = [smooth(np.array([x]))[0] for x in signal]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_smoothing_calms_jitter_and_keeps_up_with_motion():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.5, (200, 68, 2))
    smooth = OneEuroFilter(25, 2.0, 8 / 130)
    calm = np.array([smooth(x) for x in noise])
    assert np.abs(np.diff(calm, axis=0)).mean() < 0.5 * np.abs(np.diff(noise, axis=0)).mean()
    smooth = OneEuroFilter(25, 2.0, 8 / 130)
    ramp = 10.0 * np.arange(30)
    lag = ramp - [float(smooth(np.array(x))) for x in ramp]
    assert lag[-1] < 10, "less than one frame behind a fast head"


def test_sampling_gives_pixels_at_pixels_and_lines_between_them():
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (9, 7, 3)).astype(np.float32)
    nodes = np.array([[x, y] for y in range(9) for x in range(7)], float)
    np.testing.assert_allclose(sample(image, nodes), image.reshape(-1, 3), atol=1e-3)
    ramp = np.repeat((3.0 * np.arange(9)[:, None] + 2 * np.arange(7))[..., None], 3, 2)
    points = rng.uniform(1, 5, (50, 2))
    expected = 2 * points[:, 0] + 3 * points[:, 1]
    np.testing.assert_allclose(sample(ramp.astype(np.float32), points)[:, 0], expected, atol=1e-3)


def test_looking_up_a_grid_is_exact_on_a_plane():
    steps = 2.5 * np.arange(GRID)
    plane = np.stack(np.meshgrid(steps, steps), axis=-1).astype(np.float32)
    points = np.random.default_rng(0).uniform(0, steps[-1], (40, 2))
    np.testing.assert_allclose(look_up(plane, 2.5, points), points, atol=1e-3)


def test_a_slit_covers_what_lies_between_its_edges():
    upper = np.array([[10, 20], [20, 14], [30, 20]], float)
    lower = np.array([[10, 20], [20, 26], [30, 20]], float)
    slit = Slit.between(upper, lower)
    points = np.array([[20, 20], [20, 10], [20, 30], [5, 20], [35, 20]], float)
    np.testing.assert_array_equal(slit.opening(points, 0.8), [1, 0, 0, 0, 0])
    np.testing.assert_allclose(slit.opening(upper[1:2], 0.8), [0.5], atol=0.01)
    np.testing.assert_array_equal(slit.below(points[1:3], 0.8), [0, 1])
    assert slit.gap == pytest.approx(12 / 20)
    closed = Slit.between(upper, upper)
    assert closed.opening(upper[1:2], 0.8) == 0


def test_a_field_carries_the_landmarks_and_nothing_at_the_border(warped):
    opened = motion(expression=opened_mouth(15))
    landmarks, shifts = warped.field.move(opened)
    before = mouth_slit(warped.field.head.landmarks)
    after = mouth_slit(landmarks)
    dropped = after.gap * after.width - before.gap * before.width
    assert dropped == pytest.approx(15 * warped.field.head.scale, rel=0.25)
    for edge in (np.s_[:, 0], np.s_[:, -1], np.s_[:, :, 0], np.s_[:, :, -1]):
        assert not shifts[edge].any()


def test_a_source_near_the_border_is_animated_too(astronaut):
    cut = np.ascontiguousarray(astronaut[30:226, 30:226])
    landmarks = find_face(cut).landmarks
    field = Field(fit_head(landmarks), 196)
    _, shifts = field.move(motion(shift=np.array([10.0, 0.0])))
    assert np.isfinite(shifts).all()
    assert shifts[2, GRID // 2, GRID // 2, 0] > 3
