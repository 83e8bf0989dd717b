"""A trained committee in any ASE script."""

from __future__ import annotations

from pathlib import Path

from alflow.domain.ase import SurfaceCalculator, as_calculator
from alflow.potentials.committee import load_committee

__all__ = ["load_calculator"]


def load_calculator(path: str | Path, sha256: str | None = None) -> SurfaceCalculator:
    """Load a committee as an ASE calculator.

    Results hold the mean energy and forces, the stress of periodic structures, and the spread of the members:
    ``forces_std``, ``disagreement``, ``energy_std`` and ``extrapolation``.

    Args:
        path: Weight file of a committee.
        sha256: The hash the file must have; None takes it from the file's name, if that is a hash.

    Raises:
        CheckpointError: The file is missing, damaged, altered, or of a version this alflow does not read.
    """
    return as_calculator(load_committee(path, sha256))
