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
        spot_check_fraction: Share of labels whose forces are held against two energies along them and, if there is an
            integration grid, against a finer one; such a label takes about five times as long, and may take nine times
            ``time_limit_s``.
    """

    time_limit_s: Annotated[float, Field(gt=0)] = 600.0
    memory_limit_mb: Annotated[int, Field(ge=200)] = 4000
    threads: Annotated[int, Field(ge=1)] = 1
    max_attempts: Annotated[int, Field(ge=1)] = 2
    spot_check_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01

    @property
    def most_memory_mb(self) -> int:
        """Resident memory that the last attempt may use, MB: each has as much more as the first."""
        return self.memory_limit_mb * self.max_attempts
