"""What runs on a worker: plain functions of plain values, each safe to run twice.

A task never touches the database. It returns arrays; a committee it trains is a file named by its own hash.

What needs a committee loads torch, which takes time and memory; the orchestrator, and a worker that only makes labels,
do without.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Final

from alflow.campaign.tasks import Answer, LabelTask, Task, Value
from alflow.reference import run_label

__all__ = ["LEARNING", "load_learning", "run_task"]

LEARNING: Final = frozenset({"explore", "train"})
"""What a worker may take that needs a committee."""


def run_task(task: Task, threads: int = 1) -> Answer:
    """Run one task on this worker.

    Args:
        task: What to do.
        threads: Threads torch may use.
    """
    work = partial(run_label, task.request) if isinstance(task, LabelTask) else partial(load_learning(), task, threads)
    started_at, began, cpu = time.time(), time.monotonic(), time.process_time()
    value: Value = work()
    ended_at = started_at + time.monotonic() - began  # the clock of the day may have been set meanwhile
    return Answer(value, socket.gethostname(), os.getpid(), started_at, ended_at, time.process_time() - cpu)


def load_learning() -> Callable[[Task, int], Value]:
    """The function for all tasks but labels; who loads it beforehand spares the first of them the wait."""
    # Not an import statement on purpose: only a worker that explores or trains may pay for loading torch.
    run: Callable[[Task, int], Value] = import_module("alflow.campaign.learning").run_with_committee
    return run
