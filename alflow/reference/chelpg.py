"""Charges that reproduce the electrostatic potential around a molecule: CHELPG. Loads PySCF.

C. M. Breneman and K. B. Wiberg, J. Comput. Chem. 11, 361 (1990): on a regular grid of points 0.3 Å apart, no farther
than 2.8 Å from the nearest nucleus and outside of every exclusion radius, point charges are fitted to the potential by
least squares, with the right sum. The grid stands along the axes, so charges change by about 0.001 e when a molecule
is turned; charges of atoms deep inside are poorly determined by any such fit.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from pyscf import df, gto, lib
from pyscf.data import radii

from alflow.domain.structure import FloatArray
from alflow.errors import InputError
from alflow.units import ANG_PER_BOHR

__all__ = ["chelpg_charges"]

SPACING_ANG: Final = 0.3
HEAD_SPACE_ANG: Final = 2.8
EXCLUSION_ANG: Final = {1: 1.45, 6: 1.5, 7: 1.7, 8: 1.7, 9: 1.7}
"""The shorter radii of the paper's program, by atomic number; other elements have Bondi's."""

_BLOCK_BYTES: Final = 64_000_000


def chelpg_charges(mean_field: Any, density: FloatArray) -> FloatArray:
    """Fit point charges to the electrostatic potential.

    Minimizes Σₖ (V(rₖ) − Σₐ qₐ/|rₖ − Rₐ|)² under Σₐ qₐ = Q.

    Args:
        mean_field: A converged field.
        density: Its density matrix, both spins together, shape (function, function).

    Returns:
        Charges, e, shape (atom,).

    Raises:
        InputError: No point is left to fit to.
    """
    molecule = mean_field.mol
    centers = np.asarray(molecule.atom_coords())
    points = fitting_points(np.asarray([gto.charge(molecule.atom_symbol(a)) for a in range(molecule.natm)]), centers)
    if len(points) <= len(centers):
        raise InputError(f"{len(points)} points lie around the molecule, too few to fit {len(centers)} charges to.")
    inverse = 1.0 / _distances(points, centers)
    potential = inverse @ molecule.atom_charges() - _electronic_potential(molecule, density, points)
    n = len(centers)
    equations = np.ones((n + 1, n + 1))
    equations[:n, :n] = inverse.T @ inverse
    equations[n, n] = 0.0
    known = np.append(inverse.T @ potential, molecule.charge)
    return np.asarray(np.linalg.solve(equations, known)[:n])


def fitting_points(numbers: FloatArray, centers: FloatArray) -> FloatArray:
    """Points of the grid that charges are fitted to.

    Args:
        numbers: Atomic numbers, shape (atom,).
        centers: Positions, Bohr, shape (atom, 3).

    Returns:
        Points, Bohr, shape (point, 3).
    """
    spacing, head = SPACING_ANG / ANG_PER_BOHR, HEAD_SPACE_ANG / ANG_PER_BOHR
    excluded = np.array([EXCLUSION_ANG.get(int(z), radii.VDW[int(z)] * ANG_PER_BOHR) for z in numbers]) / ANG_PER_BOHR
    low, high = centers.min(axis=0) - head, centers.max(axis=0) + head
    axes = []
    for start, stop in zip(low, high, strict=True):
        steps = int((stop - start) / spacing)
        axes.append(0.5 * (start + stop) + spacing * (np.arange(steps + 1) - 0.5 * steps))
    kept = []
    for x in axes[0]:  # a plane at a time: memory does not grow with the third power of the molecule
        plane = np.stack(np.meshgrid([x], axes[1], axes[2], indexing="ij"), axis=-1).reshape(-1, 3)
        lengths = _distances(plane, centers)
        kept.append(plane[(lengths > excluded).all(axis=1) & (lengths <= head).any(axis=1)])
    return np.concatenate(kept)


def _distances(points: FloatArray, centers: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.norm(points[:, None] - centers, axis=2))


def _electronic_potential(molecule: Any, density: FloatArray, points: FloatArray) -> FloatArray:
    """∫ ρ(r)/|r − rₖ| dr at each point, Ha/e, in blocks of bounded memory."""
    weights = 2.0 * density - np.diag(np.diag(density))
    packed = lib.pack_tril(weights)
    block = max(1, _BLOCK_BYTES // (8 * len(packed)))
    found = []
    for start in range(0, len(points), block):
        charges = gto.fakemol_for_charges(points[start : start + block])
        charges.cart = molecule.cart  # an s function is the same either way, but PySCF does not mix
        found.append(packed @ df.incore.aux_e2(molecule, charges, aosym="s2ij"))
    return np.concatenate(found)
