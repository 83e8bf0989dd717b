"""Flat pair lists that are kept from step to step, for the compiled potentials.

A Verlet list (Verlet, Phys. Rev. 159, 98 (1967)) holds all pairs closer than the cutoff plus a skin. Until some atom
has moved by half the skin no pair can have come inside the cutoff unseen, so the list stays good for tens of steps. The
order of a list does not depend on when it was made: whoever takes from it the pairs inside the cutoff gets the same
pairs in the same order as from a new list, and the same numbers to the last bit.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from alflow.domain.structure import FloatArray
from alflow.tensors.jit import compiled
from alflow.tensors.pairs import BoolArray, IntArray, PairList, all_pairs, is_somewhere, joined, near_pairs

__all__ = ["VerletList"]

_SKIN_ANG: Final = 1.0
"""A list of liquid water at 300 K is good for tens of steps of 0.5 fs, and a new one costs about as much as a step."""

_ALL_PAIRS_ATOMS: Final = 200
"""A molecule up to this size needs no list: looking at all its pairs costs less."""


class VerletList:
    """The pair list of the batch that was asked for last, renewed structure by structure as atoms move.

    It belongs to one thread.

    Attributes:
        radius: Pairs closer than this are never missed, Å.
        skin: How much farther the list reaches, Å; changes cost, never results.
        rebuilt: How many lists of a structure have been made so far.
        lost: True for structures that have a list but an atom nowhere: not finite, or absurdly many cells away.
    """

    def __init__(self, radius: float, skin: float = _SKIN_ANG) -> None:
        """Remember nothing yet.

        Args:
            radius: Pairs closer than this are never missed, Å.
            skin: How much farther the list reaches, Å.
        """
        self.radius, self.skin = radius, skin
        self.rebuilt = 0
        self._numbers: IntArray = np.zeros((0, 0), dtype=np.int64)
        self._positions: FloatArray = np.zeros((0, 0, 3))
        self._cells: FloatArray = np.zeros((0, 3, 3))
        self._pbc: BoolArray = np.zeros((0, 3), dtype=bool)
        self._listed: BoolArray = np.zeros(0, dtype=bool)
        self._rows: list[PairList] = []
        self.lost: BoolArray = np.zeros(0, dtype=bool)
        self._pairs = all_pairs(self._numbers)

    def pairs(self, numbers: IntArray, positions: FloatArray, cells: FloatArray, pbc: BoolArray) -> PairList:
        """List every pair closer than the radius, and some that are not.

        The same object is returned as long as it is good. A lost structure has no pairs.

        Args:
            numbers: Atomic numbers, 0 where there is no atom, shape (structure, atom).
            positions: Positions, Å, shape (structure, atom, 3).
            cells: Cell vectors as rows, Å, shape (structure, 3, 3).
            pbc: Periodic directions, shape (structure, 3).
        """
        try:
            self._update(numbers, positions, cells, pbc)
        except BaseException:
            # Whatever was half done, or interrupted, must not pass for a list of the next batch.
            self._numbers = np.zeros((0, 0), dtype=np.int64)
            raise
        return self._pairs

    def _update(self, numbers: IntArray, positions: FloatArray, cells: FloatArray, pbc: BoolArray) -> None:
        if self._is_another_batch(numbers, pbc):
            self._begin(numbers, positions, cells, pbc)
        elif self._listed.any():
            stale = np.zeros(len(numbers), dtype=np.bool_)
            find_stale(positions, self._positions, cells, self._cells, self._listed, self.skin, stale)
            if stale.any():
                self._renew(np.flatnonzero(stale), positions, cells, pbc)

    def _is_another_batch(self, numbers: IntArray, pbc: BoolArray) -> bool:
        return not (np.array_equal(numbers, self._numbers) and np.array_equal(pbc, self._pbc))

    def _begin(self, numbers: IntArray, positions: FloatArray, cells: FloatArray, pbc: BoolArray) -> None:
        self._numbers = numbers.copy()
        self._positions, self._cells, self._pbc = positions.copy(), cells.copy(), pbc.copy()
        self.lost = np.zeros(len(numbers), dtype=bool)
        self._listed = pbc.any(axis=1) | ((numbers > 0).sum(axis=1) > _ALL_PAIRS_ATOMS)
        if not self._listed.any():
            self._pairs = all_pairs(self._numbers)
            return
        # What is listed starts with the pairs of no atoms.
        self._rows = [all_pairs(row[None] * (not listed)) for row, listed in zip(numbers, self._listed, strict=True)]
        self._renew(np.flatnonzero(self._listed), positions, cells, pbc)

    def _renew(self, which: IntArray, positions: FloatArray, cells: FloatArray, pbc: BoolArray) -> None:
        reach = self.radius + self.skin
        for s in which:
            self._positions[s], self._cells[s] = positions[s], cells[s]
            self.lost[s] = not is_somewhere(positions[s], cells[s], pbc[s])
            self._rows[s] = near_pairs(self._numbers[s], positions[s], cells[s], pbc[s], reach)
            self.rebuilt += 1
        self._pairs = joined(self._rows, self._numbers.shape[1])


@compiled
def find_stale(
    positions: FloatArray, old_positions: FloatArray, cells: FloatArray, old_cells: FloatArray, listed: BoolArray,
    skin: float, stale: BoolArray,
) -> None:  # fmt: skip
    """Mark the structures whose list may miss a pair; what cannot be compared is stale."""
    limit = 0.25 * skin * skin
    n_structures, n_atoms, _ = positions.shape
    for s in range(n_structures):
        stale[s] = False
        if not listed[s]:
            continue
        good = True
        for i in range(3):
            for j in range(3):
                good = good and cells[s, i, j] == old_cells[s, i, j]
        for a in range(n_atoms):
            dx = positions[s, a, 0] - old_positions[s, a, 0]
            dy = positions[s, a, 1] - old_positions[s, a, 1]
            dz = positions[s, a, 2] - old_positions[s, a, 2]
            good = good and dx * dx + dy * dy + dz * dz < limit
        stale[s] = not good
