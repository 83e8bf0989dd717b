"""Label requests on their way into the queue and out of it, and the walkers that wait for them; part of ``decide``."""

from __future__ import annotations

from collections.abc import Iterable

from alflow.campaign.commands import Command, DropFrame
from alflow.campaign.plan import job_of
from alflow.campaign.state import State, replace
from alflow.selection import Request, admit

__all__ = ["drop", "enqueue", "settle_walker"]

Change = tuple[State, list[Command]]


def enqueue(state: State, *requests: Request, failure: str | None = None, message: str | None = None) -> Change:
    """Let requests wait; whatever is crowded out is dropped, with the reason."""
    queue, dropped = admit(state.queue, requests, state.config.capacity)
    commands: list[Command] = [job_of(request, "pending", failure, message) for request in requests]
    return drop(replace(state, queue=queue), dropped, commands)


def drop(state: State, dropped: Iterable[tuple[Request, str]], commands: list[Command]) -> Change:
    """Let requests go for good, each with the reason; adds to the commands."""
    for request, reason in dropped:
        state = replace(state, n_dropped=state.n_dropped + 1)
        state = settle_walker(state, request)
        commands.append(job_of(request, "dropped", message=reason))
        commands.append(DropFrame(request.frame_id, "dropped", reason))
    return state, commands


def settle_walker(state: State, request: Request, restart: bool = False) -> State:
    """The walker that waits for this frame may go on once a committee knows all that is known now.

    With ``restart`` (the frame could not be labelled) it leaves the place at once, for its starting structure.
    """
    walker = state.walkers[request.walker] if request.walker >= 0 else None
    if walker is None or walker.status != "paused" or walker.frame_id != request.frame_id:
        return state
    if restart:
        freed = replace(walker, status="ready", restart=True, frame_id=None, reason="its frame has no label")
    else:
        freed = replace(walker, frame_id=None, needs_labels=state.n_done)
    return state.with_walkers([freed])
