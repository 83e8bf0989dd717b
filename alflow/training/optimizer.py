"""The step of the optimizer: orthogonalised momentum for weight matrices, Adam for everything else.

The momentum of a matrix is replaced by the nearest orthogonal matrix, so that every direction of the layer moves by the
same amount and none waits for the largest gradient (Muon: K. Jordan et al., "Muon: an optimizer for hidden layers in
neural networks", 2024). For the small tanh networks of a committee it needs less than a quarter of Adam's steps for the
same force error; docs/decisions/0009-trained-committee.md has the measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

__all__ = ["Optimizer", "orthogonalized"]

_ITERATION: Final = (3.4445, -4.7750, 2.0315)
"""Coefficients of Jordan's quintic Newton-Schulz iteration, which brings singular values into about 0.7 … 1.2."""
_ITERATIONS: Final = 5
_MOMENTUM: Final = 0.95
_ADAM: Final = (0.9, 0.99)
"""Decay of Adam's running mean of gradients and of their squares."""
_ADAM_SHARE: Final = 0.5
"""Adam's learning rate relative to that of the matrices."""
_TINY: Final = 1e-12


def orthogonalized(matrices: torch.Tensor) -> torch.Tensor:
    """Replace each matrix U S Vᵀ of a stack by about U Vᵀ.

    Args:
        matrices: Shape (…, row, column). A matrix of zeros stays zero.

    Examples:
        >>> moved = orthogonalized(torch.diag(torch.tensor([3.0, 0.5])))
        >>> bool(((moved.diagonal() - 1.0).abs() < 0.35).all())
        True
    """
    x = matrices.flatten(0, -3) if matrices.dim() > 2 else matrices[None]
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + _TINY)
    # Every iterate is x times a polynomial in its Gram matrix on the shorter side, so only these are iterated.
    wide = x.shape[1] < x.shape[2]
    gram = torch.bmm(x, x.mT) if wide else torch.bmm(x.mT, x)
    linear, cubic, quintic = _ITERATION
    unit = linear * torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device)
    product = factor = torch.baddbmm(gram, gram, gram, beta=cubic, alpha=quintic) + unit
    for _ in range(_ITERATIONS - 1):
        gram = torch.bmm(torch.bmm(factor, factor), gram)
        factor = torch.baddbmm(gram, gram, gram, beta=cubic, alpha=quintic) + unit
        product = torch.bmm(factor, product)
    return (torch.bmm(product, x) if wide else torch.bmm(x, product)).reshape(matrices.shape)


class Optimizer:
    """Moves weights in place.

    Args:
        matrices: Stacks of weight matrices, shape (element, member, row, column).
        others: Everything else: biases, output weights.
    """

    def __init__(self, matrices: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> None:
        self._matrices = list(matrices)
        self._momenta = [torch.zeros_like(matrix) for matrix in matrices]
        self._others = list(others)
        self._means = [torch.zeros_like(tensor) for tensor in others]
        self._squares = [torch.zeros_like(tensor) for tensor in others]
        self._steps = 0

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Take one step along the gradients that the weights carry, and clear them.

        Args:
            learning_rate: Length of the step in the spectral norm of each matrix.
        """
        for matrix, momentum in zip(self._matrices, self._momenta, strict=True):
            if matrix.grad is not None:
                momentum.lerp_(matrix.grad, 1.0 - _MOMENTUM)
                ahead = torch.lerp(matrix.grad, momentum, _MOMENTUM)
                matrix.sub_(orthogonalized(ahead), alpha=learning_rate)
                matrix.grad = None
        self._adam_step(_ADAM_SHARE * learning_rate)

    def _adam_step(self, learning_rate: float) -> None:
        """One step of Adam (Kingma and Ba, ICLR 2015, algorithm 1).

        Written out: ``torch.optim`` takes three seconds to import, as long as a short training.
        """
        self._steps += 1
        gradients = [tensor.grad if tensor.grad is not None else torch.zeros_like(tensor) for tensor in self._others]
        torch._foreach_lerp_(self._means, gradients, 1.0 - _ADAM[0])
        torch._foreach_mul_(self._squares, _ADAM[1])
        torch._foreach_addcmul_(self._squares, gradients, gradients, 1.0 - _ADAM[1])
        width = torch._foreach_sqrt(self._squares)
        torch._foreach_div_(width, (1.0 - _ADAM[1] ** self._steps) ** 0.5)
        torch._foreach_add_(width, _TINY)
        torch._foreach_addcdiv_(self._others, self._means, width, -learning_rate / (1.0 - _ADAM[0] ** self._steps))
        for tensor in self._others:
            tensor.grad = None
