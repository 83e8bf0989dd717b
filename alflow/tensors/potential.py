"""What a learned potential is, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from alflow.tensors.batch import Batch

__all__ = ["Potential", "Prediction"]


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

    def atom_disagreement(self) -> torch.Tensor:
        """Largest force difference between any two members on each atom.

        dᵢ = maxₘₙ |Fₘᵢ − Fₙᵢ|, eV/Å, shape (structure, atom). Zero for a single member.
        """
        n_members = self.forces.shape[0]
        worst = torch.zeros(self.forces.shape[1:3], dtype=self.forces.dtype, device=self.forces.device)
        for m in range(1, n_members):
            difference = (self.forces[m] - self.forces[:m]).square().sum(dim=-1).amax(dim=0)
            worst = torch.maximum(worst, difference)
        return worst.sqrt()

    def disagreement(self) -> torch.Tensor:
        """Disagreement of each frame: the largest over its atoms, eV/Å, shape (structure,)."""
        return self.atom_disagreement().amax(dim=1)


class Potential(Protocol):
    """A learned potential: a batch in, every member's answer out, in one pass."""

    @property
    def n_members(self) -> int:
        """Number of members; 1 for a single potential."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type it computes in."""
        ...

    def predict(self, batch: Batch, stress: bool = False) -> Prediction:
        """Energies and forces of every member for every structure; forces are the exact gradient."""
        ...
