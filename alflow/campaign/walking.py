"""Walkers as the loop sees them: out of a segment, on their way again, or sent home; part of ``decide``."""

from __future__ import annotations

from alflow.campaign.commands import Command, StartExploring
from alflow.campaign.events import CheckpointsLost, WalkerReport
from alflow.campaign.state import State, WalkerState, replace

__all__ = ["checkpoints_lost", "release", "reported"]

HOME_AFTER_RESETS = 3
"""Resets in a row after which a walker goes back to its starting structure; after twice as many it waits."""


def reported(state: State, report: WalkerReport) -> WalkerState:
    """A walker after its segment."""
    before = state.walkers[report.walker]
    walker = replace(
        before,
        status="ready",
        step=report.step,
        disagreement=report.max_disagreement,
        temperature=report.temperature,
        reason=report.reason,
        checkpoint=report.checkpoint,
        resets=before.resets + (report.status == "reset"),
        resets_in_a_row=0,
    )
    if report.status == "reset":
        in_a_row = before.resets_in_a_row + 1
        if in_a_row >= 2 * HOME_AFTER_RESETS:  # home did not help either: only a better committee will
            return replace(walker, status="paused", needs_labels=state.n_done + 1)
        return replace(walker, resets_in_a_row=in_a_row, restart=walker.restart or in_a_row >= HOME_AFTER_RESETS)
    if report.status == "running" or report.frame is None:
        return walker
    if report.frame.duplicate_of is not None:
        return replace(walker, status="paused", needs_labels=state.n_done + 1)
    return replace(walker, status="paused", frame_id=report.frame.frame_id, needs_labels=None)


def release(state: State, covered: int) -> State:
    """Let the walkers go on whose frames are settled and known to the latest training."""
    return state.with_walkers(
        replace(walker, status="ready", needs_labels=None, reason="")
        for walker in state.walkers
        if walker.status == "paused" and walker.needs_labels is not None and walker.needs_labels <= covered
    )


def checkpoints_lost(state: State, event: CheckpointsLost) -> tuple[State, list[Command]]:
    """Send walkers home, those in flight by their order; one that waits for its frame's label goes on waiting."""
    lost = [state.walkers[number] for number in event.walkers]
    state = state.with_walkers(
        replace(walker, checkpoint="", restart=walker.restart or walker.status != "exploring") for walker in lost
    )
    for name, running in list(state.running.items()):
        if isinstance(running.start, StartExploring) and not set(event.walkers).isdisjoint(running.walkers):
            orders = tuple(replace(o, restart=o.restart or o.walker in event.walkers) for o in running.start.walkers)
            restarts = tuple(order.walker for order in orders if order.restart)
            amended = replace(running, restarts=restarts, start=replace(running.start, walkers=orders))
            state = state.without_task(name).with_task(name, amended)
    return state, []
