"""Many structures as one padded tensor. One structure is a batch of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from alflow.domain import Structure

__all__ = ["Batch", "to_batch"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Structures side by side, padded to the largest.

    Attributes:
        numbers: Atomic numbers, 0 where there is no atom, int64, shape (structure, atom).
        positions: Cartesian positions, Å, shape (structure, atom, 3); zero where there is no atom.
        cells: Cell vectors as rows, Å, shape (structure, 3, 3); zeros for molecules.
        pbc: Periodic directions, bool, shape (structure, 3).
    """

    numbers: torch.Tensor
    positions: torch.Tensor
    cells: torch.Tensor
    pbc: torch.Tensor

    @property
    def mask(self) -> torch.Tensor:
        """True where there is an atom, shape (structure, atom)."""
        return self.numbers > 0

    @property
    def n_structures(self) -> int:
        """Number of structures."""
        return self.numbers.shape[0]

    @property
    def n_atoms(self) -> torch.Tensor:
        """Number of atoms of each structure, shape (structure,)."""
        return self.mask.sum(dim=1)

    @property
    def is_periodic(self) -> bool:
        """Whether any structure repeats in any direction."""
        return bool(self.pbc.any())

    def with_positions(self, positions: torch.Tensor) -> Batch:
        """The same atoms at other positions, Å, shape (structure, atom, 3)."""
        return replace(self, positions=positions)

    def select(self, index: torch.Tensor) -> Batch:
        """Some of the structures, by index or boolean mask over structures."""
        return Batch(self.numbers[index], self.positions[index], self.cells[index], self.pbc[index])

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Batch:
        """The same batch in another floating-point type or on another device."""
        return Batch(
            self.numbers.to(device=device),
            self.positions.to(device=device, dtype=dtype),
            self.cells.to(device=device, dtype=dtype),
            self.pbc.to(device=device),
        )


def to_batch(
    structures: Sequence[Structure], dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> Batch:
    """Stack structures into one padded batch.

    Args:
        structures: At least one structure.
        dtype: Floating-point type of positions and cells.
        device: Where the tensors live.

    Raises:
        ValueError: No structures.

    Examples:
        >>> water = Structure.of("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> batch = to_batch([water, Structure.of("H", [[0, 0, 0]])])
        >>> batch.numbers.tolist()
        [[8, 1, 1], [1, 0, 0]]
    """
    if not structures:
        raise ValueError("A batch needs at least one structure; found none.")
    size = max(len(s) for s in structures)
    numbers = np.zeros((len(structures), size), dtype=np.int64)
    positions = np.zeros((len(structures), size, 3))
    for row, structure in enumerate(structures):
        numbers[row, : len(structure)] = structure.numbers
        positions[row, : len(structure)] = structure.positions
    return Batch(
        torch.as_tensor(numbers, device=device),
        torch.as_tensor(positions, device=device, dtype=dtype),
        torch.as_tensor(np.stack([s.cell for s in structures]), device=device, dtype=dtype),
        torch.as_tensor(np.stack([s.pbc for s in structures]), device=device),
    )
