"""Losses that are too many: of trainings in a campaign, and all that a list of labels remembers of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from alflow.campaign.decide import LOSS_LIMIT
from alflow.campaign.state import State
from alflow.domain import FailureKind
from alflow.selection import has_advanced

__all__ = ["Losses", "is_last_try"]


def is_last_try(state: State, task: str, cause: FailureKind) -> bool:
    """Whether a task that is lost was tried often enough: a training that no worker has the memory or time for.

    Args:
        state: What is known before the loss.
        task: The task.
        cause: A scheduler that was lost says nothing about it.
    """
    if state.running[task].kind != "train" or cause is FailureKind.SCHEDULER_LOST:
        return False
    return state.lost_trainings + 1 >= LOSS_LIMIT


class Losses:
    """What a list of labels remembers until its command ends; a campaign knows it from its journal.

    Losses of workers, counted by incident, and those losses of labels that a label may have brought about.

    Attributes:
        in_a_row: Times that workers were lost since anything was made.
    """

    def __init__(self) -> None:
        self.in_a_row = 0
        self._beside: frozenset[str] = frozenset()
        self._suspect: Counter[str] = Counter()
        self._steps: Counter[str] = Counter()

    @property
    def too_many(self) -> bool:
        """Whether something is wrong with all the workers."""
        return self.in_a_row >= LOSS_LIMIT

    def worker(self, task: str, running: Iterable[str]) -> None:
        """Count the loss of a worker. A machine takes all along that runs there, and that is one loss.

        Args:
            task: What it was doing.
            running: All tasks in flight.
        """
        if task not in self._beside:
            self.in_a_row += 1
            self._beside = frozenset(running)

    def label(self, job: str, cause: FailureKind, steps: int = 0) -> bool:
        """Count the loss of a label.

        Args:
            job: Which one.
            cause: A lost scheduler is nobody's fault, nor is the end of a worker for a label that comes closer to its
                own end each time.
            steps: Steps of an interrupted label that need not be made again.

        Returns:
            Whether it is to be given up.
        """
        innocent = cause is FailureKind.SCHEDULER_LOST or has_advanced(self._steps[job], steps)
        self._steps[job] = max(self._steps[job], steps)
        self._suspect[job] += not innocent
        return self._suspect[job] >= LOSS_LIMIT
