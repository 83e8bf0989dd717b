"""Labels as the trainer sees them: what the networks see of every atom, and how that changes with the positions.

For a fixed projection of the symmetry functions, the components x of an atom and their derivatives ∂x/∂r_ij depend on
the geometry only. They are computed once for all members and all epochs; after that a training step is nothing but
small dense matrix products,

    E_m = Σ_i E_m(x_i),        ∂E_m/∂r_ij = ∂E_m/∂x_i · ∂x_i/∂r_ij.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from alflow.domain import Label, Structure
from alflow.domain.learning_config import ModelConfig
from alflow.potentials.baseline import composition_counts
from alflow.potentials.committee import Surroundings, repulsion_of
from alflow.potentials.descriptors import Descriptors
from alflow.tensors import Batch, to_batch
from alflow.tensors.derivatives import forces_from_pairs, stress_from_pairs
from alflow.training.contraction import contract, padded

__all__ = ["Examples", "View", "prepared", "surroundings_of"]

_PAIRS_AT_ONCE = 6000
"""Neighbor slots whose symmetry functions are evaluated together; bounds the memory."""

_ATOMS_AT_ONCE = 16
"""Atoms whose derivatives are pulled back together: few enough to stay in the cache."""


@dataclass(frozen=True, eq=False)
class View:
    """What the networks see of the structures: everything that is fixed before training.

    Attributes:
        model: The form of the networks.
        functions: The symmetry functions.
        elements: Atomic numbers, ascending.
        atomic_energies: Energy of each element's atoms, eV, shape (element,).
        center: Mean symmetry functions of each element, shape (element, feature).
        projection: Their scaled principal components, shape (element, feature, component).
    """

    model: ModelConfig
    functions: Descriptors
    elements: tuple[int, ...]
    atomic_energies: torch.Tensor
    center: torch.Tensor
    projection: torch.Tensor


@dataclass(frozen=True, eq=False)
class Examples:
    """A few labels, learnt from in one step. Atoms of all structures are sorted by element.

    Attributes:
        structures: Number of structures.
        counts: Atoms of each element.
        place: Row of each atom in the table of all (structure, atom) places, shape (atom,).
        owner: Structure of each atom, shape (atom,).
        components: x, shape (atom, component).
        slopes: ∂x/∂r_ij, 1/Å, shape (atom, component, neighbor · 3), padded to whole lanes.
        extents: Number of coordinates in each atom's slopes that can differ from zero, shape (atom,).
        neighbors: Row of each neighbor in the table of places, shape (atom, neighbor).
        vectors: r_ij, Å, shape (atom, neighbor, 3).
        energies: Energy without atomic energies and repulsion, eV, shape (structure,).
        forces: Forces without repulsion, eV/Å, shape (place, 3); zero where there is no atom.
        virials: Stress times volume without repulsion, eV, shape (structure, 3, 3); NaN where it is not labelled.
        sizes: Atoms of each structure, shape (structure,).
    """

    structures: int
    counts: tuple[int, ...]
    place: torch.Tensor
    owner: torch.Tensor
    components: torch.Tensor
    slopes: torch.Tensor
    extents: torch.Tensor
    neighbors: torch.Tensor
    vectors: torch.Tensor
    energies: torch.Tensor
    forces: torch.Tensor
    virials: torch.Tensor
    sizes: torch.Tensor

    @cached_property
    def kinds(self) -> torch.Tensor:
        """Index of each atom's element, shape (atom,)."""
        return torch.repeat_interleave(torch.arange(len(self.counts)), torch.tensor(self.counts))

    @cached_property
    def with_virials(self) -> torch.Tensor:
        """Which structures have a labelled virial, bool, shape (structure,)."""
        return self.virials.isfinite().all(dim=2).all(dim=1)

    def forces_of(self, gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Turn every member's ∂E/∂x into forces and pair gradients.

        Args:
            gradients: ∂E_m/∂x, eV, shape (member, atom, component).

        Returns:
            Forces, eV/Å, shape (place, member, 3), and ∂E_m/∂r_ij, eV/Å, shape (atom, member, neighbor, 3).
        """
        n_members, n_atoms, _ = gradients.shape
        pairs = contract(gradients.transpose(0, 1), self.slopes, self.extents)
        n_coordinates = 3 * self.neighbors.shape[1]
        pairs = pairs[..., :n_coordinates].reshape(n_atoms, n_members, -1, 3)
        forces = gradients.new_zeros((len(self.forces), n_members, 3)).index_add(0, self.place, pairs.sum(dim=2))
        pushed = pairs.transpose(1, 2).reshape(-1, n_members, 3)
        return forces.index_add(0, self.neighbors.reshape(-1), pushed, alpha=-1.0), pairs

    def virials_of(self, pairs: torch.Tensor) -> torch.Tensor:
        """Virial Σ r_ij ⊗ ∂E_m/∂r_ij of each structure, eV, shape (structure, member, 3, 3), symmetric."""
        of_atoms = torch.einsum("ajx,amjy->amxy", self.vectors, pairs)
        virials = pairs.new_zeros((self.structures, *of_atoms.shape[1:])).index_add(0, self.owner, of_atoms)
        return 0.5 * (virials + virials.transpose(-1, -2))


def surroundings_of(labels: Sequence[Label], view_of: tuple[Descriptors, tuple[int, ...]]) -> list[Surroundings]:
    """Evaluate the symmetry functions of labels in float64, piece by piece; all pieces are kept.

    Args:
        labels: The labels.
        view_of: Symmetry functions and atomic numbers.
    """
    functions, elements = view_of
    return [
        Surroundings.of(to_batch([label.structure for label in piece]), functions, elements)
        for piece in _pieces(labels)
    ]


def prepared(labels: Sequence[Label], view: View, dtype: torch.dtype = torch.float32) -> Examples:
    """Evaluate what the networks see of labels and how it changes with the positions.

    Args:
        labels: Labels of one step; at least one.
        view: What the networks see.
        dtype: Floating-point type of the result. Everything is computed in float64 first.
    """
    batch = to_batch([label.structure for label in labels])
    seen = Surroundings.of(batch, view.functions, view.elements)
    n_structures, n_atoms = batch.numbers.shape
    species = seen.species.reshape(-1)
    real = (species >= 0).nonzero()[:, 0]
    place = real[torch.argsort(species[real], stable=True)]
    counts = tuple(int((species == e).sum()) for e in range(len(view.elements)))
    owner = place // n_atoms
    slots, mask = _near_slots(seen, place, view.functions.cutoff)
    components, slopes = _project(seen, view, place, species, slots)
    neighbors = seen.neighbors.index.flatten(0, 1)[place].gather(1, slots) + (owner * n_atoms)[:, None]
    vectors = seen.vectors.flatten(0, 1)[place].gather(1, slots[..., None].expand(-1, -1, 3))
    energies, forces, virials = _targets(labels, batch, seen, view)
    return Examples(
        structures=n_structures,
        counts=counts,
        place=place,
        owner=owner,
        components=components.to(dtype),
        slopes=padded(slopes.to(dtype)),
        extents=3 * mask.sum(dim=1),
        neighbors=torch.where(mask, neighbors, place[:, None]),
        vectors=torch.where(mask[..., None], vectors, 0.0).to(dtype),
        energies=energies.to(dtype),
        forces=forces.reshape(-1, 3).to(dtype),
        virials=virials.to(dtype),
        sizes=batch.mask.sum(dim=1).to(dtype),
    )


def _near_slots(seen: Surroundings, place: torch.Tensor, cutoff: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Slots that hold a neighbor inside the cutoff, moved to the front; and which of them are real."""
    vectors = seen.vectors.flatten(0, 1)[place]
    near = seen.neighbors.mask.flatten(0, 1)[place] & (vectors.square().sum(dim=-1) < cutoff**2)
    n_slots = max(1, int(near.sum(dim=1).max()))
    slots = (~near).to(torch.int8).argsort(dim=1, stable=True)[:, :n_slots]
    return slots, near.gather(1, slots)


def _project(
    seen: Surroundings, view: View, place: torch.Tensor, species: torch.Tensor, slots: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Components of the atoms at some places, and their slopes, shape (atom, component, neighbor · 3)."""
    components, slopes = [], []
    for e, (center, projection) in enumerate(zip(view.center, view.projection, strict=True)):
        atoms = species[place] == e
        if not bool(atoms.any()):
            continue
        for few, near in zip(
            torch.split(place[atoms], _ATOMS_AT_ONCE), torch.split(slots[atoms], _ATOMS_AT_ONCE), strict=True
        ):
            components.append((seen.features[few] - center) @ projection)
            found = view.functions.slopes(projection, seen.environment.select(few))
            found = found.reshape(*found.shape[:2], -1, 3)
            index = near[:, None, :, None].expand(-1, found.shape[1], -1, 3)
            slopes.append(found.gather(2, index).flatten(2))
    return torch.cat(components), torch.cat(slopes)


def _targets(
    labels: Sequence[Label], batch: Batch, seen: Surroundings, view: View
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Energies, forces and virials that are left for the networks to explain."""
    counts = torch.as_tensor(composition_counts(batch.numbers.numpy(), view.elements))
    energies = torch.tensor([label.evaluation.energy for label in labels], dtype=torch.float64)
    energies = energies - counts @ view.atomic_energies
    forces = torch.zeros_like(batch.positions)
    virials = torch.full_like(batch.cells, torch.nan)
    volumes = torch.linalg.det(batch.cells).abs()
    for row, label in enumerate(labels):
        forces[row, : len(label.structure)] = torch.tensor(np.asarray(label.evaluation.forces))
        if label.evaluation.stress is not None and label.structure.is_periodic:
            virials[row] = torch.tensor(np.asarray(label.evaluation.stress)) * volumes[row]
    if view.model.repulsion:
        energy, push = repulsion_of(batch, seen)
        energies = energies - energy
        forces = forces - forces_from_pairs(push[None], seen.neighbors)[0]
        virials = virials - stress_from_pairs(push[None], seen.vectors, batch)[0] * volumes[:, None, None]
    return energies, forces, virials


def _pieces(labels: Sequence[Label]) -> Iterator[list[Label]]:
    piece: list[Label] = []
    size = 0
    for label in labels:
        cost = _slots(label.structure)
        if piece and size + cost > _PAIRS_AT_ONCE:
            yield piece
            piece, size = [], 0
        piece.append(label)
        size += cost
    if piece:
        yield piece


def _slots(structure: Structure) -> int:
    return len(structure) * (60 if structure.is_periodic else len(structure))
