"""The tables of benchmark.md, from what was measured of the checkpoints that come along.

``python docs/benchmark.py`` writes them into the page, and the table that they share into every
checkpoint's model card: a method is added by its file, ``benchmark-256.json`` in its folder.
"""

import re
from pathlib import Path

from studykit.methods import weights
from studykit.metrics.benchmark import gains_table, papers_table, shipped

PAGE = Path(__file__).with_suffix(".md")
BETWEEN = r"(<!-- {0}: begin -->\n).*?(<!-- {0}: end -->)"


def page(text: str) -> str:
    """Return the page with its tables as they are to be."""
    measured = shipped(weights.SHIPPED)
    for name, table in (("gains", gains_table(measured)), ("papers", papers_table(measured))):
        text, found = re.subn(
            BETWEEN.format(name),
            lambda match, table=table: f"{match[1]}{table}\n{match[2]}",
            text,
            flags=re.DOTALL,
        )
        assert found == 1, name
    return text


if __name__ == "__main__":
    from studykit.training.card import write_card

    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for folder in sorted(weights.SHIPPED.glob("*/")):
        print(write_card(folder))
    print(PAGE)
