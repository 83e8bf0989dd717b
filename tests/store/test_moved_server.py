"""A server that takes no writes for a while, as a standby before it takes over: whoever writes may wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from alflow.errors import StoreError, Unavailable
from alflow.store import Holder, Lease, Store

SAID = "the server takes no writes at present"
OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
DEFERRED = """
CREATE TABLE moved ();
INSERT INTO moved DEFAULT VALUES;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF EXISTS (SELECT FROM moved) THEN RAISE 'cannot execute COMMIT in a read-only transaction' USING ERRCODE = '25006';
    END IF; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@contextmanager
def without_writes(target: str) -> Iterator[Callable[[], None]]:
    """The server of a database takes no writes, until what is given is called or the block ends."""
    with psycopg.connect(target, autocommit=True) as connection:

        def say(*statements: str) -> None:
            for statement in statements:
                connection.execute(statement.encode())

        database = f"ALTER DATABASE {connection.info.dbname}"
        say(f"{database} SET default_transaction_read_only = on", f"{OTHERS} AND datname = current_database()")
        try:
            yield lambda: say(f"{database} RESET default_transaction_read_only")
        finally:
            say(f"{database} RESET default_transaction_read_only")


@pytest.mark.parametrize("what", ["acquire", "beat", "write", "release"])
def test_whoever_may_write_waits_on_new_connections_and_reads_meanwhile(postgres_target: str, what: str) -> None:
    with Store.open(postgres_target, create=True) as store:
        campaign = store.create_campaign("water", {}, seed=1)
        lease = store.acquire(campaign.id, Holder.current())
    done: dict[str, Callable[[Store], object]] = {
        "acquire": lambda store: store.acquire(campaign.id, Holder.current()),
        "beat": lambda store: store.beat(lease),
        "write": lambda store: store.write(lease, lambda tx: tx.append_event("started", {})),
        "release": lambda store: store.release(lease, "finished"),
    }
    act = done[what]
    with (
        Store.open(postgres_target) as hasty,
        Store.open(postgres_target, patience_s=20.0) as patient,
        without_writes(postgres_target) as give_back,
    ):
        with pytest.raises(Unavailable):  # its connection was ended
            act(hasty)
        with pytest.raises(Unavailable, match=SAID):
            act(hasty)
        before = hasty.campaign()
        assert (before.state, before.epoch, before.beat) == ("running", 1, 1)
        later = threading.Timer(0.5, give_back)
        later.start()
        act(patient)
        later.join()
        assert patient.campaign().beat == before.beat + 1


def test_a_commit_that_is_refused_so_is_tried_again_and_counts_once(postgres_target: str) -> None:
    with Store.open(postgres_target, create=True) as store:
        campaign = store.create_campaign("water", {}, seed=1)
        lease = store.acquire(campaign.id, Holder.current())
        with psycopg.connect(postgres_target, autocommit=True) as connection:
            connection.execute(DEFERRED)
            with pytest.raises(Unavailable, match=SAID):
                store.write(lease, lambda tx: tx.append_event("started", {}))
            assert list(store.events(campaign.id)) == []
            later = threading.Timer(0.5, lambda: connection.execute("TRUNCATE moved"))
            later.start()
            with Store.open(postgres_target, patience_s=20.0) as patient:
                patient.write(lease, lambda tx: tx.append_event("started", {}))
            later.join()
        assert [event.seq for event in store.events(campaign.id)] == [1]


def test_a_store_that_was_opened_for_reading_only_does_not_wait_to_write(postgres_target: str) -> None:
    with Store.open(postgres_target, create=True) as store:
        campaign = store.create_campaign("water", {}, seed=1)
    lease = Lease(campaign.id, 0, Holder.current())
    with Store.open(postgres_target, read_only=True, patience_s=20.0) as store:
        with pytest.raises(StoreError, match="open for reading only; nothing was written") as refused:
            store.beat(lease)
        assert not isinstance(refused.value, Unavailable)


@pytest.mark.parametrize("state", ["57P01", "57P02", "57P03", "53100", "53300", "08006", "40P01"])
def test_what_else_passes_is_an_operational_error_of_the_driver(state: str) -> None:
    """A shutdown, a crash, a start, a full disk, too many connections, a broken one, a deadlock."""
    assert issubclass(psycopg.errors.lookup(state), psycopg.OperationalError)
    assert not issubclass(psycopg.errors.lookup("25006"), psycopg.OperationalError)
