"""The one question every part of alflow asks: energy and forces of a structure."""

from __future__ import annotations

from typing import Protocol

from alflow.domain.label import Evaluation
from alflow.domain.structure import Structure

__all__ = ["Surface"]


class Surface(Protocol):
    """A potential energy surface: one structure in, one evaluation out, numpy throughout.

    Optimisation, vibrations, paths and tests are written once against this protocol; a committee, a reference and an
    ASE calculator all satisfy it.
    """

    def evaluate(self, structure: Structure) -> Evaluation:
        """Energy (eV), forces (eV/Å) and, for periodic structures, stress (eV/Å³)."""
        ...
