from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.neighborlist import neighbor_list

from alflow.domain import Structure
from alflow.domain.ase import to_atoms
from alflow.tensors import to_batch
from alflow.tensors.neighbors import find_neighbors, neighbor_vectors

TRICLINIC = np.array([[3.1, 0.0, 0.0], [0.9, 2.8, 0.0], [-0.4, 0.7, 3.5]])


def _pairs(structure: Structure, cutoff: float) -> np.ndarray:
    batch = to_batch([structure])
    neighbors = find_neighbors(batch, cutoff)
    vectors = neighbor_vectors(batch, neighbors)
    near = neighbors.mask & (vectors.norm(dim=-1) < cutoff)
    first = near.nonzero()[:, 1].double()
    rows = torch.cat([first[:, None], neighbors.index[near].double()[:, None], vectors[near]], dim=1).numpy().round(9)
    return rows[np.lexsort(rows.T[::-1])]


def _pairs_of_ase(structure: Structure, cutoff: float) -> np.ndarray:
    i, j, vectors = neighbor_list("ijD", to_atoms(structure), cutoff)
    rows = np.column_stack([i, j, vectors]).round(9)
    return rows[np.lexsort(rows.T[::-1])]


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, True)])
def test_pairs_agree_with_ase_in_a_triclinic_cell_smaller_than_the_cutoff(pbc: tuple[bool, bool, bool]) -> None:
    rng = np.random.default_rng(3)
    structure = Structure.of("OHHC", rng.uniform(-2.0, 6.0, size=(4, 3)), TRICLINIC, pbc=pbc)
    np.testing.assert_allclose(_pairs(structure, 4.0), _pairs_of_ase(structure, 4.0), atol=2e-9)


def test_pairs_of_a_molecule_agree_with_ase() -> None:
    structure = Structure.of("OHHC", np.random.default_rng(0).normal(size=(4, 3)))
    np.testing.assert_allclose(_pairs(structure, 2.0), _pairs_of_ase(structure, 2.0), atol=2e-9)


def test_a_lone_atom_in_a_small_cell_sees_its_own_images() -> None:
    batch = to_batch([Structure.of("H", [[0.0, 0.0, 0.0]], [2.0, 2.0, 2.0])])
    neighbors = find_neighbors(batch, 2.1)
    assert int(neighbors.mask.sum()) == 6
    assert neighbors.index[neighbors.mask].tolist() == [0] * 6


def test_molecules_and_cells_can_share_a_batch() -> None:
    cell = Structure.of("OHH", np.random.default_rng(1).uniform(0, 3, (3, 3)), TRICLINIC)
    molecule = Structure.of("OHHC", np.random.default_rng(0).normal(size=(4, 3)))
    batch = to_batch([molecule, cell])
    neighbors = find_neighbors(batch, 4.0)
    alone = to_batch([molecule])
    near = find_neighbors(alone, 4.0)
    expected = int((near.mask & (neighbor_vectors(alone, near).norm(dim=-1) < 4.0)).sum())
    assert int(neighbors.mask[0].sum()) == expected
    assert not bool(neighbors.mask[1, 3].any())
