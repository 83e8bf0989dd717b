"""One process drives a campaign; when it is gone, exactly one takes over."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from alflow.errors import CampaignLocked, Fenced, StoreError
from alflow.store import CampaignRecord, Holder, Lease, Store
from alflow.store.lease import process_mark

ELSEWHERE = Holder("node1", 4242, "another-boot:pid:1")


def holder_of(pid: int) -> Holder:
    return Holder(socket.gethostname(), pid, process_mark(pid) or "")


@pytest.fixture
def sleeper() -> subprocess.Popen[bytes]:
    """A live process that is not this one."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process  # type: ignore[misc]
    process.kill()
    process.wait()


def test_a_free_campaign_is_taken_at_once(store: Store, campaign: CampaignRecord) -> None:
    me = Holder.current()
    assert store.acquire(campaign.id, me) == Lease(campaign.id, 1, me)
    taken = store.campaign("water")
    assert (taken.state, taken.holder, taken.epoch) == ("running", str(me), 1)


def test_a_released_campaign_is_free_and_says_why(store: Store, campaign: CampaignRecord, lease: Lease) -> None:
    store.release(lease, "stopped", "the user asked")
    free = store.campaign("water")
    assert (free.state, free.reason, free.holder) == ("stopped", "the user asked", None)
    assert store.acquire(campaign.id, ELSEWHERE).epoch > lease.epoch


def test_a_released_lease_writes_no_more(store: Store, lease: Lease) -> None:
    store.release(lease, "finished")
    for write in writes(store, lease):
        with pytest.raises(Fenced, match="was released or taken over"):
            write()


def test_a_process_that_was_taken_over_is_stopped_by_its_first_write(
    store: Store, campaign: CampaignRecord, lease: Lease
) -> None:
    store.acquire(campaign.id, ELSEWHERE, take_over=True)
    before = store.campaign("water")
    for write in writes(store, lease):
        with pytest.raises(Fenced, match="this process must stop"):
            write()
    assert store.campaign("water") == before
    assert list(store.events(campaign.id)) == []


def writes(store: Store, lease: Lease) -> list[Callable[[], None]]:
    def transaction() -> None:
        with store.transaction(lease) as tx:
            tx.append_event("late", {})

    return [transaction, lambda: store.beat(lease), lambda: store.release(lease, "failed")]


def test_the_same_process_may_ask_again_and_its_old_lease_is_fenced(
    store: Store, campaign: CampaignRecord, lease: Lease
) -> None:
    again = store.acquire(campaign.id, Holder.current())
    store.beat(again)
    with pytest.raises(Fenced):
        store.beat(lease)


def test_a_live_holder_of_this_machine_is_named_at_once(
    store: Store, campaign: CampaignRecord, sleeper: subprocess.Popen[bytes]
) -> None:
    other = holder_of(sleeper.pid)
    store.acquire(campaign.id, other)
    started = time.monotonic()
    with pytest.raises(CampaignLocked, match=rf"Campaign 'water' is driven by {other.host}:{sleeper.pid}"):
        store.acquire(campaign.id, Holder.current(), ttl_s=30.0)
    assert time.monotonic() - started < 10.0  # far less than the 30 s that a silent holder is watched


def test_a_dead_holder_of_this_machine_is_replaced_at_once(
    store: Store, campaign: CampaignRecord, sleeper: subprocess.Popen[bytes]
) -> None:
    lost = store.acquire(campaign.id, holder_of(sleeper.pid))
    sleeper.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # dead, but a zombie: nobody has asked for its status
    started = time.monotonic()
    lease = store.acquire(campaign.id, Holder.current(), ttl_s=30.0)
    assert time.monotonic() - started < 10.0
    assert lease.epoch == lost.epoch + 1
    with pytest.raises(Fenced):
        store.beat(lost)


def test_a_process_number_used_again_is_not_mistaken_for_the_holder(store: Store, campaign: CampaignRecord) -> None:
    me = Holder.current()
    place, _, _ = me.mark.rpartition(":")
    store.acquire(campaign.id, Holder(me.host, os.getpid(), f"{place}:1"))
    assert store.acquire(campaign.id, me, ttl_s=30.0).holder == me


def test_a_holder_elsewhere_that_falls_silent_is_replaced(store: Store, campaign: CampaignRecord) -> None:
    store.acquire(campaign.id, ELSEWHERE)
    started = time.monotonic()
    store.acquire(campaign.id, Holder.current(), ttl_s=0.5)
    assert time.monotonic() - started >= 0.5


def test_a_holder_elsewhere_that_beats_keeps_its_campaign(store: Store, campaign: CampaignRecord) -> None:
    lease = store.acquire(campaign.id, ELSEWHERE)
    beating = threading.Timer(0.3, store.beat, [lease])
    beating.start()
    with pytest.raises(CampaignLocked, match="driven by node1:4242"):
        store.acquire(campaign.id, Holder.current(), ttl_s=20.0)
    beating.join()


def test_a_campaign_released_while_it_is_watched_is_taken(store: Store, campaign: CampaignRecord) -> None:
    lease = store.acquire(campaign.id, ELSEWHERE)
    releasing = threading.Timer(0.3, store.release, [lease, "stopped"])
    releasing.start()
    assert store.acquire(campaign.id, Holder.current(), ttl_s=20.0).holder == Holder.current()
    releasing.join()


@pytest.mark.parametrize("silent", [False, True], ids=["free", "left by a silent holder"])
def test_of_five_challengers_one_wins(target: str, store: Store, campaign: CampaignRecord, silent: bool) -> None:
    if silent:
        store.acquire(campaign.id, ELSEWHERE)
    together = threading.Barrier(5)
    won: list[Lease] = []
    refused: list[CampaignLocked] = []

    def challenge(number: int) -> None:
        with Store.open(target) as own:
            together.wait()
            try:
                won.append(own.acquire(campaign.id, Holder(f"node{number + 10}", 1, "boot:pid:1"), ttl_s=1.0))
                for _ in range(12):  # the winner lives, and shows it
                    own.beat(won[0])
                    time.sleep(0.1)
            except CampaignLocked as error:
                refused.append(error)

    threads = [threading.Thread(target=challenge, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 4)
    assert store.campaign("water").holder == str(won[0].holder)


def test_a_stop_is_asked_for_without_a_lease_and_forgotten_at_the_next_start(
    store: Store, campaign: CampaignRecord, lease: Lease
) -> None:
    assert not store.stop_requested(campaign.id)
    store.request_stop(campaign.id)
    assert store.stop_requested(campaign.id)
    store.release(lease, "stopped")
    store.acquire(campaign.id, Holder.current())
    assert not store.stop_requested(campaign.id)


def test_an_unknown_campaign_is_an_error_not_a_wait(store: Store) -> None:
    for ask in (lambda: store.acquire(99, Holder.current()), lambda: store.request_stop(99)):
        with pytest.raises(StoreError, match="no campaign number 99"):
            ask()


def test_a_holder_is_written_and_read_back_whole() -> None:
    for holder in (Holder.current(), ELSEWHERE, Holder("fe80::1", 7, "b:pid:[4026531836]:12")):
        assert Holder.from_text(holder.to_text()) == holder


def test_nobody_knows_whether_a_process_of_another_machine_lives() -> None:
    assert ELSEWHERE.is_alive(Holder.current()) is None
    assert Holder.current().is_alive(Holder.current()) is True
