"""Whether the checkpoint of a walker is still the one that was written: its digest is in the journal.

A walker that goes on from other numbers than its own would not be noticed by anything else: it would only be somewhere
else than it ought to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from alflow.domain.identity import content_id
from alflow.errors import StoreError
from alflow.store import WalkerRecord

__all__ = ["altered", "check_checkpoints", "digest_of"]

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


def altered(told: Mapping[int, str], records: Iterable[WalkerRecord]) -> list[int]:
    """Numbers of the walkers whose checkpoint is not the one that the journal tells of.

    Args:
        told: The latest digest of each walker; empty where an older alflow has written none.
        records: The checkpoints. One that is missing is no error: its walker begins anew at its starting structure.
    """
    return [r.walker for r in records if told.get(r.walker) and digest_of(r) != told[r.walker]]


def check_checkpoints(told: Mapping[int, str], records: Iterable[WalkerRecord], campaign_id: int) -> None:
    """Refuse to go on from checkpoints that were altered.

    Args:
        told: The latest digest of each walker, as in :func:`altered`.
        records: The checkpoints.
        campaign_id: The campaign.

    Raises:
        StoreError: Some were; it says which, and what can be done.
    """
    wrong = altered(told, records)
    if wrong:
        numbers = ", ".join(map(str, wrong))
        raise StoreError(
            f"The checkpoint of walker {numbers} is not what was written: the table walkers was altered. Nothing"
            " was changed now. Restore the database from a backup; or let it begin anew at its starting structure: "
            f"DELETE FROM walkers WHERE campaign_id = {campaign_id} AND walker IN ({numbers})"
        )
