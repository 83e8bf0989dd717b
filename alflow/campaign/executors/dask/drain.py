"""What a worker with an end does before it: take nothing more, finish what it has, and leave.

``dask worker --preload alflow.campaign.executors.dask.drain`` reads the moment, in seconds since 1970, from the
variable ALFLOW_DRAIN_AT. Dask's own ``--lifetime`` would hand the running task on and throw its result away.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any, Final

__all__ = ["DRAIN_AT", "dask_setup"]

log = logging.getLogger("distributed.worker")

DRAIN_AT: Final = "ALFLOW_DRAIN_AT"

LEAVE_AFTER_S: Final = 10
"""How long a worker must have had nothing to do: what was on its way arrives, and results are fetched."""


def dask_setup(worker: Any) -> None:
    """Called by Dask in a worker that starts.

    Raises:
        KeyError: The variable is not set.
        ValueError: It is not a number.
    """
    begin_at = float(os.environ[DRAIN_AT])
    worker.loop.call_later(max(0.0, begin_at - time.time()), _drain, worker)


async def _drain(worker: Any) -> None:
    """Take nothing more; leave once everything is done and fetched."""
    nothing = dict.fromkeys(worker.state.total_resources, 0)
    await worker.set_resources(**nothing)
    log.warning("The time of this worker is nearly up: it takes no more tasks")
    idle_s = 0
    while idle_s < LEAVE_AFTER_S:
        await asyncio.sleep(1)
        idle_s = 0 if worker.state.executing_count or worker.data else idle_s + 1
    await worker.close(nanny=True, reason="its time is nearly up")
