"""How selected frames are found and read: in short transactions, with memory that does not grow with their number.

Two ways lead through the frames. If a part of the question can be looked up in an index and few frames pass it, the
ids of the answer are fetched at once, and the rows by their ids. Otherwise all frames are walked over in the order in
which they were recorded, and each page begins behind the last row of the one before. Which way is the better one is
found out by counting index entries up to a limit: SQLite keeps no statistics from which its planner could tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Select, func, literal, select, tuple_

from alflow.store.asking.columns import Described, Source
from alflow.store.asking.compiling import certain_sources, compiled, likely_few, sources_of
from alflow.store.asking.expressions import Expression
from alflow.store.asking.joining import columns_sources, from_frames, hidden, sql_columns
from alflow.store.reading import Reading
from alflow.store.tables import FrameRow, LabelRow, StructureRow

__all__ = ["FEW", "Pages"]

FEW: Final = 20_000
"""So many candidates are fetched by their ids, not searched for by walking over all frames."""

_PAGE: Final = 2000
_IDS: Final = 500
_KEY: Final = (FrameRow.campaign_id, FrameRow.event_seq, FrameRow.id)
_ROWS_OF: Final = {Source.FRAME: FrameRow, Source.STRUCTURE: StructureRow, Source.LABEL: LabelRow}


@dataclass(frozen=True)
class Pages:
    """Pages of selected frames; the attributes are those of a :class:`Selection`."""

    store: Reading
    where: Expression | None
    campaign_id: int | None
    order_by: Described | None
    descending: bool
    limit: int | None

    def of_columns(self, columns: Sequence[Described]) -> Iterator[Sequence[Any]]:
        """Pages of some columns; each row ends with three more, its key."""
        known = sql_columns(self._dialect)
        asked = [known[column.name].label(column.name) for column in columns]
        return self.of_tables(asked, columns_sources(columns))

    def of_tables(
        self, columns: Sequence[Any], sources: frozenset[Source], certain: frozenset[Source] = frozenset()
    ) -> Iterator[Sequence[Any]]:
        """Pages of some columns of the tables.

        Args:
            columns: The columns; each row ends with three more, its key.
            sources: The tables they are of.
            certain: Those of them without a row in which a frame is left out.
        """
        key = [column.label(f"key_{number}") for number, column in enumerate(_KEY)]
        wanted = select(*columns, *key)
        index = self._index()
        if self.order_by is not None or index is not None:
            return self._by_ids(wanted, self._ids(index, certain), sources, certain)
        return self._walk(wanted, sources, certain)

    def count(self) -> int:
        """How many frames are selected."""
        counted = self._asked(select(func.count()), frozenset(), frozenset(), self._index())
        found = int(self.store._one(counted)[0])
        return found if self.limit is None else min(found, self.limit)

    def level_ids(self) -> set[str]:
        """Levels of theory of the labels selected."""
        with_label = frozenset({Source.JOB, Source.LABEL})
        levels = self._asked(select(LabelRow.level_id).distinct(), with_label, with_label, self._index())
        return {row[0] for row in self.store._all(levels)}

    @property
    def _dialect(self) -> str:
        return self.store._engine.dialect.name

    def _asked(
        self,
        columns: Select[Any],
        sources: frozenset[Source],
        certain: frozenset[Source],
        index: Expression | None,
    ) -> Select[Any]:
        certain = certain | certain_sources(self.where)
        begin = Source.FRAME if index is None else likely_few(index)[0].column.source
        tables = sources | sources_of(self.where) | certain
        statement = columns.select_from(from_frames(self._dialect, tables, certain, begin))
        if self.campaign_id is not None:
            mine = FrameRow.campaign_id if index is None else hidden(self._dialect, FrameRow.campaign_id)
            statement = statement.where(mine == self.campaign_id)
        if self.where is not None:
            statement = statement.where(compiled(self.where, self._dialect, index))
        return statement

    def _walk(
        self, columns: Select[Any], sources: frozenset[Source], certain: frozenset[Source]
    ) -> Iterator[Sequence[Any]]:
        statement = self._asked(columns, sources, certain, None).order_by(*_KEY)
        left = self.limit
        after: tuple[Any, ...] | None = None
        while left is None or left > 0:
            size = _PAGE if left is None else min(_PAGE, left)
            page = statement if after is None else statement.where(tuple_(*_KEY) > tuple_(*after))
            rows = self.store._all(page.limit(size))
            if rows:
                yield rows
            if len(rows) < size:
                return
            after = tuple(rows[-1][-len(_KEY) :])
            left = None if left is None else left - len(rows)

    def _by_ids(
        self, columns: Select[Any], ids: Sequence[str], sources: frozenset[Source], certain: frozenset[Source]
    ) -> Iterator[Sequence[Any]]:
        joined = columns.select_from(from_frames(self._dialect, sources | certain, certain))
        for start in range(0, len(ids), _IDS):
            some = ids[start : start + _IDS]
            found = {row[-1]: row for row in self.store._all(joined.where(FrameRow.id.in_(some)))}
            yield [found[name] for name in some if name in found]

    def _ids(self, index: Expression | None, certain: frozenset[Source]) -> list[str]:
        order = [hidden(self._dialect, column) if index is not None else column for column in _KEY]
        sources: frozenset[Source] = certain
        if self.order_by is not None:
            by = sql_columns(self._dialect)[self.order_by.name]
            order = [(by.desc() if self.descending else by.asc()).nulls_last(), *order]
            sources = sources | columns_sources([self.order_by])
        statement = self._asked(select(FrameRow.id), sources, certain, index).order_by(*order)
        if self.limit is not None:
            statement = statement.limit(self.limit)
        return [row[0] for row in self.store._all(statement)]

    def _index(self) -> Expression | None:
        """A part of the question that few frames pass, and an index tells which."""
        for part in likely_few(self.where):
            entries = select(literal(1)).select_from(_ROWS_OF[part.column.source])
            some = entries.where(compiled(part, self._dialect, part)).limit(FEW + 1).subquery()
            if self.store._one(select(func.count()).select_from(some))[0] <= FEW:
                return part
        return None
