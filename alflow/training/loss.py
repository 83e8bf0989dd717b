"""The loss: weighted squared errors of energies, forces and virials, for all members at once."""

from __future__ import annotations

import torch

from alflow.domain.learning_config import TrainingConfig
from alflow.potentials.hdnnp import NetworkWeights, layer_energies
from alflow.training.examples import Examples

__all__ = ["frame_weights", "losses", "predictions"]


def frame_weights(n_frames: int, strength: float, n_members: int, generator: torch.Generator) -> torch.Tensor:
    """Weight of each frame in each member's loss: a Bayesian bootstrap (Rubin, Ann. Stat. 9, 130 (1981)), tempered.

    ω = (1 − s) + s·Exp(1), with mean 1. Unlike a resampling with replacement no label is ever left out.

    Args:
        n_frames: Number of labels.
        strength: s; 0 gives every frame weight 1.
        n_members: Number of members.
        generator: Source of randomness.

    Returns:
        Weights, shape (frame, member).
    """
    exponential = -torch.log1p(-torch.rand((n_frames, n_members), generator=generator, dtype=torch.float64))
    return ((1.0 - strength) + strength * exponential).to(torch.float32)


def predictions(weights: NetworkWeights, examples: Examples) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Evaluate all members on examples, differentiably with respect to the weights.

    Returns:
        Energies, shape (structure, member); forces, shape (place, member, 3); virials, shape
        (structure, member, 3, 3), or None when no structure has one.
    """
    energies, gradients = [], []
    # Taken apart once: picking an element out of a stack costs a pass over the whole stack on the way back.
    layers, biases = ([t.unbind() for t in tensors] for tensors in (weights.hidden, weights.bias))
    outputs, linears = weights.output.unbind(), weights.linear.unbind()
    for e, x in enumerate(torch.split(examples.components, list(examples.counts))):
        n_members, n_components, width = layers[0][e].shape
        first = layers[0][e].transpose(0, 1).reshape(n_components, n_members * width)
        inner, offsets = [layer[e] for layer in layers[1:]], [bias[e] for bias in biases]
        energy, slopes = layer_energies(x, first, inner, offsets, outputs[e])
        energies.append(torch.addmm(energy, linears[e], x.T))
        gradients.append(torch.baddbmm(linears[e][:, None, :], slopes, layers[0][e].transpose(1, 2)))
    total = torch.cat(energies, dim=1).T
    total = total.new_zeros((examples.structures, total.shape[1])).index_add(0, examples.owner, total)
    forces, pairs = examples.forces_of(torch.cat(gradients, dim=1))
    virials = examples.virials_of(pairs) if bool(examples.with_virials.any()) else None
    return total, forces, virials


def losses(
    weights: NetworkWeights, offsets: torch.Tensor, examples: Examples, training: TrainingConfig
) -> torch.Tensor:
    """Sum of squared errors of each structure for each member.

    L = Σ_i |ΔF_i|² + w_E² ΔE²/N + w_σ² |ΔW|²/N, with N the number of atoms and W the virial.

    Args:
        weights: The networks.
        offsets: Correction to the energy of each element's atoms, eV, shape (element, member).
        examples: The labels.
        training: Weights of energies and virials.

    Returns:
        Losses, eV²/Å², shape (structure, member).
    """
    energies, forces, virials = predictions(weights, examples)
    energies = energies.index_add(0, examples.owner, offsets[examples.kinds])
    squares = (forces - examples.forces[:, None, :]).square().sum(dim=2)[examples.place]
    loss = torch.zeros_like(energies).index_add(0, examples.owner, squares)
    energy_errors = (energies - examples.energies[:, None]).square() / examples.sizes[:, None]
    loss = loss + training.energy_weight_per_ang**2 * energy_errors
    if virials is not None:
        known = examples.with_virials
        errors = (virials[known] - examples.virials[known][:, None]).square().sum(dim=(2, 3))
        weighted = training.stress_weight_per_ang**2 * errors / examples.sizes[known][:, None]
        loss = loss.index_add(0, known.nonzero()[:, 0], weighted)
    return loss
