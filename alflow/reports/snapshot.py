"""A snapshot: all that the page shows of a campaign, as JSON values, read from the database bit by bit."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from alflow.domain import Level
from alflow.errors import StoreError
from alflow.reports.tally import Tally, WalkerLine, without_secrets
from alflow.reports.timesplit import TAKEN_BY, TimeLedger, takes
from alflow.selection.threshold import threshold_in_force
from alflow.store import ExecutionRecord, Store
from alflow.units import FS_PER_PS

__all__ = ["Live", "SnapshotReader"]

FORMAT: Final = 1
"""Grows when a key of the snapshot changes its meaning or goes away; new keys may come at any time."""

SHOWN_WALKERS: Final = 64
SHOWN_FRAMES: Final = 14
ROWS_AT_ONCE: Final = 2000


@dataclass(frozen=True)
class Live:
    """What only the process that drives a campaign knows.

    Attributes:
        phase: Of the loop, such as ``closing``.
        reason: Why it is in that phase.
        statuses: Of each walker by number: ``ready``, ``exploring`` or ``paused``.
        reasons: Why a walker is paused or was reset.
    """

    phase: str
    reason: str = ""
    statuses: Sequence[str] = ()
    reasons: Mapping[int, str] = field(default_factory=dict)


class SnapshotReader:
    """Reads a campaign; each look costs only what has happened since the one before.

    Args:
        store: The database; only read.
        name: Name of the campaign; None for the only one.

    Raises:
        StoreError: There is no such campaign, or the database cannot be read.
    """

    def __init__(self, store: Store, name: str | None = None) -> None:
        self._store = store
        self.campaign = store.campaign(name)
        config = self.campaign.config
        self._labelling = "labelling" in config
        self._settings: Mapping[str, Any] = config.get("config", {})
        self._tally = Tally(0 if self._labelling else int(self._settings.get("walkers", 0)))
        self._ledger = TimeLedger()
        self._last_execution = 0
        self._running: dict[int, ExecutionRecord] = {}
        self._jobs: dict[str, int] = {}
        self._flags: Counter[str] = Counter()
        self._frame_states: dict[str, str] = {}
        self._level: Level | None = None

    def refresh(self, most: int = ROWS_AT_ONCE) -> bool:
        """Read what is new, but not more than so many rows of a table.

        Returns:
            Whether nothing newer was left.

        Raises:
            StoreError: The database cannot be read now; the next attempt goes on where this one failed.
        """
        with self._store.snapshot() as moment:
            begun = moment.executions_after(self.campaign.id, self._last_execution, most)
            ended = moment.executions_ended(list(self._running))
            events = moment.next_events(self.campaign.id, self._tally.seq, most) if len(begun) < most else []
            jobs = moment.job_counts(self.campaign.id)
            flags = moment.label_flags(self.campaign.id, self._tally.seq, events[-1].seq) if events else []
            campaign = moment.campaign(self.campaign.name)
        self.campaign, self._jobs = campaign, {str(state): count for state, count in jobs.items()}
        for number, row in [*begun, *ended]:
            if row.ended_at is None:
                self._running[number] = row
            else:
                self._running.pop(number, None)
        self._flags.update(flag for told in flags for flag in told)
        self._last_execution = begun[-1][0] if begun else self._last_execution
        over = [row for _, row in (*begun, *ended) if row.ended_at is not None]
        self._ledger.add(over, events)
        for row in over:
            self._tally.add_failure(row)
        for event in events:
            self._tally.add(event)
        if self._level is None and events:
            self._level = self._find_level()
        shown = list(self._tally.frames)[-SHOWN_FRAMES:]
        self._frame_states = {job.frame_id: job.state for job in self._store.jobs_of(shown)} if shown else {}
        return len(begun) < most and len(events) < most

    def snapshot(self, live: Live | None = None) -> dict[str, Any]:
        """What is known now; the keys are described in docs/dashboard.md.

        Args:
            live: What the driving process adds; None when only the database is there.
        """
        now = time.time()
        live = live if self.under_way else None
        return {
            "format": FORMAT,
            "made_unix_s": round(now, 1),
            "campaign": self._campaign(live),
            "generation": {"active": self._tally.generation, "training": self._works_on("train")},
            "labels": self._labels(now),
            "generations": [_short(row) for row in self._tally.generations],
            "disagreement": {
                "width_s": self._tally.disagreement.width_s,
                "points": [
                    [begin, _digits(mean), _digits(top)] for begin, _, mean, top in self._tally.disagreement.points()
                ],
            },
            "walkers": self._walkers(live),
            "pools": self._pools(),
            "drained": list(self._tally.drained),
            "failures": sorted(map(dict, self._tally.failures), key=lambda row: row["at_unix_s"], reverse=True),
            "failure_counts": dict(self._tally.failure_counts),
            "frames": self._frames(),
            "time": self._time(),
        }

    def _find_level(self) -> Level | None:
        """What really makes the labels: a reference of the user's own is not in the configuration."""
        try:
            return self._store.level(self.campaign.config.get("level_id", ""))
        except StoreError:
            return None

    @property
    def under_way(self) -> bool:
        """Whether the database says that somebody drives the campaign, and is not merely tidying up after its end."""
        return self.campaign.holder is not None and self.campaign.state == "running"

    @property
    def last_event_s(self) -> float:
        """Time of the last event, s since 1970."""
        return self._tally.last_s

    def _campaign(self, live: Live | None) -> dict[str, Any]:
        row, settings = self.campaign, self._settings
        target = settings.get("target_force_error_ev_ang")
        stopping = "stopping" if self._tally.stopping and row.state == "running" else row.state
        return {
            "name": row.name,
            "uuid": row.uuid,
            "kind": "labelling" if self._labelling else "campaign",
            "state": row.state,
            "phase": live.phase if live is not None else stopping,
            "reason": without_secrets(row.reason or (live.reason if live is not None else "")),
            "holder": row.holder if self.under_way else None,
            "created_unix_s": round(row.created_at.timestamp(), 1),
            "begun_unix_s": round(self._tally.begun_s, 1),
            "last_event_unix_s": round(self._tally.last_s, 1),
            "alflow_version": row.alflow_version,
            "reference": _reference(self._level),
            "temperature_k": settings.get("temperature_k"),
            "timestep_fs": settings.get("timestep_fs"),
            "label_budget": settings.get("label_budget"),
            "target_force_error_ev_ang": target,
            "threshold_ev_ang": _digits(threshold_in_force(settings.get("threshold_ev_ang"), target), 6),
        }

    def _labels(self, now: float) -> dict[str, Any]:
        elapsed = self._ledger.split().elapsed_s
        came = self._tally.n_labels
        running = self.campaign.state == "running"
        return {
            "queued": self._jobs.get("pending", 0),
            "running": self._jobs.get("running", 0),
            "done": self._jobs.get("done", 0),
            "given": self._tally.n_given,
            "failed_attempts": self._tally.failed_attempts,
            "quarantined": self._jobs.get("quarantined", 0),
            "dropped": self._jobs.get("dropped", 0),
            "flags": dict(self._flags.most_common()),
            "per_hour": _digits(self._tally.labels_per_hour(now)) if running else None,
            "per_hour_mean": _digits(3600 * (came - 1) / elapsed) if came > 1 and elapsed > 0 else None,
            "width_s": self._tally.labels.width_s,
            "counts": [[begin, count] for begin, count, _, _ in self._tally.labels.points()],
        }

    def _walkers(self, live: Live | None) -> dict[str, Any]:
        lines = self._tally.walkers
        busy = self._on_board()
        statuses = [self._status(line, live, busy) for line in lines]
        order = sorted(range(len(lines)), key=lambda n: (-_interest(statuses[n]), -(lines[n].disagreement or 0.0), n))
        shown = sorted(order[:SHOWN_WALKERS])
        steps, timestep = sum(line.step for line in lines), self._settings.get("timestep_fs") or 0.0
        return {
            "count": len(lines),
            "counts": dict(Counter(statuses)),
            "steps": steps,
            "simulated_ps": round(steps * timestep / FS_PER_PS, 3),
            "left_out": len(lines) - len(shown),
            "shown": [self._walker(lines[n], statuses[n], live) for n in shown],
        }

    def _status(self, line: WalkerLine, live: Live | None, busy: set[int]) -> str:
        if live is not None and line.walker < len(live.statuses):
            status = live.statuses[line.walker]
            if status == "ready" and line.outcome == "reset":
                return "reset"
            return {"exploring": "moving", "ready": "waiting"}.get(status, status)
        if line.walker in busy and self.under_way:
            return "moving"
        return {"running": "waiting", "new": "waiting"}.get(line.outcome, line.outcome)

    def _walker(self, line: WalkerLine, status: str, live: Live | None) -> dict[str, Any]:
        reason = live.reasons.get(line.walker, "") if live is not None else ""
        return {
            "walker": line.walker,
            "status": status,
            "reason": (reason or line.reason) if status in ("paused", "reset") else "",
            "step": line.step,
            "time_fs": round(line.step * (self._settings.get("timestep_fs") or 0.0), 3),
            "disagreement_ev_ang": _digits(line.disagreement),
            "temperature_k": _digits(line.temperature),
            "resets": line.resets,
            "last_reset": line.last_reset,
            "frame": line.frame,
            "trace_ev_ang": [_digits(value, 3) for value in line.trace],
        }

    def _pools(self) -> list[dict[str, Any]]:
        pools = self._tally.pools if self.under_way else {}
        idle = self._ledger.idle_shares(list(self._running.values()))
        seated = _seated(pools, [TAKEN_BY[row.kind] for row in self._running.values()])
        return [
            {
                "name": name,
                "slots": slots,
                "busy": sum(seated[name].values()),
                "tasks": dict(seated[name]),
                "idle_share": _digits(idle.get(name)),
            }
            for name, slots in pools.items()
        ]

    def _frames(self) -> list[dict[str, Any]]:
        newest = list(self._tally.frames.values())[-SHOWN_FRAMES:]
        return [_short(frame) | {"label": self._frame_states.get(frame["frame"])} for frame in reversed(newest)]

    def _time(self) -> dict[str, Any]:
        split = self._ledger.split(list(self._running.values()) if self.under_way else [])
        return {
            "elapsed_s": round(split.elapsed_s, 1),
            "available_s": round(split.available_s, 1),
            "busy_s": {kind: round(seconds, 1) for kind, seconds in split.busy_s.items()},
            "idle_s": round(split.share("idle") * split.available_s, 1),
            "cpu_s": round(split.cpu_s, 1),
        }

    def _on_board(self) -> set[int]:
        """Walkers of the segments under way: a segment's subject is ``generation 3 walkers 0 1 2``."""
        subjects = [row.subject for row in self._running.values() if row.kind == "explore"]
        return {int(word) for subject in subjects for word in subject.partition(" walkers ")[2].split()}

    def _works_on(self, kind: str) -> bool:
        return self.under_way and any(row.kind == kind for row in self._running.values())


