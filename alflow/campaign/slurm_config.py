"""The keys of ``cluster: {slurm: …}``: jobs whose workers run the tasks of a campaign."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field, model_validator

from alflow.domain.config import ClosedModel
from alflow.errors import ConfigError

__all__ = ["JobClass", "SlurmCluster", "SlurmConfig", "kinds_taken"]

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Word = Annotated[str, Field(pattern=r"^[\w.,:@+-]+$")]
Option = Annotated[str, Field(pattern=r"^--?[A-Za-z][^\n\r]*$")]
Line = Annotated[str, Field(pattern=r"^[^\n\r]*$")]

NAMES: Final = ("label", "explore", "train", "label+explore", "label+train", "explore+train", "shared")

GRACE_S: Final = 60.0
"""Between the longest task that was begun in time and the end of its job, s."""

WORKER_GIB: Final = 1.0
"""Memory of a worker beside the label it makes, GiB."""

SHORT_TASK_S: Final = 600.0
"""Longest that a stretch of dynamics or a training is expected to take, s."""


class JobClass(ClosedModel):
    """Equal jobs.

    Attributes:
        workers: Workers in all, each running one task at a time.
        workers_per_job: Workers of one job; more than one where nodes are given out whole.
        time_h: Time limit of a job, h. A job whose time is up is followed by another one.
        memory_gib: Memory of one worker and of the label it makes, GiB; by default what SLURM gives. Where labels are
            made, at least 1 GiB more than their last attempt may use: ``reference.memory_limit_mb`` times
            ``reference.max_attempts``.
        partition: Where.
        account: Who pays.
        options: Further options of ``sbatch``, such as ``--qos=long`` or ``--gres=gpu:1``.
        drain_s: Time before the end of a job from which on its workers begin nothing, s. By default a minute more than
            the second attempt of a label may take, or, without labels, eleven minutes. PySCF labels of molecules are
            interrupted and go on elsewhere, so that less is enough for them.
    """

    workers: Count = 1
    workers_per_job: Count = 1
    time_h: Positive = 1.0
    memory_gib: Positive | None = None
    partition: Word | None = None
    account: Word | None = None
    options: tuple[Option, ...] = ()
    drain_s: Positive | None = None

    @model_validator(mode="after")
    def _whole_jobs(self) -> JobClass:
        if self.workers % self.workers_per_job:
            raise ValueError(
                f"workers ({self.workers}) must be a multiple of workers_per_job ({self.workers_per_job}): "
                "jobs are equal"
            )
        return self

    @property
    def n_jobs(self) -> int:
        """Jobs that are wanted."""
        return self.workers // self.workers_per_job


class SlurmConfig(ClosedModel):
    """Workers as SLURM jobs. The orchestrator starts a scheduler, submits the jobs and cancels them at its end.

    Attributes:
        jobs: Jobs by what their workers take: ``label``, ``explore``, ``train``, some of them joined by ``+`` in this
            order, or ``shared`` for all.
        host: Name or address of this machine as the nodes see it; by default its host name.
        port: Port of the scheduler; 0 takes any that is free.
        python: Python interpreter on the nodes; by default the one that runs the orchestrator.
        setup: Lines of shell that every job runs first, such as ``module load …``.
        look_every_s: How often SLURM is asked which jobs there are, s.
    """

    jobs: Mapping[str, JobClass]
    host: Word | None = None
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    python: Line | None = None
    setup: tuple[Line, ...] = ()
    look_every_s: Positive = 30.0

    @model_validator(mode="after")
    def _every_kind(self) -> SlurmConfig:
        wrong = [name for name in self.jobs if name not in NAMES]
        if wrong:
            raise ValueError(f"jobs: expected names out of {', '.join(NAMES)} (found {', '.join(wrong)})")
        lacking = {"label", "explore", "train"} - {kind for name in self.jobs for kind in kinds_taken(name)}
        if lacking:
            raise ValueError(
                f"jobs: no workers take {', '.join(sorted(lacking))}; name jobs label and explore+train, or shared"
            )
        return self


class SlurmCluster(ClosedModel):
    """Workers as jobs of SLURM.

    Attributes:
        slurm: Which.
    """

    slurm: SlurmConfig

    def drain_s(self, name: str, label_limit_s: float) -> float:
        """Time before the end of a job from which on its workers begin nothing, s.

        Args:
            name: Name of the jobs.
            label_limit_s: ``reference.time_limit_s``.
        """
        told = self.slurm.jobs[name].drain_s
        longest = 2 * label_limit_s if "label" in kinds_taken(name) else SHORT_TASK_S
        return told if told is not None else longest + GRACE_S

    def check_times(self, label_limit_s: float) -> None:
        """Refuse jobs that would end before they could begin anything.

        Raises:
            ValueError: Of some the time is not longer than the time they drain.
        """
        for name, job in self.slurm.jobs.items():
            drain_s = self.drain_s(name, label_limit_s)
            if 3600 * job.time_h <= drain_s:
                raise ValueError(
                    f"cluster.slurm.jobs.{name}: workers begin nothing in the last {drain_s:g} s of a job, and it has "
                    f"only {3600 * job.time_h:g} s; raise time_h, or lower drain_s or reference.time_limit_s"
                )

    def check_memory(self, label_most_mb: float) -> None:
        """Refuse jobs whose memory ends before that of a label.

        Other than :meth:`check_times` this is no part of reading a configuration: that of a campaign which was begun
        with less must stay readable, or it could not be taken up with more.

        Args:
            label_most_mb: What the last attempt at a label may use, MB.

        Raises:
            ConfigError: In some that make labels such an attempt does not fit beside its worker.
        """
        needed = label_most_mb * 1e6 / 2**30 + WORKER_GIB
        for name, job in self.slurm.jobs.items():
            if "label" in kinds_taken(name) and job.memory_gib is not None and job.memory_gib < needed:
                raise ConfigError(
                    f"cluster.slurm.jobs.{name}: memory_gib is {job.memory_gib:g}, and the last attempt at a label may "
                    f"use {label_most_mb:g} MB (reference.memory_limit_mb times max_attempts) beside its worker; raise "
                    f"memory_gib to {math.ceil(10 * needed) / 10:g}, or lower one of the other two"
                )


def kinds_taken(name: str) -> tuple[str, ...]:
    """What workers of a name take.

    Examples:
        >>> kinds_taken("explore+train"), kinds_taken("shared")
        (('explore', 'train'), ('label', 'explore', 'train'))
    """
    return ("label", "explore", "train") if name == "shared" else tuple(name.split("+"))
