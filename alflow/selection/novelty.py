"""Whether a structure is new: fingerprints of interatomic distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from alflow.domain import Structure
from alflow.domain.structure import FloatArray

__all__ = ["PERIODIC_RADIUS_ANG", "fingerprint", "first_near_duplicate", "is_near_duplicate"]

PERIODIC_RADIUS_ANG: Final = 6.0
"""In a periodic structure all distances beyond this count as this."""

_N_TRAITS: Final = 5
"""Charge, multiplicity and three flags of periodicity follow the atomic numbers."""


def fingerprint(structure: Structure) -> FloatArray:
    """Describe a structure by what does not change when it is moved, rotated, mirrored or renumbered.

    The distances of all pairs of atoms, those of one pair of elements sorted by length and side by side. In periodic
    structures a pair counts once, at its nearest image, and at :data:`PERIODIC_RADIUS_ANG` if that is farther, so that
    the length of a fingerprint never depends on the positions. In front stands what must be equal exactly: number of
    atoms, sorted atomic numbers, charge, multiplicity, periodicity.

    Sorted distances do not tell mirror images apart, whose energy is the same. Different structures with the same
    distances exist but need coincidences that dynamics does not meet (Bartók et al., Phys. Rev. B 87, 184115 (2013)).

    Args:
        structure: Any structure; of a periodic one, cells so small that an atom has two images of another inside the
            radius are described by the nearer image only.

    Returns:
        One vector: 1 + n + 5 exact numbers, then n(n − 1)/2 distances, Å.

    Examples:
        >>> fingerprint(Structure.of("HH", [[0, 0, 0], [0, 0.75, 0]])).tolist()
        [2.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.75]
    """
    n = len(structure)
    i, j = np.triu_indices(n, k=1)
    distances = _distances(structure, i, j)
    low = np.minimum(structure.numbers[i], structure.numbers[j])
    high = np.maximum(structure.numbers[i], structure.numbers[j])
    order = np.lexsort((distances, high, low))
    traits = [structure.charge, structure.multiplicity, *structure.pbc.tolist()]
    return np.concatenate([[n], np.sort(structure.numbers), traits, distances[order]]).astype(np.float64)


def is_near_duplicate(a: Structure, b: Structure, tolerance_ang: float) -> bool:
    """Tell whether two structures are the same within a tolerance.

    Args:
        a: One structure.
        b: Another; other atoms, charge, multiplicity or periodicity make it no duplicate.
        tolerance_ang: Largest root-mean-square difference of their sorted distances, Å.
    """
    return first_near_duplicate(fingerprint(a), [fingerprint(b)], tolerance_ang) is not None


def first_near_duplicate(new: FloatArray, existing: Sequence[FloatArray], tolerance_ang: float) -> int | None:
    """Find the first of many structures that a new one nearly repeats.

    Args:
        new: Fingerprint of the new structure.
        existing: Fingerprints of the others; those of other atoms are passed over.
        tolerance_ang: Largest root-mean-square difference of the distances, Å.

    Returns:
        Its position, or None if the structure is new.
    """
    places = [place for place, mark in enumerate(existing) if mark.shape == new.shape]
    if not places:
        return None
    table = np.stack([existing[place] for place in places])
    begin = 1 + int(new[0]) + _N_TRAITS
    alike = (table[:, :begin] == new[:begin]).all(axis=1)
    difference = table[:, begin:] - new[begin:]
    # A lone atom has no distances: it equals every other lone atom of its kind.
    near = np.sqrt(np.square(difference).sum(axis=1) / max(difference.shape[1], 1)) <= tolerance_ang
    hits = np.flatnonzero(alike & near)
    return places[int(hits[0])] if hits.size else None


def _distances(structure: Structure, i: np.ndarray, j: np.ndarray) -> FloatArray:
    """Distance of each pair; nearest image and at most the radius when periodic, Å, shape (pair,)."""
    difference = structure.positions[i] - structure.positions[j]
    if not structure.is_periodic:
        return np.asarray(np.linalg.norm(difference, axis=1), dtype=np.float64)
    cell = structure.cell * structure.pbc[:, None]
    difference = difference - np.rint(difference @ np.linalg.pinv(cell)) @ cell
    # Rounding finds the nearest image in a cube; in a skewed cell it may be one of the neighbours.
    nearest = np.full(len(difference), PERIODIC_RADIUS_ANG)
    for shift in np.ndindex(3, 3, 3):
        image = difference + (np.array(shift) - 1) @ cell
        nearest = np.minimum(nearest, np.linalg.norm(image, axis=1))
    return nearest
