from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from alflow.domain import Structure
from alflow.exploration.integrators import (
    DynamicsState,
    conserved_energy,
    kinetic_energy,
    langevin_step,
    start_dynamics,
    velocity_verlet_step,
)
from alflow.exploration.walker import draw_velocities
from alflow.tensors import Potential, to_batch
from alflow.units import BOLTZMANN_EV_K, EV_PER_U_ANG2_FS2
from tests.exploration.analytic import ETHANOL, WATER, LennardJones, Springs, Wells


def ethanols(potential: Potential, count: int, temperature: float) -> DynamicsState:
    velocities = np.stack([draw_velocities(ETHANOL, temperature, 0, number, 0) for number in range(count)])
    return start_dynamics(potential, to_batch([ETHANOL] * count), torch.as_tensor(velocities))


def test_energy_error_of_velocity_verlet_falls_as_the_square_of_the_time_step() -> None:
    springs = Springs([ETHANOL], [20.0])
    timesteps, errors = [0.05, 0.1, 0.2, 0.4], []
    for timestep in timesteps:
        state = ethanols(springs, 4, 300.0)
        start, energies = conserved_energy(state), []
        for _ in range(round(40.0 / timestep)):
            state = velocity_verlet_step(springs, state, timestep)
            energies.append(conserved_energy(state) - start)
        errors.append(float(torch.stack(energies).square().mean().sqrt()))
    exponent = np.polyfit(np.log(timesteps), np.log(errors), 1)[0]
    # The order is 2 exactly as Δt → 0; the next order begins to show at 0.4 fs.
    assert exponent == pytest.approx(2.0, abs=0.05)


def test_velocity_verlet_does_not_drift_in_a_long_run() -> None:
    argon = Structure.of(["Ar"] * 4, [[0, 0, 0], [3.8, 0, 0], [1.9, 3.3, 0], [1.9, 1.1, 3.1]])
    potential = LennardJones()
    velocities = torch.as_tensor(draw_velocities(argon, 20.0, 0, 0, 0))[None]
    state = start_dynamics(potential, to_batch([argon]), velocities)
    start, energies = float(conserved_energy(state)), []
    for _ in range(4000):
        state = velocity_verlet_step(potential, state, 4.0)
        energies.append(float(conserved_energy(state)) - start)
    # The oscillation of the shadow energy at this step is 1e-5 eV; a drift would grow beyond it.
    assert abs(np.mean(energies[-500:]) - np.mean(energies[:500])) < 1e-5


def test_velocity_verlet_runs_back_to_where_it_came_from() -> None:
    springs = Springs([ETHANOL], [20.0])
    first = ethanols(springs, 2, 300.0)
    state = first
    for _ in range(200):
        state = velocity_verlet_step(springs, state, 0.5)
    assert float((state.positions - first.positions).abs().max()) > 0.05
    for _ in range(200):
        state = velocity_verlet_step(springs, state, -0.5)
    # Only rounding is left: 400 steps of 1e-16, amplified by the motion's instability.
    assert float((state.positions - first.positions).abs().max()) < 1e-10
    assert float((state.velocities - first.velocities).abs().max()) < 1e-10


def test_baoab_gives_the_exact_positions_and_temperature_of_a_harmonic_well() -> None:
    constant, temperature, n_walkers = 5.0, 300.0, 400
    well = Wells(constant)
    hydrogen = Structure.of("H", [[0.0, 0.0, 0.0]])
    batch = to_batch([hydrogen] * n_walkers)
    state = start_dynamics(well, batch, torch.zeros((n_walkers, 1, 3), dtype=torch.float64), remove_drift=False)
    # ωΔt = 0.9: a scheme with an error of second order would miss the variance by tens of per cent here.
    omega = math.sqrt(constant / (1.008 * EV_PER_U_ANG2_FS2))
    timestep = 0.9 / omega
    noise = torch.as_tensor(np.random.default_rng(3).standard_normal((1500, n_walkers, 1, 3)))
    squares, temperatures = [], []
    for step in range(1500):
        state = langevin_step(well, state, noise[step], timestep, temperature, 0.5 * omega)
        if step >= 100:
            squares.append(state.positions.square().mean())
            temperatures.append(2.0 * kinetic_energy(state) / (3 * BOLTZMANN_EV_K))
    # 400 walkers × 3 coordinates × about 400 independent times: 0.2 % on a variance; four times that.
    assert float(torch.stack(squares).mean()) == pytest.approx(BOLTZMANN_EV_K * temperature / constant, rel=0.008)
    kinetic = torch.stack(temperatures)
    # BAOAB's kinetic temperature at the end of a step is T (1 − (ωΔt)²/4) in a harmonic well.
    expected = temperature * (1.0 - 0.81 / 4.0)
    assert float(kinetic.mean()) == pytest.approx(expected, rel=0.008)
    assert float(kinetic.var()) == pytest.approx(2.0 * expected**2 / 3.0, rel=0.03)


