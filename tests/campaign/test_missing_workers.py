"""Workers of some kind that are gone while others stay; and what their machines are told of labels that arrived."""

from __future__ import annotations

import logging
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from alflow.campaign.elsewhere import Delivery
from alflow.campaign.executors import Completion
from alflow.campaign.executors.dask import ClusterWorkers, DaskExecutor, cluster
from alflow.campaign.executors.dask.seats import Seat
from alflow.campaign.pool_config import ExternalCluster
from alflow.campaign.tasks import Answer, LabelTask
from alflow.campaign.work import run_task
from alflow.errors import CampaignError
from alflow.reference import LabelRequest, LabelResult, MorseMolecule

from .references import WATER
from .test_cluster import cluster as running_cluster
from .test_cluster import rattled, wait_for

WAIT_S = 2.0


def label(folder: Path, delay_s: float = 0.0) -> LabelTask:
    reference = replace(MorseMolecule.around(WATER), delay_s=delay_s)
    return LabelTask("label-a", LabelRequest(reference, rattled(1), "label-a", folder / "toy.alflow" / "spool"))


@pytest.mark.slow
def test_a_campaign_that_no_worker_takes_labels_for_says_so_and_pauses_once_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker of another kind is there all the time; it looks as if the campaign went on."""
    monkeypatch.setattr(cluster, "TELL_EVERY_S", 0.5)
    caplog.set_level(logging.INFO, "alflow")
    with running_cluster(tmp_path / "cluster", "label=1", "explore=1 train=1") as made:
        where = ExternalCluster.model_validate({"address": made.address, "wait_s": 60})
        workers = ClusterWorkers(where, lambda kind: 1, tmp_path / "toy.alflow")
        executor = DaskExecutor(workers)
        ended: list[Completion] = []
        try:
            workers._config = where.model_copy(update={"wait_s": WAIT_S})
            executor._breaker.drained.add(socket.gethostname())
            with pytest.raises(CampaignError, match="has taken label for 2 s, and nothing else is left to do"):
                wait_for(lambda: False, lambda: executor.wait(0.1), at_most_s=20)
            executor._breaker.drained.clear()
            executor.submit(label(tmp_path, delay_s=3 * WAIT_S))
            wait_for(lambda: bool(executor._sent), lambda: executor.wait(0.1))
            began, other = time.monotonic(), made.processes[2]
            other.kill()
            wait_for(lambda: bool(ended), lambda: ended.extend(executor.wait(0.1)))
            assert ended[0].answer is not None, "what runs may end"
            assert time.monotonic() - began > 2 * WAIT_S
            caplog.clear()
            with pytest.raises(CampaignError, match="has taken explore, train for 2 s"):
                wait_for(lambda: False, lambda: executor.wait(0.1), at_most_s=20)
            assert "none takes explore, train now" in caplog.text
            caplog.clear()
            workers._told = 0.0
            workers._known.clear()  # a worker that still runs what an earlier orchestrator has started
            workers.miss(["label"], idle=True)
            assert "none takes label now" in caplog.text
            assert workers._lacking_since is None, "it may be fit"
            workers._live = {address: {**told, "status": "paused"} for address, told in workers._live.items()}
            workers.miss(["label"], idle=True)
            assert workers._lacking_since is not None
        finally:
            executor.close()


class Unconnected(ClusterWorkers):
    """Waits for nobody."""

    def _begin(self) -> None:
        pass


def test_a_machine_keeps_a_label_until_it_is_in_the_spool_of_the_campaign(tmp_path: Path) -> None:
    """The disk of the orchestrator may be full in that very instant."""
    where = ExternalCluster.model_validate({"address": "tcp://127.0.0.1:1"})
    workers = Unconnected(where, lambda kind: 1, tmp_path / "toy.alflow")
    try:
        task, seat = label(tmp_path), Seat("tcp://10.0.0.7:1", "w", "node7", "label")
        answer = run_task(replace(task, request=replace(task.request, spool=tmp_path / "elsewhere")), 1)
        assert isinstance(answer, Answer)
        assert isinstance(answer.value, LabelResult)
        delivery = Delivery(answer, spool_file=answer.value.spool_file)
        task.request.spool.write_text("no folder can be made here")
        with pytest.raises(OSError, match="spool"):
            workers.unpack(task, seat, delivery)
        assert workers._arrived == {}
        task.request.spool.unlink()
        workers.unpack(task, seat, delivery)
        assert workers._arrived == {"node7": [answer.value.spool_file]}
    finally:
        workers.close()
