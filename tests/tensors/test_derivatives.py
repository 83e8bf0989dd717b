from __future__ import annotations

import numpy as np
import torch

from alflow.domain import Structure
from alflow.tensors import to_batch
from alflow.tensors.derivatives import forces_from_pairs, stress_from_pairs
from alflow.tensors.neighbors import find_neighbors, neighbor_vectors


def _springs(structure: Structure) -> tuple[torch.Tensor, torch.Tensor]:
    """Forces and stress of Σ_ij (r_ij − 2)⁴ over a short list, from autograd and from the pair sums."""
    batch = to_batch([structure])
    neighbors = find_neighbors(batch, 3.0)
    strain = torch.zeros((3, 3), dtype=torch.float64, requires_grad=True)
    positions = batch.positions.clone().requires_grad_()
    moved = batch.with_positions(positions)
    vectors = neighbor_vectors(moved, neighbors)
    strained = vectors + vectors @ (0.5 * (strain + strain.T))
    lengths = torch.where(neighbors.mask, strained.square().sum(-1), 4.0).sqrt()
    energy = (lengths - 2.0).pow(4).sum()
    by_position, by_strain, by_pair = torch.autograd.grad(energy, [positions, strain, strained])
    volume = batch.cells[0].det().abs()
    pairs = by_pair[None]
    forces = forces_from_pairs(pairs, neighbors)[0]
    stress = stress_from_pairs(pairs, vectors.detach(), batch)[0, 0]
    return torch.cat([(forces + by_position).reshape(-1), (stress - by_strain / volume).reshape(-1)]), forces


def test_pair_sums_are_autograd_in_a_small_cell() -> None:
    cell = np.array([[3.1, 0.0, 0.0], [0.9, 2.8, 0.0], [-0.4, 0.7, 3.5]])
    difference, forces = _springs(Structure.of("OHHC", np.random.default_rng(0).uniform(0, 3, (4, 3)), cell))
    # Rounding of sums of about a hundred terms of size 10.
    assert float(difference.abs().max()) < 1e-11
    assert float(forces.abs().max()) > 1.0


def test_the_net_force_vanishes_for_any_pair_gradient() -> None:
    batch = to_batch([Structure.of("OHH", np.random.default_rng(0).normal(size=(3, 3)))])
    neighbors = find_neighbors(batch, 3.0)
    gradient = torch.randn((2, 1, 3, 3, 3), dtype=torch.float64) * neighbors.mask[..., None]
    assert float(forces_from_pairs(gradient, neighbors).sum(dim=2).abs().max()) < 1e-14


def test_a_molecule_has_no_stress() -> None:
    batch = to_batch([Structure.of("OHH", np.random.default_rng(0).normal(size=(3, 3)))])
    neighbors = find_neighbors(batch, 3.0)
    gradient = torch.ones((2, 1, 3, 3, 3), dtype=torch.float64)
    stress = stress_from_pairs(gradient, neighbor_vectors(batch, neighbors), batch)
    assert torch.equal(stress, torch.zeros((2, 1, 3, 3), dtype=torch.float64))
