"""The benchmark: methods get the scores that their clips deserve, and read as tables."""

import json
from collections.abc import Iterator

import numpy as np
import pytest

from studykit.cli import main
from studykit.errors import NoFaceError, StudyFileError
from studykit.media import video
from studykit.media.views import Driving, Source
from studykit.methods import create_method
from studykit.metrics import benchmark, cases
from studykit.study.file import TYPES

SMALL = {"size": 96, "identities": 8}


@pytest.fixture(scope="module")
def everyone() -> list[cases.Case]:
    return list(cases.cases(**SMALL))


class Knowing:
    """Knows the target of every pair, and gives it, but refuses drawn sources; films it copies."""

    def __init__(self, everyone: list[cases.Case]) -> None:
        self.cases = {case.name: case for case in everyone}

    def prepare(self, source: Source) -> cases.Case | None:
        if source.name == "film":
            return None
        case = self.cases[source.name]
        assert np.array_equal(source.image, case.own[0])
        if case.type == "stylised":
            raise NoFaceError(f"{source.name}: no face")
        return case

    def animate(self, state: cases.Case | None, driving: Driving) -> Iterator[np.ndarray]:
        if state is None:
            yield from driving
            return
        assert len(list(driving)) == driving.frame_count == 1 + len(cases.MOTIONS)
        yield from state.own if driving.name == state.name else state.moved


def row(summary, method: str, pairing: str, kind: str):
    found = summary[(summary["method"] == method) & (summary["pairing"] == pairing)]
    return found[found["type"] == kind].iloc[0]


def test_a_method_that_knows_the_targets_is_perfect_but_where_it_refuses(everyone, tmp_path):
    film = tmp_path / "film.mp4"
    video.write_video(film, iter(everyone[0].own[[0, 7, 0, 1]]), frame_rate=25, crf=6)
    films = {"films": [film], **SMALL}
    scores = benchmark.run_benchmark({"knowing": Knowing(everyone)}, tmp_path, **films)
    found = scores.summary
    for pairing in cases.PAIRINGS:
        best, copied = (row(found, name, pairing, "frontal") for name in ("knowing", "copy"))
        assert best["psnr"] == 100 and best["l1"] == best["mouth"] == best["eyes"] == 0
        floor = row(found, "truth", pairing, "frontal")["landmarks"]
        assert np.isclose(best["landmarks"], floor, rtol=1e-5)
        assert best["landmarks"] < 0.6 * copied["landmarks"]
        assert (copied["gain"], copied["l1 share"], copied["mouth"]) == (0, 1, 1)
        refused, still = (row(found, name, pairing, "stylised") for name in ("knowing", "copy"))
        assert refused["failed"] == 100 and refused["psnr"] == still["psnr"]
        assert row(found, "knowing", pairing, "all")["failed"] == 25
    papers = scores.papers.set_index(["pairing", "method"])
    for pairing in (*cases.PAIRINGS, benchmark.FILMED):
        best, copied = papers.loc[pairing, "knowing"], papers.loc[pairing, "copy"]
        assert best["l1"] < copied["l1"] and best["akd"] < copied["akd"]
        assert best["aed_truth"] < copied["aed_truth"] and best["ssim"] > copied["ssim"]
    best, copied = papers.loc[benchmark.FILMED, "knowing"], papers.loc[benchmark.FILMED, "copy"]
    assert (best["psnr"], best["l1"], best["akd"], best["aed_truth"]) == (100, 0, 0, 0)
    assert copied["sms"] == 0 < best["sms"] and copied["csim"] == pytest.approx(1, abs=1e-6)
    assert papers["sms"].notna().sum() == 2  # the rendered frames do not follow each other
    written = json.loads((tmp_path / "benchmark.json").read_text())
    assert written["films"] == 1 and written["methods"]["knowing"]["seconds"] >= 0
    assert (written["size"], written["seed"], len(written["summary"])) == (96, 0, 24)
    assert "| frontal  | knowing |" in (tmp_path / "summary.md").read_text()
    assert len((tmp_path / "frames.csv").read_text().splitlines()) == 1 + 3 * 8 * 2 * 10
    for pairing, rows in (("same", 2), ("cross", 3)):
        sheet = video.read_image(tmp_path / f"{pairing}.png")
        assert sheet.shape[0] > 6 * rows * 160 and sheet.shape[1] > 11 * 160


