"""What the runner asks of an executor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from alflow.campaign.tasks import Answer, Task
from alflow.domain import FailureKind
from alflow.reports.feed import Place

__all__ = ["Completion", "Executor"]


@dataclass(frozen=True)
class Completion:
    """The end of a task, one way or another.

    Attributes:
        task: Name of the task.
        answer: What it returned, if it did.
        lost: Why it will never return, if the machinery failed under it.
        broken: The traceback, if it raised.
        worker: Where it ran, as far as that is known.
        cause: What was lost, if something was: the worker, or the scheduler with everything it knew.
    """

    task: str
    answer: Answer | None = None
    lost: str | None = None
    broken: str | None = None
    worker: str = ""
    cause: FailureKind = FailureKind.WORKER_LOST


class Executor(Protocol):
    """Runs tasks. Holds no state the campaign could not lose."""

    @property
    def slots(self) -> int:
        """Tasks that may be in flight at once."""
        ...

    @property
    def pools(self) -> Mapping[str, int]:
        """The same, by the name of the pool, which says what its workers take; see :mod:`alflow.campaign.pools`."""
        ...

    @property
    def drained(self) -> tuple[str, ...]:
        """Machines that are given no more labels because they crash them."""
        ...

    @property
    def dashboard(self) -> str | None:
        """Address of a dashboard, if there is one."""
        ...

    @property
    def board(self) -> Place | None:
        """Where a page about the campaign can be put up, if there is such a place."""
        ...

    def submit(self, task: Task) -> None:
        """Start a task; its name is unique. Returns at once, or when the task is done on the inline executor."""
        ...

    def wait(self, timeout_s: float) -> Sequence[Completion]:
        """All completions that are there, once there is one; none when none came in time."""
        ...

    def close(self) -> None:
        """End the workers; tasks in flight are lost."""
        ...
