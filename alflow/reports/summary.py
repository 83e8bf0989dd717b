"""What a campaign has come to: counted from the database, so that it can be asked at any time, from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alflow.reports.timesplit import TimeSplit, split_time
from alflow.store import CampaignRecord, EventRecord, JobRecord, Snapshot, Store

__all__ = ["Summary", "drained_machines", "summarize"]


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
    datasets, committees = store.datasets(campaign.id), store.committees(campaign.id)
    curve = [(datasets[c.dataset_digest].n_train, c.generation, c.metrics) for c in committees if c.state != "rejected"]
    return Summary(
        campaign=campaign,
        jobs={str(state): count for state, count in store.job_counts(campaign.id).items()},
        failures=failures,
        given_up=tuple(store.jobs(campaign.id, state="quarantined")),
        generation=active.generation if active else 0,
        sha256=active.sha256 if active else None,
        metrics=active.metrics if active else {},
        walker_steps=tuple(w.step for w in store.readable_walkers(campaign.id)[0]),
        time=split_time(executions, events),
        excursions=tuple(f.extrapolation for f in flagged if f.extrapolation is not None),
        drained=drained_machines(events),
        learning_curve=tuple(curve),
    )


def drained_machines(events: Sequence[EventRecord]) -> tuple[str, ...]:
    """Machines that are given no labels now: a new orchestrator tries all of them again."""
    told = [event for event in events if event.kind in ("workers_changed", "campaign_started", "campaign_resumed")]
    return tuple(told[-1].payload.get("drained", ())) if told else ()
