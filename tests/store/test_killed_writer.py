"""A committed label survives the sudden death of the process that wrote it."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from alflow.store import CampaignRecord, Store

from .write_until_killed import label_of

PROGRAM = Path(__file__).with_name("write_until_killed.py")
KILLS = 4


def test_killing_the_writer_again_and_again_loses_nothing(target: str) -> None:
    with Store.open(target, create=True) as store:
        campaign = store.create_campaign("water", {}, seed=1)
        dice = random.Random(7)
        printed: list[int] = []
        for _ in range(KILLS):
            started = time.monotonic()
            printed += write_and_kill(target, first=len(printed), after_s=dice.uniform(0.05, 0.4))
            assert time.monotonic() - started < 60.0  # the dead holder was not waited for: its ttl is 300 s
            printed = check(store, campaign, printed)
    assert len(printed) > KILLS
    if "://" not in target:
        connection = sqlite3.connect(target)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.close()


def write_and_kill(target: str, first: int, after_s: float) -> list[int]:
    line = [sys.executable, str(PROGRAM), target, str(first)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = [int(process.stdout.readline())]  # it is at work
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)
        seen += [int(text) for text in process.stdout.read().splitlines()]
    return seen


def check(store: Store, campaign: CampaignRecord, printed: list[int]) -> list[int]:
    """Check the store against what was reported; returns all that is in it (one more may be, unreported)."""
    events = list(store.events(campaign.id))
    written = [int(event.payload["number"]) for event in events]
    assert written == list(range(len(written)))
    assert written[: len(printed)] == printed
    assert len(written) - len(printed) <= 1
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    for label in store.labels():
        meant = label_of(round(label.evaluation.energy))
        assert label.structure == meant.structure
        assert label.evaluation.forces.tobytes() == meant.evaluation.forces.tobytes()
    assert sorted(round(label.evaluation.energy) for label in store.labels()) == written
    executions = store.executions(campaign.id, "label")
    assert sum(execution.status == "done" for execution in executions) == len(written)
    assert sum(execution.status == "running" for execution in executions) <= 1
    return written
