"""How far the members of a committee are apart, compiled for tensors on the CPU."""

from __future__ import annotations

import numpy as np

from alflow.tensors.jit import compiled
from alflow.tensors.lanes import FloatArray

__all__ = ["largest_deviations", "largest_differences"]


@compiled
def largest_differences(forces: FloatArray, worst: FloatArray) -> None:
    """Write maxₘₙ |Fₘᵢ − Fₙᵢ| of each atom; NaN where any force is not a number.

    Args:
        forces: Forces, shape (member, atom, 3).
        worst: Receives the largest difference, shape (atom,).
    """
    n_members, n_atoms, _ = forces.shape
    for a in range(n_atoms):
        largest = forces.dtype.type(0.0)
        own = forces[0, a, 0] + forces[0, a, 1] + forces[0, a, 2]
        broken = own != own  # a single member is compared with none
        for m in range(1, n_members):
            for n in range(m):
                dx = forces[m, a, 0] - forces[n, a, 0]
                dy = forces[m, a, 1] - forces[n, a, 1]
                dz = forces[m, a, 2] - forces[n, a, 2]
                square = dx * dx + dy * dy + dz * dz
                broken = broken or square != square  # NaN is greater than nothing
                largest = max(largest, square)
        worst[a] = np.nan if broken else np.sqrt(largest)


@compiled
def largest_deviations(forces: FloatArray, worst: FloatArray) -> None:
    """Write maxᵢ √(Σₘ |Fₘᵢ − F̄ᵢ|² / (M − 1)) of each structure; NaN where any force is not a number.

    Args:
        forces: Forces, shape (member, structure, atom, 3).
        worst: Receives the largest standard deviation, shape (structure,).
    """
    n_members, n_structures, n_atoms, _ = forces.shape
    for s in range(n_structures):
        largest, broken = forces.dtype.type(0.0), False
        for a in range(n_atoms):
            square = forces.dtype.type(0.0)
            for axis in range(3):
                mean = forces.dtype.type(0.0)
                for m in range(n_members):
                    mean += forces[m, s, a, axis]
                mean /= forces.dtype.type(n_members)
                for m in range(n_members):
                    square += (forces[m, s, a, axis] - mean) ** 2
            broken = broken or square != square
            largest = max(largest, square)
        worst[s] = np.nan if broken else np.sqrt(largest / forces.dtype.type(max(1, n_members - 1)))
