"""Scripts of the jobs in which SLURM runs a campaign's workers."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path

from alflow.campaign.config import CampaignConfig
from alflow.campaign.pool_config import SecurityConfig
from alflow.campaign.pools import threads_for, worker_environment
from alflow.campaign.slurm_config import JobClass, SlurmCluster, kinds_taken

__all__ = ["job_name", "job_scripts"]


def job_name(campaign: str, jobs: str) -> str:
    """Name under which the queue shows a campaign's jobs.

    Examples:
        >>> job_name("my ethanol", "explore+train")
        'alflow-my-ethanol-explore+train'
    """
    return f"alflow-{campaign}-{jobs}".replace(" ", "-")


def job_scripts(config: CampaignConfig, folder: Path, address: str, security: SecurityConfig) -> dict[str, str]:
    """One script for each class of jobs.

    Args:
        config: A campaign with ``cluster: {slurm: …}``.
        folder: Where the logs go; the nodes must see it.
        address: Address of the scheduler.
        security: Certificates; the nodes must see them.
    """
    assert isinstance(config.cluster, SlurmCluster)
    cluster = config.cluster
    scripts = {}
    for name, job in cluster.slurm.jobs.items():
        threads = max(threads_for(config, kind) for kind in kinds_taken(name))
        lasts_s = 3600 * job.time_h
        drain_s = math.ceil(cluster.drain_s(name, config.reference.time_limit_s))
        lines = [
            "#!/bin/bash",
            *_options(config.name, name, job, threads, folder),
            "# The end of the job: newer SLURM tells it. What follows may take a while.",
            f"ALFLOW_ENDS_AT=${{SLURM_JOB_END_TIME:-$(( $(date +%s) + {math.floor(lasts_s)} ))}}",
            "set -e",
            *cluster.slurm.setup,
            *(f"export {key}={shlex.quote(value)}" for key, value in worker_environment(threads).items()),
            "# From then on the workers begin nothing, so that no task is cut off when the time of the job is up.",
            f"export ALFLOW_DRAIN_AT=$(( ALFLOW_ENDS_AT - {drain_s} ))",
            "# Labels that are not done by then leave a checkpoint.",
            "export ALFLOW_ENDS_AT",
            _worker(cluster.slurm.python or sys.executable, name, job, threads, address, security),
        ]
        scripts[name] = "\n".join(lines) + "\n"
    return scripts


def _options(campaign: str, name: str, job: JobClass, threads: int, folder: Path) -> list[str]:
    """What SLURM is told."""
    told = [
        f"--job-name={job_name(campaign, name)}",
        f"--ntasks={job.workers_per_job}",
        f"--cpus-per-task={threads}",
        f"--time={math.ceil(60 * job.time_h)}",
        f"--output={shlex.quote(str(folder / f'{name}-%A-%a.log'))}",
        "--no-requeue",
    ]
    if job.memory_gib is not None:
        told.append(f"--mem-per-cpu={math.ceil(1024 * job.memory_gib / threads)}M")
    told += [f"--{key}={value}" for key in ("partition", "account") if (value := getattr(job, key)) is not None]
    return [f"#SBATCH {option}" for option in (*told, *job.options)]


def _worker(python: str, name: str, job: JobClass, threads: int, address: str, security: SecurityConfig) -> str:
    """The command that starts a worker, or as many as the job has."""
    many = f"srun --ntasks={job.workers_per_job} --cpus-per-task={threads} " if job.workers_per_job > 1 else ""
    resources = " ".join(f"{kind}=1" for kind in kinds_taken(name))
    words = [
        f"exec {many}{shlex.quote(python)} -m distributed.cli.dask_worker {shlex.quote(address)}",
        f"--nthreads 1 --resources {shlex.quote(resources)} --memory-limit 0 --no-dashboard",
        "--dashboard-address 127.0.0.1:0",  # even without a dashboard there is a server, by default on every interface
        '--death-timeout 60 --local-directory "${TMPDIR:-/tmp}"',
        "--preload alflow.campaign.executors.dask.drain",
        f"--tls-ca-file {shlex.quote(str(security.ca))} --tls-cert {shlex.quote(str(security.cert))}",
        f"--tls-key {shlex.quote(str(security.key))}",
    ]
    return " \\\n  ".join(words)
