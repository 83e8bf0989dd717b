"""Statements that a transaction executes again and again; putting one together takes longer than executing it."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from sqlalchemy import bindparam, func, update
from sqlalchemy.dialects import postgresql, sqlite

from alflow.store.tables import ExecutionRow, JobRow, TableRow, WalkerRow

__all__ = ["complete_execution", "insert_new", "insert_or_update"]

_NEVER_CHANGES: Final = ("campaign_id", "frame_id", "structure_id", "level_id", "purpose")
_ENDED: Final = ("status", "failure_kind", "message", "ended_at")
_WHERE_AND_COST: Final = ("worker", "host", "pid", "wall_s", "cpu_s", "peak_memory_mb", "threads")


def _insert_into(dialect: str, table: type[TableRow]) -> Any:
    return (postgresql if dialect == "postgresql" else sqlite).insert(table)


@cache
def insert_new(dialect: str, table: type[TableRow]) -> Any:
    """Insert a row unless it is there."""
    return _insert_into(dialect, table).on_conflict_do_nothing()


@cache
def complete_execution() -> Any:
    """Record the end of an execution that has not ended; what is given as None stays as it is."""
    columns = ExecutionRow.__table__.columns
    always = {name: bindparam(name, type_=columns[name].type) for name in _ENDED}
    known = {name: func.coalesce(bindparam(name, type_=columns[name].type), columns[name]) for name in _WHERE_AND_COST}
    mine = (ExecutionRow.key == bindparam("its_key"), ExecutionRow.campaign_id == bindparam("its_campaign"))
    return update(ExecutionRow).where(*mine, ExecutionRow.ended_at.is_(None)).values(**always, **known)


@cache
def insert_or_update(dialect: str, table: type[TableRow]) -> Any:
    """Insert a row, or bring it up to date; a walker's only by a later segment."""
    statement = _insert_into(dialect, table)
    new = statement.excluded
    key = [column.name for column in table.__table__.columns if column.primary_key]
    fixed = {*key, *_NEVER_CHANGES} if table is JobRow else set(key)
    changes = {column.name: new[column.name] for column in table.__table__.columns if column.name not in fixed}
    later = WalkerRow.segment < new.segment if table is WalkerRow else None
    return statement.on_conflict_do_update(index_elements=key, set_=changes, where=later)
