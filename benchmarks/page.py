"""What the page about a campaign costs: the process that drives it, the scheduler that shows it, and in bytes.

Usage: python benchmarks/page.py [--labels N] [--slots N] [--walkers N …] [--json FILE]

The campaign of benchmarks/scale.py (nothing costs but time) runs with a feed that puts snapshots up on a real Dask
scheduler in a process of its own, which somebody looks at once a second. Printed for each number of walkers: processor
time of the feed's thread for a second of the campaign and for a look (reading, counting, writing JSON), the size of a
snapshot, processor time of the scheduler for a second, with and without the page, and how late the loop was to hear of
a task that had ended, beside a campaign of the same kind without a page.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import psutil
from distributed import Client
from scale import STRUCTURE, SimulatedExecutor
from timing import machine, write

from alflow import CampaignConfig
from alflow.campaign.broadcast import Broadcast
from alflow.campaign.executors.dask.page import SchedulerBoard
from alflow.campaign.launch import run_campaign
from alflow.domain.ase import read_structures
from alflow.reference import MorseMolecule, Synthetic
from alflow.reports.feed import Feed, Place


class Workers:
    """The connection that the page needs; there are no workers."""

    def __init__(self, client: Client) -> None:
        self.client, self.session = client, 1


class Visitor(threading.Thread):
    """Asks for the snapshot once a second, as an open page does."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._address, self.ended = address, threading.Event()

    def run(self) -> None:
        """Ask until told to end."""
        while not self.ended.wait(1.0):
            try:
                urllib.request.urlopen(self._address, timeout=10).read()
            except OSError:
                continue  # the page is not there before the first snapshot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=300)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--walkers", type=int, nargs="+", default=[8, 1024])
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    given = parser.parse_args()
    results = {}
    for walkers in given.walkers:
        with tempfile.TemporaryDirectory() as folder:
            results[walkers] = measure(given.labels, given.slots, walkers, Path(folder))
        for name, value in results[walkers].items():
            print(f"{walkers:5} walkers  {name:34} {value:12.4g}", flush=True)
    write(
        {"benchmark": "page", "machine": machine(), "given": vars(given) | {"json": None}, "results": results},
        given.json,
    )


def measure(labels: int, slots: int, walkers: int, folder: Path) -> dict[str, float]:
    """Run the campaign without a page and with one."""
    file = folder / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    command += ["--dashboard-address", "127.0.0.1:0", "--no-jupyter", "--scheduler-file", str(file)]
    scheduler = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not file.exists() or not file.read_text():
            time.sleep(0.1)
        with Client(json.loads(file.read_text())["address"]) as client:
            port = client.scheduler_info(n_workers=0)["services"]["dashboard"]
            process = psutil.Process(scheduler.pid)
            bare = campaign(labels, slots, walkers, folder / "bare", None, process, "")
            status = f"http://127.0.0.1:{port}/alflow/api/status.json"
            shown = campaign(labels, slots, walkers, folder / "shown", SchedulerBoard(Workers(client)), process, status)
    finally:
        scheduler.terminate()
        scheduler.wait(timeout=20)
    return shown | {f"{name}_without_page": value for name, value in bare.items()}


def campaign(
    labels: int, slots: int, walkers: int, folder: Path, place: Place | None, scheduler: psutil.Process, status: str
) -> dict[str, float]:
    """One campaign, and what was measured of it."""
    folder.mkdir()
    config = CampaignConfig(
        structures=str(STRUCTURE),
        name="page",
        database=str(folder / "page.db"),
        walkers=walkers,
        label_budget=labels,
        initial_labels=slots,
        quiet_ps=1e9,
        target_force_error_ev_ang=1e-4,
        threshold_ev_ang=0.5,
    )
    home = read_structures(STRUCTURE)[0]
    reference = Synthetic(MorseMolecule.around(home), duration_s=0.2, spread=0.3, failure_rate=0.02)
    executor, watcher = SimulatedExecutor(slots, folder), Broadcast()
    feed = Feed(config.database, "page", place, watcher.live).start() if place is not None else None
    visitor = Visitor(status)
    if feed is not None:
        visitor.start()
    began, before = time.monotonic(), sum(scheduler.cpu_times()[:2])
    cpu = time.process_time()
    run_campaign(config, reference=reference, observers=[watcher], executor=executor)
    lasted, spent = time.monotonic() - began, sum(scheduler.cpu_times()[:2]) - before
    found = {
        "wall_s": lasted,
        "orchestrator_cpu_share": (time.process_time() - cpu - executor.own_cpu_s) / lasted,
        "scheduler_cpu_share": spent / lasted,
        "lag_p99_ms": 1e3 * float(np.quantile(executor.lags, 0.99)),
    }
    if feed is not None:
        visitor.ended.set()
        feed.close()
        found |= {
            "looks_per_s": feed.looks / lasted,
            "feed_cpu_share": feed.cpu_s / lasted,
            "feed_cpu_ms_per_look": 1e3 * feed.cpu_s / max(1, feed.looks),
            "snapshot_kb": feed.size / 1e3,
        }
    return found


if __name__ == "__main__":
    main()
