"""Pools that crash and machines that are bad, in whole campaigns: what the database tells of them afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alflow.campaign.breaker import CRASH_LIMIT
from alflow.campaign.executors.dask import DaskExecutor, LocalWorkers
from alflow.campaign.launch import run_campaign
from alflow.campaign.pools import local_pools
from alflow.domain import Structure
from alflow.reference import MorseMolecule
from tests.campaign.test_cluster import can_hide, cluster, on
from tests.campaign.toys import WATER_ANG, check_promises, rows, toy

from .references import BadMachine


class ClosedNannies:
    """Closes the nanny of a worker that makes a label, and later another's: what a crash loop does to Dask."""

    def __init__(self, workers: LocalWorkers) -> None:
        self.workers = workers
        self.closed: list[str] = []

    def seen(self, state: Any, event: Any) -> None:
        if len(self.closed) == 2 or state.n_done < 3 + 4 * len(self.closed):
            return
        at_work = self.workers._client.processing()
        for seat in self.workers.seats:
            if seat.name not in self.closed and any(key.startswith("label") for key in at_work.get(seat.address, ())):
                self.workers._client.sync(self.workers._cluster.workers[seat.name].close)
                self.closed.append(seat.name)
                return


@pytest.mark.slow
def test_a_campaign_whose_nannies_are_gone_ends_and_every_loss_has_its_row(
    tmp_path: Path, postgres_target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server; the campaign after this one is on SQLite, for the sake of time."""
    monkeypatch.chdir(tmp_path)
    config = toy(tmp_path, delay_s=0.4, executor="dask", label_budget=12, database=postgres_target)
    workers = LocalWorkers(local_pools(2, 1), "127.0.0.1:0", heal_after_s=1.0)
    strikes = ClosedNannies(workers)
    ended = run_campaign(config, observers=[strikes], executor=DaskExecutor(workers))
    assert ended.state.phase == "finished"
    assert len(strikes.closed) == 2
    check_promises(config.database)
    lost = rows(config.database, "SELECT failure_kind FROM executions WHERE status = 'lost'")
    assert lost == [("WORKER_LOST",)] * len(lost)
    assert 1 <= len(lost) <= 2, "each death takes its own task along and no other"
    assert rows(config.database, "SELECT count(*) FROM executions WHERE status = 'failed'") == [(0,)]
    told = rows(config.database, "SELECT count(*) FROM events WHERE kind = 'task_lost'")
    assert told == [(len(lost),)]


@pytest.mark.slow
def test_a_campaign_gives_no_more_labels_to_a_machine_that_crashes_them(tmp_path: Path) -> None:
    if not can_hide(tmp_path):
        pytest.skip("a worker cannot be given another host name here")
    reference = BadMachine("badnode", MorseMolecule.around(Structure.of("OHH", WATER_ANG)))
    with cluster(tmp_path / "cluster", "") as made:
        made.add("bad", "label=1", host="badnode")
        ended = run_campaign(on(made, tmp_path), reference=reference)
    database = tmp_path / "toy.db"
    assert ended.state.phase == "finished"
    check_promises(database)
    crashes = rows(database, "SELECT host, failure_kind FROM executions WHERE kind = 'label' AND status = 'failed'")
    assert {kind for _, kind in crashes} <= {"CRASH"}
    here = rows(database, "SELECT count(*) FROM executions WHERE worker LIKE 'badnode:%' AND status = 'done'")
    assert here == [(0,)]
    told = 'payload_json LIKE \'%"drained":["badnode"]%\''
    assert len(crashes) >= CRASH_LIMIT
    ((first,),) = rows(database, f"SELECT min(recorded_at) FROM events WHERE {told}")
    assert first is not None, "the journal tells of it"
    later = rows(database, f"SELECT count(*) FROM executions WHERE status = 'failed' AND started_at > '{first}'")
    assert later == [(0,)], "no label is tried there any more"
