"""The page in Dask's dashboard, where much is missing, and when something about it fails (F20)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from alflow.campaign.executors import InlineExecutor
from alflow.campaign.executors.dask.page import SchedulerBoard
from alflow.campaign.launch import run_campaign
from alflow.reports.feed import Feed

from .toys import check_promises, toy


def until(reached: Callable[[], Any], what: str, within_s: float = 60) -> Any:
    """Wait for something true, and return it."""
    deadline = time.monotonic() + within_s
    while not (found := reached()):
        assert time.monotonic() < deadline, f"{what}: not within {within_s:g} s"
        time.sleep(0.1)
    return found


def fetched(address: str) -> Any:
    """JSON, or the text, at an address; None while nobody answers."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            body = answer.read()
    except OSError:
        return None
    return json.loads(body) if address.partition("?")[0].endswith(".json") else body.decode()


class Nowhere:
    """A place that takes nothing."""

    def __init__(self) -> None:
        self.tried = 0

    def post(
        self,
        campaign: str,
        name: str,
        snapshot: bytes,
        ended: bool,
        stale_since_s: float | None = None,
        answers: Mapping[str, bytes] | None = None,
    ) -> list[str]:
        self.tried += 1
        raise RuntimeError("the page is broken")


def test_a_campaign_whose_page_fails_at_every_snapshot_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, executor, nowhere = toy(tmp_path), InlineExecutor(1), Nowhere()
    executor.board = nowhere  # type: ignore[assignment]
    with caplog.at_level("INFO", "alflow"):
        assert run_campaign(config, executor=executor).state.phase == "finished"
    assert nowhere.tried >= 1
    assert caplog.text.count("the page is broken") == 1, "it is said once"
    check_promises(config.database)


class FakeWorkers:
    """The connection that a page needs, and no workers."""

    def __init__(self, client: Client) -> None:
        self.client, self.session = client, 1


def test_the_page_comes_to_a_scheduler_without_alflow_and_without_bokeh_and_grows_stale(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("alflow", "bokeh"):
        (bare / f"{name}.py").write_text(f"raise ImportError('{name} is not installed here')\n")
    config = toy(tmp_path)
    run_campaign(config)
    with scheduler(tmp_path / "elsewhere", bare) as address, Client(address) as client:
        for name in ("alflow", "bokeh"):
            with pytest.raises(ImportError, match="is not installed here"):
                client.run_on_scheduler(import_module, name)
        served = client.scheduler_info(n_workers=0)["services"]["dashboard"]
        page = f"http://127.0.0.1:{served}/lab/alflow"
        assert fetched(page) is None
        place = SchedulerBoard(FakeWorkers(client), 5.0)  # type: ignore[arg-type]
        place.post("u1", "water", b'{"made": "up"}', ended=False)
        assert "<title>alflow</title>" in fetched(page)
        told = fetched(f"{page}/api/status.json")
        assert (told["snapshot"], told["stale_since_unix_s"]) == ({"made": "up"}, None)
        until(lambda: fetched(f"{page}/api/status.json")["stale_since_unix_s"], "stale", 60)
        feed = Feed(config.database, None, place).start()
        asked = f"{page}/api/answer.json?question=walker:1"
        uuid = until(lambda: [c for c in fetched(f"{page}/api/status.json")["campaigns"] if c["name"] == "toy"], "toy")
        told = until(lambda: fetched(f"{asked}&campaign={uuid[0]['uuid']}").get("title"), "an answer", 60)
        feed.close()
        assert told == "Walker 1"


@contextmanager
def scheduler(folder: Path, paths: Path) -> Iterator[str]:
    """A scheduler that finds other modules than we do; its address."""
    folder.mkdir()
    file, log = folder / "scheduler.json", folder / "output.txt"
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "distributed.cli.dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ]
    command += [
        "--dashboard-address",
        "127.0.0.1:0",
        "--no-jupyter",
        "--dashboard-prefix",
        "lab",
        "--scheduler-file",
        str(file),
    ]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | {"PYTHONPATH": str(paths)}, stdout=output, stderr=output
        )
    try:
        until(lambda: process.poll() is not None or (file.exists() and file.read_text()), "a scheduler")
        yield json.loads(file.read_text())["address"]
    finally:
        process.kill()
        process.wait(timeout=20)
