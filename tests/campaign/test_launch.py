"""Taking a campaign up again: with the same reference, on whatever machine, and never into another level's labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from alflow.campaign.events import Event, LabelDone
from alflow.campaign.export import export_labels
from alflow.campaign.launch import resume_campaign, run_campaign
from alflow.campaign.state import State
from alflow.domain import Structure
from alflow.errors import ConfigError, StoreError
from alflow.reference import Morse, MorseMolecule

from .toys import WATER_ANG, check_promises, rows, toy


class Interrupted(Exception):
    """Ends an orchestrator in the middle."""


class After:
    """An observer that ends the orchestrator after so many labels."""

    def __init__(self, labels: int) -> None:
        self.left = labels

    def seen(self, state: State, event: Event | None) -> None:
        self.left -= isinstance(event, LabelDone)
        if self.left <= 0:
            raise Interrupted


def own_reference() -> MorseMolecule:
    return MorseMolecule.around(Structure.of("OHH", WATER_ANG), depth_ev=5.0)


def test_a_campaign_is_not_resumed_with_another_reference(tmp_path: Path) -> None:
    """Its labels would be of two levels of theory; the refusal changes nothing."""
    config = toy(tmp_path)
    with pytest.raises(Interrupted):
        run_campaign(config, own_reference(), [After(3)])
    before = rows(config.database, "SELECT count(*) FROM events")
    for attempt in (lambda: resume_campaign(config.database), lambda: run_campaign(config, Morse())):
        with pytest.raises(ConfigError, match="another level of theory"):
            attempt()
    assert rows(config.database, "SELECT count(*) FROM events") == before
    assert resume_campaign(config.database, reference=own_reference()).state.phase == "finished"
    check_promises(config.database)


def test_a_campaign_goes_on_with_fewer_cores_or_another_executor(tmp_path: Path) -> None:
    """Where it runs is not what it is."""
    with pytest.raises(Interrupted):
        run_campaign(toy(tmp_path, cores=1), observers=[After(3)])
    assert run_campaign(toy(tmp_path)).state.phase == "finished"


def test_an_export_holds_one_campaign(tmp_path: Path) -> None:
    """Two campaigns in one database have two levels; which one is meant must be said."""
    config = toy(tmp_path)
    run_campaign(config)
    run_campaign(toy(tmp_path, name="other"), own_reference())
    with pytest.raises(StoreError, match="other"):
        export_labels(config.database, None, tmp_path / "all.xyz")
    assert export_labels(config.database, "other", tmp_path / "one.xyz") == 14
