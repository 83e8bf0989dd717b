"""Whether the rows of a database are what alflow promises: questions in SQL, each of which must find nothing.

What needs the journal replayed, or the files of a campaign, is in :mod:`alflow.campaign.checking`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Select, and_, exists, func, not_, or_, select
from sqlalchemy.orm import aliased

from alflow.errors import StoreError
from alflow.store.contents import check_arrays, check_contents, check_numbers
from alflow.store.finding import Finding
from alflow.store.reading import Reading
from alflow.store.tables import (
    CampaignRow,
    DatasetMemberRow,
    DatasetRow,
    EventRow,
    ExecutionRow,
    JobRow,
    LabelRow,
    TableRow,
)

__all__ = ["Checking"]

FOUND: Final = "found: "
"""How the message begins of a label execution that computed nothing, because the label was in the database."""


class Checking(Reading):
    """A database that can be asked whether it is whole."""

    def check_rows(self, campaign_ids: Sequence[int], deep: bool = False) -> list[Finding]:
        """Look at every invariant of the rows.

        Args:
            campaign_ids: The campaigns whose rows are looked at; what campaigns share is looked at as a whole.
            deep: Whether to look into every structure and array, not only into some thousand of each table.

        Returns:
            What was found, in the order in which it matters; only the first if the file itself is damaged, because
            nothing that is read from such a file can be trusted.

        Raises:
            StoreError: A table cannot be read at all.
        """
        file = self._check_file()
        if not file.holds:
            return [file]
        mine = list(campaign_ids)
        return [
            file,
            self._check_references(),
            self._check_labels_are_single(),
            self._check_makers(),
            self._check_nothing_is_paid_twice(mine),
            self._check_done_jobs(mine),
            self._check_ends(mine),
            self._check_journal(mine),
            self._check_datasets(),
            *check_contents(self, deep),
            check_numbers(self),
            check_arrays(self, deep),
        ]

    def _check_file(self) -> Finding:
        sentence = "The pages and indices of the file are whole (PostgreSQL looks after its own)."
        if self._address.path is None:
            return Finding.of("file", sentence, 0)
        try:
            with self._reading() as connection:
                lines = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(20)")]
        except StoreError as error:
            lines = [str(error)]  # so damaged that SQLite cannot even look
        return Finding.of("file", sentence, 1, [line for line in lines if line != "ok"])

    def _check_references(self) -> Finding:
        broken, checked = [], 0
        for table in TableRow.metadata.sorted_tables:
            for constraint in table.foreign_key_constraints:
                pairs = [(element.parent, element.column) for element in constraint.elements]
                missing = and_(
                    *(column.is_not(None) for column, _ in pairs),
                    not_(exists().where(*(column == other for column, other in pairs))),
                )
                columns = [column for column, _ in pairs]
                named = ", ".join(column.name for column in columns)
                target = constraint.referred_table.name
                checked += self._count(select(func.count()).select_from(table))
                for row in self._some(select(*columns).where(missing).distinct()):
                    broken.append(f"{table.name}: {named} {_shown(row)} is in no row of {target}")
        sentence = "What a row refers to is there: structures, levels, frames, executions, datasets and their members."
        return Finding.of("references", sentence, checked, broken)

    def _check_labels_are_single(self) -> Finding:
        key = (LabelRow.structure_id, LabelRow.level_id)
        twice = select(*key, func.count().label("number")).group_by(*key).having(func.count() > 1)
        broken = [f"structure {_shown(row[:1])} has {row[2]} labels at {row[1][:12]}" for row in self._some(twice)]
        checked = self._count(select(func.count()).select_from(LabelRow))
        return Finding.of("one label", "A structure has one label at a level of theory.", checked, broken)

    def _check_makers(self) -> Finding:
        made = select(
            LabelRow.structure_id, ExecutionRow.key, ExecutionRow.kind, ExecutionRow.status, JobRow.structure_id
        )
        made = made.outerjoin(ExecutionRow, ExecutionRow.key == LabelRow.execution_key)
        made = made.outerjoin(JobRow, JobRow.id == ExecutionRow.subject).where(LabelRow.execution_key.is_not(None))
        other = or_(JobRow.structure_id != LabelRow.structure_id, JobRow.level_id != LabelRow.level_id)
        wrong = or_(ExecutionRow.key.is_(None), ExecutionRow.kind != "label", ExecutionRow.status != "done")
        broken = []
        for label, key, kind, status, wanted in self._some(made.where(or_(wrong, JobRow.id.is_(None), other))):
            what = "none of this database" if key is None else f"{key}, a {kind} that is {status}"
            broken.append(f"label of {label[:12]}: its execution is {what}, for {str(wanted)[:12]}")
        checked = self._count(select(func.count()).where(LabelRow.execution_key.is_not(None)))
        sentence = "The execution that made a label is here, is done, and was for that structure and level."
        return Finding.of("makers", sentence, checked, broken)

    def _check_nothing_is_paid_twice(self, mine: list[int]) -> Finding:
        done = (
            ExecutionRow.kind == "label",
            ExecutionRow.status == "done",
            not_(ExecutionRow.message.startswith(FOUND)),
            ExecutionRow.campaign_id.in_(mine),
        )
        key = (ExecutionRow.campaign_id, JobRow.structure_id, JobRow.level_id)
        paid = select(*key, func.count().label("number")).join(JobRow, JobRow.id == ExecutionRow.subject).where(*done)
        broken = [
            f"structure {structure[:12]} at {level[:12]}: {number} executions of campaign {campaign} made its label"
            for campaign, structure, level, number in self._some(paid.group_by(*key).having(func.count() > 1))
        ]
        checked = self._count(select(func.count()).where(*done))
        sentence = (
            "A campaign computed no structure twice at one level; attempts that were lost or failed made no label."
        )
        return Finding.of("paid once", sentence, checked, broken)

    def _check_done_jobs(self, mine: list[int]) -> Finding:
        here = (LabelRow.structure_id == JobRow.structure_id, LabelRow.level_id == JobRow.level_id)
        done = (JobRow.state == "done", JobRow.campaign_id.in_(mine))
        bare = select(JobRow.id, JobRow.structure_id).where(*done, not_(exists().where(*here)))
        broken = [f"job {row[0]} is done, and structure {row[1][:12]} has no label" for row in self._some(bare)]
        checked = self._count(select(func.count()).select_from(JobRow).where(*done))
        return Finding.of("done jobs", "A job that is done has its label.", checked, broken)

    def _check_ends(self, mine: list[int]) -> Finding:
        ended = CampaignRow.state.in_(("finished", "created"))
        open_ = select(ExecutionRow.key, CampaignRow.name).join(CampaignRow, CampaignRow.id == ExecutionRow.campaign_id)
        open_ = open_.where(ExecutionRow.ended_at.is_(None), ended, CampaignRow.holder.is_(None))
        broken = [
            f"execution {key} is open, and nobody drives '{name}'"
            for key, name in self._some(open_.where(CampaignRow.id.in_(mine)))
        ]
        waiting = select(JobRow.id, JobRow.state, CampaignRow.name).join(
            CampaignRow, CampaignRow.id == JobRow.campaign_id
        )
        waiting = waiting.where(JobRow.state.in_(("pending", "running")), ended, CampaignRow.id.in_(mine))
        broken += [f"job {job} is {state}, and '{name}' has ended" for job, state, name in self._some(waiting)]
        checked = self._count(select(func.count()).select_from(ExecutionRow).where(ExecutionRow.campaign_id.in_(mine)))
        sentence = "In a campaign that has finished every execution has ended and no job waits."
        return Finding.of("ends", sentence, checked, broken)

    def _check_journal(self, mine: list[int]) -> Finding:
        here = EventRow.campaign_id.in_(mine)
        counted = select(EventRow.campaign_id, func.min(EventRow.seq), func.max(EventRow.seq), func.count())
        checked, broken = 0, []
        for campaign, first, last, number in self._all(counted.where(here).group_by(EventRow.campaign_id)):
            checked += number
            if (first, last) == (1, number):
                continue
            before = aliased(EventRow)
            follows = exists().where(before.campaign_id == EventRow.campaign_id, before.seq == EventRow.seq - 1)
            gaps = select(EventRow.seq).where(EventRow.campaign_id == campaign, EventRow.seq > 1, not_(follows))
            found = [f"campaign {campaign}: event {row[0] - 1} is missing" for row in self._some(gaps)]
            broken += found or [f"campaign {campaign}: {number} events are numbered {first} to {last}"]
        return Finding.of("journal", "Events are numbered 1, 2, 3 … without gaps.", checked, broken)

    def _check_datasets(self) -> Finding:
        mine = DatasetMemberRow.dataset_digest == DatasetRow.digest
        counts = [
            select(func.count()).where(mine, DatasetMemberRow.split == split).correlate(DatasetRow).scalar_subquery()
            for split in ("train", "validation", "audit")
        ]
        told = (DatasetRow.n_train, DatasetRow.n_validation, DatasetRow.n_audit)
        differ = or_(*(count != number for count, number in zip(counts, told, strict=True)))
        broken = [
            f"dataset {row[0][:12]} was stored with {tuple(row[1:4])} labels to train, validate and audit on, "
            f"and has {tuple(row[4:])}"
            for row in self._some(select(DatasetRow.digest, *told, *counts).where(differ))
        ]
        checked = self._count(select(func.count()).select_from(DatasetRow))
        return Finding.of("datasets", "A dataset has as many members as it was stored with.", checked, broken)

    def _count(self, statement: Select[Any]) -> int:
        return int(self._one(statement)[0])

    def _some(self, statement: Any) -> Iterator[Any]:
        """The rows that break something; as many as anybody would read."""
        return iter(self._all(statement.limit(200)))


def _shown(values: Sequence[Any]) -> str:
    return ", ".join(str(value)[:24] for value in values)
