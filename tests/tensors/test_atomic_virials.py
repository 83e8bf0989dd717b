from __future__ import annotations

import numpy as np
import torch

from alflow.domain import Structure
from alflow.tensors import to_batch
from alflow.tensors.derivatives import atomic_virials, stress_from_pairs
from alflow.tensors.neighbors import find_neighbors, neighbor_vectors


def _bends(structure: Structure, strain: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Energy Σ_jk (r_ij·r_ik − 1)² w_ij w_ik of each atom's environment, its gradient on every pair, and all r_ij."""
    batch = to_batch([structure])
    neighbors = find_neighbors(batch, 3.0)
    vectors = neighbor_vectors(batch, neighbors)
    strained = (vectors + vectors @ (0.5 * (strain + strain.T))).requires_grad_()
    weights = (9.0 - strained.square().sum(dim=-1)).clamp(min=0.0) ** 3 * neighbors.mask
    dots = torch.einsum("sajx,sakx->sajk", strained, strained)
    environments = torch.einsum("sajk,saj,sak->sa", (dots - 1.0).square(), weights, weights) * 1e-6
    (gradient,) = torch.autograd.grad(environments.sum(), strained, retain_graph=True)
    return environments, gradient[None].detach(), vectors


def _crystal() -> Structure:
    cell = np.array([[3.1, 0.0, 0.0], [0.9, 2.8, 0.0], [-0.4, 0.7, 3.5]])
    return Structure.of("OHHC", np.random.default_rng(0).uniform(0, 3, (4, 3)), cell)


def test_the_sum_over_atoms_is_the_stress_times_the_volume() -> None:
    structure = _crystal()
    _, gradient, vectors = _bends(structure, torch.zeros((3, 3), dtype=torch.float64))
    gradient = torch.cat([gradient, -2.0 * gradient])
    virials = atomic_virials(gradient, vectors)
    assert virials.shape == (2, 1, 4, 3, 3)
    volume = abs(float(np.linalg.det(structure.cell)))
    stress = stress_from_pairs(gradient, vectors, to_batch([structure]))
    assert float(virials.abs().max()) > 0.1
    torch.testing.assert_close(virials.sum(dim=2), volume * stress, rtol=1e-12, atol=1e-13)


def test_each_share_is_the_strain_derivative_of_one_environment() -> None:
    strain = torch.zeros((3, 3), dtype=torch.float64, requires_grad=True)
    environments, gradient, vectors = _bends(_crystal(), strain)
    virials = atomic_virials(gradient, vectors)[0, 0]
    for atom in range(4):
        (truth,) = torch.autograd.grad(environments[0, atom], strain, retain_graph=True)
        torch.testing.assert_close(virials[atom], truth, rtol=1e-12, atol=1e-13)


def test_an_environment_resists_no_rotation() -> None:
    _, gradient, vectors = _bends(_crystal(), torch.zeros((3, 3), dtype=torch.float64))
    raw = torch.einsum("sajx,msajy->msaxy", vectors, gradient)
    torch.testing.assert_close(raw, raw.transpose(-1, -2), rtol=1e-12, atol=1e-13)


def test_a_stretched_molecule_pulls_positively() -> None:
    stretched = to_batch([Structure.of("HH", [[0.0, 0.0, 0.0], [1.2, 0.0, 0.0]])])
    neighbors = find_neighbors(stretched, 3.0)
    vectors = neighbor_vectors(stretched, neighbors)
    # Each atom holds half of a spring of length 1 Å: g = ∂/∂r ½·½ (r − 1)² = 0.1 eV/Å along r.
    gradient = 0.5 * 0.2 * vectors / 1.2 * neighbors.mask[..., None]
    expected = torch.zeros((1, 1, 2, 3, 3), dtype=torch.float64)
    expected[..., 0, 0] = 0.12
    torch.testing.assert_close(atomic_virials(gradient[None], vectors), expected)
