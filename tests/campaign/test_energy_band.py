"""A label on another electronic state is kept, shown, and never learnt from."""

from __future__ import annotations

from pathlib import Path

import pytest

from alflow.campaign.launch import run_campaign
from alflow.reports.summary import summarize
from alflow.store import Store

from .references import Jumping, is_long
from .toys import Enough, UntilLearntAfter, rows, toy


def test_labels_on_another_state_are_stored_and_not_learnt_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    monkeypatch.setattr("alflow.selection.energy_band.FEWEST", 3)
    config = toy(tmp_path, label_budget=24, database=database)
    with pytest.raises(Enough):
        run_campaign(config, Jumping(), [UntilLearntAfter(2)])
    told = "SELECT structure_id, failure_message FROM label_jobs WHERE failure_kind = 'REJECTED' ORDER BY event_seq"
    refused = dict(rows(config.database, told))
    assert refused, "some frames were flagged on the higher state"
    with Store.open(config.database, read_only=True) as store:
        assert all(is_long(store.structure(identity)) for identity in refused), "and no sound label is refused"
        assert {job.structure_id for job in summarize(store, store.campaign()).given_up} == set(refused)
    assert all("above the committee" in message and "not learnt from" in message for message in refused.values())
    stored = {identity for (identity,) in rows(config.database, "SELECT structure_id FROM labels")}
    assert set(refused) <= stored, "what was paid for is kept"
    learnt = {identity for (identity,) in rows(config.database, "SELECT structure_id FROM dataset_members")}
    assert not learnt & set(refused)

    again = toy(tmp_path, label_budget=24, name="again", database=database)
    with pytest.raises(Enough):
        run_campaign(again, Jumping(), [UntilLearntAfter(2)])
    told = "SELECT structure_id FROM label_jobs WHERE failure_kind = 'REJECTED' AND campaign_id = 2"
    met = {identity for (identity,) in rows(again.database, told)} & set(refused)
    assert met, "the same walkers meet the same labels"
    executed = "SELECT count(*) FROM executions WHERE campaign_id = 2 AND wall_s IS NULL AND status = 'done'"
    assert rows(again.database, executed)[0][0] > 0, "which are found, not computed again"
    learnt = {identity for (identity,) in rows(again.database, "SELECT structure_id FROM dataset_members")}
    assert not learnt & met


def test_an_audit_counts_however_far_the_committee_was_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left out where it is worst, the error would be estimated too low, and the campaign would end too soon."""
    monkeypatch.setattr("alflow.selection.energy_band.FEWEST", 3)
    config = toy(tmp_path, label_budget=60, audit_minimum=6)
    with pytest.raises(Enough):
        run_campaign(config, Jumping(), [UntilLearntAfter(4)])
    audits = rows(config.database, "SELECT structure_id, state FROM label_jobs WHERE purpose = 'audit'")
    with Store.open(config.database, read_only=True) as store:
        states = [state for identity, state in audits if is_long(store.structure(identity))]
    assert states, "no audit fell on the higher state"
    assert set(states) == {"done"}