def test_langevin_gives_a_molecule_its_temperature_and_its_fluctuations() -> None:
    springs, temperature, n_walkers = Springs([WATER], [20.0]), 300.0, 300
    velocities = np.stack([draw_velocities(WATER, temperature, 0, n, 0) for n in range(n_walkers)])
    state = start_dynamics(springs, to_batch([WATER] * n_walkers), torch.as_tensor(velocities))
    noise = torch.as_tensor(np.random.default_rng(4).standard_normal((1500, n_walkers, 3, 3)))
    temperatures, momenta = [], []
    for step in range(1500):
        state = langevin_step(springs, state, noise[step], 0.5, temperature, 0.05)
        if step >= 300 and step % 10 == 0:
            temperatures.append(2.0 * kinetic_energy(state) / (6 * BOLTZMANN_EV_K))
            momenta.append(float((state.masses * state.velocities).sum(1).abs().max()))
    kinetic = torch.stack(temperatures)
    # 300 walkers × about 30 independent times, √(2/6) each: 0.6 % on the mean; the time step takes less than 1 %.
    assert float(kinetic.mean()) == pytest.approx(temperature, rel=0.025)
    assert float(kinetic.var()) == pytest.approx(2.0 * temperature**2 / 6.0, rel=0.1)
    assert max(momenta) < 1e-12
    # The molecule may rotate but not wander.
    assert float((state.masses * state.positions).sum(1).div(18.015).sub(
        torch.as_tensor(WATER.masses @ WATER.positions / WATER.masses.sum())
    ).abs().max()) < 1e-10  # fmt: skip


def test_a_molecule_with_its_rotation_under_langevin_neither_freezes_nor_spins_up() -> None:
    springs, temperature, n_walkers = Springs([WATER], [20.0]), 300.0, 200
    state = start_dynamics(springs, to_batch([WATER] * n_walkers), torch.zeros((n_walkers, 3, 3), dtype=torch.float64))
    noise = torch.as_tensor(np.random.default_rng(5).standard_normal((2000, n_walkers, 3, 3)))
    rotational = []
    for step in range(2000):
        state = langevin_step(springs, state, noise[step], 0.5, temperature, 0.05)
        if step >= 800 and step % 20 == 0:
            rotational.append(_rotational_energy(state).mean())
    # Three axes of k_B T / 2; 200 walkers × about 30 independent times, √(2/3) each: 1 % on the mean.
    expected = 1.5 * BOLTZMANN_EV_K * temperature
    assert float(torch.stack(rotational).mean()) == pytest.approx(expected, rel=0.05)


def _rotational_energy(state: DynamicsState) -> torch.Tensor:
    """½ L·I⁻¹·L about the centre of mass, eV."""
    centre = (state.masses * state.positions).sum(1, keepdim=True) / state.masses.sum(1, keepdim=True)
    r = state.positions - centre
    momentum = (state.masses * torch.linalg.cross(r, state.velocities)).sum(1)
    identity = torch.eye(3, dtype=torch.float64)
    inertia = (
        state.masses[..., None] * (r.square().sum(-1)[..., None, None] * identity - r[..., None] * r[..., None, :])
    ).sum(1)
    omega = torch.linalg.solve(inertia, momentum)
    return 0.5 * EV_PER_U_ANG2_FS2 * (momentum * omega).sum(-1)


