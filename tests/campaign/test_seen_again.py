"""A walker that stands on a frame whose label was dropped may ask for it again, from whichever step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alflow.campaign.executors import Completion, InlineExecutor
from alflow.campaign.launch import run_campaign
from alflow.campaign.tasks import Answer, ExploreTask
from alflow.domain import Structure
from alflow.exploration import FlaggedFrame, SegmentOutcome, Walker, WalkerOutcome
from alflow.exploration.outcome import Reason, WalkerStatus

from .toys import check_promises, rows, toy


class Stuck(InlineExecutor):
    """Every walker comes to its own one structure again and again, at another step each time."""

    def wait(self, timeout_s: float) -> tuple[Completion, ...]:
        if not self._waiting or not isinstance(self._waiting[0], ExploreTask):
            return super().wait(timeout_s)
        task = self._waiting.popleft()
        assert isinstance(task, ExploreTask)
        outcomes = tuple(map(self._flagged, task.walkers))
        answer = Answer(SegmentOutcome(outcomes, None, 0, 5 * len(outcomes)), "here", 0, 0.0, 0.0, 0.0)
        return (Completion(task.name, answer=answer, worker="inline"),)

    @staticmethod
    def _flagged(walker: Walker) -> WalkerOutcome:
        home = walker.structure
        positions = home.positions.copy()
        positions[1] += 0.02 * (walker.walker + 1) * np.sign(positions[1])
        if walker.step == 0:
            walker = replace(walker, structure=Structure.of(home.numbers, positions))
        there = walker.structure
        forces = np.zeros_like(there.positions)
        frame = FlaggedFrame(walker.walker, walker.step + 5, there, 1.0 + walker.walker, 0.5, 0.0, forces)
        after = replace(walker, step=walker.step + 5)
        return WalkerOutcome(after, WalkerStatus.PAUSED, Reason.DISAGREEMENT, "high", frame, None, 5, 1.0, 300.0)


@pytest.mark.parametrize("capacity", [1, 2])
def test_a_structure_that_was_crowded_out_is_asked_for_again(tmp_path: Path, capacity: int) -> None:
    changes: dict[str, Any] = {"queue_capacity": capacity, "label_budget": 9, "audit_fraction": 0.0}
    config = toy(tmp_path, **changes)
    run_campaign(config, executor=Stuck())
    check_promises(config.database)
    asked_again = rows(
        config.database,
        "SELECT a.structure_id FROM label_jobs a JOIN label_jobs b USING (structure_id) "
        "WHERE a.state = 'dropped' AND b.state = 'done'",
    )
    assert asked_again, "what was dropped once has its label in the end"
    assert rows(config.database, "SELECT count(*) FROM labels") == rows(
        config.database, "SELECT count(*) FROM label_jobs WHERE state = 'done'"
    )
