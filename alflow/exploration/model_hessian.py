"""A model Hessian from the geometry alone: stiff bonds, softer angles, soft torsions and contacts.

The force constants are those of Lindh, Bernhardsson, Karlström and Malmqvist, Chem. Phys. Lett. 241, 423 (1995),
eqs. 2–5: each pair has a strength ρᵢⱼ = exp(αᵢⱼ (r̄ᵢⱼ² − rᵢⱼ²)), with α and r̄ by the rows of the periodic table. A pair
has the force constant k_r ρᵢⱼ, an angle k_φ ρᵢⱼ ρⱼₖ and a torsion k_τ ρᵢⱼ ρⱼₖ ρₖₗ. Here every pair stretches, while
angles and torsions are spanned by bonds only.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from alflow.domain import Structure
from alflow.domain.elements import COVALENT_RADII_ANG
from alflow.domain.structure import FloatArray
from alflow.units import ANG_PER_BOHR, EV_PER_HARTREE

__all__ = ["bonds_of", "model_hessian"]

_STRETCH_HARTREE_BOHR2: Final = 0.45
_BEND_HARTREE: Final = 0.15
_TORSION_HARTREE: Final = 0.005
# Rows of the periodic table: hydrogen and helium, the second row, everything below.
_RADIUS_BOHR: Final = np.array([[1.35, 2.10, 2.53], [2.10, 2.87, 3.40], [2.53, 3.40, 3.40]])
_DECAY_BOHR2: Final = np.array([[1.0000, 0.3949, 0.3949], [0.3949, 0.2800, 0.2800], [0.3949, 0.2800, 0.2800]])

_BOND_FACTOR: Final = 1.3
"""Atoms closer than this times the sum of their covalent radii are bonded."""

_STRAIGHT_SINE: Final = 0.17
"""Below this sine (10° from straight) an angle has no plane; it bends in two directions and turns no torsion."""

_Gradient = dict[int, FloatArray]
"""Derivative of one internal coordinate by the positions of the atoms it depends on."""


def bonds_of(structure: Structure) -> npt.NDArray[np.bool_]:
    """Find which atoms of a molecule are bonded, judged by their distance, shape (atom, atom)."""
    radii = np.array([COVALENT_RADII_ANG[z] for z in structure.numbers])
    distances = np.linalg.norm(structure.positions[:, None] - structure.positions[None], axis=-1)
    bonded = distances < _BOND_FACTOR * (radii[:, None] + radii[None])
    np.fill_diagonal(bonded, False)
    return np.asarray(bonded, dtype=np.bool_)


def model_hessian(structure: Structure) -> FloatArray:
    """Estimate the second derivatives of a molecule's energy: H = Σ k ∇q ∇qᵀ over stretches, bends and torsions.

    Translating the molecule costs nothing; neither does rotating it.

    Args:
        structure: A molecule; any periodicity is ignored.

    Returns:
        Hessian, eV/Å², shape (3·atom, 3·atom), symmetric and positive semidefinite.

    Raises:
        ValueError: Two atoms at the same point.
    """
    n = len(structure)
    positions = structure.positions
    strengths = _pair_strengths(structure)
    hessian = np.zeros((n, 3, n, 3))
    _add_stretches(hessian, positions, strengths)
    neighbors = [np.flatnonzero(row).tolist() for row in bonds_of(structure)]
    bend = _BEND_HARTREE * EV_PER_HARTREE
    for j in range(n):
        for a, i in enumerate(neighbors[j]):
            for k in neighbors[j][a + 1 :]:
                for gradient in _bends(positions, i, j, k):
                    _add(hessian, gradient, bend * strengths[i, j] * strengths[j, k])
    torsion = _TORSION_HARTREE * EV_PER_HARTREE
    for j in range(n):
        for k in (k for k in neighbors[j] if k > j):
            for i in (i for i in neighbors[j] if i != k):
                for m in (m for m in neighbors[k] if m not in (i, j)):
                    strength = strengths[i, j] * strengths[j, k] * strengths[k, m]
                    for gradient in _torsions(positions, i, j, k, m):
                        _add(hessian, gradient, torsion * strength)
    return hessian.reshape(3 * n, 3 * n)


def _pair_strengths(structure: Structure) -> FloatArray:
    """ρ of every pair, shape (atom, atom); 0 on the diagonal."""
    rows = np.where(structure.numbers <= 2, 0, np.where(structure.numbers <= 10, 1, 2))
    reference, decay = _RADIUS_BOHR[rows[:, None], rows[None]], _DECAY_BOHR2[rows[:, None], rows[None]]
    distances = np.linalg.norm(structure.positions[:, None] - structure.positions[None], axis=-1) / ANG_PER_BOHR
    strengths = np.exp(decay * (reference**2 - distances**2))
    np.fill_diagonal(strengths, 0.0)
    return np.asarray(strengths, dtype=np.float64)


def _add_stretches(hessian: FloatArray, positions: FloatArray, strengths: FloatArray) -> None:
    n = len(positions)
    i, j = np.triu_indices(n, k=1)
    difference = positions[i] - positions[j]
    distances = np.linalg.norm(difference, axis=1)
    if (distances == 0.0).any():
        pair = int(np.flatnonzero(distances == 0.0)[0])
        raise ValueError(f"A model Hessian needs atoms apart from each other; atoms {i[pair]} and {j[pair]} coincide.")
    directions = difference / distances[:, None]
    constants = _STRETCH_HARTREE_BOHR2 * EV_PER_HARTREE / ANG_PER_BOHR**2 * strengths[i, j]
    blocks = constants[:, None, None] * directions[:, :, None] * directions[:, None, :]
    # Each pair of different atoms owns its two blocks off the diagonal; the diagonal makes every row sum to zero.
    hessian[i, :, j, :] = -blocks
    hessian[j, :, i, :] = -blocks
    for atom in range(n):
        hessian[atom, :, atom, :] -= hessian[atom].sum(axis=1)


def _add(hessian: FloatArray, gradient: _Gradient, constant: float) -> None:
    for a, left in gradient.items():
        for b, right in gradient.items():
            hessian[a, :, b, :] += constant * np.outer(left, right)


def _bends(positions: FloatArray, i: int, j: int, k: int) -> list[_Gradient]:
    """Gradient of the angle i–j–k, 1/Å; of its two perpendicular bends when it is straight."""
    u, v = positions[i] - positions[j], positions[k] - positions[j]
    length_u, length_v = float(np.linalg.norm(u)), float(np.linalg.norm(v))
    u, v = u / length_u, v / length_v
    cosine, sine = float(u @ v), float(np.linalg.norm(np.cross(u, v)))
    if sine > _STRAIGHT_SINE:
        at_i, at_k = (cosine * u - v) / (length_u * sine), (cosine * v - u) / (length_v * sine)
        return [{i: at_i, j: -at_i - at_k, k: at_k}]
    first = np.cross(u, np.eye(3)[np.abs(u).argmin()])
    first /= np.linalg.norm(first)
    second = np.cross(u, first)
    both = [(p / length_u, p / length_v) for p in (first, second)]
    return [{i: at_i, j: -at_i - at_k, k: at_k} for at_i, at_k in both]


def _torsions(positions: FloatArray, i: int, j: int, k: int, m: int) -> list[_Gradient]:
    """Gradient of the dihedral i–j–k–m, 1/Å (Blondel and Karplus, J. Comput. Chem. 17, 1132 (1996), eq. 27).

    Empty when three of the atoms are in line.
    """
    f, g, h = positions[i] - positions[j], positions[j] - positions[k], positions[m] - positions[k]
    a, b = np.cross(f, g), np.cross(h, g)
    length = float(np.linalg.norm(g))
    a2, b2 = float(a @ a), float(b @ b)
    straight_f = a2 <= (_STRAIGHT_SINE * length) ** 2 * float(f @ f)
    straight_h = b2 <= (_STRAIGHT_SINE * length) ** 2 * float(h @ h)
    if straight_f or straight_h:
        return []
    at_i, at_m = -length / a2 * a, length / b2 * b
    along_f, along_h = float(f @ g) / (a2 * length) * a, float(h @ g) / (b2 * length) * b
    return [{i: at_i, j: -at_i + along_f - along_h, k: -at_m - along_f + along_h, m: at_m}]
