"""A committee evaluated by compiled kernels on one CPU core: pairs, symmetry functions, networks, forces.

Nothing here is computed by torch, whose calls alone would take longer than one molecule does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from alflow.potentials.blocks import collect, repel, respond_block
from alflow.potentials.describing import CompiledDescriptors, Plan, Scene
from alflow.potentials.descriptors import SymmetryFunctions
from alflow.potentials.hdnnp import FoldedWeights
from alflow.potentials.networks import layered
from alflow.potentials.repulsion import repulsion_terms
from alflow.tensors import Batch, Prediction
from alflow.tensors.lanes import rounded

__all__ = ["CompiledCommittee"]

Reals = npt.NDArray[np.floating[Any]]


class CompiledCommittee:
    """The weights of a committee laid out for the kernels."""

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
        self.networks = layered(weights)
        self.atomic_energies = atomic_energies.numpy()
        self.dtype = weights.center.dtype
        self.n_members = len(self.atomic_energies)
        self.terms = repulsion_terms(elements)
        center = weights.center.contiguous().numpy()
        self.descriptors = CompiledDescriptors(functions, elements, center, repulsion, self.n_members)

    def predict(self, batch: Batch, stress: bool) -> Prediction:
        """Evaluate every member on every structure.

        Args:
            batch: The structures, on the CPU, in any floating-point type.
            stress: Whether to evaluate the stress too.

        Raises:
            InputError: An element the committee was not trained on.
        """
        scene = self.descriptors.laid_out(batch)
        sums = self._evaluate(scene, stress)
        forces = torch.empty((self.n_members, *batch.positions.shape), dtype=self.dtype)
        lost, out = self.descriptors.desk.verlet.lost.copy(), forces.view(self.n_members, -1, 3).numpy()
        collect(
            scene.positions, scene.plan.numbers, lost, sums.forces, sums.push_forces, sums.repulsion, sums.energies, out
        )
        cells = batch.cells.detach().to(torch.float64).numpy()
        tensor = sums.stress(cells, batch.pbc.numpy(), lost).to(self.dtype) if stress else None
        return Prediction(torch.from_numpy(sums.energies), forces, tensor)

    def features(self, batch: Batch) -> torch.Tensor:
        """Symmetry functions less their mean over the training set, see :meth:`CompiledDescriptors.features`."""
        return self.descriptors.features(batch)

    def _evaluate(self, scene: Scene, stress: bool) -> _Sums:
        plan, room = scene.plan, scene.room
        baseline = self.atomic_energies @ plan.counts.T.astype(np.float64)
        sums = _Sums.zero(plan, baseline, self.descriptors.kind, len(plan.numbers) if stress else 0)
        for block in plan.blocks:
            features, n_contacts = self.descriptors.describe(scene, block)
            if n_contacts:
                repel(
                    room.contacts, n_contacts, plan.species, self.terms, plan.structure_of, sums.repulsion,
                    sums.push(), sums.push_virials,
                )  # fmt: skip
            respond_block(
                block.atoms, block.runs, self.descriptors.form, self.networks, room.bounds, room.geometry, room.ids,
                room.sums, features, room.gradients, plan.structure_of, sums.energies, sums.forces, sums.virials,
            )  # fmt: skip
        return sums


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
    def zero(cls, plan: Plan, baseline: npt.NDArray[np.float64], kind: npt.DTypeLike, n_virials: int) -> _Sums:
        n_members, n_structures = baseline.shape
        return cls(
            baseline,
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
