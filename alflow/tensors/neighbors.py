"""Who is near whom: one padded neighbor table for molecules and for periodic cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from alflow.tensors.batch import Batch
from alflow.tensors.pairs import is_somewhere, near_pairs

__all__ = ["Neighbors", "find_neighbors", "lost_structures", "neighbor_vectors"]


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The neighbors of every atom, padded to the longest list.

    A batch of molecules lists every atom of the structure in order, itself included but masked out, so that slot and
    atom index coincide and no list has to be built.

    Attributes:
        index: Atom index of each neighbor inside its structure, int64, shape (structure, atom, neighbor).
        images: How many cell vectors away the neighbor is, shape (structure, atom, neighbor, 3); None for molecules.
        mask: True where there is a neighbor, shape (structure, atom, neighbor).
    """

    index: torch.Tensor
    images: torch.Tensor | None
    mask: torch.Tensor

    @property
    def is_dense(self) -> bool:
        """Whether slot j is atom j in every structure."""
        return self.images is None


def find_neighbors(batch: Batch, cutoff: float) -> Neighbors:
    """List all pairs of atoms closer than a cutoff, periodic images included.

    A cell may be smaller than the cutoff: an atom then has several images of one neighbor, and of itself, in its list.
    For molecules all pairs are listed whatever their distance; symmetry functions vanish beyond the cutoff anyway.

    Args:
        batch: The structures.
        cutoff: Largest distance, Å.
    """
    if batch.is_periodic:
        return _listed_pairs(batch, cutoff)
    return _all_pairs(batch)


def neighbor_vectors(batch: Batch, neighbors: Neighbors) -> torch.Tensor:
    """Vector from every atom to each of its neighbors, Å, shape (structure, atom, neighbor, 3).

    r_ij = r_j + n·cell − r_i. Where the mask is False the value has no meaning.
    """
    if neighbors.images is None:
        return batch.positions[:, None, :, :] - batch.positions[:, :, None, :]
    n_structures, n_atoms, n_slots = neighbors.index.shape
    flat = neighbors.index.reshape(n_structures, n_atoms * n_slots, 1).expand(-1, -1, 3)
    others = batch.positions.gather(1, flat).reshape(n_structures, n_atoms, n_slots, 3)
    offsets = torch.einsum("sajx,sxy->sajy", neighbors.images.to(batch.cells.dtype), batch.cells)
    return others + offsets - batch.positions[:, :, None, :]


def _all_pairs(batch: Batch) -> Neighbors:
    n_structures, n_atoms = batch.numbers.shape
    index = torch.arange(n_atoms, device=batch.numbers.device).expand(n_structures, n_atoms, n_atoms)
    itself = torch.eye(n_atoms, dtype=torch.bool, device=batch.numbers.device)
    return Neighbors(index, None, batch.mask[:, :, None] & batch.mask[:, None, :] & ~itself)


def _listed_pairs(batch: Batch, cutoff: float) -> Neighbors:
    n_structures, n_atoms = batch.numbers.shape
    numbers = batch.numbers.cpu().numpy()
    positions = batch.positions.detach().to("cpu", torch.float64).numpy()
    cells = batch.cells.detach().to("cpu", torch.float64).numpy()
    pbc = batch.pbc.cpu().numpy()
    lists = [near_pairs(numbers[s], positions[s], cells[s], pbc[s], cutoff) for s in range(n_structures)]
    n_slots = max(1, max(int(np.diff(rows.starts).max()) for rows in lists))
    index = np.zeros((n_structures, n_atoms, n_slots), dtype=np.int64)
    images = np.zeros((n_structures, n_atoms, n_slots, 3), dtype=np.int64)
    mask = np.zeros((n_structures, n_atoms, n_slots), dtype=bool)
    for s, rows in enumerate(lists):
        lengths = np.diff(rows.starts)
        first = np.repeat(np.arange(n_atoms), lengths)
        slot = np.arange(len(first)) - np.repeat(rows.starts[:-1], lengths)
        index[s, first, slot] = rows.other
        images[s, first, slot] = rows.images[rows.shift]
        mask[s, first, slot] = True
    device = batch.numbers.device
    return Neighbors(
        torch.as_tensor(index, device=device),
        torch.as_tensor(images, device=device),
        torch.as_tensor(mask, device=device),
    )


def lost_structures(batch: Batch) -> torch.Tensor:
    """True for structures with an atom that is nowhere: not at a finite position, or absurdly many cells away.

    Returns:
        Shape (structure,); these structures have no pairs, or none that mean anything.
    """
    positions = batch.positions.detach().to("cpu", torch.float64).numpy()
    cells = batch.cells.detach().to("cpu", torch.float64).numpy()
    pbc = batch.pbc.cpu().numpy()
    lost = [not is_somewhere(*structure) for structure in zip(positions, cells, pbc, strict=True)]
    return torch.tensor(lost, device=batch.numbers.device)
