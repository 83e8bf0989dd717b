"""Workers as jobs of SLURM: submitted, followed by others, cancelled; and how a worker leaves before its end."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
import yaml

from alflow.campaign.cluster_console import show_jobs
from alflow.campaign.config import CampaignConfig, comparable, parse_config
from alflow.campaign.executors import Completion
from alflow.campaign.executors.dask import ClusterWorkers, DaskExecutor, drain, slurm
from alflow.campaign.job_scripts import job_scripts
from alflow.campaign.launch import run_campaign
from alflow.campaign.pool_config import ExternalCluster, SecurityConfig
from alflow.campaign.preflight import check_campaign, read_starting_structures
from alflow.campaign.requests import label_request
from alflow.campaign.slurm_config import SlurmCluster
from alflow.campaign.slurm_jobs import ask_slurm
from alflow.campaign.tasks import LabelTask
from alflow.errors import CampaignError, ConfigError
from alflow.reference import LabelRequest, MorseMolecule

from . import queue_of_processes
from .references import WATER
from .test_cluster import cluster, rattled, wait_for
from .toys import check_promises, rows, toy

JOBS = {"label": {"workers": 2}, "explore+train": {"memory_gib": 3}}
FILES = SecurityConfig(ca=Path("/c d/ca"), cert=Path("/c d/cert"), key=Path("/c d/key"))


def on_slurm(folder: Path, jobs: dict[str, Any] | None = None, delay_s: float = 0.0, **keys: Any) -> CampaignConfig:
    slurm = {"host": "127.0.0.1", "look_every_s": 0.5, "jobs": jobs or JOBS} | keys
    return toy(folder, delay_s=delay_s, executor="dask", cluster={"slurm": slurm})


def scripts_of(config: CampaignConfig) -> dict[str, str]:
    return job_scripts(config, Path("/shared/toy.alflow/cluster"), "tls://10.0.0.1:8786", FILES)


def test_each_class_of_jobs_has_a_script_that_bash_understands(tmp_path: Path) -> None:
    jobs = {
        "label": {"workers": 8, "workers_per_job": 4, "time_h": 12, "options": ["--qos=long"], "account": "chem"},
        "explore+train": {"memory_gib": 3, "partition": "gpu", "drain_s": 600},
    }
    setup = ["module load python/3.11", "source env/bin/activate"]
    made = scripts_of(on_slurm(tmp_path, jobs, setup=setup, python="python3"))
    assert list(made) == list(jobs)
    for text in made.values():
        assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
        lines = text.splitlines()
        commands = [line for line in lines if not line.startswith("#")]
        assert commands[0].startswith("ALFLOW_ENDS_AT="), "the clock is looked at before anything else"
        assert commands[1] == "set -e"
        options = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
        assert options[-1] < lines.index(commands[0]), "SLURM reads its options before the first command only"
        assert [line for line in text.splitlines() if line in setup] == setup
        assert "--tls-key '/c d/key'" in text
        assert " --dashboard-address 127.0.0.1:0 " in text, "its HTTP server has no password and no encryption"
    options = {name: [x[8:] for x in text.splitlines() if x.startswith("#SBATCH ")] for name, text in made.items()}
    assert {"--ntasks=4", "--time=720", "--account=chem", "--qos=long", "--no-requeue"} <= set(options["label"])
    assert {"--ntasks=1", "--mem-per-cpu=3072M", "--partition=gpu"} <= set(options["explore+train"])
    assert "exec srun --ntasks=4 --cpus-per-task=1 python3 -m distributed.cli.dask_worker" in made["label"]
    assert "ALFLOW_DRAIN_AT=$(( ALFLOW_ENDS_AT - 1260 ))" in made["label"], "twice 600 s and a minute"
    assert "$(( $(date +%s) + 43200 ))" in made["label"], "12 h"
    assert "--resources 'explore=1 train=1'" in made["explore+train"]
    assert "ALFLOW_DRAIN_AT=$(( ALFLOW_ENDS_AT - 600 ))" in made["explore+train"]


@pytest.mark.parametrize("end_time", [None, "2000000000"])
def test_the_end_of_a_job_is_known_whatever_its_setup_takes(tmp_path: Path, end_time: str | None) -> None:
    """The time of a job begins with its script, not with its worker; the newer SLURM says itself when it is up."""
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/sh\necho "$ALFLOW_DRAIN_AT" "$ALFLOW_ENDS_AT"\n')
    stand_in.chmod(0o755)
    script = scripts_of(on_slurm(tmp_path, setup=["sleep 2"], python=str(stand_in)))["label"]
    given = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    given |= {"SLURM_JOB_END_TIME": end_time} if end_time else {}
    began = time.time()
    done = subprocess.run(["bash"], input=script, env=given, text=True, capture_output=True, check=True)
    drain_at, ends_at = (int(word) for word in done.stdout.split())
    assert drain_at == ends_at - 1260
    if end_time is not None:
        assert ends_at == int(end_time)
    else:
        assert began - 1 <= ends_at - 3600 < began + 1.9


def test_a_worker_is_to_leave_at_a_time_of_day_or_when_a_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = SimpleNamespace(ends_at=float("inf"), interrupted=False)
    monkeypatch.setattr(drain, "this_process", lambda: process)
    monkeypatch.setenv("ALFLOW_DRAIN_AT", str(time.time() + 1.0))
    monkeypatch.setenv("ALFLOW_ENDS_AT", str(time.time() + 60.0))
    by_time = drain._Orders.from_environment()
    assert 59.0 < process.ends_at - time.monotonic() <= 60.0
    assert not by_time.due()
    monkeypatch.delenv("ALFLOW_DRAIN_AT")
    monkeypatch.delenv("ALFLOW_ENDS_AT")
    monkeypatch.setenv("ALFLOW_DRAIN_FILE", str(tmp_path / "drain"))
    by_file = drain._Orders.from_environment()
    assert not by_file.due()
    (tmp_path / "drain").touch()
    assert by_file.due()
    time.sleep(max(0.0, by_time.at - time.monotonic()))
    assert by_time.due()


@pytest.mark.parametrize(
    ("jobs", "sentence"),
    [
        ({"label": {}}, "no workers take explore, train"),
        ({"labels": {}}, "expected names out of label"),
        ({"shared": {"workers": 3, "workers_per_job": 2}}, "must be a multiple of workers_per_job"),
        ({"shared": {"time_h": 0.25}}, "begin nothing in the last 1260 s of a job, and it has only 900 s"),
        ({"shared": {"partition": "a\nrm -rf"}}, "partition"),
        ({"shared": {"options": ["--qos=a\nrm -rf"]}}, "options"),
        ({"shared": {"partitoin": "a"}}, "partition"),
    ],
)
def test_jobs_that_could_not_work_are_refused(tmp_path: Path, jobs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        on_slurm(tmp_path, jobs)


@pytest.mark.parametrize("name", ["label", "label+explore", "shared"])
def test_jobs_in_which_the_last_attempt_at_a_label_does_not_fit_are_refused(tmp_path: Path, name: str) -> None:
    """When they would be submitted; what is in a database stays readable, or nobody could go on with more."""
    limits = {"memory_limit_mb": 2000, "max_attempts": 3}  # 6000 MB are 5.59 GiB
    others = {"label+explore": {"train": {}}, "label": {"explore+train": {"memory_gib": 1}}}.get(name, {})

    def wanting(**keys: float) -> CampaignConfig:
        slurm = {"host": "127.0.0.1", "jobs": {name: keys, **others}}
        return toy(tmp_path, limits=limits, executor="dask", cluster={"slurm": slurm})

    little = wanting(memory_gib=6.5)
    sentence = rf"jobs\.{re.escape(name)}: memory_gib is 6\.5, .* may use 6000 MB .* raise memory_gib to 6\.6, or lower"
    with pytest.raises(ConfigError, match=sentence):
        check_campaign(little, read_starting_structures(little))
    with pytest.raises(ConfigError, match=sentence):
        show_jobs(little, dry_run=True)
    for enough in (wanting(memory_gib=6.6), wanting()):
        check_campaign(enough, read_starting_structures(enough))
        assert show_jobs(enough, dry_run=True)
    assert parse_config(comparable(little)).cluster == little.cluster
    last = label_request(MorseMolecule.around(WATER), WATER, little.reference, "label-a3", 3, tmp_path, None)
    assert last.memory_limit_mb == little.reference.most_memory_mb == 6000


def test_jobs_that_the_documents_show_have_memory_for_their_labels() -> None:
    text = (Path(__file__).parents[2] / "docs/clusters.md").read_text(encoding="utf-8")
    (shown,) = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "slurm:" in block]
    config = CampaignConfig.model_validate({"structures": "x.xyz"} | yaml.safe_load(shown))
    assert isinstance(config.cluster, SlurmCluster)
    assert config.cluster.slurm.jobs["label"].memory_gib is not None
    config.cluster.check_memory(config.reference.most_memory_mb)


def test_the_scripts_are_shown_and_nothing_is_submitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert show_jobs(on_slurm(tmp_path), dry_run=True)
    shown = capsys.readouterr().out
    assert "label.sh, submitted 2 time(s)" in shown
    assert "tls://127.0.0.1:PORT" in shown
    with pytest.raises(ConfigError, match="no program sbatch"):
        show_jobs(on_slurm(tmp_path), dry_run=False)
    with pytest.raises(ConfigError, match="has no jobs"):
        show_jobs(toy(tmp_path), dry_run=True)


def test_jobs_get_nothing_of_the_database_nor_of_the_job_of_the_orchestrator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "secret")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    given = ask_slurm(["env"]).stdout
    assert ("secret" in given, "SLURM_MEM_PER_CPU" in given, "SLURM_CONF" in given) == (False, False, True)


def slurm_answers() -> bool:
    try:
        return subprocess.run(["sinfo"], capture_output=True, check=False, timeout=3).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that run jobs: SLURM's own where it answers."""
    folder = tmp_path / "queue"
    if not slurm_answers():
        monkeypatch.setenv("PATH", f"{queue_of_processes.install(folder)}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return folder


def workers_of(folder: Path) -> list[psutil.Process]:
    key = str(folder / "toy.alflow" / "cluster" / "key.pem")
    found = []
    for process in psutil.process_iter():
        try:
            if key in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")
def test_a_campaign_runs_in_jobs_that_are_followed_by_others_and_cancelled_at_its_end(
    tmp_path: Path, queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All jobs end at once, and their successors take longer than a lost scheduler would be waited for."""
    monkeypatch.setattr(slurm, "LOST_SCHEDULER_S", 2.0)
    killed: list[int] = []

    class Strike:
        def seen(self, state: Any, event: Any) -> None:
            if not killed and state.n_done >= 3:
                killed.extend(worker.pid for worker in workers_of(tmp_path))
                for pid in killed:
                    psutil.Process(pid).terminate()

    ended = run_campaign(on_slurm(tmp_path, delay_s=0.3), observers=[Strike()])
    assert ended.state.phase == "finished"
    assert killed, "no job was ended"
    check_promises(tmp_path / "toy.db")
    logs = sorted((tmp_path / "toy.alflow" / "cluster").glob("label-*.log"))
    assert len(logs) == 4, "two jobs, and two that followed"
    assert not (tmp_path / "toy.alflow" / "cluster" / "jobs.json").exists()
    ends = time.monotonic() + 20
    while left := workers_of(tmp_path):
        assert time.monotonic() < ends, f"jobs were not cancelled: {left}"
        time.sleep(0.2)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")
def test_the_dashboard_is_told_where_it_listens_which_is_not_where_nodes_reach_the_scheduler(
    tmp_path: Path, queue: Path
) -> None:
    workers = slurm.SlurmWorkers(on_slurm(tmp_path, host="127.0.0.2"), tmp_path / "toy.alflow")
    try:
        link = workers.dashboard
        assert link is not None
        assert link.startswith("http://127.0.0.1:")
        with urlopen(link, timeout=20) as page:
            assert page.status == 200
    finally:
        workers.close()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")
def test_a_worker_for_labels_leaves_a_node_that_gets_none_and_its_job_is_followed_elsewhere(
    tmp_path: Path, queue: Path
) -> None:
    """There is no other node here, so the next job waits; a worker that takes something else too stays."""
    if slurm_answers():
        pytest.skip("counts jobs of the stand-in for SLURM")
    jobs = {"label": {}, "label+explore": {}, "explore+train": {}}
    workers = slurm.SlurmWorkers(on_slurm(tmp_path, jobs), tmp_path / "toy.alflow")
    try:
        wait_for(lambda: len(workers.seats) == 3, workers.tend, 150.0)
        seats = {seat.pool: seat for seat in workers.seats}
        assert {(seat.node, seat.job[1:]) for seat in seats.values()} == {(queue_of_processes.NODE, "_0")}
        workers.avoid(socket.gethostname())
        wait_for(lambda: len((queue / "excluded").read_text().splitlines()) == 4, workers.tend, 150.0)
        assert (queue / "excluded").read_text().splitlines()[-1] == f"label {queue_of_processes.NODE}"
        assert {seat.pool: seat for seat in workers.seats} == {name: seats[name] for name in list(jobs)[1:]}
        left = (tmp_path / "toy.alflow" / "cluster").glob("label-1-0.log")
        assert "takes no more tasks: it was asked to leave" in next(left).read_text()
    finally:
        workers.close()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")
def test_jobs_that_cannot_work_end_the_campaign_with_their_log(tmp_path: Path, queue: Path) -> None:
    broken = on_slurm(tmp_path, setup=["echo no such module >&2; exit 1"])
    with pytest.raises(
        CampaignError, match=r"ended 3 times before any of their workers had joined(.|\n)*no such module"
    ):
        run_campaign(broken)
    assert rows(tmp_path / "toy.db", "SELECT state FROM campaigns") == [("stopped",)]


@pytest.mark.slow
def test_a_worker_whose_time_is_nearly_up_finishes_its_label_takes_no_other_and_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster(tmp_path / "cluster", "label=1 explore=1 train=1") as made:
        where = ExternalCluster.model_validate({"address": made.address, "wait_s": 60})
        executor = DaskExecutor(ClusterWorkers(where, lambda kind: 1, tmp_path / "toy.alflow"))
        ended: list[Completion] = []
        try:
            (own,) = made.processes[1:]
            # The first was only there so that the campaign could begin; from now on there is the one that drains.
            monkeypatch.setenv("ALFLOW_DRAIN_FILE", str(tmp_path / "drain"))
            drained = made.add("short", "label=1", preload="alflow.campaign.executors.dask.drain")
            wait_for(lambda: executor.pools == {"label": 1, "shared": 1}, lambda: executor.wait(0.1))
            own.kill()
            wait_for(lambda: executor.pools == {"label": 1}, lambda: executor.wait(0.1))
            for name, delay_s in (("label-a", 8.0), ("label-bb", 0.0)):
                reference = replace(MorseMolecule.around(WATER), delay_s=delay_s)
                request = LabelRequest(reference, rattled(len(name)), name, tmp_path / "toy.alflow" / "spool")
                executor.submit(LabelTask(name, request))
            at_work = executor._workers.client.processing
            wait_for(lambda: any(at_work().values()), lambda: ended.extend(executor.wait(0.1)))
            (tmp_path / "drain").touch()
            wait_for(lambda: executor.pools == {}, lambda: ended.extend(executor.wait(0.1)))
            assert ended == [], "it drains while it still has work"
            wait_for(lambda: bool(ended), lambda: ended.extend(executor.wait(0.1)))
            assert [(c.task, c.lost) for c in ended] == [("label-a", None)]
            assert drained.wait(timeout=30) == 0, "it leaves by itself"
            executor.wait(0.1)
            assert len(ended) == 1, "the second label waits for another worker"
        finally:
            executor.close()
