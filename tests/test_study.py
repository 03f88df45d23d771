"""A study file is read whole, or refused with the line and what to do."""

from pathlib import Path

import pytest

from studykit.errors import StudyFileError
from studykit.methods import create_methods
from studykit.study import load_study, slug


def test_a_whole_file_is_read(small_study: Path) -> None:
    study = load_study(small_study)
    assert (study.name, study.seed, study.size, study.crop) == ("small", 3, 64, "centre")
    assert [(s.name, s.type) for s in study.sources] == [("anna", "frontal"), ("berta", "side")]
    assert [(d.name, d.type) for d in study.drivings] == [("talk", "frontal"), ("turn", "stylised")]
    assert (study.ratings.scale, study.ratings.raters_min) == (5, 15)


def test_cells_cross_everything_once_and_only_selects(small_study: Path) -> None:
    study = load_study(small_study)
    names = [cell.name for cell in study.cells()]
    assert names == [
        "anna__talk__copy",
        "anna__turn__copy",
        "berta__talk__copy",
        "berta__turn__copy",
    ]
    assert [cell.name for cell in study.cells("anna__turn__copy")] == ["anna__turn__copy"]
    assert [cell.name for cell in study.cells("copy")] == names
    with pytest.raises(StudyFileError, match='no method or cell "cpy": did you mean "copy"'):
        study.check_only("cpy")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 3", "sede: 3", r'line 2: unknown key "sede": did you mean "seed"'),
        ("name: small\n", "", r'the key "name" is missing'),
        ("name: small", "name: a/b", r"line 1: .*becomes a folder"),
        ("size: 64", "size: big", r"line 3: size must be a whole number"),
        ("size: 64", "size: 100", r"line 3: size must be a multiple of 32"),
        ("size: 64", "size: 64\nsize: 96", r'line 4: key "size" stands twice'),
        ("crop: centre", "crop: center", r'line 4: no crop "center": did you mean "centre"'),
        ("[anna.png]", "[ana.png]", r'line 5: no file .*ana.png: did you mean "anna.png"'),
        ("[anna.png]", "anna.png", r"line 5: frontal must be a list"),
        ("side: [berta.png]", "side: [anna.png]", r'line 5: duplicate name "anna"'),
        ("{frontal: [talk.mp4]", "{front: [talk.mp4]", r'line 6: unknown key "front": did you'),
        ("[copy]", "[copy, copy]", r'line 7: duplicate method name "copy"'),
        ("[copy]", "[{strength: 2}]", r"line 7: a method needs a"),
        ("[copy]", "[]", r"methods is empty"),
        ("[copy]", "[copy", r"line \d+: .*mend the YAML"),
        ("[copy]", "[copy]\nratings: {scales: 5}", r'line 8: unknown key "scales": did you mean'),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(
    small_study: Path, old: str, new: str, message: str
) -> None:
    text = small_study.read_text()
    assert old in text
    small_study.write_text(text.replace(old, new))
    with pytest.raises(StudyFileError, match=message) as refusal:
        load_study(small_study)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("wrap", r'line 7: no method "wrap": did you mean "warp"'),
        ("{name: copy, strength: 2}", r'line 7: method "copy" has no setting "strength"'),
        ("{name: mine, method: folder}", r'line 7: method "folder" needs the setting "path"'),
        ("{name: f, method: folder, path: 3}", r'line 7: .*"path" must be a text, not 3'),
    ],
)
def test_a_wrong_method_is_refused_with_its_line(
    small_study: Path, entry: str, message: str
) -> None:
    small_study.write_text(small_study.read_text().replace("[copy]", f"[{entry}]"))
    with pytest.raises(StudyFileError, match=message):
        create_methods(load_study(small_study))


def test_paths_in_a_methods_settings_are_relative_to_the_study_file(small_study: Path) -> None:
    (small_study.parent / "made").mkdir()
    (small_study.parent / "own.safetensors").touch()
    methods = (
        "[{name: mine, method: folder, path: made}, fomm,"
        " {name: own, method: fomm, weights: own.safetensors},"
        " {name: named, method: fomm, weights: vox-256}]"
    )
    small_study.write_text(small_study.read_text().replace("[copy]", methods))
    settings = {spec.name: spec.settings for spec in load_study(small_study).methods}
    assert settings["mine"]["path"] == str(small_study.parent / "made")
    assert settings["own"]["weights"] == str(small_study.parent / "own.safetensors")
    assert settings["named"]["weights"] == "vox-256"


@pytest.mark.parametrize("content", [b"", b"- a\n- b\n", b"\xff\xfe\x00bin", b"name: [\n"])
def test_a_file_that_is_no_study_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(content)
    with pytest.raises(StudyFileError):
        load_study(path)


def test_a_missing_study_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError, match=r"no study file .*none.yaml"):
        load_study(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "name"),
    [("anna", "anna"), ("my photo (2)", "my-photo-2"), ("a__b", "a_b"), ("Zoë_1", "Zoë_1")],
)
def test_names_are_safe_in_file_names(text: str, name: str) -> None:
    assert slug(text) == name
