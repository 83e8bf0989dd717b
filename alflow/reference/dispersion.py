"""D3(BJ) dispersion of cells with dftd3: its one door. Its Hartree and Bohr end here.

PySCF's own correction repeats along the first lattice vector only and has neither forces nor stress.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import Final

import numpy as np
from dftd3.interface import DispersionModel, RationalDampingParam

from alflow.domain import Structure
from alflow.domain.structure import FloatArray
from alflow.errors import ConfigError
from alflow.units import ANG_PER_BOHR, EV_ANG_PER_HARTREE_BOHR, EV_PER_HARTREE

__all__ = ["Dispersion", "d3bj", "damping"]

PAIRS_BOHR: Final = 95.0
NEIGHBORS_BOHR: Final = 40.0
"""How far apart atoms attract and count as neighbors, as in Grimme's own program; dftd3's shorter 60 Bohr would put an
error of 2·10⁻⁵ eV/Å³ on the stress of silicon, because pairs are left out abruptly."""

_NAMES: Final = {"bp86": "bp"}
"""Functionals that dftd3 calls otherwise."""


@dataclass(frozen=True, eq=False)
class Dispersion:
    """What dispersion adds to a label.

    Attributes:
        energy: eV.
        forces: eV/Å, shape (atom, 3).
        stress: eV/Å³, positive under tension, shape (3, 3).
        version: Version of dftd3.
    """

    energy: float
    forces: FloatArray
    stress: FloatArray
    version: str


def damping(functional: str) -> RationalDampingParam:
    """Published parameters of a functional, without the three-body term.

    Raises:
        ConfigError: dftd3 has none.
    """
    try:
        return RationalDampingParam(method=_NAMES.get(functional, functional), atm=False)
    except RuntimeError as error:
        raise ConfigError(f"dftd3 has no D3(BJ) parameters for functional {functional!r}: {error}") from error


def d3bj(functional: str, structure: Structure) -> Dispersion:
    """Compute the D3(BJ) correction of a cell with three periodic directions.

    Grimme, Ehrlich and Goerigk, J. Comput. Chem. 32, 1456 (2011); two-body terms only, as for molecules.

    Args:
        functional: Name of the functional.
        structure: The cell.

    Raises:
        ConfigError: dftd3 has no parameters for the functional.
    """
    model = DispersionModel(
        np.asarray(structure.numbers),
        structure.positions / ANG_PER_BOHR,
        lattice=structure.cell / ANG_PER_BOHR,
        periodic=np.array([True] * 3),
    )
    model.set_realspace_cutoff(PAIRS_BOHR, NEIGHBORS_BOHR, NEIGHBORS_BOHR)  # no third body
    found = model.get_dispersion(damping(functional), grad=True)
    volume = abs(float(np.linalg.det(structure.cell)))
    return Dispersion(
        energy=float(found["energy"]) * EV_PER_HARTREE,
        forces=-np.asarray(found["gradient"]) * EV_ANG_PER_HARTREE_BOHR,
        stress=np.asarray(found["virial"]) * EV_PER_HARTREE / volume,
        version=metadata.version("dftd3"),
    )
