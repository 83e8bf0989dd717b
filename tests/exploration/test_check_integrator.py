from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from alflow.exploration.integrators import DynamicsState, conserved_energy, start_dynamics, velocity_verlet_step
from alflow.exploration.walker import draw_velocities
from alflow.tensors import to_batch
from alflow.testing.integrators import check_integrator
from tests.exploration.analytic import WATER, Springs

SPRINGS = Springs([WATER], [20.0])


def start() -> DynamicsState:
    return start_dynamics(SPRINGS, to_batch([WATER]), torch.as_tensor(draw_velocities(WATER, 300.0, 0, 0, 0))[None])


def verlet(timestep: float, n_steps: int) -> np.ndarray:
    state = start()
    curve = [float(conserved_energy(state))]
    for _ in range(n_steps):
        state = velocity_verlet_step(SPRINGS, state, timestep)
        curve.append(float(conserved_energy(state)))
    return np.array(curve)


def euler(timestep: float, n_steps: int) -> np.ndarray:
    """The explicit Euler scheme, which gains energy."""
    state = start()
    curve = [float(conserved_energy(state))]
    for _ in range(n_steps):
        positions = state.positions + timestep * state.velocities
        moved = start_dynamics(SPRINGS, to_batch([WATER.with_positions(positions[0].numpy())]), state.velocities)
        state = replace(moved, velocities=state.velocities + timestep * state.accelerations)
        curve.append(float(conserved_energy(state)))
    return np.array(curve)


def test_velocity_verlet_passes() -> None:
    check_integrator(verlet, timestep=0.5, n_steps=200)


def test_an_integrator_of_lower_order_is_caught() -> None:
    with pytest.raises(AssertionError, match="expected at least 2"):
        check_integrator(euler, timestep=0.2, n_steps=100)


def test_a_drift_is_caught_whatever_its_order() -> None:
    def drifting(timestep: float, n_steps: int) -> np.ndarray:
        return 1.0 + timestep**2 * (np.linspace(0.0, 1.0, n_steps + 1) + 0.01 * np.sin(np.arange(n_steps + 1)))

    with pytest.raises(AssertionError, match="drifts"):
        check_integrator(drifting, timestep=0.5, n_steps=100)


def test_nan_and_missing_frames_are_caught() -> None:
    with pytest.raises(AssertionError, match="not finite"):
        check_integrator(lambda timestep, n: np.full(n + 1, np.nan), timestep=0.5, n_steps=10)
    with pytest.raises(AssertionError, match="Expected 11 values"):
        check_integrator(lambda timestep, n: np.zeros(n), timestep=0.5, n_steps=10)
