"""Asking a store for frames."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from alflow.errors import QueryError
from alflow.store.asking.columns import Kind, described
from alflow.store.asking.expressions import And, Comparison, Expression
from alflow.store.asking.parsing import parse_question
from alflow.store.asking.selection import Selection
from alflow.store.dataset import DatasetReading
from alflow.store.tables import LevelRow

__all__ = ["Selecting"]


class Selecting(DatasetReading):
    """A store that can be asked."""

    def select(
        self,
        where: str | Expression | None = None,
        *,
        campaign: str | None = None,
        level: str | None = None,
        order_by: str | None = None,
        descending: bool = False,
        limit: int | None = None,
    ) -> Selection:
        """Select frames, with all that belongs to them. Nothing is read yet.

        Args:
            where: What must hold: a text as in `alflow query`, or an expression of :data:`alflow.store.column`; None
                for all frames.
            campaign: Only frames of this campaign; by default of all.
            level: Only frames with a label at this level of theory, by its id or the beginning of it.
            order_by: Column to order them by, missing values last; by default they come as they were recorded. The ids
                of all that are selected are then held in memory, unless there is a limit.
            descending: Whether the largest come first.
            limit: How many at most.

        Raises:
            QueryError: The question cannot be understood, there is no such column or level, or the limit is negative.
            StoreError: There is no such campaign.

        Examples:
            >>> from tempfile import TemporaryDirectory
            >>> from alflow.store import Store, column
            >>> with TemporaryDirectory() as folder, Store.open(f"{folder}/store.db", create=True) as store:
            ...     wrong = (column.force_error > 0.5) & (column.disagreement < column.threshold)
            ...     store.select(wrong).count(), store.select("formula = CH3CH2OH and energy < -4000").count()
            (0, 0)
        """
        question: Any = parse_question(where) if isinstance(where, str) else where
        if question is not None and not isinstance(question, Expression):
            found = type(where).__name__
            raise QueryError(f"A question is a text, or comparisons such as column.walker == 1; found a {found}.")
        if level is not None:
            same = Comparison(described("level_id"), "=", self._level_id(level))
            question = same if question is None else And((question, same))
        ordered = None if order_by is None else described(order_by)
        if ordered is not None and ordered.kind is Kind.ARRAY:
            raise QueryError(f"{ordered.name} is an array, which has no order.")
        if ordered is None and descending:
            raise QueryError("Descending needs a column to order by, such as disagreement.")
        if limit is not None and limit < 0:
            raise QueryError(f"A limit is a number of frames, 0 or more; found {limit}.")
        campaign_id = None if campaign is None else self.campaign(campaign).id
        return Selection(self, question, campaign_id, ordered, descending, limit)

    def _level_id(self, beginning: str) -> str:
        found = self._all(select(LevelRow.id, LevelRow.engine).order_by(LevelRow.id))
        fits = [row.id for row in found if beginning and row.id.startswith(beginning)]
        if len(fits) == 1:
            return str(fits[0])
        listed = ", ".join(f"{row.id[:12]} ({row.engine})" for row in found) or "none yet"
        raise QueryError(
            f"{'More than one' if fits else 'No'} level of theory begins with '{beginning}'. Levels here: {listed}."
        )
