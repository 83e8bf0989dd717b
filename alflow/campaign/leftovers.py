"""Labels that were finished and that no task will bring any more: they are kept, whoever asked for them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from alflow.domain import Evaluation, Label
from alflow.reference import remove_spooled, sweep_spool
from alflow.store import Lease, Store, Transaction

__all__ = ["keep_leftovers", "spooled_now"]


def keep_leftovers(store: Store, lease: Lease, spool: Path, level_id: str) -> None:
    """Store labels that wait in the spool, without an execution: the one that made them was written off as lost.

    Not for a label in flight, whose own execution is to be credited. The loop is not told: a
    frame that still waits for such a label finds it when its turn comes, and one that was dropped stays dropped.

    Args:
        store: The database.
        lease: The right to write to the campaign whose spool it is.
        spool: Where they wait.
        level_id: Only labels at this level of theory; the others are left where they are.
    """
    waiting = [spooled for spooled in sweep_spool(spool) if spooled.level_id == level_id]
    if not waiting:
        return
    structures, level = store.structures_by_id(found.structure_id for found in waiting), store.level(level_id)
    for spooled in waiting:
        structure, evaluation = structures.get(spooled.structure_id), spooled.result.outcome
        if structure is None or not isinstance(evaluation, Evaluation):
            continue
        label = Label(structure, level, evaluation, spooled.result.provenance)
        store.write(lease, partial(Transaction.add_label, label=label))
        remove_spooled(spool, spooled.result)


def spooled_now(spool: Path) -> bool:
    """Whether anything waits in the spool."""
    return any(spool.glob("*.label.json"))
