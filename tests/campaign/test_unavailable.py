"""The database goes away while a campaign runs: it waits, and goes on or pauses; nothing is lost or doubled."""

from __future__ import annotations

import logging
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event

from alflow.campaign import launch
from alflow.campaign.events import Event
from alflow.campaign.executors import Executor
from alflow.campaign.launch import resume_campaign, run_campaign
from alflow.campaign.runner import Runner
from alflow.campaign.site import PATIENCE_S
from alflow.campaign.state import State
from alflow.cli import main
from alflow.errors import CampaignPaused, StoreError
from alflow.store import Store
from tests.postgresql import Server, emptied

from .test_journal import CutAfter, PowerCut
from .toys import broken_promises, check_promises, labels, rows, toy, write


class At:
    """An observer that does something after some events."""

    def __init__(self, events: int, act: Callable[[], None]) -> None:
        self.left, self.act = events, act

    def seen(self, state: State, event: Event | None) -> None:
        if event is not None:
            self.left -= 1
            if self.left == 0:
                self.act()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Database of a campaign that nobody disturbed."""
    config = toy(folder := tmp_path_factory.mktemp("whole"))
    with chdir(folder):
        run_campaign(config)
    return config.database


@pytest.fixture
def server(postgres_server: Server, postgres: str) -> Iterator[Server]:
    """A server with an empty database; it runs again after the test."""
    emptied(postgres)
    yield postgres_server
    postgres_server.start()


def test_a_campaign_goes_on_when_its_server_comes_back(
    whole: str, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    back = threading.Timer(5.0, server.start)

    def take_away() -> None:
        server.stop_at_once()
        back.start()

    ended = run_campaign(toy(tmp_path, database=server.uri), observers=[At(14, take_away)])
    back.join()
    assert ended.state.phase == "finished"
    assert broken_promises(server.uri) == {}
    with Store.open(server.uri, read_only=True) as store:
        found = sorted(label.key for label in store.labels())
    assert found == [row[:2] for row in labels(whole)]


def test_a_campaign_whose_server_stays_away_pauses_and_is_resumed(
    whole: str, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("alflow.campaign.launch.PATIENCE_S", 1.0)
    began: list[float] = []

    def take_away() -> None:
        server.stop_at_once()
        began.append(time.monotonic())

    with pytest.raises(CampaignPaused, match=r"It stayed so for 1 s, and 'toy' pauses.*: alflow resume postgresql://"):
        run_campaign(toy(tmp_path, database=server.uri), observers=[At(14, take_away)])
    assert time.monotonic() - began[0] < 10.0
    server.start()
    assert broken_promises(server.uri) == {}
    assert resume_campaign(server.uri).state.phase == "finished"
    assert broken_promises(server.uri) == {}
    with Store.open(server.uri, read_only=True) as store:
        assert sorted(label.key for label in store.labels()) == [row[:2] for row in labels(whole)]


@contextmanager
def at_the_server(server: Server) -> Iterator[Callable[[str], None]]:
    """Run statements there, on a connection that is kept and that is itself never ended."""
    with psycopg.connect(server.uri, autocommit=True) as connection:

        def say(statement: str) -> None:
            connection.execute(statement.encode())

        yield say


OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
OTHERS += " AND pid <> pg_backend_pid()"


def test_a_campaign_waits_for_a_server_that_takes_no_writes(
    whole: str, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("alflow"), "propagate", True)
    with at_the_server(server) as say:

        def open_again() -> None:
            say("ALTER DATABASE postgres RESET default_transaction_read_only")
            say(OTHERS)  # who came meanwhile keeps what it was told when it came

        back = threading.Timer(3.0, open_again)

        def take_writes_away() -> None:
            say("ALTER DATABASE postgres SET default_transaction_read_only = on")
            say(OTHERS)
            back.start()

        ended = run_campaign(toy(tmp_path, database=server.uri), observers=[At(14, take_writes_away)])
        back.join()
    assert ended.state.phase == "finished"
    assert "the server takes no writes at present" in caplog.text
    check_promises(server.uri)
    with Store.open(server.uri, read_only=True) as store:
        assert sorted(label.key for label in store.labels()) == [row[:2] for row in labels(whole)]


def test_a_campaign_goes_on_when_the_standby_that_answers_takes_over(
    whole: str, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The address of a server answers from its standby at once; writing is possible only when that is promoted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("alflow"), "propagate", True)

    def switch_over() -> None:
        server.stop_at_once()
        server.start_as_standby()
        back.start()

    back = threading.Timer(2.0, server.promote)
    ended = run_campaign(toy(tmp_path, database=server.uri), observers=[At(14, switch_over)])
    back.join()
    assert ended.state.phase == "finished"
    assert "the server takes no writes at present" in caplog.text
    check_promises(server.uri)
    with Store.open(server.uri, read_only=True) as store:
        assert sorted(label.key for label in store.labels()) == [row[:2] for row in labels(whole)]


def test_a_server_that_restarts_has_more_than_a_minute() -> None:
    """The tests here wait for less; a campaign does not."""
    assert PATIENCE_S >= 60.0


@contextmanager
def locked(database: str) -> Iterator[None]:
    """Hold the write lock of a file, as a program of the user's might."""
    with closing(sqlite3.connect(database, timeout=30, isolation_level=None, check_same_thread=False)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        yield
        foreign.execute("ROLLBACK")


@pytest.mark.sqlite_only("another program locks the file")
def test_a_foreign_writer_is_waited_for(whole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alflow.store.opening._BUSY_TIMEOUT_S", 0.05)
    config = toy(tmp_path)
    held = threading.Event()

    def hold() -> None:
        with locked(config.database):
            held.set()
            time.sleep(1.5)

    foreign = threading.Thread(target=hold)

    def lock() -> None:
        foreign.start()
        held.wait()

    assert run_campaign(config, observers=[At(9, lock)]).state.phase == "finished"
    foreign.join()
    check_promises(config.database)
    assert labels(config.database) == labels(whole)


@pytest.mark.sqlite_only("another program locks the file")
def test_a_foreign_writer_that_never_ends_pauses_the_campaign_with_exit_code_75(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("alflow.store.opening._BUSY_TIMEOUT_S", 0.05)
    monkeypatch.setattr("alflow.campaign.launch.PATIENCE_S", 0.5)
    config = toy(tmp_path)
    with pytest.raises(PowerCut):
        run_campaign(config, observers=[CutAfter(6)])
    run = Runner.run

    def run_locked(runner: Runner, begun: Callable[[], None]) -> State:
        with locked(config.database):
            return run(runner, begun)

    monkeypatch.setattr(Runner, "run", run_locked)
    monkeypatch.setattr(sys, "argv", ["alflow", "resume", config.database])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 75
    assert f"As soon as the database can be used again: alflow resume {config.database} toy" in capsys.readouterr().err
    monkeypatch.setattr(Runner, "run", run)
    assert resume_campaign(config.database).state.phase == "finished"
    check_promises(config.database)


@pytest.mark.sqlite_only("another program locks the file")
def test_a_campaign_that_cannot_be_given_back_pauses_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database goes away when all is done but that."""
    monkeypatch.setattr("alflow.store.opening._BUSY_TIMEOUT_S", 0.05)
    monkeypatch.setattr("alflow.campaign.launch.PATIENCE_S", 0.5)
    monkeypatch.setattr("alflow.campaign.runner.BEAT_S", 0.0)
    config = toy(tmp_path)
    close, held = launch._close, ExitStack()

    def close_and_lock(workers: Executor | None) -> None:
        close(workers)
        held.enter_context(locked(config.database))

    def stop() -> None:
        with Store.open(config.database) as store:
            store.request_stop(1)

    monkeypatch.setattr(launch, "_close", close_and_lock)
    with held, pytest.raises(CampaignPaused, match="can be used again: alflow resume"):
        run_campaign(config, observers=[At(2, stop)])
    assert rows(config.database, "SELECT state FROM campaigns") == [("stopped",)]
    assert broken_promises(config.database) == {}


def test_a_journal_that_lost_events_is_noticed_at_the_next_one(tmp_path: Path) -> None:
    config = toy(tmp_path)

    def lose() -> None:
        write(config.database, "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)")

    with pytest.raises(StoreError, match="ends at event 3, and this process knows 4"):
        run_campaign(config, observers=[At(4, lose)])
    assert rows(config.database, "SELECT max(seq) FROM events") == [(3,)]


@contextmanager
def disk_of(pages: int) -> Iterator[None]:
    """No SQLite file grows beyond so many pages."""

    def limit(connection: Any, record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(Engine, "connect", limit)
    try:
        yield
    finally:
        event.remove(Engine, "connect", limit)


@pytest.mark.sqlite_only("its max_page_count stands for the full disk")
def test_a_full_disk_pauses_the_campaign_and_damages_nothing(
    whole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alflow.campaign.launch.PATIENCE_S", 0.3)
    config = toy(tmp_path)
    with pytest.raises(PowerCut):
        run_campaign(config, observers=[CutAfter(9)])
    for more in (1, 3, 6):
        pages = rows(config.database, "PRAGMA page_count")[0][0]
        with disk_of(pages + more), pytest.raises(CampaignPaused, match="the disk is full"):
            resume_campaign(config.database)
        assert broken_promises(config.database) == {}
        assert rows(config.database, "SELECT holder FROM campaigns") == [(None,)]
    assert resume_campaign(config.database).state.phase == "finished"
    check_promises(config.database)
    assert labels(config.database) == labels(whole)
