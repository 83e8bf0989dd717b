"""Flat pair lists: who is near whom, row after row.

Pairs of periodic structures are found by vesin. Rows are put into an order of their own, which depends on nothing but
the pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from vesin import NeighborList

from alflow.domain.structure import FloatArray
from alflow.tensors.jit import compiled

__all__ = ["BoolArray", "IntArray", "PairList", "all_pairs", "is_somewhere", "joined", "near_pairs"]

IntArray = npt.NDArray[np.int64]
ShortArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]

_FAR_CELLS: Final = 1e6
"""Atoms farther than this many cells from the origin are as good as nowhere: their images have no digits left."""


@dataclass(frozen=True, eq=False)
class PairList:
    """The neighbors of every atom, row after row. Atoms of a batch count through all structures, padding included.

    The neighbors of an atom are sorted by atomic number, atom and image.

    Attributes:
        starts: Where the row of each atom begins, and where the last one ends, int64, shape (atom + 1,).
        other: Neighbor, int32, shape (pair,).
        shift: Which shift leads to the neighbor's image, int32, shape (pair,).
        images: How many cell vectors each shift is, shape (shift, 3); the first is none.
        offsets: The same in Å, shape (shift, 3).
    """

    starts: IntArray
    other: ShortArray
    shift: ShortArray
    images: IntArray
    offsets: FloatArray


def all_pairs(numbers: IntArray) -> PairList:
    """List all pairs inside each structure.

    Args:
        numbers: Atomic numbers, 0 where there is no atom, shape (structure, atom).
    """
    n_structures, n_atoms = numbers.shape
    sizes = (numbers > 0).sum(axis=1)
    starts = np.zeros(n_structures * n_atoms + 1, dtype=np.int64)
    other = np.empty(int((sizes * (sizes - 1)).sum()), dtype=np.int32)
    fill_all_pairs(numbers, np.argsort(numbers, axis=1, kind="stable"), starts, other)
    return PairList(starts, other, np.zeros(len(other), dtype=np.int32), *_no_shift())


def near_pairs(numbers: IntArray, positions: FloatArray, cell: FloatArray, pbc: BoolArray, reach: float) -> PairList:
    """List all pairs of one structure closer than a distance, periodic images included.

    Args:
        numbers: Atomic numbers, 0 where there is no atom, shape (atom,).
        positions: Positions, Å, shape (atom, 3).
        cell: Cell vectors as rows, Å, shape (3, 3).
        pbc: Periodic directions, shape (3,).
        reach: Largest distance, Å.

    Returns:
        The list; without pairs if an atom is nowhere.
    """
    atoms = np.flatnonzero(numbers > 0)
    if not is_somewhere(positions, cell, pbc):
        empty = np.zeros(0, dtype=np.int32)
        return PairList(np.zeros(len(numbers) + 1, dtype=np.int64), empty, empty, *_no_shift())
    finder = NeighborList(cutoff=reach, full_list=True, n_threads=1)
    points = _closed_up(positions[atoms], cell, pbc, reach)
    first, second, image = finder.compute(points, cell, pbc, quantities="ijS")
    codes, images = _numbered(np.asarray(image).astype(np.int64).reshape(-1, 3))
    ranks = np.empty(len(numbers), dtype=np.int64)
    ranks[np.argsort(numbers, kind="stable")] = np.arange(len(numbers))
    first, second = atoms[np.asarray(first).astype(np.int64)], atoms[np.asarray(second).astype(np.int64)]
    order = np.arange(len(first))
    for key, size in ((codes, len(images)), (ranks[second], len(numbers)), (first, len(numbers))):
        order = sort_stably(key, order, np.zeros(size + 1, dtype=np.int64))
    starts = np.concatenate([[0], np.cumsum(np.bincount(first, minlength=len(numbers)))])
    images = np.concatenate([np.zeros((1, 3), dtype=np.int64), images])
    shift = (codes[order] + 1).astype(np.int32)
    return PairList(starts, second[order].astype(np.int32), shift, images, images @ cell)


def is_somewhere(positions: FloatArray, cell: FloatArray, pbc: BoolArray) -> bool:
    """Whether every atom has a finite position that is not absurdly many cells away.

    Args:
        positions: Positions, Å, shape (atom, 3).
        cell: Cell vectors as rows, Å, shape (3, 3).
        pbc: Periodic directions, shape (3,).
    """
    repeated = cell[pbc]
    if not (np.isfinite(positions).all() and np.isfinite(repeated).all()):
        return False
    return bool(len(repeated) == 0 or np.abs(positions @ np.linalg.pinv(repeated)).max(initial=0.0) < _FAR_CELLS)


def _closed_up(positions: FloatArray, cell: FloatArray, pbc: BoolArray, reach: float) -> FloatArray:
    """Positions with the empty space in open directions taken out, which changes no pair.

    vesin's time grows with the square of the extent of a slab, and its integers overflow at last.
    """
    if pbc.all():
        return positions
    n_periodic = int(pbc.sum())
    normals = np.linalg.svd(cell[pbc])[2][n_periodic:] if n_periodic else np.eye(3)
    for normal in normals:
        heights = positions @ normal
        order = np.argsort(heights, kind="stable")
        empty = np.maximum(np.diff(heights[order], prepend=heights[order[:1]]) - 2.0 * reach, 0.0)
        if empty.any():
            lower = np.zeros(len(positions))
            lower[order] = np.cumsum(empty)
            positions = positions - lower[:, None] * normal
    return positions


def _no_shift() -> tuple[IntArray, FloatArray]:
    return np.zeros((1, 3), dtype=np.int64), np.zeros((1, 3))


def _numbered(image: IntArray) -> tuple[IntArray, IntArray]:
    """Distinct images in ascending order, and the place of each pair's image among them."""
    if len(image) == 0:
        return np.zeros(0, dtype=np.int64), np.zeros((0, 3), dtype=np.int64)
    low = image.min(axis=0)
    spans = image.max(axis=0) - low + 1
    if float(np.prod(spans.astype(float))) > 1e6:
        images, codes = np.unique(image, axis=0, return_inverse=True)
        return codes.reshape(-1).astype(np.int64), images
    flat = np.ravel_multi_index(tuple((image - low).T), tuple(spans))
    present = np.flatnonzero(np.bincount(flat))
    place = np.zeros(int(np.prod(spans)), dtype=np.int64)
    place[present] = np.arange(len(present))
    return place[flat], np.stack(np.unravel_index(present, tuple(spans)), axis=1) + low


