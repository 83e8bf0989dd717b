"""From the gradient on every pair vector to forces and stress, for all members at once.

With r_ij = r_j − r_i + n·cell and g_ij = ∂E/∂r_ij (the energy of atom i's environment only),

    F_k = Σ_j g_kj − Σ_i g_ik,        σ = (1/V) Σ_ij r_ij ⊗ g_ij.

Both are exact: nothing but the chain rule. The sum of all forces vanishes identically.
"""

from __future__ import annotations

import torch

from alflow.tensors.batch import Batch
from alflow.tensors.neighbors import Neighbors

__all__ = ["atomic_virials", "forces_from_pairs", "stress_from_pairs"]


def forces_from_pairs(gradient: torch.Tensor, neighbors: Neighbors) -> torch.Tensor:
    """Sum pair gradients to the force on each atom.

    Args:
        gradient: ∂E/∂r_ij, eV/Å, shape (member, structure, atom, neighbor, 3); zero where the mask is False.
        neighbors: The table the gradient belongs to.

    Returns:
        Forces, eV/Å, shape (member, structure, atom, 3).
    """
    pulled = gradient.sum(dim=3)
    if neighbors.is_dense:
        return pulled - gradient.sum(dim=2)
    n_members, n_structures, n_atoms, n_slots, _ = gradient.shape
    flat = neighbors.index.reshape(1, n_structures, n_atoms * n_slots, 1).expand(n_members, -1, -1, 3)
    pushed = torch.zeros_like(pulled)
    pushed.scatter_add_(2, flat, gradient.reshape(n_members, n_structures, n_atoms * n_slots, 3))
    return pulled - pushed


def stress_from_pairs(gradient: torch.Tensor, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Stress from the strain derivative of the energy, positive under tension.

    Args:
        gradient: ∂E/∂r_ij, eV/Å, shape (member, structure, atom, neighbor, 3).
        vectors: r_ij, Å, shape (structure, atom, neighbor, 3).
        batch: The structures; those that are not periodic get zeros.

    Returns:
        Stress, eV/Å³, shape (member, structure, 3, 3), symmetric.
    """
    virial = torch.einsum("sajx,msajy->msxy", vectors, gradient)
    virial = 0.5 * (virial + virial.transpose(-1, -2))
    periodic = batch.pbc.any(dim=1)
    volume = torch.where(periodic, torch.linalg.det(batch.cells).abs(), torch.ones_like(batch.cells[:, 0, 0]))
    return torch.where(periodic[:, None, None], virial / volume[:, None, None], torch.zeros_like(virial))


def atomic_virials(gradient: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Share of each atom's environment in stress times volume.

    W_i = Σ_j r_ij ⊗ g_ij, so that Σ_i W_i = +V σ: positive under tension, like the stress, and defined for molecules
    too. Authors who call −V σ the virial have the other sign. The energy of an environment does not change when it is
    turned, hence each W_i is symmetric. Shares are by the atom whose energy is strained; the heat current needs them
    by the atom that moves, Σ_j r_ji ⊗ g_ji (Fan et al., Phys. Rev. B 92, 094301 (2015)), with the same sum.

    Args:
        gradient: ∂E/∂r_ij, eV/Å, shape (member, structure, atom, neighbor, 3); zero where the mask is False.
        vectors: r_ij, Å, shape (structure, atom, neighbor, 3).

    Returns:
        Atomic virials, eV, shape (member, structure, atom, 3, 3).
    """
    virial = torch.einsum("sajx,msajy->msaxy", vectors, gradient)
    return 0.5 * (virial + virial.transpose(-1, -2))
