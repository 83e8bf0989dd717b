"""What was selected: frames, structures, labels, plain values or arrays, streamed page by page."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from alflow.domain import Label, Level, Structure
from alflow.errors import QueryError
from alflow.store.asking.columns import DEFAULT_COLUMNS, Described, Kind, Source, described
from alflow.store.asking.expressions import Expression
from alflow.store.asking.paging import Pages
from alflow.store.query import CampaignReading
from alflow.store.reading import every
from alflow.store.records import FrameRecord, JobRecord
from alflow.store.rows import LABEL_COLUMNS, STRUCTURE_COLUMNS, frame_of, job_of, label_of, stored_structure
from alflow.store.tables import FrameRow, JobRow, LevelRow, StructureRow, TableRow

__all__ = ["Selection"]

_WITH_LABEL: Final = frozenset({Source.JOB, Source.LABEL})


@dataclass(frozen=True)
class Selection:
    """Frames that a question selects, not yet read: each loop over it reads them anew, a page at a time.

    By default they come in the order in which they were recorded. While a campaign writes, a page shows what is there
    when it is read; inside of ``Store.snapshot()`` all of them show one moment.

    Attributes:
        store: Where they are.
        where: The question; None selects all.
        campaign_id: Only frames of this campaign.
        order_by: Column they are ordered by; missing values come last.
        descending: Whether the largest come first.
        limit: How many at most.
    """

    store: CampaignReading
    where: Expression | None = None
    campaign_id: int | None = None
    order_by: Described | None = None
    descending: bool = False
    limit: int | None = None

    def up_to(self, number: int) -> Selection:
        """The same, but so many at most."""
        return replace(self, limit=number)

    def count(self) -> int:
        """How many frames there are; on a million of them it takes some seconds."""
        return self._pages().count()

    def rows(self, *columns: str) -> Iterator[dict[str, Any]]:
        """Plain values of some columns.

        Args:
            columns: Names, true or short; without any, the columns `alflow query` shows.

        Yields:
            Of each frame the values by true name: numbers, texts, times, arrays, or None.
        """
        asked = self._described(columns)
        names = [column.name for column in asked]
        for page in self._pages().of_columns(asked):
            for row in page:
                yield dict(zip(names, row, strict=False))

    def arrays(self, *columns: str) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """The same columns as NumPy arrays, page by page.

        Args:
            columns: Names, true or short.

        Yields:
            Of each page the arrays by true name, shape (frame,): float64 with NaN for missing numbers; int64 for whole
            numbers, or float64 where one is missing; objects for what is text, time or an array for itself. Positions
            and forces of frames of one size become one array by :func:`numpy.stack`.
        """
        asked = self._described(columns)
        for page in self._pages().of_columns(asked):
            values = zip(*page, strict=True)
            yield {column.name: _array(column, some) for column, some in zip(asked, values, strict=False)}

    def pandas(self, *columns: str) -> Any:
        """All of it as one pandas.DataFrame, in memory.

        Args:
            columns: Names, true or short.

        Raises:
            QueryError: pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ModuleNotFoundError:
            raise QueryError("A DataFrame needs pandas; install it with: pip install 'alflow[pandas]'.") from None
        pages = [pandas.DataFrame(page) for page in self.arrays(*columns)]
        names = [column.name for column in self._described(columns)]
        return pandas.concat(pages, ignore_index=True) if pages else pandas.DataFrame(columns=names)

    def frames(self) -> Iterator[FrameRecord]:
        """The frames themselves."""
        for page in self._pages().of_tables(_all_of(FrameRow), frozenset()):
            yield from map(frame_of, page)

    def structures(self) -> Iterator[Structure]:
        """The structure of each frame; a frame that repeats another's repeats it."""
        columns = (*STRUCTURE_COLUMNS, StructureRow.id)
        for page in self._pages().of_tables(columns, frozenset({Source.STRUCTURE})):
            for row in page:
                yield stored_structure(row[6], row[:6])

    def labels(self) -> Iterator[Label]:
        """The label of each frame that has one.

        Raises:
            QueryError: They are of several levels of theory, which are not to be mixed; the message lists them.
        """
        levels = self._levels()
        for page in self._pages().of_tables(LABEL_COLUMNS, _WITH_LABEL | {Source.STRUCTURE}, _WITH_LABEL):
            for row in page:
                yield label_of(row, levels)

    def labelled(self) -> Iterator[tuple[FrameRecord, JobRecord, Label]]:
        """Each frame that has a label, with the job that asked for it.

        Raises:
            QueryError: The labels are of several levels of theory.
        """
        levels, width = self._levels(), len(LABEL_COLUMNS)
        frame, job = _all_of(FrameRow), _all_of(JobRow)
        between = width + len(frame)
        columns = [*LABEL_COLUMNS, *frame, *job]
        for page in self._pages().of_tables(columns, _WITH_LABEL | {Source.STRUCTURE}, _WITH_LABEL):
            for row in page:
                seen, asked = _named(frame, row[width:between]), _named(job, row[between:])
                yield frame_of(seen), job_of(asked), label_of(row[:width], levels)

    def _levels(self) -> dict[str, Level]:
        """Levels of theory by id, if the labels are of one."""
        known = {row.id: Level(row.engine, row.settings_json) for row in self.store._all(every(LevelRow))}
        if len(known) > 1:
            used = self._pages().level_ids()
            if len(used) > 1:
                listed = ", ".join(f"{name[:12]} ({known[name].engine})" for name in sorted(used))
                raise QueryError(
                    f"The labels selected are of {len(used)} levels of theory, which cannot be mixed: {listed}. "
                    "Choose one with level, by the beginning of its id."
                )
        return known

    def _pages(self) -> Pages:
        limit = None if self.limit is None else min(self.limit, sys.maxsize)  # more is no number to a database
        return Pages(self.store, self.where, self.campaign_id, self.order_by, self.descending, limit)

    @staticmethod
    def _described(names: Sequence[str]) -> list[Described]:
        return [described(name) for name in dict.fromkeys(names or DEFAULT_COLUMNS)]


def _all_of(table: type[TableRow]) -> list[Any]:
    return list(table.__table__.columns)


def _named(columns: Sequence[Any], values: Sequence[Any]) -> Any:
    return SimpleNamespace(_mapping={column.name: value for column, value in zip(columns, values, strict=False)})


def _array(column: Described, values: Sequence[Any]) -> npt.NDArray[Any]:
    if column.kind is Kind.NUMBER:
        return np.array(values, dtype=np.float64)
    if column.kind is Kind.WHOLE:
        return np.array(values, dtype=np.float64 if None in values else np.int64)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
