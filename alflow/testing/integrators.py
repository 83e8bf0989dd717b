"""What an integrator of the equations of motion must satisfy."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from alflow.domain.structure import FloatArray

__all__ = ["check_integrator"]


def check_integrator(
    conserved: Callable[[float, int], FloatArray], timestep: float, n_steps: int, order: float = 2.0
) -> None:
    """Check that an integrator at constant energy conserves what it claims to conserve.

    The same trajectory is run with Δt, Δt/2 and Δt/4. The conserved quantity must be finite, its root-mean-square
    deviation from the start must fall at least as Δt to the given order (0.3 is allowed for a finite Δt), and within
    the shortest step's run it must oscillate, not drift: the change along a fitted line stays below the oscillation.

    Args:
        conserved: Called with a time step, fs, and a number of steps; runs the integrator from one fixed start and
            gives the conserved quantity at every frame, the start included, eV, shape (n_steps + 1,).
        timestep: Largest time step, fs; about a tenth of the fastest period.
        n_steps: Steps at the largest time step; enough for several of the slowest periods.
        order: Power with which the deviation must fall.

    Raises:
        AssertionError: The first requirement that is not met, with the numbers.
    """
    deviations = []
    curve = np.zeros(0)
    for division in (1, 2, 4):
        steps = division * n_steps
        curve = np.asarray(conserved(timestep / division, steps), dtype=np.float64)
        assert curve.shape == (steps + 1,), f"Expected {steps + 1} values for {steps} steps; found {curve.shape}."
        assert np.isfinite(curve).all(), f"The conserved quantity is not finite with a time step of {timestep}."
        deviations.append(float(np.sqrt(np.mean((curve - curve[0]) ** 2))))
    orders = [float(np.log2(wide / narrow)) for wide, narrow in pairwise(deviations)]
    assert min(orders) > order - 0.3, (
        f"The conserved quantity deviates by {deviations} eV at {timestep} fs and its half and quarter: "
        f"orders of {orders}, expected at least {order}."
    )
    time = np.linspace(-1.0, 1.0, len(curve))
    slope, middle = np.polyfit(time, curve, 1)
    oscillation = float(np.ptp(curve - slope * time - middle))
    assert abs(2.0 * slope) < oscillation, (
        f"The conserved quantity drifts by {2.0 * slope:.3g} eV in the run, more than it oscillates "
        f"({oscillation:.3g} eV)."
    )
