"""Jobs in a queue whose programs fail: none is lost, doubled or left behind, and a campaign waits for SLURM."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import pytest

from alflow.campaign import fruitless, slurm_jobs
from alflow.campaign.executors.dask.seats import Seat
from alflow.campaign.executors.dask.slurm import SlurmWorkers
from alflow.campaign.slurm_config import SlurmConfig
from alflow.campaign.slurm_jobs import SlurmJobs
from alflow.errors import CampaignError, ConfigError

from . import queue_of_processes

LOOK_EVERY_S = 0.2
BOTH = {"label": {"workers": 2}, "explore+train": {}}
ALL = list(BOTH)


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A queue of processes, whatever else is installed; all of them are ended."""
    folder = tmp_path / "queue"
    programs = queue_of_processes.install(folder)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(slurm_jobs, "ASK_WITHIN_S", 6.0)
    yield folder
    queue_of_processes.scancel(folder / "jobs", [str(number) for number in range(100)])


def jobs_in(folder: Path, **label: object) -> SlurmJobs:
    folder.mkdir(exist_ok=True)
    wanted = BOTH | {"label": BOTH["label"] | label}
    for name in BOTH:
        (folder / f"{name}.sh").write_text(f"#SBATCH --output={folder}/{name}-%A-%a.log\nsleep 300\n")
    return SlurmJobs(SlurmConfig.model_validate({"jobs": wanted, "look_every_s": LOOK_EVERY_S}), folder, "toy")


def alive(queue: Path) -> Counter[str]:
    """Living array elements by the name of their job, without its mark."""
    listed = [path.read_text().split() for path in (queue / "jobs").iterdir()]
    return Counter(name.rpartition(".")[0] for pid, name in listed if queue_of_processes.lives(int(pid)))


def left(queue: Path, expected: dict[str, int]) -> None:
    """Those that were cancelled take an instant to end."""
    ends = time.monotonic() + 10
    while alive(queue) != expected:
        assert time.monotonic() < ends, alive(queue)
        time.sleep(0.05)


def end_labels(queue: Path) -> None:
    queue_of_processes.scancel(queue / "jobs", ["1"])
    left(queue, {"alflow-toy-explore+train": 1})


WANTED = {"alflow-toy-label": 2, "alflow-toy-explore+train": 1}


def tend(jobs: SlurmJobs, until: Callable[[], bool], at_most_s: float = 60.0) -> None:
    ends = time.monotonic() + at_most_s
    while not until():
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(LOOK_EVERY_S / 2)
        jobs.tend(ALL)


