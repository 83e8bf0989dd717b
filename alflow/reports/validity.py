"""What the labels cover: where a potential trained on them interpolates, in words a person can check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from alflow.domain import Label, Level
from alflow.domain.elements import SYMBOLS

__all__ = ["PairRange", "Validity", "known_region"]

REACH_ANG: Final = 4.0
"""Pairs up to here are told; beyond, distances of a molecule say little."""

TOYS: Final = ("morse", "morse-molecule", "mueller-brown", "lennard-jones")
"""References that are formulas: a potential that learns from them says nothing about nature."""


@dataclass(frozen=True)
class PairRange:
    """Distances of one kind of pair, Å.

    Attributes:
        pair: Its elements, such as ``C–H``.
        shortest: Shortest of all.
        typical: Median of the nearest neighbor of that kind.
        nearest_longest: Largest distance of an atom to its nearest neighbor of that kind.
    """

    pair: str
    shortest: float
    typical: float
    nearest_longest: float


@dataclass(frozen=True)
class Validity:
    """What the labels learnt from cover.

    Attributes:
        compositions: Formula, with its number of labels.
        elements: Symbols.
        states: (charge, multiplicity) of the labels.
        periodic: Whether any repeats.
        pairs: Distances by kind of pair.
        energy_span: Largest energy per atom above the lowest of the same composition, eV.
        max_force: Largest force on any atom, eV/Å.
        levels: Levels of theory.
    """

    compositions: tuple[tuple[str, int], ...]
    elements: tuple[str, ...]
    states: tuple[tuple[int, int], ...]
    periodic: bool
    pairs: tuple[PairRange, ...]
    energy_span: float
    max_force: float
    levels: tuple[Level, ...]

    @property
    def toys(self) -> tuple[str, ...]:
        """Names of analytic models among the levels."""
        return tuple(sorted({level.engine for level in self.levels if level.engine in TOYS}))


def known_region(labels: Sequence[Label]) -> Validity | None:
    """Say what labels cover; None without labels."""
    if not labels:
        return None
    counts: dict[str, int] = {}
    energies: dict[str, list[float]] = {}
    for label in labels:
        formula = label.structure.formula
        counts[formula] = counts.get(formula, 0) + 1
        energies.setdefault(formula, []).append(label.evaluation.energy / len(label.structure))
    numbers = sorted({int(number) for label in labels for number in label.structure.numbers})
    return Validity(
        compositions=tuple(sorted(counts.items(), key=lambda item: -item[1])),
        elements=tuple(SYMBOLS[number] for number in numbers),
        states=tuple(sorted({(label.structure.charge, label.structure.multiplicity) for label in labels})),
        periodic=any(label.structure.is_periodic for label in labels),
        pairs=_pairs(labels),
        energy_span=max(max(values) - min(values) for values in energies.values()),
        max_force=max(label.evaluation.max_force for label in labels),
        levels=tuple(sorted({label.level for label in labels}, key=lambda level: level.id)),
    )


def _pairs(labels: Sequence[Label]) -> tuple[PairRange, ...]:
    """Nearest neighbors by kind of pair; crystals by their nearest images in a cell and its 26 neighbors."""
    nearest: dict[tuple[int, int], list[float]] = {}
    for label in labels[:: max(1, len(labels) // 1000)]:
        structure = label.structure
        distances = _distances(structure.positions, structure.cell, structure.pbc)
        for a in np.unique(structure.numbers):
            for b in np.unique(structure.numbers[structure.numbers >= a]):
                rows, columns = structure.numbers == a, structure.numbers == b
                close = distances[np.ix_(rows, columns)].min(axis=1)
                found = nearest.setdefault((int(a), int(b)), [])
                found.extend(float(value) for value in close if value < REACH_ANG)
    return tuple(
        PairRange(f"{SYMBOLS[b]}–{SYMBOLS[a]}", min(values), float(np.median(values)), max(values))
        for (a, b), values in sorted(nearest.items())
        if values
    )


def _distances(
    positions: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    cell: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    pbc: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Distance of every pair, to the nearest image; infinite from an atom to itself, Å, shape (atom, atom)."""
    steps = [(-1, 0, 1) if repeats else (0,) for repeats in pbc]
    best = np.full((len(positions), len(positions)), np.inf)
    for shift in np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3):
        apart = np.linalg.norm(positions[:, None] - positions[None] - shift @ cell, axis=-1)
        if not shift.any():
            np.fill_diagonal(apart, np.inf)
        best = np.minimum(best, apart)
    return best
