"""A study file is read whole, or refused with the line and what to do."""

import dataclasses
import unicodedata
from pathlib import Path

import pytest

from studykit.clips.check import check_study
from studykit.errors import StudyFileError
from studykit.methods import create_methods
from studykit.study.file import load_study, slug
from studykit.study.hypotheses import Hypothesis
from studykit.study.ratings import Ratings, ScreeningRules
from studykit.study.wording import CRITERIA, TEXTS, words_in


def test_a_whole_file_is_read(small_study: Path) -> None:
    study = load_study(small_study)
    assert (study.name, study.seed, study.size, study.crop) == ("small", 3, 64, "centre")
    assert [(s.name, s.type) for s in study.sources] == [("anna", "frontal"), ("berta", "side")]
    assert [(d.name, d.type) for d in study.drivings] == [("talk", "frontal"), ("turn", "stylised")]
    assert (study.ratings.scale, study.ratings.raters_min) == (5, 15)


def test_ratings_have_defaults_for_everything(small_study: Path) -> None:
    ratings = load_study(small_study).ratings
    assert [criterion.name for criterion in ratings.criteria] == list(CRITERIA)
    assert all(len(criterion.steps) == 5 for criterion in ratings.asked)
    assert (ratings.task, ratings.highest, ratings.watch, ratings.trials) == ("acr", 5, 1.0, None)
    counts = (ratings.training, ratings.repeats, ratings.references, ratings.gold)
    assert counts == (2, 2, 1, 2)
    assert [question.name for question in ratings.questions] == ["age_band", "vision", "display"]
    assert ratings.consent
    assert ratings.texts == TEXTS
    assert (ratings.store, ratings.simulated_raters) == ("", 0)


def with_ratings(path: Path, section: str) -> Ratings:
    path.write_text(f"{path.read_text()}ratings: {section}\n", encoding="utf-8")
    return load_study(path).ratings


def test_the_words_can_be_those_of_another_language(small_study: Path) -> None:
    steps = "[schlecht, dürftig, ordentlich, gut, ausgezeichnet]"
    ratings = with_ratings(
        small_study,
        f"{{language: de, consent: 'Ja?', texts: {{next: Weiter, progress: '{{done}}/{{total}}'}}, "
        f"criteria: {{jitter: {{label: Ruhe, question: 'Wie ruhig?', steps: {steps}}}}}, "
        "questions: {display: {label: 'Schirm?', choices: [klein, groß]}}}",
    )
    (jitter,) = ratings.asked
    assert (jitter.name, jitter.label, jitter.steps[-1]) == ("jitter", "Ruhe", "ausgezeichnet")
    assert jitter.comparison == CRITERIA["jitter"].comparison
    assert ratings.texts == TEXTS | {"next": "Weiter", "progress": "{done}/{total}"}
    assert [(q.label, q.choices) for q in ratings.questions] == [("Schirm?", ("klein", "groß"))]
    assert (ratings.language, ratings.consent) == ("de", "Ja?")


def test_a_language_that_comes_along_is_asked_for_by_its_name(small_study: Path) -> None:
    ratings = with_ratings(
        small_study,
        "{language: es, overall: true, kept: hasta 2031, texts: {next: Sigue}, "
        "questions: [vision], criteria: {jitter: {}, structure: {label: Cara}}}",
    )
    spanish = words_in("es")
    assert ratings.texts == spanish.texts | {"next": "Sigue"}
    jitter, structure, overall = ratings.asked
    assert jitter == spanish.criteria["jitter"]
    assert (structure.label, structure.steps) == ("Cara", spanish.criteria["structure"].steps)
    assert overall == spanish.overall
    assert ratings.questions == (spanish.questions["vision"],)
    assert "se conservan hasta 2031" in ratings.consent


def test_rights_and_what_raters_get_at_the_end_are_the_studys(small_study: Path) -> None:
    ratings = with_ratings(
        small_study,
        "{responsible: Dr. A. Rivera, contact: a@b.org, completion_code: C1X2, return_address: "
        "'https://app.prolific.com/submissions/complete?cc={code}'}",
    )
    assert "Responsible for this study: Dr. A. Rivera. Contact: a@b.org." in ratings.consent
    assert ratings.completion_code == "C1X2"
    assert ratings.return_address.endswith("?cc={code}")