def test_clips_made_elsewhere_are_scored_from_a_folder(everyone, tmp_path, capsys):
    """The targets themselves, as mp4 files: only the compression is left to be measured."""
    pairs = benchmark.write_pairs(tmp_path / "inputs", **SMALL)
    lines = [line.split(",") for line in pairs.read_text().splitlines()[1:]]
    assert len(lines) == 16
    by_name = {case.name: case for case in everyone}
    for source, driving, clip in lines:
        case = by_name[source.removeprefix("sources/").removesuffix(".png")]
        assert np.array_equal(video.read_image(pairs.parent / source), case.own[0])
        assert video.probe(pairs.parent / driving).frame_count == 11
        frames = case.own if case.name in driving else case.moved
        video.write_video(tmp_path / "made" / clip, frames, frame_rate=benchmark.FRAME_RATE, crf=6)
    arguments = ["--clips", tmp_path / "made", "--size", 96, "--identities", 8]
    with pytest.raises(SystemExit) as stop:
        main(["stimuli", "benchmark", *map(str, arguments), "--out", str(tmp_path / "out")])
    assert stop.value.code == 0
    assert "| frontal  | made   |" in capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "benchmark.json").read_text())["summary"]
    made = [entry for entry in summary if entry["method"] == "made" and entry["type"] == "all"]
    assert all(entry["psnr"] > 32 and entry["l1"] < 1.5 for entry in made)
    (tmp_path / "made" / lines[0][2]).unlink()
    with pytest.raises(SystemExit) as stop:
        main(["stimuli", "benchmark", *map(str, arguments), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert f"no clip {lines[0][2]}" in capsys.readouterr().err


def test_tables_take_each_method_from_the_first_file_that_has_it():
    def content(gain: float, *methods: str) -> dict:
        kinds = (*TYPES, "all")
        rest = {"gain": gain, "mouth": 0.5, "eyes": 0.25, "landmarks": 3.0}
        places = [{"pairing": p, "type": k} for p in cases.PAIRINGS for k in kinds]
        summary = [{"method": m, **place, **rest} for m in methods for place in places]
        papers = [{"method": m, "pairing": "same", "l1": gain / 100} for m in methods]
        named = {m: {"seconds": 0.5, "parameters": 3_000_000} for m in methods}
        return {"methods": named, "summary": summary, "papers": papers}

    measured = [content(8, "fomm", "warp"), content(5, "sparse", "warp")]
    rows = [line.split("|")[1:-1] for line in benchmark.gains_table(measured).splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert [row[0] for row in cells[2:]] == ["warp", "fomm", "sparse"]
    assert cells[2][1:] == ["+8.00"] * 8 + ["0.50", "0.25", "3.0"] and cells[4][1] == "+5.00"
    table = benchmark.papers_table(measured).splitlines()
    assert [cell.strip() for cell in table[-1].split("|")[1:4]] == [
        "same", "sparse", "0.0500"
    ]  # fmt: skip
    assert table[-1].split()[-4:-1] == ["0.500", "|", "3.00"] and "–" in table[-1]


def test_methods_are_named_as_in_a_study_file():
    made = benchmark.contestants(["warp", "{name: calm, method: warp, strength: 0.5}"])
    assert made == {"warp": create_method("warp"), "calm": create_method("warp", strength=0.5)}
    for wrong, reason in (
        (["{strength: 1}"], "is no method"),
        (["warp", "warp"], 'two methods are called "warp"'),
        (["copy"], 'two methods are called "copy"'),
        (["wrap"], 'did you mean "warp"'),
    ):
        with pytest.raises(StudyFileError, match=reason):
            benchmark.contestants(wrong)


def test_stimuli_are_written_with_and_without_the_verbs_name(tmp_path):
    for words in (["stimuli", "write"], ["stimuli"]):
        folder = tmp_path / str(len(words))
        given = ["--identities", "1", "--frames", "2", "--size", "64"]
        with pytest.raises(SystemExit) as stop:
            main([*words, str(folder), *given])
        assert stop.value.code == 0 and (folder / "study.yaml").is_file()
