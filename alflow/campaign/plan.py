"""What to start next, given the state: the second half of ``decide``.

A free worker that takes every task goes, in this order, to a training that is due, to a fresh look at the queue, and
then in turns to a label and to a segment of dynamics; one of a pool of its own to the first of these that it takes.
Nothing waits for everything: labels run while walkers move and a committee trains. Only with ``barrier`` they take
turns.
"""

from __future__ import annotations

from alflow.campaign.commands import (
    Command,
    DropFrame,
    Finish,
    PutJob,
    StartExploring,
    StartLabel,
    StartScoring,
    StartTraining,
    WalkerOrder,
)
from alflow.campaign.pools import KINDS, Kind, kind_of, slots_for
from alflow.campaign.state import Running, State, WalkerState, replace
from alflow.selection import Request, next_request, waiting_for
from alflow.units import FS_PER_PS

__all__ = ["TOO_LATE", "job_of", "label_now", "plan"]

TOO_LATE = "the campaign ended before its turn"
"""Why a frame that still waited at the end has no label."""

NO_WAY_BACK = "the committee the campaign began with is lost, and there are too few labels to train another"

IDLE_LIMIT = 20
"""Times in a row the walkers may be set free for want of anything else to do, before the campaign gives up."""

GROWTH = 0.1
"""A training is due when the new labels are this share of those trained on, and at least the configured number."""


def job_of(request: Request, state: str, failure: str | None = None, message: str | None = None) -> PutJob:
    """The bookkeeping row of a label request."""
    return PutJob(
        frame_id=request.frame_id,
        structure_id=request.structure_id,
        purpose=request.purpose,
        state=state,  # type: ignore[arg-type]
        priority=request.disagreement,
        attempts=request.attempts,
        n_lost=request.n_lost,
        failure=failure,
        message=message,
    )


def plan(state: State) -> tuple[State, list[Command]]:
    """Give every free worker something to do; end the campaign when there is nothing left to do."""
    commands: list[Command] = []
    if state.ended or state.phase == "new":
        return state, commands
    state = _close_if_done(state)
    while True:
        state, started = _start_one(state)
        if not started:
            break
        commands.extend(started)
    if not state.running and not commands and (state.served or state.phase == "stopping"):
        state, ending = _when_idle(state)
        commands.extend(ending)
    return state, commands


def _close_if_done(state: State) -> State:
    if state.phase != "running":
        return state
    if state.n_spent >= state.config.label_budget and not state.running_of("label"):
        return state.closing("label budget spent")
    quiet_ps = state.quiet_steps * state.config.timestep_fs / FS_PER_PS
    if quiet_ps < state.config.quiet_ps or state.queue:
        return state
    # Twice as long is long enough even for the audits: near its minimum a molecule may have no new frame to offer.
    if quiet_ps >= 2 * state.config.quiet_ps or not _audit_wanted(state):
        resets = sum(walker.resets for walker in state.walkers)
        guarded = f"; in all, guards sent walkers back {resets} times" if resets else ""
        return state.closing(f"no frame was flagged in {quiet_ps:.0f} ps{guarded}")
    return state


def _start_one(state: State) -> tuple[State, list[Command]]:
    if state.phase == "stopping":
        return state, []
    rooms = state.rooms
    if not rooms:
        return state, []
    if state.config.barrier and state.phase == "running":
        return _start_in_turn(state, rooms)
    if "train" in rooms and _training_due(state):
        return _start_training(state)
    if state.phase == "closing":
        return state, []
    can_explore, can_label = "explore" in rooms, "label" in rooms
    if can_explore and _scoring_due(state):
        return _start_scoring(state)
    idle = len(rooms) == len(KINDS)
    can_label &= bool(state.queue) and state.n_spent + state.running_of("label") < state.config.label_budget
    if can_label and state.last_start == "explore":
        return _start_label(state)
    group = _ready_group(state) if can_explore else ()
    if group:
        return _start_exploring(state, group)
    if can_label:
        return _start_label(state)
    if idle and _fresh_labels(state) > 0 and state.generation > 0 and not state.running_of("train"):
        return _start_training(state)  # a core is free and every walker waits: train on what there is
    return state, []


