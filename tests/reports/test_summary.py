"""Where the cores' time went, added up from rows with known answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from alflow.domain import FailureKind
from alflow.reference.spool import FOUND_IN_SPOOL
from alflow.reports.summary import drained_machines
from alflow.reports.timesplit import TimeLedger, split_time
from alflow.store import EventRecord, ExecutionRecord

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def event(seq: int, kind: str, seconds: float, slots: int = 2) -> EventRecord:
    return EventRecord(1, seq, kind, {"slots": slots}, at(seconds))


def run(
    key: str, kind: str, begin: float, end: float, cpu_s: float | None = None, wall_s: float | None = None
) -> ExecutionRecord:
    return ExecutionRecord(
        1,
        key,
        kind,
        "",
        started_at=at(begin),
        ended_at=at(end),
        status="done",
        cpu_s=cpu_s,
        wall_s=wall_s,
    )


def test_the_time_after_the_first_label_is_split_by_kind() -> None:
    events = [event(1, "campaign_started", 0), event(2, "label_done", 10), event(3, "training_done", 30)]
    executions = [
        run("a", "label", 0, 10, cpu_s=10.0),
        run("b", "label", 10, 20, cpu_s=5.0),
        run("c", "train", 5, 30, cpu_s=25.0),
    ]
    split = split_time(executions, events)
    assert split.elapsed_s == pytest.approx(20)
    assert split.available_s == pytest.approx(40)
    assert split.busy_s == pytest.approx({"label": 10, "train": 20, "handover": 0})
    assert split.share("idle") == pytest.approx(0.25)
    assert split.cpu_share == pytest.approx((5 + 20) / 40)


def test_what_a_worker_has_not_measured_is_handing_over() -> None:
    events = [
        event(n + 1, kind, 10 * n, slots=1) for n, kind in enumerate(("campaign_started", "label_done", "label_done"))
    ]
    executions = [run("a", "label", 0, 10, wall_s=10.0), run("b", "label", 10, 20, wall_s=8.0)]
    split = split_time(executions, events)
    assert split.busy_s == pytest.approx({"label": 8, "handover": 2})
    assert split.share("idle") == pytest.approx(0.0)


def test_a_label_that_was_interrupted_at_its_workers_end_worked_all_the_same() -> None:
    """The next attempt goes on from it. When somebody who was lost stopped to work, nobody knows."""
    events = [event(n + 1, kind, 10 * n, slots=1) for n, kind in enumerate(("campaign_started", *["label_done"] * 3))]
    interrupted = replace(
        run("b", "label", 10, 20, cpu_s=9.0, wall_s=9.0), status="lost", failure_kind=FailureKind.WALLTIME
    )
    lost = replace(run("c", "label", 20, 30), status="lost", failure_kind=FailureKind.WORKER_LOST)
    split = split_time([run("a", "label", 0, 10), interrupted, lost], events)
    assert split.busy_s == pytest.approx({"label": 9, "handover": 1})
    assert split.share("idle") == pytest.approx(0.5)


def test_the_time_between_a_stop_and_a_resume_is_nobodys() -> None:
    events = [
        event(1, "campaign_started", 0),
        event(2, "label_done", 10),
        event(3, "campaign_resumed", 1000, slots=1),
        event(4, "label_done", 1010),
    ]
    split = split_time([run("a", "label", 0, 10), run("b", "label", 1000, 1010)], events)
    assert split.elapsed_s == pytest.approx(10)
    assert split.available_s == pytest.approx(10)
    assert split.share("idle") == pytest.approx(0.0)


def test_a_label_found_after_a_kill_took_its_time_and_not_the_night() -> None:
    events = [
        event(1, "campaign_started", 0, slots=1),
        event(2, "label_done", 10, slots=1),
        event(3, "label_done", 14, slots=1),
        EventRecord(1, 4, "label_done", {"recovered": True}, at(1000)),
        EventRecord(1, 5, "retry_requested", {"frames": []}, at(1000)),
        event(6, "campaign_resumed", 1001, slots=1),
        EventRecord(1, 7, "retry_requested", {"frames": []}, at(1005)),
        event(8, "label_done", 1011, slots=1),
    ]
    found = replace(
        run("b", "label", 10, 1000, cpu_s=3.0, wall_s=4.0), message=f"{FOUND_IN_SPOOL}: it outlived its orchestrator"
    )
    split = split_time([run("a", "label", 0, 10), found], events)
    assert split.busy_s == pytest.approx({"label": 4, "handover": 0})
    assert split.cpu_s == pytest.approx(3.0)
    assert split.elapsed_s == pytest.approx(4 + 10), "in between nobody was at work"


def test_before_the_first_label_there_is_nothing_to_split() -> None:
    assert split_time([], [event(1, "campaign_started", 0)]).share("idle") == 0.0


def test_workers_that_join_or_leave_change_what_could_have_been_used() -> None:
    events = [
        event(1, "campaign_started", 0),
        EventRecord(1, 2, "label_done", {}, at(10)),
        EventRecord(1, 3, "workers_changed", {"slots": 5, "drained": ["node7"]}, at(20)),
        EventRecord(1, 4, "label_done", {}, at(40)),
    ]
    split = split_time([run("a", "label", 0, 10)], events)
    assert split.elapsed_s == pytest.approx(30)
    assert split.available_s == pytest.approx(10 * 2 + 20 * 5)
    assert drained_machines(events) == ("node7",)
    assert drained_machines([*events, event(5, "campaign_resumed", 50)]) == (), "a new orchestrator tries again"


def test_a_ledger_that_is_fed_bit_by_bit_counts_the_same() -> None:
    events = [
        event(1, "campaign_started", 0),
        event(2, "label_done", 10),
        event(3, "campaign_resumed", 1000, slots=1),
        event(4, "label_done", 1010),
    ]
    executions = [run("a", "label", 0, 10), run("b", "explore", 3, 9), run("c", "label", 1000, 1010, wall_s=8.0)]
    ledger = TimeLedger()
    for rows, told in ((executions[:2], events[:2]), ([], events[2:3]), (executions[2:], events[3:])):
        ledger.add(rows, told)
    assert ledger.split() == split_time(executions, events)


def test_what_still_runs_is_not_idle_and_each_pool_has_its_own_idle_time() -> None:
    events = [
        EventRecord(1, 1, "campaign_started", {"slots": 3, "pools": {"label": 2, "explore+train": 1}}, at(0)),
        EventRecord(1, 2, "label_done", {}, at(10)),
        EventRecord(1, 3, "label_done", {}, at(30)),
    ]
    ledger = TimeLedger()
    ledger.add([run("a", "label", 0, 10), run("b", "train", 10, 15)], events)
    running = [replace(run("c", "label", 10, 10), ended_at=None, status="running")]
    split = ledger.split(running)
    assert split.busy_s == pytest.approx({"label": 20, "train": 5, "handover": 0})
    assert ledger.idle_shares(running) == pytest.approx({"label": 0.5, "explore+train": 0.75})


def test_a_worker_with_several_threads_holds_as_many_cores() -> None:
    events = [
        EventRecord(1, 1, "campaign_started", {"slots": 3, "pools": {"label": 1, "explore+train": 2}}, at(0)),
        EventRecord(1, 2, "label_done", {}, at(10)),
        EventRecord(1, 3, "label_done", {}, at(20)),
    ]
    executions = [
        replace(run("a", "label", 0, 10), threads=4),
        replace(run("b", "label", 10, 20, wall_s=9.0), threads=4),
        replace(run("c", "explore", 10, 15, wall_s=5.0), threads=1),
    ]
    split = split_time(executions, events)
    assert split.available_s == pytest.approx(10 * (1 * 4 + 2 * 1))
    assert split.busy_s == pytest.approx({"label": 36, "explore": 5, "handover": 4})
    assert split.share("idle") == pytest.approx(15 / 60)
