"""The product that a training step spends most of its time on: every atom's gradients times its own derivatives.

Each atom's matrix of derivatives is read from memory once and used by a handful of members, which general matrix
products do slowly. The kernels below go through it row by row, at the speed of the memory. Training runs on the CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from alflow.tensors.jit import compiled
from alflow.tensors.lanes import WIDTH, lane_sum, load

__all__ = ["contract"]

Reals = npt.NDArray[np.floating[Any]]
Indices = npt.NDArray[np.int64]


def contract(gradients: torch.Tensor, slopes: torch.Tensor, extents: torch.Tensor) -> torch.Tensor:
    """Multiply each atom's gradients with its derivatives; differentiable in the gradients.

    Args:
        gradients: ∂E_m/∂x, shape (atom, member, component).
        slopes: ∂x/∂r, contiguous, shape (atom, component, coordinate), with zeros behind up to whole lanes of eight.
        extents: Number of coordinates of each atom, int64, shape (atom,); what follows is zero.

    Returns:
        ∂E_m/∂r, shape (atom, member, coordinate).

    Raises:
        ValueError: Slopes that are not padded to whole lanes.

    Examples:
        >>> g, s = torch.rand(2, 3, 4), torch.rand(2, 4, 8)
        >>> torch.allclose(contract(g, s, torch.tensor([8, 8])), torch.bmm(g, s))
        True
    """
    if slopes.shape[2] % WIDTH or not slopes.is_contiguous():
        raise ValueError(
            f"Slopes of shape {tuple(slopes.shape)} are not contiguous and padded to whole lanes of {WIDTH}."
        )
    result: torch.Tensor = _Contraction.apply(gradients, slopes, extents)  # type: ignore[no-untyped-call]
    return result


class _Contraction(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, gradients: torch.Tensor, slopes: torch.Tensor, extents: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(slopes, extents)
        result = gradients.new_empty((*gradients.shape[:2], slopes.shape[2]))
        _multiply(gradients.detach().contiguous().numpy(), slopes.numpy(), extents.numpy(), result.numpy())
        return result

    @staticmethod
    def backward(context: Any, cotangents: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        slopes, extents = context.saved_tensors
        n_atoms, n_members, n_coordinates = cotangents.shape
        result = cotangents.new_empty((n_atoms, n_members, slopes.shape[1]))
        _multiply_transposed(
            cotangents.reshape(-1, n_coordinates).contiguous().numpy(),
            slopes.view(-1, n_coordinates).numpy(),
            extents.numpy(),
            result.numpy(),
        )
        return result, None, None


@compiled
def _multiply(left: Reals, right: Reals, extents: Indices, result: Reals) -> None:
    n_atoms, n_members, n_components = left.shape
    for a in range(n_atoms):
        result[a] = 0.0
        for c in range(n_components):
            row = right[a, c]
            for m in range(n_members):
                factor = left[a, m, c]
                sums = result[a, m]
                for k in range(extents[a]):
                    sums[k] += factor * row[k]


@compiled
def _multiply_transposed(left: Reals, right: Reals, extents: Indices, result: Reals) -> None:
    n_atoms, n_members, n_components = result.shape
    for a in range(n_atoms):
        for c in range(n_components):
            row = a * n_components + c
            for m in range(n_members):
                total = load(left, a * n_members + m, 0) * load(right, row, 0)
                for k in range(WIDTH, extents[a], WIDTH):
                    total = total + load(left, a * n_members + m, k) * load(right, row, k)
                result[a, m, c] = lane_sum(total)
