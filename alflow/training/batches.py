"""Labels as a torch data set: padded batches, read from a database while they are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from alflow.domain import Label
from alflow.errors import InputError
from alflow.tensors import Batch, to_batch

__all__ = ["LabelBatch", "LabelBatches"]


@dataclass(frozen=True, eq=False)
class LabelBatch:
    """Some labels side by side, padded to the largest structure.

    Attributes:
        structures: What was computed.
        energies: Energies as computed, eV, float64, shape (structure,).
        forces: Forces, eV/Å, shape (structure, atom, 3); zero where there is no atom.
    """

    structures: Batch
    energies: torch.Tensor
    forces: torch.Tensor


class LabelBatches(IterableDataset[LabelBatch]):
    """Batches of selected labels, in their order; memory does not grow with their number.

    For ``torch.utils.data.DataLoader`` with ``batch_size=None``, or a loop of your own. alflow's own trainer takes
    labels: ``fit_committee(list(store.select("split = train").labels()), …)``.

    Args:
        labels: Gives the labels anew for each epoch, such as ``store.select("split = train").labels``.
        size: Labels of a batch; the last may have fewer.
        dtype: Floating-point type of positions, cells and forces.

    Raises:
        InputError: A batch without labels is asked for; or a DataLoader has several workers, each of which would read
            all of the labels.

    Examples:
        >>> from alflow.domain import Evaluation, Level, Structure
        >>> atom = Structure.of("H", [[0.0, 0.0, 0.0]])
        >>> label = Label(atom, Level("toy", {}), Evaluation(-13.6, [[0.0, 0.0, 0.0]]))
        >>> [len(batch.energies) for batch in LabelBatches(lambda: iter([label] * 5), size=2)]
        [2, 2, 1]
    """

    def __init__(
        self, labels: Callable[[], Iterator[Label]], size: int = 32, dtype: torch.dtype = torch.float64
    ) -> None:
        if size < 1:
            raise InputError(f"A batch has at least one label; found size={size}.")
        self.labels = labels
        self.size = size
        self.dtype = dtype

    def __iter__(self) -> Iterator[LabelBatch]:
        """Read the labels anew, batch by batch."""
        if get_worker_info() is not None:
            raise InputError("Labels are read in the process that opened the database; use num_workers=0.")
        labels = self.labels()
        while some := list(islice(labels, self.size)):
            yield _batched(some, self.dtype)


def _batched(labels: Sequence[Label], dtype: torch.dtype) -> LabelBatch:
    structures = to_batch([label.structure for label in labels], dtype)
    forces = np.zeros(tuple(structures.positions.shape))
    for row, label in enumerate(labels):
        forces[row, : len(label.structure)] = label.evaluation.forces
    energies = torch.tensor([label.evaluation.energy for label in labels], dtype=torch.float64)
    return LabelBatch(structures, energies, torch.as_tensor(forces, dtype=dtype))
