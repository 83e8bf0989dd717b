"""A commit whose answer is lost: what was stored is not stored twice, what was not is stored once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError

from alflow.errors import Fenced, StoreError, Unavailable
from alflow.store import CampaignRecord, ExecutionRecord, Holder, Lease, Store, Transaction
from alflow.store.opening import writing
from alflow.store.patience import Patience

LOST = OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly; database is locked"))


@pytest.fixture
def patient(target: str, store: Store) -> Iterator[Store]:
    with Store.open(target, patience_s=20.0) as opened:
        yield opened


class Cable:
    """Between alflow and the database; it breaks some times, before or after the database has stored everything."""

    def __init__(self, breaks: list[str]) -> None:
        self.breaks = breaks
        self.transactions = 0

    @contextmanager
    def writing(self, engine: Engine) -> Iterator[Connection]:
        self.transactions += 1
        how = self.breaks.pop(0) if self.breaks else ""
        with writing(engine) as connection:
            yield connection
            if how == "before":
                raise LOST
        if how == "after":
            raise LOST


def body_of(campaign: CampaignRecord, samples: Any, calls: list[int]) -> Any:
    execution = ExecutionRecord(campaign.id, "c1-e1-label-1", "label", "job-1")

    def body(tx: Transaction) -> str:
        calls.append(tx.append_event("label_started", {"share": 0.1 + 0.2, "name": "Ångström"}))
        tx.add_frame(samples.frame(campaign.id, 1), samples.structure(1))
        tx.start_execution(execution)
        tx.append_event("label_done", {})
        return f"call {len(calls)}"

    return body


@pytest.mark.parametrize(
    ("breaks", "calls", "result"),
    [
        (["after"], 1, "call 1"),
        (["before"], 2, "call 2"),
        (["before", "after"], 2, "call 2"),
        (["after", "before"], 1, "call 1"),
        (["before", "before", "after", "after"], 3, "call 3"),
    ],
)
def test_a_transaction_counts_once_however_the_connection_breaks(
    patient: Store,
    campaign: CampaignRecord,
    lease: Lease,
    samples: Any,
    monkeypatch: pytest.MonkeyPatch,
    breaks: list[str],
    calls: int,
    result: str,
) -> None:
    cable = Cable(list(breaks))
    monkeypatch.setattr("alflow.store.store.writing", cable.writing)
    seen: list[int] = []
    assert patient.write(lease, body_of(campaign, samples, seen)) == result
    assert seen == [1] * calls
    assert cable.transactions == len(breaks) + 1
    assert [(event.seq, event.kind) for event in patient.events(campaign.id)] == [
        (1, "label_started"),
        (2, "label_done"),
    ]
    assert [row.key for row in patient.executions(campaign.id)] == ["c1-e1-label-1"]


@pytest.mark.parametrize("how", ["before", "after"])
def test_what_has_no_event_may_be_written_twice(
    patient: Store, campaign: CampaignRecord, lease: Lease, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("alflow.store.store.writing", Cable([how]).writing)
    execution = ExecutionRecord(campaign.id, "c1-e1-label-1", "label", "job-1")
    patient.write(lease, lambda tx: tx.start_execution(execution))
    assert [row.key for row in patient.executions(campaign.id)] == ["c1-e1-label-1"]
    with pytest.raises(StoreError, match="There was an execution"):
        patient.write(lease, lambda tx: tx.start_execution(execution))


def test_who_was_taken_over_while_the_database_was_away_writes_nothing(
    patient: Store, campaign: CampaignRecord, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    cable = Cable(["before"])
    monkeypatch.setattr("alflow.store.store.writing", cable.writing)

    def body(tx: Transaction) -> None:
        tx.append_event("label_done", {})

    def take_over_once(seconds: float) -> None:
        patient.acquire(campaign.id, Holder("node1", 4242, "another-boot:pid:1"), take_over=True)

    monkeypatch.setattr("alflow.store.patience.time.sleep", take_over_once)
    with pytest.raises(Fenced):
        patient.write(lease, body)
    assert list(patient.events(campaign.id)) == []


def test_a_commit_still_under_way_is_waited_for_before_anything_is_written_again(
    patient: Store, target: str, campaign: CampaignRecord, lease: Lease
) -> None:
    """The connection is gone and the server has not noticed: the old transaction holds its lock until it has ended."""
    stored, looked = threading.Event(), threading.Event()

    def old() -> None:
        with patient.transaction(lease) as tx:
            tx.append_event("label_done", {"number": 1})
            first.append(tx)
            stored.set()
            time.sleep(0.5)
            assert not looked.is_set()

    first: list[Transaction] = []
    thread = threading.Thread(target=old)
    thread.start()
    stored.wait()
    with patient.transaction(lease) as tx:
        assert tx.has_events_of(first[0])
        looked.set()
    thread.join()


def test_another_event_in_its_place_is_an_error(patient: Store, campaign: CampaignRecord, lease: Lease) -> None:
    with contextlib.suppress(ZeroDivisionError), patient.transaction(lease) as lost:
        lost.append_event("label_done", {"number": 1})
        raise ZeroDivisionError
    with patient.transaction(lease) as tx:
        tx.append_event("label_done", {"number": 2})
    with patient.transaction(lease) as tx, pytest.raises(StoreError, match="somebody else writes to this journal"):
        tx.has_events_of(lost)


def test_events_are_refused_where_the_journal_does_not_end_as_its_writer_knows(
    patient: Store, campaign: CampaignRecord, lease: Lease
) -> None:
    """A server that restarted without what it had confirmed, or a backup that was put in its place."""
    with patient.transaction(lease) as tx:
        assert tx.append_events([("campaign_started", {}), ("seeds_proposed", {})], first=1) == [1, 2]
    for first in (2, 4):
        with (
            pytest.raises(StoreError, match=rf"ends at event 2, and this process knows {first - 1}: .* Nothing was"),
            patient.transaction(lease) as tx,
        ):
            tx.append_events([("label_done", {})], first=first)
    assert [event.seq for event in patient.events(campaign.id)] == [1, 2]


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_lease_is_taken_and_given_back_though_the_connection_breaks(
    patient: Store, campaign: CampaignRecord, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    cable = Cable([how])
    monkeypatch.setattr("alflow.store.lease.writing", cable.writing)
    lease = patient.acquire(campaign.id, Holder.current())
    assert cable.transactions == 2
    cable.breaks.append(how)
    patient.release(lease, "finished", "all is done")
    record = patient.campaign()
    assert (record.state, record.reason, record.holder) == ("finished", "all is done", None)
    with pytest.raises(Fenced):
        patient.beat(lease)


def test_a_lease_that_another_has_taken_meanwhile_is_not_given_back(
    patient: Store, campaign: CampaignRecord, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alflow.store.lease.writing", Cable(["before"]).writing)

    def take_over_once(seconds: float) -> None:
        patient.acquire(campaign.id, Holder("node1", 4242, "another-boot:pid:1"), take_over=True)

    monkeypatch.setattr("alflow.store.patience.time.sleep", take_over_once)
    with pytest.raises(Fenced):
        patient.release(lease, "finished")
    assert patient.campaign().state == "running"


def test_structures_are_written_in_the_order_of_their_ids(
    patient: Store, campaign: CampaignRecord, lease: Lease, samples: Any
) -> None:
    """Two processes that store some of the same structures in different orders would wait for each other."""
    frames = [(samples.frame(campaign.id, number), samples.structure(number)) for number in range(6)]
    frames.sort(key=lambda pair: pair[1].id, reverse=True)
    written: list[str] = []

    @event.listens_for(patient._engine, "before_cursor_execute")
    def look(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.startswith("INSERT INTO structures"):
            written.extend(row["id"] for row in context.compiled_parameters)

    with patient.transaction(lease) as tx:
        assert tx.add_frames(frames) == 6
    assert written == sorted(structure.id for _, structure in frames)


def test_patience_ends_and_waits_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr("alflow.store.patience.time.sleep", sleep)
    monkeypatch.setattr("alflow.store.patience.time.monotonic", lambda: clock[0])

    def away() -> None:
        raise Unavailable("away.")

    with pytest.raises(Unavailable):
        Patience(60.0).keep_trying(away)
    assert clock[0] == pytest.approx(60.0)
    nominal = [min(0.1 * 2**number, 5.0) for number in range(len(waits))]
    assert all(0.5 * n <= wait <= 1.5 * n for n, wait in zip(nominal[:-1], waits[:-1], strict=True))
    waits.clear()
    with pytest.raises(Unavailable):
        Patience(0.0).keep_trying(away)
    assert waits == []
