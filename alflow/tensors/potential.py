"""What a learned potential is, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from alflow.domain import Evaluation, Structure
from alflow.tensors.batch import Batch, to_batch
from alflow.tensors.spread import largest_deviations, largest_differences

__all__ = ["Potential", "PotentialSurface", "Prediction", "as_surface"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What every member of a committee says about every structure of a batch.

    A single potential is a committee of one.

    Attributes:
        energies: Potential energy, eV, shape (member, structure).
        forces: Forces, eV/Å, shape (member, structure, atom, 3); zero where there is no atom.
        stress: Cauchy stress, eV/Å³, shape (member, structure, 3, 3), positive under tension; None unless asked for.
    """

    energies: torch.Tensor
    forces: torch.Tensor
    stress: torch.Tensor | None = None

    @property
    def energy(self) -> torch.Tensor:
        """Mean energy over members, eV, shape (structure,)."""
        return self.energies.mean(dim=0)

    @property
    def mean_forces(self) -> torch.Tensor:
        """Mean forces over members, eV/Å, shape (structure, atom, 3)."""
        return self.forces.mean(dim=0)

    @property
    def _is_plain(self) -> bool:
        """Whether the compiled functions may read the forces."""
        return self.forces.device.type == "cpu" and not self.forces.requires_grad

    def atom_disagreement(self) -> torch.Tensor:
        """Largest force difference between any two members on each atom.

        dᵢ = maxₘₙ |Fₘᵢ − Fₙᵢ|, eV/Å, shape (structure, atom). Zero for a single member.
        """
        n_members = self.forces.shape[0]
        if self._is_plain:
            largest = torch.empty(self.forces.shape[1:3], dtype=self.forces.dtype)
            largest_differences(self.forces.contiguous().view(n_members, -1, 3).numpy(), largest.view(-1).numpy())
            return largest
        worst = torch.zeros(self.forces.shape[1:3], dtype=self.forces.dtype, device=self.forces.device)
        for m in range(1, n_members):
            difference = (self.forces[m] - self.forces[:m]).square().sum(dim=-1).amax(dim=0)
            worst = torch.maximum(worst, difference)
        return worst.sqrt()

    def disagreement(self) -> torch.Tensor:
        """Disagreement of each frame: the largest over its atoms, eV/Å, shape (structure,)."""
        return self.atom_disagreement().amax(dim=1)

    def force_std(self) -> torch.Tensor:
        """Standard deviation of the members' forces on the atom where it is largest.

        σ = maxᵢ √(Σₘ |Fₘᵢ − F̄ᵢ|² / (M − 1)), eV/Å, shape (structure,). Zero for a single member.
        """
        n_members = self.forces.shape[0]
        if self._is_plain:
            largest = torch.empty(self.forces.shape[1], dtype=self.forces.dtype)
            largest_deviations(self.forces.contiguous().numpy(), largest.numpy())
            return largest
        squares = (self.forces - self.mean_forces).square().sum(dim=(0, 3))
        return (squares / max(1, n_members - 1)).sqrt().amax(dim=1)


class Potential(Protocol):
    """A learned potential: a batch in, every member's answer out, in one pass."""

    @property
    def n_members(self) -> int:
        """Number of members; 1 for a single potential."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type it computes in; a batch in another type is cast by the potential itself."""
        ...

    def predict(self, batch: Batch, stress: bool = False) -> Prediction:
        """Energies and forces of every member for every structure; forces are the exact gradient.

        Args:
            batch: The structures, padded to the same number of atoms.
            stress: Whether to compute the stress as well.
        """
        ...


@dataclass(frozen=True)
class PotentialSurface:
    """A potential seen as a surface: one structure in, the members' mean out.

    Attributes:
        potential: The potential that is asked.
    """

    potential: Potential

    def evaluate(self, structure: Structure) -> Evaluation:
        """Evaluate one structure.

        Returns:
            Mean energy and forces over the members, the stress of a periodic structure, and as diagnostics
            ``disagreement_ev_ang`` (of the frame), ``energy_std_ev`` and ``forces_std_ev_ang`` (root mean square over
            members of the force on each atom, shape (atom, 3)); the last two divide by members − 1.
        """
        batch = to_batch([structure], self.potential.dtype)
        prediction = self.potential.predict(batch, stress=structure.is_periodic)
        forces = prediction.forces[:, 0].to(torch.float64)
        many = self.potential.n_members > 1
        spread = forces.std(dim=0) if many else torch.zeros_like(forces[0])
        diagnostics = {
            "disagreement_ev_ang": float(prediction.disagreement()[0]),
            "energy_std_ev": float(prediction.energies[:, 0].std()) if many else 0.0,
            "forces_std_ev_ang": spread.tolist(),
        }
        stress = None if prediction.stress is None else prediction.stress.mean(dim=0)[0].to(torch.float64).numpy()
        return Evaluation(float(prediction.energy[0]), forces.mean(dim=0).numpy(), stress, diagnostics)


def as_surface(potential: Potential) -> PotentialSurface:
    """Ask a learned potential like any other surface: numpy in, numpy out, one structure at a time."""
    return PotentialSurface(potential)
