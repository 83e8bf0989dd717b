"""What a worker or a scheduler says of itself. Sent by value: it must run where alflow is missing, or is another."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping
from importlib import import_module, metadata
from typing import Any

__all__ = ["introduce", "mismatch", "needs", "repeats"]

PACKAGES = ("alflow", "dask", "distributed", "pyscf", "torch")

USED_FOR = {"pyscf": ("label",), "torch": ("explore", "train")}
"""The tasks for which some of them are needed; who takes none of these need not load it."""

WHERE = ("host", "node", "job")
"""Where a worker runs, in which none is like the other."""


def introduce(dask_worker: Any = None) -> dict[str, str]:
    """Name of this machine, and versions of Python and of some packages; one that a worker cannot load says why.

    In a job of SLURM also the name that SLURM gives the machine, and the job as its queue shows it, such as ``12_0``.

    Args:
        dask_worker: The worker that is asked, filled in by Dask; None for the orchestrator, which loads nothing for it.
    """
    told = {"host": socket.gethostname(), "python": ".".join(platform.python_version_tuple()[:2])}
    given = os.environ.get
    told["node"] = given("SLURMD_NODENAME", "")
    told["job"] = f"{given('SLURM_ARRAY_JOB_ID', '')}_{given('SLURM_ARRAY_TASK_ID', '')}".strip("_")
    for name in PACKAGES:
        try:
            told[name] = metadata.version(name).partition("+")[0]
            if dask_worker is not None and needs(name, dask_worker.state.total_resources):
                import_module(name)
        except Exception as error:
            told[name] = f"not importable ({type(error).__name__}: {error})"
    return told


def needs(package: str, resources: Mapping[str, float]) -> bool:
    """Whether a worker that declares some resources needs a package; one that declares no kind of task takes all.

    Examples:
        >>> needs("torch", {"label": 1.0}), needs("torch", {}), needs("dask", {"label": 1.0})
        (False, True, True)
    """
    if package not in USED_FOR or not any(kind in resources for kinds in USED_FOR.values() for kind in kinds):
        return True
    return any(resources.get(kind, 0) > 0 for kind in USED_FOR[package])


def mismatch(own: dict[str, str], told: dict[str, str]) -> str:
    """What a worker has that differs from ours, as one clause; empty if nothing does.

    Examples:
        >>> mismatch({"host": "a", "python": "3.11", "torch": "2.9"}, {"host": "b", "python": "3.11", "torch": "2.8"})
        'torch 2.8 instead of 2.9'
    """
    return ", ".join(
        f"{name} {told.get(name, 'unknown')} instead of {version}"
        for name, version in own.items()
        if name not in WHERE and told.get(name) != version
    )


def repeats(dask_scheduler: Any) -> int:
    """How many deaths of workers a scheduler lets a task survive by running it again, and tells nobody."""
    return int(dask_scheduler.allowed_failures)
