"""Where the columns of a frame are in the tables, and how these are joined (``frames_v`` in SQL)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Final

from sqlalchemy import Double, FromClause, Select, Text, and_, case, cast, func, select, type_coerce
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.sql.expression import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from alflow.store.asking.columns import COLUMNS, Described, Source
from alflow.store.tables import (
    CampaignRow,
    CommitteeRow,
    DatasetMemberRow,
    EventRow,
    ExecutionRow,
    FrameRow,
    JobRow,
    LabelRow,
    StructureRow,
)

__all__ = ["columns_sources", "from_frames", "hidden", "sources_with", "sql_columns"]

_OTHER_NAMES: Final = {"frame_id": FrameRow.id, "job_state": JobRow.state, "labelled_at": LabelRow.created_at}
_ROWS: Final = {
    Source.FRAME: FrameRow,
    Source.STRUCTURE: StructureRow,
    Source.JOB: JobRow,
    Source.LABEL: LabelRow,
    Source.EXECUTION: ExecutionRow,
}
_NEEDS: Final = {
    Source.LABEL: {Source.JOB, Source.LABEL},
    Source.EXECUTION: {Source.JOB, Source.LABEL, Source.EXECUTION},
    Source.EVENT: {Source.JOB, Source.EVENT},
}


def sources_with(sources: Iterable[Source]) -> frozenset[Source]:
    """The tables that lead to some tables, with these; frames are always there."""
    return frozenset(needed for source in sources for needed in _NEEDS.get(source, {source}))


def columns_sources(columns: Iterable[Described]) -> frozenset[Source]:
    """The tables that some columns need."""
    return sources_with(column.source for column in columns)


@cache
def sql_columns(dialect: str) -> dict[str, Any]:
    """Every column by name, as an SQL expression over the tables that :func:`from_frames` joins."""
    columns = {
        column.name: _OTHER_NAMES[column.name]
        if column.name in _OTHER_NAMES
        else getattr(_ROWS[column.source], column.name)
        for column in COLUMNS
        if column.name not in ("campaign", "split", "energy_error_ev", "max_force_error_ev_ang")
    }
    # by its number, not by a join: there are few campaigns, and the planner shall not begin with them
    columns["campaign"] = (
        select(CampaignRow.name).where(CampaignRow.id == FrameRow.campaign_id).correlate(FrameRow).scalar_subquery()
    )
    columns["split"] = case((LabelRow.structure_id.is_not(None), _split()))
    columns["energy_error_ev"] = FrameRow.predicted_energy_ev - LabelRow.energy_ev
    columns["max_force_error_ev_ang"] = _number_in_json(dialect, "max_error")
    return columns


def hidden(dialect: str, column: Any) -> Any:
    """The same column, but SQLite's planner sees no index for it: ``+column``.

    SQLite keeps no statistics of values: it would begin with a formula that every frame has, or scan all jobs.
    """
    if dialect != "sqlite":
        return column
    return UnaryExpression(column, operator=custom_op("+"), type_=column.type)


def from_frames(
    dialect: str, sources: frozenset[Source], certain: frozenset[Source], begin: Source = Source.FRAME
) -> FromClause:
    """Join frames with other tables.

    Args:
        dialect: Name of the SQL dialect.
        sources: Tables that are needed.
        certain: Those of them without which a frame is not selected.
        begin: The table that is looked at first: frames, structures or labels. SQLite is led from there to the others.
    """

    def same(source: Source, column: Any, known: Any) -> Any:
        backwards = source is begin or (source is Source.JOB and begin is Source.LABEL)
        return hidden(dialect, column) == known if backwards else column == hidden(dialect, known)

    done = JobRow.state == "done"
    same_label = and_(
        done,
        same(Source.LABEL, LabelRow.structure_id, JobRow.structure_id),
        same(Source.LABEL, LabelRow.level_id, JobRow.level_id),
    )
    completed = and_(
        done,
        same(Source.EVENT, EventRow.campaign_id, JobRow.campaign_id),
        same(Source.EVENT, EventRow.seq, JobRow.event_seq),
        EventRow.kind == "label_done",
    )
    order: tuple[tuple[Source, Any, Any], ...] = (
        (Source.STRUCTURE, StructureRow, same(Source.STRUCTURE, StructureRow.id, FrameRow.structure_id)),
        (Source.JOB, JobRow, same(Source.JOB, JobRow.frame_id, FrameRow.id)),
        (Source.LABEL, LabelRow, same_label),
        (Source.EXECUTION, ExecutionRow, same(Source.EXECUTION, ExecutionRow.key, LabelRow.execution_key)),
        (Source.EVENT, EventRow, completed),
    )
    joined: Any = FrameRow.__table__
    for source, row, condition in order:
        if source in sources:
            outer = source is not Source.STRUCTURE and source not in certain
            joined = joined.join(row.__table__, condition, isouter=outer)
    return joined  # type: ignore[no-any-return]


def _split() -> Any:
    """The part of the campaign's newest data set that holds the label."""
    newest: Select[Any] = (
        select(DatasetMemberRow.split)
        .join(CommitteeRow, CommitteeRow.dataset_digest == DatasetMemberRow.dataset_digest)
        .where(
            DatasetMemberRow.structure_id == LabelRow.structure_id,
            DatasetMemberRow.level_id == LabelRow.level_id,
            CommitteeRow.campaign_id == FrameRow.campaign_id,
        )
        .order_by(CommitteeRow.id.desc())
        .limit(1)
    )
    return newest.correlate(FrameRow, LabelRow).scalar_subquery()


def _number_in_json(dialect: str, key: str) -> Any:
    payload = type_coerce(EventRow.payload_json, Text)
    if dialect == "postgresql":
        return cast(cast(payload, JSON)[key].astext, Double)
    return type_coerce(func.json_extract(payload, f"$.{key}"), Double)
