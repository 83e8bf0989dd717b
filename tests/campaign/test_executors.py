"""One campaign, two executors: both keep the promises, and Dask stays on this machine and within its threads."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from alflow import Structure
from alflow.campaign.events import Event
from alflow.campaign.executors import Completion
from alflow.campaign.executors.dask import label_executor
from alflow.campaign.launch import run_campaign
from alflow.campaign.state import State
from alflow.campaign.tasks import LabelTask
from alflow.reference import LabelRequest, LennardJones, MorseMolecule
from tests.faults.processes import is_dask_worker
from tests.faults.references import Telling

from .toys import WATER_ANG, check_promises, rows, toy

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
REFERENCE = Telling(MorseMolecule.around(Structure.of("OHH", WATER_ANG)))


@dataclass
class Inspector:
    """An observer that notes where the campaign's processes listen and what its workers were told."""

    addresses: set[str] = field(default_factory=set)
    workers: dict[int, dict[str, str]] = field(default_factory=dict)

    def seen(self, state: State, event: Event | None) -> None:
        if event is None:
            return
        own = psutil.Process()
        for process in [own, *own.children(recursive=True)]:
            try:
                listening = [c for c in process.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN]
                if is_dask_worker(process):
                    self.workers[process.pid] = process.environ()
            except psutil.Error:
                continue
            self.addresses |= {connection.laddr.ip for connection in listening}


def test_a_campaign_with_pools_gives_each_kind_its_own_threads(tmp_path: Path) -> None:
    separate = {"label": {"workers": 1, "threads": 2}, "oversubscribe": True}
    config = toy(tmp_path, executor="dask", pools=separate)
    assert run_campaign(config, reference=REFERENCE).state.phase == "finished"
    check_promises(config.database)
    told = [json.loads(row[0]) for row in rows(config.database, "SELECT diagnostics_json FROM labels")]
    assert all(set(names.values()) == {"2"} for names in told)
    threads = {("label", 2), ("explore", 1), ("train", 1), ("score", 1)}
    assert set(rows(config.database, "SELECT kind, threads FROM executions")) == threads
    where = rows(config.database, "SELECT kind, count(DISTINCT worker) FROM executions GROUP BY kind")
    assert dict(where) == {"label": 1, "explore": 1, "train": 1, "score": 1}
    assert len(rows(config.database, "SELECT DISTINCT worker FROM executions")) == 3


@pytest.mark.parametrize("executor", ["inline", "dask"])
def test_a_campaign_keeps_its_promises_on_either_executor(
    tmp_path: Path, database: str, executor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in THREADS:
        monkeypatch.setenv(name, "3")  # what we were given is not what others get
    config = toy(tmp_path, executor=executor, cores=2, database=database)
    inspector = Inspector()
    ended = run_campaign(config, reference=REFERENCE, observers=[inspector])
    assert (ended.state.phase, ended.state.reason) == ("finished", "label budget spent")
    check_promises(config.database)
    assert rows(config.database, "SELECT count(*) FROM labels") == [(config.label_budget,)]
    assert ended.committee is not None
    assert ended.committee.exists()
    diagnostics = [json.loads(row[0]) for row in rows(config.database, "SELECT diagnostics_json FROM labels")]
    assert all(set(told.values()) == {"1"} for told in diagnostics), "a label was given more threads than one"
    if executor == "dask":
        assert inspector.addresses == {"127.0.0.1"}
        assert len(inspector.workers) >= 2
        for environment in inspector.workers.values():
            assert environment["OMP_NUM_THREADS"] == "1"
            assert environment["MALLOC_TOP_PAD_"] == "268435456"
    else:
        assert inspector.workers == {}


def test_labels_are_given_the_threads_that_were_asked_for(tmp_path: Path) -> None:
    config = toy(tmp_path, limits={"threads": 2}, label_budget=6, initial_labels=5, audit_fraction=0.0)
    run_campaign(config, reference=REFERENCE)
    told = [json.loads(row[0]) for row in rows(config.database, "SELECT diagnostics_json FROM labels")]
    assert [set(names.values()) for names in told] == [{"2"}] * 6
    assert set(rows(config.database, "SELECT threads FROM executions WHERE kind = 'label'")) == {(2,)}


def test_nothing_is_left_when_a_dask_executor_is_closed() -> None:
    executor = label_executor(slots=2, dashboard_address="127.0.0.1:0")
    workers = [p for p in psutil.Process().children(recursive=True) if is_dask_worker(p)]
    assert len(workers) >= 2
    executor.close()
    assert psutil.wait_procs(workers, timeout=30)[1] == []


def test_a_worker_that_dies_with_a_result_nobody_has_fetched_takes_no_other_task_with_it(tmp_path: Path) -> None:
    dimers = [Structure.of("ArAr", [[0, 0, 0], [3.5 + 0.1 * k, 0, 0]]) for k in range(2)]
    first, second = (
        LabelTask(name, LabelRequest(LennardJones(), structure, name, tmp_path / "spool"))
        for name, structure in zip(("label-a", "label-b"), dimers, strict=True)
    )
    executor = label_executor(slots=1, dashboard_address="127.0.0.1:0")
    try:
        executor.submit(first)
        executor.submit(second)
        ends = time.monotonic() + 30
        while executor._done.empty() and time.monotonic() < ends:
            time.sleep(0.01)
        (worker,) = [p for p in psutil.Process().children(recursive=True) if is_dask_worker(p) and p.num_threads() > 3]
        worker.kill()  # nobody has heard of it yet: the result of the first is in its memory
        found: dict[str, Completion] = {}
        while len(found) < 2 and time.monotonic() < ends + 30:
            found |= {completion.task: completion for completion in executor.wait(0.5)}
    finally:
        executor.close()
    assert found["label-a"].lost is not None
    assert found["label-b"].answer is not None, found["label-b"]
