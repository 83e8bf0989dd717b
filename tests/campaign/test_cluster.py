"""A Dask cluster that somebody else has started, with nothing in common but the network."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client

from alflow.campaign import elsewhere, launch
from alflow.campaign.breaker import CRASH_LIMIT
from alflow.campaign.config import CampaignConfig
from alflow.campaign.elsewhere import Delivery, Luggage, Wanted, deliver, mark, pack, run_elsewhere
from alflow.campaign.events import Event
from alflow.campaign.executors import Completion
from alflow.campaign.executors.dask import ClusterWorkers, DaskExecutor, census
from alflow.campaign.executors.dask import cluster as cluster_module
from alflow.campaign.launch import run_campaign
from alflow.campaign.pool_config import ExternalCluster
from alflow.campaign.results import failure_of
from alflow.campaign.state import State
from alflow.campaign.tasks import LabelTask, ScoreTask, WeightFile
from alflow.domain import Evaluation, Reference, Structure
from alflow.domain.identity import digest_of_bytes
from alflow.errors import CampaignError, ConfigError
from alflow.exploration import rattle
from alflow.reference import LabelRequest, LabelResult, LennardJones, MorseMolecule
from tests.faults.references import BadMachine

from .references import WATER
from .test_page import fetched, until
from .toys import broken_promises, check_promises, rows, toy, toy_file

ROOT = Path(__file__).parents[2]
LOCAL_HTTP = ("--dashboard-address", "127.0.0.1:0")
"""Even without a dashboard there is a server, by default on every interface."""
DIMER = Structure.of("ArAr", [[0, 0, 0], [3.5, 0, 0]])


def rattled(number: int) -> Structure:
    return rattle(WATER, 1, seed=number, temperature=300.0)[0]


@dataclass
class Cluster:
    """A scheduler and workers as processes of their own, each worker with folders of its own."""

    folder: Path
    hidden: Path | None = None
    security: dict[str, str] | None = None
    paths: str = str(ROOT)
    port: int = 0
    dashboard: bool = False
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    scheduler: subprocess.Popen[bytes] | None = None

    @property
    def scheduler_file(self) -> Path:
        return self.folder / "scheduler.json"

    def start(self, *resources: str) -> None:
        self.scheduler_file.unlink(missing_ok=True)
        self.folder.mkdir(exist_ok=True)
        shown = LOCAL_HTTP if self.dashboard else ("--no-dashboard", *LOCAL_HTTP)
        scheduler = ("scheduler", "--host", "127.0.0.1", "--port", str(self.port), *shown, "--no-jupyter")
        self.scheduler = self.run(*scheduler, "--scheduler-file", str(self.scheduler_file))
        ends = time.monotonic() + 60
        while not self.scheduler_file.exists() or not self.scheduler_file.read_text():
            assert time.monotonic() < ends, (self.folder / "output.txt").read_text()
            time.sleep(0.05)
        self.port = int(json.loads(self.scheduler_file.read_text())["address"].rpartition(":")[2])
        for number, resource in enumerate(resources):
            self.add(f"w{number}", resource)

    @property
    def address(self) -> str:
        return f"{'tls' if self.security else 'tcp'}://127.0.0.1:{self.port}"

    def add(
        self, name: str, resource: str = "", host: str = "", preload: str = "", nanny: bool = False
    ) -> subprocess.Popen[bytes]:
        home = self.folder / name
        home.mkdir(exist_ok=True)
        given = ("--resources", resource) if resource else ()
        given += ("--preload", preload) if preload else ()
        alone = () if nanny else ("--no-nanny",)
        worker = ("worker", self.address, "--nthreads", "1", *alone, "--no-dashboard", *LOCAL_HTTP)
        where = ("--name", name, "--host", "127.0.0.1", "--local-directory", str(home))
        seen = []
        if self.hidden is not None:
            seen.append(f'mount -t tmpfs none "{self.hidden}"')
        if host:
            seen.append(f"hostname {host}")
        return self.run(*worker, *where, *given, home=home, seen=seen)

    def run(
        self, kind: str, *arguments: str, home: Path | None = None, seen: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-W", "ignore", "-m", f"distributed.cli.dask_{kind}", *arguments]
        if self.security:
            flags = {"--tls-ca-file": "ca", "--tls-cert": "cert", "--tls-key": "key"}
            command += [word for flag, name in flags.items() for word in (flag, self.security[name])]
        if seen:
            command = ["unshare", "-rmu", "sh", "-c", " && ".join([*seen, 'exec "$@"']), "sh", *command]
        elsewhere = home or self.folder
        paths = os.pathsep.join([self.paths, os.environ.get("PYTHONPATH", "")])
        own = {"TMPDIR": str(elsewhere), "HOME": str(elsewhere), "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
        with (self.folder / "output.txt").open("a") as output:
            process = subprocess.Popen(command, cwd=elsewhere, env=os.environ | own, stdout=output, stderr=output)
        self.processes.append(process)
        return process

    def kill_scheduler(self) -> list[subprocess.Popen[bytes]]:
        """Kill the scheduler alone; returns the workers, which are not told."""
        assert self.scheduler is not None
        self.scheduler.kill()
        self.scheduler.wait(timeout=20)
        return [process for process in self.processes if process is not self.scheduler]

    def kill(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
        for process in self.processes:
            process.wait(timeout=20)
        self.processes.clear()


@contextmanager
def cluster(
    folder: Path, *resources: str, hidden: Path | None = None, security: dict[str, str] | None = None
) -> Iterator[Cluster]:
    made = Cluster(folder, hidden, security)
    try:
        made.start(*resources)
        yield made
    finally:
        made.kill()


def certificates(folder: Path) -> dict[str, str]:
    """A certificate that is its own authority, for one day."""
    paths = {"ca": str(folder / "cert.pem"), "cert": str(folder / "cert.pem"), "key": str(folder / "key.pem")}
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=alflow"]
    subprocess.run([*command, "-keyout", paths["key"], "-out", paths["cert"]], check=True, capture_output=True)
    return paths


def wait_for(what: Callable[[], bool], tend: Callable[[], object], at_most_s: float = 60.0) -> None:
    ends = time.monotonic() + at_most_s
    while not what():
        assert time.monotonic() < ends, "it did not come about"
        tend()


def can_hide(folder: Path) -> bool:
    """Whether a process may be given a view of the machine in which a folder is empty."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def on(made: Cluster, folder: Path, wait_s: float = 60.0, **changes: object) -> CampaignConfig:
    where = {"scheduler_file": str(made.scheduler_file), "wait_s": wait_s}
    return toy(folder, executor="dask", cluster=where, **changes)


