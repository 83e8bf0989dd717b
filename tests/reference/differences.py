"""Forces and stress from energies alone: five-point central differences, whose truncation error is of fourth order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from alflow.domain import Evaluation, Reference, Structure
from alflow.domain.structure import FloatArray

WEIGHTS = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))


def evaluation(reference: Reference, structure: Structure) -> Evaluation:
    found = reference.evaluate(structure)
    assert isinstance(found, Evaluation), found
    return found


def slope(energy: Callable[[float], float], step: float) -> float:
    return sum(weight * energy(place * step) for place, weight in WEIGHTS) / step


def numerical_forces(reference: Reference, structure: Structure, step: float) -> FloatArray:
    forces = np.zeros((len(structure), 3))
    for place in np.ndindex(len(structure), 3):

        def energy(shift: float, place: tuple[int, ...] = place) -> float:
            positions = np.array(structure.positions)
            positions[place] += shift
            return evaluation(reference, structure.with_positions(positions)).energy

        forces[place] = -slope(energy, step)
    return forces


def numerical_stress(reference: Reference, structure: Structure, strain: float) -> FloatArray:
    """∂E/∂ε over the volume, each of the nine components by itself."""
    stress = np.zeros((3, 3))
    for place in np.ndindex(3, 3):

        def energy(size: float, place: tuple[int, ...] = place) -> float:
            deformation = np.eye(3)
            deformation[place] += size
            return evaluation(reference, strained(structure, deformation)).energy

        stress[place] = slope(energy, strain)
    return stress / abs(float(np.linalg.det(structure.cell)))


def strained(structure: Structure, deformation: FloatArray) -> Structure:
    positions, cell = structure.positions @ deformation.T, structure.cell @ deformation.T
    return Structure.of(structure.numbers, positions, cell, [bool(p) for p in structure.pbc])
