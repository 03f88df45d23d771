"""What is said of one source or driving is read whole, or refused in one line."""

from pathlib import Path

import pytest

from studykit.errors import StudyError, StudyFileError
from studykit.media.views import Square, View
from studykit.study.file import load_study
from studykit.study.inputs import as_input


def with_entry(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_an_input_says_which_face_which_square_and_which_frames(small_study: Path) -> None:
    with_entry(
        small_study, "[anna.png]", "[{path: anna.png, name: her, face: [120, 80.5], margin: 1}]"
    )
    with_entry(
        small_study,
        "[talk.mp4]",
        "[{path: talk.mp4, start: 0.04, end: 1, max_frames: 3, reference: best},"
        " {path: talk.mp4, name: again, crop: {centre: [60, 64], side: 90}, reference: 0.1}]",
    )
    study = load_study(small_study)
    assert [(item.name, item.path.name) for item in (*study.sources, *study.drivings)] == [
        ("her", "anna.png"),
        ("berta", "berta.png"),
        ("talk", "talk.mp4"),
        ("again", "talk.mp4"),
        ("turn", "turn.mp4"),
    ]
    assert study.sources[0].view == View(face=(120.0, 80.5), margin=1.0)
    assert study.drivings[0].view == View(start=0.04, end=1.0, max_frames=3, reference="best")
    assert study.drivings[1].view == View(crop=Square((60.0, 64.0), 90.0), reference=0.1)
    assert study.drivings[2].view == View()


def test_the_same_mapping_is_read_from_a_notebook(tmp_path: Path) -> None:
    item = as_input({"path": str(tmp_path / "a talk.mp4"), "start": 2}, still=False)
    assert (item.name, item.path, item.view) == ("a-talk", tmp_path / "a talk.mp4", View(start=2.0))
    assert as_input(tmp_path / "x.png", still=True).view == View()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{path: talk.mp4, strat: 1}", r'unknown key "strat": did you mean "start"'),
        ("{name: talk}", r'the key "path" is missing'),
        ("{path: 3}", r"path must be a text, not 3"),
        ("{path: talk.mp4, name: a/b}", r'name "a/b" is no file name: try "a-b"'),
        ("{path: tolk.mp4}", r'no file .*tolk.mp4: did you mean "talk.mp4"'),
        ("3", r"a path or a mapping with a path is expected, not 3"),
        ("talk.mp4, {path: talk.mp4, start: 1}", r'duplicate name "talk".*a name of its own'),
        ("{path: talk.mp4, face: 0}", r"face must be a number from 1 on.*not 0"),
        ("{path: talk.mp4, face: [1]}", r"face must be \[x, y\] in pixels, not \[1\]"),
        ("{path: talk.mp4, face: true}", r"face must be a number from 1 on.*not True"),
        ("{path: talk.mp4, crop: centr}", r'no crop "centr": did you mean "centre"'),
        (
            "{path: talk.mp4, crop: {center: [1, 2], side: 3}}",
            r'"center" of crop: did you mean "ce',
        ),
        ("{path: talk.mp4, crop: {side: 3}}", r"no crop .*or {centre: \[x, y\], side: pixels}"),
        ("{path: talk.mp4, crop: {centre: 3, side: 3}}", r"centre must be \[x, y\]"),
        ("{path: talk.mp4, crop: centre, face: 1}", r"face says nothing where crop names"),
        ("{path: talk.mp4, margin: 9}", r"margin must be at most 4, not 9"),
        ("{path: talk.mp4, margin: .nan}", r"margin must be a number of at least 0, not nan"),
        ("{path: talk.mp4, start: -1}", r"start must be a number of at least 0, not -1"),
        ("{path: talk.mp4, end: soon}", r"end must be a number of at least 0, not 'soon'"),
        ("{path: talk.mp4, start: 2, end: 2}", r"end \(2 s\) must be after start \(2 s\)"),
        ("{path: talk.mp4, max_frames: 1}", r"max_frames must be a whole number of at least 2"),
        ("{path: talk.mp4, reference: bets}", r'no reference "bets": did you mean "best".*seconds'),
        ("{path: talk.mp4, start: 1, reference: 0.5}", r"reference \(0.5 s of the file\) must lie"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(
    small_study: Path, entry: str, message: str
) -> None:
    with_entry(small_study, "[talk.mp4]", f"[{entry}]")
    with pytest.raises(StudyFileError, match=rf"line 6: .*{message}") as refusal:
        load_study(small_study)
    assert "\n" not in str(refusal.value)


def test_a_source_has_no_length(small_study: Path) -> None:
    with_entry(small_study, "[anna.png]", "[{path: anna.png, start: 1}]")
    with pytest.raises(StudyFileError, match='line 5: "start" is for drivings'):
        load_study(small_study)
    with pytest.raises(StudyError, match=r'anna\.png: "reference" is for drivings'):
        as_input({"path": "anna.png", "reference": "best"}, still=True)


def test_pairs_name_one_of_two_ranges_of_a_file(small_study: Path) -> None:
    with_entry(
        small_study, "[talk.mp4]", "[{path: talk.mp4, name: one}, {path: talk.mp4, name: two}]"
    )
    text = small_study.read_text()
    small_study.write_text(f"{text}pairs: [[anna, two]]\n")
    assert [cell.name for cell in load_study(small_study).cells()] == ["anna__two__copy"]
    small_study.write_text(f"{text}pairs: [[anna, talk.mp4]]\n")
    with pytest.raises(StudyFileError, match=r'"talk\.mp4" is the file of several .*one or two'):
        load_study(small_study)
