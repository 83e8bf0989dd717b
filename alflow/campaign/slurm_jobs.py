"""The jobs of a campaign in SLURM's queue: submitted, followed by others when they end, cancelled with the campaign."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from alflow.campaign.fruitless import FRUITLESS_LIMIT, LONGEST_PAUSE_S, Fruitless, PutOff
from alflow.campaign.job_scripts import job_name
from alflow.campaign.slurm_config import SlurmConfig, kinds_taken
from alflow.errors import CampaignError, ConfigError
from alflow.reference.credentials import without_credentials
from alflow.reference.spool import write_durably

__all__ = ["SlurmJobs", "ask_slurm"]

log = logging.getLogger("alflow")

TAIL_CHARACTERS: Final = 1500
"""Of the log of a job that is shown when workers do not come about."""

ASK_WITHIN_S: Final = 10.0
"""Time SLURM has to answer while the loop waits, which must show that it lives every 30 s."""

CANCEL_WITHIN_S: Final = 20.0
"""Time it has to cancel jobs, before the loop begins or after its end."""

GIVE_UP_S: Final = 12 * 3600.0
"""How long jobs that were taken before may not be taken: a night, so that whoever looks after SLURM can."""

TIMED_OUT: Final = 124
"""Return code of a program that did not answer, as the shell's ``timeout`` gives it."""


NO_SUCH_NODES: Final = ("invalid node name", "requested node configuration is not available")
"""What ``sbatch`` says of nodes that it does not know, or of which none is left."""

OWN_EXCLUDED: Final = re.compile(r"(?:--exclude(?:=|\s+)|-x\s*)['\"]?([^\s'\"]+)")
"""Nodes that the options of a class exclude; on the command line the option would take the place of theirs."""


