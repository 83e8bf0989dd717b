"""How much the members of a committee disagree, in numpy: the definition that the tensors must reproduce."""

from __future__ import annotations

import numpy as np

from alflow.domain.structure import FloatArray

__all__ = ["force_disagreement", "frame_disagreement"]


def force_disagreement(forces: FloatArray) -> FloatArray:
    """Largest difference between any two members' forces on each atom.

    dᵢ = maxₘₙ |Fₘᵢ − Fₙᵢ|. Rotating the structure or reordering the members leaves it unchanged.

    Args:
        forces: Force on each atom according to each member, eV/Å, shape (member, atom, 3).

    Returns:
        Disagreement of each atom, eV/Å, shape (atom,).

    Raises:
        ValueError: Fewer than two members; one potential cannot disagree with itself.

    Examples:
        Two members that push one atom apart with 1 eV/Å each:

        >>> force_disagreement(np.array([[[1.0, 0.0, 0.0]], [[-1.0, 0.0, 0.0]]]))
        array([2.])
    """
    if forces.ndim != 3 or forces.shape[0] < 2 or forces.shape[2] != 3:
        raise ValueError(f"Forces of at least two members have shape (member, atom, 3); found {forces.shape}.")
    differences = forces[:, None] - forces[None, :]
    return np.asarray(np.linalg.norm(differences, axis=-1).max(axis=(0, 1)), dtype=np.float64)


def frame_disagreement(forces: FloatArray) -> float:
    """Disagreement of a frame: the largest over its atoms, eV/Å.

    Args:
        forces: Force on each atom according to each member, eV/Å, shape (member, atom, 3).

    Raises:
        ValueError: Fewer than two members.
    """
    return float(force_disagreement(forces).max())
