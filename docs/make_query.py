"""Write the table of columns of docs/query.md from the columns themselves: ``python docs/make_query.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alflow.store.asking.columns import COLUMNS

PAGE: Final = Path(__file__).with_name("query.md")
MARK: Final = "<!-- columns -->\n"


def table() -> str:
    """Every column as a row."""
    lines = ["| column | short | type | unit | meaning |", "|---|---|---|---|---|"]
    for column in COLUMNS:
        short = ", ".join(f"`{name}`" for name in column.aliases) or "–"
        words = f": {', '.join(f'`{word}`' for word in column.words)}" if column.words else ""
        cells = (f"`{column.name}`", short, column.kind, column.unit or "–", column.meaning + words)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page with the table as it should be."""
    before, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    return before + mark + table()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
