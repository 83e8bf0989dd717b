"""Whether a structure is new: fingerprints of interatomic distances."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np

from alflow.domain import Structure
from alflow.domain.structure import FloatArray

__all__ = ["PERIODIC_RADIUS_ANG", "Fingerprints", "fingerprint", "is_near_duplicate"]

PERIODIC_RADIUS_ANG: Final = 6.0
"""In a periodic structure all distances beyond this count as this."""

_N_DIRECTIONS: Final = 8
_N_SAMPLE: Final = 128
_LEAST_SHARE: Final = 1e-6
_N_TRAITS: Final = 5
"""Charge, multiplicity and three flags of periodicity follow the atomic numbers."""


def fingerprint(structure: Structure) -> FloatArray:
    """Describe a structure by what does not change when it is moved, rotated, mirrored or renumbered.

    The distances of all pairs of atoms, those of one pair of elements sorted by length and side by side. In periodic
    structures a pair counts once, at its nearest image, and at ``PERIODIC_RADIUS_ANG`` if that is farther, so that
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
    i, j = _pairs(n)
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
    known = Fingerprints()
    known.add("b", fingerprint(b))
    return known.twin(fingerprint(a), tolerance_ang) is not None


class Fingerprints:
    """Fingerprints of many structures, among which a new one's twin is found fast.

    Of each only eight projections are looked at first. The difference of two fingerprints is never shorter than that of
    their projections on orthonormal directions, so whatever differs there by more than the tolerance is no twin; of the
    few that are left the whole fingerprint is compared. Any directions are right; those in which what is known differs
    most leave the fewest. Memory: what was added, and no more than twice that.
    """

    def __init__(self) -> None:
        self._kinds: dict[bytes, _Kind] = {}
        self._kind_of: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._kind_of)

    def add(self, name: str, fingerprint: FloatArray) -> None:
        """Remember a structure; a name that is known keeps its fingerprint."""
        if name in self._kind_of:
            return
        kind, distances = _parted(fingerprint)
        self._kind_of[name] = kind
        if kind not in self._kinds:
            self._kinds[kind] = _Kind(_directions(len(distances)))
        self._kinds[kind].add(name, distances)

    def discard(self, name: str) -> None:
        """Forget a structure, if it is known."""
        kind = self._kind_of.pop(name, None)
        if kind is not None:
            self._kinds[kind].discard(name)

    def twin(self, fingerprint: FloatArray, tolerance_ang: float) -> str | None:
        """Find the first structure that a new one nearly repeats.

        Args:
            fingerprint: Of the new structure.
            tolerance_ang: Largest root-mean-square difference of the distances, Å.

        Returns:
            The name of the one that was added first; None if the structure is new.
        """
        kind, distances = _parted(fingerprint)
        return self._kinds[kind].twin(distances, tolerance_ang) if kind in self._kinds else None


@dataclass
class _Kind:
    """Structures of the same atoms, charge, multiplicity and periodicity, in the order in which they came."""

    directions: FloatArray
    names: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    distances: FloatArray = field(init=False)
    projections: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.distances = np.empty((16, self.directions.shape[1]))
        self.projections = np.empty((len(self.directions), 16))

    def add(self, name: str, distances: FloatArray) -> None:
        row = len(self.names)
        if row == len(self.distances):
            self._grow()
        self.distances[row], self.projections[:, row] = distances, self.directions @ distances
        self.names.append(name)
        self.rows[name] = row

    def _grow(self) -> None:
        """Make room for as many again, and look from where those that are there differ most."""
        n = len(self.distances)
        self.directions = _principal(self.distances[list(self.rows.values())[-_N_SAMPLE:]], self.directions)
        self.distances = np.concatenate([self.distances, np.empty_like(self.distances)])
        self.projections = np.empty((len(self.directions), 2 * n))
        with np.errstate(invalid="ignore"):  # what was discarded becomes no number, which is near to nothing either
            self.projections[:, :n] = self.directions @ self.distances[:n].T

    def discard(self, name: str) -> None:
        row = self.rows.pop(name)
        self.distances[row] = self.projections[:, row] = np.inf  # farther than any tolerance

    def twin(self, distances: FloatArray, tolerance: float) -> str | None:
        # A little more, for the rounding of the projections; the whole comparison is exact.
        reach = tolerance * np.sqrt(len(distances)) * (1 + 1e-9) + 1e-9
        near = np.arange(len(self.names))
        for known, own in zip(self.projections, self.directions @ distances, strict=True):
            near = near[np.abs(known[near] - own) <= reach]  # one after the other: each leaves fewer for the next
        difference = self.distances[near] - distances
        # A lone atom has no distances: it equals every other lone atom of its kind.
        hits = near[np.sqrt(np.square(difference).sum(axis=1) / max(len(distances), 1)) <= tolerance]
        return next((self.names[row] for row in hits.tolist() if self.names[row] in self.rows), None)


@lru_cache(maxsize=1)  # most campaigns ask for one number of atoms
def _pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The two atoms of every pair, the smaller number first."""
    first, second = np.triu_indices(n, k=1)
    first.setflags(write=False)
    second.setflags(write=False)
    return first, second


def _parted(fingerprint: FloatArray) -> tuple[bytes, FloatArray]:
    """What must be equal exactly, as a key, and the distances."""
    begin = 1 + int(fingerprint[0]) + _N_TRAITS
    return fingerprint[:begin].tobytes(), fingerprint[begin:]


def _directions(size: int) -> FloatArray:
    """A few orthonormal directions of a space, always the same, shape (direction, size)."""
    random = np.random.default_rng(size).standard_normal((size, min(size, _N_DIRECTIONS)))
    return np.asarray(np.linalg.qr(random)[0].T, dtype=np.float64)


def _principal(sample: FloatArray, before: FloatArray) -> FloatArray:
    """Orthonormal directions in which some points differ most, shape (direction, size); those before if none do."""
    centered = sample - sample.mean(axis=0) if len(sample) else sample
    squares, vectors = np.linalg.eigh(centered @ centered.T)  # as many as points, which may have more coordinates
    largest = vectors[:, ::-1][:, : min(_N_DIRECTIONS, sample.shape[1])]
    if not len(squares) or not (squares[::-1][: largest.shape[1]] > _LEAST_SHARE * squares[-1]).all():
        return before
    return np.asarray(np.linalg.qr(centered.T @ largest)[0].T, dtype=np.float64)


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
