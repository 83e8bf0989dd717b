"""Write docs/tables.md from the declared tables and the records they hold: ``python docs/make_tables.py``."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Final

from make_configuration import UNITS, meanings
from sqlalchemy import CheckConstraint, Column, Table

from alflow.domain import Evaluation, Label, Level, Structure
from alflow.store import records, tables

PAGE: Final = Path(__file__).with_name("tables.md")

HEAD: Final = """\
# Every column

Written by `docs/make_tables.py` from `alflow/store/tables.py` and the records the rows are read into; change those, not
this page. How the tables belong together, how arrays and times are written, and how to ask:
[the tables](../db/README.md).
"""

EXPLAINED_BY: Final[dict[str, tuple[type, ...]]] = {
    "campaigns": (records.CampaignRecord,),
    "structures": (Structure,),
    "levels": (Level,),
    "labels": (Label, Evaluation),
    "frames": (records.FrameRecord,),
    "label_jobs": (records.JobRecord,),
    "executions": (records.ExecutionRecord,),
    "walkers": (Structure, records.WalkerRecord),
    "committees": (records.CommitteeRecord,),
    "datasets": (records.DatasetRecord,),
    "dataset_members": (),
    "events": (records.EventRecord,),
}
"""Classes whose Attributes explain a table's columns; later ones win."""

ONLY_COLUMNS: Final = {
    "committees.id": "Number of the committee in this store.",
    "dataset_members.dataset_digest": "The dataset.",
    "dataset_members.split": "In which part it is.",
    "executions.id": "Number of the execution in this store.",
    "labels.created_at": "When it was committed.",
    "labels.execution_key": "The attempt that computed it; NULL if it came from elsewhere.",
    "labels.max_force_ev_ang": "Largest force on any atom, eV/Å.",
    "structures.pbc": "Whether each cell vector repeats: three letters, T or F.",
    "walkers.pbc": "Whether each cell vector repeats: three letters, T or F.",
    "levels.id": "SHA-256 of engine and settings.",
    "structures.formula": "Chemical formula in Hill order.",
    "structures.id": "SHA-256 of the exact content.",
    "structures.n_atoms": "Number of atoms.",
}
"""Columns that are no attribute of a record."""


def attribute(column: str) -> str:
    """Name of the attribute a column holds: without its unit, and without the ending of JSON."""
    endings = ("_json", "_ang_fs", "_ang3", "_ev_ang3", *UNITS)
    ending = next((ending for ending in sorted(endings, key=len, reverse=True) if column.endswith(ending)), "")
    return column.removesuffix(ending)


def meaning(table: str, column: str) -> str:
    """What a column holds.

    Raises:
        ValueError: It is not explained anywhere.
    """
    known: dict[str, str] = {}
    for cls in EXPLAINED_BY[table]:
        known |= meanings(cls)
    own = {"structure_id": "The structure.", "level_id": "The level of theory."}
    text = ONLY_COLUMNS.get(f"{table}.{column}") or known.get(column) or known.get(attribute(column)) or own.get(column)
    if text is None:
        raise ValueError(f"{table}.{column} is not explained; add it to the Attributes of its record.")
    return text.replace("``", "`").replace("|", "\\|")


def kind(column: Column[Any]) -> str:
    """What the database stores."""
    name = type(column.type).__name__
    words = {"ArrayColumn": "array", "BigInteger": "integer", "FiniteNumber": "number", "FreeText": "text"}
    words |= {"Json": "JSON", "String": "text", "Text": "text", "UtcTime": "time (UTC)"}
    return words.get(name, name.lower()) + (", may be NULL" if column.nullable else "")


def key(column: Column[Any]) -> str:
    """Whether a column is the key, or which one it names."""
    leads = [f"`{target.target_fullname}`" for target in column.foreign_keys]
    unique = ["unique"] if column.unique else []
    return ", ".join([*(["key"] if column.primary_key else []), *unique, *(f"→ {lead}" for lead in leads)]) or "–"


def words(table: Table) -> str:
    """The lists of words that columns are limited to."""
    checks = [str(rule.sqltext) for rule in table.constraints if isinstance(rule, CheckConstraint)]
    lists = [check.split(" IN ", 1) for check in sorted(checks) if " IN " in check]
    return "".join(f"\n- `{column}` is one of {listed.strip('()').replace(chr(39), '`')}." for column, listed in lists)


def section(row: type[tables.TableRow]) -> str:
    """One table."""
    table = row.__table__
    assert isinstance(table, Table)
    about = (inspect.getdoc(row) or "").split("\n\n")[0].replace("\n", " ")
    lines = [f"## {table.name}", about, "", "| column | type | key | meaning |", "|---|---|---|---|"]
    lines += [f"| `{c.name}` | {kind(c)} | {key(c)} | {meaning(table.name, c.name)} |" for c in table.columns]
    return "\n".join(lines) + "\n" + (f"{words(table)}\n" if words(table) else "")


def page() -> str:
    """The whole page."""
    rows = [getattr(tables, name) for name in tables.__all__ if name != "TableRow"]
    return "\n".join([HEAD, *(section(row) for row in rows)])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
