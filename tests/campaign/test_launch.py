"""Taking a campaign up again: with the same reference, on whatever machine, and never into another level's labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from alflow.campaign.events import Event, LabelDone
from alflow.campaign.executors import Completion, InlineExecutor
from alflow.campaign.export import export_labels
from alflow.campaign.launch import resume_campaign, run_campaign
from alflow.campaign.state import State
from alflow.domain import Evaluation, Level, Structure
from alflow.errors import ConfigError, StoreError
from alflow.reference import Morse, MorseMolecule

from .toys import WATER_ANG, check_promises, rows, toy


class Interrupted(BaseException):
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
    config = toy(tmp_path, executor="dask", cores=2)
    with pytest.raises(Interrupted):
        run_campaign(config, observers=[After(3)], executor=InlineExecutor())
    (stored,) = rows(config.database, "SELECT config_json FROM campaigns")
    assert [json.loads(stored[0])["config"][key] for key in ("executor", "cores")] == ["dask", 2], "also for resume"
    assert resume_campaign(config.database, executor=InlineExecutor()).state.phase == "finished"
    check_promises(config.database)


class Draining(InlineExecutor):
    """One machine is given no more labels after two tasks, and a second after four; workers stay as they are."""

    n_tasks = 0

    @property
    def drained(self) -> tuple[str, ...]:
        return ("badnode", "worse")[: self.n_tasks // 2]

    def wait(self, timeout_s: float) -> tuple[Completion, ...]:
        self.n_tasks += 1
        return super().wait(timeout_s)


def test_a_machine_that_gets_no_more_labels_is_in_the_journal_though_no_worker_left(tmp_path: Path) -> None:
    """Its workers may have left before it was found out, or take other tasks only."""
    config = toy(tmp_path)
    with pytest.raises(Interrupted):
        run_campaign(config, observers=[After(5)], executor=Draining())
    told = rows(config.database, "SELECT payload_json FROM events WHERE kind = 'workers_changed' ORDER BY seq")
    assert [json.loads(payload)["drained"] for (payload,) in told] == [["badnode"], ["badnode", "worse"]]


def test_an_export_holds_one_campaign(tmp_path: Path) -> None:
    """Two campaigns in one database have two levels; which one is meant must be said."""
    config = toy(tmp_path)
    run_campaign(config)
    run_campaign(toy(tmp_path, name="other"), own_reference())
    with pytest.raises(StoreError, match="other"):
        export_labels(config.database, None, tmp_path / "all.xyz")
    assert export_labels(config.database, "other", tmp_path / "one.xyz") == 14


class AtGeneration:
    """An observer that ends the orchestrator when so many committees have been trained."""

    def __init__(self, generation: int) -> None:
        self.generation = generation

    def seen(self, state: State, event: Event | None) -> None:
        if state.generation >= self.generation:
            raise Interrupted


def test_lost_and_altered_weights_are_trained_again_from_the_labels(tmp_path: Path, database: str) -> None:
    """The labels are what was paid for; no damage to a weight file can end a campaign."""
    config = toy(tmp_path, database=database)
    with pytest.raises(Interrupted):
        run_campaign(config, observers=[AtGeneration(1)])
    (weights,) = (tmp_path / "toy.alflow" / "weights").iterdir()
    weights.unlink()
    with pytest.raises(Interrupted):
        resume_campaign(config.database, observers=[AtGeneration(2)])
    for weights in (tmp_path / "toy.alflow" / "weights").iterdir():
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    ended = resume_campaign(config.database)
    assert ended.state.phase == "finished"
    kinds = [kind for (kind,) in rows(config.database, "SELECT kind FROM events ORDER BY seq")]
    assert kinds.count("committee_lost") == 2
    assert ended.committee is not None
    assert ended.committee.is_file()


@pytest.mark.sqlite_only("a file that is exported to itself")
def test_an_export_never_overwrites_its_database(tmp_path: Path) -> None:
    config = toy(tmp_path)
    with pytest.raises(Interrupted):
        run_campaign(config, observers=[After(5)])
    before = rows(config.database, "SELECT count(*) FROM labels")
    with pytest.raises(ConfigError, match="the database itself"):
        export_labels(config.database, None, Path(config.database))
    assert rows(config.database, "SELECT count(*) FROM labels") == before


class OneForceForAll:
    """A reference that forgets two atoms."""

    level = Level("forgetful", {})

    def evaluate(self, structure: Structure) -> Evaluation:
        return Evaluation(0.0, np.zeros((1, 3)))


def test_forces_of_the_wrong_number_of_atoms_are_never_committed(tmp_path: Path) -> None:
    """They would be broadcast to all atoms and learnt; the campaign pauses and says what was expected."""
    config = toy(tmp_path)
    ended = run_campaign(config, OneForceForAll())
    assert ended.state.phase == "failed"
    assert "forces of shape (3, 3)" in ended.state.reason
    assert rows(config.database, "SELECT count(*) FROM labels") == [(0,)]
