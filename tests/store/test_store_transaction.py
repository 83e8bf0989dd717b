"""What is written: together or not at all, once, and never a NaN."""

from __future__ import annotations

import math
import sqlite3
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
import pytest

from alflow.domain import Evaluation, FailureKind, Label, Level, Structure
from alflow.errors import StoreError
from alflow.store import (
    CampaignRecord,
    CommitteeRecord,
    ExecutionEnd,
    ExecutionRecord,
    Holder,
    Lease,
    Store,
    WalkerRecord,
)

# denormal, signed zero, huge (but with a square that is still a number), and fractions that have no exact binary form
AWKWARD = np.array([[5e-324, -0.0, 1e150], [math.pi, -1e-300, 1 / 3], [0.1, 0.2, 0.1 + 0.2]])


def test_a_label_comes_back_bit_for_bit(store: Store, lease: Lease) -> None:
    cell = [[5.43, 0.0, 0.0], [0.1, 5.43, 0.0], [0.0, 1 / 3, 5.43]]
    structure = Structure.of("SiSiH", AWKWARD / 1e300, cell, [True, True, False], charge=-1, multiplicity=2)
    stress = np.array([[1e-3, 5e-324, 0.0], [5e-324, -1e-3, 0.0], [0.0, 0.0, -0.0]])
    level = Level("pyscf", {"functional": "pbe", "basis": "def2-svp", "grid": [75, 302]})
    evaluation = Evaluation(-1234.5678901234567, AWKWARD, stress, {"scf_cycles": 12, "gap_ev": 0.1})
    label = Label(structure, level, evaluation, {"host": "näher", "wall_s": 0.1 + 0.2})
    with store.transaction(lease) as tx:
        assert tx.add_label(label)
    back = store.find_label(structure.id, level.id)
    assert back is not None
    assert back.structure == structure
    assert back.structure.id == structure.id
    assert_same_bits(back.structure, structure)
    assert (back.level.engine, back.level.settings) == (level.engine, level.settings)
    assert back.evaluation.energy == label.evaluation.energy
    assert back.evaluation.forces.tobytes() == AWKWARD.tobytes()
    assert back.evaluation.stress is not None
    assert back.evaluation.stress.tobytes() == stress.tobytes()
    assert (back.evaluation.diagnostics, back.provenance) == (evaluation.diagnostics, label.provenance)


def assert_same_bits(found: Structure, meant: Structure) -> None:
    for name in ("numbers", "positions", "cell", "pbc"):
        one, other = getattr(found, name), getattr(meant, name)
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
        assert not one.flags.writeable
    assert (found.charge, found.multiplicity) == (meant.charge, meant.multiplicity)


def test_what_is_read_is_equal_to_what_a_constructor_would_make(store: Store, lease: Lease, samples: Any) -> None:
    """Reading skips the checks of the nouns, so every attribute and method must still be there."""
    label = samples.label(1)
    with store.transaction(lease) as tx:
        tx.add_label(label)
    back = next(store.labels())
    built = Structure(*(getattr(back.structure, name) for name in Structure.__dataclass_fields__))
    assert vars(back.structure).keys() - {"id"} == set(Structure.__dataclass_fields__)
    assert vars(back.evaluation).keys() == set(Evaluation.__dataclass_fields__)
    assert built.id == back.structure.id
    assert back.structure.with_positions(built.positions) == label.structure
    assert back.evaluation.max_force == label.evaluation.max_force


def test_a_label_is_inserted_once_and_the_first_stays(store: Store, lease: Lease, samples: Any) -> None:
    label = samples.label(1)
    other = Label(label.structure, label.level, Evaluation(0.0, np.zeros((3, 3))))
    with store.transaction(lease) as tx:
        assert tx.add_label(label)
        assert not tx.add_label(other)
    with store.transaction(lease) as tx:
        assert not tx.add_label(other)
    assert [found.evaluation.energy for found in store.labels()] == [label.evaluation.energy]


