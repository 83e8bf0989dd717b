"""A network to PostgreSQL that swallows everything is noticed, and a forgotten transaction holds no lock for long."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from alflow.errors import Unavailable
from alflow.store import Holder, Store, Transaction

SETTINGS = ("synchronous_commit", "idle_in_transaction_session_timeout", "lock_timeout")
FOR_CLIENT = {"keepalives": "1", "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "4"}


def shown(store: Store, *names: str) -> list[str]:
    with store._engine.connect() as connection:
        return [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]


def test_a_connection_keeps_its_promises_on_disk_and_forgets_no_lock(postgres_target: str) -> None:
    with psycopg.connect(postgres_target, autocommit=True) as other:
        name = other.execute("SELECT current_database()").fetchone()
        assert name is not None
        other.execute(f"ALTER DATABASE {name[0]} SET synchronous_commit = off".encode())
    try:
        with Store.open(postgres_target, create=True) as store:
            assert shown(store, *SETTINGS) == ["on", "1min", "30s"]
            with store.snapshot() as moment, moment._reading() as connection:
                idle = connection.exec_driver_sql(f"SHOW {SETTINGS[1]}").scalar_one()
            assert idle == "0", "who reads holds nobody up"
            with store._engine.connect() as connection:
                driver: Any = connection.connection.dbapi_connection
                told = conninfo_to_dict(driver.info.dsn)
        assert told | FOR_CLIENT | {"tcp_user_timeout": "30000"} == told
    finally:
        with psycopg.connect(postgres_target, autocommit=True) as other:
            other.execute(f"ALTER DATABASE {name[0]} RESET synchronous_commit".encode())


class Cable:
    """A way to the server through TCP, which can be blocked: then nothing passes, and nobody is told."""

    def __init__(self, server: Path) -> None:
        self.server, self.blocked = server, threading.Event()
        self.sockets: list[socket.socket] = []
        self.listening = socket.socket()
        self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # what is stuck must not be taken
        self.listening.bind(("127.0.0.1", 0))
        self.listening.listen()
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self.listening.accept()[0]
                far = socket.socket(socket.AF_UNIX)
                far.connect(str(self.server))
                self.sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                while self.blocked.is_set():
                    time.sleep(0.05)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.blocked.clear()
        for each in (self.listening, *self.sockets):
            each.close()


@pytest.fixture
def cable(postgres_target: str) -> Iterator[Cable]:
    folder = Path(str(conninfo_to_dict(postgres_target)["host"]))
    made = Cable(next(folder.glob(".s.PGSQL.?*[0-9]")))
    yield made
    made.close()


def test_a_network_that_swallows_everything_is_noticed_in_time(
    postgres_target: str, cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent and never taken ends the connection. The machine at the other end of the cable here still answers
    keepalives, so a network that is gone altogether is not tried."""
    monkeypatch.setattr("alflow.store.opening._SILENT_S", 2)
    monkeypatch.setattr("alflow.store.opening._CONNECT_TIMEOUT_S", 2)

    def blocked(tx: Transaction) -> None:
        tx.append_event("lost", {})
        cable.blocked.set()
        tx.append_event("lost", {"much": "x" * 20_000_000})  # more than fits into the buffers on the way

    user = conninfo_to_dict(postgres_target)
    target = f"postgresql://{user['user']}@127.0.0.1:{cable.port}/{user['dbname']}"
    with Store.open(target, create=True, patience_s=1.0) as store:
        campaign = store.create_campaign("water", {}, seed=7)
        lease = store.acquire(campaign.id, Holder.current())
        store.write(lease, lambda tx: tx.append_event("before", {}))
        began = time.monotonic()
        with pytest.raises(Unavailable):
            store.write(lease, blocked)
        assert time.monotonic() - began < 30.0
    with Store.open(postgres_target) as store:
        assert [event.kind for event in store.events(campaign.id)] == ["before"]