def test_who_is_excluded_can_be_the_studys_own_choice(small_study: Path) -> None:
    rules = with_ratings(
        small_study, "{screening: {gold: 0.75, agreement: null, seconds: 2, keep: [r-1a]}}"
    ).screening
    usual = ScreeningRules()
    assert rules == dataclasses.replace(
        usual, gold=0.75, agreement=None, seconds=2.0, keep=("r-1a",)
    )


def test_a_plan_names_what_is_expected(small_study: Path) -> None:
    text = small_study.read_text().replace("[copy]", "[copy, warp]")
    small_study.write_text(
        f"{text}plan:\n  criterion: jitter\n  metrics: [csim]\n  raters: 30\n  hypotheses:\n"
        "    - {higher: warp, lower: copy}\n"
        "    - {claim: source type, higher: frontal, lower: side, criterion: structure,"
        " scope: these clips}\n"
    )
    plan = load_study(small_study).plan
    assert (plan.criterion, plan.metrics, plan.raters) == ("jitter", ("csim",), 30)
    assert plan.hypotheses == (
        Hypothesis("method", "warp", "copy", "jitter"),
        Hypothesis("source type", "frontal", "side", "structure", "these clips"),
    )
    assert plan.hypotheses[1].words == "frontal sources above side sources on structure " \
        "(these clips)"  # fmt: skip


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("{criteria: jitter}", r'line 8: unknown key "criteria": did you mean "criterion"'),
        ("{criterion: jiter}", r'line 8: no criterion "jiter": did you mean "jitter"'),
        ("{raters: 0}", r"line 8: raters must be a whole number >= 1, not 0"),
        ("{hypotheses: 3}", r"line 8: hypotheses must be a list"),
        ("\n  hypotheses:\n    - warp", r"line 10: .* must be a mapping"),
        ("\n  hypotheses: [{higher: copy}]", r'line 9: the key "lower" is missing'),
        (
            "\n  hypotheses: [{higher: copy, lower: copi}]",
            r'line 9: no method "copi": did you mean "copy"',
        ),
        (
            "{hypotheses: [{higher: copy, lower: copy, criterion: jitter}]}",
            r'"copy" is compared with itself',
        ),
        (
            "{hypotheses: [{claim: source type, higher: side, lower: frontal}]}",
            r"line 8: a hypothesis needs a criterion",
        ),
        (
            "{criterion: jitter, hypotheses: [{claim: sources, higher: side, lower: frontal}]}",
            r'no claim "sources": did you mean "source type"',
        ),
    ],
)
def test_a_wrong_plan_is_refused_with_its_line(small_study: Path, plan: str, message: str) -> None:
    small_study.write_text(f"{small_study.read_text()}plan: {plan}\n")
    with pytest.raises(StudyFileError, match=message) as refusal:
        load_study(small_study)
    assert "\n" not in str(refusal.value)


def test_own_criteria_and_questions_can_be_added(small_study: Path) -> None:
    ratings = with_ratings(
        small_study,
        "{scale: 3, criteria: {jitter: {}, charm: {label: Charm, question: 'How charming?',"
        " steps: [low, '', high]}}, questions: {hand: {label: 'Hand?', choices: [left, right]}}}",
    )
    assert [criterion.name for criterion in ratings.criteria] == ["jitter", "charm"]
    assert ratings.criteria[0].steps == CRITERIA["jitter"].steps[::2]
    assert ratings.criteria[1].comparison == "How charming?"
    assert ratings.questions[0].name == "hand"


def test_five_wordings_lie_evenly_over_nine_steps(small_study: Path) -> None:
    steps = with_ratings(small_study, "{scale: 9}").criteria[0].steps
    assert steps[::2] == CRITERIA["naturalness"].steps
    assert set(steps[1::2]) == {""}


def test_pairs_have_two_answers_and_no_references(small_study: Path) -> None:
    ratings = with_ratings(small_study, "{task: pair, overall: true, scale: 7}")
    assert (ratings.highest, ratings.references) == (2, 0)
    assert [criterion.name for criterion in ratings.asked] == ["overall"]