@dataclass
class Strike:
    """An observer that kills the scheduler alone once some labels are done and another is being made.

    Attributes:
        made: The cluster; a scheduler and workers are started again at once.
        resources: What these workers say they take.
        database: The campaign's.
        after: Labels that are done before.
        killed_at: When, in seconds of the clock of the day.
        orphans: The workers that lost their scheduler.
        makers: Numbers of the processes under them, among which one makes a label.
        labels: What was committed then.
        revival: Starts everything again.
    """

    made: Cluster
    resources: tuple[str, ...]
    database: Path
    after: int = 3
    killed_at: float = 0.0
    orphans: list[subprocess.Popen[bytes]] = field(default_factory=list)
    makers: set[int] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)
    revival: threading.Thread | None = None

    def seen(self, state: State, event: Event | None) -> None:
        if event is not None or self.killed_at or state.n_done < self.after:
            return
        labels = [task for task, running in state.running.items() if running.kind == "label"]
        makers = [p for worker in self.made.processes for p in psutil.Process(worker.pid).children(recursive=True)]
        at_work: set[int] = set()
        with suppress(psutil.NoSuchProcess):
            at_work = {p.pid for p in makers if any(label in p.cwd() for label in labels)}
        if not at_work:
            return
        self.makers, self.labels = at_work, {row[0] for row in rows(self.database, "SELECT structure_id FROM labels")}
        self.killed_at = time.time()
        self.orphans = self.made.kill_scheduler()
        self.revival = threading.Thread(target=self.made.start, args=self.resources)
        self.revival.start()


