"""The linear problem behind the output weights: how every label depends on every output weight.

For fixed hidden layers a committee member is linear in its output weights, so energies, forces and stress are rows of
one matrix. Rows are built from the projected symmetry functions and their derivatives, which are geometry only and
computed once for all members.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from alflow.domain import Label, Structure
from alflow.domain.learning_config import ModelConfig, TrainingConfig
from alflow.potentials.baseline import composition_counts
from alflow.potentials.committee import Surroundings, repulsion_of
from alflow.potentials.descriptors import SymmetryFunctions
from alflow.tensors import Batch, to_batch
from alflow.tensors.derivatives import forces_from_pairs, stress_from_pairs
from alflow.tensors.neighbors import Neighbors

__all__ = ["Chunk", "HiddenLayer", "chunks_of", "design_rows", "output_weights", "project"]

_PAIRS_PER_CHUNK = 6000
"""Neighbor slots handled at once; bounds the memory of the derivatives."""

_ATOMS_AT_ONCE = 16
"""Atoms whose derivatives are pulled back together: few enough to stay in the cache."""

_OFFSET_SCALE = 10.0
"""Prior width of the correction to the atomic energies relative to other weights: practically free."""

_LINEAR_SCALE = 0.3
"""Prior width of the linear weights relative to the hidden units' share; measured on rMD17."""


@dataclass(frozen=True, eq=False)
class HiddenLayer:
    """The random hidden layer of one member.

    Attributes:
        weights: Shape (element, component, unit).
        bias: Shape (element, unit).
    """

    weights: torch.Tensor
    bias: torch.Tensor

    @property
    def n_columns(self) -> int:
        """Number of output weights: units and components of each element, and one energy per element."""
        n_elements, n_components, n_units = self.weights.shape
        return n_elements * (n_components + n_units + 1)


@dataclass(frozen=True, eq=False)
class Chunk:
    """A few labels, as the fit sees them.

    Attributes:
        batch: Structures in float64.
        seen: Their symmetry functions.
        counts: Atoms of each element, shape (structure, element).
        energies: Energy without atomic energies and repulsion, eV, shape (structure,).
        forces: Forces without repulsion, eV/Å, shape (structure, atom, 3).
        virials: Stress times volume without repulsion, eV, shape (structure, 3, 3); NaN where it is not labelled.
        components: Projected symmetry functions, shape (structure · atom, component); empty before :func:`project`.
        slopes: Their derivatives, 1/Å, shape (structure · atom, neighbor · 3, component); empty before projection.
    """

    batch: Batch
    seen: Surroundings
    counts: torch.Tensor
    energies: torch.Tensor
    forces: torch.Tensor
    virials: torch.Tensor
    components: torch.Tensor
    slopes: torch.Tensor


def chunks_of(
    labels: Sequence[Label],
    functions: SymmetryFunctions,
    elements: tuple[int, ...],
    atomic_energies: np.ndarray[tuple[int], np.dtype[np.float64]],
    model: ModelConfig,
) -> list[Chunk]:
    """Prepare labels for the fit, in pieces of bounded memory, in their order."""
    return [_chunk(piece, functions, elements, atomic_energies, model) for piece in _pieces(labels)]


def project(chunk: Chunk, functions: SymmetryFunctions, center: torch.Tensor, projection: torch.Tensor) -> Chunk:
    """Fill in the projected symmetry functions of a chunk and their derivatives."""
    species = chunk.seen.species.reshape(-1)
    n_components = projection.shape[2]
    n_atoms, n_slots = chunk.seen.environment.elements.shape[:2]
    components = torch.zeros((n_atoms, n_components), dtype=torch.float64)
    slopes = torch.zeros((n_atoms, n_slots * 3, n_components), dtype=torch.float64)
    for e in range(projection.shape[0]):
        atoms = (species == e).nonzero()[:, 0]
        if len(atoms) == 0:
            continue
        components[atoms] = (chunk.seen.features[atoms] - center[e]) @ projection[e]
        for first in range(0, len(atoms), _ATOMS_AT_ONCE):
            few = atoms[first : first + _ATOMS_AT_ONCE]
            cotangents = projection[e].T[:, None, :].expand(-1, len(few), -1)
            pulled = functions.backward(cotangents, chunk.seen.environment.select(few))
            slopes[few] = pulled.reshape(n_components, len(few), -1).permute(1, 2, 0)
    return Chunk(chunk.batch, chunk.seen, chunk.counts, chunk.energies, chunk.forces, chunk.virials, components, slopes)