def test_energy_minus_heat_is_conserved_under_langevin_to_the_second_order() -> None:
    springs = Springs([ETHANOL], [20.0])
    drifts = []
    for timestep in (0.25, 0.5):
        state = ethanols(springs, 30, 300.0)
        noise = torch.as_tensor(np.random.default_rng(6).standard_normal((800, 30, 9, 3)))
        start, worst = conserved_energy(state), []
        for step in range(round(100.0 / timestep)):
            state = langevin_step(springs, state, noise[step], timestep, 300.0, 0.02)
            worst.append((conserved_energy(state) - start).square().mean())
        drifts.append(math.sqrt(float(torch.stack(worst).mean())))
        # The total energy itself wanders by about k_B T √24: the heat must account for it.
        wander = float((state.energies + kinetic_energy(state) - start).square().mean().sqrt())
        assert drifts[-1] < 0.2 * wander
    # Different noise paths, so only roughly a factor of four.
    assert drifts[0] < 0.5 * drifts[1]


def test_the_state_is_double_precision_whatever_the_potential_computes_in() -> None:
    springs = Springs([WATER], [20.0], dtype=torch.float32)
    state = start_dynamics(springs, to_batch([WATER]), torch.zeros((1, 3, 3), dtype=torch.float64))
    for _ in range(5):
        state = velocity_verlet_step(springs, state, 0.5)
    floats = (state.positions, state.velocities, state.accelerations, state.energies)
    assert {t.dtype for t in floats} == {torch.float64}
    assert state.prediction.forces.dtype == torch.float32
    with pytest.raises(ValueError, match="float64"):
        start_dynamics(springs, to_batch([WATER], torch.float32), torch.zeros((1, 3, 3)))
    with pytest.raises(ValueError, match="shape"):
        start_dynamics(springs, to_batch([WATER]), torch.zeros((1, 2, 3), dtype=torch.float64))


def test_padding_does_not_change_a_trajectory() -> None:
    springs = Springs([WATER, ETHANOL], [20.0])
    velocities = np.zeros((2, 9, 3))
    velocities[0, :3] = draw_velocities(WATER, 300.0, 0, 0, 0)
    velocities[1] = draw_velocities(ETHANOL, 300.0, 0, 1, 0)
    both = start_dynamics(springs, to_batch([WATER, ETHANOL]), torch.as_tensor(velocities))
    alone = start_dynamics(springs, to_batch([WATER]), torch.as_tensor(velocities[:1, :3]))
    noise = torch.as_tensor(np.random.default_rng(1).standard_normal((100, 2, 9, 3)))
    for step in range(100):
        both = langevin_step(springs, both, noise[step], 0.5, 300.0, 0.02)
        alone = langevin_step(springs, alone, noise[step, :1, :3], 0.5, 300.0, 0.02)
    # Sums over padded atoms round differently: 1e-16 per step, amplified over a hundred of them.
    assert float((both.positions[0, :3] - alone.positions[0]).abs().max()) < 1e-11
    assert float(both.positions[0, 3:].abs().max()) == 0.0


@pytest.mark.parametrize(("omega_timestep", "stable"), [(1.98, True), (2.02, False)])
def test_velocity_verlet_is_stable_up_to_twice_the_inverse_frequency(omega_timestep: float, stable: bool) -> None:
    constant = 5.0
    omega = math.sqrt(constant / (1.008 * EV_PER_U_ANG2_FS2))
    well, hydrogen = Wells(constant), Structure.of("H", [[0.1, 0.0, 0.0]])
    state = start_dynamics(well, to_batch([hydrogen]), torch.zeros((1, 1, 3), dtype=torch.float64), remove_drift=False)
    largest = 0.0
    for _ in range(300):
        state = velocity_verlet_step(well, state, omega_timestep / omega)
        largest = max(largest, float(state.positions.abs().max()))
    # Just below the limit the orbit is stretched by 1/√(1 − (ωΔt/2)²), about 7; above it grows exponentially.
    assert (largest < 1.0) is stable
    assert stable or largest > 1e3
