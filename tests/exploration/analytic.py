"""Real potentials with closed forms, for the tests of exploration."""

from __future__ import annotations

import numpy as np
import torch

from alflow.domain import Structure
from alflow.exploration import SegmentSettings, Walker
from alflow.tensors import Batch, Prediction

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


class Springs:
    """A spring between every two atoms; members differ in the force constant, eV/Å², so they agree at rest only.

    E = ½ k Σ (rᵢⱼ − r⁰ᵢⱼ)² over pairs, with r⁰ from one geometry for each number of atoms.
    """

    def __init__(self, geometries: list[Structure], constants: list[float], dtype: torch.dtype = torch.float64) -> None:
        self.dtype = dtype
        self.constants = torch.tensor(constants, dtype=dtype)
        self.lengths = {len(g): torch.tensor(_distances(g.positions), dtype=dtype) for g in geometries}

    @property
    def n_members(self) -> int:
        return len(self.constants)

    def predict(self, batch: Batch, stress: bool = False) -> Prediction:
        batch = batch.to(dtype=self.dtype)
        width = batch.positions.shape[1]
        lengths = torch.zeros((batch.n_structures, width, width), dtype=self.dtype)
        for row, n in enumerate(batch.n_atoms.tolist()):
            lengths[row, :n, :n] = self.lengths[n]
        pairs = batch.mask[:, :, None] & batch.mask[:, None, :] & ~torch.eye(width, dtype=torch.bool)
        difference = batch.positions[:, :, None] - batch.positions[:, None]
        distance = torch.where(pairs, difference.square().sum(-1), 1.0).sqrt()
        stretch = torch.where(pairs, distance - lengths, 0.0)
        energy = 0.25 * stretch.square().sum((1, 2))
        forces = -((stretch / distance)[..., None] * difference).sum(2)
        return Prediction(self.constants[:, None] * energy, self.constants[:, None, None, None] * forces)


class Wells:
    """Every atom in its own isotropic harmonic well around the origin: E = ½ k Σ r²; an outer field."""

    dtype = torch.float64
    n_members = 1

    def __init__(self, constant: float) -> None:
        self.constant = constant

    def predict(self, batch: Batch, stress: bool = False) -> Prediction:
        forces = -self.constant * batch.positions
        energy = 0.5 * self.constant * batch.positions.square().sum((1, 2))
        return Prediction(energy[None], forces[None])


class LennardJones:
    """Argon-like atoms; σ in Å, ε in eV, truncated nowhere."""

    dtype = torch.float64
    n_members = 1

    def __init__(self, epsilon: float = 0.0104, sigma: float = 3.4) -> None:
        self.epsilon, self.sigma = epsilon, sigma

    def predict(self, batch: Batch, stress: bool = False) -> Prediction:
        positions = batch.positions.detach().requires_grad_(True)
        i, j = torch.triu_indices(positions.shape[1], positions.shape[1], 1)
        ratio6 = (self.sigma**2 / (positions[:, i] - positions[:, j]).square().sum(-1)) ** 3
        energy = (4.0 * self.epsilon * (ratio6.square() - ratio6)).sum(1)
        (gradient,) = torch.autograd.grad(energy.sum(), positions)
        return Prediction(energy.detach()[None], -gradient[None])


class Spoiled:
    """Another potential, with something put into its answers from a given call on."""

    def __init__(self, inner: Springs, from_call: int, spoil: str) -> None:
        self.inner, self.from_call, self.spoil, self.calls = inner, from_call, spoil, 0

    @property
    def n_members(self) -> int:
        return self.inner.n_members

    @property
    def dtype(self) -> torch.dtype:
        return self.inner.dtype

    def predict(self, batch: Batch, stress: bool = False) -> Prediction:
        answer = self.inner.predict(batch)
        self.calls += 1
        if self.calls <= self.from_call:
            return answer
        energies, forces = answer.energies.clone(), answer.forces.clone()
        if self.spoil == "nan_force":
            forces[0, 0, 0, 0] = float("nan")
        elif self.spoil == "inf_energy":
            energies[0, 0] = float("inf")
        elif self.spoil == "energy":
            energies[:, 0] += 100.0
        elif self.spoil == "kick":
            forces[:, 0, 0, 0] += 500.0
        return Prediction(energies, forces)


def walkers_on(structure: Structure, numbers: list[int], temperature: float = 300.0, seed: int = 0) -> list[Walker]:
    return [Walker.start(n, structure, temperature, seed) for n in numbers]


def settings(
    n_steps: int = 100, threshold: float = 1e3, temperature: float = 300.0, **others: object
) -> SegmentSettings:
    return SegmentSettings(n_steps, threshold, temperature, **({"seed": 0} | others))  # type: ignore[arg-type]


def _distances(positions: np.ndarray) -> np.ndarray:
    return np.linalg.norm(positions[:, None] - positions[None], axis=-1)
