"""Records: what the store takes and gives back besides the nouns of :mod:`alflow.domain`.

Units are those of the whole library (eV, Å, fs, K); times on the clock carry their unit in the name.
Records that hold arrays compare by identity; the others by value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from alflow.domain import FailureKind, Label, Structure
from alflow.domain.structure import FloatArray

__all__ = [
    "CampaignRecord",
    "CampaignState",
    "CommitteeRecord",
    "CommitteeState",
    "Dataset",
    "DatasetRecord",
    "EventRecord",
    "ExecutionEnd",
    "ExecutionKind",
    "ExecutionRecord",
    "ExecutionStatus",
    "FrameDecision",
    "FrameOrigin",
    "FrameRecord",
    "FrameStory",
    "JobRecord",
    "JobState",
    "Purpose",
    "Split",
    "WalkerRecord",
    "WalkerStatus",
    "now",
]

CampaignState = Literal["created", "running", "stopped", "finished", "failed"]
"""Where the life of a campaign stands; one that stopped, or failed, can be resumed."""

FrameOrigin = Literal["seed", "walker", "given"]
"""Displaced from a starting structure, reached by a walker, or given by the user in a file."""

FrameDecision = Literal["seed", "flagged", "audit", "duplicate", "unphysical", "dropped"]
"""To be labelled, as the three purposes of a label say; or not: known already, no physics, or no longer worth it."""

Purpose = Literal["seed", "flagged", "audit"]
"""To begin with, because the committee disagreed, or drawn at random to measure the error."""

JobState = Literal["pending", "running", "done", "quarantined", "dropped"]
"""How far a wanted label is; one in quarantine was given up and can be asked for again."""

ExecutionKind = Literal["label", "explore", "train", "score"]
"""What a task does: a label, a segment of dynamics, a training, or a fresh look at the queue."""

ExecutionStatus = Literal["running", "done", "failed", "lost"]
"""How an attempt went; it is lost with its worker, its scheduler or the process that drove the campaign."""

WalkerStatus = Literal["running", "paused", "exploring"]
"""It may go on, waits at a flagged frame, or is in a task."""

CommitteeState = Literal["active", "superseded", "rejected"]
"""In use, replaced by a later one, or never used because it was worse."""

Split = Literal["train", "validation", "audit"]
"""Learnt from, held out to judge committees, or drawn at random to measure the error."""

Dataset = tuple[str, frozenset[tuple[str, str, Split]]]
"""Digest of a dataset, and the (structure id, level id, split) of its members."""


def now() -> datetime:
    """The present moment, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class CampaignRecord:
    """One campaign.

    Attributes:
        id: Number of the campaign in this store.
        uuid: Name that is unique among all stores.
        name: Name the user gave it.
        config: The configuration, as JSON values.
        config_digest: SHA-256 of its canonical JSON.
        seed: Seed of every random number.
        state: Where its life stands.
        reason: Why it is in that state.
        epoch: Fencing token; grows whenever the campaign changes hands.
        beat: Grows with every write of the process that drives it.
        holder: ``host:pid`` of the process that drives it; None when nobody does.
        stop_requested: Whether somebody asked it to stop.
        created_at: When it was created.
        alflow_version: Version that created it.
    """

    id: int
    uuid: str
    name: str
    config: Mapping[str, Any]
    config_digest: str
    seed: int
    state: CampaignState
    reason: str
    epoch: int
    beat: int
    holder: str | None
    stop_requested: bool
    created_at: datetime
    alflow_version: str


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """One structure at one step of a walker, or one that was given, and what was decided about it.

    Attributes:
        id: Name of the frame.
        campaign_id: The campaign it belongs to.
        structure_id: The structure.
        origin: Where it comes from.
        decision: What was decided.
        walker: Number of the walker; None if no walker made it.
        step: Step of that walker.
        time: Simulated time of that walker, fs.
        generation: Generation of the committee that looked at it.
        disagreement: Largest disagreement of any atom, eV/Å.
        force_std: Largest standard deviation of the members' forces on any atom, eV/Å.
        extrapolation: How far it lies outside of what the committee was trained on, in units of the range; 0 inside,
            None if that is not known.
        threshold: Threshold in force, eV/Å.
        reason: Why that was decided.
        predicted_energy: Mean of the committee, eV.
        predicted_forces: Mean of the committee, eV/Å, shape (atom, 3).
        event_seq: The event that recorded it.
    """

    id: str
    campaign_id: int
    structure_id: str
    origin: FrameOrigin
    decision: FrameDecision
    walker: int | None = None
    step: int | None = None
    time: float | None = None
    generation: int | None = None
    disagreement: float | None = None
    force_std: float | None = None
    extrapolation: float | None = None
    threshold: float | None = None
    reason: str = ""
    predicted_energy: float | None = None
    predicted_forces: FloatArray | None = None
    event_seq: int = 0


@dataclass(frozen=True)
class JobRecord:
    """One label to be computed.

    Attributes:
        id: Name of the job.
        campaign_id: The campaign that asks for it.
        frame_id: The frame it was asked for.
        structure_id: What to compute.
        level_id: At which level of theory.
        purpose: What for.
        state: How far it is.
        priority: Larger is sooner.
        attempts: Attempts that count.
        n_lost: Attempts lost with their worker, which do not count.
        failure_kind: Class of the last failure.
        failure_message: What happened last.
        event_seq: The last event that changed it; for a job that is done, the one that completed it.
        retry_requested: Whether somebody asked for it again after it was given up; its next change takes it back.
    """

    id: str
    campaign_id: int
    frame_id: str
    structure_id: str
    level_id: str
    purpose: Purpose
    state: JobState = "pending"
    priority: float = 0.0
    attempts: int = 0
    n_lost: int = 0
    failure_kind: FailureKind | None = None
    failure_message: str = ""
    event_seq: int = 0
    retry_requested: bool = False


