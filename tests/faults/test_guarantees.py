"""The table of promises names every fault once, and only tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
OPEN: Final[set[str]] = set()
"""Faults that nothing tries yet."""


def table() -> dict[str, str]:
    """The column of tests of each fault."""
    text = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
    lines = [line.strip("|").split(" | ") for line in text.splitlines() if re.match(r"\| F\d", line)]
    assert all(len(cells) == 5 for cells in lines)
    return {cells[0].strip(): cells[3] for cells in lines}


def test_every_fault_has_a_row_and_what_is_not_open_has_a_test() -> None:
    rows = table()
    assert list(rows) == [f"F{number}" for number in range(1, 23)]
    assert {name for name, tests in rows.items() if "::" not in tests} == OPEN
    assert {name for name, tests in rows.items() if tests.strip() == "open"} == OPEN


def test_every_test_of_the_table_exists_and_every_fault_test_is_in_it() -> None:
    named = {(file, test) for tests in table().values() for file, test in re.findall(r"`([\w/.]+)::(\w+)`", tests)}
    missing = sorted(f"{file}::{test}" for file, test in named if test not in functions(ROOT / file))
    assert missing == []
    here = [file for file in Path(__file__).parent.glob("test_*.py") if file != Path(__file__)]
    unnamed = [file.name for file in here if not any(ROOT / named_file == file for named_file, _ in named)]
    assert unnamed == []


def functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_promise_is_that_of_the_readme() -> None:
    page = " ".join((ROOT / "docs/guarantees.md").read_text(encoding="utf-8").replace("\n>", "").split())
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    promise = readme.partition("## The promise ")[2].partition(" ## ")[0].partition(" [docs/guarantees.md]")[0]
    promise = promise[: promise.index("was kept.") + len("was kept.")]
    assert promise in page
