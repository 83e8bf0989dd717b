"""Committees with real weights, fitted in a second to an analytic surface."""

from __future__ import annotations

from functools import cache

import numpy as np

from alflow.domain import Evaluation, Label, Structure
from alflow.domain.learning_config import ModelConfig, TrainingConfig
from alflow.potentials import Committee
from alflow.reference.toy import LennardJones, MorseMolecule
from alflow.training import fit_committee

ETHANOL = Structure.of(
    "CCOHHHHHH",
    [
        [-0.748, 0.015, 0.024],
        [0.558, 0.420, -0.278],
        [1.262, -0.746, -0.660],
        [-1.290, 0.910, 0.320],
        [-1.240, -0.470, -0.830],
        [-0.720, -0.690, 0.850],
        [0.540, 1.150, -1.100],
        [1.060, 0.870, 0.600],
        [2.170, -0.480, -0.850],
    ],
)
WATER = Structure.of("OHH", [[0.0, 0.0, 0.0], [0.9572, 0.0, 0.0], [-0.2400, 0.9266, 0.0]])
SMALL = ModelConfig(components=32, hidden=(16, 16), radial_functions=8, angular_functions=3, angular_degree=2)
QUICK = TrainingConfig(epochs=20, min_steps=300)


def labels_of(reference: MorseMolecule | LennardJones, structures: list[Structure]) -> list[Label]:
    """Label structures; every one of them must succeed."""
    labels = []
    for structure in structures:
        outcome = reference.evaluate(structure)
        assert isinstance(outcome, Evaluation), outcome
        labels.append(Label(structure, reference.level, outcome))
    return labels


def rattled(structure: Structure, count: int, amplitude: float, seed: int) -> list[Structure]:
    """Copies of a structure with every coordinate moved at random, Å."""
    rng = np.random.default_rng(seed)
    return [
        structure.with_positions(structure.positions + amplitude * rng.normal(size=(len(structure), 3)))
        for _ in range(count)
    ]


def molecule_labels(count: int, seed: int = 0, molecule: Structure = ETHANOL, amplitude: float = 0.06) -> list[Label]:
    """Labels of rattled molecules on a Morse surface."""
    return labels_of(MorseMolecule.around(molecule), rattled(molecule, count, amplitude, seed))


def crystal(seed: int = 0, repeat: int = 2, amplitude: float = 0.15) -> Structure:
    """A rattled, sheared argon crystal whose cell (about 5 Å) is smaller than twice the cutoff."""
    rng = np.random.default_rng(seed)
    corners = np.array([[i, j, k] for i in range(repeat) for j in range(repeat) for k in range(repeat)], dtype=float)
    cell = 3.0 * repeat * (np.eye(3) + 0.05 * rng.normal(size=(3, 3)))
    fractional = corners / repeat
    return Structure.of(["Ar"] * len(corners), fractional @ cell + amplitude * rng.normal(size=(len(corners), 3)), cell)


def crystal_labels(count: int) -> list[Label]:
    """Labels of periodic crystals with stress."""
    reference = LennardJones(well_ev=0.1, sigma_ang=2.7, cutoff_ang=5.0)
    return labels_of(reference, [crystal(seed) for seed in range(count)])


@cache
def ethanol_committee() -> Committee:
    """Four members, float64, fitted to twelve rattled ethanols."""
    return fit_committee(molecule_labels(12), [], SMALL, QUICK, seed=1).committee


@cache
def argon_committee() -> Committee:
    """Four members, float64, fitted to ten argon crystals with stress."""
    return fit_committee(crystal_labels(10), [], SMALL, QUICK, seed=1).committee


@cache
def fitted_committee() -> Committee:
    """A small committee that has learnt water."""
    return fit_committee(molecule_labels(30, molecule=WATER, amplitude=0.05), [], SMALL, QUICK, seed=0).committee
