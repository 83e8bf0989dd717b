"""``alflow db``: what a check of a database found, and what was copied, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from alflow.campaign.checking import check_database
from alflow.campaign.copying import copy_database
from alflow.store import Finding
from alflow.store.location import shown

__all__ = ["check", "copy"]

SHOWN_ROWS: Final = 20
"""Rows of one broken invariant that are printed."""


def check(database: str, name: str | None = None, deep: bool = False) -> bool:
    """Check a database, and print every invariant and every row that breaks one.

    Returns:
        Whether all of them hold.

    Raises:
        StoreError: It cannot be opened or read.
    """
    console = Console()
    found = check_database(database, name, deep)
    console.print(findings_table(database, found))
    broken = [(about, finding) for about, findings in found.items() for finding in findings if not finding.holds]
    for about, finding in broken:
        console.print(Text(f"\n{_title(about, finding)}: {finding.sentence} Broken by:", style="bold"), soft_wrap=True)
        for line in finding.broken[:SHOWN_ROWS]:
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
        if len(finding.broken) > SHOWN_ROWS:
            console.print(f"  … and {len(finding.broken) - SHOWN_ROWS} more", highlight=False)
    number = sum(len(findings) for findings in found.values())
    verdict = f"{len(broken)} of {number} invariants are broken." if broken else f"All {number} invariants hold."
    console.print(f"\n{verdict}", highlight=False)
    return not broken


def copy(source: str, target: str, name: str | None = None) -> None:
    """Copy a database or a campaign, and print how many rows of each table and where the files are.

    Raises:
        StoreError: Nothing was copied; the message says why.
    """
    console = Console()
    done = copy_database(source, target, name)
    table = Table(title=f"{shown(source)} → {shown(target)}", title_justify="left", box=None)
    table.add_column("table")
    for column in ("copied", "there before"):
        table.add_column(column, justify="right")
    for row, (copied, there) in done.rows.items():
        table.add_row(row, str(copied), str(there or "–"))
    console.print(table)
    console.print("Every row that was copied was read back from both sides; they are the same.", highlight=False)
    for moved in done.folders:
        told = f"{moved.n_files} files copied from {moved.before}" if moved.n_files else "no files had to be copied"
        console.print(f"{moved.name}: files in {moved.now} ({told})", highlight=False, markup=False, soft_wrap=True)
    console.print("Go on with one of the two databases: each is a campaign of its own from now on.", highlight=False)


def findings_table(database: str, found: Mapping[str, Sequence[Finding]]) -> Table:
    """Every invariant with the number of rows that were looked at."""
    table = Table(title=f"Check of {shown(database)}", title_justify="left", box=None)
    for column in ("invariant", "looked at", "broken"):
        table.add_column(column, justify="left" if column == "invariant" else "right")
    table.add_column("what must hold", overflow="fold")
    for about, findings in found.items():
        for finding in findings:
            number = Text(str(len(finding.broken) or "–"), style="" if finding.holds else "bold red")
            table.add_row(_title(about, finding), str(finding.checked), number, finding.sentence)
    return table


def _title(about: str, finding: Finding) -> str:
    return f"{about}: {finding.name}" if about else finding.name