def joined(rows: Sequence[PairList], n_atoms: int) -> PairList:
    """One list of a batch.

    Args:
        rows: The list of each structure.
        n_atoms: Atoms of a structure, padding included.
    """
    starts, other, shift = [np.zeros(1, dtype=np.int64)], [], []
    images, offsets = ([part] for part in _no_shift())
    n_pairs, n_shifts = 0, 1
    for s, row in enumerate(rows):
        starts.append(row.starts[1:] + n_pairs)
        other.append(row.other + np.int32(s * n_atoms))
        shift.append(np.where(row.shift > 0, row.shift + np.int32(n_shifts - 1), np.int32(0)))
        images.append(row.images[1:])
        offsets.append(row.offsets[1:])
        n_pairs += len(row.other)
        n_shifts += len(row.images) - 1
    return PairList(*(np.concatenate(parts) for parts in (starts, other, shift, images, offsets)))


@compiled
def fill_all_pairs(numbers: IntArray, order: IntArray, starts: IntArray, other: ShortArray) -> None:
    """List every atom's companions in the order of their atomic numbers."""
    n_structures, n_atoms = numbers.shape
    place = 0
    for s in range(n_structures):
        for a in range(n_atoms):
            starts[s * n_atoms + a] = place
            if numbers[s, a] > 0:
                for q in range(n_atoms):
                    b = order[s, q]
                    if b != a and numbers[s, b] > 0:
                        other[place] = s * n_atoms + b
                        place += 1
    starts[n_structures * n_atoms] = place


@compiled
def sort_stably(key: IntArray, order: IntArray, room: IntArray) -> Any:
    """Sort an order by an integer key too, in linear time; ``room`` holds a zero for every value and one more."""
    result = np.empty_like(order)
    for q in range(len(order)):
        room[key[order[q]] + 1] += 1
    for k in range(1, len(room)):
        room[k] += room[k - 1]
    for q in range(len(order)):
        k = key[order[q]]
        result[room[k]] = order[q]
        room[k] += 1
    return result
