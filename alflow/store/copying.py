"""Copying campaigns from one database to another: all in one transaction of the target, or nothing.

A campaign keeps its number, because frames, executions and journal carry it. Rows are read page by page as they were at
one moment, written by Core inserts, and read back and compared before anything is committed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Select, Table, func, insert, or_, select, tuple_

from alflow.domain.identity import canonical_json
from alflow.errors import CampaignLocked, StoreError
from alflow.store.belonging import NUMBERED, SHARED, belonging, key_of
from alflow.store.lease import stands_still
from alflow.store.opening import may_be_idle, translated, writing
from alflow.store.reading import one_moment
from alflow.store.records import CampaignRecord
from alflow.store.rows import config_values
from alflow.store.store import Store
from alflow.store.tables import CampaignRow, TableRow

__all__ = ["Copied", "copy_campaigns"]

PAGE: Final = 1000
WATCHED_S: Final = 30.0
LEFT: Final = "copied from another database, where the process that drove it was dead"

Copied = Mapping[str, tuple[int, int]]
"""By table: rows that were copied, and rows that were there before."""

Row = dict[str, Any]


def copy_campaigns(
    source: Store,
    target: Store,
    campaigns: Sequence[CampaignRecord],
    configs: Mapping[int, Mapping[str, Any]],
    whole: bool,
    before_commit: Callable[[], None] = lambda: None,
) -> Copied:
    """Copy campaigns with all that belongs to them.

    Args:
        source: Where they are; it is only read.
        target: Where they go.
        campaigns: Which; all of the source's if it is copied as a whole.
        configs: Configuration of each in the target, by number: it may say where the campaign's files are.
        whole: Whether to copy also labels and structures that none of the campaigns uses.
        before_commit: Called when every row is there and compared, and before that is final: to copy files.

    Raises:
        CampaignLocked: A process drives one of them, or began to meanwhile.
        StoreError: The target has one of them or its number, or something differs when it is read back. Nothing was
            written.
    """
    for campaign in campaigns:
        _refuse_a_live_holder(source, campaign)
    ids = [campaign.id for campaign in campaigns]
    tables = TableRow.metadata.sorted_tables
    with (
        one_moment(source._engine, source._address) as read,
        translated(target._address),
        writing(target._engine) as write,
    ):
        may_be_idle(write)
        _refuse_what_is_there(write, target, campaigns)
        copying = _Copying(read, write, None if whole else ids, configs)
        counts = {table.name: copying.copy(table) for table in tables}
        for table in tables:
            copying.compare(table)
        if write.dialect.name == "postgresql":
            last = select(func.max(CampaignRow.id)).scalar_subquery()
            write.execute(select(func.setval(func.pg_get_serial_sequence("campaigns", "id"), last)))
        before_commit()
        for campaign in campaigns:
            after = source.campaign(campaign.name)
            if (after.epoch, after.beat) != (campaign.epoch, campaign.beat):
                raise CampaignLocked(
                    f"'{campaign.name}' was taken up by {after.holder} while it was copied, so nothing was copied; "
                    "stop it, then copy."
                )
    return counts


class _Copying:
    """Two open transactions, and the rows that go from one to the other.

    Args:
        read: The source, at one moment.
        write: The target.
        ids: Numbers of the campaigns; None for everything there is.
        configs: Their configuration in the target.
    """

    def __init__(
        self, read: Connection, write: Connection, ids: Sequence[int] | None, configs: Mapping[int, Mapping[str, Any]]
    ) -> None:
        self._read, self._write, self._ids, self._configs = read, write, ids, configs
        self._kept: dict[str, set[tuple[Any, ...]]] = {}

    def copy(self, table: Table) -> tuple[int, int]:
        """Insert the rows of one table; returns how many, and how many were there."""
        copied = 0
        kept = self._kept[table.name] = set()
        for page in self._pages(table):
            there = set(self._there(table, page)) if table.name in SHARED else set()
            rows = [row for name, row in page.items() if name not in there]
            if rows:
                self._write.execute(insert(table), rows)
            copied += len(rows)
            kept |= there
        return copied, len(kept)

    def compare(self, table: Table) -> None:
        """Read what was copied back, and compare hashes of all values of each row.

        Raises:
            StoreError: A row differs, or is not there.
        """
        for page in self._pages(table):
            meant = {name: row for name, row in page.items() if name not in self._kept[table.name]}
            found = self._there(table, meant)
            for name, row in meant.items():
                if name not in found or _digest(found[name]) != _digest(row):
                    raise StoreError(
                        f"Row {name} of {table.name} is not the same when it is read back; nothing was copied."
                    )

    def _pages(self, table: Table) -> Iterator[dict[tuple[Any, ...], Row]]:
        """Rows as the target will have them, by what names them."""
        statement: Select[Any] = select(*table.columns) if self._ids is None else belonging(table, self._ids)
        order = list(table.primary_key.columns)
        after: tuple[Any, ...] | None = None
        while True:
            page = statement.order_by(*order).limit(PAGE)
            if after is not None:
                page = page.where(tuple_(*order) > tuple_(*after))
            rows = [dict(row._mapping) for row in self._read.execute(page)]
            if rows:
                after = tuple(rows[-1][column.name] for column in order)
                changed = [self._changed(table, row) for row in rows]
                yield {_name(table, row): row for row in changed}
            if len(rows) < PAGE:
                return

    def _changed(self, table: Table, row: Row) -> Row:
        """A row as the target will have it."""
        if table.name in NUMBERED:
            row.pop("id")
        if table.name == "campaigns":
            row |= config_values(self._configs[row["id"]])
            if row["holder"] is not None:
                row |= {"holder": None, "state": "stopped", "reason": LEFT}
        return row

    def _there(self, table: Table, rows: Mapping[tuple[Any, ...], Row]) -> dict[tuple[Any, ...], Row]:
        """Those of some rows that the target has, by what names them."""
        if not rows:
            return {}
        columns = [column for column in table.columns if not (table.name in NUMBERED and column.name == "id")]
        named = tuple_(*key_of(table)).in_(list(rows))
        found = [dict(row._mapping) for row in self._write.execute(select(*columns).where(named))]
        return {_name(table, row): row for row in found}


def _name(table: Table, row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[column.name] for column in key_of(table))


def _digest(row: Mapping[str, Any]) -> str:
    """Hash of all values of a row, bit for bit, whatever database they were read from."""
    hasher = hashlib.sha256()
    for name in sorted(row):
        value = row[name]
        if isinstance(value, np.ndarray):
            text = f"{value.dtype.str}{value.shape}".encode() + value.tobytes()
        elif isinstance(value, dict | list):
            text = canonical_json(value).encode()
        elif isinstance(value, float):
            text = value.hex().encode()
        else:
            text = repr(value).encode()
        hasher.update(name.encode() + b"\0" + text + b"\0")
    return hasher.hexdigest()


def _refuse_a_live_holder(source: Store, campaign: CampaignRecord) -> None:
    if campaign.holder is None or source.holder_is_alive(campaign.id) is False:
        return
    if source.holder_is_alive(campaign.id) is None and stands_still(source._engine, campaign, WATCHED_S):
        return
    raise CampaignLocked(f"Campaign '{campaign.name}' is driven by {campaign.holder}; stop it first, then copy.")


def _refuse_what_is_there(write: Connection, target: Store, campaigns: Sequence[CampaignRecord]) -> None:
    for campaign in campaigns:
        same = or_(CampaignRow.name == campaign.name, CampaignRow.uuid == campaign.uuid, CampaignRow.id == campaign.id)
        there = write.execute(select(CampaignRow.id, CampaignRow.name).where(same)).first()
        if there is not None:
            raise StoreError(
                f"{target._address.shown} has campaign {there.id}, '{there.name}', already; '{campaign.name}' is "
                f"campaign {campaign.id} and keeps its name and its number. Copy it into another database."
            )
