"""What a campaign has come to: counted from the database, so that it can be asked at any time, from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from alflow.store import CampaignRecord, ExecutionRecord, JobRecord, Store

__all__ = ["Summary", "TimeSplit", "split_time", "summarize"]


@dataclass(frozen=True)
class TimeSplit:
    """Where the cores' time went.

    Attributes:
        elapsed_s: Wall time looked at, s: from the first committed label to the last end of a task.
        slots: Tasks that could run at once.
        busy_s: Wall time of tasks by kind, summed over slots, s.
    """

    elapsed_s: float
    slots: int
    busy_s: Mapping[str, float]

    def share(self, kind: str) -> float:
        """Share of the cores' time spent on one kind of task, or ``idle``; from 0 to 1."""
        total = self.elapsed_s * self.slots
        if total <= 0:
            return 0.0
        if kind == "idle":
            return max(0.0, 1.0 - sum(self.busy_s.values()) / total)
        return self.busy_s.get(kind, 0.0) / total


@dataclass(frozen=True)
class Summary:
    """A campaign in numbers.

    Attributes:
        campaign: Its row.
        jobs: Label requests by state.
        failures: Failed executions by class.
        given_up: Requests in quarantine, with the reason.
        generation: The active committee.
        sha256: Hash of its weight file.
        metrics: Its errors; unit in the key.
        walker_steps: Steps of every walker.
        time: Where the cores' time went.
        learning_curve: (labels trained on, generation, metrics) of every accepted committee.
    """

    campaign: CampaignRecord
    jobs: Mapping[str, int]
    failures: Mapping[str, int]
    given_up: tuple[JobRecord, ...]
    generation: int
    sha256: str | None
    metrics: Mapping[str, float]
    walker_steps: tuple[int, ...]
    time: TimeSplit
    learning_curve: tuple[tuple[int, int, Mapping[str, float]], ...]


def summarize(store: Store, campaign: CampaignRecord, slots: int) -> Summary:
    """Count what the database knows of a campaign.

    Args:
        store: The database.
        campaign: Its row.
        slots: Tasks that could run at once.
    """
    executions = list(store.executions(campaign.id))
    active = store.active_committee(campaign.id)
    failures: dict[str, int] = {}
    for row in executions:
        if row.failure_kind is not None:
            failures[row.failure_kind] = failures.get(row.failure_kind, 0) + 1
    curve = []
    for committee in store.committees(campaign.id):
        if committee.state != "rejected":
            n_labels = sum(split != "audit" for *_, split in store.dataset_members(committee.dataset_digest))
            curve.append((n_labels, committee.generation, committee.metrics))
    return Summary(
        campaign=campaign,
        jobs={str(state): count for state, count in store.job_counts(campaign.id).items()},
        failures=failures,
        given_up=tuple(store.jobs(campaign.id, state="quarantined")),
        generation=active.generation if active else 0,
        sha256=active.sha256 if active else None,
        metrics=active.metrics if active else {},
        walker_steps=tuple(w.step for w in store.walkers(campaign.id)),
        time=split_time(executions, slots),
        learning_curve=tuple(curve),
    )


def split_time(executions: list[ExecutionRecord], slots: int) -> TimeSplit:
    """Add up the wall time of tasks between the first label's end and the last task's end."""
    ends = [row.ended_at for row in executions if row.ended_at is not None]
    first = [row.ended_at for row in executions if row.kind == "label" and row.status == "done" and row.ended_at]
    if not first:
        return TimeSplit(0.0, slots, {})
    begin, end = min(first), max(ends)
    busy: dict[str, float] = {}
    for row in executions:
        if row.ended_at is not None and row.status != "lost":
            busy[row.kind] = busy.get(row.kind, 0.0) + _overlap(row.started_at, row.ended_at, begin, end)
    return TimeSplit((end - begin).total_seconds(), slots, busy)


def _overlap(start: datetime, stop: datetime, begin: datetime, end: datetime) -> float:
    return max(0.0, (min(stop, end) - max(start, begin)).total_seconds())
