"""The jobs of a campaign in SLURM's queue: submitted, followed by others when they end, cancelled with the campaign."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from alflow.campaign.slurm_config import SlurmConfig
from alflow.errors import CampaignError, ConfigError
from alflow.reference.spool import write_durably

__all__ = ["SlurmJobs", "ask_slurm"]

log = logging.getLogger("alflow")

FRUITLESS_LIMIT: Final = 3
"""Times in a row that jobs may end without any of their workers having joined."""

TAIL_CHARACTERS: Final = 1500
"""Of the log of a job that is shown when workers do not come about."""


class SlurmJobs:
    """Jobs by class.

    Args:
        config: How many are wanted.
        folder: Scripts, named after their class, logs, and the record of what was submitted.
    """

    def __init__(self, config: SlurmConfig, folder: Path) -> None:
        self._config, self._folder = config, folder
        self._class_of: dict[str, str] = {}
        self._joined: set[str] = set(config.jobs)
        self._fruitless: Counter[str] = Counter()
        self._looked: float | None = None
        self._told = False

    def cancel_left_behind(self) -> None:
        """Cancel what an orchestrator that was killed could not cancel."""
        try:
            left = list(json.loads(self._record.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return
        if left:
            log.info("Jobs of an orchestrator that was killed are cancelled: %s", ", ".join(left))
            self._cancel(left)
        self._record.unlink(missing_ok=True)

    def tend(self, joined: Collection[str]) -> None:
        """Submit jobs for those that have ended, and all of them at first.

        Args:
            joined: Classes of which a worker is there now.

        Raises:
            ConfigError: SLURM refuses jobs of this kind.
            CampaignError: Jobs end, again and again, before their workers have joined.
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
            if missing > 0:
                self._judge(name)
                self._submit(name, missing)

    def cancel(self) -> None:
        """Cancel every job."""
        if self._class_of:
            self._cancel(list(self._class_of))
        self._class_of.clear()
        self._record.unlink(missing_ok=True)

    @property
    def _record(self) -> Path:
        return self._folder / "jobs.json"

    def _living(self) -> Counter[str] | None:
        """Jobs that wait or run, by class; None if SLURM does not say."""
        if not self._class_of:
            return Counter()
        done = ask_slurm(["squeue", "--me", "--noheader", "--array", "--format=%F"])
        if done.returncode:
            if not self._told:
                log.warning("SLURM does not answer (%s); it is asked again", done.stderr.strip()[-200:])
            self._told = True
            return None
        self._told = False
        return Counter(self._class_of[number] for number in done.stdout.split() if number in self._class_of)

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
        done = ask_slurm(["sbatch", "--parsable", f"--array=0-{count - 1}", str(script)])
        if done.returncode:
            raise ConfigError(f"cluster.slurm.jobs.{name}: sbatch refused {script}: {done.stderr.strip()[-500:]}")
        number = done.stdout.strip().partition(";")[0]
        self._class_of[number] = name
        write_durably(self._record, json.dumps(list(self._class_of)).encode())
        log.info("SLURM job %s: %d × %s", number, count, name)

    def _cancel(self, numbers: Sequence[str]) -> None:
        done = ask_slurm(["scancel", "--quiet", *numbers])
        if done.returncode:
            log.warning("Jobs %s could not be cancelled: %s", ", ".join(numbers), done.stderr.strip()[-300:])


def ask_slurm(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run one of SLURM's programs.

    Jobs inherit the environment of ``sbatch``. They get nothing of the job in which an orchestrator may run itself, and
    nothing of the database's: workers never open it.

    Raises:
        ConfigError: It is not installed here.
    """
    environment = {name: value for name, value in os.environ.items() if not _kept_from_jobs(name)}
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    except FileNotFoundError:
        raise ConfigError(
            f"cluster.slurm: there is no program {command[0]} on this machine; run alflow where jobs of "
            "SLURM are submitted."
        ) from None
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} did not answer within 120 s")


def _kept_from_jobs(name: str) -> bool:
    own = name.startswith(("SLURM_", "SBATCH_", "SRUN_")) and name != "SLURM_CONF"
    return own or name.startswith("PG")
