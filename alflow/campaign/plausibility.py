"""Whether the numbers of a label can be what they are taken for; wrong units show by orders of magnitude."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from alflow.domain import Evaluation, Structure
from alflow.domain.elements import COVALENT_RADII_ANG
from alflow.units import EV_PER_HARTREE

__all__ = ["implausible"]

LARGEST_FORCE_EV_ANG: Final = 1e3
"""Force on an atom beyond which no geometry is worth learning."""

HIGHEST_ENERGY_EV: Final = 1e3
"""Energy of an atom above that of free electrons and nuclei, eV."""

SHORTEST: Final = 0.3
LONGEST: Final = 1.6
"""Distance between neighbors, in sums of their covalent radii; the second for hydrogens."""


def implausible(structure: Structure, evaluation: Evaluation, geometry: bool = True) -> str | None:
    """Say what is wrong with a label, if it is wrong by orders of magnitude.

    An energy cannot lie below that of all electrons of all atoms. For an atom the Thomas–Fermi energy,
    E = −0.7687 Z^(7/3) Ha (Lieb, Rev. Mod. Phys. 53, 603 (1981)), is larger in size than that; a tenth is added for
    bonds.

    Args:
        structure: What was computed.
        evaluation: The result.
        geometry: Whether distances are looked at, too; the first frame of a file is seldom torn apart.

    Examples:
        Methane, with its energy in kcal/mol where eV were expected:

        >>> methane = Structure.of("CHHHH", np.eye(5, 3) + 0.1)
        >>> implausible(methane, Evaluation(-25400.0, np.zeros((5, 3))), geometry=False)
        'an energy of -25400 eV is below that of all electrons of CH4 (-1452 eV)'
    """
    lowest = _lowest(structure.numbers.tobytes())
    if evaluation.energy < 1.1 * lowest:
        return (
            f"an energy of {evaluation.energy:.6g} eV is below that of all electrons of {structure.formula} "
            f"({lowest:.0f} eV)"
        )
    if evaluation.energy > HIGHEST_ENERGY_EV * len(structure):
        return f"an energy of {evaluation.energy:.6g} eV is more than {HIGHEST_ENERGY_EV:g} eV for each atom"
    if np.abs(evaluation.forces).max() > LARGEST_FORCE_EV_ANG:
        return f"a force of {evaluation.max_force:.4g} eV/Å is more than {LARGEST_FORCE_EV_ANG:g} eV/Å"
    return _distances(structure) if geometry and not structure.is_periodic and len(structure) > 1 else None


def _distances(structure: Structure) -> str | None:
    radii = np.array([COVALENT_RADII_ANG[number] for number in structure.numbers])
    distances = np.linalg.norm(structure.positions[:, None] - structure.positions[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    nearest = (distances / (radii[:, None] + radii)).min(axis=1)
    if nearest.min() < SHORTEST:
        return (
            f"two atoms of {structure.formula} are {nearest.min():.2f} times the sum of their covalent radii apart; "
            "are lengths in nm?"
        )
    hydrogens = nearest[structure.numbers == 1]
    if len(structure) > 2 and len(hydrogens) > 1 and hydrogens.min() > LONGEST:
        return (
            f"every hydrogen of {structure.formula} is {hydrogens.min():.2f} times the sum of covalent radii or more "
            "from its neighbor; are lengths in Bohr?"
        )
    return None


@lru_cache(maxsize=1024)
def _lowest(numbers: bytes) -> float:
    return float((-0.7687 * EV_PER_HARTREE * np.frombuffer(numbers, dtype=np.int64) ** (7.0 / 3.0)).sum())
