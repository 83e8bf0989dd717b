"""What a label process is asked and what it answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from alflow.domain import Outcome, Reference, Structure

__all__ = ["LabelRequest", "LabelResult"]

_SAFE_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


@dataclass(frozen=True, eq=False)
class LabelRequest:
    """One structure to be labelled in a process of its own, with its limits.

    Attributes:
        reference: What computes it; pickled with cloudpickle.
        structure: What is computed.
        key: Name of this execution, safe as a file name, such as ``"label-3f2a91bc-a1"``.
        attempt: Number of this attempt, from 1.
        time_limit_s: Wall time from the start of the process, s.
        memory_limit_mb: Resident memory of the whole process tree, MB (10⁶ bytes).
        threads: Threads of BLAS and OpenMP.
        spot_check: Whether the label is looked at twice, see ``alflow.reference.spotcheck``.
        spool: Folder in which a result waits until it is committed to the store, and a checkpoint for the next attempt.
        checkpoint_every_s: Least time between two checkpoints of a reference that can be interrupted, s: so much work
            may be lost when its process is killed, and a label whose iteration takes less than half of it writes none.

    Raises:
        ValueError: The key is not a safe file name or a limit is not positive.
    """

    reference: Reference
    structure: Structure
    key: str
    spool: Path
    attempt: int = 1
    time_limit_s: float = 600.0
    memory_limit_mb: float = 4000.0
    threads: int = 1
    spot_check: bool = False
    checkpoint_every_s: float = 30.0

    def __post_init__(self) -> None:
        if not _SAFE_KEY.fullmatch(self.key):
            raise ValueError(f"A key is 1 to 120 of A-Z a-z 0-9 . _ -, not starting with a sign; found {self.key!r}.")
        for name in ("attempt", "time_limit_s", "memory_limit_mb", "threads"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive; found {getattr(self, name)!r}.")
        object.__setattr__(self, "spool", Path(self.spool).absolute())


@dataclass(frozen=True, eq=False)
class LabelResult:
    """What came of a request.

    Attributes:
        outcome: The evaluation, or the failure as a value.
        provenance: ``host``, ``pid``, ``started_at`` and ``ended_at`` (Unix time, s), ``wall_s``, ``cpu_s``,
            ``peak_memory_mb``, ``threads``, ``versions``, ``attempt``, ``key``; plain JSON values.
        from_spool: Whether an earlier process had computed it already.
        spool_file: Name of the file in the spool that holds it until it is removed; None for failures.
    """

    outcome: Outcome
    provenance: Mapping[str, Any] = field(default_factory=dict)
    from_spool: bool = False
    spool_file: str | None = None
