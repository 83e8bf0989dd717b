"""Jobs in a queue whose programs fail: none is lost, doubled or left behind, and a campaign waits for SLURM."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alflow.campaign import slurm_jobs
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


def jobs_in(folder: Path, class_: Callable[..., SlurmJobs] = SlurmJobs) -> SlurmJobs:
    folder.mkdir(exist_ok=True)
    for name in BOTH:
        (folder / f"{name}.sh").write_text(f"#SBATCH --output={folder}/{name}-%A-%a.log\nsleep 300\n")
    return class_(SlurmConfig.model_validate({"jobs": BOTH, "look_every_s": LOOK_EVERY_S}), folder, "toy")


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
