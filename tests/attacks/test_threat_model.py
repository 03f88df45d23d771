"""SECURITY.md names tests that are there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_claim_names_a_test() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::([\w:]+))?`", text)
    assert len(named) > 10
    for path, test in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        there = {node.name for node in ast.walk(tree) if hasattr(node, "name")}
        assert set(filter(None, test.split("::"))) <= there, f"{path}::{test}"
    table = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert all("`tests/" in line for line in table[1:])