def test_a_transaction_is_stored_whole_or_not_at_all(
    store: Store, campaign: CampaignRecord, lease: Lease, samples: Any
) -> None:
    def write_everything_and_fail() -> None:
        with store.transaction(lease) as tx:
            tx.append_event("labelled", {})
            tx.add_label(samples.label(1))
            tx.add_frame(samples.frame(campaign.id, 1), samples.structure(1))
            tx.put_job(samples.job(campaign.id, 1))
            tx.set_campaign_state("failed", "never")
            raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        write_everything_and_fail()
    assert store.campaign("water") == replace(campaign, state="running", epoch=1, beat=1, holder=str(lease.holder))
    assert list(store.events(campaign.id)) == []
    assert list(store.labels()) == []
    assert list(store.frames(campaign.id)) == []
    assert store.jobs(campaign.id) == []


def test_a_row_the_database_refuses_takes_the_whole_transaction_with_it(
    store: Store, campaign: CampaignRecord, lease: Lease, samples: Any
) -> None:
    def ask_for_a_frame_that_is_not_there() -> None:
        with store.transaction(lease) as tx:
            tx.append_event("asked", {})
            tx.put_job(samples.job(campaign.id, 1))

    with pytest.raises(StoreError, match="a row breaks a rule of the tables") as caught:
        ask_for_a_frame_that_is_not_there()
    assert caught.value.__cause__ is None
    assert "job-1" not in str(caught.value)  # values may be private; the rule is enough
    assert list(store.events(campaign.id)) == []


def test_events_are_numbered_without_gaps_across_failures(store: Store, campaign: CampaignRecord, lease: Lease) -> None:
    with store.transaction(lease) as tx:
        assert [tx.append_event("a", {"n": 1}), tx.append_event("b", {"n": 2})] == [1, 2]
    with pytest.raises(StoreError, match="payload_json"), store.transaction(lease) as tx:
        tx.append_event("lost", {"n": tx.append_event("lost too", {}), "x": object()})
    with store.transaction(lease) as tx:
        assert tx.append_event("c", {"text": "Å – \u0394"}) == 3
    found = [(event.seq, event.kind, event.payload) for event in store.events(campaign.id)]
    assert found == [(1, "a", {"n": 1}), (2, "b", {"n": 2}), (3, "c", {"text": "Å – \u0394"})]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_never_enters(
    store: Store, campaign: CampaignRecord, lease: Lease, samples: Any, bad: float
) -> None:
    structure = samples.structure(1)
    velocities = np.full((3, 3), bad)
    refused = [
        lambda tx: tx.add_frame(samples.frame(campaign.id, 1, predicted_energy=bad), structure),
        lambda tx: tx.add_frame(samples.frame(campaign.id, 1, disagreement=bad), structure),
        lambda tx: tx.add_frame(samples.frame(campaign.id, 1, predicted_forces=velocities), structure),
        lambda tx: tx.put_walker(WalkerRecord(campaign.id, 0, 1, structure, velocities)),
        lambda tx: tx.append_event("measured", {"energy_ev": bad}),
    ]
    for write in refused:
        with pytest.raises(StoreError, match=r"finite number"), store.transaction(lease) as tx:
            write(tx)
    assert list(store.frames(campaign.id)) == []


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity"])
def test_postgresql_itself_refuses_what_is_not_finite(postgres_target: str, samples: Any, bad: str) -> None:
    with Store.open(postgres_target, create=True) as store:
        _one_label(store, samples)
    with psycopg.connect(postgres_target) as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("UPDATE labels SET energy_ev = %s::float8", [bad])


@pytest.mark.sqlite_only("its own constraints; those of PostgreSQL have the test before")
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_sqlite_itself_refuses_what_is_not_finite(tmp_path: Any, samples: Any, bad: float) -> None:
    with Store.open(tmp_path / "store.db", create=True) as store:
        _one_label(store, samples)
    connection = sqlite3.connect(tmp_path / "store.db")
    with pytest.raises(sqlite3.IntegrityError, match=r"NOT NULL|CHECK"):
        connection.execute("UPDATE labels SET energy_ev = ?", [bad])
    connection.close()


