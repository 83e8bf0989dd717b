"""Derivatives of forces and dipole moments by the positions, from structures with one coordinate displaced.

    H_kl = ∂²E/∂r_k∂r_l ≈ −(F_l(r_k + h) − F_l(r_k − h)) / 2h,    ∂μ/∂r_k ≈ (μ(r_k + h) − μ(r_k − h)) / 2h

Two errors oppose each other in the choice of the step h: truncation, h²/6 times a fourth derivative, and the noise of
the forces divided by h. For water with PBE/def2-SVP, converged as by default, the largest error of the Hessian is
0.007, 0.003 and 0.009 eV/Å² at steps of 0.002, 0.005 and 0.01 Å, that of a wavenumber 0.8, 0.2 and 0.9/cm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from alflow.domain import Evaluation, Structure
from alflow.domain.structure import FloatArray

__all__ = ["STEP_ANG", "SecondDerivatives", "differentiate", "displaced", "fixed_dipole"]

STEP_ANG: Final = 0.005
"""Displacement of a coordinate, Å, unless told otherwise."""


@dataclass(frozen=True, eq=False)
class SecondDerivatives:
    """A Hessian, the derivatives of the dipole moment, and how well they keep the rules they should.

    Attributes:
        hessian: Second derivatives, eV/Å², shape (3 · atom, 3 · atom), symmetric; x, y and z of the first atom first.
        dipole_derivatives: ∂μ/∂r, e, shape (3 · atom, 3); None where a dipole moment is missing.
        asymmetry: Largest |H_kl − H_lk| before the average with the transpose, eV/Å².
        sum_rule: Largest |Σ_atoms H_kl|, before that average, eV/Å²: what a shift of the whole molecule changes.
        dipole_sum_rule: Largest deviation of Σ_atoms ∂μ/∂r from the charge, e; None without dipole moments.
    """

    hessian: FloatArray
    dipole_derivatives: FloatArray | None
    asymmetry: float
    sum_rule: float
    dipole_sum_rule: float | None

    @classmethod
    def of(cls, raw: FloatArray, dipole_derivatives: FloatArray | None = None, charge: int = 0) -> SecondDerivatives:
        """Symmetrize a Hessian and measure its errors.

        Args:
            raw: Second derivatives as computed, eV/Å², shape (3 · atom, 3 · atom).
            dipole_derivatives: ∂μ/∂r about a fixed origin, e, shape (3 · atom, 3).
            charge: Total charge, e.

        Examples:
            >>> found = SecondDerivatives.of(np.kron([[1.0, -1.0], [-1.0, 1.0]], np.diag([2.0, 0.0, 0.0])))
            >>> found.asymmetry, found.sum_rule
            (0.0, 0.0)
        """
        atoms = len(raw) // 3
        sums = [raw.reshape(atoms, 3, 3 * atoms).sum(axis=0), raw.reshape(3 * atoms, atoms, 3).sum(axis=1)]
        moved = None
        if dipole_derivatives is not None:
            whole = dipole_derivatives.reshape(atoms, 3, 3).sum(axis=0)
            moved = float(np.abs(whole - charge * np.eye(3)).max())
        return cls(
            0.5 * (raw + raw.T),
            dipole_derivatives,
            float(np.abs(raw - raw.T).max()),
            float(max(np.abs(total).max() for total in sums)),
            moved,
        )


def displaced(structure: Structure, step: float = STEP_ANG) -> list[Structure]:
    """Displace each coordinate forward and back.

    Args:
        structure: A molecule.
        step: Displacement, Å.

    Returns:
        6 · atom structures: the first coordinate of the first atom forward, the same back, and so on.

    Examples:
        >>> pair = Structure.of("HH", [[0, 0, 0], [0, 0, 0.75]])
        >>> len(displaced(pair)), displaced(pair, 0.01)[11].positions[1].tolist()
        (12, [0.0, 0.0, 0.74])
    """
    found = []
    for place in np.ndindex(len(structure), 3):
        for sign in (1.0, -1.0):
            positions = np.array(structure.positions)
            positions[place] += sign * step
            found.append(structure.with_positions(positions))
    return found


def fixed_dipole(evaluation: Evaluation, charge: int) -> FloatArray | None:
    """The dipole moment about the origin of the coordinates, which does not move with the atoms.

    A label's dipole moment refers to its center of nuclear charge. For an ion that matters: μ₀ = μ + Q·center.

    Args:
        evaluation: With ``dipole_e_ang`` and, for ions, ``dipole_origin_ang`` among its diagnostics.
        charge: Total charge, e.

    Returns:
        Dipole moment, e·Å, shape (3,); None where it cannot be known.
    """
    known = evaluation.diagnostics
    if "dipole_e_ang" not in known or (charge and "dipole_origin_ang" not in known):
        return None
    origin = np.array(known.get("dipole_origin_ang", [0.0, 0.0, 0.0]), dtype=np.float64)
    return np.array(known["dipole_e_ang"], dtype=np.float64) + charge * origin


def differentiate(evaluations: Sequence[Evaluation], charge: int = 0, step: float = STEP_ANG) -> SecondDerivatives:
    """Take differences of the evaluations of displaced structures.

    Args:
        evaluations: Of each structure of :func:`displaced`, in its order.
        charge: Total charge, e.
        step: Displacement, Å.

    Returns:
        Hessian and, where every evaluation has a dipole moment, its derivatives.
    """
    forces = np.array([evaluation.forces.reshape(-1) for evaluation in evaluations])
    dipoles = [fixed_dipole(evaluation, charge) for evaluation in evaluations]
    known = [dipole for dipole in dipoles if dipole is not None]
    slopes = _slopes(np.array(known), step) if len(known) == len(dipoles) else None
    return SecondDerivatives.of(-_slopes(forces, step), slopes, charge)


def _slopes(values: FloatArray, step: float) -> FloatArray:
    return np.asarray((values[0::2] - values[1::2]) / (2.0 * step))
