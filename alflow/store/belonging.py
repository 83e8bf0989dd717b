"""Which rows belong to some campaigns: their own, and what they use of what all campaigns share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Select, Table, case, exists, literal, null, or_, select, tuple_

from alflow.store.tables import CommitteeRow, DatasetMemberRow, DatasetRow, ExecutionRow, FrameRow, JobRow, LabelRow

__all__ = ["NUMBERED", "SHARED", "belonging", "key_of"]

SHARED: Final = ("structures", "levels", "labels", "datasets", "dataset_members")
"""Tables whose rows several campaigns use, named by content."""

NUMBERED: Final = ("executions", "committees")
"""Tables whose numbers nothing refers to: they are given anew by each database, in the same order."""

_NAMES: Final = {"executions": ("key",), "committees": ("campaign_id", "generation", "sha256", "created_at")}


def key_of(table: Table) -> list[Any]:
    """Columns that no two rows share, in any database."""
    if table.name in _NAMES:
        return [table.c[name] for name in _NAMES[table.name]]
    return list(table.primary_key.columns)


def belonging(table: Table, ids: Sequence[int]) -> Select[Any]:
    """Select the rows of a table that belong to some campaigns, as they are where the other campaigns are not.

    A label made by another campaign then comes from elsewhere, and a dataset that another campaign drew up first is the
    first campaign's of these.

    Args:
        table: The table.
        ids: Numbers of the campaigns.
    """
    columns = {column.name: column for column in table.columns}
    jobs = select(JobRow.structure_id, JobRow.level_id).where(JobRow.campaign_id.in_(ids))
    own = select(DatasetRow.digest).where(DatasetRow.campaign_id.in_(ids))
    used = select(CommitteeRow.dataset_digest).where(CommitteeRow.campaign_id.in_(ids))
    of_mine = or_(DatasetMemberRow.dataset_digest.in_(own), DatasetMemberRow.dataset_digest.in_(used))
    if table.name == "campaigns":
        return select(*columns.values()).where(table.c.id.in_(ids))
    if table.name == "levels":
        return select(*columns.values())
    if table.name == "structures":
        frames = select(FrameRow.structure_id).where(FrameRow.campaign_id.in_(ids))
        members = select(DatasetMemberRow.structure_id).where(of_mine)
        wanted = select(JobRow.structure_id).where(JobRow.campaign_id.in_(ids))
        mine = or_(*(table.c.id.in_(some) for some in (frames, members, wanted)))
        return select(*columns.values()).where(mine)
    if table.name == "labels":
        here = exists().where(ExecutionRow.key == LabelRow.execution_key, ExecutionRow.campaign_id.in_(ids))
        maker = case((here, LabelRow.execution_key), else_=null())
        entered = select(DatasetMemberRow.structure_id, DatasetMemberRow.level_id).where(of_mine)
        pair = tuple_(LabelRow.structure_id, LabelRow.level_id)
        shown = [maker.label(name) if name == "execution_key" else column for name, column in columns.items()]
        return select(*shown).where(or_(pair.in_(jobs), pair.in_(entered)))
    if table.name == "datasets":
        owner = case((table.c.campaign_id.in_(ids), table.c.campaign_id), else_=literal(ids[0]))
        shown = [owner.label(name) if name == "campaign_id" else column for name, column in columns.items()]
        return select(*shown).where(or_(table.c.campaign_id.in_(ids), table.c.digest.in_(used)))
    if table.name == "dataset_members":
        return select(*columns.values()).where(of_mine)
    return select(*columns.values()).where(table.c.campaign_id.in_(ids))
