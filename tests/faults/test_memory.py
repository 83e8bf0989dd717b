"""Workers that eat more memory than their pool allows: the nanny ends them, the task is lost and nobody is charged."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from distributed import Client

from alflow.campaign.events import Event, TaskLost
from alflow.campaign.launch import run_campaign
from alflow.campaign.state import State
from tests.campaign.toys import check_promises, rows, toy

pytestmark = pytest.mark.slow

LIMIT_GIB = 1.0


def grow() -> None:
    """Let this process eat memory beside whatever it does, twice as much as its pool allows at most."""

    def eat() -> None:
        eaten = []
        for _ in range(round(2 * LIMIT_GIB * 10)):
            eaten.append(b"x" * (2**30 // 10))
            time.sleep(0.01)
        time.sleep(60)

    threading.Thread(target=eat, daemon=True).start()


@dataclass
class Feeding:
    """An observer that makes a worker eat while it trains, and one while it explores; again, if it died between tasks.

    Attributes:
        orders: Kinds of task whose worker is to die.
        lost: Kinds of the tasks that were lost.
        again_at: When to try again.
    """

    orders: list[str]
    lost: list[str] = field(default_factory=list)
    again_at: float = 0.0

    def seen(self, state: State, event: Event | None) -> None:
        if isinstance(event, TaskLost):
            self.lost.append(event.task.partition("-")[0])
            self.again_at = 0.0
        if len(self.lost) == len(self.orders) or time.monotonic() < self.again_at:
            return
        kind = self.orders[len(self.lost)]
        client = Client.current()
        at_work = {key: address for address, keys in client.processing().items() for key in keys}
        address = next((address for key, address in at_work.items() if key.startswith(kind)), None)
        if address is not None and (kind == "train" or state.horizon >= 1000):
            client.run(grow, workers=[address])
            self.again_at = time.monotonic() + 5.0


def test_a_trainer_and_a_walker_killed_for_their_memory_cost_nothing_but_time(tmp_path: Path) -> None:
    config = toy(
        tmp_path,
        executor="dask",
        cores=2,
        pools={
            "label": {"workers": 1, "threads": 1},
            "explore": {"workers": 1, "threads": 1, "memory_gib": LIMIT_GIB},
            "train": {"threads": 1, "memory_gib": LIMIT_GIB},
            "oversubscribe": True,
        },
        walkers=8,
        threshold_ev_ang=3.0,  # hardly ever: segments become long enough to be hit
        segment_steps=20_000,
        initial_labels=8,
        label_budget=16,
        quiet_ps=40,
        labels_per_generation=8,
        training={"epochs": 5, "min_steps": 2000},
    )
    feeding = Feeding(["train", "explore"])
    ended = run_campaign(config, observers=[feeding])
    assert ended.state.phase == "finished"
    assert feeding.lost == feeding.orders, "each worker died with a task of its kind, and no other did"
    check_promises(config.database)
    lost = rows(config.database, "SELECT kind, failure_kind, message FROM executions WHERE status = 'lost' ORDER BY id")
    assert [row[:2] for row in lost] == [("train", "WORKER_LOST"), ("explore", "WORKER_LOST")]
    assert all("died" in message for *_, message in lost)
    assert rows(config.database, "SELECT DISTINCT attempts, n_lost FROM label_jobs WHERE state = 'done'") == [(1, 0)]
    again = rows(config.database, "SELECT status FROM executions WHERE kind = 'train' ORDER BY id")
    assert [status for (status,) in again][:2] == ["lost", "done"]
