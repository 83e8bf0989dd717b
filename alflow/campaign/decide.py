"""The loop as a pure function: state and event in, state and commands out. No clock, no dice, no disk, no Dask."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from alflow.campaign.begin import begin, committee_given, labels_given
from alflow.campaign.commands import Command, DropFrame, Finish, StartExploring, StartScoring
from alflow.campaign.config import parse_config
from alflow.campaign.events import (
    CampaignResumed,
    CampaignStarted,
    CheckpointsLost,
    CommitteeGiven,
    CommitteeLost,
    Event,
    FrameSeen,
    LabelDone,
    LabelFailed,
    LabelsGiven,
    QueueRescored,
    RetryRequested,
    SeedsProposed,
    SegmentDone,
    StopRequested,
    TaskBroken,
    TaskLost,
    TrainingDone,
    WorkersChanged,
)
from alflow.campaign.plan import TOO_LATE, job_of, label_now, plan
from alflow.campaign.pools import has_room
from alflow.campaign.state import FIRST_HORIZON, Phase, State, WalkerState, replace
from alflow.campaign.waiting import drop, enqueue, settle_walker
from alflow.campaign.walking import checkpoints_lost, release, reported
from alflow.domain import FailureKind
from alflow.errors import CampaignError
from alflow.selection import Request, has_advanced, rescore, stop_reached

__all__ = ["FIRST_HORIZON", "decide", "replay"]

SHORTEST_HORIZON = 10
"""Steps below which a segment is not shortened further."""

FAILURE_LIMIT = 20
"""Failed attempts at labels in a row after which the fault is not the structures'; nothing more is paid for."""

LOSS_LIMIT = 10
"""Times one task may be lost in a way that it can have brought about before it is taken for the cause; and times in a
row that workers may be lost before something is wrong with all of them."""

WORTH_REPEATING = (FailureKind.TIMEOUT, FailureKind.OOM, FailureKind.CRASH)
"""Failures that may be the machine's; the others would come back exactly the same."""

BEFORE_RESUMING = (CommitteeLost, CheckpointsLost, RetryRequested)
"""Events that may come before ``campaign_resumed``, which takes the tasks up that were in flight."""

Change = tuple[State, list[Command]]


def decide(state: State | None, event: Event) -> Change:
    """Take one event into account and say what to do next.

    Args:
        state: What was known before; None before the first event of a campaign.
        event: What has happened.

    Returns:
        What is known now, and the commands that follow, in order.

    Raises:
        CampaignError: The event cannot happen in this state: the journal and the program do not belong together.
    """
    if isinstance(event, CampaignStarted):
        if state is not None:
            raise CampaignError("A campaign can start only once; its journal has a second campaign_started.")
        return _started(event)
    if state is None:
        raise CampaignError(f"A journal begins with campaign_started; found {event.kind}.")
    task = getattr(event, "task", None)
    if task is not None and task not in state.running:
        raise CampaignError(f"Event {event.kind} answers the task {task!r}, which is not in flight.")
    changed, commands = _APPLY[type(event)](replace(state, n_events=state.n_events + 1), event)
    if isinstance(event, BEFORE_RESUMING) or getattr(event, "recovered", False):
        return changed, commands  # nothing starts before the tasks that ran beside it are taken up
    planned, further = plan(changed)
    return planned, commands + further


def replay(events: Iterable[Event], state: State | None = None) -> State | None:
    """The state that a journal leads to, or what is left of it after a state. Commands are not carried out again."""
    for event in events:
        state, _ = decide(state, event)
    return state


def _started(event: CampaignStarted) -> Change:
    config = parse_config(event.config, "the campaign's stored configuration")
    walkers = tuple(WalkerState(number) for number in range(config.walkers))
    horizon = min(FIRST_HORIZON, config.segment_steps)
    ready = frozenset(range(config.walkers))
    state = State(config, event.slots, event.pools, n_events=1, walkers=walkers, ready=ready, horizon=horizon)
    return begin(state)


