"""How long a label will take: learnt from the labels before it.

t = a · nᵇ, where n is the size of the structure as its reference counts it (basis functions for PySCF, atoms for
everything else). The exponent starts from a measured one and follows the data once they span more than one size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from alflow.domain import Reference, Structure

__all__ = ["CostModel", "size_of"]

EXPONENT: Final = 2.3
"""Measured for hybrid functionals with density fitting between 24 and 200 basis functions."""

EXPONENT_SPREAD: Final = 0.5
SCATTER: Final = 0.4
"""Expected standard deviation of the logarithm of a time."""

FEWEST: Final = 5
"""Labels before a limit is taken from them."""

PATIENCE: Final = 30.0
"""A label may take this many times what is expected: the last rung of the ladder and a descent cost 10 to 20."""

SHORTEST_S: Final = 60.0
ROUNDS: Final = 8


def size_of(reference: Reference, structure: Structure) -> float:
    """Size of a structure in the unit its reference counts in; the number of atoms if it does not say, or cannot.

    Examples:
        >>> from alflow.reference import Morse
        >>> size_of(Morse(), Structure.of("HH", [[0, 0, 0], [0.8, 0, 0]]))
        2.0
    """
    count = getattr(reference, "size", None)
    try:
        size = float(len(structure) if count is None else count(structure))
    except Exception:  # a guess at the cost is worth no label, whatever is wrong with somebody's count
        size = math.nan
    return size if 0.0 < size < math.inf else float(len(structure))


@dataclass(frozen=True)
class CostModel:
    """Expected time of a label, t = exp(log_factor) · size^exponent.

    Attributes:
        log_factor: Natural logarithm of the time of a label of size one, s.
        exponent: Growth with the size.
        count: Labels it was learnt from.
    """

    log_factor: float
    exponent: float
    count: int

    @classmethod
    def of(cls, costs: Sequence[tuple[float, float]]) -> CostModel | None:
        """Learn from labels.

        The logarithms are fitted by least squares with a normal prior on the exponent; a label that took many times
        longer than its like (one that had to be rescued) weighs little.

        Args:
            costs: (size, time in s) of each label.

        Returns:
            The model; None without a single usable label.

        Examples:
            >>> model = CostModel.of([(24, 0.5), (48, 2.4)])
            >>> round(model.seconds(96), 1)
            11.8
        """
        usable = [(math.log(size), math.log(time)) for size, time in costs if size > 0 and time > 0]
        if not usable:
            return None
        sizes, times = np.array(usable).T
        weights = np.ones(len(usable))
        pull = (SCATTER / EXPONENT_SPREAD) ** 2
        for _ in range(ROUNDS):
            center, level = np.average(sizes, weights=weights), np.average(times, weights=weights)
            apart, above = sizes - center, times - level
            exponent = (weights @ (apart * above) + pull * EXPONENT) / (weights @ apart**2 + pull)
            off = (above - exponent * apart) / SCATTER
            weights = 1.0 / (1.0 + 0.25 * off**2)
        return cls(float(level - exponent * center), float(exponent), len(usable))

    def seconds(self, size: float) -> float:
        """Expected time of a label, s.

        Args:
            size: Size of the structure, from :func:`size_of`.
        """
        return math.exp(self.log_factor + self.exponent * math.log(max(size, 1.0)))

    def limit(self, size: float, most: float) -> float:
        """Time after which a label hangs, s: many times what is expected, and never more than the user allows.

        Args:
            size: Size of the structure.
            most: What the user allows, s.
        """
        if self.count < FEWEST:
            return most
        return min(most, max(SHORTEST_S, PATIENCE * self.seconds(size)))
