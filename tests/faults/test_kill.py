"""kill -9 at any moment: no committed label is lost, none is computed again, and the campaign ends."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from distributed import Client

from alflow.campaign.events import Event
from alflow.campaign.launch import run_campaign
from alflow.campaign.state import State
from alflow.reference import sweep_spool
from alflow.store.location import is_server
from tests.campaign.toys import check_promises, rows, rows_so_far, toy, toy_file
from tests.postgresql import SERVER, address

from .processes import (
    is_first_attempt,
    is_label_worker,
    kill_tree,
    marked,
    start,
    wait_until_nothing_is_left,
)

pytestmark = pytest.mark.slow

KILLS = {True: 4, False: 2}
BUDGET = {True: 26, False: 16}
"""How often a campaign is killed, and how many labels it makes: where it has the time, and on the second database."""
EARLY = (3,)
"""Kills that come while the workers start; the others come when they are at work."""
ALONE = (1,)
"""Kills that hit the orchestrator alone; its workers and their labels must then end by themselves."""
SLOTS = 2
LABEL_RUNS = (
    "SELECT e.id, j.structure_id FROM executions e JOIN label_jobs j ON j.id = e.subject WHERE e.kind = 'label'"
)


def events(database: str | Path) -> int:
    """Length of the journal; 0 while there is none."""
    return sum(count for (count,) in rows_so_far(database, "SELECT count(*) FROM events"))


def wait_for_events(process: subprocess.Popen[str], database: str | Path, at_least: int) -> bool:
    """Wait until the journal has grown to some length; tell whether the process still lives."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if events(database) >= at_least:
            return True
        time.sleep(0.05)
    assert process.poll() is not None, "the campaign did nothing for a minute"
    return False


def test_killing_everything_at_any_moment_loses_and_repeats_nothing(tmp_path: Path, database: str) -> None:
    spool = tmp_path / "toy.alflow" / "spool"
    thorough = not is_server(database) or SERVER in os.environ
    kills, budget = KILLS[thorough], BUDGET[thorough]
    file = toy_file(tmp_path, delay_s=0.6, executor="dask", cores=SLOTS, label_budget=budget, database=database)
    seed = int(os.environ.get("ALFLOW_TEST_SEED", time.time_ns() % 2**32))
    print(f"ALFLOW_TEST_SEED={seed} repeats these moments")
    chance = random.Random(seed)
    paid: list[tuple[int, set[str]]] = []
    labels: set[str] = set()
    in_flight = 0
    for number in range(kills):
        arguments = ("run", str(file)) if number == 0 else ("resume", str(database))
        process = start(tmp_path, *arguments)
        # The first new event is that it was taken up; a second comes from a worker, which first has to start.
        alive = wait_for_events(process, database, events(database) + (1 if number in EARLY else 3))
        moment = chance.uniform(0.0, 1.2)
        time.sleep(moment)
        assert alive, (tmp_path / "output.txt").read_text()
        assert process.poll() is None, (tmp_path / "output.txt").read_text()
        if number in ALONE:
            in_flight += sum(map(is_label_worker, marked(tmp_path)))
            process.kill()
            process.wait(timeout=20)
        else:
            in_flight += kill_tree(process)
        wait_until_nothing_is_left(tmp_path)
        now = {row[0] for row in rows(database, "SELECT structure_id FROM labels")}
        assert labels <= now, f"kill {number + 1}, {moment:.2f} s: committed labels are gone"
        labels = now
        waiting = {found.structure_id for found in sweep_spool(spool)}
        last = rows(database, "SELECT coalesce(max(id), 0) FROM executions")[0][0]
        paid.append((last, labels | waiting))
    assert in_flight > 0 or not thorough, "no kill hit a label; raise the delay"
    process = start(tmp_path, "resume", str(database))
    assert process.wait(timeout=120) == 0, (tmp_path / "output.txt").read_text()
    wait_until_nothing_is_left(tmp_path)
    assert labels <= {row[0] for row in rows(database, "SELECT structure_id FROM labels")}
    for last, known in paid:
        again = {structure for run, structure in rows(database, LABEL_RUNS) if run > last} & known
        assert not again, "a label that was paid for was computed again"
    lost = rows(database, "SELECT count(*), count(DISTINCT epoch) FROM executions WHERE status = 'lost'")[0]
    assert lost[0] <= kills * SLOTS
    check_promises(database)


def test_a_campaign_whose_orchestrator_was_killed_cannot_be_stopped_but_taken_up(tmp_path: Path) -> None:
    database = address(tmp_path / "toy.db")
    process = start(tmp_path, "run", str(toy_file(tmp_path, label_budget=6, delay_s=0.3)))
    assert wait_for_events(process, database, 3)
    kill_tree(process)
    stop = start(tmp_path, "stop", database)
    assert stop.wait(timeout=30) == 2
    assert "is no more; nothing to stop" in (tmp_path / "output.txt").read_text()
    assert start(tmp_path, "resume", database).wait(timeout=60) == 0
    check_promises(database)