class SlurmJobs:
    """Jobs by class.

    Args:
        config: How many are wanted.
        folder: Scripts, named after their class, logs, and the record of what was submitted.
        campaign: Name of the campaign, which is in the names of its jobs.

    The names end with a mark of this object's own, by which jobs are found that SLURM took and could not say so.
    """

    def __init__(self, config: SlurmConfig, folder: Path, campaign: str) -> None:
        self._config, self._folder = config, folder
        self._mark = secrets.token_hex(4)
        self._names = {name: f"{job_name(campaign, name)}.{self._mark}" for name in config.jobs}
        self._class_of: dict[str, str] = {}
        self._put_off: dict[str, PutOff] = {}
        self._joined: set[str] = set(config.jobs)
        self._fruitless: Counter[str] = Counter()
        self._open: dict[str, str] = {}
        self._came: set[str] = set()
        self._in_vain = Fruitless(config.look_every_s)
        self._avoided: set[str] = set()
        self._looked: float | None = None
        self._noted = self._told = False

    def cancel_left_behind(self) -> None:
        """Cancel what an orchestrator that was killed could not cancel.

        If SLURM does not say what is in its queue, all of it stays on record, and the next start asks again.
        """
        left = self._read()
        marks = tuple(f".{mark}" for mark in left if mark)
        queue = self._queue() if marks else []
        found = [_number(job) for job, name in queue or () if name.endswith(marks)]
        numbers = list(dict.fromkeys([number for listed in left.values() for number in listed] + found))
        if numbers:
            log.info("Jobs of an orchestrator that was killed are cancelled: %s", ", ".join(numbers))
        cancelled = not numbers or self._cancel(numbers)
        if cancelled and queue is not None:
            self._forget(left)

    def avoid(self, nodes: Collection[str]) -> None:
        """Submit jobs that make labels for other nodes from now on."""
        self._avoided.update(nodes)

    def avoids(self, name: str, node: str) -> bool:
        """Whether jobs of a class that are submitted now do not begin on a node."""
        return node in self._excluded(name)

    def tend(self, joined: Collection[str], jobs: Collection[str] = ()) -> None:
        """Submit jobs for those that have ended, and all of them at first.

        Args:
            joined: Classes of which a worker is there now.
            jobs: Jobs of which one is, as the queue shows them, such as ``12_0``; where workers do not know theirs, it
                is not noticed that some jobs of a class never come to work.

        Raises:
            ConfigError: SLURM refuses jobs of this kind, of which it has never taken any.
            CampaignError: Jobs end, again and again, before their workers have joined; or SLURM has taken none of those
                it took before for :data:`GIVE_UP_S`.
        """
        self._joined.update(joined)
        self._came.update(jobs)
        now = time.monotonic()
        if self._looked is not None and now - self._looked < self._config.look_every_s:
            return
        self._looked = now
        living = self._living()
        if living is None:
            return
        for name, job in self._config.jobs.items():
            self._take_note(name, living, now, lives=name in joined)
            missing = job.n_jobs - Counter(living.values())[name]
            if missing <= 0:
                self._put_off.pop(name, None)
                continue
            if time.monotonic() - now > ASK_WITHIN_S / 2:
                return  # the loop has waited long enough; the rest follows at the next look
            waits = self._put_off.get(name)
            if waits is None:
                self._judge(name)
            slowed = name in joined and self._in_vain.waits(name, now)
            if not slowed and (waits is None or now >= waits.next_try):
                self._submit(name, missing)

    def cancel(self) -> None:
        """Cancel every job of our own; an orchestrator that has taken the campaign over has others.

        SLURM may have taken jobs that ``sbatch`` called refused, so it is asked what is in its queue. If it does not
        say, they stay on record for the next start.
        """
        if not self._noted:
            return
        try:
            answered = self._living() is not None
        except ConfigError:  # its programs are not here
            answered = False
        cancelled = not self._class_of or self._cancel(list(self._class_of))
        if cancelled and answered:
            self._forget([self._mark])
            self._noted = False
        self._class_of.clear()

    @property
    def _record(self) -> Path:
        return self._folder / "jobs.json"

    def _read(self) -> dict[str, list[str]]:
        """Numbers of what was submitted, by the mark of who did; older versions had none."""
        try:
            found = json.loads(self._record.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return dict(found) if isinstance(found, dict) else {"": list(found)}

    def _note(self) -> None:
        self._noted = True
        write_durably(self._record, json.dumps(self._read() | {self._mark: list(self._class_of)}).encode())

    def _forget(self, marks: Collection[str]) -> None:
        left = {mark: numbers for mark, numbers in self._read().items() if mark not in marks}
        if left:
            write_durably(self._record, json.dumps(left).encode())
        else:
            self._record.unlink(missing_ok=True)

    def _living(self) -> dict[str, str] | None:
        """Class of each job that waits or runs; None if SLURM does not say."""
        if not self._noted:
            return {}
        queue = self._queue()
        if queue is None:
            return None
        for name, ours in self._names.items():
            for number in {_number(job) for job, found in queue if found == ours} - self._class_of.keys():
                log.info("SLURM job %s: %s, which sbatch had not told of", number, name)
                self._class_of[number] = name
                self._note()
        living = {job: self._class_of[_number(job)] for job, _ in queue if _number(job) in self._class_of}
        self._open.update(living)
        return living

    def _queue(self) -> list[tuple[str, str]] | None:
        """Each of the user's jobs, such as ``12_0``, with its name; None if it does not say."""
        done = self._ask(["squeue", "--me", "--noheader", "--array", "--format=%i %j"])
        if done.returncode:
            if not self._told:
                log.warning("SLURM does not answer (%s); it is asked again", done.stderr.strip()[-200:])
            self._told = True
            return None
        self._told = False
        words = [line.strip().partition(" ") for line in done.stdout.splitlines()]
        return [(job, name) for job, _, name in words]

    def _take_note(self, name: str, living: Collection[str], now: float, lives: bool) -> None:
        """Find jobs that ended before their workers had joined, and let the class wait if others of it live."""
        ended = {job for job, found in self._open.items() if found == name and job not in living}
        in_vain = ended - self._came if self._came else set()
        self._came -= ended
        for job in ended:
            del self._open[job]
        if not in_vain or not lives:
            return
        pause_s = self._in_vain.ended(name, now)
        if pause_s is not None:
            log.warning(
                "SLURM jobs '%s' keep ending before their workers have joined, while others work; more are submitted "
                "in %.0f s. %s", name, pause_s, self._tail(name, in_vain),
            )  # fmt: skip

    def _judge(self, name: str) -> None:
        """Do not go on for ever with jobs that cannot work."""
        self._fruitless[name] = 0 if name in self._joined else self._fruitless[name] + 1
        self._joined.discard(name)
        if self._fruitless[name] >= FRUITLESS_LIMIT:
            raise CampaignError(
                f"SLURM jobs '{name}' ended {FRUITLESS_LIMIT} times before any of their workers had joined. "
                f"{self._tail(name)} Look at {self._folder / (name + '.sh')}: do the nodes see this folder and the "
                "same Python, and can they reach this machine? Then resume the campaign."
            )

    def _tail(self, name: str, of: Collection[str] = ()) -> str:
        """The end of the last log of a class, or of some of its jobs."""
        logs = [self._folder / f"{name}-{job.replace('_', '-')}.log" for job in of]
        logs = sorted(
            (path for path in logs or self._folder.glob(f"{name}-*.log") if path.exists()),
            key=lambda path: path.stat().st_mtime,
        )
        if not logs:
            return f"They left no log in {self._folder}."
        text = logs[-1].read_text(encoding="utf-8", errors="replace").strip()[-TAIL_CHARACTERS:]
        return f"The last log, {logs[-1]}, ends with:\n{text}\n"

    def _submit(self, name: str, count: int) -> None:
        script = self._folder / f"{name}.sh"
        self._note()  # the mark, before SLURM may take jobs that nobody hears of
        named, array = f"--job-name={self._names[name]}", f"--array=0-{count - 1}"
        excluded = [f"--exclude={','.join(nodes)}"] if (nodes := self._excluded(name)) else []
        done = self._ask(["sbatch", "--parsable", named, array, *excluded, str(script)])
        if excluded and done.returncode and any(words in done.stderr.lower() for words in NO_SUCH_NODES):
            log.warning("sbatch refuses %s (%s); jobs may begin there again", excluded[0], done.stderr.strip()[-200:])
            self._avoided.clear()
            done = self._ask(["sbatch", "--parsable", named, array, str(script)])
        if done.returncode:
            refused = f"cluster.slurm.jobs.{name}: sbatch refused {script}: {done.stderr.strip()[-500:]}"
            if name not in self._class_of.values() and done.returncode != TIMED_OUT:
                raise ConfigError(refused)
            self._wait_with(name, refused)
            return
        self._put_off.pop(name, None)
        number = done.stdout.strip().partition(";")[0]
        self._class_of[number] = name
        self._open |= {f"{number}_{element}": name for element in range(count)}
        self._note()
        log.info("SLURM job %s: %d × %s", number, count, name)

    def _excluded(self, name: str) -> Sequence[str]:
        """Nodes on which jobs of a class may not begin, its own options' too; none if there is nothing to add."""
        if not self._avoided or "label" not in kinds_taken(name):
            return ()
        own = [found[1] for option in self._config.jobs[name].options if (found := OWN_EXCLUDED.match(option))]
        if any("/" in nodes for nodes in own):
            return ()  # the name of a file
        return *own, *sorted(self._avoided)

    def _wait_with(self, name: str, refused: str) -> None:
        """Submit jobs later that SLURM does not take now."""
        now = time.monotonic()
        before = self._put_off.get(name)
        since = before.since if before is not None else now
        if now - since > GIVE_UP_S:
            raise CampaignError(
                f"SLURM has taken no jobs '{name}' for {(now - since) / 3600:.1f} h. {refused}. All that was committed "
                "is kept; when SLURM takes jobs again, resume the campaign."
            )
        pause_s = min(2 * before.pause_s, LONGEST_PAUSE_S) if before is not None else self._config.look_every_s
        self._put_off[name] = PutOff(since, pause_s, now + pause_s)
        log.warning("%s. It is asked again in %.0f s", refused, pause_s)

    def _cancel(self, numbers: Sequence[str]) -> bool:
        done = self._ask(["scancel", "--quiet", *numbers], CANCEL_WITHIN_S)
        if done.returncode:
            log.warning("Jobs %s could not be cancelled: %s", ", ".join(numbers), done.stderr.strip()[-300:])
        return done.returncode == 0

    def _ask(self, command: Sequence[str], within_s: float | None = None) -> subprocess.CompletedProcess[str]:
        """Ask SLURM; if jobs are there, a program that is not there now was there before."""
        try:
            return ask_slurm(command, ASK_WITHIN_S if within_s is None else within_s)
        except ConfigError as error:
            if not self._class_of:
                raise
            return subprocess.CompletedProcess(command, 1, "", str(error))


def _number(job: str) -> str:
    """Number under which a job was submitted with others.

    Examples:
        >>> _number("12_0")
        '12'
    """
    return job.partition("_")[0]


def ask_slurm(command: Sequence[str], within_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Run one of SLURM's programs.

    Jobs inherit the environment of ``sbatch``. They get nothing of the job in which an orchestrator may run itself, and
    nothing of the database's: workers never open it.

    Args:
        command: The program and its arguments.
        within_s: Time it has to answer, s; then it has ended with :data:`TIMED_OUT`, and may have done its work.

    Raises:
        ConfigError: It is not installed here.
    """
    environment = {name: value for name, value in without_credentials(os.environ).items() if not _of_a_job(name)}
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=within_s, env=environment)
    except FileNotFoundError:
        raise ConfigError(
            f"cluster.slurm: there is no program {command[0]} on this machine; run alflow where jobs of "
            "SLURM are submitted."
        ) from None
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, TIMED_OUT, "", f"{command[0]} did not answer within {within_s:g} s")
    except OSError as error:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} could not be started: {error}")


def _of_a_job(name: str) -> bool:
    return name.startswith(("SLURM_", "SBATCH_", "SRUN_")) and name != "SLURM_CONF"
