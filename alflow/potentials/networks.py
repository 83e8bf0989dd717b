"""The weights of a committee's networks laid out for :mod:`alflow.potentials.products`.

The numbers that come out are those of :func:`alflow.potentials.hdnnp.network_energies` to rounding.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from alflow.potentials.hdnnp import FoldedWeights
from alflow.potentials.kernels import Reals
from alflow.potentials.products import PANEL, pack
from alflow.tensors.lanes import rounded

__all__ = ["layered"]


def layered(weights: FoldedWeights) -> tuple[npt.NDArray[np.int64], Reals, Reals]:
    """Lay out the weights of all elements.

    Args:
        weights: The networks.

    Returns:
        Number of features and of units of each hidden layer; packed weights of each element, shape (element, row, 16);
        and its vectors, shape (element, number).
    """
    n_elements, n_features = weights.center.shape
    sizes = np.array([n_features, *(bias.shape[1] for bias in weights.bias[0])], dtype=np.int64)
    packed = np.stack([_packed(weights, e) for e in range(n_elements)])
    return sizes, packed, np.concatenate([_vectors(weights, e) for e in range(n_elements)])


def _packed(weights: FoldedWeights, e: int) -> Reals:
    """Weights of all layers of an element in the order of evaluation."""
    n_members = weights.output.shape[1]
    n_features = weights.first.shape[1]
    first = weights.first[e].reshape(n_features, n_members, -1)
    wide = np.zeros((n_features, n_members, rounded(first.shape[2], PANEL)), dtype=first.numpy().dtype)
    wide[:, :, : first.shape[2]] = first.numpy()
    layers = [pack(wide.reshape(1, n_features, -1))]
    layers += [pack(layer.numpy()) for layer in weights.hidden[e]]
    layers += [pack(layer.transpose(1, 2).numpy()) for layer in reversed(weights.hidden[e])]
    layers.append(pack(first.permute(1, 2, 0).numpy()))
    return np.concatenate(layers)


def _vectors(weights: FoldedWeights, e: int) -> Reals:
    """Biases, output and linear weights of an element, and zeros, in one row."""
    rows = [_side_by_side(part) for part in (*weights.bias[e], weights.output[e], weights.linear[e])]
    zeros = np.zeros((1, max(row.shape[1] for row in rows)), dtype=rows[0].dtype)
    return np.concatenate([*rows, zeros], axis=1)


def _side_by_side(weights: torch.Tensor) -> Reals:
    """All members' vectors in one row, each rounded up to whole panels."""
    row = np.zeros((len(weights), rounded(weights.shape[1], PANEL)), dtype=weights.numpy().dtype)
    row[:, : weights.shape[1]] = weights.numpy()
    return row.reshape(1, -1)
