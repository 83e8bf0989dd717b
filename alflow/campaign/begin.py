"""How a campaign begins: with labels or a committee that are there, or frames of its own; part of ``decide``."""

from __future__ import annotations

from alflow.campaign.commands import Command, ProposeSeeds, TakeCommittee, TakeLabels
from alflow.campaign.events import CommitteeGiven, LabelsGiven
from alflow.campaign.plan import job_of
from alflow.campaign.state import FIRST_HORIZON, State, replace
from alflow.errors import CampaignError
from alflow.selection import Request

__all__ = ["begin", "committee_given", "labels_given"]

Change = tuple[State, list[Command]]


def begin(state: State) -> Change:
    """What is still missing before the walkers can move: one command at a time, or nothing."""
    if state.seeded:
        return state, []
    wanted = state.config.initial
    if wanted.labels and not state.labels_given:
        return state, [TakeLabels()]
    if wanted.committee is not None and state.generation == 0:
        return state, [TakeCommittee()]
    enough = state.generation > 0 or (state.complete and state.n_train >= state.config.initial_labels)
    if not enough:
        return state, [ProposeSeeds(max(1, state.config.initial_labels - state.n_train))]
    return replace(state, phase="running" if state.phase == "new" else state.phase, seeded=True), []


def labels_given(state: State, event: LabelsGiven) -> Change:
    """Count labels that were there, as done."""
    if state.labels_given or state.n_done:
        raise CampaignError("Labels can be given only once, before all others; the journal has labels_given too late.")
    requests = [Request(frame.frame_id, frame.structure_id, frame.purpose, 0.0, -1, 0) for frame in event.frames]
    n = len(requests)
    state = replace(
        state,
        labels_given=True,
        complete=event.complete,
        n_given=n,
        n_done=n,
        n_train=n,
    )
    state, commands = begin(state)
    return state, [*(job_of(request, "done") for request in requests), *commands]


def committee_given(state: State, event: CommitteeGiven) -> Change:
    """Let a committee that was trained elsewhere watch the walkers."""
    if state.generation > 0:
        raise CampaignError("A committee can be given only as generation 1; the journal has committee_given too late.")
    return begin(replace(state, generation=1, horizon=min(FIRST_HORIZON, state.config.segment_steps)))
