"""The analytic Hessian of a PySCF label's level of theory. Loads PySCF.

Exact for Hartree–Fock. With a functional, PySCF leaves the response of the integration grid out of second derivatives,
so that a shift of the whole molecule changes something (1.2·10⁻³ Ha/Bohr², 0.12 eV/Å², for ethanol on grid 3): where
that matters, differences of the forces, which have the response, are better.
"""

from __future__ import annotations

import numpy as np

from alflow.domain import Failure, Structure
from alflow.domain.structure import FloatArray
from alflow.errors import ConfigError, InputError
from alflow.reference.check import check_molecule
from alflow.reference.pyscf import PyscfReference
from alflow.reference.scf import converge
from alflow.units import ANG_PER_BOHR, EV_ANG_PER_HARTREE_BOHR

__all__ = ["analytic_hessian"]


def analytic_hessian(reference: PyscfReference, structure: Structure) -> FloatArray:
    """Compute second derivatives of the energy by coupled-perturbed theory, in this process.

    Args:
        reference: The level of theory.
        structure: The molecule.

    Returns:
        Hessian, eV/Å², shape (3 · atom, 3 · atom), as PySCF computes it.

    Raises:
        ConfigError: PySCF has no second derivatives at this level.
        InputError: The molecule is impossible, or its field does not converge.
    """
    check_molecule(structure)
    if reference.smearing_ha is not None:
        raise ConfigError("There is no analytic Hessian with smearing_ha; leave --analytic out.")
    found = converge(reference, structure)
    if isinstance(found, Failure):
        raise InputError(f"No analytic Hessian of {structure.formula}: {found.message}")
    try:
        blocks = np.asarray(found.mean_field.Hessian().kernel())
    except (AttributeError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"PySCF has no analytic Hessian at this level ({type(error).__name__}: {error}); leave --analytic out."
        ) from error
    size = 3 * len(structure)
    return np.asarray(blocks.transpose(0, 2, 1, 3).reshape(size, size) * EV_ANG_PER_HARTREE_BOHR / ANG_PER_BOHR)
