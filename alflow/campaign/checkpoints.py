"""Whether the checkpoint of a walker is still the one that was written: its digest is in the journal.

A walker that goes on from other numbers than its own would not be noticed by anything else: it would only be somewhere
else than it ought to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from alflow.campaign.events import CheckpointsLost
from alflow.campaign.state import State
from alflow.domain.identity import content_id
from alflow.store import WalkerRecord

__all__ = ["digest_of", "loss_of", "lost_checkpoints"]

_DIGITS: Final = 16
"""Of the digest that is kept; it is held against mishaps, not against malice."""


def digest_of(record: WalkerRecord) -> str:
    """Digest of everything that a walker goes on from, 16 hexadecimal characters."""
    fields = {
        "structure": record.structure.id,
        "velocities": record.velocities,
        "step": record.step,
        "resets": record.resets,
        "last_flag_step": record.last_flag_step,
    }
    return content_id("walker", fields)[:_DIGITS]


def lost_checkpoints(state: State, records: Iterable[WalkerRecord], unreadable: Mapping[int, str]) -> dict[int, str]:
    """Find the walkers that cannot go on from where they were, and say why.

    Args:
        state: What the journal leads to: it tells the latest digest of each walker, empty where an older alflow wrote
            none or where the loss is known already.
        records: The checkpoints.
        unreadable: What is wrong with those that cannot even be read, by walker.

    Returns:
        What is wrong, by the number of the walker.
    """
    found = {record.walker: record for record in records}
    lost: dict[int, str] = {}
    for walker in state.walkers:
        record = found.get(walker.walker)
        if walker.walker in unreadable:
            lost[walker.walker] = unreadable[walker.walker]
        elif record is None and walker.checkpoint:
            lost[walker.walker] = "its checkpoint is gone"
        elif record is not None and walker.checkpoint and digest_of(record) != walker.checkpoint:
            lost[walker.walker] = "its checkpoint is not what was written"
    return lost


def loss_of(lost: Mapping[int, str]) -> CheckpointsLost:
    """The event that tells of lost checkpoints, of which there is at least one."""
    told = "; ".join(f"walker {number}: {problem.rstrip('.')}" for number, problem in lost.items())
    return CheckpointsLost(tuple(lost), f"the table walkers was altered ({told})")
