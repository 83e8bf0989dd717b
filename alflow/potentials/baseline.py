"""The energy of the atoms a structure is made of: what is left when nothing interacts.

Total energies of electronic-structure methods are thousands of eV, the part that depends on the geometry a few. One
energy per element, fitted to the labels, takes the difference away; it also absorbs any constant offset of a level.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alflow.domain.structure import FloatArray

__all__ = ["composition_counts", "fit_atomic_energies"]


def composition_counts(numbers: npt.NDArray[np.int64], elements: tuple[int, ...]) -> FloatArray:
    """Count the atoms of each element.

    Args:
        numbers: Atomic numbers, 0 for no atom, shape (structure, atom).
        elements: Atomic numbers to count.

    Returns:
        Counts, shape (structure, element).

    Examples:
        >>> composition_counts(np.array([[8, 1, 1], [1, 0, 0]]), (1, 8))
        array([[2., 1.],
               [1., 0.]])
    """
    return np.asarray((numbers[:, :, None] == np.array(elements)).sum(axis=1), dtype=float)


def fit_atomic_energies(counts: FloatArray, energies: FloatArray) -> FloatArray:
    """Fit one energy per element to total energies, by least squares.

    Where compositions do not determine them (all labels have the same formula) the smallest energies that reproduce
    the labels are taken: only differences the data determine are ever used.

    Args:
        counts: Atoms of each element, shape (structure, element).
        energies: Total energies, eV, shape (structure,).

    Returns:
        Atomic energies, eV, shape (element,).

    Examples:
        >>> fit_atomic_energies(np.array([[2.0, 1.0], [2.0, 0.0]]), np.array([-76.0, -1.0])).round(6)
        array([ -0.5, -75. ])
    """
    return np.asarray(np.linalg.lstsq(counts, energies, rcond=1e-10)[0], dtype=float)
