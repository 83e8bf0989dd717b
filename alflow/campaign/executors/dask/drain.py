"""What a worker with an end does before it: take nothing more, finish what it has, and leave.

``dask worker --preload alflow.campaign.executors.dask.drain`` reads from its environment

- ALFLOW_DRAIN_AT: when to begin nothing more, in seconds since 1970;
- ALFLOW_ENDS_AT: when the worker will be killed, in seconds since 1970. A label that is not done by then is
  interrupted in time and leaves a checkpoint;
- ALFLOW_DRAIN_FILE: begin nothing more once this file is there, which a hook that is run before a container is ended
  may make; ALFLOW_DRAIN_GRACE_S is then the time until the end, s.

Any may be left out, but one of the first and the third is needed. Dask's own ``--lifetime`` would hand the running task
on and throw its result away.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from alflow.campaign.executors.dask import census
from alflow.campaign.work import load_learning
from alflow.reference.process import worker as this_process

__all__ = ["DRAIN_AT", "DRAIN_FILE", "DRAIN_GRACE_S", "ENDS_AT", "dask_setup", "dask_teardown", "leave"]

log = logging.getLogger("distributed.worker")

DRAIN_AT: Final = "ALFLOW_DRAIN_AT"
ENDS_AT: Final = "ALFLOW_ENDS_AT"
DRAIN_FILE: Final = "ALFLOW_DRAIN_FILE"
DRAIN_GRACE_S: Final = "ALFLOW_DRAIN_GRACE_S"

LEAVE_AFTER_S: Final = 10
"""How long a worker must have had nothing to do: what was on its way arrives, and results are fetched."""

LAST_CYCLE_S: Final = 5.0
"""How long the labels of a worker that is told to end at once may take to leave a checkpoint; Dask gives it 8 s."""


@dataclass(frozen=True)
class _Orders:
    """When to begin nothing more, on the clock of :func:`time.monotonic`, and the file that says so earlier."""

    at: float
    file: Path | None
    grace_s: float | None

    @classmethod
    def from_environment(cls) -> _Orders:
        """Read them.

        Raises:
            ValueError: There are none, or one is not a number.
        """
        file = os.environ.get(DRAIN_FILE)
        if DRAIN_AT not in os.environ and file is None:
            raise ValueError(f"A worker that is to drain needs {DRAIN_AT} or {DRAIN_FILE} in its environment.")
        ends_at, grace_s = _moment(ENDS_AT), os.environ.get(DRAIN_GRACE_S)
        if ends_at < float("inf"):
            this_process().ends_at = ends_at
        return cls(_moment(DRAIN_AT), Path(file) if file else None, float(grace_s) if grace_s else None)

    def due(self) -> bool:
        """Whether it is time."""
        if self.file is not None and self.file.exists():
            if self.grace_s is not None:
                this_process().ends_at = time.monotonic() + self.grace_s
            return True
        return time.monotonic() >= self.at or this_process().interrupted


def dask_setup(worker: Any) -> None:
    """Called by Dask in a worker that starts.

    Raises:
        ValueError: The environment gives no orders, or one is not a number.
    """
    orders = _Orders.from_environment()
    if census.needs("torch", worker.state.total_resources):
        load_learning()  # before it joins: then neither the orchestrator nor its first task waits for it
    if worker.nanny is not None:  # it passes the signal on, with time; SLURM sends it to every process of a job
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker.loop.add_callback(_serve_and_leave, worker, orders)


async def dask_teardown(worker: Any) -> None:
    """Called by Dask in a worker that ends, perhaps because it was told to: labels leave a checkpoint."""
    this_process().ends_at = time.monotonic()
    end = time.monotonic() + LAST_CYCLE_S
    while worker.state.executing_count and time.monotonic() < end:
        await asyncio.sleep(0.1)


def leave(dask_worker: Any) -> None:
    """Let a worker take nothing more and leave after what it has; the orchestrator runs this there."""
    dask_worker.loop.add_callback(_leave, dask_worker, "it was asked to leave")


def _moment(name: str) -> float:
    """A time of day from the environment, on the clock that nobody sets; never, if it is not there."""
    return time.monotonic() + float(os.environ[name]) - time.time() if name in os.environ else float("inf")


async def _serve_and_leave(worker: Any, orders: _Orders) -> None:
    while not orders.due():
        await asyncio.sleep(0.5)
    await _leave(worker, "its time is nearly up")


async def _leave(worker: Any, why: str) -> None:
    """Take nothing more; leave once everything is done and fetched."""
    nothing = dict.fromkeys(worker.state.total_resources, 0)
    await worker.set_resources(**nothing)
    log.warning("This worker takes no more tasks: %s", why)
    idle_s = 0
    while idle_s < LEAVE_AFTER_S:
        await asyncio.sleep(1)
        idle_s = 0 if worker.state.executing_count or worker.data else idle_s + 1
    await worker.close(nanny=True, reason=why)