def _one_label(store: Store, samples: Any) -> None:
    campaign = store.create_campaign("water", {}, seed=1)
    with store.transaction(store.acquire(campaign.id, Holder.current())) as tx:
        tx.add_label(samples.label(1))


def test_words_outside_the_vocabulary_are_refused(
    store: Store, campaign: CampaignRecord, lease: Lease, samples: Any
) -> None:
    with pytest.raises(StoreError, match="decision"), store.transaction(lease) as tx:
        tx.add_frame(samples.frame(campaign.id, 1, decision="maybe"), samples.structure(1))


def test_a_frame_is_added_once_and_its_decision_may_change(
    store: Store, campaign: CampaignRecord, lease: Lease, samples: Any
) -> None:
    forces = AWKWARD / 7
    frame = samples.frame(campaign.id, 3, predicted_energy=-76.1, predicted_forces=forces, reason="disagreement")
    with store.transaction(lease) as tx:
        assert tx.add_frame(frame, samples.structure(3))
        assert not tx.add_frame(frame, samples.structure(3))
        tx.set_frame_decision(frame.id, "dropped", "the queue was full")
    (found,) = store.frames(campaign.id)
    meant = replace(frame, decision="dropped", reason="the queue was full")
    assert found.predicted_forces is not None
    assert found.predicted_forces.tobytes() == forces.tobytes()
    assert {**vars(found), "predicted_forces": None} == {**vars(meant), "predicted_forces": None}
    with pytest.raises(StoreError, match="no frame nothing"), store.transaction(lease) as tx:
        tx.set_frame_decision("nothing", "dropped", "")


def test_a_frame_must_be_given_with_its_own_structure(
    store: Store, campaign: CampaignRecord, lease: Lease, samples: Any
) -> None:
    with pytest.raises(StoreError, match="but was given with"), store.transaction(lease) as tx:
        tx.add_frame(samples.frame(campaign.id, 1), samples.structure(2))


def test_a_job_moves_on_but_never_changes_what_it_is(
    store: Store, campaign: CampaignRecord, lease: Lease, samples: Any
) -> None:
    job = samples.job(campaign.id, 1, priority=0.31, event_seq=1)
    failed = replace(
        job,
        state="quarantined",
        attempts=3,
        n_lost=1,
        failure_kind=FailureKind.OOM,
        failure_message="8 GB",
        event_seq=9,
    )
    with store.transaction(lease) as tx:
        tx.add_frame(samples.frame(campaign.id, 1), samples.structure(1))
        tx.add_level(samples.level)
        tx.put_job(job)
        tx.put_job(replace(failed, purpose="audit"))
    assert store.jobs(campaign.id) == [failed]
    assert store.jobs(campaign.id)[0].failure_kind is FailureKind.OOM
    counts = {"pending": 0, "running": 0, "done": 0, "quarantined": 1, "dropped": 0}
    assert store.job_counts(campaign.id) == counts


def test_no_label_is_asked_for_twice_in_a_campaign(
    store: Store, campaign: CampaignRecord, lease: Lease, samples: Any
) -> None:
    with store.transaction(lease) as tx:
        tx.add_frame(samples.frame(campaign.id, 1), samples.structure(1))
        tx.add_level(samples.level)
        tx.put_job(samples.job(campaign.id, 1))
    with pytest.raises(StoreError, match="breaks a rule"), store.transaction(lease) as tx:
        tx.put_job(samples.job(campaign.id, 1, id="another name"))


def test_a_label_that_was_dropped_may_be_asked_for_again(
    store: Store, campaign: CampaignRecord, lease: Lease, samples: Any
) -> None:
    with store.transaction(lease) as tx:
        tx.add_frame(samples.frame(campaign.id, 1), samples.structure(1))
        tx.add_level(samples.level)
        tx.put_job(samples.job(campaign.id, 1, state="dropped"))
        tx.put_job(samples.job(campaign.id, 1, id="dropped too", state="dropped"))
        tx.put_job(samples.job(campaign.id, 1, id="again"))
    assert store.job_counts(campaign.id)["pending"] == 1
    with pytest.raises(StoreError, match="breaks a rule"), store.transaction(lease) as tx:
        tx.put_job(samples.job(campaign.id, 1, state="pending"))