def _resumed(state: State, event: CampaignResumed) -> Change:
    """Start what was in flight again, as far as there are workers; put the rest back to where it was before.

    Started again before anything else, a campaign that was interrupted makes the same decisions as one that was not.
    """
    commands: list[Command] = []
    state = replace(state, slots=event.slots, pools=event.pools)
    taken: list[str] = []
    innocent = state.phase in ("failed", "stopped")  # it ended by itself; else a label may have taken it along
    for name, running in dict(state.running).items():
        again = has_room(state.workers, taken, running.kind)
        state, more = (_start_again if again else _put_back)(state, name, innocent, FailureKind.SCHEDULER_LOST)
        taken.extend([running.kind] if again else [])
        commands.extend(more)
    if state.phase in ("stopped", "failed", "stopping"):
        phase: Phase = "closing" if state.ending else "running" if state.seeded else "new"
        state = replace(state, phase=phase, reason=state.ending)
    if state.generation == 0 and not state.running_of("train"):
        state = replace(state, trained_labels=0)  # a first training that failed may be tried again
    state = replace(state, losses=0, lost_trainings=0, failures=0, idle_rounds=0)
    state, more = begin(state)
    return state, [*commands, *more]


def _workers(state: State, event: WorkersChanged) -> Change:
    return replace(state, slots=event.slots, pools=event.pools), []


def _start_again(state: State, task: str, innocent: bool, cause: str) -> Change:
    """Start a task again whose orchestrator ended; a label with which it keeps dying is given up."""
    running = state.running[task]
    request, start = running.request, running.start
    if request is not None:
        suspect = request.n_suspect + (not innocent)
        if suspect >= LOSS_LIMIT and not innocent:
            return _put_back(state, task, innocent, cause)
        request = replace(request, n_lost=request.n_lost + 1, n_suspect=suspect)
        return label_now(state.without_task(task), request)
    assert start is not None
    if isinstance(start, StartExploring | StartScoring):
        start = replace(start, generation=state.generation)  # it gets the committee of today
        running = replace(running, generation=state.generation, start=start)
    state = state.without_task(task)
    return state.with_task(task, running), [start]


def _put_back(state: State, task: str, innocent: bool = False, cause: str = FailureKind.WORKER_LOST) -> Change:
    """What it was before a task began; its loss counts against it unless it cannot be to blame."""
    running = state.running[task]
    state = state.without_task(task)
    if running.kind == "train":
        return replace(state, trained_labels=state.covered_labels), []
    if running.kind == "score":
        return replace(state, rescore=True), []
    if running.kind == "explore":
        aboard = [state.walkers[number] for number in running.walkers]
        back = (replace(w, status="ready", segment=w.segment - 1, restart=w.walker in running.restarts) for w in aboard)
        return state.with_walkers(back), []
    assert running.request is not None
    before = running.request
    suspect = before.n_suspect + (not innocent)
    request = replace(before, attempts=before.attempts - 1, n_lost=before.n_lost + 1, n_suspect=suspect)
    if suspect >= LOSS_LIMIT and not innocent:
        message = f"whatever computed it was lost, or its time was up, {suspect} times"
        state = settle_walker(replace(state, n_quarantined=state.n_quarantined + 1), request, restart=True)
        return state, [job_of(request, "quarantined", cause, message)]
    state, commands = enqueue(state, request)
    return state, commands


def _request(frame: FrameSeen, purpose: Any, generation: int) -> Request:
    return Request(
        frame_id=frame.frame_id,
        structure_id=frame.structure_id,
        purpose=purpose,
        disagreement=frame.disagreement,
        walker=frame.walker,
        generation=generation,
    )


def _seeds(state: State, event: SeedsProposed) -> Change:
    state = replace(state, phase="running" if state.phase == "new" else state.phase, seeded=True)
    return enqueue(state, *(_request(frame, "seed", 0) for frame in event.frames))


