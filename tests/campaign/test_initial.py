"""Campaigns that begin with labels that are there, or with a committee that is there."""

from __future__ import annotations

import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from alflow.campaign.commands import ProposeSeeds, PutJob, StartExploring, StartTraining, TakeCommittee, TakeLabels
from alflow.campaign.config import load_config
from alflow.campaign.decide import decide, replay
from alflow.campaign.events import (
    CampaignResumed,
    CampaignStarted,
    CommitteeGiven,
    Event,
    GivenLabel,
    LabelsGiven,
    event_from_payload,
    event_to_payload,
)
from alflow.campaign.executors import InlineExecutor
from alflow.campaign.labelling import label_structures
from alflow.campaign.launch import resume_campaign, run_campaign
from alflow.campaign.site import split_of
from alflow.campaign.state import State
from alflow.cli import app
from alflow.domain import Structure
from alflow.errors import CampaignError, ConfigError
from alflow.exploration import rattle
from alflow.reference.config import Limits, make_reference

from .toys import WATER_ANG, broken_promises, committees, rows, settings, toy
from .world import World, config

WATER = Structure.of("OHH", WATER_ANG)
STARTED = CampaignStarted(config(initial={"labels": True}).model_dump(mode="json"), ("s0",), 2)


def given(n: int, complete: bool = True) -> LabelsGiven:
    frames = tuple(GivenLabel(f"g{i}", f"t{i}", "seed") for i in range(n))
    return LabelsGiven(frames, complete)


def after(*events: Event) -> tuple[State, list[Any]]:
    state, commands = decide(None, events[0])
    for event in events[1:]:
        state, commands = decide(state, event)
    return state, commands


def test_labels_that_are_there_are_trained_on_at_once() -> None:
    assert after(STARTED)[1] == [TakeLabels()]
    state, commands = after(STARTED, given(20))
    assert [c.state for c in commands if isinstance(c, PutJob)] == ["done"] * 20
    assert [type(c) for c in commands[20:]] == [StartTraining]
    assert (state.phase, state.n_done, state.n_train, state.n_audit, state.n_spent) == ("running", 20, 20, 0, 0)


@pytest.mark.parametrize(("event", "seeds"), [(given(3), 1), (given(9, complete=False), 1), (given(0), 4)])
def test_too_few_labels_are_made_up_for_by_starting_frames(event: LabelsGiven, seeds: int) -> None:
    """An element that no label has is no less of a reason than too few of them."""
    _, commands = after(STARTED, event)
    assert [c for c in commands if not isinstance(c, PutJob)] == [ProposeSeeds(seeds)]


def test_a_committee_that_is_there_moves_the_walkers_at_once() -> None:
    started = CampaignStarted(config(initial={"committee": "x"}).model_dump(mode="json"), ("s0",), 2)
    assert after(started)[1] == [TakeCommittee()]
    state, commands = after(started, CommitteeGiven("ab" * 32))
    assert {type(command) for command in commands} == {StartExploring}
    assert (state.generation, state.n_done) == (1, 0)
    both = config(initial={"committee": "x", "labels": True}).model_dump(mode="json")
    _, commands = after(CampaignStarted(both, ("s0",), 2), given(20), CommitteeGiven("ab" * 32))
    assert {type(command) for command in commands} == {StartTraining, StartExploring}


def test_whoever_dies_at_the_beginning_begins_again() -> None:
    assert after(STARTED, CampaignResumed(2))[1] == [TakeLabels()]
    both = config(initial={"committee": "x", "labels": True}).model_dump(mode="json")
    _, commands = after(CampaignStarted(both, ("s0",), 2), given(20), CampaignResumed(2))
    assert commands == [TakeCommittee()]
    with pytest.raises(CampaignError, match="only once"):
        after(STARTED, given(20), given(20))


@pytest.mark.parametrize("seed", range(8))
def test_given_labels_are_no_part_of_the_budget_and_survive_replay(seed: int) -> None:
    world = World(seed)
    world.record(CampaignStarted(config(initial={"labels": True}).model_dump(mode="json"), ("s0",), 2))
    world.record(given(30))
    for _ in range(4000):
        if world.states[-1].ended:
            break
        if world.dice.random() < world.kill:
            world.record(CampaignResumed(2))
            continue
        world.record(world.answer(world.open.pop(int(world.dice.integers(len(world.open))))))
    last = world.states[-1]
    assert last.phase == "finished"
    assert last.n_done - 30 <= last.config.label_budget
    assert last.n_audit >= 1, "audits are drawn from where the walkers go, and none of what was given"
    assert replay(event_from_payload(event_to_payload(event)) for event in world.events) == last


def with_labels(folder: Path, n: int, **changes: Any) -> Any:
    """A toy campaign whose database has labels of rattled water."""
    settings = toy(folder, **changes)
    structures = [WATER, *rattle(WATER, n - 1, seed=7, temperature=800.0)] if n > 1 else [WATER]
    reference = make_reference(settings.reference)  # type: ignore[arg-type]
    label_structures(structures, reference, Limits(), settings.database, "before", 1, InlineExecutor)
    return settings


class Interrupted(BaseException):
    """Ends an orchestrator in the middle."""


