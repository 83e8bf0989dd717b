"""Second derivatives of a committee's energy, exact, by automatic differentiation.

    H_iα,jβ = ∂²E/∂r_iα ∂r_jβ

The energy is written once, with nothing but differentiable operations (:func:`committee_energies`); it is
differentiated twice with respect to the positions. In a periodic structure an atom moves together with its images, so
the result belongs to the center of the Brillouin zone of the given cell; a supercell has more.

Everything happens in float64 whatever the committee computes in: frequencies feel the eighth digit of a force.
"""

from __future__ import annotations

import numpy as np
import torch

from alflow.domain import Structure
from alflow.domain.structure import FloatArray
from alflow.potentials.committee import Committee, Surroundings, repulsion_of
from alflow.potentials.hdnnp import network_energies
from alflow.tensors import Batch, to_batch

__all__ = ["committee_energies", "hessian", "member_hessians"]


def committee_energies(committee: Committee, batch: Batch) -> torch.Tensor:
    """Evaluate the energies of all members so that they can be differentiated.

    The same numbers as :meth:`alflow.potentials.Committee.predict`; derivatives of any order with respect to the
    positions of the batch are those of torch. Slower than ``predict``: for Hessians and for tests.

    Args:
        committee: The committee.
        batch: The structures, in the floating-point type of the committee.

    Returns:
        Energies, eV, shape (member, structure).

    Raises:
        InputError: An element the committee was not trained on.
    """
    seen = Surroundings.of(batch, committee.functions, committee.elements)
    atomic, _ = network_energies(committee.weights, seen.features, seen.species.reshape(-1))
    energies = atomic.reshape(committee.n_members, *batch.numbers.shape).sum(dim=-1)
    elements = torch.arange(len(committee.elements), device=batch.numbers.device)
    counts = (seen.species[..., None] == elements).to(committee.atomic_energies.dtype).sum(dim=1)
    energies = energies + committee.atomic_energies @ counts.T
    if committee.model.repulsion:
        energies = energies + repulsion_of(batch, seen)[0]
    return energies


@torch.enable_grad()
def hessian(committee: Committee, structure: Structure) -> FloatArray:
    """Evaluate the second derivatives of the members' mean energy.

    Symmetric to rounding, as computed: no average with the transpose hides an error. Rows of one atom add up to zero
    (acoustic sum rule), because the energy depends on differences of positions only.

    Args:
        committee: The committee.
        structure: A molecule, or a periodic structure of any cell.

    Returns:
        Hessian, eV/Å², shape (3 · atom, 3 · atom), x, y and z of the first atom first.

    Raises:
        InputError: An element the committee was not trained on.
    """
    energies, positions = _energies_by_positions(committee, structure)
    return _second_derivatives(energies.mean(), positions)


@torch.enable_grad()
def member_hessians(committee: Committee, structure: Structure) -> FloatArray:
    """Evaluate the second derivatives of each member's energy: how sure the committee is of a frequency.

    Args:
        committee: The committee.
        structure: A molecule, or a periodic structure of any cell.

    Returns:
        Hessians, eV/Å², shape (member, 3 · atom, 3 · atom); their mean is :func:`hessian`.

    Raises:
        InputError: An element the committee was not trained on.
    """
    energies, positions = _energies_by_positions(committee, structure)
    return np.stack([_second_derivatives(energy, positions) for energy in energies])


def _energies_by_positions(committee: Committee, structure: Structure) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies of the members, shape (member,), and the positions they can be differentiated by."""
    batch = to_batch([structure], torch.float64)
    positions = batch.positions.requires_grad_()
    energies = committee_energies(committee.to(torch.float64), batch.with_positions(positions))
    return energies[:, 0], positions


def _second_derivatives(energy: torch.Tensor, positions: torch.Tensor) -> FloatArray:
    (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
    # One row after the other: all at once would hold 3N copies of every intermediate.
    rows = [torch.autograd.grad(slope, positions, retain_graph=True)[0] for slope in gradient.reshape(-1)]
    return np.asarray(torch.stack(rows).reshape(len(rows), len(rows)).numpy())
