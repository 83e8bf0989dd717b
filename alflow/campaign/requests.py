"""What a label process is asked, from the limits of the configuration and what labels before have cost."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alflow.domain import Reference, Structure
from alflow.reference import CostModel, LabelRequest, is_drawn, size_of
from alflow.reference.limits import Limits

__all__ = ["CHECKED_TAKES", "label_request"]

CHECKED_TAKES: Final = 9.0
"""Time of a label with its spot check, in units of the label alone, at most."""


def label_request(
    reference: Reference,
    structure: Structure,
    limits: Limits,
    key: str,
    attempt: int,
    spool: Path,
    cost: CostModel | None,
) -> LabelRequest:
    """Ask for a label.

    The first attempt is stopped as hanging when it takes many times longer than its like; later ones may use all that
    the user allows, for the guess may have been wrong. Each attempt has more time and memory than the one before.

    Args:
        reference: What computes it.
        structure: What is computed.
        limits: What the user allows.
        key: Name of the execution.
        attempt: Number of the attempt, from 1.
        spool: Where the result waits.
        cost: What labels have cost; None if there were none.
    """
    limit = limits.time_limit_s
    if cost is not None and attempt == 1 and limits.max_attempts > 1:
        limit = cost.limit(size_of(reference, structure), limit)
    drawn = attempt == 1 and is_drawn(structure, limits.spot_check_fraction)
    return LabelRequest(
        reference=reference,
        structure=structure,
        key=key,
        attempt=attempt,
        time_limit_s=limit * attempt * (CHECKED_TAKES if drawn else 1.0),
        memory_limit_mb=limits.memory_limit_mb * attempt,
        threads=limits.threads,
        spot_check=drawn,
        spool=spool.absolute(),
    )
