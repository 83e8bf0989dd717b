from __future__ import annotations

import numpy as np
import pytest
from ase.neighborlist import neighbor_list

from alflow.domain import Structure
from alflow.domain.ase import to_atoms
from alflow.tensors.pairs import PairList, all_pairs, near_pairs
from alflow.tensors.verlet import VerletList

CELL = np.array([[3.1, 0.0, 0.0], [0.9, 2.8, 0.0], [-0.4, 0.7, 3.5]])


def _crystal(seed: int = 0, scale: float = 1.0, n_atoms: int = 4) -> Structure:
    positions = np.random.default_rng(seed).uniform(-2.0, 6.0, size=(n_atoms, 3)) * scale
    return Structure.of(("OHHC" * n_atoms)[:n_atoms], positions, CELL * scale)


def _rows(pairs: PairList, positions: np.ndarray, reach: float) -> np.ndarray:
    first = np.repeat(np.arange(len(positions)), np.diff(pairs.starts))
    vectors = positions[pairs.other] + pairs.offsets[pairs.shift] - positions[first]
    near = np.linalg.norm(vectors, axis=1) < reach
    return np.column_stack([first, pairs.other, vectors])[near].round(9)


def _sorted(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.T[::-1])]


def _ask(verlet: VerletList, structures: list[Structure]) -> PairList:
    return verlet.pairs(
        np.stack([s.numbers for s in structures]),
        np.stack([s.positions for s in structures]),
        np.stack([s.cell for s in structures]),
        np.stack([s.pbc for s in structures]),
    )


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, True, False)])
def test_pairs_agree_with_ase_and_their_order_is_canonical(pbc: tuple[bool, bool, bool]) -> None:
    s = Structure.of("OHHC", _crystal().positions, CELL, pbc=pbc)
    pairs = near_pairs(s.numbers, s.positions, s.cell, s.pbc, 4.0)
    i, j, vectors = neighbor_list("ijD", to_atoms(s), 4.0)
    expected = np.column_stack([i, j, vectors]).round(9)
    np.testing.assert_allclose(_sorted(_rows(pairs, s.positions, 4.0)), _sorted(expected), atol=2e-9)
    for a in range(4):
        row = slice(pairs.starts[a], pairs.starts[a + 1])
        other = pairs.other[row]
        keys = np.column_stack([pairs.images[pairs.shift[row]][:, ::-1], other, s.numbers[other]])
        np.testing.assert_array_equal(np.lexsort(keys.T), np.arange(len(keys)))


def test_a_longer_list_has_the_same_pairs_in_the_same_order() -> None:
    s = _crystal(1)
    short, long = (near_pairs(s.numbers, s.positions, s.cell, s.pbc, reach) for reach in (3.0, 5.0))
    np.testing.assert_array_equal(_rows(short, s.positions, 3.0), _rows(long, s.positions, 3.0))


def test_empty_space_above_a_slab_costs_nothing_and_hides_nothing() -> None:
    base = _crystal(2)
    positions = np.vstack([base.positions, base.positions + np.array([0.0, 0.0, 1e5]), [[0.0, 0.0, -1e6]]])
    slab = Structure.of("OHHC" * 2 + "H", positions, CELL, pbc=(True, True, False))
    pairs = near_pairs(slab.numbers, slab.positions, slab.cell, slab.pbc, 4.0)
    counts = np.diff(pairs.starts)
    np.testing.assert_array_equal(counts[:4], counts[4:8])
    alone = near_pairs(base.numbers, base.positions, base.cell, slab.pbc, 4.0)
    np.testing.assert_array_equal(counts[:4], np.diff(alone.starts))


def test_all_pairs_of_padded_molecules() -> None:
    pairs = all_pairs(np.array([[8, 1, 1], [1, 0, 0], [6, 8, 0]]))
    np.testing.assert_array_equal(pairs.starts, [0, 2, 4, 6, 6, 6, 6, 7, 8, 8])
    np.testing.assert_array_equal(pairs.other, [1, 2, 2, 0, 1, 0, 7, 6])


def test_only_structures_that_moved_are_listed_again() -> None:
    verlet = VerletList(3.0, skin=1.0)
    structures = [_crystal(seed) for seed in range(3)]
    first = _ask(verlet, structures)
    assert verlet.rebuilt == 3
    nudged = [s.with_positions(s.positions + 0.28) for s in structures]
    assert _ask(verlet, nudged) is first, "0.28 √3 Å is less than half the skin"
    moved = [nudged[0], structures[1].with_positions(structures[1].positions + 0.29), nudged[2]]
    second = _ask(verlet, moved)
    assert verlet.rebuilt == 4
    for row, s in enumerate(moved):
        fresh = near_pairs(s.numbers, s.positions, s.cell, s.pbc, 4.0)
        part = slice(second.starts[4 * row], second.starts[4 * row + 4])
        found = PairList(
            second.starts[4 * row : 4 * row + 5] - second.starts[4 * row],
            second.other[part] - np.int32(4 * row),
            second.shift[part],
            second.images,
            second.offsets,
        )
        np.testing.assert_array_equal(_rows(found, s.positions, 3.0), _rows(fresh, s.positions, 3.0))


@pytest.mark.parametrize("change", ["cell", "pbc", "numbers", "order", "wrapped"])
def test_every_change_of_the_structure_is_noticed(change: str) -> None:
    verlet, s = VerletList(3.0), _crystal(3)
    before = _ask(verlet, [s])
    changed = {
        "cell": Structure.of(s.numbers, s.positions, s.cell * 1.01),
        "pbc": Structure.of(s.numbers, s.positions, s.cell, pbc=(True, True, False)),
        "numbers": Structure.of("OHHO", s.positions, s.cell),
        "order": Structure.of(s.numbers, s.positions[::-1], s.cell),
        "wrapped": s.with_positions(s.positions + s.cell[0] * np.eye(4)[:, :1]),
    }[change]
    after = _ask(verlet, [changed])
    assert after is not before
    fresh = near_pairs(changed.numbers, changed.positions, changed.cell, changed.pbc, 4.0)
    np.testing.assert_array_equal(_rows(after, changed.positions, 4.0), _rows(fresh, changed.positions, 4.0))


def test_an_atom_that_was_nowhere_comes_back() -> None:
    verlet, s = VerletList(3.0), _crystal(4)
    spoiled = s.positions.copy()
    spoiled[1, 2] = np.nan
    arguments = s.numbers[None], s.cell[None], s.pbc[None]
    lost = verlet.pairs(arguments[0], spoiled[None], *arguments[1:])
    assert len(lost.other) == 0
    assert verlet.lost.tolist() == [True]
    found = _ask(verlet, [s])
    assert len(found.other) > 0
    assert verlet.lost.tolist() == [False]
