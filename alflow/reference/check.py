"""Input checks that answer before anything is computed."""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np

from alflow.domain import Structure
from alflow.domain.elements import COVALENT_RADII_ANG
from alflow.errors import StructureError

__all__ = ["check_molecule", "check_overlap", "check_spin", "check_structure"]

CLOSEST_ANG: Final = 0.35
"""No two atoms may be closer, Å, whatever they are."""

CLOSEST_COVALENT: Final = 0.5
"""No two atoms may be closer than this fraction of the sum of their covalent radii."""


def check_structure(structure: Structure) -> None:
    """Check what no electronic-structure program would survive: charge and spin, and overlapping atoms.

    Args:
        structure: What is to be labelled.

    Raises:
        StructureError: The electrons cannot have that multiplicity, or two atoms overlap (names the pair).

    Examples:
        >>> check_structure(Structure.of("OH", [[0, 0, 0], [0.97, 0, 0]]))
        Traceback (most recent call last):
        alflow.errors.StructureError: HO has 9 electrons, which cannot have multiplicity 1; expected 2, 4, 6, ...
    """
    check_spin(structure)
    check_overlap(structure)


def check_molecule(structure: Structure) -> None:
    """Check a structure for a program that treats isolated molecules only.

    Raises:
        StructureError: The structure is periodic, or :func:`check_structure` objects.
    """
    if structure.is_periodic:
        raise StructureError(
            f"{structure.formula} is periodic, but the PySCF reference computes isolated molecules; give pbc=False."
        )
    check_structure(structure)


def check_spin(structure: Structure) -> None:
    """Check that the electrons can have the stated multiplicity.

    Raises:
        StructureError: Wrong parity, or more unpaired electrons than electrons.
    """
    electrons, unpaired = structure.n_electrons, structure.multiplicity - 1
    if electrons < 1:
        raise StructureError(
            f"{structure.formula} with charge {structure.charge} has {electrons} electrons; expected at least one."
        )
    if unpaired > electrons or (electrons - unpaired) % 2:
        first = 1 if electrons % 2 == 0 else 2
        raise StructureError(
            f"{structure.formula} has {electrons} electrons, which cannot have multiplicity {structure.multiplicity};"
            f" expected {first}, {first + 2}, {first + 4}, ... or another charge (found {structure.charge})."
        )


def check_overlap(structure: Structure) -> None:
    """Check that no two atoms are closer than half a bond.

    Raises:
        StructureError: A pair is closer than 0.35 Å or half the sum of its covalent radii.
    """
    radii = np.array([COVALENT_RADII_ANG[n] for n in structure.numbers])
    limits = np.maximum(CLOSEST_ANG, CLOSEST_COVALENT * (radii[:, None] + radii[None, :]))
    ranges = [(-1, 0, 1) if repeats else (0,) for repeats in structure.pbc]
    for image in itertools.product(*ranges):
        shift = np.asarray(image, dtype=float) @ structure.cell
        difference = structure.positions[:, None] - structure.positions[None, :] + shift
        distances = np.linalg.norm(difference, axis=-1)
        if not any(image):
            np.fill_diagonal(distances, np.inf)
        if (distances < limits).any():
            i, j = (int(k) for k in np.unravel_index(int(np.argmin(distances - limits)), distances.shape))
            distance, limit = distances[i, j], limits[i, j]
            i, j = min(i, j), max(i, j)
            symbols = structure.symbols
            raise StructureError(
                f"Atoms {i} ({symbols[i]}) and {j} ({symbols[j]}) of {structure.formula} are {distance:.3f} Å"
                f" apart; expected at least {limit:.2f} Å. Check the geometry and its unit."
            )
