"""Two orchestrators for one campaign, one that sleeps while another takes over, and clocks that jump."""

from __future__ import annotations

import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from alflow.campaign.events import Event
from alflow.campaign.launch import resume_campaign, run_campaign
from alflow.campaign.state import State
from alflow.errors import CampaignLocked
from alflow.reports.timesplit import split_time
from alflow.store import Holder, Lease, Store
from alflow.store.location import is_server
from tests.campaign.toys import broken_promises, check_promises, labels, rows, toy, toy_file

from .processes import start, wait_until_nothing_is_left
from .test_kill import wait_for_events

TTL_S = 2.0


def test_of_two_commands_at_once_one_runs_and_the_other_names_it(tmp_path: Path, database: str) -> None:
    file = toy_file(tmp_path, delay_s=0.3, database=database)
    both = [start(tmp_path, "run", str(file)) for _ in range(2)]
    ended = sorted((process.wait(timeout=120), process.pid) for process in both)
    said = (tmp_path / "output.txt").read_text()
    assert [code for code, _ in ended] == [0, 2], said
    assert f"is driven by {socket.gethostname()}:{ended[0][1]}" in said
    wait_until_nothing_is_left(tmp_path)
    check_promises(database)
    assert rows(database, "SELECT count(*) FROM events WHERE kind = 'campaign_started'") == [(1,)]
    assert rows(database, "SELECT count(*), count(DISTINCT subject) FROM executions WHERE kind = 'label'") == [(14, 14)]


def test_an_orchestrator_that_slept_is_fenced_by_its_first_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    """Seen from another machine it may be dead: its beat stands still. When it wakes up, the campaign is another's."""
    sleeper = start(tmp_path, "run", str(toy_file(tmp_path, delay_s=0.3, database=database)))
    assert wait_for_events(sleeper, database, 5), (tmp_path / "output.txt").read_text()
    _suspend_between_writes(sleeper.pid, database)
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    monkeypatch.setattr(Store, "acquire", _impatient(Store.acquire))
    began = time.monotonic()
    assert resume_campaign(database).state.phase == "finished"
    assert time.monotonic() - began > TTL_S, "a silent holder is watched before it counts as dead"
    before = rows(database, "SELECT * FROM events ORDER BY seq"), labels(database)

    sleeper.send_signal(signal.SIGCONT)
    assert sleeper.wait(timeout=60) == 2
    wait_until_nothing_is_left(tmp_path)
    said = (tmp_path / "output.txt").read_text()
    assert f":{sleeper.pid} no longer drives campaign 1: its lease (epoch 1) was released or taken over." in said
    assert "Nothing was written; this process must stop." in said
    assert "Traceback" not in said
    assert (rows(database, "SELECT * FROM events ORDER BY seq"), labels(database)) == before
    assert broken_promises(database) == {}
    assert rows(database, "SELECT state, holder FROM campaigns") == [("finished", None)]
    twice = (
        "SELECT subject FROM executions WHERE kind = 'label' AND status = 'done' GROUP BY subject HAVING count(*) > 1"
    )
    assert rows(database, twice) == []


def _suspend_between_writes(pid: int, database: str) -> None:
    """Halt a process while it holds no lock; one that slept inside of a transaction would only be waited for."""
    process = psutil.Process(pid)
    for _ in range(50):
        process.suspend()
        if not _is_being_written(database):
            return
        process.resume()
        time.sleep(0.05)
    raise AssertionError("the orchestrator never stopped writing")


def _is_being_written(database: str) -> bool:
    if is_server(database):
        others = "datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
        time.sleep(0.05)  # what was sent before the halt is still carried out
        return bool(rows(database, f"SELECT pid FROM pg_stat_activity WHERE {others}"))
    with closing(sqlite3.connect(database, timeout=0.1, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False


def _impatient(acquire: Callable[..., Lease]) -> Callable[..., Lease]:
    """The same, with less time for a silent holder to show itself."""

    def take(store: Store, campaign_id: int, holder: Holder) -> Lease:
        return acquire(store, campaign_id, holder, ttl_s=TTL_S)

    return take


class Jumping:
    """A clock of the day that somebody sets, by an hour forth or back, at every event."""

    def __init__(self) -> None:
        self.true, self.off, self.events = time.time, 0.0, 0

    def time(self) -> float:
        return self.true() + self.off

    def seen(self, state: State, event: Event | None) -> None:
        if event is not None:
            self.events += 1
            self.off = 3600.0 * (-1) ** self.events


def test_a_clock_that_jumps_by_hours_changes_no_label_and_no_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    (tmp_path / "undisturbed").mkdir()
    undisturbed = toy(tmp_path / "undisturbed")
    run_campaign(undisturbed)
    config, clock = toy(tmp_path, database=database), Jumping()

    refused: list[str] = []

    def challenge() -> None:
        with Store.open(config.database) as store, pytest.raises(CampaignLocked) as why:
            store.acquire(1, Holder("elsewhere", 1, "another-boot:pid:1"), ttl_s=20.0)
        refused.append(str(why.value))

    challenger = threading.Thread(target=challenge)

    class Challenging:
        """Somebody elsewhere, whose clock jumps too, would like to have the campaign."""

        def seen(self, state: State, event: Event | None) -> None:
            if state.n_done == 1 and challenger.ident is None:
                challenger.start()
            elif challenger.ident is not None and event is not None:
                challenger.join(0.5)  # it has its turn before the campaign ends, and sees a beat with every event

    class Calendar(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Calendar:
            return super().now(tz) + timedelta(seconds=clock.off)

    with monkeypatch.context() as clocks:  # the folder that the fixture went into stays
        clocks.setattr(time, "time", clock.time)
        clocks.setattr("alflow.store.records.datetime", Calendar)
        assert run_campaign(config, observers=[clock, Challenging()]).state.phase == "finished"
        challenger.join()
    assert clock.events > 20
    assert len(refused) == 1
    assert "which is alive" in refused[0]
    check_promises(config.database)
    assert labels(config.database) == labels(undisturbed.database)
    assert rows(config.database, "SELECT epoch FROM campaigns") == rows(
        undisturbed.database, "SELECT epoch FROM campaigns"
    )
    walls = rows(config.database, "SELECT wall_s FROM executions WHERE wall_s < 0 OR wall_s > 600")
    assert walls == [], "how long a task took is no difference of two times of day"
    with Store.open(config.database, read_only=True) as store:
        events, executions = list(store.events(1)), store.executions(1)
    moments = [event.recorded_at for event in events]
    assert min(later - sooner for sooner, later in pairwise(moments)) < timedelta(minutes=-50), "they did jump"
    split = split_time(executions, events)
    assert all(seconds >= 0 for seconds in (split.elapsed_s, split.available_s, *split.busy_s.values()))