@dataclass
class Assassin:
    """An observer that kills one process of the campaign for each of its orders, as soon as it can.

    Attributes:
        orders: What to kill: the ``label`` process, a worker ``labelling``, a worker ``exploring``.
        spool: Where finished labels wait.
        victims: What was killed, and during which tasks.
    """

    orders: list[str]
    spool: Path
    victims: list[tuple[str, set[str]]] = field(default_factory=list)
    pause_until: float = 0.0

    def seen(self, state: State, event: Event | None) -> None:
        """Kill at most one process every few seconds, so that each loss is told apart."""
        if not self.orders or time.monotonic() < self.pause_until:
            return
        order = self.orders[0]
        running = {name for name, task in state.running.items() if task.kind == ORDERS[order]}
        alone = {task.kind for task in state.running.values()} == {"explore"} and state.horizon >= 4000
        if not running or (order == "exploring" and not alone):
            return
        if not (self._kill_label() if order == "label" else self._kill_worker(ORDERS[order])):
            return
        self.victims.append((order, running))
        self.orders.pop(0)
        self.pause_until = time.monotonic() + 3.0

    def _kill_label(self) -> bool:
        """Kill a label in its first attempt that has not finished: it is halted, then looked at."""
        processes = psutil.Process().children(recursive=True)
        victim = next((p for p in processes if is_label_worker(p) and is_first_attempt(p)), None)
        return victim is not None and kill_if(victim, lambda: not any(self.spool.iterdir()))

    def _kill_worker(self, kind: str) -> bool:
        """Kill a worker that works on a task of a kind, and still does once it is halted and all messages are read."""
        client = Client.current()
        at_work = {key: address for address, keys in client.processing().items() for key in keys}
        # Of labels a first attempt, and so not the one that was killed by itself before.
        task = next((key for key in at_work if key.startswith(kind) and (kind != "label" or "-a1-l0" in key)), None)
        if task is None:
            return False
        address = at_work[task]
        (pid,) = client.run(os.getpid, workers=[address]).values()
        return kill_if(psutil.Process(pid), lambda: task in client.processing().get(address, ()))


def kill_if(victim: psutil.Process, still: Callable[[], bool]) -> bool:
    """Halt a process, wait for what it said last to be heard, and kill it if something still holds."""
    try:
        victim.suspend()
        time.sleep(0.2)
        if still():
            victim.kill()
            return True
        victim.resume()
    except psutil.NoSuchProcess:
        pass
    return False


ORDERS = {"label": "label", "labelling": "label", "exploring": "explore"}


def test_losing_single_processes_costs_no_attempt_and_no_label(tmp_path: Path) -> None:
    config = toy(
        tmp_path,
        delay_s=0.7,
        executor="dask",
        cores=SLOTS,
        walkers=8,
        threshold_ev_ang=3.0,  # hardly ever: segments become long enough to be hit
        segment_steps=20_000,
        initial_labels=8,
        label_budget=16,
        quiet_ps=40,
    )
    assassin = Assassin(["label", "labelling", "exploring"], tmp_path / "toy.alflow" / "spool")
    ended = run_campaign(config, observers=[assassin])
    assert ended.state.phase == "finished"
    assert assassin.orders == [], f"could not kill: {assassin.orders}"
    check_promises(config.database)

    crashed = rows(config.database, "SELECT subject, attempt, message FROM executions WHERE failure_kind = 'CRASH'")
    assert len(crashed) == 1
    assert crashed[0][1] == 1
    assert "SIGKILL" in crashed[0][2]
    assert rows(config.database, f"SELECT state, attempts, n_lost FROM label_jobs WHERE id = '{crashed[0][0]}'") == [
        ("done", 2, 0)
    ]

    lost = rows(
        config.database, "SELECT kind, subject, status, message FROM executions WHERE failure_kind = 'WORKER_LOST'"
    )
    assert {(kind, status) for kind, _, status, _ in lost} == {("label", "lost"), ("explore", "lost")}
    # A task handed over in the instant of the death is cancelled rather than seen dying; both are losses, not failures.
    assert any("died" in message for *_, message in lost)
    assert all("died" in message or "Error" in message for *_, message in lost), lost
    frame = next(subject for kind, subject, *_ in lost if kind == "label")
    assert rows(config.database, f"SELECT state, attempts, n_lost FROM label_jobs WHERE id = '{frame}'") == [
        ("done", 1, 1)
    ]
    assert rows(config.database, "SELECT count(*) FROM events WHERE kind = 'task_lost'") == [(len(lost),)]
