"""`studykit check`: every problem of the inputs is listed, and healthy inputs are left in peace."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from studykit.clips.check import check_study
from studykit.errors import NoFaceError, StudyFileError
from studykit.media.squares import find_square
from studykit.media.video import write_image, write_video
from studykit.media.views import View
from studykit.study.check import check_image, check_video, find_cuts
from studykit.study.file import Input, MethodSpec, Study, load_study

RATE = Fraction(25)


def portrait(size=320):
    """The astronaut's head and shoulders, a face of about four tenths of the width."""
    return np.asarray(Image.fromarray(astronaut()[10:240, 110:340]).resize((size, size)))


def scenery(size=320):
    """Vertical bars in two colours, without a face."""
    bars = (np.arange(size) // 20 % 2)[None, :, None] * np.array([60, 120, 30])
    return np.repeat(bars + 80, size, axis=0).astype(np.uint8)


def moving(image, count, start=0):
    """The picture as a camera that drifts 1 pixel a frame would see it."""
    return [np.roll(image, start + i, axis=1) for i in range(count)]


def video(path, frames, rate=RATE):
    write_video(path, frames, frame_rate=rate)
    return path


def found(problems):
    return [(problem.level, problem.text) for problem in problems]


def test_a_healthy_image_and_video_have_no_problems(tmp_path):
    write_image(tmp_path / "a.png", portrait())
    assert check_image(tmp_path / "a.png") == []
    assert check_video(video(tmp_path / "a.mp4", moving(portrait(), 20))) == []


@pytest.mark.parametrize(
    ("crop", "level", "says"),
    [
        ("face", "error", "choose another file"),
        ("face-or-centre", "warning", "centred square"),
        ("centre", "note", "centred square"),
    ],
)
def test_a_missing_face_is_as_bad_as_the_crop_rule_makes_it(tmp_path, crop, level, says):
    write_image(tmp_path / "a.png", scenery())
    clip = video(tmp_path / "a.mp4", moving(scenery(), 3))
    for problems in (
        check_image(tmp_path / "a.png", crop=crop),
        check_video(clip, crop=crop),
    ):
        ((got, text),) = found(problems)
        assert got == level and "no face" in text and says in text and "\n" not in text


def test_several_faces_are_noted(tmp_path):
    pair = np.hstack([portrait(), portrait()])
    write_image(tmp_path / "a.png", pair)
    assert [p.level for p in check_image(tmp_path / "a.png")] == ["note"]
    assert "2 faces" in check_image(tmp_path / "a.png")[0].text
    (problem,) = check_video(video(tmp_path / "a.mp4", moving(pair, 3)))
    assert problem.level == "note" and "2 faces: number " in problem.text


def test_what_is_too_small_is_said(tmp_path):
    write_image(tmp_path / "tiny.png", portrait(60))
    errors = [p for p in check_image(tmp_path / "tiny.png") if p.level == "error"]
    assert "60 x 60 pixels: at least 64" in errors[0].text
    write_image(tmp_path / "small.png", portrait(200))
    ((level, text),) = found(check_image(tmp_path / "small.png", size=256))
    assert level == "warning" and "200 x 200 pixels are enlarged to 256" in text
    assert check_image(tmp_path / "small.png", size=192) == []
    clip = video(tmp_path / "small.mp4", moving(portrait(200), 3))
    assert ["200 x 200" in p.text for p in check_video(clip)] == [True]


def test_a_small_face_in_a_large_picture_is_said(tmp_path):
    large = scenery(size=900)
    large[300:480, 300:480] = portrait(180)
    write_image(tmp_path / "a.png", large)
    (problem,) = check_image(tmp_path / "a.png")
    assert problem.level == "warning" and "square around the face" in problem.text


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("missing", lambda p: None, "no file: check its path"),
        ("zero", lambda p: p.touch(), "empty (0 bytes)"),
        ("text", lambda p: p.write_text("hello\n" * 50), "is not a"),
    ],
)
@pytest.mark.parametrize(("check", "suffix"), [(check_image, ".png"), (check_video, ".mp4")])
def test_an_unreadable_file_is_one_error(tmp_path, name, make, says, check, suffix):
    path = tmp_path / f"{name}{suffix}"
    make(path)
    (problem,) = check(path)
    assert problem.level == "error" and problem.path == path
    assert says in problem.text and str(path) not in problem.text


def test_a_video_cut_short_is_an_error(tmp_path):
    path = video(tmp_path / "a.mp4", moving(portrait(), 30))
    path.write_bytes(path.read_bytes()[:-8000])
    (problem,) = check_video(path)
    assert problem.level == "error" and "of its 30 frames" in problem.text


def test_one_frame_is_no_driving(tmp_path):
    ((level, text),) = found(check_video(video(tmp_path / "a.mp4", [portrait()])))
    assert level == "error" and "at least 2" in text