@pytest.mark.slow
def test_a_campaign_survives_the_death_of_a_foreign_scheduler_and_shares_no_folder_with_workers(tmp_path: Path) -> None:
    """One campaign for both promises: starting processes that import torch is what takes the time here.

    The workers are not killed: the label that one of them makes goes on to its end, and waits on its machine.
    """
    home = tmp_path / "orchestrator"
    home.mkdir()
    hidden = home if can_hide(home) else None
    resources = ("label=1", "explore=1 train=1")
    with cluster(tmp_path / "cluster", *resources, hidden=hidden) as made, chdir(home):
        strike = Strike(made, resources, home / "toy.db")
        ended = run_campaign(on(made, home, delay_s=1.0, label_budget=9), observers=[strike])
        assert strike.revival is not None, "the scheduler was never killed"
        strike.revival.join()
        for orphan in strike.orphans:
            orphan.wait(timeout=30)  # workers without a scheduler leave by themselves
    assert ended.state.phase == "finished"
    check_promises(home / "toy.db")
    check_what_the_loss_of_the_scheduler_cost(home / "toy.db", strike)
    changes = [json.loads(row[0]) for row in rows(home / "toy.db", "SELECT payload_json FROM events ORDER BY seq")]
    assert changes[0]["pools"] == {"explore+train": 1, "label": 1}
    slots = [c["slots"] for c in changes if c["kind"] == "workers_changed"]
    assert (slots[0], slots[-1]) == (0, 2)
    assert len(slots) <= 3, "one event for each change, not for each look"
    if hidden is not None:
        foreign = tmp_path / "cluster" / "w1" / f"alflow-{os.getuid()}" / "weights"
        assert list(foreign.glob("*.safetensors")), "the committee never travelled"
    assert list(home.joinpath("toy.alflow").glob(".here-*")) == []
    if hidden is None:
        pytest.skip("workers could see the campaign's folder here; all was tried but that they need not share it")


def check_what_the_loss_of_the_scheduler_cost(database: Path, strike: Strike) -> None:
    """Time, and nothing else: what was committed stays, and the label that was being made is not made again."""
    ((noticed,),) = rows(database, "SELECT min(recorded_at) FROM events WHERE kind = 'task_lost'")
    moment = datetime.fromisoformat(str(noticed))  # of text, or of a time of day with its zone
    delay_s = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - strike.killed_at
    print(f"the loss of the scheduler was in the journal after {delay_s:.2f} s")
    assert 0.0 < delay_s < 20.0
    assert strike.labels <= {row[0] for row in rows(database, "SELECT structure_id FROM labels")}
    lost = rows(database, "SELECT failure_kind, kind, subject FROM executions WHERE status = 'lost'")
    assert {row[0] for row in lost} == {"SCHEDULER_LOST"}
    ((frame,),) = [row[2:] for row in lost if row[1] == "label"]
    jobs = "SELECT state, attempts, n_lost FROM label_jobs"
    assert rows(database, f"{jobs} WHERE id = '{frame}'") == [("done", 1, 1)], "no attempt is charged"
    assert rows(database, f"SELECT count(*) FROM ({jobs} WHERE id <> '{frame}' AND n_lost > 0) AS others") == [(0,)]
    runs = rows(database, f"SELECT status, pid FROM executions WHERE subject = '{frame}' ORDER BY id")
    assert [status for status, _ in runs] == ["lost", "done"]
    assert runs[1][1] in strike.makers, "the process that outlived the scheduler made it; nobody computed it again"


IMPATIENT = """
from alflow.campaign.executors.dask.page import SchedulerBoard
from alflow.cli import app
SchedulerBoard.__init__.__defaults__ = (6.0,)
app()
"""
"""The command line, but its page counts as stale after six seconds."""


