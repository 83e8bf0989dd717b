"""Where the cores' time went: added up from executions and the journal, all at once or as they come in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from alflow.domain import FailureKind
from alflow.reference.spool import FOUND_IN_SPOOL
from alflow.store import EventRecord, ExecutionRecord

__all__ = ["TimeLedger", "TimeSplit", "split_time", "takes"]

SESSIONS = ("campaign_started", "campaign_resumed", "labelling_started", "import_started")
"""Events with which an orchestrator begins."""

BEFORE_RESUMING = ("committee_lost", "checkpoints_lost", "retry_requested")
"""Events that an orchestrator may write before ``campaign_resumed``; and labels that it finds in the spool."""

TAKEN_BY = {"label": "label", "explore": "explore", "score": "explore", "train": "train"}
"""Which workers take which kind of task."""


@dataclass(frozen=True)
class TimeSplit:
    """Where the cores' time went, from the first committed label on, while an orchestrator was at work.

    Attributes:
        elapsed_s: Wall time of the orchestrators, s.
        available_s: The same times the cores each of them had: workers, each with its threads, s.
        busy_s: Wall time of tasks by kind, times the cores of their workers, s; ``handover`` is what passed between
            handing a task out and its beginning on the worker, and between its end and the record of it: the start of
            processes, imports, transfers, waits. Attempts that were lost are in none of them, and of a label that was
            found in the spool only what its own process took.
        cpu_s: Processor time of those tasks, s.
    """

    elapsed_s: float
    available_s: float
    busy_s: Mapping[str, float]
    cpu_s: float

    def share(self, kind: str) -> float:
        """Share of the cores' time spent on one kind of task, or ``idle``; from 0 to 1."""
        if self.available_s <= 0:
            return 0.0
        if kind == "idle":
            return max(0.0, 1.0 - sum(self.busy_s.values()) / self.available_s)
        return self.busy_s.get(kind, 0.0) / self.available_s

    @property
    def cpu_share(self) -> float:
        """Processor time over the time of the cores; less than the busy share where other programs were running."""
        return self.cpu_s / self.available_s if self.available_s > 0 else 0.0