def test_an_execution_is_completed_exactly_once(store: Store, campaign: CampaignRecord, lease: Lease) -> None:
    started = ExecutionRecord(campaign.id, "job-1.1", "label", "job-1", attempt=1, epoch=lease.epoch, worker="tcp://a")
    with store.transaction(lease) as tx:
        tx.start_execution(started)
    assert store.executions(campaign.id) == [started]
    ended = {"failure_kind": FailureKind.SCF_FAIL, "message": "50 cycles\0\udcff", "wall_s": 2.5}
    with store.transaction(lease) as tx:
        assert tx.finish_execution(ExecutionEnd("job-1.1", "failed", **ended, host="node1", pid=7, threads=2))
        assert not tx.finish_execution(ExecutionEnd("job-1.1", "done"))
    (found,) = store.executions(campaign.id, "label", "job-1")
    assert found.ended_at is not None
    assert found.ended_at >= found.started_at
    meant = {**ended, "message": "50 cycles\ufffd?", "status": "failed", "host": "node1", "pid": 7, "threads": 2}
    assert found == replace(started, **meant, ended_at=found.ended_at)


def test_an_execution_that_was_never_started_cannot_end(store: Store, lease: Lease) -> None:
    with pytest.raises(StoreError, match="never started an execution ghost"), store.transaction(lease) as tx:
        tx.finish_execution(ExecutionEnd("ghost", "done"))


def test_two_executions_of_one_key_are_a_mistake(store: Store, campaign: CampaignRecord, lease: Lease) -> None:
    record = ExecutionRecord(campaign.id, "train-1", "train", "1")
    with store.transaction(lease) as tx:
        tx.start_execution(record)
    with pytest.raises(StoreError, match="There was an execution train-1 before"), store.transaction(lease) as tx:
        tx.start_execution(record)


def test_after_a_restart_what_still_ran_is_lost(store: Store, campaign: CampaignRecord, lease: Lease) -> None:
    with store.transaction(lease) as tx:
        for number in range(3):
            tx.start_execution(ExecutionRecord(campaign.id, f"e{number}", "explore", "0-7"))
        tx.finish_execution(ExecutionEnd("e0", "done"))
    with store.transaction(lease) as tx:
        assert tx.close_lost_executions() == 2
        assert tx.close_lost_executions() == 0
        assert not tx.finish_execution(ExecutionEnd("e1", "done"))  # its result arrives too late
    assert [execution.status for execution in store.executions(campaign.id)] == ["done", "lost", "lost"]


def test_a_walker_only_moves_forward(store: Store, campaign: CampaignRecord, lease: Lease) -> None:
    structure = Structure.of("OHH", AWKWARD / 1e300, charge=1, multiplicity=2)
    first = WalkerRecord(campaign.id, 4, 1, structure, AWKWARD / 3, step=100, disagreement=0.1, temperature=300.0)
    second = replace(first, segment=2, step=200, status="paused", reason="flagged", generation=3, last_flag_step=200)
    with store.transaction(lease) as tx:
        assert tx.put_walker(first)
        assert tx.put_walker(second)
        assert not tx.put_walker(second)  # a duplicate
        assert not tx.put_walker(first)  # a late one
    (found,) = store.walkers(campaign.id)
    assert_same_bits(found.structure, structure)
    assert found.velocities.tobytes() == second.velocities.tobytes()
    arrays = {"structure": None, "velocities": None}
    assert {**vars(found), **arrays} == {**vars(second), **arrays}


