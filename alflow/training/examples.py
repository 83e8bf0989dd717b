"""Labels as the trainer sees them: what the networks see of every atom, and how that changes with the positions.

For a fixed projection of the symmetry functions, the components x of an atom and their derivatives ∂x/∂r_ij depend on
the geometry only. They are computed once for all members and all epochs; after that a training step is nothing but
small dense matrix products,

    E_m = Σ_i E_m(x_i),        ∂E_m/∂r_ij = ∂E_m/∂x_i · ∂x_i/∂r_ij.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from alflow.domain import Label
from alflow.domain.learning_config import ModelConfig
from alflow.potentials.baseline import composition_counts
from alflow.potentials.descriptors import Descriptors, SymmetryFunctions
from alflow.potentials.slopes import CompiledComponents, Components, pure_components
from alflow.tensors import Batch, to_batch
from alflow.training.contraction import contract

__all__ = ["Examples", "View", "prepared"]


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
        dtype: Floating-point type of what is made of labels.
    """

    model: ModelConfig
    functions: Descriptors
    elements: tuple[int, ...]
    atomic_energies: torch.Tensor
    center: torch.Tensor
    projection: torch.Tensor
    dtype: torch.dtype = torch.float32

    def components(self, batch: Batch) -> Components:
        """What the networks see of a batch in float64 on the CPU, and how it changes; and the repulsion."""
        if self._compiled is not None:
            return self._compiled.of(batch)
        seen = (self.functions, self.elements)
        return pure_components(batch, seen, self.center, self.projection, self.model.repulsion, self.dtype)

    @cached_property
    def _compiled(self) -> CompiledComponents | None:
        if not isinstance(self.functions, SymmetryFunctions):
            return None
        return CompiledComponents(
            self.functions, self.elements, self.center, self.projection, self.model.repulsion, self.dtype
        )


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


def prepared(labels: Sequence[Label], view: View) -> Examples:
    """Evaluate what the networks see of labels and how it changes with the positions.

    Args:
        labels: Labels of one step; at least one.
        view: What the networks see.
    """
    batch = to_batch([label.structure for label in labels])
    seen = view.components(batch)
    energies, forces, virials = _targets(labels, batch, seen, view)
    return Examples(
        structures=len(labels),
        counts=seen.counts,
        place=seen.place,
        owner=seen.place // batch.numbers.shape[1],
        components=seen.values.to(view.dtype),
        slopes=seen.slopes,
        extents=seen.extents,
        neighbors=seen.neighbors,
        vectors=seen.vectors,
        energies=energies.to(view.dtype),
        forces=forces.reshape(-1, 3).to(view.dtype),
        virials=virials.to(view.dtype),
        sizes=batch.mask.sum(dim=1).to(view.dtype),
    )


def _targets(
    labels: Sequence[Label], batch: Batch, seen: Components, view: View
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Energies, forces and virials that are left for the networks to explain."""
    counts = torch.as_tensor(composition_counts(batch.numbers.numpy(), view.elements))
    energies = torch.tensor([label.evaluation.energy for label in labels], dtype=torch.float64)
    energies = energies - counts @ view.atomic_energies - seen.repulsion
    forces = torch.zeros_like(batch.positions)
    virials = torch.full_like(batch.cells, torch.nan)
    volumes = torch.linalg.det(batch.cells).abs()
    for row, label in enumerate(labels):
        forces[row, : len(label.structure)] = torch.tensor(np.asarray(label.evaluation.forces))
        if label.evaluation.stress is not None and label.structure.is_periodic:
            virials[row] = torch.tensor(np.asarray(label.evaluation.stress)) * volumes[row]
    return energies, forces - seen.push.reshape(forces.shape), virials - seen.push_virials