@pytest.mark.slow
def test_the_page_on_a_foreign_scheduler_outlives_the_orchestrator_and_says_that_it_is_stale(tmp_path: Path) -> None:
    made = Cluster(tmp_path / "cluster", dashboard=True)
    try:
        made.start("")
        told = json.loads(made.scheduler_file.read_text())
        status = f"http://127.0.0.1:{told['services']['dashboard']}/alflow/api/status.json"
        file = toy_file(tmp_path, executor="dask", cluster={"address": made.address, "wait_s": 60}, delay_s=0.1)
        command = [sys.executable, "-c", IMPATIENT, "run", str(file)]
        with (tmp_path / "output.txt").open("w") as output:
            orchestrator = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=output)
        try:
            running = until(lambda: with_labels(seen(status), 3), "three labels", 200)
            assert running["stale_since_unix_s"] is None
            assert running["snapshot"]["campaign"]["phase"] == "running"
            assert [pool["slots"] for pool in running["snapshot"]["pools"]] == [1]
        finally:
            orchestrator.kill()
            orchestrator.wait(timeout=20)
        left = until(lambda: (told := seen(status)) and told["stale_since_unix_s"] and told, "stale", 60)
        assert left["snapshot"]["campaign"]["state"] == "running"
        assert left["snapshot"]["labels"]["done"] >= running["snapshot"]["labels"]["done"]
    finally:
        made.kill()


def with_labels(told: Any, at_least: int) -> Any:
    """What the page says, if so many labels are done."""
    return told if told and told["snapshot"]["labels"]["done"] >= at_least else None


def seen(status: str) -> Any:
    """What the page says, once a snapshot has come."""
    told = fetched(status)
    return told if told and told["snapshot"] else None


def test_a_cluster_without_workers_for_every_kind_is_refused_with_what_to_start(tmp_path: Path) -> None:
    refusal = pytest.raises(ConfigError, match=r"takes label, explore, train.*dask worker")
    with cluster(tmp_path / "cluster") as made, refusal:
        run_campaign(on(made, tmp_path, wait_s=1.0))
    assert rows(tmp_path / "toy.db", "SELECT count(*) FROM events") == [(0,)]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")
def test_workers_join_and_leave_behind_tls_and_a_machine_that_crashes_labels_is_drained(tmp_path: Path) -> None:
    if not can_hide(tmp_path):
        pytest.skip("a worker cannot be given another host name here")
    reference = BadMachine("badnode", MorseMolecule.around(WATER))
    with cluster(tmp_path / "cluster", security=certificates(tmp_path)) as made:
        good = made.add("good")
        config = ExternalCluster.model_validate({"address": made.address, "security": made.security, "wait_s": 60})
        executor = DaskExecutor(ClusterWorkers(config, lambda kind: 1, tmp_path / "toy.alflow"))
        ended: list[Completion] = []

        sent = 0

        def label(reference: Reference) -> None:
            nonlocal sent
            sent += 1
            name = f"label-{sent}"
            executor.submit(
                LabelTask(name, LabelRequest(reference, rattled(sent), name, tmp_path / "toy.alflow/spool"))
            )

        def collect() -> None:
            ended.extend(executor.wait(0.1))

        def keep_busy() -> None:
            if sent - len(ended) < 2:
                label(reference)
            collect()

        try:
            assert executor.pools == {"shared": 1}
            made.add("bad", host="badnode")
            wait_for(lambda: executor.pools == {"shared": 2}, collect)
            wait_for(lambda: bool(executor.drained), keep_busy)
            wait_for(lambda: len(ended) == sent, collect)
            crashed = [c.answer for c in ended if c.answer and (why := failure_of(c.answer)) and why.kind == "CRASH"]
            assert {answer.host for answer in crashed} == {"badnode"}
            assert CRASH_LIMIT <= len(crashed) < sent
            assert (executor.drained, executor.pools) == (("badnode",), {"explore+train": 1, "shared": 1})

            label(replace(reference, inner=replace(reference.inner, delay_s=60.0)))
            wait_for(lambda: bool(executor._sent), collect)
            good.kill()
            wait_for(lambda: len(ended) == sent, collect)
            assert (ended[-1].lost is not None, ended[-1].cause) == (True, "WORKER_LOST")
            assert executor.pools == {"explore+train": 1}
        finally:
            executor.close()


