"""A committee: several potentials that share descriptors, evaluated in one pass for many structures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from alflow.domain import Evaluation, Structure
from alflow.domain.elements import SYMBOLS
from alflow.domain.learning_config import ModelConfig
from alflow.domain.structure import FloatArray
from alflow.errors import InputError
from alflow.potentials.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from alflow.potentials.descriptors import Environment, RadialBasis, SymmetryFunctions
from alflow.potentials.hdnnp import NetworkWeights, network_energies
from alflow.potentials.repulsion import repulsion
from alflow.tensors import Batch, Prediction, as_surface, to_batch
from alflow.tensors.derivatives import forces_from_pairs, stress_from_pairs
from alflow.tensors.neighbors import Neighbors, find_neighbors, neighbor_vectors

__all__ = ["Committee", "Surroundings", "load_committee", "symmetry_functions"]

_ANGULAR_DAMPING = 0.5
_RADIAL_DAMPING = 1.0


def symmetry_functions(model: ModelConfig, n_elements: int) -> SymmetryFunctions:
    """The symmetry functions a configuration describes, for a number of elements."""
    return SymmetryFunctions(
        n_elements,
        RadialBasis(model.radial_functions, model.cutoff_ang, _RADIAL_DAMPING),
        RadialBasis(model.angular_functions, model.angular_cutoff_ang, _ANGULAR_DAMPING),
        model.angular_degree,
    )


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What all members see of a batch: computed once.

    Attributes:
        neighbors: The neighbor table.
        vectors: Vector to each neighbor, Å, shape (structure, atom, neighbor, 3).
        species: Index of each atom's element among the committee's, −1 where there is no atom, shape (structure, atom).
        features: Symmetry functions, shape (structure · atom, feature).
        environment: What the backward pass needs.
    """

    neighbors: Neighbors
    vectors: torch.Tensor
    species: torch.Tensor
    features: torch.Tensor
    environment: Environment

    @classmethod
    def of(cls, batch: Batch, functions: SymmetryFunctions, elements: tuple[int, ...]) -> Surroundings:
        """Find the neighbors in a batch and evaluate the symmetry functions.

        Raises:
            InputError: The batch holds an element that is not among ``elements``.
        """
        species = _species(batch.numbers, elements)
        neighbors = find_neighbors(batch, functions.radial.cutoff)
        vectors = neighbor_vectors(batch, neighbors)
        near = torch.where(neighbors.mask, _of_neighbors(species, neighbors), -1)
        one_hot = (near[..., None] == torch.arange(len(elements), device=near.device)).to(vectors.dtype)
        n_slots = vectors.shape[2]
        features, environment = functions.forward(
            vectors.reshape(-1, n_slots, 3), neighbors.mask.reshape(-1, n_slots), one_hot.flatten(0, 1)
        )
        return cls(neighbors, vectors, species, features, environment)


