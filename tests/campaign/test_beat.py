"""An orchestrator that starts slowly is seen to live from the moment at which it has the campaign."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alflow.campaign import launch
from alflow.campaign.bookmark import Bookmark
from alflow.campaign.launch import resume_campaign, run_campaign
from alflow.errors import Unavailable
from alflow.store import Lease, Store

from .test_journal import DyingExecutor, PowerCut
from .toys import rows, toy


def test_the_lease_is_beaten_while_workers_start_and_the_journal_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    with pytest.raises(PowerCut):
        run_campaign(toy(tmp_path, database=database), executor=DyingExecutor(0))
    beats: dict[str, int] = {}

    def slowly(name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def wait_then_act(*given: Any) -> Any:
            before = rows(database, "SELECT beat FROM campaigns")[0][0]
            deadline = time.monotonic() + 10.0
            while not beats.get(name) and time.monotonic() < deadline:
                time.sleep(0.05)
                beats[name] = rows(database, "SELECT beat FROM campaigns")[0][0] - before
            return act(*given)

        return wait_then_act

    monkeypatch.setattr(launch, "BEAT_S", 0.1)
    monkeypatch.setattr(launch, "_workers", slowly("workers", lambda *given: DyingExecutor(0)))
    monkeypatch.setattr(Bookmark, "replay", slowly("journal", Bookmark.replay))
    with pytest.raises(PowerCut):
        resume_campaign(database)
    assert beats["workers"] > 0
    assert beats["journal"] > 0


def test_a_database_that_was_away_hears_the_beat_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    beat = Store.beat

    def away_at_first(store: Store, lease: Lease) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise Unavailable("the server is away")
        beat(store, lease)

    def wait(*given: Any) -> Any:
        deadline = time.monotonic() + 10.0
        while asked < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        return DyingExecutor(0)

    monkeypatch.setattr(launch, "BEAT_S", 0.1)
    monkeypatch.setattr(launch, "_workers", wait)
    monkeypatch.setattr(Store, "beat", away_at_first)
    with pytest.raises(PowerCut):
        run_campaign(toy(tmp_path))
    assert asked >= 3