@pytest.mark.slow
def test_workers_that_die_together_are_given_nothing_more_before_anybody_looks_who_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node vanishes with all of its workers; labels that wait are for those that are left."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")  # as a scheduler of our own has it
    with cluster(tmp_path / "cluster", "label=1 explore=1 train=1", "label=1", "label=1") as made:
        where = ExternalCluster.model_validate({"address": made.address, "wait_s": 60})
        workers = ClusterWorkers(where, lambda kind: 1, tmp_path / "toy.alflow")
        executor = DaskExecutor(workers)
        assert workers.client is not None
        ended: list[Completion] = []
        try:
            wait_for(lambda: executor.pools == {"label": 2, "shared": 1}, lambda: executor.wait(0.1))
            monkeypatch.setattr(cluster_module, "LOOK_EVERY_S", 3600.0)
            for number in range(6):
                reference = replace(MorseMolecule.around(WATER), delay_s=60.0 if number < 3 else 0.0)
                request = LabelRequest(reference, rattled(number), f"label-{number}", tmp_path / "toy.alflow/spool")
                executor.submit(LabelTask(f"label-{number}", request))
            wait_for(lambda: sum(map(bool, workers.client.processing().values())) == 3, lambda: executor.wait(0.1))
            for worker in made.processes[2:]:
                worker.kill()
            wait_for(lambda: len(ended) == 2, lambda: ended.extend(executor.wait(0.1)))
            assert [c.cause for c in ended] == ["WORKER_LOST", "WORKER_LOST"]
            assert executor.pools == {"shared": 1}
            for _ in range(10):
                ended.extend(executor.wait(0.1))
            assert len(ended) == 2
            assert len(executor._waiting) == 3, "labels were sent to workers that had died"
        finally:
            executor.close()


@pytest.mark.parametrize("allowed", [None, 0])
def test_a_scheduler_that_repeats_tasks_by_itself_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, allowed: int | None
) -> None:
    """The question must be understood where there is no alflow."""
    if allowed is not None:
        monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", str(allowed))
    package = tmp_path / "broken" / "alflow" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text("raise ImportError('no alflow for you')\n")
    caplog.set_level(logging.INFO, "alflow")
    made = Cluster(tmp_path / "cluster", paths=str(tmp_path / "broken"))
    try:
        made.start()
        with pytest.raises(ConfigError, match="dask worker"):
            run_campaign(on(made, tmp_path, wait_s=1.0))
        assert "does not say whether it repeats" not in caplog.text
        told = [record.getMessage() for record in caplog.records if "ALLOWED_FAILURES" in record.getMessage()]
        assert len(told) == (allowed is None)
        assert all("up to 3 times" in text and "ALLOWED_FAILURES=0 in its environment" in text for text in told)
    finally:
        made.kill()


def test_a_worker_without_our_packages_is_refused_by_name(tmp_path: Path) -> None:
    """The question is sent by value: it must be understood where alflow cannot be imported."""
    for name in ("alflow", "torch"):
        package = tmp_path / "broken" / name / "__init__.py"
        package.parent.mkdir(parents=True)
        package.write_text(f"raise ImportError('no {name} for you')\n")
    made = Cluster(tmp_path / "cluster", paths=str(tmp_path / "broken"))
    try:
        made.start("")
        with pytest.raises(ConfigError, match=r"alflow not importable \(ImportError: no alflow for you\) instead of"):
            run_campaign(on(made, tmp_path))
    finally:
        made.kill()


def test_only_a_worker_that_needs_torch_loads_it(tmp_path: Path) -> None:
    package = tmp_path / "broken" / "torch" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text("raise ImportError('no torch for you')\n")
    made = Cluster(tmp_path / "cluster", paths=f"{tmp_path / 'broken'}:{ROOT}")
    try:
        made.start("label=1", "explore=1 train=1")
        with Client(made.address) as client:
            client.wait_for_workers(2, timeout=60)
            named = {str(worker["name"]): address for address, worker in client.scheduler_info()["workers"].items()}
            told = client.run(census.introduce)
        ours = census.introduce()
        assert census.mismatch(ours, told[named["w0"]]) == ""
        assert "torch not importable (ImportError: no torch for you)" in census.mismatch(ours, told[named["w1"]])
    finally:
        made.kill()