@pytest.mark.parametrize(
    ("scale", "steps"),
    [
        (5, ("Bad", "Poor", "Fair", "Good", "Excellent")),
        (9, ("Bad", "", "Poor", "", "Fair", "", "Good", "", "Excellent")),
        (3, ("Bad", "Fair", "Excellent")),
    ],
)
def test_an_overall_score_is_asked_after_the_criteria(small_study, scale, steps) -> None:
    ratings = with_ratings(small_study, f"{{overall: true, scale: {scale}, task: dcr}}")
    assert [criterion.name for criterion in ratings.asked] == [*CRITERIA, "overall"]
    assert ratings.asked[-1].steps == steps


def test_same_identity_crosses_each_driving_with_its_own_first_frame(small_study: Path) -> None:
    text = small_study.read_text()
    both = "protocols: [cross-identity, same-identity]\n"
    small_study.write_text(text + both)
    study = load_study(small_study)
    cells = list(study.cells())
    assert [cell.name for cell in cells[4:]] == [
        "first-of-talk__talk__copy",
        "first-of-turn__turn__copy",
    ]
    assert [cell.protocol for cell in cells] == ["cross-identity"] * 4 + ["same-identity"] * 2
    first = cells[-1].source
    assert (first.type, first.path) == ("stylised", study.drivings[1].path)
    assert len(list(study.pairs())) == 6
    assert [cell.name for cell in study.cells("first-of-turn__turn__copy")] == [cells[-1].name]
    without = text.replace("sources: {frontal: [anna.png], side: [berta.png]}\n", "")
    small_study.write_text(without + "protocols: [same-identity]\n")
    study = load_study(small_study)
    assert study.sources == ()
    assert len(list(study.cells())) == 2


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
        list(study.cells("cpy"))


def test_pairs_that_are_listed_are_the_only_ones_that_meet(small_study: Path) -> None:
    text = small_study.read_text()
    small_study.write_text(f"{text}pairs: [[berta, talk], [anna.png, turn.mp4], [anna, talk]]\n")
    study = load_study(small_study)
    assert [cell.name for cell in study.cells()] == [
        "anna__talk__copy",
        "anna__turn__copy",
        "berta__talk__copy",
    ]
    assert study.listed == (("berta", "talk"), ("anna", "turn"), ("anna", "talk"))
    small_study.write_text(f"{text}pairs: all\n")
    assert len(list(load_study(small_study).cells())) == 4