def _seated(pools: Mapping[str, int], kinds: Sequence[str]) -> dict[str, Counter[str]]:
    """Tasks under way by pool, as they are handed out: workers that take little come first."""
    seated: dict[str, Counter[str]] = {name: Counter() for name in pools}
    for kind in kinds:
        free = [n for n in pools if kind in takes(n) and sum(seated[n].values()) < pools[n]]
        if free:
            seated[min(free, key=lambda name: len(takes(name)))][kind] += 1
    return seated


def _interest(status: str) -> int:
    """Walkers that stand come before those that move, when not all can be shown."""
    return {"reset": 2, "paused": 1}.get(status, 0)


def _reference(level: Level | None) -> str:
    """What makes the labels, in a few words.

    Examples:
        >>> _reference(Level("pyscf", {"functional": "pbe", "basis": "def2-svp"}))
        'pyscf pbe/def2-svp'
    """
    if level is None:
        return ""
    method = "/".join(str(level.settings[key]) for key in ("functional", "basis") if level.settings.get(key))
    return " ".join(word for word in (level.engine, method or str(level.settings.get("method", ""))) if word)


def _digits(value: float | None, digits: int = 4) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}")


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    times = {key: round(value, 1) for key, value in row.items() if key.endswith("unix_s")}
    return {key: _digits(value) if isinstance(value, float) else value for key, value in row.items()} | times
