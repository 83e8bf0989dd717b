"""How close the atoms of a structure come to each other; what watches it at every step is in ``monitors.py``."""

from __future__ import annotations

import numpy as np

from alflow.domain import Structure
from alflow.domain.elements import COVALENT_RADII_ANG

__all__ = ["contact_closeness"]


def contact_closeness(structure: Structure, contact_factor: float) -> float:
    """How close the closest contact is: (shortest allowed distance / distance)², largest over pairs.

    Periodic directions use the image that rounding the fractional difference gives, which is the nearest one for all
    distances below half the cell's smallest height: enough for contacts; ``squared_distances`` in
    ``monitors.py`` does the same for a batch.

    Args:
        structure: The structure.
        contact_factor: Shortest allowed distance as a multiple of the sum of two covalent radii; above 0.

    Returns:
        Closeness; above 1 is too close, infinite for two atoms on one point, 0 for a lone atom.

    Examples:
        >>> round(contact_closeness(Structure.of("HH", [[0, 0, 0], [0.744, 0, 0]]), 0.6), 6)
        0.25
    """
    first, second = np.triu_indices(len(structure), k=1)
    difference = structure.positions[first] - structure.positions[second]
    if structure.is_periodic:
        cell = structure.cell * structure.pbc[:, None]
        difference -= (difference @ np.linalg.pinv(cell)).round() @ cell
    radii = np.array(COVALENT_RADII_ANG)[structure.numbers]
    shortest2 = (contact_factor * (radii[first] + radii[second])) ** 2
    with np.errstate(divide="ignore"):
        return float((shortest2 / (difference**2).sum(axis=1)).max(initial=0.0))