def test_what_stands_in_no_pair_takes_no_part_under_either_protocol(small_study: Path) -> None:
    pairs = "pairs:\n  - [anna, talk]\nprotocols: [cross-identity, same-identity]\n"
    small_study.write_text(small_study.read_text() + pairs)
    study = load_study(small_study)
    assert [cell.name for cell in study.cells()] == [
        "anna__talk__copy",
        "first-of-talk__talk__copy",
    ]
    assert [item.name for item in (*study.sources, *study.drivings)] == ["anna", "talk"]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("some", r"line 8: pairs must be all or a list of \[source, driving\], not 'some'"),
        ("", r"line 8: pairs must be all or a list of \[source, driving\], not None"),
        ("[]", r"line 8: pairs is empty: list some"),
        ("[[anna]]", r"line 8: a pair is \[source, driving\], not \['anna'\]"),
        ("[[anna, talk, turn]]", r"line 8: a pair is \[source, driving\]"),
        ("\n  - [anna, talk]\n  - anna", r"line 10: a pair is .*, not 'anna'"),
        ("\n  - [anna, talk]\n  - [ana, talk]", r'line 10: no source "ana": did you mean "anna"'),
        ("[[anna, tolk]]", r'line 8: no driving "tolk": did you mean "talk"'),
        ("[[talk, anna]]", r'line 8: no source "talk": .*Known: anna, berta'),
        ("[[anna, 3]]", r"line 8: a text is expected, not 3: quote it"),
        (
            "\n  - [anna, talk]\n  - [anna.png, talk]",
            r"line 10: \[anna, talk\] stands in line 9: remove one",
        ),
    ],
)
def test_a_wrong_list_of_pairs_is_refused_with_its_line(
    small_study: Path, pairs: str, message: str
) -> None:
    small_study.write_text(f"{small_study.read_text()}pairs: {pairs}\n")
    with pytest.raises(StudyFileError, match=message) as refusal:
        load_study(small_study)
    assert "\n" not in str(refusal.value)


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
        ("[copy]", "[copy", r"line \d+: .*fix the YAML"),
        ("[copy]", "[copy]\nratings: {scales: 5}", r'line 8: unknown key "scales": did you mean'),
        (
            "[copy]",
            "[copy]\nprotocols: [same-id]",
            r'line 8: no protocol "same-id": did you mean "same',
        ),
        ("[copy]", "[copy]\nprotocols: []", r"line 8: protocols is empty"),
        (
            "size: 64",
            "protocols: [same-identity, same-identity]",
            r'line 3: "same-.*" stands twice',
        ),
        (
            "sources: {frontal: [anna.png], side: [berta.png]}\n",
            "",
            r'the key "sources" is missing',
        ),
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
    ("section", "message"),
    [
        ("{scale: 1}", r"scale must be a whole number >= 2, not 1"),
        ("{scale: 7}", r"line 8: the default wordings fit 2, 3, 5 and 9 steps, not 7"),
        ("{task: arc}", r'line 8: no task "arc": did you mean "acr"'),
        ("{gold: -1}", r"gold must be a whole number >= 0"),
        ("{watch: 1.5}", r"watch must be between 0 and 1, not 1.5"),
        ("{watch: true}", r"watch must be between 0 and 1, not True"),
        ("{show_source: maybe}", r"show_source must be true or false, not 'maybe'"),
        ("{task: pair, references: 1}", r"pairs have no hidden references"),
        ("{criteria: {}}", r"criteria is empty"),
        ("{criteria: [jitter]}", r"criteria must be a mapping"),
        ("{criteria: {1: {}}}", r"a name is expected, not 1: quote it"),
        ("{criteria: {jiter: {label: J}}}", r'"jiter" needs "question"; or did you mean "jitter"'),
        ("{criteria: {overall: {}}}", r'"overall" is no criterion\'s name'),
        ("{criteria: {jitter: {steps: [a, b]}}}", r"line 8: 2 steps for a scale of 5: name 5"),
        ("{criteria: {jitter: {steps: [a, 2]}}}", r"a text is expected, not 2: quote it"),
        ("{criteria: {jitter: {labels: J}}}", r'unknown key "labels": did you mean "label"'),
        ("{questions: [vison]}", r'no question "vison": did you mean "vision"'),
        ("{questions: {hand: {label: H}}}", r'the new question "hand" needs "choices"'),
        ("{questions: {vision: {choices: [good]}}}", r"choices must be two or more"),
        ("{texts: {nxt: N}}", r'unknown key "nxt": did you mean "next"'),
        ("{texts: {progress: '{don} of {total}'}}", r"braces in progress may hold {done}"),
        ("{consent: 3}", r"consent must be a text, not 3"),
        ("{sessions: 0}", r"sessions must be a whole number >= 1, not 0"),
        ("{kept: 10}", r"kept must be a text, not 10"),
        ("{return_address: here}", r"return_address must be that of a page, https://.."),
        ("{return_address: 'javascript:1'}", r"return_address must be that of a page"),
        ("{screening: {glod: 1}}", r'unknown key "glod": did you mean "gold"'),
        ("{screening: {gold: high}}", r"gold must be a number of at least 0, or null"),
        ("{screening: {seconds: null}}", r"seconds must be a number of at least 0, not None"),
        ("{screening: {keep: r-1a}}", r"keep must be a list"),
        ("{preset: p910}", r'no preset "p910": did you mean "p910-avatar"'),
        ("{preset: p910-avatar, task: pair}", r'no task "pair": '),
        ("{checks: [color]}", r'no check "color": did you mean "colour"'),
        ("{feedback: 1}", r"feedback must be true or false, not 1"),
        ("{store: ratings.db}", r"store must be an address, postgresql"),
    ],
)
def test_a_wrong_ratings_section_is_refused_with_its_line(
    small_study: Path, section: str, message: str
) -> None:
    with pytest.raises(StudyFileError, match=message) as refusal:
        with_ratings(small_study, section)
    assert f"{small_study}, line 8: " in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("task", "items"), [("acr", 8), ("dcr", 3)])
