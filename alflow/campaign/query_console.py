"""``alflow query``: what was selected, as a table, CSV, JSON or extended XYZ; all but the table are streamed."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from typing import Any, Final, TextIO

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alflow.campaign.export import told_of
from alflow.errors import ConfigError, InputError, did_you_mean
from alflow.formats.extxyz import frame_text
from alflow.store import Selection, Store
from alflow.store.asking.columns import COLUMNS, DEFAULT_COLUMNS, Described, Kind, described

__all__ = ["FORMATS", "list_columns", "query"]

TABLE_ROWS: Final = 20
"""Rows of a table, unless another limit is given."""

_WIDE: Final = 200


def query(database: str, question: str, columns: str | None, form: str, count: bool, **how: Any) -> None:
    """Select frames and print them.

    Args:
        database: File or URL.
        question: What must hold; empty for all frames.
        columns: Names of columns, with commas between.
        form: One of :data:`FORMATS`.
        count: Print only how many there are.
        how: Further arguments of :meth:`alflow.store.Store.select`.

    Raises:
        QueryError: The question cannot be understood, or there is no such column or level of theory.
        ConfigError: There is no such format, or it does not go with the columns.
        StoreError: There is no such database or campaign.
    """
    if form not in FORMATS:
        raise ConfigError(f"--format {form}: expected one of {', '.join(FORMATS)}.{did_you_mean(form, FORMATS)}")
    if form == "xyz" and columns is not None:
        raise ConfigError("--columns is for tables, CSV and JSON; extended XYZ always has the structure and its label.")
    names = [name.strip() for name in columns.split(",")] if columns is not None else list(DEFAULT_COLUMNS)
    asked = list({column.name: column for column in map(described, names)}.values())
    with Store.open(database, read_only=True) as store:
        selection = store.select(question, **how)
        with _written_out():
            if count:
                print(selection.count())
            else:
                FORMATS[form](selection, asked)


@contextmanager
def _written_out() -> Iterator[None]:
    """See that what is printed arrives: a file that standard output leads to may lie on a full disk."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has seen enough; the command line ends quietly
        raise
    except OSError as error:
        # what is left in the buffer would be tried again, and complained about, at the end of the process
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise InputError(
            f"The answer could not be written to standard output ({error.strerror}); what is there is incomplete."
        ) from None


def list_columns(console: Console) -> None:
    """Print every column that can be asked for."""
    table = Table(box=None, title="Columns of alflow query", title_justify="left")
    for heading in ("column, and short", "type", "unit"):
        table.add_column(heading, no_wrap=True)
    table.add_column("meaning")
    for column in COLUMNS:
        meaning = f"{column.meaning}: {', '.join(column.words)}" if column.words else column.meaning
        cells = (
            "\n".join((column.name, *(f"  {short}" for short in column.aliases))),
            column.kind,
            column.unit,
            meaning,
        )
        table.add_row(*map(Text, cells))
    console.print(table)


def _as_table(selection: Selection, columns: Sequence[Described]) -> None:
    limit = TABLE_ROWS if selection.limit is None else selection.limit
    found = list(selection.up_to(limit + 1).rows(*_names(columns)))
    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    if not found:
        console.print("No frame is like that.")
        return
    table = Table(box=None)
    for column in columns:
        right = column.kind in (Kind.NUMBER, Kind.WHOLE)
        table.add_column(column.name, justify="right" if right else "left", overflow="fold")
    for row in found[:limit]:
        table.add_row(*(Text(_cell(column, row[column.name])) for column in columns))
    console.print(table)
    if len(found) > limit and selection.limit is None:
        console.print("… and more; --limit N shows more rows, --count counts them, --format csv writes all of them.")


def _as_csv(selection: Selection, columns: Sequence[Described]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_names(columns))
    for row in selection.rows(*_names(columns)):
        writer.writerow([json.dumps(value) if isinstance(value, list) else value for value in _plain(row).values()])


def _as_json(selection: Selection, columns: Sequence[Described]) -> None:
    out: TextIO = sys.stdout
    before = "[\n"
    for row in selection.rows(*_names(columns)):
        out.write(before + json.dumps(_plain(row), ensure_ascii=False, allow_nan=False))
        before = ",\n"
    out.write("[]\n" if before == "[\n" else "\n]\n")


def _as_xyz(selection: Selection, columns: Sequence[Described]) -> None:
    names = {campaign.id: campaign.name for campaign in selection.store.campaigns()}
    about = {"alflow_version": version("alflow")}
    for frame, job, label in selection.labelled():
        told = {"campaign": names[frame.campaign_id], **about, **told_of(job, frame)}
        sys.stdout.write(frame_text(label, told))


FORMATS: Final[Mapping[str, Callable[[Selection, Sequence[Described]], None]]] = {
    "table": _as_table,
    "csv": _as_csv,
    "json": _as_json,
    "xyz": _as_xyz,
}
"""How a selection can be printed."""


def _names(columns: Sequence[Described]) -> list[str]:
    return [column.name for column in columns]


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.tolist()
        return value.isoformat() if isinstance(value, datetime) else value

    return {name: plain(value) for name, value in row.items()}


def _cell(column: Described, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, np.ndarray):
        return f"array {value.shape}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if column.kind is Kind.NUMBER:
        return f"{value:.6f}" if column.unit == "eV" else f"{value:.4g}"
    return str(value)
