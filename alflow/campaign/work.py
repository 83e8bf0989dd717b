"""What runs on a worker: plain functions of plain values, each safe to run twice.

A task never touches the database. It returns arrays; a committee it trains is a file named by its own hash.

What needs a committee loads torch, which takes two seconds and a quarter of a gigabyte: the orchestrator, and a worker
that only makes labels, do without.
"""

from __future__ import annotations

import os
import socket
import time
from importlib import import_module
from typing import Any

from alflow.campaign.tasks import Answer, LabelTask, Task, TrainingResult
from alflow.exploration import SegmentOutcome
from alflow.reference import LabelResult, run_label

__all__ = ["load_learning", "run_task"]


def run_task(task: Task, threads: int = 1) -> Answer:
    """Run one task on this worker.

    Args:
        task: What to do.
        threads: Threads torch may use.
    """
    learning: Any = None if isinstance(task, LabelTask) else load_learning()
    started_at, began, cpu = time.time(), time.monotonic(), time.process_time()
    value: LabelResult | SegmentOutcome | TrainingResult | dict[str, float] = (
        run_label(task.request) if isinstance(task, LabelTask) else learning.run_with_committee(task, threads)
    )
    ended_at = started_at + time.monotonic() - began  # the clock of the day may have been set meanwhile
    return Answer(value, socket.gethostname(), os.getpid(), started_at, ended_at, time.process_time() - cpu)


def load_learning() -> Any:
    """The module for all tasks but labels, loaded beforehand so that the first of them is not charged with it."""
    # Not an import statement on purpose: only a worker that explores or trains may pay for loading torch.
    return import_module("alflow.campaign.learning")
