"""The time of a worker is up while it makes a label: nobody is charged, and another worker goes on."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from alflow.campaign.executors import Completion, InlineExecutor
from alflow.campaign.executors.dask import ClusterWorkers, DaskExecutor
from alflow.campaign.labelling import label_structures
from alflow.campaign.launch import run_campaign
from alflow.campaign.pool_config import ExternalCluster
from alflow.campaign.results import failure_of
from alflow.campaign.tasks import LabelTask
from alflow.domain import Evaluation, FailureKind, Structure
from alflow.reference import LabelRequest, MorseMolecule
from alflow.reference.config import Limits
from alflow.reference.course import checkpoint_path
from alflow.reference.process import worker
from tests.campaign.test_cluster import can_hide, cluster, wait_for
from tests.campaign.toys import WATER_ANG, check_promises, rows, toy
from tests.postgresql import address

from .processes import is_label_worker
from .references import BEGUN, Stepwise

WATER = Structure.of("OHH", WATER_ANG)
STEPWISE = Stepwise(MorseMolecule.around(WATER), steps=3, pause_s=0.05)
DRAIN = "alflow.campaign.executors.dask.drain"


@pytest.fixture
def no_time() -> Iterator[None]:
    """This process, which makes the labels, ends at once."""
    worker().ends_at = time.monotonic()
    yield
    worker().ends_at, worker().interrupted = None, False


class MoreTime:
    """Somebody gives the worker time after some labels were interrupted."""

    interrupted: int = 0

    def seen(self, state: Any, event: Any) -> None:
        self.interrupted += event is not None and event.kind == "task_lost"
        if self.interrupted == 3:
            worker().ends_at = None


@pytest.mark.usefixtures("no_time")
def test_an_interrupted_label_costs_no_attempt_and_goes_on_where_it_was(tmp_path: Path, database: str) -> None:
    config = toy(tmp_path, database=database)
    more = MoreTime()
    ended = run_campaign(config, reference=STEPWISE, observers=[more])
    assert ended.state.phase == "finished"
    check_promises(config.database)
    told = "SELECT status, failure_kind, wall_s > 0 FROM executions WHERE failure_kind IS NOT NULL"
    assert rows(config.database, told) == [("lost", "WALLTIME", True)] * 3
    jobs = rows(config.database, "SELECT attempts, n_lost FROM label_jobs WHERE n_lost > 0")
    assert sum(lost for _, lost in jobs) == 3
    assert {attempts for attempts, _ in jobs} == {1}
    restarted = "SELECT count(*) FROM labels WHERE diagnostics_json LIKE '%\"restarted\":true%'"
    assert rows(config.database, restarted) == [(len(jobs),)]


@pytest.mark.usefixtures("no_time")
def test_what_an_interrupted_label_of_a_file_has_cost_is_known(tmp_path: Path) -> None:
    database, longer = address(tmp_path / "labels.db"), replace(STEPWISE, steps=1000, pause_s=0.0)
    (found,) = label_structures([WATER], longer, Limits(), database, "labels", 1, InlineExecutor)
    assert found.state == "failed"
    assert rows(database, "SELECT state, failure_kind FROM label_jobs") == [("quarantined", "WALLTIME")]
    told = "SELECT DISTINCT status, failure_kind, wall_s > 0, host IS NOT NULL FROM executions"
    assert rows(database, told) == [("lost", "WALLTIME", True, True)]


@pytest.mark.usefixtures("no_time")
def test_a_label_that_never_has_time_is_given_up_without_a_trace_in_the_spool(tmp_path: Path) -> None:
    config = toy(tmp_path, initial_labels=3, label_budget=4)
    ended = run_campaign(config, reference=replace(STEPWISE, steps=1000, pause_s=0.0))
    assert ended.state.phase == "failed"
    assert (
        rows(config.database, "SELECT state, attempts, n_lost, failure_kind FROM label_jobs")
        == [("quarantined", 0, 10, "WALLTIME")] * 3
    )
    assert list((tmp_path / "toy.alflow" / "spool").iterdir()) == []


def test_a_label_that_comes_closer_each_time_may_be_interrupted_as_often_as_it_needs(tmp_path: Path) -> None:
    """Three steps in each of fourteen attempts, in a campaign; in a file of labels the same."""
    long = replace(STEPWISE, steps=40, pause_s=0.0, piece=2)
    config = toy(tmp_path, initial_labels=3, label_budget=4)
    ended = run_campaign(config, reference=long)
    assert ended.state.phase == "finished"
    check_promises(config.database)
    jobs = rows(config.database, "SELECT DISTINCT attempts, n_lost FROM label_jobs WHERE state = 'done'")
    assert jobs == [(1, 13)]
    database = address(tmp_path / "labels.db")
    (found,) = label_structures([WATER], long, Limits(), database, "labels", 1, InlineExecutor)
    assert found.state == "done"
    assert rows(database, "SELECT state, attempts, n_lost FROM label_jobs") == [("done", 1, 13)]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["end", "file", "terminated"])
def test_a_label_goes_on_at_another_worker_which_shares_no_folder_with_the_first(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is known from the start; a hook makes a file; or SIGTERM comes (then only the same folder helps)."""
    campaign = tmp_path / "toy.alflow"
    campaign.mkdir()
    hidden = campaign if how != "terminated" and can_hide(campaign) else None
    with cluster(tmp_path / "cluster", "explore=1 train=1", hidden=hidden) as made:
        monkeypatch.setenv("ALFLOW_DRAIN_FILE", str(tmp_path / "drain"))
        monkeypatch.setenv("ALFLOW_DRAIN_GRACE_S", "1")
        if how == "end":
            monkeypatch.setenv("ALFLOW_ENDS_AT", str(time.time() + 14))
        first = made.add("first", "label=1", preload=DRAIN)
        where = ExternalCluster.model_validate({"address": made.address, "wait_s": 60})
        executor = DaskExecutor(ClusterWorkers(where, lambda kind: 1, campaign))
        ended: list[Completion] = []
        reference = replace(STEPWISE, steps=100_000, pause_s=0.1)
        request = LabelRequest(reference, WATER, "label-a", campaign / "spool", checkpoint_every_s=0.2)
        try:
            executor.submit(LabelTask("label-a", request))
            wait_for(lambda: any(tmp_path.rglob("*.checkpoint")), lambda: ended.extend(executor.wait(0.1)))
            if how == "file":
                (tmp_path / "drain").touch()
            if how == "terminated":
                first.send_signal(signal.SIGTERM)
            wait_for(lambda: bool(ended), lambda: ended.extend(executor.wait(0.1)))
            (told,) = ended
            failure = failure_of(told.answer) if told.answer is not None else None
            kind = failure.kind if failure is not None else told.cause
            assert kind is (FailureKind.WORKER_LOST if how == "terminated" else FailureKind.WALLTIME)
            if how != "end":
                assert first.wait(timeout=30) == 0, "it leaves by itself"
            assert checkpoint_path(campaign / "spool", WATER.id, reference.level.id).exists()
            for name in ("ALFLOW_ENDS_AT", "ALFLOW_DRAIN_FILE"):
                monkeypatch.delenv(name, raising=False)
            made.add("second", "label=1")
            shorter = replace(request, reference=replace(reference, steps=1000, pause_s=0.0), key="label-b")
            executor.submit(LabelTask("label-b", shorter))
            wait_for(lambda: len(ended) == 2, lambda: ended.extend(executor.wait(0.1)))
            assert ended[1].answer is not None
            outcome = ended[1].answer.value.outcome
            assert isinstance(outcome, Evaluation)
            assert outcome.diagnostics["restarted"] is True
            assert outcome.diagnostics["began_at_step"] >= 1
        finally:
            executor.close()


