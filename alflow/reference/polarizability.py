"""The static dipole polarizability, from the field in weak homogeneous electric fields. Loads PySCF.

Central differences of the dipole moment need nothing but another self-consistent field, so they hold for every method
alflow has: hybrids, VV10, fractional occupations, and a solvent, whose continuum then follows the field.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from alflow.domain.structure import FloatArray
from alflow.errors import InputError
from alflow.reference.ladder import ACCEPTED_GRADIENT, gradient_norm
from alflow.units import ANG_PER_BOHR

__all__ = ["FIELD_AU", "polarizability"]

FIELD_AU: Final = 1e-3
"""Strength of the field, Ha/(e·Bohr)."""

TOLERANCE_HA: Final = 1e-6
"""Orbital gradient the fields are converged to; an error of this size in a dipole is 0.0005 Bohr³."""


def polarizability(mean_field: Any, density: FloatArray) -> FloatArray:
    """Differentiate the dipole moment by a homogeneous electric field.

        α_ij = ∂μ_i/∂F_j ≈ (μ_i(F_j) − μ_i(−F_j)) / 2F

    The error is of second order in the field, γF²/6.

    Args:
        mean_field: A converged field, which is left as it is.
        density: Its density matrix, of one spin or of both: what the fields start from.

    Returns:
        Polarizability volume α/4πε₀, Å³, shape (3, 3), symmetric.

    Raises:
        InputError: In one of the fields there was no convergence.
    """
    dipoles = mean_field.mol.intor_symmetric("int1e_r", comp=3)
    core = mean_field.get_hcore()
    columns = []
    for dipole in dipoles:
        forward = _in_field(mean_field, density, core + FIELD_AU * dipole)
        # To first order the density answers the opposite field with the opposite change: nearly converged already.
        back = _in_field(mean_field, 2.0 * density - forward, core - FIELD_AU * dipole)
        change = (forward - back).reshape(-1, *dipole.shape).sum(axis=0)
        columns.append(-np.einsum("xij,ji->x", dipoles, change) / (2.0 * FIELD_AU))
    tensor = np.stack(columns, axis=1)
    return np.asarray(0.5 * (tensor + tensor.T) * ANG_PER_BOHR**3)


def _in_field(mean_field: Any, density: FloatArray, core: FloatArray) -> FloatArray:
    """The density matrix that belongs to another one-electron operator, of one spin or of both."""
    field = mean_field.copy()
    field.get_hcore = lambda *given: core
    field.callback = None
    field.conv_tol_grad = min(field.conv_tol_grad, TOLERANCE_HA)
    field.conv_tol = min(field.conv_tol, 1e-10)
    field.kernel(dm0=density)
    norm = gradient_norm(field)
    if not norm <= ACCEPTED_GRADIENT * field.conv_tol_grad:
        raise InputError(f"In an electric field the orbital gradient stays at {norm:.1e} Ha.")
    return np.array(field.make_rdm1())
