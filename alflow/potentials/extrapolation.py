"""How far a structure lies outside of what the committee was trained on, descriptor by descriptor.

Training leaves behind the smallest and the largest value of every descriptor over all atoms of an element. An atom is
extrapolated when one of its descriptors x leaves that range,

    e = max_k max(low_k − x_k, x_k − high_k, 0) / w_k,        w_k = max(high_k − low_k, f · w̄),

so e is 0 inside, and 1 where a descriptor is as far outside as its range is wide. A range that is narrower than the
share f of the root mean square width w̄ of the element's descriptors counts as that wide: a direction the training
data hardly visit is no reason for alarm until it matters beside the others. Inside the range does not mean safe: the
box has corners no label is near. It is a cheap warning, complementary to disagreement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import torch

__all__ = ["DescriptorRange", "Extrapolation", "extrapolation"]

_NARROWEST: Final = 0.1
"""Share f of the typical width that the narrowest range is credited with."""


@dataclass(frozen=True, eq=False)
class DescriptorRange:
    """The smallest box around the descriptors of each element over the training set.

    Attributes:
        low: Smallest value of each descriptor, shape (element, descriptor); +∞ for an element without atoms.
        high: Largest value, shape (element, descriptor); −∞ for an element without atoms.
    """

    low: torch.Tensor
    high: torch.Tensor

    @classmethod
    def empty(cls, n_elements: int, n_descriptors: int, dtype: torch.dtype = torch.float64) -> DescriptorRange:
        """A box around nothing; widen it with :meth:`including`."""
        shape = (n_elements, n_descriptors)
        return cls(torch.full(shape, torch.inf, dtype=dtype), torch.full(shape, -torch.inf, dtype=dtype))

    def including(self, descriptors: torch.Tensor, species: torch.Tensor) -> DescriptorRange:
        """The box widened to hold more atoms.

        Args:
            descriptors: Shape (…, descriptor).
            species: Index of each atom's element, −1 where there is no atom, shape (…).

        Examples:
            >>> box = DescriptorRange.empty(1, 1).including(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]))
            >>> box.low.item(), box.high.item()
            (1.0, 3.0)
        """
        low, high = self.low.clone(), self.high.clone()
        for e in range(len(low)):
            values = descriptors[species == e].to(low.dtype)
            if len(values):
                low[e] = torch.minimum(low[e], values.amin(dim=0))
                high[e] = torch.maximum(high[e], values.amax(dim=0))
        return DescriptorRange(low, high)

    def to(self, dtype: torch.dtype) -> DescriptorRange:
        """The same box in another floating-point type."""
        return replace(self, low=self.low.to(dtype), high=self.high.to(dtype))

    @property
    def widths(self) -> torch.Tensor:
        """What excursions are measured in, shape (element, descriptor); zero for an element without spread."""
        width = (self.high - self.low).clamp(min=0.0)
        typical = width.square().mean(dim=1, keepdim=True).sqrt()
        return torch.maximum(width, _NARROWEST * typical)


@dataclass(frozen=True, eq=False)
class Extrapolation:
    """How far each atom of a batch lies outside of the training data.

    Attributes:
        atoms: Largest excursion of any descriptor in units of its range, 0 inside the range and where there is no
            atom; infinite where the training data have no spread at all; shape (structure, atom).
    """

    atoms: torch.Tensor

    @property
    def frames(self) -> torch.Tensor:
        """Largest excursion of each frame, shape (structure,)."""
        return self.atoms.amax(dim=-1)

    def beyond(self, tolerance: float) -> torch.Tensor:
        """Which frames extrapolate by more than a share of the range, bool, shape (structure,)."""
        return ~(self.frames <= tolerance)


def extrapolation(trained: DescriptorRange, descriptors: torch.Tensor, species: torch.Tensor) -> Extrapolation:
    """Measure how far the descriptors of every atom lie outside of the range of the training set.

    Args:
        trained: The range the committee keeps.
        descriptors: Shape (structure, atom, descriptor).
        species: Index of each atom's element, −1 where there is no atom, shape (structure, atom).

    Returns:
        Excursions. A descriptor that is not a number gives NaN, which is beyond every tolerance.

    Examples:
        >>> box = DescriptorRange(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 2.0]]))
        >>> atoms = torch.tensor([[[0.5, 1.0], [1.25, 3.0], [9.0, 9.0]]])
        >>> extrapolation(box, atoms, torch.tensor([[0, 0, -1]])).atoms
        tensor([[0.0000, 0.5000, 0.0000]])
    """
    real = species >= 0
    element = species.clamp(min=0)
    low, high = trained.low.to(descriptors.dtype), trained.high.to(descriptors.dtype)
    outside = torch.maximum(low[element] - descriptors, descriptors - high[element]).clamp(min=0.0)
    share = outside / trained.widths.to(descriptors.dtype)[element]
    # Zero over zero: no spread in training, and none now.
    share = torch.where(outside == 0.0, outside, share).amax(dim=-1)
    return Extrapolation(torch.where(real, share, torch.zeros_like(share)))
