"""What can happen in a campaign. Each event is written to the journal before anything acts on it.

Events carry facts, never instructions, and never a time of day: two runs with the same seed on the inline executor
write the same journal, bit for bit. Arrays do not travel in events; they are stored in the same transaction and
named by content.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

__all__ = [
    "CampaignResumed",
    "CampaignStarted",
    "CheckpointsLost",
    "CommitteeGiven",
    "CommitteeLost",
    "Event",
    "FrameSeen",
    "GivenLabel",
    "LabelDone",
    "LabelFailed",
    "LabelsGiven",
    "QueueRescored",
    "RetriedFrame",
    "RetryRequested",
    "SeedsProposed",
    "SegmentDone",
    "StopRequested",
    "TaskBroken",
    "TaskLost",
    "TrainingDone",
    "WalkerReport",
    "WorkersChanged",
    "event_from_json",
    "event_from_payload",
    "event_to_payload",
]


@dataclass(frozen=True)
class FrameSeen:
    """A frame that something may be decided about.

    Attributes:
        frame_id: Name of the frame, by content.
        structure_id: Its structure.
        walker: Which walker reached it; −1 for a proposal.
        step: At which of the walker's steps.
        disagreement: Of the committee that was watching, eV/Å; 0 for a proposal.
        duplicate_of: Frame that it nearly repeats, if any.
    """

    frame_id: str
    structure_id: str
    walker: int
    step: int
    disagreement: float
    duplicate_of: str | None = None


@dataclass(frozen=True)
class WalkerReport:
    """How one walker came out of a segment.

    Attributes:
        walker: Number of the walker.
        status: ``running`` (went the whole segment), ``paused`` (flagged a frame) or ``reset`` (a guard fired).
        reason: Why it paused or was reset; empty otherwise.
        step: Its step now.
        steps: Steps it made in this segment.
        max_disagreement: Largest disagreement it met, eV/Å.
        temperature: Mean temperature over the segment, K.
        frame: The frame that was flagged, or the unphysical frame a guard stopped at, if it has a structure.
        checkpoint: Digest of the walker's new checkpoint; empty in journals of older versions.
    """

    walker: int
    status: Literal["running", "paused", "reset"]
    reason: str
    step: int
    steps: int
    max_disagreement: float
    temperature: float
    frame: FrameSeen | None = None
    checkpoint: str = ""


@dataclass(frozen=True)
class CampaignStarted:
    """The campaign was created; everything it will decide follows from this and from what happens.

    Attributes:
        config: What the user asked for.
        structure_ids: The starting structures.
        slots: Workers in all.
        pools: Workers by the name of their pool; empty in old journals, where all workers took every task.
    """

    config: Mapping[str, Any]
    structure_ids: tuple[str, ...]
    slots: int
    pools: Mapping[str, int] = field(default_factory=dict)
    kind: Literal["campaign_started"] = "campaign_started"


@dataclass(frozen=True)
class CampaignResumed:
    """A new orchestrator took the campaign over, with workers of its own; tasks that were in flight are no more."""

    slots: int
    pools: Mapping[str, int] = field(default_factory=dict)
    kind: Literal["campaign_resumed"] = "campaign_resumed"


@dataclass(frozen=True)
class WorkersChanged:
    """Workers of a cluster joined or left, or a machine gets no more labels.

    Attributes:
        slots: Workers in all, now.
        pools: Workers by the name of their pool.
        drained: Machines on which label after label crashed; they are given no more.
    """

    slots: int
    pools: Mapping[str, int]
    drained: tuple[str, ...] = ()
    kind: Literal["workers_changed"] = "workers_changed"


@dataclass(frozen=True)
class GivenLabel:
    """A label that was there before the campaign, and what the campaign does with it."""

    frame_id: str
    structure_id: str
    purpose: Literal["seed", "flagged"]


@dataclass(frozen=True)
class LabelsGiven:
    """Labels that were in the database are the campaign's first data.

    Attributes:
        frames: A frame for each of them.
        complete: Whether every element of the starting structures occurs among them.
    """

    frames: tuple[GivenLabel, ...]
    complete: bool
    kind: Literal["labels_given"] = "labels_given"


@dataclass(frozen=True)
class CommitteeGiven:
    """A committee that was trained elsewhere is generation 1; SHA-256 of its weight file."""

    sha256: str
    kind: Literal["committee_given"] = "committee_given"


@dataclass(frozen=True)
class SeedsProposed:
    """Starting frames were made without dynamics."""

    frames: tuple[FrameSeen, ...]
    kind: Literal["seeds_proposed"] = "seeds_proposed"


@dataclass(frozen=True)
class SegmentDone:
    """A group of walkers finished a segment of dynamics."""

    task: str
    generation: int
    reports: tuple[WalkerReport, ...]
    audit: FrameSeen | None = None
    kind: Literal["segment_done"] = "segment_done"


@dataclass(frozen=True)
class LabelDone:
    """A label was committed.

    Attributes:
        task: The attempt that made it.
        frame_id: The frame it was made for.
        max_error: Largest force error over atoms of the committee that saw the frame, eV/Å; None without a prediction.
        mean_error: Mean absolute error of its force components, eV/Å; None without a prediction.
        recovered: Whether it was found in the spool of an orchestrator that died; nothing is started before the
            ``campaign_resumed`` that follows.
    """

    task: str
    frame_id: str
    max_error: float | None = None
    mean_error: float | None = None
    recovered: bool = False
    kind: Literal["label_done"] = "label_done"


@dataclass(frozen=True)
class LabelFailed:
    """An attempt at a label gave no usable result; the failure counts against the label.

    Attributes:
        task: The attempt.
        frame_id: The frame it was made for.
        failure: Class of the failure.
        message: What was wrong.
        recovered: Whether the result was found in the spool of an orchestrator that died, as in :class:`LabelDone`.
    """

    task: str
    frame_id: str
    failure: str
    message: str
    recovered: bool = False
    kind: Literal["label_failed"] = "label_failed"


@dataclass(frozen=True)
class TrainingDone:
    """A committee was trained, and judged.

    Attributes:
        task: The attempt that trained it.
        n_labels: How many labels had been committed when its dataset was drawn up.
        sha256: Hash of its weight file; None when training gave nothing finite.
        accepted: Whether it replaces the active committee.
        reason: Why it was rejected; empty otherwise.
        metrics: Errors on training, validation and audit labels; unit in the key.
        machine: Where it was trained: processor, cores, memory, versions; empty in journals of older versions.
    """

    task: str
    n_labels: int
    sha256: str | None
    accepted: bool
    reason: str
    metrics: Mapping[str, float]
    machine: Mapping[str, str] = field(default_factory=dict)
    kind: Literal["training_done"] = "training_done"


@dataclass(frozen=True)
class QueueRescored:
    """The active committee looked again at the frames that wait for a label; disagreement in eV/Å by frame."""

    task: str
    generation: int
    scores: Mapping[str, float]
    kind: Literal["queue_rescored"] = "queue_rescored"


@dataclass(frozen=True)
class TaskLost:
    """A task ended without an answer through no fault of its own (worker or scheduler lost).

    Attributes:
        task: Its name.
        message: What happened.
        cause: ``WORKER_LOST``, which the task may have brought about; ``WALLTIME``, the time of its worker was up; or
            ``SCHEDULER_LOST``, which it cannot have brought about.
        worker: Where it ran; empty in journals of older versions, where every loss counts as one of its own.
        steps_made: Steps of an interrupted label that need not be made again.
        last: Whether it is tried no more, and the campaign ends; no journal of an older version says so.
    """

    task: str
    message: str
    cause: str = "WORKER_LOST"
    worker: str = ""
    steps_made: int = 0
    last: bool = False
    kind: Literal["task_lost"] = "task_lost"


@dataclass(frozen=True)
class TaskBroken:
    """A task raised an exception: a defect in alflow or in the user's own code. The campaign pauses."""

    task: str
    message: str
    kind: Literal["task_broken"] = "task_broken"


