"""What the page offers: settings that methods have, in plain words; nothing names a file."""

import dataclasses

import pytest

from studykit.errors import StudyFileError
from studykit.methods import create_method, method_class, weights
from studykit.pages.offer import METHODS, check_settings, examples, offered

SETTINGS = [(name, setting) for name, (_, _, shown) in METHODS.items() for setting in shown]


@pytest.mark.parametrize(("method", "setting"), SETTINGS, ids=lambda x: getattr(x, "name", x))
def test_every_setting_is_the_methods_own_with_its_default_in_range(method, setting) -> None:
    default = {field.name: field.default for field in dataclasses.fields(method_class(method))}
    value = default[setting.name]
    assert isinstance(value, bool | str) or setting.low <= value <= setting.high
    create_method(method, **{setting.name: value})
    check_settings(method, {setting.name: value})
    assert len(setting.text) > 10


def test_weights_are_those_that_are_here() -> None:
    fomm = next(each for each in offered() if each["name"] == "fomm")
    (named,) = [setting for setting in fomm["settings"] if setting["name"] == "weights"]
    cached = [known.name for known in weights.status() if known.cached]
    assert named["choices"] == [name for name in cached if weights.family(name) == "fomm"]


@pytest.mark.parametrize(
    ("method", "settings", "says"),
    [
        ("folder", {"path": "/etc"}, "no method"),
        ("command", {"run": "id"}, "no method"),
        ("fomm", {"config": "/etc/passwd"}, "no setting"),
        ("fomm", {"device": "gpu"}, "no setting"),
        ("fomm", {"weights": "/etc/passwd"}, "must be one of"),
        ("fomm", {"weights": "../x.pdparams"}, "must be one of"),
        ("fomm", {"reach": 1e9}, "must be from 1 to 60"),
        ("warp", {"strength": "1"}, "must be from 0 to 2"),
        ("warp", {"strength": float("nan")}, "must be from 0 to 2"),
        ("warp", {"strength": True}, "must be from 0 to 2"),
        ("auto", {"strength": 1.0}, "no setting"),
        ("warp", {"enhance": 3}, "must be from 0 to 2"),
    ],
)
def test_what_is_not_offered_is_refused(method: str, settings: dict, says: str) -> None:
    with pytest.raises(StudyFileError, match=says):
        check_settings(method, settings)


def test_no_path_is_taken_where_there_are_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "status", list)
    with pytest.raises(StudyFileError, match="weights must be left out"):
        check_settings("fomm", {"weights": "/etc/passwd"})


def test_examples_are_files_of_both_roles() -> None:
    assert next(iter(examples()["source"])) == "astronaut"
    for found in examples().values():
        assert len(found) >= 4
        assert all(path.is_file() for path in found.values())
