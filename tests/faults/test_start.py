"""A worker that is killed while the cluster starts: the campaign begins nevertheless."""

from __future__ import annotations

import threading
import time

import psutil
import pytest

from alflow.campaign.executors.dask import LocalWorkers, local
from alflow.campaign.pools import local_pools

from .processes import is_dask_worker

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("after_s", [0.3, 2.5])
def test_a_worker_killed_while_it_starts_is_started_again(after_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "START_ATTEMPTS", 1)  # as if it were for the third time
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 20
        while not killed and time.monotonic() < deadline:
            for process in psutil.Process().children():
                if is_dask_worker(process):
                    time.sleep(after_s)
                    process.kill()
                    killed.append(process.pid)
                    return
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    workers = LocalWorkers(local_pools(2, 1), "127.0.0.1:0", heal_after_s=0.3)
    try:
        killer.join()
        assert killed
        ends = time.monotonic() + 30
        while len(workers.seats) < 2:
            assert time.monotonic() < ends, "the worker did not come back"
            workers.tend()
            time.sleep(0.1)
    finally:
        workers.close()