def test_a_cut_is_found_where_it_is(tmp_path):
    frames = moving(portrait(), 20) + moving(portrait()[:, ::-1], 20)
    ((level, text),) = found(check_video(video(tmp_path / "a.mp4", frames)))
    assert level == "warning" and text.startswith("a cut at 0.80 s (frame 20)")
    frames += moving(portrait(), 15)
    (problem,) = check_video(video(tmp_path / "b.mp4", frames))
    assert problem.text.startswith("2 cuts, the first at 0.80 s")


def test_a_jump_within_a_shot_is_a_cut(tmp_path):
    frames = moving(portrait(), 20) + moving(portrait(), 20, start=35)
    assert "a cut at 0.80 s" in check_video(video(tmp_path / "a.mp4", frames))[0].text


def test_repeated_frames_are_no_cuts(tmp_path):
    doubled = [frame for frame in moving(portrait(), 15) for _ in range(2)]
    assert check_video(video(tmp_path / "a.mp4", doubled)) == []


@pytest.mark.parametrize(
    ("steps", "cuts"),
    [
        ([], []),
        ([0.0] * 30, []),
        ([1.0] * 30, []),
        ([1.0] * 10 + [20.0] + [1.0] * 10, [11]),
        ([0.0] * 10 + [20.0] + [0.0] * 10, [11]),  # between two still pictures
        ([20.0], [1]),
        ([1.0] * 10 + [20.0, 20.0] + [1.0] * 10, []),  # a flash: there and back
        ([1.0] * 10 + [3, 7, 11, 14, 12, 8, 4] + [1.0] * 10, []),  # a quick turn
        ([0.2] * 10 + [1.2] + [0.2] * 10, []),  # a keyframe's pulse
        ([1.0, 0.0] * 15, []),
        ([1.0, 0.0] * 10 + [20.0, 0.0] + [1.0, 0.0] * 10, [21]),
        ([8.0, 9.0] * 8 + [60.0] + [9.0, 8.0] * 8, [17]),
        ([1.0] * 3 + [20.0] + [1.0] * 30 + [20.0] + [1.0] * 3, [4, 35]),
    ],
)
def test_a_cut_is_a_jump_among_small_steps(steps, cuts):
    assert find_cuts(steps) == cuts


def test_cuts_of_an_hours_video_are_found_at_once():
    steps = np.random.default_rng(0).uniform(0.5, 2, 100_000)
    steps[50_000] = 30
    assert find_cuts(steps.tolist()) == [50_001]


def test_a_face_that_leaves_is_said_and_when(tmp_path):
    frames = moving(portrait(), 40) + moving(scenery(), 40)
    gone, cut, *_ = sorted(found(check_video(video(tmp_path / "a.mp4", frames))), reverse=True)
    assert cut[1].startswith("a cut")
    assert gone == ("warning", "no face in 40 of 80 frames, first at 1.60 s: interpolated")


def test_a_face_that_comes_after_the_first_second_is_an_error(tmp_path):
    frames = moving(scenery(), 15) + moving(portrait(), 15)
    problems = found(check_video(video(tmp_path / "a.mp4", frames, rate=Fraction(10))))
    assert problems[0][0] == "error" and "in the first second" in problems[0][1]


def test_a_variable_rate_is_noted(tmp_path):
    frames = [Image.fromarray(frame) for frame in moving(portrait(), 8)]
    frames[0].save(
        tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=[40, 120] * 4
    )
    notes = [p.text for p in check_video(tmp_path / "a.gif") if p.level == "note"]
    assert len(notes) == 1 and notes[0].startswith("variable frame rate (mean 13.46")


def test_a_study_is_checked_whole_and_not_up_to_the_first_problem(tmp_path):
    write_image(tmp_path / "good.png", portrait())
    write_image(tmp_path / "blank.png", scenery())
    (tmp_path / "zero.png").touch()
    video(tmp_path / "good.mp4", moving(portrait(), 5))
    (tmp_path / "text.mp4").write_text("hello")

    def inputs(*names):
        return tuple(Input(Path(n).stem, "frontal", tmp_path / n) for n in names)

    study = Study(
        name="s",
        sources=inputs("blank.png", "good.png", "zero.png"),
        drivings=inputs("text.mp4", "good.mp4"),
        methods=(MethodSpec("copy", "copy"),),
        path=tmp_path / "s.yaml",
    )
    assert [(p.path.name, p.level) for p in check_study(study)] == [
        ("blank.png", "error"),
        ("zero.png", "error"),
        ("text.mp4", "error"),
    ]