def test_jobs_that_are_refused_once_in_the_middle_of_a_campaign_are_submitted_later(
    tmp_path: Path, queue: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = jobs_in(tmp_path / "c")
    jobs.tend(ALL)
    assert alive(queue) == WANTED
    end_labels(queue)
    queue_of_processes.fail(queue, "refuse", "refuse")
    tend(jobs, lambda: alive(queue) == WANTED)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 2
    assert "Socket timed out" in told[0]
    assert [text.rpartition("in ")[2] for text in told] == ["0 s", "0 s"]
    jobs.cancel()
    left(queue, {})
    assert not (tmp_path / "c" / "jobs.json").exists()


def test_jobs_that_were_never_taken_are_a_mistake_in_the_configuration(tmp_path: Path, queue: Path) -> None:
    queue_of_processes.fail(queue, "", "refuse")
    jobs = jobs_in(tmp_path / "c")
    with pytest.raises(ConfigError, match=r"jobs\.explore\+train: sbatch refused"):
        jobs.tend(ALL)
    jobs.cancel()
    left(queue, {})


def test_jobs_that_are_refused_for_half_a_day_end_the_campaign(
    tmp_path: Path, queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_jobs, "GIVE_UP_S", 1.0)
    jobs = jobs_in(tmp_path / "c")
    jobs.tend(ALL)
    end_labels(queue)
    queue_of_processes.fail(queue, *["refuse"] * 20)
    began = time.monotonic()
    with pytest.raises(CampaignError, match=r"has taken no jobs 'label' for (.|\n)* resume the campaign"):
        tend(jobs, lambda: False)
    assert time.monotonic() - began > 1.0
    left(queue, {"alflow-toy-explore+train": 1})
    jobs.cancel()


@pytest.mark.parametrize("how", ["lose", "hang"])
def test_jobs_of_a_submission_that_did_not_answer_are_found_and_never_doubled(
    tmp_path: Path, queue: Path, how: str
) -> None:
    """The loop is not kept for longer than the lease allows, and SLURM may have taken the jobs all the same."""
    queue_of_processes.fail(queue, how)
    jobs = jobs_in(tmp_path / "c")
    began = time.monotonic()
    jobs.tend(ALL)
    assert time.monotonic() - began < slurm_jobs.ASK_WITHIN_S + 5
    tend(jobs, lambda: alive(queue) == WANTED)
    for _ in range(3):
        time.sleep(LOOK_EVERY_S)
        jobs.tend(ALL)
    assert alive(queue) == WANTED
    jobs.cancel()
    left(queue, {})


def test_a_successor_cancels_jobs_of_which_its_predecessor_never_heard(tmp_path: Path, queue: Path) -> None:
    queue_of_processes.fail(queue, "lose")
    jobs_in(tmp_path / "c").tend(ALL)
    assert alive(queue)["alflow-toy-label"] == 2
    other = jobs_in(tmp_path / "other")
    other.tend(ALL)
    jobs_in(tmp_path / "c").cancel_left_behind()
    left(queue, WANTED)  # another campaign of the same name keeps its jobs
    other.cancel()


def test_jobs_of_a_predecessor_stay_on_record_while_the_queue_does_not_answer(tmp_path: Path, queue: Path) -> None:
    queue_of_processes.fail(queue, "", "deny")
    with pytest.raises(ConfigError):
        jobs_in(tmp_path / "c").tend(ALL)
    assert alive(queue) == WANTED
    queue_of_processes.fail(queue, "refuse", program="squeue")
    jobs_in(tmp_path / "c").cancel_left_behind()
    left(queue, {"alflow-toy-explore+train": 1})  # of which there is no number
    jobs_in(tmp_path / "c").cancel_left_behind()
    left(queue, {})
    assert not (tmp_path / "c" / "jobs.json").exists()


@pytest.mark.parametrize("answers", [True, False])
def test_first_jobs_that_sbatch_called_refused_but_slurm_took_are_cancelled(
    tmp_path: Path, queue: Path, answers: bool
) -> None:
    """If SLURM does not even say what is in its queue, whoever starts next cancels them."""
    queue_of_processes.fail(queue, "deny")
    jobs = jobs_in(tmp_path / "c")
    with pytest.raises(ConfigError, match=r"jobs\.label: sbatch refused"):
        jobs.tend(ALL)
    assert alive(queue) == {"alflow-toy-label": 2}
    if not answers:
        queue_of_processes.fail(queue, "refuse", program="squeue")
    jobs.cancel()
    assert (tmp_path / "c" / "jobs.json").exists() is not answers
    if not answers:
        jobs_in(tmp_path / "c").cancel_left_behind()
    left(queue, {})
    assert not (tmp_path / "c" / "jobs.json").exists()


def test_cancelling_raises_nothing_where_slurm_is_not_installed(
    tmp_path: Path, queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler is ended after it."""
    jobs = jobs_in(tmp_path / "c")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no program sbatch"):
        jobs.tend(ALL)
    jobs.cancel()


def test_an_orchestrator_that_was_taken_over_cancels_its_own_jobs_and_forgets_no_others(
    tmp_path: Path, queue: Path
) -> None:
    first = jobs_in(tmp_path / "c")
    first.tend(ALL)
    second = jobs_in(tmp_path / "c")
    second.cancel_left_behind()
    second.tend(ALL)
    first.cancel()
    left(queue, WANTED)
    (numbers,) = json.loads((tmp_path / "c" / "jobs.json").read_text()).values()
    assert numbers == ["3", "4"]
    jobs_in(tmp_path / "c").cancel_left_behind()
    left(queue, {})


def test_the_record_of_an_older_version_is_read(tmp_path: Path, queue: Path) -> None:
    jobs_in(tmp_path / "c").tend(ALL)
    (tmp_path / "c" / "jobs.json").write_text('["1"]')
    jobs_in(tmp_path / "c").cancel_left_behind()
    left(queue, {"alflow-toy-explore+train": 1})


def excluded(queue: Path) -> list[str]:
    """Class of each submission, with the nodes it was to keep from."""
    return [line.strip() for line in (queue / "excluded").read_text().splitlines()]


@pytest.mark.parametrize("option", ["--exclude=old1,old[3-4]", "-x old1,old[3-4]"])
def test_jobs_for_labels_do_not_begin_on_nodes_that_get_none(tmp_path: Path, queue: Path, option: str) -> None:
    """Nodes that the campaign's file excludes stay excluded, though the command line has precedence."""
    jobs = jobs_in(tmp_path / "c", options=[option])
    jobs.tend(ALL)
    jobs.avoid({"node9", "node10"})
    assert jobs.avoids("label", "node9")
    assert not jobs.avoids("explore+train", "node9")
    queue_of_processes.scancel(queue / "jobs", ["1", "2"])
    left(queue, {})
    tend(jobs, lambda: alive(queue) == WANTED)
    assert excluded(queue) == ["label", "explore+train", "label node10 node9 old1 old[3-4]", "explore+train"]
    jobs.cancel()


def test_jobs_are_submitted_all_the_same_if_slurm_does_not_know_a_node_and_that_is_said_once(
    tmp_path: Path, queue: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = jobs_in(tmp_path / "c")
    jobs.tend(ALL)
    jobs.avoid({"node9"})
    for _ in range(2):
        queue_of_processes.fail(queue, "node", "node")
        queue_of_processes.scancel(queue / "jobs", ["1", "3"])
        left(queue, {"alflow-toy-explore+train": 1})
        tend(jobs, lambda: alive(queue) == WANTED)
    assert not jobs.avoids("label", "node9"), "who is idle there keeps jobs from it"
    assert excluded(queue) == ["label", "explore+train", "label node9", "label", "label"]
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "sbatch refuses --exclude=node9" in told
    assert "Invalid node name" in told
    jobs.cancel()


@pytest.mark.parametrize(
    ("hosts", "excluded", "lacking", "idle", "ends"),
    [
        (("bad",), (), ("label",), True, True),
        (("bad",), ("bad",), ("label",), True, False),  # its job is followed elsewhere
        (("bad", "good"), (), ("label",), True, False),
        (("bad",), (), ("train",), True, False),
        (("bad",), (), ("label",), False, False),
        ((), (), ("label",), True, False),  # in the queue
    ],
)
def test_a_campaign_whose_only_nodes_crash_labels_does_not_wait_for_ever(
    hosts: tuple[str, ...], excluded: tuple[str, ...], lacking: tuple[str, ...], idle: bool, ends: bool
) -> None:
    class Jobs:
        def avoids(self, name: str, node: str) -> bool:
            return node in excluded

    class Here:
        seats = tuple(Seat(f"tcp://{host}:1", host, host, "label") for host in hosts)
        _avoided = frozenset({"bad"})
        _jobs = Jobs()

        def _tell(self, text: str) -> None: ...

    refusal = pytest.raises(CampaignError, match=r"Labels crash on bad, .* resume") if ends else nullcontext()
    with refusal:
        SlurmWorkers.miss(Here(), lacking, idle)  # type: ignore[arg-type]


def test_jobs_that_die_while_others_of_their_class_work_are_submitted_less_and_less_often(
    tmp_path: Path, queue: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node on which they die is free again at once, so each successor begins there."""
    monkeypatch.setattr(fruitless, "FORGIVEN_AFTER_LOOKS", 1000)
    jobs = jobs_in(tmp_path / "c")
    script = tmp_path / "c" / "label.sh"
    jobs.tend(ALL)
    (pid, _) = (queue / "jobs" / "1_1").read_text().split()
    os.killpg(int(pid), signal.SIGKILL)
    works = script.read_text()
    script.write_text(works.replace("sleep 300", "echo no such disk >&2; exit 1"))
    came = {"1_0", "1_1", "2_0"}
    submitted: list[float] = []
    ends = time.monotonic() + 60
    while len(submitted) < 6:
        assert time.monotonic() < ends, submitted
        time.sleep(LOOK_EVERY_S / 4)
        jobs.tend(ALL, came)
        if len(excluded(queue)) - 2 > len(submitted):
            submitted.append(time.monotonic())
    pauses = [later - earlier for earlier, later in pairwise(submitted)]
    assert all(pause > 2**n * LOOK_EVERY_S for n, pause in enumerate(pauses[2:], start=1)), pauses
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) >= 3
    assert all("SLURM jobs 'label' keep ending" in text and "no such disk" in text for text in told)
    script.write_text(works)
    tend(jobs, lambda: alive(queue) == WANTED)
    jobs.cancel()


def test_jobs_whose_workers_came_may_end_as_often_as_they_like(
    tmp_path: Path, queue: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = jobs_in(tmp_path / "c")
    jobs.tend(ALL)
    for _ in range(5):
        there = {path.name for path in (queue / "jobs").iterdir()}
        jobs.tend(ALL, there)
        queue_of_processes.scancel(queue / "jobs", [job.partition("_")[0] for job in there if job[0] != "2"])
        left(queue, {"alflow-toy-explore+train": 1})
        tend(jobs, lambda: alive(queue) == WANTED)
    assert [record for record in caplog.records if record.levelno == logging.WARNING] == []
    jobs.cancel()
