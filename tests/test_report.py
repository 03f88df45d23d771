"""The report shows every cell, failures included, as one page that needs nothing else."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from studykit import report
from studykit.cli import main
from studykit.clips.animate import animate_cells
from studykit.clips.folder import study_folder
from studykit.media import video
from studykit.report import previews, sections, strips
from studykit.report.blocks import Absent, Block, Picture, Section, Table, Words, jpeg_url
from studykit.report.page import fill_page, page_key, write_page
from studykit.report.strips import MOMENTS, moment_indices, worst_moments
from studykit.run import execute_notebook
from studykit.study.file import load_study


@pytest.fixture
def results(small_study: Path) -> report.Results:
    """The small study with its clips made, one of its drivings unreadable."""
    (small_study.parent / "turn.mp4").write_text("not a video")
    study = load_study(small_study)
    out = study_folder(study, small_study.parent / "out")
    animate_cells(study, out)
    return report.load_results(small_study, out)


def test_the_page_is_one_file_with_every_clip_and_failure(results: report.Results) -> None:
    executed = execute_notebook(
        "4_report", results.out / "notebooks", study=str(results.study.path), out=str(results.out)
    )
    page = results.out / "report.html"
    write_page(executed, page, title="small <study>", key="abc123")
    text = page.read_text()
    assert page_key(page) == "abc123"
    assert "<title>small &lt;study&gt;" in text
    assert text.count("<video") == 3  # two clips and the driving that can be read
    assert text.count("no clip") == 2
    assert "turn.mp4" in text
    assert "2 have a clip, 2 failed" in text
    assert text.count("Nobody has rated these clips yet") == 1
    assert not re.findall(r'(?:src|href)="https?://', text)
    assert "import report" not in text  # no code cells
    markdown = (results.out / "report.md").read_text()
    assert "# Study: small" in markdown
    sections = re.findall("^## (.*)$", markdown, re.MULTILINE)
    assert sections == ["What was studied", "Summary", "Clips", "Film strips", "Failures and time",
                        "Methods", "Manifest"]  # fmt: skip
    assert re.findall("<h2 id='section-[0-9]+'>(.*?)</h2>", text) == sections
    assert "<figure" not in markdown and "data:" not in markdown
    for link in re.findall(r"]\(([^)]+)\)", markdown):
        assert (results.out / link).exists()


def test_clips_play_where_they_lie_seen_from_the_notebook_or_from_the_copy_of_a_run(
    results: report.Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, out in (("notebooks", Path("../out")), ("out/notebooks", results.out)):
        here = results.study.path.parent / folder
        here.mkdir(exist_ok=True)
        monkeypatch.chdir(here)
        shown = report.play(report.load_results(results.study.path, out)).html
        clips = re.findall(r"<video src='([^']+)'", shown)
        assert [Path(clip).stem for clip in clips] == ["anna__talk__copy", "berta__talk__copy"]
        assert all((here / clip).is_file() for clip in clips)
        assert shown.count("no clip") == 2
        assert str(out / "clips") in shown


def test_film_strips_show_the_clips_own_frames(results: report.Results) -> None:
    report.film_strips(results)
    strip = np.asarray(Image.open(results.out / "figures/strip__copy__talk.png"))
    clip = list(video.read_frames(results.out / "clips/anna__talk__copy.mp4"))
    tile = np.asarray(Image.fromarray(clip[-1]).resize((160, 160), Image.Resampling.LANCZOS))
    assert np.array_equal(strip[26 + 164 : 26 + 164 + 160, -164:-4], tile)


def test_moments_include_the_first_and_the_last_frame() -> None:
    assert moment_indices(48) == [0, 12, 24, 35, 47]
    assert moment_indices(1) == [0] * MOMENTS
    assert moment_indices(2) == [0, 0, 0, 1, 1]


def test_a_study_that_was_not_run_gives_one_reason_for_all_that_is_missing(
    small_study: Path,
) -> None:
    results = report.load_results(small_study, small_study.parent / "nothing")
    studied = report.studied(results).markdown
    assert studied.rstrip().endswith("4 cells in 4 conditions. The study was not run yet.")
    assert "The study was not run yet, so that nothing can be said" in report.summary(results).html
    for section in (
        report.clips, report.film_strips, report.verdicts, report.scores, report.statistics,
        report.metrics, report.failures, report.timing, report.raters, report.methods,
        report.manifest,
    ):  # fmt: skip
        shown = section(results)
        assert shown.html.startswith("<div class='absent'>")
        assert shown.markdown.endswith(": the study was not run yet.")


def test_a_study_without_a_clip_is_a_short_page_that_says_why(results: report.Results) -> None:
    rows = {name: replace(row, status="failed", error=row.error or "no")
            for name, row in results.rows.items()}  # fmt: skip
    failed = replace(results, rows=rows)
    assert "0 have a clip, 4 failed." in report.studied(failed).markdown
    assert "weights" not in report.studied(failed).markdown
    said = report.summary(failed).markdown
    assert said == ("- No clip could be made, so that nothing can be said about how good clips "
                    "look: the reasons stand under Failures and time.")  # fmt: skip
    assert "turn.mp4" in report.failures(failed).markdown
    for section in (
        report.clips, report.film_strips, report.verdicts, report.scores, report.statistics,
        report.metrics, report.timing, report.raters, report.methods,
    ):  # fmt: skip
        assert section(failed).html.startswith("<div class='absent'>")
        assert section(failed).markdown.endswith(": no clip could be made.")


def test_the_command_refuses_a_study_that_was_not_run(
    small_study: Path, capsys: pytest.CaptureFixture
) -> None:
    out = small_study.parent / "nothing"
    with pytest.raises(SystemExit) as ended:
        main(["report", str(small_study), "--out", str(out)])
    assert ended.value.code == 2
    assert "was not run yet" in capsys.readouterr().err
    assert not out.exists()


def test_contents_lead_to_every_section_figure_and_table(tmp_path: Path) -> None:
    data = pd.DataFrame({"a": [1]})
    Image.new("RGB", (4, 4)).save(tmp_path / "drawn.png")
    picture = Picture(tmp_path / "drawn.png", tmp_path, "A picture: of 2. More.")
    tables = [Table(name, f"The {name} table. More.", data, data) for name in ("one", "two")]
    blocks = [Words("# T"), Words("## First"), tables[0], picture, Words("## Second"), tables[1]]
    fill_page(tmp_path / "page.html", Section(blocks), title="t")
    text = (tmp_path / "page.html").read_text()
    links = re.findall("href='#([^']+)'", text)
    assert links == ["section-1", "section-2", "table-1", "figure-1", "table-2"]
    assert [text.count(f"id='{link}'") for link in links] == [1] * 5
    assert text.index("<h1>") < text.index("<nav") < text.index("<h2")
    assert "<b>Table 2.</b> The two table. More. <a href='tables/two.csv'>CSV</a>" in text
    assert "<a href='#figure-1'>Figure 1</a>. A picture</li>" in text
    assert "<summary>1 figure and 2 tables</summary>" in text
    assert "<a href='drawn.png'><img " in text


def test_a_heading_with_nothing_below_it_is_left_out(tmp_path: Path) -> None:
    def output(block: Block) -> dict:
        forms = {"text/html": block.to_html(), "text/markdown": block.to_markdown()}
        return {"cell_type": "code", "outputs": [{"data": forms}]}

    def text(words: str) -> dict:
        return {"cell_type": "markdown", "source": [words]}

    cells = [text("## Empty"), output(Absent("No.")), text("## Half"), output(Absent("No.")),
             output(Words("Yes.")), text("## Last")]  # fmt: skip
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells}))
    write_page(tmp_path / "n.ipynb", tmp_path / "page.html", title="t")
    assert (tmp_path / "page.md").read_text() == "## Half\n\nYes.\n"


def test_a_large_study_is_shown_by_sums_a_sample_and_links(
    results: report.Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, (anna, berta) = results.study, results.study.sources
    more = tuple(replace(berta, name=f"berta-{number}") for number in range(3))
    talk = results.rows["anna__talk__copy"]
    turn = results.rows["anna__turn__copy"]
    rows = dict(results.rows)
    for source in more:
        for row, driving in ((talk, "talk"), (turn, "turn")):
            name = f"{source.name}__{driving}__copy"
            rows[name] = replace(row, cell=name, source=source.name, source_type=source.type)
            if row is talk:
                shutil.copy(results.out / talk.clip, results.out / rows[name].clip)
    large = replace(results, study=replace(study, sources=(anna, berta, *more)), rows=rows)
    assert report.clips(large).html.count("<td><video") == 5
    monkeypatch.setattr(sections, "MOST_SHOWN", 4)
    clips = report.clips(large).html
    assert clips.count("<td><video") == 2  # of anna and berta, by the driving that can be read
    assert "<td>copy</td><td>side</td><td>frontal</td><td>4</td><td>4</td><td>0</td>" in clips
    assert "<td>copy</td><td>side</td><td>stylised</td><td>4</td><td>0</td><td>4</td>" in clips
    assert "href='clips/berta-1__talk__copy.mp4'" in clips
    said = report.film_strips(large).markdown
    assert "A sample: the first source and the first driving of each type." in said
    assert "These drivings at five moments" in said and "The drivings" not in said
    many = replace(large.study, methods=large.study.methods * 3)
    (sample,) = sections._shown(replace(large, study=many))[1]
    assert sample.text.endswith("of each type. The first 1 of 3 methods.")
    strips = list((results.out / "figures").glob("strip__*"))
    assert len(strips) == 2
    failed = report.failures(large).html
    assert failed.count("<tr>") == 2  # the head, and one kind for five cells
    assert "<td class='short'>5</td>" in failed
    assert "anna__turn__copy" in failed


def test_a_study_of_listed_pairs_shows_these_and_no_others(
    results: report.Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = (("anna", "talk"), ("berta", "talk"), ("berta", "turn"))
    listed = replace(results, study=replace(results.study, listed=pairs))
    assert "), in 3 listed pairs, were crossed with" in report.studied(listed).markdown
    assert "were combined in 3 listed pairs" in report.methods(listed).markdown
    html = report.clips(listed).html
    assert (html.count("<td><video"), html.count("<td></td>")) == (2, 1)
    monkeypatch.setattr(sections, "MOST_SHOWN", 2)
    sample = sections._shown(listed)[0].study
    assert sample.listed == pairs  # each is the first of its types
    assert "A sample" in report.film_strips(listed).html


def test_many_methods_stand_side_by_side_where_pairs_are_listed(results: report.Results) -> None:
    (copy,), rows = results.study.methods, dict(results.rows)
    others = tuple(replace(copy, name=f"copy-{number}") for number in range(3))
    for other in others:
        name = f"anna__talk__{other.name}"
        made = rows["anna__talk__copy"]
        rows[name] = replace(made, cell=name, method=other.name)
        shutil.copy(results.out / made.clip, results.out / rows[name].clip)
    study = replace(results.study, methods=(copy, *others), listed=(("anna", "talk"),))
    many = replace(results, study=study, rows=rows)
    html = report.clips(many).html
    assert "a source and its driving a row, a method a column" in html
    assert (html.count("<table"), html.count("<tr>"), html.count("<td><video")) == (1, 2, 5)
    assert html.index("copy-0</th>") < html.index("copy-1</th>") < html.index("<td><video")
    strips = [block for block in report.film_strips(many).blocks if hasattr(block, "path")]
    assert [block.path.name for block in strips] == ["strip__talk.png", "strip__turn.png"]
    assert strips[0].caption.startswith("Driving talk (frontal): top row the driving")
    assert Image.open(strips[0].path).height > 5 * 160  # the driving, and four clips


def test_the_worst_moment_is_a_column_of_its_own_where_clips_were_measured(
    results: report.Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    curve = {"landmark_motion_error": np.array([0, 1, 9, np.nan, 3, 2])}
    monkeypatch.setattr(report.Results, "curves", lambda self, cell: curve)
    study = results.study
    path, worst_by = strips.film_strip(results, study.methods[:1], study.drivings[0])
    assert worst_by == "landmark motion"
    strip = np.asarray(Image.open(path))
    clip = list(video.read_frames(results.out / "clips/anna__talk__copy.mp4"))
    tile = np.asarray(Image.fromarray(clip[2]).resize((160, 160), Image.Resampling.LANCZOS))
    drawn = strip[26 + 164 : 26 + 164 + 160, -164:-4]
    assert np.array_equal(drawn[30:150, 10:150], tile[30:150, 10:150])
    assert not np.array_equal(drawn[:3], tile[:3])  # its frame


def test_the_worst_moment_is_by_a_metric_that_all_clips_have() -> None:
    truth = {"psnr_face": np.array([30.0, 12.0, 25.0])}
    motion = {"landmark_motion_error": np.array([1.0, 2.0, 5.0])}
    assert worst_moments({"a": truth | motion, "b": truth}) == (
        "PSNR of the face",
        {"a": 1, "b": 1},
    )
    assert worst_moments({"a": truth | motion, "b": motion}) == (
        "landmark motion",
        {"a": 2, "b": 2},
    )
    assert worst_moments({"a": truth, "b": {}}) == ("", {})
    assert worst_moments({}) == ("", {})


def test_previews_of_many_or_long_clips_share_the_room_of_the_page(
    results: report.Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bytes_of_videos() -> int:
        page = report.clips(results).html
        return sum(map(len, re.findall(r"data:video/mp4;base64,([^']+)", page)))

    roomy = bytes_of_videos()
    monkeypatch.setattr(previews, "_ROOM", 6 * 1500)
    assert bytes_of_videos() < 0.8 * roomy


def test_a_picture_takes_no_more_room_than_it_is_given() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    assert len(jpeg_url(noise)) > 60_000
    assert len(jpeg_url(noise, room=30_000)) < 30_000 * 4 / 3 + 100


def test_same_identity_clips_stand_under_their_own_driving(small_study: Path) -> None:
    small_study.write_text(small_study.read_text() + "protocols: [cross-identity, same-identity]\n")
    study = load_study(small_study)
    out = study_folder(study, small_study.parent / "out")
    animate_cells(study, out)
    results = report.load_results(small_study, out)
    page = report.clips(results).html
    assert page.count("<td><video") == 6
    assert page.count("its own reference frame") == 1
    assert "6 cells" in report.studied(results).markdown
    report.film_strips(results)
    strip = Image.open(out / "figures/strip__copy__talk.png")
    assert strip.height == 26 + 4 * 164  # the driving, two sources, its first frame