@dataclass(frozen=True)
class ExecutionRecord:
    """One attempt at one task: written when it starts, completed once, never deleted.

    Attributes:
        campaign_id: The campaign it runs for.
        key: Name that no other execution in the store has.
        kind: What kind of task.
        subject: What it works on: a job, a generation, some walkers.
        attempt: Number of the attempt.
        epoch: Epoch of the lease under which it was started.
        worker: Address or name of the worker.
        host: Machine it ran on.
        pid: Process it ran in.
        started_at: When it was handed out.
        ended_at: When its outcome was known; None while it runs.
        status: How it went.
        failure_kind: Class of failure, if it failed.
        message: What happened.
        wall_s: Time it took, s.
        cpu_s: Processor time it took, s.
        peak_memory_mb: Most memory it held, MB.
        threads: Threads it was given.
    """

    campaign_id: int
    key: str
    kind: ExecutionKind
    subject: str
    attempt: int = 1
    epoch: int = 0
    worker: str | None = None
    host: str | None = None
    pid: int | None = None
    started_at: datetime = field(default_factory=now)
    ended_at: datetime | None = None
    status: ExecutionStatus = "running"
    failure_kind: FailureKind | None = None
    message: str = ""
    wall_s: float | None = None
    cpu_s: float | None = None
    peak_memory_mb: float | None = None
    threads: int | None = None


@dataclass(frozen=True)
class ExecutionEnd:
    """How an execution ended; what is None leaves what was recorded at its start.

    Attributes:
        key: The execution.
        status: How it went.
        failure_kind: Class of failure, if it failed.
        message: What happened.
        worker: Address or name of the worker.
        host: Machine it ran on.
        pid: Process it ran in.
        wall_s: Time it took, s.
        cpu_s: Processor time it took, s.
        peak_memory_mb: Most memory it held, MB.
        threads: Threads it was given.
        ended_at: When its outcome was known.
    """

    key: str
    status: ExecutionStatus
    failure_kind: FailureKind | None = None
    message: str = ""
    worker: str | None = None
    host: str | None = None
    pid: int | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    peak_memory_mb: float | None = None
    threads: int | None = None
    ended_at: datetime = field(default_factory=now)


@dataclass(frozen=True, eq=False)
class WalkerRecord:
    """The latest checkpoint of one walker: everything it needs to go on.

    Attributes:
        campaign_id: The campaign it belongs to.
        walker: Number of the walker.
        segment: Number of this checkpoint; only a larger one replaces it.
        structure: Where its atoms are.
        velocities: Velocity of each atom, Å/fs, shape (atom, 3).
        step: Steps made.
        resets: How often it was put back.
        last_flag_step: Step of its last flagged frame; far below zero if there was none.
        status: Whether it may go on.
        reason: Why it has that status.
        generation: Generation of the committee it moves on.
        disagreement: Disagreement at its last frame, eV/Å.
        temperature: Temperature it is kept at, K.
    """

    campaign_id: int
    walker: int
    segment: int
    structure: Structure
    velocities: FloatArray
    step: int = 0
    resets: int = 0
    last_flag_step: int = -(10**9)
    status: WalkerStatus = "running"
    reason: str = ""
    generation: int | None = None
    disagreement: float | None = None
    temperature: float | None = None


@dataclass(frozen=True)
class CommitteeRecord:
    """One trained committee.

    Attributes:
        campaign_id: The campaign it belongs to.
        generation: Its number; a rejected one shares it with the one that took its place.
        sha256: SHA-256 of the weight file.
        path: Where that file is, in the folder of the campaign.
        dataset_digest: The dataset it was trained on.
        parent_sha256: The committee it started from.
        state: Whether it is in use.
        metrics: How good it is; JSON values, unit in the key.
        created_at: When it was recorded.
    """

    campaign_id: int
    generation: int
    sha256: str
    path: str
    dataset_digest: str
    parent_sha256: str | None = None
    state: CommitteeState = "active"
    metrics: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True)
class DatasetRecord:
    """An immutable set of labels with its split.

    Attributes:
        digest: SHA-256 of its content.
        campaign_id: The campaign that made it first.
        n_train: Labels to learn from.
        n_validation: Labels that judge, and are not learnt from.
        n_audit: Labels that measure the error.
        created_at: When it was recorded.
    """

    digest: str
    campaign_id: int
    n_train: int
    n_validation: int
    n_audit: int
    created_at: datetime


@dataclass(frozen=True)
class EventRecord:
    """One line of the journal.

    Attributes:
        campaign_id: The campaign.
        seq: Its number, from 1 without gaps.
        kind: What happened.
        payload: The particulars; JSON values.
        recorded_at: When it was written.
    """

    campaign_id: int
    seq: int
    kind: str
    payload: Mapping[str, Any]
    recorded_at: datetime


@dataclass(frozen=True, eq=False)
class FrameStory:
    """Everything known about one frame: why it was chosen, what was computed, what was learned from it.

    Attributes:
        frame: The frame.
        structure: Its structure.
        job: The label asked for in this campaign, for this frame or for an equal one; None if nobody asked.
        executions: Attempts at that job, oldest first.
        label: The result, if there is one.
        committees: Committees of the generation that looked at the frame; rejected ones too.
        datasets: Each dataset the label entered, and into which part of it.
    """

    frame: FrameRecord
    structure: Structure
    job: JobRecord | None
    executions: tuple[ExecutionRecord, ...]
    label: Label | None
    committees: tuple[CommitteeRecord, ...]
    datasets: tuple[tuple[DatasetRecord, Split], ...]
