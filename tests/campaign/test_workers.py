"""Workers of this machine: each pool with its own, brought back whatever becomes of them."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alflow import Structure
from alflow.campaign.breaker import HostBreaker
from alflow.campaign.executors import Completion
from alflow.campaign.executors.dask import DaskExecutor, LocalWorkers
from alflow.campaign.pools import Pool
from alflow.campaign.tasks import LabelTask
from alflow.domain import Evaluation
from alflow.reference import LabelRequest, LabelResult, LennardJones, MorseMolecule
from tests.faults.references import Telling

from .references import WATER

POOLS = (Pool("label", 1, 2, environment={"ALFLOW_TEST_POOL": "labels"}), Pool("explore+train", 1, 1, memory_gib=4.0))


@pytest.fixture(scope="module")
def workers() -> Iterator[LocalWorkers]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "3")  # what we were given is not what they get
        patch.setenv("PGPASSWORD", "secret")
        before = dict(os.environ)
        made = LocalWorkers(POOLS, "127.0.0.1:0", heal_after_s=0.3)
        assert {n: v for n, v in os.environ.items() if before.get(n) != v and not n.startswith("__DASK")} == {}
        yield made
        made.close()


def dimer_task(folder: Path, name: str) -> LabelTask:
    dimer = Structure.of("ArAr", [[0, 0, 0], [3.5, 0, 0]])
    return LabelTask(name, LabelRequest(LennardJones(), dimer, name, folder / "spool"))


def wait_for(what: Callable[[], bool], at_most_s: float = 60.0) -> None:
    ends = time.monotonic() + at_most_s
    while not what():
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(0.05)


def result(executor: DaskExecutor) -> Completion:
    found: list[Completion] = []

    def came() -> bool:
        found.extend(executor.wait(0.2))
        return bool(found)

    wait_for(came)
    return found[0]


def test_each_pool_has_its_name_its_threads_and_its_environment(workers: LocalWorkers) -> None:
    assert workers.pools == {"label": 1, "explore+train": 1}
    assert sorted(seat.name for seat in workers.seats) == ["explore+train-0", "label-0"]
    address = {seat.name: seat.address for seat in workers.seats}
    told = workers._client.run(lambda: {k: os.environ.get(k, "") for k in ("OMP_NUM_THREADS", "ALFLOW_TEST_POOL")})
    assert told[address["label-0"]] == {"OMP_NUM_THREADS": "2", "ALFLOW_TEST_POOL": "labels"}
    assert told[address["explore+train-0"]] == {"OMP_NUM_THREADS": "1", "ALFLOW_TEST_POOL": ""}
    known = workers._cluster.scheduler.workers
    assert dict(known[address["label-0"]].resources) == {"label": 1.0}
    assert dict(known[address["explore+train-0"]].resources) == {"explore": 1.0, "train": 1.0}
    assert known[address["explore+train-0"]].memory_limit == 4 * 1024**3


def test_workers_know_nothing_that_opens_the_database(workers: LocalWorkers) -> None:
    """Also one that was started again; whoever started them goes on knowing it."""
    told = workers._client.run(lambda: [name for name in os.environ if name.startswith("PG")])
    assert list(told.values()) == [[], []]
    (seat,) = [seat for seat in workers.seats if seat.name == "label-0"]
    workers._client.sync(workers._cluster.workers["label-0"].kill)
    wait_for(lambda: any(s.name == "label-0" and s.address != seat.address for s in workers.seats))
    told = workers._client.run(lambda: [name for name in os.environ if name.startswith("PG")])
    assert list(told.values()) == [[], []]
    assert os.environ["PGPASSWORD"] == "secret"


def test_a_label_goes_to_the_worker_of_labels_and_waits_for_it(workers: LocalWorkers, tmp_path: Path) -> None:
    executor = DaskExecutor(workers)
    for number in range(2):
        executor.submit(dimer_task(tmp_path, f"label-{number}"))
    assert [sent.seat.name for sent, _ in executor._sent.values()] == ["label-0"], "the other worker takes no labels"
    assert {result(executor).task, result(executor).task} == {"label-0", "label-1"}
    loaded = workers._client.run(lambda: "torch" in sys.modules)
    assert {seat.name: loaded[seat.address] for seat in workers.seats} == {"label-0": False, "explore+train-0": True}


def test_the_environment_of_a_pool_reaches_the_process_of_a_label(workers: LocalWorkers, tmp_path: Path) -> None:
    """The label is not computed by the worker but by a process under it."""
    executor = DaskExecutor(workers)
    told = ("ALFLOW_TEST_POOL", "OMP_NUM_THREADS")
    reference = Telling(MorseMolecule.around(WATER), told)
    executor.submit(
        LabelTask("label-told", LabelRequest(reference, WATER, "label-told", tmp_path / "spool", threads=2))
    )
    answer = result(executor).answer
    assert answer is not None
    assert isinstance(answer.value, LabelResult)
    assert isinstance(answer.value.outcome, Evaluation), answer.value.outcome
    diagnostics = answer.value.outcome.diagnostics
    assert {name: diagnostics[name] for name in told} == {"ALFLOW_TEST_POOL": "labels", "OMP_NUM_THREADS": "2"}


def remedies_put_off(workers: LocalWorkers, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds after which Dask is going to close for good what it has lost; grows with each worker that it loses."""
    loop = workers._cluster.loop.asyncio_loop
    call_later, delays = loop.call_later, list[float]()

    def recorded(delay: float, callback: Callable[..., object], *given: Any, **more: Any) -> Any:
        if "_update_worker_status" in getattr(callback, "__qualname__", ""):
            delays.append(delay)
        return call_later(delay, callback, *given, **more)

    monkeypatch.setattr(loop, "call_later", recorded)
    return delays


