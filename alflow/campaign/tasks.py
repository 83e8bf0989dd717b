"""What a worker can be asked to do, and what it answers: plain values that travel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from alflow.campaign.machine import this_machine
from alflow.domain import Label, Structure
from alflow.domain.learning_config import ModelConfig, TrainingConfig
from alflow.exploration import SegmentOutcome, SegmentSettings, Walker
from alflow.reference import LabelRequest, LabelResult

__all__ = [
    "Answer",
    "ExploreTask",
    "LabelTask",
    "ScoreTask",
    "Task",
    "TrainTask",
    "TrainingResult",
    "Value",
    "WeightFile",
]


@dataclass(frozen=True)
class WeightFile:
    """A committee on disk, named by the hash of its bytes."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class LabelTask:
    """Label one structure in a process of its own."""

    name: str
    request: LabelRequest


@dataclass(frozen=True)
class ExploreTask:
    """Advance a group of walkers together."""

    name: str
    committee: WeightFile
    walkers: tuple[Walker, ...]
    settings: SegmentSettings


@dataclass(frozen=True)
class TrainTask:
    """Train a committee, starting from the active one, and judge it.

    Attributes:
        name: Name of the task.
        train: Labels to learn from.
        validation: Labels that judge the committee and are never learnt from.
        audit: Labels that are only measured on.
        dataset: Digest of the three together.
        model: The potential.
        training: How to train.
        seed: Seed of initial weights and of the bootstrap.
        start: The active committee, if there is one.
        folder: Where weight files live.
    """

    name: str
    train: tuple[Label, ...]
    validation: tuple[Label, ...]
    audit: tuple[Label, ...]
    dataset: str
    model: ModelConfig
    training: TrainingConfig
    seed: int
    start: WeightFile | None
    folder: Path


@dataclass(frozen=True)
class ScoreTask:
    """Measure the active committee's disagreement on frames that wait for a label."""

    name: str
    committee: WeightFile
    frame_ids: tuple[str, ...]
    structures: tuple[Structure, ...]


Task = LabelTask | ExploreTask | TrainTask | ScoreTask


@dataclass(frozen=True)
class TrainingResult:
    """A trained committee and the judgement on it; ``weights`` is None when nothing finite came out."""

    weights: WeightFile | None
    accepted: bool
    reason: str
    metrics: Mapping[str, float]
    machine: Mapping[str, str] = field(default_factory=this_machine)


Value = LabelResult | SegmentOutcome | TrainingResult | dict[str, float]
"""What a task returns; for a scoring, the disagreement of each frame, eV/Å."""


@dataclass(frozen=True)
class Answer:
    """What a task returned, and what it cost. Times in seconds since the epoch, memory in MB."""

    value: Value
    host: str
    pid: int
    started_at: float
    ended_at: float
    cpu_s: float