def _start_in_turn(state: State, rooms: frozenset[Kind]) -> tuple[State, list[Command]]:
    """The classical cycle: all walkers move, then all labels are computed, then a committee is trained.

    A walker's turn ends at a flag, or after ``segment_steps``. A cycle without any flag is followed by the next.
    """
    under_way = {kind_of(task.kind) for task in state.running.values()}
    group = _ready_group(state)
    if "explore" in rooms and group and under_way <= {"explore"}:
        return _start_exploring(state, group)
    can_label = bool(state.queue) and state.n_spent + state.running_of("label") < state.config.label_budget
    if "label" in rooms and can_label and under_way <= {"label"}:
        return _start_label(state)
    if under_way:
        return state, []
    if _fresh_labels(state) > 0 and state.n_train >= 3:
        return _start_training(state)
    if not state.ready:
        return state, []
    state = state.next_cycle()
    group = _ready_group(state)
    return _start_exploring(state, group) if group else (state, [])


def _fresh_labels(state: State) -> int:
    return state.n_done - state.trained_labels


def _scoring_due(state: State) -> bool:
    return state.rescore and not state.committee_lost and waiting_for(state.queue, "flagged") > 0


def _training_due(state: State) -> bool:
    if state.running_of("train") or state.n_train < 3 or _fresh_labels(state) == 0:
        return False
    if state.committee_lost:
        return True
    if state.phase == "closing":
        return not state.running_of("label")
    if state.generation == 0:
        return not (waiting_for(state.queue, "seed") or state.running_of("seed"))
    due = max(state.config.labels_per_generation, int(GROWTH * state.trained_labels))
    return _fresh_labels(state) >= due or _somebody_waits_for_training(state)


def _somebody_waits_for_training(state: State) -> bool:
    """Whether walkers, or the stop rule, wait for what is known already, while no further label is on its way."""
    if state.queue or state.running_of("label"):
        return False
    if state.quiet_steps > 0 and not _audit_wanted(state):
        return True
    return any(
        w.needs_labels is not None and state.covered_labels < w.needs_labels <= state.n_done for w in state.walkers
    )


def _start_training(state: State) -> tuple[State, list[Command]]:
    number = state.n_trainings + 1
    task = f"train-t{number}"
    started = StartTraining(task, state.generation + 1, state.n_done)
    state = state.with_task(task, Running("train", n_labels=state.n_done, start=started))
    return replace(state, n_trainings=number, trained_labels=state.n_done), [started]


def _start_scoring(state: State) -> tuple[State, list[Command]]:
    number = state.n_scorings + 1
    task = f"score-t{number}"
    frames = tuple(r.frame_id for r in state.queue if r.purpose == "flagged")
    start = StartScoring(task, state.generation, frames)
    state = state.with_task(task, Running("score", generation=state.generation, start=start))
    return replace(state, n_scorings=number, rescore=False), [start]


def _start_label(state: State) -> tuple[State, list[Command]]:
    request, queue = next_request(state.queue)
    request = replace(request, attempts=request.attempts + 1)
    return label_now(replace(state, queue=queue, last_start="label"), request)


def label_now(state: State, request: Request) -> tuple[State, list[Command]]:
    """Start an attempt at a label that waits no longer."""
    task = f"label-{request.frame_id}-a{request.attempts}-l{request.n_lost}"
    if request.retry:
        task += f"-r{request.retry}"
    start = StartLabel(task, request.frame_id, request.structure_id, request.attempts)
    state = state.with_task(task, Running("label", request=request, start=start))
    return state, [job_of(request, "running"), start]


