"""A label that was finished and never handed over is kept, even if by then nobody wants it any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alflow.campaign.config import CampaignConfig
from alflow.campaign.events import Event
from alflow.campaign.launch import resume_campaign, run_campaign
from alflow.campaign.site import folder_of
from alflow.campaign.state import State
from alflow.campaign.teacher import make_reference
from alflow.domain import Evaluation
from alflow.reference.spool import write_spooled
from alflow.store import Store

from .test_journal import DyingExecutor, PowerCut
from .test_seen_again import Stuck
from .toys import broken_promises, check_promises, journal, rows, toy, write

NOTHING: Mapping[str, Any] = {}
GRAINY = {"spot_check": {"finer_grid_force_change_ev_ang": 0.5}}
DROPPED = "SELECT structure_id FROM label_jobs WHERE state = 'dropped' ORDER BY structure_id"
MADE_BY_NOBODY = "SELECT structure_id FROM labels WHERE execution_key IS NULL ORDER BY structure_id"


def finish(config: CampaignConfig, structure_id: str, diagnostics: Mapping[str, Any] = NOTHING) -> None:
    """Leave a finished label behind, as a worker does that nobody hears of any more."""
    reference = make_reference(config.reference)
    with Store.open(config.database, read_only=True) as store:
        evaluation = reference.evaluate(store.structure(structure_id))
        spool = folder_of(store.campaign(), config.database) / "spool"
    assert isinstance(evaluation, Evaluation)
    evaluation = replace(evaluation, diagnostics=diagnostics)
    write_spooled(spool, structure_id, reference.level.id, evaluation, {"wall_s": 1.0, "host": "there"})


class Survivors:
    """Workers that outlive their scheduler: they finish what waits again, just before the campaign ends."""

    def __init__(self, config: CampaignConfig) -> None:
        self.config = config
        self.finished: set[str] = set()

    def seen(self, state: State, event: Event | None) -> None:
        if event is None or state.phase != "closing":
            return
        for request in state.queue:
            if request.structure_id not in self.finished:
                finish(self.config, request.structure_id)
                self.finished.add(request.structure_id)


def test_a_finished_label_is_kept_though_its_request_was_dropped_or_came_to_its_end(tmp_path: Path) -> None:
    config = toy(tmp_path, label_budget=6, audit_fraction=0.0)
    survivors = Survivors(config)
    run_campaign(config, executor=Stuck(), observers=[survivors])
    check_promises(config.database)
    dropped = [row[0] for row in rows(config.database, DROPPED)]
    assert dropped
    assert sorted(survivors.finished) == dropped
    assert [row[0] for row in rows(config.database, MADE_BY_NOBODY)] == dropped

    one = dropped[0]
    write(
        config.database, f"DELETE FROM labels WHERE structure_id = '{one}'"
    )  # as if its worker had not been ready yet
    finish(config, one)
    assert broken_promises(config.database) == {}
    before = journal(config.database)
    assert run_campaign(config).state.phase == "finished"
    check_promises(config.database)
    assert [row[0] for row in rows(config.database, MADE_BY_NOBODY)] == dropped
    assert journal(config.database) == before


def test_a_label_of_a_dead_orchestrator_is_not_learnt_from_if_its_grid_is_in_doubt(
    tmp_path: Path, database: str
) -> None:
    config = toy(tmp_path, database=database)
    with pytest.raises(PowerCut):
        run_campaign(config, executor=DyingExecutor(0))
    in_flight = rows(database, "SELECT structure_id FROM label_jobs WHERE state = 'running'")[0][0]
    finish(config, in_flight, GRAINY)
    with pytest.raises(PowerCut):
        resume_campaign(database, executor=DyingExecutor(0))
    told = "SELECT structure_id, state, failure_kind FROM label_jobs WHERE state NOT IN ('pending', 'running')"
    assert rows(database, told) == [(in_flight, "quarantined", "REJECTED")]
    assert rows(database, "SELECT structure_id FROM labels") == [(in_flight,)], "what was paid for is kept"
    kinds = [kind for _, kind, _ in journal(database)]
    assert kinds[-2:] == ["label_failed", "campaign_resumed"]
    assert broken_promises(database) == {}