@dataclass(frozen=True)
class CommitteeLost:
    """The weight file of the active committee is gone or altered; its labels are all there."""

    message: str
    kind: Literal["committee_lost"] = "committee_lost"


@dataclass(frozen=True)
class CheckpointsLost:
    """Checkpoints of walkers are gone, altered or unreadable; these walkers begin anew at their starting structures.

    Attributes:
        walkers: Their numbers.
        message: What was found.
    """

    walkers: tuple[int, ...]
    message: str
    kind: Literal["checkpoints_lost"] = "checkpoints_lost"


@dataclass(frozen=True)
class StopRequested:
    """Somebody asked the campaign to stop: nothing new starts, what runs may finish."""

    reason: str = field(default="stop requested")
    kind: Literal["stop_requested"] = "stop_requested"


@dataclass(frozen=True)
class RetriedFrame:
    """A frame whose label was given up, with all that a request for it needs."""

    frame_id: str
    structure_id: str
    purpose: Literal["seed", "flagged", "audit"]
    disagreement: float
    walker: int
    generation: int


@dataclass(frozen=True)
class RetryRequested:
    """Somebody asked for labels again that were given up: they get fresh attempts."""

    frames: tuple[RetriedFrame, ...]
    kind: Literal["retry_requested"] = "retry_requested"


Event = (
    CampaignStarted
    | CampaignResumed
    | WorkersChanged
    | LabelsGiven
    | CommitteeGiven
    | SeedsProposed
    | SegmentDone
    | LabelDone
    | LabelFailed
    | TrainingDone
    | QueueRescored
    | TaskLost
    | TaskBroken
    | CommitteeLost
    | CheckpointsLost
    | StopRequested
    | RetryRequested
)

_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


def event_to_payload(event: Event) -> dict[str, Any]:
    """Write an event as JSON values; floats survive exactly.

    Examples:
        >>> event_to_payload(StopRequested())
        {'reason': 'stop requested', 'kind': 'stop_requested'}
    """
    payload: dict[str, Any] = _ADAPTER.dump_python(event, mode="json")
    return payload


def event_from_payload(payload: Mapping[str, Any]) -> Event:
    """Read an event back from its JSON values."""
    return _ADAPTER.validate_python(dict(payload))


def event_from_json(text: str) -> Event:
    """Read an event back from the text of its JSON, at once."""
    return _ADAPTER.validate_json(text)