def test_a_worker_whose_nanny_is_gone_comes_back_with_a_warning(
    workers: LocalWorkers, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask's own remedy closes a nanny for good when two deaths come at the wrong moments; so does this.

    That remedy is put off beyond any campaign: 15 s after a death, as Dask has it, is the wrong moment now and then.
    """
    monkeypatch.setattr(logging.getLogger("alflow"), "propagate", True)
    remedies = remedies_put_off(workers, monkeypatch)
    workers._client.sync(workers._cluster.workers["label-0"].close)
    assert [seat.name for seat in workers.seats] == ["explore+train-0"]
    executor = DaskExecutor(workers)
    executor.submit(dimer_task(tmp_path, "label-again"))
    assert result(executor).answer is not None
    assert "label-0 was gone for good and is started again" in caplog.text
    assert remedies, "Dask no longer looks after lost workers in this way: see what it does now"
    assert min(remedies) >= 3600.0


def test_a_scheduler_that_is_gone_is_started_again_and_the_campaign_can_go_on(
    workers: LocalWorkers, tmp_path: Path
) -> None:
    executor = DaskExecutor(workers)
    task = dimer_task(tmp_path, "label-lost")
    executor._waiting.append(task)
    slow = LabelTask("label-slow", LabelRequest(LennardJones(delay_s=30), task.request.structure, "slow", tmp_path))
    executor._waiting.appendleft(slow)
    executor._hand_out()
    workers._client.sync(workers._cluster.scheduler.close)
    first = result(executor)
    assert first.task == "label-slow"
    assert first.lost is not None
    assert result(executor).answer is not None


def test_a_machine_that_crashes_labels_is_drained_only_if_another_makes_them() -> None:
    present = {"a", "b"}
    alone = HostBreaker()
    assert not any(alone.record("a", True, present) for _ in range(10))
    assert alone.record("b", False, present) == {"a"}, "now it is known to be the machine"
    assert alone.drained == {"a"}
    alone.record("a", False, present)  # one that was still under way there
    assert not any(alone.record("b", True, present) for _ in range(10)), "the last one is never drained"
    recovers = HostBreaker()
    history = [("a", True), ("b", False), ("a", True), ("a", False), ("a", True), ("b", False), ("a", True)]
    assert not any(recovers.record(host, crashed, present) for host, crashed in history), "never three in a row"
    slow = HostBreaker()
    slow.record("b", False, present)
    assert [slow.record("a", True, present) for _ in range(3)][-1] == {"a"}, (
        "the other takes an hour for its next label"
    )
    gone = HostBreaker()
    gone.record("b", False, present)
    assert not any(gone.record("a", True, {"a"}) for _ in range(10)), "the other's job has ended since"
    both = HostBreaker()
    assert not any(both.record(host, True, present) for host in "abababab"), (
        "nothing succeeds anywhere: not the machine"
    )
