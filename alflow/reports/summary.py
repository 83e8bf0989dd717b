"""What a campaign has come to: counted from the database, so that it can be asked at any time, from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from alflow.store import CampaignRecord, EventRecord, ExecutionRecord, JobRecord, Snapshot, Store

__all__ = ["Summary", "TimeSplit", "drained_machines", "split_time", "summarize"]


@dataclass(frozen=True)
class TimeSplit:
    """Where the cores' time went, from the first committed label on, while an orchestrator was at work.

    Attributes:
        elapsed_s: Wall time of the orchestrators, s.
        available_s: The same times the slots each of them had, s.
        busy_s: Wall time of tasks by kind, summed over slots, s; ``handover`` is what passed between handing a task
            out and its beginning on the worker, and between its end and the record of it: imports, transfers, waits.
        cpu_s: Processor time of those tasks, s.
    """

    elapsed_s: float
    available_s: float
    busy_s: Mapping[str, float]
    cpu_s: float

    def share(self, kind: str) -> float:
        """Share of the slots' time spent on one kind of task, or ``idle``; from 0 to 1."""
        if self.available_s <= 0:
            return 0.0
        if kind == "idle":
            return max(0.0, 1.0 - sum(self.busy_s.values()) / self.available_s)
        return self.busy_s.get(kind, 0.0) / self.available_s

    @property
    def cpu_share(self) -> float:
        """Processor time over the time of the slots; less than the busy share where other programs were running."""
        return self.cpu_s / self.available_s if self.available_s > 0 else 0.0


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
        excursions: For each flagged frame how far it lay outside of what its committee was trained on, in units of the
            range; 0 inside.
        drained: Machines that get no more labels because they crashed them, since the campaign was last taken up.
        learning_curve: (labels learnt from, generation, metrics) of every accepted committee.
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
    excursions: tuple[float, ...]
    drained: tuple[str, ...]
    learning_curve: tuple[tuple[int, int, Mapping[str, float]], ...]


def summarize(store: Store | Snapshot, campaign: CampaignRecord) -> Summary:
    """Count what the database knows of a campaign."""
    executions = list(store.executions(campaign.id))
    events = list(store.events(campaign.id))
    active = store.active_committee(campaign.id)
    failures: dict[str, int] = {}
    for row in executions:
        if row.failure_kind is not None:
            failures[row.failure_kind] = failures.get(row.failure_kind, 0) + 1
    flagged = store.frames(campaign.id, decision="flagged")
    curve = []
    for committee in store.committees(campaign.id):
        if committee.state != "rejected":
            n_labels = sum(split == "train" for *_, split in store.dataset_members(committee.dataset_digest))
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
        time=split_time(executions, events),
        excursions=tuple(f.extrapolation for f in flagged if f.extrapolation is not None),
        drained=drained_machines(events),
        learning_curve=tuple(curve),
    )


def drained_machines(events: Sequence[EventRecord]) -> tuple[str, ...]:
    """Machines that are given no labels now: a new orchestrator tries all of them again."""
    told = [event for event in events if event.kind in ("workers_changed", "campaign_started", "campaign_resumed")]
    return tuple(told[-1].payload.get("drained", ())) if told else ()


def split_time(executions: Sequence[ExecutionRecord], events: Sequence[EventRecord]) -> TimeSplit:
    """Add up what tasks took after the first label, and what was there to be taken.

    Args:
        executions: Every attempt at every task.
        events: The journal: it tells when an orchestrator was at work, and with how many workers at what time.
    """
    first = [row.ended_at for row in executions if row.kind == "label" and row.status == "done" and row.ended_at]
    if not first:
        return TimeSplit(0.0, 0.0, {}, 0.0)
    begin, end = min(first), max(event.recorded_at for event in events)
    elapsed = available = cpu = 0.0
    for session in _sessions(events):
        counted = [event for event in session if "slots" in event.payload]
        for start, stop in pairwise([*counted, session[-1]]):
            span = _overlap(start.recorded_at, stop.recorded_at, begin, end)
            elapsed += span
            available += span * start.payload["slots"]
    busy: dict[str, float] = {}
    for row in executions:
        if row.ended_at is None or row.status == "lost":
            continue
        inside, whole = _overlap(row.started_at, row.ended_at, begin, end), row.ended_at - row.started_at
        # What a worker has measured is work; the rest of the time the slot was taken by getting there and back.
        worked = inside if row.wall_s is None else min(1.0, row.wall_s / max(whole.total_seconds(), 1e-9)) * inside
        busy[row.kind] = busy.get(row.kind, 0.0) + worked
        busy["handover"] = busy.get("handover", 0.0) + inside - worked
        if row.cpu_s is not None and whole.total_seconds() > 0:
            cpu += row.cpu_s * inside / whole.total_seconds()
    return TimeSplit(elapsed, available, busy, cpu)


def _sessions(events: Sequence[EventRecord]) -> list[list[EventRecord]]:
    """The journal, cut where a new orchestrator began."""
    sessions: list[list[EventRecord]] = []
    for event in events:
        if event.kind in ("campaign_started", "campaign_resumed", "labelling_started", "import_started"):
            sessions.append([])
        sessions[-1].append(event)
    return sessions


def _overlap(start: datetime, stop: datetime, begin: datetime, end: datetime) -> float:
    return max(0.0, (min(stop, end) - max(start, begin)).total_seconds())
