"""The same campaign, the same code, on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from alflow.campaign.launch import run_campaign
from alflow.store import Store

from .toys import toy


@pytest.mark.slow
def test_a_campaign_runs_on_postgresql(tmp_path: Path, postgres_target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first event to the last, with the files of the campaign in the folder one stands in."""
    monkeypatch.chdir(tmp_path)
    ended = run_campaign(toy(tmp_path, database=postgres_target))
    assert ended.state.phase == "finished"
    with Store.open(postgres_target, read_only=True) as store:
        campaign = store.campaign("toy")
        assert campaign.state == "finished"
        assert campaign.holder is None
        labels = list(store.labels(campaign.id))
        assert len(labels) == len({label.key for label in labels}) == ended.state.n_done
        assert [event.seq for event in store.events(campaign.id)] == list(
            range(1, 1 + sum(1 for _ in store.events(campaign.id)))
        )
        assert all(row.ended_at is not None for row in store.executions(campaign.id))
    assert ended.committee is not None
    assert ended.committee.is_file()
    assert ended.folder == tmp_path / "toy.alflow"
