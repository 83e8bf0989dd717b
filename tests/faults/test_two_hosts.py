"""A campaign on one host with workers on another, and the cable between them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from alflow.store.location import is_server
from tests.campaign.test_cluster import LOCAL_HTTP, certificates
from tests.campaign.toys import broken_promises, rows, rows_so_far, toy_file
from tests.postgresql import address, open_to_all

from .processes import ALFLOW, is_label_worker
from .two_hosts import Host, two_hosts, why_not

ROOT = Path(__file__).parents[2]
PORT = 8786
STOPPED = 0
SILENCE = "12s"
"""After what silence a connection counts as broken; Dask's own are 30 s, and 11 s its least."""


@pytest.mark.slow
def test_a_campaign_goes_on_when_the_cable_to_another_host_is_pulled(tmp_path: Path) -> None:
    """Nobody is told that packets vanish: no process dies, no connection is closed.

    The other host has no view of the campaign's folder: weights come to it, and labels from it, over the cable.
    """
    if reason := why_not():
        pytest.skip(reason)
    home = tmp_path / "campaign"
    home.mkdir()
    database, tls = address(home / "toy.db"), certificates(tmp_path)
    with ExitStack() as stack:
        if is_server(database):
            stack.enter_context(open_to_all(database))
        west, east = stack.enter_context(two_hosts())
        east.hide(home)
        scheduler = dask(west, tls, "scheduler", "--host", west.address, "--port", str(PORT), "--protocol", "tls")
        stack.enter_context(running([*scheduler, "--no-jupyter"], tmp_path / "output.txt"))
        stack.enter_context(worker(west, west, "west", "label=1 explore=1 train=1", tmp_path, tls))
        stack.enter_context(worker(east, west, "east", "label=1", tmp_path, tls))
        file = toy_file(
            home, delay_s=2.0, executor="dask", label_budget=500,
            cluster={"address": f"tls://{west.address}:{PORT}", "security": tls, "wait_s": 60},
        )  # fmt: skip
        campaign = stack.enter_context(running(west.command(str(ALFLOW), "run", str(file)), tmp_path / "campaign.txt"))
        wait_until(lambda: done("label", east, database) >= 1 and labels_now(east), tmp_path)
        pulled = time.monotonic()
        east.unplug()
        wait_until(lambda: bool(rows(database, "SELECT 1 FROM events WHERE kind = 'task_lost'")), tmp_path)
        print(f"the pulled cable was in the journal after {time.monotonic() - pulled:.0f} s")
        ((lost,),) = rows(database, "SELECT id FROM label_jobs WHERE n_lost > 0")
        state = f"SELECT state, attempts, n_lost FROM label_jobs WHERE id = '{lost}'"
        wait_until(lambda: rows(database, state) == [("done", 1, 1)], tmp_path)  # no attempt is charged
        east.plug()
        stack.enter_context(worker(east, west, "east", "label=1 explore=1", tmp_path, tls))
        made = done("label", east, database)
        wait_until(lambda: done("label", east, database) > made and done("explore", east, database) > 0, tmp_path)
        campaign.send_signal(signal.SIGINT)
        assert campaign.wait(timeout=60) == STOPPED, (tmp_path / "campaign.txt").read_text()
    assert broken_promises(database) == {}
    ended = rows(database, "SELECT kind, failure_kind FROM executions WHERE status IN ('lost', 'failed')")
    assert ended == [("label", "WORKER_LOST")]


def done(kind: str, host: Host, database: str) -> int:
    """How many tasks of a kind a host has ended that are committed."""
    query = f"SELECT count(*) FROM executions WHERE kind = '{kind}' AND status = 'done' AND host = '{host.name}'"
    return sum(count for (count,) in rows_so_far(database, query))


def labels_now(host: Host) -> bool:
    """Whether a label is being computed there."""
    mine = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.readlink(f"/proc/{process.pid}/ns/net") == os.readlink(f"/proc/{host.anchor.pid}/ns/net"):
                mine.append(process)
    return any(is_label_worker(process) for process in mine)


@contextmanager
def running(command: list[str], output: Path, home: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process, until this ends."""
    own = {"OMP_NUM_THREADS": "1", "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": SILENCE}
    if home:
        own["TMPDIR"] = str(home)
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with output.open("a") as told:
        process = subprocess.Popen(
            command, cwd=home or output.parent, env=os.environ | own | paths, stdout=told, stderr=told
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=20)


def dask(host: Host, tls: dict[str, str], kind: str, *words: str) -> list[str]:
    """What starts a scheduler or a worker on a host, known by a certificate."""
    flags = ("--tls-ca-file", tls["ca"], "--tls-cert", tls["cert"], "--tls-key", tls["key"])
    python = (sys.executable, "-W", "ignore", "-m", f"distributed.cli.dask_{kind}")
    return host.command(*python, *words, "--no-dashboard", *LOCAL_HTTP, *flags)


def worker(
    host: Host, scheduler: Host, name: str, resources: str, folder: Path, tls: dict[str, str]
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """A worker with a folder of its own, which a later one of the same name finds again."""
    home = folder / name
    home.mkdir(exist_ok=True)
    where = (f"tls://{scheduler.address}:{PORT}", "--host", host.address, "--local-directory", str(home))
    given = ("--name", f"{name}-{time.monotonic_ns()}", "--resources", resources, "--nthreads", "1", "--no-nanny")
    return running(dask(host, tls, "worker", *where, *given), folder / "output.txt", home)


def wait_until(true: Callable[[], bool], folder: Path, at_most_s: float = 120.0) -> None:
    """Wait for something, and tell what the processes said if it does not come about."""
    ends = time.monotonic() + at_most_s
    while not true():
        told = [path.read_text()[-3000:] for path in (folder / "campaign.txt", folder / "output.txt") if path.exists()]
        assert time.monotonic() < ends, "\n".join(["it did not come about", *told])
        time.sleep(0.2)