@dataclass(frozen=True, eq=False)
class Committee:
    """Several neural-network potentials that answer together.

    Satisfies :class:`alflow.tensors.Potential` and :class:`alflow.domain.Surface`.

    Attributes:
        model: The form of the networks.
        elements: Atomic numbers it was trained on, ascending.
        weights: All weights, in the floating-point type the committee computes in.
        atomic_energies: Energy of each element's atoms, eV, float64, shape (member, element).
        view_labels: Number of labels that fixed the projection of the symmetry functions.
    """

    model: ModelConfig
    elements: tuple[int, ...]
    weights: NetworkWeights
    atomic_energies: torch.Tensor
    view_labels: int

    @property
    def n_members(self) -> int:
        """Number of members."""
        return self.weights.n_members

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return self.weights.center.dtype

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols of the elements it was trained on."""
        return tuple(SYMBOLS[number] for number in self.elements)

    @cached_property
    def functions(self) -> SymmetryFunctions:
        """Its symmetry functions."""
        return symmetry_functions(self.model, len(self.elements))

    def to(self, dtype: torch.dtype) -> Committee:
        """The same committee computing in another floating-point type; atomic energies stay float64."""
        return replace(self, weights=self.weights.to(dtype))

    @torch.no_grad()
    def predict(self, batch: Batch, stress: bool = False) -> Prediction:
        """Evaluate every member on every structure in one pass.

        Symmetry functions are computed once, the networks of all members run as one batched product, and one backward
        pass through the geometry carries all members' gradients to exact forces.

        Args:
            batch: The structures, in any floating-point type.
            stress: Whether to evaluate the stress too.

        Returns:
            Energies (float64: total energies have more digits than float32 holds), forces and stress.

        Raises:
            InputError: An element the committee was not trained on.
        """
        batch = near_origin(batch).to(dtype=self.dtype)
        seen = Surroundings.of(batch, self.functions, self.elements)
        n_structures, n_atoms = batch.numbers.shape
        energies, slopes = network_energies(self.weights, seen.features, seen.species.reshape(-1))
        gradient = self.functions.backward(slopes, seen.environment)
        gradient = gradient.reshape(self.n_members, *seen.vectors.shape)
        total = energies.reshape(self.n_members, n_structures, n_atoms).sum(dim=-1, dtype=torch.float64)
        total = total + torch.einsum("sae,me->ms", self._counts(seen.species), self.atomic_energies)
        if self.model.repulsion:
            energy, push = repulsion_of(batch, seen)
            total = total + energy.to(torch.float64)
            gradient = gradient + push
        return Prediction(
            total,
            forces_from_pairs(gradient, seen.neighbors),
            stress_from_pairs(gradient, seen.vectors, batch) if stress else None,
        )

    def evaluate(self, structure: Structure) -> Evaluation:
        """Evaluate one structure: mean energy, forces and stress, with the spread of the members as diagnostics."""
        return as_surface(self).evaluate(structure)

    def descriptors(self, structure: Structure) -> FloatArray:
        """What the networks see of each atom: scaled principal components, shape (atom, component)."""
        batch = to_batch([structure], self.dtype)
        seen = Surroundings.of(batch, self.functions, self.elements)
        species = seen.species.reshape(-1)
        centered = seen.features - self.weights.center[species]
        components = torch.einsum("af,afk->ak", centered, self.weights.projection[species])
        return np.asarray(components.to(torch.float64).numpy())

    def save(self, path: str | Path) -> str:
        """Write the committee to a file, whole or not at all.

        Returns:
            SHA-256 of the file, 64 hexadecimal characters.
        """
        tensors = {**self.weights.to(torch.float64).tensors(), "atomic_energies": self.atomic_energies}
        return write_checkpoint(Path(path), Checkpoint(self.model, self.elements, self.view_labels, tensors))

    def _counts(self, species: torch.Tensor) -> torch.Tensor:
        return (species[..., None] == torch.arange(len(self.elements), device=species.device)).to(torch.float64)


def near_origin(batch: Batch) -> Batch:
    """The same molecules about the origin, where single precision resolves them; crystals stay where they are."""
    if batch.is_periodic:
        return batch
    mask = batch.mask[..., None].to(batch.positions.dtype)
    center = (batch.positions * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True)
    return batch.with_positions((batch.positions - center) * mask)


def load_committee(path: str | Path, sha256: str | None = None, dtype: torch.dtype = torch.float64) -> Committee:
    """Read a committee from a file, without pickle.

    Args:
        path: File written by :meth:`Committee.save`.
        sha256: The hash the file must have; None takes it from the file's name, if that is a hash.
        dtype: Floating-point type to compute in.

    Raises:
        CheckpointError: The file is missing, damaged, altered, or of a version this alflow does not read.
    """
    stored = read_checkpoint(Path(path), sha256)
    tensors = dict(stored.tensors)
    atomic_energies = tensors.pop("atomic_energies")
    weights = NetworkWeights(**tensors).to(dtype)
    return Committee(stored.model, stored.elements, weights, atomic_energies, stored.view_labels)


def repulsion_of(batch: Batch, seen: Surroundings) -> tuple[torch.Tensor, torch.Tensor]:
    """Repulsion energy of each structure, eV, shape (structure,), and its gradient on every pair, eV/Å."""
    n_slots = seen.vectors.shape[2]
    others = _of_neighbors(batch.numbers, seen.neighbors)
    energy, gradient = repulsion(
        seen.vectors.reshape(-1, n_slots, 3),
        seen.neighbors.mask.reshape(-1, n_slots),
        batch.numbers.reshape(-1),
        others.reshape(-1, n_slots),
    )
    return energy.reshape(batch.numbers.shape).sum(dim=-1), gradient.reshape(seen.vectors.shape)


def _species(numbers: torch.Tensor, elements: tuple[int, ...]) -> torch.Tensor:
    table = torch.full((len(SYMBOLS),), -2, dtype=torch.int64, device=numbers.device)
    table[0] = -1
    table[list(elements)] = torch.arange(len(elements), device=numbers.device)
    species = table[numbers]
    if bool((species == -2).any()):
        unknown = sorted(set(numbers[species == -2].tolist()))
        names = ", ".join(SYMBOLS[number] for number in unknown)
        known = ", ".join(SYMBOLS[number] for number in elements)
        raise InputError(
            f"This committee was trained on {known}; found {names}. Add labels that contain {names} and train again."
        )
    return species


def _of_neighbors(per_atom: torch.Tensor, neighbors: Neighbors) -> torch.Tensor:
    n_structures, n_atoms, n_slots = neighbors.index.shape
    return per_atom.gather(1, neighbors.index.reshape(n_structures, -1)).reshape(n_structures, n_atoms, n_slots)
