"""Symmetry functions of whole batches by compiled kernels on one CPU core: pairs, order of work, workspace.

What :mod:`alflow.potentials.compiled` makes energies and forces of, and :mod:`alflow.potentials.slopes` derivatives
for training.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from alflow.potentials.blocks import describe_block
from alflow.potentials.descriptors import NEAREST_ANG, RadialBasis, SymmetryFunctions
from alflow.potentials.kernels import n_sums
from alflow.potentials.products import PANEL
from alflow.potentials.repulsion import longest_reach
from alflow.potentials.species import species_of
from alflow.tensors import Batch
from alflow.tensors.lanes import WIDTH, rounded
from alflow.tensors.pairs import PairList
from alflow.tensors.verlet import VerletList

__all__ = ["Block", "CompiledDescriptors", "Plan", "Room", "Scene"]

_BLOCK_ATOMS: Final = 192
"""Atoms handled together: enough for full speed of the matrix products, few enough for the second-level cache."""

Reals = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]
ShortArray = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Block:
    """Some atoms next to each other in the batch, sorted by element.

    Attributes:
        atoms: Which, shape (atom,).
        runs: Where each element begins among them, shape (element + 1,).
    """

    atoms: ShortArray
    runs: ShortArray


@dataclass(frozen=True, eq=False)
class Plan:
    """What depends only on which atoms there are.

    Attributes:
        numbers: Atomic numbers, shape (structure, atom).
        species: Element index of all atoms, −1 where there is none, shape (structure · atom,).
        structure_of: Structure of all atoms, shape (structure · atom,).
        counts: Atoms of each element in each structure, shape (structure, element).
        blocks: The order of work.
    """

    numbers: IntArray
    species: ShortArray
    structure_of: ShortArray
    counts: IntArray
    blocks: list[Block]


@dataclass(frozen=True, eq=False)
class Room:
    """Arrays that every block writes anew, as large as the largest one needs them."""

    bounds: ShortArray
    geometry: Reals
    ids: ShortArray
    contacts: npt.NDArray[np.float64]
    sums: Reals
    features: Reals
    gradients: Reals


@dataclass(frozen=True, eq=False)
class Scene:
    """A batch laid out for the kernels.

    Attributes:
        plan: The order of work.
        room: Workspace; the next scene of the same thread writes there too.
        pairs: The pair list.
        positions: All positions, Å, shape (structure · atom, 3).
    """

    plan: Plan
    room: Room
    pairs: PairList
    positions: npt.NDArray[np.float64]

    @property
    def rows(self) -> tuple[IntArray, ShortArray, ShortArray, npt.NDArray[np.float64]]:
        """The pair list as the kernels want it: starts, other atom, index of the shift, shifts in Å."""
        return self.pairs.starts, self.pairs.other, self.pairs.shift, self.pairs.offsets


class _Desk(threading.local):
    """What one thread keeps from call to call: calls from several threads never meet."""

    def __init__(self, radius: float) -> None:
        self.verlet = VerletList(radius)
        self.plan: Plan | None = None
        self.pairs: PairList | None = None
        self.room: Room | None = None


class CompiledDescriptors:
    """The symmetry functions laid out for the kernels, and each thread's pair list."""

    def __init__(
        self, functions: SymmetryFunctions, elements: tuple[int, ...], center: Reals, repulsion: bool, n_gradients: int
    ) -> None:
        """Lay out the symmetry functions.

        Args:
            functions: The symmetry functions.
            elements: Atomic numbers, ascending.
            center: What is subtracted from them, in the floating-point type to compute in, shape (element, feature).
            repulsion: Whether pairs that overlap are wanted, which may be longer than the cutoff.
            n_gradients: How many gradients with respect to the symmetry functions the workspace has room for.
        """
        self.functions, self.elements, self.center, self.n_gradients = functions, elements, center, n_gradients
        self.kind: npt.DTypeLike = center.dtype
        reach = longest_reach(elements) if repulsion else 0.0
        self.limits2 = np.array([functions.angular.cutoff, functions.radial.cutoff, reach]) ** 2
        self.sizes = (functions.n_elements, functions.radial.size, functions.angular.size, functions.max_degree)
        basis = np.array([_basis(functions.radial), _basis(functions.angular)]).astype(self.kind)
        self.form = (basis, _harmonics_table(functions.max_degree).astype(self.kind), self.sizes)
        self.desk = _Desk(max(functions.radial.cutoff, reach))

    def laid_out(self, batch: Batch) -> Scene:
        """Find the pairs of a batch and the order of work.

        Args:
            batch: The structures, on the CPU, in any floating-point type.

        Raises:
            InputError: An element that is not among ``elements``.
        """
        numbers, pbc = batch.numbers.numpy(), batch.pbc.numpy()
        n_structures, n_atoms = numbers.shape
        shapes = {"positions": batch.positions, "cells": batch.cells, "pbc": batch.pbc}
        wanted = {"positions": (n_structures, n_atoms, 3), "cells": (n_structures, 3, 3), "pbc": (n_structures, 3)}
        for name, tensor in shapes.items():
            if tuple(tensor.shape) != wanted[name]:  # the kernels never look where an array ends
                raise ValueError(
                    f"A batch of this size has {name} of shape {wanted[name]}; found {tuple(tensor.shape)}."
                )
        positions = np.ascontiguousarray(batch.positions.detach().to(torch.float64).numpy())
        cells = np.ascontiguousarray(batch.cells.detach().to(torch.float64).numpy())
        desk = self.desk
        if desk.plan is None or not np.array_equal(numbers, desk.plan.numbers):
            desk.plan, desk.pairs = self._plan(batch.numbers), None
        pairs = desk.verlet.pairs(numbers, positions, cells, pbc)
        if desk.pairs is not pairs or desk.room is None:
            desk.pairs, desk.room = pairs, self._room(desk.plan, pairs)
        return Scene(desk.plan, desk.room, pairs, positions.reshape(-1, 3))

    def describe(self, scene: Scene, block: Block) -> tuple[Reals, int]:
        """Symmetry functions of a block, shape (feature, column), and its number of overlapping pairs."""
        room = scene.room
        width = rounded(len(block.atoms)) + WIDTH
        features = room.features[: self.functions.n_features * width].reshape(self.functions.n_features, width)
        n_contacts = describe_block(
            block.atoms, block.runs, scene.positions, scene.rows, scene.plan.species, self.limits2, self.form,
            self.center, room.bounds, room.geometry, room.ids, room.contacts, room.sums, features,
        )  # fmt: skip
        return features, n_contacts

    def features(self, batch: Batch) -> torch.Tensor:
        """Symmetry functions less their mean over the training set.

        Args:
            batch: The structures, on the CPU, in any floating-point type.

        Returns:
            G − c, shape (structure · atom, feature); zero where there is no atom, NaN in a structure with a position
            that is not a finite number.

        Raises:
            InputError: An element that is not among ``elements``.
        """
        scene = self.laid_out(batch)
        found = torch.zeros(
            (batch.numbers.numel(), self.functions.n_features), dtype=torch.from_numpy(self.center).dtype
        )
        for block in scene.plan.blocks:
            columns, _ = self.describe(scene, block)
            found[torch.from_numpy(block.atoms).long()] = torch.from_numpy(columns[:, : len(block.atoms)].T)
        found[torch.from_numpy(self.desk.verlet.lost[scene.plan.structure_of])] = torch.nan
        return found

    def _plan(self, numbers: torch.Tensor) -> Plan:
        n_structures, n_atoms = numbers.shape
        species = species_of(numbers, self.elements).numpy()
        flat = np.ascontiguousarray(species.reshape(-1)).astype(np.int32)
        counts = (species[..., None] == np.arange(len(self.elements))).sum(axis=1)
        real = np.flatnonzero(flat >= 0)
        blocks = [
            _block(atoms, flat, len(self.elements))
            for atoms in np.array_split(real, max(1, -(-len(real) // _BLOCK_ATOMS)))
            if len(atoms)
        ]
        structure_of = np.repeat(np.arange(n_structures, dtype=np.int32), n_atoms)
        return Plan(numbers.numpy().copy(), flat, structure_of, counts, blocks)

    def _room(self, plan: Plan, pairs: PairList) -> Room:
        n_elements = self.sizes[0]
        largest = max((len(block.atoms) for block in plan.blocks), default=0)
        lengths = np.diff(pairs.starts)
        n_pairs = max((int(lengths[block.atoms].sum()) for block in plan.blocks), default=0)
        n_lanes = n_pairs + (largest + 1) * 2 * n_elements * WIDTH
        return Room(
            np.empty((largest, 2 * n_elements + 1), dtype=np.int32),
            np.empty((5, n_lanes), dtype=self.kind),
            np.empty(n_lanes, dtype=np.int32),
            np.empty((n_pairs, 5)),
            np.empty((largest // WIDTH + n_elements + 1, n_sums(self.sizes), WIDTH), dtype=self.kind),
            np.empty(self.functions.n_features * (rounded(largest) + WIDTH), dtype=self.kind),
            np.empty(self.n_gradients * (self.functions.n_features + PANEL) * rounded(largest), dtype=self.kind),
        )


def _block(atoms: IntArray, species: ShortArray, n_elements: int) -> Block:
    atoms = atoms[np.argsort(species[atoms], kind="stable")]
    runs = np.concatenate([[0], np.cumsum(np.bincount(species[atoms], minlength=n_elements))])
    return Block(atoms.astype(np.int32), runs.astype(np.int32))


def _basis(basis: RadialBasis) -> list[float]:
    """Cutoff, power, 1/w, ln(nearest)/w and the factor by which the ratio of two Gaussians shrinks."""
    width = math.log(basis.cutoff / NEAREST_ANG) / basis.size
    return [basis.cutoff, basis.power, 1.0 / width, math.log(NEAREST_ANG) / width, math.exp(-1.0)]


def _harmonics_table(max_degree: int) -> npt.NDArray[np.float64]:
    """Norm of Y_lm, both factors of the recursion in l, and the value Q_mm it starts from, shape (4, l, m)."""
    table = np.zeros((4, max_degree + 1, max_degree + 1))
    for l in range(max_degree + 1):  # noqa: E741 - the degree is called l everywhere
        for m in range(l + 1):
            table[0, l, m] = math.sqrt(math.factorial(l - m) / math.factorial(l + m) * (2 if m else 1))
            if l > m:
                table[1, l, m], table[2, l, m] = (2 * l - 1) / (l - m), (l + m - 1) / (l - m)
        table[3, l, l] = math.prod(range(1, 2 * l, 2))
    return table
