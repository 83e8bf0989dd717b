"""A committee evaluated by compiled kernels on one CPU core: pairs, symmetry functions, networks, forces.

Nothing here is computed by torch, whose calls alone would take longer than one molecule does.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from alflow.potentials.blocks import collect, describe_block, repel, respond_block
from alflow.potentials.descriptors import NEAREST_ANG, RadialBasis, SymmetryFunctions
from alflow.potentials.hdnnp import FoldedWeights
from alflow.potentials.kernels import n_sums
from alflow.potentials.networks import layered
from alflow.potentials.products import PANEL
from alflow.potentials.repulsion import longest_reach, repulsion_terms
from alflow.potentials.species import species_of
from alflow.tensors import Batch, Prediction
from alflow.tensors.lanes import WIDTH, rounded
from alflow.tensors.pairs import PairList
from alflow.tensors.verlet import VerletList

__all__ = ["CompiledCommittee"]

_BLOCK_ATOMS: Final = 192
"""Atoms handled together: enough for full speed of the matrix products, few enough for the second-level cache."""

Reals = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]
ShortArray = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class _Block:
    """Some atoms next to each other in the batch, sorted by element.

    Attributes:
        atoms: Which, shape (atom,).
        runs: Where each element begins among them, shape (element + 1,).
    """

    atoms: ShortArray
    runs: ShortArray


@dataclass(frozen=True, eq=False)
class _Plan:
    """What depends only on which atoms there are.

    Attributes:
        numbers: Atomic numbers, shape (structure, atom).
        species: Element index of all atoms, shape (structure · atom,).
        structure_of: Structure of all atoms, shape (structure · atom,).
        baseline: Atomic energies of each structure, eV, shape (member, structure).
        blocks: The order of work.
    """

    numbers: IntArray
    species: ShortArray
    structure_of: ShortArray
    baseline: npt.NDArray[np.float64]
    blocks: list[_Block]


@dataclass(frozen=True, eq=False)
class _Room:
    """Arrays that every block writes anew, as large as the largest one needs them."""

    bounds: ShortArray
    geometry: Reals
    ids: ShortArray
    contacts: npt.NDArray[np.float64]
    sums: Reals
    features: Reals
    gradients: Reals


class _Desk(threading.local):
    """What one thread keeps from call to call: calls from several threads never meet."""

    def __init__(self, radius: float) -> None:
        self.verlet = VerletList(radius)
        self.plan: _Plan | None = None
        self.pairs: PairList | None = None
        self.room: _Room | None = None


class CompiledCommittee:
    """The weights of a committee laid out for the kernels, and each thread's pair list."""

    def __init__(
        self,
        functions: SymmetryFunctions,
        elements: tuple[int, ...],
        weights: FoldedWeights,
        atomic_energies: torch.Tensor,
        repulsion: bool,
    ) -> None:
        """Lay out the weights.

        Args:
            functions: The symmetry functions.
            elements: Atomic numbers, ascending.
            weights: The networks.
            atomic_energies: Energy of each element's atoms, eV, shape (member, element).
            repulsion: Whether overlapping atoms repel each other.
        """
        self.functions, self.elements, self.networks = functions, elements, layered(weights)
        self.atomic_energies = atomic_energies.numpy()
        self.dtype = weights.center.dtype
        self.kind: npt.DTypeLike = np.float32 if self.dtype == torch.float32 else np.float64
        self.center: Reals = weights.center.contiguous().numpy()
        self.n_members = len(self.atomic_energies)
        reach = longest_reach(elements) if repulsion else 0.0
        self.terms = repulsion_terms(elements)
        self.limits2 = np.array([functions.angular.cutoff, functions.radial.cutoff, reach]) ** 2
        self.sizes = (functions.n_elements, functions.radial.size, functions.angular.size, functions.max_degree)
        basis = np.array([_basis(functions.radial), _basis(functions.angular)]).astype(self.kind)
        self.form = (basis, _harmonics_table(functions.max_degree).astype(self.kind), self.sizes)
        self.desk = _Desk(max(functions.radial.cutoff, reach))

    def predict(self, batch: Batch, stress: bool) -> Prediction:
        """Evaluate every member on every structure.

        Args:
            batch: The structures, on the CPU, in any floating-point type.
            stress: Whether to evaluate the stress too.

        Raises:
            InputError: An element the committee was not trained on.
        """
        plan, room, pairs, positions = self._laid_out(batch)
        sums = self._evaluate(plan, room, pairs, positions, stress)
        forces = torch.empty((self.n_members, *batch.positions.shape), dtype=self.dtype)
        lost, out = self.desk.verlet.lost.copy(), forces.view(self.n_members, -1, 3).numpy()
        collect(positions, plan.numbers, lost, sums.forces, sums.push_forces, sums.repulsion, sums.energies, out)
        cells = batch.cells.detach().to(torch.float64).numpy()
        tensor = sums.stress(cells, batch.pbc.numpy(), lost).to(self.dtype) if stress else None
        return Prediction(torch.from_numpy(sums.energies), forces, tensor)

    def features(self, batch: Batch) -> torch.Tensor:
        """Symmetry functions less their mean over the training set.

        Args:
            batch: The structures, on the CPU, in any floating-point type.

        Returns:
            G − c, shape (structure · atom, feature); zero where there is no atom, NaN in a structure with a position
            that is not a finite number.

        Raises:
            InputError: An element the committee was not trained on.
        """
        plan, room, pairs, positions = self._laid_out(batch)
        found = torch.zeros((batch.numbers.numel(), self.functions.n_features), dtype=self.dtype)
        for block in plan.blocks:
            columns, _ = self._describe(plan, room, pairs, positions, block)
            found[torch.from_numpy(block.atoms).long()] = torch.from_numpy(columns[:, : len(block.atoms)].T)
        found[torch.from_numpy(self.desk.verlet.lost[plan.structure_of])] = torch.nan
        return found

    def _laid_out(self, batch: Batch) -> tuple[_Plan, _Room, PairList, npt.NDArray[np.float64]]:
        """The order of work, workspace, pair list and positions, shape (all atoms, 3), of a batch."""
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
        return desk.plan, desk.room, pairs, positions.reshape(-1, 3)

    def _describe(
        self, plan: _Plan, room: _Room, pairs: PairList, positions: npt.NDArray[np.float64], block: _Block
    ) -> tuple[Reals, int]:
        """Symmetry functions of a block, shape (feature, column), and its number of overlapping pairs."""
        width = rounded(len(block.atoms)) + WIDTH
        features = room.features[: self.functions.n_features * width].reshape(self.functions.n_features, width)
        rows = (pairs.starts, pairs.other, pairs.shift, pairs.offsets)
        n_contacts = describe_block(
            block.atoms, block.runs, positions, rows, plan.species, self.limits2, self.form, self.center,
            room.bounds, room.geometry, room.ids, room.contacts, room.sums, features,
        )  # fmt: skip
        return features, n_contacts

    def _evaluate(
        self, plan: _Plan, room: _Room, pairs: PairList, positions: npt.NDArray[np.float64], stress: bool
    ) -> _Sums:
        sums = _Sums.zero(plan, self.kind, len(plan.numbers) if stress else 0)
        for block in plan.blocks:
            features, n_contacts = self._describe(plan, room, pairs, positions, block)
            if n_contacts:
                repel(
                    room.contacts, n_contacts, plan.species, self.terms, plan.structure_of, sums.repulsion,
                    sums.push(), sums.push_virials,
                )  # fmt: skip
            respond_block(
                block.atoms, block.runs, self.form, self.networks, room.bounds, room.geometry, room.ids, room.sums,
                features, room.gradients, plan.structure_of, sums.energies, sums.forces, sums.virials,
            )  # fmt: skip
        return sums

    def _plan(self, numbers: torch.Tensor) -> _Plan:
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
        return _Plan(numbers.numpy().copy(), flat, structure_of, self.atomic_energies @ counts.T, blocks)

    def _room(self, plan: _Plan, pairs: PairList) -> _Room:
        n_elements = self.sizes[0]
        largest = max((len(block.atoms) for block in plan.blocks), default=0)
        lengths = np.diff(pairs.starts)
        n_pairs = max((int(lengths[block.atoms].sum()) for block in plan.blocks), default=0)
        n_lanes = n_pairs + (largest + 1) * 2 * n_elements * WIDTH
        return _Room(
            np.empty((largest, 2 * n_elements + 1), dtype=np.int32),
            np.empty((5, n_lanes), dtype=self.kind),
            np.empty(n_lanes, dtype=np.int32),
            np.empty((n_pairs, 5)),
            np.empty((largest // WIDTH + n_elements + 1, n_sums(self.sizes), WIDTH), dtype=self.kind),
            np.empty(self.functions.n_features * (rounded(largest) + WIDTH), dtype=self.kind),
            np.empty(self.n_members * (self.functions.n_features + PANEL) * rounded(largest), dtype=self.kind),
        )


@dataclass(eq=False)
class _Sums:
    """What the blocks add to; everything but ``forces`` in float64.

    Attributes:
        energies: Energy of each member, eV, shape (member, structure).
        forces: Force of each member, eV/Å, shape (all atoms, member · 3 rounded up to whole lanes).
        virials: Stress times volume of each member, eV, shape (structure, member · 9); empty unless asked for.
        repulsion: Repulsion energy, eV, shape (structure,).
        push_forces: Repulsion forces, eV/Å, shape (all atoms, 3); empty while nothing repels.
        push_virials: The repulsion's share of the virials, eV, shape (structure, 9).
    """

    energies: npt.NDArray[np.float64]
    forces: Reals
    virials: npt.NDArray[np.float64]
    repulsion: npt.NDArray[np.float64]
    push_virials: npt.NDArray[np.float64]
    push_forces: npt.NDArray[np.float64]

    @classmethod
    def zero(cls, plan: _Plan, kind: npt.DTypeLike, n_virials: int) -> _Sums:
        n_members, n_structures = plan.baseline.shape
        return cls(
            plan.baseline.copy(),
            np.zeros((plan.numbers.size, rounded(3 * n_members)), dtype=kind),
            np.zeros((n_virials, 9 * n_members)),
            np.zeros(n_structures),
            np.zeros((n_structures, 9)),
            np.zeros((0, 3)),
        )

    def push(self) -> npt.NDArray[np.float64]:
        if len(self.push_forces) == 0:
            self.push_forces = np.zeros((len(self.forces), 3))
        return self.push_forces

    def stress(
        self, cells: npt.NDArray[np.float64], pbc: npt.NDArray[np.bool_], lost: npt.NDArray[np.bool_]
    ) -> torch.Tensor:
        n_structures = len(cells)
        n_members = len(self.energies)
        virials = self.virials.reshape(n_structures, n_members, 3, 3) + self.push_virials.reshape(-1, 1, 3, 3)
        virials = 0.5 * (virials + virials.swapaxes(-1, -2))
        virials[~pbc.any(axis=1)] = 0.0
        volumes = np.abs(np.linalg.det(np.where(lost[:, None, None], 0.0, cells)))
        volumes[~pbc.any(axis=1)] = np.inf
        volumes[lost] = np.nan
        return torch.from_numpy((virials / volumes[:, None, None, None]).swapaxes(0, 1).copy())


def _block(atoms: IntArray, species: ShortArray, n_elements: int) -> _Block:
    atoms = atoms[np.argsort(species[atoms], kind="stable")]
    runs = np.concatenate([[0], np.cumsum(np.bincount(species[atoms], minlength=n_elements))])
    return _Block(atoms.astype(np.int32), runs.astype(np.int32))


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
