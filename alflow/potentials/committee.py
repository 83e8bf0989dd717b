"""A committee: several potentials that share descriptors, evaluated in one pass for many structures."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alflow.domain import Evaluation, Structure
from alflow.domain.elements import SYMBOLS
from alflow.domain.learning_config import ModelConfig
from alflow.domain.structure import FloatArray
from alflow.errors import InputError
from alflow.potentials.acsf import classical_functions
from alflow.potentials.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from alflow.potentials.compiled import CompiledCommittee
from alflow.potentials.descriptors import Descriptors, RadialBasis, SymmetryFunctions
from alflow.potentials.extrapolation import DescriptorRange, Extrapolation, extrapolation
from alflow.potentials.hdnnp import NetworkWeights, fold, network_energies
from alflow.potentials.repulsion import longest_reach, repulsion
from alflow.potentials.species import species_of
from alflow.tensors import Batch, Prediction, as_surface, to_batch
from alflow.tensors.derivatives import atomic_virials, forces_from_pairs, stress_from_pairs
from alflow.tensors.neighbors import Neighbors, find_neighbors, lost_structures, neighbor_vectors

__all__ = ["Committee", "Surroundings", "load_committee", "symmetry_functions"]

_ANGULAR_DAMPING = 0.5
_RADIAL_DAMPING = 1.0


def symmetry_functions(model: ModelConfig, n_elements: int) -> Descriptors:
    """The symmetry functions a configuration describes, for a number of elements."""
    if model.symmetry_functions == "classical":
        return classical_functions(n_elements, model.cutoff_ang, model.angular_radius)
    return SymmetryFunctions(
        n_elements,
        RadialBasis(model.radial_functions, model.cutoff_ang, _RADIAL_DAMPING),
        RadialBasis(model.angular_functions, model.angular_radius, _ANGULAR_DAMPING),
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
    environment: Any

    @classmethod
    def of(cls, batch: Batch, functions: Descriptors, elements: tuple[int, ...]) -> Surroundings:
        """Find the neighbors in a batch and evaluate the symmetry functions.

        Raises:
            InputError: The batch holds an element that is not among ``elements``.
        """
        species = species_of(batch.numbers, elements)
        neighbors = find_neighbors(batch, max(functions.cutoff, longest_reach(elements)))
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
        trained_range: Range of the components over the training set; None in a file of version 1.
    """

    model: ModelConfig
    elements: tuple[int, ...]
    weights: NetworkWeights
    atomic_energies: torch.Tensor
    view_labels: int
    trained_range: DescriptorRange | None = None

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
    def functions(self) -> Descriptors:
        """Its symmetry functions."""
        return symmetry_functions(self.model, len(self.elements))

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Committee:
        """The same committee computing in another floating-point type or on another device.

        Atomic energies stay float64. Away from the CPU everything is computed by :meth:`predict_pure`.
        """
        known = self.trained_range
        return replace(
            self,
            weights=self.weights.to(dtype, device),
            atomic_energies=self.atomic_energies.to(device),
            trained_range=known and DescriptorRange(known.low.to(device), known.high.to(device)),
        )

    @cached_property
    def compiled(self) -> CompiledCommittee | None:
        """Its weights laid out for the compiled kernels; None where there is no kernel for its descriptors."""
        if not isinstance(self.functions, SymmetryFunctions) or self.weights.center.device.type != "cpu":
            return None
        return CompiledCommittee(
            self.functions, self.elements, fold(self.weights), self.atomic_energies, self.model.repulsion
        )

    def __getstate__(self) -> dict[str, Any]:
        """Only what was given: everything else is made again where it is needed."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def predict(self, batch: Batch, stress: bool = False) -> Prediction:
        """Evaluate every member on every structure in one pass.

        Symmetry functions are computed once, the networks of all members run as one batched product, and one backward
        pass through the geometry carries all members' gradients to exact forces. On the CPU this is done by compiled
        kernels, which keep the pair list of the last batch of each thread; elsewhere, and where torch is to
        differentiate further, by :meth:`predict_pure`. The numbers are the same to rounding.

        A structure with a position that is not a finite number gets NaN throughout.

        Args:
            batch: The structures, in any floating-point type.
            stress: Whether to evaluate the stress too.

        Returns:
            Energies (float64: total energies have more digits than float32 holds), forces and stress.

        Raises:
            InputError: An element the committee was not trained on.
        """
        differentiated = torch.is_grad_enabled() and (batch.positions.requires_grad or batch.cells.requires_grad)
        if self.compiled is None or batch.numbers.device.type != "cpu" or differentiated:
            return self.predict_pure(batch, stress)
        with torch.no_grad():
            return self.compiled.predict(batch, stress)

    def predict_pure(self, batch: Batch, stress: bool = False) -> Prediction:
        """Evaluate like :meth:`predict`, with nothing but torch: on any device, and differentiable.

        Args:
            batch: The structures, in any floating-point type.
            stress: Whether to evaluate the stress too.

        Raises:
            InputError: An element the committee was not trained on.
        """
        total, gradient, seen, batch = self._pair_gradients(batch)
        forces = forces_from_pairs(gradient, seen.neighbors)
        tensor = stress_from_pairs(gradient, seen.vectors, batch) if stress else None
        lost = lost_structures(batch)
        if bool(lost.any()):
            total = total.masked_fill(lost, torch.nan)
            forces = forces.masked_fill((lost[:, None] & batch.mask)[..., None], torch.nan)
            tensor = None if tensor is None else tensor.masked_fill(lost[:, None, None], torch.nan)
        return Prediction(total, forces, tensor)

    def atomic_virials(self, batch: Batch) -> torch.Tensor:
        """Share of each atom in the virial of its structure, for heat currents and local stress.

        Args:
            batch: The structures.

        Returns:
            Virials, eV, shape (member, structure, atom, 3, 3); their sum over atoms is the volume times the stress. See
            ``alflow.tensors.derivatives.atomic_virials`` for the partition.

        Raises:
            InputError: An element the committee was not trained on.
        """
        _, gradient, seen, _ = self._pair_gradients(batch)
        return atomic_virials(gradient, seen.vectors)

    def _pair_gradients(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, Surroundings, Batch]:
        """Energies, ∂E/∂r_ij of shape (member, structure, atom, neighbor, 3), what the members see, and of what."""
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
        return total, gradient, seen, batch

    def evaluate(self, structure: Structure) -> Evaluation:
        """Evaluate one structure.

        Returns:
            Mean energy, forces and stress; as diagnostics the spread of the members and, as ``extrapolation``, how far
            the structure lies outside of the training data, see :meth:`extrapolation`.
        """
        found = as_surface(self).evaluate(structure)
        if self.trained_range is None:
            return found
        excursion = float(self.extrapolation(to_batch([structure], self.dtype)).frames[0])
        return replace(found, diagnostics={**found.diagnostics, "extrapolation": excursion})

    def extrapolation(self, batch: Batch) -> Extrapolation:
        """Measure how far the components of every atom lie outside of their range over the training set.

        Args:
            batch: The structures.

        Raises:
            InputError: An element the committee was not trained on, or a committee that does not know its range.
        """
        if self.trained_range is None:
            raise InputError("This committee's file is older than the range of its training data; train it again.")
        components, species = self._components(batch)
        return extrapolation(self.trained_range, components, species)

    def descriptors(self, structure: Structure) -> FloatArray:
        """What the networks see of each atom: scaled principal components, shape (atom, component)."""
        components, _ = self._components(to_batch([structure], self.dtype))
        return np.asarray(components[0].to(torch.float64).numpy())

    def batch_descriptors(self, batch: Batch) -> torch.Tensor:
        """What the networks see of each atom of many structures, zero where there is no atom.

        Args:
            batch: The structures.

        Returns:
            Scaled principal components, shape (structure, atom, component).

        Raises:
            InputError: An element the committee was not trained on.
        """
        return self._components(batch)[0]

    def _components(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Components, shape (structure, atom, component), and species of all atoms."""
        if self.compiled is not None and batch.numbers.device.type == "cpu":
            species, features = species_of(batch.numbers, self.elements), self.compiled.features(batch)
        else:
            seen = Surroundings.of(near_origin(batch).to(dtype=self.dtype), self.functions, self.elements)
            species = seen.species
            features = seen.features - self.weights.center[species.reshape(-1)]
        components = features.new_zeros((species.numel(), self.weights.projection.shape[2]))
        for e, projection in enumerate(self.weights.projection):
            atoms = (species.reshape(-1) == e).nonzero()[:, 0]
            components[atoms] = features[atoms] @ projection
        return components.reshape(*species.shape, -1), species

    def save(self, path: str | Path) -> str:
        """Write the committee to a file, whole or not at all.

        Returns:
            SHA-256 of the file, 64 hexadecimal characters.
        """
        tensors = {**self.weights.to(torch.float64).tensors(), "atomic_energies": self.atomic_energies}
        if self.trained_range is not None:
            tensors |= {"low": self.trained_range.low, "high": self.trained_range.high}
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
    known = DescriptorRange(tensors.pop("low"), tensors.pop("high")) if "low" in tensors else None
    weights = NetworkWeights.of(tensors).to(dtype)
    return Committee(stored.model, stored.elements, weights, atomic_energies, stored.view_labels, known)


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


def _of_neighbors(per_atom: torch.Tensor, neighbors: Neighbors) -> torch.Tensor:
    n_structures, n_atoms, n_slots = neighbors.index.shape
    return per_atom.gather(1, neighbors.index.reshape(n_structures, -1)).reshape(n_structures, n_atoms, n_slots)