def test_a_preset_brings_its_criteria_and_feedback(
    small_study: Path, task: str, items: int
) -> None:
    ratings = with_ratings(small_study, f"{{preset: p910-avatar, task: {task}}}")
    assert len(ratings.asked) == items
    assert ratings.feedback
    best = {criterion.steps[-1] for criterion in ratings.asked if criterion.name != "creepy"}
    assert best == {"Strongly agree"}
    assert {len(criterion.steps) for criterion in ratings.asked} == {5}


def test_of_a_preset_some_items_can_be_asked(small_study: Path) -> None:
    ratings = with_ratings(
        small_study, "{preset: p910-avatar, criteria: {creepy: {}, realistic: {}}, feedback: false}"
    )
    assert [criterion.name for criterion in ratings.asked] == ["creepy", "realistic"]
    assert ratings.asked[0].steps[-1] == "Strongly disagree"  # the best is always the highest
    assert not ratings.feedback


def test_a_source_may_not_be_named_like_a_first_frame(small_study: Path) -> None:
    (small_study.parent / "anna.png").rename(small_study.parent / "first-of-talk.png")
    small_study.write_text(small_study.read_text().replace("anna.png", "first-of-talk.png"))
    with pytest.raises(StudyFileError, match=r'line 5: "first-of-" begins the names of drivings'):
        load_study(small_study)


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
    [
        ("anna", "anna"),
        ("my photo (2)", "my-photo-2"),
        ("a__b", "a_b"),
        ("Zoë_1", "Zoë_1"),
        ("Jose\N{COMBINING ACUTE ACCENT}", "Jos\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("हिन्दी", "हिन्दी"),
        ("日本 ‫עברית", "日本-עברית"),
        ("👩", "👩"),
        ("👩👨", "👩👨"),
        ("👩‍🔬 at work", "👩‍🔬-at-work"),
        ("a b'c\"d`e^f|g<h>i:j?k*l/m\\n\to", "a-b-c-d-e-f-g-h-i-j-k-l-m-n-o"),
        ("?!#", ""),
    ],
)
def test_names_are_safe_in_file_names(text: str, name: str) -> None:
    assert slug(text) == name


def named_study(folder: Path, listed: str, *files: str) -> Path:
    """Write a study of empty files; its drivings are the files, its first line names them."""
    (folder / "s.png").touch()
    for name in files:
        (folder / name).touch()
    text = f"name: s\nsources: {{frontal: [s.png]}}\ndrivings: {{frontal: {listed}}}\n"
    path = folder / "study.yaml"
    path.write_text(f"{text}methods: [copy]\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(("here", "there"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_file_is_found_in_either_form_of_unicode(tmp_path: Path, here: str, there: str) -> None:
    written, lies = (unicodedata.normalize(form, "José é.mp4") for form in (here, there))
    (driving,) = load_study(named_study(tmp_path, f'["{written}"]', lies)).drivings
    assert driving.path.is_file() and driving.name == unicodedata.normalize("NFC", "José-é")


def test_names_that_look_the_same_are_refused_as_one(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "é.mp4") for form in ("NFC", "NFD")]
    study = named_study(tmp_path, f'["{names[0]}", "{names[1]}"]', *names)
    with pytest.raises(StudyFileError, match='duplicate name "é"'):
        load_study(study)


def test_a_name_too_long_for_its_clips_is_refused_at_the_start(tmp_path: Path) -> None:
    for name in ("x" * 200, "日" * 66):
        study = named_study(tmp_path, f"[{name}.mp4]", f"{name}.mp4")
        with pytest.raises(StudyFileError, match="at most 200 fit: rename") as caught:
            load_study(study)
        assert "\n" not in str(caught.value)


def test_a_file_of_which_no_name_can_be_made_needs_one(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError, match="no name can be made"):
        load_study(named_study(tmp_path, '["#!.mp4"]', "#!.mp4"))
    study = load_study(named_study(tmp_path, '[{path: "#!.mp4", name: talk}]', "#!.mp4"))
    assert study.drivings[0].name == "talk"


def test_a_study_can_be_checked_by_its_file(small_study: Path) -> None:
    assert check_study(small_study) == check_study(load_study(small_study))
