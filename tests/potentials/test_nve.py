"""Dynamics on a real committee conserves energy: its forces are the exact gradient, and it is smooth."""

from __future__ import annotations

import numpy as np
import torch

from alflow.exploration.integrators import conserved_energy, start_dynamics, velocity_verlet_step
from alflow.exploration.walker import draw_velocities
from alflow.tensors import to_batch

from .committees import WATER, fitted_committee


def worst_error(timestep: float, dtype: torch.dtype, time: float = 40.0) -> float:
    """Largest deviation of the conserved energy from its start over a stretch of dynamics at 300 K, eV."""
    committee = fitted_committee().to(dtype)
    velocities = torch.as_tensor(draw_velocities(WATER, 300.0, seed=1, walker=0, resets=0))[None]
    state = start_dynamics(committee, to_batch([WATER]), velocities)
    begin, worst = float(conserved_energy(state)[0]), 0.0
    for _ in range(round(time / timestep)):
        state = velocity_verlet_step(committee, state, timestep)
        worst = max(worst, abs(float(conserved_energy(state)[0]) - begin))
    return worst


def test_the_energy_error_of_a_committee_falls_as_the_square_of_the_time_step() -> None:
    steps = np.array([0.1, 0.2, 0.4])
    errors = np.array([worst_error(float(step), torch.float64) for step in steps])
    exponent = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    # the O-H stretch is anharmonic at 300 K, so the third order shows a little at 0.4 fs
    assert abs(exponent - 2.0) < 0.15


def test_single_precision_forces_add_less_than_the_time_step_does() -> None:
    """What a campaign runs with: float32 forces, float64 state, 0.5 fs."""
    single, double = (worst_error(0.5, dtype) for dtype in (torch.float32, torch.float64))
    assert abs(single - double) < 0.1 * double