class TimeLedger:
    """Adds up what tasks took after the first label, and what was there to be taken, as rows come in."""

    def __init__(self) -> None:
        self._begin: datetime | None = None
        self._last: datetime | None = None
        self._slots = 0
        self._pools: Mapping[str, int] = {}
        self._elapsed = self._cpu = 0.0
        self._busy: dict[str, float] = {}
        self._threads: dict[str, int] = {}
        self._taken: dict[str, float] = {}
        self._offered: dict[str, float] = {}
        self._held: list[EventRecord] = []

    def add(self, executions: Iterable[ExecutionRecord], events: Iterable[EventRecord]) -> None:
        """Take note of attempts that have ended since the last time, and of the events that came meanwhile.

        Args:
            executions: Attempts; one that has not ended does not count, and of those that were lost only a label that
                was interrupted at its worker's end: how long it worked is known, and the next attempt goes on from it.
            events: The journal goes on with these.
        """
        ended = [row for row in executions if row.ended_at is not None and _counts(row)]
        if self._begin is None:
            first = [_end_of(row) for row in ended if row.kind == "label" and row.status == "done"]
            self._begin = min(first, default=None)
        for row in ended:
            self._spend(row)
        for event in events:
            if event.kind in BEFORE_RESUMING or event.payload.get("recovered"):
                self._held.append(event)  # what comes next tells whose it is
                continue
            for held in self._held if event.kind not in SESSIONS else ():
                self._pass(held)
            self._held.clear()
            self._pass(event)

    def split(self, running: Sequence[ExecutionRecord] = ()) -> TimeSplit:
        """Where the time went.

        Args:
            running: Attempts under way, to be counted as far as they are.
        """
        busy = dict(self._busy)
        for row in running:
            if lasted := self._lasted(row):
                busy[row.kind] = busy.get(row.kind, 0.0) + lasted * (row.threads or 1)
        available = sum(offered * self._cores_of(name) for name, offered in self._offered.items())
        return TimeSplit(self._elapsed, available, busy, self._cpu)

    def _cores_of(self, pool: str) -> int:
        """Cores of each worker of a pool: the threads of the tasks it takes, as far as any has been seen."""
        return max((self._threads.get(kind, 1) for kind in takes(pool)), default=1)

    def idle_shares(self, running: Sequence[ExecutionRecord] = ()) -> dict[str, float]:
        """Share of its time that each pool had nothing to do; pools that take the same kinds share one number."""
        taken = dict(self._taken)
        for row in running:
            taken[TAKEN_BY[row.kind]] = taken.get(TAKEN_BY[row.kind], 0.0) + self._lasted(row)
        shares: dict[str, float] = {}
        for names, kinds in _rivals(self._offered):
            offered = sum(self._offered[name] for name in names)
            used = sum(taken.get(kind, 0.0) for kind in kinds)
            shares |= dict.fromkeys(names, max(0.0, 1.0 - used / offered) if offered > 0 else 1.0)
        return shares

    def _spend(self, row: ExecutionRecord) -> None:
        end = _end_of(row)
        whole = (end - row.started_at).total_seconds()
        inside = self._since_first_label(row.started_at, end)
        threads, worker = row.threads or 1, TAKEN_BY[row.kind]
        self._threads[worker] = max(self._threads.get(worker, 1), threads)
        if inside <= 0:
            return
        # What a worker has measured is work; the rest of the time the slot was taken by getting there and back.
        worked = inside if row.wall_s is None else min(1.0, row.wall_s / max(whole, 1e-9)) * inside
        self._busy[row.kind] = self._busy.get(row.kind, 0.0) + worked * threads
        self._busy["handover"] = self._busy.get("handover", 0.0) + (inside - worked) * threads
        self._taken[TAKEN_BY[row.kind]] = self._taken.get(TAKEN_BY[row.kind], 0.0) + inside
        if row.cpu_s is not None:
            self._cpu += row.cpu_s * inside / whole

    def _pass(self, event: EventRecord) -> None:
        if event.kind in SESSIONS:
            self._last, self._slots, self._pools = None, 0, {}
        if self._last is not None and self._slots:
            span = self._since_first_label(self._last, event.recorded_at)
            self._elapsed += span
            for name, workers in self._pools.items():
                self._offered[name] = self._offered.get(name, 0.0) + span * workers
        if "slots" in event.payload:
            self._slots = event.payload["slots"]
            self._pools = event.payload.get("pools") or {"shared": self._slots}
        self._last = event.recorded_at

    def _lasted(self, row: ExecutionRecord) -> float:
        return 0.0 if self._last is None else self._since_first_label(row.started_at, self._last)

    def _since_first_label(self, start: datetime, stop: datetime) -> float:
        return 0.0 if self._begin is None else max(0.0, (stop - max(start, self._begin)).total_seconds())


def split_time(executions: Iterable[ExecutionRecord], events: Iterable[EventRecord]) -> TimeSplit:
    """Add up what tasks took after the first label, and what was there to be taken.

    Args:
        executions: Every attempt at every task.
        events: The journal: it tells when an orchestrator was at work, and with how many workers at what time.
    """
    ledger = TimeLedger()
    ledger.add(executions, events)
    return ledger.split()


def _counts(row: ExecutionRecord) -> bool:
    """Whether it is known how long a task held its slot. Who was lost may have ended long before that was noticed."""
    return row.status != "lost" or (row.failure_kind is FailureKind.WALLTIME and row.wall_s is not None)


def _end_of(row: ExecutionRecord) -> datetime:
    """When a task was done: a label in the spool was found there only when the campaign was taken up again."""
    assert row.ended_at is not None
    if not row.message.startswith(FOUND_IN_SPOOL):
        return row.ended_at
    return min(row.ended_at, row.started_at + timedelta(seconds=row.wall_s or 0.0))


def takes(pool: str) -> frozenset[str]:
    """What the workers of a pool take, by its name.

    Examples:
        >>> sorted(takes("explore+train")), len(takes("shared"))
        (['explore', 'train'], 3)
    """
    return frozenset(TAKEN_BY.values()) if pool == "shared" else frozenset(pool.split("+"))


def _rivals(pools: Iterable[str]) -> list[tuple[set[str], frozenset[str]]]:
    """Pools in groups, so that no two groups take the same kind of task: their names, and what they take."""
    groups: list[tuple[set[str], frozenset[str]]] = []
    for pool in pools:
        names, kinds = {pool}, takes(pool)
        for group in [group for group in groups if group[1] & kinds]:
            groups.remove(group)
            names, kinds = names | group[0], kinds | group[1]
        groups.append((names, kinds))
    return groups