def test_a_machine_without_the_weights_asks_for_them_and_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    file = tmp_path / "orchestrator" / "weights.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    there = WeightFile(file, digest_of_bytes(b"weights"))
    task = ScoreTask("score-t1", there, (), ())
    hidden = ScoreTask("score-t1", WeightFile(tmp_path / "nowhere", there.sha256), (), ())
    wanted = run_elsewhere(hidden, 1, Luggage("m"))
    assert wanted == Wanted(there.sha256)
    luggage = pack(task, wanted, "m")
    assert luggage == Luggage("m", {there.sha256: b"weights"})
    monkeypatch.setattr(elsewhere, "run_task", lambda task, threads: task)
    assert isinstance(run_elsewhere(hidden, 1, luggage), Delivery)
    found = run_elsewhere(hidden, 1, Luggage("m"))
    assert isinstance(found, Delivery), "it is kept for the next task"
    assert found.answer.committee.path.read_bytes() == b"weights"
    file.write_bytes(b"altered")
    assert pack(task, wanted, "m") is None, "what is not whole is not sent"


@pytest.mark.parametrize("shared", [True, False])
def test_a_label_made_elsewhere_waits_in_the_spool_of_the_campaign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spool = tmp_path / "toy.alflow" / "spool"
    task = LabelTask("label-a", LabelRequest(LennardJones(), DIMER, "label-a", spool))
    if shared:
        mark(spool.parent, ".here-1")
    delivery = run_elsewhere(task, 1, Luggage(".here-1"))
    assert isinstance(delivery, Delivery)
    own = tmp_path / f"alflow-{os.getuid()}" / "spool"
    assert (delivery.spool_file is None) == shared
    assert len(list(spool.glob("*"))) == shared
    answer = deliver(task, delivery)
    assert isinstance(answer.value, LabelResult)
    assert isinstance(answer.value.outcome, Evaluation)
    assert [path.name for path in spool.iterdir()] == [answer.value.spool_file]
    if not shared:
        assert len(list(own.iterdir())) == 1, "it stays until it is known to have arrived"
        again = run_elsewhere(task, 1, Luggage(".here-1", arrived=(str(delivery.spool_file),)))
        assert isinstance(again, Delivery)
        assert not again.answer.value.from_spool, "it had arrived, so it was removed and computed anew"


@pytest.mark.parametrize(
    ("cluster_keys", "sentence"),
    [
        ({"address": "tcp://node7:8786"}, "whoever reaches a Dask scheduler runs code as you"),
        ({"address": "tls://node7:8786"}, "needs security:"),
        ({"address": "node7"}, "expected an address such as"),
        ({}, "either address or scheduler_file"),
    ],
)
def test_a_cluster_that_is_not_safe_to_reach_is_refused(
    tmp_path: Path, cluster_keys: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        toy(tmp_path, executor="dask", cluster=cluster_keys)


@pytest.mark.slow
def test_a_scheduler_that_does_not_come_back_pauses_the_campaign_and_says_how_to_go_on(tmp_path: Path) -> None:
    resources = ("",)
    with cluster(tmp_path / "cluster", *resources) as made:
        config = on(made, tmp_path, delay_s=0.5)
        with Client(made.address) as client:  # the two seconds below are for a scheduler that is gone, not for a start
            client.wait_for_workers(1, timeout=60)
        config = config.model_copy(update={"cluster": config.cluster.model_copy(update={"wait_s": 2.0})})

        class Kill(Strike):
            def seen(self, state: State, event: Event | None) -> None:
                if event is None and not self.killed_at and state.n_done >= 1:
                    self.killed_at = time.monotonic()
                    self.made.kill()

        with pytest.raises(CampaignError, match=r"could not be reached for .* resume the campaign"):
            run_campaign(config, observers=[Kill(made, resources, tmp_path / "toy.db")])
    ((state, reason),) = rows(tmp_path / "toy.db", "SELECT state, reason FROM campaigns")
    assert state == "stopped"
    assert "could not be reached" in reason
    assert broken_promises(tmp_path / "toy.db") == {}


@pytest.mark.slow
def test_a_campaign_that_waits_for_its_first_workers_keeps_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten minutes without a beat would look like death to another orchestrator."""
    monkeypatch.setattr(launch, "BEAT_S", 0.3)
    with cluster(tmp_path / "cluster") as made, pytest.raises(ConfigError, match=r"no worker at .* takes label"):
        run_campaign(on(made, tmp_path, wait_s=4.0))
    ((beat,),) = rows(tmp_path / "toy.db", "SELECT beat FROM campaigns")
    assert beat >= 5
