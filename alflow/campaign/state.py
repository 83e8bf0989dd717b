"""All the loop knows between two events. Small whatever the campaign has done: settled work is counted, not kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from alflow.campaign.commands import Start
from alflow.campaign.config import CampaignConfig
from alflow.campaign.pools import KINDS, SHARED, Kind, rooms, slots_for
from alflow.selection import Request, threshold_in_force

__all__ = ["FIRST_HORIZON", "Phase", "Running", "State", "WalkerState", "replace"]

FIRST_HORIZON = 40
"""Steps of the first segment under a new committee; doubled while no guard fires."""

Noun = TypeVar("Noun")
Phase = Literal["new", "running", "closing", "stopping", "finished", "stopped", "failed"]


def replace(noun: Noun, /, **changes: Any) -> Noun:
    """The same noun with some fields changed: :func:`dataclasses.replace` for those whose fields need no check.

    The loop makes a dozen states of every event, and replays a hundred thousand events; this is ten times as fast.

    Raises:
        TypeError: There is no such field.

    Examples:
        >>> replace(WalkerState(0), step=5).step
        5
    """
    fields = noun.__dict__
    filled = fields.copy()
    filled.update(changes)
    if len(filled) > len(fields):
        raise TypeError(f"{type(noun).__name__} has no field {', '.join(sorted(changes.keys() - fields.keys()))}.")
    changed: Noun = object.__new__(type(noun))
    object.__setattr__(changed, "__dict__", filled)
    return changed


@dataclass(frozen=True)
class WalkerState:
    """What the loop knows of one walker.

    Attributes:
        walker: Its number.
        status: ``ready`` to move, ``exploring`` in a task, or ``paused``.
        segment: Segments it has been ordered to run.
        step: Steps it has made.
        restart: Whether it must go back to its starting structure first.
        frame_id: The frame it paused at, while that frame's label is open.
        needs_labels: Once its frame is settled: it goes on when a committee has been trained on this many labels.
        disagreement: Largest disagreement of its last segment, eV/Å.
        temperature: Mean temperature of its last segment, K.
        cycle_step: Its step at the beginning of the cycle, where moving, labelling and training take turns.
        resets: How often a guard sent it back.
        resets_in_a_row: How often since it last came to the end of a segment or to a flag.
        reason: Why it is paused or was last reset.
        checkpoint: Digest of its latest checkpoint; empty if none is known.
    """

    walker: int
    status: Literal["ready", "exploring", "paused"] = "ready"
    segment: int = 0
    step: int = 0
    restart: bool = True
    frame_id: str | None = None
    needs_labels: int | None = None
    disagreement: float = 0.0
    temperature: float = 0.0
    cycle_step: int = 0
    resets: int = 0
    resets_in_a_row: int = 0
    reason: str = ""
    checkpoint: str = ""


@dataclass(frozen=True)
class Running:
    """A task in flight.

    Attributes:
        kind: What it does.
        request: The label request, for a label.
        walkers: The walkers on board, for a segment.
        restarts: Those of them that begin at their starting structure.
        n_labels: The labels it trains on, for a training.
        generation: The committee it uses, for a segment or a scoring.
        start: What started it, so that a new orchestrator can start it again.
        since: Number of the event after which it was started.
    """

    kind: Literal["label", "explore", "train", "score"]
    request: Request | None = None
    walkers: tuple[int, ...] = ()
    restarts: tuple[int, ...] = ()
    n_labels: int = 0
    generation: int = 0
    start: Start | None = None
    since: int = 0


@dataclass(frozen=True)
class State:
    """The whole state of the loop; everything follows from the events in the journal.

    Attributes:
        config: What the user asked for.
        slots: Workers in all.
        pools: Workers by the name of their pool; empty if all of them take every task.
        n_events: Events of the journal that led here.
        phase: ``new``; ``running``; ``closing`` (no new frames, last training); ``stopping`` (asked to stop);
            ``finished``, ``stopped``, ``failed``.
        reason: Why it is closing, stopping, or ended.
        ending: Why it had begun to close, if it had; it is not forgotten when somebody stops it meanwhile.
        queue: Label requests that wait, in the order in which they will run.
        running: Tasks in flight, by name; changed by :meth:`with_task` and :meth:`without_task` only.
        in_flight: Their numbers by kind, those of labels also by purpose; what is not there is 0.
        walkers: Every walker, in the order of their numbers from 0.
        ready: Numbers of those that are ready to move.
        seeded: Whether all is there that the campaign begins with.
        labels_given: Whether labels of the database were taken over.
        complete: Whether every element of the starting structures occurs among them.
        n_given: Labels that were taken over; no part of the budget.
        n_done: Labels committed. Their order is the order of their events.
        n_train: Labels committed that are not audit labels.
        n_audit: Audit labels committed.
        n_failed: Attempts that failed.
        n_quarantined: Requests given up.
        n_retries: Times somebody asked to try again what was given up.
        n_dropped: Requests dropped because they were no longer uncertain, or crowded out.
        generation: The active committee; 0 before the first.
        trained_labels: Labels the latest training, running or done, was started on.
        covered_labels: Labels the latest finished training was started on.
        n_trainings: Trainings started.
        n_segments: Segments started.
        n_scorings: Scorings started.
        rescore: Whether the queue must be scored by the active committee.
        horizon: Steps of the next segment.
        last_start: What was started last, labelling or exploring; they take turns.
        losses: Times in a row that workers were lost, however many went at once.
        loss_at: Number of the event of the last of them.
        lost_trainings: Times in a row that a training was lost, or its worker's time was up.
        failures: Attempts at labels that failed in a row.
        committee_lost: Whether the active committee's weight file is gone or altered, so that nothing may use it.
        quiet_steps: Steps of all walkers together since the last flag.
        idle_rounds: Times in a row that paused walkers were set free for want of anything else to do.
        error: Latest audit estimate of the force error, by metric name.
    """

    config: CampaignConfig
    slots: int
    pools: Mapping[str, int] = field(default_factory=dict)
    n_events: int = 0
    phase: Phase = "new"
    reason: str = ""
    ending: str = ""
    queue: tuple[Request, ...] = ()
    running: Mapping[str, Running] = field(default_factory=dict)
    in_flight: Mapping[str, int] = field(default_factory=dict)
    walkers: tuple[WalkerState, ...] = ()
    ready: frozenset[int] = frozenset()
    seeded: bool = False
    labels_given: bool = False
    complete: bool = False
    n_given: int = 0
    n_done: int = 0
    n_train: int = 0
    n_audit: int = 0
    n_failed: int = 0
    n_quarantined: int = 0
    n_retries: int = 0
    n_dropped: int = 0
    generation: int = 0
    trained_labels: int = 0
    covered_labels: int = 0
    n_trainings: int = 0
    n_segments: int = 0
    n_scorings: int = 0
    rescore: bool = False
    horizon: int = 0
    last_start: Literal["label", "explore"] = "explore"
    losses: int = 0
    loss_at: int = 0
    lost_trainings: int = 0
    failures: int = 0
    committee_lost: bool = False
    quiet_steps: int = 0
    idle_rounds: int = 0
    error: Mapping[str, float] = field(default_factory=dict)

    @property
    def threshold(self) -> float:
        """Disagreement that pauses a walker, eV/Å."""
        threshold = threshold_in_force(self.config.threshold_ev_ang, self.config.target_force_error_ev_ang)
        assert threshold is not None  # there always is a target
        return threshold

    @property
    def n_spent(self) -> int:
        """Labels committed of the campaign's own budget."""
        return self.n_done - self.n_given

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.phase in ("finished", "stopped", "failed")

    @property
    def workers(self) -> Mapping[str, int]:
        """Workers by the name of their pool."""
        return self.pools or {SHARED: self.slots}

    @property
    def served(self) -> bool:
        """Whether there is a worker for every kind of task."""
        return all(slots_for(self.workers, kind) for kind in KINDS)

    @property
    def rooms(self) -> frozenset[Kind]:
        """The kinds of tasks of which one more can start."""
        return rooms(self.workers, self.in_flight)

    def closing(self, reason: str) -> State:
        """The state in which nothing new is looked for, and a last training takes in what is left."""
        return replace(self, phase="closing", reason=reason, ending=reason)

    def next_cycle(self) -> State:
        """The state in which every walker's turn begins anew."""
        return replace(self, walkers=tuple(replace(walker, cycle_step=walker.step) for walker in self.walkers))

    def running_of(self, kind: str) -> int:
        """Number of tasks in flight of a kind, or of labels for a purpose."""
        return self.in_flight.get(kind, 0)

    def with_task(self, task: str, running: Running) -> State:
        """The state with one more task in flight."""
        running = replace(running, since=self.n_events)
        return replace(self, running={**self.running, task: running}, in_flight=self._counted(running, 1))

    def without_task(self, task: str) -> State:
        """The state once a task is no longer in flight."""
        left = dict(self.running)
        return replace(self, in_flight=self._counted(left.pop(task), -1), running=left)

    def _counted(self, running: Running, change: int) -> Mapping[str, int]:
        counts = dict(self.in_flight)
        for name in (running.kind, running.request.purpose) if running.request is not None else (running.kind,):
            counts[name] = counts.get(name, 0) + change
        return counts

    def with_walkers(self, changed: Iterable[WalkerState]) -> State:
        """The state with some walkers replaced."""
        walkers = list(self.walkers)
        now_ready: set[int] = set()
        busy: set[int] = set()
        for walker in changed:
            walkers[walker.walker] = walker
            (now_ready if walker.status == "ready" else busy).add(walker.walker)
        ready = self.ready if busy.isdisjoint(self.ready) else self.ready - busy
        ready = ready if now_ready <= ready else ready | now_ready
        return replace(self, walkers=tuple(walkers), ready=ready)