def has_begun(process: psutil.Process) -> bool:
    """Whether this process computes a label that has come to its first step."""
    with suppress(psutil.Error):
        return is_label_worker(process) and Path(process.cwd(), BEGUN).exists()
    return False


@pytest.mark.slow
def test_a_label_in_a_job_that_is_cancelled_leaves_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM sends SIGTERM to every process of the job: nanny, worker, guard and label."""
    campaign = tmp_path / "toy.alflow"
    campaign.mkdir()
    with cluster(tmp_path / "cluster", "explore=1 train=1") as made:
        monkeypatch.setenv("ALFLOW_DRAIN_AT", str(time.time() + 3600))
        job = psutil.Process(made.add("job", "label=1", preload=DRAIN, nanny=True).pid)
        where = ExternalCluster.model_validate({"address": made.address, "wait_s": 60})
        executor = DaskExecutor(ClusterWorkers(where, lambda kind: 1, campaign))
        ended: list[Completion] = []
        reference = replace(STEPWISE, steps=100_000, pause_s=0.1)
        request = LabelRequest(reference, WATER, "label-a", campaign / "spool", checkpoint_every_s=3600.0)
        try:
            executor.submit(LabelTask("label-a", request))
            wait_for(
                lambda: any(map(has_begun, job.children(recursive=True))),
                lambda: ended.extend(executor.wait(0.1)),
            )
            for process in [job, *job.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.terminate()
            wait_for(lambda: bool(ended), lambda: ended.extend(executor.wait(0.1)))
            failure = failure_of(ended[0].answer) if ended[0].answer is not None else None
            kind = failure.kind if failure is not None else ended[0].cause
            assert kind in (FailureKind.WALLTIME, FailureKind.WORKER_LOST), "no attempt is charged"
            assert checkpoint_path(campaign / "spool", WATER.id, reference.level.id).exists()
        finally:
            executor.close()
