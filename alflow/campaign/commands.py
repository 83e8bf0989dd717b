"""What the loop wants done: starts of tasks, and changes of bookkeeping that belong to the event's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Command",
    "DropFrame",
    "Finish",
    "ProposeSeeds",
    "PutJob",
    "Start",
    "StartExploring",
    "StartLabel",
    "StartScoring",
    "StartTraining",
    "TakeCommittee",
    "TakeLabels",
    "WalkerOrder",
]


@dataclass(frozen=True)
class ProposeSeeds:
    """Make starting frames around the given structures."""

    count: int


@dataclass(frozen=True)
class TakeLabels:
    """Look up the labels of the database that can be the first data."""


@dataclass(frozen=True)
class TakeCommittee:
    """Copy the committee of the configuration's file to be generation 1."""


@dataclass(frozen=True)
class PutJob:
    """The state of one label request has changed."""

    frame_id: str
    structure_id: str
    purpose: Literal["seed", "flagged", "audit"]
    state: Literal["pending", "running", "done", "quarantined", "dropped"]
    priority: float
    attempts: int
    n_lost: int
    failure: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class DropFrame:
    """A frame will not be labelled, and why."""

    frame_id: str
    decision: Literal["duplicate", "unphysical", "dropped"]
    reason: str


@dataclass(frozen=True)
class StartLabel:
    """Label one frame."""

    task: str
    frame_id: str
    structure_id: str
    attempt: int


@dataclass(frozen=True)
class WalkerOrder:
    """One walker's part in a segment.

    Attributes:
        walker: Number of the walker.
        segment: Number of the segment, for the compare-and-set on its checkpoint.
        restart: Whether it must first go back to its starting structure with fresh velocities.
        step: Steps it has made by the journal, from which one whose checkpoint was lost counts on.
    """

    walker: int
    segment: int
    restart: bool
    step: int = 0


@dataclass(frozen=True)
class StartExploring:
    """Run one segment of dynamics with a group of walkers."""

    task: str
    segment: int
    generation: int
    walkers: tuple[WalkerOrder, ...]
    steps: int
    threshold: float
    audit: bool


@dataclass(frozen=True)
class StartTraining:
    """Train the next generation on every label committed so far."""

    task: str
    generation: int
    n_labels: int


@dataclass(frozen=True)
class StartScoring:
    """Let the active committee look again at frames that wait for a label."""

    task: str
    generation: int
    frame_ids: tuple[str, ...]


@dataclass(frozen=True)
class Finish:
    """The campaign is over, or stops here until it is resumed."""

    state: Literal["finished", "stopped", "failed"]
    reason: str


Start = StartLabel | StartExploring | StartTraining | StartScoring
Command = ProposeSeeds | TakeLabels | TakeCommittee | PutJob | DropFrame | Start | Finish