class After:
    """An observer that ends the orchestrator after an event of some kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def seen(self, state: State, event: Event | None) -> None:
        if event is not None and event.kind == self.kind:
            raise Interrupted


def test_a_campaign_begins_with_the_labels_of_a_file(tmp_path: Path, database: str) -> None:
    """Exported, imported as docs/data.md says; interrupted wherever it begins, and each time it goes on."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    there = with_labels(elsewhere, 20)
    campaign = toy(tmp_path, initial={"labels": True}, database=database)
    data, level = tmp_path / "data.xyz", tmp_path / "level.yaml"
    level.write_text(yaml.safe_dump(settings(tmp_path)["reference"]))
    steps = (["export", there.database, data], ["import", data, "--level", level, "--db", campaign.database])
    for step in steps:
        assert CliRunner().invoke(app, [str(word) for word in step]).exit_code == 0
    for kind in ("campaign_started", "labels_given", "training_done"):
        with pytest.raises(Interrupted):
            run_campaign(campaign, observers=[After(kind)])
    ended = resume_campaign(campaign.database, "toy").state
    assert (ended.phase, ended.n_given) == ("finished", 20)
    assert ended.n_done == 20 + campaign.label_budget
    assert broken_promises(campaign.database) == {}
    given = rows(campaign.database, "SELECT count(*) FROM executions WHERE kind = 'label' AND campaign_id = 2")
    assert given == [(campaign.label_budget,)], "no given label was computed again"
    parts = "SELECT n_train + n_validation, n_validation > 0, n_audit FROM datasets ORDER BY created_at LIMIT 1"
    assert rows(campaign.database, parts) == [(20, 1, 0)]
    drawn = "SELECT DISTINCT origin FROM frames WHERE campaign_id = 2 AND decision = 'audit'"
    assert rows(campaign.database, drawn) == [("walker",)], "no audit that somebody else may have learnt from"
    members = (
        "SELECT m.split, m.structure_id, j.purpose FROM dataset_members AS m JOIN label_jobs AS j "
        "ON j.structure_id = m.structure_id AND j.level_id = m.level_id WHERE j.campaign_id = 2 AND j.state = 'done'"
    )
    known = rows(campaign.database, members)
    assert {split for split, *_ in known} == {"train", "validation", "audit"}
    assert [split for split, *_ in known] == [split_of(*label) for _, *label in known], "decision 0034"
    assert run_campaign(campaign).state == ended


def test_too_few_labels_of_the_database_are_completed(tmp_path: Path) -> None:
    campaign = with_labels(tmp_path, 2, initial={"labels": True})
    with pytest.raises(Interrupted):
        run_campaign(campaign, observers=[After("training_done")])
    purposes = "SELECT state, count(*) FROM label_jobs WHERE campaign_id = 2 AND purpose = 'seed' GROUP BY state"
    assert rows(campaign.database, purposes) == [("done", campaign.initial_labels)]
    assert broken_promises(campaign.database) == {}


def test_labels_of_another_level_charge_or_element_are_none(tmp_path: Path) -> None:
    campaign = with_labels(tmp_path, 3)
    other = toy(tmp_path, initial={"labels": True}, multiplicity=3)
    with pytest.raises(ConfigError, match=r"initial\.labels: .* holds no label at this campaign's level .* of H, O"):
        run_campaign(other)
    assert rows(campaign.database, "SELECT name FROM campaigns") == [("before",)]


def test_a_campaign_begins_with_a_committee(tmp_path: Path) -> None:
    """Its file is copied; damage to the copy is mended from it, and labels train the next generation."""
    (tmp_path / "first").mkdir()
    trained = tmp_path / "trained.safetensors"
    with chdir(tmp_path / "first"), pytest.raises(Interrupted):
        run_campaign(toy(tmp_path / "first"), observers=[After("training_done")])
    (weights,) = (tmp_path / "first" / "toy.alflow" / "weights").iterdir()
    shutil.copy(weights, trained)
    campaign = toy(tmp_path, initial={"committee": str(trained)})
    for kind in ("campaign_started", "committee_given"):
        with pytest.raises(Interrupted):
            run_campaign(campaign, observers=[After(kind)])
    (copy,) = (tmp_path / "toy.alflow" / "weights").iterdir()
    assert copy.name == weights.name
    assert rows(campaign.database, "SELECT count(*) FROM labels") == [(0,)]
    copy.write_bytes(b"damaged")
    ended = run_campaign(campaign)
    assert (ended.state.phase, ended.state.committee_lost) == ("finished", False)
    assert ended.state.n_done == campaign.label_budget
    assert committees(campaign.database)[0][:3] == (1, "superseded", weights.stem)
    lines = [line.split() for line in CliRunner().invoke(app, ["status", campaign.database]).stdout.splitlines()]
    first = lines[[line[:2] for line in lines].index(["generation", "labels"]) + 1]
    assert first[:2] == ["1", "given"], "it has learnt from labels that nobody knows here"
    kinds = [kind for (kind,) in rows(campaign.database, "SELECT kind FROM events ORDER BY seq")]
    assert "seeds_proposed" not in kinds
    assert "committee_lost" not in kinds
    assert broken_promises(campaign.database) == {}
    wrong = [({"components": 12}, "components is 16 there and 12 here"), ({"cutoff_ang": 4.0}, "cutoff_ang is 5.0")]
    for change, said in wrong:
        other = campaign.model_copy(update={"model": campaign.model.model_copy(update=change), "name": "other"})
        with pytest.raises(ConfigError, match=said):
            run_campaign(other)
    trained.write_bytes(b"none")
    with pytest.raises(ConfigError, match=r"initial\.committee: .* damaged"):
        run_campaign(toy(tmp_path, name="third", initial={"committee": str(trained)}))


def test_the_committees_file_is_looked_up_beside_the_campaigns(tmp_path: Path) -> None:
    told = settings(tmp_path, initial={"committee": "weights/some.safetensors", "labels": True})
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(told))
    initial = load_config(tmp_path / "toy.yaml").initial
    assert (initial.labels, initial.committee) == (True, str(tmp_path / "weights" / "some.safetensors"))
