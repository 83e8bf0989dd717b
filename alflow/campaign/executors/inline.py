"""Tasks in this process, in the order in which they were submitted."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Mapping

from alflow.campaign.executors.protocol import Completion
from alflow.campaign.pools import SHARED
from alflow.campaign.tasks import Task
from alflow.campaign.work import run_task
from alflow.reference import close_guards

__all__ = ["InlineExecutor"]


class InlineExecutor:
    """Runs one task at a time, first come, first served. Deterministic: the journal depends on the seed only.

    Args:
        threads: Threads of dynamics and training.
    """

    slots = 1
    dashboard = None
    drained: tuple[str, ...] = ()
    board = None

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._waiting: deque[Task] = deque()

    @property
    def pools(self) -> Mapping[str, int]:
        """One worker, this process, for every task."""
        return {SHARED: self.slots}

    def submit(self, task: Task) -> None:
        """Put a task at the end of the line."""
        self._waiting.append(task)

    def wait(self, timeout_s: float) -> tuple[Completion, ...]:
        """Run the first task in the line to its end."""
        if not self._waiting:
            return ()
        task = self._waiting.popleft()
        try:
            return (Completion(task.name, answer=run_task(task, self._threads), worker="inline"),)
        except Exception:
            return (Completion(task.name, broken=traceback.format_exc(), worker="inline"),)

    def close(self) -> None:
        """Forget what waits, and end what is kept for the next label."""
        self._waiting.clear()
        close_guards()