def test_velocities_of_other_atoms_are_refused(store: Store, campaign: CampaignRecord, lease: Lease) -> None:
    structure = Structure.of("OHH", np.eye(3))
    with pytest.raises(StoreError, match=r"have shape \(3, 3\); found \(2, 3\)"), store.transaction(lease) as tx:
        tx.put_walker(WalkerRecord(campaign.id, 0, 1, structure, np.zeros((2, 3))))


def test_one_committee_is_active_and_rejected_ones_are_kept(
    store: Store, campaign: CampaignRecord, lease: Lease
) -> None:
    def committee(generation: int, letter: str, **changes: Any) -> CommitteeRecord:
        record = CommitteeRecord(campaign.id, generation, letter * 64, f"committees/{letter}.safetensors", "d1")
        return replace(record, **changes)

    assert store.active_committee(campaign.id) is None
    one, bad = committee(1, "a", metrics={"mae_ev_ang": 0.05}), committee(2, "b", state="rejected")
    two = committee(2, "c", parent_sha256="a" * 64)
    with store.transaction(lease) as tx:
        tx.add_dataset("d1", [])
        for record in (one, bad, two):
            tx.add_committee(record)
    assert store.committees(campaign.id) == [replace(one, state="superseded"), bad, two]
    assert store.active_committee(campaign.id) == two


def test_a_dataset_is_immutable(store: Store, lease: Lease, samples: Any) -> None:
    labels = [samples.label(number) for number in range(3)]
    splits = ["train", "train", "audit"]
    members = [(*label.key, split) for label, split in zip(labels, splits, strict=True)]
    with store.transaction(lease) as tx:
        for label in labels:
            tx.add_label(label)
        assert tx.add_dataset("d" * 64, members)
        assert not tx.add_dataset("d" * 64, members)
    assert store.dataset_members("d" * 64) == sorted(members)
    with pytest.raises(StoreError, match="the digest does not name its content"), store.transaction(lease) as tx:
        tx.add_dataset("d" * 64, members[:2])
    ((dataset, split),) = store.datasets_of(*labels[2].key)
    assert (dataset.digest, dataset.n_train, dataset.n_validation, dataset.n_audit) == ("d" * 64, 2, 0, 1)
    assert split == "audit"


def test_a_dataset_of_labels_that_do_not_exist_is_refused(store: Store, lease: Lease, samples: Any) -> None:
    with pytest.raises(StoreError, match="breaks a rule"), store.transaction(lease) as tx:
        tx.add_dataset("d1", [(samples.structure(1).id, samples.level.id, "train")])


def test_a_lease_writes_to_its_own_campaign_only(
    store: Store, campaign: CampaignRecord, lease: Lease, samples: Any
) -> None:
    other = store.create_campaign("other", {}, seed=1)
    refused = [
        lambda tx: tx.add_frame(samples.frame(other.id, 1), samples.structure(1)),
        lambda tx: tx.put_job(samples.job(other.id, 1)),
        lambda tx: tx.start_execution(ExecutionRecord(other.id, "k", "train", "1")),
        lambda tx: tx.put_walker(WalkerRecord(other.id, 0, 1, samples.structure(1), np.zeros((3, 3)))),
        lambda tx: tx.add_committee(CommitteeRecord(other.id, 1, "a" * 64, "a", "d1")),
    ]
    for write in refused:
        with (
            pytest.raises(StoreError, match=f"belongs to campaign {other.id}, but this transaction writes to"),
            store.transaction(lease) as tx,
        ):
            write(tx)


def test_readers_are_not_held_up_by_a_writer(
    store: Store, campaign: CampaignRecord, lease: Lease, samples: Any
) -> None:
    with store.transaction(lease) as tx:
        tx.add_label(samples.label(1))
    seen: list[int] = []
    with store.transaction(lease) as tx:
        tx.add_label(samples.label(2))
        reader = threading.Thread(target=lambda: seen.append(len(list(store.labels()))))
        reader.start()
        reader.join(timeout=10.0)
    assert seen == [1]  # at once, and nothing that is not committed
    assert len(list(store.labels())) == 2
