"""Limits of a label, shared by the configurations of all references."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from alflow.domain.config import ClosedModel

__all__ = ["Limits"]


class Limits(ClosedModel):
    """What one label may use, whatever computes it.

    Attributes:
        time_limit_s: Wall time of the first attempt, s; its process is killed beyond. The second has twice as much.
        memory_limit_mb: Resident memory of the label's processes together, MB; they are killed beyond. The second
            attempt has twice as much.
        threads: Threads of one label.
        max_attempts: Attempts before a structure is put into quarantine.
    """

    time_limit_s: Annotated[float, Field(gt=0)] = 600.0
    memory_limit_mb: Annotated[int, Field(ge=200)] = 4000
    threads: Annotated[int, Field(ge=1)] = 1
    max_attempts: Annotated[int, Field(ge=1)] = 2