def design_rows(
    chunk: Chunk, layer: HiddenLayer, training: TrainingConfig
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Build the weighted rows of one member for a chunk.

    Returns:
        Rows, shape (row, weight); targets, shape (row,); and the structure each row belongs to, shape (row,).
    """
    n_structures, n_atoms = chunk.batch.numbers.shape
    n_elements, n_components, n_units = layer.weights.shape
    width = n_components + n_units
    n_slots = chunk.seen.vectors.shape[2]
    species = chunk.seen.species.reshape(-1)
    structure_of = torch.arange(n_structures).repeat_interleave(n_atoms)
    energy = torch.zeros((n_structures, layer.n_columns), dtype=torch.float64)
    pairs = torch.zeros((n_structures * n_atoms, n_slots * 3, layer.n_columns), dtype=torch.float64)
    share = (2.0 / n_units) ** 0.5
    for e in range(n_elements):
        atoms = (species == e).nonzero()[:, 0]
        columns = slice(e * width, e * width + n_units), slice(e * width + n_units, (e + 1) * width)
        units = torch.tanh(chunk.components[atoms] @ layer.weights[e] + layer.bias[e])
        energy[:, columns[0]].index_add_(0, structure_of[atoms], units * share)
        energy[:, columns[1]].index_add_(0, structure_of[atoms], chunk.components[atoms] * _LINEAR_SCALE)
        pairs[atoms, :, columns[0]] = (chunk.slopes[atoms] @ layer.weights[e]) * ((1 - units**2) * share)[:, None, :]
        pairs[atoms, :, columns[1]] = chunk.slopes[atoms] * _LINEAR_SCALE
    energy[:, n_elements * width :] = chunk.counts * _OFFSET_SCALE
    return _weighted(chunk, energy, pairs.reshape(n_structures, n_atoms, n_slots, 3, -1), training)


def output_weights(solution: torch.Tensor, layer: HiddenLayer) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Split a solution into output weights (element, unit), linear weights (element, component) and energies."""
    n_elements, n_components, n_units = layer.weights.shape
    width = n_components + n_units
    table = solution[: n_elements * width].reshape(n_elements, width)
    share = (2.0 / n_units) ** 0.5
    return table[:, :n_units] * share, table[:, n_units:] * _LINEAR_SCALE, solution[-n_elements:] * _OFFSET_SCALE


def _weighted(
    chunk: Chunk, energy: torch.Tensor, pairs: torch.Tensor, training: TrainingConfig
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    size = chunk.counts.sum(dim=1)
    weight = training.energy_weight_per_ang / size.sqrt()
    n_structures = chunk.batch.n_structures
    rows, targets = [energy * weight[:, None]], [chunk.energies * weight]
    owners = [torch.arange(n_structures)]
    real = chunk.batch.mask
    rows.append(_force_rows(pairs, chunk.seen.neighbors)[real].reshape(-1, pairs.shape[-1]))
    targets.append(chunk.forces[real].reshape(-1))
    owners.append(torch.arange(n_structures)[:, None].expand_as(real)[real].repeat_interleave(3))
    labelled = chunk.virials.isfinite().all(dim=-1).all(dim=-1)
    if training.stress_weight_per_ang > 0 and bool(labelled.any()):
        weight = (training.stress_weight_per_ang / size.sqrt())[labelled, None]
        upper = torch.triu_indices(3, 3)
        virial = torch.einsum("sajx,sajyp->sxyp", chunk.seen.vectors[labelled], pairs[labelled])
        virial = 0.5 * (virial + virial.transpose(1, 2))[:, upper[0], upper[1]]
        rows.append((virial * weight[..., None]).reshape(-1, pairs.shape[-1]))
        targets.append((chunk.virials[labelled][:, upper[0], upper[1]] * weight).reshape(-1))
        owners.append(torch.arange(n_structures)[labelled].repeat_interleave(6))
    return torch.cat(rows), torch.cat(targets), torch.cat(owners)


def _force_rows(pairs: torch.Tensor, neighbors: Neighbors) -> torch.Tensor:
    """Sum pair rows to force rows, shape (structure, atom, 3, weight).

    The same sum as :func:`alflow.tensors.derivatives.forces_from_pairs` with the weights last, where the matrix
    product left them: moving them would take longer than everything else.
    """
    pulled = pairs.sum(dim=2)
    if neighbors.is_dense:
        return pulled - pairs.sum(dim=1)
    n_structures, n_atoms, _ = neighbors.index.shape
    first = torch.arange(n_structures)[:, None, None] * n_atoms
    target = (neighbors.index + first).reshape(-1)
    flat = pulled.reshape(n_structures * n_atoms, -1)
    return flat.index_add(0, target, pairs.reshape(len(target), -1), alpha=-1.0).reshape(pulled.shape)


def _pieces(labels: Sequence[Label]) -> Iterator[list[Label]]:
    piece: list[Label] = []
    size = 0
    for label in labels:
        cost = _slots(label.structure)
        if piece and size + cost > _PAIRS_PER_CHUNK:
            yield piece
            piece, size = [], 0
        piece.append(label)
        size += cost
    if piece:
        yield piece


def _slots(structure: Structure) -> int:
    return len(structure) * (60 if structure.is_periodic else len(structure))


def _chunk(
    labels: Sequence[Label],
    functions: SymmetryFunctions,
    elements: tuple[int, ...],
    atomic_energies: np.ndarray[tuple[int], np.dtype[np.float64]],
    model: ModelConfig,
) -> Chunk:
    batch = to_batch([label.structure for label in labels], torch.float64)
    seen = Surroundings.of(batch, functions, elements)
    counts = torch.as_tensor(composition_counts(batch.numbers.numpy(), elements))
    energies = torch.tensor([label.evaluation.energy for label in labels], dtype=torch.float64)
    energies = energies - counts @ torch.as_tensor(atomic_energies)
    forces = torch.zeros_like(batch.positions)
    virials = torch.full_like(batch.cells, torch.nan)
    for row, label in enumerate(labels):
        forces[row, : len(label.structure)] = torch.tensor(label.evaluation.forces)
        if label.evaluation.stress is not None and label.structure.is_periodic:
            virials[row] = torch.tensor(label.evaluation.stress) * torch.linalg.det(batch.cells[row]).abs()
    if model.repulsion:
        energy, push = repulsion_of(batch, seen)
        energies = energies - energy
        forces = forces - forces_from_pairs(push[None], seen.neighbors)[0]
        volume = torch.linalg.det(batch.cells).abs()
        virials = virials - stress_from_pairs(push[None], seen.vectors, batch)[0] * volume[:, None, None]
    empty = torch.empty(0, dtype=torch.float64)
    return Chunk(batch, seen, counts, energies, forces, virials, empty, empty)