def _ready_group(state: State) -> tuple[WalkerState, ...]:
    """The walkers of the group that has moved least, if any group is free and has walkers ready to move."""
    walkers, n_groups = state.walkers, min(slots_for(state.workers, "explore"), len(state.walkers))
    if state.generation == 0 or state.committee_lost or not state.ready or n_groups == 0:
        return ()
    busy = {n % n_groups for task in state.running.values() if task.kind == "explore" for n in task.walkers}
    ready: dict[int, list[int]] = {}
    for number in state.ready:
        group = number % n_groups
        if group not in busy:
            ready.setdefault(group, []).append(number)
    if state.config.barrier:  # who has had its turn waits for the others
        turn = state.config.segment_steps
        rest = {g: [n for n in ready[g] if walkers[n].step - walkers[n].cycle_step < turn] for g in ready}
        ready = {group: members for group, members in rest.items() if members}
    if not ready:
        return ()
    _, least = min((sum([walkers[n].step for n in ready[group]]) // len(ready[group]), group) for group in ready)
    return tuple(walkers[number] for number in sorted(ready[least]))


def _start_exploring(state: State, group: tuple[WalkerState, ...]) -> tuple[State, list[Command]]:
    number = state.n_segments + 1
    task = f"explore-s{number}"
    orders = tuple(WalkerOrder(w.walker, w.segment + 1, w.restart, w.step) for w in group)
    state = state.with_walkers(
        replace(walker, status="exploring", segment=walker.segment + 1, restart=False) for walker in group
    )
    on_board = tuple(w.walker for w in group)
    restarts = tuple(w.walker for w in group if w.restart)
    command = StartExploring(
        task, number, state.generation, orders, state.horizon, state.threshold, _audit_wanted(state)
    )
    segment = Running("explore", walkers=on_board, restarts=restarts, generation=state.generation, start=command)
    return replace(state.with_task(task, segment), n_segments=number, last_start="explore"), [command]


def _audit_wanted(state: State) -> bool:
    waiting = waiting_for(state.queue, "audit") + state.running_of("audit")
    audits = state.n_audit + waiting
    labelling = state.queue or state.running_of("label")
    if not labelling and state.quiet_steps > 0 and state.config.audit_fraction > 0:
        # Nothing is uncertain and the labellers are idle: find out whether the committee is right to be so sure.
        return audits < max(state.config.audit_minimum, state.config.audit_budget)
    fair_share = state.config.audit_fraction * (state.n_spent + len(state.queue) + 1)
    return audits < min(fair_share, state.config.audit_budget)


def _when_idle(state: State) -> tuple[State, list[Command]]:
    """Nothing runs and nothing can be started: end, or let settled walkers go on so that the loop never hangs."""
    if state.phase == "stopping":
        return replace(state, phase="stopped"), [Finish("stopped", state.reason)]
    if state.phase == "closing":
        left: list[Command] = []
        for request in state.queue:
            left.append(job_of(request, "dropped", message=TOO_LATE))
            left.append(DropFrame(request.frame_id, "dropped", TOO_LATE))
        ended = replace(state, phase="finished", queue=(), n_dropped=state.n_dropped + len(state.queue))
        return ended, [*left, Finish("finished", state.reason)]
    if state.committee_lost and state.n_train < 3:
        return replace(state, phase="failed", reason=NO_WAY_BACK), [Finish("failed", NO_WAY_BACK)]
    if state.generation == 0:
        reason = "too few of the starting frames could be labelled to train a first committee"
        return replace(state, phase="failed", reason=reason), [Finish("failed", reason)]
    if state.idle_rounds >= IDLE_LIMIT:
        reason = f"no walker could move or ask for a label in {IDLE_LIMIT} rounds; the last reason: {_reasons(state)}"
        return replace(state, phase="failed", reason=reason), [Finish("failed", reason)]
    state = state.with_walkers(
        replace(walker, status="ready", frame_id=None, needs_labels=None, reason="") for walker in state.walkers
    )
    return plan(replace(state, idle_rounds=state.idle_rounds + 1))


def _reasons(state: State) -> str:
    return next((w.reason for w in state.walkers if w.reason), "none was given")