def test_what_a_run_says_is_said_in_the_same_words(tmp_path):
    """The refusal of a face that is not there, the note of a late reference, a range's own."""
    picture = tmp_path / "a.png"
    write_image(picture, portrait())
    ((level, text),) = found(check_image(picture, view=View(face=2)))
    with pytest.raises(NoFaceError) as refusal:
        find_square(picture, "face", View(face=2))
    assert (level, f"{picture} {text}") == ("error", str(refusal.value))
    late = video(tmp_path / "a.mp4", [portrait() * 0] * 3 + moving(portrait(), 5))
    notes = [text for level, text in found(check_video(late)) if level == "note"]
    assert notes == [
        "motion counts from frame 3 (0.12 s), the first that is lit, sharp and shows a face"
    ]
    assert check_video(late, view=View(start=0.12)) == []
    ((level, text),) = found(check_video(late, view=View(start=9)))
    assert (level, text[:29]) == ("error", "shows 0 frames from 9 s and e")


def test_everything_is_listed_at_once_also_when_files_are_missing(tmp_path):
    write_image(tmp_path / "blank.png", scenery())
    video(tmp_path / "good.mp4", moving(portrait(), 5))
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\n"
        "sise: 256\n"
        "sources:\n"
        "  frontal: [blank.png, gone.png, {path: blank.png, name: x, face: 0}]\n"
        "drivings:\n"
        "  frontal: [good.mp4, {path: good.mp4, name: part, start: 5}, {path: lost.mp4}]\n"
        "pairs: [[blank, good]]\n"
        "ratings: {scale: 1}\n"
        "methods: [copy, wrap, {name: mine, method: folder, path: made}, copy]\n"
    )
    expected = [
        ("s.yaml", 'line 2: unknown key "sise"'),
        ("s.yaml", "line 4: no file "),
        ("s.yaml", "line 4: face must be a number"),
        ("s.yaml", "line 6: no file "),
        ("s.yaml", "line 8: scale must be"),
        ("s.yaml", "line 9: duplicate method"),
        ("s.yaml", 'line 9: no method "wrap"'),
        ("s.yaml", "cell blank__good__mine: no clip"),
        ("s.yaml", "cell blank__part__mine: no clip"),
        ("blank.png", "no face found: choose"),
        ("good.mp4", "shows 0 frames from 5 s"),
    ]
    said = [(p.path.name, p.level, p.text) for p in check_study(path)]
    assert {level for _, level, _ in said} == {"error"}
    for file, head in expected:
        assert [text for name, _, text in said if name == file and text.startswith(head)], head
    with pytest.raises(StudyFileError, match=r"line 2: unknown .* \(and 5 more: studykit check"):
        load_study(path)


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("language: fr", "criteria, questions, texts, consent"),
        ("language: fr, questions: [], consent: Oui", "criteria, texts"),
        ("language: es-MX", ""),
        ("scale: 5", ""),
    ],
)
def test_a_language_without_words_is_said_with_what_stays_english(small_study, words, left):
    small_study.write_text(f"{small_study.read_text()}ratings: {{{words}}}\n", encoding="utf-8")
    said = [text for level, text in found(check_study(small_study)) if level == "warning"]
    ends = f"so raters read English: give {left} of the ratings in that language"
    assert [text[text.index("so ") :] for text in said] == [ends] * bool(left)


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("method: fomm, weights: lost.pdparams", 'no weights "lost.pdparams": no such file'),
        ("method: fomm, weights: regions-256", "is a checkpoint for the method regions"),
        ("method: regions, weights: synth-256", "is a checkpoint for the method fomm"),
        ("method: regions, weights: vox-256", "is a checkpoint for the method fomm"),
        ("method: sparse, weights: synth-256", "is a checkpoint for the method fomm"),
        ("method: resnet, weights: synth-256", "is a checkpoint for the method fomm"),
        ("method: resnet, weights: lost, enhance: 1", 'no weights "lost": no such file'),
        ("method: fomm, weights: NOISE", "damaged"),
        ("method: fomm, config: lost.yaml", "lost.yaml"),
        ("method: fomm, weights: vox-256", ""),  # known and not fetched
        ("method: fomm", ""),
    ],
)
def test_weights_that_a_run_would_refuse_are_said(small_study, tmp_path, method, says):
    noise = tmp_path / "noise.safetensors"
    noise.write_bytes(b'\x10\0\0\0\0\0\0\0{"a": no json at all')
    named = f"methods: [{{name: mine, {method.replace('NOISE', str(noise))}}}]"
    text = re.sub(r"methods:.*", named, small_study.read_text(encoding="utf-8"), flags=re.DOTALL)
    small_study.write_text(text, encoding="utf-8")
    said = [text for level, text in found(check_study(small_study)) if level == "error"]
    assert len(said) == bool(says)
    assert all(says in text and text.startswith("line ") for text in said)
