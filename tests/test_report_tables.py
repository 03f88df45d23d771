"""Tables keep every number as it was calculated, and show it as papers print it."""

import csv
from pathlib import Path

import pandas as pd
import pytest

from studykit.report import tables
from studykit.report.blocks import Section, Table, Words, plain


@pytest.fixture
def table() -> Table:
    data = pd.DataFrame({"name": ["a_b|c & 50 %", "<b>"], "score": [1.23456789, float("nan")]})
    shown = data.assign(score=[tables.number(value) for value in data["score"]])
    return Table("odd", "A caption: 95 % of $x_1$.", data, shown, {(1, 0): "verdict-poor"})


def test_a_table_is_kept_as_csv_markdown_and_latex(table: Table, tmp_path: Path) -> None:
    table.write(tmp_path)
    with (tmp_path / "odd.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows == [["name", "score"], ["a_b|c & 50 %", "1.23456789"], ["<b>", ""]]
    markdown = (tmp_path / "odd.md").read_text()
    assert markdown.splitlines()[:3] == [
        "| name | score |",
        "| --- | --- |",
        r"| a_b\|c & 50 % | 1.23 |",
    ]
    latex = (tmp_path / "odd.tex").read_text()
    assert r"a\_b|c \& 50 \% & 1.23 \\" in latex
    assert r"\caption{A caption: 95 \% of \$x\_1\$.}" in latex
    assert r"\label{tab:odd}" in latex
    assert r"\toprule" in latex


def test_names_of_the_user_are_no_markup_on_the_page(table: Table) -> None:
    page = table.to_html()
    assert "<td class='verdict-poor'>&lt;b&gt;</td>" in page
    words = Words(f"**{plain('a*b*')}** and {plain('<script>x</script>')}")
    assert "<strong>a*b*</strong>" in words.to_html()
    assert "<script" not in words.to_html()


def test_a_section_is_shown_as_html_and_kept_as_markdown(table: Table) -> None:
    section = Section([Words("One."), table])
    bundle = section._repr_mimebundle_()
    assert bundle["text/markdown"] == f"One.\n\n{table.to_markdown()}"
    assert bundle["text/html"].startswith("<p>One.</p>")


def test_an_interval_is_never_broken_over_lines(table: Table) -> None:
    shown = pd.DataFrame({"score": ["3.42 [3.10, 3.71]", "F(2, 6.5) = 7.31, p < 0.001"]})
    page = Table("t", "", shown, shown).to_html()
    assert "3.42 [3.10,\u00a03.71]" in page
    assert "F(2,\u00a06.5)\u00a0=\u00a07.31, p\u00a0&lt;\u00a00.001" in page


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.000123, "0.000123"), (0.0123456, "0.0123"), (9.876, "9.88"), (98.76, "98.8"),
     (987.6, "988"), (float("nan"), "–")],
)  # fmt: skip
def test_metrics_are_shown_with_three_digits(value: float, text: str) -> None:
    assert tables.significant(value) == text


def test_a_long_table_is_cut_on_the_page_and_whole_in_the_csv(tmp_path: Path) -> None:
    data = pd.DataFrame({"row": range(tables.MOST_ROWS + 5)})
    cut = tables._cut(Table("long", "All.", data, data.astype(str)))
    cut.write(tmp_path)
    assert cut.to_html().count("<tr>") == 1 + tables.MOST_ROWS
    assert f"The first {tables.MOST_ROWS} of {tables.MOST_ROWS + 5} rows" in cut.caption
    assert len(pd.read_csv(tmp_path / "long.csv")) == tables.MOST_ROWS + 5
