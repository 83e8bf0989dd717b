"""The command that shows the page from the database says what it cannot do."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from alflow.errors import ConfigError, StoreError
from alflow.reports import feed
from alflow.reports.dashboard import serve
from alflow.reports.feed import Feed
from alflow.store import Store


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with Store.open(tmp_path / "one.db", create=True) as store:
        store.create_campaign("water", {}, seed=1)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            ConfigError, match=rf"--port {port}: .* cannot be used .another program listens there\); choose another"
        ):
            serve(Console(), str(tmp_path / "one.db"), None, port)


def test_no_database_and_no_campaign_are_told_before_anything_is_served(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.db"):
        serve(Console(), str(tmp_path / "none.db"), None, 0)
    with Store.open(tmp_path / "two.db", create=True) as store:
        store.create_campaign("water", {}, seed=1)
        store.create_campaign("silicon", {}, seed=1)
    with pytest.raises(StoreError, match="name one of them: silicon, water"):
        serve(Console(), str(tmp_path / "two.db"), None, 0)


def test_a_database_that_is_replaced_is_shown_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "EVERY_S", 0.05)
    home, seen = tmp_path / "one.db", list[str]()

    class Wall:
        def post(self, campaign: str, name: str, *rest: Any) -> tuple[str, ...]:
            seen.append(name)
            return ()

    def wait_for(name: str) -> None:
        deadline = time.monotonic() + 20
        while name not in seen and time.monotonic() < deadline:
            time.sleep(0.02)
        assert name in seen

    with Store.open(home, create=True) as store:
        store.create_campaign("water", {}, seed=1)
    shown = Feed(str(home), None, Wall()).start()
    wait_for("water")
    for file in tmp_path.glob("one.db*"):
        file.unlink()
    with Store.open(home, create=True) as store:
        store.create_campaign("silicon", {}, seed=1)
    wait_for("silicon")
    shown.close()
