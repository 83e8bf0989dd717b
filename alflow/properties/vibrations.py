"""Harmonic vibrations of a molecule and how strongly each absorbs infrared light.

    W H W eₘ = λₘ eₘ,    W = M^(−1/2),    ν̃ₘ = √λₘ / 2πc

within the space that is orthogonal to the translations and rotations of the whole molecule (E. B. Wilson, J. C. Decius
and P. C. Cross, Molecular Vibrations, 1955, chapter 2; the projection as in W. H. Miller, N. C. Handy and J. E. Adams,
J. Chem. Phys. 72, 99 (1980)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from alflow.domain.structure import FloatArray
from alflow.units import EV_PER_U_ANG2_FS2, EV_PER_WAVENUMBER, HBAR_EV_FS, KM_MOL_PER_E2_U

__all__ = ["Vibrations", "vibrations"]

_LINEAR: Final = 1e-2
"""A rotation that moves the atoms less than this share of the strongest one is none: the molecule is linear, if not to
the last digit of its file."""

_WAVENUMBER: Final = HBAR_EV_FS / EV_PER_U_ANG2_FS2**0.5 / EV_PER_WAVENUMBER
"""Wavenumber, 1/cm, of a mass-weighted force constant of 1 eV/(Å² u)."""


@dataclass(frozen=True, eq=False)
class Vibrations:
    """Normal modes.

    Attributes:
        wavenumbers: Harmonic wavenumbers, 1/cm, shape (mode,), ascending; an imaginary one (the energy falls along the
            mode) is negative.
        displacements: W eₘ: displacement of each atom for a unit of the normal coordinate, u^(−1/2), shape
            (mode, atom, 3).
        intensities: Integrated absorption of the fundamentals, km/mol, shape (mode,); None without dipole derivatives.
    """

    wavenumbers: FloatArray
    displacements: FloatArray
    intensities: FloatArray | None

    @property
    def reduced_masses(self) -> FloatArray:
        """Mass that moves in each mode, u, shape (mode,)."""
        return np.asarray(1.0 / (self.displacements**2).sum(axis=(1, 2)))

    @property
    def n_imaginary(self) -> int:
        """Modes along which the energy falls: none in a minimum, one at a transition state."""
        return int((self.wavenumbers < 0.0).sum())

    @property
    def zero_point_energy(self) -> float:
        """½ Σ hcν̃ over the real modes, eV."""
        return float(0.5 * EV_PER_WAVENUMBER * self.wavenumbers[self.wavenumbers > 0.0].sum())


def vibrations(
    hessian: FloatArray, masses: FloatArray, positions: FloatArray, dipole_derivatives: FloatArray | None = None
) -> Vibrations:
    """Find the normal modes of a molecule.

    The intensity of a mode is N_A/(12 ε₀ c²) |∂μ/∂Qₘ|², with ∂μ/∂Qₘ = Σ_k (W eₘ)_k ∂μ/∂r_k (double harmonic
    approximation; Wilson, Decius and Cross, chapter 7).

    Args:
        hessian: Second derivatives, eV/Å², shape (3 · atom, 3 · atom).
        masses: Mass of each atom, u, shape (atom,).
        positions: Where it was taken, Å, shape (atom, 3).
        dipole_derivatives: ∂μ/∂r, e, shape (3 · atom, 3).

    Returns:
        3 · atom − 6 modes, one more for a linear molecule, none for an atom.

    Examples:
        Two hydrogen atoms on a spring of 36 eV/Å²:

        >>> spring = np.kron([[1.0, -1.0], [-1.0, 1.0]], np.diag([36.0, 0.0, 0.0]))
        >>> found = vibrations(spring, np.array([1.008, 1.008]), np.array([[0.0, 0, 0], [0.74, 0, 0]]))
        >>> found.wavenumbers.round(), found.zero_point_energy.__round__(3)
        (array([4407.]), 0.273)
    """
    inner = _vibrational_space(masses, positions)
    weights = np.repeat(masses, 3) ** -0.5
    squares, vectors = np.linalg.eigh(inner.T @ (weights[:, None] * hessian * weights) @ inner)
    moves = (weights[:, None] * (inner @ vectors)).T
    wavenumbers = np.sign(squares) * np.sqrt(np.abs(squares)) * _WAVENUMBER
    intensities = None
    if dipole_derivatives is not None:
        intensities = KM_MOL_PER_E2_U * ((moves @ dipole_derivatives) ** 2).sum(axis=1)
    return Vibrations(wavenumbers, moves.reshape(-1, len(masses), 3), intensities)


def _vibrational_space(masses: FloatArray, positions: FloatArray) -> FloatArray:
    """Orthonormal basis of what is neither translation nor rotation, mass-weighted, shape (3 · atom, mode)."""
    roots = masses[:, None] ** 0.5
    arms = positions - masses @ positions / masses.sum()
    shifts = [(roots * axis).reshape(-1) for axis in np.eye(3)]
    turns = np.array([(roots * np.cross(axis, arms)).reshape(-1) for axis in np.eye(3)])
    _, strengths, around = np.linalg.svd(turns, full_matrices=False)
    turning = around[strengths > _LINEAR * strengths.max()] if strengths.max() > 0.0 else around[:0]
    whole = np.concatenate([np.array(shifts) / masses.sum() ** 0.5, turning])
    full, _ = np.linalg.qr(whole.T, mode="complete")
    return np.asarray(full[:, len(whole) :])
