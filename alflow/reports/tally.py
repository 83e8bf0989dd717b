"""What the journal tells of a campaign, counted event by event, so that looking again costs only what is new."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

from alflow.domain import FailureKind
from alflow.reports.bins import Bins
from alflow.store import EventRecord, ExecutionRecord

__all__ = ["Tally", "WalkerLine", "without_secrets"]

TRACE: Final = 24
"""Segments of a walker whose disagreement is kept."""

FAILURES: Final = 12
FRAMES: Final = 40
GENERATIONS: Final = 200
LABEL_TIMES: Final = 20_000
LONGEST_MESSAGE: Final = 240
COUNTED: Final = frozenset(
    (
        "campaign_started",
        "campaign_resumed",
        "labelling_started",
        "import_started",
        "workers_changed",
        "stop_requested",
        "seeds_proposed",
        "segment_done",
        "label_done",
        "training_done",
        "labels_given",
        "committee_given",
        "committee_lost",
        "checkpoints_lost",
    )
)
"""Events that are counted, each by the method of its name."""


@dataclass
class WalkerLine:
    """What the last segments of a walker came to.

    Attributes:
        walker: Its number.
        step: Steps it has made.
        outcome: How its last segment ended: ``running``, ``paused``, ``reset``, or ``new`` before the first.
        reason: Why it was paused or reset.
        disagreement: Largest of its last segment, eV/Å.
        temperature: Mean of its last segment, K.
        resets: How often a guard sent it back.
        last_reset: Why, the last time; empty if it never was.
        frame: The frame it flagged last.
        trace: Largest disagreement of its last segments, eV/Å, oldest first.
    """

    walker: int
    step: int = 0
    outcome: str = "new"
    reason: str = ""
    disagreement: float | None = None
    temperature: float | None = None
    resets: int = 0
    last_reset: str = ""
    frame: str | None = None
    trace: deque[float] = field(default_factory=lambda: deque(maxlen=TRACE))


class Tally:
    """Counts what happened.

    Args:
        walkers: How many walkers there are.

    Attributes:
        seq: Number of the last event.
        last_s: Its time, s since 1970.
        begun_s: Time at which the latest orchestrator began.
        stopping: Whether it was asked to stop.
        generation: The active committee.
        generations: What was measured of each, oldest first.
        pools: Workers by the name of their pool.
        drained: Machines that get no more labels.
        walkers: Every walker, by number.
        disagreement: What walkers reported in the course of time, eV/Å.
        labels: Labels in the course of time.
        n_labels: How many came; labels that were there before are not among them.
        n_given: How many of those the campaign began with.
        label_times: When the latest labels came, s since 1970, oldest first.
        failed_attempts: Attempts at labels that failed.
        failures: The latest failures of all kinds, oldest first.
        failure_counts: How many there were of each class.
        frames: The latest frames, oldest first, by their ids.
    """

    def __init__(self, walkers: int) -> None:
        self.seq = 0
        self.last_s = self.begun_s = 0.0
        self.stopping = False
        self.generation = 0
        self.failed_attempts = self.n_labels = self.n_given = 0
        self.pools: Mapping[str, int] = {}
        self.drained: tuple[str, ...] = ()
        self.walkers = [WalkerLine(number) for number in range(walkers)]
        self.generations: deque[dict[str, Any]] = deque(maxlen=GENERATIONS)
        self.disagreement = Bins()
        self.labels = Bins()
        self.label_times: deque[float] = deque(maxlen=LABEL_TIMES)
        self.failures: deque[dict[str, Any]] = deque(maxlen=FAILURES)
        self.failure_counts: dict[str, int] = {}
        self.frames: dict[str, dict[str, Any]] = {}

    def add(self, event: EventRecord) -> None:
        """Take note of the next event of the journal; one of a kind unknown here changes nothing but the time."""
        self.seq, self.last_s = event.seq, event.recorded_at.timestamp()
        if event.kind in COUNTED:
            getattr(self, f"_{event.kind}")(event.payload)

    def add_failure(self, row: ExecutionRecord) -> None:
        """Take note of an attempt that failed or was lost; of one that went well, of nothing."""
        if row.failure_kind is None:
            return
        self.failed_attempts += row.kind == "label" and row.status == "failed"
        ended = row.ended_at.timestamp() if row.ended_at is not None else self.last_s
        lines = row.message.strip().splitlines() or [""]
        message = lines[-1] if row.failure_kind is FailureKind.BUG else row.message
        # the request of a label that was wanted of a file is named by its frame and its level
        frame = row.subject.partition("-")[0] if row.kind == "label" else None
        self._failure(row.failure_kind.value, row.kind, message, ended, frame)

    def labels_per_hour(self, now_s: float, window_s: float = 600.0) -> float | None:
        """Labels an hour lately, in a window that ends now; None while nothing can be said."""
        since = max(self.begun_s, now_s - window_s)
        if now_s - since < 10 or not self.label_times:
            return None
        lately = takewhile(lambda time: time > since, reversed(self.label_times))
        return 3600 * sum(1 for _ in lately) / (now_s - since)

    def _campaign_started(self, told: Mapping[str, Any]) -> None:
        self.begun_s, self.stopping = self.last_s, False
        self._workers_changed(told)

    _campaign_resumed = _labelling_started = _campaign_started

    def _import_started(self, told: Mapping[str, Any]) -> None:
        self.begun_s, self.stopping, self.pools = self.last_s, False, {}

    def _workers_changed(self, told: Mapping[str, Any]) -> None:
        self.pools = told.get("pools") or {"shared": int(told.get("slots", 0))}
        self.drained = tuple(told.get("drained", ()))

    def _stop_requested(self, told: Mapping[str, Any]) -> None:
        self.stopping = True

    def _seeds_proposed(self, told: Mapping[str, Any]) -> None:
        for frame in told["frames"]:
            self._frame(frame, "seed")

    def _segment_done(self, told: Mapping[str, Any]) -> None:
        for report in told["reports"]:
            self._walked(report)
        if told.get("audit"):
            self._frame(told["audit"], "audit")

    def _walked(self, report: Mapping[str, Any]) -> None:
        number = report["walker"]
        if number >= len(self.walkers):
            self.walkers.extend(WalkerLine(n) for n in range(len(self.walkers), number + 1))
        line = self.walkers[number]
        line.step, line.outcome, line.reason = report["step"], report["status"], report["reason"]
        line.disagreement, line.temperature = report["max_disagreement"], report["temperature"]
        line.trace.append(report["max_disagreement"])
        if report["status"] == "reset":
            line.resets, line.last_reset = line.resets + 1, report["reason"]
        self.disagreement.add(self.last_s, report["max_disagreement"])
        frame = report.get("frame")
        if frame:
            line.frame = frame["frame_id"]
            twin = frame.get("duplicate_of")
            self._frame(frame, "unphysical" if report["status"] == "reset" else "duplicate" if twin else "flagged")

    def _frame(self, frame: Mapping[str, Any], kind: str) -> None:
        self.frames.pop(frame["frame_id"], None)
        self.frames[frame["frame_id"]] = {
            "frame": frame["frame_id"],
            "kind": kind,
            "walker": frame["walker"] if frame["walker"] >= 0 else None,
            "step": frame["step"] if frame["walker"] >= 0 else None,
            "disagreement_ev_ang": frame["disagreement"] if frame["walker"] >= 0 else None,
            "error_ev_ang": None,
            "at_unix_s": self.last_s,
        }
        while len(self.frames) > FRAMES:
            del self.frames[next(iter(self.frames))]

    def _label_done(self, told: Mapping[str, Any]) -> None:
        self.n_labels += 1
        self.label_times.append(self.last_s)
        self.labels.add(self.last_s, 1.0)
        if told["frame_id"] in self.frames:
            self.frames[told["frame_id"]]["error_ev_ang"] = told.get("max_error")

    def _committee_lost(self, told: Mapping[str, Any]) -> None:
        self._failure("COMMITTEE_LOST", "train", told["message"], self.last_s)

    def _checkpoints_lost(self, told: Mapping[str, Any]) -> None:
        self._failure("CHECKPOINT_LOST", "explore", told["message"], self.last_s)

    def _training_done(self, told: Mapping[str, Any]) -> None:
        if not told["accepted"]:
            self._failure("REJECTED_COMMITTEE", "train", told["reason"], self.last_s)
            return
        metrics = told["metrics"]
        self._generation(int(metrics.get("n_train", told["n_labels"])), metrics)

    def _labels_given(self, told: Mapping[str, Any]) -> None:
        self.n_given += len(told["frames"])

    def _committee_given(self, told: Mapping[str, Any]) -> None:
        self._generation(0, {})

    def _generation(self, n_labels: int, metrics: Mapping[str, Any]) -> None:
        self.generation += 1
        self.generations.append(
            {
                "generation": self.generation,
                "n_labels": n_labels,
                "n_audit": int(metrics.get("n_audit", 0)),
                "audit_force_mae_ev_ang": metrics.get("audit_force_mae_ev_ang"),
                "audit_force_mae_lower_ev_ang": metrics.get("audit_force_mae_lower_ev_ang"),
                "audit_force_mae_upper_ev_ang": metrics.get("audit_force_mae_upper_ev_ang"),
                "validation_force_mae_ev_ang": metrics.get("validation_force_mae_ev_ang"),
                "at_unix_s": self.last_s,
            }
        )

    def _failure(self, kind: str, what: str, message: str, at_s: float, frame: str | None = None) -> None:
        self.failure_counts[kind] = self.failure_counts.get(kind, 0) + 1
        told = without_secrets(" ".join(message.split()))
        short = told if len(told) <= LONGEST_MESSAGE else told[: LONGEST_MESSAGE - 1] + "…"
        self.failures.append(
            {"at_unix_s": round(at_s, 1), "class": kind, "what": what, "message": short, "frame": frame}
        )


def without_secrets(text: str) -> str:
    """A message without the user and password of any address in it.

    Examples:
        >>> without_secrets("postgresql+psycopg://ada:secret@db/carbon is away")
        'postgresql+psycopg://…@db/carbon is away'
    """
    return re.sub(r"://[^/\s@]+@", "://…@", text)
