"""The jobs of a campaign in SLURM's queue: submitted, followed by others when they end, cancelled with the campaign."""

from __future__ import annotations

import json
import logging
import os
import secrets
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alflow.campaign.job_scripts import job_name
from alflow.campaign.slurm_config import SlurmConfig
from alflow.errors import CampaignError, ConfigError
from alflow.reference.credentials import without_credentials
from alflow.reference.spool import write_durably

__all__ = ["SlurmJobs", "ask_slurm"]

log = logging.getLogger("alflow")

FRUITLESS_LIMIT: Final = 3
"""Times in a row that jobs may end without any of their workers having joined."""

TAIL_CHARACTERS: Final = 1500
"""Of the log of a job that is shown when workers do not come about."""

ASK_WITHIN_S: Final = 10.0
"""Time SLURM has to answer while the loop waits, which must show that it lives every 30 s."""

CANCEL_WITHIN_S: Final = 20.0
"""Time it has to cancel jobs, before the loop begins or after its end."""

LONGEST_PAUSE_S: Final = 600.0
"""Between two attempts to submit jobs that SLURM does not take; each pause is twice as long as the last."""

GIVE_UP_S: Final = 12 * 3600.0
"""How long jobs that were taken before may not be taken: a night, so that whoever looks after SLURM can."""

TIMED_OUT: Final = 124
"""Return code of a program that did not answer, as the shell's ``timeout`` gives it."""


@dataclass(frozen=True)
class _PutOff:
    """Jobs that SLURM did not take: since when, and when they are submitted again, on the monotonic clock."""

    since: float
    pause_s: float
    next_try: float


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
        self._put_off: dict[str, _PutOff] = {}
        self._joined: set[str] = set(config.jobs)
        self._fruitless: Counter[str] = Counter()
        self._looked: float | None = None
        self._noted = self._told = False

    def cancel_left_behind(self) -> None:
        """Cancel what an orchestrator that was killed could not cancel.

        If SLURM does not say what is in its queue, all of it stays on record, and the next start asks again.
        """
        left = self._read()
        marks = tuple(f".{mark}" for mark in left if mark)
        queue = self._queue() if marks else []
        found = [number for number, name in queue or () if name.endswith(marks)]
        numbers = list(dict.fromkeys([number for listed in left.values() for number in listed] + found))
        if numbers:
            log.info("Jobs of an orchestrator that was killed are cancelled: %s", ", ".join(numbers))
        cancelled = not numbers or self._cancel(numbers)
        if cancelled and queue is not None:
            self._forget(left)

    def tend(self, joined: Collection[str]) -> None:
        """Submit jobs for those that have ended, and all of them at first.

        Args:
            joined: Classes of which a worker is there now.

        Raises:
            ConfigError: SLURM refuses jobs of this kind, of which it has never taken any.
            CampaignError: Jobs end, again and again, before their workers have joined; or SLURM has taken none of those
                it took before for :data:`GIVE_UP_S`.
        """
        self._joined.update(joined)
        now = time.monotonic()
        if self._looked is not None and now - self._looked < self._config.look_every_s:
            return
        self._looked = now
        living = self._living()
        if living is None:
            return
        for name, job in self._config.jobs.items():
            missing = job.n_jobs - living[name]
            if missing <= 0:
                self._put_off.pop(name, None)
                continue
            if time.monotonic() - now > ASK_WITHIN_S / 2:
                return  # the loop has waited long enough; the rest follows at the next look
            waits = self._put_off.get(name)
            if waits is None:
                self._judge(name)
            if waits is None or now >= waits.next_try:
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

    def _living(self) -> Counter[str] | None:
        """Jobs that wait or run, by class; None if SLURM does not say."""
        if not self._noted:
            return Counter()
        queue = self._queue()
        if queue is None:
            return None
        for name, ours in self._names.items():
            for number in {number for number, found in queue if found == ours} - self._class_of.keys():
                log.info("SLURM job %s: %s, which sbatch had not told of", number, name)
                self._class_of[number] = name
                self._note()
        return Counter(self._class_of[number] for number, _ in queue if number in self._class_of)

    def _queue(self) -> list[tuple[str, str]] | None:
        """Number and name of each of the user's jobs, once for each element of its array; None if it does not say."""
        done = self._ask(["squeue", "--me", "--noheader", "--array", "--format=%F %j"])
        if done.returncode:
            if not self._told:
                log.warning("SLURM does not answer (%s); it is asked again", done.stderr.strip()[-200:])
            self._told = True
            return None
        self._told = False
        words = [line.strip().partition(" ") for line in done.stdout.splitlines()]
        return [(number, name) for number, _, name in words]

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

    def _tail(self, name: str) -> str:
        logs = sorted(self._folder.glob(f"{name}-*.log"), key=lambda path: path.stat().st_mtime)
        if not logs:
            return f"They left no log in {self._folder}."
        text = logs[-1].read_text(encoding="utf-8", errors="replace").strip()[-TAIL_CHARACTERS:]
        return f"The last log, {logs[-1]}, ends with:\n{text}\n"

    def _submit(self, name: str, count: int) -> None:
        script = self._folder / f"{name}.sh"
        self._note()  # the mark, before SLURM may take jobs that nobody hears of
        named, array = f"--job-name={self._names[name]}", f"--array=0-{count - 1}"
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
        self._note()
        log.info("SLURM job %s: %d × %s", number, count, name)

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
        self._put_off[name] = _PutOff(since, pause_s, now + pause_s)
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