def _segment(state: State, event: SegmentDone) -> Change:
    state = state.without_task(event.task)
    state = state.with_walkers(reported(state, report) for report in event.reports)
    state, commands = _seen(state, event)
    flagged = any(r.frame is not None and r.frame.duplicate_of is None for r in event.reports if r.status == "paused")
    steps = sum(r.steps for r in event.reports if r.status != "reset")
    state = replace(state, quiet_steps=0 if flagged else state.quiet_steps + steps, losses=0)
    if any(r.status == "running" for r in event.reports):
        state = replace(state, idle_rounds=0)
    if event.generation == state.generation:
        reset = any(r.status == "reset" for r in event.reports)
        longer = max(SHORTEST_HORIZON, state.horizon // 2) if reset else 2 * state.horizon
        state = replace(state, horizon=min(longer, state.config.segment_steps))
    if event.audit is not None and state.phase == "running":
        state, more = enqueue(state, _request(event.audit, "audit", event.generation))
        commands.extend(more)
    elif event.audit is not None:
        commands.append(DropFrame(event.audit.frame_id, "dropped", TOO_LATE))
    return state, commands


def _seen(state: State, event: SegmentDone) -> Change:
    """What becomes of the frames at which walkers ended their segment."""
    wanted: list[Request] = []
    refused: list[Command] = []
    for report in event.reports:
        frame = report.frame
        if frame is None or report.status == "running":
            continue
        if report.status == "reset":
            refused.append(DropFrame(frame.frame_id, "unphysical", report.reason))
        elif frame.duplicate_of is not None:
            reason = f"nearly the same as frame {frame.duplicate_of}"
            refused.append(DropFrame(frame.frame_id, "duplicate", reason))
        else:
            wanted.append(_request(frame, "flagged", event.generation))
    state, commands = enqueue(state, *wanted)
    return state, refused + commands


def _label_done(state: State, event: LabelDone) -> Change:
    running = state.running[event.task]
    assert running.request is not None
    audit = running.request.purpose == "audit"
    state = replace(
        state.without_task(event.task),
        n_done=state.n_done + 1,
        n_train=state.n_train + (not audit),
        n_audit=state.n_audit + audit,
        losses=0,
        failures=0,
        idle_rounds=0,
    )
    return settle_walker(state, running.request), [job_of(running.request, "done")]


def _label_failed(state: State, event: LabelFailed) -> Change:
    request = state.running[event.task].request
    assert request is not None
    state = replace(state.without_task(event.task), n_failed=state.n_failed + 1, failures=state.failures + 1)
    if state.failures >= FAILURE_LIMIT:
        reason = f"{state.failures} attempts at labels failed in a row; the last: {event.failure}: {event.message}"
        state, commands = enqueue(state, replace(request, attempts=request.attempts - 1))
        return replace(state, phase="failed", reason=reason), [*commands, Finish("failed", reason)]
    if event.failure in WORTH_REPEATING and request.attempts < state.config.reference.max_attempts:
        return enqueue(state, request, failure=event.failure, message=event.message)
    state = settle_walker(replace(state, n_quarantined=state.n_quarantined + 1), request, restart=True)
    return state, [job_of(request, "quarantined", event.failure, event.message)]


def _training(state: State, event: TrainingDone) -> Change:
    state = replace(state.without_task(event.task), covered_labels=event.n_labels, losses=0, lost_trainings=0)
    if event.accepted:
        state = replace(
            state,
            generation=state.generation + 1,
            committee_lost=False,
            horizon=min(FIRST_HORIZON, state.config.segment_steps),
            rescore=True,
            error=dict(event.metrics),
        )
        upper = event.metrics.get("audit_force_mae_upper_ev_ang")
        n_audit = round(event.metrics.get("n_audit", 0))
        if (
            state.phase == "running"
            and upper is not None
            and stop_reached(upper, state.config.target_force_error_ev_ang, n_audit, state.config.audit_minimum)
        ):
            state = state.closing("the audit error is below the target")
    elif state.generation == 0:
        reason = f"the first training gave no usable committee: {event.reason}"
        return replace(state, phase="failed", reason=reason), [Finish("failed", reason)]
    return release(state.next_cycle() if state.config.barrier else state, event.n_labels), []


def _rescored(state: State, event: QueueRescored) -> Change:
    state = state.without_task(event.task)
    if event.generation != state.generation:
        return replace(state, rescore=True), []
    queue, dropped = rescore(state.queue, event.scores, state.threshold, event.generation)
    state = replace(state, queue=queue)
    gone = {request.frame_id for request, _ in dropped}
    state = state.with_walkers(
        replace(walker, status="ready", frame_id=None, needs_labels=None, reason="")
        for walker in state.walkers
        if walker.frame_id in gone
    )
    return drop(state, dropped, [])


def _lost(state: State, event: TaskLost) -> Change:
    innocent = event.cause == FailureKind.SCHEDULER_LOST
    lost = state.running[event.task]
    if lost.request is not None and event.steps_made > lost.request.steps_made:
        # A long label needs several workers, one after the other, and comes to its end.
        innocent = innocent or has_advanced(lost.request.steps_made, event.steps_made)
        further = replace(lost, request=replace(lost.request, steps_made=event.steps_made))
        state = replace(state, running={**state.running, event.task: further})
    state, commands = _put_back(state, event.task, innocent, event.cause)
    if lost.kind == "train" and not innocent:  # labels that are made meanwhile do not make it fit
        state = replace(state, lost_trainings=state.lost_trainings + 1)
    # A machine takes all along that runs there: what was in flight at the last loss that counted may belong to it.
    # Time that is up says nothing about the machines; but what never ends in time is not tried for ever.
    if event.cause == FailureKind.WORKER_LOST and (lost.since >= state.loss_at or not event.worker):
        state = replace(state, losses=state.losses + 1, loss_at=state.n_events)
    reason = ""
    if event.last:
        reason = f"a training was lost {state.lost_trainings} times in a row, the last time: {event.message}; give the "
        reason += "workers that train more memory or more time"
    elif state.losses >= LOSS_LIMIT:
        reason = f"workers were lost {state.losses} times in a row; the last: {event.message}"
    if reason:
        return replace(state, phase="failed", reason=reason), [*commands, Finish("failed", reason)]
    return state, commands


def _broken(state: State, event: TaskBroken) -> Change:
    state, commands = _put_back(state, event.task, innocent=True)
    return replace(state, phase="failed", reason=event.message), [*commands, Finish("failed", event.message)]


def _committee_lost(state: State, event: CommitteeLost) -> Change:
    """Nothing may use the active committee until another has been trained on all labels, from nothing."""
    for name, running in list(state.running.items()):
        if running.kind in ("explore", "score", "train"):
            state, _ = _put_back(state, name)
    return replace(state, committee_lost=True, trained_labels=0, covered_labels=0), []


def _stop(state: State, event: StopRequested) -> Change:
    if state.phase in ("new", "running", "closing"):
        return replace(state, phase="stopping", reason=event.reason), []
    return state, []


def _retry(state: State, event: RetryRequested) -> Change:
    """Requests that were given up wait again, with fresh attempts; their walkers have gone elsewhere."""
    left = state.n_quarantined - len(event.frames)
    if left < 0:
        raise CampaignError(f"{len(event.frames)} labels are to be tried again; {state.n_quarantined} are given up.")
    state = replace(state, n_quarantined=left, n_retries=state.n_retries + 1)
    return enqueue(state, *(Request(**vars(frame), retry=state.n_retries) for frame in event.frames))


_APPLY: dict[type[Any], Callable[[State, Any], Change]] = {
    CampaignResumed: _resumed,
    WorkersChanged: _workers,
    LabelsGiven: labels_given,
    CommitteeGiven: committee_given,
    SeedsProposed: _seeds,
    SegmentDone: _segment,
    LabelDone: _label_done,
    LabelFailed: _label_failed,
    TrainingDone: _training,
    QueueRescored: _rescored,
    TaskLost: _lost,
    CommitteeLost: _committee_lost,
    CheckpointsLost: checkpoints_lost,
    TaskBroken: _broken,
    StopRequested: _stop,
    RetryRequested: _retry,
}
