"""What a report reads: all rows of one campaign, as they were at one moment, however long the drawing takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from alflow.domain import Label, Structure
from alflow.reports.summary import Summary, summarize
from alflow.store import (
    CampaignRecord,
    CommitteeRecord,
    DatasetRecord,
    EventRecord,
    ExecutionRecord,
    FrameRecord,
    JobRecord,
    Snapshot,
    Split,
    Store,
)
from alflow.store.records import now

__all__ = ["Rows", "read_rows"]


@dataclass(frozen=True, eq=False)
class Rows:
    """One campaign at one moment.

    Attributes:
        campaign: Its row.
        read_at: When it was read.
        summary: What the terminal shows too.
        events: The journal.
        executions: Every attempt at every task.
        jobs: Labels asked for.
        done: Those that arrived, in the order in which they did.
        labels: What arrived, in the same order.
        frames: Every frame, by name.
        given_up: Structures without a label, whose jobs are in quarantine.
        committees: Every committee, rejected ones too.
        datasets: The data set of each committee, by digest.
        members: Members of the active committee's data set with their split.
    """

    campaign: CampaignRecord
    read_at: datetime
    summary: Summary
    events: tuple[EventRecord, ...]
    executions: tuple[ExecutionRecord, ...]
    jobs: tuple[JobRecord, ...]
    done: tuple[JobRecord, ...]
    labels: tuple[Label, ...]
    frames: Mapping[str, FrameRecord]
    given_up: tuple[Structure, ...]
    committees: tuple[CommitteeRecord, ...]
    datasets: Mapping[str, DatasetRecord]
    members: Mapping[tuple[str, str], Split]

    @property
    def active(self) -> CommitteeRecord | None:
        """The committee in use."""
        return next((record for record in self.committees if record.state == "active"), None)

    @property
    def parts(self) -> tuple[str, ...]:
        """Part of the active committee's data set each label belongs to; ``not used yet`` for newer ones.

        Without a committee each is a ``label``.

        Audit labels are never learnt from, so newer ones belong to their part from the beginning.
        """
        if self.active is None:
            return ("label",) * len(self.done)
        return tuple(
            "audit" if job.purpose == "audit" else self.members.get((job.structure_id, job.level_id), "not used yet")
            for job in self.done
        )


def read_rows(store: Store, name: str | None = None) -> Rows:
    """Read a campaign.

    Args:
        store: The database.
        name: Name of the campaign; None for the only one there is.

    Raises:
        StoreError: There is none of that name, or the name is needed because there are several.
    """
    with store.snapshot() as moment:
        return _read(moment, name)


def _read(store: Snapshot, name: str | None) -> Rows:
    campaign = store.campaign(name)
    jobs = tuple(store.jobs(campaign.id))
    done = tuple(sorted((job for job in jobs if job.state == "done"), key=lambda job: job.event_seq))
    quarantined = [job.structure_id for job in jobs if job.state == "quarantined"]
    committees = tuple(store.committees(campaign.id))
    active = next((record.dataset_digest for record in committees if record.state == "active"), None)
    members = store.dataset_members(active) if active is not None else ()
    return Rows(
        campaign=campaign,
        read_at=now(),
        summary=summarize(store, campaign),
        events=tuple(store.events(campaign.id)),
        executions=tuple(store.executions(campaign.id)),
        jobs=jobs,
        done=done,
        labels=tuple(store.labels_by_id([(job.structure_id, job.level_id) for job in done])),
        frames={frame.id: frame for frame in store.frames(campaign.id)},
        given_up=tuple(store.structures_by_id(quarantined).values()),
        committees=committees,
        datasets=store.datasets(campaign.id),
        members={(structure, level): split for structure, level, split in members},
    )
